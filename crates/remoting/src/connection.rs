//! The handle of a connection that any thread may hold.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use protocol::code::ResponseCode;
use protocol::command::Command;
use protocol::header::{FLAG_RESPONSE, WriteFields};
use protocol::reply::{self, ReplyHead};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use crate::budget::{Budget, SMALL_BYTES};
use crate::client::CallError;
use crate::local::LocalEnd;
use crate::output::Output;
use crate::replies;

/// Room that the header of a frame takes in the outbox, for the check before it is encoded.
const HEADER_BYTES_GUESS: usize = 512;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// What an outbox, and the calls over one connection, are bounded by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Encoded bytes that other threads may leave for the connection's task.
    pub(crate) outbox_bytes_max: usize,
    /// Calls to the peer that wait for their answer.
    pub(crate) calls_max: usize,
    /// Requests that are handled outside the read loop.
    pub(crate) permits: usize,
}

/// One connection, seen from anywhere but its own task.
///
/// The task writes; other threads leave encoded bytes in a bounded outbox and wake it.
pub struct Connection {
    id: u64,
    peer: SocketAddr,
    local: SocketAddr,
    /// The address as the caller wrote it; for errors.
    name: Arc<str>,
    transport: Transport,
    limits: Limits,
    budget: Arc<Budget>,
    next_opaque: AtomicI32,
    permits: Arc<Semaphore>,
    state: Mutex<State>,
    /// Woken when the outbox was emptied and when the connection closes.
    room: Notify,
}

/// How commands reach the other side.
pub(crate) enum Transport {
    Socket,
    Local(LocalEnd),
}

/// What threads share with the connection's task.
struct State {
    open: bool,
    draining: bool,
    close_reason: Option<Cow<'static, str>>,
    outbox: Output,
    calls: HashMap<i32, oneshot::Sender<Command>>,
    /// The task, waiting. Always empty for an in-process connection.
    task: Option<Waker>,
}

/// Why something could not be given to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The connection is closed. The caller forgets it; the peer will come back on another one.
    #[error("the connection is closed")]
    Closed,
    /// The peer takes its bytes, or answers its calls, more slowly than they come. The caller drops what it
    /// wanted to send, or tries later.
    #[error("the connection's bounded outbox is full: its peer is slow")]
    Full,
}

/// Why a call could not begin.
enum BeginError {
    Closed,
    TooManyCalls,
    OutboxFull,
}

impl From<BeginError> for SendError {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::Closed => SendError::Closed,
            BeginError::TooManyCalls | BeginError::OutboxFull => SendError::Full,
        }
    }
}

/// What the connection's task finds in the shared state.
pub(crate) struct Signals {
    pub(crate) close: Option<Cow<'static, str>>,
    pub(crate) draining: bool,
    /// Bytes that are left in the outbox.
    pub(crate) outbox_bytes: usize,
}

/// One of the bounded places for requests that are handled outside the read loop. Given back when dropped.
#[derive(Debug)]
pub struct Permit {
    _held: OwnedSemaphorePermit,
}

impl Connection {
    pub(crate) fn new(
        name: Arc<str>,
        peer: SocketAddr,
        local: SocketAddr,
        transport: Transport,
        limits: Limits,
        budget: Arc<Budget>,
    ) -> Self {
        Connection {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            peer,
            local,
            name,
            transport,
            limits,
            budget,
            next_opaque: AtomicI32::new(1),
            permits: Arc::new(Semaphore::new(limits.permits)),
            state: Mutex::new(State {
                open: true,
                draining: false,
                close_reason: None,
                outbox: Output::default(),
                calls: HashMap::new(),
                task: None,
            }),
            room: Notify::new(),
        }
    }

    /// A number that no other connection of this process has or had.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The address of the other side. In process: the loopback address with port 0.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The address of this side.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The memory that this connection shares with the others of its server.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Whether something given to the connection can still reach the peer.
    pub fn is_open(&self) -> bool {
        self.state().open
    }

    /// Closes the connection, soon: what waits to be written is written as far as the socket takes it at once.
    /// `reason` goes to the log.
    pub fn close(&self, reason: impl Into<Cow<'static, str>>) {
        if let Transport::Local(end) = &self.transport {
            end.close(self);
            return;
        }
        let mut state = self.state();
        state.close_reason.get_or_insert(reason.into());
        let task = state.task.take();
        drop(state);
        wake(task);
    }

    /// How many requests of this connection may be handled outside its read loop at the same time.
    pub fn permits_max(&self) -> usize {
        self.limits.permits
    }

    /// A place among the requests of this connection that are handled outside its read loop. None when all are
    /// taken: refuse with SYSTEM_BUSY.
    pub fn permit(&self) -> Option<Permit> {
        let held = self.permits.clone().try_acquire_owned().ok()?;
        Some(Permit { _held: held })
    }

