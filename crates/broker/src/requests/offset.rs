//! Positions: of consumer groups (14, 15, 43, 222, 314), of delay levels (45), of queues (30, 31), by time (29, 32).
//! Java 5.3: `ConsumerManageProcessor`, `AdminBrokerProcessor`.

use protocol::body::{MessageQueue, ResetOffsetBody};
use protocol::code::{RequestCode, ResponseCode};
use protocol::headers::{
    BoundaryType, CloneGroupOffsetRequest, GetEarliestMsgStoretimeRequest,
    GetEarliestMsgStoretimeResponse, GetMaxOffsetRequest, GetMaxOffsetResponse,
    GetMinOffsetRequest, GetMinOffsetResponse, QueryConsumerOffsetRequest,
    QueryConsumerOffsetResponse, ResetOffsetRequest, SearchOffsetRequest, SearchOffsetResponse,
    UpdateConsumerOffsetRequest,
};
use protocol::json;
use storage::{Boundary, Read, ReadError, ReadMode, ReadStatus};

use crate::Broker;
use crate::call::{Call, Entry, Kind, Refusal, Reply};

pub(crate) const HANDLERS: &[Entry] = &[
    (RequestCode::QUERY_CONSUMER_OFFSET, Kind::Inline, query),
    (RequestCode::UPDATE_CONSUMER_OFFSET, Kind::Inline, update),
    (RequestCode::GET_ALL_CONSUMER_OFFSET, Kind::Blocking, all),
    (RequestCode::GET_ALL_DELAY_OFFSET, Kind::Inline, all_delayed),
    (RequestCode::GET_MAX_OFFSET, Kind::Inline, max),
    (RequestCode::GET_MIN_OFFSET, Kind::Inline, min),
    (
        RequestCode::SEARCH_OFFSET_BY_TIMESTAMP,
        Kind::Blocking,
        by_time,
    ),
    (
        RequestCode::GET_EARLIEST_MSG_STORETIME,
        Kind::Blocking,
        earliest_time,
    ),
    (
        RequestCode::INVOKE_BROKER_TO_RESET_OFFSET,
        Kind::Blocking,
        reset,
    ),
    (RequestCode::CLONE_GROUP_OFFSET, Kind::Inline, copy),
];

/// Queue numbers that an offset may be committed for; no topic has more queues.
const QUEUE_IDS: std::ops::Range<i32> = 0..65_536;
/// A log no longer than this counts as being in memory as a whole. Java: 40 % of the machine's memory.
const WARM_LOG_BYTES_MAX: u64 = 4 << 30;

/// Where a group goes on.
///
/// A group that has never said starts at 0 when the queue's first message is still in memory: then the topic is about as
/// new as the group, and the messages sent before its first consumer came are meant for it.
fn query(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: QueryConsumerOffsetRequest = call.header()?;
    let (topic, queue_id) = (header.topic.as_str(), header.queue_id);
    let found = |offset| Ok(Reply::ok().header(&QueryConsumerOffsetResponse { offset }));
    if let Some(offset) = broker
        .offsets
        .query(&header.consumer_group, topic, queue_id)
    {
        return found(offset);
    }
    if header.set_zero_if_not_found == Some(false) {
        return Err(Refusal::new(
            ResponseCode::QUERY_NOT_FOUND,
            "Not found, do not set to zero, maybe this group boot first",
        ));
    }
    if broker.store.min_offset(topic, queue_id) == 0 && first_is_in_memory(broker, topic, queue_id)
    {
        return found(0);
    }
    Err(Refusal::new(
        ResponseCode::QUERY_NOT_FOUND,
        "Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first",
    ))
}

fn first_is_in_memory(broker: &Broker, topic: &str, queue_id: i32) -> bool {
    let read = Read {
        topic,
        queue_id,
        offset: 0,
        messages_max: 1,
        bytes_max: usize::MAX,
        filter: &|_| true,
    };
    match broker.store.read(&read, ReadMode::NoWait) {
        Ok(result) => result.status == ReadStatus::Found,
        Err(ReadError::WouldBlock) => {
            broker.store.commit_log_max() - broker.store.commit_log_min() <= WARM_LOG_BYTES_MAX
        }
        Err(_) => false,
    }
}

fn update(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: UpdateConsumerOffsetRequest = call.header()?;
    let (group, topic, queue_id) = (
        header.consumer_group.as_str(),
        header.topic.as_str(),
        header.queue_id,
    );
    if broker.groups.get(group).is_none() {
        return Err(Refusal::new(
            ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
            format!("Group {group} not exist!"),
        ));
    }
    if broker.topics.get(topic).is_none() {
        return Err(Refusal::new(
            ResponseCode::TOPIC_NOT_EXIST,
            format!("Topic {topic} not exist!"),
        ));
    }
    if !QUEUE_IDS.contains(&queue_id) {
        return Err(Refusal::new(
            ResponseCode::INVALID_PARAMETER,
            format!("QueueId {queue_id} is illegal, topic is {topic}"),
        ));
    }
    // Consumers that have not heard of an operator's reset commit where they were before it.
    if broker.offsets.has_reset(group, topic, queue_id) {
        return Ok(Reply::ok().remark("Offset has been previously reset"));
    }
    broker
        .offsets
        .commit(group, topic, queue_id, header.commit_offset);
    Ok(Reply::ok())
}

