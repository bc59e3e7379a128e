//! Light queues (LMQ): topics of their own that need not be created, which messages name beside their topic.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{
    AckMessageRequest, PopMessageRequest, PopMessageResponse, QueryConsumerOffsetRequest,
    QueryConsumerOffsetResponse, SendMessageRequestV2, UpdateConsumerOffsetRequest,
};
use protocol::pop::{self, Handle, Origin};
use protocol::{batch, properties as names};

use crate::harness::{Message, TIMEOUT, TestBroker, long_pull, messages, props, pull, send_header};
use crate::pop::{GROUP, pop_header};

const TOPIC: &str = "Parent";

async fn start() -> TestBroker {
    TestBroker::start_with(|keys| {
        keys.enable_lmq = true;
        keys.enable_multi_dispatch = true;
    })
    .await
}

fn naming(light: &str) -> String {
    props(&[("TAGS", "a"), ("INNER_MULTI_DISPATCH", light)])
}

/// Bodies in a queue, and the offsets in light queues that each bears.
fn seen(messages: &[Message]) -> Vec<(String, &str)> {
    let seen = messages.iter().map(|message| {
        let offsets = message.property(names::INNER_MULTI_QUEUE_OFFSET);
        let body = String::from_utf8(message.body.clone()).unwrap();
        (body, offsets.unwrap_or_default())
    });
    seen.collect()
}

async fn refused(broker: &TestBroker, light: &str, code: ResponseCode) -> String {
    let answer = broker.send(TOPIC, b"x", &naming(light)).await;
    let remark = answer.remark.clone().unwrap_or_default();
    assert_eq!(answer.response_code(), code, "{remark}");
    remark
}

#[tokio::test]
async fn a_message_is_pulled_from_every_light_queue_that_it_names() {
    let broker = start().await;
    broker.sent(TOPIC, b"0", &naming("%LMQ%a")).await;
    let sent = broker.sent(TOPIC, b"1", &naming("%LMQ%b,%LMQ%a")).await;
    assert_eq!((sent.queue_id, sent.queue_offset), (0, 1));
    let (_, header, found) = broker.pulled("%LMQ%a", 0).await;
    assert_eq!(
        (
            header.min_offset,
            header.max_offset,
            header.next_begin_offset
        ),
        (0, 2, 2)
    );
    assert_eq!(seen(&found), [("0".into(), "0"), ("1".into(), "0,1")]);
    assert!(found.iter().all(|message| message.topic == TOPIC));
    let (_, header, found) = broker.pulled("%LMQ%b", 0).await;
    assert_eq!((header.max_offset, found.len()), (1, 1));
    let (_, _, found) = broker.pulled(TOPIC, 0).await;
    assert_eq!(found.len(), 2);
    // No other queue, and no topic that anybody could see in the files.
    let answer = broker.call(pull("%LMQ%a", 1, 0)).await;
    assert_eq!(answer.response_code(), ResponseCode::INVALID_PARAMETER);
    assert!(!broker.topic_files().contains("LMQ"));
}

#[tokio::test]
async fn light_queues_and_their_groups_go_on_after_a_restart() {
    let broker = start().await;
    for body in ["0", "1", "2"] {
        broker.sent(TOPIC, body.as_bytes(), &naming("%LMQ%a")).await;
    }
    let commit = UpdateConsumerOffsetRequest {
        consumer_group: "%LMQ%group".to_owned(),
        topic: "%LMQ%a".to_owned(),
        queue_id: 0,
        commit_offset: 2,
    };
    let answer = broker
        .call(Command::request(
            RequestCode::UPDATE_CONSUMER_OFFSET,
            &commit,
        ))
        .await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    let broker = broker.restart().await;
    let query = QueryConsumerOffsetRequest {
        consumer_group: "%LMQ%group".to_owned(),
        topic: "%LMQ%a".to_owned(),
        queue_id: 0,
        set_zero_if_not_found: None,
    };
    let answer = broker
        .call(Command::request(RequestCode::QUERY_CONSUMER_OFFSET, &query))
        .await;
    let offset: QueryConsumerOffsetResponse = answer.header().unwrap();
    assert_eq!(offset.offset, 2);
    let root = &broker.keys.store_path_root_dir;
    let file = format!("{root}/config/lmqConsumerOffset.json");
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains("\"%LMQ%a@%LMQ%group\":2"), "{text}");
    broker.sent(TOPIC, b"3", &naming("%LMQ%a")).await;
    let (_, _, found) = broker.pulled("%LMQ%a", 2).await;
    assert_eq!(seen(&found), [("2".into(), "2"), ("3".into(), "3")]);
}

#[tokio::test]
async fn a_pull_that_waits_for_a_light_queue_hears_of_its_first_message() {
    let broker = start().await;
    let waiting = broker.call(long_pull("%LMQ%new", 0, "*", 15_000));
    let send = async {
        // Whichever comes first, the pull gets the message.
        broker.sent(TOPIC, b"x", &naming("%LMQ%new")).await
    };
    let (answer, _) = tokio::join!(waiting, send);
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    assert_eq!(messages(&answer.body).len(), 1);
}

