//! Delayed messages: who waits, and who delivers when the time has come. Java 5.3: `ScheduleMessageService`.
//!
//! A message with the property `DELAY` = n is stored in queue n − 1 of `SCHEDULE_TOPIC_XXXX`; the queue's entry holds its deliver time
//! where others hold the hash of a tag. One task follows all levels: it appends what is due to the real topics, many messages in one append, and
//! sleeps until the next deliver time or the first message of a level that was empty. Nothing here is sorted or kept in memory:
//! within a level the queue is in order of deliver time, and what waits is one offset a level.
//!
//! How far each level has come is kept twice. `delayOffset.json` is Java's; it is written every `flushDelayOffsetInterval`, and only behind the
//! flush of what was delivered. [`position`] is a few bytes that are rewritten after each batch, so that after `kill -9` a batch at
//! most is delivered twice.
//!
//! Invariants: a level's offset passes a message only after it was appended to its real topic, or cannot be; levels share nothing but the log, so that
//! what holds one back does not hold back another; `offset ≤` end of the level's queue.

mod delivery;
mod level;
mod position;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use platform::clock::Clock;
use platform::disk::Disk;
use protocol::body::{DataVersion, DelayOffsetSerializeWrapper};
use protocol::topic;
use storage::{AppendError, Appended, FlushMode, Store};
use tokio::sync::Notify;

use crate::persist::{self, JsonFile, LoadError};

use level::{Found, Level, Now};
use position::PositionFile;

const FILE: &str = "delayOffset.json";
/// Between two looks at messages that are due one after the other: what falls due meanwhile is one append.
const STEP: Duration = Duration::from_millis(5);
/// The longest sleep while messages wait, so that a wall clock that was set forward is noticed.
const CLOCK_LOOK: Duration = Duration::from_secs(1);
/// The pause of a level whose messages could not be read or stored. Java 5.3: `DELAY_FOR_A_WHILE`.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How long the file of offsets waits for the flush of what was delivered; then it is written at the next occasion.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// The delivery of delayed messages.
pub(crate) struct Schedule {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    /// The offset of each level's next message, for those who only ask.
    offsets: Box<[AtomicU64]>,
    /// Levels that have nothing and wait for an arrival.
    drained: Box<[AtomicBool]>,
    work: Notify,
    stopped: AtomicBool,
    engine: Mutex<Engine>,
    /// Held while it is written.
    file: Mutex<JsonFile>,
    version: Mutex<DataVersion>,
    /// What the file says of levels that have no queue here.
    others: BTreeMap<i32, i64>,
    /// The log's position behind everything that was delivered.
    delivered: AtomicU64,
    unsaved: AtomicBool,
    to_save: Notify,
}

/// What one turn at a time works on.
struct Engine {
    levels: Vec<Level>,
    position: PositionFile,
    /// Whether something failed that was logged, so that it is logged once.
    failing: bool,
}

impl std::fmt::Debug for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Schedule")
            .field("offsets", &self.offsets)
            .finish_non_exhaustive()
    }
}

/// When the task looks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// More is due.
    Now,
    /// Then, or on an arrival.
    After(Duration),
    /// Nothing waits.
    Arrival,
}

impl Schedule {
    /// Reads how far each level is delivered, and begins to watch their queues. Blocks.
    pub(crate) fn load(
        dir: &Path,
        disk: Arc<dyn Disk>,
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
    ) -> Result<Schedule, LoadError> {
        let file = JsonFile::new(dir.join(FILE), disk.clone());
        let loaded: Option<DelayOffsetSerializeWrapper> = file.load()?;
        let loaded = loaded.unwrap_or_default();
        let position = PositionFile::new(dir, disk);
        let ahead = position.load(&store);
        let levels: Vec<Level> = level::queues(&store)
            .map(|queue_id| {
                let level = queue_id + 1;
                let saved = loaded.offset_table.get(&level).copied().unwrap_or(0);
                let ahead = ahead.get(queue_id as usize).copied().unwrap_or(0);
                Level::new(&store, queue_id, saved, ahead)
            })
            .collect();
        let mut others = loaded.offset_table;
        others.retain(|level, _| !(1..=levels.len() as i32).contains(level));
        Ok(Schedule {
            offsets: levels
                .iter()
                .map(|level| AtomicU64::new(level.offset()))
                .collect(),
            drained: levels.iter().map(|_| AtomicBool::new(false)).collect(),
            work: Notify::new(),
            stopped: AtomicBool::new(false),
            engine: Mutex::new(Engine {
                levels,
                position,
                failing: false,
            }),
            version: Mutex::new(loaded.data_version.unwrap_or_else(persist::first_version)),
            delivered: AtomicU64::new(0),
            unsaved: AtomicBool::new(false),
            to_save: Notify::new(),
            file: Mutex::new(file),
            others,
            store,
            clock,
        })
    }

