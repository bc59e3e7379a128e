//! Compacted queues: what stays, where it is found, and what becomes of it when the log, the files or the power fail.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use platform::clock::{Clock, ManualClock};
use platform::disk::{Disk, RealDisk, SimulatedDisk};
use protocol::record::{self, CheckBody};
use storage::{
    Boundary, CompactionLimits, CompactionOutcome, Config, FlushMode, ReadMode, ReadStatus, Store,
};

use crate::support::{Home, append, eventually, everything, flush, message, read};

const LIMITS: CompactionLimits = CompactionLimits {
    keys_bytes_max: 1 << 20,
    wait_ms_max: 3_600_000,
};

fn put(store: &Store, key: &str, body: &str) -> u64 {
    let properties = format!("KEYS\u{1}{key}\u{2}TAGS\u{1}{key}\u{2}");
    append(store, &[message("T", 0, body.as_bytes(), &properties)])[0].queue_offset
}

fn compact(store: &Store) -> CompactionOutcome {
    flush(store);
    store.compact("T", 0, &LIMITS).unwrap()
}

fn key_and_body(bytes: &Bytes) -> (String, String) {
    let record = record::decode(bytes, CheckBody::Yes).unwrap();
    let key = protocol::properties::get(record.properties, "KEYS").unwrap();
    let body = std::str::from_utf8(record.body).unwrap();
    (key.to_owned(), body.to_owned())
}

/// What a consumer meets that begins at `from`: offset, key, body.
fn walk(store: &Store, from: i64) -> Vec<(u64, String, String)> {
    let mut found = Vec::new();
    let mut offset = from;
    loop {
        let result = read(store, "T", 0, offset, 3);
        match result.status {
            ReadStatus::Found => {}
            ReadStatus::NoMatchedMessage | ReadStatus::MessageWasRemoving => {}
            ReadStatus::OffsetTooSmall => {}
            ReadStatus::OffsetOverflowOne | ReadStatus::NoMessageInQueue => return found,
            other => panic!("{other:?} at {offset}"),
        }
        for bytes in &result.records {
            let (key, body) = key_and_body(bytes);
            found.push((record::peek_queue_offset(bytes).unwrap(), key, body));
        }
        assert!(result.next_offset > offset, "stands still at {offset}");
        offset = result.next_offset;
    }
}

fn bodies(store: &Store) -> Vec<String> {
    let found = walk(store, 0);
    assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0));
    found.into_iter().map(|(_, _, body)| body).collect()
}

#[test]
fn only_the_latest_message_of_each_key_stays_and_keeps_its_offset() {
    let home = Home::new();
    let store = home.open();
    for (key, body) in [
        ("a", "a1"),
        ("b", "b1"),
        ("a", "a2"),
        ("c", "c1"),
        ("b", ""),
    ] {
        put(&store, key, body);
    }
    assert_eq!(bodies(&store).len(), 5);
    let outcome = compact(&store);
    assert_eq!(
        (outcome.passes, outcome.taken, outcome.kept, outcome.dropped),
        (1, 5, 2, 3)
    );
    assert_eq!(outcome.waits_from, None);
    let want = |found: Vec<(u64, String, String)>| {
        assert_eq!(
            found,
            [
                (2, "a".to_owned(), "a2".to_owned()),
                (3, "c".to_owned(), "c1".to_owned())
            ]
        );
    };
    want(walk(&store, 0));
    want(walk(&store, 1));
    assert_eq!((store.min_offset("T", 0), store.max_offset("T", 0)), (2, 5));
    // A tombstone ended `b`; what comes later is read from the log, behind the compacted part.
    assert_eq!(put(&store, "b", "b2"), 5);
    assert_eq!(bodies(&store), ["a2", "c1", "b2"]);
    compact(&store);
    put(&store, "c", "c2");
    assert_eq!(bodies(&store), ["a2", "c1", "b2", "c2"]);
    compact(&store);
    assert_eq!(bodies(&store), ["a2", "b2", "c2"]);
    let again = compact(&store);
    assert_eq!((again.passes, again.kept), (0, 3));
}

