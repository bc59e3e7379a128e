//! Consumer groups: who consumes a topic, and how far they came.

use protocol::body::{
    BrokerStatsData, ConsumeMessageDirectlyResult, ConsumeStats, ConsumeStatsList, ConsumeType,
    ConsumerConnection, ConsumerRunningInfo, GetConsumerStatusBody, GroupList, MessageModel,
};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{
    ConsumeMessageDirectlyResultRequest, GetConsumeStatsInBroker, GetConsumeStatsRequest,
    GetConsumerConnectionListRequest, GetConsumerRunningInfoRequest, GetConsumerStatusRequest,
    QueryTopicConsumeByWhoRequest, ViewBrokerStatsDataRequest,
};
use serde::Serialize;

use crate::{Admin, Error, StoredMessage, body_of, select_addr};

/// What one group did with one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Track {
    /// The group.
    pub consumer_group: String,
    /// What it did.
    pub track_type: TrackState,
    /// Why that is not known better.
    pub exception_desc: Option<String>,
}

/// What a group did with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TrackState {
    /// Its offset is behind the message.
    Consumed,
    /// As that, but its subscription does not select the message.
    ConsumedButFiltered,
    /// It pulls on its own and keeps its own account.
    Pull,
    /// Its offset is in front of the message.
    NotConsumeYet,
    /// No member is connected.
    NotOnline,
    /// Each member consumes everything and keeps its own offset.
    ConsumeBroadcasting,
    /// It could not be found out.
    Unknown,
}

impl TrackState {
    /// Java's name of it.
    pub fn name(self) -> &'static str {
        match self {
            TrackState::Consumed => "CONSUMED",
            TrackState::ConsumedButFiltered => "CONSUMED_BUT_FILTERED",
            TrackState::Pull => "PULL",
            TrackState::NotConsumeYet => "NOT_CONSUME_YET",
            TrackState::NotOnline => "NOT_ONLINE",
            TrackState::ConsumeBroadcasting => "CONSUME_BROADCASTING",
            TrackState::Unknown => "UNKNOWN",
        }
    }
}

impl Admin {
    /// The groups that consume a topic.
    pub async fn consumers_of(&self, topic: &str) -> Result<GroupList, Error> {
        let route = self.route(topic).await?;
        let Some(addr) = route.broker_datas.iter().find_map(select_addr) else {
            return Ok(GroupList::default());
        };
        let header = QueryTopicConsumeByWhoRequest {
            topic: topic.to_owned(),
            ..Default::default()
        };
        let request = Command::request(RequestCode::QUERY_TOPIC_CONSUME_BY_WHO, &header);
        let answer = self.ask_ok(addr, request).await?;
        body_of(addr, &answer)
    }

    /// The connected members of a group.
    pub async fn consumer_connection(&self, group: &str) -> Result<ConsumerConnection, Error> {
        let addr = self.broker_of_group(group).await?;
        self.consumer_connection_at(&addr, group).await
    }

    /// The members of a group that are connected to one broker.
    pub async fn consumer_connection_at(
        &self,
        addr: &str,
        group: &str,
    ) -> Result<ConsumerConnection, Error> {
        let header = GetConsumerConnectionListRequest {
            consumer_group: group.to_owned(),
            ..Default::default()
        };
        let request = Command::request(RequestCode::GET_CONSUMER_CONNECTION_LIST, &header);
        let answer = self.ask_ok(addr, request).await?;
        body_of(addr, &answer)
    }

    /// How far a group came in a topic's queues on one broker, and how far those reach.
    pub async fn consume_stats_of(
        &self,
        broker: &str,
        group: &str,
        topic: Option<&str>,
    ) -> Result<ConsumeStats, Error> {
        let header = GetConsumeStatsRequest {
            consumer_group: group.to_owned(),
            topic: topic.map(str::to_owned),
            ..Default::default()
        };
        let request = Command::request(RequestCode::GET_CONSUME_STATS, &header);
        let answer = self.ask_ok(broker, request).await?;
        body_of(broker, &answer)
    }

    /// How far a group came in all the queues of its topics.
    pub async fn consume_stats(
        &self,
        group: &str,
        topic: Option<&str>,
    ) -> Result<ConsumeStats, Error> {
        // A group that nobody has consumed for has no topic of its own yet.
        let route = match self.route(&protocol::topic::retry_topic(group)).await {
            Err(Error::Refused { .. }) if topic.is_some() => {
                self.route(topic.unwrap_or_default()).await?
            }
            route => route?,
        };
        let mut all = ConsumeStats::default();
        for addr in route.broker_datas.iter().filter_map(select_addr) {
            let stats = self.consume_stats_of(addr, group, topic).await?;
            all.offset_table.extend(stats.offset_table.0);
            all.consume_tps += stats.consume_tps;
        }
        Ok(all)
    }

    /// How far all groups of a broker came; with `order`, those of ordered topics.
    pub async fn broker_consume_stats(
        &self,
        broker: &str,
        order: bool,
    ) -> Result<ConsumeStatsList, Error> {
        let header = GetConsumeStatsInBroker { order };
        let request = Command::request(RequestCode::GET_BROKER_CONSUME_STATS, &header);
        let answer = self.ask_ok(broker, request).await?;
        body_of(broker, &answer)
    }

    /// What a broker counted under one of Java's names, such as `TOPIC_PUT_NUMS`, for a topic or `topic@group`.
    pub async fn stats_data(
        &self,
        broker: &str,
        name: &str,
        key: &str,
    ) -> Result<BrokerStatsData, Error> {
        let header = ViewBrokerStatsDataRequest {
            stats_name: name.to_owned(),
            stats_key: key.to_owned(),
        };
        let request = Command::request(RequestCode::VIEW_BROKER_STATS_DATA, &header);
        let answer = self.ask_ok(broker, request).await?;
        body_of(broker, &answer)
    }

