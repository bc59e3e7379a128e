//! POP_MESSAGE (200050), NOTIFICATION (200054), PEEK_MESSAGE (200052) and POLLING_INFO (200055).
//!
//! A pop hands out messages of all queues of a topic, and of the group's retry topic for it, and hides them from the group for a time.
//! Checks, codes and their order are those of Java 5.3: `PopMessageProcessor`, `NotificationProcessor`, `PeekMessageProcessor`,
//! `PollingInfoProcessor`.

mod check;
mod read;

pub(crate) use check::{ATTEMPT_BYTES_MAX, INVISIBLE_MS_MAX, check_invisible};

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use protocol::body::TopicConfig;
use protocol::code::{RequestCode, ResponseCode};
use protocol::headers::{
    NotificationResponse, PeekMessageRequest, PollingInfoRequest, PollingInfoResponse,
    PopMessageResponse,
};
use protocol::pop::{OffsetLists, Origin};
use protocol::reply::ReplyHead;
use remoting::{Connection, Replies, Request as Frame};
use storage::ReadMode;

use crate::Broker;
use crate::call::{Call, Entry, Kind, Refusal, Reply};
use crate::overload;
use crate::pop::pop_clock;
use crate::pop::progress::Wanted;
use crate::pop::waiting::{Kind as WaiterKind, Limits, NotParked, Waiter};
use crate::requests::pull::filter::Filter;

pub(crate) const HANDLERS: &[Entry] = &[
    (RequestCode::PEEK_MESSAGE, Kind::Blocking, peek),
    (RequestCode::POLLING_INFO, Kind::Inline, polling_info),
];

/// A pop that was read this much later than its client was willing to wait is not served: its messages would be hidden for nobody. Java
/// 5.3.4: `PopMessageRequestHeader.isTimeoutTooMuch`, which compares the clocks of client and broker instead.
const LATE_MAX: Duration = Duration::from_millis(500);
/// Remarks of answers, Java's `GetMessageStatus`.
const FOUND: &str = "FOUND";
const NOTHING: &str = "NO_MESSAGE_IN_QUEUE";

/// Whether a request may wait for messages here.
pub(crate) fn is_pop(code: RequestCode) -> bool {
    matches!(code, RequestCode::POP_MESSAGE | RequestCode::NOTIFICATION)
}

/// A pop, notification or peek that has passed its checks.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) group: Arc<str>,
    pub(crate) topic: Arc<str>,
    config: Arc<TopicConfig>,
    /// -1 is all queues.
    pub(crate) queue_id: i32,
    messages_max: usize,
    invisible_ms: i64,
    in_order: bool,
    attempt: Option<String>,
    /// A group without an offset begins at the first message.
    from_start: bool,
    filter: Filter,
    /// The group's retry topics for the topic, whether or not they exist; none for a pop in order.
    pub(crate) retry_topics: Vec<Arc<str>>,
}

/// What a pop or a peek found.
#[derive(Debug, Default)]
struct Popped {
    records: Vec<Bytes>,
    bytes: usize,
    lists: OffsetLists,
    /// Messages that are left for others.
    rest: i64,
    popped_ms: i64,
}

/// Why a pop ended before it could say what there is.
#[derive(Debug)]
enum Stop {
    /// The disk must be waited for.
    WouldBlock,
    /// The messages cannot be read.
    Failed(String),
}

/// What became of a pop that waited.
pub(crate) enum Served {
    /// It waits no longer.
    Answered,
    /// It found nothing.
    Nothing(Waiter),
}

/// Answers one pop or notification, or lets it wait.
pub(crate) fn serve(
    broker: &Arc<Broker>,
    connection: &Arc<Connection>,
    frame: &Frame<'_>,
    replies: &mut Replies,
) {
    let head = frame.head();
    if let Some(refusal) = overload::of_pull(broker, replies) {
        return replies.refuse(head, refusal.code, &refusal.remark);
    }
    let checked = match frame.code() {
        RequestCode::NOTIFICATION => check::notification(broker, frame),
        _ => check::pop(broker, frame),
    };
    let check::Checked {
        request,
        poll,
        kind,
    } = match checked {
        Ok(checked) => checked,
        Err(refusal) => return replies.refuse(head, refusal.code, &refusal.remark),
    };
    let waiter = Waiter {
        connection: connection.clone(),
        head,
        request: Arc::new(request),
        kind,
        deadline: Instant::now() + poll,
    };
    let may_wait = !poll.is_zero();
    match waiter.kind {
        WaiterKind::Notification => serve_notification(broker, waiter, may_wait, replies),
        WaiterKind::Pop => {
            let is_late = replies.waited() > poll.saturating_add(LATE_MAX);
            serve_pop(broker, waiter, may_wait, is_late, replies);
        }
    }
}

