//! The server: accepts connections, bounds their number, and ends them all in order.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::frame::FRAME_BYTES_MAX;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::budget::Budget;
use crate::connection::{Connection, Limits, Transport};
use crate::driver::{Bounds, drive};
use crate::service::Service;
use crate::stream::Stream;
use crate::tls::{HANDSHAKE, ServerTls, TlsMode};
use crate::waiting::Turns;

/// Connections that the kernel completes and keeps before they are accepted; Java's `serverSocketBacklog`.
const BACKLOG: i32 = 1024;
/// Enough for a batch of eighty messages of 1 KiB. Measured with an empty service, 4 connections with 64 and 256 requests of
/// 1 KiB in flight: 16 KiB serve 1.1 million requests a CPU-second, 64 to 128 KiB 1.6 to 2.4 million, 256 KiB 1.4 to 2 million.
pub(crate) const READ_BUFFER_BYTES_MAX: usize = 96 * 1024;
/// The pause after a failed accept. Out of descriptors is the usual reason, and asking again at once only burns the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The bounds of a server and of each of its connections.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The longest frame, in bytes; a longer one is malformed.
    pub frame_bytes_max: usize,
    /// The read buffer grows to this under load, in bytes; larger only for a single frame that needs it.
    pub read_buffer_bytes_max: usize,
    /// Reading stops while more bytes than this wait to be written.
    pub output_bytes_max: usize,
    /// Bytes of late answers, pushes and calls that may wait for the connection's task. Above it they are refused.
    pub outbox_bytes_max: usize,
    /// Reading stops while more answers than this wait for the gate.
    pub held_count_max: usize,
    /// Reading stops while answers of more bytes than this wait for the gate.
    pub held_bytes_max: usize,
    /// Calls to one client that wait for its answer.
    pub calls_max: usize,
    /// Requests of one connection that are handled outside its read loop; see [`Connection::permit`].
    pub permits: usize,
    /// A connection without a byte either way for this long is closed.
    pub idle_close: Duration,
    /// A frame, or a TLS handshake, that does not complete within this time closes its connection.
    pub half_frame_close: Duration,
    /// Connections beyond this number are closed at once.
    pub connections_max: usize,
    /// An answer that waits for the gate longer than this is refused.
    pub hold_timeout: Duration,
    /// At shutdown, connections get this long to write what they owe.
    pub drain_timeout: Duration,
    /// What all connections may hold together. Servers of one process share one. None: only the bounds of each count.
    pub budget: Option<Arc<Budget>>,
    /// TLS on the same port. None: plaintext only.
    pub tls: Option<ServerTls>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        ServerConfig {
            frame_bytes_max: FRAME_BYTES_MAX,
            read_buffer_bytes_max: READ_BUFFER_BYTES_MAX,
            output_bytes_max: 4 * 1024 * 1024,
            outbox_bytes_max: 8 * 1024 * 1024,
            held_count_max: 16 * 1024,
            held_bytes_max: 4 * 1024 * 1024,
            calls_max: 256,
            permits: 64,
            idle_close: Duration::from_secs(120),
            half_frame_close: Duration::from_secs(60),
            connections_max: 65_535,
            hold_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(3),
            budget: None,
            tls: None,
        }
    }
}

impl ServerConfig {
    fn limits(&self) -> Limits {
        Limits {
            outbox_bytes_max: self.outbox_bytes_max,
            calls_max: self.calls_max,
            permits: self.permits,
        }
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            frame_bytes_max: self.frame_bytes_max,
            read_buffer_bytes_max: self.read_buffer_bytes_max,
            output_bytes_max: self.output_bytes_max,
            take_outbox_below: self.output_bytes_max,
            held_count_max: self.held_count_max,
            held_bytes_max: self.held_bytes_max,
            idle_close: self.idle_close,
            half_frame_close: self.half_frame_close,
            hold_timeout: self.hold_timeout,
            drain_timeout: self.drain_timeout,
        }
    }
}

/// A listening server. Dropping it stops accepting and closes its connections without waiting for them.
#[derive(Debug)]
pub struct Server {
    local_addr: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
}

struct Shared {
    config: ServerConfig,
    budget: Arc<Budget>,
    turns: Arc<Turns>,
    service: Arc<dyn Service>,
    connections: Mutex<Registry>,
    /// The number of open connections, for those who wait for the last.
    open: watch::Sender<usize>,
}

#[derive(Default)]
struct Registry {
    by_id: HashMap<u64, Arc<Connection>>,
    /// Accepted sockets, those in a handshake included.
    count: usize,
    stopping: bool,
    /// A limit was reached and has been logged; logged again only after it was left.
    full: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Server {
    /// Listens on `addr` and serves every connection. Must be called within a tokio runtime, whose tasks do the work.
    pub fn bind(
        addr: SocketAddr,
        config: ServerConfig,
        service: Arc<dyn Service>,
    ) -> io::Result<Server> {
        let listener = listen(addr)?;
        let local_addr = listener.local_addr()?;
        let budget = config.budget.clone().unwrap_or_else(Budget::unlimited);
        let shared = Arc::new(Shared {
            config,
            budget,
            turns: Turns::new(),
            service,
            connections: Mutex::default(),
            open: watch::Sender::new(0),
        });
        let stop = watch::Sender::new(false);
        tokio::spawn(accept_all(listener, shared.clone(), stop.subscribe()));
        Ok(Server {
            local_addr,
            shared,
            stop,
        })
    }

    /// The address that it listens on, with the port that the system chose for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Connections that are open at this moment.
    pub fn connection_count(&self) -> usize {
        *self.shared.open.borrow()
    }

    /// The open connections.
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        self.shared.registry().by_id.values().cloned().collect()
    }

