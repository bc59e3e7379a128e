//! What is derived from the log may be lost or damaged; the log may be torn.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use storage::ReadStatus;

use crate::support::*;

/// A store with 300 numbered messages in 4 queues, closed or abandoned after a checkpoint.
pub(crate) fn filled(clean: bool) -> Home {
    let home = Home::new();
    let store = home.open();
    append_numbered(&store, "T", 0, 300, 4);
    if clean {
        store.close();
    } else {
        flush(&store);
        eventually("a checkpoint", || {
            store.stats().queues_written == store.commit_log_max()
        });
    }
    home
}

pub(crate) fn check(home: &Home) {
    let store = home.open();
    check_numbered(&store, "T", 300, 4);
    append_numbered(&store, "T", 300, 20, 4);
    store.close();
    let store = home.open();
    check_numbered(&store, "T", 320, 4);
}

#[test]
fn lost_consume_queues_are_made_again() {
    for clean in [true, false] {
        let home = filled(clean);
        fs::remove_dir_all(home.path(crate::QUEUES_DIR)).unwrap();
        check(&home);
    }
}

#[test]
fn a_lost_index_is_made_again() {
    for clean in [true, false] {
        let home = filled(clean);
        fs::remove_dir_all(home.path("index")).unwrap();
        check(&home);
        let home = filled(clean);
        let mut names: Vec<_> = fs::read_dir(home.path("index"))
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        names.sort();
        fs::remove_file(names.last().unwrap()).unwrap();
        check(&home);
    }
}

#[test]
fn a_lost_checkpoint_costs_time_only() {
    for clean in [true, false] {
        let home = filled(clean);
        fs::remove_file(home.path("checkpoint")).unwrap();
        check(&home);
        let home = filled(clean);
        fs::remove_file(home.path("checkpoint")).unwrap();
        fs::remove_dir_all(home.path(crate::QUEUES_DIR)).unwrap();
        fs::remove_dir_all(home.path("index")).unwrap();
        check(&home);
    }
}

#[test]
fn a_checkpoint_that_java_wrote_over_is_read_as_java_would() {
    for clean in [true, false] {
        let home = filled(clean);
        let file = OpenOptions::new()
            .write(true)
            .open(home.path("checkpoint"))
            .unwrap();
        file.write_all_at(&[0; 24], 0).unwrap();
        check(&home);
    }
}

#[test]
fn a_lost_log_empties_what_was_derived() {
    let home = filled(true);
    fs::remove_dir_all(home.path("commitlog")).unwrap();
    let store = home.open();
    assert_eq!((store.commit_log_max(), store.max_offset("T", 0)), (0, 0));
    append_numbered(&store, "T", 0, 300, 4);
    check_numbered(&store, "T", 300, 4);
}

#[test]
fn a_torn_tail_is_cut_and_never_comes_back() {
    let home = Home::new();
    let store = home.open();
    let appended = append_numbered(&store, "T", 0, 300, 4);
    drop(store);
    // The record 297 is damaged in its body. 298 and 299 behind it are whole.
    let torn = appended[297];
    let start = torn.physical_offset / home.config.segment_bytes * home.config.segment_bytes;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(home.path(&format!("commitlog/{start:020}")))
        .unwrap();
    file.write_all_at(b"#", torn.physical_offset - start + 100)
        .unwrap();
    // A checkpoint may have been made beyond it, which a torn write cannot do; then only a full reading finds it.
    let _ = fs::remove_file(home.path("checkpoint"));

    let store = home.open();
    assert_eq!(store.commit_log_max(), torn.physical_offset);
    check_numbered(&store, "T", 297, 4);
    assert!(
        store
            .query_by_key("T", "k298", 1, 0, i64::MAX)
            .unwrap()
            .records
            .is_empty()
    );
    // A record of the same size: without the cut, 298 would be taken for its successor.
    let body = body(297);
    let properties = "KEYS\u{1}k297\u{2}UNIQ_KEY\u{1}u297\u{2}TAGS\u{1}odd\u{2}";
    let again = append(&store, &[message("T", 1, &body, properties)]);
    assert_eq!(
        again[0],
        storage::Appended {
            store_timestamp_ms: again[0].store_timestamp_ms,
            ..torn
        }
    );
    drop(store);
    let store = home.open();
    assert_eq!(store.commit_log_max(), torn.end);
    check_numbered(&store, "T", 298, 4);
}

#[test]
fn entries_ahead_of_the_log_are_cut() {
    let home = Home::new();
    let store = home.open();
    let appended = append_numbered(&store, "T", 0, 300, 4);
    eventually("the queues are written", || {
        store.stats().queue_backlog == 0 && store.stats().index_backlog == 0
    });
    drop(store);
    // As after loss of power: the log's end did not reach the disk, the queues' did. No checkpoint can speak of it.
    let _ = fs::remove_file(home.path("checkpoint"));
    let lost = appended[280];
    for entry in fs::read_dir(home.path("commitlog")).unwrap() {
        let path = entry.unwrap().path();
        let start: u64 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        if start >= lost.physical_offset {
            fs::remove_file(path).unwrap();
        } else if start + home.config.segment_bytes > lost.physical_offset {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(lost.physical_offset - start).unwrap();
            file.set_len(home.config.segment_bytes).unwrap();
        }
    }
    let store = home.open();
    check_numbered(&store, "T", 280, 4);
    assert!(
        store
            .query_by_key("T", "k290", 1, 0, i64::MAX)
            .unwrap()
            .records
            .is_empty()
    );
    append_numbered(&store, "T", 280, 20, 4);
    store.close();
    check_numbered(&home.open(), "T", 300, 4);
}

