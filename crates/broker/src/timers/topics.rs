//! How many messages of each topic wait. Topics have numbers, which entries hold; the manifest holds the names.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use protocol::body::TimerMetric;

use super::entry::TOPICS_MAX;

/// Stands for topics beyond the number that is counted one by one.
const OTHERS: &str = "*";

#[derive(Debug, Default)]
pub(super) struct Topics {
    names: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, usize>,
    counts: Vec<TimerMetric>,
    waiting: i64,
}

impl Topics {
    /// The topics of a manifest, in order.
    pub(super) fn with_names(names: Vec<Arc<str>>) -> Topics {
        let mut topics = Topics::default();
        for name in &names {
            topics.number(name);
        }
        topics
    }

    pub(super) fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// The number of a topic, which gets one when it has none.
    pub(super) fn number(&mut self, name: &str) -> usize {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        if self.names.len() == TOPICS_MAX {
            return TOPICS_MAX - 1;
        }
        let number = self.names.len();
        let name: Arc<str> = if number == TOPICS_MAX - 1 {
            OTHERS.into()
        } else {
            name.into()
        };
        self.names.push(name.clone());
        self.numbers.insert(name, number);
        self.counts.push(TimerMetric::default());
        number
    }

    /// More or fewer messages of a topic wait.
    pub(super) fn count(&mut self, topic: usize, change: i64, now_ms: i64) {
        self.waiting += change;
        if let Some(count) = self.counts.get_mut(topic) {
            count.count += change;
            count.time_stamp = now_ms;
        }
    }

    /// Messages that wait, of all topics.
    pub(super) fn waiting(&self) -> i64 {
        self.waiting
    }

    /// By name, those of which messages wait or waited.
    pub(super) fn table(&self) -> BTreeMap<String, TimerMetric> {
        let counted = self.names.iter().zip(&self.counts);
        let counted = counted.filter(|(_, count)| count.time_stamp != 0);
        counted
            .map(|(name, count)| (name.to_string(), count.clone()))
            .collect()
    }

    /// Nothing waits any more, as far as is known.
    pub(super) fn reset(&mut self) {
        self.waiting = 0;
        self.counts.iter_mut().for_each(|count| count.count = 0);
    }
}
