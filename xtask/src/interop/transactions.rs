//! Transactions: the same scenarios of the official clients against Apogee and the Java server, and directories that change sides while
//! transactions are pending in them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use client::{Message, PullConsumer, Received, TransactionProducer, TransactionState};

use super::child::Running;
use super::clients::{self, create_topic};
use super::sides::Side;
use super::toolchain::{self, Missing};
use crate::live;
use crate::report::Verdict;

/// Checks soon and few. The first check comes behind the time that Java takes to note how a transaction ended.
const CONFIG: &str = "transactionTimeOut=4000\ntransactionCheckInterval=1000\ntransactionCheckMax=3\ntransactionOpBatchInterval=500\n\
                      flushDiskType=ASYNC_FLUSH\ntraceTopicEnable=true\n";
/// A Java broker counts checks for which there is no producer, and begins before one can connect.
const DIRECTORY_CONFIG: &str = "transactionTimeOut=4000\ntransactionCheckInterval=1000\ntransactionCheckMax=100\ntransactionOpBatchInterval=500\n\
                                flushDiskType=ASYNC_FLUSH\n";
/// Clients that have transactions.
const CLIENTS: &[&str] = &["java-4.9.8", "java-5.3.3", "go"];
/// The slowest scenario waits for three checks.
const CLIENT_MAX: Duration = Duration::from_secs(240);
/// What each client must have printed at its end.
const SCENARIOS: &[&str] = &[
    "tx-commit",
    "tx-rollback",
    "tx-check",
    "tx-other-producer",
    "tx-limit",
    "traced",
];
const TOPIC: &str = "pending";
/// Transactions of each kind in a step.
const COUNT: usize = 10;
/// How long anything may take that happens by itself.
const PATIENCE: Duration = Duration::from_secs(90);

/// Both servers with every client, then a directory for each order of sides, both at once.
pub(super) fn run() -> Result<Verdict> {
    let binary = live::binary()?;
    let mut missing = Vec::new();
    for side in [Side::Apogee, Side::Java] {
        let dir = tempfile::tempdir()?;
        side.on(dir.path(), &binary, CONFIG, &[], |nameserver| {
            missing = clients_on(nameserver, dir.path(), &binary)
                .with_context(|| format!("on {side:?}"))?;
            Ok(())
        })?;
    }
    thread::scope(|scope| {
        let orders = [Side::Apogee, Side::Java].map(|first| {
            let binary = &binary;
            scope.spawn(move || one_directory(first, binary))
        });
        let joined = orders
            .into_iter()
            .map(|each| each.join().expect("an order of sides does not panic"));
        joined.collect::<Result<Vec<()>>>()
    })?;
    match missing.is_empty() {
        true => Ok(Verdict::Passed),
        false => Ok(Verdict::NotRun(missing.join("; "))),
    }
}

/// One directory, which this side makes, the other goes on with, and this one again.
fn one_directory(first: Side, binary: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let dir = tempfile::tempdir()?;
    for (step, side) in [first, first.other(), first].into_iter().enumerate() {
        let context = || format!("step {step}, on {side:?}, in a directory that {first:?} made");
        side.on(dir.path(), binary, DIRECTORY_CONFIG, &[], |nameserver| {
            create_topic(binary, nameserver, TOPIC, 1)?;
            runtime
                .block_on(exchange(nameserver, step))
                .with_context(context)
        })?;
    }
    let second = first.other();
    eprintln!("   {first:?}, {second:?}, {first:?}: what was pending was asked for and came once");
    Ok(())
}

/// Runs the clients' scenarios, all at once. Gives the toolchains that are not there.
fn clients_on(nameserver: &str, dir: &Path, binary: &Path) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    let mut commands = Vec::new();
    for name in CLIENTS {
        match clients::named(name)
            .context("the client is in the list")?
            .command()
        {
            Ok(command) => commands.push((*name, command)),
            Err(error) => match error.downcast::<Missing>() {
                Ok(absent) => missing.push(format!("{name}: {absent}")),
                Err(error) => return Err(error.context(format!("preparing {name}"))),
            },
        }
        clients::create_topics(binary, nameserver, name, &[("transactions", 1)])?;
    }
    thread::scope(|scope| {
        let running: Vec<_> = commands
            .into_iter()
            .map(|(name, command)| scope.spawn(move || one(name, command, nameserver, dir)))
            .collect();
        let joined = running
            .into_iter()
            .map(|each| each.join().expect("a runner does not panic"));
        joined.collect::<Result<Vec<()>>>()
    })?;
    Ok(missing)
}