    /// The inside of a group's member, as it tells of itself. `jstack`: with the stacks of its threads.
    pub async fn running_info(
        &self,
        group: &str,
        client_id: &str,
        jstack: bool,
    ) -> Result<ConsumerRunningInfo, Error> {
        let header = GetConsumerRunningInfoRequest {
            consumer_group: group.to_owned(),
            client_id: client_id.to_owned(),
            jstack_enable: jstack,
        };
        let request = Command::request(RequestCode::GET_CONSUMER_RUNNING_INFO, &header);
        let addr = self.broker_of_group(group).await?;
        let answer = self.ask_ok(&addr, request).await?;
        body_of(&addr, &answer)
    }

    /// How far the members of a group are in a topic by their own account, on all brokers. An empty `client_id` asks all.
    pub async fn consumer_status(
        &self,
        group: &str,
        topic: &str,
        client_id: &str,
    ) -> Result<GetConsumerStatusBody, Error> {
        let route = self.route(topic).await?;
        let header = GetConsumerStatusRequest {
            topic: topic.to_owned(),
            group: group.to_owned(),
            client_addr: Some(client_id.to_owned()),
        };
        let addr = route.broker_datas.iter().find_map(select_addr);
        let addr = addr.unwrap_or_default();
        let code = RequestCode::INVOKE_BROKER_TO_GET_CONSUMER_STATUS;
        let answer = self.ask_ok(addr, Command::request(code, &header)).await?;
        body_of(addr, &answer)
    }

    /// Lets a member of a group consume one message that `broker` has, beside all others.
    pub async fn consume_directly(
        &self,
        broker: &str,
        group: &str,
        client_id: &str,
        offset_msg_id: &str,
    ) -> Result<ConsumeMessageDirectlyResult, Error> {
        let header = ConsumeMessageDirectlyResultRequest {
            consumer_group: group.to_owned(),
            client_id: Some(client_id.to_owned()),
            msg_id: Some(offset_msg_id.to_owned()),
            ..ConsumeMessageDirectlyResultRequest::default()
        };
        let request = Command::request(RequestCode::CONSUME_MESSAGE_DIRECTLY, &header);
        let answer = self.ask_ok(broker, request).await?;
        body_of(broker, &answer)
    }

    /// A broker that members of the group are connected to.
    async fn broker_of_group(&self, group: &str) -> Result<String, Error> {
        let topic = protocol::topic::retry_topic(group);
        let route = self.route(&topic).await?;
        let addr = route.broker_datas.iter().find_map(select_addr);
        addr.map(str::to_owned).ok_or_else(|| Error::NoBroker {
            topic,
            missing: "is known".to_owned(),
        })
    }

    /// What each group that consumes a message's topic did with it.
    pub async fn tracks(&self, message: &StoredMessage) -> Result<Vec<Track>, Error> {
        let groups = self.consumers_of(&message.topic).await?;
        let mut tracks = Vec::new();
        for group in groups.group_list {
            let (track_type, exception_desc) = match self.track(message, &group).await {
                Ok(state) => (state, None),
                Err(error) => (unknown_by(&error), Some(describe(&error))),
            };
            tracks.push(Track {
                consumer_group: group,
                track_type,
                exception_desc,
            });
        }
        Ok(tracks)
    }

    async fn track(&self, message: &StoredMessage, group: &str) -> Result<TrackState, Error> {
        let connection = self.consumer_connection(group).await?;
        match connection.consume_type {
            ConsumeType::Actively => return Ok(TrackState::Pull),
            ConsumeType::Passively => {}
            ConsumeType::Pop => return Ok(TrackState::Unknown),
        }
        if connection.message_model == MessageModel::Broadcasting {
            return Ok(TrackState::ConsumeBroadcasting);
        }
        if !self.is_consumed(message, group).await? {
            return Ok(TrackState::NotConsumeYet);
        }
        let filtered = connection
            .subscription_table
            .get(&message.topic)
            .is_some_and(|subscription| {
                let tags = &subscription.tags_set;
                let tag = message.tags().unwrap_or_default();
                !(tags.is_empty() || tags.iter().any(|wanted| wanted == "*" || wanted == tag))
            });
        Ok(if filtered {
            TrackState::ConsumedButFiltered
        } else {
            TrackState::Consumed
        })
    }

    async fn is_consumed(&self, message: &StoredMessage, group: &str) -> Result<bool, Error> {
        let stats = self.consume_stats(group, None).await?;
        let info = self.cluster_info().await?;
        let store_host = message.store_host.to_string();
        Ok(stats.offset_table.iter().any(|(queue, offset)| {
            let master = info
                .broker_addr_table
                .get(&queue.broker_name)
                .and_then(|broker| broker.broker_addrs.get(&0));
            queue.topic == message.topic
                && queue.queue_id == message.queue_id
                && master == Some(&store_host)
                && offset.consumer_offset > message.queue_offset
        }))
    }
}

fn unknown_by(error: &Error) -> TrackState {
    match error {
        Error::Refused { code, .. } if *code == ResponseCode::CONSUMER_NOT_ONLINE => {
            TrackState::NotOnline
        }
        _ => TrackState::Unknown,
    }
}

fn describe(error: &Error) -> String {
    match error {
        Error::Refused { code, remark, .. } => format!("CODE:{} DESC:{remark}", code.0),
        other => other.to_string(),
    }
}
