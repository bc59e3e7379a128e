//! The topics of this broker, kept in `config/topics.json`. Java 5.3: `TopicConfigManager`.

mod attributes;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use platform::disk::Disk;
use protocol::body::{DataVersion, TopicConfig, TopicConfigSerializeWrapper};

use crate::persist::{self, JsonFile, LoadError};

pub(crate) use attributes::{AttributeError, parse as parse_attributes};

const FILE: &str = "topics.json";

/// All topics by name.
///
/// A topic is an immutable value: a change puts another one in its place, and who has the old one goes on with it.
#[derive(Debug)]
pub(crate) struct Topics {
    table: RwLock<Table>,
    file: JsonFile,
}

#[derive(Debug)]
struct Table {
    topics: HashMap<String, Arc<TopicConfig>>,
    version: DataVersion,
}

impl Table {
    fn put(&mut self, config: TopicConfig) -> Arc<TopicConfig> {
        let config = Arc::new(config);
        self.topics
            .insert(config.topic_name.clone(), config.clone());
        persist::next_version(&mut self.version);
        config
    }
}

impl Topics {
    /// The topics that `topics.json` in `dir` names; none when there is no such file. Reads files.
    pub(crate) fn load(dir: &Path, disk: Arc<dyn Disk>) -> Result<Topics, LoadError> {
        let file = JsonFile::new(dir, FILE, disk);
        let loaded: Option<TopicConfigSerializeWrapper> = file.load()?;
        let (configs, version) = match loaded {
            Some(loaded) => (loaded.topic_config_table, loaded.data_version),
            None => (BTreeMap::new(), persist::first_version()),
        };
        let topics = configs.into_iter().map(|(name, mut config)| {
            config.topic_name.clone_from(&name);
            (name, Arc::new(config))
        });
        Ok(Topics {
            table: RwLock::new(Table {
                topics: topics.collect(),
                version,
            }),
            file,
        })
    }

    /// A lock that a panic left behind is usable: each change of the table is complete in itself.
    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A topic. Called for each message: one shared lock, one reference counted.
    pub(crate) fn get(&self, topic: &str) -> Option<Arc<TopicConfig>> {
        self.read().topics.get(topic).cloned()
    }

    /// The topic of `config`'s name, which is created as `config` says when it does not exist; and whether it was.
    /// The file is written soon after.
    pub(crate) fn create_if_absent(&self, config: TopicConfig) -> (Arc<TopicConfig>, bool) {
        if let Some(existing) = self.get(&config.topic_name) {
            return (existing, false);
        }
        let mut table = self.write();
        if let Some(existing) = table.topics.get(&config.topic_name) {
            return (existing.clone(), false);
        }
        let created = table.put(config);
        drop(table);
        self.file.touch();
        (created, true)
    }

    /// Creates the topic of `config`'s name, or changes it to `config`, whose attributes are a modification: `+name` sets, `-name`
    /// removes. Gives the topic as it is then, and whether anything changed. The file is the caller's: [`save`](Self::save).
    pub(crate) fn update(
        &self,
        mut config: TopicConfig,
    ) -> Result<(Arc<TopicConfig>, bool), AttributeError> {
        let mut table = self.write();
        let existing = table.topics.get(&config.topic_name);
        config.attributes = attributes::alter(
            existing.map(|existing| &existing.attributes),
            &config.attributes,
        )?;
        if let Some(existing) = existing
            && **existing == config
        {
            return Ok((existing.clone(), false));
        }
        let changed = table.put(config);
        drop(table);
        self.file.touch();
        Ok((changed, true))
    }

    /// Whether the topic promises order across its queues is set; gives the topic when that is a change.
    pub(crate) fn set_order(&self, topic: &str, order: bool) -> Option<Arc<TopicConfig>> {
        let mut table = self.write();
        let existing = table.topics.get(topic);
        let existing = existing.filter(|existing| existing.order != order)?;
        let changed = TopicConfig {
            order,
            ..TopicConfig::clone(existing)
        };
        let changed = table.put(changed);
        drop(table);
        self.file.touch();
        Some(changed)
    }

    /// Removes a topic. The file is the caller's.
    pub(crate) fn delete(&self, topic: &str) -> bool {
        let mut table = self.write();
        let existed = table.topics.remove(topic).is_some();
        if existed {
            persist::next_version(&mut table.version);
        }
        drop(table);
        if existed {
            self.file.touch();
        }
        existed
    }

    /// The version moves on although no topic changed: what registrations say of them did.
    pub(crate) fn renew_version(&self) {
        persist::next_version(&mut self.write().version);
        self.file.touch();
    }

    /// All topics, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<TopicConfig>> {
        self.read().topics.values().cloned().collect()
    }

    /// The version of the table.
    pub(crate) fn data_version(&self) -> DataVersion {
        self.read().version.clone()
    }

    /// Everything, as the file and slaves hold it.
    pub(crate) fn snapshot(&self) -> TopicConfigSerializeWrapper {
        let table = self.read();
        let topics = table
            .topics
            .iter()
            .map(|(name, config)| (name.clone(), TopicConfig::clone(config)));
        TopicConfigSerializeWrapper {
            topic_config_table: topics.collect(),
            data_version: table.version.clone(),
        }
    }

    /// The file of this table.
    pub(crate) fn file(&self) -> &JsonFile {
        &self.file
    }

    /// Writes the file if the table has changed. Blocks.
    pub(crate) fn save(&self) -> io::Result<()> {
        self.file.save(|| self.snapshot())
    }
}

#[cfg(test)]
mod tests {
    use platform::disk::RealDisk;

    use super::*;

    fn load(dir: &Path) -> Topics {
        Topics::load(dir, Arc::new(RealDisk)).unwrap()
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
        topics.save().unwrap();
        let again = load(dir.path());
        assert_eq!(again.get("a").unwrap().write_queue_nums, 4);
        assert!(again.get("b").is_none());
        assert_eq!(again.data_version(), topics.data_version());
        assert_eq!(again.data_version().counter, 3);
    }

    #[test]
    fn a_file_of_java_is_understood() {
        let dir = tempfile::tempdir().unwrap();
        // Java 5.3.3, shortened; `topicConfigTable` of 4.x has no attributes.
        let text = "{\n\t\"dataVersion\":{\n\t\t\"counter\":7,\n\t\t\"stateVersion\":0,\n\t\t\"timestamp\":1795248733851\n\t},\n\t\"topicConfigTable\":{\n\t\t\"TBW102\":{\n\t\t\t\"attributes\":{},\n\t\t\t\"order\":false,\n\t\t\t\"perm\":7,\n\t\t\t\"readQueueNums\":8,\n\t\t\t\"topicFilterType\":\"SINGLE_TAG\",\n\t\t\t\"topicName\":\"TBW102\",\n\t\t\t\"topicSysFlag\":0,\n\t\t\t\"writeQueueNums\":8\n\t\t},\"old\":{\"perm\":6,\"topicName\":\"old\",\"somethingNew\":1}\n\t}\n}";
        std::fs::write(dir.path().join(FILE), text).unwrap();
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
