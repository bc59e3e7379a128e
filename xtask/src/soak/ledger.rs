//! What was sent, what is owed for it, and what came.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Examples that an account gives of each kind.
const EXAMPLES: usize = 5;

/// What is done with a message, and so what must become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Consumed; now and then not at once.
    Plain,
    /// Never consumed: it ends as a dead letter.
    GivenUp,
    /// With a delay level.
    Delayed,
    /// At a time within the run.
    Timed,
    /// At a time far behind the run: it must still wait in the end.
    Far,
    /// The half of a transaction that its producer commits.
    Committed,
    /// That it rolls back: nobody may get it.
    RolledBack,
    /// That it says nothing of until the broker asks.
    Asked,
    /// Popped, and now and then not acknowledged at first.
    Popped,
    /// Taken by the group's expression.
    Selected,
    /// Not taken by it: the group may not get it.
    PassedOver,
    /// In a queue that is consumed in order.
    Ordered,
    /// In a light queue.
    Light,
    /// With a key, in a compaction topic: it may be replaced.
    Compacted,
}

impl Kind {
    /// Whether nobody may get it.
    fn is_unseen(self) -> bool {
        matches!(self, Kind::RolledBack | Kind::PassedOver | Kind::Far)
    }
}

/// One message.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    /// Nothing may come of it before, in milliseconds since 1970.
    pub(super) due_ms: i64,
    /// A broker acknowledged it. Of others nobody knows whether they are there.
    pub(super) is_accepted: bool,
    pub(super) delivered: u32,
    pub(super) is_dead: bool,
    /// A later message of its key took its place.
    pub(super) is_replaced: bool,
    /// How late it came at first.
    pub(super) late_ms: i64,
    pub(super) recall_handle: Option<String>,
}

/// All messages, by number.
#[derive(Default)]
pub(super) struct Ledger(Mutex<State>);

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    broken: Vec<String>,
}

pub(super) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as i64)
}

impl Ledger {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message that is sent now. Gives its number.
    pub(super) fn begin(&self, kind: Kind, due_ms: i64) -> u64 {
        let mut state = self.state();
        state.entries.push(Entry {
            kind,
            due_ms,
            is_accepted: false,
            delivered: 0,
            is_dead: false,
            is_replaced: false,
            late_ms: 0,
            recall_handle: None,
        });
        state.entries.len() as u64 - 1
    }

    pub(super) fn accepted(&self, number: u64, recall_handle: Option<String>) {
        let mut state = self.state();
        let entry = &mut state.entries[number as usize];
        entry.is_accepted = true;
        entry.recall_handle = recall_handle;
    }

    /// A consumer got it, and is done with it.
    pub(super) fn delivered(&self, number: u64) {
        let now_ms = now_ms();
        let mut state = self.state();
        let Some(entry) = state.entries.get_mut(number as usize) else {
            state.broken.push(format!("{number} was never sent"));
            return;
        };
        entry.delivered += 1;
        if entry.delivered == 1 {
            entry.late_ms = now_ms - entry.due_ms;
        }
        let (kind, early_ms) = (entry.kind, entry.due_ms - now_ms);
        if kind.is_unseen() {
            state
                .broken
                .push(format!("{number} is {kind:?}, and somebody got it"));
        } else if early_ms > 0 {
            state
                .broken
                .push(format!("{number}, {kind:?}, came {early_ms} ms early"));
        }
    }

    pub(super) fn dead(&self, number: u64) {
        let mut state = self.state();
        match state.entries.get_mut(number as usize) {
            Some(entry) if entry.kind == Kind::GivenUp => entry.is_dead = true,
            _ => state
                .broken
                .push(format!("{number} is a dead letter, and nobody gave it up")),
        }
    }

    /// What is left of a compaction topic, and which of the others were replaced.
    pub(super) fn left(&self, found: &[u64], is_replaced: impl Fn(u64) -> bool) {
        let mut state = self.state();
        for (number, entry) in state.entries.iter_mut().enumerate() {
            if entry.kind == Kind::Compacted {
                entry.delivered = 0;
                entry.is_replaced = is_replaced(number as u64);
            }
        }
        for number in found {
            match state.entries.get_mut(*number as usize) {
                Some(entry) if entry.kind == Kind::Compacted => {
                    entry.delivered += 1;
                    entry.is_replaced = false;
                }
                _ => state.broken.push(format!(
                    "{number} is in the compaction topic, and was not sent there"
                )),
            }
        }
    }

    /// Something that must not happen.
    pub(super) fn broke(&self, what: String) {
        self.state().broken.push(what);
    }

    /// The kind of a message, and how often it was delivered.
    pub(super) fn look(&self, number: u64) -> Option<(Kind, u32)> {
        let state = self.state();
        let entry = state.entries.get(number as usize)?;
        Some((entry.kind, entry.delivered))
    }

    /// Those of `numbers` that were accepted and not delivered.
    pub(super) fn missing_of(&self, numbers: &[u64]) -> Vec<u64> {
        let state = self.state();
        let is_missing = |number: &&u64| {
            let entry = &state.entries[**number as usize];
            entry.is_accepted && entry.delivered == 0
        };
        numbers.iter().filter(is_missing).copied().collect()
    }

