//! Reading the log from a position on, record by record, as recovery and rebuilding do.

use std::io;

use protocol::record::{self, CheckBody, MAGIC_BLANK, Record, RecordError};

use super::segments::{Segment, Segments};
use crate::queue::files::read_fully;

/// Bytes read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// Where a scan ended and why.
#[derive(Debug)]
pub(crate) struct Scanned {
    /// Position behind the last good record: where the next one goes.
    pub(crate) end: u64,
    /// Store timestamp of the last good record, when there was one.
    pub(crate) last_store_timestamp_ms: Option<i64>,
    /// Good records.
    pub(crate) records: u64,
    /// What stands at `end` when it is neither unwritten space nor the end of the log.
    pub(crate) torn: Option<String>,
}

/// Reads records from `from` on until there is none, or `until` is reached. `from` must be the position of a record, or of the end.
pub(crate) fn scan(
    segments: &Segments,
    from: u64,
    until: u64,
    visit: &mut dyn FnMut(&Record<'_>),
) -> io::Result<Scanned> {
    let mut scanned = Scanned {
        end: from,
        last_store_timestamp_ms: None,
        records: 0,
        torn: None,
    };
    let mut buffer = Vec::new();
    while scanned.end < until {
        let Some(segment) = segments.containing(scanned.end) else {
            break;
        };
        match scan_segment(
            &segment,
            segments.segment_bytes(),
            until,
            &mut buffer,
            &mut scanned,
            visit,
        )? {
            // The filler is only passed when there is a segment behind it: otherwise it is written again by the next append.
            Some(next) if segments.containing(next).is_some() => scanned.end = next,
            _ => break,
        }
    }
    Ok(scanned)
}

/// Reads one segment from `scanned.end` on. Returns the start of the next one when a filler was met.
fn scan_segment(
    segment: &Segment,
    segment_bytes: u64,
    until: u64,
    buffer: &mut Vec<u8>,
    scanned: &mut Scanned,
    visit: &mut dyn FnMut(&Record<'_>),
) -> io::Result<Option<u64>> {
    let segment_end = segment.start + segment_bytes;
    let mut wanted = CHUNK_BYTES;
    loop {
        let base = scanned.end;
        if base >= until || base >= segment_end {
            return Ok(None);
        }
        buffer.resize(wanted.min((segment_end - base) as usize), 0);
        let read = read_fully(&*segment.file, buffer, base - segment.start, true)?;
        let bytes = &buffer[..read];
        let mut at = 0;
        wanted = CHUNK_BYTES;
        while base + (at as u64) < until {
            let rest = &bytes[at..];
            // Most of a short tail is decoded in the next round, when it stands at the front of a full buffer.
            match record::decode(rest, CheckBody::Yes) {
                Ok(found) if found.physical_offset != base + at as u64 => {
                    scanned.torn = Some(format!(
                        "a record that belongs to position {}",
                        found.physical_offset
                    ));
                    return Ok(None);
                }
                Ok(found)
                    if lost_sector(
                        &found,
                        &rest[..found.size as usize],
                        found.physical_offset - segment.start,
                    ) =>
                {
                    scanned.torn = Some("a record of which a sector was never written".to_owned());
                    return Ok(None);
                }
                Ok(found) => {
                    visit(&found);
                    scanned.last_store_timestamp_ms = Some(found.store_timestamp_ms);
                    scanned.records += 1;
                    at += found.size as usize;
                    scanned.end = base + at as u64;
                }
                Err(RecordError::Incomplete { needed, .. })
                    if needed as u64 + scanned.end <= segment_end
                        && read == buffer.len()
                        && base + (read as u64) < segment_end =>
                {
                    wanted = needed.max(CHUNK_BYTES);
                    if at == 0 && wanted <= read {
                        // Cannot be: the whole record was there. Without this the loop would not end.
                        scanned.torn = Some("a record that cannot be read".to_owned());
                        return Ok(None);
                    }
                    break;
                }
                Err(RecordError::Blank { .. }) => return Ok(Some(segment_end)),
                Err(error) => {
                    scanned.torn = describe(rest, &error);
                    return Ok(None);
                }
            }
        }
    }
}

/// Whether a sector of the record was never written. A lost sector is zeros. In the head it contradicts the size, in the body the checksum;
/// but nothing protects topic and properties. No client writes a sector of them that is nothing but zeros.
fn lost_sector(record: &Record<'_>, bytes: &[u8], file_offset: u64) -> bool {
    [record.topic, record.properties].into_iter().any(|text| {
        let text = text.as_bytes();
        let from = file_offset as usize + (text.as_ptr() as usize - bytes.as_ptr() as usize);
        let (first, rest) = text.split_at((SECTOR_BYTES - from % SECTOR_BYTES).min(text.len()));
        std::iter::once(first)
            .chain(rest.chunks(SECTOR_BYTES))
            .any(|part| !part.is_empty() && part.iter().all(|&byte| byte == 0))
    })
}

/// What is wrong, or None when the space is simply unwritten.
fn describe(rest: &[u8], error: &RecordError) -> Option<String> {
    let head = &rest[..rest.len().min(8)];
    if head.iter().all(|&byte| byte == 0) {
        None
    } else {
        Some(error.to_string())
    }
}

/// The store timestamp of the first record of a segment, when it begins with one.
pub(crate) fn first_store_timestamp(segment: &Segment) -> io::Result<Option<i64>> {
    let mut head = [0; record::HEAD_BYTES];
    let read = read_fully(&*segment.file, &mut head, 0, true)?;
    let head = &head[..read];
    match record::peek_magic(head) {
        Some(MAGIC_BLANK) | None => return Ok(None),
        Some(record::MAGIC_V1 | record::MAGIC_V2) => {}
        Some(_) => return Ok(None),
    }
    if record::peek_physical_offset(head) != Some(segment.start) {
        return Ok(None);
    }
    Ok(record::peek_store_timestamp(head).filter(|timestamp| *timestamp > 0))
}
