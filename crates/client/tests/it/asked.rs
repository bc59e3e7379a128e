//! What consumers do when a broker asks: go on elsewhere, say where they are and how they are, consume one message.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use client::{
    ConsumeResult, LitePullConsumer, Message, MessageQueue, Producer, PushConsumer, StartFrom,
};
use protocol::body::{
    CmResult, ConsumeMessageDirectlyResult, ConsumeStats, ConsumerRunningInfo,
    GetConsumerListByGroupResponseBody, GetConsumerStatusBody, ResetOffsetBody,
};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::header::WriteFields;
use protocol::headers::{
    ConsumeMessageDirectlyResultRequest, GetConsumeStatsRequest, GetConsumerListByGroupRequest,
    GetConsumerRunningInfoRequest, GetConsumerStatusRequest, ResetOffsetRequest,
};
use protocol::json;
use remoting::{Client, ClientConfig, NoPushes};

use crate::cluster::{Cluster, PATIENCE, eventually};

/// An operator's tool.
struct Tool {
    client: Client,
    broker: String,
}

impl Tool {
    fn new(cluster: &Cluster) -> Tool {
        Tool {
            client: Client::new(ClientConfig::default(), Arc::new(NoPushes)),
            broker: cluster.broker(0),
        }
    }

    async fn ask(&self, code: RequestCode, header: &impl WriteFields) -> Command {
        let request = Command::request(code, header);
        let answer = self
            .client
            .call(&self.broker, request, PATIENCE)
            .await
            .unwrap();
        assert_eq!(
            answer.response_code(),
            ResponseCode::SUCCESS,
            "{:?}",
            answer.remark
        );
        answer
    }

    async fn reset(&self, group: &str) -> ResetOffsetBody {
        let header = ResetOffsetRequest {
            group: group.to_owned(),
            topic: "T".to_owned(),
            queue_id: -1,
            offset: Some(-1),
            timestamp_ms: 0,
            force: true,
        };
        let code = RequestCode::INVOKE_BROKER_TO_RESET_OFFSET;
        json::decode(&self.ask(code, &header).await.body).unwrap()
    }

    /// How far the group is in all queues, by the broker's account.
    async fn committed(&self, group: &str) -> i64 {
        let header = GetConsumeStatsRequest {
            consumer_group: group.to_owned(),
            topic: Some("T".to_owned()),
            topic_list: None,
        };
        let answer = self.ask(RequestCode::GET_CONSUME_STATS, &header).await;
        let stats: ConsumeStats = json::decode(&answer.body).unwrap();
        stats
            .offset_table
            .values()
            .map(|at| at.consumer_offset)
            .sum()
    }

    async fn member_of(&self, group: &str) -> String {
        let header = GetConsumerListByGroupRequest {
            consumer_group: group.to_owned(),
        };
        let answer = self
            .ask(RequestCode::GET_CONSUMER_LIST_BY_GROUP, &header)
            .await;
        let body: GetConsumerListByGroupResponseBody = json::decode(&answer.body).unwrap();
        body.consumer_id_list[0].clone()
    }

    /// How far the group's only member is in all queues, by its own account.
    async fn status(&self, group: &str) -> i64 {
        let header = GetConsumerStatusRequest {
            topic: "T".to_owned(),
            group: group.to_owned(),
            client_addr: None,
        };
        let code = RequestCode::INVOKE_BROKER_TO_GET_CONSUMER_STATUS;
        let body: GetConsumerStatusBody =
            json::decode(&self.ask(code, &header).await.body).unwrap();
        assert_eq!(body.consumer_table.len(), 1);
        body.consumer_table
            .values()
            .flat_map(|table| table.values())
            .sum()
    }
}

/// How often each body was consumed.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeMap<String, usize>>>);

impl Seen {
    fn note(&self, body: &[u8]) {
        let body = String::from_utf8_lossy(body).into_owned();
        *self.0.lock().unwrap().entry(body).or_default() += 1;
    }

    /// Whether all of `count` messages came `times` times at least.
    fn all(&self, count: usize, times: usize) -> bool {
        let seen = self.0.lock().unwrap();
        seen.len() == count && seen.values().all(|seen| *seen >= times)
    }
}

const COUNT: usize = 12;

async fn sent(cluster: &Cluster) -> String {
    let producer = Producer::builder("producers", cluster.nameserver())
        .start()
        .unwrap();
    let mut id = String::new();
    for number in 0..COUNT {
        let message = Message::new("T", number.to_string());
        id = producer.send(message).await.unwrap().offset_message_id;
    }
    producer.shutdown().await;
    id
}

