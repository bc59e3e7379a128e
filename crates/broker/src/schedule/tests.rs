//! Delivery by a clock that the test moves, turn by turn.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use platform::clock::{Clock, ManualClock};
use platform::disk::{Disk, RealDisk, SimulatedDisk};
use protocol::properties as names;
use protocol::record::{self, CheckBody};
use protocol::topic;
use storage::{Config, FlushMode, NewMessage, Read, ReadMode, Store};
use tempfile::TempDir;

use super::level::BATCH_MESSAGES_MAX;
use super::{Next, Schedule};

const START_MS: i64 = 1_700_000_000_000;
const SEGMENT_BYTES: u64 = 4 << 20;
const LEVELS: &str = "1s 5s 2m";

struct Fixture {
    disk: Arc<dyn Disk>,
    dir: TempDir,
    clock: Arc<ManualClock>,
    store: Arc<Store>,
    schedule: Arc<Schedule>,
}

impl Fixture {
    fn new() -> Fixture {
        let clock = Arc::new(ManualClock::new(START_MS));
        Fixture::open(
            Arc::new(RealDisk),
            tempfile::tempdir().unwrap(),
            clock,
            LEVELS,
        )
    }

    fn open(disk: Arc<dyn Disk>, dir: TempDir, clock: Arc<ManualClock>, levels: &str) -> Fixture {
        let config = Config {
            root: dir.path().join("store"),
            segment_bytes: SEGMENT_BYTES,
            flush: FlushMode::Async,
            index_enabled: false,
            warning_ratio: 100,
            clean_forcibly_ratio: 100,
            disk_max_used_ratio: 99,
            delay_levels: levels.to_owned(),
            ..Config::default()
        };
        let wall: Arc<dyn Clock> = clock.clone();
        let store = Store::open(config, disk.clone(), wall.clone()).unwrap();
        let schedule = Schedule::load(
            &dir.path().join("config"),
            disk.clone(),
            store.clone(),
            wall,
        );
        let schedule = Arc::new(schedule.unwrap());
        schedule.watch();
        Fixture {
            disk,
            dir,
            clock,
            store,
            schedule,
        }
    }

    /// As after `kill -9`, or after a clean stop: the same directory, another life.
    fn reopen(self, levels: &str, clean: bool) -> Fixture {
        let Fixture {
            disk,
            dir,
            clock,
            store,
            schedule,
        } = self;
        drop(schedule);
        if clean {
            store.close();
        }
        drop(store);
        Fixture::open(disk, dir, clock, levels)
    }

    fn delay(&self, level: i32, body: &str) {
        self.delay_with(
            level,
            body.as_bytes(),
            &[("REAL_TOPIC", "T"), ("REAL_QID", "0")],
        );
    }

    fn delay_with(&self, level: i32, body: &[u8], properties: &[(&str, &str)]) {
        let mut text = String::new();
        names::push(&mut text, names::DELAY, &level.to_string());
        properties
            .iter()
            .for_each(|(name, value)| names::push(&mut text, name, value));
        let host: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let message = NewMessage {
            topic: topic::SCHEDULE,
            queue_id: level - 1,
            flag: 7,
            sys_flag: 0,
            born_timestamp_ms: 5,
            born_host: host,
            store_host: host,
            reconsume_times: 2,
            prepared_transaction_offset: 0,
            body,
            properties: &text,
        };
        self.store.append(&[message], &mut Vec::new()).unwrap();
        self.schedule.arrived(level - 1);
    }

    /// Turns until nothing is due at this moment.
    fn settle(&self) -> Next {
        loop {
            match self.schedule.turn() {
                Next::Now => {}
                next => return next,
            }
        }
    }

    fn advance(&self, ms: u64) -> Next {
        self.clock.advance(Duration::from_millis(ms));
        self.settle()
    }

