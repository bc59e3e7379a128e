//! One delay level: what of its queue is due.

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use protocol::record;
use protocol::topic;
use storage::{Read, ReadError, ReadMode, ReadStatus, Store};

/// Messages in one append. It bounds what a `kill -9` may have delivered twice.
pub(super) const BATCH_MESSAGES_MAX: usize = 256;
/// Bytes of records in one append, unless one message is larger. It bounds how long producers wait for the log.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Queues of the schedule topic that are followed; no configuration has as many levels.
const QUEUES_MAX: i32 = 1024;

/// What time it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// Milliseconds since 1970; may jump.
    pub(super) wall_ms: i64,
    /// Never goes back.
    pub(super) monotonic: Duration,
}

/// What a look at a level found.
#[derive(Debug)]
pub(super) enum Found {
    /// The queue has no more messages.
    Nothing,
    /// The next message is due after this time.
    NotDue(Duration),
    /// These records are due, in order.
    Due(Vec<Bytes>),
    /// Messages were passed over that the log does not hold any more.
    Gone,
}

/// A level and how far it is delivered.
#[derive(Debug)]
pub(super) struct Level {
    queue_id: i32,
    /// How long its messages wait; none for a level that the configuration has no more.
    delay_ms: Option<i64>,
    offset: i64,
    /// Deliver time of the message at `offset`, if that was not due when it was looked at.
    due_at_ms: Option<i64>,
    hold: Option<Hold>,
    paused_until: Option<Duration>,
}

/// Messages that would wait longer than their level says: the wall clock was set back, or the level was made shorter. They are
/// delivered when the level's time has passed by the monotonic clock since that was noticed, so none comes early and none waits for hours.
#[derive(Clone, Copy, Debug)]
struct Hold {
    until: Duration,
    /// The end of the queue at that moment: later messages have waited less.
    below: i64,
}

/// The queues to follow: one a configured level, and those that a longer configuration left messages in.
pub(super) fn queues(store: &Store) -> std::ops::Range<i32> {
    let configured = store.delay_levels_ms().len() as i32;
    let left = store
        .queues_of(topic::SCHEDULE)
        .last()
        .map_or(0, |last| last + 1);
    0..configured.max(left).min(QUEUES_MAX)
}

impl Level {
    /// Goes on at the later of two offsets, which other processes wrote: `ahead` counts only if the queue reaches it. Java 5.3: `correctDelayOffset`.
    pub(super) fn new(store: &Store, queue_id: i32, saved: i64, ahead: u64) -> Level {
        let (min, max) = (
            store.min_offset(topic::SCHEDULE, queue_id) as i64,
            store.max_offset(topic::SCHEDULE, queue_id) as i64,
        );
        if saved != 0 && !(min..=max).contains(&saved) {
            tracing::error!(
                level = queue_id + 1,
                saved,
                min,
                max,
                "delayOffset.json lies outside the queue of a delay level; delivery goes on inside"
            );
        }
        let ahead = i64::try_from(ahead).ok().filter(|ahead| *ahead <= max);
        Level {
            queue_id,
            delay_ms: store.delay_levels_ms().get(queue_id as usize).copied(),
            offset: saved.max(ahead.unwrap_or(0)).clamp(min, max),
            due_at_ms: None,
            hold: None,
            paused_until: None,
        }
    }

    /// Its queue of the schedule topic.
    pub(super) fn queue_id(&self) -> i32 {
        self.queue_id
    }

    /// The offset of its next message.
    pub(super) fn offset(&self) -> u64 {
        self.offset as u64
    }

    /// How long nothing is to be done; none when only a look can tell.
    pub(super) fn waits(&self, now: Now) -> Option<Duration> {
        if let Some(until) = self.paused_until
            && until > now.monotonic
        {
            return Some(until - now.monotonic);
        }
        let due_at_ms = self.due_at_ms?;
        if self.hold.is_none() && self.is_too_far(due_at_ms, now) {
            return None;
        }
        let due_in_ms = due_at_ms.saturating_sub(now.wall_ms).max(0);
        let due_in = Duration::from_millis(due_in_ms as u64);
        Some(match self.hold {
            Some(hold) => due_in.min(hold.until.saturating_sub(now.monotonic)),
            None => due_in,
        })
    }