async fn consumer(cluster: &Cluster, seen: &Seen, orderly: bool) -> PushConsumer {
    let builder = PushConsumer::builder("g", cluster.nameserver())
        .subscribe("T", "*")
        .start_from(StartFrom::Oldest);
    let seen = seen.clone();
    let listener = move |messages: Vec<client::Received>| {
        messages.iter().for_each(|message| seen.note(&message.body));
        std::future::ready(ConsumeResult::Success)
    };
    let builder = if orderly {
        builder.orderly(listener)
    } else {
        builder.concurrently(listener)
    };
    builder.start().await.unwrap()
}

async fn goes_back(server_side: bool, orderly: bool) {
    let cluster = Cluster::start_with(&["broker-a"], |keys| {
        keys.use_server_side_reset_offset = server_side;
    })
    .await;
    sent(&cluster).await;
    let tool = Tool::new(&cluster);
    let seen = Seen::default();
    let consumer = consumer(&cluster, &seen, orderly).await;
    eventually("every message", || seen.all(COUNT, 1)).await;
    // Where members are told, the group must have said where it is.
    while tool.committed("g").await < COUNT as i64 {
        tokio::task::yield_now().await;
    }
    assert_eq!(tool.status("g").await, COUNT as i64);
    let body = tool.reset("g").await;
    assert!(
        body.offset_table.values().all(|offset| *offset == 0),
        "{body:?}"
    );
    eventually("every message once more", || seen.all(COUNT, 2)).await;
    assert!(!seen.all(COUNT, 3));
    consumer.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_goes_back_when_the_broker_keeps_a_reset() {
    goes_back(true, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_goes_back_when_it_is_told() {
    goes_back(false, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_in_order_goes_back_when_it_is_told() {
    goes_back(false, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lite_pull_consumer_goes_back() {
    let cluster = Cluster::start(&["broker-a"]).await;
    sent(&cluster).await;
    let consumer = LitePullConsumer::builder("g", cluster.nameserver())
        .subscribe("T", "*")
        .start_from(StartFrom::Oldest)
        .start()
        .await
        .unwrap();
    let seen = Seen::default();
    let mut was_reset = false;
    while !seen.all(COUNT, 2) {
        for message in consumer.poll(PATIENCE).await {
            seen.note(&message.body);
        }
        if seen.all(COUNT, 1) && !was_reset {
            was_reset = true;
            consumer.commit().await;
            Tool::new(&cluster).reset("g").await;
        }
    }
    consumer.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_tells_of_itself_and_consumes_what_it_is_given() {
    let cluster = Cluster::start(&["broker-a"]).await;
    let id = sent(&cluster).await;
    let tool = Tool::new(&cluster);
    let seen = Seen::default();
    let consumer = consumer(&cluster, &seen, false).await;
    eventually("every message", || seen.all(COUNT, 1)).await;
    let member = tool.member_of("g").await;
    let header = GetConsumerRunningInfoRequest {
        consumer_group: "g".to_owned(),
        client_id: member.clone(),
        jstack_enable: true,
    };
    let answer = tool
        .ask(RequestCode::GET_CONSUMER_RUNNING_INFO, &header)
        .await;
    let info: ConsumerRunningInfo = json::decode(&answer.body).unwrap();
    let queue = MessageQueue {
        topic: "T".to_owned(),
        broker_name: "broker-a".to_owned(),
        queue_id: 0,
    };
    assert!(info.mq_table.contains_key(&queue.into()), "{info:?}");
    assert_eq!(info.properties["PROP_CONSUME_TYPE"], "CONSUME_PASSIVELY");
    assert!(info.subscription_set.iter().any(|each| each.topic == "T"));
    assert!(info.jstack.is_some());
    let header = ConsumeMessageDirectlyResultRequest {
        consumer_group: "g".to_owned(),
        client_id: Some(member),
        msg_id: Some(id),
        ..ConsumeMessageDirectlyResultRequest::default()
    };
    let answer = tool
        .ask(RequestCode::CONSUME_MESSAGE_DIRECTLY, &header)
        .await;
    let result: ConsumeMessageDirectlyResult = json::decode(&answer.body).unwrap();
    assert_eq!(result.consume_result, Some(CmResult::Success));
    assert_eq!(seen.0.lock().unwrap()[&(COUNT - 1).to_string()], 2);
    consumer.shutdown().await;
}
