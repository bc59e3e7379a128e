//! What is kept in `config/*.json`: how a file is read, how it is replaced, and the task that writes what changed.
//!
//! The files are Java's (5.3: `ConfigManager`), text and names, so that a Java broker opens them. A file is replaced whole: the new
//! text is written beside it and synced, the old file becomes `.bak`, the new one takes its name. Whatever moment the
//! process or the machine dies at, the file or its `.bak` is complete.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use platform::clock::{Clock, RealClock};
use platform::disk::{Disk, OpenMode};
use protocol::body::DataVersion;
use protocol::json::{self, BodyError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use crate::Broker;

/// A file that is larger was not written by a broker: a million topics take a third of it.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// How often silent clients are looked for. Java 5.3: `ClientHousekeepingService`.
const CLIENT_SCAN_INTERVAL: Duration = Duration::from_secs(10);
/// Between two looks at the counters of messages. Java 5.3: `StoreStatsService`.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// How long a failed write waits for its next attempt.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// A file of `config/` that cannot be read. The operator repairs or removes it; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The system does not give it.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Neither the file nor its `.bak` holds what it should.
    #[error("cannot understand {} and there is no usable copy beside it (.bak): {source}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: BodyError,
    },
}

/// One file of `config/`, and whether the table in memory has changed since it was written.
#[derive(Debug)]
pub(crate) struct JsonFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    changes: AtomicU64,
    changed: Notify,
    /// The number of changes that the file holds. Held while the file is written: writers take turns.
    saved: Mutex<u64>,
}

impl JsonFile {
    /// The file `name` in `dir`. Nothing is touched.
    pub(crate) fn new(dir: &Path, name: &str, disk: Arc<dyn Disk>) -> JsonFile {
        JsonFile {
            disk,
            path: dir.join(name),
            changes: AtomicU64::new(0),
            changed: Notify::new(),
            saved: Mutex::new(0),
        }
    }

    /// What the file holds, or its `.bak` when the file is missing, empty or broken. None when neither exists.
    pub(crate) fn load<T: DeserializeOwned>(&self) -> Result<Option<T>, LoadError> {
        let mut broken = None;
        for path in [self.path.clone(), self.beside("bak")] {
            let Some(text) = self.read(&path)? else {
                continue;
            };
            match json::decode(&text) {
                Ok(value) => return Ok(Some(value)),
                Err(source) => {
                    tracing::warn!(file = %path.display(), error = %source, "a configuration table is broken; its copy is tried");
                    broken.get_or_insert(LoadError::Content { path, source });
                }
            }
        }
        broken.map_or(Ok(None), Err)
    }

    /// The bytes of a file; none when it is missing or empty.
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, LoadError> {
        if !self.disk.exists(path) {
            return Ok(None);
        }
        let read = || {
            let file = self.disk.open(path, OpenMode::Read)?;
            let len = file.len()?;
            if len > FILE_BYTES_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    format!("{len} bytes are too many"),
                ));
            }
            let mut text = vec![0; len as usize];
            file.read_exact_at(&mut text, 0)?;
            Ok(text)
        };
        let text = read().map_err(|source| LoadError::Read {
            path: path.to_owned(),
            source,
        })?;
        Ok((!text.is_empty()).then_some(text))
    }

    /// The table in memory changed: [`run`] writes the file soon.
    pub(crate) fn touch(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.changed.notify_one();
    }

    /// As [`touch`](Self::touch) for a table that is written at intervals.
    pub(crate) fn touch_quietly(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Returns when the table has changed.
    async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Writes the table that `take` gives, unless the file holds it already. On return it survives loss of power.
    pub(crate) fn save<T: Serialize>(&self, take: impl FnOnce() -> T) -> io::Result<()> {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        // Read before the table is: a change in between is written again rather than forgotten.
        let changes = self.changes.load(Ordering::Acquire);
        if *saved == changes {
            return Ok(());
        }
        let text = pretty(&json::encode_as(&take(), json::Dialect::Fastjson));
        self.replace(&text)?;
        *saved = changes;
        Ok(())
    }

    fn replace(&self, text: &[u8]) -> io::Result<()> {
        let new = self.beside("tmp");
        if let Some(dir) = self.path.parent() {
            self.disk.create_dir_all(dir)?;
        }
        let file = self.disk.open(&new, OpenMode::Create)?;
        file.set_len(0)?;
        file.write_all_at(text, 0)?;
        file.sync_all()?;
        if self.disk.exists(&self.path) {
            self.disk.rename(&self.path, &self.beside("bak"))?;
        }
        self.disk.rename(&new, &self.path)?;
        match self.path.parent() {
            Some(dir) => self.disk.sync_dir(dir),
            None => Ok(()),
        }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".");
        path.push(suffix);
        path.into()
    }
}

/// A table changed: its version moves on. Java 5.3: `DataVersion.nextVersion`.
pub(crate) fn next_version(version: &mut DataVersion) {
    version.counter += 1;
    version.timestamp = RealClock::new().now_ms();
}

/// The version of a table that is new.
pub(crate) fn first_version() -> DataVersion {
    DataVersion {
        timestamp: RealClock::new().now_ms(),
        ..DataVersion::default()
    }
}

