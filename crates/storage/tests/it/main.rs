//! The store against a real file system, in temporary directories with small segments.

mod append;
mod concurrent;
mod derived;
mod faults;
mod format;
mod support;
mod time;
