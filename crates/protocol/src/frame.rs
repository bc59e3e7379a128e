//! Frames: how requests and responses lie one after another in a connection's bytes.
//!
//! ```text
//! total length 4 | header codec 1 | header length 3 | header | body
//! ```
//! The total length counts everything behind itself. All integers are big-endian.

use bytes::{BufMut, BytesMut};
use thiserror::Error;

/// The largest frame that RocketMQ's servers and clients accept, its length word included.
pub const FRAME_BYTES_MAX: usize = 16_777_216;

/// The length word.
const LENGTH_BYTES: usize = 4;
/// The word that holds the codec and the header's length.
const HEADER_WORD_BYTES: usize = 4;
/// Three bytes hold the header's length.
const HEADER_BYTES_MAX: usize = 0x00ff_ffff;

/// How the header of a frame is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Codec {
    /// JSON, in the dialect of each client.
    #[default]
    Json,
    /// RocketMQ's own binary form.
    Rocketmq,
}

impl Codec {
    /// The number in the header word.
    pub const fn number(self) -> u8 {
        match self {
            Codec::Json => 0,
            Codec::Rocketmq => 1,
        }
    }

    /// RocketMQ's name, as `serializeTypeCurrentRPC` holds it.
    pub const fn name(self) -> &'static str {
        match self {
            Codec::Json => "JSON",
            Codec::Rocketmq => "ROCKETMQ",
        }
    }
}

/// One frame, as it lies in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// How the header is written.
    pub codec: Codec,
    /// The header, not decoded.
    pub header: &'a [u8],
    /// The body, whatever the request's code makes of it.
    pub body: &'a [u8],
}

/// The bytes are no frame. The stream cannot be followed any further: close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The length word is negative or too small to hold a header word.
    #[error("a frame length of {0} is impossible")]
    ImpossibleLength(i32),
    /// The frame is longer than this server accepts.
    #[error("a frame of {bytes} bytes exceeds the limit of {limit}")]
    TooLong {
        /// Length of the frame with its length word.
        bytes: usize,
        /// The limit that was given.
        limit: usize,
    },
    /// The header would end behind its frame.
    #[error("a header of {header} bytes does not fit into {rest} bytes of frame")]
    HeaderTooLong {
        /// Length of the header.
        header: usize,
        /// Room in the frame.
        rest: usize,
    },
    /// The codec's number is neither 0 nor 1.
    #[error("header codec {0} is unknown")]
    UnknownCodec(u8),
}

/// The first complete frame of `buffer` and the bytes that it takes, or `None` when more bytes are needed.
///
/// Lengths are judged as soon as they are there, before anybody waits or allocates for them.
pub fn split(
    buffer: &[u8],
    frame_bytes_max: usize,
) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some((length, rest)) = buffer.split_first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let length = i32::from_be_bytes(*length);
    let Ok(content) = usize::try_from(length) else {
        return Err(FrameError::ImpossibleLength(length));
    };
    if content < HEADER_WORD_BYTES {
        return Err(FrameError::ImpossibleLength(length));
    }
    let bytes = content + LENGTH_BYTES;
    if bytes > frame_bytes_max {
        return Err(FrameError::TooLong {
            bytes,
            limit: frame_bytes_max,
        });
    }
    let Some((word, rest)) = rest.split_first_chunk::<HEADER_WORD_BYTES>() else {
        return Ok(None);
    };
    let word = u32::from_be_bytes(*word);
    let codec = match word >> 24 {
        0 => Codec::Json,
        1 => Codec::Rocketmq,
        other => return Err(FrameError::UnknownCodec(other as u8)),
    };
    let header_bytes = word as usize & HEADER_BYTES_MAX;
    let content = content - HEADER_WORD_BYTES;
    if header_bytes > content {
        return Err(FrameError::HeaderTooLong {
            header: header_bytes,
            rest: content,
        });
    }
    match rest.get(..content) {
        Some(content) => {
            let (header, body) = content.split_at(header_bytes);
            Ok(Some((
                Frame {
                    codec,
                    header,
                    body,
                },
                bytes,
            )))
        }
        None => Ok(None),
    }
}

/// A frame being written: the header goes behind `begin`, then the body, then `finish` fills in the lengths.
pub(crate) struct FrameWriter {
    start: usize,
}

impl FrameWriter {
    pub(crate) fn begin(out: &mut BytesMut) -> Self {
        let start = out.len();
        out.put_u64(0);
        Self { start }
    }

    /// Call when the header is written; `body_bytes` will follow it. A frame beyond `FRAME_BYTES_MAX` is a bug of the caller.
    pub(crate) fn finish_header(self, out: &mut BytesMut, codec: Codec, body_bytes: usize) {
        let header_at = self.start + LENGTH_BYTES + HEADER_WORD_BYTES;
        let header_bytes = out.len() - header_at;
        debug_assert!(
            header_bytes <= HEADER_BYTES_MAX,
            "a header of {header_bytes} bytes"
        );
        let length = (HEADER_WORD_BYTES + header_bytes + body_bytes) as u32;
        let word = u32::from(codec.number()) << 24 | (header_bytes & HEADER_BYTES_MAX) as u32;
        let both = u64::from(length) << 32 | u64::from(word);
        out[self.start..header_at].copy_from_slice(&both.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(codec: u8, header: &[u8], body: &[u8]) -> Vec<u8> {
        let mut bytes = ((4 + header.len() + body.len()) as u32)
            .to_be_bytes()
            .to_vec();
        bytes.extend_from_slice(&(u32::from(codec) << 24 | header.len() as u32).to_be_bytes());
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn a_frame_is_found_once_it_is_complete() {
        let bytes = frame(1, b"head", b"body");
        for cut in 0..bytes.len() {
            assert_eq!(
                split(&bytes[..cut], FRAME_BYTES_MAX),
                Ok(None),
                "cut at {cut}"
            );
        }
        let (found, used) = split(&bytes, FRAME_BYTES_MAX).unwrap().unwrap();
        assert_eq!(
            found,
            Frame {
                codec: Codec::Rocketmq,
                header: b"head",
                body: b"body"
            }
        );
        assert_eq!(used, bytes.len());
    }

    #[test]
    fn impossible_lengths_are_refused_at_once() {
        let check =
            |bytes: &[u8], want: FrameError| assert_eq!(split(bytes, FRAME_BYTES_MAX), Err(want));
        check(
            &i32::MAX.to_be_bytes(),
            FrameError::TooLong {
                bytes: i32::MAX as usize + 4,
                limit: FRAME_BYTES_MAX,
            },
        );
        check(&(-1i32).to_be_bytes(), FrameError::ImpossibleLength(-1));
        check(&3i32.to_be_bytes(), FrameError::ImpossibleLength(3));
        check(
            &[0, 0, 0, 9, 0, 0, 0, 6],
            FrameError::HeaderTooLong { header: 6, rest: 5 },
        );
        check(&[0, 0, 0, 9, 2, 0, 0, 1], FrameError::UnknownCodec(2));
    }

    #[test]
    fn the_longest_frame_counts_its_length_word() {
        let content = (FRAME_BYTES_MAX - LENGTH_BYTES) as u32;
        assert_eq!(split(&content.to_be_bytes(), FRAME_BYTES_MAX), Ok(None));
        assert!(split(&(content + 1).to_be_bytes(), FRAME_BYTES_MAX).is_err());
    }
}
