//! The send load: closed loop, a fixed number of requests in flight on each connection.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{CreateTopicRequest, GetMaxOffsetRequest, GetMaxOffsetResponse};

use crate::Codec;
use crate::connection::{self, Interval, Tally};
use crate::frames::Frames;
use crate::process::Usage;
use crate::report::{BrokerCost, SendReport};

/// How often a long run says how it goes, on stderr.
const PROGRESS_PERIOD: Duration = Duration::from_secs(10);
/// A broker under SYNC_FLUSH may show the last messages a moment after it acknowledged them.
const SETTLE_MAX: Duration = Duration::from_secs(10);

/// What to send, where to, and for how long.
#[derive(Clone, Debug)]
pub struct SendLoad {
    /// The broker.
    pub target: SocketAddr,
    /// Topic.
    pub topic: String,
    /// Queues of the topic, used in turn.
    pub queues: u32,
    /// Create the topic, and compare the broker's offsets with the acknowledgements.
    pub create: bool,
    /// Connections, a thread each.
    pub connections: usize,
    /// Requests in flight on each.
    pub window: usize,
    /// Body bytes of each message.
    pub body_bytes: usize,
    /// Header codec of the requests.
    pub codec: Codec,
    /// Time before the measured interval.
    pub warmup: Duration,
    /// The measured interval.
    pub measured: Duration,
    /// The broker's process.
    pub pid: Option<u32>,
}

/// Runs the load to its end.
///
/// # Errors
/// When a connection breaks or the server is silent: such a run says nothing.
pub fn run(load: &SendLoad) -> Result<SendReport> {
    if load.create {
        create_topic(load)?;
    }
    let stored_before = stored(load)?;
    let frames = Frames::new(&load.topic, load.queues, load.body_bytes, load.codec);
    let begin = Instant::now() + load.warmup;
    let interval = Interval {
        begin,
        end: begin + load.measured,
    };
    let (tallies, costs) = thread::scope(|scope| {
        let workers: Vec<_> = (0..load.connections)
            .map(|index| {
                let frames = &frames;
                let first_queue = index * load.queues as usize / load.connections;
                scope.spawn(move || {
                    connection::drive(load.target, frames, load.window, first_queue, interval)
                })
            })
            .collect();
        let costs = observe(load, interval);
        let tallies: Result<Vec<Tally>> = workers
            .into_iter()
            .map(|worker| worker.join().expect("a worker does not panic"))
            .collect();
        (tallies, costs)
    });
    summarize(load, tallies?, costs?, stored_before)
}

/// Resource use at the ends of the interval: the generator's, and the broker's when its process is named.
struct Costs {
    generator_cpu_seconds: f64,
    broker: Option<(Usage, Usage)>,
}

fn observe(load: &SendLoad, interval: Interval) -> Result<Costs> {
    let sample = || -> Result<(Usage, Option<Usage>)> {
        Ok((Usage::own()?, load.pid.map(Usage::of).transpose()?))
    };
    wait_until(interval.begin, || {});
    let (own_before, broker_before) = sample()?;
    wait_until(interval.end, || {
        let left = interval.end.saturating_duration_since(Instant::now());
        eprintln!("sending, {} s left", left.as_secs());
    });
    let (own_after, broker_after) = sample()?;
    Ok(Costs {
        generator_cpu_seconds: own_after.cpu_seconds - own_before.cpu_seconds,
        broker: broker_before.zip(broker_after),
    })
}

fn wait_until(moment: Instant, mut progress: impl FnMut()) {
    loop {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::sleep(left.min(PROGRESS_PERIOD));
        if left > PROGRESS_PERIOD {
            progress();
        }
    }
}

fn summarize(
    load: &SendLoad,
    tallies: Vec<Tally>,
    costs: Costs,
    stored_before: Option<u64>,
) -> Result<SendReport> {
    let acknowledged: u64 = tallies.iter().map(|t| t.acknowledged_measured).sum();
    let acknowledged_in_all: u64 = tallies.iter().map(|t| t.acknowledged_in_all).sum();
    let mut latencies = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    for tally in &tallies {
        latencies.add(&tally.latencies_us)?;
    }
    let seconds = load.measured.as_secs_f64();
    let mut report = SendReport {
        connections: load.connections,
        window: load.window,
        body_bytes: load.body_bytes,
        codec: match load.codec {
            Codec::Json => "json",
            Codec::Binary => "binary",
        },
        seconds,
        acknowledged,
        refused: tallies.iter().map(|t| t.refused).sum(),
        first_refusal: tallies.iter().find_map(|t| t.first_refusal.clone()),
        stored: settled(load, stored_before, acknowledged_in_all)?,
        acknowledged_in_all,
        messages_per_second: acknowledged as f64 / seconds,
        p50_ms: 0.0,
        p99_ms: 0.0,
        p999_ms: 0.0,
        max_ms: 0.0,
        broker: costs.broker.map(|(before, after)| {
            BrokerCost::between(&before, &after, acknowledged, load.body_bytes)
        }),
        generator_cpu_seconds: costs.generator_cpu_seconds,
    };
    report.set_latencies(&latencies);
    Ok(report)
}

fn create_topic(load: &SendLoad) -> Result<()> {
    let header = CreateTopicRequest {
        topic: load.topic.clone(),
        default_topic: "TBW102".to_owned(),
        read_queue_nums: load.queues as i32,
        write_queue_nums: load.queues as i32,
        perm: 6,
        topic_filter_type: "SINGLE_TAG".to_owned(),
        topic_sys_flag: Some(0),
        order: false,
        ..CreateTopicRequest::default()
    };
    let request = Command::request(RequestCode::UPDATE_AND_CREATE_TOPIC, &header);
    let response = connection::call(load.target, request)?;
    ensure!(
        response.response_code() == ResponseCode::SUCCESS,
        "topic {} cannot be created: {} {}",
        load.topic,
        response.response_code(),
        response.remark.unwrap_or_default()
    );
    Ok(())
}

/// The sum of the queues' max offsets.
fn stored(load: &SendLoad) -> Result<Option<u64>> {
    if !load.create {
        return Ok(None);
    }
    let mut sum = 0;
    for queue_id in 0..load.queues as i32 {
        let header = GetMaxOffsetRequest {
            topic: load.topic.clone(),
            queue_id,
            ..GetMaxOffsetRequest::default()
        };
        let request = Command::request(RequestCode::GET_MAX_OFFSET, &header);
        let response = connection::call(load.target, request)?;
        let header: GetMaxOffsetResponse = response
            .header()
            .with_context(|| format!("max offset of {}:{queue_id}", load.topic))?;
        sum += u64::try_from(header.offset)?;
    }
    Ok(Some(sum))
}

/// Messages stored by this run. Java dispatches behind its acknowledgements, so a shortfall gets time to settle.
fn settled(load: &SendLoad, before: Option<u64>, expected: u64) -> Result<Option<u64>> {
    let Some(before) = before else {
        return Ok(None);
    };
    let deadline = Instant::now() + SETTLE_MAX;
    loop {
        let stored = stored(load)?.map(|after| after - before);
        if stored >= Some(expected) || Instant::now() > deadline {
            return Ok(stored);
        }
        thread::sleep(Duration::from_millis(50));
    }
}
