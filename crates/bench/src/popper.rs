//! A popping connection: a thread that pops a backlog, acknowledges every message, and does so again in another group.

use std::io::Write;
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{AckMessageRequest, PopMessageRequest, PopMessageResponse};
use protocol::pop::{self, Handle, Origin};
use protocol::record::{self, CheckBody};

use crate::busy::Busy;
use crate::frames::OPAQUE_BASE;
use crate::ledger::{Order, Seen};
use crate::reader::{Job, Reading};
use crate::stamp::Stamp;
use crate::wire::{Input, SILENCE_MAX, connect};

/// Long enough that nothing comes again within a run.
const INVISIBLE_MS: i64 = 300_000;
/// How long the server may hold a pop. A connection that waits longer would hear late that a round is over.
const POLL_MS: i64 = 500;
/// `initMode`: a group that is new begins with the first message.
const INIT_MIN: i32 = 0;
const POP: i32 = OPAQUE_BASE;
const ACK: i32 = OPAQUE_BASE + 1;

/// The rounds of a run: in each, a group that is new pops the whole backlog, over all connections.
pub(crate) struct Rounds {
    backlog: u64,
    state: Mutex<Round>,
}

#[derive(Clone, Copy, Default)]
struct Round {
    number: u64,
    /// Different messages acknowledged in it.
    done: u64,
}

impl Rounds {
    pub(crate) fn new(backlog: u64) -> Self {
        Self {
            backlog,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, Round> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The round that is under way.
    fn number(&self) -> u64 {
        self.state().number
    }

    /// Messages were acknowledged in a round; the last ones begin another.
    fn done(&self, number: u64, messages: u64) {
        let mut state = self.state();
        if state.number == number {
            state.done += messages;
            if state.done >= self.backlog {
                *state = Round {
                    number: number + 1,
                    done: 0,
                };
            }
        }
    }
}

struct Popper<'a> {
    job: &'a Job<'a>,
    stream: TcpStream,
    input: Input,
    out: BytesMut,
    round: u64,
    asked_at: Instant,
    is_popping: bool,
    /// Acknowledgements without an answer, and the own messages among them.
    unanswered: u64,
    own: u64,
    seen: Seen,
    reading: Reading,
}

/// Pops round after round until the interval ends, one whole round at least.
pub(crate) fn drive(job: &Job<'_>, rounds: &Rounds) -> Result<Reading> {
    let mut busy = Busy::new(job.interval);
    let stream = connect(job.target)?;
    let mut popper = Popper {
        job,
        stream,
        input: Input::new(),
        out: BytesMut::new(),
        round: 0,
        asked_at: Instant::now(),
        is_popping: false,
        unanswered: 0,
        own: 0,
        seen: Seen::new(job.run, job.producers),
        reading: Reading::new(job),
    };
    let mut heard = Instant::now();
    loop {
        let now = Instant::now();
        busy.note(now);
        let number = rounds.number();
        if number > popper.round && popper.unanswered == 0 && !popper.is_popping {
            popper.begin(number)?;
        }
        let is_over = now >= job.interval.end && number > 0;
        if is_over && popper.unanswered == 0 && !popper.is_popping {
            break;
        }
        // What does not come in time is lost; the report says how much.
        if now >= job.interval.end + job.arrival_max {
            break;
        }
        if !popper.is_popping && !is_over && number == popper.round {
            popper.pop();
        }
        popper.send()?;
        if popper.input.fill(&mut popper.stream)? {
            heard = Instant::now();
            let acknowledged = popper.take_answers()?;
            rounds.done(popper.round, acknowledged);
        }
        ensure!(heard.elapsed() < SILENCE_MAX, "the server was silent");
    }
    popper.end_round()?;
    Ok(Reading {
        busy: busy.share(),
        ..popper.reading
    })
}

impl Popper<'_> {
    fn group(&self) -> String {
        format!("{}-{}-{}", self.job.group, self.job.run, self.round)
    }

    fn begin(&mut self, round: u64) -> Result<()> {
        self.end_round()?;
        self.round = round;
        self.reading.passes += 1;
        Ok(())
    }

    /// The first round's messages are held against those of other connections; later ones must not repeat any by themselves.
    fn end_round(&mut self) -> Result<()> {
        let fresh = Seen::like(&self.seen);
        let seen = std::mem::replace(&mut self.seen, fresh);
        if self.round == 0 {
            self.reading.seen = seen;
        } else {
            self.reading.seen.counts.duplicates += seen.counts.duplicates;
        }
        Ok(())
    }

