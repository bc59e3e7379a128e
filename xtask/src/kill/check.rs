//! What a broker that was killed serves, against the ledger.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use platform::random::Random;
use protocol::body::ConsumerOffsetSerializeWrapper;
use protocol::json;
use protocol::record::Record;

use super::broker::{QueueOf, Target, records};
use super::ledger::{Ledger, Place, Topic, key, verify};
use super::traffic::{GROUPS, STEADY};

/// Older messages that are looked for again after each kill.
const SAMPLE: usize = 48;
/// Messages that are looked for by key after each kill.
const KEYS: usize = 6;

pub(super) struct Check {
    ledger: Arc<Ledger>,
    target: Arc<Target>,
    offsets_path: PathBuf,
    /// How far each queue was read.
    read_to: HashMap<QueueOf, u64>,
    /// What `consumerOffset.json` held after the last kill.
    persisted: HashMap<(&'static str, QueueOf), i64>,
    /// Checked once already.
    checked: Vec<u64>,
}

impl Check {
    pub(super) fn new(ledger: Arc<Ledger>, target: Arc<Target>, dir: &Path) -> Check {
        Check {
            ledger,
            target,
            offsets_path: dir.join("store/config/consumerOffset.json"),
            read_to: HashMap::new(),
            persisted: HashMap::new(),
            checked: Vec::new(),
        }
    }

    /// The topics that are always there are made once, and are never asked for again.
    pub(super) async fn make_steady_topics(&self, addr: &str) -> Result<()> {
        let names: Vec<Arc<str>> = STEADY.iter().map(|(name, _)| (*name).into()).collect();
        if self.ledger.state().topics.contains_key(&names[0]) {
            return Ok(());
        }
        for (name, (_, queues)) in names.into_iter().zip(STEADY) {
            let header = protocol::headers::CreateTopicRequest {
                topic: name.to_string(),
                read_queue_nums: queues,
                write_queue_nums: queues,
                perm: 6,
                topic_filter_type: "SINGLE_TAG".to_owned(),
                default_topic: protocol::topic::AUTO_CREATE.to_owned(),
                ..Default::default()
            };
            let code = protocol::code::RequestCode::UPDATE_AND_CREATE_TOPIC;
            let command = protocol::command::Command::request(code, &header);
            self.target.call(addr, command).await?;
            self.ledger
                .state()
                .topics
                .insert(name, Topic::Exists(queues));
        }
        Ok(())
    }

    /// Reads the offsets as the dead broker left them: never behind what an earlier file held, never ahead of what was committed.
    pub(super) fn read_offsets_file(&mut self) -> Result<()> {
        let path = &self.offsets_path;
        let backup = path.with_extension("json.bak");
        let found = [path, &backup].into_iter().find(|path| path.exists());
        let Some(found) = found else {
            return Ok(());
        };
        let table: ConsumerOffsetSerializeWrapper =
            json::decode(&fs::read(found)?).with_context(|| found.display().to_string())?;
        let state = self.ledger.state();
        for group in GROUPS {
            for queue in steady_queues() {
                let key = format!("{}@{group}", queue.0);
                let offset = table
                    .offset_table
                    .get(&key)
                    .and_then(|all| all.get(&queue.1));
                let before = self.persisted.get(&(group, queue.clone())).copied();
                let offset = match (offset, before) {
                    (Some(offset), _) => *offset,
                    (None, None) => continue,
                    (None, Some(before)) => {
                        anyhow::bail!(
                            "{group} {queue:?}: the offset {before} is gone from its file"
                        )
                    }
                };
                ensure!(
                    before.is_none_or(|before| before <= offset),
                    "{group} {queue:?}: the file held {before:?} and holds {offset}"
                );
                let sent = state.commits.get(&(group, queue.clone()));
                let sent = sent.map_or(0, |(sent, _)| *sent);
                ensure!(
                    offset <= sent,
                    "{group} {queue:?}: the file holds {offset}, and {sent} was the highest commit"
                );
                self.persisted.insert((group, queue), offset);
            }
        }
        Ok(())
    }

