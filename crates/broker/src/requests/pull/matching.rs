//! Reading through an expression: messages are read in portions and asked one by one.

use bytes::Bytes;
use protocol::{batch, light};
use storage::{Read, ReadError, ReadMode, ReadResult, ReadStatus};

use super::Pull;
use crate::Broker;
use crate::settings::Transfer;

/// Messages that one call looks at. Java 5.3: `maxFilterMessageSize`, 16,000 bytes of a queue's entries.
const LOOKED_MESSAGES_MAX: usize = 800;
/// Bytes of messages that one call looks at; one more message is looked at whatever its size. It bounds how long a pull keeps
/// others waiting.
const LOOKED_BYTES_MAX: usize = 4 << 20;
/// Bytes that are read at once.
const PORTION_BYTES: usize = 256 << 10;
/// Messages that are read at once at least.
const PORTION_MESSAGES_MIN: usize = 32;

/// What one call has come to.
struct Looked {
    result: ReadResult,
    /// Bytes of the messages found.
    found_bytes: usize,
    messages: usize,
    bytes: usize,
}

/// Reads on from the pull's offset until enough is found or enough is looked at. What was gone over counts when the next portion would
/// have to wait for the disk.
pub(super) fn read(
    pull: &Pull,
    broker: &Broker,
    transfer: Transfer,
    mode: ReadMode,
) -> Result<ReadResult, ReadError> {
    let portion = |offset: i64, wanted: usize, left: usize| {
        let read = Read {
            topic: &pull.topic.topic_name,
            queue_id: pull.queue_id,
            offset,
            messages_max: wanted.max(PORTION_MESSAGES_MIN).min(left),
            bytes_max: PORTION_BYTES,
            filter: &|_| true,
        };
        broker.store.read(&read, mode)
    };
    let messages_max = transfer.messages_max.max(1);
    let first = portion(pull.offset, messages_max, LOOKED_MESSAGES_MAX)?;
    if first.status != ReadStatus::Found {
        return Ok(first);
    }
    let mut looked = Looked {
        result: ReadResult {
            status: ReadStatus::NoMatchedMessage,
            records: Vec::new(),
            ..first
        },
        found_bytes: 0,
        messages: 0,
        bytes: 0,
    };
    let mut next = (first.records, first.next_offset);
    while looked.take(pull, broker, transfer, next.0) {
        looked.result.next_offset = next.1;
        if looked.messages >= LOOKED_MESSAGES_MAX || looked.bytes >= LOOKED_BYTES_MAX {
            break;
        }
        let wanted = messages_max - looked.result.records.len();
        let left = LOOKED_MESSAGES_MAX - looked.messages;
        next = match portion(looked.result.next_offset, wanted, left) {
            Ok(more) if more.status == ReadStatus::Found => (more.records, more.next_offset),
            // The next call finds out what is there, or waits for it.
            Ok(_) | Err(ReadError::WouldBlock) => break,
            Err(error) => return Err(error),
        };
    }
    Ok(looked.result)
}

impl Looked {
    /// Looks at messages in turn; false when enough is found, with the offset behind the last that was looked at.
    fn take(
        &mut self,
        pull: &Pull,
        broker: &Broker,
        transfer: Transfer,
        records: Vec<Bytes>,
    ) -> bool {
        for bytes in records {
            let offset = light::queue_offset(&bytes, &pull.topic.topic_name)
                .map_or(0, |offset| offset as i64);
            let behind = offset + batch::messages_in(&bytes) as i64;
            self.messages += 1;
            self.bytes += bytes.len();
            if !pull.filter.takes_record(broker, &bytes) {
                self.result.next_offset = behind;
                continue;
            }
            let found = &mut self.result.records;
            if !found.is_empty() && self.found_bytes + bytes.len() > transfer.bytes_max {
                self.result.next_offset = offset;
                return false;
            }
            self.found_bytes += bytes.len();
            self.result.status = ReadStatus::Found;
            self.result.next_offset = behind;
            found.push(bytes);
            if found.len() >= transfer.messages_max {
                return false;
            }
        }
        true
    }
}
