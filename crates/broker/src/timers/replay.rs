//! Reading the timer queue to its end, at the start and after damage, from where the files end: from there on nothing is delivered that an order behind it drops.
//!
//! Memory is bounded meanwhile. What the heap does not hold goes into runs, which no manifest names before the end: a crash reads the queue once more.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use platform::disk::create_dir_all_synced;
use protocol::topic;
use storage::{Read, ReadMode, Store};

use super::engine::{BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, Engine, Fault, Now};
use super::entry::{Entry, Mark};
use super::java;
use super::keep::{publish, wait_for_flush};
use super::message;
use super::notes::{Manifest, Progress};
use super::run::{Cursor, Run, Writer};
use super::timeline::{FRESH_MAX, next_of};

/// Runs beyond which all are made one. Each has a buffer of 32 KiB and an open file.
const RUNS_MAX: usize = 32;
/// Records of messages stored anew that are remembered at a time: 6 MiB.
const LATER_MAX: usize = 128 << 10;

/// What was read before this process, and how far it was delivered.
#[derive(Debug)]
pub(super) struct Replay {
    /// What was read from below this offset and stands at or before the mark is delivered.
    pub(super) until: u64,
    pub(super) progress: Progress,
    /// What lies below this offset was taken in before.
    pub(super) taken_in: u64,
    /// The end of the queue has been reached once.
    pub(super) done: bool,
    /// Entries in the heap beyond which they go into a run.
    pub(super) fresh_max: usize,
    /// Numbers of the runs that were written under way.
    spilled: Vec<u64>,
    /// Numbers of runs that are not needed any more once another manifest is in force.
    replaced: Vec<u64>,
    later: Later,
}

/// Records of messages that were stored anew, by key: time and place of the last. What they stand for was read before them.
#[derive(Debug, Default)]
struct Later(HashMap<u64, Mark>);

impl Replay {
    pub(super) fn new(progress: Progress, taken_in: u64) -> Replay {
        Replay {
            until: progress.queue_offset,
            progress,
            taken_in,
            done: false,
            fresh_max: FRESH_MAX,
            spilled: Vec::new(),
            replaced: Vec::new(),
            later: Later::default(),
        }
    }

    /// A message was stored anew: its earlier records do not count.
    pub(super) fn supersedes(&mut self, entry: &Entry) {
        self.later.0.insert(entry.key.hash(), entry.mark());
    }
}

impl Later {
    /// Whether an entry is of a message that was stored anew behind it.
    fn supersede(&self, entry: &Entry, store: &Store, precision_ms: i64) -> bool {
        self.0.get(&entry.key.hash()).is_some_and(|later| {
            entry.physical < later.physical
                && later.due_ms.abs_diff(entry.due_ms) <= precision_ms as u64
                && !entry.key.deletes()
                && is_same_message(store, entry.physical, later.physical, precision_ms)
        })
    }
}

impl Engine {
    /// Makes room for what is read next. Waits for the disk.
    pub(super) fn make_room(&mut self) -> Result<(), Fault> {
        if self.timeline.fresh_len() >= self.replay.fresh_max {
            self.spill()?;
        }
        if self.replay.later.0.len() >= LATER_MAX || self.timeline.runs().count() > RUNS_MAX {
            self.drop_superseded()?;
        }
        Ok(())
    }

    /// Writes the heap to a run.
    fn spill(&mut self) -> Result<(), Fault> {
        let entries = self.timeline.freeze();
        let written = self.write_run(entries.iter().map(|entry| Ok(*entry)));
        let cursor = match written {
            Ok(cursor) => cursor,
            Err(error) => {
                self.timeline.thaw();
                return Err(error.into());
            }
        };
        let id = cursor.as_ref().map(|cursor| cursor.run.id);
        self.replay.spilled.extend(id);
        self.timeline.replace(&[], true, cursor);
        self.keeping.covered = self.read_offset;
        Ok(())
    }

