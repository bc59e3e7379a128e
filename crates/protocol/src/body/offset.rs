//! Positions of groups.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{DataVersion, MessageQueue, QueueTable};

/// All offsets of a broker, as `consumerOffset.json` and slaves hold them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerOffsetSerializeWrapper {
    /// `dataVersion`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_version: Option<DataVersion>,
    /// By `topic@group`, then by queue.
    pub offset_table: BTreeMap<String, BTreeMap<i32, i64>>,
}

/// How far each delay level is delivered, as `delayOffset.json` and slaves hold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct DelayOffsetSerializeWrapper {
    /// `dataVersion`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_version: Option<DataVersion>,
    /// By delay level.
    pub offset_table: BTreeMap<i32, i64>,
}

/// Offsets that clients must take over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ResetOffsetBody {
    /// `offsetTable`
    pub offset_table: QueueTable<i64>,
}

/// A queue with its offset, for clients that cannot read maps of queues.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct MessageQueueForC {
    /// `brokerName`
    pub broker_name: String,
    /// `offset`
    pub offset: i64,
    /// `queueId`
    pub queue_id: i32,
    /// `topic`
    pub topic: String,
}

/// The same for C++ clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ResetOffsetBodyForC {
    /// `offsetTable`
    pub offset_table: Vec<MessageQueueForC>,
}

/// The answer to QUERY_CORRECTION_OFFSET.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct QueryCorrectionOffsetBody {
    /// By queue.
    pub correction_offsets: BTreeMap<i32, i64>,
}

/// A notice that an offset was moved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct OffsetMovedEvent {
    /// `consumerGroup`
    pub consumer_group: String,
    /// `messageQueue`
    pub message_queue: MessageQueue,
    /// `offsetNew`
    pub offset_new: i64,
    /// `offsetRequest`
    pub offset_request: i64,
}
