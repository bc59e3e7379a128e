//! GET_BROKER_RUNTIME_INFO (28): what `mqadmin brokerStatus` prints and `clusterList` is made of. CLEAN_EXPIRED_CONSUMEQUEUE (306),
//! CLEAN_UNUSED_TOPIC (316), DELETE_EXPIRED_COMMITLOG (329).
//!
//! Keys and the form of values are Java's (5.3: `AdminBrokerProcessor.prepareRuntimeInfo`, `StoreStatsService`). Java's thread
//! pools have no counterpart here; their queues are told as empty, since tools expect the keys.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use protocol::body::KvTable;
use protocol::code::RequestCode;
use protocol::{json, light, topic};

use crate::Broker;
use crate::call::{Call, Entry, Kind, Refusal, Reply};

pub(crate) const HANDLERS: &[Entry] = &[
    (
        RequestCode::GET_BROKER_RUNTIME_INFO,
        Kind::Blocking,
        runtime_info,
    ),
    (
        RequestCode::CLEAN_EXPIRED_CONSUMEQUEUE,
        Kind::Blocking,
        clean_expired_queues,
    ),
    (
        RequestCode::CLEAN_UNUSED_TOPIC,
        Kind::Blocking,
        clean_unused_topics,
    ),
    (
        RequestCode::DELETE_EXPIRED_COMMITLOG,
        Kind::Blocking,
        delete_expired_segments,
    ),
];

/// Java's thread pools, by the first part of their keys.
const THREAD_POOLS: [&str; 5] = ["send", "pull", "litePull", "query", "ack"];

const SECOND_MS: i64 = 1000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

fn runtime_info(broker: &Broker, _: &Call<'_>) -> Result<Reply, Refusal> {
    let mut table = BTreeMap::new();
    {
        let mut put = |key: &str, value: String| table.insert(key.to_owned(), value);
        put_broker(broker, &mut put);
        put_store(broker, &mut put);
        put_schedule(broker, &mut put);
        put_pop(broker, &mut put);
        put_transactions(broker, &mut put);
        put_timers(broker, &mut put);
        put_placeholders(&mut put);
    }
    Ok(Reply::ok().body(json::encode(&KvTable { table })))
}

fn put_broker(broker: &Broker, put: &mut impl FnMut(&str, String) -> Option<String>) {
    let counters = &broker.counters;
    let (messages, bytes) = (counters.messages_in(), counters.bytes_in());
    broker
        .rates
        .sample(broker.now_ms(), messages, counters.messages_out());
    put("brokerActive", "true".to_owned());
    put("brokerVersion", protocol::version::CURRENT.to_string());
    put(
        "brokerVersionDesc",
        protocol::version::describe(protocol::version::CURRENT),
    );
    put("bootTimestamp", broker.started_at_ms().to_string());
    put("runtime", runtime(broker.now_ms() - broker.started_at_ms()));
    put("startAcceptSendRequestTimeStamp", "0".to_owned());
    // Counted since the broker started: yesterday's figures are those of a day on which it did not run.
    for key in [
        "msgPutTotalYesterdayMorning",
        "msgPutTotalTodayMorning",
        "msgGetTotalYesterdayMorning",
        "msgGetTotalTodayMorning",
    ] {
        put(key, "0".to_owned());
    }
    put("msgPutTotalTodayNow", messages.to_string());
    put("msgGetTotalTodayNow", counters.messages_out().to_string());
    put("putMessageTimesTotal", messages.to_string());
    put("putMessageSizeTotal", bytes.to_string());
    put(
        "putMessageAverageSize",
        format!("{:?}", bytes as f64 / messages.max(1) as f64),
    );
    put("putTps", broker.rates.put());
    put("getTransferredTps", broker.rates.got());
    put("getTotalTps", broker.rates.got());
    put("getFoundTps", broker.rates.got());
}

fn put_store(broker: &Broker, put: &mut impl FnMut(&str, String) -> Option<String>) {
    let stats = broker.store.stats();
    put("commitLogMinOffset", stats.commit_log_min.to_string());
    put("commitLogMaxOffset", stats.commit_log_max.to_string());
    put(
        "commitLogDiskRatio",
        format!("{:?}", stats.commit_log_disk_ratio),
    );
    put(
        "consumeQueueDiskRatio",
        format!("{:?}", stats.queue_disk_ratio),
    );
    // Consumers see the entries that are still on their way to the files.
    put("dispatchBehindBytes", "0".to_owned());
    put(
        "earliestMessageTimeStamp",
        stats.earliest_store_timestamp_ms.to_string(),
    );
    put(
        "remainHowManyDataToFlush",
        readable(stats.commit_log_max.saturating_sub(stats.flushed)),
    );
    if let Some(dir) = broker.config_dir().parent()
        && let Ok(space) = broker.context().disk.space(dir)
    {
        let (total, free) = (readable(space.total_bytes), readable(space.free_bytes));
        put(
            "commitLogDirCapacity",
            format!("Total : {total}, Free : {free}."),
        );
    }
}

/// What groups have popped.
fn put_pop(broker: &Broker, put: &mut impl FnMut(&str, String) -> Option<String>) {
    let figures = &broker.pop.figures;
    let in_flight = figures.in_flight.load(Ordering::Relaxed);
    put("popInFlightMessages", in_flight.to_string());
    put("popPollingRequests", broker.pop.waiting.len().to_string());
    for (key, figure) in [
        ("popMessagesTotal", &figures.popped),
        ("popAcknowledgedTotal", &figures.acknowledged),
        ("popStaleAcknowledgementsTotal", &figures.stale),
        ("popRetriedTotal", &figures.retried),
        ("popDeadLettersTotal", &figures.dead),
    ] {
        put(key, figure.load(Ordering::Relaxed).to_string());
    }
}

