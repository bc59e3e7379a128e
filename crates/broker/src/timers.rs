//! Timer messages: delivered at a time of their own, up to a year ahead. Java 5.3: `TimerMessageStore`.
//!
//! A message with `TIMER_DELIVER_MS`, `TIMER_DELAY_MS` or `TIMER_DELAY_SEC` is stored in the one queue of `rmq_sys_wheel_timer`, with its real topic, queue and time in its properties.
//! One task reads that queue and keeps 24 bytes a message: when, where, who. What came lately is a heap in memory, the rest lies in sorted files (`timeline`, `run`), so
//! memory does not grow with what waits. When a time has come the record is read and appended to the real topic, many in one append (`deliver`).
//!
//! The log is the truth. How far delivery is stands in a mark, a time and a place in the log: everything that was read and stands at or before it is delivered. The mark is noted
//! after each batch (`notes`), so that `kill -9` repeats a batch at most; files and manifest are written beside (`keep`), behind the flush of the log. What files do not hold is read from the queue (`replay`). What waits longer than the log keeps messages is
//! stored anew (`roll`), and the log holds its expired segments until then.
//!
//! Invariants: nothing is delivered before the wall clock shows its time; the mark passes a message only after it was appended to its real topic, dropped by an order, or cannot be delivered, or
//! while the position names it; runs hold what waits below the manifest's offset of the queue, and the log holds the rest; one record that is slow to read holds up no other.

mod deliver;
mod engine;
mod entry;
mod java;
mod keep;
mod load;
mod mail;
mod message;
mod notes;
mod recall;
mod replay;
mod roll;
mod run;
#[cfg(test)]
mod tests;
mod timeline;
mod topics;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use platform::clock::Clock;
use platform::disk::Disk;
use protocol::body::{DataVersion, TimerMetricsSerializeWrapper};
use protocol::{record, topic};
use storage::Store;

use engine::Engine;
use java::TimerLog;
use mail::Mail;

pub(crate) use engine::TimerSettings;
pub(crate) use load::Context;
pub(crate) use recall::{Recalled, Request as RecallRequest};

/// Between two turns: what falls due meanwhile is one append.
const STEP: Duration = Duration::from_millis(5);
/// The longest sleep while messages wait, so that a wall clock that was set forward is noticed.
const CLOCK_LOOK: Duration = Duration::from_secs(1);
/// The longest sleep otherwise: the log may let go of segments.
const IDLE_LOOK: Duration = Duration::from_secs(30);
/// How long the end of a life waits for work beside the turns.
const STOP_PATIENCE: Duration = Duration::from_secs(40);
/// Messages for which a Java broker's files are written at a clean stop; more would keep the stop waiting.
const HAND_OVER_MAX: i64 = 1_000_000;

/// When the task looks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// There is more to do.
    Now,
    /// Then, or when something is to be done.
    After(Duration),
}

/// The delivery of timer messages.
pub(crate) struct Timers {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    disk: Arc<dyn Disk>,
    root: PathBuf,
    mail: Arc<Mail>,
    engine: Mutex<Engine>,
    stopped: AtomicBool,
    figures: Figures,
}

/// What tools ask for, without the engine.
#[derive(Debug, Default)]
struct Figures {
    waiting: AtomicI64,
    queue_offset: AtomicU64,
    behind_ms: AtomicI64,
    rates: Mutex<Rates>,
}

/// Messages a second, over the last seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Rates {
    at: Duration,
    enqueued: u64,
    dequeued: u64,
    enqueue_tps: f64,
    dequeue_tps: f64,
}

/// Figures for `mqadmin brokerStatus`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct TimerFigures {
    /// How late the message is that is due longest, in seconds.
    pub(crate) read_behind_s: i64,
    /// Messages of the timer queue that are not read yet.
    pub(crate) offset_behind: i64,
    /// Messages that wait.
    pub(crate) waiting: i64,
    pub(crate) enqueue_tps: f64,
    pub(crate) dequeue_tps: f64,
}

impl std::fmt::Debug for Timers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timers")
            .field("figures", &self.figures)
            .finish_non_exhaustive()
    }
}

