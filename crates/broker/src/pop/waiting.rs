//! Pops and notifications that wait for a message: a room for each group and topic, woken by whatever may let a pop find one.
//!
//! A pop may wait for one queue or for all, and for the group's retry topic besides, so a waiter does not belong to a queue as a waiting
//! pull does. Who wakes a room only notes it and wakes one task; that task pops for one waiter after the other until one finds nothing.
//! Invariants: a waiter is in `waiters`, in its room, in `deadlines` and in `by_connection`, or in none of them; the queues of a topic with
//! waiters are watched in the store; a waiter is parked before its caller looks for messages once more.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use protocol::code::ResponseCode;
use protocol::headers::NotificationResponse;
use protocol::reply::ReplyHead;
use remoting::{Account, Budget, Connection};
use tokio::sync::Notify;

use crate::Broker;
use crate::requests::pop::{self, Request};

/// What a waiter takes, its places in the lists included.
const WAITER_BYTES: usize = 768;
/// How exactly a timeout is kept.
const TICK: Duration = Duration::from_millis(50);
/// How long the task sleeps when nobody waits, and how often idle queues and rooms are forgotten.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// Answers between two yields of the task to others.
const ANSWERS_PER_TURN: usize = 64;

/// Why a pop cannot wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotParked {
    /// Too many wait: `maxPopPollingSize`, `popPollingSize`, `popPollingMapSize`.
    Full,
    /// Nobody is left to wait for.
    Closed,
}

/// How many may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// `maxPopPollingSize`.
    pub(crate) all: usize,
    /// `popPollingSize`.
    pub(crate) of_one_queue: usize,
    /// `popPollingMapSize`.
    pub(crate) rooms: usize,
}

/// What a waiter wants to hear.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Messages.
    Pop,
    /// That there are messages.
    Notification,
}

/// A pop or a notification that waits.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) connection: Arc<Connection>,
    pub(crate) head: ReplyHead,
    pub(crate) request: Arc<Request>,
    pub(crate) kind: Kind,
    /// When it is answered at the latest.
    pub(crate) deadline: Instant,
}

/// Every waiter.
#[derive(Debug)]
pub(crate) struct Waiting {
    state: Mutex<State>,
    /// Waiters: nearly always none where nobody pops, and then an arrival takes no lock.
    len: AtomicUsize,
    work: Notify,
}

#[derive(Debug)]
struct State {
    /// The memory of all waiters.
    account: Account,
    next_id: u64,
    waiters: HashMap<u64, Waiter>,
    /// By topic, then by group.
    topics: HashMap<Arc<str>, HashMap<Arc<str>, Room>>,
    rooms: usize,
    /// The topic whose rooms wait for a retry topic, and the group.
    retry_topics: HashMap<Arc<str>, (Arc<str>, Arc<str>)>,
    deadlines: BTreeSet<(Instant, u64)>,
    by_connection: BTreeSet<(u64, u64)>,
    /// Rooms to look at, by topic and group.
    ready: Vec<(Arc<str>, Arc<str>)>,
}

#[derive(Debug, Default)]
struct Room {
    /// Pops by the queue that they ask for; -1 is all of them.
    pops: BTreeMap<i32, VecDeque<u64>>,
    notifications: VecDeque<u64>,
    is_ready: bool,
}

impl Room {
    fn is_empty(&self) -> bool {
        self.notifications.is_empty() && self.pops.values().all(VecDeque::is_empty)
    }
}

