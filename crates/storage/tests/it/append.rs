//! Appending and reading back, over segments, and after every kind of stop.

use protocol::record::{self, CheckBody};
use storage::{AppendError, FlushMode, Read, ReadError, ReadMode, ReadStatus, WriteState};

use crate::support::*;

#[test]
fn what_is_appended_is_read() {
    let home = Home::new();
    let store = home.open();
    let properties = "KEYS\u{1}k\u{2}";
    let appended = append(
        &store,
        &[
            message("T", 3, b"hello", properties),
            message("T", 3, "中文".as_bytes(), ""),
        ],
    );
    assert_eq!(
        (appended[0].physical_offset, appended[0].queue_offset),
        (0, 0)
    );
    assert_eq!(
        (appended[1].physical_offset, appended[1].queue_offset),
        (appended[0].end, 1)
    );
    assert_eq!(store.commit_log_max(), appended[1].end);

    let result = read(&store, "T", 3, 0, 32);
    assert_eq!(
        (
            result.status,
            result.next_offset,
            result.min_offset,
            result.max_offset
        ),
        (ReadStatus::Found, 2, 0, 2)
    );
    let record = record::decode(&result.records[0], CheckBody::Yes).unwrap();
    assert_eq!(
        (record.body, record.properties, record.flag),
        (&b"hello"[..], properties, 7)
    );
    assert_eq!(record.store_timestamp_ms, appended[0].store_timestamp_ms);
    assert_eq!(record.store_host, host());
    assert_eq!(store.queues_of("T"), [3]);
    assert_eq!(store.topics().len(), 1);
}

#[test]
fn addresses_of_both_families_are_kept() {
    let home = Home::new();
    let store = home.open();
    let mut new = message("T", 0, b"x", "");
    new.born_host = "[2001:db8::1]:9".parse().unwrap();
    let appended = append(&store, &[new]);
    let bytes = store
        .record_at(appended[0].physical_offset)
        .unwrap()
        .unwrap();
    assert_eq!(bytes.len() as u32, appended[0].record_bytes);
    assert_eq!(
        record::decode(&bytes, CheckBody::Yes).unwrap().born_host,
        new.born_host
    );
}

#[test]
fn statuses_are_those_of_java() {
    let home = Home::new();
    let store = home.open();
    append_numbered(&store, "T", 0, 5, 1);
    let status = |topic, offset| {
        let result = read(&store, topic, 0, offset, 32);
        (result.status, result.next_offset)
    };
    assert_eq!(status("absent", 3), (ReadStatus::NoMessageInQueue, 0));
    assert_eq!(status("T", -1), (ReadStatus::OffsetTooSmall, 0));
    assert_eq!(status("T", 5), (ReadStatus::OffsetOverflowOne, 5));
    assert_eq!(status("T", 6), (ReadStatus::OffsetOverflowBadly, 5));
    assert_eq!(status("T", 4), (ReadStatus::Found, 5));
}

#[test]
fn bounds_of_a_read_are_kept() {
    let home = Home::new();
    let store = home.open();
    append_numbered(&store, "T", 0, 2000, 1);
    let even = i64::from(protocol::tags::hash_code("even"));
    let only = |wanted: i64, offset, bytes_max, messages_max| {
        let filter = move |code: i64| code == wanted;
        let request = Read {
            topic: "T",
            queue_id: 0,
            offset,
            messages_max,
            bytes_max,
            filter: &filter,
        };
        store.read(&request, ReadMode::Blocking).unwrap()
    };
    let result = only(even, 1, usize::MAX, 4);
    assert_eq!((result.records.len(), result.next_offset), (4, 9));
    // One message is given whatever its size.
    let result = only(even, 0, 1, 4);
    assert_eq!((result.records.len(), result.next_offset), (1, 2));
    // Nothing matches: the scan ends after 800 entries and says where to go on.
    let result = only(-5, 10, usize::MAX, 4);
    assert_eq!(
        (result.status, result.next_offset),
        (ReadStatus::NoMatchedMessage, 810)
    );
    assert_eq!(only(-5, 1900, usize::MAX, 4).next_offset, 2000);
}

#[test]
fn batches_roll_over_segments_whole() {
    let home = Home::new();
    let store = home.open();
    let body = vec![b'x'; 3000];
    let batch: Vec<_> = (0..24)
        .map(|index| message("T", index % 3, &body, ""))
        .collect();
    for _ in 0..4 {
        let appended = append(&store, &batch);
        for pair in appended.windows(2) {
            let rolled = pair[1]
                .physical_offset
                .is_multiple_of(home.config.segment_bytes);
            assert!(rolled || pair[1].physical_offset == pair[0].end);
        }
    }
    assert!(store.stats().segments > 16);
    for queue_id in 0..3 {
        assert_eq!(read_queue(&store, "T", queue_id).len(), 32);
    }
    store.close();
    let store = home.open();
    for queue_id in 0..3 {
        assert_eq!(read_queue(&store, "T", queue_id).len(), 32);
    }
}

