//! A sending connection: a thread that keeps a fixed number of requests in flight, or sends each when it is due.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::busy::Busy;
use crate::engine::{Interval, Shared};
use crate::frames::{OPAQUE_BASE, SendFrames, SendPatch, write_digits};
use crate::report::latency_histogram;
use crate::wire::{Input, READ_BYTES, SILENCE_MAX, connect};

/// Requests of one connection that an open loop leaves unanswered before it waits; latency counts on.
const OPEN_IN_FLIGHT_MAX: usize = 65_536;
/// Bytes that wait for the socket before an open loop waits.
const OUT_BYTES_MAX: usize = 1 << 20;
/// How long an open loop that fell behind may go on behind the end of its interval.
const OVERRUN_MAX: Duration = Duration::from_secs(30);
/// How exactly an open loop wakes, in nanoseconds; the kernel's default is 50 µs.
const TIMER_SLACK_NS: u64 = 1_000;

/// When requests leave.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// Whenever fewer than `window` are unanswered.
    Closed { window: usize },
    /// Request `i` of this connection is due `first + i × every` behind the start.
    Open { first: Duration, every: f64 },
}

/// One connection's work.
pub(crate) struct Job<'a> {
    pub(crate) target: SocketAddr,
    pub(crate) frames: &'a SendFrames,
    pub(crate) pace: Pace,
    pub(crate) producer: u32,
    /// Index of the first queue used; the others follow in turn.
    pub(crate) first_place: usize,
    /// It ends after so many messages, if its interval does not end before.
    pub(crate) messages_max: u64,
    pub(crate) start: Instant,
    pub(crate) interval: Interval,
    pub(crate) shared: &'a Shared,
}

/// What one connection saw.
pub(crate) struct Tally {
    /// Messages acknowledged in all, and within the interval.
    pub(crate) acknowledged_in_all: u64,
    pub(crate) acknowledged_measured: u64,
    pub(crate) refused: u64,
    pub(crate) first_refusal: Option<String>,
    pub(crate) latencies_us: Histogram<u64>,
    /// How late an open loop was to write what the server could have taken.
    pub(crate) lateness_us: Histogram<u64>,
    /// Share of the interval that the thread was on a processor.
    pub(crate) busy: f64,
}

struct Connection<'a> {
    job: &'a Job<'a>,
    stream: TcpStream,
    input: Input,
    out: Vec<u8>,
    /// Bytes of `out` that the socket has taken.
    written: usize,
    /// When the request in each slot was due or sent.
    due: Vec<Instant>,
    free: Vec<usize>,
    requests: u64,
    time: [u8; 13],
    tally: Tally,
    busy: Busy,
}

/// Sends until the interval ends, then waits for the outstanding answers.
pub(crate) fn drive(job: &Job<'_>) -> Result<Tally> {
    let slots = match job.pace {
        Pace::Closed { window } => window,
        Pace::Open { .. } => 0,
    };
    let mut connection = Connection {
        job,
        stream: connect(job.target)?,
        input: Input::new(),
        out: Vec::with_capacity(READ_BYTES),
        written: 0,
        due: vec![job.start; slots],
        free: (0..slots).rev().collect(),
        requests: 0,
        time: [b'0'; 13],
        tally: Tally {
            acknowledged_in_all: 0,
            acknowledged_measured: 0,
            refused: 0,
            first_refusal: None,
            latencies_us: latency_histogram(),
            lateness_us: latency_histogram(),
            busy: 0.0,
        },
        busy: Busy::new(job.interval),
    };
    match job.pace {
        Pace::Closed { .. } => connection.run_closed()?,
        Pace::Open { first, every } => connection.run_open(job.start + first, every)?,
    }
    Ok(Tally {
        busy: connection.busy.share(),
        ..connection.tally
    })
}

