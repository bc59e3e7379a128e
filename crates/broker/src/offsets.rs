//! How far groups have come in queues, kept in `config/consumerOffset.json`. Java 5.3: `ConsumerOffsetManager`.

mod file;
mod resets;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use platform::disk::Disk;
use protocol::body::{ConsumerOffsetSerializeWrapper, DataVersion};
use protocol::light;
use serde::{Deserialize, Serialize};

use crate::persist::{self, JsonFile, Kept, LoadError, Snapshot};

use file::{File, Loaded};
use resets::Resets;

pub(crate) use resets::ResetOfPull;

/// The name of the files.
const NAME: &str = "consumerOffset";
/// Their name on a broker with light queues.
const LIGHT_NAME: &str = "lmqConsumerOffset";
/// Between topic and group in the file's keys.
const SEPARATOR: char = '@';
/// Java moves the version on after so many commits (`consumerOffsetUpdateVersionStep`).
const COMMITS_PER_VERSION: u64 = 500;
/// A member's commit does not go behind what another member committed within this time. Clients commit every five seconds, and
/// share their queues anew every twenty.
const RIVAL_MS: i64 = 30_000;
/// The connection of a commit that no member of the group made.
const NOBODY: u64 = u64::MAX;
/// The pull offset of a queue that no member of the group pulled since the start.
const NOT_PULLED: i64 = -1;

/// Offsets by queue.
type Queues = BTreeMap<i32, i64>;
type ByTopic<T> = HashMap<Arc<str>, T>;
type ByGroup<T> = HashMap<Arc<str>, ByTopic<T>>;
/// Shared with whoever writes the file.
type Shared = Arc<Mutex<BTreeMap<i32, Place>>>;

/// How far a group has come in a queue, and by whom that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    offset: i64,
    /// Where the last pull began.
    pulled: i64,
    /// The connection that committed.
    by: u64,
    /// When.
    at_ms: i64,
}

impl Place {
    /// What an operator, a tool or a file says.
    fn of_nobody(offset: i64) -> Place {
        Place {
            offset,
            pulled: NOT_PULLED,
            by: NOBODY,
            at_ms: 0,
        }
    }
}

/// A commit of a consumer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Commit {
    /// Where the group goes on.
    pub(crate) offset: i64,
    /// Where the pull begins that carried the commit.
    pub(crate) pulled: Option<i64>,
    /// The connection that brought it.
    pub(crate) by: u64,
    /// When it came.
    pub(crate) at_ms: i64,
}

/// The offsets of all groups.
///
/// A commit may go back: an operator's reset does, and a consumer that its user sought back. One kind is passed over: that of a
/// member which goes behind what another member has just committed. Queues change hands while commits are on their way, and
/// whoever is behind did not hear of it.
#[derive(Debug)]
pub(crate) struct Offsets {
    table: RwLock<ByGroup<Shared>>,
    version: Mutex<Version>,
    resets: Resets,
    kept: Kept,
    /// Whether the file has a place of its own for groups that bear the name of a light queue.
    light: bool,
}

#[derive(Debug)]
struct Version {
    version: DataVersion,
    commits: u64,
}

/// What the journal tells. Offsets of a topic that is deleted must not be found by one of the same name; those of consumers
/// wait for the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Change {
    /// A topic was deleted.
    DeleteTopic(String),
    /// A group was deleted.
    DeleteGroup(String),
}

