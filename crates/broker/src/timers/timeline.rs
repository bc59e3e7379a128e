//! What waits, in the order of delivery: a heap of what came lately, at most one heap that is on its way to a file, and runs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;

use super::entry::{Entry, Mark};
use super::run::{Cursor, Run};

/// Entries in memory that are worth a run: 6 MiB.
pub(super) const FRESH_MAX: usize = 256 << 10;
/// Runs beyond which some are merged. Each has a buffer of 32 KiB.
pub(super) const RUNS_MAX: usize = 8;

/// The entries that wait.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    fresh: BinaryHeap<Reverse<Entry>>,
    frozen: Option<Frozen>,
    runs: Vec<Cursor>,
}

/// Sorted entries that are being written to a run.
#[derive(Debug)]
struct Frozen {
    entries: Arc<Vec<Entry>>,
    at: usize,
}

/// Which source has the next entry.
#[derive(Clone, Copy, Debug)]
enum Source {
    Fresh,
    Frozen,
    Run(usize),
}

impl Timeline {
    pub(super) fn push(&mut self, entry: Entry) {
        self.fresh.push(Reverse(entry));
    }

    /// Entries in the heap.
    pub(super) fn fresh_len(&self) -> usize {
        self.fresh.len()
    }

    /// Whether a message at this place is in the heap. Walks over all of it.
    pub(super) fn fresh_has(&self, physical: u64) -> bool {
        self.fresh
            .iter()
            .any(|Reverse(entry)| entry.physical == physical)
    }

    /// Drops entries of the heap.
    pub(super) fn retain_fresh(&mut self, mut keep: impl FnMut(&Entry) -> bool) {
        self.fresh.retain(|Reverse(entry)| keep(entry));
    }

    /// The next entry. Waits for the disk when a run's buffer is empty; on an error nothing has changed.
    pub(super) fn peek(&mut self) -> io::Result<Option<Entry>> {
        Ok(self.least()?.map(|(entry, _)| entry))
    }

    /// Takes the next entry.
    pub(super) fn pop(&mut self) -> io::Result<Option<Entry>> {
        let Some((entry, source)) = self.least()? else {
            return Ok(None);
        };
        match source {
            Source::Fresh => drop(self.fresh.pop()),
            Source::Frozen => {
                if let Some(frozen) = &mut self.frozen {
                    frozen.at += 1;
                }
            }
            Source::Run(index) => self.runs[index].pass(),
        }
        Ok(Some(entry))
    }

    fn least(&mut self) -> io::Result<Option<(Entry, Source)>> {
        let mut least = self
            .fresh
            .peek()
            .map(|Reverse(entry)| (*entry, Source::Fresh));
        let mut consider = |entry: Option<Entry>, source| {
            if let Some(entry) = entry
                && least.is_none_or(|(other, _)| entry < other)
            {
                least = Some((entry, source));
            }
        };
        if let Some(frozen) = &self.frozen {
            consider(frozen.entries.get(frozen.at).copied(), Source::Frozen);
        }
        for (index, run) in self.runs.iter_mut().enumerate() {
            consider(run.peek()?, Source::Run(index));
        }
        Ok(least)
    }

    /// Sorts the heap aside, to be written. It goes on being delivered from memory.
    pub(super) fn freeze(&mut self) -> Arc<Vec<Entry>> {
        debug_assert!(self.frozen.is_none(), "one heap at a time is written");
        let mut entries: Vec<Entry> = std::mem::take(&mut self.fresh)
            .into_vec()
            .into_iter()
            .map(|Reverse(entry)| entry)
            .collect();
        entries.sort_unstable();
        let entries = Arc::new(entries);
        self.frozen = Some(Frozen {
            entries: entries.clone(),
            at: 0,
        });
        entries
    }

    /// Takes back what was frozen: it could not be written.
    pub(super) fn thaw(&mut self) {
        if let Some(frozen) = self.frozen.take() {
            let rest = frozen.entries[frozen.at..].iter();
            self.fresh.extend(rest.map(|entry| Reverse(*entry)));
        }
    }

