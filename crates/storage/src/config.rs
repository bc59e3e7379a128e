//! What the store is told when it is opened. Defaults are Java's, the flush mode aside.

use std::path::PathBuf;

/// Entries of queues or index that are written without waiting for more: enough that an index page is mostly touched by several.
const WRITE_BATCH: usize = 256 << 10;

/// When an append counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushMode {
    /// A flusher thread syncs as soon as something is appended; one sync serves everything that arrived during the last.
    /// Consumers see only what is synced. Survives loss of power.
    Sync,
    /// The log is synced every [`Config::flush_interval_ms`]. Survives death of the process, not loss of power.
    Async,
}

/// Where a store lies and how it behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// The directory that holds everything (`storePathRootDir`).
    pub root: PathBuf,
    /// The directory of the commit log (`storePathCommitLog`); `<root>/commitlog` when not given.
    pub commit_log_dir: Option<PathBuf>,
    /// Size of one commit log segment in bytes (`mappedFileSizeCommitLog`). All segments of a store have it.
    pub segment_bytes: u64,
    /// Size of one consume queue file in bytes (`mappedFileSizeConsumeQueue` × 20); rounded down to whole entries.
    pub queue_file_bytes: u64,
    /// Size of one file of a batch topic's consume queue in bytes (`mapperFileSizeBatchConsumeQueue`); rounded down to whole units of 46 bytes.
    pub batch_queue_file_bytes: u64,
    /// Names of the batch topics, of which one record may hold several messages (`queue.type=BatchCQ`). Those whose queues are found in their
    /// directory, or whose records say so, need not be among them.
    pub batch_topics: Vec<String>,
    /// When an append counts as durable.
    pub flush: FlushMode,
    /// Pause between two syncs of the log under [`FlushMode::Async`].
    pub flush_interval_ms: u64,
    /// Whether messages are indexed by key and unique id (`messageIndexEnable`).
    pub index_enabled: bool,
    /// Hash slots of one index file (`maxHashSlotNum`).
    pub index_slots: u32,
    /// Entries of one index file (`maxIndexNum`); entry 0 is never used.
    pub index_entries: u32,
    /// Hours after which a segment may be deleted (`fileReservedTime`).
    pub file_reserved_hours: u64,
    /// Hours of the day (UTC offset by [`Config::utc_offset_seconds`]) in which expired segments are deleted (`deleteWhen`).
    pub delete_when_hours: Vec<u8>,
    /// Seconds that local time is ahead of UTC, for `deleteWhen`.
    pub utc_offset_seconds: i32,
    /// Pause between two looks at expired segments and the disk (`cleanResourceInterval`).
    pub clean_interval_ms: u64,
    /// Used part of the disk in percent above which expired segments are deleted at any hour (`diskMaxUsedSpaceRatio`).
    pub disk_max_used_ratio: u8,
    /// Used part of the disk in percent above which the oldest segments are deleted even when not expired (`diskSpaceCleanForciblyRatio`).
    pub clean_forcibly_ratio: u8,
    /// Used part of the disk in percent above which appends are refused (`diskSpaceWarningLevelRatio`).
    pub warning_ratio: u8,
    /// Whether forced deletion is allowed (`cleanFileForciblyEnable`).
    pub clean_forcibly_enabled: bool,
    /// Segments deleted in one look at most (`deleteFileBatchMax`).
    pub delete_batch_max: usize,
    /// Whether expired segments stay until [`crate::Store::release_expired`] lets go of them: somebody keeps messages that wait in the log. A disk that is
    /// too full takes them all the same.
    pub hold_expired: bool,
    /// Whether expired segments stay until [`crate::Store::release_for_compaction`] lets go of them as well: queues are compacted, and what waits for that
    /// lies in the log. A disk that is too full takes them all the same.
    pub hold_for_compaction: bool,
    /// Largest body in bytes (`maxMessageSize`).
    pub message_bytes_max: u32,
    /// Whether a record ends with a checksum of the whole of it (`enabledAppendPropCRC`).
    pub record_checksum: bool,
    /// How much of the newest part of the log stays in memory.
    pub tail_bytes_max: usize,
    /// How much of the synced log stays in the kernel's page cache while nobody reads further back (`commitLogPageCacheBytes`);
    /// 0 leaves it to the kernel.
    pub page_cache_bytes: u64,
    /// Queues that have files of their own, in Java's format, at most (`maxFileQueueNum`). With more, a shared store holds the entries of all; when
    /// at most half as many are left at the next start, they get files again.
    pub queue_files_max: usize,
    /// Consume queue files held open at most.
    pub queue_files_open_max: usize,
    /// Consume queue entries in memory that are not in their files yet, at most; beyond it appends are refused as busy.
    pub queue_backlog_max: usize,
    /// Index entries in memory that are not in their files yet, at most; beyond it appends are refused as busy.
    pub index_backlog_max: usize,
    /// Pause between two runs of the thread that writes consume queues and index behind.
    pub write_behind_interval_ms: u64,
    /// Pause between two checkpoints, which bound how much of the log a recovery reads.
    pub checkpoint_interval_ms: u64,
    /// Whether messages go to the light queues that they name (`enableLmq` and `enableMultiDispatch`). A recovery restores what is there, whatever this says.
    pub light_queues: bool,
    /// Delay levels (`messageDelayLevel`), from which the deliver time of a scheduled message is computed.
    pub delay_levels: String,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            root: PathBuf::from("store"),
            commit_log_dir: None,
            segment_bytes: 1 << 30,
            queue_file_bytes: 6_000_000,
            batch_queue_file_bytes: 300_000 * crate::queue::units::UNIT_BYTES,
            batch_topics: Vec::new(),
            flush: FlushMode::Sync,
            flush_interval_ms: 500,
            index_enabled: true,
            index_slots: 5_000_000,
            index_entries: 20_000_000,
            file_reserved_hours: 72,
            delete_when_hours: vec![4],
            utc_offset_seconds: 0,
            clean_interval_ms: 10_000,
            disk_max_used_ratio: 75,
            clean_forcibly_ratio: 85,
            warning_ratio: 90,
            clean_forcibly_enabled: true,
            delete_batch_max: 10,
            hold_expired: false,
            hold_for_compaction: false,
            message_bytes_max: 4 << 20,
            record_checksum: false,
            tail_bytes_max: 32 << 20,
            page_cache_bytes: 256 << 20,
            queue_files_max: 20_000,
            queue_files_open_max: 512,
            queue_backlog_max: 4 << 20,
            index_backlog_max: 4 << 20,
            write_behind_interval_ms: 1_000,
            checkpoint_interval_ms: 3_000,
            light_queues: false,
            delay_levels: "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h".to_owned(),
        }
    }
}

impl Config {
    /// The directory of the commit log.
    pub fn commit_log_dir(&self) -> PathBuf {
        self.commit_log_dir
            .clone()
            .unwrap_or_else(|| self.root.join("commitlog"))
    }

    /// Entries that are worth a write before its time.
    pub(crate) fn write_batch(&self) -> usize {
        WRITE_BATCH
            .min(self.queue_backlog_max / 2)
            .min(self.index_backlog_max / 2)
            .max(1)
    }

    /// Size of one consume queue file in whole entries of 20 bytes.
    pub(crate) fn queue_file_entries(&self) -> u64 {
        (self.queue_file_bytes / crate::queue::ENTRY_BYTES).max(1)
    }
}