    fn delivered(&self) -> Vec<String> {
        self.records("T")
            .iter()
            .map(|bytes| {
                let record = record::decode(bytes, CheckBody::Yes).unwrap();
                String::from_utf8(record.body.to_vec()).unwrap()
            })
            .collect()
    }

    fn records(&self, topic: &str) -> Vec<bytes::Bytes> {
        let read = Read {
            topic,
            queue_id: 0,
            offset: 0,
            messages_max: 100_000,
            bytes_max: 100 << 20,
            filter: &|_| true,
        };
        self.store.read(&read, ReadMode::Blocking).unwrap().records
    }
}

#[test]
fn a_message_is_delivered_when_its_level_has_passed_and_not_before() {
    let fixture = Fixture::new();
    assert_eq!(fixture.settle(), Next::Arrival);
    fixture.delay(2, "five seconds");
    fixture.delay(1, "one second");
    fixture.settle();
    fixture.advance(999);
    assert_eq!(fixture.delivered(), [""; 0]);
    fixture.advance(1);
    assert_eq!(fixture.delivered(), ["one second"]);
    assert_eq!(
        fixture.advance(3_999),
        Next::After(super::STEP),
        "one millisecond is left"
    );
    assert_eq!(fixture.advance(1), Next::Arrival);
    assert_eq!(fixture.delivered(), ["one second", "five seconds"]);
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
    assert_eq!(record.store_timestamp_ms, START_MS + 1_000);
    assert_eq!(names::get(record.properties, names::DELAY), Some("1"));
    assert_eq!(names::get(record.properties, names::REAL_TOPIC), Some("T"));
    assert_eq!(
        fixture
            .schedule
            .table()
            .offset_table
            .into_iter()
            .collect::<Vec<_>>(),
        [(1, 1), (2, 1), (3, 0)]
    );
}

#[test]
fn many_due_messages_go_in_order_and_in_batches() {
    let fixture = Fixture::new();
    let count = 2 * BATCH_MESSAGES_MAX + 10;
    let bodies: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    bodies.iter().for_each(|body| fixture.delay(1, body));
    fixture.clock.advance(Duration::from_secs(2));
    assert_eq!(fixture.schedule.turn(), Next::Now);
    assert_eq!(fixture.delivered().len(), BATCH_MESSAGES_MAX);
    fixture.settle();
    assert_eq!(fixture.delivered(), bodies);
}

#[test]
fn a_clock_that_is_set_back_makes_nothing_early_and_nothing_hours_late() {
    // Java delivers at once what waits longer than its level says, so a message sent just before the clock was set back came early.
    let fixture = Fixture::new();
    fixture.delay(2, "sent before");
    fixture.settle();
    fixture.clock.set_wall(START_MS - 3_600_000);
    fixture.settle();
    fixture.advance(4_999);
    assert_eq!(fixture.delivered(), [""; 0]);
    fixture.delay(2, "sent after");
    fixture.advance(1);
    assert_eq!(fixture.delivered(), ["sent before"]);
    fixture.advance(4_999);
    assert_eq!(fixture.delivered().len(), 1);
    fixture.advance(5_001);
    assert_eq!(fixture.delivered(), ["sent before", "sent after"]);
}

#[test]
fn what_was_pending_is_delivered_by_the_next_life_and_not_twice() {
    // A batch is noted in a file that is not synced: a process that dies repeats nothing that it had noted.
    let fixture = Fixture::new();
    fixture.delay(1, "a");
    fixture.delay(2, "b");
    fixture.advance(1_000);
    assert_eq!(fixture.delivered(), ["a"]);
    let fixture = fixture.reopen(LEVELS, false);
    fixture.settle();
    assert_eq!(fixture.delivered(), ["a"]);
    fixture.advance(4_000);
    assert_eq!(fixture.delivered(), ["a", "b"]);
    let fixture = fixture.reopen(LEVELS, true);
    fixture.advance(60_000);
    assert_eq!(fixture.delivered(), ["a", "b"]);
}

