//! Four times what a broker can take, beside clients that hold its memory: what is admitted, refused, lost, and held.
//!
//! Four phases: closed loop (the capacity), open loop at a fifth of it (what latency is without load), the overload, and a second
//! later the fifth again. The generator bounds itself: a connection has at most a fixed number of requests unanswered, as
//! clients have, and what is due beyond that is counted as held back and never sent. Latency counts from the moment at which a request
//! was ready to be written to its connection; that of refused requests is kept apart. Generator and broker share the machine.

mod flood;
mod hostile;
mod report;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use protocol::code::RequestCode;
use protocol::command::Command;
use protocol::headers::GetMaxOffsetRequest;

use crate::engine::{self, Plan};
use crate::frames::SendFrames;
use crate::load::Load;
use crate::process::Usage;
use crate::report::{Latency, latency_histogram};
use crate::site::Site;
use crate::wire::Session;
use crate::workloads::run_number;

use flood::{Flood, Flow};

pub use report::OverloadReport;
use report::{Calm, Control, Memory};

/// Part of the capacity that is no load.
const CALM_SHARE: f64 = 0.2;
/// Threads of the flood: as many as leave the broker half of a small machine.
const FLOOD_THREADS: usize = 1;
/// How often the broker's memory is looked at, and a small request is made.
const LOOK: Duration = Duration::from_millis(50);
const PROGRESS_PERIOD: Duration = Duration::from_secs(5);
/// Service is normal again this long after the overload.
const RELIEF: Duration = Duration::from_secs(1);

/// What is done to the broker.
#[derive(Clone, Debug)]
pub struct Overload {
    /// Target, process, topic, bodies; connections and window of the closed loop.
    pub load: Load,
    /// How many times the capacity is offered.
    pub times: f64,
    /// Connections of the overload.
    pub connections: usize,
    /// Unanswered requests of each, at most.
    pub outstanding: usize,
    /// Length of the overload.
    pub duration: Duration,
    /// Consumers that ask for everything and read nothing.
    pub deaf_consumers: usize,
    /// Connections with unfinished frames.
    pub half_frames: usize,
    /// Length of each calm phase.
    pub calm: Duration,
    /// Whether latency beyond ten times that without load fails the run.
    pub check_latency: bool,
}

/// Runs all phases.
///
/// # Errors
/// When the load cannot be made. A broken promise is no error but in the report.
pub fn run(overload: &Overload) -> Result<OverloadReport> {
    let load = &overload.load;
    let mut site = Site::prepare(load)?;
    let budget = budget(load.target)?;
    let run = run_number();
    let frames = SendFrames::new(load, run);
    let mut expected = 0;

    eprintln!("capacity: closed loop, {} connections", load.connections);
    let closed = Load {
        warmup: Duration::from_secs(1),
        measured: overload.calm,
        rate: None,
        ..load.clone()
    };
    let capacity = calm(&closed, &frames, "capacity", 0)?;
    expected += capacity.acknowledged;
    let per_second = capacity.per_second.max(100.0);
    let gentle = Load {
        rate: Some((per_second * CALM_SHARE).max(20.0) as u32),
        ..closed.clone()
    };
    let first = load.connections as u32;
    let before = calm(&gentle, &frames, "unloaded", first)?;
    expected += before.acknowledged;

    let rate = per_second * overload.times;
    eprintln!(
        "overload: {rate:.0} messages/s due over {} connections, {} deaf consumers, {} half frames, {} s",
        overload.connections,
        overload.deaf_consumers,
        overload.half_frames,
        overload.duration.as_secs()
    );
    let (flow, memory, control, hostile) = flood(overload, &frames, rate, 2 * first, budget)?;
    expected += flow.acknowledged;

    thread::sleep(RELIEF);
    let after = calm(
        &Load {
            warmup: Duration::ZERO,
            ..gentle
        },
        &frames,
        "a second later",
        2 * first + overload.connections as u32,
    )?;
    expected += after.acknowledged;
    let stored = site.stored(expected)?.context("the topic was created")?;
    Ok(OverloadReport {
        capacity_per_second: per_second,
        due_per_second: rate,
        seconds: overload.duration.as_secs_f64(),
        unloaded: before,
        admitted: flow.admitted,
        admitted_per_second: flow.acknowledged as f64 / overload.duration.as_secs_f64(),
        refused: flow.refused,
        refused_latency: Latency::of(&flow.refused_us),
        refused_other: flow.refused_other,
        held_back: flow.held_back,
        connections_lost: flow.connections_lost,
        unanswered: flow.unanswered,
        hostile_closed: hostile,
        memory,
        control,
        after,
        acknowledged: expected,
        stored,
        check_latency: overload.check_latency,
        generator_busy: flow.busy,
    })
}

