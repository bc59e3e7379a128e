//! What readers of light queues are promised.

use std::time::Duration;

use client::{Message, PopConsumer, Producer, PullConsumer, PullStatus, StartFrom};

use crate::cluster::Cluster;

const LIGHT: &str = "%LMQ%device1";
const INVISIBLE: Duration = Duration::from_secs(60);
const WAIT: Duration = Duration::from_secs(5);

/// Of six messages in two queues every second one lies in the light queue, too.
async fn cluster() -> Cluster {
    let cluster = Cluster::start_with(&["b0"], |keys| {
        keys.enable_lmq = true;
        keys.enable_multi_dispatch = true;
    })
    .await;
    cluster.create_topic("T").await;
    let producer = Producer::builder("p", cluster.nameserver())
        .start()
        .unwrap();
    for i in 0..6 {
        let mut message = Message::new("T", format!("message {i}"));
        if i % 2 == 1 {
            message = message.property("INNER_MULTI_DISPATCH", format!("%LMQ%other,{LIGHT}"));
        }
        producer.send(message).await.unwrap();
    }
    producer.shutdown().await;
    cluster
}

#[tokio::test]
async fn a_light_queue_is_pulled_by_its_own_offsets() {
    let cluster = cluster().await;
    let consumer = PullConsumer::new("g", &cluster.nameserver()).unwrap();
    let queues = consumer.queues(LIGHT).await.unwrap();
    let [queue] = queues.as_slice() else {
        panic!("{queues:?}")
    };
    assert_eq!(consumer.max_offset(queue).await.unwrap(), 3);
    for from in 0..3 {
        let pulled = consumer.pull(queue, "*", from, 32, WAIT).await.unwrap();
        assert_eq!(pulled.status, PullStatus::Found);
        let offsets: Vec<i64> = pulled.messages.iter().map(|m| m.queue_offset).collect();
        assert_eq!(offsets, (from..3).collect::<Vec<_>>());
        assert_eq!(pulled.messages[0].body, format!("message {}", 2 * from + 1));
        assert_eq!(pulled.next_offset, 3);
    }
    consumer.commit_offset(queue, 2).await.unwrap();
    assert_eq!(consumer.committed_offset(queue).await.unwrap(), Some(2));
    consumer.shutdown().await;
}

#[tokio::test]
async fn a_light_queue_is_popped_and_acknowledged() {
    let cluster = cluster().await;
    let consumer = PopConsumer::new("g", &cluster.nameserver())
        .unwrap()
        .start_from(StartFrom::Oldest);
    let popped = consumer.pop(LIGHT, "*", 8, INVISIBLE, WAIT).await.unwrap();
    let offsets: Vec<i64> = popped.iter().map(|p| p.message.queue_offset).collect();
    assert_eq!(offsets, [0, 1, 2]);
    for popped in &popped {
        consumer.ack(popped).await.unwrap();
    }
    let rest = consumer
        .pop(LIGHT, "*", 8, INVISIBLE, Duration::from_millis(50))
        .await
        .unwrap();
    assert!(rest.is_empty());
    consumer.shutdown().await;
}

#[tokio::test]
async fn nothing_is_sent_to_a_light_queue_itself() {
    let cluster = cluster().await;
    let producer = Producer::builder("p", cluster.nameserver())
        .start()
        .unwrap();
    let refused = producer.send(Message::new(LIGHT, "x")).await;
    assert!(refused.is_err(), "{refused:?}");
    producer.shutdown().await;
}
