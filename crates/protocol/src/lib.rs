//! Bytes to values and back: RocketMQ's remoting frames, headers, bodies and message records. No I/O, no clock.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod batch;
pub mod body;
pub mod code;
pub mod command;
pub mod frame;
pub mod header;
pub mod headers;
pub mod json;
pub mod language;
pub mod light;
pub mod message_id;
mod number;
mod pairs;
pub mod perm;
pub mod pop;
pub mod properties;
pub mod recall;
pub mod record;
pub mod reply;
pub mod sysflag;
pub mod tags;
pub mod topic;
pub mod version;
