//! What is recorded: a store under mixed traffic through several lives, and the lines that say what it acknowledged.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use platform::clock::ManualClock;
use platform::disk::{Disk, Operation, RecordingDisk, SimulatedDisk};
use storage::{Appended, Config, FlushMode, Store};

use super::messages::{Message, settled};
use platform::random::Random;

/// Lives of the store in one recording: each ends in a clean stop or in a death.
const LIVES: u64 = 5;
/// Appends of one life.
const APPENDS: u64 = 22;
/// Messages of one append at most.
const BATCH_MAX: u64 = 6;
/// Where the clock stands in the beginning, and behind everything.
const BEGIN_MS: i64 = 1_700_000_000_000;
pub(crate) const END_MS: i64 = BEGIN_MS + 10_000_000;

/// Small segments and files, so that a recording rolls over all of them several times.
pub(crate) fn config(flush: FlushMode) -> Config {
    Config {
        root: PathBuf::from("/data/store"),
        segment_bytes: 16 << 10,
        queue_file_bytes: 20 * 8,
        flush,
        index_slots: 32,
        index_entries: 96,
        warning_ratio: 100,
        clean_forcibly_ratio: 100,
        disk_max_used_ratio: 100,
        delete_when_hours: Vec::new(),
        file_reserved_hours: 0,
        delete_batch_max: 2,
        tail_bytes_max: 8 << 10,
        write_behind_interval_ms: 1,
        checkpoint_interval_ms: 2,
        flush_interval_ms: 1,
        ..Config::default()
    }
}

/// How many queues may have files of their own in one life of a recording: all six, or fewer than there are, so that the shared store takes
/// them over at the start of a life or while it runs, and gives them back in the next.
fn queue_files_max(seed: u64, life: u64) -> usize {
    match (seed + life) % 3 {
        0 => Config::default().queue_files_max,
        1 => 4,
        _ => 0,
    }
}

/// The same for a disk that a power cut left.
pub(crate) fn queue_files_after(random: &mut Random) -> usize {
    queue_files_max(random.below(3), 0)
}

/// How the store of a recording syncs.
pub(crate) fn flush_mode(seed: u64) -> FlushMode {
    if seed % 4 == 3 {
        FlushMode::Async
    } else {
        FlushMode::Sync
    }
}

/// A line that says what the store did.
pub(crate) enum Note {
    /// Messages below this number may be in the log.
    Sent(u64),
    /// A message survives from here on, at this position and queue offset.
    Acknowledged(u64, u64, u64),
    /// Segments that are removed from here on are expired, until the next line of this kind.
    Expiring(bool),
}

impl Note {
    fn text(&self) -> String {
        match self {
            Note::Sent(below) => format!("sent {below}"),
            Note::Acknowledged(number, physical, queue_offset) => {
                format!("acknowledged {number} {physical} {queue_offset}")
            }
            Note::Expiring(begins) => format!("expiring {begins}"),
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Note> {
        let mut words = text.split(' ');
        let verb = words.next()?;
        if verb == "expiring" {
            return Some(Note::Expiring(words.next()?.parse().ok()?));
        }
        let mut number = || words.next()?.parse().ok();
        match verb {
            "sent" => Some(Note::Sent(number()?)),
            "acknowledged" => Some(Note::Acknowledged(number()?, number()?, number()?)),
            _ => None,
        }
    }
}

/// The start of a commit log file.
pub(crate) fn segment_start(path: &Path) -> Option<u64> {
    let is_segment = path.parent()?.ends_with("commitlog");
    is_segment.then(|| path.file_name()?.to_str()?.parse().ok())?
}

/// Runs the traffic of a seed. The threads of the store are not led by it: two recordings of a seed differ in the order of operations.
pub(crate) async fn record(seed: u64) -> Result<Vec<Operation>> {
    let mut random = Random(seed);
    let disk = RecordingDisk::new(Arc::new(SimulatedDisk::new()));
    let clock = Arc::new(ManualClock::new(BEGIN_MS));
    let config = config(flush_mode(seed));
    let mut next = 0;
    for number in 0..LIVES {
        let config = Config {
            queue_files_max: queue_files_max(seed, number),
            ..config.clone()
        };
        let store = Store::open(
            config,
            Arc::new(disk.clone()) as Arc<dyn Disk>,
            Arc::clone(&clock) as _,
        )
        .context("a recorded store does not open")?;
        live(&store, &disk, &clock, &mut random, &mut next).await?;
        if random.once_in(2) {
            store.close();
        }
    }
    Ok(disk.operations())
}

async fn live(
    store: &Store,
    disk: &RecordingDisk,
    clock: &ManualClock,
    random: &mut Random,
    next: &mut u64,
) -> Result<()> {
    let mut waiting: Vec<(u64, Appended)> = Vec::new();
    for _ in 0..APPENDS {
        clock.advance(Duration::from_millis(random.below(2000)));
        let numbers = *next..*next + 1 + random.below(BATCH_MAX);
        *next = numbers.end;
        disk.note(Note::Sent(numbers.end).text());
        let messages: Vec<Message> = numbers.clone().map(Message::of).collect();
        let new: Vec<_> = messages.iter().map(Message::new_message).collect();
        let mut appended = Vec::new();
        store.append(&new, &mut appended)?;
        waiting.extend(numbers.zip(appended));
        // Sometimes several appends are under way when the sync comes.
        if random.once_in(3) {
            continue;
        }
        ensure!(
            settled(store).await,
            "a sync failed on a disk without faults"
        );
        for (number, at) in waiting.drain(..) {
            let note = Note::Acknowledged(number, at.physical_offset, at.queue_offset);
            disk.note(note.text());
        }
        if random.once_in(8) && store.stats().segments > 4 {
            disk.note(Note::Expiring(true).text());
            store.delete_expired_segments();
            disk.note(Note::Expiring(false).text());
        }
    }
    Ok(())
}
