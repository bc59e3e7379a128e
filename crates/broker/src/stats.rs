//! What came and went, by topic and by group: counters, and samples of them from which sums and rates of the last minute, hour and day
//! follow. Values in, values out, time given. Java 5.3.4: `BrokerStatsManager`, `StatsItem`.
//!
//! The message path pays one look-up and three additions for each topic of a batch of sends, and for each pull that is answered
//! with messages.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Topics and groups of topics that are counted for themselves. What comes beyond is not; idle ones make room.
const ITEMS_MAX: usize = 50_000;

/// A span of time, and how often its samples are taken. The sample before the span is one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    Minute,
    Hour,
    Day,
}

const SPANS: [Span; 3] = [Span::Minute, Span::Hour, Span::Day];

impl Span {
    fn interval_ms(self) -> i64 {
        match self {
            Span::Minute => 10_000,
            Span::Hour => 600_000,
            Span::Day => 3_600_000,
        }
    }

    fn samples_max(self) -> usize {
        match self {
            Span::Minute | Span::Hour => 7,
            Span::Day => 25,
        }
    }
}

/// Which of an item's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    /// Messages.
    Messages,
    /// Bytes of their records.
    Bytes,
}

/// Sum and rates of a span.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Snapshot {
    pub(crate) sum: i64,
    /// A second.
    pub(crate) rate: f64,
    /// For each time that something was counted.
    pub(crate) average: f64,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at_ms: i64,
    messages: u64,
    bytes: u64,
    times: u64,
}

/// The counters of a topic, or of a group in a topic.
#[derive(Debug, Default)]
pub(crate) struct Item {
    messages: AtomicU64,
    bytes: AtomicU64,
    times: AtomicU64,
    samples: Mutex<[VecDeque<Sample>; 3]>,
}

impl Item {
    fn add(&self, messages: usize, bytes: u64) {
        self.messages.fetch_add(messages as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.times.fetch_add(1, Ordering::Relaxed);
    }

    fn samples(&self) -> MutexGuard<'_, [VecDeque<Sample>; 3]> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sample(&self, span: Span, now_ms: i64) {
        let sample = Sample {
            at_ms: now_ms,
            messages: self.messages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            times: self.times.load(Ordering::Relaxed),
        };
        let mut samples = self.samples();
        let samples = &mut samples[span as usize];
        // The clock may have been set back: then what was noted says nothing any more.
        if samples.back().is_some_and(|last| now_ms <= last.at_ms) {
            samples.clear();
        }
        if samples.is_empty() {
            // Nothing was there before its first message.
            samples.push_back(Sample {
                at_ms: now_ms - span.interval_ms(),
                messages: 0,
                bytes: 0,
                times: 0,
            });
        }
        samples.push_back(sample);
        if samples.len() > span.samples_max() {
            samples.pop_front();
        }
    }

    /// Sum and rates between the first and the last sample of the span.
    pub(crate) fn of(&self, figure: Figure, span: Span) -> Snapshot {
        let samples = self.samples();
        let samples = &samples[span as usize];
        let (Some(first), Some(last)) = (samples.front(), samples.back()) else {
            return Snapshot::default();
        };
        let of = |sample: &Sample| match figure {
            Figure::Messages => sample.messages,
            Figure::Bytes => sample.bytes,
        };
        let sum = of(last).saturating_sub(of(first)) as i64;
        let ms = (last.at_ms - first.at_ms).max(1);
        let times = last.times.saturating_sub(first.times);
        Snapshot {
            sum,
            rate: sum as f64 * 1000.0 / ms as f64,
            average: if times > 0 {
                sum as f64 / times as f64
            } else {
                0.0
            },
        }
    }

    /// Nothing was counted since before the day's first sample.
    fn is_idle(&self, span: Span) -> bool {
        let samples = self.samples();
        let samples = &samples[span as usize];
        samples.len() == span.samples_max()
            && samples
                .front()
                .zip(samples.back())
                .is_some_and(|(first, last)| first.times == last.times)
    }
}

#[derive(Debug, Default)]
struct OfTopic {
    put: Item,
    groups: RwLock<HashMap<Arc<str>, Arc<OfGroup>>>,
}

#[derive(Debug, Default)]
struct OfGroup {
    got: Item,
    returned: Item,
}

/// The figures of all topics and groups.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    topics: RwLock<HashMap<Arc<str>, Arc<OfTopic>>>,
    broker: OfBroker,
    /// Topics and groups in them.
    len: AtomicUsize,
    next: Mutex<Option<[i64; 3]>>,
}

/// The figures of the broker as a whole.
#[derive(Debug, Default)]
struct OfBroker {
    put: Item,
    got: Item,
}

