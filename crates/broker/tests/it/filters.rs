//! Consumers that select by SQL92 expressions.

use std::time::Duration;

use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{PullMessageRequest, PullMessageResponse};
use protocol::sysflag;

use crate::harness::*;

const TOPIC: &str = "Topic";

fn selecting(
    expression: &str,
    offset: i64,
    change: impl FnOnce(&mut PullMessageRequest),
) -> Command {
    let mut header = pull_header(TOPIC, 0, offset);
    header.subscription = Some(expression.to_owned());
    header.expression_type = Some("SQL92".to_owned());
    change(&mut header);
    Command::request(RequestCode::PULL_MESSAGE, &header)
}

/// A pull whose filter the group's heartbeat brought.
fn subscribed(version: i64) -> Command {
    let mut header = pull_header(TOPIC, 0, 0);
    header.sys_flag = 0;
    header.subscription = None;
    header.sub_version = version;
    Command::request(RequestCode::PULL_MESSAGE, &header)
}

async fn fill(broker: &TestBroker, prices: std::ops::Range<i64>) {
    for price in prices {
        let price = price.to_string();
        broker
            .sent(TOPIC, price.as_bytes(), &props(&[("price", &price)]))
            .await;
    }
}

fn prices(answer: &Command) -> Vec<i64> {
    let bodies = messages(&answer.body).into_iter();
    bodies
        .map(|message| String::from_utf8(message.body).unwrap().parse().unwrap())
        .collect()
}

fn next_offset(answer: &Command) -> i64 {
    answer
        .header::<PullMessageResponse>()
        .unwrap()
        .next_begin_offset
}

/// The heartbeat of a consumer of `consumers`, with expressions by topic.
async fn heartbeat(broker: &TestBroker, version: i64, expressions: &[(&str, &str)]) -> Command {
    let subscriptions: Vec<_> = expressions
        .iter()
        .map(|(topic, expression)| {
            serde_json::json!({
                "topic": topic, "subString": expression, "expressionType": "SQL92", "subVersion": version, "tagsSet": [], "codeSet": []
            })
        })
        .collect();
    let body = serde_json::json!({
        "clientID": "one",
        "producerDataSet": [],
        "consumerDataSet": [{
            "groupName": "consumers", "consumeType": "CONSUME_PASSIVELY", "messageModel": "CLUSTERING",
            "consumeFromWhere": "CONSUME_FROM_FIRST_OFFSET", "subscriptionDataSet": subscriptions, "unitMode": false
        }]
    });
    let command = Command::request(RequestCode::HEART_BEAT, &());
    broker
        .call(command.with_body(body.to_string().into_bytes()))
        .await
}

async fn checked(broker: &TestBroker, kind: &str, expression: &str) -> Command {
    let body = serde_json::json!({
        "clientId": "one", "group": "consumers",
        "subscriptionData": {"topic": TOPIC, "subString": expression, "expressionType": kind, "subVersion": 1}
    });
    let command = Command::request(RequestCode::CHECK_CLIENT_CONFIG, &());
    broker
        .call(command.with_body(body.to_string().into_bytes()))
        .await
}

#[track_caller]
fn refused(answer: &Command, code: ResponseCode, remark: &str) {
    assert_eq!(answer.response_code(), code, "{:?}", answer.remark);
    let said = answer.remark.as_deref().unwrap_or_default();
    assert!(said.contains(remark) && said.len() < 1000, "{said}");
}

#[tokio::test]
async fn an_expression_selects_by_properties() {
    let broker = TestBroker::start_async_flush().await;
    fill(&broker, 0..100).await;
    let between = "price BETWEEN 20 AND 29 OR price = 90";
    let answer = broker.call(selecting(between, 0, |_| {})).await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    assert_eq!(
        prices(&answer),
        [20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 90]
    );
    assert_eq!(next_offset(&answer), 100);
    let few = broker
        .call(selecting(between, 0, |pull| pull.messages_max = 3))
        .await;
    assert_eq!((prices(&few), next_offset(&few)), (vec![20, 21, 22], 23));
    let few = broker
        .call(selecting(between, 23, |pull| pull.bytes_max = Some(1)))
        .await;
    assert_eq!((prices(&few), next_offset(&few)), (vec![23], 24));
    let none = broker.call(selecting("price > 1000", 10, |_| {})).await;
    refused(
        &none,
        ResponseCode::PULL_RETRY_IMMEDIATELY,
        "NO_MATCHED_MESSAGE",
    );
    assert_eq!(next_offset(&none), 100);
    let end = broker.call(selecting("price > 1000", 100, |_| {})).await;
    refused(&end, ResponseCode::PULL_NOT_FOUND, "OFFSET_OVERFLOW_ONE");
    let lite = selecting(between, 0, |pull| pull.sys_flag |= sysflag::PULL_LITE);
    let lite = Command {
        code: RequestCode::LITE_PULL_MESSAGE.0,
        ..lite
    };
    assert_eq!(prices(&broker.call(lite).await).len(), 11);
}

