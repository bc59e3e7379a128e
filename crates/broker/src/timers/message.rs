//! What a record of the timer topic says, and what becomes of it: a message of its real topic, or the same again behind the log's end.

use bytes::Bytes;
use protocol::properties::{self as names, Properties};
use protocol::record::{self, CheckBody, Record};
use protocol::topic;
use storage::NewMessage;

use super::entry::key_hash;

/// Room that a checksum of the record may need in the properties.
const CHECKSUM_ROOM: usize = record::CHECKSUM_PROPERTY_BYTES + 1;

/// A record of the timer topic, understood.
#[derive(Debug)]
pub(super) struct Timed<'a> {
    pub(super) record: Record<'a>,
    pub(super) due_ms: i64,
    /// The topic that the message was sent to, and is delivered to.
    pub(super) topic: &'a str,
    /// The unique id of the message; of an order to drop one, that message's.
    pub(super) unique_id: &'a str,
    /// An order to drop a message.
    pub(super) deletes: bool,
    /// Stands for an earlier record of the same message.
    pub(super) rolled: bool,
}

/// Why a record cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct NotTimed(&'static str);

/// Reads a record. `precision_ms` is the `timerPrecisionMs` of the Java broker that may have stored it.
pub(super) fn understand(bytes: &[u8], precision_ms: i64) -> Result<Timed<'_>, NotTimed> {
    let record = record::decode(bytes, CheckBody::No).map_err(|_| NotTimed("it is no record"))?;
    if record.topic != topic::TIMER {
        return Err(NotTimed("it is a record of another topic"));
    }
    let found = Found::of(record.properties);
    let due_ms = found.due_ms(record.store_timestamp_ms, precision_ms);
    let due_ms = due_ms.ok_or(NotTimed(
        "its property TIMER_OUT_MS is missing or no number",
    ))?;
    let topic = found.real_topic.unwrap_or_default();
    if topic.is_empty() || topic == topic::TRANS_HALF || topic == topic::TIMER {
        return Err(NotTimed("it names no topic to deliver to"));
    }
    let own = topic.len() + 1;
    let unique_id = match found.deletes {
        // Java 5.3.3: the id behind `topic+`; earlier versions took the id alone.
        Some(key) if key.starts_with(topic) && key[topic.len()..].starts_with('+') => &key[own..],
        Some(key) => key,
        None => found.unique_id.unwrap_or_default(),
    };
    Ok(Timed {
        due_ms,
        topic,
        unique_id,
        deletes: found.deletes.is_some(),
        rolled: found.rolled,
        record,
    })
}

#[derive(Default)]
struct Found<'a> {
    out: Option<&'a str>,
    at: Option<&'a str>,
    delay_ms: Option<&'a str>,
    delay_sec: Option<&'a str>,
    real_topic: Option<&'a str>,
    unique_id: Option<&'a str>,
    deletes: Option<&'a str>,
    rolled: bool,
}

impl<'a> Found<'a> {
    fn of(properties: &'a str) -> Found<'a> {
        let mut found = Found::default();
        for (name, value) in names::iter(properties) {
            match name {
                names::TIMER_OUT_MS => found.out = Some(value),
                names::TIMER_DELIVER_MS => found.at = Some(value),
                names::TIMER_DELAY_MS => found.delay_ms = Some(value),
                names::TIMER_DELAY_SEC => found.delay_sec = Some(value),
                names::TIMER_DEL_UNIQKEY => found.deletes = Some(value),
                names::TIMER_ROLL_TIMES => found.rolled = true,
                names::REAL_TOPIC => found.real_topic = Some(value),
                names::UNIQ_KEY => found.unique_id = Some(value),
                _ => {}
            }
        }
        found
    }

    /// When the message was asked for. `TIMER_OUT_MS` is that time here; a Java broker stores the tick before it, so the time lies up to one tick
    /// later, and the other properties say where. Never early: what they do not say is the end of the tick. Java 5.3: `HookUtils.transformTimerMessage`.
    fn due_ms(&self, stored_ms: i64, precision_ms: i64) -> Option<i64> {
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
        let out = number(self.out)?;
        let at = number(self.at);
        if at == Some(out) {
            return at;
        }
        let is_tick = precision_ms > 0 && out % precision_ms == 0;
        let latest = if is_tick {
            out.saturating_add(precision_ms)
        } else {
            out
        };
        let after = |delay: i64, unit: i64| stored_ms.saturating_add(delay.saturating_mul(unit));
        let asked = number(self.delay_sec).map(|delay| after(delay, 1000));
        let asked = asked.or_else(|| number(self.delay_ms).map(|delay| after(delay, 1)));
        // One that lies at another place than the tick says was not what counted.
        let asked = at.filter(|at| (out..=latest).contains(at)).or(asked);
        Some(
            asked
                .filter(|asked| *asked > out)
                .map_or(latest, |asked| asked.min(latest)),
        )
    }
}

impl Timed<'_> {
    pub(super) fn hash(&self) -> u64 {
        key_hash(self.topic, self.unique_id)
    }

