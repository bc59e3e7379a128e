//! The producers and consumers of the soak.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use client::{
    ConsumeResult, Message, MessageQueue, MessageSelector, PopConsumer, Producer, PullConsumer,
    PullStatus, PushConsumer, Received, SendStatus, StartFrom, TransactionProducer,
    TransactionState,
};
use platform::random::Random;
use tokio::task::JoinHandle;

use super::ledger::{Kind, Ledger, now_ms};
use super::{compacted, light};

/// What is consumed by a group that pushes, with everything that is delivered later.
pub(super) const MIXED: &str = "Soak";
pub(super) const POPPED: &str = "SoakPopped";
pub(super) const SELECTED: &str = "SoakSelected";
pub(super) const ORDERED: &str = "SoakOrdered";
pub(super) const QUEUES: u32 = 4;
/// The group of the mixed topic; what it gives up lies in its dead-letter topic.
const GROUP: &str = "soak";
/// Deliveries after which it gives a message up.
const RECONSUME_MAX: u32 = 2;
/// What the group of the selected topic takes.
const EXPRESSION: &str = "n > 50 AND kind IS NOT NULL";
/// The pause after a send, and after one that failed.
pub(super) const PAUSE: Duration = Duration::from_millis(4);
pub(super) const FAILED_PAUSE: Duration = Duration::from_millis(100);
const SEND_TIMEOUT: Duration = Duration::from_secs(3);
/// Level 1 of the broker.
const LEVEL_1_MS: i64 = 1_000;
/// Timer messages are due within this from their sending on.
const TIMED_MS: std::ops::Range<u64> = 200..15_000;
/// Those that must still wait in the end.
const FAR: Duration = Duration::from_secs(24 * 3600);
/// What was popped comes back after this.
const INVISIBLE: Duration = Duration::from_secs(3);

/// Everything that runs.
pub(super) struct Traffic {
    ledger: Arc<Ledger>,
    nameserver: String,
    stopping: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
    senders: Vec<JoinHandle<Result<()>>>,
    readers: Vec<JoinHandle<Result<()>>>,
    consumers: Vec<PushConsumer>,
    transactions: Arc<TransactionProducer>,
}

impl Traffic {
    /// Against the only broker of that name server, which is at `broker` in all its lives.
    pub(super) async fn start(
        ledger: Arc<Ledger>,
        nameserver: &str,
        broker: &str,
        seed: u64,
    ) -> Result<Traffic> {
        let stopping = Arc::new(AtomicBool::new(false));
        let ended = Arc::new(AtomicBool::new(false));
        let consumers = vec![
            mixed(&ledger, nameserver).await?,
            selected(&ledger, nameserver).await?,
            ordered(&ledger, nameserver).await?,
        ];
        let transactions = Arc::new(transactions(&ledger, nameserver)?);
        let readers = vec![
            tokio::spawn(pop(ledger.clone(), nameserver.to_owned(), ended.clone())),
            tokio::spawn(light::read(
                ledger.clone(),
                broker.to_owned(),
                ended.clone(),
            )),
        ];
        let mut senders = Vec::new();
        for (number, kinds) in [
            &[Kind::Plain, Kind::GivenUp, Kind::Delayed][..],
            &[Kind::Timed, Kind::Far],
            &[Kind::Popped],
            &[Kind::Selected, Kind::PassedOver],
        ]
        .into_iter()
        .enumerate()
        {
            let sender = Sender {
                ledger: ledger.clone(),
                stopping: stopping.clone(),
                random: Random(seed + number as u64),
            };
            senders.push(tokio::spawn(sender.send(nameserver.to_owned(), kinds)));
        }
        senders.push(tokio::spawn(send_transactions(
            ledger.clone(),
            transactions.clone(),
            stopping.clone(),
        )));
        let sender = || (ledger.clone(), nameserver.to_owned(), stopping.clone());
        let (of, at, until) = sender();
        senders.push(tokio::spawn(send_ordered(of, at, until)));
        let (of, at, until) = sender();
        senders.push(tokio::spawn(light::send(of, at, until)));
        let (of, at, until) = sender();
        senders.push(tokio::spawn(compacted::send(of, at, until)));
        Ok(Traffic {
            ledger,
            nameserver: nameserver.to_owned(),
            stopping,
            ended,
            senders,
            readers,
            consumers,
            transactions,
        })
    }

