//! The routing table: which brokers are alive, and which topics they serve. A pure core: registrations and the time
//! go in, answers and the things to tell others come out. It knows no sockets, no files and no clock.

mod lookup;
mod removal;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use protocol::body::{
    DataVersion, QueueData, RegisterBrokerBody, TopicConfig, TopicQueueMappingInfo,
};
use protocol::perm;

/// The id that the writable member of a broker group has.
pub const MASTER_ID: i64 = 0;

/// How long a broker may stay silent when its registration names no time of its own.
/// Source: Java 5.3.3: `RouteInfoManager.DEFAULT_BROKER_CHANNEL_EXPIRED_TIME`.
pub const DEFAULT_HEARTBEAT_TIMEOUT_MS: i64 = 120_000;

/// Which brokers are alive, and which topics they serve.
///
/// Invariants, checked by `Table::check` in debug builds after every change:
/// * every broker that `clusters` names is in `brokers`, and the other way round, and has at least one address;
/// * a topic in `topics` has at least one broker;
/// * an address occurs under one id of a broker only.
#[derive(Debug, Default)]
pub struct Table {
    /// Sorted by broker name, so that answers are the same from one request to the next.
    topics: HashMap<Arc<str>, Vec<TopicOnBroker>>,
    brokers: BTreeMap<Arc<str>, Group>,
    clusters: BTreeMap<String, BTreeSet<Arc<str>>>,
    live: HashMap<Identity, Live>,
    filter_servers: HashMap<Identity, Vec<String>>,
    /// Static topics. Entries outlive their broker on purpose, as in Java: the mapping still tells which logical queues
    /// the absent broker owns, and nobody else may serve those.
    mappings: HashMap<String, BTreeMap<String, TopicQueueMappingInfo>>,
}

/// What decisions depend on the configuration. Passed in, since most of it may change while the server runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Policy {
    /// A route without a master presents the slave with the lowest id as the master (`supportActingMaster`).
    pub acting_master: bool,
    /// Topics missing from a full registration are forgotten (`deleteTopicWithBrokerRegistration`).
    pub delete_absent_topics: bool,
    /// Members are told when the lowest id of their group changes (`notifyMinBrokerIdChanged`).
    pub notify_min_id: bool,
}

/// A broker process: its cluster and the address that clients use.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// `brokerClusterName`.
    pub cluster: String,
    /// Advertised address, `host:port`.
    pub addr: String,
}

/// One broker's announcement of itself and its topics.
#[derive(Debug)]
pub struct Registration {
    /// Cluster and advertised address.
    pub identity: Identity,
    /// Name that the members of a replicated group share.
    pub broker_name: String,
    /// 0 for the master.
    pub broker_id: i64,
    /// Where slaves fetch the log.
    pub ha_server_addr: String,
    /// Availability zone, when the broker names one.
    pub zone_name: Option<String>,
    /// Own time until it counts as dead.
    pub heartbeat_timeout_ms: Option<i64>,
    /// `None` from brokers older than 5.0, which never act as master in place of another.
    pub enable_acting_master: Option<bool>,
    /// Topics, filter servers, static topic mappings.
    pub body: RegisterBrokerBody,
    /// The connection that carried it; when that closes, the broker is gone.
    pub connection: u64,
}

/// Answer to a registration.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Registered {
    /// The master's address, for a slave whose master is alive.
    pub master_addr: Option<String>,
    /// Where that slave fetches the log.
    pub ha_server_addr: Option<String>,
    /// Who must hear that the group's lowest id changed.
    pub changed: Option<MinIdChange>,
}

/// A broker sent a single topic before it ever registered in full. Answered with a refusal; the broker then registers in full.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("register broker failed")]
pub struct IncrementalBeforeFull;

/// One broker's farewell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Farewell {
    /// Cluster and advertised address.
    pub identity: Identity,
    /// The group's name.
    pub broker_name: String,
    /// Its id in the group.
    pub broker_id: i64,
}

/// The lowest id of a broker group changed: its members decide by it who acts as the master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MinIdChange {
    /// The lowest id that is left.
    pub min_id: i64,
    /// Its address.
    pub min_addr: String,
    /// The member that went away, when one did.
    pub offline_addr: Option<String>,
    /// Where the new member serves its log, when one came.
    pub ha_addr: Option<String>,
    /// Addresses to tell.
    pub notify: Vec<String>,
}

/// The members that share a broker name.
#[derive(Debug)]
struct Group {
    cluster: String,
    addrs: BTreeMap<i64, String>,
    zone_name: Option<String>,
    enable_acting_master: bool,
}