    fn pop(&mut self) {
        let header = PopMessageRequest {
            consumer_group: self.group(),
            topic: self.job.ranges[0].topic.clone(),
            queue_id: -1,
            messages_max: self.job.messages_max as i32,
            invisible_time_ms: INVISIBLE_MS,
            poll_time_ms: POLL_MS,
            born_time_ms: 0,
            init_mode: INIT_MIN,
            exp_type: Some("TAG".to_owned()),
            exp: Some("*".to_owned()),
            ..PopMessageRequest::default()
        };
        let mut request = Command::request(RequestCode::POP_MESSAGE, &header);
        request.opaque = POP;
        request.encode(&mut self.out);
        self.asked_at = Instant::now();
        self.is_popping = true;
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

    /// Gives how many own messages were acknowledged.
    fn take_answers(&mut self) -> Result<u64> {
        let arrived = Instant::now();
        let within = self.job.interval.contains(arrived);
        let mut popped = Vec::new();
        let mut acknowledged = 0;
        self.input.each(|header, body| {
            if !header.is_response() {
                return Ok(());
            }
            let code = ResponseCode(header.code);
            match header.opaque {
                ACK => {
                    ensure!(
                        code == ResponseCode::SUCCESS,
                        "an acknowledgement was refused: {code} {}",
                        header.remark.unwrap_or_default()
                    );
                    acknowledged += 1;
                }
                POP => match code {
                    ResponseCode::SUCCESS => {
                        let fields: PopMessageResponse = header.fields.read()?;
                        popped.push((Some(fields), body.to_vec()));
                    }
                    ResponseCode::POLLING_TIMEOUT | ResponseCode::PULL_NOT_FOUND => {
                        popped.push((None, Vec::new()));
                    }
                    code => bail!(
                        "a pop was refused: {code} {}",
                        header.remark.unwrap_or_default()
                    ),
                },
                _ => bail!("answer to no request"),
            }
            Ok(())
        })?;
        self.unanswered -= acknowledged;
        for (fields, body) in popped {
            self.is_popping = false;
            if let Some(fields) = fields {
                self.take_messages(&fields, &body)?;
                if within {
                    let micros = (arrived - self.asked_at).as_micros() as u64;
                    self.reading.latencies_us.saturating_record(micros);
                    self.reading.bytes_measured += body.len() as u64;
                }
            }
        }
        self.reading.received_in_all += acknowledged;
        if within {
            self.reading.received_measured += acknowledged;
        }
        let progress = &self.job.shared.progress;
        progress.fetch_add(acknowledged, std::sync::atomic::Ordering::Relaxed);
        let own = self.own.min(acknowledged);
        self.own -= own;
        Ok(own)
    }

    fn take_messages(&mut self, fields: &PopMessageResponse, body: &[u8]) -> Result<()> {
        let starts = fields.start_offset_info.as_deref().unwrap_or("");
        let group = self.group();
        let mut rest = body;
        while !rest.is_empty() {
            let record = record::decode(rest, CheckBody::Yes).context("a damaged message")?;
            rest = &rest[record.size as usize..];
            let origin = Origin::of(record.topic);
            let handle = Handle {
                start_offset: pop::start_of(starts, origin, record.queue_id)
                    .context("startOffsetInfo lacks the queue of a message")?,
                popped_ms: fields.pop_time_ms,
                invisible_ms: fields.invisible_time_ms,
                revive_queue: fields.revive_qid,
                origin,
                // Brokers do not miss it, and the load is not told their names.
                broker_name: "",
                queue_id: record.queue_id,
                offset: Some(record.queue_offset as i64),
            };
            let header = AckMessageRequest {
                consumer_group: group.clone(),
                topic: record.topic.to_owned(),
                queue_id: record.queue_id,
                extra_info: handle.to_string(),
                offset: record.queue_offset as i64,
            };
            let mut request = Command::request(RequestCode::ACK_MESSAGE, &header);
            request.opaque = ACK;
            request.encode(&mut self.out);
            self.unanswered += 1;
            let stamp = Stamp::read(record.body);
            let before = self.seen.counts.distinct;
            self.seen.note(
                stamp,
                record.queue_offset,
                &mut Order::from_offset(record.queue_offset),
            );
            self.own += self.seen.counts.distinct - before;
        }
        Ok(())
    }
}
