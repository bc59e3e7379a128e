//! Records whose queue offset does not follow the one before: which of them are believed.
//!
//! No checksum covers the queue offset. A record that jumps ahead is held until the next one of its queue tells: one that continues the jump
//! shows a hole, one that does not shows that the held record lies. What is not believed is in no queue, with an error in the log; the messages
//! around it stay readable.

use std::collections::HashMap;
use std::sync::Arc;

use crate::queue::{ENTRY_BYTES, Entry, Queue};

use super::Opening;

/// Missing entries of one queue that are filled in at most, when the log does not have their records.
const FILL_MAX: u64 = 1 << 20;
/// No queue reaches it: the position in its files would be no file position.
const QUEUE_OFFSET_MAX: u64 = i64::MAX as u64 / ENTRY_BYTES;

/// One reading of the log.
pub(super) struct Holes {
    /// The whole log is read: what it does not have is filled in. Otherwise a hole is only noted.
    fill: bool,
    gap: bool,
    /// Offsets that the records read take: so many can be missing elsewhere, at most, because they say that they belong here.
    records: u64,
    /// At most one record of a queue, by the queue's address.
    held: HashMap<usize, Held>,
}

struct Held {
    queue: Arc<Queue>,
    offset: u64,
    entry: Entry,
    /// Offsets that the record takes.
    offsets: u64,
}

impl Holes {
    pub(super) fn new(fill: bool) -> Holes {
        Holes {
            fill,
            gap: false,
            records: 0,
            held: HashMap::new(),
        }
    }

    /// The next record that belongs to a queue.
    pub(super) fn place(
        &mut self,
        opening: &Opening<'_>,
        queue: Arc<Queue>,
        offset: u64,
        entry: Entry,
        offsets: u64,
    ) {
        self.records += offsets;
        let new = Held {
            queue,
            offset,
            entry,
            offsets,
        };
        if offset > QUEUE_OFFSET_MAX {
            return disbelieve(&new);
        }
        let key = Arc::as_ptr(&new.queue) as usize;
        if !self.held.is_empty()
            && let Some(held) = self.held.remove(&key)
        {
            let continues = offset == held.offset + held.offsets;
            let is_ahead = offset > held.offset;
            if continues || is_ahead && self.is_small(&held) {
                self.believe(opening, held);
            } else {
                disbelieve(&held);
            }
        }
        let max = new.queue.entries().max();
        if offset == max {
            opening.push(&new.queue, std::iter::repeat_n(entry, offsets as usize));
        } else if offset > max {
            self.held.insert(key, new);
        }
    }

    /// Decides about what is held. Returns whether there are holes that only a reading of the whole log can tell about.
    pub(super) fn finish(mut self, opening: &Opening<'_>) -> bool {
        for (_, held) in std::mem::take(&mut self.held) {
            // A queue with a single record begins there. Elsewhere nothing speaks for a record that jumps further than records can be missing.
            if !self.fill || held.queue.entries().max() == 0 || self.is_small(&held) {
                self.believe(opening, held);
            } else {
                disbelieve(&held);
            }
        }
        self.gap
    }

    /// Whether records may be missing that belong before this one.
    fn is_small(&self, held: &Held) -> bool {
        held.offset - held.queue.entries().max() <= self.records.min(FILL_MAX)
    }

    fn believe(&mut self, opening: &Opening<'_>, held: Held) {
        let max = held.queue.entries().max();
        if max == 0 {
            // The queue's earlier records are gone from the log.
            held.queue.begin_at(held.offset);
        } else if !self.fill {
            self.gap = true;
            return;
        } else if self.is_small(&held) {
            let missing = (held.offset - max) as usize;
            opening.push(&held.queue, std::iter::repeat_n(Entry::FILLER, missing));
        } else {
            tracing::warn!(
                topic = &*held.queue.topic.name,
                queue_id = held.queue.id,
                from = max,
                to = held.offset,
                "a consume queue lost what lies before"
            );
            held.queue.begin_at(held.offset);
        }
        let entries = std::iter::repeat_n(held.entry, held.offsets as usize);
        opening.push(&held.queue, entries);
    }
}

fn disbelieve(held: &Held) {
    tracing::error!(
        topic = &*held.queue.topic.name,
        queue_id = held.queue.id,
        queue_offset = held.offset,
        physical = held.entry.physical,
        "a record's queue offset cannot be right; the message is left out of its queue and can be read by its position"
    );
}
