//! Consumption by pop against Apogee and the Java server, with the same assertions: the Java client's pop consumer, whose group's mode the broker
//! sets, and the Rust client, which pops in order too.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use client::{Message, PopConsumer, Popped, Producer, PullConsumer, StartFrom};

use super::child::Running;
use super::clients::{create_topic, java};
use super::request_modes::{self, Pops};
use super::toolchain;
use crate::live::{self, Role};
use crate::peer::JavaPeer;
use crate::report::Verdict;

/// The Java client's version; older ones cannot pop.
const CLIENT: &str = "5.3.3";
/// A failed message comes again after ten seconds, as the Java client asks.
const PROGRAM_MAX: Duration = Duration::from_secs(180);
const PATIENCE: Duration = Duration::from_secs(60);
/// How long popped messages are hidden where they shall not come again.
const LONG: Duration = Duration::from_secs(300);
/// Topics of the Java program, each with a group of its own, and how often a message of it may come again.
const JAVA_TOPICS: &[(&str, i32)] = &[("pop_shared", 16), ("pop_failed", 16), ("pop_given_up", 0)];
const RUST_TOPICS: &[&str] = &["pop_rust", "pop_again", "pop_order", "pop_kill"];
const QUEUES: u32 = 4;

pub(super) fn run() -> Result<Verdict> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let binary = live::binary()?;

    let dir = tempfile::tempdir()?;
    let nameserver = Role::nameserver(&binary, dir.path())?;
    let broker = Role::broker(&binary, dir.path(), &nameserver.addr, "")?;
    live::wait_for_broker(&nameserver.addr)?;
    let site = Site {
        name: "apogee",
        nameserver: nameserver.addr.clone(),
        gives_up: true,
    };
    site.all(&runtime, &binary, dir.path())?;
    let held = runtime.block_on(site.pop_before_kill())?;
    broker.kill_9()?;
    let broker = Role::broker(&binary, dir.path(), &nameserver.addr, "")?;
    runtime.block_on(site.scenario("rust-kill", site.pop_after_kill(held)))?;
    broker.stop()?;
    nameserver.stop()?;

    let dir = tempfile::tempdir()?;
    let peer = JavaPeer::start(dir.path(), "")?;
    let site = Site {
        name: "java",
        nameserver: peer.nameserver.clone(),
        gives_up: false,
    };
    site.all(&runtime, &binary, dir.path())?;
    peer.stop()?;
    Ok(Verdict::Passed)
}

/// A server.
struct Site {
    name: &'static str,
    nameserver: String,
    /// Whether it makes a dead letter of a message that comes again too often. A Java broker delivers it for ever.
    gives_up: bool,
}

impl Site {
    fn all(&self, runtime: &tokio::runtime::Runtime, binary: &Path, dir: &Path) -> Result<()> {
        for topic in JAVA_TOPICS
            .iter()
            .map(|(topic, _)| topic)
            .chain(RUST_TOPICS)
        {
            create_topic(binary, &self.nameserver, topic, QUEUES)?;
        }
        let modes: Vec<Pops> = JAVA_TOPICS
            .iter()
            .map(|(topic, retries_max)| Pops {
                topic: (*topic).to_owned(),
                group: format!("g_{topic}"),
                retries_max: *retries_max,
            })
            .collect();
        runtime.block_on(request_modes::set(&self.nameserver, &modes))?;
        self.java_program(dir)
            .with_context(|| format!("the Java client against {}", self.name))?;
        runtime.block_on(self.rust())
    }

