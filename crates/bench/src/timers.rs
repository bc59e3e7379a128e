//! Timer messages: how fast a broker accepts them, how late it delivers while many wait, and what they cost in memory.
//!
//! Three phases: messages are sent that are due after the run, as many as asked for (accept rate); messages are sent at a fixed rate that are due a random while
//! later, beside those (lateness); what was delivered is read back. Lateness is the broker's own: from the time asked for to the time at which the message was stored in
//! its topic. The clocks of generator and broker are the same machine's, or lie as far apart as both say.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{PullMessageRequest, SendMessageRequest, SendMessageRequestV2};
use protocol::properties as names;
use protocol::record::{self, CheckBody};
use serde::{Deserialize, Serialize};

use crate::load::Load;
use crate::process::Usage;
use crate::report::{Latency, latency_histogram};
use crate::site::Site;
use crate::wire::Session;
use crate::workloads::run_number;

/// Requests in flight on each connection.
const WINDOW: usize = 64;
/// Messages asked for with one pull.
const PULL_MESSAGES: i32 = 32;
/// Java: `PullSysFlag`: the subscription is in the request.
const PULL_FLAG_SUBSCRIPTION: i32 = 4;
/// How long the last message may be late before the run says it is missing.
const PATIENCE: Duration = Duration::from_secs(20);
const SETTLE_POLL: Duration = Duration::from_millis(100);
const DAY_MS: i64 = 24 * 3_600_000;

/// What is done to the broker.
#[derive(Clone, Debug)]
pub struct TimerLoad {
    /// Target, process, topic, queues, bodies, connections; `measured` is the length of the second phase.
    pub load: Load,
    /// Messages that wait meanwhile.
    pub pending: u64,
    /// The first of them is due after so many days, the last after twice as many; a Java broker takes three in all.
    pub ahead_days: f64,
    /// Messages a second whose lateness is measured.
    pub rate: u32,
    /// They are due after this, at least and at most.
    pub delay: (Duration, Duration),
}

/// The outcome.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TimerReport {
    /// Messages that wait, as acknowledged.
    pub pending: u64,
    /// Messages accepted a second while they were sent.
    pub accepted_per_second: f64,
    /// Messages of the second phase.
    pub sent: u64,
    /// Those that came.
    pub delivered: u64,
    /// Those that came before their time.
    pub early: u64,
    /// Those that came again.
    pub repeated: u64,
    /// From the time asked for to the store time in the topic.
    pub lateness: Latency,
    /// The broker's own memory: before anything, with all that wait, and behind the run.
    pub memory_bytes: Option<[u64; 3]>,
    /// CPU seconds of the broker in the first and in the second phase.
    pub cpu_seconds: Option<[f64; 2]>,
}

impl TimerReport {
    /// Whether everything came, and nothing early.
    pub fn is_clean(&self) -> bool {
        self.delivered == self.sent && self.early == 0 && self.repeated == 0
    }
}

impl fmt::Display for TimerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let late = &self.lateness;
        writeln!(
            f,
            "accepted    {:.0} timer messages a second, {} wait",
            self.accepted_per_second, self.pending
        )?;
        writeln!(
            f,
            "delivered   {} of {}, {} early, {} twice",
            self.delivered, self.sent, self.early, self.repeated
        )?;
        writeln!(
            f,
            "lateness    p50 {:.0} ms  p99 {:.0} ms  p99.9 {:.0} ms  max {:.0} ms  over 100 ms: {}",
            late.p50_ms, late.p99_ms, late.p999_ms, late.max_ms, late.over_100_ms
        )?;
        if let (Some(memory), Some(cpu)) = (self.memory_bytes, self.cpu_seconds) {
            let mib = memory.map(|bytes| bytes >> 20);
            writeln!(
                f,
                "memory      {} MiB before, {} MiB with all that wait, {} MiB behind",
                mib[0], mib[1], mib[2]
            )?;
            writeln!(
                f,
                "CPU         {:.1} s accepting, {:.1} s delivering",
                cpu[0], cpu[1]
            )?;
        }
        Ok(())
    }
}

