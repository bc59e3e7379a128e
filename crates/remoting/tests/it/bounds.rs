//! Slow peers and too many of them: memory stays bounded, nobody else waits.

use std::time::Duration;

use remoting::{Account, Budget, SendError, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_is_not_read_from_and_gets_everything_later() {
    const ANSWER: usize = 64 * 1024;
    const TOTAL: i32 = 2_000;
    let running = start(ServerConfig {
        output_bytes_max: 256 * 1024,
        read_buffer_bytes_max: 8 * 1024,
        ..ServerConfig::default()
    });
    let mut raw = Raw::connect(running.addr).await;
    let mut bytes = Vec::new();
    for opaque in 0..TOTAL {
        bytes.extend_from_slice(&bytes_of(
            request(LARGE, &[("bytes", &ANSWER.to_string())], b""),
            opaque,
        ));
    }
    // All requests fit into the sockets' buffers, so this does not wait for answers to be read.
    raw.send(&bytes).await;
    // Other connections are answered meanwhile, over and over.
    let mut other = Raw::connect(running.addr).await;
    for opaque in 0..200 {
        other.echoes(opaque).await;
    }
    let taken = running.echo.served() - 200;
    // What the kernel's buffers take (some MiB on loopback), the bound, and one batch.
    assert!(
        taken < TOTAL as usize / 4,
        "{taken} answers were made for a peer that does not read"
    );
    for opaque in 0..TOTAL {
        let answer = raw.next().await.unwrap();
        assert_eq!((answer.opaque, answer.body.len()), (opaque, ANSWER));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_to_a_peer_that_does_not_read_are_refused() {
    let running = start(ServerConfig {
        output_bytes_max: 64 * 1024,
        outbox_bytes_max: 64 * 1024,
        ..ServerConfig::default()
    });
    let mut raw = Raw::connect(running.addr).await;
    raw.echoes(1).await;
    let connection = running.echo.connections.lock().unwrap()[0].clone();
    let body = vec![0; 10_000];
    let mut sent = 0;
    let refused = within(async {
        loop {
            match connection.send_oneway(request(PUSHED, &[], &body)) {
                Ok(()) => sent += 1,
                Err(SendError::Full) if sent > 0 && is_full(&connection, &body).await => {
                    break SendError::Full;
                }
                // The connection's task has not come by yet.
                Err(SendError::Full) => tokio::task::yield_now().await,
                Err(error) => break error,
            }
        }
    })
    .await;
    assert_eq!(refused, SendError::Full);
    assert!(connection.is_open());
    let call = connection.call(request(ASKED, &[], &body), PATIENCE).await;
    assert!(matches!(
        call.unwrap_err(),
        remoting::CallError::Full { .. }
    ));
    // When the peer reads again, everything that was accepted arrives, and pushes are accepted again.
    let mut bytes = 0;
    let mut buffer = vec![0; 1 << 20];
    while bytes < sent * 10_000 {
        let count = within(raw.socket.read(&mut buffer)).await.unwrap();
        assert!(count > 0);
        bytes += count;
    }
    within(async {
        while connection.send_oneway(request(PUSHED, &[], &body)).is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_that_waited_behind_a_large_answer_follows_it() {
    // The outbox is left alone while more than this waits; when it all leaves in one write, nothing else wakes the task.
    let running = start(ServerConfig {
        output_bytes_max: 1,
        ..ServerConfig::default()
    });
    let mut raw = Raw::connect(running.addr).await;
    let large = 16_000_000;
    raw.send(&bytes_of(
        request(LARGE, &[("bytes", &large.to_string())], b""),
        1,
    ))
    .await;
    within(async {
        while running.echo.served() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let connection = running.echo.connections.lock().unwrap()[0].clone();
    connection
        .send_oneway(request(PUSHED, &[], b"pushed"))
        .unwrap();
    assert_eq!(raw.next().await.unwrap().body.len(), large);
    // Below the ten seconds after which a quiet connection's timer would find it.
    let pushed = tokio::time::timeout(Duration::from_secs(5), raw.next()).await;
    assert_eq!(pushed.unwrap().unwrap().body, &b"pushed"[..]);
}

/// Full for good: the task had time to take the outbox and could not.
async fn is_full(connection: &remoting::Connection, body: &[u8]) -> bool {
    for _ in 0..1_000 {
        if connection.send_oneway(request(PUSHED, &[], body)).is_ok() {
            return false;
        }
        tokio::task::yield_now().await;
    }
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_limit_are_closed_and_places_come_back() {
    let running = start(ServerConfig {
        connections_max: 3,
        ..ServerConfig::default()
    });
    let mut open = Vec::new();
    for opaque in 0..3 {
        let mut raw = Raw::connect(running.addr).await;
        raw.echoes(opaque).await;
        open.push(raw);
    }
    assert_eq!(running.server.connection_count(), 3);
    let mut fourth = Raw::connect(running.addr).await;
    assert!(fourth.next().await.is_none());
    open.pop();
    let mut closed = running.echo.closed.subscribe();
    within(closed.wait_for(|closed| *closed == 1))
        .await
        .unwrap();
    within(async {
        while running.server.connection_count() == 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    Raw::connect(running.addr).await.echoes(9).await;
    for raw in &mut open {
        raw.echoes(10).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let running = start(ServerConfig {
        // Long enough that the busy peer is not idle when the machine is slow for a moment.
        idle_close: Duration::from_millis(700),
        ..ServerConfig::default()
    });
    let mut idle = Raw::connect(running.addr).await;
    idle.echoes(1).await;
    let mut busy = Raw::connect(running.addr).await;
    let end = within(async {
        for opaque in 0.. {
            busy.echoes(opaque).await;
            if let Ok(end) = tokio::time::timeout(Duration::from_millis(10), idle.next()).await {
                return end;
            }
        }
        unreachable!("the numbers do not end")
    })
    .await;
    assert!(end.is_none());
    busy.echoes(1).await;
}

/// Frames of this size are large: they need room in the budget.
const HALF_BODY: usize = 12_000_000;

/// The beginning of a frame that announces 16 MB, up to `bytes` of its body.
fn half_frame(bytes: usize) -> Vec<u8> {
    let whole = bytes_of(request(ECHO, &[], &vec![0; 16_000_000]), 1);
    whole[..bytes].to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_frames_of_many_connections_stay_within_the_budget_and_give_way() {
    // Each may hold 16 MiB by its own bounds: eight of them twice the budget.
    let budget = Budget::new(64 << 20, "key");
    let running = start(ServerConfig {
        budget: Some(budget.clone()),
        ..ServerConfig::default()
    });
    let mut other = Raw::connect(running.addr).await;
    other.echoes(0).await;
    let mut senders = Vec::new();
    for _ in 0..8 {
        let mut raw = Raw::connect(running.addr).await;
        let bytes = half_frame(HALF_BODY);
        senders.push(tokio::spawn(async move {
            // The server stops reading, so this may end only when it closes the connection.
            let _ = raw.socket.write_all(&bytes).await;
            raw.next().await.is_none()
        }));
    }
    let (mut most, mut opaque) = (0, 0);
    within(async {
        // There is no room for all of them: somebody gives way.
        while !senders.iter().any(tokio::task::JoinHandle::is_finished) {
            // Small requests are answered all the time.
            other.echoes(opaque).await;
            opaque += 1;
            most = most.max(budget.held());
        }
    })
    .await;
    assert!(most > budget.limit() / 4, "{most}");
    assert!(most <= budget.limit(), "{most}");
    for sender in senders {
        sender.abort();
    }
    within(async {
        while budget.held() > 1 << 20 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_frames_that_are_sent_to_their_end_all_complete_within_the_budget() {
    // More than there is room for at once: one after the other goes on.
    let budget = Budget::new(64 << 20, "key");
    let running = start(ServerConfig {
        budget: Some(budget.clone()),
        ..ServerConfig::default()
    });
    let senders: Vec<_> = (0..8)
        .map(|opaque| {
            let addr = running.addr;
            tokio::spawn(async move {
                let mut raw = Raw::connect(addr).await;
                let body = vec![0; 12_000_000];
                raw.send(&bytes_of(request(SILENCE, &[], &body), opaque))
                    .await;
                raw.echoes(100).await;
            })
        })
        .collect();
    for sender in senders {
        within(sender).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_stop_give_way_when_memory_is_short() {
    let budget = Budget::new(16 << 20, "key");
    let running = start(ServerConfig {
        budget: Some(budget.clone()),
        ..ServerConfig::default()
    });
    // One answer is larger than what the kernel takes, and together they take more than three quarters.
    let mut deaf = Vec::new();
    for _ in 0..4 {
        let mut raw = Raw::connect(running.addr).await;
        let large = request(LARGE, &[("bytes", "16000000")], b"");
        raw.send(&bytes_of(large, 1)).await;
        deaf.push(raw);
    }
    within(async {
        while *running.echo.closed.borrow() == 0 || budget.is_short() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let lines = deaf
        .iter()
        .flat_map(|raw| log::about(raw.local(), raw.peer));
    assert!(
        lines
            .into_iter()
            .all(|line| line.contains("unread answers"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_ignores_its_answers_is_closed_even_when_memory_is_not_short() {
    let running = start(ServerConfig {
        half_frame_close: Duration::from_millis(300),
        ..ServerConfig::default()
    });
    let mut raw = Raw::connect(running.addr).await;
    let large = request(LARGE, &[("bytes", "16000000")], b"");
    raw.send(&bytes_of(large, 1)).await;
    // Below the ten seconds after which a quiet connection's timer would find it.
    let closed = log::assert_closed_with_one_line(&raw, "ignored answers");
    tokio::time::timeout(Duration::from_secs(8), closed)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_refused_while_everything_is_held() {
    let budget = Budget::new(1 << 20, "key");
    let running = start(ServerConfig {
        budget: Some(budget.clone()),
        ..ServerConfig::default()
    });
    let mut held = Account::new(budget.clone());
    assert!(held.try_hold(768 << 10));
    assert!(Raw::connect(running.addr).await.next().await.is_none());
    drop(held);
    Raw::connect(running.addr).await.echoes(1).await;
}
