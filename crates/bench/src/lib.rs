//! The load generator and the floor program.
