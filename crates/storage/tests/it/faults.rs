//! The store on a disk that fails: power cuts and kills at every change, torn tails, EIO, ENOSPC, cold and failing reads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use platform::clock::RealClock;
use platform::disk::{Disk, OpenMode, SimulatedDisk};
use protocol::record::{self, CheckBody};
use storage::{
    AppendError, Appended, Config, FlushMode, OpenError, Read, ReadError, ReadMode, ReadStatus,
    Store, WriteState,
};

use crate::support::{body, eventually, everything, message, read, read_queue};

pub(crate) const TOPIC: &str = "Topic";
const QUEUES: i32 = 2;
/// Messages of one run: enough to roll over two segments.
const MESSAGES: usize = 60;
/// Power failures tried for each disk that is left behind.
const SEEDS: u64 = 3;

pub(crate) fn config(flush: FlushMode) -> Config {
    Config {
        root: PathBuf::from("/store"),
        segment_bytes: 8 << 10,
        queue_file_bytes: 20 * 16,
        queue_files_max: crate::QUEUE_FILES_MAX,
        flush,
        index_slots: 64,
        index_entries: 128,
        warning_ratio: 100,
        clean_forcibly_ratio: 100,
        disk_max_used_ratio: 100,
        delete_when_hours: Vec::new(),
        write_behind_interval_ms: 1,
        checkpoint_interval_ms: 2,
        flush_interval_ms: 2,
        ..Config::default()
    }
}

pub(crate) fn try_open(disk: &SimulatedDisk, config: &Config) -> Result<Arc<Store>, OpenError> {
    Store::open(
        config.clone(),
        Arc::new(disk.clone()),
        Arc::new(RealClock::new()),
    )
}

fn open(disk: &SimulatedDisk, flush: FlushMode) -> Arc<Store> {
    try_open(disk, &config(flush)).unwrap()
}

/// Appends the message of this number.
fn append(store: &Store, number: usize) -> Result<Appended, AppendError> {
    let body = body(number);
    let properties = format!("KEYS\u{1}k{number}\u{2}UNIQ_KEY\u{1}u{number}\u{2}");
    let mut appended = Vec::new();
    let messages = [message(TOPIC, number as i32 % QUEUES, &body, &properties)];
    let result = store.append(&messages, &mut appended);
    assert_eq!(appended.len(), usize::from(result.is_ok()), "all or none");
    result.map(|()| appended.remove(0))
}

/// Waits for what the store's mode promises; false when it will not come.
fn acknowledged(store: &Store, end: u64) -> bool {
    if store.flush_mode() == FlushMode::Async {
        return true;
    }
    let state = store.flush_state();
    eventually("the flush passes or fails", || {
        let state = *state.borrow();
        state.failed || state.flushed >= end
    });
    state.borrow().flushed >= end
}

/// Appends messages `from..to` until one is refused. How many were tried, and how many acknowledged.
pub(crate) fn append_until_refused(store: &Store, from: usize, to: usize) -> (usize, usize) {
    for number in from..to {
        match append(store, number) {
            Ok(appended) if acknowledged(store, appended.end) => {}
            _ => return (number + 1, number),
        }
    }
    (to, to)
}

/// Checks that exactly the messages `0..n` are there, in order in every queue, without a hole in the log's order; gives `n`.
fn count_without_holes(store: &Store) -> usize {
    let queues: Vec<_> = (0..QUEUES)
        .map(|queue| read_queue(store, TOPIC, queue))
        .collect();
    let count = queues.iter().map(Vec::len).sum();
    for (queue, records) in queues.iter().enumerate() {
        let expected: Vec<usize> = (queue..count).step_by(QUEUES as usize).collect();
        assert_eq!(
            records.len(),
            expected.len(),
            "queue {queue} of {count} messages"
        );
        for (bytes, number) in records.iter().zip(expected) {
            let record = record::decode(bytes, CheckBody::Yes).unwrap();
            assert_eq!(record.body, body(number));
        }
    }
    count
}

