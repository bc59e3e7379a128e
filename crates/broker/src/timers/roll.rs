//! Rolling: what waits longer than the log keeps messages is stored anew behind its end, in the order of the log, before the old segments go.
//!
//! Java 5.3 does so too, every `timerRollWindowSlot`. Here only what is as old as that (and half of `fileReservedTime` at most) is stored anew; the log holds
//! its expired segments until then.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::{record, topic};
use storage::{Boundary, NewMessage, Read, ReadError, ReadMode, Store};

use super::engine::{BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, Engine, Fault, Now};
use super::entry::{Entry, Mark};
use super::message::{self, Outgoing};
use super::run::{Cursor, Run};
use super::timeline::Lowest;

/// Between two looks for messages that are old.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// Entries that are found in one walk over all: 1.5 MiB.
const CHUNK: usize = 64 << 10;

/// Where rolling is.
#[derive(Debug, Default)]
pub(super) struct Rolling {
    next_look: Duration,
    /// Work beside the turns is under way.
    is_busy: bool,
    batch: Option<Batch>,
    /// The log is flushed to here before it lets go of what was stored anew.
    end: u64,
}

/// Messages that are to be stored anew, and what is left of their chunk.
#[derive(Debug)]
pub(super) struct Batch {
    records: Vec<(Entry, Bytes)>,
    rest: VecDeque<Entry>,
    /// No entry below this position is missing in the chunk.
    complete_to: u64,
    failed: Option<String>,
}

impl Rolling {
    pub(super) fn arrived(&mut self, batch: Batch) {
        self.is_busy = false;
        self.batch = Some(batch);
    }

    pub(super) fn restart(&mut self) {
        *self = Rolling {
            next_look: self.next_look,
            ..Rolling::default()
        };
    }
}

impl Engine {
    /// Stores one batch anew, or looks whether there is need. `read_to` is a position of the log from below which everything was read.
    pub(super) fn roll(&mut self, now: Now, read_to: Option<u64>) -> Result<(), Fault> {
        if let Some(batch) = self.rolling.batch.take() {
            return self.roll_batch(batch, now);
        }
        self.let_go();
        if self.rolling.is_busy || now.monotonic < self.rolling.next_look || !self.replay.done {
            return Ok(());
        }
        let Some(read_to) = read_to else {
            return Ok(());
        };
        // What is late is about to be delivered, and what lies before the mark would be taken for delivered.
        if self.is_late()? {
            return Ok(());
        }
        self.rolling.next_look = now.monotonic + LOOK_INTERVAL;
        let below = self.old_below(now, read_to)?;
        self.find(below);
        Ok(())
    }

    /// The position below which messages are old.
    fn old_below(&self, now: Now, read_to: u64) -> Result<u64, Fault> {
        let since_ms = now.wall_ms.saturating_sub(self.settings.roll_age_ms);
        let offset = self
            .store
            .offset_by_time(topic::TIMER, 0, since_ms, Boundary::Lower)?;
        let read = self.store.read(
            &Read {
                topic: topic::TIMER,
                queue_id: 0,
                offset: offset as i64,
                messages_max: 1,
                bytes_max: 1,
                filter: &|_| true,
            },
            ReadMode::Blocking,
        )?;
        let physical = read
            .records
            .first()
            .and_then(|bytes| record::peek_physical_offset(bytes));
        Ok(physical.map_or(read_to, |physical| physical.min(read_to)))
    }

    /// Begins to look for what waits below a position.
    fn find(&mut self, below: u64) {
        let from = self.progress.rolled;
        if below <= from {
            return;
        }
        let mark = self.progress.mark;
        let memory = self.timeline.lowest_in_memory(from, below, CHUNK, mark);
        let runs = self.timeline.runs().filter(|run| run.lowest < below);
        let search = Search {
            from,
            below,
            mark,
            runs: runs.cloned().collect(),
        };
        if memory.is_empty() && search.runs.is_empty() {
            self.progress.rolled = below;
            self.let_go();
            return;
        }
        self.beside(move |store| search.run(store, memory));
    }

    fn beside(&mut self, work: impl FnOnce(&Store) -> Batch + Send + 'static) {
        self.rolling.is_busy = true;
        let (store, mail) = (self.store.clone(), self.mail.clone());
        let generation = mail.generation();
        (self.spawn)(Box::new(move || {
            let batch = work(&store);
            mail.put(generation, |letters| letters.roll = Some(batch));
        }));
    }