impl Timers {
    /// Reads how far delivery is. Blocks.
    ///
    /// # Errors
    /// A directory or file cannot be read or written. Damaged files are no error: what waits is read from the log.
    pub(crate) fn load(context: Context<'_>) -> io::Result<Timers> {
        let mail = Arc::new(Mail::default());
        Ok(Timers {
            store: context.store.clone(),
            clock: context.clock.clone(),
            disk: context.disk.clone(),
            root: context.root.to_owned(),
            mail: mail.clone(),
            engine: Mutex::new(load::load(context, mail)?),
            stopped: AtomicBool::new(false),
            figures: Figures::default(),
        })
    }

    /// Asks the store to tell of arrivals: [`arrived`](Self::arrived). After this nothing that becomes visible is missed.
    pub(crate) fn watch(&self) {
        self.store.watch_queue(topic::TIMER, 0, true);
    }

    /// The timer queue has new messages. Called by the thread that stored them; does not wait.
    pub(crate) fn arrived(&self) {
        self.mail.bell.notify_one();
    }

    /// A lock that a panic left behind is usable: the mark moves on only behind its messages.
    fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One turn; says when to look again. Blocks.
    pub(crate) fn turn(&self, settings: TimerSettings) -> Next {
        let mut engine = self.engine();
        if self.stopped.load(Ordering::Acquire) {
            return Next::After(IDLE_LOOK);
        }
        engine.settings = settings;
        let next = engine.turn();
        self.note_figures(&mut engine);
        next
    }

    fn note_figures(&self, engine: &mut Engine) {
        let figures = &self.figures;
        figures
            .waiting
            .store(engine.topics.waiting(), Ordering::Relaxed);
        figures
            .queue_offset
            .store(engine.read_offset, Ordering::Relaxed);
        let behind_ms = match engine.timeline.peek() {
            Ok(Some(entry)) => self.clock.now_ms().saturating_sub(entry.due_ms).max(0),
            Ok(None) | Err(_) => 0,
        };
        figures.behind_ms.store(behind_ms, Ordering::Relaxed);
        let mut rates = figures.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.monotonic();
        let passed = now.saturating_sub(rates.at).as_secs_f64();
        if passed >= 1.0 {
            let rate = |count: u64, before: u64| (count - before) as f64 / passed;
            *rates = Rates {
                at: now,
                enqueue_tps: rate(engine.enqueued, rates.enqueued),
                dequeue_tps: rate(engine.dequeued, rates.dequeued),
                enqueued: engine.enqueued,
                dequeued: engine.dequeued,
            };
        }
    }

    /// Figures of the last turn.
    pub(crate) fn figures(&self) -> TimerFigures {
        let read = self.figures.queue_offset.load(Ordering::Relaxed);
        let end = self.store.max_offset(topic::TIMER, 0);
        let rates = *self
            .figures
            .rates
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        TimerFigures {
            read_behind_s: self.figures.behind_ms.load(Ordering::Relaxed) / 1000,
            offset_behind: end.saturating_sub(read) as i64,
            waiting: self.figures.waiting.load(Ordering::Relaxed),
            enqueue_tps: rates.enqueue_tps,
            dequeue_tps: rates.dequeue_tps,
        }
    }

    /// The answer to GET_TIMER_CHECK_POINT: Java's 56 bytes.
    pub(crate) fn check_point(&self) -> Vec<u8> {
        let engine = self.engine();
        let last = engine.keeping.checks[1];
        let check = java::check(
            self.clock.now_ms(),
            engine.settings.precision_ms,
            engine.progress.queue_offset,
            &last,
        );
        check.to_vec()
    }

    /// The answer to GET_TIMER_METRICS: how many messages of each topic wait.
    pub(crate) fn metrics(&self) -> TimerMetricsSerializeWrapper {
        let engine = self.engine();
        TimerMetricsSerializeWrapper {
            data_version: Some(DataVersion {
                timestamp: self.clock.now_ms(),
                counter: (engine.enqueued + engine.dequeued) as i64,
                ..DataVersion::default()
            }),
            timing_count: engine.topics.table(),
        }
    }

    /// Takes a message back. `found` is its record in the timer topic as the index knows it; without one the request's time is believed.
    pub(crate) fn recall(&self, request: &RecallRequest<'_>, found: Option<&Bytes>) -> Recalled {
        self.engine().recall(request, found)
    }

