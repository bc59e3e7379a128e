//! Batch topics: one record may hold several messages and takes as many offsets of its queue; their queues have files of their own kind.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use platform::disk::SimulatedDisk;
use protocol::record::{self, CheckBody};
use protocol::{properties, sysflag};
use storage::{AppendError, Appended, Boundary, FlushMode, NewMessage, ReadStatus, Store};

use crate::faults;
use crate::support::{Home, append, eventually, flush, host, message, read};

const TOPIC: &str = "Batches";
/// Messages in the records of a filled store, by turns.
const SIZES: [u64; 5] = [3, 1, 40, 2, 7];

/// A record of `count` messages; a single one is no inner batch.
fn send(store: &Store, topic: &str, count: u64) -> Result<Appended, AppendError> {
    let properties = format!("UNIQ_KEY\u{1}u\u{2}INNER_NUM\u{1}{count}\u{2}");
    let body = "x".repeat(count as usize);
    let inner = NewMessage {
        sys_flag: sysflag::INNER_BATCH | sysflag::NEED_UNWRAP,
        ..message(topic, 0, body.as_bytes(), &properties)
    };
    let single = message(topic, 0, body.as_bytes(), "UNIQ_KEY\u{1}u\u{2}");
    let mut appended = Vec::new();
    store.append(&[if count > 1 { inner } else { single }], &mut appended)?;
    Ok(appended[0])
}

fn size(record: usize) -> u64 {
    SIZES[record % SIZES.len()]
}

/// Offset of a record's first message.
fn base(record: usize) -> u64 {
    (0..record).map(size).sum()
}

fn fill(store: &Store, from: usize, to: usize) {
    assert!(store.make_batch_topic(TOPIC));
    for record in from..to {
        let appended = send(store, TOPIC, size(record)).unwrap();
        assert_eq!(appended.queue_offset, base(record));
    }
}

/// First offset and number of messages of each record in the queue, as reads from its first offset on give them.
fn found(store: &Store, topic: &str) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    let mut offset = store.min_offset(topic, 0) as i64;
    loop {
        let result = read(store, topic, 0, offset, 10);
        if result.status != ReadStatus::Found {
            assert_eq!(offset, store.max_offset(topic, 0) as i64, "{result:?}");
            return found;
        }
        for bytes in &result.records {
            let record = record::decode(bytes, CheckBody::Yes).unwrap();
            let count = record.body.len() as u64;
            assert_eq!(record.queue_offset, offset as u64);
            if count > 1 {
                let first = properties::get(record.properties, properties::INNER_BASE);
                assert_eq!(first, Some(offset.to_string().as_str()));
            }
            found.push((record.queue_offset, count));
            offset += count as i64;
        }
        assert_eq!(result.next_offset, offset);
    }
}

fn filled(from: usize, to: usize) -> Vec<(u64, u64)> {
    (from..to)
        .map(|record| (base(record), size(record)))
        .collect()
}

#[test]
fn a_batch_takes_as_many_offsets_as_it_has_messages() {
    let home = Home::new();
    let store = home.open();
    fill(&store, 0, 30);
    assert_eq!(found(&store, TOPIC), filled(0, 30));
    assert_eq!(store.max_offset(TOPIC, 0), base(30));
}

#[test]
fn a_read_from_inside_a_batch_gives_it_whole() {
    let home = Home::new();
    let store = home.open();
    fill(&store, 0, 20);
    let check = |store: &Store| {
        for record in 0..20 {
            for offset in base(record)..base(record + 1) {
                let result = read(store, TOPIC, 0, offset as i64, 1);
                assert_eq!(result.records.len(), 1, "{offset}");
                let first = record::peek_queue_offset(&result.records[0]);
                assert_eq!(first, Some(base(record)), "{offset}");
                assert_eq!(result.next_offset, base(record + 1) as i64, "{offset}");
            }
        }
    };
    check(&store);
    store.close();
    drop(store);
    let store = home.open();
    assert!(store.make_batch_topic(TOPIC));
    check(&store);
}

#[test]
fn what_a_read_asks_for_counts_messages_and_ends_between_records() {
    let home = Home::new();
    let store = home.open();
    fill(&store, 0, 10);
    // 3, 1, 40, 2 …
    for (messages_max, records) in [(1, 1), (3, 1), (4, 2), (5, 3), (44, 3), (45, 4)] {
        let result = read(&store, TOPIC, 0, 0, messages_max);
        assert_eq!(result.records.len(), records, "{messages_max}");
        assert_eq!(result.next_offset, base(records) as i64, "{messages_max}");
    }
}

