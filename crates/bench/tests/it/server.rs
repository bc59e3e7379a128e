//! A broker on a directory of its own and a free port, and loads short enough for a test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bench::Load;
use broker::{Broker, BrokerKeys, Context};
use platform::clock::RealClock;
use platform::disk::RealDisk;
use remoting::{Client, ClientConfig, NoPushes};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Ends when dropped. It runs on threads of its own, since the generator blocks those that call it.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) runtime: Runtime,
    _broker: broker::Running,
    pub(crate) dir: TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let dir = TempDir::new().unwrap();
        let keys = BrokerKeys {
            bind_address: "127.0.0.1".to_owned(),
            listen_port: 0,
            store_path_root_dir: dir.path().join("store").display().to_string(),
            mapped_file_size_commit_log: 64 << 20,
            max_hash_slot_num: 1_000,
            max_index_num: 4_000,
            flush_disk_type: "ASYNC_FLUSH".to_owned(),
            // The machine that runs the tests may have a full disk for all they know.
            disk_max_used_space_ratio: 99,
            disk_space_clean_forcibly_ratio: 100,
            disk_space_warning_level_ratio: 100,
            ..BrokerKeys::default()
        };
        let context = Context {
            disk: Arc::new(RealDisk),
            clock: Arc::new(RealClock::new()),
            client: Arc::new(Client::new(ClientConfig::default(), Arc::new(NoPushes))),
            config_file: None,
        };
        let broker = runtime.block_on(Broker::start(keys, context)).unwrap();
        Self {
            addr: broker.local_addr(),
            runtime,
            _broker: broker,
            dir,
        }
    }
}

/// Two connections with two small requests in flight each, for a moment.
pub(crate) fn short(target: SocketAddr) -> Load {
    Load {
        queues: 4,
        connections: 2,
        window: 2,
        body_bytes: 64,
        warmup: Duration::from_millis(50),
        measured: Duration::from_millis(250),
        settle: Duration::from_millis(500),
        ..Load::new(target)
    }
}
