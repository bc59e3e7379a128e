//! Halves that nobody ended: producers are asked, and what cannot wait longer is moved or given up. One task, at intervals.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use protocol::record::{self, CheckBody};
use protocol::{perm, topic};
use remoting::Connection;
use storage::{AppendError, NewMessage};
use tokio::time::MissedTickBehavior;

use crate::Broker;
use crate::requests::send::topic as topics;

use super::book::Half;
use super::message::{HalfRecord, QUEUE};
use super::past::is_committed;
use super::{Counters, Taken, Transactions, rebuild};

/// Between two looks. Halves are checked this much late at most.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Halves that one look takes up; the others follow in the next.
const DUE_MAX: usize = 4096;
/// Halves that are looked at under one lock: requests wait for it.
const LOOKED_AT_MAX: usize = 4096;
/// A half that is so far behind the newest is stored again, so that a start reads no more than this.
const SPAN_MAX: u64 = 200_000;
/// A half in the oldest part of the log, one in so many, is stored again before its record expires.
const OLDEST_PART: u64 = 4;
/// How long the file of check times rests between two writes, at least; and so many times as long as writing it took.
const TIMES_REST: Duration = Duration::from_secs(5);
const TIMES_REST_FACTOR: u32 = 20;
/// A half without a producer is looked at again after this time, or the check interval when that is shorter.
const NO_PRODUCER_REST_MS: i64 = 5_000;

/// What the configuration says about checks.
struct Rules {
    now_ms: i64,
    interval_ms: i64,
    times_max: u32,
    age_ms_max: i64,
    /// Halves below are stored again.
    offset_keep: u64,
    physical_keep: u64,
}

impl Rules {
    fn of(broker: &Broker) -> Rules {
        let keys = broker.keys();
        let store = &broker.store;
        let (min, max) = (store.commit_log_min(), store.commit_log_max());
        let segment = keys.mapped_file_size_commit_log;
        let log_bytes = max.saturating_sub(min);
        // The open segment does not expire.
        let physical_keep = if log_bytes > segment {
            min + (log_bytes / OLDEST_PART).max(segment)
        } else {
            0
        };
        Rules {
            now_ms: broker.now_ms(),
            interval_ms: i64::try_from(keys.transaction_check_interval).unwrap_or(i64::MAX),
            times_max: keys.transaction_check_max,
            age_ms_max: i64::try_from(keys.file_reserved_time.saturating_mul(3_600_000))
                .unwrap_or(i64::MAX),
            offset_keep: broker.transactions.book().end().saturating_sub(SPAN_MAX),
            physical_keep,
        }
    }

    fn must_move(&self, offset: u64, half: &Half) -> bool {
        offset < self.offset_keep || half.physical < self.physical_keep
    }

    fn must_give_up(&self, half: &Half) -> bool {
        half.check_at_ms <= self.now_ms
            && (half.times >= self.times_max
                || self.now_ms.saturating_sub(half.stored_ms) > self.age_ms_max)
    }
}

/// Producers of one group, and whose turn it is.
struct Producers {
    connections: Vec<Arc<Connection>>,
    next: usize,
}

/// The task, for as long as the broker runs.
pub(crate) async fn run(broker: Arc<Broker>) {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next_times = Instant::now();
    loop {
        looks.tick().await;
        let looking = broker.clone();
        let write_times = Instant::now() >= next_times;
        let look = tokio::task::spawn_blocking(move || {
            look(&looking);
            let began = Instant::now();
            if write_times && let Err(error) = looking.transactions.write_times() {
                tracing::error!(%error, "cannot write {}; after a restart some producers are asked more often", rebuild::TIMES_FILE);
            }
            began.elapsed()
        });
        match look.await {
            Ok(took) if write_times => {
                next_times = Instant::now() + TIMES_REST.max(took * TIMES_REST_FACTOR);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "a look at pending transactions failed");
            }
        }
        // An idle broker does not look: nothing is pending, and the offsets are where they belong.
        if broker.transactions.is_idle() {
            broker.transactions.work.notified().await;
        }
    }
}

