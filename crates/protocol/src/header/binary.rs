//! The header in RocketMQ's binary form.
//!
//! ```text
//! code 2 | language 1 | version 2 | opaque 4 | flag 4 | remark length 4, remark | fields length 4, fields
//! field: name length 2, name | value length 4, value
//! ```
//! An empty text stands for an absent one. Codes beyond 16 bits do not survive: RocketMQ cuts them, and so must we.

use bytes::{BufMut, BytesMut};

use super::fields::Fields;
use super::{Header, HeaderError, HeaderParts, WriteFields};
use crate::language::Language;

/// The part of fixed length, up to the remark.
const FIXED_BYTES: usize = 13;
/// The length before a value.
pub(super) const LENGTH_BYTES: usize = 4;

pub(super) fn decode(bytes: &[u8]) -> Result<Header<'_>, HeaderError> {
    let (header, entries) = decode_fixed(bytes)?;
    Ok(Header {
        fields: Fields::from_binary(entries)?,
        ..header
    })
}

/// The header without its fields, and the entries that hold them.
pub(super) fn decode_fixed(bytes: &[u8]) -> Result<(Header<'_>, &[u8]), HeaderError> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else {
        return Err(HeaderError::Truncated("the fixed part"));
    };
    let [
        code0,
        code1,
        language,
        version0,
        version1,
        o0,
        o1,
        o2,
        o3,
        f0,
        f1,
        f2,
        f3,
    ] = *fixed;
    let (remark, rest) = take_long(rest).ok_or(HeaderError::Truncated("the remark"))?;
    let remark = match remark {
        [] => None,
        text => Some(
            std::str::from_utf8(text)
                .map_err(|_| HeaderError::NotUtf8)?
                .into(),
        ),
    };
    // Java writes a zero length when there are no fields; a header that ends here instead is just as clear.
    let fields = match rest {
        [] => &[],
        rest => {
            take_long(rest)
                .ok_or(HeaderError::Truncated("the fields"))?
                .0
        }
    };
    let header = Header {
        code: i32::from(i16::from_be_bytes([code0, code1])),
        language: Language(language),
        version: i32::from(i16::from_be_bytes([version0, version1])),
        opaque: i32::from_be_bytes([o0, o1, o2, o3]),
        flag: i32::from_be_bytes([f0, f1, f2, f3]),
        remark,
        fields: Fields::EMPTY,
    };
    Ok((header, fields))
}

/// A part with a length of two bytes, and what follows. `None` when the length is negative or too large.
#[inline]
pub(super) fn take_short(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::try_from(i16::from_be_bytes(*length)).ok()?)
}

/// A part with a length of four bytes, and what follows. `None` when the length is negative or too large.
#[inline]
pub(super) fn take_long(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(i32::from_be_bytes(*length)).ok()?)
}

pub(super) fn encode(header: &HeaderParts<'_>, fields: &impl WriteFields, out: &mut BytesMut) {
    out.put_i16(header.code as i16);
    out.put_u8(header.language.0);
    out.put_i16(header.version as i16);
    out.put_i32(header.opaque);
    out.put_i32(header.flag);
    let remark = header.remark.unwrap_or_default();
    out.put_i32(remark.len() as i32);
    out.put_slice(remark.as_bytes());
    let length_at = out.len();
    out.put_i32(0);
    fields.write_fields(&mut |name, value| {
        // A longer name cannot be expressed; none of RocketMQ's has more than some dozen characters.
        debug_assert!(i16::try_from(name.len()).is_ok());
        out.put_i16(name.len() as i16);
        out.put_slice(name.as_bytes());
        out.put_i32(value.len() as i32);
        out.put_slice(value.as_bytes());
    });
    let length = (out.len() - length_at - 4) as i32;
    out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
}
