//! The protocol against Java's own bytes, against what real clients send, and against nonsense.

#![allow(clippy::unwrap_used)]

// The fuzz crate is outside the workspace, where these functions must be public.
#[allow(unreachable_pub)]
#[path = "../../../../fuzz/src/targets.rs"]
mod fuzz_targets;

mod fixture;
mod fuzz_short;
mod golden;
mod reject;
mod round_trip;
mod traps;
