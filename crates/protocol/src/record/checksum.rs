//! A checksum of the whole record, kept as its last property. Java 5.3: `enabledAppendPropCRC`, `MessageDecoder.createCrc32`.
//!
//! ```text
//! "__CRC32#" 0x01 | ten decimal digits, the lowest first | 0x02
//! ```

use bytes::{BufMut, BytesMut};

use super::body_crc;
use crate::properties::CRC32;

const NAME_END: u8 = 1;
const VALUE_END: char = '\u{2}';
const DIGITS: usize = 10;

/// Bytes of the property.
pub const PROPERTY_BYTES: usize = CRC32.len() + 1 + DIGITS + 1;

/// Length of the property string with the checksum, which a separator keeps from what is before it.
pub(super) fn properties_len(properties: &str) -> usize {
    properties.len() + usize::from(lacks_separator(properties)) + PROPERTY_BYTES
}

fn lacks_separator(properties: &str) -> bool {
    !properties.is_empty() && !properties.ends_with(VALUE_END)
}

/// Ends the record, whose `size` bytes lack nothing but this, with its checksum.
pub(super) fn append(properties: &str, size: usize, out: &mut BytesMut) {
    if lacks_separator(properties) {
        out.put_u8(VALUE_END as u8);
    }
    let covered = size - PROPERTY_BYTES;
    let mut rest = body_crc(&out[out.len() - covered..]);
    out.put_slice(CRC32.as_bytes());
    out.put_u8(NAME_END);
    for _ in 0..DIGITS {
        out.put_u8(b'0' + (rest % 10) as u8);
        rest /= 10;
    }
    out.put_u8(VALUE_END as u8);
}

/// The properties without a checksum at their end: that of the record which they were copied from fits no other.
pub fn without_checksum(mut properties: &str) -> &str {
    while let Some((rest, _)) = split(properties) {
        properties = rest;
    }
    properties
}

/// The properties before the checksum, and its digits.
fn split(properties: &str) -> Option<(&str, &str)> {
    let at = properties.len().checked_sub(PROPERTY_BYTES)?;
    // Asked of every message that is appended, and nearly never so: a few bytes decide.
    if !properties.as_bytes()[at..].starts_with(CRC32.as_bytes()) {
        return None;
    }
    let (rest, property) = (properties.get(..at)?, properties.get(at..)?);
    let value = property
        .strip_prefix(CRC32)?
        .strip_prefix(NAME_END as char)?;
    Some((rest, value.strip_suffix(VALUE_END)?))
}

/// Whether the bytes of a record, with these properties, fit the checksum; true without one.
pub fn is_intact(bytes: &[u8], properties: &str) -> bool {
    let Some((_, digits)) = split(properties) else {
        return true;
    };
    let stored = digits.bytes().rev().try_fold(0u64, |sum, digit| {
        digit
            .is_ascii_digit()
            .then(|| sum * 10 + u64::from(digit - b'0'))
    });
    bytes
        .len()
        .checked_sub(PROPERTY_BYTES)
        .is_some_and(|covered| stored == Some(u64::from(body_crc(&bytes[..covered]))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_checksum_is_taken_off() {
        let own = "KEYS\u{1}k\u{2}";
        let copied = format!("{own}__CRC32#\u{1}0123456789\u{2}");
        assert_eq!(without_checksum(&copied), own);
        assert_eq!(without_checksum(own), own);
        assert_eq!(without_checksum(""), "");
    }

    #[test]
    fn a_separator_is_added_where_there_is_none() {
        assert_eq!(properties_len("a\u{1}b"), 4 + PROPERTY_BYTES);
        assert_eq!(properties_len("a\u{1}b\u{2}"), 4 + PROPERTY_BYTES);
        assert_eq!(properties_len(""), PROPERTY_BYTES);
    }
}