    pub(super) fn complain(&self, reason: &str) {
        tracing::error!(
            topic = self.topic,
            message = self.unique_id,
            queue_offset = self.record.queue_offset,
            physical = self.record.physical_offset,
            reason,
            "a timer message cannot be delivered and is passed over; its record stays in the log"
        );
    }
}

/// A message that is about to be appended.
pub(super) struct Outgoing<'a> {
    pub(super) timed: Timed<'a>,
    topic: &'a str,
    queue_id: i32,
    properties: String,
}

impl<'a> Outgoing<'a> {
    /// The message for its real topic. Java 5.3: `TimerMessageStore.convert`: where it was to go is dropped, everything else stays.
    pub(super) fn delivered(timed: Timed<'a>, now_ms: i64) -> Result<Outgoing<'a>, NotTimed> {
        let properties = timed.record.properties;
        let queue_id = names::get(properties, names::REAL_QUEUE_ID)
            .and_then(|text| text.parse::<i32>().ok())
            .filter(|queue_id| *queue_id >= 0)
            .ok_or(NotTimed("it names no queue to deliver to"))?;
        let kept = |name: &str| {
            !matches!(
                name,
                names::REAL_TOPIC
                    | names::REAL_QUEUE_ID
                    | names::CRC32
                    | names::TIMER_ENQUEUE_MS
                    | names::TIMER_DEQUEUE_MS
            )
        };
        let stored_ms = timed.record.store_timestamp_ms.to_string();
        let added = [
            (names::TIMER_ENQUEUE_MS, stored_ms),
            (names::TIMER_DEQUEUE_MS, now_ms.to_string()),
        ];
        Ok(Outgoing {
            topic: timed.topic,
            queue_id,
            properties: rewritten(properties, kept, &added),
            timed,
        })
    }

    /// The same message once more, with its time written out, for it may be far from where a Java broker noted it.
    pub(super) fn rolled(timed: Timed<'a>) -> Outgoing<'a> {
        let properties = timed.record.properties;
        let times = names::get(properties, names::TIMER_ROLL_TIMES);
        let times = times.and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
        let mut added = vec![(names::TIMER_ROLL_TIMES, times.saturating_add(1).to_string())];
        if !timed.deletes {
            added.push((names::TIMER_DELIVER_MS, timed.due_ms.to_string()));
        }
        let kept =
            |name: &str| name != names::CRC32 && !added.iter().any(|(other, _)| name == *other);
        Outgoing {
            topic: topic::TIMER,
            queue_id: timed.record.queue_id,
            properties: rewritten(properties, kept, &added),
            timed,
        }
    }

    pub(super) fn message(&self) -> NewMessage<'_> {
        let record = &self.timed.record;
        NewMessage {
            topic: self.topic,
            queue_id: self.queue_id,
            flag: record.flag,
            sys_flag: record.sys_flag,
            born_timestamp_ms: record.born_timestamp_ms,
            born_host: record.born_host,
            store_host: record.store_host,
            reconsume_times: record.reconsume_times,
            // Says of which half the message is, if it is the message of a transaction.
            prepared_transaction_offset: record.prepared_transaction_offset,
            body: record.body,
            properties: &self.properties,
        }
    }
}

/// Properties without some and with others. Where there is no room for the others they are left out: the message counts more.
fn rewritten(properties: &str, kept: impl Fn(&str) -> bool, added: &[(&str, String)]) -> String {
    let mut text = String::with_capacity(properties.len() + 96);
    let rest = names::iter(properties).filter(|(name, _)| kept(name));
    rest.for_each(|(name, value)| names::push(&mut text, name, value));
    let without = text.len();
    added
        .iter()
        .for_each(|(name, value)| names::push(&mut text, name, value));
    if text.len() > names::BYTES_MAX - CHECKSUM_ROOM {
        text.truncate(without);
    }
    text
}

/// The order to drop a message, as a Java broker stores it too. Java 5.3: `RecallMessageProcessor.buildMessage`.
pub(super) struct Recall<'a> {
    pub(super) topic: &'a str,
    pub(super) unique_id: &'a str,
    pub(super) producer_group: &'a str,
    /// When the message is due: the order stands in the same tick.
    pub(super) due_ms: i64,
    pub(super) now_ms: i64,
}

