//! What clients are told when the disk fails, runs full, or has to be waited for.

use std::sync::Arc;

use platform::disk::SimulatedDisk;
use protocol::code::ResponseCode;
use protocol::headers::SendMessageResponse;

use crate::harness::*;

async fn broker_on(disk: &SimulatedDisk) -> TestBroker {
    TestBroker::start_on(Arc::new(disk.clone()), |keys| {
        // Small files, since the disk is in memory.
        keys.mapped_file_size_commit_log = 1 << 20;
        keys.clean_resource_interval = 50;
    })
    .await
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_and_reads_go_on() {
    let disk = SimulatedDisk::new();
    let broker = broker_on(&disk).await;
    broker.sent("Topic", b"safe", "").await;
    disk.set_faults(|faults| faults.sync_fails = true);
    // The one that waits for the failing sync, and one that comes later.
    for _ in 0..2 {
        let answer = broker.send("Topic", b"lost", "").await;
        assert_eq!(answer.response_code(), ResponseCode::SERVICE_NOT_AVAILABLE);
        let remark = answer.remark.unwrap();
        assert!(remark.contains("restart the broker"), "{remark}");
    }
    disk.set_faults(|faults| faults.sync_fails = false);
    let answer = broker.send("Topic", b"still not", "").await;
    assert_eq!(answer.response_code(), ResponseCode::SERVICE_NOT_AVAILABLE);
    let (answer, header, messages) = broker.pulled("Topic", 0).await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    assert_eq!((messages.len(), header.max_offset), (1, 1));
}

#[tokio::test]
async fn a_disk_that_hangs_is_reported_with_the_place_of_the_message() {
    let disk = SimulatedDisk::new();
    let broker = TestBroker::start_on(Arc::new(disk.clone()), |keys| {
        keys.mapped_file_size_commit_log = 1 << 20;
        keys.sync_flush_timeout = 50;
    })
    .await;
    broker.sent("Topic", b"first", "").await;
    disk.set_faults(|faults| faults.sync_hangs = true);
    let answer = broker.send("Topic", b"second", "").await;
    disk.set_faults(|faults| faults.sync_hangs = false);
    assert_eq!(answer.response_code(), ResponseCode::FLUSH_DISK_TIMEOUT);
    assert!(answer.remark.as_ref().unwrap().contains("is stored"));
    let place: SendMessageResponse = answer.header().unwrap();
    assert_eq!((place.queue_id, place.queue_offset), (0, 1));
    assert!(!place.msg_id.is_empty());
    broker.sent("Topic", b"third", "").await;
    assert_eq!(broker.max_offset("Topic").await, 3);
}

#[tokio::test]
async fn a_full_disk_refuses_sends_until_there_is_room() {
    let disk = SimulatedDisk::new();
    let broker = broker_on(&disk).await;
    broker.sent("Topic", b"first", "").await;
    // Enough for what is there, not for another segment.
    disk.set_faults(|faults| faults.capacity_bytes = Some(0));
    let body = vec![b'x'; 100_000];
    let mut stored = 1;
    let refused = loop {
        let answer = broker.send("Topic", &body, "").await;
        if answer.response_code() != ResponseCode::SUCCESS {
            break answer;
        }
        stored += 1;
        assert!(stored < 100, "a full disk takes everything");
    };
    assert_eq!(refused.response_code(), ResponseCode::SERVICE_NOT_AVAILABLE);
    let remark = refused.remark.unwrap();
    assert!(remark.contains("the broker's disk is full"), "{remark}");
    let (answer, ..) = broker.pulled("Topic", 0).await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    disk.set_faults(|faults| faults.capacity_bytes = None);
    let mut tries = 0;
    while broker.send("Topic", &body, "").await.response_code() != ResponseCode::SUCCESS {
        tries += 1;
        assert!(tries < 1_000, "room came back, and sends are still refused");
        tokio::task::yield_now().await;
    }
    let (_, header, _) = broker.pulled("Topic", 0).await;
    assert_eq!(header.max_offset, stored + 1);
}

#[tokio::test]
async fn cold_messages_are_read_where_waiting_harms_nobody() {
    let disk = SimulatedDisk::new();
    let broker = broker_on(&disk).await;
    for number in 0..40 {
        broker
            .sent("Topic", number.to_string().as_bytes(), "")
            .await;
    }
    let broker = broker.restart().await;
    disk.set_faults(|faults| faults.reads_are_cold = true);
    let mut next = 0;
    while next < 40 {
        let (answer, header, messages) = broker.pulled("Topic", next).await;
        assert_eq!(
            answer.response_code(),
            ResponseCode::SUCCESS,
            "{:?}",
            answer.remark
        );
        // What comes from the disk comes in smaller portions.
        assert!(!messages.is_empty() && messages.len() <= 8);
        assert_eq!(messages[0].body, next.to_string().as_bytes());
        next = header.next_begin_offset;
    }
    disk.set_faults(|faults| faults.read_fails = true);
    let (client, addr) = (broker.client.clone(), broker.addr().to_string());
    let failed = client
        .call(&addr, pull("Topic", 0, 0), TIMEOUT)
        .await
        .unwrap();
    assert_eq!(failed.response_code(), ResponseCode::SYSTEM_ERROR);
    broker.sent("Topic", b"writing goes on", "").await;
}
