//! What a name server's route means for a client: the queues to write, the queues to read, the brokers' addresses.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use protocol::body::{ClusterInfo, QueueData, TopicRouteData};
use protocol::perm;

use crate::message::MessageQueue;

/// The id of a broker group's master; slaves have higher ones.
pub(crate) const MASTER_ID: i64 = 0;

/// One topic's route, as queues.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Route {
    /// Queues that take messages: those of brokers with a master, sorted by broker, then index.
    pub(crate) writable: Vec<MessageQueue>,
    /// Queues that hand out messages, sorted by broker, then index: every member of a group computes shares from it.
    pub(crate) readable: Vec<MessageQueue>,
    /// Addresses by broker name and id.
    pub(crate) brokers: HashMap<String, BTreeMap<i64, String>>,
    /// The clusters of these brokers.
    pub(crate) clusters: BTreeSet<String>,
}

impl Route {
    /// Reads the name server's answer for `topic`.
    pub(crate) fn new(topic: &str, data: &TopicRouteData) -> Self {
        let brokers: HashMap<String, BTreeMap<i64, String>> = data
            .broker_datas
            .iter()
            .map(|broker| {
                let addresses = broker.broker_addrs.iter();
                (
                    broker.broker_name.clone(),
                    addresses.map(|(id, addr)| (*id, addr.clone())).collect(),
                )
            })
            .collect();
        let mut route = Self {
            brokers,
            clusters: data
                .broker_datas
                .iter()
                .map(|broker| broker.cluster.clone())
                .collect(),
            ..Self::default()
        };
        for queues in &data.queue_datas {
            let queue = |queue_id| MessageQueue {
                topic: topic.to_owned(),
                broker_name: queues.broker_name.clone(),
                queue_id,
            };
            let has_master = route
                .brokers
                .get(&queues.broker_name)
                .is_some_and(|addrs| addrs.contains_key(&MASTER_ID));
            if perm::is_writable(queues.perm) && has_master {
                route
                    .writable
                    .extend((0..queues.write_queue_nums).map(queue));
            }
            if perm::is_readable(queues.perm) {
                route
                    .readable
                    .extend((0..queues.read_queue_nums).map(queue));
            }
        }
        route.writable.sort();
        route.readable.sort();
        route
    }
}

/// Name servers know no light queues. Each broker may have one of that name, which is read, and written by what lies in topics.
pub(crate) fn of_light_queue(cluster: ClusterInfo) -> TopicRouteData {
    let names = cluster.broker_addr_table.keys();
    TopicRouteData {
        queue_datas: names
            .map(|name| QueueData {
                broker_name: name.clone(),
                read_queue_nums: 1,
                write_queue_nums: 0,
                perm: perm::READ,
                ..QueueData::default()
            })
            .collect(),
        broker_datas: cluster.broker_addr_table.into_values().collect(),
        ..TopicRouteData::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(json: &str) -> Route {
        Route::new("T", &serde_json::from_str(json).unwrap())
    }

    const TWO_BROKERS: &str = r#"{
        "brokerDatas": [
            {"brokerName": "b", "cluster": "C", "brokerAddrs": {"1": "10.0.0.2:10911"}},
            {"brokerName": "a", "cluster": "C", "brokerAddrs": {"0": "10.0.0.1:10911"}}],
        "queueDatas": [
            {"brokerName": "b", "readQueueNums": 1, "writeQueueNums": 1, "perm": 6, "topicSysFlag": 0},
            {"brokerName": "a", "readQueueNums": 2, "writeQueueNums": 1, "perm": 6, "topicSysFlag": 0}],
        "filterServerTable": {}}"#;

    #[test]
    fn a_broker_without_master_is_read_and_not_written() {
        let route = route(TWO_BROKERS);
        let names = |queues: &[MessageQueue]| {
            queues
                .iter()
                .map(|q| format!("{}{}", q.broker_name, q.queue_id))
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&route.writable), ["a0"]);
        assert_eq!(names(&route.readable), ["a0", "a1", "b0"]);
    }
}
