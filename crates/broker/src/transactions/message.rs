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

use crate::requests::send::properties::scan;

/// The queue of the half topic, and of the op topic. Java 5.3 uses no other.
pub(crate) const QUEUE: i32 = 0;
/// What the commit of a half with a deliver time adds to its properties, at most.
pub(crate) const TIMED_BYTES: usize = 80;
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
    /// It names a deliver time of its own.
    is_timed: bool,
}

/// What a commit stores of the properties, and when the message is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commit<'a> {
    properties: Cow<'a, str>,
    /// In ms since 1970; none for a message that is delivered at once, or by a delay level.
    due_ms: Option<i64>,
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
            is_timed: false,
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
                names::TIMER_DELAY_SEC | names::TIMER_DELAY_MS | names::TIMER_DELIVER_MS => {
                    half.is_timed = true;
                }
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

    /// What a commit at this moment stores of the properties. A delay counts from the commit; a deliver time that is over means at once, and so does one that
    /// makes no sense, which a send does not let in.
    pub(crate) fn commit_at(&self, now_ms: i64) -> Commit<'a> {
        let properties = self.record.properties;
        let due_ms = self
            .is_timed
            .then(|| scan(properties).deliver_at_ms(now_ms));
        let due_ms = due_ms.and_then(|due_ms| due_ms.ok().flatten());
        let Some(due_ms) = due_ms.filter(|due_ms| *due_ms > now_ms) else {
            return Commit {
                properties: without_checksum(properties),
                due_ms: None,
            };
        };
        let mut timed = String::with_capacity(properties.len() + TIMED_BYTES);
        let kept = names::iter(properties)
            .filter(|(name, _)| !matches!(*name, names::CRC32 | names::TIMER_DELIVER_MS));
        kept.for_each(|(name, value)| names::push(&mut timed, name, value));
        let due = due_ms.to_string();
        names::push(&mut timed, names::TIMER_DELIVER_MS, &due);
        names::push(&mut timed, names::TIMER_OUT_MS, &due);
        Commit {
            properties: timed.into(),
            due_ms: Some(due_ms),
        }
    }

    /// The message that consumers get. All properties stay, `TRAN_MSG`, `REAL_TOPIC` and `REAL_QID` among them, as in Java. One that comes later waits among
    /// the delayed messages or the timer messages, for which those two say where it goes.
    pub(crate) fn committed<'m>(
        &'m self,
        commit: &'m Commit<'_>,
        delay_levels: usize,
    ) -> NewMessage<'m> {
        let level = self
            .delay_level
            .map(|level| level.min(delay_levels as i32).max(1));
        let (topic, queue_id) = match (level, commit.due_ms) {
            (Some(level), _) => (topic::SCHEDULE, level - 1),
            (None, Some(_)) => (topic::TIMER, 0),
            (None, None) => (self.real_topic, self.real_queue_id),
        };
        let properties = &commit.properties;
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
        let timed = self.is_timed.then_some(topic::TIMER);
        std::iter::once(self.real_topic).chain(delayed).chain(timed)
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
        let commit = half.commit_at(2_000);
        let message = half.committed(&commit, 18);
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
        let commit = half.commit_at(2_000);
        let message = half.committed(&commit, 18);
        assert_eq!((message.topic, message.queue_id), (topic::SCHEDULE, 17));
    }

    #[test]
    fn a_deliver_time_waits_among_the_timers_from_the_commit_on() {
        let due = |more: &[(&str, &str)]| {
            let bytes = half(more);
            let half = HalfRecord::of(decode(&bytes)).unwrap();
            let before = half.record.properties.len();
            let commit = half.commit_at(2_000);
            assert!(commit.properties.len() <= before + TIMED_BYTES);
            let message = half.committed(&commit, 18);
            let property = |name| names::get(message.properties, name).map(str::to_owned);
            let due = property(names::TIMER_OUT_MS);
            if message.topic == topic::TIMER {
                assert_eq!(
                    (message.queue_id, &due),
                    (0, &property(names::TIMER_DELIVER_MS))
                );
                assert_eq!(property(names::REAL_TOPIC).as_deref(), Some("T"));
                assert_eq!(property(names::REAL_QUEUE_ID).as_deref(), Some("3"));
                assert!(half.committed_topics().any(|topic| topic == topic::TIMER));
                assert!(half.is_committed_by(&Record {
                    sys_flag: message.sys_flag,
                    prepared_transaction_offset: message.prepared_transaction_offset,
                    ..half.record.clone()
                }));
            }
            (message.topic.to_owned(), due)
        };
        let timer = |due: &str| (topic::TIMER.to_owned(), Some(due.to_owned()));
        assert_eq!(due(&[("TIMER_DELAY_MS", "500")]), timer("2500"));
        assert_eq!(due(&[("TIMER_DELAY_SEC", "3")]), timer("5000"));
        assert_eq!(due(&[("TIMER_DELIVER_MS", "2001")]), timer("2001"));
        for over in ["2000", "0", "-5", "soon", "99999999999999999999"] {
            let at_once = ("T".to_owned(), None);
            assert_eq!(due(&[("TIMER_DELIVER_MS", over)]), at_once, "{over}");
        }
        let level = [("TIMER_DELAY_MS", "500"), ("DELAY", "3")];
        assert_eq!(due(&level), (topic::SCHEDULE.to_owned(), None));
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
