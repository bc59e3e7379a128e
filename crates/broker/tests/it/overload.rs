//! Too much: what is refused says code 2, the limit and its key; what keeps clients together is served.

use std::sync::Arc;

use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::GetMaxOffsetRequest;
use remoting::{Client, ClientConfig, NoPushes};

use crate::harness::*;

/// In process, since a broker without memory takes no connection.
async fn without_memory() -> (TestBroker, Client) {
    let broker = TestBroker::start_with(|keys| keys.connection_memory_bytes = 0).await;
    let client = Client::new(ClientConfig::default(), Arc::new(NoPushes));
    client.register_local("broker", broker.running.service());
    (broker, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_memory_messages_are_refused_with_the_limit_and_its_key() {
    let (_broker, client) = without_memory().await;
    for request in [send_v2("T", 0, b"body", ""), pull("T", 0, 0)] {
        let answer = client.call("broker", request, TIMEOUT).await.unwrap();
        assert_eq!(answer.response_code(), ResponseCode::SYSTEM_BUSY);
        let remark = answer.remark.unwrap();
        assert!(
            remark.starts_with("[OVERLOAD]system busy, start flow control for a while: ")
                && remark.contains("connectionMemoryBytes=0"),
            "{remark}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_memory_small_requests_are_served() {
    let (_broker, client) = without_memory().await;
    let header = GetMaxOffsetRequest {
        topic: "TBW102".to_owned(),
        queue_id: 0,
        ..GetMaxOffsetRequest::default()
    };
    let offset = Command::request(RequestCode::GET_MAX_OFFSET, &header);
    let configuration = Command::request(RequestCode::GET_BROKER_CONFIG, &());
    for request in [offset, configuration] {
        let answer = client.call("broker", request, TIMEOUT).await.unwrap();
        assert_eq!(answer.response_code(), ResponseCode::SUCCESS);
    }
}
