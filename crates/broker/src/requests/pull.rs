//! PULL_MESSAGE (11) and LITE_PULL_MESSAGE (361).
//!
//! A pull is answered at once from memory, or from the blocking pool when its data is cold; one that finds nothing
//! waits in [`crate::longpoll`]. Checks, codes and their order are those of Java 5.3: `PullMessageProcessor`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::body::{MessageModel, SubscriptionData, TopicConfig};
use protocol::code::{RequestCode, ResponseCode};
use protocol::headers::{PullMessageRequest, PullMessageResponse};
use protocol::reply::ReplyHead;
use protocol::{perm, sysflag, tags};
use remoting::{Connection, Replies, Request, SendError};
use storage::{Read, ReadError, ReadMode, ReadResult, ReadStatus};

use crate::Broker;
use crate::call::Refusal;
use crate::longpoll::Waiter;
use crate::requests::send::topic::SEE_FAQ;
use crate::settings::{Settings, Transfer};

/// The only broker of a group that has messages here: no replicas yet.
const MASTER_ID: i64 = 0;
/// A pull waits no longer than this, whatever its client asks for. Clients ask for 15 to 30 seconds.
const SUSPEND_MAX: Duration = Duration::from_secs(300);
/// Answers of one batch beyond this many bytes are put off: a client that asks for much at once asks again.
const BATCH_REPLY_BYTES_MAX: usize = 4 << 20;
/// Remark of a pull that starts where an operator said, not where the client asked. Java's `GetMessageStatus`.
const OFFSET_RESET: &str = "OFFSET_RESET";

/// Whether a request is a pull.
pub(crate) fn is_pull(code: RequestCode) -> bool {
    matches!(code, RequestCode::PULL_MESSAGE | RequestCode::LITE_PULL_MESSAGE)
}

/// A pull that has passed its checks.
#[derive(Debug)]
pub(crate) struct Pull {
    pub(crate) topic: Arc<TopicConfig>,
    pub(crate) queue_id: i32,
    /// Where to read. It moves on while a waiting pull meets messages that its filter does not take.
    pub(crate) offset: i64,
    asked_offset: i64,
    transfer: Transfer,
    filter: Filter,
    group_sys_flag: i32,
}

/// Which messages a consumer wants, by the tags code of their entries. The consumer compares the tags themselves.
#[derive(Clone, Debug)]
enum Filter {
    Everything,
    Codes(Vec<i32>),
    Subscribed(Arc<SubscriptionData>),
}

impl Filter {
    fn of_subscription(subscription: &Arc<SubscriptionData>) -> Result<Filter, Refusal> {
        if subscription.class_filter_mode {
            return Ok(Filter::Everything);
        }
        // Some clients leave it to the broker to hash the tags.
        if subscription.code_set.is_empty() {
            return Filter::of_expression(&subscription.sub_string);
        }
        Ok(if subscription.sub_string == "*" { Filter::Everything } else { Filter::Subscribed(subscription.clone()) })
    }

    fn of_expression(expression: &str) -> Result<Filter, Refusal> {
        if matches!(expression, "" | "*") {
            return Ok(Filter::Everything);
        }
        if expression.bytes().all(|byte| byte == b'|') {
            return Err(Refusal::new(
                ResponseCode::SUBSCRIPTION_PARSE_FAILED,
                "parse the consumer's subscription failed",
            ));
        }
        Ok(Filter::Codes(tags::split_expression(expression).into_iter().map(tags::hash_code).collect()))
    }

    fn takes(&self, tags_code: i64) -> bool {
        // As in Java, only the lower half is compared: the code of a tag is an int.
        let code = tags_code as i32;
        match self {
            Filter::Everything => true,
            Filter::Codes(codes) => codes.contains(&code),
            Filter::Subscribed(subscription) => subscription.code_set.contains(&code),
        }
    }
}

/// Why a pull is refused, with the kind of prohibition that clients tell their users.
struct Denied {
    refusal: Refusal,
    forbidden: Option<Forbidden>,
}

/// Java's `ForbiddenType`.
#[derive(Clone, Copy)]
enum Forbidden {
    Broker = 1,
    Group = 2,
    Topic = 3,
    Broadcasting = 4,
    Subscription = 5,
}

