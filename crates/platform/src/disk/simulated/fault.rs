//! Faults that a test injects.

use std::io;
use std::path::Path;

/// Kinds of operations that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Opening or creating a file.
    Open,
    /// Either way of reading.
    Read,
    /// Writing. A prefix of the bytes may have been written.
    Write,
    /// Either sync of a file. What was to be synced is in doubt from then on, even when a later sync succeeds.
    Sync,
    /// Sync of a directory.
    SyncDir,
    /// Changing a length.
    SetLen,
    /// Reserving room.
    Reserve,
    /// Removing a file or directory.
    Remove,
    /// Renaming a file.
    Rename,
    /// Listing a directory.
    List,
}

/// An operation that will fail, from the time of [`inject`](super::SimulatedDisk::inject) on.
#[derive(Clone, Debug)]
pub struct Fault {
    pub(super) operation: Operation,
    errno: i32,
    path_part: String,
    skip: u64,
    times: u64,
}

impl Fault {
    /// Every such operation fails with EIO.
    pub fn eio(operation: Operation) -> Self {
        Self {
            operation,
            errno: EIO,
            path_part: String::new(),
            skip: 0,
            times: u64::MAX,
        }
    }

    /// Every such operation fails with ENOSPC.
    pub fn enospc(operation: Operation) -> Self {
        Self {
            errno: ENOSPC,
            ..Self::eio(operation)
        }
    }

    /// Only on paths that contain `part`.
    #[must_use]
    pub fn on(mut self, part: &str) -> Self {
        part.clone_into(&mut self.path_part);
        self
    }

    /// Only after `count` of them succeeded.
    #[must_use]
    pub fn after(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// Only `count` times.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.times = count;
        self
    }

    /// Whether this operation fails now. Counts it.
    pub(super) fn strikes(&mut self, operation: Operation, path: &Path) -> Option<io::Error> {
        if operation != self.operation || !path.to_string_lossy().contains(&self.path_part) {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times = self.times.checked_sub(1)?;
        Some(io::Error::from_raw_os_error(self.errno))
    }
}

pub(super) const ENOENT: i32 = 2;
pub(super) const EIO: i32 = 5;
pub(super) const EBADF: i32 = 9;
pub(super) const EEXIST: i32 = 17;
pub(super) const ENOTDIR: i32 = 20;
pub(super) const EISDIR: i32 = 21;
pub(super) const ENOSPC: i32 = 28;
pub(super) const ENOTEMPTY: i32 = 39;

pub(super) fn error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}
