//! How long requests had waited when they were read: in the socket's buffer, and for their connection's turn.
//!
//! There is no queue between a socket and its service, so under overload requests wait in the kernel. Two measurements find it,
//! and neither costs anything while nobody waits: a read that fills the buffer asks how much more there is ([`Arrivals`]), and
//! every few milliseconds of traffic one task measures how long it takes to get a turn ([`Turns`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Moments that a connection remembers. With reads of a full buffer they reach back over some MiB.
const SAMPLES_MAX: usize = 64;
/// The time between two measurements of turns, while there is traffic.
const LOOK: Duration = Duration::from_millis(2);
/// A measurement that is older says nothing.
const FRESH: Duration = Duration::from_millis(100);

/// What is known of when a connection's bytes arrived.
///
/// Positions count the connection's bytes. Samples rise in both fields: at `.0`, everything below `.1` had arrived.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    position: u64,
    samples: VecDeque<(Instant, u64)>,
}

impl Arrivals {
    /// `count` bytes were read, and behind them `more` wait. Gives how long the first of them had waited at least.
    pub(crate) fn read(
        &mut self,
        now: Instant,
        count: usize,
        more: impl FnOnce() -> usize,
    ) -> Duration {
        let first = self.position;
        self.position += count as u64;
        let arrived_at = self
            .samples
            .iter()
            .find(|(_, arrived)| *arrived > first)
            .map(|(at, _)| *at);
        let passed = self
            .samples
            .iter()
            .take_while(|(_, arrived)| *arrived <= self.position)
            .count();
        self.samples.drain(..passed);
        let arrived = self.position + more() as u64;
        let is_news = self
            .samples
            .back()
            .is_none_or(|(_, known)| *known < arrived);
        if arrived > self.position && is_news && self.samples.len() < SAMPLES_MAX {
            self.samples.push_back((now, arrived));
        }
        arrived_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }
}

/// How long a connection with something to read waits for its turn, measured for all connections of a server.
#[derive(Debug)]
pub(crate) struct Turns {
    epoch: Instant,
    /// When the last measurement began, in nanoseconds since the epoch.
    began_ns: AtomicU64,
    /// What it gave.
    wait_ns: AtomicU64,
}

impl Turns {
    pub(crate) fn new() -> Arc<Turns> {
        Arc::new(Turns {
            epoch: Instant::now(),
            began_ns: AtomicU64::new(0),
            wait_ns: AtomicU64::new(0),
        })
    }

    /// The latest measurement; begins another when it is old.
    pub(crate) fn wait(self: &Arc<Self>, now: Instant) -> Duration {
        let now_ns = nanos(now.saturating_duration_since(self.epoch));
        let began_ns = self.began_ns.load(Ordering::Relaxed);
        let age_ns = now_ns.saturating_sub(began_ns);
        if age_ns >= nanos(LOOK) {
            let mine = self.began_ns.compare_exchange(
                began_ns,
                now_ns,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            if mine.is_ok() {
                tokio::spawn(self.clone().measure(now));
            }
        }
        if age_ns > nanos(FRESH) {
            return Duration::ZERO;
        }
        Duration::from_nanos(self.wait_ns.load(Ordering::Relaxed))
    }

    /// A task that yields gets its turn when its thread has asked the kernel for ready sockets: that is when a connection
    /// that became ready meanwhile gets its turn, too.
    async fn measure(self: Arc<Self>, began: Instant) {
        tokio::task::yield_now().await;
        self.wait_ns
            .store(nanos(began.elapsed()), Ordering::Relaxed);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_as_old_as_the_moment_at_which_they_were_seen_to_be_there() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut arrivals = Arrivals::default();
        let mut read = |ms, count, more| arrivals.read(at(ms), count, || more).as_millis();
        // Nothing is known of what was never seen waiting.
        assert_eq!(read(0, 100, 250), 0);
        assert_eq!(read(10, 100, 150), 10);
        // 150 more arrived by 20 ms: they are not older than that.
        assert_eq!(read(20, 100, 200), 20);
        assert_eq!(read(30, 100, 100), 30);
        assert_eq!(read(50, 100, 0), 30);
        assert_eq!(read(90, 100, 0), 0);
    }

    #[tokio::test]
    async fn a_thread_that_is_busy_is_measured() {
        let turns = Turns::new();
        tokio::time::sleep(LOOK).await;
        turns.wait(Instant::now());
        let busy = Duration::from_millis(30);
        // The measuring task is ready, and cannot run before this one lets go.
        std::thread::sleep(busy);
        while turns.wait(Instant::now()) < busy {
            tokio::task::yield_now().await;
        }
    }
}
