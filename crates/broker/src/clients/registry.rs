//! The table of clients: values in, values out, time given. `H` is what reaches a client; tests use a number.
//! Java 5.3: `ConsumerManager`, `ConsumerGroupInfo`, `ProducerManager`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use protocol::body::{ConsumeFromWhere, ConsumeType, MessageModel, SubscriptionData};
use protocol::language::Language;

use super::producers::Producers;

/// Groups that one connection may be a member of. Users of very many groups have some hundreds.
const GROUPS_PER_CONNECTION_MAX: usize = 10_000;

/// A client as one heartbeat describes it.
#[derive(Clone, Debug)]
pub(crate) struct Client<H> {
    /// Which connection it is on.
    pub(crate) connection_id: u64,
    /// What reaches it.
    pub(crate) handle: H,
    /// `ip@instance`; what queues are given to.
    pub(crate) client_id: String,
    /// Language of its library.
    pub(crate) language: Language,
    /// Version of its library.
    pub(crate) version: i32,
    /// When it was heard last.
    pub(crate) seen_ms: i64,
}

/// How a client consumes for a group.
#[derive(Clone, Debug)]
pub(crate) struct Consumer {
    pub(crate) consume_type: ConsumeType,
    pub(crate) message_model: MessageModel,
    pub(crate) from_where: ConsumeFromWhere,
    /// None: what it said before still holds.
    pub(crate) subscriptions: Option<Vec<SubscriptionData>>,
    /// Stands for the subscriptions in heartbeats that leave them out; 0 in heartbeats that never do.
    pub(crate) fingerprint: i32,
}

/// What became of a consumer's heartbeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registered {
    /// Members or subscribed topics changed: the others must share their queues anew.
    pub(crate) changed: bool,
    /// The broker does not know what the fingerprint stands for: the client sends its subscriptions again.
    pub(crate) subscription_wanted: bool,
}

/// Whom [`Registry::expire`] forgot.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expired<H> {
    pub(crate) connections: Vec<H>,
    /// Consumer groups that lost a member and have others.
    pub(crate) groups: BTreeSet<String>,
}

/// Who was on a connection that closed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Closed {
    /// Consumer groups that have other members, who must hear of it.
    pub(crate) groups: BTreeSet<String>,
    /// Consumer group and client id of the members that were on it and are on no other connection.
    pub(crate) left: Vec<(String, String)>,
}

/// The consumers of one group.
#[derive(Debug)]
pub(crate) struct ConsumerGroup<H> {
    state: RwLock<GroupState<H>>,
}

#[derive(Debug)]
struct GroupState<H> {
    consume_type: ConsumeType,
    message_model: MessageModel,
    from_where: ConsumeFromWhere,
    fingerprint: i32,
    /// In the order in which they came.
    members: BTreeMap<u64, Client<H>>,
    subscriptions: HashMap<String, Arc<SubscriptionData>>,
}

impl<H: Clone> ConsumerGroup<H> {
    fn new(consumer: &Consumer) -> ConsumerGroup<H> {
        ConsumerGroup {
            state: RwLock::new(GroupState {
                consume_type: consumer.consume_type,
                message_model: consumer.message_model,
                from_where: consumer.from_where,
                fingerprint: 0,
                members: BTreeMap::new(),
                subscriptions: HashMap::new(),
            }),
        }
    }

    /// A lock that a panic left behind is usable: each change is complete in itself.
    fn read(&self) -> RwLockReadGuard<'_, GroupState<H>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, GroupState<H>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who of the group gets a message.
    pub(crate) fn message_model(&self) -> MessageModel {
        self.read().message_model
    }

    /// How its members get messages, and where it starts without offsets.
    pub(crate) fn way(&self) -> (ConsumeType, ConsumeFromWhere) {
        let state = self.read();
        (state.consume_type, state.from_where)
    }

    /// What the group wants of a topic.
    pub(crate) fn subscription(&self, topic: &str) -> Option<Arc<SubscriptionData>> {
        self.read().subscriptions.get(topic).cloned()
    }

    /// What the group wants of all topics.
    pub(crate) fn subscriptions(&self) -> BTreeMap<String, SubscriptionData> {
        let state = self.read();
        let subscriptions = state.subscriptions.iter();
        subscriptions
            .map(|(topic, subscription)| (topic.clone(), SubscriptionData::clone(subscription)))
            .collect()
    }

