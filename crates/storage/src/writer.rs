//! Writing behind: one thread puts queue and index entries into their files in large batches, and from time to time says in the checkpoint
//! how far that has come.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::checkpoint::{Checkpoint, Hint};
use crate::commitlog::segments::Segments;
use crate::queue::shared::{Shared, convert};
use crate::queue::{Queue, Table, load};
use crate::store::{DirectoryLock, Inner, Sleeper};

/// Entries of one queue that are encoded at once.
const WRITE_ENTRIES_MAX: usize = 16 << 10;
/// The same of a queue of which one record may have more entries than that.
const WRITE_BATCH_ENTRIES_MAX: usize = 64 << 10;

/// A checkpoint may take this part of the time: one that took a second is followed by nine without.
const CHECKPOINT_SHARE: u32 = 10;

/// Pause between two looks at the flush watermark by whoever is not woken.
const FLUSH_LOOK: Duration = Duration::from_millis(5);

/// What the thread and those who wait for it share.
#[derive(Debug)]
pub(crate) struct Writer {
    sleeper: Sleeper,
    /// Held while files are written, and by whoever deletes them.
    writing: Mutex<State>,
    written: AtomicU64,
    waits_for_flush: AtomicBool,
    /// The operating system's lock on the directory, until the store is closed.
    lock: Mutex<Option<DirectoryLock>>,
}

#[derive(Debug)]
struct State {
    checkpoint: Checkpoint,
    /// After a failed sync nothing may be claimed any more; the last checkpoint stays.
    failed: bool,
}

impl Writer {
    pub(crate) fn new(checkpoint: Checkpoint, lock: DirectoryLock) -> Writer {
        let written = checkpoint.hint.map_or(0, |hint| hint.position);
        Writer {
            sleeper: Sleeper::default(),
            writing: Mutex::new(State {
                checkpoint,
                failed: false,
            }),
            written: AtomicU64::new(written),
            waits_for_flush: AtomicBool::new(false),
            lock: Mutex::new(Some(lock)),
        }
    }

    pub(crate) fn wake(&self) {
        self.sleeper.wake();
    }

