//! Telling the name servers which topics this broker serves: everything at the start and every
//! `registerNameServerPeriod`, a created or changed topic at once, and goodbye at the end.
//!
//! Every name server has its own exchange; one that cannot be reached delays nobody, and is logged when that begins and
//! when it ends. Nothing here is on the message path.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::body::{
    KvTable, RegisterBrokerBody, TopicConfig, TopicConfigAndMappingSerializeWrapper,
};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{RegisterBrokerRequest, UnRegisterBrokerRequest};
use tokio::sync::{Notify, watch};

use crate::Broker;

/// Java keeps the period between 10 and 60 seconds, whatever the file says.
const PERIOD_MS: std::ops::RangeInclusive<u64> = 10_000..=60_000;
/// Changed topics that are told one by one; with more of them everything is told.
const CHANGES_MAX: usize = 256;
/// How long a name server has for its answer to a goodbye. Java: 3 s.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(3);

/// What is to be told, and how far that has come.
#[derive(Debug)]
pub(crate) struct Registration {
    pending: Mutex<Pending>,
    work: Notify,
    /// The number of the last request for registration that every reachable name server has heard of.
    done: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Pending {
    /// Changed topics by name, in the form that is to be told.
    changed: BTreeMap<Arc<str>, Arc<TopicConfig>>,
    everything: bool,
    asked: u64,
}

/// What one round tells.
enum Round {
    Nothing,
    Everything,
    Changed(Vec<Arc<TopicConfig>>),
}

impl Default for Registration {
    fn default() -> Registration {
        Registration {
            pending: Mutex::default(),
            work: Notify::new(),
            done: watch::Sender::new(0),
        }
    }
}

impl Registration {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A topic was created or changed.
    pub(crate) fn topic_changed(&self, topic: &Arc<TopicConfig>) {
        let mut pending = self.pending();
        pending.asked += 1;
        if pending.changed.len() >= CHANGES_MAX {
            pending.everything = true;
            pending.changed.clear();
        }
        if !pending.everything {
            pending
                .changed
                .insert(Arc::from(&*topic.topic_name), topic.clone());
        }
        drop(pending);
        self.work.notify_one();
    }

    /// Topics were deleted, or the broker's own permissions changed: everything is told.
    pub(crate) fn everything_changed(&self) {
        let mut pending = self.pending();
        pending.asked += 1;
        pending.everything = true;
        pending.changed.clear();
        drop(pending);
        self.work.notify_one();
    }

    /// Returns when the name servers have heard of everything that changed before this call, or after `timeout`.
    pub(crate) async fn settled(&self, timeout: Duration) {
        let asked = self.pending().asked;
        let mut done = self.done.subscribe();
        // After the timeout the caller goes on: the next period tells it anyway.
        let _ = tokio::time::timeout(timeout, done.wait_for(|done| *done >= asked)).await;
    }

    fn take(&self) -> (Round, u64) {
        let mut pending = self.pending();
        let changed = std::mem::take(&mut pending.changed);
        let round = if std::mem::take(&mut pending.everything) {
            Round::Everything
        } else if changed.is_empty() {
            Round::Nothing
        } else {
            Round::Changed(changed.into_values().collect())
        };
        (round, pending.asked)
    }
}

/// The task that registers, for as long as the broker runs.
pub(crate) async fn run(broker: Arc<Broker>) {
    let registration = &broker.registration;
    let mut reachable = HashMap::new();
    registration.pending().everything = true;
    loop {
        let (mut round, asked) = registration.take();
        // A name server that has just come up knows nothing of the other topics.
        if matches!(round, Round::Changed(_)) && reachable.values().any(|reachable| !reachable) {
            round = Round::Everything;
        }
        tell(&broker, &round, &mut reachable).await;
        registration.done.send_replace(asked);
        let ms = broker
            .keys()
            .register_name_server_period
            .clamp(*PERIOD_MS.start(), *PERIOD_MS.end());
        let period = Duration::from_millis(ms);
        if tokio::time::timeout(period, registration.work.notified())
            .await
            .is_err()
        {
            registration.pending().everything = true;
        }
    }
}

/// The addresses of `namesrvAddr`.
fn name_servers(broker: &Broker) -> Vec<String> {
    let keys = broker.keys();
    let addresses = keys.namesrv_addr.split([';', ',']).map(str::trim);
    addresses
        .filter(|address| !address.is_empty())
        .map(str::to_owned)
        .collect()
}

async fn tell(broker: &Arc<Broker>, round: &Round, reachable: &mut HashMap<String, bool>) {
    let topics = match round {
        Round::Nothing => return,
        Round::Everything => broker.topics.all(),
        Round::Changed(topics) => topics.clone(),
    };
    let command = registration(broker, &topics);
    let timeout = Duration::from_millis(broker.keys().register_broker_timeout_mills);
    let servers = name_servers(broker);
    reachable.retain(|server, _| servers.contains(server));
    let mut exchanges = tokio::task::JoinSet::new();
    for server in servers {
        let (broker, mut command) = (broker.clone(), command.clone());
        let is_full = matches!(round, Round::Everything);
        exchanges.spawn(async move {
            let mut outcome = exchange(&broker, &server, command, timeout).await;
            // The name server lost this broker and wants to hear everything before anything single.
            if !is_full && matches!(outcome, Err(Failure::Refused { .. })) {
                command = registration(&broker, &broker.topics.all());
                outcome = exchange(&broker, &server, command, timeout).await;
            }
            (server, outcome)
        });
    }
    while let Some(exchanged) = exchanges.join_next().await {
        // A task of this set ends early only when the process ends.
        let Ok((server, outcome)) = exchanged else {
            continue;
        };
        note(broker, server, outcome, reachable);
    }
}

/// Logs once when a name server's state changes.
fn note(
    broker: &Broker,
    server: String,
    outcome: Result<(), Failure>,
    reachable: &mut HashMap<String, bool>,
) {
    let before = reachable.insert(server.clone(), outcome.is_ok());
    match outcome {
        Ok(()) if before != Some(true) => {
            tracing::info!(
                name_server = %server,
                broker = %broker.identity().name,
                advertised = %broker.identity().advertised,
                "registered"
            );
        }
        Err(failure) if before != Some(false) => {
            tracing::warn!(name_server = %server, %failure, "cannot register; clients that ask this name server do not find this broker. Retrying");
        }
        Ok(()) | Err(_) => {}
    }
}

/// Why a name server did not take a registration.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Call(#[from] remoting::CallError),
    #[error("it answered {code}: {remark}")]
    Refused { code: ResponseCode, remark: String },
}

