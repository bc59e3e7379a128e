//! One run: senders and readers as threads, observed over one interval.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::frames::SendFrames;
use crate::load::Load;
use crate::process::Usage;
use crate::producer::{self, Pace, Tally};
use crate::reader::{self, Reading};

/// How often a long run says how it goes, on stderr.
const PROGRESS_PERIOD: Duration = Duration::from_secs(5);
/// How often the observer looks whether a worker has given up.
const LOOK_AROUND: Duration = Duration::from_millis(50);
/// Before the first request is due: every thread has its connection by then.
const START_DELAY: Duration = Duration::from_millis(50);

/// When measuring begins and ends.
#[derive(Clone, Copy)]
pub(crate) struct Interval {
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
}

impl Interval {
    pub(crate) fn contains(&self, moment: Instant) -> bool {
        moment >= self.begin && moment < self.end
    }
}

/// What the threads of a run tell each other.
pub(crate) struct Shared {
    /// Stamps count from here.
    pub(crate) epoch: Instant,
    /// Messages acknowledged and received so far, for the progress line.
    pub(crate) progress: AtomicU64,
    acknowledged: OnceLock<(Instant, u64)>,
    failed: AtomicBool,
}

impl Shared {
    fn new() -> Self {
        Self {
            epoch: Instant::now(),
            progress: AtomicU64::new(0),
            acknowledged: OnceLock::new(),
            failed: AtomicBool::new(false),
        }
    }

    /// When the last answer came; `None` while senders send.
    pub(crate) fn sent_all(&self) -> Option<Instant> {
        Some(self.acknowledged.get()?.0)
    }

    /// Messages acknowledged in all, once that is known.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.get().map_or(u64::MAX, |known| known.1)
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

/// What senders and readers of a run do.
pub(crate) struct Plan<'a> {
    pub(crate) load: &'a Load,
    pub(crate) label: &'a str,
    /// `None`: nothing is sent.
    pub(crate) frames: Option<&'a SendFrames>,
    /// The first sender's number; others count on.
    pub(crate) first_producer: u32,
    /// Each sender ends after so many messages, if the interval does not end before.
    pub(crate) messages_max: u64,
    pub(crate) readers: Vec<ReaderPlan<'a>>,
}

/// One reading connection.
pub(crate) struct ReaderPlan<'a> {
    pub(crate) group: String,
    pub(crate) ranges: Vec<reader::Range>,
    pub(crate) messages_max: u32,
    pub(crate) window: usize,
    pub(crate) mode: reader::Mode<'a>,
    pub(crate) run: u32,
    pub(crate) producers: usize,
}

/// Resource use at the ends of the interval.
pub(crate) struct Costs {
    pub(crate) generator_cpu_seconds: f64,
    pub(crate) broker: Option<(Usage, Usage)>,
}

/// What came of a run.
pub(crate) struct Outcome {
    pub(crate) tallies: Vec<Tally>,
    pub(crate) readings: Vec<Reading>,
    pub(crate) costs: Costs,
}

/// Runs a plan to its end.
///
/// # Errors
/// When a connection breaks, the server is silent, or hands out what it must not: such a run says nothing.
pub(crate) fn run(plan: &Plan<'_>) -> Result<Outcome> {
    let shared = Shared::new();
    thread::scope(|scope| {
        let start = Instant::now() + START_DELAY;
        let begin = start + plan.load.warmup;
        let interval = Interval {
            begin,
            end: begin + plan.load.measured,
        };
        let shared = &shared;
        let readers: Vec<_> = plan
            .readers
            .iter()
            .map(|reader| {
                scope.spawn(move || {
                    reader::drive(&reader::Job {
                        target: plan.load.target,
                        group: reader.group.clone(),
                        ranges: reader.ranges.clone(),
                        messages_max: reader.messages_max,
                        window: reader.window,
                        codec: plan.load.codec,
                        mode: reader.mode,
                        run: reader.run,
                        producers: reader.producers,
                        interval,
                        arrival_max: plan.load.settle,
                        shared,
                    })
                })
            })
            .collect();
        let senders: Vec<_> = plan
            .frames
            .into_iter()
            .flat_map(|frames| (0..plan.load.connections).map(move |index| (frames, index)))
            .map(|(frames, index)| {
                scope.spawn(move || {
                    let places = plan.load.topics as usize * plan.load.queues as usize;
                    producer::drive(&producer::Job {
                        target: plan.load.target,
                        frames,
                        pace: pace(plan.load, index),
                        producer: plan.first_producer + index as u32,
                        first_place: index * places / plan.load.connections,
                        messages_max: plan.messages_max,
                        start,
                        interval,
                        shared,
                    })
                })
            })
            .collect();
        let costs = observe(plan, interval, shared, || {
            // Before the interval ends, readers end only by an error.
            let have_all_sent =
                !senders.is_empty() && senders.iter().all(ScopedJoinHandle::is_finished);
            have_all_sent || readers.iter().any(ScopedJoinHandle::is_finished)
        });
        let tallies: Result<Vec<Tally>> = senders.into_iter().map(join).collect();
        match &tallies {
            Ok(tallies) => {
                let sum = tallies.iter().map(|tally| tally.acknowledged_in_all).sum();
                let _ = shared.acknowledged.set((Instant::now(), sum));
            }
            Err(_) => shared.failed.store(true, Ordering::Relaxed),
        }
        let readings: Result<Vec<Reading>> = readers.into_iter().map(join).collect();
        Ok(Outcome {
            tallies: tallies?,
            readings: readings?,
            costs: costs?,
        })
    })
}

fn join<T>(worker: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    worker.join().expect("a worker does not panic")
}

/// Open loop: message `i` of all connections is due at `start + i / rate`.
fn pace(load: &Load, index: usize) -> Pace {
    match load.rate {
        None => Pace::Closed {
            window: load.window,
        },
        Some(rate) => {
            let every_request = load.batch as f64 / f64::from(rate);
            Pace::Open {
                first: Duration::from_secs_f64(every_request * index as f64),
                every: every_request * load.connections as f64,
            }
        }
    }
}

/// Samples resource use at the ends of the interval. Ends early when `is_over`.
fn observe(
    plan: &Plan<'_>,
    interval: Interval,
    shared: &Shared,
    is_over: impl Fn() -> bool,
) -> Result<Costs> {
    let sample = || -> Result<(Usage, Option<Usage>)> {
        Ok((Usage::own()?, plan.load.pid.map(Usage::of).transpose()?))
    };
    let mut said = (Instant::now(), 0);
    let mut look = || {
        if said.0.elapsed() >= PROGRESS_PERIOD {
            let done = shared.progress.load(Ordering::Relaxed);
            let left = interval.end.saturating_duration_since(Instant::now());
            let rate = (done - said.1) as f64 / said.0.elapsed().as_secs_f64();
            eprintln!("{}: {rate:.0} msg/s, {} s left", plan.label, left.as_secs());
            said = (Instant::now(), done);
        }
        is_over()
    };
    wait_until(interval.begin, &mut look);
    let (own_before, broker_before) = sample()?;
    wait_until(interval.end, &mut look);
    let (own_after, broker_after) = sample()?;
    Ok(Costs {
        generator_cpu_seconds: own_after.cpu_seconds - own_before.cpu_seconds,
        broker: broker_before.zip(broker_after),
    })
}

/// Waits for the moment; returns early when `is_over`, which is asked every now and then.
fn wait_until(moment: Instant, mut is_over: impl FnMut() -> bool) {
    loop {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() || is_over() {
            return;
        }
        thread::sleep(left.min(LOOK_AROUND));
    }
}
