//! The index: which records carry a key or unique id. Java's files, written behind in large batches; queries also look at what waits.

pub(crate) mod file;
pub(crate) mod pending;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use platform::disk::Disk;

use file::{IndexFile, Shape};
use pending::{IndexEntry, Pending};

use crate::checkpoint::Hint;
use crate::error::OpenError;

/// All index files and the entries on their way there.
#[derive(Debug)]
pub(crate) struct Index {
    enabled: bool,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    shape: Shape,
    pending: Mutex<Pending>,
    /// Oldest first. Written by one thread at a time, which holds the lock for as long as a file contradicts itself.
    files: RwLock<Vec<IndexFile>>,
}

/// What the index knows of a key.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    /// Positions of records that may carry the key, newest first.
    pub(crate) physical: Vec<u64>,
    /// Store timestamp of the newest indexed record.
    pub(crate) last_timestamp_ms: i64,
    /// Its position.
    pub(crate) last_physical: u64,
}

impl Index {
    /// Opens the files that are there. With `enabled` false none is touched.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        slots: u32,
        entries: u32,
        enabled: bool,
    ) -> Result<Index, OpenError> {
        let shape = Shape {
            slots: slots.max(1),
            entries: entries.max(2),
        };
        let mut files = Vec::new();
        if enabled {
            disk.create_dir_all(&dir)
                .map_err(OpenError::disk("creating", &dir))?;
            let mut names: Vec<u64> = disk
                .list(&dir)
                .map_err(OpenError::disk("listing", &dir))?
                .iter()
                .filter(|entry| !entry.is_dir && entry.name.len() == 17)
                .filter_map(|entry| entry.name.parse().ok())
                .collect();
            names.sort_unstable();
            for name in names {
                let path = dir.join(format!("{name:017}"));
                files.push(
                    IndexFile::open(&*disk, &path, name, shape)
                        .map_err(OpenError::disk("opening index", &path))?,
                );
            }
        }
        Ok(Index {
            enabled,
            disk,
            dir,
            shape,
            pending: Mutex::default(),
            files: RwLock::new(files),
        })
    }

    pub(crate) fn enabled(&self) -> bool {
        self.enabled
    }

    /// Adds entries; returns how many wait, and whether none did before.
    pub(crate) fn add(&self, entries: &[IndexEntry]) -> (usize, bool) {
        if entries.is_empty() {
            return (0, false);
        }
        self.pending().add(entries)
    }

    pub(crate) fn backlog(&self) -> usize {
        self.pending().len()
    }

    /// Brings the files back to what they held when everything below `hint.position` was written. Returns the position from which on
    /// records must be indexed again: the hint's, or what the files say when they are not what the hint says.
    pub(crate) fn recover(
        &self,
        hint: Option<&Hint>,
        log_min: u64,
        clean: bool,
    ) -> io::Result<u64> {
        if let Some(hint) = hint.filter(|hint| hint.index_enabled) {
            let intact = hint.index_file == 0
                || self.read().iter().any(|file| {
                    file.name == hint.index_file && file.header.count >= hint.index_count
                });
            if intact {
                if !clean {
                    self.cut_from(hint.position)?;
                }
                return Ok(hint.position);
            }
            tracing::warn!("index files are missing; what they held is indexed again");
            if !clean {
                self.clear()?;
            }
        }
        Ok(self
            .read()
            .last()
            .map_or(log_min, |last| last.header.end_physical + 1)
            .max(log_min))
    }

    /// Takes out what lies at or behind `position`. It is indexed again from the log.
    pub(crate) fn cut_from(&self, position: u64) -> io::Result<()> {
        let mut files = self
            .files
            .write()
            .expect("no code panics while it changes the index");
        while files
            .last()
            .is_some_and(|last| last.header.begin_physical >= position || last.header.count <= 1)
        {
            if let Some(last) = files.pop() {
                self.disk.remove(&last.path)?;
            }
        }
        match files.last_mut() {
            Some(last) => last.cut(position),
            None => Ok(()),
        }
    }

    /// Removes all files: they are made again from the log.
    pub(crate) fn clear(&self) -> io::Result<()> {
        let mut files = self
            .files
            .write()
            .expect("no code panics while it changes the index");
        while let Some(last) = files.pop() {
            self.disk.remove(&last.path)?;
        }
        Ok(())
    }

    /// Writes everything that waits into files.
    pub(crate) fn write_pending(&self, now_ms: i64) -> io::Result<()> {
        if !self.enabled {
            return Ok(());
        }
        loop {
            let batch = self.pending().begin();
            if batch.is_empty() {
                return Ok(());
            }
            let result = self.write_batch(&batch, now_ms);
            // What was written before a failure is not written again.
            let (written, result) = match result {
                Ok(()) => (batch.len(), Ok(())),
                Err((written, error)) => (written, Err(error)),
            };
            drop(batch);
            self.pending().done(written);
            result?;
        }
    }

    fn write_batch(&self, batch: &[IndexEntry], now_ms: i64) -> Result<(), (usize, io::Error)> {
        let mut done = 0;
        while done < batch.len() {
            let mut files = self
                .files
                .write()
                .expect("no code panics while it changes the index");
            if files.last().is_none_or(IndexFile::is_full) {
                let file = self
                    .create(files.last(), now_ms)
                    .map_err(|error| (done, error))?;
                files.push(file);
            }
            let Some(last) = files.last_mut() else {
                return Ok(());
            };
            done += last.add(&batch[done..]).map_err(|error| (done, error))?;
        }
        Ok(())
    }

    fn create(&self, last: Option<&IndexFile>, now_ms: i64) -> io::Result<IndexFile> {
        // A name is a label that orders the files; Java takes local time. It must only be greater than the last one.
        let name = file::name_of_time(now_ms).max(last.map_or(0, |last| last.name + 1));
        let path = self.dir.join(format!("{name:017}"));
        let file = IndexFile::create(
            &*self.disk,
            &path,
            name,
            self.shape,
            last.map(|last| last.header),
        )?;
        self.disk.sync_dir(&self.dir)?;
        Ok(file)
    }

    /// Makes the files survive loss of power. Returns name and count of the last one.
    pub(crate) fn sync(&self) -> io::Result<(u64, u32)> {
        let mut files = self
            .files
            .write()
            .expect("no code panics while it changes the index");
        for file in files.iter_mut().rev() {
            if !file.sync()? {
                break;
            }
        }
        Ok(files
            .last()
            .map_or((0, 0), |last| (last.name, last.header.count)))
    }

    /// Positions of records that may carry a key with this hash and were stored in `begin_ms..=end_ms`.
    pub(crate) fn query(
        &self,
        hash: i32,
        begin_ms: i64,
        end_ms: i64,
        max: usize,
    ) -> io::Result<Candidates> {
        let mut found = Candidates::default();
        // The files' lock is taken first, so that no entry moves from memory to file unseen between the two looks.
        let files = self
            .files
            .read()
            .expect("no code panics while it changes the index");
        {
            let pending = self.pending();
            if let Some(newest) = pending.newest() {
                found.last_timestamp_ms = newest.store_timestamp_ms;
                found.last_physical = newest.physical;
            }
            pending.query(hash, begin_ms, end_ms, max, &mut found.physical);
        }
        if found.last_timestamp_ms == 0
            && let Some(last) = files.last()
        {
            found.last_timestamp_ms = last.header.end_timestamp_ms;
            found.last_physical = last.header.end_physical;
        }
        for file in files.iter().rev() {
            if found.physical.len() >= max {
                break;
            }
            if file.overlaps(begin_ms, end_ms) {
                file.query(hash, begin_ms, end_ms, max, &mut found.physical)?;
            }
            if file.header.begin_timestamp_ms < begin_ms && file.header.count > 1 {
                break;
            }
        }
        Ok(found)
    }

    /// Removes files all of whose records are gone from the log. The last one stays, as in Java.
    pub(crate) fn remove_below(&self, log_min: u64) -> io::Result<()> {
        let mut files = self
            .files
            .write()
            .expect("no code panics while it changes the index");
        while files.len() > 1
            && files
                .first()
                .is_some_and(|first| first.header.end_physical < log_min)
        {
            let first = files.remove(0);
            self.disk.remove(&first.path)?;
        }
        Ok(())
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Vec<IndexFile>> {
        self.files
            .read()
            .expect("no code panics while it changes the index")
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending
            .lock()
            .expect("no code panics while it changes the list of index entries")
    }

    /// Where the files lie.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}
