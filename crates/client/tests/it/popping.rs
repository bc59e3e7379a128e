//! What pop consumers are promised.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use client::{Message, PopConsumer, Popped, Producer, StartFrom};

use crate::cluster::{Cluster, PATIENCE};

const LONG: Duration = Duration::from_secs(60);
const WAIT: Duration = Duration::from_secs(5);

async fn cluster(messages: usize) -> Cluster {
    let cluster = Cluster::start(&["b0"]).await;
    cluster.create_topic("T").await;
    let producer = Producer::builder("p", cluster.nameserver())
        .start()
        .unwrap();
    for i in 0..messages {
        producer
            .send(Message::new("T", format!("message {i}")))
            .await
            .unwrap();
    }
    producer.shutdown().await;
    cluster
}

fn consumer(cluster: &Cluster) -> PopConsumer {
    PopConsumer::new("g", &cluster.nameserver())
        .unwrap()
        .start_from(StartFrom::Oldest)
}

fn text(popped: &Popped) -> String {
    String::from_utf8_lossy(&popped.message.body).into_owned()
}

#[tokio::test]
async fn every_message_comes_once_when_it_is_acknowledged() {
    let cluster = cluster(100).await;
    let (one, other) = (consumer(&cluster), consumer(&cluster));
    let mut seen = BTreeMap::new();
    let deadline = Instant::now() + PATIENCE;
    while seen.len() < 100 {
        assert!(Instant::now() < deadline, "{} of 100 came", seen.len());
        for consumer in [&one, &other] {
            let popped = consumer
                .pop("T", "*", 8, LONG, Duration::ZERO)
                .await
                .unwrap();
            for popped in popped {
                consumer.ack(&popped).await.unwrap();
                *seen.entry(text(&popped)).or_insert(0) += 1;
            }
        }
    }
    assert!(seen.values().all(|times| *times == 1), "{seen:?}");
    let rest = one
        .pop("T", "*", 8, LONG, Duration::from_millis(50))
        .await
        .unwrap();
    assert!(rest.is_empty());
    one.shutdown().await;
    other.shutdown().await;
}

#[tokio::test]
async fn a_message_that_is_given_back_comes_again() {
    let cluster = cluster(1).await;
    let consumer = consumer(&cluster);
    let mut first = consumer
        .pop("T", "*", 1, LONG, WAIT)
        .await
        .unwrap()
        .remove(0);
    assert_eq!(first.message.reconsume_times, 0);
    consumer
        .change_invisible(&mut first, LONG * 2)
        .await
        .unwrap();
    consumer
        .change_invisible(&mut first, Duration::ZERO)
        .await
        .unwrap();
    let again = consumer
        .pop("T", "*", 1, LONG, WAIT)
        .await
        .unwrap()
        .remove(0);
    assert_eq!(
        (text(&again), again.message.reconsume_times),
        (text(&first), 1)
    );
    assert_eq!(again.message.topic, "T");
    consumer.ack(&again).await.unwrap();
    consumer.ack(&first).await.unwrap();
    consumer.shutdown().await;
}

#[tokio::test]
async fn in_order_a_queue_waits_for_its_acknowledgements() {
    let cluster = cluster(8).await;
    let consumer = consumer(&cluster).in_order(true);
    let first = consumer
        .pop("T", "*", 1, LONG, WAIT)
        .await
        .unwrap()
        .remove(0);
    let mut of_queue = vec![first.message.queue_offset];
    let mut held = first;
    // The other queues go on; this one stands until its message is acknowledged.
    for _ in 0..20 {
        let popped = consumer
            .pop("T", "*", 1, LONG, Duration::ZERO)
            .await
            .unwrap();
        for popped in popped {
            assert_ne!(popped.message.queue, held.message.queue);
            consumer.ack(&popped).await.unwrap();
        }
    }
    consumer.ack(&held).await.unwrap();
    held = consumer
        .pop("T", "*", 1, LONG, WAIT)
        .await
        .unwrap()
        .remove(0);
    of_queue.push(held.message.queue_offset);
    assert_eq!(of_queue, [0, 1]);
    consumer.shutdown().await;
}
