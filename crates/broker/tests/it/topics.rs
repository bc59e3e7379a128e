//! Topics and groups as operators manage them.

use protocol::body::{
    SubscriptionGroupConfig, SubscriptionGroupWrapper, TopicConfig, TopicConfigSerializeWrapper,
    TopicList,
};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{
    CreateTopicRequest, DeleteSubscriptionGroupRequest, DeleteTopicRequest,
    GetSubscriptionGroupConfigRequest, GetTopicConfigRequest,
};
use protocol::json;

use crate::harness::{TestBroker, pull};

fn create(topic: &str, queues: i32, attributes: &str) -> Command {
    let header = CreateTopicRequest {
        topic: topic.to_owned(),
        default_topic: "TBW102".to_owned(),
        read_queue_nums: queues,
        write_queue_nums: queues,
        perm: 6,
        topic_filter_type: "SINGLE_TAG".to_owned(),
        topic_sys_flag: Some(0),
        order: false,
        attributes: Some(attributes.to_owned()),
        force: false,
    };
    Command::request(RequestCode::UPDATE_AND_CREATE_TOPIC, &header)
}

async fn config(broker: &TestBroker, topic: &str) -> Option<TopicConfig> {
    let header = GetTopicConfigRequest {
        topic: topic.to_owned(),
    };
    let answer = broker
        .call(Command::request(RequestCode::GET_TOPIC_CONFIG, &header))
        .await;
    match answer.response_code() {
        ResponseCode::SUCCESS => Some(json::decode(&answer.body).unwrap()),
        code => {
            assert_eq!(code, ResponseCode::TOPIC_NOT_EXIST);
            None
        }
    }
}

#[tokio::test]
async fn a_created_topic_is_kept_and_can_be_changed() {
    let broker = TestBroker::start().await;
    for (queues, attributes) in [(4, "+message.type=FIFO"), (8, "")] {
        let answer = broker.call(create("t", queues, attributes)).await;
        assert_eq!(
            answer.response_code(),
            ResponseCode::SUCCESS,
            "{:?}",
            answer.remark
        );
    }
    let broker = broker.restart().await;
    let config = config(&broker, "t").await.unwrap();
    assert_eq!((config.read_queue_nums, config.write_queue_nums), (8, 8));
    assert_eq!(config.attributes["message.type"], "FIFO");
}

#[tokio::test]
async fn impossible_topics_are_refused_with_a_reason() {
    let broker = TestBroker::start().await;
    let cases = [
        (
            create("a b", 4, ""),
            ResponseCode::INVALID_PARAMETER,
            "illegal characters",
        ),
        (
            create(&"t".repeat(10_000), 4, ""),
            ResponseCode::INVALID_PARAMETER,
            "is longer than topic max length: 127",
        ),
        (
            create("TBW102", 4, ""),
            ResponseCode::INVALID_PARAMETER,
            "The topic[TBW102] is conflict with system topic.",
        ),
        (
            create("DefaultCluster", 4, ""),
            ResponseCode::INVALID_PARAMETER,
            "conflict with system topic",
        ),
        (
            create("t", i32::MAX, ""),
            ResponseCode::INVALID_PARAMETER,
            "readQueueNums",
        ),
        (
            create("t", 4, "+message.type=MIXED"),
            ResponseCode::INVALID_PARAMETER,
            "MIXED message type is not supported.",
        ),
        (
            create("t", 4, "+x=1"),
            ResponseCode::SYSTEM_ERROR,
            "unsupported key: x",
        ),
    ];
    for (command, code, remark) in cases {
        let answer = broker.call(command).await;
        assert_eq!(answer.response_code(), code);
        let told = answer.remark.unwrap_or_default();
        assert!(told.contains(remark), "{told}");
    }
    assert!(config(&broker, "t").await.is_none());
}

#[tokio::test]
async fn a_deleted_topic_leaves_nothing() {
    let broker = TestBroker::start().await;
    broker.sent("t", b"body", "").await;
    let header = DeleteTopicRequest {
        topic: "t".to_owned(),
    };
    let answer = broker
        .call(Command::request(
            RequestCode::DELETE_TOPIC_IN_BROKER,
            &header,
        ))
        .await;
    assert_eq!(
        answer.response_code(),
        ResponseCode::SUCCESS,
        "{:?}",
        answer.remark
    );
    assert!(config(&broker, "t").await.is_none());
    assert_eq!(
        broker.call(pull("t", 0, 0)).await.response_code(),
        ResponseCode::TOPIC_NOT_EXIST
    );
    let broker = broker.restart().await;
    assert!(config(&broker, "t").await.is_none());
    broker.call(create("t", 1, "")).await;
    assert_eq!(broker.max_offset("t").await, 0);
}

