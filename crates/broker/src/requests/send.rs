//! SEND_MESSAGE (10), SEND_MESSAGE_V2 (310), SEND_BATCH_MESSAGE (320).
//!
//! All sends that one read of a connection yielded are checked one by one, then appended together. A send that is
//! refused is answered at once and takes no other with it. The checks and their texts are those of Java 5.3:
//! `SendMessageProcessor`, `AbstractSendMessageProcessor.msgCheck`.

mod answer;
mod inner_batch;
mod light;
pub(crate) mod properties;
mod timer;
pub(crate) mod topic;

use std::cell::Cell;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use protocol::body::TopicConfig;
use protocol::code::{RequestCode, ResponseCode};
use protocol::headers::{SendMessageRequest, SendReader};
use protocol::properties::BYTES_MAX as PROPERTIES_BYTES_MAX;
use protocol::reply::ReplyHead;
use protocol::sysflag;
use remoting::{Connection, Replies, Request};
use storage::{AppendError, Appended, FlushMode, NewMessage};
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::Broker;
use crate::call::Refusal;
use crate::compaction::is_compaction;
use crate::requests::batch;
use crate::settings::Settings;
use crate::topics::{Found, is_batch};
use crate::transactions::{self, NewHalf, TIMED_BYTES};

use answer::join_ids;
use properties::{Delivery, Scan};

pub(crate) use answer::{
    Region, Sent, failed, flushed, illegal, is_about_a_message, key_is_missing, refusal,
};

/// Bodies and properties of one append, in bytes. It bounds how long the append lock is held for one connection.
const APPEND_BYTES_MAX: usize = 4 << 20;
/// Topics of a batch that are looked through before the table of topics.
const TOPICS_REMEMBERED: usize = 8;
/// What a thread keeps of its scratch memory between two batches, in bytes.
const SCRATCH_BYTES_KEPT: usize = 1 << 20;

/// The header of a send, in the one form that both versions are read into.
pub(crate) type Header<'a> = SendMessageRequest<'a>;

/// Whether a send carries the header of V1. A batch carries that of V2, or V1's from an old client; its names tell them apart.
fn is_long(request: &Request<'_>) -> bool {
    match request.code() {
        RequestCode::SEND_MESSAGE => true,
        RequestCode::SEND_MESSAGE_V2 => false,
        _ => request.header.fields.get("topic").is_some(),
    }
}

/// Whether a request is a send.
pub(crate) fn is_send(code: RequestCode) -> bool {
    matches!(
        code,
        RequestCode::SEND_MESSAGE | RequestCode::SEND_MESSAGE_V2 | RequestCode::SEND_BATCH_MESSAGE
    )
}

/// A message that has passed its checks. It names its parts by position, so that the memory outlives the batch.
struct Draft {
    target: Target,
    request: usize,
    body: Range<usize>,
    properties: Range<usize>,
    queue_id: i32,
    flag: i32,
    sys_flag: i32,
    born_timestamp_ms: i64,
    reconsume_times: i32,
    /// Messages that the record stands for.
    messages: u32,
}

/// Where a message is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    /// In a topic of the batch, by position.
    Topic(usize),
    /// Among those that are delivered by a delay level.
    Schedule,
    /// Among those whose transaction has not ended.
    Half,
    /// Among those that are delivered at a time of their own.
    Timers,
}

/// A request that waits for its messages to be appended.
struct Waiting {
    head: ReplyHead,
    messages: usize,
    queue_id: i32,
    /// The message's unique id, inside the scratch text; empty when it has none.
    unique_id: Range<usize>,
    /// By which the message can be taken back, inside the scratch text; mostly empty.
    recall_handle: Range<usize>,
    /// The client wants to be told after the flush, not before.
    wait_for_flush: bool,
    /// It is a batch in one record.
    is_inner_batch: bool,
}

/// The sends of one batch on their way into the store. Reused, so that a batch allocates little.
#[derive(Default)]
struct Sends {
    text: String,
    body_bytes: usize,
    topics: Vec<Arc<TopicConfig>>,
    /// Positions in `topics` of those that are not durable yet.
    new_topics: Vec<usize>,
    drafts: Vec<Draft>,
    waiting: Vec<Waiting>,
    /// How many of the drafts are halves of transactions.
    halves: usize,
    /// How many of them are batches in one record.
    inner_batches: usize,
    appended: Vec<Appended>,
    /// Always empty between two appends; kept for its memory.
    messages: Vec<NewMessage<'static>>,
    ids: String,
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Sends>>> = const { Cell::new(None) };
}

