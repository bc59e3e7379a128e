//! Compaction topics (`cleanup.policy=COMPACTION`): which queues are compacted when, and what the log keeps until then.
//!
//! The store compacts one queue a call ([`storage::Store::compact`]). Here is the round over all of them, every `compactionScheduleInternal`, and before
//! its time when expired segments wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use protocol::body::TopicConfig;
use storage::{CompactionError, CompactionLimits};

use crate::Broker;
use crate::config::BrokerKeys;
use crate::topics::is_batch;

/// How often it is looked whether a round is due.
const LOOK: Duration = Duration::from_secs(10);
/// The first round after a start comes no later: a broker that is often restarted compacts as well.
const FIRST: Duration = Duration::from_secs(60);
/// Part of the log's retention after which messages are taken however few they are.
const WAITS_OF_RETENTION: u64 = 4;
/// The topic attribute that says what becomes of a topic's old messages.
const CLEANUP_POLICY: &str = "cleanup.policy";

/// Whether only the latest message of each key is kept. Not of a topic whose records may hold several messages with keys of their own: one that is created here
/// is not both, and one from elsewhere keeps everything.
pub(crate) fn is_compaction(config: &TopicConfig) -> bool {
    let policy = config.attributes.get(CLEANUP_POLICY);
    policy.is_some_and(|policy| policy == "COMPACTION") && !is_batch(config)
}

/// Compacts as long as the broker lives.
pub(crate) async fn run(broker: Arc<Broker>) {
    let interval =
        |broker: &Broker| Duration::from_millis(broker.keys().compaction_schedule_internal);
    let mut due = Instant::now() + interval(&broker).min(FIRST);
    loop {
        let is_wanted = broker.store.is_compaction_wanted();
        if is_wanted || Instant::now() >= due {
            round(&broker).await;
            due = Instant::now() + interval(&broker);
        } else {
            let before = broker.store.flushed();
            if queues(&broker).is_empty() {
                broker.store.release_for_compaction(before);
            }
        }
        let wait = due.saturating_duration_since(Instant::now());
        tokio::time::sleep(wait.min(LOOK)).await;
    }
}

/// Every queue of the topics with that policy, also those that the topic has no more.
fn queues(broker: &Broker) -> Vec<(String, i32)> {
    let topics = broker.topics.all();
    let topics = topics.iter().filter(|config| is_compaction(config));
    topics
        .flat_map(|config| {
            let name = &config.topic_name;
            let queues = broker.store.queues_of(name);
            queues.into_iter().map(|queue_id| (name.clone(), queue_id))
        })
        .collect()
}

fn limits(keys: &BrokerKeys, threads: usize) -> CompactionLimits {
    let memory = usize::try_from(keys.max_offset_map_size).unwrap_or(usize::MAX);
    let reserved_ms = keys.file_reserved_time.saturating_mul(3_600_000);
    CompactionLimits {
        keys_bytes_max: memory / threads,
        wait_ms_max: i64::try_from(reserved_ms / WAITS_OF_RETENTION).unwrap_or(i64::MAX),
    }
}

/// Compacts all queues, some side by side, and lets go of the log below what waits.
async fn round(broker: &Arc<Broker>) {
    // First: what comes from here on lies behind it, topics that are created meanwhile included.
    let before = broker.store.flushed();
    let queues = Arc::new(queues(broker));
    let keys = broker.keys();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (keys.compaction_thread_num as usize).clamp(1, processors);
    let limits = limits(&keys, threads);
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = Vec::new();
    for _ in 0..threads.min(queues.len()) {
        let (broker, queues, next) = (broker.clone(), queues.clone(), next.clone());
        workers.push(tokio::task::spawn_blocking(move || {
            let mut keep_from = before;
            while let Some((topic, queue_id)) = queues.get(next.fetch_add(1, Ordering::Relaxed)) {
                keep_from = keep_from.min(compact(&broker, topic, *queue_id, &limits, before));
            }
            keep_from
        }));
    }
    let mut keep_from = before;
    for worker in workers {
        match worker.await {
            Ok(kept_from) => keep_from = keep_from.min(kept_from),
            // A panic in a task is a bug; it goes on where it would have been seen without the task.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return,
        }
    }
    broker.store.release_for_compaction(keep_from);
}

/// Compacts one queue. Gives the position from which on the log must keep its messages, `before` when it needs nothing below that.
fn compact(
    broker: &Broker,
    topic: &str,
    queue_id: i32,
    limits: &CompactionLimits,
    before: u64,
) -> u64 {
    let began = Instant::now();
    match broker.store.compact(topic, queue_id, limits) {
        Ok(outcome) => {
            if outcome.passes > 0 {
                tracing::info!(
                    topic,
                    queue_id,
                    passes = outcome.passes,
                    taken = outcome.taken,
                    dropped = outcome.dropped,
                    kept = outcome.kept,
                    kept_bytes = outcome.kept_bytes,
                    took_ms = began.elapsed().as_millis() as u64,
                    "compacted a queue"
                );
            }
            outcome.waits_from.unwrap_or(before)
        }
        Err(CompactionError::Closed) => 0,
        Err(error) => {
            tracing::error!(
                topic,
                queue_id,
                %error,
                "a queue could not be compacted; its messages stay in the log, which keeps its segments until the next round succeeds"
            );
            0
        }
    }
}
