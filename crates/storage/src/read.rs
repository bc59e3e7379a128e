//! Reading by queue offset: from memory when the records are new, from the page cache without waiting, from the disk when the caller may wait.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use protocol::record::{self, CheckBody, MAGIC_V1, MAGIC_V2};
use protocol::{batch, light};

use crate::compaction;
use crate::error::ReadError;
use crate::inner_batch;
use crate::queue::files::read_fully;
use crate::queue::load::{copy_entries, entry_at};
use crate::queue::{Entry, Queue};
use crate::store::Inner;

/// Entries that one read looks at when a filter rejects them (Java: maxFilterMessageSize 16000 bytes of consume queue).
const SCAN_ENTRIES: u64 = 800;
/// Entries taken from a queue in one look.
const LOOK_ENTRIES: u64 = 128;
/// Bytes between two wanted records up to which they are read together rather than apart.
const GAP_BYTES: u64 = 8 << 10;
/// Bytes read together at most, unless one record is larger.
const RUN_BYTES: u64 = 1 << 20;

/// Which messages of a queue.
#[derive(Clone, Copy)]
pub struct Read<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Queue of the topic.
    pub queue_id: i32,
    /// First queue offset that is wanted.
    pub offset: i64,
    /// Messages at most. The last record may hold more of them: it is given whole.
    pub messages_max: usize,
    /// Bytes of records at most; one message is given whatever its size.
    pub bytes_max: usize,
    /// Whether a message with this tags code is wanted. Called for each entry looked at, from the first on.
    pub filter: &'a dyn Fn(i64) -> bool,
}

/// Whether a read may wait for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadMode {
    /// Memory and page cache only; otherwise [`ReadError::WouldBlock`].
    NoWait,
    /// On a thread that may block.
    Blocking,
}

/// What a read found.
#[derive(Debug, Clone)]
pub struct ReadResult {
    /// How it went.
    pub status: ReadStatus,
    /// Where to go on.
    pub next_offset: i64,
    /// First offset of the queue.
    pub min_offset: i64,
    /// Offset behind the last message that consumers may see.
    pub max_offset: i64,
    /// Whole store records, in order. Of a batch topic one may hold several messages, the first of them before the offset that was asked for.
    pub records: Vec<Bytes>,
}

impl ReadResult {
    /// Where a reader of the whole queue, which has read up to `offset`, goes on: behind the last record, or over what is
    /// not there. At least one on, since a reader of the same nothing would stand still; never past the end that this read
    /// saw. An end that was asked for before the read may lie in the middle of its records.
    pub fn next_from(&self, offset: i64) -> i64 {
        self.next_offset.min(self.max_offset).max(offset + 1)
    }
}

/// Java's `GetMessageStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadStatus {
    /// There are records.
    Found,
    /// Messages were looked at and none wanted.
    NoMatchedMessage,
    /// The queue does not exist. Java never says so with file queues, it makes the queue; neither does this store.
    NoMatchedQueue,
    /// The queue never had a message.
    NoMessageInQueue,
    /// The offset is that of the next message to come.
    OffsetOverflowOne,
    /// The offset is beyond that.
    OffsetOverflowBadly,
    /// The offset is below the first that is still there.
    OffsetTooSmall,
    /// The queue's file is missing.
    OffsetFoundNull,
    /// The records are gone from the log.
    MessageWasRemoving,
}

impl ReadStatus {
    /// Java's constant, which goes into the remark.
    pub fn name(self) -> &'static str {
        match self {
            ReadStatus::Found => "FOUND",
            ReadStatus::NoMatchedMessage => "NO_MATCHED_MESSAGE",
            ReadStatus::NoMatchedQueue => "NO_MATCHED_LOGIC_QUEUE",
            ReadStatus::NoMessageInQueue => "NO_MESSAGE_IN_QUEUE",
            ReadStatus::OffsetOverflowOne => "OFFSET_OVERFLOW_ONE",
            ReadStatus::OffsetOverflowBadly => "OFFSET_OVERFLOW_BADLY",
            ReadStatus::OffsetTooSmall => "OFFSET_TOO_SMALL",
            ReadStatus::OffsetFoundNull => "OFFSET_FOUND_NULL",
            ReadStatus::MessageWasRemoving => "MESSAGE_WAS_REMOVING",
        }
    }
}