/// Serves every send among `requests`.
pub(crate) fn serve(
    broker: &Broker,
    connection: &Arc<Connection>,
    requests: &[Request<'_>],
    replies: &mut Replies,
) {
    let settings = broker.settings();
    let mut sends = SCRATCH.take().unwrap_or_default();
    let batch = Batch {
        broker,
        settings: &settings,
        requests,
        born_host: born_host(connection),
        connection,
    };
    let mut headers = SendReader::default();
    for (index, request) in requests.iter().enumerate() {
        if !is_send(request.code()) {
            continue;
        }
        if sends.text.len() + sends.body_bytes + request.body.len() > APPEND_BYTES_MAX {
            batch.append(&mut sends, replies);
        }
        let header = headers.read(&request.header.fields, is_long(request));
        let checked = header
            .map_err(Refusal::from)
            .and_then(|header| batch.check(&mut sends, index, request, header));
        if let Err(refusal) = checked {
            batch.refuse(request.head(), &refusal, replies);
        }
    }
    batch.append(&mut sends, replies);
    sends.topics.clear();
    sends.new_topics.clear();
    if sends.text.capacity() <= SCRATCH_BYTES_KEPT {
        SCRATCH.set(Some(sends));
    }
}

/// An IPv4 client of a socket that takes both is shown as what it is.
pub(crate) fn born_host(connection: &Connection) -> SocketAddr {
    let peer = connection.peer();
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

/// A batch that a client sends, as one of several sends.
struct AskedBatch<'r, 'a> {
    /// Position of its topic among those of all sends.
    topic: usize,
    /// The queue, as it is numbered here; negative when the choice is the broker's.
    queue_id: i32,
    /// Position of its request among all.
    index: usize,
    request: &'r Request<'a>,
    header: &'r Header<'a>,
}

/// What all sends of a batch share.
struct Batch<'a> {
    broker: &'a Broker,
    settings: &'a Settings,
    requests: &'a [Request<'a>],
    born_host: SocketAddr,
    connection: &'a Arc<Connection>,
}

