//! What can go wrong, one enum an operation.

use std::path::PathBuf;

/// Why a store did not open. Nothing was changed unless the text says so.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk refused an operation. Mend the disk or the permissions and open again.
    #[error("{action} {}: {source}", path.display())]
    Disk {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process, a Java broker or this one, has the store open. Stop it first.
    #[error("the store {} is in use by another process: {source}", root.display())]
    Locked {
        /// Root of the store.
        root: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A commit log file has another size than configured. Set `mappedFileSizeCommitLog` to the size of the files.
    #[error("commit log file {} has {found} bytes, but mappedFileSizeCommitLog is {configured}", path.display())]
    SegmentSize {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The configured size in bytes.
        configured: u64,
    },
    /// A commit log file is missing between two others. Restore it, or move the files before it away.
    #[error("the commit log has a gap: no file starts at {expected}, the next one is {}", next.display())]
    SegmentGap {
        /// Where a file should start.
        expected: u64,
        /// The file that was found instead.
        next: PathBuf,
    },
    /// A setting makes no sense.
    #[error("{0}")]
    Configuration(String),
}

impl OpenError {
    pub(crate) fn disk(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> OpenError {
        let path = path.into();
        move |source| OpenError::Disk {
            action,
            path,
            source,
        }
    }
}

/// Why nothing was appended. None of the batch is in the log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// There is no space. Refuse the client; writing resumes by itself when space returns.
    #[error("the disk is full: {reason}")]
    DiskFull {
        /// Which limit was met.
        reason: String,
    },
    /// A write or a sync failed, so what is on the disk is uncertain. No more writes until the process is restarted.
    #[error("the store has failed and takes no more writes until it is restarted: {reason}")]
    Failed {
        /// The first failure.
        reason: String,
    },
    /// The next commit log file could not be created, for another reason than space. Refuse the client; the next append tries again.
    #[error("{reason}")]
    NoSegment {
        /// What was tried and what the system said.
        reason: String,
    },
    /// The files behind the log (consume queues, index) lag too far. Refuse the client for now.
    #[error("the store is busy: {waiting} entries wait to be written to consume queues or index")]
    Busy {
        /// Entries that wait.
        waiting: usize,
    },
    /// Body or record beyond the limit.
    #[error("the message has {bytes} bytes, the limit is {bytes_max}")]
    TooLarge {
        /// Size of what is too large.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// Topic beyond the limit, or empty.
    #[error("the topic has {bytes} bytes, the limit is {bytes_max}")]
    TopicTooLong {
        /// Size of the topic.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// Properties beyond the limit.
    #[error("the properties have {bytes} bytes, the limit is {bytes_max}")]
    PropertiesTooLong {
        /// Size of the properties.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The topic cannot name a directory, or the queue is negative.
    #[error("topic {topic:?} queue {queue_id} cannot be stored")]
    Unstorable {
        /// The topic.
        topic: String,
        /// The queue.
        queue_id: i32,
    },
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The data is not in memory and the caller may not wait: ask again with `Blocking` on a thread that may.
    #[error("the data is not in memory")]
    WouldBlock,
    /// The disk failed. Tell the client; other reads may work.
    #[error("reading {what}: {source}")]
    Disk {
        /// What was read.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

impl ReadError {
    pub(crate) fn disk(what: &'static str) -> impl FnOnce(std::io::Error) -> ReadError {
        move |source| {
            if source.kind() == std::io::ErrorKind::WouldBlock {
                ReadError::WouldBlock
            } else {
                ReadError::Disk { what, source }
            }
        }
    }
}
