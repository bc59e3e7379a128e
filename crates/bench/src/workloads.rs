//! The workloads: what is sent before, during and beside, and what must have arrived in the end.

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use rustix::fs::{Advice, fadvise, fsync};

use crate::engine::{self, Outcome, Plan, ReaderPlan};
use crate::frames::{SELECTED_BY_SQL, Selects, SendFrames};
use crate::ledger::Seen;
use crate::load::{Load, Workload};
use crate::member::Member;
use crate::popper::Rounds;
use crate::reader::{Mode, Range, Reading};
use crate::report::{
    BrokerCost, Drained, GeneratorCost, Latency, Received, Report, Setup, Verified,
    latency_histogram,
};
use crate::site::Site;

/// Backlogs are sent in requests of so many messages, so many in flight.
const BACKLOG_BATCH: usize = 32;
const BACKLOG_WINDOW: usize = 4;
const BACKLOG_CONNECTIONS: usize = 2;
/// A backlog that takes longer is too large for the server.
const BACKLOG_MAX: Duration = Duration::from_secs(600);
/// Messages asked for at once by readers that follow, and by the reader of old messages.
const FOLLOW_MESSAGES_MAX: u32 = 32;

/// Runs a workload to its end.
///
/// # Errors
/// When the load cannot be made, a connection breaks, or the server hands out what it must not. A server that loses or
/// repeats messages is no error but a report that is not clean.
pub fn run(load: &Load, workload: &Workload) -> Result<Report> {
    workload.check(load)?;
    let name = workload.name(load);
    match workload {
        Workload::Send => send(load, name),
        Workload::Pull {
            backlog,
            messages_max,
        } => pull(load, name, *backlog, *messages_max),
        Workload::Filter {
            backlog,
            messages_max,
        } => filter(load, name, *backlog, *messages_max),
        Workload::Pop {
            backlog,
            messages_max,
        } => pop(load, name, *backlog, *messages_max),
        Workload::Deliver { groups, readers } => deliver(load, name, *groups, *readers),
        Workload::Cold { backlog, store } => cold(load, name, *backlog, store.as_deref()),
    }
}

fn send(load: &Load, name: &'static str) -> Result<Report> {
    let mut site = Site::prepare(load)?;
    let frames = SendFrames::new(load, run_number());
    let outcome = engine::run(&plan(load, name, Some(&frames), Vec::new()))?;
    let stored = site.stored(acknowledged(&outcome))?;
    Ok(report(load, name, outcome, stored, None))
}

fn pull(load: &Load, name: &'static str, backlog: u64, messages_max: u32) -> Result<Report> {
    let mut site = Site::prepare(load)?;
    let run = run_number();
    let sent = send_backlog(load, run, backlog, &mut site)?.verified;
    let readers = passing(
        load,
        "bench",
        site.ranges()?,
        messages_max,
        run,
        Selects::All,
    );
    drain(load, name, &sent, sent.acknowledged, readers)
}

/// As [`pull`], by a group whose heartbeat said what it selects, as the official clients do; its pulls do not repeat it.
fn filter(load: &Load, name: &'static str, backlog: u64, messages_max: u32) -> Result<Report> {
    const GROUP: &str = "bench-filter";
    let mut site = Site::prepare(load)?;
    let run = run_number();
    let Backlog { verified, of_each } = send_backlog(load, run, backlog, &mut site)?;
    // The selected tag is that of a sender's numbers 0, `tags`, 2 × `tags` …
    let selected = of_each
        .iter()
        .map(|sent| sent.div_ceil(u64::from(load.tags)))
        .sum();
    let _member = Member::join(load.target, GROUP, &load.topic, "SQL92", SELECTED_BY_SQL)?;
    let readers = passing(
        load,
        GROUP,
        site.ranges()?,
        messages_max,
        run,
        Selects::AsRegistered,
    );
    drain(load, name, &verified, selected, readers)
}

