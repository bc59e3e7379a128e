//! Figures and settings as mqadmin reads them.

use protocol::body::{ConsumeStats, GroupList, KvTable, TopicStatsTable};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{
    GetConsumeStatsRequest, GetTopicStatsInfoRequest, QueryTopicConsumeByWhoRequest,
    UpdateConsumerOffsetRequest,
};
use protocol::json;

use crate::harness::{TestBroker, pull};

#[tokio::test]
async fn a_topics_figures_name_every_queue() {
    let broker = TestBroker::start().await;
    for _ in 0..3 {
        broker.sent("t", b"body", "").await;
    }
    let header = GetTopicStatsInfoRequest {
        topic: "t".to_owned(),
    };
    let answer = broker
        .call(Command::request(RequestCode::GET_TOPIC_STATS_INFO, &header))
        .await;
    let body: TopicStatsTable = json::decode(&answer.body).unwrap();
    let queues: Vec<_> = body
        .offset_table
        .iter()
        .map(|(queue, offsets)| (queue.queue_id, offsets.max_offset))
        .collect();
    assert_eq!(queues, [(0, 3), (1, 0), (2, 0), (3, 0)]);
    assert!(
        body.offset_table
            .values()
            .all(|offsets| (offsets.last_update_timestamp > 0) == (offsets.max_offset > 0))
    );
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(
        text.contains(r#"{{"brokerName":"broker-a","queueId":0,"topic":"t"}:{"#),
        "{text}"
    );
    let header = GetTopicStatsInfoRequest {
        topic: "unknown".to_owned(),
    };
    let answer = broker
        .call(Command::request(RequestCode::GET_TOPIC_STATS_INFO, &header))
        .await;
    assert_eq!(answer.response_code(), ResponseCode::TOPIC_NOT_EXIST);
}

#[tokio::test]
async fn a_groups_progress_is_told_against_the_queues() {
    let broker = TestBroker::start().await;
    for _ in 0..3 {
        broker.sent("t", b"body", "").await;
    }
    broker.call(pull("t", 0, 0)).await;
    let header = UpdateConsumerOffsetRequest {
        consumer_group: "consumers".to_owned(),
        topic: "t".to_owned(),
        queue_id: 0,
        commit_offset: 2,
    };
    broker
        .call(Command::request(
            RequestCode::UPDATE_CONSUMER_OFFSET,
            &header,
        ))
        .await;
    let header = GetConsumeStatsRequest {
        consumer_group: "consumers".to_owned(),
        topic: None,
        topic_list: None,
    };
    let answer = broker
        .call(Command::request(RequestCode::GET_CONSUME_STATS, &header))
        .await;
    let body: ConsumeStats = json::decode(&answer.body).unwrap();
    assert_eq!(body.offset_table.len(), 4);
    let first = body.offset_table.values().next().unwrap();
    assert_eq!((first.broker_offset, first.consumer_offset), (3, 2));
    assert!(first.last_timestamp > 0);
    let header = QueryTopicConsumeByWhoRequest {
        topic: "t".to_owned(),
    };
    let answer = broker
        .call(Command::request(
            RequestCode::QUERY_TOPIC_CONSUME_BY_WHO,
            &header,
        ))
        .await;
    let body: GroupList = json::decode(&answer.body).unwrap();
    assert_eq!(
        body.group_list.into_iter().collect::<Vec<_>>(),
        ["consumers"]
    );
}

#[tokio::test]
async fn runtime_information_has_the_keys_that_tools_read() {
    let broker = TestBroker::start().await;
    broker.sent("t", b"body", "").await;
    let answer = broker
        .call(Command::request(RequestCode::GET_BROKER_RUNTIME_INFO, &()))
        .await;
    let table = json::decode::<KvTable>(&answer.body).unwrap().table;
    // What `clusterList` parses as numbers, and what it splits.
    for key in [
        "msgPutTotalYesterdayMorning",
        "msgPutTotalTodayMorning",
        "msgPutTotalTodayNow",
        "msgGetTotalYesterdayMorning",
        "msgGetTotalTodayMorning",
        "msgGetTotalTodayNow",
        "timerReadBehind",
        "timerOffsetBehind",
        "timerCongestNum",
        "timerEnqueueTps",
        "timerDequeueTps",
        "sendThreadPoolQueueSize",
        "pullThreadPoolQueueSize",
        "ackThreadPoolQueueSize",
        "sendThreadPoolQueueHeadWaitTimeMills",
        "pageCacheLockTimeMills",
        "earliestMessageTimeStamp",
        "commitLogDiskRatio",
    ] {
        assert!(
            table[key].parse::<f64>().is_ok(),
            "{key} {:?}",
            table.get(key)
        );
    }
    assert_eq!(table["putTps"].split(' ').count(), 3);
    assert_eq!(table["msgPutTotalTodayNow"], "1");
    assert_eq!(table["brokerVersionDesc"], "V5_3_3");
}

#[tokio::test]
async fn settings_are_shown_and_changed() {
    let broker = TestBroker::start().await;
    let update = |text: &str| {
        Command::request(RequestCode::UPDATE_BROKER_CONFIG, &()).with_body(text.as_bytes().to_vec())
    };
    assert_eq!(
        broker
            .call(update("autoCreateTopicEnable=false\n"))
            .await
            .response_code(),
        ResponseCode::SUCCESS
    );
    let answer = broker
        .call(Command::request(RequestCode::GET_BROKER_CONFIG, &()))
        .await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(
        text.contains("autoCreateTopicEnable=false\n") && text.contains("brokerName=broker-a\n"),
        "{text}"
    );
    assert!(
        answer
            .fields
            .get("version")
            .is_some_and(|version| version.contains("counter"))
    );
    assert_eq!(
        broker.send("t", b"body", "").await.response_code(),
        ResponseCode::TOPIC_NOT_EXIST
    );
    for (text, code, remark) in [
        (
            "rocketmqHome=/",
            ResponseCode::NO_PERMISSION,
            "Can not update config in black list.",
        ),
        (
            "autoCreateTopicEnabled=true",
            ResponseCode::SYSTEM_ERROR,
            "did you mean autoCreateTopicEnable?",
        ),
        (
            "autoCreateTopicEnable=true\nmaxMessageSize=-1",
            ResponseCode::SYSTEM_ERROR,
            "maxMessageSize must be",
        ),
    ] {
        let answer = broker.call(update(text)).await;
        assert_eq!(answer.response_code(), code);
        let told = answer.remark.unwrap_or_default();
        assert!(told.contains(remark), "{told}");
    }
    assert_eq!(
        broker.send("t", b"body", "").await.response_code(),
        ResponseCode::TOPIC_NOT_EXIST,
        "nothing was changed"
    );
}
