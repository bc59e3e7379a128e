//! A store whose files were damaged while it was closed: what is damaged is not served, and what is not damaged is.

use std::fs;

use protocol::record::{self, CheckBody};

use crate::support::{Home, append, append_numbered, message, read};

const TOPIC: &str = "Topic";
const COUNT: usize = 10;
/// Number of the message that is damaged.
const DAMAGED: u64 = 4;

fn flip(home: &Home, file: &str, at: u64, bit: u8) {
    let path = home.path(file);
    let mut bytes = fs::read(&path).unwrap();
    bytes[at as usize] ^= bit;
    fs::write(&path, bytes).unwrap();
}

const LOG: &str = "commitlog/00000000000000000000";

/// A store with ten messages, closed; and where the fifth begins, and its body ends.
fn closed() -> (Home, u64, u64) {
    let home = Home::new();
    let store = home.open();
    let appended = append_numbered(&store, TOPIC, 0, COUNT, 1);
    let at = appended[DAMAGED as usize].physical_offset;
    let bytes = store.record_at(at).unwrap().unwrap();
    let record = record::decode(&bytes, CheckBody::Yes).unwrap();
    let body_end = at + 88 + record.body.len() as u64;
    store.close();
    (home, at, body_end)
}

fn check_all_but_the_damaged_are_served(home: &Home) {
    let store = home.open();
    let mut offsets = Vec::new();
    let mut next = 0;
    while next < COUNT as i64 {
        let result = read(&store, TOPIC, 0, next, COUNT);
        assert!(result.next_offset > next);
        next = result.next_offset;
        offsets.extend(
            result
                .records
                .iter()
                .map(|bytes| record::decode(bytes, CheckBody::Yes).unwrap().queue_offset),
        );
    }
    let expected: Vec<u64> = (0..COUNT as u64)
        .filter(|offset| *offset != DAMAGED)
        .collect();
    assert_eq!(offsets, expected);
}

/// Bodies that come from files were handed out without a look at their checksum, and no client looks either: a bit that the disk had lost reached the
/// consumer as a good message.
#[test]
fn a_damaged_body_is_not_served() {
    let (home, at, _) = closed();
    flip(&home, LOG, at + 88 + 20, 0x10);
    check_all_but_the_damaged_are_served(&home);
    let store = home.open();
    assert_eq!(store.record_at(at).unwrap(), None);
    let found = store.query_by_key(TOPIC, "k4", 32, 0, i64::MAX).unwrap();
    assert!(found.records.is_empty());
}

/// Nothing compared the topic, queue and queue offset of a record with those that were asked for.
#[test]
fn a_record_of_another_topic_or_place_is_not_served() {
    let (home, at, body_end) = closed();
    for (position, bit) in [(body_end + 1, 1), (at + 15, 1), (at + 27, 1)] {
        flip(&home, LOG, position, bit);
        check_all_but_the_damaged_are_served(&home);
        flip(&home, LOG, position, bit);
    }
}

/// One entry that could not be one hid all messages behind it in its file.
#[test]
fn a_damaged_queue_entry_hides_only_its_own_message() {
    let (home, ..) = closed();
    let queue = "consumequeue/Topic/0/00000000000000000000";
    flip(&home, queue, DAMAGED * 20 + 8, 0x80);
    check_all_but_the_damaged_are_served(&home);
}

/// A queue whose first entry was damaged began behind it, as if the message had expired, without a word.
#[test]
fn a_damaged_first_entry_is_not_taken_for_an_expired_one() {
    let (home, ..) = closed();
    let queue = "consumequeue/Topic/0/00000000000000000000";
    flip(&home, queue, 8, 0x80);
    let store = home.open();
    assert_eq!(store.min_offset(TOPIC, 0), 0);
    assert_eq!(read(&store, TOPIC, 0, 0, COUNT).records.len(), COUNT - 1);
}

/// A damaged entry with a size of a gigabyte reads the head of the record, not the gigabyte.
#[test]
fn a_damaged_size_is_not_believed() {
    let (home, ..) = closed();
    let queue = "consumequeue/Topic/0/00000000000000000000";
    flip(&home, queue, DAMAGED * 20 + 8, 0x40);
    check_all_but_the_damaged_are_served(&home);
}

/// `enabledAppendPropCRC` ends each record with a checksum of all before it, in ten digits, the lowest first, as Java does.
#[test]
fn with_a_checksum_of_the_whole_record_any_bit_of_it_is_found_out() {
    let mut home = Home::new();
    home.config.record_checksum = true;
    let store = home.open();
    // One that was copied from another record goes.
    let copied = "KEYS\u{1}k\u{2}__CRC32#\u{1}0000000000\u{2}";
    append(&store, &[message(TOPIC, 0, b"body", copied)]);
    let end = append(&store, &[message(TOPIC, 0, b"body", "a\u{1}b")])[0].end;
    let records = read(&store, TOPIC, 0, 0, 2).records;
    for (bytes, own) in records.iter().zip(["KEYS\u{1}k\u{2}", "a\u{1}b\u{2}"]) {
        let found = record::decode(bytes, CheckBody::Yes).unwrap();
        let crc = format!("{:010}", record::body_crc(&bytes[..bytes.len() - 20]));
        let digits: String = crc.chars().rev().collect();
        assert_eq!(found.properties, format!("{own}__CRC32#\u{1}{digits}\u{2}"));
    }
    store.close();
    drop(store);
    assert_eq!(read(&home.open(), TOPIC, 0, 0, 2).records.len(), 2);
    // A bit of the last property, and one of the first record's client flag.
    flip(&home, LOG, end - 22, 1);
    assert_eq!(read(&home.open(), TOPIC, 0, 0, 2).records.len(), 1);
    flip(&home, LOG, 16, 1);
    assert_eq!(read(&home.open(), TOPIC, 0, 0, 2).records.len(), 0);
}

/// A flipped bit of a queue offset behind the last checkpoint made the recovery fill the queue up to it, and hid the messages behind it.
#[test]
fn a_queue_offset_that_jumps_is_not_believed() {
    for bit in [0, 3, 19, 20, 40, 62, 63] {
        let mut home = Home::new();
        home.config.checkpoint_interval_ms = 600_000;
        home.config.write_behind_interval_ms = 600_000;
        let store = home.open();
        let appended = append_numbered(&store, TOPIC, 0, COUNT, 1);
        drop(store);
        fs::write(home.path("abort"), "1").unwrap();
        let at = appended[DAMAGED as usize].physical_offset + 20;
        flip(&home, LOG, at + 7 - bit / 8, 1 << (bit % 8));
        let store = home.open();
        let (min, max) = (store.min_offset(TOPIC, 0), store.max_offset(TOPIC, 0));
        assert_eq!((min, max), (0, COUNT as u64), "bit {bit}");
        let mut served = 0;
        let mut next = 0;
        while next < COUNT as i64 {
            let result = read(&store, TOPIC, 0, next, COUNT);
            assert!(result.next_offset > next);
            next = result.next_offset;
            served += result.records.len();
        }
        assert_eq!(served, COUNT - 1, "bit {bit}");
    }
}
