//! A table that is kept in Java's JSON file with a journal of the changes since.
//!
//! A change costs its own record, whatever the size of the table. The JSON file is written from the table behind, soon
//! after a change while that is cheap, and at a clean stop, when the journal goes: a Java broker finds its own files.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use platform::disk::Disk;
use protocol::body::DataVersion;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use super::LoadError;
use super::journal::{Committed, Found, Journal, Position};
use super::json_file::JsonFile;

/// How long the JSON file is left alone after it was written, in times of what that took: folding takes a twentieth of a
/// core at most.
const FOLD_REST: u32 = 20;

/// The files of one table.
#[derive(Debug)]
pub(crate) struct Kept {
    json: JsonFile,
    journal: Journal,
    changes: AtomicU64,
    changed: Notify,
    /// Held while the JSON file is written: folds take turns.
    folded: Mutex<Folded>,
}

/// How the JSON file stands.
#[derive(Debug, Default)]
struct Folded {
    /// The number of changes that it holds.
    changes: u64,
    /// How long the last fold took.
    took: Duration,
}

/// What the files hold.
#[derive(Debug)]
pub(crate) struct Loaded<T, C> {
    /// The JSON file.
    pub(crate) table: Option<T>,
    /// What is to be done to it, oldest first, with the version after each.
    pub(crate) changes: Vec<(DataVersion, C)>,
    /// Another program has changed the JSON file since the journal was begun: only what adds to it may be done.
    pub(crate) by_others: bool,
    /// There was a journal: the table is to be folded.
    pub(crate) had_journal: bool,
}

/// A table at one moment, taken under its lock.
pub(crate) struct Snapshot<T> {
    /// What the JSON file is to hold.
    pub(crate) table: T,
    /// The table's version.
    pub(crate) version: DataVersion,
    /// Where it stands among the changes.
    pub(crate) position: Position,
}

impl Kept {
    /// The files of the table `name`: `name.json` and `name.journal` in `dir`. Nothing is touched.
    pub(crate) fn new(dir: &Path, name: &str, disk: Arc<dyn Disk>) -> Kept {
        Kept {
            json: JsonFile::new(dir.join(format!("{name}.json")), disk.clone()),
            journal: Journal::new(dir.join(format!("{name}.journal")), disk),
            changes: AtomicU64::new(0),
            changed: Notify::new(),
            folded: Mutex::default(),
        }
    }

    /// Reads the files.
    pub(crate) fn load<T: DeserializeOwned, C: DeserializeOwned>(
        &self,
        version_of: impl Fn(&T) -> Option<&DataVersion>,
    ) -> Result<Loaded<T, C>, LoadError> {
        let table: Option<T> = self.json.load()?;
        let version = table.as_ref().and_then(version_of).cloned();
        let found = self.journal.load()?;
        self.journal.set_base(version.clone());
        let Some(Found { base, changes }) = found else {
            return Ok(Loaded {
                table,
                changes: Vec::new(),
                by_others: false,
                had_journal: false,
            });
        };
        let counter =
            |version: &Option<DataVersion>| version.as_ref().map_or(-1, |version| version.counter);
        let continues =
            version == base || changes.iter().any(|(at, _)| Some(at) == version.as_ref());
        let by_others = !continues && counter(&version) >= counter(&base);
        let mut changes = changes;
        if !by_others {
            changes.retain(|(at, _)| at.counter > counter(&version));
        }
        self.changes.fetch_add(1, Ordering::AcqRel);
        Ok(Loaded {
            table,
            changes,
            by_others,
            had_journal: true,
        })
    }

    /// Takes note of a change, after which the table has `version`. Called under the table's lock, in the order of the
    /// changes. It is durable after a [`commit`](Self::commit), and soon in any case.
    pub(crate) fn note(&self, version: &DataVersion, change: &impl Serialize) -> Position {
        let position = self.journal.note(version, change);
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.changed.notify_one();
        position
    }

    /// Something changed that the journal does not tell; the JSON file will, at the next fold.
    pub(crate) fn touch_quietly(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Where the table stands among its changes. Called under the table's lock.
    pub(crate) fn position(&self) -> Position {
        self.journal.position()
    }

    /// Whether everything before `position` survives loss of power.
    pub(crate) fn is_durable(&self, position: Position) -> bool {
        self.journal.is_durable(position)
    }

    /// On return every change noted before the call survives loss of power. Blocks. Who calls at the same time shares the
    /// sync. When the journal cannot be written, the whole table is.
    ///
    /// # Errors
    /// Neither could be written. The changes are in memory, and a later call tries again.
    pub(crate) fn commit<T: Serialize>(
        &self,
        take: impl FnOnce() -> Snapshot<T>,
    ) -> io::Result<()> {
        match self.journal.commit(self.position()) {
            Committed::Yes => Ok(()),
            Committed::OnlyByFold => self.fold(take),
        }
    }

    /// Writes the JSON file from the table that `take` gives, unless it holds it already; what it holds then leaves the
    /// journal. On return it survives loss of power. Blocks.
    pub(crate) fn fold<T: Serialize>(&self, take: impl FnOnce() -> Snapshot<T>) -> io::Result<()> {
        let mut folded = self.folded.lock().unwrap_or_else(PoisonError::into_inner);
        // Read before the table is: a change in between is written again rather than forgotten.
        let changes = self.changes.load(Ordering::Acquire);
        if folded.changes == changes {
            return Ok(());
        }
        let begun = Instant::now();
        let Snapshot {
            table,
            version,
            position,
        } = take();
        self.journal.commit_if_open(position);
        self.json.replace(&table)?;
        self.journal.folded(position, version)?;
        *folded = Folded {
            changes,
            took: begun.elapsed(),
        };
        Ok(())
    }

    /// Returns when a change was noted.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// How long the JSON file should be left alone after it was written.
    pub(super) fn rest(&self) -> Duration {
        let folded = self.folded.lock().unwrap_or_else(PoisonError::into_inner);
        folded.took * FOLD_REST
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use platform::disk::RealDisk;
    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default)]
    struct Table {
        version: DataVersion,
        values: BTreeMap<String, BTreeMap<i32, i64>>,
    }

