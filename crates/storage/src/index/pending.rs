//! Index entries that are not in their files yet.

use std::sync::Arc;

/// One key of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) hash: i32,
    pub(crate) physical: u64,
    pub(crate) store_timestamp_ms: i64,
}

/// Entries that wait, and those that are being written: both are searched.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    waiting: Vec<IndexEntry>,
    writing: Arc<Vec<IndexEntry>>,
    /// Front of `writing` that is in the files already, after a failure half way.
    written: usize,
}

impl Pending {
    /// Adds entries; returns how many wait, and whether none did before.
    pub(crate) fn add(&mut self, entries: &[IndexEntry]) -> (usize, bool) {
        let was_empty = self.waiting.is_empty();
        self.waiting.extend_from_slice(entries);
        (self.len(), was_empty)
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.writing.len()
    }

    /// What to write next, oldest first.
    pub(crate) fn begin(&mut self) -> Arc<Vec<IndexEntry>> {
        if self.writing.is_empty() {
            self.writing = Arc::new(std::mem::take(&mut self.waiting));
        }
        Arc::clone(&self.writing)
    }

    /// The first `count` of what [`Pending::begin`] gave are in the files.
    pub(crate) fn done(&mut self, count: usize) {
        self.written = 0;
        self.writing = if count >= self.writing.len() {
            Arc::default()
        } else {
            Arc::new(self.writing[count..].to_vec())
        };
    }

    pub(crate) fn newest(&self) -> Option<&IndexEntry> {
        self.waiting.last().or(self.writing.last())
    }

    /// Positions with this hash, newest first.
    pub(crate) fn query(
        &self,
        hash: i32,
        begin_ms: i64,
        end_ms: i64,
        max: usize,
        out: &mut Vec<u64>,
    ) {
        let entries = self.waiting.iter().rev().chain(self.writing.iter().rev());
        let matching = entries.filter(|entry| {
            entry.hash == hash && (begin_ms..=end_ms).contains(&entry.store_timestamp_ms)
        });
        for entry in matching {
            if out.len() >= max {
                return;
            }
            if !out.contains(&entry.physical) {
                out.push(entry.physical);
            }
        }
    }
}
