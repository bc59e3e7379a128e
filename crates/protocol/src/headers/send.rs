//! Sending messages.

use std::borrow::Cow;

use super::field::{self, Field};
use super::fields;
use crate::header::{FieldError, FieldValue, Fields, ReadFields, WriteFields};

/// Header of `SEND_MESSAGE` in its long form, which is still the main path of the C++ and Go clients. Borrows its texts.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct SendMessageRequest<'a> {
    /// `producerGroup`, `a`
    pub producer_group: Cow<'a, str>,
    /// `topic`, `b`
    pub topic: Cow<'a, str>,
    /// `defaultTopic`, `c`
    pub default_topic: Cow<'a, str>,
    /// `defaultTopicQueueNums`, `d`
    pub default_topic_queue_nums: i32,
    /// `queueId`, `e`
    pub queue_id: i32,
    /// `sysFlag`, `f`
    pub sys_flag: i32,
    /// `bornTimestamp`, `g`
    pub born_timestamp_ms: i64,
    /// `flag`, `h`
    pub flag: i32,
    /// `properties`, `i`
    pub properties: Option<Cow<'a, str>>,
    /// `reconsumeTimes`, `j`
    pub reconsume_times: Option<i32>,
    /// `unitMode`, `k`
    pub unit_mode: Option<bool>,
    /// `maxReconsumeTimes`, `l`
    pub max_reconsume_times: Option<i32>,
    /// `batch`, `m`
    pub batch: Option<bool>,
    /// `bname`, `n`
    pub broker_name: Option<Cow<'a, str>>,
}

/// The same header with names of one letter: `SEND_MESSAGE_V2`, `SEND_BATCH_MESSAGE`, `SEND_REPLY_MESSAGE_V2`.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct SendMessageRequestV2<'a>(
    /// The fields, under their long names.
    pub SendMessageRequest<'a>,
);

/// Field names by position in `SendMessageRequest`: long form, short form.
const NAMES: [(&str, &str); 14] = [
    ("producerGroup", "a"),
    ("topic", "b"),
    ("defaultTopic", "c"),
    ("defaultTopicQueueNums", "d"),
    ("queueId", "e"),
    ("sysFlag", "f"),
    ("bornTimestamp", "g"),
    ("flag", "h"),
    ("properties", "i"),
    ("reconsumeTimes", "j"),
    ("unitMode", "k"),
    ("maxReconsumeTimes", "l"),
    ("batch", "m"),
    ("bname", "n"),
];

/// The letter of a long name.
fn letter_of(name: &[u8]) -> Option<u8> {
    let position = NAMES.iter().position(|(long, _)| long.as_bytes() == name)?;
    Some(b'a' + position as u8)
}

/// Which form of the header it is: the names of its fields are long or of one letter.
fn name(long: bool, position: usize) -> &'static str {
    let (long_name, letter) = NAMES[position];
    if long { long_name } else { letter }
}

/// Sets a field that is no text; the others are left to the caller. `None` for a name that the header does not have.
#[inline(always)]
fn set(
    header: &mut SendMessageRequest<'_>,
    long: bool,
    letter: u8,
    value: FieldValue<'_>,
) -> Result<Option<()>, FieldError> {
    let name = |position| name(long, position);
    match letter {
        b'd' => header.default_topic_queue_nums = field::read(name(3), value)?,
        b'e' => header.queue_id = field::read(name(4), value)?,
        b'f' => header.sys_flag = field::read(name(5), value)?,
        b'g' => header.born_timestamp_ms = field::read(name(6), value)?,
        b'h' => header.flag = field::read(name(7), value)?,
        b'j' => header.reconsume_times = Some(field::read(name(9), value)?),
        b'k' => header.unit_mode = Some(field::read(name(10), value)?),
        b'l' => header.max_reconsume_times = Some(field::read(name(11), value)?),
        b'm' => header.batch = Some(field::read(name(12), value)?),
        _ => return Ok(None),
    }
    Ok(Some(()))
}

