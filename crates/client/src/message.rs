//! Messages as a program sees them: what it sends, what it receives, and what a broker said of a send.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use protocol::batch;
use protocol::light;
use protocol::properties::{self, Properties};
use protocol::record::{self, Record};
use protocol::sysflag;

use crate::compression;
use crate::request::REPLY;

/// What the flags of a record say when its body is a batch that the consumer takes apart.
const INNER: i32 = sysflag::INNER_BATCH | sysflag::NEED_UNWRAP;

/// A message to send.
///
/// ```
/// let message = client::Message::new("orders", "paid").tag("eu").key("order-17").property("region", "de");
/// assert_eq!(message.topic(), "orders");
/// ```
#[derive(Clone, Debug)]
pub struct Message {
    topic: String,
    body: Bytes,
    flag: i32,
    properties: Properties,
    keys: Vec<String>,
}

impl Message {
    /// A message of `topic` with these bytes.
    pub fn new(topic: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            body: body.into(),
            flag: 0,
            properties: Properties::default(),
            keys: Vec::new(),
        }
    }

    /// Sets the tag, by which consumers select messages.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.properties.insert(properties::TAGS, tag.into());
        self
    }

    /// Adds a key, by which the message can be found again.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.keys.push(key.into());
        self.properties
            .insert(properties::KEYS, self.keys.join(" "));
        self
    }

    /// Sets a property of the program's own.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let name: String = name.into();
        self.properties.insert(&name, value.into());
        self
    }

    /// Sets the program's own 32-bit flag, which brokers carry and never read.
    #[must_use]
    pub fn flag(mut self, flag: i32) -> Self {
        self.flag = flag;
        self
    }

    /// Delivers the message after the time of this delay level, 1 being the first; the broker's `messageDelayLevel` says how long. A level beyond the
    /// last counts as the last, 0 or less delivers at once. In a batch it is refused.
    #[must_use]
    pub fn delay_level(mut self, level: i32) -> Self {
        self.properties.insert(properties::DELAY, level.to_string());
        self
    }

    /// Delivers the message at this time, in milliseconds since 1970; a time that is over delivers at once. A broker refuses what lies further ahead than its
    /// `timerMaxDelaySec`. A [`delay_level`](Self::delay_level) overrules it. In a batch it is refused.
    #[must_use]
    pub fn deliver_at_ms(mut self, timestamp_ms: i64) -> Self {
        self.properties
            .insert(properties::TIMER_DELIVER_MS, timestamp_ms.to_string());
        self
    }

    /// Delivers the message so long after the broker took it, to the millisecond. See [`deliver_at_ms`](Self::deliver_at_ms), which it overrules.
    #[must_use]
    pub fn deliver_after(mut self, delay: Duration) -> Self {
        self.properties
            .insert(properties::TIMER_DELAY_MS, delay.as_millis().to_string());
        self
    }

    /// With `false` the broker answers before the message is on disk, whatever its flush mode.
    #[must_use]
    pub fn wait_for_store(mut self, wait: bool) -> Self {
        self.properties.insert(properties::WAIT, wait.to_string());
        self
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The body, uncompressed.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Whether it answers a request.
    pub(crate) fn is_reply(&self) -> bool {
        self.properties.get(properties::MESSAGE_TYPE) == Some(REPLY)
    }

    pub(crate) fn flag_value(&self) -> i32 {
        self.flag
    }

    pub(crate) fn tag_value(&self) -> &str {
        self.properties.get(properties::TAGS).unwrap_or_default()
    }

    pub(crate) fn keys_value(&self) -> &str {
        self.properties.get(properties::KEYS).unwrap_or_default()
    }

    /// Whether the message names a delay level.
    pub(crate) fn is_delayed(&self) -> bool {
        self.properties.get(properties::DELAY).is_some()
    }

    /// Whether the message belongs to a transaction.
    pub(crate) fn is_half(&self) -> bool {
        self.properties
            .get(properties::TRANSACTION_PREPARED)
            .is_some()
    }

    /// The property string with the unique id that identifies this send.
    pub(crate) fn encode_properties(&self, unique_id: &str) -> String {
        let mut all = self.properties.clone();
        if all.get(properties::UNIQ_KEY).is_none() {
            all.insert(properties::UNIQ_KEY, unique_id.to_owned());
        }
        all.encode()
    }
}

/// A queue of a topic on one broker.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageQueue {
    /// Topic.
    pub topic: String,
    /// Name of the broker, not its address.
    pub broker_name: String,
    /// Index of the queue on that broker.
    pub queue_id: i32,
}

impl fmt::Display for MessageQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}", self.topic, self.broker_name, self.queue_id)
    }
}

impl From<protocol::body::MessageQueue> for MessageQueue {
    fn from(queue: protocol::body::MessageQueue) -> Self {
        Self {
            topic: queue.topic,
            broker_name: queue.broker_name,
            queue_id: queue.queue_id,
        }
    }
}

impl From<MessageQueue> for protocol::body::MessageQueue {
    fn from(queue: MessageQueue) -> Self {
        Self::new(queue.topic, queue.broker_name, queue.queue_id)
    }
}

/// What the broker guarantees of an accepted message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendStatus {
    /// Stored as the broker's configuration promises.
    SendOk,
    /// Stored, not known to be on disk in time.
    FlushDiskTimeout,
    /// Stored, not known to be on a replica in time.
    FlushSlaveTimeout,
    /// Stored, and no replica was there to take it.
    SlaveNotAvailable,
}

