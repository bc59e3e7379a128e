//! Name servers on real sockets, asked by the client that brokers and tools use.
#![allow(
    clippy::unwrap_used,
    reason = "tests may; the lint allows it only in the functions marked as such"
)]

mod administration;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nameserver::{Config, Context, Running};
use protocol::body::{
    BrokerMemberGroup, ClusterInfo, DataVersion, GetBrokerMemberGroupResponseBody, KvTable,
    RegisterBrokerBody, TopicConfig, TopicConfigAndMappingSerializeWrapper,
    TopicConfigSerializeWrapper, TopicList, TopicRouteData,
};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::header::{FieldMap, WriteFields};
use protocol::headers::*;
use remoting::{Client, ClientConfig, InboundHandler, ServerConfig};
use tempfile::TempDir;
use tokio::sync::mpsc;

const WAIT: Duration = Duration::from_secs(5);

/// A name server with its files in a directory of its own.
struct Fixture {
    running: Running,
    addr: String,
    client: Client,
    directory: TempDir,
}

impl Fixture {
    fn start(change: impl FnOnce(&mut Config)) -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        Fixture::start_in(directory, Context::default(), change)
    }

    fn start_in(directory: TempDir, context: Context, change: impl FnOnce(&mut Config)) -> Fixture {
        let path = |name: &str| directory.path().join(name).display().to_string();
        let mut config = Config {
            bind_address: "127.0.0.1".to_owned(),
            listen_port: 0,
            kv_config_path: path("kvConfig.json"),
            config_store_path: path("namesrv.properties"),
            ..Config::default()
        };
        change(&mut config);
        let running = nameserver::start(config, context, ServerConfig::default()).unwrap();
        let addr = running.local_addr().to_string();
        Fixture {
            running,
            addr,
            client: client(Arc::new(remoting::NoPushes)),
            directory,
        }
    }

    async fn ask(&self, request: Command) -> Command {
        self.client.call(&self.addr, request, WAIT).await.unwrap()
    }

    async fn ask_for(&self, code: RequestCode, header: &impl WriteFields) -> Command {
        self.ask(Command::request(code, header)).await
    }

    async fn body<T: serde::de::DeserializeOwned>(
        &self,
        code: RequestCode,
        header: &impl WriteFields,
    ) -> T {
        let answer = self.ask_for(code, header).await;
        assert_eq!(answer.response_code(), ResponseCode::SUCCESS, "{answer:?}");
        protocol::json::decode(&answer.body).unwrap()
    }

    /// Waits until a topic has a route, or none.
    async fn until_routed(&self, topic: &str, routed: bool) {
        let has_route = async || {
            let answer = self
                .ask_for(RequestCode::GET_ROUTEINFO_BY_TOPIC, &route_request(topic))
                .await;
            answer.response_code() == ResponseCode::SUCCESS
        };
        let waited = tokio::time::timeout(WAIT, async {
            while has_route().await != routed {
                tokio::task::yield_now().await;
            }
        });
        waited.await.expect("the route changes in time");
    }
}

fn client(handler: Arc<dyn InboundHandler>) -> Client {
    Client::new(ClientConfig::default(), handler)
}

fn route_request(topic: &str) -> GetRouteInfoRequest {
    GetRouteInfoRequest {
        topic: topic.to_owned(),
        ..Default::default()
    }
}

fn body(topics: &[&str]) -> RegisterBrokerBody {
    let config = |topic: &str| TopicConfig {
        topic_name: topic.to_owned(),
        ..TopicConfig::default()
    };
    RegisterBrokerBody {
        topic_config_serialize_wrapper: TopicConfigAndMappingSerializeWrapper {
            topic_config_table: topics
                .iter()
                .map(|topic| ((*topic).to_owned(), config(topic)))
                .collect(),
            data_version: DataVersion {
                counter: 1,
                state_version: 0,
                timestamp: 5,
            },
            ..Default::default()
        },
        ..Default::default()
    }
}

fn header(name: &str, id: i64, addr: &str) -> RegisterBrokerRequest {
    RegisterBrokerRequest {
        broker_name: name.to_owned(),
        broker_addr: addr.to_owned(),
        cluster_name: "DefaultCluster".to_owned(),
        ha_server_addr: "127.0.0.1:10912".to_owned(),
        broker_id: id,
        ..Default::default()
    }
}

