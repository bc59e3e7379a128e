//! Light queues (LMQ): a message that names some lies in queue 0 of each, beside the queue of its topic. The record is stored once.
//!
//! `INNER_MULTI_DISPATCH` names them; the broker answers with `INNER_MULTI_QUEUE_OFFSET`, the message's offset in each, in the same order.
//! Java 5.3.4: `LmqDispatch`, `MixAll.isLmq`, `MixAll.topicAllowsLMQ`.

use crate::record::{self, CheckBody};
use crate::{properties, topic};

/// What the name of every light queue begins with.
pub const PREFIX: &str = "%LMQ%";
/// The one queue that each has.
pub const QUEUE_ID: i32 = 0;
/// Between the names, and between the offsets.
const SEPARATOR: char = ',';
/// Longest name in bytes: it is that of a directory.
const NAME_BYTES_MAX: usize = 255;
/// What an offset and its separator take at most.
const OFFSET_BYTES_MAX: usize = 20;

/// Whether a topic or a group bears the name of a light queue.
pub fn is_light(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// Whether a light queue, or a group of its own, can have this name.
pub fn is_name(name: &str) -> bool {
    is_light(name)
        && (PREFIX.len() + 1..=NAME_BYTES_MAX).contains(&name.len())
        && !name
            .contains(|character: char| matches!(character, '/' | '\\') || character.is_control())
}

/// Whether messages stored in a topic go to light queues: not those that came back from a consumer, that wait, or whose transaction has not ended. When they
/// reach the topic that they were sent to, they do.
pub fn takes(name: &str) -> bool {
    let waits = name == topic::SCHEDULE
        || name == topic::TRANS_HALF
        || name == topic::TRANS_OP_HALF
        || name == topic::TRANS_CHECK_MAX_TIME
        || name.starts_with(topic::SYSTEM_PREFIX);
    !waits && !name.starts_with(topic::RETRY_PREFIX) && !name.starts_with(topic::DLQ_PREFIX)
}

/// The names in the value of `INNER_MULTI_DISPATCH`, as often as they stand there; none for a blank one, [`BadName`] when one cannot be that of a light queue.
pub fn names(list: &str) -> Result<impl Iterator<Item = &str>, BadName<'_>> {
    // As Java's `String.split`: what is empty at the end is nothing.
    let list = list.trim_end_matches(SEPARATOR);
    let names = || list.split(SEPARATOR).filter(|_| !list.trim().is_empty());
    match names().find(|name| !is_name(name)) {
        Some(name) => Err(BadName(name)),
        None => Ok(names()),
    }
}

/// No light queue can have this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadName<'a>(pub &'a str);

/// What the offsets of so many names take in the properties at most.
pub fn offsets_bytes_max(names: usize) -> usize {
    properties::INNER_MULTI_QUEUE_OFFSET.len() + 2 + names * OFFSET_BYTES_MAX
}

/// Appends the offsets to properties.
pub fn push_offsets(text: &mut String, offsets: impl Iterator<Item = u64>) {
    if !text.is_empty() && !text.ends_with(properties::PROPERTY_SEPARATOR) {
        text.push(properties::PROPERTY_SEPARATOR);
    }
    text.push_str(properties::INNER_MULTI_QUEUE_OFFSET);
    text.push(properties::NAME_VALUE_SEPARATOR);
    for (index, offset) in offsets.enumerate() {
        if index > 0 {
            text.push(SEPARATOR);
        }
        text.push_str(itoa::Buffer::new().format(offset));
    }
    text.push(properties::PROPERTY_SEPARATOR);
}

/// The light queues that a stored message lies in, with its offset in each, as often as they are named. Nothing when the two properties do not fit each other.
pub fn places<'a>(
    dispatch: &'a str,
    offsets: &'a str,
) -> impl Iterator<Item = (&'a str, u64)> + use<'a> {
    let fits = names(dispatch).is_ok_and(|names| names.count() == offsets.split(SEPARATOR).count());
    let list = if fits {
        dispatch.trim_end_matches(SEPARATOR)
    } else {
        ""
    };
    let names = list.split(SEPARATOR).filter(|name| !name.is_empty());
    names
        .zip(offsets.split(SEPARATOR))
        .filter_map(|(name, offset)| Some((name, offset.parse().ok()?)))
}

/// The offset of a stored message in a light queue, if it lies there.
pub fn offset_in(bytes: &[u8], name: &str) -> Option<u64> {
    let record = record::decode(bytes, CheckBody::No).ok()?;
    let dispatch = properties::get(record.properties, properties::INNER_MULTI_DISPATCH)?;
    let offsets = properties::get(record.properties, properties::INNER_MULTI_QUEUE_OFFSET)?;
    let found = places(dispatch, offsets).find(|(light, _)| *light == name);
    found.map(|(_, offset)| offset)
}

/// The offset of a stored message in the queue of `topic` that it was read from.
pub fn queue_offset(bytes: &[u8], topic: &str) -> Option<u64> {
    let of_light = if is_light(topic) {
        offset_in(bytes, topic)
    } else {
        None
    };
    of_light.or_else(|| record::peek_queue_offset(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(list: &str) -> Result<Vec<&str>, BadName<'_>> {
        Ok(names(list)?.collect())
    }

    #[test]
    fn names_are_those_of_light_queues() {
        assert_eq!(named("%LMQ%a,%LMQ%b,,"), Ok(vec!["%LMQ%a", "%LMQ%b"]));
        assert_eq!(named(" "), Ok(vec![]));
        assert_eq!(named(","), Ok(vec![]));
        for bad in ["%LMQ%", "a", "%LMQ%a/b", "%LMQ%\u{3}", "%LMQ%..\\x"] {
            assert_eq!(named(bad), Err(BadName(bad)));
        }
        assert_eq!(named("%LMQ%a,,%LMQ%b"), Err(BadName("")));
        let long = format!("{PREFIX}{}", "x".repeat(251));
        assert!(named(&long).is_err() && named(&long[1..]).is_err() && named(&long[..255]).is_ok());
    }

    #[test]
    fn places_are_names_and_offsets_that_fit_each_other() {
        let at = |names, offsets| places(names, offsets).collect::<Vec<_>>();
        assert_eq!(at("%LMQ%a,%LMQ%b", "3,0"), [("%LMQ%a", 3), ("%LMQ%b", 0)]);
        assert_eq!(at("%LMQ%a,%LMQ%b", "3"), []);
        assert_eq!(at("%LMQ%a,b", "3,4"), []);
        assert_eq!(at("%LMQ%a,%LMQ%b", "-1,4"), [("%LMQ%b", 4)]);
        assert_eq!(at("", ""), []);
    }

    #[test]
    fn messages_that_wait_or_came_back_go_to_no_light_queue() {
        for name in [
            "%RETRY%g",
            "%DLQ%g",
            "SCHEDULE_TOPIC_XXXX",
            "rmq_sys_wheel_timer",
            "RMQ_SYS_TRANS_HALF_TOPIC",
        ] {
            assert!(!takes(name), "{name}");
        }
        assert!(takes("T") && takes("%LMQ%x"));
    }
}
