//! How far groups have come in queues, kept in `config/consumerOffset.json`. Java 5.3: `ConsumerOffsetManager`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use platform::disk::Disk;
use protocol::body::{ConsumerOffsetSerializeWrapper, DataVersion};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use crate::persist::{self, Kept, LoadError, Snapshot};

/// The name of the files.
const NAME: &str = "consumerOffset";
/// Between topic and group in the file's keys.
const SEPARATOR: char = '@';
/// Java moves the version on after so many commits (`consumerOffsetUpdateVersionStep`).
const COMMITS_PER_VERSION: u64 = 500;

type Queues = BTreeMap<i32, i64>;
type ByTopic<T> = HashMap<Arc<str>, T>;
type ByGroup<T> = HashMap<Arc<str>, ByTopic<T>>;
/// Shared with whoever writes the file.
type Shared = Arc<Mutex<Queues>>;

/// The offsets of all groups.
///
/// A commit may go back: an operator's reset, or a consumer that was reset by its user, does. Java accepts it as well.
#[derive(Debug)]
pub(crate) struct Offsets {
    table: RwLock<ByGroup<Shared>>,
    version: Mutex<Version>,
    resets: Mutex<ByGroup<Queues>>,
    /// Number of queues in `resets`: nearly always none, and then a pull takes no lock.
    resets_len: AtomicUsize,
    kept: Kept,
}

#[derive(Debug)]
struct Version {
    version: DataVersion,
    commits: u64,
}

/// What the journal tells. Offsets of a topic that is deleted must not be found by one of the same name; those of consumers
/// wait for the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Change {
    /// A topic was deleted.
    DeleteTopic(String),
    /// A group was deleted.
    DeleteGroup(String),
}

/// The table as `consumerOffset.json` holds it. Each entry is locked while it is written, so that commits go on meanwhile.
struct File {
    version: DataVersion,
    /// Topic, group, offsets.
    entries: Vec<(Arc<str>, Arc<str>, Shared)>,
}

impl Serialize for File {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut file = serializer.serialize_map(Some(2))?;
        file.serialize_entry("dataVersion", &self.version)?;
        file.serialize_entry("offsetTable", &Entries(&self.entries))?;
        file.end()
    }
}

struct Entries<'a>(&'a [(Arc<str>, Arc<str>, Shared)]);

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(topic, group, queues)| {
            (format!("{topic}{SEPARATOR}{group}"), locked(queues).clone())
        }))
    }
}

impl Offsets {
    /// The offsets that `consumerOffset.json` in `dir` holds, without what its journal says was deleted; none when there is no
    /// such file. Reads files, and folds a journal that it finds.
    pub(crate) fn load(dir: &Path, disk: Arc<dyn Disk>) -> Result<Offsets, LoadError> {
        let kept = Kept::new(dir, NAME, disk);
        let found =
            kept.load::<ConsumerOffsetSerializeWrapper, Change>(|file| file.data_version.as_ref())?;
        let loaded = found.table.unwrap_or_default();
        let mut version = loaded.data_version.unwrap_or_else(persist::first_version);
        let mut table = ByGroup::<Shared>::new();
        for (key, queues) in loaded.offset_table {
            match key.split_once(SEPARATOR) {
                Some((topic, group)) if !group.contains(SEPARATOR) => {
                    table
                        .entry(Arc::from(group))
                        .or_default()
                        .insert(Arc::from(topic), Arc::new(Mutex::new(queues)));
                }
                _ => tracing::warn!(
                    key,
                    "an entry of consumerOffset.json is no topic@group; it is left out"
                ),
            }
        }
        // Commits move the version on and are in no journal, so that the file is nearly always found changed since: only its
        // counter says which deletions it does not know.
        for (at, change) in found.changes {
            if at.counter <= version.counter {
                continue;
            }
            match change {
                Change::DeleteTopic(topic) => remove_topic(&mut table, &topic),
                Change::DeleteGroup(group) => drop(table.remove(group.as_str())),
            }
            version = at;
        }
        let offsets = Offsets {
            table: RwLock::new(table),
            version: Mutex::new(Version {
                version,
                commits: 0,
            }),
            resets: Mutex::default(),
            resets_len: AtomicUsize::new(0),
            kept,
        };
        if found.had_journal
            && let Err(error) = offsets.fold()
        {
            tracing::error!(%error, "cannot write consumerOffset.json; offsets are kept in memory until it can be written");
        }
        Ok(offsets)
    }

