//! The properties of a message on its way into the store: what they ask for, and what the broker adds.

use protocol::properties as names;

/// What one walk over the property string finds.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Scan<'a> {
    /// The id that the client gave the message.
    pub(crate) unique_id: Option<&'a str>,
    /// The message's keys.
    pub(crate) keys: Option<&'a str>,
    /// False when the client does not want to wait for the flush.
    pub(crate) wait: bool,
    /// The half of a transaction.
    pub(crate) transaction: bool,
    /// Names the group that knows how a transaction ended.
    pub(crate) producer_group: bool,
    /// Claims to be a batch inside one record.
    pub(crate) inner_batch: bool,
    /// Names of light queues.
    pub(crate) light: Option<&'a str>,
    delay: Option<&'a str>,
    timer_sec: Option<&'a str>,
    timer_ms: Option<&'a str>,
    timer_at: Option<&'a str>,
    timer_done: bool,
    /// An order to drop a timer message.
    pub(crate) drops_timer: bool,
    /// Holds a property that the broker sets itself.
    stale: bool,
}

/// A delay or a deliver time is no number.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotANumber;

/// Why a deliver time is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotATime {
    /// It is no number, or none that fits 64 bits.
    NotANumber,
    /// It is less than 0.
    Negative,
}

/// Walks over a property string once.
pub(crate) fn scan(properties: &str) -> Scan<'_> {
    let mut scan = Scan {
        wait: true,
        ..Scan::default()
    };
    for (name, value) in names::iter(properties) {
        scan.note(name, value);
    }
    scan
}

impl<'a> Scan<'a> {
    fn note(&mut self, name: &str, value: &'a str) {
        match name {
            names::UNIQ_KEY => self.unique_id = Some(value),
            names::KEYS => self.keys = Some(value),
            names::WAIT => self.wait = value.eq_ignore_ascii_case("true"),
            names::DELAY => self.delay = Some(value),
            names::TRANSACTION_PREPARED => self.transaction = value.eq_ignore_ascii_case("true"),
            names::PRODUCER_GROUP => self.producer_group = true,
            names::INNER_NUM => self.inner_batch = true,
            names::INNER_MULTI_DISPATCH => self.light = Some(value),
            names::TIMER_DELAY_SEC => self.timer_sec = Some(value),
            names::TIMER_DELAY_MS => self.timer_ms = Some(value),
            names::TIMER_DELIVER_MS => self.timer_at = Some(value),
            names::TIMER_OUT_MS => self.timer_done = true,
            names::TIMER_DEL_UNIQKEY => self.drops_timer = true,
            names::MSG_REGION | names::TRACE_SWITCH | names::CLUSTER | names::POP_CK => {
                self.stale = true
            }
            _ => {}
        }
    }

    /// Whether the message has keys that are more than blanks.
    pub(crate) fn has_keys(&self) -> bool {
        self.keys.is_some_and(|keys| !keys.trim().is_empty())
    }

    /// Whether the message is to be delivered later, by a delay level. A level that is no number counts as one, so
    /// that the message is not taken for a plain one.
    pub(crate) fn delayed(&self) -> bool {
        !matches!(self.delay_level(), Ok(None))
    }

    /// The level by which the message is to be delivered later; none for a level of 0 or less.
    pub(crate) fn delay_level(&self) -> Result<Option<i32>, NotANumber> {
        let Some(level) = self.delay else {
            return Ok(None);
        };
        let level = level.parse::<i32>().map_err(|_| NotANumber)?;
        Ok(Some(level).filter(|level| *level > 0))
    }

    /// Whether the message names a deliver time of its own.
    pub(crate) fn is_timed(&self) -> bool {
        self.timer_sec.or(self.timer_ms).or(self.timer_at).is_some()
    }

    /// When the message is to be delivered, if it names a time of its own that no delay level overrules. It may be over. Of several properties the first in this order
    /// counts: `TIMER_DELAY_SEC`, `TIMER_DELAY_MS`, `TIMER_DELIVER_MS`. Java 5.3: `HookUtils.transformTimerMessage`.
    pub(crate) fn deliver_at_ms(&self, now_ms: i64) -> Result<Option<i64>, NotATime> {
        if !self.is_timed() || self.timer_done || self.delayed() {
            return Ok(None);
        }
        let number = |text: &str| match text.parse::<i64>() {
            Ok(number) if number < 0 => Err(NotATime::Negative),
            Ok(number) => Ok(number),
            Err(_) => Err(NotATime::NotANumber),
        };
        let at = match (self.timer_sec, self.timer_ms, self.timer_at) {
            (Some(seconds), _, _) => now_ms.saturating_add(number(seconds)?.saturating_mul(1000)),
            (None, Some(ms), _) => now_ms.saturating_add(number(ms)?),
            (None, None, Some(at)) => number(at)?,
            (None, None, None) => return Ok(None),
        };
        Ok(Some(at))
    }
}

