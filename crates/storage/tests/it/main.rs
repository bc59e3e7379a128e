//! The store against a real file system, in temporary directories with small segments.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

const QUEUE_FILES_MAX: usize = 20_000;
const QUEUES_DIR: &str = "consumequeue";
const BATCH_QUEUES_DIR: &str = "batchconsumequeue";

mod ahead;
mod append;
mod batches;
mod compaction;
mod concurrent;
mod damage;
mod derived;
mod faults;
mod format;
mod light;
mod queue_files;
mod support;
mod time;
