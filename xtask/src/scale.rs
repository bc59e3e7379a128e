//! Many topics on a real broker: creation, sends, memory, restarts; and many idle connections.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bench::{Creation, IdleConnections, Load, Usage, Workload};
use client::{Message, MessageQueue, Producer, PullConsumer, PullStatus};
use tokio::runtime::Runtime;

use crate::live::{self, Role};

const PREFIX: &str = "Scale";
const QUEUES: u32 = 8;
/// Topics that get a message, which must be there after each restart.
const SAMPLE: u32 = 200;
/// Topics that are created before the kill.
const CREATED_BEFORE_KILL: u32 = 100;
/// A name server has to know everything within this after a start.
const REGISTRATION_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

/// The figure that has a goal: how fast sends over all topics are, beside sends to one.
pub(crate) const ALL_AGAINST_ONE: &str = "all topics against one";

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Topics of eight queues.
    pub(crate) topics: u32,
    /// Idle connections; 0 leaves them out.
    pub(crate) connections: u32,
    /// How long sends are measured, for one topic and for many; zero leaves them out.
    pub(crate) sends: Duration,
    /// How long the idle CPU is measured.
    pub(crate) idle: Duration,
}

impl Plan {
    /// Everything that there is to measure, for so many topics.
    pub(crate) fn whole(topics: u32) -> Self {
        Self {
            topics,
            connections: 10_000,
            sends: Duration::from_secs(5),
            idle: Duration::from_secs(35),
        }
    }
}

/// One figure.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// What it is, in words.
    pub(crate) name: String,
    /// The figure.
    pub(crate) value: f64,
    /// Its unit.
    pub(crate) unit: &'static str,
}

/// All figures of a run, in the order in which they were measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(pub(crate) Vec<Figure>);

impl Figures {
    fn put(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        let name = name.into();
        eprintln!("{name}: {value:.2} {unit}");
        self.0.push(Figure { name, value, unit });
    }

    fn put_usage(&mut self, who: &str, usage: &Usage) {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        self.put(format!("{who}: memory"), mib(usage.anonymous_bytes), "MiB");
        self.put(format!("{who}: descriptors"), usage.descriptors as f64, "");
    }

    /// The figure of that name.
    pub(crate) fn of(&self, name: &str) -> Option<f64> {
        let figure = self.0.iter().find(|figure| figure.name == name)?;
        Some(figure.value)
    }

    /// A table in Markdown, for a page or a terminal.
    pub(crate) fn table(&self) -> String {
        let mut text = "| figure | value |\n|---|---:|\n".to_owned();
        for Figure { name, value, unit } in &self.0 {
            // Writing into a string does not fail.
            let _ = writeln!(text, "| {name} | {value:.2} {unit} |");
        }
        text
    }

    /// One JSON object on a line.
    pub(crate) fn json(&self) -> String {
        let fields = self.0.iter().map(|figure| {
            let unit = if figure.unit.is_empty() {
                String::new()
            } else {
                format!(", {}", figure.unit)
            };
            format!("{:?}:{:.3}", format!("{}{unit}", figure.name), figure.value)
        });
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    }
}

/// `cargo xtask scale [TOPICS] [--binary PATH]`: the figures as a table, then as JSON.
///
/// # Errors
/// The first promise that was broken.
pub(crate) fn report(topics: u32, binary: Option<&str>) -> Result<()> {
    let binary = binary.map_or_else(live::binary, |path| Ok(path.into()))?;
    let figures = measure(Plan::whole(topics), &binary)?;
    println!("{}\n{}", figures.table(), figures.json());
    Ok(())
}

/// The short form: that nothing is lost or refused, whatever the figures.
///
/// # Errors
/// The first promise that was broken.
pub(crate) fn check() -> Result<()> {
    let plan = Plan {
        topics: 3_000,
        connections: 200,
        sends: Duration::ZERO,
        idle: Duration::ZERO,
    };
    measure(plan, &live::binary()?).map(drop)
}