/// When a message reaches consumers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery<'a> {
    /// At once.
    Now,
    /// At once, in a dead-letter topic: it is not delayed again.
    DeadLetter,
    /// After the time of a level, in this queue.
    Later {
        /// From 1 to the last that there is.
        level: i32,
        /// The topic that it was sent to.
        topic: &'a str,
        /// The queue of that topic.
        queue_id: i32,
    },
    /// When its transaction is committed, in this queue.
    Half {
        /// The topic that it was sent to.
        topic: &'a str,
        /// The queue of that topic.
        queue_id: i32,
        /// Who will be asked how the transaction ended, when the properties do not say.
        group: Option<&'a str>,
    },
    /// At this time, in this queue.
    At {
        /// In milliseconds since 1970.
        due_ms: i64,
        /// The topic that it was sent to.
        topic: &'a str,
        /// The queue of that topic.
        queue_id: i32,
    },
}

impl Delivery<'_> {
    /// Whether a property is replaced, or means nothing any more. Java 5.3: `HookUtils.handleScheduleMessage`, which lets the level win over a
    /// deliver time.
    fn drops(self, name: &str) -> bool {
        match self {
            Delivery::Now => false,
            Delivery::DeadLetter => name == names::DELAY,
            Delivery::Later { .. } => matches!(
                name,
                names::DELAY
                    | names::REAL_TOPIC
                    | names::REAL_QUEUE_ID
                    | names::TIMER_DELIVER_MS
                    | names::TIMER_DELAY_SEC
                    | names::TIMER_DELAY_MS
            ),
            Delivery::Half { .. } => matches!(
                name,
                names::REAL_TOPIC
                    | names::REAL_QUEUE_ID
                    | names::TRANSACTION_ID
                    | names::TRANSACTION_CHECK_TIMES
                    | names::TRANSACTION_PREPARED_QUEUE_OFFSET
            ),
            Delivery::At { .. } => matches!(
                name,
                names::REAL_TOPIC
                    | names::REAL_QUEUE_ID
                    | names::TIMER_DELIVER_MS
                    | names::TIMER_OUT_MS
                    | names::TIMER_ROLL_TIMES
                    | names::TIMER_ENQUEUE_MS
                    | names::TIMER_DEQUEUE_MS
            ),
        }
    }

    /// Appends what it adds to the properties.
    fn push(self, text: &mut String) {
        match self {
            Delivery::Now => {}
            Delivery::DeadLetter => push(text, names::DELAY, "-1"),
            Delivery::Later {
                level,
                topic,
                queue_id,
            } => {
                push(text, names::DELAY, itoa::Buffer::new().format(level));
                push_destination(text, topic, queue_id);
            }
            Delivery::Half {
                topic,
                queue_id,
                group,
            } => {
                if let Some(group) = group {
                    push(text, names::PRODUCER_GROUP, group);
                }
                push_destination(text, topic, queue_id);
            }
            // The time as asked for, not the tick before it: a broker that reads both equal knows it to be exact.
            Delivery::At {
                due_ms,
                topic,
                queue_id,
            } => {
                let mut digits = itoa::Buffer::new();
                let due = digits.format(due_ms);
                push(text, names::TIMER_DELIVER_MS, due);
                push(text, names::TIMER_OUT_MS, due);
                push(text, names::REAL_TOPIC, topic);
                push(
                    text,
                    names::REAL_QUEUE_ID,
                    itoa::Buffer::new().format(queue_id),
                );
            }
        }
    }
}

