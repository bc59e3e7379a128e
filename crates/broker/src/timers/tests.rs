//! Delivery by a clock that the test moves, turn by turn, and lives that end in every way.

mod crash;
mod keeping;
mod replaying;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use platform::clock::{Clock, ManualClock};
use platform::disk::{Disk, SimulatedDisk};
use protocol::properties as names;
use protocol::record::{self, CheckBody};
use protocol::topic;
use storage::{Config, FlushMode, NewMessage, Read, ReadMode, Store};

use super::engine::BATCH_MESSAGES_MAX;
use super::mail::{Spawn, Work};
use super::{Context, Next, RecallRequest, Recalled, TimerSettings, Timers};

const START_MS: i64 = 1_700_000_000_000;
const SEGMENT_BYTES: u64 = 4 << 20;
const ROOT: &str = "/store";
const HOUR_MS: i64 = 3_600_000;
/// What the fixture's timers roll at.
const ROLL_AGE_MS: i64 = 36 * HOUR_MS;

fn host() -> SocketAddr {
    "127.0.0.1:1".parse().unwrap()
}

/// Work that a test runs when it likes.
#[derive(Clone, Default)]
struct Queue(Arc<Mutex<VecDeque<Work>>>);

impl Queue {
    fn spawn(&self) -> Spawn {
        let queue = self.0.clone();
        Arc::new(move |work| queue.lock().unwrap().push_back(work))
    }

    fn run_all(&self) -> usize {
        let mut count = 0;
        loop {
            let work = self.0.lock().unwrap().pop_front();
            let Some(work) = work else { return count };
            work();
            count += 1;
        }
    }
}

