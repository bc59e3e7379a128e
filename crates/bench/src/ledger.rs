//! What was received, held against what was acknowledged: none lost, none twice, each queue in order.

use crate::stamp::Stamp;

/// Numbers that one reader has seen from each producer of a run.
pub(crate) struct Seen {
    run: u32,
    producers: Vec<Bits>,
    pub(crate) counts: Counts,
}

/// What was wrong, or strange.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Different messages of this run.
    pub(crate) distinct: u64,
    /// Messages that had been seen before.
    pub(crate) duplicates: u64,
    /// Queue offsets that were left out.
    pub(crate) gaps: u64,
    /// Messages behind one that the same producer sent later into the same queue.
    pub(crate) overtaken: u64,
    /// Messages of other runs or of unknown senders.
    pub(crate) foreign: u64,
}

/// Where one reader stands in one queue.
pub(crate) struct Order {
    next_offset: u64,
    /// By producer, one more than the last number seen.
    above: Vec<u64>,
}

impl Order {
    pub(crate) fn from_offset(offset: u64) -> Self {
        Self {
            next_offset: offset,
            above: Vec::new(),
        }
    }

    /// Offsets before this one are not expected.
    pub(crate) fn skip_to(&mut self, offset: u64) {
        self.next_offset = self.next_offset.max(offset);
    }
}

impl Seen {
    /// Of `producers` senders.
    pub(crate) fn new(run: u32, producers: usize) -> Self {
        Self {
            run,
            producers: vec![Bits::default(); producers],
            counts: Counts::default(),
        }
    }

    /// Nothing seen yet, of the same run.
    pub(crate) fn like(other: &Self) -> Self {
        Self::new(other.run, other.producers.len())
    }

    /// Notes a message; false when it belongs to another run.
    pub(crate) fn note(
        &mut self,
        stamp: Option<Stamp>,
        queue_offset: u64,
        order: &mut Order,
    ) -> bool {
        self.counts.gaps += queue_offset.saturating_sub(order.next_offset);
        order.next_offset = order.next_offset.max(queue_offset + 1);
        let own = stamp.filter(|stamp| stamp.run == self.run);
        let Some(stamp) = own.filter(|stamp| (stamp.producer as usize) < self.producers.len())
        else {
            self.counts.foreign += 1;
            return false;
        };
        let producer = stamp.producer as usize;
        if self.producers[producer].set(stamp.sequence) {
            self.counts.distinct += 1;
        } else {
            self.counts.duplicates += 1;
        }
        if order.above.len() <= producer {
            order.above.resize(producer + 1, 0);
        }
        if stamp.sequence < order.above[producer] {
            self.counts.overtaken += 1;
        }
        order.above[producer] = order.above[producer].max(stamp.sequence + 1);
        true
    }

    /// Adds what another reader of the same group saw in other queues.
    pub(crate) fn merge(&mut self, other: &Self) {
        let common: u64 = self
            .producers
            .iter_mut()
            .zip(&other.producers)
            .map(|(own, others)| own.merge(others))
            .sum();
        self.counts.distinct += other.counts.distinct - common;
        self.counts.duplicates += other.counts.duplicates + common;
        self.counts.gaps += other.counts.gaps;
        self.counts.overtaken += other.counts.overtaken;
        self.counts.foreign += other.counts.foreign;
    }
}

/// A set of small numbers.
#[derive(Clone, Default)]
struct Bits(Vec<u64>);

impl Bits {
    /// Whether the number was not in the set.
    fn set(&mut self, number: u64) -> bool {
        let word = (number / 64) as usize;
        if word >= self.0.len() {
            self.0.resize((word + 1).next_power_of_two(), 0);
        }
        let bit = 1 << (number % 64);
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }

    /// Adds another set; gives how many numbers both had.
    fn merge(&mut self, other: &Self) -> u64 {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        let mut common = 0;
        for (own, others) in self.0.iter_mut().zip(&other.0) {
            common += u64::from((*own & others).count_ones());
            *own |= others;
        }
        common
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(sequence: u64) -> Option<Stamp> {
        Some(Stamp {
            run: 1,
            producer: 0,
            sequence,
            due_ns: 0,
        })
    }

    fn counts(notes: &[(u64, u64)]) -> Counts {
        let mut seen = Seen::new(1, 1);
        let mut order = Order::from_offset(0);
        for (sequence, offset) in notes {
            assert!(seen.note(stamp(*sequence), *offset, &mut order));
        }
        seen.counts
    }

    #[test]
    fn duplicates_gaps_and_overtaking_are_told_apart() {
        let clean = counts(&[(0, 0), (1, 1), (3, 2)]);
        assert_eq!(
            (
                clean.distinct,
                clean.duplicates,
                clean.gaps,
                clean.overtaken
            ),
            (3, 0, 0, 0)
        );
        let twice = counts(&[(0, 0), (0, 1)]);
        assert_eq!((twice.distinct, twice.duplicates), (1, 1));
        assert_eq!(counts(&[(0, 0), (1, 3)]).gaps, 2);
        assert_eq!(counts(&[(1, 0), (0, 1)]).overtaken, 1);
    }

    #[test]
    fn the_same_message_in_two_queues_is_a_duplicate() {
        let mut one = Seen::new(1, 1);
        let mut other = Seen::new(1, 1);
        one.note(stamp(0), 0, &mut Order::from_offset(0));
        other.note(stamp(0), 0, &mut Order::from_offset(0));
        other.note(stamp(200), 1, &mut Order::from_offset(1));
        one.merge(&other);
        assert_eq!((one.counts.distinct, one.counts.duplicates), (2, 1));
    }

    #[test]
    fn messages_of_another_run_do_not_count() {
        let mut seen = Seen::new(2, 1);
        assert!(!seen.note(stamp(0), 0, &mut Order::from_offset(0)));
        assert_eq!((seen.counts.distinct, seen.counts.foreign), (0, 1));
    }
}
