//! From the queues of a topic and its retry topics to the messages of a pop.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use protocol::light;
use protocol::pop::{Handle, Origin};
use protocol::properties::{self as names};
use protocol::record::{self, CheckBody, NewRecord};
use storage::{Read, ReadError, ReadMode, ReadResult, ReadStatus};

use super::{Popped, Request, Stop};
use crate::Broker;
use crate::call::Refusal;
use crate::config::BrokerKeys;
use crate::pop::Queue;
use crate::pop::progress::{Begin, Stamp, Wanted};

/// Reads of one queue in one pop: each passes over some hundred messages that the filter does not want.
const READS_MAX: usize = 4;
/// Spreads turns over a hundred: coprime to it.
const STRIDE: u32 = 37;

/// Whether a group has so many messages of a queue in flight that it gets no more.
pub(super) fn is_over_threshold(keys: &BrokerKeys, in_flight: usize) -> bool {
    keys.enable_pop_message_threshold && in_flight as u64 > keys.pop_inflight_message_threshold
}

/// One pop on its way over the queues.
struct Pass<'a> {
    broker: &'a Broker,
    keys: Arc<BrokerKeys>,
    mode: ReadMode,
    /// Says at which queue it begins.
    turn: u32,
}

/// A queue that is read.
struct Source<'a> {
    topic: &'a str,
    origin: Origin,
    queue_id: i32,
}

impl Request {
    /// Pops from the topic and its retry topics, beginning at another queue each time. Java 5.3.4: `PopMessageProcessor.processRequest`.
    pub(super) fn pop(&self, broker: &Broker, mode: ReadMode) -> Result<Popped, Stop> {
        let pass = Pass {
            broker,
            keys: broker.keys(),
            mode,
            turn: broker.pop.turn(),
        };
        let mut popped = Popped {
            popped_ms: broker.now_ms(),
            ..Popped::default()
        };
        let chance = pass.turn.wrapping_mul(STRIDE) % 100;
        let retries_first = chance < pass.keys.pop_from_retry_probability;
        let outcome = if retries_first {
            self.pop_retries(&pass, &mut popped)
                .and_then(|()| self.pop_topic(&pass, &mut popped))
        } else {
            self.pop_topic(&pass, &mut popped)
                .and_then(|()| self.pop_retries(&pass, &mut popped))
        };
        match outcome {
            // What was popped before is hidden from others already: it is handed out.
            Err(_) if !popped.records.is_empty() => Ok(popped),
            Err(stop) => Err(stop),
            Ok(()) => Ok(popped),
        }
    }

    fn pop_topic(&self, pass: &Pass<'_>, popped: &mut Popped) -> Result<(), Stop> {
        let origin = Origin::of(&self.topic);
        for queue_id in rotated(self.queues(), pass.turn) {
            let source = Source {
                topic: &self.topic,
                origin,
                queue_id,
            };
            self.pop_queue(pass, &source, popped)?;
        }
        Ok(())
    }

    fn pop_retries(&self, pass: &Pass<'_>, popped: &mut Popped) -> Result<(), Stop> {
        for topic in &self.retry_topics {
            let Some(config) = pass.broker.topics.get(topic) else {
                continue;
            };
            for queue_id in rotated(0..config.read_queue_nums, pass.turn) {
                let source = Source {
                    topic,
                    origin: Origin::of(topic),
                    queue_id,
                };
                self.pop_queue(pass, &source, popped)?;
            }
        }
        Ok(())
    }

    fn pop_queue(
        &self,
        pass: &Pass<'_>,
        source: &Source<'_>,
        popped: &mut Popped,
    ) -> Result<(), Stop> {
        let broker = pass.broker;
        let max = broker.store.max_offset(source.topic, source.queue_id) as i64;
        if max == 0 {
            return Ok(());
        }
        let queue = broker.pop.queue(&self.group, source.topic, source.queue_id);
        for _ in 0..READS_MAX {
            let wanted = self.wanted(broker);
            let Some(begun_at) = self.begin(pass, source, &queue, max, wanted, popped) else {
                return Ok(());
            };
            let result = match self.read(broker, source, begun_at, pass.mode, popped) {
                Ok(result) => result,
                Err(error) => {
                    queue.lock(broker).give_up_read();
                    return Err(error);
                }
            };
            let offsets = offsets(&result.records, source.topic);
            let stamp = Stamp {
                popped_ms: popped.popped_ms,
                due_at: wanted.now.saturating_add(self.invisible_ms),
            };
            let next = result.next_offset.max(begun_at);
            let mut progress = queue.lock(broker);
            if !progress.end_read(begun_at, wanted, &offsets, next, stamp) {
                return Ok(());
            }
            if self.in_order && !offsets.is_empty() {
                let counts = progress.counts();
                let (origin, queue_id) = (source.origin, source.queue_id);
                popped.lists.push_counts(origin, queue_id, &counts);
            }
            drop(progress);
            if !offsets.is_empty() {
                popped.rest += (result.max_offset - next).max(0);
                popped
                    .lists
                    .push(source.origin, source.queue_id, begun_at, &offsets);
                self.add(pass, source, begun_at, result.records, popped);
                return Ok(());
            }
            if next >= max {
                return Ok(());
            }
            // The filter passed over what was looked at, or messages are gone from the log.
        }
        Ok(())
    }