async fn exchange(
    broker: &Broker,
    server: &str,
    command: Command,
    timeout: Duration,
) -> Result<(), Failure> {
    let answer = broker.client.call(server, command, timeout).await?;
    match answer.response_code() {
        ResponseCode::SUCCESS => {
            take_order(broker, &answer);
            Ok(())
        }
        code => Err(Failure::Refused {
            code,
            remark: answer.remark.unwrap_or_default(),
        }),
    }
}

/// The name server's answer lists the topics whose order was configured there. One that it does not list stays as it
/// is, as in Java: an older name server lists none.
fn take_order(broker: &Broker, answer: &Command) {
    if answer.body.is_empty() {
        return;
    }
    let Ok(ordered) = protocol::json::decode::<KvTable>(&answer.body) else {
        return;
    };
    for topic in ordered.table.keys() {
        if broker.topics.set_order(topic, true).is_some() {
            tracing::info!(topic, "the name server says that this topic is ordered");
        }
    }
}

/// REGISTER_BROKER with these topics. Java 5.3: `BrokerOuterAPI.registerBrokerAll`.
fn registration(broker: &Broker, topics: &[Arc<TopicConfig>]) -> Command {
    let identity = broker.identity();
    let permission = broker.keys().broker_permission;
    let table = topics.iter().map(|config| {
        let mut config = TopicConfig::clone(config);
        // A broker that takes no messages says so for each of its topics.
        if !(protocol::perm::is_readable(permission) && protocol::perm::is_writable(permission)) {
            config.perm &= permission;
        }
        (config.topic_name.clone(), config)
    });
    let body = RegisterBrokerBody {
        topic_config_serialize_wrapper: TopicConfigAndMappingSerializeWrapper {
            topic_config_table: table.collect(),
            data_version: broker.topics.data_version(),
            ..Default::default()
        },
        filter_server_list: Vec::new(),
    };
    let body = body.encode(false);
    let header = RegisterBrokerRequest {
        broker_name: identity.name.to_string(),
        broker_addr: identity.advertised.to_string(),
        cluster_name: identity.cluster.to_string(),
        ha_server_addr: identity.replica_address.to_string(),
        broker_id: identity.id,
        heartbeat_timeout_ms: None,
        enable_acting_master: Some(false),
        compressed: false,
        body_crc: protocol::record::body_crc(&body) as i32,
    };
    Command::request(RequestCode::REGISTER_BROKER, &header).with_body(body)
}

/// Tells every name server that this broker goes. One that does not answer finds out by itself.
pub(crate) async fn unregister(broker: &Arc<Broker>) {
    let identity = broker.identity();
    let header = UnRegisterBrokerRequest {
        broker_name: identity.name.to_string(),
        broker_addr: identity.advertised.to_string(),
        cluster_name: identity.cluster.to_string(),
        broker_id: identity.id,
    };
    let command = Command::request(RequestCode::UNREGISTER_BROKER, &header);
    let mut exchanges = tokio::task::JoinSet::new();
    for server in name_servers(broker) {
        let (broker, command) = (broker.clone(), command.clone());
        exchanges.spawn(async move {
            if let Err(failure) = exchange(&broker, &server, command, GOODBYE_TIMEOUT).await {
                tracing::info!(name_server = %server, %failure, "did not hear that this broker stops");
            }
        });
    }
    while exchanges.join_next().await.is_some() {}
}