impl Recall<'_> {
    pub(super) fn properties(&self) -> String {
        let mut properties = Properties::new();
        properties.insert(names::TAGS, "_RECALL_TAG_");
        let key = format!("{}+{}", self.topic, self.unique_id);
        properties.insert(names::TIMER_DEL_UNIQKEY, key);
        properties.insert(names::UNIQ_KEY, self.unique_id);
        properties.insert(names::TIMER_DELIVER_MS, self.due_ms.to_string());
        properties.insert(names::BORN_TIMESTAMP, self.now_ms.to_string());
        if !self.producer_group.is_empty() {
            properties.insert(names::PRODUCER_GROUP, self.producer_group);
        }
        properties.insert(names::TIMER_OUT_MS, self.due_ms.to_string());
        properties.insert(names::REAL_TOPIC, self.topic);
        properties.insert(names::REAL_QUEUE_ID, "0");
        properties.encode()
    }
}

/// The bytes as they are logged when they cannot be understood.
pub(super) fn complain_of(bytes: &Bytes, error: NotTimed) {
    tracing::error!(
        physical = record::peek_physical_offset(bytes),
        queue_offset = record::peek_queue_offset(bytes),
        %error,
        "a record of the timer topic cannot be understood and is passed over; it stays in the log"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(pairs: &[(&str, &str)], stored_ms: i64) -> Option<i64> {
        let mut text = String::new();
        pairs
            .iter()
            .for_each(|(name, value)| names::push(&mut text, name, value));
        Found::of(&text).due_ms(stored_ms, 1000)
    }

    #[test]
    fn a_time_is_exact_here_and_within_its_tick_from_java() {
        let out = names::TIMER_OUT_MS;
        let at = names::TIMER_DELIVER_MS;
        assert_eq!(due(&[(out, "5000"), (at, "5000")], 0), Some(5000));
        assert_eq!(due(&[(out, "5123"), (at, "5123")], 0), Some(5123));
        assert_eq!(
            due(&[(out, "5000"), (at, "5321")], 0),
            Some(5321),
            "Java, a time within the tick"
        );
        assert_eq!(
            due(&[(out, "5000"), (at, "6000")], 0),
            Some(6000),
            "Java, a time on a tick"
        );
        assert_eq!(
            due(&[(out, "5000"), (names::TIMER_DELAY_SEC, "3")], 2_400),
            Some(5_400)
        );
        assert_eq!(
            due(&[(out, "5000"), (names::TIMER_DELAY_MS, "3000")], 2_400),
            Some(5_400)
        );
        assert_eq!(
            due(&[(out, "5000"), (names::TIMER_DELAY_MS, "3000")], 9_000),
            Some(6_000),
            "stored late"
        );
        assert_eq!(due(&[(out, "5000")], 0), Some(6000));
        assert_eq!(
            due(&[(out, "5000"), (at, "99999")], 0),
            Some(6000),
            "of another time"
        );
        assert_eq!(due(&[(out, "x"), (at, "5")], 0), None);
        assert_eq!(due(&[(at, "5")], 0), None);
        assert_eq!(due(&[(out, "9223372036854775000")], 0), Some(i64::MAX));
    }

    #[test]
    fn properties_that_leave_no_room_keep_the_message() {
        let mut properties = String::new();
        let long = "x".repeat(names::BYTES_MAX - 40);
        names::push(&mut properties, "long", &long);
        let text = rewritten(&properties, |_| true, &[("ADDED", "y".repeat(50))]);
        assert_eq!(text, properties);
        let text = rewritten("a\u{1}b\u{2}", |name| name != "a", &[("c", "d".to_owned())]);
        assert_eq!(text, "c\u{1}d\u{2}");
    }
}
