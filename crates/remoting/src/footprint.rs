//! The memory of one connection, and whether its peer stands in the way of others with it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::budget::{Account, Budget, SMALL_BYTES, earned};

/// How often a connection looks whether its peer makes progress.
const LOOK: Duration = Duration::from_millis(250);
/// How soon a large frame that may not grow asks again. Nobody wakes it: memory comes back in too many ways.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// What a connection holds, and since when it is waited for.
#[derive(Debug)]
pub(crate) struct Footprint {
    account: Account,
    /// Bytes that other threads left and that are not taken yet.
    pub(crate) outbox_bytes: usize,
    /// A large frame is not read on, for want of memory.
    starved: bool,
    output: Option<Undrained>,
    began: bool,
    /// Of the frame that is not complete.
    partial: Option<Progress>,
    looked_at: Instant,
}

/// Output that the socket does not take at once.
#[derive(Clone, Copy, Debug)]
struct Undrained {
    since: Instant,
    /// When the socket last took something.
    progress_at: Instant,
    taken_bytes: usize,
    progress: Progress,
}

/// When a peer was last fast enough. Since the last look and not on the average: a burst at the beginning buys no time.
#[derive(Clone, Copy, Debug)]
struct Progress {
    at: Instant,
    bytes: usize,
}

impl Progress {
    /// `bytes` have moved by `now`.
    fn look(&mut self, now: Instant, bytes: usize) {
        let moved = earned(bytes.saturating_sub(self.bytes));
        if moved > Duration::ZERO && moved >= now.saturating_duration_since(self.at) {
            *self = Progress { at: now, bytes };
        }
    }
}

impl Footprint {
    pub(crate) fn new(budget: Arc<Budget>, now: Instant) -> Self {
        Footprint {
            account: Account::new(budget),
            outbox_bytes: 0,
            starved: false,
            output: None,
            began: false,
            partial: None,
            looked_at: now,
        }
    }

    /// The connection's buffers take `bytes`.
    pub(crate) fn hold(&mut self, bytes: usize) {
        self.account.hold(bytes + self.outbox_bytes);
    }

    pub(crate) fn is_short(&self) -> bool {
        self.account.budget().is_short()
    }

    pub(crate) fn is_starved(&self) -> bool {
        self.starved
    }

    /// A frame needs a buffer of `bytes`. False: it is not read on for now.
    pub(crate) fn may_grow(&mut self, bytes: usize) -> bool {
        self.starved = bytes > SMALL_BYTES && !self.account.may_grow(bytes);
        !self.starved
    }

    /// A frame is complete.
    pub(crate) fn frame_done(&mut self) {
        self.account.done();
    }

    /// The socket took `bytes`.
    pub(crate) fn taken(&mut self, bytes: usize, now: Instant) {
        if let Some(output) = &mut self.output {
            output.taken_bytes += bytes;
            output.progress_at = now;
        }
    }

    /// The socket takes no more for now, or everything has left.
    pub(crate) fn drained(&mut self, everything: bool) {
        if everything {
            self.output = None;
        } else if self.output.is_none() {
            let now = Instant::now();
            self.began = true;
            self.output = Some(Undrained {
                since: now,
                progress_at: now,
                taken_bytes: 0,
                progress: Progress { at: now, bytes: 0 },
            });
        }
    }

    /// Whether [`drained`](Self::drained) has begun to wait for the socket since this was last asked.
    pub(crate) fn began_to_wait(&mut self) -> bool {
        std::mem::take(&mut self.began)
    }

    /// Whether the socket has not taken everything for so long that what it waits for is better copied than shared.
    pub(crate) fn lingers(&self, now: Instant) -> bool {
        self.output.is_some_and(|output| output.since + LOOK <= now)
    }

    /// Whether the peer has not taken one byte of what waits for it for `limit`.
    pub(crate) fn is_ignored(&self, now: Instant, limit: Duration) -> bool {
        self.output
            .is_some_and(|output| output.progress_at + limit <= now)
    }

    /// While memory is short: why this connection, whose peer has sent `partial_bytes` of a frame since `partial_since`, gives way.
    pub(crate) fn gives_way(
        &mut self,
        now: Instant,
        partial_since: Option<Instant>,
        partial_bytes: usize,
    ) -> Option<&'static str> {
        self.looked_at = now;
        self.partial = partial_since.filter(|_| !self.starved).map(|since| {
            let known = self.partial.filter(|known| known.at >= since);
            let mut progress = known.unwrap_or(Progress {
                at: since,
                bytes: 0,
            });
            progress.look(now, partial_bytes);
            progress
        });
        if let Some(output) = &mut self.output {
            output.progress.look(now, output.taken_bytes);
        }
        let bytes = self.account.counted();
        if bytes <= SMALL_BYTES || !self.is_short() {
            return None;
        }
        let is_over = |progress: Progress| progress.at + Budget::patience(bytes) <= now;
        if self.partial.is_some_and(is_over) {
            return Some("memory is short, and its unfinished frame holds much of it");
        }
        let output = self.output?;
        is_over(output.progress)
            .then_some("memory is short, and its unread answers hold much of it")
    }

    /// When to look again.
    pub(crate) fn next_look(&self, has_partial: bool, is_sharing: bool) -> Option<Instant> {
        if self.starved {
            return Some(Instant::now() + ASK_AGAIN);
        }
        let holds_much = self.account.counted() > SMALL_BYTES;
        let waits = holds_much && (has_partial || self.output.is_some());
        let shares = is_sharing && self.output.is_some();
        (waits || shares).then(|| self.looked_at + LOOK)
    }

    /// When [`is_ignored`](Self::is_ignored) becomes true.
    pub(crate) fn ignored_at(&self, limit: Duration) -> Option<Instant> {
        self.output.map(|output| output.progress_at + limit)
    }
}
