//! What keeps the log's house: the next segment ahead of need, expired segments removed, the disk watched.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use platform::disk::Disk;

use crate::commitlog::{ahead, scan};
use crate::store::{Inner, Sleeper};
use crate::writer;

const HOUR_MS: i64 = 3_600_000;

/// What the keeper thread and those who need it share.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    sleeper: Sleeper,
    /// Start of the segment that is needed next, plus one; 0 when none is.
    wanted: AtomicU64,
    /// The tip comes near the end of the blocks that were written ahead.
    zeros_wanted: AtomicBool,
    /// Below this position expired segments may go, where they are held.
    released: AtomicU64,
    cleaning: Mutex<()>,
}

impl Keeper {
    /// Asks for the segment that starts at `start`. Called with the append lock held.
    pub(crate) fn want_segment(&self, start: u64) {
        self.wanted.fetch_max(start + 1, Ordering::AcqRel);
        self.sleeper.wake();
    }

    /// Asks for blocks to be written ahead of the tip. Called with the append lock held.
    pub(crate) fn want_zeros(&self) {
        self.zeros_wanted.store(true, Ordering::Release);
        self.sleeper.wake();
    }

    /// Lets go of what lies below a position.
    pub(crate) fn release(&self, before: u64) {
        self.released.fetch_max(before, Ordering::AcqRel);
    }

    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire) != 0 || self.zeros_wanted.load(Ordering::Acquire)
    }
}

/// Why segments are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The interval is over.
    Timer,
    /// An operator asked.
    Manual,
}

/// The keeper's life.
pub(crate) fn run(inner: &Inner) {
    inner.keeper.sleeper.register();
    let interval = Duration::from_millis(inner.config.clean_interval_ms.max(1));
    match inner.log.segments.last() {
        None => inner.keeper.want_segment(inner.log.appended()),
        Some(last)
            if inner.log.appended().saturating_sub(last.start) > inner.config.segment_bytes / 2 =>
        {
            inner
                .keeper
                .want_segment(last.start + inner.config.segment_bytes);
        }
        Some(_) => {}
    }
    let mut next_clean = Instant::now();
    while !inner.stop.is_abandoned() && !inner.stop.is_requested() {
        let wanted = inner.keeper.wanted.swap(0, Ordering::AcqRel);
        if let Some(start) = wanted.checked_sub(1)
            && let Err(error) = inner.log.segments.prepare(start)
        {
            // The append that needs it tries again, and tells its client.
            tracing::warn!(%error, start, "the next commit log file could not be prepared");
        }
        if inner.keeper.zeros_wanted.swap(false, Ordering::AcqRel)
            && inner.health.failure().is_none()
            && let Err(error) = ahead::write(inner)
        {
            // Nothing depends on them; a disk that fails shows itself to the next append or sync.
            tracing::warn!(%error, "blocks of the commit log could not be written ahead");
        }
        if Instant::now() >= next_clean {
            clean(inner, Reason::Timer);
            next_clean = Instant::now() + interval;
        }
        if !inner.keeper.is_wanted() && !inner.stop.is_abandoned() && !inner.stop.is_requested() {
            std::thread::park_timeout(next_clean.saturating_duration_since(Instant::now()));
        }
    }
}

/// Used part of the disk that holds `dir`, 0 to 1; 0 when the system does not tell: nothing is deleted or refused on a guess.
pub(crate) fn used_ratio(disk: &dyn Disk, dir: &Path) -> f64 {
    match disk.space(dir) {
        Ok(space) if space.total_bytes > 0 => {
            1.0 - space.free_bytes.min(space.total_bytes) as f64 / space.total_bytes as f64
        }
        _ => 0.0,
    }
}

/// Looks at the disk, removes what has expired or must go, and sets or clears the refusal.
pub(crate) fn clean(inner: &Inner, reason: Reason) {
    let _cleaning = inner
        .keeper
        .cleaning
        .lock()
        .expect("no code panics while it cleans");
    watch_disk(inner);
    let removed = remove_segments(inner, reason);
    if removed > 0 {
        tracing::info!(
            segments = removed,
            log_min = inner.log.min(),
            "removed commit log files"
        );
        writer::clean_derived(inner);
        watch_disk(inner);
    }
}