/// Creates the topics on a broker of its own, uses some of them, and starts it again after a clean stop and after `kill -9`.
///
/// # Errors
/// When something that was acknowledged is missing, or a process fails.
pub(crate) fn measure(plan: Plan, binary: &Path) -> Result<Figures> {
    bench::raise_descriptors();
    let dir = tempfile::tempdir()?;
    let runtime = Runtime::new()?;
    let mut figures = Figures::default();
    figures.put("topics", f64::from(plan.topics), "");

    let nameserver_dir = dir.path().join("nameserver");
    fs::create_dir_all(&nameserver_dir)?;
    let nameserver = Role::nameserver(binary, &nameserver_dir)?;
    let start = || start(binary, dir.path(), &nameserver);
    let broker = start()?;
    live::wait_for_broker(&nameserver.addr)?;
    figures.put_usage("broker, empty", &Usage::of(broker.pid())?);

    let creation = Creation {
        target: broker.addr.parse()?,
        pid: Some(broker.pid()),
        prefix: PREFIX.to_owned(),
        topics: plan.topics,
        queues: QUEUES,
        connections: 2,
        progress: true,
    };
    let created = creation.run()?;
    figures.put("created", created.per_second, "topics/s");
    if let Some(usage) = &created.broker {
        figures.put("creation: CPU", usage.cpu_seconds, "s");
        figures.put_usage("broker, topics created", usage);
    }
    figures.put_usage("name server, topics created", &Usage::of(nameserver.pid())?);

    let sample = Sample::new(plan.topics);
    runtime.block_on(sample.send(&nameserver.addr))?;
    runtime.block_on(sample.verify(&nameserver.addr))?;
    if !plan.sends.is_zero() {
        compare_sends(plan, &broker, &mut figures)?;
    }
    if !plan.idle.is_zero() {
        let before = (Usage::of(broker.pid())?, Usage::of(nameserver.pid())?);
        thread::sleep(plan.idle);
        let after = (Usage::of(broker.pid())?, Usage::of(nameserver.pid())?);
        let share = |before: Usage, after: Usage| {
            (after.cpu_seconds - before.cpu_seconds) / plan.idle.as_secs_f64() * 100.0
        };
        figures.put("broker, idle: CPU", share(before.0, after.0), "% of a core");
        figures.put(
            "name server, idle: CPU",
            share(before.1, after.1),
            "% of a core",
        );
    }
    if plan.connections > 0 {
        measure_connections(plan.connections, &broker, &mut figures)?;
    }

    let begin = Instant::now();
    broker.stop()?;
    figures.put("clean stop", begin.elapsed().as_secs_f64(), "s");
    let broker = restarted(
        "clean stop",
        &start,
        &nameserver,
        &sample.topics,
        &mut figures,
    )?;
    runtime.block_on(sample.verify(&nameserver.addr))?;

    let more = Creation {
        target: broker.addr.parse()?,
        pid: None,
        prefix: "Late".to_owned(),
        topics: CREATED_BEFORE_KILL,
        ..creation
    };
    more.run()?;
    broker.kill_9()?;
    let known: Vec<String> = sample.topics.iter().cloned().chain(more.names()).collect();
    let broker = restarted("kill -9", &start, &nameserver, &known, &mut figures)?;
    runtime.block_on(sample.verify(&nameserver.addr))?;
    runtime.block_on(async {
        let reader = PullConsumer::new("scale", &nameserver.addr)?;
        for name in more.names() {
            let queues = reader.queues(&name).await;
            ensure!(
                queues.is_ok(),
                "{name} was acknowledged and is lost after kill -9"
            );
        }
        reader.shutdown().await;
        Ok(())
    })?;
    figures.put_usage("broker, after the restarts", &Usage::of(broker.pid())?);
    broker.stop()?;
    nameserver.stop()?;
    Ok(figures)
}

fn start(binary: &Path, dir: &Path, nameserver: &Role) -> Result<Role> {
    let lines =
        "flushDiskType=ASYNC_FLUSH\nmappedFileSizeCommitLog=67108864\ndiskMaxUsedSpaceRatio=99\n";
    Role::broker(binary, dir, &nameserver.addr, lines)
}

