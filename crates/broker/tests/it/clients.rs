//! Heartbeats, who is in a group, and who hears of changes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{
    GetConsumerConnectionListRequest, GetConsumerListByGroupRequest,
    GetProducerConnectionListRequest, NotifyConsumerIdsChangedRequest, UnregisterClientRequest,
};
use protocol::json;
use remoting::{Client, ClientConfig, InboundHandler};
use tokio::sync::mpsc;

use crate::harness::{TIMEOUT, TestBroker};

/// Keeps the groups of which it was told that they changed.
struct Told(mpsc::UnboundedSender<String>);

impl InboundHandler for Told {
    fn on_request(
        &self,
        _: &str,
        command: Command,
    ) -> Pin<Box<dyn Future<Output = Option<Command>> + Send>> {
        assert_eq!(
            command.request_code(),
            RequestCode::NOTIFY_CONSUMER_IDS_CHANGED
        );
        assert!(command.is_oneway());
        let header: NotifyConsumerIdsChangedRequest = command.header().unwrap();
        // A test that is over listens no more.
        let _ = self.0.send(header.consumer_group);
        Box::pin(async { None })
    }

    fn on_connect(&self, _: &str) {}
}

/// A consumer with a connection of its own.
struct Member {
    client: Arc<Client>,
    told: mpsc::UnboundedReceiver<String>,
    addr: String,
}

impl Member {
    fn new(broker: &TestBroker) -> Member {
        let (sender, told) = mpsc::unbounded_channel();
        let client = Arc::new(Client::new(ClientConfig::default(), Arc::new(Told(sender))));
        Member {
            client,
            told,
            addr: broker.addr().to_string(),
        }
    }

    async fn call(&self, command: Command) -> Command {
        self.client
            .call(&self.addr, command, TIMEOUT)
            .await
            .unwrap()
    }

    /// A heartbeat, in JSON as it comes from clients.
    async fn heartbeat(&self, body: &str) -> Command {
        let command =
            Command::request(RequestCode::HEART_BEAT, &()).with_body(body.as_bytes().to_vec());
        self.call(command).await
    }

    async fn joins(&self, id: &str, group: &str) {
        let answer = self
            .heartbeat(&consumer(id, group, "CLUSTERING", &["t"]))
            .await;
        assert_eq!(
            answer.response_code(),
            ResponseCode::SUCCESS,
            "{:?}",
            answer.remark
        );
    }

    async fn hears(&mut self) -> String {
        tokio::time::timeout(TIMEOUT, self.told.recv())
            .await
            .unwrap()
            .unwrap()
    }
}

fn consumer(id: &str, group: &str, model: &str, topics: &[&str]) -> String {
    let subscriptions: Vec<String> = topics
        .iter()
        .map(|topic| {
            format!(
                r#"{{"topic":"{topic}","subString":"*","subVersion":1,"tagsSet":[],"codeSet":[]}}"#
            )
        })
        .collect();
    format!(
        r#"{{"clientID":"{id}","consumerDataSet":[{{"groupName":"{group}","consumeType":"CONSUME_PASSIVELY","messageModel":"{model}","consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","subscriptionDataSet":[{}],"unitMode":false}}],"producerDataSet":[]}}"#,
        subscriptions.join(",")
    )
}

async fn members(broker: &TestBroker, group: &str) -> Result<Vec<String>, String> {
    let header = GetConsumerListByGroupRequest {
        consumer_group: group.to_owned(),
    };
    let answer = broker
        .call(Command::request(
            RequestCode::GET_CONSUMER_LIST_BY_GROUP,
            &header,
        ))
        .await;
    if answer.response_code() != ResponseCode::SUCCESS {
        return Err(format!(
            "{} {}",
            answer.code,
            answer.remark.unwrap_or_default()
        ));
    }
    let body: protocol::body::GetConsumerListByGroupResponseBody =
        json::decode(&answer.body).unwrap();
    Ok(body.consumer_id_list)
}

fn ids(ids: &[&str]) -> Result<Vec<String>, String> {
    Ok(ids.iter().map(|id| (*id).to_owned()).collect())
}

