//! The answers of one connection: those that leave at once, and those that wait for the gate.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use protocol::code::ResponseCode;
use protocol::command::Command;
use protocol::frame;
use protocol::header::{FieldMap, WriteFields};
use protocol::reply::{self, Answers, ReplyHead};
use tokio::time::Instant;

use crate::output::Output;
use crate::service::{Gate, HeldFailure, Service};

/// Where a service writes its answers. Answers to one-way requests are dropped here, so a service need not ask.
#[derive(Debug)]
pub struct Replies {
    sink: Sink,
    held: VecDeque<Held>,
    /// Encoded bytes (or body bytes, in process) of everything in `held`.
    held_bytes: usize,
    /// The gate when the batch began: what lies below it need not be held at all.
    passed: u64,
    now: Instant,
    /// How long the requests of this batch had waited before they were read.
    waited: Duration,
    hold_timeout: Duration,
}

/// The form of an answer: bytes for a socket, a decoded command in process.
#[derive(Debug)]
enum Sink {
    Wire {
        out: Output,
        held: Output,
        answers: Answers,
    },
    Decoded {
        ready: Vec<Command>,
        held: VecDeque<Command>,
    },
}

/// One answer that waits. Its bytes lie in the sink, in the same order.
#[derive(Clone, Copy, Debug)]
struct Held {
    position: u64,
    bytes: usize,
    head: ReplyHead,
    deadline: Instant,
}

impl Replies {
    pub(crate) fn wire(hold_timeout: Duration) -> Self {
        Self::new(
            Sink::Wire {
                out: Output::default(),
                held: Output::default(),
                answers: Answers::default(),
            },
            hold_timeout,
        )
    }

    pub(crate) fn decoded(hold_timeout: Duration) -> Self {
        Self::new(
            Sink::Decoded {
                ready: Vec::new(),
                held: VecDeque::new(),
            },
            hold_timeout,
        )
    }

    fn new(sink: Sink, hold_timeout: Duration) -> Self {
        Replies {
            sink,
            held: VecDeque::new(),
            held_bytes: 0,
            passed: 0,
            now: Instant::now(),
            waited: Duration::ZERO,
            hold_timeout,
        }
    }

    /// Answers a request, with a body given in parts that are written one after another.
    pub fn reply(
        &mut self,
        head: ReplyHead,
        code: ResponseCode,
        remark: Option<&str>,
        fields: &impl WriteFields,
        body: &[&[u8]],
    ) {
        if head.oneway {
            return;
        }
        match &mut self.sink {
            Sink::Wire { out, answers, .. } => {
                answers.encode(out.tail(), head, code, remark, fields, body);
            }
            Sink::Decoded { ready, .. } => {
                ready.push(command(head, code, remark, fields, body.concat().into()));
            }
        }
    }

    /// As [`reply`](Self::reply), with the body in reference-counted parts.
    pub fn reply_parts(
        &mut self,
        head: ReplyHead,
        code: ResponseCode,
        remark: Option<&str>,
        fields: &impl WriteFields,
        body: &[Bytes],
    ) {
        if head.oneway {
            return;
        }
        match &mut self.sink {
            Sink::Wire { out, .. } => encode_parts(out, head, code, remark, fields, body),
            Sink::Decoded { ready, .. } => {
                ready.push(command(head, code, remark, fields, joined(body)));
            }
        }
    }

    /// Answers that the request is refused, with a remark that a person can act on.
    pub fn refuse(&mut self, head: ReplyHead, code: ResponseCode, remark: &str) {
        self.reply(head, code, Some(remark), &(), &[]);
    }

    /// Answers once the service's gate has passed `position`; at once when it has.
    ///
    /// Held answers leave in the order they were given. One whose gate fails, or does not pass within `hold_timeout`,
    /// is refused through [`Service::refuse_held`].
    pub fn reply_when(
        &mut self,
        position: u64,
        head: ReplyHead,
        code: ResponseCode,
        remark: Option<&str>,
        fields: &impl WriteFields,
        body: &[&[u8]],
    ) {
        if head.oneway {
            return;
        }
        if position <= self.passed && self.held.is_empty() {
            return self.reply(head, code, remark, fields, body);
        }
        let bytes = match &mut self.sink {
            Sink::Wire { held, answers, .. } => {
                let before = held.len();
                answers.encode(held.tail(), head, code, remark, fields, body);
                held.len() - before
            }
            Sink::Decoded { held, .. } => {
                let command = command(head, code, remark, fields, body.concat().into());
                let bytes = command.body.len();
                held.push_back(command);
                bytes
            }
        };
        self.held_bytes += bytes;
        self.held.push_back(Held {
            position,
            bytes,
            head,
            deadline: self.now + self.hold_timeout,
        });
    }

    /// Bytes that wait to be written, held ones included. A service that is asked for much in one batch refuses the
    /// rest by this.
    pub fn pending_bytes(&self) -> usize {
        let out = match &self.sink {
            Sink::Wire { out, .. } => out.len(),
            Sink::Decoded { ready, .. } => ready.iter().map(|command| command.body.len()).sum(),
        };
        out + self.held_bytes
    }

    /// How long the requests of this batch have waited at least, in the socket's buffer and for their turn. Zero in process.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Begins a batch: held answers get their deadline from `now`, those up to `passed` are not held.
    pub(crate) fn begin(&mut self, now: Instant, passed: u64, waited: Duration) {
        self.now = now;
        self.passed = passed;
        self.waited = waited;
    }

