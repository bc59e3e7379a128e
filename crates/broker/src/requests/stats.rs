//! Figures: of topics (202), of groups (208, 303). Java 5.3: `AdminBrokerProcessor`.

use std::collections::BTreeSet;

use protocol::body::{
    ConsumeStats, MessageQueue, OffsetWrapper, QueryConsumeTimeSpanBody, QueueTimeSpan,
    TopicConfig, TopicOffset, TopicStatsTable,
};
use protocol::code::{RequestCode, ResponseCode};
use protocol::headers::{
    GetConsumeStatsRequest, GetTopicStatsInfoRequest, QueryConsumeTimeSpanRequest,
};
use protocol::json;

use crate::Broker;
use crate::call::{Call, Entry, Kind, Refusal, Reply};

pub(crate) const HANDLERS: &[Entry] = &[
    (RequestCode::GET_TOPIC_STATS_INFO, Kind::Blocking, topic),
    (RequestCode::GET_CONSUME_STATS, Kind::Blocking, group),
    (
        RequestCode::QUERY_CONSUME_TIME_SPAN,
        Kind::Blocking,
        time_spans,
    ),
];

/// Between the topics of a request that names several.
const TOPIC_SEPARATOR: char = ';';

fn existing(broker: &Broker, topic: &str) -> Result<std::sync::Arc<TopicConfig>, Refusal> {
    broker.topics.get(topic).ok_or_else(|| {
        Refusal::new(
            ResponseCode::TOPIC_NOT_EXIST,
            format!("topic[{topic}] not exist"),
        )
    })
}

fn queue(broker: &Broker, topic: &str, queue_id: i32) -> MessageQueue {
    MessageQueue::new(topic, &*broker.identity().name, queue_id)
}

/// When the message before `offset` was stored; none when there is no such message.
fn time_before(broker: &Broker, topic: &str, queue_id: i32, offset: i64) -> Option<i64> {
    let before = u64::try_from(offset.checked_sub(1)?).ok()?;
    broker.store.store_time(topic, queue_id, before)
}

fn topic(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: GetTopicStatsInfoRequest = call.header()?;
    let name = &header.topic;
    let config = existing(broker, name)?;
    let mut body = TopicStatsTable::default();
    for queue_id in 0..config.read_queue_nums.max(config.write_queue_nums) {
        let max_offset = broker.store.max_offset(name, queue_id) as i64;
        let offsets = TopicOffset {
            last_update_timestamp: match max_offset {
                0 => 0,
                max => time_before(broker, name, queue_id, max).unwrap_or(-1),
            },
            max_offset,
            min_offset: broker.store.min_offset(name, queue_id) as i64,
        };
        body.offset_table
            .insert(queue(broker, name, queue_id), offsets);
    }
    Ok(Reply::ok().body(json::encode(&body)))
}

fn group(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: GetConsumeStatsRequest = call.header()?;
    let group = &header.consumer_group;
    let mut body = ConsumeStats::default();
    for topic in topics_of_interest(broker, &header) {
        let Some(config) = broker.topics.get(&topic) else {
            continue;
        };
        for queue_id in 0..config.read_queue_nums {
            let consumer_offset = broker.offsets.query(group, &topic, queue_id).unwrap_or(0);
            let offsets = OffsetWrapper {
                broker_offset: broker.store.max_offset(&topic, queue_id) as i64,
                consumer_offset,
                last_timestamp: time_before(broker, &topic, queue_id, consumer_offset).unwrap_or(0),
                pull_offset: consumer_offset,
            };
            body.offset_table
                .insert(queue(broker, &topic, queue_id), offsets);
        }
    }
    Ok(Reply::ok().body(json::encode(&body)))
}

/// The topics that the request lists; otherwise those of the group, or the one that is named, as far as connected
/// consumers still subscribe to them.
fn topics_of_interest(broker: &Broker, header: &GetConsumeStatsRequest) -> BTreeSet<String> {
    let listed = header
        .topic_list
        .as_deref()
        .unwrap_or("")
        .split(TOPIC_SEPARATOR)
        .map(str::trim);
    let listed: BTreeSet<String> = listed
        .filter(|topic| !topic.is_empty())
        .map(str::to_owned)
        .collect();
    if !listed.is_empty() {
        return listed;
    }
    let mut topics = match header.topic.as_deref().map(str::trim) {
        None | Some("") => broker.offsets.topics_of(&header.consumer_group),
        Some(topic) => BTreeSet::from([topic.to_owned()]),
    };
    let subscriptions = broker
        .clients
        .consumer_group(&header.consumer_group)
        .map(|group| group.subscriptions());
    if let Some(subscriptions) = subscriptions.filter(|subscriptions| !subscriptions.is_empty()) {
        topics.retain(|topic| subscriptions.contains_key(topic));
    }
    topics
}

fn time_spans(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: QueryConsumeTimeSpanRequest = call.header()?;
    let (name, store) = (&header.topic, &broker.store);
    let config = existing(broker, name)?;
    let span = |queue_id| {
        let min_time_stamp = store.earliest_store_time(name, queue_id).unwrap_or(-1);
        let max = store.max_offset(name, queue_id) as i64;
        let consumed = broker
            .offsets
            .query(&header.group, name, queue_id)
            .unwrap_or(-1);
        let consume_time_stamp = match consumed {
            1.. => time_before(broker, name, queue_id, consumed).unwrap_or(-1),
            _ => min_time_stamp,
        };
        let delay_time = if consumed < max {
            let next =
                time_before(broker, name, queue_id, consumed.saturating_add(1)).unwrap_or(-1);
            broker.now_ms() - next
        } else {
            0
        };
        QueueTimeSpan {
            consume_time_stamp,
            delay_time,
            max_time_stamp: time_before(broker, name, queue_id, max).unwrap_or(-1),
            message_queue: queue(broker, name, queue_id),
            min_time_stamp,
        }
    };
    let spans = (0..config.write_queue_nums).map(span).collect();
    Ok(Reply::ok().body(json::encode(&QueryConsumeTimeSpanBody {
        consume_time_span_set: spans,
    })))
}
