//! What must hold on a disk after a power cut.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use platform::clock::ManualClock;
use platform::disk::{Disk, Operation, SimulatedDisk};
use protocol::record::{self, CheckBody};
use storage::{Config, Read, ReadMode, ReadStatus, Store};

use super::messages::{Message, QUEUES, settled};
use super::traffic::{END_MS, Note, queue_files_after, segment_start};
use platform::random::Random;

/// Numbers of the messages that are sent after a power cut begin here.
const AFTERWARDS: u64 = 1 << 40;
/// Messages that are sent after a power cut.
const AFTERWARDS_COUNT: u64 = 4;
/// All keys of the newest messages are looked up, and one in so many of the others.
const NEWEST: usize = 12;
const KEYS_SAMPLED: u64 = 16;

/// What is known at a moment of a recording.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// Messages below this number may be in the log.
    sent: u64,
    /// Message number to position and queue offset.
    acknowledged: BTreeMap<u64, (u64, u64)>,
    /// Positions below this one may be gone: their segments were removed.
    expired_below: u64,
    expiring: bool,
}

impl Known {
    /// Learns from the next line of the journal.
    pub(crate) fn learn(&mut self, operation: &Operation, segment_bytes: u64) -> Result<()> {
        match operation {
            Operation::Note(text) => match Note::parse(text).context("a note says nothing")? {
                Note::Sent(below) => self.sent = below,
                Note::Acknowledged(number, physical, queue_offset) => {
                    self.acknowledged.insert(number, (physical, queue_offset));
                }
                Note::Expiring(begins) => self.expiring = begins,
            },
            Operation::Remove(path) if self.expiring => {
                if let Some(start) = segment_start(path) {
                    self.expired_below = self.expired_below.max(start + segment_bytes);
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }
}

/// Opens the store on the disk, reads everything, and sends more. Once in a while the power fails again, or the store is closed, and everything is
/// read again.
pub(crate) async fn check(
    disk: SimulatedDisk,
    config: &Config,
    mut known: Known,
    random: &mut Random,
) -> Result<()> {
    let store = open(&disk, config, random)?;
    // What a recovery found is with the kernel; consumers see it once it is synced.
    ensure!(settled(&store).await, "a sync failed after the recovery");
    known.check(&store, random)?;
    known.send(&store).await?;
    let disk = match random.below(8) {
        0 => {
            drop(store);
            disk.crash(random.next_u64())
        }
        1 => {
            store.close();
            drop(store);
            disk
        }
        _ => return Ok(()),
    };
    let store = open(&disk, config, random).context("the second time")?;
    ensure!(settled(&store).await, "a sync failed after the recovery");
    known.check(&store, random).context("the second time")
}

fn open(disk: &SimulatedDisk, config: &Config, random: &mut Random) -> Result<Arc<Store>> {
    let clock = Arc::new(ManualClock::new(END_MS));
    let config = Config {
        queue_files_max: queue_files_after(random),
        ..config.clone()
    };
    Store::open(config, Arc::new(disk.clone()) as Arc<dyn Disk>, clock)
        .context("the store does not open")
}

impl Known {
    fn check(&self, store: &Store, random: &mut Random) -> Result<()> {
        let log_min = store.commit_log_min();
        ensure!(
            log_min <= self.expired_below,
            "the log begins at {log_min}, and only what lies below {} had expired",
            self.expired_below
        );
        let mut found = BTreeSet::new();
        for (topic, queue_id) in QUEUES {
            self.check_queue(store, topic, queue_id, &mut found)
                .with_context(|| format!("{topic} {queue_id}"))?;
        }
        let mut left = self.acknowledged.len();
        for (&number, &(physical, queue_offset)) in &self.acknowledged {
            left -= 1;
            // What had expired may be gone from the log, or from what is derived from it, or from neither.
            if physical < self.expired_below {
                continue;
            }
            let message = Message::of(number);
            let place = || {
                format!(
                    "message {number}, acknowledged at {physical} and queue offset {queue_offset}"
                )
            };
            ensure!(
                message.is_prepared || found.contains(&number),
                "{}, is in no queue",
                place()
            );
            if message.is_prepared {
                let bytes = store.record_at(physical)?;
                let bytes = bytes.with_context(|| format!("{}, is lost", place()))?;
                self.check_record(&bytes, physical).with_context(place)?;
            }
            if left < NEWEST || random.once_in(KEYS_SAMPLED) {
                for key in [&message.key, &format!("id-{number:016X}")] {
                    let result = store.query_by_key(message.topic, key, 32, 0, i64::MAX)?;
                    let places: Vec<_> = result
                        .records
                        .iter()
                        .map(|bytes| record::peek_physical_offset(bytes))
                        .collect();
                    ensure!(
                        places == [Some(physical)],
                        "{}, by its key {key}: {places:?}",
                        place()
                    );
                }
            }
        }
        Ok(())
    }

    /// Reads a queue from its first message to its last.
    fn check_queue(
        &self,
        store: &Store,
        topic: &str,
        queue_id: i32,
        found: &mut BTreeSet<u64>,
    ) -> Result<()> {
        let end = store.max_offset(topic, queue_id) as i64;
        let mut offset = store.min_offset(topic, queue_id) as i64;
        let mut physical = 0;
        while offset < end {
            let request = Read {
                topic,
                queue_id,
                offset,
                messages_max: 32,
                bytes_max: 1 << 20,
                filter: &|_| true,
            };
            let result = store.read(&request, ReadMode::Blocking)?;
            if result.status != ReadStatus::Found {
                bail!("offset {offset} of {end}: {:?}", result.status);
            }
            for bytes in result.records {
                let record = record::decode(&bytes, CheckBody::Yes)?;
                ensure!(
                    record.queue_offset as i64 == offset,
                    "offset {offset} holds {}",
                    record.queue_offset
                );
                ensure!(
                    offset == 0 || record.physical_offset >= physical,
                    "offset {offset} lies before the one before it"
                );
                physical = record.physical_offset;
                let number = self.check_record(&bytes, physical)?;
                ensure!(found.insert(number), "message {number} is there twice");
                if let Some(place) = self.acknowledged.get(&number) {
                    ensure!(
                        *place == (physical, offset as u64),
                        "message {number}, acknowledged at {place:?}, lies at {physical} and queue offset {offset}"
                    );
                }
                offset += 1;
            }
        }
        Ok(())
    }

    /// That the record is a message which was sent, byte by byte; gives its number.
    fn check_record(&self, bytes: &[u8], physical: u64) -> Result<u64> {
        let record = record::decode(bytes, CheckBody::Yes)?;
        ensure!(record.physical_offset == physical, "another position");
        let number = Message::number(record.body).context("a body that nobody sent")?;
        ensure!(
            number < self.sent || self.acknowledged.contains_key(&number),
            "message {number} was never sent"
        );
        if let Some(what) = Message::of(number).difference(&record) {
            bail!("message {number} has another {what} than was sent");
        }
        Ok(number)
    }

    /// Sends a few messages, which from then on are known.
    async fn send(&mut self, store: &Store) -> Result<()> {
        let numbers = AFTERWARDS..AFTERWARDS + AFTERWARDS_COUNT;
        let messages: Vec<Message> = numbers.clone().map(Message::of).collect();
        let new: Vec<_> = messages.iter().map(Message::new_message).collect();
        let mut appended = Vec::new();
        store
            .append(&new, &mut appended)
            .context("the store takes no messages after the recovery")?;
        ensure!(settled(store).await, "a sync failed after the recovery");
        for (number, at) in numbers.zip(&appended) {
            self.acknowledged
                .insert(number, (at.physical_offset, at.queue_offset));
            let bytes = store.record_at(at.physical_offset)?;
            let bytes = bytes.context("a message that was just sent is lost")?;
            self.check_record(&bytes, at.physical_offset)?;
        }
        Ok(())
    }
}
