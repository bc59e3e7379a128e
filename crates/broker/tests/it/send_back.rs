//! Messages that consumers give back: CONSUMER_SEND_MSG_BACK.

use std::sync::Arc;

use platform::disk::SimulatedDisk;
use protocol::body::SubscriptionGroupConfig;
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::ConsumerSendMsgBackRequest;
use protocol::json;
use protocol::message_id::decode_offset_id;

use crate::harness::*;

const GROUP: &str = "group";
const RETRY: &str = "%RETRY%group";
const DEAD: &str = "%DLQ%group";
/// So that a message is delivered again soon, whichever of the first levels it has.
const LEVELS: &str = "1s 1s 1s 1s 1h";

async fn start() -> TestBroker {
    TestBroker::start_with(|keys| keys.message_delay_level = LEVELS.to_owned()).await
}

/// Sends a message and tells its position in the log.
async fn stored(broker: &TestBroker, properties: &str) -> i64 {
    let sent = broker.sent("Topic", b"body", properties).await;
    decode_offset_id(&sent.msg_id).unwrap().1 as i64
}

fn header(offset: i64, delay_level: i32) -> ConsumerSendMsgBackRequest {
    ConsumerSendMsgBackRequest {
        offset,
        group: GROUP.to_owned(),
        delay_level,
        origin_topic: Some("Topic".to_owned()),
        ..Default::default()
    }
}

fn back(header: &ConsumerSendMsgBackRequest) -> Command {
    Command::request(RequestCode::CONSUMER_SEND_MSG_BACK, header)
}

async fn given_back(broker: &TestBroker, header: &ConsumerSendMsgBackRequest) {
    let answer = broker.call(back(header)).await;
    assert_eq!(
        answer.response_code(),
        ResponseCode::SUCCESS,
        "{:?}",
        answer.remark
    );
}

/// Waits for message `number` of a topic's queue 0, and tells its position in the log.
async fn redelivered(broker: &TestBroker, topic: &str, number: i64) -> (Message, i64) {
    let answer = broker.call(long_pull(topic, number, "*", 10_000)).await;
    assert_eq!(
        answer.response_code(),
        ResponseCode::SUCCESS,
        "{:?}",
        answer.remark
    );
    let record = protocol::record::decode(&answer.body, protocol::record::CheckBody::Yes).unwrap();
    (
        messages(&answer.body).remove(0),
        record.physical_offset as i64,
    )
}

async fn waiting(broker: &TestBroker, level: i32) -> Vec<Message> {
    let answer = broker.call(pull("SCHEDULE_TOPIC_XXXX", level - 1, 0)).await;
    messages(&answer.body)
}

#[tokio::test]
async fn a_message_comes_again_as_itself_and_tells_where_it_was() {
    let broker = start().await;
    let sent = broker
        .sent("Topic", b"body", &props(&[("TAGS", "t"), ("k", "v")]))
        .await;
    let (_, physical) = decode_offset_id(&sent.msg_id).unwrap();
    given_back(&broker, &header(physical as i64, 1)).await;
    let (again, position) = redelivered(&broker, RETRY, 0).await;
    assert_eq!(
        (again.body.as_slice(), again.flag, again.reconsume_times),
        (&b"body"[..], 7, 1)
    );
    for (name, value) in [
        ("TAGS", "t"),
        ("k", "v"),
        ("RETRY_TOPIC", "Topic"),
        ("ORIGIN_MESSAGE_ID", sent.msg_id.as_str()),
        ("REAL_TOPIC", RETRY),
        ("REAL_QID", "0"),
        ("DELAY", "1"),
        ("WAIT", "false"),
    ] {
        assert_eq!(again.property(name), Some(value), "{name}");
    }
    // A second time, from the retry topic: where it was first stays.
    given_back(&broker, &header(position, 0)).await;
    let (third, _) = redelivered(&broker, RETRY, 1).await;
    assert_eq!(third.reconsume_times, 2);
    assert_eq!(third.property("RETRY_TOPIC"), Some("Topic"));
    assert_eq!(
        third.property("ORIGIN_MESSAGE_ID"),
        Some(sent.msg_id.as_str())
    );
    assert_eq!(
        third.property("DELAY"),
        Some("4"),
        "three and once for each time it came back"
    );
}

