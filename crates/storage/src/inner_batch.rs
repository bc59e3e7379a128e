//! Inner batches: records that hold several messages of a batch topic and take as many offsets of its queue. Java 5.3.4: `MessageSysFlag.INNER_BATCH_FLAG`.
//!
//! In memory a queue has an entry for each of the messages, and they are equal, so everything that counts or finds offsets need not know of them. Here is
//! what does: the append, and reads, which give a record once.

use std::sync::Arc;

use protocol::{batch, properties, record};

use crate::error::{AppendError, ReadError};
use crate::message::NewMessage;
use crate::queue::Queue;
use crate::queue::load::copy_entries;
use crate::rewritten::Rewritten;
use crate::store::Inner;

/// Bytes that the first offset adds to the properties at most: name, number, separators.
const BASE_BYTES_MAX: usize = properties::INNER_BASE.len() + 20 + 3;
/// Entries looked at at once for the end of a record's messages.
const LOOK_ENTRIES: u64 = 512;

/// Properties that say where a message lies, which is the store's to say. An inner batch lies in no light queue.
const OWN: [&str; 3] = [
    properties::INNER_BASE,
    properties::INNER_MULTI_DISPATCH,
    properties::INNER_MULTI_QUEUE_OFFSET,
];

/// What is stored of an inner batch, how many messages it holds, and by how many bytes its record may grow. None when it says nothing of their number, or
/// its topic is no batch topic.
pub(crate) fn prepare(
    inner: &Inner,
    index: usize,
    message: &NewMessage<'_>,
    properties_bytes_max: usize,
) -> Result<Option<(Rewritten, u64, usize)>, AppendError> {
    let text = record::without_checksum(message.properties);
    let count = properties::get(text, properties::INNER_NUM)
        .and_then(|number| number.parse::<u64>().ok())
        .filter(|number| (1..=batch::INNER_MESSAGES_MAX).contains(number));
    let Some(count) = count.filter(|_| inner.queues.make_batch(message.topic)) else {
        return Ok(None);
    };
    let mut stored = String::with_capacity(text.len() + BASE_BYTES_MAX);
    properties::iter(text)
        .filter(|(name, _)| !OWN.contains(name))
        .for_each(|(name, value)| properties::push(&mut stored, name, value));
    let bytes_max = stored.len() + BASE_BYTES_MAX;
    if bytes_max > properties_bytes_max {
        return Err(AppendError::PropertiesTooLong {
            bytes: bytes_max,
            bytes_max: properties_bytes_max,
        });
    }
    let grows = bytes_max.saturating_sub(text.len());
    let rewritten = Rewritten {
        message: index,
        places: Vec::new(),
        is_inner_batch: true,
        properties: stored,
    };
    Ok(Some((rewritten, count, grows)))
}

/// The first offset from `next` on, below `max`, whose record is not the one at `physical`.
pub(crate) fn behind(
    inner: &Inner,
    queue: &Arc<Queue>,
    physical: u64,
    mut next: u64,
    max: u64,
    wait: bool,
) -> Result<u64, ReadError> {
    let mut looked = Vec::new();
    while next < max {
        looked.clear();
        let until = max.min(next + LOOK_ENTRIES);
        copy_entries(&inner.queues, queue, next, until, wait, &mut looked)
            .map_err(ReadError::disk("consume queue"))?;
        let same = looked
            .iter()
            .take_while(|entry| entry.physical == physical && !entry.is_filler());
        let same = same.count();
        next += same as u64;
        if same < looked.len() || looked.is_empty() {
            break;
        }
    }
    Ok(next)
}
