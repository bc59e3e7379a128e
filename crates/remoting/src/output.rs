//! Bytes on their way out: appended at the end, written from the front.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// Capacity that an empty buffer keeps; what a larger burst needed is given back when it has drained.
const KEEP_BYTES: usize = 256 * 1024;
/// Parts of a body from this size on are written from where they lie; smaller ones are copied, which costs less than
/// counting a reference and one more entry in the system call.
const SHARED_BYTES_MIN: usize = 4 * 1024;
/// Entries of one vectored write. The system takes 1024.
const SLICES_MAX: usize = 64;

/// A byte queue: one contiguous buffer, so that everything in it leaves in one write, and large shared parts between
/// its bytes.
///
/// ```text
/// buffer  ░░░░ taken ░░░░│ bytes │ bytes        │ bytes
/// shared                         ▲ part         ▲ part      `at` is a position in `buffer`
/// ```
/// `taken ≤ shared[0].at ≤ shared[1].at ≤ … ≤ buffer.len()`
#[derive(Debug, Default)]
pub(crate) struct Output {
    buffer: BytesMut,
    /// Bytes at the front of `buffer` that have left already.
    taken: usize,
    shared: VecDeque<Shared>,
    /// Bytes of all `shared` parts.
    shared_bytes: usize,
}

/// A part that leaves behind the first `at` bytes of the buffer. Never empty.
#[derive(Debug)]
struct Shared {
    at: usize,
    part: Bytes,
}

impl Output {
    /// The buffer to encode into. The caller only appends.
    pub(crate) fn tail(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Appends bytes that others may hold too.
    pub(crate) fn append_shared(&mut self, part: &Bytes) {
        if part.len() < SHARED_BYTES_MIN {
            self.buffer.extend_from_slice(part);
            return;
        }
        self.shared_bytes += part.len();
        self.shared.push_back(Shared {
            at: self.buffer.len(),
            part: part.clone(),
        });
    }

    /// Memory that is held: the buffer whole, shared parts by their length.
    pub(crate) fn memory(&self) -> usize {
        self.buffer.capacity() + self.shared_bytes
    }

    /// Whether parts lie in memory that others own too, of which a part may be a small piece.
    pub(crate) fn is_sharing(&self) -> bool {
        !self.shared.is_empty()
    }

    /// Copies what is shared. A part of some KiB keeps the whole chunk of the log's tail that it was cut from; a peer that does
    /// not read must not.
    pub(crate) fn unshare(&mut self) {
        let mut own = BytesMut::with_capacity(self.len());
        let mut from = self.taken;
        for shared in &self.shared {
            own.extend_from_slice(&self.buffer[from..shared.at]);
            own.extend_from_slice(&shared.part);
            from = shared.at;
        }
        own.extend_from_slice(&self.buffer[from..]);
        *self = Output {
            buffer: own,
            ..Output::default()
        };
    }

    /// Bytes that have not left yet.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len() - self.taken + self.shared_bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What leaves first, in one piece.
    pub(crate) fn first_slice(&self) -> &[u8] {
        match self.shared.front() {
            Some(shared) if shared.at == self.taken => &shared.part,
            Some(shared) => &self.buffer[self.taken..shared.at],
            None => &self.buffer[self.taken..],
        }
    }

    /// Whether [`first_slice`](Self::first_slice) is everything.
    pub(crate) fn is_contiguous(&self) -> bool {
        self.shared.is_empty()
    }

    /// What leaves first, in pieces, as far as one write takes them.
    pub(crate) fn slices<'a>(&'a self, slices: &mut Slices<'a>) {
        let mut from = self.taken;
        for shared in &self.shared {
            slices.push(&self.buffer[from..shared.at]);
            slices.push(&shared.part);
            from = shared.at;
            if slices.is_full() {
                return;
            }
        }
        slices.push(&self.buffer[from..]);
    }

    /// Forgets the first `count` bytes.
    pub(crate) fn advance(&mut self, mut count: usize) {
        while let Some(shared) = self.shared.front_mut() {
            let before = shared.at - self.taken;
            if count < before {
                break;
            }
            count -= before;
            self.taken = shared.at;
            let left = count.min(shared.part.len());
            shared.part.advance(left);
            self.shared_bytes -= left;
            count -= left;
            if !shared.part.is_empty() {
                break;
            }
            self.shared.pop_front();
        }
        self.taken += count;
        debug_assert!(self.taken <= self.buffer.len());
        if self.is_empty() {
            self.clear();
        } else if self.taken >= KEEP_BYTES && self.taken * 2 >= self.buffer.len() {
            // Moving less than has left keeps the cost of moving below that of writing.
            self.compact();
        }
    }

    fn clear(&mut self) {
        self.buffer.clear();
        self.taken = 0;
        if self.buffer.capacity() > KEEP_BYTES {
            self.buffer = BytesMut::new();
        }
    }

    /// Whether [`shrink`](Self::shrink) would give memory back.
    pub(crate) fn can_shrink(&self) -> bool {
        self.is_empty() && (self.buffer.capacity() > 0 || self.shared.capacity() > 0)
    }

    /// Gives the memory back when nothing waits.
    pub(crate) fn shrink(&mut self) {
        if self.is_empty() {
            *self = Output::default();
        }
    }

    /// Moves everything of `from` to the end.
    pub(crate) fn take_all(&mut self, from: &mut Output) {
        if self.is_empty() {
            std::mem::swap(self, from);
            return;
        }
        let (start, end) = (from.taken, self.buffer.len());
        self.buffer.extend_from_slice(&from.buffer[start..]);
        self.shared_bytes += from.shared_bytes;
        self.shared
            .extend(from.shared.drain(..).map(|shared| Shared {
                at: shared.at - start + end,
                part: shared.part,
            }));
        from.shared_bytes = 0;
        from.clear();
    }