impl Offsets {
    /// The offsets that `consumerOffset.json` in `dir` holds, or `lmqConsumerOffset.json` on a broker with light queues, without what its journal says was
    /// deleted; none when there is no such file. The other file is taken when it is the newer one: light queues were switched on or off. Reads files, and
    /// folds a journal that it finds.
    pub(crate) fn load(dir: &Path, disk: Arc<dyn Disk>, light: bool) -> Result<Offsets, LoadError> {
        let (name, other) = if light {
            (LIGHT_NAME, NAME)
        } else {
            (NAME, LIGHT_NAME)
        };
        let kept = Kept::new(dir, name, disk.clone());
        let mut found = kept.load::<Loaded, Change>(|file| file.data_version.as_ref())?;
        let other = JsonFile::new(dir.join(format!("{other}.json")), disk).load::<Loaded>()?;
        if let Some(mut other) = other
            && found.table.as_ref().is_none_or(|own| own.is_before(&other))
        {
            let mut version = other.data_version.unwrap_or_else(persist::first_version);
            persist::next_version(&mut version);
            other.data_version = Some(version);
            found.table = Some(other);
            found.changes.clear();
            kept.touch_quietly();
        }
        let loaded = found.table.unwrap_or_default();
        let mut version = loaded.data_version.unwrap_or_else(persist::first_version);
        let mut table = ByGroup::<Shared>::new();
        for (key, offset) in loaded.lmq_offset_table {
            let Some((topic, group)) = file::split_light(&key) else {
                continue;
            };
            let of_group = table.entry(Arc::from(group)).or_default();
            let queues = Queues::from([(light::QUEUE_ID, offset)]);
            of_group.insert(Arc::from(topic), shared(queues));
        }
        for (key, queues) in loaded.offset_table {
            // Offsets of broadcasting groups are kept under a name with a separator of its own; names of light queues may hold one.
            let parts = if light::is_light(&key) {
                key.rsplit_once(SEPARATOR)
            } else {
                key.split_once(SEPARATOR)
            };
            match parts {
                Some((topic, group)) if !topic.is_empty() && !group.is_empty() => {
                    let of_group = table.entry(Arc::from(group)).or_default();
                    of_group.insert(Arc::from(topic), shared(queues));
                }
                _ => tracing::warn!(
                    key,
                    "an entry of consumerOffset.json is no topic@group; it is left out"
                ),
            }
        }
        // Commits move the version on and are in no journal, so that the file is nearly always found changed since: only its
        // counter says which deletions it does not know.
        for (at, change) in found.changes {
            if at.counter <= version.counter {
                continue;
            }
            match change {
                Change::DeleteTopic(topic) => remove_topic(&mut table, &topic),
                Change::DeleteGroup(group) => drop(table.remove(group.as_str())),
            }
            version = at;
        }
        let resets = Resets::default();
        for (key, queues) in loaded.reset_offset_table {
            let Some((topic, group)) = key.split_once(SEPARATOR) else {
                continue;
            };
            // Its topic may have been deleted since the file was written.
            if table
                .get(group)
                .is_some_and(|topics| topics.contains_key(topic))
            {
                for (queue_id, offset) in queues {
                    resets.set(group, topic, queue_id, offset);
                }
            }
        }
        let offsets = Offsets {
            table: RwLock::new(table),
            version: Mutex::new(Version {
                version,
                commits: 0,
            }),
            resets,
            kept,
            light,
        };
        if found.had_journal
            && let Err(error) = offsets.fold()
        {
            tracing::error!(%error, "cannot write consumerOffset.json; offsets are kept in memory until it can be written");
        }
        Ok(offsets)
    }

    /// A lock that a panic left behind is usable: each change is complete in itself.
    fn read(&self) -> RwLockReadGuard<'_, ByGroup<Shared>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, ByGroup<Shared>> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The group goes on at `offset`, by the word of an operator or a tool. The file is written within
    /// `flushConsumerOffsetInterval`.
    pub(crate) fn commit(&self, group: &str, topic: &str, queue_id: i32, offset: i64) {
        let commit = Commit {
            offset,
            pulled: None,
            by: NOBODY,
            at_ms: 0,
        };
        self.put(group, topic, queue_id, commit);
    }

