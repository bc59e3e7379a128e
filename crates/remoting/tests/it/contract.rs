//! What a client may expect, the same over plaintext, over TLS and in process.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use remoting::tls::{ClientTls, ServerTls, TlsMode};
use remoting::{CallError, Client, ClientConfig, Gate, ServerConfig};

use crate::support::*;

/// A client and the service it talks to, over one of the transports.
struct Wire {
    client: Client,
    addr: String,
    echo: Arc<Echo>,
    pushes: Arc<Pushes>,
    _running: Option<Running>,
}

impl Wire {
    async fn ask(
        &self,
        command: protocol::command::Command,
    ) -> Result<protocol::command::Command, CallError> {
        within(self.client.call(&self.addr, command, PATIENCE)).await
    }

    fn local(config: ClientConfig) -> Self {
        let (echo, pushes) = (Arc::new(Echo::default()), Arc::new(Pushes::default()));
        let client = Client::new(config, pushes.clone());
        // No such port exists: whatever touched a socket would fail.
        let addr = "broker-a:0".to_owned();
        client.register_local(&addr, echo.clone());
        Wire {
            client,
            addr,
            echo,
            pushes,
            _running: None,
        }
    }

    fn over_socket(config: ClientConfig, server: ServerConfig) -> Self {
        let running = start(server);
        let pushes = Arc::new(Pushes::default());
        Wire {
            client: Client::new(config, pushes.clone()),
            addr: running.addr.to_string(),
            echo: running.echo.clone(),
            pushes,
            _running: Some(running),
        }
    }
}

const TRANSPORTS: [&str; 3] = ["plaintext", "tls", "local"];

fn wire(transport: &str) -> Wire {
    wire_holding(transport, Duration::from_secs(5))
}

