//! The clients: senders of four kinds, consumers at the tail and far behind it, and one who makes and deletes topics.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bytes::BytesMut;
use platform::random::Random;
use protocol::batch;
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::frame::Codec;
use protocol::headers::{
    CreateTopicRequest, DeleteTopicRequest, SendMessageRequest, SendMessageRequestV2,
    SendMessageResponse, UpdateConsumerOffsetRequest,
};
use protocol::{message_id, topic};
use tokio::task::JoinSet;

use super::broker::{QueueOf, Target, read, records};
use super::ledger::{Ledger, Place, Topic, body, properties, verify};

/// Topics that exist from the first cycle to the last, with their queues.
pub(super) const STEADY: [(&str, i32); 3] = [("Orders", 4), ("Payments", 2), ("Audit", 1)];
/// The groups that consume them.
pub(super) const GROUPS: [&str; 3] = ["billing", "shipping", "archive"];
/// Senders that each wait for an answer before they send again.
const SENDERS: u64 = 8;
const BATCH_SENDERS: u64 = 2;
/// Between two one-way messages of the one sender: nothing else holds it back.
const ONEWAY_PAUSE: Duration = Duration::from_millis(1);
/// After a request without an answer.
const FAILED_PAUSE: Duration = Duration::from_millis(5);
/// After a look that found nothing new.
const IDLE_PAUSE: Duration = Duration::from_millis(3);
/// Between two acts of who makes and deletes topics.
const TOPIC_PAUSE: Duration = Duration::from_millis(15);
/// Topics that were made and are not deleted yet.
const TOPICS_ALIVE_MAX: usize = 12;

pub(super) struct Traffic {
    tasks: JoinSet<()>,
    stopping: Arc<AtomicBool>,
    /// The first promise that a client saw broken.
    broken: Arc<Mutex<Option<anyhow::Error>>>,
}

/// What each client has.
struct Client {
    target: Arc<Target>,
    ledger: Arc<Ledger>,
    random: Random,
    /// Cold readers and who deletes topics ask for expired files to go.
    retention: bool,
}

/// A kind of client: what it does again and again.
#[derive(Clone, Copy)]
enum Kind {
    Single,
    Batch,
    Oneway,
    Tail(&'static str),
    Cold,
    Topics,
}

impl Traffic {
    pub(super) fn start(
        target: &Arc<Target>,
        ledger: &Arc<Ledger>,
        retention: bool,
        random: &mut Random,
    ) -> Traffic {
        let mut traffic = Traffic {
            tasks: JoinSet::new(),
            stopping: Arc::default(),
            broken: Arc::default(),
        };
        let mut kinds = vec![Kind::Oneway, Kind::Cold, Kind::Topics];
        kinds.extend((0..SENDERS).map(|_| Kind::Single));
        kinds.extend((0..BATCH_SENDERS).map(|_| Kind::Batch));
        kinds.extend(GROUPS.map(Kind::Tail));
        for kind in kinds {
            let client = Client {
                target: Arc::clone(target),
                ledger: Arc::clone(ledger),
                random: Random(random.next_u64()),
                retention,
            };
            let (stopping, broken) = (Arc::clone(&traffic.stopping), Arc::clone(&traffic.broken));
            traffic.tasks.spawn(async move {
                if let Err(error) = client.run(kind, &stopping).await {
                    broken
                        .lock()
                        .expect("no holder panics")
                        .get_or_insert(error);
                }
            });
        }
        traffic
    }

    /// Whether every client found what it should.
    pub(super) fn is_sound(&self) -> Result<()> {
        let broken = self.broken.lock().expect("no holder panics").take();
        broken.map_or(Ok(()), |error| Err(error.context("seen by a client")))
    }

