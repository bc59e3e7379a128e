//! Messages that were popped and not acknowledged in time: a copy goes to the group's retry topic, or, after too many deliveries, to its
//! dead letters, and the message itself is done.
//!
//! The order is append, flush, done: a crash in between delivers the message twice. Java 5.3.4: `PopReviveService.reviveRetry`, which gives up
//! no message; dead letters are this broker's own.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use protocol::body::TopicConfig;
use protocol::message_id::encode_offset_id;
use protocol::pop::Origin;
use protocol::properties::{self as names, Properties};
use protocol::record::{self, CheckBody, Record};
use protocol::{light, topic};
use storage::{AppendError, NewMessage, Read, ReadMode, ReadStatus};

use super::in_flight::{Expired, Outcome};
use super::progress::Stamp;
use super::{Queue, pop_clock};
use crate::Broker;
use crate::requests::send::is_about_a_message;
use crate::requests::send::topic::{DEAD_LETTER_QUEUES, new_config};

/// Messages in one append. It bounds what a `kill -9` delivers twice.
const BATCH_MESSAGES_MAX: usize = 256;
/// Queues of a pop retry topic. Java 5.3.4: `PopAckConstants.retryQueueNum`.
const RETRY_QUEUES: i32 = 1;
/// The retry queue that messages are stored in. Java 5.3.4: `PopReviveService.reviveRetry`.
const RETRY_QUEUE: i32 = 0;
/// How long messages that could not be given back wait for the next attempt.
const AGAIN_MS: i64 = 1_000;
/// How long the task sleeps when nothing is in flight. It is woken when that changes.
const IDLE: Duration = Duration::from_secs(60);
/// The pause after a turn that failed as a whole.
const FAILED_PAUSE: Duration = Duration::from_secs(1);
/// How long a flush may take before the messages are given back once more.
const FLUSH_PATIENCE: Duration = Duration::from_secs(60);

/// The task that gives messages back, for as long as the broker runs.
pub(crate) async fn run(broker: Arc<Broker>) {
    loop {
        let turning = broker.clone();
        let pause = match tokio::task::spawn_blocking(move || turn(&turning)).await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::error!(%error, "giving back messages that were popped failed");
                FAILED_PAUSE
            }
        };
        // Woken or not, the next turn finds out.
        drop(tokio::time::timeout(pause, broker.pop.work.notified()).await);
    }
}

/// Gives back what is due. Blocks. Gives how long nothing is to be done.
fn turn(broker: &Broker) -> Duration {
    let now = pop_clock(broker);
    let (queues, next) = broker.pop.take_due(now);
    let mut failed = false;
    for queue in queues {
        if let Err(error) = give_back(broker, &queue, now) {
            failed = true;
            tracing::error!(group = &*queue.group, topic = &*queue.topic, queue_id = queue.queue_id, %error,
                "messages that were popped and not acknowledged cannot be given back; trying again");
        }
        // A queue in order goes on, or the retry topic has something.
        broker.pop.waiting.wake(&queue.topic, Some(&queue.group));
    }
    if failed {
        return FAILED_PAUSE;
    }
    next.map_or(IDLE, |next| {
        let ms = next.saturating_sub(pop_clock(broker)).max(0);
        Duration::from_millis(ms as u64).min(IDLE)
    })
}

/// Why messages of a queue cannot be given back. They stay in flight, and are tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Read(#[from] storage::ReadError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("the retry topic cannot be written to its file: {0}")]
    Topic(std::io::Error),
    #[error("the disk does not confirm them")]
    Flush,
}

fn give_back(broker: &Broker, queue: &Arc<Queue>, now: i64) -> Result<(), Failure> {
    loop {
        let expired = queue.lock(broker).take_due(now, BATCH_MESSAGES_MAX);
        if expired.is_empty() {
            return Ok(());
        }
        let (done, failure) = match store_again(broker, queue, &expired) {
            Ok(done) => (done, None),
            Err(failure) => (Vec::new(), Some(failure)),
        };
        let mut progress = queue.lock(broker);
        for Expired { offset, popped_ms } in expired {
            let outcome = if done.contains(&offset) {
                progress.acknowledge(offset, popped_ms, false)
            } else {
                let stamp = Stamp {
                    popped_ms,
                    due_at: pop_clock(broker).saturating_add(AGAIN_MS),
                };
                progress.postpone(offset, popped_ms, false, stamp)
            };
            if outcome == Outcome::Stale {
                tracing::debug!(offset, "a message was acknowledged while it was given back");
            }
        }
        drop(progress);
        if let Some(failure) = failure {
            return Err(failure);
        }
    }
}

