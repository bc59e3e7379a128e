//! RESUME_CHECK_HALF_MESSAGE (323): an operator has a transaction checked again that was given up. Java 5.3: `AdminBrokerProcessor.resumeCheckHalfMessage`,
//! which makes a half of any message that it is given the id of.

use protocol::code::{RequestCode, ResponseCode};
use protocol::headers::ResumeCheckHalfMessageRequest;
use protocol::message_id;
use protocol::record::{self, CheckBody, Record};
use protocol::topic;

use crate::Broker;
use crate::call::{Call, Entry, Kind, Refusal, Reply};
use crate::requests::send::refusal as refusal_of;
use crate::requests::send_back::wait_for_flush;
use crate::transactions::{HalfRecord, Past, QUEUE, past_of};

pub(crate) const HANDLERS: &[Entry] = &[(
    RequestCode::RESUME_CHECK_HALF_MESSAGE,
    Kind::Blocking,
    resume,
)];

fn resume(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: ResumeCheckHalfMessageRequest = call.header()?;
    let id = header.msg_id.as_deref().unwrap_or("");
    let Some((_, physical)) = message_id::decode_offset_id(id) else {
        return Err(Refusal::system_error(format!("{id} is no message id")));
    };
    let bytes = broker.store.record_at(physical);
    let bytes = bytes.map_err(|error| Refusal::system_error(error.to_string()))?;
    let bytes = bytes
        .ok_or_else(|| Refusal::system_error(format!("can not find message by the id, {id}")))?;
    let record = record::decode(&bytes, CheckBody::No)
        .map_err(|error| Refusal::system_error(error.to_string()))?;
    let (queue_offset, physical) = (record.queue_offset, record.physical_offset);
    if record.topic == topic::TRANS_HALF && broker.transactions.is_pending(queue_offset, physical) {
        broker
            .transactions
            .forget_checks(queue_offset, broker.now_ms());
        return Ok(Reply::ok());
    }
    let half = given_up(record).ok_or_else(|| {
        Refusal::new(
            ResponseCode::ILLEGAL_OPERATION,
            format!(
                "message {id} is neither a pending transaction nor one that was given up ({})",
                topic::TRANS_CHECK_MAX_TIME
            ),
        )
    })?;
    broker
        .transactions
        .commit_late(|| store(broker, &half))
        .map(|()| Reply::ok())
}

/// A message of the topic of those that were given up, as the half that it was.
fn given_up(record: Record<'_>) -> Option<HalfRecord<'_>> {
    if record.topic != topic::TRANS_CHECK_MAX_TIME {
        return None;
    }
    HalfRecord::of(Record {
        topic: topic::TRANS_HALF,
        ..record
    })
}

fn store(broker: &Broker, half: &HalfRecord<'_>) -> Result<(), Refusal> {
    let past = past_of(&broker.transactions, half)
        .map_err(|error| Refusal::system_error(error.to_string()))?;
    match past {
        Past::Committed => {
            return Err(Refusal::new(
                ResponseCode::ILLEGAL_OPERATION,
                "the transaction was committed meanwhile",
            ));
        }
        // Resumed before, and not ended since.
        Past::Copied { .. } => return Ok(()),
        Past::GivenUp | Past::Nothing => {}
    }
    let properties = half.properties_after(0);
    let message = half.message(topic::TRANS_HALF, QUEUE, &properties);
    let mut appended = Vec::with_capacity(1);
    broker
        .store
        .append(std::slice::from_ref(&message), &mut appended)
        .map_err(|error| refusal_of(&error, broker.settings().limits.message_bytes_max))?;
    let appended = appended[0];
    broker.transactions.resumed(broker, &appended, half);
    broker
        .counters
        .put(1, appended.physical_offset, appended.end);
    tracing::info!(
        topic = half.real_topic,
        transaction = half.unique_id,
        offset = appended.queue_offset,
        "a transaction that was given up is checked again"
    );
    wait_for_flush(broker, appended.end)
}
