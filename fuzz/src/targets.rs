//! What is fuzzed: one function a decoder. It must not panic, and what it accepts must survive being written again.

use bytes::BytesMut;
use protocol::body::{
    BatchAckMessageRequestBody, HeartbeatData, RegisterBrokerBody, TopicRouteData, TopicStatsTable,
};
use protocol::command::Command;
use protocol::frame::{self, Codec, FRAME_BYTES_MAX, Frame};
use protocol::header::{Header, Headers};
use protocol::headers::{PullMessageRequest, SendMessageRequest, SendMessageRequestV2, SendReader};
use protocol::pop::{self, Handle, Origin};
use protocol::properties::{self, Properties};
use protocol::record::{self, CheckBody};
use protocol::{batch, json, message_id};

/// A decoder's target.
pub type Target = fn(&[u8]);

/// Every target with its name.
pub const TARGETS: [(&str, Target); 9] = [
    ("frame", frame),
    ("headers", headers),
    ("header_json", header_json),
    ("header_binary", header_binary),
    ("batch", batch),
    ("properties", properties),
    ("record", record),
    ("body", body),
    ("pop", pop),
];

/// Frames of a stream, headers included.
pub fn frame(mut bytes: &[u8]) {
    while let Ok(Some((frame, used))) = frame::split(bytes, FRAME_BYTES_MAX) {
        assert!(used <= bytes.len() && frame.header.len() + frame.body.len() + 8 == used);
        bytes = &bytes[used..];
        if let Ok(command) = Command::decode(&frame) {
            check_again(&command);
        }
    }
}

/// A JSON header.
pub fn header_json(bytes: &[u8]) {
    header(Codec::Json, bytes);
}

/// A binary header.
pub fn header_binary(bytes: &[u8]) {
    header(Codec::Rocketmq, bytes);
}

/// Headers that follow each other in one buffer: a header, the same with a splice, and both again. Each must be what it is alone. The input
/// is the place of the splice (two bytes), how much it removes and how much it puts in (a byte each), what it puts in, and the header.
pub fn headers(bytes: &[u8]) {
    let Some(([high, low, removed, inserted], rest)) = bytes.split_first_chunk::<4>() else {
        return;
    };
    let Some((inserted, one)) = rest.split_at_checked(usize::from(inserted % 16)) else {
        return;
    };
    let at = usize::from(u16::from_be_bytes([*high, *low])) % (one.len() + 1);
    let end = (at + usize::from(removed % 16)).min(one.len());
    let other = [&one[..at], inserted, &one[end..]].concat();
    for codec in [Codec::Json, Codec::Rocketmq] {
        for long in [true, false] {
            follow(codec, long, &[one, &other, one, &other, &other]);
        }
    }
}

/// Decodes headers one behind the other, and compares each with what it is alone.
///
/// # Panics
/// When they differ.
pub fn follow(codec: Codec, long: bool, sequence: &[&[u8]]) {
    let mut headers = Headers::default();
    let mut sends = SendReader::default();
    for bytes in sequence {
        let alone = Header::decode(codec, bytes);
        let followed = headers.decode(codec, bytes);
        let (alone, followed) = match (alone, followed) {
            (Ok(alone), Ok(followed)) => (alone, followed),
            (alone, followed) => {
                assert_eq!(alone.map(|_| ()), followed.map(|_| ()));
                continue;
            }
        };
        assert_eq!(format!("{alone:?}"), format!("{followed:?}"));
        let alone = match long {
            true => alone.fields.read::<SendMessageRequest<'_>>(),
            false => alone
                .fields
                .read::<SendMessageRequestV2<'_>>()
                .map(|header| header.0),
        };
        assert_eq!(
            alone.as_ref(),
            sends.read(&followed.fields, long).as_ref().copied()
        );
    }
}

fn header(codec: Codec, bytes: &[u8]) {
    let Ok(header) = Header::decode(codec, bytes) else {
        return;
    };
    let _ = header.fields.read::<SendMessageRequest<'_>>();
    let _ = header.fields.read::<SendMessageRequestV2<'_>>();
    let _ = header.fields.read::<PullMessageRequest>();
    if let Ok(command) = Command::decode(&Frame {
        codec,
        header: bytes,
        body: b"",
    }) {
        check_again(&command);
    }
}

/// What was decoded can be written, and reads the same.
fn check_again(command: &Command) {
    let mut out = BytesMut::new();
    command.encode(&mut out);
    let (frame, used) = frame::split(&out, usize::MAX)
        .expect("a written frame is valid")
        .expect("and complete");
    assert_eq!(used, out.len());
    let again = Command::decode(&frame).expect("a written header is valid");
    if command.codec == Codec::Json {
        // An unknown language becomes OTHER on the first reading and stays so.
        assert_eq!(&again, command);
    }
}

/// The body of a batch.
pub fn batch(bytes: &[u8]) {
    let items: Result<Vec<_>, _> = batch::items(bytes).collect();
    let Ok(items) = items else { return };
    let mut again = BytesMut::new();
    for item in items
        .iter()
        .filter(|item| item.properties.len() <= properties::BYTES_MAX)
    {
        batch::push(&mut again, item);
    }
    assert!(batch::items(&again).all(|item| item.is_ok()));
}

/// A property string.
pub fn properties(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let parsed = Properties::parse(text);
    for (name, value) in parsed.iter() {
        assert_eq!(properties::get(text, name), Some(value));
    }
    let _ = message_id::decode_offset_id(text);
}

/// A message record.
pub fn record(bytes: &[u8]) {
    let _ = record::peek_properties(bytes);
    for check in [CheckBody::Yes, CheckBody::No] {
        if let Ok(record) = record::decode(bytes, check) {
            assert!(record.size as usize <= bytes.len());
            assert_eq!(
                record::peek_store_timestamp(bytes),
                Some(record.store_timestamp_ms)
            );
            assert_eq!(record::peek_properties(bytes), Some(record.properties));
        }
    }
}

/// Bodies in JSON, in any dialect, and the compressed registration.
pub fn body(bytes: &[u8]) {
    if let Ok(heartbeat) = json::decode::<HeartbeatData>(bytes) {
        assert_eq!(
            json::decode::<HeartbeatData>(&json::encode(&heartbeat)).ok(),
            Some(heartbeat)
        );
    }
    if let Ok(route) = json::decode::<TopicRouteData>(bytes) {
        let written = json::encode_as(&route, json::Dialect::Fastjson);
        assert_eq!(json::decode::<TopicRouteData>(&written).ok(), Some(route));
    }
    let _ = json::decode::<TopicStatsTable>(bytes);
    let _ = RegisterBrokerBody::decode(bytes, true, i32::MAX);
    let _ = RegisterBrokerBody::decode(bytes, false, i32::MAX);
}

/// Receipt handles, the lists of offsets that come with them, and acknowledgements of several messages.
pub fn pop(bytes: &[u8]) {
    if let Ok(body) = json::decode::<BatchAckMessageRequestBody>(bytes) {
        for mut ack in body.acks {
            if let Some(offsets) = ack.offsets() {
                ack.set_offsets(&offsets);
                assert_eq!(ack.offsets(), Some(offsets));
            }
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    for origin in [Origin::Topic, Origin::RetryV1, Origin::RetryV2] {
        let _ = pop::start_of(text, origin, 0);
        let _ = pop::count_of(text, origin, 0, 0);
    }
    if let Ok(handle) = Handle::parse(text) {
        let written = handle.to_string();
        assert_eq!(Handle::parse(&written), Ok(handle));
    }
}