    /// What was frozen, if it was, and the runs with these numbers are in `cursor`'s run, or are delivered.
    pub(super) fn replace(&mut self, merged: &[u64], froze: bool, cursor: Option<Cursor>) {
        if froze {
            self.frozen = None;
        }
        self.runs.retain(|run| !merged.contains(&run.run.id));
        self.runs.extend(cursor);
    }

    pub(super) fn add(&mut self, cursor: Cursor) {
        self.runs.push(cursor);
    }

    pub(super) fn runs(&self) -> impl Iterator<Item = &Arc<Run>> {
        self.runs.iter().map(|cursor| &cursor.run)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Timeline::default();
    }

    /// Entries in memory below a position of the log, the lowest `max` of them in the order of the log, behind `mark`.
    pub(super) fn lowest_in_memory(
        &self,
        from: u64,
        below: u64,
        max: usize,
        mark: Mark,
    ) -> Vec<Entry> {
        let mut lowest = Lowest::new(from, below, max);
        self.fresh
            .iter()
            .for_each(|Reverse(entry)| lowest.note(*entry));
        if let Some(frozen) = &self.frozen {
            let rest = frozen.entries[frozen.at..].iter();
            rest.filter(|entry| entry.mark() > mark)
                .for_each(|entry| lowest.note(*entry));
        }
        lowest.sorted()
    }
}

/// Collects the entries that lie lowest in the log.
#[derive(Debug)]
pub(super) struct Lowest {
    from: u64,
    below: u64,
    max: usize,
    /// By position, the highest on top.
    heap: BinaryHeap<(u64, Entry)>,
}

impl Lowest {
    /// At most `max` entries in `from..below`.
    pub(super) fn new(from: u64, below: u64, max: usize) -> Lowest {
        Lowest {
            from,
            below,
            max,
            heap: BinaryHeap::new(),
        }
    }

    pub(super) fn note(&mut self, entry: Entry) {
        if !(self.from..self.below).contains(&entry.physical) {
            return;
        }
        self.heap.push((entry.physical, entry));
        if self.heap.len() > self.max {
            self.heap.pop();
        }
    }

    /// In the order of the log.
    pub(super) fn sorted(self) -> Vec<Entry> {
        self.heap
            .into_sorted_vec()
            .into_iter()
            .map(|(_, entry)| entry)
            .collect()
    }
}

/// The next of several cursors in order, for merging.
pub(super) fn next_of(cursors: &mut [Cursor]) -> io::Result<Option<Entry>> {
    let mut least: Option<(Entry, usize)> = None;
    for (index, cursor) in cursors.iter_mut().enumerate() {
        if let Some(entry) = cursor.peek()?
            && least.is_none_or(|(other, _)| entry < other)
        {
            least = Some((entry, index));
        }
    }
    let Some((entry, index)) = least else {
        return Ok(None);
    };
    cursors[index].pass();
    Ok(Some(entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timers::entry::Key;

    fn entry(due_ms: i64, physical: u64) -> Entry {
        Entry {
            due_ms,
            physical,
            key: Key::new(0, 1, false),
        }
    }

    #[test]
    fn entries_come_in_order_wherever_they_are() {
        let mut timeline = Timeline::default();
        for (due, physical) in [(5, 1), (3, 2), (9, 3)] {
            timeline.push(entry(due, physical));
        }
        assert_eq!(timeline.freeze().len(), 3);
        timeline.push(entry(4, 4));
        timeline.push(entry(3, 0));
        let mut popped = Vec::new();
        for _ in 0..3 {
            popped.push(timeline.pop().unwrap().unwrap().physical);
        }
        timeline.thaw();
        while let Some(entry) = timeline.pop().unwrap() {
            popped.push(entry.physical);
        }
        assert_eq!(popped, [0, 2, 4, 1, 3]);
    }

    #[test]
    fn the_lowest_in_the_log_are_found_in_its_order() {
        let mut timeline = Timeline::default();
        for physical in [8, 2, 6, 4, 9, 1] {
            timeline.push(entry(100 - physical as i64, physical));
        }
        let found = timeline.lowest_in_memory(2, 9, 3, Mark::START);
        let found: Vec<u64> = found.iter().map(|entry| entry.physical).collect();
        assert_eq!(found, [2, 4, 6]);
    }
}
