//! Many frames in one read are one batch; a frame in many reads is one request.

use protocol::frame::Codec;
use remoting::ServerConfig;

use crate::support::*;

fn frames(codec: Codec, count: i32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for opaque in 0..count {
        let mut echo = request(ECHO, &[("k", "v")], body);
        echo.codec = codec;
        bytes.extend_from_slice(&bytes_of(echo, opaque));
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_frames_of_one_write_are_served_in_one_call_and_answered_in_order() {
    for codec in CODECS {
        let running = start(ServerConfig::default());
        let mut raw = Raw::connect(running.addr).await;
        // A first read shows the server the size of things only when it fills the buffer, so this stays below it.
        raw.send(&frames(codec, 32, b"body")).await;
        assert_eq!(raw.opaques(32).await, (0..32).collect::<Vec<_>>());
        assert_eq!(*running.echo.batches.lock().unwrap(), [32]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_arrives_byte_by_byte_is_one_request() {
    for codec in CODECS {
        let running = start(ServerConfig::default());
        let mut raw = Raw::connect(running.addr).await;
        for byte in frames(codec, 3, "中文".as_bytes()) {
            raw.send(&[byte]).await;
            tokio::task::yield_now().await;
        }
        for opaque in 0..3 {
            let answer = raw.next().await.unwrap();
            assert_eq!(answer.opaque, opaque);
            assert_eq!(answer.codec, codec);
            assert_eq!(answer.body, "中文".as_bytes());
            assert_eq!(answer.fields.get("k"), Some("v"));
        }
        assert_eq!(running.echo.served(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_larger_than_the_read_buffer_arrives_whole() {
    let running = start(ServerConfig {
        read_buffer_bytes_max: 16 * 1024,
        ..ServerConfig::default()
    });
    let mut raw = Raw::connect(running.addr).await;
    let large: Vec<u8> = (0..5_000_000_u32).map(|n| n as u8).collect();
    let (mut sending, receiving) = {
        let mut bytes = frames(Codec::Json, 2, b"small");
        bytes.extend_from_slice(&bytes_of(request(ECHO, &[], &large), 2));
        bytes.extend_from_slice(&bytes_of(request(ECHO, &[], b"after"), 3));
        (bytes, &mut raw)
    };
    for chunk in sending.chunks_mut(100_000) {
        receiving.send(chunk).await;
    }
    assert_eq!(receiving.opaques(2).await, [0, 1]);
    let answer = receiving.next().await.unwrap();
    assert!(answer.body == large, "the large body came back changed");
    assert_eq!(receiving.next().await.unwrap().body, &b"after"[..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_small_frames_are_cut_into_bounded_batches() {
    let running = start(ServerConfig::default());
    let mut raw = Raw::connect(running.addr).await;
    let bytes = frames(Codec::Rocketmq, 20_000, b"");
    let (mut reading, mut writing) = raw.socket.split();
    let write = async {
        use tokio::io::AsyncWriteExt;
        writing.write_all(&bytes).await.unwrap();
    };
    let read = async {
        use tokio::io::AsyncReadExt;
        let mut received = Vec::new();
        let mut count = 0;
        while count < 20_000 {
            assert!(reading.read_buf(&mut received).await.unwrap() > 0);
            let mut taken = 0;
            while let Some((_, bytes)) =
                protocol::frame::split(&received[taken..], 1 << 24).unwrap()
            {
                taken += bytes;
                count += 1;
            }
            received.drain(..taken);
        }
    };
    within(async { tokio::join!(write, read) }).await;
    let batches = running.echo.batches.lock().unwrap();
    assert_eq!(batches.iter().sum::<usize>(), 20_000);
    assert!(batches.iter().all(|batch| *batch <= 1024), "{batches:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_way_requests_are_served_and_not_answered() {
    let running = start(ServerConfig::default());
    let mut raw = Raw::connect(running.addr).await;
    let mut bytes = Vec::new();
    for (opaque, code) in [ECHO, LATER, HOLD, LARGE, PERMIT].into_iter().enumerate() {
        let mut oneway = request(code, &[("position", "0"), ("bytes", "10")], b"");
        oneway.mark_oneway();
        bytes.extend_from_slice(&bytes_of(oneway, opaque as i32));
    }
    raw.send(&bytes).await;
    // Answers keep their order, so an answer to any of the five would come before this one.
    raw.echoes(77).await;
    assert_eq!(running.echo.served(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_nobody_is_dropped_and_the_connection_goes_on() {
    let running = start(ServerConfig::default());
    let mut raw = Raw::connect(running.addr).await;
    let stray = protocol::command::Command::response(OK, None);
    raw.send(&bytes_of(stray, 12345)).await;
    raw.echoes(1).await;
}