#[test]
fn a_noted_position_that_the_log_does_not_reach_is_not_believed() {
    // Loss of power may keep the note and lose what it stands behind: then the messages must be delivered again.
    let fixture = Fixture::new();
    fixture.delay(1, "a");
    fixture.advance(1_000);
    let note = fixture.dir.path().join("config/delayOffset.position");
    let noted = std::fs::read(&note).unwrap();
    let other = Fixture::new();
    other.delay(1, "x");
    let (dir, clock) = (other.dir.path().join("config"), other.clock.clone());
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("delayOffset.position"), noted).unwrap();
    let other = other.reopen(LEVELS, true);
    clock.advance(Duration::from_secs(1));
    other.settle();
    assert_eq!(other.delivered(), ["x"]);
}

#[test]
fn levels_that_change_keep_what_is_pending() {
    let fixture = Fixture::new();
    fixture.delay(3, "two minutes");
    fixture.delay(2, "five seconds");
    fixture.delay(1, "one second");
    // One level is left, and it is longer.
    let fixture = fixture.reopen("500s", true);
    fixture.settle();
    fixture.advance(1_000);
    assert_eq!(fixture.delivered(), ["one second"]);
    fixture.advance(4_000);
    assert_eq!(fixture.delivered(), ["one second", "five seconds"]);
    fixture.advance(115_000);
    assert_eq!(fixture.delivered().len(), 3);
    let fixture = fixture.reopen(LEVELS, true);
    fixture.delay(3, "again");
    let fixture = fixture.reopen("1s 5s 1s", true);
    fixture.settle();
    fixture.advance(1_000);
    assert_eq!(
        fixture.delivered().len(),
        4,
        "a shorter level holds for what waits"
    );
}

#[test]
fn what_cannot_be_delivered_holds_up_nothing() {
    let fixture = Fixture::new();
    fixture.delay_with(1, b"no topic", &[]);
    fixture.delay_with(1, b"no queue", &[("REAL_TOPIC", "T"), ("REAL_QID", "x")]);
    fixture.delay_with(
        1,
        b"a half",
        &[("REAL_TOPIC", topic::TRANS_HALF), ("REAL_QID", "0")],
    );
    fixture.delay_with(1, b"no name", &[("REAL_TOPIC", "a/b"), ("REAL_QID", "0")]);
    fixture.delay_with(1, b"negative", &[("REAL_TOPIC", "T"), ("REAL_QID", "-1")]);
    fixture.delay(1, "good");
    assert_eq!(fixture.advance(1_000), Next::Arrival);
    assert_eq!(fixture.delivered(), ["good"]);
    assert!(fixture.records(topic::TRANS_HALF).is_empty());
}

#[test]
fn a_store_that_takes_nothing_loses_nothing() {
    let fixture = Fixture::new();
    fixture.delay(1, "a");
    fixture.store.close();
    assert_eq!(fixture.advance(1_000), Next::After(super::RETRY_PAUSE));
    let fixture = fixture.reopen(LEVELS, false);
    fixture.settle();
    assert_eq!(fixture.delivered(), ["a"]);
}

#[test]
fn a_full_disk_delays_and_does_not_lose() {
    let disk = SimulatedDisk::new();
    let clock = Arc::new(ManualClock::new(START_MS));
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(Arc::new(disk.clone()), dir, clock, LEVELS);
    let body = vec![b'x'; 500_000];
    let properties = [("REAL_TOPIC", "T"), ("REAL_QID", "0")];
    fixture.delay_with(1, &body, &properties);
    disk.set_faults(|faults| faults.capacity_bytes = Some(0));
    let host: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let filler = NewMessage {
        topic: "Fill",
        queue_id: 0,
        flag: 0,
        sys_flag: 0,
        born_timestamp_ms: 0,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body: &body,
        properties: "",
    };
    let mut filled = 0;
    while fixture.store.append(&[filler], &mut Vec::new()).is_ok() {
        filled += 1;
        assert!(filled < 100, "a full disk takes everything");
    }
    assert_eq!(fixture.advance(1_000), Next::After(super::RETRY_PAUSE));
    assert!(fixture.records("T").is_empty());
    disk.set_faults(|faults| faults.capacity_bytes = None);
    let mut turns = 0;
    while fixture.records("T").is_empty() {
        turns += 1;
        assert!(turns < 100_000, "room came back, and nothing is delivered");
        fixture.advance(100);
    }
    assert_eq!(fixture.records("T").len(), 1);
}

