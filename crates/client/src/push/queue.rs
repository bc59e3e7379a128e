//! The consumption of one queue: pull, call the listener, and what becomes of messages that it does not take.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use protocol::body::ProcessQueueInfo;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{ConsumeResult, Core, Lock, MessageModel};
use crate::broker_calls::{PullCall, PullFound, SUSPEND};
use crate::error::Error;
use crate::instance::now_ms;
use crate::message::{MessageQueue, Received};
use crate::process_queue::ProcessQueue;
use crate::rebalance;

/// Messages pulled and not consumed, a queue: pulling pauses above it.
const PENDING_MESSAGES_MAX: usize = 1000;
/// Bytes pulled and not consumed, a queue: pulling pauses above it.
const PENDING_BYTES_MAX: usize = 100 << 20;
/// Messages that one pull asks for.
const PULL_BATCH: i32 = 32;
/// Pause after a pull that failed.
const PULL_FAILED_PAUSE: Duration = Duration::from_secs(3);
/// Pause before a message that nobody took back is consumed again here.
const CONSUME_AGAIN_PAUSE: Duration = Duration::from_secs(5);
/// How often a message comes back to a concurrent consumer until it is a dead letter.
const RECONSUME_TIMES_MAX: i32 = 16;

/// How far one queue is pulled and consumed.
pub(super) struct Progress {
    pending: Mutex<ProcessQueue>,
    /// When the last message was consumed, in ms since 1970; at first, when the queue was taken.
    consumed_ms: AtomicI64,
    pulled_ms: AtomicI64,
    /// A message was consumed, so there is room or nothing left.
    consumed: Notify,
}

impl Progress {
    pub(super) fn new(start: i64) -> Self {
        Self {
            pending: Mutex::new(ProcessQueue::new(start)),
            consumed_ms: AtomicI64::new(now_ms()),
            pulled_ms: AtomicI64::new(0),
            consumed: Notify::new(),
        }
    }

    /// What the queue's account says.
    pub(super) fn info(&self) -> ProcessQueueInfo {
        self.with(|pending| {
            let (oldest, newest) = pending.ends().unwrap_or_default();
            ProcessQueueInfo {
                cached_msg_count: i32::try_from(pending.count()).unwrap_or(i32::MAX),
                cached_msg_min_offset: oldest,
                cached_msg_max_offset: newest,
                cached_msg_size_in_mi_b: (pending.bytes() >> 20) as i32,
                commit_offset: pending.commit_offset(),
                last_consume_timestamp: self.consumed_ms.load(Ordering::Relaxed),
                last_pull_timestamp: self.pulled_ms.load(Ordering::Relaxed),
                ..ProcessQueueInfo::default()
            }
        })
    }

    fn with<R>(&self, f: impl FnOnce(&mut ProcessQueue) -> R) -> R {
        f(&mut self.pending.lock().expect("no holder panics"))
    }
}

/// The consumption of one queue, from its assignment to its release.
#[derive(Clone)]
pub(super) struct QueueRun {
    pub(super) core: Arc<Core>,
    pub(super) queue: MessageQueue,
    pub(super) progress: Arc<Progress>,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) lock: Arc<Lock>,
}

impl QueueRun {
    pub(super) async fn run(self) {
        let mut listeners = JoinSet::new();
        while !self.stopped() {
            if !self.has_room().await || !self.has_lock().await {
                continue;
            }
            let mut stop = self.stop.clone();
            let pulled = tokio::select! {
                _ = stop.changed() => break,
                pulled = self.pull() => pulled,
            };
            match pulled {
                Ok(messages) if self.core.settings.orderly => self.consume_in_order(messages).await,
                Ok(messages) => self.consume_concurrently(messages, &mut listeners).await,
                Err(error) => {
                    tracing::warn!(queue = %self.queue, %error, "pull failed");
                    // The broker may have moved; what fails here is asked again by the next pull's failure.
                    drop(self.core.instance.fetch_route(&self.queue.topic).await);
                    self.pause(PULL_FAILED_PAUSE).await;
                }
            }
        }
        // The caller bounds the wait; the set's tasks end with it.
        while listeners.join_next().await.is_some() {}
    }

