//! What was sent, and what the broker said of it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Result, ensure};
use platform::random::Random;
use protocol::record::Record;

use super::broker::QueueOf;

/// Largest body; a few are of this size, most are small.
const BODY_BYTES_LARGE: u64 = 20_000;

/// Where a message lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) physical: u64,
}

/// A message that was sent once, and never again.
pub(super) struct Sent {
    pub(super) queue: QueueOf,
    /// Nobody waited for an answer.
    pub(super) oneway: bool,
    /// What an acknowledgement said, or a consumer saw.
    pub(super) known: Option<Place>,
    /// Where it was read after a restart.
    pub(super) found: Option<Place>,
}

/// What is known of a topic that the traffic makes and deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    /// Acknowledged with so many queues.
    Exists(i32),
    /// Deleted, and that was acknowledged.
    Deleted,
    /// A request about it had no answer.
    InDoubt,
}

/// Counts for the report.
#[derive(Clone, Default)]
pub(super) struct Totals {
    pub(super) kills: u64,
    pub(super) kills_starting: u64,
    pub(super) kills_stopping: u64,
    pub(super) single: u64,
    pub(super) batched: u64,
    pub(super) oneway: u64,
    pub(super) oneway_found: u64,
    pub(super) delivered: u64,
    pub(super) topics_made: u64,
    pub(super) topics_deleted: u64,
    pub(super) commits: u64,
    pub(super) expired: u64,
    pub(super) read: u64,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) sent: HashMap<u64, Sent>,
    next: u64,
    /// Acknowledged since the last check.
    pub(super) fresh: Vec<u64>,
    pub(super) topics: BTreeMap<Arc<str>, Topic>,
    /// By group and queue: the highest offset that was sent, and the highest that was acknowledged.
    pub(super) commits: HashMap<(&'static str, QueueOf), (i64, i64)>,
    pub(super) totals: Totals,
}

/// See the module.
#[derive(Default)]
pub(super) struct Ledger(Mutex<State>);

impl Ledger {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder panics")
    }

    pub(super) fn note(&self, change: impl FnOnce(&mut Totals)) {
        change(&mut self.state().totals);
    }

    pub(super) fn totals(&self) -> Totals {
        self.state().totals.clone()
    }

    /// The number of a message that is about to be sent to `queue`.
    pub(super) fn next(&self, queue: &QueueOf, oneway: bool) -> u64 {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        let sent = Sent {
            queue: queue.clone(),
            oneway,
            known: None,
            found: None,
        };
        state.sent.insert(number, sent);
        number
    }

    /// It lies there, says the broker, or who read it.
    pub(super) fn known(&self, number: u64, place: Place) -> Result<()> {
        let mut state = self.state();
        let state = &mut *state;
        let Some(sent) = state.sent.get_mut(&number) else {
            anyhow::bail!("message {number} was never sent");
        };
        if let Some(before) = sent.known.replace(place) {
            ensure!(
                before == place,
                "message {number} of {:?} was at {before:?} and is at {place:?}",
                sent.queue
            );
        } else {
            state.fresh.push(number);
        }
        Ok(())
    }
}

impl Totals {
    pub(super) fn add(&mut self, other: &Totals) {
        let pairs = [
            (&mut self.kills, other.kills),
            (&mut self.kills_starting, other.kills_starting),
            (&mut self.kills_stopping, other.kills_stopping),
            (&mut self.single, other.single),
            (&mut self.batched, other.batched),
            (&mut self.oneway, other.oneway),
            (&mut self.oneway_found, other.oneway_found),
            (&mut self.delivered, other.delivered),
            (&mut self.topics_made, other.topics_made),
            (&mut self.topics_deleted, other.topics_deleted),
            (&mut self.commits, other.commits),
            (&mut self.expired, other.expired),
            (&mut self.read, other.read),
        ];
        for (sum, count) in pairs {
            *sum += count;
        }
    }

    /// A campaign whose traffic stood still has shown nothing.
    pub(super) fn nothing_was_idle(&self, retention: bool, cycles: usize) -> Result<()> {
        for (count, what) in [
            (self.single, "acknowledged send"),
            (self.batched, "acknowledged batch"),
            (self.oneway_found, "one-way message that arrived"),
            (self.delivered, "message delivered"),
            (self.topics_made, "topic made"),
            (self.commits, "offset committed"),
        ] {
            ensure!(count > 0, "not one {what}");
        }
        // A short era may end before the first expires.
        ensure!(
            !retention || cycles < super::ERA || self.expired > 0,
            "not one message expired"
        );
        Ok(())
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} single and {} batched messages acknowledged, {} of {} one-way arrived, {} delivered, {} expired; {} topics made, {} deleted; \
             {} commits; {} read back; besides {} kills at start, {} of the kills while stopping",
            self.single,
            self.batched,
            self.oneway_found,
            self.oneway,
            self.delivered,
            self.expired,
            self.topics_made,
            self.topics_deleted,
            self.commits,
            self.read,
            self.kills_starting,
            self.kills_stopping
        )
    }
}

/// The body of a message follows from its number.
pub(super) fn body(number: u64) -> Vec<u8> {
    let mut random = Random(number ^ 0x006b_696c_6c00);
    let bytes = if random.once_in(100) {
        BODY_BYTES_LARGE
    } else {
        8 + random.below(400)
    };
    let mut body = number.to_be_bytes().to_vec();
    while body.len() < bytes as usize {
        body.extend(random.next_u64().to_be_bytes());
    }
    body
}

/// Found by no other message.
pub(super) fn key(number: u64) -> String {
    format!("k{number}")
}

/// The properties that a message is sent with.
pub(super) fn properties(number: u64) -> String {
    format!(
        "KEYS\u{1}{}\u{2}UNIQ_KEY\u{1}id-{number:016X}\u{2}TAGS\u{1}t{}\u{2}",
        key(number),
        number % 3
    )
}

/// The number of a record that is whole, and otherwise what is wrong with it.
pub(super) fn verify(record: &Record<'_>) -> Result<u64> {
    let head = record.body.first_chunk::<8>();
    let number = u64::from_be_bytes(*head.unwrap_or(&[0xff; 8]));
    ensure!(
        record.body == body(number),
        "a body that was never sent is at {} of {} {}",
        record.queue_offset,
        record.topic,
        record.queue_id
    );
    // The broker adds its own.
    ensure!(
        properties(number)
            .split_terminator('\u{2}')
            .all(|property| record.properties.split('\u{2}').any(|is| is == property)),
        "message {number} came with properties {:?}",
        record.properties
    );
    Ok(number)
}