    fn java_program(&self, dir: &Path) -> Result<()> {
        let mut command = java(CLIENT, &[], "interop.Popping")?;
        let gives_up = self.gives_up.to_string();
        command.args([&self.nameserver, "pop", &gives_up]);
        let mut program = Running::start("pop", &mut command, &dir.join("pop.out"))?;
        let ended = program.wait(PROGRAM_MAX);
        let printed = program.printed()?;
        for line in printed
            .lines()
            .filter(|line| line.starts_with("PASS ") || line.starts_with("FAIL "))
        {
            eprintln!("   {}: {line}", self.name);
        }
        let status = ended?;
        if !status.success() || !printed.contains("PASS pop-given-up") {
            let kept = toolchain::directory("failed")?.join(format!("pop-{}.out", self.name));
            std::fs::write(&kept, &printed)?;
            bail!("{status}; all it printed is in {}", kept.display());
        }
        Ok(())
    }

    async fn rust(&self) -> Result<()> {
        self.scenario("rust-pop", self.shared()).await?;
        self.scenario("rust-again", self.again()).await?;
        self.scenario("rust-order", self.in_order()).await
    }

    async fn scenario(&self, name: &str, run: impl Future<Output = Result<()>>) -> Result<()> {
        let server = self.name;
        run.await
            .with_context(|| format!("{name} against {server}"))?;
        eprintln!("   {server}: PASS {name}");
        Ok(())
    }

    async fn send(&self, topic: &str, count: usize) -> Result<()> {
        let producer = Producer::builder("pop_producers", &self.nameserver).start()?;
        for number in 0..count {
            producer
                .send(Message::new(topic, number.to_string()).tag("t"))
                .await?;
        }
        producer.shutdown().await;
        Ok(())
    }

    fn consumer(&self, topic: &str) -> Result<PopConsumer> {
        let consumer = PopConsumer::new(format!("g_{topic}"), &self.nameserver)?;
        Ok(consumer.start_from(StartFrom::Oldest))
    }

