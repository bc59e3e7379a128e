//! The effects that a test must control, disk and clock, each real and simulated, and chance with a seed. The only home
//! of `unsafe`.

pub mod clock;
pub mod disk;
pub mod random;
