//! What is written of how far the timers are: the manifest, which is synced, and the position, which is not.
//!
//! The manifest names the runs and from which offset of the timer queue on the log says more than they do. The position is a few bytes that are rewritten
//! after each batch: with the kernel, so that `kill -9` repeats a batch at most. It counts only if the log holds the record that it names, so that one that loss of power, or a
//! copied directory, left ahead of the log is not believed. Layouts: `docs/formats/timers.md`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use platform::disk::{Disk, File, OpenMode};
use protocol::record;
use storage::{Appended, Store};

use super::entry::{ENTRY_BYTES, Entry, Mark};
use super::run::crc32;

const MANIFEST: &str = "manifest";
const MANIFEST_NEW: &str = "manifest.tmp";
const MANIFEST_MAGIC: &[u8; 8] = b"APTIMER1";
/// A longer file is none: a million topics are less.
const MANIFEST_BYTES_MAX: u64 = 256 << 20;
const POSITION: &str = "timer.position";
const POSITION_MAGIC: &[u8; 8] = b"APTIMEP1";
/// A longer file is none.
const POSITION_BYTES_MAX: u64 = 64 << 10;
/// Bytes of Java's `timercheck`.
pub(super) const CHECK_BYTES: usize = 56;

/// How far delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// Everything that was read from below `queue_offset` and stands at or before this mark is delivered.
    pub(super) mark: Mark,
    /// Offset in the timer queue.
    pub(super) queue_offset: u64,
    /// Everything that waited below this position of the log was stored anew behind it.
    pub(super) rolled: u64,
}

impl Progress {
    pub(super) const START: Progress = Progress {
        mark: Mark::START,
        queue_offset: 0,
        rolled: 0,
    };
}

/// Which runs there are, and what they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    /// Grows when marks begin anew; a position of another epoch does not count.
    pub(super) epoch: u64,
    /// No run has this number or a higher one.
    pub(super) next_run: u64,
    /// What was read from below this offset of the timer queue and waits is in the runs.
    pub(super) covered: u64,
    pub(super) progress: Progress,
    /// What `timercheck` held, and what it holds once it is written: another content was written by a Java broker.
    pub(super) checks: [[u8; CHECK_BYTES]; 2],
    /// Number, entries, lowest position.
    pub(super) runs: Vec<(u64, u64, u64)>,
    /// Topics by number.
    pub(super) topics: Vec<Arc<str>>,
}

/// Reads a manifest; none when there is none. One that is damaged is none too, and everything is read from the log.
pub(super) fn load_manifest(disk: &dyn Disk, dir: &Path) -> io::Result<Option<Manifest>> {
    let bytes = read(disk, &dir.join(MANIFEST), MANIFEST_BYTES_MAX)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let manifest = Manifest::decode(&bytes);
    if manifest.is_none() {
        tracing::error!(dir = %dir.display(), "the timers' manifest is damaged; what waits is read from the log");
    }
    Ok(manifest)
}

/// Puts a manifest in the place of the last. On return it survives loss of power.
pub(super) fn save_manifest(disk: &dyn Disk, dir: &Path, manifest: &Manifest) -> io::Result<()> {
    write_synced(disk, dir, MANIFEST_NEW, MANIFEST, &manifest.encode())
}

/// Writes a file beside one and renames it into its place; synced with its name.
pub(super) fn write_synced(
    disk: &dyn Disk,
    dir: &Path,
    new: &str,
    name: &str,
    bytes: &[u8],
) -> io::Result<()> {
    let new = dir.join(new);
    if disk.exists(&new) {
        disk.remove(&new)?;
    }
    let file = disk.open(&new, OpenMode::Create)?;
    file.write_all_at(bytes, 0)?;
    file.sync_all()?;
    disk.rename(&new, &dir.join(name))?;
    disk.sync_dir(dir)
}

