//! The SQL92 expressions that groups subscribe with, compiled; kept in `config/consumerFilter.json`. Java 5.3: `ConsumerFilterManager`.
//!
//! Heartbeats bring them; a pull finds its group's by two look-ups. The file only carries them over a restart, until heartbeats say
//! them again, so it is written behind and nothing waits for it.

mod compiled;
mod file;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use filter::{Filter, SyntaxError};
use platform::disk::Disk;
use protocol::body::SubscriptionData;

use crate::persist::JsonFile;

use compiled::Compiled;

/// The name of the file.
const FILE: &str = "consumerFilter.json";
/// Memory of all registered expressions, compiled. An expression of a line takes some hundred bytes.
const TABLE_BYTES_MAX: usize = 128 << 20;
/// What an entry takes beside its expression and its names.
const ENTRY_BYTES: usize = 256;
/// The only type of expression beside tags.
pub(crate) const SQL92: &str = "SQL92";
/// A group whose death nobody saw is taken as dead since so long before the start. Java 5.3: `ConsumerFilterManager.decode`.
const DEAD_BEFORE_START_MS: i64 = 30_000;

/// Every group's expressions, and those that pulls bring with them.
#[derive(Debug)]
pub(crate) struct Filters {
    table: RwLock<Table>,
    compiled: Compiled,
    file: Mutex<JsonFile>,
    changed: AtomicBool,
}

#[derive(Debug, Default)]
struct Table {
    /// By group, then by topic.
    groups: HashMap<String, BTreeMap<String, Entry>>,
    /// Memory of all entries.
    bytes: usize,
}

/// What a group wants of a topic.
#[derive(Clone, Debug)]
struct Entry {
    expression: Arc<str>,
    filter: Arc<Filter>,
    /// The version of the subscription: a higher one takes its place.
    version: i64,
    born_ms: i64,
    /// Since when nobody subscribes so.
    dead_ms: Option<i64>,
    bytes: usize,
}

/// A group's filter for a topic.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) filter: Arc<Filter>,
    /// The version of the subscription that brought it.
    pub(crate) version: i64,
}

