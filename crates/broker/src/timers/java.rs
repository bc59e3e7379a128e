//! The files in which a Java broker keeps its timers (5.3: `TimerCheckpoint`, `TimerLog`, `TimerWheel`): `config/timercheck` is read at the start, to go on where it ended; `timercheck`
//! and `timerlog` are written at a clean stop, so that it goes on. Layouts: `docs/formats/timers.md`.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use platform::disk::{Disk, File, OpenMode, create_dir_all_synced};

use super::entry::{Entry, Mark};
use super::notes::{CHECK_BYTES, Progress, read, write_synced};

const CHECK: &str = "timercheck";
const CHECK_NEW: &str = "timercheck.tmp";
/// Java maps a page.
const CHECK_FILE_BYTES: usize = 4096;
const COUNTER_AT: usize = 48;

const LOG: &str = "timerlog";
const WHEEL: &str = "timerwheel";
/// `mappedFileSizeTimerLog`.
const LOG_FILE_BYTES: u64 = 104_857_600;
const UNIT_BYTES: usize = 52;
/// Java keeps this much at the end of each file.
const BLANK_BYTES: u64 = 16;
const BLANK_MAGIC: u32 = 0xCBD4_3194;
const DEFAULT: u32 = 1;
const ROLL: u32 = 2;
const DELETE: u32 = 4;
/// `timerRollWindowSlot`: slots that a Java broker looks ahead.
const ROLL_SLOTS: i64 = 2 * 24 * 3600;
/// What is gathered for one write.
const WRITE_BYTES: usize = 256 << 10;

/// The first bytes of `timercheck`; none when there is no such file.
pub(super) fn load_check(
    disk: &dyn Disk,
    config_dir: &Path,
) -> io::Result<Option<[u8; CHECK_BYTES]>> {
    let bytes = read(disk, &config_dir.join(CHECK), CHECK_FILE_BYTES as u64)?;
    Ok(bytes.first_chunk().copied())
}

/// Where a Java broker ended: slots before `lastReadTimeMs` are delivered of what lies below `lastTimerQueueOffset`.
pub(super) fn progress_of(check: &[u8; CHECK_BYTES]) -> Progress {
    let number = |at: usize| i64::from_be_bytes(check[at..at + 8].try_into().unwrap_or_default());
    let (read_ms, offset, master) = (number(0), number(16), number(24));
    Progress {
        // A message of the slot before is due at the slot's time at the latest.
        mark: Mark {
            due_ms: read_ms,
            physical: u64::MAX,
        },
        queue_offset: offset.min(master).max(0) as u64,
        rolled: 0,
    }
}

/// The content of `timercheck` for this moment; `last` is the content before.
pub(super) fn check(
    now_ms: i64,
    precision_ms: i64,
    queue_offset: u64,
    last: &[u8; CHECK_BYTES],
) -> [u8; CHECK_BYTES] {
    let counter = i64::from_be_bytes(last[COUNTER_AT..].try_into().unwrap_or_default());
    let offset = queue_offset as i64;
    let read_ms = tick(now_ms, precision_ms);
    let fields = [
        read_ms,
        0,
        offset,
        offset,
        0,
        now_ms,
        counter.wrapping_add(1),
    ];
    let mut check = [0; CHECK_BYTES];
    for (place, field) in check.chunks_exact_mut(8).zip(fields) {
        place.copy_from_slice(&field.to_be_bytes());
    }
    check
}

fn tick(ms: i64, precision_ms: i64) -> i64 {
    ms - ms.rem_euclid(precision_ms.max(1))
}

/// Writes `timercheck`. On return it survives loss of power.
pub(super) fn write_check(
    disk: &dyn Disk,
    config_dir: &Path,
    check: &[u8; CHECK_BYTES],
) -> io::Result<()> {
    create_dir_all_synced(disk, config_dir)?;
    let mut page = vec![0; CHECK_FILE_BYTES];
    page[..CHECK_BYTES].copy_from_slice(check);
    write_synced(disk, config_dir, CHECK_NEW, CHECK, &page)
}

