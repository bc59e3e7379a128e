//! The topic of a send: found, or created by the template that the client names.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use protocol::body::{TopicConfig, TopicFilterType};
use protocol::code::ResponseCode;
use protocol::{perm, sysflag, topic, version};
use remoting::Connection;

use super::{Header, off_the_reactor};
use crate::Broker;
use crate::call::Refusal;
use crate::settings::Settings;
use crate::topics::Found;

/// What Java's clients and tools show behind a refusal that has an answer in the documentation.
pub(crate) const SEE_FAQ: &str =
    "\nSee https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details.";
/// Queues of a dead-letter topic.
pub(crate) const DEAD_LETTER_QUEUES: i32 = 1;
/// Queues of a retry topic that a client's own send creates.
const RETRY_QUEUES: i32 = 1;

/// The topic of a send, which is created when it does not exist and the client's template allows it. The caller commits one
/// that is not durable before it stores its message.
pub(crate) fn find_or_create(
    broker: &Broker,
    settings: &Settings,
    connection: &Connection,
    header: &Header<'_>,
) -> Result<Found, Refusal> {
    let name = &*header.topic;
    topic::check_topic(name)
        .map_err(|error| Refusal::new(ResponseCode::INVALID_PARAMETER, error.to_string()))?;
    // A record of the timer topic names any topic as its own: only the broker stores there.
    if topic::is_not_sendable(name) || name == topic::TIMER {
        return Err(Refusal::new(
            ResponseCode::NO_PERMISSION,
            format!("Sending message to topic[{name}] is forbidden."),
        ));
    }
    let found = match broker.topics.find(name) {
        Some(found) => found,
        None => create(broker, settings, connection, header)?,
    };
    if found.config.order && !perm::is_writable(settings.keys.broker_permission) {
        return Err(Refusal::new(
            ResponseCode::NO_PERMISSION,
            format!(
                "the broker[{}] sending message is forbidden",
                broker.identity().advertised
            ),
        ));
    }
    Ok(found)
}

fn create(
    broker: &Broker,
    settings: &Settings,
    connection: &Connection,
    header: &Header<'_>,
) -> Result<Found, Refusal> {
    let name = &*header.topic;
    let is_retry = name.starts_with(topic::RETRY_PREFIX);
    let sys_flag = match (header.unit_mode == Some(true), is_retry) {
        (false, _) => 0,
        (true, true) => sysflag::TOPIC_UNIT_SUB,
        (true, false) => sysflag::TOPIC_UNIT,
    };
    let config = match from_template(broker, settings, header, sys_flag) {
        Some(config) => config,
        None if is_retry => new_config(name, RETRY_QUEUES, sys_flag),
        None => {
            return Err(Refusal::new(
                ResponseCode::TOPIC_NOT_EXIST,
                format!("topic[{name}] not exist, apply first please!{SEE_FAQ}"),
            ));
        }
    };
    Ok(keep(broker, connection, config))
}

/// The topic of that name, which is created when there is none.
fn keep(broker: &Broker, connection: &Connection, config: TopicConfig) -> Found {
    let (config, created) = broker.topics.create_if_absent(config);
    if created {
        tracing::info!(topic = config.topic_name, queues = config.write_queue_nums, producer = %connection.peer(), "created a topic on its first message");
        broker.topic_changed(&config);
    }
    // Another send may have created it a moment ago: it is as new as one of our own.
    Found {
        config,
        is_durable: false,
    }
}

/// As [`keep`], and the topic is in its file on return: a message may be stored in it.
pub(crate) fn keep_durably(
    broker: &Broker,
    connection: &Connection,
    config: TopicConfig,
) -> Result<Arc<TopicConfig>, Refusal> {
    let found = match broker.topics.find(&config.topic_name) {
        Some(found) => found,
        None => keep(broker, connection, config),
    };
    durable(broker, found)
}

/// As [`find_or_create`], and the topic is in its file on return.
pub(crate) fn find_or_create_durably(
    broker: &Broker,
    settings: &Settings,
    connection: &Connection,
    header: &Header<'_>,
) -> Result<Arc<TopicConfig>, Refusal> {
    let found = find_or_create(broker, settings, connection, header)?;
    durable(broker, found)
}

fn durable(broker: &Broker, found: Found) -> Result<Arc<TopicConfig>, Refusal> {
    if !found.is_durable {
        off_the_reactor(|| broker.topics.commit())
            .map_err(|error| not_written(&found.config.topic_name, &error))?;
    }
    Ok(found.config)
}

