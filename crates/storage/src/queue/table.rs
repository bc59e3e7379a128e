//! All queues, found by topic and number without allocation.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use platform::disk::Disk;
use protocol::light;

use super::files::Files;
use super::shared::Shared;
use super::{Entries, Queue};
use crate::config::Config;
use crate::dispatch;

/// A topic that has, or had, messages here.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: Arc<str>,
    /// Hash of `name#`, with which the topic's index keys begin.
    pub(crate) index_hash: i32,
    /// One record may hold several messages of it, and its queues have files of their own kind.
    is_batch: AtomicBool,
    /// Sorted by number.
    queues: RwLock<Vec<Arc<Queue>>>,
}

impl Topic {
    pub(crate) fn new(name: &str) -> Topic {
        Topic {
            name: Arc::from(name),
            index_hash: dispatch::topic_hash(name),
            is_batch: AtomicBool::new(false),
            queues: RwLock::default(),
        }
    }

    pub(crate) fn is_batch(&self) -> bool {
        self.is_batch.load(Ordering::Acquire)
    }

    pub(crate) fn queue(&self, id: i32) -> Option<Arc<Queue>> {
        let queues = self
            .queues
            .read()
            .expect("no code panics while it changes the list of queues");
        // Mostly the numbers are 0, 1, 2…, so the number is the index.
        if let Some(queue) = usize::try_from(id).ok().and_then(|index| queues.get(index))
            && queue.id == id
        {
            return Some(Arc::clone(queue));
        }
        let index = queues.binary_search_by_key(&id, |queue| queue.id).ok()?;
        queues.get(index).cloned()
    }

    pub(crate) fn queues(&self) -> Vec<Arc<Queue>> {
        self.queues
            .read()
            .expect("no code panics while it changes the list of queues")
            .clone()
    }

    /// The second value says whether it was created.
    fn queue_or_create(self: &Arc<Topic>, id: i32) -> (Arc<Queue>, bool) {
        if let Some(queue) = self.queue(id) {
            return (queue, false);
        }
        let mut queues = self
            .queues
            .write()
            .expect("no code panics while it changes the list of queues");
        match queues.binary_search_by_key(&id, |queue| queue.id) {
            Ok(index) => (Arc::clone(&queues[index]), false),
            Err(index) => {
                let queue = Arc::new(Queue::new(Arc::clone(self), id, 0, 0));
                queues.insert(index, Arc::clone(&queue));
                (queue, true)
            }
        }
    }

    /// Adds a queue that was found on the disk.
    fn insert(&self, queue: Arc<Queue>) {
        let mut queues = self
            .queues
            .write()
            .expect("no code panics while it changes the list of queues");
        match queues.binary_search_by_key(&queue.id, |queue| queue.id) {
            Ok(index) => queues[index] = queue,
            Err(index) => queues.insert(index, queue),
        }
    }
}

/// All queues.
#[derive(Debug)]
pub(crate) struct Table {
    topics: RwLock<HashMap<Arc<str>, Arc<Topic>>>,
    /// Names of batch topics, in `topics` or not. Locked behind it.
    batch: RwLock<HashSet<String>>,
    /// Grows when a topic is deleted: who looked queues up before must look again.
    generation: AtomicU64,
    /// The files of single queues, in force as long as there is no shared store.
    pub(crate) files: Files,
    shared: OnceLock<Shared>,
    shared_dir: PathBuf,
    /// Queues that may have files of their own.
    files_max: usize,
    /// Queues in the table.
    count: AtomicUsize,
    /// Light queues that have, or had, messages.
    light: AtomicUsize,
    /// Queues with entries that are not in their files.
    unwritten: Mutex<Vec<Arc<Queue>>>,
    /// Queues whose written entries are still in memory.
    retained: Mutex<Vec<Arc<Queue>>>,
    /// Entries that are not in their files. Signed: the writer may take an entry from its queue before the append has counted it.
    backlog: AtomicI64,
}

impl Table {
    pub(crate) fn new(disk: Arc<dyn Disk>, root: &Path, config: &Config) -> Table {
        Table {
            topics: RwLock::default(),
            batch: RwLock::new(config.batch_topics.iter().cloned().collect()),
            generation: AtomicU64::new(0),
            files: Files::new(disk, root, config),
            shared: OnceLock::new(),
            shared_dir: root.join("consumequeue_shared"),
            files_max: config.queue_files_max,
            count: AtomicUsize::new(0),
            light: AtomicUsize::new(0),
            unwritten: Mutex::default(),
            retained: Mutex::default(),
            backlog: AtomicI64::new(0),
        }
    }

