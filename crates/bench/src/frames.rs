//! Requests built ahead: only opaque, time, number and offset change from one to the next, each patched in place.

use bytes::BytesMut;
use protocol::batch;
use protocol::code::RequestCode;
use protocol::command::Command;
use protocol::frame;
use protocol::header::WriteFields;
use protocol::headers::{PullMessageRequest, SendMessageRequest, SendMessageRequestV2};

use crate::Codec;
use crate::load::Load;
use crate::stamp::{STAMP_BYTES, Stamp};

/// Every opaque has ten digits, so that it can be patched into JSON without moving anything.
pub(crate) const OPAQUE_BASE: i32 = 1_000_000_000;
/// Thirteen digits, as every time until the year 2286 has in milliseconds.
const TIME_TEMPLATE: i64 = 1_111_111_111_111;
/// Sixteen hexadecimal digits that stand for producer and sequence in keys.
const ID_TEMPLATE: &str = "FEDCBA9876543210";
const TAG_TEMPLATE: &str = "Tag987";
/// Before its digits.
const TAG_LETTERS: usize = 3;
/// An expression of SQL92 that selects one tag of all, the first. A broker has to decode the properties of each message for it.
pub(crate) const SELECTED_BY_SQL: &str =
    "(TAGS IS NOT NULL AND TAGS IN ('Tag000', 'None')) OR KEYS BETWEEN 1 AND 9";
/// Sixteen digits: leading zeros are fine for every server.
const OFFSET_TEMPLATE: i64 = 1_222_222_222_222_222;
/// Java: `PullSysFlag`: wait for a message; the subscription is in the request.
const PULL_FLAG_SUSPEND: i32 = 2;
const PULL_FLAG_SUBSCRIPTION: i32 = 4;

/// A request up to its body, and where the parts lie that change.
struct Head {
    bytes: Vec<u8>,
    opaque_at: usize,
    time_at: usize,
    ids_at: Vec<usize>,
    tag_at: Option<usize>,
}

/// Send requests: a head for each queue of each topic, one body for all.
pub(crate) struct SendFrames {
    codec: Codec,
    heads: Vec<Head>,
    body: Vec<u8>,
    /// Where stamps, ids and tags lie in the body; ids and tags are those of a batch's messages.
    stamps_at: Vec<usize>,
    body_ids_at: Vec<Vec<usize>>,
    body_tags_at: Vec<usize>,
    tags: u32,
    run: u32,
    batch: usize,
}

/// What one request differs by.
#[derive(Clone, Copy)]
pub(crate) struct SendPatch<'a> {
    /// Index of the queue among all queues of all topics; wraps around.
    pub(crate) place: usize,
    pub(crate) slot: usize,
    pub(crate) time: &'a [u8; 13],
    pub(crate) producer: u32,
    /// Of the first message in the request.
    pub(crate) sequence: u64,
    pub(crate) due_ns: u64,
}

impl SendFrames {
    pub(crate) fn new(load: &Load, run: u32) -> Self {
        let pattern: Vec<u8> = (0..load.body_bytes)
            .map(|i| b'a' + (i % 26) as u8)
            .collect();
        let properties = properties(load);
        let body = if load.batch == 1 {
            pattern.clone()
        } else {
            batch_body(load.batch, &pattern, &properties)
        };
        // Items are equally long, and a message's body begins where the pattern does.
        let item_bytes = body.len() / load.batch;
        let lead_bytes = if load.batch == 1 {
            0
        } else {
            BATCH_ITEM_LEAD_BYTES
        };
        let is_stamped = load.body_bytes >= STAMP_BYTES;
        let stamps_at = (0..load.batch)
            .filter(|_| is_stamped)
            .map(|item| item * item_bytes + lead_bytes)
            .collect();
        let body_ids_at = (0..load.batch)
            .filter(|_| load.batch > 1)
            .map(|item| {
                let start = item * item_bytes;
                let ids = positions(&body[start..start + item_bytes], ID_TEMPLATE.as_bytes());
                ids.into_iter().map(|at| start + at).collect()
            })
            .collect();
        let body_tags_at = if load.batch > 1 {
            let tags = positions(&body, TAG_TEMPLATE.as_bytes()).into_iter();
            tags.map(|at| at + TAG_LETTERS).collect()
        } else {
            Vec::new()
        };
        let heads = load
            .topic_names()
            .iter()
            .flat_map(|topic| (0..load.queues).map(move |queue| (topic.clone(), queue)))
            .map(|(topic, queue)| send_head(load, &topic, queue as i32, &properties, body.len()))
            .collect();
        Self {
            codec: load.codec,
            heads,
            body,
            stamps_at,
            body_ids_at,
            body_tags_at,
            tags: load.tags,
            run,
            batch: load.batch,
        }
    }

