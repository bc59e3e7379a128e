//! How far groups have come, and where queues begin and end.

use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{
    BoundaryType, GetEarliestMsgStoretimeRequest, GetEarliestMsgStoretimeResponse,
    GetMaxOffsetRequest, GetMaxOffsetResponse, GetMinOffsetRequest, GetMinOffsetResponse,
    QueryConsumerOffsetRequest, QueryConsumerOffsetResponse, ResetOffsetRequest,
    SearchOffsetRequest, SearchOffsetResponse, UpdateConsumerOffsetRequest,
};
use protocol::json;

use crate::harness::{TestBroker, pull};

async fn commit(
    broker: &TestBroker,
    group: &str,
    topic: &str,
    queue_id: i32,
    offset: i64,
) -> ResponseCode {
    let header = UpdateConsumerOffsetRequest {
        consumer_group: group.to_owned(),
        topic: topic.to_owned(),
        queue_id,
        commit_offset: offset,
    };
    broker
        .call(Command::request(
            RequestCode::UPDATE_CONSUMER_OFFSET,
            &header,
        ))
        .await
        .response_code()
}

async fn query(
    broker: &TestBroker,
    group: &str,
    topic: &str,
    zero: Option<bool>,
) -> Result<i64, i32> {
    let header = QueryConsumerOffsetRequest {
        consumer_group: group.to_owned(),
        topic: topic.to_owned(),
        queue_id: 0,
        set_zero_if_not_found: zero,
    };
    let answer = broker
        .call(Command::request(
            RequestCode::QUERY_CONSUMER_OFFSET,
            &header,
        ))
        .await;
    match answer.response_code() {
        ResponseCode::SUCCESS => Ok(answer
            .header::<QueryConsumerOffsetResponse>()
            .unwrap()
            .offset),
        ResponseCode(code) => Err(code),
    }
}

/// A topic with `count` messages in queue 0, and the group that the harness pulls with.
async fn with_messages(count: usize) -> TestBroker {
    let broker = TestBroker::start().await;
    for _ in 0..count {
        broker.sent("t", b"body", "").await;
    }
    broker.call(pull("t", 0, 0)).await;
    broker
}

#[tokio::test]
async fn committed_offsets_are_found_also_after_a_restart() {
    let broker = with_messages(3).await;
    assert_eq!(
        commit(&broker, "consumers", "t", 0, 2).await,
        ResponseCode::SUCCESS
    );
    assert_eq!(query(&broker, "consumers", "t", None).await, Ok(2));
    let broker = broker.restart().await;
    assert_eq!(query(&broker, "consumers", "t", None).await, Ok(2));
    assert_eq!(
        commit(&broker, "consumers", "t", 0, 1).await,
        ResponseCode::SUCCESS,
        "going back is allowed"
    );
    assert_eq!(query(&broker, "consumers", "t", None).await, Ok(1));
}

#[tokio::test]
async fn an_offset_ahead_of_its_queue_goes_back_when_the_broker_starts() {
    let broker = with_messages(3).await;
    assert_eq!(
        commit(&broker, "consumers", "t", 0, 99).await,
        ResponseCode::SUCCESS
    );
    let broker = broker.restart().await;
    assert_eq!(query(&broker, "consumers", "t", None).await, Ok(3));
}

#[tokio::test]
async fn a_group_that_has_never_said_starts_at_the_first_message_of_a_young_topic() {
    let broker = with_messages(1).await;
    assert_eq!(query(&broker, "new", "t", None).await, Ok(0));
    assert_eq!(query(&broker, "new", "t", Some(true)).await, Ok(0));
    assert_eq!(query(&broker, "new", "t", Some(false)).await, Err(22));
    assert_eq!(query(&broker, "new", "unknown", None).await, Err(22));
}

#[tokio::test]
async fn commits_for_what_does_not_exist_are_refused() {
    let broker = with_messages(1).await;
    assert_eq!(
        commit(&broker, "nobody", "t", 0, 1).await,
        ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST
    );
    assert_eq!(
        commit(&broker, "consumers", "u", 0, 1).await,
        ResponseCode::TOPIC_NOT_EXIST
    );
    assert_eq!(
        commit(&broker, "consumers", "t", -1, 1).await,
        ResponseCode::INVALID_PARAMETER
    );
}

