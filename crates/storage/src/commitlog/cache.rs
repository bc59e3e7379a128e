//! How much of the log the kernel keeps in memory.
//!
//! Left alone, the page cache grows until nothing is free, and from then on every append pays for a page that somebody
//! else loses. Consumers that keep up are served from the memory tail and never look at those pages. So what is synced
//! and lies further back than the window gives its pages back, and the next appends get the same ones again, still warm.
//! While somebody reads further back, the kernel decides.

use std::ops::Range;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::segments::Segments;

/// Pages are given back in steps of this size, aligned to it, so that a call has something to do.
const STEP_BYTES: u64 = 8 << 20;
/// How long after a read of files the kernel decides: a consumer that catches up reads again and again.
const READERS_GONE_MS: i64 = 60_000;

/// The window behind the flushed position.
#[derive(Debug)]
pub(crate) struct CacheWindow {
    /// 0 leaves everything to the kernel.
    bytes: u64,
    /// What lies before was given back.
    trimmed: AtomicU64,
    last_file_read_ms: AtomicI64,
}

impl CacheWindow {
    /// Of what lies before `start` nothing is in the cache, or it is none of this process's doing.
    pub(crate) fn new(bytes: u64, start: u64) -> CacheWindow {
        CacheWindow {
            bytes,
            trimmed: AtomicU64::new(start - start % STEP_BYTES),
            last_file_read_ms: AtomicI64::new(i64::MIN),
        }
    }

    /// Records were read from a file.
    pub(crate) fn note_file_read(&self, now_ms: i64) {
        self.last_file_read_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Gives back what lies before the window. Called by one thread at a time.
    pub(crate) fn trim(&self, segments: &Segments, flushed: u64, now_ms: i64) {
        let Some(range) = self.due(flushed, now_ms) else {
            return;
        };
        for segment in segments.overlapping(range.start, range.end) {
            let from = range.start.max(segment.start) - segment.start;
            let to = (range.end - segment.start).min(segments.segment_bytes());
            segment.file.advise_cold(from..to);
        }
        self.trimmed.store(range.end, Ordering::Relaxed);
    }

    fn due(&self, flushed: u64, now_ms: i64) -> Option<Range<u64>> {
        let last_read_ms = self.last_file_read_ms.load(Ordering::Relaxed);
        if self.bytes == 0 || now_ms.saturating_sub(last_read_ms) < READERS_GONE_MS {
            return None;
        }
        let end = flushed.saturating_sub(self.bytes) / STEP_BYTES * STEP_BYTES;
        let start = self.trimmed.load(Ordering::Relaxed);
        (start < end).then_some(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn whole_steps_before_the_window_are_due() {
        let window = CacheWindow::new(100 * MIB, 3 * MIB);
        assert_eq!(window.due(90 * MIB, 0), None, "all of it is in the window");
        assert_eq!(window.due(107 * MIB, 0), None, "less than a step");
        assert_eq!(window.due(125 * MIB, 0), Some(0..24 * MIB));
        window.trimmed.store(24 * MIB, Ordering::Relaxed);
        assert_eq!(window.due(125 * MIB, 0), None, "once is enough");
        assert_eq!(CacheWindow::new(0, 0).due(u64::MAX, 0), None);
    }

    #[test]
    fn nothing_is_taken_from_those_who_read() {
        let window = CacheWindow::new(100 * MIB, 0);
        window.note_file_read(5_000);
        assert_eq!(window.due(200 * MIB, 64_999), None);
        assert_eq!(window.due(200 * MIB, 65_000), Some(0..96 * MIB));
    }
}
