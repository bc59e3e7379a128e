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

/// Acknowledges messages of one pop from one queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct BatchAck {
    /// Offsets behind `start_offset`, one bit each, least first; base64 of the bytes. Java 5.3: `BitSet.toByteArray`.
    #[serde(rename = "b", alias = "bitSet")]
    pub bit_set: String,
    /// The group.
    #[serde(rename = "c", alias = "consumerGroup")]
    pub consumer_group: String,
    /// How long the messages are invisible, in ms.
    #[serde(rename = "it", alias = "invisibleTime")]
    pub invisible_time_ms: i64,
    /// When they were popped, ms since 1970.
    #[serde(rename = "pt", alias = "popTime")]
    pub pop_time_ms: i64,
    /// The queue.
    #[serde(rename = "q", alias = "queueId")]
    pub queue_id: i32,
    /// `0`, `1` or `2`: see `pop::Origin`.
    #[serde(rename = "r", alias = "retry")]
    pub retry: String,
    /// See `pop::Handle`.
    #[serde(rename = "rq", alias = "reviveQueueId")]
    pub revive_queue_id: i32,
    /// Where the pop began.
    #[serde(rename = "so", alias = "startOffset")]
    pub start_offset: i64,
    /// The topic, not the retry topic.
    #[serde(rename = "t", alias = "topic")]
    pub topic: String,
}

impl BatchAck {
    /// Bits that are looked at; a pop hands out far fewer messages.
    pub const BITS_MAX: usize = 4096;

    /// The offsets that it acknowledges; none when the bits cannot be read or are too many.
    pub fn offsets(&self) -> Option<Vec<i64>> {
        let bytes = base64(&self.bit_set)?;
        if bytes.len() > Self::BITS_MAX / 8 {
            return None;
        }
        let mut offsets = Vec::new();
        for (index, byte) in bytes.iter().enumerate() {
            for bit in (0..8).filter(|bit| byte & (1 << bit) != 0) {
                offsets.push(self.start_offset.checked_add((index * 8 + bit) as i64)?);
            }
        }
        Some(offsets)
    }

    /// Acknowledges these offsets, none of which lies before `start_offset` or far behind it.
    pub fn set_offsets(&mut self, offsets: &[i64]) {
        let mut bytes = Vec::new();
        for offset in offsets {
            let behind = offset.checked_sub(self.start_offset);
            let Some(bit) = behind.and_then(|behind| usize::try_from(behind).ok()) else {
                continue;
            };
            if bit < Self::BITS_MAX {
                bytes.resize(bytes.len().max(bit / 8 + 1), 0u8);
                bytes[bit / 8] |= 1 << (bit % 8);
            }
        }
        self.bit_set = to_base64(&bytes);
    }
}

/// The body of `BATCH_ACK_MESSAGE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct BatchAckMessageRequestBody {
    /// `acks`
    pub acks: Vec<BatchAck>,
    /// `brokerName`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_name: Option<String>,
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for group in text.as_bytes().chunks(4) {
        let mut bits = 0u32;
        for (index, digit) in group.iter().enumerate() {
            let value = DIGITS.iter().position(|candidate| candidate == digit)? as u32;
            bits |= value << (18 - 6 * index);
        }
        let count = match group.len() {
            1 => return None,
            digits => digits - 1,
        };
        bytes.extend_from_slice(&bits.to_be_bytes()[1..1 + count]);
    }
    Some(bytes)
}

fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut bits = 0u32;
        for (index, byte) in group.iter().enumerate() {
            bits |= u32::from(*byte) << (16 - 8 * index);
        }
        for index in 0..4 {
            text.push(if index <= group.len() {
                char::from(DIGITS[(bits >> (18 - 6 * index) & 63) as usize])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_a_batch_are_bits() {
        let mut ack = BatchAck {
            start_offset: 10,
            ..BatchAck::default()
        };
        // Bits 0 and 9: bytes 0x01 0x02.
        ack.set_offsets(&[10, 19, 9]);
        assert_eq!(ack.bit_set, "AQI=");
        assert_eq!(ack.offsets(), Some(vec![10, 19]));
        for bytes in [&b""[..], b"a", b"ab", b"abc", b"abcd", b"\xff\x00\x80\x7f"] {
            assert_eq!(base64(&to_base64(bytes)).as_deref(), Some(bytes));
        }
    }

    #[test]
    fn bits_that_cannot_be_read_are_no_offsets() {
        let mut ack = BatchAck {
            bit_set: "A".to_owned(),
            ..BatchAck::default()
        };
        assert_eq!(ack.offsets(), None);
        ack.bit_set = "!!!!".to_owned();
        assert_eq!(ack.offsets(), None);
        ack.bit_set = "A".repeat(10_000);
        assert_eq!(ack.offsets(), None);
        ack.bit_set = "AQ==".to_owned();
        ack.start_offset = i64::MAX;
        assert_eq!(ack.offsets(), Some(vec![i64::MAX]));
        ack.bit_set = "Ag==".to_owned();
        assert_eq!(ack.offsets(), None);
    }

    #[test]
    fn a_batch_has_javas_short_names() {
        let body = br#"{"acks":[{"b":"AQ==","c":"g","it":1000,"pt":5,"q":2,"r":"0","rq":1,"so":7,"t":"t"}],"brokerName":"b"}"#;
        let body: BatchAckMessageRequestBody = crate::json::decode(body).unwrap();
        assert_eq!(body.acks[0].offsets(), Some(vec![7]));
        assert_eq!((body.acks[0].queue_id, body.acks[0].pop_time_ms), (2, 5));
    }
}
