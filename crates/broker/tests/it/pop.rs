//! Consumption by pop: pop, acknowledge, change the invisible time, and what comes again.

use std::time::{Duration, Instant};

use protocol::body::{BatchAck, BatchAckMessageRequestBody, SubscriptionGroupConfig};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{
    AckMessageRequest, ChangeInvisibleTimeRequest, ChangeInvisibleTimeResponse, PopMessageRequest,
    PopMessageResponse,
};
use protocol::json;
use protocol::pop::{self, Handle, Origin};
use protocol::properties;

use crate::harness::{Message, TIMEOUT, TestBroker, messages};

pub(crate) const TOPIC: &str = "popped";
pub(crate) const GROUP: &str = "poppers";
const RETRY: &str = "%RETRY%poppers_popped";
/// Long enough that nothing comes again while a test looks.
pub(crate) const LONG_MS: i64 = 60_000;

pub(crate) fn pop_header() -> PopMessageRequest {
    PopMessageRequest {
        consumer_group: GROUP.to_owned(),
        topic: TOPIC.to_owned(),
        queue_id: -1,
        messages_max: 32,
        invisible_time_ms: LONG_MS,
        exp: Some("*".to_owned()),
        exp_type: Some("TAG".to_owned()),
        ..PopMessageRequest::default()
    }
}

/// A message with the handle that a client makes for it.
#[derive(Debug, Clone)]
pub(crate) struct Popped {
    pub(crate) message: Message,
    pub(crate) handle: String,
    pub(crate) header: PopMessageResponse,
}

impl Popped {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.message.body).unwrap()
    }

    fn parsed(&self) -> Handle<'_> {
        Handle::parse(&self.handle).unwrap()
    }

    pub(crate) fn ack(&self) -> AckMessageRequest {
        let handle = self.parsed();
        AckMessageRequest {
            consumer_group: GROUP.to_owned(),
            topic: handle.origin.real_topic(GROUP, TOPIC),
            queue_id: handle.queue_id,
            extra_info: self.handle.clone(),
            offset: handle.offset.unwrap(),
        }
    }

    fn change(&self, invisible_time_ms: i64) -> Command {
        let ack = self.ack();
        let header = ChangeInvisibleTimeRequest {
            consumer_group: ack.consumer_group,
            topic: ack.topic,
            queue_id: ack.queue_id,
            extra_info: ack.extra_info,
            offset: ack.offset,
            invisible_time_ms,
        };
        Command::request(RequestCode::CHANGE_MESSAGE_INVISIBLETIME, &header)
    }
}

impl TestBroker {
    pub(crate) async fn pop(&self, header: &PopMessageRequest) -> Command {
        self.call(Command::request(RequestCode::POP_MESSAGE, header))
            .await
    }

    /// Pops and makes the handles as the Java client does.
    pub(crate) async fn popped(&self, header: &PopMessageRequest) -> Vec<Popped> {
        popped(&self.pop(header).await)
    }