impl Waiting {
    /// Nobody waits. Waiters are part of what `budget` counts.
    pub(crate) fn new(budget: Arc<Budget>) -> Waiting {
        Waiting {
            state: Mutex::new(State {
                account: Account::new(budget),
                next_id: 0,
                waiters: HashMap::new(),
                topics: HashMap::new(),
                rooms: 0,
                retry_topics: HashMap::new(),
                deadlines: BTreeSet::new(),
                by_connection: BTreeSet::new(),
                ready: Vec::new(),
            }),
            len: AtomicUsize::new(0),
            work: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// How many pops of a group wait for a queue, or for all queues with -1.
    pub(crate) fn count(&self, group: &str, topic: &str, queue_id: i32) -> usize {
        let state = self.state();
        let room = state.topics.get(topic).and_then(|groups| groups.get(group));
        room.and_then(|room| room.pops.get(&queue_id))
            .map_or(0, VecDeque::len)
    }

    /// Lets a pop or a notification wait. The caller looks for messages once more behind this and [wakes](Self::wake) the room if there are.
    pub(crate) fn park(
        &self,
        broker: &Broker,
        waiter: Waiter,
        limits: Limits,
    ) -> Result<(), NotParked> {
        let request = waiter.request.clone();
        let was_empty = self.len() == 0;
        {
            let mut state = self.state();
            // A connection that closes after this look removes the waiter by `closed`, which needs the same lock.
            if !waiter.connection.is_open() {
                return Err(NotParked::Closed);
            }
            if !state.has_place(&waiter, limits) {
                return Err(NotParked::Full);
            }
            state.add(waiter, false);
            self.len.store(state.waiters.len(), Ordering::Release);
        }
        request.watch(broker);
        if was_empty {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Something may be found for those who wait for this topic, or for its retry topics: in one group, or in all.
    pub(crate) fn wake(&self, topic: &str, group: Option<&str>) {
        if self.len() == 0 {
            return;
        }
        if self.state().mark_ready(topic, group) {
            self.work.notify_one();
        }
    }

    /// Whether anybody waits for messages of a topic, so that its queues must stay watched.
    pub(crate) fn wants(&self, topic: &str) -> bool {
        if self.len() == 0 {
            return false;
        }
        let state = self.state();
        let topic = state
            .retry_topics
            .get(topic)
            .map_or(topic, |(topic, _)| topic);
        let rooms = state.topics.get(topic);
        rooms.is_some_and(|groups| groups.values().any(|room| !room.is_empty()))
    }

    /// Forgets the waiters of a connection that closed.
    pub(crate) fn closed(&self, connection: &Connection) {
        if self.len() == 0 {
            return;
        }
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
        self.len.store(state.waiters.len(), Ordering::Release);
    }

    fn take_ready(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let mut state = self.state();
        let ready = std::mem::take(&mut state.ready);
        for (topic, group) in &ready {
            let room = state
                .topics
                .get_mut(topic)
                .and_then(|groups| groups.get_mut(group));
            if let Some(room) = room {
                room.is_ready = false;
            }
        }
        ready
    }

    /// The queues that pops of a room wait for.
    fn classes(&self, topic: &str, group: &str) -> Vec<i32> {
        let state = self.state();
        let room = state.topics.get(topic).and_then(|groups| groups.get(group));
        room.map(|room| room.pops.keys().copied().collect())
            .unwrap_or_default()
    }

    /// The pop that waits longest for a queue.
    fn take_pop(&self, topic: &str, group: &str, queue_id: i32) -> Option<Waiter> {
        let mut state = self.state();
        let room = state.room(topic, group)?;
        let id = *room.pops.get(&queue_id)?.front()?;
        let taken = state.remove(id);
        self.len.store(state.waiters.len(), Ordering::Release);
        taken
    }

    /// Puts a pop back that found nothing, before all others.
    fn put_back(&self, waiter: Waiter) {
        let mut state = self.state();
        if waiter.connection.is_open() {
            state.add(waiter, true);
        }
        self.len.store(state.waiters.len(), Ordering::Release);
    }

    fn take_notifications(&self, topic: &str, group: &str) -> Vec<Waiter> {
        let mut state = self.state();
        let Some(room) = state.room(topic, group) else {
            return Vec::new();
        };
        let ids: Vec<u64> = room.notifications.iter().copied().collect();
        let taken = ids.into_iter().filter_map(|id| state.remove(id)).collect();
        self.len.store(state.waiters.len(), Ordering::Release);
        taken
    }

    fn take_expired(&self, now: Instant) -> Vec<Waiter> {
        let mut state = self.state();
        let mut expired = Vec::new();
        while let Some((_, id)) = state
            .deadlines
            .first()
            .filter(|(deadline, _)| *deadline <= now)
            .copied()
        {
            expired.extend(state.remove(id));
        }
        self.len.store(state.waiters.len(), Ordering::Release);
        expired
    }

    /// Forgets rooms in which nobody waits.
    fn sweep(&self) {
        let mut state = self.state();
        let State {
            topics,
            retry_topics,
            rooms,
            ..
        } = &mut *state;
        topics.retain(|_, groups| {
            groups.retain(|_, room| room.is_ready || !room.is_empty());
            !groups.is_empty()
        });
        retry_topics.retain(|_, (topic, group)| {
            topics
                .get(topic)
                .is_some_and(|groups| groups.contains_key(group))
        });
        *rooms = topics.values().map(HashMap::len).sum();
    }
}

impl State {
    fn room(&mut self, topic: &str, group: &str) -> Option<&mut Room> {
        self.topics.get_mut(topic)?.get_mut(group)
    }

    fn has_place(&mut self, waiter: &Waiter, limits: Limits) -> bool {
        if self.waiters.len() >= limits.all {
            return false;
        }
        let rooms = self.rooms;
        let request = &waiter.request;
        match self.room(&request.topic, &request.group) {
            None => rooms < limits.rooms,
            Some(room) => match waiter.kind {
                Kind::Notification => room.notifications.len() < limits.of_one_queue,
                Kind::Pop => room
                    .pops
                    .get(&request.queue_id)
                    .is_none_or(|waiters| waiters.len() < limits.of_one_queue),
            },
        }
    }

    fn add(&mut self, waiter: Waiter, in_front: bool) {
        let id = self.next_id;
        self.next_id += 1;
        self.deadlines.insert((waiter.deadline, id));
        self.by_connection.insert((waiter.connection.id(), id));
        let request = &waiter.request;
        if self.room(&request.topic, &request.group).is_none() {
            self.rooms += 1;
            for retry in &request.retry_topics {
                let of = (request.topic.clone(), request.group.clone());
                self.retry_topics.insert(retry.clone(), of);
            }
            let groups = self.topics.entry(request.topic.clone()).or_default();
            groups.insert(request.group.clone(), Room::default());
        }
        let room = self
            .room(&request.topic, &request.group)
            .expect("the room was added if it was not there");
        let list = match waiter.kind {
            Kind::Pop => room.pops.entry(request.queue_id).or_default(),
            Kind::Notification => &mut room.notifications,
        };
        if in_front {
            list.push_front(id);
        } else {
            list.push_back(id);
        }
        self.waiters.insert(id, waiter);
        self.account.hold(self.waiters.len() * WAITER_BYTES);
    }

    fn remove(&mut self, id: u64) -> Option<Waiter> {
        let waiter = self.waiters.remove(&id)?;
        self.account.hold(self.waiters.len() * WAITER_BYTES);
        self.deadlines.remove(&(waiter.deadline, id));
        self.by_connection.remove(&(waiter.connection.id(), id));
        let request = &waiter.request;
        if let Some(room) = self.room(&request.topic, &request.group) {
            let list = match waiter.kind {
                Kind::Pop => room.pops.get_mut(&request.queue_id),
                Kind::Notification => Some(&mut room.notifications),
            };
            if let Some(list) = list
                && let Some(at) = list.iter().position(|waiting| *waiting == id)
            {
                list.remove(at);
            }
        }
        Some(waiter)
    }

    /// True when the task does not know yet.
    fn mark_ready(&mut self, topic: &str, group: Option<&str>) -> bool {
        let of_retry = self.retry_topics.get(topic).cloned();
        let (topic, group) = match &of_retry {
            Some((topic, group)) => (&**topic, Some(&**group)),
            None => (topic, group),
        };
        let Some((topic, _)) = self.topics.get_key_value(topic) else {
            return false;
        };
        let topic = topic.clone();
        let Some(groups) = self.topics.get_mut(&topic) else {
            return false;
        };
        let before = self.ready.len();
        for (name, room) in groups.iter_mut() {
            let is_meant = group.is_none_or(|group| group == &**name);
            if is_meant && !room.is_ready && !room.is_empty() {
                room.is_ready = true;
                self.ready.push((topic.clone(), name.clone()));
            }
        }
        self.ready.len() > before
    }
}

/// The task that answers waiting pops, for as long as the broker runs.
pub(crate) async fn run(broker: Arc<Broker>) {
    let waiting = &broker.pop.waiting;
    let mut swept_at = Instant::now();
    loop {
        let pause = if waiting.len() == 0 {
            SWEEP_INTERVAL
        } else {
            TICK
        };
        // Woken or not, what is ready is looked at.
        drop(tokio::time::timeout(pause, waiting.work.notified()).await);
        if swept_at.elapsed() >= SWEEP_INTERVAL {
            swept_at = Instant::now();
            waiting.sweep();
            broker.pop.forget_idle();
        }
        for (topic, group) in waiting.take_ready() {
            serve_room(&broker, &topic, &group).await;
        }
        let mut answered = 0;
        for waiter in waiting.take_expired(Instant::now()) {
            time_is_over(&broker, &waiter);
            answered += 1;
            if answered % ANSWERS_PER_TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Pops for one waiter after the other, for as long as messages are found.
async fn serve_room(broker: &Arc<Broker>, topic: &str, group: &str) {
    let waiting = &broker.pop.waiting;
    let mut answered = 0;
    for queue_id in waiting.classes(topic, group) {
        while let Some(waiter) = waiting.take_pop(topic, group, queue_id) {
            match pop::serve_waiting(broker, waiter) {
                pop::Served::Answered => {}
                pop::Served::Nothing(waiter) => {
                    put_back(broker, waiter);
                    break;
                }
            }
            answered += 1;
            if answered % ANSWERS_PER_TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
    for waiter in waiting.take_notifications(topic, group) {
        if waiter.request.has_messages(broker) {
            notify(&waiter, true);
        } else {
            put_back(broker, waiter);
        }
    }
}

/// Lets a waiter wait on. What came while it was not in its room woke nobody.
fn put_back(broker: &Broker, waiter: Waiter) {
    let waiting = &broker.pop.waiting;
    let request = waiter.request.clone();
    waiting.put_back(waiter);
    if request.has_messages(broker) {
        waiting.wake(&request.topic, Some(&request.group));
    }
}

fn time_is_over(broker: &Broker, waiter: &Waiter) {
    match waiter.kind {
        Kind::Pop => pop::time_is_over(broker, waiter),
        Kind::Notification => notify(waiter, false),
    }
}

fn notify(waiter: &Waiter, has_msg: bool) {
    let header = NotificationResponse {
        has_msg,
        polling_full: false,
    };
    // A client that has gone needs no answer.
    let _ = waiter
        .connection
        .reply(waiter.head, ResponseCode::SUCCESS, None, &header, &[]);
}
