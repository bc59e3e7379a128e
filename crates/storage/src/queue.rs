//! Consume queues: which records belong to a queue of a topic, in order.
//!
//! Entries are made by the append itself and lie in memory until the writer thread puts them into files: one a queue, in Java's format, or the
//! shared store when there are more queues than may have files of their own. A queue that nobody touches costs no descriptor and about two
//! hundred bytes.

pub(crate) mod files;
pub(crate) mod load;
pub(crate) mod shared;
pub(crate) mod table;
pub(crate) mod units;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use crate::compaction::Compacted;

pub(crate) use table::{Table, Topic};
use units::Units;

/// Size of an entry in its file.
pub(crate) const ENTRY_BYTES: u64 = 20;

/// One entry: where the record lies, and what a subscription by tag compares with. The messages of an inner batch lie in one record, so their entries are
/// equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) physical: u64,
    pub(crate) size: u32,
    pub(crate) tags_code: i64,
}

impl Entry {
    /// What Java writes where a queue has no message, before its first one: an offset of no record and an impossible size.
    pub(crate) const FILLER: Entry = Entry {
        physical: 0,
        size: i32::MAX as u32,
        tags_code: 0,
    };

    pub(crate) fn end(&self) -> u64 {
        self.physical + u64::from(self.size)
    }

    pub(crate) fn is_filler(&self) -> bool {
        *self == Entry::FILLER
    }

    pub(crate) fn encode(&self) -> [u8; ENTRY_BYTES as usize] {
        let mut bytes = [0; ENTRY_BYTES as usize];
        bytes[..8].copy_from_slice(&self.physical.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.size.to_be_bytes());
        bytes[12..].copy_from_slice(&self.tags_code.to_be_bytes());
        bytes
    }

    /// None for what cannot be an entry: unwritten space, or a negative offset or size.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Entry> {
        let physical = u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?);
        let size = u32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?);
        let tags_code = i64::from_be_bytes(bytes.get(12..20)?.try_into().ok()?);
        let valid = size > 0 && size <= i32::MAX as u32 && physical <= i64::MAX as u64;
        valid.then_some(Entry {
            physical,
            size,
            tags_code,
        })
    }
}

/// One queue of a topic.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) topic: Arc<Topic>,
    pub(crate) id: i32,
    /// Its number in the shared store; 0 without one.
    number: AtomicU32,
    /// Offset that the next message gets. Changed with the append lock held only; it may be ahead of [`Entries::max`] while a batch is written.
    next: AtomicU64,
    watched: AtomicBool,
    deleted: AtomicBool,
    /// What was compacted of it; most queues have none.
    compacted: OnceLock<Arc<Compacted>>,
    /// Its files, when its topic is a batch topic.
    units: OnceLock<Box<Units>>,
    entries: Mutex<Entries>,
}

/// The entries of a queue.
///
/// Invariant: `min ≤ max`, `first ≤ written ≤ max` where `max = first + recent.len()`. Offsets below `written` are in files, those from
/// `first` on are in memory.
#[derive(Debug)]
pub(crate) struct Entries {
    /// First offset whose record is still in the log.
    pub(crate) min: u64,
    first: u64,
    written: u64,
    recent: VecDeque<Entry>,
    /// The queue stands in the writer's list.
    pub(crate) listed: bool,
    /// The queue stands in the list of those that keep written entries in memory.
    pub(crate) retained: bool,
    /// Start of the queue's first file.
    pub(crate) files_from: u64,
}

impl Entries {
    /// Offset behind the last entry.
    pub(crate) fn max(&self) -> u64 {
        self.first + self.recent.len() as u64
    }

    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        self.recent.push_back(entry);
    }

    /// Offset behind the last entry whose record ends at or below `visible`.
    pub(crate) fn visible_max(&self, visible: u64) -> u64 {
        match self.recent.back() {
            Some(last) if last.end() > visible && !last.is_filler() => {
                self.first
                    + self
                        .recent
                        .partition_point(|entry| entry.is_filler() || entry.end() <= visible)
                        as u64
            }
            _ => self.max(),
        }
    }

    /// Where the watermark must be for everything to be visible; None when it is there.
    pub(crate) fn hidden_until(&self, visible: u64) -> Option<u64> {
        self.recent
            .back()
            .filter(|last| !last.is_filler())
            .map(Entry::end)
            .filter(|end| *end > visible)
    }

    /// Copies entries from `offset` on into `out`, as many as are in memory below `until`.
    pub(crate) fn copy(&self, offset: u64, until: u64, out: &mut Vec<Entry>) {
        debug_assert!(offset >= self.first);
        let from = (offset - self.first) as usize;
        let to = (until.saturating_sub(self.first) as usize).min(self.recent.len());
        if from < to {
            out.extend(self.recent.range(from..to));
        }
    }

    /// The entries below `until` are in their files; those whose record lies before `keep_from` need no memory any more.
    pub(crate) fn written_until(&mut self, until: u64, keep_from: u64) {
        self.written = self.written.max(until);
        self.forget(keep_from);
        self.check();
    }

    /// Lets go of written entries whose record lies before `keep_from`. True when nothing remains in memory.
    pub(crate) fn forget(&mut self, keep_from: u64) -> bool {
        while self.first < self.written
            && self
                .recent
                .front()
                .is_some_and(|entry| entry.physical < keep_from)
        {
            self.recent.pop_front();
            self.first += 1;
        }
        if self.recent.is_empty() {
            self.recent = VecDeque::new();
        } else if self.recent.capacity() > 64 && self.recent.len() < self.recent.capacity() / 4 {
            self.recent.shrink_to(self.recent.len() * 2);
        }
        self.recent.is_empty()
    }

    fn check(&self) {
        debug_assert!(
            self.first <= self.written,
            "entries {}..{} are neither in memory nor in a file",
            self.written,
            self.first
        );
        debug_assert!(self.written <= self.max());
        debug_assert!(self.min <= self.max());
    }
}

