//! What is written reads the same: by property.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use protocol::batch;
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::frame::{self, Codec, FRAME_BYTES_MAX};
use protocol::header::FieldMap;
use protocol::headers::{SendMessageRequest, SendMessageRequestV2};
use protocol::language::Language;
use protocol::message_id;
use protocol::properties::{self, Properties};
use protocol::record::{self, CheckBody, NewRecord, RecordError};
use protocol::reply;
use protocol::sysflag;

use crate::fuzz_targets;

/// Any text, biased towards what needs escaping.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[\\\\\"\\u{0}-\\u{1f}a中😀]{0,24}",
        "[a-zA-Z0-9%_-]{1,40}"
    ]
}

fn codec() -> impl Strategy<Value = Codec> {
    prop_oneof![Just(Codec::Json), Just(Codec::Rocketmq)]
}

fn address() -> impl Strategy<Value = SocketAddr> {
    (any::<std::net::IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

prop_compose! {
    fn command()(
        // The binary header holds 16 bits of code and version, and knows no empty texts.
        code in any::<i16>(), version in any::<i16>(), opaque in any::<i32>(), flag in any::<i32>(), language in 0u8..14,
        remark in proptest::option::of(text().prop_filter("empty", |text| !text.is_empty())),
        fields in proptest::collection::vec((text(), text().prop_filter("empty", |text| !text.is_empty())), 0..8),
        body in proptest::collection::vec(any::<u8>(), 0..64), codec in codec(),
    ) -> Command {
        Command {
            code: code.into(), language: Language(language), version: version.into(), opaque, flag, remark,
            fields: FieldMap::from_iter(fields), body: Bytes::from(body), codec,
        }
    }
}

prop_compose! {
    fn send_request()(
        texts in proptest::array::uniform4("[ -~中]{1,20}"), numbers in any::<[i32; 4]>(), born in any::<i64>(),
        optional in any::<(Option<i32>, Option<bool>, Option<i32>, Option<bool>)>(), properties in proptest::option::of("[ -~]{1,40}"),
    ) -> SendMessageRequest<'static> {
        let [group, topic, default_topic, broker] = texts;
        SendMessageRequest {
            producer_group: group.into(), topic: topic.into(), default_topic: default_topic.into(),
            default_topic_queue_nums: numbers[0], queue_id: numbers[1], sys_flag: numbers[2], flag: numbers[3],
            born_timestamp_ms: born, properties: properties.map(Into::into), reconsume_times: optional.0,
            unit_mode: optional.1, max_reconsume_times: optional.2, batch: optional.3, broker_name: Some(broker.into()),
        }
    }
}

/// A header as it lies in a frame.
fn header_bytes(command: &Command) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    command.encode(&mut bytes);
    let (frame, _) = frame::split(&bytes, FRAME_BYTES_MAX).unwrap().unwrap();
    frame.header.to_vec()
}

prop_compose! {
    /// Sends of one client: mostly the same header, with values of other lengths.
    fn sends_of_a_client()(
        first in send_request(), differences in proptest::collection::vec(
            (any::<(i32, i32, i64)>(), 0u8..6, proptest::option::of(text()), proptest::option::of("[a-z]{0,5}")), 1..8),
        long in any::<bool>(), codec in codec(),
    ) -> (bool, Codec, Vec<Vec<u8>>) {
        let mut send = first;
        let encoded = differences.into_iter().map(|((opaque, queue, born), kind, properties, topic)| {
            match kind {
                0 => send.queue_id = queue,
                1 => send.born_timestamp_ms = born,
                2 => send.properties = properties.map(Into::into),
                3 => send.reconsume_times = send.reconsume_times.map(|_| queue),
                4 => send.topic = topic.unwrap_or_default().into(),
                _ => {}
            }
            let mut command = match long {
                true => Command::request(RequestCode::SEND_MESSAGE, &send),
                false => Command::request(RequestCode::SEND_MESSAGE_V2, &SendMessageRequestV2(send.clone())),
            };
            command.opaque = opaque >> (opaque as u32 % 32);
            command.codec = codec;
            header_bytes(&command)
        }).collect();
        (long, codec, encoded)
    }
}