    fn stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Sleeps, or returns at once when the queue is to be released.
    async fn pause(&self, duration: Duration) {
        let mut stop = self.stop.clone();
        if !self.stopped() {
            tokio::select! {
                _ = stop.changed() => {}
                () = sleep(duration) => {}
            }
        }
    }

    async fn has_room(&self) -> bool {
        let full = self.progress.with(|pending| {
            pending.count() >= PENDING_MESSAGES_MAX || pending.bytes() >= PENDING_BYTES_MAX
        });
        if full {
            let mut stop = self.stop.clone();
            tokio::select! {
                _ = stop.changed() => {}
                () = self.progress.consumed.notified() => {}
            }
        }
        !full
    }

    async fn has_lock(&self) -> bool {
        if !self.core.needs_lock() || self.lock.is_held() {
            return true;
        }
        let mut stop = self.stop.clone();
        tokio::select! {
            _ = stop.changed() => {}
            () = self.lock.granted.notified() => {}
        }
        false
    }

    /// One pull: messages that match, or none. Moves the pull offset on.
    async fn pull(&self) -> Result<Vec<Received>, Error> {
        let core = &self.core;
        let subscription = &core.subscriptions[&self.queue.topic];
        let clustering = core.settings.model == MessageModel::Clustering;
        let (offset, commit) = self
            .progress
            .with(|pending| (pending.next(), pending.commit_offset()));
        let call = PullCall {
            group: &core.settings.group,
            queue: &self.queue,
            offset,
            messages_max: PULL_BATCH,
            selector: None,
            version: subscription.version,
            commit: (clustering && commit > 0).then_some(commit),
            suspend: SUSPEND,
            lite: false,
        };
        self.progress.pulled_ms.store(now_ms(), Ordering::Relaxed);
        let answer = core.instance.pull(&call).await?;
        let messages = match answer.found {
            PullFound::Messages(messages) => messages,
            PullFound::Nothing | PullFound::NoneMatched => Vec::new(),
            PullFound::OffsetMoved => {
                tracing::warn!(
                    queue = %self.queue, asked = offset, next = answer.next_offset,
                    "the broker says where to go on: the offset lies outside the queue, or was reset"
                );
                // What was pulled before lies elsewhere; it must not be committed.
                self.progress
                    .with(|pending| pending.restart(answer.next_offset));
                Vec::new()
            }
        };
        let mut matching: Vec<Received> = messages
            .into_iter()
            .filter(|message| subscription.accepts(message))
            .collect();
        self.progress.with(|pending| {
            pending.add(
                matching
                    .iter()
                    .map(|message| (message.queue_offset, message.body.len())),
                answer.next_offset,
            );
        });
        self.record_progress();
        for message in &mut matching {
            restore_topic(message);
        }
        Ok(matching)
    }

    fn record_progress(&self) {
        let offset = self.progress.with(|pending| pending.commit_offset());
        self.core.offsets.reach(&self.queue, offset);
    }

    fn done(&self, messages: &[i64]) {
        self.progress
            .with(|pending| messages.iter().for_each(|offset| pending.done(*offset)));
        self.progress.consumed_ms.store(now_ms(), Ordering::Relaxed);
        self.record_progress();
        self.progress.consumed.notify_one();
    }

    async fn consume_concurrently(&self, messages: Vec<Received>, listeners: &mut JoinSet<()>) {
        while listeners.try_join_next().is_some() {}
        for chunk in chunks(messages, self.core.settings.batch) {
            let workers = Arc::clone(&self.core.workers);
            let mut stop = self.stop.clone();
            let permit = tokio::select! {
                _ = stop.changed() => return,
                permit = workers.acquire_owned() => permit.expect("the semaphore is never closed"),
            };
            let run = self.clone();
            listeners.spawn(async move {
                run.consume_until_taken(chunk).await;
                drop(permit);
            });
        }
    }

