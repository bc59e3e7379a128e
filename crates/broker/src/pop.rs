//! Consumption by pop: which messages groups have in flight, what is due again, and who waits for messages.
//!
//! | part | subject |
//! |---|---|
//! | `progress`, `in_flight`, `order` | plain values: one group in one queue |
//! | `waiting` | pops and notifications that wait for a message |
//! | `revive` | what was not acknowledged in time goes to the retry topic, or to the dead letters |
//! | `order_file` | what stands still in order, over restarts |
//! | `java` | the same for what a Java broker had handed out before |
//!
//! The offset of a group stays behind its first message that is neither acknowledged nor stored in the retry topic, and everything above
//! it is in memory, or only a hint: a crash repeats messages and cannot lose one (`docs/adr/0008-pop-without-checkpoints.md`). Requests are in
//! [`crate::requests::pop`] and its neighbours.

pub(crate) mod in_flight;
pub(crate) mod java;
pub(crate) mod order;
pub(crate) mod order_file;
pub(crate) mod progress;
pub(crate) mod revive;
pub(crate) mod waiting;

#[cfg(test)]
mod model;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::Notify;

use crate::Broker;
use order::Order;
use order_file::OrderFile;
use progress::Progress;
use waiting::Waiting;

type Queues = HashMap<i32, Arc<Queue>>;
type Topics = HashMap<Arc<str>, Queues>;

/// Everything that groups have popped.
#[derive(Debug)]
pub(crate) struct Pop {
    /// By group. Queues in which nothing is in flight may be missing: their offset says everything.
    groups: RwLock<HashMap<Arc<str>, Topics>>,
    next_number: AtomicU64,
    /// Queues by when something is due there. Locked behind a queue's progress.
    due: Mutex<BTreeMap<(i64, u64), Arc<Queue>>>,
    /// There is something new in `due`, earlier than the rest.
    work: Notify,
    /// Spreads pops over queues, and over topics and their retry topics.
    turn: AtomicU32,
    pub(crate) waiting: Waiting,
    pub(crate) figures: Figures,
    pub(crate) order_file: OrderFile,
}

/// How much there is and was. Read one after the other, not in one instant.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Messages in flight.
    pub(crate) in_flight: AtomicUsize,
    /// Messages handed out.
    pub(crate) popped: AtomicU64,
    /// Messages acknowledged.
    pub(crate) acknowledged: AtomicU64,
    /// Acknowledgements and changes that came too late, or twice.
    pub(crate) stale: AtomicU64,
    /// Messages that went to a retry topic.
    pub(crate) retried: AtomicU64,
    /// Messages that became dead letters.
    pub(crate) dead: AtomicU64,
}

/// One queue and what one group has popped of it.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) group: Arc<str>,
    pub(crate) topic: Arc<str>,
    pub(crate) queue_id: i32,
    number: u64,
    progress: Mutex<Progress>,
    /// Its place in `Pop::due`; `NEVER` without one. Changed under the progress' lock.
    scheduled: AtomicI64,
}

const NEVER: i64 = i64::MAX;

/// A queue's progress, locked. Dropping it brings the group's offset, the figures and the schedule up to date.
pub(crate) struct Locked<'a> {
    broker: &'a Broker,
    queue: &'a Arc<Queue>,
    progress: MutexGuard<'a, Progress>,
    floor: Option<i64>,
    in_flight: usize,
    had_order: bool,
}

impl Queue {
    /// A queue whose messages another broker handed out: it is in no table.
    fn apart(group: &str, topic: &str, queue_id: i32) -> Queue {
        Queue {
            group: Arc::from(group),
            topic: Arc::from(topic),
            queue_id,
            number: u64::MAX,
            progress: Mutex::default(),
            scheduled: AtomicI64::new(NEVER),
        }
    }

    /// Locks the progress for a change.
    pub(crate) fn lock<'a>(self: &'a Arc<Self>, broker: &'a Broker) -> Locked<'a> {
        // A lock that a panic left behind is usable: each change is complete in itself.
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        Locked {
            broker,
            queue: self,
            floor: progress.floor(),
            in_flight: progress.in_flight(),
            had_order: progress.order().is_some(),
            progress,
        }
    }
}

impl std::ops::Deref for Locked<'_> {
    type Target = Progress;

    fn deref(&self) -> &Progress {
        &self.progress
    }
}

impl std::ops::DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Progress {
        &mut self.progress
    }
}

impl Locked<'_> {
    /// Takes over where the group is as others know it: an operator's reset, or a commit.
    pub(crate) fn follow_group(&mut self) {
        let Queue {
            group,
            topic,
            queue_id,
            ..
        } = &**self.queue;
        let offsets = &self.broker.offsets;
        if let Some(offset) = offsets.take_reset(group, topic, *queue_id) {
            self.progress.reset(offset);
            self.floor = Some(offset);
        } else if let Some(committed) = offsets.query(group, topic, *queue_id) {
            self.progress.follow(committed);
            // What was committed elsewhere is not committed again.
            if self.progress.floor() == Some(committed) {
                self.floor = Some(committed);
            }
        }
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let pop = &self.broker.pop;
        let (before, after) = (self.in_flight, self.progress.in_flight());
        if after > before {
            pop.figures
                .in_flight
                .fetch_add(after - before, Ordering::Relaxed);
        } else if before > after {
            pop.figures
                .in_flight
                .fetch_sub(before - after, Ordering::Relaxed);
        }
        if self.had_order || self.progress.order().is_some() {
            pop.order_file.dirty();
        }
        let floor = self.progress.floor();
        if floor != self.floor
            && let Some(floor) = floor
        {
            commit(self.broker, self.queue, floor);
        }
        let due = self.progress.next_due(pop_clock(self.broker));
        if let Some(due) = due
            && due < self.queue.scheduled.load(Ordering::Relaxed)
        {
            pop.schedule(self.queue, due);
        }
    }
}

