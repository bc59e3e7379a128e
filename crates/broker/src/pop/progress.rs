//! How far a group has popped a queue. Plain values: what happens between calls, such as reading and appending, is the caller's.
//!
//! Invariant: `floor` never passes a message that is neither acknowledged nor given back and stored elsewhere. `floor` is what is
//! committed as the group's offset, and all that a start needs: what lies behind it is popped again. So a crash at any moment
//! repeats messages and loses none.

use super::in_flight::{Expired, InFlight, Outcome};
use super::order::Order;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// The first message that was not popped, or, in order, that is to be popped next.
    next: i64,
    /// Whether `next` has a meaning.
    has_begun: bool,
    /// Somebody reads messages from `next` on to pop them.
    is_reading: bool,
    in_flight: InFlight,
    order: Option<Order>,
}

/// Whether a pop may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// From this offset on. [`Progress::end_read`] must follow.
    Read(i64),
    /// Another pop reads at this moment.
    Busy,
    /// Messages in order hold the queue up, or messages that were popped otherwise stand against popping in order.
    Blocked,
}

/// What a pop wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// In order, that is one pop at a time.
    pub(crate) in_order: bool,
    /// Of a pop in order: which one it is, when it is asked again.
    pub(crate) attempt: Option<&'a str>,
    /// Monotonic ms.
    pub(crate) now: i64,
}

/// When messages were popped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    /// ms since 1970, part of the handles.
    pub(crate) popped_ms: i64,
    /// When they may be seen again, in monotonic ms.
    pub(crate) due_at: i64,
}

impl Progress {
    /// The offset to commit; none before the first pop.
    pub(crate) fn floor(&self) -> Option<i64> {
        self.has_begun
            .then(|| self.in_flight.first().unwrap_or(self.next))
    }

    /// The first message that was not popped.
    pub(crate) fn next(&self) -> Option<i64> {
        self.has_begun.then_some(self.next)
    }

    /// Whether a pop reads at this moment.
    pub(crate) fn is_reading(&self) -> bool {
        self.is_reading
    }

    /// Messages in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len() + self.order.as_ref().map_or(0, Order::open)
    }

    /// Whether it says no more than the committed offset does.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.order.is_none() && !self.is_reading
    }

    /// When something happens by itself: a message is due, or a queue in order goes on, which is of interest when it lies behind
    /// `now`. Monotonic ms.
    pub(crate) fn next_due(&self, now: i64) -> Option<i64> {
        let free_at = self.order.as_ref().and_then(Order::free_at);
        let free_at = free_at.filter(|free_at| *free_at > now);
        self.in_flight.next_due().into_iter().chain(free_at).min()
    }

    /// `committed` is the group's offset as everybody else knows it. It counts when nothing is in flight, and when it is further.
    pub(crate) fn follow(&mut self, committed: i64) {
        if !self.has_begun || self.is_idle() {
            self.next = committed;
            self.has_begun = true;
        } else if committed > self.next && !self.is_reading {
            self.next = committed;
            self.order = None;
        }
    }

    /// An operator decided where the group goes on: what is in flight is forgotten.
    pub(crate) fn reset(&mut self, offset: i64) {
        *self = Progress {
            next: offset,
            has_begun: true,
            ..Progress::default()
        };
    }

    /// A pop comes. What it reads from the given offset on is popped by [`end_read`](Self::end_read).
    pub(crate) fn begin_read(&mut self, wanted: Wanted<'_>) -> Begin {
        if self.is_reading {
            return Begin::Busy;
        }
        if let Some(begin) = self.blocked(wanted) {
            return begin;
        }
        if !wanted.in_order {
            self.order = None;
        }
        self.is_reading = true;
        Begin::Read(self.next)
    }

    /// Whether a pop would be held up, without beginning it.
    pub(crate) fn blocked(&self, wanted: Wanted<'_>) -> Option<Begin> {
        let held_up = match &self.order {
            Some(order) => order.blocks(wanted.attempt, wanted.now),
            None => wanted.in_order && !self.in_flight.is_empty(),
        };
        held_up.then_some(Begin::Blocked)
    }

    /// `offsets` were read and are popped; the queue goes on at `next`. False when a reset came in between: they are not popped then.
    pub(crate) fn end_read(
        &mut self,
        begun_at: i64,
        wanted: Wanted<'_>,
        offsets: &[i64],
        next: i64,
        stamp: Stamp,
    ) -> bool {
        if !std::mem::take(&mut self.is_reading) || self.next != begun_at {
            return false;
        }
        debug_assert!(
            offsets
                .iter()
                .all(|offset| (begun_at..next).contains(offset))
        );
        if wanted.in_order && !offsets.is_empty() {
            let order = Order::new(self.order.as_ref(), wanted, stamp, offsets);
            // What the filter passed over before the first one is done.
            self.next = order.floor();
            self.order = Some(order);
        } else {
            // In order and nothing found: what held the queue up is not there any more.
            self.order = None;
            self.in_flight
                .insert(stamp.popped_ms, stamp.due_at, offsets);
            self.next = next;
        }
        true
    }

    /// What was popped in order last, while it is not all done.
    pub(crate) fn order(&self) -> Option<&Order> {
        self.order.as_ref()
    }

    /// Takes over what another life popped in order. Before the first pop.
    pub(crate) fn restore(&mut self, order: Order) {
        self.next = order.floor();
        self.has_begun = true;
        self.order = Some(order);
    }

    /// Nothing is popped by the read that began.
    pub(crate) fn give_up_read(&mut self) {
        self.is_reading = false;
    }

    /// How often the messages of the last pop in order were delivered before.
    pub(crate) fn counts(&self) -> Vec<(i64, u32)> {
        self.order.as_ref().map(Order::counts).unwrap_or_default()
    }

    /// A consumer is done with a message.
    pub(crate) fn acknowledge(&mut self, offset: i64, popped_ms: i64, in_order: bool) -> Outcome {
        if !in_order {
            return self.in_flight.remove(offset, popped_ms);
        }
        let Some(order) = &mut self.order else {
            return Outcome::Stale;
        };
        let outcome = order.acknowledge(offset, popped_ms);
        if outcome == Outcome::Done && !self.is_reading {
            self.next = order.floor();
            if order.open() == 0 {
                self.order = None;
            }
        }
        outcome
    }

    /// A consumer wants another time for a message, which counts from `stamp` on.
    pub(crate) fn postpone(
        &mut self,
        offset: i64,
        popped_ms: i64,
        in_order: bool,
        stamp: Stamp,
    ) -> Outcome {
        if !in_order {
            return self
                .in_flight
                .postpone(offset, popped_ms, stamp.popped_ms, stamp.due_at);
        }
        match &mut self.order {
            Some(order) => order.postpone(offset, popped_ms, stamp.due_at),
            None => Outcome::Stale,
        }
    }

    /// Messages whose time is over. Each is given back once: it must be stored elsewhere and then [acknowledged](Self::acknowledge), or
    /// [postponed](Self::postpone).
    pub(crate) fn take_due(&mut self, now: i64, count: usize) -> Vec<Expired> {
        self.in_flight.take_due(now, count)
    }

    #[cfg(test)]
    pub(crate) fn in_flight_offsets(&self) -> Vec<i64> {
        self.in_flight.offsets()
    }
}
