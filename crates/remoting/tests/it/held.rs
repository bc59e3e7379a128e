//! Answers that wait for the gate.

use std::time::Duration;

use remoting::{Gate, ServerConfig};

use crate::support::*;

fn held(positions: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for position in positions {
        let hold = request(HOLD, &[("position", &position.to_string())], b"held");
        bytes.extend_from_slice(&bytes_of(hold, *position as i32));
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_answers_leave_in_order_as_the_gate_passes_them() {
    let running = start(ServerConfig::default());
    let mut raw = Raw::connect(running.addr).await;
    raw.send(&held(&[10, 20, 30, 40])).await;
    // The connection goes on reading and answering meanwhile.
    raw.echoes(1).await;
    running.echo.pass(25);
    assert_eq!(raw.opaques(2).await, [10, 20]);
    raw.echoes(2).await;
    running.echo.pass(39);
    assert_eq!(raw.opaques(1).await, [30]);
    running.echo.pass(40);
    let last = raw.next().await.unwrap();
    assert_eq!((last.opaque, &last.body[..]), (40, &b"held"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_below_the_gate_is_not_held() {
    let running = start(ServerConfig::default());
    running.echo.pass(100);
    let mut raw = Raw::connect(running.addr).await;
    raw.send(&held(&[99, 100])).await;
    assert_eq!(raw.opaques(2).await, [99, 100]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_gate_fails_what_is_above_it_is_refused() {
    let running = start(ServerConfig::default());
    let mut raw = Raw::connect(running.addr).await;
    raw.send(&held(&[10, 20])).await;
    raw.echoes(1).await;
    running.echo.gate.send_replace(Gate {
        position: 10,
        failed: true,
    });
    let released = raw.next().await.unwrap();
    assert_eq!((released.opaque, released.response_code()), (10, OK));
    let refused = raw.next().await.unwrap();
    assert_eq!((refused.opaque, refused.response_code()), (20, REFUSED));
    assert_eq!(refused.remark.as_deref(), Some("GateFailed"));
    // It stays failed for those who come later.
    raw.send(&held(&[30])).await;
    assert_eq!(raw.next().await.unwrap().response_code(), REFUSED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_waits_too_long_is_refused() {
    let running = start(ServerConfig {
        hold_timeout: Duration::from_millis(30),
        ..ServerConfig::default()
    });
    let mut raw = Raw::connect(running.addr).await;
    raw.send(&held(&[10, 20])).await;
    for opaque in [10, 20] {
        let refused = raw.next().await.unwrap();
        assert_eq!((refused.opaque, refused.response_code()), (opaque, REFUSED));
        assert_eq!(refused.remark.as_deref(), Some("TimedOut"));
        assert!(
            !refused.fields.is_empty(),
            "the service was shown the answer"
        );
    }
    running.echo.pass(50);
    raw.send(&held(&[50])).await;
    assert_eq!(raw.next().await.unwrap().response_code(), OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_gate_nothing_is_held_for_ever() {
    let running = start_with(
        ServerConfig::default(),
        Echo {
            no_gate: true,
            ..Echo::default()
        },
    );
    let mut raw = Raw::connect(running.addr).await;
    raw.send(&held(&[10])).await;
    assert_eq!(
        raw.next().await.unwrap().remark.as_deref(),
        Some("GateFailed")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_stops_while_too_many_answers_are_held() {
    let running = start(ServerConfig {
        held_count_max: 100,
        read_buffer_bytes_max: 8 * 1024,
        ..ServerConfig::default()
    });
    let mut raw = Raw::connect(running.addr).await;
    let total: u64 = 2_000;
    let positions: Vec<u64> = (1..=total).collect();
    raw.send(&held(&positions)).await;
    let another = &mut Raw::connect(running.addr).await;
    // Time passes on another connection; the stalled one does not take more than the bound and one batch.
    for opaque in 0..50 {
        another.echoes(opaque).await;
    }
    let taken = running.echo.served() - 50;
    assert!(
        taken < 400,
        "{taken} requests were taken while their answers were held"
    );
    running.echo.pass(total);
    let opaques = raw.opaques(total as usize).await;
    assert!(
        opaques
            .into_iter()
            .map(|opaque| opaque as u64)
            .eq(1..=total)
    );
}