/// One calm phase.
fn calm(load: &Load, frames: &SendFrames, label: &str, first_producer: u32) -> Result<Calm> {
    let outcome = engine::run(&Plan {
        load,
        label,
        frames: Some(frames),
        first_producer,
        messages_max: u64::MAX,
        readers: Vec::new(),
    })?;
    let mut latencies = latency_histogram();
    let mut calm = Calm::default();
    let mut measured = 0;
    for tally in &outcome.tallies {
        latencies.add(&tally.latencies_us)?;
        calm.acknowledged += tally.acknowledged_in_all;
        calm.refused += tally.refused;
        measured += tally.acknowledged_measured;
    }
    calm.per_second = measured as f64 / load.measured.as_secs_f64();
    calm.latency = Latency::of(&latencies);
    Ok(calm)
}

/// `connectionMemoryBytes` of the broker, where it has that key.
fn budget(target: SocketAddr) -> Result<Option<u64>> {
    let request = Command::request(RequestCode::GET_BROKER_CONFIG, &());
    let answer = Session::open(target)?.call(request)?;
    let text = String::from_utf8_lossy(&answer.body);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("connectionMemoryBytes="));
    Ok(line.and_then(|value| value.trim().parse().ok()))
}

type Flooded = (Flow, Option<Memory>, Control, BTreeMap<String, u64>);

/// The overload itself, observed.
fn flood(
    overload: &Overload,
    frames: &SendFrames,
    rate: f64,
    first_producer: u32,
    budget: Option<u64>,
) -> Result<Flooded> {
    let load = &overload.load;
    let anonymous = || -> Result<Option<u64>> {
        let usage = load.pid.map(Usage::of).transpose()?;
        Ok(usage.map(|usage| usage.anonymous_bytes))
    };
    let before = anonymous()?;
    let is_over = AtomicBool::new(false);
    let progress = AtomicU64::new(0);
    let begin = Instant::now();
    let end = begin + overload.duration;
    thread::scope(|scope| {
        let floods: Vec<_> = (0..FLOOD_THREADS)
            .map(|thread| {
                let flood = Flood {
                    target: load.target,
                    frames,
                    connections: overload.connections / FLOOD_THREADS,
                    outstanding: overload.outstanding,
                    rate: rate / FLOOD_THREADS as f64,
                    first_producer: first_producer
                        + (thread * (overload.connections / FLOOD_THREADS)) as u32,
                    begin,
                    end,
                    progress: &progress,
                };
                scope.spawn(move || flood.run())
            })
            .collect();
        let hostile = scope.spawn(|| {
            hostile::run(
                load,
                overload.deaf_consumers,
                overload.half_frames,
                &is_over,
            )
        });
        let control = scope.spawn(|| control(load, &is_over));
        let mut peak = before;
        let mut said = Instant::now();
        let mut done = 0;
        let observed = loop {
            if floods.iter().all(thread::ScopedJoinHandle::is_finished) {
                break Ok(());
            }
            match anonymous() {
                Ok(bytes) => peak = peak.max(bytes),
                Err(error) => break Err(error),
            }
            if said.elapsed() >= PROGRESS_PERIOD {
                let now = progress.load(Ordering::Relaxed);
                eprintln!(
                    "overload: {:.0} admitted/s, {} MiB, {} s left",
                    (now - done) as f64 / said.elapsed().as_secs_f64(),
                    peak.unwrap_or(0) >> 20,
                    end.saturating_duration_since(Instant::now()).as_secs()
                );
                (said, done) = (Instant::now(), now);
            }
            thread::sleep(LOOK);
        };
        is_over.store(true, Ordering::Relaxed);
        let mut flow = Flow::new();
        for flood in floods {
            flow.merge(flood.join().expect("a flood does not panic")?)?;
        }
        let hostile = hostile.join().expect("no peer panics")?;
        let control = control.join().expect("no observer panics")?;
        observed?;
        let memory = before.zip(peak).map(|(before, peak)| Memory {
            before_bytes: before,
            peak_bytes: peak,
            budget_bytes: budget,
        });
        Ok((flow, memory, control, hostile))
    })
}

/// Small requests beside the overload: each must be answered.
fn control(load: &Load, is_over: &AtomicBool) -> Result<Control> {
    let header = GetMaxOffsetRequest {
        topic: load.topic_names()[0].clone(),
        queue_id: 0,
        ..GetMaxOffsetRequest::default()
    };
    let mut session = Session::open(load.target)?;
    let mut latencies = latency_histogram();
    let mut failed = 0;
    while !is_over.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let answer = session.call(Command::request(RequestCode::GET_MAX_OFFSET, &header))?;
        latencies.saturating_record(begin.elapsed().as_micros() as u64);
        failed += u64::from(answer.code != 0);
        thread::sleep(LOOK);
    }
    ensure!(!latencies.is_empty(), "no small request was made");
    Ok(Control {
        latency: Latency::of(&latencies),
        failed,
    })
}