    /// Writes entries, which come in order, to a run. Gives a place before its first.
    fn write_run(
        &mut self,
        entries: impl Iterator<Item = io::Result<Entry>>,
    ) -> io::Result<Option<Cursor>> {
        create_dir_all_synced(&*self.disk, &self.dir)?;
        let id = self.keeping.take_run_id();
        let mut writer = Writer::begin(&*self.disk, &self.dir, id)?;
        for entry in entries {
            writer.push(&entry?)?;
        }
        let Some(run) = writer.finish()? else {
            return Ok(None);
        };
        Cursor::behind(Arc::new(run), Mark::START).map(Some)
    }

    /// Drops entries of messages that were stored anew, and makes all runs one, if some were written under way.
    fn drop_superseded(&mut self) -> Result<(), Fault> {
        let later = std::mem::take(&mut self.replay.later);
        if !self.replay.spilled.is_empty()
            && let Err(error) = self.gather(&later)
        {
            self.replay.later = later;
            return Err(error.into());
        }
        if later.0.is_empty() {
            return Ok(());
        }
        let now_ms = self.clock.now_ms();
        let (store, precision_ms) = (self.store.clone(), self.settings.precision_ms);
        let topics = &mut self.topics;
        self.timeline.retain_fresh(|entry| {
            let is_superseded = later.supersede(entry, &store, precision_ms);
            if is_superseded {
                topics.count(entry.key.topic(), -1, now_ms);
            }
            !is_superseded
        });
        Ok(())
    }

    /// Makes all runs one, without what is delivered or superseded.
    fn gather(&mut self, later: &Later) -> io::Result<()> {
        let runs: Vec<Arc<Run>> = self.timeline.runs().cloned().collect();
        let spilled = self.replay.spilled.clone();
        let mark = |run: &Run| match spilled.contains(&run.id) {
            true => Mark::START,
            false => self.replay.progress.mark,
        };
        let cursors = runs
            .iter()
            .map(|run| Cursor::behind(run.clone(), mark(run)));
        let mut cursors = cursors.collect::<io::Result<Vec<_>>>()?;
        let (store, precision_ms) = (self.store.clone(), self.settings.precision_ms);
        let mut dropped: BTreeMap<usize, i64> = BTreeMap::new();
        let cursor = self.write_run(std::iter::from_fn(|| {
            loop {
                match next_of(&mut cursors).transpose()? {
                    Ok(entry) if later.supersede(&entry, &store, precision_ms) => {
                        *dropped.entry(entry.key.topic()).or_default() += 1;
                    }
                    next => return Some(next),
                }
            }
        }))?;
        let now_ms = self.clock.now_ms();
        for (topic, count) in dropped {
            self.topics.count(topic, -count, now_ms);
        }
        self.replay.spilled = cursor.iter().map(|cursor| cursor.run.id).collect();
        let merged: Vec<u64> = runs.iter().map(|run| run.id).collect();
        self.timeline.replace(&merged, false, cursor);
        let (gone, named): (Vec<u64>, _) = merged.iter().partition(|id| spilled.contains(id));
        self.replay.replaced.extend::<Vec<u64>>(named);
        self.remove(gone);
        Ok(())
    }

    /// The end of the queue has been reached: messages that were stored anew are known, and what they stand for goes.
    pub(super) fn replayed(&mut self, now: Now) -> Result<(), Fault> {
        if self.replay.done {
            return Ok(());
        }
        // All may have been superseded, and what they covered is no less read.
        let has_spilled = !(self.replay.spilled.is_empty() && self.replay.replaced.is_empty());
        if has_spilled && self.keeping.is_busy {
            // Work of before the damage would write its manifest over this one.
            return Ok(());
        }
        if has_spilled {
            // Nothing below the end is read again then: a mark that is set back would take what was delivered there for waiting.
            self.spill()?;
        }
        self.drop_superseded()?;
        if has_spilled {
            self.name_spilled(now)?;
        }
        if self.settings.stop_enqueue {
            self.read_orders()?;
        }
        self.replay.done = true;
        Ok(())
    }

