//! The client: connections by address, made when they are needed and used by everybody.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::code::ResponseCode;
use protocol::command::Command;
use protocol::frame::FRAME_BYTES_MAX;
use protocol::reply::ReplyHead;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::budget::Budget;
use crate::connection::{Connection, Limits, SendError, Transport};
use crate::driver::{Bounds, drive};
use crate::local::LocalPair;
use crate::replies::Replies;
use crate::server::READ_BUFFER_BYTES_MAX;
use crate::service::{Gate, HeldFailure, Request, Service};
use crate::stream::Stream;
use crate::tls::{ClientTls, server_name};
use crate::waiting::Turns;

/// Addresses that are remembered although nothing is open or waits there; a closed one costs a few hundred bytes.
const SLOTS_MAX: usize = 1024;

/// The bounds of a client and of each of its connections.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// A connection that is not there within this time is given up.
    pub connect_timeout: Duration,
    /// A connection without a byte either way for this long is closed; the next call makes another.
    pub idle_close: Duration,
    /// A frame that does not complete within this time closes its connection.
    pub half_frame_close: Duration,
    /// The longest frame, in bytes.
    pub frame_bytes_max: usize,
    /// The read buffer grows to this under load, in bytes; larger only for a single frame that needs it.
    pub read_buffer_bytes_max: usize,
    /// Bytes of requests that may wait for one connection's task. Calls wait for room.
    pub outbox_bytes_max: usize,
    /// Calls over one connection that wait for their answer. Java's `clientAsyncSemaphoreValue`.
    pub calls_max: usize,
    /// Requests of one server that are handled at the same time.
    pub inbound_max: usize,
    /// In process: an answer that waits for the gate longer than this is refused. Over a socket the server says.
    pub hold_timeout: Duration,
    /// TLS to every address. None: plaintext.
    pub tls: Option<ClientTls>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        ClientConfig {
            connect_timeout: Duration::from_secs(3),
            idle_close: Duration::from_secs(120),
            half_frame_close: Duration::from_secs(60),
            frame_bytes_max: FRAME_BYTES_MAX,
            read_buffer_bytes_max: READ_BUFFER_BYTES_MAX,
            outbox_bytes_max: 8 * 1024 * 1024,
            calls_max: 65_535,
            inbound_max: 256,
            hold_timeout: Duration::from_secs(5),
            tls: None,
        }
    }
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection could be made. Nothing was sent: another address may be tried.
    #[error("no connection to {addr}: {source}")]
    Connect {
        /// The address that was asked.
        addr: String,
        /// What the system, or the TLS handshake, says.
        source: io::Error,
    },
    /// No answer in time. The request may have been carried out.
    #[error("no answer from {addr} within {after:?}")]
    Timeout {
        /// The address that was asked.
        addr: String,
        /// How long the caller waited.
        after: Duration,
    },
    /// The connection ended before the answer came. The request may have been carried out.
    #[error("the connection to {addr} was closed before the answer came")]
    Closed {
        /// The address that was asked.
        addr: String,
    },
    /// Too many calls wait for their answer, or a slow peer's outbox is full. Nothing was sent: try later.
    #[error("too much waits for {addr}; nothing was sent")]
    Full {
        /// The address that was asked.
        addr: String,
    },
}

impl CallError {
    pub(crate) fn of(error: SendError, addr: &str) -> Self {
        let addr = addr.to_owned();
        match error {
            SendError::Closed => CallError::Closed { addr },
            SendError::Full => CallError::Full { addr },
        }
    }
}

/// Answers the requests that servers send to this client: rebalance notices, transaction checks, offset resets.
pub trait InboundHandler: Send + Sync + 'static {
    /// Handles one request of the server at `addr`. The answer is sent back; None for a one-way request or for no answer.
    fn on_request(
        &self,
        addr: &str,
        command: Command,
    ) -> Pin<Box<dyn Future<Output = Option<Command>> + Send>>;

    /// A connection to the server at `addr` was made, the first or another: the server knows nothing of who is behind it. Returns at once.
    fn on_connect(&self, addr: &str);
}

/// For a client that only asks: whatever a server sends is dropped.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPushes;

impl InboundHandler for NoPushes {
    fn on_request(
        &self,
        _: &str,
        _: Command,
    ) -> Pin<Box<dyn Future<Output = Option<Command>> + Send>> {
        Box::pin(std::future::ready(None))
    }

    fn on_connect(&self, _: &str) {}
}

/// A client. Cheap to clone; all clones share their connections, which are closed with the last of them.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    config: ClientConfig,
    handler: Arc<dyn InboundHandler>,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    shut_down: AtomicBool,
}

/// What lies behind one address.
struct Slot {
    addr: Arc<str>,
    /// The service, when the address is in this process.
    local: Option<Arc<dyn Service>>,
    link: Mutex<Option<Link>>,
    /// Held while connecting, so that callers who come at the same time share one connection, or one failure.
    connecting: tokio::sync::Mutex<Option<ConnectFailure>>,
}

/// How the last attempt to connect failed.
struct ConnectFailure {
    at: Instant,
    kind: io::ErrorKind,
    reason: String,
}