/// Runs all phases.
///
/// # Errors
/// When the load cannot be made, or the broker refuses timer messages.
pub fn run(timers: &TimerLoad) -> Result<TimerReport> {
    let load = &timers.load;
    let mut site = Site::prepare(load)?;
    let usage = || load.pid.map(Usage::of).transpose();
    let run = run_number();
    let body = vec![b'x'; load.body_bytes];
    let before = usage()?;
    eprintln!("sending {} messages that will wait", timers.pending);
    let began = Instant::now();
    let pending = send_pending(timers, run, &body)?;
    let accepting = began.elapsed().as_secs_f64();
    thread::sleep(Duration::from_secs(2));
    let waiting = usage()?;
    eprintln!("{pending} wait; measuring lateness for {:?}", load.measured);
    let sent = send_due(timers, run, &body)?;
    thread::sleep(timers.delay.1);
    let deadline = Instant::now() + PATIENCE;
    while site.stored(0)?.is_some_and(|stored| stored < sent) && Instant::now() < deadline {
        thread::sleep(SETTLE_POLL);
    }
    let after = usage()?;
    let came = read_back(load.target, &mut site)?;
    Ok(TimerReport {
        pending,
        accepted_per_second: pending as f64 / accepting.max(0.001),
        sent,
        delivered: came.ids.len() as u64,
        early: came.early,
        repeated: came.repeated,
        lateness: Latency::of(&came.lateness_us),
        memory_bytes: before
            .zip(waiting)
            .zip(after)
            .map(|((before, waiting), after)| {
                [
                    before.anonymous_bytes,
                    waiting.anonymous_bytes,
                    after.anonymous_bytes,
                ]
            }),
        cpu_seconds: before
            .zip(waiting)
            .zip(after)
            .map(|((before, waiting), after)| {
                [
                    waiting.cpu_seconds - before.cpu_seconds,
                    after.cpu_seconds - waiting.cpu_seconds,
                ]
            }),
    })
}

fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_millis() as i64)
}

/// Sends what will wait, over all connections.
fn send_pending(timers: &TimerLoad, run: u32, body: &[u8]) -> Result<u64> {
    let connections = timers.load.connections.max(1) as u64;
    let first_ms = now_ms() + (timers.ahead_days * DAY_MS as f64) as i64;
    let span_ms = (timers.ahead_days * DAY_MS as f64) as u64;
    let share = |connection: u64| {
        timers.pending / connections + u64::from(connection < timers.pending % connections)
    };
    thread::scope(|scope| {
        let senders: Vec<_> = (0..connections)
            .map(|connection| {
                scope.spawn(move || -> Result<u64> {
                    let mut session = Session::open(timers.load.target)?;
                    let (mut sent, count) = (0, share(connection));
                    while sent < count {
                        let window = (WINDOW as u64).min(count - sent);
                        let requests = (sent..sent + window).map(|number| {
                            // Spread over the whole span, in no order.
                            let place = (number * connections + connection)
                                .wrapping_mul(0x9e37_79b9_7f4a_7c15);
                            let due_ms = first_ms + (place % span_ms.max(1)) as i64;
                            request(
                                timers,
                                number,
                                due_ms,
                                &format!("{run:08X}P{connection:04X}{number:012X}"),
                                body,
                            )
                        });
                        exchange(&mut session, requests.collect())?;
                        sent += window;
                    }
                    Ok(sent)
                })
            })
            .collect();
        senders
            .into_iter()
            .map(|sender| sender.join().expect("a sender does not panic"))
            .sum()
    })
}