fn watch_disk(inner: &Inner) {
    let dir = inner.log.segments.dir();
    let Ok(space) = inner.disk.space(dir) else {
        return;
    };
    if space.free_bytes >= inner.config.segment_bytes {
        inner.health.set_no_space(None);
    }
    let limit = f64::from(inner.config.warning_ratio) / 100.0;
    let ratio = used_ratio(&*inner.disk, dir);
    let reason = (ratio > limit).then(|| {
        let percent = ratio * 100.0;
        format!(
            "{percent:.1} % of the disk of {} are used, diskSpaceWarningLevelRatio is {}",
            dir.display(),
            inner.config.warning_ratio
        )
    });
    if inner.health.set_too_full(reason.as_deref()) {
        match reason {
            Some(reason) => tracing::error!(
                reason,
                "the disk is too full: messages are refused until there is space"
            ),
            None => tracing::info!("there is space on the disk again: messages are taken"),
        }
    }
}

fn remove_segments(inner: &Inner, reason: Reason) -> usize {
    let config = &inner.config;
    let now_ms = inner.clock.now_ms();
    let percent = || used_ratio(&*inner.disk, inner.log.segments.dir()) * 100.0;
    let expiring = reason == Reason::Manual
        || is_time(config.utc_offset_seconds, &config.delete_when_hours, now_ms)
        || percent() > f64::from(config.disk_max_used_ratio);
    let mut removed = 0;
    while removed < config.delete_batch_max && !inner.stop.is_abandoned() {
        let forced =
            config.clean_forcibly_enabled && percent() > f64::from(config.clean_forcibly_ratio);
        let expired = expiring && first_is_expired(inner, now_ms);
        if !forced && !expired {
            break;
        }
        // What is not synced stays: the flusher may be at it. What the last checkpoint does not cover stays too: after a crash its records are
        // all that tells at which offset their queues go on.
        let covered = inner.log.flushed().min(inner.writer.written());
        let segments = inner.log.segments.all();
        if segments.get(1).is_none_or(|second| second.start > covered) {
            inner.writer.wake();
            break;
        }
        let released = inner.keeper.released.load(Ordering::Acquire);
        let is_held = segments.get(1).is_some_and(|second| {
            (config.hold_expired && second.start > released) || inner.compaction.holds(second.start)
        });
        if is_held && !forced {
            break;
        }
        match inner.log.segments.remove_first() {
            Ok(true) => removed += 1,
            Ok(false) => break,
            Err(error) => {
                tracing::warn!(%error, "an expired commit log file could not be removed");
                break;
            }
        }
    }
    removed
}

/// A segment is as old as its newest record, which is hardly older than the first of the next segment.
fn first_is_expired(inner: &Inner, now_ms: i64) -> bool {
    let segments = inner.log.segments.all();
    let Some(second) = segments.get(1) else {
        return false;
    };
    let ended = scan::first_store_timestamp(second).ok().flatten();
    let reserved_ms = i64::try_from(inner.config.file_reserved_hours)
        .unwrap_or(i64::MAX)
        .saturating_mul(HOUR_MS);
    ended.is_some_and(|ended| now_ms.saturating_sub(ended) > reserved_ms)
}

/// Whether the hour of the day, there, is one of those in which expired segments are removed.
fn is_time(utc_offset_seconds: i32, hours: &[u8], now_ms: i64) -> bool {
    let local_ms = now_ms + i64::from(utc_offset_seconds) * 1000;
    let hour = local_ms.rem_euclid(24 * HOUR_MS) / HOUR_MS;
    hours.iter().any(|wanted| i64::from(*wanted) == hour)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hour_is_local() {
        assert!(is_time(0, &[4], 4 * HOUR_MS + 1));
        assert!(!is_time(0, &[4], 5 * HOUR_MS));
        assert!(is_time(8 * 3600, &[4, 12], 4 * HOUR_MS));
        assert!(is_time(-3600, &[23], 0));
    }
}