/// Stores copies of messages, which are durable on return. Gives the offsets of those that are done.
pub(super) fn store_again(
    broker: &Broker,
    queue: &Queue,
    expired: &[Expired],
) -> Result<Vec<i64>, Failure> {
    let mut done = Vec::with_capacity(expired.len());
    let mut copies = Vec::with_capacity(expired.len());
    for message in expired {
        match read(broker, queue, message.offset)? {
            Some(bytes) => copies.push((*message, bytes)),
            None => {
                tracing::warn!(
                    group = &*queue.group,
                    topic = &*queue.topic,
                    queue_id = queue.queue_id,
                    offset = message.offset,
                    "a message that was popped and not acknowledged is not in the log any more"
                );
                done.push(message.offset);
            }
        }
    }
    let retry = retry_topic(broker, queue)?;
    let times_max = broker.groups.get(&queue.group).map_or_else(
        || protocol::body::SubscriptionGroupConfig::default().retry_max_times,
        |group| group.retry_max_times,
    );
    let mut dead_topic = None;
    let mut prepared = Vec::with_capacity(copies.len());
    for (message, bytes) in &copies {
        let Ok(record) = record::decode(bytes, CheckBody::No) else {
            tracing::error!(
                topic = &*queue.topic,
                offset = message.offset,
                "a popped message's record cannot be read; it is passed over"
            );
            done.push(message.offset);
            continue;
        };
        let is_dead = record.reconsume_times >= times_max;
        let target = if is_dead {
            match &dead_topic {
                Some(topic) => Arc::clone(topic),
                None => {
                    let name = topic::dlq_topic(&queue.group);
                    let topic = keep(broker, new_config(&name, DEAD_LETTER_QUEUES, 0))?;
                    dead_topic.insert(topic).clone()
                }
            }
        } else {
            retry.clone()
        };
        let properties = properties(&record, message.popped_ms, is_dead);
        prepared.push(Copy {
            offset: message.offset,
            target,
            is_dead,
            record,
            properties,
        });
    }
    done.extend(append(broker, queue, &prepared)?);
    Ok(done)
}

/// A message on its way back.
struct Copy<'a> {
    offset: i64,
    target: Arc<TopicConfig>,
    is_dead: bool,
    record: Record<'a>,
    properties: String,
}

impl Copy<'_> {
    fn message(&self, broker: &Broker) -> NewMessage<'_> {
        NewMessage {
            topic: &self.target.topic_name,
            queue_id: RETRY_QUEUE,
            flag: self.record.flag,
            sys_flag: self.record.sys_flag,
            born_timestamp_ms: self.record.born_timestamp_ms,
            born_host: self.record.born_host,
            store_host: broker.identity().address,
            reconsume_times: self.record.reconsume_times.saturating_add(1),
            prepared_transaction_offset: 0,
            body: self.record.body,
            properties: &self.properties,
        }
    }
}

