//! The disk's contract, which both disks pass, and what only the simulated one can show.

mod contract;
mod power_failure;