impl Queue {
    /// A queue whose files hold the offsets below `max`.
    pub(crate) fn new(topic: Arc<Topic>, id: i32, min: u64, max: u64) -> Queue {
        let entries = Entries {
            min,
            first: max,
            written: max,
            recent: VecDeque::new(),
            listed: false,
            retained: false,
            files_from: min,
        };
        Queue {
            topic,
            id,
            number: AtomicU32::new(0),
            next: AtomicU64::new(max),
            watched: AtomicBool::new(false),
            deleted: AtomicBool::new(false),
            compacted: OnceLock::new(),
            units: OnceLock::new(),
            entries: Mutex::new(entries),
        }
    }

    pub(crate) fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries
            .lock()
            .expect("no code panics while it changes a queue")
    }

    pub(crate) fn number(&self) -> u32 {
        self.number.load(Ordering::Acquire)
    }

    /// Once, by whoever writes or opens the shared store.
    pub(crate) fn set_number(&self, number: u32) {
        self.number.store(number, Ordering::Release);
    }

    /// Offset for the next message. Only with the append lock held.
    pub(crate) fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Only with the append lock held.
    pub(crate) fn set_next(&self, next: u64) {
        self.next.store(next, Ordering::Relaxed);
    }

    /// A queue without files and without entries begins at `offset`: its earlier messages are gone from the log. Recovery only.
    pub(crate) fn begin_at(&self, offset: u64) {
        let mut entries = self.entries();
        entries.recent.clear();
        entries.min = offset;
        entries.first = offset;
        entries.written = offset;
        entries.files_from = offset;
        drop(entries);
        self.set_next(offset);
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::SeqCst)
    }

    pub(crate) fn set_watched(&self, watched: bool) {
        self.watched.store(watched, Ordering::SeqCst);
    }

    pub(crate) fn compacted(&self) -> Option<&Arc<Compacted>> {
        self.compacted.get()
    }

    pub(crate) fn compacted_or(&self, make: impl FnOnce() -> Compacted) -> Arc<Compacted> {
        Arc::clone(self.compacted.get_or_init(|| Arc::new(make())))
    }

    pub(crate) fn units_or(&self, make: impl FnOnce() -> Units) -> &Units {
        self.units.get_or_init(|| Box::new(make()))
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    pub(crate) fn set_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Queue {
        Queue::new(Arc::new(Topic::new("T")), 0, 0, 0)
    }

    fn entry(physical: u64) -> Entry {
        Entry {
            physical,
            size: 10,
            tags_code: -1,
        }
    }

    #[test]
    fn entry_round_trips_and_unwritten_space_is_none() {
        assert_eq!(Entry::decode(&entry(7).encode()), Some(entry(7)));
        assert_eq!(Entry::decode(&[0; 20]), None);
        assert_eq!(Entry::decode(&Entry::FILLER.encode()), Some(Entry::FILLER));
        assert_eq!(Entry::decode(&[0xff; 20]), None);
    }

    #[test]
    fn visible_max_stops_at_the_watermark() {
        let queue = queue();
        let mut entries = queue.entries();
        for physical in [0, 10, 20] {
            entries.push(entry(physical));
        }
        assert_eq!(entries.visible_max(0), 0);
        assert_eq!(entries.visible_max(19), 1);
        assert_eq!(entries.visible_max(20), 2);
        assert_eq!(entries.visible_max(99), 3);
    }

    #[test]
    fn only_written_entries_are_forgotten() {
        let queue = queue();
        let mut entries = queue.entries();
        for physical in [0, 10, 20] {
            entries.push(entry(physical));
        }
        entries.written_until(2, 1000);
        assert_eq!(
            (entries.first(), entries.written(), entries.max()),
            (2, 2, 3)
        );
        entries.written_until(3, 20);
        assert_eq!(entries.first(), 2);
        assert!(entries.forget(21));
        assert_eq!(entries.max(), 3);
    }
}