/// Runs one client's scenarios and shows their lines.
fn one(name: &str, mut command: Command, nameserver: &str, dir: &Path) -> Result<()> {
    let home = toolchain::directory("home")?.join(name);
    fs::create_dir_all(&home)?;
    let command =
        command
            .env("HOME", &home)
            .args([nameserver, &clients::prefix(name), "transactions"]);
    let output = dir.join(format!("{name}.out"));
    let mut program = Running::start(name, command, &output)?;
    let ended = program.wait(CLIENT_MAX);
    let printed = program.printed()?;
    let lines: Vec<&str> = printed
        .lines()
        .filter(|line| line.starts_with("PASS ") || line.starts_with("FAIL "))
        .collect();
    for line in &lines {
        eprintln!("   {name}: {line}");
    }
    ended?;
    for scenario in SCENARIOS {
        if !lines.contains(&format!("PASS {scenario}").as_str()) {
            let kept = toolchain::directory("failed")?.join(format!("{name}-transactions.out"));
            fs::write(&kept, &printed)?;
            bail!(
                "{name}: {scenario} did not pass; all it printed is in {}",
                kept.display()
            );
        }
    }
    Ok(())
}

/// Answers for what the step before left pending, and leaves as much to the next.
async fn exchange(nameserver: &str, step: usize) -> Result<()> {
    let reader = PullConsumer::new("pending_reader", nameserver)?;
    let queue = reader.queues(TOPIC).await?.remove(0);
    let asked = Arc::new(AtomicUsize::new(0));
    let asking = asked.clone();
    let producer = TransactionProducer::builder("pending_producers", nameserver, move |message| {
        asking.fetch_add(1, Ordering::Relaxed);
        async move { decide(&message, step) }
    })
    .start()?;
    for number in 0..COUNT {
        for (kind, state) in [
            ("commit", TransactionState::Commit),
            ("rollback", TransactionState::Rollback),
        ] {
            let receipt = producer.send(message(step, kind, number), |_| async move { state });
            receipt.await?.told?;
        }
    }
    let left = if step > 0 { COUNT } else { 0 };
    // Its own commits of each step, and those of the steps before that a check decided.
    let wanted = (step + 1) * COUNT + step * COUNT;
    let deadline = Instant::now() + PATIENCE;
    let mut found: Vec<Received> = Vec::new();
    while found.len() < wanted {
        ensure!(
            Instant::now() < deadline,
            "{} of {wanted} messages came within {PATIENCE:?}; asked {} times",
            found.len(),
            asked.load(Ordering::Relaxed)
        );
        let offset = found.len() as i64;
        let pulled = reader
            .pull(&queue, "*", offset, 32, Duration::from_secs(1))
            .await?;
        found.extend(pulled.messages);
    }
    ensure!(
        asked.load(Ordering::Relaxed) >= left,
        "messages came that nobody was asked about"
    );
    for number in 0..COUNT {
        for kind in ["left and committed", "left and rolled back"] {
            let unknown = |_| async { TransactionState::Unknown };
            producer
                .send(message(step, kind, number), unknown)
                .await?
                .told?;
        }
    }
    producer.shutdown().await;
    let mut bodies: Vec<String> = found
        .iter()
        .map(|message| String::from_utf8_lossy(&message.body).into_owned())
        .collect();
    bodies.sort();
    let mut want: Vec<String> = (0..=step)
        .flat_map(|step| (0..COUNT).map(move |number| body(step, "commit", number)))
        .chain((0..step).flat_map(|step| {
            (0..COUNT).map(move |number| body(step, "left and committed", number))
        }))
        .collect();
    want.sort();
    ensure!(bodies == want, "{bodies:?} came where {want:?} belongs");
    let end = reader.max_offset(&queue).await?;
    ensure!(
        end == wanted as i64,
        "{end} messages, {wanted} belong there"
    );
    reader.shutdown().await;
    Ok(())
}

/// What the next step says about those that were left: nothing in its own.
fn decide(message: &Received, step: usize) -> TransactionState {
    let body = String::from_utf8_lossy(&message.body).into_owned();
    match body.split_once(' ') {
        Some((of, _)) if of.parse() == Ok(step) => TransactionState::Unknown,
        Some((_, kind)) if kind.starts_with("left and committed") => TransactionState::Commit,
        _ => TransactionState::Rollback,
    }
}

fn message(step: usize, kind: &str, number: usize) -> Message {
    Message::new(TOPIC, body(step, kind, number))
}

fn body(step: usize, kind: &str, number: usize) -> String {
    format!("{step} {kind} {number}")
}