proptest! {
    #[test]
    fn an_answer_behind_others_has_the_bytes_that_it_has_alone(
        codec in codec(), sequence in proptest::collection::vec(
            (0i32..3, any::<i32>(), proptest::option::weighted(0.1, text()), 0usize..3, text(), "[0-9]{1,3}"), 1..8),
    ) {
        let mut answers = reply::Answers::default();
        for (code, opaque, remark, fields, text, digits) in sequence {
            let head = reply::ReplyHead { codec, opaque: opaque >> (opaque as u32 % 32), oneway: false };
            let fields = [("queueId", digits), ("msgId", text)].into_iter().take(fields);
            let fields = FieldMap::from_iter(fields);
            let (code, remark) = (ResponseCode(code), remark.as_deref());
            let (mut alone, mut behind) = (BytesMut::new(), BytesMut::from(&b"before"[..]));
            reply::encode(&mut alone, head, code, remark, &fields, &[b"body"]);
            answers.encode(&mut behind, head, code, remark, &fields, &[b"body"]);
            prop_assert_eq!(&alone[..], &behind[6..]);
        }
    }

    #[test]
    fn a_header_behind_others_reads_as_it_does_alone((long, codec, encoded) in sends_of_a_client()) {
        let sequence: Vec<&[u8]> = encoded.iter().map(Vec::as_slice).collect();
        fuzz_targets::follow(codec, long, &sequence);
    }

    #[test]
    fn commands(commands in proptest::collection::vec(command(), 1..4)) {
        let mut out = BytesMut::new();
        commands.iter().for_each(|command| command.encode(&mut out));
        let mut rest = &out[..];
        for command in &commands {
            let (frame, used) = frame::split(rest, FRAME_BYTES_MAX).unwrap().unwrap();
            prop_assert_eq!(&Command::decode(&frame).unwrap(), command);
            rest = &rest[used..];
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn json_headers_are_json(command in command()) {
        let command = Command { codec: Codec::Json, ..command };
        let mut out = BytesMut::new();
        command.encode(&mut out);
        let frame = frame::split(&out, FRAME_BYTES_MAX).unwrap().unwrap().0;
        let value: serde_json::Value = serde_json::from_slice(frame.header).unwrap();
        prop_assert_eq!(value["opaque"].as_i64(), Some(i64::from(command.opaque)));
        for (name, text) in command.fields.iter() {
            prop_assert_eq!(value["extFields"][name].as_str(), Some(text));
        }
    }

    #[test]
    fn send_headers(request in send_request()) {
        let long = FieldMap::of(&request);
        prop_assert_eq!(&protocol::header::Fields::from_map(&long).read::<SendMessageRequest<'_>>().unwrap(), &request);
        let short = SendMessageRequestV2(request);
        let map = FieldMap::of(&short);
        prop_assert_eq!(protocol::header::Fields::from_map(&map).read::<SendMessageRequestV2<'_>>().unwrap(), short);
    }

    #[test]
    fn records(
        body in proptest::collection::vec(any::<u8>(), 0..256), topic in "[a-z%]{1,200}", properties in "[ -~]{0,64}",
        hosts in (address(), address()), numbers in any::<(i32, i32, i32, i32)>(), times in any::<(i64, i64, i64)>(),
        offsets in any::<(u64, u64)>(), cut in any::<proptest::sample::Index>(),
    ) {
        let new = NewRecord {
            body_crc: record::body_crc(&body), queue_id: numbers.0, flag: numbers.1, sys_flag: numbers.2,
            born_timestamp_ms: times.0, born_host: hosts.0, store_host: hosts.1, reconsume_times: numbers.3,
            prepared_transaction_offset: times.1, body: &body, topic: &topic, properties: &properties,
with_checksum: false,
};
        let mut out = BytesMut::new();
        record::encode(&new, offsets.0, offsets.1, times.2, &mut out);
        prop_assert_eq!(out.len(), record::encoded_len(&new));
        let cut = cut.index(out.len());
        let is_incomplete = matches!(record::decode(&out[..cut], CheckBody::Yes), Err(RecordError::Incomplete { .. }));
        prop_assert!(is_incomplete);

        let size = out.len();
        out.extend_from_slice(b"the next record");
        let decoded = record::decode(&out, CheckBody::Yes).unwrap();
        prop_assert_eq!(decoded.size as usize, size);
        prop_assert_eq!((decoded.queue_offset, decoded.physical_offset), offsets);
        prop_assert_eq!(decoded.store_timestamp_ms, times.2);
        prop_assert_eq!(sysflag::compression(decoded.sys_flag), sysflag::compression(new.sys_flag));
        let again = NewRecord {
            body_crc: decoded.body_crc, queue_id: decoded.queue_id, flag: decoded.flag, sys_flag: new.sys_flag,
            born_timestamp_ms: decoded.born_timestamp_ms, born_host: decoded.born_host, store_host: decoded.store_host,
            reconsume_times: decoded.reconsume_times, prepared_transaction_offset: decoded.prepared_transaction_offset,
            body: decoded.body, topic: decoded.topic, properties: decoded.properties,
with_checksum: false,
};
        prop_assert_eq!(again, new);
    }

    #[test]
    fn property_strings(entries in proptest::collection::vec(("[^\u{1}\u{2}]{1,8}", "[^\u{1}\u{2}]{1,8}"), 0..8)) {
        let set = Properties::from_iter(entries);
        let text = set.encode();
        prop_assert_eq!(&Properties::parse(&text), &set);
        for (name, value) in set.iter() {
            prop_assert_eq!(properties::get(&text, name), Some(value));
        }
    }

    /// `get` must agree with the map that Java builds, on any text whatever.
    #[test]
    fn property_lookup_agrees_with_parsing(text in "[ab\u{1}\u{2}]{0,24}", name in "[ab]{0,3}") {
        let parsed = Properties::parse(&text);
        prop_assert_eq!(properties::get(&text, &name), parsed.get(&name));
    }

    #[test]
    fn batches(items in proptest::collection::vec((any::<i32>(), proptest::collection::vec(any::<u8>(), 0..32), text()), 0..6)) {
        let items: Vec<_> =
            items.iter().map(|(flag, body, properties)| batch::Item { flag: *flag, body, properties }).collect();
        let mut body = BytesMut::new();
        items.iter().for_each(|item| batch::push(&mut body, item));
        prop_assert_eq!(batch::items(&body).collect::<Result<Vec<_>, _>>().unwrap(), items);
    }

    #[test]
    fn offset_ids(host in address(), offset in any::<u64>()) {
        let id = message_id::encode_offset_id(host, offset);
        prop_assert_eq!(message_id::decode_offset_id(&id), Some((host, offset)));
    }
}
