//! `consumerOffset.json` as it is written and read.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::body::DataVersion;
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
}

impl Serialize for File {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut file = serializer.serialize_map(None)?;
        file.serialize_entry("dataVersion", &self.version)?;
        file.serialize_entry("offsetTable", &Entries(&self.entries))?;
        // Java does not know it, and reads over it.
        if !self.resets.is_empty() {
            file.serialize_entry("resetOffsetTable", &self.resets)?;
        }
        file.end()
    }
}

struct Entries<'a>(&'a [(Arc<str>, Arc<str>, Shared)]);

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(topic, group, queues)| {
            (format!("{topic}{SEPARATOR}{group}"), offsets_of(queues))
        }))
    }
}

/// The file as it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Loaded {
    pub(super) data_version: Option<DataVersion>,
    pub(super) offset_table: BTreeMap<String, Queues>,
    pub(super) reset_offset_table: BTreeMap<String, Queues>,
}
