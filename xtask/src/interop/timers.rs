//! Timer messages: the official client's scenario with the same assertions against Apogee and the Java server, and directories that change sides while messages wait in them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use client::{Message, Producer, PullConsumer};

use super::sides::Side;
use crate::live;
use crate::peer;
use crate::report::Verdict;

const CONFIG: &str = "flushDiskType=ASYNC_FLUSH\ntimerWheelEnable=true\nrecallMessageEnable=true\ntimerMaxDelaySec=3600\n";
const TOPIC: &str = "timed";
/// The topic of the official client's scenario.
const SCENARIO_TOPIC: &str = "scenario";
/// Messages of a step that are delivered by it.
const SHORT: usize = 30;
/// Messages of a step that wait for the next, two more that are taken back.
const LONG: usize = 30;
/// Longer than a server takes to stop.
const LONG_DELAY: Duration = Duration::from_secs(20);
/// Of messages that are taken back: longer than a server takes to stop and the other to start.
const RECALLED_DELAY: Duration = Duration::from_secs(600);
const PATIENCE: Duration = Duration::from_secs(90);

/// Java, Apogee, Java: each delivers what the one before left waiting, and takes back what the one before gave a handle for.
pub(super) fn run() -> Result<Verdict> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let binary = live::binary()?;
    let dir = tempfile::tempdir()?;
    let mut left = Vec::new();
    for (step, side) in [Side::Java, Side::Apogee, Side::Java]
        .into_iter()
        .enumerate()
    {
        side.on(
            dir.path(),
            &binary,
            CONFIG,
            &[TOPIC, SCENARIO_TOPIC],
            |nameserver| {
                let context = || format!("step {step}, on {side:?}");
                runtime
                    .block_on(take_back(nameserver, &left))
                    .with_context(context)?;
                if step < 2 {
                    scenario(side, nameserver, dir.path())?;
                }
                left = runtime
                    .block_on(exchange(side, nameserver, step))
                    .with_context(context)?;
                Ok(())
            },
        )?;
    }
    Ok(Verdict::Passed)
}

/// Lateness in milliseconds that this side may show on a shared machine. A Java broker delivers a tick after the tick.
fn late_max_ms(side: Side) -> i64 {
    match side {
        Side::Apogee => 500,
        Side::Java => 4_000,
    }
}

fn scenario(side: Side, nameserver: &str, dir: &Path) -> Result<()> {
    let late = late_max_ms(side).to_string();
    let output = dir.join(format!("timed-{side:?}.out"));
    let arguments = [nameserver, SCENARIO_TOPIC, &late];
    let printed = peer::program("peer.Timed", &arguments, Path::new("/dev/null"), &output)
        .with_context(|| format!("the official client against {side:?}"))?;
    eprintln!(
        "   the official client against {side:?}: {}",
        printed.trim()
    );
    Ok(())
}

/// Takes back what the other side stored and gave these handles for.
async fn take_back(nameserver: &str, handles: &[String]) -> Result<()> {
    let producer = Producer::builder("timed_recallers", nameserver).start()?;
    for handle in handles {
        producer
            .recall(TOPIC, handle)
            .await
            .context("taking back what the other side stored")?;
    }
    producer.shutdown().await;
    Ok(())
}

/// Receives what the step before left waiting, sends and receives messages of its own, and leaves some: their handles.
async fn exchange(side: Side, nameserver: &str, step: usize) -> Result<Vec<String>> {
    let producer = Producer::builder("timed_producers", nameserver).start()?;
    let reader = PullConsumer::new("timed_reader", nameserver)?;
    let queue = reader.queues(TOPIC).await?.remove(0);
    let mut want = Vec::new();
    for number in 0..SHORT {
        let body = format!("{step} short {number}");
        let delay = Duration::from_millis(500 + 37 * number as u64);
        producer
            .send(Message::new(TOPIC, body.clone()).deliver_after(delay))
            .await?;
        want.push(body);
    }
    let mut before = 0;
    if step > 0 {
        // Everything of the steps before; in this one what the last of them left.
        before = step * SHORT + (step - 1) * LONG;
        want.extend((0..LONG).map(|number| format!("{} long {number}", step - 1)));
    }
    let deadline = Instant::now() + PATIENCE;
    let mut found = Vec::new();
    while found.len() < want.len() {
        ensure!(
            Instant::now() < deadline,
            "{} of {} messages came: {found:?}",
            found.len(),
            want.len()
        );
        let offset = (before + found.len()) as i64;
        let pulled = reader
            .pull(&queue, "*", offset, 32, Duration::from_secs(1))
            .await?;
        for message in pulled.messages {
            let body = String::from_utf8_lossy(&message.body).into_owned();
            let due = message
                .property("TIMER_DELIVER_MS")
                .and_then(|due| due.parse::<i64>().ok());
            if let Some(due) = due {
                ensure!(message.store_timestamp_ms >= due, "{body} came early");
            }
            let late_ms = message.store_timestamp_ms - message.born_timestamp_ms;
            ensure!(
                !body.contains("short") || late_ms <= 2_000 + late_max_ms(side),
                "{body} came after {late_ms} ms"
            );
            found.push(body);
        }
    }
    found.sort();
    want.sort();
    ensure!(found == want, "{found:?} where {want:?} belongs");
    eprintln!(
        "   step {step}, {side:?}: {} messages came once and not early",
        found.len()
    );
    let mut handles = Vec::new();
    for number in 0..LONG + 2 {
        let body = format!("{step} long {number}");
        let delay = if number < LONG {
            LONG_DELAY
        } else {
            RECALLED_DELAY
        };
        let sent = producer
            .send(Message::new(TOPIC, body).deliver_after(delay))
            .await?;
        if number >= LONG {
            handles.extend(sent.recall_handle);
        }
    }
    ensure!(handles.len() == 2, "the server gives no recall handles");
    // One is taken back here, the other by the next server.
    producer.recall(TOPIC, &handles.remove(0)).await?;
    producer.shutdown().await;
    reader.shutdown().await;
    Ok(handles)
}
