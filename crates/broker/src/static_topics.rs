//! Static topics: the number of their queues stays as it is while brokers come and go. Queues have global numbers, of which each broker has some; a
//! mapping, kept in `config/topicQueueMapping.json`, says under which number one lies here. Java 5.3.4: `TopicQueueMappingManager`.
//!
//! Only queues that lie here from their first message on are served, so their offsets are what they are. One that was moved to or from another broker
//! (`remappingStaticTopic`) needs both to serve it, and is refused.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use platform::disk::Disk;
use protocol::body::{
    DataVersion, LogicQueueMappingItem, TopicQueueMappingDetail, TopicQueueMappingInfo,
    TopicQueueMappingSerializeWrapper,
};
use protocol::code::ResponseCode;

use crate::call::Refusal;
use crate::persist::{self, JsonFile, LoadError};

/// The file.
const FILE: &str = "topicQueueMapping.json";
/// The scope of mappings that name none. Java 5.3.4: `MixAll.METADATA_SCOPE_GLOBAL`.
const SCOPE: &str = "__global__";

/// The mappings of all static topics.
#[derive(Debug)]
pub(crate) struct StaticTopics {
    table: RwLock<Table>,
    /// Whether there is any: most brokers have none, and look no further.
    is_used: AtomicBool,
    file: JsonFile,
}

#[derive(Debug)]
struct Table {
    mappings: BTreeMap<String, Arc<TopicQueueMappingDetail>>,
    version: DataVersion,
}

