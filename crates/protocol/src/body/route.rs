//! Routes: which brokers serve a topic, and who belongs to a cluster.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::TopicQueueMappingInfo;

/// The queues of a topic on one broker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueData {
    /// `brokerName`
    pub broker_name: String,
    /// See `perm`.
    pub perm: i32,
    /// How many queues consumers read.
    pub read_queue_nums: i32,
    /// See `sysflag`.
    pub topic_sys_flag: i32,
    /// How many queues producers write.
    pub write_queue_nums: i32,
}

/// The addresses of one broker and its replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerData {
    /// Address by broker id; 0 is the master.
    pub broker_addrs: BTreeMap<i64, String>,
    /// `brokerName`
    pub broker_name: String,
    /// `cluster`
    pub cluster: String,
    /// `enableActingMaster`
    pub enable_acting_master: bool,
    /// `zoneName`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone_name: Option<String>,
}

/// The answer to GET_ROUTEINFO_BY_TOPIC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicRouteData {
    /// `brokerDatas`
    pub broker_datas: Vec<BrokerData>,
    /// `filterServerTable`
    pub filter_server_table: BTreeMap<String, Vec<String>>,
    /// `broker:queues;…` of an ordered topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_topic_conf: Option<String>,
    /// `queueDatas`
    pub queue_datas: Vec<QueueData>,
    /// `topicQueueMappingByBroker`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_queue_mapping_by_broker: Option<BTreeMap<String, TopicQueueMappingInfo>>,
}

/// The answer to GET_BROKER_CLUSTER_INFO.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterInfo {
    /// Brokers by name.
    pub broker_addr_table: BTreeMap<String, BrokerData>,
    /// Broker names by cluster.
    pub cluster_addr_table: BTreeMap<String, BTreeSet<String>>,
}

/// A list of topics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicList {
    /// `brokerAddr`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_addr: Option<String>,
    /// `topicList`
    pub topic_list: BTreeSet<String>,
}

/// Keys and values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct KvTable {
    /// `table`
    pub table: BTreeMap<String, String>,
}

/// A broker and its replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerMemberGroup {
    /// Address by broker id.
    pub broker_addrs: BTreeMap<i64, String>,
    /// `brokerName`
    pub broker_name: String,
    /// `cluster`
    pub cluster: String,
}

/// The answer to GET_BROKER_MEMBER_GROUP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct GetBrokerMemberGroupResponseBody {
    /// `brokerMemberGroup`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_member_group: Option<BrokerMemberGroup>,
}
