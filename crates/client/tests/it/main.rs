//! The Rust client against live brokers and a name server, over real sockets.
#![allow(
    clippy::unwrap_used,
    reason = "tests may; the lint allows it only in the functions marked as such"
)]

mod asked;
mod cluster;
mod consuming;
mod forgotten;
mod light;
mod popping;
mod producing;
mod requesting;
mod traces;
mod transactions;
