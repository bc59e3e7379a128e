//! The files byte by byte, as Java lays them out.

use crate::support::*;

fn long(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn int(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

#[test]
fn a_closed_store_is_what_java_expects() {
    let home = Home::new();
    let store = home.open();
    let appended = append_numbered(&store, "T", 0, 200, 2);
    store.close();

    for file in std::fs::read_dir(home.path("commitlog")).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().len(), home.config.segment_bytes);
        assert_eq!(file.file_name().len(), 20);
    }
    let queue = std::fs::read(home.path("consumequeue/T/1/00000000000000000000")).unwrap();
    assert_eq!(queue.len() as u64, home.config.queue_file_bytes);
    // Number 3 is the second message of queue 1.
    assert_eq!(long(&queue, 20), appended[3].physical_offset as i64);
    assert_eq!(int(&queue, 28), appended[3].record_bytes as i32);
    assert_eq!(
        long(&queue, 32),
        i64::from(protocol::tags::hash_code("odd"))
    );
    assert!(home.path("consumequeue/T/1/00000000000000000640").exists());

    let checkpoint = std::fs::read(home.path("checkpoint")).unwrap();
    assert_eq!(checkpoint.len(), 4096);
    for field in [0, 8, 16] {
        assert_eq!(long(&checkpoint, field), appended[199].store_timestamp_ms);
    }
    assert_eq!(std::fs::read(home.path("lock")).unwrap(), b"lock");
    assert!(!home.path("abort").exists());
}

#[test]
fn index_files_chain_entries_as_java_does() {
    let home = Home::new();
    let store = home.open();
    let appended = append_numbered(&store, "T", 0, 300, 1);
    store.close();
    let mut names: Vec<_> = std::fs::read_dir(home.path("index"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    // 600 entries, 255 a file.
    assert_eq!(names.len(), 3);
    let mut entry_total = 0;
    for name in &names {
        assert_eq!(name.len(), 17);
        let bytes = std::fs::read(home.path("index").join(name)).unwrap();
        assert_eq!(bytes.len(), 40 + 128 * 4 + 256 * 20);
        let count = int(&bytes, 36);
        let mut reached = 0;
        let mut used = 0;
        for slot in 0..128 {
            let mut number = int(&bytes, 40 + slot * 4);
            used += i32::from(number != 0);
            while number != 0 {
                assert!(number < count);
                let entry = 40 + 128 * 4 + number as usize * 20;
                assert_eq!(int(&bytes, entry) as usize % 128, slot);
                reached += 1;
                assert!(int(&bytes, entry + 16) < number);
                number = int(&bytes, entry + 16);
            }
        }
        assert_eq!((reached, used), (count - 1, int(&bytes, 32)));
        entry_total += count - 1;
    }
    assert_eq!(entry_total, 600);
    let first = std::fs::read(home.path("index").join(&names[0])).unwrap();
    assert_eq!(
        (long(&first, 0), long(&first, 16)),
        (appended[0].store_timestamp_ms, 0)
    );
    // 255 entries are the two of 127 messages and the unique id of number 127.
    assert_eq!(
        (long(&first, 8), long(&first, 24)),
        (
            appended[127].store_timestamp_ms,
            appended[127].physical_offset as i64
        )
    );
    // Unique id first, then the keys: "T#u0".hashCode() and "T#k0".hashCode().
    let hash = |text: &str| protocol::tags::hash_code(text);
    assert_eq!(int(&first, 40 + 128 * 4 + 20), hash("T#u0").abs());
    assert_eq!(int(&first, 40 + 128 * 4 + 40), hash("T#k0").abs());
}

#[test]
fn a_segment_ends_with_a_filler() {
    let home = Home::new();
    let store = home.open();
    let appended = append_numbered(&store, "T", 0, 200, 1);
    let rolled = appended
        .windows(2)
        .find(|pair| pair[0].end != pair[1].physical_offset)
        .unwrap();
    store.close();
    let first = std::fs::read(home.path("commitlog/00000000000000000000")).unwrap();
    let at = rolled[0].end as usize;
    assert_eq!(
        int(&first, at) as u64,
        home.config.segment_bytes - rolled[0].end
    );
    assert_eq!(int(&first, at + 4), -875_286_124);
}

#[test]
fn files_of_another_size_are_refused() {
    let mut home = Home::new();
    let store = home.open();
    append_numbered(&store, "T", 0, 200, 1);
    store.close();
    home.config.segment_bytes *= 2;
    assert!(matches!(
        home.try_open(),
        Err(storage::OpenError::SegmentSize {
            found: 16_384,
            configured: 32_768,
            ..
        })
    ));
}

#[test]
fn scheduled_and_prepared_messages_are_dispatched_as_in_java() {
    let home = Home::new();
    let store = home.open();
    let scheduled = append(
        &store,
        &[message(
            "SCHEDULE_TOPIC_XXXX",
            2,
            b"later",
            "DELAY\u{1}3\u{2}TAGS\u{1}t\u{2}",
        )],
    )[0];
    let mut prepared = message("T", 0, b"half", "UNIQ_KEY\u{1}id\u{2}");
    prepared.sys_flag = 4;
    let mut rolled_back = message("T", 0, b"never", "UNIQ_KEY\u{1}gone\u{2}");
    rolled_back.sys_flag = 12;
    append(&store, &[prepared, rolled_back]);
    let check = |store: &storage::Store| {
        let code = std::cell::Cell::new(0);
        let filter = |tags_code: i64| {
            code.set(tags_code);
            true
        };
        let request = storage::Read {
            topic: "SCHEDULE_TOPIC_XXXX",
            queue_id: 2,
            offset: 0,
            messages_max: 1,
            bytes_max: 1,
            filter: &filter,
        };
        store.read(&request, storage::ReadMode::Blocking).unwrap();
        assert_eq!(code.get(), scheduled.store_timestamp_ms + 10_000);
        assert_eq!(store.max_offset("T", 0), 0);
        assert_eq!(
            store
                .query_by_key("T", "id", 1, 0, i64::MAX)
                .unwrap()
                .records
                .len(),
            1
        );
        assert_eq!(
            store
                .query_by_key("T", "gone", 1, 0, i64::MAX)
                .unwrap()
                .records
                .len(),
            0
        );
    };
    check(&store);
    drop(store);
    std::fs::remove_dir_all(home.path("consumequeue")).unwrap();
    std::fs::remove_dir_all(home.path("index")).unwrap();
    check(&home.open());
}
