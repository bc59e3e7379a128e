//! What clients say of themselves every thirty seconds.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// How a consumer gets its messages.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub enum ConsumeType {
    /// It pulls when it likes.
    #[serde(rename = "CONSUME_ACTIVELY")]
    Actively,
    /// Its library pulls for it.
    #[default]
    #[serde(rename = "CONSUME_PASSIVELY")]
    Passively,
    /// It pops.
    #[serde(rename = "CONSUME_POP")]
    Pop,
}

/// Who of a group gets a message.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub enum MessageModel {
    /// Everybody.
    #[serde(rename = "BROADCASTING")]
    Broadcasting,
    /// One of them.
    #[default]
    #[serde(rename = "CLUSTERING")]
    Clustering,
}

/// Where a group without offsets starts.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub enum ConsumeFromWhere {
    /// At the end.
    #[default]
    #[serde(rename = "CONSUME_FROM_LAST_OFFSET")]
    LastOffset,
    /// Deprecated; as `LastOffset`.
    #[serde(rename = "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST")]
    LastOffsetAndMinWhenBootFirst,
    /// Deprecated; as `FirstOffset`.
    #[serde(rename = "CONSUME_FROM_MIN_OFFSET")]
    MinOffset,
    /// Deprecated; as `LastOffset`.
    #[serde(rename = "CONSUME_FROM_MAX_OFFSET")]
    MaxOffset,
    /// At the beginning.
    #[serde(rename = "CONSUME_FROM_FIRST_OFFSET")]
    FirstOffset,
    /// At a time.
    #[serde(rename = "CONSUME_FROM_TIMESTAMP")]
    Timestamp,
}

/// A producer group of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ProducerData {
    /// `groupName`
    pub group_name: String,
}

/// What a consumer wants of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscriptionData {
    /// `classFilterMode`
    pub class_filter_mode: bool,
    /// Hashes of the tags.
    pub code_set: BTreeSet<i32>,
    /// TAG or SQL92.
    pub expression_type: String,
    /// The expression; `*` wants everything.
    pub sub_string: String,
    /// When the subscription was made, in ms.
    pub sub_version: i64,
    /// `tagsSet`
    pub tags_set: BTreeSet<String>,
    /// `topic`
    pub topic: String,
}

impl Default for SubscriptionData {
    fn default() -> Self {
        Self {
            class_filter_mode: Default::default(),
            code_set: Default::default(),
            expression_type: "TAG".to_owned(),
            sub_string: Default::default(),
            sub_version: Default::default(),
            tags_set: Default::default(),
            topic: Default::default(),
        }
    }
}

/// A consumer group of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerData {
    /// `consumeFromWhere`
    pub consume_from_where: ConsumeFromWhere,
    /// `consumeType`
    pub consume_type: ConsumeType,
    /// `groupName`
    pub group_name: String,
    /// `messageModel`
    pub message_model: MessageModel,
    /// `subscriptionDataSet`
    pub subscription_data_set: Vec<SubscriptionData>,
    /// `unitMode`
    pub unit_mode: bool,
}

/// The body of a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct HeartbeatData {
    /// `clientID`
    #[serde(rename = "clientID")]
    pub client_id: String,
    /// `consumerDataSet`
    pub consumer_data_set: Vec<ConsumerData>,
    /// `heartbeatFingerprint`
    pub heartbeat_fingerprint: i32,
    /// `producerDataSet`
    pub producer_data_set: Vec<ProducerData>,
    /// The subscriptions are left out; the fingerprint stands for them.
    pub without_sub: bool,
}