fn serve_pop(
    broker: &Arc<Broker>,
    waiter: Waiter,
    may_wait: bool,
    is_late: bool,
    replies: &mut Replies,
) {
    let head = waiter.head;
    if is_late {
        let answer = waiter
            .request
            .nothing(broker, ResponseCode::POLLING_TIMEOUT);
        return answer.write(head, replies);
    }
    if is_full(broker) {
        return waiter
            .request
            .too_many_in_flight(broker)
            .write(head, replies);
    }
    match waiter.request.pop(broker, ReadMode::NoWait) {
        Ok(popped) if !popped.records.is_empty() => {
            waiter.request.found(broker, popped).write(head, replies);
        }
        Ok(_) => {
            let request = waiter.request.clone();
            if let Err(code) = wait(broker, waiter, may_wait) {
                request.nothing(broker, code).write(head, replies);
            }
        }
        Err(Stop::WouldBlock) => {
            if let Err(refusal) = pop_cold(broker, waiter, may_wait) {
                replies.refuse(head, refusal.code, &refusal.remark);
            }
        }
        Err(Stop::Failed(reason)) => replies.refuse(head, ResponseCode::SYSTEM_ERROR, &reason),
    }
}

fn serve_notification(broker: &Arc<Broker>, waiter: Waiter, may_wait: bool, replies: &mut Replies) {
    let head = waiter.head;
    let has_msg = waiter.request.has_messages(broker);
    let mut polling_full = false;
    if !has_msg {
        match wait(broker, waiter, may_wait) {
            Ok(()) => return,
            Err(code) => polling_full = code == ResponseCode::POLLING_FULL,
        }
    }
    let header = NotificationResponse {
        has_msg,
        polling_full,
    };
    replies.reply(head, ResponseCode::SUCCESS, None, &header, &[]);
}

/// Lets it wait. The code is the answer when it may not.
fn wait(broker: &Broker, waiter: Waiter, may_wait: bool) -> Result<(), ResponseCode> {
    if !may_wait || waiter.deadline <= Instant::now() {
        return Err(ResponseCode::POLLING_TIMEOUT);
    }
    let request = waiter.request.clone();
    match broker.pop.waiting.park(broker, waiter, limits(broker)) {
        Ok(()) => {
            // What came since the queues were read woke nobody.
            if request.has_messages(broker) {
                let waiting = &broker.pop.waiting;
                waiting.wake(&request.topic, Some(&request.group));
            }
            Ok(())
        }
        Err(NotParked::Full) => Err(ResponseCode::POLLING_FULL),
        Err(NotParked::Closed) => Err(ResponseCode::POLLING_TIMEOUT),
    }
}

fn limits(broker: &Broker) -> Limits {
    let keys = broker.keys();
    Limits {
        all: keys.max_pop_polling_size as usize,
        of_one_queue: keys.pop_polling_size as usize,
        rooms: keys.pop_polling_map_size as usize,
    }
}

fn is_full(broker: &Broker) -> bool {
    let in_flight = &broker.pop.figures.in_flight;
    in_flight.load(std::sync::atomic::Ordering::Relaxed) as u64 >= broker.keys().pop_in_flight_max
}

/// Pops on the blocking pool and answers from there.
fn pop_cold(broker: &Arc<Broker>, waiter: Waiter, may_wait: bool) -> Result<(), Refusal> {
    let bytes_max = broker.settings().limits.cold.bytes_max;
    let permit = broker.blocking_permit(&waiter.connection, bytes_max)?;
    let broker = broker.clone();
    broker.runtime.clone().spawn_blocking(move || {
        let (connection, head, request) = (
            waiter.connection.clone(),
            waiter.head,
            waiter.request.clone(),
        );
        match request.pop(&broker, ReadMode::Blocking) {
            Ok(popped) if !popped.records.is_empty() => {
                request.found(&broker, popped).send(&connection, head);
            }
            Ok(_) => {
                if let Err(code) = wait(&broker, waiter, may_wait) {
                    request.nothing(&broker, code).send(&connection, head);
                }
            }
            Err(Stop::WouldBlock) => {
                request
                    .nothing(&broker, ResponseCode::POLLING_TIMEOUT)
                    .send(&connection, head);
            }
            Err(Stop::Failed(reason)) => fail(&connection, head, &reason),
        }
        drop(permit);
    });
    Ok(())
}

