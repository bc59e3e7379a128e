//! Queues that one client of a group consumes in order.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use protocol::body::{
    LockBatchRequestBody, LockBatchResponseBody, MessageQueue, UnlockBatchRequestBody,
};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::UnregisterClientRequest;
use protocol::json;

use crate::harness::{TestBroker, pull_header};
use crate::member::Member;

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

async fn lock_of(member: &Member, client_id: &str, ids: &[i32]) -> BTreeSet<MessageQueue> {
    let body = LockBatchRequestBody {
        client_id: client_id.to_owned(),
        consumer_group: "g".to_owned(),
        mq_set: queues(ids),
        only_this_broker: false,
    };
    let command = Command::request(RequestCode::LOCK_BATCH_MQ, &()).with_body(json::encode(&body));
    let locked: LockBatchResponseBody = json::decode(&member.call(command).await.body).unwrap();
    locked.lock_ok_mq_set
}

/// A lock is held for eight seconds, and for one after its holder's connection closed.
const LIFETIME: Duration = Duration::from_secs(8);
const GRACE: Duration = Duration::from_secs(1);
/// The broker counts both in whole milliseconds of its clock: a second begun at its last microsecond is that much short.
const CLOCK_TICK: Duration = Duration::from_millis(1);

async fn broker() -> TestBroker {
    let lifetime_ms = LIFETIME.as_millis() as u64;
    let broker =
        TestBroker::start_with(|keys| keys.rebalance_lock_max_live_time = lifetime_ms).await;
    broker.sent("t", b"body", "").await;
    broker
}

#[tokio::test]
async fn a_dead_clients_queues_go_to_the_next_long_before_its_locks_expire() {
    let broker = broker().await;
    let one = Member::join(&broker, "one", "g").await;
    let two = Member::join(&broker, "two", "g").await;
    assert_eq!(lock_of(&one, "one", &[0, 1]).await, queues(&[0, 1]));
    assert!(lock_of(&two, "two", &[0, 1]).await.is_empty());
    let died = Instant::now();
    one.client.shutdown();
    while lock_of(&two, "two", &[0, 1]).await.len() < 2 {
        tokio::task::yield_now().await;
        let waited = died.elapsed();
        assert!(
            waited < LIFETIME,
            "nothing was handed over within {waited:?}"
        );
    }
    let waited = died.elapsed();
    assert!(
        GRACE <= waited + CLOCK_TICK,
        "taken from a client that may be about to come back: {waited:?}"
    );
    eprintln!("queues were handed over after {waited:?} of {LIFETIME:?}");
}

#[tokio::test]
async fn a_client_that_says_goodbye_hands_its_queues_over_at_once() {
    let broker = broker().await;
    let one = Member::join(&broker, "one", "g").await;
    let two = Member::join(&broker, "two", "g").await;
    assert_eq!(lock_of(&one, "one", &[0]).await, queues(&[0]));
    let header = UnregisterClientRequest {
        client_id: "one".to_owned(),
        producer_group: None,
        consumer_group: Some("g".to_owned()),
    };
    one.call(Command::request(RequestCode::UNREGISTER_CLIENT, &header))
        .await;
    assert_eq!(lock_of(&two, "two", &[0]).await, queues(&[0]));
}

#[tokio::test]
async fn a_client_that_only_reconnects_keeps_its_queues() {
    let broker = broker().await;
    let two = Member::join(&broker, "two", "g").await;
    let one = Member::join(&broker, "one", "g").await;
    assert_eq!(lock_of(&one, "one", &[0]).await, queues(&[0]));
    let closed = Instant::now();
    one.client.shutdown();
    // The next thing that it does is to pull, on another connection and before its heartbeat; the broker may not even have seen the first one close.
    let mut header = pull_header("t", 0, 0);
    header.consumer_group = "g".to_owned();
    while closed.elapsed() < GRACE * 3 {
        broker
            .call(Command::request(RequestCode::PULL_MESSAGE, &header))
            .await;
        assert!(lock_of(&two, "two", &[0]).await.is_empty());
    }
    let again = Member::join(&broker, "one", "g").await;
    assert_eq!(lock_of(&again, "one", &[0]).await, queues(&[0]));
}