    /// Nothing is sent any more when this returns.
    pub(super) async fn stop_sending(&mut self) -> Result<()> {
        self.stopping.store(true, Ordering::Relaxed);
        for sender in self.senders.drain(..) {
            sender.await??;
        }
        Ok(())
    }

    /// Reads what is left of the compaction topic.
    pub(super) async fn read_compacted(&self) -> Result<()> {
        compacted::read(&self.ledger, &self.nameserver).await
    }

    /// Reads the dead letters that are there.
    pub(super) async fn read_dead_letters(&self) -> Result<()> {
        let reader = PullConsumer::new("soak_reader", &self.nameserver)?;
        // Until the first there is no such topic.
        for queue in reader
            .queues(&format!("%DLQ%{GROUP}"))
            .await
            .unwrap_or_default()
        {
            let mut offset = 0;
            loop {
                let pulled = reader
                    .pull(&queue, "*", offset, 32, Duration::ZERO)
                    .await
                    .context("the dead letters")?;
                if pulled.status != PullStatus::Found {
                    break;
                }
                for message in &pulled.messages {
                    self.ledger.dead(number(message)?);
                }
                offset = pulled.next_offset;
            }
        }
        reader.shutdown().await;
        Ok(())
    }

    /// Takes back what must still wait: the broker does so only where a message waits.
    pub(super) async fn recall_far(&self) -> Result<u64> {
        let producer = Producer::builder("soak_recall", &self.nameserver).start()?;
        let far = self.ledger.far();
        for (number, handle) in &far {
            let Some(handle) = handle else {
                self.ledger
                    .broke(format!("{number} was accepted without a recall handle"));
                continue;
            };
            if let Err(error) = producer.recall(MIXED, handle).await {
                self.ledger
                    .broke(format!("{number} does not wait any more: {error}"));
            }
        }
        producer.shutdown().await;
        Ok(far.len() as u64)
    }

    pub(super) async fn shutdown(self) -> Result<()> {
        self.ended.store(true, Ordering::Relaxed);
        for reader in self.readers {
            reader.await??;
        }
        for consumer in self.consumers {
            consumer.shutdown().await;
        }
        self.transactions.shutdown().await;
        Ok(())
    }
}

pub(super) fn body(number: u64) -> Vec<u8> {
    format!("message {number} {}", "x".repeat((number % 300) as usize)).into_bytes()
}

pub(super) fn number(message: &Received) -> Result<u64> {
    number_in(&message.body)
}

/// The number that a body holds, which must be the body of that number.
pub(super) fn number_in(sent: &[u8]) -> Result<u64> {
    let text = std::str::from_utf8(sent)?;
    let number = text
        .strip_prefix("message ")
        .and_then(|rest| rest.split(' ').next()?.parse().ok())
        .with_context(|| format!("a body that nobody sent: {text:?}"))?;
    if *sent != *body(number) {
        bail!("the body of {number} is another");
    }
    Ok(number)
}

/// Tells the ledger of every message that `is_done` says is done with.
fn consume(
    ledger: &Ledger,
    messages: &[Received],
    is_done: impl Fn(Kind, u64, &Received) -> bool,
) -> ConsumeResult {
    for message in messages {
        let number = match number(message) {
            Ok(number) => number,
            Err(error) => {
                ledger.broke(format!("{error:#}"));
                continue;
            }
        };
        let kind = ledger.look(number).map(|(kind, _)| kind);
        if kind.is_some_and(|kind| !is_done(kind, number, message)) {
            return ConsumeResult::Later;
        }
        ledger.delivered(number);
    }
    ConsumeResult::Success
}

/// The group of everything that is delivered at once or later. Some messages it takes at the second time, some never.
async fn mixed(ledger: &Arc<Ledger>, nameserver: &str) -> Result<PushConsumer> {
    let ledger = ledger.clone();
    let is_done = |kind, number: u64, message: &Received| match kind {
        Kind::GivenUp => false,
        Kind::Plain if number.is_multiple_of(8) => message.reconsume_times > 0,
        _ => true,
    };
    let builder = PushConsumer::builder(GROUP, nameserver)
        .subscribe(MIXED, "*")
        .start_from(StartFrom::Oldest)
        .max_reconsume_times(RECONSUME_MAX)
        .concurrently(move |messages| {
            let result = consume(&ledger, &messages, is_done);
            async move { result }
        });
    Ok(builder.start().await?)
}

