//! Runs: entries in the order of delivery, in files that never change.
//!
//! A file is blocks of 4096 bytes, all but the last full, so that the block of an entry is known by its number:
//!
//! ```text
//! 0        24       48          4080        4084      4088     4092    4096
//! +--------+--------+-- … --+---+-----------+---------+--------+-------+
//! | entry  | entry  |           | entries   | block   | APTR   | crc32 |
//! +--------+--------+-- … --+---+-----------+---------+--------+-------+
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use platform::disk::{Disk, File, OpenMode};

use super::entry::{ENTRY_BYTES, Entry, Mark};

pub(super) const BLOCK_BYTES: usize = 4096;
/// Entries of a full block.
pub(super) const BLOCK_ENTRIES: usize = 170;
const COUNT_AT: usize = BLOCK_ENTRIES * ENTRY_BYTES;
const NUMBER_AT: usize = COUNT_AT + 4;
const MAGIC_AT: usize = NUMBER_AT + 4;
const CRC_AT: usize = MAGIC_AT + 4;
const MAGIC: &[u8; 4] = b"APTR";
const SUFFIX: &str = "run";
/// Blocks that a cursor reads at once.
const READ_BLOCKS: u64 = 8;
/// What a writer gathers for one write.
const WRITE_BYTES: usize = 256 << 10;

/// A run that is complete and synced.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) id: u64,
    pub(super) entries: u64,
    /// The least position in the log of its entries.
    pub(super) lowest: u64,
    file: Arc<dyn File>,
}

/// The name of a run's file.
pub(super) fn path(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("{id:020}.{SUFFIX}"))
}

/// The number in a run's name; none for other files.
pub(super) fn id_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?.strip_suffix('.')?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

impl Run {
    /// Opens a run that a manifest names.
    pub(super) fn open(
        disk: &dyn Disk,
        dir: &Path,
        id: u64,
        entries: u64,
        lowest: u64,
    ) -> io::Result<Run> {
        let file = disk.open(&path(dir, id), OpenMode::Read)?;
        if file.len()? != blocks(entries) * BLOCK_BYTES as u64 {
            return Err(damaged(id, "has another length than noted"));
        }
        Ok(Run {
            id,
            entries,
            lowest,
            file,
        })
    }

    /// Reads blocks from `first` on, one at least if there is one, into `out`.
    fn read(&self, first: u64, count: u64, out: &mut Vec<Entry>) -> io::Result<()> {
        out.clear();
        let count = count.min(blocks(self.entries).saturating_sub(first));
        let mut bytes = vec![0; count as usize * BLOCK_BYTES];
        self.file
            .read_exact_at(&mut bytes, first * BLOCK_BYTES as u64)?;
        for (number, block) in (first..).zip(bytes.chunks_exact(BLOCK_BYTES)) {
            let want = (self.entries - number * BLOCK_ENTRIES as u64).min(BLOCK_ENTRIES as u64);
            self.read_block(number, want as usize, block, out)?;
        }
        Ok(())
    }

    fn read_block(
        &self,
        number: u64,
        want: usize,
        block: &[u8],
        out: &mut Vec<Entry>,
    ) -> io::Result<()> {
        let word = |at: usize| block.get(at..at + 4).unwrap_or_default();
        let is_intact = word(CRC_AT) == crc32(&block[..CRC_AT]).to_be_bytes()
            && word(MAGIC_AT) == MAGIC
            && word(NUMBER_AT) == (number as u32).to_be_bytes()
            && word(COUNT_AT) == (want as u32).to_be_bytes();
        if !is_intact {
            return Err(damaged(self.id, "does not fit its checksum"));
        }
        let entries = block[..want * ENTRY_BYTES].chunks_exact(ENTRY_BYTES);
        out.extend(entries.filter_map(Entry::decode));
        Ok(())
    }
}

fn blocks(entries: u64) -> u64 {
    entries.div_ceil(BLOCK_ENTRIES as u64)
}

fn damaged(id: u64, what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the timers' file {id:020}.{SUFFIX} {what}"),
    )
}

