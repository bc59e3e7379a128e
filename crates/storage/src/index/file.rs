//! One index file: header, hash slots, entries chained from the newest back.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use platform::disk::{Disk, File, OpenMode};

use super::pending::IndexEntry;
use crate::queue::files::read_fully;

const HEADER_BYTES: u64 = 40;
const SLOT_BYTES: u64 = 4;
const ENTRY_BYTES: u64 = 20;

/// Slots that are read and written at once at most: 64 KiB.
const RUN_SLOTS: u32 = 16 << 10;
/// Slots between two of a batch below which they are read together: one page.
const GAP_SLOTS: u32 = 1 << 10;
/// Entries looked at in one chain at most. Chains are a handful long unless one key is on everything.
const CHAIN_MAX: usize = 1 << 20;

/// How many slots and entries every file has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) slots: u32,
    pub(crate) entries: u32,
}

impl Shape {
    fn entries_at(self) -> u64 {
        HEADER_BYTES + u64::from(self.slots) * SLOT_BYTES
    }

    fn bytes(self) -> u64 {
        self.entries_at() + u64::from(self.entries) * ENTRY_BYTES
    }

    fn slot_of(self, hash: i32) -> u32 {
        hash as u32 % self.slots
    }
}

/// The first 40 bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) begin_timestamp_ms: i64,
    pub(crate) end_timestamp_ms: i64,
    pub(crate) begin_physical: u64,
    pub(crate) end_physical: u64,
    /// Slots in use.
    pub(crate) slots_used: u32,
    /// Number of the next entry; the first one is 1.
    pub(crate) count: u32,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES as usize] {
        let mut bytes = [0; HEADER_BYTES as usize];
        bytes[..8].copy_from_slice(&self.begin_timestamp_ms.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.end_timestamp_ms.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.begin_physical.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.end_physical.to_be_bytes());
        bytes[32..36].copy_from_slice(&self.slots_used.to_be_bytes());
        bytes[36..].copy_from_slice(&self.count.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8; HEADER_BYTES as usize], shape: Shape) -> Header {
        let long =
            |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let int = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        Header {
            begin_timestamp_ms: long(0) as i64,
            end_timestamp_ms: long(8) as i64,
            begin_physical: long(16),
            end_physical: long(24),
            slots_used: int(32),
            count: int(36).clamp(1, shape.entries),
        }
    }
}

/// An entry as it lies in the file.
struct Stored {
    hash: i32,
    physical: u64,
    seconds: i32,
    previous: u32,
}