/// Connections that share the queues and read them over and over.
fn passing(
    load: &Load,
    group: &str,
    ranges: Vec<Range>,
    messages_max: u32,
    run: u32,
    selects: Selects,
) -> Vec<ReaderPlan<'static>> {
    share(ranges, load.connections)
        .into_iter()
        .map(|ranges| ReaderPlan {
            group: group.to_owned(),
            ranges,
            messages_max,
            window: load.window,
            mode: Mode::Passes(selects),
            run,
            producers: BACKLOG_CONNECTIONS,
        })
        .collect()
}

fn pop(load: &Load, name: &'static str, backlog: u64, messages_max: u32) -> Result<Report> {
    let mut site = Site::prepare(load)?;
    let run = run_number();
    let sent = send_backlog(load, run, backlog, &mut site)?.verified;
    let rounds = Rounds::new(sent.acknowledged);
    let ranges = site.ranges()?;
    let popper = |_| ReaderPlan {
        group: "bench-pop".to_owned(),
        ranges: ranges.clone(),
        messages_max,
        window: 1,
        mode: Mode::Pop { rounds: &rounds },
        run,
        producers: BACKLOG_CONNECTIONS,
    };
    let poppers = (0..load.connections).map(popper).collect();
    drain(load, name, &sent, sent.acknowledged, poppers)
}

/// Has readers of one group get what was sent before, of which `expected` messages are for them.
fn drain(
    load: &Load,
    name: &'static str,
    sent: &Verified,
    expected: u64,
    readers: Vec<ReaderPlan<'_>>,
) -> Result<Report> {
    let outcome = engine::run(&plan(load, name, None, readers))?;
    let found = found(&outcome.readings, 1, expected, false);
    let mut report = report(load, name, outcome, sent.stored, found);
    report.verified.acknowledged = sent.acknowledged;
    Ok(report)
}

fn deliver(load: &Load, name: &'static str, groups: usize, readers: usize) -> Result<Report> {
    let mut site = Site::prepare(load)?;
    let run = run_number();
    let frames = SendFrames::new(load, run);
    let received: Vec<AtomicU64> = (0..groups).map(|_| AtomicU64::new(0)).collect();
    let mut plans = Vec::new();
    for (group, received) in received.iter().enumerate() {
        for ranges in share(site.ranges()?, readers) {
            plans.push(ReaderPlan {
                group: format!("bench-{group}"),
                window: ranges.len(),
                ranges,
                messages_max: FOLLOW_MESSAGES_MAX,
                mode: Mode::Follow { received },
                run,
                producers: load.connections,
            });
        }
    }
    let outcome = engine::run(&plan(load, name, Some(&frames), plans))?;
    let sent = acknowledged(&outcome);
    let stored = site.stored(sent)?;
    let found = found(&outcome.readings, groups, sent, load.promises_order());
    let mut report = report(load, name, outcome, stored, found);
    report.setup.groups = groups;
    Ok(report)
}

