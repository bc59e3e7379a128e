//! The generator against a live broker, and against one whose messages are lost, repeated, damaged on the way.
#![allow(
    clippy::unwrap_used,
    reason = "tests may; the lint allows it only in the functions marked as such"
)]

mod liar;
mod server;

mod detected;
mod errors;
mod floor;
mod verified;
