//! The body of SEND_BATCH_MESSAGE (320): several messages of one topic and queue, each stored as a record of its own, or all as one
//! (`requests::send::inner_batch`).

use std::ops::Range;

use protocol::body::TopicConfig;
use protocol::code::ResponseCode;
use protocol::{batch, properties as names, topic};

use super::send::properties::{self, Scan};
use super::send::{Header, illegal, key_is_missing};
use crate::call::Refusal;
use crate::compaction::is_compaction;
use crate::settings::Limits;

/// Messages of one batch. A message takes 22 bytes at least, so that a body of 4 MiB could ask for 190,000 records in
/// one append; Java's clients split far below.
const MESSAGES_MAX: usize = 32_768;

/// One message of a batch.
#[derive(Debug)]
pub(crate) struct Item<'a> {
    /// The client's own flag.
    pub(crate) flag: i32,
    /// Where the body lies in the batch.
    pub(crate) body: Range<usize>,
    /// The message's own properties, which are stored as they are.
    pub(crate) properties: &'a str,
    /// The names of light queues in them.
    pub(crate) light: Option<&'a str>,
}

/// Checks a whole batch. One bad message refuses it all, since the client has one answer for all of them.
pub(crate) fn check<'a>(
    body: &'a [u8],
    limits: &Limits,
    header: &Header<'_>,
    config: &TopicConfig,
    of_batch: &Scan<'_>,
) -> Result<Vec<Item<'a>>, Refusal> {
    if header.topic.starts_with(topic::RETRY_PREFIX) {
        return Err(message_illegal(format!(
            "batch request does not support retry group {}",
            header.topic
        )));
    }
    if body.len() > limits.message_bytes_max {
        return Err(illegal(limits.message_bytes_max));
    }
    if of_batch.delayed() || of_batch.transaction {
        return Err(message_illegal(
            "a batch can be neither delayed nor part of a transaction",
        ));
    }
    let needs_keys = is_compaction(config);
    let mut items = Vec::new();
    for item in batch::items(body) {
        let item = item.map_err(|error| message_illegal(error.to_string()))?;
        if item.properties.len() > names::BYTES_MAX {
            return Err(illegal(limits.message_bytes_max));
        }
        let scan = properties::scan(item.properties);
        if scan.delayed() || scan.transaction || scan.inner_batch || scan.is_timed() {
            return Err(message_illegal(
                "a message of a batch can be neither delayed nor part of a transaction",
            ));
        }
        if needs_keys && !scan.has_keys() {
            return Err(key_is_missing());
        }
        if items.len() == MESSAGES_MAX {
            return Err(message_illegal(format!(
                "a batch holds at most {MESSAGES_MAX} messages"
            )));
        }
        let start = item.body.as_ptr() as usize - body.as_ptr() as usize;
        items.push(Item {
            flag: item.flag,
            body: start..start + item.body.len(),
            properties: item.properties,
            light: scan.light,
        });
    }
    if items.is_empty() {
        return Err(message_illegal("the batch holds no message"));
    }
    Ok(items)
}

fn message_illegal(remark: impl Into<String>) -> Refusal {
    Refusal::new(ResponseCode::MESSAGE_ILLEGAL, remark)
}
