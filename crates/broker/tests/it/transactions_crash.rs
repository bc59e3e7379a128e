//! Transactions when the process or the machine dies, and directories that another broker left.

use std::sync::Arc;

use platform::clock::{Clock, RealClock};
use platform::disk::SimulatedDisk;
use protocol::code::ResponseCode;
use storage::{NewMessage, Store};

use crate::harness::*;
use crate::transactions::*;

const SEGMENT_BYTES: u64 = 1 << 20;

async fn broker_on(disk: &SimulatedDisk) -> TestBroker {
    TestBroker::start_on(Arc::new(disk.clone()), |keys| {
        keys.mapped_file_size_commit_log = SEGMENT_BYTES;
    })
    .await
}

/// Appends to a directory as another broker would, while none runs on it.
fn append(disk: &SimulatedDisk, root: &str, messages: &[(&str, i32, i64, &str, String)]) {
    let config = storage::Config {
        root: root.into(),
        segment_bytes: SEGMENT_BYTES,
        index_slots: 1_000,
        index_entries: 4_000,
        disk_max_used_ratio: 99,
        clean_forcibly_ratio: 100,
        warning_ratio: 100,
        ..storage::Config::default()
    };
    let store = Store::open(config, Arc::new(disk.clone()), Arc::new(RealClock::new())).unwrap();
    let host = "127.0.0.1:10911".parse().unwrap();
    let born_timestamp_ms = RealClock::new().now_ms();
    for (topic, sys_flag, prepared, body, properties) in messages {
        let message = NewMessage {
            topic,
            queue_id: 0,
            flag: 0,
            sys_flag: *sys_flag,
            born_timestamp_ms,
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_transaction_offset: *prepared,
            body: body.as_bytes(),
            properties,
        };
        store.append(&[message], &mut Vec::new()).unwrap();
    }
    store.close();
}

/// Stops a broker, has another one append, and starts it again.
async fn meanwhile(
    broker: TestBroker,
    disk: &SimulatedDisk,
    messages: &[(&str, i32, i64, &str, String)],
) -> TestBroker {
    let root = broker.keys.store_path_root_dir.clone();
    let stopped = broker.stop().await;
    append(disk, &root, messages);
    stopped.start().await
}

fn stored_half(id: &str, more: &[(&str, &str)]) -> String {
    let mut text = half_props(id, &[("REAL_TOPIC", "Topic"), ("REAL_QID", "0")]);
    text.push_str(&props(more));
    text
}

fn op() -> String {
    props(&[("TAGS", "d"), ("UNIQ_KEY", "OP")])
}

#[tokio::test]
async fn a_commit_whose_op_message_was_lost_is_found_and_not_repeated() {
    let disk = SimulatedDisk::new();
    let broker = broker_on(&disk).await;
    let half = broker.half("a", &[]).await;
    let other = broker.half("b", &[]).await;
    let commit = ("Topic", COMMIT, half.physical, "a", stored_half("a", &[]));
    let broker = meanwhile(broker, &disk, &[commit]).await;
    assert_eq!(broker.figure("transactionPending").await, 2);
    let answer = broker.end(&half, COMMIT).await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    assert!(answer.remark.unwrap().contains("committed before"));
    assert_eq!(broker.bodies("Topic").await, ["a"]);
    assert_eq!(broker.figure("transactionPending").await, 1);
    broker.ended(&other, COMMIT).await;
    assert_eq!(broker.bodies("Topic").await, ["a", "b"]);
    assert_eq!(broker.bodies(OP).await, ["0,", "1,"]);
}

