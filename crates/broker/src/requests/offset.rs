//! Positions: of consumer groups (14, 15, 43), of delay levels (45), of queues (30, 31), by time (29, 32).
//! Java 5.3: `ConsumerManageProcessor`, `AdminBrokerProcessor`.

use protocol::code::{RequestCode, ResponseCode};
use protocol::headers::{
    BoundaryType, GetEarliestMsgStoretimeRequest, GetEarliestMsgStoretimeResponse,
    GetMaxOffsetRequest, GetMaxOffsetResponse, GetMinOffsetRequest, GetMinOffsetResponse,
    QueryConsumerOffsetRequest, QueryConsumerOffsetResponse, SearchOffsetRequest,
    SearchOffsetResponse, UpdateConsumerOffsetRequest,
};
use protocol::json;
use storage::{Boundary, Read, ReadError, ReadMode, ReadStatus};

use crate::Broker;
use crate::call::{Call, Entry, Kind, Refusal, Reply};
use crate::offsets::Commit;

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
    let topic = header.topic.as_str();
    let queue_id = broker.static_topics.physical(topic, header.queue_id)?;
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

pub(crate) fn first_is_in_memory(broker: &Broker, topic: &str, queue_id: i32) -> bool {
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
    broker.locks.used(group, topic, queue_id);
    let queue_id = broker.static_topics.physical(topic, queue_id)?;
    // Consumers that have not followed an operator's reset commit where they were before it.
    if broker.offsets.has_reset(group, topic, queue_id) {
        return Ok(Reply::ok().remark("Offset has been previously reset"));
    }
    let by_consumer = Commit {
        offset: header.commit_offset,
        pulled: None,
        by: call.connection.id(),
        at_ms: broker.now_ms(),
    };
    if commit(broker, group, topic, queue_id, by_consumer) {
        Ok(Reply::ok())
    } else {
        Ok(Reply::ok().remark("another member of the group has come further in this queue"))
    }
}

/// Takes over what a consumer says of its group's offset. False when another member has just said more.
pub(crate) fn commit(
    broker: &Broker,
    group: &str,
    topic: &str,
    queue_id: i32,
    commit: Commit,
) -> bool {
    let are_members = |one, other| {
        let members = broker.clients.consumer_group(group);
        members.is_some_and(|group| group.has(one) && group.has(other))
    };
    broker
        .offsets
        .commit_of_consumer(group, topic, queue_id, commit, are_members)
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
    let queue_id = broker
        .static_topics
        .physical(&header.topic, header.queue_id)?;
    let offset = broker.store.max_offset(&header.topic, queue_id) as i64;
    Ok(Reply::ok().header(&GetMaxOffsetResponse { offset }))
}

fn min(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: GetMinOffsetRequest = call.header()?;
    let queue_id = broker
        .static_topics
        .physical(&header.topic, header.queue_id)?;
    let offset = broker.store.min_offset(&header.topic, queue_id) as i64;
    Ok(Reply::ok().header(&GetMinOffsetResponse { offset }))
}

fn by_time(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: SearchOffsetRequest = call.header()?;
    let boundary = match header.boundary_type {
        BoundaryType::Lower => Boundary::Lower,
        BoundaryType::Upper => Boundary::Upper,
    };
    let queue_id = broker
        .static_topics
        .physical(&header.topic, header.queue_id)?;
    let offset = at_time(
        broker,
        &header.topic,
        queue_id,
        header.timestamp_ms,
        boundary,
    )?;
    Ok(Reply::ok().header(&SearchOffsetResponse { offset }))
}

pub(crate) fn at_time(
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
    let queue_id = broker
        .static_topics
        .physical(&header.topic, header.queue_id)?;
    let timestamp_ms = broker
        .store
        .earliest_store_time(&header.topic, queue_id)
        .unwrap_or(-1);
    Ok(Reply::ok().header(&GetEarliestMsgStoretimeResponse { timestamp_ms }))
}
