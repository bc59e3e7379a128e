//! Moving between files of single queues and the shared store, and what only the shared store can lose.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use platform::clock::RealClock;
use platform::disk::{Disk, RecordingDisk, Replay, SimulatedDisk};
use platform::random::Random;
use protocol::record::{self, CheckBody};
use storage::{Config, FlushMode, Store};

use crate::derived::{check, filled};
use crate::faults;
use crate::support::*;

/// With files for as many queues as there are.
const FILES: usize = 100;
const TOPICS: [&str; 3] = ["a", "b", "c"];

fn with_limit(home: &mut Home, limit: usize) -> Arc<Store> {
    home.config.queue_files_max = limit;
    home.open()
}

fn is_shared(home: &Home) -> bool {
    home.path("consumequeue_shared/names").exists()
}

#[test]
fn queues_move_to_the_shared_store_and_back_with_everything() {
    let mut home = Home::new();
    let store = with_limit(&mut home, FILES);
    append_numbered(&store, "T", 0, 100, 4);
    store.close();
    drop(store);
    assert!(!is_shared(&home));

    let store = with_limit(&mut home, 3);
    eventually("the files of single queues are gone", || {
        is_shared(&home) && fs::read_dir(home.path("consumequeue")).unwrap().count() == 0
    });
    check_numbered(&store, "T", 100, 4);
    append_numbered(&store, "T", 100, 100, 4);
    store.close();
    drop(store);

    // Four queues are more than half of seven.
    let store = with_limit(&mut home, 7);
    check_numbered(&store, "T", 200, 4);
    store.close();
    drop(store);
    assert!(is_shared(&home));

    let store = with_limit(&mut home, FILES);
    assert!(!is_shared(&home));
    check_numbered(&store, "T", 200, 4);
    append_numbered(&store, "T", 200, 100, 4);
    drop(store);
    check_numbered(&home.open(), "T", 300, 4);
}

/// Otherwise topics that come and go, as those of light consumers do, would make the file longer for ever.
#[test]
fn names_of_deleted_topics_leave_the_file_and_queues_stay() {
    let mut home = Home::new();
    let store = with_limit(&mut home, 3);
    append_numbered(&store, "T", 0, 40, 4);
    eventually("the store is converted", || is_shared(&home));
    let names = home.path("consumequeue_shared/names");
    let length = || fs::metadata(&names).unwrap().len();
    let long = "x".repeat(200);
    let topics: Vec<String> = (0..3_200).map(|number| format!("{long}{number}")).collect();
    for topic in &topics {
        append_numbered(&store, topic, 0, 1, 1);
    }
    eventually("the names are written", || length() > 600 << 10);
    eventually("the entries are written", || {
        store.stats().queue_backlog == 0
    });
    let mut longest = length();
    for topic in &topics {
        store.delete_topic(topic);
        longest = longest.max(length());
    }
    append_numbered(&store, "U", 0, 10, 1);
    eventually("the file is short", || length() < 512 << 10);
    assert!(longest > 1 << 20, "{longest}");
    append_numbered(&store, "T", 40, 40, 4);
    append_numbered(&store, &topics[7], 0, 5, 1);
    eventually("the entries are written", || {
        store.stats().queue_backlog == 0
    });
    drop(store);
    let store = home.open();
    check_numbered(&store, "T", 80, 4);
    check_numbered(&store, "U", 10, 1);
    // Its keys lead to what it had before its deletion, too.
    assert_eq!(read(&store, &topics[7], 0, 0, 32).records.len(), 5);
    assert_eq!(store.max_offset(&topics[7], 0), 5);
    assert_eq!(store.max_offset(&topics[8], 0), 0);
}

/// The queue that is one too many has the others moved while the store runs.
#[test]
fn the_store_is_converted_while_it_runs() {
    let mut home = Home::new();
    let store = with_limit(&mut home, 4);
    append_numbered(&store, "T", 0, 60, 4);
    eventually("the entries are written", || {
        store.stats().queue_backlog == 0
    });
    assert!(!is_shared(&home));
    append_numbered(&store, "U", 0, 1, 1);
    eventually("the store is converted", || is_shared(&home));
    append_numbered(&store, "T", 60, 60, 4);
    check_numbered(&store, "T", 120, 4);
    drop(store);
    let store = home.open();
    check_numbered(&store, "T", 120, 4);
    check_numbered(&store, "U", 1, 1);
}

#[test]
fn whatever_is_lost_of_the_shared_store_is_made_again() {
    for clean in [true, false] {
        let files = {
            let home = filled(clean);
            names(&home.path("consumequeue_shared"))
        };
        assert!(files.iter().any(|name| name == "names"), "{files:?}");
        for kind in ["names", "snapshot", "0"] {
            let home = filled(clean);
            let dir = home.path("consumequeue_shared");
            for name in names(&dir).iter().filter(|name| name.starts_with(kind)) {
                fs::remove_file(dir.join(name)).unwrap();
            }
            check(&home);
        }
    }
}

