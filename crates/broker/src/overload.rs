//! When too much comes: what is refused, and what the client is told.
//!
//! All refusals are SYSTEM_BUSY (2) and begin with the words of Java 5.3 for the same situation, since clients and scripts know
//! them (`NettyRemotingAbstract.processRequestCommand`, `BrokerFastFailure`); the reason follows. Heartbeats, offsets and
//! administration are never refused here: they are small, and without them an overload grows.

use std::sync::Arc;
use std::time::Duration;

use protocol::code::ResponseCode;
use remoting::{Account, Budget, Replies, Request};

use crate::Broker;
use crate::call::Refusal;
use crate::requests::send::is_send;

/// Less than this is not worth a look at the configuration.
const WAIT_NOTICED: Duration = Duration::from_millis(1);
/// While memory is short, a connection with more answers than this on their way gets no further messages.
const UNREAD_BYTES_MAX: usize = 64 << 10;

/// Requests up to this size are copied even when no memory is left: the number of copies has a bound of its own.
const SMALL_COPY_BYTES: usize = 4 << 10;

/// Why the sends of this batch are refused, if they are. Decided once a batch, since its requests came together.
pub(crate) fn of_sends(broker: &Broker, replies: &Replies) -> Option<Refusal> {
    if broker.budget.is_full() {
        return Some(no_memory(&broker.budget));
    }
    let waited = replies.waited();
    if waited < WAIT_NOTICED {
        return None;
    }
    let limit_ms = broker.settings().send_wait_ms_max;
    if waited <= Duration::from_millis(limit_ms) {
        return None;
    }
    Some(busy(format!(
        "[TIMEOUT_CLEAN_QUEUE]broker busy, start flow control for a while, period in queue: {}ms, size of queue: 0. The \
         request waited for its turn longer than waitTimeMillsInSendQueue={limit_ms}: more is sent than this broker can \
         take; slow down, or add brokers",
        waited.as_millis()
    )))
}

/// Answers every send of a batch with `refusal`.
pub(crate) fn refuse_sends(refusal: &Refusal, requests: &[Request<'_>], replies: &mut Replies) {
    for request in requests {
        if is_send(request.code()) {
            replies.refuse(request.head(), refusal.code, &refusal.remark);
        }
    }
}

/// Why a pull is refused, if it is.
pub(crate) fn of_pull(broker: &Broker, replies: &Replies) -> Option<Refusal> {
    let budget = &broker.budget;
    let refused =
        budget.is_full() || budget.is_short() && replies.pending_bytes() > UNREAD_BYTES_MAX;
    refused.then(|| no_memory(budget))
}

/// Room for the copy of a request, as long as the account lives.
pub(crate) fn room(budget: &Arc<Budget>, bytes: usize) -> Result<Account, Refusal> {
    let mut account = Account::new(budget.clone());
    if bytes <= SMALL_COPY_BYTES {
        account.hold(bytes);
        return Ok(account);
    }
    if account.try_hold(bytes) {
        Ok(account)
    } else {
        Err(no_memory(budget))
    }
}

/// Too many requests of a kind are handled at the same time.
pub(crate) fn too_many(limit: usize, what: &str) -> Refusal {
    busy(format!(
        "[OVERLOAD]system busy, start flow control for a while: {limit} {what}, which is the limit; try again"
    ))
}

fn no_memory(budget: &Budget) -> Refusal {
    let reason = budget.reason();
    busy(format!(
        "[OVERLOAD]system busy, start flow control for a while: {reason}"
    ))
}

fn busy(remark: String) -> Refusal {
    Refusal::new(ResponseCode::SYSTEM_BUSY, remark)
}