    /// Each message comes once to one of two, and the group's offsets reach the ends of the queues.
    async fn shared(&self) -> Result<()> {
        const COUNT: usize = 200;
        self.send("pop_rust", COUNT).await?;
        let consumers = [self.consumer("pop_rust")?, self.consumer("pop_rust")?];
        let mut seen = BTreeSet::new();
        let deadline = Instant::now() + PATIENCE;
        while seen.len() < COUNT {
            ensure!(Instant::now() < deadline, "{} of {COUNT} came", seen.len());
            for consumer in &consumers {
                let popped = consumer
                    .pop("pop_rust", "t", 32, LONG, Duration::from_millis(200))
                    .await?;
                for popped in popped {
                    consumer.ack(&popped).await?;
                    ensure!(seen.insert(text(&popped)), "{} came twice", text(&popped));
                }
            }
        }
        let reader = PullConsumer::new("g_pop_rust", &self.nameserver)?;
        for queue in reader.queues("pop_rust").await? {
            let end = reader.max_offset(&queue).await?;
            while reader.committed_offset(&queue).await? != Some(end) {
                ensure!(
                    Instant::now() < deadline,
                    "the offset of {queue} does not reach {end}"
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        reader.shutdown().await;
        for consumer in consumers {
            consumer.shutdown().await;
        }
        Ok(())
    }

    /// What is not acknowledged comes again, under its topic and counted; another time can be asked for.
    async fn again(&self) -> Result<()> {
        self.send("pop_again", 1).await?;
        let consumer = self.consumer("pop_again")?;
        let mut first = self.next(&consumer, "pop_again", LONG).await?;
        ensure!(first.message.reconsume_times == 0);
        consumer
            .change_invisible(&mut first, Duration::from_secs(1))
            .await?;
        let second = self
            .next(&consumer, "pop_again", Duration::from_secs(1))
            .await?;
        ensure!(text(&second) == text(&first) && second.message.topic == "pop_again");
        ensure!(second.message.reconsume_times == 1);
        ensure!(second.message.property("1ST_POP_TIME").is_some());
        let third = self.next(&consumer, "pop_again", LONG).await?;
        ensure!(third.message.reconsume_times == 2);
        consumer.ack(&third).await?;
        // Late, and twice.
        consumer.ack(&second).await?;
        consumer.ack(&third).await?;
        consumer.shutdown().await;
        Ok(())
    }

    /// Pops everything and acknowledges every other message. Gives what is not acknowledged.
    async fn pop_before_kill(&self) -> Result<BTreeSet<String>> {
        const COUNT: usize = 100;
        self.send("pop_kill", COUNT).await?;
        let consumer = self.consumer("pop_kill")?;
        let mut held = BTreeSet::new();
        let mut seen = 0;
        let deadline = Instant::now() + PATIENCE;
        while seen < COUNT {
            ensure!(Instant::now() < deadline, "{seen} of {COUNT} came");
            let popped = consumer
                .pop("pop_kill", "*", 7, LONG, Duration::from_millis(200))
                .await?;
            for popped in popped {
                seen += 1;
                if seen % 2 == 0 {
                    consumer.ack(&popped).await?;
                } else {
                    held.insert(text(&popped));
                }
            }
        }
        consumer.shutdown().await;
        Ok(held)
    }

    /// Whatever was not acknowledged before the broker was killed comes again.
    async fn pop_after_kill(&self, mut held: BTreeSet<String>) -> Result<()> {
        let mut consumer = self.consumer("pop_kill")?;
        let deadline = Instant::now() + PATIENCE;
        while !held.is_empty() {
            ensure!(Instant::now() < deadline, "{held:?} did not come again");
            let wait = Duration::from_millis(200);
            let Ok(popped) = consumer.pop("pop_kill", "*", 32, LONG, wait).await else {
                // The name server still told of the broker that was killed.
                consumer.shutdown().await;
                consumer = self.consumer("pop_kill")?;
                tokio::time::sleep(wait).await;
                continue;
            };
            for popped in popped {
                held.remove(&text(&popped));
                consumer.ack(&popped).await?;
            }
        }
        consumer.shutdown().await;
        Ok(())
    }

    async fn next(&self, consumer: &PopConsumer, topic: &str, hidden: Duration) -> Result<Popped> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            ensure!(Instant::now() < deadline, "nothing came");
            let mut popped = consumer
                .pop(topic, "*", 1, hidden, Duration::from_secs(2))
                .await?;
            if let Some(popped) = popped.pop() {
                return Ok(popped);
            }
        }
    }

    /// In order, a queue stands until its message is acknowledged, and then goes on behind it.
    async fn in_order(&self) -> Result<()> {
        const COUNT: usize = 40;
        self.send("pop_order", COUNT).await?;
        let consumer = self.consumer("pop_order")?.in_order(true);
        let mut last = std::collections::BTreeMap::new();
        let mut held: Option<Popped> = None;
        let mut seen = 0;
        let deadline = Instant::now() + PATIENCE;
        while seen < COUNT {
            ensure!(Instant::now() < deadline, "{seen} of {COUNT} came");
            let popped = consumer
                .pop("pop_order", "*", 1, LONG, Duration::from_millis(300))
                .await?;
            if popped.is_empty() {
                // Everything else was consumed: the queue of the first message goes on only now.
                if let Some(held) = held.take() {
                    consumer.ack(&held).await?;
                }
            }
            for popped in popped {
                seen += 1;
                let queue = popped.message.queue.clone();
                if let Some(held) = &held {
                    ensure!(queue != held.message.queue, "{queue} did not stand still");
                }
                let before = last.insert(queue.clone(), popped.message.queue_offset);
                let expected = before.map_or(0, |before| before + 1);
                ensure!(
                    popped.message.queue_offset == expected,
                    "{queue}: {} after {before:?}",
                    popped.message.queue_offset
                );
                if seen == 1 {
                    held = Some(popped);
                } else {
                    consumer.ack(&popped).await?;
                }
            }
        }
        consumer.shutdown().await;
        Ok(())
    }
}

fn text(popped: &Popped) -> String {
    String::from_utf8_lossy(&popped.message.body).into_owned()
}