impl<E: Into<Refusal>> From<E> for Denied {
    fn from(error: E) -> Denied {
        Denied { refusal: error.into(), forbidden: None }
    }
}

impl Forbidden {
    fn because(self, remark: String) -> Denied {
        Denied { refusal: Refusal::new(ResponseCode::NO_PERMISSION, remark), forbidden: Some(self) }
    }
}

/// Answers one pull, or lets it wait.
pub(crate) fn serve(broker: &Arc<Broker>, connection: &Arc<Connection>, request: &Request<'_>, replies: &mut Replies) {
    let head = request.head();
    let settings = broker.settings();
    let (pull, suspend) = match check(broker, &settings, request) {
        Ok(checked) => checked,
        Err(denied) => return refuse(&denied, head, replies),
    };
    if replies.pending_bytes() > BATCH_REPLY_BYTES_MAX {
        return reply(&put_off(broker, &pull), head, replies);
    }
    if let Some(answer) = reset(broker, &pull, request) {
        return reply(&answer, head, replies);
    }
    match pull.read(broker, pull.transfer, ReadMode::NoWait) {
        Err(ReadError::WouldBlock) => {
            if let Err(refusal) = read_cold(broker, connection.clone(), head, pull, suspend) {
                replies.refuse(head, refusal.code, &refusal.remark);
            }
        }
        Err(error) => replies.refuse(head, ResponseCode::SYSTEM_ERROR, &error.to_string()),
        Ok(result) => {
            let answer = pull.answer(broker, result);
            match suspend {
                Some(suspend) if answer.code == ResponseCode::PULL_NOT_FOUND => {
                    let waiter = Waiter::new(connection.clone(), head, pull, suspend);
                    if broker.longpoll.park(broker, waiter).is_err() {
                        reply(&answer, head, replies);
                    }
                }
                _ => reply(&answer, head, replies),
            }
        }
    }
}

/// Reads on the blocking pool and answers from there.
pub(crate) fn read_cold(
    broker: &Arc<Broker>,
    connection: Arc<Connection>,
    head: ReplyHead,
    pull: Pull,
    suspend: Option<Duration>,
) -> Result<(), Refusal> {
    let permit = broker.blocking_permit(&connection)?;
    let broker = broker.clone();
    let runtime = broker.runtime.clone();
    runtime.spawn_blocking(move || {
        let transfer = pull.transfer.at_most(broker.settings().limits.cold);
        let outcome = match pull.read(&broker, transfer, ReadMode::Blocking) {
            Ok(result) => {
                let answer = pull.answer(&broker, result);
                match suspend {
                    Some(suspend) if answer.code == ResponseCode::PULL_NOT_FOUND => {
                        let waiter = Waiter::new(connection.clone(), head, pull, suspend);
                        match broker.longpoll.park(&broker, waiter) {
                            Ok(()) => Ok(()),
                            Err(_) => answer.send(&connection, head),
                        }
                    }
                    _ => answer.send(&connection, head),
                }
            }
            Err(error) => {
                connection.reply(head, ResponseCode::SYSTEM_ERROR, Some(&error.to_string()), &(), &[])
            }
        };
        // A client whose outbox is full or who has gone asks again on its own.
        if let Err(error) = outcome {
            tracing::debug!(peer = %connection.peer(), %error, "an answer to a pull found no way");
        }
        drop(permit);
    });
    Ok(())
}

impl Pull {
    pub(crate) fn read(&self, broker: &Broker, transfer: Transfer, mode: ReadMode) -> Result<ReadResult, ReadError> {
        let read = Read {
            topic: &self.topic.topic_name,
            queue_id: self.queue_id,
            offset: self.offset,
            messages_max: transfer.messages_max,
            bytes_max: transfer.bytes_max,
            filter: &|tags_code| self.filter.takes(tags_code),
        };
        broker.store.read(&read, mode)
    }

    /// How much this pull hands out when its data is warm.
    pub(crate) fn transfer(&self) -> Transfer {
        self.transfer
    }