impl Batch<'_> {
    /// Checks one send and drafts its messages. On an error nothing is left behind.
    fn check(
        &self,
        sends: &mut Sends,
        index: usize,
        request: &Request<'_>,
        header: &Header<'_>,
    ) -> Result<(), Refusal> {
        let mut topic = self.topic(sends, header)?;
        let mut config = &sends.topics[topic];
        let statics = &self.broker.static_topics;
        let asked = statics.physical(&config.topic_name, header.queue_id)?;
        topic::check_queue(config, asked, self.born_host)?;
        let is_batch =
            header.batch == Some(true) || request.code() == RequestCode::SEND_BATCH_MESSAGE;
        if is_batch {
            let asked = AskedBatch {
                topic,
                queue_id: asked,
                index,
                request,
                header,
            };
            return self.draft_batch(sends, &asked);
        }
        self.check_body(request.body.len())?;
        let client_properties = header.properties.as_deref().unwrap_or("");
        let scan = properties::scan(client_properties);
        self.check_features(&scan, header)?;
        let light_bytes = match scan.light {
            None => 0,
            Some(names) => light::check(self.broker, self.settings, names)?,
        };
        let mut dead_letter = false;
        if let Some(group) = protocol::topic::group_of_retry_topic(&header.topic)
            && let Some(dead) = topic::dead_letter(
                self.broker,
                self.connection,
                group,
                request.header.version,
                header,
            )?
        {
            topic = sends.add_topic(dead);
            config = &sends.topics[topic];
            dead_letter = true;
        }
        if is_compaction(config) && !scan.has_keys() {
            return Err(key_is_missing());
        }
        let queue_id = topic::queue_id(self.broker, config, if dead_letter { 0 } else { asked })?;
        let is_half = is_half(&scan, header);
        let sys_flag = topic::sys_flag(config, header.sys_flag);
        let delivery = if dead_letter {
            Delivery::DeadLetter
        } else if is_half {
            self.half(&scan, header, &config.topic_name, queue_id)?
        } else {
            self.delivery(&scan, &config.topic_name, queue_id)?
        };
        let (target, stored_queue_id) = match delivery {
            Delivery::Later { level, .. } => (Target::Schedule, level - 1),
            Delivery::Half { .. } => (Target::Half, transactions::QUEUE),
            Delivery::At { .. } => (Target::Timers, 0),
            Delivery::Now | Delivery::DeadLetter => (Target::Topic(topic), queue_id),
        };

        let text_before = sends.text.len();
        let unique_id = properties::store(
            &mut sends.text,
            client_properties,
            &scan,
            delivery,
            &self.settings.stored_properties,
            || self.broker.unique_ids.next(self.broker.now_ms()),
        );
        let properties = text_before..sends.text.len();
        // The commit must find room for what it adds.
        let timed_bytes = match delivery {
            Delivery::Half { .. } if scan.is_timed() => TIMED_BYTES,
            _ => 0,
        };
        if properties.len() + light_bytes + timed_bytes > PROPERTIES_BYTES_MAX {
            sends.text.truncate(text_before);
            return Err(self.illegal());
        }
        let recall_handle = match delivery {
            Delivery::At { due_ms, topic, .. } if !scan.drops_timer => {
                let unique_id = sends.text[unique_id.clone()].to_owned();
                timer::push_handle(self.broker, &mut sends.text, topic, due_ms, &unique_id)
            }
            _ => 0..0,
        };
        sends.body_bytes += request.body.len();
        sends.halves += usize::from(matches!(target, Target::Half));
        sends.drafts.push(Draft {
            target,
            request: index,
            body: 0..request.body.len(),
            properties,
            queue_id: stored_queue_id,
            flag: header.flag,
            sys_flag: sys_flag & !sysflag::TRANSACTION_MASK,
            born_timestamp_ms: header.born_timestamp_ms,
            reconsume_times: header.reconsume_times.unwrap_or(0),
            messages: 1,
        });
        let queue_id = self.shown_queue(sends, topic, queue_id);
        sends.waiting.push(Waiting {
            head: request.head(),
            messages: 1,
            queue_id,
            unique_id,
            recall_handle,
            wait_for_flush: self.holds(scan.wait),
            is_inner_batch: false,
        });
        Ok(())
    }

    /// Drafts the messages of a batch: one record each, with the properties that the client gave each.
    fn draft_batch(&self, sends: &mut Sends, asked: &AskedBatch<'_, '_>) -> Result<(), Refusal> {
        let AskedBatch {
            topic,
            index,
            request,
            header,
            ..
        } = *asked;
        let config = &sends.topics[topic];
        let scan = properties::scan(header.properties.as_deref().unwrap_or(""));
        let items = batch::check(request.body, &self.settings.limits, header, config, &scan)?;
        if is_batch(config)
            && scan.unique_id.is_some()
            && self.broker.store.make_batch_topic(&config.topic_name)
        {
            return self.draft_inner_batch(sends, asked, &scan, &items);
        }
        for item in &items {
            let Some(names) = item.light else { continue };
            let light_bytes = light::check(self.broker, self.settings, names)?;
            if item.properties.len() + light_bytes > PROPERTIES_BYTES_MAX {
                return Err(self.illegal());
            }
        }
        let queue_id = topic::queue_id(self.broker, config, asked.queue_id)?;
        let sys_flag = topic::sys_flag(config, header.sys_flag);
        for item in &items {
            let text_before = sends.text.len();
            sends.text.push_str(item.properties);
            sends.drafts.push(Draft {
                target: Target::Topic(topic),
                request: index,
                body: item.body.clone(),
                properties: text_before..sends.text.len(),
                queue_id,
                flag: item.flag,
                sys_flag,
                born_timestamp_ms: header.born_timestamp_ms,
                reconsume_times: header.reconsume_times.unwrap_or(0),
                messages: 1,
            });
        }
        sends.body_bytes += request.body.len();
        let unique_before = sends.text.len();
        sends.text.push_str(scan.unique_id.unwrap_or(""));
        let queue_id = self.shown_queue(sends, topic, queue_id);
        sends.waiting.push(Waiting {
            head: request.head(),
            messages: items.len(),
            queue_id,
            unique_id: unique_before..sends.text.len(),
            recall_handle: 0..0,
            wait_for_flush: self.holds(scan.wait),
            is_inner_batch: false,
        });
        Ok(())
    }

    /// The number by which clients know a queue of a topic of the batch.
    fn shown_queue(&self, sends: &Sends, topic: usize, queue_id: i32) -> i32 {
        let name = &sends.topics[topic].topic_name;
        self.broker.static_topics.global(name, queue_id)
    }

    /// The position of the send's topic among those of the batch.
    fn topic(&self, sends: &mut Sends, header: &Header<'_>) -> Result<usize, Refusal> {
        // Nearly always the topic of the message before.
        let latest = sends.topics.len().saturating_sub(TOPICS_REMEMBERED);
        let known = sends.topics[latest..]
            .iter()
            .rposition(|config| *config.topic_name == *header.topic);
        if let Some(known) = known {
            return Ok(latest + known);
        }
        let found = topic::find_or_create(self.broker, self.settings, self.connection, header)?;
        Ok(sends.add_topic(found))
    }

    fn check_body(&self, body_bytes: usize) -> Result<(), Refusal> {
        if body_bytes <= self.settings.limits.message_bytes_max {
            Ok(())
        } else {
            Err(self.illegal())
        }
    }

    /// When a message of this topic and queue is delivered. A level beyond the last counts as the last.
    fn delivery<'t>(
        &self,
        scan: &Scan<'_>,
        topic: &'t str,
        queue_id: i32,
    ) -> Result<Delivery<'t>, Refusal> {
        let level = scan.delay_level().map_err(|properties::NotANumber| {
            Refusal::new(
                ResponseCode::MESSAGE_ILLEGAL,
                "the message is illegal, its property DELAY is no delay level",
            )
        })?;
        let levels = self.broker.store.delay_levels_ms().len() as i32;
        if let Some(level) = level {
            return Ok(Delivery::Later {
                level: level.min(levels),
                topic,
                queue_id,
            });
        }
        if scan.is_timed() || scan.drops_timer {
            let due_ms = timer::due_ms(self.broker, self.settings, scan)?;
            return Ok(due_ms.map_or(Delivery::Now, |due_ms| Delivery::At {
                due_ms,
                topic,
                queue_id,
            }));
        }
        Ok(Delivery::Now)
    }

    /// How the half of a transaction is stored, if it may be.
    fn half<'t>(
        &self,
        scan: &Scan<'_>,
        header: &'t Header<'_>,
        topic: &'t str,
        queue_id: i32,
    ) -> Result<Delivery<'t>, Refusal> {
        if self.settings.keys.reject_transaction_message {
            return Err(Refusal::new(
                ResponseCode::NO_PERMISSION,
                format!(
                    "the broker[{}] sending transaction message is forbidden",
                    self.broker.identity().address.ip()
                ),
            ));
        }
        if scan.drops_timer {
            return Err(Refusal::new(
                ResponseCode::MESSAGE_ILLEGAL,
                "timer message illegal, an order to delete a message (TIMER_DEL_UNIQKEY) cannot be part of a transaction",
            ));
        }
        // Level and delay count from the commit, and must be such then.
        self.delivery(scan, topic, queue_id)?;
        self.broker.transactions.check_room()?;
        Ok(Delivery::Half {
            topic,
            queue_id,
            group: (!scan.producer_group).then_some(&*header.producer_group),
        })
    }

    /// What belongs to a part that this version does not have must not be stored as if it were a plain message.
    fn check_features(&self, scan: &Scan<'_>, header: &Header<'_>) -> Result<(), Refusal> {
        let sys_flag = header.sys_flag;
        // Without the property nobody would ever ask how the transaction ended.
        if !scan.transaction
            && matches!(
                sysflag::transaction(sys_flag),
                sysflag::TRANSACTION_PREPARED | sysflag::TRANSACTION_ROLLBACK
            )
        {
            return Err(Refusal::new(
                ResponseCode::MESSAGE_ILLEGAL,
                "the message is illegal, its sysFlag says that it belongs to a transaction, and its property TRAN_MSG does not",
            ));
        }
        if scan.inner_batch || sys_flag & (sysflag::INNER_BATCH | sysflag::NEED_UNWRAP) != 0 {
            return Err(self.illegal());
        }
        Ok(())
    }

    fn illegal(&self) -> Refusal {
        illegal(self.settings.limits.message_bytes_max)
    }

    fn refusal_of(&self, error: &AppendError) -> Refusal {
        answer::refusal(error, self.settings.limits.message_bytes_max)
    }

    fn holds(&self, wait: bool) -> bool {
        wait && self.broker.store.flush_mode() == FlushMode::Sync
    }

    /// Appends everything that was drafted, and answers.
    fn append(&self, sends: &mut Sends, replies: &mut Replies) {
        if !sends.drafts.is_empty() && !sends.new_topics.is_empty() {
            self.commit_topics(sends, replies);
        }
        if sends.drafts.is_empty() {
            return;
        }
        let outcome = self.append_drafts(sends);
        match outcome {
            Ok(()) => {
                if sends.halves > 0 {
                    self.enter_halves(&sends.drafts, &sends.appended, &sends.text);
                }
                self.answer(sends, replies)
            }
            // One message may be at fault, and must not take the others with it.
            Err(error) if is_about_a_message(&error) && sends.waiting.len() > 1 => {
                self.append_singly(sends, replies)
            }
            Err(error) => {
                let refusal = self.refusal_of(&error);
                for waiting in &sends.waiting {
                    self.refuse(waiting.head, &refusal, replies);
                }
            }
        }
        sends.clear();
    }

    /// A topic is in its file before a message of it is stored: without it nobody would be told where that message lies. The
    /// connection's task waits for that, once in a topic's life, with all new topics of its batch and those of other
    /// connections in one sync; Java 5.3 writes the file in its place too. Where it fails, the topics' sends are refused.
    fn commit_topics(&self, sends: &mut Sends, replies: &mut Replies) {
        let Err(error) = off_the_reactor(|| self.broker.topics.commit()) else {
            sends.new_topics.clear();
            return;
        };
        let mut drafts = std::mem::take(&mut sends.drafts).into_iter();
        let waiting = std::mem::take(&mut sends.waiting);
        for waiting in waiting {
            let own: Vec<Draft> = drafts.by_ref().take(waiting.messages).collect();
            let new = own.iter().find_map(|draft| match draft.target {
                Target::Topic(topic) => sends.new_topics.contains(&topic).then_some(topic),
                Target::Schedule | Target::Half | Target::Timers => None,
            });
            let Some(new) = new else {
                sends.drafts.extend(own);
                sends.waiting.push(waiting);
                continue;
            };
            let refusal = topic::not_written(&sends.topics[new].topic_name, &error);
            self.refuse(waiting.head, &refusal, replies);
        }
    }

    fn append_drafts(&self, sends: &mut Sends) -> Result<(), AppendError> {
        let mut appended = std::mem::take(&mut sends.appended);
        appended.clear();
        let mut messages = reuse(std::mem::take(&mut sends.messages));
        messages.extend(sends.drafts.iter().map(|draft| self.message(sends, draft)));
        let outcome = self.broker.store.append(&messages, &mut appended);
        let memory = reuse(messages);
        sends.messages = memory;
        sends.appended = appended;
        outcome
    }

    /// The slow way after a refusal: each request for itself.
    fn append_singly(&self, sends: &mut Sends, replies: &mut Replies) {
        let mut first = 0;
        for waiting in &sends.waiting {
            let drafts = &sends.drafts[first..first + waiting.messages];
            first += waiting.messages;
            let messages: Vec<_> = drafts
                .iter()
                .map(|draft| self.message(sends, draft))
                .collect();
            let mut appended = Vec::with_capacity(messages.len());
            match self.broker.store.append(&messages, &mut appended) {
                Ok(()) => {
                    self.count(sends, drafts, &appended);
                    self.enter_halves(drafts, &appended, &sends.text);
                    self.answer_one(waiting, &sends.text, &appended, &mut String::new(), replies)
                }
                Err(error) => self.refuse(waiting.head, &self.refusal_of(&error), replies),
            }
        }
    }

    /// Halves are known before their senders are told of them.
    fn enter_halves(&self, drafts: &[Draft], appended: &[Appended], text: &str) {
        let halves = drafts
            .iter()
            .zip(appended)
            .filter(|(draft, _)| matches!(draft.target, Target::Half))
            .map(|(draft, appended)| NewHalf {
                appended: *appended,
                properties: &text[draft.properties.clone()],
            });
        let timeout_ms = self.settings.keys.transaction_time_out;
        self.broker.transactions.stored(halves, timeout_ms);
    }

    fn message<'s>(&self, sends: &'s Sends, draft: &Draft) -> NewMessage<'s>
    where
        Self: 's,
    {
        NewMessage {
            topic: sends.stored_in(draft.target),
            queue_id: draft.queue_id,
            flag: draft.flag,
            sys_flag: draft.sys_flag,
            born_timestamp_ms: draft.born_timestamp_ms,
            born_host: self.born_host,
            store_host: self.broker.identity().address,
            reconsume_times: draft.reconsume_times,
            prepared_transaction_offset: 0,
            body: &self.requests[draft.request].body[draft.body.clone()],
            properties: &sends.text[draft.properties.clone()],
        }
    }

    fn answer(&self, sends: &mut Sends, replies: &mut Replies) {
        self.count(sends, &sends.drafts, &sends.appended);
        let mut ids = std::mem::take(&mut sends.ids);
        let mut rest = sends.appended.as_slice();
        for waiting in &sends.waiting {
            let Some((appended, behind)) = rest.split_at_checked(waiting.messages) else {
                break;
            };
            rest = behind;
            self.answer_one(waiting, &sends.text, appended, &mut ids, replies);
        }
        sends.ids = ids;
    }

    /// Adds what was stored to the figures of its topics: once for each run of messages of one topic.
    fn count(&self, sends: &Sends, drafts: &[Draft], appended: &[Appended]) {
        let mut rest = appended;
        for run in drafts.chunk_by(|one, next| one.target == next.target) {
            let Some((stored, behind)) = rest.split_at_checked(run.len()) else {
                return;
            };
            rest = behind;
            if let (Some(first), Some(last)) = (stored.first(), stored.last()) {
                let bytes = last.end.saturating_sub(first.physical_offset);
                let topic = sends.stored_in(run[0].target);
                let messages = sends.messages_of(run);
                self.broker.stats.put(topic, messages, bytes);
            }
        }
    }

    fn answer_one(
        &self,
        waiting: &Waiting,
        text: &str,
        appended: &[Appended],
        ids: &mut String,
        replies: &mut Replies,
    ) {
        let (Some(first), Some(last)) = (appended.first(), appended.last()) else {
            return;
        };
        self.broker
            .counters
            .put(appended.len(), first.physical_offset, last.end);
        let mut offset_ids = self.settings.offset_ids;
        let message_id = match appended {
            [one] => offset_ids.id(one.physical_offset),
            many => join_ids(&mut offset_ids, many, ids),
        };
        let unique_id = &text[waiting.unique_id.clone()];
        let fields = Sent {
            settings: self.settings,
            message_id,
            queue_id: waiting.queue_id,
            queue_offset: first.queue_offset as i64,
            transaction_id: (!unique_id.is_empty()).then_some(unique_id),
            recall_handle: &text[waiting.recall_handle.clone()],
            is_inner_batch: waiting.is_inner_batch,
        };
        if waiting.wait_for_flush {
            replies.reply_when(
                last.end,
                waiting.head,
                ResponseCode::SUCCESS,
                None,
                &fields,
                &[],
            );
        } else {
            replies.reply(waiting.head, ResponseCode::SUCCESS, None, &fields, &[]);
        }
    }

    fn refuse(&self, head: ReplyHead, refusal: &Refusal, replies: &mut Replies) {
        replies.reply(
            head,
            refusal.code,
            Some(&refusal.remark),
            &Region(self.settings),
            &[],
        );
    }
}