/// An open way to the address. Dropping it closes it.
enum Link {
    Socket(Arc<Connection>),
    Local(LocalPair),
}

impl Link {
    fn connection(&self) -> &Arc<Connection> {
        match self {
            Link::Socket(connection) => connection,
            Link::Local(pair) => &pair.client,
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Link::Socket(connection) = self {
            connection.close("the client let it go");
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// A client without connections. Its calls must run within a tokio runtime.
    pub fn new(config: ClientConfig, handler: Arc<dyn InboundHandler>) -> Self {
        Client {
            shared: Arc::new(Shared {
                config,
                handler,
                slots: Mutex::default(),
                shut_down: AtomicBool::new(false),
            }),
        }
    }

    /// Makes `addr` an address of this process: commands to it go to `service` as they are, and touch no socket.
    pub fn register_local(&self, addr: &str, service: Arc<dyn Service>) {
        let slot = Slot::new(addr, Some(service));
        let replaced = self.shared.slots().insert(addr.to_owned(), Arc::new(slot));
        drop(replaced);
    }

    /// Sends a request to `addr` (`host:port`) and waits for the answer, connecting first where needed. `timeout` covers everything.
    pub async fn call(
        &self,
        addr: &str,
        command: Command,
        timeout: Duration,
    ) -> Result<Command, CallError> {
        let slot = self.shared.slot(addr);
        let started = Instant::now();
        let exchange = async {
            let connection = slot.connection(&self.shared).await?;
            let answer = connection.exchange(command).await;
            answer.map_err(|error| CallError::of(error, addr))
        };
        match tokio::time::timeout_at(started + timeout, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Timeout {
                addr: addr.to_owned(),
                after: timeout,
            }),
        }
    }

    /// Sends a command that nobody answers, after waiting for a connection, and for room in its outbox, `connect_timeout`
    /// each at most. On `Ok` it is on its way; nobody hears whether it arrived.
    pub async fn send_oneway(&self, addr: &str, command: Command) -> Result<(), CallError> {
        let slot = self.shared.slot(addr);
        let connection = slot.connection(&self.shared).await?;
        let sending = connection.send_oneway_patiently(command);
        let sent = tokio::time::timeout(self.shared.config.connect_timeout, sending).await;
        let sent = sent.unwrap_or(Err(SendError::Full));
        sent.map_err(|error| CallError::of(error, addr))
    }

    /// Closes the connection to `addr`, if there is one. A registered local address stays registered.
    pub fn close_address(&self, addr: &str) {
        let slot = self.shared.slots().get(addr).cloned();
        if let Some(slot) = slot {
            slot.close();
        }
    }

    /// Closes every connection, for good: calls that wait, and calls that come later, get `Closed`.
    pub fn shutdown(&self) {
        self.shared.shut_down.store(true, Ordering::SeqCst);
        let slots: Vec<_> = self.shared.slots().values().cloned().collect();
        for slot in slots {
            slot.close();
        }
    }
}

impl Shared {
    fn slots(&self) -> MutexGuard<'_, HashMap<String, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, addr: &str) -> Arc<Slot> {
        let mut slots = self.slots();
        if let Some(slot) = slots.get(addr) {
            return slot.clone();
        }
        if slots.len() >= SLOTS_MAX {
            slots.retain(|_, slot| {
                slot.local.is_some() || Arc::strong_count(slot) > 1 || slot.open().is_some()
            });
        }
        let slot = Arc::new(Slot::new(addr, None));
        slots.insert(addr.to_owned(), slot.clone());
        slot
    }

    fn limits(&self) -> Limits {
        Limits {
            outbox_bytes_max: self.config.outbox_bytes_max,
            calls_max: self.config.calls_max,
            permits: self.config.inbound_max,
        }
    }

    fn bounds(&self) -> Bounds {
        let config = &self.config;
        Bounds {
            frame_bytes_max: config.frame_bytes_max,
            read_buffer_bytes_max: config.read_buffer_bytes_max,
            // A client that stopped reading because its requests wait would wait for ever on a server that stops
            // reading because its answers wait. Only refusals of a flood of requests can come to so much.
            output_bytes_max: config
                .outbox_bytes_max
                .saturating_mul(4)
                .max(config.frame_bytes_max),
            take_outbox_below: config.outbox_bytes_max,
            // A client holds no answers.
            held_count_max: 1,
            held_bytes_max: 1,
            idle_close: config.idle_close,
            half_frame_close: config.half_frame_close,
            hold_timeout: config.hold_timeout,
            drain_timeout: config.connect_timeout,
        }
    }
}

impl Slot {
    fn new(addr: &str, local: Option<Arc<dyn Service>>) -> Self {
        Slot {
            addr: addr.into(),
            local,
            link: Mutex::new(None),
            connecting: tokio::sync::Mutex::new(None),
        }
    }

    fn link(&self) -> MutexGuard<'_, Option<Link>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Option<Arc<Connection>> {
        let link = self.link();
        let connection = link.as_ref()?.connection();
        connection.is_open().then(|| connection.clone())
    }

