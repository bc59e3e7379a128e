//! Queues that one client of a group consumes in order.

use std::collections::BTreeSet;

use protocol::body::{
    LockBatchRequestBody, LockBatchResponseBody, MessageQueue, UnlockBatchRequestBody,
};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::json;

use crate::harness::TestBroker;

fn queues(ids: &[i32]) -> BTreeSet<MessageQueue> {
    ids.iter()
        .map(|id| MessageQueue::new("t", "broker-a", *id))
        .collect()
}

async fn lock(broker: &TestBroker, client_id: &str, ids: &[i32]) -> BTreeSet<MessageQueue> {
    let body = LockBatchRequestBody {
        client_id: client_id.to_owned(),
        consumer_group: "g".to_owned(),
        mq_set: queues(ids),
        only_this_broker: false,
    };
    let answer = broker
        .call(Command::request(RequestCode::LOCK_BATCH_MQ, &()).with_body(json::encode(&body)))
        .await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    let locked: LockBatchResponseBody = json::decode(&answer.body).unwrap();
    locked.lock_ok_mq_set
}

#[tokio::test]
async fn a_queue_belongs_to_one_client_until_it_gives_it_back() {
    let broker = TestBroker::start().await;
    assert_eq!(lock(&broker, "one", &[0, 1]).await, queues(&[0, 1]));
    assert_eq!(lock(&broker, "two", &[1, 2]).await, queues(&[2]));
    let body = UnlockBatchRequestBody {
        client_id: "one".to_owned(),
        consumer_group: "g".to_owned(),
        mq_set: queues(&[1]),
        only_this_broker: false,
    };
    let answer = broker
        .call(Command::request(RequestCode::UNLOCK_BATCH_MQ, &()).with_body(json::encode(&body)))
        .await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    assert_eq!(lock(&broker, "two", &[0, 1]).await, queues(&[1]));
}