    /// Ends the delivery, and writes everything that the next life needs, a Java broker's too. The task is ended by its owner.
    pub(crate) async fn shutdown(self: &Arc<Self>) -> io::Result<()> {
        self.stopped.store(true, Ordering::Release);
        let deadline = tokio::time::Instant::now() + STOP_PATIENCE;
        loop {
            let stopping = self.clone();
            let is_busy = tokio::task::spawn_blocking(move || {
                let mut engine = stopping.engine();
                let now = engine.now();
                engine.collect(now);
                engine.keeping.is_busy
            });
            if !is_busy.await.map_err(io::Error::other)? {
                break;
            }
            if tokio::time::timeout_at(deadline, self.mail.bell.notified())
                .await
                .is_err()
            {
                return Err(io::Error::other(
                    "the timers' files are still being written",
                ));
            }
        }
        let stopping = self.clone();
        let kept = tokio::task::spawn_blocking(move || stopping.keep_all());
        kept.await.map_err(io::Error::other)?
    }

    /// Writes everything at the end of a life. Blocks.
    pub(crate) fn keep_all(&self) -> io::Result<()> {
        let mut engine = self.engine();
        engine.keep_all()?;
        hand_over(&mut engine, &*self.disk, &self.root)
    }
}

/// Writes what a Java broker goes on with. It takes everything that waits from the timeline.
fn hand_over(engine: &mut Engine, disk: &dyn Disk, root: &Path) -> io::Result<()> {
    if engine.store.max_offset(topic::TIMER, 0) == 0 || !engine.replay.done {
        return Ok(());
    }
    let waiting = engine.topics.waiting();
    if waiting > HAND_OVER_MAX {
        tracing::warn!(
            waiting,
            "too many timer messages wait to be handed over to a Java broker; it would not deliver them. Apogee goes on with them"
        );
        return java::remove_derived(disk, root);
    }
    let now_ms = engine.clock.now_ms();
    let store = engine.store.clone();
    let size_at = |physical: u64| store.record_size_at(physical).ok().flatten();
    let mut log = TimerLog::begin(disk, root, now_ms, engine.settings.precision_ms)?;
    let cold = engine.cold.clone();
    for entry in cold {
        if let Some(size) = size_at(entry.physical) {
            log.push(&entry, size)?;
        }
    }
    while let Some(entry) = engine.timeline.pop()? {
        if entry.physical >= engine.progress.rolled
            && let Some(size) = size_at(entry.physical)
        {
            log.push(&entry, size)?;
        }
    }
    log.end(engine.last_read()?)
}

impl Engine {
    /// Place and size of the last record that was read from the timer queue.
    fn last_read(&self) -> io::Result<Option<(u64, u32)>> {
        let Some(offset) = self.read_offset.checked_sub(1) else {
            return Ok(None);
        };
        let read = storage::Read {
            topic: topic::TIMER,
            queue_id: 0,
            offset: offset as i64,
            messages_max: 1,
            bytes_max: 1,
            filter: &|_| true,
        };
        let read = self
            .store
            .read(&read, storage::ReadMode::Blocking)
            .map_err(io::Error::other)?;
        let found = read.records.first();
        Ok(found.and_then(|bytes| {
            Some((
                record::peek_physical_offset(bytes)?,
                record::peek_size(bytes)?,
            ))
        }))
    }
}

/// The task that delivers, for as long as the broker runs. `settings` is asked for each time.
pub(crate) async fn run(timers: Arc<Timers>, settings: impl Fn() -> TimerSettings) {
    loop {
        let turning = timers.clone();
        let settings = settings();
        let next = match tokio::task::spawn_blocking(move || turning.turn(settings)).await {
            Ok(next) => next,
            Err(error) => {
                tracing::error!(%error, "a turn of the delivery of timer messages failed");
                Next::After(CLOCK_LOOK)
            }
        };
        if let Next::After(pause) = next {
            tokio::time::sleep(STEP).await;
            // Woken or not, the next turn finds out.
            let rest = pause.saturating_sub(STEP);
            drop(tokio::time::timeout(rest, timers.mail.bell.notified()).await);
        }
    }
}
