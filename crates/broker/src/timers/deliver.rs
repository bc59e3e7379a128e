//! Delivery: what is due is read and appended to the real topics, many messages in one append.
//!
//! A record that only the disk has is read beside the turns, so that it holds up nobody; until it is delivered the position names it.

use bytes::Bytes;
use storage::{AppendError, Appended, NewMessage, ReadError};

use super::engine::{BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, Engine, Fault, Now, RETRY_PAUSE};
use super::entry::{Entry, Mark};
use super::message::{self, Outgoing, Timed};
use crate::requests::send::is_about_a_message;

/// Records that are read from the disk at a time.
const COLD_MAX: usize = 64;
/// How often the disk is asked for a record before its message is given up.
const COLD_ATTEMPTS: u32 = 3;

/// What is due, in order.
#[derive(Default)]
struct Batch {
    records: Vec<(Entry, Bytes)>,
    bytes: usize,
    /// The last that was taken from the timeline.
    mark: Option<Mark>,
    /// There is more that is due.
    more: bool,
    /// Messages that are neither delivered nor wait any more.
    dropped: bool,
}

impl Engine {
    /// Takes in what work beside the turns brought.
    pub(super) fn collect(&mut self, now: Now) {
        let letters = self.mail.take();
        for (entry, read) in letters.records {
            match read {
                Ok(found) => self.ready.push_back((entry, found)),
                // Its place stays noted: the next life delivers it.
                Err(ReadError::Closed) => {}
                Err(error) => {
                    tracing::error!(%error, physical = entry.physical, "the record of a timer message cannot be read");
                    self.ready.push_back((entry, None));
                }
            }
        }
        if let Some(kept) = letters.kept {
            self.installed(kept, now);
        }
        if let Some(batch) = letters.roll {
            self.rolling.arrived(batch);
        }
    }

    /// Delivers one batch of what is due. True when there is more.
    pub(super) fn deliver(&mut self, now: Now) -> Result<bool, Fault> {
        let mut batch = self.due(now)?;
        let more = batch.more;
        if batch.records.is_empty() {
            self.passed(&batch);
            return Ok(more);
        }
        if let Err(error) = self.append(&mut batch.records, now) {
            // What was not appended waits again. The mark stays, so that what was comes twice if the process dies at this moment.
            for (entry, bytes) in batch.records.drain(..) {
                if self.cold.contains(&entry) {
                    self.ready.push_back((entry, Some(bytes)));
                } else {
                    self.timeline.push(entry);
                }
            }
            return Err(error.into());
        }
        self.passed(&batch);
        Ok(more)
    }

    /// Everything up to the batch's end is delivered: notes it.
    fn passed(&mut self, batch: &Batch) {
        if let Some(mark) = batch.mark {
            self.progress.mark = self.progress.mark.max(mark);
            self.keeping.popped(mark);
        } else if !batch.dropped {
            return;
        }
        if !self.is_late().unwrap_or(true) {
            self.progress.queue_offset = self.read_offset;
        }
        self.keeping.dirty();
        if let Some(last) = &self.last {
            self.position
                .write(self.epoch, &self.progress, &self.cold, last);
        }
    }

    /// Takes what is due and at hand from the timeline, up to the bounds of a batch.
    fn due(&mut self, now: Now) -> Result<Batch, Fault> {
        let mut batch = Batch::default();
        while let Some((entry, found)) = self.ready.pop_front() {
            match found {
                Some(bytes) => {
                    batch.bytes += bytes.len();
                    batch.records.push((entry, bytes));
                }
                None => {
                    self.gone(&entry, now);
                    batch.dropped = true;
                }
            }
            if batch.bytes >= BATCH_BYTES_MAX {
                batch.more = true;
                return Ok(batch);
            }
        }
        loop {
            let next = match self.timeline.peek() {
                Ok(next) => next,
                // What is taken already is delivered first; the next turn meets the error again.
                Err(_) if batch.mark.is_some() || !batch.records.is_empty() => {
                    batch.more = true;
                    break;
                }
                Err(error) => return Err(error.into()),
            };
            let Some(entry) = next.filter(|entry| entry.due_ms <= now.wall_ms) else {
                break;
            };
            if batch.records.len() >= BATCH_MESSAGES_MAX || batch.bytes >= BATCH_BYTES_MAX {
                batch.more = true;
                break;
            }
            if entry.key.deletes() {
                let is_own = |physical| physical <= entry.physical;
                let hash = entry.key.hash();
                if self
                    .tombstones
                    .get(&hash)
                    .is_some_and(|stone| is_own(stone.physical))
                {
                    self.tombstones.remove(&hash);
                }
            } else if entry.physical >= self.progress.rolled || entry.mark() <= self.progress.mark {
                // What stands before the mark was never stored anew.
                match self.store.record_at_nowait(entry.physical) {
                    Ok(Some(bytes))
                        if batch.bytes > 0 && batch.bytes + bytes.len() > BATCH_BYTES_MAX =>
                    {
                        batch.more = true;
                        break;
                    }
                    Ok(Some(bytes)) => {
                        batch.bytes += bytes.len();
                        batch.records.push((entry, bytes));
                    }
                    Ok(None) => self.gone(&entry, now),
                    Err(ReadError::Closed) => break,
                    Err(_) if self.cold.len() >= COLD_MAX => break,
                    Err(_) => self.read_cold(entry),
                }
            }
            self.timeline.pop()?;
            batch.mark = batch.mark.max(Some(entry.mark()));
        }
        Ok(batch)
    }