#[test]
fn batches_are_the_same_after_a_clean_stop_and_after_a_death() {
    let home = Home::new();
    let store = home.open();
    fill(&store, 0, 50);
    store.close();
    drop(store);
    let store = home.open();
    store.make_batch_topic(TOPIC);
    assert_eq!(found(&store, TOPIC), filled(0, 50));
    fill(&store, 50, 70);
    // Without a word to the directory, as a crash leaves it.
    drop(store);
    let store = home.open();
    store.make_batch_topic(TOPIC);
    assert_eq!(found(&store, TOPIC), filled(0, 70));
    fill(&store, 70, 71);
}

#[test]
fn batches_are_made_again_from_the_log() {
    let home = Home::new();
    let store = home.open();
    fill(&store, 0, 60);
    store.close();
    drop(store);
    let dir = crate::BATCH_QUEUES_DIR;
    fs::remove_dir_all(home.path(dir)).unwrap();
    let store = home.open();
    assert_eq!(found(&store, TOPIC), filled(0, 60));
    store.close();
    drop(store);
    assert!(home.path(dir).exists());
    assert!(!home.path("consumequeue").join(TOPIC).exists());
}

#[test]
fn a_batch_is_one_offset_in_time() {
    let mut home = Home::new();
    let clock = home.manual_clock(1000);
    let store = home.open();
    for record in 0..3 {
        fill(&store, record, record + 1);
        clock.advance(Duration::from_millis(1000));
    }
    let find = |timestamp, boundary| {
        let offset = store.offset_by_time(TOPIC, 0, timestamp, boundary);
        offset.unwrap()
    };
    assert_eq!(find(1000, Boundary::Lower), 0);
    assert_eq!(find(1001, Boundary::Lower), 3);
    assert_eq!(find(3000, Boundary::Lower), 4);
    assert_eq!(find(3001, Boundary::Lower), 44);
    assert_eq!(find(3001, Boundary::Upper), 43);
    assert_eq!(store.store_time(TOPIC, 0, 30), Some(3000));
}

#[test]
fn batches_expire_with_their_records() {
    let mut home = Home::with(|config| config.file_reserved_hours = 1);
    let clock = home.manual_clock(1_700_000_000_000);
    let store = home.open();
    fill(&store, 0, 200);
    clock.advance(Duration::from_secs(2 * 3_600));
    fill(&store, 200, 201);
    flush(&store);
    eventually("a checkpoint covers the log", || {
        store.stats().queues_written == store.commit_log_max()
    });
    store.delete_expired_segments();
    let min = store.min_offset(TOPIC, 0);
    let first = (0..200).find(|record| base(*record) == min);
    let first = first.expect("a queue begins with a record");
    assert!(first > 0);
    assert_eq!(found(&store, TOPIC), filled(first, 201));
    drop(store);
    let store = home.open();
    store.make_batch_topic(TOPIC);
    assert_eq!(store.min_offset(TOPIC, 0), min);
    assert_eq!(found(&store, TOPIC), filled(first, 201));
}

#[test]
fn the_largest_batch_is_stored_and_read() {
    let home = Home::with(|config| config.segment_bytes = 1 << 20);
    let store = home.open();
    store.make_batch_topic(TOPIC);
    for count in [32_767, 2, 20_000, 32_767] {
        send(&store, TOPIC, count).unwrap();
    }
    let want = [(0, 32_767), (32_767, 2), (32_769, 20_000), (52_769, 32_767)];
    assert_eq!(found(&store, TOPIC), want);
    store.close();
    drop(store);
    let store = home.open();
    store.make_batch_topic(TOPIC);
    assert_eq!(found(&store, TOPIC), want);
    for nonsense in [0, 32_768] {
        let refused = send(&store, TOPIC, 2).map(|_| ());
        assert!(refused.is_ok());
        let properties = format!("INNER_NUM\u{1}{nonsense}\u{2}");
        let message = NewMessage {
            sys_flag: sysflag::INNER_BATCH,
            ..message(TOPIC, 0, b"x", &properties)
        };
        let refused = store.append(&[message], &mut Vec::new());
        assert!(matches!(refused, Err(AppendError::Unstorable { .. })));
    }
}

