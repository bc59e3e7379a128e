//! Requests that are answered by message.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use client::{ConsumeResult, Message, Producer, PushConsumer, RequestError, StartFrom};
use protocol::code::ResponseCode;

use crate::cluster::{Cluster, PATIENCE};

/// A consumer that answers every message with its own words and "!", and does what it is told with the reply's outcome.
async fn replier(
    cluster: &Cluster,
    outcomes: Arc<Mutex<Vec<Result<(), ResponseCode>>>>,
) -> (PushConsumer, Arc<Producer>) {
    let producer = Arc::new(
        Producer::builder("repliers", cluster.nameserver())
            .retries(0)
            .start()
            .unwrap(),
    );
    let sender = Arc::clone(&producer);
    let consumer = PushConsumer::builder("repliers", cluster.nameserver())
        .subscribe("T", "*")
        .start_from(StartFrom::Oldest)
        .concurrently(move |messages| {
            let (sender, outcomes) = (Arc::clone(&sender), Arc::clone(&outcomes));
            async move {
                for message in messages {
                    let said = [&message.body[..], b"!"].concat();
                    let reply = Message::reply_to(&message, said).unwrap();
                    let sent = sender.send(reply).await;
                    let outcome = sent
                        .map(drop)
                        .map_err(|error| error.last.refusal().unwrap());
                    outcomes.lock().unwrap().push(outcome);
                }
                ConsumeResult::Success
            }
        });
    (consumer.start().await.unwrap(), producer)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_gets_its_own_reply() {
    let cluster = Cluster::start(&["broker-a", "broker-b"]).await;
    cluster.create_topic("T").await;
    let outcomes = Arc::default();
    let (consumer, sender) = replier(&cluster, Arc::clone(&outcomes)).await;
    let asking = Producer::builder("asking", cluster.nameserver())
        .start()
        .unwrap();
    let asking = Arc::new(asking);
    let requests = (0..50).map(|number| {
        let asking = Arc::clone(&asking);
        tokio::spawn(async move {
            let question = format!("{number}").repeat(if number % 2 == 0 { 1 } else { 5000 });
            let message = Message::new("T", question.clone());
            let reply = asking.request(message, PATIENCE).await.unwrap();
            assert_eq!(reply.body, question + "!");
            for name in ["CORRELATION_ID", "PUSH_REPLY_TIME", "ARRIVE_TIME"] {
                assert!(reply.property(name).is_some(), "{name}");
            }
        })
    });
    let requests: Vec<_> = requests.collect();
    for request in requests {
        request.await.unwrap();
    }
    consumer.shutdown().await;
    assert_eq!(*outcomes.lock().unwrap(), vec![Ok(()); 50]);
    sender.shutdown().await;
    asking.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_nobody_answers_ends_in_time() {
    let cluster = Cluster::start(&["broker-a"]).await;
    let asking = Producer::builder("asking", cluster.nameserver())
        .start()
        .unwrap();
    let begin = Instant::now();
    let wait = Duration::from_millis(700);
    let error = asking
        .request(Message::new("T", "?"), wait)
        .await
        .unwrap_err();
    assert!(matches!(error, RequestError::NoReply { .. }), "{error}");
    assert!(begin.elapsed() >= wait && begin.elapsed() < PATIENCE);
    asking.shutdown().await;

    // Who asked is gone: the replier hears of it.
    let outcomes = Arc::default();
    let (consumer, sender) = replier(&cluster, Arc::clone(&outcomes)).await;
    crate::cluster::eventually("an outcome", || !outcomes.lock().unwrap().is_empty()).await;
    consumer.shutdown().await;
    assert_eq!(outcomes.lock().unwrap()[0], Err(ResponseCode::SYSTEM_ERROR));
    sender.shutdown().await;
}
