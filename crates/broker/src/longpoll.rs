//! Pulls that wait for a message: a list of waiters a queue, woken by the append (or the flush) that made one visible.
//!
//! The thread that appended only notes the queue and wakes one task, once for any number of messages; that task reads
//! and answers. Invariants: a waiter is in `waiters`, in its queue's list, in `deadlines` and in `by_connection`, or in
//! none of them; a queue with an entry here is watched in the store; a message that becomes visible after a waiter was
//! parked wakes it, since parking looks at the queue's end once more after the queue is watched.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use protocol::code::ResponseCode;
use protocol::reply::ReplyHead;
use remoting::{Account, Budget, Connection, SendError};
use storage::{Arrivals, ReadError, ReadMode, ReadStatus};
use tokio::sync::Notify;

use crate::Broker;
use crate::requests::pull::{self, Pull};

/// Pulls that may wait. Beyond it a pull is answered "not found" at once, and its client asks again in its own time.
const WAITERS_MAX: usize = 1 << 18;
/// What a waiter takes, its places in the lists included.
const WAITER_BYTES: usize = 512;
/// How exactly a timeout is kept.
const TICK: Duration = Duration::from_millis(50);
/// How long a queue without waiters may stay watched. Not forgotten at once: its consumer is about to return.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// Answers between two yields of the task to others.
const ANSWERS_PER_TURN: usize = 64;
/// The pause after a client did not take an answer.
const SLOW_CLIENT_PAUSE: Duration = Duration::from_millis(100);

/// A pull that waits.
#[derive(Debug)]
pub(crate) struct Waiter {
    connection: Arc<Connection>,
    head: ReplyHead,
    pull: Pull,
    /// When it is answered at the latest.
    deadline: Instant,
    /// When it is looked at again even if nothing arrives.
    look_at: Instant,
}

impl Waiter {
    /// A pull that begins to wait now.
    pub(crate) fn new(
        connection: Arc<Connection>,
        head: ReplyHead,
        pull: Pull,
        suspend: Duration,
    ) -> Waiter {
        let deadline = pull::deadline(suspend);
        Waiter {
            connection,
            head,
            pull,
            deadline,
            look_at: deadline,
        }
    }
}

/// There is no place, or nobody, to wait for.
#[derive(Debug)]
pub(crate) struct NotParked;

/// Every waiting pull.
#[derive(Debug)]
pub(crate) struct LongPoll {
    state: Mutex<State>,
    work: Notify,
}

#[derive(Debug)]
struct State {
    /// The memory of all waiters.
    account: Account,
    /// What the filters of waiters take beside their places.
    filter_bytes: usize,
    next_id: u64,
    waiters: HashMap<u64, Waiter>,
    queues: HashMap<Arc<str>, HashMap<i32, Queue>>,
    deadlines: BTreeSet<(Instant, u64)>,
    by_connection: BTreeSet<(u64, u64)>,
    /// Queues where something arrived.
    ready: Vec<(Arc<str>, i32)>,
}

#[derive(Debug, Default)]
struct Queue {
    waiters: BTreeSet<u64>,
    is_ready: bool,
}