    /// Puts a manifest in force that names what was written under way. Everything that waits stands behind its mark.
    fn name_spilled(&mut self, now: Now) -> Result<(), Fault> {
        let before_first = self.timeline.peek()?.map(|first| Mark {
            due_ms: first.due_ms,
            physical: first.physical.saturating_sub(1),
        });
        let progress = Progress {
            mark: before_first.map_or(self.progress.mark, |mark| mark.min(self.progress.mark)),
            queue_offset: self.read_offset,
            rolled: self.progress.rolled,
        };
        let last = self.keeping.checks[1];
        let precision_ms = self.settings.precision_ms;
        let check = java::check(now.wall_ms, precision_ms, progress.queue_offset, &last);
        let manifest = Manifest {
            epoch: self.epoch + 1,
            next_run: self.keeping.next_run,
            covered: self.keeping.covered,
            progress,
            checks: [last, check],
            runs: self
                .timeline
                .runs()
                .map(|run| (run.id, run.entries, run.lowest))
                .collect(),
            topics: self.topics.names().to_vec(),
        };
        wait_for_flush(&self.store, self.store.commit_log_max())?;
        publish(&*self.disk, &self.dir, &self.config_dir, &manifest)?;
        self.epoch = manifest.epoch;
        self.progress = progress;
        self.keeping.checks = manifest.checks;
        self.replay.spilled.clear();
        let replaced = std::mem::take(&mut self.replay.replaced);
        self.remove(replaced);
        Ok(())
    }

    /// Reads the orders to drop messages from the part of the queue that is not taken in: whoever took a message back was told that it will not be delivered.
    fn read_orders(&mut self) -> Result<(), Fault> {
        let mut offset = self.read_offset;
        while offset < self.store.max_offset(topic::TIMER, 0) {
            let read = self.store.read(
                &Read {
                    topic: topic::TIMER,
                    queue_id: 0,
                    offset: offset as i64,
                    messages_max: BATCH_MESSAGES_MAX,
                    bytes_max: BATCH_BYTES_MAX,
                    filter: &|_| true,
                },
                ReadMode::Blocking,
            )?;
            for bytes in &read.records {
                // What cannot be understood is told of when it is taken in.
                if let Ok(timed) = message::understand(bytes, self.settings.precision_ms)
                    && timed.deletes
                {
                    self.bury(&timed);
                }
            }
            offset = read.next_from(offset as i64) as u64;
        }
        Ok(())
    }

    /// Forgets the files, which are damaged, and reads everything that waits from the log again.
    pub(super) fn rebuild(&mut self) {
        tracing::error!("a file of timers is damaged; what waits is read from the log again");
        let now_ms = self.clock.now_ms();
        self.timeline.clear();
        self.topics.reset();
        self.tombstones.clear();
        self.ready.clear();
        self.mail.clear();
        // They stand before the mark, so the log's records of them do not count.
        let cold = std::mem::take(&mut self.cold);
        for entry in &cold {
            self.topics.count(entry.key.topic(), 1, now_ms);
            self.timeline.push(*entry);
        }
        // Nor were they stored anew.
        let lowest = cold.iter().map(|entry| entry.physical).min();
        self.progress.rolled = self.progress.rolled.min(lowest.unwrap_or(u64::MAX));
        let next = Replay::new(self.progress, self.read_offset.max(self.replay.taken_in));
        let last = std::mem::replace(&mut self.replay, next);
        self.replay.fresh_max = last.fresh_max;
        self.remove(last.spilled);
        self.read_offset = self.store.min_offset(topic::TIMER, 0);
        self.keeping.restart();
        self.rolling.restart();
    }
}

/// Whether two records are of one message. A record that cannot be read is of none: then both are delivered.
fn is_same_message(store: &Store, one: u64, other: u64, precision_ms: i64) -> bool {
    let (Ok(Some(one)), Ok(Some(other))) = (store.record_at(one), store.record_at(other)) else {
        return false;
    };
    match (
        message::understand(&one, precision_ms),
        message::understand(&other, precision_ms),
    ) {
        (Ok(one), Ok(other)) => {
            one.topic == other.topic
                && one.unique_id == other.unique_id
                && !one.unique_id.is_empty()
        }
        _ => false,
    }
}