    /// Called by the flusher after a sync.
    pub(crate) fn flushed(&self) {
        if self.waits_for_flush.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Position of the last checkpoint.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Lets another process open the directory.
    pub(crate) fn unlock_directory(&self) {
        *self
            .lock
            .lock()
            .expect("no code panics while it holds the directory's lock") = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.writing
            .lock()
            .expect("no code panics while it writes queues and index")
    }
}

/// The writer's life.
pub(crate) fn run(inner: &Inner) {
    inner.writer.sleeper.register();
    let interval = Duration::from_millis(inner.config.write_behind_interval_ms.max(1));
    let checkpoint_interval = Duration::from_millis(inner.config.checkpoint_interval_ms.max(1));
    let mut next_checkpoint = Instant::now() + checkpoint_interval;
    let mut complained = false;
    loop {
        if inner.stop.is_abandoned() || inner.stop.is_requested() {
            return;
        }
        let behind =
            inner.writer.written() < inner.log.appended() && inner.health.failure().is_none();
        let moving = inner.queues.outgrows_files()
            || inner
                .queues
                .shared()
                .is_some_and(|shared| shared.has_leftovers());
        if !inner.has_write_behind() && !behind && !moving {
            std::thread::park();
            continue;
        }
        wait_for_batch(inner, interval);
        if inner.stop.is_abandoned() || inner.stop.is_requested() {
            return;
        }
        let mut state = inner.writer.lock();
        let converts = inner.queues.outgrows_files();
        match write_all(inner, inner.log.appended()) {
            Ok(()) => {
                complained = false;
                if converts {
                    // Until there is one that knows of the shared store, a start reads the whole log.
                    next_checkpoint = Instant::now();
                }
                let (log, now_ms) = (&inner.log, inner.clock.now_ms());
                log.cache.trim(&log.segments, log.flushed(), now_ms);
            }
            Err(error) => {
                // The entries stay in memory and in the log; appends are refused when there are too many.
                if !complained {
                    tracing::error!(%error, "consume queues or index cannot be written; trying again");
                }
                complained = true;
            }
        }
        if !complained && (behind || moving) && !state.failed && Instant::now() >= next_checkpoint {
            let began = Instant::now();
            match checkpoint(inner, &mut state) {
                Ok(()) => {}
                Err(error) => {
                    tracing::error!(%error, "syncing consume queues or index failed; no further checkpoint is made, the next start reads more of the log");
                    state.failed = true;
                }
            }
            next_checkpoint =
                Instant::now() + checkpoint_interval.max(began.elapsed() * CHECKPOINT_SHARE);
        }
    }
}

/// Lets entries gather: until there are enough for a batch, or the time is up.
fn wait_for_batch(inner: &Inner, interval: Duration) {
    let deadline = Instant::now() + interval;
    loop {
        let enough = inner.queues.backlog() >= inner.config.write_batch()
            || inner.index.backlog() >= inner.config.write_batch();
        let left = deadline.saturating_duration_since(Instant::now());
        if enough || left.is_zero() || inner.stop.is_abandoned() || inner.stop.is_requested() {
            return;
        }
        std::thread::park_timeout(left);
    }
}

impl Inner {
    fn has_write_behind(&self) -> bool {
        self.queues.has_unwritten() || self.index.backlog() > 0
    }
}

/// Writes everything that waits; into the shared store only what belongs to records below `until`, so that its runs end where checkpoints do.
fn write_all(inner: &Inner, until: u64) -> io::Result<()> {
    // What consumers at the tail read stays in memory, as long as its records do.
    write_queues(
        &inner.queues,
        &inner.log.segments,
        until,
        inner.log.tail.start().min(inner.log.flushed()),
    )?;
    inner.index.write_pending(inner.clock.now_ms())
}

/// Writes all entries that are in memory only; to the shared store those of records below `until`, of which none is still to come. Those whose
/// record lies before `keep_from` leave memory. When there are too many queues for files of their own, they are moved to the shared store first.
pub(crate) fn write_queues(
    table: &Table,
    log: &Segments,
    until: u64,
    keep_from: u64,
) -> io::Result<()> {
    if table.outgrows_files() {
        convert::to_shared(table, until, keep_from)?;
    }
    if let Some(shared) = table.shared() {
        let written = shared.write(table, until, keep_from);
        table.sweep_retained(keep_from);
        return written;
    }
    let mut failure = None;
    for queue in table.take_unwritten() {
        if failure.is_some() || queue.is_deleted() {
            if !queue.is_deleted() {
                table.list_unwritten(&queue);
            }
            continue;
        }
        if let Err(error) = write_queue(table, log, &queue, keep_from) {
            table.list_unwritten(&queue);
            failure = Some(error);
        }
    }
    table.sweep_retained(keep_from);
    failure.map_or(Ok(()), Err)
}

fn write_queue(
    table: &Table,
    log: &Segments,
    queue: &Arc<Queue>,
    keep_from: u64,
) -> io::Result<()> {
    let mut copied = Vec::new();
    let entries_max = if queue.topic.is_batch() {
        WRITE_BATCH_ENTRIES_MAX
    } else {
        WRITE_ENTRIES_MAX
    };
    loop {
        let offset = {
            let mut entries = queue.entries();
            let offset = entries.written();
            copied.clear();
            entries.copy(offset, offset + entries_max as u64, &mut copied);
            if copied.is_empty() {
                entries.listed = false;
                table.retain(queue, &mut entries);
                return Ok(());
            }
            offset
        };
        if copied.len() == entries_max {
            table.files.keep_whole(queue, &mut copied);
        }
        table.files.write(queue, offset, &copied, log)?;
        queue
            .entries()
            .written_until(offset + copied.len() as u64, keep_from);
        table.sub_backlog(copied.len());
    }
}

/// Says that everything up to a position of the log is in the files and synced: first the log, then the files, then the checkpoint itself.
fn checkpoint(inner: &Inner, state: &mut State) -> io::Result<()> {
    let (position, entries_total, timestamp_ms) = {
        let tip = inner
            .log
            .tip
            .lock()
            .expect("no code panics while it appends");
        (tip.position, tip.entries_total, tip.store_timestamp_ms)
    };
    if !wait_flushed(inner, position) {
        return Ok(());
    }
    write_all(inner, position)?;
    match inner.queues.shared() {
        Some(shared) => shared.sync()?,
        None => inner.queues.files.sync()?,
    }
    let (index_file, index_count) = if inner.index.enabled() {
        inner.index.sync()?
    } else {
        (0, 0)
    };
    let hint = Hint {
        position,
        entries_total,
        index_file,
        index_count,
        index_enabled: inner.index.enabled(),
    };
    state.checkpoint = Checkpoint {
        log_timestamp_ms: timestamp_ms,
        queues_timestamp_ms: timestamp_ms,
        index_timestamp_ms: if inner.index.enabled() {
            timestamp_ms
        } else {
            state.checkpoint.index_timestamp_ms
        },
        hint: Some(hint),
        ..state.checkpoint
    };
    state
        .checkpoint
        .write(&*inner.disk, &inner.checkpoint_path())?;
    inner.writer.written.store(position, Ordering::Relaxed);
    if let Some(shared) = inner.queues.shared() {
        shared.tidy(&inner.queues, position, inner.stop.is_requested());
    }
    Ok(())
}

/// The log must be ahead of what is derived from it. False when that will not be.
fn wait_flushed(inner: &Inner, position: u64) -> bool {
    inner.writer.waits_for_flush.store(true, Ordering::SeqCst);
    while inner.log.flushed() < position {
        if inner.health.failure().is_some()
            || inner.stop.is_abandoned()
            || inner.stop.is_requested()
        {
            break;
        }
        inner.flush.request();
        // The flusher wakes whoever waits; the bound only serves those who are not the writer thread.
        std::thread::park_timeout(FLUSH_LOOK);
    }
    inner.writer.waits_for_flush.store(false, Ordering::SeqCst);
    inner.log.flushed() >= position
}

/// The last act of a clean stop, after the threads have ended. True when everything is on the disk and the directory says so.
pub(crate) fn finish(inner: &Inner) -> bool {
    if inner.health.failure().is_some() || inner.log.flushed() < inner.log.appended() {
        return false;
    }
    let mut state = inner.writer.lock();
    if state.failed {
        return false;
    }
    let finished = checkpoint(inner, &mut state)
        .and_then(|()| inner.log.segments.remove_spare())
        .and_then(|()| {
            inner.disk.remove(&inner.config.root.join("abort"))?;
            inner.disk.sync_dir(&inner.config.root)
        });
    if let Err(error) = &finished {
        tracing::error!(%error, "the store could not be closed cleanly; the next start recovers it");
    }
    finished.is_ok()
}

/// See [`crate::Store::delete_topic`].
pub(crate) fn delete_topic(inner: &Inner, name: &str) {
    let mut state = inner.writer.lock();
    let removed = {
        // No append is between looking a queue up and adding to it.
        let mut tip = inner
            .log
            .tip
            .lock()
            .expect("no code panics while it appends");
        let Some(topic) = inner.queues.remove(name) else {
            return;
        };
        for queue in topic.queues() {
            tip.entries_total -= queue.next();
        }
        topic
    };
    if let Some(shared) = inner.queues.shared()
        && let Err(error) = shared.delete_topic(name, &removed.queues())
    {
        tracing::warn!(topic = name, %error, "the names of consume queues could not be written");
    }
    for queue in removed.queues() {
        let unwritten = {
            let entries = queue.entries();
            entries.max() - entries.written()
        };
        inner.queues.sub_backlog(unwritten as usize);
        if let Err(error) = inner.queues.files.remove_queue(&queue) {
            tracing::warn!(topic = name, queue_id = queue.id, %error, "a deleted topic's consume queue could not be removed");
        }
    }
    if let Err(error) = inner.queues.files.remove_topic_dir(&removed) {
        tracing::warn!(topic = name, %error, "a deleted topic's directory could not be removed");
    }
    // Without it a crash would find queues missing, and make them again.
    if !state.failed
        && let Err(error) = checkpoint(inner, &mut state)
    {
        tracing::error!(%error, "syncing consume queues or index failed; no further checkpoint is made");
        state.failed = true;
    }
}

/// Forgets a topic that was looked for, and never had a message: whoever asks for names that nobody uses fills no memory with them.
pub(crate) fn forget_empty(inner: &Inner, name: &str) {
    let _tip = inner
        .log
        .tip
        .lock()
        .expect("no code panics while it appends");
    let is_empty = inner.queues.topic(name).is_some_and(|topic| {
        let mut queues = topic.queues().into_iter();
        queues.all(|queue| queue.next() == 0 && !queue.is_watched())
    });
    if is_empty {
        inner.queues.remove(name);
    }
}

/// Removes the files of queues and index whose records are gone from the log.
pub(crate) fn clean_derived(inner: &Inner) {
    let mut state = inner.writer.lock();
    let log_min = inner.log.min();
    match inner.queues.shared() {
        Some(shared) => {
            if let Err(error) = clean_shared(inner, shared, &mut state, log_min) {
                tracing::warn!(%error, "expired consume queue entries could not be removed");
            }
        }
        None => clean_files(inner, log_min),
    }
    if let Err(error) = inner.index.remove_below(log_min) {
        tracing::warn!(%error, "expired index files could not be removed");
    }
}

/// Moves the first offsets, and removes the runs that only hold what is gone once a snapshot says where their queues go on.
fn clean_shared(inner: &Inner, shared: &Shared, state: &mut State, log_min: u64) -> io::Result<()> {
    // The runs say what has expired, so nothing below may be in memory only.
    write_all(inner, inner.log.appended())?;
    if shared.expire(log_min)? && !state.failed {
        checkpoint(inner, state)?;
        shared.remove_expired()?;
    }
    Ok(())
}

fn clean_files(inner: &Inner, log_min: u64) {
    for topic in inner.queues.topics() {
        for queue in topic.queues() {
            let cleaned = load::correct_min(&inner.queues, &queue, log_min)
                .and_then(|()| inner.queues.files.remove_expired(&queue));
            if let Err(error) = cleaned {
                tracing::warn!(topic = %topic.name, queue_id = queue.id, %error, "expired consume queue files could not be removed");
            }
        }
    }
}
