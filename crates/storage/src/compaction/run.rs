//! The two files of a queue's compacted part: the records that were kept, and where each of them lies.
//!
//! Both are written once, under names that end in `.tmp`, synced, and renamed, the records first: an entries file under its own name says that
//! both are whole. Layouts: `docs/formats/compaction.md`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use platform::disk::{Disk, File, OpenMode};
use protocol::record::Record;
use protocol::tags;

use crate::dispatch::Facts;
use crate::queue::files::read_fully;

/// Ends the name of the file of records.
pub(super) const RECORDS: &str = "records";
/// Ends the name of the file of entries.
pub(super) const ENTRIES: &str = "entries";
/// Ends the name of a file that is being written.
pub(super) const UNFINISHED: &str = "tmp";

const MAGIC: &[u8; 8] = b"APCOMPCT";
const VERSION: u32 = 1;
/// Size of what an entries file begins with.
const HEADER_BYTES: usize = 64;
/// Size of an entry.
const ENTRY_BYTES: usize = 52;
/// Bytes that are gathered before they are written.
const WRITE_BYTES: usize = 256 << 10;

/// Where a record lies, and what is asked of it without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) offset: u64,
    /// In the file of records.
    pub(crate) position: u64,
    /// In the commit log, where it was stored first.
    pub(crate) physical: u64,
    pub(crate) tags_code: i64,
    pub(crate) store_timestamp_ms: i64,
    pub(crate) size: u32,
    /// CRC-32 of the whole record.
    pub(crate) crc: u32,
}

impl Entry {
    pub(super) fn of(record: &Record<'_>, bytes: &[u8], position: u64) -> Entry {
        let tags = Facts::of(record.properties).tags;
        Entry {
            offset: record.queue_offset,
            position,
            physical: record.physical_offset,
            tags_code: tags.map_or(0, |tag| tags::tags_code(Some(tag))),
            store_timestamp_ms: record.store_timestamp_ms,
            size: record.size,
            crc: crc32fast::hash(bytes),
        }
    }

    pub(super) fn end(&self) -> u64 {
        self.position + u64::from(self.size)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let from = out.len();
        out.extend_from_slice(&self.offset.to_be_bytes());
        out.extend_from_slice(&self.position.to_be_bytes());
        out.extend_from_slice(&self.physical.to_be_bytes());
        out.extend_from_slice(&self.tags_code.to_be_bytes());
        out.extend_from_slice(&self.store_timestamp_ms.to_be_bytes());
        out.extend_from_slice(&self.size.to_be_bytes());
        out.extend_from_slice(&self.crc.to_be_bytes());
        let crc = crc32fast::hash(&out[from..]);
        out.extend_from_slice(&crc.to_be_bytes());
    }

    /// None when it is not what was written.
    fn decode(bytes: &[u8]) -> Option<Entry> {
        let word = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let half = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        if half(ENTRY_BYTES - 4)? != crc32fast::hash(bytes.get(..ENTRY_BYTES - 4)?) {
            return None;
        }
        Some(Entry {
            offset: word(0)?,
            position: word(8)?,
            physical: word(16)?,
            tags_code: word(24)? as i64,
            store_timestamp_ms: word(32)? as i64,
            size: half(40)?,
            crc: half(44)?,
        })
    }

    /// Whether these bytes are the record that the entry was written for.
    pub(super) fn fits(&self, bytes: &[u8]) -> bool {
        bytes.len() == self.size as usize && crc32fast::hash(bytes) == self.crc
    }
}

/// What an entries file begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    sequence: u64,
    until: u64,
    count: u64,
    records_bytes: u64,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_be_bytes());
        for (index, field) in [self.sequence, self.until, self.count, self.records_bytes]
            .into_iter()
            .enumerate()
        {
            bytes[16 + index * 8..24 + index * 8].copy_from_slice(&field.to_be_bytes());
        }
        let crc = crc32fast::hash(&bytes[..HEADER_BYTES - 4]);
        bytes[HEADER_BYTES - 4..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Header> {
        let word = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let crc = u32::from_be_bytes(bytes[HEADER_BYTES - 4..].try_into().ok()?);
        let is_ours = bytes[..8] == *MAGIC
            && bytes[8..12] == VERSION.to_be_bytes()
            && crc == crc32fast::hash(&bytes[..HEADER_BYTES - 4]);
        if !is_ours {
            return None;
        }
        Some(Header {
            sequence: word(16)?,
            until: word(24)?,
            count: word(32)?,
            records_bytes: word(40)?,
        })
    }
}

/// The compacted part of a queue, as it lies on the disk.
///
/// Invariant: entries rise by offset and position, and all offsets are below `until`.
#[derive(Debug)]
pub(crate) struct Run {
    pub(super) sequence: u64,
    /// Messages from this queue offset on are read from the log.
    pub(crate) until: u64,
    pub(crate) count: u64,
    pub(super) records_bytes: u64,
    first: Option<Entry>,
    last: Option<Entry>,
    records: Arc<dyn File>,
    entries: Arc<dyn File>,
}