    fn read_cold(&mut self, entry: Entry) {
        self.cold.push(entry);
        let (store, mail) = (self.store.clone(), self.mail.clone());
        let generation = mail.generation();
        (self.spawn)(Box::new(move || {
            let mut read = store.record_at(entry.physical);
            for _ in 1..COLD_ATTEMPTS {
                if !matches!(read, Err(ReadError::Disk { .. })) {
                    break;
                }
                std::thread::sleep(RETRY_PAUSE);
                read = store.record_at(entry.physical);
            }
            mail.put(generation, |letters| letters.records.push((entry, read)));
        }));
    }

    /// The log does not hold a message that waits.
    fn gone(&mut self, entry: &Entry, now: Now) {
        tracing::error!(
            physical = entry.physical,
            due_ms = entry.due_ms,
            log_min = self.store.commit_log_min(),
            "a timer message is not in the log any more, or is damaged there; it is not delivered"
        );
        self.left(entry, now);
    }

    /// A message does not wait any more.
    fn left(&mut self, entry: &Entry, now: Now) {
        self.cold.retain(|cold| cold != entry);
        self.topics.count(entry.key.topic(), -1, now.wall_ms);
        self.dequeued += 1;
    }

    /// Appends the messages, and takes from the list what was appended or cannot be.
    fn append(&mut self, records: &mut Vec<(Entry, Bytes)>, now: Now) -> Result<(), AppendError> {
        let taken = std::mem::take(records);
        let mut entries = Vec::with_capacity(taken.len());
        let mut outgoing = Vec::with_capacity(taken.len());
        for (index, (entry, bytes)) in taken.iter().enumerate() {
            let timed = match message::understand(bytes, self.settings.precision_ms) {
                Ok(timed) => timed,
                Err(error) => {
                    message::complain_of(bytes, error);
                    entries.push(*entry);
                    continue;
                }
            };
            if self.is_dropped(entry, &timed) {
                entries.push(*entry);
                continue;
            }
            match Outgoing::delivered(timed, now.wall_ms) {
                Ok(message) => outgoing.push((index, message)),
                Err(error) => {
                    message::complain_of(bytes, error);
                    entries.push(*entry);
                }
            }
        }
        let messages: Vec<NewMessage<'_>> = outgoing
            .iter()
            .map(|(_, message)| message.message())
            .collect();
        let outcome = self.append_all(&messages, |index, error| {
            outgoing[index].1.timed.complain(&error.to_string())
        });
        let done = match &outcome {
            Ok(()) => outgoing.len(),
            Err((done, _)) => *done,
        };
        entries.extend(outgoing[..done].iter().map(|(index, _)| taken[*index].0));
        let undone: Vec<usize> = outgoing[done..].iter().map(|(index, _)| *index).collect();
        records.extend(undone.into_iter().map(|index| taken[index].clone()));
        entries.iter().for_each(|entry| self.left(entry, now));
        outcome.map_err(|(_, error)| error)
    }

    /// Appends in one go, or singly where one message is at fault; such ones are told to `refused` and passed over. On an error also how many are done.
    pub(super) fn append_all(
        &mut self,
        messages: &[NewMessage<'_>],
        mut refused: impl FnMut(usize, &AppendError),
    ) -> Result<(), (usize, AppendError)> {
        let mut appended: Vec<Appended> = Vec::with_capacity(messages.len());
        match self.store.append(messages, &mut appended) {
            Ok(()) => {
                self.last = appended.last().copied().or(self.last);
                return Ok(());
            }
            Err(error) if !is_about_a_message(&error) => return Err((0, error)),
            Err(_) => {}
        }
        for (index, message) in messages.iter().enumerate() {
            match self
                .store
                .append(std::slice::from_ref(message), &mut appended)
            {
                Ok(()) => self.last = appended.last().copied().or(self.last),
                Err(error) if is_about_a_message(&error) => refused(index, &error),
                Err(error) => return Err((index, error)),
            }
        }
        Ok(())
    }

    /// Whether an order drops the message.
    fn is_dropped(&self, entry: &Entry, timed: &Timed<'_>) -> bool {
        self.tombstones.get(&entry.key.hash()).is_some_and(|stone| {
            *stone.topic == *timed.topic && *stone.unique_id == *timed.unique_id
        })
    }
}
