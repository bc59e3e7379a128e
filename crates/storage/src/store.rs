//! The store as its users see it, and the parts that it is made of.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::thread::{JoinHandle, Thread};
use std::{fmt, io};

use bytes::Bytes;
use platform::clock::Clock;
use platform::disk::{Disk, Lock};
use protocol::light;
use tokio::sync::watch;

use crate::commitlog::{Log, scan};
use crate::compaction::{Compaction, CompactionError, CompactionLimits, CompactionOutcome};
use crate::config::{Config, FlushMode};
use crate::error::{AppendError, OpenError, ReadError};
use crate::flush::{Flush, FlushState};
use crate::health::Health;
use crate::index::Index;
use crate::message::{Appended, NewMessage};
use crate::queue::{Queue, Table};
use crate::read::{Boundary, KeyQuery, Read, ReadMode, ReadResult};
use crate::schedule::DelayLevels;
use crate::stats::{Stats, WriteState};
use crate::{append, compaction, flush, query, read, recovery, retention, writer};

/// Who waits for messages.
///
/// Called after new messages of a watched queue became visible (after the append under [`FlushMode::Async`], after the flush under
/// [`FlushMode::Sync`]), once a queue and batch, outside all locks, by the thread that appended or flushed. Must be quick.
pub trait Arrivals: Send + Sync {
    /// The queue has new messages.
    fn arrived(&self, topic: &Arc<str>, queue_id: i32);
}

/// A store of messages: one commit log and what is derived from it.
///
/// All methods may be called from any thread at any time. Dropping the store without [`Store::close`] leaves the directory as a crash would.
pub struct Store {
    inner: Arc<Inner>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Store")
            .field("root", &self.inner.config.root)
            .finish_non_exhaustive()
    }
}

/// What the store's threads and its users share.
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) delay_levels: DelayLevels,
    pub(crate) log: Log,
    pub(crate) queues: Table,
    pub(crate) index: Index,
    pub(crate) flush: Flush,
    pub(crate) health: Health,
    pub(crate) stop: Stop,
    pub(crate) counters: Counters,
    pub(crate) writer: writer::Writer,
    pub(crate) keeper: retention::Keeper,
    pub(crate) compaction: Compaction,
    arrivals: RwLock<Option<Arc<dyn Arrivals>>>,
}

/// Whether the threads end, and how.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    requested: AtomicBool,
    abandoned: AtomicBool,
}

impl Stop {
    /// Finish what is under way and end.
    pub(crate) fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }

    /// End at once, writing nothing more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }
}

/// Totals since the store was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) messages: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

impl Counters {
    pub(crate) fn appended(&self, messages: u64, bytes: u64) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A thread that may be woken once it runs.
#[derive(Debug, Default)]
pub(crate) struct Sleeper(OnceLock<Thread>);

impl Sleeper {
    /// Called by the thread itself.
    pub(crate) fn register(&self) {
        let _ = self.0.set(std::thread::current());
    }

