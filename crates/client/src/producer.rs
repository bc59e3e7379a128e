//! Sends messages, and tries another broker when one does not take them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use protocol::batch;
use protocol::body::ProducerData;
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{
    RecallMessageRequest, RecallMessageResponse, SendMessageRequest, SendMessageRequestV2,
    SendMessageResponse,
};
use protocol::message_id::UniqueIds;
use protocol::properties;
use protocol::recall::RecallHandle;
use protocol::sysflag;
use protocol::topic;
use tokio::task::JoinHandle;

use crate::compression;
use crate::error::{Error, SendError};
use crate::instance::{Instance, local_ip, now_ms, refused};
use crate::message::{Message, MessageQueue, SendReceipt, SendStatus};
use crate::request::{Reply, RequestError};
use crate::trace::{self, DEFAULT_REGION, Note, Tracer};

/// Bodies from here on are compressed, as RocketMQ's clients do.
const COMPRESS_FROM_BYTES: usize = 4096;
/// Queues that an auto-created topic gets at most.
const DEFAULT_TOPIC_QUEUES: i32 = 4;

/// Settings of a [`Producer`], each with RocketMQ's default.
#[derive(Clone, Debug)]
pub struct ProducerBuilder {
    group: String,
    nameservers: String,
    send_timeout: Duration,
    retries: u32,
    compress_from_bytes: usize,
    trace_topic: Option<String>,
}

/// Sends messages. Cheap to share: every method takes `&self`.
pub struct Producer {
    shared: Arc<Shared>,
}

struct Shared {
    settings: ProducerBuilder,
    instance: Arc<Instance>,
    unique_ids: UniqueIds,
    /// Walks over the queues, so that messages spread evenly.
    turn: AtomicUsize,
    tracer: Option<Tracer>,
}

/// What a broker said of a send, and the region that it names; none when it switched traces off.
struct Acknowledged {
    receipt: SendReceipt,
    region: Option<String>,
}

impl ProducerBuilder {
    /// How long one attempt may take. Default 3 s.
    #[must_use]
    pub fn send_timeout(mut self, timeout: Duration) -> Self {
        self.send_timeout = timeout;
        self
    }

    /// Attempts after the first, on another broker where there is one. Default 2.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Bodies of at least this many bytes are compressed. Default 4096; `usize::MAX` switches it off.
    #[must_use]
    pub fn compress_from_bytes(mut self, bytes: usize) -> Self {
        self.compress_from_bytes = bytes;
        self
    }

    /// Traces every message that is acknowledged, as Java's clients do with `enableMsgTrace`: notes of it go to `topic`, for most brokers
    /// `RMQ_SYS_TRACE_TOPIC`, which must exist or be created by its first message. Default: no traces.
    #[must_use]
    pub fn trace_to(mut self, topic: impl Into<String>) -> Self {
        self.trace_topic = Some(topic.into());
        self
    }

    /// Starts the producer. Servers are reached at the first send.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the name server list cannot be used.
    pub fn start(self) -> Result<Producer, Error> {
        let instance = Instance::new(&self.nameservers)?;
        instance.identify(|identity| {
            identity.producer_data_set.push(ProducerData {
                group_name: self.group.clone(),
            });
        });
        instance.start();
        let tracer = match &self.trace_topic {
            Some(topic) => Some(Tracer::start(&self.group, topic, &self.nameservers)?),
            None => None,
        };
        let unique_ids = UniqueIds::new(local_ip(), std::process::id(), next_instance());
        Ok(Producer {
            shared: Arc::new(Shared {
                settings: self,
                instance,
                unique_ids,
                tracer,
                turn: AtomicUsize::new(0),
            }),
        })
    }
}

impl Producer {
    /// A producer of `group`; `nameservers` is `host:port`, several separated by `;`.
    pub fn builder(group: impl Into<String>, nameservers: impl Into<String>) -> ProducerBuilder {
        ProducerBuilder {
            group: group.into(),
            nameservers: nameservers.into(),
            send_timeout: Duration::from_secs(3),
            retries: 2,
            compress_from_bytes: COMPRESS_FROM_BYTES,
            trace_topic: None,
        }
    }

