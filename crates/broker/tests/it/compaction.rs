//! Compaction topics (`cleanup.policy=COMPACTION`) as producers, consumers and operators see them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use platform::disk::SimulatedDisk;
use protocol::batch::{self, Item};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{
    BoundaryType, CreateTopicRequest, DeleteTopicRequest, GetEarliestMsgStoretimeRequest,
    GetEarliestMsgStoretimeResponse, GetMaxOffsetRequest, GetMaxOffsetResponse,
    GetMinOffsetRequest, GetMinOffsetResponse, PopMessageRequest, SearchOffsetRequest,
    SearchOffsetResponse, SendMessageRequestV2, ViewMessageRequest,
};

use crate::harness::{TIMEOUT, TestBroker, long_pull, messages, props, send_header};
use crate::pop::{pop_header, texts};

const TOPIC: &str = "latest";

/// Compacts every twenty milliseconds.
async fn compacting() -> TestBroker {
    let broker = TestBroker::start_with(|keys| keys.compaction_schedule_internal = 20).await;
    create(&broker).await;
    broker
}

async fn create(broker: &TestBroker) {
    let header = CreateTopicRequest {
        topic: TOPIC.to_owned(),
        default_topic: "TBW102".to_owned(),
        read_queue_nums: 1,
        write_queue_nums: 1,
        perm: 6,
        topic_filter_type: "SINGLE_TAG".to_owned(),
        topic_sys_flag: Some(0),
        order: false,
        attributes: Some("+cleanup.policy=COMPACTION".to_owned()),
        force: false,
    };
    let create = Command::request(RequestCode::UPDATE_AND_CREATE_TOPIC, &header);
    let answer = broker.call(create).await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
}

async fn put(broker: &TestBroker, key: &str, body: &str) -> String {
    let text = props(&[("KEYS", key), ("TAGS", key)]);
    broker.sent(TOPIC, body.as_bytes(), &text).await.msg_id
}

/// Everything that a consumer finds which begins at `offset` and goes where it is told.
async fn bodies_from(broker: &TestBroker, mut offset: i64) -> Vec<String> {
    let mut bodies = Vec::new();
    loop {
        let (answer, header, messages) = broker.pulled(TOPIC, offset).await;
        for message in messages {
            bodies.push(String::from_utf8(message.body).unwrap());
        }
        match answer.response_code() {
            ResponseCode::SUCCESS | ResponseCode::PULL_RETRY_IMMEDIATELY => {}
            ResponseCode::PULL_OFFSET_MOVED if header.next_begin_offset != offset => {}
            ResponseCode::PULL_NOT_FOUND => return bodies,
            other => panic!("{other:?} at {offset}"),
        }
        assert!(header.next_begin_offset > offset, "stands at {offset}");
        offset = header.next_begin_offset;
    }
}

