//! What is read from the queue at the start and after damage: bounded in memory, complete, and only as far as an operator lets it.

use platform::disk::OpenMode;

use super::*;
use crate::timers::engine::Engine;
use crate::timers::keep::Need;

/// Entries in memory that are allowed for in these tests.
const FRESH_MAX: usize = 300;

impl Fixture {
    fn engine<T>(&self, work: impl FnOnce(&mut Engine) -> T) -> T {
        work(&mut self.timers.engine())
    }

    fn freeze(&self) {
        self.engine(|engine| {
            let now = engine.now();
            engine.begin(Need::Freeze, now);
        });
        self.settle();
    }

    /// Turns until the queue has been read to its end. Gives the most that memory held meanwhile.
    fn replay(&self) -> usize {
        let mut most = 0;
        for _ in 0..10_000 {
            if self.engine(|engine| engine.replay.done) {
                return most;
            }
            self.turn();
            self.beside.run_all();
            most = most.max(self.engine(|engine| engine.timeline.fresh_len()));
        }
        panic!("the replay does not end");
    }

    /// Damages all runs from a block on.
    fn damage_runs(&self, block: u64) {
        let dir = Path::new(ROOT).join("timers");
        for entry in self.disk.list(&dir).unwrap() {
            if entry.name.ends_with(".run") {
                let path = dir.join(entry.name);
                let file = self.disk.open(&path, OpenMode::ReadWrite).unwrap();
                file.write_all_at(b"damage", block * 4096).unwrap();
            }
        }
    }

    /// Stores a message again as Java does it: with its old time, and a mark of its own.
    fn store_anew(&self, body: &str, due_ms: i64, times: u32) {
        let due = due_ms.to_string();
        let times = times.to_string();
        let mut properties = vec![
            ("UNIQ_KEY", body),
            ("TIMER_DELIVER_MS", &*due),
            ("TIMER_OUT_MS", &*due),
            ("REAL_TOPIC", "T"),
            ("REAL_QID", "0"),
        ];
        if times != "0" {
            properties.push(("TIMER_ROLL_TIMES", &*times));
        }
        self.store_timer(body.as_bytes(), &properties);
    }
}

fn numbers(count: i64) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

fn sorted(mut bodies: Vec<String>) -> Vec<String> {
    bodies.sort_by_key(|body| body.parse::<i64>().unwrap_or(i64::MAX));
    bodies
}

#[test]
fn a_stopped_intake_does_not_stop_what_was_taken_in_before_the_start() {
    let mut fixture = Fixture::new();
    fixture.send(START_MS + 60_000, "in a file");
    fixture.send(START_MS + 61_000, "taken in");
    fixture.settle();
    fixture.settings.stop_enqueue = true;
    fixture.send(START_MS + 500, "not taken in");
    fixture.settle();
    for clean in [true, false] {
        let settings = fixture.settings;
        fixture = if clean {
            fixture.restart()
        } else {
            fixture.kill()
        };
        fixture.settings = settings;
        fixture.settle();
        assert_eq!(fixture.waiting(), 2);
        assert_eq!(fixture.timers.figures().offset_behind, 1);
    }
    fixture.advance(60_500);
    assert_eq!(fixture.delivered(), ["in a file"]);
    fixture.settings.stop_enqueue = false;
    fixture.settle();
    assert_eq!(fixture.delivered(), ["in a file", "not taken in"]);
    fixture.advance(500);
    assert_eq!(
        fixture.delivered(),
        ["in a file", "not taken in", "taken in"]
    );
}

#[test]
fn what_was_taken_back_is_not_delivered_though_the_intake_is_stopped() {
    let fixture = Fixture::new();
    let id = fixture.send(START_MS + 60_000, "recalled");
    fixture.send(START_MS + 60_000, "other");
    fixture.settle();
    let mut fixture = fixture.restart();
    fixture.settings.stop_enqueue = true;
    fixture.settle();
    assert!(matches!(
        fixture.recall(&id, START_MS + 60_000),
        Recalled::Yes(_)
    ));
    let settings = fixture.settings;
    let mut fixture = fixture.kill();
    fixture.settings = settings;
    fixture.advance(60_000);
    assert_eq!(fixture.delivered(), ["other"]);
    fixture.settings.stop_enqueue = false;
    fixture.advance(5_000);
    assert_eq!(fixture.delivered(), ["other"]);
}

#[test]
fn a_rebuild_holds_no_more_in_memory_than_is_allowed_and_loses_nothing() {
    let fixture = Fixture::new();
    let count = 6_000;
    for number in 0..count {
        fixture.send(START_MS + 1_000 + number, &number.to_string());
    }
    fixture.settle();
    fixture.freeze();
    fixture.engine(|engine| engine.replay.fresh_max = FRESH_MAX);
    fixture.damage_runs(15);
    fixture.clock.advance(Duration::from_millis(1_000 + 4_000));
    // Up to the damage.
    while fixture.engine(|engine| engine.replay.done) {
        fixture.turn();
    }
    fixture.clock.advance(Duration::from_millis(100));
    let most = fixture.replay();
    assert!(
        most < FRESH_MAX + BATCH_MESSAGES_MAX,
        "{most} entries in memory"
    );
    assert!(fixture.engine(|engine| engine.timeline.runs().count()) > 0);
    assert_eq!(fixture.waiting() + fixture.delivered().len() as i64, count);
    fixture.settle();
    // The files that are in force hold what the next life needs.
    let fixture = fixture.kill();
    fixture.settle();
    fixture.advance(500);
    let fixture = fixture.restart();
    fixture.advance(2_000);
    assert_eq!(sorted(fixture.delivered()), numbers(count));
    assert_eq!(fixture.waiting(), 0);
}

