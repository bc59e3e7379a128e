//! The changes of a table since its JSON file was written: an append-only file beside it, ours.
//!
//! Layout in `docs/formats/store.md`. Changes are noted in memory under the table's own lock, in the order in which they
//! took effect; a commit writes and syncs everything noted so far, so that those who commit at the same time share one
//! sync. When the JSON file has been written anew, what it holds leaves the journal.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use platform::disk::{Disk, File, create_dir_all_synced};
use protocol::body::DataVersion;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::LoadError;
use super::json_file::{beside, create_empty, read};

/// What every journal begins with.
const MAGIC: &[u8; 8] = b"APGJRNL1";
/// Noted changes that no commit has taken. Beyond it they are dropped, and the table must be folded: the disk has failed
/// for long, and nothing may grow with that.
const PENDING_BYTES_MAX: usize = 16 << 20;

/// A place in the sequence of a table's changes: everything before it has taken effect. In bytes of records since the
/// process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position(u64);

/// Whether a commit did what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Committed {
    /// The changes survive loss of power.
    Yes,
    /// The journal does not hold them and cannot: only the whole table in its JSON file does.
    OnlyByFold,
}

/// What a journal held when it was read.
#[derive(Debug)]
pub(super) struct Found<C> {
    /// The version of the JSON file that it continues; none when there was no such file.
    pub(super) base: Option<DataVersion>,
    /// Changes with the table's version after each, oldest first.
    pub(super) changes: Vec<(DataVersion, C)>,
}

/// A record of the file.
#[derive(Serialize, Deserialize)]
struct Record<C> {
    version: DataVersion,
    change: C,
}

/// Invariants: `pending.start ≤ pending.noted`; `written.upto ≤ pending.noted`. When `written.upto < pending.start`, the
/// changes between are in memory's table only.
#[derive(Debug)]
pub(super) struct Journal {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    pending: Mutex<Pending>,
    /// Held while the file is written: writers take turns, and each finds what came meanwhile.
    written: Mutex<Written>,
    /// `written.upto`, for those who only look.
    durable: AtomicU64,
}

#[derive(Debug, Default)]
struct Pending {
    /// Records from `start` to `noted`.
    bytes: Vec<u8>,
    start: u64,
    noted: u64,
}

#[derive(Debug, Default)]
struct Written {
    /// What survives loss of power, in the journal or in the JSON file.
    upto: u64,
    /// The version of the JSON file; none while there is none.
    base: Option<DataVersion>,
    /// The file, which ends at `upto`; none when there is none, or its end cannot be relied on.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: Arc<dyn File>,
    len: u64,
}

impl Journal {
    /// The journal at `path`. Nothing is touched.
    pub(super) fn new(path: PathBuf, disk: Arc<dyn Disk>) -> Journal {
        Journal {
            disk,
            path,
            pending: Mutex::default(),
            written: Mutex::default(),
            durable: AtomicU64::new(0),
        }
    }