    /// Stops accepting and reading, lets each connection write what it owes (held answers, requests that are still being
    /// handled) for at most `drain_timeout`, and returns when all are closed.
    pub async fn shutdown(&self) {
        self.stop.send_replace(true);
        let connections: Vec<_> = {
            let mut registry = self.shared.registry();
            registry.stopping = true;
            registry.by_id.values().cloned().collect()
        };
        for connection in connections {
            connection.drain();
        }
        let mut open = self.shared.open.subscribe();
        // The sender lives as long as `self.shared`.
        let _ = open.wait_for(|open| *open == 0).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let connections: Vec<_> = {
            let mut registry = self.shared.registry();
            registry.stopping = true;
            registry.by_id.values().cloned().collect()
        };
        for connection in connections {
            connection.close("the server is gone");
        }
    }
}

impl Shared {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more connection, or None at the limit.
    fn place(self: &Arc<Self>) -> Option<Place> {
        let mut registry = self.registry();
        let too_many = registry.count >= self.config.connections_max;
        if too_many || self.budget.is_full() {
            if !std::mem::replace(&mut registry.full, true) {
                if too_many {
                    tracing::warn!(
                        connections_max = self.config.connections_max,
                        "connections are refused: the limit is reached"
                    );
                } else {
                    let reason = self.budget.reason();
                    tracing::warn!(%reason, "connections are refused: no memory is left for them");
                }
            }
            return None;
        }
        registry.count += 1;
        self.open.send_replace(registry.count);
        Some(Place {
            shared: self.clone(),
            id: None,
        })
    }
}

/// One connection's place among `connections_max`, given back when dropped.
struct Place {
    shared: Arc<Shared>,
    id: Option<u64>,
}

impl Place {
    /// Makes the connection known to shutdown.
    fn register(&mut self, connection: &Arc<Connection>) {
        let mut registry = self.shared.registry();
        registry.by_id.insert(connection.id(), connection.clone());
        self.id = Some(connection.id());
        let stopping = registry.stopping;
        drop(registry);
        if stopping {
            connection.drain();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut registry = self.shared.registry();
        if let Some(id) = self.id {
            registry.by_id.remove(&id);
        }
        registry.count -= 1;
        if registry.count * 10 <= self.shared.config.connections_max * 9 {
            registry.full = false;
        }
        self.shared.open.send_replace(registry.count);
    }
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted server takes its port back while old connections linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

async fn accept_all(listener: TcpListener, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // An error means that the server was dropped.
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((socket, peer)) => {
                if let Some(place) = shared.place() {
                    tokio::spawn(serve(socket, peer, place, stop.clone()));
                }
            }
            Err(error) => {
                tracing::error!(%error, "a connection could not be accepted; is the limit of open files reached?");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection from its first byte to its end.
async fn serve(
    socket: TcpStream,
    peer: SocketAddr,
    mut place: Place,
    mut stop: watch::Receiver<bool>,
) {
    let shared = place.shared.clone();
    let Ok(local) = socket.local_addr() else {
        return;
    };
    let stream = tokio::select! {
        stream = open(socket, &shared.config) => stream,
        _ = stop.wait_for(|stop| *stop) => return,
    };
    let stream = match stream {
        Ok(opened) => opened,
        Err(Refused::Quiet) => return,
        Err(Refused::Because(reason)) => {
            tracing::warn!(%peer, %local, %reason, "connection closed");
            return;
        }
    };
    let connection = Arc::new(Connection::new(
        peer.to_string().into(),
        peer,
        local,
        Transport::Socket,
        shared.config.limits(),
        shared.budget.clone(),
    ));
    place.register(&connection);
    drive(
        stream,
        connection,
        shared.service.clone(),
        shared.config.bounds(),
        shared.turns.clone(),
    )
    .await;
}

/// Why a socket does not become a connection.
enum Refused {
    /// It went away by itself.
    Quiet,
    /// One line in the log says why.
    Because(String),
}

impl From<io::Error> for Refused {
    fn from(_: io::Error) -> Self {
        Refused::Quiet
    }
}

/// Tells TLS from plaintext by the first byte.
async fn open(socket: TcpStream, config: &ServerConfig) -> Result<Stream, Refused> {
    socket.set_nodelay(true)?;
    let Some(tls) = config
        .tls
        .as_ref()
        .filter(|tls| tls.mode != TlsMode::Disabled)
    else {
        return Ok(Stream::Plain(socket));
    };
    let mut first = [0];
    let peeked = tokio::time::timeout(config.idle_close, socket.peek(&mut first)).await;
    let Ok(1) = peeked.map_err(|_| Refused::Quiet)? else {
        return Err(Refused::Quiet);
    };
    if first[0] != HANDSHAKE {
        return match tls.mode {
            TlsMode::Enforcing => Err(Refused::Because(
                "plaintext, and tls.server.mode is enforcing".to_owned(),
            )),
            _ => Ok(Stream::Plain(socket)),
        };
    }
    let handshake = TlsAcceptor::from(tls.config.clone()).accept(socket);
    match tokio::time::timeout(config.half_frame_close, handshake).await {
        Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream.into()))),
        Ok(Err(error)) => Err(Refused::Because(format!("TLS handshake: {error}"))),
        Err(_) => Err(Refused::Because(
            "the TLS handshake did not complete in time".to_owned(),
        )),
    }
}