/// How far each delay level is delivered, and how far its queue goes.
fn put_schedule(broker: &Broker, put: &mut impl FnMut(&str, String) -> Option<String>) {
    for (level, offset, end) in broker.schedule.progress().filter(|(_, _, end)| *end > 0) {
        put(
            &format!("scheduleMessageOffset_{level}"),
            format!("{offset},{end}"),
        );
    }
}

/// Transactions that wait for their end, and how others ended since the start. Java has none of these.
fn put_transactions(broker: &Broker, put: &mut impl FnMut(&str, String) -> Option<String>) {
    let transactions = &broker.transactions;
    let oldest_ms = transactions.oldest_ms();
    let age_ms = oldest_ms.map_or(0, |oldest_ms| (broker.now_ms() - oldest_ms).max(0));
    put("transactionPending", transactions.pending().to_string());
    put("transactionOldestAgeMs", age_ms.to_string());
    let counters = transactions.counters();
    for (key, counter) in [
        ("transactionCommitted", &counters.committed),
        ("transactionRolledBack", &counters.rolled_back),
        ("transactionUnknown", &counters.unknown),
        ("transactionChecks", &counters.checks),
        ("transactionGivenUp", &counters.given_up),
        ("transactionMoved", &counters.moved),
        ("transactionLost", &counters.lost),
        ("transactionWithoutProducer", &counters.without_producer),
    ] {
        put(key, counter.load(Ordering::Relaxed).to_string());
    }
}

/// How many timer messages wait, and how far behind their delivery is. Java's texts of rates have as many digits as a `float` needs.
fn put_timers(broker: &Broker, put: &mut impl FnMut(&str, String) -> Option<String>) {
    let figures = broker.timers.as_ref().map(|timers| timers.figures());
    let number = |value: Option<i64>| value.unwrap_or(0).to_string();
    let rate = |value: Option<f64>| format!("{:?}", value.unwrap_or(0.0) as f32);
    put(
        "timerReadBehind",
        number(figures.map(|figures| figures.read_behind_s)),
    );
    put(
        "timerOffsetBehind",
        number(figures.map(|figures| figures.offset_behind)),
    );
    put(
        "timerCongestNum",
        number(figures.map(|figures| figures.waiting)),
    );
    put(
        "timerEnqueueTps",
        rate(figures.map(|figures| figures.enqueue_tps)),
    );
    put(
        "timerDequeueTps",
        rate(figures.map(|figures| figures.dequeue_tps)),
    );
}

/// What tools read and this broker has nothing of.
fn put_placeholders(put: &mut impl FnMut(&str, String) -> Option<String>) {
    for pool in THREAD_POOLS {
        for (what, value) in [("Size", "0"), ("Capacity", "0"), ("HeadWaitTimeMills", "0")] {
            put(&format!("{pool}ThreadPoolQueue{what}"), value.to_owned());
        }
    }
    put("EndTransactionQueueSize", "0".to_owned());
    put("EndTransactionThreadPoolQueueCapacity", "0".to_owned());
    put("pageCacheLockTimeMills", "0".to_owned());
    put("remainTransientStoreBufferNumbs", i32::MAX.to_string());
    put("putMessageFailedTimes", "0".to_owned());
    put("getMissTps", "0.0 0.0 0.0".to_owned());
}

/// `[ 0 days, 1 hours, 2 minutes, 3 seconds ]`
fn runtime(ms: i64) -> String {
    format!(
        "[ {} days, {} hours, {} minutes, {} seconds ]",
        ms / DAY_MS,
        ms % DAY_MS / HOUR_MS,
        ms % HOUR_MS / MINUTE_MS,
        ms % MINUTE_MS / SECOND_MS
    )
}

/// Bytes as Java prints them: `1.5 KiB`.
fn readable(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = UNITS[0];
    for larger in &UNITS[1..] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    format!("{value:.1} {unit}")
}

fn clean_expired_queues(broker: &Broker, _: &Call<'_>) -> Result<Reply, Refusal> {
    broker.store.clean_expired_queues();
    Ok(Reply::ok())
}

fn delete_expired_segments(broker: &Broker, _: &Call<'_>) -> Result<Reply, Refusal> {
    broker.store.delete_expired_segments();
    Ok(Reply::ok())
}

/// Removes the queues of topics that no table knows any more.
fn clean_unused_topics(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    for name in broker.store.topics() {
        // Light queues are in no table.
        let is_known = topic::is_system(&name) || light::is_light(&name);
        if !is_known && broker.topics.get(&name).is_none() {
            tracing::info!(topic = &*name, by = %call.connection.peer(), "the queues of an unknown topic are removed");
            broker.store.delete_topic(&name);
        }
    }
    Ok(Reply::ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_in_java() {
        assert_eq!(
            runtime(DAY_MS + 2 * HOUR_MS + 3 * MINUTE_MS + 4999),
            "[ 1 days, 2 hours, 3 minutes, 4 seconds ]"
        );
        assert_eq!(readable(0), "0 B");
        assert_eq!(readable(1536), "1.5 KiB");
        assert_eq!(readable(5 << 30), "5.0 GiB");
    }
}