impl Sends {
    /// The name of the topic that holds it.
    fn stored_in(&self, target: Target) -> &str {
        match target {
            Target::Topic(topic) => &self.topics[topic].topic_name,
            Target::Schedule => protocol::topic::SCHEDULE,
            Target::Half => protocol::topic::TRANS_HALF,
            Target::Timers => protocol::topic::TIMER,
        }
    }

    /// How many messages drafts stand for: mostly as many as there are.
    fn messages_of(&self, drafts: &[Draft]) -> usize {
        if self.inner_batches == 0 {
            return drafts.len();
        }
        drafts.iter().map(|draft| draft.messages as usize).sum()
    }

    /// The position of a topic that joins those of the batch.
    fn add_topic(&mut self, found: Found) -> usize {
        let position = self.topics.len();
        self.topics.push(found.config);
        if !found.is_durable {
            self.new_topics.push(position);
        }
        position
    }

    fn clear(&mut self) {
        self.text.clear();
        self.body_bytes = 0;
        self.drafts.clear();
        self.waiting.clear();
        self.halves = 0;
        self.inner_batches = 0;
        self.appended.clear();
    }
}

/// Whether a send is the half of a transaction. Clients before 4.6.1 leave the property on a message that they send to its retry topic.
fn is_half(scan: &Scan<'_>, header: &Header<'_>) -> bool {
    let is_retry = header.reconsume_times.unwrap_or(0) > 0 && scan.delayed();
    scan.transaction && !is_retry
}

/// Does what may block where other tasks of this thread need not wait for it.
pub(crate) fn off_the_reactor<T>(work: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|handle| handle.runtime_flavor());
    match flavor {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// The same memory for messages of another batch. There are none in it; only the type changes.
fn reuse<'b>(mut messages: Vec<NewMessage<'_>>) -> Vec<NewMessage<'b>> {
    messages.clear();
    messages
        .into_iter()
        .map(|_| unreachable!("the list was cleared"))
        .collect()
}
