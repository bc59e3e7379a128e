//! Pulls that wait.

use std::time::{Duration, Instant};

use protocol::code::ResponseCode;
use protocol::headers::PullMessageResponse;

use crate::harness::*;

/// A consumer that waits gets its message this soon. On a loaded machine one of several tries must.
const WAKE_UP_MAX: Duration = Duration::from_millis(50);
const TRIES: usize = 20;

async fn wakes_up_soon(broker: &TestBroker) {
    broker.sent("Topic", b"first", "").await;
    let mut fastest = Duration::MAX;
    for offset in 1..=TRIES as i64 {
        let (client, addr) = (broker.client.clone(), broker.addr().to_string());
        let waiting = tokio::spawn(async move {
            let answer = client
                .call(&addr, long_pull("Topic", offset, "*", 15_000), TIMEOUT)
                .await
                .unwrap();
            (answer, Instant::now())
        });
        // One connection serves both in order, so that the pull waits before the send is there.
        tokio::task::yield_now().await;
        let began = Instant::now();
        broker.sent("Topic", b"next", "").await;
        let (answer, at) = waiting.await.unwrap();
        assert_eq!(
            answer.response_code(),
            ResponseCode::SUCCESS,
            "{:?}",
            answer.remark
        );
        assert_eq!(messages(&answer.body)[0].queue_offset, offset);
        fastest = fastest.min(at.saturating_duration_since(began));
        if fastest < WAKE_UP_MAX {
            return;
        }
    }
    panic!("no waiting pull was answered within {WAKE_UP_MAX:?}; the fastest took {fastest:?}");
}

#[tokio::test]
async fn a_waiting_pull_is_answered_when_its_message_is_on_the_disk() {
    wakes_up_soon(&TestBroker::start().await).await;
}

#[tokio::test]
async fn a_waiting_pull_is_answered_when_its_message_is_appended() {
    wakes_up_soon(&TestBroker::start_async_flush().await).await;
}

#[tokio::test]
async fn a_pull_waits_as_long_as_its_client_asks() {
    let broker = TestBroker::start().await;
    broker.sent("Topic", b"x", "").await;
    let began = Instant::now();
    let answer = broker.call(long_pull("Topic", 1, "*", 300)).await;
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(300), "{waited:?}");
    assert_eq!(answer.response_code(), ResponseCode::PULL_NOT_FOUND);
    let header: PullMessageResponse = answer.header().unwrap();
    assert_eq!(
        (
            header.next_begin_offset,
            header.min_offset,
            header.max_offset
        ),
        (1, 0, 1)
    );
}

#[tokio::test]
async fn a_pull_waits_shortly_when_long_polling_is_off() {
    let broker = TestBroker::start_with(|keys| {
        keys.long_polling_enable = false;
        keys.short_polling_time_ms = 50;
    })
    .await;
    broker.sent("Topic", b"x", "").await;
    let answer = broker.call(long_pull("Topic", 1, "*", 3_600_000)).await;
    assert_eq!(answer.response_code(), ResponseCode::PULL_NOT_FOUND);
}

#[tokio::test]
async fn other_tags_do_not_end_the_wait_and_are_passed_over() {
    let broker = TestBroker::start().await;
    broker
        .sent("Topic", b"x", &props(&[("TAGS", "other")]))
        .await;
    let (client, addr) = (broker.client.clone(), broker.addr().to_string());
    let waiting = tokio::spawn(async move {
        client
            .call(&addr, long_pull("Topic", 1, "mine", 15_000), TIMEOUT)
            .await
            .unwrap()
    });
    // The pull is on its way before the sends are.
    tokio::task::yield_now().await;
    for _ in 0..5 {
        broker
            .sent("Topic", b"x", &props(&[("TAGS", "other")]))
            .await;
    }
    assert!(!waiting.is_finished());
    broker
        .sent("Topic", b"it", &props(&[("TAGS", "mine")]))
        .await;
    let answer = waiting.await.unwrap();
    let found = messages(&answer.body);
    assert_eq!((found.len(), found[0].queue_offset), (1, 6));

    let waiting = broker.call(long_pull("Topic", 7, "mine", 500));
    let sending = async {
        for _ in 0..3 {
            broker
                .sent("Topic", b"x", &props(&[("TAGS", "other")]))
                .await;
        }
    };
    let (answer, ()) = tokio::join!(waiting, sending);
    assert_eq!(answer.response_code(), ResponseCode::PULL_RETRY_IMMEDIATELY);
    // How many of them were there in time depends on the machine.
    assert!(
        (8..=10).contains(
            &answer
                .header::<PullMessageResponse>()
                .unwrap()
                .next_begin_offset
        )
    );
}

#[tokio::test]
async fn every_waiter_of_a_queue_is_woken() {
    let broker = TestBroker::start().await;
    broker.sent("Topic", b"x", "").await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (client, addr) = (client(), broker.addr().to_string());
        waiting.spawn(async move {
            client
                .call(&addr, long_pull("Topic", 1, "*", 15_000), TIMEOUT)
                .await
                .unwrap()
        });
    }
    tokio::task::yield_now().await;
    broker.sent("Topic", b"y", "").await;
    while let Some(answer) = waiting.join_next().await {
        assert_eq!(messages(&answer.unwrap().body).len(), 1);
    }
}

#[tokio::test]
async fn a_client_that_goes_leaves_the_broker_well() {
    let broker = TestBroker::start().await;
    broker.sent("Topic", b"x", "").await;
    let gone = client();
    let addr = broker.addr().to_string();
    // The connection stands before the pull goes out, so that one turn of the runtime puts the pull on its way.
    gone.call(&addr, pull("Topic", 0, 0), TIMEOUT)
        .await
        .unwrap();
    let waiting = {
        let (gone, addr) = (gone.clone(), addr.clone());
        tokio::spawn(async move {
            gone.call(&addr, long_pull("Topic", 1, "*", 15_000), TIMEOUT)
                .await
        })
    };
    tokio::task::yield_now().await;
    gone.close_address(&addr);
    assert!(waiting.await.unwrap().is_err());
    broker.sent("Topic", b"y", "").await;
    assert_eq!(broker.max_offset("Topic").await, 2);
}

#[tokio::test]
async fn a_pull_of_a_queue_that_never_had_a_message_waits_for_its_first() {
    let broker = TestBroker::start().await;
    // The topic exists through its queue 1.
    broker.call(send_v2("Topic", 1, b"x", "")).await;
    let (client, addr) = (broker.client.clone(), broker.addr().to_string());
    let waiting = tokio::spawn(async move {
        client
            .call(&addr, long_pull("Topic", 0, "*", 15_000), TIMEOUT)
            .await
            .unwrap()
    });
    tokio::task::yield_now().await;
    broker.sent("Topic", b"first", "").await;
    assert_eq!(messages(&waiting.await.unwrap().body)[0].body, b"first");
}