    /// The group goes on where a consumer says. `are_members` is asked of two connections whether both are of the group's members.
    /// False when the commit is passed over.
    pub(crate) fn commit_of_consumer(
        &self,
        group: &str,
        topic: &str,
        queue_id: i32,
        commit: Commit,
        are_members: impl FnOnce(u64, u64) -> bool,
    ) -> bool {
        if let Some(rival) = self.rival(group, topic, queue_id, commit)
            && are_members(commit.by, rival.by)
        {
            tracing::info!(
                group,
                topic,
                queue_id,
                offset = commit.offset,
                committed = rival.offset,
                "another member of the group has come further; a commit is passed over"
            );
            return false;
        }
        self.put(group, topic, queue_id, commit);
        true
    }

    /// What another connection committed a moment ago, if `commit` would go behind it.
    fn rival(&self, group: &str, topic: &str, queue_id: i32, commit: Commit) -> Option<Place> {
        let table = self.read();
        let place = *locked(table.get(group)?.get(topic)?).get(&queue_id)?;
        let is_recent = commit.at_ms.saturating_sub(place.at_ms) < RIVAL_MS;
        let is_behind = commit.offset < place.offset;
        (is_behind && is_recent && place.by != NOBODY && place.by != commit.by).then_some(place)
    }

    fn put(&self, group: &str, topic: &str, queue_id: i32, commit: Commit) {
        if !self.put_known(group, topic, queue_id, commit) {
            let mut table = self.write();
            let queues = table
                .entry(Arc::from(group))
                .or_default()
                .entry(Arc::from(topic))
                .or_default();
            put_place(&mut locked(queues), queue_id, commit);
        }
        let mut version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        version.commits += 1;
        if version.commits.is_multiple_of(COMMITS_PER_VERSION) {
            persist::next_version(&mut version.version);
        }
        drop(version);
        self.kept.touch_quietly();
    }

    fn put_known(&self, group: &str, topic: &str, queue_id: i32, commit: Commit) -> bool {
        let table = self.read();
        let Some(queues) = table.get(group).and_then(|topics| topics.get(topic)) else {
            return false;
        };
        let before = put_place(&mut locked(queues), queue_id, commit);
        if let Some(before) = before
            && commit.offset < before
        {
            let offset = commit.offset;
            tracing::info!(group, topic, queue_id, offset, before, "a group went back");
        }
        true
    }

    /// Where the group goes on; none when it has never said.
    pub(crate) fn query(&self, group: &str, topic: &str, queue_id: i32) -> Option<i64> {
        if let Some(reset) = self.resets.get(group, topic, queue_id) {
            return Some(reset);
        }
        let place = self.place(group, topic, queue_id)?;
        (place.offset >= 0).then_some(place.offset)
    }

    /// Where the group's last pull of the queue began, as far as that is known.
    pub(crate) fn pulled(&self, group: &str, topic: &str, queue_id: i32) -> Option<i64> {
        let place = self.place(group, topic, queue_id)?;
        (place.pulled != NOT_PULLED).then_some(place.pulled)
    }

    fn place(&self, group: &str, topic: &str, queue_id: i32) -> Option<Place> {
        let table = self.read();
        locked(table.get(group)?.get(topic)?)
            .get(&queue_id)
            .copied()
    }

    /// All offsets of the group in the topic.
    pub(crate) fn of(&self, group: &str, topic: &str) -> Queues {
        let table = self.read();
        let queues = table.get(group).and_then(|topics| topics.get(topic));
        queues.map(offsets_of).unwrap_or_default()
    }

    /// The least offset of any group in each queue of the topic that is not below what `first` gives as the queue's first message.
    /// Groups among `without` do not count. Java 5.3.4: `ConsumerOffsetManager.queryMinOffsetInAllGroup`.
    pub(crate) fn least(
        &self,
        topic: &str,
        without: &BTreeSet<&str>,
        first: impl Fn(i32) -> i64,
    ) -> Queues {
        let mut least = Queues::new();
        for (group, topics) in self.read().iter() {
            let Some(queues) = topics.get(topic).filter(|_| !without.contains(&**group)) else {
                continue;
            };
            for (queue_id, offset) in offsets_of(queues) {
                if offset >= first(queue_id) {
                    let least = least.entry(queue_id).or_insert(offset);
                    *least = offset.min(*least);
                }
            }
        }
        least
    }

