//! Figures about topics, queues and groups.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{MessageQueue, QueueTable, SubscriptionData};

/// The ends of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicOffset {
    /// When its last message was stored, in ms.
    pub last_update_timestamp: i64,
    /// `maxOffset`
    pub max_offset: i64,
    /// `minOffset`
    pub min_offset: i64,
}

/// The answer to GET_TOPIC_STATS_INFO.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicStatsTable {
    /// `offsetTable`
    pub offset_table: QueueTable<TopicOffset>,
    /// `topicPutTps`
    pub topic_put_tps: f64,
}

/// How far a group has come in a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct OffsetWrapper {
    /// `brokerOffset`
    pub broker_offset: i64,
    /// `consumerOffset`
    pub consumer_offset: i64,
    /// `lastTimestamp`
    pub last_timestamp: i64,
    /// `pullOffset`
    pub pull_offset: i64,
}

/// The answer to GET_CONSUME_STATS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeStats {
    /// `consumeTps`
    pub consume_tps: f64,
    /// `offsetTable`
    pub offset_table: QueueTable<OffsetWrapper>,
}

/// The answer to GET_BROKER_CONSUME_STATS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeStatsList {
    /// `brokerAddr`
    pub broker_addr: String,
    /// `consumeStatsList`
    pub consume_stats_list: Vec<BTreeMap<String, Vec<ConsumeStats>>>,
    /// `totalDiff`
    pub total_diff: i64,
    /// `totalInflightDiff`
    pub total_inflight_diff: i64,
}

/// A figure over a span of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerStatsItem {
    /// `avgpt`
    pub avgpt: f64,
    /// `sum`
    pub sum: i64,
    /// `tps`
    pub tps: f64,
}

/// The answer to VIEW_BROKER_STATS_DATA.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerStatsData {
    /// `statsDay`
    pub stats_day: BrokerStatsItem,
    /// `statsHour`
    pub stats_hour: BrokerStatsItem,
    /// `statsMinute`
    pub stats_minute: BrokerStatsItem,
}

/// The times of a queue's messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueTimeSpan {
    /// `consumeTimeStamp`
    pub consume_time_stamp: i64,
    /// `delayTime`
    pub delay_time: i64,
    /// `maxTimeStamp`
    pub max_time_stamp: i64,
    /// `messageQueue`
    pub message_queue: MessageQueue,
    /// `minTimeStamp`
    pub min_time_stamp: i64,
}

/// The answer to QUERY_CONSUME_TIME_SPAN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct QueryConsumeTimeSpanBody {
    /// `consumeTimeSpanSet`
    pub consume_time_span_set: Vec<QueueTimeSpan>,
}

/// One entry of a consume queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeQueueData {
    /// `bitMap`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bit_map: Option<String>,
    /// `eval`
    pub eval: bool,
    /// `extendDataJson`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extend_data_json: Option<String>,
    /// `msg`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub msg: Option<String>,
    /// `physicOffset`
    pub physic_offset: i64,
    /// `physicSize`
    pub physic_size: i32,
    /// `tagsCode`
    pub tags_code: i64,
}

/// The answer to QUERY_CONSUME_QUEUE.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct QueryConsumeQueueResponseBody {
    /// `filterData`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter_data: Option<String>,
    /// `maxQueueIndex`
    pub max_queue_index: i64,
    /// `minQueueIndex`
    pub min_queue_index: i64,
    /// `queueData`
    pub queue_data: Vec<ConsumeQueueData>,
    /// `subscriptionData`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_data: Option<SubscriptionData>,
}
