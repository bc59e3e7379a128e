//! The state of the timers, and one turn of them: read what was stored, deliver what is due, keep what must outlive the process.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use platform::clock::Clock;
use platform::disk::Disk;
use protocol::topic;
use storage::{AppendError, Appended, Read, ReadError, ReadMode, Store};

use super::Next;
use super::entry::{Entry, Key};
use super::keep::Keeping;
use super::mail::{Mail, Spawn};
use super::message::{self, Timed};
use super::notes::{PositionFile, Progress};
use super::replay::Replay;
use super::roll::Rolling;
use super::timeline::{FRESH_MAX, Timeline};
use super::topics::Topics;

/// Messages in one append. It bounds what a `kill -9` may have delivered twice.
pub(super) const BATCH_MESSAGES_MAX: usize = 256;
/// Bytes of records in one append, unless one message is larger. It bounds how long producers wait for the log.
pub(super) const BATCH_BYTES_MAX: usize = 1 << 20;
/// Records of the timer queue that are read in one turn.
const INTAKE_MAX: usize = 4096;
/// Entries in memory beyond which nothing is read until some are in a file.
const FRESH_HARD_MAX: usize = 4 * FRESH_MAX;
/// The pause after a failure that may pass.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// What time it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// Milliseconds since 1970; may jump.
    pub(super) wall_ms: i64,
    /// Never goes back.
    pub(super) monotonic: Duration,
}

/// What went wrong in a turn. The next one tries again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("reading the timers' files: {0}")]
    Files(#[from] io::Error),
}

/// What operators may stop, and what they set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimerSettings {
    /// `timerStopEnqueue`: nothing is taken from the timer queue that was not taken in before.
    pub(crate) stop_enqueue: bool,
    /// `timerStopDequeue`: nothing is delivered.
    pub(crate) stop_dequeue: bool,
    /// `timerPrecisionMs`: the tick of the Java broker that may have stored messages here.
    pub(crate) precision_ms: i64,
    /// Messages older than this are stored anew, before the log lets go of them.
    pub(crate) roll_age_ms: i64,
    /// How often the manifest is written while messages are delivered.
    pub(crate) save_interval: Duration,
}

/// An order to drop a message, until the message's time is over.
#[derive(Clone, Debug)]
pub(super) struct Tombstone {
    /// The order's record.
    pub(super) physical: u64,
    pub(super) topic: Box<str>,
    pub(super) unique_id: Box<str>,
}

/// How far the timer queue was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TakenIn {
    /// To its end.
    All,
    /// There is more.
    Some,
    /// There is more, which waits in the log: memory holds as many as may be.
    Full,
    /// There is more that no life took in, and an operator has stopped it.
    Stopped,
}

/// Everything that turns work on.
pub(super) struct Engine {
    pub(super) store: Arc<Store>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) clock: Arc<dyn Clock>,
    /// Where runs and manifest lie.
    pub(super) dir: PathBuf,
    pub(super) config_dir: PathBuf,
    pub(super) settings: TimerSettings,
    pub(super) mail: Arc<Mail>,
    pub(super) spawn: Spawn,
    pub(super) timeline: Timeline,
    pub(super) topics: Topics,
    pub(super) tombstones: HashMap<u64, Tombstone>,
    /// What is read next of the timer queue.
    pub(super) read_offset: u64,
    pub(super) replay: Replay,
    pub(super) progress: Progress,
    pub(super) epoch: u64,
    pub(super) position: PositionFile,
    /// Taken from the timeline, and being read from the disk.
    pub(super) cold: Vec<Entry>,
    /// The same, and read; nothing for a record that is gone.
    pub(super) ready: VecDeque<(Entry, Option<Bytes>)>,
    pub(super) last: Option<Appended>,
    pub(super) keeping: Keeping,
    pub(super) rolling: Rolling,
    pub(super) enqueued: u64,
    pub(super) dequeued: u64,
    pub(super) failing: bool,
    pub(super) paused_until: Duration,
}

impl Engine {
    pub(super) fn now(&self) -> Now {
        Now {
            wall_ms: self.clock.now_ms(),
            monotonic: self.clock.monotonic(),
        }
    }