/// Pops for one that waits.
pub(crate) fn serve_waiting(broker: &Arc<Broker>, waiter: Waiter) -> Served {
    let (connection, head, request) = (
        waiter.connection.clone(),
        waiter.head,
        waiter.request.clone(),
    );
    if is_full(broker) {
        request.too_many_in_flight(broker).send(&connection, head);
        return Served::Answered;
    }
    match request.pop(broker, ReadMode::NoWait) {
        Ok(popped) if popped.records.is_empty() => return Served::Nothing(waiter),
        Ok(popped) => request.found(broker, popped).send(&connection, head),
        Err(Stop::WouldBlock) => {
            if let Err(refusal) = pop_cold(broker, waiter, true) {
                let _ = connection.reply(head, refusal.code, Some(&refusal.remark), &(), &[]);
            }
        }
        Err(Stop::Failed(reason)) => fail(&connection, head, &reason),
    }
    Served::Answered
}

/// Nothing came for a pop that waited.
pub(crate) fn time_is_over(broker: &Broker, waiter: &Waiter) {
    waiter
        .request
        .nothing(broker, ResponseCode::POLLING_TIMEOUT)
        .send(&waiter.connection, waiter.head);
}

fn fail(connection: &Connection, head: ReplyHead, reason: &str) {
    // Nobody is left to be told when this fails too.
    let _ = connection.reply(head, ResponseCode::SYSTEM_ERROR, Some(reason), &(), &[]);
}

impl Request {
    /// Watches its queues, so that their messages wake who waits.
    pub(crate) fn watch(&self, broker: &Broker) {
        let longpoll = &broker.longpoll;
        for queue_id in self.queues() {
            longpoll.watch(broker, &self.topic, queue_id);
        }
        // One that is not there yet is created by the task that gives messages back, which wakes who waits itself.
        for topic in &self.retry_topics {
            let queues = broker
                .topics
                .get(topic)
                .map_or(0, |topic| topic.read_queue_nums);
            for queue_id in 0..queues {
                longpoll.watch(broker, topic, queue_id);
            }
        }
    }

    /// The queues of the topic that it asks for.
    fn queues(&self) -> std::ops::Range<i32> {
        match self.queue_id {
            queue_id @ 0.. => queue_id..queue_id + 1,
            _ => 0..self.config.read_queue_nums,
        }
    }

