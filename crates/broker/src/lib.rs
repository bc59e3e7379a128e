//! Keeps and hands out messages.
//!
//! A [`Broker`] is a handful of parts. A request goes through one table from code to handler (`service`); sends and
//! pulls go their own, short way there.
//!
//! | part | subject |
//! |---|---|
//! | [`config`], `settings` | the keys of a broker's configuration; what the message path needs of them |
//! | `start` | from a configuration to a broker that listens, and back |
//! | `topics`, `groups`, `offsets`, `persist` | what is kept in `config/*.json` |
//! | `filters` | what consumers want beside tags: their expressions, compiled |
//! | `clients`, `locks`, `notify` | who is connected, who may consume which queue in order, who must be told |
//! | `broadcast` | how far the clients of groups are whose members all get everything |
//! | `compaction` | topics of which the latest message of each key is kept |
//! | `cold` | groups that read too much from the disk |
//! | `longpoll` | pulls that wait for a message |
//! | `pop`, `request_modes` | consumption by pop; which groups consume so |
//! | `static_topics` | topics of which queues have global numbers |
//! | `schedule` | messages that are delivered later, by delay level |
//! | `timers` | messages that are delivered later, at a time of their own |
//! | `transactions` | messages that wait for their transaction's end |
//! | `arrivals` | who of them is told of a queue's new messages |
//! | `registration`, `system_topics` | telling the name servers; the topics that every broker has |
//! | `counters`, `rates`, `stats` | how much came and went: in all, a second, by topic and group |
//! | `overload` | what is refused when too much comes |
//! | `requests` | one file a request |
//!
//! Invariants: nothing on the message path waits for a file, a lock of another connection's work, or a name server; a
//! request that may, runs on the blocking pool under a permit; no request makes the broker panic.

mod arrivals;
mod broadcast;
pub mod call;
mod cold;
mod compaction;
pub mod config;
mod counters;
mod longpoll;
mod pop;
mod registration;
mod request_modes;
mod requests;
mod schedule;
mod service;
mod settings;
mod start;
mod system_topics;
mod text;
mod timers;

mod clients;
mod filters;
mod groups;
mod locks;
mod notify;
mod offsets;
mod overload;
mod persist;
mod rates;
mod static_topics;
mod stats;
mod topics;
mod transactions;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use platform::clock::Clock;
use platform::disk::Disk;
use protocol::body::TopicConfig;
use protocol::message_id::UniqueIds;
use remoting::{Account, Budget, Connection, Permit};
use storage::Store;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use call::Refusal;
use settings::Settings;

pub use config::BrokerKeys;
pub use start::{Running, StartError};

/// Requests of all connections that are on the blocking pool or wait for it. Each holds a copy of its request.
const BLOCKING_REQUESTS_MAX: usize = 4096;
/// The id of the broker that takes writes; its replicas have larger ones.
const MASTER_ID: i64 = 0;

/// A broker that serves.
///
/// Parts are reached by name; a handler uses the two or three that it needs.
pub struct Broker {
    settings: RwLock<Arc<Settings>>,
    identity: Identity,
    context: Context,
    started_at_ms: i64,
    config_dir: PathBuf,
    next_queue: AtomicU32,
    blocking: Arc<Semaphore>,
    /// Replies on their way to the clients that asked.
    pub(crate) replies: Arc<Semaphore>,
    /// Of the memory of all connections; `connectionMemoryBytes`.
    pub(crate) budget: Arc<Budget>,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) client: Arc<remoting::Client>,
    pub(crate) unique_ids: UniqueIds,
    pub(crate) counters: counters::Counters,
    pub(crate) rates: rates::Rates,
    pub(crate) stats: stats::Stats,
    pub(crate) store: Arc<Store>,
    pub(crate) topics: topics::Topics,
    pub(crate) groups: groups::Groups,
    pub(crate) offsets: offsets::Offsets,
    pub(crate) clients: clients::Clients,
    pub(crate) filters: filters::Filters,
    pub(crate) locks: locks::QueueLocks,
    pub(crate) broadcasts: broadcast::BroadcastOffsets,
    pub(crate) cold_reads: Arc<cold::ColdReads>,
    pub(crate) longpoll: Arc<longpoll::LongPoll>,
    pub(crate) pop: Arc<pop::Pop>,
    pub(crate) request_modes: request_modes::RequestModes,
    pub(crate) static_topics: static_topics::StaticTopics,
    pub(crate) schedule: Arc<schedule::Schedule>,
    pub(crate) transactions: Arc<transactions::Transactions>,
    /// None when `timerWheelEnable` is off.
    pub(crate) timers: Option<Arc<timers::Timers>>,
    pub(crate) registration: registration::Registration,
}

