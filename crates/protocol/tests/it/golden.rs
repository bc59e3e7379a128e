//! Bytes that RocketMQ's own classes wrote.

use std::borrow::Cow;
use std::net::SocketAddr;

use bytes::BytesMut;
use protocol::batch;
use protocol::body::*;
use protocol::code::{RequestCode, ResponseCode};
use protocol::frame::Codec;
use protocol::headers::*;
use protocol::json::{self, Dialect};
use protocol::language::Language;
use protocol::message_id;
use protocol::properties;
use protocol::record::{self, CheckBody, NewRecord, Version};
use protocol::reply::{self, ReplyHead};
use protocol::tags;
use protocol::version;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::fixture::{encoded, golden, golden_command, golden_text};

const PROPERTIES: &str = "KEYS\u{1}k1 键2\u{2}TAGS\u{1}TagA\u{2}WAIT\u{1}true\u{2}UNIQ_KEY\u{1}7F0000010203 \"quoted\\ \t\u{2}";

fn send_request() -> SendMessageRequest<'static> {
    SendMessageRequest {
        producer_group: "group".into(),
        topic: "主题Topic".into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 4,
        queue_id: 3,
        sys_flag: 0,
        born_timestamp_ms: 1_700_000_000_123,
        flag: -5,
        properties: Some(PROPERTIES.into()),
        reconsume_times: Some(0),
        unit_mode: Some(false),
        max_reconsume_times: Some(16),
        batch: Some(false),
        broker_name: None,
    }
}

#[test]
fn send_requests_read_the_same_in_both_codecs() {
    for (name, codec) in [
        ("send_v1_json", Codec::Json),
        ("send_v1_binary", Codec::Rocketmq),
    ] {
        let command = golden_command(name);
        assert_eq!(command.request_code(), RequestCode::SEND_MESSAGE, "{name}");
        assert_eq!(
            (command.codec, command.opaque, command.version),
            (codec, 7, version::CURRENT),
            "{name}"
        );
        assert_eq!(
            command.fields().read::<SendMessageRequest<'_>>().unwrap(),
            send_request(),
            "{name}"
        );
        assert_eq!(&command.body[..], b"hello", "{name}");
    }
    for name in ["send_v2_json", "send_v2_binary"] {
        let command = golden_command(name);
        assert_eq!(
            command.request_code(),
            RequestCode::SEND_MESSAGE_V2,
            "{name}"
        );
        assert_eq!(
            command
                .fields()
                .read::<SendMessageRequestV2<'_>>()
                .unwrap()
                .0,
            send_request(),
            "{name}"
        );
    }
}

#[test]
fn binary_send_requests_borrow_their_texts() {
    let bytes = golden("send_v2_binary");
    let frame = crate::fixture::whole_frame(&bytes);
    let header = protocol::header::Header::decode(frame.codec, frame.header).unwrap();
    let request = header.fields.read::<SendMessageRequestV2<'_>>().unwrap().0;
    assert!(
        matches!(request.topic, Cow::Borrowed(_))
            && matches!(request.properties, Some(Cow::Borrowed(_)))
    );
}

/// Java writes the short send header in alphabetical order, so the whole frame can be compared.
#[test]
fn our_send_frames_are_those_of_java() {
    for (name, codec) in [
        ("send_v2_json", Codec::Json),
        ("send_v2_binary", Codec::Rocketmq),
    ] {
        let header = SendMessageRequestV2(send_request());
        let mut command =
            protocol::command::Command::request(RequestCode::SEND_MESSAGE_V2, &header)
                .with_body("hello");
        command.opaque = 8;
        command.codec = codec;
        assert_eq!(encoded(&command), golden(name), "{name}");
    }
}

/// Decoding keeps Java's order of fields, so encoding the command again must give the same bytes. The one difference is
/// DEL and the C1 controls, which fastjson escapes and we do not.
#[test]
fn every_golden_frame_survives_decoding_and_encoding() {
    for kind in [
        "send_v1",
        "send_v2",
        "send_response",
        "pull",
        "pull_response",
        "oneway",
        "pop_code",
    ] {
        for codec in ["json", "binary"] {
            let name = format!("{kind}_{codec}");
            assert_eq!(encoded(&golden_command(&name)), golden(&name), "{name}");
        }
    }
    assert_eq!(
        encoded(&golden_command("error_response_binary")),
        golden("error_response_binary")
    );
}

