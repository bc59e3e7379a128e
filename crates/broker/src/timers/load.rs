//! The start of the timers: from the files of the last life, from those of a Java broker, or from the log alone.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;

use platform::clock::Clock;
use platform::disk::Disk;
use protocol::topic;
use storage::Store;

use super::engine::{Engine, TimerSettings, Tombstone};
use super::entry::{Entry, Mark};
use super::java;
use super::keep::{self, Keeping};
use super::mail::{Mail, Spawn};
use super::message;
use super::notes::{self, CHECK_BYTES, Manifest, PositionFile, Progress};
use super::replay::Replay;
use super::roll::Rolling;
use super::run::{Cursor, Run};
use super::timeline::Timeline;
use super::topics::Topics;

/// The directory of runs and manifest, below the root.
const DIR: &str = "timers";

/// What the timers work with.
pub(crate) struct Context<'a> {
    /// `storePathRootDir`.
    pub(crate) root: &'a Path,
    pub(crate) config_dir: &'a Path,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Arc<Store>,
    pub(crate) spawn: Spawn,
    pub(crate) settings: TimerSettings,
}

/// What the files say.
struct Found {
    manifest: Option<Manifest>,
    progress: Progress,
    epoch: u64,
    cold: Vec<Entry>,
    checks: [[u8; CHECK_BYTES]; 2],
    next_run: u64,
    /// A Java broker delivered last.
    from_java: bool,
}

pub(super) fn load(context: Context<'_>, mail: Arc<Mail>) -> io::Result<Engine> {
    let dir = context.root.join(DIR);
    let (disk, store) = (&*context.disk, &*context.store);
    let position = PositionFile::new(context.config_dir, context.disk.clone());
    let mut found = look(&context, &dir, &position)?;
    let now_ms = context.clock.now_ms();
    let mut timeline = Timeline::default();
    let mut topics = Topics::default();
    let mut orders = Vec::new();
    if let Some(manifest) = &found.manifest {
        topics = Topics::with_names(manifest.topics.clone());
        let read = open_runs(disk, &dir, manifest, &found.progress, |entry| {
            if entry.key.deletes() {
                orders.push(entry);
            } else {
                topics.count(entry.key.topic(), 1, now_ms);
            }
        });
        match read {
            Ok(cursors) => cursors.into_iter().for_each(|cursor| timeline.add(cursor)),
            Err(error) => {
                tracing::error!(%error, "a file of timers cannot be read; what waits is read from the log");
                topics.reset();
                orders.clear();
                found.manifest = None;
            }
        }
    }
    keep::sweep(disk, &dir, found.manifest.as_ref())?;
    for entry in &found.cold {
        timeline.push(*entry);
        topics.count(entry.key.topic(), 1, now_ms);
    }
    let min = store.min_offset(topic::TIMER, 0);
    let covered = found
        .manifest
        .as_ref()
        .map_or(min, |manifest| manifest.covered);
    let mut engine = Engine {
        replay: Replay::new(found.progress, found.progress.queue_offset.max(covered)),
        keeping: Keeping::new(
            covered,
            found.next_run,
            found.checks,
            context.clock.monotonic(),
        ),
        epoch: found.epoch,
        progress: found.progress,
        read_offset: covered,
        dir,
        config_dir: context.config_dir.to_owned(),
        store: context.store,
        disk: context.disk,
        clock: context.clock,
        settings: context.settings,
        mail,
        spawn: context.spawn,
        timeline,
        topics,
        tombstones: HashMap::new(),
        position,
        cold: Vec::new(),
        ready: VecDeque::new(),
        last: None,
        rolling: Rolling::default(),
        enqueued: 0,
        dequeued: 0,
        failing: false,
        paused_until: std::time::Duration::ZERO,
    };
    orders.iter().for_each(|entry| engine.remember_order(entry));
    if found.from_java {
        tracing::info!(
            queue_offset = found.progress.queue_offset,
            delivered_to_ms = found.progress.mark.due_ms,
            "timer messages of a Java broker go on here"
        );
        engine.begin_epoch()?;
        java::remove_derived(&*engine.disk, context.root)?;
    }
    Ok(engine)
}