#[tokio::test]
async fn levels_are_named_counted_or_the_last() {
    let broker = start().await;
    let physical = stored(&broker, "").await;
    for level in [0, 5, 6, i32::MAX] {
        given_back(&broker, &header(physical, level)).await;
    }
    assert_eq!(waiting(&broker, 3).await.len(), 1);
    assert_eq!(waiting(&broker, 5).await.len(), 3);
}

#[tokio::test]
async fn a_message_that_failed_too_often_or_is_given_up_is_a_dead_letter() {
    let broker = start().await;
    let physical = stored(&broker, &props(&[("DELAY", "0")])).await;
    for level in [-1, i32::MIN] {
        given_back(&broker, &header(physical, level)).await;
    }
    let mut exhausted = header(physical, 0);
    exhausted.max_reconsume_times = Some(0);
    given_back(&broker, &exhausted).await;
    let (_, _, dead) = broker.pulled(DEAD, 0).await;
    assert_eq!(dead.len(), 3);
    for letter in &dead {
        assert_eq!(
            (letter.property("DELAY"), letter.reconsume_times),
            (Some("0"), 1)
        );
        assert_eq!(letter.property("RETRY_TOPIC"), Some("Topic"));
        assert_eq!(letter.property("REAL_TOPIC"), None);
    }
    // Clients before 3.4.9 do not know that field, whatever stands there; then the group's own limit counts.
    let mut old = back(&exhausted);
    old.version = protocol::version::V3_4_9 - 1;
    assert_eq!(
        broker.call(old).await.response_code(),
        ResponseCode::SUCCESS
    );
    assert_eq!(broker.max_offset(DEAD).await, 3);
    configure(&broker, |group| group.retry_max_times = 0).await;
    given_back(&broker, &header(physical, 0)).await;
    assert_eq!(broker.max_offset(DEAD).await, 4);
    // The topics were on the disk before their messages. The journal first: what leaves it goes into the other file.
    let topics: String = ["journal", "json"]
        .map(|kind| {
            let root = &broker.keys.store_path_root_dir;
            let text = std::fs::read(format!("{root}/config/topics.{kind}")).unwrap_or_default();
            String::from_utf8_lossy(&text).into_owned()
        })
        .concat();
    assert!(
        topics.contains("%DLQ%group") && topics.contains("%RETRY%group"),
        "{topics}"
    );
}

async fn configure(broker: &TestBroker, change: impl FnOnce(&mut SubscriptionGroupConfig)) {
    let mut group = SubscriptionGroupConfig {
        group_name: GROUP.to_owned(),
        ..Default::default()
    };
    change(&mut group);
    let command = Command::request(RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &())
        .with_body(json::encode(&group));
    assert_eq!(
        broker.call(command).await.response_code(),
        ResponseCode::SUCCESS
    );
}

#[tokio::test]
async fn a_group_says_over_how_many_queues_its_retries_go() {
    let broker = start().await;
    let physical = stored(&broker, "").await;
    configure(&broker, |group| group.retry_queue_nums = 3).await;
    for _ in 0..6 {
        given_back(&broker, &header(physical, 5)).await;
    }
    let mut queues: Vec<_> = waiting(&broker, 5)
        .await
        .iter()
        .map(|message| message.property("REAL_QID").unwrap().to_owned())
        .collect();
    queues.sort();
    queues.dedup();
    assert_eq!(queues, ["0", "1", "2"]);
    // No queues: no retries. The message is dropped, which its consumer takes for a success, as in Java.
    configure(&broker, |group| group.retry_queue_nums = 0).await;
    given_back(&broker, &header(physical, 5)).await;
    assert_eq!(waiting(&broker, 5).await.len(), 6);
}

