//! PULL_MESSAGE (11) and LITE_PULL_MESSAGE (361).
//!
//! A pull is answered at once from memory, or from the blocking pool when its data is cold; one that finds nothing
//! waits in [`crate::longpoll`]. Checks, codes and their order are those of Java 5.3: `PullMessageProcessor`.

pub(crate) mod check;
pub(crate) mod filter;
mod matching;

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::batch;
use protocol::body::{ConsumeType, SubscriptionGroupConfig, TopicConfig};
use protocol::code::{RequestCode, ResponseCode};
use protocol::headers::PullMessageResponse;
use protocol::reply::ReplyHead;
use remoting::{Connection, Replies, Request, SendError};
use storage::{Read, ReadError, ReadMode, ReadResult, ReadStatus};

use crate::call::Refusal;
use crate::cold::{self, Limits};
use crate::longpoll::Waiter;
use crate::offsets::ResetOfPull;
use crate::overload;
use crate::settings::Transfer;
use crate::topics::is_batch;
use crate::{Broker, MASTER_ID};

use check::{Checked, Denied, check};
use filter::Filter;

/// Answers of one batch beyond this many bytes are put off: a client that asks for much at once asks again.
const BATCH_REPLY_BYTES_MAX: usize = 4 << 20;
/// Remark of a pull that starts where an operator said, not where the client asked. Java's `GetMessageStatus`.
const OFFSET_RESET: &str = "OFFSET_RESET";

/// Whether a request is a pull.
pub(crate) fn is_pull(code: RequestCode) -> bool {
    matches!(
        code,
        RequestCode::PULL_MESSAGE | RequestCode::LITE_PULL_MESSAGE
    )
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
    group: Arc<SubscriptionGroupConfig>,
}