    /// Asks the store to tell of arrivals: [`arrived`](Self::arrived). After this nothing that becomes visible is missed.
    pub(crate) fn watch(&self) {
        for queue_id in 0..self.offsets.len() {
            self.store
                .watch_queue(topic::SCHEDULE, queue_id as i32, true);
        }
    }

    /// A level has new messages. Called by the thread that stored them; does not wait.
    pub(crate) fn arrived(&self, queue_id: i32) {
        let drained = usize::try_from(queue_id).ok();
        let drained = drained.and_then(|queue_id| self.drained.get(queue_id));
        if drained.is_some_and(|drained| drained.swap(false, Ordering::AcqRel)) {
            self.work.notify_one();
        }
    }

    /// A lock that a panic left behind is usable: an offset moves on only behind its messages.
    fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers at most one batch a level of what is due, and says when to look again. Blocks.
    pub(crate) fn turn(&self) -> Next {
        let mut engine = self.engine();
        let engine = &mut *engine;
        let mut next: Option<Duration> = None;
        let mut failure: Option<String> = None;
        for (index, level) in engine.levels.iter_mut().enumerate() {
            if self.stopped.load(Ordering::Acquire) {
                return Next::Arrival;
            }
            if self.drained[index].load(Ordering::Acquire) {
                continue;
            }
            let now = Now {
                wall_ms: self.clock.now_ms(),
                monotonic: self.clock.monotonic(),
            };
            let wait = match level.waits(now) {
                Some(wait) if !wait.is_zero() => wait,
                _ => match level.look(&self.store, now) {
                    Ok(Found::Nothing) if self.drain(level) => continue,
                    Ok(Found::Nothing | Found::Gone) => Duration::ZERO,
                    Ok(Found::NotDue(wait)) => wait,
                    Ok(Found::Due(records)) => {
                        let delivered = self.deliver(level, &mut engine.position, &records);
                        match delivered {
                            Ok(()) => Duration::ZERO,
                            Err(error) => {
                                failure.get_or_insert(error.to_string());
                                level.pause(now, RETRY_PAUSE)
                            }
                        }
                    }
                    Err(error) => {
                        failure.get_or_insert(error.to_string());
                        level.pause(now, RETRY_PAUSE)
                    }
                },
            };
            next = Some(next.map_or(wait, |next| next.min(wait)));
        }
        if let Some(error) = &failure
            && !engine.failing
        {
            tracing::error!(%error, "delayed messages cannot be delivered; trying again until they can");
        }
        if failure.is_none() && next.is_some() && engine.failing {
            tracing::info!("delayed messages are delivered again");
        }
        engine.failing = failure.is_some();
        match next {
            None => Next::Arrival,
            Some(Duration::ZERO) => Next::Now,
            Some(wait) => Next::After(wait.clamp(STEP, CLOCK_LOOK)),
        }
    }

    /// The level has nothing more: it waits for an arrival. False when one came meanwhile.
    fn drain(&self, level: &Level) -> bool {
        let drained = &self.drained[level.queue_id() as usize];
        drained.store(true, Ordering::Release);
        // What became visible before the flag was set told nobody.
        let end = self.store.max_offset(topic::SCHEDULE, level.queue_id());
        end <= level.offset() || !drained.swap(false, Ordering::AcqRel)
    }

    /// Appends records of a level to their real topics and moves the level on behind what was appended.
    fn deliver(
        &self,
        level: &mut Level,
        position: &mut PositionFile,
        records: &[Bytes],
    ) -> Result<(), AppendError> {
        let outcome = delivery::deliver(&self.store, records, |next_offset, last| {
            level.advance(next_offset);
            if let Some(last) = last {
                self.delivered.fetch_max(last.end, Ordering::AcqRel);
            }
            self.passed(level, position, last);
        });
        self.offsets[level.queue_id() as usize].store(level.offset(), Ordering::Release);
        outcome
    }

