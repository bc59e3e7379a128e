//! The files of consume queues: 20-byte entries, `consumequeue/<topic>/<queue>/<start>`, and a bounded number of open descriptors. Those of batch topics
//! lie elsewhere and are laid out otherwise ([`Units`]).

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use platform::disk::{Disk, File, OpenMode};

use super::units::{UNIT_BYTES, Units};
use super::{ENTRY_BYTES, Entry, Queue, Topic};
use crate::commitlog::segments::{Segments, file_name};
use crate::config::Config;

/// Entries read at once at most, when a range is read from a file.
const READ_ENTRIES_MAX: u64 = 1024;

/// Topics whose files are removed at once when the shared store has taken over: mostly less than a second.
const REMOVED_TOPICS: usize = 1000;

/// Access to the files. Any thread may read; one thread at a time writes.
#[derive(Debug)]
pub(crate) struct Files {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file_entries: u64,
    /// Those of batch topics.
    batch_dir: PathBuf,
    batch_file_units: u64,
    open_max: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    by_queue: HashMap<Key, Cached>,
    uses: u64,
    /// Files written since the last sync, and directories with new names.
    unsynced: BTreeSet<PathBuf>,
    unsynced_dirs: BTreeSet<PathBuf>,
}

/// The address of the queue object stands for the queue; the object is kept alive by the entry beside it.
#[derive(Debug, PartialEq, Eq, Hash, Clone, Copy)]
struct Key {
    queue: usize,
    start: u64,
}

#[derive(Debug)]
struct Cached {
    queue: Arc<Queue>,
    file: Arc<dyn File>,
    used: u64,
}