struct Fixture {
    disk: SimulatedDisk,
    clock: Arc<ManualClock>,
    store: Arc<Store>,
    timers: Arc<Timers>,
    settings: TimerSettings,
    beside: Queue,
    next_id: std::cell::Cell<u32>,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture::open(SimulatedDisk::new(), Arc::new(ManualClock::new(START_MS)))
    }

    fn open(disk: SimulatedDisk, clock: Arc<ManualClock>) -> Fixture {
        let config = Config {
            root: PathBuf::from(ROOT),
            segment_bytes: SEGMENT_BYTES,
            flush: FlushMode::Async,
            flush_interval_ms: 1,
            index_slots: 100,
            index_entries: 10_000,
            warning_ratio: 100,
            clean_forcibly_ratio: 100,
            disk_max_used_ratio: 99,
            hold_expired: true,
            delete_when_hours: Vec::new(),
            write_behind_interval_ms: 1,
            checkpoint_interval_ms: 1,
            ..Config::default()
        };
        let effects: Arc<dyn Disk> = Arc::new(disk.clone());
        let wall: Arc<dyn Clock> = clock.clone();
        let store = Store::open(config, effects.clone(), wall.clone()).unwrap();
        let settings = TimerSettings {
            stop_enqueue: false,
            stop_dequeue: false,
            precision_ms: 1000,
            roll_age_ms: ROLL_AGE_MS,
            save_interval: Duration::from_secs(10),
        };
        let beside = Queue::default();
        let timers = Timers::load(Context {
            root: Path::new(ROOT),
            config_dir: &Path::new(ROOT).join("config"),
            disk: effects,
            clock: wall,
            store: store.clone(),
            spawn: beside.spawn(),
            settings,
        });
        Fixture {
            disk,
            clock,
            store,
            timers: Arc::new(timers.unwrap()),
            settings,
            beside,
            next_id: std::cell::Cell::new(0),
        }
    }

    /// As after `kill -9`: the same files, another life.
    fn kill(self) -> Fixture {
        let next_id = self.next_id.get();
        let (disk, clock) = (self.disk.kill(), self.clock.clone());
        drop(self);
        let next = Fixture::open(disk, clock);
        next.next_id.set(next_id);
        next
    }

    /// As after a clean stop.
    fn restart(self) -> Fixture {
        self.beside.run_all();
        self.settle();
        self.timers.keep_all().unwrap();
        self.store.close();
        self.kill()
    }

    /// Stores a message for later as a send does, and gives its id.
    fn send(&self, due_ms: i64, body: &str) -> String {
        self.send_to("T", due_ms, body.as_bytes())
    }

    fn send_to(&self, topic: &str, due_ms: i64, body: &[u8]) -> String {
        let id = format!("ID{}", self.next_id.get());
        self.next_id.set(self.next_id.get() + 1);
        let due = due_ms.to_string();
        self.store_timer(
            body,
            &[
                ("UNIQ_KEY", &id),
                ("TIMER_DELIVER_MS", &due),
                ("TIMER_OUT_MS", &due),
                ("REAL_TOPIC", topic),
                ("REAL_QID", "0"),
            ],
        );
        id
    }

    fn store_timer(&self, body: &[u8], properties: &[(&str, &str)]) {
        let mut text = String::new();
        properties
            .iter()
            .for_each(|(name, value)| names::push(&mut text, name, value));
        let message = NewMessage {
            topic: topic::TIMER,
            queue_id: 0,
            flag: 7,
            sys_flag: 0,
            born_timestamp_ms: 5,
            born_host: host(),
            store_host: host(),
            reconsume_times: 2,
            prepared_transaction_offset: 0,
            body,
            properties: &text,
        };
        self.store.append(&[message], &mut Vec::new()).unwrap();
    }

    fn turn(&self) -> Next {
        self.timers.turn(self.settings)
    }

    /// Turns and works beside until nothing is to be done at this moment.
    fn settle(&self) -> Next {
        loop {
            let next = self.turn();
            if self.beside.run_all() == 0 && next != Next::Now {
                return next;
            }
        }
    }

    fn advance(&self, ms: i64) -> Next {
        self.clock.advance(Duration::from_millis(ms as u64));
        self.settle()
    }

    fn delivered(&self) -> Vec<String> {
        self.records("T").iter().map(body_of).collect()
    }

    fn records(&self, topic: &str) -> Vec<Bytes> {
        let mut records = Vec::new();
        let mut next = self.store.min_offset(topic, 0);
        while next < self.store.max_offset(topic, 0) {
            let read = Read {
                topic,
                queue_id: 0,
                offset: next as i64,
                messages_max: 100_000,
                bytes_max: 100 << 20,
                filter: &|_| true,
            };
            let read = self.store.read(&read, ReadMode::Blocking).unwrap();
            assert!(!read.records.is_empty(), "records are missing");
            next = read.next_offset as u64;
            records.extend(read.records);
        }
        records
    }

    fn recall(&self, id: &str, due_ms: i64) -> Recalled {
        let found = self
            .store
            .query_by_key(topic::TIMER, id, 64, 0, i64::MAX)
            .unwrap();
        let found = found.records.into_iter().rfind(|bytes| {
            let record = record::decode(bytes, CheckBody::No).unwrap();
            names::get(record.properties, names::TIMER_DEL_UNIQKEY).is_none()
        });
        let request = RecallRequest {
            topic: "T",
            unique_id: id,
            producer_group: "producers",
            timestamp_ms: due_ms + 1,
            born_host: host(),
            store_host: host(),
        };
        self.timers.recall(&request, found.as_ref())
    }

    fn waiting(&self) -> i64 {
        self.timers.figures().waiting
    }
}

