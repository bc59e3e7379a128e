//! Going through a file of records from its front, by what the records say of themselves.

use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use platform::disk::File;
use protocol::record::{self, CheckBody, MAGIC_V1, MAGIC_V2, RecordError};

use crate::queue::files::read_fully;

/// Bytes read at once, unless one record is larger.
const READ_BYTES: usize = 1 << 20;
/// Larger than any record (Java: a body, 32 KiB of properties, and a frame of 16 MiB around them).
pub(super) const RECORD_BYTES_MAX: u32 = 32 << 20;

/// A place in a file of records.
pub(super) struct Scan {
    file: Arc<dyn File>,
    /// Of the front of what is buffered.
    position: u64,
    end: u64,
    buffer: BytesMut,
}

impl Scan {
    pub(super) fn new(file: Arc<dyn File>, end: u64) -> Scan {
        Scan {
            file,
            position: 0,
            end,
            buffer: BytesMut::new(),
        }
    }

    /// Goes on at a position.
    pub(super) fn seek(&mut self, position: u64) {
        let ahead = position.checked_sub(self.position);
        match ahead.and_then(|ahead| usize::try_from(ahead).ok()) {
            Some(ahead) if ahead <= self.buffer.len() => self.buffer.advance(ahead),
            _ => self.buffer.clear(),
        }
        self.position = position;
    }

    /// The next record and its position; None at the end, and where no whole record lies.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, Bytes)>> {
        if !self.fill(record::BLANK_BYTES)? {
            return Ok(None);
        }
        let size = record::peek_size(&self.buffer).unwrap_or(0);
        let is_record = matches!(record::peek_magic(&self.buffer), Some(MAGIC_V1 | MAGIC_V2))
            && size as usize >= record::BLANK_BYTES
            && size <= RECORD_BYTES_MAX;
        if !is_record || !self.fill(size as usize)? {
            return Ok(None);
        }
        match record::decode(&self.buffer, CheckBody::Yes) {
            Ok(record) if record::is_intact(&self.buffer[..size as usize], record.properties) => {}
            Ok(_) | Err(RecordError::BodyCrc { .. }) | Err(_) => return Ok(None),
        }
        let position = self.position;
        self.position += u64::from(size);
        Ok(Some((
            position,
            self.buffer.split_to(size as usize).freeze(),
        )))
    }

    /// Sees to it that so many bytes are buffered; false when the file ends before.
    fn fill(&mut self, bytes: usize) -> io::Result<bool> {
        if self.buffer.len() >= bytes {
            return Ok(true);
        }
        let from = self.position + self.buffer.len() as u64;
        let left = self.end.saturating_sub(from);
        let want = (READ_BYTES.max(bytes) - self.buffer.len()) as u64;
        let had = self.buffer.len();
        self.buffer.resize(had + want.min(left) as usize, 0);
        let read = read_fully(&*self.file, &mut self.buffer[had..], from, true)?;
        self.buffer.truncate(had + read);
        Ok(self.buffer.len() >= bytes)
    }
}
