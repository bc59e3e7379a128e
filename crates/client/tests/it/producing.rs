//! What producers are promised.

use std::collections::BTreeSet;
use std::time::Duration;

use client::{Message, Producer, PullConsumer, PullStatus, SendStatus};
use protocol::code::ResponseCode;

use crate::cluster::{Cluster, PATIENCE};

async fn all_bodies(cluster: &Cluster, topic: &str, expression: &str) -> Vec<String> {
    let consumer = PullConsumer::new("reader", &cluster.nameserver()).unwrap();
    let mut bodies = Vec::new();
    for queue in consumer.queues(topic).await.unwrap() {
        let mut offset = consumer.min_offset(&queue).await.unwrap();
        let end = consumer.max_offset(&queue).await.unwrap();
        while offset < end {
            let pulled = consumer
                .pull(&queue, expression, offset, 32, Duration::ZERO)
                .await
                .unwrap();
            bodies.extend(
                pulled
                    .messages
                    .iter()
                    .map(|m| String::from_utf8_lossy(&m.body).into_owned()),
            );
            assert!(pulled.next_offset > offset, "{:?}", pulled.status);
            offset = pulled.next_offset;
        }
    }
    consumer.shutdown().await;
    bodies.sort();
    bodies
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_sending_stores_the_message() {
    let cluster = Cluster::start(&["broker-a"]).await;
    let producer = Producer::builder("producers", cluster.nameserver())
        .start()
        .unwrap();
    let first = producer
        .send(Message::new("T", "awaited").tag("A").key("k"))
        .await
        .unwrap();
    assert_eq!(first.status, SendStatus::SendOk);
    let started = producer.start_send(Message::new("T", "started"));
    started.await.unwrap().unwrap();
    let batch: Vec<Message> = (0..3)
        .map(|i| Message::new("T", format!("batch {i}")))
        .collect();
    let receipt = producer.send_batch(&batch).await.unwrap();
    assert_eq!(receipt.offset_message_id.split(',').count(), 3);
    producer
        .send_selected(Message::new("T", "selected"), |queues| queues - 1)
        .await
        .unwrap();
    producer
        .send_oneway(Message::new("T", "one-way"))
        .await
        .unwrap();
    // A send on the same connection is answered after the one-way request before it was served.
    producer.send(Message::new("T", "last 消息")).await.unwrap();
    let want = [
        "awaited",
        "batch 0",
        "batch 1",
        "batch 2",
        "last 消息",
        "one-way",
        "selected",
        "started",
    ];
    assert_eq!(all_bodies(&cluster, "T", "*").await, want);
    assert_eq!(all_bodies(&cluster, "T", "A || B").await, ["awaited"]);
    producer.shutdown().await;
}

/// Batches that lie in one record are taken apart, also from the middle, and by exact tags.
#[tokio::test(flavor = "multi_thread")]
async fn batches_of_a_batch_topic_come_as_single_messages() {
    let cluster = Cluster::start(&["broker-a"]).await;
    let attributes = "+queue.type=BatchCQ";
    cluster.create_topic_with("Batches", attributes).await;
    let producer = Producer::builder("producers", cluster.nameserver())
        .start()
        .unwrap();
    let batch: Vec<Message> = (0..6)
        .map(|i| Message::new("Batches", i.to_string()).tag(["A", "B"][i % 2]))
        .collect();
    let receipt = producer.send_batch(&batch).await.unwrap();
    assert!(!receipt.offset_message_id.contains(','));
    producer
        .send(Message::new("Batches", "single").tag("B"))
        .await
        .unwrap();
    let all = ["0", "1", "2", "3", "4", "5", "single"];
    assert_eq!(all_bodies(&cluster, "Batches", "*").await, all);
    let of_b = ["1", "3", "5", "single"];
    assert_eq!(all_bodies(&cluster, "Batches", "B").await, of_b);
    let reader = PullConsumer::new("reader", &cluster.nameserver()).unwrap();
    let pulled = reader
        .pull(&receipt.queue, "*", 4, 32, Duration::ZERO)
        .await
        .unwrap();
    let offsets: Vec<_> = pulled.messages.iter().map(|m| m.queue_offset).collect();
    assert_eq!(offsets[..2], [4, 5]);
    let ids: BTreeSet<_> = pulled.messages.iter().map(|m| &m.message_id).collect();
    assert_eq!(ids.len(), pulled.messages.len());
    reader.shutdown().await;
    producer.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_are_compressed_on_the_way_and_whole_at_the_end() {
    let cluster = Cluster::start(&["broker-a"]).await;
    let producer = Producer::builder("producers", cluster.nameserver())
        .start()
        .unwrap();
    let body = "apogee ".repeat(100_000);
    producer
        .send(Message::new("T", body.clone()))
        .await
        .unwrap();
    assert_eq!(all_bodies(&cluster, "T", "*").await, [body]);
    producer.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_code_and_reason_and_is_not_retried() {
    let cluster = Cluster::start(&["broker-a"]).await;
    let producer = Producer::builder("producers", cluster.nameserver())
        .compress_from_bytes(usize::MAX)
        .start()
        .unwrap();
    let error = producer
        .send(Message::new("T", vec![1; (4 << 20) + 1]))
        .await
        .unwrap_err();
    assert_eq!(error.attempts, 1);
    assert_eq!(
        error.last.refusal(),
        Some(ResponseCode::MESSAGE_ILLEGAL),
        "{error}"
    );
    producer.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_broker_takes_what_a_stopped_one_does_not() {
    let mut cluster = Cluster::start(&["broker-a", "broker-b"]).await;
    cluster.create_topic("T").await;
    let producer = Producer::builder("producers", cluster.nameserver())
        .start()
        .unwrap();
    let mut brokers = BTreeSet::new();
    for i in 0..8 {
        let receipt = producer
            .send(Message::new("T", format!("before {i}")))
            .await
            .unwrap();
        brokers.insert(receipt.queue.broker_name);
    }
    assert_eq!(brokers.len(), 2, "messages spread over the brokers");
    cluster.stop(0).await;
    for i in 0..10 {
        let receipt = producer
            .send(Message::new("T", format!("after {i}")))
            .await
            .unwrap();
        assert_eq!(receipt.queue.broker_name, "broker-b");
    }
    producer.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_nobody_may_create_is_an_error_that_says_so() {
    let cluster =
        Cluster::start_with(&["broker-a"], |keys| keys.auto_create_topic_enable = false).await;
    let producer = Producer::builder("producers", cluster.nameserver())
        .start()
        .unwrap();
    let error = producer
        .send(Message::new("Unknown", "x"))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("create the topic first"),
        "{error}"
    );
    producer.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_waits_for_the_first_message() {
    let cluster = Cluster::start(&["broker-a"]).await;
    let producer = Producer::builder("producers", cluster.nameserver())
        .start()
        .unwrap();
    let receipt = producer.send(Message::new("T", "first")).await.unwrap();
    let consumer = PullConsumer::new("reader", &cluster.nameserver()).unwrap();
    let next = receipt.queue_offset + 1;
    let (pulled, _) = tokio::join!(
        consumer.pull(&receipt.queue, "*", next, 32, PATIENCE),
        async {
            let queues = producer.queues("T").await.unwrap();
            let index = queues
                .iter()
                .position(|queue| *queue == receipt.queue)
                .unwrap();
            producer
                .send_selected(Message::new("T", "second"), |_| index)
                .await
                .unwrap()
        }
    );
    let pulled = pulled.unwrap();
    assert_eq!(
        (pulled.status, pulled.messages.len()),
        (PullStatus::Found, 1)
    );
    assert_eq!(pulled.messages[0].body, "second");
    let nothing = consumer
        .pull(&receipt.queue, "*", next + 1, 32, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(nothing.status, PullStatus::NoNewMessage);
    let beyond = consumer
        .pull(&receipt.queue, "*", next + 100, 32, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(
        (beyond.status, beyond.next_offset),
        (PullStatus::OffsetIllegal, next + 1)
    );
    consumer.commit_offset(&receipt.queue, 1).await.unwrap();
    assert_eq!(
        consumer.committed_offset(&receipt.queue).await.unwrap(),
        Some(1)
    );
    consumer.shutdown().await;
    producer.shutdown().await;
}
