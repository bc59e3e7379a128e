//! Messages with a deliver time of their own, over the wire: accepted or refused, delivered, recalled, and kept over the end of a process.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use platform::clock::{Clock, RealClock};
use protocol::body::{KvTable, TimerMetricsSerializeWrapper};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{RecallMessageRequest, RecallMessageResponse, SendMessageResponse};
use protocol::json;
use protocol::recall::RecallHandle;

use crate::harness::{Message, TIMEOUT, TestBroker, props};

async fn start() -> TestBroker {
    TestBroker::start_with(|keys| {
        keys.recall_message_enable = true;
        // As short as can be: files are written in the tests' time.
        keys.flush_delay_offset_interval = 10;
    })
    .await
}

fn now_ms() -> i64 {
    RealClock::new().now_ms()
}

/// Waits until queue 0 of the topic holds so many messages.
async fn wait_for(broker: &TestBroker, topic: &str, count: usize) -> Vec<Message> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let (_, _, messages) = broker.pulled(topic, 0).await;
        if messages.len() >= count {
            return messages;
        }
        assert!(
            Instant::now() < deadline,
            "{} of {count} messages came",
            messages.len()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn recall(broker: &TestBroker, topic: &str, handle: &str) -> Command {
    let header = RecallMessageRequest {
        producer_group: Some("producers".to_owned()),
        topic: topic.to_owned(),
        recall_handle: handle.to_owned(),
    };
    broker
        .call(Command::request(RequestCode::RECALL_MESSAGE, &header))
        .await
}

#[tokio::test]
async fn a_message_comes_at_its_time_whichever_way_it_was_named() {
    let broker = start().await;
    let at = now_ms() + 300;
    for (body, name, value) in [
        ("at", "TIMER_DELIVER_MS", at.to_string()),
        ("after", "TIMER_DELAY_MS", "300".to_owned()),
        ("seconds", "TIMER_DELAY_SEC", "1".to_owned()),
    ] {
        let sent = broker
            .sent(
                "Topic",
                body.as_bytes(),
                &props(&[(name, &value), ("TAGS", "t")]),
            )
            .await;
        assert!(sent.recall_handle.is_some());
    }
    assert_eq!(broker.max_offset("Topic").await, 0);
    let found = wait_for(&broker, "Topic", 3).await;
    for message in &found {
        let due: i64 = message.property("TIMER_OUT_MS").unwrap().parse().unwrap();
        let delivered: i64 = message
            .property("TIMER_DEQUEUE_MS")
            .unwrap()
            .parse()
            .unwrap();
        assert!(delivered >= due, "{message:?} came early");
        assert_eq!(message.property("REAL_TOPIC"), None);
        assert_eq!((message.property("TAGS"), message.flag), (Some("t"), 7));
    }
    let bodies: Vec<&[u8]> = found.iter().map(|message| &message.body[..]).collect();
    assert_eq!(bodies[2], b"seconds");
    assert_eq!(found[0].property("TIMER_DELIVER_MS").unwrap().len(), 13);
}

#[tokio::test]
async fn a_time_that_is_over_delivers_at_once() {
    let broker = start().await;
    for (name, value) in [
        ("TIMER_DELIVER_MS", (now_ms() - 1).to_string()),
        ("TIMER_DELIVER_MS", "0".to_owned()),
        ("TIMER_DELAY_MS", "0".to_owned()),
        ("TIMER_DELAY_SEC", "0".to_owned()),
    ] {
        let sent = broker.sent("Topic", b"x", &props(&[(name, &value)])).await;
        assert_eq!(sent.recall_handle, None);
    }
    assert_eq!(broker.max_offset("Topic").await, 4);
}

#[tokio::test]
async fn times_that_make_no_sense_are_refused_with_a_reason() {
    let broker = start().await;
    let far = (now_ms() + 400 * 86_400_000).to_string();
    for (name, value, reason) in [
        ("TIMER_DELAY_SEC", "-1", "negative"),
        ("TIMER_DELIVER_MS", "-9223372036854775808", "negative"),
        ("TIMER_DELAY_MS", "soon", "no number"),
        ("TIMER_DELAY_MS", "1.5", "no number"),
        ("TIMER_DELIVER_MS", "99999999999999999999", "no number"),
        ("TIMER_DELIVER_MS", &far, "max delay"),
        ("TIMER_DELAY_SEC", "9223372036854775807", "max delay"),
        ("TIMER_DELIVER_MS", "9223372036854775807", "max delay"),
    ] {
        let answer = broker.send("Topic", b"x", &props(&[(name, value)])).await;
        assert_eq!(
            answer.response_code(),
            ResponseCode::MESSAGE_ILLEGAL,
            "{name} {value}"
        );
        let remark = answer.remark.unwrap();
        assert!(
            remark.contains("timer message illegal") && remark.contains(reason),
            "{remark}"
        );
    }
    // An order to drop a message is never delivered as one.
    for properties in [
        props(&[("TIMER_DEL_UNIQKEY", "Topic+ID")]),
        props(&[
            ("TIMER_DEL_UNIQKEY", "Topic+ID"),
            ("TIMER_DELIVER_MS", &(now_ms() - 5).to_string()),
        ]),
    ] {
        let answer = broker.send("Topic", b"x", &properties).await;
        assert_eq!(
            answer.response_code(),
            ResponseCode::MESSAGE_ILLEGAL,
            "{properties:?}"
        );
    }
    assert_eq!(broker.max_offset("Topic").await, 0);
    let direct = broker
        .send(
            "rmq_sys_wheel_timer",
            b"x",
            &props(&[("REAL_TOPIC", "TBW102")]),
        )
        .await;
    assert_eq!(direct.response_code(), ResponseCode::NO_PERMISSION);
}

#[tokio::test]
async fn without_timers_they_are_refused_and_nothing_else_is() {
    let broker = TestBroker::start_with(|keys| keys.timer_wheel_enable = false).await;
    let answer = broker
        .send("Topic", b"x", &props(&[("TIMER_DELAY_SEC", "5")]))
        .await;
    assert_eq!(answer.response_code(), ResponseCode::SYSTEM_ERROR);
    assert!(answer.remark.unwrap().contains("timerWheelEnable"));
    broker.sent("Topic", b"x", &props(&[("DELAY", "0")])).await;
    assert_eq!(broker.max_offset("Topic").await, 1);
    let answer = broker
        .call(Command::request(RequestCode::GET_TIMER_METRICS, &()))
        .await;
    assert_eq!(answer.response_code(), ResponseCode::SYSTEM_ERROR);
}

#[tokio::test]
async fn a_message_can_be_taken_back_until_it_is_delivered() {
    let broker = start().await;
    let sent = |body: &'static [u8], delay: &'static str| {
        let broker = &broker;
        async move {
            broker
                .sent("Topic", body, &props(&[("TIMER_DELAY_MS", delay)]))
                .await
        }
    };
    let kept: SendMessageResponse = sent(b"kept", "400").await;
    let recalled = sent(b"recalled", "400").await;
    let handle = recalled.recall_handle.unwrap();
    let named = RecallHandle::decode(&handle).unwrap();
    assert_eq!(
        (&*named.topic, &*named.broker_name),
        ("Topic", &*broker.keys.broker_name)
    );
    for _ in 0..2 {
        let answer = recall(&broker, "Topic", &handle).await;
        assert_eq!(
            answer.response_code(),
            ResponseCode::SUCCESS,
            "{:?}",
            answer.remark
        );
        let header: RecallMessageResponse = answer.header().unwrap();
        assert_eq!(Some(header.msg_id), recalled.transaction_id);
    }
    let by_key = sent(b"by key", "400").await;
    let named = RecallHandle::decode(&by_key.recall_handle.unwrap()).unwrap();
    let key = format!("Topic+{}", named.unique_id);
    let at = named.timestamp_ms.to_string();
    broker
        .sent(
            "Topic",
            b"0",
            &props(&[("TIMER_DEL_UNIQKEY", &key), ("TIMER_DELIVER_MS", &at)]),
        )
        .await;
    let found = wait_for(&broker, "Topic", 1).await;
    assert_eq!(found[0].body, b"kept");
    // The last of all says that nothing else comes.
    sent(b"last", "800").await;
    let found = wait_for(&broker, "Topic", 2).await;
    assert_eq!(found[1].body, b"last");
    let answer = recall(&broker, "Topic", &kept.recall_handle.unwrap()).await;
    assert_eq!(answer.response_code(), ResponseCode::ILLEGAL_OPERATION);
}

#[tokio::test]
async fn handles_of_nothing_are_refused_with_a_reason() {
    let broker = start().await;
    broker.sent("Topic", b"x", "").await;
    let name = broker.keys.broker_name.clone();
    let handle = |topic: &str, broker: &str, timestamp_ms: i64| RecallHandle {
        topic: topic.to_owned(),
        broker_name: broker.to_owned(),
        timestamp_ms,
        unique_id: "NOBODY".to_owned(),
    };
    let soon = now_ms() + 60_000;
    for (topic, text, reason) in [
        ("Topic", "not base64!".to_owned(), "invalid"),
        ("Topic", "A".repeat(100_000), "invalid"),
        ("Topic", String::new(), "invalid"),
        (
            "Topic",
            handle("Other", &name, soon).encode(),
            "topic not match",
        ),
        (
            "Topic",
            handle("Topic", "another", soon).encode(),
            "not available",
        ),
        (
            "Topic",
            handle("Topic", &name, now_ms() - 1).encode(),
            "timestamp",
        ),
        (
            "Topic",
            handle("Topic", &name, i64::MAX).encode(),
            "timestamp",
        ),
        ("Topic", handle("Topic", &name, -1).encode(), "timestamp"),
        ("Topic", handle("Topic", &name, soon).encode(), "no message"),
    ] {
        let answer = recall(&broker, topic, &text).await;
        assert_eq!(
            answer.response_code(),
            ResponseCode::ILLEGAL_OPERATION,
            "{text:.40}"
        );
        let remark = answer.remark.unwrap();
        assert!(remark.contains(reason), "{remark}");
    }
    let answer = recall(&broker, "Nowhere", &handle("Nowhere", &name, soon).encode()).await;
    assert_eq!(answer.response_code(), ResponseCode::TOPIC_NOT_EXIST);
    let forbidden = TestBroker::start().await;
    let answer = recall(&forbidden, "Topic", "x").await;
    assert_eq!(answer.response_code(), ResponseCode::NO_PERMISSION);
}

#[tokio::test]
async fn what_waits_when_the_process_is_killed_comes_in_the_next_life() {
    let broker = start().await;
    let at = (now_ms() + 2_500).to_string();
    for number in 0..20 {
        let delay = if number < 10 {
            props(&[("TIMER_DELAY_MS", "50")])
        } else {
            props(&[("TIMER_DELIVER_MS", &at)])
        };
        broker
            .sent("Topic", format!("{number}").as_bytes(), &delay)
            .await;
    }
    wait_for(&broker, "Topic", 10).await;
    // What a process leaves behind that is killed here: its files as they are.
    let killed = broker.keys.store_path_root_dir.clone();
    let next = TestBroker::start_with(|keys| {
        copy(Path::new(&killed), Path::new(&keys.store_path_root_dir))
    })
    .await;
    let mut found = wait_for(&next, "Topic", 20).await;
    // The last batch before a kill may come twice.
    while found
        .iter()
        .map(|record| &record.body)
        .collect::<HashSet<_>>()
        .len()
        < 20
    {
        found = wait_for(&next, "Topic", found.len() + 1).await;
    }
    let before = found.len();
    assert!(before <= 30, "{before} were delivered");
    // Neither comes a second time, however often the broker starts.
    let next = next.restart().await;
    next.sent("Topic", b"last", &props(&[("TIMER_DELAY_MS", "100")]))
        .await;
    let found = wait_for(&next, "Topic", before + 1).await;
    assert_eq!(found.len(), before + 1);
    assert_eq!(&found[before].body[..], b"last");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else if entry.path().exists() {
            // A file that is being replaced may be gone; its successor is copied, or was.
            let _ = std::fs::copy(entry.path(), to);
        }
    }
}

