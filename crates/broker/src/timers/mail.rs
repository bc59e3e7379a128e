//! What work beside the turns brings back: records that had to be read from the disk, and files that were written.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use storage::ReadError;
use tokio::sync::Notify;

use super::entry::Entry;
use super::keep::Kept;
use super::roll::Batch;

/// Work that may wait for the disk.
pub(crate) type Work = Box<dyn FnOnce() + Send>;
/// Runs work somewhere else than in the turn that asks for it.
pub(crate) type Spawn = Arc<dyn Fn(Work) + Send + Sync>;

/// Brings results to the next turn, and asks for one.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    letters: Mutex<Letters>,
    /// There is something to do.
    pub(super) bell: Notify,
}

/// Results.
#[derive(Debug, Default)]
pub(super) struct Letters {
    pub(super) records: Vec<(Entry, Result<Option<Bytes>, ReadError>)>,
    pub(super) kept: Option<Kept>,
    pub(super) roll: Option<Batch>,
    /// Work of before the timers were read anew does not count.
    generation: u64,
}

impl Mail {
    fn letters(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The generation that work belongs to which begins here.
    pub(super) fn generation(&self) -> u64 {
        self.letters().generation
    }

    /// Puts a result in, unless it is of another generation.
    pub(super) fn put(&self, generation: u64, put: impl FnOnce(&mut Letters)) {
        {
            let mut letters = self.letters();
            if letters.generation != generation {
                return;
            }
            put(&mut letters);
        }
        self.bell.notify_one();
    }

    /// Puts in which files were written, of whatever generation: one work at a time writes them.
    pub(super) fn put_kept(&self, kept: Kept) {
        self.letters().kept = Some(kept);
        self.bell.notify_one();
    }

    /// Takes everything out.
    pub(super) fn take(&self) -> Letters {
        let mut letters = self.letters();
        let generation = letters.generation;
        std::mem::replace(
            &mut letters,
            Letters {
                generation,
                ..Letters::default()
            },
        )
    }

    /// Forgets everything, and what work under way will bring.
    pub(super) fn clear(&self) {
        let mut letters = self.letters();
        let (generation, kept) = (letters.generation + 1, letters.kept.take());
        *letters = Letters {
            generation,
            kept,
            ..Letters::default()
        };
    }
}
