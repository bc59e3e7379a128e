//! Topics as brokers configure them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version of a table; tables with equal versions are equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct DataVersion {
    /// How often it changed.
    pub counter: i64,
    /// `stateVersion`
    pub state_version: i64,
    /// When it last changed, in ms.
    pub timestamp: i64,
}

/// How many tags a message of a topic may have.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub enum TopicFilterType {
    /// One.
    #[default]
    #[serde(rename = "SINGLE_TAG")]
    SingleTag,
    /// Several.
    #[serde(rename = "MULTI_TAG")]
    MultiTag,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicConfig {
    /// `attributes`
    pub attributes: BTreeMap<String, String>,
    /// Whether order across queues was promised.
    pub order: bool,
    /// See `perm`.
    pub perm: i32,
    /// `readQueueNums`
    pub read_queue_nums: i32,
    /// `topicFilterType`
    pub topic_filter_type: TopicFilterType,
    /// `topicName`
    pub topic_name: String,
    /// See `sysflag`.
    pub topic_sys_flag: i32,
    /// `writeQueueNums`
    pub write_queue_nums: i32,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            attributes: Default::default(),
            order: Default::default(),
            perm: 6,
            read_queue_nums: 16,
            topic_filter_type: Default::default(),
            topic_name: Default::default(),
            topic_sys_flag: Default::default(),
            write_queue_nums: 16,
        }
    }
}

/// All topics of a broker, as `topics.json` and slaves hold them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicConfigSerializeWrapper {
    /// `dataVersion`
    pub data_version: DataVersion,
    /// `topicConfigTable`
    pub topic_config_table: BTreeMap<String, TopicConfig>,
}

/// All topics of a broker with the mappings of static topics, as registrations carry them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicConfigAndMappingSerializeWrapper {
    /// `dataVersion`
    pub data_version: DataVersion,
    /// `mappingDataVersion`
    pub mapping_data_version: DataVersion,
    /// `topicConfigTable`
    pub topic_config_table: BTreeMap<String, TopicConfig>,
    /// `topicQueueMappingDetailMap`
    pub topic_queue_mapping_detail_map: BTreeMap<String, TopicQueueMappingDetail>,
    /// `topicQueueMappingInfoMap`
    pub topic_queue_mapping_info_map: BTreeMap<String, TopicQueueMappingInfo>,
}

/// Topics to create in one request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct CreateTopicListRequestBody {
    /// `topicConfigList`
    pub topic_config_list: Vec<TopicConfig>,
}

/// A stretch of a static topic's queue on one broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogicQueueMappingItem {
    /// `bname`
    #[serde(rename = "bname")]
    pub broker_name: String,
    /// `endOffset`
    pub end_offset: i64,
    /// `gen`
    #[serde(rename = "gen")]
    pub generation: i32,
    /// `logicOffset`
    pub logic_offset: i64,
    /// `queueId`
    pub queue_id: i32,
    /// `startOffset`
    pub start_offset: i64,
    /// `timeOfEnd`
    pub time_of_end: i64,
    /// `timeOfStart`
    pub time_of_start: i64,
}

impl Default for LogicQueueMappingItem {
    fn default() -> Self {
        Self {
            broker_name: Default::default(),
            end_offset: -1,
            generation: Default::default(),
            logic_offset: Default::default(),
            queue_id: Default::default(),
            start_offset: Default::default(),
            time_of_end: -1,
            time_of_start: -1,
        }
    }
}

/// Which queues of a static topic a broker holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicQueueMappingInfo {
    /// `bname`
    #[serde(rename = "bname")]
    pub broker_name: String,
    /// Physical queue by global queue.
    pub curr_id_map: BTreeMap<i32, i32>,
    /// `dirty`
    pub dirty: bool,
    /// `epoch`
    pub epoch: i64,
    /// `scope`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// `topic`
    pub topic: String,
    /// `totalQueues`
    pub total_queues: i32,
}

/// The same with the history of each queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicQueueMappingDetail {
    /// `bname`
    #[serde(rename = "bname")]
    pub broker_name: String,
    /// `currIdMap`
    pub curr_id_map: BTreeMap<i32, i32>,
    /// `dirty`
    pub dirty: bool,
    /// `epoch`
    pub epoch: i64,
    /// `hostedQueues`
    pub hosted_queues: BTreeMap<i32, Vec<LogicQueueMappingItem>>,
    /// `scope`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// `topic`
    pub topic: String,
    /// `totalQueues`
    pub total_queues: i32,
}

/// The answer to GET_TOPIC_CONFIG.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicConfigAndQueueMapping {
    /// `attributes`
    pub attributes: BTreeMap<String, String>,
    /// `mappingDetail`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mapping_detail: Option<TopicQueueMappingDetail>,
    /// `order`
    pub order: bool,
    /// `perm`
    pub perm: i32,
    /// `readQueueNums`
    pub read_queue_nums: i32,
    /// `topicFilterType`
    pub topic_filter_type: TopicFilterType,
    /// `topicName`
    pub topic_name: String,
    /// `topicSysFlag`
    pub topic_sys_flag: i32,
    /// `writeQueueNums`
    pub write_queue_nums: i32,
}

impl Default for TopicConfigAndQueueMapping {
    fn default() -> Self {
        Self {
            attributes: Default::default(),
            mapping_detail: Default::default(),
            order: Default::default(),
            perm: 6,
            read_queue_nums: 16,
            topic_filter_type: Default::default(),
            topic_name: Default::default(),
            topic_sys_flag: Default::default(),
            write_queue_nums: 16,
        }
    }
}

/// The mappings of static topics, as slaves fetch them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicQueueMappingSerializeWrapper {
    /// `dataVersion`
    pub data_version: DataVersion,
    /// `topicQueueMappingInfoMap`
    pub topic_queue_mapping_info_map: BTreeMap<String, TopicQueueMappingDetail>,
}
