//! Finding the compacted parts of queues when the store opens: which files are whole, which are left from a pass that did not end, which must be
//! made again, and what a Java broker has compacted.

use std::io;
use std::path::Path;
use std::sync::Arc;

use platform::disk::{self, Disk, OpenMode};
use protocol::record::{self, CheckBody};

use super::run::{self, ENTRIES, RECORDS, Run, Writer};
use super::scan::Scan;
use super::{Compacted, DIR, JAVA, queues_dir};
use crate::dispatch;
use crate::error::OpenError;
use crate::queue::{Queue, Table};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// Queue offsets that queues moved on, since their compacted part goes further than what is left of their entries.
    pub(crate) offsets_added: u64,
    /// Whether any queue has a run.
    pub(crate) is_used: bool,
}

/// Gives the queues of the table their compacted parts. Queues that have nothing else are put into the table.
pub(crate) fn load(disk: &dyn Disk, root: &Path, table: &Table) -> Result<Loaded, OpenError> {
    let mut loaded = Loaded::default();
    let dir = queues_dir(root);
    let failed = || OpenError::disk("reading compacted messages in", &dir);
    import(disk, root, &dir).map_err(failed())?;
    for (topic, id) in queues_in(disk, &dir).map_err(failed())? {
        let queue_dir = dir.join(&topic).join(id.to_string());
        let Some(run) = open(disk, &queue_dir, &topic, id)
            .map_err(OpenError::disk("reading compacted messages in", &queue_dir))?
        else {
            continue;
        };
        let queue = table.queue_or_create(&topic, id);
        loaded.is_used = true;
        loaded.offsets_added += move_on(table, &queue, run.until)
            .map_err(OpenError::disk("reading compacted messages in", &queue_dir))?;
        queue.compacted_or(|| Compacted::new(queue_dir, Some(run)));
    }
    Ok(loaded)
}

/// Topics and queue numbers that have a directory below `dir`.
fn queues_in(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<(String, i32)>> {
    let list = |dir: &Path| match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed,
    };
    let mut queues = Vec::new();
    for topic in list(dir)? {
        if !topic.is_dir || !dispatch::is_directory_name(&topic.name) {
            continue;
        }
        for queue in list(&dir.join(&topic.name))? {
            let id = queue.name.parse::<i32>().ok();
            // What is written otherwise, as `+1` or `01`, is somebody else's.
            let id = id.filter(|id| queue.is_dir && *id >= 0 && id.to_string() == queue.name);
            queues.extend(id.map(|id| (topic.name.clone(), id)));
        }
    }
    Ok(queues)
}

/// A queue goes on behind its compacted part, also when its entries and the log were lost or cut before: an offset is given once.
fn move_on(table: &Table, queue: &Arc<Queue>, until: u64) -> io::Result<u64> {
    let (max, written) = {
        let entries = queue.entries();
        (entries.max(), entries.written())
    };
    if max >= until {
        return Ok(0);
    }
    if max > 0 {
        tracing::warn!(
            topic = &*queue.topic.name,
            queue_id = queue.id,
            from = max,
            to = until,
            "a queue ends before its compacted part does; it goes on behind that"
        );
    }
    table.sub_backlog((max - written) as usize);
    if table.shared().is_none() {
        // Nobody reads these entries any more, and files have no holes.
        table.files.remove_queue(queue)?;
    }
    queue.begin_at(until);
    Ok(until - max)
}

/// The newest run that is whole, or can be made whole. Everything else in the directory goes.
fn open(disk: &dyn Disk, dir: &Path, topic: &str, id: i32) -> io::Result<Option<Run>> {
    let mut run = None;
    for sequence in sequences(disk, dir, ENTRIES)? {
        run = Run::open(disk, dir, sequence)?;
        if run.is_some() {
            break;
        }
    }
    if run.is_none() {
        for sequence in sequences(disk, dir, RECORDS)? {
            run = rebuild(disk, dir, sequence, topic, id)?;
            if run.is_some() {
                break;
            }
        }
    }
    let Some(run) = run else {
        return Ok(None);
    };
    remove_others(disk, dir, Some(run.sequence))?;
    Ok(Some(run))
}