impl LongPoll {
    /// Nobody waits. Waiters are part of what `budget` counts.
    pub(crate) fn new(budget: Arc<Budget>) -> LongPoll {
        LongPoll {
            state: Mutex::new(State {
                account: Account::new(budget),
                filter_bytes: 0,
                next_id: 0,
                waiters: HashMap::new(),
                queues: HashMap::new(),
                deadlines: BTreeSet::new(),
                by_connection: BTreeSet::new(),
                ready: Vec::new(),
            }),
            work: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a pull wait. It is answered when a message for it is visible, or at its deadline.
    pub(crate) fn park(&self, broker: &Broker, waiter: Waiter) -> Result<(), NotParked> {
        let topic = waiter.pull.topic.clone();
        let (name, queue_id, offset) =
            (&*topic.topic_name, waiter.pull.queue_id, waiter.pull.offset);
        let mut state = self.state();
        // A connection that closes after this look removes the waiter by `closed`, which needs the same lock.
        if state.waiters.len() >= WAITERS_MAX || !waiter.connection.is_open() {
            return Err(NotParked);
        }
        let was_empty = state.waiters.is_empty();
        if state.add(waiter) {
            broker.store.watch_queue(name, queue_id, true);
        }
        let arrived = broker.store.max_offset(name, queue_id) as i64 > offset
            && state.mark_ready(name, queue_id);
        drop(state);
        if arrived || was_empty {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Forgets the waiters of a connection that closed.
    pub(crate) fn closed(&self, connection: &Connection) {
        let mut state = self.state();
        let of_connection = (connection.id(), 0)..=(connection.id(), u64::MAX);
        let ids: Vec<u64> = state
            .by_connection
            .range(of_connection)
            .map(|(_, id)| *id)
            .collect();
        for id in ids {
            state.remove(id);
        }
    }

    /// Something else than a message happened that may concern the pulls of a queue: they are looked at.
    pub(crate) fn look_again(&self, topic: &str, queue_id: i32) {
        if self.state().mark_ready(topic, queue_id) {
            self.work.notify_one();
        }
    }

    fn take_ready(&self) -> Vec<Waiter> {
        self.state().take_ready()
    }

    fn take_due(&self, now: Instant) -> Vec<Waiter> {
        let mut state = self.state();
        let mut due = Vec::new();
        while let Some((_, id)) = state
            .deadlines
            .first()
            .filter(|(look_at, _)| *look_at <= now)
            .copied()
        {
            due.extend(state.remove(id));
        }
        due
    }

    fn is_empty(&self) -> bool {
        let state = self.state();
        state.waiters.is_empty() && state.ready.is_empty()
    }

    /// Watches a queue for somebody who is told in another way, for as long as `Broker::pop` says that its topic is wanted.
    pub(crate) fn watch(&self, broker: &Broker, topic: &str, queue_id: i32) {
        let mut state = self.state();
        if !state.queues.contains_key(topic) {
            state.queues.insert(Arc::from(topic), HashMap::new());
        }
        let queues = state
            .queues
            .get_mut(topic)
            .expect("the topic was added if it was not there");
        if let Entry::Vacant(vacant) = queues.entry(queue_id) {
            vacant.insert(Queue::default());
            broker.store.watch_queue(topic, queue_id, true);
        }
    }

    /// Stops watching queues that nobody waits for.
    fn sweep(&self, broker: &Broker) {
        let mut state = self.state();
        state.queues.retain(|topic, queues| {
            let popped = broker.pop.waiting.wants(topic);
            queues.retain(|queue_id, queue| {
                let used = popped || queue.is_ready || !queue.waiters.is_empty();
                // Those of delayed messages stay watched for their delivery, whoever pulls them.
                if !used && **topic != *protocol::topic::SCHEDULE {
                    broker.store.watch_queue(topic, *queue_id, false);
                }
                used
            });
            !queues.is_empty()
        });
    }
}

impl Arrivals for LongPoll {
    fn arrived(&self, topic: &Arc<str>, queue_id: i32) {
        self.look_again(topic, queue_id);
    }
}

impl State {
    /// Adds a waiter. True when its queue had no entry.
    fn add(&mut self, waiter: Waiter) -> bool {
        let id = self.next_id;
        self.next_id += 1;
        self.deadlines.insert((waiter.look_at, id));
        self.by_connection.insert((waiter.connection.id(), id));
        let topic = &*waiter.pull.topic.topic_name;
        if !self.queues.contains_key(topic) {
            self.queues.insert(Arc::from(topic), HashMap::new());
        }
        let queues = self
            .queues
            .get_mut(topic)
            .expect("the topic was added if it was not there");
        let mut is_new = false;
        let queue = queues.entry(waiter.pull.queue_id).or_insert_with(|| {
            is_new = true;
            Queue::default()
        });
        queue.waiters.insert(id);
        self.filter_bytes += waiter.pull.own_bytes();
        self.waiters.insert(id, waiter);
        self.count();
        is_new
    }

    fn count(&mut self) {
        let bytes = self.waiters.len() * WAITER_BYTES + self.filter_bytes;
        self.account.hold(bytes);
    }

    fn remove(&mut self, id: u64) -> Option<Waiter> {
        let waiter = self.forget(id)?;
        let queue = self
            .queues
            .get_mut(&*waiter.pull.topic.topic_name)
            .and_then(|queues| queues.get_mut(&waiter.pull.queue_id));
        if let Some(queue) = queue {
            queue.waiters.remove(&id);
        }
        Some(waiter)
    }

    /// Removes a waiter from everything but its queue's list.
    fn forget(&mut self, id: u64) -> Option<Waiter> {
        let waiter = self.waiters.remove(&id)?;
        self.filter_bytes -= waiter.pull.own_bytes();
        self.count();
        self.deadlines.remove(&(waiter.look_at, id));
        self.by_connection.remove(&(waiter.connection.id(), id));
        Some(waiter)
    }

    /// True when somebody waits there and the task does not know yet.
    fn mark_ready(&mut self, topic: &str, queue_id: i32) -> bool {
        let Some((topic, queues)) = self.queues.get_key_value(topic) else {
            return false;
        };
        let key = (topic.clone(), queue_id);
        if queues
            .get(&queue_id)
            .is_none_or(|queue| queue.is_ready || queue.waiters.is_empty())
        {
            return false;
        }
        if let Some(queue) = self
            .queues
            .get_mut(&key.0)
            .and_then(|queues| queues.get_mut(&queue_id))
        {
            queue.is_ready = true;
        }
        self.ready.push(key);
        true
    }

    fn take_ready(&mut self) -> Vec<Waiter> {
        let mut taken = Vec::new();
        for (topic, queue_id) in std::mem::take(&mut self.ready) {
            let queue = self
                .queues
                .get_mut(&topic)
                .and_then(|queues| queues.get_mut(&queue_id));
            let Some(queue) = queue else { continue };
            queue.is_ready = false;
            let ids = std::mem::take(&mut queue.waiters);
            taken.extend(ids.into_iter().filter_map(|id| self.forget(id)));
        }
        taken
    }
}

/// The task that answers waiting pulls, for as long as the broker runs.
pub(crate) async fn run(broker: Arc<Broker>) {
    let longpoll = &broker.longpoll;
    let mut swept_at = Instant::now();
    loop {
        // Timeouts are kept to a tick, so that parking a pull needs no timer of its own. Nobody waits: no ticks either.
        let pause = if longpoll.is_empty() {
            SWEEP_INTERVAL
        } else {
            TICK
        };
        let slept = tokio::time::timeout(pause, longpoll.work.notified())
            .await
            .is_err();
        if slept && swept_at.elapsed() >= SWEEP_INTERVAL {
            swept_at = Instant::now();
            longpoll.sweep(&broker);
        }
        let mut answered = 0;
        for waiter in longpoll.take_ready() {
            look(&broker, waiter);
            answered += 1;
            if answered % ANSWERS_PER_TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
        for waiter in longpoll.take_due(Instant::now()) {
            look(&broker, waiter);
            answered += 1;
            if answered % ANSWERS_PER_TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Reads for a waiter: it is answered, or waits on.
fn look(broker: &Arc<Broker>, mut waiter: Waiter) {
    let now = Instant::now();
    let is_due = now >= waiter.deadline;
    if let Some(answer) = waiter.pull.reset(broker) {
        // Who cannot take it hears of it with the next pull.
        let _ = answer.send(&waiter.connection, waiter.head);
        return;
    }
    let result = match waiter
        .pull
        .read(broker, waiter.pull.transfer(), ReadMode::NoWait)
    {
        Ok(result) => result,
        Err(ReadError::WouldBlock) => return look_cold(broker, waiter, now, is_due),
        Err(error) => {
            let remark = error.to_string();
            // Nobody is left to be told when this fails too.
            let _ = waiter.connection.reply(
                waiter.head,
                ResponseCode::SYSTEM_ERROR,
                Some(&remark),
                &(),
                &[],
            );
            return;
        }
    };
    let passes_over =
        result.status == ReadStatus::NoMatchedMessage && result.next_offset > waiter.pull.offset;
    if !is_due && passes_over {
        waiter.pull.offset = result.next_offset;
        return wait_on(broker, waiter);
    }
    if !is_due && has_nothing_yet(result.status) {
        return wait_on(broker, waiter);
    }
    let answer = waiter.pull.answer(broker, result);
    if answer.send(&waiter.connection, waiter.head) == Err(SendError::Full) {
        waiter.look_at = now + SLOW_CLIENT_PAUSE;
        wait_on(broker, waiter);
    }
}

/// The client has read everything that is there.
fn has_nothing_yet(status: ReadStatus) -> bool {
    matches!(
        status,
        ReadStatus::OffsetOverflowOne | ReadStatus::NoMessageInQueue | ReadStatus::NoMatchedQueue
    )
}

fn look_cold(broker: &Arc<Broker>, waiter: Waiter, now: Instant, is_due: bool) {
    let left = (!is_due).then(|| waiter.deadline.saturating_duration_since(now));
    let Waiter {
        connection,
        head,
        pull,
        ..
    } = waiter;
    if let Err(refusal) = pull::read_cold(broker, connection.clone(), head, pull, left) {
        // The client hears that it is too much, and asks again.
        let _ = connection.reply(head, refusal.code, Some(&refusal.remark), &(), &[]);
    }
}

/// Parks a waiter again.
fn wait_on(broker: &Broker, mut waiter: Waiter) {
    if waiter.look_at <= Instant::now() {
        waiter.look_at = waiter.deadline;
    }
    if broker.longpoll.park(broker, waiter).is_err() {
        tracing::debug!("a waiting pull lost its place: its connection closed, or too many wait");
    }
}
