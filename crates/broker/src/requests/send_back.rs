//! CONSUMER_SEND_MSG_BACK (36): a consumer could not handle a message and gives it back, to be delivered to its group again later, or to end
//! in the group's dead-letter topic. Java 5.3: `AbstractSendMessageProcessor.consumerSendMsgBack`.
//!
//! The message is named by its position in the log. It is answered as a send is: in place when it is in memory, and under `SYNC_FLUSH` only after
//! the disk has it, since its consumer commits the offset behind it on this answer. (Java answers before.)

use std::sync::Arc;
use std::time::Duration;

use protocol::body::TopicConfig;
use protocol::code::{RequestCode, ResponseCode};
use protocol::headers::ConsumerSendMsgBackRequest;
use protocol::message_id::encode_offset_id;
use protocol::properties::{self as names, Properties};
use protocol::record::{self, CheckBody, Record};
use protocol::{perm, sysflag, topic, version};
use remoting::{Connection, Replies, Request};
use storage::{Appended, FlushMode, NewMessage, ReadError};

use crate::Broker;
use crate::call::Refusal;
use crate::requests::client::RETRY_QUEUES_MAX;
use crate::requests::send::{flushed, topic as topics};

/// The level of a message's first retry, when its consumer names none. Each further retry takes the next one.
const FIRST_RETRY_LEVEL: i32 = 3;

/// Whether a request gives a message back.
pub(crate) fn is_send_back(code: RequestCode) -> bool {
    code == RequestCode::CONSUMER_SEND_MSG_BACK
}

/// A request that has passed its checks.
struct SendBack {
    header: ConsumerSendMsgBackRequest,
    /// Deliveries of one message, after which it ends in the dead-letter topic.
    times_max: i32,
    retry_topic: Arc<TopicConfig>,
    retry_queues: i32,
}

/// Takes one message back and answers.
pub(crate) fn serve(
    broker: &Arc<Broker>,
    connection: &Arc<Connection>,
    request: &Request<'_>,
    replies: &mut Replies,
) {
    let head = request.head();
    let send_back = match check(broker, connection, request) {
        Ok(Some(send_back)) => send_back,
        Ok(None) => return replies.reply(head, ResponseCode::SUCCESS, None, &(), &[]),
        Err(refusal) => return replies.refuse(head, refusal.code, &refusal.remark),
    };
    let found = match broker.store.record_at_nowait(send_back.physical()) {
        Err(ReadError::WouldBlock) => {
            if let Err(refusal) = serve_cold(broker, connection, request, send_back) {
                replies.refuse(head, refusal.code, &refusal.remark);
            }
            return;
        }
        found => found,
    };
    match send_back.store(broker, connection, found) {
        Ok(appended) if broker.store.flush_mode() == FlushMode::Sync => {
            replies.reply_when(appended.end, head, ResponseCode::SUCCESS, None, &(), &[]);
        }
        Ok(_) => replies.reply(head, ResponseCode::SUCCESS, None, &(), &[]),
        Err(refusal) => replies.refuse(head, refusal.code, &refusal.remark),
    }
}

/// The same on the blocking pool, for a message that only the disk has.
fn serve_cold(
    broker: &Arc<Broker>,
    connection: &Arc<Connection>,
    request: &Request<'_>,
    send_back: SendBack,
) -> Result<(), Refusal> {
    // The record that is read may be as large as any.
    let bytes_max = broker.keys().max_message_size as usize;
    let permit = broker.blocking_permit(connection, bytes_max)?;
    let head = request.head();
    let (broker, connection) = (broker.clone(), connection.clone());
    broker.runtime.clone().spawn_blocking(move || {
        let found = broker.store.record_at(send_back.physical());
        let outcome = send_back
            .store(&broker, &connection, found)
            .and_then(|appended| wait_for_flush(&broker, appended.end));
        let (code, remark) = match outcome {
            Ok(()) => (ResponseCode::SUCCESS, None),
            Err(refusal) => (refusal.code, Some(refusal.remark)),
        };
        if let Err(error) = connection.reply(head, code, remark.as_deref(), &(), &[]) {
            tracing::debug!(peer = %connection.peer(), %error, "an answer to a message that was given back found no way");
        }
        drop(permit);
    });
    Ok(())
}