    /// An operator decided where the group goes on; its consumers hear of it with their next pull.
    pub(crate) fn reset(&self, group: &str, topic: &str, queue_id: i32, offset: i64) {
        self.resets.set(group, topic, queue_id, offset);
        self.commit(group, topic, queue_id, offset);
    }

    /// Whether consumers have not followed a reset yet. What they commit until then is their old position.
    pub(crate) fn has_reset(&self, group: &str, topic: &str, queue_id: i32) -> bool {
        self.resets.get(group, topic, queue_id).is_some()
    }

    /// The reset, for a group whose place in the queue the broker itself keeps: it follows at once.
    pub(crate) fn take_reset(&self, group: &str, topic: &str, queue_id: i32) -> Option<i64> {
        let offset = self.resets.take(group, topic, queue_id)?;
        self.kept.touch_quietly();
        Some(offset)
    }

    /// What members say from here on is taken, also behind what another one has just committed: they were told to go back.
    pub(crate) fn forget_committers(&self, group: &str, topic: &str) {
        let table = self.read();
        if let Some(queues) = table.get(group).and_then(|topics| topics.get(topic)) {
            for place in locked(queues).values_mut() {
                place.by = NOBODY;
            }
        }
    }

    /// What a reset means for a consumer that pulls from `offset`; none when there is no reset.
    pub(crate) fn reset_of_pull(
        &self,
        group: &str,
        topic: &str,
        queue_id: i32,
        offset: i64,
    ) -> Option<ResetOfPull> {
        let (meaning, is_over) = self.resets.of_pull(group, topic, queue_id, offset)?;
        if is_over {
            self.kept.touch_quietly();
        }
        Some(meaning)
    }

    /// Topics in which the group has offsets.
    pub(crate) fn topics_of(&self, group: &str) -> BTreeSet<String> {
        self.read()
            .get(group)
            .into_iter()
            .flat_map(HashMap::keys)
            .map(ToString::to_string)
            .collect()
    }

    /// Groups that have offsets in the topic.
    pub(crate) fn groups_of(&self, topic: &str) -> BTreeSet<String> {
        let table = self.read();
        let groups = table
            .iter()
            .filter(|(group, topics)| !group.contains(SEPARATOR) && topics.contains_key(topic));
        groups.map(|(group, _)| group.to_string()).collect()
    }

    /// A deletion took effect. Called under the table's lock.
    fn note(&self, change: &Change) {
        let mut version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        persist::next_version(&mut version.version);
        self.kept.note(&version.version, change);
    }

    /// Forgets a topic that is deleted. Durability is the caller's: [`commit_deletions`](Self::commit_deletions).
    pub(crate) fn delete_topic(&self, topic: &str) {
        let mut table = self.write();
        if table.values().any(|topics| topics.contains_key(topic)) {
            remove_topic(&mut table, topic);
            self.note(&Change::DeleteTopic(topic.to_owned()));
        }
        drop(table);
        self.resets.forget(|_, reset| reset == topic);
    }

    /// Forgets a group that is deleted. Durability is the caller's.
    pub(crate) fn delete_group(&self, group: &str) {
        let mut table = self.write();
        if table.remove(group).is_some() {
            self.note(&Change::DeleteGroup(group.to_owned()));
        }
        drop(table);
        self.resets.forget(|reset, _| reset == group);
    }

    /// `to` goes on where `from` is in the topic.
    pub(crate) fn copy(&self, from: &str, to: &str, topic: &str) {
        let queues = self.of(from, topic);
        if queues.is_empty() {
            return;
        }
        self.write()
            .entry(Arc::from(to))
            .or_default()
            .insert(Arc::from(topic), shared(queues));
        // What its consumers were told to do before holds no more.
        self.resets
            .forget(|group, reset| group == to && reset == topic);
        self.kept.touch_quietly();
    }

