//! The body of a batch: items one after another.
//!
//! ```text
//! item: size 4 | magic 4 (0) | body crc 4 (0) | flag 4 | body length 4, body | properties length 2, properties
//! ```

use bytes::{BufMut, BytesMut};
use thiserror::Error;

/// An item without body and properties.
const EMPTY_ITEM_BYTES: usize = 4 + 4 + 4 + 4 + 4 + 2;
/// Position of the flag.
const FLAG: usize = 12;

/// One message of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// The client's own flag.
    pub flag: i32,
    /// The body.
    pub body: &'a [u8],
    /// The property string.
    pub properties: &'a str,
}

/// The body is no batch; the whole request is to be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BatchError {
    /// An item reaches behind the end.
    #[error("the batch ends inside an item")]
    Truncated,
    /// Properties that are not UTF-8.
    #[error("the properties of an item are not UTF-8")]
    NotUtf8,
}

/// The items of a batch. Ends after the first error.
pub fn items(body: &[u8]) -> Items<'_> {
    Items { rest: body }
}

/// See `items`.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Item<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let item = take_item(self.rest);
        self.rest = item.as_ref().map_or(&[], |(_, rest)| rest);
        Some(item.map(|(item, _)| item))
    }
}

/// Size, magic and checksum of an item are not looked at, as in Java: some clients leave them 0.
fn take_item(bytes: &[u8]) -> Result<(Item<'_>, &[u8]), BatchError> {
    let head = bytes.get(FLAG..).ok_or(BatchError::Truncated)?;
    let (flag, rest) = head.split_first_chunk::<4>().ok_or(BatchError::Truncated)?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(BatchError::Truncated)?;
    let (body, rest) = rest
        .split_at_checked(u32::from_be_bytes(*length) as usize)
        .ok_or(BatchError::Truncated)?;
    let (length, rest) = rest.split_first_chunk::<2>().ok_or(BatchError::Truncated)?;
    let (properties, rest) = rest
        .split_at_checked(usize::from(u16::from_be_bytes(*length)))
        .ok_or(BatchError::Truncated)?;
    let properties = std::str::from_utf8(properties).map_err(|_| BatchError::NotUtf8)?;
    Ok((
        Item {
            flag: i32::from_be_bytes(*flag),
            body,
            properties,
        },
        rest,
    ))
}

/// Appends one item. Properties are at most 32,767 bytes long.
pub fn push(out: &mut BytesMut, item: &Item<'_>) {
    debug_assert!(item.properties.len() <= i16::MAX as usize);
    let size = EMPTY_ITEM_BYTES + item.body.len() + item.properties.len();
    out.reserve(size);
    out.put_u32(size as u32);
    out.put_u64(0);
    out.put_i32(item.flag);
    out.put_u32(item.body.len() as u32);
    out.put_slice(item.body);
    out.put_u16(item.properties.len() as u16);
    out.put_slice(item.properties.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back_as_they_went_in() {
        let items_in = [
            Item {
                flag: 1,
                body: b"one",
                properties: "TAGS\u{1}a\u{2}",
            },
            Item {
                flag: -1,
                body: b"",
                properties: "",
            },
        ];
        let mut body = BytesMut::new();
        items_in.iter().for_each(|item| push(&mut body, item));
        assert_eq!(
            items(&body).collect::<Result<Vec<_>, _>>().unwrap(),
            items_in
        );
        let first_bytes = EMPTY_ITEM_BYTES + 3 + 7;
        for cut in (1..body.len()).filter(|cut| *cut != first_bytes) {
            assert_eq!(
                items(&body[..cut]).last(),
                Some(Err(BatchError::Truncated)),
                "cut at {cut}"
            );
        }
    }
}
