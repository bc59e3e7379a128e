//! A run: the queue entries of one range of the log, of all queues, sorted and immutable, in one file.
//!
//! Blocks of 512 slots of 32 bytes, the first of them the block's head with a checksum; behind the blocks the first key of each, and a trailer.
//! Drawn to the byte in `docs/formats/store.md`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use platform::disk::{Disk, File, OpenMode};

use crate::queue::files::read_fully;
use crate::queue::{ENTRY_BYTES, Entry};

/// Size of a slot: queue number, queue offset, entry.
const SLOT_BYTES: usize = 32;
/// Slots of a block, its head included. Large enough that the keys in memory are a 1,300th of the file, small enough that a look-up reads four
/// pages.
const BLOCK_SLOTS: usize = 512;
const BLOCK_BYTES: usize = BLOCK_SLOTS * SLOT_BYTES;
/// Bytes gathered before they are written.
const WRITE_BYTES: usize = 16 * BLOCK_BYTES;
const FENCE_BYTES: usize = 12;
const TRAILER_BYTES: usize = 32;
const MAGIC: &[u8; 8] = b"APOGEEQ\x01";
/// The name of a run that is being written.
const UNFINISHED: &str = "run.tmp";

/// A place in the order of a run.
pub(crate) type Key = (u32, u64);

/// One entry of one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) number: u32,
    pub(crate) offset: u64,
    pub(crate) entry: Entry,
}

impl Slot {
    pub(crate) fn key(&self) -> Key {
        (self.number, self.offset)
    }

    fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        bytes[..4].copy_from_slice(&self.number.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.offset.to_be_bytes());
        bytes[12..].copy_from_slice(&self.entry.encode());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Slot> {
        debug_assert_eq!(SLOT_BYTES, 12 + ENTRY_BYTES as usize);
        Some(Slot {
            number: u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?),
            offset: u64::from_be_bytes(bytes.get(4..12)?.try_into().ok()?),
            entry: Entry::decode(bytes.get(12..)?)?,
        })
    }
}

/// A finished run: exactly the entries of the records that begin in `from..to` of the log.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) entries: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) path: PathBuf,
    /// The first key of each block.
    fences: Vec<Key>,
}

pub(crate) fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// What the file's name says: which part of the log the run covers.
pub(crate) fn parse_name(name: &str) -> Option<(u64, u64)> {
    let (from, to) = name.split_once('-')?;
    let digits = |text: &str| text.len() == 20 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(from) || !digits(to) {
        return None;
    }
    let (from, to) = (from.parse().ok()?, to.parse().ok()?);
    (from < to).then_some((from, to))
}

