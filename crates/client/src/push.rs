//! The consumer that calls a listener for each message.

mod asked;
mod queue;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use protocol::message_id::UniqueIds;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::error::{ConsumeError, Error};
use crate::instance::{Instance, local_ip, now_ms};
use crate::message::{MessageQueue, Received};
use crate::offsets::{Home, Offsets};
use crate::rebalance::{self, Subscription};
use crate::selector::MessageSelector;
use crate::trace::{Consumed, Note, Tracer};

use queue::{Progress, QueueRun};

/// How often offsets are committed.
const COMMIT_PERIOD: Duration = Duration::from_secs(5);
/// Pause of an orderly queue whose listener asked for one.
const SUSPEND_QUEUE_PAUSE: Duration = Duration::from_secs(1);
/// Bounds of that pause, as Java's clients have them.
const SUSPEND_QUEUE_PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(30)];
/// A queue lock is trusted for this long after it was granted; brokers keep it for 60 s.
const LOCK_TRUSTED: Duration = Duration::from_secs(30);
/// How long a queue that goes to another member may take to finish its running listeners.
const RELEASE_PATIENCE: Duration = Duration::from_secs(10);

/// What a listener says of the messages that it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumeResult {
    /// Consumed.
    Success,
    /// Not consumed: deliver again later, each time after a longer pause. An orderly queue stays where it is and pauses.
    Later,
    /// Not consumed: deliver again after the time of this delay level of the broker. A negative level gives the message up: it goes to the group's
    /// dead-letter topic. An orderly consumer does as for `Later`.
    LaterByLevel(i32),
}

/// Whether members of a group share the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageModel {
    /// Each message goes to one member.
    Clustering,
    /// Each message goes to every member.
    Broadcasting,
}

/// Where a group begins in a queue that it never consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFrom {
    /// With messages that arrive from then on.
    Newest,
    /// With the oldest that is kept.
    Oldest,
    /// With the first stored at this time (ms since 1970) or later.
    Timestamp(i64),
}

type Listener =
    Arc<dyn Fn(Vec<Received>) -> Pin<Box<dyn Future<Output = ConsumeResult> + Send>> + Send + Sync>;

/// Settings of a [`PushConsumer`].
#[derive(Clone)]
pub struct PushConsumerBuilder {
    group: String,
    nameservers: String,
    subscriptions: Vec<(String, MessageSelector)>,
    model: MessageModel,
    start: StartFrom,
    listener: Option<Listener>,
    orderly: bool,
    concurrency: usize,
    batch: usize,
    offset_file: Option<PathBuf>,
    /// None: as often as the model's default says.
    reconsume_times_max: Option<i32>,
    suspend: Duration,
    trace_topic: Option<String>,
}

/// Calls a listener for each message of the subscribed topics.
///
/// Delivery is at least once: a message is committed after its listener said success, and delivered again when the
/// process dies before.
pub struct PushConsumer {
    core: Arc<Core>,
    tasks: Vec<JoinHandle<()>>,
    tracer: Option<Tracer>,
}

struct Core {
    settings: PushConsumerBuilder,
    listener: Listener,
    subscriptions: BTreeMap<String, Subscription>,
    instance: Arc<Instance>,
    offsets: Offsets,
    /// Bounds the listeners that run at once.
    workers: Arc<Semaphore>,
    assigned: Mutex<HashMap<MessageQueue, Assigned>>,
    /// Held while queues are taken, given away, or begun elsewhere.
    changing: tokio::sync::Mutex<()>,
    started_ms: i64,
    stopping: watch::Sender<bool>,
}

/// A queue that this member consumes.
struct Assigned {
    stop: watch::Sender<bool>,
    /// Until when an orderly queue's lock is trusted, in ms since the consumer started; negative when it is not held.
    lock: Arc<Lock>,
    progress: Arc<Progress>,
    task: JoinHandle<()>,
}

struct Lock {
    origin: Instant,
    until_ms: AtomicI64,
    granted: Notify,
}

impl Lock {
    fn grant(&self) {
        let until = self.origin.elapsed() + LOCK_TRUSTED;
        self.until_ms
            .store(until.as_millis() as i64, Ordering::Release);
        self.granted.notify_one();
    }

    fn lose(&self) {
        self.until_ms.store(-1, Ordering::Release);
    }

    fn is_held(&self) -> bool {
        (self.origin.elapsed().as_millis() as i64) < self.until_ms.load(Ordering::Acquire)
    }
}

