//! Nonsense is refused, quickly and without a panic.

use protocol::body::{HeartbeatData, RegisterBrokerBody};
use protocol::frame::{Codec, FRAME_BYTES_MAX, FrameError, split};
use protocol::header::{Header, HeaderError};
use protocol::json;
use protocol::record::{self, CheckBody, RecordError};
use protocol::version;

use crate::fixture::{golden, whole_frame};

#[test]
fn frame_of_two_gib_is_refused_at_its_first_four_bytes() {
    let error = split(&0x7fff_ffffu32.to_be_bytes(), FRAME_BYTES_MAX).unwrap_err();
    assert!(matches!(error, FrameError::TooLong { .. }));
}

#[test]
fn negative_frame_length_is_refused() {
    for length in [-1i32, i32::MIN] {
        assert_eq!(
            split(&length.to_be_bytes(), FRAME_BYTES_MAX),
            Err(FrameError::ImpossibleLength(length))
        );
    }
}

#[test]
fn header_longer_than_its_frame_is_refused_before_the_frame_is_complete() {
    let error = split(&[0, 0, 1, 0, 0, 0xff, 0xff, 0xff], FRAME_BYTES_MAX).unwrap_err();
    assert_eq!(
        error,
        FrameError::HeaderTooLong {
            header: 0xff_ffff,
            rest: 252
        }
    );
}

#[test]
fn invalid_utf8_is_an_error_in_both_codecs() {
    let json = b"{\"code\":10,\"extFields\":{\"topic\":\"\xff\xfe\"}}";
    assert_eq!(
        Header::decode(Codec::Json, json).unwrap_err(),
        HeaderError::NotUtf8
    );
    let mut binary = whole_frame(&golden("send_v2_binary")).header.to_vec();
    let at = binary
        .windows(5)
        .position(|window| window == b"group")
        .unwrap();
    binary[at] = 0xff;
    assert_eq!(
        Header::decode(Codec::Rocketmq, &binary).unwrap_err(),
        HeaderError::NotUtf8
    );
}

#[test]
fn deep_nesting_is_refused_without_recursion() {
    let deep = |open: &str| format!("{{\"x\":{}", open.repeat(1_000_000));
    for open in ["[", "{\"a\":"] {
        assert!(matches!(
            Header::decode(Codec::Json, deep(open).as_bytes()),
            Err(HeaderError::Json(_))
        ));
        assert!(json::decode::<HeartbeatData>(deep(open).as_bytes()).is_err());
    }
    assert!(json::decode::<HeartbeatData>("{".repeat(1_000_000).as_bytes()).is_err());
}

#[test]
fn negative_and_oversized_lengths_in_a_binary_header_are_refused() {
    let header = whole_frame(&golden("send_v2_binary")).header.to_vec();
    let fields_length_at = 17;
    let first_name_at = fields_length_at + 4;
    let first_value_at = first_name_at + 3;
    for (at, length) in [
        (13, 4),
        (fields_length_at, 4),
        (first_name_at, 2),
        (first_value_at, 4),
    ] {
        for byte in [0xff, 0x7f] {
            let mut broken = header.clone();
            broken[at..at + length].fill(byte);
            let error = Header::decode(Codec::Rocketmq, &broken).unwrap_err();
            assert!(matches!(error, HeaderError::Truncated(_)), "{at}: {error}");
        }
    }
}

#[test]
fn every_truncation_of_a_header_is_refused() {
    for (name, codec) in [
        ("send_v2_json", Codec::Json),
        ("send_v2_binary", Codec::Rocketmq),
    ] {
        let bytes = golden(name);
        let header = whole_frame(&bytes).header;
        for cut in 0..header.len() {
            let decoded = Header::decode(codec, &header[..cut]);
            // A binary header may end where its fields would begin.
            assert!(
                decoded.is_err() || (codec == Codec::Rocketmq && cut == 17),
                "{name} cut at {cut}"
            );
        }
    }
}

#[test]
fn json_that_is_no_header_is_refused() {
    for text in [
        "",
        "null",
        "[]",
        "7",
        "\"{}\"",
        "{",
        "{}x",
        "{\"code\":}",
        "{\"code\":1.5}",
        "{\"code\":\"x\"}",
        "{\"code\":4294967296}",
    ] {
        assert!(
            Header::decode(Codec::Json, text.as_bytes()).is_err(),
            "{text}"
        );
    }
}

#[test]
fn a_field_of_the_wrong_type_is_named() {
    let header = br#"{"code":30,"extFields":{"topic":"T","queueId":"one"}}"#;
    let header = Header::decode(Codec::Json, header).unwrap();
    let error = header
        .fields
        .read::<protocol::headers::GetMaxOffsetRequest>()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the custom field <queueId> is no 32-bit integer: one"
    );
}

#[test]
fn a_broken_body_is_found_by_its_checksum() {
    let mut bytes = golden("record_v1_ipv4");
    bytes[90] ^= 1;
    assert!(matches!(
        record::decode(&bytes, CheckBody::Yes),
        Err(RecordError::BodyCrc { .. })
    ));
    assert!(record::decode(&bytes, CheckBody::No).is_ok());
}

#[test]
fn a_filler_is_told_from_a_record() {
    let mut bytes = bytes::BytesMut::new();
    record::encode_blank(4_096, &mut bytes);
    assert_eq!(
        record::decode(&bytes, CheckBody::Yes),
        Err(RecordError::Blank { size: 4_096 })
    );
    assert_eq!(
        record::decode(&[0; 128], CheckBody::Yes),
        Err(RecordError::Magic(0))
    );
}

#[test]
fn broken_registrations_are_refused() {
    let compressed = golden("body_register_compressed");
    for cut in 0..compressed.len() - 1 {
        assert!(
            RegisterBrokerBody::decode(&compressed[..cut], true, version::CURRENT).is_err(),
            "cut at {cut}"
        );
    }
    assert!(RegisterBrokerBody::decode(b"[]", false, version::CURRENT).is_err());
}

/// A header of the largest size, full of tiny fields, must not take time by the square of their number.
#[test]
fn a_header_full_of_fields_is_read_in_linear_time() {
    let fields: Vec<String> = (0..400_000)
        .map(|number| format!("\"{number}\":\"\""))
        .collect();
    let header = format!("{{\"code\":10,\"extFields\":{{{}}}}}", fields.join(","));
    let header = Header::decode(Codec::Json, header.as_bytes()).unwrap();
    assert_eq!(header.fields.to_map().len(), 400_000);
}
