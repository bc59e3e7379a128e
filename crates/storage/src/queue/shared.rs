//! The shared store: the entries of all queues in a few files, for more queues than may have files of their own.
//!
//! Each round of the writer makes one run out of what waits in memory; neighbouring runs are merged behind it. Runs lie one behind the other on the
//! log, so a checkpoint trusts whole runs, and retention removes whole runs. Everything here is made again from the log when it does not add up.

pub(crate) mod convert;
pub(crate) mod load;
mod names;
mod run;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use platform::disk::{Disk, File};

use super::{Entry, Queue, Table};
use names::{Names, Snapshot};
use run::{Run, Slot, Writer};

/// Runs that are merged into one.
const MERGE_RUNS: usize = 8;
/// Entries of a merged run at most: half a gigabyte, so that the writer is not away for longer than its backlog lasts.
const MERGE_ENTRIES_MAX: u64 = 16 << 20;
/// Runs below this size are merged as if they had it.
const SMALL_RUN_ENTRIES: u64 = 4096;
/// Entries behind the snapshot that a start reads, at least: 32 MiB.
const SNAPSHOT_ENTRIES: u64 = 1 << 20;
/// Queues of which the place of the last read is remembered.
const REMEMBERED_MAX: usize = 64 << 10;
/// Entries copied out of a queue in one look.
const COPY_ENTRIES: usize = 16 << 10;

/// The store. Any thread may read; one thread at a time writes.
#[derive(Debug)]
pub(crate) struct Shared {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// In the order of the log.
    runs: RwLock<Arc<Vec<Arc<Run>>>>,
    /// Queue number → start of the run in which the last read of it ended: who reads on begins there.
    remembered: Mutex<HashMap<u32, u64>>,
    state: Mutex<State>,
    /// Files of single queues are left from before the conversion.
    leftovers: AtomicBool,
}

/// What the writer needs.
///
/// Invariant: the runs cover the log without a hole up to `covered`, and hold every entry of a record below it.
#[derive(Debug)]
struct State {
    names: Names,
    /// By number; none for deleted topics.
    queues: Vec<Option<Arc<Queue>>>,
    covered: u64,
    unsynced: Vec<Arc<dyn File>>,
    names_changed: bool,
    /// The file of names was replaced, which does not survive loss of power yet.
    names_moved: bool,
    /// Entries written since the last snapshot.
    since_snapshot: u64,
    snapshot_wanted: bool,
    /// A run cannot be read: none are merged until the next start.
    damaged: bool,
    /// First position of the log for which the queues' first offsets are right.
    log_min: u64,
}

impl State {
    fn queue(&self, number: u32) -> Option<&Arc<Queue>> {
        self.queues.get(number as usize)?.as_ref()
    }

    fn number(&mut self, queue: &Arc<Queue>) -> u32 {
        if queue.number() == 0 {
            let number = self.names.add(&queue.topic.name, queue.id);
            queue.set_number(number);
            self.register(queue);
        }
        queue.number()
    }

    fn register(&mut self, queue: &Arc<Queue>) {
        let index = queue.number() as usize;
        if self.queues.len() <= index {
            self.queues.resize(index + 1, None);
        }
        self.queues[index] = Some(Arc::clone(queue));
    }
}

