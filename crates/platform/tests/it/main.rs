//! The disk's contract, which both disks pass, and what only the simulated one can show.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod contract;
mod power_failure;
