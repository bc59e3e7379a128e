//! Finding messages by time, by key and by unique id. May wait for the disk.

use std::sync::Arc;

use bytes::Bytes;
use protocol::record::{self, CheckBody};

use crate::compaction;
use crate::dispatch::{self, Facts};
use crate::error::ReadError;
use crate::queue::Queue;
use crate::queue::load::entry_at;
use crate::read::{Boundary, KeyQuery, ReadMode, head_at, record_at};
use crate::store::Inner;

/// Messages that one query gives at most (Java: maxMsgsNumBatch).
const QUERY_MESSAGES_MAX: usize = 64;
/// Index entries looked at for one query at most: more than that share a hash only by intent.
const CANDIDATES_MAX: usize = 1024;

/// Store timestamp of the message at `offset`, or of the next one where a compacted queue has a gap; None when it is not there.
pub(crate) fn store_time(
    inner: &Inner,
    queue: &Arc<Queue>,
    offset: u64,
) -> Result<Option<i64>, ReadError> {
    if let Some(run) = compaction::run_of(queue)
        && offset < run.until
        && let Some(stored) = compaction::read::store_time(&run, offset)?
    {
        return Ok(Some(stored));
    }
    log_store_time(inner, queue, offset)
}

/// The same of the part that lies in the log.
pub(crate) fn log_store_time(
    inner: &Inner,
    queue: &Arc<Queue>,
    offset: u64,
) -> Result<Option<i64>, ReadError> {
    let (min, max) = inner.log_bounds(queue);
    if offset < min || offset >= max {
        return Ok(None);
    }
    let Some(entry) =
        entry_at(&inner.queues, queue, offset, true).map_err(ReadError::disk("consume queue"))?
    else {
        return Ok(None);
    };
    Ok(head_at(inner, entry.physical, ReadMode::Blocking)?
        .and_then(|head| record::peek_store_timestamp(&head)))
}

/// The offset that a consumer starts from at a time (Java: ConsumeQueue.getOffsetInQueueByTime).
pub(crate) fn offset_by_time(
    inner: &Inner,
    queue: &Arc<Queue>,
    timestamp_ms: i64,
    boundary: Boundary,
) -> Result<u64, ReadError> {
    let (mut min, max) = inner.log_bounds(queue);
    let run = compaction::run_of(queue);
    if let Some(run) = &run {
        min = min.max(run.until).min(max);
        if boundary == Boundary::Lower
            && let Some(offset) = compaction::read::first_from(run, timestamp_ms)?
        {
            return Ok(offset);
        }
    }
    // The first offset that is stored after what counts as before.
    let (mut low, mut high) = (min, max);
    while low < high {
        let middle = low + (high - low) / 2;
        // An entry without record is expired, so it is older than everything.
        let before = match log_store_time(inner, queue, middle)? {
            None => true,
            Some(stored) => match boundary {
                Boundary::Lower => stored < timestamp_ms,
                Boundary::Upper => stored <= timestamp_ms,
            },
        };
        if before {
            low = middle + 1
        } else {
            high = middle
        }
    }
    Ok(match boundary {
        Boundary::Lower => low,
        // The last one at or before the time; Java says 0 when all are later.
        Boundary::Upper if low > min => low - 1,
        Boundary::Upper => match run {
            Some(run) => compaction::read::last_until(&run, timestamp_ms)?.unwrap_or(0),
            None => 0,
        },
    })
}

/// Messages of a topic with a key or unique id, stored in a range of time.
pub(crate) fn by_key(
    inner: &Inner,
    topic: &str,
    key: &str,
    max: usize,
    begin_ms: i64,
    end_ms: i64,
) -> Result<KeyQuery, ReadError> {
    let max = max.min(QUERY_MESSAGES_MAX);
    let hash = dispatch::index_hash(dispatch::topic_hash(topic), key);
    // More than wanted, since other keys may share the hash; first few, since mostly none does.
    let mut result = KeyQuery::default();
    for candidates_max in [max + 16, CANDIDATES_MAX] {
        let found = inner
            .index
            .query(hash, begin_ms, end_ms, candidates_max)
            .map_err(ReadError::disk("index"))?;
        result.index_last_update_ms = found.last_timestamp_ms;
        result.index_last_update_physical = found.last_physical;
        result.records.clear();
        for &physical in &found.physical {
            if result.records.len() >= max {
                break;
            }
            if let Some(bytes) = record_at(inner, physical, ReadMode::Blocking)?
                .filter(|bytes| carries(bytes, topic, key, begin_ms, end_ms))
            {
                result.records.push(bytes);
            }
        }
        if result.records.len() >= max || found.physical.len() < candidates_max {
            break;
        }
    }
    // Newest first so far; Java gives them in the order of the log.
    result
        .records
        .sort_by_key(|bytes| record::peek_physical_offset(bytes));
    Ok(result)
}

fn carries(bytes: &Bytes, topic: &str, key: &str, begin_ms: i64, end_ms: i64) -> bool {
    record::decode(bytes, CheckBody::No).is_ok_and(|record| {
        record.topic == topic
            && (begin_ms..=end_ms).contains(&record.store_timestamp_ms)
            && Facts::of(record.properties)
                .index_keys()
                .any(|carried| carried == key)
    })
}
