//! Who is told that a queue has new messages: pulls and pops that wait, and the delivery of delayed messages.

use std::sync::Arc;

use protocol::topic;

use crate::longpoll::LongPoll;
use crate::pop::Pop;
use crate::schedule::Schedule;

/// Passes the store's news on.
pub(crate) struct Arrivals {
    pub(crate) longpoll: Arc<LongPoll>,
    pub(crate) pop: Arc<Pop>,
    pub(crate) schedule: Arc<Schedule>,
}

impl storage::Arrivals for Arrivals {
    fn arrived(&self, name: &Arc<str>, queue_id: i32) {
        if **name == *topic::SCHEDULE {
            self.schedule.arrived(queue_id);
        }
        self.longpoll.arrived(name, queue_id);
        self.pop.waiting.wake(name, None);
    }
}
