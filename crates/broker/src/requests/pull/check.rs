//! Whether a pull may be served, and what it asks for. Java 5.3: the first half of `PullMessageProcessor.processRequest`.

use std::sync::Arc;
use std::time::Duration;

use filter::SyntaxError;
use protocol::body::{MessageModel, SubscriptionData};
use protocol::code::{RequestCode, ResponseCode};
use protocol::headers::PullMessageRequest;
use protocol::{perm, sysflag, topic};
use remoting::{Connection, Request};

use super::Pull;
use super::filter::Filter;
use crate::broadcast::{self, BroadcastPull};
use crate::call::Refusal;
use crate::clients::ConsumerGroup;
use crate::filters;
use crate::offsets::{Commit, ResetOfPull};
use crate::requests::offset;
use crate::requests::send::topic::SEE_FAQ;
use crate::settings::{Settings, Transfer};
use crate::{Broker, BrokerKeys};

/// A pull waits no longer than this, whatever its client asks for. Clients ask for 15 to 30 seconds.
const SUSPEND_MAX: Duration = Duration::from_secs(300);

/// Java's `RequestSource`.
const PROXY_FOR_BROADCAST: i32 = 1;

/// Why a pull is refused, with the kind of prohibition that clients tell their users.
pub(super) struct Denied {
    pub(super) refusal: Refusal,
    pub(super) forbidden: Option<Forbidden>,
}

/// Java's `ForbiddenType`.
#[derive(Clone, Copy)]
pub(super) enum Forbidden {
    Broker = 1,
    Group = 2,
    Topic = 3,
    Broadcasting = 4,
    Subscription = 5,
}

impl<E: Into<Refusal>> From<E> for Denied {
    fn from(error: E) -> Denied {
        Denied {
            refusal: error.into(),
            forbidden: None,
        }
    }
}

impl Forbidden {
    fn because(self, remark: String) -> Denied {
        Denied {
            refusal: Refusal::new(ResponseCode::NO_PERMISSION, remark),
            forbidden: Some(self),
        }
    }
}

/// A pull that may be served.
pub(super) struct Checked {
    pub(super) pull: Pull,
    /// How long it may wait, if it may.
    pub(super) suspend: Option<Duration>,
    /// Where an operator wants the group to go on instead.
    pub(super) reset: Option<i64>,
}

/// Checks a pull, and commits the offset that it carries.
pub(super) fn check(
    broker: &Broker,
    settings: &Settings,
    connection: &Connection,
    request: &Request<'_>,
) -> Result<Checked, Denied> {
    let keys = &settings.keys;
    let mut header: PullMessageRequest = request.read()?;
    let address = &broker.identity().advertised;
    if !perm::is_readable(keys.broker_permission) {
        return Err(Forbidden::Broker.because(format!(
            "the broker[{address}] pulling message is forbidden"
        )));
    }
    if request.code() == RequestCode::LITE_PULL_MESSAGE && !keys.lite_pull_message_enable {
        return Err(Forbidden::Broker.because(format!(
            "the broker[{address}] for lite pull consumer is forbidden"
        )));
    }
    let group_name = header.consumer_group.as_str();
    let Some(group) = broker
        .groups
        .get_or_create(group_name, keys.auto_create_subscription_group)
    else {
        return Err(Denied::from(Refusal::new(
            ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
            format!("subscription group [{group_name}] does not exist, {SEE_FAQ}"),
        )));
    };
    if !group.consume_enable {
        return Err(
            Forbidden::Group.because(format!("subscription group no permission, {group_name}"))
        );
    }
    let Some(topic) = broker.topics.get(&header.topic) else {
        return Err(Denied::from(Refusal::new(
            ResponseCode::TOPIC_NOT_EXIST,
            format!(
                "topic[{}] not exist, apply first please! {SEE_FAQ}",
                header.topic
            ),
        )));
    };
    if !perm::is_readable(topic.perm) {
        return Err(Forbidden::Topic.because(format!(
            "the topic[{}] pulling message is forbidden",
            header.topic
        )));
    }
    let named_queue = header.queue_id;
    header.queue_id = broker
        .static_topics
        .physical(&header.topic, named_queue)
        .map_err(Denied::from)?;
    if header.queue_id < 0 || header.queue_id >= topic.read_queue_nums {
        return Err(Denied::from(Refusal::new(
            ResponseCode::INVALID_PARAMETER,
            format!(
                "queueId[{}] is illegal, topic:[{}] topicConfig.readQueueNums:[{}]",
                header.queue_id, header.topic, topic.read_queue_nums
            ),
        )));
    }
    broker.locks.used(group_name, &header.topic, named_queue);
    let (filter, broadcasting) = filter_of(broker, keys, &header, group.consume_broadcast_enable)?;
    let (name, queue_id) = (&header.topic, header.queue_id);
    let reset = broker
        .offsets
        .reset_of_pull(group_name, name, queue_id, header.queue_offset);
    // After a reset the offset that the client carries is the one that was left behind.
    if reset.is_none() && header.sys_flag & sysflag::PULL_COMMIT_OFFSET != 0 {
        let commit = Commit {
            offset: header.commit_offset,
            pulled: Some(header.queue_offset),
            by: connection.id(),
            at_ms: broker.now_ms(),
        };
        offset::commit(broker, group_name, name, queue_id, commit);
    }
    let mut reset = match reset {
        Some(ResetOfPull::GoTo(offset)) => Some(offset),
        Some(ResetOfPull::Followed) | None => None,
    };
    let by_proxy = header.request_source == Some(PROXY_FOR_BROADCAST);
    if (broadcasting.is_some() || by_proxy) && keys.enable_broadcast_offset_store {
        reset = broadcast_start(broker, connection, &header, broadcasting.as_deref(), reset);
    }
    let suspend = (header.sys_flag & sysflag::PULL_SUSPEND != 0)
        .then(|| suspend_of(settings, header.suspend_timeout_ms));
    let pull = Pull {
        topic,
        queue_id: header.queue_id,
        offset: header.queue_offset,
        asked_offset: header.queue_offset,
        transfer: asked_transfer(&header).at_most(settings.limits.warm),
        filter,
        group,
    };
    Ok(Checked {
        pull,
        suspend,
        reset,
    })
}

