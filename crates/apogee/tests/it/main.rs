//! The binary as a user runs it: a process on free ports with data of its own.

mod admin_commands;
mod lifecycle;
mod process;
