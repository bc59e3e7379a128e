//! The topics of this broker, kept in `config/topics.json`. Java 5.3: `TopicConfigManager`.

mod attributes;

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashSet};
use std::hash::{Hash, Hasher};
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use platform::disk::Disk;
use protocol::body::{DataVersion, TopicConfig, TopicConfigSerializeWrapper};
use protocol::{light, perm};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use crate::persist::{self, Kept, LoadError, Position, Snapshot};

pub(crate) use attributes::{AttributeError, parse as parse_attributes};

/// The name of the files.
const NAME: &str = "topics";
/// The topic attribute that says how a topic's queues are built.
const QUEUE_TYPE: &str = "queue.type";
const BATCH: &str = "BatchCQ";

/// Whether batches for the topic are stored as they come. Java 5.3.4: `QueueTypeUtils.isBatchCq`.
pub(crate) fn is_batch(config: &TopicConfig) -> bool {
    let kind = config.attributes.get(QUEUE_TYPE);
    kind.is_some_and(|kind| kind == BATCH)
}

/// All topics by name.
///
/// A topic is an immutable value: a change puts another one in its place, and who has the old one goes on with it.
#[derive(Debug)]
pub(crate) struct Topics {
    table: RwLock<Table>,
    kept: Kept,
    /// Whether light queues are topics.
    light: bool,
    /// A journal was found, and is not folded yet.
    has_journal: bool,
}

#[derive(Debug)]
struct Table {
    topics: HashSet<Entry>,
    version: DataVersion,
}

/// A topic in the table, found by its name, which it holds once.
#[derive(Debug)]
struct Entry {
    config: Arc<TopicConfig>,
    /// Behind its last change.
    position: Position,
}

/// What the journal tells.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Change {
    /// A topic was created or changed.
    Put(Arc<TopicConfig>),
    /// A topic was deleted.
    Delete(String),
    /// The version moved on.
    Version,
}

/// A topic as the table has it.
pub(crate) struct Found {
    /// The topic.
    pub(crate) config: Arc<TopicConfig>,
    /// Whether its last change survives loss of power.
    pub(crate) is_durable: bool,
}

impl Borrow<str> for Entry {
    fn borrow(&self) -> &str {
        &self.config.topic_name
    }
}

impl Hash for Entry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.config.topic_name.hash(state);
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.config.topic_name == other.config.topic_name
    }
}

impl Eq for Entry {}

impl Table {
    fn config(&self, topic: &str) -> Option<&Arc<TopicConfig>> {
        self.topics.get(topic).map(|entry| &entry.config)
    }

    fn put(&mut self, kept: &Kept, config: TopicConfig) -> Arc<TopicConfig> {
        let config = Arc::new(config);
        persist::next_version(&mut self.version);
        let change = Change::Put(config.clone());
        let position = kept.note(&self.version, &change);
        let entry = Entry {
            config: config.clone(),
            position,
        };
        self.topics.replace(entry);
        config
    }

    /// Does to the table what the journal tells. `adding`: only topics that it lacks.
    fn replay(&mut self, changes: Vec<(DataVersion, Change)>, adding: bool) {
        let mut last = BTreeMap::new();
        for (version, change) in changes {
            match change {
                Change::Put(config) => {
                    last.insert(config.topic_name.clone(), Some(config));
                }
                Change::Delete(topic) => {
                    last.insert(topic, None);
                }
                Change::Version => {}
            }
            if version.counter > self.version.counter {
                self.version = version;
            }
        }
        for (topic, config) in last {
            match config {
                Some(config) if !adding || !self.topics.contains(topic.as_str()) => {
                    self.topics.replace(Entry::loaded(config));
                }
                None if !adding => {
                    self.topics.remove(topic.as_str());
                }
                Some(_) | None => {}
            }
        }
    }
}

impl Entry {
    /// A topic that the files hold.
    fn loaded(config: Arc<TopicConfig>) -> Entry {
        Entry {
            config,
            position: Position::default(),
        }
    }
}

