//! The consumer groups of this broker, kept in `config/subscriptionGroup.json`. Java 5.3: `SubscriptionGroupManager`.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use platform::disk::Disk;
use protocol::body::{DataVersion, SubscriptionGroupConfig, SubscriptionGroupWrapper};
use protocol::topic;

use crate::persist::{self, JsonFile, LoadError};

const FILE: &str = "subscriptionGroup.json";

/// Groups that every broker has.
const PREDEFINED: [&str; 8] = [
    "TOOLS_CONSUMER",
    "FILTERSRV_CONSUMER",
    "SELF_TEST_C_GROUP",
    "CID_ONS-HTTP-PROXY",
    "CID_ONSAPI_PULL",
    "CID_ONSAPI_PERMISSION",
    "CID_ONSAPI_OWNER",
    "CID_RMQ_SYS_TRANS",
];

/// Bit of a forbidden entry: the group may not read the topic. Java 5.3: `PermName.INDEX_PERM_READ`.
const FORBIDDEN_READ: i32 = 1 << 2;

/// All groups by name, and what groups are forbidden.
#[derive(Debug)]
pub(crate) struct Groups {
    table: RwLock<Table>,
    file: JsonFile,
}

#[derive(Debug)]
struct Table {
    groups: HashMap<String, Arc<SubscriptionGroupConfig>>,
    /// By group, then by topic.
    forbidden: BTreeMap<String, BTreeMap<String, i32>>,
    version: DataVersion,
}

/// A change of a group that is refused: groups have no attributes in this version. The text is Java's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unsupported key: {0}")]
pub(crate) struct UnsupportedAttribute(String);