impl Transactions {
    fn is_idle(&self) -> bool {
        if self.pending() > 0 || self.times_changed.load(Ordering::Relaxed) > 0 {
            return false;
        }
        let published = self
            .cursors
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        published.staged.is_none()
            && self.book().cursors(published.cursors.half) == published.cursors
    }

    /// Halves that something must be done about, oldest first, and no more than [`DUE_MAX`].
    fn due(&self, rules: &Rules) -> Vec<(u64, Half)> {
        let mut due = Vec::new();
        let mut after = None;
        while due.len() < DUE_MAX {
            let book = self.book();
            let mut looked_at = 0;
            for (offset, half) in book.behind(after).take(LOOKED_AT_MAX) {
                looked_at += 1;
                after = Some(offset);
                let is_due = half.check_at_ms <= rules.now_ms || rules.must_move(offset, half);
                if is_due && !half.taken && due.len() < DUE_MAX {
                    due.push((offset, half.clone()));
                }
            }
            if looked_at < LOOKED_AT_MAX {
                break;
            }
        }
        due
    }

    /// Writes how often was asked, if that changed: after a restart the limit counts on. Java has it in the copy that each check makes.
    pub(super) fn write_times(&self) -> io::Result<()> {
        let changed = self.times_changed.swap(0, Ordering::Relaxed);
        if changed == 0 {
            return Ok(());
        }
        let times: BTreeMap<String, u32> = {
            let book = self.book();
            book.behind(None)
                .filter(|(_, half)| half.times > 0)
                .map(|(offset, half)| (rebuild::times_key(offset, half.physical), half.times))
                .collect()
        };
        let file = self
            .times
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let written = file.replace(&times);
        if written.is_err() {
            self.times_changed.fetch_add(changed, Ordering::Relaxed);
        }
        written
    }

    /// Writes what the files of `config/` say of transactions. Blocks.
    pub(crate) fn save(&self, broker: &Broker) -> io::Result<()> {
        // What was staged, and what that leaves.
        self.publish(&broker.offsets);
        self.publish(&broker.offsets);
        self.write_times()
    }
}

/// One look: the offsets, then what is due.
fn look(broker: &Arc<Broker>) {
    let transactions = &broker.transactions;
    transactions.publish(&broker.offsets);
    if transactions.pending() == 0 {
        transactions
            .counters
            .without_producer
            .store(0, Ordering::Relaxed);
        return;
    }
    let rules = Rules::of(broker);
    let mut producers = HashMap::new();
    let mut without_producer = 0;
    for (offset, half) in transactions.due(&rules) {
        let outcome = if rules.must_give_up(&half) {
            give_up(broker, &rules, offset, &half)
        } else if rules.must_move(offset, &half) {
            move_on(broker, offset, &half)
        } else {
            let of_group = producers
                .entry(half.group.clone())
                .or_insert_with(|| Producers::of(broker, &half.group));
            match of_group {
                Some(of_group) => ask(broker, &rules, offset, &half, of_group),
                None => {
                    without_producer += 1;
                    rest(
                        transactions,
                        offset,
                        rules.now_ms,
                        NO_PRODUCER_REST_MS.min(rules.interval_ms),
                    );
                    Ok(())
                }
            }
        };
        if let Err(error) = outcome {
            tracing::error!(%error, offset, "a pending transaction could not be stored elsewhere; trying again");
            rest(transactions, offset, rules.now_ms, NO_PRODUCER_REST_MS);
            break;
        }
    }
    transactions
        .counters
        .without_producer
        .store(without_producer, Ordering::Relaxed);
}

fn rest(transactions: &Transactions, offset: u64, now_ms: i64, rest_ms: i64) {
    let at_ms = now_ms.saturating_add(rest_ms);
    transactions
        .book()
        .update(offset, |half| half.check_at_ms = at_ms);
}

impl Producers {
    fn of(broker: &Broker, group: &str) -> Option<Producers> {
        let members = broker.clients.registry().producer_group(group)?;
        let connections: Vec<_> = members
            .into_iter()
            .map(|member| member.handle)
            .filter(|connection| connection.is_open())
            .collect();
        // Each look begins with another, and goes on by turns.
        let next = broker.transactions.turn.fetch_add(1, Ordering::Relaxed);
        (!connections.is_empty()).then_some(Producers { connections, next })
    }
}