/// Which end of the messages with one store time is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// The first message stored at or after the time.
    Lower,
    /// The last message stored at or before the time.
    Upper,
}

/// What is known of a key.
#[derive(Debug, Clone, Default)]
pub struct KeyQuery {
    /// Whole store records, oldest first.
    pub records: Vec<Bytes>,
    /// Store timestamp of the newest indexed record, 0 without one.
    pub index_last_update_ms: i64,
    /// Its position.
    pub index_last_update_physical: u64,
}

/// An entry that the filter wants.
struct Wanted {
    offset: u64,
    entry: Entry,
}

/// See [`crate::Store::read`].
pub(crate) fn read(
    inner: &Inner,
    request: &Read<'_>,
    mode: ReadMode,
) -> Result<ReadResult, ReadError> {
    let Some(queue) = inner.queues.queue(request.topic, request.queue_id) else {
        return Ok(nothing(ReadStatus::NoMessageInQueue, 0, 0, 0));
    };
    if let Some(run) = compaction::run_of(&queue) {
        return compaction::read::read(inner, &queue, &run, request, mode);
    }
    read_log_part(inner, &queue, request, mode)
}

/// Reads what the log holds of a queue. All of it, unless the queue is compacted.
pub(crate) fn read_log_part(
    inner: &Inner,
    queue: &Arc<Queue>,
    request: &Read<'_>,
    mode: ReadMode,
) -> Result<ReadResult, ReadError> {
    let (min, max) = inner.log_bounds(queue);
    if max == 0 {
        return Ok(nothing(ReadStatus::NoMessageInQueue, 0, min, max));
    }
    let empty = |status, next: u64| Ok(nothing(status, next as i64, min, max));
    let Some(offset) = u64::try_from(request.offset)
        .ok()
        .filter(|offset| *offset >= min)
    else {
        return empty(ReadStatus::OffsetTooSmall, min);
    };
    if offset == max {
        return empty(ReadStatus::OffsetOverflowOne, offset);
    }
    if offset > max {
        return empty(ReadStatus::OffsetOverflowBadly, max);
    }
    let mut selected = select(inner, queue, request, offset, max, mode)?;
    if queue.topic.is_batch() {
        close(inner, queue, &mut selected, max, mode)?;
    }
    if selected.wanted.is_empty() {
        return empty(selected.status, selected.next);
    }
    let (records, until) = fetch(inner, request, &selected.wanted, mode)?;
    let next = until.unwrap_or(selected.next);
    let status = if records.is_empty() {
        ReadStatus::MessageWasRemoving
    } else {
        ReadStatus::Found
    };
    Ok(ReadResult {
        records,
        ..nothing(status, next as i64, min, max)
    })
}

fn nothing(status: ReadStatus, next_offset: i64, min: u64, max: u64) -> ReadResult {
    ReadResult {
        status,
        next_offset,
        min_offset: min as i64,
        max_offset: max as i64,
        records: Vec::new(),
    }
}

struct Selected {
    wanted: Vec<Wanted>,
    next: u64,
    /// How it went when nothing is wanted.
    status: ReadStatus,
    /// The last record that is wanted ends before `next`.
    is_closed: bool,
}

