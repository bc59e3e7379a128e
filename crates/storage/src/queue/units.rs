//! The files of a batch topic's queue: one unit a record, which may stand for many messages. Java's layout:
//! `batchconsumequeue/<topic>/<queue>/<start>`, 46 bytes a unit.
//!
//! In memory such a queue has an entry a message like any other, and those of one record are equal; only here they become one. A unit says itself
//! which offset it begins with, so a queue may have holes: what Java did not note, or what the log had lost.
//! Java 5.3.4: `BatchConsumeQueue`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use platform::disk::{Disk, File, OpenMode};
use protocol::batch::INNER_MESSAGES_MAX;
use protocol::record;

use super::files::{list_starts, read_fully, remove_flat_dir};
use super::{Entry, load};
use crate::commitlog::segments::{Segments, file_name};

/// Size of a unit.
pub(crate) const UNIT_BYTES: u64 = 46;

/// Units read at once.
const READ_UNITS: u64 = 64;
/// Entries that one read makes of units at most.
const READ_ENTRIES_MAX: u64 = 1024;

/// What one record is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unit {
    entry: Entry,
    store_timestamp_ms: i64,
    /// Queue offset of its first message.
    base: u64,
    /// Messages.
    count: u64,
}

impl Unit {
    fn end(&self) -> u64 {
        self.base + self.count
    }

    fn encode(&self) -> [u8; UNIT_BYTES as usize] {
        let mut bytes = [0; UNIT_BYTES as usize];
        bytes[..20].copy_from_slice(&self.entry.encode());
        bytes[20..28].copy_from_slice(&self.store_timestamp_ms.to_be_bytes());
        bytes[28..36].copy_from_slice(&self.base.to_be_bytes());
        bytes[36..38].copy_from_slice(&(self.count as u16).to_be_bytes());
        // The place in a compacted log, which it has none of; four bytes behind it are Java's reserve.
        bytes[38..42].copy_from_slice(&(-1i32).to_be_bytes());
        bytes
    }

    /// None for what cannot be a unit: unwritten space, negative numbers.
    fn decode(bytes: &[u8]) -> Option<Unit> {
        let entry = Entry::decode(bytes)?;
        let store_timestamp_ms = i64::from_be_bytes(bytes.get(20..28)?.try_into().ok()?);
        let base = u64::from_be_bytes(bytes.get(28..36)?.try_into().ok()?);
        let count = u64::from(u16::from_be_bytes(bytes.get(36..38)?.try_into().ok()?));
        let valid = base <= i64::MAX as u64 / 2 && (1..=INNER_MESSAGES_MAX).contains(&count);
        valid.then_some(Unit {
            entry,
            store_timestamp_ms,
            base,
            count,
        })
    }
}

/// One file.
#[derive(Debug, Clone, Copy)]
struct UnitFile {
    /// Units in the files before it.
    start: u64,
    /// Offset of its first message.
    base: u64,
    /// Offset behind its last message.
    end: u64,
    /// Its units.
    count: u64,
}

/// The files of one queue. Any thread may read; one thread at a time writes.
#[derive(Debug)]
pub(crate) struct Units {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file_units: u64,
    /// In order.
    files: Mutex<Vec<UnitFile>>,
}

/// What a queue's files say of it.
pub(crate) struct Found {
    pub(crate) first: u64,
    pub(crate) max: u64,
    /// Position behind the last unit's record.
    pub(crate) end: u64,
}

