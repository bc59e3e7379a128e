//! What is fuzzed: one function a decoder. It must not panic, and what it accepts must survive being written again.

use bytes::BytesMut;
use protocol::body::{
    BatchAckMessageRequestBody, HeartbeatData, RegisterBrokerBody, TopicRouteData, TopicStatsTable,
};
use protocol::command::Command;
use protocol::frame::{self, Codec, FRAME_BYTES_MAX, Frame};
use protocol::header::Header;
use protocol::headers::{PullMessageRequest, SendMessageRequest, SendMessageRequestV2};
use protocol::pop::{self, Handle, Origin};
use protocol::properties::{self, Properties};
use protocol::record::{self, CheckBody};
use protocol::{batch, json, message_id};

/// A decoder's target.
pub type Target = fn(&[u8]);

/// Every target with its name.
pub const TARGETS: [(&str, Target); 8] = [
    ("frame", frame),
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