/// Appends to `text` the properties as they are stored: the client's, then `added`, which replaces what the client
/// claimed of the same names, and a unique id when there is none. Gives the place of the unique id in `text`.
pub(crate) fn store(
    text: &mut String,
    properties: &str,
    scan: &Scan<'_>,
    delivery: Delivery<'_>,
    added: &str,
    new_unique_id: impl FnOnce() -> String,
) -> std::ops::Range<usize> {
    let start = text.len();
    let mut unique_at = None;
    if scan.stale || delivery != Delivery::Now {
        for (name, value) in names::iter(properties) {
            let dropped = matches!(
                name,
                names::MSG_REGION | names::TRACE_SWITCH | names::CLUSTER | names::POP_CK
            ) || delivery.drops(name);
            if !dropped {
                push(text, name, value);
            }
        }
        if let Some(unique_id) = scan.unique_id {
            unique_at = text[start..].rfind(unique_id).map(|at| start + at);
        }
        delivery.push(text);
    } else {
        text.push_str(properties);
        if !properties.is_empty() && !properties.ends_with(names::PROPERTY_SEPARATOR) {
            text.push(names::PROPERTY_SEPARATOR);
        }
        // The id is a slice of the properties, so its place is known without a search.
        unique_at = scan
            .unique_id
            .map(|unique_id| start + (unique_id.as_ptr() as usize - properties.as_ptr() as usize));
    }
    text.push_str(added);
    let unique_id = match (unique_at, scan.unique_id) {
        (Some(at), Some(unique_id)) => at..at + unique_id.len(),
        _ => {
            let unique_id = new_unique_id();
            push(text, names::UNIQ_KEY, &unique_id);
            let end = text.len() - 1;
            end - unique_id.len()..end
        }
    };
    if matches!(delivery, Delivery::Half { .. }) {
        let id = text[unique_id.clone()].to_owned();
        push(text, names::TRANSACTION_ID, &id);
    }
    unique_id
}

/// Where the message goes when it is delivered.
fn push_destination(text: &mut String, topic: &str, queue_id: i32) {
    push(text, names::REAL_TOPIC, topic);
    let mut number = itoa::Buffer::new();
    push(text, names::REAL_QUEUE_ID, number.format(queue_id));
}