/// Sends at the rate what is due soon.
fn send_due(timers: &TimerLoad, run: u32, body: &[u8]) -> Result<u64> {
    let mut session = Session::open(timers.load.target)?;
    let began = Instant::now();
    let mut sent = 0u64;
    let spread_ms = (timers.delay.1 - timers.delay.0).as_millis().max(1) as u64;
    loop {
        let elapsed = began.elapsed();
        if elapsed >= timers.load.measured {
            return Ok(sent);
        }
        let wanted = (elapsed.as_secs_f64() * f64::from(timers.rate)) as u64;
        let window = wanted.saturating_sub(sent).min(WINDOW as u64);
        if window == 0 {
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        let now_ms = now_ms();
        let requests = (sent..sent + window).map(|number| {
            let place = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
            let due_ms = now_ms + timers.delay.0.as_millis() as i64 + (place % spread_ms) as i64;
            request(
                timers,
                number,
                due_ms,
                &format!("{run:08X}D{number:016X}"),
                body,
            )
        });
        exchange(&mut session, requests.collect())?;
        sent += window;
    }
}

fn request(timers: &TimerLoad, number: u64, due_ms: i64, id: &str, body: &[u8]) -> Command {
    let mut properties = String::new();
    names::push(&mut properties, names::UNIQ_KEY, id);
    names::push(
        &mut properties,
        names::TIMER_DELIVER_MS,
        &due_ms.to_string(),
    );
    let header = SendMessageRequestV2(SendMessageRequest {
        producer_group: "bench".into(),
        topic: timers.load.topic.clone().into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 4,
        queue_id: (number % u64::from(timers.load.queues)) as i32,
        born_timestamp_ms: now_ms(),
        properties: Some(properties.into()),
        ..SendMessageRequest::default()
    });
    Command::request(RequestCode::SEND_MESSAGE_V2, &header).with_body(body.to_vec())
}

fn exchange(session: &mut Session, requests: Vec<Command>) -> Result<()> {
    for answer in session.call_all(requests)? {
        ensure!(
            answer.response_code() == ResponseCode::SUCCESS,
            "a timer message was refused: {} {}",
            answer.response_code(),
            answer.remark.unwrap_or_default()
        );
    }
    Ok(())
}

/// What the topic got.
struct Came {
    ids: HashSet<String>,
    early: u64,
    repeated: u64,
    lateness_us: Histogram<u64>,
}

fn read_back(target: SocketAddr, site: &mut Site<'_>) -> Result<Came> {
    let mut session = Session::open(target)?;
    let mut came = Came {
        ids: HashSet::new(),
        early: 0,
        repeated: 0,
        lateness_us: latency_histogram(),
    };
    for range in site.ranges()? {
        let mut offset = range.begin;
        while offset < range.end {
            let header = PullMessageRequest {
                consumer_group: "bench".to_owned(),
                topic: range.topic.clone(),
                queue_id: range.queue_id,
                queue_offset: offset as i64,
                messages_max: PULL_MESSAGES,
                sys_flag: PULL_FLAG_SUBSCRIPTION,
                subscription: Some("*".to_owned()),
                ..PullMessageRequest::default()
            };
            let answer = session.call(Command::request(RequestCode::PULL_MESSAGE, &header))?;
            ensure!(
                answer.response_code() == ResponseCode::SUCCESS,
                "{} answers a pull",
                answer.response_code()
            );
            let mut rest = &answer.body[..];
            while !rest.is_empty() {
                let record = record::decode(rest, CheckBody::Yes)?;
                let due = names::get(record.properties, names::TIMER_DELIVER_MS)
                    .context("no TIMER_DELIVER_MS")?;
                let late_ms = record.store_timestamp_ms - due.parse::<i64>()?;
                came.early += u64::from(late_ms < 0);
                came.lateness_us
                    .saturating_record(late_ms.max(0) as u64 * 1000);
                let id = names::get(record.properties, names::UNIQ_KEY).context("no UNIQ_KEY")?;
                if !came.ids.insert(id.to_owned()) {
                    came.repeated += 1;
                }
                offset = record.queue_offset + 1;
                rest = &rest[record.size as usize..];
            }
        }
    }
    Ok(came)
}
