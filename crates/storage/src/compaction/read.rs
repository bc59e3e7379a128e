//! Reading a queue whose older part is compacted.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use protocol::record;

use super::run::{Entry, Run};
use crate::error::ReadError;
use crate::queue::Queue;
use crate::read::{self, Read, ReadMode, ReadResult, ReadStatus};
use crate::store::Inner;

/// Entries that one read looks at when a filter rejects them, as in the log's part.
const SCAN_ENTRIES: u64 = 800;
/// Entries read at once.
const LOOK_ENTRIES: u64 = 64;
/// Bytes read at once at most, unless one record is larger.
const PIECE_BYTES: u64 = 1 << 20;

/// Reads from the compacted part, or behind it from the log.
///
/// An offset without a message gives the next one that is there: that a later message of its key came is no reason to send a consumer elsewhere
/// (Java 5.3.4: CompactionLog.getMessage).
pub(crate) fn read(
    inner: &Inner,
    queue: &Arc<Queue>,
    run: &Run,
    request: &Read<'_>,
    mode: ReadMode,
) -> Result<ReadResult, ReadError> {
    let (min, max) = inner.bounds(queue);
    let result = |status, next: u64, records| ReadResult {
        status,
        next_offset: next as i64,
        min_offset: min as i64,
        max_offset: max as i64,
        records,
    };
    let Ok(offset) = u64::try_from(request.offset) else {
        return Ok(result(ReadStatus::OffsetTooSmall, min, Vec::new()));
    };
    if offset >= run.until {
        let mut result = read::read_log_part(inner, queue, request, mode)?;
        result.min_offset = min as i64;
        return Ok(result);
    }
    let selected = select(run, request, offset, mode)?;
    if selected.wanted.is_empty() {
        return Ok(result(
            ReadStatus::NoMatchedMessage,
            selected.next,
            Vec::new(),
        ));
    }
    let (records, until) = fetch(run, request, &selected.wanted, mode)?;
    let next = until.unwrap_or(selected.next);
    let status = if records.is_empty() {
        ReadStatus::MessageWasRemoving
    } else {
        ReadStatus::Found
    };
    Ok(result(status, next, records))
}

struct Selected {
    wanted: Vec<Entry>,
    next: u64,
}

fn select(
    run: &Run,
    request: &Read<'_>,
    offset: u64,
    mode: ReadMode,
) -> Result<Selected, ReadError> {
    let wait = mode == ReadMode::Blocking;
    let failed = || ReadError::disk("compacted messages");
    let messages_max = request.messages_max.max(1);
    let mut index = run
        .partition(wait, |entry| entry.offset < offset)
        .map_err(failed())?;
    let until = index.saturating_add(SCAN_ENTRIES.max(messages_max as u64));
    let mut wanted: Vec<Entry> = Vec::new();
    let mut next = offset;
    let mut bytes = 0usize;
    let mut looked = Vec::new();
    while index < run.count && index < until {
        looked.clear();
        let count = LOOK_ENTRIES.min(until - index);
        match run.entries(index, count, wait, &mut looked) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && !wanted.is_empty() => {
                return Ok(Selected { wanted, next });
            }
            Err(error) => return Err(failed()(error)),
        }
        for entry in &looked {
            index += 1;
            let Some(entry) = entry else {
                let (topic, queue_id) = (request.topic, request.queue_id);
                tracing::error!(
                    topic,
                    queue_id,
                    behind = next,
                    "an entry of a compacted queue is damaged; its message is passed over until the next compaction finds it"
                );
                continue;
            };
            if (request.filter)(entry.tags_code) {
                if !wanted.is_empty() && bytes + entry.size as usize > request.bytes_max {
                    return Ok(Selected { wanted, next });
                }
                bytes += entry.size as usize;
                wanted.push(*entry);
            }
            next = entry.offset + 1;
            if wanted.len() >= messages_max {
                let next = if index == run.count { run.until } else { next };
                return Ok(Selected { wanted, next });
            }
        }
    }
    if index >= run.count {
        next = run.until;
    }
    // Damaged entries alone, with more behind them: the reader must get on.
    next = next.max(offset + 1);
    Ok(Selected { wanted, next })
}

