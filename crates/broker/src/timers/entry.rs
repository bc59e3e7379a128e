//! One pending timer message in 24 bytes, and the order in which they are delivered.

/// Bytes of an entry in a run.
pub(super) const ENTRY_BYTES: usize = 24;
/// Topics that are counted one by one; those beyond are counted together.
pub(super) const TOPICS_MAX: usize = 1 << 20;

const DELETES: u64 = 1 << 63;
const TOPIC_SHIFT: u32 = 43;
const HASH_MASK: u64 = (1 << TOPIC_SHIFT) - 1;

/// Where a message stands in the order of delivery: by time, then by place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    pub(super) due_ms: i64,
    pub(super) physical: u64,
}

impl Mark {
    /// Before everything.
    pub(super) const START: Mark = Mark {
        due_ms: i64::MIN,
        physical: 0,
    };
}

/// A message that waits, or an order to drop one. Ordered as it is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    /// When it is due, in milliseconds since 1970. Of an order to drop a message: when that message is surely delivered.
    pub(super) due_ms: i64,
    /// Where its record begins.
    pub(super) physical: u64,
    pub(super) key: Key,
}

/// Whom an entry is about: a bit that tells orders to drop, 20 bits for the number of the topic, 43 bits of the hash of topic and unique id. Of
/// two messages with one hash the records decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(u64);

impl Key {
    pub(super) fn new(topic: usize, hash: u64, deletes: bool) -> Key {
        let topic = topic.min(TOPICS_MAX - 1) as u64;
        Key(if deletes { DELETES } else { 0 } | topic << TOPIC_SHIFT | hash & HASH_MASK)
    }

    pub(super) fn deletes(self) -> bool {
        self.0 & DELETES != 0
    }

    pub(super) fn topic(self) -> usize {
        (self.0 >> TOPIC_SHIFT) as usize & (TOPICS_MAX - 1)
    }

    pub(super) fn hash(self) -> u64 {
        self.0 & HASH_MASK
    }
}

impl Entry {
    pub(super) fn mark(&self) -> Mark {
        Mark {
            due_ms: self.due_ms,
            physical: self.physical,
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.due_ms.to_be_bytes());
        out.extend_from_slice(&self.physical.to_be_bytes());
        out.extend_from_slice(&self.key.0.to_be_bytes());
    }

    /// Reads an entry from exactly its bytes.
    pub(super) fn decode(bytes: &[u8]) -> Option<Entry> {
        let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        Some(Entry {
            due_ms: number(0)? as i64,
            physical: number(8)?,
            key: Key(number(16)?),
        })
    }
}

/// The hash of a topic and a unique id, FNV-1a over `topic+id`: it lies in files, so it never changes.
pub(super) fn key_hash(topic: &str, unique_id: &str) -> u64 {
    let parts = [topic.as_bytes(), b"+", unique_id.as_bytes()];
    let hash = parts
        .into_iter()
        .flatten()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    (hash ^ hash >> TOPIC_SHIFT) & HASH_MASK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_keeps_what_it_is_about() {
        let hash = key_hash("T", "id");
        let key = Key::new(77, hash, true);
        assert_eq!((key.topic(), key.hash(), key.deletes()), (77, hash, true));
        let entry = Entry {
            due_ms: -5,
            physical: u64::MAX,
            key,
        };
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        assert_eq!(bytes.len(), ENTRY_BYTES);
        assert_eq!(Entry::decode(&bytes), Some(entry));
        assert_eq!(Entry::decode(&bytes[1..]), None);
        assert_eq!(Key::new(usize::MAX, 0, false).topic(), TOPICS_MAX - 1);
    }
}
