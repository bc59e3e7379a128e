//! Connections, server and client side: framing, correlation, batching, back-pressure, TLS; and an
//! in-process transport that passes decoded commands without bytes.
//!
//! One task owns a connection and both of its directions. It reads whatever the socket holds into one
//! buffer, cuts every complete frame, and hands all requests of that read to [`Service::serve`] in one call; the
//! answers are encoded into the connection's output buffer and leave in one write. With one frame in the buffer
//! the batch is one frame and nobody waits: batching comes from load, never from a timer.
//!
//! | module | subject |
//! |---|---|
//! | [`Service`], [`Request`], [`Replies`] | what a role implements and receives |
//! | [`Server`] | the accept loop, limits, shutdown |
//! | [`Budget`] | the memory that all connections may hold together |
//! | [`Connection`] | the handle that any thread may hold: late answers, pushes, calls to the peer |
//! | [`Client`] | connections by address, reused; in-process addresses |
//! | [`tls`] | certificates, and plaintext and TLS on one port by the first byte |
//!
//! Invariants: only a connection's own task touches its socket; the lock of a connection is never held over a call
//! into a service, a handler or the socket; every buffer and queue has a bound that its configuration names.

mod budget;
mod client;
mod connection;
mod driver;
mod footprint;
mod input;
mod local;
mod output;
mod replies;
mod server;
mod service;
mod stream;
pub mod tls;
mod waiting;

pub use budget::{Account, Budget, Shortage};
pub use client::{CallError, Client, ClientConfig, InboundHandler, NoPushes};
pub use connection::{Connection, Permit, SendError};
pub use replies::Replies;
pub use server::{Server, ServerConfig};
pub use service::{Gate, HeldFailure, Request, Service};
