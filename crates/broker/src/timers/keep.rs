//! What outlives the process: entries in memory become runs, small runs one larger, and the manifest says how far all of it is.
//!
//! All of it is written beside the turns, one piece of work at a time, and only after the log was flushed as far as it says: after loss of power no file here is
//! ahead of the log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use platform::disk::{Disk, create_dir_all_synced};
use storage::Store;

use super::engine::{Engine, Fault, Now};
use super::entry::{Entry, Mark};
use super::java;
use super::notes::{self, CHECK_BYTES, Manifest, Progress};
use super::run::{self, Cursor, Run, Writer};
use super::timeline::{FRESH_MAX, RUNS_MAX, next_of};

/// Records that a next life reads again at most, but for those of the last moments.
const REPLAY_MAX: u64 = 256 << 10;
/// How long something is in memory only.
const COVER_INTERVAL: Duration = Duration::from_secs(600);
/// Runs that are merged into one.
const MERGE_RUNS: usize = 4;
/// A message that stands before the mark and is due after this time says that the clock was set back.
const REBASE_AFTER_MS: i64 = 1_000;
/// How long a failed writing waits for its next attempt.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// How long the flush of the log is waited for.
const FLUSH_PATIENCE: Duration = Duration::from_secs(30);
const FLUSH_LOOK: Duration = Duration::from_millis(5);

/// How far what is kept goes.
#[derive(Debug)]
pub(super) struct Keeping {
    /// What was read from below this offset of the queue is in runs.
    pub(super) covered: u64,
    pub(super) next_run: u64,
    pub(super) checks: [[u8; CHECK_BYTES]; 2],
    /// Work is under way.
    pub(super) is_busy: bool,
    /// While marks begin anew: the last that was taken since.
    rebase: Option<Mark>,
    is_dirty: bool,
    next_save: Duration,
    next_cover: Duration,
    is_failing: bool,
    not_before: Duration,
    /// What was planned before the timers were read anew does not count.
    generation: u64,
}

/// A piece of work.
pub(super) struct Plan {
    disk: Arc<dyn Disk>,
    store: Arc<Store>,
    dir: PathBuf,
    config_dir: PathBuf,
    generation: u64,
    /// Sorted entries from memory.
    frozen: Option<Arc<Vec<Entry>>>,
    /// Taken from memory and not delivered, sorted.
    cold: Vec<Entry>,
    merged: Vec<Arc<Run>>,
    /// The number of the run that comes of it.
    run: u64,
    /// What stands at or before it is delivered.
    mark: Mark,
    is_rebase: bool,
    /// With the runs that stay.
    manifest: Manifest,
    /// The log is flushed to here first.
    flush_to: u64,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Kept {
    generation: u64,
    run: io::Result<Option<Arc<Run>>>,
    froze: bool,
    merged: Vec<u64>,
    is_rebase: bool,
    manifest: Manifest,
}

impl Keeping {
    pub(super) fn new(
        covered: u64,
        next_run: u64,
        checks: [[u8; CHECK_BYTES]; 2],
        now: Duration,
    ) -> Keeping {
        Keeping {
            covered,
            next_run,
            checks,
            is_busy: false,
            rebase: None,
            is_dirty: false,
            next_save: now,
            next_cover: now + COVER_INTERVAL,
            is_failing: false,
            not_before: now,
            generation: 0,
        }
    }

    /// Something was taken from the timeline.
    pub(super) fn popped(&mut self, mark: Mark) {
        if let Some(rebase) = &mut self.rebase {
            *rebase = (*rebase).max(mark);
        }
    }

    /// What the manifest says is out of date.
    pub(super) fn dirty(&mut self) {
        self.is_dirty = true;
    }

    pub(super) fn is_behind(&self) -> bool {
        self.is_dirty || self.is_busy
    }

    /// The number of a run to be, which no other gets.
    pub(super) fn take_run_id(&mut self) -> u64 {
        self.next_run += 1;
        self.next_run - 1
    }

