//! A receiving connection: a thread that pulls its queues and checks every message.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use protocol::code::ResponseCode;
use protocol::headers::PullMessageResponse;
use protocol::record::{self, CheckBody};

use crate::Codec;
use crate::busy::Busy;
use crate::engine::{Interval, Shared};
use crate::frames::{OPAQUE_BASE, Pull, PullFrame, Selects};
use crate::ledger::{Order, Seen};
use crate::popper::{self, Rounds};
use crate::report::latency_histogram;
use crate::stamp::Stamp;
use crate::wire::{Input, READ_BYTES, SILENCE_MAX, connect};

/// How often a reader that hears nothing looks whether it is done.
const LOOK_AROUND: Duration = Duration::from_millis(100);
/// How long the server may hold a pull.
const WAIT_MS: i64 = 15_000;

/// A queue and the part of it that is to be read.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    pub(crate) topic: String,
    pub(crate) queue_id: i32,
    pub(crate) begin: u64,
    /// Passes end here; a reader that follows goes on.
    pub(crate) end: u64,
}

/// What a reader does.
#[derive(Clone, Copy)]
pub(crate) enum Mode<'a> {
    /// Reads its ranges over and over until the interval ends, once at least.
    Passes(Selects),
    /// Pops the backlog and acknowledges every message, in one group after the other.
    Pop { rounds: &'a Rounds },
    /// Receives by long polling until its group has everything that was acknowledged. The number is the group's.
    Follow { received: &'a AtomicU64 },
}

/// One connection's work.
pub(crate) struct Job<'a> {
    pub(crate) target: SocketAddr,
    pub(crate) group: String,
    pub(crate) ranges: Vec<Range>,
    pub(crate) messages_max: u32,
    /// Pulls in flight, each of another queue.
    pub(crate) window: usize,
    pub(crate) codec: Codec,
    pub(crate) mode: Mode<'a>,
    /// Whose messages are expected.
    pub(crate) run: u32,
    pub(crate) producers: usize,
    pub(crate) interval: Interval,
    /// How long the last messages may take to arrive after all were acknowledged.
    pub(crate) arrival_max: Duration,
    pub(crate) shared: &'a Shared,
}

/// What one connection received.
pub(crate) struct Reading {
    /// Everything (when following), or the first pass.
    pub(crate) seen: Seen,
    pub(crate) received_in_all: u64,
    pub(crate) received_measured: u64,
    pub(crate) bytes_measured: u64,
    /// From due to receipt (when following), or from request to answer.
    pub(crate) latencies_us: Histogram<u64>,
    pub(crate) passes: u64,
    pub(crate) busy: f64,
}

impl Reading {
    /// Nothing yet.
    pub(crate) fn new(job: &Job<'_>) -> Self {
        Self {
            seen: Seen::new(job.run, job.producers),
            received_in_all: 0,
            received_measured: 0,
            bytes_measured: 0,
            latencies_us: latency_histogram(),
            passes: 0,
            busy: 0.0,
        }
    }
}

struct Queue {
    range: Range,
    frame: PullFrame,
    offset: u64,
    order: Order,
    asked_at: Instant,
}

struct Connection<'a> {
    job: &'a Job<'a>,
    stream: TcpStream,
    input: Input,
    out: Vec<u8>,
    queues: Vec<Queue>,
    /// Queues with no pull in flight and something left to read.
    ready: Vec<usize>,
    in_flight: usize,
    reading: Reading,
    busy: Busy,
}