fn wire_holding(transport: &str, hold_timeout: Duration) -> Wire {
    let client = ClientConfig {
        hold_timeout,
        ..ClientConfig::default()
    };
    let server = ServerConfig {
        hold_timeout,
        ..ServerConfig::default()
    };
    match transport {
        "plaintext" => Wire::over_socket(client, server),
        "tls" => {
            let tls = Some(ServerTls::self_signed(TlsMode::Enforcing).unwrap());
            let server = ServerConfig { tls, ..server };
            let tls = Some(ClientTls::unauthenticated().unwrap());
            Wire::over_socket(ClientConfig { tls, ..client }, server)
        }
        _ => Wire::local(client),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_carries_code_remark_fields_and_body_in_both_codecs() {
    for transport in TRANSPORTS {
        let wire = wire(transport);
        for codec in CODECS {
            for code in [ECHO, LATER] {
                let mut echo = request(
                    code,
                    &[("topic", "主题"), ("queueId", "3")],
                    b"body \0 bytes",
                );
                echo.codec = codec;
                let answer = wire.ask(echo).await.unwrap();
                assert_eq!(answer.response_code(), OK, "{transport}");
                assert!(answer.is_response());
                assert_eq!(answer.codec, codec);
                assert_eq!(answer.remark.as_deref(), Some("echo"));
                assert_eq!(answer.fields, fields([("topic", "主题"), ("queueId", "3")]));
                assert_eq!(answer.body, &b"body \0 bytes"[..]);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_code_is_refused_in_words() {
    for transport in TRANSPORTS {
        let wire = wire(transport);
        let answer = wire
            .ask(request(protocol::code::RequestCode(4711), &[], b""))
            .await
            .unwrap();
        assert_eq!(answer.response_code(), REFUSED);
        assert!(answer.remark.unwrap().contains("4711"));
        assert!(answer.body.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_in_parts_arrives_as_one() {
    for transport in TRANSPORTS {
        let wire = wire(transport);
        for bytes in [0, 1, 1_000, 2_000_000] {
            let answer = wire
                .ask(request(LARGE, &[("bytes", &bytes.to_string())], b""))
                .await
                .unwrap();
            let half = bytes / 2;
            let want: Vec<u8> = [vec![b'x'; half], vec![b'y'; bytes - half]].concat();
            assert!(answer.body == want, "{transport}: {bytes} bytes");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_caller_gets_its_own_answer() {
    for transport in TRANSPORTS {
        let wire = Arc::new(wire(transport));
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..1_000 {
            let wire = wire.clone();
            let code = if number % 10 == 0 { LATER } else { ECHO };
            calls.spawn(async move {
                let body = format!("call {number}");
                let answer = wire.ask(request(code, &[], body.as_bytes())).await.unwrap();
                assert_eq!(answer.body, body.as_bytes());
            });
        }
        while let Some(call) = within(calls.join_next()).await {
            call.unwrap();
        }
        let connections = wire.echo.connections.lock().unwrap().len();
        assert_eq!(
            connections, 1,
            "{transport}: all callers share one connection"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_answer_comes_when_the_gate_passes_it() {
    for transport in TRANSPORTS {
        let wire = wire(transport);
        wire.ask(request(ECHO, &[], b"")).await.unwrap();
        let hold = wire.ask(request(HOLD, &[("position", "10")], b"held"));
        let mut hold = std::pin::pin!(hold);
        tokio::select! {
            biased;
            answer = &mut hold => panic!("{transport}: {answer:?} came before the gate"),
            // Answered after the held request was served, on the same connection.
            echo = wire.ask(request(ECHO, &[], b"")) => { echo.unwrap(); }
        }
        wire.echo.pass(10);
        assert_eq!(hold.await.unwrap().body, &b"held"[..]);
        let below = wire
            .ask(request(HOLD, &[("position", "9")], b""))
            .await
            .unwrap();
        assert_eq!(below.response_code(), OK);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_answer_is_refused_when_the_gate_fails() {
    for transport in TRANSPORTS {
        let wire = wire(transport);
        let hold = wire.ask(request(HOLD, &[("position", "10")], b""));
        let fail = async {
            wire.echo.gate.send_replace(Gate {
                position: 5,
                failed: true,
            });
        };
        let (answer, ()) = tokio::join!(hold, fail);
        let answer = answer.unwrap();
        assert_eq!(answer.response_code(), REFUSED);
        assert_eq!(answer.remark.as_deref(), Some("GateFailed"), "{transport}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_answer_is_refused_when_it_waits_too_long() {
    for transport in TRANSPORTS {
        let wire = wire_holding(transport, Duration::from_millis(20));
        let answer = wire
            .ask(request(HOLD, &[("position", "10")], b""))
            .await
            .unwrap();
        assert_eq!(answer.remark.as_deref(), Some("TimedOut"), "{transport}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_one_way_request_is_served() {
    for transport in TRANSPORTS {
        let wire = wire(transport);
        within(wire.client.send_oneway(&wire.addr, request(ECHO, &[], b"")))
            .await
            .unwrap();
        within(
            wire.client
                .send_oneway(&wire.addr, request(HOLD, &[("position", "10")], b"")),
        )
        .await
        .unwrap();
        wire.ask(request(ECHO, &[], b"")).await.unwrap();
        assert_eq!(wire.echo.served.load(Ordering::SeqCst), 3, "{transport}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_of_the_server_reaches_the_handler() {
    for transport in TRANSPORTS {
        let wire = wire(transport);
        wire.ask(request(PUSH, &[("consumerGroup", "g")], b"pushed"))
            .await
            .unwrap();
        let mut received = wire.pushes.received.subscribe();
        let received = within(received.wait_for(|received| !received.is_empty()))
            .await
            .unwrap();
        let (addr, push) = &received[0];
        assert_eq!(*addr, wire.addr);
        assert_eq!(push.request_code(), PUSHED);
        assert!(push.is_oneway());
        assert_eq!(push.fields.get("consumerGroup"), Some("g"));
        assert_eq!(push.body, &b"pushed"[..]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_of_the_server_is_answered_by_the_handler() {
    for transport in TRANSPORTS {
        let wire = wire(transport);
        let answer = wire.ask(request(ASK, &[], b"abc")).await.unwrap();
        assert_eq!(answer.body, &b"cba"[..], "{transport}");
        assert_eq!(answer.remark.as_deref(), Some("asked"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_an_answer_times_out_and_the_connection_stays() {
    for transport in TRANSPORTS {
        let wire = wire(transport);
        let silence = wire.client.call(
            &wire.addr,
            request(SILENCE, &[], b""),
            Duration::from_millis(20),
        );
        let error = within(silence).await.unwrap_err();
        assert!(
            matches!(error, CallError::Timeout { .. }),
            "{transport}: {error}"
        );
        wire.ask(request(ECHO, &[], b"")).await.unwrap();
        assert_eq!(wire.echo.connections.lock().unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_end_when_the_server_closes_and_the_next_call_connects_again() {
    for transport in TRANSPORTS {
        let wire = wire(transport);
        let (silent, closing) = tokio::join!(
            wire.ask(request(SILENCE, &[], b"")),
            wire.ask(request(CLOSE, &[], b"")),
        );
        for ended in [silent, closing] {
            assert!(
                matches!(ended.unwrap_err(), CallError::Closed { .. }),
                "{transport}"
            );
        }
        wire.ask(request(ECHO, &[], b"")).await.unwrap();
        let mut closed = wire.echo.closed.subscribe();
        within(closed.wait_for(|closed| *closed == 1))
            .await
            .unwrap();
        let connections = wire.echo.connections.lock().unwrap().clone();
        assert_eq!(connections.len(), 2);
        assert!(!connections[0].is_open());
        assert!(connections[1].is_open());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_hears_once_that_the_client_closed() {
    for transport in TRANSPORTS {
        let wire = wire(transport);
        wire.ask(request(ECHO, &[], b"")).await.unwrap();
        let silent = wire.ask(request(SILENCE, &[], b""));
        let close = async { wire.client.close_address(&wire.addr) };
        let (ended, ()) = tokio::join!(silent, close);
        assert!(
            matches!(ended.unwrap_err(), CallError::Closed { .. }),
            "{transport}"
        );
        let mut closed = wire.echo.closed.subscribe();
        within(closed.wait_for(|closed| *closed == 1))
            .await
            .unwrap();

        wire.ask(request(ECHO, &[], b"")).await.unwrap();
        drop(wire.client);
        within(closed.wait_for(|closed| *closed == 2))
            .await
            .unwrap();
        let connections = wire.echo.connections.lock().unwrap().clone();
        for connection in connections {
            let error = connection
                .send_oneway(request(PUSHED, &[], b""))
                .unwrap_err();
            assert_eq!(error, remoting::SendError::Closed);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permits_are_bounded() {
    for transport in TRANSPORTS {
        let wire = wire(transport);
        let permits = if transport == "local" {
            ClientConfig::default().inbound_max
        } else {
            ServerConfig::default().permits
        };
        for _ in 0..permits {
            let answer = wire.ask(request(PERMIT, &[], b"")).await.unwrap();
            assert_eq!(answer.remark.as_deref(), Some("granted"));
        }
        let answer = wire.ask(request(PERMIT, &[], b"")).await.unwrap();
        assert_eq!(answer.remark.as_deref(), Some("none left"), "{transport}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_calls_than_the_bound_are_refused_at_once() {
    for transport in TRANSPORTS {
        let config = ClientConfig {
            calls_max: 2,
            ..ClientConfig::default()
        };
        let wire = match transport {
            "local" => Wire::local(config),
            "plaintext" => Wire::over_socket(config, ServerConfig::default()),
            _ => continue,
        };
        wire.ask(request(ECHO, &[], b"")).await.unwrap();
        let mut one = std::pin::pin!(wire.ask(request(SILENCE, &[], b"")));
        let mut two = std::pin::pin!(wire.ask(request(SILENCE, &[], b"")));
        tokio::select! {
            biased;
            _ = &mut one => unreachable!(),
            _ = &mut two => unreachable!(),
            third = wire.ask(request(ECHO, &[], b"")) => {
                assert!(matches!(third.unwrap_err(), CallError::Full { .. }), "{transport}");
            }
        }
    }
}
