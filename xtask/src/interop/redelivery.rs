//! Messages that wait: the same delays against Apogee and the Java server, and directories that change sides while messages wait in them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use client::{Message, MessageQueue, Producer, PullConsumer, Received};

use super::sides::Side;
use crate::live;
use crate::report::Verdict;

/// Level 1 is over at once; level 2 lasts longer than a server takes to stop, and messages wait in it.
const CONFIG: &str = "messageDelayLevel=1s 10s 1h\nflushDiskType=ASYNC_FLUSH\n";
const SHORT: (i32, i64) = (1, 1_000);
const LONG: (i32, i64) = (2, 10_000);
const TOPIC: &str = "waiting";
/// Messages of a step.
const COUNT: usize = 40;
/// How long anything may take that happens by itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// How late a message may come here. A Java broker looks every 100 ms, and the machine is shared.
const LATE_MS: i64 = 1_000;

/// Each server begins with an empty directory and leaves messages that wait to the other.
pub(super) fn run() -> Result<Verdict> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let binary = live::binary()?;
    for first in [Side::Apogee, Side::Java] {
        let dir = tempfile::tempdir()?;
        let step = |side: Side, step: usize| {
            let context =
                || format!("step {step}, on {side:?}, in a directory that {first:?} made");
            side.on(dir.path(), &binary, CONFIG, &[TOPIC], |nameserver| {
                runtime
                    .block_on(exchange(nameserver, step))
                    .with_context(context)
            })
        };
        let second = first.other();
        step(first, 0)?;
        step(second, 1)?;
        step(first, 2)?;
        eprintln!(
            "   {first:?}, {second:?}, {first:?}: what waited came once, in order, not early"
        );
    }
    Ok(Verdict::Passed)
}

/// Receives what the step before left waiting, sends messages that this one delivers, and messages for the next.
async fn exchange(nameserver: &str, step: usize) -> Result<()> {
    let reader = PullConsumer::new("waiting_reader", nameserver)?;
    let queue = reader.queues(TOPIC).await?.remove(0);
    // In each step so far: those of the short level, and those of the long one from the step before.
    let before = step * 2 * COUNT - if step > 0 { COUNT } else { 0 };
    if step > 0 {
        let left = received(&reader, &queue, before, COUNT).await?;
        check(&left, step - 1, "long", LONG)?;
    }
    let producer = Producer::builder("waiting_producers", nameserver).start()?;
    send(&producer, step, "short", SHORT).await?;
    let begin = before + if step > 0 { COUNT } else { 0 };
    let short = received(&reader, &queue, begin, COUNT).await?;
    check(&short, step, "short", SHORT)?;
    send(&producer, step, "long", LONG).await?;
    producer.shutdown().await;
    reader.shutdown().await;
    Ok(())
}

async fn send(producer: &Producer, step: usize, kind: &str, level: (i32, i64)) -> Result<()> {
    for number in 0..COUNT {
        let message = Message::new(TOPIC, body(step, kind, number)).tag("t");
        producer.send(message.delay_level(level.0)).await?;
    }
    Ok(())
}

fn body(step: usize, kind: &str, number: usize) -> String {
    format!("{step} {kind} {number}")
}

/// The messages at these offsets; an offset beyond them stays empty, or something came twice, which the next step's offsets show.
async fn received(
    reader: &PullConsumer,
    queue: &MessageQueue,
    from: usize,
    count: usize,
) -> Result<Vec<Received>> {
    let deadline = Instant::now() + PATIENCE;
    let mut found = Vec::new();
    while found.len() < count {
        ensure!(
            Instant::now() < deadline,
            "{} of {count} messages from offset {from} on came within {PATIENCE:?}",
            found.len()
        );
        let offset = (from + found.len()) as i64;
        let pulled = reader
            .pull(queue, "*", offset, 32, Duration::from_secs(1))
            .await?;
        found.extend(pulled.messages);
    }
    found.truncate(count);
    Ok(found)
}

fn check(messages: &[Received], step: usize, kind: &str, level: (i32, i64)) -> Result<()> {
    let mut latest = 0;
    for (number, message) in messages.iter().enumerate() {
        let want = body(step, kind, number);
        ensure!(
            message.body == want,
            "{:?} where {want:?} belongs",
            message.body
        );
        let waited_ms = message.store_timestamp_ms - message.born_timestamp_ms;
        ensure!(waited_ms >= level.1, "{want:?} came after {waited_ms} ms");
        latest = latest.max(waited_ms - level.1);
        for (name, value) in [("REAL_TOPIC", TOPIC), ("REAL_QID", "0"), ("TAGS", "t")] {
            ensure!(
                message.property(name) == Some(value),
                "{want:?}: {name} is {:?}",
                message.property(name)
            );
        }
    }
    eprintln!("   {kind} messages of step {step}: at most {latest} ms late");
    // Those that waited while no server ran are as late as that took.
    ensure!(kind == "long" || latest <= LATE_MS, "{latest} ms late");
    Ok(())
}