impl Units {
    /// A queue without files.
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf, file_units: u64) -> Units {
        Units {
            disk,
            dir,
            file_units,
            files: Mutex::default(),
        }
    }

    fn files(&self) -> MutexGuard<'_, Vec<UnitFile>> {
        self.files
            .lock()
            .expect("no code panics while it changes a list of files")
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn file_bytes(&self) -> u64 {
        self.file_units * UNIT_BYTES
    }

    fn path(&self, start: u64) -> PathBuf {
        self.dir.join(file_name(start * UNIT_BYTES))
    }

    /// Makes entries of the units from `offset` on, below `until`. What no unit stands for, before a later one, becomes a filler. What is not in a
    /// file ends the result early; so does the end of a file.
    pub(crate) fn read(
        &self,
        offset: u64,
        until: u64,
        wait: bool,
        out: &mut Vec<Entry>,
    ) -> io::Result<()> {
        let until = until.min(offset.saturating_add(READ_ENTRIES_MAX));
        let (file, next_base) = {
            let files = self.files();
            let index = files
                .partition_point(|file| file.base <= offset)
                .saturating_sub(1);
            let Some(&file) = files.get(index) else {
                return Ok(());
            };
            (file, files.get(index + 1).map(|next| next.base))
        };
        let handle = match self.disk.open(&self.path(file.start), OpenMode::ReadWrite) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        let mut expanded = Expanded { offset, until, out };
        let mut at = find(&*handle, file.count, offset, wait)?;
        let mut bytes = [0; (READ_UNITS * UNIT_BYTES) as usize];
        while at < file.count && !expanded.is_full() {
            let part = &mut bytes[..(READ_UNITS.min(file.count - at) * UNIT_BYTES) as usize];
            let read = read_fully(&*handle, part, at * UNIT_BYTES, wait)?;
            if read < part.len() {
                return Ok(());
            }
            at += READ_UNITS;
            // A unit that is damaged leaves a hole.
            part.chunks_exact(UNIT_BYTES as usize)
                .filter_map(Unit::decode)
                .for_each(|unit| expanded.take(&unit));
        }
        if let Some(next_base) = next_base {
            expanded.fill(next_base);
        }
        Ok(())
    }

    /// Writes the entries of consecutive offsets from `offset` on; a record of which more follow gets another unit then. `touched` hears of each file before it is written, and whether
    /// it is created.
    pub(crate) fn write(
        &self,
        offset: u64,
        entries: &[Entry],
        log: &Segments,
        touched: &mut dyn FnMut(PathBuf, bool),
    ) -> io::Result<()> {
        let mut units = units_of(offset, entries);
        for unit in &mut units {
            unit.store_timestamp_ms = store_time(log, unit.entry.physical)?;
        }
        let mut rest = units.as_slice();
        while let Some(first) = rest.first() {
            let last = self.files().last().copied();
            if let Some(last) = last.filter(|last| first.base < last.end) {
                // From an attempt that failed half way.
                rest = &rest[rest.partition_point(|unit| unit.base < last.end)..];
                continue;
            }
            let open = last.filter(|last| last.count < self.file_units);
            let mut file = open.unwrap_or(UnitFile {
                start: last.map_or(0, |last| last.start + self.file_units),
                base: first.base,
                end: first.base,
                count: 0,
            });
            let path = self.path(file.start);
            touched(path.clone(), open.is_none());
            let handle = if open.is_none() {
                self.disk.create_dir_all(&self.dir)?;
                let handle = self.disk.open(&path, OpenMode::Create)?;
                handle.set_len(0)?;
                handle.set_len(self.file_bytes())?;
                handle
            } else {
                self.disk.open(&path, OpenMode::ReadWrite)?
            };
            let room = (self.file_units - file.count) as usize;
            let (now, behind) = rest.split_at(rest.len().min(room));
            let mut bytes = Vec::with_capacity(now.len() * UNIT_BYTES as usize);
            now.iter()
                .for_each(|unit| bytes.extend_from_slice(&unit.encode()));
            handle.write_all_at(&bytes, file.count * UNIT_BYTES)?;
            file.count += now.len() as u64;
            file.end = now.last().map_or(file.end, Unit::end);
            rest = behind;
            let mut files = self.files();
            if open.is_some() {
                files.pop();
            }
            files.push(file);
        }
        Ok(())
    }

    /// Finds the files on the disk, and where the queue begins and ends in them; None when there are none. Units are trusted when their record lies
    /// below `trusted`; with `cut`, everything else is removed.
    pub(crate) fn load(&self, trusted: u64, cut: bool) -> io::Result<Option<Found>> {
        let mut starts = list_starts(&*self.disk, &self.dir, self.file_bytes(), UNIT_BYTES)?;
        load::drop_before_hole(&mut starts, self.file_units);
        let mut end = 0;
        let mut files: Vec<UnitFile> = Vec::new();
        while let Some(&start) = starts.last() {
            let path = self.path(start);
            let handle = self.disk.open(&path, OpenMode::ReadWrite)?;
            let len = handle.len()?;
            let units = len.min(self.file_bytes()) / UNIT_BYTES;
            let count = load::count_good(units, |index| {
                Ok(unit_at(&*handle, index, true)?
                    .is_some_and(|unit| unit.entry.is_filler() || unit.entry.end() <= trusted))
            })?;
            if count == 0 {
                if cut {
                    drop(handle);
                    self.disk.remove(&path)?;
                }
                starts.pop();
                continue;
            }
            if cut {
                // Shrinking and extending again leaves zeros, however much was there.
                handle.set_len(count * UNIT_BYTES)?;
            }
            if cut || len < self.file_bytes() {
                handle.set_len(self.file_bytes())?;
            }
            let last = unit_at(&*handle, count - 1, true)?;
            end = last
                .filter(|last| !last.entry.is_filler())
                .map_or(0, |last| last.entry.end());
            for &start in &starts {
                files.extend(self.look_at(
                    start,
                    if start == starts[starts.len() - 1] {
                        count
                    } else {
                        self.file_units
                    },
                )?);
            }
            break;
        }
        let found = files.first().zip(files.last()).map(|(first, last)| Found {
            first: first.base,
            max: last.end,
            end,
        });
        *self.files() = files;
        Ok(found)
    }

    /// What a file holds, by its first and last unit; None when they are none.
    fn look_at(&self, start: u64, count: u64) -> io::Result<Option<UnitFile>> {
        let handle = self.disk.open(&self.path(start), OpenMode::ReadWrite)?;
        let first = unit_at(&*handle, 0, true)?;
        let last = unit_at(&*handle, count - 1, true)?;
        Ok(first.zip(last).map(|(first, last)| UnitFile {
            start,
            base: first.base,
            end: last.end(),
            count,
        }))
    }

    /// Removes the files whose messages all lie before `min`. The last file stays: it keeps the queue's count.
    pub(crate) fn remove_expired(&self, min: u64) -> io::Result<()> {
        loop {
            let first = {
                let files = self.files();
                files
                    .first()
                    .copied()
                    .filter(|first| files.len() > 1 && first.end <= min)
            };
            let Some(first) = first else { return Ok(()) };
            self.disk.remove(&self.path(first.start))?;
            self.files().remove(0);
        }
    }

    /// Removes all files, and the directory.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.files().clear();
        remove_flat_dir(&*self.disk, &self.dir)
    }
}

