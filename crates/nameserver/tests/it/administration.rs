//! What operators ask of a name server: topics, permissions, key-value configuration, its own configuration.

use protocol::json::{self, Seal};

use super::*;

#[tokio::test]
async fn topics_and_permissions_are_administered() {
    let fixture = Fixture::start(|_| {});
    register(&fixture, "a", 0, "a:1", &["T", "U"]).await;
    let broker_name = "a".to_owned();
    let wiped = fixture
        .ask_for(
            RequestCode::WIPE_WRITE_PERM_OF_BROKER,
            &WipeWritePermOfBrokerRequest {
                broker_name: broker_name.clone(),
            },
        )
        .await;
    assert_eq!(wiped.fields.get("wipeTopicCount"), Some("2"));
    let perm = async || {
        let route: TopicRouteData = fixture
            .body(RequestCode::GET_ROUTEINFO_BY_TOPIC, &route_request("T"))
            .await;
        route.queue_datas[0].perm
    };
    assert_eq!(perm().await, 4);
    let added = fixture
        .ask_for(
            RequestCode::ADD_WRITE_PERM_OF_BROKER,
            &AddWritePermOfBrokerRequest { broker_name },
        )
        .await;
    assert_eq!(added.fields.get("addTopicCount"), Some("2"));
    assert_eq!(perm().await, 6);

    let route: TopicRouteData = fixture
        .body(RequestCode::GET_ROUTEINFO_BY_TOPIC, &route_request("T"))
        .await;
    let new = RegisterTopicRequest {
        topic: "New".to_owned(),
    };
    let request = Command::request(RequestCode::REGISTER_TOPIC_IN_NAMESRV, &new)
        .with_body(protocol::json::encode(&route));
    assert_eq!(fixture.ask(request).await.code, 0);
    let list = async |code, header: FieldMap| {
        let list: TopicList = fixture.body(code, &header).await;
        list.topic_list.into_iter().collect::<Vec<_>>().join(",")
    };
    let cluster = FieldMap::of(&GetTopicsByClusterRequest {
        cluster: "DefaultCluster".to_owned(),
    });
    assert_eq!(
        list(RequestCode::GET_TOPICS_BY_CLUSTER, cluster).await,
        "New,T,U"
    );
    let delete = DeleteTopicFromNamesrvRequest {
        topic: "New".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        fixture
            .ask_for(RequestCode::DELETE_TOPIC_IN_NAMESRV, &delete)
            .await
            .code,
        0
    );
    let none = FieldMap::default;
    assert_eq!(
        list(RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER, none()).await,
        "T,U"
    );
    assert_eq!(
        list(RequestCode::GET_SYSTEM_TOPIC_LIST_FROM_NS, none()).await,
        "DefaultCluster,a"
    );
    for code in [
        RequestCode::GET_UNIT_TOPIC_LIST,
        RequestCode::GET_HAS_UNIT_SUB_TOPIC_LIST,
        RequestCode::GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST,
    ] {
        assert_eq!(list(code, none()).await, "");
    }
}

