//! Taking a message back before its time.

use std::net::SocketAddr;

use bytes::Bytes;
use protocol::topic;
use storage::{AppendError, Appended, NewMessage};

use super::engine::{Engine, Tombstone};
use super::entry::{Mark, key_hash};
use super::message::{self, Recall, Timed};

/// Orders to drop messages that are remembered at a time, each some 150 bytes.
const TOMBSTONES_MAX: usize = 128 << 10;

/// Who takes which message back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) topic: &'a str,
    pub(crate) unique_id: &'a str,
    pub(crate) producer_group: &'a str,
    /// Of the handle: the tick of the message, plus one.
    pub(crate) timestamp_ms: i64,
    pub(crate) born_host: SocketAddr,
    pub(crate) store_host: SocketAddr,
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Recalled {
    /// The message will not be delivered once the log is flushed to here.
    Yes(Appended),
    /// It is delivered, or is being delivered.
    TooLate,
    /// There are as many orders as may be.
    TooMany,
    /// The order could not be stored.
    Failed(AppendError),
}

impl Engine {
    /// Drops a message that waits. `found` is its last record as the index knows it; without one the handle is believed.
    pub(super) fn recall(&mut self, request: &Request<'_>, found: Option<&Bytes>) -> Recalled {
        let now_ms = self.clock.now_ms();
        let timed =
            found.and_then(|bytes| message::understand(bytes, self.settings.precision_ms).ok());
        let waits = match &timed {
            Some(timed) => self.waits(timed),
            None => request.timestamp_ms - 1 > now_ms.max(self.progress.mark.due_ms),
        };
        if !waits {
            return Recalled::TooLate;
        }
        let hash = key_hash(request.topic, request.unique_id);
        if self.tombstones.len() >= TOMBSTONES_MAX && !self.tombstones.contains_key(&hash) {
            return Recalled::TooMany;
        }
        let due_ms = timed
            .as_ref()
            .map_or(request.timestamp_ms - 1, |timed| timed.due_ms);
        let order = Recall {
            topic: request.topic,
            unique_id: request.unique_id,
            producer_group: request.producer_group,
            due_ms,
            now_ms,
        };
        let properties = order.properties();
        let message = NewMessage {
            topic: topic::TIMER,
            queue_id: 0,
            flag: 0,
            sys_flag: 0,
            born_timestamp_ms: now_ms,
            born_host: request.born_host,
            store_host: request.store_host,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: b"0",
            properties: &properties,
        };
        let mut appended = Vec::with_capacity(1);
        if let Err(error) = self
            .store
            .append(std::slice::from_ref(&message), &mut appended)
        {
            return Recalled::Failed(error);
        }
        let appended = appended[0];
        // From here on it is not delivered, before the order's record is read from the queue.
        let tombstone = Tombstone {
            physical: appended.physical_offset,
            topic: request.topic.into(),
            unique_id: request.unique_id.into(),
        };
        self.tombstones.insert(hash, tombstone);
        Recalled::Yes(appended)
    }

    /// Whether a message is not delivered yet.
    fn waits(&mut self, timed: &Timed<'_>) -> bool {
        let mark = Mark {
            due_ms: timed.due_ms,
            physical: timed.record.physical_offset,
        };
        if timed.record.queue_offset >= self.read_offset || mark > self.progress.mark {
            return true;
        }
        // What was read after its time, or before the clock was set back.
        self.is_late().unwrap_or(true) && self.timeline.fresh_has(mark.physical)
    }
}