    /// A lock that a panic left behind is usable: each change is complete in itself.
    fn read(&self) -> RwLockReadGuard<'_, ByGroup<Shared>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, ByGroup<Shared>> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn resets(&self) -> MutexGuard<'_, ByGroup<Queues>> {
        self.resets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The group goes on at `offset`. The file is written within `flushConsumerOffsetInterval`.
    pub(crate) fn commit(&self, group: &str, topic: &str, queue_id: i32, offset: i64) {
        if !self.commit_known(group, topic, queue_id, offset) {
            let mut table = self.write();
            let queues = table
                .entry(Arc::from(group))
                .or_default()
                .entry(Arc::from(topic))
                .or_default();
            locked(queues).insert(queue_id, offset);
        }
        let mut version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        version.commits += 1;
        if version.commits.is_multiple_of(COMMITS_PER_VERSION) {
            persist::next_version(&mut version.version);
        }
        drop(version);
        self.kept.touch_quietly();
    }

    fn commit_known(&self, group: &str, topic: &str, queue_id: i32, offset: i64) -> bool {
        let table = self.read();
        let Some(queues) = table.get(group).and_then(|topics| topics.get(topic)) else {
            return false;
        };
        let before = locked(queues).insert(queue_id, offset);
        if let Some(before) = before
            && offset < before
        {
            tracing::info!(group, topic, queue_id, offset, before, "a group went back");
        }
        true
    }

    /// Where the group goes on; none when it has never said.
    pub(crate) fn query(&self, group: &str, topic: &str, queue_id: i32) -> Option<i64> {
        if let Some(reset) = self.pending_reset(group, topic, queue_id) {
            return Some(reset);
        }
        let table = self.read();
        let offset = locked(table.get(group)?.get(topic)?)
            .get(&queue_id)
            .copied();
        offset.filter(|offset| *offset >= 0)
    }

    /// All offsets of the group in the topic.
    pub(crate) fn of(&self, group: &str, topic: &str) -> Queues {
        let table = self.read();
        let queues = table.get(group).and_then(|topics| topics.get(topic));
        queues
            .map(|queues| locked(queues).clone())
            .unwrap_or_default()
    }

    /// An operator decided where the group goes on; its consumers hear of it with their next pull.
    pub(crate) fn reset(&self, group: &str, topic: &str, queue_id: i32, offset: i64) {
        let mut resets = self.resets();
        let queues = resets
            .entry(Arc::from(group))
            .or_default()
            .entry(Arc::from(topic))
            .or_default();
        if queues.insert(queue_id, offset).is_none() {
            self.resets_len.fetch_add(1, Ordering::AcqRel);
        }
        drop(resets);
        self.commit(group, topic, queue_id, offset);
    }

    /// Whether consumers have not heard of a reset yet. What they commit until then is their old position.
    pub(crate) fn has_reset(&self, group: &str, topic: &str, queue_id: i32) -> bool {
        self.pending_reset(group, topic, queue_id).is_some()
    }

    fn pending_reset(&self, group: &str, topic: &str, queue_id: i32) -> Option<i64> {
        if self.resets_len.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.resets()
            .get(group)?
            .get(topic)?
            .get(&queue_id)
            .copied()
    }

    /// The reset that a consumer must hear of now; it is given once.
    pub(crate) fn take_reset(&self, group: &str, topic: &str, queue_id: i32) -> Option<i64> {
        if self.resets_len.load(Ordering::Acquire) == 0 {
            return None;
        }
        let taken = self
            .resets()
            .get_mut(group)?
            .get_mut(topic)?
            .remove(&queue_id);
        if taken.is_some() {
            self.resets_len.fetch_sub(1, Ordering::AcqRel);
        }
        taken
    }

    /// Forgets the resets that `goes` names by group and topic.
    fn forget_resets(&self, goes: impl Fn(&str, &str) -> bool) {
        let mut resets = self.resets();
        for (group, topics) in resets.iter_mut() {
            topics.retain(|topic, _| !goes(group, topic));
        }
        resets.retain(|_, topics| !topics.is_empty());
        let left = resets
            .values()
            .flat_map(HashMap::values)
            .map(BTreeMap::len)
            .sum();
        self.resets_len.store(left, Ordering::Release);
    }

    /// Topics in which the group has offsets.
    pub(crate) fn topics_of(&self, group: &str) -> BTreeSet<String> {
        self.read()
            .get(group)
            .into_iter()
            .flat_map(HashMap::keys)
            .map(ToString::to_string)
            .collect()
    }

    /// Groups that have offsets in the topic.
    pub(crate) fn groups_of(&self, topic: &str) -> BTreeSet<String> {
        let table = self.read();
        let groups = table
            .iter()
            .filter(|(_, topics)| topics.contains_key(topic));
        groups.map(|(group, _)| group.to_string()).collect()
    }

    /// A deletion took effect. Called under the table's lock.
    fn note(&self, change: &Change) {
        let mut version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        persist::next_version(&mut version.version);
        self.kept.note(&version.version, change);
    }

    /// Forgets a topic that is deleted. Durability is the caller's: [`commit_deletions`](Self::commit_deletions).
    pub(crate) fn delete_topic(&self, topic: &str) {
        let mut table = self.write();
        if table.values().any(|topics| topics.contains_key(topic)) {
            remove_topic(&mut table, topic);
            self.note(&Change::DeleteTopic(topic.to_owned()));
        }
        drop(table);
        self.forget_resets(|_, reset| reset == topic);
    }

    /// Forgets a group that is deleted. Durability is the caller's.
    pub(crate) fn delete_group(&self, group: &str) {
        let mut table = self.write();
        if table.remove(group).is_some() {
            self.note(&Change::DeleteGroup(group.to_owned()));
        }
        drop(table);
        self.forget_resets(|reset, _| reset == group);
    }

    /// `to` goes on where `from` is in the topic.
    pub(crate) fn copy(&self, from: &str, to: &str, topic: &str) {
        let queues = self.of(from, topic);
        if queues.is_empty() {
            return;
        }
        self.write()
            .entry(Arc::from(to))
            .or_default()
            .insert(Arc::from(topic), Arc::new(Mutex::new(queues)));
        self.kept.touch_quietly();
    }

    /// Offsets beyond `end`, which gives the end of a queue, go back to it.
    ///
    /// After loss of power under ASYNC_FLUSH the log may end before what consumers had committed. The messages that take those
    /// places later must not be skipped.
    pub(crate) fn clamp(&self, end: impl Fn(&str, i32) -> i64) {
        let mut went_back = 0;
        for (group, topics) in self.read().iter() {
            for (topic, queues) in topics {
                for (queue_id, offset) in locked(queues).iter_mut() {
                    let end = end(topic, *queue_id);
                    if *offset > end {
                        tracing::warn!(
                            group = &**group,
                            topic = &**topic,
                            queue_id,
                            offset = *offset,
                            end,
                            "a group was ahead of its queue; it goes on at the end"
                        );
                        *offset = end;
                        went_back += 1;
                    }
                }
            }
        }
        if went_back > 0 {
            self.kept.touch_quietly();
        }
    }

    /// Everything, as the file and slaves hold it.
    pub(crate) fn snapshot(&self) -> ConsumerOffsetSerializeWrapper {
        let mut offset_table = BTreeMap::new();
        for (group, topics) in self.read().iter() {
            for (topic, queues) in topics {
                offset_table.insert(format!("{topic}{SEPARATOR}{group}"), locked(queues).clone());
            }
        }
        let version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        ConsumerOffsetSerializeWrapper {
            offset_table,
            data_version: Some(version.version.clone()),
        }
    }

    fn file(&self) -> Snapshot<File> {
        let table = self.read();
        let mut entries = Vec::new();
        for (group, topics) in table.iter() {
            let topics = topics.iter();
            entries.extend(
                topics.map(|(topic, queues)| (topic.clone(), group.clone(), queues.clone())),
            );
        }
        let version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        let version = version.version.clone();
        let position = self.kept.position();
        drop(table);
        entries.sort_unstable_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        Snapshot {
            table: File {
                version: version.clone(),
                entries,
            },
            version,
            position,
        }
    }

    /// The files of this table.
    pub(crate) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// On return every deletion so far survives loss of power. Blocks.
    pub(crate) fn commit_deletions(&self) -> io::Result<()> {
        self.kept.commit(|| self.file())
    }

    /// Writes `consumerOffset.json` if an offset has changed; the journal goes. Blocks.
    pub(crate) fn fold(&self) -> io::Result<()> {
        self.kept.fold(|| self.file())
    }
}

/// Removes a topic's offsets, and groups that have no others.
fn remove_topic(table: &mut ByGroup<Shared>, topic: &str) {
    table.retain(|_, topics| {
        let removed = topics.remove(topic).is_some();
        !(removed && topics.is_empty())
    });
}

fn locked(queues: &Mutex<Queues>) -> MutexGuard<'_, Queues> {
    queues.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use platform::disk::RealDisk;