#[tokio::test]
async fn halves_and_ends_that_java_left_are_understood() {
    let disk = SimulatedDisk::new();
    let broker = broker_on(&disk).await;
    broker.sent("Topic", b"plain", "").await;
    let messages = [
        (HALF, 0, 0, "0", stored_half("0", &[])),
        (HALF, 0, 0, "1", stored_half("1", &[])),
        (HALF, 0, 0, "2", stored_half("2", &[])),
        // One of two, as 4.9 writes them, and many, as 5.3 does.
        (OP, 0, 0, "0", op()),
        (OP, 0, 0, "2,77,", op()),
        // A copy of 1, made by a check, ended by its own offset; and one made for immunity's sake, ended by the offset of its first record.
        (
            HALF,
            0,
            0,
            "3",
            stored_half("3", &[("TRANSACTION_CHECK_TIMES", "3")]),
        ),
        (
            HALF,
            0,
            0,
            "4",
            stored_half(
                "4",
                &[
                    ("CHECK_IMMUNITY_TIME_IN_SECONDS", "100"),
                    ("TRAN_PREPARED_QUEUE_OFFSET", "2"),
                ],
            ),
        ),
        // Not a half at all.
        (HALF, 0, 0, "5", String::new()),
    ];
    let broker = meanwhile(broker, &disk, &messages).await;
    assert_eq!(broker.figure("transactionPending").await, 2);
    assert_eq!(broker.figure("transactionLost").await, 1);
    let (_, _, halves) = broker.pulled(HALF, 0).await;
    for index in [1, 3] {
        let half = Half {
            offset: index,
            physical: halves[index as usize].physical_offset,
            id: index.to_string(),
        };
        broker.ended(&half, COMMIT).await;
    }
    assert_eq!(broker.bodies("Topic").await, ["plain", "1", "3"]);
    assert_eq!(broker.figure("transactionPending").await, 0);
}

#[tokio::test]
async fn an_end_of_what_java_copied_ends_the_copy() {
    let disk = SimulatedDisk::new();
    let broker = broker_on(&disk).await;
    broker.sent("Topic", b"plain", "").await;
    let messages = [
        (HALF, 0, 0, "a", stored_half("a", &[])),
        (
            HALF,
            0,
            0,
            "a",
            stored_half("a", &[("TRANSACTION_CHECK_TIMES", "1")]),
        ),
        // Java passes the first by its offset; here it is as good as ended.
        (OP, 0, 0, "0,", op()),
    ];
    let broker = meanwhile(broker, &disk, &messages).await;
    assert_eq!(broker.figure("transactionPending").await, 1);
    let (_, _, halves) = broker.pulled(HALF, 0).await;
    let first = Half {
        offset: 0,
        physical: halves[0].physical_offset,
        id: "a".to_owned(),
    };
    broker.ended(&first, COMMIT).await;
    broker.ended(&first, COMMIT).await;
    assert_eq!(broker.bodies("Topic").await, ["plain", "a"]);
    assert_eq!(broker.figure("transactionPending").await, 0);
}

/// What was acknowledged, and the death of the machine at any moment: what was committed comes once, what was rolled back never, and the rest is pending.
#[tokio::test]
async fn loss_of_power_neither_loses_nor_repeats() {
    for seed in 0..24 {
        let disk = SimulatedDisk::new();
        let broker = broker_on(&disk).await;
        let mut halves = Vec::new();
        for index in 0..12 {
            let half = broker.half(&format!("{index}"), &[]).await;
            match (index + seed as usize) % 4 {
                0 => broker.ended(&half, COMMIT).await,
                1 => broker.ended(&half, ROLLBACK).await,
                _ => {}
            }
            halves.push(half);
        }
        // These may be in the log or not, whole or in part.
        disk.set_faults(|faults| faults.sync_hangs = true);
        let torn: Vec<_> = halves
            .iter()
            .enumerate()
            .filter(|(index, _)| (index + seed as usize) % 4 == 2)
            .map(|(_, half)| half.clone())
            .collect();
        for half in &torn {
            let mut command = end(half, COMMIT);
            command.mark_oneway();
            broker
                .client
                .send_oneway(&broker.addr().to_string(), command)
                .await
                .unwrap();
        }
        broker
            .reaches("transactionCommitted", 3 + torn.len() as u64)
            .await;
        let after = if seed % 4 == 3 {
            disk.kill()
        } else {
            disk.crash(seed)
        };
        disk.set_faults(|faults| faults.sync_hangs = false);
        let broker = broker.go_on_with(Arc::new(after)).await;
        for (index, half) in halves.iter().enumerate() {
            let (decision, code) = match (index + seed as usize) % 4 {
                1 => (COMMIT, ResponseCode::ILLEGAL_OPERATION),
                _ => (COMMIT, ResponseCode::SUCCESS),
            };
            let answer = broker.end(half, decision).await;
            assert_eq!(
                answer.response_code(),
                code,
                "seed {seed}, half {index}: {:?}",
                answer.remark
            );
        }
        let mut bodies = broker.bodies("Topic").await;
        bodies.sort();
        let mut wanted: Vec<_> = (0..12)
            .filter(|index| (index + seed as usize) % 4 != 1)
            .map(|index| index.to_string())
            .collect();
        wanted.sort();
        assert_eq!(bodies, wanted, "seed {seed}");
        assert_eq!(broker.figure("transactionPending").await, 0);
    }
}
