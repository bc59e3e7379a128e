//! Whether the address that clients are told leads here, and who else it lets in.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long the way to one's own address may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Tries the advertised address, in the background, and warns when it leads nowhere.
///
/// A success proves only that it works from here; a failure is the mistake that costs new users most time, since clients
/// then find the broker by the name server and wait for an address that does not answer.
pub(crate) fn check(advertised: SocketAddr) {
    tokio::spawn(async move {
        let attempt =
            tokio::time::timeout(CONNECT_TIMEOUT, tokio::net::TcpStream::connect(advertised));
        let problem = match attempt.await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {CONNECT_TIMEOUT:?}"),
        };
        tracing::warn!(
            "clients are told to connect to {advertised}, which cannot be reached from here ({problem}); set brokerIP1 in the \
             configuration, or --listen-ip, to an address that they reach"
        );
    });
}

/// Warns when others than this machine's processes can connect.
pub(crate) fn warn_if_open(role: &str, listening: IpAddr) {
    if !listening.is_loopback() {
        tracing::warn!(
            "the {role} listens on {listening} without access control: whoever reaches it may read, write and administer \
             everything; keep it behind a firewall"
        );
    }
}
