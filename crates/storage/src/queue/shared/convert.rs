//! From files of single queues to the shared store, and back.
//!
//! Either way the file `names` decides which of the two is in force: it appears when everything else of the shared store is synced, and goes when
//! the queues' own files are. What the process dies over is thrown away by the next start.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use platform::disk::{Disk, create_dir_all_synced};

use super::names::{NAMES, Names, Snapshot};
use super::run::{Slot, Writer};
use super::{COPY_ENTRIES, Shared, push_memory};
use crate::commitlog::segments::Segments;
use crate::queue::files::remove_flat_dir;
use crate::queue::{Entry, Queue, Table};

/// Moves the entries of all queues into a shared store, as one run, and puts it in force. Those of records below `until` that are in memory only
/// go with them. After an error the files are in force as before.
///
/// Until the next checkpoint a start makes the entries again from the log.
pub(crate) fn to_shared(table: &Table, until: u64, keep_from: u64) -> io::Result<()> {
    let began = Instant::now();
    let disk = table.files.disk();
    let dir = table.shared_dir();
    if disk.exists(dir) {
        remove_flat_dir(&**disk, dir)?;
    }
    create_dir_all_synced(&**disk, dir)?;
    let shared = Shared::new(
        Arc::clone(disk),
        dir.to_owned(),
        Names::create(&**disk, dir)?,
        Vec::new(),
    );
    let topics = table.topics();
    let queues: Vec<Arc<Queue>> = topics.iter().flat_map(|topic| topic.queues()).collect();
    let filled = fill(table, &shared, &queues, until);
    let moved = match filled {
        Ok(moved) => moved,
        Err(error) => {
            for queue in &queues {
                queue.set_number(0);
            }
            return Err(error);
        }
    };
    let entries: u64 = shared.runs().iter().map(|run| run.entries).sum();
    table.set_shared(shared);
    for (queue, upto) in queues.iter().zip(moved) {
        let mut in_memory = queue.entries();
        let count = upto - in_memory.written();
        in_memory.written_until(upto, keep_from);
        drop(in_memory);
        table.sub_backlog(count as usize);
    }
    tracing::info!(
        queues = queues.len(),
        limit = table.files_max(),
        entries,
        milliseconds = began.elapsed().as_millis() as u64,
        "there are more queues than maxFileQueueNum: the consume queues were moved to the shared store"
    );
    Ok(())
}

/// Writes the run and the names, and commits. Returns up to which offset the entries of each queue are there.
fn fill(table: &Table, shared: &Shared, queues: &[Arc<Queue>], until: u64) -> io::Result<Vec<u64>> {
    let mut state = shared.state();
    let mut writer = Writer::new(&*shared.disk, &shared.dir)?;
    let mut moved = Vec::with_capacity(queues.len());
    let mut copied = Vec::new();
    for queue in queues {
        let number = state.number(queue);
        let (min, written) = {
            let entries = queue.entries();
            (entries.min, entries.written())
        };
        let mut offset = min;
        while offset < written {
            copied.clear();
            table
                .files
                .read(queue, offset, written, u64::MAX, true, &mut copied)?;
            if copied.is_empty() {
                // A damaged entry stays what it is, none; it does not take those behind it along.
                copied.push(Entry::FILLER);
            }
            for &entry in &copied {
                let slot = Slot {
                    number,
                    offset,
                    entry,
                };
                writer.push(&slot)?;
                offset += 1;
            }
        }
        moved.push(push_memory(
            &mut writer,
            queue,
            written,
            until,
            &mut copied,
        )?);
    }
    if !writer.is_empty() {
        shared.set_runs(vec![Arc::new(writer.finish(0, until, true)?)]);
        state.covered = until;
    }
    // The run does not tell of queues whose messages are all gone.
    let spans = queues.iter().zip(&moved).map(|(queue, &upto)| {
        let min = queue.entries().min;
        (queue.number(), min.min(upto), upto)
    });
    let snapshot = Snapshot {
        covered: state.covered,
        log_min: 0,
        queues: spans.collect(),
    };
    snapshot.write(&*shared.disk, &shared.dir)?;
    state.names.commit(&*shared.disk, &shared.dir)?;
    state.names_changed = false;
    Ok(moved)
}

/// Gives every queue files of its own again, and removes the shared store. Recovery only, before the log is read.
pub(crate) fn to_files(
    table: &Table,
    log: &Segments,
    shared: &Shared,
    queues: &[Arc<Queue>],
) -> io::Result<()> {
    let began = Instant::now();
    // What lies there is from before the store was converted.
    while table.files.remove_some()? {}
    let mut copied = Vec::new();
    let mut moved = 0;
    for queue in queues {
        let (min, max) = {
            let entries = queue.entries();
            (entries.min, entries.max())
        };
        if min == max && max > 0 {
            // Its messages are gone; a last entry keeps the count.
            table.files.write(queue, max - 1, &[Entry::FILLER], log)?;
        }
        let mut offset = min;
        while offset < max {
            copied.clear();
            let until = max.min(offset + COPY_ENTRIES as u64);
            shared.read(queue.number(), offset, until, true, &mut copied)?;
            if copied.is_empty() {
                copied.push(Entry::FILLER);
            }
            if until < max {
                table.files.keep_whole(queue, &mut copied);
            }
            table.files.write(queue, offset, &copied, log)?;
            offset += copied.len() as u64;
            moved += copied.len();
        }
        queue.set_number(0);
    }
    table.files.sync()?;
    remove(&**table.files.disk(), table.shared_dir())?;
    tracing::info!(
        queues = queues.len(),
        limit = table.files_max(),
        entries = moved,
        milliseconds = began.elapsed().as_millis() as u64,
        "the consume queues have files of their own again: there are few enough for maxFileQueueNum"
    );
    Ok(())
}

/// Takes the shared store of a directory out of force, for good, and removes it.
pub(crate) fn remove(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    disk.remove(&dir.join(NAMES))?;
    disk.sync_dir(dir)?;
    remove_flat_dir(disk, dir)
}
