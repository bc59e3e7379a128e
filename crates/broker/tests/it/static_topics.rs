//! Static topics: clients name queues by global numbers, of which this broker has some.

use std::collections::BTreeMap;

use protocol::body::{LogicQueueMappingItem, TopicConfigAndQueueMapping, TopicQueueMappingDetail};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{
    CreateTopicRequest, DeleteTopicRequest, GetMaxOffsetRequest, GetMaxOffsetResponse,
    GetTopicConfigRequest, QueryConsumerOffsetRequest, QueryConsumerOffsetResponse,
    SendMessageResponse, UpdateConsumerOffsetRequest,
};
use protocol::json;

use crate::harness::{TestBroker, messages, pull, send_v2};

const TOPIC: &str = "Static";

/// Queues 3 and 7 of ten lie here, as 0 and 1.
fn mapping(broker: &TestBroker) -> TopicQueueMappingDetail {
    let name = broker.running.broker().identity().name.to_string();
    let items = [(3, 0), (7, 1)].map(|(global, queue_id)| {
        let item = LogicQueueMappingItem {
            broker_name: name.clone(),
            queue_id,
            ..LogicQueueMappingItem::default()
        };
        (global, vec![item])
    });
    TopicQueueMappingDetail {
        broker_name: name,
        topic: TOPIC.to_owned(),
        total_queues: 10,
        epoch: 5,
        hosted_queues: BTreeMap::from(items),
        ..TopicQueueMappingDetail::default()
    }
}

async fn create(broker: &TestBroker, mapping: &TopicQueueMappingDetail) -> Command {
    let header = CreateTopicRequest {
        topic: TOPIC.to_owned(),
        default_topic: "TBW102".to_owned(),
        read_queue_nums: 2,
        write_queue_nums: 2,
        perm: 6,
        topic_filter_type: "SINGLE_TAG".to_owned(),
        ..CreateTopicRequest::default()
    };
    let code = RequestCode::UPDATE_AND_CREATE_STATIC_TOPIC;
    let command = Command::request(code, &header).with_body(json::encode(mapping));
    broker.call(command).await
}

async fn start() -> TestBroker {
    let broker = TestBroker::start().await;
    let created = create(&broker, &mapping(&broker)).await;
    assert_eq!(
        created.response_code(),
        ResponseCode::SUCCESS,
        "{created:?}"
    );
    broker
}

async fn max_offset(broker: &TestBroker, queue_id: i32) -> i64 {
    let header = GetMaxOffsetRequest {
        topic: TOPIC.to_owned(),
        queue_id,
        ..GetMaxOffsetRequest::default()
    };
    let command = Command::request(RequestCode::GET_MAX_OFFSET, &header);
    let answer: GetMaxOffsetResponse = broker.call(command).await.header().unwrap();
    answer.offset
}

#[tokio::test]
async fn queues_are_written_and_read_by_their_global_numbers() {
    let mut broker = start().await;
    for number in 0..2 {
        let answer = broker.call(send_v2(TOPIC, 7, b"x", "")).await;
        let sent: SendMessageResponse = answer.header().unwrap();
        assert_eq!((sent.queue_id, sent.queue_offset), (7, number));
    }
    for _ in 0..2 {
        let answer = broker.call(pull(TOPIC, 7, 0)).await;
        assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
        assert_eq!(messages(&answer.body).len(), 2);
        assert_eq!(
            (max_offset(&broker, 7).await, max_offset(&broker, 3).await),
            (2, 0)
        );
        for command in [pull(TOPIC, 1, 0), send_v2(TOPIC, 0, b"x", "")] {
            let answer = broker.call(command).await;
            let code = answer.response_code();
            assert_eq!(code, ResponseCode::NOT_LEADER_FOR_QUEUE, "{answer:?}");
        }
        let header = GetTopicConfigRequest {
            topic: TOPIC.to_owned(),
            ..GetTopicConfigRequest::default()
        };
        let command = Command::request(RequestCode::GET_TOPIC_CONFIG, &header);
        let shown: TopicConfigAndQueueMapping =
            json::decode(&broker.call(command).await.body).unwrap();
        let detail = shown.mapping_detail.unwrap();
        assert_eq!(detail.hosted_queues, mapping(&broker).hosted_queues);
        broker = broker.restart().await;
    }
    let header = DeleteTopicRequest {
        topic: TOPIC.to_owned(),
    };
    let command = Command::request(RequestCode::DELETE_TOPIC_IN_BROKER, &header);
    assert_eq!(
        broker.call(command).await.response_code(),
        ResponseCode::SUCCESS
    );
    let answer = broker.call(pull(TOPIC, 1, 0)).await;
    assert_eq!(answer.response_code(), ResponseCode::TOPIC_NOT_EXIST);
}

#[tokio::test]
async fn groups_commit_by_global_numbers() {
    let broker = start().await;
    broker.call(send_v2(TOPIC, 3, b"x", "")).await;
    broker.call(pull(TOPIC, 3, 0)).await;
    let group = "groups".to_owned();
    let header = UpdateConsumerOffsetRequest {
        consumer_group: group.clone(),
        topic: TOPIC.to_owned(),
        queue_id: 3,
        commit_offset: 1,
        ..UpdateConsumerOffsetRequest::default()
    };
    // The group exists once it was heard of.
    let config = Command::request(RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &())
        .with_body(br#"{"groupName":"groups"}"#.as_slice());
    assert_eq!(
        broker.call(config).await.response_code(),
        ResponseCode::SUCCESS
    );
    let committed = broker
        .call(Command::request(
            RequestCode::UPDATE_CONSUMER_OFFSET,
            &header,
        ))
        .await;
    assert_eq!(
        committed.response_code(),
        ResponseCode::SUCCESS,
        "{committed:?}"
    );
    let header = QueryConsumerOffsetRequest {
        consumer_group: group,
        topic: TOPIC.to_owned(),
        queue_id: 3,
        ..QueryConsumerOffsetRequest::default()
    };
    let command = Command::request(RequestCode::QUERY_CONSUMER_OFFSET, &header);
    let found: QueryConsumerOffsetResponse = broker.call(command).await.header().unwrap();
    assert_eq!(found.offset, 1);
}

#[tokio::test]
async fn a_mapping_that_moves_queues_between_brokers_is_refused_with_a_reason() {
    let broker = start().await;
    let mut moved = mapping(&broker);
    moved.epoch += 1;
    let items = moved.hosted_queues.get_mut(&3).unwrap();
    items[0].logic_offset = 100;
    let refused = create(&broker, &moved).await;
    assert_eq!(refused.response_code(), ResponseCode::SYSTEM_ERROR);
    let remark = refused.remark.unwrap_or_default();
    assert!(remark.contains("moved between brokers"), "{remark}");
    let answer = broker.call(send_v2(TOPIC, 3, b"x", "")).await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
}