    /// Whether a message would wait longer than its level says.
    fn is_too_far(&self, due_at_ms: i64, now: Now) -> bool {
        self.delay_ms
            .is_some_and(|delay_ms| due_at_ms > now.wall_ms.saturating_add(delay_ms))
    }

    /// Nothing is done for a while, after a failure that may pass. Gives how long.
    pub(super) fn pause(&mut self, now: Now, pause: Duration) -> Duration {
        self.paused_until = Some(now.monotonic + pause);
        pause
    }

    /// Everything before `offset` is delivered.
    pub(super) fn advance(&mut self, offset: i64) {
        debug_assert!(offset >= self.offset, "a level never goes back");
        self.offset = offset;
        self.due_at_ms = None;
        self.hold = self.hold.filter(|hold| hold.below > offset);
    }

    /// Reads what is due. Waits for the disk. The level moves on only over what is gone.
    pub(super) fn look(&mut self, store: &Store, now: Now) -> Result<Found, ReadError> {
        self.paused_until = None;
        let max = store.max_offset(topic::SCHEDULE, self.queue_id) as i64;
        if self.offset >= max {
            return Ok(Found::Nothing);
        }
        let released = self
            .hold
            .filter(|hold| hold.until <= now.monotonic)
            .map(|hold| hold.below);
        let not_due = Cell::new(None);
        // Of a level whose time was changed, entries may be out of order: those behind one that is not due wait for it, as in Java.
        let is_due = |deliver_at_ms: i64| {
            if not_due.get().is_none() && deliver_at_ms > now.wall_ms && released.is_none() {
                not_due.set(Some(deliver_at_ms));
            }
            not_due.get().is_none()
        };
        let messages_max = released.map_or(BATCH_MESSAGES_MAX, |below| {
            BATCH_MESSAGES_MAX.min((below - self.offset) as usize)
        });
        let read = store.read(
            &Read {
                topic: topic::SCHEDULE,
                queue_id: self.queue_id,
                offset: self.offset,
                messages_max,
                bytes_max: BATCH_BYTES_MAX,
                filter: &is_due,
            },
            ReadMode::Blocking,
        )?;
        let next = read.next_from(self.offset);
        let mut records = read.records;
        if let Some(below) = released {
            let waited = |bytes: &Bytes| {
                record::peek_queue_offset(bytes).is_some_and(|offset| (offset as i64) < below)
            };
            records.retain(waited);
        }
        if !records.is_empty() {
            return Ok(Found::Due(records));
        }
        if let Some(deliver_at_ms) = not_due.get() {
            return Ok(Found::NotDue(self.wait_for(deliver_at_ms, max, now)));
        }
        self.pass_over(read.status, next);
        Ok(Found::Gone)
    }

    /// The message at the level's offset is due at `deliver_at_ms`.
    fn wait_for(&mut self, deliver_at_ms: i64, max: i64, now: Now) -> Duration {
        self.due_at_ms = Some(deliver_at_ms);
        if let Some(delay_ms) = self.delay_ms
            && self.hold.is_none()
            && self.is_too_far(deliver_at_ms, now)
        {
            self.hold = Some(Hold {
                until: now.monotonic + Duration::from_millis(delay_ms as u64),
                below: max,
            });
        }
        self.waits(now).unwrap_or_default()
    }

    fn pass_over(&mut self, status: ReadStatus, next: i64) {
        tracing::error!(
            level = self.queue_id + 1,
            from = self.offset,
            to = next,
            status = status.name(),
            "delayed messages are not in the log any more; they are not delivered"
        );
        self.advance(next);
    }
}