    /// All that can be checked in a moment.
    pub(super) async fn restarted(&mut self, addr: &str, random: &mut Random) -> Result<()> {
        self.topics(addr).await?;
        self.offsets(addr).await?;
        for queue in self.queues() {
            let from = self.read_to.get(&queue).copied().unwrap_or(0);
            let end = self.read(addr, &queue, from).await?;
            self.read_to.insert(queue, end);
        }
        let log_min = self.target.log_min(addr).await?;
        let fresh = std::mem::take(&mut self.ledger.state().fresh);
        self.compare(&fresh, log_min)?;
        self.checked.extend(fresh);
        for _ in 0..SAMPLE.min(self.checked.len()) {
            let at = random.below(self.checked.len() as u64) as usize;
            if !self.look_again(addr, self.checked[at], log_min).await? {
                // It expired, or its topic went.
                self.checked.swap_remove(at);
            }
            if self.checked.is_empty() {
                return Ok(());
            }
        }
        for _ in 0..KEYS {
            let number = self.checked[random.below(self.checked.len() as u64) as usize];
            self.look_by_key(addr, number, log_min).await?;
        }
        Ok(())
    }

    /// Reads every queue from its first message to its last.
    pub(super) async fn everything(&mut self, addr: &str) -> Result<()> {
        self.topics(addr).await?;
        self.offsets(addr).await?;
        for queue in self.queues() {
            self.read(addr, &queue, 0).await?;
        }
        let log_min = self.target.log_min(addr).await?;
        let state = self.ledger.state();
        let known: Vec<u64> = state
            .sent
            .iter()
            .filter_map(|(number, sent)| sent.known.map(|_| *number))
            .collect();
        drop(state);
        self.compare(&known, log_min)?;
        let mut state = self.ledger.state();
        let expired = state
            .sent
            .values()
            .filter(|sent| sent.known.is_some_and(|known| known.physical < log_min));
        let expired = expired.count() as u64;
        let arrived = state
            .sent
            .values()
            .filter(|sent| sent.oneway && (sent.found.is_some() || sent.known.is_some()));
        let arrived = arrived.count() as u64;
        let totals = &mut state.totals;
        totals.expired = expired;
        totals.oneway_found = arrived;
        Ok(())
    }

    async fn topics(&self, addr: &str) -> Result<()> {
        let there = self.target.topics(addr).await?;
        let state = self.ledger.state();
        for (name, topic) in &state.topics {
            let config = there.get(&**name);
            match topic {
                Topic::Exists(queues) => {
                    let config = config.with_context(|| format!("topic {name} is lost"))?;
                    ensure!(
                        config.write_queue_nums == *queues && config.read_queue_nums == *queues,
                        "topic {name} was made with {queues} queues: {config:?}"
                    );
                }
                Topic::Deleted => ensure!(config.is_none(), "topic {name} was deleted and is back"),
                Topic::InDoubt => {}
            }
        }
        Ok(())
    }

    /// A broker goes on with what the file held, and a group is never ahead of its queue.
    async fn offsets(&self, addr: &str) -> Result<()> {
        for ((group, queue), offset) in &self.persisted {
            let is = self.target.committed(addr, group, queue).await?;
            ensure!(
                is == Some(*offset),
                "{group} {queue:?}: the file held {offset}, the broker says {is:?}"
            );
            let (_, end) = self.target.bounds(addr, queue).await?;
            ensure!(
                *offset as u64 <= end,
                "{group} {queue:?}: the group is at {offset}, the queue ends at {end}"
            );
        }
        Ok(())
    }

    /// Queues of topics that exist for certain.
    fn queues(&self) -> Vec<QueueOf> {
        let state = self.ledger.state();
        let topics = state.topics.iter();
        let queues = topics.filter_map(|(name, topic)| match topic {
            Topic::Exists(queues) => Some((0..*queues).map(|queue| (Arc::clone(name), queue))),
            _ => None,
        });
        queues.flatten().collect()
    }