    /// Ends the clients. The target is closed, so none has a request under way.
    pub(super) async fn stop(mut self) -> Result<()> {
        self.stopping.store(true, Ordering::Relaxed);
        // Each waits for its turn, which does not come any more.
        self.tasks.shutdown().await;
        self.is_sound()
    }
}

impl Client {
    /// # Errors
    /// A broken promise. That the broker is gone is none.
    async fn run(mut self, kind: Kind, stopping: &AtomicBool) -> Result<()> {
        let mut tail = Tail::default();
        let mut made = Vec::new();
        while !stopping.load(Ordering::Relaxed) {
            let target = Arc::clone(&self.target);
            let turn = target.turn().await;
            let addr = turn.as_deref().unwrap_or_default();
            let outcome = match kind {
                Kind::Single => self.send(addr, false).await,
                Kind::Oneway => self.send(addr, true).await,
                Kind::Batch => self.send_batch(addr).await,
                Kind::Tail(group) => self.consume(addr, group, &mut tail).await,
                Kind::Cold => self.read_cold(addr).await,
                Kind::Topics => self.make_and_delete(addr, &mut made).await,
            };
            drop(turn);
            match outcome {
                Ok(pause) => tokio::time::sleep(pause).await,
                Err(Trouble::Down) => tokio::time::sleep(FAILED_PAUSE).await,
                Err(Trouble::Broken(error)) => return Err(error),
            }
        }
        Ok(())
    }

    fn steady_queue(&mut self) -> QueueOf {
        let (topic, queues) = STEADY[self.random.below(STEADY.len() as u64) as usize];
        (topic.into(), self.random.below(queues as u64) as i32)
    }

    /// As either half of the clients write their headers.
    fn command(
        &mut self,
        code: RequestCode,
        header: &impl protocol::header::WriteFields,
    ) -> Command {
        let mut command = Command::request(code, header);
        if self.random.once_in(2) {
            command.codec = Codec::Rocketmq;
        }
        command
    }

    async fn send(&mut self, addr: &str, oneway: bool) -> Done {
        let queue = self.steady_queue();
        let number = self.ledger.next(&queue, oneway);
        let header = send_header(&queue, properties(number), false);
        let mut command = if self.random.once_in(4) {
            self.command(RequestCode::SEND_MESSAGE, &header)
        } else {
            self.command(RequestCode::SEND_MESSAGE_V2, &SendMessageRequestV2(header))
        }
        .with_body(body(number));
        if oneway {
            command.mark_oneway();
            self.target.oneway(addr, command).await?;
            self.ledger.note(|totals| totals.oneway += 1);
            return Ok(ONEWAY_PAUSE);
        }
        let answer = self.target.call(addr, command).await?;
        self.acknowledge(&answer, &[number])?;
        self.ledger.note(|totals| totals.single += 1);
        Ok(Duration::ZERO)
    }

    async fn send_batch(&mut self, addr: &str) -> Done {
        let queue = self.steady_queue();
        let count = 2 + self.random.below(15);
        let numbers: Vec<u64> = (0..count)
            .map(|_| self.ledger.next(&queue, false))
            .collect();
        let mut items = BytesMut::new();
        for &number in &numbers {
            let item = batch::Item {
                flag: 0,
                body: &body(number),
                properties: &properties(number),
            };
            batch::push(&mut items, &item);
        }
        let header = SendMessageRequestV2(send_header(&queue, String::new(), true));
        let command = self
            .command(RequestCode::SEND_BATCH_MESSAGE, &header)
            .with_body(items.freeze());
        let answer = self.target.call(addr, command).await?;
        self.acknowledge(&answer, &numbers)?;
        self.ledger.note(|totals| totals.batched += count);
        Ok(Duration::ZERO)
    }

    /// Notes where the messages of one send lie, which the answer says: one id each, and the first one's offset.
    fn acknowledge(&self, answer: &Command, numbers: &[u64]) -> Result<(), Trouble> {
        if answer.response_code() != ResponseCode::SUCCESS {
            return Err(refused(answer));
        }
        let header: SendMessageResponse = read(answer).map_err(Trouble::Broken)?;
        let ids: Vec<&str> = header.msg_id.split(',').collect();
        if ids.len() != numbers.len() {
            return Err(Trouble::Broken(anyhow!(
                "{} ids for {} messages",
                ids.len(),
                numbers.len()
            )));
        }
        for ((step, number), id) in numbers.iter().enumerate().zip(ids) {
            let place = message_id::decode_offset_id(id)
                .map(|(_, physical)| Place {
                    offset: header.queue_offset as u64 + step as u64,
                    physical,
                })
                .with_context(|| format!("{id} is no id"));
            place
                .and_then(|place| self.ledger.known(*number, place))
                .map_err(Trouble::Broken)?;
        }
        Ok(())
    }

