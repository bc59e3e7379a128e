//! What a Java broker left in its revive topic: checkpoints of pops and acknowledgements of them, in a directory that changed sides.
//!
//! A Java broker moves a group's offset when messages are popped, and keeps in this topic what is not acknowledged. Its timers deliver a checkpoint
//! a second before it is due, and the acknowledgements when it is. Whatever is not acknowledged then is stored again, as messages are that were popped
//! here. The group's offset in the topic stays before the first checkpoint that is open. Java 5.3.4: `PopReviveService`, `PopCheckPoint`, `AckMsg`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use protocol::properties::{self as names};
use protocol::record::{self, CheckBody, Record};
use protocol::{json, topic};
use serde::Deserialize;
use storage::{Read, ReadMode, ReadStatus};

use super::Queue;
use super::in_flight::Expired;
use super::revive::store_again;
use crate::Broker;

/// Whose offsets say how far the topic is worked off.
const GROUP: &str = "CID_RMQ_SYS_REVIVE_GROUP";
/// How long acknowledgements may come behind the time of their checkpoint: Java's timers tick once a second.
const GRACE_MS: i64 = 5_000;
/// How often the topic is looked at: nothing here writes to it but the timers that a Java broker left.
const LOOK: Duration = Duration::from_secs(2);
/// Checkpoints of a queue that are held at the same time. More are read later.
const OPEN_MAX: usize = 100_000;
/// Records of one read.
const READ_MESSAGES: usize = 256;
const READ_BYTES: usize = 1 << 20;

/// A checkpoint as Java writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CheckPoint {
    #[serde(rename = "so")]
    start_offset: i64,
    #[serde(rename = "pt")]
    popped_ms: i64,
    #[serde(rename = "it")]
    invisible_ms: i64,
    /// Messages that are acknowledged, by their places.
    #[serde(rename = "bm")]
    bits: i32,
    #[serde(rename = "n")]
    count: i32,
    #[serde(rename = "q")]
    queue_id: i32,
    #[serde(rename = "t")]
    topic: String,
    #[serde(rename = "c")]
    group: String,
    /// Distances of the messages from the start; none when they follow one another.
    #[serde(rename = "d")]
    distances: Option<Vec<i64>>,
}

/// An acknowledgement, or several.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Acknowledgement {
    #[serde(rename = "ao", alias = "ackOffset")]
    offset: i64,
    #[serde(rename = "aol", alias = "ackOffsetList")]
    offsets: Vec<i64>,
    #[serde(rename = "so", alias = "startOffset")]
    start_offset: i64,
    #[serde(rename = "c", alias = "consumerGroup")]
    group: String,
    #[serde(rename = "t", alias = "topic")]
    topic: String,
    #[serde(rename = "q", alias = "queueId")]
    queue_id: i32,
    #[serde(rename = "pt", alias = "popTime")]
    popped_ms: i64,
}

/// Group, topic, queue, start, time of the pop.
type Key = (String, String, i32, i64, i64);

/// A checkpoint that waits for its time.
#[derive(Debug)]
struct Open {
    /// Its place in the revive topic.
    place: i64,
    due_ms: i64,
    popped_ms: i64,
    missing: BTreeSet<i64>,
}

/// One queue of the revive topic. Plain values but for reading.
#[derive(Debug)]
struct Reviver {
    queue_id: i32,
    /// The next record.
    next: i64,
    open: BTreeMap<Key, Open>,
}