    /// Messages in one request.
    pub(crate) fn batch(&self) -> usize {
        self.batch
    }

    /// Appends the request to `out`.
    pub(crate) fn write(&self, patch: SendPatch<'_>, out: &mut Vec<u8>) {
        let head = &self.heads[patch.place % self.heads.len()];
        let start = out.len();
        out.extend_from_slice(&head.bytes);
        let body_at = out.len();
        out.extend_from_slice(&self.body);
        let (header, body) = out[start..].split_at_mut(body_at - start);
        write_opaque(header, head.opaque_at, patch.slot, self.codec);
        header[head.time_at..head.time_at + 13].copy_from_slice(patch.time);
        for at in &head.ids_at {
            write_id(&mut header[*at..*at + 16], patch.producer, patch.sequence);
        }
        if let Some(at) = head.tag_at {
            let tag = patch.sequence % u64::from(self.tags);
            write_digits(&mut header[at..at + 3], tag);
        }
        for (item, at) in self.stamps_at.iter().enumerate() {
            let stamp = Stamp {
                run: self.run,
                producer: patch.producer,
                sequence: patch.sequence + item as u64,
                due_ns: patch.due_ns,
            };
            stamp.write(&mut body[*at..]);
        }
        for (item, ids_at) in self.body_ids_at.iter().enumerate() {
            for at in ids_at {
                let sequence = patch.sequence + item as u64;
                write_id(&mut body[*at..*at + 16], patch.producer, sequence);
            }
        }
        for (item, at) in self.body_tags_at.iter().enumerate() {
            let tag = (patch.sequence + item as u64) % u64::from(self.tags);
            write_digits(&mut body[*at..*at + 3], tag);
        }
    }
}

/// Bytes of a batch's item before its body: size, magic, checksum, flag, body length.
const BATCH_ITEM_LEAD_BYTES: usize = 20;

fn batch_body(items: usize, pattern: &[u8], properties: &str) -> Vec<u8> {
    let mut body = BytesMut::new();
    for _ in 0..items {
        let item = batch::Item {
            flag: 0,
            body: pattern,
            properties,
        };
        batch::push(&mut body, &item);
    }
    body.to_vec()
}

/// The properties of a message, with templates for what changes.
fn properties(load: &Load) -> String {
    let mut text = format!("UNIQ_KEY\u{1}7F000001000018B4{ID_TEMPLATE}\u{2}");
    if load.keys {
        text.push_str(&format!("KEYS\u{1}{ID_TEMPLATE}\u{2}"));
    }
    if load.tags > 0 {
        text.push_str(&format!("TAGS\u{1}{TAG_TEMPLATE}\u{2}"));
    }
    text.push_str("WAIT\u{1}true\u{2}");
    text
}

fn send_head(load: &Load, topic: &str, queue_id: i32, properties: &str, body_bytes: usize) -> Head {
    let is_batch = load.batch > 1;
    // A broker appends the properties of a batch's header to those of each of its messages.
    let properties = if is_batch { "" } else { properties };
    let header = SendMessageRequestV2(SendMessageRequest {
        producer_group: "bench".into(),
        topic: topic.into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 4,
        queue_id,
        sys_flag: 0,
        born_timestamp_ms: TIME_TEMPLATE,
        flag: 0,
        properties: Some(properties.into()),
        reconsume_times: Some(0),
        unit_mode: Some(false),
        max_reconsume_times: None,
        batch: Some(is_batch),
        broker_name: None,
    });
    let code = if is_batch {
        RequestCode::SEND_BATCH_MESSAGE
    } else {
        RequestCode::SEND_MESSAGE_V2
    };
    let bytes = head_bytes(code, &header, load.codec, body_bytes);
    let ids_at = positions(&bytes, ID_TEMPLATE.as_bytes());
    let tag_at = positions(&bytes, TAG_TEMPLATE.as_bytes()).first().copied();
    Head {
        opaque_at: opaque_position(&bytes, load.codec),
        time_at: position(&bytes, TIME_TEMPLATE.to_string().as_bytes()),
        ids_at,
        tag_at: tag_at.map(|at| at + TAG_LETTERS),
        bytes,
    }
}

