//! The files of the commit log: names, order, creation ahead of need, removal.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use platform::disk::{self, Disk, File, OpenMode};

use crate::error::OpenError;

/// One file of the log. `start` is the position of its first byte and its name.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) start: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) path: PathBuf,
}

/// All files of the log, oldest first, each starting where the one before ends.
#[derive(Debug)]
pub(crate) struct Segments {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_bytes: u64,
    list: RwLock<VecDeque<Arc<Segment>>>,
    ahead: Mutex<Ahead>,
    /// Whether the kernel fetches what follows a read with it.
    read_ahead: AtomicBool,
}

/// The segment that follows the last one, reserved ahead of need.
#[derive(Debug, Default)]
struct Ahead {
    spare: Option<Arc<Segment>>,
    /// What starts below belongs to the log, or to an append that is under way: it must not be prepared a second time.
    issued: u64,
}

/// The name of the file that starts at `start`, in the commit log and in consume queues.
pub(crate) fn file_name(start: u64) -> String {
    format!("{start:020}")
}

impl Segments {
    /// Opens the files of `dir`, which is created when missing.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        segment_bytes: u64,
    ) -> Result<Segments, OpenError> {
        disk::create_dir_all_synced(&*disk, dir).map_err(OpenError::disk("creating", dir))?;
        let mut found: Vec<(u64, u64)> = Vec::new();
        for entry in disk.list(dir).map_err(OpenError::disk("listing", dir))? {
            if entry.is_dir || entry.name.len() != 20 {
                continue;
            }
            if let Ok(start) = entry.name.parse::<u64>() {
                found.push((start, entry.len));
            }
        }
        found.sort_unstable();
        // What remains when the process died while it created a file.
        while let Some((start, _)) = found.pop_if(|(_, len)| *len == 0) {
            let path = dir.join(file_name(start));
            // For good, before the file in front of it may be cut: short, with another behind it, that one would be refused at the next start.
            disk.remove(&path)
                .and_then(|()| disk.sync_dir(dir))
                .map_err(OpenError::disk("removing", &path))?;
        }
        let last = found.last().map(|&(start, _)| start);
        let mut list = VecDeque::new();
        for (start, len) in found {
            let path = dir.join(file_name(start));
            // The last file is short when a recovery died between cutting it and reserving its space again.
            if len > segment_bytes || (len < segment_bytes && Some(start) != last) {
                return Err(OpenError::SegmentSize {
                    path,
                    found: len,
                    configured: segment_bytes,
                });
            }
            let file = disk
                .open(&path, OpenMode::ReadWrite)
                .map_err(OpenError::disk("opening", &path))?;
            if len < segment_bytes {
                file.set_len(segment_bytes)
                    .and_then(|()| file.sync_all())
                    .map_err(OpenError::disk("extending", &path))?;
            }
            list.push_back(Arc::new(Segment { start, file, path }));
        }
        for pair in 1..list.len() {
            let expected = list[pair - 1].start + segment_bytes;
            if list[pair].start != expected {
                return Err(OpenError::SegmentGap {
                    expected,
                    next: list[pair].path.clone(),
                });
            }
        }
        Ok(Segments {
            disk,
            dir: dir.to_owned(),
            segment_bytes,
            list: RwLock::new(list),
            ahead: Mutex::new(Ahead::default()),
            // As the kernel does it of itself.
            read_ahead: AtomicBool::new(true),
        })
    }

    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether the kernel fetches what follows a read with it, in all files and those to come.
    pub(crate) fn set_read_ahead(&self, ahead: bool) {
        // Before the list is looked at: what is created meanwhile has it by itself.
        self.read_ahead.store(ahead, Ordering::Release);
        for segment in self.all() {
            segment.file.advise_read_ahead(ahead);
        }
        if let Some(spare) = &self.ahead().spare {
            spare.file.advise_read_ahead(ahead);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.read().len()
    }

    /// Position of the first byte of the first file.
    pub(crate) fn min(&self) -> Option<u64> {
        self.read().front().map(|segment| segment.start)
    }

    pub(crate) fn last(&self) -> Option<Arc<Segment>> {
        self.read().back().cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Segment>> {
        self.read().iter().cloned().collect()
    }

    /// The file that `position` lies in.
    pub(crate) fn containing(&self, position: u64) -> Option<Arc<Segment>> {
        let list = self.read();
        let first = list.front()?.start;
        let index = usize::try_from(position.checked_sub(first)? / self.segment_bytes).ok()?;
        list.get(index).cloned()
    }

    /// The files that hold bytes of `from..to`.
    pub(crate) fn overlapping(&self, from: u64, to: u64) -> Vec<Arc<Segment>> {
        self.read()
            .iter()
            .filter(|segment| segment.start < to && segment.start + self.segment_bytes > from)
            .cloned()
            .collect()
    }

    /// The segment that starts at `start`, prepared ahead or created here. It becomes part of the log by [`Segments::push`].
    pub(crate) fn take_or_create(&self, start: u64) -> io::Result<Arc<Segment>> {
        // Held during creation: when the preparing thread is at it, waiting for it is quicker than starting a second one.
        let mut ahead = self.ahead();
        let segment = match ahead.spare.take() {
            Some(segment) if segment.start == start => segment,
            _ => self.create(start)?,
        };
        ahead.issued = start + self.segment_bytes;
        Ok(segment)
    }

    /// Reserves the segment that starts at `start` ahead of need.
    pub(crate) fn prepare(&self, start: u64) -> io::Result<()> {
        let mut ahead = self.ahead();
        let last_end = self
            .last()
            .map_or(0, |last| last.start + self.segment_bytes);
        if start < ahead.issued || start < last_end || ahead.spare.is_some() {
            return Ok(());
        }
        ahead.spare = Some(self.create(start)?);
        Ok(())
    }

    /// Gives back a segment that was taken and not used. Of several the first is kept.
    pub(crate) fn give_back(&self, segments: Vec<Arc<Segment>>) {
        let mut segments = segments.into_iter();
        let Some(first) = segments.next() else { return };
        let mut ahead = self.ahead();
        ahead.issued = first.start;
        ahead.spare = Some(first);
        drop(ahead);
        self.discard(segments.collect());
    }

    /// Removes segments that a failed batch may have written to.
    pub(crate) fn discard(&self, segments: Vec<Arc<Segment>>) {
        if let Some(first) = segments.first() {
            let mut ahead = self.ahead();
            ahead.issued = ahead.issued.min(first.start);
        }
        for segment in segments {
            if let Err(error) = self.disk.remove(&segment.path) {
                tracing::warn!(path = %segment.path.display(), %error, "a segment that a failed write left could not be removed");
            }
        }
    }

    /// Removes the segment that was prepared and not used, so that a Java broker finds only files it knows.
    pub(crate) fn remove_spare(&self) -> io::Result<()> {
        let spare = self.ahead().spare.take();
        if let Some(segment) = spare {
            self.disk.remove(&segment.path)?;
            self.disk.sync_dir(&self.dir)?;
        }
        Ok(())
    }

    fn ahead(&self) -> std::sync::MutexGuard<'_, Ahead> {
        self.ahead
            .lock()
            .expect("no code panics while it prepares a segment")
    }

    fn create(&self, start: u64) -> io::Result<Arc<Segment>> {
        let path = self.dir.join(file_name(start));
        let file = self.disk.open(&path, OpenMode::Create)?;
        let reserved = file
            .reserve(self.segment_bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| self.disk.sync_dir(&self.dir));
        if let Err(error) = reserved {
            drop(file);
            // A file without its space is of no use, and an empty one would be taken for a segment.
            if let Err(remove) = self.disk.remove(&path) {
                tracing::warn!(path = %path.display(), error = %remove, "a segment that could not be reserved could not be removed either");
            }
            return Err(error);
        }
        if !self.read_ahead.load(Ordering::Acquire) {
            file.advise_read_ahead(false);
        }
        Ok(Arc::new(Segment { start, file, path }))
    }

    /// Makes a segment part of the log. It must start where the last one ends.
    pub(crate) fn push(&self, segment: Arc<Segment>) {
        let mut list = self
            .list
            .write()
            .expect("no code panics while it changes the list of segments");
        debug_assert!(
            list.back()
                .is_none_or(|last| last.start + self.segment_bytes == segment.start)
        );
        list.push_back(segment);
    }

    /// Takes the oldest file out of the log and removes it. The last one stays.
    pub(crate) fn remove_first(&self) -> io::Result<bool> {
        let first = {
            let mut list = self
                .list
                .write()
                .expect("no code panics while it changes the list of segments");
            if list.len() < 2 {
                return Ok(false);
            }
            list.pop_front()
        };
        if let Some(segment) = first {
            // Readers that hold the file read on: the system keeps it until they let go.
            if let Err(error) = self.disk.remove(&segment.path) {
                let mut list = self
                    .list
                    .write()
                    .expect("no code panics while it changes the list of segments");
                list.push_front(segment);
                return Err(error);
            }
        }
        Ok(true)
    }

    /// Removes all files that start at or behind `position`, for good: on return they do not come back by loss of power.
    pub(crate) fn remove_from(&self, position: u64) -> io::Result<()> {
        let mut removed = false;
        loop {
            let last = {
                let mut list = self
                    .list
                    .write()
                    .expect("no code panics while it changes the list of segments");
                if list.back().is_none_or(|last| last.start < position) {
                    break;
                }
                list.pop_back()
            };
            if let Some(segment) = last {
                self.disk.remove(&segment.path)?;
                removed = true;
            }
        }
        if removed {
            // Before the file that is now the last one is cut: short, with another behind it, it would be refused at the next start.
            self.disk.sync_dir(&self.dir)?;
        }
        Ok(())
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, VecDeque<Arc<Segment>>> {
        self.list
            .read()
            .expect("no code panics while it changes the list of segments")
    }
}
