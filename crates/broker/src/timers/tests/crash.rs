//! Power fails at every change of the disk: nothing that was flushed is lost, and nothing comes early.

use std::collections::BTreeMap;

use super::*;

/// A disk that lost its power may never say that a sync failed.
const FLUSH_PATIENCE: Duration = Duration::from_millis(400);

/// A life of timers up to the failure of the power after some changes. Gives what was certainly stored: body and time.
fn live(
    disk: &SimulatedDisk,
    clock: &Arc<ManualClock>,
    power_off_after: Option<u64>,
) -> Vec<(String, i64)> {
    let mut flushed = Vec::new();
    let fixture = Fixture::open(disk.clone(), clock.clone());
    disk.set_faults(|faults| faults.power_off_after = power_off_after);
    for round in 0..6i64 {
        let mut sent = Vec::new();
        for number in 0..4i64 {
            let due_ms = clock.now_ms() + 1_000 + number * 2_500;
            let body = format!("{round}-{number}");
            if fixture.try_send(due_ms, &body) {
                sent.push((body, due_ms));
            }
        }
        let end = fixture.store.commit_log_max();
        fixture.store.request_flush();
        let deadline = std::time::Instant::now() + FLUSH_PATIENCE;
        while fixture.store.flushed() < end
            && std::time::Instant::now() < deadline
            && !fixture.store.flush_state().borrow().failed
        {
            std::thread::yield_now();
        }
        if fixture.store.flushed() >= end {
            flushed.append(&mut sent);
        }
        fixture.turns(20);
        clock.advance(Duration::from_millis(2_000));
        fixture.turns(20);
        if round % 2 == 1 {
            let _ = fixture.timers.engine().keep_all();
        }
    }
    flushed
}

impl Fixture {
    fn try_send(&self, due_ms: i64, body: &str) -> bool {
        let due = due_ms.to_string();
        let mut text = String::new();
        for (name, value) in [
            ("UNIQ_KEY", body),
            ("TIMER_DELIVER_MS", &due),
            ("TIMER_OUT_MS", &due),
            ("REAL_TOPIC", "T"),
            ("REAL_QID", "0"),
        ] {
            names::push(&mut text, name, value);
        }
        let message = NewMessage {
            topic: topic::TIMER,
            queue_id: 0,
            flag: 0,
            sys_flag: 0,
            born_timestamp_ms: 5,
            born_host: host(),
            store_host: host(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: body.as_bytes(),
            properties: &text,
        };
        self.store.append(&[message], &mut Vec::new()).is_ok()
    }

    /// Some turns, whatever becomes of them.
    fn turns(&self, count: u32) {
        for _ in 0..count {
            self.turn();
            self.beside.run_all();
        }
    }
}

#[test]
fn power_that_fails_at_any_moment_loses_nothing_that_was_flushed() {
    let count = {
        let disk = SimulatedDisk::new();
        live(&disk, &Arc::new(ManualClock::new(START_MS)), None);
        disk.changes()
    };
    // Every few changes, so that the test stays short; the seeds differ.
    for after in (1..count).step_by((count / 60).max(1) as usize) {
        let disk = SimulatedDisk::new();
        let clock = Arc::new(ManualClock::new(START_MS));
        let flushed = live(&disk, &clock, Some(after));
        let fixture = Fixture::open(disk.crash(after), clock.clone());
        fixture.settle();
        fixture.advance(60_000);
        let mut delivered: BTreeMap<String, u32> = BTreeMap::new();
        for bytes in fixture.records("T") {
            let record = record::decode(&bytes, CheckBody::Yes).unwrap();
            let due = names::get(record.properties, names::TIMER_OUT_MS)
                .unwrap()
                .parse::<i64>()
                .unwrap();
            assert!(record.store_timestamp_ms >= due, "after {after}: early");
            *delivered.entry(body_of(&bytes)).or_default() += 1;
        }
        for (body, _) in &flushed {
            assert!(
                delivered.contains_key(body),
                "after {after} changes: {body} was flushed and is lost"
            );
        }
        assert_eq!(fixture.waiting(), 0, "after {after}");
    }
}
