//! Replies: passed on to the client that asked, and stored.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{ReplyMessageRequest, SendMessageRequestV2, SendMessageResponse};
use protocol::properties;
use remoting::{Client, ClientConfig, InboundHandler};
use tokio::sync::mpsc;

use crate::harness::*;

const REPLY_TOPIC: &str = "DefaultCluster_REPLY_TOPIC";

/// Takes replies, and answers each with this code.
struct Asker {
    arrived: mpsc::UnboundedSender<Command>,
    code: ResponseCode,
}

impl InboundHandler for Asker {
    fn on_request(
        &self,
        _: &str,
        command: Command,
    ) -> Pin<Box<dyn Future<Output = Option<Command>> + Send>> {
        assert_eq!(
            command.request_code(),
            RequestCode::PUSH_REPLY_MESSAGE_TO_CLIENT
        );
        // A test that is over listens no more.
        let _ = self.arrived.send(command);
        let answer = Command::response(self.code, Some("said the asker".to_owned()));
        Box::pin(async { Some(answer) })
    }

    fn on_connect(&self, _: &str) {}
}

/// A client `asker` that produces and takes replies.
async fn asker(
    broker: &TestBroker,
    code: ResponseCode,
) -> (Arc<Client>, mpsc::UnboundedReceiver<Command>) {
    let (arrived, replies) = mpsc::unbounded_channel();
    let client = Arc::new(Client::new(
        ClientConfig::default(),
        Arc::new(Asker { arrived, code }),
    ));
    let body =
        r#"{"clientID":"asker","consumerDataSet":[],"producerDataSet":[{"groupName":"asking"}]}"#;
    let heartbeat =
        Command::request(RequestCode::HEART_BEAT, &()).with_body(body.as_bytes().to_vec());
    let answer = client
        .call(&broker.addr().to_string(), heartbeat, TIMEOUT)
        .await
        .unwrap();
    assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    (client, replies)
}

fn reply_to(asker: &str) -> String {
    props(&[
        ("MSG_TYPE", "reply"),
        ("CORRELATION_ID", "7"),
        (properties::MESSAGE_REPLY_TO_CLIENT, asker),
    ])
}

fn reply(properties: &str, queue_id: i32) -> Command {
    let header = SendMessageRequestV2(send_header(REPLY_TOPIC, queue_id, properties));
    Command::request(RequestCode::SEND_REPLY_MESSAGE_V2, &header).with_body(b"answer".to_vec())
}

#[tokio::test]
async fn a_reply_reaches_who_asked_and_is_stored() {
    let broker = TestBroker::start().await;
    let (_client, mut replies) = asker(&broker, ResponseCode::SUCCESS).await;
    let header = send_header(REPLY_TOPIC, -1, "");
    let long = protocol::headers::SendMessageRequest {
        properties: Some(reply_to("asker").into()),
        ..header
    };
    let long =
        Command::request(RequestCode::SEND_REPLY_MESSAGE, &long).with_body(b"answer".to_vec());
    for (number, command) in [reply(&reply_to("asker"), 0), long].into_iter().enumerate() {
        let answer = broker.call(command).await;
        assert_eq!(
            answer.response_code(),
            ResponseCode::SUCCESS,
            "{:?}",
            answer.remark
        );
        let sent: SendMessageResponse = answer.header().unwrap();
        assert_eq!((sent.queue_id, sent.queue_offset), (0, number as i64));
        assert_eq!(sent.msg_id.len(), 32);
        assert_eq!(answer.fields.get("MSG_REGION"), Some("DefaultRegion"));

        let pushed = replies.recv().await.unwrap();
        assert_eq!(&pushed.body[..], b"answer");
        let header: ReplyMessageRequest = pushed.header().unwrap();
        assert_eq!((&*header.topic, header.flag), (REPLY_TOPIC, 7));
        assert_eq!(header.born_timestamp_ms, 1_700_000_000_000);
        let text = header.properties.unwrap();
        assert_eq!(properties::get(&text, "CORRELATION_ID"), Some("7"));
        assert!(properties::get(&text, properties::PUSH_REPLY_TIME).is_some());
        assert!(
            header.born_host.starts_with("127.0.0.1:"),
            "{}",
            header.born_host
        );
    }
    let (_, _, stored) = broker.pulled(REPLY_TOPIC, 0).await;
    assert_eq!(stored.len(), 2);
    assert_eq!(stored[0].body, b"answer");
    assert_eq!(stored[0].properties, reply_to("asker"));
}

#[tokio::test]
async fn replies_are_passed_on_where_they_are_not_stored() {
    let broker = TestBroker::start_with(|keys| keys.store_reply_message_enable = false).await;
    let (_client, mut replies) = asker(&broker, ResponseCode::SUCCESS).await;
    let answer = broker.call(reply(&reply_to("asker"), 0)).await;
    let sent: SendMessageResponse = answer.header().unwrap();
    assert_eq!(
        (&*sent.msg_id, sent.queue_id, sent.queue_offset),
        ("0", 0, 0)
    );
    assert!(replies.recv().await.is_some());
    assert_eq!(broker.max_offset(REPLY_TOPIC).await, 0);
}

#[tokio::test]
async fn whoever_replies_hears_when_nobody_takes_it() {
    let broker = TestBroker::start_async_flush().await;
    for (properties, remark) in [
        (reply_to("nobody"), "channel of <nobody> not found"),
        (
            props(&[("CORRELATION_ID", "7")]),
            "properties[REPLY_TO_CLIENT] is null",
        ),
    ] {
        let answer = broker.call(reply(&properties, 0)).await;
        assert_eq!(answer.response_code(), ResponseCode::SYSTEM_ERROR);
        assert!(
            answer.remark.as_deref().unwrap().contains(remark),
            "{:?}",
            answer.remark
        );
    }
    let (client, _replies) = asker(&broker, ResponseCode::SYSTEM_BUSY).await;
    let answer = broker.call(reply(&reply_to("asker"), 0)).await;
    assert_eq!(answer.response_code(), ResponseCode::SYSTEM_ERROR);
    assert!(
        answer.remark.as_deref().unwrap().contains("said the asker"),
        "{:?}",
        answer.remark
    );
    // What was said is kept all the same.
    assert_eq!(broker.max_offset(REPLY_TOPIC).await, 3);
    client.shutdown();
}

#[tokio::test]
async fn replies_that_make_no_sense_are_refused() {
    let broker = TestBroker::start_with(|keys| keys.max_message_size = 10).await;
    let (_client, _replies) = asker(&broker, ResponseCode::SUCCESS).await;
    let far = broker.call(reply(&reply_to("asker"), 5)).await;
    assert_eq!(far.response_code(), ResponseCode::INVALID_PARAMETER);
    let large = reply(&reply_to("asker"), 0).with_body(vec![0; 11]);
    assert_eq!(
        broker.call(large).await.response_code(),
        ResponseCode::MESSAGE_ILLEGAL
    );
    let many = reply(&(reply_to("asker") + &"x".repeat(40_000)), 0);
    assert_eq!(
        broker.call(many).await.response_code(),
        ResponseCode::MESSAGE_ILLEGAL
    );
    let empty = Command::request(RequestCode::SEND_REPLY_MESSAGE_V2, &());
    assert_eq!(
        broker.call(empty).await.response_code(),
        ResponseCode::SYSTEM_ERROR
    );
    assert_eq!(
        broker
            .call(reply(&reply_to("asker"), 0))
            .await
            .response_code(),
        ResponseCode::SUCCESS
    );
}
