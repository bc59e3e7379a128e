//! The store against a real file system, in temporary directories with small segments.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod ahead;
mod append;
mod concurrent;
mod damage;
mod derived;
mod faults;
mod format;
mod support;
mod time;