#[tokio::test]
async fn members_hear_of_who_comes_and_goes() {
    let broker = TestBroker::start().await;
    let (mut one, mut two) = (Member::new(&broker), Member::new(&broker));
    one.joins("one", "g").await;
    assert_eq!(one.hears().await, "g");
    two.joins("two", "g").await;
    assert_eq!(
        (one.hears().await.as_str(), two.hears().await.as_str()),
        ("g", "g")
    );
    assert_eq!(members(&broker, "g").await, ids(&["one", "two"]));
    let header = UnregisterClientRequest {
        client_id: "two".to_owned(),
        producer_group: None,
        consumer_group: Some("g".to_owned()),
    };
    let answer = two
        .call(Command::request(RequestCode::UNREGISTER_CLIENT, &header))
        .await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    assert_eq!(one.hears().await, "g");
    assert_eq!(members(&broker, "g").await, ids(&["one"]));
}

#[tokio::test]
async fn a_closed_connection_leaves_its_groups() {
    let broker = TestBroker::start().await;
    let (mut one, two) = (Member::new(&broker), Member::new(&broker));
    two.joins("two", "g").await;
    one.joins("one", "g").await;
    assert_eq!(one.hears().await, "g");
    two.client.shutdown();
    assert_eq!(one.hears().await, "g");
    assert_eq!(members(&broker, "g").await, ids(&["one"]));
}

#[tokio::test]
async fn broadcasting_consumers_are_not_told() {
    let broker = TestBroker::start().await;
    let mut one = Member::new(&broker);
    one.heartbeat(&consumer("one", "everybody", "BROADCASTING", &["t"]))
        .await;
    one.joins("one", "g").await;
    // What the first group would have caused had come first.
    assert_eq!(one.hears().await, "g");
    assert!(one.told.try_recv().is_err());
}

#[tokio::test]
async fn a_group_that_nobody_consumes_for_is_told_as_such() {
    let broker = TestBroker::start().await;
    assert_eq!(
        members(&broker, "g").await,
        Err("1 no consumer for this group, g".to_owned())
    );
    let header = GetConsumerConnectionListRequest {
        consumer_group: "g".to_owned(),
    };
    let answer = broker
        .call(Command::request(
            RequestCode::GET_CONSUMER_CONNECTION_LIST,
            &header,
        ))
        .await;
    assert_eq!(answer.response_code(), ResponseCode::CONSUMER_NOT_ONLINE);
    assert_eq!(
        answer.remark.as_deref(),
        Some("the consumer group[g] not online")
    );
    let header = GetProducerConnectionListRequest {
        producer_group: "p".to_owned(),
    };
    let answer = broker
        .call(Command::request(
            RequestCode::GET_PRODUCER_CONNECTION_LIST,
            &header,
        ))
        .await;
    assert_eq!(answer.response_code(), ResponseCode::SYSTEM_ERROR);
}

