//! Bytes to values and back: RocketMQ's remoting frames, headers, bodies and message records. No I/O, no clock.

pub mod code;
pub mod command;
pub mod frame;
pub mod header;
pub mod language;
mod number;
pub mod reply;
pub mod version;
