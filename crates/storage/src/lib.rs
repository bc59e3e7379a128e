//! Commit log, consume queues, index, recovery, retention. Knows no sockets.
//!
//! [`Store`] is the whole interface. The commit log is the truth; consume queues, index, checkpoint and the recovery hint are derived
//! from it and may be deleted. Formats are those of RocketMQ 5.3 and drawn in `docs/formats/store.md`; the order of locks is in `docs/locks.md`.
//!
//! What survives what:
//!
//! | point | survives |
//! |---|---|
//! | [`Store::append`] returned | death of the process (`kill -9`): the bytes are with the kernel |
//! | [`FlushState::flushed`] reached [`Appended::end`] | loss of power |

mod append;
mod checkpoint;
mod commitlog;
mod compaction;
mod config;
mod dispatch;
mod error;
mod flush;
mod health;
mod index;
mod inner_batch;
mod light;
mod message;
mod query;
mod queue;
mod read;
mod recovery;
mod retention;
mod rewritten;
mod schedule;
mod stats;
mod store;
mod writer;

pub use compaction::{CompactionError, CompactionLimits, CompactionOutcome};
pub use config::{Config, FlushMode};
pub use error::{AppendError, OpenError, ReadError};
pub use flush::FlushState;
pub use message::{Appended, NewMessage};
pub use read::{Boundary, KeyQuery, Read, ReadMode, ReadResult, ReadStatus};
pub use stats::{Stats, WriteState};
pub use store::{Arrivals, Store};