    /// Its members.
    pub(crate) fn members(&self) -> Vec<Client<H>> {
        self.read().members.values().cloned().collect()
    }

    /// The id of the client on this connection, if it is on no other one.
    fn only_on(&self, connection_id: u64) -> Option<String> {
        let state = self.read();
        let id = &state.members.get(&connection_id)?.client_id;
        let connections = state.members.values();
        let times = connections.filter(|member| member.client_id == *id);
        (times.take(2).count() == 1).then(|| id.clone())
    }

    /// The id of the client on this connection.
    pub(crate) fn client_on(&self, connection_id: u64) -> Option<String> {
        let state = self.read();
        let member = state.members.get(&connection_id)?;
        Some(member.client_id.clone())
    }

    /// Whether a member is on this connection.
    pub(crate) fn has(&self, connection_id: u64) -> bool {
        self.read().members.contains_key(&connection_id)
    }

    /// Who takes part in sharing the queues. A client that has just come back on another connection counts once.
    pub(crate) fn client_ids(&self) -> Vec<String> {
        let state = self.read();
        let mut seen = BTreeSet::new();
        let ids = state.members.values().map(|member| &member.client_id);
        ids.filter(|id| seen.insert(id.as_str())).cloned().collect()
    }

    fn register(&self, client: Client<H>, consumer: Consumer) -> Registered {
        let mut state = self.write();
        state.consume_type = consumer.consume_type;
        state.message_model = consumer.message_model;
        state.from_where = consumer.from_where;
        let joined = state.members.insert(client.connection_id, client).is_none();
        let known = std::mem::replace(&mut state.fingerprint, consumer.fingerprint);
        let (subscribed, unknown) = match consumer.subscriptions {
            Some(subscriptions) => (
                state.subscribe(subscriptions),
                known != 0 && known != consumer.fingerprint,
            ),
            None => {
                // What the fingerprint stands for has never been said here; it is not remembered as known.
                if known != consumer.fingerprint {
                    state.fingerprint = known;
                }
                (false, known != consumer.fingerprint)
            }
        };
        Registered {
            changed: joined || subscribed,
            subscription_wanted: unknown,
        }
    }
}

impl<H> GroupState<H> {
    /// Takes over what a member wants; whether the set of topics changed.
    fn subscribe(&mut self, subscriptions: Vec<SubscriptionData>) -> bool {
        let mut changed = false;
        let mut topics = BTreeSet::new();
        for subscription in subscriptions {
            topics.insert(subscription.topic.clone());
            match self.subscriptions.get(&subscription.topic) {
                Some(known) if subscription.sub_version <= known.sub_version => continue,
                Some(_) => {}
                None => changed = true,
            }
            self.subscriptions
                .insert(subscription.topic.clone(), Arc::new(subscription));
        }
        let before = self.subscriptions.len();
        self.subscriptions.retain(|topic, _| topics.contains(topic));
        changed || self.subscriptions.len() < before
    }
}

/// Who is connected, by group and by connection.
#[derive(Debug)]
pub(crate) struct Registry<H> {
    consumers: RwLock<HashMap<String, Arc<ConsumerGroup<H>>>>,
    producers: Mutex<Producers<H>>,
    /// What must be looked at when a connection closes. Locked before the other two.
    joined: Mutex<HashMap<u64, Joined>>,
}

#[derive(Debug, Default)]
struct Joined {
    consumers: BTreeSet<String>,
    producers: BTreeSet<String>,
}

impl<H> Default for Registry<H> {
    fn default() -> Registry<H> {
        Registry {
            consumers: RwLock::default(),
            producers: Mutex::default(),
            joined: Mutex::default(),
        }
    }
}

/// A connection that takes part in more groups than anybody needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("one connection may not be a member of more than {GROUPS_PER_CONNECTION_MAX} groups")]
pub(crate) struct TooManyGroups;

impl<H: Clone> Registry<H> {
    fn joined(&self) -> MutexGuard<'_, HashMap<u64, Joined>> {
        self.joined.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn producers(&self) -> MutexGuard<'_, Producers<H>> {
        self.producers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn consumers(&self) -> RwLockReadGuard<'_, HashMap<String, Arc<ConsumerGroup<H>>>> {
        self.consumers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn consumers_mut(&self) -> RwLockWriteGuard<'_, HashMap<String, Arc<ConsumerGroup<H>>>> {
        self.consumers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The consumers of a group; none while nobody of it is connected.
    pub(crate) fn consumer_group(&self, group: &str) -> Option<Arc<ConsumerGroup<H>>> {
        self.consumers().get(group).cloned()
    }

