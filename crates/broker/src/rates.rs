//! How fast messages come and go: samples of two counters, and what follows from them. Values in, values out, time given.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Spans that rates are told for, in the order in which Java prints them.
const SPANS_MS: [i64; 3] = [10_000, 60_000, 600_000];
/// Between two samples; one that comes earlier is passed over.
const SAMPLE_INTERVAL_MS: i64 = 1000;
/// The longest span and the sample before it.
const SAMPLES_MAX: usize = 602;

/// The samples of the last ten minutes.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    samples: Mutex<VecDeque<Sample>>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at_ms: i64,
    put: u64,
    got: u64,
}

impl Rates {
    fn samples(&self) -> MutexGuard<'_, VecDeque<Sample>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of the counters.
    pub(crate) fn sample(&self, at_ms: i64, put: u64, got: u64) {
        let mut samples = self.samples();
        // The wall clock may have been set back: then what was noted says nothing any more.
        if samples.back().is_some_and(|last| at_ms < last.at_ms) {
            samples.clear();
        }
        if samples
            .back()
            .is_some_and(|last| at_ms - last.at_ms < SAMPLE_INTERVAL_MS / 2)
        {
            return;
        }
        if samples.len() == SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(Sample { at_ms, put, got });
    }

    /// Messages stored a second, as Java prints them: three numbers.
    pub(crate) fn put(&self) -> String {
        self.render(|sample| sample.put)
    }

    /// Messages handed out a second.
    pub(crate) fn got(&self) -> String {
        self.render(|sample| sample.got)
    }

    fn render(&self, counter: impl Fn(&Sample) -> u64) -> String {
        let samples = self.samples();
        let mut text = String::new();
        for span_ms in SPANS_MS {
            let rate = samples.back().and_then(|last| {
                let first = samples
                    .iter()
                    .rev()
                    .take_while(|sample| last.at_ms - sample.at_ms <= span_ms)
                    .last()?;
                let seconds = (last.at_ms - first.at_ms) as f64 / 1000.0;
                (seconds > 0.0)
                    .then(|| counter(last).saturating_sub(counter(first)) as f64 / seconds)
            });
            // Writing to a string does not fail. Debug writes "0.0" where Display writes "0", as Java does.
            let _ = write!(
                text,
                "{}{:?}",
                if text.is_empty() { "" } else { " " },
                rate.unwrap_or(0.0)
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_told_over_ten_seconds_one_minute_and_ten_minutes() {
        let rates = Rates::default();
        assert_eq!(rates.put(), "0.0 0.0 0.0");
        for second in 0..=1000 {
            // Ten a second, and a hundred a second in the last minute.
            let put = second * 10 + (second.max(940) - 940) * 90;
            rates.sample(second as i64 * 1000, put, second);
        }
        assert_eq!(rates.put(), "100.0 100.0 19.0");
        assert_eq!(rates.got(), "1.0 1.0 1.0");
        assert!(rates.samples().len() <= SAMPLES_MAX);
    }

    #[test]
    fn a_clock_that_is_set_back_starts_anew() {
        let rates = Rates::default();
        rates.sample(10_000, 5, 0);
        rates.sample(20_000, 10, 0);
        rates.sample(1000, 10, 0);
        assert_eq!(rates.put(), "0.0 0.0 0.0");
        rates.sample(2000, 12, 0);
        assert_eq!(rates.put(), "2.0 2.0 2.0");
    }
}
