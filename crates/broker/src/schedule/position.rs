//! How far each level is delivered, noted after each batch: what `delayOffset.json` does not say yet after `kill -9`.
//!
//! A few bytes that are rewritten in place and never synced: they are with the kernel, which survives the process and not the power. So
//! that a file which loss of power, or a copied directory, left ahead of the log is not believed, it names the last delivered record; it counts only if the
//! log holds that record. Layout: `docs/formats/store.md`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use platform::disk::{Disk, File, OpenMode};
use protocol::record;
use storage::{Appended, Store};

const FILE: &str = "delayOffset.position";
const MAGIC: &[u8; 8] = b"APDELAY1";
/// Magic, the last record's position and store time, the number of levels.
const HEAD_BYTES: usize = 8 + 8 + 8 + 4;
const CRC_BYTES: usize = 4;
/// A longer file is none.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The file.
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
    pub(super) fn new(dir: &Path, disk: Arc<dyn Disk>) -> PositionFile {
        PositionFile {
            disk,
            path: dir.join(FILE),
            file: None,
            bytes: Vec::new(),
            failing: false,
        }
    }

    /// The offset of each level's next message, level 1 first; nothing when there is no file or it does not fit the log.
    pub(super) fn load(&self, store: &Store) -> Vec<u64> {
        let bytes = match self.read() {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::warn!(file = %self.path.display(), %error, "not readable; delayed messages may come twice");
                return Vec::new();
            }
        };
        let Some(noted) = decode(&bytes) else {
            return Vec::new();
        };
        let record = store.record_at(noted.last_physical).ok().flatten();
        let stored = record.and_then(|bytes| record::peek_store_timestamp(&bytes));
        if stored == Some(noted.last_stored_ms) {
            noted.offsets
        } else {
            Vec::new()
        }
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        if !self.disk.exists(&self.path) {
            return Ok(Vec::new());
        }
        let file = self.disk.open(&self.path, OpenMode::Read)?;
        let mut bytes = vec![0; file.len()?.min(FILE_BYTES_MAX) as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Notes the offsets; `last` is the last record that was delivered. A failure costs messages that come twice after a crash, and is logged once.
    pub(super) fn write(&mut self, offsets: impl Iterator<Item = u64>, last: &Appended) {
        encode(offsets, last, &mut self.bytes);
        match self.write_bytes() {
            Ok(()) => self.failing = false,
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(file = %self.path.display(), %error, "not written; delayed messages may come twice after a crash");
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

#[derive(Debug, PartialEq, Eq)]
struct Noted {
    last_physical: u64,
    last_stored_ms: i64,
    offsets: Vec<u64>,
}

fn encode(offsets: impl Iterator<Item = u64>, last: &Appended, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&last.physical_offset.to_be_bytes());
    out.extend_from_slice(&last.store_timestamp_ms.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    offsets.for_each(|offset| out.extend_from_slice(&offset.to_be_bytes()));
    let count = (out.len() - HEAD_BYTES) / 8;
    out[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&(count as u32).to_be_bytes());
    let crc = record::body_crc(out);
    out.extend_from_slice(&crc.to_be_bytes());
}

/// Bytes behind the levels do not matter: a broker with more levels may have written them.
fn decode(bytes: &[u8]) -> Option<Noted> {
    let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let short = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    if bytes.get(..8)? != MAGIC {
        return None;
    }
    let count = short(HEAD_BYTES - 4)? as usize;
    let crc_at = HEAD_BYTES.checked_add(count.checked_mul(8)?)?;
    let covered = bytes
        .get(..crc_at)
        .filter(|_| bytes.len() >= crc_at + CRC_BYTES)?;
    if short(crc_at)? != record::body_crc(covered) {
        return None;
    }
    Some(Noted {
        last_physical: number(8)?,
        last_stored_ms: number(16)? as i64,
        offsets: (0..count)
            .filter_map(|index| number(HEAD_BYTES + 8 * index))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_read_and_damage_is_not() {
        let last = Appended {
            physical_offset: 77,
            end: 100,
            queue_offset: 3,
            store_timestamp_ms: 1_700_000_000_000,
            record_bytes: 23,
        };
        let mut bytes = Vec::new();
        encode([5, 0, 9].into_iter(), &last, &mut bytes);
        let noted = decode(&bytes).unwrap();
        assert_eq!(
            (noted.last_physical, noted.last_stored_ms),
            (77, 1_700_000_000_000)
        );
        assert_eq!(noted.offsets, [5, 0, 9]);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(decode(&damaged), None, "byte {at}");
            assert_eq!(decode(&bytes[..at]), None, "cut to {at}");
        }
        bytes.extend_from_slice(&[1; 16]);
        assert!(decode(&bytes).is_some());
    }
}
