//! The consumer to which the broker hands messages for a time: it pops them, and acknowledges each or lets its time pass.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{
    AckMessageRequest, ChangeInvisibleTimeRequest, ChangeInvisibleTimeResponse, PopMessageRequest,
    PopMessageResponse,
};
use protocol::light;
use protocol::pop::{self, Handle, Origin};
use protocol::properties;
use protocol::record;

use crate::broker_calls::read;
use crate::error::Error;
use crate::instance::{CALL_TIMEOUT, Instance, now_ms, refused};
use crate::message::{MessageQueue, Received};
use crate::push::StartFrom;

/// `initMode`. Java 5.3: `ConsumeInitMode`.
const INIT_MIN: i32 = 0;
const INIT_MAX: i32 = 1;

/// Pops messages: any number of them share a group without sharing queues out, and each message goes to one of them.
///
/// A popped message is hidden from the group for a time. [Acknowledged](Self::ack) in that time, it is done; otherwise it comes again, with
/// [`Received::reconsume_times`] one higher, and ends in the group's dead letters when it comes too often.
///
/// ```no_run
/// # use std::time::Duration;
/// # async fn example() -> Result<(), client::Error> {
/// let consumer = client::PopConsumer::new("billing", "127.0.0.1:9876")?;
/// let hidden = Duration::from_secs(30);
/// for popped in consumer.pop("orders", "*", 32, hidden, Duration::from_secs(10)).await? {
///     println!("{:?}", popped.message.body);
///     consumer.ack(&popped).await?;
/// }
/// # Ok(())
/// # }
/// ```
pub struct PopConsumer {
    group: String,
    instance: Arc<Instance>,
    in_order: bool,
    start: StartFrom,
    /// The broker to ask next.
    turn: AtomicUsize,
}

/// A message that is hidden from others until its time is over.
#[derive(Clone, Debug)]
pub struct Popped {
    /// The message, under its topic, even when it came out of the group's retry topic.
    pub message: Received,
    handle: String,
}

impl Popped {
    /// The receipt handle: what names this delivery.
    pub fn handle(&self) -> &str {
        &self.handle
    }
}

impl PopConsumer {
    /// A consumer of `group`; `nameservers` is `host:port`, several separated by `;`. In a queue that the group never popped it begins with new messages.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the name server list cannot be used.
    pub fn new(group: impl Into<String>, nameservers: &str) -> Result<Self, Error> {
        let instance = Instance::new(nameservers)?;
        instance.start();
        Ok(Self {
            group: group.into(),
            instance,
            in_order: false,
            start: StartFrom::Newest,
            turn: AtomicUsize::new(0),
        })
    }

    /// Where to begin in a queue that the group never popped. A time counts as the oldest message: brokers know no other place.
    #[must_use]
    pub fn start_from(mut self, start: StartFrom) -> Self {
        self.start = start;
        self
    }

    /// With `true`, a queue stands still until what was popped from it is acknowledged, and then goes on: messages come in order, and again in the same
    /// place instead of through the retry topic.
    #[must_use]
    pub fn in_order(mut self, in_order: bool) -> Self {
        self.in_order = in_order;
        self
    }

    /// Pops at most `messages_max` (1 to 32) messages of `topic` whose tag matches `expression` (`*`, or `a || b`), and hides them for
    /// `invisible`. Waits up to `wait` for the first. Asks one broker, another one each time; nothing found there is an empty list.
    ///
    /// # Errors
    /// When the broker cannot be asked or refuses. A broker that has too many messages in flight, or too many pops waiting, refuses with
    /// `POLLING_FULL`: pop again after a while.
    pub async fn pop(
        &self,
        topic: &str,
        expression: &str,
        messages_max: i32,
        invisible: Duration,
        wait: Duration,
    ) -> Result<Vec<Popped>, Error> {
        let broker_name = self.next_broker(topic).await?;
        let addr = self
            .instance
            .broker_address(&broker_name, crate::route::MASTER_ID, false)?;
        let header = PopMessageRequest {
            consumer_group: self.group.clone(),
            topic: topic.to_owned(),
            queue_id: -1,
            messages_max,
            invisible_time_ms: millis(invisible),
            poll_time_ms: millis(wait),
            born_time_ms: now_ms(),
            init_mode: match self.start {
                StartFrom::Newest => INIT_MAX,
                StartFrom::Oldest | StartFrom::Timestamp(_) => INIT_MIN,
            },
            exp_type: Some("TAG".to_owned()),
            exp: Some(expression.to_owned()),
            order: self.in_order,
            attempt_id: None,
        };
        let request = Command::request(RequestCode::POP_MESSAGE, &header);
        let answer = self
            .instance
            .call_any(&addr, request, wait + CALL_TIMEOUT)
            .await?;
        match answer.response_code() {
            ResponseCode::SUCCESS => {}
            ResponseCode::POLLING_TIMEOUT | ResponseCode::PULL_NOT_FOUND => return Ok(Vec::new()),
            _ => return Err(refused(&addr, answer)),
        }
        let header: PopMessageResponse = read(&addr, &answer)?;
        popped(topic, &broker_name, &header, &answer.body)
            .map_err(|reason| Error::Malformed { addr, reason })
    }