#[test]
fn a_queue_without_a_message_left_begins_where_the_log_does() {
    let home = Home::new();
    let store = home.open();
    put(&store, "a", "a1");
    put(&store, "a", "");
    compact(&store);
    assert_eq!((store.min_offset("T", 0), store.max_offset("T", 0)), (2, 2));
    let result = read(&store, "T", 0, 0, 10);
    assert_eq!(
        (result.status, result.next_offset),
        (ReadStatus::NoMatchedMessage, 2)
    );
    assert_eq!(store.earliest_store_time("T", 0), None);
    assert_eq!(store.offset_by_time("T", 0, 0, Boundary::Lower).unwrap(), 2);
    put(&store, "a", "a2");
    assert_eq!(bodies(&store), ["a2"]);
}

#[test]
fn filters_and_limits_hold_in_the_compacted_part() {
    let home = Home::new();
    let store = home.open();
    for number in 0..40 {
        put(&store, &format!("k{number}"), &"x".repeat(100));
    }
    compact(&store);
    let one = protocol::tags::tags_code(Some("k30"));
    let mut request = storage::Read {
        topic: "T",
        queue_id: 0,
        offset: 0,
        messages_max: 10,
        bytes_max: 1 << 20,
        filter: &|code| code == one,
    };
    let result = store.read(&request, ReadMode::NoWait).unwrap();
    assert_eq!((result.records.len(), result.next_offset), (1, 40));
    request.filter = &everything;
    let result = store.read(&request, ReadMode::NoWait).unwrap();
    assert_eq!((result.records.len(), result.next_offset), (10, 10));
    request.bytes_max = 1;
    let result = store.read(&request, ReadMode::NoWait).unwrap();
    assert_eq!((result.records.len(), result.next_offset), (1, 1));
    for offset in [-1, i64::MIN] {
        request.offset = offset;
        let result = store.read(&request, ReadMode::NoWait).unwrap();
        assert_eq!(
            (result.status, result.next_offset),
            (ReadStatus::OffsetTooSmall, 0)
        );
    }
    for offset in [41, i64::MAX] {
        request.offset = offset;
        let result = store.read(&request, ReadMode::NoWait).unwrap();
        assert_eq!(
            (result.status, result.next_offset),
            (ReadStatus::OffsetOverflowBadly, 40)
        );
    }
}

#[test]
fn keys_beyond_the_memory_are_left_to_passes_of_their_own() {
    let home = Home::new();
    let store = home.open();
    for round in 0..2 {
        for number in 0..350 {
            put(&store, &format!("k{number}"), &format!("{number}-{round}"));
        }
    }
    flush(&store);
    let limits = CompactionLimits {
        keys_bytes_max: 0,
        ..LIMITS
    };
    let outcome = store.compact("T", 0, &limits).unwrap();
    // A hundred keys a pass are taken, whatever the limit.
    assert_eq!((outcome.passes, outcome.kept), (7, 350));
    let want: Vec<String> = (0..350).map(|number| format!("{number}-1")).collect();
    assert_eq!(bodies(&store), want);
}

#[test]
fn little_news_waits_until_there_is_more_or_its_time_is_over() {
    let mut home = Home::new();
    let clock = home.manual_clock(1_700_000_000_000);
    let store = home.open();
    for number in 0..40 {
        put(&store, &format!("k{number}"), "1");
    }
    compact(&store);
    put(&store, "k0", "2");
    let waits = compact(&store);
    assert_eq!((waits.passes, waits.kept), (0, 40));
    assert!(waits.waits_from.is_some_and(|from| from > 0));
    assert_eq!(bodies(&store).len(), 41);
    clock.advance(Duration::from_secs(3_600));
    assert_eq!(compact(&store).passes, 1);
    assert_eq!(bodies(&store).len(), 40);
}