#[test]
fn restart_after_close_finds_everything_and_goes_on() {
    let home = Home::new();
    for round in 0..3 {
        let store = home.open();
        check_numbered(&store, "T", round * 300, 4);
        append_numbered(&store, "T", round * 300, 300, 4);
        check_numbered(&store, "T", (round + 1) * 300, 4);
        store.close();
        assert!(!home.path("abort").exists());
        assert!(matches!(
            store.append(&[message("T", 0, b"", "")], &mut Vec::new()),
            Err(AppendError::Closed)
        ));
        assert_eq!(store.write_state(), WriteState::Closed);
    }
}

#[test]
fn restart_without_close_finds_everything_and_goes_on() {
    let home = Home::new();
    for round in 0..5 {
        let store = home.open();
        assert!(home.path("abort").exists());
        check_numbered(&store, "T", round * 200, 4);
        append_numbered(&store, "T", round * 200, 200, 4);
        // With and without a checkpoint in between.
        if round % 2 == 0 {
            flush(&store);
            eventually("a checkpoint", || {
                store.stats().queues_written == store.commit_log_max()
            });
        }
    }
    check_numbered(&home.open(), "T", 1000, 4);
}

#[test]
fn reads_beyond_the_memory_tail_come_from_the_files() {
    let home = Home::with(|config| config.tail_bytes_max = 1000);
    let store = home.open();
    append_numbered(&store, "T", 0, 500, 2);
    check_numbered(&store, "T", 500, 2);
    assert!(store.stats().tail_bytes <= 1000);
    let request = Read {
        topic: "T",
        queue_id: 0,
        offset: 0,
        messages_max: 32,
        bytes_max: 1 << 20,
        filter: &everything,
    };
    // The page cache has what was just written, unless the system cannot tell.
    match store.read(&request, ReadMode::NoWait) {
        Ok(result) => assert_eq!(result.status, ReadStatus::Found),
        Err(error) => assert!(matches!(error, ReadError::WouldBlock)),
    }
}

#[test]
fn what_cannot_be_stored_is_refused_and_leaves_no_trace() {
    let home = Home::with(|config| config.message_bytes_max = 1000);
    let store = home.open();
    let long = "x".repeat(40_000);
    let good = message("T", 0, b"good", "");
    let refused = |new| store.append(&[good, new], &mut Vec::new()).unwrap_err();
    assert!(matches!(
        refused(message("T", 0, &long.as_bytes()[..1001], "")),
        AppendError::TooLarge {
            bytes: 1001,
            bytes_max: 1000
        }
    ));
    assert!(matches!(
        refused(message("T", 0, b"", &long)),
        AppendError::PropertiesTooLong { .. }
    ));
    assert!(
        matches!(
            refused(message("T", 0, b"", &long[..20_000])),
            AppendError::TooLarge { .. }
        ),
        "larger than a segment"
    );
    assert!(matches!(
        refused(message(&long[..256], 0, b"", "")),
        AppendError::TopicTooLong { .. }
    ));
    assert!(matches!(
        refused(message("", 0, b"", "")),
        AppendError::TopicTooLong { .. }
    ));
    assert!(matches!(
        refused(message("../etc", 0, b"", "")),
        AppendError::Unstorable { .. }
    ));
    assert!(matches!(
        refused(message("T", -1, b"", "")),
        AppendError::Unstorable { .. }
    ));
    assert_eq!((store.commit_log_max(), store.max_offset("T", 0)), (0, 0));
    assert_eq!(append(&store, &[good])[0].queue_offset, 0);
    append(&store, &[message(&long[..255], 0, b"", "")]);
}

#[test]
fn a_store_opens_once_at_a_time() {
    let home = Home::new();
    let store = home.open();
    assert!(matches!(
        home.try_open(),
        Err(storage::OpenError::Locked { .. })
    ));
    drop(store);
    home.open();
}

#[test]
fn under_sync_only_flushed_messages_are_seen() {
    let home = Home::with(|config| config.flush = FlushMode::Sync);
    let store = home.open();
    let flushed = store.flush_state();
    let appended = append_numbered(&store, "T", 0, 50, 1);
    eventually("the flush", || flushed.borrow().flushed >= appended[49].end);
    assert_eq!(store.max_offset("T", 0), 50);
    check_numbered(&store, "T", 50, 1);
    assert!(!flushed.borrow().failed);
}

/// A record may begin or end with a few bytes in a sector, and these may be zero: such a record is not torn.
#[test]
fn records_of_any_size_survive_a_crash() {
    let home = Home::new();
    let store = home.open();
    let zeros = vec![0; 2000];
    for bytes in 0..1100 {
        let properties = if bytes % 3 == 0 { "" } else { "A\u{1}b\u{2}" };
        append(
            &store,
            &[message("T", 0, &zeros[..bytes % 1100], properties)],
        );
    }
    drop(store);
    let _ = std::fs::remove_file(home.path("checkpoint"));
    assert_eq!(read_queue(&home.open(), "T", 0).len(), 1100);
}