    pub(crate) fn wake(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

impl Inner {
    /// What consumers may see ends here.
    pub(crate) fn visible(&self) -> u64 {
        match self.config.flush {
            FlushMode::Sync => self.log.flushed(),
            // An entry stands in its queue only after its record was written, so there is nothing to hide.
            FlushMode::Async => u64::MAX,
        }
    }

    /// First offset of a queue, and the one behind the last that consumers may see.
    pub(crate) fn bounds(&self, queue: &Queue) -> (u64, u64) {
        let (min, max) = self.log_bounds(queue);
        match compaction::run_of(queue) {
            Some(run) if run.count > 0 => (run.first_offset().min(max), max),
            Some(run) => (min.max(run.until).min(max), max),
            None => (min, max),
        }
    }

    /// The same of the part that lies in the log.
    pub(crate) fn log_bounds(&self, queue: &Queue) -> (u64, u64) {
        let visible = self.visible();
        let entries = queue.entries();
        let max = entries.visible_max(visible);
        (entries.min.min(max), max)
    }

    pub(crate) fn check_writable(&self) -> Result<(), AppendError> {
        self.health.check_writable()
    }

    pub(crate) fn check_backlog(&self) -> Result<(), AppendError> {
        let queues = self.queues.backlog();
        if queues > self.config.queue_backlog_max {
            self.writer.wake();
            return Err(AppendError::Busy { waiting: queues });
        }
        let index = self.index.backlog();
        if index > self.config.index_backlog_max {
            self.writer.wake();
            return Err(AppendError::Busy { waiting: index });
        }
        Ok(())
    }

    /// A write or sync failed: no more writes, and everybody who waits for the flush learns it.
    pub(crate) fn fail(&self, reason: &str) {
        if self.health.fail(reason) {
            tracing::error!(
                reason,
                "the store stops writing: restart the broker after the disk was checked"
            );
        }
        self.flush.fail();
        self.flush.wake();
        self.writer.wake();
    }

    /// What a failed write means for the caller.
    pub(crate) fn append_failed(&self, action: &str, error: &io::Error) -> AppendError {
        if error.kind() == io::ErrorKind::StorageFull {
            let reason = format!("{action}: {error}");
            self.health.set_no_space(Some(&reason));
            return AppendError::DiskFull { reason };
        }
        let reason = format!("{action}: {error}");
        self.fail(&reason);
        AppendError::Failed { reason }
    }

    /// What it means that a segment could not be created. Nothing was written, so nothing is lost, and the next append tries again.
    pub(crate) fn no_segment(&self, error: &io::Error) -> AppendError {
        let reason = format!(
            "reserving the next commit log file of {} bytes: {error}",
            self.config.segment_bytes
        );
        if error.kind() == io::ErrorKind::StorageFull
            || error.kind() == io::ErrorKind::QuotaExceeded
        {
            self.health.set_no_space(Some(&reason));
            AppendError::DiskFull { reason }
        } else {
            AppendError::NoSegment { reason }
        }
    }

    pub(crate) fn tell_arrival(&self, queue: &Queue) {
        if !queue.is_watched() {
            return;
        }
        let arrivals = self
            .arrivals
            .read()
            .expect("no code panics while it sets the listener")
            .clone();
        if let Some(arrivals) = arrivals {
            arrivals.arrived(&queue.topic.name, queue.id);
        }
    }

    pub(crate) fn checkpoint_path(&self) -> PathBuf {
        self.config.root.join("checkpoint")
    }
}

impl Store {
    /// Opens the store of a directory, which is created when missing, and recovers it: constant in the size of the log after a clean stop,
    /// otherwise from the last checkpoint on. One process at a time, Java's included.
    pub fn open(
        config: Config,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Store>, OpenError> {
        let recovered = recovery::open(config, disk, clock)?;
        let inner = Arc::new(Inner {
            writer: writer::Writer::new(recovered.checkpoint, recovered.lock),
            keeper: retention::Keeper::default(),
            compaction: recovered.compaction,
            flush: Flush::new(recovered.log.flushed()),
            health: Health::default(),
            stop: Stop::default(),
            counters: Counters::default(),
            arrivals: RwLock::default(),
            config: recovered.config,
            disk: recovered.disk,
            clock: recovered.clock,
            delay_levels: recovered.delay_levels,
            log: recovered.log,
            queues: recovered.queues,
            index: recovered.index,
        });
        let store = Arc::new(Store {
            inner,
            threads: Mutex::default(),
        });
        store.spawn("store-flush", flush::run)?;
        store.spawn("store-write", writer::run)?;
        store.spawn("store-keep", retention::run)?;
        Ok(store)
    }

    fn spawn(&self, name: &str, run: fn(&Inner)) -> Result<(), OpenError> {
        let inner = Arc::clone(&self.inner);
        let spawned = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(&inner));
        let thread = spawned.map_err(OpenError::disk(
            "starting a thread for",
            &self.inner.config.root,
        ))?;
        self.threads
            .lock()
            .expect("no code panics while it changes the list of threads")
            .push(thread);
        Ok(())
    }

    /// Appends all or none, in one critical section and one write (one more for each segment that the batch rolls over).
    ///
    /// On return the records are with the kernel: they survive `kill -9`. They survive loss of power when [`FlushState::flushed`] has reached
    /// [`Appended::end`] of the last one. One `Appended` a message is pushed, in order; on an error none.
    pub fn append(
        &self,
        messages: &[NewMessage<'_>],
        appended: &mut Vec<Appended>,
    ) -> Result<(), AppendError> {
        append::append(&self.inner, messages, appended)
    }

    /// The watermark of durability, to wait on.
    pub fn flush_state(&self) -> watch::Receiver<FlushState> {
        self.inner.flush.subscribe()
    }

    /// Has `listener` told of each change of the watermark, and of its present state at once. It is called by the thread that synced, outside all
    /// locks, so it must be quick; two calls may overtake each other, so it keeps the larger position. For who answers clients: one switch of
    /// threads fewer than [`Store::flush_state`]. The first listener stays.
    pub fn on_flush(&self, listener: impl Fn(FlushState) + Send + Sync + 'static) {
        self.inner.flush.listen(Box::new(listener));
    }

    /// Whether the kernel fetches from the log's files what follows a read with it. Off, reads of scattered old messages take less memory
    /// from others; on, a consumer that reads old messages in order is faster.
    pub fn set_read_ahead(&self, ahead: bool) {
        self.inner.log.segments.set_read_ahead(ahead);
    }

    /// When an append counts as durable.
    pub fn flush_mode(&self) -> FlushMode {
        self.inner.config.flush
    }

    /// Asks for a sync now. Under [`FlushMode::Sync`] every append asks by itself.
    pub fn request_flush(&self) {
        self.inner.flush.request();
    }

    /// Reads messages of a queue. With [`ReadMode::NoWait`] the caller's thread never waits for the disk: what is cold is
    /// [`ReadError::WouldBlock`], and the caller asks again with [`ReadMode::Blocking`] where it may wait.
    pub fn read(&self, request: &Read<'_>, mode: ReadMode) -> Result<ReadResult, ReadError> {
        self.check_open()?;
        read::read(&self.inner, request, mode)
    }

    /// Offset behind the last message of a queue that consumers may see; 0 for a queue that is not there.
    pub fn max_offset(&self, topic: &str, queue_id: i32) -> u64 {
        self.inner
            .queues
            .queue(topic, queue_id)
            .map_or(0, |queue| self.inner.bounds(&queue).1)
    }

    /// First offset of a queue that is still there; 0 for a queue that is not there.
    pub fn min_offset(&self, topic: &str, queue_id: i32) -> u64 {
        self.inner
            .queues
            .queue(topic, queue_id)
            .map_or(0, |queue| self.inner.bounds(&queue).0)
    }

    /// The offset of a time: see [`Boundary`]. Later than all messages is the max offset for `Lower`, the last message for `Upper`. May wait
    /// for the disk.
    pub fn offset_by_time(
        &self,
        topic: &str,
        queue_id: i32,
        timestamp_ms: i64,
        boundary: Boundary,
    ) -> Result<u64, ReadError> {
        self.check_open()?;
        match self.inner.queues.queue(topic, queue_id) {
            Some(queue) => query::offset_by_time(&self.inner, &queue, timestamp_ms, boundary),
            None => Ok(0),
        }
    }

    /// Store timestamp of the first message of a queue. May wait for the disk.
    pub fn earliest_store_time(&self, topic: &str, queue_id: i32) -> Option<i64> {
        let queue = self.inner.queues.queue(topic, queue_id)?;
        let (min, _) = self.inner.bounds(&queue);
        query::store_time(&self.inner, &queue, min).ok().flatten()
    }

    /// Store timestamp of a message. May wait for the disk.
    pub fn store_time(&self, topic: &str, queue_id: i32, offset: u64) -> Option<i64> {
        let queue = self.inner.queues.queue(topic, queue_id)?;
        query::store_time(&self.inner, &queue, offset)
            .ok()
            .flatten()
    }

    /// The record that begins at a position of the log; None when none does. May wait for the disk.
    pub fn record_at(&self, physical: u64) -> Result<Option<Bytes>, ReadError> {
        self.check_open()?;
        read::record_at(&self.inner, physical, ReadMode::Blocking)
    }

    /// Size of the record that begins at a position of the log, of which only the head is read; None when none does. May wait for the disk.
    pub fn record_size_at(&self, physical: u64) -> Result<Option<u32>, ReadError> {
        self.check_open()?;
        let head = read::head_at(&self.inner, physical, ReadMode::Blocking)?;
        Ok(head.and_then(|head| protocol::record::peek_size(&head)))
    }

    /// The same as [`Store::record_at`] without waiting for the disk: what is neither in memory nor in the page cache is [`ReadError::WouldBlock`].
    pub fn record_at_nowait(&self, physical: u64) -> Result<Option<Bytes>, ReadError> {
        self.check_open()?;
        read::record_at(&self.inner, physical, ReadMode::NoWait)
    }

    /// Messages of a topic that carry a key, or have a unique id, and were stored in `begin_ms..=end_ms`: the newest `max`, at most 64, in the
    /// order of the log. May wait for the disk.
    pub fn query_by_key(
        &self,
        topic: &str,
        key: &str,
        max: usize,
        begin_ms: i64,
        end_ms: i64,
    ) -> Result<KeyQuery, ReadError> {
        self.check_open()?;
        query::by_key(&self.inner, topic, key, max, begin_ms, end_ms)
    }

    /// Whether a queue has, or had, messages, be they visible or not.
    pub fn has_messages(&self, topic: &str, queue_id: i32) -> bool {
        let queue = self.inner.queues.queue(topic, queue_id);
        queue.is_some_and(|queue| queue.entries().max() > 0)
    }

    /// Has a topic be a batch topic, of which [`Store::append`] takes inner batches. False when its queues have files of the plain kind, which hold none.
    /// Until then, and without files, a topic becomes one by its first inner batch. Cheap for one that is.
    pub fn make_batch_topic(&self, topic: &str) -> bool {
        self.inner.queues.make_batch(topic)
    }

    /// Light queues that have, or had, messages.
    pub fn light_queues(&self) -> usize {
        self.inner.queues.light_count()
    }

    /// Numbers of the queues of a topic that have, or had, messages, ascending.
    pub fn queues_of(&self, topic: &str) -> Vec<i32> {
        let queues = self
            .inner
            .queues
            .topic(topic)
            .map(|topic| topic.queues())
            .unwrap_or_default();
        queues
            .iter()
            .filter(|queue| queue.entries().max() > 0)
            .map(|queue| queue.id)
            .collect()
    }

    /// Topics that have, or had, messages, in no order.
    pub fn topics(&self) -> Vec<Arc<str>> {
        let topics = self.inner.queues.topics();
        topics
            .iter()
            .filter(|topic| topic.queues().iter().any(|queue| queue.entries().max() > 0))
            .map(|topic| Arc::clone(&topic.name))
            .collect()
    }

    /// Forgets a topic's queues and removes their files, what was compacted of them included. Its records stay in the log until they expire. May wait for the disk.
    pub fn delete_topic(&self, topic: &str) {
        compaction::delete_topic(&self.inner, topic);
    }

    /// Removes expired segments now, whatever the hour, and what the queues and the index hold of them. May wait for the disk.
    pub fn delete_expired_segments(&self) {
        retention::clean(&self.inner, retention::Reason::Manual);
    }

    /// Where [`Config::hold_expired`] keeps expired segments: those that end at or below `before` may go. Never takes back what it let go.
    pub fn release_expired(&self, before: u64) {
        self.inner.keeper.release(before);
    }

    /// Compacts a queue: of the messages that were flushed only the latest of each key stays visible, and none of those without a body. They keep
    /// their queue offsets, and outlive the log. One call a queue at a time; may run beside everything else. Reads and writes what was kept, and what
    /// came, once a pass, unless too little came: see [`CompactionLimits`]. Waits for the disk.
    pub fn compact(
        &self,
        topic: &str,
        queue_id: i32,
        limits: &CompactionLimits,
    ) -> Result<CompactionOutcome, CompactionError> {
        compaction::compact(&self.inner, topic, queue_id, limits)
    }

    /// Where [`Config::hold_for_compaction`] keeps expired segments: those that end at or below `before` may go. Never takes back what it let go.
    pub fn release_for_compaction(&self, before: u64) {
        self.inner.compaction.release(before);
    }

    /// Whether expired segments have waited for [`Store::release_for_compaction`] since the last call.
    pub fn is_compaction_wanted(&self) -> bool {
        self.inner.compaction.take_wanted()
    }

    /// The record that the log held at a position, when the log has it no more and a compacted queue does. May wait for the disk.
    pub fn compacted_record_at(&self, physical: u64) -> Result<Option<Bytes>, ReadError> {
        self.check_open()?;
        compaction::record_at(&self.inner, physical)
    }

    /// Removes consume queue and index files whose records are gone from the log. May wait for the disk.
    pub fn clean_expired_queues(&self) {
        writer::clean_derived(&self.inner);
    }

    /// First position of the log.
    pub fn commit_log_min(&self) -> u64 {
        self.inner.log.min()
    }

    /// Position behind the last record.
    pub fn commit_log_max(&self) -> u64 {
        self.inner.log.appended()
    }

    /// Position up to which the log survives loss of power.
    pub fn flushed(&self) -> u64 {
        self.inner.log.flushed()
    }

    /// Used part of the commit log's disk, 0 to 1; 0 when the system does not tell.
    pub fn disk_ratio(&self) -> f64 {
        retention::used_ratio(&*self.inner.disk, self.inner.log.segments.dir())
    }

    /// Whether appends are taken.
    pub fn write_state(&self) -> WriteState {
        self.inner.health.write_state()
    }

    /// Figures about the store. Reads the first record's head, so it may wait for the disk.
    pub fn stats(&self) -> Stats {
        let inner = &self.inner;
        let topics = inner.queues.topics();
        let first = inner.log.segments.all().into_iter().next();
        let earliest =
            first.and_then(|segment| scan::first_store_timestamp(&segment).ok().flatten());
        Stats {
            commit_log_min: inner.log.min(),
            commit_log_max: inner.log.appended(),
            flushed: inner.log.flushed(),
            queues_written: inner.writer.written(),
            segments: inner.log.segments.len(),
            topics: topics.len(),
            queues: topics.iter().map(|topic| topic.queues().len()).sum(),
            queue_backlog: inner.queues.backlog(),
            index_backlog: inner.index.backlog(),
            tail_bytes: inner.log.tail.bytes(),
            earliest_store_timestamp_ms: earliest.unwrap_or(-1),
            appended_messages: inner.counters.messages.load(Ordering::Relaxed),
            appended_bytes: inner.counters.bytes.load(Ordering::Relaxed),
            syncs: inner.flush.syncs(),
            commit_log_disk_ratio: self.disk_ratio(),
            queue_disk_ratio: retention::used_ratio(&*inner.disk, inner.queues.files.dir()),
        }
    }

    /// Waiting times of the delay levels in milliseconds, level 1 first. There is at least one.
    pub fn delay_levels_ms(&self) -> &[i64] {
        self.inner.delay_levels.all_ms()
    }

    /// Says whether somebody waits for messages of a queue. Whoever begins to wait looks at [`Store::max_offset`] after this call: what is
    /// visible by then is not told.
    pub fn watch_queue(&self, topic: &str, queue_id: i32, watched: bool) {
        if !watched {
            if let Some(queue) = self.inner.queues.queue(topic, queue_id) {
                queue.set_watched(false);
                if light::is_light(topic) && queue.next() == 0 {
                    writer::forget_empty(&self.inner, topic);
                }
            }
            return;
        }
        let queue = self.inner.queues.queue_or_create(topic, queue_id);
        queue.set_watched(true);
        if self.inner.config.flush == FlushMode::Sync {
            // Messages that were appended before the queue was watched and become visible later.
            let hidden_until = queue.entries().hidden_until(self.inner.log.flushed());
            if let Some(end) = hidden_until {
                self.inner.flush.hide(&mut vec![queue], end);
            }
        }
    }

    /// Who is told of messages in watched queues.
    pub fn set_arrivals(&self, arrivals: Arc<dyn Arrivals>) {
        *self
            .inner
            .arrivals
            .write()
            .expect("no code panics while it sets the listener") = Some(arrivals);
    }

    /// Stops cleanly: takes no more appends, flushes, writes everything behind the log, and says so in the directory. Further calls do nothing.
    /// Waits for the disk.
    pub fn close(&self) {
        self.inner.health.close();
        {
            // Appends that had begun have ended behind this lock.
            let _tip = self
                .inner
                .log
                .tip
                .lock()
                .expect("no code panics while it appends");
        }
        if self.inner.stop.requested.swap(true, Ordering::AcqRel) {
            return;
        }
        self.inner.compaction.wait_for_passes();
        self.join();
        writer::finish(&self.inner);
        self.inner.writer.unlock_directory();
    }

    fn join(&self) {
        let threads = std::mem::take(
            &mut *self
                .threads
                .lock()
                .expect("no code panics while it changes the list of threads"),
        );
        for thread in threads {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
    }

    fn check_open(&self) -> Result<(), ReadError> {
        if self.inner.stop.is_requested() {
            Err(ReadError::Closed)
        } else {
            Ok(())
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.inner.stop.abandoned.store(true, Ordering::Release);
        self.join();
    }
}

/// Keeps the operating system's lock on the directory for as long as the store lives.
#[derive(Debug)]
pub(crate) struct DirectoryLock(
    #[allow(dead_code, reason = "held, not read")] pub(crate) Box<dyn Lock>,
);
