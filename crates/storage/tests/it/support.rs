//! What the tests share: a store in a temporary directory, messages, and reading everything back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use platform::clock::{Clock, ManualClock, RealClock};
use platform::disk::{Disk, RealDisk};
use protocol::record::{self, CheckBody};
use storage::{
    Appended, Config, FlushMode, NewMessage, OpenError, Read, ReadMode, ReadResult, ReadStatus,
    Store,
};

/// A directory with the configuration that opens it.
pub(crate) struct Home {
    _dir: tempfile::TempDir,
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Home {
    pub(crate) fn new() -> Home {
        Home::with(|_| {})
    }

    /// Small segments and files, so that a few hundred messages roll over all of them.
    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Home {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config {
            root: dir.path().join("store"),
            segment_bytes: 16 << 10,
            queue_file_bytes: 20 * 32,
            queue_files_max: crate::QUEUE_FILES_MAX,
            flush: FlushMode::Async,
            index_slots: 128,
            index_entries: 256,
            warning_ratio: 100,
            clean_forcibly_ratio: 100,
            disk_max_used_ratio: 100,
            delete_when_hours: Vec::new(),
            write_behind_interval_ms: 5,
            checkpoint_interval_ms: 10,
            ..Config::default()
        };
        change(&mut config);
        Home {
            _dir: dir,
            config,
            clock: Arc::new(RealClock::new()),
        }
    }

    pub(crate) fn manual_clock(&mut self, now_ms: i64) -> Arc<ManualClock> {
        let clock = Arc::new(ManualClock::new(now_ms));
        self.clock = Arc::clone(&clock) as Arc<dyn Clock>;
        clock
    }

    pub(crate) fn try_open(&self) -> Result<Arc<Store>, OpenError> {
        Store::open(self.config.clone(), self.disk(), Arc::clone(&self.clock))
    }

    pub(crate) fn open(&self) -> Arc<Store> {
        self.try_open().unwrap()
    }

    pub(crate) fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(RealDisk)
    }

    pub(crate) fn path(&self, below: &str) -> std::path::PathBuf {
        self.config.root.join(below)
    }
}

pub(crate) fn host() -> SocketAddr {
    "127.0.0.1:10911".parse().unwrap()
}

pub(crate) fn message<'a>(
    topic: &'a str,
    queue_id: i32,
    body: &'a [u8],
    properties: &'a str,
) -> NewMessage<'a> {
    NewMessage {
        topic,
        queue_id,
        flag: 7,
        sys_flag: 0,
        born_timestamp_ms: 1_700_000_000_000,
        born_host: "10.1.2.3:5555".parse().unwrap(),
        store_host: host(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body,
        properties,
    }
}

pub(crate) fn append(store: &Store, messages: &[NewMessage<'_>]) -> Vec<Appended> {
    let mut appended = Vec::new();
    store.append(messages, &mut appended).unwrap();
    assert_eq!(appended.len(), messages.len());
    appended
}

/// Appends `count` messages to queue `i % queues`, with the number as body, key `k<i>` and tag `even` or `odd`.
pub(crate) fn append_numbered(
    store: &Store,
    topic: &str,
    from: usize,
    count: usize,
    queues: i32,
) -> Vec<Appended> {
    let mut all = Vec::new();
    for number in from..from + count {
        let body = body(number);
        let tag = if number % 2 == 0 { "even" } else { "odd" };
        let properties =
            format!("KEYS\u{1}k{number}\u{2}UNIQ_KEY\u{1}u{number}\u{2}TAGS\u{1}{tag}\u{2}");
        all.extend(append(
            store,
            &[message(topic, number as i32 % queues, &body, &properties)],
        ));
    }
    all
}

pub(crate) fn body(number: usize) -> Vec<u8> {
    let mut body = format!("message {number} ").into_bytes();
    body.resize(100 + number % 7 * 30, b'.');
    body
}

pub(crate) fn everything(_: i64) -> bool {
    true
}

pub(crate) fn read(
    store: &Store,
    topic: &str,
    queue_id: i32,
    offset: i64,
    messages_max: usize,
) -> ReadResult {
    let request = Read {
        topic,
        queue_id,
        offset,
        messages_max,
        bytes_max: 1 << 20,
        filter: &everything,
    };
    store.read(&request, ReadMode::Blocking).unwrap()
}

/// Every record of a queue, checked to be whole and numbered without a hole.
pub(crate) fn read_queue(store: &Store, topic: &str, queue_id: i32) -> Vec<Bytes> {
    let mut records = Vec::new();
    let mut offset = store.min_offset(topic, queue_id) as i64;
    loop {
        let result = read(store, topic, queue_id, offset, 10);
        if result.status != ReadStatus::Found {
            let end = [ReadStatus::OffsetOverflowOne, ReadStatus::NoMessageInQueue];
            assert!(
                end.contains(&result.status),
                "{:?} at {offset}",
                result.status
            );
            return records;
        }
        for bytes in result.records {
            let record = record::decode(&bytes, CheckBody::Yes).unwrap();
            assert_eq!(record.queue_offset, offset as u64);
            assert_eq!((record.topic, record.queue_id), (topic, queue_id));
            offset += 1;
            records.push(bytes);
        }
        assert_eq!(result.next_offset, offset);
    }
}

/// Checks that the numbered messages `0..count` are all there, by offset, by key and by position.
pub(crate) fn check_numbered(store: &Store, topic: &str, count: usize, queues: i32) {
    for queue_id in 0..queues {
        let records = read_queue(store, topic, queue_id);
        let numbers: Vec<usize> = (0..count)
            .filter(|number| *number as i32 % queues == queue_id)
            .collect();
        assert_eq!(records.len(), numbers.len(), "queue {queue_id}");
        for (bytes, number) in records.iter().zip(numbers) {
            let record = record::decode(bytes, CheckBody::Yes).unwrap();
            assert_eq!(record.body, body(number));
            assert_eq!(
                store.record_at(record.physical_offset).unwrap().as_ref(),
                Some(bytes)
            );
        }
    }
    for number in (0..count).step_by(17).chain(count.checked_sub(1)) {
        for key in [format!("k{number}"), format!("u{number}")] {
            let found = store
                .query_by_key(topic, &key, 32, 0, i64::MAX)
                .unwrap()
                .records;
            assert_eq!(found.len(), 1, "{key}");
            assert_eq!(
                record::decode(&found[0], CheckBody::Yes).unwrap().body,
                body(number)
            );
        }
    }
}

/// Waits until `done`, at most ten seconds.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        std::thread::yield_now();
    }
}

/// Waits until the log is synced up to its end.
pub(crate) fn flush(store: &Store) {
    store.request_flush();
    eventually("the log is flushed", || {
        store.flushed() == store.commit_log_max()
    });
}