#[test]
fn a_start_without_files_holds_no_more_in_memory_than_is_allowed() {
    let fixture = Fixture::new();
    let count = 5_000;
    // What is delivered lies at the end of the queue.
    for number in (0..count).rev() {
        fixture.send(START_MS + 1_000 + number, &number.to_string());
    }
    fixture.settle();
    fixture.freeze();
    fixture.advance(1_500);
    let delivered = fixture.delivered().len();
    // Sent with a time that is over, and not taken in: before the mark, and no less waited for.
    fixture.store_anew("late", START_MS + 10, 0);
    let dir = Path::new(ROOT).join("timers");
    for entry in fixture.disk.list(&dir).unwrap() {
        fixture.disk.remove(&dir.join(entry.name)).unwrap();
    }
    let fixture = fixture.kill();
    fixture.engine(|engine| engine.replay.fresh_max = FRESH_MAX);
    let most = fixture.replay();
    assert!(
        most < FRESH_MAX + BATCH_MESSAGES_MAX,
        "{most} entries in memory"
    );
    // The turn that ended it delivered what was late.
    assert_eq!(fixture.waiting(), count - delivered as i64);
    // At once: a process that dies here goes on from the files.
    let fixture = fixture.kill();
    assert!(fixture.engine(|engine| engine.timeline.runs().count()) > 0);
    fixture.settle();
    assert_eq!(
        fixture.delivered().len(),
        delivered + 1,
        "nothing comes twice"
    );
    fixture.advance(10_000);
    let mut want = numbers(count);
    want.push("late".to_owned());
    assert_eq!(sorted(fixture.delivered()), want);
}

#[test]
fn a_process_that_dies_amid_a_replay_reads_the_queue_once_more() {
    let fixture = Fixture::new();
    let count = 12_000;
    for number in 0..count {
        fixture.send(START_MS + 100_000 + number, &number.to_string());
    }
    let fixture = fixture.kill();
    fixture.engine(|engine| engine.replay.fresh_max = FRESH_MAX);
    fixture.turn();
    assert!(!fixture.engine(|engine| engine.replay.done));
    assert!(fixture.engine(|engine| engine.timeline.runs().count()) > 0);
    let fixture = fixture.kill();
    fixture.engine(|engine| engine.replay.fresh_max = FRESH_MAX);
    fixture.replay();
    // Those of the life that died are swept away.
    let files = fixture.disk.list(&Path::new(ROOT).join("timers")).unwrap();
    let runs = files.iter().filter(|entry| entry.name.ends_with(".run"));
    assert_eq!(runs.count(), 1);
    fixture.advance(200_000);
    assert_eq!(sorted(fixture.delivered()), numbers(count));
}

#[test]
fn what_was_stored_anew_comes_once_wherever_its_records_lie() {
    let fixture = Fixture::new();
    let count = 2_000;
    // As a Java broker leaves it, of whose progress nothing is known: all records one after the other, then all anew.
    for times in 0..3 {
        for number in 0..count {
            fixture.store_anew(&number.to_string(), START_MS + 90_000 + number, times);
        }
    }
    let fixture = fixture.kill();
    fixture.engine(|engine| engine.replay.fresh_max = FRESH_MAX);
    fixture.replay();
    assert_eq!(fixture.waiting(), count);
    fixture.advance(100_000);
    assert_eq!(sorted(fixture.delivered()), numbers(count));
    assert_eq!(fixture.waiting(), 0);
}

#[test]
fn a_record_that_is_being_read_is_not_lost_when_a_file_is_damaged() {
    let fixture = Fixture::new();
    let count = 3_000;
    fixture.send(START_MS + 1_000, "0");
    // Out of the memory of the log's end, and of the page cache.
    let filler = vec![b'x'; 1 << 20];
    (0..40).for_each(|_| drop(fixture.send_to("Fill", START_MS + HOUR_MS, &filler)));
    for number in 1..count {
        fixture.send(START_MS + 1_000 + number, &number.to_string());
    }
    fixture.settle();
    fixture.freeze();
    fixture.damage_runs(15);
    fixture
        .disk
        .set_faults(|faults| faults.reads_are_cold = true);
    fixture.clock.advance(Duration::from_millis(5_000));
    // Work beside the turns does not get on before the damage is met.
    while fixture.engine(|engine| engine.replay.done) {
        fixture.turn();
    }
    assert_eq!(fixture.engine(|engine| engine.cold.len()), 0);
    fixture
        .disk
        .set_faults(|faults| faults.reads_are_cold = false);
    fixture.clock.advance(Duration::from_millis(200));
    fixture.settle();
    assert_eq!(sorted(fixture.delivered()), numbers(count));
    assert_eq!(fixture.waiting(), 40);
}

#[test]
fn a_file_that_cannot_be_read_for_a_while_loses_nothing() {
    let fixture = Fixture::new();
    let count = 3_000;
    for number in 0..count {
        fixture.send(START_MS + 1_000 + number, &number.to_string());
    }
    fixture.settle();
    fixture.freeze();
    fixture.clock.advance(Duration::from_millis(5_000));
    // What a cursor read ahead is delivered; then the disk fails amid a batch.
    fixture.disk.set_faults(|faults| faults.read_fails = true);
    for _ in 0..20 {
        fixture.turn();
        fixture.clock.advance(Duration::from_millis(100));
    }
    let before = fixture.store.max_offset("T", 0);
    assert!((1..count as u64).contains(&before), "{before} delivered");
    fixture.disk.set_faults(|faults| faults.read_fails = false);
    fixture.advance(200);
    assert_eq!(sorted(fixture.delivered()), numbers(count));
    assert_eq!(fixture.waiting(), 0);
}