impl Connection<'_> {
    fn run_closed(&mut self) -> Result<()> {
        loop {
            let now = Instant::now();
            self.busy.note(now);
            self.time = unix_ms();
            while now < self.job.interval.end && self.has_more() {
                let Some(slot) = self.free.pop() else { break };
                self.request(slot, now);
            }
            if self.free.len() == self.due.len() {
                return Ok(());
            }
            self.stream
                .write_all(&self.out)
                .context("the server closed the connection")?;
            self.out.clear();
            ensure!(
                self.input.fill(&mut self.stream)?,
                "the server was silent for {} s",
                SILENCE_MAX.as_secs()
            );
            self.take_answers(false)?;
        }
    }

    fn run_open(&mut self, first: Instant, every: f64) -> Result<()> {
        self.stream.set_nonblocking(true)?;
        // Without it the loop wakes later, which its latencies then show.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(TIMER_SLACK_NS));
        let end = self.job.interval.end;
        let mut heard = Instant::now();
        loop {
            let now = Instant::now();
            self.busy.note(now);
            self.time = unix_ms();
            let mut next_due = first + Duration::from_secs_f64(every * self.requests as f64);
            let mut is_held_up = false;
            while next_due <= now && next_due < end {
                let Some(slot) = self.open_slot() else {
                    is_held_up = true;
                    break;
                };
                if next_due >= self.job.interval.begin && self.out.is_empty() {
                    let late = (now - next_due).as_micros() as u64;
                    self.tally.lateness_us.saturating_record(late);
                }
                self.request(slot, next_due);
                next_due = first + Duration::from_secs_f64(every * self.requests as f64);
            }
            self.write_some()?;
            let is_idle = self.free.len() == self.due.len();
            if next_due >= end && self.out.is_empty() && is_idle {
                return Ok(());
            }
            ensure!(
                now < end + OVERRUN_MAX,
                "the server does not take {} messages a second on this connection: {} requests were still due or \
                 unanswered {} s after the end",
                (self.frames_per_request() / every).round(),
                (end.saturating_duration_since(next_due).as_secs_f64() / every) as u64
                    + (self.due.len() - self.free.len()) as u64,
                OVERRUN_MAX.as_secs()
            );
            let until = if is_held_up || next_due >= end {
                now + Duration::from_millis(100)
            } else {
                next_due
            };
            if self.wait_readable(until)? && self.input.fill(&mut self.stream)? {
                heard = Instant::now();
                self.take_answers(true)?;
            } else if !is_idle && heard + SILENCE_MAX < now {
                bail!("the server was silent for {} s", SILENCE_MAX.as_secs());
            }
            if is_idle {
                heard = now;
            }
        }
    }

    fn frames_per_request(&self) -> f64 {
        self.job.frames.batch() as f64
    }

    fn has_more(&self) -> bool {
        self.requests * (self.job.frames.batch() as u64) < self.job.messages_max
    }

    fn open_slot(&mut self) -> Option<usize> {
        if self.out.len() - self.written >= OUT_BYTES_MAX {
            return None;
        }
        if self.free.is_empty() && self.due.len() < OPEN_IN_FLIGHT_MAX {
            self.due.push(self.job.start);
            return Some(self.due.len() - 1);
        }
        self.free.pop()
    }

    fn request(&mut self, slot: usize, due: Instant) {
        let job = self.job;
        let patch = SendPatch {
            place: job.first_place + self.requests as usize,
            slot,
            time: &self.time,
            producer: job.producer,
            sequence: self.requests * job.frames.batch() as u64,
            due_ns: due.saturating_duration_since(job.shared.epoch).as_nanos() as u64,
        };
        job.frames.write(patch, &mut self.out);
        self.due[slot] = due;
        self.requests += 1;
    }

    /// Writes what the socket takes without waiting.
    fn write_some(&mut self) -> Result<()> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("the server closed the connection"),
            }
        }
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        } else if self.written >= OUT_BYTES_MAX {
            self.out.drain(..self.written);
            self.written = 0;
        }
        Ok(())
    }

    /// Waits until there is something to read, room to write what waits, or the moment has come.
    fn wait_readable(&self, until: Instant) -> Result<bool> {
        let mut wanted = PollFlags::IN;
        if !self.out.is_empty() {
            wanted |= PollFlags::OUT;
        }
        let mut fds = [PollFd::new(&self.stream, wanted)];
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let closed_or_readable = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        Ok(fds[0].revents().intersects(closed_or_readable))
    }

    /// A sample belongs to the interval in which it was due (open loop) or arrived (closed loop).
    fn take_answers(&mut self, by_due: bool) -> Result<()> {
        let arrived = Instant::now();
        let Self {
            job,
            input,
            due,
            free,
            tally,
            ..
        } = self;
        let messages = job.frames.batch() as u64;
        let arrived_within = job.interval.contains(arrived);
        let mut acknowledged = 0;
        input.each(|header, _| {
            if !header.is_response() {
                return Ok(());
            }
            let slot = header.opaque.wrapping_sub(OPAQUE_BASE) as usize;
            ensure!(
                slot < due.len(),
                "answer to a request that was not made (opaque {})",
                header.opaque
            );
            free.push(slot);
            if header.code != 0 {
                tally.refused += messages;
                let remark = header.remark.unwrap_or_default();
                tally
                    .first_refusal
                    .get_or_insert_with(|| format!("code {}: {remark}", header.code));
                return Ok(());
            }
            acknowledged += messages;
            let is_sample = if by_due {
                job.interval.contains(due[slot])
            } else {
                arrived_within
            };
            if is_sample {
                let micros = (arrived - due[slot]).as_micros() as u64;
                tally.latencies_us.saturating_record(micros);
            }
            Ok(())
        })?;
        tally.acknowledged_in_all += acknowledged;
        if arrived_within {
            tally.acknowledged_measured += acknowledged;
        }
        job.shared
            .progress
            .fetch_add(acknowledged, Ordering::Relaxed);
        Ok(())
    }
}

fn unix_ms() -> [u8; 13] {
    let now_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_millis() as u64);
    let mut digits = [0; 13];
    write_digits(&mut digits, now_ms);
    digits
}
