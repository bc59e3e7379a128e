//! From the record of a half message to what is made of it: the message that consumers get, a copy, the question to a producer. Pure.
//! Java 5.3: `EndTransactionProcessor.endMessageTransaction`, `TransactionalMessageBridge`, `AbstractTransactionalMessageCheckListener`.

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};
use protocol::code::RequestCode;
use protocol::command::Command;
use protocol::headers::{CheckTransactionStateRequest, WithBrokerName};
use protocol::message_id::encode_offset_id;
use protocol::properties as names;
use protocol::record::{self, NewRecord, Record};
use protocol::{sysflag, topic};
use storage::NewMessage;

/// The queue of the half topic, and of the op topic. Java 5.3 uses no other.
pub(crate) const QUEUE: i32 = 0;
/// The tag of an op message.
const OP_TAG: &str = "d";
/// Between the offsets in an op message's body, and behind the last.
const OP_SEPARATOR: char = ',';

/// A record of the half topic, with what the broker wrote into its properties.
#[derive(Clone, Debug)]
pub(crate) struct HalfRecord<'a> {
    pub(crate) record: Record<'a>,
    pub(crate) real_topic: &'a str,
    pub(crate) real_queue_id: i32,
    pub(crate) group: &'a str,
    pub(crate) unique_id: Option<&'a str>,
    /// How often a producer had been asked when a copy was made; none of a half that is no copy.
    pub(crate) times: Option<u32>,
    immunity: Option<&'a str>,
    delay_level: Option<i32>,
}