fn push(text: &mut String, name: &str, value: &str) {
    text.push_str(name);
    text.push(names::NAME_VALUE_SEPARATOR);
    text.push_str(value);
    text.push(names::PROPERTY_SEPARATOR);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDED: &str = "MSG_REGION\u{1}R\u{2}CLUSTER\u{1}C\u{2}";

    fn stored(properties: &str, delivery: Delivery<'_>) -> (String, String) {
        let mut text = "before".to_owned();
        let scan = scan(properties);
        let unique = store(&mut text, properties, &scan, delivery, ADDED, || {
            "NEW".to_owned()
        });
        let unique = text[unique].to_owned();
        (
            text["before".len()..]
                .replace('\u{1}', "=")
                .replace('\u{2}', ";"),
            unique,
        )
    }

    fn of(text: &str) -> String {
        text.replace('=', "\u{1}").replace(';', "\u{2}")
    }

    #[test]
    fn the_brokers_properties_follow_the_clients() {
        assert_eq!(
            stored(&of("TAGS=a;UNIQ_KEY=U1;"), Delivery::Now),
            (
                "TAGS=a;UNIQ_KEY=U1;MSG_REGION=R;CLUSTER=C;".into(),
                "U1".into()
            )
        );
        assert_eq!(
            stored(&of("UNIQ_KEY=U1;TAGS=a"), Delivery::Now),
            (
                "UNIQ_KEY=U1;TAGS=a;MSG_REGION=R;CLUSTER=C;".into(),
                "U1".into()
            )
        );
        assert_eq!(
            stored("", Delivery::Now),
            ("MSG_REGION=R;CLUSTER=C;UNIQ_KEY=NEW;".into(), "NEW".into())
        );
    }

    #[test]
    fn what_the_client_claims_in_the_brokers_name_is_replaced() {
        assert_eq!(
            stored(
                &of("CLUSTER=other;POP_CK=1 2 3;UNIQ_KEY=U1;k=v;"),
                Delivery::Now
            ),
            (
                "UNIQ_KEY=U1;k=v;MSG_REGION=R;CLUSTER=C;".into(),
                "U1".into()
            )
        );
    }

    #[test]
    fn a_dead_letter_is_not_delayed_again() {
        assert_eq!(
            stored(&of("DELAY=3;UNIQ_KEY=U1;"), Delivery::DeadLetter),
            (
                "UNIQ_KEY=U1;DELAY=-1;MSG_REGION=R;CLUSTER=C;".into(),
                "U1".into()
            )
        );
    }

    #[test]
    fn a_delayed_message_keeps_where_it_goes_and_nothing_that_contradicts() {
        let later = Delivery::Later {
            level: 18,
            topic: "T",
            queue_id: 3,
        };
        let claimed = of("REAL_TOPIC=x;REAL_QID=9;UNIQ_KEY=U1;DELAY=99;TIMER_DELIVER_MS=5;k=v;");
        assert_eq!(
            stored(&claimed, later),
            (
                "UNIQ_KEY=U1;k=v;DELAY=18;REAL_TOPIC=T;REAL_QID=3;MSG_REGION=R;CLUSTER=C;".into(),
                "U1".into()
            )
        );
    }

    #[test]
    fn a_half_keeps_where_it_goes_and_whom_to_ask() {
        let half = |group| Delivery::Half {
            topic: "T",
            queue_id: 3,
            group,
        };
        let claimed =
            of("REAL_TOPIC=x;TRANSACTION_CHECK_TIMES=99;UNIQ_KEY=U1;TRAN_MSG=true;PGROUP=g;");
        assert_eq!(
            stored(&claimed, half(None)),
            (
                "UNIQ_KEY=U1;TRAN_MSG=true;PGROUP=g;REAL_TOPIC=T;REAL_QID=3;MSG_REGION=R;CLUSTER=C;__transactionId__=U1;".into(),
                "U1".into()
            )
        );
        assert_eq!(
            stored(&of("TRAN_MSG=true;"), half(Some("g"))),
            (
                "TRAN_MSG=true;PGROUP=g;REAL_TOPIC=T;REAL_QID=3;MSG_REGION=R;CLUSTER=C;UNIQ_KEY=NEW;__transactionId__=NEW;".into(),
                "NEW".into()
            )
        );
    }

    #[test]
    fn one_walk_finds_what_matters() {
        let text = of("KEYS=a b;WAIT=false;TRAN_MSG=true;DELAY=3;novalue=;UNIQ_KEY=U");
        let found = scan(&text);
        assert_eq!((found.keys, found.unique_id), (Some("a b"), Some("U")));
        assert!(!found.wait && found.transaction && found.delayed() && !found.stale);
        assert_eq!(found.delay_level(), Ok(Some(3)));
        assert_eq!(
            scan(&of("DELAY=99999999999;")).delay_level(),
            Err(NotANumber)
        );
        assert_eq!(scan(&of("DELAY=-4;")).delay_level(), Ok(None));
        let plain = of("DELAY=0;WAIT=true;MY_CLUSTER=x;");
        let plain = scan(&plain);
        assert!(plain.wait && !plain.delayed() && !plain.stale && !plain.transaction);
    }

    #[test]
    fn a_timer_message_keeps_when_and_where_it_goes() {
        let at = Delivery::At {
            due_ms: 1_700_000_000_123,
            topic: "T",
            queue_id: 3,
        };
        let claimed = of(
            "TIMER_DELAY_MS=5;TIMER_DELIVER_MS=9;REAL_TOPIC=x;UNIQ_KEY=U1;TIMER_ROLL_TIMES=4;k=v;",
        );
        let want = "TIMER_DELAY_MS=5;UNIQ_KEY=U1;k=v;TIMER_DELIVER_MS=1700000000123;TIMER_OUT_MS=1700000000123;\
                    REAL_TOPIC=T;REAL_QID=3;MSG_REGION=R;CLUSTER=C;";
        assert_eq!(stored(&claimed, at), (want.into(), "U1".into()));
    }

    #[test]
    fn a_deliver_time_is_a_number_that_is_not_negative() {
        let at = |properties: &str| scan(&of(properties)).deliver_at_ms(1_000);
        assert_eq!(at("TIMER_DELIVER_MS=2000;"), Ok(Some(2_000)));
        assert_eq!(at("TIMER_DELIVER_MS=999;"), Ok(Some(999)));
        assert_eq!(at("TIMER_DELAY_SEC=2;"), Ok(Some(3_000)));
        assert_eq!(at("TIMER_DELAY_MS=5;"), Ok(Some(1_005)));
        assert_eq!(
            at("TIMER_DELIVER_MS=9;TIMER_DELAY_MS=5;TIMER_DELAY_SEC=1;"),
            Ok(Some(2_000))
        );
        assert_eq!(
            at("TIMER_DELAY_SEC=9223372036854775807;"),
            Ok(Some(i64::MAX))
        );
        assert_eq!(at("TIMER_DELAY_MS=soon;"), Err(NotATime::NotANumber));
        assert_eq!(
            at("TIMER_DELAY_MS=9223372036854775808;"),
            Err(NotATime::NotANumber)
        );
        assert_eq!(at("TIMER_DELIVER_MS=-1;"), Err(NotATime::Negative));
        assert_eq!(at("TIMER_DELAY_SEC=-1;"), Err(NotATime::Negative));
        assert_eq!(at("TIMER_DELAY_SEC=2;DELAY=3;"), Ok(None), "a level wins");
        assert_eq!(
            at("TIMER_DELAY_SEC=2;TIMER_OUT_MS=3;"),
            Ok(None),
            "it was delivered"
        );
        assert_eq!(at("TAGS=a;"), Ok(None));
    }
}
