//! Light queues: a message lies in those that it names, beside the queue of its topic.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::properties;
use protocol::record::{self, CheckBody};
use storage::{Config, NewMessage, ReadStatus, Store};

use crate::support::{Home, append, eventually, flush, message, read};

fn home() -> Home {
    Home::with(|config: &mut Config| config.light_queues = true)
}

fn naming(names: &str) -> String {
    format!("TAGS\u{1}a\u{2}INNER_MULTI_DISPATCH\u{1}{names}\u{2}UNIQ_KEY\u{1}u\u{2}")
}

fn send(store: &Store, topic: &str, body: &str, names: &str) {
    append(store, &[message(topic, 0, body.as_bytes(), &naming(names))]);
}

/// Bodies of a queue, each with its offsets in light queues.
fn found(store: &Store, topic: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut offset = store.min_offset(topic, 0) as i64;
    loop {
        let result = read(store, topic, 0, offset, 3);
        if result.status != ReadStatus::Found {
            assert_eq!(offset, store.max_offset(topic, 0) as i64, "{result:?}");
            return found;
        }
        offset += result.records.len() as i64;
        assert_eq!(result.next_offset, offset);
        found.extend(result.records.iter().map(body_and_offsets));
    }
}

fn body_and_offsets(bytes: &Bytes) -> (String, String) {
    let record = record::decode(bytes, CheckBody::Yes).unwrap();
    let offsets = properties::get(record.properties, properties::INNER_MULTI_QUEUE_OFFSET);
    let body = String::from_utf8(record.body.to_vec()).unwrap();
    (body, offsets.unwrap_or_default().to_owned())
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(body, offsets): &(&str, &str)| ((*body).to_owned(), (*offsets).to_owned());
    pairs.iter().map(owned).collect()
}

/// Twelve messages in three topics and two light queues.
fn fill(store: &Store) {
    for number in 0..12 {
        let names = ["%LMQ%a", "%LMQ%b,%LMQ%a", "%LMQ%b", ""][number % 4];
        let topic = ["T", "U", "V"][number % 3];
        send(store, topic, &number.to_string(), names);
    }
}

fn check_filled(store: &Store) {
    let a = [
        ("0", "0"),
        ("1", "0,1"),
        ("4", "2"),
        ("5", "2,3"),
        ("8", "4"),
        ("9", "4,5"),
    ];
    assert_eq!(found(store, "%LMQ%a"), pairs(&a));
    let b = [
        ("1", "0,1"),
        ("2", "1"),
        ("5", "2,3"),
        ("6", "3"),
        ("9", "4,5"),
        ("10", "5"),
    ];
    assert_eq!(found(store, "%LMQ%b"), pairs(&b));
    let t = [("0", "0"), ("3", ""), ("6", "3"), ("9", "4,5")];
    assert_eq!(found(store, "T"), pairs(&t));
    assert_eq!(store.light_queues(), 2);
}

#[test]
fn a_message_lies_in_every_light_queue_that_it_names() {
    let home = home();
    let store = home.open();
    fill(&store);
    check_filled(&store);
}

#[test]
fn light_queues_are_the_same_after_a_clean_stop_and_after_a_death() {
    let home = home();
    let store = home.open();
    fill(&store);
    store.close();
    drop(store);
    let store = home.open();
    check_filled(&store);
    send(&store, "T", "12", "%LMQ%c,%LMQ%a");
    // Without a word to the directory, as a crash leaves it.
    drop(store);
    let store = home.open();
    assert_eq!(found(&store, "%LMQ%c"), pairs(&[("12", "0,6")]));
    assert_eq!(
        (store.max_offset("%LMQ%a", 0), store.light_queues()),
        (7, 3)
    );
}

#[test]
fn light_queues_are_made_again_from_the_log() {
    let home = home();
    let store = home.open();
    fill(&store);
    store.close();
    drop(store);
    fs::remove_dir_all(home.path(crate::QUEUES_DIR)).unwrap();
    let store = home.open();
    check_filled(&store);
}

/// A queue that is not restored while light queues are off would give its offsets to other messages later.
#[test]
fn a_recovery_restores_light_queues_that_are_switched_off() {
    let mut home = home();
    let store = home.open();
    fill(&store);
    drop(store);
    home.config.light_queues = false;
    let store = home.open();
    check_filled(&store);
    send(&store, "T", "off", "%LMQ%a");
    assert_eq!(store.max_offset("%LMQ%a", 0), 6);
    store.close();
}