#[test]
fn messages_without_keys_and_of_other_queues_stay() {
    let home = Home::new();
    let store = home.open();
    append(&store, &[message("T", 0, b"one", "")]);
    append(&store, &[message("T", 0, b"two", "KEYS\u{1} \u{2}")]);
    append(&store, &[message("T", 1, b"other", "KEYS\u{1}a\u{2}")]);
    flush(&store);
    let outcome = store.compact("T", 0, &LIMITS).unwrap();
    assert_eq!((outcome.kept, outcome.dropped), (2, 0));
    assert_eq!(read(&store, "T", 0, 0, 10).records.len(), 2);
    assert_eq!(read(&store, "T", 1, 0, 10).records.len(), 1);
    for (topic, queue_id) in [("T", 7), ("T", -1), ("unknown", 0), ("../x", 0), ("", 0)] {
        let nothing = store.compact(topic, queue_id, &LIMITS).unwrap();
        assert_eq!(nothing, CompactionOutcome::default());
    }
}

/// A store whose log expires.
fn expiring() -> (Home, Arc<ManualClock>, Arc<Store>) {
    let mut home = Home::with(|config| {
        config.segment_bytes = 4 << 10;
        config.hold_for_compaction = true;
        config.checkpoint_interval_ms = 5;
    });
    let clock = home.manual_clock(1_700_000_000_000);
    let store = home.open();
    (home, clock, store)
}

fn fill(store: &Store, rounds: usize) {
    for round in 0..rounds {
        for key in ["a", "b", "c", "d"] {
            put(store, key, &format!("{key}{round} {}", ".".repeat(200)));
        }
    }
    flush(store);
}

fn firsts(store: &Store) -> Vec<String> {
    let first = |body: String| body.split(' ').next().unwrap().to_owned();
    bodies(store).into_iter().map(first).collect()
}

/// Removes what is expired, when the checkpoint covers it.
fn expire(store: &Store) {
    eventually("the queues are written", || {
        store.stats().queues_written >= store.commit_log_max()
    });
    store.delete_expired_segments();
}

#[test]
fn what_is_compacted_outlives_the_log() {
    let (home, clock, store) = expiring();
    fill(&store, 20);
    compact(&store);
    clock.advance(Duration::from_secs(80 * 3_600));
    fill(&store, 20);
    put(&store, "e", "e1");
    compact(&store);
    let first = read(&store, "T", 0, 0, 1).records.remove(0);
    let physical = record::peek_physical_offset(&first).unwrap();
    for _ in 0..40 {
        put(&store, "f", &"f".repeat(200));
    }
    flush(&store);
    clock.advance(Duration::from_secs(80 * 3_600));
    expire(&store);
    assert_eq!(store.commit_log_min(), 0, "nothing was released");
    assert!(store.is_compaction_wanted());
    store.release_for_compaction(u64::MAX);
    for _ in 0..5 {
        expire(&store);
    }
    assert!(store.commit_log_min() > physical);
    assert_eq!(firsts(&store)[..5], ["a19", "b19", "c19", "d19", "e1"]);
    assert_eq!(store.record_at(physical).unwrap(), None);
    assert_eq!(
        store.compacted_record_at(physical).unwrap(),
        Some(first.clone())
    );
    assert_eq!(store.compacted_record_at(physical + 1).unwrap(), None);
    assert_eq!(store.compacted_record_at(u64::MAX).unwrap(), None);
    // After a restart as well.
    store.close();
    let store = home.open();
    assert_eq!(firsts(&store)[..5], ["a19", "b19", "c19", "d19", "e1"]);
    assert_eq!(store.compacted_record_at(physical).unwrap(), Some(first));
}