impl Group {
    fn min_id(&self) -> Option<i64> {
        self.addrs.keys().next().copied()
    }
}

/// One broker process, as its last registration or heartbeat left it.
#[derive(Debug)]
struct Live {
    broker_name: Arc<str>,
    broker_id: i64,
    last_update_ms: i64,
    timeout_ms: i64,
    data_version: DataVersion,
    connection: u64,
    ha_server_addr: String,
}

/// A topic's queues on one broker. The broker's name is shared, so a topic costs tens of bytes a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TopicOnBroker {
    broker: Arc<str>,
    read_queues: i32,
    write_queues: i32,
    perm: i32,
    sys_flag: i32,
}

impl TopicOnBroker {
    fn new(broker: &Arc<str>, config: &TopicConfig) -> TopicOnBroker {
        TopicOnBroker {
            broker: Arc::clone(broker),
            read_queues: config.read_queue_nums,
            write_queues: config.write_queue_nums,
            perm: config.perm,
            sys_flag: config.topic_sys_flag,
        }
    }

    fn queue_data(&self) -> QueueData {
        QueueData {
            broker_name: self.broker.to_string(),
            read_queue_nums: self.read_queues,
            write_queue_nums: self.write_queues,
            perm: self.perm,
            topic_sys_flag: self.sys_flag,
        }
    }
}

impl Table {
    /// Takes a broker's announcement in, in full or of one topic, and answers what a slave needs to know of its master.
    ///
    /// An announcement for an id that another address holds with a higher state version is ignored (a deposed master that
    /// comes back), without an error, as in Java.
    ///
    /// # Errors
    /// [`IncrementalBeforeFull`]: nothing is changed; the broker must register in full first.
    pub fn register(
        &mut self,
        now_ms: i64,
        policy: Policy,
        registration: Registration,
    ) -> Result<Registered, IncrementalBeforeFull> {
        self.leave_former_name(policy, &registration);
        if self.is_deposed(&registration) {
            self.live.remove(&registration.identity);
            if let Some(group) = self.brokers.get_mut(registration.broker_name.as_str()) {
                group
                    .addrs
                    .retain(|_, addr| *addr != registration.identity.addr);
            }
            self.check();
            return Ok(Registered::default());
        }
        let broker_id = registration.broker_id;
        let known = self
            .brokers
            .get(registration.broker_name.as_str())
            .is_some_and(|group| group.addrs.contains_key(&broker_id));
        if !known
            && registration
                .body
                .topic_config_serialize_wrapper
                .topic_config_table
                .len()
                == 1
        {
            return Err(IncrementalBeforeFull);
        }

        let name = self.join(&registration);
        let min_id_before = self
            .brokers
            .get(&name)
            .and_then(Group::min_id)
            .unwrap_or(MASTER_ID);
        let first = self.take_id(&name, broker_id, &registration.identity.addr);

        let group = &self.brokers[&name];
        let prime_slave = registration.enable_acting_master.is_some()
            && broker_id != MASTER_ID
            && group.min_id() == Some(broker_id);
        if broker_id == MASTER_ID || prime_slave {
            let read_only = prime_slave && group.enable_acting_master;
            self.take_topics(&name, &registration, first, read_only, policy);
        }
        Ok(self.take_live(now_ms, policy, name, registration, min_id_before))
    }

    /// A process that was restarted under another broker name leaves the group it was in.
    fn leave_former_name(&mut self, policy: Policy, registration: &Registration) {
        if let Some(live) = self.live.get(&registration.identity)
            && *live.broker_name != *registration.broker_name
        {
            let farewell = Farewell {
                identity: registration.identity.clone(),
                broker_name: live.broker_name.to_string(),
                broker_id: live.broker_id,
            };
            self.unregister(policy, &[farewell]);
        }
    }

    /// Whether another address holds this id with a higher state version.
    fn is_deposed(&self, registration: &Registration) -> bool {
        let Registration {
            identity,
            broker_name,
            broker_id,
            ..
        } = registration;
        let Some(group) = self.brokers.get(broker_name.as_str()) else {
            return false;
        };
        let Some(holder) = group.addrs.get(broker_id) else {
            return false;
        };
        let version = registration
            .body
            .topic_config_serialize_wrapper
            .data_version
            .state_version;
        let deposed = *holder != identity.addr
            && self.state_version(&identity.cluster, holder) > Some(version);
        if deposed {
            tracing::warn!(
                broker = broker_name,
                id = broker_id,
                addr = identity.addr,
                holder,
                "registration ignored: the address that holds this id has a higher state version"
            );
        }
        deposed
    }

