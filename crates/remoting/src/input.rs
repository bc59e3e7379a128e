//! Bytes on their way in: read at the end, cut into frames at the front.

use protocol::frame::{self, Frame, FrameError};
use protocol::header::{HeaderError, Headers};

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

    /// Memory that is held.
    pub(crate) fn memory(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes that were read and not consumed.
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// The last read filled the buffer.
    pub(crate) fn was_filled(&self) -> bool {
        self.filled
    }

    /// The buffer that [`space`](Self::space) makes for a frame that does not fit into this one; 0 when it does.
    pub(crate) fn growth(&self) -> usize {
        let capacity = self.buffer.len();
        if capacity > 0 && self.len() == capacity {
            capacity * 2
        } else {
            0
        }
    }

    /// As [`space`](Self::space), without growing for speed: only a frame that needs it makes the buffer larger.
    pub(crate) fn frugal_space(&mut self) -> &mut [u8] {
        self.filled = false;
        self.space()
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
            headers: Headers::default(),
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
    headers: Headers<'a>,
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
        let header = self.headers.decode(codec, header)?;
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

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use protocol::code::RequestCode;
    use protocol::command::Command;

    use super::*;

    const FRAME_MAX: usize = 1 << 24;

    fn frame(body_bytes: usize) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        let command = Command::request(RequestCode(1), &()).with_body(vec![7; body_bytes]);
        command.encode(&mut bytes);
        bytes.to_vec()
    }

    /// Reads all of `bytes` as a socket that always has enough, cutting after each read. Returns the number of frames.
    fn read(input: &mut Input, mut bytes: &[u8]) -> usize {
        let mut count = 0;
        while !bytes.is_empty() {
            let space = input.space();
            let some = space.len().min(bytes.len());
            assert!(some > 0);
            space[..some].copy_from_slice(&bytes[..some]);
            bytes = &bytes[some..];
            input.received(some);
            let mut frames = input.frames();
            while frames.next().unwrap().is_some() {
                count += 1;
            }
            let taken = frames.taken();
            input.consume(taken);
        }
        count
    }

    #[test]
    fn a_quiet_connection_keeps_little() {
        let mut input = Input::new(FRAME_MAX, 96 * 1024);
        for _ in 0..1_000 {
            assert_eq!(read(&mut input, &frame(100)), 1);
        }
        assert_eq!(input.buffer.len(), SMALL_BYTES);
    }

    #[test]
    fn a_busy_connection_grows_to_its_bound_and_gives_back() {
        let mut input = Input::new(FRAME_MAX, 96 * 1024);
        let many: Vec<u8> = (0..2_000).flat_map(|_| frame(1_024)).collect();
        assert_eq!(read(&mut input, &many), 2_000);
        assert_eq!(input.buffer.len(), 96 * 1024);
        assert!(input.can_shrink());
        input.shrink();
        assert!(input.buffer.is_empty() && !input.can_shrink());
        assert_eq!(read(&mut input, &frame(10)), 1);
    }

    #[test]
    fn a_large_frame_gets_its_space_and_then_it_is_given_back() {
        let mut input = Input::new(FRAME_MAX, 96 * 1024);
        let mut bytes = frame(10_000_000);
        bytes.extend_from_slice(&frame(1));
        assert_eq!(read(&mut input, &bytes), 2);
        assert_eq!(input.space().len(), SMALL_BYTES);
        assert_eq!(read(&mut input, &frame(1)), 1);
    }

    #[test]
    fn an_announced_length_costs_nothing_until_its_bytes_arrive() {
        let mut input = Input::new(FRAME_MAX, 96 * 1024);
        let announced = frame(16_000_000);
        for arrived in [100, 10_000, 300_000] {
            let mut input = Input::new(FRAME_MAX, 96 * 1024);
            assert_eq!(read(&mut input, &announced[..arrived]), 0);
            assert!(
                input.buffer.len() <= (2 * arrived).max(SMALL_BYTES),
                "{arrived}"
            );
        }
        assert_eq!(read(&mut input, &announced), 1);
        assert!(input.buffer.len() <= FRAME_MAX + 4);
    }

    #[test]
    fn the_largest_frame_fits_and_one_byte_more_is_malformed() {
        let overhead = frame(0).len();
        let mut input = Input::new(5_000, 8 * 1024);
        assert_eq!(read(&mut input, &frame(5_000 - overhead)), 1);
        let mut input = Input::new(5_000, 8 * 1024);
        let too_long = frame(5_001 - overhead);
        input.space()[..8].copy_from_slice(&too_long[..8]);
        input.received(8);
        assert!(matches!(input.frames().next(), Err(Malformed::Frame(_))));
    }
}