    /// The level has moved on, in this order: what was delivered, the offset, the note of it.
    fn passed(&self, level: &Level, position: &mut PositionFile, last: Option<&Appended>) {
        self.offsets[level.queue_id() as usize].store(level.offset(), Ordering::Release);
        if let Some(last) = last {
            position.write(
                self.offsets
                    .iter()
                    .map(|offset| offset.load(Ordering::Acquire)),
                last,
            );
        }
        if !self.unsaved.swap(true, Ordering::AcqRel) {
            self.to_save.notify_one();
        }
    }

    /// How far each level is delivered, as `delayOffset.json` holds it.
    pub(crate) fn table(&self) -> DelayOffsetSerializeWrapper {
        let offsets = self.offsets.iter().zip(1..);
        let offsets = offsets.map(|(offset, level)| (level, offset.load(Ordering::Acquire) as i64));
        let version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        DelayOffsetSerializeWrapper {
            data_version: Some(version.clone()),
            offset_table: self.others.clone().into_iter().chain(offsets).collect(),
        }
    }

    /// For each level its number, the offset of its next message and the end of its queue.
    pub(crate) fn progress(&self) -> impl Iterator<Item = (usize, u64, u64)> {
        self.offsets.iter().enumerate().map(|(index, offset)| {
            let end = self.store.max_offset(topic::SCHEDULE, index as i32);
            (index + 1, offset.load(Ordering::Acquire), end)
        })
    }

    /// Writes `delayOffset.json` if anything was delivered since, once the disk has what was delivered: after loss of power the file is never ahead of the log.
    async fn save(self: &Arc<Self>) -> io::Result<()> {
        if !self.unsaved.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        persist::next_version(&mut self.version.lock().unwrap_or_else(PoisonError::into_inner));
        // The offsets first: what they stand behind was counted in before them.
        let table = self.table();
        let delivered = self.delivered.load(Ordering::Acquire);
        if self.store.flush_mode() == FlushMode::Async {
            self.store.request_flush();
        }
        let mut flush = self.store.flush_state();
        let flushed = flush.wait_for(|state| state.failed || state.flushed >= delivered);
        let flushed = match tokio::time::timeout(FLUSH_PATIENCE, flushed).await {
            Ok(Ok(state)) => !state.failed,
            Ok(Err(_)) | Err(_) => false,
        };
        if !flushed {
            self.unsaved.store(true, Ordering::Release);
            return Err(io::Error::other(
                "the disk has not confirmed what was delivered",
            ));
        }
        let saving = self.clone();
        let saved = tokio::task::spawn_blocking(move || {
            let file = saving.file.lock().unwrap_or_else(PoisonError::into_inner);
            file.replace(&table)
        });
        let saved = saved.await.map_err(io::Error::other)?;
        if saved.is_err() {
            self.unsaved.store(true, Ordering::Release);
        }
        saved
    }

    /// Ends the delivery, and writes how far it came. The task is ended by its owner.
    pub(crate) async fn shutdown(self: &Arc<Self>) -> io::Result<()> {
        self.stopped.store(true, Ordering::Release);
        let stopping = self.clone();
        // A turn under way ends with the level that it is at.
        let ended = tokio::task::spawn_blocking(move || drop(stopping.engine()));
        ended.await.map_err(io::Error::other)?;
        self.save().await
    }
}

/// The task that delivers, for as long as the broker runs. `save_interval` is asked for each time.
pub(crate) async fn run(schedule: Arc<Schedule>, save_interval: impl Fn() -> Duration) {
    tokio::join!(deliver(&schedule), save(&schedule, save_interval));
}

async fn deliver(schedule: &Arc<Schedule>) {
    loop {
        let turning = schedule.clone();
        let next = match tokio::task::spawn_blocking(move || turning.turn()).await {
            Ok(next) => next,
            Err(error) => {
                tracing::error!(%error, "a turn of the delivery of delayed messages failed");
                Next::After(CLOCK_LOOK)
            }
        };
        match next {
            Next::Now => {}
            // Woken or not, the next turn finds out.
            Next::After(pause) => drop(tokio::time::timeout(pause, schedule.work.notified()).await),
            Next::Arrival => schedule.work.notified().await,
        }
    }
}

async fn save(schedule: &Arc<Schedule>, interval: impl Fn() -> Duration) {
    let mut failing = false;
    loop {
        schedule.to_save.notified().await;
        tokio::time::sleep(interval()).await;
        while let Err(error) = schedule.save().await {
            if !std::mem::replace(&mut failing, true) {
                tracing::error!(%error, "cannot write {FILE}; after a loss of power some delayed messages would come twice. Trying again");
            }
            tokio::time::sleep(interval()).await;
        }
        failing = false;
    }
}