impl<'a> HalfRecord<'a> {
    /// Understands a record of the half topic; none when it names no topic and queue, or no group.
    pub(crate) fn of(record: Record<'a>) -> Option<HalfRecord<'a>> {
        let mut half = HalfRecord {
            real_topic: "",
            real_queue_id: -1,
            group: "",
            unique_id: None,
            times: None,
            immunity: None,
            delay_level: None,
            record,
        };
        for (name, value) in names::iter(half.record.properties) {
            match name {
                names::REAL_TOPIC => half.real_topic = value,
                names::REAL_QUEUE_ID => half.real_queue_id = value.parse().unwrap_or(-1),
                names::PRODUCER_GROUP => half.group = value,
                names::UNIQ_KEY => half.unique_id = Some(value),
                // Java takes a number that is none for -1, which is less than any limit.
                names::TRANSACTION_CHECK_TIMES => half.times = Some(value.parse().unwrap_or(0)),
                names::CHECK_IMMUNITY_TIME_IN_SECONDS => half.immunity = Some(value),
                names::DELAY => half.delay_level = value.parse().ok().filter(|level| *level > 0),
                _ => {}
            }
        }
        let is_half = half.record.topic == topic::TRANS_HALF
            && !half.real_topic.is_empty()
            && half.real_queue_id >= 0
            && !half.group.is_empty();
        is_half.then_some(half)
    }

    /// When the message was stored first. A copy bears the birth of its first record, by the client's clock; a clock that is ahead counts for nothing.
    pub(crate) fn stored_ms(&self) -> i64 {
        let stored_ms = self.record.store_timestamp_ms;
        if self.times.is_some() {
            stored_ms.min(self.record.born_timestamp_ms)
        } else {
            stored_ms
        }
    }

    /// How long after it was stored nobody is asked.
    pub(crate) fn immunity_ms(&self, transaction_timeout_ms: u64) -> i64 {
        immunity_ms(self.immunity, transaction_timeout_ms)
    }

    /// Whether the sender asked for a time of its own before the first check.
    pub(crate) fn has_immunity(&self) -> bool {
        self.immunity.is_some()
    }

    /// Whether `committed` is the message that a commit of this half stored, or of a copy of it.
    pub(crate) fn is_committed_by(&self, committed: &Record<'_>) -> bool {
        sysflag::transaction(committed.sys_flag) == sysflag::TRANSACTION_COMMIT
            && (committed.prepared_transaction_offset == self.record.physical_offset as i64
                || self.is_copied_by(committed)
                || self.times.is_some() && self.is_born_as(committed))
    }

    /// Whether `other`, which has the same unique id, stands for a copy of the same half. A client that sends a half again gives it the same id, but
    /// another time of birth.
    pub(crate) fn is_copied_by(&self, other: &Record<'_>) -> bool {
        names::get(other.properties, names::TRANSACTION_CHECK_TIMES).is_some()
            && self.is_born_as(other)
    }

    fn is_born_as(&self, other: &Record<'_>) -> bool {
        other.born_timestamp_ms == self.record.born_timestamp_ms
            && other.born_host == self.record.born_host
    }

    /// What became of it was stored after this. Of a copy that may be before the copy was made.
    pub(crate) fn past_begins_ms(&self) -> i64 {
        let margin_ms = match self.times {
            // The index keeps whole seconds.
            None => 1_000,
            // The birth is told by the clock of the client.
            Some(_) => 3_600_000,
        };
        self.stored_ms().saturating_sub(margin_ms).max(0)
    }

    /// The message that consumers get. All properties stay, `TRAN_MSG`, `REAL_TOPIC` and `REAL_QID` among them, as in Java. A delay level counts from
    /// the commit.
    pub(crate) fn committed<'m>(
        &'m self,
        properties: &'m str,
        delay_levels: usize,
    ) -> NewMessage<'m> {
        let level = self
            .delay_level
            .map(|level| level.min(delay_levels as i32).max(1));
        let (topic, queue_id) = match level {
            Some(level) => (topic::SCHEDULE, level - 1),
            None => (self.real_topic, self.real_queue_id),
        };
        NewMessage {
            sys_flag: self.record.sys_flag & !sysflag::TRANSACTION_MASK
                | sysflag::TRANSACTION_COMMIT,
            prepared_transaction_offset: self.record.physical_offset as i64,
            ..self.message(topic, queue_id, properties)
        }
    }

    /// Topics in which the message of a commit may lie at first.
    pub(crate) fn committed_topics(&self) -> impl Iterator<Item = &'a str> {
        let delayed = self.delay_level.map(|_| topic::SCHEDULE);
        std::iter::once(self.real_topic).chain(delayed)
    }

    /// The same message elsewhere.
    pub(crate) fn message<'m>(
        &'m self,
        topic: &'m str,
        queue_id: i32,
        properties: &'m str,
    ) -> NewMessage<'m> {
        let record = &self.record;
        NewMessage {
            topic,
            queue_id,
            flag: record.flag,
            sys_flag: record.sys_flag & !sysflag::TRANSACTION_MASK,
            born_timestamp_ms: record.born_timestamp_ms,
            born_host: record.born_host,
            store_host: record.store_host,
            reconsume_times: record.reconsume_times,
            prepared_transaction_offset: 0,
            body: record.body,
            properties,
        }
    }

    /// The properties of a copy that is made after so many checks. `TRAN_PREPARED_QUEUE_OFFSET` goes: a Java broker would
    /// take the copy for ended, since the op topic says so of the half that it replaces.
    pub(crate) fn properties_after(&self, times: u32) -> String {
        let mut properties = String::with_capacity(self.record.properties.len() + 32);
        for (name, value) in names::iter(self.record.properties) {
            let replaced = matches!(
                name,
                names::TRANSACTION_CHECK_TIMES
                    | names::TRANSACTION_PREPARED_QUEUE_OFFSET
                    | names::CRC32
            );
            if !replaced {
                names::push(&mut properties, name, value);
            }
        }
        let times = times.to_string();
        names::push(&mut properties, names::TRANSACTION_CHECK_TIMES, &times);
        properties
    }

    /// CHECK_TRANSACTION_STATE: asks a producer how the transaction ended. The body is the message as its producer sent it.
    pub(crate) fn question(&self, broker_name: &str) -> Command {
        let record = &self.record;
        let mut body = BytesMut::new();
        let sent = NewRecord {
            body_crc: record.body_crc,
            queue_id: self.real_queue_id,
            flag: record.flag,
            sys_flag: record.sys_flag,
            born_timestamp_ms: record.born_timestamp_ms,
            born_host: record.born_host,
            store_host: record.store_host,
            reconsume_times: record.reconsume_times,
            prepared_transaction_offset: record.prepared_transaction_offset,
            body: record.body,
            topic: self.real_topic,
            properties: record.properties,
            with_checksum: false,
        };
        let stored_ms = record.store_timestamp_ms;
        record::encode(
            &sent,
            record.queue_offset,
            record.physical_offset,
            stored_ms,
            &mut body,
        );
        let unique_id = self.unique_id.map(str::to_owned);
        let header = WithBrokerName {
            header: CheckTransactionStateRequest {
                topic: Some(topic::TRANS_HALF.to_owned()),
                tran_state_table_offset: record.queue_offset as i64,
                commit_log_offset: record.physical_offset as i64,
                msg_id: unique_id.clone(),
                transaction_id: unique_id,
                offset_msg_id: Some(encode_offset_id(record.store_host, record.physical_offset)),
            },
            broker_name: Some(broker_name.to_owned()),
        };
        Command::request(RequestCode::CHECK_TRANSACTION_STATE, &header).with_body(body.freeze())
    }
}