    /// What the store's result means for the client.
    pub(crate) fn answer(&self, broker: &Broker, result: ReadResult) -> Answer {
        if result.status == ReadStatus::Found {
            broker.counters.get(result.records.len(), result.records.iter().map(|record| record.len()).sum());
        }
        // A waiting pull has gone over messages that its filter did not take: the client goes on behind them.
        let skipped = self.offset > self.asked_offset && code_of(result.status, self.offset) == ResponseCode::PULL_NOT_FOUND;
        let status = if skipped { ReadStatus::NoMatchedMessage } else { result.status };
        Answer {
            code: code_of(status, self.offset),
            remark: status.name(),
            fields: self.fields(result.next_offset, result.min_offset, result.max_offset),
            records: result.records,
        }
    }

    fn fields(&self, next_offset: i64, min_offset: i64, max_offset: i64) -> PullMessageResponse {
        PullMessageResponse {
            suggest_which_broker_id: MASTER_ID,
            next_begin_offset: next_offset,
            min_offset,
            max_offset,
            offset_delta: None,
            topic_sys_flag: Some(self.topic.topic_sys_flag),
            group_sys_flag: Some(self.group_sys_flag),
            forbidden_type: None,
        }
    }
}

/// What a client is told.
pub(crate) struct Answer {
    pub(crate) code: ResponseCode,
    remark: &'static str,
    fields: PullMessageResponse,
    records: Vec<bytes::Bytes>,
}

impl Answer {
    /// Answers from outside the connection's read loop.
    pub(crate) fn send(&self, connection: &Connection, head: ReplyHead) -> Result<(), SendError> {
        connection.reply_parts(head, self.code, Some(self.remark), &self.fields, &self.records)
    }
}

fn reply(answer: &Answer, head: ReplyHead, replies: &mut Replies) {
    replies.reply_parts(head, answer.code, Some(answer.remark), &answer.fields, &answer.records);
}

fn refuse(denied: &Denied, head: ReplyHead, replies: &mut Replies) {
    let Denied { refusal, forbidden } = denied;
    let mut fields = protocol::header::FieldMap::default();
    if let Some(forbidden) = forbidden {
        fields.insert("forbiddenType", (*forbidden as i32).to_string());
    }
    replies.reply(head, refusal.code, Some(&refusal.remark), &fields, &[]);
}

/// An empty answer after which the client asks again from the same place at once.
fn put_off(broker: &Broker, pull: &Pull) -> Answer {
    let (topic, queue) = (&*pull.topic.topic_name, pull.queue_id);
    Answer {
        code: ResponseCode::PULL_RETRY_IMMEDIATELY,
        remark: ReadStatus::MessageWasRemoving.name(),
        fields: pull.fields(
            pull.offset,
            broker.store.min_offset(topic, queue) as i64,
            broker.store.max_offset(topic, queue) as i64,
        ),
        records: Vec::new(),
    }
}

/// The answer to a pull whose group was reset: go on from there.
fn reset(broker: &Broker, pull: &Pull, request: &Request<'_>) -> Option<Answer> {
    let (topic, queue) = (&*pull.topic.topic_name, pull.queue_id);
    let group = request.header.fields.get("consumerGroup")?;
    let offset = broker.offsets.take_reset(&group, topic, queue)?;
    Some(Answer {
        code: ResponseCode::PULL_OFFSET_MOVED,
        remark: OFFSET_RESET,
        fields: pull.fields(
            offset,
            broker.store.min_offset(topic, queue) as i64,
            broker.store.max_offset(topic, queue) as i64,
        ),
        records: Vec::new(),
    })
}

/// Java 5.3: `PullMessageProcessor.composeResponseHeader`.
fn code_of(status: ReadStatus, offset: i64) -> ResponseCode {
    match status {
        ReadStatus::Found => ResponseCode::SUCCESS,
        ReadStatus::MessageWasRemoving | ReadStatus::NoMatchedMessage => ResponseCode::PULL_RETRY_IMMEDIATELY,
        ReadStatus::NoMatchedQueue | ReadStatus::NoMessageInQueue if offset != 0 => ResponseCode::PULL_OFFSET_MOVED,
        ReadStatus::NoMatchedQueue | ReadStatus::NoMessageInQueue => ResponseCode::PULL_NOT_FOUND,
        ReadStatus::OffsetFoundNull | ReadStatus::OffsetOverflowOne => ResponseCode::PULL_NOT_FOUND,
        ReadStatus::OffsetOverflowBadly | ReadStatus::OffsetTooSmall => ResponseCode::PULL_OFFSET_MOVED,
    }
}

