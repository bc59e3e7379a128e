//! Where a group's offsets are kept: with the brokers when members share the queues, in a file of one's own when
//! every member reads everything.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::instance::Instance;
use crate::message::MessageQueue;

/// The committed offsets of one consumer.
pub(crate) struct Offsets {
    group: String,
    home: Home,
    /// Offsets reached, and whether they still have to be told to the home.
    table: Mutex<HashMap<MessageQueue, Reached>>,
}

#[derive(Clone, Copy)]
struct Reached {
    offset: i64,
    unsaved: bool,
}

pub(crate) enum Home {
    /// The broker of each queue.
    Brokers(Arc<Instance>),
    /// A file on this machine; with `None` the offsets die with the process.
    File(Option<PathBuf>),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    topic: String,
    broker_name: String,
    queue_id: i32,
    offset: i64,
}

impl Offsets {
    /// Reads the file when there is one; a file that cannot be read is an error, since starting over would deliver
    /// everything again.
    pub(crate) fn open(group: &str, home: Home) -> Result<Self, Error> {
        let table = match &home {
            Home::File(Some(path)) => load(path).map_err(|e| {
                Error::Invalid(format!(
                    "offset file {} cannot be read: {e}",
                    path.display()
                ))
            })?,
            _ => HashMap::new(),
        };
        Ok(Self {
            group: group.to_owned(),
            home,
            table: Mutex::new(table),
        })
    }

    /// The offset to start from, or `None` when the group never consumed the queue.
    pub(crate) async fn load(&self, queue: &MessageQueue) -> Result<Option<i64>, Error> {
        match &self.home {
            Home::Brokers(instance) => instance.query_offset(&self.group, queue).await,
            Home::File(_) => Ok(self.reached(queue)),
        }
    }

    /// How far each queue of the topic is consumed.
    pub(crate) fn of(&self, topic: &str) -> Vec<(MessageQueue, i64)> {
        let table = self.table.lock().expect("no holder panics");
        let of_topic = table.iter().filter(|(queue, _)| queue.topic == topic);
        of_topic
            .map(|(queue, reached)| (queue.clone(), reached.offset))
            .collect()
    }

    pub(crate) fn reached(&self, queue: &MessageQueue) -> Option<i64> {
        let table = self.table.lock().expect("no holder panics");
        table.get(queue).map(|reached| reached.offset)
    }

    /// Remembers how far the queue is consumed; [`persist`](Self::persist) tells the home.
    pub(crate) fn reach(&self, queue: &MessageQueue, offset: i64) {
        let mut table = self.table.lock().expect("no holder panics");
        let known = table.get(queue).map(|reached| reached.offset);
        if known != Some(offset) {
            let reached = Reached {
                offset,
                unsaved: true,
            };
            table.insert(queue.clone(), reached);
        }
    }

    /// Forgets a queue that another member has now, after telling the home how far it came.
    pub(crate) async fn release(&self, queue: &MessageQueue) {
        self.persist_only(|each| each == queue).await;
        if matches!(self.home, Home::Brokers(_)) {
            self.table.lock().expect("no holder panics").remove(queue);
        }
    }

    /// Tells the home every offset that it does not know. What fails is told next time.
    pub(crate) async fn persist(&self) {
        self.persist_only(|_| true).await;
    }

    async fn persist_only(&self, wanted: impl Fn(&MessageQueue) -> bool) {
        let unsaved: Vec<(MessageQueue, i64)> = {
            let table = self.table.lock().expect("no holder panics");
            let unsaved = table
                .iter()
                .filter(|(queue, reached)| reached.unsaved && wanted(queue));
            unsaved
                .map(|(queue, reached)| (queue.clone(), reached.offset))
                .collect()
        };
        if unsaved.is_empty() {
            return;
        }
        match &self.home {
            Home::Brokers(instance) => {
                for (queue, offset) in unsaved {
                    match instance.update_offset(&self.group, &queue, offset).await {
                        Ok(()) => self.mark_saved(&queue, offset),
                        Err(error) => {
                            tracing::warn!(%queue, offset, %error, "offset not committed, tried again later")
                        }
                    }
                }
            }
            Home::File(None) => {}
            Home::File(Some(path)) => {
                let written = save(path, &self.table.lock().expect("no holder panics"));
                match written {
                    Ok(()) => unsaved
                        .iter()
                        .for_each(|(queue, offset)| self.mark_saved(queue, *offset)),
                    Err(error) => {
                        tracing::error!(path = %path.display(), %error, "offset file not written")
                    }
                }
            }
        }
    }

    fn mark_saved(&self, queue: &MessageQueue, offset: i64) {
        let mut table = self.table.lock().expect("no holder panics");
        if let Some(reached) = table.get_mut(queue)
            && reached.offset == offset
        {
            reached.unsaved = false;
        }
    }
}

fn load(path: &Path) -> io::Result<HashMap<MessageQueue, Reached>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashMap::new()),
        Err(error) => return Err(error),
    };
    let lines: Vec<Line> = serde_json::from_slice(&text)?;
    let entries = lines.into_iter().map(|line| {
        let queue = MessageQueue {
            topic: line.topic,
            broker_name: line.broker_name,
            queue_id: line.queue_id,
        };
        let reached = Reached {
            offset: line.offset,
            unsaved: false,
        };
        (queue, reached)
    });
    Ok(entries.collect())
}

/// Replaces the file as a whole: a crash leaves the old one or the new one.
fn save(path: &Path, table: &HashMap<MessageQueue, Reached>) -> io::Result<()> {
    let mut lines: Vec<Line> = table
        .iter()
        .map(|(queue, reached)| Line {
            topic: queue.topic.clone(),
            broker_name: queue.broker_name.clone(),
            queue_id: queue.queue_id,
            offset: reached.offset,
        })
        .collect();
    lines.sort_by(|a, b| {
        (&a.topic, &a.broker_name, a.queue_id).cmp(&(&b.topic, &b.broker_name, b.queue_id))
    });
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let temporary = path.with_extension("tmp");
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec_pretty(&lines)?)?;
    file.sync_all()?;
    std::fs::rename(temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(queue_id: i32) -> MessageQueue {
        MessageQueue {
            topic: "T".to_owned(),
            broker_name: "b".to_owned(),
            queue_id,
        }
    }

    #[tokio::test]
    async fn a_file_keeps_offsets_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/offsets.json");
        let offsets = Offsets::open("g", Home::File(Some(path.clone()))).unwrap();
        offsets.reach(&queue(0), 7);
        offsets.reach(&queue(1), 9);
        offsets.persist().await;

        let again = Offsets::open("g", Home::File(Some(path))).unwrap();
        assert_eq!(again.load(&queue(0)).await.unwrap(), Some(7));
        assert_eq!(again.load(&queue(1)).await.unwrap(), Some(9));
        assert_eq!(again.load(&queue(2)).await.unwrap(), None);
    }

    #[test]
    fn a_broken_file_is_an_error_and_not_a_fresh_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("offsets.json");
        std::fs::write(&path, "[{").unwrap();
        assert!(Offsets::open("g", Home::File(Some(path))).is_err());
    }
}