/// Starts the broker again; it is there when it accepts, and when the name server knows the topics.
fn restarted(
    after: &str,
    start: &impl Fn() -> Result<Role>,
    nameserver: &Role,
    topics: &[String],
    figures: &mut Figures,
) -> Result<Role> {
    let begin = Instant::now();
    let broker = start().with_context(|| format!("start after {after}"))?;
    figures.put(
        format!("start after {after}"),
        begin.elapsed().as_secs_f64(),
        "s",
    );
    Runtime::new()?.block_on(async {
        let reader = PullConsumer::new("scale", &nameserver.addr)?;
        // They are told in parts, in no order.
        for topic in topics {
            loop {
                let queues = reader.queues(topic).await.unwrap_or_default();
                // Answered by the name server of the broker that was there before, unless it has forgotten that one.
                if !queues.is_empty() && reader.max_offset(&queues[0]).await.is_ok() {
                    break;
                }
                ensure!(
                    begin.elapsed() < REGISTRATION_MAX,
                    "{topic} is not registered after {after}"
                );
                tokio::time::sleep(POLL).await;
            }
        }
        reader.shutdown().await;
        Ok(())
    })?;
    figures.put(
        format!("start after {after} until topics from its whole table can be used"),
        begin.elapsed().as_secs_f64(),
        "s",
    );
    Ok(broker)
}

/// Sends for a while to one topic, then to all queues of all topics in turn.
fn compare_sends(plan: Plan, broker: &Role, figures: &mut Figures) -> Result<()> {
    let load = |topic: &str, topics: u32| -> Result<Load> {
        Ok(Load {
            pid: Some(broker.pid()),
            topic: topic.to_owned(),
            topics,
            queues: QUEUES,
            connections: 2,
            create: false,
            warmup: Duration::from_secs(1),
            measured: plan.sends,
            ..Load::new(broker.addr.parse()?)
        })
    };
    let one = bench::run_workload(&load(&format!("{PREFIX}-0"), 1)?, &Workload::Send)?;
    let many = bench::run_workload(&load(PREFIX, plan.topics)?, &Workload::Send)?;
    figures.put("sends to one topic", one.messages_per_second, "messages/s");
    figures.put(
        "sends over all topics",
        many.messages_per_second,
        "messages/s",
    );
    figures.put_usage("broker, all queues used", &Usage::of(broker.pid())?);
    let share = many.messages_per_second / one.messages_per_second * 100.0;
    figures.put(ALL_AGAINST_ONE, share, "%");
    Ok(())
}

fn measure_connections(count: u32, broker: &Role, figures: &mut Figures) -> Result<()> {
    let before = Usage::of(broker.pid())?;
    let idle = IdleConnections::open(broker.addr.parse()?, count)?;
    let after = Usage::of(broker.pid())?;
    let bytes = after.anonymous_bytes.saturating_sub(before.anonymous_bytes) as f64;
    figures.put("idle connections", idle.count() as f64, "");
    figures.put(
        "idle connections: memory",
        bytes / f64::from(1 << 20),
        "MiB",
    );
    figures.put(
        "idle connections: memory of each",
        bytes / 1024.0 / f64::from(count),
        "KiB",
    );
    Ok(())
}

/// Topics with one message each.
struct Sample {
    topics: Vec<String>,
}

impl Sample {
    fn new(topics: u32) -> Self {
        let step = (topics / SAMPLE).max(1);
        let numbers = (0..topics).rev().step_by(step as usize);
        Self {
            topics: numbers.map(|number| format!("{PREFIX}-{number}")).collect(),
        }
    }

    async fn send(&self, nameserver: &str) -> Result<()> {
        let producer = Producer::builder("scale", nameserver).start()?;
        for topic in &self.topics {
            let message = Message::new(topic.clone(), topic.clone().into_bytes());
            producer.send_selected(message, |_| 0).await?;
        }
        producer.shutdown().await;
        Ok(())
    }

    async fn verify(&self, nameserver: &str) -> Result<()> {
        let reader = PullConsumer::new("scale", nameserver)?;
        for topic in &self.topics {
            let mut queues = reader.queues(topic).await?;
            ensure!(
                queues.len() == QUEUES as usize,
                "{topic} has {} queues",
                queues.len()
            );
            let queue: MessageQueue = queues.remove(0);
            let pulled = reader.pull(&queue, "*", 0, 1, Duration::ZERO).await?;
            ensure!(
                pulled.status == PullStatus::Found && *pulled.messages[0].body == *topic.as_bytes(),
                "the message of {topic} is not there"
            );
        }
        reader.shutdown().await;
        Ok(())
    }
}
