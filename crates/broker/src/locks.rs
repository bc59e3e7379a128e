//! Which client of a group may consume a queue in order. Values in, values out, time given. Java 5.3: `RebalanceLockManager`.
//!
//! In Java a lock whose holder died is free a minute later. Here it is free soon after the holder's connection closed, unless the
//! holder shows that it lives: it locks again, sends a heartbeat, or pulls or commits the queue on another connection. A client whose
//! connection breaks does one of these within five seconds, in which it is back; nobody who waits gets the queue meanwhile.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::body::MessageQueue;
use tokio::sync::Notify;

use crate::Broker;

/// The part of a lock's lifetime that its holder has for a sign of life after its connection closed: 7.5 s of 60 s. Clients commit
/// every five seconds, and pull again three seconds after a pull failed.
const GRACE_PART: i64 = 8;
/// How exactly that is kept.
const TICK: Duration = Duration::from_millis(100);

/// The locks of all groups.
#[derive(Debug, Default)]
pub(crate) struct QueueLocks {
    groups: Mutex<HashMap<String, HashMap<MessageQueue, Held>>>,
    /// Locks whose holder's connection closed: nearly always none, and then a pull takes no lock.
    orphans: AtomicUsize,
    work: Notify,
}

#[derive(Debug)]
struct Held {
    client_id: String,
    /// When it is free unless it is renewed.
    until_ms: i64,
    /// When it is free because its holder's connection closed.
    orphan_until_ms: Option<i64>,
}

impl Held {
    fn is_free(&self, now_ms: i64) -> bool {
        now_ms > self.until_ms
            || self
                .orphan_until_ms
                .is_some_and(|until_ms| now_ms >= until_ms)
    }
}

type Groups = HashMap<String, HashMap<MessageQueue, Held>>;

impl QueueLocks {
    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks, or goes on holding, those of `queues` that no other client holds. Gives them. Each is held for `lifetime_ms`.
    pub(crate) fn lock(
        &self,
        group: &str,
        client_id: &str,
        queues: BTreeSet<MessageQueue>,
        lifetime_ms: i64,
        now_ms: i64,
    ) -> BTreeSet<MessageQueue> {
        let mut groups = self.groups();
        let held = groups.entry(group.to_owned()).or_default();
        let mut locked = BTreeSet::new();
        for queue in queues {
            let free = held
                .get(&queue)
                .is_none_or(|lock| lock.client_id == client_id || lock.is_free(now_ms));
            if free {
                let lock = Held {
                    client_id: client_id.to_owned(),
                    until_ms: now_ms + lifetime_ms,
                    orphan_until_ms: None,
                };
                held.insert(queue.clone(), lock);
                locked.insert(queue);
            }
        }
        keep(held, client_id);
        self.recount(&groups);
        locked
    }

    /// Gives back those of `queues` that `client_id` holds.
    pub(crate) fn unlock(&self, group: &str, client_id: &str, queues: &BTreeSet<MessageQueue>) {
        self.remove(group, |queue, lock| {
            lock.client_id == client_id && queues.contains(queue)
        });
    }

    /// The client says that it leaves the group: nothing is left to wait for.
    pub(crate) fn left(&self, group: &str, client_id: &str) {
        self.remove(group, |_, lock| lock.client_id == client_id);
    }

    fn remove(&self, group: &str, goes: impl Fn(&MessageQueue, &Held) -> bool) {
        let mut groups = self.groups();
        let Some(held) = groups.get_mut(group) else {
            return;
        };
        held.retain(|queue, lock| !goes(queue, lock));
        if held.is_empty() {
            groups.remove(group);
        }
        self.recount(&groups);
    }

    /// The connection of a member closed. What it holds is free soon, unless it shows that it lives.
    pub(crate) fn orphaned(&self, group: &str, client_id: &str, now_ms: i64, lifetime_ms: i64) {
        let mut groups = self.groups();
        let Some(held) = groups.get_mut(group) else {
            return;
        };
        let own = held.values_mut();
        for lock in own.filter(|lock| lock.client_id == client_id && !lock.is_free(now_ms)) {
            lock.orphan_until_ms = Some(now_ms + lifetime_ms / GRACE_PART);
            self.orphans.fetch_add(1, Ordering::AcqRel);
        }
        self.recount(&groups);
        drop(groups);
        if self.has_orphans() {
            self.work.notify_one();
        }
    }

