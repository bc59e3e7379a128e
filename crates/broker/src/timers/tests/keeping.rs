//! Files, lives and the log's end: what waits is kept, found again and stored anew.

use std::time::Instant;

use platform::disk::OpenMode;

use super::*;
use crate::timers::engine::Engine;
use crate::timers::keep::Need;
use crate::timers::{java, notes};

impl Fixture {
    fn with_engine<T>(&self, work: impl FnOnce(&mut Engine) -> T) -> T {
        work(&mut self.timers.engine())
    }

    /// Does a piece of work now, whether or not it is needed.
    fn keep(&self, need: Need) {
        self.with_engine(|engine| {
            let now = engine.now();
            engine.begin(need, now);
        });
        self.settle();
    }

    fn files(&self) -> Vec<String> {
        let entries = self
            .disk
            .list(&Path::new(ROOT).join("timers"))
            .unwrap_or_default();
        entries.into_iter().map(|entry| entry.name).collect()
    }

    /// Has the log remove what is expired, once its checkpoint covers it.
    fn expire(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let before = self.store.commit_log_min();
        while self.store.commit_log_min() == before {
            assert!(Instant::now() < deadline, "nothing expires");
            self.store.request_flush();
            self.settle();
            self.store.delete_expired_segments();
            std::thread::yield_now();
        }
    }

    fn remove_files(&self) {
        for name in self.files() {
            self.disk
                .remove(&Path::new(ROOT).join("timers").join(name))
                .unwrap();
        }
    }
}

#[test]
fn what_is_in_files_is_delivered_with_what_is_in_memory() {
    let fixture = Fixture::new();
    let mut want = Vec::new();
    for round in 0..12i64 {
        for number in 0..20 {
            let due_ms = START_MS + 10_000 + (number * 97 + round * 13) % 1_000;
            want.push(due_ms);
            fixture.send(due_ms, &due_ms.to_string());
        }
        fixture.settle();
        if round < 11 {
            fixture.keep(Need::Freeze);
        }
    }
    let runs = fixture.files().len() - 1;
    assert!(runs <= 9, "{runs} runs are never merged");
    // Some are delivered from the files, then the process dies.
    fixture.advance(10_300);
    let fixture = fixture.kill();
    fixture.settle();
    fixture.keep(Need::Merge);
    fixture.keep(Need::Freeze);
    fixture.keep(Need::Rebase);
    assert_eq!(fixture.files().len(), 2);
    let fixture = fixture.kill();
    fixture.advance(700);
    want.sort_unstable();
    let want: Vec<String> = want.iter().map(i64::to_string).collect();
    let mut delivered = fixture.delivered();
    assert_eq!(delivered.len(), want.len());
    delivered.sort_unstable();
    assert_eq!(delivered, want);
    assert_eq!(fixture.waiting(), 0);
}

#[test]
fn what_was_delivered_is_not_delivered_by_the_next_life() {
    let fixture = Fixture::new();
    for number in 0..600 {
        fixture.send(START_MS + 1_000 + number, &number.to_string());
    }
    fixture.advance(1_300);
    let before = fixture.delivered().len();
    assert_eq!(before, 301);
    let fixture = fixture.kill();
    fixture.settle();
    assert_eq!(fixture.delivered().len(), before);
    let fixture = fixture.restart();
    fixture.advance(300);
    let want: Vec<String> = (0..600).map(|number| number.to_string()).collect();
    assert_eq!(fixture.delivered(), want);
}

#[test]
fn files_that_are_gone_or_damaged_are_made_from_the_log() {
    for damage in [false, true] {
        let fixture = Fixture::new();
        for number in 0..500 {
            fixture.send(START_MS + 1_000 + number, &number.to_string());
        }
        let id = fixture.send(START_MS + 1_400, "recalled");
        fixture.advance(1_200);
        assert!(matches!(
            fixture.recall(&id, START_MS + 1_400),
            Recalled::Yes(_)
        ));
        fixture.settle();
        fixture.keep(Need::Freeze);
        let fixture = fixture.restart();
        if damage {
            for name in fixture.files() {
                let file = fixture
                    .disk
                    .open(
                        &Path::new(ROOT).join("timers").join(name),
                        OpenMode::ReadWrite,
                    )
                    .unwrap();
                file.write_all_at(b"damage", 100).unwrap();
            }
        } else {
            fixture.remove_files();
        }
        let fixture = fixture.kill();
        fixture.settle();
        assert_eq!(fixture.waiting(), 300);
        fixture.advance(300);
        let want: Vec<String> = (0..500).map(|number| number.to_string()).collect();
        assert_eq!(fixture.delivered(), want, "damage {damage}");
    }
}

