//! `kill -9` under load, again and again: what was acknowledged is there once, where the acknowledgement said.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use client::{
    ConsumeResult, Message, MessageQueue, Producer, PullConsumer, PullStatus, PushConsumer,
    StartFrom,
};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::live::{self, Role};

const TOPIC: &str = "KillTest";
const GROUP: &str = "kill-consumers";
/// Senders that each wait for an answer before they send again.
const SENDERS: usize = 32;
/// Load between two kills.
const LOAD: Duration = Duration::from_millis(400);
/// A broker that was killed has to serve again within this.
const RECOVERY_MAX: Duration = Duration::from_secs(30);

/// What the senders know.
#[derive(Default)]
struct Ledger {
    /// Message number to the place that the acknowledgement named.
    acknowledged: Mutex<HashMap<u64, (MessageQueue, i64)>>,
    next: AtomicU64,
    stopping: AtomicBool,
}

/// What was read back so far.
#[derive(Default)]
struct Found {
    /// Message number to its place.
    places: HashMap<u64, (MessageQueue, i64)>,
    /// The offset up to which each queue was read.
    read_to: HashMap<MessageQueue, i64>,
}

/// `cycles` kills under each flush mode.
///
/// # Errors
/// The first promise that was broken.
pub(crate) fn campaign(cycles: usize) -> Result<()> {
    let binary = live::binary()?;
    let runtime = Runtime::new()?;
    for mode in ["SYNC_FLUSH", "ASYNC_FLUSH"] {
        let begin = Instant::now();
        let dir = tempfile::tempdir()?;
        let messages = runtime
            .block_on(run(&binary, dir.path(), mode, cycles))
            .with_context(|| format!("{mode}, {cycles} kills"));
        let messages = match messages {
            Ok(messages) => messages,
            Err(error) => {
                eprintln!("the store is kept for inspection: {}", dir.keep().display());
                return Err(error);
            }
        };
        eprintln!(
            "{mode}: {cycles} kills, {messages} acknowledged messages all there once, {:.0} s",
            begin.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

async fn run(binary: &Path, dir: &Path, mode: &str, cycles: usize) -> Result<usize> {
    let nameserver_dir = dir.join("nameserver");
    fs::create_dir_all(&nameserver_dir)?;
    let nameserver = Role::nameserver(binary, &nameserver_dir)?;
    let lines = format!(
        "flushDiskType={mode}\nmappedFileSizeCommitLog=16777216\ndiskMaxUsedSpaceRatio=99\n"
    );
    let start = || Role::broker(binary, dir, &nameserver.addr, &lines);
    let mut broker = start()?;

    let ledger = Arc::new(Ledger::default());
    let producer = Arc::new(
        Producer::builder("kill-producers", &nameserver.addr)
            .retries(0)
            .send_timeout(Duration::from_secs(1))
            .start()?,
    );
    let mut senders = JoinSet::new();
    for _ in 0..SENDERS {
        senders.spawn(send(Arc::clone(&producer), Arc::clone(&ledger)));
    }
    wait_for_progress(&ledger, 0).await?;
    let consumer = PushConsumer::builder(GROUP, &nameserver.addr)
        .subscribe(TOPIC, "*")
        .start_from(StartFrom::Oldest)
        .concurrently(|_| std::future::ready(ConsumeResult::Success))
        .start()
        .await?;

    let mut found = Found::default();
    for cycle in 1..=cycles {
        tokio::time::sleep(LOAD).await;
        broker.kill_9()?;
        let acknowledged = ledger.count();
        broker = start().with_context(|| format!("start after kill {cycle}"))?;
        wait_for_progress(&ledger, acknowledged)
            .await
            .with_context(|| format!("after kill {cycle}"))?;
        found
            .read(&nameserver.addr)
            .await
            .with_context(|| format!("after kill {cycle}"))?;
        if cycle % 5 == 0 {
            eprintln!("{mode}: {cycle} of {cycles} kills, {acknowledged} messages acknowledged");
        }
    }
    ledger.stopping.store(true, Ordering::Relaxed);
    while senders.join_next().await.is_some() {}
    producer.shutdown().await;
    consumer.shutdown().await;
    found.read(&nameserver.addr).await?;
    found.check(&ledger)?;
    broker.stop()?;
    // A clean stop and a start lose nothing either.
    broker = start()?;
    let mut again = Found::default();
    again.read(&nameserver.addr).await?;
    ensure!(
        again.places == found.places,
        "a clean restart changed what is stored"
    );
    broker.stop()?;
    nameserver.stop()?;
    Ok(ledger.count())
}

impl Ledger {
    fn count(&self) -> usize {
        self.acknowledged.lock().expect("no holder panics").len()
    }
}

/// Sends numbered messages until told to stop. A failed send is in doubt: stored or not, and never sent again.
async fn send(producer: Arc<Producer>, ledger: Arc<Ledger>) {
    while !ledger.stopping.load(Ordering::Relaxed) {
        let number = ledger.next.fetch_add(1, Ordering::Relaxed);
        match producer
            .send(Message::new(TOPIC, number.to_string()).key(format!("k{number}")))
            .await
        {
            Ok(receipt) => {
                let place = (receipt.queue, receipt.queue_offset);
                ledger
                    .acknowledged
                    .lock()
                    .expect("no holder panics")
                    .insert(number, place);
            }
            // The broker is down: ask again soon, not at once.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn wait_for_progress(ledger: &Ledger, acknowledged: usize) -> Result<()> {
    let deadline = Instant::now() + RECOVERY_MAX;
    while ledger.count() <= acknowledged {
        ensure!(
            Instant::now() < deadline,
            "no message was acknowledged within {RECOVERY_MAX:?}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// The queues and their ends, as soon as the name server knows the restarted broker.
async fn queues_of_restarted(reader: &PullConsumer) -> Result<Vec<(MessageQueue, i64)>> {
    let deadline = Instant::now() + RECOVERY_MAX;
    loop {
        let attempt = async {
            let mut ends = Vec::new();
            for queue in reader.queues(TOPIC).await? {
                let end = reader.max_offset(&queue).await?;
                ends.push((queue, end));
            }
            Ok::<_, client::Error>(ends)
        };
        match attempt.await {
            Ok(ends) if !ends.is_empty() => return Ok(ends),
            other => ensure!(
                Instant::now() < deadline,
                "the broker is not back: {other:?}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Found {
    /// Reads every queue from where the last reading ended. Offsets must be contiguous, the group's never ahead.
    async fn read(&mut self, nameserver: &str) -> Result<()> {
        let reader = PullConsumer::new(GROUP, nameserver)?;
        for (queue, end) in queues_of_restarted(&reader).await? {
            // Asked in this order, since the load and the group go on: what is committed was in the queue before.
            let committed = reader.committed_offset(&queue).await?.unwrap_or(0);
            let now = reader.max_offset(&queue).await?;
            ensure!(
                committed <= now,
                "{queue}: the group's offset {committed} is ahead of the queue's end {now}"
            );
            let mut offset = self.read_to.get(&queue).copied().unwrap_or(0);
            ensure!(
                offset <= end,
                "{queue}: it ended at {offset} before the kill and ends at {end} after it"
            );
            while offset < end {
                let pulled = reader.pull(&queue, "*", offset, 32, Duration::ZERO).await?;
                if pulled.status != PullStatus::Found {
                    bail!(
                        "{queue}: offset {offset} of {end} cannot be read: {:?}",
                        pulled.status
                    );
                }
                for message in pulled.messages {
                    ensure!(
                        message.queue_offset == offset,
                        "{queue}: offset {offset} is missing, {} follows",
                        message.queue_offset
                    );
                    let number: u64 = std::str::from_utf8(&message.body)?.parse()?;
                    if let Some((other, at)) = self.places.insert(number, (queue.clone(), offset)) {
                        bail!(
                            "message {number} is there twice: {other} at {at} and {queue} at {offset}"
                        );
                    }
                    offset += 1;
                }
            }
            self.read_to.insert(queue, offset);
        }
        reader.shutdown().await;
        Ok(())
    }

    fn check(&self, ledger: &Ledger) -> Result<()> {
        let acknowledged = ledger.acknowledged.lock().expect("no holder panics");
        ensure!(
            !acknowledged.is_empty(),
            "nothing was acknowledged, so nothing was tested"
        );
        // What was never acknowledged may be there, when its answer was lost; what was never sent may not.
        let sent = ledger.next.load(Ordering::Relaxed);
        if let Some((number, place)) = self.places.iter().find(|(number, _)| **number >= sent) {
            bail!("message {number} was never sent and lies at {place:?}");
        }
        for (number, place) in acknowledged.iter() {
            match self.places.get(number) {
                Some(found) if found == place => {}
                Some((queue, offset)) => bail!(
                    "message {number} was acknowledged at {} {} and lies at {queue} {offset}",
                    place.0,
                    place.1
                ),
                None => bail!(
                    "message {number}, acknowledged at {} {}, is lost",
                    place.0,
                    place.1
                ),
            }
        }
        Ok(())
    }
}
