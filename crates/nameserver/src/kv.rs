//! The key–value configuration: small tables by namespace, kept in a file, read by brokers and clients.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use platform::disk::{Disk, OpenMode};
use protocol::json::{self, Seal};
use serde::{Deserialize, Serialize};

/// Namespace that holds the queues of ordered topics.
pub const ORDER_TOPIC_CONFIG: &str = "ORDER_TOPIC_CONFIG";

/// The largest file that is read back; one that is larger is not ours.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Namespace → key → value.
type Tables = BTreeMap<String, BTreeMap<String, String>>;

/// The key–value configuration. A change is on disk before it is visible.
#[derive(Debug)]
pub struct KvConfig {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    /// Swapped as a whole after its file is written.
    tables: RwLock<Arc<Tables>>,
    /// One change at a time: taken before the file is written, and always before `tables`.
    changing: Mutex<()>,
}

/// The file's content, as Java writes it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    config_table: Tables,
}

impl KvConfig {
    /// Reads the file; without one, starts empty.
    ///
    /// # Errors
    /// The file is there and cannot be read or understood. Starting without it would lose it with the next change.
    pub fn load(path: PathBuf, disk: Arc<dyn Disk>) -> io::Result<KvConfig> {
        let tables = match read(&*disk, &path)? {
            None => Tables::default(),
            Some(bytes) => {
                let (text, seal) = json::unseal(&bytes);
                if seal == Seal::Broken {
                    tracing::warn!(
                        file = %path.display(),
                        "the key–value configuration was changed since it was written, by hand or by a failing disk; it is taken as it stands"
                    );
                }
                json::decode::<File>(&text)
                    .map_err(|error| {
                        let reason = format!("{}: {error}", path.display());
                        io::Error::new(io::ErrorKind::InvalidData, reason)
                    })?
                    .config_table
            }
        };
        Ok(KvConfig {
            path,
            disk,
            tables: RwLock::new(Arc::new(tables)),
            changing: Mutex::new(()),
        })
    }

    /// The value of a key.
    pub fn get(&self, namespace: &str, key: &str) -> Option<String> {
        self.tables().get(namespace)?.get(key).cloned()
    }

    /// All keys of a namespace; nothing when there never was a key in it.
    pub fn namespace(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        self.tables().get(namespace).cloned()
    }

    /// Sets a value. Blocks on the disk.
    ///
    /// # Errors
    /// The file could not be written; the value is as before.
    pub fn put(&self, namespace: &str, key: &str, value: &str) -> io::Result<()> {
        self.change(|tables| {
            tables
                .entry(namespace.to_owned())
                .or_default()
                .insert(key.to_owned(), value.to_owned());
        })
    }

    /// Removes a value; its namespace stays. Blocks on the disk.
    ///
    /// # Errors
    /// The file could not be written; the value is as before.
    pub fn delete(&self, namespace: &str, key: &str) -> io::Result<()> {
        self.change(|tables| {
            if let Some(table) = tables.get_mut(namespace) {
                table.remove(key);
            }
        })
    }

    fn tables(&self) -> Arc<Tables> {
        Arc::clone(&self.tables.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Tables)) -> io::Result<()> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tables = Tables::clone(&self.tables());
        change(&mut tables);
        let file = File {
            config_table: tables,
        };
        replace(
            &*self.disk,
            &self.path,
            &json::seal(&serde_json::to_vec(&file)?),
        )?;
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(file.config_table);
        Ok(())
    }
}

/// A whole file; nothing when it does not exist.
pub(crate) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = file.len()?;
    if length > FILE_BYTES_MAX {
        let reason = format!(
            "{} has {length} bytes, more than {FILE_BYTES_MAX}",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(Some(bytes))
}

/// Replaces a file as a whole: after a crash it has the old content or the new.
pub(crate) fn replace(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    disk.create_dir_all(directory)?;
    let temporary = path.with_extension("tmp");
    let file = disk.open(&temporary, OpenMode::Create)?;
    file.set_len(0)?;
    file.write_all_at(content, 0)?;
    file.sync_all()?;
    drop(file);
    disk.rename(&temporary, path)?;
    disk.sync_dir(directory)
}
