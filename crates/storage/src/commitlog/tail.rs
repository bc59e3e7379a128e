//! The newest part of the log in memory: reference-counted pieces of whole records, in order.

use std::collections::VecDeque;
use std::sync::RwLock;

use bytes::Bytes;

/// Some records that lie one behind the other.
#[derive(Debug)]
struct Piece {
    start: u64,
    bytes: Bytes,
}

#[derive(Debug, Default)]
struct Pieces {
    list: VecDeque<Piece>,
    bytes: usize,
}

/// The memory tail, at most `bytes_max` large; the newest piece stays whatever its size.
#[derive(Debug)]
pub(crate) struct Tail {
    bytes_max: usize,
    pieces: RwLock<Pieces>,
}

impl Tail {
    pub(crate) fn new(bytes_max: usize) -> Tail {
        Tail {
            bytes_max,
            pieces: RwLock::default(),
        }
    }

    /// Adds the newest records. Called with the append lock held, so pieces arrive in order.
    pub(crate) fn push(&self, start: u64, bytes: Bytes) {
        let mut dropped = Vec::new();
        let mut pieces = self
            .pieces
            .write()
            .expect("no code panics while it changes the tail");
        debug_assert!(
            pieces
                .list
                .back()
                .is_none_or(|last| last.start + last.bytes.len() as u64 <= start)
        );
        pieces.bytes += bytes.len();
        pieces.list.push_back(Piece { start, bytes });
        while pieces.bytes > self.bytes_max && pieces.list.len() > 1 {
            if let Some(piece) = pieces.list.pop_front() {
                pieces.bytes -= piece.bytes.len();
                // Freed behind the lock: the last slice of a chunk gives memory back to the system.
                dropped.push(piece);
            }
        }
        drop(pieces);
        drop(dropped);
    }

    /// First position in memory, or `u64::MAX` when nothing is.
    pub(crate) fn start(&self) -> u64 {
        self.read()
            .list
            .front()
            .map_or(u64::MAX, |piece| piece.start)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.read().bytes
    }

    /// The records that are in memory of those asked for, by position and size: calls `found` with the index of each.
    pub(crate) fn get(
        &self,
        wanted: impl Iterator<Item = (u64, u32)>,
        mut found: impl FnMut(usize, Bytes),
    ) {
        let pieces = self.read();
        let Some(first) = pieces.list.front().map(|piece| piece.start) else {
            return;
        };
        let mut piece_at = usize::MAX;
        for (index, (position, size)) in wanted.enumerate() {
            if position < first {
                continue;
            }
            let fits = |piece: &Piece| {
                position >= piece.start && position - piece.start < piece.bytes.len() as u64
            };
            if !pieces.list.get(piece_at).is_some_and(fits) {
                piece_at = pieces
                    .list
                    .partition_point(|piece| piece.start <= position)
                    .wrapping_sub(1);
            }
            let Some(piece) = pieces.list.get(piece_at) else {
                continue;
            };
            let from = (position - piece.start) as usize;
            if let Some(to) = from.checked_add(size as usize)
                && to <= piece.bytes.len()
            {
                found(index, piece.bytes.slice(from..to));
            }
        }
    }

    /// What lies in memory from `position` on, as far as one piece goes.
    pub(crate) fn from(&self, position: u64) -> Option<Bytes> {
        let pieces = self.read();
        let at = pieces
            .list
            .partition_point(|piece| piece.start <= position)
            .checked_sub(1)?;
        let piece = pieces.list.get(at)?;
        let from = (position - piece.start) as usize;
        (from < piece.bytes.len()).then(|| piece.bytes.slice(from..))
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Pieces> {
        self.pieces
            .read()
            .expect("no code panics while it changes the tail")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(tail: &Tail, position: u64, size: u32) -> Option<Bytes> {
        let mut result = None;
        tail.get(std::iter::once((position, size)), |_, bytes| {
            result = Some(bytes)
        });
        result
    }

    #[test]
    fn oldest_pieces_leave_when_the_bound_is_passed() {
        let tail = Tail::new(10);
        tail.push(100, Bytes::from_static(b"aaaaaa"));
        tail.push(106, Bytes::from_static(b"bbbb"));
        assert_eq!(tail.start(), 100);
        assert_eq!(get(&tail, 100, 6).as_deref(), Some(&b"aaaaaa"[..]));
        tail.push(110, Bytes::from_static(b"cc"));
        assert_eq!(tail.start(), 106);
        assert_eq!(get(&tail, 100, 6), None);
        assert_eq!(get(&tail, 107, 3).as_deref(), Some(&b"bbb"[..]));
        assert_eq!(get(&tail, 107, 4), None);
        assert_eq!(get(&tail, 112, 1), None);
        assert_eq!(tail.bytes(), 6);
    }

    #[test]
    fn a_piece_larger_than_the_bound_stays_until_the_next() {
        let tail = Tail::new(2);
        tail.push(0, Bytes::from_static(b"long"));
        assert_eq!(tail.from(1).as_deref(), Some(&b"ong"[..]));
        tail.push(4, Bytes::from_static(b"x"));
        assert_eq!(tail.start(), 4);
    }
}