/// A registration as brokers send it: with a checksum, compressed or not.
fn registration(name: &str, id: i64, addr: &str, topics: &[&str], compressed: bool) -> Command {
    let bytes = body(topics).encode(compressed);
    let header = RegisterBrokerRequest {
        compressed,
        body_crc: protocol::record::body_crc(&bytes) as i32,
        ..header(name, id, addr)
    };
    Command::request(RequestCode::REGISTER_BROKER, &header).with_body(bytes)
}

async fn register(fixture: &Fixture, name: &str, id: i64, addr: &str, topics: &[&str]) -> Command {
    let answer = fixture
        .ask(registration(name, id, addr, topics, true))
        .await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS, "{answer:?}");
    answer
}

#[tokio::test]
async fn a_route_has_the_bytes_that_java_writes() {
    let fixture = Fixture::start(|_| {});
    register(&fixture, "broker-a", 0, "127.0.0.1:10911", &["T", "U"]).await;
    let want = r#"{"brokerDatas":[{"brokerAddrs":{"0":"127.0.0.1:10911"},"brokerName":"broker-a","cluster":"DefaultCluster","enableActingMaster":false}],"filterServerTable":{},"queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":16,"topicSysFlag":0,"writeQueueNums":16}]}"#;
    for version in [0, 317, 401, 479] {
        let mut request =
            Command::request(RequestCode::GET_ROUTEINFO_BY_TOPIC, &route_request("T"));
        request.version = version;
        let answer = fixture.ask(request).await;
        assert_eq!(
            std::str::from_utf8(&answer.body).unwrap(),
            want,
            "version {version}"
        );
    }
}

#[tokio::test]
async fn an_unknown_topic_is_refused_in_the_words_that_clients_match() {
    let fixture = Fixture::start(|_| {});
    let answer = fixture
        .ask_for(RequestCode::GET_ROUTEINFO_BY_TOPIC, &route_request("X"))
        .await;
    assert_eq!(answer.code, 17);
    assert_eq!(
        answer.remark.as_deref(),
        Some(
            "No topic route info in name server for the topic: X\n\
             See https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details."
        )
    );
}

#[tokio::test]
async fn an_unknown_code_is_refused_by_its_number() {
    let fixture = Fixture::start(|_| {});
    let answer = fixture.ask_for(RequestCode(10), &()).await;
    assert_eq!(
        (answer.code, answer.remark.as_deref()),
        (3, Some(" request type 10 not supported"))
    );
}

#[tokio::test]
async fn registrations_are_read_in_every_form() {
    let fixture = Fixture::start(|_| {});
    for (compressed, topic) in [(true, "Zipped"), (false, "Plain")] {
        let request = registration(
            topic,
            0,
            &format!("{topic}:1"),
            &[topic, "Both"],
            compressed,
        );
        assert_eq!(fixture.ask(request).await.code, 0);
    }
    // Java 5.3.3 compresses with compressedRegister=true, and says that it did not.
    let bytes = body(&["Liar", "Both"]).encode(true);
    let request = Command::request(RequestCode::REGISTER_BROKER, &header("liar", 0, "liar:1"))
        .with_body(bytes);
    assert_eq!(fixture.ask(request).await.code, 0);
    // Before 3.0.11 the body is the topics alone.
    let wrapper = TopicConfigSerializeWrapper {
        topic_config_table: body(&["Old", "Both"])
            .topic_config_serialize_wrapper
            .topic_config_table,
        ..Default::default()
    };
    let mut request = Command::request(RequestCode::REGISTER_BROKER, &header("old", 0, "old:1"))
        .with_body(protocol::json::encode(&wrapper));
    request.version = 30;
    assert_eq!(fixture.ask(request).await.code, 0);
    let route: TopicRouteData = fixture
        .body(RequestCode::GET_ROUTEINFO_BY_TOPIC, &route_request("Both"))
        .await;
    let names: Vec<&str> = route
        .broker_datas
        .iter()
        .map(|broker| broker.broker_name.as_str())
        .collect();
    assert_eq!(names, ["Plain", "Zipped", "liar", "old"]);
}