    use super::*;

    fn load(dir: &Path) -> Offsets {
        Offsets::load(dir, Arc::new(RealDisk)).unwrap()
    }

    #[test]
    fn offsets_survive_in_a_file_with_java_keys() {
        let dir = tempfile::tempdir().unwrap();
        let offsets = load(dir.path());
        offsets.commit("g", "t", 0, 5);
        offsets.commit("g", "t", 1, 6);
        offsets.commit("g", "t", 0, 4);
        offsets.fold().unwrap();
        let text = std::fs::read_to_string(dir.path().join("consumerOffset.json")).unwrap();
        assert!(
            text.contains("\t\"offsetTable\":{\n\t\t\"t@g\":{\n\t\t\t0:4,\n\t\t\t1:6\n\t\t}\n\t}"),
            "{text}"
        );
        let again = load(dir.path());
        assert_eq!(
            (again.query("g", "t", 0), again.query("g", "t", 1)),
            (Some(4), Some(6))
        );
        assert_eq!(
            (
                again.query("g", "t", 2),
                again.query("h", "t", 0),
                again.query("g", "u", 0)
            ),
            (None, None, None)
        );
    }

    #[test]
    fn a_file_of_java_is_understood() {
        let dir = tempfile::tempdir().unwrap();
        let text = "{\n\t\"dataVersion\":{\n\t\t\"counter\":3,\n\t\t\"stateVersion\":0,\n\t\t\"timestamp\":1795248733851\n\t},\n\t\"groupTopicMap\":{\"g\":[\"%RETRY%g\"]},\n\t\"offsetTable\":{\n\t\t\"%RETRY%g@g\":{0:7,\"1\":8},\"nonsense\":{0:1}}\n}";
        std::fs::write(dir.path().join("consumerOffset.json"), text).unwrap();
        let offsets = load(dir.path());
        assert_eq!(offsets.of("g", "%RETRY%g"), Queues::from([(0, 7), (1, 8)]));
        assert_eq!(
            offsets.topics_of("g"),
            BTreeSet::from(["%RETRY%g".to_owned()])
        );
        assert_eq!(
            offsets.groups_of("%RETRY%g"),
            BTreeSet::from(["g".to_owned()])
        );
    }

