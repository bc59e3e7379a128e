//! Topics with `queue.type=BatchCQ`: a batch is stored as one record that takes an offset for each of its messages.

use bytes::BytesMut;
use protocol::batch::{self, Item};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{
    ConsumerSendMsgBackRequest, CreateTopicRequest, PopMessageRequest, PullMessageResponse,
    SendMessageRequestV2, SendMessageResponse,
};
use protocol::{properties as names, sysflag};

use crate::harness::{Message, TestBroker, messages, props, pull, pull_header, send_header};

const TOPIC: &str = "Batches";

fn create(topic: &str, attributes: &str) -> Command {
    let header = CreateTopicRequest {
        topic: topic.to_owned(),
        default_topic: "TBW102".to_owned(),
        read_queue_nums: 1,
        write_queue_nums: 1,
        perm: 6,
        topic_filter_type: "SINGLE_TAG".to_owned(),
        attributes: Some(attributes.to_owned()),
        ..CreateTopicRequest::default()
    };
    Command::request(RequestCode::UPDATE_AND_CREATE_TOPIC, &header)
}

async fn start() -> TestBroker {
    let broker = TestBroker::start().await;
    let created = broker.call(create(TOPIC, "+queue.type=BatchCQ")).await;
    assert_eq!(created.response_code(), ResponseCode::SUCCESS);
    broker
}

/// A batch of these bodies, all with this tag.
fn batch_of(bodies: &[&str], tag: &str, properties: &str) -> Command {
    let mut body = BytesMut::new();
    for (number, text) in bodies.iter().enumerate() {
        let properties = props(&[("UNIQ_KEY", &format!("u{number}")), ("TAGS", tag)]);
        let item = Item {
            flag: 7,
            body: text.as_bytes(),
            properties: &properties,
        };
        batch::push(&mut body, &item);
    }
    let mut header = send_header(TOPIC, 0, properties);
    header.batch = Some(true);
    let header = SendMessageRequestV2(header);
    Command::request(RequestCode::SEND_BATCH_MESSAGE, &header).with_body(body.freeze())
}

async fn sent(broker: &TestBroker, bodies: &[&str]) -> SendMessageResponse {
    let answer = broker
        .call(batch_of(bodies, "a", &props(&[("UNIQ_KEY", "whole")])))
        .await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS, "{answer:?}");
    answer.header().unwrap()
}

/// Bodies in a record.
fn bodies(message: &Message) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    if message.sys_flag & sysflag::INNER_BATCH == 0 {
        return vec![text(&message.body)];
    }
    batch::items(&message.body)
        .map(|item| text(item.unwrap().body))
        .collect()
}

async fn pulled(broker: &TestBroker, offset: i64) -> (PullMessageResponse, Vec<Message>) {
    let (_, header, found) = broker.pulled(TOPIC, offset).await;
    (header, found)
}

#[tokio::test]
async fn a_batch_is_one_record_with_an_offset_for_each_message() {
    let mut broker = start().await;
    let first = sent(&broker, &["a", "b", "c"]).await;
    assert_eq!(first.queue_offset, 0);
    assert_eq!(first.batch_uniq_id.as_deref(), Some("whole"));
    assert!(!first.msg_id.contains(','));
    broker.sent(TOPIC, b"single", "").await;
    let second = sent(&broker, &["d", "e"]).await;
    assert_eq!(second.queue_offset, 4);
    for _ in 0..2 {
        let (header, found) = pulled(&broker, 0).await;
        assert_eq!((header.min_offset, header.max_offset), (0, 6));
        assert_eq!(header.next_begin_offset, 6);
        let all: Vec<_> = found.iter().map(bodies).collect();
        assert_eq!(all, [vec!["a", "b", "c"], vec!["single"], vec!["d", "e"]]);
        assert_eq!(found[0].property(names::INNER_NUM), Some("3"));
        assert_eq!(found[2].property(names::INNER_BASE), Some("4"));
        assert_eq!(found[0].sys_flag & 0xc0, 0xc0);
        let (header, found) = pulled(&broker, 5).await;
        assert_eq!((found[0].queue_offset, header.next_begin_offset), (4, 6));
        assert_eq!(broker.max_offset(TOPIC).await, 6);
        broker = broker.restart().await;
    }
}

