//! Finding the queues on the disk when the store opens, and cutting what lies beyond what is known to be good.

use std::io;
use std::path::Path;
use std::sync::Arc;

use platform::disk::{File, OpenMode};

use super::files::{Files, read_fully};
use super::table::{Table, Topic};
use super::units::{Found, Units};
use super::{ENTRY_BYTES, Entry, Queue};
use crate::commitlog::segments::file_name;
use crate::error::OpenError;

/// Puts every queue below the files' directory into the table.
///
/// Entries are trusted when their record lies below `trusted`; with `cut`, everything else is removed from the files. Returns the sum of
/// the queues' offsets, by which the caller knows whether all are there.
pub(crate) fn load(
    table: &Table,
    trusted: u64,
    log_min: u64,
    cut: bool,
) -> Result<Loaded, OpenError> {
    let files = &table.files;
    let disk = files.disk();
    disk.create_dir_all(files.dir())
        .map_err(OpenError::disk("creating", files.dir()))?;
    let mut loaded = Loaded {
        offsets_total: 0,
        end: 0,
    };
    let trust = Trust {
        trusted,
        log_min,
        cut,
    };
    load_dir(table, files.dir(), Kind::Simple, &trust, &mut loaded)?;
    if disk.exists(files.batch_dir()) {
        load_dir(table, files.batch_dir(), Kind::Batch, &trust, &mut loaded)?;
    }
    Ok(loaded)
}

/// What is believed of files.
struct Trust {
    trusted: u64,
    log_min: u64,
    cut: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Simple,
    Batch,
}

fn load_dir(
    table: &Table,
    all: &Path,
    kind: Kind,
    trust: &Trust,
    loaded: &mut Loaded,
) -> Result<(), OpenError> {
    let files = &table.files;
    let disk = files.disk();
    for topic_entry in disk.list(all).map_err(OpenError::disk("listing", all))? {
        if !topic_entry.is_dir {
            continue;
        }
        let topic_dir = all.join(&topic_entry.name);
        let mut topic: Option<Arc<Topic>> = None;
        for queue_entry in disk
            .list(&topic_dir)
            .map_err(OpenError::disk("listing", &topic_dir))?
        {
            let Some(id) = queue_entry
                .name
                .parse::<i32>()
                .ok()
                .filter(|id| queue_entry.is_dir && *id >= 0)
            else {
                continue;
            };
            let dir = topic_dir.join(&queue_entry.name);
            let failed = || OpenError::disk("reading consume queue", &dir);
            let units = Units::new(Arc::clone(disk), dir.clone(), files.batch_file_units());
            let found = match kind {
                Kind::Simple => load_queue(files, &dir, trust.trusted, trust.cut),
                Kind::Batch => units.load(trust.trusted, trust.cut),
            };
            let Some(found) = found.map_err(failed())? else {
                continue;
            };
            let topic = topic.get_or_insert_with(|| table.topic_or_create(&topic_entry.name));
            if !has_kind(table, topic, kind) {
                break;
            }
            let queue = Arc::new(Queue::new(Arc::clone(topic), id, found.first, found.max));
            if kind == Kind::Batch {
                queue.units_or(|| units);
            }
            correct_min(table, &queue, trust.log_min).map_err(failed())?;
            loaded.offsets_total += found.max;
            loaded.end = loaded.end.max(found.end);
            table.insert(topic, &queue);
        }
    }
    Ok(())
}

/// The directory of a topic's queues says how they are laid out. Where both kinds are found, those that Java would read go on.
fn has_kind(table: &Table, topic: &Arc<Topic>, kind: Kind) -> bool {
    match kind {
        Kind::Batch => {
            let is_batch = table.make_batch(&topic.name);
            if !is_batch {
                tracing::warn!(
                    topic = &*topic.name,
                    "a topic has consume queues of both kinds; those in batchconsumequeue are left alone"
                );
            }
            is_batch
        }
        Kind::Simple if topic.is_batch() => {
            tracing::warn!(
                topic = &*topic.name,
                "a topic with queue.type=BatchCQ has plain consume queues; it goes on with them, and batches are stored as single messages"
            );
            table.make_simple(&topic.name);
            true
        }
        Kind::Simple => true,
    }
}

/// What all queues together say.
pub(crate) struct Loaded {
    /// Sum of the offsets behind each queue's last entry, by which the caller knows whether all are there.
    pub(crate) offsets_total: u64,
    /// Position behind the newest record that has an entry.
    pub(crate) end: u64,
}

