//! Both disks keep one contract; the simulated one fails as real ones do.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

mod contract;
mod equality;
mod power;
mod trouble;
