//! A compaction topic in the soak: of each key the last message that was accepted must be there in the end, unless a later one is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use client::{Message, PullConsumer};

use super::ledger::{Kind, Ledger, now_ms};
use super::traffic::{FAILED_PAUSE, PAUSE, QUEUES, body, is_stored, number, producer};

pub(super) const COMPACTED: &str = "SoakCompacted";
/// Keys that messages have in turn.
const KEYS: u64 = 40;

/// The key of a message: every one has messages of its own in the queue that its number says.
fn key(number: u64) -> u64 {
    number % KEYS
}

pub(super) async fn send(
    ledger: Arc<Ledger>,
    nameserver: String,
    stopping: Arc<AtomicBool>,
) -> Result<()> {
    let producer = producer(&nameserver)?;
    while !stopping.load(Ordering::Relaxed) {
        let number = ledger.begin(Kind::Compacted, now_ms());
        let key = key(number);
        let message = Message::new(COMPACTED, body(number)).key(format!("c{key}"));
        let queue = (key % u64::from(QUEUES)) as usize;
        match producer.send_selected(message, |_| queue).await {
            Ok(receipt) if is_stored(receipt.status) => {
                ledger.accepted(number, None);
                tokio::time::sleep(PAUSE).await;
            }
            Ok(_) | Err(_) => tokio::time::sleep(FAILED_PAUSE).await,
        }
    }
    producer.shutdown().await;
    Ok(())
}

/// Reads what is left, when nothing is sent any more, and tells the ledger what is there and what later ones have replaced.
pub(super) async fn read(ledger: &Ledger, nameserver: &str) -> Result<()> {
    let reader = PullConsumer::new("soak_compacted", nameserver)?;
    let mut latest: BTreeMap<u64, u64> = BTreeMap::new();
    let mut found = Vec::new();
    for queue in reader.queues(COMPACTED).await? {
        let end = reader.max_offset(&queue).await?;
        let mut offset = 0;
        let mut last = -1;
        while offset < end {
            let pulled = reader
                .pull(&queue, "*", offset, 32, Duration::ZERO)
                .await
                .context("what is left of a compaction topic")?;
            for message in &pulled.messages {
                ensure!(
                    message.queue_offset > last,
                    "offset {} behind {last} of {queue}",
                    message.queue_offset
                );
                last = message.queue_offset;
                let number = number(message)?;
                found.push(number);
                let newest = latest.entry(key(number)).or_default();
                *newest = number.max(*newest);
            }
            ensure!(
                pulled.next_offset > offset,
                "no way on from {offset} of {queue}"
            );
            offset = pulled.next_offset;
        }
    }
    reader.shutdown().await;
    ledger.left(&found, |number| {
        latest
            .get(&key(number))
            .is_some_and(|newest| *newest > number)
    });
    Ok(())
}