    /// Sends, and waits until the broker has stored the message as its configuration promises.
    ///
    /// # Errors
    /// [`SendError`] after all attempts. The message may still have been stored when the last failure is a timeout.
    pub async fn send(&self, message: Message) -> Result<SendReceipt, SendError> {
        self.shared.send_with_retries(&message).await
    }

    /// Sends a message and waits until somebody who consumes it replies ([`Message::reply_to`]), `timeout` in all.
    ///
    /// # Errors
    /// [`RequestError`]; without a reply the message may have been consumed all the same.
    pub async fn request(
        &self,
        message: Message,
        timeout: Duration,
    ) -> Result<Reply, RequestError> {
        let deadline = Instant::now() + timeout;
        let shared = &self.shared;
        let topic = message.topic().to_owned();
        let not_sent = |last| SendError {
            topic: topic.clone(),
            attempts: 0,
            last,
        };
        shared.become_reachable(&topic).await.map_err(not_sent)?;
        let id = shared.unique_ids.next(now_ms());
        let awaited = shared.instance.waiting().begin(&id).map_err(not_sent)?;
        let message = message
            .property(properties::CORRELATION_ID, id)
            .property(
                properties::MESSAGE_REPLY_TO_CLIENT,
                shared.instance.client_id(),
            )
            .property(properties::MESSAGE_TTL, timeout.as_millis().to_string());
        shared.send_with_retries(&message).await?;
        awaited.until(deadline).await.ok_or(RequestError::NoReply {
            topic,
            after: timeout,
        })
    }

    /// Starts a send and returns at once; the handle yields what [`send`](Self::send) would.
    pub fn start_send(&self, message: Message) -> JoinHandle<Result<SendReceipt, SendError>> {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move { shared.send_with_retries(&message).await })
    }

    /// Sends without asking for an answer: quick, and lost without notice when the broker does not take it.
    ///
    /// # Errors
    /// When there is no route or no connection.
    pub async fn send_oneway(&self, message: Message) -> Result<(), Error> {
        let shared = &self.shared;
        let queues = shared.writable(message.topic()).await?;
        let queue = shared.pick(&queues, None).clone();
        let addr = shared.instance.master_of(&queue)?;
        let (mut request, _) = shared.request(&message, &queue);
        request.mark_oneway();
        shared.instance.send_oneway(&addr, request).await
    }

    /// Sends to the queue that `choose` picks: messages that must stay in order go to one queue.
    ///
    /// `choose` gets the number of queues and returns an index below it. No other queue is tried.
    ///
    /// # Errors
    /// [`SendError`] of the only attempt.
    pub async fn send_selected(
        &self,
        message: Message,
        choose: impl FnOnce(usize) -> usize,
    ) -> Result<SendReceipt, SendError> {
        let shared = &self.shared;
        let attempt = async {
            let queues = shared.writable(message.topic()).await?;
            let index = choose(queues.len());
            let queue = queues.get(index).ok_or_else(|| {
                Error::Invalid(format!(
                    "queue {index} was chosen of {} queues",
                    queues.len()
                ))
            })?;
            shared.attempt(&message, queue).await
        };
        attempt.await.map_err(|last| SendError {
            topic: message.topic().to_owned(),
            attempts: 1,
            last,
        })
    }

    /// Sends messages of one topic in one request; they get consecutive offsets of one queue.
    ///
    /// # Errors
    /// [`SendError`]; nothing or everything was stored.
    pub async fn send_batch(&self, messages: &[Message]) -> Result<SendReceipt, SendError> {
        let topic = messages.first().map_or("", Message::topic).to_owned();
        let last = match self.shared.send_batch(messages, &topic).await {
            Ok(receipt) => return Ok(receipt),
            Err(error) => error,
        };
        Err(SendError {
            topic,
            attempts: 1,
            last,
        })
    }

    /// Takes back a message that was sent to `topic` with a deliver time, by the handle of its receipt. On success it is not delivered; gives its id.
    ///
    /// # Errors
    /// [`Error::Refused`] with `ILLEGAL_OPERATION` when it is delivered already or the handle is of no message there, with `NO_PERMISSION` when the broker does
    /// not allow recalls (`recallMessageEnable`); [`Error::Invalid`] when the text is no handle. After a timeout it may have been taken back; asking again is safe.
    pub async fn recall(&self, topic: &str, handle: &str) -> Result<String, Error> {
        self.shared.recall(topic, handle).await
    }

    /// The queues that messages of `topic` go to, sorted by broker and index.
    ///
    /// # Errors
    /// When there is no route or nothing to write to.
    pub async fn queues(&self, topic: &str) -> Result<Vec<MessageQueue>, Error> {
        self.shared.writable(topic).await
    }

    pub(crate) fn instance(&self) -> &Arc<Instance> {
        &self.shared.instance
    }

    pub(crate) fn group(&self) -> &str {
        &self.shared.settings.group
    }

    pub(crate) fn tracer(&self) -> Option<&Tracer> {
        self.shared.tracer.as_ref()
    }

    /// Sends the last traces, unregisters from the brokers and closes the connections.
    pub async fn shutdown(&self) {
        if let Some(tracer) = self.tracer() {
            tracer.flush().await;
        }
        self.shared.instance.shutdown().await;
    }
}