/// Checks that each message is found by its key.
fn check_keys(store: &Store, numbers: impl IntoIterator<Item = usize>, what: &str) {
    for number in numbers {
        let found = store
            .query_by_key(TOPIC, &format!("k{number}"), 32, 0, i64::MAX)
            .unwrap();
        assert_eq!(found.records.len(), 1, "{what}: key k{number}");
    }
}

/// What must hold on a disk that was left behind: everything acknowledged is there once, and the store goes on.
fn check_recovery(
    disk: &SimulatedDisk,
    flush: FlushMode,
    tried: usize,
    promised: usize,
    what: &str,
) {
    let store = try_open(disk, &config(flush)).unwrap_or_else(|error| panic!("{what}: {error}"));
    // What a killed process had written and not synced is found, and synced before consumers see it.
    store.request_flush();
    eventually("what was found is synced", || {
        store.flushed() == store.commit_log_max()
    });
    let found = count_without_holes(&store);
    assert!(
        (promised..=tried).contains(&found),
        "{what}: {promised} acknowledged, {tried} tried, {found} found"
    );
    let next = found + 3;
    assert_eq!(
        append_until_refused(&store, found, next),
        (next, next),
        "{what}"
    );
    assert_eq!(count_without_holes(&store), next, "{what}");
    check_keys(&store, 0..next, what);
    store.close();
    drop(store);
    let store = open(disk, flush);
    assert_eq!(
        count_without_holes(&store),
        next,
        "{what}, after a clean stop"
    );
    check_keys(&store, 0..next, what);
}

/// Runs a store on a disk whose power fails after `changes`; the disk, messages tried, messages acknowledged.
fn run_until_power_fails(flush: FlushMode, changes: Option<u64>) -> (SimulatedDisk, usize, usize) {
    let disk = SimulatedDisk::new();
    disk.set_faults(|faults| faults.power_off_after = changes);
    let (tried, promised) = match try_open(&disk, &config(flush)) {
        Ok(store) => append_until_refused(&store, 0, MESSAGES),
        Err(_) => (0, 0),
    };
    (disk, tried, promised)
}

/// Changes of an undisturbed run, about: threads make it differ from run to run.
fn changes_of_a_run(flush: FlushMode) -> u64 {
    let (disk, tried, promised) = run_until_power_fails(flush, None);
    assert_eq!((tried, promised), (MESSAGES, MESSAGES));
    disk.changes()
}

#[test]
fn a_power_failure_at_any_change_loses_nothing_acknowledged() {
    for cut in 0..changes_of_a_run(FlushMode::Sync) {
        let (disk, tried, promised) = run_until_power_fails(FlushMode::Sync, Some(cut));
        for seed in 0..SEEDS {
            let what = format!("power cut after {cut} changes, seed {seed}");
            check_recovery(
                &disk.crash(cut * SEEDS + seed),
                FlushMode::Sync,
                tried,
                promised,
                &what,
            );
        }
    }
}

/// The directories above the log were created and never synced, so that a power failure could take a new store whole, with everything that was
/// acknowledged in it.
#[test]
fn a_power_failure_keeps_the_directories_of_a_new_store() {
    let disk = SimulatedDisk::new();
    let config = Config {
        root: PathBuf::from("/data/rocketmq/store"),
        commit_log_dir: Some(PathBuf::from("/log/rocketmq/commitlog")),
        ..config(FlushMode::Sync)
    };
    let store = try_open(&disk, &config).unwrap();
    assert_eq!(append_until_refused(&store, 0, 10), (10, 10));
    for seed in 0..50 {
        let found = try_open(&disk.crash(seed), &config).unwrap();
        assert_eq!(count_without_holes(&found), 10, "seed {seed}");
    }
}

#[test]
fn a_kill_at_any_change_loses_nothing_appended() {
    for flush in [FlushMode::Async, FlushMode::Sync] {
        for cut in 0..changes_of_a_run(flush) {
            let (disk, tried, promised) = run_until_power_fails(flush, Some(cut));
            let what = format!("killed after {cut} changes under {flush:?}");
            check_recovery(&disk.kill(), flush, tried, promised, &what);
        }
    }
}

