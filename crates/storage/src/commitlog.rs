//! The commit log: segments on disk, the newest part in memory, the positions that say how far each of them goes.

pub(crate) mod ahead;
pub(crate) mod cache;
pub(crate) mod scan;
pub(crate) mod segments;
pub(crate) mod tail;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;

use ahead::Ahead;
use cache::CacheWindow;
use segments::{Segment, Segments};
use std::sync::Arc;
use tail::Tail;

/// Bytes that every segment keeps free behind its last record: the header of the blank record that closes it.
pub(crate) const BLANK_BYTES: u64 = 8;

/// Where the next record goes. Only who holds the append lock sees it.
#[derive(Debug)]
pub(crate) struct Tip {
    /// The segment that is written.
    pub(crate) segment: Option<Arc<Segment>>,
    /// Position of the next record.
    pub(crate) position: u64,
    /// Store timestamp of the last record: the next one gets no less, so that searches by time may bisect.
    pub(crate) store_timestamp_ms: i64,
    /// Memory that records are encoded into; what was written is split off and becomes part of the tail.
    pub(crate) chunk: BytesMut,
    /// Behind `position`, up to here, a failed write may have left bytes that look like records. They are zeroed before the next write.
    pub(crate) dirty_until: u64,
    /// The segments before this position exist or were asked for.
    pub(crate) asked_until: u64,
    /// Zeros are being written from here on; `u64::MAX` while none are. See [`ahead`].
    pub(crate) zeros_begin: u64,
    /// Behind the tip, zeros were written up to here.
    pub(crate) zeros_end: u64,
    /// Zeros up to here were written or asked for.
    pub(crate) zeros_asked: u64,
    /// Sum over all queues of their next offset. Together with a position it tells a recovery whether a queue was lost.
    pub(crate) entries_total: u64,
}

/// The commit log.
///
/// Invariant, checked by [`Log::check`]: `min ≤ flushed ≤ appended`, and the tail ends at `appended` or is empty.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) segments: Segments,
    pub(crate) tail: Tail,
    pub(crate) cache: CacheWindow,
    pub(crate) ahead: Ahead,
    pub(crate) tip: Mutex<Tip>,
    appended: AtomicU64,
    flushed: AtomicU64,
}

impl Log {
    pub(crate) fn new(
        segments: Segments,
        tail_bytes_max: usize,
        page_cache_bytes: u64,
        flushed: u64,
        end: u64,
        store_timestamp_ms: i64,
        entries_total: u64,
    ) -> Log {
        let segment = segments.containing(end);
        Log {
            segments,
            tail: Tail::new(tail_bytes_max),
            cache: CacheWindow::new(page_cache_bytes, end),
            ahead: Ahead::default(),
            tip: Mutex::new(Tip {
                segment,
                position: end,
                store_timestamp_ms,
                chunk: BytesMut::new(),
                dirty_until: 0,
                asked_until: 0,
                zeros_begin: u64::MAX,
                zeros_end: 0,
                zeros_asked: 0,
                entries_total,
            }),
            appended: AtomicU64::new(end),
            flushed: AtomicU64::new(flushed),
        }
    }

    /// Position behind the last record that was written.
    pub(crate) fn appended(&self) -> u64 {
        self.appended.load(Ordering::Acquire)
    }

    /// Position up to which the log survives loss of power.
    pub(crate) fn flushed(&self) -> u64 {
        self.flushed.load(Ordering::Acquire)
    }

    /// First position that is still there.
    pub(crate) fn min(&self) -> u64 {
        self.segments.min().unwrap_or_else(|| self.appended())
    }

    /// Makes records up to `position` readable. Called with the append lock held.
    pub(crate) fn publish_appended(&self, position: u64) {
        self.appended.store(position, Ordering::Release);
        self.check();
    }

    /// Called by the flusher only.
    pub(crate) fn publish_flushed(&self, position: u64) {
        self.flushed.store(position, Ordering::Release);
        self.check();
    }

    /// The inequalities that hold at every moment. `flushed` is read first: both only grow.
    pub(crate) fn check(&self) {
        if cfg!(debug_assertions) {
            let flushed = self.flushed();
            let appended = self.appended();
            assert!(
                flushed <= appended,
                "flushed {flushed} is beyond appended {appended}"
            );
        }
    }
}