    /// A heartbeat says that `client` consumes for `group`.
    pub(crate) fn register_consumer(
        &self,
        group: &str,
        client: Client<H>,
        consumer: Consumer,
    ) -> Result<Registered, TooManyGroups> {
        let mut joined = self.joined();
        let of_connection = joined.entry(client.connection_id).or_default();
        if !of_connection.consumers.contains(group) {
            if of_connection.consumers.len() >= GROUPS_PER_CONNECTION_MAX {
                return Err(TooManyGroups);
            }
            of_connection.consumers.insert(group.to_owned());
        }
        let known = self.consumer_group(group);
        let members = known.unwrap_or_else(|| {
            let new = Arc::new(ConsumerGroup::new(&consumer));
            self.consumers_mut()
                .entry(group.to_owned())
                .or_insert(new)
                .clone()
        });
        // Under the lock of `joined`: the group cannot be removed as empty before its new member is in it.
        Ok(members.register(client, consumer))
    }

    /// A heartbeat says that `client` produces for `group`.
    pub(crate) fn register_producer(
        &self,
        group: &str,
        client: Client<H>,
    ) -> Result<(), TooManyGroups> {
        let mut joined = self.joined();
        let of_connection = joined.entry(client.connection_id).or_default();
        if !of_connection.producers.contains(group) {
            if of_connection.producers.len() >= GROUPS_PER_CONNECTION_MAX {
                return Err(TooManyGroups);
            }
            of_connection.producers.insert(group.to_owned());
        }
        self.producers().join(group, client);
        Ok(())
    }

    /// The client on `connection_id` no longer consumes for `group`. Whether the others must hear of it.
    pub(crate) fn unregister_consumer(&self, group: &str, connection_id: u64) -> bool {
        let mut joined = self.joined();
        if let Some(of_connection) = joined.get_mut(&connection_id) {
            of_connection.consumers.remove(group);
        }
        self.leave(group, connection_id)
    }

    /// Removes a member; whether others are left who must hear of it. The caller holds `joined`.
    fn leave(&self, group: &str, connection_id: u64) -> bool {
        let Some(members) = self.consumer_group(group) else {
            return false;
        };
        let mut state = members.write();
        let left = state.members.remove(&connection_id).is_some();
        let is_empty = state.members.is_empty();
        drop(state);
        if is_empty {
            self.consumers_mut().remove(group);
        }
        left && !is_empty
    }

    /// The client on `connection_id` no longer produces for `group`.
    pub(crate) fn unregister_producer(&self, group: &str, connection_id: u64) {
        let mut joined = self.joined();
        if let Some(of_connection) = joined.get_mut(&connection_id) {
            of_connection.producers.remove(group);
        }
        self.producers().leave(group, connection_id);
    }

    /// A connection is gone, and with it whoever was on it.
    pub(crate) fn closed(&self, connection_id: u64) -> Closed {
        let mut joined = self.joined();
        let mut closed = Closed::default();
        let Some(of_connection) = joined.remove(&connection_id) else {
            return closed;
        };
        for group in &of_connection.producers {
            self.producers().leave(group, connection_id);
        }
        for group in of_connection.consumers {
            let members = self.consumer_group(&group);
            let left = members.and_then(|members| members.only_on(connection_id));
            closed.left.extend(left.map(|id| (group.clone(), id)));
            if self.leave(&group, connection_id) {
                closed.groups.insert(group);
            }
        }
        closed
    }