/// Appends copies in one go, and waits for the disk. A message that the log does not take whatever happens stays in flight.
fn append(broker: &Broker, queue: &Queue, copies: &[Copy<'_>]) -> Result<Vec<i64>, Failure> {
    let messages: Vec<NewMessage<'_>> = copies.iter().map(|copy| copy.message(broker)).collect();
    let mut appended = Vec::with_capacity(messages.len());
    let mut done: Vec<&Copy<'_>> = Vec::with_capacity(copies.len());
    match broker.store.append(&messages, &mut appended) {
        Ok(()) => done.extend(copies),
        Err(error) if !is_about_a_message(&error) => return Err(error.into()),
        Err(_) => {
            // One message is at fault, and must not hold up the others.
            for (copy, message) in copies.iter().zip(&messages) {
                match broker
                    .store
                    .append(std::slice::from_ref(message), &mut appended)
                {
                    Ok(()) => done.push(copy),
                    Err(error) if is_about_a_message(&error) => {
                        tracing::error!(group = &*queue.group, topic = &*queue.topic, queue_id = queue.queue_id, offset = copy.offset, %error,
                            "a message that was popped and not acknowledged cannot be stored again; it stays in flight and is tried again");
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    let (Some(first), Some(last)) = (appended.first(), appended.last()) else {
        return Ok(Vec::new());
    };
    broker
        .counters
        .put(appended.len(), first.physical_offset, last.end);
    wait_for_flush(broker, last.end)?;
    let figures = &broker.pop.figures;
    for copy in &done {
        let figure = if copy.is_dead {
            &figures.dead
        } else {
            &figures.retried
        };
        figure.fetch_add(1, Ordering::Relaxed);
    }
    Ok(done.into_iter().map(|copy| copy.offset).collect())
}

/// Under ASYNC_FLUSH too: the group's offset is written to a file that is synced, and must not pass what is not.
fn wait_for_flush(broker: &Broker, end: u64) -> Result<(), Failure> {
    broker.store.request_flush();
    let mut flush = broker.store.flush_state();
    let flushed = flush.wait_for(|state| state.failed || state.flushed >= end);
    let flushed = broker
        .runtime
        .block_on(async { tokio::time::timeout(FLUSH_PATIENCE, flushed).await });
    match flushed {
        Ok(Ok(state)) if !state.failed => Ok(()),
        _ => Err(Failure::Flush),
    }
}

fn read(broker: &Broker, queue: &Queue, offset: i64) -> Result<Option<Bytes>, storage::ReadError> {
    let read = Read {
        topic: &queue.topic,
        queue_id: queue.queue_id,
        offset,
        messages_max: 1,
        bytes_max: usize::MAX,
        filter: &|_| true,
    };
    let mut result = broker.store.read(&read, ReadMode::Blocking)?;
    // A read goes on behind a message that is gone.
    let is_wanted = result.status == ReadStatus::Found
        && result
            .records
            .first()
            .and_then(|bytes| light::queue_offset(bytes, &queue.topic))
            == u64::try_from(offset).ok();
    Ok(is_wanted.then(|| result.records.swap_remove(0)))
}

/// Where messages of the queue go back to.
fn retry_topic(broker: &Broker, queue: &Queue) -> Result<Arc<TopicConfig>, Failure> {
    let origin = if broker.keys().enable_retry_topic_v2 {
        Origin::RetryV2
    } else {
        Origin::RetryV1
    };
    let name = match Origin::of(&queue.topic) {
        Origin::Topic => origin.real_topic(&queue.group, &queue.topic),
        Origin::RetryV1 | Origin::RetryV2 => queue.topic.to_string(),
    };
    let is_new = broker.topics.get(&name).is_none();
    let retry = keep(broker, new_config(&name, RETRY_QUEUES, 0))?;
    if is_new
        && broker
            .offsets
            .query(&queue.group, &name, RETRY_QUEUE)
            .is_none()
    {
        broker.offsets.commit(&queue.group, &name, RETRY_QUEUE, 0);
    }
    Ok(retry)
}

/// The topic of that name, which is created when there is none, and is in its file on return.
fn keep(broker: &Broker, config: TopicConfig) -> Result<Arc<TopicConfig>, Failure> {
    let name = config.topic_name.clone();
    let (config, is_durable) = match broker.topics.find(&name) {
        Some(found) => (found.config, found.is_durable),
        None => {
            let (config, created) = broker.topics.create_if_absent(config);
            if created {
                tracing::info!(
                    topic = name,
                    "created a topic for messages that were popped and not acknowledged"
                );
                broker.topic_changed(&config);
            }
            (config, false)
        }
    };
    if !is_durable {
        broker.topics.commit().map_err(Failure::Topic)?;
    }
    Ok(config)
}

/// The properties of a copy: those of the message, and when it was popped first; of a dead letter, where it was first.
fn properties(record: &Record<'_>, popped_ms: i64, is_dead: bool) -> String {
    let mut all = Properties::parse(record.properties);
    // A checksum of the whole record (Java 5.3: `enabledAppendPropCRC`) is not that of the one to come.
    all.remove(names::CRC32);
    all.remove(names::POP_CK);
    if record.reconsume_times == 0 || all.get(names::FIRST_POP_TIME).is_none() {
        all.insert(names::FIRST_POP_TIME, popped_ms.to_string());
    }
    if is_dead {
        if all.get(names::RETRY_TOPIC).is_none() {
            all.insert(names::RETRY_TOPIC, record.topic);
        }
        all.insert(names::DELAY, "0");
    }
    if all
        .get(names::ORIGIN_MESSAGE_ID)
        .is_none_or(|id| id.trim().is_empty())
        && is_dead
    {
        let id = encode_offset_id(record.store_host, record.physical_offset);
        all.insert(names::ORIGIN_MESSAGE_ID, id);
    }
    let text = all.encode();
    if text.len() > names::BYTES_MAX {
        // What this adds does not fit: the message itself matters more.
        return record::without_checksum(record.properties).to_string();
    }
    text
}