/// A second power failure while the store recovers from the first must not lose what the first one left.
#[test]
fn a_power_failure_during_recovery_loses_nothing_acknowledged() {
    let (disk, tried, promised) = run_until_power_fails(FlushMode::Sync, Some(150));
    assert!(promised > 0);
    for seed in 0..20 {
        let first = disk.crash(seed);
        for cut in 0..12 {
            let second = first.kill();
            second.set_faults(|faults| faults.power_off_after = Some(cut));
            drop(try_open(&second, &config(FlushMode::Sync)));
            let what = format!("seed {seed}, second power cut after {cut} changes");
            check_recovery(
                &second.crash(seed + cut),
                FlushMode::Sync,
                tried,
                promised,
                &what,
            );
        }
    }
}

/// A recovery removed the empty file behind the last one and cut that one; of both only the cut was durable when the power failed again.
#[test]
fn a_file_that_is_short_before_an_empty_one_is_recovered() {
    const TRIED: usize = 20;
    let disk = SimulatedDisk::new();
    let config = config(FlushMode::Sync);
    let store = try_open(&disk, &config).unwrap();
    assert_eq!(append_until_refused(&store, 0, TRIED), (TRIED, TRIED));
    let end = store.commit_log_max();
    store.close();
    drop(store);
    let dir = config.root.join("commitlog");
    let last = end / config.segment_bytes * config.segment_bytes;
    for entry in disk.list(&dir).unwrap() {
        if entry.name.parse::<u64>().is_ok_and(|start| start > last) {
            disk.remove(&dir.join(entry.name)).unwrap();
        }
    }
    let path = |start: u64| dir.join(format!("{start:020}"));
    let cut = disk.open(&path(last), OpenMode::ReadWrite).unwrap();
    cut.set_len(end - last).unwrap();
    cut.sync_all().unwrap();
    disk.open(&path(last + config.segment_bytes), OpenMode::Create)
        .unwrap();
    disk.sync_dir(&dir).unwrap();
    for seed in 0..20 {
        let again = disk.kill();
        again.set_faults(|faults| faults.power_off_after = Some(seed % 8));
        drop(try_open(&again, &config));
        let what = format!("seed {seed}");
        check_recovery(&again.crash(seed), FlushMode::Sync, TRIED, TRIED, &what);
    }
}

#[test]
fn an_unsynced_tail_is_cut_at_its_first_torn_record() {
    let disk = SimulatedDisk::new();
    let mut config = config(FlushMode::Async);
    config.flush_interval_ms = 3_600_000;
    config.checkpoint_interval_ms = 3_600_000;
    let store = try_open(&disk, &config).unwrap();
    append_until_refused(&store, 0, MESSAGES);
    let mut counts = Vec::new();
    for seed in 0..60 {
        let after = try_open(&disk.crash(seed), &config).unwrap();
        counts.push(count_without_holes(&after));
    }
    assert!(counts.iter().all(|count| *count <= MESSAGES));
    assert!(
        counts.iter().any(|count| (1..MESSAGES).contains(count)),
        "some tail is torn: {counts:?}"
    );
}

#[test]
fn a_failed_sync_stops_writing_for_good_and_reads_go_on() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, FlushMode::Sync);
    assert_eq!(append_until_refused(&store, 0, 10), (10, 10));
    disk.set_faults(|faults| faults.sync_fails = true);
    let appended = append(&store, 10);
    assert!(
        appended.is_err() || !acknowledged(&store, appended.unwrap().end),
        "not acknowledged"
    );
    eventually("the store says that it failed", || {
        matches!(store.write_state(), WriteState::Failed { .. })
    });
    assert!(store.flush_state().borrow().failed);

    // The kernel reports a failed write-back once and then forgets it: a later sync that succeeds proves nothing.
    disk.set_faults(|faults| faults.sync_fails = false);
    let refused = append(&store, 11).unwrap_err();
    assert!(
        matches!(&refused, AppendError::Failed { reason } if reason.contains("sync")),
        "{refused}"
    );
    assert_eq!(read_queue(&store, TOPIC, 0).len(), 5);
    store.close();
    drop(store);
    for seed in 0..20 {
        check_recovery(
            &disk.crash(seed),
            FlushMode::Sync,
            11,
            10,
            &format!("seed {seed}"),
        );
    }
}

