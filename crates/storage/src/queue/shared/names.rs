//! Which number stands for which queue in the shared store, and how far each queue had come: the files `names` and `snapshot`.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use platform::disk::{Disk, File, OpenMode};

use crate::queue::files::read_fully;

pub(crate) const NAMES: &str = "names";
const UNFINISHED_NAMES: &str = "names.tmp";
const SNAPSHOT: &str = "snapshot";
const UNFINISHED_SNAPSHOT: &str = "snapshot.tmp";
const NAMES_MAGIC: &[u8; 8] = b"APOGEEN\x01";
const SNAPSHOT_MAGIC: &[u8; 8] = b"APOGEES\x01";

const QUEUE: u8 = 1;
const DELETED: u8 = 2;

/// Bytes of an entry beside the topic: kind, length, number, queue id, checksum.
const NAME_BYTES: usize = 14;
const SNAPSHOT_HEAD_BYTES: usize = 32;
const SNAPSHOT_ENTRY_BYTES: usize = 20;

/// The file of names, which is only appended to.
#[derive(Debug)]
pub(crate) struct Names {
    file: Arc<dyn File>,
    len: u64,
    next: u32,
    /// What is not in the file yet.
    pending: Vec<u8>,
    unsynced: bool,
}

/// A queue that the file names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) number: u32,
    pub(crate) topic: Arc<str>,
    pub(crate) id: i32,
}

impl Names {
    /// Begins a file that is not in force before [`Names::commit`].
    pub(crate) fn create(disk: &dyn Disk, dir: &Path) -> io::Result<Names> {
        let file = disk.open(&dir.join(UNFINISHED_NAMES), OpenMode::Create)?;
        file.set_len(0)?;
        file.write_all_at(NAMES_MAGIC, 0)?;
        Ok(Names {
            file,
            len: NAMES_MAGIC.len() as u64,
            next: 1,
            pending: Vec::new(),
            unsynced: true,
        })
    }

    /// Makes the file the one in force. On return that survives loss of power, as everything in the directory.
    pub(crate) fn commit(&mut self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        self.sync()?;
        disk.rename(&dir.join(UNFINISHED_NAMES), &dir.join(NAMES))?;
        disk.sync_dir(dir)
    }

    /// Reads the file; what lies behind the first entry that is not whole is cut off.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path) -> io::Result<(Names, Vec<Named>)> {
        let file = disk.open(&dir.join(NAMES), OpenMode::ReadWrite)?;
        let mut bytes = vec![0; file.len()? as usize];
        let read = read_fully(&*file, &mut bytes, 0, true)?;
        bytes.truncate(read);
        let mut named: Vec<Option<Named>> = Vec::new();
        let mut of_topic: HashMap<Arc<str>, Vec<usize>> = HashMap::new();
        let mut next = 1;
        let mut at = NAMES_MAGIC.len();
        if bytes.starts_with(NAMES_MAGIC) {
            while let Some((kind, topic, number, id)) = parse(&bytes[at..]) {
                at += NAME_BYTES + topic.len();
                if kind == DELETED {
                    for index in of_topic.remove(topic).unwrap_or_default() {
                        named[index] = None;
                    }
                    continue;
                }
                if number != next {
                    at -= NAME_BYTES + topic.len();
                    break;
                }
                next += 1;
                let topic = match of_topic.get_key_value(topic) {
                    Some((known, _)) => Arc::clone(known),
                    None => Arc::from(topic),
                };
                of_topic
                    .entry(Arc::clone(&topic))
                    .or_default()
                    .push(named.len());
                named.push(Some(Named { number, topic, id }));
            }
        } else {
            file.write_all_at(NAMES_MAGIC, 0)?;
        }
        file.set_len(at as u64)?;
        let names = Names {
            file,
            len: at as u64,
            next,
            pending: Vec::new(),
            unsynced: true,
        };
        Ok((names, named.into_iter().flatten().collect()))
    }

    /// Gives a queue its number.
    pub(crate) fn add(&mut self, topic: &str, id: i32) -> u32 {
        let number = self.next;
        self.next += 1;
        self.note(QUEUE, topic, number, id);
        number
    }

    /// The numbers of a topic's queues stand for nothing from here on.
    pub(crate) fn delete(&mut self, topic: &str) {
        self.note(DELETED, topic, 0, 0);
    }

    fn note(&mut self, kind: u8, topic: &str, number: u32, id: i32) {
        debug_assert!(topic.len() <= 255, "no longer topic is stored");
        let start = self.pending.len();
        self.pending.push(kind);
        self.pending.push(topic.len() as u8);
        self.pending.extend_from_slice(topic.as_bytes());
        self.pending.extend_from_slice(&number.to_be_bytes());
        self.pending.extend_from_slice(&id.to_be_bytes());
        let crc = crc32fast::hash(&self.pending[start..]);
        self.pending.extend_from_slice(&crc.to_be_bytes());
    }

    /// Writes what was added. After an error it is still to be written.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            self.file.write_all_at(&self.pending, self.len)?;
            self.len += self.pending.len() as u64;
            self.pending = Vec::new();
            self.unsynced = true;
        }
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.write()?;
        if self.unsynced {
            self.file.sync_data()?;
            self.unsynced = false;
        }
        Ok(())
    }
}

