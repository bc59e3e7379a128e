//! The task of one connection over a socket: it owns both directions.
//!
//! ```text
//!            ┌──────────────────────────── one task ───────────────────────────┐
//! socket ──▶ │ Input ─▶ frames ─▶ Service::serve ─▶ Replies ─▶ Output ──────────│─▶ socket
//!            │                        held until the gate passes ┘  ▲           │
//!            └──────────────────────────────────────────────────────│───────────┘
//!                       other threads: Connection::reply, call ─▶ outbox
//! ```
//! Each turn writes first and reads second, so a peer that does not take its answers is not read from either.

use std::borrow::Cow;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use protocol::command::Command;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use crate::connection::Connection;
use crate::footprint::Footprint;
use crate::input::{Input, Malformed};
use crate::output::Slices;
use crate::replies::Replies;
use crate::service::{Gate, Request, Service};
use crate::stream::Stream;
use crate::waiting::{Arrivals, Turns};

/// Requests of one `serve` call. A full read buffer of the smallest frames would otherwise make a batch of
/// thousands, and with it an unbounded number of answers before the first is written.
const BATCH_REQUESTS_MAX: usize = 1024;
/// Bytes that a connection handles before it lets other tasks of its thread run. With many busy connections a turn comes once in
/// this much from each of them, so it bounds how long a quiet one waits beside them.
const TURN_BYTES_MAX: usize = 128 * 1024;
/// A connection without traffic for this long gives the memory of past bursts back.
const SHRINK_AFTER: Duration = Duration::from_secs(10);
/// A draining connection looks this often whether the requests that are handled elsewhere are done: nobody wakes it
/// when a permit comes back.
const DRAIN_LOOK: Duration = Duration::from_millis(10);
/// While memory is short, the bounds of a connection's output and held answers are this part of what they are otherwise.
const SHORT_SHARE: usize = 16;
/// What is left at the end may take this long to be written.
const FAREWELL: Duration = Duration::from_secs(1);

/// The bounds of one connection's task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) frame_bytes_max: usize,
    pub(crate) read_buffer_bytes_max: usize,
    /// Reading stops while more than this waits to be written.
    pub(crate) output_bytes_max: usize,
    /// The outbox is left where it is, bounded, while more than this waits to be written.
    pub(crate) take_outbox_below: usize,
    pub(crate) held_count_max: usize,
    pub(crate) held_bytes_max: usize,
    pub(crate) idle_close: Duration,
    pub(crate) half_frame_close: Duration,
    pub(crate) hold_timeout: Duration,
    pub(crate) drain_timeout: Duration,
}

