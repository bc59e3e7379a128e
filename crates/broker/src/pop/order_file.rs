//! `config/consumerOrderInfo.json`: which queues stand still for groups that pop in order, over restarts. Java 5.3.4: `ConsumerOrderInfoManager`.
//!
//! Written when something changed, as often as that may cost, and at the stop: Java's interval would let a crash set seconds of queues free.
//! What it lacks is popped again at once; what it says too much the group's offset knows better. Layout: `docs/formats/store.md`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use platform::disk::Disk;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::order::{Message, Order};
use super::pop_clock;
use crate::Broker;
use crate::persist::JsonFile;
use crate::requests::pop::{ATTEMPT_BYTES_MAX, INVISIBLE_MS_MAX};

const FILE: &str = "consumerOrderInfo.json";
/// What was popped before this time is not kept. Java 5.3.4: `ConsumerOrderInfoManager.CLEAN_SPAN_FROM_LAST`.
const KEPT_MS: i64 = 24 * 3_600_000;
/// Messages that one pop may have: Java has one bit of a number for each.
const MESSAGES_MAX: usize = i64::BITS as usize;

/// The file, and what a last life left in it.
#[derive(Debug)]
pub(crate) struct OrderFile {
    file: JsonFile,
    /// Until it is restored.
    found: Mutex<Content>,
    is_dirty: AtomicBool,
    changed: Notify,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Content {
    /// By `topic@group` and queue.
    table: BTreeMap<String, BTreeMap<i32, Info>>,
}

/// Java's `OrderInfo`: the messages of the last pop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Info {
    #[serde(rename = "a", skip_serializing_if = "Option::is_none")]
    attempt: Option<String>,
    /// A bit for each message that is acknowledged.
    #[serde(rename = "cm")]
    acknowledged: i64,
    #[serde(rename = "i")]
    invisible_ms: i64,
    /// When it was popped last; Java forgets it a day later.
    #[serde(rename = "l")]
    last_ms: i64,
    /// The first offset, and how far behind it the others lie.
    #[serde(rename = "o")]
    offsets: Vec<i64>,
    /// Offset → deliveries before this one, if any.
    #[serde(rename = "oc", skip_serializing_if = "BTreeMap::is_empty")]
    delivered: BTreeMap<i64, i32>,
    /// Offset → when it may be seen again, where that is not `popTime` + `i`.
    #[serde(rename = "ot", skip_serializing_if = "BTreeMap::is_empty")]
    visible_ms: BTreeMap<i64, i64>,
    #[serde(rename = "popTime")]
    popped_ms: i64,
}

/// One moment on both clocks, in ms: messages are due by one that does not jump, the file holds times of the wall.
#[derive(Clone, Copy, Debug)]
struct Moment {
    wall: i64,
    monotonic: i64,
}

impl Moment {
    fn of(broker: &Broker) -> Moment {
        Moment {
            wall: broker.now_ms(),
            monotonic: pop_clock(broker),
        }
    }

    fn to_wall(self, monotonic: i64) -> i64 {
        monotonic
            .saturating_sub(self.monotonic)
            .saturating_add(self.wall)
    }

    /// No further ahead than a pop may ask for, whatever the wall clock did meanwhile.
    fn to_monotonic(self, wall: i64) -> i64 {
        let left = wall.saturating_sub(self.wall).clamp(0, INVISIBLE_MS_MAX);
        self.monotonic.saturating_add(left)
    }
}