/// Gets the records. The second value is the offset of the first one that would have needed waiting, when some before it did not.
fn fetch(
    run: &Run,
    request: &Read<'_>,
    wanted: &[Entry],
    mode: ReadMode,
) -> Result<(Vec<Bytes>, Option<u64>), ReadError> {
    let mut records = Vec::with_capacity(wanted.len());
    let mut index = 0;
    while index < wanted.len() {
        let piece = piece(&wanted[index..]);
        let (start, end) = (piece[0].position, piece[piece.len() - 1].end());
        let mut bytes = BytesMut::zeroed((end - start) as usize);
        match run.read(start, &mut bytes, mode == ReadMode::Blocking) {
            Ok(read) => bytes.truncate(read),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && index > 0 => {
                return Ok((records, Some(piece[0].offset)));
            }
            Err(error) => return Err(ReadError::disk("compacted messages")(error)),
        }
        let bytes = bytes.freeze();
        for entry in piece {
            let from = (entry.position - start) as usize;
            let to = (from + entry.size as usize).min(bytes.len());
            let found = bytes.slice(from.min(to)..to);
            if entry.fits(&found) {
                records.push(found);
            } else {
                tracing::error!(
                    topic = request.topic,
                    queue_id = request.queue_id,
                    queue_offset = entry.offset,
                    "a compacted message is damaged; it is passed over"
                );
            }
        }
        index += piece.len();
    }
    Ok((records, None))
}

/// The entries from the first on that lie next to each other, as many as are read at once.
fn piece(wanted: &[Entry]) -> &[Entry] {
    let start = wanted[0].position;
    let mut end = wanted[0].end();
    let mut count = 1;
    for entry in &wanted[1..] {
        if entry.position != end || entry.end() - start > PIECE_BYTES {
            break;
        }
        end = entry.end();
        count += 1;
    }
    &wanted[..count]
}

/// The record that the commit log held at a position, when a compacted queue has it. May wait for the disk.
pub(crate) fn record_at(run: &Run, physical: u64) -> Result<Option<Bytes>, ReadError> {
    if !run.may_hold(physical) {
        return Ok(None);
    }
    let failed = || ReadError::disk("compacted messages");
    let index = run
        .partition(true, |entry| entry.physical < physical)
        .map_err(failed())?;
    let entry = run.entry(index, true).map_err(failed())?;
    let Some(entry) = entry.filter(|entry| entry.physical == physical) else {
        return Ok(None);
    };
    let mut bytes = BytesMut::zeroed(entry.size as usize);
    let read = run
        .read(entry.position, &mut bytes, true)
        .map_err(failed())?;
    bytes.truncate(read);
    let is_found = entry.fits(&bytes) && record::peek_physical_offset(&bytes) == Some(physical);
    Ok(is_found.then(|| bytes.freeze()))
}

/// Store timestamp of the first message at or behind an offset; None when the compacted part has none.
pub(crate) fn store_time(run: &Run, offset: u64) -> Result<Option<i64>, ReadError> {
    let failed = || ReadError::disk("compacted messages");
    let index = run
        .partition(true, |entry| entry.offset < offset)
        .map_err(failed())?;
    let entry = run.entry(index, true).map_err(failed())?;
    Ok(entry.map(|entry| entry.store_timestamp_ms))
}

/// Offset of the first message stored at a time or later; None when all were stored before it.
pub(crate) fn first_from(run: &Run, timestamp_ms: i64) -> Result<Option<u64>, ReadError> {
    let failed = || ReadError::disk("compacted messages");
    let index = run
        .partition(true, |entry| entry.store_timestamp_ms < timestamp_ms)
        .map_err(failed())?;
    let entry = run.entry(index, true).map_err(failed())?;
    Ok(entry.map(|entry| entry.offset))
}

/// Offset of the last message stored at a time or earlier; None when all were stored after it.
pub(crate) fn last_until(run: &Run, timestamp_ms: i64) -> Result<Option<u64>, ReadError> {
    let failed = || ReadError::disk("compacted messages");
    let index = run
        .partition(true, |entry| entry.store_timestamp_ms <= timestamp_ms)
        .map_err(failed())?;
    let Some(last) = index.checked_sub(1) else {
        return Ok(None);
    };
    let entry = run.entry(last, true).map_err(failed())?;
    Ok(entry.map(|entry| entry.offset))
}