#[tokio::test]
async fn connections_are_shown_as_their_heartbeats_said() {
    let broker = TestBroker::start().await;
    let one = Member::new(&broker);
    one.heartbeat(r#"{"clientID":"one","producerDataSet":[{"groupName":"p"}]}"#)
        .await;
    one.joins("one", "g").await;
    let header = GetConsumerConnectionListRequest {
        consumer_group: "g".to_owned(),
    };
    let answer = broker
        .call(Command::request(
            RequestCode::GET_CONSUMER_CONNECTION_LIST,
            &header,
        ))
        .await;
    let body: protocol::body::ConsumerConnection = json::decode(&answer.body).unwrap();
    assert_eq!(body.connection_set.len(), 1);
    assert_eq!(body.connection_set[0].client_id, "one");
    assert!(body.connection_set[0].client_addr.starts_with("127.0.0.1:"));
    assert_eq!(body.subscription_table["t"].sub_string, "*");
    let header = GetProducerConnectionListRequest {
        producer_group: "p".to_owned(),
    };
    let answer = broker
        .call(Command::request(
            RequestCode::GET_PRODUCER_CONNECTION_LIST,
            &header,
        ))
        .await;
    let body: protocol::body::ProducerConnection = json::decode(&answer.body).unwrap();
    assert_eq!(body.connection_set[0].client_id, "one");
}

/// Trap 3: ali-ons leaves fields out. Trap 4: C++ writes enums as numbers, versions as text and a line feed at the end.
#[tokio::test]
async fn heartbeats_of_old_clients_are_understood() {
    let broker = TestBroker::start().await;
    let one = Member::new(&broker);
    let bodies = [
        r#"{"clientID":"ons","consumerDataSet":[{"groupName":"ons","consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING","consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","subscriptionDataSet":[{"topic":"t","subString":"*","subVersion":1}]}]}"#,
        "{\"clientID\":\"cpp\",\"consumerDataSet\":[{\"consumeFromWhere\":0,\"consumeType\":1,\"groupName\":\"cpp\",\"messageModel\":1,\"subscriptionDataSet\":[{\"codeSet\":[],\"subString\":\"*\",\"subVersion\":\"17\",\"tagsSet\":[],\"topic\":\"t\"}]}],\"producerDataSet\":[]}\n",
    ];
    for (body, group) in bodies.iter().zip(["ons", "cpp"]) {
        let answer = one.heartbeat(body).await;
        assert_eq!(
            answer.response_code(),
            ResponseCode::SUCCESS,
            "{:?}",
            answer.remark
        );
        assert_eq!(members(&broker, group).await, ids(&[group]));
    }
}

#[tokio::test]
async fn a_heartbeat_that_says_nothing_is_refused_and_the_connection_goes_on() {
    let broker = TestBroker::start().await;
    let one = Member::new(&broker);
    for body in ["{}", "", "not json", "{\"clientID\":"] {
        let answer = one.heartbeat(body).await;
        assert_eq!(
            answer.response_code(),
            ResponseCode::SYSTEM_ERROR,
            "{body:?}"
        );
    }
    one.joins("one", "g").await;
}

#[tokio::test]
async fn fingerprints_stand_for_subscriptions_that_are_known() {
    let broker = TestBroker::start().await;
    let one = Member::new(&broker);
    let full = consumer("one", "g", "CLUSTERING", &["t"]).replace(
        "\"producerDataSet\"",
        "\"heartbeatFingerprint\":7,\"producerDataSet\"",
    );
    let short = consumer("one", "g", "CLUSTERING", &[]).replace(
        "\"producerDataSet\"",
        "\"heartbeatFingerprint\":7,\"withoutSub\":true,\"producerDataSet\"",
    );
    let changed = |answer: &Command| answer.fields.get("IS_SUB_CHANGE").map(str::to_owned);
    assert_eq!(
        changed(&one.heartbeat(&short).await).as_deref(),
        Some("true"),
        "the broker has just started"
    );
    let answer = one.heartbeat(&full).await;
    assert_eq!(answer.fields.get("IS_SUPPORT_HEART_BEAT_V2"), Some("true"));
    assert_eq!(changed(&answer).as_deref(), Some("false"));
    assert_eq!(
        changed(&one.heartbeat(&short).await).as_deref(),
        Some("false")
    );
    let header = GetConsumerConnectionListRequest {
        consumer_group: "g".to_owned(),
    };
    let answer = broker
        .call(Command::request(
            RequestCode::GET_CONSUMER_CONNECTION_LIST,
            &header,
        ))
        .await;
    let body: protocol::body::ConsumerConnection = json::decode(&answer.body).unwrap();
    assert!(body.subscription_table.contains_key("t"));
}

#[tokio::test]
async fn a_heartbeat_creates_the_retry_topic() {
    let broker = TestBroker::start().await;
    Member::new(&broker).joins("one", "g").await;
    let header = protocol::headers::GetTopicConfigRequest {
        topic: "%RETRY%g".to_owned(),
    };
    let answer = broker
        .call(Command::request(RequestCode::GET_TOPIC_CONFIG, &header))
        .await;
    let config: protocol::body::TopicConfig = json::decode(&answer.body).unwrap();
    assert_eq!(
        (config.read_queue_nums, config.write_queue_nums, config.perm),
        (1, 1, 6)
    );
}