impl Stats {
    fn topic(&self, topic: &str) -> Option<Arc<OfTopic>> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.get(topic).cloned()
    }

    fn topic_or_new(&self, topic: &str) -> Option<Arc<OfTopic>> {
        if let Some(known) = self.topic(topic) {
            return Some(known);
        }
        self.reserve()?;
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let new = topics.entry(Arc::from(topic)).or_default();
        Some(new.clone())
    }

    fn group_or_new(&self, topic: &str, group: &str) -> Option<Arc<OfGroup>> {
        let topic = self.topic_or_new(topic)?;
        if let Some(known) = topic.group(group) {
            return Some(known);
        }
        self.reserve()?;
        let mut groups = topic.groups.write().unwrap_or_else(PoisonError::into_inner);
        let new = groups.entry(Arc::from(group)).or_default();
        Some(new.clone())
    }

    /// A place for one item more. Two that come for the same item at once take two; the next day's sample counts anew.
    fn reserve(&self) -> Option<()> {
        let len = self.len.fetch_add(1, Ordering::Relaxed);
        if len < ITEMS_MAX {
            return Some(());
        }
        self.len.fetch_sub(1, Ordering::Relaxed);
        None
    }

    /// Messages were stored in a topic.
    pub(crate) fn put(&self, topic: &str, messages: usize, bytes: u64) {
        self.broker.put.add(messages, bytes);
        if let Some(known) = self.topic_or_new(topic) {
            known.put.add(messages, bytes);
        }
    }

    /// Messages were handed out to a group.
    pub(crate) fn got(&self, topic: &str, group: &str, messages: usize, bytes: usize) {
        self.broker.got.add(messages, bytes as u64);
        if let Some(known) = self.group_or_new(topic, group) {
            known.got.add(messages, bytes as u64);
        }
    }

    /// A consumer gave a message back.
    pub(crate) fn returned(&self, topic: &str, group: &str) {
        if let Some(known) = self.group_or_new(topic, group) {
            known.returned.add(1, 0);
        }
    }

    /// Messages stored in the topic a second, over the last minute.
    pub(crate) fn put_rate(&self, topic: &str) -> f64 {
        let known = self.topic(topic);
        known.map_or(0.0, |known| {
            known.put.of(Figure::Messages, Span::Minute).rate
        })
    }

    /// Messages of the topic handed out to the group a second, over the last minute.
    pub(crate) fn got_rate(&self, topic: &str, group: &str) -> f64 {
        let known = self.topic(topic).and_then(|topic| topic.group(group));
        known.map_or(0.0, |known| {
            known.got.of(Figure::Messages, Span::Minute).rate
        })
    }

    /// Gives `look` the item of a name of Java's, with the figure that it stands for. `key` is a topic, `topic@group`, or the cluster.
    pub(crate) fn find<T>(
        &self,
        name: &str,
        key: &str,
        cluster: &str,
        look: impl FnOnce(&Item, Figure) -> T,
    ) -> Option<T> {
        let of_group = || {
            let (topic, group) = key.split_once('@')?;
            self.topic(topic)?.group(group)
        };
        let is_ours = key == cluster;
        Some(match name {
            "TOPIC_PUT_NUMS" => look(&self.topic(key)?.put, Figure::Messages),
            "TOPIC_PUT_SIZE" => look(&self.topic(key)?.put, Figure::Bytes),
            "GROUP_GET_NUMS" => look(&of_group()?.got, Figure::Messages),
            "GROUP_GET_SIZE" => look(&of_group()?.got, Figure::Bytes),
            "SNDBCK_PUT_NUMS" => look(&of_group()?.returned, Figure::Messages),
            "BROKER_PUT_NUMS" if is_ours => look(&self.broker.put, Figure::Messages),
            "BROKER_GET_NUMS" if is_ours => look(&self.broker.got, Figure::Messages),
            _ => return None,
        })
    }

    /// Takes the samples that are due. To be called every second or so.
    pub(crate) fn sample(&self, now_ms: i64) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let times = next.get_or_insert([now_ms; 3]);
        for (span, due_ms) in SPANS.into_iter().zip(times) {
            let was_set_back = *due_ms - now_ms > span.interval_ms();
            if now_ms < *due_ms && !was_set_back {
                continue;
            }
            *due_ms = now_ms + span.interval_ms();
            self.sample_all(span, now_ms);
        }
    }

    fn sample_all(&self, span: Span, now_ms: i64) {
        self.broker.put.sample(span, now_ms);
        self.broker.got.sample(span, now_ms);
        let topics: Vec<_> = {
            let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
            topics.values().cloned().collect()
        };
        for topic in &topics {
            topic.put.sample(span, now_ms);
            for group in topic.all_groups() {
                group.got.sample(span, now_ms);
                group.returned.sample(span, now_ms);
            }
        }
        let is_crowded = self.len.load(Ordering::Relaxed) > ITEMS_MAX / 2;
        match span {
            Span::Day => self.forget_idle(Span::Day),
            Span::Hour if is_crowded => self.forget_idle(Span::Hour),
            Span::Minute | Span::Hour => {}
        }
    }

    fn forget_idle(&self, span: Span) {
        let mut left = 0;
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        topics.retain(|_, topic| {
            let mut groups = topic.groups.write().unwrap_or_else(PoisonError::into_inner);
            groups.retain(|_, group| !(group.got.is_idle(span) && group.returned.is_idle(span)));
            let is_idle = groups.is_empty() && topic.put.is_idle(span);
            left += if is_idle { 0 } else { 1 + groups.len() };
            !is_idle
        });
        self.len.store(left, Ordering::Relaxed);
    }

    /// The topic is deleted.
    pub(crate) fn delete_topic(&self, topic: &str) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(gone) = topics.remove(topic) {
            let items = 1 + gone.all_groups().len();
            self.len.fetch_sub(items, Ordering::Relaxed);
        }
    }

    /// The group is deleted.
    pub(crate) fn delete_group(&self, group: &str) {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        for topic in topics.values() {
            let mut groups = topic.groups.write().unwrap_or_else(PoisonError::into_inner);
            if groups.remove(group).is_some() {
                self.len.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl OfTopic {
    fn group(&self, group: &str) -> Option<Arc<OfGroup>> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        groups.get(group).cloned()
    }

    fn all_groups(&self) -> Vec<Arc<OfGroup>> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        groups.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(stats: &Stats, name: &str, key: &str, span: Span) -> Option<Snapshot> {
        stats.find(name, key, "c", |item, figure| item.of(figure, span))
    }

    #[test]
    fn what_was_never_counted_has_no_figures() {
        let stats = Stats::default();
        stats.put("t", 1, 10);
        for (name, key) in [
            ("TOPIC_PUT_NUMS", "u"),
            ("GROUP_GET_NUMS", "t@g"),
            ("GROUP_GET_NUMS", "t"),
            ("BROKER_PUT_NUMS", "another cluster"),
            ("NONSENSE", "t"),
            ("", ""),
        ] {
            assert_eq!(of(&stats, name, key, Span::Minute), None, "{name} {key}");
        }
        assert_eq!(
            of(&stats, "TOPIC_PUT_NUMS", "t", Span::Minute),
            Some(Snapshot::default()),
            "there is no sample yet"
        );
    }

    #[test]
    fn sums_and_rates_are_those_between_the_samples() {
        let stats = Stats::default();
        stats.put("t", 40, 4000);
        stats.got("t", "g", 32, 3200);
        stats.got("t", "g", 8, 800);
        stats.returned("t", "g");
        stats.sample(1_000_000);
        let minute = |name, key| of(&stats, name, key, Span::Minute).unwrap();
        let want = |sum, rate, average| Snapshot { sum, rate, average };
        assert_eq!(minute("TOPIC_PUT_NUMS", "t"), want(40, 4.0, 40.0));
        assert_eq!(minute("TOPIC_PUT_SIZE", "t"), want(4000, 400.0, 4000.0));
        assert_eq!(minute("GROUP_GET_NUMS", "t@g"), want(40, 4.0, 20.0));
        assert_eq!(minute("SNDBCK_PUT_NUMS", "t@g"), want(1, 0.1, 1.0));
        assert_eq!(minute("BROKER_GET_NUMS", "c"), want(40, 4.0, 20.0));
        for second in 1..=120 {
            stats.put("t", 1, 1);
            stats.sample(1_000_000 + second * 1000);
        }
        assert_eq!(minute("TOPIC_PUT_NUMS", "t"), want(60, 1.0, 1.0));
        assert_eq!((stats.put_rate("t"), stats.got_rate("t", "g")), (1.0, 0.0));
        let hour = of(&stats, "TOPIC_PUT_NUMS", "t", Span::Hour).unwrap();
        assert_eq!(hour.sum, 40, "the next sample of the hour is not due");
    }

    #[test]
    fn a_clock_that_is_set_back_starts_anew() {
        let stats = Stats::default();
        stats.put("t", 10, 10);
        stats.sample(1_000_000_000);
        stats.put("t", 10, 10);
        stats.sample(1_000);
        let now = of(&stats, "TOPIC_PUT_NUMS", "t", Span::Minute).unwrap();
        assert_eq!(now.sum, 20);
    }

    #[test]
    fn idle_topics_make_room() {
        let stats = Stats::default();
        stats.put("idle", 1, 1);
        for hour in 0..30 {
            stats.got("t", "g", 1, 1);
            stats.sample(hour * 3_600_000);
        }
        assert!(stats.topic("idle").is_none());
        assert!(stats.topic("t").is_some());
        assert_eq!(stats.len.load(Ordering::Relaxed), 2);
        stats.delete_group("g");
        stats.delete_topic("t");
        assert_eq!(stats.len.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn no_more_items_are_kept_than_there_is_room_for() {
        let stats = Stats::default();
        for n in 0..ITEMS_MAX + 10 {
            stats.put(&format!("t{n}"), 1, 1);
        }
        assert!(stats.topic("t0").is_some());
        assert!(stats.topic(&format!("t{ITEMS_MAX}")).is_none());
        assert_eq!(stats.len.load(Ordering::Relaxed), ITEMS_MAX);
    }
}