#[test]
fn a_file_that_is_damaged_under_way_is_made_from_the_log() {
    let fixture = Fixture::new();
    // More than a cursor reads ahead.
    for number in 0..3_000 {
        fixture.send(START_MS + 1_000 + number, &number.to_string());
    }
    fixture.settle();
    fixture.keep(Need::Freeze);
    let run = fixture
        .files()
        .into_iter()
        .find(|name| name.ends_with(".run"))
        .unwrap();
    let file = fixture
        .disk
        .open(
            &Path::new(ROOT).join("timers").join(run),
            OpenMode::ReadWrite,
        )
        .unwrap();
    file.write_all_at(b"damage", 15 * 4096).unwrap();
    fixture.advance(4_000);
    fixture.advance(200);
    let want: Vec<String> = (0..3_000).map(|number| number.to_string()).collect();
    assert_eq!(fixture.delivered(), want);
    assert_eq!(fixture.waiting(), 0);
}

#[test]
fn what_waits_longer_than_the_log_keeps_messages_is_stored_anew() {
    let fixture = Fixture::new();
    let body = vec![b'x'; 100_000];
    // In memory and in files, of several segments; one is taken back, one has its time before all others.
    for number in 0..60 {
        fixture.send_to("T", START_MS + 300 * HOUR_MS + number, &body);
        if number == 30 {
            fixture.settle();
            fixture.keep(Need::Freeze);
        }
    }
    fixture.send(START_MS + 40 * HOUR_MS, "in between");
    let id = fixture.send(START_MS + 300 * HOUR_MS, "recalled");
    fixture.settle();
    assert!(matches!(
        fixture.recall(&id, START_MS + 300 * HOUR_MS),
        Recalled::Yes(_)
    ));
    for hour in 0..300 {
        if hour == 41 {
            assert_eq!(fixture.delivered(), ["in between"]);
        }
        // A little traffic, so that the log has an end to keep.
        fixture.send_to("Fill", START_MS, b"now");
        fixture.advance(HOUR_MS);
        fixture.store.delete_expired_segments();
    }
    while fixture.store.commit_log_min() < 8 << 20 {
        fixture.expire();
    }
    // Each was stored anew every day and a half.
    let stored = fixture.store.max_offset(topic::TIMER, 0);
    assert!(
        (63 + 300..63 + 300 + 60 * 9).contains(&stored),
        "{stored} records"
    );
    let fixture = fixture.kill();
    fixture.advance(1_000);
    assert_eq!(fixture.store.max_offset("T", 0), 61);
    assert_eq!(fixture.waiting(), 0);
}

#[test]
fn the_log_holds_expired_segments_until_what_waits_is_stored_anew() {
    let fixture = Fixture::new();
    let body = vec![b'x'; 1 << 20];
    for number in 0..12 {
        fixture.send_to("T", START_MS + 500 * HOUR_MS + number, &body);
    }
    fixture.settle();
    // The broker was off for days: the segments expired meanwhile.
    fixture.clock.advance(Duration::from_secs(200 * 3600));
    let fixture = fixture.kill();
    fixture.store.delete_expired_segments();
    assert_eq!(fixture.store.commit_log_min(), 0);
    fixture.settle();
    fixture.expire();
    fixture.advance(300 * HOUR_MS + 1_000);
    assert_eq!(fixture.delivered().len(), 12);
}