    /// What the last process left; none when it left nothing. A record that is torn or damaged ends it. What was found
    /// must be folded before anything can be committed.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn load<C: DeserializeOwned>(&self) -> Result<Option<Found<C>>, LoadError> {
        let Some(bytes) = read(&*self.disk, &self.path)? else {
            return Ok(None);
        };
        let mut pending = self.pending();
        (pending.start, pending.noted) = (1, 1);
        drop(pending);
        let Some(mut rest) = bytes.strip_prefix(MAGIC.as_slice()) else {
            self.warn_of(bytes.len());
            return Ok(None);
        };
        let Some(base) = take::<Option<DataVersion>>(&mut rest) else {
            self.warn_of(rest.len());
            return Ok(None);
        };
        let mut changes = Vec::new();
        while let Some(Record { version, change }) = take(&mut rest) {
            changes.push((version, change));
        }
        if !rest.is_empty() {
            self.warn_of(rest.len());
        }
        Ok(Some(Found { base, changes }))
    }

    fn warn_of(&self, bytes: usize) {
        tracing::warn!(file = %self.path.display(), bytes, "the journal ends with a record that is not whole: the change was not acknowledged, or the file is damaged. It is left out");
    }

    /// The version of the JSON file that was loaded.
    pub(super) fn set_base(&self, base: Option<DataVersion>) {
        self.written().base = base;
    }

    /// A lock that a panic left behind is usable: each change is complete in itself.
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a change, after which the table has `version`. Called under the table's lock; memory only.
    pub(super) fn note(&self, version: &DataVersion, change: &impl Serialize) -> Position {
        let mut record = Vec::with_capacity(256);
        put(
            &mut record,
            &Record {
                version: version.clone(),
                change,
            },
        );
        let mut pending = self.pending();
        pending.noted += record.len() as u64;
        if pending.bytes.len() + record.len() > PENDING_BYTES_MAX {
            pending.bytes = Vec::new();
            pending.start = pending.noted;
        } else {
            pending.bytes.extend_from_slice(&record);
        }
        Position(pending.noted)
    }

    /// Behind the last change that was noted.
    pub(super) fn position(&self) -> Position {
        Position(self.pending().noted)
    }

    /// Whether everything before `position` survives loss of power.
    pub(super) fn is_durable(&self, position: Position) -> bool {
        position.0 <= self.durable.load(Ordering::Acquire)
    }

    /// Writes and syncs what was noted, as far as `wanted` at least. Blocks.
    pub(super) fn commit(&self, wanted: Position) -> Committed {
        let mut written = self.written();
        if written.upto >= wanted.0 {
            return Committed::Yes;
        }
        self.append_pending(&mut written)
    }

    /// As [`commit`](Self::commit), when there is a file. Called before the JSON file is replaced, which must not come to
    /// hold changes that a journal beside it lacks: replayed, it would take them back.
    pub(super) fn commit_if_open(&self, wanted: Position) {
        let mut written = self.written();
        if written.open.is_some() && written.upto < wanted.0 {
            // The fold that follows holds them all the same.
            let _ = self.append_pending(&mut written);
        }
    }

    fn append_pending(&self, written: &mut Written) -> Committed {
        let (bytes, end) = {
            let mut pending = self.pending();
            if pending.start > written.upto {
                return Committed::OnlyByFold;
            }
            pending.start = pending.noted;
            (std::mem::take(&mut pending.bytes), pending.noted)
        };
        match self.append(written, &bytes) {
            Ok(()) => {
                self.set_upto(written, end);
                Committed::Yes
            }
            Err(error) => {
                // What a failed write or sync left in the file is not known, and a later success would prove nothing.
                written.open = None;
                tracing::warn!(file = %self.path.display(), %error, "the journal cannot be written; the whole table is");
                Committed::OnlyByFold
            }
        }
    }

    fn set_upto(&self, written: &mut Written, upto: u64) {
        written.upto = upto;
        self.durable.store(upto, Ordering::Release);
    }

    fn append(&self, written: &mut Written, records: &[u8]) -> io::Result<()> {
        if let Some(open) = &mut written.open {
            open.file.write_all_at(records, open.len)?;
            open.file.sync_data()?;
            open.len += records.len() as u64;
            return Ok(());
        }
        if let Some(dir) = self.path.parent() {
            create_dir_all_synced(&*self.disk, dir)?;
        }
        written.open = Some(self.create(&self.path, written.base.as_ref(), records)?);
        self.sync_dir()
    }

    /// A file with these records, synced; its name is not.
    fn create(&self, path: &Path, base: Option<&DataVersion>, records: &[u8]) -> io::Result<Open> {
        let mut bytes = MAGIC.to_vec();
        put(&mut bytes, &base);
        bytes.extend_from_slice(records);
        let file = create_empty(&*self.disk, path)?;
        file.write_all_at(&bytes, 0)?;
        file.sync_all()?;
        Ok(Open {
            file,
            len: bytes.len() as u64,
        })
    }

    /// The JSON file holds everything before `position`, as `version`, and survives loss of power: that leaves the journal.
    /// Changes behind it stay.
    pub(super) fn folded(&self, position: Position, version: DataVersion) -> io::Result<()> {
        let mut written = self.written();
        let behind = written.upto.saturating_sub(position.0);
        if behind == 0 {
            if self.disk.exists(&self.path) {
                self.disk.remove(&self.path)?;
                self.sync_dir()?;
            }
            written.open = None;
            self.set_upto(&mut written, position.0);
            self.forget_pending(position);
        } else if let Some(open) = &written.open {
            let mut records = vec![0; behind as usize];
            open.file.read_exact_at(&mut records, open.len - behind)?;
            let new = beside(&self.path, "tmp");
            let open = self.create(&new, Some(&version), &records)?;
            self.disk.rename(&new, &self.path)?;
            written.open = Some(open);
            self.sync_dir()?;
        }
        // Otherwise the journal failed after the table was taken: it holds what lies behind, and the next fold takes that.
        written.base = Some(version);
        Ok(())
    }

    fn forget_pending(&self, position: Position) {
        let mut pending = self.pending();
        if let Some(folded) = position.0.checked_sub(pending.start) {
            let folded = (folded as usize).min(pending.bytes.len());
            pending.bytes.drain(..folded);
            pending.start = position.0;
        }
    }

    fn sync_dir(&self) -> io::Result<()> {
        match self.path.parent() {
            Some(dir) => self.disk.sync_dir(dir),
            None => Ok(()),
        }
    }
}

/// Appends a record with its length and checksum.
fn put(bytes: &mut Vec<u8>, record: &impl Serialize) {
    let payload = protocol::json::encode(record);
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&protocol::record::body_crc(&payload).to_be_bytes());
    bytes.extend_from_slice(&payload);
}

/// Takes a record off the front; none, and nothing taken, when the first is not whole.
fn take<T: DeserializeOwned>(rest: &mut &[u8]) -> Option<T> {
    let (len, behind) = rest.split_first_chunk::<4>()?;
    let (crc, behind) = behind.split_first_chunk::<4>()?;
    let (payload, behind) = behind.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    if protocol::record::body_crc(payload).to_be_bytes() != *crc {
        return None;
    }
    let record = serde_json::from_slice(payload).ok()?;
    *rest = behind;
    Some(record)
}
