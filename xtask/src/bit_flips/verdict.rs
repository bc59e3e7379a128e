//! What a flipped bit did to what the store serves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use platform::disk::SimulatedDisk;
use protocol::record::{self, CheckBody};
use storage::{Config, Read, ReadMode, Store};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::open;
use crate::crash_images::messages::Message;

/// How a flip ended, the worst thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// Everything is served as it was stored.
    Harmless,
    /// Everything is served to consumers as it was stored, and a query by key misses a message.
    NotByKey,
    /// A field came out changed that no checksum covers.
    Unprotected,
    /// A record stands in another queue, or at another offset, than it was stored in: what tells its place is not covered either, and a recovery after a
    /// death believes it. Never in a store that was closed.
    Moved,
    /// Messages are missing, and the log of the store says so.
    Reported,
    /// The store does not open, and says why.
    Refused,
}

impl Verdict {
    pub(super) const ALL: [Verdict; 6] = [
        Verdict::Harmless,
        Verdict::NotByKey,
        Verdict::Unprotected,
        Verdict::Moved,
        Verdict::Reported,
        Verdict::Refused,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Verdict::Harmless => "harmless",
            Verdict::NotByKey => "not by key",
            Verdict::Unprotected => "unprotected",
            Verdict::Moved => "moved",
            Verdict::Reported => "reported",
            Verdict::Refused => "refused",
        }
    }
}

/// The queued records of the store before the flip.
pub(super) struct Original {
    /// By position.
    records: BTreeMap<u64, Bytes>,
    /// Whether the store died, so that opening it reads the end of the log.
    dies: bool,
}

impl Original {
    pub(super) fn read(store: &Store, dies: bool) -> Result<Original> {
        let records: BTreeMap<_, _> = read_all(store)?
            .into_iter()
            .map(|bytes| (record::peek_physical_offset(&bytes).unwrap_or(0), bytes))
            .collect();
        ensure!(records.len() > 100, "the store holds hardly anything");
        Ok(Original { records, dies })
    }
}

/// Opens the store on the damaged disk and reads everything in every way.
///
/// # Errors
/// When something is served that was not stored, or something is missing without a word.
pub(super) fn of(disk: &SimulatedDisk, config: &Config, original: &Original) -> Result<Verdict> {
    let complaints = Arc::new(AtomicU64::new(0));
    let listener = Listener(Arc::clone(&complaints));
    tracing::subscriber::with_default(listener, || {
        let Ok(store) = open(disk, config) else {
            return Ok(Verdict::Refused);
        };
        let mut worst = Verdict::Harmless;
        let mut served = BTreeSet::new();
        for bytes in read_all(&store)? {
            let physical = record::peek_physical_offset(&bytes).unwrap_or(u64::MAX);
            let Some(expected) = original.records.get(&physical) else {
                bail!("a record is served at {physical}, where none was stored");
            };
            worst = worst.max(compare(expected, &bytes, original.dies)?);
            ensure!(
                served.insert(physical),
                "the record at {physical} is served twice"
            );
        }
        let is_reported = || complaints.load(Ordering::Relaxed) > 0;
        for (&physical, expected) in &original.records {
            let at = store.record_at(physical)?;
            // Who asks by position names neither topic nor queue, so that nothing tells whether they are right.
            let at = at
                .map(|bytes| compare(expected, &bytes, true))
                .transpose()?;
            if served.contains(&physical) {
                ensure!(
                    at.is_some() || is_reported(),
                    "{physical} is missing by position"
                );
            } else if is_reported() {
                worst = worst.max(Verdict::Reported);
                continue;
            } else {
                // The recovery believed a changed place, or a changed transaction type, with which a message is in no queue.
                ensure!(
                    original.dies && at > Some(Verdict::Harmless),
                    "{physical} is missing without a word"
                );
                worst = worst.max(Verdict::Moved);
            }
            worst = worst.max(match at {
                Some(Verdict::Moved) if !original.dies => Verdict::Unprotected,
                Some(verdict) => verdict,
                None => Verdict::Reported,
            });
            let was = record::decode(expected, CheckBody::Yes)?;
            let number = Message::number(was.body).unwrap_or(u64::MAX);
            let key = Message::of(number).key;
            let found = store
                .query_by_key(was.topic, &key, 32, 0, i64::MAX)?
                .records;
            ensure!(found.len() <= 1, "{key} is found more than once");
            match found.first() {
                Some(bytes) => worst = worst.max(compare(expected, bytes, original.dies)?),
                None => worst = worst.max(Verdict::NotByKey),
            }
        }
        // It takes messages, or says why not.
        let mut appended = Vec::new();
        let message = Message::of(1 << 40);
        if store
            .append(&[message.new_message()], &mut appended)
            .is_err()
        {
            return Ok(Verdict::Refused);
        }
        Ok(worst)
    })
}

/// What is served against what was stored.
fn compare(expected: &Bytes, served: &Bytes, may_move: bool) -> Result<Verdict> {
    if served == expected {
        return Ok(Verdict::Harmless);
    }
    let was = record::decode(expected, CheckBody::Yes)?;
    if was.properties.len() > record::without_checksum(was.properties).len() {
        let covered = expected.len() - record::CHECKSUM_PROPERTY_BYTES;
        if served.get(..covered) == expected.get(..covered) {
            // The checksum's own name is damaged: all that it covers is as it was.
            return Ok(Verdict::Harmless);
        }
    }
    let Ok(is) = record::decode(served, CheckBody::No) else {
        bail!("a record that cannot be decoded is served");
    };
    ensure!(is.body == was.body, "a wrong body is served");
    let is_in_place =
        is.topic == was.topic && (is.queue_id, is.queue_offset) == (was.queue_id, was.queue_offset);
    if is_in_place {
        return Ok(Verdict::Unprotected);
    }
    ensure!(
        may_move,
        "a record is served as {} {} {}, and was stored as {} {} {}",
        is.topic,
        is.queue_id,
        is.queue_offset,
        was.topic,
        was.queue_id,
        was.queue_offset
    );
    Ok(Verdict::Moved)
}

/// Every record that a consumer gets who reads every queue from its first offset to its last.
fn read_all(store: &Store) -> Result<Vec<Bytes>> {
    let mut all = Vec::new();
    for topic in store.topics() {
        for queue_id in store.queues_of(&topic) {
            let end = store.max_offset(&topic, queue_id) as i64;
            let mut offset = store.min_offset(&topic, queue_id) as i64;
            while offset < end {
                let request = Read {
                    topic: &topic,
                    queue_id,
                    offset,
                    messages_max: 32,
                    bytes_max: 1 << 20,
                    filter: &|_| true,
                };
                let result = store.read(&request, ReadMode::Blocking)?;
                ensure!(
                    result.next_offset > offset,
                    "{topic} {queue_id}: a consumer does not get past offset {offset}"
                );
                offset = result.next_offset;
                all.extend(result.records);
            }
        }
    }
    Ok(all)
}

/// Counts what a person would read in the log.
struct Listener(Arc<AtomicU64>);

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
