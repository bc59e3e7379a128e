//! Whether a pop, a notification or a peek may be served, and what it asks for.

use std::sync::Arc;
use std::time::Duration;

use protocol::body::TopicConfig;
use protocol::code::ResponseCode;
use protocol::headers::{NotificationRequest, PeekMessageRequest, PopMessageRequest};
use protocol::{perm, pop};
use remoting::Request as Frame;

use super::{Request, retry_topics};
use crate::Broker;
use crate::call::Refusal;
use crate::pop::waiting::Kind;
use crate::requests::pull::filter::Filter;
use crate::requests::send::topic::SEE_FAQ;
use crate::topics::is_batch;

/// A pop waits no longer than this, whatever its client asks for. Clients ask for 15 to 30 seconds.
const POLL_MAX: Duration = Duration::from_secs(300);
/// Messages are hidden for this long at most: what Java's timers allow with their defaults (`timerMaxDelaySec`).
pub(crate) const INVISIBLE_MS_MAX: i64 = 3 * 24 * 3600 * 1000;
/// Waiting pops and queues in order hold these texts, so they have bounds of their own.
pub(crate) const ATTEMPT_BYTES_MAX: usize = 256;
const EXPRESSION_BYTES_MAX: usize = 16 << 10;
/// `initMode` of a group that begins at the first message. Java 5.3: `ConsumeInitMode.MIN`.
const INIT_MIN: i32 = 0;

/// What may be served.
pub(super) struct Checked {
    pub(super) request: Request,
    /// How long it may wait.
    pub(super) poll: Duration,
    pub(super) kind: Kind,
}

/// Checks a pop.
pub(super) fn pop(broker: &Broker, frame: &Frame<'_>) -> Result<Checked, Refusal> {
    let header: PopMessageRequest = frame.read()?;
    let address = &broker.identity().advertised;
    if header.messages_max > pop::MESSAGES_MAX {
        return Err(invalid(format!(
            "the broker[{address}] pop message's num is greater than {}",
            pop::MESSAGES_MAX
        )));
    }
    if header.messages_max < 1 {
        return Err(invalid(format!(
            "maxMsgNums[{}] is illegal: a pop takes 1 to {} messages",
            header.messages_max,
            pop::MESSAGES_MAX
        )));
    }
    check_invisible(header.invisible_time_ms, 1)?;
    check_attempt(header.attempt_id.as_deref())?;
    let expression = header.exp.as_deref().unwrap_or("");
    if expression.len() > EXPRESSION_BYTES_MAX {
        return Err(invalid(format!(
            "exp is {} bytes long, the limit is {EXPRESSION_BYTES_MAX}",
            expression.len()
        )));
    }
    let (group, topic) = (&header.consumer_group, &header.topic);
    let config = names(broker, group, topic, header.queue_id, "pop")?;
    let kind = header.exp_type.as_deref().unwrap_or("");
    let keys = broker.keys();
    let filter = Filter::of_request(broker, &keys, kind, expression)?;
    let retry_topics = if header.order {
        Vec::new()
    } else {
        let (v2, v1) = (
            keys.enable_retry_topic_v2,
            keys.retrieve_message_from_pop_retry_topic_v1,
        );
        retry_topics(v2, v1, group, topic)
    };
    let request = Request {
        group: Arc::from(group.as_str()),
        topic: Arc::from(topic.as_str()),
        config,
        queue_id: header.queue_id.max(-1),
        messages_max: header.messages_max as usize,
        invisible_ms: header.invisible_time_ms,
        in_order: header.order,
        attempt: header.attempt_id,
        from_start: header.init_mode == INIT_MIN,
        filter,
        retry_topics,
    };
    Ok(Checked {
        request,
        poll: poll(broker, header.poll_time_ms),
        kind: Kind::Pop,
    })
}

/// Checks a notification.
pub(super) fn notification(broker: &Broker, frame: &Frame<'_>) -> Result<Checked, Refusal> {
    let header: NotificationRequest = frame.read()?;
    check_attempt(header.attempt_id.as_deref())?;
    let (group, topic) = (&header.consumer_group, &header.topic);
    let mut request = look(broker, group, topic, header.queue_id, 1)?;
    request.in_order = header.order;
    request.attempt = header.attempt_id;
    if header.order {
        request.retry_topics.clear();
    }
    Ok(Checked {
        request,
        poll: poll(broker, header.poll_time_ms),
        kind: Kind::Notification,
    })
}