/// Removes what a Java broker derived: it does not know what is delivered here.
pub(super) fn remove_derived(disk: &dyn Disk, root: &Path) -> io::Result<()> {
    let (log, wheel) = (root.join(LOG), root.join(WHEEL));
    if disk.exists(&wheel) {
        disk.remove(&wheel)?;
    }
    if disk.exists(&log) {
        for entry in disk.list(&log)? {
            if !entry.is_dir {
                disk.remove(&log.join(entry.name))?;
            }
        }
    }
    Ok(())
}

/// A `timerlog` that is being written: one unit for each message that waits. A Java broker makes its wheel from it.
pub(super) struct TimerLog<'a> {
    disk: &'a dyn Disk,
    root: &'a Path,
    now_ms: i64,
    precision_ms: i64,
    /// The last unit of each slot, to which the next one points back.
    slots: HashMap<i64, u64>,
    file: Option<Arc<dyn File>>,
    /// Where the next unit goes.
    end: u64,
    written: u64,
    gathered: Vec<u8>,
}

impl<'a> TimerLog<'a> {
    /// Begins anew. Java's clock stands at the tick before `now_ms`.
    pub(super) fn begin(
        disk: &'a dyn Disk,
        root: &'a Path,
        now_ms: i64,
        precision_ms: i64,
    ) -> io::Result<TimerLog<'a>> {
        remove_derived(disk, root)?;
        create_dir_all_synced(disk, &root.join(LOG))?;
        Ok(TimerLog {
            disk,
            root,
            now_ms: tick(now_ms, precision_ms),
            precision_ms,
            slots: HashMap::new(),
            file: None,
            end: 0,
            written: 0,
            gathered: Vec::new(),
        })
    }

    /// A message that waits, and the size of its record.
    pub(super) fn push(&mut self, entry: &Entry, size: u32) -> io::Result<()> {
        let (mut due_ms, mut magic) = (entry.due_ms, DEFAULT);
        if entry.key.deletes() {
            magic |= DELETE;
            // It stands in the slot of its message.
            due_ms = due_ms.saturating_sub(self.precision_ms);
        }
        // Java delivers a slot when its tick is over.
        let mut slot_ms = tick(due_ms.saturating_sub(1), self.precision_ms).max(self.now_ms);
        let window_ms = ROLL_SLOTS * self.precision_ms;
        let wait_ms = slot_ms.saturating_sub(self.now_ms);
        if wait_ms >= window_ms {
            magic |= ROLL;
            let is_short = wait_ms - window_ms < window_ms / 3;
            slot_ms = self.now_ms + if is_short { window_ms / 2 } else { window_ms };
        }
        self.unit(slot_ms, magic, entry.physical, size)
    }

    /// The last record of the queue, which tells a Java broker where to read on. It is in a slot that is over.
    pub(super) fn end(mut self, last: Option<(u64, u32)>) -> io::Result<()> {
        if let Some((physical, size)) = last {
            self.unit(self.now_ms - self.precision_ms, DEFAULT, physical, size)?;
        }
        self.write()?;
        if let Some(file) = &self.file {
            file.sync_all()?;
        }
        self.disk.sync_dir(&self.root.join(LOG))
    }

    fn unit(&mut self, slot_ms: i64, magic: u32, physical: u64, size: u32) -> io::Result<()> {
        let left = LOG_FILE_BYTES - self.end % LOG_FILE_BYTES;
        if self.file.is_none() || left < UNIT_BYTES as u64 + BLANK_BYTES {
            self.next_file(left)?;
        }
        let before = self
            .slots
            .insert(slot_ms, self.end)
            .map_or(-1, |before| before as i64);
        let out = &mut self.gathered;
        out.extend_from_slice(&(UNIT_BYTES as u32).to_be_bytes());
        out.extend_from_slice(&before.to_be_bytes());
        out.extend_from_slice(&magic.to_be_bytes());
        out.extend_from_slice(&self.now_ms.to_be_bytes());
        out.extend_from_slice(&((slot_ms - self.now_ms) as i32).to_be_bytes());
        out.extend_from_slice(&physical.to_be_bytes());
        out.extend_from_slice(&size.to_be_bytes());
        out.extend_from_slice(&[0; 12]);
        self.end += UNIT_BYTES as u64;
        if self.gathered.len() >= WRITE_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn next_file(&mut self, left: u64) -> io::Result<()> {
        if let Some(file) = self.file.take() {
            self.gathered
                .extend_from_slice(&(left as u32).to_be_bytes());
            self.gathered.extend_from_slice(&0u64.to_be_bytes());
            self.gathered.extend_from_slice(&BLANK_MAGIC.to_be_bytes());
            self.file = Some(file.clone());
            self.write()?;
            file.sync_all()?;
            self.end += left;
        }
        let path = self.root.join(LOG).join(format!("{:020}", self.end));
        let file = self.disk.open(&path, OpenMode::Create)?;
        file.set_len(LOG_FILE_BYTES)?;
        self.file = Some(file);
        self.written = self.end;
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        if let Some(file) = &self.file {
            file.write_all_at(&self.gathered, self.written % LOG_FILE_BYTES)?;
            self.written += self.gathered.len() as u64;
        }
        self.gathered.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use platform::disk::SimulatedDisk;

    use super::*;
    use crate::timers::entry::Key;

    #[test]
    fn a_check_says_where_java_ended() {
        let first = check(5_432, 1000, 7, &[0; CHECK_BYTES]);
        let second = check(6_432, 1000, 9, &first);
        assert_eq!(second[7], 0x70, "6000 in the lowest bytes");
        assert_eq!(second[55], 2);
        let progress = progress_of(&second);
        assert_eq!(
            (progress.mark.due_ms, progress.queue_offset, progress.rolled),
            (6_000, 9, 0)
        );
        let disk = SimulatedDisk::new();
        assert_eq!(load_check(&disk, Path::new("/c")).unwrap(), None);
        write_check(&disk, Path::new("/c"), &second).unwrap();
        assert_eq!(load_check(&disk, Path::new("/c")).unwrap(), Some(second));
    }

    #[test]
    fn units_of_a_slot_point_back_to_each_other() {
        let disk = SimulatedDisk::new();
        let root = Path::new("/store");
        let mut log = TimerLog::begin(&disk, root, 10_500, 1000).unwrap();
        let entry = |due_ms, physical| Entry {
            due_ms,
            physical,
            key: Key::new(0, 0, false),
        };
        for (due_ms, physical) in [
            (12_001, 1),
            (13_000, 2),
            (14_000, 3),
            (10_000 + 3 * 86_400_000, 4),
        ] {
            log.push(&entry(due_ms, physical), 100).unwrap();
        }
        log.end(Some((9, 50))).unwrap();
        let path = root.join("timerlog/00000000000000000000");
        let mut bytes = vec![0; 6 * UNIT_BYTES];
        disk.open(&path, OpenMode::Read)
            .unwrap()
            .read_exact_at(&mut bytes, 0)
            .unwrap();
        let units: Vec<(i64, u32, i32, u64, u32)> = bytes
            .chunks_exact(UNIT_BYTES)
            .map(|unit| {
                let long = |at: usize| u64::from_be_bytes(unit[at..at + 8].try_into().unwrap());
                let int = |at: usize| u32::from_be_bytes(unit[at..at + 4].try_into().unwrap());
                (long(4) as i64, int(12), int(24) as i32, long(28), int(36))
            })
            .collect();
        assert_eq!(units[0], (-1, 1, 2_000, 1, 100));
        assert_eq!(
            units[1],
            (0, 1, 2_000, 2, 100),
            "a time on a tick is delivered when that tick begins"
        );
        assert_eq!(units[2], (-1, 1, 3_000, 3, 100));
        assert_eq!(units[3], (-1, 3, 2 * 86_400_000, 4, 100));
        assert_eq!(units[4], (-1, 1, -1_000, 9, 50));
        assert_eq!(units[5], (0, 0, 0, 0, 0));
    }
}
