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
/// The next queue has the entry's number, or a higher one: those between stand for nothing.
const SKIPPED: u8 = 3;

/// Bytes of an entry beside the topic: kind, length, number, queue id, checksum.
const NAME_BYTES: usize = 14;
const SNAPSHOT_HEAD_BYTES: usize = 32;
const SNAPSHOT_ENTRY_BYTES: usize = 20;

/// Bytes about deleted topics that a file may hold however short it is: 1 MiB.
const DEAD_BYTES_MAX: u64 = 1 << 20;
/// What is gathered for one write.
const WRITE_BYTES: usize = 256 << 10;

/// The file of names, which is appended to, and replaced when most of it is about deleted topics.
#[derive(Debug)]
pub(crate) struct Names {
    file: Arc<dyn File>,
    len: u64,
    next: u32,
    /// Bytes of the file that say nothing of any queue that is there.
    dead: u64,
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
            dead: 0,
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
                if kind == SKIPPED && number > next {
                    next = number;
                    continue;
                }
                if kind == SKIPPED || number != next {
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
        let named: Vec<Named> = named.into_iter().flatten().collect();
        let live: u64 = named.iter().map(|named| entry_bytes(&named.topic)).sum();
        let names = Names {
            file,
            len: at as u64,
            next,
            dead: (at - NAMES_MAGIC.len()) as u64 - live,
            pending: Vec::new(),
            unsynced: true,
        };
        Ok((names, named))
    }

    /// Whether more of the file is about deleted topics than about others.
    pub(crate) fn is_mostly_dead(&self) -> bool {
        self.dead > DEAD_BYTES_MAX && self.dead > self.len / 2
    }

    /// Puts a file in the place of this one that names the queues that are `live`, in the order of their numbers, and no others. Numbers stay, and none is given
    /// again: runs may hold entries of queues that are gone. After an error the file is as it was. On return whoever opens finds the other; it survives loss of power when the
    /// directory is synced, and before that one of the two is there whole.
    pub(crate) fn compact<'a>(
        &mut self,
        disk: &dyn Disk,
        dir: &Path,
        live: impl Iterator<Item = (u32, &'a str, i32)>,
    ) -> io::Result<()> {
        let unfinished = dir.join(UNFINISHED_NAMES);
        if disk.exists(&unfinished) {
            disk.remove(&unfinished)?;
        }
        let mut compacted = Names::create(disk, dir)?;
        for (number, topic, id) in live {
            compacted.skip_to(number);
            compacted.add(topic, id);
            if compacted.pending.len() >= WRITE_BYTES {
                compacted.write()?;
            }
        }
        compacted.skip_to(self.next);
        compacted.sync()?;
        disk.rename(&unfinished, &dir.join(NAMES))?;
        *self = compacted;
        Ok(())
    }

    /// Numbers below this one are given to nobody.
    fn skip_to(&mut self, number: u32) {
        if number > self.next {
            self.note(SKIPPED, "", number, 0);
            self.next = number;
        }
    }

    /// Gives a queue its number.
    pub(crate) fn add(&mut self, topic: &str, id: i32) -> u32 {
        let number = self.next;
        self.next += 1;
        self.note(QUEUE, topic, number, id);
        number
    }