    /// Answers a request later than its `serve`, from any thread. An answer to a one-way request goes nowhere.
    pub fn reply(
        &self,
        head: ReplyHead,
        code: ResponseCode,
        remark: Option<&str>,
        fields: &impl WriteFields,
        body: &[&[u8]],
    ) -> Result<(), SendError> {
        if head.oneway {
            return Ok(());
        }
        match &self.transport {
            Transport::Socket => self.put(body.iter().map(|part| part.len()).sum(), |outbox| {
                reply::encode(outbox.tail(), head, code, remark, fields, body);
            }),
            Transport::Local(end) => end.deliver_answer(replies::command(
                head,
                code,
                remark,
                fields,
                body.concat().into(),
            )),
        }
    }

    /// As [`reply`](Self::reply), with the body in reference-counted parts.
    pub fn reply_parts(
        &self,
        head: ReplyHead,
        code: ResponseCode,
        remark: Option<&str>,
        fields: &impl WriteFields,
        body: &[Bytes],
    ) -> Result<(), SendError> {
        if head.oneway {
            return Ok(());
        }
        match &self.transport {
            Transport::Socket => self.put(body.iter().map(Bytes::len).sum(), |outbox| {
                replies::encode_parts(outbox, head, code, remark, fields, body);
            }),
            Transport::Local(end) => end.deliver_answer(replies::command(
                head,
                code,
                remark,
                fields,
                replies::joined(body),
            )),
        }
    }

    /// As [`reply`](Self::reply), with an answer that exists as a command.
    pub fn reply_command(&self, head: ReplyHead, mut answer: Command) -> Result<(), SendError> {
        if head.oneway {
            return Ok(());
        }
        answer.opaque = head.opaque;
        answer.codec = head.codec;
        answer.flag |= FLAG_RESPONSE;
        match &self.transport {
            Transport::Socket => self.put(answer.body.len(), |outbox| answer.encode(outbox.tail())),
            Transport::Local(end) => end.deliver_answer(answer),
        }
    }

    /// Sends a command that the peer does not answer, from any thread. On `Ok` it is on its way; nobody hears
    /// whether it arrived.
    pub fn send_oneway(&self, mut command: Command) -> Result<(), SendError> {
        command.mark_oneway();
        command.opaque = self.next_opaque.fetch_add(1, Ordering::Relaxed);
        match &self.transport {
            Transport::Socket => {
                self.put(command.body.len(), |outbox| command.encode(outbox.tail()))
            }
            Transport::Local(end) if self.is_open() => end.deliver_oneway(&command),
            Transport::Local(_) => Err(SendError::Closed),
        }
    }