impl Run {
    /// Opens the files of a number. None when they are not whole.
    pub(super) fn open(disk: &dyn Disk, dir: &Path, sequence: u64) -> io::Result<Option<Run>> {
        let (entries, records) = match (
            disk.open(&path(dir, sequence, ENTRIES), OpenMode::Read),
            disk.open(&path(dir, sequence, RECORDS), OpenMode::Read),
        ) {
            (Ok(entries), Ok(records)) => (entries, records),
            (Err(error), _) | (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        let mut head = [0; HEADER_BYTES];
        if read_fully(&*entries, &mut head, 0, true)? != HEADER_BYTES {
            return Ok(None);
        }
        let Some(header) = Header::decode(&head).filter(|header| header.sequence == sequence)
        else {
            return Ok(None);
        };
        let is_whole = header
            .count
            .checked_mul(ENTRY_BYTES as u64)
            .is_some_and(|bytes| entries.len().ok() == bytes.checked_add(HEADER_BYTES as u64))
            && records.len()? == header.records_bytes;
        if !is_whole {
            return Ok(None);
        }
        let mut run = Run {
            sequence,
            until: header.until,
            count: header.count,
            records_bytes: header.records_bytes,
            first: None,
            last: None,
            records,
            entries,
        };
        if let Some(last) = run.count.checked_sub(1) {
            run.first = run.entry(0, true)?;
            run.last = run.entry(last, true)?;
        }
        // An entry at either end that is damaged is found by going through all of them.
        let are_ends_intact = run.count == 0 || (run.first.is_some() && run.last.is_some());
        Ok(are_ends_intact.then_some(run))
    }

    /// First queue offset that is there; where the log begins when none is.
    pub(crate) fn first_offset(&self) -> u64 {
        self.first.map_or(self.until, |first| first.offset)
    }

    /// Whether a position of the commit log lies between the first and the last record.
    pub(super) fn may_hold(&self, physical: u64) -> bool {
        let of = |entry: Option<Entry>| entry.map(|entry| entry.physical);
        of(self.first) <= Some(physical) && of(self.last) >= Some(physical)
    }

    /// One entry; None when it is damaged.
    pub(super) fn entry(&self, index: u64, wait: bool) -> io::Result<Option<Entry>> {
        let mut entries = Vec::with_capacity(1);
        self.entries(index, 1, wait, &mut entries)?;
        Ok(entries.pop().flatten())
    }

    /// Up to `count` entries from one on, None for each that is damaged.
    pub(super) fn entries(
        &self,
        index: u64,
        count: u64,
        wait: bool,
        out: &mut Vec<Option<Entry>>,
    ) -> io::Result<()> {
        let count = count.min(self.count.saturating_sub(index)) as usize;
        let mut bytes = vec![0; count * ENTRY_BYTES];
        let at = HEADER_BYTES as u64 + index * ENTRY_BYTES as u64;
        let read = read_fully(&*self.entries, &mut bytes, at, wait)?;
        bytes[read..].fill(0);
        out.extend(bytes.chunks_exact(ENTRY_BYTES).map(Entry::decode));
        Ok(())
    }

    /// The first entry from an index on that is not damaged.
    fn intact_from(&self, index: u64, wait: bool) -> io::Result<Option<(u64, Entry)>> {
        for index in index..self.count {
            if let Some(entry) = self.entry(index, wait)? {
                return Ok(Some((index, entry)));
            }
        }
        Ok(None)
    }

    /// Index of the first entry that is not `before`. What is before comes first.
    pub(super) fn partition(&self, wait: bool, before: impl Fn(&Entry) -> bool) -> io::Result<u64> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.intact_from(middle, wait)? {
                Some((index, entry)) if index < high && before(&entry) => low = index + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// Bytes of the file of records; fewer at its end.
    pub(super) fn read(&self, position: u64, bytes: &mut [u8], wait: bool) -> io::Result<usize> {
        read_fully(&*self.records, bytes, position, wait)
    }

    pub(super) fn records(&self) -> Arc<dyn File> {
        Arc::clone(&self.records)
    }
}

/// `<sequence>.<suffix>`, twenty digits.
pub(super) fn path(dir: &Path, sequence: u64, suffix: &str) -> PathBuf {
    dir.join(format!("{sequence:020}.{suffix}"))
}

fn unfinished(dir: &Path, sequence: u64, suffix: &str) -> PathBuf {
    dir.join(format!("{sequence:020}.{suffix}.{UNFINISHED}"))
}

/// One file that is written from its front to its end, in large pieces.
struct Piecewise {
    file: Arc<dyn File>,
    gathered: Vec<u8>,
    written: u64,
}

impl Piecewise {
    /// Begins with an empty file, in place of what a crash may have left under its name.
    fn begin(disk: &dyn Disk, path: &Path) -> io::Result<Piecewise> {
        if disk.exists(path) {
            disk.remove(path)?;
        }
        Ok(Piecewise {
            file: disk.open(path, OpenMode::Create)?,
            gathered: Vec::new(),
            written: 0,
        })
    }

    fn write_when_full(&mut self) -> io::Result<()> {
        if self.gathered.len() >= WRITE_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        self.file.write_all_at(&self.gathered, self.written)?;
        self.written += self.gathered.len() as u64;
        self.gathered.clear();
        Ok(())
    }

    fn len(&self) -> u64 {
        self.written + self.gathered.len() as u64
    }
}

/// Writes a run. Records come in the order of their offsets.
pub(super) struct Writer<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    sequence: u64,
    /// None when the file of records is there already and only its entries are made again.
    records: Option<Piecewise>,
    entries: Piecewise,
    count: u64,
    records_bytes: u64,
    last_offset: Option<u64>,
}

impl<'a> Writer<'a> {
    /// Begins both files.
    pub(super) fn begin(
        disk: &'a dyn Disk,
        dir: &'a Path,
        sequence: u64,
    ) -> io::Result<Writer<'a>> {
        let records = Piecewise::begin(disk, &unfinished(dir, sequence, RECORDS))?;
        let mut writer = Writer::of_entries(disk, dir, sequence)?;
        writer.records = Some(records);
        Ok(writer)
    }

    /// Begins the file of entries for records that are there.
    pub(super) fn of_entries(
        disk: &'a dyn Disk,
        dir: &'a Path,
        sequence: u64,
    ) -> io::Result<Writer<'a>> {
        let mut entries = Piecewise::begin(disk, &unfinished(dir, sequence, ENTRIES))?;
        // The header is written when everything behind it is.
        entries.gathered.resize(HEADER_BYTES, 0);
        Ok(Writer {
            disk,
            dir,
            sequence,
            records: None,
            entries,
            count: 0,
            records_bytes: 0,
            last_offset: None,
        })
    }