/// Waits until a consumer finds this and nothing else.
async fn becomes(broker: &TestBroker, want: &[&str]) {
    let begun = Instant::now();
    loop {
        let found = bodies_from(broker, 0).await;
        if found == want {
            return;
        }
        assert!(begun.elapsed() < TIMEOUT, "found {found:?}, not {want:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn every_message_needs_a_key() {
    let broker = compacting().await;
    let mut body = BytesMut::new();
    for keys in ["k", " "] {
        let properties = props(&[("KEYS", keys)]);
        let item = Item {
            flag: 0,
            body: b"body",
            properties: &properties,
        };
        batch::push(&mut body, &item);
    }
    let mut header = send_header(TOPIC, 0, "");
    header.batch = Some(true);
    let header = SendMessageRequestV2(header);
    let batch = Command::request(RequestCode::SEND_BATCH_MESSAGE, &header).with_body(body.freeze());
    let answers = [
        broker.send(TOPIC, b"body", "").await,
        broker.send(TOPIC, b"body", &props(&[("KEYS", " ")])).await,
        broker.send(TOPIC, b"body", &props(&[("KEYS", "")])).await,
        broker.send(TOPIC, b"body", &props(&[("keys", "k")])).await,
        broker.call(batch).await,
    ];
    for answer in answers {
        assert_eq!(answer.response_code(), ResponseCode::MESSAGE_ILLEGAL);
        let remark = answer.remark.unwrap_or_default();
        assert_eq!(remark, "Required message key is missing");
    }
    assert_eq!(broker.max_offset(TOPIC).await, 0);
}

#[tokio::test]
async fn consumers_find_the_latest_message_of_each_key_also_after_a_restart() {
    let broker = compacting().await;
    for round in 0..3 {
        for key in ["a", "b", "c"] {
            put(&broker, key, &format!("{key}{round}")).await;
        }
    }
    becomes(&broker, &["a2", "b2", "c2"]).await;
    assert_eq!(bodies_from(&broker, 7).await, ["b2", "c2"]);
    // An empty body ends its key; other topics keep everything.
    put(&broker, "b", "").await;
    put(&broker, "d", "d0").await;
    for _ in 0..2 {
        let text = props(&[("KEYS", "a")]);
        broker.sent("plain", b"same", &text).await;
    }
    becomes(&broker, &["a2", "c2", "d0"]).await;
    let broker = broker.restart().await;
    assert_eq!(bodies_from(&broker, 0).await, ["a2", "c2", "d0"]);
    put(&broker, "a", "a3").await;
    becomes(&broker, &["c2", "d0", "a3"]).await;
    let (_, _, plain) = broker.pulled("plain", 0).await;
    assert_eq!(plain.len(), 2);
}

#[tokio::test]
async fn offsets_by_number_and_time_lie_where_messages_are() {
    let broker = compacting().await;
    for body in ["a0", "a1", "a2"] {
        put(&broker, "a", body).await;
    }
    let id = put(&broker, "b", "b0").await;
    becomes(&broker, &["a2", "b0"]).await;
    let topic = || TOPIC.to_owned();
    let header = GetMinOffsetRequest {
        topic: topic(),
        queue_id: 0,
    };
    let request = Command::request(RequestCode::GET_MIN_OFFSET, &header);
    let min: GetMinOffsetResponse = broker.call(request).await.header().unwrap();
    let header = GetMaxOffsetRequest {
        topic: topic(),
        queue_id: 0,
        ..Default::default()
    };
    let request = Command::request(RequestCode::GET_MAX_OFFSET, &header);
    let max: GetMaxOffsetResponse = broker.call(request).await.header().unwrap();
    assert_eq!((min.offset, max.offset), (2, 4));
    let header = GetEarliestMsgStoretimeRequest {
        topic: topic(),
        queue_id: 0,
    };
    let request = Command::request(RequestCode::GET_EARLIEST_MSG_STORETIME, &header);
    let earliest: GetEarliestMsgStoretimeResponse = broker.call(request).await.header().unwrap();
    for (timestamp_ms, boundary_type, want) in [
        (i64::MIN, BoundaryType::Lower, 2),
        (earliest.timestamp_ms, BoundaryType::Lower, 2),
        (i64::MAX, BoundaryType::Lower, 4),
        (i64::MAX, BoundaryType::Upper, 3),
        (0, BoundaryType::Upper, 0),
    ] {
        let header = SearchOffsetRequest {
            topic: topic(),
            queue_id: 0,
            timestamp_ms,
            boundary_type,
        };
        let request = Command::request(RequestCode::SEARCH_OFFSET_BY_TIMESTAMP, &header);
        let found: SearchOffsetResponse = broker.call(request).await.header().unwrap();
        assert_eq!(found.offset, want, "{timestamp_ms} {boundary_type:?}");
    }
    let (_, offset) = protocol::message_id::decode_offset_id(&id).unwrap();
    let view = |offset| {
        Command::request(
            RequestCode::VIEW_MESSAGE_BY_ID,
            &ViewMessageRequest {
                offset,
                ..Default::default()
            },
        )
    };
    let answer = broker.call(view(offset as i64)).await;
    assert_eq!(messages(&answer.body)[0].body, b"b0");
    for nowhere in [offset as i64 + 1, -1, i64::MAX] {
        let answer = broker.call(view(nowhere)).await;
        assert_eq!(answer.response_code(), ResponseCode::SYSTEM_ERROR);
    }
}

#[tokio::test]
async fn a_pull_that_waits_behind_the_compacted_part_gets_what_comes() {
    let broker = compacting().await;
    for body in ["a0", "a1"] {
        put(&broker, "a", body).await;
    }
    put(&broker, "a", "").await;
    becomes(&broker, &[]).await;
    let pull = broker.call(long_pull(TOPIC, 3, "*", 15_000));
    let send = async {
        put(&broker, "b", "b0").await;
    };
    let (answer, ()) = tokio::join!(pull, send);
    assert_eq!(messages(&answer.body)[0].body, b"b0");
    assert_eq!(bodies_from(&broker, 0).await, ["b0"]);
}

#[tokio::test]
async fn compacted_messages_are_popped_and_acknowledged() {
    let broker = compacting().await;
    for round in 0..3 {
        for key in ["a", "b"] {
            put(&broker, key, &format!("{key}{round}")).await;
        }
    }
    becomes(&broker, &["a2", "b2"]).await;
    let header = PopMessageRequest {
        topic: TOPIC.to_owned(),
        ..pop_header()
    };
    let popped = broker.popped(&header).await;
    assert_eq!(texts(&popped), ["a2", "b2"]);
    let offsets: Vec<i64> = popped.iter().map(|one| one.message.queue_offset).collect();
    assert_eq!(offsets, [4, 5]);
    for one in &popped {
        let mut ack = one.ack();
        ack.topic = TOPIC.to_owned();
        let answer = broker
            .call(Command::request(RequestCode::ACK_MESSAGE, &ack))
            .await;
        assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    }
    assert_eq!(broker.runtime("popInFlightMessages").await, "0");
    put(&broker, "c", "c0").await;
    assert_eq!(texts(&broker.popped_soon(&header).await), ["c0"]);
}

#[tokio::test]
async fn a_topic_that_is_created_again_begins_empty() {
    let broker = compacting().await;
    put(&broker, "a", "a0").await;
    put(&broker, "a", "a1").await;
    becomes(&broker, &["a1"]).await;
    let header = DeleteTopicRequest {
        topic: TOPIC.to_owned(),
    };
    let delete = Command::request(RequestCode::DELETE_TOPIC_IN_BROKER, &header);
    let answer = broker.call(delete).await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    create(&broker).await;
    let broker = broker.restart().await;
    assert_eq!(bodies_from(&broker, 0).await, [""; 0]);
    put(&broker, "a", "a2").await;
    becomes(&broker, &["a2"]).await;
}

#[tokio::test]
async fn with_compaction_switched_off_everything_stays() {
    let broker = TestBroker::start_with(|keys| {
        keys.compaction_schedule_internal = 10;
        keys.enable_compaction = false;
    })
    .await;
    create(&broker).await;
    for body in ["a0", "a1"] {
        put(&broker, "a", body).await;
    }
    let broker = broker.restart().await;
    assert_eq!(bodies_from(&broker, 0).await, ["a0", "a1"]);
}

/// A broker is killed, or its machine loses power, while it compacts: every acknowledged message that is the latest of its key is there.
#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_messages_survive_death_and_power_failure_amid_compactions() {
    for seed in 0..12u64 {
        let disk = SimulatedDisk::new();
        let broker = TestBroker::start_on(Arc::new(disk.clone()), |keys| {
            keys.store_path_root_dir = "/store".to_owned();
            keys.mapped_file_size_commit_log = 1 << 20;
            keys.compaction_schedule_internal = 10;
        })
        .await;
        create(&broker).await;
        for round in 0..=seed {
            for key in ["a", "b", "c"] {
                put(&broker, key, &format!("{key}{round}")).await;
            }
        }
        let after = match seed % 3 {
            0 => disk.kill(),
            _ => disk.crash(seed),
        };
        let broker = broker.go_on_with(Arc::new(after)).await;
        let want = ["a", "b", "c"].map(|key| format!("{key}{seed}"));
        becomes(&broker, &want.each_ref().map(String::as_str)).await;
        put(&broker, "a", "last").await;
        becomes(&broker, &[&want[1], &want[2], "last"]).await;
        broker.stop().await;
    }
}