    /// Pops until a message comes.
    pub(crate) async fn popped_soon(&self, header: &PopMessageRequest) -> Vec<Popped> {
        let begun = Instant::now();
        loop {
            let popped = self.popped(header).await;
            if !popped.is_empty() {
                return popped;
            }
            assert!(begun.elapsed() < TIMEOUT, "nothing came");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn ack(&self, popped: &Popped) -> Command {
        self.call(Command::request(RequestCode::ACK_MESSAGE, &popped.ack()))
            .await
    }

    async fn acked(&self, popped: &Popped) {
        let answer = self.ack(popped).await;
        assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
        assert_eq!(answer.remark, None);
    }

    pub(crate) async fn runtime(&self, key: &str) -> String {
        let answer = self
            .call(Command::request(RequestCode::GET_BROKER_RUNTIME_INFO, &()))
            .await;
        let table: protocol::body::KvTable = json::decode(&answer.body).unwrap();
        table.table[key].clone()
    }

    async fn committed(&self, topic: &str) -> Option<i64> {
        let header = protocol::headers::QueryConsumerOffsetRequest {
            consumer_group: GROUP.to_owned(),
            topic: topic.to_owned(),
            queue_id: 0,
            set_zero_if_not_found: Some(false),
            ..Default::default()
        };
        let answer = self
            .call(Command::request(
                RequestCode::QUERY_CONSUMER_OFFSET,
                &header,
            ))
            .await;
        answer
            .header::<protocol::headers::QueryConsumerOffsetResponse>()
            .ok()
            .map(|header| header.offset)
    }
}

pub(crate) fn popped(answer: &Command) -> Vec<Popped> {
    if answer.response_code() != ResponseCode::SUCCESS {
        assert_eq!(
            answer.response_code(),
            ResponseCode::POLLING_TIMEOUT,
            "{:?}",
            answer.remark
        );
        return Vec::new();
    }
    let header: PopMessageResponse = answer.header().unwrap();
    let start = header.start_offset_info.clone().unwrap();
    let with_handle = |message: Message| {
        let handle = match message.property(properties::POP_CK) {
            Some(handle) => handle.to_owned(),
            None => Handle {
                start_offset: pop::start_of(&start, Origin::Topic, 0).unwrap(),
                popped_ms: header.pop_time_ms,
                invisible_ms: header.invisible_time_ms,
                revive_queue: header.revive_qid,
                origin: Origin::Topic,
                broker_name: "broker-a",
                queue_id: 0,
                offset: Some(message.queue_offset),
            }
            .to_string(),
        };
        Popped {
            handle,
            message,
            header: header.clone(),
        }
    };
    messages(&answer.body)
        .into_iter()
        .map(with_handle)
        .collect()
}

pub(crate) fn texts(popped: &[Popped]) -> Vec<&str> {
    popped.iter().map(Popped::text).collect()
}

/// A broker whose topic has these messages in queue 0.
pub(crate) async fn with_messages(texts: &[&str]) -> TestBroker {
    let broker = TestBroker::start().await;
    for text in texts {
        broker.sent(TOPIC, text.as_bytes(), "").await;
    }
    broker
}

#[tokio::test]
async fn popped_messages_are_hidden_until_they_are_acknowledged() {
    let broker = with_messages(&["a", "b", "c"]).await;
    let first = broker.popped(&pop_header()).await;
    assert_eq!(texts(&first), ["a", "b", "c"]);
    assert_eq!(
        first[0].header.msg_offset_info.as_deref(),
        Some("0 0 0,1,2")
    );
    assert!(broker.popped(&pop_header()).await.is_empty());
    broker.acked(&first[1]).await;
    assert_eq!(
        broker.committed(TOPIC).await,
        Some(0),
        "the first is not done"
    );
    broker.acked(&first[0]).await;
    assert_eq!(broker.committed(TOPIC).await, Some(2));
    broker.acked(&first[2]).await;
    assert_eq!(broker.committed(TOPIC).await, Some(3));
    assert_eq!(broker.runtime("popInFlightMessages").await, "0");
    assert_eq!(broker.runtime("popAcknowledgedTotal").await, "3");
}

#[tokio::test]
async fn what_is_not_acknowledged_comes_again_through_the_retry_topic() {
    let broker = with_messages(&["a", "b"]).await;
    let mut header = pop_header();
    header.invisible_time_ms = 1;
    assert_eq!(broker.popped(&header).await.len(), 2);
    let mut again = broker.popped_soon(&pop_header()).await;
    while again.len() < 2 {
        again.extend(broker.popped_soon(&pop_header()).await);
    }
    again.sort_by_key(|popped| popped.message.queue_offset);
    assert_eq!(texts(&again), ["a", "b"]);
    for popped in &again {
        assert_eq!(popped.message.topic, TOPIC, "under its own topic");
        assert_eq!(popped.message.reconsume_times, 1);
        assert_eq!(popped.parsed().origin, Origin::RetryV1);
        assert!(
            popped
                .message
                .property(properties::FIRST_POP_TIME)
                .is_some()
        );
        broker.acked(popped).await;
    }
    assert_eq!(broker.committed(TOPIC).await, Some(2));
    assert_eq!(broker.committed(RETRY).await, Some(2));
}

#[tokio::test]
async fn a_message_that_fails_too_often_is_a_dead_letter() {
    let broker = with_messages(&["a"]).await;
    let group = SubscriptionGroupConfig {
        group_name: GROUP.to_owned(),
        retry_max_times: 2,
        ..SubscriptionGroupConfig::default()
    };
    let create = Command::request(RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &())
        .with_body(json::encode(&group));
    assert_eq!(
        broker.call(create).await.response_code(),
        ResponseCode::SUCCESS
    );
    let mut header = pop_header();
    header.invisible_time_ms = 1;
    for times in 0..=2 {
        let popped = broker.popped_soon(&header).await;
        assert_eq!(popped[0].message.reconsume_times, times);
    }
    let begun = Instant::now();
    let dead = loop {
        let answer = broker
            .call(crate::harness::pull("%DLQ%poppers", 0, 0))
            .await;
        let dead = messages(&answer.body);
        if !dead.is_empty() {
            break dead;
        }
        assert!(begun.elapsed() < TIMEOUT, "{:?}", answer.remark);
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(dead[0].body, b"a");
    assert_eq!(dead[0].reconsume_times, 3);
    assert_eq!(dead[0].property(properties::RETRY_TOPIC), Some(RETRY));
    assert!(dead[0].property(properties::ORIGIN_MESSAGE_ID).is_some());
    assert!(broker.popped(&pop_header()).await.is_empty());
    assert_eq!(broker.runtime("popDeadLettersTotal").await, "1");
}

#[tokio::test]
async fn the_invisible_time_can_be_made_longer_and_shorter() {
    let broker = with_messages(&["a", "b"]).await;
    let mut header = pop_header();
    header.invisible_time_ms = 400;
    let popped = broker.popped(&header).await;
    let answer = broker.call(popped[0].change(LONG_MS)).await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    let changed: ChangeInvisibleTimeResponse = answer.header().unwrap();
    assert_eq!(changed.invisible_time_ms, LONG_MS);
    assert!(changed.pop_time_ms > popped[0].header.pop_time_ms);
    // The other one comes, and this one does not.
    let again = broker.popped_soon(&pop_header()).await;
    assert_eq!(texts(&again), ["b"]);
    let stale = broker.ack(&popped[0]).await;
    assert!(stale.remark.is_some(), "the old handle is worth nothing");
    assert_eq!(broker.committed(TOPIC).await, Some(0));
    let mut moved = popped[0].clone();
    moved.handle = Handle {
        popped_ms: changed.pop_time_ms,
        ..popped[0].parsed()
    }
    .to_string();
    assert_eq!(
        broker.call(moved.change(0)).await.response_code(),
        ResponseCode::SUCCESS
    );
    let again = broker.popped_soon(&pop_header()).await;
    assert_eq!(texts(&again), ["a"]);
}

#[tokio::test]
async fn a_batch_is_acknowledged_in_one_request() {
    let broker = with_messages(&["a", "b", "c"]).await;
    let popped = broker.popped(&pop_header()).await;
    let mut ack = BatchAck {
        consumer_group: GROUP.to_owned(),
        topic: TOPIC.to_owned(),
        retry: "0".to_owned(),
        pop_time_ms: popped[0].header.pop_time_ms,
        invisible_time_ms: LONG_MS,
        ..BatchAck::default()
    };
    ack.set_offsets(&[0, 2]);
    let request = |ack: BatchAck| {
        let body = BatchAckMessageRequestBody {
            acks: vec![ack],
            broker_name: Some("broker-a".to_owned()),
        };
        Command::request(RequestCode::BATCH_ACK_MESSAGE, &()).with_body(json::encode(&body))
    };
    let answer = broker.call(request(ack.clone())).await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    assert_eq!(broker.committed(TOPIC).await, Some(1));
    broker.acked(&popped[1]).await;
    assert_eq!(broker.committed(TOPIC).await, Some(3));
    let again = broker.call(request(ack.clone())).await;
    assert_eq!(again.response_code(), ResponseCode::SUCCESS);
    assert!(again.remark.is_some(), "twice");
    for (bits, retry) in [("!", "0"), ("AQ==", "7")] {
        let bad = BatchAck {
            bit_set: bits.to_owned(),
            retry: retry.to_owned(),
            ..ack.clone()
        };
        let answer = broker.call(request(bad)).await;
        assert_eq!(answer.response_code(), ResponseCode::MESSAGE_ILLEGAL);
    }
    let empty = Command::request(RequestCode::BATCH_ACK_MESSAGE, &());
    assert_eq!(
        broker.call(empty).await.response_code(),
        ResponseCode::NO_MESSAGE
    );
}

#[tokio::test]
async fn everything_that_was_not_acknowledged_comes_again_after_a_restart() {
    let broker = with_messages(&["a", "b", "c"]).await;
    let popped = broker.popped(&pop_header()).await;
    broker.acked(&popped[0]).await;
    let broker = broker.restart().await;
    let again = broker.popped_soon(&pop_header()).await;
    assert_eq!(texts(&again), ["b", "c"]);
    // A handle from before does not acknowledge what was delivered since.
    assert!(broker.ack(&popped[1]).await.remark.is_some());
    assert_eq!(broker.committed(TOPIC).await, Some(1));
}

#[tokio::test]
async fn what_a_java_broker_had_handed_out_comes_again_unless_it_was_acknowledged() {
    let broker = with_messages(&["a", "b", "c"]).await;
    // It commits behind what it hands out, and keeps this in its revive topic.
    let commit = protocol::headers::UpdateConsumerOffsetRequest {
        consumer_group: GROUP.to_owned(),
        topic: TOPIC.to_owned(),
        queue_id: 0,
        commit_offset: 3,
    };
    let create = SubscriptionGroupConfig {
        group_name: GROUP.to_owned(),
        ..SubscriptionGroupConfig::default()
    };
    let create = Command::request(RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &())
        .with_body(json::encode(&create));
    broker.call(create).await;
    let commit = Command::request(RequestCode::UPDATE_CONSUMER_OFFSET, &commit);
    assert_eq!(
        broker.call(commit).await.response_code(),
        ResponseCode::SUCCESS
    );
    let revive = "rmq_sys_REVIVE_LOG_DefaultCluster";
    let point = r#"{"bm":0,"bn":"broker-a","c":"poppers","d":[0,1,2],"it":60000,"n":3,"pt":1000,"q":0,"so":0,"t":"popped"}"#;
    let ack = r#"{"ao":1,"bn":"broker-a","c":"poppers","pt":1000,"q":0,"so":0,"t":"popped"}"#;
    for (tag, body) in [("ck", point), ("ack", ack), ("ck", "{")] {
        let props = crate::harness::props(&[("TAGS", tag)]);
        broker.sent(revive, body.as_bytes(), &props).await;
    }
    let again = broker.popped_soon(&pop_header()).await;
    assert_eq!(texts(&again), ["a", "c"]);
    assert_eq!(again[0].message.reconsume_times, 1);
}

#[tokio::test]
async fn only_wanted_tags_are_popped_and_others_are_passed_over() {
    let broker = TestBroker::start().await;
    for tag in ["x", "y", "x"] {
        let props = crate::harness::props(&[("TAGS", tag)]);
        broker.sent(TOPIC, tag.as_bytes(), &props).await;
    }
    let mut header = pop_header();
    header.exp = Some("x".to_owned());
    let popped = broker.popped(&header).await;
    assert_eq!(popped.len(), 2);
    assert_eq!(popped[0].header.msg_offset_info.as_deref(), Some("0 0 0,2"));
    broker.acked(&popped[0]).await;
    assert_eq!(broker.committed(TOPIC).await, Some(2));
    header.exp_type = Some("SQL92".to_owned());
    header.exp = Some("x =".to_owned());
    assert_eq!(
        broker.pop(&header).await.response_code(),
        ResponseCode::SUBSCRIPTION_PARSE_FAILED
    );
}

#[tokio::test]
async fn a_group_may_begin_with_the_newest_message() {
    let broker =
        TestBroker::start_with(|keys| keys.init_pop_offset_by_check_msg_in_mem = false).await;
    for text in ["a", "b", "c"] {
        broker.sent(TOPIC, text.as_bytes(), "").await;
    }
    let mut header = pop_header();
    header.init_mode = 1;
    assert_eq!(texts(&broker.popped(&header).await), ["c"]);
}

#[tokio::test]
async fn an_operators_reset_forgets_what_is_in_flight() {
    let broker = with_messages(&["a", "b"]).await;
    let popped = broker.popped(&pop_header()).await;
    let header = protocol::headers::ResetOffsetRequest {
        topic: TOPIC.to_owned(),
        group: GROUP.to_owned(),
        queue_id: 0,
        offset: Some(0),
        ..Default::default()
    };
    let reset = Command::request(RequestCode::INVOKE_BROKER_TO_RESET_OFFSET, &header);
    assert_eq!(
        broker.call(reset).await.response_code(),
        ResponseCode::SUCCESS
    );
    // What consumers say of old deliveries does not undo the reset.
    broker.ack(&popped[0]).await;
    broker.ack(&popped[1]).await;
    assert_eq!(texts(&broker.popped(&pop_header()).await), ["a", "b"]);
}

#[tokio::test]
async fn a_deleted_group_has_nothing_in_flight() {
    let broker = with_messages(&["a"]).await;
    assert_eq!(broker.popped(&pop_header()).await.len(), 1);
    let header = protocol::headers::DeleteSubscriptionGroupRequest {
        group_name: GROUP.to_owned(),
        clean_offset: true,
    };
    let delete = Command::request(RequestCode::DELETE_SUBSCRIPTIONGROUP, &header);
    broker.call(delete).await;
    assert_eq!(broker.runtime("popInFlightMessages").await, "0");
    assert_eq!(
        broker.popped(&pop_header()).await.len(),
        1,
        "as a group that is new"
    );
}

#[tokio::test]
async fn no_more_than_the_limit_is_in_flight() {
    let broker = TestBroker::start_with(|keys| keys.pop_in_flight_max = 2).await;
    for text in ["a", "b", "c"] {
        broker.sent(TOPIC, text.as_bytes(), "").await;
    }
    let mut header = pop_header();
    header.messages_max = 2;
    let popped = broker.popped(&header).await;
    assert_eq!(popped.len(), 2);
    let refused = broker.pop(&header).await;
    assert_eq!(refused.response_code(), ResponseCode::POLLING_FULL);
    assert!(refused.remark.unwrap().contains("popInFlightMax"));
    broker.acked(&popped[0]).await;
    assert_eq!(broker.popped(&header).await.len(), 1);
}

#[tokio::test]
async fn bad_pops_and_handles_are_refused_and_lose_nothing() {
    let broker = with_messages(&["a"]).await;
    type Change = fn(&mut PopMessageRequest);
    let bad: [(ResponseCode, Change); 9] = [
        (ResponseCode::INVALID_PARAMETER, |header| {
            header.attempt_id = Some("a".repeat(1_000));
        }),
        (ResponseCode::INVALID_PARAMETER, |header| {
            header.exp = Some("tag||".repeat(100_000));
        }),
        (ResponseCode::INVALID_PARAMETER, |header| {
            header.messages_max = 33
        }),
        (ResponseCode::INVALID_PARAMETER, |header| {
            header.messages_max = -1
        }),
        (ResponseCode::INVALID_PARAMETER, |header| {
            header.invisible_time_ms = 0
        }),
        (ResponseCode::INVALID_PARAMETER, |header| {
            header.invisible_time_ms = i64::MAX
        }),
        (ResponseCode::INVALID_PARAMETER, |header| {
            header.queue_id = 9999
        }),
        (ResponseCode::TOPIC_NOT_EXIST, |header| {
            header.topic = "none".to_owned()
        }),
        (ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST, |header| {
            header.consumer_group = "a b".to_owned();
        }),
    ];
    for (code, change) in bad {
        let mut header = pop_header();
        change(&mut header);
        let answer = broker.pop(&header).await;
        assert_eq!(answer.response_code(), code, "{:?}", answer.remark);
        assert!(answer.remark.is_some());
    }
    let mut odd_times = pop_header();
    odd_times.poll_time_ms = i64::MIN;
    odd_times.born_time_ms = i64::MAX;
    let popped = broker.popped(&odd_times).await;
    assert_eq!(popped.len(), 1);
    let good = popped[0].ack();
    let handles = [
        String::new(),
        "1 2 3".to_owned(),
        "x".repeat(100_000),
        popped[0].handle.replace("broker-a", "broker-b"),
        popped[0].handle.replace(" 0 0", " 0 1"),
    ];
    for extra_info in handles {
        let bad = AckMessageRequest {
            extra_info,
            ..good.clone()
        };
        let answer = broker
            .call(Command::request(RequestCode::ACK_MESSAGE, &bad))
            .await;
        assert_eq!(answer.response_code(), ResponseCode::MESSAGE_ILLEGAL);
        assert!(answer.remark.is_some());
    }
    for offset in [-1, 2, i64::MAX, i64::MIN] {
        let bad = AckMessageRequest {
            offset,
            ..good.clone()
        };
        let answer = broker
            .call(Command::request(RequestCode::ACK_MESSAGE, &bad))
            .await;
        assert_eq!(answer.response_code(), ResponseCode::NO_MESSAGE);
    }
    for time in [-1, i64::MIN, i64::MAX] {
        let answer = broker.call(popped[0].change(time)).await;
        assert_eq!(answer.response_code(), ResponseCode::INVALID_PARAMETER);
    }
    assert_eq!(
        broker.committed(TOPIC).await,
        Some(0),
        "nothing was acknowledged"
    );
    broker.acked(&popped[0]).await;
    let twice = broker.ack(&popped[0]).await;
    assert_eq!(twice.response_code(), ResponseCode::SUCCESS);
    assert!(twice.remark.is_some());
}
