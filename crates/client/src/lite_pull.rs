//! The consumer that the caller polls: queues are shared within the group, or assigned by the caller.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use protocol::body::{ConsumeMessageDirectlyResult, ProcessQueueInfo};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::asked::{Answer, Asked, Inside};
use crate::broker_calls::{PullCall, PullFound, SUSPEND};
use crate::error::{ConsumeError, Error};
use crate::instance::{Instance, now_ms};
use crate::message::{MessageQueue, Received};
use crate::offsets::{Home, Offsets};
use crate::push::{MessageModel, StartFrom};
use crate::rebalance::{self, Subscription};
use crate::selector::MessageSelector;

/// Fetched batches that wait for a poll, over all queues: fetching pauses above it.
const FETCHED_BATCHES_MAX: usize = 64;
/// Messages that one pull asks for.
const PULL_BATCH: i32 = 32;
/// How often offsets are committed by themselves.
const COMMIT_PERIOD: Duration = Duration::from_secs(5);
/// Pause after a pull that failed.
const PULL_FAILED_PAUSE: Duration = Duration::from_secs(3);

/// Settings of a [`LitePullConsumer`].
#[derive(Clone, Debug)]
pub struct LitePullConsumerBuilder {
    group: String,
    nameservers: String,
    subscriptions: Vec<(String, MessageSelector)>,
    assigned: Vec<MessageQueue>,
    start: StartFrom,
    auto_commit: bool,
}

/// Hands out messages as they are polled for.
///
/// A message counts as consumed when the poll after the one that returned it is made, or when [`commit`] is called.
///
/// [`commit`]: Self::commit
pub struct LitePullConsumer {
    core: Arc<Core>,
    fetched: tokio::sync::Mutex<mpsc::Receiver<Batch>>,
    tasks: Vec<JoinHandle<()>>,
}

struct Core {
    settings: LitePullConsumerBuilder,
    subscriptions: BTreeMap<String, Subscription>,
    instance: Arc<Instance>,
    offsets: Offsets,
    fetches: Mutex<HashMap<MessageQueue, Fetch>>,
    /// The generation of the next fetch.
    generations: AtomicU64,
    deliver: mpsc::Sender<Batch>,
    /// Where consumption stands after the last poll, not yet counted as consumed.
    polled: Mutex<HashMap<MessageQueue, i64>>,
    started_ms: i64,
    stopping: watch::Sender<bool>,
}

/// The fetching of one queue. A seek, or taking a queue again, starts another of a new generation, and what the old one
/// fetched is dropped.
struct Fetch {
    generation: u64,
    task: JoinHandle<()>,
}

struct Batch {
    queue: MessageQueue,
    generation: u64,
    messages: Vec<Received>,
    next: i64,
}

impl LitePullConsumerBuilder {
    /// Adds a topic whose queues the group shares. `selector` is `"*"`, tags joined by `||`, or [`MessageSelector::by_sql`].
    #[must_use]
    pub fn subscribe(
        mut self,
        topic: impl Into<String>,
        selector: impl Into<MessageSelector>,
    ) -> Self {
        self.subscriptions.push((topic.into(), selector.into()));
        self
    }

    /// Reads these queues and no others, whoever else reads them.
    #[must_use]
    pub fn assign(mut self, queues: impl IntoIterator<Item = MessageQueue>) -> Self {
        self.assigned.extend(queues);
        self
    }

    /// Where to begin in a queue that the group never consumed. Default: with new messages.
    #[must_use]
    pub fn start_from(mut self, start: StartFrom) -> Self {
        self.start = start;
        self
    }

    /// With `false`, offsets move only by [`LitePullConsumer::commit`]. Default `true`.
    #[must_use]
    pub fn auto_commit(mut self, auto_commit: bool) -> Self {
        self.auto_commit = auto_commit;
        self
    }