impl Shared {
    fn new(disk: Arc<dyn Disk>, dir: PathBuf, names: Names, runs: Vec<Arc<Run>>) -> Shared {
        let covered = runs.last().map_or(0, |run| run.to);
        Shared {
            disk,
            dir,
            runs: RwLock::new(Arc::new(runs)),
            remembered: Mutex::default(),
            state: Mutex::new(State {
                names,
                queues: Vec::new(),
                covered,
                unsynced: Vec::new(),
                names_changed: true,
                names_moved: false,
                since_snapshot: 0,
                snapshot_wanted: false,
                damaged: false,
                log_min: 0,
            }),
            leftovers: AtomicBool::new(true),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no code panics while it writes runs")
    }

    fn runs(&self) -> Arc<Vec<Arc<Run>>> {
        let runs = self.runs.read();
        Arc::clone(&runs.expect("no code panics while it changes the list of runs"))
    }

    fn set_runs(&self, runs: Vec<Arc<Run>>) {
        debug_assert!(runs.is_sorted_by(|a, b| a.to == b.from));
        *self
            .runs
            .write()
            .expect("no code panics while it changes the list of runs") = Arc::new(runs);
    }

    /// Reads entries of a queue from `offset` on and below `until`, as many as one look gives: none only when the first is nowhere, or damaged,
    /// which is logged.
    pub(crate) fn read(
        &self,
        number: u32,
        offset: u64,
        until: u64,
        wait: bool,
        out: &mut Vec<Entry>,
    ) -> io::Result<()> {
        if number == 0 || offset >= until {
            return Ok(());
        }
        let runs = self.runs();
        let remembered = self.remembered().get(&number).copied();
        let start = remembered.map_or(runs.len(), |from| {
            runs.partition_point(|run| run.from < from)
        });
        // Offsets rise with the log: who reads on finds the next entry where the last one was, or behind. Who begins is mostly near the end.
        let (before, behind) = runs.split_at(start);
        for run in behind.iter().chain(before.iter().rev()) {
            match run.read(number, offset, until, wait, out) {
                Ok(false) => {}
                Ok(true) => {
                    let mut remembered = self.remembered();
                    if remembered.len() >= REMEMBERED_MAX {
                        remembered.clear();
                    }
                    remembered.insert(number, run.from);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::error!(path = %run.path.display(), %error, "consume queue entries are damaged; deleting the directory has them made again");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The first offset at or behind `offset` whose entry is there.
    pub(crate) fn next_offset(
        &self,
        number: u32,
        offset: u64,
        wait: bool,
    ) -> io::Result<Option<u64>> {
        for run in self.runs().iter() {
            if let Some(found) = run.first_from(number, offset, wait)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn remembered(&self) -> MutexGuard<'_, HashMap<u32, u64>> {
        self.remembered
            .lock()
            .expect("no code panics while it remembers a place")
    }

    /// Writes the entries of records below `until` that are in memory only, as one run. The caller knows that no entry below it is still to come.
    /// After an error all of them are still to be written.
    pub(crate) fn write(&self, table: &Table, until: u64, keep_from: u64) -> io::Result<()> {
        let mut queues = table.take_unwritten();
        queues.retain(|queue| !queue.is_deleted());
        let written = self.write_run(&mut queues, until);
        match written {
            Ok(upto) => {
                for (queue, upto) in queues.iter().zip(upto) {
                    let mut entries = queue.entries();
                    let count = upto - entries.written();
                    entries.written_until(upto, keep_from);
                    if entries.max() > upto {
                        table.list_unwritten(queue);
                    } else {
                        entries.listed = false;
                        table.retain(queue, &mut entries);
                    }
                    drop(entries);
                    table.sub_backlog(count as usize);
                }
                Ok(())
            }
            Err(error) => {
                for queue in &queues {
                    table.list_unwritten(queue);
                }
                Err(error)
            }
        }
    }

    /// Returns up to which offset the entries of each queue are in the run. Sorts the queues.
    fn write_run(&self, queues: &mut [Arc<Queue>], until: u64) -> io::Result<Vec<u64>> {
        let mut state = self.state();
        for queue in queues.iter() {
            state.number(queue);
        }
        queues.sort_unstable_by_key(|queue| queue.number());
        state.names_changed = true;
        state.names.write()?;
        let mut writer = Writer::new(&*self.disk, &self.dir)?;
        let mut upto = Vec::with_capacity(queues.len());
        let mut copied = Vec::new();
        for queue in queues.iter() {
            let from = queue.entries().written();
            upto.push(push_memory(&mut writer, queue, from, until, &mut copied)?);
        }
        if !writer.is_empty() {
            // Recovery may find an entry missing below what is covered; it belongs to the next run then.
            let to = until.max(state.covered + 1);
            let run = Arc::new(writer.finish(state.covered, to, false)?);
            state.covered = to;
            state.since_snapshot += run.entries;
            state.unsynced.push(Arc::clone(&run.file));
            let mut runs = (*self.runs()).clone();
            runs.push(run);
            self.set_runs(runs);
        }
        Ok(upto)
    }

    /// Makes everything that was written survive loss of power.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.names_changed {
            state.names.sync()?;
            state.names_changed = false;
        }
        if state.names_moved {
            self.disk.sync_dir(&self.dir)?;
            state.names_moved = false;
        }
        if !state.unsynced.is_empty() {
            for file in &state.unsynced {
                file.sync_data()?;
            }
            self.disk.sync_dir(&self.dir)?;
            state.unsynced.clear();
        }
        Ok(())
    }

    /// What may be done once the checkpoint says that everything below `position` is synced. Errors are logged: nothing depends on it.
    pub(crate) fn tidy(&self, table: &Table, position: u64, closing: bool) {
        let mut state = self.state();
        debug_assert!(state.covered <= position);
        let due = state.since_snapshot >= SNAPSHOT_ENTRIES.max(state.queues.len() as u64);
        if (due || state.snapshot_wanted || (closing && state.since_snapshot > 0))
            && let Err(error) = self.snapshot(&mut state)
        {
            tracing::warn!(%error, "the snapshot of consume queues could not be written; the next start reads more");
        }
        if closing {
            return;
        }
        if state.names.is_mostly_dead()
            && let Err(error) = self.compact_names(&mut state)
        {
            tracing::warn!(%error, "the file of queue names could not be compacted; the next checkpoint tries again");
        }
        if !state.damaged
            && let Err(error) = self.merge(&state)
        {
            tracing::warn!(%error, "consume queue runs could not be merged");
            state.damaged = error.kind() == io::ErrorKind::InvalidData;
        }
        drop(state);
        if self.leftovers.load(Ordering::Relaxed) {
            match table.files.remove_some() {
                Ok(more) => self.leftovers.store(more, Ordering::Relaxed),
                Err(error) => {
                    tracing::warn!(%error, "files of single consume queues could not be removed");
                    self.leftovers.store(false, Ordering::Relaxed);
                }
            }
        }
    }

    /// Whether there is work for [`Shared::tidy`] without new entries.
    pub(crate) fn has_leftovers(&self) -> bool {
        self.leftovers.load(Ordering::Relaxed)
    }

    fn snapshot(&self, state: &mut State) -> io::Result<()> {
        let queues = state.queues.iter().flatten();
        let snapshot = Snapshot {
            covered: state.covered,
            log_min: state.log_min,
            queues: queues
                .map(|queue| {
                    let entries = queue.entries();
                    let written = entries.written();
                    (queue.number(), entries.min.min(written), written)
                })
                .collect(),
        };
        snapshot.write(&*self.disk, &self.dir)?;
        state.since_snapshot = 0;
        state.snapshot_wanted = false;
        Ok(())
    }

    /// Merges neighbours of about one size, the smallest first. Everything written must be synced.
    fn merge(&self, state: &State) -> io::Result<()> {
        let runs = self.runs();
        let Some(at) = mergeable(&runs.iter().map(|run| run.entries).collect::<Vec<_>>()) else {
            return Ok(());
        };
        let inputs = &runs[at..at + MERGE_RUNS];
        let mut writer = Writer::new(&*self.disk, &self.dir)?;
        let mut scans: Vec<_> = inputs.iter().map(Run::scan).collect();
        let mut heads = Vec::with_capacity(scans.len());
        for scan in &mut scans {
            heads.push(scan.next()?);
        }
        let first = |heads: &[Option<Slot>]| {
            let present = heads.iter().enumerate();
            present
                .filter_map(|(index, head)| head.map(|slot| (slot.key(), index)))
                .min()
        };
        while let Some((_, index)) = first(&heads) {
            let next = scans[index].next()?;
            if let Some(slot) = std::mem::replace(&mut heads[index], next)
                && state.queue(slot.number).is_some()
            {
                writer.push(&slot)?;
            }
        }
        let (from, to) = (inputs[0].from, inputs[MERGE_RUNS - 1].to);
        let merged = writer.finish(from, to, true)?;
        self.disk.sync_dir(&self.dir)?;
        let mut list = (*runs).clone();
        list.splice(at..at + MERGE_RUNS, [Arc::new(merged)]);
        self.set_runs(list);
        for run in inputs {
            self.disk.remove(&run.path)?;
        }
        Ok(())
    }

    /// Moves the first offsets of queues behind the records that are gone from the log. True when a run holds none but such.
    pub(crate) fn expire(&self, log_min: u64) -> io::Result<bool> {
        let mut state = self.state();
        if log_min > state.log_min {
            let runs = self.runs();
            for run in runs.iter().filter(|run| run.from < log_min) {
                let scanned = run.for_each(|slot| {
                    if let Some(queue) = state.queue(slot.number) {
                        let min = &mut queue.entries().min;
                        *min = min_behind(*min, slot, log_min);
                    }
                });
                match scanned {
                    // What cannot be read expires all the same.
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        tracing::warn!(path = %run.path.display(), %error, "consume queue entries are damaged; first offsets may be too low");
                    }
                    scanned => scanned?,
                }
            }
            state.log_min = log_min;
            state.snapshot_wanted = true;
        }
        Ok(self.runs().first().is_some_and(|run| run.to <= log_min))
    }

    /// Removes the runs that hold only what is gone from the log. A snapshot that was made behind [`Shared::expire`] must be in force.
    pub(crate) fn remove_expired(&self) -> io::Result<()> {
        let state = self.state();
        if state.snapshot_wanted {
            return Ok(());
        }
        let runs = self.runs();
        let count = runs.partition_point(|run| run.to <= state.log_min);
        self.set_runs(runs[count..].to_vec());
        for run in &runs[..count] {
            self.disk.remove(&run.path)?;
        }
        Ok(())
    }

    /// Forgets the queues of a topic.
    pub(crate) fn delete_topic(&self, name: &str, queues: &[Arc<Queue>]) -> io::Result<()> {
        let mut state = self.state();
        let named = queues.iter().filter(|queue| queue.number() != 0).count();
        state.names.delete(name, named as u64);
        state.names_changed = true;
        for queue in queues {
            if let Some(place) = state.queues.get_mut(queue.number() as usize) {
                *place = None;
            }
        }
        state.snapshot_wanted = true;
        state.names.write()
    }

    /// Replaces the file of names by one without what is deleted.
    fn compact_names(&self, state: &mut State) -> io::Result<()> {
        let State { names, queues, .. } = state;
        let live = queues.iter().flatten();
        let live = live.map(|queue| (queue.number(), &*queue.topic.name, queue.id));
        names.compact(&*self.disk, &self.dir, live)?;
        state.names_moved = true;
        self.disk.sync_dir(&self.dir)?;
        state.names_moved = false;
        Ok(())
    }

    /// Throws all entries away; the names stay. Recovery only.
    pub(crate) fn reset(&self, log_min: u64) -> io::Result<()> {
        let mut state = self.state();
        let runs = self.runs();
        self.set_runs(Vec::new());
        for run in runs.iter() {
            self.disk.remove(&run.path)?;
        }
        state.covered = log_min;
        state.log_min = log_min;
        state.unsynced.clear();
        state.snapshot_wanted = true;
        Ok(())
    }
}

/// Adds a queue's entries in memory, from an offset on, of records below `until`. Returns the offset behind them.
fn push_memory(
    writer: &mut Writer<'_>,
    queue: &Queue,
    mut offset: u64,
    until: u64,
    copied: &mut Vec<Entry>,
) -> io::Result<u64> {
    loop {
        copied.clear();
        queue
            .entries()
            .copy(offset, offset + COPY_ENTRIES as u64, copied);
        for &entry in copied.iter() {
            if entry.physical >= until {
                return Ok(offset);
            }
            writer.push(&Slot {
                number: queue.number(),
                offset,
                entry,
            })?;
            offset += 1;
        }
        if copied.len() < COPY_ENTRIES {
            return Ok(offset);
        }
    }
}

/// The first offset of a queue, once it is known that this is one of its entries.
fn min_behind(min: u64, slot: &Slot, log_min: u64) -> u64 {
    let gone = if slot.entry.is_filler() {
        // It has no record; only what lies before a queue's first message expires with it.
        slot.offset == min
    } else {
        slot.entry.physical < log_min
    };
    if gone { min.max(slot.offset + 1) } else { min }
}

/// Where the runs that are worth merging begin, given the sizes of all.
fn mergeable(entries: &[u64]) -> Option<usize> {
    let tier = |entries: u64| (entries / SMALL_RUN_ENTRIES).max(1).ilog2() / 3;
    let of_tier = |limit: u32| {
        entries.windows(MERGE_RUNS).position(|window| {
            window.iter().all(|&entries| tier(entries) <= limit)
                && window.iter().sum::<u64>() <= MERGE_ENTRIES_MAX
        })
    };
    (0..=tier(MERGE_ENTRIES_MAX)).find_map(of_tier)
}

/// Whether the store of a directory is in force.
pub(crate) fn exists(disk: &dyn Disk, dir: &Path) -> bool {
    disk.exists(&dir.join(names::NAMES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_one_size_are_merged_and_large_ones_rest() {
        assert_eq!(mergeable(&[1; 7]), None);
        assert_eq!(mergeable(&[1; 8]), Some(0));
        let mut sizes = vec![8 << 20, 1 << 20];
        sizes.extend([100; 8]);
        assert_eq!(mergeable(&sizes), Some(2));
        assert_eq!(mergeable(&[4 << 20; 20]), None);
        // A small one between larger ones does not keep them apart for ever.
        assert_eq!(
            mergeable(&[9000, 1, 9000, 1, 9000, 1, 9000, 40_000]),
            Some(0)
        );
    }

    /// However runs come, few remain.
    #[test]
    fn few_runs_remain() {
        let mut sizes: Vec<u64> = Vec::new();
        let mut most = 0;
        for round in 0u64..20_000 {
            sizes.push([1, 300, 5000, 262_144][(round % 4) as usize]);
            if let Some(at) = mergeable(&sizes) {
                let sum = sizes[at..at + MERGE_RUNS].iter().sum();
                sizes.splice(at..at + MERGE_RUNS, [sum]);
            }
            most = most.max(sizes.len());
        }
        let total: u64 = sizes.iter().sum();
        assert!(
            most as u64 <= 8 * 5 + 16 * total / MERGE_ENTRIES_MAX,
            "{most} runs of {total} entries"
        );
    }
}
