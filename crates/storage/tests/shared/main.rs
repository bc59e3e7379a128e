//! The facts that hold for every store, checked over one whose consume queues are in the shared store from the first on; and those of the shared
//! store alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

/// Every queue is one too many for a file of its own.
const QUEUE_FILES_MAX: usize = 0;
const QUEUES_DIR: &str = "consumequeue_shared";
const BATCH_QUEUES_DIR: &str = QUEUES_DIR;

#[path = "../it/append.rs"]
mod append;
#[path = "../it/batches.rs"]
mod batches;
#[path = "../it/compaction.rs"]
mod compaction;
#[path = "../it/concurrent.rs"]
mod concurrent;
mod conversion;
#[path = "../it/derived.rs"]
mod derived;
#[path = "../it/faults.rs"]
mod faults;
#[path = "../it/light.rs"]
mod light;
#[path = "../it/support.rs"]
mod support;
#[path = "../it/time.rs"]
mod time;
