//! Which connections a broker takes by `tls.server.mode`.

use std::sync::Arc;
use std::time::Duration;

use broker::{BrokerKeys, StartError};
use protocol::code::ResponseCode;
use remoting::ClientConfig;
use remoting::tls::ClientTls;

use crate::harness::*;

/// Long enough for an answer on a loaded machine; a plaintext call to a TLS port waits for the close at most.
const CALL_MAX: Duration = Duration::from_secs(20);

/// Whether a send succeeds, with and without TLS.
async fn sends(broker: &TestBroker) -> (bool, bool) {
    let tls = ClientConfig {
        tls: Some(ClientTls::unauthenticated().unwrap()),
        ..ClientConfig::default()
    };
    let (tls, plain) = (client_with(tls), client());
    let addr = broker.addr().to_string();
    let encrypted = tls.call(&addr, send_v2("T", 0, b"x", ""), CALL_MAX).await;
    let plaintext = plain.call(&addr, send_v2("T", 0, b"x", ""), CALL_MAX).await;
    let ok = |answer: Result<protocol::command::Command, remoting::CallError>| {
        answer.is_ok_and(|answer| answer.response_code() == ResponseCode::SUCCESS)
    };
    (ok(encrypted), ok(plaintext))
}

#[tokio::test]
async fn the_port_takes_what_its_mode_says() {
    for (mode, want) in [
        ("permissive", (true, true)),
        ("enforcing", (true, false)),
        ("disabled", (false, true)),
    ] {
        let broker = TestBroker::start_with(|keys| keys.tls_server_mode = mode.to_owned()).await;
        assert_eq!(sends(&broker).await, want, "{mode}");
    }
}

/// Why a broker with these keys does not start.
async fn refused(change: impl FnOnce(&mut BrokerKeys)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut keys = BrokerKeys {
        bind_address: "127.0.0.1".to_owned(),
        listen_port: 0,
        store_path_root_dir: dir.path().join("store").display().to_string(),
        ..BrokerKeys::default()
    };
    change(&mut keys);
    let context = broker::Context {
        disk: Arc::new(platform::disk::RealDisk),
        clock: Arc::new(platform::clock::RealClock::new()),
        client: client(),
        config_file: None,
    };
    let error = broker::Broker::start(keys, context).await.unwrap_err();
    assert!(matches!(error, StartError::Tls(_)), "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_at_the_start() {
    let error = refused(|keys| keys.tls_server_mode = "strict".to_owned()).await;
    assert!(error.contains("tls.server.mode is `strict`"), "{error}");
    let error = refused(|keys| {
        keys.tls_server_mode = "enforcing".to_owned();
        keys.tls_test_mode_enable = false;
    })
    .await;
    assert!(error.contains("needs tls.server.certPath"), "{error}");
    let error = refused(|keys| keys.tls_server_cert_path = "/nowhere.pem".to_owned()).await;
    assert!(error.contains("without tls.server.keyPath"), "{error}");
    let error = refused(|keys| {
        keys.tls_server_cert_path = "/nowhere.pem".to_owned();
        keys.tls_server_key_path = "/nowhere.key".to_owned();
    })
    .await;
    assert!(error.contains("/nowhere.pem"), "{error}");
}
