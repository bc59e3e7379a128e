//! Telling the name servers which topics this broker serves: everything at the start, a created or changed topic at once,
//! and goodbye at the end. Every `registerNameServerPeriod` each is asked whether it still has what it was told last
//! (QUERY_DATA_VERSION); only one that has not is told everything again.
//!
//! Every name server has its own exchange; one that cannot be reached delays nobody, and is logged when that begins and
//! when it ends. Nothing here is on the message path.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::body::{
    DataVersion, KvTable, RegisterBrokerBody, TopicConfig, TopicConfigAndMappingSerializeWrapper,
};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{
    QueryDataVersionRequest, QueryDataVersionResponse, RegisterBrokerRequest,
    UnRegisterBrokerRequest,
};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::Broker;

/// Java keeps the period between 10 and 60 seconds, whatever the file says.
const PERIOD_MS: std::ops::RangeInclusive<u64> = 10_000..=60_000;
/// What one message tells, in bytes of its body, about. A frame takes 16 MiB; more topics come in parts, as from a Java broker with
/// `enableSplitRegistration`. Up to here (some 20,000 topics) they do not, since a name server with
/// `deleteTopicWithBrokerRegistration` takes a part for the whole.
const PART_BYTES: usize = 4 << 20;
/// What a topic takes in a body besides its name, which is there twice, and its attributes.
const TOPIC_BYTES: usize = 180;
/// Up to so many topics, everything is told when one was deleted; with more, that waits for the next period, since name
/// servers forget deleted topics by another request anyway.
const TOLD_AFTER_DELETION: usize = 1000;
/// How long a name server has for its answer to a goodbye. Java: 3 s.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(3);

/// What is to be told, and how far that has come.
#[derive(Debug)]
pub(crate) struct Registration {
    pending: Mutex<Pending>,
    work: Notify,
    /// The number of the last request for registration that every reachable name server has heard of.
    done: watch::Sender<u64>,
    /// The last message's timestamp.
    stamp: AtomicI64,
}

/// Bounded by the topics that there are: a topic is in it once.
#[derive(Debug, Default)]
struct Pending {
    /// Changed topics by name, in the form that is to be told.
    changed: BTreeMap<Arc<str>, Arc<TopicConfig>>,
    everything: bool,
    /// Topics were deleted: the next period tells everything.
    deleted: bool,
    /// It is time to look whether the name servers still know.
    period: bool,
    asked: u64,
}

/// What one round tells.
#[derive(Clone)]
enum Round {
    Nothing,
    /// Everything, to name servers that lack something.
    Period,
    Everything,
    Changed(Arc<[Arc<TopicConfig>]>),
}

/// How a name server stands.
#[derive(Debug)]
struct Heard {
    /// The version of the last message that it took; none when it has to be told everything.
    version: Option<DataVersion>,
}

impl Default for Registration {
    fn default() -> Registration {
        Registration {
            pending: Mutex::default(),
            work: Notify::new(),
            done: watch::Sender::new(0),
            stamp: AtomicI64::new(0),
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
        if !pending.everything {
            pending
                .changed
                .insert(Arc::from(&*topic.topic_name), topic.clone());
        }
        drop(pending);
        self.work.notify_one();
    }

    /// Topics were deleted; `left` are left.
    pub(crate) fn topics_deleted(&self, left: usize) {
        if left <= TOLD_AFTER_DELETION {
            self.everything_changed();
        } else {
            self.pending().deleted = true;
        }
    }

    /// The broker's own permissions changed, or it is not known what did: everything is told.
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
        let period = std::mem::take(&mut pending.period);
        let everything = std::mem::take(&mut pending.everything) || (period && pending.deleted);
        let changed = std::mem::take(&mut pending.changed);
        let round = if everything {
            pending.deleted = false;
            Round::Everything
        } else if !changed.is_empty() {
            // A sign of life like any other, which those that lack something answer with a refusal.
            Round::Changed(changed.into_values().collect())
        } else if period {
            Round::Period
        } else {
            Round::Nothing
        };
        (round, pending.asked)
    }

    /// The version of a message: no two have the same. A name server that has a message's version passes over the topics
    /// that it knows, so that two parts of one table, or two changes told one after the other, must differ. Java moves the
    /// table's version on for each part (5.3: `TopicConfigManager.buildSerializeWrapper`).
    fn next_version(&self, broker: &Broker) -> DataVersion {
        let now = broker.now_ms();
        let last = self
            .stamp
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| {
                Some(now.max(last + 1))
            });
        let last = last.unwrap_or_else(|last| last);
        DataVersion {
            timestamp: now.max(last + 1),
            ..broker.topics.data_version()
        }
    }
}

/// The task that registers, for as long as the broker runs.
pub(crate) async fn run(broker: Arc<Broker>) {
    let registration = &broker.registration;
    let mut heard = HashMap::new();
    registration.pending().everything = true;
    let mut period_ends = Instant::now() + period(&broker);
    loop {
        let (round, asked) = registration.take();
        tell(&broker, round, &mut heard).await;
        registration.done.send_replace(asked);
        if tokio::time::timeout_at(period_ends, registration.work.notified())
            .await
            .is_err()
        {
            registration.pending().period = true;
            period_ends = Instant::now() + period(&broker);
        }
    }
}