    #[test]
    fn offsets_ahead_of_their_queue_go_back_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let offsets = load(dir.path());
        for (queue_id, offset) in [(0, 9), (1, 10), (2, 11)] {
            offsets.commit("g", "t", queue_id, offset);
        }
        offsets.clamp(|_, _| 10);
        assert_eq!(
            offsets.of("g", "t"),
            Queues::from([(0, 9), (1, 10), (2, 10)])
        );
    }

    #[test]
    fn a_reset_is_handed_out_once_and_holds_until_then() {
        let dir = tempfile::tempdir().unwrap();
        let offsets = load(dir.path());
        assert_eq!(offsets.take_reset("g", "t", 0), None);
        offsets.reset("g", "t", 0, 3);
        assert!(offsets.has_reset("g", "t", 0) && !offsets.has_reset("g", "t", 1));
        assert_eq!(offsets.query("g", "t", 0), Some(3));
        assert_eq!(
            (
                offsets.take_reset("g", "t", 0),
                offsets.take_reset("g", "t", 0)
            ),
            (Some(3), None)
        );
        assert_eq!(offsets.query("g", "t", 0), Some(3));
        offsets.reset("g", "t", 0, 4);
        offsets.delete_topic("t");
        assert_eq!(
            (offsets.take_reset("g", "t", 0), offsets.query("g", "t", 0)),
            (None, None)
        );
    }

    #[test]
    fn deleted_topics_and_groups_leave_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let offsets = load(dir.path());
        offsets.commit("g", "t", 0, 1);
        offsets.commit("g", "u", 0, 1);
        offsets.commit("h", "t", 0, 1);
        offsets.copy("g", "i", "t");
        offsets.delete_topic("t");
        assert_eq!(
            offsets
                .snapshot()
                .offset_table
                .into_keys()
                .collect::<Vec<_>>(),
            ["u@g"]
        );
        offsets.delete_group("g");
        assert!(offsets.snapshot().offset_table.is_empty());
    }
}