#[test]
fn offsets_that_a_client_claims_are_not_stored() {
    for is_on in [true, false] {
        let mut home = home();
        home.config.light_queues = is_on;
        let store = home.open();
        let claimed =
            "INNER_MULTI_DISPATCH\u{1}%LMQ%a\u{2}INNER_MULTI_QUEUE_OFFSET\u{1}70\u{2}k\u{1}v\u{2}";
        append(&store, &[message("T", 0, b"x", claimed)]);
        let only = "INNER_MULTI_QUEUE_OFFSET\u{1}70\u{2}";
        append(&store, &[message("T", 0, b"y", only)]);
        append(&store, &[message("%RETRY%g", 0, b"z", claimed)]);
        drop(store);
        let store = home.open();
        let offset = if is_on { "0" } else { "" };
        assert_eq!(found(&store, "T"), pairs(&[("x", offset), ("y", "")]));
        assert_eq!(found(&store, "%RETRY%g"), pairs(&[("z", "")]));
        assert_eq!(store.max_offset("%LMQ%a", 0), u64::from(is_on));
    }
}

#[test]
fn what_names_no_light_queue_lies_in_its_topic_only() {
    let home = home();
    let store = home.open();
    for (body, names) in [
        ("0", "%LMQ%a,T"),
        ("1", "%LMQ%../x"),
        ("2", "%LMQ%"),
        ("3", ",,"),
    ] {
        send(&store, "T", body, names);
    }
    drop(store);
    let store = home.open();
    assert_eq!(
        found(&store, "T"),
        pairs(&[("0", ""), ("1", ""), ("2", ""), ("3", "")])
    );
    assert_eq!(
        (store.light_queues(), store.max_offset("%LMQ%a", 0)),
        (0, 0)
    );
}

#[test]
fn properties_without_room_for_offsets_stay_as_they_are() {
    let home = Home::with(|config| {
        config.light_queues = true;
        config.segment_bytes = 256 << 10;
    });
    let store = home.open();
    let long =
        naming("%LMQ%a") + "k\u{1}" + &"v".repeat(32_767 - naming("%LMQ%a").len() - 3) + "\u{2}";
    assert_eq!(long.len(), 32_767);
    append(&store, &[message("T", 0, b"x", &long)]);
    send(&store, "T", "y", "%LMQ%a");
    assert_eq!(found(&store, "T"), pairs(&[("x", ""), ("y", "0")]));
    assert_eq!(found(&store, "%LMQ%a"), pairs(&[("y", "0")]));
}

#[test]
fn one_batch_gives_offsets_in_the_order_of_its_messages() {
    let home = home();
    let store = home.open();
    let (a, twice, plain) = (naming("%LMQ%a"), naming("%LMQ%a,%LMQ%a,%LMQ%b"), "");
    let batch: [NewMessage<'_>; 5] = [
        message("T", 0, b"0", &a),
        message("%LMQ%a", 0, b"1", plain),
        message("U", 3, b"2", &twice),
        message("T", 0, b"3", plain),
        message("T", 0, b"4", &a),
    ];
    append(&store, &batch);
    let want = [("0", "0"), ("1", ""), ("2", "2,2,0"), ("4", "3")];
    assert_eq!(found(&store, "%LMQ%a"), pairs(&want));
    drop(store);
    let store = home.open();
    assert_eq!(found(&store, "%LMQ%a"), pairs(&want));
    assert_eq!(found(&store, "%LMQ%b"), pairs(&[("2", "2,2,0")]));
}

#[test]
fn light_queues_begin_behind_what_expired() {
    let mut home = Home::with(|config| {
        config.light_queues = true;
        config.file_reserved_hours = 1;
    });
    let clock = home.manual_clock(1_700_000_000_000);
    let store = home.open();
    let body = "x".repeat(1_000);
    for _ in 0..40 {
        send(&store, "T", &body, "%LMQ%a");
    }
    clock.advance(Duration::from_secs(2 * 3_600));
    send(&store, "T", "last", "%LMQ%a");
    flush(&store);
    eventually("a checkpoint covers the log", || {
        store.stats().queues_written == store.commit_log_max()
    });
    store.delete_expired_segments();
    let (min, max) = (store.min_offset("%LMQ%a", 0), store.max_offset("%LMQ%a", 0));
    assert!(min > 0 && min < max && max == 41, "{min}..{max}");
    drop(store);
    let store: Arc<Store> = home.open();
    assert_eq!(
        (store.min_offset("%LMQ%a", 0), store.max_offset("%LMQ%a", 0)),
        (min, max)
    );
    assert_eq!(found(&store, "%LMQ%a").len() as u64, max - min);
}

#[test]
fn names_that_nobody_uses_fill_no_memory() {
    let home = home();
    let store = home.open();
    for number in 0..100 {
        let name = format!("%LMQ%{number}");
        store.watch_queue(&name, 0, true);
        store.watch_queue(&name, 0, false);
    }
    assert_eq!(store.stats().topics, 0);
    store.watch_queue("%LMQ%used", 0, true);
    send(&store, "T", "x", "%LMQ%used");
    store.watch_queue("%LMQ%used", 0, false);
    assert_eq!((store.stats().topics, store.light_queues()), (2, 1));
    store.delete_topic("%LMQ%used");
    assert_eq!((store.stats().topics, store.light_queues()), (1, 0));
}
