//! Consumption by pop, and assignment by the broker.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{MessageModel, MessageQueue};

/// How a group takes a topic's messages.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub enum MessageRequestMode {
    /// By pull.
    #[default]
    #[serde(rename = "PULL")]
    Pull,
    /// By pop.
    #[serde(rename = "POP")]
    Pop,
}

/// A client asks for its queues.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct QueryAssignmentRequestBody {
    /// `clientId`
    pub client_id: String,
    /// `consumerGroup`
    pub consumer_group: String,
    /// `messageModel`
    pub message_model: MessageModel,
    /// `strategyName`
    pub strategy_name: String,
    /// `topic`
    pub topic: String,
}

/// One assigned queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct MessageQueueAssignment {
    /// `attachments`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attachments: Option<BTreeMap<String, String>>,
    /// `messageQueue`
    pub message_queue: MessageQueue,
    /// `mode`
    pub mode: MessageRequestMode,
}

/// The queues of a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct QueryAssignmentResponseBody {
    /// `messageQueueAssignments`
    pub message_queue_assignments: Vec<MessageQueueAssignment>,
}

/// How a group shall take a topic's messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct SetMessageRequestModeRequestBody {
    /// `consumerGroup`
    pub consumer_group: String,
    /// `mode`
    pub mode: MessageRequestMode,
    /// `popShareQueueNum`
    pub pop_share_queue_num: i32,
    /// `topic`
    pub topic: String,
}

/// All such settings, by topic and group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct MessageRequestModeSerializeWrapper {
    /// `messageRequestModeMap`
    pub message_request_mode_map:
        BTreeMap<String, BTreeMap<String, SetMessageRequestModeRequestBody>>,
}
