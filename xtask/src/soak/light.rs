//! Light queues in the soak: messages of one topic that lie in one of a few besides, each read to its end in the order of its offsets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use client::Message;
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::PullMessageRequest;
use protocol::record::{self, CheckBody};
use protocol::{properties, sysflag};
use remoting::{Client, ClientConfig, NoPushes};

use super::ledger::{Kind, Ledger, now_ms};
use super::traffic::{FAILED_PAUSE, PAUSE, body, is_stored, number_in, producer};

/// Whose messages they are.
pub(super) const LIGHT: &str = "SoakLight";
const NAMES: u64 = 3;
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// The light queue of a message.
fn name(number: u64) -> String {
    format!("%LMQ%soak{}", number % NAMES)
}

pub(super) async fn send(
    ledger: Arc<Ledger>,
    nameserver: String,
    stopping: Arc<AtomicBool>,
) -> Result<()> {
    let producer = producer(&nameserver)?;
    while !stopping.load(Ordering::Relaxed) {
        let number = ledger.begin(Kind::Light, now_ms());
        let message = Message::new(LIGHT, body(number))
            .property(properties::INNER_MULTI_DISPATCH, name(number));
        match producer.send(message).await {
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

/// Reads all light queues of the broker at `addr` until `ended`.
pub(super) async fn read(ledger: Arc<Ledger>, addr: String, ended: Arc<AtomicBool>) -> Result<()> {
    let client = Client::new(ClientConfig::default(), Arc::new(NoPushes));
    let mut offsets = [0; NAMES as usize];
    while !ended.load(Ordering::Relaxed) {
        let mut is_idle = true;
        for (queue, offset) in offsets.iter_mut().enumerate() {
            let request = pull(name(queue as u64), *offset);
            // The broker may be away.
            let Ok(answer) = client.call(&addr, request, CALL_TIMEOUT).await else {
                continue;
            };
            if answer.response_code() == ResponseCode::SUCCESS {
                *offset = note(&ledger, queue as u64, *offset, &answer.body)?;
                is_idle = false;
            }
        }
        if is_idle {
            tokio::time::sleep(FAILED_PAUSE).await;
        }
    }
    client.shutdown();
    Ok(())
}

fn pull(topic: String, offset: i64) -> Command {
    let header = PullMessageRequest {
        consumer_group: "soak_light".to_owned(),
        topic,
        queue_id: 0,
        queue_offset: offset,
        messages_max: 32,
        sys_flag: sysflag::PULL_SUBSCRIPTION,
        subscription: Some("*".to_owned()),
        ..PullMessageRequest::default()
    };
    Command::request(RequestCode::PULL_MESSAGE, &header)
}

/// Tells the ledger of the messages of a pull: they must be those of the queue, from `offset` on without a gap. Gives the offset behind them.
fn note(ledger: &Ledger, queue: u64, mut offset: i64, mut records: &[u8]) -> Result<i64> {
    while !records.is_empty() {
        let record = record::decode(records, CheckBody::Yes)?;
        let number = number_in(record.body)?;
        let at = properties::get(record.properties, properties::INNER_MULTI_QUEUE_OFFSET)
            .context("a message of a light queue without its offset there")?;
        ensure!(
            at.parse() == Ok(offset) && number % NAMES == queue,
            "message {number} is at {at} of light queue {queue}, where {offset} follows"
        );
        ledger.delivered(number);
        offset += 1;
        records = &records[record.size as usize..];
    }
    Ok(offset)
}