    /// A member is heard of: whatever it holds it goes on holding.
    pub(crate) fn lives(&self, group: &str, client_id: &str) {
        if !self.has_orphans() {
            return;
        }
        let mut groups = self.groups();
        if let Some(held) = groups.get_mut(group) {
            keep(held, client_id);
        }
        self.recount(&groups);
    }

    /// Somebody of the group pulls from a queue or commits it. Only who holds its lock does that, so its holder lives.
    pub(crate) fn used(&self, group: &str, topic: &str, queue_id: i32) {
        if !self.has_orphans() {
            return;
        }
        let mut groups = self.groups();
        let Some(held) = groups.get_mut(group) else {
            return;
        };
        let of_queue = |queue: &MessageQueue| queue.queue_id == queue_id && queue.topic == topic;
        let holder = held.iter().find(|(queue, _)| of_queue(queue));
        if let Some(client_id) = holder.map(|(_, lock)| lock.client_id.clone()) {
            keep(held, &client_id);
        }
        self.recount(&groups);
    }

    fn has_orphans(&self) -> bool {
        self.orphans.load(Ordering::Acquire) > 0
    }

    fn recount(&self, groups: &Groups) {
        if !self.has_orphans() {
            return;
        }
        let locks = groups.values().flat_map(HashMap::values);
        let orphans = locks.filter(|lock| lock.orphan_until_ms.is_some()).count();
        self.orphans.store(orphans, Ordering::Release);
    }

    /// Frees what was left behind. Gives the groups whose members may lock it.
    fn free_orphans(&self, now_ms: i64) -> BTreeSet<String> {
        let mut freed = BTreeSet::new();
        let mut groups = self.groups();
        groups.retain(|group, held| {
            let before = held.len();
            held.retain(|_, lock| lock.orphan_until_ms.is_none() || !lock.is_free(now_ms));
            if held.len() < before {
                freed.insert(group.clone());
            }
            !held.is_empty()
        });
        self.recount(&groups);
        freed
    }

    /// Whether nobody holds a lock of the group: it does not consume in order.
    pub(crate) fn all_expired(&self, group: &str, now_ms: i64) -> bool {
        self.groups()
            .get(group)
            .is_none_or(|held| held.values().all(|lock| lock.is_free(now_ms)))
    }

    /// Forgets locks that nobody renewed, so that groups which are gone take no memory.
    pub(crate) fn forget_expired(&self, now_ms: i64) {
        let mut groups = self.groups();
        groups.retain(|_, held| {
            held.retain(|_, lock| !lock.is_free(now_ms));
            !held.is_empty()
        });
        self.recount(&groups);
    }
}

/// The client's locks are no orphans.
fn keep(held: &mut HashMap<MessageQueue, Held>, client_id: &str) {
    for lock in held.values_mut().filter(|lock| lock.client_id == client_id) {
        lock.orphan_until_ms = None;
    }
}