fn body_of(bytes: &Bytes) -> String {
    let record = record::decode(bytes, CheckBody::Yes).unwrap();
    String::from_utf8(record.body.to_vec()).unwrap()
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_message_is_delivered_at_its_time_and_not_before() {
    let fixture = Fixture::new();
    assert_eq!(fixture.settle(), Next::After(super::IDLE_LOOK));
    fixture.send(START_MS + 1_500, "second");
    fixture.send(START_MS + 1_234, "first");
    assert_eq!(fixture.settle(), Next::After(super::CLOCK_LOOK));
    assert_eq!(fixture.waiting(), 2);
    fixture.advance(1_233);
    assert_eq!(fixture.delivered(), NOTHING);
    fixture.advance(1);
    assert_eq!(fixture.delivered(), ["first"]);
    assert_eq!(fixture.settle(), Next::After(Duration::from_millis(266)));
    fixture.advance(266);
    assert_eq!(fixture.delivered(), ["first", "second"]);
    assert_eq!(fixture.waiting(), 0);
    let records = fixture.records("T");
    let record = record::decode(&records[0], CheckBody::Yes).unwrap();
    assert_eq!(
        (
            record.flag,
            record.reconsume_times,
            record.born_timestamp_ms
        ),
        (7, 2, 5)
    );
    let property = |name| names::get(record.properties, name);
    assert_eq!(property(names::TIMER_OUT_MS), Some("1700000001234"));
    assert_eq!(property(names::TIMER_DEQUEUE_MS), Some("1700000001234"));
    assert_eq!(
        (property(names::REAL_TOPIC), property(names::REAL_QUEUE_ID)),
        (None, None)
    );
}

#[test]
fn many_due_messages_go_in_order_and_in_batches() {
    let fixture = Fixture::new();
    let count = 2 * BATCH_MESSAGES_MAX as i64 + 10;
    // Sent in the opposite order.
    (0..count)
        .for_each(|number| drop(fixture.send(START_MS + 1_000 - number, &number.to_string())));
    fixture.settle();
    fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(fixture.turn(), Next::Now);
    assert_eq!(fixture.delivered().len(), BATCH_MESSAGES_MAX);
    fixture.settle();
    let want: Vec<String> = (0..count).rev().map(|number| number.to_string()).collect();
    assert_eq!(fixture.delivered(), want);
}

#[test]
fn a_clock_that_is_set_back_makes_nothing_early_and_nothing_twice() {
    let fixture = Fixture::new();
    fixture.send(START_MS + 1_000, "before");
    fixture.send(START_MS + 500_000, "long");
    fixture.advance(1_000);
    fixture.clock.set_wall(START_MS - HOUR_MS);
    fixture.send(START_MS - HOUR_MS + 60_000, "after");
    fixture.send(START_MS - HOUR_MS + 5_000, "soon after");
    fixture.settle();
    fixture.advance(4_999);
    assert_eq!(fixture.delivered(), ["before"]);
    fixture.advance(1);
    assert_eq!(fixture.delivered(), ["before", "soon after"]);
    // Marks began anew, so a process that dies here repeats nothing.
    let fixture = fixture.kill();
    fixture.settle();
    assert_eq!(fixture.delivered(), ["before", "soon after"]);
    fixture.advance(55_000);
    assert_eq!(fixture.delivered(), ["before", "soon after", "after"]);
    let fixture = fixture.kill();
    fixture.advance(HOUR_MS + 500_000);
    assert_eq!(
        fixture.delivered(),
        ["before", "soon after", "after", "long"]
    );
}

#[test]
fn a_clock_that_is_set_forward_delivers_what_is_due_then() {
    let fixture = Fixture::new();
    fixture.send(START_MS + HOUR_MS, "in an hour");
    fixture.settle();
    fixture.clock.set_wall(START_MS + HOUR_MS);
    fixture.settle();
    assert_eq!(fixture.delivered(), ["in an hour"]);
}

#[test]
fn what_cannot_be_delivered_holds_up_nothing() {
    let fixture = Fixture::new();
    let due = (START_MS + 1_000).to_string();
    let time = ("TIMER_OUT_MS", &*due);
    fixture.store_timer(b"no time", &[("REAL_TOPIC", "T"), ("REAL_QID", "0")]);
    fixture.store_timer(
        b"no number",
        &[
            ("REAL_TOPIC", "T"),
            ("REAL_QID", "0"),
            ("TIMER_OUT_MS", "x"),
        ],
    );
    fixture.store_timer(b"no topic", &[time]);
    fixture.store_timer(b"no queue", &[time, ("REAL_TOPIC", "T"), ("REAL_QID", "x")]);
    fixture.store_timer(
        b"negative",
        &[time, ("REAL_TOPIC", "T"), ("REAL_QID", "-1")],
    );
    fixture.store_timer(
        b"a half",
        &[time, ("REAL_TOPIC", topic::TRANS_HALF), ("REAL_QID", "0")],
    );
    fixture.store_timer(
        b"in a circle",
        &[time, ("REAL_TOPIC", topic::TIMER), ("REAL_QID", "0")],
    );
    fixture.store_timer(
        b"no name",
        &[time, ("REAL_TOPIC", "a/b"), ("REAL_QID", "0")],
    );
    fixture.send(START_MS + 2_000, "good");
    fixture.advance(2_000);
    assert_eq!(fixture.delivered(), ["good"]);
    assert_eq!(fixture.waiting(), 0);
    assert!(fixture.records(topic::TRANS_HALF).is_empty());
    assert_eq!(fixture.store.max_offset(topic::TIMER, 0), 9);
}

#[test]
fn a_record_that_is_slow_to_read_holds_up_no_other() {
    let fixture = Fixture::new();
    fixture.send(START_MS + 1_000, "cold");
    fixture.settle();
    // Out of the memory of the log's end, and of the page cache.
    let filler = vec![b'x'; 1 << 20];
    (0..40).for_each(|_| drop(fixture.send_to("Fill", START_MS + HOUR_MS, &filler)));
    fixture.send(START_MS + 1_000, "warm");
    fixture.settle();
    fixture
        .disk
        .set_faults(|faults| faults.reads_are_cold = true);
    fixture.clock.advance(Duration::from_secs(1));
    fixture.turn();
    assert_eq!(fixture.delivered_behind_cold_reads(), ["warm"]);
    assert_eq!(fixture.waiting(), 41);
    // Whoever dies before the slow read is over repeats only what is not noted, and loses nothing.
    let fixture = fixture.kill();
    fixture.settle();
    assert_eq!(fixture.delivered(), ["warm", "cold"]);
}

impl Fixture {
    fn delivered_behind_cold_reads(&self) -> Vec<String> {
        self.disk.set_faults(|faults| faults.reads_are_cold = false);
        self.delivered()
    }
}

#[test]
fn a_store_that_takes_nothing_loses_nothing() {
    let fixture = Fixture::new();
    fixture.send(START_MS + 1_000, "a");
    fixture.settle();
    fixture.store.close();
    fixture.clock.advance(Duration::from_secs(1));
    fixture.turn();
    let fixture = fixture.kill();
    fixture.settle();
    assert_eq!(fixture.delivered(), ["a"]);
}

#[test]
fn a_full_disk_delays_and_does_not_lose() {
    let fixture = Fixture::new();
    fixture.send_to("T", START_MS + 1_000, &vec![b'x'; 500_000]);
    fixture.settle();
    fixture
        .disk
        .set_faults(|faults| faults.capacity_bytes = Some(0));
    let mut filled = 0;
    let filler = NewMessage {
        topic: "Fill",
        queue_id: 0,
        flag: 0,
        sys_flag: 0,
        born_timestamp_ms: 0,
        born_host: host(),
        store_host: host(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body: &vec![b'x'; 500_000],
        properties: "",
    };
    while fixture.store.append(&[filler], &mut Vec::new()).is_ok() {
        filled += 1;
        assert!(filled < 100, "a full disk takes everything");
    }
    assert_eq!(
        fixture.advance(1_000),
        Next::After(super::engine::RETRY_PAUSE)
    );
    assert!(fixture.records("T").is_empty());
    assert_eq!(fixture.waiting(), 1);
    fixture
        .disk
        .set_faults(|faults| faults.capacity_bytes = None);
    let mut turns = 0;
    while fixture.records("T").is_empty() {
        turns += 1;
        assert!(turns < 100_000, "room came back, and nothing is delivered");
        fixture.advance(100);
    }
    assert_eq!(fixture.records("T").len(), 1);
}

#[test]
fn a_recalled_message_is_not_delivered_in_this_life_or_the_next() {
    let fixture = Fixture::new();
    let ids: Vec<String> = (0..4)
        .map(|number| fixture.send(START_MS + 10_000, &number.to_string()))
        .collect();
    // Before it was read, after, twice.
    assert!(matches!(
        fixture.recall(&ids[0], START_MS + 10_000),
        Recalled::Yes(_)
    ));
    fixture.settle();
    assert!(matches!(
        fixture.recall(&ids[1], START_MS + 10_000),
        Recalled::Yes(_)
    ));
    assert!(matches!(
        fixture.recall(&ids[1], START_MS + 10_000),
        Recalled::Yes(_)
    ));
    let fixture = fixture.kill();
    fixture.settle();
    let fixture = fixture.restart();
    fixture.settle();
    assert!(matches!(
        fixture.recall(&ids[2], START_MS + 10_000),
        Recalled::Yes(_)
    ));
    fixture.advance(10_000);
    assert_eq!(fixture.delivered(), ["3"]);
    assert_eq!(fixture.waiting(), 0);
    assert!(matches!(
        fixture.recall(&ids[3], START_MS + 10_000),
        Recalled::TooLate
    ));
    // Orders are forgotten when the time of their messages is over.
    fixture.advance(2_000);
    assert!(fixture.timers.engine().tombstones.is_empty());
}

#[test]
fn a_message_is_deleted_by_its_key() {
    let fixture = Fixture::new();
    let ids: Vec<String> = (0..3)
        .map(|number| fixture.send(START_MS + 5_500, &number.to_string()))
        .collect();
    let order = |key: &str| {
        let due = (START_MS + 5_500).to_string();
        fixture.store_timer(
            b"0",
            &[
                ("TIMER_DEL_UNIQKEY", key),
                ("UNIQ_KEY", "another"),
                ("TIMER_OUT_MS", &due),
                ("TIMER_DELIVER_MS", &due),
                ("REAL_TOPIC", "T"),
                ("REAL_QID", "0"),
            ],
        );
    };
    order(&format!("T+{}", ids[0]));
    order(&ids[1]);
    order("T+of nobody");
    order(&format!("U+{}", ids[2]));
    fixture.advance(5_500);
    assert_eq!(fixture.delivered(), ["2"]);
}

#[test]
fn what_came_before_a_time_goes_on_at_java_ticks() {
    // What a Java broker stores: the tick before the time.
    let fixture = Fixture::new();
    let out = (START_MS + 1_000).to_string();
    let at = (START_MS + 1_700).to_string();
    let to = [
        ("REAL_TOPIC", "T"),
        ("REAL_QID", "0"),
        ("TIMER_OUT_MS", &*out),
    ];
    fixture.store_timer(b"at", &[to[0], to[1], to[2], ("TIMER_DELIVER_MS", &at)]);
    fixture.store_timer(b"delay", &[to[0], to[1], to[2], ("TIMER_DELAY_MS", "1200")]);
    fixture.store_timer(b"unknown", &to);
    fixture.advance(1_199);
    assert_eq!(fixture.delivered(), NOTHING);
    fixture.advance(1);
    assert_eq!(fixture.delivered(), ["delay"]);
    fixture.advance(500);
    assert_eq!(fixture.delivered(), ["delay", "at"]);
    fixture.advance(300);
    assert_eq!(fixture.delivered(), ["delay", "at", "unknown"]);
}

#[test]
fn an_operator_may_stop_both_ways() {
    let mut fixture = Fixture::new();
    fixture.send(START_MS + 1_000, "a");
    fixture.settings.stop_dequeue = true;
    fixture.advance(2_000);
    assert_eq!(fixture.delivered(), NOTHING);
    fixture.settings.stop_dequeue = false;
    fixture.settings.stop_enqueue = true;
    fixture.send(START_MS + 2_500, "b");
    fixture.advance(1_000);
    assert_eq!(fixture.delivered(), ["a"]);
    assert_eq!(fixture.timers.figures().offset_behind, 1);
    fixture.settings.stop_enqueue = false;
    fixture.settle();
    assert_eq!(fixture.delivered(), ["a", "b"]);
}

#[test]
fn topics_are_counted_one_by_one_in_every_life() {
    let fixture = Fixture::new();
    for (topic, due_ms) in [("T", 1_000), ("T", 60_000), ("U", 60_000)] {
        fixture.send_to(topic, START_MS + due_ms, b"x");
    }
    fixture.advance(1_000);
    let counted = |fixture: &Fixture| {
        let table = fixture.timers.metrics().timing_count;
        table
            .into_iter()
            .map(|(topic, count)| (topic, count.count))
            .collect::<Vec<_>>()
    };
    let want = [("T".to_owned(), 1), ("U".to_owned(), 1)];
    assert_eq!(counted(&fixture), want);
    let fixture = fixture.restart();
    fixture.settle();
    assert_eq!(counted(&fixture), want);
    let fixture = fixture.kill();
    fixture.settle();
    assert_eq!(counted(&fixture), want);
    assert_eq!(fixture.waiting(), 2);
}