/// Who this broker is. Fixed when it starts.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `brokerClusterName`.
    pub cluster: Arc<str>,
    /// `brokerName`.
    pub name: Arc<str>,
    /// `brokerId`; 0 is the master.
    pub id: i64,
    /// The address that clients are told, as it is written into registrations.
    pub advertised: Arc<str>,
    /// The same as numbers: part of every message id.
    pub address: SocketAddr,
    /// The address that replicas are told.
    pub replica_address: Arc<str>,
}

/// The effects that a broker works with, so that tests may control them.
#[derive(Clone)]
pub struct Context {
    /// Where files lie.
    pub disk: Arc<dyn Disk>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Connections to name servers.
    pub client: Arc<remoting::Client>,
    /// The file that `-c` named, for the commands that update it; none when there was no file.
    pub config_file: Option<PathBuf>,
}

/// A place among the requests that are handled on the blocking pool. Given back when dropped.
pub(crate) struct BlockingPermit {
    _of_connection: Permit,
    _of_broker: OwnedSemaphorePermit,
    _memory: Account,
}

impl Broker {
    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.settings
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The configuration as it is at this moment.
    pub fn keys(&self) -> Arc<BrokerKeys> {
        self.settings().keys.clone()
    }

    /// Replaces the configuration; it holds for requests that arrive from here on. What was used to start (ports,
    /// directories, names, the flush mode) stays as it was until the next start.
    pub(crate) fn set_keys(&self, keys: BrokerKeys) {
        let before = self.keys();
        let permission_changed = before.broker_permission != keys.broker_permission;
        if before.data_read_ahead_enable != keys.data_read_ahead_enable {
            self.store.set_read_ahead(keys.data_read_ahead_enable);
        }
        let settings = Settings::new(Arc::new(keys), &self.identity);
        *self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        if permission_changed {
            self.registration.everything_changed();
        }
    }

    /// Who this broker is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The effects that it works with.
    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// The directory of `topics.json`, `consumerOffset.json` and their like.
    pub(crate) fn config_dir(&self) -> &std::path::Path {
        &self.config_dir
    }

    /// Milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> i64 {
        self.context.clock.now_ms()
    }

    /// When the broker started.
    pub(crate) fn started_at_ms(&self) -> i64 {
        self.started_at_ms
    }

    /// A number that grows by one each time, for handing out queues in turn.
    pub(crate) fn next_queue(&self) -> u32 {
        self.next_queue.fetch_add(1, Ordering::Relaxed)
    }

    /// A topic was created or changed: the name servers are told at once. Its file is the caller's (`topics`).
    pub(crate) fn topic_changed(&self, topic: &Arc<TopicConfig>) {
        self.registration.topic_changed(topic);
    }

    /// Topics were deleted: the name servers are told what is left.
    pub(crate) fn topics_deleted(&self) {
        self.registration.topics_deleted(self.topics.len());
    }

    /// Waits until the name servers have heard of every change so far, or do not answer. Blocks: only for handlers
    /// of `Kind::Blocking`.
    pub(crate) fn wait_for_registration(&self, timeout: Duration) {
        self.runtime.block_on(self.registration.settled(timeout));
    }

    /// A place for one request of `connection` on the blocking pool, with a copy of `bytes`.
    pub(crate) fn blocking_permit(
        &self,
        connection: &Connection,
        bytes: usize,
    ) -> Result<BlockingPermit, Refusal> {
        let of_connection = connection.permit().ok_or_else(|| {
            let limit = connection.permits_max();
            overload::too_many(limit, "requests of this connection wait for the disk")
        })?;
        let of_broker = self.blocking.clone().try_acquire_owned();
        let of_broker = of_broker
            .map_err(|_| overload::too_many(BLOCKING_REQUESTS_MAX, "requests wait for the disk"))?;
        Ok(BlockingPermit {
            _of_connection: of_connection,
            _of_broker: of_broker,
            _memory: overload::room(&self.budget, bytes)?,
        })
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}