impl OrderFile {
    /// Reads the file in `dir`. One that cannot be understood is none: its messages are popped again at once.
    pub(crate) fn load(dir: &Path, disk: Arc<dyn Disk>) -> OrderFile {
        let file = JsonFile::new(dir.join(FILE), disk);
        let found = match file.load() {
            Ok(found) => found.unwrap_or_default(),
            Err(error) => {
                tracing::error!(%error, "which queues stand still for consumers in order is not known; they go on at once");
                Content::default()
            }
        };
        OrderFile {
            file,
            found: Mutex::new(found),
            is_dirty: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    /// Something that is popped in order changed.
    pub(crate) fn dirty(&self) {
        if !self.is_dirty.swap(true, Ordering::Relaxed) {
            self.changed.notify_one();
        }
    }

    /// Returns when there is something to write. One task waits.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Lets the queues stand still again that did so at the end of the last life. Before anybody pops.
    pub(crate) fn restore(&self, broker: &Broker) {
        let found = std::mem::take(&mut *self.found.lock().unwrap_or_else(PoisonError::into_inner));
        let moment = Moment::of(broker);
        for (key, queues) in found.table {
            let mut names = key.split('@');
            let (Some(topic), Some(group), None) = (names.next(), names.next(), names.next())
            else {
                continue;
            };
            let Some(config) = broker.topics.get(topic) else {
                continue;
            };
            if broker.groups.get(group).is_none() {
                continue;
            }
            for (queue_id, info) in queues {
                if (0..config.read_queue_nums).contains(&queue_id) {
                    restore_queue(broker, topic, group, queue_id, &info, moment);
                }
            }
        }
    }

    /// Writes what is popped in order, if it changed. Blocks.
    pub(crate) fn save(&self, broker: &Broker) -> io::Result<()> {
        if !self.is_dirty.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let written = self.file.replace(&content(broker));
        if written.is_err() {
            self.dirty();
        }
        written
    }
}

fn restore_queue(
    broker: &Broker,
    topic: &str,
    group: &str,
    queue_id: i32,
    info: &Info,
    moment: Moment,
) {
    let committed = broker.offsets.query(group, topic, queue_id);
    let end = broker.store.max_offset(topic, queue_id) as i64;
    match info.to_order(committed, end, moment) {
        Ok(Some(order)) => {
            let queue = broker.pop.queue(group, topic, queue_id);
            queue.lock(broker).restore(order);
        }
        Ok(None) => {}
        Err(reason) => tracing::warn!(
            topic,
            group,
            queue_id,
            reason,
            "what consumerOrderInfo.json says of a queue makes no sense; it goes on at the group's offset"
        ),
    }
}

/// Everything that is popped in order at this moment.
fn content(broker: &Broker) -> Content {
    let moment = Moment::of(broker);
    let mut content = Content::default();
    broker.pop.each_order(|group, topic, queue_id, order| {
        if moment.wall.saturating_sub(order.popped_ms) <= KEPT_MS {
            let queues = content.table.entry(format!("{topic}@{group}")).or_default();
            queues.insert(queue_id, Info::of(order, moment));
        }
    });
    content
}

impl Info {
    fn of(order: &Order, moment: Moment) -> Info {
        let first = order.messages.first().map_or(0, |message| message.offset);
        let mut info = Info {
            attempt: order.attempt.clone(),
            invisible_ms: order.invisible_ms,
            last_ms: order.popped_ms,
            popped_ms: order.popped_ms,
            ..Info::default()
        };
        for (index, message) in order.messages.iter().enumerate() {
            let offset = message.offset;
            info.offsets
                .push(if index == 0 { offset } else { offset - first });
            if message.is_acknowledged {
                info.acknowledged |= 1i64.checked_shl(index as u32).unwrap_or(0);
            }
            if message.delivered > 0 {
                let delivered = i32::try_from(message.delivered).unwrap_or(i32::MAX);
                info.delivered.insert(offset, delivered);
            }
            if message.is_postponed {
                let visible_ms = moment.to_wall(message.visible_at);
                info.visible_ms.insert(offset, visible_ms);
            }
        }
        info
    }

    /// The pop that the queue waits for; none when all its messages are done, by the group's offset as well. `end` is the queue's.
    fn to_order(
        &self,
        committed: Option<i64>,
        end: i64,
        moment: Moment,
    ) -> Result<Option<Order>, &'static str> {
        if self.offsets.len() > MESSAGES_MAX {
            return Err("more messages than one pop has");
        }
        let mut messages: Vec<Message> = Vec::with_capacity(self.offsets.len());
        for (index, number) in self.offsets.iter().enumerate() {
            let first = messages.first().map_or(0, |first| first.offset);
            let offset = first.checked_add(*number).ok_or("an offset out of range")?;
            let is_behind = messages.last().is_none_or(|last| last.offset < offset);
            if offset < 0 || !is_behind {
                return Err("offsets that do not rise");
            }
            if offset >= end {
                return Err("offsets beyond the end of the queue");
            }
            let postponed = self.visible_ms.get(&offset).copied();
            let visible_ms =
                postponed.unwrap_or(self.popped_ms.saturating_add(self.invisible_ms.max(0)));
            messages.push(Message {
                offset,
                visible_at: moment.to_monotonic(visible_ms),
                is_postponed: postponed.is_some(),
                is_acknowledged: self.acknowledged & (1 << index) != 0
                    || committed.is_some_and(|committed| offset < committed),
                delivered: self
                    .delivered
                    .get(&offset)
                    .map_or(0, |count| u32::try_from(*count).unwrap_or(0)),
            });
        }
        if messages.iter().all(|message| message.is_acknowledged) {
            return Ok(None);
        }
        let attempt = self.attempt.clone();
        Ok(Some(Order {
            attempt: attempt.filter(|attempt| attempt.len() <= ATTEMPT_BYTES_MAX),
            popped_ms: self.popped_ms,
            invisible_ms: self.invisible_ms,
            messages,
        }))
    }
}

#[cfg(test)]
mod tests {
    use protocol::json::{self, Dialect};

