//! The body of a batch: items one after another.
//!
//! ```text
//! item: size 4 | magic 4 (0) | body crc 4 (0) | flag 4 | body length 4, body | properties length 2, properties
//! ```
//!
//! A batch for a topic with `queue.type=BatchCQ` is stored as it came, as one record: an *inner batch*. It takes as many queue offsets as it has
//! messages, and its consumer takes it apart.

use bytes::{BufMut, BytesMut};
use thiserror::Error;

use crate::{properties, record, sysflag};

/// Messages of an inner batch at most. Java keeps their number in 16 bits.
pub const INNER_MESSAGES_MAX: u64 = i16::MAX as u64;

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

/// How many messages a record stands for, which is how many queue offsets it takes: what `INNER_NUM` says of an inner batch, 1 of every other
/// record, and of one that says nonsense.
pub fn messages_of(sys_flag: i32, properties: &str) -> u64 {
    if sys_flag & sysflag::INNER_BATCH == 0 {
        return 1;
    }
    properties::get(properties, properties::INNER_NUM)
        .and_then(|number| number.parse().ok())
        .filter(|number| (1..=INNER_MESSAGES_MAX).contains(number))
        .unwrap_or(1)
}

/// The same of an encoded record.
pub fn messages_in(bytes: &[u8]) -> u64 {
    match record::peek_sys_flag(bytes) {
        Some(sys_flag) if sys_flag & sysflag::INNER_BATCH != 0 => {
            messages_of(sys_flag, record::peek_properties(bytes).unwrap_or_default())
        }
        _ => 1,
    }
}

/// Whether the head of a record says that it is an inner batch, and may hold the message with this queue offset behind its first.
pub fn may_hold(head: &[u8], queue_offset: u64) -> bool {
    let behind = record::peek_queue_offset(head).and_then(|first| queue_offset.checked_sub(first));
    record::peek_sys_flag(head).is_some_and(|sys_flag| sys_flag & sysflag::INNER_BATCH != 0)
        && behind.is_some_and(|behind| behind < INNER_MESSAGES_MAX)
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
    fn only_an_inner_batch_stands_for_several_messages() {
        let inner = sysflag::INNER_BATCH | sysflag::NEED_UNWRAP;
        assert_eq!(messages_of(inner, "INNER_NUM\u{1}3\u{2}"), 3);
        assert_eq!(messages_of(inner, "INNER_NUM\u{1}32767\u{2}"), 32767);
        assert_eq!(messages_of(0, "INNER_NUM\u{1}3\u{2}"), 1);
        for nonsense in ["", "0", "-1", "32768", "x"] {
            let properties = format!("INNER_NUM\u{1}{nonsense}\u{2}");
            assert_eq!(messages_of(inner, &properties), 1, "{nonsense}");
        }
    }

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
