//! Transactions: halves and their commits as fast as the broker takes them, each counted in the queues afterwards.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use bytes::{Bytes, BytesMut};
use hdrhistogram::Histogram;
use protocol::code::RequestCode;
use protocol::command::Command;
use protocol::headers::{
    EndTransactionRequest, SendMessageRequest, SendMessageRequestV2, SendMessageResponse,
};
use protocol::message_id::decode_offset_id;
use protocol::properties;
use protocol::sysflag;
use serde::{Deserialize, Serialize};

use crate::frames::OPAQUE_BASE;
use crate::load::Load;
use crate::process::Usage;
use crate::report::{Latency, latency_histogram};
use crate::site::Site;
use crate::wire::{Input, SILENCE_MAX, connect};
use crate::workloads::run_number;

/// The group of the producers. None of them listens to questions: every transaction ends at once.
const GROUP: &str = "bench-transactions";

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Transactions {
    /// Target, topic, connections, body and times. `window` is the number of transactions that each connection has under way.
    pub load: Load,
    /// Of so many transactions one is rolled back; 0 commits all.
    pub rollback_one_in: u64,
}

/// What transactions took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TransactionsReport {
    /// Length of the measured interval.
    pub seconds: f64,
    /// Transactions whose end was acknowledged within it.
    pub transactions: u64,
    /// The same in a second.
    pub per_second: f64,
    /// For each second that the broker was on a processor, when its process was named.
    pub per_broker_cpu_second: Option<f64>,
    /// What the broker used, when its process was named; memory and descriptors are those at the end.
    pub broker: Option<Usage>,
    /// From the half to the answer to its end.
    pub latency: Latency,
    /// Commits that were acknowledged in all, which the queues must have gained.
    pub committed: u64,
    /// What the queues gained.
    pub stored: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// The first refusal.
    pub first_refusal: Option<String>,
}

impl TransactionsReport {
    /// Whether every commit is in the queues and nothing else, and nothing was refused.
    pub fn is_clean(&self) -> bool {
        self.stored == self.committed && self.refused == 0
    }
}

/// Where a half lies, nothing for an end, or a refusal.
type Answer = Result<Option<SendMessageResponse>, String>;

/// A transaction under way.
#[derive(Clone, Copy)]
struct Slot {
    began: Instant,
    /// Whether its half is stored, and its end is under way.
    is_ending: bool,
    commits: bool,
}

#[derive(Default)]
struct Progress {
    measured: AtomicU64,
    committed: AtomicU64,
    refused: AtomicU64,
}

impl Transactions {
    /// Runs to the end, and counts what is in the queues.
    ///
    /// # Errors
    /// When a connection fails or the broker answers what cannot be read. Losses and refusals are in the report.
    pub fn run(&self) -> Result<TransactionsReport> {
        let load = &self.load;
        let mut site = Site::prepare(load)?;
        let progress = Progress::default();
        let begin = Instant::now() + load.warmup;
        let end = begin + load.measured;
        let run = run_number();
        let (costs, outcomes) = thread::scope(|scope| -> Result<_> {
            let workers: Vec<_> = (0..load.connections)
                .map(|index| {
                    let progress = &progress;
                    scope.spawn(move || Worker::new(self, index, run)?.drive(begin, end, progress))
                })
                .collect();
            thread::sleep(begin.saturating_duration_since(Instant::now()));
            let before = load.pid.map(Usage::of).transpose()?;
            thread::sleep(end.saturating_duration_since(Instant::now()));
            let after = load.pid.map(Usage::of).transpose()?;
            let outcomes: Result<Vec<_>> = workers
                .into_iter()
                .map(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?)
                .collect();
            Ok((before.zip(after), outcomes?))
        })?;
        let mut latencies = latency_histogram();
        let mut first_refusal = None;
        for (histogram, refusal) in outcomes {
            latencies
                .add(&histogram)
                .context("all have the same bounds")?;
            first_refusal = first_refusal.or(refusal);
        }
        let committed = progress.committed.load(Ordering::Relaxed);
        // Waits for those that are expected; a message too many shows itself in the same count.
        let stored = site.stored(committed)?.unwrap_or(0);
        let transactions = progress.measured.load(Ordering::Relaxed);
        let broker = costs.map(|(before, after)| Usage {
            cpu_seconds: after.cpu_seconds - before.cpu_seconds,
            device_bytes_written: after.device_bytes_written - before.device_bytes_written,
            device_bytes_read: after.device_bytes_read - before.device_bytes_read,
            ..after
        });
        Ok(TransactionsReport {
            seconds: load.measured.as_secs_f64(),
            transactions,
            per_second: transactions as f64 / load.measured.as_secs_f64(),
            per_broker_cpu_second: broker
                .filter(|usage| usage.cpu_seconds > 0.0)
                .map(|usage| transactions as f64 / usage.cpu_seconds),
            broker,
            latency: Latency::of(&latencies),
            committed,
            stored,
            refused: progress.refused.load(Ordering::Relaxed),
            first_refusal,
        })
    }
}

/// One connection: a thread that keeps a number of transactions under way.
struct Worker<'a> {
    plan: &'a Transactions,
    index: usize,
    run: u32,
    target: SocketAddr,
    stream: TcpStream,
    input: Input,
    out: BytesMut,
    body: Bytes,
    slots: Vec<Slot>,
    sent: u64,
    latencies_us: Histogram<u64>,
    first_refusal: Option<String>,
}

