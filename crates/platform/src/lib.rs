//! The effects that a test must control, disk and clock, each real and simulated. The only home of `unsafe`.

pub mod clock;
pub mod disk;
