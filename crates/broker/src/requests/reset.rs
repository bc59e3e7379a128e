//! Where groups shall go on: reset by an operator (222), taken over from another group (314), corrected (308). Java 5.3:
//! `AdminBrokerProcessor`, `Broker2Client`.
//!
//! With `useServerSideResetOffset` the broker keeps a reset and hands it out with the next pulls, so that it also reaches consumers
//! which are away. Without, connected consumers are told at once (220), and the offset moves when they commit it.

use std::collections::BTreeSet;

use protocol::body::{
    MessageQueue, MessageQueueForC, QueryCorrectionOffsetBody, ResetOffsetBody, ResetOffsetBodyForC,
};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{CloneGroupOffsetRequest, QueryCorrectionOffset, ResetOffsetRequest};
use protocol::language::Language;
use protocol::{json, version};
use storage::Boundary;

use crate::Broker;
use crate::call::{Call, Entry, Kind, Refusal, Reply};
use crate::requests::offset::at_time;

pub(crate) const HANDLERS: &[Entry] = &[
    (
        RequestCode::INVOKE_BROKER_TO_RESET_OFFSET,
        Kind::Blocking,
        reset,
    ),
    (RequestCode::CLONE_GROUP_OFFSET, Kind::Inline, copy),
    (
        RequestCode::QUERY_CORRECTION_OFFSET,
        Kind::Blocking,
        correction,
    ),
];

/// Between the groups of a request that names several.
const GROUP_SEPARATOR: char = ',';

fn reset(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: ResetOffsetRequest = call.header()?;
    let (group, topic) = (header.group.as_str(), header.topic.as_str());
    tracing::info!(group, topic, by = %call.connection.peer(), "offsets are reset");
    let body = if broker.keys().use_server_side_reset_offset {
        reset_here(broker, &header)?
    } else {
        reset_in_clients(broker, &header, call.request.header.language)?
    };
    Ok(Reply::ok().body(json::encode(&body)))
}

/// Java 5.3: `AdminBrokerProcessor.resetOffsetInner`.
fn reset_here(broker: &Broker, header: &ResetOffsetRequest) -> Result<ResetOffsetBody, Refusal> {
    let (group, topic) = (header.group.as_str(), header.topic.as_str());
    let Some(config) = broker.topics.get(topic) else {
        return Err(Refusal::new(
            ResponseCode::TOPIC_NOT_EXIST,
            format!("Topic {topic} does not exist"),
        ));
    };
    if broker.groups.get(group).is_none() {
        return Err(Refusal::new(
            ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
            format!("Group {group} does not exist"),
        ));
    }
    let queues = match header.queue_id {
        queue_id if queue_id >= 0 => queue_id..queue_id.saturating_add(1),
        _ => 0..config.read_queue_nums,
    };
    if queues.end > config.read_queue_nums {
        return Err(Refusal::new(
            ResponseCode::INVALID_PARAMETER,
            format!(
                "queue {} does not exist, the topic has {}",
                header.queue_id, config.read_queue_nums
            ),
        ));
    }
    if queues.is_empty() {
        return Err(Refusal::system_error("No queues to reset."));
    }
    let named = header
        .offset
        .filter(|offset| header.queue_id >= 0 && *offset != -1);
    let mut body = ResetOffsetBody::default();
    for queue_id in queues {
        let offset = match named {
            Some(offset) => within(broker, topic, queue_id, offset)?,
            None => wanted(broker, topic, queue_id, header.timestamp_ms)?,
        };
        body.offset_table.insert(
            MessageQueue::new(topic, &*broker.identity().name, queue_id),
            offset,
        );
    }
    for (queue, offset) in body.offset_table.iter() {
        broker.offsets.reset(group, topic, queue.queue_id, *offset);
    }
    broker.offsets.fold().map_err(|error| {
        Refusal::system_error(format!("cannot write consumerOffset.json: {error}"))
    })?;
    // A pull that waits at the end of its queue must not wait until a message comes.
    for queue in body.offset_table.keys() {
        broker.longpoll.look_again(topic, queue.queue_id);
    }
    Ok(body)
}

fn within(broker: &Broker, topic: &str, queue_id: i32, offset: i64) -> Result<i64, Refusal> {
    let min = broker.store.min_offset(topic, queue_id) as i64;
    let max = broker.store.max_offset(topic, queue_id) as i64;
    if (min..=max).contains(&offset) {
        return Ok(offset);
    }
    Err(Refusal::system_error(format!(
        "Target offset {offset} not in consume queue range [{min}-{max}]"
    )))
}

/// The offset of a time; the end of the queue for a negative one.
fn wanted(broker: &Broker, topic: &str, queue_id: i32, at_ms: i64) -> Result<i64, Refusal> {
    if at_ms < 0 {
        return Ok(broker.store.max_offset(topic, queue_id) as i64);
    }
    at_time(broker, topic, queue_id, at_ms, Boundary::Lower)
}

