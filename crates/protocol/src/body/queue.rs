//! A queue of a topic on a broker, as a value and as the key of a map.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::json;

/// One queue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MessageQueue {
    /// `brokerName`
    pub broker_name: String,
    /// `queueId`
    pub queue_id: i32,
    /// `topic`
    pub topic: String,
}

impl MessageQueue {
    /// The queue of a topic on a broker.
    pub fn new(topic: impl Into<String>, broker_name: impl Into<String>, queue_id: i32) -> Self {
        Self {
            topic: topic.into(),
            broker_name: broker_name.into(),
            queue_id,
        }
    }
}

/// A map whose keys are queues; Java writes such a key as an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueTable<V>(
    /// The map itself.
    pub BTreeMap<MessageQueue, V>,
);

impl<V> Default for QueueTable<V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<V> Deref for QueueTable<V> {
    type Target = BTreeMap<MessageQueue, V>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<V> DerefMut for QueueTable<V> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<V> FromIterator<(MessageQueue, V)> for QueueTable<V> {
    fn from_iter<I: IntoIterator<Item = (MessageQueue, V)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl<V: Serialize> Serialize for QueueTable<V> {
    /// The key is a text that holds the object; `json::encode` writes it without quotes.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (queue, value) in &self.0 {
            let key = String::from_utf8(json::encode(queue)).map_err(serde::ser::Error::custom)?;
            map.serialize_entry(&key, value)?;
        }
        map.end()
    }
}

/// A queue as a key: an object in a text, or the object itself.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key(MessageQueue);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a message queue")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Key, E> {
                json::decode(text.as_bytes()).map(Key).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Key, A::Error> {
                MessageQueue::deserialize(MapAccessDeserializer::new(map)).map(Key)
            }
        }
        deserializer.deserialize_any(KeyVisitor)
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for QueueTable<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = BTreeMap::<Key, V>::deserialize(deserializer)?;
        Ok(entries
            .into_iter()
            .map(|(Key(queue), value)| (queue, value))
            .collect())
    }
}
