//! Finding messages: by key or unique id (12), by message id (33), by the entries of a queue (321).
//! Java 5.3: `QueryMessageProcessor`, `AdminBrokerProcessor`.

use protocol::body::{ConsumeQueueData, QueryConsumeQueueResponseBody};
use protocol::code::{RequestCode, ResponseCode};
use protocol::headers::{
    QueryConsumeQueueRequest, QueryMessageRequest, QueryMessageResponse, UNIQUE_KEY_QUERY,
    ViewMessageRequest,
};
use protocol::json;
use protocol::record::{self, CheckBody};
use protocol::{properties, tags};
use storage::{Read, ReadError, ReadMode};

use crate::Broker;
use crate::call::{Call, Entry, Kind, Refusal, Reply};

pub(crate) const HANDLERS: &[Entry] = &[
    (RequestCode::QUERY_MESSAGE, Kind::Blocking, by_key),
    (RequestCode::VIEW_MESSAGE_BY_ID, Kind::Blocking, by_id),
    (
        RequestCode::QUERY_CONSUME_QUEUE,
        Kind::Blocking,
        queue_entries,
    ),
];

/// Bytes of records in one answer; the oldest ones that do not fit stay out. A frame has room for a little more.
const ANSWER_BYTES_MAX: usize = 15 << 20;
/// Entries of a queue in one answer.
const QUEUE_ENTRIES_MAX: usize = 1000;

fn failed(error: &ReadError) -> Refusal {
    Refusal::system_error(error.to_string())
}

fn by_key(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: QueryMessageRequest = call.header()?;
    let by_unique_key = call
        .request
        .header
        .fields
        .get(UNIQUE_KEY_QUERY)
        .is_some_and(|value| value == "true");
    let max = if by_unique_key {
        broker.keys().default_query_max_num as usize
    } else {
        usize::try_from(header.messages_max).unwrap_or(0)
    };
    let (begin_ms, end_ms) = (header.begin_timestamp_ms, header.end_timestamp_ms);
    let found = broker
        .store
        .query_by_key(&header.topic, &header.key, max, begin_ms, end_ms);
    let found = found.map_err(|error| failed(&error))?;
    let reply_header = QueryMessageResponse {
        index_last_update_timestamp_ms: found.index_last_update_ms,
        index_last_update_physical_offset: found.index_last_update_physical as i64,
    };
    // In the order of the log, as Java gives them.
    let mut bytes = 0;
    let newest_first = found.records.iter().rev();
    let fitting = newest_first.take_while(|record| {
        bytes += record.len();
        bytes <= ANSWER_BYTES_MAX
    });
    let oldest = found.records.len() - fitting.count();
    let body = found.records[oldest..].concat();
    if body.is_empty() {
        return Ok(Reply::with(ResponseCode::QUERY_NOT_FOUND)
            .header(&reply_header)
            .remark("can not find message, maybe time range not correct"));
    }
    Ok(Reply::ok().header(&reply_header).body(body))
}

fn by_id(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: ViewMessageRequest = call.header()?;
    let record = match u64::try_from(header.offset) {
        Ok(physical) => broker
            .store
            .record_at(physical)
            .map_err(|error| failed(&error))?,
        Err(_) => None,
    };
    let record = match (record, u64::try_from(header.offset)) {
        // The log has let go of it; a compaction topic may have it still.
        (None, Ok(physical)) => broker
            .store
            .compacted_record_at(physical)
            .map_err(|error| failed(&error))?,
        (record, _) => record,
    };
    match record {
        Some(record) => Ok(Reply::ok().body(record)),
        None => Err(Refusal::system_error(format!(
            "can not find message by the offset, {}",
            header.offset
        ))),
    }
}

fn queue_entries(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: QueryConsumeQueueRequest = call.header()?;
    let (topic, queue_id) = (header.topic.as_deref().unwrap_or(""), header.queue_id);
    if !broker.store.queues_of(topic).contains(&queue_id) {
        return Err(Refusal::system_error(format!(
            "{queue_id}@{topic} is not exist!"
        )));
    }
    let mut body = QueryConsumeQueueResponseBody {
        min_queue_index: broker.store.min_offset(topic, queue_id) as i64,
        max_queue_index: broker.store.max_offset(topic, queue_id) as i64,
        ..QueryConsumeQueueResponseBody::default()
    };
    if let Some(group) = &header.consumer_group {
        let subscription = broker
            .clients
            .consumer_group(group)
            .and_then(|group| group.subscription(topic));
        body.filter_data = subscription
            .is_none()
            .then(|| format!("{group}@{topic} is not online!"));
        body.subscription_data = subscription.map(std::sync::Arc::unwrap_or_clone);
    }
    let count = usize::try_from(header.count)
        .unwrap_or(0)
        .min(QUEUE_ENTRIES_MAX);
    body.queue_data = entries(broker, topic, queue_id, header.index, count)?;
    Ok(Reply::ok().body(json::encode(&body)))
}

/// The entries as they follow from their records: the queue's file holds nothing else.
fn entries(
    broker: &Broker,
    topic: &str,
    queue_id: i32,
    from: i64,
    count: usize,
) -> Result<Vec<ConsumeQueueData>, Refusal> {
    let mut entries = Vec::new();
    let mut offset = from;
    while entries.len() < count {
        let messages_max = count - entries.len();
        let read = Read {
            topic,
            queue_id,
            offset,
            messages_max,
            bytes_max: ANSWER_BYTES_MAX,
            filter: &|_| true,
        };
        let result = broker
            .store
            .read(&read, ReadMode::Blocking)
            .map_err(|error| failed(&error))?;
        if result.records.is_empty() {
            break;
        }
        for bytes in &result.records {
            let record = record::decode(bytes, CheckBody::No)
                .map_err(|error| Refusal::system_error(error.to_string()))?;
            let tags_code = tags::tags_code(properties::get(record.properties, properties::TAGS));
            entries.push(ConsumeQueueData {
                physic_offset: record.physical_offset as i64,
                physic_size: bytes.len() as i32,
                tags_code,
                ..ConsumeQueueData::default()
            });
        }
        offset = result.next_offset;
    }
    Ok(entries)
}