/// Tells every connected member. Java 5.3: `Broker2Client.resetOffset`.
fn reset_in_clients(
    broker: &Broker,
    header: &ResetOffsetRequest,
    asked_in: Language,
) -> Result<ResetOffsetBody, Refusal> {
    let (group, topic) = (header.group.as_str(), header.topic.as_str());
    let body = offsets_to_tell(broker, header)?;
    let members = broker
        .clients
        .consumer_group(group)
        .map(|group| group.members())
        .unwrap_or_default();
    if members.is_empty() {
        return Err(Refusal::new(
            ResponseCode::CONSUMER_NOT_ONLINE,
            format!(
                "Consumer not online, so can not reset offset, Group: {group} Topic: {topic} Timestamp: {}",
                header.timestamp_ms
            ),
        ));
    }
    // Either all hear of it or none: a group whose members stand at different places is worse than one that was not reset.
    if let Some(old) = members
        .iter()
        .find(|member| member.version < version::V3_0_7_SNAPSHOT)
    {
        return Err(Refusal::system_error(format!(
            "the client does not support this feature. version={}",
            version::describe(old.version)
        )));
    }
    broker.offsets.forget_committers(group, topic);
    let push = ResetOffsetRequest {
        group: group.to_owned(),
        topic: topic.to_owned(),
        queue_id: -1,
        offset: None,
        timestamp_ms: header.timestamp_ms,
        force: false,
    };
    let push = Command::request(RequestCode::RESET_CONSUMER_CLIENT_OFFSET, &push);
    let (table, list) = (json::encode(&body), json::encode(&for_c(&body)));
    for member in members {
        let reads_lists = member.language == Language::CPP
            || (asked_in == Language::CPP && member.language != Language::JAVA);
        let told = if reads_lists { &list } else { &table };
        let told = push.clone().with_body(told.clone());
        match member.handle.send_oneway(told) {
            Ok(()) => {
                tracing::info!(
                    group,
                    topic,
                    client = member.client_id,
                    "told to reset its offsets"
                );
            }
            Err(error) => {
                tracing::warn!(group, topic, client = member.client_id, %error, "a client does not hear that its offsets are reset");
            }
        }
    }
    Ok(body)
}

/// Where the group goes on in each queue: at the time's offset, or where it is when that is before and nothing is forced.
fn offsets_to_tell(
    broker: &Broker,
    header: &ResetOffsetRequest,
) -> Result<ResetOffsetBody, Refusal> {
    let (group, topic) = (header.group.as_str(), header.topic.as_str());
    let Some(config) = broker.topics.get(topic) else {
        return Err(Refusal::new(
            ResponseCode::TOPIC_NOT_EXIST,
            format!("[reset-offset] reset offset failed, no topic in this broker. topic={topic}"),
        ));
    };
    if broker.offsets.of(group, topic).is_empty() {
        return Err(Refusal::system_error(format!(
            "THe consumer group <{group}> not exist"
        )));
    }
    let mut body = ResetOffsetBody::default();
    for queue_id in 0..config.write_queue_nums {
        let wanted = wanted(broker, topic, queue_id, header.timestamp_ms)?;
        let offset = match broker.offsets.query(group, topic, queue_id) {
            Some(consumed) if !header.force => wanted.min(consumed),
            _ => wanted,
        };
        let queue = MessageQueue::new(topic, &*broker.identity().name, queue_id);
        body.offset_table.insert(queue, offset);
    }
    Ok(body)
}

fn for_c(body: &ResetOffsetBody) -> ResetOffsetBodyForC {
    let queues = body.offset_table.iter();
    let queues = queues.map(|(queue, offset)| MessageQueueForC {
        broker_name: queue.broker_name.clone(),
        offset: *offset,
        queue_id: queue.queue_id,
        topic: queue.topic.clone(),
    });
    ResetOffsetBodyForC {
        offset_table: queues.collect(),
    }
}

/// One group takes over where another one is. Topics that connected consumers of the other one no longer subscribe to are
/// left out, unless it is offline by the operator's word.
fn copy(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: CloneGroupOffsetRequest = call.header()?;
    let from = header.src_group.as_str();
    let topics = match header.topic.as_deref().map(str::trim) {
        None | Some("") => broker.offsets.topics_of(from),
        Some(topic) => BTreeSet::from([topic.to_owned()]),
    };
    let consumers = broker
        .clients
        .consumer_group(from)
        .filter(|_| !header.offline);
    for topic in topics {
        let wanted = consumers
            .as_ref()
            .is_none_or(|group| group.subscription(&topic).is_some());
        if wanted && broker.topics.get(&topic).is_some() {
            broker.offsets.copy(from, &header.dest_group, &topic);
        }
    }
    Ok(Reply::ok())
}

/// The least offset of all groups in each queue of a topic, those aside that the request names; the largest number where the
/// group that asks is behind it. Java 5.3: `AdminBrokerProcessor.queryCorrectionOffset`, which forgets the offsets of the groups
/// that are left out, and fails where only the asking group has an offset.
fn correction(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: QueryCorrectionOffset = call.header()?;
    let topic = header.topic.as_str();
    let without = header.filter_groups.as_deref().unwrap_or("");
    let without: BTreeSet<&str> = without
        .split(GROUP_SEPARATOR)
        .map(str::trim)
        .filter(|group| !group.is_empty())
        .collect();
    let first = |queue_id| broker.store.min_offset(topic, queue_id) as i64;
    let mut correction_offsets = broker.offsets.least(topic, &without, first);
    for (queue_id, compared) in broker.offsets.of(&header.compare_group, topic) {
        let least = correction_offsets.entry(queue_id).or_insert(i64::MAX);
        if *least > compared {
            *least = i64::MAX;
        }
    }
    let body = QueryCorrectionOffsetBody { correction_offsets };
    let dialect = json::Dialect::Fastjson;
    Ok(Reply::ok().body(json::encode_as(&body, dialect)))
}