#[tokio::test]
async fn messages_of_a_batch_go_to_light_queues_too() {
    let broker = start().await;
    let mut body = BytesMut::new();
    for (text, light) in [("0", "%LMQ%a"), ("1", "%LMQ%a,%LMQ%b")] {
        let item = batch::Item {
            flag: 0,
            body: text.as_bytes(),
            properties: &naming(light),
        };
        batch::push(&mut body, &item);
    }
    let mut header = send_header(TOPIC, 0, "");
    header.batch = Some(true);
    let header = SendMessageRequestV2(header);
    let command = Command::request(RequestCode::SEND_BATCH_MESSAGE, &header);
    let answer = broker.call(command.with_body(body.freeze())).await;
    assert_eq!(
        answer.response_code(),
        ResponseCode::SUCCESS,
        "{:?}",
        answer.remark
    );
    let (_, _, found) = broker.pulled("%LMQ%a", 0).await;
    assert_eq!(seen(&found), [("0".into(), "0"), ("1".into(), "1,0")]);
}

#[tokio::test]
async fn a_delayed_message_goes_to_its_light_queues_when_it_is_delivered() {
    let broker = TestBroker::start_with(|keys| {
        keys.enable_lmq = true;
        keys.enable_multi_dispatch = true;
        keys.message_delay_level = "1s".to_owned();
    })
    .await;
    let delayed = props(&[("INNER_MULTI_DISPATCH", "%LMQ%a"), ("DELAY", "1")]);
    broker.sent(TOPIC, b"late", &delayed).await;
    assert_eq!(broker.max_offset("%LMQ%a").await, 0);
    let answer = broker.call(long_pull("%LMQ%a", 0, "*", 15_000)).await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    assert_eq!(seen(&messages(&answer.body)), [("late".into(), "0")]);
}

#[tokio::test]
async fn names_that_are_none_are_refused_and_nothing_is_stored() {
    let broker = start().await;
    for bad in [
        "Plain",
        "%LMQ%",
        "%LMQ%a/b",
        "%LMQ%a,,%LMQ%b",
        "%LMQ%a,other",
    ] {
        let remark = refused(&broker, bad, ResponseCode::MESSAGE_ILLEGAL).await;
        assert!(remark.contains("INNER_MULTI_DISPATCH"), "{remark}");
    }
    let long = format!("%LMQ%{}", "x".repeat(300));
    let remark = refused(&broker, &long, ResponseCode::MESSAGE_ILLEGAL).await;
    assert!(remark.len() < 400, "{remark}");
    // Names for which the offsets find no room.
    let many: Vec<String> = (0..2_000).map(|number| format!("%LMQ%{number}")).collect();
    refused(&broker, &many.join(","), ResponseCode::MESSAGE_ILLEGAL).await;
    assert_eq!(broker.max_offset("%LMQ%a").await, 0);
    broker.sent(TOPIC, b"x", &naming(" ")).await;
    assert_eq!(broker.max_offset(TOPIC).await, 1);
}

#[tokio::test]
async fn there_are_no_more_light_queues_than_allowed() {
    let broker = TestBroker::start_with(|keys| {
        keys.enable_lmq = true;
        keys.enable_multi_dispatch = true;
        keys.max_lmq_consume_queue_num = 2;
    })
    .await;
    let remark = refused(&broker, "%LMQ%a,%LMQ%b,%LMQ%c", ResponseCode::SYSTEM_ERROR).await;
    assert!(
        remark.contains("LMQ_CONSUME_QUEUE_NUM_EXCEEDED"),
        "{remark}"
    );
    broker.sent(TOPIC, b"0", &naming("%LMQ%a,%LMQ%b")).await;
    refused(&broker, "%LMQ%c", ResponseCode::SYSTEM_ERROR).await;
    broker.sent(TOPIC, b"1", &naming("%LMQ%b")).await;
    assert_eq!(broker.max_offset("%LMQ%b").await, 2);
}

#[tokio::test]
async fn without_light_queues_the_property_means_nothing() {
    let broker = TestBroker::start().await;
    broker.sent(TOPIC, b"x", &naming("%LMQ%a,nonsense")).await;
    let (_, _, found) = broker.pulled(TOPIC, 0).await;
    assert_eq!(
        found[0].property("INNER_MULTI_DISPATCH"),
        Some("%LMQ%a,nonsense")
    );
    assert_eq!(found[0].property("INNER_MULTI_QUEUE_OFFSET"), None);
    let answer = broker.call(pull("%LMQ%a", 0, 0)).await;
    assert_eq!(answer.response_code(), ResponseCode::TOPIC_NOT_EXIST);
}

const LIGHT: &str = "%LMQ%a";

fn pop_light(invisible_time_ms: i64) -> PopMessageRequest {
    PopMessageRequest {
        topic: LIGHT.to_owned(),
        invisible_time_ms,
        ..pop_header()
    }
}

