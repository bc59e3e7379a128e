//! What a pop hands out besides messages: receipt handles, and the lists of offsets from which clients make them.
//!
//! ```text
//! handle          start popTime invisibleTime reviveQueue retry broker queue [offset [commitLogOffset]]
//! startOffsetInfo retry queue start;…
//! msgOffsetInfo   retry queue offset,offset,…;…
//! orderCountInfo  retry queue count;…    and    retry qo<queue>%<offset> count;…
//! ```
//! Times are ms, the fields of an entry are separated by one space. Source: Java 5.3.4: `ExtraInfoUtil`.

use std::fmt;
use std::fmt::Write as _;

use thiserror::Error;

use crate::topic;

/// The "revive queue" in handles of messages that were popped in order. Java 5.3.4: `KeyBuilder.POP_ORDER_REVIVE_QUEUE`.
pub const ORDER_REVIVE_QUEUE: i32 = 999;
/// Messages of one pop at most. Java 5.3.4: `PopMessageProcessor`.
pub const MESSAGES_MAX: i32 = 32;
/// Longer handles are not looked at. A broker's name takes most of one.
const HANDLE_BYTES_MAX: usize = 1024;

/// Which topic a popped message lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The topic itself.
    Topic,
    /// The group's retry topic for it, first form of the name.
    RetryV1,
    /// The same, second form.
    RetryV2,
}

impl Origin {
    /// Where the messages of `topic` come from.
    pub fn of(topic: &str) -> Origin {
        match topic.strip_prefix(topic::RETRY_PREFIX) {
            None => Origin::Topic,
            Some(rest) if rest.contains('+') => Origin::RetryV2,
            Some(_) => Origin::RetryV1,
        }
    }

    /// As handles and lists write it.
    pub fn mark(self) -> &'static str {
        match self {
            Origin::Topic => "0",
            Origin::RetryV1 => "1",
            Origin::RetryV2 => "2",
        }
    }

    /// What a mark stands for.
    pub fn from_mark(mark: &str) -> Option<Origin> {
        match mark {
            "0" => Some(Origin::Topic),
            "1" => Some(Origin::RetryV1),
            "2" => Some(Origin::RetryV2),
            _ => None,
        }
    }

    /// The topic that a message lies in which a group popped from `topic`.
    pub fn real_topic(self, group: &str, topic: &str) -> String {
        match self {
            Origin::Topic => topic.to_owned(),
            Origin::RetryV1 => topic::pop_retry_topic_v1(group, topic),
            Origin::RetryV2 => topic::pop_retry_topic_v2(group, topic),
        }
    }
}

/// A receipt handle, `extraInfo` or `POP_CK` on the wire: which delivery of a message is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handle<'a> {
    /// Where the pop began in the queue.
    pub start_offset: i64,
    /// When it was popped, ms since 1970 by the broker's clock.
    pub popped_ms: i64,
    /// How long it is invisible from then on, in ms.
    pub invisible_ms: i64,
    /// A number that Java brokers need; [`ORDER_REVIVE_QUEUE`] marks consumption in order.
    pub revive_queue: i32,
    /// The topic that the message lies in.
    pub origin: Origin,
    /// The broker.
    pub broker_name: &'a str,
    /// The queue.
    pub queue_id: i32,
    /// The message's offset, which the shorter form leaves out.
    pub offset: Option<i64>,
}

/// A text is no receipt handle.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HandleError {
    /// It has too few fields, or far too many bytes.
    #[error("a receipt handle has 7 to 9 fields separated by spaces")]
    Fields,
    /// A field is no number, or one out of range.
    #[error("the field {0} of the receipt handle is not what it should be")]
    Field(&'static str),
}

impl<'a> Handle<'a> {
    /// Reads a handle.
    ///
    /// # Errors
    /// When a field is missing or malformed. Fields behind the last one are passed over, as in Java.
    pub fn parse(text: &'a str) -> Result<Handle<'a>, HandleError> {
        if text.len() > HANDLE_BYTES_MAX {
            return Err(HandleError::Fields);
        }
        let mut fields = text.split(' ');
        let mut next = || fields.next().ok_or(HandleError::Fields);
        let handle = Handle {
            start_offset: number(next()?, "start offset")?,
            popped_ms: number(next()?, "pop time")?,
            invisible_ms: number(next()?, "invisible time")?,
            revive_queue: number(next()?, "revive queue")?,
            origin: Origin::from_mark(next()?).ok_or(HandleError::Field("retry"))?,
            broker_name: next()?,
            queue_id: number(next()?, "queue")?,
            offset: None,
        };
        match fields.next() {
            None => Ok(handle),
            Some(offset) => Ok(Handle {
                offset: Some(number(offset, "offset")?),
                ..handle
            }),
        }
    }

    /// Whether the message was popped in order.
    pub fn is_order(&self) -> bool {
        self.revive_queue == ORDER_REVIVE_QUEUE
    }
}

impl fmt::Display for Handle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} {} {} {} {}",
            self.start_offset,
            self.popped_ms,
            self.invisible_ms,
            self.revive_queue,
            self.origin.mark(),
            self.broker_name,
            self.queue_id
        )?;
        match self.offset {
            Some(offset) => write!(f, " {offset}"),
            None => Ok(()),
        }
    }
}

fn number<T: std::str::FromStr>(text: &str, field: &'static str) -> Result<T, HandleError> {
    text.parse().map_err(|_| HandleError::Field(field))
}

