//! Compaction: of a queue's older part only the latest message of each key is kept, in files of its own.
//!
//! A compacted queue has two parts. Below an offset, its *until*, the messages that were kept lie in a [`run::Run`], under the queue offsets that they
//! always had, with gaps; from there on it is read from the log as any queue. A pass takes messages from the log into the run: it reads which
//! keys came, writes a run of what is still the latest, and puts it in force by a rename. What is in the run no longer depends on the log, so
//! it outlives the log's retention; what is not, holds the log's segments.
//!
//! Invariants: a run holds nothing that was not flushed; the log keeps what runs do not have, but for a disk that is too full.

mod load;
mod pass;
pub(crate) mod read;
mod run;
mod scan;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use platform::disk::Disk;

use crate::error::ReadError;
use crate::queue::Queue;
use crate::store::Inner;
use crate::writer;

pub(crate) use load::load;
pub(crate) use pass::compact;
pub(crate) use run::Run;

/// The directory below the root, which Java's compaction files lie in as well.
const DIR: &str = "compaction";
/// The directory of the runs in it.
const QUEUES: &str = "queues";
/// The directories of a Java broker in it.
const JAVA: [&str; 2] = ["compactionLog", "compactionCq"];

/// What bounds one call of [`crate::Store::compact`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactionLimits {
    /// Memory for the keys that one pass looks at. What does not fit is left to a pass of its own.
    pub keys_bytes_max: usize,
    /// A run is written anew when a quarter as many messages wait as it holds, or the first has waited for this long.
    pub wait_ms_max: i64,
}

/// What one call of [`crate::Store::compact`] came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompactionOutcome {
    /// Runs that were written.
    pub passes: u32,
    /// Messages that were taken from the log.
    pub taken: u64,
    /// Messages that are gone: a later one has their key, or they had no body.
    pub dropped: u64,
    /// Messages that are kept.
    pub kept: u64,
    /// Bytes of them.
    pub kept_bytes: u64,
    /// Position of the first message in the log that is visible and was left there. None when all were taken that were flushed when the call began.
    pub waits_from: Option<u64>,
}

/// Why a queue was not compacted. What was compacted before is as it was; the next call tries again.
#[derive(Debug, thiserror::Error)]
pub enum CompactionError {
    /// The files of the compacted part could not be read or written.
    #[error("compacted messages: {0}")]
    Disk(#[from] io::Error),
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log was cleaned while it was read.
    #[error("messages were removed from the log while they were compacted")]
    Removed,
    /// Writing the run anew could fill the disk.
    #[error("compacting needs {needed_bytes} bytes of disk, {free_bytes} are free")]
    NoSpace {
        /// Bytes that the new run may take, and one segment of the log.
        needed_bytes: u64,
        /// Bytes that are free.
        free_bytes: u64,
    },
    /// The store is closed, or the topic was deleted.
    #[error("the store is closed, or the topic was deleted")]
    Closed,
}

/// The compacted part of one queue.
#[derive(Debug)]
pub(crate) struct Compacted {
    dir: PathBuf,
    run: RwLock<Option<Arc<Run>>>,
    /// One pass at a time.
    pass: Mutex<()>,
}

impl Compacted {
    fn new(dir: PathBuf, run: Option<Run>) -> Compacted {
        Compacted {
            dir,
            run: RwLock::new(run.map(Arc::new)),
            pass: Mutex::default(),
        }
    }