/// Asks one producer of the group; the next one when that takes nothing.
fn ask(
    broker: &Arc<Broker>,
    rules: &Rules,
    offset: u64,
    half: &Half,
    producers: &mut Producers,
) -> Result<(), AppendError> {
    let transactions = &broker.transactions;
    let Some(bytes) = read(broker, offset, half) else {
        return Ok(());
    };
    let Some(record) = understood(&bytes) else {
        return Ok(());
    };
    if !half.verified {
        match verify(broker, offset, half, &record)? {
            true => {}
            false => return Ok(()),
        }
    }
    let question = record.question(&broker.identity().name);
    for _ in 0..producers.connections.len() {
        let connection = &producers.connections[producers.next % producers.connections.len()];
        producers.next = producers.next.wrapping_add(1);
        match connection.send_oneway(question.clone()) {
            Ok(()) => {
                Counters::add(&transactions.counters.checks);
                transactions.times_changed.fetch_add(1, Ordering::Relaxed);
                let at_ms = rules.now_ms.saturating_add(rules.interval_ms);
                transactions.book().update(offset, |half| {
                    half.times = half.times.saturating_add(1);
                    half.check_at_ms = at_ms;
                });
                tracing::debug!(
                    group = &*half.group,
                    producer = %connection.peer(),
                    topic = record.real_topic,
                    transaction = record.unique_id,
                    offset,
                    "asked how a transaction ended"
                );
                return Ok(());
            }
            Err(error) => {
                tracing::debug!(group = &*half.group, producer = %connection.peer(), %error, "a producer takes no question; the next is asked");
            }
        }
    }
    // All of them are slow to read: they are asked again soon, and it counts for nothing.
    rest(
        transactions,
        offset,
        rules.now_ms,
        NO_PRODUCER_REST_MS.min(rules.interval_ms),
    );
    Ok(())
}

/// Whether no commit of the half is in the log. When there is one, the op message that a crash lost is written.
fn verify(
    broker: &Broker,
    offset: u64,
    half: &Half,
    record: &HalfRecord<'_>,
) -> Result<bool, AppendError> {
    let transactions = &broker.transactions;
    let is_committed = match is_committed(&broker.store, record) {
        Ok(is_committed) => is_committed,
        Err(error) => {
            tracing::error!(%error, offset, "the index cannot be searched for the commit of a transaction; trying again");
            rest(transactions, offset, broker.now_ms(), NO_PRODUCER_REST_MS);
            return Ok(false);
        }
    };
    let Ok(mut taken) = transactions.take(offset, half.physical) else {
        return Ok(false);
    };
    if !is_committed {
        taken.verified();
        return Ok(true);
    }
    transactions.end(broker, &mut [&mut taken], Vec::new())?;
    tracing::info!(
        offset,
        transaction = record.unique_id,
        "a transaction was committed before the last stop; it is noted as ended"
    );
    Ok(false)
}

/// Stores the half again at the end of its queue, and names the old one as ended, in one append.
fn move_on(broker: &Arc<Broker>, offset: u64, half: &Half) -> Result<(), AppendError> {
    let transactions = &broker.transactions;
    let Some(bytes) = read(broker, offset, half) else {
        return Ok(());
    };
    let Some(record) = understood(&bytes) else {
        return Ok(());
    };
    if !half.verified && !verify(broker, offset, half, &record)? {
        return Ok(());
    }
    let Ok(mut taken) = transactions.take(offset, half.physical) else {
        return Ok(());
    };
    let properties = record.properties_after(taken.half.times);
    let copy = record.message(topic::TRANS_HALF, QUEUE, &properties);
    let half = taken.half.clone();
    let appended = transactions.end(broker, &mut [&mut taken], vec![copy])?;
    transactions.enter_copy(&appended[0], half);
    Counters::add(&transactions.counters.moved);
    tracing::info!(
        from = offset,
        to = appended[0].queue_offset,
        transaction = record.unique_id,
        "a pending transaction was stored again: it would expire, or hold up a start"
    );
    Ok(())
}