#[tokio::test]
async fn key_values_survive_a_restart() {
    let fixture = Fixture::start(|_| {});
    let put = |key: &str, value: &str| PutKVConfigRequest {
        namespace: "ORDER_TOPIC_CONFIG".to_owned(),
        key: key.to_owned(),
        value: value.to_owned(),
    };
    assert_eq!(
        fixture
            .ask_for(RequestCode::PUT_KV_CONFIG, &put("T", "a:4"))
            .await
            .code,
        0
    );
    assert_eq!(
        fixture
            .ask_for(RequestCode::PUT_KV_CONFIG, &put("gone", "a:8"))
            .await
            .code,
        0
    );
    let gone = DeleteKVConfigRequest {
        namespace: "ORDER_TOPIC_CONFIG".to_owned(),
        key: "gone".to_owned(),
    };
    assert_eq!(
        fixture
            .ask_for(RequestCode::DELETE_KV_CONFIG, &gone)
            .await
            .code,
        0
    );
    let Fixture {
        running, directory, ..
    } = fixture;
    running.shutdown().await;
    let file = std::fs::read(directory.path().join("kvConfig.json")).unwrap();
    let (text, seal) = json::unseal(&file);
    assert_eq!(seal, Seal::Whole);
    assert_eq!(
        String::from_utf8_lossy(&text),
        r#"{"configTable":{"ORDER_TOPIC_CONFIG":{"T":"a:4"}}}"#
    );

    let fixture = Fixture::start_in(directory, Context::default(), |config| {
        config.order_message_enable = true
    });
    let get = |key: &str| GetKVConfigRequest {
        namespace: "ORDER_TOPIC_CONFIG".to_owned(),
        key: key.to_owned(),
    };
    let answer = fixture.ask_for(RequestCode::GET_KV_CONFIG, &get("T")).await;
    assert_eq!(answer.fields.get("value"), Some("a:4"));
    let answer = fixture
        .ask_for(RequestCode::GET_KV_CONFIG, &get("gone"))
        .await;
    assert_eq!(answer.code, 22);
    assert_eq!(
        answer.remark.as_deref(),
        Some("No config item, Namespace: ORDER_TOPIC_CONFIG Key: gone")
    );
    let namespace = GetKVListByNamespaceRequest {
        namespace: "ORDER_TOPIC_CONFIG".to_owned(),
    };
    let table: KvTable = fixture
        .body(RequestCode::GET_KVLIST_BY_NAMESPACE, &namespace)
        .await;
    assert_eq!(table.table.len(), 1);

    // Brokers get the ordered topics when they register, clients with the route.
    let answer = register(&fixture, "a", 0, "a:1", &["T", "U"]).await;
    assert_eq!(&answer.body[..], br#"{"table":{"T":"a:4"}}"#);
    let route: TopicRouteData = fixture
        .body(RequestCode::GET_ROUTEINFO_BY_TOPIC, &route_request("T"))
        .await;
    assert_eq!(route.order_topic_conf.as_deref(), Some("a:4"));
}

#[tokio::test]
async fn a_broken_key_value_file_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("kvConfig.json"), "{\"configTable\":").unwrap();
    let config = Config {
        bind_address: "127.0.0.1".to_owned(),
        listen_port: 0,
        kv_config_path: directory.path().join("kvConfig.json").display().to_string(),
        ..Config::default()
    };
    let started = nameserver::start(config, Context::default(), ServerConfig::default());
    let error = started
        .err()
        .expect("a file that cannot be understood stops the start")
        .to_string();
    assert!(error.contains("kvConfig.json"), "{error}");
}

#[tokio::test]
async fn the_configuration_is_read_and_changed() {
    let fixture = Fixture::start(|_| {});
    let update = async |text: &str| {
        let request = Command::request(RequestCode::UPDATE_NAMESRV_CONFIG, &())
            .with_body(text.as_bytes().to_vec());
        fixture.ask(request).await
    };
    assert_eq!(update("enableTopicList=false\n").await.code, 0);
    let answer = fixture.ask_for(RequestCode::GET_NAMESRV_CONFIG, &()).await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(text.contains("enableTopicList=false\n"), "{text}");
    let answer = fixture.ask_for(RequestCode::GET_UNIT_TOPIC_LIST, &()).await;
    assert_eq!(
        (answer.code, answer.remark.as_deref()),
        (1, Some("disable"))
    );
    let answer = update("kvConfigPath=/tmp/x").await;
    assert_eq!(
        (answer.code, answer.remark.as_deref()),
        (16, Some("Can not update config in black list."))
    );
    assert_eq!(update("needWaitForService=true").await.code, 0);
    let answer = fixture
        .ask_for(RequestCode::GET_ROUTEINFO_BY_TOPIC, &route_request("T"))
        .await;
    assert_eq!(
        (answer.code, answer.remark.as_deref()),
        (1, Some("name server not ready"))
    );
}
