//! The effects that a test must control, disk and clock, each real and simulated, chance with a seed, and the allocator. The only home
//! of `unsafe`.

pub mod clock;
pub mod disk;
pub mod memory;
pub mod random;