/// Checks a pull, and commits the offset that it carries. Gives it and how long it may wait.
fn check(broker: &Broker, settings: &Settings, request: &Request<'_>) -> Result<(Pull, Option<Duration>), Denied> {
    let keys = &settings.keys;
    let header: PullMessageRequest = request.read()?;
    let address = &broker.identity().advertised;
    if !perm::is_readable(keys.broker_permission) {
        return Err(Forbidden::Broker.because(format!("the broker[{address}] pulling message is forbidden")));
    }
    if request.code() == RequestCode::LITE_PULL_MESSAGE && !keys.lite_pull_message_enable {
        return Err(Forbidden::Broker.because(format!("the broker[{address}] for lite pull consumer is forbidden")));
    }
    let group_name = header.consumer_group.as_str();
    let Some(group) = broker.groups.get_or_create(group_name, keys.auto_create_subscription_group) else {
        return Err(Denied::from(Refusal::new(
            ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
            format!("subscription group [{group_name}] does not exist, {SEE_FAQ}"),
        )));
    };
    if !group.consume_enable {
        return Err(Forbidden::Group.because(format!("subscription group no permission, {group_name}")));
    }
    let Some(topic) = broker.topics.get(&header.topic) else {
        return Err(Denied::from(Refusal::new(
            ResponseCode::TOPIC_NOT_EXIST,
            format!("topic[{}] not exist, apply first please! {SEE_FAQ}", header.topic),
        )));
    };
    if !perm::is_readable(topic.perm) {
        return Err(Forbidden::Topic.because(format!("the topic[{}] pulling message is forbidden", header.topic)));
    }
    if header.queue_id < 0 || header.queue_id >= topic.read_queue_nums {
        return Err(Denied::from(Refusal::new(
            ResponseCode::INVALID_PARAMETER,
            format!(
                "queueId[{}] is illegal, topic:[{}] topicConfig.readQueueNums:[{}]",
                header.queue_id, header.topic, topic.read_queue_nums
            ),
        )));
    }
    let filter = filter_of(broker, &header, group.consume_broadcast_enable)?;
    if header.sys_flag & sysflag::PULL_COMMIT_OFFSET != 0 {
        broker.offsets.commit(group_name, &header.topic, header.queue_id, header.commit_offset);
    }
    let suspend = (header.sys_flag & sysflag::PULL_SUSPEND != 0).then(|| suspend_of(settings, header.suspend_timeout_ms));
    let pull = Pull {
        topic,
        queue_id: header.queue_id,
        offset: header.queue_offset,
        asked_offset: header.queue_offset,
        transfer: asked_transfer(&header).at_most(settings.limits.warm),
        filter,
        group_sys_flag: group.group_sys_flag,
    };
    Ok((pull, suspend))
}

/// The filter that the pull itself names, or that its client's heartbeat named.
fn filter_of(broker: &Broker, header: &PullMessageRequest, broadcast_allowed: bool) -> Result<Filter, Denied> {
    if header.sys_flag & sysflag::PULL_SUBSCRIPTION != 0 {
        check_expression_type(header.expression_type.as_deref())?;
        return Ok(Filter::of_expression(header.subscription.as_deref().unwrap_or(""))?);
    }
    let group_name = &header.consumer_group;
    let Some(group) = broker.clients.consumer_group(group_name) else {
        return Err(Denied::from(Refusal::new(
            ResponseCode::SUBSCRIPTION_NOT_EXIST,
            format!("the consumer's group info not exist{SEE_FAQ}"),
        )));
    };
    if !broadcast_allowed && group.message_model() == MessageModel::Broadcasting {
        return Err(Forbidden::Broadcasting
            .because(format!("the consumer group[{group_name}] can not consume by broadcast way")));
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
    check_expression_type(Some(&subscription.expression_type))?;
    Ok(Filter::of_subscription(&subscription)?)
}

fn check_expression_type(expression_type: Option<&str>) -> Result<(), Refusal> {
    match expression_type {
        None | Some("" | "TAG") => Ok(()),
        Some(other) => Err(Refusal::system_error(format!(
            "The broker does not support consumer to filter message by {other}"
        ))),
    }
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

/// When a pull that begins to wait now is answered at the latest.
pub(crate) fn deadline(suspend: Duration) -> Instant {
    Instant::now() + suspend
}
