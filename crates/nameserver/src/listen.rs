//! A name server on a socket, with its clock.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use remoting::tls::{ServerTls, TlsError, TlsKeys};
use remoting::{Server, ServerConfig};
use thiserror::Error;
use tokio::task::JoinHandle;

use crate::{Config, Context, NameServer};

/// A name server that listens. Dropping it stops it at once; [`Running::shutdown`] lets answers leave first.
pub struct Running {
    name_server: Arc<NameServer>,
    server: Server,
    scan: JoinHandle<()>,
}

/// Why a name server does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The file of the key–value configuration cannot be read. Repair it, or move it away to start without it.
    #[error("the key-value configuration cannot be read: {0}")]
    KvConfig(io::Error),
    /// TLS cannot be set up as configured.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// `bindAddress` is no IP address.
    #[error("bindAddress={0} is not an IP address")]
    BindAddress(String),
    /// The port cannot be listened on; taken by another process, most likely.
    #[error("the name server cannot listen on {addr}: {source}")]
    Bind {
        /// Where it should have listened.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// Starts a name server that listens on `bindAddress` and `listenPort`; port 0 takes a free one. Within a tokio runtime.
///
/// # Errors
/// See [`StartError`]; nothing listens then.
pub fn start(
    config: Config,
    context: Context,
    mut sockets: ServerConfig,
) -> Result<Running, StartError> {
    sockets.tls = ServerTls::configured(TlsKeys {
        mode: &config.tls_server_mode,
        cert_path: &config.tls_server_cert_path,
        key_path: &config.tls_server_key_path,
        self_signed: config.tls_test_mode_enable,
    })?;
    let ip: IpAddr = config
        .bind_address
        .parse()
        .map_err(|_| StartError::BindAddress(config.bind_address.clone()))?;
    let addr = SocketAddr::new(ip, config.listen_port);
    let name_server = NameServer::new(config, context).map_err(StartError::KvConfig)?;
    let server = Server::bind(addr, sockets, Arc::clone(&name_server) as _)
        .map_err(|source| StartError::Bind { addr, source })?;
    let scan = tokio::spawn(scan(Arc::downgrade(&name_server)));
    Ok(Running {
        name_server,
        server,
        scan,
    })
}

impl Running {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// The service, for callers in the process.
    pub fn service(&self) -> Arc<NameServer> {
        Arc::clone(&self.name_server)
    }

    /// Stops listening, and returns when all connections have written what they owe and are closed.
    pub async fn shutdown(&self) {
        self.scan.abort();
        self.server.shutdown().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.scan.abort();
    }
}

/// Looks for silent brokers for as long as the server lives.
async fn scan(name_server: Weak<NameServer>) {
    loop {
        let Some(server) = name_server.upgrade() else {
            return;
        };
        let interval_ms = server.config().scan_not_active_broker_interval;
        drop(server);
        tokio::time::sleep(Duration::from_millis(interval_ms.max(1) as u64)).await;
        if let Some(server) = name_server.upgrade() {
            server.expire();
        }
    }
}