    /// Everything is read from the log again.
    pub(super) fn restart(&mut self) {
        self.covered = 0;
        self.rebase = None;
        self.generation += 1;
    }
}

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Write what is in memory.
    Freeze,
    /// Merge some runs.
    Merge,
    /// Put everything that waits into one run, so that marks begin anew.
    Rebase,
    /// Write how far delivery is.
    Manifest,
}

impl Engine {
    /// Begins a piece of work when there is need.
    pub(super) fn keep(&mut self, now: Now) -> Result<(), Fault> {
        if self.keeping.is_busy || now.monotonic < self.keeping.not_before || !self.replay.done {
            return Ok(());
        }
        if let Some(need) = self.need(now)? {
            self.begin(need, now);
        }
        Ok(())
    }

    /// Begins a piece of work.
    pub(super) fn begin(&mut self, need: Need, now: Now) {
        let plan = self.plan(need, now);
        self.keeping.is_busy = true;
        let mail = self.mail.clone();
        (self.spawn)(Box::new(move || mail.put_kept(plan.work())));
    }

    fn need(&mut self, now: Now) -> Result<Option<Need>, Fault> {
        if self.is_late()? {
            let next = self.timeline.peek()?;
            let is_back = next.is_some_and(|entry| entry.due_ms - now.wall_ms > REBASE_AFTER_MS);
            return Ok((is_back && self.cold.is_empty()).then_some(Need::Rebase));
        }
        let keeping = &self.keeping;
        let uncovered = self.read_offset.saturating_sub(keeping.covered);
        let is_time = uncovered > 0 && now.monotonic >= keeping.next_cover;
        if self.timeline.fresh_len() >= FRESH_MAX || uncovered >= REPLAY_MAX || is_time {
            return Ok(Some(Need::Freeze));
        }
        if self.timeline.runs().count() > RUNS_MAX {
            return Ok(Some(Need::Merge));
        }
        let is_due = keeping.is_dirty && now.monotonic >= keeping.next_save;
        Ok(is_due.then_some(Need::Manifest))
    }

    /// Everything that a piece of work needs. From here on it is independent of the turns.
    fn plan(&mut self, need: Need, now: Now) -> Plan {
        let is_rebase = need == Need::Rebase;
        if !is_rebase && !self.is_late().unwrap_or(true) {
            self.progress.queue_offset = self.read_offset;
        }
        let mut cold = self.cold.clone();
        cold.sort_unstable();
        // After loss of power, when no position counts, cold ones must not be before the mark.
        let before_cold = cold.first().map(|entry| Mark {
            due_ms: entry.due_ms,
            physical: entry.physical.saturating_sub(1),
        });
        let mark = before_cold.map_or(self.progress.mark, |before| before.min(self.progress.mark));
        let frozen = matches!(need, Need::Freeze | Need::Rebase).then(|| self.timeline.freeze());
        if frozen.is_none() {
            cold.clear();
        }
        let mut runs: Vec<Arc<Run>> = self.timeline.runs().cloned().collect();
        let merged = match need {
            Need::Rebase => std::mem::take(&mut runs),
            Need::Merge => {
                runs.sort_by_key(|run| run.entries);
                runs.drain(..MERGE_RUNS.min(runs.len())).collect()
            }
            Need::Freeze | Need::Manifest => Vec::new(),
        };
        if is_rebase {
            self.keeping.rebase = Some(Mark::START);
        }
        let keeping = &mut self.keeping;
        let run = keeping.take_run_id();
        keeping.is_dirty = false;
        keeping.next_save = now.monotonic + self.settings.save_interval;
        let check = java::check(
            now.wall_ms,
            self.settings.precision_ms,
            self.progress.queue_offset,
            &keeping.checks[1],
        );
        let covered = if frozen.is_some() {
            keeping.next_cover = now.monotonic + COVER_INTERVAL;
            self.read_offset
        } else {
            keeping.covered
        };
        let progress = Progress {
            mark: if is_rebase { Mark::START } else { mark },
            queue_offset: if is_rebase {
                self.read_offset
            } else {
                self.progress.queue_offset
            },
            rolled: self.progress.rolled,
        };
        let manifest = Manifest {
            epoch: self.epoch + u64::from(is_rebase),
            next_run: keeping.next_run,
            covered,
            progress,
            checks: [keeping.checks[1], check],
            runs: runs
                .iter()
                .map(|run| (run.id, run.entries, run.lowest))
                .collect(),
            topics: self.topics.names().to_vec(),
        };
        Plan {
            disk: self.disk.clone(),
            store: self.store.clone(),
            dir: self.dir.clone(),
            config_dir: self.config_dir.clone(),
            generation: keeping.generation,
            frozen,
            cold,
            merged,
            run,
            mark,
            is_rebase,
            manifest,
            flush_to: self.store.commit_log_max(),
        }
    }

