//! Which client of a group may consume a queue in order. Java 5.3: `RebalanceLockManager`.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use protocol::body::MessageQueue;

/// A lock that its holder has not renewed for this long belongs to nobody. Clients renew every 20 s.
const LIFETIME_MS: i64 = 60_000;

/// The locks of all groups.
#[derive(Debug, Default)]
pub(crate) struct QueueLocks {
    groups: Mutex<HashMap<String, HashMap<MessageQueue, Held>>>,
}

#[derive(Debug)]
struct Held {
    client_id: String,
    renewed_ms: i64,
}

impl Held {
    fn is_expired(&self, now_ms: i64) -> bool {
        now_ms - self.renewed_ms > LIFETIME_MS
    }
}

impl QueueLocks {
    fn groups(&self) -> MutexGuard<'_, HashMap<String, HashMap<MessageQueue, Held>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks, or goes on holding, those of `queues` that no other client holds. Gives them.
    pub(crate) fn lock(
        &self,
        group: &str,
        client_id: &str,
        queues: BTreeSet<MessageQueue>,
        now_ms: i64,
    ) -> BTreeSet<MessageQueue> {
        let mut groups = self.groups();
        let held = groups.entry(group.to_owned()).or_default();
        let mut locked = BTreeSet::new();
        for queue in queues {
            let free = held
                .get(&queue)
                .is_none_or(|lock| lock.client_id == client_id || lock.is_expired(now_ms));
            if free {
                held.insert(
                    queue.clone(),
                    Held {
                        client_id: client_id.to_owned(),
                        renewed_ms: now_ms,
                    },
                );
                locked.insert(queue);
            }
        }
        locked
    }

    /// Gives back those of `queues` that `client_id` holds.
    pub(crate) fn unlock(&self, group: &str, client_id: &str, queues: &BTreeSet<MessageQueue>) {
        let mut groups = self.groups();
        let Some(held) = groups.get_mut(group) else {
            return;
        };
        held.retain(|queue, lock| lock.client_id != client_id || !queues.contains(queue));
        if held.is_empty() {
            groups.remove(group);
        }
    }

    /// Whether nobody holds a lock of the group: it does not consume in order.
    pub(crate) fn all_expired(&self, group: &str, now_ms: i64) -> bool {
        self.groups()
            .get(group)
            .is_none_or(|held| held.values().all(|lock| lock.is_expired(now_ms)))
    }

    /// Forgets locks that nobody renewed, so that groups which are gone take no memory.
    pub(crate) fn forget_expired(&self, now_ms: i64) {
        self.groups().retain(|_, held| {
            held.retain(|_, lock| !lock.is_expired(now_ms));
            !held.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(ids: &[i32]) -> BTreeSet<MessageQueue> {
        ids.iter()
            .map(|id| MessageQueue::new("t", "b", *id))
            .collect()
    }

    #[test]
    fn a_held_queue_is_refused_to_others_and_renewed_by_its_holder() {
        let locks = QueueLocks::default();
        assert_eq!(locks.lock("g", "one", queues(&[0, 1]), 0), queues(&[0, 1]));
        assert_eq!(locks.lock("g", "two", queues(&[1, 2]), 10), queues(&[2]));
        assert_eq!(
            locks.lock("g", "one", queues(&[0, 1, 2]), 20),
            queues(&[0, 1])
        );
        assert_eq!(
            locks.lock("h", "two", queues(&[0]), 20),
            queues(&[0]),
            "another group has locks of its own"
        );
    }

    #[test]
    fn a_lock_that_is_not_renewed_for_sixty_seconds_is_free() {
        let locks = QueueLocks::default();
        locks.lock("g", "one", queues(&[0]), 0);
        assert!(locks.lock("g", "two", queues(&[0]), LIFETIME_MS).is_empty());
        assert!(!locks.all_expired("g", LIFETIME_MS));
        assert!(locks.all_expired("g", LIFETIME_MS + 1));
        assert_eq!(
            locks.lock("g", "two", queues(&[0]), LIFETIME_MS + 1),
            queues(&[0])
        );
        assert!(
            locks
                .lock("g", "one", queues(&[0]), LIFETIME_MS + 1)
                .is_empty()
        );
    }

    #[test]
    fn only_the_holder_unlocks() {
        let locks = QueueLocks::default();
        locks.lock("g", "one", queues(&[0, 1]), 0);
        locks.unlock("g", "two", &queues(&[0]));
        assert!(locks.lock("g", "two", queues(&[0]), 1).is_empty());
        locks.unlock("g", "one", &queues(&[0]));
        assert_eq!(locks.lock("g", "two", queues(&[0, 1]), 1), queues(&[0]));
        locks.unlock("nobody", "one", &queues(&[0]));
    }

    #[test]
    fn expired_locks_take_no_memory() {
        let locks = QueueLocks::default();
        locks.lock("g", "one", queues(&[0]), 0);
        locks.forget_expired(LIFETIME_MS);
        assert!(!locks.groups().is_empty());
        locks.forget_expired(LIFETIME_MS + 1);
        assert!(locks.groups().is_empty());
    }
}