/// Reads the header in one pass; `letter` says which field a name is. Each form of the header has its own instance. True with it when no
/// field is there twice.
fn read<'a>(
    fields: Fields<'a>,
    long: bool,
    letter: impl Fn(&[u8]) -> Option<u8>,
) -> Result<(SendMessageRequest<'a>, bool), FieldError> {
    let mut header = SendMessageRequest::default();
    // The texts wait as they are: assigning a `Cow` would look each time whether there is something to free.
    let (mut group, mut topic, mut default_topic) =
        (FieldValue::EMPTY, FieldValue::EMPTY, FieldValue::EMPTY);
    let (mut properties, mut broker_name) = (None, None);
    // One bit a field; the first eight must be there.
    const REQUIRED: u32 = 0xff;
    let mut seen = 0u32;
    let mut once = true;
    let mut entries = fields.entries();
    while let Some((field_name, value)) = entries.next_inlined() {
        let Some(letter) = letter(field_name.raw()) else {
            continue;
        };
        match letter {
            b'a' => group = value,
            b'b' => topic = value,
            b'c' => default_topic = value,
            b'i' => properties = Some(value),
            b'n' => broker_name = Some(value),
            _ => {
                if set(&mut header, long, letter, value)?.is_none() {
                    continue;
                }
            }
        }
        let bit = 1 << (letter - b'a');
        once &= seen & bit == 0;
        seen |= bit;
    }
    let missing = REQUIRED & !seen;
    if missing != 0 {
        let first = missing.trailing_zeros() as usize;
        return Err(FieldError::Missing(name(long, first)));
    }
    header.producer_group = group.text();
    header.topic = topic.text();
    header.default_topic = default_topic.text();
    header.properties = properties.map(FieldValue::text);
    header.broker_name = broker_name.map(FieldValue::text);
    Ok((header, once))
}

/// Reads the headers of the sends in one buffer, in their order. Of one that repeats the send before, only what is different is read.
#[derive(Default)]
pub struct SendReader<'a> {
    header: SendMessageRequest<'a>,
    /// The number of the header that `header` was read from, and its form; none when the next one cannot be told by its differences.
    read: Option<(u32, bool)>,
}

impl<'a> SendReader<'a> {
    /// The header of a send, `long` as [`SendMessageRequest`], otherwise as [`SendMessageRequestV2`]: the same as [`Fields::read`] gives.
    ///
    /// # Errors
    /// When a field is missing or is not what its type demands.
    pub fn read(
        &mut self,
        fields: &Fields<'a>,
        long: bool,
    ) -> Result<&SendMessageRequest<'a>, FieldError> {
        let change = fields.change();
        let before = self.read.take();
        let follows = before == Some((change.serial.wrapping_sub(1), long));
        if follows && let Some(changed) = change.changed {
            let only_known = self.read_changed(fields, changed, long)?;
            if only_known {
                self.read = Some((change.serial, long));
                return Ok(&self.header);
            }
        }
        let (header, once) = if long {
            read(*fields, true, letter_of)?
        } else {
            read(*fields, false, single_letter)?
        };
        self.header = header;
        self.read = (once && change.serial != 0).then_some((change.serial, long));
        Ok(&self.header)
    }

    /// Reads what changed. False when a text other than the properties did, which is rare.
    fn read_changed(
        &mut self,
        fields: &Fields<'a>,
        mut changed: u16,
        long: bool,
    ) -> Result<bool, FieldError> {
        while changed != 0 {
            let at = changed.trailing_zeros() as usize;
            changed &= changed - 1;
            let Some((field_name, value)) = fields.entry(at) else {
                return Ok(false);
            };
            let letter = if long {
                letter_of(field_name.raw())
            } else {
                single_letter(field_name.raw())
            };
            match letter {
                Some(b'i') => {
                    let old = self.header.properties.take();
                    self.header.properties = Some(value.text_into(old));
                }
                Some(b'a' | b'b' | b'c' | b'n') => return Ok(false),
                Some(letter) => {
                    set(&mut self.header, long, letter, value)?;
                }
                None => {}
            }
        }
        Ok(true)
    }
}

fn single_letter(name: &[u8]) -> Option<u8> {
    match name {
        [letter] => Some(*letter),
        _ => None,
    }
}

fn write(header: &SendMessageRequest<'_>, long: bool, write: &mut dyn FnMut(&str, &str)) {
    let name = |position| name(long, position);
    write(name(0), &header.producer_group);
    write(name(1), &header.topic);
    write(name(2), &header.default_topic);
    header.default_topic_queue_nums.write(name(3), write);
    header.queue_id.write(name(4), write);
    header.sys_flag.write(name(5), write);
    header.born_timestamp_ms.write(name(6), write);
    header.flag.write(name(7), write);
    header.properties.write(name(8), write);
    header.reconsume_times.write(name(9), write);
    header.unit_mode.write(name(10), write);
    header.max_reconsume_times.write(name(11), write);
    header.batch.write(name(12), write);
    header.broker_name.write(name(13), write);
}

