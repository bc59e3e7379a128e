//! Memory that all connections of a process may hold together.
//!
//! Bounds of one connection multiply with the number of connections; this one does not. Each connection counts its buffers once a
//! turn, in an [`Account`] of its own, which tells the shared counter only when the sum has moved by some KiB: a connection in
//! a steady state touches no shared cache line.
//!
//! ```text
//! 0 ─────────── roomy ─────────── 1/2 ─────────── short ─────────── 3/4 ────────── full ────────── limit
//!   as the bounds of each allow        no buffer grows large,            nothing is taken that can be refused,
//!                                      those without progress close      new connections are closed
//! ```
//! The last quarter is never given out: an allocator keeps more than it was asked for, and a buffer that grows is there twice for
//! a moment. Measured with 20 consumers that read nothing beside a flood of sends: 278 MB resident where 268 MB were to be the most and
//! shortage began at three quarters. The quarter before it is for what is small: heartbeats, offsets, administration go on while large frames wait. One connection at
//! a time may go on with a large frame there, so that frames that wait for each other's memory still complete.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// What an account keeps from the shared counter, so that it is rarely touched.
const GRAIN_BYTES: usize = 4 * 1024;
/// A connection that holds no more than this is never asked to give way.
pub(crate) const SMALL_BYTES: usize = 64 * 1024;
/// A connection that holds this much gets the shortest patience.
const LARGE_BYTES: usize = 8 * 1024 * 1024;
/// How long the largest holder may make no progress while memory is short.
const PATIENCE_MIN: Duration = Duration::from_secs(1);
/// How long the smallest may.
const PATIENCE_MAX: Duration = Duration::from_secs(5);
/// Progress that counts as such: a peer that is faster than this is never in the way.
const PROGRESS_BYTES_PER_SECOND: usize = 1024 * 1024;

/// The shared counter and its limit.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    /// The configuration key of the limit, for those who must change it.
    key: &'static str,
    held: AtomicUsize,
    /// Somebody has the right to finish a large frame while memory is short.
    reserve_taken: AtomicBool,
}

impl Budget {
    /// A budget of `limit` bytes, which users know as `key`.
    pub fn new(limit: usize, key: &'static str) -> Arc<Budget> {
        Arc::new(Budget {
            limit,
            key,
            held: AtomicUsize::new(0),
            reserve_taken: AtomicBool::new(false),
        })
    }

    /// A budget that never runs short, for the side that chooses its peers.
    pub(crate) fn unlimited() -> Arc<Budget> {
        Budget::new(usize::MAX, "")
    }

    /// Bytes held at this moment; up to 4 KiB an account are not counted.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// The most that may be held.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Half is held: large frames wait, large answers are refused, connections without progress close.
    pub fn is_short(&self) -> bool {
        self.held() >= self.short_from()
    }

    /// Three quarters are held: what can be refused is refused.
    pub fn is_full(&self) -> bool {
        self.held() >= self.full_from()
    }

    /// What a person can do about it, for a refusal's remark.
    pub fn reason(&self) -> Shortage<'_> {
        Shortage(self)
    }

    fn short_from(&self) -> usize {
        self.limit / 2
    }

    fn full_from(&self) -> usize {
        self.limit - self.limit / 4
    }

    /// How long a holder of `bytes` may be without progress while memory is short.
    pub(crate) fn patience(bytes: usize) -> Duration {
        let largest_first = PATIENCE_MIN.mul_f64(LARGE_BYTES as f64 / bytes.max(1) as f64);
        largest_first.clamp(PATIENCE_MIN, PATIENCE_MAX)
    }
}

/// The time that a peer of the slowest acceptable speed takes for these bytes.
pub(crate) fn earned(progress_bytes: usize) -> Duration {
    Duration::from_secs_f64(progress_bytes as f64 / PROGRESS_BYTES_PER_SECOND as f64)
}

/// Names the limit, its key and what is held.
#[derive(Clone, Copy, Debug)]
pub struct Shortage<'a>(&'a Budget);

impl fmt::Display for Shortage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Budget { limit, key, .. } = self.0;
        write!(
            f,
            "clients' unfinished requests and unread answers hold {} bytes of {key}={limit}; slow down, or raise {key}",
            self.0.held()
        )
    }
}