#[tokio::test]
async fn broken_registrations_are_refused_and_the_connection_goes_on() {
    let fixture = Fixture::start(|_| {});
    let refused = async |request: Command, remark: &str| {
        let answer = fixture.ask(request).await;
        assert_eq!(answer.code, 1);
        let text = answer.remark.unwrap_or_default();
        assert!(text.contains(remark), "{text}");
    };
    let mut wrong_crc = registration("a", 0, "a:1", &["T", "U"], false);
    wrong_crc.body = protocol::json::encode(&body(&["T"])).into();
    refused(wrong_crc, "crc32 not match").await;
    let garbage = |compressed| {
        let header = RegisterBrokerRequest {
            compressed,
            ..header("a", 0, "a:1")
        };
        Command::request(RequestCode::REGISTER_BROKER, &header)
            .with_body(&b"\xff\x00{[nonsense"[..])
    };
    refused(garbage(true), "Failed to decode RegisterBrokerBody").await;
    refused(garbage(false), "Failed to decode RegisterBrokerBody").await;
    let mut incomplete = FieldMap::of(&header("a", 0, "a:1"));
    incomplete = incomplete
        .iter()
        .filter(|(name, _)| *name != "brokerAddr")
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    refused(
        Command::request(RequestCode::REGISTER_BROKER, &incomplete),
        "brokerAddr",
    )
    .await;
    refused(
        registration("a", 0, "a:1", &["T"], true),
        "register broker failed",
    )
    .await;
    let topics: TopicList = fixture
        .body(RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER, &())
        .await;
    assert!(topics.topic_list.is_empty());
}

#[tokio::test]
async fn a_large_registration_is_taken_in_beside_the_read_loop() {
    let fixture = Fixture::start(|_| {});
    let names: Vec<String> = (0..3000)
        .map(|number| format!("topic-with-a-long-name-{number:06}"))
        .collect();
    let topics: Vec<&str> = names.iter().map(String::as_str).collect();
    let request = registration("a", 0, "a:1", &topics, false);
    assert!(request.body.len() > 64 << 10);
    assert_eq!(fixture.ask(request).await.code, 0);
    let list: TopicList = fixture
        .body(RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER, &())
        .await;
    assert_eq!(list.topic_list.len(), 3000);
}

#[tokio::test]
async fn a_slave_hears_of_its_master_and_members_are_listed() {
    let fixture = Fixture::start(|_| {});
    register(&fixture, "a", 0, "a:1", &["T", "U"]).await;
    let answer = register(&fixture, "a", 1, "a:2", &["T", "U"]).await;
    let header: RegisterBrokerResponse = answer.header().unwrap();
    assert_eq!(header.master_addr.as_deref(), Some("a:1"));
    assert_eq!(header.ha_server_addr.as_deref(), Some("127.0.0.1:10912"));
    let request = GetBrokerMemberGroupRequest {
        cluster_name: "DefaultCluster".to_owned(),
        broker_name: "a".to_owned(),
    };
    let group: GetBrokerMemberGroupResponseBody = fixture
        .body(RequestCode::GET_BROKER_MEMBER_GROUP, &request)
        .await;
    let want = BrokerMemberGroup {
        cluster: "DefaultCluster".to_owned(),
        broker_name: "a".to_owned(),
        broker_addrs: [(0, "a:1".to_owned()), (1, "a:2".to_owned())].into(),
    };
    assert_eq!(group.broker_member_group, Some(want));
}

#[tokio::test]
async fn a_closed_connection_is_a_farewell() {
    let fixture = Fixture::start(|_| {});
    let broker = client(Arc::new(remoting::NoPushes));
    let request = registration("a", 0, "a:1", &["T", "U"], true);
    assert_eq!(
        broker
            .call(&fixture.addr, request, WAIT)
            .await
            .unwrap()
            .code,
        0
    );
    fixture.until_routed("T", true).await;
    broker.close_address(&fixture.addr);
    fixture.until_routed("T", false).await;
}

