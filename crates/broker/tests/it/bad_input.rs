//! Bytes and requests that no client should send: a clear answer or a closed connection, and nobody else notices.

use std::time::Duration;

use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::frame::Codec;
use protocol::header::FieldMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::*;

/// Numbers from a seed, so that a failure can be seen again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// Sends bytes on a connection of their own and says whether the broker closed it.
async fn closes(broker: &TestBroker, bytes: &[u8]) -> bool {
    let mut socket = TcpStream::connect(broker.addr()).await.unwrap();
    // The broker may close while we still write.
    let _ = socket.write_all(bytes).await;
    let mut answer = [0; 1024];
    loop {
        match tokio::time::timeout(Duration::from_millis(300), socket.read(&mut answer)).await {
            Ok(Ok(0) | Err(_)) => return true,
            Ok(Ok(_)) => {}
            Err(_) => return false,
        }
    }
}

#[tokio::test]
async fn malformed_frames_close_their_connection_only() {
    let broker = TestBroker::start().await;
    broker.sent("Topic", b"before", "").await;
    let mut invalid_utf8 = Vec::from(100u32.to_be_bytes());
    invalid_utf8.extend(96u32.to_be_bytes());
    invalid_utf8.extend([0xff; 96]);
    let cases: [(&str, Vec<u8>); 6] = [
        (
            "a length of 2 GiB",
            vec![0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        ),
        (
            "a negative length",
            vec![0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        ),
        ("a length of 0", vec![0, 0, 0, 0, 0, 0, 0, 0]),
        (
            "a header longer than its frame",
            vec![0, 0, 0, 8, 0, 0, 0xff, 0xff, 1, 2, 3, 4],
        ),
        ("an unknown codec", vec![0, 0, 0, 8, 9, 0, 0, 4, 1, 2, 3, 4]),
        ("a header that is not UTF-8", invalid_utf8),
    ];
    for (what, bytes) in cases {
        assert!(
            closes(&broker, &bytes).await,
            "{what} did not close the connection"
        );
        broker.sent("Topic", what.as_bytes(), "").await;
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..50 {
        // The first byte keeps it from being taken for TLS or for a frame that is only long.
        let mut bytes = random.bytes(300);
        bytes[0] = 0x80;
        assert!(closes(&broker, &bytes).await);
    }
    broker.sent("Topic", b"after", "").await;
}

#[tokio::test]
async fn half_a_frame_and_silence_disturb_nobody() {
    let broker = TestBroker::start().await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        let mut socket = TcpStream::connect(broker.addr()).await.unwrap();
        socket.write_all(&[0, 1, 0, 0, 0, 0, 0]).await.unwrap();
        silent.push(socket);
    }
    broker.sent("Topic", b"x", "").await;
    assert_eq!(broker.max_offset("Topic").await, 1);
}

#[tokio::test]
async fn an_unknown_code_is_answered() {
    let broker = TestBroker::start().await;
    for code in [-1, 0, 9999, i32::MAX] {
        for codec in [Codec::Json, Codec::Rocketmq] {
            // The binary codec holds 16 bits of a code.
            if codec == Codec::Rocketmq && i16::try_from(code).is_err() {
                continue;
            }
            let answer = broker
                .call(with_codec(Command::request(RequestCode(code), &()), codec))
                .await;
            assert_eq!(
                answer.response_code(),
                ResponseCode::REQUEST_CODE_NOT_SUPPORTED
            );
            assert_eq!(
                answer.remark.unwrap(),
                format!(" request type {code} not supported")
            );
        }
    }
}

#[tokio::test]
async fn a_topic_of_ten_thousand_characters_is_refused() {
    let broker = TestBroker::start().await;
    let topic = "t".repeat(10_000);
    for command in [
        send_v1(&topic, 0, b"x", ""),
        send_v2(&topic, 0, b"x", ""),
        pull(&topic, 0, 0),
    ] {
        let answer = broker.call(command).await;
        assert_ne!(answer.response_code(), ResponseCode::SUCCESS);
        assert!(answer.remark.is_some());
    }
}

/// Every code that exists, with nothing, with rubbish, and with fields of the wrong kind.
#[tokio::test]
async fn no_request_harms_the_broker() {
    let broker = TestBroker::start().await;
    broker.sent("Topic", b"x", "").await;
    let mut random = Random(42);
    let rubbish = random.bytes(200);
    let wrong: FieldMap = [
        ("topic", ""),
        ("b", "\u{0}"),
        ("queueId", "99999999999999999999"),
        ("e", "-2147483648"),
        ("consumerGroup", "../.."),
        ("group", ""),
        ("offset", "-9223372036854775808"),
        ("queueOffset", "9223372036854775807"),
        ("maxMsgNums", "-1"),
        ("timestamp", "x"),
        ("commitOffset", "-5"),
        ("msgId", "zz"),
        ("maxNum", "2147483647"),
    ]
    .into_iter()
    .collect();
    let bodies: [&[u8]; 6] = [b"", b"{}", b"[]", b"null", b"{\"a\":", &rubbish];
    for (code, name) in RequestCode::ALL {
        for body in bodies {
            for fields in [&FieldMap::default(), &wrong] {
                let command = Command::request(*code, fields).with_body(body.to_vec());
                let answer = broker
                    .client
                    .call(&broker.addr().to_string(), command, TIMEOUT)
                    .await;
                assert!(answer.is_ok(), "{name} with {body:?}: {answer:?}");
            }
        }
    }
    broker.sent("Topic", b"still there", "").await;
    assert_eq!(broker.max_offset("Topic").await, 2);
}