fn parse(bytes: &[u8]) -> Option<(u8, &str, u32, i32)> {
    let (&kind, &len) = (bytes.first()?, bytes.get(1)?);
    let end = 2 + usize::from(len);
    let number = u32::from_be_bytes(bytes.get(end..end + 4)?.try_into().ok()?);
    let id = i32::from_be_bytes(bytes.get(end + 4..end + 8)?.try_into().ok()?);
    let crc = u32::from_be_bytes(bytes.get(end + 8..end + 12)?.try_into().ok()?);
    if crc != crc32fast::hash(&bytes[..end + 8]) || !(QUEUE..=DELETED).contains(&kind) {
        return None;
    }
    let topic = std::str::from_utf8(&bytes[2..end]).ok()?;
    Some((kind, topic, number, id))
}

/// How far the queues had come when the runs covered the log up to `covered`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) covered: u64,
    /// First position of the log at that time: the first offsets are right for it.
    pub(crate) log_min: u64,
    /// Number, first offset, offset behind the last entry.
    pub(crate) queues: Vec<(u32, u64, u64)>,
}

impl Snapshot {
    /// Replaces the snapshot. On return the one or the other is there whole.
    pub(crate) fn write(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let mut bytes =
            Vec::with_capacity(SNAPSHOT_HEAD_BYTES + self.queues.len() * SNAPSHOT_ENTRY_BYTES + 4);
        bytes.extend_from_slice(SNAPSHOT_MAGIC);
        bytes.extend_from_slice(&self.covered.to_be_bytes());
        bytes.extend_from_slice(&self.log_min.to_be_bytes());
        bytes.extend_from_slice(&(self.queues.len() as u64).to_be_bytes());
        for (number, min, max) in &self.queues {
            bytes.extend_from_slice(&number.to_be_bytes());
            bytes.extend_from_slice(&min.to_be_bytes());
            bytes.extend_from_slice(&max.to_be_bytes());
        }
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        let path = dir.join(UNFINISHED_SNAPSHOT);
        let file = disk.open(&path, OpenMode::Create)?;
        file.set_len(0)?;
        file.write_all_at(&bytes, 0)?;
        file.sync_data()?;
        disk.rename(&path, &dir.join(SNAPSHOT))?;
        disk.sync_dir(dir)
    }

    /// None when there is none, or not a whole one.
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Option<Snapshot>> {
        let file = match disk.open(&dir.join(SNAPSHOT), OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut bytes = vec![0; file.len()? as usize];
        let read = read_fully(&*file, &mut bytes, 0, true)?;
        bytes.truncate(read);
        Ok(Snapshot::decode(&bytes))
    }

    fn decode(bytes: &[u8]) -> Option<Snapshot> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(body).to_be_bytes() != *crc || !body.starts_with(SNAPSHOT_MAGIC) {
            return None;
        }
        let field = |at: usize| Some(u64::from_be_bytes(body.get(at..at + 8)?.try_into().ok()?));
        let (covered, log_min) = (field(8)?, field(16)?);
        let entries = body.get(SNAPSHOT_HEAD_BYTES..)?;
        if field(24)? != (entries.len() / SNAPSHOT_ENTRY_BYTES) as u64 {
            return None;
        }
        let queues = entries
            .chunks_exact(SNAPSHOT_ENTRY_BYTES)
            .map(|entry| {
                let number = u32::from_be_bytes(entry[..4].try_into().expect("four bytes"));
                let min = u64::from_be_bytes(entry[4..12].try_into().expect("eight bytes"));
                let max = u64::from_be_bytes(entry[12..].try_into().expect("eight bytes"));
                (number, min, max)
            })
            .collect();
        Some(Snapshot {
            covered,
            log_min,
            queues,
        })
    }
}

#[cfg(test)]
mod tests {
    use platform::disk::SimulatedDisk;

    use super::*;

    fn named(number: u32, topic: &str, id: i32) -> Named {
        Named {
            number,
            topic: Arc::from(topic),
            id,
        }
    }

    #[test]
    fn names_come_back_without_deleted_topics_and_without_a_torn_end() {
        let disk = SimulatedDisk::new();
        let dir = Path::new("/shared");
        disk.create_dir_all(dir).unwrap();
        let mut names = Names::create(&disk, dir).unwrap();
        assert_eq!((names.add("a", 0), names.add("b", 7)), (1, 2));
        names.delete("a");
        assert_eq!(names.add("a", 1), 3);
        names.commit(&disk, dir).unwrap();
        let whole = disk.open(&dir.join(NAMES), OpenMode::Read).unwrap().len();
        assert_eq!(names.add("c", 1), 4);
        names.write().unwrap();
        let file = disk.open(&dir.join(NAMES), OpenMode::ReadWrite).unwrap();
        file.set_len(file.len().unwrap() - 1).unwrap();
        let (mut names, found) = Names::open(&disk, dir).unwrap();
        assert_eq!(found, [named(2, "b", 7), named(3, "a", 1)]);
        assert_eq!(names.add("d", 0), 4);
        assert_eq!(names.len, whole.unwrap());
    }

    #[test]
    fn a_snapshot_comes_back_whole_or_not() {
        let disk = SimulatedDisk::new();
        let dir = Path::new("/shared");
        disk.create_dir_all(dir).unwrap();
        assert_eq!(Snapshot::read(&disk, dir).unwrap(), None);
        let snapshot = Snapshot {
            covered: 9,
            log_min: 4,
            queues: vec![(1, 2, 3), (7, 0, u64::MAX)],
        };
        snapshot.write(&disk, dir).unwrap();
        assert_eq!(Snapshot::read(&disk, dir).unwrap().unwrap(), snapshot);
        let file = disk.open(&dir.join(SNAPSHOT), OpenMode::ReadWrite).unwrap();
        file.write_all_at(&[9], 40).unwrap();
        assert_eq!(Snapshot::read(&disk, dir).unwrap(), None);
    }
}