/// What every pull of a connection asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pull {
    pub(crate) messages_max: i32,
    /// How long the server holds the request until there is a message.
    pub(crate) wait_ms: Option<i64>,
    pub(crate) selects: Selects,
}

/// Which messages a reader wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Selects {
    All,
    /// What the group's heartbeat said.
    AsRegistered,
}

/// A pull request for one queue: only the offset changes.
pub(crate) struct PullFrame {
    bytes: Vec<u8>,
    offset_at: usize,
}

impl PullFrame {
    /// `slot` comes back in the answer.
    pub(crate) fn new(
        group: &str,
        topic: &str,
        queue_id: i32,
        slot: usize,
        pull: &Pull,
        codec: Codec,
    ) -> Self {
        let suspend = match pull.wait_ms {
            Some(_) => PULL_FLAG_SUSPEND,
            None => 0,
        };
        let subscription = match pull.selects {
            Selects::All => PULL_FLAG_SUBSCRIPTION,
            Selects::AsRegistered => 0,
        };
        let header = PullMessageRequest {
            consumer_group: group.to_owned(),
            topic: topic.to_owned(),
            queue_id,
            queue_offset: OFFSET_TEMPLATE,
            messages_max: pull.messages_max,
            sys_flag: subscription | suspend,
            commit_offset: 0,
            suspend_timeout_ms: pull.wait_ms.unwrap_or(0),
            subscription: (pull.selects == Selects::All).then(|| "*".to_owned()),
            sub_version: 0,
            expression_type: (pull.selects == Selects::All).then(|| "TAG".to_owned()),
            ..PullMessageRequest::default()
        };
        let mut bytes = head_bytes(RequestCode::PULL_MESSAGE, &header, codec, 0);
        let opaque_at = opaque_position(&bytes, codec);
        write_opaque(&mut bytes, opaque_at, slot, codec);
        let offset_at = position(&bytes, OFFSET_TEMPLATE.to_string().as_bytes());
        Self { bytes, offset_at }
    }

    /// Appends the request to `out`.
    pub(crate) fn write(&self, offset: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let at = start + self.offset_at;
        write_digits(&mut out[at..at + 16], offset);
    }
}

/// The frame of a request whose body of `body_bytes` is put behind it later.
fn head_bytes(
    code: RequestCode,
    header: &impl WriteFields,
    codec: Codec,
    body_bytes: usize,
) -> Vec<u8> {
    let mut command = Command::request(code, header);
    command.opaque = OPAQUE_BASE;
    command.codec = match codec {
        Codec::Json => frame::Codec::Json,
        Codec::Binary => frame::Codec::Rocketmq,
    };
    let mut encoded = BytesMut::new();
    command.encode(&mut encoded);
    let total_bytes = (encoded.len() - 4 + body_bytes) as u32;
    encoded[..4].copy_from_slice(&total_bytes.to_be_bytes());
    encoded.to_vec()
}

fn positions(bytes: &[u8], needle: &[u8]) -> Vec<usize> {
    let windows = bytes.windows(needle.len()).enumerate();
    windows
        .filter(|(_, window)| *window == needle)
        .map(|(at, _)| at)
        .collect()
}

fn position(bytes: &[u8], needle: &[u8]) -> usize {
    *positions(bytes, needle)
        .first()
        .expect("the template holds what it was built from")
}

fn opaque_position(bytes: &[u8], codec: Codec) -> usize {
    match codec {
        Codec::Json => position(bytes, b"1000000000"),
        Codec::Binary => position(bytes, &OPAQUE_BASE.to_be_bytes()),
    }
}

