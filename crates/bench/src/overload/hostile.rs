//! Clients that hold a broker's memory: frames that do not end, answers that nobody reads.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use protocol::frame::FRAME_BYTES_MAX;

use crate::frames::{Pull, PullFrame, Selects};
use crate::load::Load;
use crate::wire::connect;

/// How often each connection is looked at.
const TICK: Duration = Duration::from_millis(10);
/// Pulls that a deaf consumer sends.
const PULLS: usize = 2_000;

/// One connection, and what it has not sent yet.
struct Peer<'a> {
    kind: &'static str,
    stream: Option<TcpStream>,
    bytes: &'a [u8],
    sent: usize,
}

/// Keeps all of them busy until `is_over`; one that the broker closed comes back. Gives how many were closed, by kind.
pub(super) fn run(
    load: &Load,
    deaf_consumers: usize,
    half_frames: usize,
    is_over: &AtomicBool,
) -> Result<BTreeMap<String, u64>> {
    // The longest that is allowed: the limit counts the length itself, too.
    let announced = (FRAME_BYTES_MAX as u32 - 4).to_be_bytes();
    let header = 200_u32.to_be_bytes();
    let half_header = [&announced[..], &header, &[b'{'; 100]].concat();
    let whole_header = br#"{"code":310,"flag":0,"language":"JAVA","opaque":7,"version":479,"extFields":{"a":"g"}}"#;
    let header_bytes = (whole_header.len() as u32).to_be_bytes();
    let mut half_body = [&announced[..], &header_bytes, whole_header].concat();
    half_body.resize(FRAME_BYTES_MAX / 2, b'x');
    let mut pulls = Vec::new();
    let pull = Pull {
        messages_max: 32,
        wait_ms: None,
        selects: Selects::All,
    };
    for slot in 0..PULLS {
        let queue_id = (slot % load.queues as usize) as i32;
        let topic = &load.topic_names()[0];
        PullFrame::new("deaf", topic, queue_id, slot, &pull, load.codec).write(0, &mut pulls);
    }
    let kinds: [(&'static str, &[u8]); 3] = [
        ("length only", &announced),
        ("half a header", &half_header),
        ("half a body", &half_body),
    ];
    let mut peers: Vec<Peer<'_>> = (0..half_frames)
        .map(|index| kinds[index % kinds.len()])
        .chain((0..deaf_consumers).map(|_| ("deaf consumer", &pulls[..])))
        .map(|(kind, bytes)| Peer {
            kind,
            stream: None,
            bytes,
            sent: 0,
        })
        .collect();
    let mut closed = BTreeMap::new();
    while !is_over.load(Ordering::Relaxed) {
        for peer in &mut peers {
            if peer.stream.is_none() {
                // A broker that takes no connection now may take the next one.
                peer.stream = connect(load.target).ok();
                peer.sent = 0;
                if let Some(stream) = &peer.stream {
                    stream.set_nonblocking(true)?;
                }
            }
            if !peer.go_on() {
                peer.stream = None;
                *closed.entry(peer.kind.to_owned()).or_default() += 1;
            }
        }
        thread::sleep(TICK);
    }
    Ok(closed)
}

impl Peer<'_> {
    /// False when the broker has closed the connection.
    fn go_on(&mut self) -> bool {
        let Some(stream) = &mut self.stream else {
            return true;
        };
        while self.sent < self.bytes.len() {
            match stream.write(&self.bytes[self.sent..]) {
                Ok(sent) if sent > 0 => self.sent += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Ok(_) | Err(_) => return false,
            }
        }
        // Unread answers of a deaf consumer stay where they are; an unfinished frame has no answer, so a read only shows an end.
        if self.kind == "deaf consumer" {
            return stream.take_error().is_ok_and(|error| error.is_none());
        }
        match stream.read(&mut [0; 64]) {
            Ok(count) => count > 0,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }
}
