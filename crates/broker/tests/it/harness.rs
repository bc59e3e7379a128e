//! A broker on a directory of its own and a free port, and a client that says what each request needs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, BrokerKeys, Context, Running};
use bytes::Bytes;
use platform::clock::RealClock;
use platform::disk::{Disk, RealDisk};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::frame::Codec;
use protocol::headers::{
    PullMessageRequest, PullMessageResponse, SendMessageRequest, SendMessageRequestV2,
    SendMessageResponse,
};
use protocol::properties;
use protocol::record::{self, CheckBody};
use protocol::sysflag;
use remoting::{Client, ClientConfig, NoPushes};
use tempfile::TempDir;

/// Long enough for a loaded machine, short enough for a test that hangs.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// A running broker.
pub(crate) struct TestBroker {
    pub(crate) running: Running,
    pub(crate) client: Arc<Client>,
    pub(crate) keys: BrokerKeys,
    pub(crate) disk: Arc<dyn Disk>,
    dir: TempDir,
}

/// A broker's directory while none runs on it.
pub(crate) struct Stopped {
    keys: BrokerKeys,
    disk: Arc<dyn Disk>,
    dir: TempDir,
}

impl Stopped {
    /// Starts on it again.
    pub(crate) async fn start(self) -> TestBroker {
        let Stopped { keys, disk, dir } = self;
        TestBroker {
            running: run(&keys, disk.clone(), client()).await,
            client: client(),
            keys,
            disk,
            dir,
        }
    }
}

pub(crate) fn client() -> Arc<Client> {
    client_with(ClientConfig::default())
}

pub(crate) fn client_with(config: ClientConfig) -> Arc<Client> {
    Arc::new(Client::new(config, Arc::new(NoPushes)))
}

impl TestBroker {
    /// With the defaults, files small enough for a test, and a change of the test's own.
    pub(crate) async fn start_with(change: impl FnOnce(&mut BrokerKeys)) -> TestBroker {
        Self::start_on(Arc::new(RealDisk), change).await
    }

    /// The same on a disk of the test's own.
    pub(crate) async fn start_on(
        disk: Arc<dyn Disk>,
        change: impl FnOnce(&mut BrokerKeys),
    ) -> TestBroker {
        let dir = TempDir::new().unwrap();
        let mut keys = BrokerKeys {
            bind_address: "127.0.0.1".to_owned(),
            listen_port: 0,
            store_path_root_dir: dir.path().join("store").display().to_string(),
            mapped_file_size_commit_log: 64 << 20,
            max_hash_slot_num: 1_000,
            max_index_num: 4_000,
            // The machine that runs the tests may have a full disk for all they know.
            disk_max_used_space_ratio: 99,
            disk_space_clean_forcibly_ratio: 100,
            disk_space_warning_level_ratio: 100,
            ..BrokerKeys::default()
        };
        change(&mut keys);
        let running = run(&keys, disk.clone(), client()).await;
        TestBroker {
            running,
            client: client(),
            keys,
            disk,
            dir,
        }
    }

    pub(crate) async fn start() -> TestBroker {
        Self::start_with(|_| {}).await
    }

    /// Without waiting for the disk, for tests that send much.
    pub(crate) async fn start_async_flush() -> TestBroker {
        Self::start_with(|keys| keys.flush_disk_type = "ASYNC_FLUSH".to_owned()).await
    }

    /// Stops cleanly and starts again on the same directory.
    pub(crate) async fn restart(self) -> TestBroker {
        self.stop().await.start().await
    }

    /// Stops cleanly; the directory stays.
    pub(crate) async fn stop(self) -> Stopped {
        self.running.shutdown().await.unwrap();
        self.client.shutdown();
        Stopped {
            keys: self.keys,
            disk: self.disk,
            dir: self.dir,
        }
    }

    /// Goes on with what another disk has of the same files, as after a death of the process or a loss of power.
    pub(crate) async fn go_on_with(mut self, disk: Arc<dyn Disk>) -> TestBroker {
        self.running.shutdown().await.unwrap();
        self.client.shutdown();
        self.running = run(&self.keys, disk.clone(), client()).await;
        self.client = client();
        self.disk = disk;
        self
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.running.local_addr()
    }

    /// Sends a request and gives the answer, whatever its code.
    pub(crate) async fn call(&self, command: Command) -> Command {
        self.client
            .call(&self.addr().to_string(), command, TIMEOUT)
            .await
            .unwrap()
    }

    pub(crate) async fn send(&self, topic: &str, body: &[u8], props: &str) -> Command {
        self.call(send_v2(topic, 0, body, props)).await
    }

    /// Sends and expects success.
    pub(crate) async fn sent(&self, topic: &str, body: &[u8], props: &str) -> SendMessageResponse {
        let answer = self.send(topic, body, props).await;
        assert_eq!(
            answer.response_code(),
            ResponseCode::SUCCESS,
            "{:?}",
            answer.remark
        );
        answer.header().unwrap()
    }