/// The table as `topics.json` holds it, written without a copy of the topics.
struct File {
    version: DataVersion,
    /// Sorted by name.
    topics: Vec<Arc<TopicConfig>>,
}

impl Serialize for File {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut file = serializer.serialize_map(Some(2))?;
        file.serialize_entry("dataVersion", &self.version)?;
        file.serialize_entry("topicConfigTable", &ByName(&self.topics))?;
        file.end()
    }
}

struct ByName<'a>(&'a [Arc<TopicConfig>]);

impl Serialize for ByName<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|config| (&config.topic_name, &**config)))
    }
}

impl Topics {
    /// The topics that `topics.json` and its journal in `dir` name; none when there are no such files. Reads files, and writes none: that is for
    /// [`settle`](Self::settle), once nobody else can have the directory.
    pub(crate) fn read_files(dir: &Path, disk: Arc<dyn Disk>) -> Result<Topics, LoadError> {
        let kept = Kept::new(dir, NAME, disk);
        let loaded =
            kept.load::<TopicConfigSerializeWrapper, Change>(|file| Some(&file.data_version))?;
        let (configs, version) = match loaded.table {
            Some(file) => (file.topic_config_table, file.data_version),
            None => (BTreeMap::new(), persist::first_version()),
        };
        let topics = configs.into_iter().map(|(name, mut config)| {
            config.topic_name = name;
            Entry::loaded(Arc::new(config))
        });
        let mut table = Table {
            topics: topics.collect(),
            version,
        };
        if loaded.by_others {
            tracing::warn!(
                "topics.json was changed by another program since topics.journal was begun; of the journal, only topics that the file lacks are taken"
            );
        }
        table.replay(loaded.changes, loaded.by_others);
        Ok(Topics {
            table: RwLock::new(table),
            kept,
            light: false,
            has_journal: loaded.had_journal,
        })
    }

    /// Folds a journal that was found.
    pub(crate) fn settle(&self) {
        if self.has_journal
            && let Err(error) = self.fold()
        {
            tracing::error!(%error, "cannot write topics.json; topics cannot be created until it can be written");
        }
    }

    /// Names of the topics that [`is_batch`] is true of.
    pub(crate) fn batch_names(&self) -> Vec<String> {
        let table = self.read();
        let configs = table.topics.iter().map(|entry| &entry.config);
        let batches = configs.filter(|config| is_batch(config));
        batches.map(|config| config.topic_name.clone()).collect()
    }

    /// A lock that a panic left behind is usable: each change of the table is complete in itself.
    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same table, where the names of light queues are topics that always exist, or not.
    pub(crate) fn with_light(mut self, light: bool) -> Topics {
        self.light = light;
        self
    }

    /// Whether the topic is a light queue: it is in no table. Java 5.3.4: `LmqTopicConfigManager`.
    pub(crate) fn is_light(&self, topic: &str) -> bool {
        self.light && light::is_name(topic)
    }

    /// A topic.
    pub(crate) fn get(&self, topic: &str) -> Option<Arc<TopicConfig>> {
        let known = self.read().config(topic).cloned();
        known.or_else(|| self.light_queue(topic))
    }

    fn light_queue(&self, topic: &str) -> Option<Arc<TopicConfig>> {
        self.is_light(topic).then(|| {
            Arc::new(TopicConfig {
                topic_name: topic.to_owned(),
                read_queue_nums: 1,
                write_queue_nums: 1,
                perm: perm::READ | perm::WRITE,
                ..TopicConfig::default()
            })
        })
    }

    /// A topic, and whether it is in its file. Called for each message: one shared lock, one reference counted.
    pub(crate) fn find(&self, topic: &str) -> Option<Found> {
        let table = self.read();
        let Some(entry) = table.topics.get(topic) else {
            let config = self.light_queue(topic)?;
            return Some(Found {
                config,
                is_durable: true,
            });
        };
        Some(Found {
            config: entry.config.clone(),
            is_durable: self.kept.is_durable(entry.position),
        })
    }