    use super::*;
    use crate::pop::in_flight::Outcome;

    const MOMENT: Moment = Moment {
        wall: 1_700_000_000_000,
        monotonic: 5_000,
    };

    /// As Java 5.3.3 writes it.
    const JAVA: &str = r#"{"table":{"T@G":{0:{"a":"attempt","cm":2,"i":60000,"l":1700000000010,"o":[7,1,3],"oc":{7:1,8:1},"ot":{10:1700000090000},"popTime":1700000000000}}}}"#;

    fn text(content: &Content) -> String {
        let mut text = Vec::new();
        json::write_as(content, Dialect::Fastjson, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    fn info(text: &str) -> Info {
        let content: Content = json::decode(text.as_bytes()).unwrap();
        content.table["T@G"][&0].clone()
    }

    #[test]
    fn what_java_wrote_is_understood_and_written_again() {
        let order = info(JAVA).to_order(Some(7), 100, MOMENT).unwrap().unwrap();
        assert_eq!((order.floor(), order.open()), (7, 2));
        assert_eq!(order.counts(), [(7, 1), (8, 1), (10, 0)]);
        assert_eq!(order.free_at(), Some(5_000 + 90_000));
        assert!(order.blocks(Some("another"), 94_999) && !order.blocks(Some("attempt"), 5_000));
        let mut again = Info::of(&order, MOMENT);
        // It is not kept apart here.
        again.last_ms = 1_700_000_000_010;
        let queues = BTreeMap::from([(0, again)]);
        let content = Content {
            table: BTreeMap::from([("T@G".to_owned(), queues)]),
        };
        assert_eq!(text(&content), JAVA);
    }

    #[test]
    fn messages_below_the_groups_offset_are_done() {
        let info = info(JAVA);
        let order = info.to_order(Some(10), 100, MOMENT).unwrap().unwrap();
        assert_eq!((order.floor(), order.open()), (10, 1));
        assert_eq!(info.to_order(Some(11), 100, MOMENT), Ok(None));
        let all = Info {
            acknowledged: 7,
            ..info
        };
        assert_eq!(all.to_order(None, 100, MOMENT), Ok(None));
    }

    #[test]
    fn times_of_a_clock_that_jumped_hold_nothing_up_for_ever() {
        let far = Info {
            popped_ms: i64::MAX,
            visible_ms: BTreeMap::new(),
            ..info(JAVA)
        };
        let order = far.to_order(None, 100, MOMENT).unwrap().unwrap();
        assert_eq!(order.free_at(), Some(5_000 + INVISIBLE_MS_MAX));
        let over = Info {
            popped_ms: i64::MIN,
            ..far
        };
        let mut order = over.to_order(None, 100, MOMENT).unwrap().unwrap();
        assert!(!order.blocks(None, 5_000));
        assert_eq!(order.acknowledge(7, i64::MIN), Outcome::Done);
    }

    #[test]
    fn nonsense_is_no_order() {
        let rest = r#""i":60000,"popTime":1700000000000}}}}"#;
        for offsets in [
            "[-1]",
            "[5,0]",
            "[5,3,2]",
            "[9223372036854775807]",
            "[5,9223372036854775807]",
            "[5,-9223372036854775808]",
            "[99,1]",
            &format!("{:?}", (0..65).collect::<Vec<i64>>()),
        ] {
            let text = format!(r#"{{"table":{{"T@G":{{0:{{"o":{offsets},{rest}"#);
            assert!(info(&text).to_order(None, 100, MOMENT).is_err(), "{text}");
        }
        for empty in ["[]", "null"] {
            let text = format!(r#"{{"table":{{"T@G":{{0:{{"o":{empty},{rest}"#);
            assert_eq!(info(&text).to_order(None, 100, MOMENT), Ok(None));
        }
    }
}