/// Whether the topic has the queue that a client asks for; a negative one stands for any.
pub(crate) fn check_queue(
    config: &TopicConfig,
    queue_id: i32,
    born_host: SocketAddr,
) -> Result<(), Refusal> {
    let queues = config.write_queue_nums.max(config.read_queue_nums);
    if queue_id < queues {
        return Ok(());
    }
    Err(Refusal::new(
        ResponseCode::INVALID_PARAMETER,
        format!(
            "request queueId[{queue_id}] is illegal, {} Producer: {born_host}",
            describe(config)
        ),
    ))
}

/// A client that names no queue gets the next one in turn.
pub(crate) fn queue_id(broker: &Broker, config: &TopicConfig, asked: i32) -> Result<i32, Refusal> {
    if asked >= 0 {
        return Ok(asked);
    }
    let queues = u32::try_from(config.write_queue_nums).unwrap_or(0);
    if queues == 0 {
        return Err(Refusal::new(
            ResponseCode::INVALID_PARAMETER,
            format!("topic[{}] has no queue to write to", config.topic_name),
        ));
    }
    Ok((broker.next_queue() % queues) as i32)
}

/// The refusal of a message whose topic is in memory only.
pub(super) fn not_written(topic: &str, error: &io::Error) -> Refusal {
    tracing::error!(topic, %error, "a new topic could not be written to its file");
    Refusal::new(
        ResponseCode::SYSTEM_ERROR,
        format!("topic[{topic}] is created but could not be written to disk: {error}; send again"),
    )
}

/// A topic that inherits from the template the client names, if that template allows it.
fn from_template(
    broker: &Broker,
    settings: &Settings,
    header: &Header<'_>,
    sys_flag: i32,
) -> Option<TopicConfig> {
    let template = broker.topics.get(&header.default_topic)?;
    let allowed =
        *header.default_topic != *topic::AUTO_CREATE || settings.keys.auto_create_topic_enable;
    if !allowed || !perm::is_inherited(template.perm) {
        return None;
    }
    let queues = header
        .default_topic_queue_nums
        .min(template.write_queue_nums)
        .max(0);
    let mut config = new_config(&header.topic, queues, sys_flag);
    config.perm = template.perm & !perm::INHERIT;
    config.topic_filter_type = template.topic_filter_type;
    Some(config)
}

pub(crate) fn new_config(name: &str, queues: i32, sys_flag: i32) -> TopicConfig {
    TopicConfig {
        topic_name: name.to_owned(),
        read_queue_nums: queues,
        write_queue_nums: queues,
        perm: perm::READ | perm::WRITE,
        topic_sys_flag: sys_flag,
        ..TopicConfig::default()
    }
}

/// The dead-letter topic, when a message that is sent to a group's retry topic must go there instead: it came back too
/// often, or the group consumes in order and nobody may overtake. Java 5.3: `SendMessageProcessor.handleRetryAndDLQ`.
pub(crate) fn dead_letter(
    broker: &Broker,
    connection: &Connection,
    group: &str,
    client_version: i32,
    header: &Header<'_>,
) -> Result<Option<Found>, Refusal> {
    let auto_create = broker.keys().auto_create_subscription_group;
    let Some(config) = broker.groups.get_or_create(group, auto_create) else {
        return Err(Refusal::new(
            ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
            format!("subscription group not exist, {group} {SEE_FAQ}"),
        ));
    };
    let times_max = header
        .max_reconsume_times
        .filter(|_| client_version >= version::V3_4_9)
        .unwrap_or(config.retry_max_times);
    let consumed_in_order = !broker.locks.all_expired(group, broker.now_ms());
    if header.reconsume_times.unwrap_or(0) <= times_max && !consumed_in_order {
        return Ok(None);
    }
    let dead = topic::dlq_topic(group);
    if let Some(found) = broker.topics.find(&dead) {
        return Ok(Some(found));
    }
    let dead = new_config(&dead, DEAD_LETTER_QUEUES, 0);
    Ok(Some(keep(broker, connection, dead)))
}

/// A topic as Java shows it in its texts.
fn describe(config: &TopicConfig) -> String {
    let filter_type = match config.topic_filter_type {
        TopicFilterType::SingleTag => "SINGLE_TAG",
        TopicFilterType::MultiTag => "MULTI_TAG",
    };
    let attributes: Vec<String> = config
        .attributes
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    format!(
        "TopicConfig [topicName={}, readQueueNums={}, writeQueueNums={}, perm={}, topicFilterType={filter_type}, \
         topicSysFlag={}, order={}, attributes={{{}}}]",
        config.topic_name,
        config.read_queue_nums,
        config.write_queue_nums,
        perm::describe(config.perm),
        config.topic_sys_flag,
        config.order,
        attributes.join(", ")
    )
}

/// The flags that a message of this topic is stored with.
pub(crate) fn sys_flag(config: &TopicConfig, asked: i32) -> i32 {
    if config.topic_filter_type == TopicFilterType::MultiTag {
        asked | sysflag::MULTI_TAGS
    } else {
        asked
    }
}