/// The bytes of a file; none of one that is not there or too long.
pub(super) fn read(disk: &dyn Disk, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    if !disk.exists(path) {
        return Ok(Vec::new());
    }
    let file = disk.open(path, OpenMode::Read)?;
    let len = file.len()?;
    if len > bytes_max {
        return Ok(Vec::new());
    }
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

impl Manifest {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(MANIFEST_MAGIC);
        for number in [self.epoch, self.next_run, self.covered] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        push_progress(&mut out, &self.progress);
        self.checks
            .iter()
            .for_each(|check| out.extend_from_slice(check));
        out.extend_from_slice(&(self.runs.len() as u32).to_be_bytes());
        out.extend_from_slice(&(self.topics.len() as u32).to_be_bytes());
        for &(id, entries, lowest) in &self.runs {
            for number in [id, entries, lowest] {
                out.extend_from_slice(&number.to_be_bytes());
            }
        }
        for topic in &self.topics {
            out.extend_from_slice(&(topic.len() as u16).to_be_bytes());
            out.extend_from_slice(topic.as_bytes());
        }
        let crc = crc32(&out);
        out.extend_from_slice(&crc.to_be_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Manifest> {
        let mut reader = Reader(checked(bytes, MANIFEST_MAGIC)?);
        let (epoch, next_run, covered) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let progress = reader.progress()?;
        let checks = [reader.array()?, reader.array()?];
        let (runs, topics) = (reader.u32()?, reader.u32()?);
        // A list grows as far as there are bytes for it, whatever its count says.
        let runs = (0..runs).map(|_| Some((reader.u64()?, reader.u64()?, reader.u64()?)));
        let runs = runs.collect::<Option<Vec<_>>>()?;
        let topics = (0..topics).map(|_| reader.text().map(Arc::from));
        let topics = topics.collect::<Option<Vec<_>>>()?;
        Some(Manifest {
            epoch,
            next_run,
            covered,
            progress,
            checks,
            runs,
            topics,
        })
    }
}

fn push_progress(out: &mut Vec<u8>, progress: &Progress) {
    out.extend_from_slice(&progress.mark.due_ms.to_be_bytes());
    for number in [
        progress.mark.physical,
        progress.queue_offset,
        progress.rolled,
    ] {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

/// What lies between the magic and the checksum, if both fit.
fn checked<'a>(bytes: &'a [u8], magic: &[u8; 8]) -> Option<&'a [u8]> {
    let (covered, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    let is_intact = crc == crc32(covered).to_be_bytes();
    covered.strip_prefix(magic).filter(|_| is_intact)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.array()?))
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = u16::from_be_bytes(self.array()?);
        std::str::from_utf8(self.take(usize::from(length))?).ok()
    }

    fn progress(&mut self) -> Option<Progress> {
        Some(Progress {
            mark: Mark {
                due_ms: self.u64()? as i64,
                physical: self.u64()?,
            },
            queue_offset: self.u64()?,
            rolled: self.u64()?,
        })
    }
}

/// What a position says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) epoch: u64,
    pub(super) progress: Progress,
    /// Entries before the mark that are not delivered: their records are being read.
    pub(super) cold: Vec<Entry>,
    last_physical: u64,
    last_stored_ms: i64,
}

impl Position {
    /// Whether the log holds the record that was delivered last.
    pub(super) fn fits(&self, store: &Store) -> bool {
        let record = store.record_at(self.last_physical).ok().flatten();
        let stored = record.and_then(|bytes| record::peek_store_timestamp(&bytes));
        stored == Some(self.last_stored_ms)
    }

    fn decode(bytes: &[u8]) -> Option<Position> {
        let mut reader = Reader(checked(bytes, POSITION_MAGIC)?);
        let epoch = reader.u64()?;
        let progress = reader.progress()?;
        let (last_physical, last_stored_ms) = (reader.u64()?, reader.u64()? as i64);
        let count = reader.u32()?;
        let cold = (0..count).map(|_| Entry::decode(reader.take(ENTRY_BYTES)?));
        Some(Position {
            epoch,
            progress,
            cold: cold.collect::<Option<Vec<_>>>()?,
            last_physical,
            last_stored_ms,
        })
    }
}

/// The file of the position: the length of what counts, and that. Bytes of a longer one may lie behind it.
#[derive(Debug)]
pub(super) struct PositionFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// None until it is first written.
    file: Option<Arc<dyn File>>,
    bytes: Vec<u8>,
    failing: bool,
}