/// A pull that nothing matches must not keep others waiting, nor stand still.
#[tokio::test]
async fn a_pull_looks_at_a_bounded_number_of_messages_and_goes_on() {
    let broker = TestBroker::start_async_flush().await;
    let body = vec![0; 8 << 10];
    for _ in 0..100 {
        broker.sent(TOPIC, &body, &props(&[("price", "1")])).await;
    }
    fill(&broker, 0..1500).await;
    let broker = broker.restart().await;
    let (mut offset, mut calls, mut found) = (0, 0, Vec::new());
    while offset < 1600 {
        let answer = broker.call(selecting("price = 1400", offset, |_| {})).await;
        assert!(next_offset(&answer) > offset && next_offset(&answer) <= offset + 800);
        offset = next_offset(&answer);
        found.extend(prices(&answer));
        calls += 1;
    }
    assert_eq!((calls, found), (2, vec![1400]));
}

#[tokio::test]
async fn heartbeats_bring_filters() {
    let broker = TestBroker::start_async_flush().await;
    fill(&broker, 0..10).await;
    refused(
        &broker.call(subscribed(1)).await,
        ResponseCode::SUBSCRIPTION_NOT_EXIST,
        "group info",
    );
    assert_eq!(
        heartbeat(&broker, 5, &[("other", "price > 1")])
            .await
            .response_code(),
        ResponseCode::SUCCESS
    );
    refused(
        &broker.call(subscribed(5)).await,
        ResponseCode::SUBSCRIPTION_NOT_EXIST,
        "subscription not exist",
    );
    assert_eq!(
        heartbeat(&broker, 6, &[(TOPIC, "price > 7")])
            .await
            .response_code(),
        ResponseCode::SUCCESS
    );
    assert_eq!(prices(&broker.call(subscribed(6)).await), [8, 9]);
    refused(
        &broker.call(subscribed(7)).await,
        ResponseCode::SUBSCRIPTION_NOT_LATEST,
        "not latest",
    );
    assert_eq!(
        heartbeat(&broker, 7, &[(TOPIC, "price < 2")])
            .await
            .response_code(),
        ResponseCode::SUCCESS
    );
    assert_eq!(prices(&broker.call(subscribed(7)).await), [0, 1]);
}

#[tokio::test]
async fn a_bad_expression_in_a_heartbeat_is_told_and_the_others_are_taken() {
    let broker = TestBroker::start_async_flush().await;
    fill(&broker, 0..3).await;
    let answer = heartbeat(&broker, 1, &[("other", "price >> 1"), (TOPIC, "price = 2")]).await;
    refused(
        &answer,
        ResponseCode::SUBSCRIPTION_PARSE_FAILED,
        "line 1, column 8",
    );
    refused(
        &answer,
        ResponseCode::SUBSCRIPTION_PARSE_FAILED,
        "topic [other]",
    );
    assert_eq!(answer.fields.get("IS_SUPPORT_HEART_BEAT_V2"), Some("true"));
    assert_eq!(prices(&broker.call(subscribed(1)).await), [2]);
    let answer = heartbeat(&broker, 2, &[(TOPIC, "price = = 2")]).await;
    refused(
        &answer,
        ResponseCode::SUBSCRIPTION_PARSE_FAILED,
        "line 1, column 9",
    );
    refused(
        &broker.call(subscribed(2)).await,
        ResponseCode::FILTER_DATA_NOT_EXIST,
        "line 1, column 9",
    );
}

#[tokio::test]
async fn expressions_that_cannot_be_read_are_refused_with_the_place() {
    let broker = TestBroker::start_async_flush().await;
    fill(&broker, 0..3).await;
    let long = format!("price IN ('{}')", "x".repeat(1 << 20));
    let deep = format!("{}price = 1{}", "(".repeat(100), ")".repeat(100));
    let nots = "NOT ".repeat(10_000) + "price = 1";
    for (expression, remark) in [
        (&*long, "65536 are the most"),
        (
            &*deep,
            "line 1, column 65 (byte 64): the expression nests deeper than 64",
        ),
        (&*nots, "nests deeper than 64"),
        ("", "line 1, column 1"),
        ("price > 'x'", "line 1, column 9"),
        ("price = 1\nAND\0", "line 2, column 4"),
        ("цена = 1", "line 1, column 1"),
    ] {
        let code = ResponseCode::SUBSCRIPTION_PARSE_FAILED;
        refused(
            &broker.call(selecting(expression, 0, |_| {})).await,
            code,
            remark,
        );
        refused(&checked(&broker, "SQL92", expression).await, code, remark);
        refused(
            &heartbeat(&broker, 1, &[(TOPIC, expression)]).await,
            code,
            remark,
        );
    }
    let unknown = selecting("price = 1", 0, |pull| {
        pull.expression_type = Some("XPATH".to_owned())
    });
    refused(
        &broker.call(unknown).await,
        ResponseCode::SUBSCRIPTION_PARSE_FAILED,
        "[XPATH]",
    );
    refused(
        &checked(&broker, "XPATH", "a").await,
        ResponseCode::SUBSCRIPTION_PARSE_FAILED,
        "[XPATH]",
    );
    let good = checked(&broker, "SQL92", "price > 1 AND price IS NOT NULL").await;
    assert_eq!(good.response_code(), ResponseCode::SUCCESS);
    assert_eq!(
        prices(&broker.call(selecting("price = 1", 0, |_| {})).await),
        [1]
    );
}