    pub(crate) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics
            .read()
            .expect("no code panics while it changes the table of topics")
            .get(name)
            .cloned()
    }

    pub(crate) fn topics(&self) -> Vec<Arc<Topic>> {
        self.topics
            .read()
            .expect("no code panics while it changes the table of topics")
            .values()
            .cloned()
            .collect()
    }

    pub(crate) fn queue(&self, topic: &str, id: i32) -> Option<Arc<Queue>> {
        self.topics
            .read()
            .expect("no code panics while it changes the table of topics")
            .get(topic)?
            .queue(id)
    }

    pub(crate) fn topic_or_create(&self, name: &str) -> Arc<Topic> {
        if let Some(topic) = self.topic(name) {
            return topic;
        }
        let mut topics = self
            .topics
            .write()
            .expect("no code panics while it changes the table of topics");
        if let Some(topic) = topics.get(name) {
            return Arc::clone(topic);
        }
        let topic = Arc::new(Topic::new(name));
        let is_batch = self.batch_names().contains(name);
        topic.is_batch.store(is_batch, Ordering::Release);
        topics.insert(Arc::clone(&topic.name), Arc::clone(&topic));
        topic
    }

    fn batch_names(&self) -> std::sync::RwLockReadGuard<'_, HashSet<String>> {
        self.batch
            .read()
            .expect("no code panics while it changes the names of batch topics")
    }

    /// Has the topic be a batch topic from here on. False when it already has files of the plain kind.
    pub(crate) fn make_batch(&self, name: &str) -> bool {
        if let Some(topic) = self.topic(name)
            && topic.is_batch()
        {
            return true;
        }
        let topics = self
            .topics
            .write()
            .expect("no code panics while it changes the table of topics");
        if let Some(topic) = topics.get(name) {
            let has_files = |queue: &Arc<Queue>| {
                let entries = queue.entries();
                entries.written() != entries.files_from
            };
            if self.shared().is_none() && topic.queues().iter().any(has_files) {
                return false;
            }
            topic.is_batch.store(true, Ordering::Release);
        }
        self.batch
            .write()
            .expect("no code panics while it changes the names of batch topics")
            .insert(name.to_owned());
        true
    }

    /// The topic is none of the batch topics. While the store opens.
    pub(crate) fn make_simple(&self, name: &str) {
        if let Some(topic) = self.topic(name) {
            topic.is_batch.store(false, Ordering::Release);
        }
        self.batch
            .write()
            .expect("no code panics while it changes the names of batch topics")
            .remove(name);
    }

    pub(crate) fn queue_or_create(&self, topic: &str, id: i32) -> Arc<Queue> {
        self.queue_of(&self.topic_or_create(topic), id)
    }

    /// A queue of a topic that was looked up before; see [`Table::generation`].
    pub(crate) fn queue_of(&self, topic: &Arc<Topic>, id: i32) -> Arc<Queue> {
        let (queue, created) = topic.queue_or_create(id);
        if created {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        queue
    }

    /// Adds a queue that was found on the disk.
    pub(crate) fn insert(&self, topic: &Topic, queue: &Arc<Queue>) {
        topic.insert(Arc::clone(queue));
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// The shared store, when it is in force. Once it is, it stays.
    pub(crate) fn shared(&self) -> Option<&Shared> {
        self.shared.get()
    }

    /// Puts the shared store in force.
    pub(crate) fn set_shared(&self, shared: Shared) {
        let fresh = self.shared.set(shared).is_ok();
        debug_assert!(fresh, "a store is converted once");
    }

    pub(crate) fn shared_dir(&self) -> &Path {
        &self.shared_dir
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn light_count(&self) -> usize {
        self.light.load(Ordering::Relaxed)
    }

    /// More light queues have their first message.
    pub(crate) fn add_light(&self, queues: usize) {
        self.light.fetch_add(queues, Ordering::Relaxed);
    }

    /// Counts the light queues that were found on the disk. Recovery only.
    pub(crate) fn count_light(&self) {
        let is_used = |topic: &&Arc<Topic>| {
            let mut queues = topic.queues().into_iter();
            light::is_light(&topic.name) && queues.any(|queue| queue.entries().max() > 0)
        };
        let count = self.topics().iter().filter(is_used).count();
        self.light.store(count, Ordering::Relaxed);
    }

    pub(crate) fn files_max(&self) -> usize {
        self.files_max
    }

    /// Whether there are more queues than may have files of their own, and they still have them.
    pub(crate) fn outgrows_files(&self) -> bool {
        self.shared().is_none() && self.count() > self.files_max
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Takes a topic out of the table. With the append lock held, so that no append is between looking its queue up and adding to it.
    pub(crate) fn remove(&self, name: &str) -> Option<Arc<Topic>> {
        self.batch
            .write()
            .expect("no code panics while it changes the names of batch topics")
            .remove(name);
        let topic = self
            .topics
            .write()
            .expect("no code panics while it changes the table of topics")
            .remove(name)?;
        for queue in topic.queues() {
            queue.set_deleted();
            self.count.fetch_sub(1, Ordering::Relaxed);
            if light::is_light(name) && queue.id == light::QUEUE_ID && queue.next() > 0 {
                self.light.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.generation.fetch_add(1, Ordering::AcqRel);
        Some(topic)
    }

    /// Puts a queue into the writer's list. True when the list was empty, so that the writer may sleep.
    pub(crate) fn list_unwritten(&self, queue: &Arc<Queue>) -> bool {
        let mut unwritten = self
            .unwritten
            .lock()
            .expect("no code panics while it changes the writer's list");
        unwritten.push(Arc::clone(queue));
        unwritten.len() == 1
    }

    pub(crate) fn take_unwritten(&self) -> Vec<Arc<Queue>> {
        std::mem::take(
            &mut *self
                .unwritten
                .lock()
                .expect("no code panics while it changes the writer's list"),
        )
    }

    pub(crate) fn has_unwritten(&self) -> bool {
        !self
            .unwritten
            .lock()
            .expect("no code panics while it changes the writer's list")
            .is_empty()
    }

    /// Remembers a queue that keeps entries in memory after they were written, so that they leave with their records.
    pub(crate) fn retain(&self, queue: &Arc<Queue>, entries: &mut Entries) {
        if !entries.retained && entries.first() < entries.max() {
            entries.retained = true;
            self.retained().push(Arc::clone(queue));
        }
    }

    /// Lets go of written entries whose record lies before `keep_from`, in queues that get no new ones. At most as many queues are looked at
    /// as there are records in the memory tail.
    pub(crate) fn sweep_retained(&self, keep_from: u64) {
        // Taken out, so that no queue's lock is waited for under the list's.
        let mut queues = std::mem::take(&mut *self.retained());
        queues.retain(|queue| {
            let mut entries = queue.entries();
            let keep = !entries.forget(keep_from);
            entries.retained = keep;
            keep
        });
        self.retained().append(&mut queues);
    }

    fn retained(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Queue>>> {
        self.retained
            .lock()
            .expect("no code panics while it changes the list of retained queues")
    }

    pub(crate) fn backlog(&self) -> usize {
        usize::try_from(self.backlog.load(Ordering::Relaxed)).unwrap_or(0)
    }

    pub(crate) fn add_backlog(&self, entries: usize) -> usize {
        let before = self.backlog.fetch_add(entries as i64, Ordering::Relaxed);
        usize::try_from(before + entries as i64).unwrap_or(0)
    }

    pub(crate) fn sub_backlog(&self, entries: usize) {
        self.backlog.fetch_sub(entries as i64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use platform::disk::SimulatedDisk;

    use super::*;

    /// An append shows its entries to the writer before it counts them. When the writer was quicker, the count passed below zero: other
    /// producers were refused as if 2^64 entries were waiting, and a debug build panicked with the append lock held.
    #[test]
    fn entries_written_before_they_are_counted_do_not_count_as_a_backlog() {
        let disk = Arc::new(SimulatedDisk::new());
        let table = Table::new(disk, Path::new("/q"), &Config::default());
        table.sub_backlog(3);
        assert_eq!(table.backlog(), 0);
        assert_eq!(table.add_backlog(3), 0);
        assert_eq!(table.add_backlog(2), 2);
        assert_eq!(table.backlog(), 2);
    }
}
