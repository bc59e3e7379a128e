//! A model of one queue under pops, acknowledgements, changes, expiry, kills and restarts, in every order that fits a few steps and in many
//! long random ones. What it shows: no message is ever lost, and whatever is not acknowledged comes again.

use std::collections::BTreeSet;

use platform::random::Random;

use super::in_flight::{Expired, Outcome};
use super::progress::{Begin, Progress, Stamp, Wanted};

/// Messages in the queue.
const MESSAGES: i64 = 4;
/// How long a popped message is hidden, in steps of the clock.
const INVISIBLE: i64 = 3;

/// A delivery that a consumer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Delivery {
    offset: i64,
    popped_ms: i64,
    in_order: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A pop begins to read: in order or not.
    Begin(bool),
    /// It takes so many messages; none is a read that failed.
    End(Option<i64>),
    /// The n-th delivery that consumers hold is acknowledged. They go on holding it: it may be acknowledged twice, or late.
    Ack(usize),
    /// Another time is asked for the n-th delivery.
    Change(usize),
    /// Time passes.
    Tick,
    /// What is due is about to be stored in the retry topic.
    TakeDue,
    /// It is stored, durably.
    Stored,
    /// The group hears of it.
    Known,
    /// It could not be stored.
    NotStored,
    /// The group's offset is written to its file.
    Save,
    /// The process dies and starts again.
    Kill,
}

#[derive(Clone, Debug, Default)]
struct World {
    progress: Progress,
    /// The group's offset in memory, and in the file.
    committed: i64,
    saved: i64,
    now: i64,
    reading: Option<(i64, bool)>,
    due: Vec<Expired>,
    /// Stored in the retry topic; the progress may not know yet.
    stored: Vec<Expired>,
    held: Vec<Delivery>,
    /// Acknowledged, or stored in the retry topic.
    safe: BTreeSet<i64>,
}

impl World {
    fn wanted(&self, in_order: bool) -> Wanted<'static> {
        Wanted {
            in_order,
            attempt: None,
            now: self.now,
        }
    }

    fn stamp(&self) -> Stamp {
        Stamp {
            popped_ms: self.now,
            due_at: self.now + INVISIBLE,
        }
    }

    /// Does a step if it can be done.
    fn step(&mut self, step: Step) -> bool {
        match step {
            Step::Begin(in_order) if self.reading.is_none() => {
                self.progress.follow(self.committed);
                match self.progress.begin_read(self.wanted(in_order)) {
                    Begin::Read(offset) => self.reading = Some((offset, in_order)),
                    Begin::Busy | Begin::Blocked => return false,
                }
            }
            Step::End(count) => {
                let Some((begun_at, in_order)) = self.reading.take() else {
                    return false;
                };
                self.end(begun_at, in_order, count);
            }
            Step::Ack(index) => {
                let Some(Delivery {
                    offset,
                    popped_ms,
                    in_order,
                }) = self.held.get(index).copied()
                else {
                    return false;
                };
                if self.progress.acknowledge(offset, popped_ms, in_order) == Outcome::Done {
                    self.safe.insert(offset);
                }
            }
            Step::Change(index) => {
                let Some(delivery) = self.held.get_mut(index) else {
                    return false;
                };
                let stamp = Stamp {
                    popped_ms: self.now,
                    due_at: self.now + INVISIBLE,
                };
                let Delivery {
                    offset,
                    popped_ms,
                    in_order,
                } = *delivery;
                let outcome = self.progress.postpone(offset, popped_ms, in_order, stamp);
                if outcome == Outcome::Done && !in_order {
                    delivery.popped_ms = self.now;
                }
            }
            Step::Tick => self.now += 1,
            Step::TakeDue if self.due.is_empty() && self.stored.is_empty() => {
                self.due = self.progress.take_due(self.now, 2);
                if self.due.is_empty() {
                    return false;
                }
            }
            Step::Stored if !self.due.is_empty() => {
                self.stored = std::mem::take(&mut self.due);
                self.safe
                    .extend(self.stored.iter().map(|message| message.offset));
            }
            Step::Known if !self.stored.is_empty() => {
                for message in std::mem::take(&mut self.stored) {
                    self.progress
                        .acknowledge(message.offset, message.popped_ms, false);
                }
            }
            Step::NotStored if !self.due.is_empty() => {
                let stamp = self.stamp();
                for message in std::mem::take(&mut self.due) {
                    let popped_ms = message.popped_ms;
                    let stamp = Stamp { popped_ms, ..stamp };
                    self.progress
                        .postpone(message.offset, popped_ms, false, stamp);
                }
            }
            Step::Save if self.saved != self.committed => self.saved = self.committed,
            Step::Kill => {
                *self = World {
                    committed: self.saved,
                    saved: self.saved,
                    // A process does not start twice within a millisecond.
                    now: self.now + 1,
                    held: std::mem::take(&mut self.held),
                    safe: std::mem::take(&mut self.safe),
                    ..World::default()
                };
            }
            _ => return false,
        }
        if let Some(floor) = self.progress.floor() {
            self.committed = self.committed.max(floor);
        }
        self.check();
        true
    }

    fn end(&mut self, begun_at: i64, in_order: bool, count: Option<i64>) {
        let Some(count) = count else {
            return self.progress.give_up_read();
        };
        let next = (begun_at + count).min(MESSAGES);
        let offsets: Vec<i64> = (begun_at..next).collect();
        let (wanted, stamp) = (self.wanted(in_order), self.stamp());
        if self
            .progress
            .end_read(begun_at, wanted, &offsets, next, stamp)
        {
            self.held.extend(offsets.iter().map(|offset| Delivery {
                offset: *offset,
                popped_ms: stamp.popped_ms,
                in_order,
            }));
            // Consumers forget old deliveries, or a walk would only look at those.
            let forgotten = self.held.len().saturating_sub(6);
            self.held.drain(..forgotten);
        }
    }

    /// The invariant: a message that is not safe is behind the file's offset, and in flight or still to be popped.
    fn check(&self) {
        let next = self.progress.next();
        let in_flight = self.progress.in_flight_offsets();
        for offset in (0..MESSAGES).filter(|offset| !self.safe.contains(offset)) {
            assert!(
                offset >= self.saved && offset >= self.committed,
                "message {offset} is neither safe nor popped again after a kill: {self:?}"
            );
            assert!(
                next.is_none_or(|next| offset >= next) || in_flight.contains(&offset),
                "message {offset} is neither safe nor delivered again: {self:?}"
            );
        }
        assert!(self.saved <= self.committed);
    }

    /// Nothing goes wrong any more, and nobody acknowledges: everything is delivered and then safe.
    fn heal(mut self) {
        self.step(Step::End(None));
        self.step(Step::Known);
        self.step(Step::NotStored);
        for _ in 0..100 {
            if self.safe.len() as i64 == MESSAGES {
                return;
            }
            for step in [
                Step::Tick,
                Step::Begin(false),
                Step::End(Some(2)),
                Step::TakeDue,
                Step::Stored,
                Step::Known,
            ] {
                self.step(step);
            }
        }
        panic!("not everything was delivered: {self:?}");
    }
}