    /// What lies in queue 0 of a topic, from `offset` on.
    pub(crate) async fn pulled(
        &self,
        topic: &str,
        offset: i64,
    ) -> (Command, PullMessageResponse, Vec<Message>) {
        let answer = self.call(pull(topic, 0, offset)).await;
        let header = answer.header().unwrap();
        let messages = messages(&answer.body);
        (answer, header, messages)
    }

    /// What `topics.json` and its journal hold. A topic leaves the journal when the file has it, so the journal is read first.
    pub(crate) fn topic_files(&self) -> String {
        let read = |name| {
            let path = format!("{}/config/{name}", self.keys.store_path_root_dir);
            let bytes = std::fs::read(path).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        read("topics.journal") + &read("topics.json")
    }

    pub(crate) async fn max_offset(&self, topic: &str) -> i64 {
        let (_, header, _) = self.pulled(topic, 0).await;
        header.max_offset
    }
}

async fn run(keys: &BrokerKeys, disk: Arc<dyn Disk>, client: Arc<Client>) -> Running {
    let context = Context {
        disk,
        clock: Arc::new(RealClock::new()),
        client,
        config_file: None,
    };
    Broker::start(keys.clone(), context).await.unwrap()
}

/// A message as a consumer reads it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Message {
    pub(crate) queue_offset: i64,
    pub(crate) body: Vec<u8>,
    pub(crate) topic: String,
    pub(crate) physical_offset: i64,
    pub(crate) sys_flag: i32,
    pub(crate) prepared_transaction_offset: i64,
    pub(crate) properties: String,
    pub(crate) flag: i32,
    pub(crate) reconsume_times: i32,
}

impl Message {
    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        properties::get(&self.properties, name)
    }
}

pub(crate) fn messages(mut body: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while !body.is_empty() {
        let record = record::decode(body, CheckBody::Yes).unwrap();
        messages.push(Message {
            queue_offset: record.queue_offset as i64,
            body: record.body.to_vec(),
            topic: record.topic.to_owned(),
            physical_offset: record.physical_offset as i64,
            sys_flag: record.sys_flag,
            prepared_transaction_offset: record.prepared_transaction_offset,
            properties: record.properties.to_owned(),
            flag: record.flag,
            reconsume_times: record.reconsume_times,
        });
        body = &body[record.size as usize..];
    }
    messages
}

/// A property string from pairs.
pub(crate) fn props(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        properties::push(&mut text, name, value);
    }
    text
}

pub(crate) fn send_header<'a>(
    topic: &'a str,
    queue_id: i32,
    props: &'a str,
) -> SendMessageRequest<'a> {
    SendMessageRequest {
        producer_group: "producers".into(),
        topic: topic.into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 4,
        queue_id,
        born_timestamp_ms: 1_700_000_000_000,
        flag: 7,
        properties: Some(props.into()),
        ..Default::default()
    }
}

pub(crate) fn send_v2(topic: &str, queue_id: i32, body: &[u8], props: &str) -> Command {
    let header = SendMessageRequestV2(send_header(topic, queue_id, props));
    Command::request(RequestCode::SEND_MESSAGE_V2, &header).with_body(Bytes::copy_from_slice(body))
}

pub(crate) fn send_v1(topic: &str, queue_id: i32, body: &[u8], props: &str) -> Command {
    let header = send_header(topic, queue_id, props);
    Command::request(RequestCode::SEND_MESSAGE, &header).with_body(Bytes::copy_from_slice(body))
}

/// A pull as a lite pull consumer makes it: with its own subscription to everything, without waiting.
pub(crate) fn pull_header(topic: &str, queue_id: i32, offset: i64) -> PullMessageRequest {
    PullMessageRequest {
        consumer_group: "consumers".to_owned(),
        topic: topic.to_owned(),
        queue_id,
        queue_offset: offset,
        messages_max: 32,
        sys_flag: sysflag::PULL_SUBSCRIPTION,
        subscription: Some("*".to_owned()),
        ..Default::default()
    }
}

pub(crate) fn pull(topic: &str, queue_id: i32, offset: i64) -> Command {
    Command::request(
        RequestCode::PULL_MESSAGE,
        &pull_header(topic, queue_id, offset),
    )
}

/// A pull that waits for up to `suspend_ms`.
pub(crate) fn long_pull(topic: &str, offset: i64, subscription: &str, suspend_ms: i64) -> Command {
    let mut header = pull_header(topic, 0, offset);
    header.sys_flag |= sysflag::PULL_SUSPEND;
    header.suspend_timeout_ms = suspend_ms;
    header.subscription = Some(subscription.to_owned());
    Command::request(RequestCode::PULL_MESSAGE, &header)
}

pub(crate) fn with_codec(mut command: Command, codec: Codec) -> Command {
    command.codec = codec;
    command
}