    /// Number of topics.
    pub(crate) fn len(&self) -> usize {
        self.read().topics.len()
    }

    /// The topic of `config`'s name, which is created as `config` says when it does not exist; and whether it was.
    /// It is durable soon, and after a [`commit`](Self::commit).
    pub(crate) fn create_if_absent(&self, config: TopicConfig) -> (Arc<TopicConfig>, bool) {
        if let Some(existing) = self.get(&config.topic_name) {
            return (existing, false);
        }
        let mut table = self.write();
        if let Some(existing) = table.config(&config.topic_name) {
            return (existing.clone(), false);
        }
        (table.put(&self.kept, config), true)
    }

    /// Creates the topic of `config`'s name, or changes it to `config`, whose attributes are a modification: `+name` sets, `-name`
    /// removes. Gives the topic as it is then, and whether anything changed. Durability is the caller's:
    /// [`commit`](Self::commit).
    pub(crate) fn update(
        &self,
        mut config: TopicConfig,
    ) -> Result<(Arc<TopicConfig>, bool), AttributeError> {
        let mut table = self.write();
        let existing = table.config(&config.topic_name);
        config.attributes = attributes::alter(
            existing.map(|existing| &existing.attributes),
            &config.attributes,
        )?;
        if let Some(existing) = existing
            && **existing == config
        {
            return Ok((existing.clone(), false));
        }
        Ok((table.put(&self.kept, config), true))
    }

    /// Whether the topic promises order across its queues is set; gives the topic when that is a change.
    pub(crate) fn set_order(&self, topic: &str, order: bool) -> Option<Arc<TopicConfig>> {
        let mut table = self.write();
        let existing = table.config(topic);
        let existing = existing.filter(|existing| existing.order != order)?;
        let changed = TopicConfig {
            order,
            ..TopicConfig::clone(existing)
        };
        Some(table.put(&self.kept, changed))
    }

    /// Removes a topic. Durability is the caller's.
    pub(crate) fn delete(&self, topic: &str) -> bool {
        let mut table = self.write();
        let existed = table.topics.remove(topic);
        if existed {
            persist::next_version(&mut table.version);
            self.kept
                .note(&table.version, &Change::Delete(topic.to_owned()));
        }
        existed
    }

    /// The version moves on although no topic changed: what registrations say of them did.
    pub(crate) fn renew_version(&self) {
        let mut table = self.write();
        persist::next_version(&mut table.version);
        self.kept.note(&table.version, &Change::Version);
    }

    /// All topics, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<TopicConfig>> {
        let table = self.read();
        table
            .topics
            .iter()
            .map(|entry| entry.config.clone())
            .collect()
    }

    /// The version of the table.
    pub(crate) fn data_version(&self) -> DataVersion {
        self.read().version.clone()
    }

    /// Everything, as slaves hold it.
    pub(crate) fn snapshot(&self) -> TopicConfigSerializeWrapper {
        let table = self.read();
        let topics = table.topics.iter().map(|entry| {
            let config = TopicConfig::clone(&entry.config);
            (config.topic_name.clone(), config)
        });
        TopicConfigSerializeWrapper {
            topic_config_table: topics.collect(),
            data_version: table.version.clone(),
        }
    }

    fn file(&self) -> Snapshot<File> {
        let (mut topics, version, position) = {
            let table = self.read();
            let topics = table.topics.iter().map(|entry| entry.config.clone());
            let topics: Vec<_> = topics.collect();
            (topics, table.version.clone(), self.kept.position())
        };
        topics.sort_unstable_by(|a, b| a.topic_name.cmp(&b.topic_name));
        Snapshot {
            table: File {
                version: version.clone(),
                topics,
            },
            version,
            position,
        }
    }

    /// The files of this table.
    pub(crate) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// On return every change so far survives loss of power. Blocks.
    pub(crate) fn commit(&self) -> io::Result<()> {
        self.kept.commit(|| self.file())
    }

    /// Writes `topics.json` if the table has changed; the journal goes. Blocks.
    pub(crate) fn fold(&self) -> io::Result<()> {
        self.kept.fold(|| self.file())
    }
}