/// The group's offset moves on, unless an operator has just decided otherwise or it is further already.
fn commit(broker: &Broker, queue: &Queue, floor: i64) {
    let (group, topic, queue_id) = (&queue.group, &queue.topic, queue.queue_id);
    let offsets = &broker.offsets;
    let is_behind = offsets
        .query(group, topic, queue_id)
        .is_none_or(|committed| committed < floor);
    if is_behind && !offsets.has_reset(group, topic, queue_id) {
        offsets.commit(group, topic, queue_id, floor);
    }
}

/// The monotonic clock in ms, by which messages are due.
pub(crate) fn pop_clock(broker: &Broker) -> i64 {
    i64::try_from(broker.context().clock.monotonic().as_millis()).unwrap_or(i64::MAX)
}

impl Pop {
    /// Nothing is in flight. What the file says counts once it is [restored](OrderFile::restore).
    pub(crate) fn new(budget: Arc<remoting::Budget>, order_file: OrderFile) -> Pop {
        Pop {
            groups: RwLock::default(),
            next_number: AtomicU64::new(0),
            due: Mutex::default(),
            work: Notify::new(),
            turn: AtomicU32::new(0),
            waiting: Waiting::new(budget),
            figures: Figures::default(),
            order_file,
        }
    }

    /// Tells of everything that is popped in order: group, topic, queue.
    fn each_order(&self, mut told: impl FnMut(&str, &str, i32, &Order)) {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        let queues = groups.values().flat_map(HashMap::values);
        for queue in queues.flat_map(HashMap::values) {
            let progress = queue.progress.lock();
            let progress = progress.unwrap_or_else(PoisonError::into_inner);
            if let Some(order) = progress.order() {
                told(&queue.group, &queue.topic, queue.queue_id, order);
            }
        }
    }

    /// A number that goes up by one each time.
    pub(crate) fn turn(&self) -> u32 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// A group's queue, if anything of it is in memory.
    pub(crate) fn find(&self, group: &str, topic: &str, queue_id: i32) -> Option<Arc<Queue>> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        groups.get(group)?.get(topic)?.get(&queue_id).cloned()
    }

    /// A group's queue. The caller has seen that group and queue exist.
    pub(crate) fn queue(&self, group: &str, topic: &str, queue_id: i32) -> Arc<Queue> {
        if let Some(queue) = self.find(group, topic, queue_id) {
            return queue;
        }
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        let group = shared(&groups, group);
        let topics = groups.entry(group.clone()).or_default();
        let topic = shared(topics, topic);
        let queues = topics.entry(topic.clone()).or_default();
        let created = queues.entry(queue_id).or_insert_with(|| {
            Arc::new(Queue {
                group,
                topic,
                queue_id,
                number: self.next_number.fetch_add(1, Ordering::Relaxed),
                progress: Mutex::default(),
                scheduled: AtomicI64::new(NEVER),
            })
        });
        created.clone()
    }

    /// Forgets what the group has in flight in the topic, or in all topics: group or topic was deleted.
    pub(crate) fn forget(&self, group: Option<&str>, topic: Option<&str>) {
        let mut gone = Vec::new();
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        groups.retain(|name, topics| {
            if group.is_none_or(|group| group == &**name) {
                topics.retain(|name, queues| {
                    let goes = topic.is_none_or(|topic| topic == &**name);
                    if goes {
                        gone.extend(queues.drain().map(|(_, queue)| queue));
                    }
                    !goes
                });
            }
            !topics.is_empty()
        });
        drop(groups);
        self.order_file.dirty();
        for queue in gone {
            let mut progress = queue
                .progress
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            self.figures
                .in_flight
                .fetch_sub(progress.in_flight(), Ordering::Relaxed);
            *progress = Progress::default();
        }
    }

    /// Forgets queues in which nothing is in flight.
    fn forget_idle(&self) {
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        groups.retain(|_, topics| {
            topics.retain(|_, queues| {
                // Who holds it besides the table may be about to pop from it.
                queues.retain(|_, queue| {
                    let progress = queue
                        .progress
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    Arc::strong_count(queue) > 1 || !progress.is_idle()
                });
                !queues.is_empty()
            });
            !topics.is_empty()
        });
    }

    /// The queue is looked at when `due` has come. Called under the lock of its progress.
    fn schedule(&self, queue: &Arc<Queue>, due: i64) {
        let mut all = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let before = queue.scheduled.swap(due, Ordering::Relaxed);
        if before != NEVER {
            all.remove(&(before, queue.number));
        }
        let is_first = all
            .first_key_value()
            .is_none_or(|((first, _), _)| due < *first);
        all.insert((due, queue.number), queue.clone());
        drop(all);
        if is_first {
            self.work.notify_one();
        }
    }

    /// Queues where something is due at `now`, and when the next one is.
    fn take_due(&self, now: i64) -> (Vec<Arc<Queue>>, Option<i64>) {
        let mut all = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let later = all.split_off(&(now.saturating_add(1), 0));
        let due = std::mem::replace(&mut *all, later);
        for queue in due.values() {
            queue.scheduled.store(NEVER, Ordering::Relaxed);
        }
        let next = all.first_key_value().map(|((next, _), _)| *next);
        (due.into_values().collect(), next)
    }
}

/// The key of a map if it is there, so that equal names share their memory.
fn shared<T>(map: &HashMap<Arc<str>, T>, name: &str) -> Arc<str> {
    map.get_key_value(name)
        .map_or_else(|| Arc::from(name), |(name, _)| name.clone())
}
