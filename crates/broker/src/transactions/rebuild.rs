//! Which halves are pending, read from the half queue and the op queue at a start.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use protocol::properties as names;
use protocol::record::{self, CheckBody};
use protocol::topic;
use storage::{Read, ReadMode, Store};

use crate::config::BrokerKeys;
use crate::offsets::Offsets;

use super::book::{Book, Cursors, Half};
use super::message::{HalfRecord, QUEUE, op_halves};
use super::{Counters, GROUP};

/// How often was asked about halves that are no copies yet: a hint beside the queues, which Java does not read.
pub(super) const TIMES_FILE: &str = "transactionChecks.json";
/// Records read at a time.
const READ_MESSAGES_MAX: usize = 256;
/// Bytes of records read at a time.
const READ_BYTES_MAX: usize = 1 << 20;

/// From where on both queues count: the offsets of the system group, inside what is there. Java 5.3: `TransactionalMessageBridge.fetchConsumeOffset`.
pub(super) fn start(store: &Store, offsets: &Offsets) -> Cursors {
    let at = |topic: &str| {
        let (min, max) = (
            store.min_offset(topic, QUEUE),
            store.max_offset(topic, QUEUE),
        );
        let saved = offsets.query(GROUP, topic, QUEUE);
        let saved = saved.and_then(|offset| u64::try_from(offset).ok());
        saved.unwrap_or(min).clamp(min, max)
    };
    Cursors {
        half: at(topic::TRANS_HALF),
        op: at(topic::TRANS_OP_HALF),
    }
}

/// Reads both queues from `at` on. Blocks.
pub(super) fn read(
    store: &Store,
    at: Cursors,
    times: &BTreeMap<String, u32>,
    keys: &BrokerKeys,
    lost: &AtomicU64,
) -> Book {
    let half_end = store.max_offset(topic::TRANS_HALF, QUEUE);
    let op_end = store.max_offset(topic::TRANS_OP_HALF, QUEUE);
    let mut book = Book::read_up_to(half_end, op_end);
    let mut ended = HashSet::new();
    each(store, topic::TRANS_OP_HALF, at.op, op_end, |bytes| {
        let Ok(record) = record::decode(bytes, CheckBody::No) else {
            return complain(topic::TRANS_OP_HALF, bytes, "it cannot be read");
        };
        let Some(halves) = op_halves(&record) else {
            return complain(
                topic::TRANS_OP_HALF,
                bytes,
                "it has no tag of an op message",
            );
        };
        let mut last = None;
        for half in halves {
            ended.insert(half);
            last = last.max(Some(half));
        }
        if let Some(last) = last.filter(|last| *last >= at.half) {
            book.op_found(record.queue_offset, last);
        }
    });
    each(store, topic::TRANS_HALF, at.half, half_end, |bytes| {
        let half = record::decode(bytes, CheckBody::No).ok();
        let Some(half) = half.and_then(HalfRecord::of) else {
            Counters::add(lost);
            return complain(
                topic::TRANS_HALF,
                bytes,
                "it names no topic, queue and producer group",
            );
        };
        let offset = half.record.queue_offset;
        if !ended.contains(&offset) && !is_ended_elsewhere(&half, &ended) {
            let found = found(&mut book, &half, times, keys);
            book.enter_found(offset, found);
        }
    });
    if book.len() > 0 {
        tracing::info!(
            pending = book.len(),
            from = at.half,
            to = half_end,
            "transactions are pending; their producers will be asked"
        );
    }
    book
}

/// A copy that a Java broker made of a half with an immunity time stands for that half, whose offset it names: ending the one ended both.
/// Java 5.3: `TransactionalMessageServiceImpl.checkPrepareQueueOffset`.
fn is_ended_elsewhere(half: &HalfRecord<'_>, ended: &HashSet<u64>) -> bool {
    half.has_immunity()
        && names::get(
            half.record.properties,
            names::TRANSACTION_PREPARED_QUEUE_OFFSET,
        )
        .and_then(|offset| offset.parse().ok())
        .is_some_and(|offset: u64| ended.contains(&offset))
}

fn found(
    book: &mut Book,
    half: &HalfRecord<'_>,
    times: &BTreeMap<String, u32>,
    keys: &BrokerKeys,
) -> Half {
    let physical = half.record.physical_offset;
    let stored_ms = half.stored_ms();
    let hint = times.get(&times_key(half.record.queue_offset, physical));
    let times = half.times.unwrap_or(0).max(hint.copied().unwrap_or(0));
    Half {
        physical,
        stored_ms,
        check_at_ms: stored_ms.saturating_add(half.immunity_ms(keys.transaction_time_out)),
        group: book.group(half.group),
        times,
        taken: false,
        verified: false,
    }
}

/// How the file of check times names a half.
pub(super) fn times_key(offset: u64, physical: u64) -> String {
    format!("{offset}@{physical}")
}

fn complain(topic: &str, bytes: &Bytes, reason: &str) {
    tracing::error!(
        topic,
        queue_offset = record::peek_queue_offset(bytes),
        physical = record::peek_physical_offset(bytes),
        reason,
        "a record of a transaction is passed over; it stays in the log"
    );
}

/// Calls `look` for every record of a queue from `offset` to `end` that is still there.
fn each(store: &Store, topic: &str, mut offset: u64, end: u64, mut look: impl FnMut(&Bytes)) {
    while offset < end {
        let read = store.read(
            &Read {
                topic,
                queue_id: QUEUE,
                offset: offset as i64,
                messages_max: READ_MESSAGES_MAX,
                bytes_max: READ_BYTES_MAX,
                filter: &|_| true,
            },
            ReadMode::Blocking,
        );
        let next = match &read {
            Ok(read) => {
                read.records.iter().for_each(&mut look);
                read.next_from(offset as i64) as u64
            }
            Err(error) => {
                tracing::error!(topic, offset, %error, "a queue of transactions cannot be read; it is passed over to the next record");
                offset + 1
            }
        };
        offset = next;
    }
}
