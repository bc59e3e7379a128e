//! Topics and brokers: creating topics, their queues' offsets, what a broker says of itself.

use std::collections::BTreeMap;

use protocol::body::{KvTable, TopicConfig, TopicFilterType, TopicStatsTable};
use protocol::code::RequestCode;
use protocol::command::Command;
use protocol::headers::{CreateTopicRequest, DeleteTopicRequest, GetTopicStatsInfoRequest};

use crate::nameservers::ORDER_TOPIC_CONFIG;
use crate::{Admin, Error, body_of, select_addr};

impl Admin {
    /// Creates a topic on one broker, or changes it to this configuration.
    pub async fn create_topic(&self, broker: &str, config: &TopicConfig) -> Result<(), Error> {
        let header = CreateTopicRequest {
            topic: config.topic_name.clone(),
            default_topic: protocol::topic::AUTO_CREATE.to_owned(),
            read_queue_nums: config.read_queue_nums,
            write_queue_nums: config.write_queue_nums,
            perm: config.perm,
            topic_filter_type: filter_name(config.topic_filter_type).to_owned(),
            topic_sys_flag: Some(config.topic_sys_flag),
            order: config.order,
            attributes: attributes_text(config),
            ..Default::default()
        };
        let request = Command::request(RequestCode::UPDATE_AND_CREATE_TOPIC, &header);
        self.ask_ok(broker, request).await.map(drop)
    }

    /// Deletes a topic on one broker.
    pub async fn delete_topic_in_broker(&self, broker: &str, topic: &str) -> Result<(), Error> {
        let header = DeleteTopicRequest {
            topic: topic.to_owned(),
            ..Default::default()
        };
        let request = Command::request(RequestCode::DELETE_TOPIC_IN_BROKER, &header);
        self.ask_ok(broker, request).await.map(drop)
    }

    /// The smallest and largest offsets of a topic's queues on one broker.
    pub async fn topic_stats_of(
        &self,
        broker: &str,
        topic: &str,
    ) -> Result<TopicStatsTable, Error> {
        let header = GetTopicStatsInfoRequest {
            topic: topic.to_owned(),
            ..Default::default()
        };
        let request = Command::request(RequestCode::GET_TOPIC_STATS_INFO, &header);
        let answer = self.ask_ok(broker, request).await?;
        body_of(broker, &answer)
    }

    /// The smallest and largest offsets of a topic's queues on all its brokers. `route_of` names another topic whose
    /// route says which brokers those are.
    pub async fn topic_stats(
        &self,
        topic: &str,
        route_of: Option<&str>,
    ) -> Result<TopicStatsTable, Error> {
        let route = self.route(route_of.unwrap_or(topic)).await?;
        let mut all = TopicStatsTable::default();
        for broker in &route.broker_datas {
            if let Some(addr) = select_addr(broker) {
                let stats = self.topic_stats_of(addr, topic).await?;
                all.offset_table.extend(stats.offset_table.0);
            }
        }
        Ok(all)
    }

    /// What a broker says of itself: version, throughput, disk, and more.
    pub async fn runtime_info(&self, broker: &str) -> Result<KvTable, Error> {
        let request = Command::request(RequestCode::GET_BROKER_RUNTIME_INFO, &());
        let answer = self.ask_ok(broker, request).await?;
        body_of(broker, &answer)
    }

    /// Says which brokers hold an ordered topic, and how many queues each. With `whole` the value replaces what there
    /// was; otherwise its brokers are added to it.
    pub async fn put_order_conf(&self, topic: &str, value: &str, whole: bool) -> Result<(), Error> {
        let mut brokers = BTreeMap::new();
        if !whole {
            let known = match self.kv_namespace(ORDER_TOPIC_CONFIG).await {
                Ok(table) => table.table.get(topic).cloned().unwrap_or_default(),
                Err(Error::Refused { .. }) => String::new(),
                Err(error) => return Err(error),
            };
            brokers.extend(order_entries(&known));
        }
        brokers.extend(order_entries(value));
        let value: Vec<String> = brokers.into_values().collect();
        self.put_kv(ORDER_TOPIC_CONFIG, topic, &value.join(";"))
            .await
    }
}

/// `broker-a:4;broker-b:4` as broker name → entry.
fn order_entries(value: &str) -> impl Iterator<Item = (String, String)> + '_ {
    value
        .split(';')
        .filter(|entry| !entry.is_empty())
        .map(|entry| {
            let name = entry.split(':').next().unwrap_or(entry);
            (name.to_owned(), entry.to_owned())
        })
}

/// `+key=value,-key`: how the request carries attributes. The keys of the configuration bear their sign.
fn attributes_text(config: &TopicConfig) -> Option<String> {
    if config.attributes.is_empty() {
        return None;
    }
    let changes: Vec<String> = config
        .attributes
        .iter()
        .map(|(key, value)| {
            if value.is_empty() {
                key.clone()
            } else {
                format!("{key}={value}")
            }
        })
        .collect();
    Some(changes.join(","))
}

/// The constant of Java's enum.
pub fn filter_name(filter: TopicFilterType) -> &'static str {
    match filter {
        TopicFilterType::SingleTag => "SINGLE_TAG",
        TopicFilterType::MultiTag => "MULTI_TAG",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_travel_with_their_signs() {
        let check = |attributes: &[(&str, &str)], want: Option<&str>| {
            let config = TopicConfig {
                attributes: attributes
                    .iter()
                    .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                    .collect(),
                ..TopicConfig::default()
            };
            assert_eq!(attributes_text(&config).as_deref(), want);
        };
        check(&[], None);
        check(&[("+a", "1"), ("-b", "")], Some("+a=1,-b"));
    }

    #[test]
    fn a_broker_replaces_its_own_entry_in_the_order_configuration() {
        let mut brokers: BTreeMap<String, String> = order_entries("a:4;b:8;").collect();
        brokers.extend(order_entries("b:2"));
        let entries: Vec<String> = brokers.into_values().collect();
        assert_eq!(entries.join(";"), "a:4;b:2");
    }
}