impl Groups {
    /// The groups that `subscriptionGroup.json` in `dir` names, and those that every broker has. Reads files.
    pub(crate) fn load(dir: &Path, disk: Arc<dyn Disk>) -> Result<Groups, LoadError> {
        let file = JsonFile::new(dir, FILE, disk);
        let loaded: Option<SubscriptionGroupWrapper> = file.load()?;
        let is_new = loaded.is_none();
        let loaded = loaded.unwrap_or_else(|| SubscriptionGroupWrapper {
            data_version: persist::first_version(),
            ..SubscriptionGroupWrapper::default()
        });
        let predefined = PREDEFINED
            .iter()
            .map(|name| ((*name).to_owned(), Arc::new(new_group(name))));
        let mut groups: HashMap<_, _> = predefined.collect();
        for (name, mut config) in loaded.subscription_group_table {
            config.group_name.clone_from(&name);
            groups.insert(name, Arc::new(config));
        }
        if is_new {
            file.touch();
        }
        let table = Table {
            groups,
            forbidden: loaded.forbidden_table,
            version: loaded.data_version,
        };
        Ok(Groups {
            table: RwLock::new(table),
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

    /// A group, if it exists.
    pub(crate) fn get(&self, group: &str) -> Option<Arc<SubscriptionGroupConfig>> {
        self.read().groups.get(group).cloned()
    }

    /// A group, which is created when it does not exist, `auto_create` allows it and its name is valid. The file is
    /// written soon after.
    pub(crate) fn get_or_create(
        &self,
        group: &str,
        auto_create: bool,
    ) -> Option<Arc<SubscriptionGroupConfig>> {
        if let Some(existing) = self.get(group) {
            return Some(existing);
        }
        // The system's own groups are created whatever the configuration says of others.
        if !(auto_create || topic::is_system_group(group)) || topic::check_group(group).is_err() {
            return None;
        }
        let mut table = self.write();
        if let Some(existing) = table.groups.get(group) {
            return Some(existing.clone());
        }
        let created = Arc::new(new_group(group));
        table.groups.insert(group.to_owned(), created.clone());
        persist::next_version(&mut table.version);
        drop(table);
        self.file.touch();
        tracing::info!(group, "created a consumer group on first sight");
        Some(created)
    }

    /// Creates the group or replaces it. The file is the caller's: [`save`](Self::save).
    pub(crate) fn update(
        &self,
        mut config: SubscriptionGroupConfig,
    ) -> Result<(), UnsupportedAttribute> {
        if let Some(signed) = config.attributes.keys().next() {
            return Err(UnsupportedAttribute(
                signed.trim_start_matches(['+', '-']).to_owned(),
            ));
        }
        let mut table = self.write();
        if let Some(existing) = table.groups.get(&config.group_name) {
            // What a Java broker wrote there stays.
            config.attributes.clone_from(&existing.attributes);
        }
        table
            .groups
            .insert(config.group_name.clone(), Arc::new(config));
        persist::next_version(&mut table.version);
        drop(table);
        self.file.touch();
        Ok(())
    }

    /// Removes a group and what it is forbidden. The file is the caller's.
    pub(crate) fn delete(&self, group: &str) -> bool {
        let mut table = self.write();
        table.forbidden.remove(group);
        let existed = table.groups.remove(group).is_some();
        if existed {
            persist::next_version(&mut table.version);
        }
        drop(table);
        if existed {
            self.file.touch();
        }
        existed
    }

    /// Whether the group may read the topic, as far as an operator decided.
    pub(crate) fn may_read(&self, group: &str, topic: &str) -> bool {
        let table = self.read();
        let bits = table
            .forbidden
            .get(group)
            .and_then(|topics| topics.get(topic));
        bits.is_none_or(|bits| bits & FORBIDDEN_READ == 0)
    }

    /// Decides whether the group may read the topic. The file is the caller's.
    pub(crate) fn set_may_read(&self, group: &str, topic: &str, may: bool) {
        let mut table = self.write();
        let topics = table.forbidden.entry(group.to_owned()).or_default();
        let bits = topics.entry(topic.to_owned()).or_default();
        *bits = if may {
            *bits & !FORBIDDEN_READ
        } else {
            *bits | FORBIDDEN_READ
        };
        if *bits <= 0 {
            topics.remove(topic);
        }
        if topics.is_empty() {
            table.forbidden.remove(group);
        }
        persist::next_version(&mut table.version);
        drop(table);
        self.file.touch();
    }

    /// Everything, as the file and slaves hold it.
    pub(crate) fn snapshot(&self) -> SubscriptionGroupWrapper {
        let table = self.read();
        let groups = table
            .groups
            .iter()
            .map(|(name, config)| (name.clone(), SubscriptionGroupConfig::clone(config)));
        SubscriptionGroupWrapper {
            subscription_group_table: groups.collect(),
            forbidden_table: table.forbidden.clone(),
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

fn new_group(name: &str) -> SubscriptionGroupConfig {
    SubscriptionGroupConfig {
        group_name: name.to_owned(),
        ..SubscriptionGroupConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use platform::disk::RealDisk;

    use super::*;

    fn load(dir: &Path) -> Groups {
        Groups::load(dir, Arc::new(RealDisk)).unwrap()
    }

    #[test]
    fn groups_are_created_on_first_sight_when_allowed_and_valid() {
        let dir = tempfile::tempdir().unwrap();
        let groups = load(dir.path());
        assert!(groups.get_or_create("g", false).is_none());
        assert!(groups.get_or_create("g", true).is_some());
        assert!(groups.get_or_create("g", false).is_some());
        assert!(
            groups.get_or_create("CID_RMQ_SYS_X", false).is_some(),
            "the system's own"
        );
        assert!(groups.get_or_create("a b", true).is_none());
        assert!(
            groups.get_or_create("TOOLS_CONSUMER", false).is_some(),
            "predefined"
        );
    }

    #[test]
    fn groups_survive_in_their_file() {
        let dir = tempfile::tempdir().unwrap();
        let groups = load(dir.path());
        let config = SubscriptionGroupConfig {
            retry_max_times: 3,
            ..new_group("g")
        };
        groups.update(config).unwrap();
        groups.get_or_create("gone", true);
        groups.set_may_read("g", "t", false);
        assert!(groups.delete("gone") && !groups.delete("gone"));
        groups.save().unwrap();
        let again = load(dir.path());
        assert_eq!(again.get("g").unwrap().retry_max_times, 3);
        assert!(again.get("gone").is_none());
        assert!(!again.may_read("g", "t") && again.may_read("g", "u"));
        assert_eq!(again.snapshot(), groups.snapshot());
    }

    #[test]
    fn what_was_forbidden_can_be_allowed_again() {
        let dir = tempfile::tempdir().unwrap();
        let groups = load(dir.path());
        groups.set_may_read("g", "t", false);
        groups.set_may_read("g", "u", false);
        groups.set_may_read("g", "t", true);
        assert!(groups.may_read("g", "t") && !groups.may_read("g", "u"));
        groups.set_may_read("g", "u", true);
        assert!(groups.snapshot().forbidden_table.is_empty());
    }

    #[test]
    fn attributes_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = new_group("g");
        config.attributes.insert("+x".to_owned(), "1".to_owned());
        assert_eq!(
            load(dir.path()).update(config).unwrap_err().to_string(),
            "unsupported key: x"
        );
    }
}