/// Checks a peek.
pub(super) fn peek(broker: &Broker, header: &PeekMessageRequest) -> Result<Request, Refusal> {
    let messages_max = usize::try_from(header.messages_max).unwrap_or(0);
    look(
        broker,
        &header.consumer_group,
        &header.topic,
        header.queue_id,
        messages_max.clamp(1, pop::MESSAGES_MAX as usize),
    )
}

/// A request that looks and hides nothing.
fn look(
    broker: &Broker,
    group: &str,
    topic: &str,
    queue_id: i32,
    messages_max: usize,
) -> Result<Request, Refusal> {
    let config = names(broker, group, topic, queue_id, "peeking")?;
    let keys = broker.keys();
    let (v2, v1) = (
        keys.enable_retry_topic_v2,
        keys.retrieve_message_from_pop_retry_topic_v1,
    );
    Ok(Request {
        group: Arc::from(group),
        topic: Arc::from(topic),
        config,
        queue_id: queue_id.max(-1),
        messages_max,
        invisible_ms: 0,
        in_order: false,
        attempt: None,
        from_start: true,
        filter: Filter::Everything,
        retry_topics: retry_topics(v2, v1, group, topic),
    })
}

/// Broker, topic, queue and group, in Java's order.
pub(super) fn names(
    broker: &Broker,
    group: &str,
    topic: &str,
    queue_id: i32,
    what: &str,
) -> Result<Arc<TopicConfig>, Refusal> {
    let keys = broker.keys();
    let forbidden = |remark| Refusal::new(ResponseCode::NO_PERMISSION, remark);
    if !perm::is_readable(keys.broker_permission) {
        let address = &broker.identity().advertised;
        return Err(forbidden(format!(
            "the broker[{address}] {what} message is forbidden"
        )));
    }
    let config = broker.topics.get(topic).ok_or_else(|| {
        Refusal::new(
            ResponseCode::TOPIC_NOT_EXIST,
            format!("topic[{topic}] not exist, apply first please! {SEE_FAQ}"),
        )
    })?;
    if !perm::is_readable(config.perm) {
        return Err(forbidden(format!(
            "the topic[{topic}] peeking message is forbidden"
        )));
    }
    if queue_id >= config.read_queue_nums {
        return Err(invalid(format!(
            "queueId[{queue_id}] is illegal, topic:[{topic}] topicConfig.readQueueNums:[{}]",
            config.read_queue_nums
        )));
    }
    if is_batch(&config) {
        return Err(Refusal::new(
            ResponseCode::REQUEST_CODE_NOT_SUPPORTED,
            format!(
                "topic[{topic}] has queue.type=BatchCQ: its messages lie several to a record and cannot be acknowledged one by one; pull them instead"
            ),
        ));
    }
    let Some(known) = broker
        .groups
        .get_or_create(group, keys.auto_create_subscription_group)
    else {
        return Err(Refusal::new(
            ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
            format!("subscription group [{group}] does not exist, {SEE_FAQ}"),
        ));
    };
    if !known.consume_enable {
        return Err(forbidden(format!(
            "subscription group no permission, {group}"
        )));
    }
    if !broker.groups.may_read(group, topic) {
        return Err(forbidden(format!(
            "the consumer group[{group}] is forbidden for topic[{topic}]"
        )));
    }
    Ok(config)
}

/// Refuses times that nobody can mean.
pub(crate) fn check_invisible(ms: i64, min: i64) -> Result<(), Refusal> {
    if (min..=INVISIBLE_MS_MAX).contains(&ms) {
        return Ok(());
    }
    Err(invalid(format!(
        "invisibleTime[{ms}] is illegal: it is {min} to {INVISIBLE_MS_MAX} ms"
    )))
}

fn check_attempt(attempt: Option<&str>) -> Result<(), Refusal> {
    match attempt {
        Some(attempt) if attempt.len() > ATTEMPT_BYTES_MAX => Err(invalid(format!(
            "attemptId is {} bytes long, the limit is {ATTEMPT_BYTES_MAX}",
            attempt.len()
        ))),
        _ => Ok(()),
    }
}

fn poll(broker: &Broker, asked_ms: i64) -> Duration {
    let settings = broker.settings();
    let asked = Duration::from_millis(u64::try_from(asked_ms).unwrap_or(0));
    let short = Duration::from_millis(settings.keys.short_polling_time_ms);
    if settings.keys.long_polling_enable {
        asked.min(POLL_MAX)
    } else {
        asked.min(short)
    }
}

fn invalid(remark: String) -> Refusal {
    Refusal::new(ResponseCode::INVALID_PARAMETER, remark)
}