    /// Starts fetching.
    ///
    /// # Errors
    /// When neither or both of subscriptions and queues are given, a topic has no route, or a broker does not take an
    /// expression.
    pub async fn start(self) -> Result<LitePullConsumer, ConsumeError> {
        if self.subscriptions.is_empty() == self.assigned.is_empty() {
            return Err(ConsumeError::Configuration {
                group: self.group,
                reason: "give it topics to subscribe to, or queues to read, and not both"
                    .to_owned(),
            });
        }
        let instance = Instance::new(&self.nameservers)?;
        let (deliver, fetched) = mpsc::channel(FETCHED_BATCHES_MAX);
        let core = Arc::new(Core::new(self, instance, deliver)?);
        let answers = Arc::downgrade(&core);
        core.instance.answer_by(answers);
        core.announce().await?;
        core.instance.start();
        let tasks = vec![
            tokio::spawn(Arc::clone(&core).rebalance_loop()),
            tokio::spawn(Arc::clone(&core).commit_loop()),
        ];
        Ok(LitePullConsumer {
            core,
            fetched: tokio::sync::Mutex::new(fetched),
            tasks,
        })
    }
}

impl LitePullConsumer {
    /// A consumer of `group`; `nameservers` is `host:port`, several separated by `;`.
    pub fn builder(
        group: impl Into<String>,
        nameservers: impl Into<String>,
    ) -> LitePullConsumerBuilder {
        LitePullConsumerBuilder {
            group: group.into(),
            nameservers: nameservers.into(),
            subscriptions: Vec::new(),
            assigned: Vec::new(),
            start: StartFrom::Newest,
            auto_commit: true,
        }
    }

    /// The next messages, of one queue and in order; empty when none came within `wait`.
    ///
    /// What the poll before returned counts as consumed from here on.
    pub async fn poll(&self, wait: Duration) -> Vec<Received> {
        if self.core.settings.auto_commit {
            self.core.count_polled();
        }
        let mut fetched = self.fetched.lock().await;
        let next = async {
            loop {
                let batch = fetched.recv().await?;
                if let Some(messages) = self.core.accept(batch) {
                    return Some(messages);
                }
            }
        };
        timeout(wait, next).await.ok().flatten().unwrap_or_default()
    }

    /// The queues that are read now.
    pub fn assigned(&self) -> Vec<MessageQueue> {
        let fetches = self.core.fetches.lock().expect("no holder panics");
        let mut queues: Vec<_> = fetches.keys().cloned().collect();
        queues.sort();
        queues
    }

    /// Goes on at `offset` of a queue that is read now. Messages fetched before are dropped.
    ///
    /// # Errors
    /// [`Error::Invalid`] when this consumer does not read the queue.
    pub fn seek(&self, queue: &MessageQueue, offset: i64) -> Result<(), Error> {
        if self.core.seek(queue, offset) {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "{queue} is not read by this consumer"
        )))
    }

    /// Counts everything polled so far as consumed, and tells the brokers.
    pub async fn commit(&self) {
        self.core.count_polled();
        self.core.offsets.persist().await;
    }

    /// Commits what was polled, when it commits by itself, and leaves the group.
    pub async fn shutdown(self) {
        self.core.stopping.send_replace(true);
        for task in self.tasks {
            drop(task.await);
        }
        if self.core.settings.auto_commit {
            self.core.count_polled();
        }
        for (_, fetch) in self.core.fetches.lock().expect("no holder panics").drain() {
            fetch.task.abort();
        }
        self.core.offsets.persist().await;
        self.core.instance.shutdown().await;
    }
}

impl Asked for Core {
    fn group(&self) -> &str {
        &self.settings.group
    }

    fn reset(self: Arc<Self>, offsets: Vec<(MessageQueue, i64)>) {
        for (queue, offset) in offsets {
            self.seek(&queue, offset);
        }
    }

    fn offsets(&self, topic: &str) -> Vec<(MessageQueue, i64)> {
        self.offsets.of(topic)
    }

