//! From a delayed record to a message of its real topic, and the append.

use std::borrow::Cow;

use bytes::Bytes;
use protocol::properties as names;
use protocol::record::{self, CheckBody, Record};
use protocol::topic;
use storage::{AppendError, Appended, NewMessage, Store};

use crate::requests::send::is_about_a_message;

/// A record whose time has come.
struct Due<'a> {
    record: Record<'a>,
    topic: &'a str,
    queue_id: i32,
    properties: Cow<'a, str>,
}

/// Appends the records of a level to their real topics, in order. `passed` is called behind each append with the queue offset from which on the level
/// is not delivered yet, and the last message that was appended, if one was.
///
/// A record that says no real topic, and a message that the log does not take whatever happens, are passed over with an error in the log. On an error
/// everything before the level's offset was delivered, and nothing behind it.
pub(super) fn deliver(
    store: &Store,
    records: &[Bytes],
    mut passed: impl FnMut(i64, Option<&Appended>),
) -> Result<(), AppendError> {
    let due: Vec<Due<'_>> = records.iter().filter_map(due).collect();
    let messages: Vec<NewMessage<'_>> = due.iter().map(Due::message).collect();
    let end = records
        .last()
        .and_then(|bytes| record::peek_queue_offset(bytes));
    let Some(end) = end.map(|last| last as i64 + 1) else {
        return Ok(());
    };
    let mut appended = Vec::with_capacity(messages.len());
    match store.append(&messages, &mut appended) {
        Ok(()) => {
            passed(end, appended.last());
            return Ok(());
        }
        Err(error) if !is_about_a_message(&error) => return Err(error),
        Err(_) => {}
    }
    // One message is at fault, and must not hold up the others.
    for (due, message) in due.iter().zip(&messages) {
        appended.clear();
        let offset = due.record.queue_offset as i64;
        match store.append(std::slice::from_ref(message), &mut appended) {
            Ok(()) => {}
            Err(error) if is_about_a_message(&error) => due.complain(&error.to_string()),
            Err(error) => {
                passed(offset, None);
                return Err(error);
            }
        }
        passed(offset + 1, appended.last());
    }
    passed(end, None);
    Ok(())
}

/// What becomes of a record. Java 5.3: `ScheduleMessageService.messageTimeUp`: all properties stay, `DELAY`, `REAL_TOPIC` and `REAL_QID` among
/// them, so do flags, the birth and the times of consumption.
fn due(bytes: &Bytes) -> Option<Due<'_>> {
    let record = match record::decode(bytes, CheckBody::No) {
        Ok(record) => record,
        Err(error) => {
            tracing::error!(%error, "a delayed record cannot be read; it is not delivered");
            return None;
        }
    };
    let real_topic = names::get(record.properties, names::REAL_TOPIC);
    let queue_id = names::get(record.properties, names::REAL_QUEUE_ID);
    let queue_id = queue_id.and_then(|text| text.parse::<i32>().ok());
    let due = Due {
        topic: real_topic.unwrap_or_default(),
        queue_id: queue_id.unwrap_or(-1),
        properties: without_checksum(record.properties),
        record,
    };
    // A delayed half message cannot be: it would be delivered as one without its transaction.
    if due.topic.is_empty() || due.topic == topic::TRANS_HALF || due.queue_id < 0 {
        due.complain("it names no topic and queue to deliver to");
        return None;
    }
    Some(due)
}

/// A checksum that a Java broker put over the whole record is not that of the record to come (Java 5.3: `enabledAppendPropCRC`).
fn without_checksum(properties: &str) -> Cow<'_, str> {
    if names::get(properties, names::CRC32).is_none() {
        return Cow::Borrowed(properties);
    }
    let mut kept = String::with_capacity(properties.len());
    let rest = names::iter(properties).filter(|(name, _)| *name != names::CRC32);
    rest.for_each(|(name, value)| names::push(&mut kept, name, value));
    Cow::Owned(kept)
}

impl Due<'_> {
    fn message(&self) -> NewMessage<'_> {
        NewMessage {
            topic: self.topic,
            queue_id: self.queue_id,
            flag: self.record.flag,
            sys_flag: self.record.sys_flag,
            born_timestamp_ms: self.record.born_timestamp_ms,
            born_host: self.record.born_host,
            store_host: self.record.store_host,
            reconsume_times: self.record.reconsume_times,
            prepared_transaction_offset: 0,
            body: self.record.body,
            properties: &self.properties,
        }
    }

    fn complain(&self, reason: &str) {
        tracing::error!(
            topic = self.topic,
            queue_id = self.queue_id,
            level = self.record.queue_id + 1,
            queue_offset = self.record.queue_offset,
            physical = self.record.physical_offset,
            reason,
            "a delayed message cannot be delivered and is passed over; its record stays in the log"
        );
    }
}