/// One holder's part of a [`Budget`]. Given back when dropped.
#[derive(Debug)]
pub struct Account {
    budget: Arc<Budget>,
    counted: usize,
    has_reserve: bool,
}

impl Account {
    /// An account that holds nothing.
    pub fn new(budget: Arc<Budget>) -> Account {
        Account {
            budget,
            counted: 0,
            has_reserve: false,
        }
    }

    /// The budget that it is part of.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Bytes that the budget knows of.
    pub(crate) fn counted(&self) -> usize {
        self.counted
    }

    /// The holder has `bytes`. They are there already, so this never fails; who must ask before, asks [`try_hold`](Self::try_hold).
    #[inline]
    pub fn hold(&mut self, bytes: usize) {
        if self.counted.abs_diff(bytes) >= GRAIN_BYTES || (bytes == 0 && self.counted > 0) {
            self.set(bytes);
        }
    }

    /// The holder wants to have `bytes`. False, and nothing is changed, when that would fill the budget.
    pub fn try_hold(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.counted);
        if self.budget.held().saturating_add(more) > self.budget.full_from() {
            return false;
        }
        self.set(bytes);
        true
    }

    /// Whether a buffer may grow by `bytes` for a large frame. Who has asked with success tells by [`done`](Self::done) when the
    /// frame is complete.
    pub(crate) fn may_grow(&mut self, bytes: usize) -> bool {
        let budget = &self.budget;
        if self.has_reserve || budget.held().saturating_add(bytes) <= budget.short_from() {
            return true;
        }
        self.has_reserve = !budget.reserve_taken.swap(true, Ordering::Relaxed);
        self.has_reserve
    }

    /// The large frame is complete.
    #[inline]
    pub(crate) fn done(&mut self) {
        if self.has_reserve {
            self.has_reserve = false;
            self.budget.reserve_taken.store(false, Ordering::Relaxed);
        }
    }

    fn set(&mut self, bytes: usize) {
        let held = &self.budget.held;
        if bytes >= self.counted {
            held.fetch_add(bytes - self.counted, Ordering::Relaxed);
        } else {
            held.fetch_sub(self.counted - bytes, Ordering::Relaxed);
        }
        self.counted = bytes;
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.done();
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_changes_stay_in_the_account_and_everything_comes_back() {
        let budget = Budget::new(1 << 20, "key");
        let mut account = Account::new(budget.clone());
        account.hold(GRAIN_BYTES - 1);
        assert_eq!(budget.held(), 0);
        account.hold(GRAIN_BYTES);
        account.hold(2 * GRAIN_BYTES - 1);
        assert_eq!(budget.held(), GRAIN_BYTES);
        account.hold(0);
        assert_eq!(budget.held(), 0);
        account.hold(100_000);
        drop(account);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn what_would_fill_the_budget_is_not_taken() {
        let budget = Budget::new(100_000, "key");
        let mut first = Account::new(budget.clone());
        let mut second = Account::new(budget.clone());
        assert!(first.try_hold(50_000));
        assert!(!second.try_hold(50_000));
        assert_eq!(budget.held(), 50_000);
        assert!(second.try_hold(25_000));
        assert!(budget.is_full());
        let reason = budget.reason().to_string();
        assert!(
            reason.contains("hold 75000 bytes of key=100000"),
            "{reason}"
        );
    }

    #[test]
    fn one_large_frame_at_a_time_goes_on_while_memory_is_short() {
        let budget = Budget::new(100_000, "key");
        let mut holder = Account::new(budget.clone());
        holder.hold(50_000);
        assert!(budget.is_short() && !budget.is_full());
        let (mut first, mut second) = (Account::new(budget.clone()), Account::new(budget.clone()));
        assert!(first.may_grow(10_000));
        assert!(!second.may_grow(10_000));
        first.done();
        assert!(second.may_grow(10_000));
        drop(second);
        assert!(first.may_grow(10_000));
    }

    #[test]
    fn the_largest_holder_is_asked_first() {
        let seconds = |bytes| Budget::patience(bytes).as_secs_f64();
        assert_eq!(seconds(16 << 20), 1.0);
        assert_eq!(seconds(4 << 20), 2.0);
        assert_eq!(seconds(1 << 20), 5.0);
    }
}