/// Walks over the queue's entries from `offset` on and picks what the filter wants, within the bounds of the request.
fn select(
    inner: &Inner,
    queue: &Arc<Queue>,
    request: &Read<'_>,
    offset: u64,
    max: u64,
    mode: ReadMode,
) -> Result<Selected, ReadError> {
    let messages_max = request.messages_max.max(1);
    let until = max.min(offset.saturating_add(SCAN_ENTRIES.max(messages_max as u64)));
    let log_min = inner.log.min();
    let wait = mode == ReadMode::Blocking;
    let mut selected = Selected {
        wanted: Vec::new(),
        next: offset,
        status: ReadStatus::NoMatchedMessage,
        is_closed: false,
    };
    let mut bytes = 0usize;
    // Messages in records that hold several, beyond the first of each.
    let mut more = 0;
    let is_batch = queue.topic.is_batch();
    let mut looked: Vec<Entry> = Vec::with_capacity(messages_max.min(LOOK_ENTRIES as usize));
    while selected.next < until {
        looked.clear();
        let look =
            LOOK_ENTRIES.min(messages_max.saturating_sub(selected.wanted.len()).max(32) as u64);
        let copied = copy_entries(
            &inner.queues,
            queue,
            selected.next,
            until.min(selected.next + look),
            wait,
            &mut looked,
        );
        if let Err(error) = copied {
            if selected.wanted.is_empty() || error.kind() != io::ErrorKind::WouldBlock {
                return Err(ReadError::disk("consume queue")(error));
            }
            break;
        }
        if looked.is_empty() {
            let next = selected.next + 1;
            if next < max
                && entry_at(&inner.queues, queue, next, wait)
                    .ok()
                    .flatten()
                    .is_some()
            {
                // One entry is damaged, and those behind it are not.
                tracing::error!(
                    topic = request.topic,
                    queue_id = request.queue_id,
                    queue_offset = selected.next,
                    "a consume queue entry is damaged; its message is passed over"
                );
                if selected.wanted.is_empty() {
                    selected.status = ReadStatus::MessageWasRemoving;
                }
                selected.next = next;
                continue;
            }
            if selected.wanted.is_empty() {
                selected.status = ReadStatus::OffsetFoundNull;
                selected.next = next_readable(inner, queue, selected.next, wait)?.min(max);
            }
            break;
        }
        for &entry in &looked {
            if is_batch && let Some(last) = selected.wanted.last() {
                if last.entry.physical == entry.physical && !selected.is_closed {
                    more += 1;
                    selected.next += 1;
                    continue;
                }
                selected.is_closed = true;
                if selected.wanted.len() + more >= messages_max {
                    return Ok(selected);
                }
            }
            if entry.is_filler() || entry.physical < log_min {
                if selected.wanted.is_empty() {
                    selected.status = ReadStatus::MessageWasRemoving;
                }
                selected.next += 1;
                continue;
            }
            if !(request.filter)(entry.tags_code) {
                if selected.wanted.is_empty() {
                    selected.status = ReadStatus::NoMatchedMessage;
                }
                selected.next += 1;
                continue;
            }
            if !selected.wanted.is_empty() && bytes + entry.size as usize > request.bytes_max {
                return Ok(selected);
            }
            bytes += entry.size as usize;
            selected.wanted.push(Wanted {
                offset: selected.next,
                entry,
            });
            selected.is_closed = false;
            selected.next += 1;
            if selected.wanted.len() + more >= messages_max {
                return Ok(selected);
            }
        }
    }
    Ok(selected)
}