    /// One turn, bounded in messages and bytes. Says when to look again.
    pub(super) fn turn(&mut self) -> Next {
        let now = self.now();
        if self.paused_until > now.monotonic {
            return Next::After(self.paused_until - now.monotonic);
        }
        match self.work(now) {
            Ok(next) => {
                if std::mem::replace(&mut self.failing, false) {
                    tracing::info!("timer messages are delivered again");
                }
                next
            }
            Err(fault) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(error = %fault, "timer messages cannot be delivered; trying again until they can");
                }
                if is_damage(&fault) {
                    self.rebuild();
                }
                self.paused_until = now.monotonic + RETRY_PAUSE;
                Next::After(RETRY_PAUSE)
            }
        }
    }

    fn work(&mut self, now: Now) -> Result<Next, Fault> {
        self.collect(now);
        // What is below this position is read when the end of the queue is reached.
        let durable = self.store.flushed();
        let taken_in = self.take_in(now)?;
        if matches!(taken_in, TakenIn::All | TakenIn::Stopped) {
            self.replayed(now)?;
        }
        // What is stored anew has to be taken in again.
        let caught_up = taken_in == TakenIn::All && !self.settings.stop_enqueue;
        let more_due = if self.settings.stop_dequeue || !self.replay.done {
            false
        } else {
            self.deliver(now)?
        };
        self.roll(now, caught_up.then_some(durable))?;
        self.keep(now)?;
        if more_due || taken_in == TakenIn::Some {
            return Ok(Next::Now);
        }
        let next = match self.timeline.peek()? {
            Some(_) if self.settings.stop_dequeue => super::CLOCK_LOOK,
            Some(entry) => {
                let wait_ms = entry.due_ms.saturating_sub(now.wall_ms).max(0) as u64;
                Duration::from_millis(wait_ms).min(super::CLOCK_LOOK)
            }
            None if self.is_quiet() => super::IDLE_LOOK,
            None => super::CLOCK_LOOK,
        };
        Ok(Next::After(next.max(super::STEP)))
    }

    fn is_quiet(&self) -> bool {
        self.cold.is_empty() && !self.keeping.is_behind()
    }

    /// Whether something that is not delivered stands before what is: it was read after its time, or the clock was set back.
    pub(super) fn is_late(&mut self) -> io::Result<bool> {
        let next = self.timeline.peek()?;
        Ok(next.is_some_and(|entry| entry.mark() <= self.progress.mark))
    }

    /// Where reading ends: an operator who stops it means what no life has taken in. Java 5.3.4: `TimerMessageStore.enqueue`, beside which what waits in the wheel is delivered.
    fn intake_end(&self, max: u64) -> u64 {
        if !self.settings.stop_enqueue {
            max
        } else if self.replay.done {
            max.min(self.read_offset)
        } else {
            max.min(self.replay.taken_in)
        }
    }

    /// Reads from the timer queue.
    fn take_in(&mut self, now: Now) -> Result<TakenIn, Fault> {
        let mut taken = 0;
        loop {
            let min = self.store.min_offset(topic::TIMER, 0);
            let max = self.store.max_offset(topic::TIMER, 0);
            if self.read_offset < min {
                if self.replay.done {
                    tracing::error!(
                        from = self.read_offset,
                        to = min,
                        "timer messages are not in the log any more; they are not delivered"
                    );
                }
                self.read_offset = min;
            }
            let end = self.intake_end(max);
            if self.read_offset >= end {
                let is_stopped = self.read_offset < max;
                return Ok(if is_stopped {
                    TakenIn::Stopped
                } else {
                    TakenIn::All
                });
            }
            if !self.replay.done {
                self.make_room()?;
            } else if self.timeline.fresh_len() >= FRESH_HARD_MAX {
                return Ok(TakenIn::Full);
            }
            if taken >= INTAKE_MAX {
                return Ok(TakenIn::Some);
            }
            let read = self.store.read(
                &Read {
                    topic: topic::TIMER,
                    queue_id: 0,
                    offset: self.read_offset as i64,
                    messages_max: (end - self.read_offset).min(BATCH_MESSAGES_MAX as u64) as usize,
                    bytes_max: BATCH_BYTES_MAX,
                    filter: &|_| true,
                },
                ReadMode::Blocking,
            )?;
            read.records.iter().for_each(|bytes| self.take(bytes, now));
            if read.records.is_empty() {
                tracing::error!(
                    from = self.read_offset,
                    to = read.next_offset,
                    status = read.status.name(),
                    "records of timer messages are damaged or gone; they are not delivered"
                );
            }
            taken += read.records.len().max(1);
            self.read_offset = read.next_from(self.read_offset as i64) as u64;
            // What is late is delivered before more is read, so that the noted offset stays near.
            let next = self.timeline.peek()?;
            let is_late = next.is_some_and(|entry| {
                entry.mark() <= self.progress.mark && entry.due_ms <= now.wall_ms
            });
            if self.replay.done && is_late {
                return Ok(if self.read_offset >= max {
                    TakenIn::All
                } else {
                    TakenIn::Some
                });
            }
        }
    }

    /// Takes one record in, unless an earlier life delivered it.
    fn take(&mut self, bytes: &Bytes, now: Now) {
        let timed = match message::understand(bytes, self.settings.precision_ms) {
            Ok(timed) => timed,
            Err(error) => return message::complain_of(bytes, error),
        };
        let physical = timed.record.physical_offset;
        let mut entry = Entry {
            due_ms: timed.due_ms,
            physical,
            key: Key::new(self.topics.number(timed.topic), timed.hash(), timed.deletes),
        };
        if timed.deletes {
            // A Java broker's order stands one tick before its message at most.
            entry.due_ms = entry.due_ms.saturating_add(self.settings.precision_ms);
        }
        let replay = &self.replay;
        if timed.record.queue_offset < replay.until
            && (entry.mark() <= replay.progress.mark || physical < replay.progress.rolled)
        {
            return;
        }
        if timed.deletes {
            self.bury(&timed);
        } else {
            if timed.rolled && !self.replay.done {
                self.replay.supersedes(&entry);
            }
            self.topics.count(entry.key.topic(), 1, now.wall_ms);
            self.enqueued += 1;
        }
        self.timeline.push(entry);
    }

    /// Remembers an order to drop a message.
    pub(super) fn bury(&mut self, timed: &Timed<'_>) {
        let tombstone = Tombstone {
            physical: timed.record.physical_offset,
            topic: timed.topic.into(),
            unique_id: timed.unique_id.into(),
        };
        self.tombstones.insert(timed.hash(), tombstone);
    }
}

/// Whether a file of timers does not say what was written to it.
fn is_damage(fault: &Fault) -> bool {
    matches!(fault, Fault::Files(error) if error.kind() == io::ErrorKind::InvalidData)
}