#[cfg(test)]
mod tests {
    use platform::disk::{Operation, RealDisk, RecordingDisk, Replay, SimulatedDisk};

    use super::*;

    fn load(dir: &Path) -> Topics {
        load_from(dir, Arc::new(RealDisk))
    }

    fn load_from(dir: &Path, disk: Arc<dyn Disk>) -> Topics {
        let topics = Topics::read_files(dir, disk).unwrap();
        topics.settle();
        topics
    }

    fn config(name: &str, queues: i32) -> TopicConfig {
        TopicConfig {
            topic_name: name.to_owned(),
            read_queue_nums: queues,
            write_queue_nums: queues,
            ..TopicConfig::default()
        }
    }

    #[test]
    fn topics_survive_in_their_file() {
        let dir = tempfile::tempdir().unwrap();
        let topics = load(dir.path());
        assert!(topics.create_if_absent(config("a", 4)).1);
        assert!(
            !topics.create_if_absent(config("a", 8)).1,
            "it stays as it is"
        );
        topics.create_if_absent(config("b", 1));
        assert!(topics.delete("b") && !topics.delete("b"));
        topics.commit().unwrap();
        let again = load(dir.path());
        assert_eq!(again.get("a").unwrap().write_queue_nums, 4);
        assert!(again.get("b").is_none());
        assert_eq!(again.data_version(), topics.data_version());
        assert_eq!(again.data_version().counter, 3);
    }

    /// A power cut at each moment of a life with creations, changes, deletions and folds: what was committed is there.
    #[test]
    fn committed_changes_survive_a_power_cut_at_every_moment() {
        const IMAGES: u64 = 6;
        let disk = RecordingDisk::new(Arc::new(SimulatedDisk::new()));
        let dir = Path::new("/store/config");
        let topics = load_from(dir, Arc::new(disk.clone()));
        for round in 0..24 {
            topics.create_if_absent(config(&format!("t{round}"), round));
            topics.update(config("changed", round)).unwrap();
            if round % 3 == 2 {
                topics.delete(&format!("t{}", round - 1));
            }
            if round % 5 != 4 {
                topics.commit().unwrap();
                disk.note(round.to_string());
            }
            if round % 4 == 3 {
                // Taken before what comes next, as when a fold goes on beside creations.
                let before = topics.file();
                topics.create_if_absent(config("beside", round));
                topics.commit().unwrap();
                topics.kept.fold(|| before).unwrap();
            }
            if round % 7 == 6 {
                topics.fold().unwrap();
                disk.note(round.to_string());
            }
        }
        let (mut replay, mut acknowledged) = (Replay::new(), None);
        for (at, operation) in disk.operations().iter().enumerate() {
            replay.apply(operation).unwrap();
            if let Operation::Note(round) = operation {
                acknowledged = Some(round.parse::<i32>().unwrap());
            }
            for image in 0..IMAGES {
                let crashed = Arc::new(replay.disk().crash(at as u64 * IMAGES + image));
                let found = load_from(dir, crashed.clone());
                check_image(&found, acknowledged, at);
                let again = load_from(dir, crashed);
                let (mut again, found) = (again.snapshot(), found.snapshot());
                if found.data_version.counter == 0 {
                    // A table without files is new each time, with the time of its making as its version.
                    again.data_version = found.data_version.clone();
                }
                assert_eq!(again, found, "opened twice, at {at}");
            }
        }
    }

    fn check_image(found: &Topics, acknowledged: Option<i32>, at: usize) {
        let Some(last) = acknowledged else { return };
        for round in 0..=last {
            let is_there = found.get(&format!("t{round}")).is_some();
            // Every third is deleted in the round after its own; before that is acknowledged it may be so or so.
            let is_deleted = round % 3 == 1;
            if !is_deleted || round < last {
                assert_eq!(
                    is_there, !is_deleted,
                    "topic of round {round} at {at}, acknowledged {last}"
                );
            }
        }
        let changed = found.get("changed").unwrap().read_queue_nums;
        assert!(changed >= last, "{changed} at {at}, acknowledged {last}");
    }