    fn inside(&self) -> Inside {
        let properties = [
            ("PROP_CONSUME_TYPE", "CONSUME_ACTIVELY".to_owned()),
            ("PROP_CONSUMER_START_TIMESTAMP", self.started_ms.to_string()),
            ("consumerGroup", self.settings.group.clone()),
        ];
        let properties = properties.map(|(name, value)| (name.to_owned(), value));
        let fetches = self.fetches.lock().expect("no holder panics");
        let queues = fetches.keys().map(|queue| {
            let info = ProcessQueueInfo {
                commit_offset: self.offsets.reached(queue).unwrap_or(-1),
                ..ProcessQueueInfo::default()
            };
            (queue.clone(), info)
        });
        Inside {
            properties: BTreeMap::from(properties),
            subscriptions: self
                .subscriptions
                .values()
                .map(Subscription::to_wire)
                .collect(),
            queues: queues.collect(),
        }
    }

    fn consume(self: Arc<Self>, _: Received) -> Option<Answer<ConsumeMessageDirectlyResult>> {
        None
    }
}

impl Core {
    fn new(
        settings: LitePullConsumerBuilder,
        instance: Arc<Instance>,
        deliver: mpsc::Sender<Batch>,
    ) -> Result<Self, Error> {
        let mut subscriptions: BTreeMap<String, Subscription> = settings
            .subscriptions
            .iter()
            .map(|(topic, selector)| (topic.clone(), Subscription::new(topic, selector.clone())))
            .collect();
        for queue in &settings.assigned {
            let topic = &queue.topic;
            subscriptions
                .entry(topic.clone())
                .or_insert_with(|| Subscription::new(topic, "*"));
        }
        Ok(Self {
            offsets: Offsets::open(&settings.group, Home::Brokers(Arc::clone(&instance)))?,
            fetches: Mutex::default(),
            generations: AtomicU64::new(0),
            polled: Mutex::default(),
            started_ms: now_ms(),
            stopping: watch::Sender::new(false),
            settings,
            subscriptions,
            instance,
            deliver,
        })
    }

    async fn announce(&self) -> Result<(), Error> {
        let all: Vec<Subscription> = self.subscriptions.values().cloned().collect();
        let data = rebalance::consumer_data(
            &self.settings.group,
            MessageModel::Clustering,
            self.settings.start,
            true,
            &all,
        );
        self.instance
            .identify(|identity| identity.consumer_data_set.push(data));
        for topic in self.subscriptions.keys() {
            self.instance.fetch_route(topic).await?;
        }
        for subscription in &all {
            let group = &self.settings.group;
            self.instance
                .check_subscription(group, subscription)
                .await?;
        }
        Ok(())
    }

    async fn rebalance_loop(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        while !*stopping.borrow() {
            if self.settings.assigned.is_empty() {
                self.rebalance().await;
            } else {
                self.take(&self.settings.assigned, |_| true).await;
            }
            tokio::select! {
                _ = stopping.changed() => return,
                () = self.instance.rebalance_signal().notified() => {}
                () = sleep(rebalance::PERIOD) => {}
            }
        }
    }

    async fn commit_loop(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        // A consumer may stop before this task runs for the first time: then nothing changes any more.
        while !*stopping.borrow() {
            tokio::select! {
                _ = stopping.changed() => return,
                () = sleep(COMMIT_PERIOD) => self.offsets.persist().await,
            }
        }
    }

    async fn rebalance(self: &Arc<Self>) {
        for topic in self.subscriptions.keys() {
            let group = &self.settings.group;
            match rebalance::share(&self.instance, group, topic, MessageModel::Clustering).await {
                Ok(share) => self.take(&share, |queue| queue.topic == *topic).await,
                Err(error) => tracing::warn!(topic, %error, "queues stay as they are"),
            }
        }
    }

    /// Reads `share`, and stops reading other queues that are `ours` to decide about.
    async fn take(self: &Arc<Self>, share: &[MessageQueue], ours: impl Fn(&MessageQueue) -> bool) {
        let wanted: HashSet<&MessageQueue> = share.iter().collect();
        let gone: Vec<(MessageQueue, Fetch)> = {
            let mut fetches = self.fetches.lock().expect("no holder panics");
            fetches
                .extract_if(|queue, _| ours(queue) && !wanted.contains(queue))
                .collect()
        };
        for (queue, fetch) in gone {
            fetch.task.abort();
            self.offsets.release(&queue).await;
            self.polled.lock().expect("no holder panics").remove(&queue);
        }
        for queue in share {
            let is_known = self
                .fetches
                .lock()
                .expect("no holder panics")
                .contains_key(queue);
            if is_known {
                continue;
            }
            match self.start_offset(queue).await {
                Ok(start) => {
                    // Under the lock: a batch that comes before its fetch is known would be dropped as stale.
                    let mut fetches = self.fetches.lock().expect("no holder panics");
                    fetches.insert(queue.clone(), self.fetch(queue, start));
                }
                Err(error) => tracing::warn!(%queue, %error, "queue not begun, tried again later"),
            }
        }
    }