    /// Moves the first `count` bytes of `from`, which holds no shared parts, to the end.
    pub(crate) fn take_from(&mut self, from: &mut Output, count: usize) {
        debug_assert!(from.is_contiguous());
        if count == from.len() {
            return self.take_all(from);
        }
        self.buffer.extend_from_slice(&from.first_slice()[..count]);
        from.advance(count);
    }

    fn compact(&mut self) {
        let waiting = self.buffer.len() - self.taken;
        self.buffer.copy_within(self.taken.., 0);
        self.buffer.truncate(waiting);
        for shared in &mut self.shared {
            shared.at -= self.taken;
        }
        self.taken = 0;
    }
}

/// The pieces of one vectored write.
pub(crate) struct Slices<'a> {
    slices: [IoSlice<'a>; SLICES_MAX],
    count: usize,
}

impl<'a> Slices<'a> {
    pub(crate) fn new() -> Self {
        Slices {
            slices: [IoSlice::new(&[]); SLICES_MAX],
            count: 0,
        }
    }

    /// Ignored when it is empty or there is no place left: it leaves with the next write.
    fn push(&mut self, bytes: &'a [u8]) {
        if !bytes.is_empty() && !self.is_full() {
            self.slices[self.count] = IoSlice::new(bytes);
            self.count += 1;
        }
    }

    fn is_full(&self) -> bool {
        self.count == SLICES_MAX
    }

    pub(crate) fn as_slice(&self) -> &[IoSlice<'a>] {
        &self.slices[..self.count]
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

    /// Everything, as vectored writes would send it.
    fn content(output: &Output) -> Vec<u8> {
        let mut slices = Slices::new();
        output.slices(&mut slices);
        let mut content = Vec::new();
        for slice in slices.as_slice() {
            content.extend_from_slice(slice);
        }
        content
    }

    fn large(byte: u8) -> Bytes {
        Bytes::from(vec![byte; SHARED_BYTES_MIN + usize::from(byte)])
    }

    #[test]
    fn bytes_leave_in_order() {
        let mut output = output(b"abcdef");
        output.advance(2);
        output.tail().extend_from_slice(b"gh");
        assert_eq!(output.first_slice(), b"cdefgh");
        output.advance(6);
        assert!(output.is_empty());
        assert_eq!(output.first_slice(), b"");
    }

    #[test]
    fn shared_parts_leave_between_the_bytes_around_them_however_the_writes_fall() {
        for step in [61, 1_000, 4_096, 4_097, 5_000, 10_000, 100_000] {
            let mut output = Output::default();
            let mut want = Vec::new();
            for round in 0..4 {
                for part in [
                    Bytes::from_static(b"head"),
                    large(round),
                    large(round + 1),
                    Bytes::from_static(b"x"),
                ] {
                    output.append_shared(&part);
                    want.extend_from_slice(&part);
                }
            }
            assert_eq!(output.len(), want.len());
            let mut got = Vec::new();
            while !output.is_empty() {
                let mut all = content(&output);
                assert!(all.starts_with(output.first_slice()));
                all.truncate(step);
                output.advance(all.len());
                got.extend_from_slice(&all);
            }
            assert!(got == want, "in steps of {step}");
        }
    }

    #[test]
    fn appending_one_queue_to_another_keeps_the_order() {
        let mut to = output(b"abc");
        to.append_shared(&large(1));
        to.advance(2);
        let mut from = output(b"12345");
        from.append_shared(&large(2));
        from.tail().extend_from_slice(b"67");
        from.advance(3);
        to.take_all(&mut from);
        assert!(from.is_empty());
        let want = [&b"c"[..], &large(1), b"45", &large(2), b"67"].concat();
        assert_eq!(to.len(), want.len());
        assert!(content(&to) == want);
    }

    #[test]
    fn a_slow_reader_does_not_make_the_buffer_creep() {
        let mut output = Output::default();
        let chunk = vec![7_u8; KEEP_BYTES];
        output.tail().extend_from_slice(&chunk);
        for round in 0..100 {
            output.tail().extend_from_slice(&chunk);
            output.append_shared(&large(round));
            output.advance(KEEP_BYTES + SHARED_BYTES_MIN);
        }
        assert!(
            output.buffer.capacity() <= 8 * KEEP_BYTES,
            "{}",
            output.buffer.capacity()
        );
    }

    #[test]
    fn what_was_copied_leaves_as_what_was_shared_would_and_keeps_nobody_elses_memory() {
        let mut output = output(b"head");
        let part = large(3);
        output.append_shared(&part);
        output.tail().extend_from_slice(b"between");
        output.append_shared(&large(4));
        output.advance(2 + 2 + 100);
        let want = content(&output);
        output.unshare();
        assert!(output.is_contiguous() && content(&output) == want);
        assert!(part.is_unique());
        assert!(output.memory() <= want.len() + 64);
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
        assert_eq!((to.first_slice(), from.len()), (&b"abcdef"[..], 0));
        let mut more = output(b"ghij");
        to.take_from(&mut more, 3);
        assert_eq!(
            (to.first_slice(), more.first_slice()),
            (&b"abcdefghi"[..], &b"j"[..])
        );
    }

    #[test]
    fn more_parts_than_one_write_takes_leave_with_the_next() {
        let mut output = Output::default();
        let mut want = Vec::new();
        for round in 0..200_u8 {
            output.append_shared(&large(round));
            want.extend_from_slice(&large(round));
        }
        let mut got = Vec::new();
        while !output.is_empty() {
            let some = content(&output);
            output.advance(some.len());
            got.extend_from_slice(&some);
        }
        assert!(got == want);
    }
}
