//! END_TRANSACTION (37): a producer says how the transaction of a half message ended. Java 5.3: `EndTransactionProcessor`.
//!
//! All ends that one read of a connection yielded are checked one by one, then stored in one append: the messages of the commits, and one op message
//! behind them. They are answered as sends are: under `SYNC_FLUSH` only after the disk has them. What needs the disk, or is about a half that is not
//! pending, goes to the blocking pool ([`doubtful`]).

mod doubtful;

use std::sync::Arc;

use bytes::Bytes;
use protocol::code::{RequestCode, ResponseCode};
use protocol::headers::EndTransactionRequest;
use protocol::record::{self, CheckBody};
use protocol::reply::ReplyHead;
use protocol::sysflag;
use remoting::{Connection, Replies, Request};
use storage::{AppendError, Appended, FlushMode, NewMessage, ReadError};

use crate::Broker;
use crate::call::Refusal;
use crate::requests::send::{is_about_a_message, refusal as refusal_of};
use crate::transactions::{Counters, HalfRecord, NotTaken, Taken};

/// Ends in one append.
const ENDS_MAX: usize = 256;
/// Bytes of half messages in one append, unless one is larger.
const APPEND_BYTES_MAX: usize = 4 << 20;

/// Whether a request ends a transaction.
pub(crate) fn is_end(code: RequestCode) -> bool {
    code == RequestCode::END_TRANSACTION
}

/// How the producer says that its transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Commit,
    Rollback,
}

/// A request that was read.
#[derive(Clone, Debug)]
struct End {
    header: EndTransactionRequest,
    decision: Decision,
}

impl End {
    fn read(request: &Request<'_>) -> Result<Option<End>, Refusal> {
        let header: EndTransactionRequest = request.read()?;
        let decision = match header.commit_or_rollback {
            sysflag::TRANSACTION_COMMIT => Decision::Commit,
            sysflag::TRANSACTION_ROLLBACK => Decision::Rollback,
            sysflag::TRANSACTION_NONE => return Ok(None),
            other => {
                return Err(Refusal::new(
                    ResponseCode::INVALID_PARAMETER,
                    format!(
                        "commitOrRollback={other} says nothing; 8 commits, 12 rolls back, 0 does not know yet"
                    ),
                ));
            }
        };
        Ok(Some(End { header, decision }))
    }

    /// The half's queue offset. One that no queue has is not found.
    fn offset(&self) -> u64 {
        u64::try_from(self.header.tran_state_table_offset).unwrap_or(u64::MAX)
    }

    fn physical(&self) -> u64 {
        u64::try_from(self.header.commit_log_offset).unwrap_or(u64::MAX)
    }

    /// Whether this request may end that half. The texts are Java's.
    fn check(&self, broker: &Broker, half: &HalfRecord<'_>) -> Result<(), Refusal> {
        if half.group != self.header.producer_group {
            return Err(Refusal::system_error("The producer group wrong"));
        }
        if half.record.queue_offset != self.offset() {
            return Err(Refusal::system_error(
                "The transaction state table offset wrong",
            ));
        }
        let age_ms = broker.now_ms().saturating_sub(half.stored_ms());
        let timeout_ms = broker.keys().transaction_time_out;
        if !self.header.from_transaction_check
            && half.has_immunity()
            && age_ms > half.immunity_ms(timeout_ms)
        {
            return Err(Refusal::new(
                ResponseCode::ILLEGAL_OPERATION,
                "the transaction is older than its CHECK_IMMUNITY_TIME_IN_SECONDS: only the answer to a check ends it",
            ));
        }
        Ok(())
    }

    fn count(&self, broker: &Broker) {
        let counters = broker.transactions.counters();
        Counters::add(match self.decision {
            Decision::Commit => &counters.committed,
            Decision::Rollback => &counters.rolled_back,
        });
    }
}

fn not_found() -> Refusal {
    Refusal::system_error("Find prepared transaction message failed")
}

fn busy() -> Refusal {
    Refusal::new(
        ResponseCode::SYSTEM_BUSY,
        "another request ends this transaction at this moment; ask again",
    )
}

/// An end that passed its checks and waits for its append.
struct Ready {
    head: ReplyHead,
    end: End,
    taken: Taken,
    record: Bytes,
}

/// What became of a request at first sight.
enum Begun {
    Ready(Box<Ready>),
    /// The blocking pool decides.
    Doubtful(End),
    /// The producer does not know yet: the half stays, and is checked.
    Undecided,
}

