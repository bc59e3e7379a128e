//! `consumerFilter.json` as Java 5.3 has it (`ConsumerFilterManager`), without the bits of its bloom filter: a Java broker that misses
//! them drops the file's filters and waits for heartbeats.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::{Entry, SQL92};

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct File {
    filter_data_by_topic: BTreeMap<String, OfTopic>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OfTopic {
    group_filter_data: BTreeMap<String, FilterData>,
    topic: String,
}

/// Java's `ConsumerFilterData`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FilterData {
    pub(super) born_time: i64,
    pub(super) client_version: i64,
    pub(super) consumer_group: String,
    /// Before `born_time`: it lives.
    pub(super) dead_time: i64,
    pub(super) expression: String,
    expression_type: String,
    pub(super) topic: String,
}

impl FilterData {
    pub(super) fn is_dead(&self) -> bool {
        self.dead_time >= self.born_time
    }
}

impl File {
    pub(super) fn of(groups: &HashMap<String, BTreeMap<String, Entry>>) -> File {
        let mut file = File::default();
        for (group, topics) in groups {
            for (topic, entry) in topics {
                let data = FilterData {
                    born_time: entry.born_ms,
                    client_version: entry.version,
                    consumer_group: group.clone(),
                    dead_time: entry.dead_ms.unwrap_or(0),
                    expression: entry.expression.as_ref().to_owned(),
                    expression_type: SQL92.to_owned(),
                    topic: topic.clone(),
                };
                let of_topic = file.filter_data_by_topic.entry(topic.clone()).or_default();
                of_topic.topic.clone_from(topic);
                of_topic.group_filter_data.insert(group.clone(), data);
            }
        }
        file
    }

    /// Every entry that says what it is.
    pub(super) fn into_entries(self) -> impl Iterator<Item = FilterData> {
        let topics = self.filter_data_by_topic.into_iter();
        let entries = topics.flat_map(|(topic, of_topic)| {
            of_topic
                .group_filter_data
                .into_iter()
                .map(move |(group, data)| FilterData {
                    consumer_group: group,
                    topic: topic.clone(),
                    ..data
                })
        });
        entries.filter(|data| data.expression_type == SQL92)
    }
}