    /// A key's value; none removes it.
    type Change = (String, Option<i64>);

    struct Owner {
        table: Table,
        kept: Kept,
    }

    impl Owner {
        fn open(dir: &Path) -> Result<Owner, LoadError> {
            let kept = Kept::new(dir, "t", Arc::new(RealDisk));
            let loaded = kept.load::<Table, Change>(|table| Some(&table.version))?;
            let mut table = loaded.table.unwrap_or_default();
            for (version, (key, value)) in loaded.changes {
                set(&mut table, version, &key, value);
            }
            Ok(Owner { table, kept })
        }

        fn set(&mut self, key: &str, value: Option<i64>) {
            let mut version = self.table.version.clone();
            version.counter += 1;
            set(&mut self.table, version, key, value);
            self.kept
                .note(&self.table.version, &(key.to_owned(), value));
        }

        fn snapshot(&self) -> Snapshot<Table> {
            Snapshot {
                table: self.table.clone(),
                version: self.table.version.clone(),
                position: self.kept.position(),
            }
        }

        fn commit(&self) {
            self.kept.commit(|| self.snapshot()).unwrap();
        }

        fn fold(&self) {
            self.kept.fold(|| self.snapshot()).unwrap();
        }
    }

    fn set(table: &mut Table, version: DataVersion, key: &str, value: Option<i64>) {
        table.version = version;
        match value {
            Some(value) => table
                .values
                .insert(key.to_owned(), BTreeMap::from([(0, value)])),
            None => table.values.remove(key),
        };
    }

    fn open(dir: &Path) -> Table {
        Owner::open(dir).unwrap().table
    }

    #[test]
    fn committed_changes_are_there_without_a_fold() {
        let dir = tempfile::tempdir().unwrap();
        let mut owner = Owner::open(dir.path()).unwrap();
        owner.set("a", Some(1));
        owner.set("b", Some(2));
        owner.commit();
        owner.set("a", None);
        owner.commit();
        owner.set("c", Some(3));
        assert!(!dir.path().join("t.json").exists());
        let want = BTreeMap::from([("b".to_owned(), BTreeMap::from([(0, 2)]))]);
        assert_eq!(open(dir.path()).values, want, "c was not committed");
    }

    #[test]
    fn a_fold_keeps_what_came_behind_it_and_a_last_one_removes_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("t.journal");
        let mut owner = Owner::open(dir.path()).unwrap();
        for round in 0..5 {
            owner.set("a", Some(round));
            owner.commit();
            let before = owner.snapshot();
            owner.set("b", Some(round));
            owner.commit();
            owner.kept.fold(|| before).unwrap();
            assert_eq!(open(dir.path()), owner.table);
            assert!(journal.exists());
        }
        owner.set("b", None);
        owner.fold();
        assert!(!journal.exists());
        assert_eq!(open(dir.path()), owner.table);
        owner.set("c", None);
        owner.commit();
        assert!(journal.exists());
    }

    #[test]
    fn a_torn_record_ends_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("t.journal");
        let mut owner = Owner::open(dir.path()).unwrap();
        let mut states = vec![(0, Table::default())];
        for round in 0..4 {
            owner.set("a", Some(round));
            owner.commit();
            states.push((
                std::fs::metadata(&journal).unwrap().len(),
                owner.table.clone(),
            ));
        }
        let whole = std::fs::read(&journal).unwrap();
        for len in 0..=whole.len() {
            std::fs::write(&journal, &whole[..len]).unwrap();
            let want = states.iter().rfind(|(end, _)| *end <= len as u64).unwrap();
            assert_eq!(open(dir.path()), want.1, "{len} of {} bytes", whole.len());
        }
        for byte in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[byte] ^= 0x10;
            std::fs::write(&journal, &damaged).unwrap();
            let found = open(dir.path());
            assert!(states.iter().any(|(_, state)| *state == found), "{byte}");
        }
    }

    #[test]
    fn a_damaged_file_falls_back_to_its_copy_and_without_one_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("t.json"), "{\"a").unwrap();
        let error = Owner::open(dir.path()).err().unwrap();
        assert!(error.to_string().contains("t.json"), "{error}");
        std::fs::write(dir.path().join("t.json.bak"), "{}").unwrap();
        assert_eq!(open(dir.path()), Table::default());
        std::fs::write(dir.path().join("t.json"), "").unwrap();
        assert_eq!(
            open(dir.path()),
            Table::default(),
            "an empty file counts as missing"
        );
    }

    #[test]
    fn a_file_that_others_changed_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let mut owner = Owner::open(dir.path()).unwrap();
        owner.set("a", Some(1));
        owner.fold();
        owner.set("a", Some(2));
        owner.commit();
        let mut others = owner.table.clone();
        others.version.timestamp += 1;
        std::fs::write(dir.path().join("t.json"), protocol::json::encode(&others)).unwrap();
        let kept = Kept::new(dir.path(), "t", Arc::new(RealDisk));
        let loaded = kept
            .load::<Table, Change>(|table| Some(&table.version))
            .unwrap();
        assert!(loaded.by_others && loaded.changes.len() == 1);
    }
}