/// The properties of a record without a checksum of it, which another record's is not. Java 5.3: `enabledAppendPropCRC`.
pub(crate) fn without_checksum(properties: &str) -> Cow<'_, str> {
    if names::get(properties, names::CRC32).is_none() {
        return Cow::Borrowed(properties);
    }
    let mut kept = String::with_capacity(properties.len());
    let rest = names::iter(properties).filter(|(name, _)| *name != names::CRC32);
    rest.for_each(|(name, value)| names::push(&mut kept, name, value));
    Cow::Owned(kept)
}

/// `CHECK_IMMUNITY_TIME_IN_SECONDS` as Java takes it: never less than `transactionTimeOut`, which also stands for what is no number.
/// Java 5.3: `TransactionalMessageUtil.getImmunityTime`.
pub(crate) fn immunity_ms(text: Option<&str>, transaction_timeout_ms: u64) -> i64 {
    let timeout_ms = i64::try_from(transaction_timeout_ms).unwrap_or(i64::MAX);
    let asked = text.and_then(|seconds| seconds.trim().parse::<i64>().ok());
    asked.map_or(timeout_ms, |seconds| {
        seconds.saturating_mul(1000).max(timeout_ms)
    })
}

/// The body of the op message that names these halves.
pub(crate) fn op_body(halves: impl IntoIterator<Item = u64>) -> Bytes {
    let mut body = String::new();
    for offset in halves {
        write!(body, "{offset}{OP_SEPARATOR}").expect("a String takes everything");
    }
    body.into()
}

/// The properties of an op message.
pub(crate) fn op_properties(unique_id: &str) -> String {
    let mut properties = String::new();
    names::push(&mut properties, names::TAGS, OP_TAG);
    names::push(&mut properties, names::UNIQ_KEY, unique_id);
    properties
}

