//! The append: everything that can be computed is computed before the lock; under it offsets are given, records encoded and written.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use protocol::record::{self, NewRecord};
use protocol::sysflag;

use crate::commitlog::segments::Segment;
use crate::commitlog::{BLANK_BYTES, Tip};
use crate::config::FlushMode;
use crate::dispatch::{self, Facts, TagsCode};
use crate::error::AppendError;
use crate::index::pending::IndexEntry;
use crate::inner_batch;
use crate::light;
use crate::message::{Appended, NewMessage};
use crate::queue::{Entry, Queue, Topic};
use crate::rewritten::Rewritten;
use crate::store::Inner;

/// Size of the memory chunks that records are encoded into. Large enough that an allocation serves many batches, small enough that a slow
/// reader's slice holds little.
const CHUNK_BYTES: usize = 1 << 20;

/// Longest topic (Java: 127, retry and dead letter topics may have 255).
const TOPIC_BYTES_MAX: usize = 255;

/// What a record may have beyond its body (Java: maxMessageSize + 64 KiB).
const RECORD_EXTRA_BYTES: usize = 64 << 10;

/// A message with everything that does not depend on its place.
struct Prepared {
    queue: Option<Arc<Queue>>,
    body_crc: u32,
    bytes: u32,
    tags_code: TagsCode,
    /// Its index hashes: `hashes_from..` up to those of the next message.
    hashes_from: usize,
    queue_offset: u64,
    /// Offsets of the queue that it takes.
    offsets: u32,
    physical: u64,
}