fn cold(load: &Load, name: &'static str, backlog: u64, store: Option<&Path>) -> Result<Report> {
    let old_load = Load {
        topic: format!("{}-old", load.topic),
        topics: 1,
        ..load.clone()
    };
    let mut old_site = Site::prepare(&old_load)?;
    let old_run = run_number();
    let old = send_backlog(&old_load, old_run, backlog, &mut old_site)?.verified;
    ensure!(
        old.stored == Some(old.acknowledged),
        "the backlog is not complete: {} messages acknowledged, {:?} stored",
        old.acknowledged,
        old.stored
    );
    let mut site = Site::prepare(load)?;
    let frames = SendFrames::new(load, run_number());
    let alone = engine::run(&plan(
        load,
        "cold, producer alone",
        Some(&frames),
        Vec::new(),
    ))?;
    let before = acknowledged(&alone);
    let alone_refused: u64 = alone.tallies.iter().map(|tally| tally.refused).sum();

    if let Some(store) = store {
        drop_cached(store)?;
    }
    let ranges = old_site.ranges()?;
    let reader = ReaderPlan {
        group: "bench-cold".to_owned(),
        window: ranges.len(),
        ranges,
        messages_max: FOLLOW_MESSAGES_MAX,
        mode: Mode::Passes(Selects::All),
        run: old_run,
        producers: BACKLOG_CONNECTIONS,
    };
    let beside = Plan {
        first_producer: load.connections as u32,
        ..plan(load, "cold, with reader", Some(&frames), vec![reader])
    };
    let outcome = engine::run(&beside)?;
    let found = found(&outcome.readings, 1, old.acknowledged, false);
    let seconds = load.measured.as_secs_f64();
    let sum = |figure: fn(&Reading) -> u64| outcome.readings.iter().map(figure).sum::<u64>();
    let drained = Drained {
        messages_per_second: sum(|reading| reading.received_measured) as f64 / seconds,
        mib_per_second: sum(|reading| reading.bytes_measured) as f64 / f64::from(1 << 20) / seconds,
        passes: sum(|reading| reading.passes),
        device_bytes_read: outcome.costs.broker.map_or(0, |(before, after)| {
            after
                .device_bytes_read
                .saturating_sub(before.device_bytes_read)
        }),
    };
    let stored = site.stored(before + acknowledged(&outcome))?;
    // The report is the senders'; the reader has lines of its own.
    let sending = Outcome {
        readings: Vec::new(),
        ..outcome
    };
    let mut report = report(load, name, sending, stored, found);
    report.verified.acknowledged += before;
    report.verified.refused += alone_refused;
    report.alone = Some(latencies(&alone));
    report.reader = Some(drained);
    Ok(report)
}

/// A number that tells this run's messages from those of others in the same topic.
pub(crate) fn run_number() -> u32 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_nanos());
    (now / 1000) as u32 ^ std::process::id().rotate_left(16)
}

fn plan<'a>(
    load: &'a Load,
    label: &'a str,
    frames: Option<&'a SendFrames>,
    readers: Vec<ReaderPlan<'a>>,
) -> Plan<'a> {
    Plan {
        load,
        label,
        frames,
        first_producer: 0,
        messages_max: u64::MAX,
        readers,
    }
}

fn acknowledged(outcome: &Outcome) -> u64 {
    let in_all = outcome
        .tallies
        .iter()
        .map(|tally| tally.acknowledged_in_all);
    in_all.sum()
}

/// What lies in the queues before anything is measured.
struct Backlog {
    verified: Verified,
    /// By sender; its messages are numbered from 0.
    of_each: Vec<u64>,
}

/// Sends at least so many messages, in large requests, and waits until they can be read.
fn send_backlog(load: &Load, run: u32, messages: u64, site: &mut Site<'_>) -> Result<Backlog> {
    let load = Load {
        connections: BACKLOG_CONNECTIONS,
        window: BACKLOG_WINDOW,
        batch: BACKLOG_BATCH,
        rate: None,
        warmup: Duration::ZERO,
        measured: BACKLOG_MAX,
        ..load.clone()
    };
    let frames = SendFrames::new(&load, run);
    let backlog = Plan {
        messages_max: messages.div_ceil(BACKLOG_CONNECTIONS as u64),
        ..plan(&load, "backlog", Some(&frames), Vec::new())
    };
    let outcome = engine::run(&backlog)?;
    let acknowledged = acknowledged(&outcome);
    let refusal = outcome.tallies.iter().find_map(|t| t.first_refusal.clone());
    ensure!(
        refusal.is_none(),
        "the backlog was refused: {}",
        refusal.unwrap_or_default()
    );
    let tallies = outcome.tallies.iter();
    Ok(Backlog {
        verified: Verified {
            acknowledged,
            stored: site.stored(acknowledged)?,
            ..Verified::default()
        },
        of_each: tallies.map(|tally| tally.acknowledged_in_all).collect(),
    })
}

/// Deals the queues to at most so many connections.
fn share(ranges: Vec<Range>, connections: usize) -> Vec<Vec<Range>> {
    let connections = connections.min(ranges.len());
    let mut shares = vec![Vec::new(); connections];
    for (index, range) in ranges.into_iter().enumerate() {
        shares[index % connections].push(range);
    }
    shares
}