    /// The open connection, made now where there is none.
    async fn connection(&self, shared: &Shared) -> Result<Arc<Connection>, CallError> {
        if shared.shut_down.load(Ordering::SeqCst) {
            return Err(CallError::Closed {
                addr: self.addr.to_string(),
            });
        }
        if let Some(connection) = self.open() {
            return Ok(connection);
        }
        let asked = Instant::now();
        let mut failure = self.connecting.lock().await;
        if let Some(connection) = self.open() {
            return Ok(connection);
        }
        if let Some(failure) = failure.as_ref().filter(|failure| failure.at >= asked) {
            // The attempt that this caller waited for has failed. Another, one after another for each who waits,
            // would make the last of them wait for the sum.
            return Err(CallError::Connect {
                addr: self.addr.to_string(),
                source: io::Error::new(failure.kind, failure.reason.clone()),
            });
        }
        let inbound = Arc::new(Inbound {
            addr: self.addr.clone(),
            handler: shared.handler.clone(),
            runtime: Handle::current(),
        });
        let made = match &self.local {
            Some(service) => Link::Local(LocalPair::new(
                &self.addr,
                inbound,
                service.clone(),
                shared.limits(),
                shared.config.hold_timeout,
            )),
            None => match self.connect(shared, inbound).await {
                Ok(connection) => Link::Socket(connection),
                Err(source) => {
                    *failure = Some(ConnectFailure {
                        at: Instant::now(),
                        kind: source.kind(),
                        reason: source.to_string(),
                    });
                    return Err(CallError::Connect {
                        addr: self.addr.to_string(),
                        source,
                    });
                }
            },
        };
        let connection = made.connection().clone();
        let replaced = self.link().replace(made);
        drop(replaced);
        drop(failure);
        shared.handler.on_connect(&self.addr);
        if shared.shut_down.load(Ordering::SeqCst) {
            // Shutdown has closed what it found, which may have been before this one was there.
            self.close();
        }
        Ok(connection)
    }

    async fn connect(&self, shared: &Shared, inbound: Arc<Inbound>) -> io::Result<Arc<Connection>> {
        let limit = shared.config.connect_timeout;
        let opening = open(&self.addr, shared.config.tls.as_ref());
        let opened = tokio::time::timeout(limit, opening).await;
        let (stream, peer, local) = opened.map_err(|_| {
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!("not connected within {limit:?}"),
            )
        })??;
        let connection = Connection::new(
            self.addr.clone(),
            peer,
            local,
            Transport::Socket,
            shared.limits(),
            Budget::unlimited(),
        );
        let connection = Arc::new(connection);
        tokio::spawn(drive(
            stream,
            connection.clone(),
            inbound,
            shared.bounds(),
            Turns::new(),
        ));
        Ok(connection)
    }

    fn close(&self) {
        let link = self.link().take();
        // Outside the lock: closing a local link calls services.
        drop(link);
    }
}

async fn open(addr: &str, tls: Option<&ClientTls>) -> io::Result<(Stream, SocketAddr, SocketAddr)> {
    let socket = TcpStream::connect(addr).await?;
    socket.set_nodelay(true)?;
    let (peer, local) = (socket.peer_addr()?, socket.local_addr()?);
    let Some(tls) = tls else {
        return Ok((Stream::Plain(socket), peer, local));
    };
    let name = server_name(addr).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "the address is no host name that TLS could check",
        )
    })?;
    let stream = TlsConnector::from(tls.config.clone())
        .connect(name, socket)
        .await?;
    Ok((Stream::Tls(Box::new(stream.into())), peer, local))
}

/// The client's side of a connection: requests of the server go to the handler, each in a task of its own.
struct Inbound {
    addr: Arc<str>,
    handler: Arc<dyn InboundHandler>,
    /// In process, a push is served on the thread that sends it, which need not belong to a runtime.
    runtime: Handle,
}

impl Service for Inbound {
    fn serve(&self, connection: &Arc<Connection>, requests: &[Request<'_>], replies: &mut Replies) {
        for request in requests {
            let head = request.head();
            let Some(permit) = connection.permit() else {
                replies.refuse(
                    head,
                    ResponseCode::SYSTEM_BUSY,
                    "the client handles too many requests already",
                );
                continue;
            };
            let answer = self.handler.on_request(&self.addr, request.to_command());
            let connection = connection.clone();
            self.runtime.spawn(async move {
                if let Some(answer) = answer.await
                    && let Err(error) = connection.reply_command(head, answer)
                {
                    tracing::debug!(peer = %connection.peer(), %error, "an answer could not be sent");
                }
                drop(permit);
            });
        }
    }

    fn refuse_held(&self, _: HeldFailure, head: ReplyHead, _: &Command, replies: &mut Replies) {
        replies.refuse(
            head,
            ResponseCode::SYSTEM_ERROR,
            "the client holds no answers",
        );
    }

    fn gate(&self) -> Option<watch::Receiver<Gate>> {
        None
    }

    fn closed(&self, _connection: &Arc<Connection>) {}
}
