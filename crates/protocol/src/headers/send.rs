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

/// Reads the header in one pass; `letter` says which field a name is. Each form of the header has its own instance.
fn read<'a>(
    fields: Fields<'a>,
    long: bool,
    letter: impl Fn(&[u8]) -> Option<u8>,
) -> Result<SendMessageRequest<'a>, FieldError> {
    let name = |position: usize| {
        if long {
            NAMES[position].0
        } else {
            NAMES[position].1
        }
    };
    let mut header = SendMessageRequest::default();
    // The texts wait as they are: assigning a `Cow` would look each time whether there is something to free.
    let (mut group, mut topic, mut default_topic) =
        (FieldValue::EMPTY, FieldValue::EMPTY, FieldValue::EMPTY);
    let (mut properties, mut broker_name) = (None, None);
    // One bit a field that must be there: the first eight.
    let mut missing = 0xffu32;
    let mut entries = fields.entries();
    while let Some((field_name, value)) = entries.next_inlined() {
        let Some(letter) = letter(field_name.raw()) else {
            continue;
        };
        match letter {
            b'a' => group = value,
            b'b' => topic = value,
            b'c' => default_topic = value,
            b'd' => header.default_topic_queue_nums = field::read(name(3), value)?,
            b'e' => header.queue_id = field::read(name(4), value)?,
            b'f' => header.sys_flag = field::read(name(5), value)?,
            b'g' => header.born_timestamp_ms = field::read(name(6), value)?,
            b'h' => header.flag = field::read(name(7), value)?,
            b'i' => properties = Some(value),
            b'j' => header.reconsume_times = Some(field::read(name(9), value)?),
            b'k' => header.unit_mode = Some(field::read(name(10), value)?),
            b'l' => header.max_reconsume_times = Some(field::read(name(11), value)?),
            b'm' => header.batch = Some(field::read(name(12), value)?),
            b'n' => broker_name = Some(value),
            _ => continue,
        }
        missing &= !(1 << (letter - b'a'));
    }
    if missing != 0 {
        return Err(FieldError::Missing(name(missing.trailing_zeros() as usize)));
    }
    header.producer_group = group.text();
    header.topic = topic.text();
    header.default_topic = default_topic.text();
    header.properties = properties.map(FieldValue::text);
    header.broker_name = broker_name.map(FieldValue::text);
    Ok(header)
}

fn write(header: &SendMessageRequest<'_>, long: bool, write: &mut dyn FnMut(&str, &str)) {
    let name = |position: usize| {
        if long {
            NAMES[position].0
        } else {
            NAMES[position].1
        }
    };
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
        read(fields, true, letter_of)
    }
}

impl WriteFields for SendMessageRequest<'_> {
    fn write_fields(&self, out: &mut dyn FnMut(&str, &str)) {
        write(self, true, out);
    }
}

impl<'a> ReadFields<'a> for SendMessageRequestV2<'a> {
    fn read_fields(fields: Fields<'a>) -> Result<Self, FieldError> {
        let letter = |name: &[u8]| match name {
            [letter] => Some(*letter),
            _ => None,
        };
        read(fields, false, letter).map(Self)
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
