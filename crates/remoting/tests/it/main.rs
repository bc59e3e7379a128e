//! The remoting crate from outside: real sockets on loopback, TLS, and the in-process transport.

// Tests may unwrap; clippy knows only functions marked as tests.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod batching;
mod bounds;
mod contract;
mod held;
mod lifecycle;
mod support;
mod tls;