impl Stored {
    fn encode(&self) -> [u8; ENTRY_BYTES as usize] {
        let mut bytes = [0; ENTRY_BYTES as usize];
        bytes[..4].copy_from_slice(&self.hash.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.physical.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.seconds.to_be_bytes());
        bytes[16..].copy_from_slice(&self.previous.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Stored {
        Stored {
            hash: i32::from_be_bytes(bytes[..4].try_into().expect("four bytes")),
            physical: u64::from_be_bytes(bytes[4..12].try_into().expect("eight bytes")),
            seconds: i32::from_be_bytes(bytes[12..16].try_into().expect("four bytes")),
            previous: u32::from_be_bytes(bytes[16..20].try_into().expect("four bytes")),
        }
    }
}

/// One file.
#[derive(Debug)]
pub(crate) struct IndexFile {
    pub(crate) name: u64,
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    file: Arc<dyn File>,
    shape: Shape,
    dirty: bool,
}

impl IndexFile {
    pub(crate) fn open(
        disk: &dyn Disk,
        path: &Path,
        name: u64,
        shape: Shape,
    ) -> io::Result<IndexFile> {
        let file = disk.open(path, OpenMode::ReadWrite)?;
        if file.len()? != shape.bytes() {
            file.set_len(shape.bytes())?;
        }
        let mut bytes = [0; HEADER_BYTES as usize];
        read_fully(&*file, &mut bytes, 0, true)?;
        Ok(IndexFile {
            name,
            path: path.to_owned(),
            header: Header::decode(&bytes, shape),
            file,
            shape,
            dirty: false,
        })
    }

    /// A new file begins where the last one ended, until it has its first entry.
    pub(crate) fn create(
        disk: &dyn Disk,
        path: &Path,
        name: u64,
        shape: Shape,
        last: Option<Header>,
    ) -> io::Result<IndexFile> {
        let file = disk.open(path, OpenMode::Create)?;
        file.set_len(0)?;
        file.set_len(shape.bytes())?;
        let mut header = Header {
            count: 1,
            ..Header::default()
        };
        if let Some(last) = last {
            header.begin_timestamp_ms = last.end_timestamp_ms;
            header.end_timestamp_ms = last.end_timestamp_ms;
            header.begin_physical = last.end_physical;
            header.end_physical = last.end_physical;
        }
        Ok(IndexFile {
            name,
            path: path.to_owned(),
            header,
            file,
            shape,
            dirty: true,
        })
    }

    pub(crate) fn is_full(&self) -> bool {
        self.header.count >= self.shape.entries
    }

    /// Adds as many entries as fit; returns how many. Entries are written before slots, slots before the header, so that a process that
    /// dies in between leaves no slot that points at nothing which the header counts.
    pub(crate) fn add(&mut self, batch: &[IndexEntry]) -> io::Result<usize> {
        let room = (self.shape.entries - self.header.count) as usize;
        let batch = &batch[..batch.len().min(room)];
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else {
            return Ok(0);
        };
        self.dirty = true;
        let base = self.header.count;
        let mut header = self.header;

        let mut stored = Vec::with_capacity(batch.len() * ENTRY_BYTES as usize);
        let mut by_slot: Vec<(u32, u32)> = Vec::with_capacity(batch.len());
        for (index, entry) in batch.iter().enumerate() {
            let number = base + index as u32;
            let seconds = seconds_since(header.begin_timestamp_ms, entry.store_timestamp_ms);
            stored.extend_from_slice(
                &Stored {
                    hash: entry.hash,
                    physical: entry.physical,
                    seconds,
                    previous: 0,
                }
                .encode(),
            );
            if number == 1 {
                header.begin_timestamp_ms = first.store_timestamp_ms;
                header.begin_physical = first.physical;
            }
            by_slot.push((self.shape.slot_of(entry.hash), number));
        }
        by_slot.sort_unstable();

        header.slots_used += self.link(&by_slot, base, &mut stored)?;
        header.count = base + batch.len() as u32;
        header.end_physical = last.physical;
        header.end_timestamp_ms = last.store_timestamp_ms;
        self.file.write_all_at(
            &stored,
            self.shape.entries_at() + u64::from(base) * ENTRY_BYTES,
        )?;
        self.update_slots(&by_slot)?;
        self.file.write_all_at(&header.encode(), 0)?;
        self.header = header;
        Ok(batch.len())
    }

    /// Sets `previous` of each new entry to the one before it in its slot. Returns how many slots were empty.
    fn link(&self, by_slot: &[(u32, u32)], base: u32, stored: &mut [u8]) -> io::Result<u32> {
        let mut used = 0;
        let mut slots = Vec::new();
        for run in runs(by_slot) {
            let first = run[0].0;
            self.read_slots(first, run[run.len() - 1].0, &mut slots)?;
            let mut last_slot = None;
            let mut newest = 0;
            for &(slot, number) in run {
                if last_slot != Some(slot) {
                    newest = slot_value(&slots, slot - first);
                    if newest == 0 || newest >= base {
                        newest = 0;
                        used += 1;
                    }
                    last_slot = Some(slot);
                }
                let at = (number - base) as usize * ENTRY_BYTES as usize + 16;
                stored[at..at + 4].copy_from_slice(&newest.to_be_bytes());
                newest = number;
            }
        }
        Ok(used)
    }

    fn update_slots(&self, by_slot: &[(u32, u32)]) -> io::Result<()> {
        let mut slots = Vec::new();
        for run in runs(by_slot) {
            let first = run[0].0;
            self.read_slots(first, run[run.len() - 1].0, &mut slots)?;
            for &(slot, number) in run {
                let at = ((slot - first) * SLOT_BYTES as u32) as usize;
                slots[at..at + 4].copy_from_slice(&number.to_be_bytes());
            }
            self.file
                .write_all_at(&slots, HEADER_BYTES + u64::from(first) * SLOT_BYTES)?;
        }
        Ok(())
    }

    fn read_slots(&self, first: u32, last: u32, slots: &mut Vec<u8>) -> io::Result<()> {
        slots.clear();
        slots.resize(((last - first + 1) * SLOT_BYTES as u32) as usize, 0);
        read_fully(
            &*self.file,
            slots,
            HEADER_BYTES + u64::from(first) * SLOT_BYTES,
            true,
        )?;
        Ok(())
    }

    /// Keeps the entries whose record lies before `position`, and makes the slots again from them: after a crash, slots may be older or newer
    /// than entries and header.
    pub(crate) fn cut(&mut self, position: u64) -> io::Result<()> {
        let mut slots = vec![0u8; self.shape.slots as usize * SLOT_BYTES as usize];
        let mut header = Header {
            count: 1,
            slots_used: 0,
            ..self.header
        };
        let mut bytes = vec![0u8; 4096 * ENTRY_BYTES as usize];
        'file: while header.count < self.header.count {
            let now = (self.header.count - header.count).min(4096) as usize * ENTRY_BYTES as usize;
            let read = read_fully(
                &*self.file,
                &mut bytes[..now],
                self.shape.entries_at() + u64::from(header.count) * ENTRY_BYTES,
                true,
            )?;
            if read == 0 {
                break;
            }
            for raw in bytes[..read].chunks_exact(ENTRY_BYTES as usize) {
                let entry = Stored::decode(raw);
                // Positions only grow; unwritten entries are zero.
                if entry.hash < 0
                    || entry.physical >= position
                    || (header.count > 1 && entry.physical < header.end_physical)
                {
                    break 'file;
                }
                let at = self.shape.slot_of(entry.hash) as usize * SLOT_BYTES as usize;
                if slots[at..at + 4] == [0; 4] {
                    header.slots_used += 1;
                }
                slots[at..at + 4].copy_from_slice(&header.count.to_be_bytes());
                header.count += 1;
                header.end_physical = entry.physical;
                header.end_timestamp_ms =
                    header.begin_timestamp_ms + i64::from(entry.seconds) * 1000;
            }
        }
        if header.count == 1 {
            header = Header {
                count: 1,
                ..Header::default()
            };
        } else if header.count == self.header.count {
            header.end_timestamp_ms = self.header.end_timestamp_ms;
        }
        self.file.write_all_at(&slots, HEADER_BYTES)?;
        self.file.write_all_at(&header.encode(), 0)?;
        self.header = header;
        self.dirty = true;
        Ok(())
    }

    /// Makes the file survive loss of power. False when nothing was written since.
    pub(crate) fn sync(&mut self) -> io::Result<bool> {
        if !self.dirty {
            return Ok(false);
        }
        self.file.sync_data()?;
        self.dirty = false;
        Ok(true)
    }

    pub(crate) fn overlaps(&self, begin_ms: i64, end_ms: i64) -> bool {
        self.header.count > 1
            && begin_ms <= self.header.end_timestamp_ms
            && end_ms >= self.header.begin_timestamp_ms
    }

    /// Positions of entries with this hash, newest first. Entries know their time to the second.
    pub(crate) fn query(
        &self,
        hash: i32,
        begin_ms: i64,
        end_ms: i64,
        max: usize,
        out: &mut Vec<u64>,
    ) -> io::Result<()> {
        let mut slot = [0; SLOT_BYTES as usize];
        read_fully(
            &*self.file,
            &mut slot,
            HEADER_BYTES + u64::from(self.shape.slot_of(hash)) * SLOT_BYTES,
            true,
        )?;
        let mut number = u32::from_be_bytes(slot);
        let mut bytes = [0; ENTRY_BYTES as usize];
        for _ in 0..CHAIN_MAX {
            if number == 0 || number >= self.header.count || out.len() >= max {
                return Ok(());
            }
            read_fully(
                &*self.file,
                &mut bytes,
                self.shape.entries_at() + u64::from(number) * ENTRY_BYTES,
                true,
            )?;
            let entry = Stored::decode(&bytes);
            let second_ms = self.header.begin_timestamp_ms + i64::from(entry.seconds) * 1000;
            if second_ms.saturating_add(999) < begin_ms {
                return Ok(());
            }
            if entry.hash == hash && second_ms <= end_ms && !out.contains(&entry.physical) {
                out.push(entry.physical);
            }
            if entry.previous >= number {
                // Chains lead back; anything else is damage, and would not end.
                return Ok(());
            }
            number = entry.previous;
        }
        Ok(())
    }
}

fn slot_value(slots: &[u8], slot: u32) -> u32 {
    let at = (slot * SLOT_BYTES as u32) as usize;
    slots.get(at..at + 4).map_or(0, |bytes| {
        u32::from_be_bytes(bytes.try_into().expect("four bytes"))
    })
}

/// Whole seconds between the file's first record and this one (Java: IndexFile.putKey).
fn seconds_since(begin_ms: i64, timestamp_ms: i64) -> i32 {
    if begin_ms <= 0 {
        return 0;
    }
    ((timestamp_ms - begin_ms) / 1000).clamp(0, i64::from(i32::MAX)) as i32
}

/// Cuts a batch, sorted by slot, into parts whose slots lie close enough to be read and written together.
fn runs(by_slot: &[(u32, u32)]) -> impl Iterator<Item = &[(u32, u32)]> {
    let mut rest = by_slot;
    std::iter::from_fn(move || {
        let first = rest.first()?.0;
        let mut last = first;
        let end = rest.iter().position(|&(slot, _)| {
            let fits = slot - last <= GAP_SLOTS && slot - first < RUN_SLOTS;
            last = slot;
            !fits
        });
        let (run, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after;
        Some(run)
    })
}

/// `yyyyMMddHHmmssSSS` of a time, UTC.
pub(crate) fn name_of_time(timestamp_ms: i64) -> u64 {
    let days = timestamp_ms.div_euclid(86_400_000);
    let in_day = timestamp_ms.rem_euclid(86_400_000) as u64;
    // Days to date, by eras of 400 years that begin in March.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let date = (year.max(0) as u64 * 100 + month as u64) * 100 + day as u64;
    let (hour, minute, second, ms) = (
        in_day / 3_600_000,
        in_day / 60_000 % 60,
        in_day / 1000 % 60,
        in_day % 1000,
    );
    (((date * 100 + hour) * 100 + minute) * 100 + second) * 1000 + ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dates() {
        assert_eq!(name_of_time(0), 19_700_101_000_000_000);
        assert_eq!(name_of_time(951_782_400_000), 20_000_229_000_000_000);
        assert_eq!(name_of_time(1_735_689_599_999), 20_241_231_235_959_999);
    }

    #[test]
    fn runs_break_at_gaps() {
        let by_slot = [(0, 1), (5, 2), (5, 3), (5000, 4), (5001, 5)];
        let lengths: Vec<usize> = runs(&by_slot).map(<[_]>::len).collect();
        assert_eq!(lengths, [3, 2]);
    }
}
