//! Finding messages.

use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{
    QueryConsumeQueueRequest, QueryMessageRequest, UNIQUE_KEY_QUERY, ViewMessageRequest,
};
use protocol::message_id;
use protocol::{json, properties};

use crate::harness::{TestBroker, messages, props};

fn by_key(key: &str, unique: bool) -> Command {
    let header = QueryMessageRequest {
        topic: "t".to_owned(),
        key: key.to_owned(),
        messages_max: 32,
        begin_timestamp_ms: 0,
        end_timestamp_ms: i64::MAX,
    };
    let mut command = Command::request(RequestCode::QUERY_MESSAGE, &header);
    if unique {
        command.fields.insert(UNIQUE_KEY_QUERY, "true");
    }
    command
}

#[tokio::test]
async fn messages_are_found_by_key_and_by_unique_id() {
    let broker = TestBroker::start().await;
    for (id, keys) in [("ID0", "red blue"), ("ID1", "blue"), ("ID2", "green")] {
        let text = props(&[(properties::UNIQ_KEY, id), (properties::KEYS, keys)]);
        broker.sent("t", id.as_bytes(), &text).await;
    }
    let bodies = |answer: &Command| {
        let found = messages(&answer.body).into_iter();
        found.map(|message| message.body).collect::<Vec<_>>()
    };
    let answer = broker.call(by_key("blue", false)).await;
    assert_eq!(
        answer.response_code(),
        ResponseCode::SUCCESS,
        "{:?}",
        answer.remark
    );
    assert_eq!(
        bodies(&answer),
        [b"ID0".to_vec(), b"ID1".to_vec()],
        "in the log's order"
    );
    assert!(answer.fields.get("indexLastUpdateTimestamp").is_some());
    assert_eq!(
        bodies(&broker.call(by_key("ID2", true)).await),
        [b"ID2".to_vec()]
    );
    let answer = broker.call(by_key("yellow", false)).await;
    assert_eq!(answer.response_code(), ResponseCode::QUERY_NOT_FOUND);
    assert_eq!(
        answer.remark.as_deref(),
        Some("can not find message, maybe time range not correct")
    );
}

#[tokio::test]
async fn a_message_is_found_by_the_id_that_its_sender_was_given() {
    let broker = TestBroker::start().await;
    broker.sent("t", b"one", "").await;
    let sent = broker.sent("t", b"two", "").await;
    let (address, physical) = message_id::decode_offset_id(&sent.msg_id).unwrap();
    assert_eq!(address, broker.addr());
    let view = |offset| {
        let header = ViewMessageRequest {
            topic: None,
            offset,
        };
        Command::request(RequestCode::VIEW_MESSAGE_BY_ID, &header)
    };
    let answer = broker.call(view(physical as i64)).await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    assert_eq!(messages(&answer.body)[0].body, b"two");
    for nowhere in [-1, 1, 1 << 40] {
        let answer = broker.call(view(nowhere)).await;
        assert_eq!(
            answer.response_code(),
            ResponseCode::SYSTEM_ERROR,
            "{nowhere}"
        );
    }
}

#[tokio::test]
async fn entries_of_a_queue_are_shown() {
    let broker = TestBroker::start().await;
    for tag in ["A", "B", "C"] {
        broker
            .sent("t", b"body", &props(&[(properties::TAGS, tag)]))
            .await;
    }
    let header = QueryConsumeQueueRequest {
        topic: Some("t".to_owned()),
        queue_id: 0,
        index: 1,
        count: 10,
        consumer_group: None,
    };
    let answer = broker
        .call(Command::request(RequestCode::QUERY_CONSUME_QUEUE, &header))
        .await;
    let body: protocol::body::QueryConsumeQueueResponseBody = json::decode(&answer.body).unwrap();
    assert_eq!((body.min_queue_index, body.max_queue_index), (0, 3));
    let codes: Vec<_> = body
        .queue_data
        .iter()
        .map(|entry| entry.tags_code)
        .collect();
    assert_eq!(codes, [66, 67]);
}