/// The lists of a pop's answer, as they grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetLists {
    /// `startOffsetInfo`
    pub start: String,
    /// `msgOffsetInfo`
    pub messages: String,
    /// `orderCountInfo`
    pub order_counts: String,
}

impl OffsetLists {
    /// Takes note of what was popped from one queue.
    pub fn push(&mut self, origin: Origin, queue_id: i32, start: i64, offsets: &[i64]) {
        let mark = origin.mark();
        begin(&mut self.start);
        // Writing to a `String` cannot fail.
        let _ = write!(self.start, "{mark} {queue_id} {start}");
        begin(&mut self.messages);
        let _ = write!(self.messages, "{mark} {queue_id} ");
        for (index, offset) in offsets.iter().enumerate() {
            if index > 0 {
                self.messages.push(',');
            }
            let _ = write!(self.messages, "{offset}");
        }
    }

    /// Takes note of how often messages of one queue were delivered before; the least of them stands for the queue, for old clients.
    pub fn push_counts(&mut self, origin: Origin, queue_id: i32, counts: &[(i64, u32)]) {
        let mark = origin.mark();
        for (offset, count) in counts.iter().filter(|(_, count)| *count > 0) {
            begin(&mut self.order_counts);
            let _ = write!(self.order_counts, "{mark} qo{queue_id}%{offset} {count}");
        }
        let least = counts.iter().map(|(_, count)| *count).min().unwrap_or(0);
        begin(&mut self.order_counts);
        let _ = write!(self.order_counts, "{mark} {queue_id} {least}");
    }
}

fn begin(list: &mut String) {
    if !list.is_empty() {
        list.push(';');
    }
}

/// Where a pop began in a queue, out of `startOffsetInfo`.
pub fn start_of(start_offset_info: &str, origin: Origin, queue_id: i32) -> Option<i64> {
    entries(start_offset_info)
        .find(|(mark, queue, _)| *mark == origin.mark() && queue.parse() == Ok(queue_id))
        .and_then(|(_, _, start)| start.parse().ok())
}

/// How often a message was delivered before, out of `orderCountInfo`; 0 when that does not say.
pub fn count_of(order_count_info: &str, origin: Origin, queue_id: i32, offset: i64) -> i32 {
    let of = |wanted: &str| {
        entries(order_count_info)
            .find(|(mark, key, _)| *mark == origin.mark() && *key == wanted)
            .and_then(|(_, _, count)| count.parse().ok())
    };
    of(&format!("qo{queue_id}%{offset}"))
        .or_else(|| of(&queue_id.to_string()))
        .unwrap_or(0)
}

fn entries(list: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    list.split(';').filter_map(|entry| {
        let mut fields = entry.splitn(3, ' ');
        Some((fields.next()?, fields.next()?, fields.next()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_read_as_it_was_written() {
        for text in [
            "5 1700000000000 60000 3 0 broker-a 2 7",
            "5 1700000000000 60000 999 1 broker-a 2",
        ] {
            assert_eq!(Handle::parse(text).unwrap().to_string(), text);
        }
        let with_position = Handle::parse("5 1 2 3 2 b 4 6 123").unwrap();
        assert_eq!(
            (with_position.offset, with_position.origin),
            (Some(6), Origin::RetryV2)
        );
        assert!(Handle::parse("5 1 2 999 0 b 4").unwrap().is_order());
    }

    #[test]
    fn what_is_no_handle_is_refused() {
        let long = "1 ".repeat(HANDLE_BYTES_MAX);
        for text in [
            "",
            " ",
            "1 2 3 4 0 b",
            "x 1 2 3 0 b 4",
            "1 1 2 99999999999 0 b 4",
            "1 1 2 3 7 b 4",
            "1 1 2 3 0 b 4 x",
            "99999999999999999999 1 2 3 0 b 4",
            "1  1 2 3 0 b 4",
            &long,
        ] {
            assert!(Handle::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lists_are_javas() {
        let mut lists = OffsetLists::default();
        lists.push(Origin::RetryV1, 0, 3, &[4]);
        lists.push(Origin::Topic, 2, 10, &[10, 11, 13]);
        assert_eq!(lists.start, "1 0 3;0 2 10");
        assert_eq!(lists.messages, "1 0 4;0 2 10,11,13");
        lists.push_counts(Origin::Topic, 2, &[(10, 2), (11, 0)]);
        assert_eq!(lists.order_counts, "0 qo2%10 2;0 2 0");
        assert_eq!(start_of(&lists.start, Origin::Topic, 2), Some(10));
        assert_eq!(start_of(&lists.start, Origin::Topic, 0), None);
        assert_eq!(count_of(&lists.order_counts, Origin::Topic, 2, 10), 2);
        assert_eq!(count_of(&lists.order_counts, Origin::Topic, 2, 11), 0);
        assert_eq!(count_of("", Origin::Topic, 2, 11), 0);
    }

    #[test]
    fn topics_tell_where_their_messages_come_from() {
        assert_eq!(Origin::of("t"), Origin::Topic);
        for origin in [Origin::Topic, Origin::RetryV1, Origin::RetryV2] {
            assert_eq!(Origin::of(&origin.real_topic("g", "t")), origin);
            assert_eq!(Origin::from_mark(origin.mark()), Some(origin));
        }
    }
}
