//! The service under test, a client's handler, raw sockets, and the log.

use std::fmt::Write as _;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::frame::{self, Codec, FRAME_BYTES_MAX};
use protocol::header::FieldMap;
use protocol::reply::ReplyHead;
use remoting::{
    Client, ClientConfig, Connection, Gate, HeldFailure, InboundHandler, Replies, Request, Server,
    ServerConfig, Service,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// No test waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The answer is the request: its fields, its body.
pub(crate) const ECHO: RequestCode = RequestCode(1);
/// As ECHO, from another thread, after `serve`.
pub(crate) const LATER: RequestCode = RequestCode(2);
/// As ECHO, held until the gate passes the field `position`.
pub(crate) const HOLD: RequestCode = RequestCode(3);
/// No answer.
pub(crate) const SILENCE: RequestCode = RequestCode(4);
/// A one-way command to the client, then the answer.
pub(crate) const PUSH: RequestCode = RequestCode(5);
/// A question to the client; its answer is the answer.
pub(crate) const ASK: RequestCode = RequestCode(6);
/// An answer with a body of `bytes` bytes.
pub(crate) const LARGE: RequestCode = RequestCode(7);
/// The server closes the connection, without an answer.
pub(crate) const CLOSE: RequestCode = RequestCode(8);
/// Takes a permit for good; the answer's remark says whether there was one.
pub(crate) const PERMIT: RequestCode = RequestCode(9);

/// Handled outside the read loop, with a permit, until the gate moves; then answered.
pub(crate) const WORK: RequestCode = RequestCode(10);

/// What the server sends to clients.
pub(crate) const PUSHED: RequestCode = RequestCode(900);
pub(crate) const ASKED: RequestCode = RequestCode(901);

pub(crate) const OK: ResponseCode = ResponseCode(0);
pub(crate) const REFUSED: ResponseCode = ResponseCode(1);

/// A service that does what its requests say.
#[derive(Default)]
pub(crate) struct Echo {
    /// How many requests each `serve` call had.
    pub(crate) batches: Mutex<Vec<usize>>,
    pub(crate) served: AtomicUsize,
    pub(crate) closed: watch::Sender<usize>,
    pub(crate) gate: watch::Sender<Gate>,
    pub(crate) no_gate: bool,
    pub(crate) connections: Mutex<Vec<Arc<Connection>>>,
    pub(crate) permits: Mutex<Vec<remoting::Permit>>,
}

impl Echo {
    pub(crate) fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    pub(crate) fn pass(&self, position: u64) {
        self.gate.send_modify(|gate| gate.position = position);
    }

    fn one(&self, connection: &Arc<Connection>, request: &Request<'_>, replies: &mut Replies) {
        let head = request.head();
        let fields: FieldMap = request.header.fields.to_map();
        match request.code() {
            ECHO => replies.reply(head, OK, Some("echo"), &fields, &[request.body]),
            LATER => {
                let connection = connection.clone();
                let body = Bytes::copy_from_slice(request.body);
                std::thread::spawn(move || {
                    connection.reply_parts(head, OK, Some("echo"), &fields, &[body])
                });
            }
            HOLD => {
                let position = fields.get("position").unwrap().parse().unwrap();
                replies.reply_when(position, head, OK, Some("echo"), &fields, &[request.body]);
            }
            SILENCE => {}
            PUSH => {
                let push = Command::request(PUSHED, &fields)
                    .with_body(Bytes::copy_from_slice(request.body));
                let connection = connection.clone();
                // From a thread that knows no runtime, as the one that flushes a log.
                std::thread::spawn(move || {
                    connection.send_oneway(push).unwrap();
                    connection.reply(head, OK, None, &(), &[]).unwrap();
                });
            }
            WORK => {
                let (connection, permit) = (connection.clone(), connection.permit().unwrap());
                let mut gate = self.gate.subscribe();
                tokio::spawn(async move {
                    gate.wait_for(|gate| gate.position > 0).await.unwrap();
                    connection
                        .reply(head, OK, Some("worked"), &(), &[])
                        .unwrap();
                    drop(permit);
                });
            }
            ASK => {
                let ask = Command::request(ASKED, &fields)
                    .with_body(Bytes::copy_from_slice(request.body));
                let connection = connection.clone();
                tokio::spawn(async move {
                    let answer = connection.call(ask, PATIENCE).await.unwrap();
                    connection.reply_command(head, answer).unwrap();
                });
            }
            LARGE => {
                let bytes: usize = fields.get("bytes").unwrap().parse().unwrap();
                let part = Bytes::from(vec![b'x'; bytes / 2]);
                let rest = Bytes::from(vec![b'y'; bytes - bytes / 2]);
                replies.reply_parts(head, OK, None, &(), &[part, rest]);
            }
            CLOSE => connection.close("the test wants it"),
            PERMIT => {
                let permit = connection.permit();
                let remark = if permit.is_some() {
                    "granted"
                } else {
                    "none left"
                };
                self.permits.lock().unwrap().extend(permit);
                replies.refuse(head, OK, remark);
            }
            other => replies.refuse(head, REFUSED, &format!("code {other} is not known")),
        }
    }
}

impl Service for Echo {
    fn serve(&self, connection: &Arc<Connection>, requests: &[Request<'_>], replies: &mut Replies) {
        self.batches.lock().unwrap().push(requests.len());
        {
            let mut connections = self.connections.lock().unwrap();
            if !connections
                .iter()
                .any(|known| known.id() == connection.id())
            {
                connections.push(connection.clone());
            }
        }
        for request in requests {
            self.one(connection, request, replies);
            self.served.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn refuse_held(
        &self,
        failure: HeldFailure,
        head: ReplyHead,
        answer: &Command,
        replies: &mut Replies,
    ) {
        let remark = format!("{failure:?}");
        replies.reply(head, REFUSED, Some(&remark), &answer.fields, &[]);
    }

    fn gate(&self) -> Option<watch::Receiver<Gate>> {
        (!self.no_gate).then(|| self.gate.subscribe())
    }

    fn closed(&self, _connection: &Arc<Connection>) {
        self.closed.send_modify(|closed| *closed += 1);
    }
}

/// Remembers pushes, answers questions with their body reversed.
#[derive(Default)]
pub(crate) struct Pushes {
    pub(crate) received: watch::Sender<Vec<(String, Command)>>,
}

impl InboundHandler for Pushes {
    fn on_request(
        &self,
        addr: &str,
        command: Command,
    ) -> Pin<Box<dyn Future<Output = Option<Command>> + Send>> {
        let mut reversed = command.body.to_vec();
        reversed.reverse();
        let answer = Command::response(OK, Some("asked".to_owned())).with_body(reversed);
        let answer = (!command.is_oneway()).then_some(answer);
        self.received
            .send_modify(|received| received.push((addr.to_owned(), command)));
        Box::pin(async move { answer })
    }

    fn on_connect(&self, _: &str) {}
}

/// A server with its service.
pub(crate) struct Running {
    pub(crate) echo: Arc<Echo>,
    pub(crate) server: Server,
    pub(crate) addr: SocketAddr,
}

pub(crate) fn start(config: ServerConfig) -> Running {
    start_with(config, Echo::default())
}

pub(crate) fn start_with(config: ServerConfig, echo: Echo) -> Running {
    log::install();
    let echo = Arc::new(echo);
    let server = Server::bind(([127, 0, 0, 1], 0).into(), config, echo.clone()).unwrap();
    let addr = server.local_addr();
    Running { echo, server, addr }
}

pub(crate) fn client() -> Client {
    Client::new(ClientConfig::default(), Arc::new(Pushes::default()))
}

/// A bound on every wait of a test.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("the test waits for something that does not come")
}

pub(crate) fn fields<const N: usize>(entries: [(&'static str, &str); N]) -> FieldMap {
    entries.into_iter().collect()
}

pub(crate) fn request(code: RequestCode, entries: &[(&'static str, &str)], body: &[u8]) -> Command {
    let map: FieldMap = entries.iter().copied().collect();
    Command::request(code, &map).with_body(Bytes::copy_from_slice(body))
}

/// The bytes of a request with this opaque.
pub(crate) fn bytes_of(mut command: Command, opaque: i32) -> BytesMut {
    command.opaque = opaque;
    let mut bytes = BytesMut::new();
    command.encode(&mut bytes);
    bytes
}

/// A client that writes and reads frames itself.
pub(crate) struct Raw {
    pub(crate) socket: TcpStream,
    pub(crate) peer: SocketAddr,
    received: BytesMut,
}

impl Raw {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let socket = TcpStream::connect(addr).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Raw {
            socket,
            peer: addr,
            received: BytesMut::new(),
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    /// The next command of the server; None when it has closed the connection.
    pub(crate) async fn next(&mut self) -> Option<Command> {
        within(async {
            loop {
                if let Some((frame, taken)) = frame::split(&self.received, FRAME_BYTES_MAX).unwrap()
                {
                    let command = Command::decode(&frame).unwrap();
                    let _ = self.received.split_to(taken);
                    return Some(command);
                }
                match self.socket.read_buf(&mut self.received).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        })
        .await
    }

    /// The opaques of the next `count` answers.
    pub(crate) async fn opaques(&mut self, count: usize) -> Vec<i32> {
        let mut opaques = Vec::new();
        for _ in 0..count {
            opaques.push(self.next().await.expect("an answer").opaque);
        }
        opaques
    }

    /// Proves that the connection still answers.
    pub(crate) async fn echoes(&mut self, opaque: i32) {
        self.send(&bytes_of(request(ECHO, &[], b"still there"), opaque))
            .await;
        let answer = self.next().await.expect("the connection is open");
        assert_eq!(
            (answer.opaque, &answer.body[..]),
            (opaque, &b"still there"[..])
        );
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }
}

pub(crate) const CODECS: [Codec; 2] = [Codec::Json, Codec::Rocketmq];

/// Every warning and error that this process logs.
pub(crate) mod log {
    use super::*;
    use tracing::field::{Field, Visit};
    use tracing::span;
    use tracing::{Event, Level, Metadata, Subscriber};

    static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
    static INSTALL: Once = Once::new();

    pub(crate) fn install() {
        INSTALL.call_once(|| tracing::subscriber::set_global_default(Collector).unwrap());
    }

    /// The lines about the connection of this peer. Its port alone would not do: other tests get the same one.
    pub(crate) fn about(peer: SocketAddr, local: SocketAddr) -> Vec<String> {
        let name = format!("peer={peer} local={local} ");
        let lines = LINES.lock().unwrap();
        lines
            .iter()
            .filter(|line| line.contains(&name))
            .cloned()
            .collect()
    }

    /// Waits for the line about this peer, which may be written a moment after the peer sees the end.
    pub(crate) async fn assert_closed_with_one_line(raw: &Raw, what: &str) {
        let (peer, local) = (raw.local(), raw.peer);
        let about = |peer| about(peer, local);
        within(async {
            while about(peer).is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let lines = about(peer);
        assert_eq!(lines.len(), 1, "{what}: {lines:?}");
        assert!(lines[0].contains("connection closed"), "{what}: {lines:?}");
        assert!(lines[0].contains("reason="), "{what}: {lines:?}");
    }

    struct Collector;

    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            write!(self.0, "{field}={value:?} ").unwrap();
        }
    }

    impl Subscriber for Collector {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() <= Level::WARN
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut line = Line(String::new());
            event.record(&mut line);
            LINES.lock().unwrap().push(line.0);
        }

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }
}
