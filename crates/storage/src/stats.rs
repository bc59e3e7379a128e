//! Figures about the store, and whether it takes writes.

/// Whether appends are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteState {
    /// Yes.
    Writable,
    /// No: there is no space. Becomes writable again by itself.
    DiskFull {
        /// Which limit was met.
        reason: String,
    },
    /// No, until the process is restarted.
    Failed {
        /// The first failure.
        reason: String,
    },
    /// No: closed.
    Closed,
}

/// Figures for `GET_BROKER_RUNTIME_INFO`. Taken one after the other, not in one instant.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// First position of the log.
    pub commit_log_min: u64,
    /// Position behind the last record.
    pub commit_log_max: u64,
    /// Position up to which the log survives loss of power.
    pub flushed: u64,
    /// Position up to which consume queue entries are in their files.
    pub queues_written: u64,
    /// Segments of the log.
    pub segments: usize,
    /// Topics.
    pub topics: usize,
    /// Queues.
    pub queues: usize,
    /// Consume queue entries in memory that are not in their files.
    pub queue_backlog: usize,
    /// Index entries in memory that are not in their files.
    pub index_backlog: usize,
    /// Bytes of the log held in memory.
    pub tail_bytes: usize,
    /// Store timestamp of the first record, -1 when the log is empty.
    pub earliest_store_timestamp_ms: i64,
    /// Messages appended since the store was opened.
    pub appended_messages: u64,
    /// Bytes appended since the store was opened.
    pub appended_bytes: u64,
    /// Syncs of the log since the store was opened.
    pub syncs: u64,
    /// Used part of the disk of the commit log, 0 to 1.
    pub commit_log_disk_ratio: f64,
    /// Used part of the disk of the consume queues, 0 to 1.
    pub queue_disk_ratio: f64,
}