async fn selected(ledger: &Arc<Ledger>, nameserver: &str) -> Result<PushConsumer> {
    let ledger = ledger.clone();
    let builder = PushConsumer::builder("soak_selected", nameserver)
        .subscribe(SELECTED, MessageSelector::by_sql(EXPRESSION))
        .start_from(StartFrom::Oldest)
        .concurrently(move |messages| {
            let result = consume(&ledger, &messages, |_, _, _| true);
            async move { result }
        });
    Ok(builder.start().await?)
}

/// A message may be passed by none that was sent to its queue behind it.
async fn ordered(ledger: &Arc<Ledger>, nameserver: &str) -> Result<PushConsumer> {
    let ledger = ledger.clone();
    let newest: Mutex<HashMap<i32, u64>> = Mutex::default();
    let builder = PushConsumer::builder("soak_ordered", nameserver)
        .subscribe(ORDERED, "*")
        .start_from(StartFrom::Oldest)
        .orderly(move |messages: Vec<Received>| {
            let result = consume(&ledger, &messages, |_, number, message| {
                let Ok(mut newest) = newest.lock() else {
                    return true;
                };
                let newest = newest.entry(message.queue.queue_id).or_insert(number);
                if number > *newest {
                    // The sender goes round the queues, so numbers of a queue are apart.
                    let between: Vec<u64> = (*newest + 1..number)
                        .filter(|other| {
                            ordered_queue(&ledger, *other) == Some(message.queue.queue_id)
                        })
                        .collect();
                    for passed in ledger.missing_of(&between) {
                        ledger.broke(format!("{number} overtook {passed} in its queue"));
                    }
                    *newest = number;
                }
                true
            });
            async move { result }
        });
    Ok(builder.start().await?)
}

/// The queue of an ordered message.
fn ordered_queue(ledger: &Ledger, number: u64) -> Option<i32> {
    let (kind, _) = ledger.look(number)?;
    (kind == Kind::Ordered).then_some((number % u64::from(QUEUES)) as i32)
}

/// Pops and acknowledges until `ended`; one in eight messages is left alone at first.
async fn pop(ledger: Arc<Ledger>, nameserver: String, ended: Arc<AtomicBool>) -> Result<()> {
    let consumer = PopConsumer::new("soak_popped", &nameserver)?.start_from(StartFrom::Oldest);
    while !ended.load(Ordering::Relaxed) {
        let wait = Duration::from_secs(1);
        let Ok(popped) = consumer.pop(POPPED, "*", 16, INVISIBLE, wait).await else {
            tokio::time::sleep(FAILED_PAUSE).await;
            continue;
        };
        for popped in popped {
            let number = number(&popped.message)?;
            let is_first = popped.message.reconsume_times == 0;
            if is_first && number.is_multiple_of(8) {
                continue;
            }
            if consumer.ack(&popped).await.is_ok() {
                ledger.delivered(number);
            }
        }
    }
    consumer.shutdown().await;
    Ok(())
}

fn transactions(ledger: &Arc<Ledger>, nameserver: &str) -> Result<TransactionProducer> {
    let ledger = ledger.clone();
    let asked: Mutex<HashMap<u64, u32>> = Mutex::default();
    let builder = TransactionProducer::builder("soak_transactions", nameserver, move |half| {
        let state = number(&half).map_or(TransactionState::Unknown, |number| {
            match ledger.look(number).map(|(kind, _)| kind) {
                Some(Kind::RolledBack) => TransactionState::Rollback,
                Some(Kind::Asked) => {
                    // The first question comes too early.
                    let mut asked = asked
                        .lock()
                        .unwrap_or_else(|poisoned| poisoned.into_inner());
                    let times = asked.entry(number).or_default();
                    *times += 1;
                    match *times {
                        1 => TransactionState::Unknown,
                        _ => TransactionState::Commit,
                    }
                }
                _ => TransactionState::Commit,
            }
        });
        async move { state }
    });
    Ok(builder.send_timeout(SEND_TIMEOUT).retries(0).start()?)
}