    /// Memory of everything that waits, in bytes.
    pub(crate) fn memory(&self) -> usize {
        let sink = match &self.sink {
            Sink::Wire { out, held, answers } => out.memory() + held.memory() + answers.memory(),
            Sink::Decoded { .. } => 0,
        };
        sink + self.held.capacity() * size_of::<Held>()
    }

    pub(crate) fn held_count(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub(crate) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// When the first held answer times out. Deadlines are in order, since every answer has the same time.
    pub(crate) fn first_deadline(&self) -> Option<Instant> {
        self.held.front().map(|held| held.deadline)
    }

    /// Moves every answer that `gate` lets pass to the ready ones; all others are refused when it failed.
    pub(crate) fn settle(&mut self, gate: Gate, service: &dyn Service) {
        self.release(gate.position);
        if gate.failed {
            self.refuse_first(self.held.len(), HeldFailure::GateFailed, service);
        }
    }

    /// Refuses every held answer whose deadline has passed.
    pub(crate) fn expire(&mut self, now: Instant, service: &dyn Service) {
        let expired = self.held.iter().take_while(|held| held.deadline <= now);
        self.refuse_first(expired.count(), HeldFailure::TimedOut, service);
    }

    fn release(&mut self, position: u64) {
        let passed = self
            .held
            .iter()
            .take_while(|held| held.position <= position);
        let (mut count, mut bytes) = (0, 0);
        for held in passed {
            count += 1;
            bytes += held.bytes;
        }
        if count == 0 {
            return;
        }
        self.held.drain(..count);
        self.held_bytes -= bytes;
        match &mut self.sink {
            Sink::Wire { out, held, .. } => out.take_from(held, bytes),
            Sink::Decoded { ready, held } => ready.extend(held.drain(..count)),
        }
    }

    fn refuse_first(&mut self, count: usize, failure: HeldFailure, service: &dyn Service) {
        for _ in 0..count {
            let Some(refused) = self.held.pop_front() else {
                return;
            };
            self.held_bytes -= refused.bytes;
            let answer = match &mut self.sink {
                Sink::Wire { held, .. } => {
                    let answer = decoded(&held.first_slice()[..refused.bytes]);
                    held.advance(refused.bytes);
                    answer
                }
                Sink::Decoded { held, .. } => held.pop_front().expect("it is held in both"),
            };
            service.refuse_held(failure, refused.head, &answer, self);
        }
    }

    /// The bytes on their way to the socket. Only for a connection over a socket.
    pub(crate) fn out(&mut self) -> &mut Output {
        match &mut self.sink {
            Sink::Wire { out, .. } => out,
            Sink::Decoded { .. } => unreachable!("an in-process connection has no bytes"),
        }
    }

    /// Whether what leaves holds memory that others own too.
    pub(crate) fn shares(&self) -> bool {
        match &self.sink {
            Sink::Wire { out, .. } => out.is_sharing(),
            Sink::Decoded { .. } => false,
        }
    }

    /// The answers that are ready. Only for an in-process connection.
    pub(crate) fn take_ready(&mut self) -> Vec<Command> {
        match &mut self.sink {
            Sink::Wire { .. } => unreachable!("a socket connection has no decoded answers"),
            Sink::Decoded { ready, .. } => std::mem::take(ready),
        }
    }

    /// Whether [`shrink`](Self::shrink) would give memory back.
    pub(crate) fn can_shrink(&self) -> bool {
        match &self.sink {
            Sink::Wire { out, held, answers } => {
                out.can_shrink() || held.can_shrink() || answers.memory() > 0
            }
            Sink::Decoded { .. } => false,
        }
    }

    /// Gives back the memory of past bursts.
    pub(crate) fn shrink(&mut self) {
        if let Sink::Wire { out, held, answers } = &mut self.sink {
            out.shrink();
            held.shrink();
            *answers = Answers::default();
        }
        if self.held.is_empty() {
            self.held = VecDeque::new();
        }
    }
}

/// The answer of a frame that was encoded here.
fn decoded(frame: &[u8]) -> Command {
    let (frame, _) = frame::split(frame, frame.len())
        .expect("own frames are well formed")
        .expect("the frame is whole");
    Command::decode(&frame).expect("own headers are well formed")
}

/// An answer whose large parts are written from where they lie.
pub(crate) fn encode_parts(
    out: &mut Output,
    head: ReplyHead,
    code: ResponseCode,
    remark: Option<&str>,
    fields: &impl WriteFields,
    body: &[Bytes],
) {
    let body_bytes = body.iter().map(Bytes::len).sum();
    reply::encode_head(out.tail(), head, code, remark, fields, body_bytes);
    for part in body {
        out.append_shared(part);
    }
}

/// The answer as the command that the wire would carry.
pub(crate) fn command(
    head: ReplyHead,
    code: ResponseCode,
    remark: Option<&str>,
    fields: &impl WriteFields,
    body: Bytes,
) -> Command {
    let mut command = Command::response(code, remark.map(str::to_owned));
    command.opaque = head.opaque;
    command.codec = head.codec;
    command.fields = FieldMap::of(fields);
    command.body = body;
    command
}

/// One body out of parts; a single part is shared, not copied.
pub(crate) fn joined(parts: &[Bytes]) -> Bytes {
    match parts {
        [] => Bytes::new(),
        [part] => part.clone(),
        parts => parts.concat().into(),
    }
}
