//! Bytes on their way in: read at the end, cut into frames at the front.

use protocol::frame::{self, Frame, FrameError};
use protocol::header::{Header, HeaderError};

use crate::service::Request;

/// First capacity: a quiet connection (heartbeats, pulls) never needs more.
const SMALL_BYTES: usize = 8 * 1024;

/// Why the bytes of a peer cannot be understood. The connection is closed: where the next frame begins is unknown,
/// or the peer speaks something else.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("malformed frame: {0}")]
    Frame(#[from] FrameError),
    #[error("malformed header: {0}")]
    Header(#[from] HeaderError),
}

/// The read buffer of one connection.
///
/// `start ≤ end ≤ buffer.len()`; `buffer[start..end]` is read and not consumed.
#[derive(Debug)]
pub(crate) struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The last read filled the buffer, so a larger one would have taken more at once.
    filled: bool,
    frame_bytes_max: usize,
    read_buffer_bytes_max: usize,
}

impl Input {
    pub(crate) fn new(frame_bytes_max: usize, read_buffer_bytes_max: usize) -> Self {
        Input {
            buffer: Vec::new(),
            start: 0,
            end: 0,
            filled: false,
            frame_bytes_max,
            read_buffer_bytes_max: read_buffer_bytes_max.max(SMALL_BYTES),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether [`shrink`](Self::shrink) would give memory back.
    pub(crate) fn can_shrink(&self) -> bool {
        self.is_empty() && self.buffer.len() > SMALL_BYTES
    }

    /// Gives the memory of past bursts back, where no partial frame lies in it.
    pub(crate) fn shrink(&mut self) {
        if self.can_shrink() {
            self.buffer = Vec::new();
            (self.start, self.end, self.filled) = (0, 0, false);
        }
    }

    /// Space for the next read, never empty. Call it only when no complete frame is left in the buffer.
    ///
    /// The buffer doubles while reads fill it, up to `read_buffer_bytes_max`. It grows beyond that only for a frame whose announced
    /// length was checked, and only as its bytes arrive, so an announcement alone costs nothing.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > self.read_buffer_bytes_max {
                self.buffer = Vec::new();
            }
        }
        let capacity = self.buffer.len();
        let full = self.end - self.start == capacity;
        if capacity == 0 {
            self.buffer = vec![0; SMALL_BYTES];
        } else if full || (self.filled && capacity < self.read_buffer_bytes_max) {
            let bound = if full {
                self.frame_bytes_max
                    .saturating_add(4)
                    .max(self.read_buffer_bytes_max)
            } else {
                self.read_buffer_bytes_max
            };
            self.grow((capacity * 2).min(bound).max(capacity + 1));
        } else if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        self.filled = false;
        &mut self.buffer[self.end..]
    }

    /// `count` bytes were read into the space.
    pub(crate) fn received(&mut self, count: usize) {
        self.end += count;
        debug_assert!(self.end <= self.buffer.len());
        self.filled = self.end == self.buffer.len();
    }

    /// The unread bytes, to be cut by [`Frames`].
    pub(crate) fn frames(&self) -> Frames<'_> {
        Frames {
            bytes: &self.buffer[self.start..self.end],
            taken: 0,
            frame_bytes_max: self.frame_bytes_max,
        }
    }

    /// Forgets the first `count` unread bytes.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end);
    }

    fn grow(&mut self, capacity: usize) {
        let mut larger = vec![0; capacity];
        let waiting = self.end - self.start;
        larger[..waiting].copy_from_slice(&self.buffer[self.start..self.end]);
        self.buffer = larger;
        self.start = 0;
        self.end = waiting;
    }
}

/// Cuts complete frames off the front of the unread bytes.
pub(crate) struct Frames<'a> {
    bytes: &'a [u8],
    taken: usize,
    frame_bytes_max: usize,
}

impl<'a> Frames<'a> {
    /// The next complete frame (a request or an answer), or None when more bytes are needed.
    pub(crate) fn next(&mut self) -> Result<Option<Request<'a>>, Malformed> {
        let Some((frame, bytes)) = frame::split(&self.bytes[self.taken..], self.frame_bytes_max)?
        else {
            return Ok(None);
        };
        let Frame {
            codec,
            header,
            body,
        } = frame;
        let header = Header::decode(codec, header)?;
        self.taken += bytes;
        Ok(Some(Request {
            header,
            body,
            codec,
        }))
    }

    /// Bytes of the frames cut so far.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }
}