    /// A consumer at the end of one queue after another. What it was given counts as acknowledged.
    async fn consume(&mut self, addr: &str, group: &'static str, tail: &mut Tail) -> Done {
        let queue = self.steady_queue();
        let (min, _) = self.target.bounds(addr, &queue).await?;
        let from = tail.offset(&queue).max(min);
        let commit = self.random.once_in(2).then_some(from as i64);
        if let Some(commit) = commit {
            self.commits(group, &queue, commit, false);
        }
        let pulled = self.target.pull(addr, group, &queue, from, commit).await?;
        let Some(pulled) = pulled else {
            return Ok(IDLE_PAUSE);
        };
        self.delivered(&pulled.bytes).map_err(Trouble::Broken)?;
        tail.set(&queue, pulled.next);
        let offset = pulled.next as i64;
        self.commits(group, &queue, offset, false);
        let header = UpdateConsumerOffsetRequest {
            consumer_group: group.to_owned(),
            topic: queue.0.to_string(),
            queue_id: queue.1,
            commit_offset: offset,
        };
        let command = self.command(RequestCode::UPDATE_CONSUMER_OFFSET, &header);
        let answer = self.target.call(addr, command).await?;
        if answer.response_code() != ResponseCode::SUCCESS {
            return Err(refused(&answer));
        }
        self.commits(group, &queue, offset, true);
        Ok(IDLE_PAUSE)
    }

    fn commits(&self, group: &'static str, queue: &QueueOf, offset: i64, acknowledged: bool) {
        let mut state = self.ledger.state();
        let commit = state.commits.entry((group, queue.clone())).or_default();
        if acknowledged {
            commit.1 = commit.1.max(offset);
            state.totals.commits += 1;
        } else {
            commit.0 = commit.0.max(offset);
        }
    }

    /// Somewhere in a queue, mostly where memory does not reach.
    async fn read_cold(&mut self, addr: &str) -> Done {
        let queue = self.steady_queue();
        let (min, max) = self.target.bounds(addr, &queue).await?;
        if min == max {
            return Ok(IDLE_PAUSE);
        }
        let offset = min + self.random.below(max - min);
        let pulled = self.target.pull(addr, "cold", &queue, offset, None).await?;
        if let Some(pulled) = pulled {
            self.delivered(&pulled.bytes).map_err(Trouble::Broken)?;
        }
        Ok(IDLE_PAUSE)
    }

    fn delivered(&self, bytes: &[u8]) -> Result<()> {
        let records = records(bytes)?;
        for record in &records {
            let place = Place {
                offset: record.queue_offset,
                physical: record.physical_offset,
            };
            self.ledger.known(verify(record)?, place)?;
        }
        self.ledger
            .note(|totals| totals.delivered += records.len() as u64);
        Ok(())
    }