#[test]
fn messages_that_a_full_disk_took_before_they_were_compacted_are_passed_over() {
    let (_home, clock, store) = expiring();
    fill(&store, 2);
    compact(&store);
    fill(&store, 20);
    clock.advance(Duration::from_secs(80 * 3_600));
    put(&store, "z", "z1");
    flush(&store);
    // As a forced removal would: without having been compacted.
    store.release_for_compaction(u64::MAX);
    for _ in 0..5 {
        expire(&store);
    }
    let outcome = compact(&store);
    assert_eq!(outcome.passes, 1);
    assert_eq!(firsts(&store).last().unwrap(), "z1");
}

#[test]
fn times_find_their_message_in_both_parts() {
    let mut home = Home::new();
    let clock = home.manual_clock(1_000);
    let store = home.open();
    for number in 0..6 {
        put(&store, &format!("k{}", number % 3), &number.to_string());
        clock.advance(Duration::from_millis(100));
    }
    compact(&store);
    put(&store, "k9", "6");
    flush(&store);
    // Offsets 3, 4 and 5 are left, stored at 1300, 1400, 1500; 6 at 1600 in the log.
    let lower = |at| store.offset_by_time("T", 0, at, Boundary::Lower).unwrap();
    let upper = |at| store.offset_by_time("T", 0, at, Boundary::Upper).unwrap();
    assert_eq!(
        [
            lower(0),
            lower(1_300),
            lower(1_301),
            lower(1_600),
            lower(9_999)
        ],
        [3, 3, 4, 6, 7]
    );
    assert_eq!(
        [
            upper(0),
            upper(1_300),
            upper(1_499),
            upper(1_599),
            upper(9_999)
        ],
        [0, 3, 4, 5, 6]
    );
    assert_eq!(store.earliest_store_time("T", 0), Some(1_300));
    assert_eq!(store.store_time("T", 0, 0), Some(1_300));
    assert_eq!(store.store_time("T", 0, 6), Some(1_600));
    assert_eq!(store.store_time("T", 0, 7), None);
}

#[test]
fn a_deleted_topic_leaves_nothing_of_what_was_compacted() {
    let home = Home::new();
    let store = home.open();
    put(&store, "a", "a1");
    compact(&store);
    let java = home.path("compaction/compactionLog/T/0");
    std::fs::create_dir_all(&java).unwrap();
    std::fs::write(java.join("00000000000000000000"), b"x").unwrap();
    store.delete_topic("T");
    assert!(!home.path("compaction/queues/T").exists());
    assert!(!home.path("compaction/compactionLog/T").exists());
    assert_eq!(put(&store, "a", "a2"), 0);
    assert_eq!(bodies(&store), ["a2"]);
    for name in ["..", "", "no/such", "unknown"] {
        store.delete_topic(name);
    }
    assert!(home.config.root.exists());
}

#[test]
fn a_queue_goes_on_behind_its_compacted_part_when_the_log_is_lost() {
    let home = Home::new();
    let store = home.open();
    for _ in 0..10 {
        put(&store, "a", "a1");
    }
    put(&store, "b", "b1");
    compact(&store);
    store.close();
    drop(store);
    for dir in ["commitlog", "consumequeue", "consumequeue_shared", "index"] {
        let _ = std::fs::remove_dir_all(home.path(dir));
    }
    std::fs::remove_file(home.path("checkpoint")).unwrap();
    let store = home.open();
    assert_eq!(
        (store.min_offset("T", 0), store.max_offset("T", 0)),
        (9, 11)
    );
    assert_eq!(put(&store, "a", "a2"), 11);
    assert_eq!(bodies(&store), ["a1", "b1", "a2"]);
    flush(&store);
    store.close();
    drop(store);
    let store = home.open();
    assert_eq!(put(&store, "a", "a3"), 12);
    assert_eq!(bodies(&store), ["a1", "b1", "a2", "a3"]);
    assert_eq!(compact(&store).kept, 2);
    assert_eq!(bodies(&store), ["b1", "a3"]);
}