#[test]
fn a_remark_reads_the_same_in_both_codecs() {
    let want = "No topic route info in name server for the topic: T\nSee \"FAQ\" 中文 \u{1}\u{7f}\u{85} for further details.";
    for name in ["error_response_json", "error_response_binary"] {
        let command = golden_command(name);
        assert_eq!(command.remark.as_deref(), Some(want), "{name}");
        assert_eq!(
            command.response_code(),
            ResponseCode::TOPIC_NOT_EXIST,
            "{name}"
        );
        assert!(command.is_response() && command.fields.is_empty(), "{name}");
        assert_eq!(
            (command.opaque, command.language),
            (-9, Language::JAVA),
            "{name}"
        );
    }
}

#[test]
fn replies_are_those_of_java() {
    let fields = SendMessageResponse {
        msg_id: "7F00000100002A9F0000000000001234".to_owned(),
        queue_id: 3,
        queue_offset: 4711,
        ..Default::default()
    };
    for (name, codec) in [
        ("send_response_json", Codec::Json),
        ("send_response_binary", Codec::Rocketmq),
    ] {
        let head = ReplyHead {
            codec,
            opaque: 8,
            oneway: false,
        };
        let mut out = BytesMut::new();
        reply::encode(
            &mut out,
            head,
            ResponseCode::SUCCESS,
            Some("not set any response code"),
            &fields,
            &[],
        );
        let ours = protocol::command::Command::decode(&crate::fixture::whole_frame(&out)).unwrap();
        let java = golden_command(name);
        assert_eq!(
            ours.header::<SendMessageResponse>(),
            java.header::<SendMessageResponse>(),
            "{name}"
        );
        assert_eq!(out.len(), golden(name).len(), "{name}");
    }
}

#[test]
fn pull_headers_are_read() {
    for codec in ["json", "binary"] {
        let request = golden_command(&format!("pull_{codec}"))
            .header::<PullMessageRequest>()
            .unwrap();
        assert_eq!(
            (request.queue_offset, request.sys_flag, request.bytes_max),
            (100, 6, Some(262_144))
        );
        assert_eq!(
            (request.subscription.as_deref(), request.suspend_timeout_ms),
            (Some("*"), 15_000)
        );
        let command = golden_command(&format!("pull_response_{codec}"));
        let response = command.header::<PullMessageResponse>().unwrap();
        assert_eq!(
            (response.next_begin_offset, response.group_sys_flag),
            (101, Some(0))
        );
        assert_eq!(&command.body[..], b"records");
        assert!(golden_command(&format!("oneway_{codec}")).is_oneway());
    }
}

/// 200050 does not fit into the 16 bits of the binary header; Java cuts it, and every client sees the cut value.
#[test]
fn the_binary_header_cuts_codes_as_java_does() {
    assert_eq!(golden_command("pop_code_json").code, 200_050);
    assert_eq!(golden_command("pop_code_binary").code, 3_442);
}