/// The task that works off the topic, for as long as the broker runs.
pub(crate) async fn run(broker: Arc<Broker>) {
    let name = format!("{}{}", topic::REVIVE_LOG_PREFIX, broker.identity().cluster);
    let mut revivers: Vec<Reviver> = Vec::new();
    loop {
        for queue_id in broker.store.queues_of(&name) {
            if !revivers.iter().any(|reviver| reviver.queue_id == queue_id) {
                // Java keeps the last record that is done, not the next one.
                let done = broker.offsets.query(GROUP, &name, queue_id);
                revivers.push(Reviver {
                    queue_id,
                    next: done.map_or(0, |done| done.saturating_add(1)),
                    open: BTreeMap::new(),
                });
            }
        }
        let has_work = revivers.iter().any(|reviver| {
            let end = broker.store.max_offset(&name, reviver.queue_id) as i64;
            !reviver.open.is_empty() || reviver.next < end
        });
        if has_work {
            let (turning, name) = (broker.clone(), name.clone());
            let turned = tokio::task::spawn_blocking(move || {
                for reviver in &mut revivers {
                    reviver.turn(&turning, &name);
                }
                revivers
            });
            match turned.await {
                Ok(back) => revivers = back,
                Err(error) => {
                    tracing::error!(%error, "working off the checkpoints of a Java broker failed");
                    revivers = Vec::new();
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Reviver {
    fn turn(&mut self, broker: &Broker, name: &str) {
        if let Err(error) = self.read(broker, name) {
            tracing::error!(queue_id = self.queue_id, %error, "the checkpoints of a Java broker cannot be read; trying again");
            return;
        }
        let due: Vec<Key> = self
            .open
            .iter()
            .filter(|(_, open)| open.due_ms.saturating_add(GRACE_MS) <= broker.now_ms())
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            self.close(broker, &key);
        }
        let first = self.open.values().map(|open| open.place).min();
        let done = first.unwrap_or(self.next) - 1;
        let known = broker.offsets.query(GROUP, name, self.queue_id);
        if done >= 0 && known.is_none_or(|known| known < done) {
            broker.offsets.commit(GROUP, name, self.queue_id, done);
        }
    }

    fn read(&mut self, broker: &Broker, name: &str) -> Result<(), storage::ReadError> {
        while self.open.len() < OPEN_MAX {
            let end = broker.store.max_offset(name, self.queue_id) as i64;
            if self.next >= end {
                return Ok(());
            }
            let read = Read {
                topic: name,
                queue_id: self.queue_id,
                offset: self.next,
                messages_max: READ_MESSAGES,
                bytes_max: READ_BYTES,
                filter: &|_| true,
            };
            let result = broker.store.read(&read, ReadMode::Blocking)?;
            if result.status == ReadStatus::Found {
                for bytes in &result.records {
                    if let Ok(record) = record::decode(bytes, CheckBody::Yes) {
                        self.take(&record);
                    }
                }
            }
            self.next = result.next_from(self.next);
        }
        Ok(())
    }

    /// Takes note of a record. One that cannot be understood is passed over, as in Java.
    fn take(&mut self, record: &Record<'_>) {
        let place = record.queue_offset as i64;
        match names::get(record.properties, names::TAGS) {
            Some("ck") => match json::decode::<CheckPoint>(record.body) {
                Ok(point) => self.open(point, place),
                Err(error) => tracing::warn!(place, %error, "a checkpoint cannot be read"),
            },
            Some("ack" | "bAck") => match json::decode::<Acknowledgement>(record.body) {
                Ok(acknowledgement) => self.acknowledge(acknowledgement),
                Err(error) => tracing::warn!(place, %error, "an acknowledgement cannot be read"),
            },
            _ => {}
        }
    }

    fn open(&mut self, point: CheckPoint, place: i64) {
        let distances = match point.distances {
            Some(distances) if !distances.is_empty() => distances,
            _ => (0..i64::from(point.count)).collect(),
        };
        let is_missing = |index: usize| index >= 32 || point.bits & (1 << index) == 0;
        let missing = distances
            .iter()
            .enumerate()
            .filter(|(index, _)| is_missing(*index))
            .map(|(_, distance)| point.start_offset.saturating_add(*distance));
        let open = Open {
            place,
            due_ms: point.popped_ms.saturating_add(point.invisible_ms),
            popped_ms: point.popped_ms,
            missing: missing.collect(),
        };
        let key = (
            point.group,
            point.topic,
            point.queue_id,
            point.start_offset,
            point.popped_ms,
        );
        self.open.insert(key, open);
    }

    fn acknowledge(&mut self, acknowledgement: Acknowledgement) {
        let key = (
            acknowledgement.group,
            acknowledgement.topic,
            acknowledgement.queue_id,
            acknowledgement.start_offset,
            acknowledgement.popped_ms,
        );
        let Some(open) = self.open.get_mut(&key) else {
            return;
        };
        open.missing.remove(&acknowledgement.offset);
        for offset in &acknowledgement.offsets {
            open.missing.remove(offset);
        }
        if open.missing.is_empty() {
            self.open.remove(&key);
        }
    }

    /// The time of a checkpoint is over: what is missing is stored again.
    fn close(&mut self, broker: &Broker, key: &Key) {
        let Some(open) = self.open.get_mut(key) else {
            return;
        };
        let (group, topic, queue_id, ..) = key;
        // What was deleted meanwhile is nobody's any more.
        let is_wanted = broker.topics.get(topic).is_some() && broker.groups.get(group).is_some();
        if is_wanted {
            let queue = Queue::apart(group, topic, *queue_id);
            let expired: Vec<Expired> = open
                .missing
                .iter()
                .map(|offset| Expired {
                    offset: *offset,
                    popped_ms: open.popped_ms,
                })
                .collect();
            match store_again(broker, &queue, &expired) {
                Ok(done) => done.iter().for_each(|offset| {
                    open.missing.remove(offset);
                }),
                Err(error) => {
                    tracing::error!(group, topic, queue_id, %error,
                        "messages that a Java broker handed out cannot be given back; trying again");
                }
            }
            broker.pop.waiting.wake(topic, Some(group));
        }
        if open.missing.is_empty() || !is_wanted {
            self.open.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reviver(records: &[(&str, &str)]) -> Reviver {
        let mut reviver = Reviver {
            queue_id: 0,
            next: 0,
            open: BTreeMap::new(),
        };
        for (place, (tag, body)) in records.iter().enumerate() {
            match *tag {
                "ck" => reviver.open(json::decode(body.as_bytes()).unwrap(), place as i64),
                _ => reviver.acknowledge(json::decode(body.as_bytes()).unwrap()),
            }
        }
        reviver
    }

    fn missing(reviver: &Reviver) -> Vec<Vec<i64>> {
        reviver
            .open
            .values()
            .map(|open| open.missing.iter().copied().collect())
            .collect()
    }

    const POINT: &str = r#"{"bm":0,"bn":"broker-a","c":"g","d":[0,1,3],"it":60000,"n":3,"pt":1000,"q":2,"ro":0,"so":10,"t":"t"}"#;

    #[test]
    fn acknowledgements_close_what_they_name() {
        let ack = r#"{"ao":11,"bn":"broker-a","c":"g","pt":1000,"q":2,"so":10,"t":"t"}"#;
        let open = reviver(&[("ck", POINT), ("ack", ack)]);
        assert_eq!(missing(&open), [[10, 13]]);
        let batch =
            r#"{"ao":-1,"aol":[10,13],"bn":"broker-a","c":"g","pt":1000,"q":2,"so":10,"t":"t"}"#;
        assert!(missing(&reviver(&[("ck", POINT), ("ack", ack), ("bAck", batch)])).is_empty());
        let other = ack.replace("1000", "1001");
        let open = reviver(&[("ck", POINT), ("ack", &other)]);
        assert_eq!(missing(&open), [[10, 11, 13]], "of another pop");
    }

    #[test]
    fn bits_and_runs_of_messages_are_understood() {
        let run = r#"{"bm":2,"c":"g","it":1,"n":3,"pt":1,"q":0,"so":5,"t":"t"}"#;
        assert_eq!(missing(&reviver(&[("ck", run)])), [[5, 7]]);
        let absurd = r#"{"d":[9223372036854775807],"n":1,"so":9223372036854775807,"pt":9223372036854775807,"it":1}"#;
        assert_eq!(missing(&reviver(&[("ck", absurd)])), [[i64::MAX]]);
    }
}