    /// Where the queue is to be read; none when nothing is to be had from it by this pop.
    fn begin(
        &self,
        pass: &Pass<'_>,
        source: &Source<'_>,
        queue: &Arc<Queue>,
        max: i64,
        wanted: Wanted<'_>,
        popped: &mut Popped,
    ) -> Option<i64> {
        let mut progress = queue.lock(pass.broker);
        progress.follow_group();
        if progress.next().is_none() {
            progress.follow(self.first_offset(pass, source));
        }
        let rest = max - progress.next()?;
        if rest <= 0 {
            return None;
        }
        if self.is_full(popped) || is_over_threshold(&pass.keys, progress.in_flight()) {
            popped.rest += rest;
            return None;
        }
        match progress.begin_read(wanted) {
            Begin::Read(offset) => Some(offset),
            Begin::Busy => {
                popped.rest += rest;
                None
            }
            // Those are nobody's to take.
            Begin::Blocked => None,
        }
    }

    fn is_full(&self, popped: &Popped) -> bool {
        popped.records.len() >= self.messages_max
    }

    fn read(
        &self,
        broker: &Broker,
        source: &Source<'_>,
        offset: i64,
        mode: ReadMode,
        popped: &Popped,
    ) -> Result<ReadResult, Stop> {
        let limits = broker.settings().limits;
        let limit = match mode {
            ReadMode::NoWait => limits.warm,
            ReadMode::Blocking => limits.cold,
        };
        let messages_max = self.messages_max - popped.records.len();
        let read = Read {
            topic: source.topic,
            queue_id: source.queue_id,
            offset,
            messages_max: messages_max.min(limit.messages_max),
            bytes_max: limit.bytes_max.saturating_sub(popped.bytes).max(1),
            filter: &|tags_code| self.filter.takes(tags_code),
        };
        let mut result = broker
            .store
            .read(&read, mode)
            .map_err(|error| match error {
                ReadError::WouldBlock => Stop::WouldBlock,
                error => Stop::Failed(error.to_string()),
            })?;
        if self.filter.reads_messages() {
            let takes = |bytes: &Bytes| self.filter.takes_record(broker, bytes);
            result.records.retain(takes);
        }
        Ok(result)
    }

    /// Where a group begins that has never popped the queue. Java 5.3.4: `PopMessageProcessor.getInitOffset`.
    fn first_offset(&self, pass: &Pass<'_>, source: &Source<'_>) -> i64 {
        let (broker, topic, queue_id) = (pass.broker, source.topic, source.queue_id);
        let min = broker.store.min_offset(topic, queue_id) as i64;
        if self.from_start || source.origin != Origin::Topic {
            return min;
        }
        if pass.keys.init_pop_offset_by_check_msg_in_mem
            && min == 0
            && crate::requests::offset::first_is_in_memory(broker, topic, queue_id)
        {
            return 0;
        }
        let max = broker.store.max_offset(topic, queue_id) as i64;
        (max - 1).max(0)
    }

    /// Adds what was popped from one queue to the answer. Messages of a retry topic go under the name of their topic, with the handle that
    /// says where they lie. Java 5.3.4: `popResponseReturnActualRetryTopic`.
    fn add(
        &self,
        pass: &Pass<'_>,
        source: &Source<'_>,
        start_offset: i64,
        records: Vec<Bytes>,
        popped: &mut Popped,
    ) {
        let broker = pass.broker;
        let figures = &broker.pop.figures;
        figures
            .popped
            .fetch_add(records.len() as u64, Ordering::Relaxed);
        broker.counters.get(records.len());
        let as_they_are =
            source.origin == Origin::Topic || pass.keys.pop_response_return_actual_retry_topic;
        for bytes in records {
            let bytes = if as_they_are {
                bytes
            } else {
                let handle = Handle {
                    start_offset,
                    popped_ms: popped.popped_ms,
                    invisible_ms: self.invisible_ms,
                    revive_queue: self.revive_queue(),
                    origin: source.origin,
                    broker_name: &broker.identity().name,
                    queue_id: source.queue_id,
                    offset: None,
                };
                renamed(bytes, &self.topic, handle)
            };
            popped.bytes += bytes.len();
            popped.records.push(bytes);
        }
    }

