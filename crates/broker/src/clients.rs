//! Who is connected: producers and consumers by group, as their heartbeats say.

mod producers;
mod registry;

use std::sync::Arc;
use std::time::Duration;

use remoting::Connection;

use crate::Broker;
use crate::notify::Notifier;

pub(crate) use registry::{Client, Consumer};

/// The clients of this broker, and the task that tells consumers of each other.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    registry: registry::Registry<Arc<Connection>>,
    notifier: Notifier,
}

/// The consumers of one group.
pub(crate) type ConsumerGroup = registry::ConsumerGroup<Arc<Connection>>;

impl Clients {
    /// The table of clients.
    pub(crate) fn registry(&self) -> &registry::Registry<Arc<Connection>> {
        &self.registry
    }

    /// Tells consumers that their group changed.
    pub(crate) fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// The consumers of a group; none while nobody of it is connected.
    pub(crate) fn consumer_group(&self, group: &str) -> Option<Arc<ConsumerGroup>> {
        self.registry.consumer_group(group)
    }

    /// A connection is gone, and with it whoever was on it.
    pub(crate) fn closed(&self, broker: &Broker, connection: &Arc<Connection>) {
        let closed = self.registry.closed(connection.id());
        for (group, client_id) in &closed.left {
            let (now_ms, lifetime_ms) = (broker.now_ms(), lock_lifetime_ms(broker));
            broker.locks.orphaned(group, client_id, now_ms, lifetime_ms);
        }
        for group in closed.groups {
            self.group_changed(broker, &group);
        }
    }

    /// The members of a group or what they subscribe to changed: those who share its queues hear of it, unless the
    /// configuration says otherwise.
    pub(crate) fn group_changed(&self, broker: &Broker, group: &str) {
        let wanted = broker
            .groups
            .get(group)
            .is_none_or(|config| config.notify_consumer_ids_changed_enable);
        if wanted && broker.keys().notify_consumer_ids_changed_enable {
            self.notifier.changed(group);
        }
    }
}

/// How long a lock is held that nobody renews.
pub(crate) fn lock_lifetime_ms(broker: &Broker) -> i64 {
    i64::try_from(broker.keys().rebalance_lock_max_live_time).unwrap_or(i64::MAX)
}

/// Forgets clients that have been silent for `channelExpiredTimeout`, closes their connections, and forgets locks and filters that
/// nobody renews.
pub(crate) fn scan(broker: &Broker) {
    let silent = Duration::from_millis(broker.keys().channel_expired_timeout);
    let expired = broker
        .clients
        .registry
        .expire(broker.now_ms() - silent.as_millis() as i64);
    for connection in expired.connections {
        tracing::info!(peer = %connection.peer(), "a client is silent; it is forgotten");
        connection.close("no heartbeat within channelExpiredTimeout");
    }
    for group in expired.groups {
        broker.clients.group_changed(broker, &group);
    }
    broker.locks.forget_expired(broker.now_ms());
    let kept_ms = i64::try_from(broker.keys().filter_data_clean_time_span).unwrap_or(i64::MAX);
    broker.filters.clean(broker.now_ms(), kept_ms, |group| {
        broker.clients.consumer_group(group).is_some()
    });
}