    /// Forgets memberships that were not renewed since `seen_before_ms`.
    pub(crate) fn expire(&self, seen_before_ms: i64) -> Expired<H> {
        let mut connections = BTreeMap::new();
        let mut groups = BTreeSet::new();
        let is_silent = |client: &Client<H>| client.seen_ms < seen_before_ms;
        let consumers: Vec<_> = self
            .consumers()
            .iter()
            .map(|(name, group)| (name.clone(), group.clone()))
            .collect();
        for (name, group) in consumers {
            for member in group.members().into_iter().filter(is_silent) {
                if self.unregister_consumer(&name, member.connection_id) {
                    groups.insert(name.clone());
                }
                connections.insert(member.connection_id, member.handle);
            }
        }
        let producers: Vec<_> = self.all_producers();
        for (name, members) in producers {
            for member in members.into_iter().filter(is_silent) {
                self.unregister_producer(&name, member.connection_id);
                connections.insert(member.connection_id, member.handle);
            }
        }
        Expired {
            connections: connections.into_values().collect(),
            groups,
        }
    }

    /// The producers of a group; none while nobody of it is connected.
    pub(crate) fn producer_group(&self, group: &str) -> Option<Vec<Client<H>>> {
        self.producers().group(group)
    }

    /// What reaches the producer of that client id: on the newest of its connections.
    pub(crate) fn producer(&self, client_id: &str) -> Option<H> {
        self.producers().reachable(client_id)
    }

    /// All producers by group.
    pub(crate) fn all_producers(&self) -> Vec<(String, Vec<Client<H>>)> {
        self.producers().all()
    }

    /// Groups with a connected consumer that wants something of the topic.
    pub(crate) fn groups_subscribed_to(&self, topic: &str) -> BTreeSet<String> {
        let consumers = self.consumers();
        let groups = consumers
            .iter()
            .filter(|(_, group)| group.read().subscriptions.contains_key(topic));
        groups.map(|(name, _)| name.clone()).collect()
    }