impl<'a> ReadFields<'a> for SendMessageRequest<'a> {
    fn read_fields(fields: Fields<'a>) -> Result<Self, FieldError> {
        read(fields, true, letter_of).map(|(header, _)| header)
    }
}

impl WriteFields for SendMessageRequest<'_> {
    fn write_fields(&self, out: &mut dyn FnMut(&str, &str)) {
        write(self, true, out);
    }
}

impl<'a> ReadFields<'a> for SendMessageRequestV2<'a> {
    fn read_fields(fields: Fields<'a>) -> Result<Self, FieldError> {
        read(fields, false, single_letter).map(|(header, _)| Self(header))
    }
}

impl WriteFields for SendMessageRequestV2<'_> {
    fn write_fields(&self, out: &mut dyn FnMut(&str, &str)) {
        write(&self.0, false, out);
    }
}

impl SendMessageRequest<'_> {
    /// A copy that owns its texts.
    pub fn into_owned(self) -> SendMessageRequest<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        SendMessageRequest {
            producer_group: own(self.producer_group),
            topic: own(self.topic),
            default_topic: own(self.default_topic),
            properties: self.properties.map(own),
            broker_name: self.broker_name.map(own),
            default_topic_queue_nums: self.default_topic_queue_nums,
            queue_id: self.queue_id,
            sys_flag: self.sys_flag,
            born_timestamp_ms: self.born_timestamp_ms,
            flag: self.flag,
            reconsume_times: self.reconsume_times,
            unit_mode: self.unit_mode,
            max_reconsume_times: self.max_reconsume_times,
            batch: self.batch,
        }
    }
}

fields! {
    /// Header of `CONSUMER_SEND_MSG_BACK`: consumer retry by physical offset.
    pub struct ConsumerSendMsgBackRequest {
        offset: i64 = "offset",
        group: String = "group",
        delay_level: i32 = "delayLevel",
        origin_msg_id: Option<String> = "originMsgId",
        origin_topic: Option<String> = "originTopic",
        unit_mode: bool = "unitMode" or false,
        max_reconsume_times: Option<i32> = "maxReconsumeTimes",
    }
}

fields! {
    /// Header of `PUSH_REPLY_MESSAGE_TO_CLIENT`: push reply to requester.
    pub struct ReplyMessageRequest {
        producer_group: String = "producerGroup",
        topic: String = "topic",
        default_topic: String = "defaultTopic",
        default_topic_queue_nums: i32 = "defaultTopicQueueNums",
        queue_id: i32 = "queueId",
        sys_flag: i32 = "sysFlag",
        born_timestamp_ms: i64 = "bornTimestamp",
        flag: i32 = "flag",
        properties: Option<String> = "properties",
        reconsume_times: Option<i32> = "reconsumeTimes",
        unit_mode: bool = "unitMode" or false,
        born_host: String = "bornHost",
        store_host: String = "storeHost",
        store_timestamp_ms: i64 = "storeTimestamp",
    }
}

fields! {
    /// Header of the answer to `SEND_MESSAGE`, `SEND_MESSAGE_V2`, `SEND_BATCH_MESSAGE`, `SEND_REPLY_MESSAGE`, `SEND_REPLY_MESSAGE_V2`.
    pub struct SendMessageResponse {
        msg_id: String = "msgId",
        queue_id: i32 = "queueId",
        queue_offset: i64 = "queueOffset",
        transaction_id: Option<String> = "transactionId",
        batch_uniq_id: Option<String> = "batchUniqId",
        recall_handle: Option<String> = "recallHandle",
    }
}

fields! {
    /// Header of `RECALL_MESSAGE`: cancel timer message.
    pub struct RecallMessageRequest {
        producer_group: Option<String> = "producerGroup",
        topic: String = "topic",
        recall_handle: String = "recallHandle",
    }
}

fields! {
    /// Header of the answer to `RECALL_MESSAGE`.
    pub struct RecallMessageResponse {
        msg_id: String = "msgId",
    }
}