    /// The same messages as a pop, without hiding them.
    pub(super) fn peek(&self, broker: &Broker) -> Result<Popped, Refusal> {
        let turn = broker.pop.turn();
        let mut popped = Popped {
            popped_ms: broker.now_ms(),
            ..Popped::default()
        };
        let of_topic = rotated(self.queues(), turn).map(|queue_id| (self.topic.clone(), queue_id));
        let of_retries = self.retry_topics.iter().flat_map(|topic| {
            let queues = broker
                .topics
                .get(topic)
                .map_or(0, |config| config.read_queue_nums);
            (0..queues).map(|queue_id| (topic.clone(), queue_id))
        });
        for (topic, queue_id) in of_topic.chain(of_retries) {
            let source = Source {
                topic: &topic,
                origin: Origin::of(&topic),
                queue_id,
            };
            self.peek_queue(broker, &source, &mut popped)?;
        }
        Ok(popped)
    }

    fn peek_queue(
        &self,
        broker: &Broker,
        source: &Source<'_>,
        popped: &mut Popped,
    ) -> Result<(), Refusal> {
        let (topic, queue_id) = (source.topic, source.queue_id);
        let known = broker.pop.find(&self.group, topic, queue_id);
        let next = known.and_then(|queue| queue.lock(broker).next());
        let committed = broker.offsets.query(&self.group, topic, queue_id);
        let min = broker.store.min_offset(topic, queue_id) as i64;
        let offset = next.or(committed).unwrap_or(min).max(min);
        let max = broker.store.max_offset(topic, queue_id) as i64;
        popped.rest += (max - offset).max(0);
        if self.is_full(popped) || offset >= max {
            return Ok(());
        }
        match self.read(broker, source, offset, ReadMode::Blocking, popped) {
            Ok(result) if result.status == ReadStatus::Found => {
                for bytes in result.records {
                    popped.bytes += bytes.len();
                    popped.records.push(bytes);
                }
                Ok(())
            }
            Ok(_) | Err(Stop::WouldBlock) => Ok(()),
            Err(Stop::Failed(reason)) => Err(Refusal::system_error(reason)),
        }
    }
}

/// All queues, from another one on each turn.
fn rotated(queues: std::ops::Range<i32>, turn: u32) -> impl Iterator<Item = i32> {
    let count = queues.len() as u32;
    (0..count).map(move |index| queues.start + ((turn % count.max(1) + index) % count) as i32)
}

fn offsets(records: &[Bytes], topic: &str) -> Vec<i64> {
    let offset = |bytes: &Bytes| light::queue_offset(bytes, topic).map(|offset| offset as i64);
    records.iter().filter_map(offset).collect()
}

/// The record under another topic, with a handle of its own in its properties.
fn renamed(bytes: Bytes, topic: &str, handle: Handle<'_>) -> Bytes {
    let Ok(record) = record::decode(&bytes, CheckBody::No) else {
        // A record that cannot be read is handed out as it lies, for the client to say what is wrong with it.
        return bytes;
    };
    let handle = Handle {
        offset: Some(record.queue_offset as i64),
        ..handle
    };
    let mut properties = String::with_capacity(record.properties.len() + 96);
    // A checksum of the whole record would be that of another one.
    let kept = names::iter(record.properties)
        .filter(|(name, _)| !matches!(*name, names::POP_CK | names::CRC32));
    kept.for_each(|(name, value)| names::push(&mut properties, name, value));
    names::push(&mut properties, names::POP_CK, &handle.to_string());
    if properties.len() > names::BYTES_MAX {
        return bytes;
    }
    let renamed = NewRecord {
        body_crc: record.body_crc,
        queue_id: record.queue_id,
        flag: record.flag,
        sys_flag: record.sys_flag,
        born_timestamp_ms: record.born_timestamp_ms,
        born_host: record.born_host,
        store_host: record.store_host,
        reconsume_times: record.reconsume_times,
        prepared_transaction_offset: record.prepared_transaction_offset,
        body: record.body,
        topic,
        properties: &properties,
        with_checksum: false,
    };
    let mut out = BytesMut::new();
    record::encode(
        &renamed,
        record.queue_offset,
        record.physical_offset,
        record.store_timestamp_ms,
        &mut out,
    );
    out.freeze()
}
