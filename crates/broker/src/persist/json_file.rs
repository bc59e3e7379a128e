//! One file of `config/` as Java writes it (5.3: `ConfigManager`): read whole, replaced whole.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use platform::disk::{Disk, File, OpenMode, create_dir_all_synced};
use protocol::json::{self, Seal, Sealer};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::LoadError;
use super::pretty::Pretty;

/// A file that is larger was not written by a broker: a million topics take a third of it.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 30;
/// What is gathered for one write.
const WRITE_BYTES: usize = 256 << 10;

/// A JSON file with a `.bak` beside it.
#[derive(Debug)]
pub(crate) struct JsonFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

/// Writes one file from its start to its end.
struct Appender<'a> {
    file: &'a dyn File,
    offset: u64,
}

impl Write for Appender<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all_at(bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl JsonFile {
    /// The file at `path`. Nothing is touched.
    pub(crate) fn new(path: PathBuf, disk: Arc<dyn Disk>) -> JsonFile {
        JsonFile { disk, path }
    }

    /// What the file holds, or its `.bak` when the file is missing, empty or broken. None when neither exists.
    pub(crate) fn load<T: DeserializeOwned>(&self) -> Result<Option<T>, LoadError> {
        let mut broken = None;
        for path in [self.path.clone(), beside(&self.path, "bak")] {
            let Some(text) = read(&*self.disk, &path)? else {
                continue;
            };
            let (text, seal) = json::unseal(&text);
            if seal == Seal::Broken {
                tracing::warn!(
                    file = %path.display(),
                    "a configuration table was changed since it was written, by hand or by a failing disk; it is taken as it stands. \
                     The one before it ends in .bak"
                );
            }
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

    /// Puts `table` in the place of what the file holds, which becomes the `.bak`. On return it survives loss of power;
    /// whatever moment the process or the machine dies at, the file or its `.bak` is complete.
    pub(crate) fn replace(&self, table: &impl Serialize) -> io::Result<()> {
        let new = beside(&self.path, "tmp");
        if let Some(dir) = self.path.parent() {
            create_dir_all_synced(&*self.disk, dir)?;
        }
        let file = create_empty(&*self.disk, &new)?;
        let appender = Appender {
            file: &*file,
            offset: 0,
        };
        let mut text = Pretty::new(Sealer::new(BufWriter::with_capacity(WRITE_BYTES, appender)));
        json::write_as(table, json::Dialect::Fastjson, &mut text)?;
        text.into_inner()
            .finish()?
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        if self.disk.exists(&self.path) {
            self.disk.rename(&self.path, &beside(&self.path, "bak"))?;
        }
        self.disk.rename(&new, &self.path)?;
        match self.path.parent() {
            Some(dir) => self.disk.sync_dir(dir),
            None => Ok(()),
        }
    }
}

/// Another file in the place of one that may have this name: where a sync of that one failed, it cannot be relied on again.
pub(super) fn create_empty(disk: &dyn Disk, path: &Path) -> io::Result<Arc<dyn File>> {
    if disk.exists(path) {
        disk.remove(path)?;
    }
    disk.open(path, OpenMode::Create)
}

/// The path with another suffix behind it.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.to_owned().into_os_string();
    path.push(".");
    path.push(suffix);
    path.into()
}

/// The bytes of a file; none when it is missing or empty.
pub(super) fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, LoadError> {
    if !disk.exists(path) {
        return Ok(None);
    }
    let read = || {
        let file = disk.open(path, OpenMode::Read)?;
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicU64, Ordering};

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
        JsonFile::new(dir.join("t.json"), Arc::new(RealDisk))
    }

    /// A flipped bit could turn a queue count, a permission or an offset into another good one, without a word.
    #[test]
    fn no_flipped_bit_changes_a_table_without_a_word() {
        let dir = tempfile::tempdir().unwrap();
        let written = file(dir.path());
        let path = dir.path().join("t.json");
        for value in [4, 5] {
            written.replace(&table(value)).unwrap();
        }
        let good = std::fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bytes).unwrap();
            let (loaded, complaints) = complaints_of(|| file(dir.path()).load::<Table>());
            let is_as_written = loaded.is_ok_and(|table_read| table_read == Some(table(5)));
            assert!(
                is_as_written || complaints > 0,
                "bit {bit}: {}",
                String::from_utf8_lossy(&bytes)
            );
        }
    }

    #[test]
    fn an_edited_file_is_taken_as_it_stands_with_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let written = file(dir.path());
        written.replace(&table(5)).unwrap();
        let path = dir.path().join("t.json");
        let text = std::fs::read_to_string(&path).unwrap();
        let (loaded, complaints) = complaints_of(|| file(dir.path()).load::<Table>());
        assert_eq!((loaded.unwrap(), complaints), (Some(table(5)), 0));
        std::fs::write(&path, text.replace("0:5", "0:77")).unwrap();
        let (loaded, complaints) = complaints_of(|| file(dir.path()).load::<Table>());
        assert_eq!((loaded.unwrap(), complaints), (Some(table(77)), 1));
        // As Java leaves it.
        std::fs::write(&path, "{\n\t\"a@b\":{0:5,1:2},\"e\":{}\n}").unwrap();
        let (loaded, complaints) = complaints_of(|| file(dir.path()).load::<Table>());
        assert_eq!((loaded.unwrap(), complaints), (Some(table(5)), 0));
    }

    /// What `act` gives, and how many warnings and errors it left in the log.
    fn complaints_of<R>(act: impl FnOnce() -> R) -> (R, u64) {
        let count = Arc::new(AtomicU64::new(0));
        let result = tracing::subscriber::with_default(Listener(count.clone()), act);
        (result, count.load(Ordering::Relaxed))
    }

    struct Listener(Arc<AtomicU64>);

    impl tracing::Subscriber for Listener {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            *metadata.level() <= tracing::Level::WARN
        }

        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }

        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

        fn event(&self, _: &tracing::Event<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn enter(&self, _: &tracing::span::Id) {}

        fn exit(&self, _: &tracing::span::Id) {}
    }
}