/// Reads manifest, position and `timercheck`, and decides which of them count.
fn look(context: &Context<'_>, dir: &Path, position: &PositionFile) -> io::Result<Found> {
    let (disk, store) = (&*context.disk, &*context.store);
    let mut manifest = notes::load_manifest(disk, dir)?;
    let noted = position.load();
    let check = java::load_check(disk, context.config_dir)?;
    let mut found = Found {
        progress: Progress::START,
        epoch: 1,
        cold: Vec::new(),
        checks: [check.unwrap_or([0; CHECK_BYTES]); 2],
        next_run: manifest.as_ref().map_or(1, |manifest| manifest.next_run),
        from_java: false,
        manifest: None,
    };
    let epochs = [
        manifest.as_ref().map(|manifest| manifest.epoch),
        noted.as_ref().map(|noted| noted.epoch),
    ];
    let newest = epochs.into_iter().flatten().max().unwrap_or(0);
    if let Some(check) = check
        && manifest
            .as_ref()
            .is_none_or(|manifest| !manifest.checks.contains(&check))
        && (manifest.is_some() || noted.is_none())
    {
        found.progress = java::progress_of(&check);
        found.epoch = newest + 1;
        found.from_java = true;
        return Ok(found);
    }
    if manifest
        .as_ref()
        .is_some_and(|manifest| manifest.covered > store.max_offset(topic::TIMER, 0))
    {
        tracing::error!(
            "the timers' files are of another log, or the log lost its end; what waits is read from the log"
        );
        manifest = None;
    }
    if let Some(manifest) = &manifest {
        found.progress = manifest.progress;
        found.epoch = manifest.epoch;
        found.checks = manifest.checks;
    }
    if let Some(noted) = noted
        && noted.fits(store)
        && manifest
            .as_ref()
            .is_none_or(|manifest| manifest.epoch == noted.epoch)
    {
        found.progress = noted.progress;
        found.epoch = noted.epoch;
        found.cold = noted.cold;
    }
    found.manifest = manifest;
    Ok(found)
}

/// Opens the runs and reads them through once: what waits is counted, and damage is found before anything depends on it.
fn open_runs(
    disk: &dyn Disk,
    dir: &Path,
    manifest: &Manifest,
    progress: &Progress,
    mut waits: impl FnMut(Entry),
) -> io::Result<Vec<Cursor>> {
    let mut cursors = Vec::with_capacity(manifest.runs.len());
    for &(id, entries, lowest) in &manifest.runs {
        let run = Arc::new(Run::open(disk, dir, id, entries, lowest)?);
        let mut all = Cursor::behind(run.clone(), Mark::START)?;
        while let Some(entry) = all.peek()? {
            if entry.mark() > progress.mark && entry.physical >= progress.rolled {
                waits(entry);
            }
            all.pass();
        }
        cursors.push(Cursor::behind(run, progress.mark)?);
    }
    Ok(cursors)
}

impl Engine {
    /// Reads an order to drop a message, of which a run has only the place.
    fn remember_order(&mut self, entry: &Entry) {
        let Ok(Some(bytes)) = self.store.record_at(entry.physical) else {
            tracing::error!(
                physical = entry.physical,
                "an order to drop a timer message cannot be read; its message is delivered"
            );
            return;
        };
        match message::understand(&bytes, self.settings.precision_ms) {
            Ok(timed) => {
                let tombstone = Tombstone {
                    physical: entry.physical,
                    topic: timed.topic.into(),
                    unique_id: timed.unique_id.into(),
                };
                self.tombstones.insert(entry.key.hash(), tombstone);
            }
            Err(error) => message::complain_of(&bytes, error),
        }
    }

    /// Writes a manifest without runs, so that a position of this life counts.
    fn begin_epoch(&mut self) -> io::Result<()> {
        platform::disk::create_dir_all_synced(&*self.disk, &self.dir)?;
        let manifest = Manifest {
            epoch: self.epoch,
            next_run: self.keeping.next_run,
            covered: 0,
            progress: self.progress,
            checks: self.keeping.checks,
            runs: Vec::new(),
            topics: Vec::new(),
        };
        notes::save_manifest(&*self.disk, &self.dir, &manifest)
    }
}