fn check_record(name: &str, version: Version, born_host: &str, store_host: &str, topic: &str) {
    let bytes = golden(name);
    let decoded = record::decode(&bytes, CheckBody::Yes).unwrap();
    let body = "body 正文".as_bytes();
    let (born_host, store_host): (SocketAddr, SocketAddr) =
        (born_host.parse().unwrap(), store_host.parse().unwrap());
    assert_eq!(
        (decoded.size as usize, decoded.version),
        (bytes.len(), version),
        "{name}"
    );
    assert_eq!(
        (decoded.queue_id, decoded.flag, decoded.queue_offset),
        (2, 9, 77),
        "{name}"
    );
    assert_eq!(
        (decoded.physical_offset, decoded.store_timestamp_ms),
        (123_456_789, 1_700_000_000_456),
        "{name}"
    );
    assert_eq!(
        (decoded.born_host, decoded.store_host),
        (born_host, store_host),
        "{name}"
    );
    assert_eq!((decoded.body, decoded.topic), (body, topic), "{name}");
    assert_eq!(
        properties::get(decoded.properties, properties::TAGS),
        Some("TagA"),
        "{name}"
    );

    let new = NewRecord {
        body_crc: record::body_crc(body),
        queue_id: 2,
        flag: 9,
        sys_flag: 0,
        born_timestamp_ms: 1_700_000_000_123,
        born_host,
        store_host,
        reconsume_times: 1,
        prepared_transaction_offset: 5,
        body,
        topic,
        properties: decoded.properties,
        with_checksum: false,
    };
    let mut ours = BytesMut::new();
    record::encode(&new, 77, 123_456_789, 1_700_000_000_456, &mut ours);
    assert_eq!(ours, bytes, "{name}");
    assert_eq!(record::encoded_len(&new), bytes.len(), "{name}");
    assert_eq!(
        record::peek_store_timestamp(&bytes),
        Some(1_700_000_000_456),
        "{name}"
    );
    assert_eq!(
        record::peek_physical_offset(&bytes[..record::HEAD_BYTES]),
        Some(123_456_789),
        "{name}"
    );
}

#[test]
fn records_are_those_of_java() {
    let (v4, v6, local, local6) = (
        "10.1.2.3:12345",
        "[2001:db8::1]:12345",
        "127.0.0.1:10911",
        "[::1]:10911",
    );
    check_record("record_v1_ipv4", Version::V1, v4, local, "TopicTest");
    check_record("record_v1_ipv6", Version::V1, v6, local6, "TopicTest");
    check_record("record_v1_mixed", Version::V1, v6, local, "TopicTest");
    check_record(
        "record_v2",
        Version::V2,
        v4,
        local,
        &format!("%RETRY%{}", "t".repeat(200)),
    );
}

#[test]
fn a_batch_is_that_of_java() {
    let bytes = golden("batch");
    let items: Vec<_> = batch::items(&bytes).collect::<Result<_, _>>().unwrap();
    assert_eq!(items.len(), 2);
    assert_eq!((items[0].flag, items[0].body), (3, &b"one"[..]));
    assert_eq!(
        properties::get(items[0].properties, properties::KEYS),
        Some("k")
    );
    assert_eq!(
        (items[1].body, items[1].properties),
        ("二".as_bytes(), "WAIT\u{1}false\u{2}")
    );
    let mut ours = BytesMut::new();
    items.iter().for_each(|item| batch::push(&mut ours, item));
    assert_eq!(ours, bytes);
}

#[test]
fn properties_are_those_of_java() {
    let text = golden_text("properties");
    let parsed = properties::Properties::parse(&text);
    assert_eq!(
        parsed.iter().collect::<Vec<_>>(),
        [("KEYS", "k1 k2"), ("TAGS", "中文"), ("WAIT", "true")]
    );
    assert_eq!(parsed.encode(), text);
}

#[test]
fn offset_ids_are_those_of_java() {
    for (name, host) in [
        ("offset_id_ipv4", "10.1.2.3:10911"),
        ("offset_id_ipv6", "[2001:db8::1]:10911"),
    ] {
        let host = host.parse().unwrap();
        assert_eq!(
            message_id::encode_offset_id(host, 123_456_789),
            golden_text(name)
        );
        assert_eq!(
            message_id::decode_offset_id(&golden_text(name)),
            Some((host, 123_456_789))
        );
    }
}

#[test]
fn tag_hashes_are_those_of_java() {
    for line in golden_text("hash_codes").lines() {
        let (text, hash) = line.rsplit_once(' ').unwrap();
        assert_eq!(
            tags::hash_code(text),
            hash.parse::<i32>().unwrap(),
            "{text}"
        );
    }
}