    fn wanted<'a>(&'a self, broker: &Broker) -> Wanted<'a> {
        Wanted {
            in_order: self.in_order,
            attempt: self.attempt.as_deref(),
            now: pop_clock(broker),
        }
    }

    /// Whether a pop of this kind would find something to look at.
    pub(crate) fn has_messages(&self, broker: &Broker) -> bool {
        let keys = broker.keys();
        let wanted = self.wanted(broker);
        let of_queue = |topic: &str, queue_id| {
            let max = broker.store.max_offset(topic, queue_id) as i64;
            let next = match broker.pop.find(&self.group, topic, queue_id) {
                Some(queue) => {
                    let mut progress = queue.lock(broker);
                    progress.follow_group();
                    if progress.is_reading()
                        || progress.blocked(wanted).is_some()
                        || read::is_over_threshold(&keys, progress.in_flight())
                    {
                        return false;
                    }
                    progress.next()
                }
                None => broker.offsets.query(&self.group, topic, queue_id),
            };
            max > next.unwrap_or_else(|| broker.store.min_offset(topic, queue_id) as i64)
        };
        let mut retries = self
            .retry_topics
            .iter()
            .filter_map(|topic| broker.topics.get(topic));
        self.queues()
            .any(|queue_id| of_queue(&self.topic, queue_id))
            || retries.any(|topic| {
                let mut queues = 0..topic.read_queue_nums;
                queues.any(|queue_id| of_queue(&topic.topic_name, queue_id))
            })
    }

    /// The answer with messages. Who else waits hears of what is left.
    fn found(&self, broker: &Broker, popped: Popped) -> Answer {
        if popped.rest > 0 {
            broker.pop.waiting.wake(&self.topic, Some(&self.group));
        }
        let mut answer = self.answer(ResponseCode::SUCCESS, FOUND, popped.popped_ms);
        answer.header.rest_num = popped.rest;
        answer.header.start_offset_info = Some(popped.lists.start);
        answer.header.msg_offset_info = Some(popped.lists.messages);
        answer.header.order_count_info = self.in_order.then_some(popped.lists.order_counts);
        answer.records = popped.records;
        answer
    }

    /// An answer without messages. Clients read the header of this one too.
    fn nothing(&self, broker: &Broker, code: ResponseCode) -> Answer {
        self.answer(code, NOTHING, broker.now_ms())
    }

    fn too_many_in_flight(&self, broker: &Broker) -> Answer {
        let remark = "popInFlightMax messages are in flight, which is the limit: acknowledge some, or raise it";
        self.answer(ResponseCode::POLLING_FULL, remark, broker.now_ms())
    }

    fn answer(&self, code: ResponseCode, remark: &'static str, popped_ms: i64) -> Answer {
        Answer {
            code,
            remark,
            header: PopMessageResponse {
                pop_time_ms: popped_ms,
                invisible_time_ms: self.invisible_ms,
                revive_qid: self.revive_queue(),
                ..PopMessageResponse::default()
            },
            records: Vec::new(),
        }
    }

    /// The number that stands in handles: there are no revive queues here, and clients only look whether it is that of consumption in order.
    fn revive_queue(&self) -> i32 {
        if self.in_order {
            protocol::pop::ORDER_REVIVE_QUEUE
        } else {
            0
        }
    }
}

/// What a client is told.
struct Answer {
    code: ResponseCode,
    remark: &'static str,
    header: PopMessageResponse,
    records: Vec<Bytes>,
}

impl Answer {
    fn write(&self, head: ReplyHead, replies: &mut Replies) {
        replies.reply_parts(
            head,
            self.code,
            Some(self.remark),
            &self.header,
            &self.records,
        );
    }

    fn send(&self, connection: &Connection, head: ReplyHead) {
        let sent = connection.reply_parts(
            head,
            self.code,
            Some(self.remark),
            &self.header,
            &self.records,
        );
        // The messages are seen again when their time is over.
        if let Err(error) = sent {
            tracing::debug!(peer = %connection.peer(), %error, "an answer to a pop found no way");
        }
    }
}

/// Messages that a pop would hand out, without hiding them.
fn peek(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: PeekMessageRequest = call.header()?;
    let request = check::peek(broker, &header)?;
    let popped = request.peek(broker)?;
    let (code, remark) = if popped.records.is_empty() {
        (ResponseCode::PULL_NOT_FOUND, NOTHING)
    } else {
        (ResponseCode::SUCCESS, FOUND)
    };
    let header = PopMessageResponse {
        pop_time_ms: popped.popped_ms,
        rest_num: popped.rest,
        ..PopMessageResponse::default()
    };
    Ok(Reply::with(code)
        .remark(remark)
        .header(&header)
        .body(popped.records.concat()))
}

/// How many pops wait.
fn polling_info(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: PollingInfoRequest = call.header()?;
    let (group, topic) = (&header.consumer_group, &header.topic);
    check::names(broker, group, topic, header.queue_id, "peeking")?;
    let waiting = broker.pop.waiting.count(group, topic, header.queue_id);
    Ok(Reply::ok().header(&PollingInfoResponse {
        polling_num: i32::try_from(waiting).unwrap_or(i32::MAX),
    }))
}

/// The group's retry topics for a topic, the one that this broker writes first.
fn retry_topics(v2: bool, also_v1: bool, group: &str, topic: &str) -> Vec<Arc<str>> {
    let origins: &[Origin] = match (v2, also_v1) {
        (false, _) => &[Origin::RetryV1],
        (true, false) => &[Origin::RetryV2],
        (true, true) => &[Origin::RetryV2, Origin::RetryV1],
    };
    origins
        .iter()
        .map(|origin| Arc::from(origin.real_topic(group, topic)))
        .collect()
}
