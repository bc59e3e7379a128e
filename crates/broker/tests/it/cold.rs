//! Groups that read much that is not in memory.

use std::sync::Arc;

use platform::disk::SimulatedDisk;
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;

use crate::harness::{TestBroker, messages, pull_header};
use crate::member::Member;

/// Ten messages that are not in memory; groups may read little of that.
async fn broker() -> TestBroker {
    let disk = SimulatedDisk::new();
    let broker = TestBroker::start_on(Arc::new(disk.clone()), |keys| {
        keys.mapped_file_size_commit_log = 1 << 20;
        keys.cold_data_flow_control_enable = true;
        keys.cg_cold_read_threshold = 1;
    })
    .await;
    for _ in 0..10 {
        broker.sent("t", &[7; 100], "").await;
    }
    let broker = broker.restart().await;
    disk.set_faults(|faults| faults.reads_are_cold = true);
    broker
}

fn pull(group: &str) -> Command {
    let mut header = pull_header("t", 0, 0);
    header.consumer_group = group.to_owned();
    Command::request(RequestCode::PULL_MESSAGE, &header)
}

/// The count begins anew every five seconds, which may be just behind a read: one of several pulls is refused.
async fn refused(member: &Member) -> Command {
    for _ in 0..100 {
        let answer = member.call(pull("g")).await;
        if answer.response_code() == ResponseCode::SYSTEM_BUSY {
            return answer;
        }
        assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    }
    panic!("a hundred cold reads in a row were served");
}

async fn info(broker: &TestBroker) -> serde_json::Value {
    let code = RequestCode::GET_COLD_DATA_FLOW_CTR_INFO;
    let answer = broker.call(Command::request(code, &())).await;
    serde_json::from_slice(&answer.body).unwrap()
}

async fn configure(broker: &TestBroker, code: RequestCode, text: &str) -> Command {
    let body = text.as_bytes().to_vec();
    broker
        .call(Command::request(code, &()).with_body(body))
        .await
}

#[tokio::test]
async fn a_consumer_that_is_called_is_refused_once_its_group_read_too_much() {
    let broker = broker().await;
    let member = Member::join(&broker, "one", "g").await;
    let first = member.call(pull("g")).await;
    assert_eq!(
        first.response_code(),
        ResponseCode::SUCCESS,
        "{:?}",
        first.remark
    );
    let second = refused(&member).await;
    assert_eq!(
        second.remark.as_deref(),
        Some("This consumer group is reading cold data. It has been flow control")
    );
    assert!(info(&broker).await["runtimeTable"]["g"]["coldAcc"].is_i64());
    // Others are not concerned, and an operator may allow more.
    let other = Member::join(&broker, "two", "h").await;
    assert_eq!(
        other.call(pull("h")).await.response_code(),
        ResponseCode::SUCCESS
    );
    let update = RequestCode::UPDATE_COLD_DATA_FLOW_CTR_CONFIG;
    configure(&broker, update, "g=1000000\n").await;
    assert_eq!(
        member.call(pull("g")).await.response_code(),
        ResponseCode::SUCCESS
    );
    configure(&broker, RequestCode::REMOVE_COLD_DATA_FLOW_CTR_CONFIG, "g").await;
    refused(&member).await;
}

#[tokio::test]
async fn a_consumer_that_pulls_on_its_own_waits_and_gets_one_message() {
    let broker = broker().await;
    let group = "consumers";
    let first = broker.call(pull(group)).await;
    let whole = messages(&first.body).len();
    assert!(whole > 1);
    // The count begins anew every five seconds: one of several falls within a span that has a read.
    loop {
        let answer = broker.call(pull(group)).await;
        assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
        if messages(&answer.body).len() == 1 {
            break;
        }
    }
}

#[tokio::test]
async fn thresholds_that_are_no_numbers_change_nothing() {
    let broker = broker().await;
    let update = RequestCode::UPDATE_COLD_DATA_FLOW_CTR_CONFIG;
    for text in ["g=5\nh=much\n", "g=\n", "g=99999999999999999999\n"] {
        let answer = configure(&broker, update, text).await;
        assert_eq!(
            answer.response_code(),
            ResponseCode::SYSTEM_ERROR,
            "{text:?}"
        );
    }
    let answer = broker
        .call(Command::request(update, &()).with_body(vec![0xFF, 0xFE]))
        .await;
    assert_eq!(answer.remark.as_deref(), Some("the body is not UTF-8"));
    assert_eq!(info(&broker).await["configTable"], serde_json::json!({}));
    assert_eq!(
        configure(&broker, update, "").await.response_code(),
        ResponseCode::SUCCESS
    );
}

#[tokio::test]
async fn the_kernel_is_told_how_to_read() {
    let broker = broker().await;
    let mode = async |mode: Option<&str>| {
        let mut request = Command::request(RequestCode::SET_COMMITLOG_READ_MODE, &());
        if let Some(mode) = mode {
            request.fields.insert("READ_AHEAD_MODE", mode.to_owned());
        }
        let answer = broker.call(request).await;
        (answer.code, answer.remark.unwrap_or_default())
    };
    assert_eq!(
        mode(Some("1")).await,
        (
            0,
            "set commitlog readahead mode success, mode: 1".to_owned()
        )
    );
    assert!(!broker.running.broker().keys().data_read_ahead_enable);
    assert_eq!(mode(Some("0")).await.0, 0);
    assert!(broker.running.broker().keys().data_read_ahead_enable);
    assert_eq!(mode(Some("2")).await.0, ResponseCode::INVALID_PARAMETER.0);
    for nonsense in [None, Some(""), Some("x"), Some("99999999999")] {
        assert_eq!(mode(nonsense).await.0, 1, "{nonsense:?}");
    }
}