/// Memory that a thread keeps between appends.
#[derive(Default)]
struct Scratch {
    prepared: Vec<Prepared>,
    hashes: Vec<i32>,
    index: Vec<IndexEntry>,
    watched: Vec<Arc<Queue>>,
    /// Messages of the batch that are not stored as they came, in order. Mostly none.
    rewritten: Vec<Rewritten>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// See [`crate::Store::append`].
pub(crate) fn append(
    inner: &Inner,
    messages: &[NewMessage<'_>],
    appended: &mut Vec<Appended>,
) -> Result<(), AppendError> {
    if messages.is_empty() {
        return Ok(());
    }
    SCRATCH.with_borrow_mut(|scratch| {
        let result = prepare(inner, messages, scratch)
            .and_then(|generation| write(inner, messages, scratch, generation, appended));
        if result.is_ok() {
            for queue in scratch.watched.drain(..) {
                inner.tell_arrival(&queue);
            }
        }
        scratch.prepared.clear();
        scratch.hashes.clear();
        scratch.index.clear();
        scratch.watched.clear();
        scratch.rewritten.clear();
        result
    })
}

fn prepare(
    inner: &Inner,
    messages: &[NewMessage<'_>],
    scratch: &mut Scratch,
) -> Result<u64, AppendError> {
    inner.check_backlog()?;
    let generation = inner.queues.generation();
    let mut last_topic: Option<Arc<Topic>> = None;
    for (index, message) in messages.iter().enumerate() {
        let bytes = check(inner, message)?;
        let topic = match last_topic.take() {
            Some(topic) if *topic.name == *message.topic => topic,
            _ => {
                check_topic(message)?;
                inner.queues.topic_or_create(message.topic)
            }
        };
        let facts = Facts::of(message.properties);
        let mut offsets = 1;
        if message.sys_flag & sysflag::INNER_BATCH != 0 {
            offsets = keep_together(inner, index, message, bytes, &mut scratch.rewritten)?;
        } else if facts.is_light() && dispatch::is_queued(message.sys_flag) {
            lighten(inner, index, message, &facts, bytes, &mut scratch.rewritten)?;
        }
        let hashes_from = scratch.hashes.len();
        if inner.config.index_enabled && dispatch::is_indexed(message.sys_flag) {
            scratch.hashes.extend(
                facts
                    .index_keys()
                    .map(|key| dispatch::index_hash(topic.index_hash, key)),
            );
        }
        let queue = dispatch::is_queued(message.sys_flag)
            .then(|| inner.queues.queue_of(&topic, message.queue_id));
        scratch.prepared.push(Prepared {
            queue,
            body_crc: record::body_crc(message.body),
            bytes,
            tags_code: facts.tags_code(message.topic, &inner.delay_levels),
            hashes_from,
            queue_offset: 0,
            offsets,
            physical: 0,
        });
        last_topic = Some(topic);
    }
    Ok(generation)
}

/// The message goes to light queues, or says so.
#[cold]
fn lighten(
    inner: &Inner,
    index: usize,
    message: &NewMessage<'_>,
    facts: &Facts<'_>,
    bytes: u32,
    rewritten: &mut Vec<Rewritten>,
) -> Result<(), AppendError> {
    let (light, grows) = light::prepare(inner, index, message, facts, properties_bytes_max(inner));
    check_grown(inner, bytes, grows)?;
    rewritten.push(light);
    Ok(())
}

/// The message is an inner batch. Gives how many offsets it takes.
#[cold]
fn keep_together(
    inner: &Inner,
    index: usize,
    message: &NewMessage<'_>,
    bytes: u32,
    rewritten: &mut Vec<Rewritten>,
) -> Result<u32, AppendError> {
    let prepared = inner_batch::prepare(inner, index, message, properties_bytes_max(inner))?;
    let is_queued = dispatch::is_queued(message.sys_flag);
    let Some((batch, count, grows)) = prepared.filter(|_| is_queued) else {
        return Err(unstorable(message));
    };
    check_grown(inner, bytes, grows)?;
    rewritten.push(batch);
    Ok(count as u32)
}

fn check_grown(inner: &Inner, bytes: u32, grows: usize) -> Result<(), AppendError> {
    let bytes = bytes as usize + grows;
    let bytes_max = record_bytes_max(inner);
    if bytes > bytes_max {
        return Err(AppendError::TooLarge { bytes, bytes_max });
    }
    Ok(())
}

/// Whether the topic can be stored at all.
fn check_topic(message: &NewMessage<'_>) -> Result<(), AppendError> {
    if message.topic.is_empty() || message.topic.len() > TOPIC_BYTES_MAX {
        return Err(AppendError::TopicTooLong {
            bytes: message.topic.len(),
            bytes_max: TOPIC_BYTES_MAX,
        });
    }
    // The topic names a directory, here and in Java.
    if !dispatch::is_directory_name(message.topic) {
        return Err(unstorable(message));
    }
    Ok(())
}

fn unstorable(message: &NewMessage<'_>) -> AppendError {
    AppendError::Unstorable {
        topic: message.topic.to_owned(),
        queue_id: message.queue_id,
    }
}

/// The size of the record, when the message can be stored at all.
fn check(inner: &Inner, message: &NewMessage<'_>) -> Result<u32, AppendError> {
    let config = &inner.config;
    if message.queue_id < 0 {
        return Err(unstorable(message));
    }
    let properties_bytes_max = properties_bytes_max(inner);
    if message.properties.len() > properties_bytes_max {
        return Err(AppendError::PropertiesTooLong {
            bytes: message.properties.len(),
            bytes_max: properties_bytes_max,
        });
    }
    let body_bytes_max = config.message_bytes_max as usize;
    if message.body.len() > body_bytes_max {
        return Err(AppendError::TooLarge {
            bytes: message.body.len(),
            bytes_max: body_bytes_max,
        });
    }
    let bytes = record::encoded_len(&new_record(inner, message, 0));
    let bytes_max = record_bytes_max(inner);
    if bytes > bytes_max {
        return Err(AppendError::TooLarge { bytes, bytes_max });
    }
    Ok(bytes as u32)
}

fn properties_bytes_max(inner: &Inner) -> usize {
    // The checksum and the separator before it.
    let reserved = if inner.config.record_checksum {
        record::CHECKSUM_PROPERTY_BYTES + 1
    } else {
        0
    };
    protocol::properties::BYTES_MAX - reserved
}

fn record_bytes_max(inner: &Inner) -> usize {
    let config = &inner.config;
    (config.message_bytes_max as usize + RECORD_EXTRA_BYTES)
        .min(config.segment_bytes.saturating_sub(BLANK_BYTES) as usize)
}

fn new_record<'a>(inner: &Inner, message: &NewMessage<'a>, body_crc: u32) -> NewRecord<'a> {
    NewRecord {
        body_crc,
        queue_id: message.queue_id,
        flag: message.flag,
        sys_flag: message.sys_flag,
        born_timestamp_ms: message.born_timestamp_ms,
        born_host: message.born_host,
        store_host: message.store_host,
        reconsume_times: message.reconsume_times,
        prepared_transaction_offset: message.prepared_transaction_offset,
        body: message.body,
        topic: message.topic,
        properties: record::without_checksum(message.properties),
        with_checksum: inner.config.record_checksum,
    }
}

/// The critical section.
fn write(
    inner: &Inner,
    messages: &[NewMessage<'_>],
    scratch: &mut Scratch,
    generation: u64,
    appended: &mut Vec<Appended>,
) -> Result<(), AppendError> {
    let mut tip = inner
        .log
        .tip
        .lock()
        .expect("no code panics while it appends");
    inner.check_writable()?;
    if inner.queues.generation() != generation {
        // A topic was deleted since the queues were looked up; perhaps one of these.
        for (message, prepared) in messages.iter().zip(&mut scratch.prepared) {
            if prepared.queue.is_some() {
                if message.sys_flag & sysflag::INNER_BATCH != 0 {
                    inner.queues.make_batch(message.topic);
                }
                prepared.queue = Some(
                    inner
                        .queues
                        .queue_or_create(message.topic, message.queue_id),
                );
            }
        }
        scratch
            .rewritten
            .iter_mut()
            .for_each(|rewritten| rewritten.look_up(inner));
    }
    give_queue_offsets(&mut scratch.prepared, &mut scratch.rewritten);
    if !scratch.rewritten.is_empty() {
        measure_rewritten(inner, messages, scratch);
    }
    let fresh = match lay_out(inner, &tip, &mut scratch.prepared) {
        Ok(fresh) => fresh,
        Err(error) => {
            take_back_queue_offsets(&scratch.prepared, &scratch.rewritten);
            return Err(error);
        }
    };
    let store_timestamp_ms = inner.clock.now_ms().max(tip.store_timestamp_ms);

    if let Some(last) = scratch.prepared.last() {
        inner
            .log
            .ahead
            .wait(&tip, last.physical + u64::from(last.bytes));
    }
    let end = match write_records(
        inner,
        &mut tip,
        &fresh,
        messages,
        scratch,
        store_timestamp_ms,
    ) {
        Ok(end) => end,
        Err(error) => {
            take_back_queue_offsets(&scratch.prepared, &scratch.rewritten);
            inner.log.segments.discard(fresh);
            return Err(inner.append_failed("writing the commit log", &error));
        }
    };
    if let Some(last) = fresh.last() {
        tip.segment = Some(Arc::clone(last));
        fresh
            .into_iter()
            .for_each(|segment| inner.log.segments.push(segment));
    }
    tip.position = end;
    tip.store_timestamp_ms = store_timestamp_ms;
    dispatch_records(inner, &mut tip, scratch, store_timestamp_ms);
    inner.log.publish_appended(end);
    ask_ahead(inner, &mut tip);
    drop(tip);

    let bytes = scratch
        .prepared
        .iter()
        .map(|prepared| u64::from(prepared.bytes))
        .sum();
    inner.counters.appended(messages.len() as u64, bytes);
    if inner.config.flush == FlushMode::Sync {
        inner.flush.wake();
    }
    appended.extend(scratch.prepared.iter().map(|prepared| Appended {
        physical_offset: prepared.physical,
        end: prepared.physical + u64::from(prepared.bytes),
        queue_offset: prepared.queue_offset,
        store_timestamp_ms,
        record_bytes: prepared.bytes,
    }));
    Ok(())
}

/// Has the keeper work ahead: the next segment is prepared once the open one is half full, early enough that no append waits, and a store that is
/// hardly used takes the space of one.
fn ask_ahead(inner: &Inner, tip: &mut Tip) {
    let Some(segment) = &tip.segment else { return };
    let next = segment.start + inner.config.segment_bytes;
    if tip.asked_until < next && tip.position - segment.start > inner.config.segment_bytes / 2 {
        tip.asked_until = next;
        inner.keeper.want_segment(next);
    }
    if inner.config.flush == FlushMode::Sync
        && inner.log.ahead.is_due(tip, inner.config.segment_bytes)
    {
        inner.keeper.want_zeros();
    }
}

/// Gives every record its position and gets the segments that the batch needs beyond the one that is open. Nothing is written, so a full
/// disk is met before anything has changed.
fn lay_out(
    inner: &Inner,
    tip: &Tip,
    prepared: &mut [Prepared],
) -> Result<Vec<Arc<Segment>>, AppendError> {
    let mut fresh = Vec::new();
    let mut position = tip.position;
    let mut segment_end = tip.segment.as_ref().map_or(position, |segment| {
        segment.start + inner.config.segment_bytes
    });
    for record in prepared {
        if position + u64::from(record.bytes) + BLANK_BYTES > segment_end {
            match inner.log.segments.take_or_create(segment_end) {
                Ok(segment) => fresh.push(segment),
                Err(error) => {
                    inner.log.segments.give_back(fresh);
                    return Err(inner.no_segment(&error));
                }
            }
            position = segment_end;
            segment_end += inner.config.segment_bytes;
        }
        record.physical = position;
        position += u64::from(record.bytes);
    }
    if !fresh.is_empty() {
        inner.health.set_no_space(None);
    }
    Ok(fresh)
}

fn give_queue_offsets(prepared: &mut [Prepared], rewritten: &mut [Rewritten]) {
    let mut rest = rewritten.iter_mut();
    let mut next = rest.next();
    for (index, record) in prepared.iter_mut().enumerate() {
        if let Some(queue) = &record.queue {
            record.queue_offset = queue.next();
            queue.set_next(record.queue_offset + u64::from(record.offsets));
        }
        if let Some(own) = next.take_if(|next| next.message == index) {
            own.give_offsets(record.queue_offset);
            next = rest.next();
        }
    }
}

fn take_back_queue_offsets(prepared: &[Prepared], rewritten: &[Rewritten]) {
    let mut rewritten = rewritten.iter().rev().peekable();
    for (index, record) in prepared.iter().enumerate().rev() {
        if let Some(own) = rewritten.next_if(|own| own.message == index) {
            own.take_back_offsets();
        }
        if let Some(queue) = &record.queue {
            queue.set_next(record.queue_offset);
        }
    }
}

/// The records of these messages hold offsets that were just given.
#[cold]
fn measure_rewritten(inner: &Inner, messages: &[NewMessage<'_>], scratch: &mut Scratch) {
    for rewritten in &scratch.rewritten {
        let message = NewMessage {
            properties: &rewritten.properties,
            ..messages[rewritten.message]
        };
        scratch.prepared[rewritten.message].bytes =
            record::encoded_len(&new_record(inner, &message, 0)) as u32;
    }
}

/// Encodes the batch into the chunk and writes it, one write a segment. Returns the position behind it.
fn write_records(
    inner: &Inner,
    tip: &mut Tip,
    fresh: &[Arc<Segment>],
    messages: &[NewMessage<'_>],
    scratch: &Scratch,
    store_timestamp_ms: i64,
) -> io::Result<u64> {
    clean_dirty(tip)?;
    let prepared = scratch.prepared.as_slice();
    let mut rewritten = scratch.rewritten.iter().peekable();
    let segment_bytes = inner.config.segment_bytes;
    let mut targets = tip
        .segment
        .iter()
        .chain(fresh)
        .cloned()
        .collect::<Vec<_>>()
        .into_iter();
    let mut target = targets.next();
    let mut pieces: Vec<(u64, Bytes)> = Vec::new();
    let mut end = tip.position;
    let mut index = 0;
    while let Some(segment) = target {
        let segment_end = segment.start + segment_bytes;
        let start = if segment.start > end {
            segment.start
        } else {
            end
        };
        let count = prepared[index..]
            .iter()
            .take_while(|record| record.physical < segment_end)
            .count();
        let run = index..index + count;
        index = run.end;
        let bytes: usize = prepared[run.clone()]
            .iter()
            .map(|record| record.bytes as usize)
            .sum();
        make_room(&mut tip.chunk, bytes + BLANK_BYTES as usize);
        let first = run.start;
        for (at, (message, record)) in messages[run.clone()].iter().zip(&prepared[run]).enumerate()
        {
            let mut new = new_record(inner, message, record.body_crc);
            if let Some(own) = rewritten.next_if(|own| own.message == first + at) {
                new.properties = &own.properties;
            }
            record::encode(
                &new,
                record.queue_offset,
                record.physical,
                store_timestamp_ms,
                &mut tip.chunk,
            );
        }
        debug_assert_eq!(tip.chunk.len(), bytes);
        end = start + bytes as u64;
        target = targets.next();
        if target.is_some() {
            record::encode_blank((segment_end - end) as u32, &mut tip.chunk);
        }
        if let Err(error) = segment.file.write_all_at(&tip.chunk, start - segment.start) {
            // How much arrived is unknown. What lies in fresh segments goes with them.
            tip.chunk.clear();
            if tip
                .segment
                .as_ref()
                .is_some_and(|open| open.start == segment.start)
            {
                tip.dirty_until = tip.dirty_until.max((end + BLANK_BYTES).min(segment_end));
            }
            return Err(error);
        }
        let piece = tip.chunk.split_to(bytes).freeze();
        tip.chunk.clear();
        if bytes > 0 {
            pieces.push((start, piece));
        }
        // Until the whole batch is published, what was written of it must not survive a failure of the rest.
        if target.is_some()
            && tip
                .segment
                .as_ref()
                .is_some_and(|open| open.start == segment.start)
        {
            tip.dirty_until = (end + BLANK_BYTES).min(segment_end);
        }
    }
    tip.dirty_until = 0;
    for (start, bytes) in pieces {
        inner.log.tail.push(start, bytes);
    }
    Ok(end)
}

/// Zeroes what a failed write may have left behind the tip.
fn clean_dirty(tip: &mut Tip) -> io::Result<()> {
    if let Some(segment) = tip
        .segment
        .as_ref()
        .filter(|_| tip.dirty_until > tip.position)
    {
        let zeros = [0u8; 64 << 10];
        let mut at = tip.position;
        while at < tip.dirty_until {
            let now = (tip.dirty_until - at).min(zeros.len() as u64);
            segment
                .file
                .write_all_at(&zeros[..now as usize], at - segment.start)?;
            at += now;
        }
        tip.dirty_until = 0;
    }
    Ok(())
}

/// Makes sure that `bytes` can be encoded without moving what is there. The chunk is empty: what was written has been split off.
fn make_room(chunk: &mut BytesMut, bytes: usize) {
    debug_assert!(chunk.is_empty());
    if chunk.capacity() < bytes {
        *chunk = BytesMut::with_capacity(bytes.max(CHUNK_BYTES));
    }
}

/// Tells queues and index of the records, in memory.
fn dispatch_records(inner: &Inner, tip: &mut Tip, scratch: &mut Scratch, store_timestamp_ms: i64) {
    let mut queued = 0;
    let mut wake_writer = false;
    let hashes_len = scratch.hashes.len();
    let mut rewritten = scratch.rewritten.iter().peekable();
    for index in 0..scratch.prepared.len() {
        let hashes_to = scratch
            .prepared
            .get(index + 1)
            .map_or(hashes_len, |next| next.hashes_from);
        let record = &scratch.prepared[index];
        for &hash in &scratch.hashes[record.hashes_from..hashes_to] {
            scratch.index.push(IndexEntry {
                hash,
                physical: record.physical,
                store_timestamp_ms,
            });
        }
        let Some(queue) = &record.queue else { continue };
        let entry = Entry {
            physical: record.physical,
            size: record.bytes,
            tags_code: record.tags_code.value(store_timestamp_ms),
        };
        let watched = &mut scratch.watched;
        let (offset, offsets) = (record.queue_offset, record.offsets);
        wake_writer |= enter(inner, queue, offset, offsets, entry, watched);
        queued += offsets as usize;
        if let Some(own) = rewritten.next_if(|own| own.message == index) {
            for place in own.places.iter().filter(|place| place.same_as.is_none()) {
                wake_writer |= enter(inner, &place.queue, place.offset, 1, entry, watched);
                queued += 1;
                inner.queues.add_light(usize::from(place.offset == 0));
            }
        }
    }
    tip.entries_total += queued as u64;
    let backlog = inner.queues.add_backlog(queued);
    let (index_backlog, index_was_empty) = inner.index.add(&scratch.index);
    if wake_writer
        || index_was_empty
        || backlog >= inner.config.write_batch()
        || index_backlog >= inner.config.write_batch()
    {
        inner.writer.wake();
    }
    scratch
        .watched
        .sort_unstable_by_key(|queue| Arc::as_ptr(queue) as usize);
    scratch.watched.dedup_by(|a, b| Arc::ptr_eq(a, b));
    if inner.config.flush == FlushMode::Sync && !scratch.watched.is_empty() {
        let end = scratch
            .prepared
            .last()
            .map_or(0, |last| last.physical + u64::from(last.bytes));
        inner.flush.hide(&mut scratch.watched, end);
    }
}

/// A queue gets the entry of its next `offsets` messages, which readers see together. True when the writer may sleep and has something to do.
#[inline]
fn enter(
    inner: &Inner,
    queue: &Arc<Queue>,
    queue_offset: u64,
    offsets: u32,
    entry: Entry,
    watched: &mut Vec<Arc<Queue>>,
) -> bool {
    let mut entries = queue.entries();
    debug_assert_eq!(entries.max(), queue_offset);
    entries.push(entry);
    for _ in 1..offsets {
        entries.push(entry);
    }
    let mut wake_writer = false;
    if !entries.listed {
        entries.listed = true;
        wake_writer = inner.queues.list_unwritten(queue);
    }
    // Looked at under the queue's lock: who began to watch before sees to be told, who begins later sees the entry.
    if queue.is_watched() {
        watched.push(Arc::clone(queue));
    }
    wake_writer
}
