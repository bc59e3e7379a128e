//! A disk that keeps a journal of every change made to another one, and the replay of that journal up to any moment.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Disk, Entry, File, Lock, OpenMode, SimulatedDisk, Space};

/// One change, or a word of the program that made the changes. As text it is a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A file was created, or opened for the first time since the recording began; later operations name it by the number.
    Open(u64, PathBuf),
    /// Bytes were written to a file at an offset.
    Write(u64, u64, Vec<u8>),
    /// A file was cut or extended.
    SetLen(u64, u64),
    /// Room was taken.
    Reserve(u64, u64),
    /// A file was synced.
    Sync(u64),
    /// A directory was synced.
    SyncDir(PathBuf),
    /// A directory was created, with those above it.
    CreateDirAll(PathBuf),
    /// A directory was removed.
    RemoveDir(PathBuf),
    /// A file was removed.
    Remove(PathBuf),
    /// A file got another name.
    Rename(PathBuf, PathBuf),
    /// See [`RecordingDisk::note`].
    Note(String),
}

/// Passes everything on to another disk and keeps the changes that succeeded, in the order in which they took effect. Changes wait for one another.
#[derive(Clone, Debug)]
pub struct RecordingDisk {
    inner: Arc<dyn Disk>,
    journal: Arc<Mutex<Journal>>,
}

#[derive(Debug, Default)]
struct Journal {
    operations: Vec<Operation>,
    files: BTreeMap<PathBuf, u64>,
    next_file: u64,
}

#[derive(Debug)]
struct RecordingFile {
    inner: Arc<dyn File>,
    journal: Arc<Mutex<Journal>>,
    number: u64,
}

/// A journal being applied to an empty simulated disk.
#[derive(Debug, Default)]
pub struct Replay {
    disk: SimulatedDisk,
    files: HashMap<u64, Arc<dyn File>>,
}

impl RecordingDisk {
    /// Records what is done to `inner`, which nobody else changes meanwhile.
    pub fn new(inner: Arc<dyn Disk>) -> Self {
        Self {
            inner,
            journal: Arc::default(),
        }
    }

    /// Puts a word of the program into the journal: everything before it had happened, nothing after it had.
    pub fn note(&self, note: impl Into<String>) {
        self.lock_journal()
            .operations
            .push(Operation::Note(note.into()));
    }

    /// The journal so far.
    pub fn operations(&self) -> Vec<Operation> {
        self.lock_journal().operations.clone()
    }

    fn lock_journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().expect("no holder panics")
    }

    /// Makes a change and records it, as one.
    fn record<R>(
        &self,
        operation: Operation,
        change: impl FnOnce(&dyn Disk) -> io::Result<R>,
    ) -> io::Result<R> {
        let mut journal = self.lock_journal();
        let result = change(&*self.inner)?;
        match &operation {
            Operation::Remove(path) => {
                journal.files.remove(path);
            }
            Operation::Rename(from, to) => {
                if let Some(number) = journal.files.remove(from) {
                    journal.files.insert(to.clone(), number);
                }
            }
            _ => {}
        }
        journal.operations.push(operation);
        Ok(result)
    }
}

