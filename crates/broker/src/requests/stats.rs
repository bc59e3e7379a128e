//! Figures: of topics (202), of groups (208, 303, 317), by Java's names for them (315). Java 5.3: `AdminBrokerProcessor`.

use std::collections::{BTreeMap, BTreeSet};

use protocol::body::{
    BrokerStatsData, BrokerStatsItem, ConsumeStats, ConsumeStatsList, MessageQueue, OffsetWrapper,
    QueryConsumeTimeSpanBody, QueueTimeSpan, TopicConfig, TopicOffset, TopicStatsTable,
};
use protocol::code::{RequestCode, ResponseCode};
use protocol::headers::{
    GetConsumeStatsInBroker, GetConsumeStatsRequest, GetTopicStatsInfoRequest,
    QueryConsumeTimeSpanRequest, ViewBrokerStatsDataRequest,
};
use protocol::json;

use crate::Broker;
use crate::call::{Call, Entry, Kind, Refusal, Reply};
use crate::stats::Span;

pub(crate) const HANDLERS: &[Entry] = &[
    (
        RequestCode::GET_BROKER_CONSUME_STATS,
        Kind::Blocking,
        all_groups,
    ),
    (RequestCode::GET_TOPIC_STATS_INFO, Kind::Blocking, topic),
    (RequestCode::GET_CONSUME_STATS, Kind::Blocking, group),
    (
        RequestCode::QUERY_CONSUME_TIME_SPAN,
        Kind::Blocking,
        time_spans,
    ),
    (RequestCode::VIEW_BROKER_STATS_DATA, Kind::Inline, by_name),
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
    let mut body = TopicStatsTable {
        topic_put_tps: broker.stats.put_rate(name),
        ..TopicStatsTable::default()
    };
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
    let mut body = ConsumeStats::default();
    for topic in topics_of_interest(broker, &header) {
        if let Some(config) = broker.topics.get(&topic) {
            let queues = config.read_queue_nums;
            add_progress(broker, &header.consumer_group, &topic, queues, &mut body);
        }
    }
    Ok(Reply::ok().body(json::encode(&body)))
}

/// How far the group has come in each queue of a topic.
fn add_progress(broker: &Broker, group: &str, topic: &str, queues: i32, stats: &mut ConsumeStats) {
    for queue_id in 0..queues {
        let consumer_offset = broker.offsets.query(group, topic, queue_id).unwrap_or(0);
        let pulled = broker.offsets.pulled(group, topic, queue_id);
        let offsets = OffsetWrapper {
            broker_offset: broker.store.max_offset(topic, queue_id) as i64,
            consumer_offset,
            last_timestamp: time_before(broker, topic, queue_id, consumer_offset).unwrap_or(0),
            pull_offset: pulled.unwrap_or(consumer_offset).max(consumer_offset),
        };
        let queue = queue(broker, topic, queue_id);
        stats.offset_table.insert(queue, offsets);
    }
    stats.consume_tps += broker.stats.got_rate(topic, group);
}

/// The progress of all groups, or of those that consume ordered topics.
fn all_groups(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: GetConsumeStatsInBroker = call.header()?;
    let mut body = ConsumeStatsList {
        broker_addr: broker.identity().advertised.to_string(),
        ..ConsumeStatsList::default()
    };
    for group in broker
        .groups
        .snapshot()
        .subscription_group_table
        .into_keys()
    {
        let mut of_group = Vec::new();
        for topic in subscribed(broker, &group, broker.offsets.topics_of(&group)) {
            let config = broker.topics.get(&topic);
            let Some(config) = config.filter(|config| config.order || !header.order) else {
                continue;
            };
            let mut stats = ConsumeStats::default();
            add_progress(broker, &group, &topic, config.write_queue_nums, &mut stats);
            for offsets in stats.offset_table.values() {
                body.total_diff += offsets.broker_offset - offsets.consumer_offset;
                body.total_inflight_diff += offsets.pull_offset - offsets.consumer_offset;
            }
            of_group.push(stats);
        }
        body.consume_stats_list
            .push(BTreeMap::from([(group, of_group)]));
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
    let topics = match header.topic.as_deref().map(str::trim) {
        None | Some("") => broker.offsets.topics_of(&header.consumer_group),
        Some(topic) => BTreeSet::from([topic.to_owned()]),
    };
    subscribed(broker, &header.consumer_group, topics)
}

/// Those of `topics` that the group's connected consumers still subscribe to; all of them when none is connected.
fn subscribed(broker: &Broker, group: &str, mut topics: BTreeSet<String>) -> BTreeSet<String> {
    let connected = broker.clients.consumer_group(group);
    let subscriptions = connected.map(|group| group.subscriptions());
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

fn by_name(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: ViewBrokerStatsDataRequest = call.header()?;
    let (name, key) = (header.stats_name.as_str(), header.stats_key.as_str());
    let cluster = &broker.identity().cluster;
    let body = broker.stats.find(name, key, cluster, |item, figure| {
        let of = |span| {
            let snapshot = item.of(figure, span);
            BrokerStatsItem {
                avgpt: snapshot.average,
                sum: snapshot.sum,
                tps: snapshot.rate,
            }
        };
        BrokerStatsData {
            stats_day: of(Span::Day),
            stats_hour: of(Span::Hour),
            stats_minute: of(Span::Minute),
        }
    });
    let body =
        body.ok_or_else(|| Refusal::system_error(format!("The stats <{name}> <{key}> not exist")))?;
    Ok(Reply::ok().body(json::encode(&body)))
}
