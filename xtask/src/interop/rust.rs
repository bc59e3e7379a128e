//! The Rust client against the Java server and against Apogee: the same scenarios, the same assertions.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use client::{
    ConsumeResult, LitePullConsumer, Message, MessageQueue, Producer, PullConsumer, PushConsumer,
    PushConsumerBuilder, Received, SendStatus, StartFrom,
};
use protocol::code::ResponseCode;

use super::clients::create_topic;
use crate::live::{self, Role};
use crate::peer::JavaPeer;
use crate::report::Verdict;

/// How long anything may take that happens by itself. A Java group rebalances every twenty seconds.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);
const QUEUES: u32 = 4;
/// Messages of the counting scenario.
const COUNT: usize = 20_000;
/// Tasks that send them, one queue each after the other.
const SENDERS: usize = 8;
const TOPICS: &[&str] = &["send", "shared", "orderly", "broadcast", "lite", "count"];

/// Both servers, one after the other.
pub(super) fn run() -> Result<Verdict> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let binary = live::binary()?;

    let dir = tempfile::tempdir()?;
    let nameserver = Role::nameserver(&binary, dir.path())?;
    let broker = Role::broker(&binary, dir.path(), &nameserver.addr, "")?;
    live::wait_for_broker(&nameserver.addr)?;
    let against_apogee = Site::new(&binary, "apogee", &nameserver.addr);
    runtime.block_on(async { against_apogee?.all().await })?;
    broker.stop()?;
    nameserver.stop()?;

    let dir = tempfile::tempdir()?;
    let peer = JavaPeer::start(dir.path(), "")?;
    let against_java = Site::new(&binary, "java", &peer.nameserver);
    runtime.block_on(async { against_java?.all().await })?;
    peer.stop()?;
    Ok(Verdict::Passed)
}

/// A server, with the topics of every scenario.
struct Site {
    name: &'static str,
    nameserver: String,
}

impl Site {
    fn new(binary: &Path, name: &'static str, nameserver: &str) -> Result<Site> {
        for topic in TOPICS {
            create_topic(binary, nameserver, &format!("rust_{topic}"), QUEUES)?;
        }
        Ok(Site {
            name,
            nameserver: nameserver.to_owned(),
        })
    }

    async fn all(&self) -> Result<()> {
        self.scenario("send", self.send()).await?;
        self.scenario("shared", self.shared()).await?;
        self.scenario("orderly", self.orderly()).await?;
        self.scenario("broadcast", self.broadcast()).await?;
        self.scenario("lite-pull", self.lite_pull()).await?;
        self.scenario("count", self.count()).await
    }

    async fn scenario(&self, name: &str, run: impl Future<Output = Result<()>>) -> Result<()> {
        let server = self.name;
        run.await
            .with_context(|| format!("{name} against {server}"))?;
        eprintln!("   {server}: PASS {name}");
        Ok(())
    }

    fn producer(&self) -> Result<Producer> {
        let builder = Producer::builder("rust_producers", &self.nameserver);
        Ok(builder.compress_from_bytes(usize::MAX).start()?)
    }

    fn consumer(&self, topic: &str) -> PushConsumerBuilder {
        PushConsumer::builder(format!("rust_g_{topic}"), &self.nameserver)
            .subscribe(format!("rust_{topic}"), "*")
            .start_from(StartFrom::Oldest)
    }

    /// Every way of sending, bodies of every size, and what comes back by pulling.
    async fn send(&self) -> Result<()> {
        let producer = self.producer()?;
        let message = |body: Vec<u8>| Message::new("rust_send", body);
        let text = |text: &str| message(text.as_bytes().to_vec());
        let first = text("消息")
            .tag("标签")
            .key("键")
            .property("属性", "值 \u{1F680}");
        ensure!(producer.send(first).await?.status == SendStatus::SendOk);
        producer.start_send(text("started")).await??;
        producer.send_oneway(text("one-way")).await?;
        let batch: Vec<Message> = (0..3).map(|i| text(&format!("batch {i}"))).collect();
        let receipt = producer.send_batch(&batch).await?;
        ensure!(
            receipt.offset_message_id.split(',').count() == 3,
            "{receipt:?}"
        );
        let last = producer
            .send_selected(text("selected"), |queues| queues - 1)
            .await?;
        ensure!(last.queue.queue_id == QUEUES as i32 - 1, "{last:?}");
        let large: Vec<usize> = vec![1024, (4 << 20) - 1];
        for bytes in &large {
            producer.send(message(vec![7; *bytes])).await?;
        }
        let refused = producer.send(message(vec![7; (4 << 20) + 1])).await;
        let refused = refused.err().context("a body over 4 MiB was taken")?;
        ensure!(
            refused.last.refusal() == Some(ResponseCode::MESSAGE_ILLEGAL),
            "{refused}"
        );

        let stored = 1 + 1 + 1 + 3 + 1 + large.len();
        let reader = PullConsumer::new("rust_reader", &self.nameserver)?;
        eventually("the one-way message", || async {
            Ok(self.pulled(&reader, "*").await?.len() == stored)
        })
        .await?;
        let tagged = self.pulled(&reader, "标签 || other").await?;
        let [tagged] = tagged.as_slice() else {
            anyhow::bail!("{} messages have the tag", tagged.len());
        };
        ensure!(tagged.body == "消息" && tagged.keys() == Some("键"));
        ensure!(tagged.property("属性") == Some("值 \u{1F680}"));
        reader.shutdown().await;
        producer.shutdown().await;
        Ok(())
    }