impl PushConsumerBuilder {
    /// Adds a topic. `selector` is `"*"`, tags joined by `||`, or [`MessageSelector::by_sql`].
    #[must_use]
    pub fn subscribe(
        mut self,
        topic: impl Into<String>,
        selector: impl Into<MessageSelector>,
    ) -> Self {
        self.subscriptions.push((topic.into(), selector.into()));
        self
    }

    /// Every member gets every message. Offsets are kept in `offset_file`, or die with the process.
    #[must_use]
    pub fn broadcasting(mut self, offset_file: Option<PathBuf>) -> Self {
        self.model = MessageModel::Broadcasting;
        self.offset_file = offset_file;
        self
    }

    /// Where to begin in a queue that the group never consumed. Default: with new messages.
    #[must_use]
    pub fn start_from(mut self, start: StartFrom) -> Self {
        self.start = start;
        self
    }

    /// Listeners that run at once, over all queues. Default 20.
    #[must_use]
    pub fn concurrency(mut self, listeners: usize) -> Self {
        self.concurrency = listeners.max(1);
        self
    }

    /// How often a message may come back before it goes to the group's dead-letter topic. Default: 16 times; without limit for an orderly consumer.
    #[must_use]
    pub fn max_reconsume_times(mut self, times: u32) -> Self {
        self.reconsume_times_max = Some(i32::try_from(times).unwrap_or(i32::MAX));
        self
    }

    /// How long an orderly queue pauses when its listener did not consume, 10 ms to 30 s. Default one second.
    #[must_use]
    pub fn suspend_time(mut self, pause: Duration) -> Self {
        let [shortest, longest] = SUSPEND_QUEUE_PAUSES;
        self.suspend = pause.clamp(shortest, longest);
        self
    }

    /// Messages that a listener gets at once. Default 1.
    #[must_use]
    pub fn batch(mut self, messages: usize) -> Self {
        self.batch = messages.max(1);
        self
    }

    /// Calls `listener` concurrently, in no order.
    #[must_use]
    pub fn concurrently<F, R>(mut self, listener: F) -> Self
    where
        F: Fn(Vec<Received>) -> R + Send + Sync + 'static,
        R: Future<Output = ConsumeResult> + Send + 'static,
    {
        self.listener = Some(Arc::new(move |messages| Box::pin(listener(messages))));
        self.orderly = false;
        self
    }

    /// Calls `listener` for one message batch of a queue after the other, in order, on one member at a time.
    #[must_use]
    pub fn orderly<F, R>(self, listener: F) -> Self
    where
        F: Fn(Vec<Received>) -> R + Send + Sync + 'static,
        R: Future<Output = ConsumeResult> + Send + 'static,
    {
        let mut this = self.concurrently(listener);
        this.orderly = true;
        this
    }

    /// Traces every call of the listener, as Java's clients do with `enableMsgTrace`: notes of it go to `topic`, for most brokers
    /// `RMQ_SYS_TRACE_TOPIC`. Default: no traces.
    #[must_use]
    pub fn trace_to(mut self, topic: impl Into<String>) -> Self {
        self.trace_topic = Some(topic.into());
        self
    }

    /// Joins the group and begins to consume.
    ///
    /// # Errors
    /// When the settings lack something, no name server knows a subscribed topic, or a broker does not take an expression.
    pub async fn start(self) -> Result<PushConsumer, ConsumeError> {
        let missing = |reason: &str| ConsumeError::Configuration {
            group: self.group.clone(),
            reason: reason.to_owned(),
        };
        let listener = self
            .listener
            .clone()
            .ok_or_else(|| missing("it has no listener"))?;
        if self.subscriptions.is_empty() {
            return Err(missing("it subscribes to no topic"));
        }
        let instance = Instance::new(&self.nameservers)?;
        let tracer = match &self.trace_topic {
            Some(topic) => Some(Tracer::start(&self.group, topic, &self.nameservers)?),
            None => None,
        };
        let listener = match &tracer {
            Some(tracer) => traced(listener, tracer.clone(), self.group.clone()),
            None => listener,
        };
        let core = Arc::new(Core::new(self, listener, instance)?);
        let answers = Arc::downgrade(&core);
        core.instance.answer_by(answers);
        core.announce().await?;
        core.instance.start();
        let tasks = vec![
            tokio::spawn(Arc::clone(&core).rebalance_loop()),
            tokio::spawn(Arc::clone(&core).commit_loop()),
        ];
        Ok(PushConsumer {
            core,
            tasks,
            tracer,
        })
    }
}

