//! Where an operator wants groups to go on, until their consumers follow.
//!
//! Java forgets a reset when a consumer was told of it. Between that and its next pull the consumer may commit where it was, or
//! die; then the reset is lost. Here it ends when a consumer pulls from where it points.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{ByGroup, Queues, SEPARATOR};

/// A consumer that does not follow is told so often, and then goes its own way.
pub(super) const TELLS_MAX: u8 = 5;

/// What a reset means for a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResetOfPull {
    /// The consumer has not heard of it, or did not follow: it goes on at this offset.
    GoTo(i64),
    /// It pulls from where it was reset to. What else it carries may be older.
    Followed,
}

/// The resets that are not over.
#[derive(Debug, Default)]
pub(super) struct Resets {
    table: Mutex<ByGroup<BTreeMap<i32, Reset>>>,
    /// Number of queues in `table`: nearly always none, and then a pull takes no lock.
    len: AtomicUsize,
}

#[derive(Clone, Copy, Debug)]
struct Reset {
    offset: i64,
    /// How often a consumer was told.
    told: u8,
}

impl Resets {
    fn table(&self) -> MutexGuard<'_, ByGroup<BTreeMap<i32, Reset>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_empty(&self) -> bool {
        self.len.load(Ordering::Acquire) == 0
    }

    /// The group goes on at `offset`.
    pub(super) fn set(&self, group: &str, topic: &str, queue_id: i32, offset: i64) {
        let mut table = self.table();
        let queues = table
            .entry(Arc::from(group))
            .or_default()
            .entry(Arc::from(topic))
            .or_default();
        if queues.insert(queue_id, Reset { offset, told: 0 }).is_none() {
            self.len.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Where the group was reset to, while its consumers have not followed.
    pub(super) fn get(&self, group: &str, topic: &str, queue_id: i32) -> Option<i64> {
        if self.is_empty() {
            return None;
        }
        let table = self.table();
        let reset = table.get(group)?.get(topic)?.get(&queue_id)?;
        Some(reset.offset)
    }

    /// Where the group was reset to; the reset is over.
    pub(super) fn take(&self, group: &str, topic: &str, queue_id: i32) -> Option<i64> {
        if self.is_empty() {
            return None;
        }
        let mut table = self.table();
        let queues = table.get_mut(group)?.get_mut(topic)?;
        let reset = queues.remove(&queue_id)?;
        self.len.fetch_sub(1, Ordering::AcqRel);
        Some(reset.offset)
    }

    /// What the reset means for a pull from `offset`, and whether the reset is over. None when there is no reset.
    pub(super) fn of_pull(
        &self,
        group: &str,
        topic: &str,
        queue_id: i32,
        offset: i64,
    ) -> Option<(ResetOfPull, bool)> {
        if self.is_empty() {
            return None;
        }
        let mut table = self.table();
        let queues = table.get_mut(group)?.get_mut(topic)?;
        let reset = queues.get_mut(&queue_id)?;
        let meaning = if reset.offset == offset {
            ResetOfPull::Followed
        } else {
            ResetOfPull::GoTo(reset.offset)
        };
        reset.told += 1;
        let is_over = meaning == ResetOfPull::Followed || reset.told >= TELLS_MAX;
        if is_over {
            queues.remove(&queue_id);
            self.len.fetch_sub(1, Ordering::AcqRel);
        }
        Some((meaning, is_over))
    }

    /// Forgets the resets that `goes` names by group and topic.
    pub(super) fn forget(&self, goes: impl Fn(&str, &str) -> bool) {
        if self.is_empty() {
            return;
        }
        let mut table = self.table();
        for (group, topics) in table.iter_mut() {
            topics.retain(|topic, queues| !queues.is_empty() && !goes(group, topic));
        }
        table.retain(|_, topics| !topics.is_empty());
        let queues = table.values().flat_map(HashMap::values);
        let left = queues.map(BTreeMap::len).sum();
        self.len.store(left, Ordering::Release);
    }

    /// All of them, by `topic@group`.
    pub(super) fn all(&self) -> BTreeMap<String, Queues> {
        let mut all = BTreeMap::new();
        if self.is_empty() {
            return all;
        }
        for (group, topics) in self.table().iter() {
            for (topic, queues) in topics.iter().filter(|(_, queues)| !queues.is_empty()) {
                let offsets = queues.iter().map(|(id, reset)| (*id, reset.offset));
                all.insert(format!("{topic}{SEPARATOR}{group}"), offsets.collect());
            }
        }
        all
    }
}
