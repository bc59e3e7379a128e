//! The share of the measured interval that a thread was on a processor.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::engine::Interval;

pub(crate) struct Busy {
    interval: Interval,
    first: Option<(Instant, Duration)>,
    last: Option<(Instant, Duration)>,
}

impl Busy {
    pub(crate) fn new(interval: Interval) -> Self {
        Self {
            interval,
            first: None,
            last: None,
        }
    }

    /// Call in each turn of the thread's loop; the clock is read only at the interval's ends.
    pub(crate) fn note(&mut self, now: Instant) {
        if self.first.is_none() && now >= self.interval.begin {
            self.first = Some((now, thread_time()));
        }
        if self.last.is_none() && now >= self.interval.end {
            self.last = Some((now, thread_time()));
        }
    }

    /// Call when the thread has no more to do. 0 when that was before the interval began.
    pub(crate) fn share(&self) -> f64 {
        let Some((began, used_before)) = self.first else {
            return 0.0;
        };
        let (ended, used_after) = self.last.unwrap_or_else(|| (Instant::now(), thread_time()));
        let elapsed = (ended - began).as_secs_f64().max(0.001);
        used_after.saturating_sub(used_before).as_secs_f64() / elapsed
    }
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
