//! Opening a directory: what is trusted, what is read again, what is cut.
//!
//! | found | queues and index are trusted | the log is read from |
//! |---|---|---|
//! | our hint, clean stop | as they are | the hint: its end |
//! | our hint, `abort` | below the hint; the rest is cut | the hint |
//! | no hint (Java wrote it), clean stop | as they are | the segment of the newest queue entry |
//! | no hint, `abort` | below the start; the rest is cut | the newest segment whose first record is older than the checkpoint |
//!
//! Whatever is missing is made again from the records that are read. When the queues do not add up to what the hint says, or a queue has
//! a hole, the whole log is read.

mod holes;

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use platform::clock::Clock;
use platform::disk::{self, Disk, OpenMode};
use protocol::record::Record;
use protocol::{batch, light, sysflag};

use crate::checkpoint::{Checkpoint, Hint};
use crate::commitlog::Log;
use crate::commitlog::scan::{self, Scanned};
use crate::commitlog::segments::Segments;
use crate::compaction::{self, Compaction};
use crate::config::{Config, FlushMode};
use crate::dispatch::{self, Facts};
use crate::error::OpenError;
use crate::index::Index;
use crate::index::pending::IndexEntry;
use crate::queue::shared::{self, convert};
use crate::queue::{Entry, Queue, Table, load};
use crate::schedule::DelayLevels;
use crate::store::DirectoryLock;
use crate::writer;
use holes::Holes;

/// Entries made again that are kept in memory before they are written out.
const BACKLOG_MAX: usize = 1 << 20;

/// Smallest segment: tests use small ones, but a few records must fit.
const SEGMENT_BYTES_MIN: u64 = 1 << 10;

/// An open directory.
pub(crate) struct Recovered {
    pub(crate) config: Config,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) delay_levels: DelayLevels,
    pub(crate) log: Log,
    pub(crate) queues: Table,
    pub(crate) index: Index,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) compaction: Compaction,
    pub(crate) lock: DirectoryLock,
}

/// See [`crate::Store::open`].
pub(crate) fn open(
    mut config: Config,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
) -> Result<Recovered, OpenError> {
    let delay_levels = check(&mut config)?;
    let root = config.root.clone();
    disk::create_dir_all_synced(&*disk, &root).map_err(OpenError::disk("creating", &root))?;
    let lock = lock(&*disk, &root)?;
    let abort = root.join("abort");
    let crashed = disk.exists(&abort);

    let segments = Segments::open(
        Arc::clone(&disk),
        &config.commit_log_dir(),
        config.segment_bytes,
    )?;
    let checkpoint_path = root.join("checkpoint");
    let checkpoint = Checkpoint::read(&*disk, &checkpoint_path)
        .map_err(OpenError::disk("reading", &checkpoint_path))?;
    let queues = Table::new(Arc::clone(&disk), &root, &config);
    let index = Index::open(
        Arc::clone(&disk),
        root.join("index"),
        config.index_slots,
        config.index_entries,
        config.index_enabled,
    )?;

    let opening = Opening {
        config: &config,
        segments: &segments,
        queues: &queues,
        index: &index,
        levels: &delay_levels,
        now_ms: clock.now_ms(),
    };
    let outcome = opening.recover(&checkpoint, crashed)?;
    if crashed {
        tracing::info!(
            end = outcome.scanned.end,
            read_from = outcome.read_from,
            records = outcome.scanned.records,
            "recovered after a crash"
        );
    }
    if let Some(torn) = &outcome.scanned.torn {
        tracing::warn!(at = outcome.scanned.end, found = %torn, "the log ends in something that is no record; it is cut there");
    }
    cut_log(
        &segments,
        outcome.scanned.end,
        crashed || outcome.scanned.torn.is_some(),
    )
    .map_err(OpenError::disk("cutting the log in", segments.dir()))?;

    write_abort(&*disk, &root).map_err(OpenError::disk("writing", &abort))?;
    let timestamp = outcome
        .scanned
        .last_store_timestamp_ms
        .unwrap_or(0)
        .max(checkpoint.log_timestamp_ms);
    let end = outcome.scanned.end;
    // What was read again is with the kernel, perhaps not on the disk.
    let mut flushed = if crashed {
        outcome.read_from.min(end)
    } else {
        end
    };
    if config.flush == FlushMode::Sync {
        // Consumers see nothing else until it is synced, and under `Sync` there is little that was not. Under `Async` there may be much, and
        // nobody waits for it: it is the flusher's first act.
        for segment in segments.overlapping(flushed, end) {
            segment
                .file
                .sync_data()
                .map_err(OpenError::disk("syncing", &segment.path))?;
        }
        flushed = end;
    }
    let compacted = compaction::load(&*disk, &root, &queues)?;
    let compaction = Compaction::new(&root, config.hold_for_compaction, compacted.is_used);
    let log = Log::new(
        segments,
        config.tail_bytes_max,
        config.page_cache_bytes,
        flushed,
        end,
        timestamp,
        outcome.entries_total + compacted.offsets_added,
    );
    Ok(Recovered {
        config,
        disk,
        clock,
        delay_levels,
        log,
        queues,
        index,
        checkpoint,
        compaction,
        lock,
    })
}

