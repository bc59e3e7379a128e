//! Which queues this member of a group takes, as it stands.

use std::collections::HashSet;
use std::time::Duration;

use protocol::body::{ConsumerData, SubscriptionData};
use protocol::tags;

use crate::assignment::allocate_averagely;
use crate::error::Error;
use crate::instance::{Instance, now_ms};
use crate::message::{MessageQueue, Received};
use crate::push::{MessageModel, StartFrom};
use crate::selector::MessageSelector;

/// How often shares are computed even when no broker says that the group changed.
pub(crate) const PERIOD: Duration = Duration::from_secs(20);

/// One subscribed topic and what is wanted of it.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    pub(crate) topic: String,
    pub(crate) selector: MessageSelector,
    /// Rises with every change, so that brokers keep the newest.
    pub(crate) version: i64,
    /// Empty: every tag.
    tags: HashSet<String>,
}

impl Subscription {
    pub(crate) fn new(topic: &str, selector: impl Into<MessageSelector>) -> Self {
        let selector = selector.into();
        let expression = selector.expression();
        let tags = if !selector.is_by_tag() || expression == "*" {
            HashSet::new()
        } else {
            let tags = expression.split("||").map(str::trim);
            tags.filter(|tag| !tag.is_empty())
                .map(str::to_owned)
                .collect()
        };
        Self {
            topic: topic.to_owned(),
            version: now_ms(),
            tags,
            selector,
        }
    }

    /// Brokers filter by a hash of the tag; what collides is dropped here. Expressions are theirs alone.
    pub(crate) fn accepts(&self, message: &Received) -> bool {
        self.tags.is_empty() || message.tag().is_some_and(|tag| self.tags.contains(tag))
    }

    pub(crate) fn to_wire(&self) -> SubscriptionData {
        SubscriptionData {
            topic: self.topic.clone(),
            sub_string: self.selector.expression().to_owned(),
            expression_type: self.selector.kind().to_owned(),
            tags_set: self.tags.iter().cloned().collect(),
            code_set: self.tags.iter().map(|tag| tags::hash_code(tag)).collect(),
            sub_version: self.version,
            ..SubscriptionData::default()
        }
    }
}

/// What the heartbeat says of a consumer.
pub(crate) fn consumer_data(
    group: &str,
    model: MessageModel,
    start: StartFrom,
    actively: bool,
    subscriptions: &[Subscription],
) -> ConsumerData {
    ConsumerData {
        group_name: group.to_owned(),
        consume_type: if actively {
            protocol::body::ConsumeType::Actively
        } else {
            protocol::body::ConsumeType::Passively
        },
        message_model: match model {
            MessageModel::Clustering => protocol::body::MessageModel::Clustering,
            MessageModel::Broadcasting => protocol::body::MessageModel::Broadcasting,
        },
        consume_from_where: match start {
            StartFrom::Newest => protocol::body::ConsumeFromWhere::LastOffset,
            StartFrom::Oldest => protocol::body::ConsumeFromWhere::FirstOffset,
            StartFrom::Timestamp(_) => protocol::body::ConsumeFromWhere::Timestamp,
        },
        subscription_data_set: subscriptions.iter().map(Subscription::to_wire).collect(),
        unit_mode: false,
    }
}

/// The queues of `topic` that this member takes now.
pub(crate) async fn share(
    instance: &Instance,
    group: &str,
    topic: &str,
    model: MessageModel,
) -> Result<Vec<MessageQueue>, Error> {
    let route = instance.route(topic).await?;
    match model {
        MessageModel::Broadcasting => Ok(route.readable.clone()),
        MessageModel::Clustering => {
            let members = instance.members(group, topic).await?;
            Ok(allocate_averagely(
                instance.client_id(),
                &members,
                &route.readable,
            ))
        }
    }
}

/// Where consumption of a queue begins that the group never consumed.
pub(crate) async fn first_offset(
    instance: &Instance,
    queue: &MessageQueue,
    start: StartFrom,
) -> Result<i64, Error> {
    match start {
        // Redelivered messages are never skipped, however new the group's start.
        _ if is_retry(&queue.topic) => instance.min_offset(queue).await,
        StartFrom::Newest => instance.max_offset(queue).await,
        StartFrom::Oldest => instance.min_offset(queue).await,
        StartFrom::Timestamp(timestamp_ms) => instance.search_offset(queue, timestamp_ms).await,
    }
}

/// Whether a topic holds a group's redelivered messages.
pub(crate) fn is_retry(topic: &str) -> bool {
    protocol::topic::group_of_retry_topic(topic).is_some()
}