/// The filter that the pull itself names, or that its client's heartbeat named.
fn filter_of(
    broker: &Broker,
    keys: &BrokerKeys,
    header: &PullMessageRequest,
    broadcast_allowed: bool,
) -> Result<(Filter, Option<Arc<ConsumerGroup>>), Denied> {
    if header.sys_flag & sysflag::PULL_SUBSCRIPTION != 0 {
        let kind = header.expression_type.as_deref().unwrap_or("");
        let expression = header.subscription.as_deref().unwrap_or("");
        let filter = Filter::of_request(broker, keys, kind, expression)?;
        return Ok((filter, None));
    }
    let group_name = &header.consumer_group;
    let Some(group) = broker.clients.consumer_group(group_name) else {
        return Err(Denied::from(Refusal::new(
            ResponseCode::SUBSCRIPTION_NOT_EXIST,
            format!("the consumer's group info not exist{SEE_FAQ}"),
        )));
    };
    let is_broadcasting = group.message_model() == MessageModel::Broadcasting;
    if !broadcast_allowed && is_broadcasting {
        return Err(Forbidden::Broadcasting.because(format!(
            "the consumer group[{group_name}] can not consume by broadcast way"
        )));
    }
    if !broker.groups.may_read(group_name, &header.topic) {
        return Err(Forbidden::Subscription.because(format!(
            "the consumer group[{group_name}] is forbidden for topic[{}]",
            header.topic
        )));
    }
    let Some(subscription) = group.subscription(&header.topic) else {
        return Err(Denied::from(Refusal::new(
            ResponseCode::SUBSCRIPTION_NOT_EXIST,
            format!("the consumer's subscription not exist{SEE_FAQ}"),
        )));
    };
    if subscription.sub_version < header.sub_version {
        return Err(Denied::from(Refusal::new(
            ResponseCode::SUBSCRIPTION_NOT_LATEST,
            "the consumer's subscription not latest",
        )));
    }
    let filter = if filters::is_by_tag(&subscription.expression_type) {
        Filter::of_subscription(&subscription)?
    } else {
        registered_filter(broker, keys, header, &subscription)?
    };
    Ok((filter, is_broadcasting.then_some(group)))
}