    /// Calls the listener; what it does not take goes back to the broker, or is tried again here.
    async fn consume_until_taken(&self, mut messages: Vec<Received>) {
        loop {
            let offsets: Vec<i64> = messages
                .iter()
                .map(|message| message.queue_offset)
                .collect();
            let delay_level = match (self.core.listener)(messages.clone()).await {
                ConsumeResult::Success => return self.done(&offsets),
                ConsumeResult::Later => 0,
                ConsumeResult::LaterByLevel(level) => level,
            };
            if self.core.settings.model == MessageModel::Broadcasting {
                tracing::warn!(queue = %self.queue, first = offsets[0], "a broadcast message was not consumed");
                return self.done(&offsets);
            }
            messages = self.send_back(messages, delay_level).await;
            if messages.is_empty() {
                return;
            }
            self.pause(CONSUME_AGAIN_PAUSE).await;
            if self.stopped() {
                return;
            }
            for message in &mut messages {
                message.reconsume_times += 1;
            }
        }
    }

    /// Returns the messages that the broker did not take back.
    async fn send_back(&self, messages: Vec<Received>, delay_level: i32) -> Vec<Received> {
        let settings = &self.core.settings;
        let times_max = settings.reconsume_times_max.unwrap_or(RECONSUME_TIMES_MAX);
        let mut kept = Vec::new();
        for message in messages {
            match self
                .core
                .instance
                .send_back(&settings.group, &message, delay_level, times_max)
                .await
            {
                Ok(()) => self.done(&[message.queue_offset]),
                Err(error) => {
                    tracing::warn!(queue = %self.queue, offset = message.queue_offset, %error,
                        "message not taken back, consumed again here");
                    kept.push(message);
                }
            }
        }
        kept
    }

    async fn consume_in_order(&self, messages: Vec<Received>) {
        for mut chunk in chunks(messages, self.core.settings.batch) {
            loop {
                while !self.has_lock().await {
                    if self.stopped() {
                        return;
                    }
                }
                if self.stopped() {
                    return;
                }
                let permit = self
                    .core
                    .workers
                    .acquire()
                    .await
                    .expect("the semaphore is never closed");
                let result = (self.core.listener)(chunk.clone()).await;
                drop(permit);
                if result == ConsumeResult::Success {
                    let offsets: Vec<i64> = chunk.iter().map(|m| m.queue_offset).collect();
                    self.done(&offsets);
                    break;
                }
                chunk = self.give_up_exhausted(chunk).await;
                if chunk.is_empty() {
                    break;
                }
                self.pause(self.core.settings.suspend).await;
            }
        }
    }
}

impl QueueRun {
    /// Sends messages that came too often to the dead letters. Gives those that are to be consumed again, with one time more to their account.
    async fn give_up_exhausted(&self, messages: Vec<Received>) -> Vec<Received> {
        let settings = &self.core.settings;
        let times_max = settings.reconsume_times_max.unwrap_or(i32::MAX);
        let mut kept = Vec::new();
        for mut message in messages {
            if message.reconsume_times < times_max {
                message.reconsume_times += 1;
                kept.push(message);
                continue;
            }
            let given_up = self
                .core
                .instance
                .give_up(&settings.group, &message, times_max);
            match given_up.await {
                Ok(()) => self.done(&[message.queue_offset]),
                Err(error) => {
                    tracing::warn!(queue = %self.queue, offset = message.queue_offset, %error,
                        "message not taken as a dead letter, consumed again");
                    message.reconsume_times = message.reconsume_times.saturating_add(1);
                    kept.push(message);
                }
            }
        }
        kept
    }
}

/// A redelivered message shows the topic that it was sent to.
fn restore_topic(message: &mut Received) {
    if rebalance::is_retry(&message.queue.topic)
        && let Some(topic) = message.property(protocol::properties::RETRY_TOPIC)
    {
        message.topic = topic.to_owned();
    }
}

fn chunks(messages: Vec<Received>, size: usize) -> impl Iterator<Item = Vec<Received>> {
    let mut rest = messages.into_iter().peekable();
    std::iter::from_fn(move || {
        rest.peek()?;
        Some(rest.by_ref().take(size).collect())
    })
}