#[tokio::test]
async fn queues_tell_their_ends_and_times() {
    let broker = with_messages(3).await;
    let topic = || "t".to_owned();
    let answer = broker
        .call(Command::request(
            RequestCode::GET_MAX_OFFSET,
            &GetMaxOffsetRequest {
                topic: topic(),
                queue_id: 0,
                committed: true,
            },
        ))
        .await;
    assert_eq!(answer.header::<GetMaxOffsetResponse>().unwrap().offset, 3);
    let header = GetMinOffsetRequest {
        topic: topic(),
        queue_id: 0,
    };
    let answer = broker
        .call(Command::request(RequestCode::GET_MIN_OFFSET, &header))
        .await;
    assert_eq!(answer.header::<GetMinOffsetResponse>().unwrap().offset, 0);
    let header = GetEarliestMsgStoretimeRequest {
        topic: topic(),
        queue_id: 0,
    };
    let answer = broker
        .call(Command::request(
            RequestCode::GET_EARLIEST_MSG_STORETIME,
            &header,
        ))
        .await;
    let earliest = answer
        .header::<GetEarliestMsgStoretimeResponse>()
        .unwrap()
        .timestamp_ms;
    assert!(earliest > 1_700_000_000_000, "{earliest}");
    for (timestamp_ms, boundary_type, want) in [
        (0, BoundaryType::Lower, 0),
        (earliest, BoundaryType::Lower, 0),
        (i64::MAX / 2, BoundaryType::Lower, 3),
        (i64::MAX / 2, BoundaryType::Upper, 2),
    ] {
        let header = SearchOffsetRequest {
            topic: topic(),
            queue_id: 0,
            timestamp_ms,
            boundary_type,
        };
        let answer = broker
            .call(Command::request(
                RequestCode::SEARCH_OFFSET_BY_TIMESTAMP,
                &header,
            ))
            .await;
        let offset = answer.header::<SearchOffsetResponse>().unwrap().offset;
        assert_eq!(offset, want, "{timestamp_ms} {boundary_type:?}");
    }
    let header = GetEarliestMsgStoretimeRequest {
        topic: "unknown".to_owned(),
        queue_id: 0,
    };
    let answer = broker
        .call(Command::request(
            RequestCode::GET_EARLIEST_MSG_STORETIME,
            &header,
        ))
        .await;
    assert_eq!(
        answer
            .header::<GetEarliestMsgStoretimeResponse>()
            .unwrap()
            .timestamp_ms,
        -1
    );
}

#[tokio::test]
async fn a_reset_reaches_the_consumer_with_its_next_pull() {
    let broker = with_messages(5).await;
    commit(&broker, "consumers", "t", 0, 4).await;
    let header = ResetOffsetRequest {
        group: "consumers".to_owned(),
        topic: "t".to_owned(),
        queue_id: 0,
        offset: Some(1),
        timestamp_ms: 0,
        force: true,
    };
    let answer = broker
        .call(Command::request(
            RequestCode::INVOKE_BROKER_TO_RESET_OFFSET,
            &header,
        ))
        .await;
    assert_eq!(
        answer.response_code(),
        ResponseCode::SUCCESS,
        "{:?}",
        answer.remark
    );
    let body: protocol::body::ResetOffsetBody = json::decode(&answer.body).unwrap();
    assert_eq!(body.offset_table.values().copied().collect::<Vec<_>>(), [1]);
    // What the consumer commits before it has heard of the reset is where it was.
    commit(&broker, "consumers", "t", 0, 5).await;
    assert_eq!(query(&broker, "consumers", "t", None).await, Ok(1));
    let (answer, header, _) = broker.pulled("t", 4).await;
    assert_eq!(
        (answer.response_code(), header.next_begin_offset),
        (ResponseCode::PULL_OFFSET_MOVED, 1)
    );
    let (answer, _, messages) = broker.pulled("t", 1).await;
    assert_eq!(
        (answer.response_code(), messages.len()),
        (ResponseCode::SUCCESS, 4)
    );
    let header = ResetOffsetRequest {
        offset: Some(9),
        group: "consumers".to_owned(),
        topic: "t".to_owned(),
        ..header_of_queue(0)
    };
    let answer = broker
        .call(Command::request(
            RequestCode::INVOKE_BROKER_TO_RESET_OFFSET,
            &header,
        ))
        .await;
    assert_eq!(
        answer.remark.as_deref(),
        Some("Target offset 9 not in consume queue range [0-5]")
    );
}

fn header_of_queue(queue_id: i32) -> ResetOffsetRequest {
    ResetOffsetRequest {
        group: String::new(),
        topic: String::new(),
        queue_id,
        offset: None,
        timestamp_ms: 0,
        force: true,
    }
}
