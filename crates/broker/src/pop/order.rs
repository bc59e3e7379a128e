//! The messages of one queue that a group consumes in order: the last ones that were popped hold up all others. Plain values.
//!
//! Java 5.3.4: `ConsumerOrderInfoManager`. The queue stands still until every message is acknowledged or the first that is not
//! may be seen again; then the queue goes on at that message, and whoever pops hears how often each was delivered before.
//! A pop with the attempt id of the last one is that pop again, whose answer was lost on its way.

use super::in_flight::Outcome;
use super::progress::{Stamp, Wanted};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(super) attempt: Option<String>,
    pub(super) popped_ms: i64,
    /// How long its messages were to be hidden.
    pub(super) invisible_ms: i64,
    /// In order, never empty.
    pub(super) messages: Vec<Message>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) offset: i64,
    /// Monotonic ms.
    pub(super) visible_at: i64,
    /// Its consumer asked for another time.
    pub(super) is_postponed: bool,
    pub(super) is_acknowledged: bool,
    /// Deliveries before this one.
    pub(super) delivered: u32,
}

impl Order {
    /// `offsets`, rising and not empty, were popped after `before`.
    pub(crate) fn new(
        before: Option<&Order>,
        wanted: Wanted<'_>,
        stamp: Stamp,
        offsets: &[i64],
    ) -> Order {
        let attempt = wanted.attempt;
        let again = before.is_some_and(|before| before.is_attempt(attempt));
        let delivered = |offset: i64| {
            let message = before.and_then(|before| before.message(offset));
            message.map_or(0, |message| {
                message.delivered.saturating_add(u32::from(!again))
            })
        };
        let message = |offset: &i64| Message {
            offset: *offset,
            visible_at: stamp.due_at,
            is_postponed: false,
            is_acknowledged: false,
            delivered: delivered(*offset),
        };
        Order {
            attempt: attempt.map(str::to_owned),
            popped_ms: stamp.popped_ms,
            invisible_ms: stamp.due_at.saturating_sub(wanted.now),
            messages: offsets.iter().map(message).collect(),
        }
    }

    fn is_attempt(&self, attempt: Option<&str>) -> bool {
        attempt.is_some() && self.attempt.as_deref() == attempt
    }

    fn message(&self, offset: i64) -> Option<&Message> {
        self.messages
            .iter()
            .find(|message| message.offset == offset)
    }

    /// Whether the queue stands still for a pop with this attempt id.
    pub(crate) fn blocks(&self, attempt: Option<&str>, now: i64) -> bool {
        !self.is_attempt(attempt) && self.free_at().is_some_and(|free_at| now < free_at)
    }

    /// When the queue goes on without further acknowledgements; none when all are there.
    pub(crate) fn free_at(&self) -> Option<i64> {
        let open = self
            .messages
            .iter()
            .filter(|message| !message.is_acknowledged);
        open.map(|message| message.visible_at).max()
    }

    /// Where the queue goes on: at the first message that is not acknowledged.
    pub(crate) fn floor(&self) -> i64 {
        let open = self
            .messages
            .iter()
            .find(|message| !message.is_acknowledged);
        match (open, self.messages.last()) {
            (Some(message), _) => message.offset,
            (None, Some(last)) => last.offset + 1,
            (None, None) => 0,
        }
    }

    /// Messages that are not acknowledged.
    pub(crate) fn open(&self) -> usize {
        self.messages
            .iter()
            .filter(|message| !message.is_acknowledged)
            .count()
    }

    /// How often each message was delivered before.
    pub(crate) fn counts(&self) -> Vec<(i64, u32)> {
        self.messages
            .iter()
            .map(|message| (message.offset, message.delivered))
            .collect()
    }

    /// The message is acknowledged, if it belongs to this pop.
    pub(crate) fn acknowledge(&mut self, offset: i64, popped_ms: i64) -> Outcome {
        match self.of_pop(offset, popped_ms) {
            Some(message) => {
                message.is_acknowledged = true;
                Outcome::Done
            }
            None => Outcome::Stale,
        }
    }

    /// The message may be seen again at another time.
    pub(crate) fn postpone(&mut self, offset: i64, popped_ms: i64, visible_at: i64) -> Outcome {
        match self.of_pop(offset, popped_ms) {
            Some(message) => {
                message.visible_at = visible_at;
                message.is_postponed = true;
                Outcome::Done
            }
            None => Outcome::Stale,
        }
    }

    fn of_pop(&mut self, offset: i64, popped_ms: i64) -> Option<&mut Message> {
        let open = self
            .messages
            .iter_mut()
            .find(|message| message.offset == offset && !message.is_acknowledged);
        open.filter(|_| self.popped_ms == popped_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Popped by an attempt at some time, for sixty milliseconds.
    fn pop(before: Option<&Order>, attempt: Option<&str>, now: i64, offsets: &[i64]) -> Order {
        let wanted = Wanted {
            in_order: true,
            attempt,
            now,
        };
        let stamp = Stamp {
            popped_ms: now,
            due_at: now + 60,
        };
        Order::new(before, wanted, stamp, offsets)
    }

    fn popped(offsets: &[i64]) -> Order {
        pop(None, Some("a1"), 100, offsets)
    }

    #[test]
    fn the_queue_stands_until_all_are_acknowledged() {
        let mut order = popped(&[5, 6]);
        assert!(order.blocks(Some("a2"), 120) && order.blocks(None, 120));
        assert_eq!(order.acknowledge(6, 100), Outcome::Done);
        assert_eq!((order.floor(), order.blocks(None, 120)), (5, true));
        assert_eq!(order.acknowledge(5, 100), Outcome::Done);
        assert_eq!((order.floor(), order.blocks(None, 120)), (7, false));
        assert_eq!(order.acknowledge(5, 100), Outcome::Stale);
    }

    #[test]
    fn the_queue_goes_on_when_the_time_is_over() {
        let mut order = popped(&[5, 6]);
        assert!(!order.blocks(None, 160));
        assert_eq!(order.postpone(5, 100, 200), Outcome::Done);
        assert!(order.blocks(None, 160) && !order.blocks(None, 200));
        assert_eq!(order.postpone(5, 99, 900), Outcome::Stale, "another pop");
    }

    #[test]
    fn deliveries_are_counted_but_not_those_of_the_same_attempt() {
        let first = popped(&[5, 6]);
        assert!(!first.blocks(Some("a1"), 120), "the same attempt again");
        let same = pop(Some(&first), Some("a1"), 130, &[5, 6]);
        assert_eq!(same.counts(), [(5, 0), (6, 0)]);
        let second = pop(Some(&same), Some("a2"), 200, &[5, 6, 7]);
        assert_eq!(second.counts(), [(5, 1), (6, 1), (7, 0)]);
        let third = pop(Some(&second), None, 300, &[5]);
        assert_eq!(third.counts(), [(5, 2)]);
    }
}