impl StaticTopics {
    /// What `topicQueueMapping.json` in `dir` holds; nothing when there is no such file. Reads it.
    pub(crate) fn load(dir: &Path, disk: Arc<dyn Disk>) -> Result<StaticTopics, LoadError> {
        let file = JsonFile::new(dir.join(FILE), disk);
        let found: Option<TopicQueueMappingSerializeWrapper> = file.load()?;
        let (mappings, version) = match found {
            Some(found) => (found.topic_queue_mapping_info_map, found.data_version),
            None => (BTreeMap::new(), persist::first_version()),
        };
        let mappings = mappings.into_iter().map(|(topic, mut mapping)| {
            mapping.topic.clone_from(&topic);
            (topic, Arc::new(mapping))
        });
        let mappings: BTreeMap<_, _> = mappings.collect();
        Ok(StaticTopics {
            is_used: AtomicBool::new(!mappings.is_empty()),
            table: RwLock::new(Table { mappings, version }),
            file,
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The mapping of a topic; none when it is not static.
    pub(crate) fn get(&self, topic: &str) -> Option<Arc<TopicQueueMappingDetail>> {
        if !self.is_used.load(Ordering::Relaxed) {
            return None;
        }
        self.read().mappings.get(topic).cloned()
    }

    /// The number under which a queue lies here that a client names: another one only where the topic is static. A negative number, by which a
    /// sender leaves the choice to the broker, stays.
    ///
    /// # Errors
    /// NOT_LEADER_FOR_QUEUE: the queue lies on another broker, or partly does.
    pub(crate) fn physical(&self, topic: &str, queue_id: i32) -> Result<i32, Refusal> {
        let Some(mapping) = self.get(topic).filter(|_| queue_id >= 0) else {
            return Ok(queue_id);
        };
        let not_leader = |why: &str| {
            Refusal::new(
                ResponseCode::NOT_LEADER_FOR_QUEUE,
                format!(
                    "{topic}-{queue_id} {why}, current broker {}",
                    mapping.broker_name
                ),
            )
        };
        match mapping.hosted_queues.get(&queue_id).map(Vec::as_slice) {
            Some([item]) if is_whole(item, &mapping.broker_name) => Ok(item.queue_id),
            Some([.., _]) => Err(not_leader(
                "was moved between brokers, which this broker does not serve",
            )),
            Some([]) | None => Err(not_leader("does not exist in request process")),
        }
    }

    /// The number by which clients know a queue that lies here under this one.
    pub(crate) fn global(&self, topic: &str, queue_id: i32) -> i32 {
        let Some(mapping) = self.get(topic) else {
            return queue_id;
        };
        let ids = ids(&mapping);
        let known = ids.iter().find(|(_, physical)| **physical == queue_id);
        known.map_or(queue_id, |(global, _)| *global)
    }

    /// Whether a mapping may take the place of the one that there is. Java 5.3.4: `TopicQueueMappingManager.updateTopicQueueMapping`.
    pub(crate) fn check(
        &self,
        mapping: &TopicQueueMappingDetail,
        broker_name: &str,
        force: bool,
    ) -> Result<(), Refusal> {
        let invalid = |remark: String| Err(Refusal::system_error(remark));
        if mapping.broker_name != broker_name {
            return invalid(format!(
                "the mapping is that of broker {}, this one is {broker_name}",
                mapping.broker_name
            ));
        }
        for (queue_id, items) in &mapping.hosted_queues {
            if !matches!(items.as_slice(), [item] if is_whole(item, broker_name)) {
                return invalid(format!(
                    "queue {queue_id} of {} is moved between brokers; this broker serves static topics whose queues stay where they are",
                    mapping.topic
                ));
            }
        }
        let Some(old) = self.get(&mapping.topic).filter(|_| !force) else {
            return Ok(());
        };
        if mapping.epoch < old.epoch {
            return invalid(format!(
                "Can't accept data with small epoch {} < {}",
                mapping.epoch, old.epoch
            ));
        }
        if mapping.epoch == old.epoch {
            let lost = |id: &&i32| !mapping.hosted_queues.contains_key(id);
            if old.hosted_queues.keys().find(lost).is_some() {
                return invalid("Cannot accept equal epoch with null data".to_owned());
            }
        }
        let moved = old.hosted_queues.iter().find(|(queue_id, items)| {
            let renewed = mapping.hosted_queues.get(queue_id);
            renewed.is_some_and(|renewed| place(renewed) != place(items))
        });
        match moved {
            Some((queue_id, _)) => invalid(format!(
                "queue {queue_id} of {} lies in another place by this mapping; the place of a queue is immutable",
                mapping.topic
            )),
            None => Ok(()),
        }
    }

    /// Takes over a mapping that was checked; queues that it does not name stay as they are. On return it survives loss of power; on an error it holds until
    /// the next start. Blocks.
    pub(crate) fn put(&self, mut mapping: TopicQueueMappingDetail) -> io::Result<()> {
        // Held while the file is written: writers take turns, and readers wait for one small file.
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = table.mappings.get(&mapping.topic) {
            for (queue_id, items) in &old.hosted_queues {
                let kept = mapping.hosted_queues.entry(*queue_id);
                kept.or_insert_with(|| items.clone());
            }
        }
        mapping.scope.get_or_insert_with(|| SCOPE.to_owned());
        table
            .mappings
            .insert(mapping.topic.clone(), Arc::new(mapping));
        self.is_used.store(true, Ordering::Relaxed);
        self.save(&mut table)
    }

    /// Forgets the mapping of a topic that is deleted. Blocks, when there is one.
    pub(crate) fn delete(&self, topic: &str) -> io::Result<()> {
        if self.get(topic).is_none() {
            return Ok(());
        }
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.mappings.remove(topic);
        self.save(&mut table)
    }

    fn save(&self, table: &mut Table) -> io::Result<()> {
        persist::next_version(&mut table.version);
        self.file.replace(&wrapper(table))
    }

    /// Everything, as the file and slaves hold it.
    pub(crate) fn snapshot(&self) -> TopicQueueMappingSerializeWrapper {
        wrapper(&self.read())
    }

    /// What name servers are told of a topic; none when it is not static.
    pub(crate) fn info(&self, topic: &str) -> Option<TopicQueueMappingInfo> {
        let mapping = self.get(topic)?;
        Some(TopicQueueMappingInfo {
            broker_name: mapping.broker_name.clone(),
            curr_id_map: ids(&mapping),
            dirty: mapping.dirty,
            epoch: mapping.epoch,
            scope: Some(mapping.scope.clone().unwrap_or_else(|| SCOPE.to_owned())),
            topic: topic.to_owned(),
            total_queues: mapping.total_queues,
        })
    }
}

fn wrapper(table: &Table) -> TopicQueueMappingSerializeWrapper {
    let mappings = table.mappings.iter();
    TopicQueueMappingSerializeWrapper {
        data_version: table.version.clone(),
        topic_queue_mapping_info_map: mappings
            .map(|(topic, mapping)| (topic.clone(), TopicQueueMappingDetail::clone(mapping)))
            .collect(),
    }
}

/// Whether a queue lies on this broker from its first message on.
fn is_whole(item: &LogicQueueMappingItem, broker_name: &str) -> bool {
    item.broker_name == broker_name
        && item.queue_id >= 0
        && (item.logic_offset, item.start_offset, item.end_offset) == (0, 0, -1)
}

fn place(items: &[LogicQueueMappingItem]) -> Option<(&str, i32)> {
    let item = items.last()?;
    Some((&item.broker_name, item.queue_id))
}

/// The queues that this broker leads: global number → number here.
fn ids(mapping: &TopicQueueMappingDetail) -> BTreeMap<i32, i32> {
    let queues = mapping.hosted_queues.iter();
    let led = queues.filter_map(|(global, items)| {
        let item = items.last()?;
        (item.broker_name == mapping.broker_name).then_some((*global, item.queue_id))
    });
    led.collect()
}

#[cfg(test)]
mod tests {
    use platform::disk::RealDisk;

    use super::*;

    fn mapping(epoch: i64, queues: &[(i32, i32)]) -> TopicQueueMappingDetail {
        let items = queues.iter().map(|&(global, queue_id)| {
            let item = LogicQueueMappingItem {
                broker_name: "b".to_owned(),
                queue_id,
                ..LogicQueueMappingItem::default()
            };
            (global, vec![item])
        });
        TopicQueueMappingDetail {
            broker_name: "b".to_owned(),
            topic: "T".to_owned(),
            epoch,
            total_queues: 10,
            hosted_queues: items.collect(),
            ..TopicQueueMappingDetail::default()
        }
    }

    #[test]
    fn queues_are_found_by_their_global_numbers_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let load = || StaticTopics::load(dir.path(), Arc::new(RealDisk)).unwrap();
        let topics = load();
        assert_eq!(topics.physical("T", 7).unwrap(), 7);
        topics.put(mapping(1, &[(7, 0), (9, 1)])).unwrap();
        for topics in [topics, load()] {
            assert_eq!(topics.physical("T", 9).unwrap(), 1);
            assert_eq!(topics.physical("T", -1).unwrap(), -1);
            assert_eq!(topics.physical("U", 9).unwrap(), 9);
            assert_eq!(topics.global("T", 1), 9);
            let refused = topics.physical("T", 1).unwrap_err();
            assert_eq!(refused.code, ResponseCode::NOT_LEADER_FOR_QUEUE);
            let info = topics.info("T").unwrap();
            assert_eq!(info.curr_id_map, BTreeMap::from([(7, 0), (9, 1)]));
            assert_eq!(info.scope.as_deref(), Some("__global__"));
        }
        let topics = load();
        topics.delete("T").unwrap();
        assert_eq!(load().physical("T", 1).unwrap(), 1);
    }

    #[test]
    fn a_mapping_that_goes_back_or_moves_a_queue_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let topics = StaticTopics::load(dir.path(), Arc::new(RealDisk)).unwrap();
        topics.put(mapping(5, &[(0, 0), (1, 1)])).unwrap();
        let check = |mapping: &TopicQueueMappingDetail| topics.check(mapping, "b", false);
        assert!(check(&mapping(5, &[(0, 0), (1, 1), (2, 2)])).is_ok());
        assert!(check(&mapping(6, &[(2, 2)])).is_ok());
        assert!(check(&mapping(4, &[(0, 0), (1, 1)])).is_err());
        assert!(check(&mapping(5, &[(0, 0)])).is_err());
        assert!(check(&mapping(6, &[(0, 3)])).is_err());
        let mut other = mapping(6, &[(0, 0)]);
        other.broker_name = "c".to_owned();
        assert!(check(&other).is_err());
        let mut moved = mapping(6, &[(0, 0)]);
        moved.hosted_queues.get_mut(&0).unwrap()[0].logic_offset = 100;
        assert!(check(&moved).is_err());
        // What a later mapping does not name stays.
        topics.put(mapping(6, &[(2, 2)])).unwrap();
        assert_eq!(topics.physical("T", 1).unwrap(), 1);
    }
}