    /// The numbers of a topic's queues, so many, stand for nothing from here on.
    pub(crate) fn delete(&mut self, topic: &str, count: u64) {
        self.note(DELETED, topic, 0, 0);
        self.dead += (count + 1) * entry_bytes(topic);
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

fn entry_bytes(topic: &str) -> u64 {
    (NAME_BYTES + topic.len()) as u64
}

fn parse(bytes: &[u8]) -> Option<(u8, &str, u32, i32)> {
    let (&kind, &len) = (bytes.first()?, bytes.get(1)?);
    let end = 2 + usize::from(len);
    let number = u32::from_be_bytes(bytes.get(end..end + 4)?.try_into().ok()?);
    let id = i32::from_be_bytes(bytes.get(end + 4..end + 8)?.try_into().ok()?);
    let crc = u32::from_be_bytes(bytes.get(end + 8..end + 12)?.try_into().ok()?);
    if crc != crc32fast::hash(&bytes[..end + 8]) || !(QUEUE..=SKIPPED).contains(&kind) {
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
    use platform::disk::{SimulatedDisk, create_dir_all_synced};

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
        names.delete("a", 1);
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

    /// Three queues of many, the others deleted: more than half of the file is dead.
    fn mostly_dead(disk: &SimulatedDisk, dir: &Path) -> (Names, Vec<Named>) {
        create_dir_all_synced(disk, dir).unwrap();
        let mut names = Names::create(disk, dir).unwrap();
        names.commit(disk, dir).unwrap();
        let long = "x".repeat(200);
        let mut live = Vec::new();
        for round in 0..6_000 {
            let topic = format!("{long}{round}");
            let number = names.add(&topic, 3);
            if round % 2_000 == 1_000 {
                live.push(named(number, &topic, 3));
            } else {
                names.delete(&topic, 1);
            }
        }
        names.sync().unwrap();
        (names, live)
    }

    fn of(live: &[Named]) -> impl Iterator<Item = (u32, &str, i32)> {
        live.iter()
            .map(|named| (named.number, &*named.topic, named.id))
    }

    #[test]
    fn a_compacted_file_is_short_and_gives_no_number_twice() {
        let disk = SimulatedDisk::new();
        let dir = Path::new("/shared");
        let (mut names, live) = mostly_dead(&disk, dir);
        assert!(names.is_mostly_dead());
        let before = names.len;
        names.compact(&disk, dir, of(&live)).unwrap();
        disk.sync_dir(dir).unwrap();
        assert!(!names.is_mostly_dead());
        assert!(names.len * 100 < before, "{} bytes of {before}", names.len);
        // What comes behind it is kept with it.
        assert_eq!(names.add("later", 1), 6_001);
        names.sync().unwrap();
        let (mut names, mut found) = Names::open(&disk.crash(1), dir).unwrap();
        assert_eq!(found.pop(), Some(named(6_001, "later", 1)));
        assert_eq!(found, live);
        assert!(!names.is_mostly_dead());
        assert_eq!(names.add("last", 0), 6_002);
    }

    #[test]
    fn power_that_fails_while_names_are_compacted_loses_no_name() {
        let all = {
            let disk = SimulatedDisk::new();
            let dir = Path::new("/shared");
            let (mut names, live) = mostly_dead(&disk, dir);
            let before = disk.changes();
            names.compact(&disk, dir, of(&live)).unwrap();
            disk.sync_dir(dir).unwrap();
            disk.changes() - before
        };
        for after in 0..=all {
            for seed in 0..4 {
                let disk = SimulatedDisk::new();
                let dir = Path::new("/shared");
                let (mut names, live) = mostly_dead(&disk, dir);
                disk.set_faults(|faults| faults.power_off_after = Some(after));
                let compacted = names.compact(&disk, dir, of(&live));
                let synced = compacted.and_then(|()| disk.sync_dir(dir));
                assert_eq!(synced.is_ok(), after == all, "after {after}");
                let (mut names, found) = Names::open(&disk.crash(seed), dir).unwrap();
                assert_eq!(found, live, "after {after}, seed {seed}");
                assert_eq!(names.add("next", 0), 6_001);
            }
        }
    }

    #[test]
    fn a_compaction_that_fails_leaves_the_file_in_use() {
        let disk = SimulatedDisk::new();
        let dir = Path::new("/shared");
        let (mut names, live) = mostly_dead(&disk, dir);
        disk.set_faults(|faults| faults.sync_fails = true);
        assert!(names.compact(&disk, dir, of(&live)).is_err());
        disk.set_faults(|faults| faults.sync_fails = false);
        assert_eq!(names.add("later", 0), 6_001);
        names.sync().unwrap();
        // Again, behind the file that failed.
        let queues = live
            .iter()
            .map(|named| (named.number, &*named.topic, named.id));
        names
            .compact(&disk, dir, queues.chain([(6_001, "later", 0)]))
            .unwrap();
        disk.sync_dir(dir).unwrap();
        let (_, found) = Names::open(&disk.crash(2), dir).unwrap();
        assert_eq!(found.len(), 4);
    }

    #[test]
    fn a_number_that_does_not_fit_ends_the_file() {
        let disk = SimulatedDisk::new();
        let dir = Path::new("/shared");
        disk.create_dir_all(dir).unwrap();
        let mut names = Names::create(&disk, dir).unwrap();
        names.add("a", 0);
        names.add("b", 0);
        names.note(SKIPPED, "", 2, 0);
        names.add("c", 0);
        names.commit(&disk, dir).unwrap();
        let (mut names, found) = Names::open(&disk, dir).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(names.add("d", 0), 3);
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