fn all(broker: &Broker, _: &Call<'_>) -> Result<Reply, Refusal> {
    Ok(Reply::ok().body(json::encode_as(
        &broker.offsets.snapshot(),
        json::Dialect::Fastjson,
    )))
}

/// How far each delay level is delivered, as the file holds it.
fn all_delayed(broker: &Broker, _: &Call<'_>) -> Result<Reply, Refusal> {
    Ok(Reply::ok().body(json::encode_as(
        &broker.schedule.table(),
        json::Dialect::Fastjson,
    )))
}

fn max(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: GetMaxOffsetRequest = call.header()?;
    let offset = broker.store.max_offset(&header.topic, header.queue_id) as i64;
    Ok(Reply::ok().header(&GetMaxOffsetResponse { offset }))
}

fn min(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: GetMinOffsetRequest = call.header()?;
    let offset = broker.store.min_offset(&header.topic, header.queue_id) as i64;
    Ok(Reply::ok().header(&GetMinOffsetResponse { offset }))
}

fn by_time(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: SearchOffsetRequest = call.header()?;
    let boundary = match header.boundary_type {
        BoundaryType::Lower => Boundary::Lower,
        BoundaryType::Upper => Boundary::Upper,
    };
    let offset = at_time(
        broker,
        &header.topic,
        header.queue_id,
        header.timestamp_ms,
        boundary,
    )?;
    Ok(Reply::ok().header(&SearchOffsetResponse { offset }))
}

fn at_time(
    broker: &Broker,
    topic: &str,
    queue_id: i32,
    at_ms: i64,
    boundary: Boundary,
) -> Result<i64, Refusal> {
    let offset = broker
        .store
        .offset_by_time(topic, queue_id, at_ms, boundary);
    Ok(offset.map_err(|error| Refusal::system_error(error.to_string()))? as i64)
}

fn earliest_time(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: GetEarliestMsgStoretimeRequest = call.header()?;
    let timestamp_ms = broker
        .store
        .earliest_store_time(&header.topic, header.queue_id)
        .unwrap_or(-1);
    Ok(Reply::ok().header(&GetEarliestMsgStoretimeResponse { timestamp_ms }))
}

/// An operator decides where a group goes on, by offset or by time; -1 as time is the end. Its consumers hear of it with
/// their next pull. Java 5.3: `AdminBrokerProcessor.resetOffsetInner`, its way with `useServerSideResetOffset`.
fn reset(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: ResetOffsetRequest = call.header()?;
    let (group, topic) = (header.group.as_str(), header.topic.as_str());
    if !broker.keys().use_server_side_reset_offset {
        return Err(Refusal::new(
            ResponseCode::REQUEST_CODE_NOT_SUPPORTED,
            "resetting offsets inside clients is not supported; set useServerSideResetOffset=true",
        ));
    }
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
    let named = header
        .offset
        .filter(|offset| header.queue_id >= 0 && *offset != -1);
    let mut body = ResetOffsetBody::default();
    for queue_id in queues {
        let offset = match named {
            Some(offset) => within(broker, topic, queue_id, offset)?,
            None if header.timestamp_ms < 0 => broker.store.max_offset(topic, queue_id) as i64,
            None => at_time(
                broker,
                topic,
                queue_id,
                header.timestamp_ms,
                Boundary::Lower,
            )?,
        };
        body.offset_table.insert(
            MessageQueue::new(topic, &*broker.identity().name, queue_id),
            offset,
        );
    }
    for (queue, offset) in body.offset_table.iter() {
        broker.offsets.reset(group, topic, queue.queue_id, *offset);
    }
    tracing::info!(group, topic, by = %call.connection.peer(), queues = body.offset_table.len(), "offsets were reset");
    broker.offsets.fold().map_err(|error| {
        Refusal::system_error(format!("cannot write consumerOffset.json: {error}"))
    })?;
    Ok(Reply::ok().body(json::encode(&body)))
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

/// One group takes over where another one is. Topics that connected consumers of the other one no longer subscribe to are
/// left out, unless it is offline by the operator's word.
fn copy(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: CloneGroupOffsetRequest = call.header()?;
    let from = header.src_group.as_str();
    let topics = match header.topic.as_deref().map(str::trim) {
        None | Some("") => broker.offsets.topics_of(from),
        Some(topic) => std::iter::once(topic.to_owned()).collect(),
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