/// A flipped bit in any file of the shared store costs a start that reads the log, and no message.
#[test]
fn a_damaged_shared_store_is_made_again() {
    let mut random = Random(7);
    for clean in [true, false] {
        for _ in 0..12 {
            let home = filled(clean);
            let dir = home.path("consumequeue_shared");
            for name in names(&dir) {
                let mut bytes = fs::read(dir.join(&name)).unwrap();
                if let Some(last) = bytes.len().checked_sub(1) {
                    let at = random.next_u64() as usize % (last + 1);
                    bytes[at] ^= 1 << (random.next_u64() % 8);
                    fs::write(dir.join(&name), bytes).unwrap();
                }
            }
            let store = home.open();
            check_numbered(&store, "T", 300, 4);
        }
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// Opens the store, has it converted, and closes it. The journal of what it wrote.
fn conversion(from: usize, to: usize) -> (Vec<platform::disk::Operation>, usize) {
    let disk = Arc::new(RecordingDisk::new(Arc::new(SimulatedDisk::new())));
    let open = |limit| {
        let config = Config {
            queue_files_max: limit,
            ..faults::config(FlushMode::Sync)
        };
        Store::open(
            config,
            Arc::clone(&disk) as Arc<dyn Disk>,
            Arc::new(RealClock::new()),
        )
        .unwrap()
    };
    let store = open(from);
    assert_eq!(faults::append_until_refused(&store, 0, 40), (40, 40));
    store.close();
    drop(store);
    let begins = disk.operations().len();
    let store = open(to);
    if to == 0 {
        eventually("the store is converted", || {
            disk.exists(Path::new("/store/consumequeue_shared/names"))
                && disk
                    .list(Path::new("/store/consumequeue"))
                    .unwrap()
                    .is_empty()
        });
    }
    store.close();
    (disk.operations(), begins)
}

/// Both ways, with the power cut after each change.
#[test]
fn a_conversion_that_dies_anywhere_loses_nothing() {
    for (from, to) in [(FILES, 0), (0, FILES)] {
        let (operations, begins) = conversion(from, to);
        let mut replay = Replay::new();
        for (position, operation) in operations.iter().enumerate() {
            replay.apply(operation).unwrap();
            if position < begins {
                continue;
            }
            for (seed, limit) in [(1, 0), (2, FILES)] {
                let disk = replay.disk().crash(seed + 10 * position as u64);
                let config = Config {
                    root: PathBuf::from("/store"),
                    queue_files_max: limit,
                    ..faults::config(FlushMode::Sync)
                };
                let store = faults::try_open(&disk, &config)
                    .unwrap_or_else(|error| panic!("at {position}: {error}"));
                for queue in 0..2 {
                    let records = read_queue(&store, faults::TOPIC, queue);
                    assert_eq!(records.len(), 20, "at {position}, queue {queue}");
                }
                assert_eq!(faults::append_until_refused(&store, 40, 42), (42, 42));
            }
        }
    }
}

/// Random traffic with deletions, retention, clean stops and deaths: what a store reads is what one with the other kind of queues reads.
#[test]
fn the_shared_store_says_what_files_say() {
    for seed in 0..6 {
        let (files, shared) = (life(seed, FILES), life(seed, 0));
        assert_eq!(files, shared, "seed {seed}");
        // Moved at every other start.
        assert_eq!(files, life(seed, usize::MAX), "seed {seed}, moved");
    }
}

/// First and last offset and bodies of each queue, after each step.
type Seen = Vec<BTreeMap<(usize, i32), (u64, u64, Vec<Vec<u8>>)>>;

fn life(seed: u64, limit: usize) -> Seen {
    let mut random = Random(seed);
    let mut home = Home::with(|config| {
        config.file_reserved_hours = 1;
        config.tail_bytes_max = 4 << 10;
    });
    let clock = home.manual_clock(1_700_000_000_000);
    let mut starts = 0;
    let mut open = |home: &mut Home| {
        starts += 1;
        let limit = match limit {
            usize::MAX if starts % 2 == 1 => 0,
            usize::MAX => FILES,
            limit => limit,
        };
        with_limit(home, limit)
    };
    let mut store = open(&mut home);
    let mut number = 0;
    let mut seen = Seen::new();
    for _ in 0..40 {
        match random.next_u64() % 10 {
            0 => store.delete_topic(TOPICS[random.next_u64() as usize % 3]),
            1 => {
                clock.advance(std::time::Duration::from_secs(7200));
                append_numbered(&store, "a", number, 1, 1);
                number += 1;
                flush(&store);
                // What no checkpoint covers stays, and when one comes is chance.
                eventually("a checkpoint", || {
                    store.request_flush();
                    store.stats().queues_written == store.commit_log_max()
                });
                store.delete_expired_segments();
                store.clean_expired_queues();
            }
            2 => {
                store.close();
                drop(store);
                store = open(&mut home);
            }
            3 => {
                eventually("a checkpoint", || {
                    store.request_flush();
                    store.stats().queues_written == store.commit_log_max()
                });
                drop(store);
                store = open(&mut home);
            }
            _ => {
                let topic = TOPICS[random.next_u64() as usize % 3];
                let count = 1 + random.next_u64() as usize % 30;
                append_numbered(&store, topic, number, count, 3);
                number += count;
            }
        }
        let mut now = BTreeMap::new();
        for (index, topic) in TOPICS.iter().enumerate() {
            for queue_id in 0..3 {
                let bodies = read_queue(&store, topic, queue_id)
                    .iter()
                    .map(|bytes| record::decode(bytes, CheckBody::Yes).unwrap().body.to_vec())
                    .collect();
                let bounds = (
                    store.min_offset(topic, queue_id),
                    store.max_offset(topic, queue_id),
                );
                now.insert((index, queue_id), (bounds.0, bounds.1, bodies));
            }
        }
        seen.push(now);
    }
    seen
}