/// A deleted topic leaves nothing that a topic of its name would be taken for.
#[test]
fn a_deleted_batch_topic_may_come_back_as_a_plain_one() {
    let home = Home::new();
    let store = home.open();
    fill(&store, 0, 10);
    store.delete_topic(TOPIC);
    assert!(!home.path("batchconsumequeue").join(TOPIC).exists());
    append(&store, &[message(TOPIC, 0, b"x", "")]);
    store.close();
    drop(store);
    let store = home.open();
    assert_eq!(store.max_offset(TOPIC, 0), 1);
    let has_own_files = crate::QUEUES_DIR == "consumequeue";
    assert_eq!(
        home.path("consumequeue").join(TOPIC).exists(),
        has_own_files
    );
}

#[test]
fn a_batch_follows_other_messages_of_its_append() {
    let home = Home::new();
    let store = home.open();
    store.make_batch_topic(TOPIC);
    let properties =
        "INNER_NUM\u{1}3\u{2}INNER_BASE\u{1}70\u{2}INNER_MULTI_DISPATCH\u{1}%LMQ%a\u{2}";
    let batch = NewMessage {
        sys_flag: sysflag::INNER_BATCH,
        store_host: host(),
        ..message(TOPIC, 0, b"xxx", properties)
    };
    let single = message(TOPIC, 0, b"x", "");
    let all = [single, batch, message("T", 0, b"y", ""), single, batch];
    let appended = append(&store, &all);
    let offsets: Vec<_> = appended.iter().map(|one| one.queue_offset).collect();
    assert_eq!(offsets, [0, 1, 0, 4, 5]);
    let want = [(0, 1), (1, 3), (4, 1), (5, 3)];
    assert_eq!(found(&store, TOPIC), want);
    drop(store);
    let store = home.open();
    store.make_batch_topic(TOPIC);
    assert_eq!(found(&store, TOPIC), want);
    assert_eq!(store.max_offset("%LMQ%a", 0), 0);
}

/// What is left of a run on a disk: all records without a hole, and the queue goes on.
fn check_recovery(disk: &SimulatedDisk, tried: usize, promised: usize, what: &str) {
    let mut config = faults::config(FlushMode::Sync);
    config.batch_queue_file_bytes = 46 * 8;
    let store = faults::try_open(disk, &config).unwrap_or_else(|error| panic!("{what}: {error}"));
    store.make_batch_topic(TOPIC);
    store.request_flush();
    eventually("what was found is synced", || {
        store.flushed() == store.commit_log_max()
    });
    let count = found(&store, TOPIC).len();
    assert!((promised..=tried).contains(&count), "{what}: {count}");
    assert_eq!(found(&store, TOPIC), filled(0, count), "{what}");
    fill(&store, count, count + 3);
    store.close();
    drop(store);
    let store = faults::try_open(disk, &config).unwrap();
    store.make_batch_topic(TOPIC);
    assert_eq!(found(&store, TOPIC), filled(0, count + 3), "{what}");
}

fn run_until_power_fails(changes: Option<u64>) -> (SimulatedDisk, usize, usize) {
    let disk = SimulatedDisk::new();
    disk.set_faults(|faults| faults.power_off_after = changes);
    let mut config = faults::config(FlushMode::Sync);
    config.batch_queue_file_bytes = 46 * 8;
    let Ok(store) = faults::try_open(&disk, &config) else {
        return (disk, 0, 0);
    };
    let store: Arc<Store> = store;
    store.make_batch_topic(TOPIC);
    for record in 0..40 {
        let appended = send(&store, TOPIC, size(record));
        let is_flushed = |appended: Appended| {
            let state = store.flush_state();
            eventually("the flush passes or fails", || {
                let state = *state.borrow();
                state.failed || state.flushed >= appended.end
            });
            state.borrow().flushed >= appended.end
        };
        if !appended.is_ok_and(is_flushed) {
            return (disk, record + 1, record);
        }
    }
    (disk, 40, 40)
}

#[test]
fn a_power_failure_or_a_kill_at_any_change_loses_no_batch() {
    let (disk, tried, promised) = run_until_power_fails(None);
    assert_eq!((tried, promised), (40, 40));
    for cut in 0..disk.changes() {
        let (disk, tried, promised) = run_until_power_fails(Some(cut));
        let what = format!("power cut after {cut} changes");
        check_recovery(&disk.crash(cut), tried, promised, &what);
        check_recovery(
            &disk.kill(),
            tried,
            promised,
            &format!("killed after {cut} changes"),
        );
    }
}