/// CRC-32 as records have it, without the highest bit.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    protocol::record::body_crc(bytes)
}

/// A place in a run. Reads ahead a few blocks.
#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) run: Arc<Run>,
    buffer: Vec<Entry>,
    /// The next entry within the buffer.
    at: usize,
    /// The block behind the buffer.
    next_block: u64,
}

impl Cursor {
    /// Stands at the first entry behind `mark`. Waits for the disk.
    pub(super) fn behind(run: Arc<Run>, mark: Mark) -> io::Result<Cursor> {
        let (mut low, mut high) = (0, blocks(run.entries));
        let mut buffer = Vec::new();
        // The last block that begins at or before the mark.
        while low < high {
            let middle = low + (high - low) / 2;
            run.read(middle, 1, &mut buffer)?;
            if buffer.first().is_some_and(|entry| entry.mark() <= mark) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        buffer.clear();
        let mut cursor = Cursor {
            run,
            buffer,
            at: 0,
            next_block: low.saturating_sub(1),
        };
        while cursor.peek()?.is_some_and(|entry| entry.mark() <= mark) {
            cursor.at += 1;
        }
        Ok(cursor)
    }

    /// The next entry; none behind the last. Waits for the disk.
    pub(super) fn peek(&mut self) -> io::Result<Option<Entry>> {
        if self.at == self.buffer.len() && self.next_block < blocks(self.run.entries) {
            let mut buffer = std::mem::take(&mut self.buffer);
            let read = self.run.read(self.next_block, READ_BLOCKS, &mut buffer);
            if let Err(error) = read {
                // What was read before is passed; nothing is passed over.
                self.at = 0;
                return Err(error);
            }
            self.buffer = buffer;
            self.at = 0;
            self.next_block = blocks(self.run.entries).min(self.next_block + READ_BLOCKS);
        }
        Ok(self.buffer.get(self.at).copied())
    }

    /// Passes the entry that `peek` gave.
    pub(super) fn pass(&mut self) {
        self.at = (self.at + 1).min(self.buffer.len());
    }
}

/// Writes a run. Entries come in order.
pub(super) struct Writer<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    id: u64,
    file: Arc<dyn File>,
    block: Vec<u8>,
    gathered: Vec<u8>,
    written: u64,
    entries: u64,
    lowest: u64,
}

impl<'a> Writer<'a> {
    /// Begins a run with an empty file, in place of what a crash may have left under its name.
    pub(super) fn begin(disk: &'a dyn Disk, dir: &'a Path, id: u64) -> io::Result<Writer<'a>> {
        let path = path(dir, id);
        if disk.exists(&path) {
            disk.remove(&path)?;
        }
        Ok(Writer {
            disk,
            dir,
            id,
            file: disk.open(&path, OpenMode::Create)?,
            block: Vec::with_capacity(BLOCK_BYTES),
            gathered: Vec::new(),
            written: 0,
            entries: 0,
            lowest: u64::MAX,
        })
    }

    pub(super) fn push(&mut self, entry: &Entry) -> io::Result<()> {
        entry.encode(&mut self.block);
        self.entries += 1;
        self.lowest = self.lowest.min(entry.physical);
        if self.block.len() == COUNT_AT {
            self.end_block()?;
        }
        Ok(())
    }

    fn end_block(&mut self) -> io::Result<()> {
        let count = (self.block.len() / ENTRY_BYTES) as u32;
        let number = (self.entries - 1) / BLOCK_ENTRIES as u64;
        self.block.resize(COUNT_AT, 0);
        self.block.extend_from_slice(&count.to_be_bytes());
        self.block.extend_from_slice(&(number as u32).to_be_bytes());
        self.block.extend_from_slice(MAGIC);
        let crc = crc32(&self.block);
        self.block.extend_from_slice(&crc.to_be_bytes());
        self.gathered.append(&mut self.block);
        if self.gathered.len() >= WRITE_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.gathered, self.written)?;
        self.written += self.gathered.len() as u64;
        self.gathered.clear();
        Ok(())
    }

    /// Ends the run; none when it got no entry. On return it survives loss of power.
    pub(super) fn finish(mut self) -> io::Result<Option<Run>> {
        if self.entries == 0 {
            self.disk.remove(&path(self.dir, self.id))?;
            return Ok(None);
        }
        if !self.block.is_empty() {
            self.end_block()?;
        }
        self.write()?;
        self.file.sync_all()?;
        self.disk.sync_dir(self.dir)?;
        Ok(Some(Run {
            id: self.id,
            entries: self.entries,
            lowest: self.lowest,
            file: self.file,
        }))
    }
}

