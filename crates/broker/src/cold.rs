//! Flow control of cold reads: groups that read much from the disk wait, so that they do not drive what others need out of memory. Values in,
//! values out, time given. Java 5.3.4: `ColdDataCgCtrService`, `PIDAdaptiveColdCtrStrategy`, `SimpleColdCtrStrategy`.
//!
//! What is cold Java guesses from positions and from samples of the page cache. Here each read says it: what the kernel had to fetch is cold.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::Broker;
use crate::config::BrokerKeys;

/// Bytes are counted over spans of this length.
const SPAN: Duration = Duration::from_secs(5);
/// A group that reads nothing cold for this long is forgotten.
const FORGET_MS: i64 = 60_000;
/// How long a pull of a group that pulls on its own is held.
pub(crate) const HOLD: Duration = Duration::from_secs(3);
/// Pulls that are held at once. Beyond it they are refused.
const HELD_MAX: usize = 10_000;
/// Groups with a threshold of their own.
const CONFIGURED_MAX: usize = 10_000;
/// Groups that are counted. Beyond it a group counts with all others only.
const GROUPS_MAX: usize = 100_000;
/// Behind a group's name: the threshold that the strategy found for it.
const ADAPTIVE: &str = "||adaptive";
/// Groups that the strategy slows down in one turn.
const SLOWED_MAX: usize = 3;
/// Turns that the strategy looks back.
const HISTORY: usize = 10;
/// The part of the global threshold that the strategy steers to, in tenths.
const AIM_TENTHS: i64 = 8;

/// The settings that matter here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// `cgColdReadThreshold`
    pub(crate) of_group: i64,
    /// `globalColdReadThreshold`
    pub(crate) of_all: i64,
    /// `coldCtrStrategyEnable`, `usePIDColdCtrStrategy`
    pub(crate) strategy: Option<Strategy>,
}

/// How thresholds follow the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// By how far, how long and how fast all reads together miss the aim.
    Pid,
    /// By whether all reads together are over the limit.
    Simple,
}

impl Limits {
    pub(crate) fn of(keys: &BrokerKeys) -> Limits {
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        Limits {
            of_group: bytes(keys.cg_cold_read_threshold),
            of_all: bytes(keys.global_cold_read_threshold),
            strategy: keys
                .cold_ctr_strategy_enable
                .then_some(if keys.use_pid_cold_ctr_strategy {
                    Strategy::Pid
                } else {
                    Strategy::Simple
                }),
        }
    }
}

/// What a group has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Account {
    cold_acc: i64,
    create_time_mills: i64,
    last_cold_read_time_mills: i64,
}

/// What operators are shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Info {
    runtime_table: BTreeMap<String, Account>,
    config_table: BTreeMap<String, i64>,
    cg_cold_read_threshold: i64,
    global_cold_read_threshold: i64,
    global_acc: i64,
}

/// More groups have a threshold of their own than anybody needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no more than {CONFIGURED_MAX} groups can have a threshold of their own")]
pub(crate) struct TooMany;

/// Who read how much that was cold.
#[derive(Debug, Default)]
pub(crate) struct ColdReads {
    state: Mutex<State>,
    /// Bytes of all groups in this span.
    all: AtomicI64,
    held: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    groups: BTreeMap<String, Account>,
    /// By operators, and by the strategy under names of its own.
    configured: BTreeMap<String, i64>,
    /// By how much all reads of a turn missed the aim; positive: there is room.
    misses: VecDeque<i64>,
}

/// A pull that is held. Gives its place back when dropped.
#[derive(Debug)]
pub(crate) struct Held(Arc<ColdReads>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::AcqRel);
    }
}

impl ColdReads {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The group read `bytes` that were not in memory.
    pub(crate) fn read(&self, group: &str, bytes: usize, now_ms: i64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        if bytes == 0 {
            return;
        }
        self.all.fetch_add(bytes, Ordering::AcqRel);
        let mut state = self.state();
        if let Some(account) = state.groups.get_mut(group) {
            account.cold_acc = account.cold_acc.saturating_add(bytes);
            account.last_cold_read_time_mills = now_ms;
        } else if state.groups.len() < GROUPS_MAX {
            let account = Account {
                cold_acc: bytes,
                create_time_mills: now_ms,
                last_cold_read_time_mills: now_ms,
            };
            state.groups.insert(group.to_owned(), account);
        }
    }

    /// Whether the group's next cold read has to wait.
    pub(crate) fn is_over(&self, group: &str, limits: &Limits) -> bool {
        if protocol::topic::is_system_group(group) {
            return false;
        }
        let state = self.state();
        let Some(account) = state.groups.get(group) else {
            return false;
        };
        account.cold_acc >= state.threshold(group, limits)
            || self.all.load(Ordering::Acquire) >= limits.of_all
    }

