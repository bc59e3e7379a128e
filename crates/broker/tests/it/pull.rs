//! Pulls that are answered at once.

use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::frame::Codec;
use protocol::headers::{
    PullMessageResponse, QueryConsumerOffsetRequest, QueryConsumerOffsetResponse,
};
use protocol::sysflag;

use crate::harness::*;

fn pull_with(change: impl FnOnce(&mut protocol::headers::PullMessageRequest)) -> Command {
    let mut header = pull_header("Topic", 0, 0);
    change(&mut header);
    Command::request(RequestCode::PULL_MESSAGE, &header)
}

#[tokio::test]
async fn messages_come_in_order_and_in_bounded_portions() {
    let broker = TestBroker::start_async_flush().await;
    for number in 0..100 {
        broker
            .sent("Topic", number.to_string().as_bytes(), "")
            .await;
    }
    for codec in [Codec::Json, Codec::Rocketmq] {
        let mut next = 0;
        let mut seen = Vec::new();
        while next < 100 {
            let answer = broker.call(with_codec(pull("Topic", 0, next), codec)).await;
            assert_eq!(
                (answer.response_code(), answer.codec),
                (ResponseCode::SUCCESS, codec)
            );
            assert_eq!(answer.remark.as_deref(), Some("FOUND"));
            let header: PullMessageResponse = answer.header().unwrap();
            assert_eq!(
                (
                    header.min_offset,
                    header.max_offset,
                    header.suggest_which_broker_id
                ),
                (0, 100, 0)
            );
            assert_eq!(
                (header.topic_sys_flag, header.group_sys_flag),
                (Some(0), Some(0))
            );
            let messages = messages(&answer.body);
            assert!(messages.len() <= 32);
            assert_eq!(header.next_begin_offset, next + messages.len() as i64);
            next = header.next_begin_offset;
            seen.extend(messages);
        }
        let bodies: Vec<_> = seen
            .iter()
            .map(|message| String::from_utf8_lossy(&message.body).into_owned())
            .collect();
        assert_eq!(
            bodies,
            (0..100)
                .map(|number| number.to_string())
                .collect::<Vec<_>>()
        );
    }
}

#[tokio::test]
async fn a_lite_pull_is_a_pull_unless_it_is_switched_off() {
    let broker = TestBroker::start().await;
    broker.sent("Topic", b"x", "").await;
    let lite = Command::request(RequestCode::LITE_PULL_MESSAGE, &pull_header("Topic", 0, 0));
    assert_eq!(
        broker.call(lite.clone()).await.response_code(),
        ResponseCode::SUCCESS
    );
    let without = TestBroker::start_with(|keys| keys.lite_pull_message_enable = false).await;
    assert_eq!(
        without.call(lite).await.response_code(),
        ResponseCode::NO_PERMISSION
    );
}

#[tokio::test]
async fn only_wanted_tags_are_handed_out() {
    let broker = TestBroker::start_async_flush().await;
    for number in 0..30 {
        let tag = ["a", "b", "c"][number % 3];
        broker
            .sent("Topic", tag.as_bytes(), &props(&[("TAGS", tag)]))
            .await;
    }
    let answer = broker
        .call(pull_with(|pull| {
            pull.subscription = Some("a || c".to_owned())
        }))
        .await;
    let bodies: Vec<_> = messages(&answer.body)
        .into_iter()
        .map(|message| message.body)
        .collect();
    assert_eq!(bodies.len(), 20);
    assert!(bodies.iter().all(|body| body == b"a" || body == b"c"));
    let none = broker
        .call(pull_with(|pull| {
            pull.subscription = Some("nothing".to_owned())
        }))
        .await;
    assert_eq!(none.response_code(), ResponseCode::PULL_RETRY_IMMEDIATELY);
    assert_eq!(none.remark.as_deref(), Some("NO_MATCHED_MESSAGE"));
    assert_eq!(
        none.header::<PullMessageResponse>()
            .unwrap()
            .next_begin_offset,
        30
    );
}

#[tokio::test]
async fn offsets_outside_the_queue_are_answered_as_java_does() {
    let broker = TestBroker::start().await;
    for _ in 0..3 {
        broker.sent("Topic", b"x", "").await;
    }
    for (offset, code, remark, next) in [
        (3, ResponseCode::PULL_NOT_FOUND, "OFFSET_OVERFLOW_ONE", 3),
        (
            4,
            ResponseCode::PULL_OFFSET_MOVED,
            "OFFSET_OVERFLOW_BADLY",
            3,
        ),
        (-1, ResponseCode::PULL_OFFSET_MOVED, "OFFSET_TOO_SMALL", 0),
    ] {
        let (answer, header, _) = broker.pulled("Topic", offset).await;
        assert_eq!(
            (answer.response_code(), answer.remark.as_deref()),
            (code, Some(remark)),
            "at {offset}"
        );
        assert_eq!(header.next_begin_offset, next, "at {offset}");
    }
    let empty = broker.call(pull_with(|pull| pull.queue_id = 1)).await;
    assert_eq!(
        (empty.response_code(), empty.remark.as_deref()),
        (ResponseCode::PULL_NOT_FOUND, Some("NO_MESSAGE_IN_QUEUE"))
    );
    let moved = broker
        .call(pull_with(|pull| {
            (pull.queue_id, pull.queue_offset) = (1, 5)
        }))
        .await;
    assert_eq!(moved.response_code(), ResponseCode::PULL_OFFSET_MOVED);
    assert_eq!(
        moved
            .header::<PullMessageResponse>()
            .unwrap()
            .next_begin_offset,
        0
    );
}