    fn roll_batch(&mut self, mut batch: Batch, now: Now) -> Result<(), Fault> {
        if let Some(error) = &batch.failed {
            tracing::warn!(
                error,
                "old timer messages could not be read to be stored anew; trying again"
            );
            return Ok(());
        }
        if !batch.records.is_empty() {
            let outcome = self.store_anew(&batch.records, now);
            if let Err(error) = outcome {
                self.rolling.batch = Some(batch);
                return Err(error);
            }
            batch.records.clear();
        }
        if batch.rest.is_empty() {
            self.progress.rolled = self.progress.rolled.max(batch.complete_to);
            self.keeping.dirty();
            // At once: there may be more than one chunk.
            self.rolling.next_look = now.monotonic;
        } else {
            self.beside(move |store| batch.read(store));
        }
        self.let_go();
        Ok(())
    }

    fn store_anew(&mut self, records: &[(Entry, Bytes)], now: Now) -> Result<(), Fault> {
        let precision_ms = self.settings.precision_ms;
        let is_waiting = |entry: &Entry| entry.mark() > self.progress.mark;
        let waiting = records.iter().filter(|(entry, _)| is_waiting(entry));
        let understood =
            waiting.filter_map(
                |(entry, bytes)| match message::understand(bytes, precision_ms) {
                    Ok(timed) => Some((*entry, Outgoing::rolled(timed))),
                    Err(error) => {
                        message::complain_of(bytes, error);
                        None
                    }
                },
            );
        let outgoing: Vec<(Entry, Outgoing<'_>)> = understood.collect();
        let messages: Vec<NewMessage<'_>> = outgoing
            .iter()
            .map(|(_, message)| message.message())
            .collect();
        self.append_all(&messages, |index, error| {
            outgoing[index].1.timed.complain(&error.to_string())
        })
        .map_err(|(_, error)| error)?;
        for (entry, _) in &outgoing {
            // It counts again when its new record is read.
            if !entry.key.deletes() {
                self.topics.count(entry.key.topic(), -1, now.wall_ms);
            }
        }
        if let Some((entry, _)) = records.last() {
            self.progress.rolled = self.progress.rolled.max(entry.physical + 1);
        }
        if let Some(last) = &self.last {
            self.rolling.end = last.end;
            self.position
                .write(self.epoch, &self.progress, &self.cold, last);
        }
        self.keeping.dirty();
        Ok(())
    }

    /// The log may remove what nothing that waits needs.
    fn let_go(&self) {
        if self.store.flushed() < self.rolling.end {
            return;
        }
        let cold = self.cold.iter().map(|entry| entry.physical).min();
        let before = self.progress.rolled.min(cold.unwrap_or(u64::MAX));
        self.store.release_expired(before);
    }
}

/// A walk over everything that waits.
struct Search {
    from: u64,
    below: u64,
    mark: Mark,
    runs: Vec<Arc<Run>>,
}

impl Search {
    fn run(self, store: &Store, memory: Vec<Entry>) -> Batch {
        match self.lowest(memory) {
            Ok(found) => {
                let is_full = found.len() >= CHUNK;
                let last = found.last().map_or(self.from, |entry| entry.physical + 1);
                Batch {
                    records: Vec::new(),
                    rest: found.into(),
                    complete_to: if is_full { last } else { self.below },
                    failed: None,
                }
                .read(store)
            }
            Err(error) => Batch {
                records: Vec::new(),
                rest: VecDeque::new(),
                complete_to: self.from,
                failed: Some(error.to_string()),
            },
        }
    }

    fn lowest(&self, memory: Vec<Entry>) -> io::Result<Vec<Entry>> {
        let mut lowest = Lowest::new(self.from, self.below, CHUNK);
        memory.into_iter().for_each(|entry| lowest.note(entry));
        for run in &self.runs {
            let mut cursor = Cursor::behind(run.clone(), self.mark)?;
            while let Some(entry) = cursor.peek()? {
                lowest.note(entry);
                cursor.pass();
            }
        }
        Ok(lowest.sorted())
    }
}

impl Batch {
    /// Reads the records of the next few.
    fn read(mut self, store: &Store) -> Batch {
        let mut bytes = 0;
        while self.records.len() < BATCH_MESSAGES_MAX && bytes < BATCH_BYTES_MAX {
            let Some(entry) = self.rest.front() else {
                break;
            };
            match store.record_at(entry.physical) {
                Ok(Some(record)) => {
                    bytes += record.len();
                    self.records.push((*entry, record));
                }
                // Delivery tells of it when its time comes.
                Ok(None) => {}
                Err(error @ (ReadError::Closed | ReadError::WouldBlock)) => {
                    self.failed = Some(error.to_string());
                    break;
                }
                Err(error) => {
                    tracing::error!(%error, physical = entry.physical, "an old timer message cannot be read; it is not stored anew");
                }
            }
            self.rest.pop_front();
        }
        self
    }
}
