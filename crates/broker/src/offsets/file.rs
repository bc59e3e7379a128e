//! `consumerOffset.json` as it is written and read.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::body::DataVersion;
use protocol::light;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::{Queues, SEPARATOR, Shared, offsets_of};

/// The table as the file holds it. Each entry is locked while it is written, so that commits go on meanwhile.
pub(super) struct File {
    pub(super) version: DataVersion,
    /// Topic, group, offsets.
    pub(super) entries: Vec<(Arc<str>, Arc<str>, Shared)>,
    /// Resets that consumers have not followed, by `topic@group`.
    pub(super) resets: BTreeMap<String, Queues>,
    /// Whether groups that bear the name of a light queue have a place of their own. Java 5.3.4: `LmqConsumerOffsetManager`.
    pub(super) light: bool,
}

/// Whether an entry has its place in `lmqOffsetTable`, which holds one offset for a topic and a group: that of queue 0.
fn is_light(group: &str, queues: &Shared) -> bool {
    light::is_light(group)
        && offsets_of(queues)
            .keys()
            .all(|queue_id| *queue_id == light::QUEUE_ID)
}

/// Topic and group of a key in `lmqOffsetTable`. Both may hold the separator.
pub(super) fn split_light(key: &str) -> Option<(&str, &str)> {
    let at = key.rfind(&format!("{SEPARATOR}{}", light::PREFIX))?;
    let (topic, group) = (&key[..at], &key[at + SEPARATOR.len_utf8()..]);
    (!topic.is_empty()).then_some((topic, group))
}

impl Serialize for File {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut file = serializer.serialize_map(None)?;
        file.serialize_entry("dataVersion", &self.version)?;
        if self.light {
            file.serialize_entry("lmqOffsetTable", &LightEntries(&self.entries))?;
        }
        file.serialize_entry("offsetTable", &Entries(self))?;
        // Java does not know it, and reads over it.
        if !self.resets.is_empty() {
            file.serialize_entry("resetOffsetTable", &self.resets)?;
        }
        file.end()
    }
}

struct Entries<'a>(&'a File);

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let File { entries, light, .. } = self.0;
        let entries = entries.iter();
        let entries = entries.filter(|(_, group, queues)| !(*light && is_light(group, queues)));
        serializer.collect_map(entries.map(|(topic, group, queues)| {
            (format!("{topic}{SEPARATOR}{group}"), offsets_of(queues))
        }))
    }
}

struct LightEntries<'a>(&'a [(Arc<str>, Arc<str>, Shared)]);

impl Serialize for LightEntries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entries = self.0.iter();
        let entries = entries.filter(|(_, group, queues)| is_light(group, queues));
        serializer.collect_map(entries.filter_map(|(topic, group, queues)| {
            let offset = *offsets_of(queues).get(&light::QUEUE_ID)?;
            Some((format!("{topic}{SEPARATOR}{group}"), offset))
        }))
    }
}

/// The file as it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Loaded {
    pub(super) data_version: Option<DataVersion>,
    pub(super) offset_table: BTreeMap<String, Queues>,
    pub(super) lmq_offset_table: BTreeMap<String, i64>,
    pub(super) reset_offset_table: BTreeMap<String, Queues>,
}

impl Loaded {
    /// Whether the other file was written later.
    pub(super) fn is_before(&self, other: &Loaded) -> bool {
        let written = |file: &Loaded| {
            let version = file.data_version.as_ref();
            version.map(|version| (version.timestamp, version.counter))
        };
        written(self) < written(other)
    }
}
