//! Time: the wall clock and a monotonic one, real or set by a test.

use std::fmt::Debug;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A source of time.
pub trait Clock: Send + Sync + Debug + 'static {
    /// Milliseconds since 1970. May jump either way when an operator or NTP sets the clock.
    fn now_ms(&self) -> i64;
    /// Time since some fixed moment. Never goes back.
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct RealClock {
    origin: Instant,
}

impl RealClock {
    /// Monotonic time counts from here.
    pub fn new() -> Self {
        Self {
            origin: Instant::now(),
        }
    }
}

impl Default for RealClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for RealClock {
    fn now_ms(&self) -> i64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |elapsed| elapsed.as_millis() as i64)
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock {
    time: Mutex<(i64, Duration)>,
}

impl ManualClock {
    /// Stands at `now_ms` since 1970.
    pub fn new(now_ms: i64) -> Self {
        Self {
            time: Mutex::new((now_ms, Duration::ZERO)),
        }
    }

    /// Both clocks go on.
    pub fn advance(&self, by: Duration) {
        let mut time = self.time.lock().expect("no holder panics");
        time.0 += by.as_millis() as i64;
        time.1 += by;
    }

    /// The wall clock is set, to the future or the past; monotonic time is not touched.
    pub fn set_wall(&self, now_ms: i64) {
        self.time.lock().expect("no holder panics").0 = now_ms;
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.time.lock().expect("no holder panics").0
    }

    fn monotonic(&self) -> Duration {
        self.time.lock().expect("no holder panics").1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_the_wall_clock_leaves_monotonic_time() {
        let clock = ManualClock::new(1000);
        clock.advance(Duration::from_millis(5));
        clock.set_wall(10);
        assert_eq!(clock.now_ms(), 10);
        assert_eq!(clock.monotonic(), Duration::from_millis(5));
    }

    #[test]
    fn the_real_clock_is_past_2020() {
        assert!(RealClock::new().now_ms() > 1_577_836_800_000);
    }
}