/// Bodies of what is popped, each with its acknowledgement: a message is known by its offset in the light queue.
async fn popped(broker: &TestBroker, header: &PopMessageRequest) -> Vec<(String, Command)> {
    let answer = broker.pop(header).await;
    if answer.response_code() != ResponseCode::SUCCESS {
        return Vec::new();
    }
    let header: PopMessageResponse = answer.header().unwrap();
    let start = header.start_offset_info.clone().unwrap();
    let with_handle = |message: Message| {
        let handle = match message.property(names::POP_CK) {
            Some(handle) => handle.to_owned(),
            None => Handle {
                start_offset: pop::start_of(&start, Origin::Topic, 0).unwrap(),
                popped_ms: header.pop_time_ms,
                invisible_ms: header.invisible_time_ms,
                revive_queue: header.revive_qid,
                origin: Origin::Topic,
                broker_name: "broker-a",
                queue_id: 0,
                offset: message
                    .property(names::INNER_MULTI_QUEUE_OFFSET)
                    .and_then(|offset| offset.parse().ok()),
            }
            .to_string(),
        };
        let parsed = Handle::parse(&handle).unwrap();
        let ack = AckMessageRequest {
            consumer_group: GROUP.to_owned(),
            topic: parsed.origin.real_topic(GROUP, LIGHT),
            queue_id: 0,
            offset: parsed.offset.unwrap(),
            extra_info: handle.clone(),
        };
        let body = String::from_utf8(message.body.clone()).unwrap();
        (body, Command::request(RequestCode::ACK_MESSAGE, &ack))
    };
    messages(&answer.body)
        .into_iter()
        .map(with_handle)
        .collect()
}

async fn acknowledged(broker: &TestBroker, ack: Command) {
    let answer = broker.call(ack).await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    assert_eq!(answer.remark, None);
}

async fn committed(broker: &TestBroker) -> Option<i64> {
    let query = QueryConsumerOffsetRequest {
        consumer_group: GROUP.to_owned(),
        topic: LIGHT.to_owned(),
        queue_id: 0,
        set_zero_if_not_found: Some(false),
    };
    let query = Command::request(RequestCode::QUERY_CONSUMER_OFFSET, &query);
    let offset = broker.call(query).await;
    let offset = offset.header::<QueryConsumerOffsetResponse>().ok()?;
    Some(offset.offset)
}

#[tokio::test]
async fn a_light_queue_is_popped_by_its_own_offsets() {
    let broker = start().await;
    // The offsets of topic and light queue differ.
    for (body, light) in [
        ("plain", "%LMQ%other"),
        ("0", LIGHT),
        ("another", "%LMQ%other"),
        ("1", LIGHT),
    ] {
        broker.sent(TOPIC, body.as_bytes(), &naming(light)).await;
    }
    let mut first = popped(&broker, &pop_light(600)).await;
    let bodies: Vec<&str> = first.iter().map(|(body, _)| &**body).collect();
    assert_eq!(bodies, ["0", "1"]);
    assert!(popped(&broker, &pop_light(600)).await.is_empty());
    acknowledged(&broker, first.remove(0).1).await;
    assert_eq!(committed(&broker).await, Some(1));
    // The other one comes again when its time is over, through the group's retry topic for the light queue.
    let begun = Instant::now();
    let mut again = loop {
        let again = popped(&broker, &pop_light(60_000)).await;
        if !again.is_empty() {
            break again;
        }
        assert!(begun.elapsed() < TIMEOUT, "it does not come again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!((again.len(), &*again[0].0), (1, "1"));
    assert_eq!(committed(&broker).await, Some(2));
    acknowledged(&broker, again.remove(0).1).await;
    // A late acknowledgement changes nothing, and what comes later is popped next.
    let late = broker.call(first.remove(0).1).await;
    assert_eq!(late.response_code(), ResponseCode::SUCCESS);
    assert!(late.remark.is_some());
    let broker = broker.restart().await;
    broker.sent(TOPIC, b"2", &naming(LIGHT)).await;
    let next = popped(&broker, &pop_light(60_000)).await;
    assert_eq!((next.len(), &*next[0].0), (1, "2"));
}

#[tokio::test]
async fn bad_pops_of_light_queues_are_refused() {
    let broker = start().await;
    broker.sent(TOPIC, b"0", &naming(LIGHT)).await;
    let mut wrong_queue = pop_light(60_000);
    wrong_queue.queue_id = 1;
    let answer = broker.pop(&wrong_queue).await;
    assert_eq!(answer.response_code(), ResponseCode::INVALID_PARAMETER);
    // A queue that nobody named has nothing.
    let mut empty = pop_light(60_000);
    empty.topic = "%LMQ%nobody".to_owned();
    let answer = broker.pop(&empty).await;
    assert_eq!(answer.response_code(), ResponseCode::POLLING_TIMEOUT);
    let (_, ack) = popped(&broker, &pop_light(60_000)).await.remove(0);
    let mut beyond: AckMessageRequest = ack.header().unwrap();
    beyond.offset = 7;
    let beyond = Command::request(RequestCode::ACK_MESSAGE, &beyond);
    let answer = broker.call(beyond).await;
    assert_eq!(answer.response_code(), ResponseCode::NO_MESSAGE);
    acknowledged(&broker, ack).await;
}