/// Holds what each group received against what was sent. Readings come group by group, equally many for each.
fn found(readings: &[Reading], groups: usize, sent: u64, order_promised: bool) -> Option<Received> {
    let mut sum = Received {
        order_promised,
        ..Received::default()
    };
    for group in readings.chunks(readings.len() / groups) {
        let (first, others) = group.split_first()?;
        let mut seen = Seen::like(&first.seen);
        seen.merge(&first.seen);
        others.iter().for_each(|other| seen.merge(&other.seen));
        let counts = seen.counts;
        sum.expected += sent;
        sum.distinct += counts.distinct;
        sum.lost += sent.saturating_sub(counts.distinct);
        sum.duplicates += counts.duplicates;
        sum.gaps += counts.gaps;
        sum.overtaken += counts.overtaken;
    }
    Some(sum)
}

/// Of the readers where they follow or nothing is sent, else of the senders.
fn latencies(outcome: &Outcome) -> Latency {
    let mut sum = latency_histogram();
    let readings = outcome.readings.iter().map(|reading| &reading.latencies_us);
    let tallies = outcome.tallies.iter().map(|tally| &tally.latencies_us);
    let samples: Vec<_> = if outcome.readings.is_empty() {
        tallies.collect()
    } else {
        readings.collect()
    };
    for histogram in samples {
        sum.add(histogram).expect("all have the same bounds");
    }
    Latency::of(&sum)
}

fn report(
    load: &Load,
    workload: &'static str,
    outcome: Outcome,
    stored: Option<u64>,
    received: Option<Received>,
) -> Report {
    let tallies = &outcome.tallies;
    let sent: u64 = tallies.iter().map(|t| t.acknowledged_measured).sum();
    let readings = &outcome.readings;
    let messages = if readings.is_empty() {
        sent
    } else {
        readings.iter().map(|r| r.received_measured).sum()
    };
    let seconds = load.measured.as_secs_f64();
    let latency = latencies(&outcome);
    let broker = outcome
        .costs
        .broker
        .map(|ends| BrokerCost::between(ends, messages, sent, load.body_bytes));
    let mut lateness = latency_histogram();
    for tally in tallies {
        lateness
            .add(&tally.lateness_us)
            .expect("all have the same bounds");
    }
    let busy = tallies.iter().map(|t| t.busy);
    let generator = GeneratorCost {
        cpu_seconds: outcome.costs.generator_cpu_seconds,
        busiest_thread: busy
            .chain(readings.iter().map(|r| r.busy))
            .fold(0.0, f64::max),
        late_p99_ms: Latency::of(&lateness).p99_ms,
        bottleneck: None,
    }
    .judge(broker.as_ref(), &latency, load.measured);
    Report {
        workload: workload.into(),
        setup: Setup {
            connections: load.connections,
            window: load.window,
            rate: load.rate,
            batch: load.batch,
            body_bytes: load.body_bytes,
            codec: load.codec.name().into(),
            topics: load.topics,
            queues: load.queues,
            groups: 1,
        },
        seconds,
        messages,
        messages_per_second: messages as f64 / seconds,
        latency,
        alone: None,
        reader: None,
        broker,
        generator,
        verified: Verified {
            acknowledged: acknowledged(&outcome),
            refused: tallies.iter().map(|t| t.refused).sum(),
            first_refusal: tallies.iter().find_map(|t| t.first_refusal.clone()),
            stored,
            received,
        },
    }
}

/// Writes the store's files out and drops them from the page cache. Pages that a process has mapped stay.
fn drop_cached(dir: &Path) -> Result<()> {
    let entries = fs::read_dir(dir).with_context(|| format!("store {}", dir.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            drop_cached(&path)?;
        } else if let Ok(file) = File::open(&path) {
            // Only clean pages are dropped.
            fsync(&file)?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}