    /// Messages that must still wait: number and handle.
    pub(super) fn far(&self) -> Vec<(u64, Option<String>)> {
        let state = self.state();
        let far = state.entries.iter().enumerate();
        far.filter(|(_, entry)| entry.kind == Kind::Far && entry.is_accepted)
            .map(|(number, entry)| (number as u64, entry.recall_handle.clone()))
            .collect()
    }

    /// How many messages are owed.
    pub(super) fn owed(&self) -> usize {
        let state = self.state();
        state.entries.iter().filter(|entry| is_owed(entry)).count()
    }

    pub(super) fn account(&self) -> Account {
        let state = self.state();
        let mut account = Account {
            broken: state.broken.clone(),
            ..Account::default()
        };
        for (number, entry) in state.entries.iter().enumerate() {
            let line = account.lines.entry(entry.kind).or_default();
            line.sent += 1;
            line.accepted += u64::from(entry.is_accepted);
            line.delivered += u64::from(entry.delivered > 0);
            line.again += u64::from(entry.delivered.saturating_sub(1));
            line.dead += u64::from(entry.is_dead);
            line.replaced += u64::from(entry.is_accepted && entry.is_replaced);
            line.late_ms = line.late_ms.max(entry.late_ms);
            if is_owed(entry) {
                line.owed += 1;
                if line.owed <= EXAMPLES as u64 {
                    account.broken.push(format!(
                        "{number}, {:?}, was accepted and did not come",
                        entry.kind
                    ));
                }
            }
        }
        account
    }
}

/// Whether something must still come of it.
fn is_owed(entry: &Entry) -> bool {
    if !entry.is_accepted || entry.kind.is_unseen() {
        return false;
    }
    match entry.kind {
        Kind::GivenUp => !entry.is_dead,
        Kind::Compacted => entry.delivered == 0 && !entry.is_replaced,
        _ => entry.delivered == 0,
    }
}

/// What became of all.
#[derive(Default)]
pub(super) struct Account {
    lines: BTreeMap<Kind, Line>,
    /// Every broken promise.
    pub(super) broken: Vec<String>,
}

#[derive(Default)]
struct Line {
    sent: u64,
    accepted: u64,
    delivered: u64,
    again: u64,
    dead: u64,
    replaced: u64,
    owed: u64,
    late_ms: i64,
}

impl Account {
    pub(super) fn accepted(&self) -> u64 {
        self.lines.values().map(|line| line.accepted).sum()
    }

    /// How many messages of compaction topics were compacted away.
    pub(super) fn replaced(&self) -> u64 {
        self.lines.values().map(|line| line.replaced).sum()
    }

    /// Kinds of which nothing was accepted.
    pub(super) fn idle(&self) -> Vec<Kind> {
        let idle = self.lines.iter().filter(|(_, line)| line.accepted == 0);
        idle.map(|(kind, _)| *kind).collect()
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<12} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "kind", "sent", "accepted", "delivered", "again", "dead", "replaced", "owed", "late ms"
        )?;
        for (kind, line) in &self.lines {
            writeln!(
                f,
                "{:<12} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
                format!("{kind:?}"),
                line.sent,
                line.accepted,
                line.delivered,
                line.again,
                line.dead,
                line.replaced,
                line.owed,
                line.late_ms
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_accepted_is_owed_until_it_comes() {
        let ledger = Ledger::default();
        let plain = ledger.begin(Kind::Plain, 0);
        let given_up = ledger.begin(Kind::GivenUp, 0);
        let unknown = ledger.begin(Kind::Plain, 0);
        assert_eq!(ledger.owed(), 0, "nobody knows whether {unknown} is there");
        ledger.accepted(plain, None);
        ledger.accepted(given_up, None);
        ledger.delivered(given_up);
        assert_eq!(ledger.owed(), 2);
        ledger.delivered(plain);
        ledger.dead(given_up);
        assert_eq!(ledger.owed(), 0);
        assert!(ledger.account().broken.is_empty());
    }

    #[test]
    fn of_a_key_the_last_accepted_message_or_a_later_one_is_owed() {
        let ledger = Ledger::default();
        let numbers: Vec<u64> = (0..3).map(|_| ledger.begin(Kind::Compacted, 0)).collect();
        ledger.accepted(numbers[0], None);
        ledger.accepted(numbers[1], None);
        ledger.left(&[numbers[0]], |_| false);
        assert_eq!(ledger.owed(), 1);
        // Nobody knows of the third whether it is there; when it is, it takes the place of those before.
        ledger.left(&[numbers[2]], |number| number < numbers[2]);
        assert_eq!(ledger.owed(), 0);
        assert!(ledger.account().broken.is_empty());
        ledger.left(&[7], |_| false);
        assert!(!ledger.account().broken.is_empty());
    }

    #[test]
    fn what_nobody_may_get_and_what_comes_early_is_told() {
        let ledger = Ledger::default();
        let rolled_back = ledger.begin(Kind::RolledBack, 0);
        let timed = ledger.begin(Kind::Timed, now_ms() + 60_000);
        ledger.delivered(rolled_back);
        ledger.delivered(timed);
        ledger.delivered(99);
        ledger.dead(timed);
        assert_eq!(ledger.account().broken.len(), 4);
    }
}
