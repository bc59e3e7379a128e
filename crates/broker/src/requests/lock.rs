//! LOCK_BATCH_MQ (41) and UNLOCK_BATCH_MQ (42): queues that one client of a group consumes in order.

use protocol::body::{LockBatchRequestBody, LockBatchResponseBody, UnlockBatchRequestBody};
use protocol::code::RequestCode;
use protocol::json;

use crate::Broker;
use crate::call::{Call, Entry, Kind, Refusal, Reply};
use crate::clients;

pub(crate) const HANDLERS: &[Entry] = &[
    (RequestCode::LOCK_BATCH_MQ, Kind::Inline, lock),
    (RequestCode::UNLOCK_BATCH_MQ, Kind::Inline, unlock),
];

fn lock(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let body: LockBatchRequestBody = call.json()?;
    let locked = broker.locks.lock(
        &body.consumer_group,
        &body.client_id,
        body.mq_set,
        clients::lock_lifetime_ms(broker),
        broker.now_ms(),
    );
    Ok(Reply::ok().body(json::encode(&LockBatchResponseBody {
        lock_ok_mq_set: locked,
    })))
}

fn unlock(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let body: UnlockBatchRequestBody = call.json()?;
    broker
        .locks
        .unlock(&body.consumer_group, &body.client_id, &body.mq_set);
    Ok(Reply::ok())
}