#[test]
fn a_failed_write_stops_writing_for_good_and_reads_go_on() {
    for flush in [FlushMode::Sync, FlushMode::Async] {
        let disk = SimulatedDisk::new();
        let store = open(&disk, flush);
        assert_eq!(append_until_refused(&store, 0, 10), (10, 10));
        disk.set_faults(|faults| faults.write_fails = true);
        let failed = append(&store, 10).unwrap_err();
        assert!(matches!(failed, AppendError::Failed { .. }), "{failed}");
        disk.set_faults(|faults| faults.write_fails = false);
        assert!(matches!(
            append(&store, 11),
            Err(AppendError::Failed { .. })
        ));
        assert!(matches!(store.write_state(), WriteState::Failed { .. }));
        assert_eq!(count_in_queues(&store), 10);
        drop(store);
        check_recovery(&disk.kill(), flush, 11, 10, &format!("{flush:?}"));
    }
}

fn count_in_queues(store: &Store) -> usize {
    (0..QUEUES)
        .map(|queue| read_queue(store, TOPIC, queue).len())
        .sum()
}

#[test]
fn a_full_disk_refuses_with_a_reason_and_takes_again_when_room_returns() {
    for flush in [FlushMode::Sync, FlushMode::Async] {
        let disk = SimulatedDisk::new();
        let store = open(&disk, flush);
        assert_eq!(append_until_refused(&store, 0, 10), (10, 10));
        let space = disk.space(Path::new("/store")).unwrap();
        disk.set_faults(|faults| {
            faults.capacity_bytes = Some(space.total_bytes - space.free_bytes)
        });
        let (tried, promised) = append_until_refused(&store, 10, 1_000);
        assert!(
            (10..300).contains(&promised),
            "one segment or two are reserved ahead: {promised}"
        );
        assert_eq!(tried, promised + 1);

        let refused = append(&store, promised).unwrap_err();
        assert!(matches!(refused, AppendError::DiskFull { .. }), "{refused}");
        assert!(
            refused.to_string().starts_with("the disk is full: "),
            "{refused}"
        );
        assert!(matches!(store.write_state(), WriteState::DiskFull { .. }));
        assert_eq!(count_in_queues(&store), promised, "reads go on");

        disk.set_faults(|faults| faults.capacity_bytes = None);
        let (_, promised) = append_until_refused(&store, promised, promised + 50);
        assert_eq!(promised, tried + 49, "writing resumes by itself");
        assert_eq!(store.write_state(), WriteState::Writable);
        assert_eq!(count_without_holes(&store), promised);
        check_keys(&store, 0..promised, "room has returned");
        eventually("queues and index are written", || {
            let stats = store.stats();
            stats.queue_backlog == 0 && stats.index_backlog == 0
        });
        drop(store);
        check_recovery(
            &disk.kill(),
            flush,
            promised,
            promised,
            &format!("{flush:?}"),
        );
    }
}

#[test]
fn a_disk_above_the_configured_limit_refuses_until_it_is_below() {
    let disk = SimulatedDisk::new();
    let mut config = config(FlushMode::Sync);
    config.warning_ratio = 90;
    config.clean_interval_ms = 1;
    config.clean_forcibly_enabled = false;
    let store = try_open(&disk, &config).unwrap();
    assert_eq!(append_until_refused(&store, 0, 10), (10, 10));
    let space = disk.space(Path::new("/store")).unwrap();
    let used = space.total_bytes - space.free_bytes;
    disk.set_faults(|faults| faults.capacity_bytes = Some(used + used / 50));
    eventually("the store refuses", || {
        matches!(store.write_state(), WriteState::DiskFull { .. })
    });
    assert!(matches!(
        append(&store, 10),
        Err(AppendError::DiskFull { .. })
    ));
    assert_eq!(count_in_queues(&store), 10);
    disk.set_faults(|faults| faults.capacity_bytes = Some(used * 10));
    eventually("the store takes messages", || {
        store.write_state() == WriteState::Writable
    });
    assert_eq!(append_until_refused(&store, 10, 20), (20, 20));
}