#[tokio::test]
async fn pulls_that_may_not_be_served_are_refused() {
    let broker = TestBroker::start().await;
    broker.sent("Topic", b"x", "").await;
    let cases = [
        (
            pull_with(|pull| pull.topic = "Nowhere".to_owned()),
            ResponseCode::TOPIC_NOT_EXIST,
        ),
        (
            pull_with(|pull| pull.queue_id = 4),
            ResponseCode::INVALID_PARAMETER,
        ),
        (
            pull_with(|pull| pull.queue_id = -1),
            ResponseCode::INVALID_PARAMETER,
        ),
        (
            pull_with(|pull| pull.sys_flag = 0),
            ResponseCode::SUBSCRIPTION_NOT_EXIST,
        ),
        (
            pull_with(|pull| pull.subscription = Some("||".to_owned())),
            ResponseCode::SUBSCRIPTION_PARSE_FAILED,
        ),
        (
            pull_with(|pull| pull.expression_type = Some("SQL92".to_owned())),
            ResponseCode::SUBSCRIPTION_PARSE_FAILED,
        ),
    ];
    for (command, code) in cases {
        let answer = broker.call(command).await;
        assert_eq!(answer.response_code(), code, "{:?}", answer.remark);
        assert!(answer.remark.is_some());
    }
    let closed = TestBroker::start_with(|keys| keys.broker_permission = 2).await;
    let answer = closed.call(pull("Topic", 0, 0)).await;
    assert_eq!(answer.response_code(), ResponseCode::NO_PERMISSION);
    assert_eq!(answer.fields.get("forbiddenType"), Some("1"));
    let strict = TestBroker::start_with(|keys| keys.auto_create_subscription_group = false).await;
    assert_eq!(
        strict.call(pull("Topic", 0, 0)).await.response_code(),
        ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST
    );
}

#[tokio::test]
async fn a_pull_commits_the_offset_that_it_carries() {
    let broker = TestBroker::start().await;
    for _ in 0..3 {
        broker.sent("Topic", b"x", "").await;
    }
    let commit = pull_with(|pull| {
        pull.sys_flag |= sysflag::PULL_COMMIT_OFFSET;
        (pull.queue_offset, pull.commit_offset) = (2, 2);
    });
    broker.call(commit).await;
    let query = QueryConsumerOffsetRequest {
        consumer_group: "consumers".to_owned(),
        topic: "Topic".to_owned(),
        queue_id: 0,
        ..Default::default()
    };
    let answer = broker
        .call(Command::request(RequestCode::QUERY_CONSUMER_OFFSET, &query))
        .await;
    assert_eq!(
        answer.response_code(),
        ResponseCode::SUCCESS,
        "{:?}",
        answer.remark
    );
    assert_eq!(
        answer
            .header::<QueryConsumerOffsetResponse>()
            .unwrap()
            .offset,
        2
    );
}

#[tokio::test]
async fn many_pulls_at_once_do_not_pile_up_answers() {
    let broker = TestBroker::start_async_flush().await;
    for _ in 0..4 {
        broker.sent("Topic", &vec![1; 200_000], "").await;
    }
    let mut answers = tokio::task::JoinSet::new();
    let addr = broker.addr().to_string();
    for _ in 0..200 {
        let (client, addr) = (broker.client.clone(), addr.clone());
        answers.spawn(async move {
            client
                .call(&addr, pull("Topic", 0, 0), TIMEOUT)
                .await
                .unwrap()
        });
    }
    while let Some(answer) = answers.join_next().await {
        let answer = answer.unwrap();
        let header: PullMessageResponse = answer.header().unwrap();
        match answer.response_code() {
            ResponseCode::SUCCESS => assert!(header.next_begin_offset > 0),
            code => assert_eq!(
                (code, header.next_begin_offset),
                (ResponseCode::PULL_RETRY_IMMEDIATELY, 0)
            ),
        }
    }
}

#[tokio::test]
async fn a_broadcasting_client_that_leaves_its_proxy_goes_on_where_it_was() {
    let broker = TestBroker::start().await;
    for _ in 0..4 {
        broker.sent("t", b"body", "").await;
    }
    let pull = async |offset: i64, client: &str, source: i32| {
        let mut header = pull_header("t", 0, offset);
        header.request_source = Some(source);
        header.proxy_forward_client_id = Some(client.to_owned());
        let answer = broker
            .call(Command::request(RequestCode::PULL_MESSAGE, &header))
            .await;
        let fields: PullMessageResponse = answer.header().unwrap();
        (answer.response_code(), fields.next_begin_offset)
    };
    let moved = ResponseCode::PULL_OFFSET_MOVED;
    assert_eq!(pull(-1, "one", 1).await, (moved, 0), "the topic is new");
    assert_eq!(pull(3, "one", 1).await.0, ResponseCode::SUCCESS);
    assert_eq!(pull(-1, "one", 1).await, (moved, 3));
    assert_eq!(pull(-1, "two", 1).await, (moved, 0));
    assert_eq!(
        pull(0, "one", 0).await.0,
        ResponseCode::SUCCESS,
        "no broadcasting pull"
    );
}
