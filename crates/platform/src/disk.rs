//! Files and directories as the store uses them, behind a trait with a real and a simulated implementation.
//!
//! What survives what: bytes that [`File::write_all_at`] took survive the end of the process, `kill -9` included. They
//! survive power failure only after [`File::sync_data`] returned; a file's name only after [`Disk::sync_dir`] of its
//! directory. After a failed sync nothing may be concluded about the bytes since the last good one, and a later sync
//! that succeeds proves nothing: the kernel has marked the pages clean.

mod pages;
mod real;
mod recording;
mod simulated;

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

pub use real::RealDisk;
pub use recording::{NotAnOperation, Operation, RecordingDisk, Replay};
pub use simulated::{Faults, SimulatedDisk};

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// It must exist.
    Read,
    /// It must exist.
    ReadWrite,
    /// It is created empty when it does not exist.
    Create,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name within the directory. Names that are not UTF-8 are not listed: the store writes none.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Length in bytes; of a directory, whatever the file system says.
    pub len: u64,
}

/// Room on the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes in use and bytes that may still be taken, together; what is kept for others does not count, as with `df`
    /// (Java 5.3.3: `UtilAll.getDiskPartitionSpaceUsedPercent`).
    pub total_bytes: u64,
    /// Bytes that this process may still take.
    pub free_bytes: u64,
}

/// An exclusive lock on a file; given back when dropped.
pub trait Lock: Send + Sync + Debug {}

/// A file system.
pub trait Disk: Send + Sync + Debug + 'static {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// Removes a file. Open handles go on reading it.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Gives a file another name, replacing what has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Creates a directory and those above it, as far as they do not exist. See [`create_dir_all_synced`].
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// The entries of a directory, sorted by name.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;
    /// Makes names created, renamed and removed in `dir` survive power failure.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Whether something has this name.
    fn exists(&self, path: &Path) -> bool;
    /// Room on the file system that holds `dir`.
    fn space(&self, dir: &Path) -> io::Result<Space>;
    /// Takes the exclusive lock of `path`, creating the file when it does not exist. Conflicts with another holder in
    /// this process or any other, a Java broker among them. The file must not be opened otherwise while the lock is
    /// held: the kernel gives such locks back when the process closes any descriptor of the file.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when somebody holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
}

/// Creates a directory and those above it, as far as they do not exist. On return those that were created survive power
/// failure; whatever they hold later needs that as much as its own sync.
///
/// # Errors
/// What creating or syncing said; some of the directories may exist then.
pub fn create_dir_all_synced(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let created: Vec<&Path> = path
        .ancestors()
        .take_while(|dir| !dir.as_os_str().is_empty() && !disk.exists(dir))
        .collect();
    disk.create_dir_all(path)?;
    for dir in created.into_iter().rev() {
        let above = dir.parent().filter(|above| !above.as_os_str().is_empty());
        disk.sync_dir(above.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

/// An open file. All methods may be called concurrently.
pub trait File: Send + Sync + Debug {
    /// Reads up to `buf.len()` bytes; 0 at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Like [`read_at`](Self::read_at), and never waits for the device.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when the first byte is not in memory.
    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all bytes, or fails having written none, some or all of them.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Makes written bytes, and the length as far as needed to read them, survive power failure.
    fn sync_data(&self) -> io::Result<()>;
    /// Like [`sync_data`](Self::sync_data), with all metadata.
    fn sync_all(&self) -> io::Result<()>;
    /// Cuts the file or extends it with a hole.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Takes room for `len` bytes from the file system now, so that later writes below it do not fail for lack of it.
    /// The file is at least that long afterwards and what was not written reads as zeros.
    fn reserve(&self, len: u64) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it holds no byte.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Says that the range will not be read again soon: its pages may go first. A hint.
    fn advise_cold(&self, range: Range<u64>);
    /// Says whether what follows a read is worth fetching with it. A hint.
    fn advise_read_ahead(&self, ahead: bool);
    /// Fills `buf`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the file ends before.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.read_at(&mut buf[filled..], offset + filled as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
