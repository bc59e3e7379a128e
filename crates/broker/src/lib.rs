//! Keeps and hands out messages.
//!
//! A [`Broker`] is a handful of parts. A request goes through [`service`]'s one table from code to handler; sends and
//! pulls go their own, short way there.
//!
//! | part | subject |
//! |---|---|
//! | [`config`] | the keys of a broker's configuration |
//! | `topics`, `groups`, `offsets` | what is kept in `config/*.json` |
//! | `clients`, `locks`, `notify` | who is connected, who may consume which queue in order, who must be told |
//! | `longpoll` | pulls that wait for a message |
//! | `registration` | telling the name servers |
//! | `requests` | one file a request |

pub mod call;
pub mod config;
mod service;
mod longpoll;
mod registration;
mod requests;
mod system_topics;

mod clients;
mod groups;
mod locks;
mod notify;
mod offsets;
mod persist;
mod topics;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use platform::clock::Clock;
use platform::disk::Disk;
use protocol::body::TopicConfig;
use storage::Store;

pub use config::BrokerKeys;

/// A broker that serves.
///
/// Parts are reached by name; a handler uses the two or three that it needs.
pub struct Broker {
    keys: RwLock<Arc<BrokerKeys>>,
    identity: Identity,
    clock: Arc<dyn Clock>,
    started_at_ms: i64,
    pub(crate) store: Arc<Store>,
    pub(crate) topics: topics::Topics,
    pub(crate) groups: groups::Groups,
    pub(crate) offsets: offsets::Offsets,
    pub(crate) clients: clients::Clients,
    pub(crate) locks: locks::QueueLocks,
    pub(crate) longpoll: longpoll::LongPoll,
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
    /// The address that clients are told, part of every message id.
    pub address: SocketAddr,
    /// The address for replicas.
    pub replica_address: SocketAddr,
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

impl Broker {
    /// The configuration as it is at this moment.
    pub fn keys(&self) -> Arc<BrokerKeys> {
        self.keys.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Replaces the configuration; it holds for requests that arrive from here on.
    pub(crate) fn set_keys(&self, keys: BrokerKeys) {
        *self.keys.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Arc::new(keys);
    }

    /// Who this broker is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// When the broker started.
    pub(crate) fn started_at_ms(&self) -> i64 {
        self.started_at_ms
    }

    /// A topic was created or changed: the name servers are told at once. Its file is the caller's (`topics`).
    pub(crate) fn topic_changed(&self, topic: &Arc<TopicConfig>) {
        self.registration.topic_changed(topic);
    }
}