    /// What all queues of the topic of `send` hold.
    async fn pulled(&self, reader: &PullConsumer, expression: &str) -> Result<Vec<Received>> {
        let mut found = Vec::new();
        for queue in reader.queues("rust_send").await? {
            let mut offset = reader.min_offset(&queue).await?;
            let end = reader.max_offset(&queue).await?;
            while offset < end {
                let pulled = reader
                    .pull(&queue, expression, offset, 32, Duration::ZERO)
                    .await?;
                ensure!(pulled.next_offset > offset, "{queue}: {:?}", pulled.status);
                offset = pulled.next_offset;
                found.extend(pulled.messages);
            }
        }
        Ok(found)
    }

    /// Two members share the queues; when one leaves, the other takes its part; a later one goes on where they stopped.
    async fn shared(&self) -> Result<()> {
        let producer = self.producer()?;
        let seen = Seen::default();
        let first = self.start("shared", &seen).await?;
        let second = self.start("shared", &seen).await?;
        until("an even share", || {
            [&first, &second]
                .iter()
                .all(|member| queues_of("shared", member) == QUEUES as usize / 2)
        })
        .await?;
        let mut want = send_all(&producer, "shared", 0..200).await?;
        until("what was sent to both", || seen.bodies() == want).await?;
        first.shutdown().await;
        until("the whole share", || {
            queues_of("shared", &second) == QUEUES as usize
        })
        .await?;
        want.extend(send_all(&producer, "shared", 200..300).await?);
        until("what was sent to one", || seen.bodies() == want).await?;
        second.shutdown().await;

        let late = send_all(&producer, "shared", 300..310).await?;
        let seen_late = Seen::default();
        let third = self.start("shared", &seen_late).await?;
        until("what was sent to none", || seen_late.bodies() == late).await?;
        third.shutdown().await;
        producer.shutdown().await;
        Ok(())
    }

    /// Per queue, messages come in the order of their offsets, to one member at a time.
    async fn orderly(&self) -> Result<()> {
        let producer = self.producer()?;
        let seen = Seen::default();
        let orderly = || {
            let seen = seen.clone();
            let consumer = self.consumer("orderly").orderly(move |messages| {
                seen.note(&messages);
                ready(ConsumeResult::Success)
            });
            consumer.start()
        };
        let (first, second) = (orderly().await?, orderly().await?);
        let want = send_all(&producer, "orderly", 0..200).await?;
        until("all of them", || seen.bodies() == want).await?;
        for (queue, offsets) in seen.by_queue() {
            ensure!(offsets.is_sorted(), "{queue}: {offsets:?}");
        }
        first.shutdown().await;
        second.shutdown().await;
        producer.shutdown().await;
        Ok(())
    }

    /// Every member gets everything.
    async fn broadcast(&self) -> Result<()> {
        let producer = self.producer()?;
        let everyone = [Seen::default(), Seen::default()];
        let mut members = Vec::new();
        for seen in everyone.clone() {
            let consumer = self.consumer("broadcast").broadcasting(None);
            let consumer = consumer.concurrently(move |messages| {
                seen.note(&messages);
                ready(ConsumeResult::Success)
            });
            members.push(consumer.start().await?);
        }
        let want = send_all(&producer, "broadcast", 0..50).await?;
        until("all of them, twice", || {
            everyone.iter().all(|seen| seen.bodies() == want)
        })
        .await?;
        for member in members {
            member.shutdown().await;
        }
        producer.shutdown().await;
        Ok(())
    }