/// Reads to the end of its mode.
pub(crate) fn drive(job: &Job<'_>) -> Result<Reading> {
    if let Mode::Pop { rounds } = job.mode {
        return popper::drive(job, rounds);
    }
    let pull = Pull {
        messages_max: job.messages_max as i32,
        wait_ms: matches!(job.mode, Mode::Follow { .. }).then_some(WAIT_MS),
        selects: match job.mode {
            Mode::Passes(selects) => selects,
            Mode::Pop { .. } | Mode::Follow { .. } => Selects::All,
        },
    };
    let now = Instant::now();
    let queues: Vec<Queue> = job
        .ranges
        .iter()
        .enumerate()
        .map(|(slot, range)| Queue {
            frame: PullFrame::new(
                &job.group,
                &range.topic,
                range.queue_id,
                slot,
                &pull,
                job.codec,
            ),
            offset: range.begin,
            order: Order::from_offset(range.begin),
            asked_at: now,
            range: range.clone(),
        })
        .collect();
    let stream = connect(job.target)?;
    stream.set_read_timeout(Some(LOOK_AROUND))?;
    let mut connection = Connection {
        job,
        stream,
        input: Input::new(),
        out: Vec::with_capacity(READ_BYTES),
        ready: Vec::new(),
        queues,
        in_flight: 0,
        reading: Reading::new(job),
        busy: Busy::new(job.interval),
    };
    match job.mode {
        Mode::Passes(_) => connection.run_passes()?,
        Mode::Follow { received } => connection.run_follow(received)?,
        Mode::Pop { .. } => unreachable!("a popping connection has its own way"),
    }
    Ok(Reading {
        busy: connection.busy.share(),
        ..connection.reading
    })
}