async fn send_transactions(
    ledger: Arc<Ledger>,
    producer: Arc<TransactionProducer>,
    stopping: Arc<AtomicBool>,
) -> Result<()> {
    let kinds = [
        (Kind::Committed, TransactionState::Commit),
        (Kind::RolledBack, TransactionState::Rollback),
        (Kind::Committed, TransactionState::Commit),
        (Kind::Asked, TransactionState::Unknown),
    ];
    for (kind, state) in kinds.into_iter().cycle() {
        if stopping.load(Ordering::Relaxed) {
            break;
        }
        let number = ledger.begin(kind, now_ms());
        let message = Message::new(MIXED, body(number));
        match producer.send(message, |_| async move { state }).await {
            // A half that may not be on the disk is rolled back.
            Ok(receipt) if receipt.state == state && is_stored(receipt.half.status) => {
                ledger.accepted(number, None);
                tokio::time::sleep(PAUSE).await;
            }
            Ok(_) | Err(_) => tokio::time::sleep(FAILED_PAUSE).await,
        }
    }
    Ok(())
}

pub(super) fn is_stored(status: SendStatus) -> bool {
    status == SendStatus::SendOk
}

/// One message after the other, each to the queue that its number says.
async fn send_ordered(
    ledger: Arc<Ledger>,
    nameserver: String,
    stopping: Arc<AtomicBool>,
) -> Result<()> {
    let producer = producer(&nameserver)?;
    while !stopping.load(Ordering::Relaxed) {
        let number = ledger.begin(Kind::Ordered, now_ms());
        let message = Message::new(ORDERED, body(number));
        let queue = (number % u64::from(QUEUES)) as usize;
        match producer.send_selected(message, |_| queue).await {
            Ok(receipt) if is_stored(receipt.status) => {
                let MessageQueue { queue_id, .. } = receipt.queue;
                anyhow::ensure!(queue_id == queue as i32, "queues are not in their order");
                ledger.accepted(number, None);
                tokio::time::sleep(PAUSE).await;
            }
            Ok(_) | Err(_) => tokio::time::sleep(FAILED_PAUSE).await,
        }
    }
    producer.shutdown().await;
    Ok(())
}

pub(super) fn producer(nameserver: &str) -> Result<Producer> {
    let builder = Producer::builder("soak_producer", nameserver);
    // A message that is sent once is there once: what comes twice was delivered twice.
    Ok(builder.send_timeout(SEND_TIMEOUT).retries(0).start()?)
}

struct Sender {
    ledger: Arc<Ledger>,
    stopping: Arc<AtomicBool>,
    random: Random,
}

impl Sender {
    /// Sends messages of these kinds in turn; of the second and further ones one in four.
    async fn send(mut self, nameserver: String, kinds: &[Kind]) -> Result<()> {
        let producer = producer(&nameserver)?;
        while !self.stopping.load(Ordering::Relaxed) {
            let kind = match self.random.below(4) {
                0 => kinds[self.random.below(kinds.len() as u64) as usize],
                _ => kinds[0],
            };
            let (number, message) = self.message(kind);
            match producer.send(message).await {
                Ok(receipt) if is_stored(receipt.status) => {
                    self.ledger.accepted(number, receipt.recall_handle);
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(_) | Err(_) => tokio::time::sleep(FAILED_PAUSE).await,
            }
        }
        producer.shutdown().await;
        Ok(())
    }

    fn message(&mut self, kind: Kind) -> (u64, Message) {
        let delay_ms = match kind {
            Kind::Delayed => LEVEL_1_MS,
            Kind::Timed => {
                (TIMED_MS.start + self.random.below(TIMED_MS.end - TIMED_MS.start)) as i64
            }
            Kind::Far => FAR.as_millis() as i64,
            _ => 0,
        };
        let due_ms = now_ms() + delay_ms;
        let number = self.ledger.begin(kind, due_ms);
        let topic = match kind {
            Kind::Popped => POPPED,
            Kind::Selected | Kind::PassedOver => SELECTED,
            _ => MIXED,
        };
        let message = Message::new(topic, body(number)).key(format!("soak{number}"));
        let message = match kind {
            Kind::Delayed => message.delay_level(1),
            Kind::Timed | Kind::Far => message.deliver_at_ms(due_ms),
            Kind::Selected => message
                .property("n", (51 + number % 100).to_string())
                .property("kind", "s"),
            Kind::PassedOver => message
                .property("n", (number % 51).to_string())
                .property("kind", "p"),
            _ => message,
        };
        (number, message)
    }
}