    /// The state version under which an address is registered; nothing when it is not.
    fn state_version(&self, cluster: &str, addr: &str) -> Option<i64> {
        let identity = Identity {
            cluster: cluster.to_owned(),
            addr: addr.to_owned(),
        };
        self.live
            .get(&identity)
            .map(|live| live.data_version.state_version)
    }

    /// Enters the group and its cluster, and returns the group's shared name.
    fn join(&mut self, registration: &Registration) -> Arc<str> {
        let name = match self
            .brokers
            .get_key_value(registration.broker_name.as_str())
        {
            Some((name, _)) => Arc::clone(name),
            None => Arc::from(registration.broker_name.as_str()),
        };
        self.clusters
            .entry(registration.identity.cluster.clone())
            .or_default()
            .insert(Arc::clone(&name));
        let group = self
            .brokers
            .entry(Arc::clone(&name))
            .or_insert_with(|| Group {
                cluster: registration.identity.cluster.clone(),
                addrs: BTreeMap::new(),
                zone_name: None,
                enable_acting_master: false,
            });
        group.enable_acting_master = registration.enable_acting_master.unwrap_or(false);
        group.zone_name.clone_from(&registration.zone_name);
        name
    }

    /// Puts an address under its id; true when the id had none.
    fn take_id(&mut self, name: &Arc<str>, id: i64, addr: &str) -> bool {
        let Some(group) = self.brokers.get_mut(name) else {
            return true;
        };
        group
            .addrs
            .retain(|&other, held| other == id || held != addr);
        group.addrs.insert(id, addr.to_owned()).is_none()
    }

    fn take_topics(
        &mut self,
        name: &Arc<str>,
        registration: &Registration,
        first: bool,
        read_only: bool,
        policy: Policy,
    ) {
        let wrapper = &registration.body.topic_config_serialize_wrapper;
        let changed =
            first || self.data_version_differs(&registration.identity, &wrapper.data_version);
        if policy.delete_absent_topics && wrapper.topic_queue_mapping_info_map.is_empty() {
            self.topics.retain(|topic, on| {
                if !wrapper.topic_config_table.contains_key(&**topic) {
                    on.retain(|entry| entry.broker != *name);
                }
                !on.is_empty()
            });
        }
        for config in wrapper.topic_config_table.values() {
            let served = || {
                self.topics
                    .get(config.topic_name.as_str())
                    .is_some_and(|on| on.iter().any(|entry| entry.broker == *name))
            };
            if changed || !served() {
                let mut entry = TopicOnBroker::new(name, config);
                if read_only {
                    entry.perm &= !perm::WRITE;
                }
                self.put_topic(&config.topic_name, entry);
            }
        }
        if changed {
            for (topic, info) in &wrapper.topic_queue_mapping_info_map {
                let broker = info.broker_name.clone();
                self.mappings
                    .entry(topic.clone())
                    .or_default()
                    .insert(broker, info.clone());
            }
        }
    }

    fn put_topic(&mut self, topic: &str, entry: TopicOnBroker) {
        match self.topics.get_mut(topic) {
            Some(on) => match on.binary_search_by(|other| other.broker.cmp(&entry.broker)) {
                Ok(at) => on[at] = entry,
                Err(at) => on.insert(at, entry),
            },
            None => {
                self.topics.insert(Arc::from(topic), vec![entry]);
            }
        }
    }

    fn take_live(
        &mut self,
        now_ms: i64,
        policy: Policy,
        name: Arc<str>,
        registration: Registration,
        min_id_before: i64,
    ) -> Registered {
        let Registration {
            identity,
            broker_id,
            ha_server_addr,
            body,
            ..
        } = registration;
        let live = Live {
            broker_name: Arc::clone(&name),
            broker_id,
            last_update_ms: now_ms,
            timeout_ms: registration
                .heartbeat_timeout_ms
                .unwrap_or(DEFAULT_HEARTBEAT_TIMEOUT_MS),
            data_version: body.topic_config_serialize_wrapper.data_version,
            connection: registration.connection,
            ha_server_addr: ha_server_addr.clone(),
        };
        if self.live.insert(identity.clone(), live).is_none() {
            tracing::info!(
                cluster = identity.cluster, broker = %name, id = broker_id, addr = identity.addr,
                "broker registered"
            );
        }
        if body.filter_server_list.is_empty() {
            self.filter_servers.remove(&identity);
        } else {
            self.filter_servers
                .insert(identity.clone(), body.filter_server_list);
        }

        let mut answer = Registered::default();
        let group = &self.brokers[&name];
        if broker_id != MASTER_ID
            && let Some(master) = group.addrs.get(&MASTER_ID)
            && let Some(live) = self.live.get(&Identity {
                cluster: identity.cluster.clone(),
                addr: master.clone(),
            })
        {
            answer.master_addr = Some(master.clone());
            answer.ha_server_addr = Some(live.ha_server_addr.clone());
        }
        if broker_id < min_id_before && policy.notify_min_id {
            answer.changed = min_id_change(group, None, Some(ha_server_addr));
        }
        self.check();
        answer
    }

