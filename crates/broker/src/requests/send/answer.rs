//! What the sender of a message is told.

use std::time::Duration;

use protocol::code::ResponseCode;
use protocol::header::WriteFields;
use protocol::properties as names;
use storage::{AppendError, Appended, Store};

use crate::call::Refusal;
use crate::settings::Settings;
use crate::text::OffsetIds;

/// The fields of an answer that clients read even from a refusal.
pub(crate) struct Region<'a>(pub(crate) &'a Settings);

impl WriteFields for Region<'_> {
    fn write_fields(&self, write: &mut dyn FnMut(&str, &str)) {
        write(names::MSG_REGION, &self.0.region_id);
        write(names::TRACE_SWITCH, self.0.trace_on);
    }
}

/// The fields of the answer to a send.
pub(crate) struct Sent<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) message_id: &'a str,
    pub(crate) queue_id: i32,
    pub(crate) queue_offset: i64,
    pub(crate) transaction_id: Option<&'a str>,
    /// Empty when the message cannot be taken back.
    pub(crate) recall_handle: &'a str,
    /// It is a batch in one record: its client is told the unique id of the whole.
    pub(crate) is_inner_batch: bool,
}

impl WriteFields for Sent<'_> {
    fn write_fields(&self, write: &mut dyn FnMut(&str, &str)) {
        write("msgId", self.message_id);
        write("queueId", itoa::Buffer::new().format(self.queue_id));
        write("queueOffset", itoa::Buffer::new().format(self.queue_offset));
        if let Some(transaction_id) = self.transaction_id {
            write("transactionId", transaction_id);
            if self.is_inner_batch {
                write("batchUniqId", transaction_id);
            }
        }
        if !self.recall_handle.is_empty() {
            write("recallHandle", self.recall_handle);
        }
        Region(self.settings).write_fields(write);
    }
}

/// The ids of the messages of a batch, separated by commas.
pub(super) fn join_ids<'t>(
    offset_ids: &mut OffsetIds,
    appended: &[Appended],
    ids: &'t mut String,
) -> &'t str {
    ids.clear();
    for (index, appended) in appended.iter().enumerate() {
        if index > 0 {
            ids.push(',');
        }
        ids.push_str(offset_ids.id(appended.physical_offset));
    }
    ids
}

/// Whether one message is at fault, and not the store.
pub(crate) fn is_about_a_message(error: &AppendError) -> bool {
    matches!(
        error,
        AppendError::TooLarge { .. }
            | AppendError::TopicTooLong { .. }
            | AppendError::PropertiesTooLong { .. }
            | AppendError::Unstorable { .. }
    )
}

/// MESSAGE_ILLEGAL with Java's text.
pub(crate) fn illegal(message_bytes_max: usize) -> Refusal {
    Refusal::new(
        ResponseCode::MESSAGE_ILLEGAL,
        format!(
            "the message is illegal, maybe msg body or properties length not matched. msg body length limit {message_bytes_max}B, \
             msg properties length limit 32KB."
        ),
    )
}

/// A message of a compaction topic has no key. Java 5.3.4: `SendMessageProcessor.sendMessage`.
pub(crate) fn key_is_missing() -> Refusal {
    Refusal::new(
        ResponseCode::MESSAGE_ILLEGAL,
        "Required message key is missing",
    )
}

/// The store has failed: nothing more is taken until the broker is restarted.
pub(crate) fn failed(reason: &str) -> Refusal {
    Refusal::new(
        ResponseCode::SERVICE_NOT_AVAILABLE,
        format!(
            "service not available now: the message store has failed and takes no more writes ({reason}). Check the disk, then restart the broker."
        ),
    )
}

/// Returns when the disk has everything below `end`.
pub(crate) async fn flushed(store: &Store, end: u64, patience: Duration) -> Result<(), Refusal> {
    let mut flush = store.flush_state();
    let flushed = flush.wait_for(|state| state.failed || state.flushed >= end);
    match tokio::time::timeout(patience, flushed).await {
        Ok(Ok(state)) if !state.failed => Ok(()),
        Ok(_) => Err(failed("the message could not be synced")),
        Err(_) => Err(Refusal::new(
            ResponseCode::FLUSH_DISK_TIMEOUT,
            "the message is stored, but the disk did not confirm it in time; it is slow or overloaded",
        )),
    }
}

/// What a client is told when the store does not take its message.
pub(crate) fn refusal(error: &AppendError, message_bytes_max: usize) -> Refusal {
    match error {
        AppendError::DiskFull { reason } => Refusal::new(
            ResponseCode::SERVICE_NOT_AVAILABLE,
            format!(
                "service not available now. It may be caused by one of the following reasons: the broker's disk is full [{reason}], \
                 messages are put to the slave, message store has been shut down, etc. Free space on the broker's disk, or lower \
                 fileReservedTime; writing resumes by itself."
            ),
        ),
        AppendError::Failed { reason } => failed(reason),
        AppendError::NoSegment { reason } => Refusal::system_error(format!(
            "create mapped file failed, server is busy or broken: {reason}"
        )),
        AppendError::Closed => Refusal::new(
            ResponseCode::SERVICE_NOT_AVAILABLE,
            "service not available now: the broker is shutting down",
        ),
        AppendError::Busy { .. } => Refusal::new(
            ResponseCode::SYSTEM_BUSY,
            "[PC_SYNCHRONIZED]broker busy, start flow control for a while",
        ),
        AppendError::TooLarge { .. }
        | AppendError::TopicTooLong { .. }
        | AppendError::PropertiesTooLong { .. }
        | AppendError::Unstorable { .. } => illegal(message_bytes_max),
    }
}