/// The broker's answer to a send.
#[derive(Clone, Debug)]
pub struct SendReceipt {
    /// What is guaranteed.
    pub status: SendStatus,
    /// The id that the client gave the message (property `UNIQ_KEY`).
    pub message_id: String,
    /// The id that says where it lies: address and physical offset. Comma-joined for a batch.
    pub offset_message_id: String,
    /// Where it went.
    pub queue: MessageQueue,
    /// Its offset in that queue; of a batch, the first. Of a message that is delivered later, its offset among those.
    pub queue_offset: i64,
    /// By which [`Producer::recall`](crate::Producer::recall) takes back a message with a deliver time, until then.
    pub recall_handle: Option<String>,
}

/// A message as a broker delivered it.
#[derive(Clone, Debug)]
pub struct Received {
    /// The topic that it was sent to. A redelivered message comes from a queue of its group's retry topic.
    pub topic: String,
    /// The queue that it came from.
    pub queue: MessageQueue,
    /// Its offset there.
    pub queue_offset: i64,
    /// Where its record begins in the broker's commit log.
    pub physical_offset: i64,
    /// The client's id, or the broker's when the client gave none.
    pub message_id: String,
    /// The broker's id: address and physical offset.
    pub offset_message_id: String,
    /// When the producer made it, ms since 1970.
    pub born_timestamp_ms: i64,
    /// When the broker stored it, ms since 1970.
    pub store_timestamp_ms: i64,
    /// How often it was delivered before and not consumed.
    pub reconsume_times: i32,
    /// The producer's own flag.
    pub flag: i32,
    /// System flags as stored.
    pub sys_flag: i32,
    /// The body, decompressed.
    pub body: Bytes,
    properties: String,
}

impl Received {
    /// Reads the messages of a pull's body, which is a row of store records.
    ///
    /// # Errors
    /// The first record that cannot be read, in words; the caller treats the pull as failed.
    pub(crate) fn decode_all(queue: &MessageQueue, body: &Bytes) -> Result<Vec<Self>, String> {
        let mut messages = Vec::new();
        let mut rest = body.clone();
        while !rest.is_empty() {
            let record = record::decode(&rest, record::CheckBody::Yes)
                .map_err(|e| format!("a record from {queue} cannot be read: {e}"))?;
            let size = record.size as usize;
            let mut message = Self::from_record(queue, &record, &rest)?;
            message.queue_offset = message.offset_in(&queue.topic);
            if message.sys_flag & INNER == INNER {
                message.unwrap_into(&mut messages)?;
            } else {
                messages.push(message);
            }
            rest = rest.slice(size..);
        }
        Ok(messages)
    }

    /// Takes a decoded record that lies in `buffer`; the body shares its allocation unless it was compressed.
    pub(crate) fn from_record(
        queue: &MessageQueue,
        record: &Record<'_>,
        buffer: &Bytes,
    ) -> Result<Self, String> {
        let raw = buffer.slice_ref(record.body);
        let body = if record.sys_flag & sysflag::COMPRESSED != 0 {
            compression::decompress(record.sys_flag, &raw)?
        } else {
            raw
        };
        let offset_message_id =
            protocol::message_id::encode_offset_id(record.store_host, record.physical_offset);
        let message_id = properties::get(record.properties, properties::UNIQ_KEY)
            .map_or_else(|| offset_message_id.clone(), str::to_owned);
        Ok(Self {
            topic: record.topic.to_owned(),
            queue: queue.clone(),
            queue_offset: record.queue_offset as i64,
            physical_offset: record.physical_offset as i64,
            message_id,
            offset_message_id,
            born_timestamp_ms: record.born_timestamp_ms,
            store_timestamp_ms: record.store_timestamp_ms,
            reconsume_times: record.reconsume_times,
            flag: record.flag,
            sys_flag: record.sys_flag,
            body,
            properties: record.properties.to_owned(),
        })
    }

    /// Its offset in the queue of `topic` that it was read from: it may lie in light queues beside the queue of its own topic.
    pub(crate) fn offset_in(&self, topic: &str) -> i64 {
        if !light::is_light(topic) {
            return self.queue_offset;
        }
        let list = |name| self.property(name).unwrap_or("");
        let names = list(properties::INNER_MULTI_DISPATCH);
        let offsets = list(properties::INNER_MULTI_QUEUE_OFFSET);
        let mut places = light::places(names, offsets);
        let found = places.find(|(name, _)| *name == topic);
        found.map_or(self.queue_offset, |(_, offset)| offset as i64)
    }

    /// Takes a batch apart that lies in one record. Its messages have all of it in common but their offsets, flags, bodies and properties.
    /// Java 5.3.4: `MessageDecoder.decodeMessage`.
    fn unwrap_into(self, messages: &mut Vec<Self>) -> Result<(), String> {
        for (item, queue_offset) in batch::items(&self.body).zip(self.queue_offset..) {
            let item = item
                .map_err(|error| format!("a batch from {} cannot be read: {error}", self.queue))?;
            let message_id = properties::get(item.properties, properties::UNIQ_KEY)
                .unwrap_or(&self.offset_message_id);
            messages.push(Self {
                queue_offset,
                flag: item.flag,
                body: self.body.slice_ref(item.body),
                message_id: message_id.to_owned(),
                properties: item.properties.to_owned(),
                topic: self.topic.clone(),
                queue: self.queue.clone(),
                offset_message_id: self.offset_message_id.clone(),
                ..self
            });
        }
        Ok(())
    }

    /// A property by name.
    pub fn property(&self, name: &str) -> Option<&str> {
        properties::get(&self.properties, name)
    }

    /// The properties as they are stored.
    pub(crate) fn property_string(&self) -> &str {
        &self.properties
    }

    /// All properties, the system's among them.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        properties::iter(&self.properties)
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        self.property(properties::TAGS)
    }

    /// The keys, separated by one space.
    pub fn keys(&self) -> Option<&str> {
        self.property(properties::KEYS)
    }
}