    async fn start_offset(&self, queue: &MessageQueue) -> Result<i64, Error> {
        match self.offsets.load(queue).await? {
            Some(offset) => Ok(offset),
            None => rebalance::first_offset(&self.instance, queue, self.settings.start).await,
        }
    }

    /// Begins to fetch. The caller holds `fetches` until it has put the result there.
    fn fetch(self: &Arc<Self>, queue: &MessageQueue, start: i64) -> Fetch {
        let generation = self.generations.fetch_add(1, Ordering::Relaxed);
        let task = tokio::spawn(Arc::clone(self).fetch_loop(queue.clone(), start, generation));
        Fetch { generation, task }
    }

    async fn fetch_loop(self: Arc<Self>, queue: MessageQueue, start: i64, generation: u64) {
        let subscription = &self.subscriptions[&queue.topic];
        let mut next = start;
        loop {
            let call = PullCall {
                group: &self.settings.group,
                queue: &queue,
                offset: next,
                messages_max: PULL_BATCH,
                selector: Some(&subscription.selector),
                version: subscription.version,
                commit: None,
                suspend: SUSPEND,
                lite: true,
            };
            let answer = match self.instance.pull(&call).await {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::warn!(%queue, %error, "pull failed");
                    // The broker may have moved; what fails here is asked again by the next pull's failure.
                    drop(self.instance.fetch_route(&queue.topic).await);
                    sleep(PULL_FAILED_PAUSE).await;
                    continue;
                }
            };
            next = answer.next_offset;
            let messages = match answer.found {
                PullFound::Messages(messages) => messages,
                PullFound::OffsetMoved => {
                    // What was fetched and polled before lies elsewhere, and must not be committed.
                    if self.is_current(&queue, generation) {
                        self.seek(&queue, next);
                    }
                    return;
                }
                PullFound::Nothing | PullFound::NoneMatched => continue,
            };
            let batch = Batch {
                queue: queue.clone(),
                generation,
                messages: messages
                    .into_iter()
                    .filter(|m| subscription.accepts(m))
                    .collect(),
                next,
            };
            if self.deliver.send(batch).await.is_err() {
                return;
            }
        }
    }

    /// Goes on at `offset`; false when the queue is not read.
    fn seek(self: &Arc<Self>, queue: &MessageQueue, offset: i64) -> bool {
        let mut fetches = self.fetches.lock().expect("no holder panics");
        let Some(fetch) = fetches.get_mut(queue) else {
            return false;
        };
        fetch.task.abort();
        self.polled.lock().expect("no holder panics").remove(queue);
        self.offsets.reach(queue, offset);
        *fetch = self.fetch(queue, offset);
        true
    }

    fn is_current(&self, queue: &MessageQueue, generation: u64) -> bool {
        let fetches = self.fetches.lock().expect("no holder panics");
        fetches
            .get(queue)
            .is_some_and(|fetch| fetch.generation == generation)
    }

    /// The batch's messages, unless its queue was given away or sought in since it was fetched.
    fn accept(&self, batch: Batch) -> Option<Vec<Received>> {
        if !self.is_current(&batch.queue, batch.generation) {
            return None;
        }
        let mut polled = self.polled.lock().expect("no holder panics");
        polled.insert(batch.queue, batch.next);
        (!batch.messages.is_empty()).then_some(batch.messages)
    }

    fn count_polled(&self) {
        let mut polled = self.polled.lock().expect("no holder panics");
        for (queue, offset) in polled.drain() {
            self.offsets.reach(&queue, offset);
        }
    }
}