/// Where a queue begins and ends in its files; None when it has none.
fn load_queue(files: &Files, dir: &Path, trusted: u64, cut: bool) -> io::Result<Option<Found>> {
    let disk = files.disk();
    let mut starts = files.starts(dir)?;
    drop_before_hole(&mut starts, files.file_entries());
    while let Some(&start) = starts.last() {
        let path = dir.join(file_name(start * ENTRY_BYTES));
        let file = disk.open(&path, OpenMode::ReadWrite)?;
        let len = file.len()?;
        let count = count_trusted(&*file, len.min(files.file_bytes()) / ENTRY_BYTES, trusted)?;
        if count == 0 && (cut || starts.len() > 1) {
            if cut {
                drop(file);
                disk.remove(&path)?;
            }
            starts.pop();
            if starts.is_empty() {
                return Ok(None);
            }
            continue;
        }
        let mut last = [0; ENTRY_BYTES as usize];
        let mut end = 0;
        if count > 0 {
            read_fully(&*file, &mut last, (count - 1) * ENTRY_BYTES, true)?;
            end = Entry::decode(&last)
                .filter(|last| !last.is_filler())
                .map_or(0, |last| last.end());
        }
        if cut {
            // Shrinking and extending again leaves zeros, however much was there.
            file.set_len(count * ENTRY_BYTES)?;
            file.set_len(files.file_bytes())?;
        } else if len < files.file_bytes() {
            file.set_len(files.file_bytes())?;
        }
        return Ok(Some(Found {
            first: starts[0],
            max: start + count,
            end,
        }));
    }
    Ok(None)
}

/// A hole between two files can only be left by a removal that died half way: what lies before it is expired.
pub(super) fn drop_before_hole(starts: &mut Vec<u64>, each: u64) {
    if let Some(hole) = (1..starts.len())
        .rev()
        .find(|&index| starts[index] - starts[index - 1] != each)
    {
        starts.drain(..hole);
    }
}

/// How many entries from the front of a file are good.
fn count_trusted(file: &dyn File, entries: u64, trusted: u64) -> io::Result<u64> {
    let mut bytes = [0; ENTRY_BYTES as usize];
    count_good(entries, |index| {
        let read = read_fully(file, &mut bytes, index * ENTRY_BYTES, true)?;
        let entry = Entry::decode(&bytes[..read]);
        Ok(entry.is_some_and(|entry| entry.is_filler() || entry.end() <= trusted))
    })
}

/// How many of `count` are good, from the first on. Good ones are a prefix: offsets only grow, and what follows is unwritten or too new.
pub(super) fn count_good(
    count: u64,
    mut is_good: impl FnMut(u64) -> io::Result<bool>,
) -> io::Result<u64> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if is_good(middle)? {
            low = middle + 1
        } else {
            high = middle
        }
    }
    Ok(low)
}

/// Moves a queue's first offset to the first entry whose record is still in the log.
pub(crate) fn correct_min(table: &Table, queue: &Arc<Queue>, log_min: u64) -> io::Result<()> {
    let (mut low, mut high) = {
        let entries = queue.entries();
        (entries.min, entries.max())
    };
    let mut first_look = true;
    while low < high {
        // Mostly nothing has expired.
        let middle = if first_look {
            low
        } else {
            low + (high - low) / 2
        };
        let is_first = first_look;
        first_look = false;
        let found = entry_at(table, queue, middle, true)?;
        if is_first
            && found.is_none()
            && let Some(next) = entry_at(table, queue, middle + 1, true)?
            && next.physical >= log_min
        {
            // One damaged entry is not an expired one; whoever reads it is told.
            return Ok(());
        }
        match found {
            Some(entry) if !entry.is_filler() && entry.physical >= log_min => high = middle,
            _ => low = middle + 1,
        }
    }
    let mut entries = queue.entries();
    entries.min = entries.min.max(low);
    Ok(())
}

/// One entry, from memory or file.
pub(crate) fn entry_at(
    table: &Table,
    queue: &Arc<Queue>,
    offset: u64,
    wait: bool,
) -> io::Result<Option<Entry>> {
    let mut found = Vec::with_capacity(1);
    copy_entries(table, queue, offset, offset + 1, wait, &mut found)?;
    Ok(found.first().copied())
}

/// Entries `offset..until`, from file or memory, as many as one look gives: none at all only when they are nowhere.
pub(crate) fn copy_entries(
    table: &Table,
    queue: &Arc<Queue>,
    offset: u64,
    until: u64,
    wait: bool,
    out: &mut Vec<Entry>,
) -> io::Result<()> {
    let first = {
        let entries = queue.entries();
        if offset >= entries.first() {
            entries.copy(offset, until, out);
            return Ok(());
        }
        entries.first()
    };
    let until = until.min(first);
    if table.shared().is_none() {
        table
            .files
            .read(queue, offset, until, u64::MAX, wait, out)?;
        if !out.is_empty() {
            return Ok(());
        }
    }
    // The shared store may have come into force meanwhile, and the files gone.
    match table.shared() {
        Some(shared) => shared.read(queue.number(), offset, until, wait, out),
        None => Ok(()),
    }
}
