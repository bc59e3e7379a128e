//! Many connections on one thread, each with requests that are due whatever the server does.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::frames::{OPAQUE_BASE, SendFrames, SendPatch, write_digits};
use crate::report::{Latency, latency_histogram};
use crate::wire::{Input, connect};

/// Bytes that a connection prepares before it writes.
const OUT_BYTES_MAX: usize = 32 << 10;
/// How often what has become due is sent.
const TICK: Duration = Duration::from_millis(1);
/// The answers to the last requests may take this long.
const LAST_ANSWERS_MAX: Duration = Duration::from_secs(10);
/// Java: `ResponseCode.SYSTEM_BUSY`.
const SYSTEM_BUSY: i32 = 2;

/// One thread's part.
pub(super) struct Flood<'a> {
    pub(super) target: SocketAddr,
    pub(super) frames: &'a SendFrames,
    pub(super) connections: usize,
    pub(super) outstanding: usize,
    /// Messages a second over all connections.
    pub(super) rate: f64,
    pub(super) first_producer: u32,
    pub(super) begin: Instant,
    pub(super) end: Instant,
    pub(super) progress: &'a AtomicU64,
}

/// What came of it.
pub(super) struct Flow {
    pub(super) acknowledged: u64,
    pub(super) admitted_us: Histogram<u64>,
    pub(super) admitted: Latency,
    pub(super) refused_us: Histogram<u64>,
    /// By the words of the remark before its numbers.
    pub(super) refused: BTreeMap<String, u64>,
    /// Refused with another code than 2, or without a reason.
    pub(super) refused_other: u64,
    /// Due while the connection had all its requests unanswered.
    pub(super) held_back: u64,
    pub(super) unanswered: u64,
    pub(super) connections_lost: u64,
    /// The thread's share of a processor.
    pub(super) busy: f64,
}

impl Flow {
    pub(super) fn new() -> Self {
        Flow {
            acknowledged: 0,
            admitted_us: latency_histogram(),
            admitted: Latency::of(&latency_histogram()),
            refused_us: latency_histogram(),
            refused: BTreeMap::new(),
            refused_other: 0,
            held_back: 0,
            unanswered: 0,
            connections_lost: 0,
            busy: 0.0,
        }
    }

    pub(super) fn merge(&mut self, other: Flow) -> Result<()> {
        self.acknowledged += other.acknowledged;
        self.admitted_us.add(&other.admitted_us)?;
        self.admitted = Latency::of(&self.admitted_us);
        self.refused_us.add(&other.refused_us)?;
        for (remark, count) in other.refused {
            *self.refused.entry(remark).or_default() += count;
        }
        self.refused_other += other.refused_other;
        self.held_back += other.held_back;
        self.unanswered += other.unanswered;
        self.connections_lost += other.connections_lost;
        self.busy += other.busy;
        Ok(())
    }
}

struct Sender {
    /// None: the server closed it.
    stream: Option<TcpStream>,
    input: Input,
    out: Vec<u8>,
    written: usize,
    /// When the request in each slot was ready to be written.
    sent_at: Vec<Instant>,
    free: Vec<usize>,
    producer: u32,
    place: usize,
    sequence: u64,
    /// Requests that have become due, sent or not.
    due: u64,
}

