//! The messages of one queue that a group has popped and not acknowledged. Plain values: no clock, no store.
//!
//! Messages that were popped together share a batch, which holds when they were popped and when they are due. A message that
//! is done leaves at once, so the table holds what is in flight and nothing else: some twenty bytes a message, and some
//! eighty a batch.

use std::collections::{BTreeMap, BTreeSet};

/// What became of an acknowledgement, or of another change of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It took effect.
    Done,
    /// The message is not in flight, or in flight by a later pop: it was acknowledged before, or given back since its time was over.
    Stale,
}

/// A message whose time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expired {
    pub(crate) offset: i64,
    pub(crate) popped_ms: i64,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct InFlight {
    /// Offset → number of its batch.
    messages: BTreeMap<i64, u32>,
    batches: Vec<Option<Batch>>,
    /// Numbers without a batch.
    free: Vec<u32>,
    /// When each batch is due that is not being given back. Monotonic ms.
    due: BTreeSet<(i64, u32)>,
}

#[derive(Clone, Debug)]
struct Batch {
    popped_ms: i64,
    due_at: i64,
    first: i64,
    last: i64,
    /// Messages that are not done.
    left: u32,
}

impl InFlight {
    /// How many messages are in flight.
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether none is.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The first message that is not done.
    pub(crate) fn first(&self) -> Option<i64> {
        self.messages.keys().next().copied()
    }

    /// When the first batch is due.
    pub(crate) fn next_due(&self) -> Option<i64> {
        self.due.first().map(|(due_at, _)| *due_at)
    }

    /// `offsets`, rising, were popped together.
    pub(crate) fn insert(&mut self, popped_ms: i64, due_at: i64, offsets: &[i64]) {
        let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else {
            return;
        };
        let batch = Batch {
            popped_ms,
            due_at,
            first: *first,
            last: *last,
            left: offsets.len() as u32,
        };
        let number = match self.free.pop() {
            Some(number) => {
                self.batches[number as usize] = Some(batch);
                number
            }
            None => {
                self.batches.push(Some(batch));
                self.batches.len() as u32 - 1
            }
        };
        self.due.insert((due_at, number));
        for offset in offsets {
            let before = self.messages.insert(*offset, number);
            debug_assert!(before.is_none(), "a message in flight is not popped again");
        }
    }

    /// The message is done, if it is in flight by this pop.
    pub(crate) fn remove(&mut self, offset: i64, popped_ms: i64) -> Outcome {
        let Some(number) = self.messages.get(&offset).copied() else {
            return Outcome::Stale;
        };
        let slot = &mut self.batches[number as usize];
        let Some(batch) = slot.as_mut().filter(|batch| batch.popped_ms == popped_ms) else {
            return Outcome::Stale;
        };
        batch.left -= 1;
        if batch.left == 0 {
            self.due.remove(&(batch.due_at, number));
            *slot = None;
            self.free.push(number);
        }
        self.messages.remove(&offset);
        if self.messages.is_empty() {
            // What one large backlog needed is given back.
            *self = InFlight::default();
        }
        Outcome::Done
    }

    /// The message is due at another time, as if it had been popped at `now_ms`.
    pub(crate) fn postpone(
        &mut self,
        offset: i64,
        popped_ms: i64,
        now_ms: i64,
        due_at: i64,
    ) -> Outcome {
        let outcome = self.remove(offset, popped_ms);
        if outcome == Outcome::Done {
            self.insert(now_ms, due_at, &[offset]);
        }
        outcome
    }

    /// Messages that are due at `now`, at least `count` if there are so many. They stay in flight until they are removed or postponed, and
    /// are not given again before that.
    pub(crate) fn take_due(&mut self, now: i64, count: usize) -> Vec<Expired> {
        let mut expired = Vec::new();
        while expired.len() < count {
            let Some((due_at, number)) = self.due.first().copied().filter(|(at, _)| *at <= now)
            else {
                break;
            };
            self.due.remove(&(due_at, number));
            let batch = self.batches[number as usize]
                .as_ref()
                .expect("a batch that is due is there");
            let of_batch = self
                .messages
                .range(batch.first..=batch.last)
                .filter(|(_, of)| **of == number);
            expired.extend(of_batch.map(|(offset, _)| Expired {
                offset: *offset,
                popped_ms: batch.popped_ms,
            }));
        }
        expired
    }

    /// Every message, for a model to compare with.
    #[cfg(test)]
    pub(crate) fn offsets(&self) -> Vec<i64> {
        self.messages.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_leaves_with_its_acknowledgement() {
        let mut table = InFlight::default();
        table.insert(100, 160, &[5, 6, 9]);
        assert_eq!((table.len(), table.first()), (3, Some(5)));
        assert_eq!(table.remove(6, 100), Outcome::Done);
        assert_eq!(table.remove(6, 100), Outcome::Stale, "twice");
        assert_eq!(table.remove(7, 100), Outcome::Stale, "never popped");
        assert_eq!(table.remove(5, 99), Outcome::Stale, "another pop");
        assert_eq!(table.remove(5, 100), Outcome::Done);
        assert_eq!(table.first(), Some(9));
        assert_eq!(table.remove(9, 100), Outcome::Done);
        assert!(table.is_empty() && table.next_due().is_none());
    }

    #[test]
    fn what_is_due_is_given_once() {
        let mut table = InFlight::default();
        table.insert(100, 160, &[5, 6]);
        table.insert(101, 150, &[7]);
        assert!(table.take_due(149, 10).is_empty());
        assert_eq!(
            table.take_due(155, 10),
            [Expired {
                offset: 7,
                popped_ms: 101
            }]
        );
        assert!(table.take_due(155, 10).is_empty());
        assert_eq!(table.take_due(160, 1).len(), 2, "batches stay whole");
        assert_eq!(table.len(), 3);
        assert_eq!(table.remove(5, 100), Outcome::Done);
    }

    #[test]
    fn a_postponed_message_belongs_to_its_new_time() {
        let mut table = InFlight::default();
        table.insert(100, 160, &[5, 6, 7]);
        assert_eq!(table.postpone(6, 100, 120, 500), Outcome::Done);
        assert_eq!(
            table.remove(6, 100),
            Outcome::Stale,
            "the old handle is worth nothing"
        );
        assert_eq!(table.postpone(6, 100, 130, 600), Outcome::Stale);
        let due: Vec<i64> = table.take_due(160, 10).iter().map(|e| e.offset).collect();
        assert_eq!(due, [5, 7]);
        assert_eq!(table.next_due(), Some(500));
        assert_eq!(table.remove(6, 120), Outcome::Done);
    }

    #[test]
    fn a_million_messages_in_flight_take_few_bytes_each() {
        // One message a pop is the worst case: a batch each.
        let of_a_batch = size_of::<Option<Batch>>() + 2 * size_of::<(i64, u32)>();
        let of_a_message = 2 * size_of::<(i64, u32)>();
        assert!((of_a_batch + of_a_message) * 1_000_000 < 160 << 20);
    }
}