/// Numbers of the files with a suffix, the newest first.
fn sequences(disk: &dyn Disk, dir: &Path, suffix: &str) -> io::Result<Vec<u64>> {
    let files = disk.list(dir)?;
    let mut found: Vec<u64> = files
        .iter()
        .filter_map(|file| file.name.strip_suffix(suffix)?.strip_suffix('.'))
        .filter_map(|number| number.parse().ok())
        .collect();
    found.sort_unstable_by(|one, other| other.cmp(one));
    Ok(found)
}

/// Removes the files of other runs than one, and of passes that did not end.
pub(super) fn remove_others(disk: &dyn Disk, dir: &Path, keep: Option<u64>) -> io::Result<()> {
    let kept = keep.map(|sequence| format!("{sequence:020}."));
    for file in disk.list(dir)? {
        let is_kept = kept
            .as_ref()
            .is_some_and(|kept| file.name.starts_with(&**kept))
            && !file.name.ends_with(run::UNFINISHED);
        let is_ours = [ENTRIES, RECORDS, run::UNFINISHED]
            .iter()
            .any(|suffix| file.name.ends_with(suffix));
        if !file.is_dir && is_ours && !is_kept {
            disk.remove(&dir.join(&file.name))?;
        }
    }
    Ok(())
}

/// Makes the entries of a file of records again. The run ends behind the last record that is whole: what the log still has behind it is compacted
/// once more. None when there is no whole record.
fn rebuild(
    disk: &dyn Disk,
    dir: &Path,
    sequence: u64,
    topic: &str,
    id: i32,
) -> io::Result<Option<Run>> {
    let file = disk.open(&run::path(dir, sequence, RECORDS), OpenMode::Read)?;
    let bytes = file.len()?;
    let mut scan = Scan::new(file, bytes);
    let mut writer = Writer::of_entries(disk, dir, sequence)?;
    let mut end = 0;
    while let Some((position, bytes)) = scan.next()? {
        let Ok(record) = record::decode(&bytes, CheckBody::No) else {
            break;
        };
        end = position + bytes.len() as u64;
        if (record.topic, record.queue_id) == (topic, id) {
            writer.push_at(&record, &bytes, position)?;
        }
    }
    let Some(until) = writer.next_offset() else {
        return Ok(None);
    };
    tracing::error!(
        topic,
        queue_id = id,
        messages = writer.count(),
        lost_bytes = bytes - end,
        "the entries of a compacted queue are missing or damaged; they were made again from its records"
    );
    writer.finish(until).map(Some)
}

/// Takes over what a Java broker has compacted, for queues that have no directory here. Its files stay as they are.
fn import(disk: &dyn Disk, root: &Path, dir: &Path) -> io::Result<()> {
    let java = root.join(DIR).join(JAVA[0]);
    for (topic, id) in queues_in(disk, &java)? {
        let to = dir.join(&topic).join(id.to_string());
        if disk.exists(&to) && !sequences(disk, &to, ENTRIES)?.is_empty() {
            continue;
        }
        let from = java.join(&topic).join(id.to_string());
        disk::create_dir_all_synced(disk, &to)?;
        remove_others(disk, &to, None)?;
        let mut writer = Writer::begin(disk, &to, 1)?;
        for file in disk.list(&from)? {
            if file.is_dir || file.name.len() != 20 || file.name.parse::<u64>().is_err() {
                continue;
            }
            let file = disk.open(&from.join(&file.name), OpenMode::Read)?;
            let bytes = file.len()?;
            let mut scan = Scan::new(file, bytes);
            // A filler, or zeros, end each file.
            while let Some((_, bytes)) = scan.next()? {
                if let Ok(record) = record::decode(&bytes, CheckBody::No)
                    && (record.topic, record.queue_id) == (&*topic, id)
                {
                    writer.push(&record, &bytes)?;
                }
            }
        }
        let messages = writer.count();
        let until = writer.next_offset().unwrap_or(0);
        writer.finish(until)?;
        tracing::info!(
            topic,
            queue_id = id,
            messages,
            "took over the compacted messages of a Java broker"
        );
    }
    Ok(())
}