#[tokio::test]
async fn expressions_are_refused_where_they_are_switched_off() {
    let broker = TestBroker::start_with(|keys| keys.enable_property_filter = false).await;
    fill(&broker, 0..3).await;
    let code = ResponseCode::SYSTEM_ERROR;
    refused(
        &broker.call(selecting("price = 1", 0, |_| {})).await,
        code,
        "enablePropertyFilter",
    );
    refused(
        &checked(&broker, "SQL92", "price = 1").await,
        code,
        "enablePropertyFilter",
    );
    assert_eq!(
        heartbeat(&broker, 1, &[(TOPIC, "price = 1")])
            .await
            .response_code(),
        ResponseCode::SUCCESS
    );
    refused(
        &broker.call(subscribed(1)).await,
        code,
        "enablePropertyFilter",
    );
}

#[tokio::test]
async fn a_waiting_pull_sleeps_through_messages_that_it_does_not_want() {
    let broker = TestBroker::start_async_flush().await;
    fill(&broker, 0..1).await;
    let (client, addr) = (broker.client.clone(), broker.addr().to_string());
    let pull = selecting("price = 30", 1, |pull| {
        pull.sys_flag |= sysflag::PULL_SUSPEND;
        pull.suspend_timeout_ms = 15_000;
    });
    let waiting = tokio::spawn(async move { client.call(&addr, pull, TIMEOUT).await.unwrap() });
    tokio::task::yield_now().await;
    fill(&broker, 1..30).await;
    assert!(!waiting.is_finished());
    fill(&broker, 30..31).await;
    let answer = waiting.await.unwrap();
    assert_eq!((prices(&answer), next_offset(&answer)), (vec![30], 31));
}

#[tokio::test]
async fn a_pull_that_waited_in_vain_goes_on_behind_what_it_passed_over() {
    let broker = TestBroker::start_async_flush().await;
    fill(&broker, 0..1).await;
    let (client, addr) = (broker.client.clone(), broker.addr().to_string());
    let pull = selecting("price = 1000", 1, |pull| {
        pull.sys_flag |= sysflag::PULL_SUSPEND;
        pull.suspend_timeout_ms = 600;
    });
    let waiting = tokio::spawn(async move { client.call(&addr, pull, TIMEOUT).await.unwrap() });
    tokio::task::yield_now().await;
    fill(&broker, 1..20).await;
    let answer = tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(next_offset(&answer), 20);
}

#[tokio::test]
async fn filters_outlive_a_restart() {
    let broker = TestBroker::start_async_flush().await;
    fill(&broker, 0..3).await;
    heartbeat(&broker, 1, &[(TOPIC, "price = 2")]).await;
    let broker = broker.restart().await;
    let path = format!(
        "{}/config/consumerFilter.json",
        broker.keys.store_path_root_dir
    );
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains("\"price = 2\""), "{text}");
    // The same version, with an expression that the file's takes precedence over: it is there.
    heartbeat(&broker, 1, &[(TOPIC, "price = 1")]).await;
    assert_eq!(prices(&broker.call(subscribed(1)).await), [2]);
}

#[tokio::test]
async fn a_retry_topic_is_filtered_by_what_the_group_wants_of_the_first_topic() {
    let broker = TestBroker::start_with(|keys| keys.filter_support_retry = true).await;
    let retry = "%RETRY%consumers";
    heartbeat(&broker, 1, &[(TOPIC, "price > 5"), (retry, "TRUE")]).await;
    for (price, topic) in [("1", TOPIC), ("9", TOPIC), ("1", "other")] {
        let properties = props(&[("price", price), ("RETRY_TOPIC", topic)]);
        broker
            .sent(retry, format!("{topic}{price}").as_bytes(), &properties)
            .await;
    }
    let mut header = pull_header(retry, 0, 0);
    header.sys_flag = 0;
    header.sub_version = 1;
    let answer = broker
        .call(Command::request(RequestCode::PULL_MESSAGE, &header))
        .await;
    let bodies: Vec<_> = messages(&answer.body)
        .into_iter()
        .map(|message| message.body)
        .collect();
    assert_eq!(bodies, [b"Topic9".to_vec(), b"other1".to_vec()]);
}