impl Files {
    pub(crate) fn new(disk: Arc<dyn Disk>, root: &Path, config: &Config) -> Files {
        Files {
            disk,
            dir: root.join("consumequeue"),
            file_entries: config.queue_file_entries(),
            batch_dir: root.join("batchconsumequeue"),
            batch_file_units: (config.batch_queue_file_bytes / UNIT_BYTES).max(1),
            open_max: config.queue_files_open_max.max(1),
            open: Mutex::default(),
        }
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory of the queues of batch topics.
    pub(crate) fn batch_dir(&self) -> &Path {
        &self.batch_dir
    }

    /// Units that a file of a batch topic's queue has room for.
    pub(crate) fn batch_file_units(&self) -> u64 {
        self.batch_file_units
    }

    /// The queue's files when its topic is a batch topic.
    pub(crate) fn units<'q>(&self, queue: &'q Queue) -> Option<&'q Units> {
        queue.topic.is_batch().then(|| {
            queue.units_or(|| {
                let dir = self.batch_dir.join(&*queue.topic.name);
                let dir = dir.join(queue.id.to_string());
                Units::new(Arc::clone(&self.disk), dir, self.batch_file_units)
            })
        })
    }

    pub(crate) fn file_entries(&self) -> u64 {
        self.file_entries
    }

    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_entries * ENTRY_BYTES
    }

    pub(crate) fn queue_dir(&self, topic: &str, id: i32) -> PathBuf {
        self.dir.join(topic).join(id.to_string())
    }

    /// Reads entries of one file from `offset` on, below `until`, at most `max`. What is not in a file ends the result early.
    pub(crate) fn read(
        &self,
        queue: &Arc<Queue>,
        offset: u64,
        until: u64,
        max: u64,
        wait: bool,
        out: &mut Vec<Entry>,
    ) -> io::Result<()> {
        if let Some(units) = self.units(queue) {
            return units.read(offset, until, wait, out);
        }
        let start = offset / self.file_entries * self.file_entries;
        let count = (start + self.file_entries)
            .min(until)
            .saturating_sub(offset)
            .min(max)
            .min(READ_ENTRIES_MAX);
        if count == 0 {
            return Ok(());
        }
        let Some(file) = self.existing(queue, start)? else {
            return Ok(());
        };
        let mut bytes = [0u8; 128 * ENTRY_BYTES as usize];
        let mut done = 0;
        while done < count {
            let now = (count - done).min(128);
            let part = &mut bytes[..(now * ENTRY_BYTES) as usize];
            let at = (offset + done - start) * ENTRY_BYTES;
            let read = read_fully(&*file, part, at, wait)?;
            for entry in part[..read].chunks_exact(ENTRY_BYTES as usize) {
                match Entry::decode(entry) {
                    Some(entry) => out.push(entry),
                    None => return Ok(()),
                }
            }
            if read < part.len() {
                return Ok(());
            }
            done += now;
        }
        Ok(())
    }

    /// Writes consecutive entries from `offset` on, creating files as needed.
    pub(crate) fn write(
        &self,
        queue: &Arc<Queue>,
        mut offset: u64,
        entries: &[Entry],
        log: &Segments,
    ) -> io::Result<()> {
        if let Some(units) = self.units(queue) {
            return self.write_units(units, offset, entries, log);
        }
        let mut encoded = Vec::with_capacity(entries.len() * ENTRY_BYTES as usize);
        entries
            .iter()
            .for_each(|entry| encoded.extend_from_slice(&entry.encode()));
        let mut bytes = encoded.as_slice();
        while !bytes.is_empty() {
            let start = offset / self.file_entries * self.file_entries;
            let room = (start + self.file_entries - offset) * ENTRY_BYTES;
            let (now, rest) = bytes.split_at(bytes.len().min(room as usize));
            let file = match self.existing(queue, start)? {
                Some(file) => file,
                None => self.create(queue, start, offset)?,
            };
            file.write_all_at(now, (offset - start) * ENTRY_BYTES)?;
            let path = self
                .queue_dir(&queue.topic.name, queue.id)
                .join(file_name(start * ENTRY_BYTES));
            self.lock().unsynced.insert(path);
            offset += now.len() as u64 / ENTRY_BYTES;
            bytes = rest;
        }
        Ok(())
    }

    /// Lets go of the last record's entries when there are others: there may be more of them than were copied. Of a plain queue nothing.
    pub(crate) fn keep_whole(&self, queue: &Queue, copied: &mut Vec<Entry>) {
        if let Some(&last) = copied.last().filter(|_| queue.topic.is_batch()) {
            let same = copied.iter().rev().take_while(|entry| **entry == last);
            let whole = copied.len() - same.count();
            copied.truncate(if whole > 0 { whole } else { copied.len() });
        }
    }

    fn write_units(
        &self,
        units: &Units,
        offset: u64,
        entries: &[Entry],
        log: &Segments,
    ) -> io::Result<()> {
        units.write(offset, entries, log, &mut |path, is_created| {
            let mut open = self.lock();
            open.unsynced.insert(path);
            if is_created {
                let dirs = units.dir().ancestors().take(3);
                open.unsynced_dirs.extend(dirs.map(Path::to_owned));
                open.unsynced_dirs
                    .extend(self.batch_dir.parent().map(Path::to_owned));
            }
        })
    }

    /// The file that holds the entries from `start` on, when it exists.
    fn existing(&self, queue: &Arc<Queue>, start: u64) -> io::Result<Option<Arc<dyn File>>> {
        let key = Key {
            queue: Arc::as_ptr(queue) as usize,
            start,
        };
        {
            let mut open = self.lock();
            open.uses += 1;
            let used = open.uses;
            if let Some(cached) = open.by_queue.get_mut(&key) {
                cached.used = used;
                return Ok(Some(Arc::clone(&cached.file)));
            }
        }
        let path = self
            .queue_dir(&queue.topic.name, queue.id)
            .join(file_name(start * ENTRY_BYTES));
        match self.disk.open(&path, OpenMode::ReadWrite) {
            Ok(file) => {
                self.remember(queue, start, &file);
                Ok(Some(file))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates the file that starts at `start`, of the length that Java expects. What lies before `offset` gets Java's filler.
    fn create(&self, queue: &Arc<Queue>, start: u64, offset: u64) -> io::Result<Arc<dyn File>> {
        let dir = self.queue_dir(&queue.topic.name, queue.id);
        self.disk.create_dir_all(&dir)?;
        let path = dir.join(file_name(start * ENTRY_BYTES));
        let file = self.disk.open(&path, OpenMode::Create)?;
        file.set_len(self.file_bytes())?;
        if offset > start {
            let filler = Entry::FILLER.encode().repeat((offset - start) as usize);
            file.write_all_at(&filler, 0)?;
        }
        {
            let mut open = self.lock();
            if let Some(topic_dir) = dir.parent() {
                open.unsynced_dirs.insert(topic_dir.to_owned());
            }
            open.unsynced_dirs.insert(dir);
            open.unsynced_dirs.insert(self.dir.clone());
        }
        self.remember(queue, start, &file);
        Ok(file)
    }

    fn remember(&self, queue: &Arc<Queue>, start: u64, file: &Arc<dyn File>) {
        let mut open = self.lock();
        if open.by_queue.len() >= self.open_max {
            // A quarter at once, so that the search for the oldest is paid once in many.
            let mut used: Vec<u64> = open.by_queue.values().map(|cached| cached.used).collect();
            let (_, limit, _) =
                used.select_nth_unstable((self.open_max / 4).min(open.by_queue.len() - 1));
            let limit = *limit;
            open.by_queue.retain(|_, cached| cached.used > limit);
        }
        let used = open.uses;
        let key = Key {
            queue: Arc::as_ptr(queue) as usize,
            start,
        };
        open.by_queue.insert(
            key,
            Cached {
                queue: Arc::clone(queue),
                file: Arc::clone(file),
                used,
            },
        );
    }

    /// Makes everything that was written survive loss of power.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let (files, dirs) = {
            let mut open = self.lock();
            (
                std::mem::take(&mut open.unsynced),
                std::mem::take(&mut open.unsynced_dirs),
            )
        };
        let result = self.sync_all(&files, &dirs);
        if result.is_err() {
            let mut open = self.lock();
            open.unsynced.extend(files);
            open.unsynced_dirs.extend(dirs);
        }
        result
    }

    fn sync_all(&self, files: &BTreeSet<PathBuf>, dirs: &BTreeSet<PathBuf>) -> io::Result<()> {
        for path in files {
            // A file may have gone with its topic or with expired segments.
            match self.disk.open(path, OpenMode::ReadWrite) {
                Ok(file) => file.sync_data()?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        for dir in dirs {
            match self.disk.sync_dir(dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Starts of the queue's files in entries, in order.
    pub(crate) fn starts(&self, dir: &Path) -> io::Result<Vec<u64>> {
        list_starts(&*self.disk, dir, self.file_bytes(), ENTRY_BYTES)
    }

    /// Removes one file of a queue.
    fn remove(&self, queue: &Arc<Queue>, start: u64) -> io::Result<()> {
        self.lock().by_queue.remove(&Key {
            queue: Arc::as_ptr(queue) as usize,
            start,
        });
        self.disk.remove(
            &self
                .queue_dir(&queue.topic.name, queue.id)
                .join(file_name(start * ENTRY_BYTES)),
        )
    }

    /// Removes the files whose entries all lie before the queue's first offset. The last file stays: it keeps the queue's count.
    pub(crate) fn remove_expired(&self, queue: &Arc<Queue>) -> io::Result<()> {
        if let Some(units) = self.units(queue) {
            let min = queue.entries().min;
            return units.remove_expired(min);
        }
        let (files_from, keep_from) = {
            let entries = queue.entries();
            (
                entries.files_from,
                entries.min.min(entries.written().saturating_sub(1)) / self.file_entries
                    * self.file_entries,
            )
        };
        if files_from / self.file_entries * self.file_entries >= keep_from {
            return Ok(());
        }
        for start in self.starts(&self.queue_dir(&queue.topic.name, queue.id))? {
            if start < keep_from {
                self.remove(queue, start)?;
            }
        }
        queue.entries().files_from = keep_from;
        Ok(())
    }

    /// Removes all files of a queue, and its directory.
    pub(crate) fn remove_queue(&self, queue: &Arc<Queue>) -> io::Result<()> {
        if let Some(units) = self.units(queue) {
            return units.remove();
        }
        let dir = self.queue_dir(&queue.topic.name, queue.id);
        self.lock()
            .by_queue
            .retain(|_, cached| !Arc::ptr_eq(&cached.queue, queue));
        remove_flat_dir(&*self.disk, &dir)
    }

    /// Removes the directory of a topic whose queues were removed.
    pub(crate) fn remove_topic_dir(&self, topic: &Topic) -> io::Result<()> {
        let all = if topic.is_batch() {
            &self.batch_dir
        } else {
            &self.dir
        };
        match self.disk.remove_dir(&all.join(&*topic.name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes the files of some topics that are left from before the queues were moved to the shared store. True when there are more.
    pub(crate) fn remove_some(&self) -> io::Result<bool> {
        {
            let mut open = self.lock();
            open.by_queue = HashMap::new();
            open.unsynced = BTreeSet::new();
            open.unsynced_dirs = BTreeSet::new();
        }
        Ok(self.remove_some_of(&self.dir)? || self.remove_some_of(&self.batch_dir)?)
    }

    fn remove_some_of(&self, all: &Path) -> io::Result<bool> {
        let topics = match self.disk.list(all) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            listed => listed?,
        };
        for topic in topics
            .iter()
            .filter(|topic| topic.is_dir)
            .take(REMOVED_TOPICS)
        {
            let dir = all.join(&topic.name);
            for queue in self.disk.list(&dir)?.iter().filter(|queue| queue.is_dir) {
                remove_flat_dir(&*self.disk, &dir.join(&queue.name))?;
            }
            self.disk.remove_dir(&dir)?;
        }
        Ok(topics.len() > REMOVED_TOPICS)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open
            .lock()
            .expect("no code panics while it changes the cache of files")
    }
}

/// Starts of the files of a directory, in order, counted in things of which one takes `each_bytes`.
pub(crate) fn list_starts(
    disk: &dyn Disk,
    dir: &Path,
    file_bytes: u64,
    each_bytes: u64,
) -> io::Result<Vec<u64>> {
    let entries = match disk.list(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut starts: Vec<u64> = entries
        .iter()
        .filter(|entry| !entry.is_dir && entry.name.len() == 20)
        .filter_map(|entry| entry.name.parse::<u64>().ok())
        .filter(|start| start % file_bytes == 0)
        .map(|start| start / each_bytes)
        .collect();
    starts.sort_unstable();
    Ok(starts)
}

/// Removes a directory and the files in it; a missing one is fine.
pub(crate) fn remove_flat_dir(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let entries = match disk.list(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        if !entry.is_dir {
            disk.remove(&dir.join(&entry.name))?;
        }
    }
    disk.remove_dir(dir)
}

/// Reads until the buffer is full or the file ends; returns how much. Never waits for the disk unless `wait`.
pub(crate) fn read_fully(
    file: &dyn File,
    bytes: &mut [u8],
    at: u64,
    wait: bool,
) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        let rest = &mut bytes[done..];
        let read = if wait {
            file.read_at(rest, at + done as u64)
        } else {
            file.read_at_nowait(rest, at + done as u64)
        };
        match read {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
