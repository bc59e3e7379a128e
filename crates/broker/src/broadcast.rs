//! How far the clients of broadcasting groups have pulled. Each client keeps its own offsets; what is kept here lets one go on where it was
//! that changes from a proxy to the broker, or back. Values in, values out, time given. Java 5.3.4: `BroadcastOffsetManager`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Broker;

/// Clients that are remembered, a topic counted for itself. Beyond it a client that changes sides starts anew.
const CLIENTS_MAX: usize = 100_000;
/// Queues that are remembered of a client.
const QUEUES_MAX: usize = 1024;
/// Between two looks at who is still there.
const SCAN_INTERVAL: Duration = Duration::from_secs(5);
/// Behind a group's name: under which the least offset of its clients is committed.
const SUFFIX: &str = "@broadcast";

/// What all clients have pulled.
#[derive(Debug, Default)]
pub(crate) struct BroadcastOffsets {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    topics: HashMap<String, HashMap<String, HashMap<String, Client>>>,
    clients: usize,
}

#[derive(Debug)]
struct Client {
    at_ms: i64,
    from_proxy: bool,
    queues: BTreeMap<i32, i64>,
}

/// A pull of a client that gets every message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BroadcastPull<'a> {
    pub(crate) topic: &'a str,
    pub(crate) group: &'a str,
    pub(crate) queue_id: i32,
    pub(crate) client_id: &'a str,
    /// Where it wants to begin; negative: a proxy does not know.
    pub(crate) offset: i64,
    /// A proxy asks for it.
    pub(crate) from_proxy: bool,
}

/// The group under which the broker keeps where a broadcasting group starts.
pub(crate) fn offsets_group(group: &str) -> String {
    format!("{group}{SUFFIX}")
}

impl BroadcastOffsets {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the pull has to begin instead: when a proxy does not know, and when the client has changed sides since its last pull.
    /// `start` gives where a client begins of which nothing is known.
    pub(crate) fn start(
        &self,
        pull: &BroadcastPull<'_>,
        start: impl FnOnce() -> i64,
    ) -> Option<i64> {
        let asks = pull.from_proxy && pull.offset < 0;
        let table = self.table();
        let known = table.client(pull);
        let changed_sides = known.is_some_and(|client| client.from_proxy != pull.from_proxy);
        if !asks && !changed_sides {
            return None;
        }
        let reached = known.and_then(|client| client.queues.get(&pull.queue_id).copied());
        drop(table);
        Some(reached.unwrap_or_else(start))
    }

    /// The client has everything before `offset`.
    pub(crate) fn reached(&self, pull: &BroadcastPull<'_>, offset: i64, now_ms: i64) {
        if offset < 0 {
            return;
        }
        let mut table = self.table();
        if table.client(pull).is_none() {
            if table.clients >= CLIENTS_MAX {
                return;
            }
            table.clients += 1;
            let groups = table.topics.entry(pull.topic.to_owned()).or_default();
            let clients = groups.entry(pull.group.to_owned()).or_default();
            let new = Client {
                at_ms: now_ms,
                from_proxy: pull.from_proxy,
                queues: BTreeMap::new(),
            };
            clients.insert(pull.client_id.to_owned(), new);
        }
        let Some(client) = table.client_mut(pull) else {
            return;
        };
        client.at_ms = now_ms;
        client.from_proxy = pull.from_proxy;
        if client.queues.len() < QUEUES_MAX || client.queues.contains_key(&pull.queue_id) {
            let reached = client.queues.entry(pull.queue_id).or_insert(offset);
            *reached = offset.max(*reached);
        }
    }

    /// Forgets clients that are gone: offline and silent for `expire_ms`, or silent for `expire_max_ms`. Gives topic, group, queue and the least
    /// offset of the others.
    fn scan(
        &self,
        now_ms: i64,
        expire_ms: i64,
        expire_max_ms: i64,
        is_online: impl Fn(&str, &str) -> bool,
    ) -> Vec<(String, String, i32, i64)> {
        let mut least = Vec::new();
        let mut left = 0;
        let mut table = self.table();
        table.topics.retain(|topic, groups| {
            groups.retain(|group, clients| {
                let mut queues = BTreeMap::<i32, i64>::new();
                clients.retain(|id, client| {
                    let silent_ms = now_ms - client.at_ms;
                    let stays = silent_ms < expire_ms
                        || (silent_ms < expire_max_ms && is_online(group, id));
                    for (queue_id, offset) in client.queues.iter().filter(|_| stays) {
                        let least = queues.entry(*queue_id).or_insert(*offset);
                        *least = (*least).min(*offset);
                    }
                    stays
                });
                left += clients.len();
                least.extend(
                    queues
                        .into_iter()
                        .map(|(id, offset)| (topic.clone(), group.clone(), id, offset)),
                );
                !clients.is_empty()
            });
            !groups.is_empty()
        });
        table.clients = left;
        least
    }
}

