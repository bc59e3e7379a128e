//! Blocks of the open segment that are written with zeros ahead of the tip.
//!
//! A segment's space is reserved when it is created, but the file system notes for each block whether it was ever written. A sync that
//! covers a block for the first time must carry that note through the file system's journal as well, and costs twice a sync of blocks that
//! were written before. Where syncs are small that is most of what a durable message waits for, so the keeper writes zeros some way ahead:
//! the notes then come in large pieces. Where syncs are large they carry enough messages to pay for it, and every byte would be written twice.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::commitlog::Tip;
use crate::store::Inner;

/// Zeros begin this far behind the tip, so that no append of ordinary size reaches them while they are written.
const GAP_BYTES: u64 = 512 << 10;
/// Zeros written at once.
const CHUNK_BYTES: u64 = 1 << 20;
/// Small segments (tests) take this part of themselves for the gap and for a chunk.
const SEGMENT_SHARE: u64 = 16;
/// Pages of the kernel: a part of one would be written twice.
const PAGE_BYTES: u64 = 4096;
/// Syncs that cover less than this on average are worth it.
const SYNC_BYTES_MAX: u64 = 96 << 10;
/// A sync counts as this part of the average.
const AVERAGE_OF: u64 = 16;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Whether blocks are written ahead, and the lock of who does it.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    wanted: AtomicBool,
    /// Bytes of a sync, averaged over the last ones. Used by the flusher only.
    sync_bytes: AtomicU64,
    /// Held while zeros are written. An append that would reach them waits here.
    writing: Mutex<()>,
}

impl Ahead {
    /// The flusher covered so many bytes by one sync.
    pub(crate) fn note_sync(&self, bytes: u64) {
        let before = self.sync_bytes.load(Ordering::Relaxed);
        let average = before - before / AVERAGE_OF + bytes / AVERAGE_OF;
        self.sync_bytes.store(average, Ordering::Relaxed);
        self.wanted
            .store(average < SYNC_BYTES_MAX, Ordering::Relaxed);
    }

    /// Whether the tip has come so near to the end of the zeros that more are needed; says so once. With the append lock held.
    pub(crate) fn is_due(&self, tip: &mut Tip, segment_bytes: u64) -> bool {
        let is_due = self.wanted.load(Ordering::Relaxed)
            && tip.zeros_asked < tip.position + reach(segment_bytes, GAP_BYTES);
        if is_due {
            tip.zeros_asked = tip.position + reach(segment_bytes, CHUNK_BYTES);
        }
        is_due
    }

    /// Returns when no zeros are being written where an append that ends at `end` writes. With the append lock held.
    pub(crate) fn wait(&self, tip: &Tip, end: u64) {
        if tip.zeros_begin < end {
            drop(self.writing());
        }
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing
            .lock()
            .expect("no code panics while it writes zeros")
    }
}

fn reach(segment_bytes: u64, bytes: u64) -> u64 {
    bytes.min(segment_bytes / SEGMENT_SHARE).max(1)
}

/// Writes the next zeros. One thread at a time: the keeper.
pub(crate) fn write(inner: &Inner) -> io::Result<()> {
    let ahead = &inner.log.ahead;
    let segment_bytes = inner.config.segment_bytes;
    let tip = || {
        inner
            .log
            .tip
            .lock()
            .expect("no code panics while it appends")
    };
    let mut now = tip();
    let Some(segment) = now.segment.clone() else {
        return Ok(());
    };
    let chunk = reach(segment_bytes, CHUNK_BYTES);
    let from = now
        .zeros_end
        .max(now.position + reach(segment_bytes, GAP_BYTES))
        .next_multiple_of(PAGE_BYTES.min(chunk));
    let to = (from + chunk).min(segment.start + segment_bytes);
    if from >= to {
        return Ok(());
    }
    // The order of locks is tip, then zeros; an append that waits for these zeros holds the first.
    let writing = ahead.writing();
    now.zeros_begin = from;
    drop(now);
    let mut at = from;
    let mut written = Ok(());
    while at < to && written.is_ok() {
        let bytes = (to - at).min(ZEROS.len() as u64);
        written = segment
            .file
            .write_all_at(&ZEROS[..bytes as usize], at - segment.start);
        at += bytes;
    }
    drop(writing);
    let mut now = tip();
    now.zeros_begin = u64::MAX;
    if written.is_ok() {
        now.zeros_end = to;
        now.zeros_asked = to;
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_wanted_while_syncs_are_small() {
        let ahead = Ahead::default();
        assert!(
            !ahead.wanted.load(Ordering::Relaxed),
            "before the first sync"
        );
        for (bytes, wanted) in [(4 << 10, true), (8 << 20, false)] {
            (0..4 * AVERAGE_OF).for_each(|_| ahead.note_sync(bytes));
            assert_eq!(ahead.wanted.load(Ordering::Relaxed), wanted, "{bytes}");
        }
        (0..10 * AVERAGE_OF).for_each(|_| ahead.note_sync(100));
        assert!(ahead.wanted.load(Ordering::Relaxed));
    }

    #[test]
    fn small_segments_have_small_reaches() {
        assert_eq!(reach(1 << 30, GAP_BYTES), GAP_BYTES);
        assert_eq!(reach(1 << 10, GAP_BYTES), 64);
        assert_eq!(reach(1, CHUNK_BYTES), 1);
    }
}