impl Shared {
    async fn send_with_retries(&self, message: &Message) -> Result<SendReceipt, SendError> {
        let attempts = self.settings.retries + 1;
        let mut failed = None;
        let mut attempt = 1;
        loop {
            let last = match self.send_once(message, &mut failed).await {
                Ok(receipt) => return Ok(receipt),
                Err(error) => error,
            };
            if attempt == attempts || !is_worth_another_attempt(&last) {
                return Err(SendError {
                    topic: message.topic().to_owned(),
                    attempts: attempt,
                    last,
                });
            }
            tracing::debug!(topic = message.topic(), attempt, error = %last, "send failed, trying again");
            attempt += 1;
        }
    }

    /// Sees to it that brokers know this client before a reply is looking for it: those of the topic, and those of its cluster's reply topic,
    /// which any of them may take.
    async fn become_reachable(&self, topic: &str) -> Result<(), Error> {
        self.writable(topic).await?;
        let Ok(route) = self.instance.route(topic).await else {
            // The first message creates the topic; its brokers are known and have not heard of this client.
            self.instance.heartbeat().await;
            return Ok(());
        };
        for cluster in &route.clusters {
            // A cluster without the topic takes no replies, which its repliers are told.
            drop(self.instance.route(&topic::reply_topic(cluster)).await);
        }
        Ok(())
    }

    /// One attempt, away from the broker that failed before.
    async fn send_once(
        &self,
        message: &Message,
        failed: &mut Option<String>,
    ) -> Result<SendReceipt, Error> {
        let queues = self.writable(message.topic()).await?;
        let queue = self.pick(&queues, failed.as_deref());
        let result = self.attempt(message, queue).await;
        if let Err(error) = &result {
            *failed = Some(queue.broker_name.clone());
            if error.refusal() == Some(ResponseCode::TOPIC_NOT_EXIST) || error.refusal().is_none() {
                // The broker lost the topic or died: the name server may know better than the cache.
                drop(self.instance.fetch_route(message.topic()).await);
            }
        }
        result
    }

    async fn attempt(&self, message: &Message, queue: &MessageQueue) -> Result<SendReceipt, Error> {
        let (request, message_id) = self.request(message, queue);
        let began_ms = now_ms();
        let acknowledged = self.exchange(queue, request, message_id).await?;
        self.trace(message, began_ms, &acknowledged);
        Ok(acknowledged.receipt)
    }

    fn trace(&self, message: &Message, began_ms: i64, acknowledged: &Acknowledged) {
        let Some(tracer) = &self.tracer else { return };
        let Acknowledged { receipt, region } = acknowledged;
        let Some(region) = region.as_deref().filter(|_| tracer.traces(message.topic())) else {
            return;
        };
        let kind = if message.is_half() {
            trace::Kind::Half
        } else if message.is_delayed() {
            trace::Kind::Delayed
        } else {
            trace::Kind::Normal
        };
        tracer.note(Note::sent(&trace::Sent {
            began_ms,
            took_ms: now_ms() - began_ms,
            region,
            group: &self.settings.group,
            topic: message.topic(),
            message_id: &receipt.message_id,
            tag: message.tag_value(),
            keys: message.keys_value(),
            broker: &self.instance.master_of(&receipt.queue).unwrap_or_default(),
            body_bytes: message.body().len(),
            kind,
            offset_message_id: &receipt.offset_message_id,
            is_ok: receipt.status == SendStatus::SendOk,
        }));
    }