#[tokio::test]
async fn a_silent_broker_expires_and_its_connection_is_closed() {
    let fixture = Fixture::start(|config| config.scan_not_active_broker_interval = 10);
    let broker = client(Arc::new(remoting::NoPushes));
    let bytes = body(&["T", "U"]).encode(false);
    let header = RegisterBrokerRequest {
        heartbeat_timeout_ms: Some(50),
        ..header("a", 0, "a:1")
    };
    let request = Command::request(RequestCode::REGISTER_BROKER, &header).with_body(bytes);
    assert_eq!(
        broker
            .call(&fixture.addr, request, WAIT)
            .await
            .unwrap()
            .code,
        0
    );
    fixture.until_routed("T", false).await;
}

#[tokio::test]
async fn heartbeats_and_farewells_are_heard() {
    let fixture = Fixture::start(|_| {});
    register(&fixture, "a", 0, "a:1", &["T", "U"]).await;
    let heartbeat = BrokerHeartbeatRequest {
        cluster_name: "DefaultCluster".to_owned(),
        broker_addr: "a:1".to_owned(),
        broker_name: "a".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        fixture
            .ask_for(RequestCode::BROKER_HEARTBEAT, &heartbeat)
            .await
            .code,
        0
    );

    let query = QueryDataVersionRequest {
        broker_name: "a".to_owned(),
        broker_addr: "a:1".to_owned(),
        cluster_name: "DefaultCluster".to_owned(),
        broker_id: 0,
    };
    for (counter, want) in [(1, "false"), (2, "true")] {
        let version = DataVersion {
            counter,
            state_version: 0,
            timestamp: 5,
        };
        let request = Command::request(RequestCode::QUERY_DATA_VERSION, &query)
            .with_body(protocol::json::encode(&version));
        let answer = fixture.ask(request).await;
        assert_eq!(answer.fields.get("changed"), Some(want));
        let known: DataVersion = protocol::json::decode(&answer.body).unwrap();
        assert_eq!(known.counter, 1);
    }

    let farewell = UnRegisterBrokerRequest {
        broker_name: "a".to_owned(),
        broker_addr: "a:1".to_owned(),
        cluster_name: "DefaultCluster".to_owned(),
        broker_id: 0,
    };
    assert_eq!(
        fixture
            .ask_for(RequestCode::UNREGISTER_BROKER, &farewell)
            .await
            .code,
        0
    );
    let info: ClusterInfo = fixture
        .body(RequestCode::GET_BROKER_CLUSTER_INFO, &())
        .await;
    assert_eq!(info, ClusterInfo::default());
}

#[tokio::test]
async fn a_route_stays_within_the_zone_that_is_asked_for() {
    let fixture = Fixture::start(|_| {});
    for (name, zone) in [("near", "Z1"), ("far", "Z2")] {
        let mut request = registration(name, 0, &format!("{name}:1"), &["T", "U"], true);
        request.fields.insert("__ZONE_NAME", zone.to_owned());
        assert_eq!(fixture.ask(request).await.code, 0);
    }
    // A group without a master is kept: reading from far away beats not reading.
    let mut slave = registration("slave", 1, "slave:1", &["T", "U"], true);
    slave.fields.insert("enableActingMaster", "true".to_owned());
    assert_eq!(fixture.ask(slave).await.code, 0);
    let names = async |mode: &str| {
        let mut request =
            Command::request(RequestCode::GET_ROUTEINFO_BY_TOPIC, &route_request("T"));
        request.fields.insert("__ZONE_MODE", mode.to_owned());
        request.fields.insert("__ZONE_NAME", "z1".to_owned());
        let answer = fixture.ask(request).await;
        let route: TopicRouteData = protocol::json::decode(&answer.body).unwrap();
        let queues: Vec<String> = route
            .queue_datas
            .into_iter()
            .map(|queue| queue.broker_name)
            .collect();
        queues.join(",")
    };
    assert_eq!(names("true").await, "near,slave");
    assert_eq!(names("false").await, "far,near,slave");
}