fn write_opaque(header: &mut [u8], at: usize, slot: usize, codec: Codec) {
    let opaque = OPAQUE_BASE + slot as i32;
    match codec {
        Codec::Json => write_digits(&mut header[at..at + 10], opaque as u64),
        Codec::Binary => header[at..at + 4].copy_from_slice(&opaque.to_be_bytes()),
    }
}

/// Producer and sequence as sixteen hexadecimal digits.
fn write_id(place: &mut [u8], producer: u32, sequence: u64) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut id = u64::from(producer) << 48 | sequence;
    for digit in place.iter_mut().rev() {
        *digit = DIGITS[(id & 15) as usize];
        id >>= 4;
    }
}

/// Decimal, with leading zeros.
pub(crate) fn write_digits(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(codec: Codec, batch: usize) -> Load {
        Load {
            topics: 2,
            queues: 3,
            body_bytes: 40,
            keys: true,
            tags: 5,
            codec,
            batch,
            ..Load::new("127.0.0.1:1".parse().unwrap())
        }
    }

    fn request(load: &Load) -> Command {
        let mut out = Vec::new();
        let patch = SendPatch {
            place: 5,
            slot: 77,
            time: b"1700000000123",
            producer: 2,
            sequence: 18,
            due_ns: 9,
        };
        SendFrames::new(load, 7).write(patch, &mut out);
        let (frame, length) = frame::split(&out, frame::FRAME_BYTES_MAX).unwrap().unwrap();
        assert_eq!(length, out.len());
        Command::decode(&frame).unwrap()
    }

    fn stamp(sequence: u64) -> Stamp {
        Stamp {
            run: 7,
            producer: 2,
            sequence,
            due_ns: 9,
        }
    }

    #[test]
    fn a_patched_send_decodes_to_what_was_patched() {
        for codec in [Codec::Json, Codec::Binary] {
            let command = request(&load(codec, 1));
            assert_eq!(command.opaque, OPAQUE_BASE + 77);
            let header: SendMessageRequestV2<'_> = command.fields().read().unwrap();
            let header = header.0;
            assert_eq!(
                (&*header.topic, header.queue_id, header.born_timestamp_ms),
                ("Bench-1", 2, 1_700_000_000_123)
            );
            let properties = header.properties.unwrap();
            assert!(properties.contains("KEYS\u{1}0002000000000012\u{2}TAGS\u{1}Tag003\u{2}"));
            assert_eq!(Stamp::read(&command.body), Some(stamp(18)));
        }
    }

    #[test]
    fn each_message_of_a_batch_has_its_own_number() {
        let command = request(&load(Codec::Binary, 3));
        assert_eq!(command.request_code(), RequestCode::SEND_BATCH_MESSAGE);
        let items: Vec<_> = batch::items(&command.body).map(Result::unwrap).collect();
        assert_eq!(items.len(), 3);
        for (item, sequence) in items.iter().zip(18..) {
            assert_eq!(Stamp::read(item.body), Some(stamp(sequence)));
            let key = format!("KEYS\u{1}000200000000{sequence:04X}\u{2}");
            assert!(item.properties.contains(&key), "{}", item.properties);
            let tag = format!("TAGS\u{1}Tag00{}\u{2}", sequence % 5);
            assert!(item.properties.contains(&tag), "{}", item.properties);
        }
    }

    #[test]
    fn a_patched_pull_decodes_to_what_was_patched() {
        for codec in [Codec::Json, Codec::Binary] {
            let mut out = Vec::new();
            let pull = Pull {
                messages_max: 32,
                wait_ms: Some(15_000),
                selects: Selects::All,
            };
            PullFrame::new("g", "T", 3, 9, &pull, codec).write(12_345, &mut out);
            let (frame, _) = frame::split(&out, frame::FRAME_BYTES_MAX).unwrap().unwrap();
            let command = Command::decode(&frame).unwrap();
            assert_eq!(command.opaque, OPAQUE_BASE + 9);
            let header: PullMessageRequest = command.header().unwrap();
            assert_eq!((header.queue_id, header.queue_offset), (3, 12_345));
        }
    }
}