    async fn next_broker(&self, topic: &str) -> Result<String, Error> {
        let route = self.instance.route(topic).await?;
        let brokers: BTreeSet<&str> = route
            .readable
            .iter()
            .map(|queue| queue.broker_name.as_str())
            .collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let chosen = brokers.iter().nth(turn % brokers.len().max(1));
        chosen
            .map(|name| (*name).to_owned())
            .ok_or_else(|| Error::NoQueue {
                topic: topic.to_owned(),
                wanted: "read",
            })
    }

    /// The message is consumed. Once its time is over this has no effect, and no error: it comes again.
    ///
    /// # Errors
    /// When the broker cannot be asked or refuses.
    pub async fn ack(&self, popped: &Popped) -> Result<(), Error> {
        let Named {
            addr,
            topic,
            queue_id,
            offset,
        } = self.named(popped)?;
        let header = AckMessageRequest {
            consumer_group: self.group.clone(),
            topic,
            queue_id,
            extra_info: popped.handle.clone(),
            offset,
        };
        let request = Command::request(RequestCode::ACK_MESSAGE, &header);
        let answer = self.instance.call_any(&addr, request, CALL_TIMEOUT).await?;
        match answer.response_code() {
            ResponseCode::SUCCESS => Ok(()),
            _ => Err(refused(&addr, answer)),
        }
    }

    /// Hides the message for `invisible` from this moment on; zero gives it back at once. The old handle is worth nothing from then on.
    ///
    /// # Errors
    /// When the broker cannot be asked or refuses.
    pub async fn change_invisible(
        &self,
        popped: &mut Popped,
        invisible: Duration,
    ) -> Result<(), Error> {
        let Named {
            addr,
            topic,
            queue_id,
            offset,
        } = self.named(popped)?;
        let header = ChangeInvisibleTimeRequest {
            consumer_group: self.group.clone(),
            topic,
            queue_id,
            extra_info: popped.handle.clone(),
            offset,
            invisible_time_ms: millis(invisible),
        };
        let request = Command::request(RequestCode::CHANGE_MESSAGE_INVISIBLETIME, &header);
        let answer = self.instance.call_any(&addr, request, CALL_TIMEOUT).await?;
        if answer.response_code() != ResponseCode::SUCCESS {
            return Err(refused(&addr, answer));
        }
        let changed: ChangeInvisibleTimeResponse = read(&addr, &answer)?;
        let handle =
            Handle::parse(&popped.handle).map_err(|error| Error::Invalid(error.to_string()))?;
        popped.handle = Handle {
            popped_ms: changed.pop_time_ms,
            invisible_ms: changed.invisible_time_ms,
            revive_queue: changed.revive_qid,
            ..handle
        }
        .to_string();
        Ok(())
    }

    fn named(&self, popped: &Popped) -> Result<Named, Error> {
        let handle =
            Handle::parse(&popped.handle).map_err(|error| Error::Invalid(error.to_string()))?;
        Ok(Named {
            addr: self.instance.broker_address(
                handle.broker_name,
                crate::route::MASTER_ID,
                false,
            )?,
            topic: handle.origin.real_topic(&self.group, &popped.message.topic),
            queue_id: handle.queue_id,
            offset: handle.offset.unwrap_or(popped.message.queue_offset),
        })
    }

    /// Closes the connections. What is not acknowledged comes again.
    pub async fn shutdown(&self) {
        self.instance.shutdown().await;
    }
}

/// Where an acknowledgement goes, and what it is about.
struct Named {
    addr: String,
    topic: String,
    queue_id: i32,
    offset: i64,
}

/// Reads the messages of a pop's answer and makes a handle for each that has none. Java 5.3: `MQClientAPIImpl.processPopResponse`.
fn popped(
    topic: &str,
    broker_name: &str,
    header: &PopMessageResponse,
    body: &Bytes,
) -> Result<Vec<Popped>, String> {
    let start = header.start_offset_info.as_deref().unwrap_or("");
    let counts = header.order_count_info.as_deref().unwrap_or("");
    let mut all = Vec::new();
    let mut rest = body.clone();
    while !rest.is_empty() {
        let record = record::decode(&rest, record::CheckBody::Yes)
            .map_err(|error| format!("a popped record cannot be read: {error}"))?;
        // A light queue has one number, whatever the queue of the message's own topic.
        let queue_id = if light::is_light(topic) {
            0
        } else {
            record.queue_id
        };
        let queue = MessageQueue {
            topic: topic.to_owned(),
            broker_name: broker_name.to_owned(),
            queue_id,
        };
        let mut message = Received::from_record(&queue, &record, &rest)?;
        message.queue_offset = message.offset_in(topic);
        let origin = Origin::of(record.topic);
        let handle = match message.property(properties::POP_CK) {
            Some(handle) => handle.to_owned(),
            None => Handle {
                start_offset: pop::start_of(start, origin, queue_id)
                    .unwrap_or(message.queue_offset),
                popped_ms: header.pop_time_ms,
                invisible_ms: header.invisible_time_ms,
                revive_queue: header.revive_qid,
                origin,
                broker_name,
                queue_id,
                offset: Some(message.queue_offset),
            }
            .to_string(),
        };
        let count = pop::count_of(counts, origin, queue_id, message.queue_offset);
        message.reconsume_times = message.reconsume_times.max(count);
        topic.clone_into(&mut message.topic);
        all.push(Popped { message, handle });
        let size = record.size as usize;
        rest = rest.slice(size..);
    }
    Ok(all)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
