//! ACK_MESSAGE (200051), BATCH_ACK_MESSAGE (200151) and CHANGE_MESSAGE_INVISIBLETIME (200053): what consumers say of messages they popped.
//! Java 5.3: `AckMessageProcessor`, `ChangeInvisibleTimeProcessor`.
//!
//! An acknowledgement that comes twice or too late is a success with a remark: the message is done, or on its way again, and its consumer
//! can do nothing about it.

use std::sync::atomic::{AtomicU64, Ordering};

use protocol::body::{BatchAck, BatchAckMessageRequestBody};
use protocol::code::{RequestCode, ResponseCode};
use protocol::headers::{
    AckMessageRequest, ChangeInvisibleTimeRequest, ChangeInvisibleTimeResponse,
};
use protocol::pop::{Handle, ORDER_REVIVE_QUEUE, Origin};

use crate::Broker;
use crate::call::{Call, Entry, Kind, Refusal, Reply};
use crate::pop::in_flight::Outcome;
use crate::pop::pop_clock;
use crate::pop::progress::Stamp;
use crate::requests::pop::check_invisible;
use crate::requests::send::topic::SEE_FAQ;

pub(crate) const HANDLERS: &[Entry] = &[
    (RequestCode::ACK_MESSAGE, Kind::Inline, ack),
    (RequestCode::BATCH_ACK_MESSAGE, Kind::Inline, ack_batch),
    (
        RequestCode::CHANGE_MESSAGE_INVISIBLETIME,
        Kind::Inline,
        change,
    ),
];

/// Entries of one batch that are looked at: each is a pop of up to 32 messages.
const BATCH_MAX: usize = 1024;
const STALE: &str = "nothing to do: the message was acknowledged before, or its invisible time was over and it is delivered again";

/// Which message of which pop.
struct Popped<'a> {
    group: &'a str,
    topic: &'a str,
    queue_id: i32,
    offset: i64,
    popped_ms: i64,
    in_order: bool,
}

fn ack(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: AckMessageRequest = call.header()?;
    let (topic, queue_id, offset) = (&header.topic, header.queue_id, header.offset);
    check_queue(broker, topic, queue_id)?;
    check_offset(broker, topic, queue_id, offset, true)?;
    let handle = handle(broker, &header.extra_info, queue_id, offset)?;
    let popped = Popped {
        group: &header.consumer_group,
        topic,
        queue_id,
        offset,
        popped_ms: handle.popped_ms,
        in_order: handle.is_order(),
    };
    Ok(answer(acknowledge(broker, &popped)))
}

/// Each message is acknowledged by itself; those that are not in flight are passed over, as in Java.
fn ack_batch(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    if call.body().is_empty() {
        return Err(Refusal::new(
            ResponseCode::NO_MESSAGE,
            "the body names no message",
        ));
    }
    let body: BatchAckMessageRequestBody = call.json()?;
    if body.acks.is_empty() {
        return Err(Refusal::new(
            ResponseCode::NO_MESSAGE,
            "the body names no message",
        ));
    }
    if body.acks.len() > BATCH_MAX {
        return Err(illegal(format!(
            "{} pops in one request are too many: the limit is {BATCH_MAX}",
            body.acks.len()
        )));
    }
    if let Some(name) = body.broker_name.as_deref() {
        check_broker(broker, name)?;
    }
    let mut outcome = Outcome::Done;
    for batch in &body.acks {
        if ack_pop(broker, batch)? == Outcome::Stale {
            outcome = Outcome::Stale;
        }
    }
    Ok(answer(outcome))
}

fn ack_pop(broker: &Broker, batch: &BatchAck) -> Result<Outcome, Refusal> {
    let origin = Origin::from_mark(&batch.retry).ok_or_else(|| {
        illegal(format!(
            "retry[{}] is illegal: it is 0, 1 or 2",
            batch.retry
        ))
    })?;
    let topic = origin.real_topic(&batch.consumer_group, &batch.topic);
    check_queue(broker, &topic, batch.queue_id)?;
    let offsets = batch.offsets().ok_or_else(|| {
        illegal(format!(
            "the bits of the offsets behind {} are illegal: they are base64 of at most {} bits",
            batch.start_offset,
            BatchAck::BITS_MAX
        ))
    })?;
    let mut outcome = Outcome::Done;
    for offset in offsets {
        let popped = Popped {
            group: &batch.consumer_group,
            topic: &topic,
            queue_id: batch.queue_id,
            offset,
            popped_ms: batch.pop_time_ms,
            in_order: batch.revive_queue_id == ORDER_REVIVE_QUEUE,
        };
        if acknowledge(broker, &popped) == Outcome::Stale {
            outcome = Outcome::Stale;
        }
    }
    Ok(outcome)
}

