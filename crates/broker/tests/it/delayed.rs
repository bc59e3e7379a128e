//! Messages that are delivered later, by delay level.

use std::path::Path;

use protocol::body::{DelayOffsetSerializeWrapper, KvTable};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::json;

use crate::harness::*;

/// Long enough that a delivery at once is told from one after the level.
const LEVEL_MS: i64 = 1_000;

/// Level 1 takes a second, level 2 an hour.
async fn start() -> TestBroker {
    TestBroker::start_with(|keys| keys.message_delay_level = "1s 1h".to_owned()).await
}

/// Waits for the first `count` messages of a topic's queue 0.
async fn wait_for(broker: &TestBroker, topic: &str, count: usize) -> Vec<Message> {
    let mut found = Vec::new();
    while found.len() < count {
        let pull = long_pull(topic, found.len() as i64, "*", 10_000);
        let answer = broker.call(pull).await;
        assert_eq!(
            answer.response_code(),
            ResponseCode::SUCCESS,
            "{:?}",
            answer.remark
        );
        found.extend(messages(&answer.body));
    }
    found
}

fn now_ms() -> i64 {
    std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_millis() as i64
}

#[tokio::test]
async fn a_delayed_message_comes_to_its_topic_and_queue_after_its_level() {
    let broker = start().await;
    broker.sent("Topic", b"plain", "").await;
    let begin = now_ms();
    let sent = broker
        .sent(
            "Topic",
            b"late",
            &props(&[("DELAY", "1"), ("TAGS", "t"), ("KEYS", "k")]),
        )
        .await;
    assert_eq!(
        (sent.queue_id, sent.queue_offset),
        (0, 0),
        "the asked queue; the offset among those that wait"
    );
    broker
        .sent("Topic", b"an hour", &props(&[("DELAY", "2")]))
        .await;
    broker.sent("Topic", b"plain again", "").await;
    let found = wait_for(&broker, "Topic", 3).await;
    assert!(now_ms() - begin >= LEVEL_MS, "it came early");
    let bodies: Vec<_> = found
        .iter()
        .map(|message| message.body.as_slice())
        .collect();
    assert_eq!(bodies, [&b"plain"[..], b"plain again", b"late"]);
    let late = &found[2];
    assert_eq!((late.topic.as_str(), late.flag), ("Topic", 7));
    for (name, value) in [
        ("DELAY", "1"),
        ("REAL_TOPIC", "Topic"),
        ("REAL_QID", "0"),
        ("TAGS", "t"),
        ("KEYS", "k"),
    ] {
        assert_eq!(late.property(name), Some(value));
    }
}

#[tokio::test]
async fn levels_beyond_the_last_wait_like_the_last_and_others_are_refused() {
    let broker = start().await;
    for level in ["2", "3", "18", "2147483647"] {
        broker
            .sent("Topic", b"an hour", &props(&[("DELAY", level)]))
            .await;
    }
    for level in ["0", "-1", "-2147483648"] {
        broker
            .sent("Topic", b"now", &props(&[("DELAY", level)]))
            .await;
    }
    for level in ["2147483648", "soon", "1.5", " 1", ""] {
        let answer = broker
            .send("Other", b"x", &props(&[("DELAY", level)]))
            .await;
        let expected = match level {
            // A property without a value is none.
            "" => ResponseCode::SUCCESS,
            _ => ResponseCode::MESSAGE_ILLEGAL,
        };
        assert_eq!(
            answer.response_code(),
            expected,
            "{level:?} {:?}",
            answer.remark
        );
    }
    assert_eq!(broker.max_offset("Topic").await, 3);
    let waiting = broker.call(pull("SCHEDULE_TOPIC_XXXX", 1, 0)).await;
    let waiting = messages(&waiting.body);
    assert_eq!(waiting.len(), 4);
    assert!(
        waiting
            .iter()
            .all(|message| message.property("DELAY") == Some("2"))
    );
}