/// An expression that is not registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the filter of group [{group}] for topic [{topic}] {reason}")]
pub(crate) struct Unregistered {
    group: String,
    topic: String,
    reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Reason {
    /// Whoever wrote it corrects it.
    #[error("cannot be read: {0}")]
    Syntax(#[from] SyntaxError),
    #[error("is of the unknown type [{0}]; TAG and SQL92 are known")]
    Type(String),
    #[error("finds no room; those of all groups may take {TABLE_BYTES_MAX} bytes together")]
    Full,
}

impl Unregistered {
    /// Whether its author can do something about it.
    pub(crate) fn is_wrong(&self) -> bool {
        self.reason != Reason::Full
    }
}

/// Whether a subscription is one of tags. Java 5.3: `ExpressionType.isTagType`.
pub(crate) fn is_by_tag(expression_type: &str) -> bool {
    matches!(expression_type, "" | "TAG")
}

impl Filters {
    /// The expressions that the file holds, all of groups that are gone. A file that cannot be read is left alone: heartbeats bring what it
    /// held.
    pub(crate) fn load(dir: &Path, disk: Arc<dyn Disk>, now_ms: i64) -> Filters {
        let filters = Filters {
            table: RwLock::default(),
            compiled: Compiled::default(),
            file: Mutex::new(JsonFile::new(dir.join(FILE), disk)),
            changed: AtomicBool::new(false),
        };
        let loaded = filters.file().load::<file::File>();
        let loaded = loaded.unwrap_or_else(|error| {
            tracing::warn!(%error, "the filters of groups are not known until their heartbeats bring them");
            None
        });
        for data in loaded.unwrap_or_default().into_entries() {
            let (group, topic) = (&data.consumer_group, &data.topic);
            let Ok(filter) = filters.compiled.get(&data.expression) else {
                continue;
            };
            let died_unseen_ms = (now_ms - DEAD_BEFORE_START_MS).max(data.born_time);
            let entry = Entry {
                bytes: bytes_of(group, topic, &data.expression, &filter),
                expression: data.expression.as_str().into(),
                filter,
                version: data.client_version,
                born_ms: data.born_time,
                dead_ms: Some(if data.is_dead() {
                    data.dead_time
                } else {
                    died_unseen_ms
                }),
            };
            filters.write().put(group, topic, entry);
        }
        filters.changed.store(false, Ordering::Release);
        filters
    }

    fn file(&self) -> MutexGuard<'_, JsonFile> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lock that a panic left behind is usable: each change is complete in itself.
    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.changed.store(true, Ordering::Release);
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a group's heartbeats said it wants of a topic.
    pub(crate) fn get(&self, group: &str, topic: &str) -> Option<Registered> {
        let table = self.read();
        let entry = table.entry(group, topic)?;
        Some(Registered {
            filter: entry.filter.clone(),
            version: entry.version,
        })
    }

    /// The compiled form of an expression that belongs to a pull.
    pub(crate) fn compile(&self, expression: &str) -> Result<Arc<Filter>, SyntaxError> {
        self.compiled.get(expression)
    }

    /// A heartbeat says all that a group subscribes to. Every expression that can be used is registered, and the first that cannot is told.
    /// Java 5.3: `ConsumerFilterManager.register`, which passes over bad ones.
    pub(crate) fn register(
        &self,
        group: &str,
        subscriptions: &[SubscriptionData],
        now_ms: i64,
    ) -> Result<(), Unregistered> {
        let by_expression =
            |subscription: &&SubscriptionData| !is_by_tag(&subscription.expression_type);
        let mut wanted = subscriptions.iter().filter(by_expression).peekable();
        // Nearly every group.
        if wanted.peek().is_none() && !self.read().groups.contains_key(group) {
            return Ok(());
        }
        let mut outcome = Ok(());
        for subscription in wanted {
            let registered = self.register_one(group, subscription, now_ms);
            outcome = outcome.and(registered.map_err(|reason| Unregistered {
                group: group.to_owned(),
                topic: subscription.topic.clone(),
                reason,
            }));
        }
        let is_wanted = |topic: &str| {
            subscriptions
                .iter()
                .filter(by_expression)
                .any(|subscription| subscription.topic == topic)
        };
        let left = |table: &Table| {
            let topics = table.groups.get(group);
            topics.is_some_and(|topics| {
                topics
                    .iter()
                    .any(|(topic, entry)| entry.dead_ms.is_none() && !is_wanted(topic))
            })
        };
        if left(&self.read()) {
            let mut table = self.write();
            let topics = table.groups.get_mut(group).into_iter().flatten();
            for (_, entry) in topics.filter(|(topic, _)| !is_wanted(topic)) {
                entry.dead_ms.get_or_insert(now_ms);
            }
        }
        outcome
    }

    fn register_one(
        &self,
        group: &str,
        subscription: &SubscriptionData,
        now_ms: i64,
    ) -> Result<(), Reason> {
        let (topic, version) = (&subscription.topic, subscription.sub_version);
        let known = self.read().entry(group, topic).cloned();
        if let Some(known) = &known {
            let is_same = *known.expression == *subscription.sub_string;
            let is_new = match version.cmp(&known.version) {
                std::cmp::Ordering::Less => false,
                std::cmp::Ordering::Equal => is_same && known.dead_ms.is_some(),
                std::cmp::Ordering::Greater => true,
            };
            if !is_new {
                return Ok(());
            }
            if is_same {
                if let Some(entry) = self.write().entry_mut(group, topic) {
                    entry.version = entry.version.max(version);
                    entry.dead_ms = None;
                }
                return Ok(());
            }
            // What the group wanted before is not what it wants, whether that can be read or not.
            self.write().remove(group, topic);
        }
        if subscription.expression_type != SQL92 {
            return Err(Reason::Type(subscription.expression_type.clone()));
        }
        let filter = self.compiled.get(&subscription.sub_string)?;
        let entry = Entry {
            bytes: bytes_of(group, topic, &subscription.sub_string, &filter),
            expression: subscription.sub_string.as_str().into(),
            filter,
            version,
            born_ms: now_ms,
            dead_ms: None,
        };
        let fits = self.write().put(group, topic, entry);
        if fits { Ok(()) } else { Err(Reason::Full) }
    }

    /// Notes the death of groups that nobody is connected for, and forgets what has been dead for `kept_ms`
    /// (`filterDataCleanTimeSpan`).
    pub(crate) fn clean(&self, now_ms: i64, kept_ms: i64, is_connected: impl Fn(&str) -> bool) {
        let is_over = |entry: &Entry| {
            entry
                .dead_ms
                .is_some_and(|dead_ms| now_ms - dead_ms >= kept_ms)
        };
        let is_due = |group: &str, topics: &BTreeMap<String, Entry>| {
            topics
                .values()
                .any(|entry| is_over(entry) || entry.dead_ms.is_none() && !is_connected(group))
        };
        let due: Vec<String> = {
            let table = self.read();
            let due = table
                .groups
                .iter()
                .filter(|(group, topics)| is_due(group, topics));
            due.map(|(group, _)| group.clone()).collect()
        };
        if due.is_empty() {
            return;
        }
        let mut table = self.write();
        for group in due {
            let Some(topics) = table.groups.get_mut(&group) else {
                continue;
            };
            if !is_connected(&group) {
                for entry in topics.values_mut() {
                    entry.dead_ms.get_or_insert(now_ms);
                }
            }
            let over: Vec<String> = topics
                .iter()
                .filter(|(_, entry)| is_over(entry))
                .map(|(topic, _)| topic.clone())
                .collect();
            for topic in over {
                table.remove(&group, &topic);
            }
        }
    }

    /// Writes the file if anything changed since. Blocks.
    pub(crate) fn save(&self) -> io::Result<()> {
        if !self.changed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let table = file::File::of(&self.read().groups);
        let written = self.file().replace(&table);
        if written.is_err() {
            self.changed.store(true, Ordering::Release);
        }
        written
    }
}

fn bytes_of(group: &str, topic: &str, expression: &str, filter: &Filter) -> usize {
    ENTRY_BYTES + group.len() + topic.len() + expression.len() + filter.bytes()
}

impl Table {
    fn entry(&self, group: &str, topic: &str) -> Option<&Entry> {
        self.groups.get(group)?.get(topic)
    }

    fn entry_mut(&mut self, group: &str, topic: &str) -> Option<&mut Entry> {
        self.groups.get_mut(group)?.get_mut(topic)
    }

    /// Puts an entry in the place of an older one. False when there is no room.
    fn put(&mut self, group: &str, topic: &str, entry: Entry) -> bool {
        let before = self.entry(group, topic).map_or(0, |known| known.bytes);
        if self.bytes - before + entry.bytes > TABLE_BYTES_MAX {
            return false;
        }
        if self
            .entry(group, topic)
            .is_some_and(|known| known.version > entry.version)
        {
            return true;
        }
        self.bytes = self.bytes - before + entry.bytes;
        let topics = self.groups.entry(group.to_owned()).or_default();
        topics.insert(topic.to_owned(), entry);
        true
    }

    fn remove(&mut self, group: &str, topic: &str) {
        let Some(topics) = self.groups.get_mut(group) else {
            return;
        };
        if let Some(entry) = topics.remove(topic) {
            self.bytes -= entry.bytes;
        }
        if topics.is_empty() {
            self.groups.remove(group);
        }
    }
}

#[cfg(test)]
mod tests {
    use platform::disk::RealDisk;
    use tempfile::TempDir;

    use super::*;

    fn subscription(topic: &str, expression: &str, version: i64) -> SubscriptionData {
        SubscriptionData {
            topic: topic.to_owned(),
            sub_string: expression.to_owned(),
            expression_type: SQL92.to_owned(),
            sub_version: version,
            ..SubscriptionData::default()
        }
    }

    fn filters(dir: &TempDir) -> Filters {
        Filters::load(dir.path(), Arc::new(RealDisk), 1_000_000)
    }

    fn takes_one(filters: &Filters) -> bool {
        filters.get("g", "t").unwrap().filter.takes("a\u{1}1\u{2}")
    }

    #[test]
    fn the_newest_version_counts() {
        let dir = TempDir::new().unwrap();
        let filters = filters(&dir);
        filters
            .register("g", &[subscription("t", "a = 1", 5)], 10)
            .unwrap();
        filters
            .register("g", &[subscription("t", "a = 2", 4)], 11)
            .unwrap();
        assert!(takes_one(&filters));
        filters
            .register("g", &[subscription("t", "a = 2", 6)], 12)
            .unwrap();
        assert!(!takes_one(&filters));
        filters
            .register("g", &[subscription("t", "a = 2", 7)], 13)
            .unwrap();
        assert_eq!(filters.get("g", "t").unwrap().version, 7);
    }

    #[test]
    fn a_bad_expression_takes_the_place_of_none_and_leaves_others_alone() {
        let dir = TempDir::new().unwrap();
        let filters = filters(&dir);
        filters
            .register(
                "g",
                &[subscription("t", "a = 1", 1), subscription("u", "a = 1", 1)],
                10,
            )
            .unwrap();
        let both = [subscription("t", "a ==", 2), subscription("u", "b = 1", 2)];
        let refused = filters.register("g", &both, 11).unwrap_err();
        assert!(
            refused.to_string().contains("line 1, column 4"),
            "{refused}"
        );
        assert!(filters.get("g", "t").is_none());
        assert_eq!(filters.get("g", "u").unwrap().version, 2);
    }

    #[test]
    fn what_nobody_wants_any_more_goes_after_its_time() {
        let dir = TempDir::new().unwrap();
        let filters = filters(&dir);
        filters
            .register(
                "g",
                &[subscription("t", "a = 1", 1), subscription("u", "a = 1", 1)],
                10,
            )
            .unwrap();
        filters
            .register("g", &[subscription("u", "a = 1", 1)], 20)
            .unwrap();
        filters.clean(119, 100, |_| true);
        assert!(filters.get("g", "t").is_some());
        filters.clean(120, 100, |_| true);
        assert!(filters.get("g", "t").is_none() && filters.get("g", "u").is_some());
        filters.clean(130, 100, |_| false);
        filters
            .register("g", &[subscription("u", "a = 1", 1)], 140)
            .unwrap();
        filters.clean(235, 100, |_| true);
        assert!(filters.get("g", "u").is_some(), "it lives again");
        filters.clean(240, 100, |_| false);
        filters.clean(340, 100, |_| false);
        assert!(filters.get("g", "u").is_none());
        assert_eq!(filters.read().bytes, 0);
    }

    #[test]
    fn the_file_is_javas_and_carries_filters_over_a_restart() {
        let dir = TempDir::new().unwrap();
        let written = filters(&dir);
        written
            .register("g", &[subscription("t", "a = 1", 7)], 2_000_000)
            .unwrap();
        written.save().unwrap();
        let text = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        let text: String = text.split_whitespace().collect();
        let want = r#"{"filterDataByTopic":{"t":{"groupFilterData":{"g":{"bornTime":2000000,"clientVersion":7,"consumerGroup":"g","deadTime":0,"expression":"a=1","expressionType":"SQL92","topic":"t"}},"topic":"t"}}"#;
        assert!(text.starts_with(want), "{text}");
        let read = Filters::load(dir.path(), Arc::new(RealDisk), 2_010_000);
        assert_eq!(read.get("g", "t").unwrap().version, 7);
        assert!(takes_one(&read));
        // Dead since its birth: thirty seconds before the start lie before that.
        read.clean(2_000_100, 100, |_| true);
        assert!(read.get("g", "t").is_none());
    }

    #[test]
    fn a_file_of_javas_is_read() {
        let dir = TempDir::new().unwrap();
        std::fs::write(
            dir.path().join(FILE),
            r#"{"filterDataByTopic":{"t":{"groupFilterData":{
                "g":{"bloomFilterData":{"bitNum":112,"bitPos":[1,2,3]},"bornTime":5,"clientVersion":3,"consumerGroup":"g","dead":true,"deadTime":9,"expression":"a = 1","expressionType":"SQL92","topic":"t"},
                "h":{"bornTime":5,"clientVersion":3,"consumerGroup":"h","deadTime":0,"expression":"a = 1 rubbish","expressionType":"SQL92","topic":"t"}
            },"topic":"t"}}}"#,
        )
        .unwrap();
        let filters = filters(&dir);
        assert!(takes_one(&filters));
        assert!(
            filters.get("h", "t").is_none(),
            "Java passes over what stands behind an expression"
        );
        assert!(filters.read().groups["g"]["t"].dead_ms == Some(9));
    }

    #[test]
    fn a_full_table_refuses() {
        let dir = TempDir::new().unwrap();
        let filters = filters(&dir);
        filters.write().bytes = TABLE_BYTES_MAX - 10;
        let refused = filters
            .register("g", &[subscription("t", "a = 1", 5)], 10)
            .unwrap_err();
        assert!(refused.reason == Reason::Full, "{refused}");
    }
}
