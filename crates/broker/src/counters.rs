//! How much went in and out since the start.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that only grow. Read one after the other, not in one instant.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    messages_in: AtomicU64,
    bytes_in: AtomicU64,
    messages_out: AtomicU64,
}

impl Counters {
    /// `messages` were stored as records that take `from..to` of the log.
    pub(crate) fn put(&self, messages: usize, from: u64, to: u64) {
        self.messages_in
            .fetch_add(messages as u64, Ordering::Relaxed);
        self.bytes_in
            .fetch_add(to.saturating_sub(from), Ordering::Relaxed);
    }

    /// `messages` were handed out.
    pub(crate) fn get(&self, messages: usize) {
        self.messages_out
            .fetch_add(messages as u64, Ordering::Relaxed);
    }

    /// Messages stored.
    pub(crate) fn messages_in(&self) -> u64 {
        self.messages_in.load(Ordering::Relaxed)
    }

    /// Bytes of their records.
    pub(crate) fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    /// Messages handed out to consumers.
    pub(crate) fn messages_out(&self) -> u64 {
        self.messages_out.load(Ordering::Relaxed)
    }
}