    /// What reaches a member of a consumer group.
    pub(crate) fn consumer(&self, group: &str, client_id: &str) -> Option<Client<H>> {
        let members = self.consumer_group(group)?.members();
        members
            .into_iter()
            .find(|member| member.client_id == client_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(connection_id: u64, seen_ms: i64) -> Client<u64> {
        Client {
            connection_id,
            handle: connection_id,
            client_id: format!("c{connection_id}"),
            language: Language::JAVA,
            version: 479,
            seen_ms,
        }
    }

    fn subscription(topic: &str, sub_version: i64) -> SubscriptionData {
        SubscriptionData {
            topic: topic.to_owned(),
            sub_string: "*".to_owned(),
            sub_version,
            ..Default::default()
        }
    }

    fn consumer(topics: &[&str]) -> Consumer {
        Consumer {
            consume_type: ConsumeType::Passively,
            message_model: MessageModel::Clustering,
            from_where: ConsumeFromWhere::LastOffset,
            subscriptions: Some(topics.iter().map(|topic| subscription(topic, 1)).collect()),
            fingerprint: 0,
        }
    }

    const QUIET: Registered = Registered {
        changed: false,
        subscription_wanted: false,
    };
    const CHANGED: Registered = Registered {
        changed: true,
        subscription_wanted: false,
    };

    fn groups(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn only_a_new_member_or_topic_is_a_change() {
        let registry = Registry::default();
        assert_eq!(
            registry.register_consumer("g", client(1, 0), consumer(&["t"])),
            Ok(CHANGED)
        );
        assert_eq!(
            registry.register_consumer("g", client(1, 9), consumer(&["t"])),
            Ok(QUIET)
        );
        assert_eq!(
            registry.register_consumer("g", client(2, 9), consumer(&["t"])),
            Ok(CHANGED)
        );
        assert_eq!(
            registry.register_consumer("g", client(2, 9), consumer(&["t", "u"])),
            Ok(CHANGED)
        );
        assert_eq!(
            registry.register_consumer("g", client(2, 9), consumer(&["u"])),
            Ok(CHANGED)
        );
        let group = registry.consumer_group("g").unwrap();
        assert_eq!(group.client_ids(), ["c1", "c2"]);
        assert!(group.subscription("t").is_none() && group.subscription("u").is_some());
        assert_eq!(registry.groups_subscribed_to("u"), groups(&["g"]));
    }

    #[test]
    fn a_newer_subscription_replaces_an_older_one_quietly() {
        let registry = Registry::default();
        registry
            .register_consumer("g", client(1, 0), consumer(&["t"]))
            .unwrap();
        for (version, want) in [(3, 3), (2, 3)] {
            let again = Consumer {
                subscriptions: Some(vec![subscription("t", version)]),
                ..consumer(&[])
            };
            assert_eq!(
                registry.register_consumer("g", client(1, 0), again),
                Ok(QUIET)
            );
            assert_eq!(
                registry
                    .consumer_group("g")
                    .unwrap()
                    .subscription("t")
                    .unwrap()
                    .sub_version,
                want
            );
        }
    }

    #[test]
    fn a_client_that_reconnected_is_listed_once() {
        let registry = Registry::default();
        registry
            .register_consumer("g", client(1, 0), consumer(&["t"]))
            .unwrap();
        let again = Client {
            client_id: "c1".to_owned(),
            ..client(2, 0)
        };
        registry
            .register_consumer("g", again, consumer(&["t"]))
            .unwrap();
        assert_eq!(registry.consumer_group("g").unwrap().client_ids(), ["c1"]);
        let closed = registry.closed(1);
        assert!(closed.left.is_empty(), "it is still there: {closed:?}");
        assert_eq!(registry.closed(2).left, [("g".to_owned(), "c1".to_owned())]);
    }

    #[test]
    fn those_who_stay_hear_of_those_who_go() {
        let registry = Registry::default();
        for id in [1, 2, 3] {
            registry
                .register_consumer("g", client(id, 0), consumer(&["t"]))
                .unwrap();
        }
        registry
            .register_consumer("h", client(1, 0), consumer(&["t"]))
            .unwrap();
        registry.register_producer("p", client(1, 0)).unwrap();
        assert!(registry.unregister_consumer("g", 3) && !registry.unregister_consumer("g", 3));
        let closed = registry.closed(1);
        assert_eq!(closed.groups, groups(&["g"]), "nobody is left in h");
        let left = closed
            .left
            .iter()
            .map(|(group, id)| format!("{group} {id}"));
        assert_eq!(left.collect::<Vec<_>>(), ["g c1", "h c1"]);
        assert!(registry.consumer_group("h").is_none() && registry.producer_group("p").is_none());
        assert_eq!(registry.closed(1), Closed::default());
        assert_eq!(registry.closed(2).groups, groups(&[]));
        assert!(registry.consumer_group("g").is_none());
        assert!(
            registry
                .joined()
                .values()
                .all(|joined| joined.consumers.is_empty())
        );
    }

    #[test]
    fn the_silent_are_forgotten() {
        let registry = Registry::default();
        registry
            .register_consumer("g", client(1, 100), consumer(&["t"]))
            .unwrap();
        registry
            .register_consumer("g", client(2, 200), consumer(&["t"]))
            .unwrap();
        registry.register_producer("p", client(1, 100)).unwrap();
        registry.register_producer("p", client(3, 200)).unwrap();
        let expired = registry.expire(150);
        assert_eq!(
            expired,
            Expired {
                connections: vec![1],
                groups: groups(&["g"])
            }
        );
        assert_eq!(registry.consumer_group("g").unwrap().client_ids(), ["c2"]);
        assert_eq!(registry.producer_group("p").unwrap().len(), 1);
        assert_eq!(registry.expire(300).connections, [2, 3]);
    }

    #[test]
    fn a_fingerprint_that_is_not_known_asks_for_the_subscriptions() {
        let registry = Registry::default();
        let with = |fingerprint| Consumer {
            fingerprint,
            ..consumer(&["t"])
        };
        let without = |fingerprint| Consumer {
            fingerprint,
            subscriptions: None,
            ..consumer(&[])
        };
        let wanted =
            |registered: Result<Registered, TooManyGroups>| registered.unwrap().subscription_wanted;
        // The broker was restarted, the client was not.
        assert!(wanted(registry.register_consumer(
            "g",
            client(1, 0),
            without(7)
        )));
        assert!(wanted(registry.register_consumer(
            "g",
            client(1, 0),
            without(7)
        )));
        assert!(!wanted(registry.register_consumer(
            "g",
            client(1, 0),
            with(7)
        )));
        assert!(!wanted(registry.register_consumer(
            "g",
            client(1, 0),
            without(7)
        )));
        assert!(
            registry
                .consumer_group("g")
                .unwrap()
                .subscription("t")
                .is_some(),
            "they stay known"
        );
        assert!(wanted(registry.register_consumer(
            "g",
            client(1, 0),
            without(8)
        )));
        assert!(
            wanted(registry.register_consumer("g", client(1, 0), with(9))),
            "as Java does"
        );
    }
}