    /// Adds a record, unless one with its offset or a larger one is there.
    pub(super) fn push(&mut self, record: &Record<'_>, bytes: &[u8]) -> io::Result<()> {
        let Some(records) = &mut self.records else {
            return self.push_at(record, bytes, self.records_bytes);
        };
        if self
            .last_offset
            .is_some_and(|last| record.queue_offset <= last)
        {
            return Ok(());
        }
        let position = records.len();
        records.gathered.extend_from_slice(bytes);
        records.write_when_full()?;
        self.push_at(record, bytes, position)
    }

    /// Adds the entry of a record that lies at a position of its file.
    pub(super) fn push_at(
        &mut self,
        record: &Record<'_>,
        bytes: &[u8],
        position: u64,
    ) -> io::Result<()> {
        if self
            .last_offset
            .is_some_and(|last| record.queue_offset <= last)
        {
            return Ok(());
        }
        let entry = Entry::of(record, bytes, position);
        entry.encode(&mut self.entries.gathered);
        self.entries.write_when_full()?;
        self.count += 1;
        self.records_bytes = self.records_bytes.max(entry.end());
        self.last_offset = Some(record.queue_offset);
        Ok(())
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Offset behind the last record.
    pub(super) fn next_offset(&self) -> Option<u64> {
        self.last_offset.map(|last| last + 1)
    }

    /// Ends the run, of which messages from `until` on are no part. On return it survives loss of power and is the one that the next start finds.
    pub(super) fn finish(mut self, until: u64) -> io::Result<Run> {
        if let Some(records) = &mut self.records {
            records.write()?;
            records.file.sync_all()?;
            let (from, to) = (
                unfinished(self.dir, self.sequence, RECORDS),
                path(self.dir, self.sequence, RECORDS),
            );
            self.disk.rename(&from, &to)?;
            // Before the entries have their name, which says that the records are there.
            self.disk.sync_dir(self.dir)?;
        } else {
            // What lies behind the last whole record is none.
            let records = path(self.dir, self.sequence, RECORDS);
            let file = self.disk.open(&records, OpenMode::ReadWrite)?;
            file.set_len(self.records_bytes)?;
            file.sync_all()?;
        }
        self.entries.write()?;
        let header = Header {
            sequence: self.sequence,
            until,
            count: self.count,
            records_bytes: self.records_bytes,
        };
        self.entries.file.write_all_at(&header.encode(), 0)?;
        self.entries.file.sync_all()?;
        let (from, to) = (
            unfinished(self.dir, self.sequence, ENTRIES),
            path(self.dir, self.sequence, ENTRIES),
        );
        self.disk.rename(&from, &to)?;
        self.disk.sync_dir(self.dir)?;
        Run::open(self.disk, self.dir, self.sequence)?.ok_or_else(|| {
            let path = to.display();
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{path} is not what was just written"),
            )
        })
    }
}
