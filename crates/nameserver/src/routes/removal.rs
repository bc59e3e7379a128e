//! How brokers and topics leave the table: farewells, closed connections, silence, deletion.

use std::collections::BTreeSet;
use std::sync::Arc;

use protocol::perm;

use super::{Farewell, Live, MASTER_ID, MinIdChange, Policy, Table, min_id_change};

/// Brokers that stayed silent for too long.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Their connections, to be closed.
    pub connections: Vec<u64>,
    /// What their groups must hear.
    pub changes: Vec<MinIdChange>,
}

impl Table {
    /// Removes brokers, all in one pass over the topics.
    ///
    /// A broker that is not registered changes nothing, so a farewell may arrive twice.
    pub fn unregister(&mut self, policy: Policy, farewells: &[Farewell]) -> Vec<MinIdChange> {
        let mut removed = BTreeSet::new();
        let mut reduced = BTreeSet::new();
        let mut offline = Vec::new();
        for farewell in farewells {
            self.live.remove(&farewell.identity);
            self.filter_servers.remove(&farewell.identity);
            let Some((name, _)) = self.brokers.get_key_value(farewell.broker_name.as_str()) else {
                continue;
            };
            let name = Arc::clone(name);
            let Some(group) = self.brokers.get_mut(&name) else {
                continue;
            };
            let min_id = group.min_id();
            let members = group.addrs.len();
            group
                .addrs
                .retain(|_, addr| *addr != farewell.identity.addr);
            if group.addrs.len() == members {
                continue;
            }
            tracing::info!(broker = %name, id = farewell.broker_id, addr = farewell.identity.addr, "broker unregistered");
            if group.addrs.is_empty() {
                self.brokers.remove(&name);
                self.clusters.retain(|_, names| {
                    names.remove(&name);
                    !names.is_empty()
                });
                reduced.remove(&name);
                removed.insert(name);
            } else {
                if min_id != group.min_id() {
                    offline.push((Arc::clone(&name), farewell.identity.addr.clone()));
                }
                reduced.insert(name);
            }
        }
        self.drop_topics_of(&removed, &reduced);
        self.check();
        if !policy.notify_min_id {
            return Vec::new();
        }
        offline
            .into_iter()
            .filter_map(|(name, addr)| {
                let group = self.brokers.get(&name)?;
                // Brokers older than 5.0 do not act for their master and would not understand the notice.
                group
                    .enable_acting_master
                    .then(|| min_id_change(group, Some(&addr), None))?
            })
            .collect()
    }

    /// Topics lose the brokers that are gone; where only slaves are left, they lose the write permission.
    fn drop_topics_of(&mut self, removed: &BTreeSet<Arc<str>>, reduced: &BTreeSet<Arc<str>>) {
        let read_only: BTreeSet<&Arc<str>> = reduced
            .iter()
            .filter(|name| {
                self.brokers.get(*name).is_some_and(|group| {
                    group.enable_acting_master && group.min_id() > Some(MASTER_ID)
                })
            })
            .collect();
        if removed.is_empty() && read_only.is_empty() {
            return;
        }
        self.topics.retain(|_, on| {
            on.retain(|entry| !removed.contains(&entry.broker));
            for entry in on
                .iter_mut()
                .filter(|entry| read_only.contains(&entry.broker))
            {
                entry.perm &= !perm::WRITE;
            }
            !on.is_empty()
        });
    }

    /// A connection closed: every broker that registered over it, and has not since registered over another, is gone.
    pub fn connection_closed(&mut self, policy: Policy, connection: u64) -> Vec<MinIdChange> {
        let gone: Vec<Farewell> = self.farewells(|live| live.connection == connection);
        self.unregister(policy, &gone)
    }

    /// Removes the brokers whose last sign of life is older than the time they named.
    pub fn expire(&mut self, now_ms: i64, policy: Policy) -> Expired {
        let silent = |live: &Live| live.last_update_ms.saturating_add(live.timeout_ms) < now_ms;
        let gone = self.farewells(silent);
        let connections = gone
            .iter()
            .filter_map(|farewell| self.live.get(&farewell.identity))
            .map(|live| live.connection)
            .collect();
        for Farewell {
            identity,
            broker_name,
            ..
        } in &gone
        {
            tracing::warn!(
                broker = broker_name,
                addr = identity.addr,
                "broker silent for too long"
            );
        }
        Expired {
            connections,
            changes: self.unregister(policy, &gone),
        }
    }

    /// The farewells that certain brokers did not send themselves.
    fn farewells(&self, gone: impl Fn(&Live) -> bool) -> Vec<Farewell> {
        let mut farewells: Vec<Farewell> = self
            .live
            .iter()
            .filter(|(_, live)| gone(live))
            .map(|(identity, live)| Farewell {
                identity: identity.clone(),
                broker_name: live.broker_name.to_string(),
                broker_id: live.broker_id,
            })
            .collect();
        farewells.sort();
        farewells
    }

    /// Forgets a topic, everywhere or, with a cluster named, on the brokers of that cluster.
    pub fn delete_topic(&mut self, topic: &str, cluster: Option<&str>) {
        let Some(cluster) = cluster else {
            self.topics.remove(topic);
            return;
        };
        let Some(names) = self.clusters.get(cluster) else {
            return;
        };
        if let Some(on) = self.topics.get_mut(topic) {
            on.retain(|entry| !names.contains(&entry.broker));
            if on.is_empty() {
                self.topics.remove(topic);
            }
        }
    }
}
