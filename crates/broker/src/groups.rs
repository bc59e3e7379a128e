//! The consumer groups of this broker, kept in `config/subscriptionGroup.json`. Java 5.3: `SubscriptionGroupManager`.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use platform::disk::Disk;
use protocol::body::{DataVersion, SubscriptionGroupConfig, SubscriptionGroupWrapper};
use protocol::{light, topic};
use serde::{Deserialize, Serialize};

use crate::persist::{self, Kept, LoadError, Snapshot};

/// The name of the files.
const NAME: &str = "subscriptionGroup";

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
    kept: Kept,
    /// Whether the names of light queues are groups.
    light: bool,
}

#[derive(Debug)]
struct Table {
    groups: HashMap<String, Arc<SubscriptionGroupConfig>>,
    /// By group, then by topic.
    forbidden: BTreeMap<String, BTreeMap<String, i32>>,
    version: DataVersion,
}

/// What the journal tells.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Change {
    /// A group was created or changed.
    Put(Arc<SubscriptionGroupConfig>),
    /// A group was deleted, with what it was forbidden.
    Delete(String),
    /// All that a group is forbidden, by topic.
    Forbidden(String, BTreeMap<String, i32>),
}

impl Table {
    /// `change` took effect.
    fn moved_on(&mut self, kept: &Kept, change: &Change) {
        persist::next_version(&mut self.version);
        kept.note(&self.version, change);
    }

    /// Does what the journal tells. `adding`: only groups that the table lacks.
    fn replay(&mut self, version: DataVersion, change: Change, adding: bool) {
        match change {
            Change::Put(group) if adding && self.groups.contains_key(&group.group_name) => {}
            Change::Put(group) => {
                self.groups.insert(group.group_name.clone(), group);
            }
            Change::Delete(_) | Change::Forbidden(..) if adding => {}
            Change::Delete(group) => {
                self.groups.remove(&group);
                self.forbidden.remove(&group);
            }
            Change::Forbidden(group, topics) if topics.is_empty() => {
                self.forbidden.remove(&group);
            }
            Change::Forbidden(group, topics) => {
                self.forbidden.insert(group, topics);
            }
        }
        if version.counter > self.version.counter {
            self.version = version;
        }
    }
}

/// A change of a group that is refused: groups have no attributes in this version. The text is Java's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unsupported key: {0}")]
pub(crate) struct UnsupportedAttribute(String);

impl Groups {
    /// The groups that `subscriptionGroup.json` and its journal in `dir` name, and those that every broker has. Reads files,
    /// and folds a journal that it finds.
    pub(crate) fn load(dir: &Path, disk: Arc<dyn Disk>) -> Result<Groups, LoadError> {
        let kept = Kept::new(dir, NAME, disk);
        let found =
            kept.load::<SubscriptionGroupWrapper, Change>(|file| Some(&file.data_version))?;
        let is_new = found.table.is_none();
        let loaded = found.table.unwrap_or_else(|| SubscriptionGroupWrapper {
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
            kept.touch_quietly();
        }
        let mut table = Table {
            groups,
            forbidden: loaded.forbidden_table,
            version: loaded.data_version,
        };
        if found.by_others {
            tracing::warn!(
                "subscriptionGroup.json was changed by another program since subscriptionGroup.journal was begun; of the journal, only groups that the file lacks are taken"
            );
        }
        for (version, change) in found.changes {
            table.replay(version, change, found.by_others);
        }
        let groups = Groups {
            table: RwLock::new(table),
            kept,
            light: false,
        };
        if found.had_journal
            && let Err(error) = groups.fold()
        {
            tracing::error!(%error, "cannot write subscriptionGroup.json; groups cannot be changed until it can be written");
        }
        Ok(groups)
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
        let known = self.read().groups.get(group).cloned();
        known.or_else(|| self.is_light(group).then(|| Arc::new(new_group(group))))
    }

    /// The same table, where the names of light queues are groups that always exist, or not.
    pub(crate) fn with_light(mut self, light: bool) -> Groups {
        self.light = light;
        self
    }

    /// Whether the group bears the name of a light queue: it is in no table. Java 5.3.4: `LmqSubscriptionGroupManager`.
    fn is_light(&self, group: &str) -> bool {
        self.light && light::is_name(group)
    }

    /// A group, which is created when it does not exist, `auto_create` allows it and its name is valid. It is durable
    /// soon.
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
        table.moved_on(&self.kept, &Change::Put(created.clone()));
        drop(table);
        tracing::info!(group, "created a consumer group on first sight");
        Some(created)
    }

    /// Creates the group or replaces it. Durability is the caller's: [`commit`](Self::commit).
    pub(crate) fn update(
        &self,
        mut config: SubscriptionGroupConfig,
    ) -> Result<(), UnsupportedAttribute> {
        if let Some(signed) = config.attributes.keys().next() {
            return Err(UnsupportedAttribute(
                signed.trim_start_matches(['+', '-']).to_owned(),
            ));
        }
        if self.is_light(&config.group_name) {
            return Ok(());
        }
        let mut table = self.write();
        if let Some(existing) = table.groups.get(&config.group_name) {
            // What a Java broker wrote there stays.
            config.attributes.clone_from(&existing.attributes);
        }
        let config = Arc::new(config);
        table
            .groups
            .insert(config.group_name.clone(), config.clone());
        table.moved_on(&self.kept, &Change::Put(config));
        Ok(())
    }

    /// Removes a group and what it is forbidden. Durability is the caller's.
    pub(crate) fn delete(&self, group: &str) -> bool {
        let mut table = self.write();
        table.forbidden.remove(group);
        let existed = table.groups.remove(group).is_some();
        if existed {
            table.moved_on(&self.kept, &Change::Delete(group.to_owned()));
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

    /// Decides whether the group may read the topic. Durability is the caller's.
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
        let topics = table.forbidden.get(group).cloned().unwrap_or_default();
        table.moved_on(&self.kept, &Change::Forbidden(group.to_owned(), topics));
    }

    /// Everything, as the file and slaves hold it.
    pub(crate) fn snapshot(&self) -> SubscriptionGroupWrapper {
        self.file().table
    }

    fn file(&self) -> Snapshot<SubscriptionGroupWrapper> {
        let table = self.read();
        let groups = table
            .groups
            .iter()
            .map(|(name, config)| (name.clone(), SubscriptionGroupConfig::clone(config)));
        Snapshot {
            table: SubscriptionGroupWrapper {
                subscription_group_table: groups.collect(),
                forbidden_table: table.forbidden.clone(),
                data_version: table.version.clone(),
            },
            version: table.version.clone(),
            position: self.kept.position(),
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

    /// Writes `subscriptionGroup.json` if the table has changed; the journal goes. Blocks.
    pub(crate) fn fold(&self) -> io::Result<()> {
        self.kept.fold(|| self.file())
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
        groups.commit().unwrap();
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