    async fn exchange(
        &self,
        queue: &MessageQueue,
        request: Command,
        message_id: String,
    ) -> Result<Acknowledged, Error> {
        let addr = self.instance.master_of(queue)?;
        let timeout = self.settings.send_timeout;
        let response = self.instance.call_any(&addr, request, timeout).await?;
        let status = match response.response_code() {
            ResponseCode::SUCCESS => SendStatus::SendOk,
            ResponseCode::FLUSH_DISK_TIMEOUT => SendStatus::FlushDiskTimeout,
            ResponseCode::FLUSH_SLAVE_TIMEOUT => SendStatus::FlushSlaveTimeout,
            ResponseCode::SLAVE_NOT_AVAILABLE => SendStatus::SlaveNotAvailable,
            _ => return Err(refused(&addr, response)),
        };
        let region = match response.fields.get(properties::TRACE_SWITCH) {
            Some("false") => None,
            _ => Some(
                response
                    .fields
                    .get(properties::MSG_REGION)
                    .unwrap_or(DEFAULT_REGION),
            ),
        };
        let region = region.map(str::to_owned);
        let header: SendMessageResponse = response.header().map_err(|e| Error::Malformed {
            addr,
            reason: e.to_string(),
        })?;
        if self.instance.cached_route(&queue.topic).is_none() {
            // The topic was created by this very message.
            drop(self.instance.fetch_route(&queue.topic).await);
        }
        let receipt = SendReceipt {
            status,
            message_id,
            offset_message_id: header.msg_id,
            queue: MessageQueue {
                queue_id: header.queue_id,
                ..queue.clone()
            },
            queue_offset: header.queue_offset,
            recall_handle: header.recall_handle,
        };
        Ok(Acknowledged { receipt, region })
    }

    async fn recall(&self, topic: &str, handle: &str) -> Result<String, Error> {
        let named =
            RecallHandle::decode(handle).map_err(|error| Error::Invalid(error.to_string()))?;
        // The route says where the broker is.
        self.writable(topic).await?;
        let queue = MessageQueue {
            topic: topic.to_owned(),
            broker_name: named.broker_name,
            queue_id: 0,
        };
        let addr = self.instance.master_of(&queue)?;
        let header = RecallMessageRequest {
            producer_group: Some(self.settings.group.clone()),
            topic: topic.to_owned(),
            recall_handle: handle.to_owned(),
        };
        let request = Command::request(RequestCode::RECALL_MESSAGE, &header);
        let timeout = self.settings.send_timeout;
        let response = self.instance.call(&addr, request, timeout).await?;
        let header: RecallMessageResponse = response.header().map_err(|e| Error::Malformed {
            addr,
            reason: e.to_string(),
        })?;
        Ok(header.msg_id)
    }

    async fn send_batch(&self, messages: &[Message], topic: &str) -> Result<SendReceipt, Error> {
        if messages.is_empty() {
            return Err(Error::Invalid(
                "a batch needs at least one message".to_owned(),
            ));
        }
        if let Some(other) = messages.iter().find(|message| message.topic() != topic) {
            let reason = format!(
                "a batch has one topic: {topic} and {} differ",
                other.topic()
            );
            return Err(Error::Invalid(reason));
        }
        let queues = self.writable(topic).await?;
        let queue = self.pick(&queues, None).clone();
        let mut body = BytesMut::new();
        let mut ids = Vec::with_capacity(messages.len());
        for message in messages {
            let id = self.unique_ids.next(now_ms());
            let properties = message.encode_properties(&id);
            let item = batch::Item {
                flag: message.flag_value(),
                body: message.body(),
                properties: &properties,
            };
            batch::push(&mut body, &item);
            ids.push(id);
        }
        // A topic that keeps batches together wants an id of the whole.
        let mut properties = String::new();
        let whole = self.unique_ids.next(now_ms());
        properties::push(&mut properties, properties::UNIQ_KEY, &whole);
        let header = SendMessageRequestV2(SendMessageRequest {
            batch: Some(true),
            ..self.header(&queue, 0, 0, properties)
        });
        let request =
            Command::request(RequestCode::SEND_BATCH_MESSAGE, &header).with_body(body.freeze());
        let began_ms = now_ms();
        let acknowledged = self.exchange(&queue, request, ids.join(",")).await?;
        // As Java's clients do: one note, with all ids.
        self.trace(&Message::new(topic, Bytes::new()), began_ms, &acknowledged);
        Ok(acknowledged.receipt)
    }

