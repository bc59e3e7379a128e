//! One pass over a queue: which keys came, what is still the latest, and the run that holds it.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use platform::disk;
use protocol::record::{self, CheckBody, Record};

use super::run::{Run, Writer};
use super::scan::Scan;
use super::{Compacted, CompactionError, CompactionLimits, CompactionOutcome, load};
use crate::dispatch::Facts;
use crate::queue::Queue;
use crate::queue::load::entry_at;
use crate::read::{Read, ReadMode, ReadStatus, read_log_part};
use crate::store::Inner;

/// Memory that a key takes at most, the growing of the table included.
const KEY_BYTES: usize = 96;
/// Keys that one pass takes at least, so that it gets on however little memory it is given.
const KEYS_MIN: usize = 100;
/// One part in so many of a run must wait before it is written anew.
const WORTHWHILE: u64 = 4;
/// Messages read from the log at once.
const READ_MESSAGES: usize = 256;
/// Bytes read from the log at once, unless one message is larger.
const READ_BYTES: usize = 1 << 20;
/// Entries of a run read at once.
const READ_ENTRIES: u64 = 256;

/// The offset of the latest message of each key. Keys are told apart by 128 bits of hashes that nobody outside can foresee.
struct Latest {
    offsets: HashMap<(u64, u64), u64>,
    hashes: (RandomState, RandomState),
    keys_max: usize,
}

impl Latest {
    fn new(bytes_max: usize) -> Latest {
        Latest {
            offsets: HashMap::new(),
            hashes: (RandomState::new(), RandomState::new()),
            keys_max: (bytes_max / KEY_BYTES).max(KEYS_MIN),
        }
    }

    fn hash(&self, key: &str) -> (u64, u64) {
        (self.hashes.0.hash_one(key), self.hashes.1.hash_one(key))
    }

    /// False when the key is another one and there is no room for it.
    fn note(&mut self, key: &str, offset: u64) -> bool {
        let hash = self.hash(key);
        if self.offsets.len() >= self.keys_max && !self.offsets.contains_key(&hash) {
            return false;
        }
        self.offsets.insert(hash, offset);
        true
    }

    fn get(&self, key: &str) -> Option<u64> {
        self.offsets.get(&self.hash(key)).copied()
    }
}

/// All keys of a message are one (Java 5.3.4: CompactionLog.getOffsetMap). None when it has none: such a message is kept.
fn key_of<'a>(record: &Record<'a>) -> Option<&'a str> {
    let keys = Facts::of(record.properties).keys?;
    (!keys.trim().is_empty()).then_some(keys)
}

/// See [`crate::Store::compact`].
pub(crate) fn compact(
    inner: &Inner,
    topic: &str,
    queue_id: i32,
    limits: &CompactionLimits,
) -> Result<CompactionOutcome, CompactionError> {
    let _running = inner
        .compaction
        .running
        .read()
        .unwrap_or_else(PoisonError::into_inner);
    let mut outcome = CompactionOutcome::default();
    let Some(queue) = inner.queues.queue(topic, queue_id) else {
        return Ok(outcome);
    };
    if inner.log_bounds(&queue).1 == 0 {
        return Ok(outcome);
    }
    let compacted = {
        let _dirs = inner.compaction.lock_dirs();
        if queue.is_deleted() {
            return Err(CompactionError::Closed);
        }
        let dir = inner.compaction.queue_dir(topic, queue_id);
        queue.compacted_or(|| Compacted::new(dir, None))
    };
    let _pass = compacted
        .pass
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let pass = Pass {
        inner,
        queue: &queue,
        compacted: &compacted,
        limits,
    };
    while pass.step(&mut outcome)? {}
    Ok(outcome)
}

struct Pass<'a> {
    inner: &'a Inner,
    queue: &'a Arc<Queue>,
    compacted: &'a Compacted,
    limits: &'a CompactionLimits,
}

/// What the first walk over the log found.
struct Walked {
    until: u64,
    messages: u64,
    bytes: u64,
}