#[tokio::test]
async fn nonsense_is_refused_with_a_reason() {
    let broker = start().await;
    let physical = stored(&broker, "").await;
    for offset in [-1, i64::MIN, physical + 1, i64::MAX, 1 << 40] {
        let answer = broker.call(back(&header(offset, 0))).await;
        assert_eq!(
            answer.response_code(),
            ResponseCode::SYSTEM_ERROR,
            "{offset}"
        );
        let remark = answer.remark.unwrap();
        assert!(
            remark.contains(&format!("look message by offset failed, {offset}")),
            "{remark}"
        );
    }
    for group in ["a b", "", &"g".repeat(121)] {
        let mut wrong = header(physical, 0);
        wrong.group = (*group).to_owned();
        let answer = broker.call(back(&wrong)).await;
        assert_eq!(
            answer.response_code(),
            ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
            "{group:?} {:?}",
            answer.remark
        );
    }
    let empty = Command::request(RequestCode::CONSUMER_SEND_MSG_BACK, &());
    assert_eq!(
        broker.call(empty).await.response_code(),
        ResponseCode::SYSTEM_ERROR
    );
    let read_only = Command::request(RequestCode::UPDATE_BROKER_CONFIG, &())
        .with_body("brokerPermission=4\nautoCreateSubscriptionGroup=false\n");
    assert_eq!(
        broker.call(read_only).await.response_code(),
        ResponseCode::SUCCESS
    );
    configure(&broker, |_| {}).await;
    let answer = broker.call(back(&header(physical, 0))).await;
    assert_eq!(answer.response_code(), ResponseCode::NO_PERMISSION);
    let mut unknown = header(physical, 0);
    unknown.group = "unknown".to_owned();
    let answer = broker.call(back(&unknown)).await;
    assert_eq!(
        answer.response_code(),
        ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST
    );
}

#[tokio::test]
async fn a_message_that_only_the_disk_has_is_taken_back_too() {
    let disk = SimulatedDisk::new();
    let broker = TestBroker::start_on(Arc::new(disk.clone()), |keys| {
        keys.mapped_file_size_commit_log = 1 << 20;
        keys.message_delay_level = LEVELS.to_owned();
    })
    .await;
    let physical = stored(&broker, "").await;
    let broker = broker.restart().await;
    disk.set_faults(|faults| faults.reads_are_cold = true);
    given_back(&broker, &header(physical, 1)).await;
    let (again, _) = redelivered(&broker, RETRY, 0).await;
    assert_eq!(
        (again.body.as_slice(), again.reconsume_times),
        (&b"body"[..], 1)
    );
}

#[tokio::test]
async fn a_message_that_is_not_synced_is_not_taken_back() {
    let disk = SimulatedDisk::new();
    let broker = TestBroker::start_on(Arc::new(disk.clone()), |keys| {
        keys.mapped_file_size_commit_log = 1 << 20;
    })
    .await;
    let physical = stored(&broker, "").await;
    given_back(&broker, &header(physical, 5)).await;
    disk.set_faults(|faults| faults.sync_fails = true);
    let answer = broker.call(back(&header(physical, 5))).await;
    assert_eq!(answer.response_code(), ResponseCode::SERVICE_NOT_AVAILABLE);
}

#[tokio::test]
async fn a_client_that_sends_to_its_retry_topic_itself_is_delayed_too() {
    let broker = start().await;
    let again = props(&[
        ("DELAY", "1"),
        ("RETRY_TOPIC", "Topic"),
        ("TRAN_MSG", "true"),
    ]);
    let mut header = send_header(RETRY, 0, &again);
    header.reconsume_times = Some(1);
    let again = Command::request(RequestCode::SEND_MESSAGE, &header).with_body("x");
    let answer = broker.call(again).await;
    assert_eq!(
        answer.response_code(),
        ResponseCode::SUCCESS,
        "{:?}",
        answer.remark
    );
    assert_eq!(broker.max_offset(RETRY).await, 0);
    let (again, _) = redelivered(&broker, RETRY, 0).await;
    assert_eq!(
        (again.reconsume_times, again.property("REAL_TOPIC")),
        (1, Some(RETRY))
    );
}