impl Connection<'_> {
    fn run_passes(&mut self) -> Result<()> {
        while self.reading.passes == 0 || Instant::now() < self.job.interval.end {
            let seen_first = (self.reading.passes > 0).then(|| {
                let fresh = Seen::new(self.job.run, self.job.producers);
                std::mem::replace(&mut self.reading.seen, fresh)
            });
            for queue in &mut self.queues {
                queue.offset = queue.range.begin;
                queue.order = Order::from_offset(queue.range.begin);
            }
            self.ready = (0..self.queues.len())
                .filter(|slot| self.queues[*slot].range.begin < self.queues[*slot].range.end)
                .collect();
            ensure!(!self.ready.is_empty(), "there is nothing to read");
            let is_complete = self.pass()?;
            // Later passes must find what the first one found; an unfinished one must not find anything else.
            if let Some(first) = seen_first {
                let again = std::mem::replace(&mut self.reading.seen, first);
                let first = &self.reading.seen.counts;
                ensure!(
                    again.counts.duplicates == 0
                        && again.counts.gaps == 0
                        && (!is_complete || again.counts.distinct == first.distinct),
                    "a later pass over the same queues found {} messages ({} twice, {} left out), the first one {}",
                    again.counts.distinct,
                    again.counts.duplicates,
                    again.counts.gaps,
                    first.distinct
                );
            }
            self.reading.passes += u64::from(is_complete);
        }
        Ok(())
    }

    /// Whether the pass came to its end before the interval did.
    fn pass(&mut self) -> Result<bool> {
        let mut heard = Instant::now();
        loop {
            let now = Instant::now();
            self.busy.note(now);
            let is_over = self.reading.passes > 0 && now >= self.job.interval.end;
            while !is_over && self.in_flight < self.job.window {
                let Some(slot) = self.ready.pop() else { break };
                self.ask(slot, now);
            }
            self.send()?;
            if self.in_flight == 0 {
                return Ok(self.ready.is_empty());
            }
            if self.input.fill(&mut self.stream)? {
                heard = Instant::now();
                self.take_answers()?;
            }
            self.check_silence(heard)?;
        }
    }

    fn run_follow(&mut self, received: &AtomicU64) -> Result<()> {
        let now = Instant::now();
        for slot in 0..self.queues.len() {
            self.ask(slot, now);
        }
        let mut counted = 0;
        let mut heard = now;
        loop {
            self.busy.note(Instant::now());
            self.send()?;
            if self.input.fill(&mut self.stream)? {
                heard = Instant::now();
                self.take_answers()?;
                let now = Instant::now();
                while let Some(slot) = self.ready.pop() {
                    self.ask(slot, now);
                }
                let distinct = self.reading.seen.counts.distinct;
                received.fetch_add(distinct - counted, Ordering::Relaxed);
                counted = distinct;
            }
            if let Some(done_at) = self.job.shared.sent_all() {
                let has_all = received.load(Ordering::Relaxed) >= self.job.shared.acknowledged();
                // What does not arrive in time is lost; the report says how much.
                if has_all || done_at.max(heard).elapsed() > self.job.arrival_max {
                    return Ok(());
                }
            }
            ensure!(
                !self.job.shared.has_failed(),
                "reading stopped, since sending failed"
            );
        }
    }

    fn ask(&mut self, slot: usize, now: Instant) {
        let queue = &mut self.queues[slot];
        queue.frame.write(queue.offset, &mut self.out);
        queue.asked_at = now;
        self.in_flight += 1;
    }

    fn send(&mut self) -> Result<()> {
        if !self.out.is_empty() {
            self.stream
                .write_all(&self.out)
                .context("the server closed the connection")?;
            self.out.clear();
        }
        Ok(())
    }

    fn check_silence(&self, heard: Instant) -> Result<()> {
        ensure!(
            heard.elapsed() < SILENCE_MAX,
            "the server was silent for {} s",
            SILENCE_MAX.as_secs()
        );
        Ok(())
    }

    fn take_answers(&mut self) -> Result<()> {
        let arrived = Instant::now();
        let within = self.job.interval.contains(arrived);
        let is_following = matches!(self.job.mode, Mode::Follow { .. });
        let is_filtered = matches!(self.job.mode, Mode::Passes(Selects::AsRegistered));
        let Self {
            job,
            input,
            queues,
            ready,
            in_flight,
            reading,
            ..
        } = self;
        let mut received = 0;
        input.each(|header, body| {
            if !header.is_response() {
                return Ok(());
            }
            let slot = header.opaque.wrapping_sub(OPAQUE_BASE) as usize;
            let queue = queues
                .get_mut(slot)
                .context("answer to a pull that was not made")?;
            *in_flight -= 1;
            match ResponseCode(header.code) {
                ResponseCode::SUCCESS => {}
                // Nothing matched in what was looked at; the answer says where to go on.
                ResponseCode::PULL_RETRY_IMMEDIATELY if is_filtered => {}
                ResponseCode::PULL_NOT_FOUND | ResponseCode::PULL_RETRY_IMMEDIATELY => {
                    ready.push(slot);
                    return Ok(());
                }
                code => bail!(
                    "queue {} of {} cannot be read at {}: {code} {}",
                    queue.range.queue_id,
                    queue.range.topic,
                    queue.offset,
                    header.remark.unwrap_or_default()
                ),
            }
            let fields: PullMessageResponse = header.fields.read()?;
            let mut rest = body;
            while !rest.is_empty() {
                let record = record::decode(rest, CheckBody::Yes).with_context(|| {
                    format!(
                        "queue {} of {} hands out a damaged message behind offset {}",
                        queue.range.queue_id, queue.range.topic, queue.offset
                    )
                })?;
                rest = &rest[record.size as usize..];
                ensure!(
                    record.queue_id == queue.range.queue_id,
                    "queue {} hands out a message of queue {}",
                    queue.range.queue_id,
                    record.queue_id
                );
                if !is_following && record.queue_offset >= queue.range.end {
                    break;
                }
                if is_filtered {
                    queue.order.skip_to(record.queue_offset);
                }
                let stamp = Stamp::read(record.body);
                let is_own = reading
                    .seen
                    .note(stamp, record.queue_offset, &mut queue.order);
                received += 1;
                if let (true, true, Some(stamp)) = (is_own, is_following, stamp) {
                    let due = job.shared.epoch + Duration::from_nanos(stamp.due_ns);
                    if job.interval.contains(due) {
                        let micros = arrived.saturating_duration_since(due).as_micros() as u64;
                        reading.latencies_us.saturating_record(micros);
                    }
                }
            }
            if within {
                reading.bytes_measured += body.len() as u64;
                if !is_following {
                    let micros = (arrived - queue.asked_at).as_micros() as u64;
                    reading.latencies_us.saturating_record(micros);
                }
            }
            let next = u64::try_from(fields.next_begin_offset)?;
            ensure!(
                next > queue.offset,
                "queue {} of {} sends its reader from {} back to {next}",
                queue.range.queue_id,
                queue.range.topic,
                queue.offset
            );
            queue.offset = next;
            if is_following || queue.offset < queue.range.end {
                ready.push(slot);
            }
            Ok(())
        })?;
        reading.received_in_all += received;
        if within {
            reading.received_measured += received;
        }
        job.shared.progress.fetch_add(received, Ordering::Relaxed);
        Ok(())
    }
}
