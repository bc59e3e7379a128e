//! What producers of transactions are promised.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use client::{
    ConsumeResult, Message, PushConsumer, StartFrom, TransactionProducer, TransactionState,
};

use crate::cluster::{Cluster, eventually};

type Seen = Arc<Mutex<Vec<String>>>;

async fn cluster() -> Cluster {
    Cluster::start_with(&["broker-a"], |keys| {
        keys.transaction_time_out = 1;
        keys.transaction_check_interval = 50;
    })
    .await
}

async fn consumer(cluster: &Cluster, topic: &str) -> (PushConsumer, Seen) {
    let seen = Seen::default();
    let sink = seen.clone();
    let consumer = PushConsumer::builder("consumers", cluster.nameserver())
        .subscribe(topic, "*")
        .start_from(StartFrom::Oldest)
        .concurrently(move |messages| {
            let bodies = messages
                .iter()
                .map(|m| String::from_utf8_lossy(&m.body).into_owned());
            sink.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(bodies);
            async { ConsumeResult::Success }
        })
        .start()
        .await
        .unwrap();
    (consumer, seen)
}

fn sorted(seen: &Seen) -> Vec<String> {
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    seen.sort();
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outcome_of_the_work_decides_who_gets_the_message() {
    let cluster = cluster().await;
    cluster.create_topic("T").await;
    let asked = Arc::new(AtomicUsize::new(0));
    let asked_here = asked.clone();
    let producer = TransactionProducer::builder("tx", cluster.nameserver(), move |message| {
        // The first question comes too early.
        let times = asked_here.fetch_add(1, Ordering::Relaxed);
        async move {
            assert_eq!(message.topic, "T");
            match (times, &message.body[..]) {
                (0, _) => TransactionState::Unknown,
                (_, b"checked") => TransactionState::Commit,
                _ => TransactionState::Rollback,
            }
        }
    })
    .start()
    .unwrap();
    for (body, state) in [
        ("committed", TransactionState::Commit),
        ("rolled back", TransactionState::Rollback),
        ("checked", TransactionState::Unknown),
        ("checked and rolled back", TransactionState::Unknown),
    ] {
        let receipt = producer
            .send(Message::new("T", body), |half| async move {
                assert!(!half.message_id.is_empty());
                state
            })
            .await
            .unwrap();
        receipt.told.unwrap();
        assert_eq!(receipt.state, state);
    }
    let (consumer, seen) = consumer(&cluster, "T").await;
    eventually("two messages", || sorted(&seen).len() == 2).await;
    eventually("three questions", || asked.load(Ordering::Relaxed) >= 3).await;
    assert_eq!(sorted(&seen), ["checked", "committed"]);
    consumer.shutdown().await;
    producer.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_producer_of_the_group_answers_for_one_that_is_gone() {
    let cluster = cluster().await;
    cluster.create_topic("T").await;
    let unknown = |_| async { TransactionState::Unknown };
    let gone = TransactionProducer::builder("tx", cluster.nameserver(), unknown)
        .start()
        .unwrap();
    let half = gone
        .send(Message::new("T", "left behind"), |_| async {
            TransactionState::Unknown
        })
        .await
        .unwrap();
    gone.shutdown().await;
    let other = TransactionProducer::builder("tx", cluster.nameserver(), |_| async {
        TransactionState::Commit
    })
    .start()
    .unwrap();
    // It is known to the broker by what it sends.
    other
        .send(Message::new("T", "its own").delay_level(0), |_| async {
            TransactionState::Commit
        })
        .await
        .unwrap();
    let (consumer, seen) = consumer(&cluster, "T").await;
    eventually("both messages", || sorted(&seen).len() == 2).await;
    assert_eq!(sorted(&seen), ["its own", "left behind"]);
    // Said late and once more, it changes nothing.
    other
        .end(&half.half, TransactionState::Commit)
        .await
        .unwrap();
    let late = other.end(&half.half, TransactionState::Rollback).await;
    assert!(
        late.unwrap_err()
            .to_string()
            .contains("cannot be taken back")
    );
    assert_eq!(sorted(&seen).len(), 2);
    consumer.shutdown().await;
    other.shutdown().await;
}