impl Run {
    /// Opens the file of a run and reads its keys.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] when it is not a whole run.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path, from: u64, to: u64) -> io::Result<Run> {
        let path = dir.join(format!("{from:020}-{to:020}"));
        let file = disk.open(&path, OpenMode::Read)?;
        let len = file.len()?;
        let Some(trailer_at) = len.checked_sub(TRAILER_BYTES as u64) else {
            return Err(damaged("a run is too short"));
        };
        let mut trailer = [0; TRAILER_BYTES];
        file.read_exact_at(&mut trailer, trailer_at)?;
        let field =
            |at: usize| u64::from_be_bytes(trailer[at..at + 8].try_into().expect("eight bytes"));
        let (entries, blocks) = (field(0), field(8));
        let fences_bytes = blocks.saturating_mul(FENCE_BYTES as u64);
        if &trailer[24..] != MAGIC || fences_bytes > trailer_at {
            return Err(damaged("a run has no trailer"));
        }
        let mut bytes = vec![0; fences_bytes as usize];
        file.read_exact_at(&mut bytes, trailer_at - fences_bytes)?;
        bytes.extend_from_slice(&trailer[..16]);
        if u64::from(crc32fast::hash(&bytes)) != field(16) {
            return Err(damaged("the keys of a run do not have their checksum"));
        }
        let fences = bytes[..fences_bytes as usize]
            .chunks_exact(FENCE_BYTES)
            .map(|fence| {
                let number = u32::from_be_bytes(fence[..4].try_into().expect("four bytes"));
                let offset = u64::from_be_bytes(fence[4..].try_into().expect("eight bytes"));
                (number, offset)
            })
            .collect();
        Ok(Run {
            from,
            to,
            entries,
            file,
            path,
            fences,
        })
    }

    /// Reads one block.
    fn block(&self, index: usize, wait: bool, slots: &mut Vec<Slot>) -> io::Result<()> {
        slots.clear();
        let mut bytes = [0u8; BLOCK_BYTES];
        let last = index + 1 == self.fences.len();
        let held = match (self.entries as usize).checked_sub(index * (BLOCK_SLOTS - 1)) {
            Some(rest) if last => rest.min(BLOCK_SLOTS - 1),
            _ => BLOCK_SLOTS - 1,
        };
        let bytes = &mut bytes[..(held + 1) * SLOT_BYTES];
        let read = read_fully(&*self.file, bytes, (index * BLOCK_BYTES) as u64, wait)?;
        if read < bytes.len() {
            return Err(damaged("a run is cut off"));
        }
        let (head, body) = bytes.split_at(SLOT_BYTES);
        if head[..4] != crc32fast::hash(body).to_be_bytes() {
            return Err(damaged("a block does not have its checksum"));
        }
        for slot in body.chunks_exact(SLOT_BYTES) {
            slots.push(Slot::decode(slot).ok_or_else(|| damaged("a block holds no entries"))?);
        }
        debug_assert!(slots.is_sorted_by(|a, b| a.key() < b.key()));
        Ok(())
    }

    /// Copies the entries of a queue from `offset` on and below `until`, when the run has the first of them. At most those of two blocks.
    pub(crate) fn read(
        &self,
        number: u32,
        offset: u64,
        until: u64,
        wait: bool,
        out: &mut Vec<Entry>,
    ) -> io::Result<bool> {
        let key = (number, offset);
        let index = self.fences.partition_point(|fence| *fence <= key);
        let Some(index) = index.checked_sub(1) else {
            return Ok(false);
        };
        let mut slots = Vec::with_capacity(BLOCK_SLOTS);
        self.block(index, wait, &mut slots)?;
        let at = slots.partition_point(|slot| slot.key() < key);
        if slots.get(at).is_none_or(|slot| slot.key() != key) {
            return Ok(false);
        }
        let mut next = offset;
        take(&slots[at..], number, &mut next, until, out);
        let goes_on = self.fences.get(index + 1) == Some(&(number, next));
        if next < until && goes_on && self.block(index + 1, wait, &mut slots).is_ok() {
            take(&slots, number, &mut next, until, out);
        }
        Ok(true)
    }

    /// The first offset of a queue at or behind `offset` whose entry can be read. Damaged blocks are passed over.
    pub(crate) fn first_from(
        &self,
        number: u32,
        offset: u64,
        wait: bool,
    ) -> io::Result<Option<u64>> {
        let key = (number, offset);
        let mut index = self
            .fences
            .partition_point(|fence| *fence <= key)
            .saturating_sub(1);
        let mut slots = Vec::new();
        while self
            .fences
            .get(index)
            .is_some_and(|fence| fence.0 <= number)
        {
            match self.block(index, wait, &mut slots) {
                Ok(()) => {
                    if let Some(slot) = slots.get(slots.partition_point(|slot| slot.key() < key)) {
                        return Ok((slot.number == number).then_some(slot.offset));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                Err(error) => return Err(error),
            }
            index += 1;
        }
        Ok(None)
    }

    /// Calls `each` for all entries, in order.
    pub(crate) fn for_each(self: &Arc<Run>, mut each: impl FnMut(&Slot)) -> io::Result<()> {
        let mut scan = self.scan();
        while let Some(slot) = scan.next()? {
            each(&slot);
        }
        Ok(())
    }

    /// Walks over all entries, in order.
    pub(crate) fn scan(self: &Arc<Run>) -> Scan {
        Scan {
            run: Arc::clone(self),
            block: 0,
            slots: Vec::new(),
            at: 0,
        }
    }
}

/// Copies entries as long as they are those of the queue, one behind the other.
fn take(slots: &[Slot], number: u32, next: &mut u64, until: u64, out: &mut Vec<Entry>) {
    for slot in slots {
        if slot.key() != (number, *next) || *next >= until {
            return;
        }
        out.push(slot.entry);
        *next += 1;
    }
}

/// A walk over a run. Reads a block at a time.
pub(crate) struct Scan {
    run: Arc<Run>,
    block: usize,
    slots: Vec<Slot>,
    at: usize,
}

impl Scan {
    pub(crate) fn next(&mut self) -> io::Result<Option<Slot>> {
        while self.at == self.slots.len() {
            if self.block == self.run.fences.len() {
                return Ok(None);
            }
            self.run.block(self.block, true, &mut self.slots)?;
            self.block += 1;
            self.at = 0;
        }
        self.at += 1;
        Ok(Some(self.slots[self.at - 1]))
    }
}

/// A run that is being written. One at a time in a directory.
pub(crate) struct Writer<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    file: Arc<dyn File>,
    at: u64,
    bytes: Vec<u8>,
    /// Slots in the open block, its head not counted.
    slots: usize,
    fences: Vec<Key>,
    entries: u64,
    last: Key,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(disk: &'a dyn Disk, dir: &'a Path) -> io::Result<Writer<'a>> {
        let file = disk.open(&dir.join(UNFINISHED), OpenMode::Create)?;
        file.set_len(0)?;
        Ok(Writer {
            disk,
            dir,
            file,
            at: 0,
            bytes: Vec::with_capacity(WRITE_BYTES + BLOCK_BYTES),
            slots: 0,
            fences: Vec::new(),
            entries: 0,
            last: (0, 0),
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Adds the next entry; keys only rise.
    pub(crate) fn push(&mut self, slot: &Slot) -> io::Result<()> {
        debug_assert!(slot.key() > self.last || self.entries == 0);
        if self.slots == 0 {
            self.fences.push(slot.key());
            self.bytes.extend_from_slice(&[0; SLOT_BYTES]);
        }
        self.bytes.extend_from_slice(&slot.encode());
        self.slots += 1;
        self.entries += 1;
        self.last = slot.key();
        if self.slots == BLOCK_SLOTS - 1 {
            self.end_block();
            if self.bytes.len() >= WRITE_BYTES {
                self.write()?;
            }
        }
        Ok(())
    }

    fn end_block(&mut self) {
        let start = self.bytes.len() - (self.slots + 1) * SLOT_BYTES;
        let crc = crc32fast::hash(&self.bytes[start + SLOT_BYTES..]);
        self.bytes[start..start + 4].copy_from_slice(&crc.to_be_bytes());
        self.slots = 0;
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.bytes, self.at)?;
        self.at += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }

    /// Gives the file its name. With `sync`, it survives loss of power before it has it.
    pub(crate) fn finish(mut self, from: u64, to: u64, sync: bool) -> io::Result<Run> {
        debug_assert!(from < to);
        if self.slots > 0 {
            self.end_block();
        }
        let keys_at = self.bytes.len();
        for (number, offset) in &self.fences {
            self.bytes.extend_from_slice(&number.to_be_bytes());
            self.bytes.extend_from_slice(&offset.to_be_bytes());
        }
        self.bytes.extend_from_slice(&self.entries.to_be_bytes());
        self.bytes
            .extend_from_slice(&(self.fences.len() as u64).to_be_bytes());
        let crc = crc32fast::hash(&self.bytes[keys_at..]);
        self.bytes.extend_from_slice(&u64::from(crc).to_be_bytes());
        self.bytes.extend_from_slice(MAGIC);
        self.write()?;
        if sync {
            self.file.sync_data()?;
        }
        let path = self.dir.join(format!("{from:020}-{to:020}"));
        self.disk.rename(&self.dir.join(UNFINISHED), &path)?;
        self.fences.shrink_to_fit();
        Ok(Run {
            from,
            to,
            entries: self.entries,
            file: self.file,
            path,
            fences: self.fences,
        })
    }
}

#[cfg(test)]
mod tests {
    use platform::disk::SimulatedDisk;

    use super::*;

    fn slot(number: u32, offset: u64) -> Slot {
        Slot {
            number,
            offset,
            entry: Entry {
                physical: u64::from(number) * 1000 + offset,
                size: 7,
                tags_code: -3,
            },
        }
    }

    fn written(disk: &SimulatedDisk) -> Run {
        let dir = Path::new("/shared");
        disk.create_dir_all(dir).unwrap();
        let mut writer = Writer::new(disk, dir).unwrap();
        for number in [1, 2, 5] {
            for offset in 10..1010 {
                writer.push(&slot(number, offset)).unwrap();
            }
        }
        writer.finish(0, 5000, false).unwrap();
        Run::open(disk, dir, 0, 5000).unwrap()
    }

    #[test]
    fn what_was_pushed_is_found_across_blocks() {
        let disk = SimulatedDisk::new();
        let run = Arc::new(written(&disk));
        assert_eq!(run.entries, 3000);
        let mut out = Vec::new();
        let mut offset = 500;
        while offset < 990 {
            assert!(run.read(2, offset, 990, true, &mut out).unwrap());
            offset = 500 + out.len() as u64;
        }
        assert_eq!(
            out,
            (500..990).map(|at| slot(2, at).entry).collect::<Vec<_>>()
        );
        for (number, offset) in [(0, 10), (1, 9), (2, 1010), (3, 10), (6, 0)] {
            assert!(!run.read(number, offset, u64::MAX, true, &mut out).unwrap());
        }
        let mut scan = run.scan();
        let mut count = 0;
        while scan.next().unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, 3000);
    }

    #[test]
    fn a_flipped_bit_is_noticed_wherever_it_is() {
        let disk = SimulatedDisk::new();
        let run = written(&disk);
        let len = run.file.len().unwrap();
        for at in (0..len).step_by(97) {
            let file = disk.open(&run.path, OpenMode::ReadWrite).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 4], at).unwrap();
            let sound = Run::open(&disk, Path::new("/shared"), 0, 5000).and_then(|run| {
                let mut scan = Arc::new(run).scan();
                while scan.next()?.is_some() {}
                Ok(())
            });
            // A block's head has room that means nothing.
            let padding = at < 3000 * 33 && (4..32).contains(&(at % BLOCK_BYTES as u64));
            assert_eq!(sound.is_ok(), padding, "at {at}");
            file.write_all_at(&byte, at).unwrap();
        }
    }

    #[test]
    fn names_are_ranges() {
        let name = "00000000000000000005-00000000000000000009";
        assert_eq!(parse_name(name), Some((5, 9)));
        for name in ["names", "run.tmp", "5-9", "-"] {
            assert_eq!(parse_name(name), None);
        }
    }
}