/// Decodes a golden body and writes it again.
fn check_body<T: Serialize + DeserializeOwned>(name: &str, dialect: Dialect) -> T {
    let value: T = json::decode(&golden(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(
        String::from_utf8(json::encode_as(&value, dialect)).unwrap(),
        golden_text(name),
        "{name}"
    );
    value
}

#[test]
fn bodies_are_written_as_java_writes_them() {
    check_body::<BrokerStatsData>("body_broker_stats", Dialect::Fastjson);
    check_body::<ClusterInfo>("body_cluster", Dialect::Fastjson);
    check_body::<ConsumeMessageDirectlyResult>("body_consume_directly", Dialect::Fastjson);
    check_body::<ConsumeStats>("body_consume_stats", Dialect::Fastjson);
    check_body::<ConsumerConnection>("body_consumer_connection", Dialect::Fastjson);
    check_body::<GetConsumerListByGroupResponseBody>("body_consumer_list", Dialect::Fastjson);
    check_body::<ConsumerOffsetSerializeWrapper>("body_consumer_offsets", Dialect::Fastjson);
    check_body::<DataVersion>("body_data_version", Dialect::Fastjson);
    check_body::<GroupList>("body_group_list", Dialect::Fastjson);
    check_body::<HeartbeatData>("body_heartbeat", Dialect::Fastjson);
    check_body::<KvTable>("body_kv", Dialect::Fastjson);
    check_body::<LockBatchRequestBody>("body_lock", Dialect::Fastjson);
    check_body::<LockBatchResponseBody>("body_lock_response", Dialect::Fastjson);
    check_body::<QueryAssignmentRequestBody>("body_query_assignment", Dialect::Fastjson);
    check_body::<RegisterBrokerBody>("body_register", Dialect::Fastjson);
    check_body::<ResetOffsetBody>("body_reset_offset", Dialect::Fastjson);
    check_body::<TopicRouteData>("body_route_fastjson", Dialect::Fastjson);
    check_body::<TopicRouteData>("body_route_ordered", Dialect::Fastjson);
    check_body::<TopicRouteData>("body_route_standard", Dialect::Standard);
    check_body::<ConsumerRunningInfo>("body_running_info", Dialect::Fastjson);
    check_body::<TopicConfigSerializeWrapper>("body_topic_config", Dialect::Fastjson);
    check_body::<TopicList>("body_topic_list", Dialect::Fastjson);
    check_body::<TopicStatsTable>("body_topic_stats", Dialect::Fastjson);
}

#[test]
fn bodies_that_java_extends_with_derived_fields_are_read() {
    let groups: SubscriptionGroupWrapper = json::decode(&golden("body_groups")).unwrap();
    assert_eq!(groups.subscription_group_table["g"].retry_max_times, 16);
    let spans: QueryConsumeTimeSpanBody = json::decode(&golden("body_time_span")).unwrap();
    assert_eq!(
        spans.consume_time_span_set[0].message_queue,
        MessageQueue::new("T", "broker-a", 1)
    );
}

#[test]
fn maps_with_queues_as_keys_are_read() {
    let stats: TopicStatsTable = json::decode(&golden("body_topic_stats")).unwrap();
    assert_eq!(
        stats.offset_table[&MessageQueue::new("T", "broker-a", 1)].max_offset,
        9
    );
}

#[test]
fn a_compressed_registration_equals_the_plain_one() {
    let plain =
        RegisterBrokerBody::decode(&golden("body_register"), false, version::CURRENT).unwrap();
    let mut compressed =
        RegisterBrokerBody::decode(&golden("body_register_compressed"), true, version::CURRENT)
            .unwrap();
    // The compressed form does not carry the version of the mappings.
    compressed
        .topic_config_serialize_wrapper
        .mapping_data_version = plain
        .topic_config_serialize_wrapper
        .mapping_data_version
        .clone();
    assert_eq!(compressed, plain);
    for compress in [true, false] {
        let ours = RegisterBrokerBody::decode(&plain.encode(compress), compress, version::CURRENT)
            .unwrap();
        assert_eq!(
            ours.topic_config_serialize_wrapper.topic_config_table,
            plain.topic_config_serialize_wrapper.topic_config_table
        );
    }
}