    #[test]
    fn a_file_that_java_changed_gains_only_topics_from_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        let topics = load(dir.path());
        topics.create_if_absent(config("kept", 1));
        topics.fold().unwrap();
        topics.update(config("kept", 2)).unwrap();
        topics.create_if_absent(config("created", 2));
        topics.create_if_absent(config("created and deleted", 2));
        topics.delete("created and deleted");
        topics.commit().unwrap();
        let file = dir.path().join("topics.json");
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replace("\"counter\":1", "\"counter\":7");
        std::fs::write(&file, text).unwrap();
        let again = load(dir.path());
        assert_eq!(again.get("kept").unwrap().read_queue_nums, 1);
        assert_eq!(again.get("created").unwrap().read_queue_nums, 2);
        assert!(again.get("created and deleted").is_none());
        assert!(again.data_version().counter >= 7);
        assert!(!dir.path().join("topics.journal").exists());
    }

    #[test]
    fn a_journal_that_cannot_be_written_is_replaced_by_the_file() {
        let disk = SimulatedDisk::new();
        let dir = Path::new("/config");
        let topics = load_from(dir, Arc::new(disk.clone()));
        topics.create_if_absent(config("a", 1));
        topics.commit().unwrap();
        disk.set_faults(|faults| faults.sync_fails = true);
        topics.create_if_absent(config("b", 1));
        assert!(topics.commit().is_err());
        assert!(!topics.find("b").unwrap().is_durable);
        disk.set_faults(|faults| faults.sync_fails = false);
        topics.commit().unwrap();
        assert!(topics.find("b").unwrap().is_durable);
        let again = load_from(dir, Arc::new(disk.crash(1)));
        assert!(again.get("a").is_some() && again.get("b").is_some());
    }

    #[test]
    fn a_file_of_java_is_understood() {
        let dir = tempfile::tempdir().unwrap();
        // Java 5.3.3, shortened; `topicConfigTable` of 4.x has no attributes.
        let text = "{\n\t\"dataVersion\":{\n\t\t\"counter\":7,\n\t\t\"stateVersion\":0,\n\t\t\"timestamp\":1795248733851\n\t},\n\t\"topicConfigTable\":{\n\t\t\"TBW102\":{\n\t\t\t\"attributes\":{},\n\t\t\t\"order\":false,\n\t\t\t\"perm\":7,\n\t\t\t\"readQueueNums\":8,\n\t\t\t\"topicFilterType\":\"SINGLE_TAG\",\n\t\t\t\"topicName\":\"TBW102\",\n\t\t\t\"topicSysFlag\":0,\n\t\t\t\"writeQueueNums\":8\n\t\t},\"old\":{\"perm\":6,\"topicName\":\"old\",\"somethingNew\":1}\n\t}\n}";
        std::fs::write(dir.path().join("topics.json"), text).unwrap();
        let topics = load(dir.path());
        assert_eq!(topics.get("TBW102").unwrap().perm, 7);
        assert_eq!(topics.get("old").unwrap().read_queue_nums, 16);
        assert_eq!(topics.data_version().counter, 7);
    }

    #[test]
    fn an_update_that_changes_nothing_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let topics = load(dir.path());
        let mut modified = config("a", 4);
        modified
            .attributes
            .insert("+message.type".to_owned(), "FIFO".to_owned());
        let (created, changed) = topics.update(modified).unwrap();
        assert!(changed);
        assert_eq!(created.attributes["message.type"], "FIFO");
        let version = topics.data_version();
        assert!(
            !topics.update(config("a", 4)).unwrap().1,
            "attributes that are not named stay"
        );
        assert_eq!(topics.data_version(), version);
        assert!(topics.update(config("a", 5)).unwrap().1);
        assert_eq!(topics.get("a").unwrap().attributes["message.type"], "FIFO");
        assert!(topics.set_order("a", true).is_some() && topics.set_order("a", true).is_none());
    }
}