/// Entries that are made of units.
struct Expanded<'a> {
    /// Offset of the next one.
    offset: u64,
    until: u64,
    out: &'a mut Vec<Entry>,
}

impl Expanded<'_> {
    fn is_full(&self) -> bool {
        self.offset >= self.until
    }

    fn take(&mut self, unit: &Unit) {
        if unit.end() > self.offset {
            self.fill(unit.base);
            self.push(unit.entry, unit.end());
        }
    }

    /// No unit stands for what lies before `base`.
    fn fill(&mut self, base: u64) {
        self.push(Entry::FILLER, base);
    }

    fn push(&mut self, entry: Entry, until: u64) {
        let count = until.min(self.until).saturating_sub(self.offset);
        self.out.extend(std::iter::repeat_n(entry, count as usize));
        self.offset += count;
    }
}

/// The units of consecutive entries. Fillers become none: the next unit says where it begins. But the last entry always is in one, so that the queue's
/// count is kept.
fn units_of(offset: u64, entries: &[Entry]) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut base = offset;
    for record in entries.chunk_by(|one, next| one == next) {
        let end = base + record.len() as u64;
        if !record[0].is_filler() {
            let mut from = base;
            while from < end {
                let count = (end - from).min(INNER_MESSAGES_MAX);
                units.push(unit(record[0], from, count));
                from += count;
            }
        } else if end == offset + entries.len() as u64 {
            units.push(unit(Entry::FILLER, end - 1, 1));
        }
        base = end;
    }
    units
}

fn unit(entry: Entry, base: u64, count: u64) -> Unit {
    Unit {
        entry,
        store_timestamp_ms: 0,
        base,
        count,
    }
}

/// When the record at a position was stored; 0 when the log has it no more.
fn store_time(log: &Segments, physical: u64) -> io::Result<i64> {
    let Some(segment) = log.containing(physical) else {
        return Ok(0);
    };
    let mut head = [0; record::HEAD_BYTES];
    let read = read_fully(&*segment.file, &mut head, physical - segment.start, true)?;
    let is_record = record::peek_physical_offset(&head[..read]) == Some(physical);
    Ok(record::peek_store_timestamp(&head[..read])
        .filter(|_| is_record)
        .unwrap_or(0))
}

/// The last unit that begins at or before `offset`, or one before it where units are damaged.
fn find(file: &dyn File, count: u64, offset: u64, wait: bool) -> io::Result<u64> {
    let (mut low, mut high) = (0, count);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match unit_at(file, middle, wait)? {
            Some(unit) if unit.base <= offset => low = middle,
            _ => high = middle,
        }
    }
    Ok(low)
}

fn unit_at(file: &dyn File, index: u64, wait: bool) -> io::Result<Option<Unit>> {
    let mut bytes = [0; UNIT_BYTES as usize];
    let read = read_fully(file, &mut bytes, index * UNIT_BYTES, wait)?;
    Ok(Unit::decode(&bytes[..read]))
}

#[cfg(test)]
mod tests {
    use platform::disk::SimulatedDisk;

    use super::*;

    fn entry(physical: u64) -> Entry {
        Entry {
            physical,
            size: 10,
            tags_code: 7,
        }
    }