    /// Takes over what a piece of work wrote.
    pub(super) fn installed(&mut self, kept: Kept, now: Now) {
        self.keeping.is_busy = false;
        if kept.generation != self.keeping.generation {
            return;
        }
        let mark = if kept.is_rebase {
            self.keeping.rebase.take().unwrap_or(Mark::START)
        } else {
            self.progress.mark
        };
        let cursor = kept
            .run
            .and_then(|run| run.map(|run| Cursor::behind(run, mark)).transpose());
        match cursor {
            Ok(cursor) => {
                self.timeline.replace(&kept.merged, kept.froze, cursor);
                self.keeping.covered = kept.manifest.covered;
                self.keeping.checks = kept.manifest.checks;
                if kept.is_rebase {
                    self.epoch = kept.manifest.epoch;
                    self.progress.mark = mark;
                    self.progress.queue_offset = self
                        .progress
                        .queue_offset
                        .max(kept.manifest.progress.queue_offset);
                }
                self.remove(kept.merged);
                if std::mem::replace(&mut self.keeping.is_failing, false) {
                    tracing::info!("the timers' files can be written again");
                }
            }
            Err(error) => {
                if kept.froze {
                    self.timeline.thaw();
                }
                self.keeping.not_before = now.monotonic + RETRY_INTERVAL;
                self.keeping.is_dirty = true;
                if !std::mem::replace(&mut self.keeping.is_failing, true) {
                    tracing::error!(%error, dir = %self.dir.display(), "the timers' files cannot be written; what they would hold stays in memory and in the log. Trying again every 10 s");
                }
            }
        }
    }

    /// Removes the files of runs that are in no manifest any more.
    pub(super) fn remove(&self, ids: Vec<u64>) {
        if ids.is_empty() {
            return;
        }
        let (disk, dir) = (self.disk.clone(), self.dir.clone());
        (self.spawn)(Box::new(move || {
            for id in ids {
                if let Err(error) = disk.remove(&run::path(&dir, id)) {
                    tracing::warn!(%error, id, "a file of timers that is not needed any more could not be removed");
                }
            }
        }));
    }

    /// Writes everything, at the end of a life. Waits for the disk.
    pub(super) fn keep_all(&mut self) -> io::Result<()> {
        if !self.replay.done {
            return Ok(());
        }
        let now = self.now();
        let is_late = self.is_late()?;
        let need = match is_late {
            true if self.cold.is_empty() => Need::Rebase,
            true => Need::Manifest,
            false => Need::Freeze,
        };
        let kept = self.plan(need, now).work();
        let failed = match &kept.run {
            Ok(_) => Ok(()),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        self.installed(kept, now);
        failed
    }
}

impl Plan {
    /// Does the work.
    fn work(mut self) -> Kept {
        let run = self.write();
        Kept {
            generation: self.generation,
            run,
            froze: self.frozen.is_some(),
            merged: self.merged.iter().map(|run| run.id).collect(),
            is_rebase: self.is_rebase,
            manifest: self.manifest,
        }
    }

