//! A stored message as an owned value, as views, queries and pulls return it.

use std::io::Read;
use std::net::SocketAddr;

use bytes::{Buf, Bytes};
use protocol::record::{self, CheckBody, Record};
use protocol::{message_id, properties, sysflag};
use serde::Serialize;

/// The most that a compressed body may grow to. A few bytes can claim gigabytes.
const INFLATED_BYTES_MAX: u64 = 64 << 20;

/// A stored message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredMessage {
    /// The producer's unique id, or the offset id of a message that has none.
    pub msg_id: String,
    /// The broker's address and the physical offset.
    pub offset_msg_id: String,
    /// Topic.
    pub topic: String,
    /// Queue in the topic.
    pub queue_id: i32,
    /// Place in the queue.
    pub queue_offset: i64,
    /// Place in the commit log.
    pub commit_log_offset: i64,
    /// Bytes of the whole record.
    pub store_size: u32,
    /// Checksum of the body as stored.
    pub body_crc: i32,
    /// The producer's own flag.
    pub flag: i32,
    /// Compression, transaction, address kinds.
    pub sys_flag: i32,
    /// When the producer made it.
    pub born_timestamp: i64,
    /// The producer's address.
    pub born_host: SocketAddr,
    /// When the broker took it.
    pub store_timestamp: i64,
    /// The broker's address.
    pub store_host: SocketAddr,
    /// How often it was consumed again.
    pub reconsume_times: i32,
    /// Where the prepared message of its transaction lies.
    pub prepared_transaction_offset: i64,
    /// Properties, in the order of the record.
    pub properties: Vec<(String, String)>,
    /// The body, inflated where it was compressed with zlib.
    #[serde(skip)]
    pub body: Vec<u8>,
}

impl StoredMessage {
    /// The value of a property.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The tag, by which consumers filter.
    pub fn tags(&self) -> Option<&str> {
        self.property(properties::TAGS)
    }

    /// The keys, separated by spaces.
    pub fn keys(&self) -> Option<&str> {
        self.property(properties::KEYS)
    }

    fn from_record(record: &Record<'_>) -> StoredMessage {
        let offset_msg_id = message_id::encode_offset_id(record.store_host, record.physical_offset);
        let properties: Vec<(String, String)> = properties::iter(record.properties)
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let unique = properties
            .iter()
            .find(|(name, _)| name == properties::UNIQ_KEY)
            .map(|(_, value)| value.clone());
        StoredMessage {
            msg_id: unique.unwrap_or_else(|| offset_msg_id.clone()),
            offset_msg_id,
            topic: record.topic.to_owned(),
            queue_id: record.queue_id,
            queue_offset: record.queue_offset as i64,
            commit_log_offset: record.physical_offset as i64,
            store_size: record.size,
            body_crc: record.body_crc as i32,
            flag: record.flag,
            sys_flag: record.sys_flag,
            born_timestamp: record.born_timestamp_ms,
            born_host: record.born_host,
            store_timestamp: record.store_timestamp_ms,
            store_host: record.store_host,
            reconsume_times: record.reconsume_times,
            prepared_transaction_offset: record.prepared_transaction_offset,
            properties,
            body: inflated(record.sys_flag, record.body),
        }
    }
}

/// All messages of an answer's body.
pub(crate) fn decode_all(mut body: Bytes) -> Result<Vec<StoredMessage>, record::RecordError> {
    let mut messages = Vec::new();
    while body.has_remaining() {
        let record = record::decode(&body, CheckBody::Yes)?;
        let size = record.size as usize;
        messages.push(StoredMessage::from_record(&record));
        body.advance(size.max(1).min(body.len()));
    }
    Ok(messages)
}

/// The body as the producer gave it. One that cannot be inflated stays as it is stored: it is shown to people, who see more
/// in it than in an error.
fn inflated(sys_flag: i32, body: &[u8]) -> Vec<u8> {
    if sys_flag & sysflag::COMPRESSED != 0 {
        let mut out = Vec::new();
        let mut input = flate2::read::ZlibDecoder::new(body).take(INFLATED_BYTES_MAX);
        if input.read_to_end(&mut out).is_ok() {
            return out;
        }
    }
    body.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use protocol::record::NewRecord;

    fn record(sys_flag: i32, body: &[u8], properties: &str) -> Bytes {
        let record = NewRecord {
            body_crc: record::body_crc(body),
            queue_id: 3,
            flag: 7,
            sys_flag,
            born_timestamp_ms: 1,
            born_host: ([127, 0, 0, 1], 5).into(),
            store_host: ([127, 0, 0, 1], 10911).into(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body,
            topic: "T",
            properties,
            with_checksum: false,
        };
        let mut out = BytesMut::new();
        record::encode(&record, 9, 64, 2, &mut out);
        out.freeze()
    }

    fn zlib(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = flate2::read::ZlibEncoder::new(body, flate2::Compression::fast());
        encoder.read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn all_messages_of_an_answer_are_decoded() {
        let mut answer = record(0, b"one", "KEYS\u{1}k\u{2}UNIQ_KEY\u{1}U\u{2}").to_vec();
        answer.extend(record(sysflag::COMPRESSED, &zlib(b"two"), ""));
        let messages = decode_all(answer.into()).unwrap();
        assert_eq!(
            (messages[0].body.as_slice(), messages[1].body.as_slice()),
            (&b"one"[..], &b"two"[..])
        );
        assert_eq!(
            (messages[0].keys(), messages[0].msg_id.as_str()),
            (Some("k"), "U")
        );
        assert_eq!(
            messages[1].msg_id, messages[1].offset_msg_id,
            "a message without a unique id has its place"
        );
        assert_eq!((messages[1].queue_id, messages[1].queue_offset), (3, 9));
    }

    #[test]
    fn a_body_that_cannot_be_inflated_is_shown_as_it_is() {
        let messages = decode_all(record(sysflag::COMPRESSED, b"not zlib", "")).unwrap();
        assert_eq!(messages[0].body, b"not zlib");
    }

    #[test]
    fn a_torn_answer_is_an_error() {
        let whole = record(0, b"one", "");
        assert!(decode_all(whole.slice(..whole.len() - 1)).is_err());
    }
}