    fn entries(records: &[(u64, usize)]) -> Vec<Entry> {
        let entries = records.iter();
        entries
            .flat_map(|&(physical, count)| std::iter::repeat_n(entry(physical), count))
            .collect()
    }

    struct Home {
        disk: Arc<dyn Disk>,
        log: Segments,
    }

    impl Home {
        fn new() -> Home {
            let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::new());
            let log = Segments::open(Arc::clone(&disk), Path::new("/log"), 1 << 20).unwrap();
            Home { disk, log }
        }

        fn units(&self) -> Units {
            Units::new(Arc::clone(&self.disk), PathBuf::from("/b/T/0"), 4)
        }

        fn write(&self, units: &Units, offset: u64, entries: &[Entry]) {
            units
                .write(offset, entries, &self.log, &mut |_, _| {})
                .unwrap();
        }
    }

    fn read(units: &Units, from: u64, until: u64) -> Vec<Entry> {
        let mut out = Vec::new();
        while from + (out.len() as u64) < until {
            let before = out.len();
            units
                .read(from + before as u64, until, true, &mut out)
                .unwrap();
            if out.len() == before {
                break;
            }
        }
        out
    }

    #[test]
    fn unit_round_trips_in_the_layout_of_java() {
        let unit = Unit {
            entry: entry(0x0102),
            store_timestamp_ms: 3,
            base: 4,
            count: 5,
        };
        let bytes = unit.encode();
        assert_eq!(bytes[..8], [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(bytes[8..12], [0, 0, 0, 10]);
        assert_eq!((bytes[19], bytes[27], bytes[35], bytes[37]), (7, 3, 4, 5));
        assert_eq!(bytes[38..], [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(Unit::decode(&bytes), Some(unit));
        assert_eq!(Unit::decode(&[0; 46]), None);
        assert_eq!(Unit::decode(&[0xff; 46]), None);
    }

    #[test]
    fn equal_entries_become_one_unit_and_come_back() {
        let home = Home::new();
        let units = home.units();
        let all = entries(&[(10, 3), (20, 1), (30, 5), (40, 2), (50, 1), (60, 7)]);
        home.write(&units, 0, &all[..9]);
        home.write(&units, 9, &all[9..]);
        let files = units
            .files()
            .iter()
            .map(|file| (file.base, file.end))
            .collect::<Vec<_>>();
        assert_eq!(files, [(0, 11), (11, 19)]);
        for from in 0..all.len() {
            assert_eq!(read(&units, from as u64, 19), all[from..]);
        }
        let again = home.units();
        let found = again.load(u64::MAX, false).unwrap().unwrap();
        assert_eq!((found.first, found.max, found.end), (0, 19, 70));
        assert_eq!(read(&again, 0, 19), all);
    }

    #[test]
    fn holes_are_fillers_and_take_no_unit() {
        let home = Home::new();
        let units = home.units();
        home.write(&units, 5, &entries(&[(10, 2)]));
        let mut hole = vec![Entry::FILLER; 3];
        hole.extend(entries(&[(20, 2)]));
        home.write(&units, 7, &hole);
        let mut want = entries(&[(10, 2)]);
        want.extend(hole);
        assert_eq!(read(&units, 5, 12), want);
        assert_eq!(units.files()[0].count, 2);
        home.write(&units, 12, &[Entry::FILLER; 2]);
        assert_eq!(home.units().load(u64::MAX, false).unwrap().unwrap().max, 14);
    }

    #[test]
    fn what_is_not_trusted_is_cut() {
        let home = Home::new();
        home.write(
            &home.units(),
            0,
            &entries(&[(10, 3), (20, 1), (30, 5), (40, 2), (50, 1)]),
        );
        let units = home.units();
        let found = units.load(45, true).unwrap().unwrap();
        assert_eq!((found.first, found.max, found.end), (0, 9, 40));
        home.write(&units, 9, &entries(&[(70, 2)]));
        assert_eq!(
            read(&home_loaded(&home), 8, 11),
            entries(&[(30, 1), (70, 2)])
        );
    }

    fn home_loaded(home: &Home) -> Units {
        let units = home.units();
        units.load(u64::MAX, false).unwrap();
        units
    }

    #[test]
    fn expired_files_go_and_the_last_stays() {
        let home = Home::new();
        let units = home.units();
        home.write(
            &units,
            0,
            &entries(&[(10, 3), (20, 1), (30, 5), (40, 2), (50, 1)]),
        );
        units.remove_expired(10).unwrap();
        assert_eq!(units.files().len(), 2);
        units.remove_expired(100).unwrap();
        assert_eq!(home_loaded(&home).files()[0].base, 11);
    }
}
