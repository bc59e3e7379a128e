//! Consumption in order over the end of a life: a queue that stands still goes on standing still, and nothing of it is lost.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use platform::disk::{Disk, OpenMode, SimulatedDisk};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::PopMessageRequest;

use crate::harness::{TIMEOUT, TestBroker};
use crate::pop::{GROUP, Popped, TOPIC, pop_header, texts};

fn ordered(attempt: &str) -> PopMessageRequest {
    PopMessageRequest {
        order: true,
        attempt_id: Some(attempt.to_owned()),
        messages_max: 2,
        ..pop_header()
    }
}

async fn with_messages(disk: &SimulatedDisk, texts: &[&str]) -> TestBroker {
    let broker = TestBroker::start_on(Arc::new(disk.clone()), |keys| {
        keys.mapped_file_size_commit_log = 1 << 20;
    })
    .await;
    for text in texts {
        broker.sent(TOPIC, text.as_bytes(), "").await;
    }
    broker
}

fn file(broker: &TestBroker, name: &str) -> String {
    let path = format!("{}/config/{name}", broker.keys.store_path_root_dir);
    if !broker.disk.exists(Path::new(&path)) {
        return String::new();
    }
    let file = broker.disk.open(Path::new(&path), OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Until the file says it.
async fn written(broker: &TestBroker, what: &str) {
    let begun = Instant::now();
    while !file(broker, "consumerOrderInfo.json").contains(what) {
        assert!(begun.elapsed() < TIMEOUT, "{what} is not written");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

fn put(disk: &dyn Disk, root: &str, text: &str) {
    let path = format!("{root}/config/consumerOrderInfo.json");
    for path in [path.clone(), format!("{path}.bak")] {
        if disk.exists(Path::new(&path)) {
            disk.remove(Path::new(&path)).unwrap();
        }
    }
    let file = disk.open(Path::new(&path), OpenMode::Create).unwrap();
    file.write_all_at(text.as_bytes(), 0).unwrap();
    file.sync_all().unwrap();
}

async fn acknowledge(broker: &TestBroker, popped: &Popped) {
    let ack = Command::request(RequestCode::ACK_MESSAGE, &popped.ack());
    let answer = broker.call(ack).await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    assert_eq!(answer.remark, None);
}

#[tokio::test]
async fn a_queue_in_order_stands_still_over_a_restart_and_a_kill() {
    for clean in [true, false] {
        let disk = SimulatedDisk::new();
        let broker = with_messages(&disk, &["a", "b", "c", "d"]).await;
        let first = broker.popped(&ordered("1")).await;
        assert_eq!(texts(&first), ["a", "b"]);
        acknowledge(&broker, &first[0]).await;
        let broker = if clean {
            broker.restart().await
        } else {
            written(&broker, "\"cm\":1").await;
            let after = disk.kill();
            broker.go_on_with(Arc::new(after)).await
        };
        assert!(
            broker.popped(&ordered("2")).await.is_empty(),
            "clean: {clean}"
        );
        assert!(broker.popped(&pop_header()).await.is_empty());
        // The consumer that holds the rest goes on with it.
        acknowledge(&broker, &first[1]).await;
        assert_eq!(texts(&broker.popped(&ordered("3")).await), ["c", "d"]);
    }
}

#[tokio::test]
async fn what_was_not_acknowledged_in_order_comes_again_after_a_kill_when_its_time_is_over() {
    let disk = SimulatedDisk::new();
    let broker = with_messages(&disk, &["a", "b", "c"]).await;
    let mut header = ordered("1");
    header.invisible_time_ms = 1_500;
    let first = broker.popped(&header).await;
    let begun = Instant::now();
    written(&broker, "\"i\":1500").await;
    acknowledge(&broker, &first[0]).await;
    written(&broker, "\"cm\":1").await;
    let broker = broker.go_on_with(Arc::new(disk.kill())).await;
    // Who waits is woken when the time is over, and not before.
    let mut second = ordered("2");
    second.poll_time_ms = 20_000;
    let again = crate::pop::popped(&broker.pop(&second).await);
    assert!(
        begun.elapsed().as_millis() >= 1_400,
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(texts(&again), ["b", "c"]);
    let counts = again[0].header.order_count_info.as_deref();
    assert_eq!(counts, Some("0 qo0%1 1;0 0 0"));
}

#[tokio::test]
async fn a_java_brokers_queues_in_order_stand_still_here() {
    let disk = SimulatedDisk::new();
    let broker = with_messages(&disk, &["a", "b", "c"]).await;
    // Makes the group.
    let first = broker.popped(&ordered("1")).await;
    for popped in &first {
        acknowledge(&broker, popped).await;
    }
    let root = broker.keys.store_path_root_dir.clone();
    let stopped = broker.stop().await;
    let popped_ms = first[0].header.pop_time_ms + 7;
    let text = format!(
        r#"{{
	"table":{{"{TOPIC}@{GROUP}":{{0:{{"a":"java","cm":0,"i":60000,"l":{popped_ms},"o":[2],"popTime":{popped_ms}}}}},
	"gone@{GROUP}":{{0:{{"cm":0,"i":60000,"l":1,"o":[0],"popTime":1}}}},"nonsense":{{}}}}
}}"#
    );
    put(&disk, &root, &text);
    let broker = stopped.start().await;
    assert!(broker.popped(&ordered("2")).await.is_empty());
    // Its consumer asks once more, under the same name.
    assert_eq!(texts(&broker.popped(&ordered("java")).await), ["c"]);
}

#[tokio::test]
async fn a_file_of_orders_that_makes_no_sense_loses_nothing() {
    let whole = |info: &str| format!(r#"{{"table":{{"{TOPIC}@{GROUP}":{{{info}}}}}}}"#);
    let now = "\"popTime\":9000000000000000000,\"i\":60000";
    for text in [
        String::new(),
        "not json".to_owned(),
        "[]".to_owned(),
        "{\"table\":7}".to_owned(),
        whole(&format!("0:{{\"o\":[-3],{now}}}")),
        whole(&format!("0:{{\"o\":[1,0],{now}}}")),
        whole(&format!("0:{{\"o\":[0,9223372036854775807],{now}}}")),
        whole(&format!("0:{{\"o\":[1000],{now}}}")),
        whole(&format!("7:{{\"o\":[0],{now}}}")),
        whole(&format!("-1:{{\"o\":[0],{now}}}")),
        whole("0:null"),
    ] {
        let disk = SimulatedDisk::new();
        let broker = with_messages(&disk, &["a"]).await;
        let root = broker.keys.store_path_root_dir.clone();
        // Makes the group.
        assert_eq!(broker.popped(&ordered("1")).await.len(), 1);
        let stopped = broker.stop().await;
        put(&disk, &root, &text);
        let broker = stopped.start().await;
        assert_eq!(texts(&broker.popped(&ordered("2")).await), ["a"], "{text}");
    }
}

#[tokio::test]
async fn a_reset_group_is_not_held_up_by_what_it_popped_in_another_life() {
    let disk = SimulatedDisk::new();
    let broker = with_messages(&disk, &["a", "b"]).await;
    assert_eq!(broker.popped(&ordered("1")).await.len(), 2);
    written(&broker, "\"cm\":0").await;
    let header = protocol::headers::ResetOffsetRequest {
        topic: TOPIC.to_owned(),
        group: GROUP.to_owned(),
        queue_id: 0,
        offset: Some(1),
        ..Default::default()
    };
    let reset = Command::request(RequestCode::INVOKE_BROKER_TO_RESET_OFFSET, &header);
    let answer = broker.call(reset).await;
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    let broker = broker.restart().await;
    assert_eq!(texts(&broker.popped(&ordered("2")).await), ["b"]);
}
