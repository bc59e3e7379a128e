//! TLS and plaintext on one port.

use std::sync::Arc;

use remoting::tls::{ClientTls, ServerTls, TlsError, TlsMode};
use remoting::{CallError, Client, ClientConfig, ServerConfig};

use crate::support::*;

fn server(mode: TlsMode) -> ServerConfig {
    ServerConfig {
        tls: Some(ServerTls::self_signed(mode).unwrap()),
        ..ServerConfig::default()
    }
}

fn client_with(tls: ClientTls) -> Client {
    let config = ClientConfig {
        tls: Some(tls),
        ..ClientConfig::default()
    };
    Client::new(config, Arc::new(Pushes::default()))
}

async fn echoes(client: &Client, running: &Running, host: &str) -> Result<(), CallError> {
    let addr = format!("{host}:{}", running.addr.port());
    let body = vec![42; 300_000];
    let answer = within(client.call(&addr, request(ECHO, &[], &body), PATIENCE)).await?;
    assert!(answer.body == body);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permissive_port_takes_both() {
    let running = start(server(TlsMode::Permissive));
    let tls = client_with(ClientTls::unauthenticated().unwrap());
    let plain = client();
    for _ in 0..3 {
        echoes(&tls, &running, "127.0.0.1").await.unwrap();
        echoes(&plain, &running, "127.0.0.1").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enforcing_port_closes_plaintext_with_one_line() {
    let running = start(server(TlsMode::Enforcing));
    let mut raw = Raw::connect(running.addr).await;
    raw.send(&bytes_of(request(ECHO, &[], b""), 1)).await;
    assert!(raw.next().await.is_none());
    log::assert_closed_with_one_line(&raw, "TLS").await;
    let tls = client_with(ClientTls::unauthenticated().unwrap());
    echoes(&tls, &running, "127.0.0.1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_without_tls_refuses_it() {
    for config in [ServerConfig::default(), server(TlsMode::Disabled)] {
        let running = start(config);
        let tls = client_with(ClientTls::unauthenticated().unwrap());
        let error = echoes(&tls, &running, "127.0.0.1").await.unwrap_err();
        assert!(matches!(error, CallError::Connect { .. }), "{error}");
        echoes(&client(), &running, "127.0.0.1").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_handshake_is_one_line_and_harms_nobody() {
    let running = start(server(TlsMode::Permissive));
    let mut raw = Raw::connect(running.addr).await;
    raw.send(&[0x16; 100]).await;
    while let Some(_alert) = raw_end(&mut raw).await {}
    log::assert_closed_with_one_line(&raw, "TLS").await;
    echoes(&client(), &running, "127.0.0.1").await.unwrap();
}

async fn raw_end(raw: &mut Raw) -> Option<usize> {
    use tokio::io::AsyncReadExt;
    let mut buffer = [0; 256];
    within(raw.socket.read(&mut buffer))
        .await
        .ok()
        .filter(|count| *count > 0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_checks_certificates_believes_only_those_it_knows() {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (
        directory.path().join("server.pem"),
        directory.path().join("server.key"),
    );
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tls = ServerTls::from_pem_files(TlsMode::Permissive, &certificate, &key).unwrap();
    let known = start(ServerConfig {
        tls: Some(tls),
        ..ServerConfig::default()
    });
    let checking = client_with(ClientTls::trusting(&certificate).unwrap());
    echoes(&checking, &known, "localhost").await.unwrap();
    let wrong_name = echoes(&checking, &known, "127.0.0.1").await.unwrap_err();
    assert!(
        matches!(wrong_name, CallError::Connect { .. }),
        "{wrong_name}"
    );
    let stranger = start(server(TlsMode::Permissive));
    let error = echoes(&checking, &stranger, "localhost").await.unwrap_err();
    assert!(matches!(error, CallError::Connect { .. }), "{error}");
}

#[test]
fn a_certificate_that_is_missing_is_named() {
    let nowhere = std::path::Path::new("/nowhere/cert.pem");
    let error = ServerTls::from_pem_files(TlsMode::Permissive, nowhere, nowhere).unwrap_err();
    assert!(matches!(error, TlsError::File { .. }));
    assert!(error.to_string().contains("/nowhere/cert.pem"));
    assert!("sometimes".parse::<TlsMode>().is_err());
    assert_eq!("enforcing".parse::<TlsMode>().unwrap(), TlsMode::Enforcing);
}
