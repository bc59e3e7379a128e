//! A store whose files were damaged while it was closed: what is damaged is not served, and what is not damaged is.

use std::fs;

use protocol::record::{self, CheckBody, NewRecord};

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

/// A Java broker with `enabledAppendPropCRC` ends each record with a checksum of all before it, in ten digits, the lowest first.
#[test]
fn a_checksum_of_the_whole_record_is_verified_where_there_is_one() {
    let mut home = Home::new();
    home.manual_clock(1_700_000_000_500);
    let mut properties = "KEYS\u{1}k\u{2}__CRC32#\u{1}0000000000\u{2}".to_owned();
    let mut bytes = bytes::BytesMut::new();
    let new = message(TOPIC, 0, b"body", &properties);
    let same = NewRecord {
        body_crc: record::body_crc(new.body),
        queue_id: new.queue_id,
        flag: new.flag,
        sys_flag: new.sys_flag,
        born_timestamp_ms: new.born_timestamp_ms,
        born_host: new.born_host,
        store_host: new.store_host,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body: new.body,
        topic: new.topic,
        properties: new.properties,
    };
    record::encode(&same, 0, 0, 1_700_000_000_500, &mut bytes);
    let crc = format!("{:010}", record::body_crc(&bytes[..bytes.len() - 20]));
    let digits: String = crc.chars().rev().collect();
    properties = properties.replace("0000000000", &digits);
    let store = home.open();
    let appended = append(&store, &[message(TOPIC, 0, b"body", &properties)]);
    let end = appended[0].end;
    store.close();
    drop(store);
    assert_eq!(read(&home.open(), TOPIC, 0, 0, 1).records.len(), 1);
    // A bit of the key.
    flip(&home, LOG, end - 22, 1);
    assert_eq!(read(&home.open(), TOPIC, 0, 0, 1).records.len(), 0);
}