impl Table {
    fn client(&self, pull: &BroadcastPull<'_>) -> Option<&Client> {
        let clients = self.topics.get(pull.topic)?.get(pull.group)?;
        clients.get(pull.client_id)
    }

    fn client_mut(&mut self, pull: &BroadcastPull<'_>) -> Option<&mut Client> {
        let clients = self.topics.get_mut(pull.topic)?.get_mut(pull.group)?;
        clients.get_mut(pull.client_id)
    }
}

/// The task that commits where broadcasting groups are and forgets clients that are gone, for as long as the broker runs.
pub(crate) async fn run(broker: Arc<Broker>) {
    let mut interval = tokio::time::interval(SCAN_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let keys = broker.keys();
        let ms = |seconds: u64| i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
        let (expire_ms, expire_max_ms) = (
            ms(keys.broadcast_offset_expire_second),
            ms(keys.broadcast_offset_expire_max_second),
        );
        let is_online = |group: &str, id: &str| {
            let members = broker.clients.consumer_group(group);
            members.is_some_and(|members| members.client_ids().iter().any(|known| known == id))
        };
        let least = broker
            .broadcasts
            .scan(broker.now_ms(), expire_ms, expire_max_ms, is_online);
        for (topic, group, queue_id, offset) in least {
            let group = offsets_group(&group);
            if broker.offsets.query(&group, &topic, queue_id) != Some(offset) {
                broker.offsets.commit(&group, &topic, queue_id, offset);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pull(client_id: &str, offset: i64, from_proxy: bool) -> BroadcastPull<'_> {
        BroadcastPull {
            topic: "t",
            group: "g",
            queue_id: 0,
            client_id,
            offset,
            from_proxy,
        }
    }

    #[test]
    fn a_client_that_changes_sides_goes_on_where_it_was() {
        let offsets = BroadcastOffsets::default();
        let nothing_known = || 3;
        assert_eq!(offsets.start(&pull("one", 7, false), nothing_known), None);
        offsets.reached(&pull("one", 7, false), 7, 0);
        offsets.reached(&pull("one", 5, false), 5, 1);
        assert_eq!(offsets.start(&pull("one", 8, false), nothing_known), None);
        assert_eq!(offsets.start(&pull("one", 0, true), nothing_known), Some(7));
        offsets.reached(&pull("one", 7, true), 7, 2);
        assert_eq!(offsets.start(&pull("one", 8, true), nothing_known), None);
        assert_eq!(
            offsets.start(&pull("one", 0, false), nothing_known),
            Some(7)
        );
    }

    #[test]
    fn a_proxy_that_does_not_know_is_told() {
        let offsets = BroadcastOffsets::default();
        assert_eq!(offsets.start(&pull("one", -1, true), || 3), Some(3));
        assert_eq!(
            offsets.start(&pull("one", -1, false), || 3),
            None,
            "no proxy"
        );
        offsets.reached(&pull("one", -1, true), -1, 0);
        assert_eq!(offsets.start(&pull("one", -1, true), || 3), Some(3));
        offsets.reached(&pull("one", 4, true), 4, 0);
        assert_eq!(offsets.start(&pull("one", -1, true), || 3), Some(4));
    }

    #[test]
    fn the_least_offset_of_those_who_are_there_counts() {
        let offsets = BroadcastOffsets::default();
        offsets.reached(&pull("gone", 2, false), 2, 0);
        offsets.reached(&pull("online", 4, false), 4, 0);
        offsets.reached(&pull("fresh", 6, false), 6, 90);
        let of = |now_ms| offsets.scan(now_ms, 100, 300, |_, id| id == "online");
        let least = |offset| vec![("t".to_owned(), "g".to_owned(), 0, offset)];
        assert_eq!(of(99), least(2));
        assert_eq!(of(100), least(4));
        assert_eq!(of(299), least(4), "one is online, the other offline");
        assert_eq!(of(300), vec![]);
        assert_eq!(offsets.table().clients, 0);
        assert!(offsets.table().topics.is_empty());
    }

    #[test]
    fn no_more_clients_are_kept_than_there_is_room_for() {
        let offsets = BroadcastOffsets::default();
        for n in 0..=CLIENTS_MAX {
            offsets.reached(&pull(&n.to_string(), 1, false), 1, 0);
        }
        assert_eq!(offsets.table().clients, CLIENTS_MAX);
        for queue_id in 0..2 * QUEUES_MAX as i32 {
            let many = BroadcastPull {
                queue_id,
                ..pull("0", 1, false)
            };
            offsets.reached(&many, 1, 0);
        }
        let table = offsets.table();
        assert_eq!(
            table.client(&pull("0", 1, false)).unwrap().queues.len(),
            QUEUES_MAX
        );
    }
}