    /// A broker is alive. One that is not registered stays unknown: it must send its topics first.
    pub fn heartbeat(&mut self, now_ms: i64, identity: &Identity) {
        if let Some(live) = self.live.get_mut(identity) {
            live.last_update_ms = now_ms;
        }
    }

    /// The version of the topics that this broker last registered.
    pub fn data_version(&self, identity: &Identity) -> Option<&DataVersion> {
        self.live.get(identity).map(|live| &live.data_version)
    }

    /// Whether a broker with this version of its topics must register them (again).
    pub fn data_version_differs(&self, identity: &Identity, version: &DataVersion) -> bool {
        self.data_version(identity) != Some(version)
    }

    /// Adds a topic's queues, all of them or, when one names an unknown broker, none; false then.
    pub fn register_topic(&mut self, topic: &str, queues: &[QueueData]) -> bool {
        let mut entries = Vec::with_capacity(queues.len());
        for queue in queues {
            let Some((name, _)) = self.brokers.get_key_value(queue.broker_name.as_str()) else {
                tracing::warn!(
                    topic,
                    broker = queue.broker_name,
                    "topic names a broker that is not registered"
                );
                return false;
            };
            entries.push(TopicOnBroker {
                broker: Arc::clone(name),
                read_queues: queue.read_queue_nums,
                write_queues: queue.write_queue_nums,
                perm: queue.perm,
                sys_flag: queue.topic_sys_flag,
            });
        }
        for entry in entries {
            self.put_topic(topic, entry);
        }
        self.check();
        true
    }

    /// Takes the write permission from all topics of a broker; the number of them.
    pub fn wipe_write_perm(&mut self, broker: &str) -> i32 {
        self.change_perm(broker, |old| old & !perm::WRITE)
    }

    /// Makes all topics of a broker readable and writable; the number of them. Other bits are cleared, as in Java.
    pub fn add_write_perm(&mut self, broker: &str) -> i32 {
        self.change_perm(broker, |_| perm::READ | perm::WRITE)
    }

    fn change_perm(&mut self, broker: &str, change: impl Fn(i32) -> i32) -> i32 {
        let mut count = 0;
        for entry in self
            .topics
            .values_mut()
            .flatten()
            .filter(|entry| &*entry.broker == broker)
        {
            entry.perm = change(entry.perm);
            count += 1;
        }
        count
    }

    /// Asserts the invariants of the struct, in debug builds.
    fn check(&self) {
        if cfg!(debug_assertions) {
            for (cluster, names) in &self.clusters {
                assert!(!names.is_empty(), "cluster {cluster} has a broker");
                for name in names {
                    assert!(
                        self.brokers.contains_key(name),
                        "broker {name} of cluster {cluster} is known"
                    );
                }
            }
            for (name, group) in &self.brokers {
                assert!(!group.addrs.is_empty(), "broker {name} has an address");
                let distinct: BTreeSet<&String> = group.addrs.values().collect();
                assert_eq!(
                    distinct.len(),
                    group.addrs.len(),
                    "an address of broker {name} has one id"
                );
            }
            for (topic, on) in &self.topics {
                assert!(!on.is_empty(), "topic {topic} has a broker");
                assert!(
                    on.is_sorted_by(|a, b| a.broker < b.broker),
                    "brokers of {topic} are sorted"
                );
            }
        }
    }
}

/// What the members of a group hear. A group with nobody left hears nothing.
///
/// When a member left, or the group has one member, all that are left are told; when one came, those that were there before.
fn min_id_change(
    group: &Group,
    offline: Option<&str>,
    ha_addr: Option<String>,
) -> Option<MinIdChange> {
    let (&min_id, min_addr) = group.addrs.iter().next()?;
    let everybody = offline.is_some() || group.addrs.len() == 1;
    let notify = group
        .addrs
        .iter()
        .filter(|&(&id, _)| everybody || id != min_id)
        .map(|(_, addr)| addr.clone())
        .collect();
    Some(MinIdChange {
        min_id,
        min_addr: min_addr.clone(),
        offline_addr: offline.map(str::to_owned),
        ha_addr,
        notify,
    })
}