/// Waits until the disk has everything below `end`, where the flush mode promises it. Blocks: on the blocking pool only.
pub(crate) fn wait_for_flush(broker: &Broker, end: u64) -> Result<(), Refusal> {
    if broker.store.flush_mode() == FlushMode::Async {
        return Ok(());
    }
    let patience = Duration::from_millis(broker.keys().sync_flush_timeout);
    broker
        .runtime
        .block_on(flushed(&broker.store, end, patience))
}

/// Group, permissions and the retry topic, in Java's order. None when the group wants no retries: the message is dropped, and that is a success.
fn check(
    broker: &Broker,
    connection: &Connection,
    request: &Request<'_>,
) -> Result<Option<SendBack>, Refusal> {
    let header: ConsumerSendMsgBackRequest = request.read()?;
    let keys = broker.keys();
    let group = &header.group;
    let Some(config) = broker
        .groups
        .get_or_create(group, keys.auto_create_subscription_group)
    else {
        return Err(Refusal::new(
            ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
            format!("subscription group not exist, {group} {}", topics::SEE_FAQ),
        ));
    };
    if !perm::is_writable(keys.broker_permission) {
        return Err(Refusal::new(
            ResponseCode::NO_PERMISSION,
            format!(
                "the broker[{}] sending message is forbidden",
                broker.identity().advertised
            ),
        ));
    }
    if config.retry_queue_nums <= 0 {
        return Ok(None);
    }
    let name = topic::retry_topic(group);
    let sys_flag = if header.unit_mode {
        sysflag::TOPIC_UNIT_SUB
    } else {
        0
    };
    let queues = config.retry_queue_nums.min(RETRY_QUEUES_MAX);
    let retry_topic = topics::keep_durably(
        broker,
        connection,
        topics::new_config(&name, queues, sys_flag),
    )?;
    if !perm::is_writable(retry_topic.perm) {
        return Err(Refusal::new(
            ResponseCode::NO_PERMISSION,
            format!("the topic[{name}] sending message is forbidden"),
        ));
    }
    let times_max = header
        .max_reconsume_times
        .filter(|_| request.header.version >= version::V3_4_9)
        .unwrap_or(config.retry_max_times);
    Ok(Some(SendBack {
        header,
        times_max,
        // A topic that was made with fewer queues than the group has today has no consumer for the others.
        retry_queues: queues.min(retry_topic.write_queue_nums).max(1),
        retry_topic,
    }))
}

impl SendBack {
    /// Where the message lies. A position that no log has is not found.
    fn physical(&self) -> u64 {
        u64::try_from(self.header.offset).unwrap_or(u64::MAX)
    }