    fn write(&mut self) -> io::Result<Option<Arc<Run>>> {
        create_dir_all_synced(&*self.disk, &self.dir)?;
        let run = self.write_run()?.map(Arc::new);
        wait_for_flush(&self.store, self.flush_to)?;
        if let Some(run) = &run {
            self.manifest.runs.push((run.id, run.entries, run.lowest));
        }
        publish(&*self.disk, &self.dir, &self.config_dir, &self.manifest)?;
        Ok(run)
    }

    /// Writes what is in memory and in the merged runs, in order, without what is delivered or stored anew.
    fn write_run(&self) -> io::Result<Option<Run>> {
        if self.frozen.is_none() && self.merged.is_empty() {
            return Ok(None);
        }
        let cursors = self
            .merged
            .iter()
            .map(|run| Cursor::behind(run.clone(), self.mark));
        let mut cursors = cursors.collect::<io::Result<Vec<_>>>()?;
        let frozen = self.frozen.iter().flat_map(|frozen| frozen.iter());
        let mut memory = merge_sorted(frozen, self.cold.iter()).peekable();
        let mut of_runs = next_of(&mut cursors)?;
        let mut writer = Writer::begin(&*self.disk, &self.dir, self.run)?;
        loop {
            let entry = match (memory.peek(), of_runs) {
                (Some(entry), Some(other)) if **entry <= other => memory.next().copied(),
                (Some(_), None) => memory.next().copied(),
                (_, Some(other)) => {
                    of_runs = next_of(&mut cursors)?;
                    Some(other)
                }
                (None, None) => break,
            };
            if let Some(entry) =
                entry.filter(|entry| entry.physical >= self.manifest.progress.rolled)
            {
                writer.push(&entry)?;
            }
        }
        writer.finish()
    }
}

/// Puts a manifest in force, and tells a Java broker of it.
pub(super) fn publish(
    disk: &dyn Disk,
    dir: &Path,
    config_dir: &Path,
    manifest: &Manifest,
) -> io::Result<()> {
    notes::save_manifest(disk, dir, manifest)?;
    if let Err(error) = java::write_check(disk, config_dir, &manifest.checks[1]) {
        tracing::warn!(%error, "timercheck cannot be written; a Java broker would not know how far timer messages are delivered");
    }
    Ok(())
}

/// Two sorted lists as one.
fn merge_sorted<'a>(
    one: impl Iterator<Item = &'a Entry>,
    other: impl Iterator<Item = &'a Entry>,
) -> impl Iterator<Item = &'a Entry> {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    std::iter::from_fn(move || match (one.peek(), other.peek()) {
        (Some(a), Some(b)) if a <= b => one.next(),
        (_, Some(_)) => other.next(),
        (_, None) => one.next(),
    })
}

/// Waits until the log is flushed to a position.
pub(super) fn wait_for_flush(store: &Store, position: u64) -> io::Result<()> {
    let looks = FLUSH_PATIENCE.as_millis() / FLUSH_LOOK.as_millis();
    let state = store.flush_state();
    for _ in 0..looks {
        if store.flushed() >= position {
            return Ok(());
        }
        if state.borrow().failed || store.write_state() == storage::WriteState::Closed {
            break;
        }
        store.request_flush();
        std::thread::sleep(FLUSH_LOOK);
    }
    Err(io::Error::other(
        "the disk has not confirmed what was delivered",
    ))
}

/// Removes files of a directory of timers that no manifest names: a crash left them.
pub(super) fn sweep(disk: &dyn Disk, dir: &Path, manifest: Option<&Manifest>) -> io::Result<()> {
    if !disk.exists(dir) {
        return Ok(());
    }
    for entry in disk.list(dir)? {
        let is_needed = |id| {
            manifest.is_some_and(|manifest| manifest.runs.iter().any(|(other, ..)| *other == id))
        };
        if run::id_of(&entry.name).is_some_and(|id| !is_needed(id)) {
            disk.remove(&dir.join(&entry.name))?;
        }
    }
    Ok(())
}