#[test]
fn cold_messages_are_read_only_by_those_who_wait() {
    let disk = SimulatedDisk::new();
    let mut config = config(FlushMode::Async);
    config.tail_bytes_max = 4 << 10;
    let store = try_open(&disk, &config).unwrap();
    assert_eq!(append_until_refused(&store, 0, 200), (200, 200));
    eventually("the queues are written", || {
        store.stats().queue_backlog == 0
    });
    disk.set_faults(|faults| faults.reads_are_cold = true);
    let first = Read {
        topic: TOPIC,
        queue_id: 0,
        offset: 0,
        messages_max: 8,
        bytes_max: 1 << 20,
        filter: &everything,
    };
    let cold = store.read(&first, ReadMode::NoWait);
    assert!(matches!(cold, Err(ReadError::WouldBlock)), "{cold:?}");
    assert_eq!(
        store
            .read(&first, ReadMode::Blocking)
            .unwrap()
            .records
            .len(),
        8
    );
    let last = Read {
        offset: 98,
        ..first
    };
    assert_eq!(
        store.read(&last, ReadMode::NoWait).unwrap().records.len(),
        2,
        "the tail is in memory"
    );
}

#[test]
fn a_failing_read_is_reported_and_harms_nothing_else() {
    let disk = SimulatedDisk::new();
    let mut config = config(FlushMode::Async);
    config.tail_bytes_max = 4 << 10;
    let store = try_open(&disk, &config).unwrap();
    assert_eq!(append_until_refused(&store, 0, 200), (200, 200));
    eventually("the queues are written", || {
        store.stats().queue_backlog == 0
    });
    disk.set_faults(|faults| faults.read_fails = true);
    let first = Read {
        topic: TOPIC,
        queue_id: 0,
        offset: 0,
        messages_max: 8,
        bytes_max: 1 << 20,
        filter: &everything,
    };
    let failed = store.read(&first, ReadMode::Blocking);
    assert!(matches!(failed, Err(ReadError::Disk { .. })), "{failed:?}");
    assert_eq!(
        read(&store, TOPIC, 0, 99, 8).status,
        ReadStatus::Found,
        "the tail is in memory"
    );
    assert_eq!(append_until_refused(&store, 200, 210), (210, 210));
    disk.set_faults(|faults| faults.read_fails = false);
    assert_eq!(count_without_holes(&store), 210);
}

/// What tells a torn record from a whole one must not take the zeros of a whole one for lost bytes: its size begins with zeros, and its body
/// and the length of its properties may be nothing else.
#[test]
fn whole_records_of_zeros_are_kept_wherever_they_lie_in_a_sector() {
    const RECORD_BYTES: usize = 513;
    let disk = SimulatedDisk::new();
    let mut config = config(FlushMode::Async);
    config.segment_bytes = 1 << 20;
    let store = try_open(&disk, &config).unwrap();
    let mut appended = Vec::new();
    store
        .append(&[message(TOPIC, 0, b"", "")], &mut appended)
        .unwrap();
    let body = vec![0; RECORD_BYTES - appended[0].record_bytes as usize];
    for _ in 0..2 * 512 {
        store
            .append(&[message(TOPIC, 0, &body, "")], &mut appended)
            .unwrap();
    }
    drop(store);
    let store = try_open(&disk.kill(), &config).unwrap();
    assert_eq!(store.max_offset(TOPIC, 0), 1 + 2 * 512);
    assert_eq!(read_queue(&store, TOPIC, 0).len(), 1 + 2 * 512);
}