    pub(crate) fn run(&self) -> Option<Arc<Run>> {
        self.run
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set_run(&self, run: Run) {
        *self.run.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(run));
    }
}

/// What all compacted queues share.
#[derive(Debug)]
pub(crate) struct Compaction {
    root: PathBuf,
    /// Whether any queue has a run.
    is_used: AtomicBool,
    /// Below this position the log holds no message that waits for a pass.
    released: AtomicU64,
    /// Segments are expired and wait for a pass.
    is_wanted: AtomicBool,
    /// Which directory belongs to which queue.
    dirs: Mutex<()>,
    /// Passes hold it for reading.
    running: RwLock<()>,
}

impl Compaction {
    pub(crate) fn new(root: &Path, hold: bool, is_used: bool) -> Compaction {
        Compaction {
            root: root.to_owned(),
            is_used: AtomicBool::new(is_used),
            released: AtomicU64::new(if hold { 0 } else { u64::MAX }),
            is_wanted: AtomicBool::new(false),
            dirs: Mutex::default(),
            running: RwLock::default(),
        }
    }

    /// Lets go of what lies below a position.
    pub(crate) fn release(&self, before: u64) {
        self.released.fetch_max(before, Ordering::AcqRel);
    }

    /// Whether a segment that ends at `end` waits for a pass. Remembers that somebody asked.
    pub(crate) fn holds(&self, end: u64) -> bool {
        let holds = end > self.released.load(Ordering::Acquire);
        if holds {
            self.is_wanted.store(true, Ordering::Release);
        }
        holds
    }

    /// Whether expired segments have waited for a pass since the last call.
    pub(crate) fn take_wanted(&self) -> bool {
        self.is_wanted.swap(false, Ordering::AcqRel)
    }

    /// Waits until no pass runs. They end soon when the store is being closed.
    pub(crate) fn wait_for_passes(&self) {
        drop(self.running.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn lock_dirs(&self) -> MutexGuard<'_, ()> {
        self.dirs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue_dir(&self, topic: &str, id: i32) -> PathBuf {
        queues_dir(&self.root).join(topic).join(id.to_string())
    }
}

fn queues_dir(root: &Path) -> PathBuf {
    root.join(DIR).join(QUEUES)
}

/// Forgets a topic: its queues, and what was compacted of them, a Java broker's files included.
pub(crate) fn delete_topic(inner: &Inner, name: &str) {
    // Nobody begins a pass on a topic of the same name before the files are gone.
    let _dirs = inner.compaction.lock_dirs();
    let queues = inner
        .queues
        .topic(name)
        .map(|topic| topic.queues())
        .unwrap_or_default();
    writer::delete_topic(inner, name);
    for queue in queues {
        if let Some(compacted) = queue.compacted() {
            // A pass that runs finds the queue deleted, and ends.
            drop(
                compacted
                    .pass
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner),
            );
        }
    }
    if !crate::dispatch::is_directory_name(name) {
        return;
    }
    let below = inner.compaction.root.join(DIR);
    for dir in [QUEUES, JAVA[0], JAVA[1]] {
        let dir = below.join(dir).join(name);
        if let Err(error) = remove_tree(&*inner.disk, &dir) {
            tracing::error!(topic = name, dir = %dir.display(), %error, "the compacted messages of a deleted topic could not be removed; delete the directory before a topic of this name is created");
        }
    }
}

/// Removes a directory with all that is in it; a missing one is fine.
fn remove_tree(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let entries = match disk.list(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            remove_tree(disk, &path)?;
        } else {
            disk.remove(&path)?;
        }
    }
    disk.remove_dir(dir)?;
    dir.parent().map_or(Ok(()), |parent| disk.sync_dir(parent))
}

/// The record that the commit log once held at a position, when a compacted queue has it. May wait for the disk.
pub(crate) fn record_at(inner: &Inner, physical: u64) -> Result<Option<Bytes>, ReadError> {
    if !inner.compaction.is_used.load(Ordering::Acquire) {
        return Ok(None);
    }
    for topic in inner.queues.topics() {
        for queue in topic.queues() {
            if let Some(run) = run_of(&queue)
                && let Some(found) = read::record_at(&run, physical)?
            {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// The run of a queue, when it has one.
pub(crate) fn run_of(queue: &Queue) -> Option<Arc<Run>> {
    queue.compacted()?.run()
}