    /// Asks the peer and waits for its answer. Does not wait for room: a peer that is slow to take its bytes is
    /// an error at once.
    pub async fn call(
        &self,
        mut command: Command,
        timeout: Duration,
    ) -> Result<Command, CallError> {
        let exchange = async { self.begin(&mut command)?.answer().await };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(answer) => answer.map_err(|error| CallError::of(error, &self.name)),
            Err(_) => Err(CallError::Timeout {
                addr: self.name.to_string(),
                after: timeout,
            }),
        }
    }

    /// As [`call`](Self::call) without a timeout of its own, and waiting while the outbox is full.
    pub(crate) async fn exchange(&self, mut command: Command) -> Result<Command, SendError> {
        loop {
            self.wait_for_room(command.body.len()).await?;
            match self.begin(&mut command) {
                Ok(ticket) => return ticket.answer().await,
                // Another caller was quicker.
                Err(BeginError::OutboxFull) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// As [`send_oneway`](Self::send_oneway), waiting while the outbox is full.
    pub(crate) async fn send_oneway_patiently(&self, command: Command) -> Result<(), SendError> {
        loop {
            self.wait_for_room(command.body.len()).await?;
            match self.send_oneway(command.clone()) {
                Err(SendError::Full) => {}
                sent => return sent,
            }
        }
    }

    /// Returns when the outbox has room, which others may take first.
    async fn wait_for_room(&self, bytes: usize) -> Result<(), SendError> {
        if matches!(self.transport, Transport::Local(_)) || self.has_room(bytes)? {
            return Ok(());
        }
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            // Registered before the check: a wake-up in between is not lost.
            room.as_mut().enable();
            if self.has_room(bytes)? {
                return Ok(());
            }
            room.await;
        }
    }

    fn has_room(&self, bytes: usize) -> Result<bool, SendError> {
        let state = self.state();
        if !state.open {
            return Err(SendError::Closed);
        }
        Ok(self.fits(&state, bytes))
    }

    /// Sends a call on its way.
    fn begin(&self, command: &mut Command) -> Result<Ticket<'_>, BeginError> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        if !state.open {
            return Err(BeginError::Closed);
        }
        if state.calls.len() >= self.limits.calls_max {
            return Err(BeginError::TooManyCalls);
        }
        if matches!(self.transport, Transport::Socket) && !self.fits(&state, command.body.len()) {
            return Err(BeginError::OutboxFull);
        }
        command.opaque = self.next_opaque.fetch_add(1, Ordering::Relaxed);
        while state.calls.contains_key(&command.opaque) {
            // After 2^32 calls the number of one that still waits comes round again.
            command.opaque = self.next_opaque.fetch_add(1, Ordering::Relaxed);
        }
        state.calls.insert(command.opaque, sender);
        let mut ticket = Ticket {
            connection: self,
            opaque: command.opaque,
            receiver,
            answered: false,
            local: None,
        };
        match &self.transport {
            Transport::Socket => {
                command.encode(state.outbox.tail());
                let task = state.task.take();
                drop(state);
                wake(task);
            }
            Transport::Local(end) => {
                drop(state);
                ticket.local = end
                    .deliver_call(self, command)
                    .map_err(|_| BeginError::Closed)?;
            }
        }
        Ok(ticket)
    }

    fn put(&self, body_bytes: usize, encode: impl FnOnce(&mut Output)) -> Result<(), SendError> {
        let mut state = self.state();
        if !state.open {
            return Err(SendError::Closed);
        }
        if !self.fits(&state, body_bytes) {
            return Err(SendError::Full);
        }
        encode(&mut state.outbox);
        let task = state.task.take();
        drop(state);
        wake(task);
        Ok(())
    }

    /// A single frame always fits into an empty outbox, however large, unless the connections together hold too much.
    fn fits(&self, state: &State, body_bytes: usize) -> bool {
        let waiting = state.outbox.len();
        if self.budget.is_full() && waiting + body_bytes > SMALL_BYTES {
            return false;
        }
        waiting == 0 || waiting + HEADER_BYTES_GUESS + body_bytes <= self.limits.outbox_bytes_max
    }

    /// Hands answers of the peer to those who wait for them. One that nobody waits for came too late and is dropped.
    pub(crate) fn resolve(&self, answers: impl IntoIterator<Item = Command>) {
        let mut state = self.state();
        for answer in answers {
            match state.calls.remove(&answer.opaque) {
                // The receiver may have gone in this moment.
                Some(call) => drop(call.send(answer)),
                None => {
                    tracing::debug!(peer = %self.peer, opaque = answer.opaque, "an answer that nobody waits for")
                }
            }
        }
    }

    /// The connection's task looks for work: takes the outbox into `out` where `take` says so, and leaves its waker.
    pub(crate) fn poll_signals(&self, cx: &mut Context<'_>, out: Option<&mut Output>) -> Signals {
        let mut state = self.state();
        let mut emptied = false;
        if let Some(out) = out
            && !state.outbox.is_empty()
        {
            out.take_all(&mut state.outbox);
            emptied = true;
        }
        match &state.task {
            Some(task) if task.will_wake(cx.waker()) => {}
            _ => state.task = Some(cx.waker().clone()),
        }
        let signals = Signals {
            close: state.close_reason.take(),
            draining: state.draining,
            outbox_bytes: state.outbox.memory(),
        };
        drop(state);
        if emptied {
            self.room.notify_waiters();
        }
        signals
    }

    /// Whether a drained connection may go: nothing of it is in other hands.
    pub(crate) fn is_quiet(&self) -> bool {
        let state = self.state();
        state.outbox.is_empty() && self.permits.available_permits() == self.limits.permits
    }

    /// Asks the connection's task to stop reading, write what it owes, and close.
    pub(crate) fn drain(&self) {
        let mut state = self.state();
        state.draining = true;
        let task = state.task.take();
        drop(state);
        wake(task);
    }

    /// No more bytes will leave: everybody who waits hears it. False when it was so already.
    pub(crate) fn shut(&self) -> bool {
        let mut state = self.state();
        let was_open = std::mem::replace(&mut state.open, false);
        let calls = std::mem::take(&mut state.calls);
        state.outbox = Output::default();
        state.task = None;
        drop(state);
        // Dropping the senders wakes their callers, outside the lock.
        drop(calls);
        self.room.notify_waiters();
        was_open
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The state stays usable when a thread died while it held the lock: each change is complete in itself.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(task: Option<Waker>) {
    if let Some(task) = task {
        task.wake();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("id", &self.id)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// A call that waits for its answer. Dropped early, the answer goes nowhere.
pub(crate) struct Ticket<'a> {
    connection: &'a Connection,
    opaque: i32,
    receiver: oneshot::Receiver<Command>,
    answered: bool,
    /// Answers that the in-process peer holds back.
    local: Option<crate::local::HeldAnswers>,
}

impl Ticket<'_> {
    /// The answer, or `Closed` when the connection ends first.
    pub(crate) async fn answer(mut self) -> Result<Command, SendError> {
        if let Some(mut held) = self.local.take() {
            tokio::select! {
                biased;
                answer = &mut self.receiver => {
                    self.answered = true;
                    return answer.map_err(|_| SendError::Closed);
                }
                () = held.settle(self.connection) => {}
            }
        }
        let answer = (&mut self.receiver).await;
        self.answered = true;
        answer.map_err(|_| SendError::Closed)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.connection.state().calls.remove(&self.opaque);
        }
    }
}
