//! Too much: what is refused says code 2, the limit and its key; what keeps clients together is served.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::frame;
use protocol::headers::GetMaxOffsetRequest;
use remoting::{Client, ClientConfig, NoPushes};

use crate::harness::*;

/// In process, since a broker without memory takes no connection.
async fn without_memory() -> (TestBroker, Client) {
    let broker = TestBroker::start_with(|keys| keys.connection_memory_bytes = 0).await;
    let client = Client::new(ClientConfig::default(), Arc::new(NoPushes));
    client.register_local("broker", broker.running.service());
    (broker, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_memory_messages_are_refused_with_the_limit_and_its_key() {
    let (_broker, client) = without_memory().await;
    for request in [send_v2("T", 0, b"body", ""), pull("T", 0, 0)] {
        let answer = client.call("broker", request, TIMEOUT).await.unwrap();
        assert_eq!(answer.response_code(), ResponseCode::SYSTEM_BUSY);
        let remark = answer.remark.unwrap();
        assert!(
            remark.starts_with("[OVERLOAD]system busy, start flow control for a while: ")
                && remark.contains("connectionMemoryBytes=0"),
            "{remark}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_memory_small_requests_are_served() {
    let (_broker, client) = without_memory().await;
    let header = GetMaxOffsetRequest {
        topic: "TBW102".to_owned(),
        queue_id: 0,
        ..GetMaxOffsetRequest::default()
    };
    let offset = Command::request(RequestCode::GET_MAX_OFFSET, &header);
    let configuration = Command::request(RequestCode::GET_BROKER_CONFIG, &());
    for request in [offset, configuration] {
        let answer = client.call("broker", request, TIMEOUT).await.unwrap();
        assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    }
}

/// Sends of one flood, each with its number in front.
const FLOOD: usize = 400;
const FLOOD_BODY_BYTES: usize = 32 << 10;
const FRAME_BYTES_MAX: usize = 1 << 20;

/// Writes sends on a connection of its own as fast as it takes them, and gives all answers by the number of their send.
fn flood(addr: SocketAddr) -> Vec<Command> {
    let mut socket = TcpStream::connect(addr).unwrap();
    let mut writing = socket.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        for number in 0..FLOOD {
            let mut body = format!("{number}:").into_bytes();
            body.resize(FLOOD_BODY_BYTES, b'x');
            let mut command = send_v2("Flood", 0, &body, "");
            command.opaque = number as i32;
            let mut bytes = BytesMut::new();
            command.encode(&mut bytes);
            writing.write_all(&bytes).unwrap();
        }
    });
    let mut answers: Vec<Command> = Vec::new();
    let (mut bytes, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    while answers.len() < FLOOD {
        let count = socket.read(&mut piece).unwrap();
        assert_ne!(count, 0, "the connection was closed");
        bytes.extend_from_slice(&piece[..count]);
        let mut at = 0;
        while let Some((frame, length)) = frame::split(&bytes[at..], FRAME_BYTES_MAX).unwrap() {
            answers.push(Command::decode(&frame).unwrap());
            at += length;
        }
        bytes.drain(..at);
    }
    writer.join().unwrap();
    answers.sort_by_key(|answer| answer.opaque);
    answers
}

#[tokio::test]
async fn sends_that_waited_too_long_are_refused_and_no_acknowledged_one_is_lost() {
    let broker = TestBroker::start_with(|keys| keys.wait_time_mills_in_send_queue = 20).await;
    // Whether any of the flood is taken depends on what was measured last; these are.
    let mut acknowledged = Vec::new();
    for calm in ["first", "second", "third"] {
        broker.sent("Flood", calm.as_bytes(), "").await;
        acknowledged.push(calm.to_owned());
    }
    let calm = acknowledged.len();
    let addr = broker.addr();
    let flood = std::thread::spawn(move || flood(addr));
    while !flood.is_finished() {
        // The one thread that broker and test share is busy with something else, as on a machine that has too much to do.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(40) {
            std::hint::spin_loop();
        }
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    }
    let answers = flood.join().unwrap();
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(answer.opaque, number as i32);
        if answer.response_code() == ResponseCode::SUCCESS {
            acknowledged.push(number.to_string());
            continue;
        }
        assert_eq!(answer.response_code(), ResponseCode::SYSTEM_BUSY);
        let remark = answer.remark.as_deref().unwrap();
        assert!(
            remark.starts_with("[TIMEOUT_CLEAN_QUEUE]broker busy, start flow control for a while")
                && remark.contains("waitTimeMillsInSendQueue=20"),
            "{remark}"
        );
    }
    assert!(acknowledged.len() - calm < FLOOD, "nothing was refused");
    // What was refused is not there, and everything else is.
    let broker = broker.restart().await;
    let mut found = Vec::new();
    let mut offset = 0;
    while found.len() < acknowledged.len() {
        let (_, _, messages) = broker.pulled("Flood", offset).await;
        assert!(!messages.is_empty(), "{} are there", found.len());
        offset += messages.len() as i64;
        for message in messages {
            let text = String::from_utf8(message.body).unwrap();
            found.push(text.split(':').next().unwrap().to_owned());
        }
    }
    assert_eq!(found, acknowledged);
    assert_eq!(broker.max_offset("Flood").await, offset);
    // Others are served: it is the waiting that is refused.
    broker.sent("Flood", b"last", "").await;
}