/// Answers one pull, or lets it wait.
pub(crate) fn serve(
    broker: &Arc<Broker>,
    connection: &Arc<Connection>,
    request: &Request<'_>,
    replies: &mut Replies,
) {
    let head = request.head();
    if let Some(refusal) = overload::of_pull(broker, replies) {
        return replies.refuse(head, refusal.code, &refusal.remark);
    }
    let settings = broker.settings();
    let Checked {
        pull,
        suspend,
        reset,
    } = match check(broker, &settings, connection, request) {
        Ok(checked) => checked,
        Err(denied) => return refuse(&denied, head, replies),
    };
    if let Some(offset) = reset {
        return reply(&pull.moved(broker, offset), head, replies);
    }
    if replies.pending_bytes() > BATCH_REPLY_BYTES_MAX {
        let (code, remark) = (
            ResponseCode::PULL_RETRY_IMMEDIATELY,
            ReadStatus::MessageWasRemoving.name(),
        );
        return reply(
            &pull.nothing(broker, code, remark, pull.offset),
            head,
            replies,
        );
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
    let settings = broker.settings();
    let limits = settings
        .keys
        .cold_data_flow_control_enable
        .then(|| Limits::of(&settings.keys));
    let group = &pull.group.group_name;
    if limits.is_some_and(|limits| broker.cold_reads.is_over(group, &limits)) {
        return hold(broker, connection, head, pull, suspend);
    }
    let transfer = pull.transfer.at_most(settings.limits.cold);
    read_blocking(broker, connection, head, pull, transfer, suspend)
}

/// A group has read too much that was not in memory. One whose consumers are called is refused: they pull again later. One that pulls on its own
/// waits, and gets one message.
fn hold(
    broker: &Arc<Broker>,
    connection: Arc<Connection>,
    head: ReplyHead,
    pull: Pull,
    suspend: Option<Duration>,
) -> Result<(), Refusal> {
    let busy = || {
        let remark = "This consumer group is reading cold data. It has been flow control";
        Refusal::new(ResponseCode::SYSTEM_BUSY, remark)
    };
    let members = broker.clients.consumer_group(&pull.group.group_name);
    if members.is_some_and(|group| group.way().0 == ConsumeType::Passively) {
        return Err(busy());
    }
    let held = broker.cold_reads.hold().ok_or_else(busy)?;
    let broker = broker.clone();
    broker.runtime.clone().spawn(async move {
        tokio::time::sleep(cold::HOLD).await;
        drop(held);
        let one = Transfer {
            messages_max: 1,
            ..pull.transfer.at_most(broker.settings().limits.cold)
        };
        let reading = read_blocking(&broker, connection.clone(), head, pull, one, suspend);
        if let Err(refusal) = reading {
            // The client hears that it is too much, and asks again.
            let _ = connection.reply(head, refusal.code, Some(&refusal.remark), &(), &[]);
        }
    });
    Ok(())
}

fn read_blocking(
    broker: &Arc<Broker>,
    connection: Arc<Connection>,
    head: ReplyHead,
    pull: Pull,
    transfer: Transfer,
    suspend: Option<Duration>,
) -> Result<(), Refusal> {
    let permit = broker.blocking_permit(&connection, pull.transfer.bytes_max)?;
    let broker = broker.clone();
    let runtime = broker.runtime.clone();
    runtime.spawn_blocking(move || {
        let outcome = match pull.read(&broker, transfer, ReadMode::Blocking) {
            Ok(result) => {
                pull.count_cold(&broker, &result);
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
            Err(error) => connection.reply(
                head,
                ResponseCode::SYSTEM_ERROR,
                Some(&error.to_string()),
                &(),
                &[],
            ),
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
    pub(crate) fn read(
        &self,
        broker: &Broker,
        transfer: Transfer,
        mode: ReadMode,
    ) -> Result<ReadResult, ReadError> {
        if self.filter.reads_messages() {
            return matching::read(self, broker, transfer, mode);
        }
        let is_batch = is_batch(&self.topic);
        let read = Read {
            topic: &self.topic.topic_name,
            queue_id: self.queue_id,
            offset: self.offset,
            messages_max: transfer.messages_max,
            bytes_max: transfer.bytes_max,
            // The tags of a batch in one record stand in its messages, which the consumer compares itself.
            filter: &|tags_code| self.filter.takes(tags_code) || is_batch && tags_code == 0,
        };
        broker.store.read(&read, mode)
    }

    /// How much this pull hands out when its data is warm.
    pub(crate) fn transfer(&self) -> Transfer {
        self.transfer
    }

    /// Memory that lives as long as this pull, beside its place.
    pub(crate) fn own_bytes(&self) -> usize {
        self.filter.own_bytes()
    }

    /// What was read had to come from the disk.
    fn count_cold(&self, broker: &Broker, result: &ReadResult) {
        if broker.settings().keys.cold_data_flow_control_enable {
            let bytes = result.records.iter().map(bytes::Bytes::len).sum();
            let group = &self.group.group_name;
            broker.cold_reads.read(group, bytes, broker.now_ms());
        }
    }

    fn messages_in(&self, records: &[bytes::Bytes]) -> usize {
        if !is_batch(&self.topic) {
            return records.len();
        }
        let messages = records.iter().map(|record| batch::messages_in(record));
        messages.sum::<u64>() as usize
    }

    /// What the store's result means for the client.
    pub(crate) fn answer(&self, broker: &Broker, result: ReadResult) -> Answer {
        if result.status == ReadStatus::Found {
            let (group, topic) = (&self.group.group_name, &self.topic.topic_name);
            let bytes = result.records.iter().map(bytes::Bytes::len).sum();
            let messages = self.messages_in(&result.records);
            broker.counters.get(messages);
            broker.stats.got(topic, group, messages, bytes);
        }
        // A waiting pull has gone over messages that its filter did not take: the client goes on behind them.
        let skipped = self.offset > self.asked_offset
            && code_of(result.status, self.offset) == ResponseCode::PULL_NOT_FOUND;
        let status = if skipped {
            ReadStatus::NoMatchedMessage
        } else {
            result.status
        };
        Answer {
            code: code_of(status, self.offset),
            remark: status.name(),
            fields: self.fields(result.next_offset, result.min_offset, result.max_offset),
            records: result.records,
        }
    }

    /// The answer to a pull that waits, when an operator decided meanwhile where its group goes on.
    pub(crate) fn reset(&self, broker: &Broker) -> Option<Answer> {
        let (group, topic) = (&self.group.group_name, &self.topic.topic_name);
        let offsets = &broker.offsets;
        match offsets.reset_of_pull(group, topic, self.queue_id, self.asked_offset)? {
            ResetOfPull::GoTo(offset) => Some(self.moved(broker, offset)),
            ResetOfPull::Followed => None,
        }
    }

    /// An answer that sends the client to where an operator wants its group.
    fn moved(&self, broker: &Broker, offset: i64) -> Answer {
        let code = ResponseCode::PULL_OFFSET_MOVED;
        self.nothing(broker, code, OFFSET_RESET, offset)
    }

    /// An answer without messages, after which the client asks again from `next_offset`.
    fn nothing(
        &self,
        broker: &Broker,
        code: ResponseCode,
        remark: &'static str,
        next_offset: i64,
    ) -> Answer {
        let (topic, queue) = (&*self.topic.topic_name, self.queue_id);
        let min_offset = broker.store.min_offset(topic, queue) as i64;
        let max_offset = broker.store.max_offset(topic, queue) as i64;
        Answer {
            code,
            remark,
            fields: self.fields(next_offset, min_offset, max_offset),
            records: Vec::new(),
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
            group_sys_flag: Some(self.group.group_sys_flag),
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
        connection.reply_parts(
            head,
            self.code,
            Some(self.remark),
            &self.fields,
            &self.records,
        )
    }
}

fn reply(answer: &Answer, head: ReplyHead, replies: &mut Replies) {
    replies.reply_parts(
        head,
        answer.code,
        Some(answer.remark),
        &answer.fields,
        &answer.records,
    );
}

fn refuse(denied: &Denied, head: ReplyHead, replies: &mut Replies) {
    let Denied { refusal, forbidden } = denied;
    let mut fields = protocol::header::FieldMap::default();
    if let Some(forbidden) = forbidden {
        fields.insert("forbiddenType", (*forbidden as i32).to_string());
    }
    replies.reply(head, refusal.code, Some(&refusal.remark), &fields, &[]);
}

/// Java 5.3: `PullMessageProcessor.composeResponseHeader`.
fn code_of(status: ReadStatus, offset: i64) -> ResponseCode {
    match status {
        ReadStatus::Found => ResponseCode::SUCCESS,
        ReadStatus::MessageWasRemoving | ReadStatus::NoMatchedMessage => {
            ResponseCode::PULL_RETRY_IMMEDIATELY
        }
        ReadStatus::NoMatchedQueue | ReadStatus::NoMessageInQueue if offset != 0 => {
            ResponseCode::PULL_OFFSET_MOVED
        }
        ReadStatus::NoMatchedQueue | ReadStatus::NoMessageInQueue => ResponseCode::PULL_NOT_FOUND,
        ReadStatus::OffsetFoundNull | ReadStatus::OffsetOverflowOne => ResponseCode::PULL_NOT_FOUND,
        ReadStatus::OffsetOverflowBadly | ReadStatus::OffsetTooSmall => {
            ResponseCode::PULL_OFFSET_MOVED
        }
    }
}

/// When a pull that begins to wait now is answered at the latest.
pub(crate) fn deadline(suspend: Duration) -> Instant {
    Instant::now() + suspend
}
