//! Bytes that make no sense: the connection is closed with one line in the log, and nobody else is harmed.

use std::time::Duration;

use remoting::ServerConfig;
use tokio::io::AsyncWriteExt;

use crate::support::*;

fn frame(header_word: u32, header: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let length = 4 + header.len() + body.len();
    bytes.extend_from_slice(&(length as u32).to_be_bytes());
    bytes.extend_from_slice(&header_word.to_be_bytes());
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(body);
    bytes
}

fn json(header: &[u8]) -> Vec<u8> {
    frame(header.len() as u32, header, b"")
}

fn binary(header: &[u8]) -> Vec<u8> {
    frame(1 << 24 | header.len() as u32, header, b"")
}

/// Reproducible bytes without a pattern.
fn noise(mut seed: u64, count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count);
    for _ in 0..count {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        bytes.push(seed as u8);
    }
    bytes
}

fn table() -> Vec<(&'static str, Vec<u8>)> {
    let mut deep = br#"{"code":1,"x":"#.to_vec();
    deep.extend(std::iter::repeat_n(b'[', 100_000));
    vec![
        (
            "a length of 2 GiB",
            vec![0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        ),
        (
            "a negative length",
            vec![0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        ),
        ("a length of zero", vec![0; 8]),
        (
            "one byte more than the largest frame",
            (16_777_216_u32 - 3).to_be_bytes().to_vec(),
        ),
        (
            "a header longer than its frame",
            vec![0, 0, 0, 10, 0, 0, 1, 0, b'{', b'}', 0, 0, 0, 0],
        ),
        ("an unknown codec", frame(9 << 24 | 2, b"{}", b"")),
        (
            "an HTTP request",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        ),
        ("no JSON", json(b"this is no json")),
        ("half a JSON object", json(br#"{"code":10,"opaque":"#)),
        (
            "invalid UTF-8 in a JSON string",
            json(b"{\"code\":1,\"flag\":0,\"opaque\":1,\"remark\":\"\xff\xfe\"}"),
        ),
        (
            "a JSON code that is no number",
            json(br#"{"code":"x","flag":0,"opaque":1}"#),
        ),
        ("deep JSON", json(&deep)),
        ("a binary header that is too short", binary(&[0, 1, 0])),
        ("a binary remark that is too long", {
            let mut header = vec![0, 1, 0, 1, 0xdf, 0, 0, 0, 1, 0, 0, 0, 0];
            header.extend_from_slice(&0x7fff_ffff_u32.to_be_bytes());
            header.extend_from_slice(&[0; 4]);
            binary(&header)
        }),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_bytes_close_their_connection_with_one_line_and_harm_no_other() {
    let running = start(ServerConfig::default());
    let mut bystander = Raw::connect(running.addr).await;
    bystander.echoes(0).await;
    for (opaque, (what, bytes)) in table().into_iter().enumerate() {
        let mut raw = Raw::connect(running.addr).await;
        // The server may close before it has read everything.
        let _ = raw.socket.write_all(&bytes).await;
        assert!(
            raw.next().await.is_none(),
            "{what}: the connection must be closed"
        );
        log::assert_closed_with_one_line(&raw, what).await;
        bystander.echoes(opaque as i32).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_frames_before_a_malformed_one_are_answered() {
    let running = start(ServerConfig::default());
    let mut raw = Raw::connect(running.addr).await;
    let mut bytes = bytes_of(request(ECHO, &[], b""), 1).to_vec();
    bytes.extend_from_slice(&bytes_of(request(ECHO, &[], b""), 2));
    bytes.extend_from_slice(&[0x7f, 0xff, 0xff, 0xff]);
    raw.send(&bytes).await;
    assert_eq!(raw.opaques(2).await, [1, 2]);
    assert!(raw.next().await.is_none());
    log::assert_closed_with_one_line(&raw, "a good frame, then a bad one").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_never_harm_the_server() {
    let running = start(ServerConfig {
        half_frame_close: Duration::from_millis(100),
        ..ServerConfig::default()
    });
    for seed in 1..=100 {
        let mut raw = Raw::connect(running.addr).await;
        let _ = raw.socket.write_all(&noise(seed, 3_000)).await;
        // Some noise announces a frame that never comes; it is closed by its time.
        assert!(raw.next().await.is_none(), "seed {seed}");
        log::assert_closed_with_one_line(&raw, &format!("seed {seed}")).await;
    }
    Raw::connect(running.addr).await.echoes(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_frame_and_then_silence_is_closed_in_time() {
    let running = start(ServerConfig {
        half_frame_close: Duration::from_millis(50),
        ..ServerConfig::default()
    });
    let whole = bytes_of(request(ECHO, &[("a", "b")], b"body"), 1);
    for cut in [1, 4, 8, whole.len() - 1] {
        let mut raw = Raw::connect(running.addr).await;
        raw.echoes(5).await;
        raw.send(&whole[..cut]).await;
        assert!(raw.next().await.is_none(), "{cut} bytes");
        log::assert_closed_with_one_line(&raw, "half a frame").await;
    }
    // A connection that only rests is not a half frame.
    let mut resting = Raw::connect(running.addr).await;
    resting.echoes(1).await;
    tokio::time::timeout(Duration::from_millis(200), resting.next())
        .await
        .expect_err("a connection at rest stays open");
    resting.echoes(2).await;
}
