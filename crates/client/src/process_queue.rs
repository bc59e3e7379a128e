//! Which messages of a queue were pulled and are not consumed yet, and how far the group may commit.

use std::collections::BTreeMap;

/// Messages of one queue between pull and consumption.
///
/// `commit_offset() ≤ next`, and everything below it was consumed.
#[derive(Debug, Default)]
pub(crate) struct ProcessQueue {
    /// Body bytes by queue offset.
    pending: BTreeMap<i64, usize>,
    pending_bytes: usize,
    /// The offset that the next pull asks for.
    next: i64,
}

impl ProcessQueue {
    pub(crate) fn new(next: i64) -> Self {
        Self {
            next,
            ..Self::default()
        }
    }

    /// Takes pulled messages (offset, body bytes) and where the broker says the next pull begins.
    pub(crate) fn add(&mut self, messages: impl Iterator<Item = (i64, usize)>, next: i64) {
        for (offset, bytes) in messages {
            if self.pending.insert(offset, bytes).is_none() {
                self.pending_bytes += bytes;
            }
        }
        self.next = next;
    }

    /// Goes on at `next`, wherever that is: what was pulled before no longer counts.
    pub(crate) fn restart(&mut self, next: i64) {
        *self = Self::new(next);
    }

    /// The oldest and the newest message that is not consumed yet.
    pub(crate) fn ends(&self) -> Option<(i64, i64)> {
        let (oldest, newest) = self
            .pending
            .keys()
            .next()
            .zip(self.pending.keys().next_back())?;
        Some((*oldest, *newest))
    }

    /// A message was consumed.
    pub(crate) fn done(&mut self, offset: i64) {
        if let Some(bytes) = self.pending.remove(&offset) {
            self.pending_bytes -= bytes;
        }
    }

    /// Everything below was consumed: the oldest pending message, or the end when there is none.
    pub(crate) fn commit_offset(&self) -> i64 {
        self.pending.keys().next().copied().unwrap_or(self.next)
    }

    pub(crate) fn next(&self) -> i64 {
        self.next
    }

    pub(crate) fn count(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.pending_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_holds_the_commit_back() {
        let mut queue = ProcessQueue::new(5);
        queue.add([(5, 10), (6, 10), (7, 10)].into_iter(), 8);
        queue.done(6);
        queue.done(7);
        assert_eq!(queue.commit_offset(), 5);
        assert_eq!((queue.count(), queue.bytes()), (1, 10));
        queue.done(5);
        assert_eq!(queue.commit_offset(), 8);
    }

    #[test]
    fn after_a_restart_only_what_comes_counts() {
        let mut queue = ProcessQueue::new(5);
        queue.add([(5, 10), (6, 10)].into_iter(), 7);
        queue.restart(2);
        queue.done(5);
        assert_eq!((queue.next(), queue.commit_offset()), (2, 2));
        assert_eq!((queue.count(), queue.bytes(), queue.ends()), (0, 0, None));
        queue.add([(2, 10), (3, 10)].into_iter(), 4);
        assert_eq!(queue.ends(), Some((2, 3)));
    }

    #[test]
    fn filtered_messages_move_the_commit_on() {
        let mut queue = ProcessQueue::new(0);
        queue.add(std::iter::empty(), 100);
        assert_eq!(queue.commit_offset(), 100);
    }
}
