//! The Rust client against live brokers and a name server, over real sockets.
#![allow(clippy::unwrap_used, missing_docs)]

mod cluster;
mod consuming;
mod producing;
