//! Many threads at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use storage::{Arrivals, FlushMode, ReadStatus, Store};

use crate::support::*;

const THREADS: usize = 8;
const MESSAGES: usize = 200;

/// Each thread appends to a queue of its own and to a shared one; every acknowledged message is there once, in order.
fn hammer(store: &Store) {
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                for number in 0..MESSAGES {
                    let body = format!("{thread} {number}").into_bytes();
                    let own = message("T", thread as i32, &body, "");
                    let shared = message("shared", 0, &body, "");
                    let appended = append(store, &[own, shared]);
                    assert_eq!(appended[0].queue_offset, number as u64);
                }
            });
        }
    });
}

fn check_hammered(store: &Store) {
    for thread in 0..THREADS {
        assert_eq!(read_queue(store, "T", thread as i32).len(), MESSAGES);
    }
    let mut next: HashMap<usize, usize> = HashMap::new();
    let shared = read_queue(store, "shared", 0);
    assert_eq!(shared.len(), THREADS * MESSAGES);
    for bytes in shared {
        let record = protocol::record::decode(&bytes, protocol::record::CheckBody::Yes).unwrap();
        let text = std::str::from_utf8(record.body).unwrap();
        let (thread, number) = text.split_once(' ').unwrap();
        let expected = next.entry(thread.parse().unwrap()).or_default();
        assert_eq!(number.parse::<usize>().unwrap(), *expected);
        *expected += 1;
    }
}

#[test]
fn group_commit_serves_many_threads_with_few_syncs() {
    let home = Home::with(|config| {
        config.flush = FlushMode::Sync;
        config.segment_bytes = 1 << 20;
    });
    let store = home.open();
    hammer(&store);
    eventually("everything is flushed", || {
        store.flushed() == store.commit_log_max()
    });
    let syncs = store.stats().syncs;
    assert!(
        syncs >= 1 && syncs <= (THREADS * MESSAGES) as u64,
        "{syncs}"
    );
    check_hammered(&store);
    drop(store);
    check_hammered(&home.open());
}

#[test]
fn readers_see_contiguous_offsets_while_writers_append() {
    let home = Home::with(|config| config.tail_bytes_max = 4096);
    let store = home.open();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut offset = 0;
                while !(done.load(Ordering::Acquire) && offset == (THREADS * MESSAGES) as i64) {
                    let result = read(&store, "shared", 0, offset, 16);
                    if result.status == ReadStatus::Found {
                        for (bytes, expected) in result.records.iter().zip(offset..) {
                            let record =
                                protocol::record::decode(bytes, protocol::record::CheckBody::Yes)
                                    .unwrap();
                            assert_eq!(record.queue_offset as i64, expected);
                        }
                        let behind = offset + result.records.len() as i64;
                        // Also when the read saw more than there was a moment before it.
                        offset = result.next_from(offset);
                        assert_eq!(offset, behind);
                    } else {
                        std::thread::yield_now();
                    }
                }
            });
        }
        hammer(&store);
        done.store(true, Ordering::Release);
    });
    check_hammered(&store);
}

struct Told(Mutex<mpsc::Sender<(Arc<str>, i32)>>);

impl Arrivals for Told {
    fn arrived(&self, topic: &Arc<str>, queue_id: i32) {
        let _ = self.0.lock().unwrap().send((Arc::clone(topic), queue_id));
    }
}

#[test]
fn watched_queues_are_told_once_messages_are_visible() {
    for mode in [FlushMode::Async, FlushMode::Sync] {
        let home = Home::with(|config| config.flush = mode);
        let store = home.open();
        let (sender, told) = mpsc::channel();
        store.set_arrivals(Arc::new(Told(Mutex::new(sender))));
        store.watch_queue("T", 1, true);
        let new = message("T", 1, b"x", "");
        append(
            &store,
            &[
                message("T", 0, b"x", ""),
                new,
                new,
                message("U", 1, b"x", ""),
            ],
        );
        let (topic, queue_id) = told.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!((&*topic, queue_id), ("T", 1));
        assert_eq!(store.max_offset("T", 1), 2);
        assert!(told.try_recv().is_err());
        store.watch_queue("T", 1, false);
        append(&store, &[new]);
        eventually("the flush", || {
            store.flushed() == store.commit_log_max() || mode == FlushMode::Async
        });
        assert!(told.try_recv().is_err());
    }
}

/// Begins to watch at any moment of an append: either the message is seen at once, or it is told.
#[test]
fn no_message_is_missed_between_looking_and_watching() {
    let home = Home::with(|config| config.flush = FlushMode::Sync);
    let store = home.open();
    let (sender, told) = mpsc::channel();
    store.set_arrivals(Arc::new(Told(Mutex::new(sender))));
    std::thread::scope(|scope| {
        let appender = scope.spawn(|| {
            for _ in 0..200 {
                append(&store, &[message("T", 0, b"x", "")]);
                std::thread::yield_now();
            }
        });
        let mut seen = 0;
        while seen < 200 {
            store.watch_queue("T", 0, true);
            let max = store.max_offset("T", 0);
            if max == seen {
                told.recv_timeout(Duration::from_secs(10))
                    .expect("the message is told");
            }
            store.watch_queue("T", 0, false);
            seen = store.max_offset("T", 0).max(max);
        }
        appender.join().unwrap();
    });
}