/// The same JSON with a line for each entry, indented with tabs, as Java's files are.
fn pretty(compact: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(compact.len() * 3 / 2);
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let new_line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.resize(out.len() + depth, b'\t');
    };
    for (at, &byte) in compact.iter().enumerate() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            out.push(byte);
            continue;
        }
        match byte {
            b'{' | b'[' => {
                out.push(byte);
                depth += 1;
                if !matches!(compact.get(at + 1), Some(b'}' | b']')) {
                    new_line(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if !matches!(
                    at.checked_sub(1).and_then(|before| compact.get(before)),
                    Some(b'{' | b'[')
                ) {
                    new_line(&mut out, depth);
                }
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                new_line(&mut out, depth);
            }
            _ => {
                in_string = byte == b'"';
                out.push(byte);
            }
        }
    }
    out
}

/// The task that writes changed tables: topics and groups at once, offsets every `flushConsumerOffsetInterval`. It also
/// forgets clients that went silent, and tells consumers of each other.
pub(crate) async fn run(broker: Arc<Broker>) {
    tokio::join!(
        crate::notify::run(broker.clone()),
        sample(&broker),
        write_changes(&broker)
    );
}

/// Takes note of how many messages came and went, for the rates that tools print.
async fn sample(broker: &Arc<Broker>) {
    let mut interval = tokio::time::interval(SAMPLE_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let counters = &broker.counters;
        broker.rates.sample(
            broker.now_ms(),
            counters.messages_in(),
            counters.messages_out(),
        );
    }
}

async fn write_changes(broker: &Arc<Broker>) {
    let mut scan = tokio::time::interval(CLIENT_SCAN_INTERVAL);
    scan.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    let mut offsets_due = tokio::time::Instant::now() + offsets_interval(broker);
    loop {
        tokio::select! {
            () = broker.topics.file().changed() => {}
            () = broker.groups.file().changed() => {}
            () = tokio::time::sleep_until(offsets_due) => {
                offsets_due = tokio::time::Instant::now() + offsets_interval(broker);
            }
            _ = scan.tick() => {
                crate::clients::scan(broker);
                continue;
            }
        }
        let saving = broker.clone();
        let saved = tokio::task::spawn_blocking(move || save_all(&saving)).await;
        match saved {
            Ok(Ok(())) if failing => {
                failing = false;
                tracing::info!("configuration tables can be written again");
            }
            Ok(Err(error)) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(%error, "cannot write a configuration table; topics, groups and offsets are kept in memory only. Trying again every second");
                }
                offsets_due = tokio::time::Instant::now() + RETRY_INTERVAL;
            }
            Ok(Ok(())) | Err(_) => {}
        }
    }
}

fn offsets_interval(broker: &Broker) -> Duration {
    Duration::from_millis(broker.keys().flush_consumer_offset_interval)
}

/// Writes every table that changed. The first error is given back after all of them were tried. Blocks.
pub(crate) fn save_all(broker: &Broker) -> io::Result<()> {
    let saved = [
        broker.topics.save(),
        broker.groups.save(),
        broker.offsets.save(),
    ];
    saved.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use platform::disk::RealDisk;

    use super::*;

    type Table = BTreeMap<String, BTreeMap<i32, i64>>;

    fn table(value: i64) -> Table {
        BTreeMap::from([
            ("a@b".to_owned(), BTreeMap::from([(0, value), (1, 2)])),
            ("e".to_owned(), BTreeMap::new()),
        ])
    }

    fn file(dir: &Path) -> JsonFile {
        JsonFile::new(dir, "t.json", Arc::new(RealDisk))
    }

    #[test]
    fn text_is_that_of_java() {
        let text = pretty(&json::encode_as(&table(5), json::Dialect::Fastjson));
        let want = "{\n\t\"a@b\":{\n\t\t0:5,\n\t\t1:2\n\t},\n\t\"e\":{}\n}";
        assert_eq!(String::from_utf8(text).unwrap(), want);
        assert_eq!(
            pretty(br#"{"a":"{[,\"","b":[]}"#),
            b"{\n\t\"a\":\"{[,\\\"\",\n\t\"b\":[]\n}"
        );
    }

    #[test]
    fn a_saved_table_is_loaded_and_the_one_before_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config");
        let written = file(&config);
        assert_eq!(written.load::<Table>().unwrap(), None);
        for value in [1, 2] {
            written.touch();
            written.save(|| table(value)).unwrap();
        }
        written
            .save(|| -> Table { panic!("nothing changed, nothing is written") })
            .unwrap();
        assert_eq!(file(&config).load::<Table>().unwrap(), Some(table(2)));
        std::fs::remove_file(config.join("t.json")).unwrap();
        assert_eq!(
            file(&config).load::<Table>().unwrap(),
            Some(table(1)),
            "the copy is used"
        );
    }

    #[test]
    fn a_broken_file_falls_back_to_its_copy_and_without_one_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("t.json"), "{\"a").unwrap();
        let error = file(dir.path()).load::<Table>().unwrap_err();
        assert!(error.to_string().contains("t.json"), "{error}");
        std::fs::write(dir.path().join("t.json.bak"), "{}").unwrap();
        assert_eq!(
            file(dir.path()).load::<Table>().unwrap(),
            Some(Table::new())
        );
        std::fs::write(dir.path().join("t.json"), "").unwrap();
        assert_eq!(
            file(dir.path()).load::<Table>().unwrap(),
            Some(Table::new()),
            "an empty file counts as missing"
        );
    }
}