fn check(config: &mut Config) -> Result<DelayLevels, OpenError> {
    if config.segment_bytes < SEGMENT_BYTES_MIN || config.segment_bytes > i32::MAX as u64 {
        return Err(OpenError::Configuration(format!(
            "mappedFileSizeCommitLog is {}; it must lie between {SEGMENT_BYTES_MIN} and {}",
            config.segment_bytes,
            i32::MAX
        )));
    }
    config.queue_file_bytes = config.queue_file_entries() * crate::queue::ENTRY_BYTES;
    config.index_slots = config.index_slots.max(1);
    config.index_entries = config.index_entries.max(2);
    DelayLevels::parse(&config.delay_levels)
}

fn lock(disk: &dyn Disk, root: &Path) -> Result<DirectoryLock, OpenError> {
    let path = root.join("lock");
    // Once the file is there it is opened by `disk.lock` alone: closing any other descriptor of it would give the lock
    // back, since the kernel keeps such locks by process and not by descriptor.
    if !disk.exists(&path) {
        let file = disk
            .open(&path, OpenMode::Create)
            .map_err(OpenError::disk("creating", &path))?;
        file.write_all_at(b"lock", 0)
            .map_err(OpenError::disk("writing", &path))?;
    }
    let lock = disk.lock(&path).map_err(|source| OpenError::Locked {
        root: root.to_owned(),
        source,
    })?;
    Ok(DirectoryLock(lock))
}

/// `abort` stands while the store is open, with the process id, as in Java.
fn write_abort(disk: &dyn Disk, root: &Path) -> io::Result<()> {
    let file = disk.open(&root.join("abort"), OpenMode::Create)?;
    let pid = std::process::id().to_string();
    file.set_len(0)?;
    file.write_all_at(pid.as_bytes(), 0)?;
    file.sync_all()?;
    disk.sync_dir(root)
}

struct Opening<'a> {
    config: &'a Config,
    segments: &'a Segments,
    queues: &'a Table,
    index: &'a Index,
    levels: &'a DelayLevels,
    now_ms: i64,
}

struct Outcome {
    scanned: Scanned,
    read_from: u64,
    entries_total: u64,
}