impl Disk for RecordingDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut journal = self.lock_journal();
        let inner = self.inner.open(path, mode)?;
        let number = match journal.files.get(path) {
            Some(number) => *number,
            None => {
                let number = journal.next_file;
                journal.next_file += 1;
                journal.files.insert(path.to_owned(), number);
                journal
                    .operations
                    .push(Operation::Open(number, path.to_owned()));
                number
            }
        };
        Ok(Arc::new(RecordingFile {
            inner,
            journal: Arc::clone(&self.journal),
            number,
        }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.record(Operation::Remove(path.to_owned()), |disk| disk.remove(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let operation = Operation::Rename(from.to_owned(), to.to_owned());
        self.record(operation, |disk| disk.rename(from, to))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if self.inner.exists(path) {
            return self.inner.create_dir_all(path);
        }
        self.record(Operation::CreateDirAll(path.to_owned()), |disk| {
            disk.create_dir_all(path)
        })
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.record(Operation::RemoveDir(path.to_owned()), |disk| {
            disk.remove_dir(path)
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.inner.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.record(Operation::SyncDir(dir.to_owned()), |disk| {
            disk.sync_dir(dir)
        })
    }

    fn exists(&self, path: &Path) -> bool {
        self.inner.exists(path)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.inner.space(dir)
    }

    /// A file that this creates is not recorded: it holds nothing.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.inner.lock(path)
    }
}

impl RecordingFile {
    fn record(
        &self,
        operation: Operation,
        change: impl FnOnce(&dyn File) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut journal = self.journal.lock().expect("no holder panics");
        change(&*self.inner)?;
        journal.operations.push(operation);
        Ok(())
    }
}

impl File for RecordingFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buf, offset)
    }

    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at_nowait(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let operation = Operation::Write(self.number, offset, buf.to_vec());
        self.record(operation, |file| file.write_all_at(buf, offset))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.record(Operation::Sync(self.number), |file| file.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.record(Operation::Sync(self.number), |file| file.sync_all())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.record(Operation::SetLen(self.number, len), |file| {
            file.set_len(len)
        })
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        self.record(Operation::Reserve(self.number, len), |file| {
            file.reserve(len)
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn advise_cold(&self, range: Range<u64>) {
        self.inner.advise_cold(range);
    }

    fn advise_read_ahead(&self, ahead: bool) {
        self.inner.advise_read_ahead(ahead);
    }
}

impl Replay {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the next change.
    ///
    /// # Errors
    /// When the journal does not begin with an empty disk, or was changed.
    pub fn apply(&mut self, operation: &Operation) -> io::Result<()> {
        match operation {
            Operation::Open(number, path) => {
                let file = self.disk.open(path, OpenMode::Create)?;
                self.files.insert(*number, file);
                Ok(())
            }
            Operation::Write(number, offset, bytes) => {
                self.file(*number)?.write_all_at(bytes, *offset)
            }
            Operation::SetLen(number, len) => self.file(*number)?.set_len(*len),
            Operation::Reserve(number, len) => self.file(*number)?.reserve(*len),
            Operation::Sync(number) => self.file(*number)?.sync_all(),
            Operation::SyncDir(path) => self.disk.sync_dir(path),
            Operation::CreateDirAll(path) => self.disk.create_dir_all(path),
            Operation::RemoveDir(path) => self.disk.remove_dir(path),
            Operation::Remove(path) => self.disk.remove(path),
            Operation::Rename(from, to) => self.disk.rename(from, to),
            Operation::Note(_) => Ok(()),
        }
    }

    /// The disk after the changes so far: [`SimulatedDisk::crash`] gives it after a power cut at this moment.
    pub fn disk(&self) -> &SimulatedDisk {
        &self.disk
    }

    fn file(&self, number: u64) -> io::Result<&Arc<dyn File>> {
        let missing = || io::Error::other(format!("file {number} was never opened"));
        self.files.get(&number).ok_or_else(missing)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(number, path) => write!(f, "open {number} {}", path.display()),
            Self::Write(number, offset, bytes) => {
                write!(f, "write {number} {offset} ")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::SetLen(number, len) => write!(f, "set_len {number} {len}"),
            Self::Reserve(number, len) => write!(f, "reserve {number} {len}"),
            Self::Sync(number) => write!(f, "sync {number}"),
            Self::SyncDir(path) => write!(f, "sync_dir {}", path.display()),
            Self::CreateDirAll(path) => write!(f, "create_dir_all {}", path.display()),
            Self::RemoveDir(path) => write!(f, "remove_dir {}", path.display()),
            Self::Remove(path) => write!(f, "remove {}", path.display()),
            Self::Rename(from, to) => write!(f, "rename {} {}", from.display(), to.display()),
            Self::Note(note) => write!(f, "note {note}"),
        }
    }
}

/// A line that is no operation.
#[derive(Debug, thiserror::Error)]
#[error("not an operation of a disk: {0}")]
pub struct NotAnOperation(String);

impl FromStr for Operation {
    type Err = NotAnOperation;

    fn from_str(line: &str) -> Result<Self, NotAnOperation> {
        parse(line).ok_or_else(|| NotAnOperation(line.chars().take(80).collect()))
    }
}

fn parse(line: &str) -> Option<Operation> {
    let (verb, rest) = line.split_once(' ')?;
    let pair = || rest.split_once(' ');
    let numbers = || Some((pair()?.0.parse().ok()?, pair()?.1.parse().ok()?));
    Some(match verb {
        "open" => Operation::Open(pair()?.0.parse().ok()?, pair()?.1.into()),
        "write" => {
            let (offset, digits) = pair()?.1.split_once(' ')?;
            let bytes = (0..digits.len()).step_by(2);
            let bytes = bytes.map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok());
            Operation::Write(
                pair()?.0.parse().ok()?,
                offset.parse().ok()?,
                bytes.collect::<Option<_>>()?,
            )
        }
        "set_len" => {
            let (number, len) = numbers()?;
            Operation::SetLen(number, len)
        }
        "reserve" => {
            let (number, len) = numbers()?;
            Operation::Reserve(number, len)
        }
        "sync" => Operation::Sync(rest.parse().ok()?),
        "sync_dir" => Operation::SyncDir(rest.into()),
        "create_dir_all" => Operation::CreateDirAll(rest.into()),
        "remove_dir" => Operation::RemoveDir(rest.into()),
        "remove" => Operation::Remove(rest.into()),
        "rename" => Operation::Rename(pair()?.0.into(), pair()?.1.into()),
        "note" => Operation::Note(rest.to_owned()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_gives_the_same_disk_and_lines_read_as_they_were_written() {
        let disk = RecordingDisk::new(Arc::new(SimulatedDisk::new()));
        let dir = Path::new("/a/b");
        disk.create_dir_all(dir).unwrap();
        let file = disk.open(&dir.join("f"), OpenMode::Create).unwrap();
        file.reserve(9000).unwrap();
        file.write_all_at(b"abc", 8000).unwrap();
        file.sync_all().unwrap();
        disk.note("three bytes are durable");
        disk.rename(&dir.join("f"), &dir.join("g")).unwrap();
        let again = disk.open(&dir.join("g"), OpenMode::ReadWrite).unwrap();
        again.write_all_at(b"d", 8003).unwrap();
        again.set_len(8005).unwrap();
        disk.open(&dir.join("h"), OpenMode::Create).unwrap();
        disk.remove(&dir.join("h")).unwrap();
        disk.sync_dir(dir).unwrap();
        let operations = disk.operations();
        assert_eq!(operations.len(), 12);
        let mut replay = Replay::new();
        for operation in &operations {
            assert_eq!(operation, &operation.to_string().parse().unwrap());
            replay.apply(operation).unwrap();
        }
        assert_eq!(replay.disk().list(dir).unwrap(), disk.list(dir).unwrap());
        let replayed = replay.disk().open(&dir.join("g"), OpenMode::Read).unwrap();
        let mut bytes = [0; 5];
        replayed.read_exact_at(&mut bytes, 8000).unwrap();
        assert_eq!(&bytes, b"abcd\0");
    }
}
