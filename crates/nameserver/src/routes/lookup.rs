//! What the table answers: routes, clusters, topic lists.

use std::collections::BTreeMap;

use protocol::body::{BrokerData, BrokerMemberGroup, ClusterInfo, TopicList, TopicRouteData};
use protocol::{perm, sysflag};

use super::{Group, Identity, MASTER_ID, Policy, Table, TopicOnBroker};

/// Routes of topics with this prefix are never touched up: brokers learn from them who is really there.
const SYNC_BROKER_MEMBER_PREFIX: &str = "rmq_sys_SYNC_BROKER_MEMBER_";

impl Group {
    fn broker_data(&self, name: &str) -> BrokerData {
        BrokerData {
            cluster: self.cluster.clone(),
            broker_name: name.to_owned(),
            broker_addrs: self.addrs.clone(),
            zone_name: self.zone_name.clone(),
            enable_acting_master: self.enable_acting_master,
        }
    }
}

impl Table {
    /// Where a topic is served; nothing when no registered broker has it.
    pub fn route(&self, topic: &str, policy: Policy) -> Option<TopicRouteData> {
        let on = self.topics.get(topic)?;
        let mut route = TopicRouteData::default();
        for entry in on {
            route.queue_datas.push(entry.queue_data());
            let Some(group) = self.brokers.get(&entry.broker) else {
                continue;
            };
            for addr in group.addrs.values() {
                let identity = Identity {
                    cluster: group.cluster.clone(),
                    addr: addr.clone(),
                };
                if let Some(servers) = self.filter_servers.get(&identity) {
                    route
                        .filter_server_table
                        .insert(addr.clone(), servers.clone());
                }
            }
            let mut data = group.broker_data(&entry.broker);
            if policy.acting_master && !topic.starts_with(SYNC_BROKER_MEMBER_PREFIX) {
                present_acting_master(&mut data, entry);
            }
            route.broker_datas.push(data);
        }
        route.topic_queue_mapping_by_broker = self.mappings.get(topic).cloned();
        (!route.broker_datas.is_empty()).then_some(route)
    }

    /// All brokers by name, and the clusters they form.
    pub fn cluster_info(&self) -> ClusterInfo {
        ClusterInfo {
            broker_addr_table: self
                .brokers
                .iter()
                .map(|(name, group)| (name.to_string(), group.broker_data(name)))
                .collect(),
            cluster_addr_table: self
                .clusters
                .iter()
                .map(|(cluster, names)| {
                    (
                        cluster.clone(),
                        names.iter().map(|name| name.to_string()).collect(),
                    )
                })
                .collect(),
        }
    }

    /// The members of a broker group; without addresses when it is unknown.
    pub fn member_group(&self, cluster: &str, broker: &str) -> BrokerMemberGroup {
        BrokerMemberGroup {
            cluster: cluster.to_owned(),
            broker_name: broker.to_owned(),
            broker_addrs: self
                .brokers
                .get(broker)
                .map_or_else(BTreeMap::new, |group| group.addrs.clone()),
        }
    }

    /// Every topic.
    pub fn all_topics(&self) -> TopicList {
        self.topics_where(|_| true)
    }

    /// The topics that a cluster's brokers serve.
    pub fn topics_of_cluster(&self, cluster: &str) -> TopicList {
        let Some(names) = self.clusters.get(cluster) else {
            return TopicList::default();
        };
        self.topics_where(|on| on.iter().any(|entry| names.contains(&entry.broker)))
    }

    /// Cluster and broker names, which are topics too, and the address of one broker to ask for the rest.
    pub fn system_topics(&self) -> TopicList {
        let mut list = TopicList::default();
        for (cluster, names) in &self.clusters {
            list.topic_list.insert(cluster.clone());
            list.topic_list
                .extend(names.iter().map(|name| name.to_string()));
        }
        list.broker_addr = self
            .brokers
            .values()
            .next()
            .and_then(|group| group.addrs.values().next().cloned());
        list
    }

    /// Topics that belong to a unit.
    pub fn unit_topics(&self) -> TopicList {
        self.topics_where(|on| first_sys_flag(on) & sysflag::TOPIC_UNIT != 0)
    }

    /// Topics that a unit subscribes to.
    pub fn unit_sub_topics(&self) -> TopicList {
        self.topics_where(|on| first_sys_flag(on) & sysflag::TOPIC_UNIT_SUB != 0)
    }

    /// Topics that a unit subscribes to without belonging to one.
    pub fn unit_sub_ununit_topics(&self) -> TopicList {
        self.topics_where(|on| {
            let flag = first_sys_flag(on);
            flag & sysflag::TOPIC_UNIT_SUB != 0 && flag & sysflag::TOPIC_UNIT == 0
        })
    }

    fn topics_where(&self, wanted: impl Fn(&[TopicOnBroker]) -> bool) -> TopicList {
        TopicList {
            topic_list: self
                .topics
                .iter()
                .filter(|(_, on)| wanted(on))
                .map(|(topic, _)| topic.to_string())
                .collect(),
            broker_addr: None,
        }
    }
}

/// The flags of a topic are taken from its first broker, as in Java.
fn first_sys_flag(on: &[TopicOnBroker]) -> i32 {
    on.first().map_or(0, |entry| entry.sys_flag)
}

/// Without a master, the member with the lowest id stands in its place, so that clients which only talk to masters go on
/// reading. Only for a topic that cannot be written: a stand-in takes no messages.
fn present_acting_master(data: &mut BrokerData, entry: &TopicOnBroker) {
    let needed = data.enable_acting_master
        && !data.broker_addrs.contains_key(&MASTER_ID)
        && entry.perm & perm::WRITE == 0;
    if needed && let Some((_, addr)) = data.broker_addrs.pop_first() {
        data.broker_addrs.insert(MASTER_ID, addr);
    }
}