    /// Polled, sought, committed; the next one goes on from there.
    async fn lite_pull(&self) -> Result<()> {
        let producer = self.producer()?;
        let want = send_all(&producer, "lite", 0..50).await?;
        let lite = || {
            LitePullConsumer::builder("rust_g_lite", &self.nameserver)
                .subscribe("rust_lite", "*")
                .start_from(StartFrom::Oldest)
                .auto_commit(false)
                .start()
        };
        let first = lite().await?;
        let seen = Seen::default();
        while seen.count() < want.len() {
            let polled = first.poll(PATIENCE).await;
            ensure!(!polled.is_empty(), "{} of {}", seen.count(), want.len());
            seen.note(&polled);
        }
        ensure!(seen.bodies() == want);
        let queue = first.assigned()[0].clone();
        first.seek(&queue, 0)?;
        let again = first.poll(PATIENCE).await;
        ensure!(
            again
                .first()
                .is_some_and(|m| m.queue == queue && m.queue_offset == 0)
        );
        seen.note(&again);
        while seen.count() < want.len() + seen.by_queue()[&queue].len() / 2 {
            seen.note(&first.poll(PATIENCE).await);
        }
        first.commit().await;
        first.shutdown().await;

        let late = send_all(&producer, "lite", 50..60).await?;
        let second = lite().await?;
        let seen = Seen::default();
        while seen.count() < late.len() {
            let polled = second.poll(PATIENCE).await;
            ensure!(!polled.is_empty(), "{} of {}", seen.count(), late.len());
            seen.note(&polled);
        }
        ensure!(
            seen.bodies() == late,
            "it goes on behind what was committed"
        );
        second.shutdown().await;
        producer.shutdown().await;
        Ok(())
    }

    /// Many messages from several tasks: none lost, none twice, offsets of a queue without a gap.
    async fn count(&self) -> Result<()> {
        let producer = Arc::new(self.producer()?);
        let seen = Seen::default();
        let members = [
            self.start("count", &seen).await?,
            self.start("count", &seen).await?,
        ];
        // What is under way when a queue changes hands may come to both.
        until("an even share", || {
            members
                .iter()
                .all(|member| queues_of("count", member) == QUEUES as usize / 2)
        })
        .await?;
        let sending: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let producer = Arc::clone(&producer);
                let range = sender * COUNT / SENDERS..(sender + 1) * COUNT / SENDERS;
                tokio::spawn(async move { send_all(&producer, "count", range).await })
            })
            .collect();
        let mut want = BTreeSet::new();
        for sender in sending {
            want.extend(sender.await??);
        }
        until("all of them", || seen.count() >= COUNT).await?;
        ensure!(seen.bodies() == want);
        for (queue, mut offsets) in seen.by_queue() {
            offsets.sort_unstable();
            let contiguous: Vec<i64> = (0..offsets.len() as i64).collect();
            ensure!(offsets == contiguous, "{queue}: lost or twice");
        }
        for member in members {
            member.shutdown().await;
        }
        producer.shutdown().await;
        Ok(())
    }

    async fn start(&self, topic: &str, seen: &Seen) -> Result<PushConsumer> {
        let seen = seen.clone();
        let consumer = self.consumer(topic).concurrently(move |messages| {
            seen.note(&messages);
            ready(ConsumeResult::Success)
        });
        Ok(consumer.start().await?)
    }
}

/// What listeners saw, in order of arrival.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(MessageQueue, i64, String)>>>);

impl Seen {
    fn note(&self, messages: &[Received]) {
        let mut seen = self.0.lock().expect("no holder panics");
        for message in messages {
            let body = String::from_utf8_lossy(&message.body).into_owned();
            seen.push((message.queue.clone(), message.queue_offset, body));
        }
    }

    fn count(&self) -> usize {
        self.0.lock().expect("no holder panics").len()
    }

    fn bodies(&self) -> BTreeSet<String> {
        let seen = self.0.lock().expect("no holder panics");
        seen.iter().map(|(_, _, body)| body.clone()).collect()
    }

    fn by_queue(&self) -> BTreeMap<MessageQueue, Vec<i64>> {
        let mut queues: BTreeMap<MessageQueue, Vec<i64>> = BTreeMap::new();
        for (queue, offset, _) in self.0.lock().expect("no holder panics").iter() {
            queues.entry(queue.clone()).or_default().push(*offset);
        }
        queues
    }
}

async fn send_all(
    producer: &Producer,
    topic: &str,
    range: std::ops::Range<usize>,
) -> Result<BTreeSet<String>> {
    let mut bodies = BTreeSet::new();
    for i in range {
        let body = format!("message {i}");
        producer
            .send(Message::new(format!("rust_{topic}"), body.clone()))
            .await?;
        bodies.insert(body);
    }
    Ok(bodies)
}

/// Queues of the topic itself: a consumer reads its group's retry topic besides.
fn queues_of(topic: &str, consumer: &PushConsumer) -> usize {
    let topic = format!("rust_{topic}");
    let assigned = consumer.assigned();
    assigned.iter().filter(|queue| queue.topic == topic).count()
}

async fn until(what: &str, condition: impl Fn() -> bool) -> Result<()> {
    eventually(what, || ready(Ok(condition()))).await
}

async fn eventually<F: Future<Output = Result<bool>>>(
    what: &str,
    condition: impl Fn() -> F,
) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await? {
        ensure!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
