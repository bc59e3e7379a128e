//! Tells consumers that their group changed: NOTIFY_CONSUMER_IDS_CHANGED (40), on which they share the queues anew.
//!
//! Changes of a group that come together are told once. Who cannot take the message misses it: clients look for themselves
//! every 20 seconds.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::body::MessageModel;
use protocol::code::RequestCode;
use protocol::command::Command;
use protocol::headers::NotifyConsumerIdsChangedRequest;
use tokio::sync::Notify;

use crate::Broker;

/// Between two rounds: when a hundred consumers start together, each hears of it a few times and not a hundred times.
const ROUND_INTERVAL: Duration = Duration::from_millis(50);

/// Groups whose members must hear that something changed. There are no more of them than groups.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    changed: Mutex<BTreeSet<String>>,
    work: Notify,
}

impl Notifier {
    /// The members of `group` will hear of it. Does not wait.
    pub(crate) fn changed(&self, group: &str) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if changed.insert(group.to_owned()) {
            self.work.notify_one();
        }
    }

    fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The task that tells, for as long as the broker runs.
pub(crate) async fn run(broker: Arc<Broker>) {
    let notifier = broker.clients.notifier();
    loop {
        notifier.work.notified().await;
        for group in notifier.take() {
            tell(&broker, group);
        }
        tokio::time::sleep(ROUND_INTERVAL).await;
    }
}

fn tell(broker: &Broker, group: String) {
    let Some(members) = broker.clients.consumer_group(&group) else {
        return;
    };
    // Who gets every message shares nothing.
    if members.message_model() == MessageModel::Broadcasting {
        return;
    }
    let header = NotifyConsumerIdsChangedRequest {
        consumer_group: group,
    };
    let command = Command::request(RequestCode::NOTIFY_CONSUMER_IDS_CHANGED, &header);
    for member in members.members() {
        if let Err(error) = member.handle.send_oneway(command.clone()) {
            tracing::debug!(client = member.client_id, %error, "a consumer does not hear that its group changed");
        }
    }
}
