//! The files of single consume queues, lost and damaged.

use std::fs::{self, OpenOptions};
use std::path::Path;

use platform::disk::{Disk, OpenMode, SimulatedDisk};
use protocol::record::{self, CheckBody};
use storage::{Config, FlushMode};

use crate::derived::{check, filled};
use crate::faults::{TOPIC, append_until_refused, config, try_open};
use crate::support::{eventually, read};

#[test]
fn a_lost_queue_is_made_again() {
    for clean in [true, false] {
        let home = filled(clean);
        fs::remove_dir_all(home.path("consumequeue/T/2")).unwrap();
        check(&home);
    }
}

#[test]
fn a_lost_file_of_a_queue_is_made_again() {
    for clean in [true, false] {
        let home = filled(clean);
        // 75 entries a queue, 32 a file.
        fs::remove_file(home.path("consumequeue/T/0/00000000000000001280")).unwrap();
        fs::remove_file(home.path("consumequeue/T/0/00000000000000000640")).unwrap();
        check(&home);
    }
}

#[test]
fn an_emptied_queue_file_is_made_again() {
    for clean in [true, false] {
        let home = filled(clean);
        let file = OpenOptions::new()
            .write(true)
            .open(home.path("consumequeue/T/3/00000000000000001280"))
            .unwrap();
        file.set_len(0).unwrap();
        check(&home);
    }
}

/// A queue whose newest entries were not yet synced when the power failed, and whose older records had expired, said that it began where its files
/// ended: a consumer that asked for the first offset asked for messages that are nowhere.
#[test]
fn a_queue_begins_at_the_first_message_that_the_log_still_has() {
    let disk = SimulatedDisk::new();
    let config = Config {
        file_reserved_hours: 0,
        ..config(FlushMode::Sync)
    };
    let store = try_open(&disk, &config).unwrap();
    assert_eq!(append_until_refused(&store, 0, 2 * 60), (120, 120));
    eventually("segments expire", || {
        store.delete_expired_segments();
        store.commit_log_min() > 0
    });
    let (min, max) = (store.min_offset(TOPIC, 0), store.max_offset(TOPIC, 0));
    assert!(
        min % 16 > 1,
        "the first file holds expired entries too: {min}"
    );
    eventually("the queues are written", || {
        store.stats().queue_backlog == 0
    });
    drop(store);
    let disk = disk.kill();
    let dir = Path::new("/store/consumequeue").join(TOPIC).join("0");
    for entry in disk.list(&dir).unwrap() {
        let path = dir.join(&entry.name);
        if entry.name == format!("{:020}", min / 16 * 16 * 20) {
            let file = disk.open(&path, OpenMode::ReadWrite).unwrap();
            file.set_len(20).unwrap();
        } else {
            disk.remove(&path).unwrap();
        }
    }
    let store = try_open(&disk, &config).unwrap();
    assert_eq!(store.max_offset(TOPIC, 0), max);
    let min = store.min_offset(TOPIC, 0);
    let first = read(&store, TOPIC, 0, min as i64, 1).records.remove(0);
    let first = record::decode(&first, CheckBody::Yes).unwrap();
    assert_eq!(first.queue_offset, min);
}
