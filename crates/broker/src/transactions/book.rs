//! Which half messages wait for their transaction's end, in memory: plain values, no store, time given.
//!
//! The book holds what the two queues say: a half of the half queue is pending until the op queue names it. It also says from where on both
//! queues must be read to write the same book again ([`Book::cursors`]), which is what the system group's offsets are.
//!
//! Invariants: every half below `halves.next` was entered; a cursor never passes a half that is pending, nor an op message that
//! names a half at or behind the cursor of halves.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;
use std::sync::Arc;

/// A half message that is neither committed nor rolled back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Half {
    /// Where its record lies.
    pub(crate) physical: u64,
    /// When the message was stored first: a copy is as old as what it is a copy of.
    pub(crate) stored_ms: i64,
    /// Nobody is asked before.
    pub(crate) check_at_ms: i64,
    /// Whose producers know how the transaction ended.
    pub(crate) group: Arc<str>,
    /// How often a producer was asked.
    pub(crate) times: u32,
    /// Somebody is ending it, or moving it.
    pub(crate) taken: bool,
    /// Since the start it is known that no commit of it is in the log.
    pub(crate) verified: bool,
}

/// What became of a wish to end a half.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Take {
    /// It is the caller's alone, until [`Book::release`] or [`Book::ended`].
    Taken(Half),
    /// Somebody else has it.
    Busy,
    /// It is pending, and lies elsewhere in the log.
    Elsewhere,
    /// It is not pending.
    NotPending,
}

/// From where on both queues must be read to write the same book again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursors {
    pub(crate) half: u64,
    pub(crate) op: u64,
}

/// The book. Its owner holds a lock around it.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pending: BTreeMap<u64, Half>,
    halves: Contiguous,
    /// Op messages that name a half at or behind the cursor: offset → the last half named.
    ops: BTreeMap<u64, u64>,
    op_offsets: Contiguous,
    groups: HashSet<Arc<str>>,
}

/// Offsets that come nearly in order: appends of several threads are entered by whoever comes first.
#[derive(Debug, Default)]
struct Contiguous {
    next: u64,
    early: BTreeSet<u64>,
}

impl Contiguous {
    fn note(&mut self, offset: u64) {
        if offset != self.next {
            if offset > self.next {
                self.early.insert(offset);
            }
            return;
        }
        self.next += 1;
        while self.early.remove(&self.next) {
            self.next += 1;
        }
    }
}

impl Book {
    /// An empty book of queues that were read up to these ends.
    pub(crate) fn read_up_to(half_end: u64, op_end: u64) -> Book {
        let mut book = Book::default();
        book.halves.next = half_end;
        book.op_offsets.next = op_end;
        book
    }

    /// A group's name, once for all its halves.
    pub(crate) fn group(&mut self, name: &str) -> Arc<str> {
        if let Some(group) = self.groups.get(name) {
            return group.clone();
        }
        let group: Arc<str> = Arc::from(name);
        self.groups.insert(group.clone());
        group
    }

    /// A half was stored.
    pub(crate) fn enter(&mut self, offset: u64, half: Half) {
        self.pending.insert(offset, half);
        self.halves.note(offset);
    }

    /// As [`enter`](Self::enter) for a half below the end that the book was made with.
    pub(crate) fn enter_found(&mut self, offset: u64, half: Half) {
        debug_assert!(offset < self.halves.next, "the end was given");
        self.pending.insert(offset, half);
    }

    /// The same for an op message.
    pub(crate) fn op_found(&mut self, op_offset: u64, last_half: u64) {
        debug_assert!(op_offset < self.op_offsets.next, "the end was given");
        self.ops.insert(op_offset, last_half);
    }

    /// Gives a half to one caller alone.
    pub(crate) fn take(&mut self, offset: u64, physical: u64) -> Take {
        match self.pending.get_mut(&offset) {
            None => Take::NotPending,
            Some(half) if half.physical != physical => Take::Elsewhere,
            Some(half) if half.taken => Take::Busy,
            Some(half) => {
                half.taken = true;
                Take::Taken(half.clone())
            }
        }
    }

    /// Gives back what was taken and did not end.
    pub(crate) fn release(&mut self, offset: u64) {
        if let Some(half) = self.pending.get_mut(&offset) {
            half.taken = false;
        }
    }