    /// A place for a pull that is held.
    pub(crate) fn hold(self: &Arc<Self>) -> Option<Held> {
        let held = Held(self.clone());
        (self.held.fetch_add(1, Ordering::AcqRel) < HELD_MAX).then_some(held)
    }

    /// An operator gives a group a threshold of its own, in bytes a span.
    pub(crate) fn configure(&self, group: &str, threshold: i64) -> Result<(), TooMany> {
        let mut state = self.state();
        if state.configured.len() >= CONFIGURED_MAX && !state.configured.contains_key(group) {
            return Err(TooMany);
        }
        state.configured.insert(group.to_owned(), threshold);
        Ok(())
    }

    /// The group has the threshold of all others again.
    pub(crate) fn remove(&self, group: &str) {
        self.state().configured.remove(group);
    }

    /// What operators are shown.
    pub(crate) fn info(&self, limits: &Limits) -> Info {
        let state = self.state();
        Info {
            runtime_table: state.groups.clone(),
            config_table: state.configured.clone(),
            cg_cold_read_threshold: limits.of_group,
            global_cold_read_threshold: limits.of_all,
            global_acc: self.all.load(Ordering::Acquire),
        }
    }

    /// A span is over: counting begins anew, and the strategy moves its thresholds.
    fn turn(&self, limits: &Limits, now_ms: i64) {
        let all = self.all.swap(0, Ordering::AcqRel);
        let is_over = all > limits.of_all;
        let mut state = self.state();
        let state = &mut *state;
        if limits.strategy.is_some() {
            state.note_miss(limits.of_all / 10 * AIM_TENTHS - all);
        } else {
            state
                .configured
                .retain(|group, _| !group.ends_with(ADAPTIVE));
        }
        let mut hungry = Vec::new();
        let mut forgotten = Vec::new();
        for (group, account) in &state.groups {
            if now_ms - account.last_cold_read_time_mills >= FORGET_MS {
                forgotten.push(group.clone());
            } else if account.cold_acc >= state.threshold(group, limits) {
                hungry.push(group.clone());
            }
        }
        for group in forgotten {
            state.groups.remove(&group);
            state.configured.remove(&adaptive(&group));
        }
        if let Some(strategy) = limits.strategy {
            for group in hungry.iter().filter(|_| !is_over) {
                state.raise(group, strategy, limits);
            }
            state.lower_some(strategy, is_over, limits);
        }
        for account in state.groups.values_mut() {
            account.cold_acc = 0;
        }
    }
}

impl State {
    fn threshold(&self, group: &str, limits: &Limits) -> i64 {
        let own = self.configured.get(group);
        let adapted = || self.configured.get(&adaptive(group));
        let found = match limits.strategy {
            Some(_) => own.or_else(adapted),
            None => own,
        };
        found.copied().unwrap_or(limits.of_group)
    }

    fn note_miss(&mut self, miss: i64) {
        self.misses.push_back(miss);
        if self.misses.len() > HISTORY {
            self.misses.pop_front();
        }
    }

    /// Positive: groups may read more.
    fn decision(&self) -> f64 {
        let (Some(last), Some(before)) = (
            self.misses.back(),
            self.misses
                .len()
                .checked_sub(2)
                .and_then(|at| self.misses.get(at)),
        ) else {
            return 0.0;
        };
        if self.misses.len() < HISTORY {
            return 0.0;
        }
        let sum: f64 = self.misses.iter().map(|miss| *miss as f64).sum();
        0.5 * *last as f64 + 0.3 * sum + 0.2 * (*last as f64 - *before as f64)
    }

    fn raise(&mut self, group: &str, strategy: Strategy, limits: &Limits) {
        let wanted = strategy == Strategy::Simple || self.decision() > 0.0;
        if wanted && !self.configured.contains_key(group) {
            let threshold = self.threshold(group, limits);
            let raised = threshold.saturating_add(threshold / 2);
            self.configured.insert(adaptive(group), raised);
        }
    }

    fn lower_some(&mut self, strategy: Strategy, is_over: bool, limits: &Limits) {
        let wanted = match strategy {
            Strategy::Simple => is_over,
            Strategy::Pid => self.decision() < 0.0,
        };
        if !wanted {
            return;
        }
        let adapted = self.configured.iter_mut();
        let mut adapted: Vec<_> = adapted
            .filter(|(group, _)| group.ends_with(ADAPTIVE))
            .collect();
        adapted.sort_unstable_by_key(|(_, threshold)| std::cmp::Reverse(**threshold));
        for (_, threshold) in adapted.into_iter().take(SLOWED_MAX) {
            *threshold = (*threshold / 5 * 4).max(limits.of_group);
        }
    }
}

fn adaptive(group: &str) -> String {
    format!("{group}{ADAPTIVE}")
}