/// Goes on behind the last record that is wanted, which may hold more messages than were looked at.
fn close(
    inner: &Inner,
    queue: &Arc<Queue>,
    selected: &mut Selected,
    max: u64,
    mode: ReadMode,
) -> Result<(), ReadError> {
    let Some(last) = selected.wanted.last() else {
        return Ok(());
    };
    let (physical, first) = (last.entry.physical, last.offset);
    // What was passed over behind it is of other records.
    if selected.is_closed {
        return Ok(());
    }
    let wait = mode == ReadMode::Blocking;
    match inner_batch::behind(inner, queue, physical, selected.next, max, wait) {
        Ok(next) => selected.next = next,
        Err(ReadError::WouldBlock) if selected.wanted.len() > 1 => {
            selected.wanted.pop();
            selected.next = first;
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Where a queue goes on behind an offset whose entry is nowhere.
fn next_readable(inner: &Inner, queue: &Queue, offset: u64, wait: bool) -> Result<u64, ReadError> {
    let Some(shared) = inner.queues.shared() else {
        if queue.topic.is_batch() {
            // Holes between units are fillers: here the files end.
            return Ok(queue.entries().first().max(offset + 1));
        }
        let file_entries = inner.queues.files.file_entries();
        return Ok((offset / file_entries + 1).saturating_mul(file_entries));
    };
    let next = shared
        .next_offset(queue.number(), offset + 1, wait)
        .map_err(ReadError::disk("consume queue"))?
        .unwrap_or_else(|| queue.entries().first())
        .max(offset + 1);
    tracing::error!(
        topic = &*queue.topic.name,
        queue_id = queue.id,
        from = offset,
        to = next,
        "consume queue entries are damaged; their messages are passed over"
    );
    Ok(next)
}

/// Gets the records. The second value is the offset of the first one that would have needed waiting, when some before it did not.
fn fetch(
    inner: &Inner,
    request: &Read<'_>,
    wanted: &[Wanted],
    mode: ReadMode,
) -> Result<(Vec<Bytes>, Option<u64>), ReadError> {
    let mut records: Vec<Bytes> = vec![Bytes::new(); wanted.len()];
    let mut missing = wanted.len();
    inner.log.tail.get(
        wanted
            .iter()
            .map(|wanted| (wanted.entry.physical, wanted.entry.size)),
        |index, bytes| {
            // What lies in memory is whole, but a damaged entry may point at something else.
            if is_wanted(&bytes, request, &wanted[index]) {
                records[index] = bytes;
                missing -= 1;
            }
        },
    );
    let mut until = None;
    let mut index = 0;
    while missing > 0 && index < wanted.len() {
        if !records[index].is_empty() {
            index += 1;
            continue;
        }
        let count = run_length(inner, &wanted[index..], &records[index..]);
        match read_run(
            inner,
            request,
            &wanted[index..index + count],
            &mut records[index..index + count],
            mode,
        ) {
            Ok(()) => {}
            Err(ReadError::WouldBlock) if index > 0 => {
                until = Some(wanted[index].offset);
                records.truncate(index);
                break;
            }
            Err(error) => return Err(error),
        }
        index += count;
    }
    // What is not a record of that place is gone, or damaged, which was logged.
    records.retain(|record| !record.is_empty());
    Ok((records, until))
}

/// How many of the wanted records, from the first on, are worth one read.
fn run_length(inner: &Inner, wanted: &[Wanted], records: &[Bytes]) -> usize {
    let start = wanted[0].entry.physical;
    let segment = |physical: u64| physical / inner.config.segment_bytes;
    let mut end = wanted[0].entry.end();
    let mut count = 1;
    for (next, record) in wanted.iter().zip(records).skip(1) {
        let entry = next.entry;
        let near = entry.physical >= end
            && entry.physical - end <= GAP_BYTES
            && entry.end() - start <= RUN_BYTES;
        if !record.is_empty() || !near || segment(entry.physical) != segment(start) {
            break;
        }
        end = entry.end();
        count += 1;
    }
    count
}

fn read_run(
    inner: &Inner,
    request: &Read<'_>,
    wanted: &[Wanted],
    records: &mut [Bytes],
    mode: ReadMode,
) -> Result<(), ReadError> {
    let start = wanted[0].entry.physical;
    let end = wanted[wanted.len() - 1].entry.end();
    let head_end = start + record::HEAD_BYTES as u64;
    inner.log.cache.note_file_read(inner.clock.now_ms());
    // A damaged size would have a large part of the segment read for nothing.
    if end - start > RUN_BYTES
        && !read_log(inner, start, head_end, mode)?
            .is_some_and(|head| is_wanted(&head, request, &wanted[0]))
    {
        complain(
            request,
            &wanted[0],
            "no record where the consume queue says",
        );
        return Ok(());
    }
    let Some(bytes) = read_log(inner, start, end, mode)? else {
        // It may have expired since it was selected; behind the log it never was.
        if start >= inner.log.min() {
            complain(
                request,
                &wanted[0],
                "no record where the consume queue says",
            );
        }
        return Ok(());
    };
    let topic = Some(request.topic).filter(|topic| !light::is_light(topic));
    for (wanted, record) in wanted.iter().zip(records) {
        let from = (wanted.entry.physical - start) as usize;
        let to = from + wanted.entry.size as usize;
        let found = bytes.get(from..to);
        match found {
            Some(found) if !is_wanted(found, request, wanted) => {
                complain(request, wanted, "no record where the consume queue says");
            }
            Some(found) if !is_intact(found, topic) => {
                complain(request, wanted, "a record is damaged");
            }
            Some(_) => *record = bytes.slice(from..to),
            None => complain(request, wanted, "no record where the consume queue says"),
        }
    }
    Ok(())
}

fn complain(request: &Read<'_>, wanted: &Wanted, what: &str) {
    tracing::error!(
        topic = request.topic,
        queue_id = request.queue_id,
        queue_offset = wanted.offset,
        physical = wanted.entry.physical,
        size = wanted.entry.size,
        "{what}; the message is passed over"
    );
}

/// Whether the head is that of the record which the entry of the queue means.
fn is_wanted(bytes: &[u8], request: &Read<'_>, wanted: &Wanted) -> bool {
    if !is_record_at(bytes, wanted.entry.physical, wanted.entry.size) {
        return false;
    }
    let is_own = record::peek_queue_id(bytes) == Some(request.queue_id)
        && record::peek_queue_offset(bytes) == Some(wanted.offset);
    // A light queue's records are those of other topics. What it is of them stands behind the head.
    is_own
        || record::peek_queue_id(bytes) == Some(request.queue_id)
            && batch::may_hold(bytes, wanted.offset)
        || light::is_light(request.topic)
            && (bytes.len() <= record::HEAD_BYTES
                || light::offset_in(bytes, request.topic) == Some(wanted.offset))
}

fn is_record_at(bytes: &[u8], physical: u64, size: u32) -> bool {
    matches!(record::peek_magic(bytes), Some(MAGIC_V1 | MAGIC_V2))
        && record::peek_size(bytes) == Some(size)
        && record::peek_physical_offset(bytes) == Some(physical)
}

/// Whether a record that comes from a file is what was written, as far as it carries a checksum: the body has one, and where
/// `enabledAppendPropCRC` was on, the properties end with one over the whole record.
fn is_intact(bytes: &[u8], topic: Option<&str>) -> bool {
    let Ok(found) = record::decode(bytes, CheckBody::Yes) else {
        return false;
    };
    topic.is_none_or(|topic| topic == found.topic) && record::is_intact(bytes, found.properties)
}

/// Bytes `start..end` of the log, which lie in one segment; fewer at the segment's end. None when the segment is gone.
fn read_log(
    inner: &Inner,
    start: u64,
    end: u64,
    mode: ReadMode,
) -> Result<Option<Bytes>, ReadError> {
    let Some(segment) = inner.log.segments.containing(start) else {
        return Ok(None);
    };
    let end = end.min(segment.start + inner.config.segment_bytes);
    let mut bytes = BytesMut::zeroed((end - start) as usize);
    let read = read_fully(
        &*segment.file,
        &mut bytes,
        start - segment.start,
        mode == ReadMode::Blocking,
    )
    .map_err(ReadError::disk("commit log"))?;
    bytes.truncate(read);
    Ok(Some(bytes.freeze()))
}

/// The head of the record at `physical`: as much as the peeks of [`record`] need.
pub(crate) fn head_at(
    inner: &Inner,
    physical: u64,
    mode: ReadMode,
) -> Result<Option<Bytes>, ReadError> {
    if physical < inner.log.min() || physical >= inner.log.appended() {
        return Ok(None);
    }
    let head = match inner.log.tail.from(physical) {
        Some(bytes) => Some(bytes.slice(..bytes.len().min(record::HEAD_BYTES))),
        None => read_log(inner, physical, physical + record::HEAD_BYTES as u64, mode)?,
    };
    Ok(head.filter(|head| {
        matches!(record::peek_magic(head), Some(MAGIC_V1 | MAGIC_V2))
            && record::peek_physical_offset(head) == Some(physical)
    }))
}

/// The whole record at `physical`; None when no record begins there, or not one that consumers may see.
pub(crate) fn record_at(
    inner: &Inner,
    physical: u64,
    mode: ReadMode,
) -> Result<Option<Bytes>, ReadError> {
    let Some(size) = head_at(inner, physical, mode)?.and_then(|head| record::peek_size(&head))
    else {
        return Ok(None);
    };
    let end = physical + u64::from(size);
    if end > inner.visible().min(inner.log.appended()) {
        return Ok(None);
    }
    let mut found = None;
    inner
        .log
        .tail
        .get(std::iter::once((physical, size)), |_, bytes| {
            found = Some(bytes)
        });
    if found.is_some() {
        return Ok(found.filter(|bytes| is_record_at(bytes, physical, size)));
    }
    let Some(bytes) = read_log(inner, physical, end, mode)? else {
        return Ok(None);
    };
    if bytes.len() == size as usize
        && is_record_at(&bytes, physical, size)
        && is_intact(&bytes, None)
    {
        return Ok(Some(bytes));
    }
    tracing::error!(physical, size, "a record is damaged");
    Ok(None)
}
