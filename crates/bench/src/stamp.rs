//! What every message carries at the front of its body: its run, its sender, its number, and when it was due.

/// Bytes that a body needs for its stamp. Shorter bodies carry none; such messages can be counted, not told apart.
///
/// ```text
/// run 4 | producer 4 | sequence 8 | due 8
/// ```
pub(crate) const STAMP_BYTES: usize = 24;

/// All big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Messages of earlier runs in the same topic are told apart by it.
    pub(crate) run: u32,
    /// The connection that sent it.
    pub(crate) producer: u32,
    /// 0, 1, 2 … for each producer.
    pub(crate) sequence: u64,
    /// When it was due (open loop) or sent (closed loop), in nanoseconds since the run's epoch.
    pub(crate) due_ns: u64,
}

impl Stamp {
    /// Writes the stamp into the front of `place`.
    pub(crate) fn write(self, place: &mut [u8]) {
        place[..4].copy_from_slice(&self.run.to_be_bytes());
        place[4..8].copy_from_slice(&self.producer.to_be_bytes());
        place[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        place[16..24].copy_from_slice(&self.due_ns.to_be_bytes());
    }

    /// Reads the stamp at the front of a body.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let u32_at = |at: usize| Some(u32::from_be_bytes(*body.get(at..)?.first_chunk()?));
        let u64_at = |at: usize| Some(u64::from_be_bytes(*body.get(at..)?.first_chunk()?));
        Some(Self {
            run: u32_at(0)?,
            producer: u32_at(4)?,
            sequence: u64_at(8)?,
            due_ns: u64_at(16)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_comes_back_from_a_body() {
        let stamp = Stamp {
            run: 7,
            producer: 3,
            sequence: 1 << 40,
            due_ns: 99,
        };
        let mut body = [0xff; STAMP_BYTES + 1];
        stamp.write(&mut body);
        assert_eq!(Stamp::read(&body), Some(stamp));
        assert_eq!(Stamp::read(&body[..STAMP_BYTES - 1]), None);
    }
}