#[tokio::test]
async fn all_topics_are_listed_with_their_version() {
    let broker = TestBroker::start().await;
    broker.call(create("t", 4, "")).await;
    let answer = broker
        .call(Command::request(RequestCode::GET_ALL_TOPIC_CONFIG, &()))
        .await;
    let body: TopicConfigSerializeWrapper = json::decode(&answer.body).unwrap();
    for topic in [
        "t",
        "TBW102",
        "DefaultCluster",
        "broker-a",
        "SELF_TEST_TOPIC",
        "SCHEDULE_TOPIC_XXXX",
    ] {
        assert!(body.topic_config_table.contains_key(topic), "{topic}");
    }
    assert!(body.data_version.counter > 0);
    let answer = broker
        .call(Command::request(
            RequestCode::GET_SYSTEM_TOPIC_LIST_FROM_BROKER,
            &(),
        ))
        .await;
    let body: TopicList = json::decode(&answer.body).unwrap();
    assert!(body.topic_list.contains("TBW102") && body.topic_list.contains("DefaultCluster"));
    assert!(!body.topic_list.contains("t"));
}

#[tokio::test]
async fn a_group_is_kept_until_it_is_deleted() {
    let broker = TestBroker::start().await;
    let group = SubscriptionGroupConfig {
        group_name: "g".to_owned(),
        retry_max_times: 3,
        ..Default::default()
    };
    let command = Command::request(RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &())
        .with_body(json::encode(&group));
    assert_eq!(
        broker.call(command).await.response_code(),
        ResponseCode::SUCCESS
    );
    let broker = broker.restart().await;
    let header = GetSubscriptionGroupConfigRequest {
        group: "g".to_owned(),
    };
    let answer = broker
        .call(Command::request(
            RequestCode::GET_SUBSCRIPTIONGROUP_CONFIG,
            &header,
        ))
        .await;
    assert_eq!(
        json::decode::<SubscriptionGroupConfig>(&answer.body)
            .unwrap()
            .retry_max_times,
        3
    );
    let header = DeleteSubscriptionGroupRequest {
        group_name: "g".to_owned(),
        clean_offset: true,
    };
    let answer = broker
        .call(Command::request(
            RequestCode::DELETE_SUBSCRIPTIONGROUP,
            &header,
        ))
        .await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    let answer = broker
        .call(Command::request(
            RequestCode::GET_ALL_SUBSCRIPTIONGROUP_CONFIG,
            &(),
        ))
        .await;
    let all: SubscriptionGroupWrapper = json::decode(&answer.body).unwrap();
    assert!(!all.subscription_group_table.contains_key("g"));
    assert!(all.subscription_group_table.contains_key("TOOLS_CONSUMER"));
}

#[tokio::test]
async fn the_topic_of_traces_is_the_brokers_own_under_whatever_name() {
    let delete = |topic: &str| {
        let header = DeleteTopicRequest {
            topic: topic.to_owned(),
        };
        Command::request(RequestCode::DELETE_TOPIC_IN_BROKER, &header)
    };
    for enabled in [true, false] {
        let broker = TestBroker::start_with(|keys| {
            keys.trace_topic_enable = enabled;
            keys.msg_trace_topic_name = "Traces".to_owned();
        })
        .await;
        let request = Command::request(RequestCode::GET_SYSTEM_TOPIC_LIST_FROM_BROKER, &());
        let list: TopicList = json::decode(&broker.call(request).await.body).unwrap();
        assert_eq!(list.topic_list.contains("Traces"), enabled);
        assert!(list.topic_list.contains("RMQ_SYS_TRACE_TOPIC"));
        for command in [create("Traces", 4, ""), delete("Traces")] {
            let answer = broker.call(command).await;
            if enabled {
                let remark = answer.remark.unwrap();
                assert_eq!(remark, "The topic[Traces] is conflict with system topic.");
                assert_eq!(config(&broker, "Traces").await.unwrap().read_queue_nums, 1);
            } else {
                assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
            }
        }
        // Notes are still taken.
        broker.sent("Traces", b"a note", "").await;
    }
}
