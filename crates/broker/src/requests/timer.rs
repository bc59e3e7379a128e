//! RECALL_MESSAGE (370), GET_TIMER_CHECK_POINT (60), GET_TIMER_METRICS (61). Java 5.3: `RecallMessageProcessor`, `AdminBrokerProcessor`.
//!
//! A recall is answered as a send is: under `SYNC_FLUSH` only after the disk has the order. It succeeds only if the message will not be delivered; Java says so of any
//! time that is not over.

use bytes::Bytes;
use protocol::code::{RequestCode, ResponseCode};
use protocol::headers::{RecallMessageRequest, RecallMessageResponse};
use protocol::recall::RecallHandle;
use protocol::{json, perm, properties as names, record, topic};

use crate::Broker;
use crate::call::{Call, Entry, Kind, Refusal, Reply};
use crate::requests::send_back::wait_for_flush;
use crate::timers::{RecallRequest, Recalled, Timers};

pub(crate) const HANDLERS: &[Entry] = &[
    (RequestCode::RECALL_MESSAGE, Kind::Blocking, recall),
    (
        RequestCode::GET_TIMER_CHECK_POINT,
        Kind::Blocking,
        check_point,
    ),
    (RequestCode::GET_TIMER_METRICS, Kind::Blocking, metrics),
];

/// Records of one id that are looked through: the message, each time it was stored anew, and orders to drop it.
const SAME_ID_MAX: usize = 64;

fn timers(broker: &Broker) -> Result<&Timers, Refusal> {
    broker.timers.as_deref().ok_or_else(|| {
        Refusal::system_error("timer messages are not enabled, timerWheelEnable is false")
    })
}

fn check_point(broker: &Broker, _: &Call<'_>) -> Result<Reply, Refusal> {
    Ok(Reply::ok().body(timers(broker)?.check_point()))
}

fn metrics(broker: &Broker, _: &Call<'_>) -> Result<Reply, Refusal> {
    Ok(Reply::ok().body(json::encode(&timers(broker)?.metrics())))
}

fn illegal(remark: impl Into<String>) -> Refusal {
    Refusal::new(ResponseCode::ILLEGAL_OPERATION, remark)
}

/// The checks are Java's, in its order.
fn recall(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: RecallMessageRequest = call.header()?;
    let keys = broker.keys();
    if !keys.recall_message_enable {
        return Err(Refusal::new(
            ResponseCode::NO_PERMISSION,
            "recall failed, operation is forbidden",
        ));
    }
    if !perm::is_writable(keys.broker_permission) && !keys.allow_recall_when_broker_not_writeable {
        return Err(Refusal::new(
            ResponseCode::SERVICE_NOT_AVAILABLE,
            "recall failed, broker service not available",
        ));
    }
    if broker.topics.get(&header.topic).is_none() {
        return Err(Refusal::new(
            ResponseCode::TOPIC_NOT_EXIST,
            format!("recall failed, the topic[{}] not exist", header.topic),
        ));
    }
    let handle =
        RecallHandle::decode(&header.recall_handle).map_err(|error| illegal(error.to_string()))?;
    if handle.topic != header.topic {
        return Err(illegal("recall failed, topic not match"));
    }
    if *handle.broker_name != *broker.identity().name {
        return Err(illegal("recall failed, broker service not available"));
    }
    let left_ms = handle.timestamp_ms.saturating_sub(broker.now_ms());
    let left_ms_max =
        i64::try_from(keys.timer_max_delay_sec.saturating_mul(1000)).unwrap_or(i64::MAX);
    // A handle's time lies one millisecond behind the message's.
    if left_ms <= 0 || left_ms > left_ms_max.saturating_add(1) {
        return Err(illegal("recall failed, timestamp invalid"));
    }
    let timers = timers(broker)?;
    let found = find(broker, &handle)?;
    if found.is_none() && keys.message_index_enable {
        return Err(illegal("recall failed, no message of this id waits here"));
    }
    let request = RecallRequest {
        topic: &handle.topic,
        unique_id: &handle.unique_id,
        producer_group: header.producer_group.as_deref().unwrap_or_default(),
        timestamp_ms: handle.timestamp_ms,
        born_host: call.connection.peer(),
        store_host: broker.identity().address,
    };
    match timers.recall(&request, found.as_ref()) {
        Recalled::Yes(appended) => {
            wait_for_flush(broker, appended.end)?;
            Ok(Reply::ok().header(&RecallMessageResponse {
                msg_id: handle.unique_id,
            }))
        }
        Recalled::TooLate => Err(illegal("recall failed, the message is delivered already")),
        Recalled::TooMany => Err(Refusal::system_error(
            "recall failed, too many messages were recalled whose time is not over; try again later",
        )),
        Recalled::Failed(error) => Err(Refusal::system_error(format!(
            "recall failed, execute error: {error}"
        ))),
    }
}

/// The last record of the message in the timer topic.
fn find(broker: &Broker, handle: &RecallHandle) -> Result<Option<Bytes>, Refusal> {
    let found =
        broker
            .store
            .query_by_key(topic::TIMER, &handle.unique_id, SAME_ID_MAX, 0, i64::MAX);
    let found = found
        .map_err(|error| Refusal::system_error(format!("recall failed, execute error: {error}")))?;
    let is_the_message = |bytes: &&Bytes| {
        record::decode(bytes, record::CheckBody::No).is_ok_and(|record| {
            names::get(record.properties, names::TIMER_DEL_UNIQKEY).is_none()
                && names::get(record.properties, names::REAL_TOPIC) == Some(&*handle.topic)
                && names::get(record.properties, names::UNIQ_KEY) == Some(&*handle.unique_id)
        })
    };
    Ok(found.records.iter().rfind(is_the_message).cloned())
}