impl PositionFile {
    pub(super) fn new(config_dir: &Path, disk: Arc<dyn Disk>) -> PositionFile {
        PositionFile {
            disk,
            path: config_dir.join(POSITION),
            file: None,
            bytes: Vec::new(),
            failing: false,
        }
    }

    /// What was noted, whether or not it fits the log.
    pub(super) fn load(&self) -> Option<Position> {
        let bytes = match read(&*self.disk, &self.path, POSITION_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::warn!(file = %self.path.display(), %error, "not readable; timer messages may come twice");
                return None;
            }
        };
        // The length stands in front, since a shorter writing leaves the end of a longer one.
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        Position::decode(rest.get(..u32::from_be_bytes(*length) as usize)?)
    }

    /// Notes how far delivery is; `last` is the last record that it appended. A failure costs messages that come twice after a crash, and is logged once.
    pub(super) fn write(
        &mut self,
        epoch: u64,
        progress: &Progress,
        cold: &[Entry],
        last: &Appended,
    ) {
        let out = &mut self.bytes;
        out.clear();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(POSITION_MAGIC);
        out.extend_from_slice(&epoch.to_be_bytes());
        push_progress(out, progress);
        out.extend_from_slice(&last.physical_offset.to_be_bytes());
        out.extend_from_slice(&last.store_timestamp_ms.to_be_bytes());
        out.extend_from_slice(&(cold.len() as u32).to_be_bytes());
        cold.iter().for_each(|entry| entry.encode(out));
        let crc = crc32(&out[4..]);
        out.extend_from_slice(&crc.to_be_bytes());
        let length = (out.len() - 4) as u32;
        out[..4].copy_from_slice(&length.to_be_bytes());
        match self.write_bytes() {
            Ok(()) => self.failing = false,
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(file = %self.path.display(), %error, "not written; timer messages may come twice after a crash");
                }
            }
        }
    }

    fn write_bytes(&mut self) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => {
                if let Some(dir) = self.path.parent() {
                    self.disk.create_dir_all(dir)?;
                }
                let opened = self.disk.open(&self.path, OpenMode::Create)?;
                self.file.insert(opened)
            }
        };
        file.write_all_at(&self.bytes, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timers::entry::Key;

    fn progress() -> Progress {
        Progress {
            mark: Mark {
                due_ms: -3,
                physical: 9,
            },
            queue_offset: 7,
            rolled: 5,
        }
    }

    #[test]
    fn a_manifest_is_read_as_written_and_damage_is_not() {
        let manifest = Manifest {
            epoch: 1,
            next_run: 4,
            covered: 100,
            progress: progress(),
            checks: [[1; CHECK_BYTES], [2; CHECK_BYTES]],
            runs: vec![(2, 10, 3), (3, 11, 4)],
            topics: vec!["T".into(), "主题".into()],
        };
        let bytes = manifest.encode();
        assert_eq!(Manifest::decode(&bytes), Some(manifest));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(Manifest::decode(&damaged), None, "byte {at}");
            assert_eq!(Manifest::decode(&bytes[..at]), None, "cut to {at}");
        }
    }

    #[test]
    fn a_shorter_position_over_a_longer_one_is_read() {
        let disk = Arc::new(platform::disk::SimulatedDisk::new());
        let mut file = PositionFile::new(Path::new("/config"), disk.clone());
        let last = Appended {
            physical_offset: 77,
            end: 100,
            queue_offset: 3,
            store_timestamp_ms: 1_700_000_000_000,
            record_bytes: 23,
        };
        let cold = Entry {
            due_ms: 1,
            physical: 2,
            key: Key::new(3, 4, false),
        };
        for entries in [vec![cold; 3], vec![cold], vec![]] {
            file.write(6, &progress(), &entries, &last);
            let bytes = read(&*disk, Path::new("/config/timer.position"), 1 << 20).unwrap();
            let length = u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
            let noted = Position::decode(&bytes[4..4 + length]).unwrap();
            assert_eq!(
                (noted.epoch, noted.progress, noted.cold),
                (6, progress(), entries)
            );
            assert_eq!(
                (noted.last_physical, noted.last_stored_ms),
                (77, 1_700_000_000_000)
            );
        }
    }
}