/// The halves that an op message names; none when it is no op message. What is no offset is left out.
pub(crate) fn op_halves<'a>(record: &Record<'a>) -> Option<impl Iterator<Item = u64> + use<'a>> {
    let is_op = names::get(record.properties, names::TAGS) == Some(OP_TAG);
    let text = std::str::from_utf8(record.body).ok().filter(|_| is_op)?;
    Some(
        text.split(OP_SEPARATOR)
            .filter_map(|offset| offset.trim().parse().ok()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::record::CheckBody;

    fn encoded(topic: &str, properties: &[(&str, &str)], body: &[u8]) -> Bytes {
        let mut text = String::new();
        for (name, value) in properties {
            names::push(&mut text, name, value);
        }
        let record = NewRecord {
            body_crc: record::body_crc(body),
            queue_id: 0,
            flag: 7,
            sys_flag: sysflag::COMPRESSED,
            born_timestamp_ms: 900,
            born_host: "127.0.0.1:5".parse().unwrap(),
            store_host: "127.0.0.1:10911".parse().unwrap(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body,
            topic,
            properties: &text,
            with_checksum: false,
        };
        let mut bytes = BytesMut::new();
        record::encode(&record, 5, 4096, 1_000, &mut bytes);
        bytes.freeze()
    }

    fn half(more: &[(&str, &str)]) -> Bytes {
        let mut properties = vec![
            ("TRAN_MSG", "true"),
            ("PGROUP", "g"),
            ("UNIQ_KEY", "U"),
            ("REAL_TOPIC", "T"),
            ("REAL_QID", "3"),
        ];
        properties.extend(more);
        encoded(topic::TRANS_HALF, &properties, b"body")
    }

    fn decode(bytes: &Bytes) -> Record<'_> {
        record::decode(bytes, CheckBody::Yes).unwrap()
    }

    #[test]
    fn a_commit_is_the_message_in_its_queue_with_the_place_of_its_half() {
        let bytes = half(&[]);
        let half = HalfRecord::of(decode(&bytes)).unwrap();
        let message = half.committed(half.record.properties, 18);
        assert_eq!((message.topic, message.queue_id), ("T", 3));
        assert_eq!(message.sys_flag, sysflag::COMPRESSED | 8);
        assert_eq!(message.prepared_transaction_offset, 4096);
        assert_eq!(
            names::get(message.properties, names::TRANSACTION_PREPARED),
            Some("true")
        );
    }

    #[test]
    fn a_delay_level_counts_from_the_commit() {
        let bytes = half(&[("DELAY", "99")]);
        let half = HalfRecord::of(decode(&bytes)).unwrap();
        let message = half.committed(half.record.properties, 18);
        assert_eq!((message.topic, message.queue_id), (topic::SCHEDULE, 17));
    }

    #[test]
    fn what_names_no_destination_or_group_is_no_half() {
        let of = |topic: &str, properties: &[(&str, &str)]| {
            HalfRecord::of(decode(&encoded(topic, properties, b"x"))).is_some()
        };
        let whole = [("PGROUP", "g"), ("REAL_TOPIC", "T"), ("REAL_QID", "0")];
        assert!(of(topic::TRANS_HALF, &whole));
        assert!(!of("T", &whole));
        assert!(!of(topic::TRANS_HALF, &whole[1..]));
        assert!(!of(topic::TRANS_HALF, &whole[..2]));
        assert!(!of(
            topic::TRANS_HALF,
            &[("PGROUP", "g"), ("REAL_TOPIC", "T"), ("REAL_QID", "x")]
        ));
    }

    #[test]
    fn an_op_message_names_halves_as_both_java_lines_write_them() {
        let of = |tag: &str, body: &[u8]| {
            let bytes = encoded(topic::TRANS_OP_HALF, &[("TAGS", tag)], body);
            op_halves(&decode(&bytes)).map(Iterator::collect::<Vec<_>>)
        };
        assert_eq!(of("d", b"12,13,").unwrap(), [12, 13]);
        assert_eq!(of("d", b"12").unwrap(), [12]);
        assert_eq!(of("d", b"x,-1,9,").unwrap(), [9]);
        assert_eq!(of("other", b"12"), None);
        assert_eq!(of("d", &op_body([1, 22])).unwrap(), [1, 22]);
    }

    #[test]
    fn immunity_is_never_shorter_than_the_timeout() {
        assert_eq!(immunity_ms(None, 6000), 6000);
        assert_eq!(immunity_ms(Some("10"), 6000), 10_000);
        assert_eq!(immunity_ms(Some("1"), 6000), 6000);
        assert_eq!(immunity_ms(Some("-1"), 6000), 6000);
        assert_eq!(immunity_ms(Some("soon"), 6000), 6000);
        assert_eq!(immunity_ms(Some("9223372036854775807"), u64::MAX), i64::MAX);
    }

    #[test]
    fn a_question_shows_the_message_as_it_was_sent() {
        let bytes = half(&[]);
        let half = HalfRecord::of(decode(&bytes)).unwrap();
        let question = half.question("broker-a");
        let shown = record::decode(&question.body, CheckBody::Yes).unwrap();
        assert_eq!(
            (shown.topic, shown.queue_id, shown.body),
            ("T", 3, &b"body"[..])
        );
        assert_eq!((shown.queue_offset, shown.physical_offset), (5, 4096));
        let header: CheckTransactionStateRequest = question.header().unwrap();
        assert_eq!(header.topic.as_deref(), Some(topic::TRANS_HALF));
        assert_eq!(header.transaction_id.as_deref(), Some("U"));
        assert_eq!(
            (header.tran_state_table_offset, header.commit_log_offset),
            (5, 4096)
        );
    }

    #[test]
    fn a_copy_says_how_often_was_asked_and_is_told_from_a_half_sent_again() {
        let bytes = half(&[("TRAN_PREPARED_QUEUE_OFFSET", "2"), ("__CRC32#", "9")]);
        let half = HalfRecord::of(decode(&bytes)).unwrap();
        let properties = half.properties_after(4);
        assert_eq!(
            names::get(&properties, names::TRANSACTION_CHECK_TIMES),
            Some("4")
        );
        assert_eq!(
            names::get(&properties, names::TRANSACTION_PREPARED_QUEUE_OFFSET),
            None
        );
        assert_eq!(names::get(&properties, names::CRC32), None);
        let again = decode(&bytes);
        assert!(!half.is_copied_by(&again));
        let copy = Record {
            properties: &properties,
            ..again
        };
        assert!(half.is_copied_by(&copy));
    }
}