#[tokio::test]
async fn nobody_sends_to_the_schedule_topic_itself() {
    let broker = start().await;
    let delayed = send_v2("Topic", 0, b"x", &props(&[("DELAY", "2")]));
    let direct = send_v2("SCHEDULE_TOPIC_XXXX", 0, b"x", "");
    // In one batch: the first must not make the second's topic known.
    let (delayed, direct) = tokio::join!(broker.call(delayed), broker.call(direct));
    assert_eq!(delayed.response_code(), ResponseCode::SUCCESS);
    assert_eq!(direct.response_code(), ResponseCode::NO_PERMISSION);
}

#[tokio::test]
async fn what_waits_is_delivered_after_a_stop_and_after_a_kill() {
    let broker = start().await;
    broker
        .sent("Topic", b"first", &props(&[("DELAY", "1")]))
        .await;
    let broker = broker.restart().await;
    wait_for(&broker, "Topic", 1).await;
    broker
        .sent("Topic", b"second", &props(&[("DELAY", "1")]))
        .await;
    // What a process leaves behind that is killed here: its files as they are, with the mark of a life that did not end.
    let killed = broker.keys.store_path_root_dir.clone();
    assert!(Path::new(&killed).join("abort").exists());
    let next = TestBroker::start_with(|keys| {
        keys.message_delay_level = "1s 1h".to_owned();
        copy(Path::new(&killed), Path::new(&keys.store_path_root_dir));
    })
    .await;
    let found = wait_for(&next, "Topic", 2).await;
    let bodies: Vec<_> = found
        .iter()
        .map(|message| message.body.as_slice())
        .collect();
    assert_eq!(bodies, [&b"first"[..], b"second"]);
    // Neither comes a second time, however often the broker starts.
    let next = next.restart().await;
    next.sent("Topic", b"third", &props(&[("DELAY", "1")]))
        .await;
    assert_eq!(wait_for(&next, "Topic", 3).await[2].body, b"third");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test]
async fn a_deleted_topic_holds_up_nobody() {
    let broker = start().await;
    broker.sent("Gone", b"x", &props(&[("DELAY", "1")])).await;
    broker.sent("Kept", b"y", &props(&[("DELAY", "1")])).await;
    let header = protocol::headers::DeleteTopicRequest {
        topic: "Gone".to_owned(),
        ..Default::default()
    };
    let answer = broker
        .call(Command::request(
            RequestCode::DELETE_TOPIC_IN_BROKER,
            &header,
        ))
        .await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    assert_eq!(wait_for(&broker, "Kept", 1).await[0].body, b"y");
}

#[tokio::test]
async fn tools_see_how_far_each_level_is() {
    let broker = start().await;
    for level in ["1", "2", "2"] {
        broker
            .sent("Topic", b"x", &props(&[("DELAY", level)]))
            .await;
    }
    wait_for(&broker, "Topic", 1).await;
    let answer = broker
        .call(Command::request(RequestCode::GET_BROKER_RUNTIME_INFO, &()))
        .await;
    let table = json::decode::<KvTable>(&answer.body).unwrap().table;
    assert_eq!(table["scheduleMessageOffset_1"], "1,1");
    assert_eq!(table["scheduleMessageOffset_2"], "0,2");
    let answer = broker
        .call(Command::request(RequestCode::GET_ALL_DELAY_OFFSET, &()))
        .await;
    let offsets: DelayOffsetSerializeWrapper = json::decode(&answer.body).unwrap();
    assert_eq!(
        offsets.offset_table.into_iter().collect::<Vec<_>>(),
        [(1, 1), (2, 0)]
    );
    let root = broker.keys.store_path_root_dir.clone();
    let broker = broker.restart().await;
    let file = std::fs::read_to_string(format!("{root}/config/delayOffset.json")).unwrap();
    assert!(
        file.contains("\"offsetTable\":{\n\t\t1:1,\n\t\t2:0\n\t}"),
        "{file}"
    );
    drop(broker);
}