    /// Reads a queue from `from` or its first message on; offsets must be contiguous. Returns its end.
    async fn read(&self, addr: &str, queue: &QueueOf, from: u64) -> Result<u64> {
        let (min, end) = self.target.bounds(addr, queue).await?;
        ensure!(
            from <= end,
            "{queue:?}: it was read up to {from} and ends at {end}"
        );
        let mut offset = from.max(min);
        while offset < end {
            let pulled = self
                .target
                .pull(addr, "checker", queue, offset, None)
                .await?;
            let pulled = pulled
                .with_context(|| format!("{queue:?}: offset {offset} of {end} cannot be read"))?;
            for record in records(&pulled.bytes)? {
                ensure!(
                    record.queue_offset == offset,
                    "{queue:?}: offset {offset} is missing, {} follows",
                    record.queue_offset
                );
                self.found(queue, &record)?;
                offset += 1;
            }
        }
        Ok(end)
    }

    /// A message was read: as it was sent, where it was before, and nowhere else.
    fn found(&self, queue: &QueueOf, record: &Record<'_>) -> Result<()> {
        let number = verify(record)?;
        let place = Place {
            offset: record.queue_offset,
            physical: record.physical_offset,
        };
        let mut state = self.ledger.state();
        state.totals.read += 1;
        let sent = state.sent.get_mut(&number);
        let sent = sent.with_context(|| format!("message {number} was never sent"))?;
        ensure!(
            sent.queue == *queue && *record.topic == *queue.0 && record.queue_id == queue.1,
            "message {number} of {:?} is in {queue:?}",
            sent.queue
        );
        for before in [sent.known, sent.found].into_iter().flatten() {
            ensure!(
                before == place,
                "message {number} of {queue:?} was at {before:?} and is at {place:?}"
            );
        }
        sent.found = Some(place);
        Ok(())
    }

    /// What was acknowledged was read, or has expired with its segment.
    fn compare(&self, numbers: &[u64], log_min: u64) -> Result<()> {
        let state = self.ledger.state();
        for number in numbers {
            let sent = &state.sent[number];
            let known = sent.known.context("it was acknowledged")?;
            let is_expected = matches!(state.topics.get(&sent.queue.0), Some(Topic::Exists(_)));
            ensure!(
                !is_expected || known.physical < log_min || sent.found == Some(known),
                "message {number}, acknowledged at {known:?} of {:?}, is lost; the log begins at {log_min}",
                sent.queue
            );
        }
        Ok(())
    }

    /// Whether a message that was read before is expected still; it is there then.
    async fn look_again(&self, addr: &str, number: u64, log_min: u64) -> Result<bool> {
        let Some((queue, known)) = self.expected(number, log_min) else {
            return Ok(false);
        };
        let pulled = self
            .target
            .pull(addr, "checker", &queue, known.offset, None)
            .await?;
        let pulled = pulled.with_context(|| format!("message {number}, at {known:?}, is lost"))?;
        let records = records(&pulled.bytes)?;
        let first = records
            .first()
            .context("a pull that found nothing says so")?;
        ensure!(
            verify(first)? == number && first.physical_offset == known.physical,
            "{queue:?} {}: another message than {number} is there",
            known.offset
        );
        Ok(true)
    }

    async fn look_by_key(&self, addr: &str, number: u64, log_min: u64) -> Result<()> {
        let Some((queue, known)) = self.expected(number, log_min) else {
            return Ok(());
        };
        let bytes = self.target.by_key(addr, &queue.0, &key(number)).await?;
        let records = records(&bytes)?;
        let mut numbers = records
            .iter()
            .map(|record| (verify(record), record.physical_offset));
        ensure!(
            numbers.any(|(is, at)| is.is_ok_and(|is| is == number) && at == known.physical),
            "message {number} of {queue:?} at {known:?} is not found by its key"
        );
        Ok(())
    }

    fn expected(&self, number: u64, log_min: u64) -> Option<(QueueOf, Place)> {
        let state = self.ledger.state();
        let sent = state.sent.get(&number)?;
        let known = sent.known.filter(|known| known.physical >= log_min)?;
        matches!(state.topics.get(&sent.queue.0), Some(Topic::Exists(_)))
            .then(|| (sent.queue.clone(), known))
    }
}

fn steady_queues() -> impl Iterator<Item = QueueOf> {
    let topics = STEADY.into_iter();
    topics.flat_map(|(name, queues)| (0..queues).map(move |queue| (name.into(), queue)))
}
