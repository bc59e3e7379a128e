//! A name server and brokers on free ports and directories of their own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::{Broker, BrokerKeys};
use platform::clock::RealClock;
use platform::disk::RealDisk;
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::CreateTopicRequest;
use remoting::{Client, ClientConfig, NoPushes, ServerConfig};
use tempfile::TempDir;

/// Long enough for a loaded machine, short enough for a test that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Ends when dropped.
pub(crate) struct Cluster {
    nameserver: nameserver::Running,
    brokers: Vec<Option<broker::Running>>,
    _dirs: Vec<TempDir>,
}

impl Cluster {
    /// `names` are the brokers' names.
    pub(crate) async fn start(names: &[&str]) -> Self {
        Self::start_with(names, |_| {}).await
    }

    /// The same, with a change of every broker's configuration.
    pub(crate) async fn start_with(names: &[&str], change: impl Fn(&mut BrokerKeys)) -> Self {
        let mut dirs = vec![TempDir::new().unwrap()];
        let config = nameserver::Config {
            bind_address: "127.0.0.1".to_owned(),
            listen_port: 0,
            kv_config_path: dirs[0].path().join("kvConfig.json").display().to_string(),
            ..nameserver::Config::default()
        };
        let context = nameserver::Context::default();
        let nameserver = nameserver::start(config, context, ServerConfig::default()).unwrap();
        let mut brokers = Vec::new();
        for name in names {
            let dir = TempDir::new().unwrap();
            let mut keys = BrokerKeys {
                broker_name: (*name).to_owned(),
                bind_address: "127.0.0.1".to_owned(),
                broker_ip1: "127.0.0.1".to_owned(),
                listen_port: 0,
                namesrv_addr: nameserver.local_addr().to_string(),
                store_path_root_dir: dir.path().join("store").display().to_string(),
                mapped_file_size_commit_log: 64 << 20,
                max_hash_slot_num: 1_000,
                max_index_num: 4_000,
                disk_max_used_space_ratio: 99,
                disk_space_clean_forcibly_ratio: 100,
                disk_space_warning_level_ratio: 100,
                ..BrokerKeys::default()
            };
            change(&mut keys);
            let context = broker::Context {
                disk: Arc::new(RealDisk),
                clock: Arc::new(RealClock::new()),
                client: Arc::new(Client::new(ClientConfig::default(), Arc::new(NoPushes))),
                config_file: None,
            };
            let running = Broker::start(keys, context).await.unwrap();
            running.registered(PATIENCE).await;
            brokers.push(Some(running));
            dirs.push(dir);
        }
        Self {
            nameserver,
            brokers,
            _dirs: dirs,
        }
    }

    pub(crate) fn nameserver(&self) -> String {
        self.nameserver.local_addr().to_string()
    }

    /// Where a broker listens.
    pub(crate) fn broker(&self, index: usize) -> String {
        self.brokers[index]
            .as_ref()
            .unwrap()
            .local_addr()
            .to_string()
    }

    /// Creates a topic of four queues on every broker, and returns when the name server knows all of them.
    pub(crate) async fn create_topic(&self, topic: &str) {
        self.create_topic_with(topic, "").await;
    }

    /// The same, with attributes.
    pub(crate) async fn create_topic_with(&self, topic: &str, attributes: &str) {
        let client = Client::new(ClientConfig::default(), Arc::new(NoPushes));
        for broker in self.brokers.iter().flatten() {
            let header = CreateTopicRequest {
                topic: topic.to_owned(),
                default_topic: "TBW102".to_owned(),
                read_queue_nums: 4,
                write_queue_nums: 4,
                perm: 6,
                topic_filter_type: "SINGLE_TAG".to_owned(),
                attributes: Some(attributes.to_owned()),
                ..CreateTopicRequest::default()
            };
            let request = Command::request(RequestCode::UPDATE_AND_CREATE_TOPIC, &header);
            let addr = broker.local_addr().to_string();
            let response = client.call(&addr, request, PATIENCE).await.unwrap();
            assert_eq!(
                response.response_code(),
                ResponseCode::SUCCESS,
                "{:?}",
                response.remark
            );
        }
        client.shutdown();
        let reader = client::PullConsumer::new("route", &self.nameserver()).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while reader.queues(topic).await.map_or(0, |queues| queues.len()) < 4 * self.brokers.len() {
            assert!(
                Instant::now() < deadline,
                "the route of {topic} is not complete"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        reader.shutdown().await;
    }

    /// Stops one broker for good.
    pub(crate) async fn stop(&mut self, index: usize) {
        let broker = self.brokers[index].take().unwrap();
        broker.shutdown().await.unwrap();
    }
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "{what} did not come true within {PATIENCE:?}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
