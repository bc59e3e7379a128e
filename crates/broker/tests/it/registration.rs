//! What name servers hear.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use protocol::body::RegisterBrokerBody;
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::RegisterBrokerRequest;
use protocol::reply::ReplyHead;
use remoting::{Connection, Gate, HeldFailure, Replies, Request, Server, ServerConfig, Service};
use tokio::sync::{Notify, watch};

use crate::harness::*;

/// A name server that takes everything and remembers it.
#[derive(Default)]
struct Listener {
    heard: Mutex<Vec<Command>>,
    news: Notify,
}

impl Service for Listener {
    fn serve(&self, _: &Arc<Connection>, requests: &[Request<'_>], replies: &mut Replies) {
        for request in requests {
            self.heard.lock().unwrap().push(request.to_command());
            replies.reply(request.head(), ResponseCode::SUCCESS, None, &(), &[]);
        }
        self.news.notify_one();
    }

    fn refuse_held(&self, _: HeldFailure, _: ReplyHead, _: &Command, _: &mut Replies) {}

    fn gate(&self) -> Option<watch::Receiver<Gate>> {
        None
    }

    fn closed(&self, _: &Arc<Connection>) {}
}

impl Listener {
    /// Waits for a command that `is` it, and takes everything that was heard up to then.
    async fn hear(&self, is: impl Fn(&Command) -> bool) -> Command {
        let wait = async {
            loop {
                let found = {
                    let mut heard = self.heard.lock().unwrap();
                    let at = heard.iter().position(&is);
                    at.and_then(|at| heard.drain(..=at).next_back())
                };
                if let Some(found) = found {
                    return found;
                }
                self.news.notified().await;
            }
        };
        tokio::time::timeout(TIMEOUT, wait)
            .await
            .expect("the name server never heard it")
    }
}

fn topics_of(command: &Command) -> Vec<String> {
    let body = RegisterBrokerBody::decode(&command.body, false, command.version).unwrap();
    body.topic_config_serialize_wrapper
        .topic_config_table
        .into_keys()
        .collect()
}

#[tokio::test]
async fn name_servers_hear_of_the_broker_of_new_topics_and_of_its_end() {
    let listeners: Vec<Arc<Listener>> = (0..2).map(|_| Arc::default()).collect();
    let servers: Vec<Server> = listeners
        .iter()
        .map(|listener| {
            Server::bind(
                "127.0.0.1:0".parse().unwrap(),
                ServerConfig::default(),
                listener.clone(),
            )
            .unwrap()
        })
        .collect();
    let mut addresses: Vec<String> = servers
        .iter()
        .map(|server| server.local_addr().to_string())
        .collect();
    // One that nobody is at delays nothing.
    addresses.push("127.0.0.1:1".to_owned());
    let broker = TestBroker::start_with(|keys| keys.namesrv_addr = addresses.join(";")).await;
    for listener in &listeners {
        let full = listener
            .hear(|command| command.request_code() == RequestCode::REGISTER_BROKER)
            .await;
        let header: RegisterBrokerRequest = full.header().unwrap();
        assert_eq!(
            (header.broker_name.as_str(), header.broker_id),
            ("broker-a", 0)
        );
        assert_eq!(header.cluster_name, "DefaultCluster");
        assert_eq!(header.broker_addr, broker.addr().to_string());
        assert_eq!(
            header.body_crc as u32,
            protocol::record::body_crc(&full.body)
        );
        let topics = topics_of(&full);
        for topic in [
            "TBW102",
            "DefaultCluster",
            "broker-a",
            "SELF_TEST_TOPIC",
            "BenchmarkTest",
            "OFFSET_MOVED_EVENT",
            "SCHEDULE_TOPIC_XXXX",
            "DefaultCluster_REPLY_TOPIC",
            "rmq_sys_REVIVE_LOG_DefaultCluster",
            "rmq_sys_SYNC_BROKER_MEMBER_broker-a",
            "RMQ_SYS_TRANS_HALF_TOPIC",
            "RMQ_SYS_TRANS_OP_HALF_TOPIC",
        ] {
            assert!(
                topics.iter().any(|known| known == topic),
                "{topic} is not registered"
            );
        }
    }
    broker.sent("Fresh", b"x", "").await;
    for listener in &listeners {
        listener
            .hear(|command| topics_of(command).iter().any(|topic| topic == "Fresh"))
            .await;
    }
    tokio::time::timeout(Duration::from_secs(10), broker.running.shutdown())
        .await
        .unwrap()
        .unwrap();
    for listener in &listeners {
        listener
            .hear(|command| command.request_code() == RequestCode::UNREGISTER_BROKER)
            .await;
    }
}

#[tokio::test]
async fn many_topics_are_registered_in_parts_that_differ_in_their_version() {
    const TOPICS: usize = 30_000;
    let listener = Arc::<Listener>::default();
    let server = Server::bind(
        "127.0.0.1:0".parse().unwrap(),
        ServerConfig::default(),
        listener.clone(),
    )
    .unwrap();
    let address = server.local_addr().to_string();
    let broker = TestBroker::start_with(|keys| {
        let config = format!("{}/config", keys.store_path_root_dir);
        std::fs::create_dir_all(&config).unwrap();
        let topics = (0..TOPICS).map(|number| format!("\"topic-{number}\":{{\"perm\":6}}"));
        let topics = topics.collect::<Vec<_>>().join(",");
        let text =
            format!("{{\"dataVersion\":{{\"counter\":1}},\"topicConfigTable\":{{{topics}}}}}");
        std::fs::write(format!("{config}/topics.json"), text).unwrap();
        keys.namesrv_addr = address;
    })
    .await;
    let (mut heard, mut versions) = (std::collections::BTreeSet::new(), Vec::new());
    while heard
        .iter()
        .filter(|name: &&String| name.starts_with("topic-"))
        .count()
        < TOPICS
    {
        let part = listener
            .hear(|command| command.request_code() == RequestCode::REGISTER_BROKER)
            .await;
        assert!(part.body.len() < 6 << 20, "{} bytes", part.body.len());
        let body = RegisterBrokerBody::decode(&part.body, false, part.version).unwrap();
        let wrapper = body.topic_config_serialize_wrapper;
        assert!(!versions.contains(&wrapper.data_version));
        versions.push(wrapper.data_version);
        heard.extend(wrapper.topic_config_table.into_keys());
    }
    assert!(versions.len() > 1, "a single message told everything");
    drop(broker);
}