/// A batch without an id of the whole comes from a client that does not take it apart.
#[tokio::test]
async fn a_batch_of_an_old_client_becomes_single_messages() {
    let broker = start().await;
    let answer = broker.call(batch_of(&["a", "b"], "a", "")).await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    let header: SendMessageResponse = answer.header().unwrap();
    assert_eq!(header.batch_uniq_id, None);
    let (_, found) = pulled(&broker, 0).await;
    let all: Vec<_> = found.iter().map(bodies).collect();
    assert_eq!(all, [["a"], ["b"]]);
}

#[tokio::test]
async fn tags_of_a_batch_are_left_to_the_consumer() {
    let broker = start().await;
    sent(&broker, &["a", "b"]).await;
    broker.sent(TOPIC, b"other", &props(&[("TAGS", "z")])).await;
    let mut header = pull_header(TOPIC, 0, 0);
    header.subscription = Some("a".to_owned());
    let answer = broker
        .call(Command::request(RequestCode::PULL_MESSAGE, &header))
        .await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    let found = messages(&answer.body);
    let all: Vec<_> = found.iter().map(bodies).collect();
    assert_eq!(all, [["a", "b"]]);
}

#[tokio::test]
async fn what_cannot_be_done_with_a_part_of_a_record_is_refused_with_a_reason() {
    let broker = start().await;
    sent(&broker, &["a", "b"]).await;
    let (_, found) = pulled(&broker, 0).await;
    let back = ConsumerSendMsgBackRequest {
        offset: found[0].physical_offset,
        group: "g".to_owned(),
        ..ConsumerSendMsgBackRequest::default()
    };
    let back = Command::request(RequestCode::CONSUMER_SEND_MSG_BACK, &back);
    let pop = PopMessageRequest {
        consumer_group: "g".to_owned(),
        topic: TOPIC.to_owned(),
        queue_id: -1,
        messages_max: 1,
        invisible_time_ms: 1_000,
        ..PopMessageRequest::default()
    };
    let pop = Command::request(RequestCode::POP_MESSAGE, &pop);
    for (command, code, part) in [
        (back, ResponseCode::MESSAGE_ILLEGAL, "one of a batch"),
        (pop, ResponseCode::REQUEST_CODE_NOT_SUPPORTED, "BatchCQ"),
        (
            create("T", "+queue.type=BatchCQ,+cleanup.policy=COMPACTION"),
            ResponseCode::INVALID_PARAMETER,
            "cannot have both",
        ),
    ] {
        let answer = broker.call(command).await;
        let remark = answer.remark.clone().unwrap_or_default();
        assert_eq!(answer.response_code(), code, "{remark}");
        assert!(remark.contains(part), "{remark}");
    }
}

#[tokio::test]
async fn a_batch_that_lies_about_itself_is_refused() {
    let broker = start().await;
    for claimed in [
        ("INNER_NUM", "70"),
        ("DELAY", "2"),
        ("TRAN_MSG", "true"),
        ("TIMER_DELAY_SEC", "9"),
    ] {
        let properties = props(&[("UNIQ_KEY", "whole"), claimed]);
        let answer = broker.call(batch_of(&["a"], "a", &properties)).await;
        let code = answer.response_code();
        assert_eq!(code, ResponseCode::MESSAGE_ILLEGAL, "{claimed:?}");
    }
    let many = vec!["x"; 32_768];
    let answer = broker
        .call(batch_of(&many, "a", &props(&[("UNIQ_KEY", "whole")])))
        .await;
    assert_eq!(answer.response_code(), ResponseCode::MESSAGE_ILLEGAL);
    let inner = props(&[("INNER_NUM", "2")]);
    let answer = broker.send(TOPIC, b"x", &inner).await;
    assert_eq!(answer.response_code(), ResponseCode::MESSAGE_ILLEGAL);
    assert_eq!(broker.max_offset(TOPIC).await, 0);
    let answer = broker.call(pull(TOPIC, 0, 0)).await;
    assert_ne!(answer.response_code(), ResponseCode::SUCCESS);
}