    fn request(&self, message: &Message, queue: &MessageQueue) -> (Command, String) {
        let message_id = self.unique_ids.next(now_ms());
        let (body, mut sys_flag) = self.pack(message.body());
        if message.is_half() {
            sys_flag |= sysflag::TRANSACTION_PREPARED;
        }
        let properties = message.encode_properties(&message_id);
        let header =
            SendMessageRequestV2(self.header(queue, sys_flag, message.flag_value(), properties));
        let code = if message.is_reply() {
            RequestCode::SEND_REPLY_MESSAGE_V2
        } else {
            RequestCode::SEND_MESSAGE_V2
        };
        (Command::request(code, &header).with_body(body), message_id)
    }

    fn header(
        &self,
        queue: &MessageQueue,
        sys_flag: i32,
        flag: i32,
        properties: String,
    ) -> SendMessageRequest<'static> {
        SendMessageRequest {
            producer_group: self.settings.group.clone().into(),
            topic: queue.topic.clone().into(),
            default_topic: topic::AUTO_CREATE.into(),
            default_topic_queue_nums: DEFAULT_TOPIC_QUEUES,
            queue_id: queue.queue_id,
            sys_flag,
            born_timestamp_ms: now_ms(),
            flag,
            properties: Some(properties.into()),
            reconsume_times: Some(0),
            unit_mode: Some(false),
            max_reconsume_times: None,
            batch: Some(false),
            broker_name: Some(queue.broker_name.clone().into()),
        }
    }

    fn pack(&self, body: &Bytes) -> (Bytes, i32) {
        if body.len() < self.settings.compress_from_bytes {
            return (body.clone(), 0);
        }
        let packed = compression::compress(body);
        if packed.len() < body.len() {
            (
                packed,
                sysflag::COMPRESSED | sysflag::Compression::Zlib.bits(),
            )
        } else {
            (body.clone(), 0)
        }
    }

    async fn writable(&self, topic: &str) -> Result<Vec<MessageQueue>, Error> {
        let route = self
            .instance
            .route_or_template(topic, topic::AUTO_CREATE, DEFAULT_TOPIC_QUEUES)
            .await?;
        if route.writable.is_empty() {
            return Err(Error::NoQueue {
                topic: topic.to_owned(),
                wanted: "written",
            });
        }
        Ok(route.writable.clone())
    }

    /// The next queue in turn, on another broker than `avoid` when there is one.
    fn pick<'q>(&self, queues: &'q [MessageQueue], avoid: Option<&str>) -> &'q MessageQueue {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let brokers: HashSet<&str> = queues.iter().map(|q| q.broker_name.as_str()).collect();
        let avoid = avoid.filter(|name| brokers.len() > 1 && brokers.contains(name));
        (0..queues.len())
            .map(|step| &queues[(turn + step) % queues.len()])
            .find(|queue| avoid != Some(queue.broker_name.as_str()))
            .expect("a broker other than the avoided one has a queue")
    }
}

/// Whether another broker, or the same a moment later, may take what one did not.
fn is_worth_another_attempt(error: &Error) -> bool {
    match error {
        Error::Call(_) | Error::UnknownBroker(_) => true,
        Error::Refused { code, .. } => matches!(
            *code,
            ResponseCode::TOPIC_NOT_EXIST
                | ResponseCode::SERVICE_NOT_AVAILABLE
                | ResponseCode::SYSTEM_ERROR
                | ResponseCode::SYSTEM_BUSY
                | ResponseCode::NO_PERMISSION
                | ResponseCode::NO_BUYER_ID
                | ResponseCode::NOT_IN_CURRENT_UNIT
                | ResponseCode::GO_AWAY
        ),
        _ => false,
    }
}

/// Tells the producers of a process apart in the unique ids that they make; begins at a time, since process ids return.
fn next_instance() -> i32 {
    static INSTANCES: AtomicI32 = AtomicI32::new(0);
    let count = INSTANCES.fetch_add(1, Ordering::Relaxed);
    (now_ms() as i32).wrapping_add(count)
}
