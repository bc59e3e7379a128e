//! Bodies in JSON, one struct for each of RocketMQ's, fields in Java's order (by name).
//!
//! `json::decode` and `json::encode` turn them into bytes and back. Any field may be absent.

mod auth;
mod client;
mod group;
mod heartbeat;
mod offset;
mod pop;
mod queue;
mod register;
mod replication;
mod route;
mod stats;
mod timer;
mod topic;

pub use auth::*;
pub use client::*;
pub use group::*;
pub use heartbeat::*;
pub use offset::*;
pub use pop::*;
pub use queue::{MessageQueue, QueueTable};
pub use register::RegisterBrokerBody;
pub use replication::*;
pub use route::*;
pub use stats::*;
pub use timer::*;
pub use topic::*;