fn period(broker: &Broker) -> Duration {
    let ms = broker.keys().register_name_server_period;
    Duration::from_millis(ms.clamp(*PERIOD_MS.start(), *PERIOD_MS.end()))
}

/// The addresses of `namesrvAddr`.
pub(crate) fn name_servers(broker: &Broker) -> Vec<String> {
    let keys = broker.keys();
    let addresses = keys.namesrv_addr.split([';', ',']).map(str::trim);
    addresses
        .filter(|address| !address.is_empty())
        .map(str::to_owned)
        .collect()
}

async fn tell(broker: &Arc<Broker>, round: Round, heard: &mut HashMap<String, Heard>) {
    if matches!(round, Round::Nothing) {
        return;
    }
    let servers = name_servers(broker);
    heard.retain(|server, _| servers.contains(server));
    let mut exchanges = tokio::task::JoinSet::new();
    for server in servers {
        let known = heard.get(&server).and_then(|heard| heard.version.clone());
        let (broker, round) = (broker.clone(), round.clone());
        exchanges.spawn(async move {
            let outcome = tell_one(&broker, &server, round, known).await;
            (server, outcome)
        });
    }
    while let Some(exchanged) = exchanges.join_next().await {
        // A task of this set ends early only when the process ends.
        let Ok((server, outcome)) = exchanged else {
            continue;
        };
        note(broker, server, outcome, heard);
    }
}

/// Tells one name server what it needs to hear in this round, and gives the version of the last message that it took.
async fn tell_one(
    broker: &Broker,
    server: &str,
    round: Round,
    known: Option<DataVersion>,
) -> Result<DataVersion, Failure> {
    match (round, known) {
        (Round::Changed(changed), Some(_)) => {
            // The first goes alone: a name server that lost this broker refuses a single topic, but would take several for
            // all that there are.
            let (first, others) = changed.split_at(1);
            match tell_parts(broker, server, first).await {
                Ok(version) if others.is_empty() => return Ok(version),
                Ok(_) => return tell_parts(broker, server, others).await,
                Err(Failure::Refused { .. }) => {}
                Err(failure) => return Err(failure),
            }
        }
        (Round::Period, Some(version)) if has(broker, server, &version).await? => {
            return Ok(version);
        }
        _ => {}
    }
    tell_parts(broker, server, &broker.topics.all()).await
}

/// Tells of these topics, in as many messages as they need.
async fn tell_parts(
    broker: &Broker,
    server: &str,
    mut topics: &[Arc<TopicConfig>],
) -> Result<DataVersion, Failure> {
    let timeout = Duration::from_millis(broker.keys().register_broker_timeout_mills);
    loop {
        let (part, rest) = topics.split_at(part_len(topics));
        let version = broker.registration.next_version(broker);
        let command = registration(broker, part, version.clone());
        exchange(broker, server, command, timeout).await?;
        if rest.is_empty() {
            return Ok(version);
        }
        topics = rest;
    }
}

/// How many of these topics one message tells.
fn part_len(topics: &[Arc<TopicConfig>]) -> usize {
    let mut bytes = 0;
    let fits = topics.iter().take_while(|topic| {
        let attributes = topic.attributes.iter();
        let attributes = attributes.map(|(name, value)| name.len() + value.len() + 8);
        bytes += TOPIC_BYTES + 2 * topic.topic_name.len() + attributes.sum::<usize>();
        bytes <= PART_BYTES
    });
    // One at least, so that this ends.
    fits.count().max(1).min(topics.len())
}

/// Whether a name server has this version of the broker; the question is a sign of life, too.
async fn has(broker: &Broker, server: &str, version: &DataVersion) -> Result<bool, Failure> {
    let identity = broker.identity();
    let header = QueryDataVersionRequest {
        broker_name: identity.name.to_string(),
        broker_addr: identity.advertised.to_string(),
        cluster_name: identity.cluster.to_string(),
        broker_id: identity.id,
    };
    let command = Command::request(RequestCode::QUERY_DATA_VERSION, &header)
        .with_body(protocol::json::encode(version));
    let timeout = Duration::from_millis(broker.keys().register_broker_timeout_mills);
    let answer = broker.client.call(server, command, timeout).await?;
    let answer = answer.header::<QueryDataVersionResponse>();
    // One that does not know the question is told everything.
    Ok(answer.is_ok_and(|answer| !answer.changed))
}

/// Logs once when a name server's state changes.
fn note(
    broker: &Broker,
    server: String,
    outcome: Result<DataVersion, Failure>,
    heard: &mut HashMap<String, Heard>,
) {
    let (version, outcome) = match outcome {
        Ok(version) => (Some(version), Ok(())),
        Err(failure) => (None, Err(failure)),
    };
    let before = heard.insert(server.clone(), Heard { version });
    let before = before.map(|before| before.version.is_some());
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
fn registration(broker: &Broker, topics: &[Arc<TopicConfig>], version: DataVersion) -> Command {
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
    let mappings = topics.iter().filter_map(|config| {
        let info = broker.static_topics.info(&config.topic_name)?;
        Some((config.topic_name.clone(), info))
    });
    let body = RegisterBrokerBody {
        topic_config_serialize_wrapper: TopicConfigAndMappingSerializeWrapper {
            topic_config_table: table.collect(),
            topic_queue_mapping_info_map: mappings.collect(),
            data_version: version,
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