impl Pass<'_> {
    /// Takes what waits into a new run, as far as its keys fit into memory. False when nothing is left to do.
    fn step(&self, outcome: &mut CompactionOutcome) -> Result<bool, CompactionError> {
        self.check_open()?;
        let old = self.compacted.run();
        let (min, max) = self.inner.log_bounds(self.queue);
        let until = old.as_ref().map_or(0, |run| run.until);
        if let Some(run) = &old {
            (outcome.kept, outcome.kept_bytes) = (run.count, run.records_bytes);
            if until < min {
                tracing::error!(
                    topic = &*self.queue.topic.name,
                    queue_id = self.queue.id,
                    from = until,
                    to = min,
                    "messages were removed from the log before they were compacted"
                );
            }
        }
        let from = until.max(min);
        if from >= max {
            return Ok(false);
        }
        if !self.is_worthwhile(outcome.kept, from, max)? {
            outcome.waits_from = self.physical(from)?;
            return Ok(false);
        }
        let mut latest = Latest::new(self.limits.keys_bytes_max);
        let walked = self.find_latest(from, max, &mut latest)?;
        if walked.until == from {
            return Ok(false);
        }
        self.check_space(old.as_deref(), &walked)?;
        let written = self.write(old.as_deref(), from, &walked, &latest);
        let sequence = old.as_ref().map(|run| run.sequence);
        let run = match written {
            Ok(run) => run,
            Err(error) => {
                let _ = load::remove_others(&*self.inner.disk, &self.compacted.dir, sequence);
                return Err(error);
            }
        };
        let before = outcome.kept + walked.messages;
        outcome.passes += 1;
        outcome.taken += walked.messages;
        outcome.dropped += before.saturating_sub(run.count);
        (outcome.kept, outcome.kept_bytes) = (run.count, run.records_bytes);
        let keep = Some(run.sequence);
        self.compacted.set_run(run);
        self.inner.compaction.is_used.store(true, Ordering::Release);
        if let Err(error) = load::remove_others(&*self.inner.disk, &self.compacted.dir, keep) {
            tracing::warn!(dir = %self.compacted.dir.display(), %error, "files that a compaction replaced could not be removed; the next start does it");
        }
        Ok(walked.until < max)
    }

    fn check_open(&self) -> Result<(), CompactionError> {
        let stop = &self.inner.stop;
        if stop.is_requested() || stop.is_abandoned() || self.queue.is_deleted() {
            return Err(CompactionError::Closed);
        }
        Ok(())
    }

    /// Whether enough waits for a run of `kept` messages to be written anew: each message is then written five times at most, in the mean.
    fn is_worthwhile(&self, kept: u64, from: u64, max: u64) -> Result<bool, CompactionError> {
        if (max - from).saturating_mul(WORTHWHILE) >= kept {
            return Ok(true);
        }
        let stored_ms = crate::query::log_store_time(self.inner, self.queue, from)?;
        let waited = |stored_ms| self.inner.clock.now_ms().saturating_sub(stored_ms);
        Ok(stored_ms.is_none_or(|stored_ms| waited(stored_ms) >= self.limits.wait_ms_max))
    }

    fn physical(&self, offset: u64) -> Result<Option<u64>, CompactionError> {
        let entry = entry_at(&self.inner.queues, self.queue, offset, true)?;
        // An entry that cannot be read holds everything.
        Ok(Some(entry.map_or(0, |entry| entry.physical)))
    }

    fn find_latest(
        &self,
        from: u64,
        max: u64,
        latest: &mut Latest,
    ) -> Result<Walked, CompactionError> {
        let flushed = self.inner.log.flushed();
        let (mut messages, mut bytes) = (0, 0);
        let until = self.walk(from, max, |record, _| {
            // What is not flushed may be another message after the power failed.
            if record.physical_offset + u64::from(record.size) > flushed {
                return Ok(false);
            }
            if let Some(key) = key_of(record)
                && !latest.note(key, record.queue_offset)
            {
                return Ok(false);
            }
            messages += 1;
            bytes += u64::from(record.size);
            Ok(true)
        })?;
        Ok(Walked {
            until,
            messages,
            bytes,
        })
    }

    /// Visits the messages of the log in turn until the visitor says false. Gives the offset of the one that it did not take.
    fn walk(
        &self,
        from: u64,
        until: u64,
        mut visit: impl FnMut(&Record<'_>, &Bytes) -> Result<bool, CompactionError>,
    ) -> Result<u64, CompactionError> {
        let mut offset = from;
        while offset < until {
            self.check_open()?;
            let request = Read {
                topic: &self.queue.topic.name,
                queue_id: self.queue.id,
                offset: offset as i64,
                messages_max: READ_MESSAGES,
                bytes_max: READ_BYTES,
                filter: &|_| true,
            };
            let result = read_log_part(self.inner, self.queue, &request, ReadMode::Blocking)?;
            match result.status {
                ReadStatus::Found => {}
                // Whoever pulls meets the same, and is told.
                ReadStatus::MessageWasRemoving | ReadStatus::OffsetTooSmall => {}
                // The queue's file is missing: its messages may still be in the log, and come again when it is made anew.
                _ => return Ok(offset),
            }
            for bytes in &result.records {
                let record = record::decode(bytes, CheckBody::No)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                if record.queue_offset >= until {
                    return Ok(until);
                }
                if !visit(&record, bytes)? {
                    return Ok(record.queue_offset);
                }
            }
            let next = result.next_offset as u64;
            if next <= offset {
                return Ok(offset);
            }
            offset = next;
        }
        Ok(until)
    }

    /// A run of what the old one holds and the log has in `from..walked.until`, as far as it is the latest.
    fn write(
        &self,
        old: Option<&Run>,
        from: u64,
        walked: &Walked,
        latest: &Latest,
    ) -> Result<Run, CompactionError> {
        let (disk, dir) = (&*self.inner.disk, &self.compacted.dir);
        disk::create_dir_all_synced(disk, dir)?;
        let sequence = old.map_or(1, |run| run.sequence + 1);
        let mut writer = Writer::begin(disk, dir, sequence)?;
        if let Some(old) = old {
            self.copy(old, latest, &mut writer)?;
        }
        let mut messages = 0;
        self.walk(from, walked.until, |record, bytes| {
            messages += 1;
            let is_latest = match key_of(record) {
                // An empty body is a tombstone: it ends its key (Java 5.3.4: CompactionLog.shouldRetainMsg).
                Some(key) => {
                    latest.get(key) == Some(record.queue_offset) && !record.body.is_empty()
                }
                None => true,
            };
            if is_latest {
                writer.push(record, bytes)?;
            }
            Ok(true)
        })?;
        // A message that was the latest of its key has taken its place already; without it the key would have none.
        if messages != walked.messages {
            return Err(CompactionError::Removed);
        }
        Ok(writer.finish(walked.until)?)
    }

    fn copy(
        &self,
        old: &Run,
        latest: &Latest,
        writer: &mut Writer<'_>,
    ) -> Result<(), CompactionError> {
        let mut scan = Scan::new(old.records(), old.records_bytes);
        let mut entries = Vec::new();
        let mut index = 0;
        while index < old.count {
            self.check_open()?;
            entries.clear();
            old.entries(index, READ_ENTRIES, true, &mut entries)?;
            index += entries.len() as u64;
            for entry in &entries {
                if let Some(entry) = entry {
                    scan.seek(entry.position);
                }
                // Without its entry a record is found behind the one before.
                let found = scan.next()?;
                let found = found.filter(|(_, bytes)| entry.is_none_or(|entry| entry.fits(bytes)));
                let Some((_, bytes)) = found else {
                    tracing::error!(
                        topic = &*self.queue.topic.name,
                        queue_id = self.queue.id,
                        queue_offset = entry.map(|entry| entry.offset),
                        "a compacted message is damaged; it is lost"
                    );
                    continue;
                };
                let record = record::decode(&bytes, CheckBody::No)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                if key_of(&record).is_none_or(|key| latest.get(key).is_none()) {
                    writer.push(&record, &bytes)?;
                }
            }
        }
        Ok(())
    }

    fn check_space(&self, old: Option<&Run>, walked: &Walked) -> Result<(), CompactionError> {
        let old_bytes = old.map_or(0, |run| run.records_bytes);
        let needed_bytes = old_bytes + walked.bytes + self.inner.config.segment_bytes;
        match self.inner.disk.space(&self.inner.config.root) {
            Ok(space) if space.free_bytes < needed_bytes => Err(CompactionError::NoSpace {
                needed_bytes,
                free_bytes: space.free_bytes,
            }),
            // A system that does not tell has the write fail instead, which does no harm.
            _ => Ok(()),
        }
    }
}
