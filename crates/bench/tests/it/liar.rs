//! A proxy in front of a broker that breaks one promise.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// A send is acknowledged and not stored.
    LoseSend,
    /// A send is stored twice and acknowledged once.
    RepeatSend,
    /// A send is refused.
    RefuseSend,
    /// A byte of a message changes on the way to its receiver.
    DamageMessage,
    /// An answer with messages is handed out without them.
    SkipMessages,
}

/// The frame of its kind that is tampered with. Late enough for a run to be under way.
const VICTIM: u64 = 20;
/// Opaque of the request that only the proxy knows of.
const OWN_OPAQUE: i32 = 7;

/// Serves on the returned address for as long as the runtime lives.
pub(crate) async fn lie(lie: Lie, broker: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let seen = Arc::new(AtomicU64::new(0));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(broker).await.unwrap();
            client.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let to_client = Arc::new(Mutex::new(to_client));
            tokio::spawn(requests(
                lie,
                seen.clone(),
                from_client,
                to_server,
                to_client.clone(),
            ));
            tokio::spawn(answers(lie, seen.clone(), from_server, to_client));
        }
    });
    addr
}

/// The next whole frame; `None` at the end of the connection.
async fn next(from: &mut OwnedReadHalf, buffer: &mut BytesMut) -> Option<Command> {
    loop {
        if let Some((frame, length)) = frame::split(buffer, frame::FRAME_BYTES_MAX).unwrap() {
            let command = Command::decode(&frame).unwrap();
            let _ = buffer.split_to(length);
            return Some(command);
        }
        if from.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

fn encoded(command: &Command) -> BytesMut {
    let mut out = BytesMut::new();
    command.encode(&mut out);
    out
}

async fn requests(
    lie: Lie,
    seen: Arc<AtomicU64>,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    back: Arc<Mutex<OwnedWriteHalf>>,
) {
    let mut buffer = BytesMut::new();
    while let Some(request) = next(&mut from, &mut buffer).await {
        let is_send = request.request_code() == RequestCode::SEND_MESSAGE_V2;
        let tampers = matches!(lie, Lie::LoseSend | Lie::RepeatSend | Lie::RefuseSend);
        let is_victim = tampers && is_send && seen.fetch_add(1, Ordering::Relaxed) == VICTIM;
        if is_victim && lie == Lie::RepeatSend {
            let again = Command {
                opaque: OWN_OPAQUE,
                ..request.clone()
            };
            to.write_all(&encoded(&again)).await.unwrap();
        } else if is_victim {
            let code = match lie {
                Lie::RefuseSend => ResponseCode::SYSTEM_BUSY,
                _ => ResponseCode::SUCCESS,
            };
            let answer = Command {
                opaque: request.opaque,
                ..Command::response(code, Some("a lie".to_owned()))
            };
            let mut back = back.lock().await;
            back.write_all(&encoded(&answer)).await.unwrap();
            continue;
        }
        if to.write_all(&encoded(&request)).await.is_err() {
            return;
        }
    }
}

async fn answers(
    lie: Lie,
    seen: Arc<AtomicU64>,
    mut from: OwnedReadHalf,
    to: Arc<Mutex<OwnedWriteHalf>>,
) {
    let mut buffer = BytesMut::new();
    while let Some(mut answer) = next(&mut from, &mut buffer).await {
        if answer.opaque == OWN_OPAQUE {
            continue;
        }
        let tampers = matches!(lie, Lie::DamageMessage | Lie::SkipMessages);
        let has_messages = !answer.body.is_empty();
        if tampers && has_messages && seen.fetch_add(1, Ordering::Relaxed) == VICTIM {
            let mut body = answer.body.to_vec();
            if lie == Lie::SkipMessages {
                body.clear();
            } else {
                let text = body.windows(4).position(|bytes| bytes == b"cdef").unwrap();
                body[text] ^= 1;
            }
            answer.body = body.into();
        }
        if to.lock().await.write_all(&encoded(&answer)).await.is_err() {
            return;
        }
    }
}
