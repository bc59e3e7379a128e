//! The binary: reads configuration, wires roles, handles signals.

fn main() {}