/// Why a connection ended.
#[derive(Debug)]
enum End {
    /// The peer closed it.
    Peer,
    /// Reading or writing failed.
    Io(io::Error),
    /// The peer's bytes make no sense.
    Malformed(Malformed),
    /// A frame began and did not complete in time.
    HalfFrame,
    /// The peer took nothing of what waits for it, for as long as a frame may take.
    Ignored,
    /// Memory is short, and this connection holds much of it without progress.
    GivesWay(&'static str),
    /// No byte either way for `idle_close`.
    Idle,
    /// This side wanted it.
    Asked(Cow<'static, str>),
    /// Shutdown, with everything written.
    Drained,
    /// Shutdown, and the peer did not take everything in time.
    DrainTimedOut,
}

/// What a turn waited for.
enum Event {
    Read(usize),
    Gate,
    Timer,
    End(End),
    /// Nothing to wait for: something that was stalled can go on.
    Again,
}

/// Runs a connection to its end.
pub(crate) async fn drive(
    stream: Stream,
    connection: Arc<Connection>,
    service: Arc<dyn Service>,
    bounds: Bounds,
    turns: Arc<Turns>,
) {
    let gate = service.gate();
    let now = Instant::now();
    let mut driver = Driver {
        footprint: Footprint::new(connection.budget().clone(), now),
        arrivals: Arrivals::default(),
        turns,
        waited: Duration::ZERO,
        stream,
        input: Input::new(bounds.frame_bytes_max, bounds.read_buffer_bytes_max),
        replies: Replies::wire(bounds.hold_timeout),
        gate,
        requests: Vec::new(),
        answers: Vec::new(),
        uncut: false,
        stalled: false,
        unflushed: false,
        batch_max: BATCH_REQUESTS_MAX,
        turn_bytes: 0,
        last_activity: now,
        partial_since: None,
        drain_deadline: None,
        bounds,
        closing: Closing {
            connection,
            service,
        },
    };
    let end = driver.run().await;
    driver.farewell(&end).await;
    end.log(&driver.closing.connection);
}

/// Whatever way the task ends, everybody hears that the connection is closed.
struct Closing {
    connection: Arc<Connection>,
    service: Arc<dyn Service>,
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.connection.shut();
        self.service.closed(&self.connection);
    }
}

struct Driver {
    stream: Stream,
    input: Input,
    replies: Replies,
    gate: Option<watch::Receiver<Gate>>,
    footprint: Footprint,
    arrivals: Arrivals,
    turns: Arc<Turns>,
    /// How long what was read last had waited.
    waited: Duration,
    /// The allocation of the last batch, empty.
    requests: Vec<Request<'static>>,
    answers: Vec<Command>,
    /// The input may hold complete frames.
    uncut: bool,
    /// Too much waits to be written, or is held: nothing is read or served until it is less.
    stalled: bool,
    /// TLS may hold bytes that were written to it.
    unflushed: bool,
    /// Requests of the next batch; fewer while their answers are large.
    batch_max: usize,
    /// Bytes handled since other tasks could run.
    turn_bytes: usize,
    last_activity: Instant,
    /// Since when an incomplete frame lies in the input.
    partial_since: Option<Instant>,
    drain_deadline: Option<Instant>,
    bounds: Bounds,
    closing: Closing,
}

impl Driver {
    async fn run(&mut self) -> End {
        let mut timer = std::pin::pin!(tokio::time::sleep_until(self.next_deadline()));
        loop {
            if self.uncut
                && !self.stalled
                && let Err(malformed) = self.serve_batch()
            {
                return End::Malformed(malformed);
            }
            self.settle();
            self.count_memory();
            if self.turn_bytes >= TURN_BYTES_MAX {
                self.turn_bytes = 0;
                tokio::task::yield_now().await;
            }
            let deadline = self.next_deadline();
            if deadline < timer.deadline() {
                timer.as_mut().reset(deadline);
            }
            match self.wait(timer.as_mut()).await {
                Event::Read(0) => return End::Peer,
                Event::Read(count) => {
                    self.input.received(count);
                    self.turn_bytes += count;
                    self.last_activity = Instant::now();
                    self.uncut = true;
                    self.look_at_the_clock(count);
                }
                Event::Gate | Event::Again => {}
                Event::Timer => {
                    if let Some(end) = self.on_timer(Instant::now()) {
                        return end;
                    }
                    timer.as_mut().reset(self.next_deadline());
                }
                Event::End(end) => return end,
            }
        }
    }

    /// Waits for whatever lets the connection go on. Cheap when the socket is ready, since that is looked at first.
    async fn wait(&mut self, timer: Pin<&mut Sleep>) -> Event {
        let holds = self.replies.holds();
        // Apart from `self`, so that both can be waited for at once.
        let mut gate = self.gate.take();
        let event = tokio::select! {
            biased;
            event = poll_fn(|cx| self.poll_socket(cx)) => event,
            failed = gate_moved(&mut gate), if holds => {
                if failed {
                    gate = None;
                }
                Event::Gate
            }
            () = timer => Event::Timer,
        };
        self.gate = gate;
        event
    }