/// Where a client of a broadcasting group has to begin instead of where it wants to; what it has reached is remembered.
fn broadcast_start(
    broker: &Broker,
    connection: &Connection,
    header: &PullMessageRequest,
    members: Option<&ConsumerGroup>,
    reset: Option<i64>,
) -> Option<i64> {
    let from_proxy = header.request_source == Some(PROXY_FOR_BROADCAST);
    let client_id = if from_proxy {
        header.proxy_forward_client_id.clone()
    } else {
        members.and_then(|members| members.client_on(connection.id()))
    };
    // A client whose heartbeat has not come yet is nobody that could be remembered.
    let Some(client_id) = client_id else {
        return reset;
    };
    let (topic, queue_id) = (header.topic.as_str(), header.queue_id);
    let pull = BroadcastPull {
        topic,
        group: &header.consumer_group,
        queue_id,
        client_id: &client_id,
        offset: header.queue_offset,
        from_proxy,
    };
    let nothing_known = || {
        let group = broadcast::offsets_group(&header.consumer_group);
        let committed = broker.offsets.query(&group, topic, queue_id);
        committed.unwrap_or_else(|| {
            if offset::first_is_in_memory(broker, topic, queue_id) {
                0
            } else {
                broker.store.max_offset(topic, queue_id) as i64
            }
        })
    };
    let start = reset.or_else(|| broker.broadcasts.start(&pull, nothing_known));
    let reached = start.unwrap_or(header.queue_offset);
    broker.broadcasts.reached(&pull, reached, broker.now_ms());
    start
}

/// The filter that the group's heartbeats brought.
fn registered_filter(
    broker: &Broker,
    keys: &BrokerKeys,
    header: &PullMessageRequest,
    subscription: &SubscriptionData,
) -> Result<Filter, Refusal> {
    let (group, topic) = (&header.consumer_group, &header.topic);
    let Some(registered) = broker.filters.get(group, topic) else {
        let why = match broker.filters.compile(&subscription.sub_string) {
            Err(error) => error.to_string(),
            Ok(_) => "no heartbeat has brought it yet, or it found no room".to_owned(),
        };
        return Err(Refusal::new(
            ResponseCode::FILTER_DATA_NOT_EXIST,
            format!("the broker has no filter of group[{group}] for topic[{topic}]: {why}"),
        ));
    };
    if registered.version < header.sub_version {
        return Err(Refusal::new(
            ResponseCode::FILTER_DATA_NOT_LATEST,
            "the consumer's consumer filter data not latest",
        ));
    }
    may_filter_by(keys, &subscription.expression_type)?;
    let of_retry = topic::group_of_retry_topic(topic).filter(|_| keys.filter_support_retry);
    Ok(match of_retry {
        Some(group) => Filter::OfRealTopic(group.to_owned()),
        None => Filter::Expression(registered.filter),
    })
}

/// Whether consumers may filter by anything but tags.
pub(crate) fn may_filter_by(keys: &BrokerKeys, kind: &str) -> Result<(), Refusal> {
    if keys.enable_property_filter {
        return Ok(());
    }
    Err(Refusal::system_error(format!(
        "The broker does not support consumer to filter message by {kind}: enablePropertyFilter is false"
    )))
}

/// Whether there are expressions of that kind.
pub(crate) fn check_kind(kind: &str) -> Result<(), Refusal> {
    if kind == filters::SQL92 {
        return Ok(());
    }
    Err(Refusal::new(
        ResponseCode::SUBSCRIPTION_PARSE_FAILED,
        format!("expressions of type [{kind}] are not known; TAG and SQL92 are"),
    ))
}

/// An expression that cannot be read.
pub(crate) fn unreadable(error: SyntaxError) -> Refusal {
    Refusal::new(
        ResponseCode::SUBSCRIPTION_PARSE_FAILED,
        format!("parse the consumer's subscription failed: {error}"),
    )
}

fn asked_transfer(header: &PullMessageRequest) -> Transfer {
    Transfer {
        messages_max: usize::try_from(header.messages_max).unwrap_or(0).max(1),
        bytes_max: header
            .bytes_max
            .and_then(|bytes| usize::try_from(bytes).ok())
            .filter(|bytes| *bytes > 0)
            .unwrap_or(usize::MAX),
    }
}

fn suspend_of(settings: &Settings, asked_ms: i64) -> Duration {
    let ms = if settings.keys.long_polling_enable {
        u64::try_from(asked_ms).unwrap_or(0)
    } else {
        settings.keys.short_polling_time_ms
    };
    Duration::from_millis(ms).min(SUSPEND_MAX)
}
