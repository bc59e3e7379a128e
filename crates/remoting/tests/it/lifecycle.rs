//! Starting, stopping, and coming back.

use std::sync::Arc;
use std::time::Duration;

use remoting::{CallError, Client, ClientConfig, Server, ServerConfig};

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_delivers_held_answers_and_then_closes() {
    let running = start(ServerConfig::default());
    let mut raw = Raw::connect(running.addr).await;
    let hold = request(HOLD, &[("position", "10")], b"held");
    raw.send(&bytes_of(hold, 1)).await;
    raw.echoes(2).await;
    let shutdown = running.server.shutdown();
    let deliver = async {
        running.echo.pass(10);
        assert_eq!(raw.next().await.expect("the held answer").opaque, 1);
        assert!(raw.next().await.is_none());
    };
    within(async { tokio::join!(shutdown, deliver) }).await;
    assert_eq!(*running.echo.closed.borrow(), 1);
    assert_eq!(running.server.connection_count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_waits_for_requests_that_are_handled_elsewhere() {
    let running = start(ServerConfig {
        // Longer than the test's patience: only the returned permit ends the wait.
        drain_timeout: PATIENCE * 2,
        ..ServerConfig::default()
    });
    let mut raw = Raw::connect(running.addr).await;
    raw.send(&bytes_of(request(WORK, &[], b""), 1)).await;
    raw.echoes(2).await;
    let shutdown = running.server.shutdown();
    let deliver = async {
        running.echo.pass(1);
        let answer = raw.next().await.expect("the answer");
        assert_eq!(answer.remark.as_deref(), Some("worked"));
        assert!(raw.next().await.is_none());
    };
    within(async { tokio::join!(shutdown, deliver) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_shut_down_stays_so() {
    let running = start(ServerConfig::default());
    let client = client();
    client.register_local("here:0", running.echo.clone());
    for addr in [running.addr.to_string(), "here:0".to_owned()] {
        within(client.call(&addr, request(ECHO, &[], b""), PATIENCE))
            .await
            .unwrap();
    }
    client.shutdown();
    for addr in [running.addr.to_string(), "here:0".to_owned()] {
        let ended = within(client.call(&addr, request(ECHO, &[], b""), PATIENCE)).await;
        assert!(matches!(ended.unwrap_err(), CallError::Closed { .. }));
    }
    let mut closed = running.echo.closed.subscribe();
    within(closed.wait_for(|closed| *closed == 2))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_wait_for_one_attempt_to_connect_share_its_failure() {
    // A listener that never accepts, and whose queue is full, makes an attempt last until its timeout.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    socket.listen(0).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    loop {
        let connecting = tokio::net::TcpStream::connect(addr);
        match tokio::time::timeout(Duration::from_millis(50), connecting).await {
            Ok(connected) => queued.push(connected.unwrap()),
            Err(_) => break,
        }
    }
    let config = ClientConfig {
        connect_timeout: Duration::from_millis(500),
        ..ClientConfig::default()
    };
    let client = Client::new(config, Arc::new(Pushes::default()));
    let mut calls = tokio::task::JoinSet::new();
    let started = std::time::Instant::now();
    for _ in 0..100 {
        let client = client.clone();
        calls.spawn(async move {
            client
                .call(&addr.to_string(), request(ECHO, &[], b""), PATIENCE)
                .await
        });
    }
    while let Some(call) = within(calls.join_next()).await {
        let error = call.unwrap().unwrap_err();
        assert!(matches!(error, CallError::Connect { .. }), "{error}");
    }
    // One after another they would take fifty seconds.
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_does_not_wait_for_ever() {
    let running = start(ServerConfig {
        drain_timeout: Duration::from_millis(30),
        ..ServerConfig::default()
    });
    let mut raw = Raw::connect(running.addr).await;
    raw.send(&bytes_of(request(HOLD, &[("position", "10")], b""), 1))
        .await;
    raw.echoes(2).await;
    within(running.server.shutdown()).await;
    assert!(raw.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_gives_its_port_back_and_the_client_finds_the_next_one() {
    let running = start(ServerConfig::default());
    let client = client();
    let addr = running.addr.to_string();
    let ask = || client.call(&addr, request(ECHO, &[], b""), PATIENCE);
    within(ask()).await.unwrap();
    within(running.server.shutdown()).await;
    // A call that begins before the client has seen the end of the old connection goes down with it.
    let error = within(async {
        loop {
            match ask().await.unwrap_err() {
                CallError::Closed { .. } => {}
                error => break error,
            }
        }
    })
    .await;
    assert!(matches!(error, CallError::Connect { .. }), "{error}");
    let echo = Arc::new(Echo::default());
    let _server = Server::bind(running.addr, ServerConfig::default(), echo).unwrap();
    within(ask()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_server_closes_its_connections() {
    let running = start(ServerConfig::default());
    let mut raw = Raw::connect(running.addr).await;
    raw.echoes(1).await;
    drop(running.server);
    assert!(raw.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_nobody_listens_on_is_a_connect_error_that_names_it() {
    let unused = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    for addr in [unused.as_str(), "no port", "127.0.0.1:notaport"] {
        let client = client();
        let error = within(client.call(addr, request(ECHO, &[], b""), PATIENCE))
            .await
            .unwrap_err();
        assert!(matches!(error, CallError::Connect { .. }), "{error}");
        assert!(error.to_string().contains(addr), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_names_are_resolved() {
    let running = start(ServerConfig::default());
    let addr = format!("localhost:{}", running.addr.port());
    within(client().call(&addr, request(ECHO, &[], b""), PATIENCE))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_client_connection_is_closed_and_made_again() {
    let running = start(ServerConfig::default());
    let config = ClientConfig {
        idle_close: Duration::from_millis(50),
        ..ClientConfig::default()
    };
    let client = Client::new(config, Arc::new(Pushes::default()));
    let addr = running.addr.to_string();
    let ask = || client.call(&addr, request(ECHO, &[], b""), PATIENCE);
    within(ask()).await.unwrap();
    let mut closed = running.echo.closed.subscribe();
    within(closed.wait_for(|closed| *closed == 1))
        .await
        .unwrap();
    within(ask()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_wait_for_room_instead_of_failing() {
    // Both sides have more to write than they may keep: neither may wait for the other.
    let running = start(ServerConfig {
        output_bytes_max: 64 * 1024,
        ..ServerConfig::default()
    });
    let config = ClientConfig {
        outbox_bytes_max: 64 * 1024,
        ..ClientConfig::default()
    };
    let client = Client::new(config, Arc::new(Pushes::default()));
    let addr = running.addr.to_string();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..600 {
        let (client, addr) = (client.clone(), addr.clone());
        calls.spawn(async move {
            let body = vec![7; 100_000];
            let answer = client
                .call(&addr, request(ECHO, &[], &body), PATIENCE)
                .await
                .unwrap();
            assert_eq!(answer.body.len(), body.len());
        });
    }
    while let Some(call) = within(calls.join_next()).await {
        call.unwrap();
    }
}