#[tokio::test]
async fn tools_see_how_many_wait_and_where_delivery_is() {
    let broker = start().await;
    for topic in ["One", "One", "Two"] {
        broker
            .sent(topic, b"x", &props(&[("TIMER_DELAY_SEC", "3600")]))
            .await;
    }
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let answer = broker
            .call(Command::request(RequestCode::GET_BROKER_RUNTIME_INFO, &()))
            .await;
        let table = json::decode::<KvTable>(&answer.body).unwrap().table;
        assert_eq!(table["timerReadBehind"], "0");
        if (&*table["timerCongestNum"], &*table["timerOffsetBehind"]) == ("3", "0") {
            break;
        }
        assert!(Instant::now() < deadline, "{table:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let answer = broker
        .call(Command::request(RequestCode::GET_TIMER_METRICS, &()))
        .await;
    let metrics: TimerMetricsSerializeWrapper = json::decode(&answer.body).unwrap();
    let counts: Vec<(&str, i64)> = metrics
        .timing_count
        .iter()
        .map(|(topic, count)| (&**topic, count.count))
        .collect();
    assert_eq!(counts, [("One", 2), ("Two", 1)]);
    let answer = broker
        .call(Command::request(RequestCode::GET_TIMER_CHECK_POINT, &()))
        .await;
    assert_eq!(answer.body.len(), 56);
    let read_ms = i64::from_be_bytes(answer.body[..8].try_into().unwrap());
    assert!((now_ms() - 60_000..=now_ms()).contains(&read_ms));
    // The same after a stop.
    let broker = broker.restart().await;
    let answer = broker
        .call(Command::request(RequestCode::GET_TIMER_METRICS, &()))
        .await;
    let metrics: TimerMetricsSerializeWrapper = json::decode(&answer.body).unwrap();
    assert_eq!(metrics.timing_count["One"].count, 2);
}