impl PushConsumer {
    /// A consumer of `group`; `nameservers` is `host:port`, several separated by `;`.
    pub fn builder(
        group: impl Into<String>,
        nameservers: impl Into<String>,
    ) -> PushConsumerBuilder {
        PushConsumerBuilder {
            group: group.into(),
            nameservers: nameservers.into(),
            subscriptions: Vec::new(),
            model: MessageModel::Clustering,
            start: StartFrom::Newest,
            listener: None,
            orderly: false,
            concurrency: 20,
            batch: 1,
            offset_file: None,
            reconsume_times_max: None,
            suspend: SUSPEND_QUEUE_PAUSE,
            trace_topic: None,
        }
    }

    /// The queues that this member consumes now.
    pub fn assigned(&self) -> Vec<MessageQueue> {
        let assigned = self.core.assigned.lock().expect("no holder panics");
        let mut queues: Vec<_> = assigned.keys().cloned().collect();
        queues.sort();
        queues
    }

    /// Finishes the running listeners, commits, and leaves the group.
    pub async fn shutdown(mut self) {
        self.core.stopping.send_replace(true);
        for task in self.tasks.drain(..) {
            drop(task.await);
        }
        // A reset that is under way may still begin a queue.
        let changing = self.core.changing.lock().await;
        let all = self.assigned_now();
        drop(changing);
        self.core.release(all).await;
        self.core.offsets.persist().await;
        if let Some(tracer) = &self.tracer {
            tracer.flush().await;
        }
        self.core.instance.shutdown().await;
    }

    fn assigned_now(&self) -> Vec<(MessageQueue, Assigned)> {
        let mut assigned = self.core.assigned.lock().expect("no holder panics");
        assigned.drain().collect()
    }
}

/// A listener that is traced: before each call, and behind it what it said.
fn traced(listener: Listener, tracer: Tracer, group: String) -> Listener {
    let request_ids = Arc::new(UniqueIds::new(
        local_ip(),
        std::process::id(),
        now_ms() as i32,
    ));
    Arc::new(move |messages| {
        let (listener, tracer, group) = (listener.clone(), tracer.clone(), group.clone());
        let began_ms = now_ms();
        let request_id = request_ids.next(began_ms);
        let noted: Vec<Received> = messages
            .iter()
            .filter(|message| tracer.traces(&message.topic))
            .filter_map(|message| {
                let note = Note::received(message, &group, &request_id, began_ms)?;
                tracer.note(note);
                Some(message.clone())
            })
            .collect();
        Box::pin(async move {
            let result = listener(messages).await;
            let consumed = match result {
                ConsumeResult::Success => Consumed::Success,
                ConsumeResult::Later | ConsumeResult::LaterByLevel(_) => Consumed::Failed,
            };
            let at_ms = now_ms();
            let took_ms = (at_ms - began_ms) / noted.len().max(1) as i64;
            for message in &noted {
                let note = Note::consumed(message, &group, &request_id, at_ms, took_ms, consumed);
                tracer.note(note);
            }
            result
        })
    })
}

impl Core {
    fn new(
        settings: PushConsumerBuilder,
        listener: Listener,
        instance: Arc<Instance>,
    ) -> Result<Self, Error> {
        let mut subscriptions: BTreeMap<String, Subscription> = settings
            .subscriptions
            .iter()
            .map(|(topic, selector)| (topic.clone(), Subscription::new(topic, selector.clone())))
            .collect();
        let home = match settings.model {
            MessageModel::Clustering => {
                let retry = protocol::topic::retry_topic(&settings.group);
                subscriptions.insert(retry.clone(), Subscription::new(&retry, "*"));
                Home::Brokers(Arc::clone(&instance))
            }
            MessageModel::Broadcasting => Home::File(settings.offset_file.clone()),
        };
        Ok(Self {
            offsets: Offsets::open(&settings.group, home)?,
            workers: Arc::new(Semaphore::new(settings.concurrency)),
            assigned: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            started_ms: now_ms(),
            stopping: watch::Sender::new(false),
            listener,
            subscriptions,
            instance,
            settings,
        })
    }