/// The message goes where an operator finds it. Java 5.3: `DefaultTransactionalMessageCheckListener.resolveDiscardMsg`.
fn give_up(
    broker: &Arc<Broker>,
    rules: &Rules,
    offset: u64,
    half: &Half,
) -> Result<(), AppendError> {
    let transactions = &broker.transactions;
    let Some(bytes) = read(broker, offset, half) else {
        return Ok(());
    };
    let Some(record) = understood(&bytes) else {
        return Ok(());
    };
    if !half.verified && !verify(broker, offset, half, &record)? {
        return Ok(());
    }
    if let Err(error) = keep_topic(broker) {
        tracing::error!(%error, topic = topic::TRANS_CHECK_MAX_TIME, "cannot write the topic of transactions that are given up; trying again");
        rest(transactions, offset, rules.now_ms, NO_PRODUCER_REST_MS);
        return Ok(());
    }
    let Ok(mut taken) = transactions.take(offset, half.physical) else {
        return Ok(());
    };
    let properties = record.properties_after(taken.half.times);
    let given_up: NewMessage<'_> = record.message(topic::TRANS_CHECK_MAX_TIME, QUEUE, &properties);
    let appended = transactions.end(broker, &mut [&mut taken], vec![given_up])?;
    Counters::add(&transactions.counters.given_up);
    tracing::error!(
        topic = record.real_topic,
        group = record.group,
        transaction = record.unique_id,
        checks = half.times,
        age_ms = rules.now_ms - half.stored_ms,
        given_up_offset = appended[0].queue_offset,
        "nobody says how a transaction ended; its message is in TRANS_CHECK_MAX_TIME_TOPIC and is not delivered"
    );
    Ok(())
}

/// Java 5.3: `TopicConfigManager.createTopicOfTranCheckMaxTime`.
fn keep_topic(broker: &Broker) -> io::Result<()> {
    if broker
        .topics
        .find(topic::TRANS_CHECK_MAX_TIME)
        .is_some_and(|found| found.is_durable)
    {
        return Ok(());
    }
    let mut config = topics::new_config(topic::TRANS_CHECK_MAX_TIME, 1, 0);
    config.perm = perm::READ | perm::WRITE;
    let (config, created) = broker.topics.create_if_absent(config);
    if created {
        broker.topic_changed(&config);
    }
    broker.topics.commit()
}

/// The record of a half. One that is gone is a loss, which the log and a counter tell; it is pending no more.
fn read(broker: &Broker, offset: u64, half: &Half) -> Option<Bytes> {
    let transactions = &broker.transactions;
    match broker.store.record_at(half.physical) {
        Ok(Some(bytes)) if understood(&bytes).is_some() => Some(bytes),
        // Stored a moment ago, and not flushed yet.
        Ok(None) if half.physical >= broker.store.flushed() => None,
        Ok(_) => {
            lost(broker, offset, half);
            None
        }
        Err(error) => {
            tracing::error!(%error, offset, "the record of a pending transaction cannot be read; trying again");
            rest(transactions, offset, broker.now_ms(), NO_PRODUCER_REST_MS);
            None
        }
    }
}

fn lost(broker: &Broker, offset: u64, half: &Half) {
    let transactions = &broker.transactions;
    let Ok(mut taken) = transactions.take(offset, half.physical) else {
        return;
    };
    let mut ending: [&mut Taken; 1] = [&mut taken];
    if transactions.end(broker, &mut ending, Vec::new()).is_ok() {
        Counters::add(&transactions.counters.lost);
        tracing::error!(
            offset,
            physical = half.physical,
            group = &*half.group,
            "the record of a pending transaction is not in the log any more; its message is lost"
        );
    }
}

fn understood(bytes: &Bytes) -> Option<HalfRecord<'_>> {
    let record = record::decode(bytes, CheckBody::No).ok()?;
    HalfRecord::of(record)
}
