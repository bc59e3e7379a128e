//! Automation: tests, checks, interop, benchmarks.

fn main() {}