/// Serves every end of a transaction among `requests`.
pub(crate) fn serve(
    broker: &Arc<Broker>,
    connection: &Arc<Connection>,
    requests: &[Request<'_>],
    replies: &mut Replies,
) {
    let mut ready: Vec<Ready> = Vec::new();
    let mut bytes = 0;
    for request in requests.iter().filter(|request| is_end(request.code())) {
        if ready.len() >= ENDS_MAX || bytes > APPEND_BYTES_MAX {
            append(broker, &mut ready, replies);
            bytes = 0;
        }
        let head = request.head();
        let mut begun = begin(broker, request);
        if matches!(&begun, Err(refusal) if refusal.code == ResponseCode::SYSTEM_BUSY)
            && !ready.is_empty()
        {
            // It may be this very batch that has the half.
            append(broker, &mut ready, replies);
            bytes = 0;
            begun = begin(broker, request);
        }
        match begun {
            Ok(Begun::Ready(one)) => {
                bytes += one.record.len();
                ready.push(*one);
            }
            Ok(Begun::Undecided) => {
                Counters::add(&broker.transactions.counters().unknown);
                replies.reply(head, ResponseCode::SUCCESS, None, &(), &[]);
            }
            Ok(Begun::Doubtful(end)) => {
                if let Err(refusal) = doubtful::serve(broker, connection, head, end) {
                    refuse(head, &refusal, replies);
                }
            }
            Err(refusal) => refuse(head, &refusal, replies),
        }
    }
    append(broker, &mut ready, replies);
}

fn begin(broker: &Arc<Broker>, request: &Request<'_>) -> Result<Begun, Refusal> {
    let Some(end) = End::read(request)? else {
        return Ok(Begun::Undecided);
    };
    let taken = match broker.transactions.take(end.offset(), end.physical()) {
        Ok(taken) => taken,
        Err(NotTaken::Busy) => return Err(busy()),
        Err(NotTaken::Elsewhere | NotTaken::NotPending) => return Ok(Begun::Doubtful(end)),
    };
    if !taken.is_verified() {
        return Ok(Begun::Doubtful(end));
    }
    let bytes = match broker.store.record_at_nowait(end.physical()) {
        Ok(bytes) => bytes.ok_or_else(not_found)?,
        Err(ReadError::WouldBlock) => return Ok(Begun::Doubtful(end)),
        Err(error) => return Err(Refusal::system_error(error.to_string())),
    };
    let half = understood(&bytes).ok_or_else(not_found)?;
    end.check(broker, &half)?;
    Ok(Begun::Ready(Box::new(Ready {
        head: request.head(),
        end,
        taken,
        record: bytes,
    })))
}

fn understood(bytes: &Bytes) -> Option<HalfRecord<'_>> {
    HalfRecord::of(record::decode(bytes, CheckBody::No).ok()?)
}

fn refuse(head: ReplyHead, refusal: &Refusal, replies: &mut Replies) {
    tracing::debug!(code = %refusal.code, remark = refusal.remark, "a transaction is not ended");
    replies.refuse(head, refusal.code, &refusal.remark);
}

/// Stores what is ready, and answers.
fn append(broker: &Arc<Broker>, ready: &mut Vec<Ready>, replies: &mut Replies) {
    if ready.is_empty() {
        return;
    }
    match store(broker, ready) {
        Ok(appended) => answer(broker, ready, &appended, replies),
        // One message may be at fault, and must not take the others with it.
        Err(error) if is_about_a_message(&error) && ready.len() > 1 => {
            for one in ready.iter_mut() {
                let one = std::slice::from_mut(one);
                match store(broker, one) {
                    Ok(appended) => answer(broker, one, &appended, replies),
                    Err(error) => refuse(one[0].head, &refused(broker, &error), replies),
                }
            }
        }
        Err(error) => {
            let refusal = refused(broker, &error);
            for one in ready.iter() {
                refuse(one.head, &refusal, replies);
            }
        }
    }
    ready.clear();
}

fn refused(broker: &Broker, error: &AppendError) -> Refusal {
    refusal_of(error, broker.settings().limits.message_bytes_max)
}

fn answer(broker: &Broker, ended: &[Ready], appended: &[Appended], replies: &mut Replies) {
    let Some(last) = appended.last() else {
        return;
    };
    for one in ended {
        one.end.count(broker);
        if broker.store.flush_mode() == FlushMode::Sync {
            replies.reply_when(last.end, one.head, ResponseCode::SUCCESS, None, &(), &[]);
        } else {
            replies.reply(one.head, ResponseCode::SUCCESS, None, &(), &[]);
        }
    }
}

/// Appends the messages that are committed, and the op message behind them.
fn store(broker: &Arc<Broker>, ready: &mut [Ready]) -> Result<Vec<Appended>, AppendError> {
    let records: Vec<Bytes> = ready
        .iter()
        .filter(|one| one.end.decision == Decision::Commit)
        .map(|one| one.record.clone())
        .collect();
    let now_ms = broker.now_ms();
    let halves: Vec<_> = records
        .iter()
        .filter_map(understood)
        .map(|half| {
            let commit = half.commit_at(now_ms);
            (half, commit)
        })
        .collect();
    debug_assert_eq!(halves.len(), records.len(), "they were understood before");
    let levels = broker.store.delay_levels_ms().len();
    let messages: Vec<NewMessage<'_>> = halves
        .iter()
        .map(|(half, commit)| half.committed(commit, levels))
        .collect();
    let mut taken: Vec<&mut Taken> = ready.iter_mut().map(|one| &mut one.taken).collect();
    broker.transactions.end(broker, &mut taken, messages)
}