    /// Writes what waits, then reads what has come.
    fn poll_socket(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let draining = loop {
            let room = self.has_room();
            let out = room.then(|| self.replies.out());
            let signals = self.closing.connection.poll_signals(cx, out);
            if let Err(error) = self.poll_write(cx) {
                return Poll::Ready(Event::End(End::Io(error)));
            }
            self.footprint.outbox_bytes = signals.outbox_bytes;
            if let Some(reason) = signals.close {
                return Poll::Ready(Event::End(End::Asked(reason)));
            }
            // An outbox that was left where it is, because too much waited, has nobody left to announce it.
            if room || !self.has_room() {
                break signals.draining;
            }
        };
        if self.footprint.began_to_wait() {
            // The timer must learn when to look.
            return Poll::Ready(Event::Again);
        }
        if draining {
            return self.poll_drained();
        }
        if self.is_stalled() {
            return Poll::Pending;
        }
        if self.uncut {
            return Poll::Ready(Event::Again);
        }
        let was_starved = self.footprint.is_starved();
        if !self.footprint.may_grow(self.input.growth()) {
            return if was_starved {
                Poll::Pending
            } else {
                // The timer must learn when to ask again.
                Poll::Ready(Event::Again)
            };
        }
        if was_starved {
            // The time in which nothing was read is not the peer's fault.
            self.partial_since = self.partial_since.map(|_| Instant::now());
        }
        let space = if self.footprint.is_short() {
            self.input.frugal_space()
        } else {
            self.input.space()
        };
        match self.stream.poll_read(cx, space) {
            Poll::Ready(Ok(count)) => Poll::Ready(Event::Read(count)),
            Poll::Ready(Err(error)) => Poll::Ready(Event::End(End::Io(error))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn has_room(&mut self) -> bool {
        self.replies.out().len() <= self.bounds.take_outbox_below
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let out = self.replies.out();
        while !out.is_empty() {
            let written = if out.is_contiguous() {
                self.stream.poll_write(cx, out.first_slice())
            } else {
                let mut slices = Slices::new();
                out.slices(&mut slices);
                self.stream.poll_write_vectored(cx, slices.as_slice())
            };
            match written {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    out.advance(count);
                    self.turn_bytes += count;
                    self.last_activity = Instant::now();
                    self.footprint.taken(count, self.last_activity);
                    self.unflushed = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        self.footprint.drained(out.is_empty());
        if self.unflushed
            && let Poll::Ready(flushed) = self.stream.poll_flush(cx)
        {
            self.unflushed = false;
            flushed?;
        }
        Ok(())
    }

    fn poll_drained(&mut self) -> Poll<Event> {
        let now = Instant::now();
        if self.drain_deadline.is_none() {
            self.drain_deadline = Some(now + self.bounds.drain_timeout);
            // The timer must learn of the new deadline.
            return Poll::Ready(Event::Again);
        }
        let written = self.replies.out().is_empty() && !self.unflushed && !self.replies.holds();
        if written && self.closing.connection.is_quiet() {
            return Poll::Ready(Event::End(End::Drained));
        }
        Poll::Pending
    }

    /// Reading stops above the bounds and goes on below half of them, so that it does not flutter.
    fn is_stalled(&mut self) -> bool {
        let share = if self.stalled { 2 } else { 1 };
        let share = if self.footprint.is_short() {
            share * SHORT_SHARE
        } else {
            share
        };
        let over = self.replies.out().len() > self.bounds.output_bytes_max / share
            || self.replies.held_bytes() > self.bounds.held_bytes_max / share
            || self.replies.held_count() > self.bounds.held_count_max / share;
        if self.stalled && !over {
            // The time in which nothing was read is not the peer's fault.
            self.partial_since = self.partial_since.map(|_| Instant::now());
        }
        self.stalled = over;
        over
    }

    /// Cuts complete frames and serves them: requests in one call, answers to those who wait for them.
    fn serve_batch(&mut self) -> Result<(), Malformed> {
        let Closing {
            connection,
            service,
        } = &self.closing;
        let mut frames = self.input.frames();
        let mut requests = recycle(std::mem::take(&mut self.requests));
        let outcome = loop {
            if requests.len() + self.answers.len() >= self.batch_max {
                break Ok(true);
            }
            match frames.next() {
                Ok(Some(request)) if request.header.is_response() => {
                    self.answers.push(request.to_command())
                }
                Ok(Some(request)) => requests.push(request),
                Ok(None) => break Ok(false),
                Err(malformed) => break Err(malformed),
            }
        };
        let taken = frames.taken();
        if !self.answers.is_empty() {
            connection.resolve(self.answers.drain(..));
        }
        if !requests.is_empty() {
            let passed = self.gate.as_ref().map_or(0, |gate| gate.borrow().position);
            self.replies.begin(self.last_activity, passed, self.waited);
            service.serve(connection, &requests, &mut self.replies);
        }
        self.requests = recycle(requests);
        self.input.consume(taken);
        self.uncut = outcome?;
        if taken > 0 || self.input.is_empty() {
            self.footprint.frame_done();
            self.partial_since = None;
        }
        if !self.uncut && !self.input.is_empty() && self.partial_since.is_none() {
            self.partial_since = Some(self.last_activity);
        }
        self.adapt_batch();
        Ok(())
    }

    /// Everything that this connection holds, told to the budget.
    fn count_memory(&mut self) {
        let requests = self.requests.capacity() * size_of::<Request<'_>>();
        self.footprint
            .hold(self.input.memory() + self.replies.memory() + requests);
    }

    /// How long the `count` bytes that were just read had waited.
    fn look_at_the_clock(&mut self, count: usize) {
        let stream = &self.stream;
        let was_filled = self.input.was_filled();
        let more = || {
            if was_filled { stream.unread_bytes() } else { 0 }
        };
        let in_buffer = self.arrivals.read(self.last_activity, count, more);
        self.waited = in_buffer + self.turns.wait(self.last_activity);
    }

    /// Answers larger than the output bound make the next batches smaller, so that the overshoot stays small.
    fn adapt_batch(&mut self) {
        if self.replies.pending_bytes() > self.bounds.output_bytes_max {
            self.batch_max = (self.batch_max / 4).max(1);
        } else {
            self.batch_max = (self.batch_max * 2).min(BATCH_REQUESTS_MAX);
        }
    }

    /// Releases what the gate lets pass.
    fn settle(&mut self) {
        if !self.replies.holds() {
            return;
        }
        let gate = match &mut self.gate {
            Some(gate) => *gate.borrow_and_update(),
            // Without a gate nothing would ever release them.
            None => Gate {
                position: 0,
                failed: true,
            },
        };
        self.replies.settle(gate, &*self.closing.service);
    }

    fn on_timer(&mut self, now: Instant) -> Option<End> {
        if self.drain_deadline.is_some_and(|deadline| deadline <= now) {
            return Some(End::DrainTimedOut);
        }
        let since = self.partial_since.filter(|_| !self.stalled);
        if since.is_some_and(|since| since + self.bounds.half_frame_close <= now) {
            return Some(End::HalfFrame);
        }
        if self.footprint.is_ignored(now, self.bounds.half_frame_close) {
            return Some(End::Ignored);
        }
        if let Some(reason) = self.footprint.gives_way(now, since, self.input.len()) {
            return Some(End::GivesWay(reason));
        }
        if self.footprint.lingers(now) && self.replies.out().is_sharing() {
            self.replies.out().unshare();
        }
        if self.last_activity + self.bounds.idle_close <= now {
            return Some(End::Idle);
        }
        self.replies.expire(now, &*self.closing.service);
        if self.last_activity + SHRINK_AFTER <= now {
            self.input.shrink();
            self.replies.shrink();
            self.requests = Vec::new();
            self.answers = Vec::new();
        }
        None
    }

    /// The earliest moment at which something must happen by itself. The timer may fire earlier; `on_timer` looks again.
    fn next_deadline(&self) -> Instant {
        let mut deadline = self.last_activity + self.bounds.idle_close;
        let mut at_most =
            |other: Option<Instant>| deadline = other.map_or(deadline, |other| deadline.min(other));
        at_most(self.replies.first_deadline());
        if let Some(drained_by) = self.drain_deadline {
            at_most(Some(drained_by.min(Instant::now() + DRAIN_LOOK)));
        }
        if !self.stalled {
            at_most(
                self.partial_since
                    .map(|since| since + self.bounds.half_frame_close),
            );
        }
        at_most(self.footprint.ignored_at(self.bounds.half_frame_close));
        at_most(
            self.footprint
                .next_look(self.partial_since.is_some(), self.replies.shares()),
        );
        if self.input.can_shrink() || self.replies.can_shrink() || self.requests.capacity() > 0 {
            at_most(Some(self.last_activity + SHRINK_AFTER));
        }
        deadline
    }

    /// Writes what is left, for a bounded time, and says goodbye.
    async fn farewell(&mut self, end: &End) {
        if matches!(
            end,
            End::Io(_)
                | End::Idle
                | End::HalfFrame
                | End::Ignored
                | End::GivesWay(_)
                | End::DrainTimedOut
        ) {
            return;
        }
        self.settle();
        let goodbye = poll_fn(|cx| {
            self.poll_write(cx)?;
            if !self.replies.out().is_empty() || self.unflushed {
                return Poll::Pending;
            }
            self.stream.poll_shutdown(cx)
        });
        // The peer may be gone already, and then there is nobody to tell.
        let _ = tokio::time::timeout(FAREWELL, goodbye).await;
    }
}

/// Resolves when the gate has moved; true when it never will again.
async fn gate_moved(gate: &mut Option<watch::Receiver<Gate>>) -> bool {
    match gate {
        Some(gate) => gate.changed().await.is_err(),
        None => true,
    }
}

/// The allocation of an emptied vector for requests of another buffer: the standard library collects in place
/// when both elements have the same layout.
fn recycle<'b>(mut requests: Vec<Request<'_>>) -> Vec<Request<'b>> {
    requests.clear();
    requests
        .into_iter()
        .map(|_| unreachable!("the vector is empty"))
        .collect()
}

impl End {
    fn log(&self, connection: &Connection) {
        let (peer, local) = (connection.peer(), connection.local());
        match self {
            End::Malformed(malformed) => {
                tracing::warn!(%peer, %local, reason = %malformed, "connection closed");
            }
            End::HalfFrame => {
                tracing::warn!(%peer, %local, reason = "a frame did not complete in time", "connection closed");
            }
            End::Ignored => {
                let reason = "it did not take its answers in time";
                tracing::warn!(%peer, %local, reason, "connection closed");
            }
            End::GivesWay(reason) => {
                tracing::warn!(%peer, %local, reason, "connection closed");
            }
            End::DrainTimedOut => {
                let reason = "shutdown, and the peer did not take its answers in time";
                tracing::warn!(%peer, %local, reason, "connection closed");
            }
            End::Asked(reason) => tracing::info!(%peer, %local, %reason, "connection closed"),
            End::Io(error) => tracing::debug!(%peer, %local, reason = %error, "connection closed"),
            End::Peer => {
                tracing::debug!(%peer, %local, reason = "by the peer", "connection closed")
            }
            End::Idle => tracing::debug!(%peer, %local, reason = "idle", "connection closed"),
            End::Drained => {
                tracing::debug!(%peer, %local, reason = "shutdown", "connection closed")
            }
        }
    }
}