/// The task that begins counting anew, for as long as the broker runs.
pub(crate) async fn run(broker: Arc<Broker>) {
    let mut interval = tokio::time::interval(SPAN);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let limits = Limits::of(&broker.keys());
        broker.cold_reads.turn(&limits, broker.now_ms());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Limits = Limits {
        of_group: 100,
        of_all: 1000,
        strategy: None,
    };

    fn limits(strategy: Strategy) -> Limits {
        Limits {
            strategy: Some(strategy),
            ..PLAIN
        }
    }

    fn threshold(cold: &ColdReads, group: &str, limits: &Limits) -> i64 {
        cold.state().threshold(group, limits)
    }

    #[test]
    fn a_group_that_reads_too_much_waits_for_the_next_span() {
        let cold = ColdReads::default();
        assert!(!cold.is_over("g", &PLAIN));
        cold.read("g", 99, 0);
        assert!(!cold.is_over("g", &PLAIN));
        cold.read("g", 1, 1);
        assert!(cold.is_over("g", &PLAIN));
        cold.read("CID_RMQ_SYS_x", 500, 1);
        assert!(!cold.is_over("CID_RMQ_SYS_x", &PLAIN), "the system's own");
        assert!(!cold.is_over("h", &PLAIN), "it has read nothing cold");
        cold.turn(&PLAIN, 5000);
        assert!(!cold.is_over("g", &PLAIN));
    }

    #[test]
    fn all_groups_together_may_read_no_more_than_the_global_threshold() {
        let cold = ColdReads::default();
        for n in 0..11 {
            cold.read(&n.to_string(), 90, 0);
        }
        assert!(!cold.is_over("0", &PLAIN));
        cold.read("11", 10, 0);
        assert!(cold.is_over("0", &PLAIN));
    }

    #[test]
    fn an_operators_threshold_comes_first() {
        let cold = ColdReads::default();
        cold.configure("g", 300).unwrap();
        cold.read("g", 200, 0);
        assert!(!cold.is_over("g", &PLAIN));
        cold.remove("g");
        assert!(cold.is_over("g", &PLAIN));
        let info = serde_json::to_value(cold.info(&PLAIN)).unwrap();
        assert_eq!(info["runtimeTable"]["g"]["coldAcc"], 200);
        assert_eq!(info["runtimeTable"]["g"]["lastColdReadTimeMills"], 0);
        assert_eq!(
            (&info["cgColdReadThreshold"], &info["globalAcc"]),
            (&100.into(), &200.into())
        );
        for n in 0..CONFIGURED_MAX {
            cold.configure(&n.to_string(), 1).unwrap();
        }
        assert_eq!(cold.configure("one too many", 1), Err(TooMany));
        cold.configure("1", 2).unwrap();
    }

    #[test]
    fn a_group_that_reads_nothing_cold_is_forgotten() {
        let cold = ColdReads::default();
        cold.read("g", 1, 0);
        cold.turn(&PLAIN, FORGET_MS - 1);
        assert_eq!(cold.state().groups.len(), 1);
        cold.turn(&PLAIN, FORGET_MS);
        assert_eq!(cold.state().groups.len(), 0);
    }

    #[test]
    fn the_simple_strategy_raises_while_there_is_room_and_lowers_when_there_is_none() {
        let cold = ColdReads::default();
        let limits = limits(Strategy::Simple);
        cold.read("g", 100, 0);
        cold.turn(&limits, 0);
        assert_eq!(threshold(&cold, "g", &limits), 150);
        cold.read("g", 150, 0);
        cold.turn(&limits, 0);
        assert_eq!(threshold(&cold, "g", &limits), 225);
        assert_eq!(threshold(&cold, "h", &limits), 100);
        for lowered in [180, 144, 112, 100, 100] {
            cold.read("h", 1001, 0);
            cold.turn(&limits, 0);
            assert_eq!(threshold(&cold, "g", &limits), lowered);
        }
        cold.turn(&PLAIN, 0);
        assert!(
            cold.state().configured.is_empty(),
            "without a strategy they go"
        );
    }

    #[test]
    fn the_pid_strategy_waits_until_it_knows_enough() {
        let cold = ColdReads::default();
        let limits = limits(Strategy::Pid);
        for turn in 1..HISTORY {
            cold.read("g", 100, 0);
            cold.turn(&limits, 0);
            assert_eq!(threshold(&cold, "g", &limits), 100, "turn {turn}");
        }
        cold.read("g", 100, 0);
        cold.turn(&limits, 0);
        assert_eq!(threshold(&cold, "g", &limits), 150);
        for _ in 0..HISTORY {
            cold.read("h", 5000, 0);
            cold.turn(&limits, 0);
        }
        assert_eq!(threshold(&cold, "g", &limits), 100);
    }

    #[test]
    fn no_more_pulls_are_held_than_there_is_room_for() {
        let cold = Arc::new(ColdReads::default());
        let held: Vec<_> = (0..HELD_MAX).map(|_| cold.hold().unwrap()).collect();
        assert!(cold.hold().is_none());
        drop(held);
        assert!(cold.hold().is_some());
        assert_eq!(cold.held.load(Ordering::Relaxed), 0);
    }
}