fn files(home: &Home) -> Vec<String> {
    let dir = home.path("compaction/queues/T/0");
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn damage(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0xff;
    std::fs::write(path, bytes).unwrap();
}

/// Ten messages of ten keys, compacted, and the store closed.
fn compacted_home() -> Home {
    let home = Home::new();
    let store = home.open();
    for number in 0..10 {
        put(&store, &format!("k{number}"), &format!("body {number}"));
    }
    compact(&store);
    store.close();
    home
}

#[test]
fn unfinished_files_and_those_of_earlier_runs_are_removed() {
    let home = compacted_home();
    let dir = home.path("compaction/queues/T/0");
    let whole = files(&home);
    assert_eq!(
        whole,
        [
            "00000000000000000001.entries",
            "00000000000000000001.records"
        ]
    );
    for name in [
        "00000000000000000000.entries",
        "00000000000000000000.records",
        "00000000000000000002.records",
        "00000000000000000002.records.tmp",
        "00000000000000000002.entries.tmp",
        "00000000000000000001.entries.tmp",
    ] {
        std::fs::write(dir.join(name), b"half").unwrap();
    }
    let store = home.open();
    assert_eq!(bodies(&store).len(), 10);
    assert_eq!(files(&home), whole);
}

#[test]
fn damaged_or_missing_entries_are_made_again_from_the_records() {
    for at in [0, 20, 63, 64 + 3, 64 + 9 * 52 + 7] {
        let home = compacted_home();
        let entries = home.path("compaction/queues/T/0/00000000000000000001.entries");
        damage(&entries, at);
        let store = home.open();
        assert_eq!(bodies(&store).len(), 10, "damage at {at}");
    }
    let home = compacted_home();
    std::fs::remove_file(home.path("compaction/queues/T/0/00000000000000000001.entries")).unwrap();
    let store = home.open();
    assert_eq!(bodies(&store).len(), 10);
    // Cut short.
    let home = compacted_home();
    let entries = home.path("compaction/queues/T/0/00000000000000000001.entries");
    let bytes = std::fs::read(&entries).unwrap();
    std::fs::write(&entries, &bytes[..200]).unwrap();
    assert_eq!(bodies(&home.open()).len(), 10);
}

#[test]
fn a_damaged_entry_hides_one_message_until_the_next_pass_finds_it() {
    let home = compacted_home();
    let entries = home.path("compaction/queues/T/0/00000000000000000001.entries");
    damage(&entries, 64 + 4 * 52 + 30);
    let store = home.open();
    let found = bodies(&store);
    assert_eq!(found.len(), 9);
    assert!(!found.contains(&"body 4".to_owned()));
    for number in 10..20 {
        put(&store, &format!("k{number}"), &format!("body {number}"));
    }
    assert_eq!(compact(&store).kept, 20);
    assert_eq!(bodies(&store).len(), 20);
}

#[test]
fn a_damaged_record_is_never_handed_out_and_harms_no_other() {
    let home = compacted_home();
    let records = home.path("compaction/queues/T/0/00000000000000000001.records");
    let size = std::fs::metadata(&records).unwrap().len() as usize / 10;
    damage(&records, 4 * size + size - 3);
    let store = home.open();
    assert_eq!(bodies(&store).len(), 9);
    put(&store, "k4", "again");
    put(&store, "k10", "more");
    put(&store, "k11", "more");
    assert_eq!(compact(&store).kept, 12);
    assert_eq!(bodies(&store).len(), 12);
}

#[test]
fn files_that_are_no_run_at_all_do_not_keep_the_store_closed() {
    let home = compacted_home();
    let dir = home.path("compaction/queues/T/0");
    for name in files(&home) {
        std::fs::write(dir.join(name), b"\xff\xff\xff\xff garbage").unwrap();
    }
    std::fs::create_dir_all(home.path("compaction/queues/T/x")).unwrap();
    std::fs::create_dir_all(home.path("compaction/queues/T/-1")).unwrap();
    std::fs::write(home.path("compaction/queues/file"), b"").unwrap();
    let store = home.open();
    // The log still has them all.
    assert_eq!(bodies(&store).len(), 10);
    assert_eq!(compact(&store).kept, 10);
}

#[test]
fn what_a_java_broker_has_compacted_is_taken_over_once() {
    let home = Home::new();
    let store = home.open();
    for (key, body) in [("a", "a1"), ("b", "b1"), ("a", "a2"), ("c", "c1")] {
        put(&store, key, body);
    }
    flush(&store);
    let records = read(&store, "T", 0, 0, 10).records;
    store.close();
    drop(store);
    // Two files: of the first a filler ends it, of the second zeros.
    let dir = home.path("compaction/compactionLog/T/0");
    std::fs::create_dir_all(dir.join("compacting")).unwrap();
    let mut first = records[1].to_vec();
    let mut blank = bytes::BytesMut::new();
    record::encode_blank(1_000, &mut blank);
    first.extend_from_slice(&blank);
    first.resize(4_096, 0);
    std::fs::write(dir.join("00000000000000000000"), first).unwrap();
    let mut second = records[2].to_vec();
    second.extend_from_slice(&records[2]);
    second.resize(4_096, 0);
    std::fs::write(dir.join("00000000000000004096"), second).unwrap();
    std::fs::write(dir.join("note.txt"), b"x").unwrap();
    let store = home.open();
    assert_eq!(bodies(&store), ["b1", "a2", "c1"]);
    assert_eq!(store.min_offset("T", 0), 1);
    put(&store, "b", "b2");
    compact(&store);
    assert_eq!(bodies(&store), ["a2", "c1", "b2"]);
    store.close();
    drop(store);
    let store = home.open();
    assert_eq!(bodies(&store), ["a2", "c1", "b2"]);
    assert!(dir.join("00000000000000000000").exists());
}

const KEYS: usize = 5;

fn simulated(disk: &SimulatedDisk, clock: &Arc<ManualClock>) -> Option<Arc<Store>> {
    let config = Config {
        root: "/store".into(),
        segment_bytes: 4 << 10,
        queue_file_bytes: 20 * 32,
        queue_files_max: crate::QUEUE_FILES_MAX,
        flush: FlushMode::Async,
        index_enabled: false,
        warning_ratio: 100,
        clean_forcibly_ratio: 100,
        disk_max_used_ratio: 100,
        delete_when_hours: Vec::new(),
        clean_interval_ms: 3_600_000,
        write_behind_interval_ms: 1,
        checkpoint_interval_ms: 2,
        hold_for_compaction: true,
        ..Config::default()
    };
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    Store::open(config, Arc::new(disk.clone()), clock).ok()
}

/// Asks for a flush and waits for it. A disk without power never answers.
fn try_flush(store: &Store) -> bool {
    let end = store.commit_log_max();
    store.request_flush();
    let deadline = std::time::Instant::now() + Duration::from_millis(400);
    while store.flushed() < end {
        if store.flush_state().borrow().failed || std::time::Instant::now() > deadline {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

/// Messages, compactions and the log's retention until the power fails. Gives the latest message of each key that was certainly stored, as number of
/// its round; an empty body is none.
fn live(
    disk: &SimulatedDisk,
    clock: &Arc<ManualClock>,
    power_off_after: Option<u64>,
) -> BTreeMap<String, u64> {
    let mut stored = BTreeMap::new();
    let store = simulated(disk, clock).unwrap();
    disk.set_faults(|faults| faults.power_off_after = power_off_after);
    for round in 0..8u64 {
        let mut sent = BTreeMap::new();
        for number in 0..KEYS {
            let key = format!("k{number}");
            // Some keys rest for some rounds, so that the compacted part alone has them.
            if (round as usize + number).is_multiple_of(3) {
                continue;
            }
            let body = format!("{round} {}", "x".repeat(150));
            let properties = format!("KEYS\u{1}{key}\u{2}");
            let new = message("T", 0, body.as_bytes(), &properties);
            if store.append(&[new], &mut Vec::new()).is_ok() {
                sent.insert(key, round);
            }
        }
        if try_flush(&store) {
            stored.append(&mut sent);
        }
        let before = store.flushed();
        if let Ok(outcome) = store.compact("T", 0, &LIMITS) {
            store.release_for_compaction(outcome.waits_from.unwrap_or(before));
        }
        clock.advance(Duration::from_secs(40 * 3_600));
        store.delete_expired_segments();
    }
    if power_off_after.is_none() {
        eventually("the log let go of what is compacted", || {
            store.delete_expired_segments();
            store.commit_log_min() > 0
        });
        assert_eq!(stored.len(), KEYS);
    }
    stored
}

#[test]
fn power_that_fails_at_any_moment_leaves_the_latest_message_of_each_key() {
    let count = {
        let disk = SimulatedDisk::new();
        live(&disk, &Arc::new(ManualClock::new(1_700_000_000_000)), None);
        disk.changes()
    };
    for after in (1..count).step_by((count / 150).max(1) as usize) {
        let disk = SimulatedDisk::new();
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        let stored = live(&disk, &clock, Some(after));
        // Killed: what the kernel had is there. Without power: what was synced is.
        for left in [disk.kill(), disk.crash(after)] {
            let store = simulated(&left, &clock).unwrap();
            check_latest(&store, &stored, after);
            compact(&store);
            check_latest(&store, &stored, after);
            put(&store, "new", "99");
            store.close();
            drop(store);
            let store = simulated(&left, &clock).unwrap();
            check_latest(&store, &stored, after);
            assert_eq!(bodies(&store).last().unwrap(), "99", "after {after}");
        }
    }
}

fn check_latest(store: &Store, stored: &BTreeMap<String, u64>, after: u64) {
    let mut found = BTreeMap::new();
    for (_, key, body) in walk(store, 0) {
        let round = body.split(' ').next().unwrap().parse::<u64>().unwrap();
        let earlier = found.insert(key, round);
        assert!(earlier < Some(round), "after {after}: out of order");
    }
    for (key, round) in stored {
        assert!(
            found.get(key) >= Some(round),
            "after {after} changes: {key} of round {round} was flushed and is lost: {found:?}"
        );
    }
}

#[test]
fn a_disk_that_fails_in_a_pass_leaves_what_was_there_and_the_next_pass_goes_on() {
    let disk = SimulatedDisk::new();
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let store = simulated(&disk, &clock).unwrap();
    fill(&store, 3);
    compact(&store);
    fill(&store, 5);
    disk.set_faults(|faults| faults.capacity_bytes = Some(0));
    let error = store.compact("T", 0, &LIMITS).unwrap_err().to_string();
    assert!(error.contains("bytes of disk"), "{error}");
    assert_eq!(firsts(&store).len(), 4 + 5 * 4);
    disk.set_faults(|faults| faults.capacity_bytes = None);
    compact(&store);
    assert_eq!(firsts(&store), ["a4", "b4", "c4", "d4"]);
}

#[test]
fn a_store_on_the_real_disk_is_closed_while_it_compacts() {
    let home = Home::new();
    let store = home.open();
    for number in 0..3_000 {
        put(&store, &format!("k{number}"), "body");
    }
    flush(&store);
    let beside = Arc::clone(&store);
    let pass = std::thread::spawn(move || beside.compact("T", 0, &LIMITS));
    store.close();
    let _ = pass.join().unwrap();
    assert!(matches!(
        store.compact("T", 0, &LIMITS),
        Err(storage::CompactionError::Closed)
    ));
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let store = Store::open(home.config.clone(), disk, Arc::clone(&home.clock)).unwrap();
    assert_eq!(bodies(&store).len(), 3_000);
}