#[tokio::test]
async fn members_are_told_when_their_lowest_id_changes() {
    // The members listen, as brokers do, and pass on what they hear.
    let (heard, mut hearing) = mpsc::unbounded_channel();
    let member = remoting::Server::bind(
        SocketAddr::from(([127, 0, 0, 1], 0)),
        ServerConfig::default(),
        Arc::new(Member { heard }),
    )
    .unwrap();
    let addr = member.local_addr().to_string();
    let context = Context {
        client: Some(client(Arc::new(remoting::NoPushes))),
        ..Context::default()
    };
    let fixture = Fixture::start_in(tempfile::tempdir().unwrap(), context, |config| {
        config.notify_min_broker_id_changed = true;
        config.support_acting_master = true;
    });
    for (id, addr) in [(0, "127.0.0.1:1"), (1, addr.as_str())] {
        let mut request = registration("a", id, addr, &["T", "U"], true);
        request
            .fields
            .insert("enableActingMaster", "true".to_owned());
        assert_eq!(fixture.ask(request).await.code, 0);
    }
    let farewell = UnRegisterBrokerRequest {
        broker_name: "a".to_owned(),
        broker_addr: "127.0.0.1:1".to_owned(),
        cluster_name: "DefaultCluster".to_owned(),
        broker_id: 0,
    };
    assert_eq!(
        fixture
            .ask_for(RequestCode::UNREGISTER_BROKER, &farewell)
            .await
            .code,
        0
    );
    let notice = tokio::time::timeout(WAIT, hearing.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        notice.request_code(),
        RequestCode::NOTIFY_MIN_BROKER_ID_CHANGE
    );
    assert_eq!(notice.fields.get("minBrokerId"), Some("1"));
    assert_eq!(notice.fields.get("offlineBrokerAddr"), Some("127.0.0.1:1"));
    let route: TopicRouteData = fixture
        .body(RequestCode::GET_ROUTEINFO_BY_TOPIC, &route_request("T"))
        .await;
    assert_eq!(
        route.broker_datas[0].broker_addrs[&0], addr,
        "the slave stands in"
    );
}

struct Member {
    heard: mpsc::UnboundedSender<Command>,
}

impl remoting::Service for Member {
    fn serve(
        &self,
        _: &Arc<remoting::Connection>,
        requests: &[remoting::Request<'_>],
        _: &mut remoting::Replies,
    ) {
        for request in requests {
            let _ = self.heard.send(request.to_command());
        }
    }

    fn refuse_held(
        &self,
        _: remoting::HeldFailure,
        _: protocol::reply::ReplyHead,
        _: &Command,
        _: &mut remoting::Replies,
    ) {
    }

    fn gate(&self) -> Option<tokio::sync::watch::Receiver<remoting::Gate>> {
        None
    }

    fn closed(&self, _: &Arc<remoting::Connection>) {}
}

#[tokio::test]
async fn several_name_servers_know_what_each_was_told() {
    let first = Fixture::start(|_| {});
    let second = Fixture::start(|_| {});
    register(&first, "a", 0, "a:1", &["T", "U"]).await;
    first.until_routed("T", true).await;
    second.until_routed("T", false).await;
    register(&second, "a", 0, "a:1", &["T", "U"]).await;
    second.until_routed("T", true).await;
}

#[tokio::test]
async fn a_port_in_use_is_a_clear_error() {
    let fixture = Fixture::start(|_| {});
    let config = Config {
        bind_address: "127.0.0.1".to_owned(),
        listen_port: fixture.running.local_addr().port(),
        kv_config_path: fixture
            .directory
            .path()
            .join("other.json")
            .display()
            .to_string(),
        ..Config::default()
    };
    let error = nameserver::start(config, Context::default(), ServerConfig::default())
        .err()
        .unwrap();
    assert!(error.to_string().contains(&fixture.addr), "{error}");
}

#[tokio::test]
async fn the_process_asks_its_own_name_server_without_a_socket() {
    let fixture = Fixture::start(|_| {});
    let local = client(Arc::new(remoting::NoPushes));
    local.register_local("in-process", fixture.running.service());
    let request = registration("a", 0, "a:1", &["T", "U"], true);
    assert_eq!(
        local.call("in-process", request, WAIT).await.unwrap().code,
        0
    );
    fixture.until_routed("T", true).await;
    local.close_address("in-process");
    fixture.until_routed("T", false).await;
}