#[test]
fn a_deleted_topic_stays_deleted_and_may_come_again() {
    for clean in [true, false] {
        let home = Home::new();
        let store = home.open();
        append_numbered(&store, "T", 0, 100, 2);
        append_numbered(&store, "gone", 0, 100, 2);
        store.delete_topic("gone");
        assert!(!home.path("consumequeue/gone").exists());
        assert_eq!(store.max_offset("gone", 0), 0);
        if clean {
            store.close();
        }
        drop(store);
        let store = home.open();
        check_numbered(&store, "T", 100, 2);
        assert_eq!(store.queues_of("gone"), Vec::<i32>::new());
        assert_eq!(
            append(&store, &[message("gone", 0, b"again", "")])[0].queue_offset,
            0
        );
    }
}

#[test]
fn expired_segments_leave_with_what_was_derived_from_them() {
    let mut home = Home::with(|config| config.file_reserved_hours = 1);
    let clock = home.manual_clock(1_700_000_000_000);
    let store = home.open();
    append(&store, &[message("early", 0, b"only one", "")]);
    append_numbered(&store, "T", 0, 150, 1);
    clock.advance(std::time::Duration::from_secs(7200));
    append_numbered(&store, "T", 150, 150, 1);
    flush(&store);
    eventually("a checkpoint covers the log", || {
        store.stats().queues_written == store.commit_log_max()
    });
    store.delete_expired_segments();

    let min = store.commit_log_min();
    assert!(min > 0 && min.is_multiple_of(home.config.segment_bytes));
    let first = store.min_offset("T", 0);
    assert!((100..=150).contains(&first), "{first}");
    let records = read_queue(&store, "T", 0);
    assert_eq!(records.len() as u64, 300 - first);
    assert_eq!(
        read(&store, "T", 0, 0, 1).status,
        ReadStatus::OffsetTooSmall
    );
    assert_eq!(read(&store, "T", 0, 0, 1).next_offset, first as i64);
    assert!(!home.path("consumequeue/T/0/00000000000000000000").exists());
    // The queue's count survives its messages.
    assert_eq!(
        (store.min_offset("early", 0), store.max_offset("early", 0)),
        (1, 1)
    );
    assert!(
        store
            .query_by_key("T", "k0", 1, 0, i64::MAX)
            .unwrap()
            .records
            .is_empty()
    );
    drop(store);

    let store = home.open();
    assert_eq!(
        (store.min_offset("T", 0), store.max_offset("T", 0)),
        (first, 300)
    );
    assert_eq!(read_queue(&store, "T", 0), records);
    assert_eq!(
        (store.min_offset("early", 0), store.max_offset("early", 0)),
        (1, 1)
    );
    drop(store);
    // Made again from what is left of the log, a queue begins where its first message is.
    fs::remove_dir_all(home.path(crate::QUEUES_DIR)).unwrap();
    let store = home.open();
    assert_eq!(
        (store.min_offset("T", 0), store.max_offset("T", 0)),
        (first, 300)
    );
    assert_eq!(read_queue(&store, "T", 0), records);
    store.close();
    let store = home.open();
    assert_eq!(
        (store.min_offset("T", 0), store.max_offset("T", 0)),
        (first, 300)
    );
    assert_eq!(read_queue(&store, "T", 0), records);
}

/// Segments were removed while the entries of their records were in memory only. After a kill nothing told how far such a queue had come: it
/// began again at 0, below the offsets that its groups had committed.
#[test]
fn a_queue_does_not_begin_again_when_all_its_messages_have_expired() {
    let mut home = Home::with(|config| {
        config.file_reserved_hours = 1;
        config.write_behind_interval_ms = 3_600_000;
        config.checkpoint_interval_ms = 3_600_000;
    });
    let clock = home.manual_clock(1_700_000_000_000);
    let store = home.open();
    append(&store, &[message("early", 0, b"only one", "")]);
    append_numbered(&store, "T", 0, 150, 1);
    clock.advance(std::time::Duration::from_secs(7200));
    append_numbered(&store, "T", 150, 150, 1);
    flush(&store);
    store.delete_expired_segments();
    drop(store);
    assert_eq!(home.open().max_offset("early", 0), 1);
}

#[test]
fn the_last_segment_never_expires() {
    let mut home = Home::with(|config| config.file_reserved_hours = 0);
    let clock = home.manual_clock(1_700_000_000_000);
    let store = home.open();
    append_numbered(&store, "T", 0, 10, 1);
    clock.advance(std::time::Duration::from_secs(7200));
    flush(&store);
    store.delete_expired_segments();
    assert_eq!(read_queue(&store, "T", 0).len(), 10);
}