impl<'a> Worker<'a> {
    fn new(plan: &'a Transactions, index: usize, run: u32) -> Result<Worker<'a>> {
        let load = &plan.load;
        Ok(Worker {
            plan,
            index,
            run,
            target: load.target,
            stream: connect(load.target)?,
            input: Input::new(),
            out: BytesMut::new(),
            body: vec![b'x'; load.body_bytes].into(),
            slots: Vec::with_capacity(load.window),
            sent: 0,
            latencies_us: latency_histogram(),
            first_refusal: None,
        })
    }

    /// Begins transactions until the end of the interval, and waits for those under way.
    fn drive(
        mut self,
        begin: Instant,
        end: Instant,
        progress: &Progress,
    ) -> Result<(Histogram<u64>, Option<String>)> {
        for slot in 0..self.plan.load.window {
            self.begin(slot);
        }
        let mut under_way = self.slots.len();
        while under_way > 0 {
            self.stream
                .write_all(&self.out)
                .with_context(|| format!("{} closed the connection", self.target))?;
            self.out.clear();
            ensure!(
                self.input.fill(&mut self.stream)?,
                "the server was silent for {} s",
                SILENCE_MAX.as_secs()
            );
            let now = Instant::now();
            for (slot, answer) in self.answers()? {
                match answer {
                    Ok(Some(half)) => self.end(slot, &half)?,
                    Ok(None) => {
                        let done = self.slots[slot];
                        if done.commits {
                            progress.committed.fetch_add(1, Ordering::Relaxed);
                        }
                        if (begin..end).contains(&now) {
                            progress.measured.fetch_add(1, Ordering::Relaxed);
                            let micros = now.saturating_duration_since(done.began).as_micros();
                            self.latencies_us.saturating_record(micros as u64);
                        }
                        under_way -= usize::from(!self.again(slot, now < end));
                    }
                    Err(refusal) => {
                        progress.refused.fetch_add(1, Ordering::Relaxed);
                        self.first_refusal.get_or_insert(refusal);
                        under_way -= usize::from(!self.again(slot, now < end));
                    }
                }
            }
        }
        Ok((self.latencies_us, self.first_refusal))
    }

    /// Whole answers that have come, by slot: of a half where it lies, of an end nothing, or a refusal.
    fn answers(&mut self) -> Result<Vec<(usize, Answer)>> {
        let mut answers = Vec::new();
        let slots = &self.slots;
        self.input.each(|header, _| {
            // A broker may ask something of its clients in between.
            if !header.is_response() {
                return Ok(());
            }
            let slot = header.opaque.wrapping_sub(OPAQUE_BASE) as usize;
            let known = slots.get(slot).context("answer to no request")?;
            let answer = if header.code != 0 {
                let remark = header.remark.as_deref().unwrap_or_default();
                Err(format!("code {}: {remark}", header.code))
            } else if known.is_ending {
                Ok(None)
            } else {
                Ok(Some(header.fields.read()?))
            };
            answers.push((slot, answer));
            Ok(())
        })?;
        Ok(answers)
    }

    fn again(&mut self, slot: usize, wanted: bool) -> bool {
        if wanted {
            self.begin(slot);
        }
        wanted
    }

    /// Sends a half.
    fn begin(&mut self, slot: usize) {
        let load = &self.plan.load;
        let number = self.sent;
        self.sent += 1;
        let one_in = self.plan.rollback_one_in;
        let state = Slot {
            began: Instant::now(),
            is_ending: false,
            commits: one_in == 0 || !number.is_multiple_of(one_in),
        };
        match self.slots.get_mut(slot) {
            Some(place) => *place = state,
            None => self.slots.push(state),
        }
        let mut text = String::new();
        properties::push(&mut text, properties::TRANSACTION_PREPARED, "true");
        properties::push(&mut text, properties::PRODUCER_GROUP, GROUP);
        let id = format!("{:08X}{:04X}{number:016X}", self.run, self.index);
        properties::push(&mut text, properties::UNIQ_KEY, &id);
        let header = SendMessageRequestV2(SendMessageRequest {
            producer_group: GROUP.into(),
            topic: load.topic.as_str().into(),
            default_topic: "TBW102".into(),
            default_topic_queue_nums: load.queues as i32,
            queue_id: (number % u64::from(load.queues)) as i32,
            sys_flag: sysflag::TRANSACTION_PREPARED,
            born_timestamp_ms: unix_ms(),
            properties: Some(text.into()),
            reconsume_times: Some(0),
            unit_mode: Some(false),
            batch: Some(false),
            ..SendMessageRequest::default()
        });
        let request = Command::request(RequestCode::SEND_MESSAGE_V2, &header);
        self.put(slot, request.with_body(self.body.clone()));
    }

    /// Ends the transaction whose half was stored.
    fn end(&mut self, slot: usize, half: &SendMessageResponse) -> Result<()> {
        let (_, physical) = decode_offset_id(&half.msg_id)
            .with_context(|| format!("{:?} is no message id", half.msg_id))?;
        self.slots[slot].is_ending = true;
        let header = EndTransactionRequest {
            topic: Some(self.plan.load.topic.clone()),
            producer_group: GROUP.to_owned(),
            tran_state_table_offset: half.queue_offset,
            commit_log_offset: physical as i64,
            commit_or_rollback: if self.slots[slot].commits {
                sysflag::TRANSACTION_COMMIT
            } else {
                sysflag::TRANSACTION_ROLLBACK
            },
            from_transaction_check: false,
            msg_id: half.msg_id.clone(),
            transaction_id: half.transaction_id.clone(),
        };
        self.put(
            slot,
            Command::request(RequestCode::END_TRANSACTION, &header),
        );
        Ok(())
    }

    fn put(&mut self, slot: usize, mut request: Command) {
        request.opaque = OPAQUE_BASE + slot as i32;
        request.encode(&mut self.out);
    }
}

fn unix_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed: Duration| elapsed.as_millis() as i64)
}