#[cfg(test)]
mod tests {
    use platform::disk::SimulatedDisk;

    use super::*;
    use crate::timers::entry::Key;

    fn entry(number: u64) -> Entry {
        Entry {
            due_ms: (number / 3) as i64,
            physical: number,
            key: Key::new(0, number, false),
        }
    }

    fn written(disk: &SimulatedDisk, count: u64) -> Option<Arc<Run>> {
        let dir = Path::new("/t");
        disk.create_dir_all(dir).unwrap();
        let mut writer = Writer::begin(disk, dir, 5).unwrap();
        (0..count).for_each(|number| writer.push(&entry(number)).unwrap());
        writer.finish().unwrap().map(Arc::new)
    }

    #[test]
    fn a_cursor_finds_every_place_of_runs_of_every_length() {
        for count in [1, 2, 169, 170, 171, 340, 1360, 1361, 5000] {
            let disk = SimulatedDisk::new();
            let run = written(&disk, count).unwrap();
            assert_eq!((run.entries, run.lowest), (count, 0));
            let opened = Run::open(&disk, Path::new("/t"), 5, count, 0).unwrap();
            let opened = Arc::new(opened);
            for from in [0, 1, 168, 169, 170, 171, 339, 1359, 4999] {
                let mark = if from == 0 {
                    Mark::START
                } else {
                    entry(from - 1).mark()
                };
                let mut cursor = Cursor::behind(opened.clone(), mark).unwrap();
                for number in from..count {
                    assert_eq!(cursor.peek().unwrap(), Some(entry(number)));
                    cursor.pass();
                }
                assert_eq!(cursor.peek().unwrap(), None);
            }
        }
    }

    #[test]
    fn no_entries_are_no_run() {
        let disk = SimulatedDisk::new();
        assert!(written(&disk, 0).is_none());
        assert!(disk.list(Path::new("/t")).unwrap().is_empty());
    }

    #[test]
    fn damage_is_seen_where_it_is_read() {
        let disk = SimulatedDisk::new();
        written(&disk, 300).unwrap();
        let path = path(Path::new("/t"), 5);
        let file = disk.open(&path, OpenMode::ReadWrite).unwrap();
        for at in [
            0,
            24 * 169,
            COUNT_AT,
            NUMBER_AT + 3,
            MAGIC_AT,
            CRC_AT,
            BLOCK_BYTES + 10,
        ] {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at as u64).unwrap();
            file.write_all_at(&[byte[0] ^ 1], at as u64).unwrap();
            let run = Arc::new(Run::open(&disk, Path::new("/t"), 5, 300, 0).unwrap());
            let read_all = || {
                let mut cursor = Cursor::behind(run, Mark::START)?;
                while cursor.peek()?.is_some() {
                    cursor.pass();
                }
                Ok::<_, io::Error>(())
            };
            assert_eq!(
                read_all().unwrap_err().kind(),
                io::ErrorKind::InvalidData,
                "{at}"
            );
            file.write_all_at(&byte, at as u64).unwrap();
        }
        assert!(Run::open(&disk, Path::new("/t"), 5, 400, 0).is_err());
    }

    #[test]
    fn names_are_told_from_others() {
        assert_eq!(id_of("00000000000000000012.run"), Some(12));
        assert_eq!(id_of("12.run"), None);
        assert_eq!(id_of("manifest"), None);
    }
}