    /// Stores the message that was found there anew: among those that are delivered later, or as a dead letter.
    fn store(
        &self,
        broker: &Broker,
        connection: &Connection,
        found: Result<Option<bytes::Bytes>, ReadError>,
    ) -> Result<Appended, Refusal> {
        let not_found = || {
            Refusal::system_error(format!(
                "look message by offset failed, {}",
                self.header.offset
            ))
        };
        let bytes = found
            .map_err(|error| Refusal::system_error(error.to_string()))?
            .ok_or_else(not_found)?;
        let record = record::decode(&bytes, CheckBody::No).map_err(|_| not_found())?;
        if record.sys_flag & sysflag::INNER_BATCH != 0 {
            // Clients then send the one message to the retry topic themselves.
            return Err(Refusal::new(
                ResponseCode::MESSAGE_ILLEGAL,
                "the message is one of a batch that is stored as one record, and cannot be given back alone; send it to the group's retry topic",
            ));
        }
        let mut properties = came_back(&record);
        let (stored_in, queue_id) = match self.level(&record, broker.store.delay_levels_ms().len())
        {
            Some(level) => {
                let queue_id = (broker.next_queue() % self.retry_queues as u32) as i32;
                let retry_topic = &*self.retry_topic.topic_name;
                deliver_later(&mut properties, level, retry_topic, queue_id);
                (topic::SCHEDULE.to_owned(), level - 1)
            }
            None => {
                let dead = topic::dlq_topic(&self.header.group);
                let dead = topics::new_config(&dead, topics::DEAD_LETTER_QUEUES, 0);
                let dead = topics::keep_durably(broker, connection, dead)?;
                properties.insert(names::DELAY, "0");
                tracing::info!(
                    topic = dead.topic_name,
                    origin = self.header.origin_topic,
                    message = properties.get(names::UNIQ_KEY),
                    times = record.reconsume_times,
                    "a message came back too often and is a dead letter"
                );
                (dead.topic_name.clone(), 0)
            }
        };
        let message = NewMessage {
            topic: &stored_in,
            queue_id,
            flag: record.flag,
            sys_flag: record.sys_flag,
            born_timestamp_ms: record.born_timestamp_ms,
            born_host: record.born_host,
            store_host: broker.identity().address,
            reconsume_times: record.reconsume_times.saturating_add(1),
            prepared_transaction_offset: 0,
            body: record.body,
            properties: &properties.encode(),
        };
        let mut appended = Vec::with_capacity(1);
        broker
            .store
            .append(std::slice::from_ref(&message), &mut appended)
            .map_err(|error| Refusal::system_error(error.to_string()))?;
        let appended = appended[0];
        broker
            .counters
            .put(1, appended.physical_offset, appended.end);
        let bytes = appended.end.saturating_sub(appended.physical_offset);
        broker.stats.put(&stored_in, 1, bytes);
        let origin = properties.get(names::RETRY_TOPIC).unwrap_or(record.topic);
        broker.stats.returned(origin, &self.header.group);
        Ok(appended)
    }

    /// By which level the message is delivered again; none when it is a dead letter.
    fn level(&self, record: &Record<'_>, levels: usize) -> Option<i32> {
        let asked = self.header.delay_level;
        if record.reconsume_times >= self.times_max || asked < 0 {
            return None;
        }
        let level = match asked {
            0 => record.reconsume_times.saturating_add(FIRST_RETRY_LEVEL),
            asked => asked,
        };
        Some(level.clamp(1, levels as i32))
    }
}

/// The properties of a message that came back: its own, and where it was first.
fn came_back(record: &Record<'_>) -> Properties {
    let mut properties = Properties::parse(record.properties);
    // A checksum of the whole record (Java 5.3: `enabledAppendPropCRC`) is not that of the one to come.
    properties.remove(names::CRC32);
    if properties.get(names::RETRY_TOPIC).is_none() {
        properties.insert(names::RETRY_TOPIC, record.topic);
    }
    properties.insert(names::WAIT, "false");
    if properties
        .get(names::ORIGIN_MESSAGE_ID)
        .is_none_or(|id| id.trim().is_empty())
    {
        let id = encode_offset_id(record.store_host, record.physical_offset);
        properties.insert(names::ORIGIN_MESSAGE_ID, id);
    }
    properties
}

fn deliver_later(properties: &mut Properties, level: i32, topic: &str, queue_id: i32) {
    for timer in [
        names::TIMER_DELIVER_MS,
        names::TIMER_DELAY_SEC,
        names::TIMER_DELAY_MS,
    ] {
        properties.remove(timer);
    }
    properties.insert(names::DELAY, level.to_string());
    properties.insert(names::REAL_TOPIC, topic);
    properties.insert(names::REAL_QUEUE_ID, queue_id.to_string());
}
