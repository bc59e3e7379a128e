//! What a message means for the files behind the log: which queue entry and which index entries it gets.
//!
//! Append and recovery both ask here, so that what is rebuilt from the log equals what was written.

use protocol::{light, properties, sysflag, tags, topic};

use crate::schedule::DelayLevels;

/// The third field of a queue entry, before the store timestamp is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TagsCode {
    /// Hash of the tag, 0 without one.
    Fixed(i64),
    /// A scheduled message: the time of delivery, this long after it was stored.
    DelayMs(i64),
}

impl TagsCode {
    pub(crate) fn value(self, store_timestamp_ms: i64) -> i64 {
        match self {
            TagsCode::Fixed(code) => code,
            TagsCode::DelayMs(delay_ms) => store_timestamp_ms.saturating_add(delay_ms),
        }
    }
}

/// Whether the message gets an entry in its queue: prepared and rolled back ones do not (Java: CommitLogDispatcherBuildConsumeQueue).
pub(crate) fn is_queued(sys_flag: i32) -> bool {
    let transaction = sys_flag & sysflag::TRANSACTION_MASK;
    transaction != sysflag::TRANSACTION_PREPARED && transaction != sysflag::TRANSACTION_ROLLBACK
}

/// Whether the message is indexed: only rolled back ones are not (Java: IndexService.buildIndex).
pub(crate) fn is_indexed(sys_flag: i32) -> bool {
    sys_flag & sysflag::TRANSACTION_MASK != sysflag::TRANSACTION_ROLLBACK
}

/// Whether a topic can name a directory, as it must in `consumequeue`.
pub(crate) fn is_directory_name(topic: &str) -> bool {
    !topic.is_empty() && !topic.contains(['/', '\\', '\0']) && topic != "." && topic != ".."
}

/// The properties that the files behind the log are made of, found in one pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Facts<'a> {
    pub(crate) tags: Option<&'a str>,
    pub(crate) keys: Option<&'a str>,
    pub(crate) unique_key: Option<&'a str>,
    pub(crate) delay: Option<&'a str>,
    /// Names of light queues.
    pub(crate) light: Option<&'a str>,
    /// The offsets in them.
    pub(crate) light_offsets: Option<&'a str>,
}

impl<'a> Facts<'a> {
    /// When a property stands twice the last one counts, as in the map that Java reads them into.
    pub(crate) fn of(text: &'a str) -> Facts<'a> {
        let mut facts = Facts::default();
        for (name, value) in properties::iter(text) {
            match name {
                properties::TAGS => facts.tags = Some(value),
                properties::KEYS => facts.keys = Some(value),
                properties::UNIQ_KEY => facts.unique_key = Some(value),
                properties::DELAY => facts.delay = Some(value),
                properties::INNER_MULTI_DISPATCH => facts.light = Some(value),
                properties::INNER_MULTI_QUEUE_OFFSET => facts.light_offsets = Some(value),
                _ => {}
            }
        }
        facts
    }

    /// Whether the message has to do with light queues.
    pub(crate) fn is_light(&self) -> bool {
        self.light.or(self.light_offsets).is_some()
    }

    /// The light queues that a stored message lies in, with its offset in each. They are named after the record was laid out: both properties stand there.
    pub(crate) fn light_places(&self, topic: &str) -> impl Iterator<Item = (&'a str, u64)> {
        let both = self.light.zip(self.light_offsets);
        let both = both.filter(|_| light::takes(topic));
        let (names, offsets) = both.unwrap_or_default();
        light::places(names, offsets)
    }

    pub(crate) fn tags_code(&self, topic_name: &str, levels: &DelayLevels) -> TagsCode {
        if topic_name == topic::SCHEDULE
            && let Some(delay_ms) = self.delay.and_then(|level| levels.delay_ms(level))
        {
            return TagsCode::DelayMs(delay_ms);
        }
        TagsCode::Fixed(match self.tags {
            Some(tag) => tags::tags_code(Some(tag)),
            None => 0,
        })
    }

    /// The texts that the message is found by in the index: its unique id and each of its keys.
    pub(crate) fn index_keys(&self) -> impl Iterator<Item = &'a str> {
        let keys = self
            .keys
            .unwrap_or_default()
            .split(' ')
            .filter(|key| !key.is_empty());
        self.unique_key.into_iter().chain(keys)
    }
}

/// `String.hashCode` of `prefix + text`, given that of the prefix.
pub(crate) fn extend_hash(prefix: i32, text: &str) -> i32 {
    let mut hash = prefix;
    if text.is_ascii() {
        // Four characters a step: the multiplications no longer wait for one another.
        let mut quads = text.as_bytes().chunks_exact(4);
        for quad in &mut quads {
            hash = hash
                .wrapping_mul(31 * 31 * 31 * 31)
                .wrapping_add(i32::from(quad[0]) * (31 * 31 * 31))
                .wrapping_add(i32::from(quad[1]) * (31 * 31))
                .wrapping_add(i32::from(quad[2]) * 31)
                .wrapping_add(i32::from(quad[3]));
        }
        for &byte in quads.remainder() {
            hash = hash.wrapping_mul(31).wrapping_add(i32::from(byte));
        }
    } else {
        for unit in text.encode_utf16() {
            hash = hash.wrapping_mul(31).wrapping_add(i32::from(unit));
        }
    }
    hash
}

/// The hash of `topic#`, with which every index key of a topic begins.
pub(crate) fn topic_hash(topic: &str) -> i32 {
    extend_hash(extend_hash(0, topic), "#")
}

/// The hash that the index stores (Java: IndexFile.indexKeyHashMethod).
pub(crate) fn index_hash(topic_hash: i32, key: &str) -> i32 {
    match extend_hash(topic_hash, key) {
        i32::MIN => 0,
        hash => hash.abs(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_java() {
        // "hello world".hashCode() and "中文".hashCode() as the JDK computes them.
        assert_eq!(extend_hash(0, "hello world"), 1_794_106_052);
        assert_eq!(extend_hash(0, "中文"), 646_394);
        assert_eq!(
            extend_hash(extend_hash(0, "hello"), " world"),
            1_794_106_052
        );
        // "polygenelubricants".hashCode() is Integer.MIN_VALUE.
        assert_eq!(extend_hash(0, "polygenelubricants"), i32::MIN);
        assert_eq!(index_hash(extend_hash(0, "polygene"), "lubricants"), 0);
    }

    #[test]
    fn facts_are_found_in_any_order() {
        let facts = Facts::of("KEYS\u{1}a  b\u{2}X\u{1}y\u{2}UNIQ_KEY\u{1}id\u{2}TAGS\u{1}t\u{2}");
        assert_eq!(facts.index_keys().collect::<Vec<_>>(), ["id", "a", "b"]);
        assert_eq!(facts.tags, Some("t"));
        let levels = DelayLevels::parse("1s 5s").unwrap();
        assert_eq!(facts.tags_code("T", &levels), TagsCode::Fixed(116));
        let delayed = Facts::of("DELAY\u{1}2\u{2}TAGS\u{1}t\u{2}");
        assert_eq!(
            delayed.tags_code("SCHEDULE_TOPIC_XXXX", &levels).value(7),
            5007
        );
        assert_eq!(delayed.tags_code("T", &levels), TagsCode::Fixed(116));
    }

    #[test]
    fn prepared_messages_are_indexed_but_not_queued() {
        assert!(is_queued(0) && is_queued(8) && !is_queued(4) && !is_queued(12));
        assert!(is_indexed(0) && is_indexed(8) && is_indexed(4) && !is_indexed(12));
    }
}
