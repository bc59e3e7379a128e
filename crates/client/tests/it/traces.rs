//! Traces of messages: what a client notes in the trace topic.

use std::time::Duration;

use client::{
    ConsumeResult, Message, Producer, PullConsumer, PushConsumer, StartFrom, TransactionProducer,
    TransactionState,
};

use crate::cluster::{Cluster, eventually};

const TRACE: &str = "RMQ_SYS_TRACE_TOPIC";

/// All notes, as lists of fields.
async fn notes(cluster: &Cluster) -> Vec<Vec<String>> {
    let reader = PullConsumer::new("trace_reader", &cluster.nameserver()).unwrap();
    let mut text = String::new();
    for queue in reader.queues(TRACE).await.unwrap() {
        let end = reader.max_offset(&queue).await.unwrap();
        let mut offset = 0;
        while offset < end {
            let pulled = reader
                .pull(&queue, "*", offset, 32, Duration::ZERO)
                .await
                .unwrap();
            for message in &pulled.messages {
                assert!(message.keys().is_some());
                text.push_str(std::str::from_utf8(&message.body).unwrap());
            }
            offset = pulled.next_offset;
        }
    }
    reader.shutdown().await;
    let notes = text.split('\u{2}').filter(|note| !note.is_empty());
    notes
        .map(|note| note.split('\u{1}').map(str::to_owned).collect())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_traced_from_its_producer_to_its_listener_and_traces_are_not() {
    let cluster = Cluster::start_with(&["broker-a"], |keys| keys.trace_topic_enable = true).await;
    cluster.create_topic("T").await;
    let producer = Producer::builder("producers", cluster.nameserver())
        .trace_to(TRACE)
        .start()
        .unwrap();
    let message = Message::new("T", "body").tag("t").key("k");
    let sent = producer.send(message).await.unwrap();
    producer.shutdown().await;
    let transactions = TransactionProducer::builder("tx", cluster.nameserver(), |_| async {
        TransactionState::Unknown
    })
    .trace_to(TRACE)
    .start()
    .unwrap();
    let half = transactions
        .send(Message::new("T", "half"), |_| async {
            TransactionState::Rollback
        })
        .await
        .unwrap()
        .half;
    transactions.shutdown().await;
    let (heard, hears) = std::sync::mpsc::channel();
    let consumer = PushConsumer::builder("consumers", cluster.nameserver())
        .subscribe("T", "*")
        .start_from(StartFrom::Oldest)
        .trace_to(TRACE)
        .concurrently(move |messages| {
            heard.send(messages.len()).unwrap();
            async { ConsumeResult::Success }
        })
        .start()
        .await
        .unwrap();
    eventually("the message", || hears.try_recv().is_ok()).await;
    consumer.shutdown().await;
    let notes = notes(&cluster).await;
    let of =
        |kind: &str| -> Vec<&Vec<String>> { notes.iter().filter(|note| note[0] == kind).collect() };
    let sends = of("Pub");
    assert_eq!(sends.len(), 2, "{notes:?}");
    assert_eq!(
        sends[0][2..8],
        [
            "DefaultRegion",
            "producers",
            "T",
            &sent.message_id,
            "t",
            "k"
        ]
    );
    assert_eq!(sends[0][9], "4");
    assert_eq!(sends[0][11..], ["0", &sent.offset_message_id, "true"]);
    assert_eq!(sends[1][11], "1");
    let ends = of("EndTransaction");
    assert_eq!(
        ends[0][10..],
        [half.message_id.as_str(), "ROLLBACK_MESSAGE", "false"]
    );
    let (before, after) = (of("SubBefore"), of("SubAfter"));
    assert_eq!((before.len(), after.len()), (1, 1));
    assert_eq!(before[0][3], "consumers");
    assert_eq!(before[0][4], after[0][1]);
    assert_eq!(before[0][5..], [sent.message_id.as_str(), "0", "k"]);
    assert_eq!(
        (
            after[0][2].as_str(),
            after[0][4].as_str(),
            after[0][6].as_str()
        ),
        (sent.message_id.as_str(), "true", "0")
    );
}