    /// Makes a topic, by request or by its first message; and deletes one when there are many.
    async fn make_and_delete(&mut self, addr: &str, made: &mut Vec<Arc<str>>) -> Done {
        if self.retention && self.random.once_in(4) {
            let request = Command::request(RequestCode::DELETE_EXPIRED_COMMITLOG, &());
            self.target.call(addr, request).await?;
        }
        if made.len() >= TOPICS_ALIVE_MAX {
            let name = made.swap_remove(self.random.below(made.len() as u64) as usize);
            // Whatever comes of it, it is not counted on any more.
            self.set_topic(&name, Topic::InDoubt);
            let header = DeleteTopicRequest {
                topic: name.to_string(),
                ..DeleteTopicRequest::default()
            };
            let command = self.command(RequestCode::DELETE_TOPIC_IN_BROKER, &header);
            let answer = self.target.call(addr, command).await?;
            if answer.response_code() != ResponseCode::SUCCESS {
                return Err(refused(&answer));
            }
            self.set_topic(&name, Topic::Deleted);
            self.ledger.note(|totals| totals.topics_deleted += 1);
            return Ok(TOPIC_PAUSE);
        }
        let name: Arc<str> = format!("Made-{:016x}", self.random.next_u64()).into();
        let queues = 1 + self.random.below(4) as i32;
        self.set_topic(&name, Topic::InDoubt);
        let by_message = self.random.once_in(2);
        if !by_message {
            let header = CreateTopicRequest {
                topic: name.to_string(),
                default_topic: topic::AUTO_CREATE.to_owned(),
                read_queue_nums: queues,
                write_queue_nums: queues,
                perm: 6,
                topic_filter_type: "SINGLE_TAG".to_owned(),
                ..CreateTopicRequest::default()
            };
            let command = self.command(RequestCode::UPDATE_AND_CREATE_TOPIC, &header);
            let answer = self.target.call(addr, command).await?;
            if answer.response_code() != ResponseCode::SUCCESS {
                return Err(refused(&answer));
            }
            self.made(&name, queues, made);
        }
        // A message or a few, the first of which may be what makes it.
        for _ in 0..1 + self.random.below(3) {
            let queue = (Arc::clone(&name), self.random.below(queues as u64) as i32);
            let number = self.ledger.next(&queue, false);
            let mut header = send_header(&queue, properties(number), false);
            header.default_topic_queue_nums = queues;
            let command = self
                .command(RequestCode::SEND_MESSAGE_V2, &SendMessageRequestV2(header))
                .with_body(body(number));
            let answer = self.target.call(addr, command).await?;
            self.acknowledge(&answer, &[number])?;
            if by_message && !made.contains(&name) {
                self.made(&name, queues, made);
            }
        }
        Ok(TOPIC_PAUSE)
    }

    fn made(&self, name: &Arc<str>, queues: i32, made: &mut Vec<Arc<str>>) {
        self.set_topic(name, Topic::Exists(queues));
        self.ledger.note(|totals| totals.topics_made += 1);
        made.push(Arc::clone(name));
    }

    fn set_topic(&self, name: &Arc<str>, topic: Topic) {
        self.ledger.state().topics.insert(Arc::clone(name), topic);
    }
}

/// How long to wait before going on.
type Done = Result<Duration, Trouble>;

enum Trouble {
    /// The broker is gone, or cannot at the moment.
    Down,
    /// A promise is broken.
    Broken(anyhow::Error),
}

impl From<anyhow::Error> for Trouble {
    /// Of a request that was not answered.
    fn from(error: anyhow::Error) -> Trouble {
        if error.downcast_ref::<remoting::CallError>().is_some() {
            Trouble::Down
        } else {
            Trouble::Broken(error)
        }
    }
}

/// A broker that stops refuses, and one that is short of room does; another refusal is not expected.
fn refused(answer: &Command) -> Trouble {
    match answer.response_code() {
        ResponseCode::SYSTEM_BUSY
        | ResponseCode::SERVICE_NOT_AVAILABLE
        | ResponseCode::GO_AWAY
        | ResponseCode::FLUSH_DISK_TIMEOUT => Trouble::Down,
        _ => Trouble::Broken(anyhow!(
            "a request is refused with {}: {:?}",
            answer.code,
            answer.remark
        )),
    }
}

fn send_header(queue: &QueueOf, properties: String, batch: bool) -> SendMessageRequest<'static> {
    SendMessageRequest {
        producer_group: "kill-producers".into(),
        topic: queue.0.to_string().into(),
        default_topic: topic::AUTO_CREATE.into(),
        default_topic_queue_nums: 4,
        queue_id: queue.1,
        born_timestamp_ms: 1_700_000_000_000,
        properties: Some(properties.into()),
        reconsume_times: Some(0),
        batch: Some(batch),
        ..SendMessageRequest::default()
    }
}

/// How far a consumer has come.
#[derive(Default)]
struct Tail(std::collections::HashMap<QueueOf, u64>);

impl Tail {
    fn offset(&self, queue: &QueueOf) -> u64 {
        self.0.get(queue).copied().unwrap_or(0)
    }

    fn set(&mut self, queue: &QueueOf, offset: u64) {
        self.0.insert(queue.clone(), offset);
    }
}
