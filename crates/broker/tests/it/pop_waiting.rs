//! Pops that wait for a message, notifications, and consumption by pop in order.

use std::time::{Duration, Instant};

use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{
    NotificationRequest, NotificationResponse, PeekMessageRequest, PollingInfoRequest,
    PollingInfoResponse, PopMessageRequest, PopMessageResponse,
};

use crate::harness::{TIMEOUT, TestBroker, messages};
use crate::pop::{GROUP, TOPIC, pop_header, popped, texts, with_messages};

impl TestBroker {
    async fn waiting(&self) -> i32 {
        let header = PollingInfoRequest {
            consumer_group: GROUP.to_owned(),
            topic: TOPIC.to_owned(),
            queue_id: -1,
        };
        let answer = self
            .call(Command::request(RequestCode::POLLING_INFO, &header))
            .await;
        let header: PollingInfoResponse = answer.header().unwrap();
        header.polling_num
    }

    async fn wait_for_waiting(&self, count: i32) {
        let begun = Instant::now();
        while self.waiting().await != count {
            assert!(begun.elapsed() < TIMEOUT, "{count} pops do not wait");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn long_pop(poll_ms: i64) -> PopMessageRequest {
    PopMessageRequest {
        poll_time_ms: poll_ms,
        born_time_ms: 1,
        ..pop_header()
    }
}

/// A broker whose topic is there and empty for the group.
async fn with_empty_topic() -> TestBroker {
    let broker = with_messages(&["old"]).await;
    let old = broker.popped(&pop_header()).await;
    let ack = Command::request(RequestCode::ACK_MESSAGE, &old[0].ack());
    broker.call(ack).await;
    broker
}

#[tokio::test]
async fn a_pop_that_waits_gets_the_message_that_comes() {
    let broker = with_empty_topic().await;
    let header = long_pop(20_000);
    let (answer, ()) = tokio::join!(broker.pop(&header), async {
        broker.wait_for_waiting(1).await;
        broker.sent(TOPIC, b"new", "").await;
    });
    assert_eq!(texts(&popped(&answer)), ["new"]);
    assert_eq!(broker.waiting().await, 0);
}

#[tokio::test]
async fn each_message_goes_to_one_of_those_who_wait() {
    let broker = with_empty_topic().await;
    let mut header = long_pop(20_000);
    header.messages_max = 1;
    let (one, other, ()) = tokio::join!(broker.pop(&header), broker.pop(&header), async {
        broker.wait_for_waiting(2).await;
        broker.sent(TOPIC, b"1", "").await;
        broker.sent(TOPIC, b"2", "").await;
    });
    let (one, other) = (popped(&one), popped(&other));
    let mut both = [texts(&one)[0], texts(&other)[0]];
    both.sort_unstable();
    assert_eq!(both, ["1", "2"]);
}

#[tokio::test]
async fn a_pop_that_waits_gets_what_comes_back() {
    let broker = with_messages(&["a"]).await;
    let mut hidden = pop_header();
    hidden.invisible_time_ms = 300;
    assert_eq!(broker.popped(&hidden).await.len(), 1);
    let answer = broker.pop(&long_pop(20_000)).await;
    let again = popped(&answer);
    assert_eq!(texts(&again), ["a"]);
    assert_eq!(again[0].message.reconsume_times, 1);
}

#[tokio::test]
async fn a_pop_waits_no_longer_than_it_asked() {
    let broker = with_empty_topic().await;
    let begun = Instant::now();
    let answer = broker.pop(&long_pop(200)).await;
    assert_eq!(answer.response_code(), ResponseCode::POLLING_TIMEOUT);
    let header: PopMessageResponse = answer.header().unwrap();
    assert!(
        header.pop_time_ms > 0,
        "clients read the header of this answer too"
    );
    assert!(begun.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn pops_beyond_the_bounds_do_not_wait() {
    let broker = TestBroker::start_with(|keys| keys.max_pop_polling_size = 0).await;
    broker.sent(TOPIC, b"old", "").await;
    assert_eq!(broker.popped(&pop_header()).await.len(), 1);
    let answer = broker.pop(&long_pop(20_000)).await;
    assert_eq!(answer.response_code(), ResponseCode::POLLING_FULL);
}

#[tokio::test]
async fn a_notification_says_that_there_is_a_message() {
    let broker = with_empty_topic().await;
    let notification = |poll_time_ms| {
        let header = NotificationRequest {
            consumer_group: GROUP.to_owned(),
            topic: TOPIC.to_owned(),
            queue_id: -1,
            poll_time_ms,
            ..NotificationRequest::default()
        };
        broker.call(Command::request(RequestCode::NOTIFICATION, &header))
    };
    let said = |answer: &Command| {
        assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
        answer.header::<NotificationResponse>().unwrap().has_msg
    };
    assert!(!said(&notification(100).await));
    let (answer, ()) = tokio::join!(notification(20_000), async {
        let begun = Instant::now();
        while broker.runtime("popPollingRequests").await != "1" {
            assert!(begun.elapsed() < TIMEOUT, "the notification does not wait");
        }
        broker.sent(TOPIC, b"new", "").await;
    });
    assert!(said(&answer));
    assert!(said(&notification(0).await), "it takes nothing away");
    assert_eq!(broker.popped(&pop_header()).await.len(), 1);
}

#[tokio::test]
async fn a_peek_hides_nothing() {
    let broker = with_messages(&["a", "b"]).await;
    let header = PeekMessageRequest {
        topic: TOPIC.to_owned(),
        queue_id: -1,
        messages_max: 1,
        consumer_group: GROUP.to_owned(),
    };
    let peek = Command::request(RequestCode::PEEK_MESSAGE, &header);
    for _ in 0..2 {
        let answer = broker.call(peek.clone()).await;
        assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
        assert_eq!(messages(&answer.body)[0].body, b"a");
        assert_eq!(answer.header::<PopMessageResponse>().unwrap().rest_num, 2);
    }
    assert_eq!(broker.popped(&pop_header()).await.len(), 2);
    let answer = broker.call(peek).await;
    assert_eq!(answer.response_code(), ResponseCode::PULL_NOT_FOUND);
}

fn ordered(attempt: &str) -> PopMessageRequest {
    PopMessageRequest {
        order: true,
        attempt_id: Some(attempt.to_owned()),
        messages_max: 2,
        ..pop_header()
    }
}

#[tokio::test]
async fn in_order_the_next_messages_come_after_the_last_are_acknowledged() {
    let broker = with_messages(&["a", "b", "c"]).await;
    let first = broker.popped(&ordered("1")).await;
    assert_eq!(texts(&first), ["a", "b"]);
    assert_eq!(first[0].header.revive_qid, 999);
    assert!(broker.popped(&ordered("2")).await.is_empty());
    assert!(
        broker.popped(&pop_header()).await.is_empty(),
        "nor out of order"
    );
    let same = broker.popped(&ordered("1")).await;
    assert_eq!(texts(&same), ["a", "b"], "the same attempt again");
    for popped in &same {
        let ack = Command::request(RequestCode::ACK_MESSAGE, &popped.ack());
        assert_eq!(
            broker.call(ack).await.response_code(),
            ResponseCode::SUCCESS
        );
    }
    assert_eq!(texts(&broker.popped(&ordered("3")).await), ["c"]);
}

#[tokio::test]
async fn in_order_a_message_comes_again_with_its_count() {
    let broker = with_messages(&["a", "b"]).await;
    let mut first = ordered("1");
    first.invisible_time_ms = 200;
    assert_eq!(broker.popped(&first).await.len(), 2);
    // Who waits is woken when the time is over.
    let mut second = ordered("2");
    second.poll_time_ms = 20_000;
    let again = popped(&broker.pop(&second).await);
    assert_eq!(texts(&again), ["a", "b"]);
    let counts = again[0].header.order_count_info.as_deref();
    assert_eq!(counts, Some("0 qo0%0 1;0 qo0%1 1;0 0 1"));
}
