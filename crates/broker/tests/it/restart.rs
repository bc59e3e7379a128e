//! What a broker still knows after a stop and a start.

use protocol::code::ResponseCode;

use crate::harness::*;

#[tokio::test]
async fn messages_topics_and_offsets_survive_a_restart() {
    let broker = TestBroker::start().await;
    for number in 0..50 {
        broker
            .sent(
                "Kept",
                number.to_string().as_bytes(),
                &props(&[("TAGS", "t")]),
            )
            .await;
    }
    let broker = broker.restart().await;
    let (answer, header, messages) = broker.pulled("Kept", 40).await;
    assert_eq!(
        answer.response_code(),
        ResponseCode::SUCCESS,
        "{:?}",
        answer.remark
    );
    assert_eq!((header.min_offset, header.max_offset), (0, 50));
    let bodies: Vec<_> = messages
        .iter()
        .map(|message| String::from_utf8_lossy(&message.body).into_owned())
        .collect();
    assert_eq!(
        bodies,
        (40..50)
            .map(|number| number.to_string())
            .collect::<Vec<_>>()
    );
    assert_eq!(broker.sent("Kept", b"50", "").await.queue_offset, 50);
    let broker = broker.restart().await;
    assert_eq!(broker.max_offset("Kept").await, 51);
}

#[tokio::test]
async fn a_second_broker_on_the_same_directory_does_not_start() {
    let broker = TestBroker::start().await;
    let context = broker::Context {
        disk: std::sync::Arc::new(platform::disk::RealDisk),
        clock: std::sync::Arc::new(platform::clock::RealClock::new()),
        client: client(),
        config_file: None,
    };
    let error = broker::Broker::start(broker.keys.clone(), context)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("in use by another process"),
        "{error}"
    );
    broker.sent("Topic", b"x", "").await;
}