#[test]
fn a_hundred_thousand_that_wait_are_delivered_once_each() {
    let fixture = Fixture::new();
    let count = 100_000;
    for number in 0..count {
        fixture.delay(1 + number % 2, "x");
    }
    fixture.advance(1_000);
    assert_eq!(fixture.store.max_offset("T", 0), 50_000);
    fixture.advance(4_000);
    assert_eq!(fixture.store.max_offset("T", 0), 100_000);
    let fixture = fixture.reopen(LEVELS, false);
    fixture.settle();
    assert_eq!(fixture.store.max_offset("T", 0), 100_000);
}

#[test]
fn a_checksum_of_the_waiting_record_is_not_kept() {
    // Java 5.3 with `enabledAppendPropCRC` ends the properties of a record with a checksum of it. On the delivered record it would be wrong, and
    // the message would be passed over as damaged.
    let fixture = Fixture::new();
    let properties = [
        ("REAL_TOPIC", "T"),
        ("REAL_QID", "0"),
        (names::CRC32, "1234567890"),
    ];
    fixture.delay_with(1, b"a", &properties);
    fixture.advance(1_000);
    let records = fixture.records("T");
    let record = record::decode(&records[0], CheckBody::Yes).unwrap();
    assert_eq!(names::get(record.properties, names::CRC32), None);
    assert_eq!(names::get(record.properties, names::REAL_TOPIC), Some("T"));
}

#[tokio::test]
async fn offsets_of_java_are_taken_over_and_given_back() {
    let fixture = Fixture::new();
    fixture.delay(1, "delivered by another broker");
    fixture.delay(1, "a");
    let config = fixture.dir.path().join("config");
    std::fs::create_dir_all(&config).unwrap();
    // Java 5.3.3, with a level that no configuration here has.
    let text = "{\n\t\"dataVersion\":{\n\t\t\"counter\":7,\n\t\t\"stateVersion\":0,\n\t\t\"timestamp\":1795248733851\n\t},\n\t\"offsetTable\":{1:1,2:9,30:4\n\t}\n}";
    std::fs::write(config.join("delayOffset.json"), text).unwrap();
    let fixture = fixture.reopen(LEVELS, true);
    fixture.settle();
    fixture.advance(1_000);
    assert_eq!(fixture.delivered(), ["a"]);
    fixture.schedule.shutdown().await.unwrap();
    let written = std::fs::read_to_string(config.join("delayOffset.json")).unwrap();
    let table = "\"offsetTable\":{\n\t\t1:2,\n\t\t2:0,\n\t\t3:0,\n\t\t30:4\n\t}";
    assert!(
        written.contains(table) && written.contains("\"counter\":8"),
        "{written}"
    );
}

#[tokio::test]
async fn the_task_sleeps_until_a_message_is_due() {
    let fixture = Fixture::new();
    let task = tokio::spawn(super::run(fixture.schedule.clone(), || {
        Duration::from_secs(10)
    }));
    fixture.delay(1, "a");
    fixture.clock.advance(Duration::from_secs(1));
    // Woken by the arrival alone: no time passes for this clock while the task waits.
    tokio::time::timeout(Duration::from_secs(20), async {
        while fixture.delivered().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    task.abort();
    fixture.schedule.shutdown().await.unwrap();
}