#[test]
fn a_java_broker_is_taken_over_where_it_ended() {
    let fixture = Fixture::new();
    // Read by the Java broker: delivered, waiting, waiting since before it stored it anew, and its new record; not read: one more.
    for (body, due_ms, rolled) in [
        ("delivered", 500, false),
        ("waiting", 5_500, false),
        ("far", 90_000_000, false),
        ("far", 90_000_000, true),
        ("not read", 700, false),
    ] {
        let due = (START_MS + due_ms).to_string();
        let out =
            (START_MS + due_ms - due_ms % 1_000 - if due_ms % 1_000 == 0 { 1_000 } else { 0 })
                .to_string();
        let mut properties = vec![
            ("UNIQ_KEY", body),
            ("TIMER_DELIVER_MS", &*due),
            ("TIMER_OUT_MS", &*out),
            ("REAL_TOPIC", "T"),
            ("REAL_QID", "0"),
        ];
        if rolled {
            properties.push(("TIMER_ROLL_TIMES", "1"));
        }
        fixture.store_timer(body.as_bytes(), &properties);
    }
    fixture.clock.advance(Duration::from_secs(2));
    let check = java::check(START_MS + 2_000, 1000, 4, &[0; notes::CHECK_BYTES]);
    java::write_check(&fixture.disk, &Path::new(ROOT).join("config"), &check).unwrap();
    let fixture = fixture.kill();
    fixture.settle();
    assert_eq!(fixture.delivered(), ["not read"]);
    assert_eq!(fixture.waiting(), 2);
    // It is taken over once.
    let fixture = fixture.kill();
    fixture.advance(3_500);
    assert_eq!(fixture.delivered(), ["not read", "waiting"]);
    let fixture = fixture.restart();
    fixture.advance(90_000_000);
    assert_eq!(fixture.delivered(), ["not read", "waiting", "far"]);
}

#[test]
fn a_java_broker_that_ran_in_between_is_believed() {
    let fixture = Fixture::new();
    fixture.send(START_MS + 5_000, "delivered by Java");
    fixture.send(START_MS + 50_000, "waiting");
    let fixture = fixture.restart();
    let check = java::check(START_MS + 8_000, 1000, 2, &[9; notes::CHECK_BYTES]);
    java::write_check(&fixture.disk, &Path::new(ROOT).join("config"), &check).unwrap();
    let fixture = fixture.kill();
    fixture.advance(10_000);
    assert_eq!(fixture.delivered(), NOTHING);
    fixture.advance(40_000);
    assert_eq!(fixture.delivered(), ["waiting"]);
}

#[test]
fn a_clean_stop_leaves_what_a_java_broker_goes_on_with() {
    let fixture = Fixture::new();
    fixture.send(START_MS + 1_000, "delivered");
    fixture.send(START_MS + 90_500, "waiting");
    fixture.send(START_MS + 1_001, "delivered too");
    fixture.advance(2_000);
    let fixture = fixture.restart();
    let root = Path::new(ROOT);
    let check = java::load_check(&fixture.disk, &root.join("config"))
        .unwrap()
        .unwrap();
    let progress = java::progress_of(&check);
    assert_eq!(
        (progress.mark.due_ms, progress.queue_offset),
        (START_MS + 2_000, 3)
    );
    let file = fixture
        .disk
        .open(&root.join("timerlog/00000000000000000000"), OpenMode::Read)
        .unwrap();
    let mut bytes = vec![0; 3 * 52];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let physical =
        |unit: usize| u64::from_be_bytes(bytes[unit * 52 + 28..unit * 52 + 36].try_into().unwrap());
    let delay = i32::from_be_bytes(bytes[24..28].try_into().unwrap());
    assert_eq!(delay, 88_000);
    let records = fixture.records(topic::TIMER);
    let place = |record: usize| record::peek_physical_offset(&records[record]).unwrap();
    assert_eq!(
        (physical(0), physical(1), physical(2)),
        (place(1), place(2), 0)
    );
    fixture.advance(88_500);
    assert_eq!(
        fixture.delivered(),
        ["delivered", "delivered too", "waiting"]
    );
}

#[test]
fn a_million_that_wait_take_little_memory_and_come_once() {
    // The short form: what memory holds depends on the bounds, not on the count. `cargo xtask` and `apogee bench timers` measure the long one.
    let fixture = Fixture::new();
    let count = 40_000i64;
    for number in 0..count {
        fixture.send(START_MS + HOUR_MS + number * 7_919 % count, "x");
        if number % 10_000 == 9_999 {
            fixture.settle();
            fixture.keep(Need::Freeze);
            assert_eq!(fixture.with_engine(|engine| engine.timeline.fresh_len()), 0);
        }
    }
    assert_eq!(fixture.waiting(), count);
    let fixture = fixture.kill();
    fixture.settle();
    assert_eq!(fixture.waiting(), count);
    assert_eq!(fixture.with_engine(|engine| engine.timeline.fresh_len()), 0);
    fixture.advance(HOUR_MS + count / 2 - 1);
    assert_eq!(fixture.store.max_offset("T", 0) as i64, count / 2);
    let fixture = fixture.kill();
    fixture.advance(count);
    assert_eq!(fixture.store.max_offset("T", 0) as i64, count);
}