    /// Offsets beyond `end`, which gives the end of a queue, go back to it.
    ///
    /// After loss of power under ASYNC_FLUSH the log may end before what consumers had committed. The messages that take those
    /// places later must not be skipped.
    pub(crate) fn clamp(&self, end: impl Fn(&str, i32) -> i64) {
        let mut went_back = 0;
        for (group, topics) in self.read().iter() {
            for (topic, queues) in topics {
                for (queue_id, place) in locked(queues).iter_mut() {
                    let end = end(topic, *queue_id);
                    if place.offset > end {
                        tracing::warn!(
                            group = &**group,
                            topic = &**topic,
                            queue_id,
                            offset = place.offset,
                            end,
                            "a group was ahead of its queue; it goes on at the end"
                        );
                        place.offset = end;
                        went_back += 1;
                    }
                }
            }
        }
        if went_back > 0 {
            self.kept.touch_quietly();
        }
    }

    /// Everything, as the file and slaves hold it.
    pub(crate) fn snapshot(&self) -> ConsumerOffsetSerializeWrapper {
        let mut offset_table = BTreeMap::new();
        for (group, topics) in self.read().iter() {
            for (topic, queues) in topics {
                offset_table.insert(format!("{topic}{SEPARATOR}{group}"), offsets_of(queues));
            }
        }
        let version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        ConsumerOffsetSerializeWrapper {
            offset_table,
            data_version: Some(version.version.clone()),
        }
    }

    fn file(&self) -> Snapshot<File> {
        let table = self.read();
        let mut entries = Vec::new();
        for (group, topics) in table.iter() {
            let topics = topics.iter();
            entries.extend(
                topics.map(|(topic, queues)| (topic.clone(), group.clone(), queues.clone())),
            );
        }
        let version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        let version = version.version.clone();
        let position = self.kept.position();
        drop(table);
        entries.sort_unstable_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        Snapshot {
            table: File {
                version: version.clone(),
                entries,
                resets: self.resets.all(),
                light: self.light,
            },
            version,
            position,
        }
    }

    /// The files of this table.
    pub(crate) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// On return every deletion so far survives loss of power. Blocks.
    pub(crate) fn commit_deletions(&self) -> io::Result<()> {
        self.kept.commit(|| self.file())
    }

    /// Writes `consumerOffset.json` if an offset has changed; the journal goes. Blocks.
    pub(crate) fn fold(&self) -> io::Result<()> {
        self.kept.fold(|| self.file())
    }
}

/// Removes a topic's offsets, and groups that have no others.
fn remove_topic(table: &mut ByGroup<Shared>, topic: &str) {
    table.retain(|_, topics| {
        let removed = topics.remove(topic).is_some();
        !(removed && topics.is_empty())
    });
}

fn locked(queues: &Mutex<BTreeMap<i32, Place>>) -> MutexGuard<'_, BTreeMap<i32, Place>> {
    queues.lock().unwrap_or_else(PoisonError::into_inner)
}

fn offsets_of(queues: &Shared) -> Queues {
    let queues = locked(queues);
    let offsets = queues
        .iter()
        .map(|(queue_id, place)| (*queue_id, place.offset));
    offsets.collect()
}

fn shared(queues: Queues) -> Shared {
    let places = queues.into_iter();
    let places = places.map(|(queue_id, offset)| (queue_id, Place::of_nobody(offset)));
    Arc::new(Mutex::new(places.collect()))
}

/// Takes a commit over. Gives the offset before.
fn put_place(queues: &mut BTreeMap<i32, Place>, queue_id: i32, commit: Commit) -> Option<i64> {
    let known = queues.get(&queue_id).copied();
    let place = Place {
        offset: commit.offset,
        // What was pulled before a tool's word says nothing of what comes after it.
        pulled: commit.pulled.unwrap_or(match known {
            Some(known) if commit.by != NOBODY => known.pulled,
            _ => NOT_PULLED,
        }),
        by: commit.by,
        at_ms: commit.at_ms,
    };
    queues.insert(queue_id, place);
    known.map(|known| known.offset)
}