const SHORT: &[Step] = &[
    Step::Begin(false),
    Step::Begin(true),
    Step::End(Some(2)),
    Step::End(None),
    Step::Ack(0),
    Step::Ack(1),
    Step::Change(0),
    Step::Tick,
    Step::TakeDue,
    Step::Stored,
    Step::Known,
    Step::NotStored,
    Step::Save,
    Step::Kill,
];

fn explore(world: &World, depth: u32, seen: &mut u64) {
    if depth == 0 {
        *seen += 1;
        return world.clone().heal();
    }
    for step in SHORT {
        let mut next = world.clone();
        if next.step(*step) {
            explore(&next, depth - 1, seen);
        }
    }
}

/// From this state on, every order of a few steps.
fn explore_from(steps: &[Step], depth: u32) -> u64 {
    let mut world = World::default();
    for step in steps {
        assert!(world.step(*step), "{step:?} cannot be done");
    }
    let mut seen = 0;
    explore(&world, depth, &mut seen);
    seen
}

#[test]
fn no_order_of_a_few_steps_loses_a_message() {
    assert!(explore_from(&[], 7) > 1_000);
    let popped = [Step::Begin(false), Step::End(Some(3))];
    assert!(explore_from(&popped, 6) > 1_000);
    let in_order = [Step::Begin(true), Step::End(Some(2)), Step::Ack(1)];
    assert!(explore_from(&in_order, 6) > 1_000);
    let due = [
        Step::Begin(false),
        Step::End(Some(2)),
        Step::Begin(false),
        Step::Tick,
        Step::Tick,
        Step::Tick,
        Step::TakeDue,
    ];
    assert!(explore_from(&due, 6) > 1_000);
}

#[test]
fn no_long_walk_loses_a_message() {
    for seed in 0..3_000 {
        let mut chance = Random(seed);
        let mut world = World::default();
        for _ in 0..80 {
            let index = chance.below(6) as usize;
            let step = match chance.below(24) {
                0..4 => Step::Begin(chance.below(4) == 0),
                4..8 => Step::End(Some(chance.below(4) as i64)),
                8 => Step::End(None),
                9..13 => Step::Ack(index),
                13..15 => Step::Change(index),
                15..18 => Step::Tick,
                18..20 => Step::TakeDue,
                20 => Step::Stored,
                21 => Step::Known,
                22 => Step::Save,
                _ if chance.below(3) == 0 => Step::Kill,
                _ => Step::NotStored,
            };
            world.step(step);
        }
        world.heal();
    }
}
