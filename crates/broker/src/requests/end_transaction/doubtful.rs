//! Ends of transactions that need a second look, on the blocking pool: the half is cold, was pending at the start, or is not pending.
//!
//! Where it is not pending, the log and the index say what became of it, and the answer is one that can be repeated: the same end again is a success,
//! the opposite one is refused, a copy is ended in the place of the half, and what was given up can still be committed.

use std::sync::Arc;

use bytes::Bytes;
use protocol::code::ResponseCode;
use protocol::reply::ReplyHead;
use remoting::Connection;
use storage::ReadError;

use crate::Broker;
use crate::call::Refusal;
use crate::requests::send_back::wait_for_flush;
use crate::transactions::{HalfRecord, NotTaken, Past, Taken, past_of};

use super::{Decision, End, Ready, busy, not_found, refused, understood};

/// Decides on the blocking pool, and answers from there.
pub(super) fn serve(
    broker: &Arc<Broker>,
    connection: &Arc<Connection>,
    head: ReplyHead,
    end: End,
) -> Result<(), Refusal> {
    // The record that is read may be as large as any.
    let bytes_max = broker.keys().max_message_size as usize;
    let permit = broker.blocking_permit(connection, bytes_max)?;
    let (broker, connection) = (broker.clone(), connection.clone());
    broker.runtime.clone().spawn_blocking(move || {
        let (code, remark) = match decide(&broker, head, &end) {
            Ok(remark) => (ResponseCode::SUCCESS, remark.map(str::to_owned)),
            Err(refusal) => {
                tracing::debug!(code = %refusal.code, remark = refusal.remark, "a transaction is not ended");
                (refusal.code, Some(refusal.remark))
            }
        };
        if let Err(error) = connection.reply(head, code, remark.as_deref(), &(), &[]) {
            tracing::debug!(peer = %connection.peer(), %error, "an answer to the end of a transaction found no way");
        }
        drop(permit);
    });
    Ok(())
}

type Outcome = Result<Option<&'static str>, Refusal>;

fn decide(broker: &Arc<Broker>, head: ReplyHead, end: &End) -> Outcome {
    let bytes = broker.store.record_at(end.physical());
    let bytes = bytes.map_err(|error| failed(&error))?;
    let bytes = bytes.ok_or_else(not_found)?;
    let half = understood(&bytes).ok_or_else(not_found)?;
    end.check(broker, &half)?;
    match broker.transactions.take(end.offset(), end.physical()) {
        Ok(taken) => decide_pending(broker, head, end, &half, taken, &bytes),
        Err(NotTaken::Busy) => Err(busy()),
        // The record lies where the request says, so no other place is meant.
        Err(NotTaken::Elsewhere | NotTaken::NotPending) => decide_past(broker, head, end, &half),
    }
}

fn failed(error: &ReadError) -> Refusal {
    Refusal::system_error(error.to_string())
}

/// Ends a half that is pending, unless a commit of it is in the log.
fn decide_pending(
    broker: &Arc<Broker>,
    head: ReplyHead,
    end: &End,
    half: &HalfRecord<'_>,
    mut taken: Taken,
    bytes: &Bytes,
) -> Outcome {
    if !taken.is_verified() {
        let past = past_of(&broker.transactions, half).map_err(|error| failed(&error))?;
        if past == Past::Committed {
            // The op message was lost with the power; it is written again.
            let written = broker
                .transactions
                .end(broker, &mut [&mut taken], Vec::new());
            written.map_err(|error| refused(broker, &error))?;
            return after_commit(end);
        }
        taken.verified();
    }
    let mut ready = [Ready {
        head,
        end: end.clone(),
        taken,
        record: bytes.clone(),
    }];
    let appended = super::store(broker, &mut ready).map_err(|error| refused(broker, &error))?;
    end.count(broker);
    if let Some(last) = appended.last() {
        wait_for_flush(broker, last.end)?;
    }
    Ok(None)
}

/// What is said about a half whose message is with its consumers.
fn after_commit(end: &End) -> Outcome {
    match end.decision {
        Decision::Commit => Ok(Some(
            "the transaction was committed before; nothing was stored",
        )),
        Decision::Rollback => Err(Refusal::new(
            ResponseCode::ILLEGAL_OPERATION,
            "the transaction was committed before; its message is with its consumers and cannot be taken back",
        )),
    }
}

fn decide_past(broker: &Arc<Broker>, head: ReplyHead, end: &End, half: &HalfRecord<'_>) -> Outcome {
    let look = || past_of(&broker.transactions, half).map_err(|error| failed(&error));
    let mut past = look()?;
    if past == Past::Nothing {
        // What became of it may have been stored a moment ago: it is found when it is flushed.
        wait_for_flush(broker, broker.store.commit_log_max())?;
        past = look()?;
    }
    match (past, end.decision) {
        (Past::Committed, _) => after_commit(end),
        (Past::Copied { offset, physical }, _) => end_copy(broker, head, end, offset, physical),
        (Past::GivenUp, Decision::Rollback) => Ok(Some(
            "the transaction was given up before; its message stays in TRANS_CHECK_MAX_TIME_TOPIC",
        )),
        (Past::GivenUp, Decision::Commit) => commit_late(broker, end, half),
        (Past::Nothing, Decision::Rollback) => {
            Ok(Some("the transaction is over; nothing was stored"))
        }
        (Past::Nothing, Decision::Commit) => Err(Refusal::new(
            ResponseCode::ILLEGAL_OPERATION,
            "the transaction is over, and no commit of it is found: it was rolled back, or messageIndexEnable=false and it was committed; nothing was stored",
        )),
    }
}

/// The half was stored again, and its producer does not know.
fn end_copy(
    broker: &Arc<Broker>,
    head: ReplyHead,
    end: &End,
    offset: u64,
    physical: u64,
) -> Outcome {
    let bytes = broker.store.record_at(physical);
    let bytes = bytes.map_err(|error| failed(&error))?;
    let bytes = bytes.ok_or_else(not_found)?;
    let copy = understood(&bytes).ok_or_else(not_found)?;
    match broker.transactions.take(offset, physical) {
        Ok(taken) => decide_pending(broker, head, end, &copy, taken, &bytes),
        Err(_) => Err(busy()),
    }
}

/// A producer that comes back late with a commit still has its message delivered, once.
fn commit_late(broker: &Arc<Broker>, end: &End, half: &HalfRecord<'_>) -> Outcome {
    let committed = broker.transactions.commit_late(|| {
        let past = past_of(&broker.transactions, half).map_err(|error| failed(&error))?;
        if past != Past::GivenUp {
            return Err(busy());
        }
        let commit = half.commit_at(broker.now_ms());
        let levels = broker.store.delay_levels_ms().len();
        let message = half.committed(&commit, levels);
        let mut appended = Vec::with_capacity(1);
        broker
            .store
            .append(std::slice::from_ref(&message), &mut appended)
            .map_err(|error| refused(broker, &error))?;
        Ok(appended[0])
    })?;
    broker
        .counters
        .put(1, committed.physical_offset, committed.end);
    end.count(broker);
    tracing::info!(
        topic = half.real_topic,
        transaction = half.unique_id,
        "a transaction that had been given up is committed after all"
    );
    wait_for_flush(broker, committed.end)?;
    Ok(Some(
        "the transaction had been given up; its message is delivered all the same",
    ))
}
