//! Bytes on their way out: appended at the end, written from the front.

use bytes::BytesMut;

/// Capacity that an empty buffer keeps; what a larger burst needed is given back when it has drained.
const KEEP_BYTES: usize = 256 * 1024;

/// A byte queue over one contiguous buffer, so that everything in it leaves in one write.
#[derive(Debug, Default)]
pub(crate) struct Output {
    buffer: BytesMut,
    /// Bytes at the front of `buffer` that have left already.
    taken: usize,
}

impl Output {
    /// The buffer to encode into. The caller only appends.
    pub(crate) fn tail(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Bytes that have not left yet.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len() - self.taken
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.buffer[self.taken..]
    }

    /// Forgets the first `count` bytes.
    pub(crate) fn advance(&mut self, count: usize) {
        self.taken += count;
        debug_assert!(self.taken <= self.buffer.len());
        if self.taken == self.buffer.len() {
            self.clear();
        } else if self.taken >= KEEP_BYTES && self.taken * 2 >= self.buffer.len() {
            // Moving less than has left keeps the cost of moving below that of writing.
            self.compact();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.buffer.clear();
        self.taken = 0;
        if self.buffer.capacity() > KEEP_BYTES {
            self.buffer = BytesMut::new();
        }
    }

    /// Whether [`shrink`](Self::shrink) would give memory back.
    pub(crate) fn can_shrink(&self) -> bool {
        self.is_empty() && self.buffer.capacity() > 0
    }

    /// Gives the memory back when nothing waits.
    pub(crate) fn shrink(&mut self) {
        if self.is_empty() {
            *self = Output::default();
        }
    }

    /// Appends the first `count` bytes of `from` and removes them there.
    pub(crate) fn take_from(&mut self, from: &mut Output, count: usize) {
        if self.is_empty() && count == from.len() {
            std::mem::swap(self, from);
            return;
        }
        self.buffer.extend_from_slice(&from.as_slice()[..count]);
        from.advance(count);
    }

    fn compact(&mut self) {
        let waiting = self.len();
        self.buffer.copy_within(self.taken.., 0);
        self.buffer.truncate(waiting);
        self.taken = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(text: &[u8]) -> Output {
        let mut output = Output::default();
        output.tail().extend_from_slice(text);
        output
    }

    #[test]
    fn bytes_leave_in_order() {
        let mut output = output(b"abcdef");
        output.advance(2);
        output.tail().extend_from_slice(b"gh");
        assert_eq!(output.as_slice(), b"cdefgh");
        output.advance(6);
        assert!(output.is_empty());
        assert_eq!(output.as_slice(), b"");
    }

    #[test]
    fn a_slow_reader_does_not_make_the_buffer_creep() {
        let mut output = Output::default();
        let chunk = vec![7_u8; KEEP_BYTES];
        output.tail().extend_from_slice(&chunk);
        for _ in 0..100 {
            output.tail().extend_from_slice(&chunk);
            output.advance(KEEP_BYTES);
        }
        assert_eq!(output.len(), KEEP_BYTES);
        assert!(
            output.buffer.capacity() <= 8 * KEEP_BYTES,
            "{}",
            output.buffer.capacity()
        );
    }

    #[test]
    fn a_drained_burst_gives_its_memory_back() {
        let mut output = output(&vec![1_u8; KEEP_BYTES * 4]);
        output.advance(KEEP_BYTES * 4);
        assert!(output.buffer.capacity() <= KEEP_BYTES);
    }

    #[test]
    fn taking_everything_into_an_empty_one_and_a_part_into_a_full_one() {
        let mut from = output(b"abcdef");
        let mut to = Output::default();
        to.take_from(&mut from, 6);
        assert_eq!((to.as_slice(), from.len()), (&b"abcdef"[..], 0));
        let mut more = output(b"ghij");
        to.take_from(&mut more, 3);
        assert_eq!(
            (to.as_slice(), more.as_slice()),
            (&b"abcdefghi"[..], &b"j"[..])
        );
    }
}