    /// Tells the brokers of all subscribed topics about this member.
    async fn announce(&self) -> Result<(), Error> {
        let all: Vec<Subscription> = self.subscriptions.values().cloned().collect();
        let data = rebalance::consumer_data(
            &self.settings.group,
            self.settings.model,
            self.settings.start,
            false,
            &all,
        );
        self.instance
            .identify(|identity| identity.consumer_data_set.push(data));
        for topic in self.subscriptions.keys() {
            match self.instance.fetch_route(topic).await {
                Ok(_) => {}
                // The first heartbeat makes the broker create it.
                Err(Error::NoRoute { .. }) if rebalance::is_retry(topic) => {}
                Err(error) => return Err(error),
            }
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
            self.rebalance().await;
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

    /// Makes the consumed queues those of this member's share.
    async fn rebalance(self: &Arc<Self>) {
        for topic in self.subscriptions.keys() {
            let share = rebalance::share(
                &self.instance,
                &self.settings.group,
                topic,
                self.settings.model,
            );
            match share.await {
                Ok(share) => self.take(topic, share).await,
                Err(Error::NoRoute { .. }) if rebalance::is_retry(topic) => {}
                Err(error) => tracing::warn!(topic, %error, "queues stay as they are"),
            }
        }
    }

    async fn take(self: &Arc<Self>, topic: &str, share: Vec<MessageQueue>) {
        let _changing = self.changing.lock().await;
        let wanted: HashSet<&MessageQueue> = share.iter().collect();
        let gone: Vec<(MessageQueue, Assigned)> = {
            let mut assigned = self.assigned.lock().expect("no holder panics");
            assigned
                .extract_if(|queue, _| queue.topic == topic && !wanted.contains(queue))
                .collect()
        };
        self.release(gone).await;
        let locked = self.lock(&share).await;
        for queue in share {
            let known = {
                let assigned = self.assigned.lock().expect("no holder panics");
                assigned.get(&queue).map(|a| Arc::clone(&a.lock))
            };
            let is_locked = !self.needs_lock() || locked.contains(&queue);
            match known {
                Some(lock) if is_locked => lock.grant(),
                Some(lock) => lock.lose(),
                None if is_locked => self.begin(queue).await,
                None => {}
            }
        }
    }

    fn needs_lock(&self) -> bool {
        self.settings.orderly && self.settings.model == MessageModel::Clustering
    }

    async fn lock(&self, queues: &[MessageQueue]) -> HashSet<MessageQueue> {
        let mut locked = HashSet::new();
        if !self.needs_lock() {
            return locked;
        }
        let mut by_broker: BTreeMap<&str, Vec<MessageQueue>> = BTreeMap::new();
        for queue in queues {
            by_broker
                .entry(&queue.broker_name)
                .or_default()
                .push(queue.clone());
        }
        for (broker, queues) in by_broker {
            match self
                .instance
                .lock(&self.settings.group, broker, &queues)
                .await
            {
                Ok(granted) => locked.extend(granted),
                Err(error) => tracing::warn!(broker, %error, "queues not locked"),
            }
        }
        locked
    }

    /// Begins to consume a queue where the group left off.
    async fn begin(self: &Arc<Self>, queue: MessageQueue) {
        let start = match self.offsets.load(&queue).await {
            Ok(Some(offset)) => Ok(offset),
            Ok(None) => rebalance::first_offset(&self.instance, &queue, self.settings.start).await,
            Err(error) => Err(error),
        };
        let start = match start {
            Ok(start) => start,
            Err(error) => {
                tracing::warn!(%queue, %error, "queue not begun, tried again at the next rebalance");
                return;
            }
        };
        let lock = Arc::new(Lock {
            origin: Instant::now(),
            until_ms: AtomicI64::new(-1),
            granted: Notify::new(),
        });
        lock.grant();
        self.begin_at(queue, start, lock);
    }

    /// Begins to consume a queue at an offset.
    fn begin_at(self: &Arc<Self>, queue: MessageQueue, start: i64, lock: Arc<Lock>) {
        tracing::debug!(%queue, start, "consuming");
        let stop = watch::Sender::new(false);
        let progress = Arc::new(Progress::new(start));
        let run = QueueRun {
            core: Arc::clone(self),
            queue: queue.clone(),
            progress: Arc::clone(&progress),
            stop: stop.subscribe(),
            lock: Arc::clone(&lock),
        };
        let task = tokio::spawn(run.run());
        let assigned = Assigned {
            stop,
            lock,
            progress,
            task,
        };
        let mut table = self.assigned.lock().expect("no holder panics");
        table.insert(queue, assigned);
    }

    /// Ends the consumption of queues: their running listeners finish, offsets are committed, locks given back.
    async fn release(&self, queues: Vec<(MessageQueue, Assigned)>) {
        for (_, assigned) in &queues {
            assigned.stop.send_replace(true);
        }
        for (queue, mut assigned) in queues {
            if timeout(RELEASE_PATIENCE, &mut assigned.task).await.is_err() {
                tracing::warn!(%queue, "a listener still runs; its messages will be delivered again");
                assigned.task.abort();
            }
            self.offsets.release(&queue).await;
            if self.needs_lock()
                && let Err(error) = self.instance.unlock(&self.settings.group, &queue).await
            {
                tracing::debug!(%queue, %error, "lock not given back, it expires");
            }
        }
    }
}
