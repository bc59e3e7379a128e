//! The `checkpoint` file: Java's five fields, and behind them our own hint from where a recovery starts.
//!
//! The hint's checksum covers Java's fields. A Java broker that ran in between rewrites those and leaves the hint, so that the checksum no
//! longer fits and the hint is not used. All of it lies in the first 512 bytes, which a disk writes as one.

use std::io;
use std::path::Path;

use platform::disk::{Disk, OpenMode};

use crate::queue::files::read_fully;

/// Length of the file, one page, as Java maps it.
const FILE_BYTES: u64 = 4096;
/// Where the hint begins, behind Java's fields.
const HINT_AT: usize = 128;
const HINT_BYTES: usize = 56;
const MAGIC: &[u8; 8] = b"APOGEE\0\x01";

/// What Java's fields say: up to which store timestamps the files were synced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) log_timestamp_ms: i64,
    pub(crate) queues_timestamp_ms: i64,
    pub(crate) index_timestamp_ms: i64,
    /// Kept as found; used by replication.
    pub(crate) master_flushed: i64,
    /// Kept as found; used by replication.
    pub(crate) confirmed: i64,
    pub(crate) hint: Option<Hint>,
}

/// Everything below `position` is in the files and synced: the log, the queue entries, the index entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Hint {
    pub(crate) position: u64,
    /// Sum over all queues of the offset behind their last message below `position`.
    pub(crate) entries_total: u64,
    /// Name of the last index file, 0 without one.
    pub(crate) index_file: u64,
    /// Its count of entries at `position`.
    pub(crate) index_count: u32,
    /// Whether the index was kept at all: what was appended without it is missing there.
    pub(crate) index_enabled: bool,
}

/// Java goes back three seconds from the older of the two timestamps (Java: StoreCheckpoint.getMinTimestamp).
const MARGIN_MS: i64 = 3000;

impl Checkpoint {
    /// Segments whose first record is not newer than this are in the queues and synced, by Java's rule.
    pub(crate) fn min_timestamp_ms(&self) -> i64 {
        (self.log_timestamp_ms.min(self.queues_timestamp_ms) - MARGIN_MS).max(0)
    }

    /// Reads the file; a missing, short or strange one is an empty checkpoint.
    pub(crate) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Checkpoint> {
        let file = match disk.open(path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Checkpoint::default());
            }
            Err(error) => return Err(error),
        };
        let mut bytes = [0; HINT_AT + HINT_BYTES];
        let read = read_fully(&*file, &mut bytes, 0, true)?;
        if read < 40 {
            return Ok(Checkpoint::default());
        }
        Ok(Checkpoint::decode(&bytes))
    }

    /// Writes the file and syncs it.
    pub(crate) fn write(&self, disk: &dyn Disk, path: &Path) -> io::Result<()> {
        let fresh = !disk.exists(path);
        let file = disk.open(path, OpenMode::Create)?;
        if file.len()? < FILE_BYTES {
            file.set_len(FILE_BYTES)?;
        }
        file.write_all_at(&self.encode(), 0)?;
        file.sync_data()?;
        if let Some(dir) = path.parent().filter(|_| fresh) {
            file.sync_all()?;
            disk.sync_dir(dir)?;
        }
        Ok(())
    }

    fn encode(&self) -> [u8; HINT_AT + HINT_BYTES] {
        let mut bytes = [0; HINT_AT + HINT_BYTES];
        put(&mut bytes, 0, &self.log_timestamp_ms.to_be_bytes());
        put(&mut bytes, 8, &self.queues_timestamp_ms.to_be_bytes());
        put(&mut bytes, 16, &self.index_timestamp_ms.to_be_bytes());
        put(&mut bytes, 24, &self.master_flushed.to_be_bytes());
        put(&mut bytes, 32, &self.confirmed.to_be_bytes());
        if let Some(hint) = self.hint {
            put(&mut bytes, HINT_AT, MAGIC);
            put(&mut bytes, HINT_AT + 8, &hint.position.to_be_bytes());
            put(&mut bytes, HINT_AT + 16, &hint.entries_total.to_be_bytes());
            put(&mut bytes, HINT_AT + 24, &hint.index_file.to_be_bytes());
            put(&mut bytes, HINT_AT + 32, &hint.index_count.to_be_bytes());
            put(
                &mut bytes,
                HINT_AT + 36,
                &u32::from(hint.index_enabled).to_be_bytes(),
            );
            let crc = checksum(&bytes);
            put(&mut bytes, HINT_AT + HINT_BYTES - 4, &crc.to_be_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8; HINT_AT + HINT_BYTES]) -> Checkpoint {
        let field =
            |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let field32 =
            |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let intact = &bytes[HINT_AT..HINT_AT + 8] == MAGIC
            && field32(HINT_AT + HINT_BYTES - 4) == checksum(bytes);
        let hint = intact.then(|| Hint {
            position: field(HINT_AT + 8),
            entries_total: field(HINT_AT + 16),
            index_file: field(HINT_AT + 24),
            index_count: field32(HINT_AT + 32),
            index_enabled: field32(HINT_AT + 36) != 0,
        });
        Checkpoint {
            log_timestamp_ms: field(0) as i64,
            queues_timestamp_ms: field(8) as i64,
            index_timestamp_ms: field(16) as i64,
            master_flushed: field(24) as i64,
            confirmed: field(32) as i64,
            hint,
        }
    }
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}

fn checksum(bytes: &[u8; HINT_AT + HINT_BYTES]) -> u32 {
    crc32fast::hash(&bytes[..HINT_AT + HINT_BYTES - 4])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Checkpoint {
        let hint = Hint {
            position: 1 << 40,
            entries_total: 12,
            index_file: 20_260_101_000_000_000,
            index_count: 5,
            index_enabled: true,
        };
        Checkpoint {
            log_timestamp_ms: 9000,
            queues_timestamp_ms: 8000,
            index_timestamp_ms: 1,
            master_flushed: -1,
            confirmed: 3,
            hint: Some(hint),
        }
    }

    #[test]
    fn round_trips() {
        assert_eq!(Checkpoint::decode(&sample().encode()), sample());
        assert_eq!(sample().min_timestamp_ms(), 5000);
    }

    #[test]
    fn hint_is_dropped_when_java_changed_its_fields() {
        let mut bytes = sample().encode();
        bytes[7] ^= 1;
        let found = Checkpoint::decode(&bytes);
        assert_eq!(found.hint, None);
        assert_eq!(found.queues_timestamp_ms, 8000);
    }
}
