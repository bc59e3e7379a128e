//! Who is told that a queue has new messages: pulls and pops that wait, and the delivery of delayed messages and of timer messages.

use std::sync::Arc;

use protocol::topic;

use crate::longpoll::LongPoll;
use crate::pop::Pop;
use crate::schedule::Schedule;
use crate::timers::Timers;

/// Passes the store's news on.
pub(crate) struct Arrivals {
    pub(crate) longpoll: Arc<LongPoll>,
    pub(crate) pop: Arc<Pop>,
    pub(crate) schedule: Arc<Schedule>,
    pub(crate) timers: Option<Arc<Timers>>,
}

impl storage::Arrivals for Arrivals {
    fn arrived(&self, name: &Arc<str>, queue_id: i32) {
        if **name == *topic::SCHEDULE {
            self.schedule.arrived(queue_id);
        } else if **name == *topic::TIMER
            && let Some(timers) = &self.timers
        {
            timers.arrived();
        }
        self.longpoll.arrived(name, queue_id);
        self.pop.waiting.wake(name, None);
    }
}