fn acknowledge(broker: &Broker, popped: &Popped<'_>) -> Outcome {
    let pop = &broker.pop;
    let Some(queue) = pop.find(popped.group, popped.topic, popped.queue_id) else {
        count(&pop.figures.stale);
        return Outcome::Stale;
    };
    let outcome = queue
        .lock(broker)
        .acknowledge(popped.offset, popped.popped_ms, popped.in_order);
    match outcome {
        Outcome::Done => {
            count(&pop.figures.acknowledged);
            // Others may go on with a queue that stood still.
            if popped.in_order || broker.keys().enable_pop_message_threshold {
                pop.waiting.wake(popped.topic, Some(popped.group));
            }
        }
        Outcome::Stale => count(&pop.figures.stale),
    }
    outcome
}

/// A message is hidden for another time, which counts from this moment. 0 gives it back at once.
fn change(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: ChangeInvisibleTimeRequest = call.header()?;
    let (topic, queue_id, offset) = (&header.topic, header.queue_id, header.offset);
    check_queue(broker, topic, queue_id)?;
    check_offset(broker, topic, queue_id, offset, false)?;
    let handle = handle(broker, &header.extra_info, queue_id, offset)?;
    check_invisible(header.invisible_time_ms, 0)?;
    // Within the same millisecond the old handle would be the same as the one that replaces it.
    let now_ms = broker.now_ms().max(handle.popped_ms.saturating_add(1));
    let stamp = Stamp {
        popped_ms: now_ms,
        due_at: pop_clock(broker).saturating_add(header.invisible_time_ms),
    };
    let queue = broker.pop.find(&header.consumer_group, topic, queue_id);
    let outcome = queue.map_or(Outcome::Stale, |queue| {
        let in_order = handle.is_order();
        let mut progress = queue.lock(broker);
        progress.postpone(offset, handle.popped_ms, in_order, stamp)
    });
    let (pop_time_ms, invisible_time_ms) = match outcome {
        // A pop in order keeps its time: its messages are known by it.
        Outcome::Done if handle.is_order() => {
            let visible_ms = now_ms.saturating_add(header.invisible_time_ms);
            (
                handle.popped_ms,
                visible_ms.saturating_sub(handle.popped_ms),
            )
        }
        Outcome::Done => (now_ms, header.invisible_time_ms),
        Outcome::Stale => {
            count(&broker.pop.figures.stale);
            (handle.popped_ms, handle.invisible_ms)
        }
    };
    Ok(answer(outcome).header(&ChangeInvisibleTimeResponse {
        pop_time_ms,
        invisible_time_ms,
        revive_qid: handle.revive_queue,
    }))
}

fn answer(outcome: Outcome) -> Reply {
    match outcome {
        Outcome::Done => Reply::ok(),
        Outcome::Stale => Reply::ok().remark(STALE),
    }
}

fn count(figure: &AtomicU64) {
    figure.fetch_add(1, Ordering::Relaxed);
}

fn check_queue(broker: &Broker, topic: &str, queue_id: i32) -> Result<(), Refusal> {
    let config = broker.topics.get(topic).ok_or_else(|| {
        Refusal::new(
            ResponseCode::TOPIC_NOT_EXIST,
            format!("topic[{topic}] not exist, apply first please! {SEE_FAQ}"),
        )
    })?;
    if (0..config.read_queue_nums).contains(&queue_id) {
        return Ok(());
    }
    Err(illegal(format!(
        "queueId[{queue_id}] is illegal, topic:[{topic}] topicConfig.readQueueNums:[{}]",
        config.read_queue_nums
    )))
}

fn check_offset(
    broker: &Broker,
    topic: &str,
    queue_id: i32,
    offset: i64,
    with_end: bool,
) -> Result<(), Refusal> {
    let min = broker.store.min_offset(topic, queue_id) as i64;
    let max = broker.store.max_offset(topic, queue_id) as i64;
    let end = max.saturating_add(i64::from(with_end));
    if (min..end).contains(&offset) {
        return Ok(());
    }
    Err(Refusal::new(
        ResponseCode::NO_MESSAGE,
        format!("offset is illegal, key:{topic}@{queue_id}, commit:{offset}, store:{min}~{max}"),
    ))
}

/// The handle that came with a request, which must speak of the same message on this broker.
fn handle<'a>(
    broker: &Broker,
    text: &'a str,
    queue_id: i32,
    offset: i64,
) -> Result<Handle<'a>, Refusal> {
    let handle = Handle::parse(text).map_err(|error| illegal(error.to_string()))?;
    check_broker(broker, handle.broker_name)?;
    if handle.queue_id != queue_id || handle.offset.is_some_and(|named| named != offset) {
        return Err(illegal(format!(
            "the receipt handle is of queue {} and offset {:?}, the request is about queue {queue_id} and offset {offset}",
            handle.queue_id, handle.offset
        )));
    }
    Ok(handle)
}

fn check_broker(broker: &Broker, name: &str) -> Result<(), Refusal> {
    let own = &broker.identity().name;
    if name.is_empty() || name == &**own {
        return Ok(());
    }
    Err(illegal(format!(
        "the receipt handle is of broker[{name}], this is broker[{own}]"
    )))
}

fn illegal(remark: String) -> Refusal {
    Refusal::new(ResponseCode::MESSAGE_ILLEGAL, remark)
}