impl Opening<'_> {
    fn recover(&self, checkpoint: &Checkpoint, crashed: bool) -> Result<Outcome, OpenError> {
        let Some(log_min) = self.segments.min() else {
            // Without a log nothing derived has a meaning.
            self.forget_shared()?;
            load::load(self.queues, 0, 0, true)?;
            self.index
                .clear()
                .map_err(OpenError::disk("clearing", self.index.dir()))?;
            let scanned = Scanned {
                end: 0,
                last_store_timestamp_ms: None,
                records: 0,
                torn: None,
            };
            return Ok(Outcome {
                scanned,
                read_from: 0,
                entries_total: 0,
            });
        };
        let hint = checkpoint.hint.filter(|hint| self.is_in_log(hint.position));
        let shared_dir = self.queues.shared_dir();
        let mut floors = Vec::new();
        let (queues_from, loaded_total) = if shared::exists(&**self.queues.files.disk(), shared_dir)
        {
            self.load_shared(hint.as_ref(), crashed, log_min, &mut floors)
                .map_err(OpenError::disk("reading consume queues in", shared_dir))?
        } else {
            self.load_queues(checkpoint, hint.as_ref(), crashed, log_min)?
        };
        let index_from = self
            .load_index(hint.as_ref(), crashed, queues_from, log_min)
            .map_err(OpenError::disk("recovering", self.index.dir()))?;

        let lost = hint.is_some_and(|hint| hint.entries_total != loaded_total)
            || (hint.is_none() && self.queues.shared().is_some());
        if lost {
            self.reset_shared(log_min)?;
            tracing::warn!(
                "consume queues are missing or damaged; they are made again from the whole log"
            );
        }
        let queues_from = if lost { log_min } else { queues_from };
        let index_start = self.segment_start(index_from);
        let read_from = if index_from >= queues_from {
            queues_from
        } else {
            index_start.max(log_min)
        };

        let mut gap = false;
        let scanned = self.read_log(read_from, index_from, lost, &mut gap)?;
        if gap {
            tracing::warn!("a consume queue has a hole; it is made again from the whole log");
            self.reset_shared(log_min)?;
            self.read_log(log_min, u64::MAX, true, &mut gap)?;
        }
        let topics = self.queues.topics();
        for (queue, floor) in floors {
            if (lost || gap) && queue.entries().max() == 0 {
                queue.begin_at(floor);
            }
        }
        if (lost || gap) && self.queues.shared().is_none() {
            // What was filled in has no record in the log: the queue begins behind it.
            for queue in topics.iter().flat_map(|topic| topic.queues()) {
                load::correct_min(self.queues, &queue, log_min).map_err(OpenError::disk(
                    "reading consume queues in",
                    &self.config.root,
                ))?;
            }
        }
        self.queues.count_light();
        let entries_total = topics
            .iter()
            .flat_map(|topic| topic.queues())
            .map(|queue| queue.entries().max())
            .sum();
        Ok(Outcome {
            scanned,
            read_from,
            entries_total,
        })
    }

    /// Loads the queues. Returns from where on records must be read for them, and the sum of their offsets.
    fn load_queues(
        &self,
        checkpoint: &Checkpoint,
        hint: Option<&Hint>,
        crashed: bool,
        log_min: u64,
    ) -> Result<(u64, u64), OpenError> {
        match (hint, crashed) {
            (Some(hint), _) => {
                let trusted = if crashed { hint.position } else { u64::MAX };
                Ok((
                    hint.position,
                    load::load(self.queues, trusted, log_min, crashed)?.offsets_total,
                ))
            }
            (None, true) => {
                let start = self
                    .java_start(checkpoint, log_min)
                    .map_err(OpenError::disk("reading", self.segments.dir()))?;
                Ok((
                    start,
                    load::load(self.queues, start, log_min, true)?.offsets_total,
                ))
            }
            (None, false) => {
                let loaded = load::load(self.queues, u64::MAX, log_min, false)?;
                let start = if loaded.end > log_min && self.is_in_log(loaded.end) {
                    self.segment_start(loaded.end - 1)
                } else {
                    log_min
                };
                Ok((start, loaded.offsets_total))
            }
        }
    }

    /// Loads the queues from the shared store, or gives them files again when they are few enough. Says what [`Opening::load_queues`] says.
    fn load_shared(
        &self,
        hint: Option<&Hint>,
        crashed: bool,
        log_min: u64,
        floors: &mut Vec<(Arc<Queue>, u64)>,
    ) -> io::Result<(u64, u64)> {
        // Without a hint a Java broker was here, or the store was just converted: the log says what the queues are.
        let trusted = hint.map(|hint| if crashed { hint.position } else { u64::MAX });
        let opened = shared::load::open(self.queues, self.queues.shared_dir(), trusted, log_min)?;
        *floors = opened.floors;
        let total = opened
            .queues
            .iter()
            .map(|queue| queue.entries().max())
            .sum();
        let complete = opened.sound && hint.is_some_and(|hint| hint.entries_total == total);
        if complete && self.queues.count() <= self.queues.files_max() / 2 {
            convert::to_files(self.queues, self.segments, &opened.shared, &opened.queues)?;
        } else {
            self.queues.set_shared(opened.shared);
        }
        Ok((hint.map_or(log_min, |hint| hint.position), total))
    }

    /// Without a log the shared store has no meaning either.
    fn forget_shared(&self) -> Result<(), OpenError> {
        let (disk, dir) = (self.queues.files.disk(), self.queues.shared_dir());
        if shared::exists(&**disk, dir) {
            convert::remove(&**disk, dir).map_err(OpenError::disk("removing", dir))?;
        }
        Ok(())
    }

    /// All entries of the shared store are to be made again.
    fn reset_shared(&self, log_min: u64) -> Result<(), OpenError> {
        let Some(shared) = self.queues.shared() else {
            return Ok(());
        };
        shared.reset(log_min).map_err(OpenError::disk(
            "removing consume queues in",
            self.queues.shared_dir(),
        ))?;
        for queue in self.queues.topics().iter().flat_map(|topic| topic.queues()) {
            let unwritten = {
                let entries = queue.entries();
                entries.max() - entries.written()
            };
            self.queues.sub_backlog(unwritten as usize);
            queue.begin_at(0);
        }
        Ok(())
    }

    fn load_index(
        &self,
        hint: Option<&Hint>,
        crashed: bool,
        queues_from: u64,
        log_min: u64,
    ) -> io::Result<u64> {
        if !self.index.enabled() {
            return Ok(u64::MAX);
        }
        if hint.is_none() && crashed {
            self.index.cut_from(queues_from)?;
            return Ok(queues_from);
        }
        self.index.recover(hint, log_min, !crashed)
    }

    /// The newest segment whose first record is not newer than the checkpoint (Java: CommitLog.isMappedFileMatchedRecover).
    fn java_start(&self, checkpoint: &Checkpoint, log_min: u64) -> io::Result<u64> {
        for segment in self.segments.all().iter().rev() {
            if scan::first_store_timestamp(segment)?
                .is_some_and(|timestamp| timestamp <= checkpoint.min_timestamp_ms())
            {
                return Ok(segment.start);
            }
        }
        Ok(log_min)
    }

    fn is_in_log(&self, position: u64) -> bool {
        let last = self
            .segments
            .last()
            .map_or(0, |last| last.start + self.config.segment_bytes);
        self.segments
            .min()
            .is_some_and(|min| (min..last).contains(&position))
    }

    fn segment_start(&self, position: u64) -> u64 {
        self.segments
            .containing(position)
            .map_or(u64::MAX, |segment| segment.start)
    }

    /// Reads the log from `from` on and gives queues and index what they lack. With `fill`, what the log does not have is filled in;
    /// otherwise it sets `gap`.
    fn read_log(
        &self,
        from: u64,
        index_from: u64,
        fill: bool,
        gap: &mut bool,
    ) -> Result<Scanned, OpenError> {
        let mut failure = None;
        let mut index_entries = Vec::new();
        let mut holes = Holes::new(fill);
        let scanned = scan::scan(self.segments, from, u64::MAX, &mut |record| {
            self.dispatch(record, index_from, &mut holes, &mut index_entries);
            if failure.is_none()
                && (self.queues.backlog() > BACKLOG_MAX || self.index.backlog() > BACKLOG_MAX)
            {
                let until = record.physical_offset + u64::from(record.size);
                failure = writer::write_queues(self.queues, self.segments, until, u64::MAX)
                    .and_then(|()| self.index.write_pending(self.now_ms))
                    .err();
            }
        });
        let scanned =
            scanned.map_err(OpenError::disk("reading the log in", self.segments.dir()))?;
        *gap = holes.finish(self);
        match failure {
            Some(source) => Err(OpenError::Disk {
                action: "writing consume queues or index in",
                path: self.config.root.clone(),
                source,
            }),
            None => Ok(scanned),
        }
    }

    fn dispatch(
        &self,
        record: &Record<'_>,
        index_from: u64,
        holes: &mut Holes,
        index_entries: &mut Vec<IndexEntry>,
    ) {
        let facts = Facts::of(record.properties);
        if record.physical_offset >= index_from && dispatch::is_indexed(record.sys_flag) {
            let topic_hash = dispatch::topic_hash(record.topic);
            index_entries.clear();
            index_entries.extend(facts.index_keys().map(|key| IndexEntry {
                hash: dispatch::index_hash(topic_hash, key),
                physical: record.physical_offset,
                store_timestamp_ms: record.store_timestamp_ms,
            }));
            self.index.add(index_entries);
        }
        if !dispatch::is_queued(record.sys_flag)
            || record.queue_id < 0
            || !dispatch::is_directory_name(record.topic)
        {
            return;
        }
        let is_inner_batch = record.sys_flag & sysflag::INNER_BATCH != 0;
        if is_inner_batch {
            self.queues.make_batch(record.topic);
        }
        let offsets = batch::messages_of(record.sys_flag, record.properties);
        let queue = self.queues.queue_or_create(record.topic, record.queue_id);
        let tags_code = facts
            .tags_code(record.topic, self.levels)
            .value(record.store_timestamp_ms);
        let entry = Entry {
            physical: record.physical_offset,
            size: record.size,
            tags_code,
        };
        holes.place(self, queue, record.queue_offset, entry, offsets);
        if facts.is_light() && !is_inner_batch {
            let mut seen = HashSet::new();
            for (name, offset) in facts.light_places(record.topic) {
                if seen.insert(name) {
                    let queue = self.queues.queue_or_create(name, light::QUEUE_ID);
                    holes.place(self, queue, offset, entry, 1);
                }
            }
        }
    }

    fn push(&self, queue: &Arc<Queue>, new: impl Iterator<Item = Entry>) {
        let mut entries = queue.entries();
        let before = entries.max();
        new.for_each(|entry| entries.push(entry));
        let max = entries.max();
        if !entries.listed {
            entries.listed = true;
            self.queues.list_unwritten(queue);
        }
        drop(entries);
        queue.set_next(max);
        self.queues.add_backlog((max - before) as usize);
    }
}

/// Makes the log end at `end`: later segments go, and with `erase` nothing remains behind it that could be taken for records later.
fn cut_log(segments: &Segments, end: u64, erase: bool) -> io::Result<()> {
    let Some(segment) = segments.containing(end) else {
        return Ok(());
    };
    segments.remove_from(segment.start + segments.segment_bytes())?;
    if !erase {
        return Ok(());
    }
    // Shrinking and reserving again leaves zeros, however much was there.
    segment.file.set_len(end - segment.start)?;
    match segment.file.reserve(segments.segment_bytes()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            tracing::warn!(path = %segment.path.display(), "no space to reserve the rest of the last segment; writes to it may be refused");
            segment.file.set_len(segments.segment_bytes())?;
        }
        Err(error) => return Err(error),
    }
    // Only the last file may be found short: this one's length must survive before another follows it.
    segment.file.sync_all()
}
