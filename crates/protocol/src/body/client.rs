//! Who is connected, and what a client says of its inside.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    ConsumeFromWhere, ConsumeType, MessageModel, MessageQueue, QueueTable, SubscriptionData,
};
use crate::language::Language;

/// One connected client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Connection {
    /// `clientAddr`
    pub client_addr: String,
    /// `clientId`
    pub client_id: String,
    /// `language`
    pub language: Language,
    /// `version`
    pub version: i32,
}

/// The members of a consumer group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerConnection {
    /// `connectionSet`
    pub connection_set: Vec<Connection>,
    /// `consumeFromWhere`
    pub consume_from_where: ConsumeFromWhere,
    /// `consumeType`
    pub consume_type: ConsumeType,
    /// `messageModel`
    pub message_model: MessageModel,
    /// By topic.
    pub subscription_table: BTreeMap<String, SubscriptionData>,
}

/// The members of a producer group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ProducerConnection {
    /// `connectionSet`
    pub connection_set: Vec<Connection>,
}

/// One connected producer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ProducerInfo {
    /// `clientId`
    pub client_id: String,
    /// `language`
    pub language: Language,
    /// `lastUpdateTimestamp`
    pub last_update_timestamp: i64,
    /// `remoteIP`
    #[serde(rename = "remoteIP")]
    pub remote_ip: String,
    /// `version`
    pub version: i32,
}

/// All connected producers, by group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ProducerTableInfo {
    /// `data`
    pub data: BTreeMap<String, Vec<ProducerInfo>>,
}

/// The client ids of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct GetConsumerListByGroupResponseBody {
    /// `consumerIdList`
    pub consumer_id_list: Vec<String>,
}

/// What a consumer holds of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ProcessQueueInfo {
    /// `cachedMsgCount`
    pub cached_msg_count: i32,
    /// `cachedMsgMaxOffset`
    pub cached_msg_max_offset: i64,
    /// `cachedMsgMinOffset`
    pub cached_msg_min_offset: i64,
    /// `cachedMsgSizeInMiB`
    pub cached_msg_size_in_mi_b: i32,
    /// `commitOffset`
    pub commit_offset: i64,
    /// `droped`
    pub droped: bool,
    /// `lastConsumeTimestamp`
    pub last_consume_timestamp: i64,
    /// `lastLockTimestamp`
    pub last_lock_timestamp: i64,
    /// `lastPullTimestamp`
    pub last_pull_timestamp: i64,
    /// `locked`
    pub locked: bool,
    /// `transactionMsgCount`
    pub transaction_msg_count: i32,
    /// `transactionMsgMaxOffset`
    pub transaction_msg_max_offset: i64,
    /// `transactionMsgMinOffset`
    pub transaction_msg_min_offset: i64,
    /// `tryUnlockTimes`
    pub try_unlock_times: i64,
}

/// What a popping consumer holds of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct PopProcessQueueInfo {
    /// `droped`
    pub droped: bool,
    /// `lastPopTimestamp`
    pub last_pop_timestamp: i64,
    /// `waitAckCount`
    pub wait_ack_count: i32,
}

/// How fast a consumer works on a topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeStatus {
    /// `consumeFailedMsgs`
    pub consume_failed_msgs: i64,
    /// `consumeFailedTPS`
    #[serde(rename = "consumeFailedTPS")]
    pub consume_failed_tps: f64,
    /// `consumeOKTPS`
    #[serde(rename = "consumeOKTPS")]
    pub consume_ok_tps: f64,
    /// `consumeRT`
    #[serde(rename = "consumeRT")]
    pub consume_rt: f64,
    /// `pullRT`
    #[serde(rename = "pullRT")]
    pub pull_rt: f64,
    /// `pullTPS`
    #[serde(rename = "pullTPS")]
    pub pull_tps: f64,
}

/// The inside of a consumer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerRunningInfo {
    /// `jstack`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jstack: Option<String>,
    /// `mqPopTable`
    pub mq_pop_table: QueueTable<PopProcessQueueInfo>,
    /// `mqTable`
    pub mq_table: QueueTable<ProcessQueueInfo>,
    /// `properties`
    pub properties: BTreeMap<String, String>,
    /// `statusTable`
    pub status_table: BTreeMap<String, ConsumeStatus>,
    /// `subscriptionSet`
    pub subscription_set: Vec<SubscriptionData>,
    /// `userConsumerInfo`
    pub user_consumer_info: BTreeMap<String, String>,
}

/// Offsets as clients hold them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct GetConsumerStatusBody {
    /// By client id.
    pub consumer_table: BTreeMap<String, QueueTable<i64>>,
    /// `messageQueueTable`
    pub message_queue_table: QueueTable<i64>,
}

/// What a consumer made of one message.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub enum CmResult {
    /// Done.
    #[default]
    #[serde(rename = "CR_SUCCESS")]
    Success,
    /// Again later.
    #[serde(rename = "CR_LATER")]
    Later,
    /// Rolled back.
    #[serde(rename = "CR_ROLLBACK")]
    Rollback,
    /// Committed.
    #[serde(rename = "CR_COMMIT")]
    Commit,
    /// It threw.
    #[serde(rename = "CR_THROW_EXCEPTION")]
    ThrowException,
    /// It returned nothing.
    #[serde(rename = "CR_RETURN_NULL")]
    ReturnNull,
}

/// The answer to CONSUME_MESSAGE_DIRECTLY.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeMessageDirectlyResult {
    /// `autoCommit`
    pub auto_commit: bool,
    /// `consumeResult`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consume_result: Option<CmResult>,
    /// `order`
    pub order: bool,
    /// `remark`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
    /// `spentTimeMills`
    pub spent_time_mills: i64,
}

impl Default for ConsumeMessageDirectlyResult {
    fn default() -> Self {
        Self {
            auto_commit: true,
            consume_result: Default::default(),
            order: Default::default(),
            remark: Default::default(),
            spent_time_mills: Default::default(),
        }
    }
}

/// A filter expression to be checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckClientRequestBody {
    /// `clientId`
    pub client_id: String,
    /// `group`
    pub group: String,
    /// `namespace`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// `subscriptionData`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_data: Option<SubscriptionData>,
}

/// Queues to lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct LockBatchRequestBody {
    /// `clientId`
    pub client_id: String,
    /// `consumerGroup`
    pub consumer_group: String,
    /// `mqSet`
    pub mq_set: BTreeSet<MessageQueue>,
    /// `onlyThisBroker`
    pub only_this_broker: bool,
}

/// Queues that were locked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct LockBatchResponseBody {
    /// `lockOKMQSet`
    #[serde(rename = "lockOKMQSet")]
    pub lock_ok_mq_set: BTreeSet<MessageQueue>,
}

/// Queues to unlock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct UnlockBatchRequestBody {
    /// `clientId`
    pub client_id: String,
    /// `consumerGroup`
    pub consumer_group: String,
    /// `mqSet`
    pub mq_set: BTreeSet<MessageQueue>,
    /// `onlyThisBroker`
    pub only_this_broker: bool,
}
