//! The paths that every message takes, to be counted by callgrind: `cargo xtask instructions`.
//!
//! Arguments: the path, and how often it is taken. Two runs with different numbers tell the cost of one message; what
//! starts and ends the process falls out of the difference.

use std::hint::black_box;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::BytesMut;
use platform::clock::RealClock;
use platform::disk::RealDisk;
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::frame::{self, Codec, FRAME_BYTES_MAX};
use protocol::header::Headers;
use protocol::headers::{
    SendMessageRequest, SendMessageRequestV2, SendMessageResponse, SendReader,
};
use protocol::record::{self, CheckBody};
use protocol::reply::{Answers, ReplyHead};
use storage::{Config, FlushMode, NewMessage, Store};

/// Messages of one append: what a busy connection brings with one read.
const BATCH: usize = 64;
const BODY_BYTES: usize = 1024;
const PROPERTIES: &str = "UNIQ_KEY\u{1}7F000001000018B4AAC217E3B4F80000\u{2}WAIT\u{1}true\u{2}";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, times] = arguments.as_slice() else {
        eprintln!("usage: instructions PATH TIMES");
        return ExitCode::from(2);
    };
    let times: usize = times.parse().expect("a number of times");
    match path.as_str() {
        "decode-send-json" => decode(Codec::Json, times),
        "decode-send-binary" => decode(Codec::Rocketmq, times),
        "encode-answer-json" => encode(Codec::Json, times),
        "encode-answer-binary" => encode(Codec::Rocketmq, times),
        "decode-record" => decode_record(times),
        "append" => append(times),
        _ => {
            eprintln!("there is no path {path}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// From the bytes of frames to the headers of sends: those of one read, which differ as a client's do.
fn decode(codec: Codec, times: usize) {
    let mut bytes = BytesMut::new();
    for number in 0..BATCH {
        let properties = PROPERTIES.replace("0000\u{2}", &format!("{number:04X}\u{2}"));
        let header = SendMessageRequestV2(SendMessageRequest {
            producer_group: "producers".into(),
            topic: "TopicTest".into(),
            default_topic: "TBW102".into(),
            default_topic_queue_nums: 4,
            queue_id: (number % 8) as i32,
            born_timestamp_ms: 1_700_000_000_000 + number as i64 / 10,
            properties: Some(properties.into()),
            reconsume_times: Some(0),
            unit_mode: Some(false),
            batch: Some(false),
            ..SendMessageRequest::default()
        });
        let mut command = Command::request(RequestCode::SEND_MESSAGE_V2, &header);
        command.opaque = 12_340 + number as i32;
        command.body = vec![b'x'; BODY_BYTES].into();
        command.codec = codec;
        command.encode(&mut bytes);
    }
    for _ in 0..times / BATCH {
        let mut rest = black_box(&bytes[..]);
        let mut headers = Headers::default();
        let mut sends = SendReader::default();
        while let Some((frame, length)) = frame::split(rest, FRAME_BYTES_MAX).expect("a frame") {
            let header = headers.decode(frame.codec, frame.header);
            let header = header.expect("a header");
            let send = sends.read(&header.fields, false).expect("a send");
            black_box((send, frame.body));
            rest = &rest[length..];
        }
    }
}

/// The answers to sends, which differ as those to a client do.
fn encode(codec: Codec, times: usize) {
    let mut answers = Answers::default();
    let mut out = BytesMut::with_capacity(64 << 10);
    let answer = |number: usize| SendMessageResponse {
        msg_id: format!("7F00000100002A9F00000000{number:08X}"),
        queue_id: (number % 8) as i32,
        queue_offset: 123_456 + number as i64 / 8,
        transaction_id: Some(format!("7F000001000018B4AAC217E3B4F8{number:04X}")),
        ..SendMessageResponse::default()
    };
    let fields: Vec<SendMessageResponse> = (0..BATCH).map(answer).collect();
    for time in 0..times {
        if time % BATCH == 0 {
            out.clear();
        }
        let head = ReplyHead {
            codec,
            opaque: 123_456 + (time % BATCH) as i32,
            oneway: false,
        };
        let fields = &fields[time % BATCH];
        answers.encode(&mut out, head, ResponseCode::SUCCESS, None, fields, &[]);
        black_box(&out);
    }
}

fn decode_record(times: usize) {
    let new = record::NewRecord {
        body_crc: record::body_crc(&[b'x'; BODY_BYTES]),
        queue_id: 3,
        flag: 0,
        sys_flag: 0,
        born_timestamp_ms: 1_700_000_000_000,
        born_host: SocketAddr::from(([127, 0, 0, 1], 1)),
        store_host: SocketAddr::from(([127, 0, 0, 1], 2)),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body: &[b'x'; BODY_BYTES],
        topic: "TopicTest",
        properties: PROPERTIES,
        with_checksum: false,
    };
    let mut bytes = BytesMut::new();
    record::encode(&new, 7, 4096, 1_700_000_000_001, &mut bytes);
    for _ in 0..times {
        black_box(record::decode(black_box(&bytes), CheckBody::Yes).expect("a record"));
    }
}

/// `times` messages into the log, in batches. What the kernel does is not counted.
fn append(times: usize) {
    let dir = std::env::temp_dir().join(format!("apogee-instructions-{}", std::process::id()));
    let config = Config {
        root: dir.clone(),
        segment_bytes: 64 << 20,
        index_slots: 1000,
        index_entries: 1 << 20,
        flush: FlushMode::Async,
        // The threads behind the log stay out of the count.
        flush_interval_ms: 3_600_000,
        write_behind_interval_ms: 3_600_000,
        disk_max_used_ratio: 99,
        clean_forcibly_ratio: 100,
        warning_ratio: 100,
        ..Config::default()
    };
    let store = Store::open(config, Arc::new(RealDisk), Arc::new(RealClock::new()))
        .expect("a directory to write to");
    let body = vec![b'x'; BODY_BYTES];
    let messages: Vec<NewMessage<'_>> = (0..BATCH)
        .map(|number| NewMessage {
            topic: "TopicTest",
            queue_id: (number % 8) as i32,
            flag: 0,
            sys_flag: 0,
            born_timestamp_ms: 1_700_000_000_000,
            born_host: SocketAddr::from(([127, 0, 0, 1], 1)),
            store_host: SocketAddr::from(([127, 0, 0, 1], 2)),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: &body,
            properties: PROPERTIES,
        })
        .collect();
    let mut appended = Vec::with_capacity(BATCH);
    for _ in 0..times / BATCH {
        appended.clear();
        store
            .append(black_box(&messages), &mut appended)
            .expect("a disk with room");
        black_box(&appended);
    }
    // Not closed: the write behind would be counted.
    std::fs::remove_dir_all(&dir).expect("the directory was made here");
    std::process::exit(0);
}