impl Flood<'_> {
    pub(super) fn run(&self) -> Result<Flow> {
        let mut senders = Vec::new();
        for index in 0..self.connections {
            let stream = connect(self.target)?;
            stream.set_nonblocking(true)?;
            senders.push(Sender {
                stream: Some(stream),
                input: Input::new(),
                out: Vec::with_capacity(OUT_BYTES_MAX * 2),
                written: 0,
                sent_at: vec![self.begin; self.outstanding],
                free: (0..self.outstanding).rev().collect(),
                producer: self.first_producer + index as u32,
                place: index,
                sequence: 0,
                due: 0,
            });
        }
        let mut flow = Flow::new();
        let began = thread_time();
        let mut until = self.end + LAST_ANSWERS_MAX;
        while Instant::now() < until {
            let now = Instant::now();
            let is_sending = now < self.end;
            let time = unix_ms();
            if is_sending {
                let elapsed = now.saturating_duration_since(self.begin).as_secs_f64();
                let due = (elapsed * self.rate / self.connections as f64) as u64;
                for sender in &mut senders {
                    self.send_due(sender, due, now, &time, &mut flow);
                }
            } else if senders.iter().all(|sender| sender.waits_for() == 0) {
                until = now;
            }
            self.exchange(&mut senders, &mut flow)?;
        }
        for sender in &senders {
            flow.unanswered += sender.waits_for();
        }
        let wall = self.begin.elapsed().as_secs_f64().max(0.001);
        flow.busy = thread_time().saturating_sub(began).as_secs_f64() / wall;
        Ok(flow)
    }

    fn send_due(
        &self,
        sender: &mut Sender,
        due: u64,
        now: Instant,
        time: &[u8; 13],
        flow: &mut Flow,
    ) {
        while sender.due < due && sender.stream.is_some() && sender.out.len() < OUT_BYTES_MAX {
            sender.due += 1;
            let Some(slot) = sender.free.pop() else {
                flow.held_back += 1 + (due - sender.due);
                sender.due = due;
                return;
            };
            let patch = SendPatch {
                place: sender.place,
                slot,
                time,
                producer: sender.producer,
                sequence: sender.sequence,
                due_ns: 0,
            };
            self.frames.write(patch, &mut sender.out);
            sender.sent_at[slot] = now;
            sender.sequence += 1;
            sender.place += 1;
        }
        if sender.out.len() >= OUT_BYTES_MAX {
            flow.held_back += due - sender.due;
            sender.due = due;
        }
    }

    /// Writes what waits and reads what has come, on every connection, once.
    fn exchange(&self, senders: &mut [Sender], flow: &mut Flow) -> Result<()> {
        for sender in senders.iter_mut() {
            sender.write(flow);
        }
        let ready: Vec<bool> = {
            let mut fds: Vec<PollFd<'_>> = senders
                .iter()
                .filter_map(|sender| {
                    let stream = sender.stream.as_ref()?;
                    Some(PollFd::new(stream, PollFlags::IN))
                })
                .collect();
            ensure!(!fds.is_empty(), "the server closed every connection");
            let timeout = Timespec {
                tv_sec: 0,
                tv_nsec: TICK.as_nanos() as i64,
            };
            match poll(&mut fds, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            fds.iter().map(|fd| !fd.revents().is_empty()).collect()
        };
        let open = senders.iter_mut().filter(|sender| sender.stream.is_some());
        for (sender, ready) in open.zip(ready) {
            if ready {
                self.take_answers(sender, flow)?;
            }
        }
        Ok(())
    }

    fn take_answers(&self, sender: &mut Sender, flow: &mut Flow) -> Result<()> {
        let Some(stream) = &mut sender.stream else {
            return Ok(());
        };
        if sender.input.fill(stream).is_err() {
            sender.lose(flow);
            return Ok(());
        }
        let arrived = Instant::now();
        let Sender {
            input,
            sent_at,
            free,
            ..
        } = sender;
        let mut acknowledged = 0;
        input.each(|header, _| {
            if !header.is_response() {
                return Ok(());
            }
            let slot = header.opaque.wrapping_sub(OPAQUE_BASE) as usize;
            ensure!(
                slot < sent_at.len(),
                "answer to a request that was not made"
            );
            free.push(slot);
            let micros = (arrived - sent_at[slot]).as_micros() as u64;
            if header.code == 0 {
                acknowledged += 1;
                flow.admitted_us.saturating_record(micros);
                return Ok(());
            }
            flow.refused_us.saturating_record(micros);
            let remark = header.remark.as_deref().unwrap_or("");
            if header.code != SYSTEM_BUSY || remark.len() < 60 {
                flow.refused_other += 1;
            }
            let words = remark.split(|c: char| c.is_ascii_digit()).next();
            let name = format!("code {}: {}", header.code, words.unwrap_or("").trim_end());
            *flow.refused.entry(name).or_default() += 1;
            Ok(())
        })?;
        flow.acknowledged += acknowledged;
        self.progress.fetch_add(acknowledged, Ordering::Relaxed);
        Ok(())
    }
}

impl Sender {
    fn waits_for(&self) -> u64 {
        if self.stream.is_none() {
            return 0;
        }
        (self.sent_at.len() - self.free.len()) as u64
    }

    fn write(&mut self, flow: &mut Flow) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        while self.written < self.out.len() {
            match stream.write(&self.out[self.written..]) {
                Ok(written) if written > 0 => self.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Ok(_) | Err(_) => return self.lose(flow),
            }
        }
        self.out.clear();
        self.written = 0;
    }

    fn lose(&mut self, flow: &mut Flow) {
        flow.unanswered += self.waits_for();
        flow.connections_lost += 1;
        self.stream = None;
        self.out.clear();
    }
}

fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn unix_ms() -> [u8; 13] {
    let now_ms = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_millis() as u64);
    let mut digits = [0; 13];
    write_digits(&mut digits, now_ms);
    digits
}