/// The task that frees what the dead left behind, for as long as the broker runs.
pub(crate) async fn run(broker: Arc<Broker>) {
    loop {
        broker.locks.work.notified().await;
        while broker.locks.has_orphans() {
            tokio::time::sleep(TICK).await;
            for group in broker.locks.free_orphans(broker.now_ms()) {
                tracing::info!(group, "locks of a member that is gone are free");
                // The others were told when it went, and found its queues locked. Old clients try again after 20 s only.
                broker.clients.group_changed(&broker, &group);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME_MS: i64 = 60_000;
    const GRACE_MS: i64 = LIFETIME_MS / GRACE_PART;

    fn queues(ids: &[i32]) -> BTreeSet<MessageQueue> {
        ids.iter()
            .map(|id| MessageQueue::new("t", "b", *id))
            .collect()
    }

    fn lock(locks: &QueueLocks, group: &str, client: &str, ids: &[i32], now_ms: i64) -> Vec<i32> {
        let locked = locks.lock(group, client, queues(ids), LIFETIME_MS, now_ms);
        locked.into_iter().map(|queue| queue.queue_id).collect()
    }

    #[test]
    fn a_held_queue_is_refused_to_others_and_renewed_by_its_holder() {
        let locks = QueueLocks::default();
        assert_eq!(lock(&locks, "g", "one", &[0, 1], 0), [0, 1]);
        assert_eq!(lock(&locks, "g", "two", &[1, 2], 10), [2]);
        assert_eq!(lock(&locks, "g", "one", &[0, 1, 2], 20), [0, 1]);
        let other = lock(&locks, "h", "two", &[0], 20);
        assert_eq!(other, [0], "another group has locks of its own");
    }

    #[test]
    fn a_lock_that_is_not_renewed_for_its_lifetime_is_free() {
        let locks = QueueLocks::default();
        lock(&locks, "g", "one", &[0], 0);
        assert!(lock(&locks, "g", "two", &[0], LIFETIME_MS).is_empty());
        assert!(!locks.all_expired("g", LIFETIME_MS));
        assert!(locks.all_expired("g", LIFETIME_MS + 1));
        assert_eq!(lock(&locks, "g", "two", &[0], LIFETIME_MS + 1), [0]);
        assert!(lock(&locks, "g", "one", &[0], LIFETIME_MS + 1).is_empty());
    }

    #[test]
    fn only_the_holder_unlocks() {
        let locks = QueueLocks::default();
        lock(&locks, "g", "one", &[0, 1], 0);
        locks.unlock("g", "two", &queues(&[0]));
        assert!(lock(&locks, "g", "two", &[0], 1).is_empty());
        locks.unlock("g", "one", &queues(&[0]));
        assert_eq!(lock(&locks, "g", "two", &[0, 1], 1), [0]);
        locks.unlock("nobody", "one", &queues(&[0]));
    }

    #[test]
    fn a_client_that_leaves_the_group_leaves_its_queues_at_once() {
        let locks = QueueLocks::default();
        lock(&locks, "g", "one", &[0, 1], 0);
        lock(&locks, "h", "one", &[0], 0);
        locks.left("g", "one");
        assert_eq!(lock(&locks, "g", "two", &[0, 1], 1), [0, 1]);
        assert!(lock(&locks, "h", "two", &[0], 1).is_empty());
    }

    #[test]
    fn a_client_that_died_leaves_its_queues_after_a_while() {
        let locks = QueueLocks::default();
        lock(&locks, "g", "one", &[0, 1], 0);
        lock(&locks, "g", "two", &[2], 0);
        locks.orphaned("g", "one", 1000, LIFETIME_MS);
        locks.orphaned("nobody", "one", 1000, LIFETIME_MS);
        assert_eq!(locks.orphans.load(Ordering::Relaxed), 2);
        assert!(lock(&locks, "g", "two", &[0], 999 + GRACE_MS).is_empty());
        assert_eq!(locks.free_orphans(999 + GRACE_MS), BTreeSet::new());
        let freed = locks.free_orphans(1000 + GRACE_MS);
        assert_eq!(freed, BTreeSet::from(["g".to_owned()]));
        assert!(!locks.has_orphans());
        assert_eq!(
            lock(&locks, "g", "two", &[0, 1, 2], 1000 + GRACE_MS),
            [0, 1, 2]
        );
    }

    #[test]
    fn a_client_that_only_reconnects_keeps_its_queues() {
        let signs: [fn(&QueueLocks); 3] = [
            |locks| locks.lives("g", "one"),
            |locks| locks.used("g", "t", 1),
            |locks| assert_eq!(lock(locks, "g", "one", &[1], 2000), [1]),
        ];
        for sign in signs {
            let locks = QueueLocks::default();
            lock(&locks, "g", "one", &[0, 1], 0);
            locks.orphaned("g", "one", 1000, LIFETIME_MS);
            // Signs of others are none of its own.
            locks.lives("g", "two");
            locks.lives("h", "one");
            locks.used("g", "t", 7);
            locks.used("g", "u", 1);
            assert!(locks.has_orphans());
            sign(&locks);
            assert!(!locks.has_orphans());
            assert_eq!(locks.free_orphans(LIFETIME_MS - 1), BTreeSet::new());
            assert!(lock(&locks, "g", "two", &[0, 1], LIFETIME_MS - 1).is_empty());
        }
    }

    #[test]
    fn expired_locks_take_no_memory() {
        let locks = QueueLocks::default();
        lock(&locks, "g", "one", &[0], 0);
        locks.forget_expired(LIFETIME_MS);
        assert!(!locks.groups().is_empty());
        locks.forget_expired(LIFETIME_MS + 1);
        assert!(locks.groups().is_empty());
    }
}