    /// An op message that names these halves was stored.
    pub(crate) fn ended(&mut self, halves: &[u64], op_offset: u64) {
        for offset in halves {
            self.pending.remove(offset);
        }
        if let Some(last) = halves.iter().max() {
            self.ops.insert(op_offset, *last);
        }
        self.op_offsets.note(op_offset);
        if self.pending.is_empty() {
            self.groups.clear();
        }
    }

    /// Changes what is known of a half, if it is still pending.
    pub(crate) fn update(&mut self, offset: u64, change: impl FnOnce(&mut Half)) {
        if let Some(half) = self.pending.get_mut(&offset) {
            change(half);
        }
    }

    /// A pending half.
    pub(crate) fn get(&self, offset: u64) -> Option<&Half> {
        self.pending.get(&offset)
    }

    /// Halves behind `after`, in order.
    pub(crate) fn behind(&self, after: Option<u64>) -> impl Iterator<Item = (u64, &Half)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let halves = self.pending.range((from, Bound::Unbounded));
        halves.map(|(offset, half)| (*offset, half))
    }

    /// How many are pending.
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    /// The offset of the next half to come, as far as is known.
    pub(crate) fn end(&self) -> u64 {
        self.halves.next
    }

    /// Where the queues must be read from, when `published` is the cursor of halves that others may have read already: an op message is passed
    /// only when all that it names lies before that.
    pub(crate) fn cursors(&mut self, published: u64) -> Cursors {
        while let Some(first) = self.ops.first_entry()
            && *first.get() < published
        {
            first.remove();
        }
        let first_pending = self.pending.first_key_value().map(|(offset, _)| *offset);
        let first_op = self.ops.first_key_value().map(|(offset, _)| *offset);
        let (halves, ops) = (self.halves.next, self.op_offsets.next);
        Cursors {
            half: first_pending.map_or(halves, |first| first.min(halves)),
            op: first_op.map_or(ops, |first| first.min(ops)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half(physical: u64) -> Half {
        Half {
            physical,
            stored_ms: 0,
            check_at_ms: 0,
            group: Arc::from("g"),
            times: 0,
            taken: false,
            verified: true,
        }
    }

    fn book(halves: u64) -> Book {
        let mut book = Book::default();
        for offset in 0..halves {
            book.enter(offset, half(offset * 100));
        }
        book
    }

    fn cursors(half: u64, op: u64) -> Cursors {
        Cursors { half, op }
    }

    #[test]
    fn the_cursor_of_halves_waits_for_the_first_pending_one() {
        let mut book = book(4);
        book.ended(&[0, 2], 0);
        assert_eq!(book.cursors(0), cursors(1, 0));
        book.ended(&[1], 1);
        assert_eq!(book.cursors(0), cursors(3, 0));
        book.ended(&[3], 2);
        assert_eq!(book.cursors(0), cursors(4, 0));
    }

    #[test]
    fn an_op_message_is_passed_only_behind_the_published_cursor_of_halves() {
        let mut book = book(4);
        book.ended(&[0, 2], 0);
        book.ended(&[1], 1);
        assert_eq!(book.cursors(0), cursors(3, 0));
        // Whoever reads from 1 on needs the message that names 2.
        assert_eq!(book.cursors(1), cursors(3, 0));
        assert_eq!(book.cursors(3), cursors(3, 2));
    }

    #[test]
    fn a_half_that_was_stored_but_not_entered_is_not_passed() {
        let mut book = Book::default();
        book.enter(1, half(100));
        book.ended(&[1], 1);
        assert_eq!(book.cursors(0), cursors(0, 0));
        book.enter(0, half(0));
        assert_eq!(book.cursors(0), cursors(0, 0));
        book.ended(&[0], 0);
        assert_eq!(book.cursors(0), cursors(2, 0));
        assert_eq!(book.cursors(2), cursors(2, 2));
    }

    #[test]
    fn a_half_is_given_to_one_at_a_time() {
        let mut book = book(1);
        assert_eq!(book.take(0, 7), Take::Elsewhere);
        assert!(matches!(book.take(0, 0), Take::Taken(_)));
        assert_eq!(book.take(0, 0), Take::Busy);
        book.release(0);
        assert!(matches!(book.take(0, 0), Take::Taken(_)));
        book.ended(&[0], 0);
        assert_eq!(book.take(0, 0), Take::NotPending);
        book.release(0);
        assert_eq!(book.len(), 0);
    }
}
