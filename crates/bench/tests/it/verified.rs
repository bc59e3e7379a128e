//! A server that keeps its promises passes every workload.

use std::time::Duration;

use bench::{Codec, Load, Report, Workload, run_workload};

use crate::server::{Server, short};

fn clean(load: &Load, workload: &Workload) -> Report {
    let report = run_workload(load, workload).unwrap();
    assert!(report.is_clean(), "{report}");
    assert!(report.messages > 0 && report.latency.count > 0, "{report}");
    report
}

#[test]
fn closed_loop_sends_with_both_codecs_are_all_in_the_queues() {
    let server = Server::start();
    for codec in [Codec::Json, Codec::Binary] {
        let load = Load {
            codec,
            topics: 3,
            keys: true,
            tags: 2,
            pid: Some(std::process::id()),
            ..short(server.addr)
        };
        let report = clean(&load, &Workload::Send);
        assert_eq!(report.verified.stored, Some(report.verified.acknowledged));
        assert!(report.broker.unwrap().descriptors > 0);
    }
}

#[test]
fn a_body_too_short_for_a_stamp_can_be_sent() {
    let server = Server::start();
    let load = Load {
        body_bytes: 0,
        ..short(server.addr)
    };
    clean(&load, &Workload::Send);
}

#[test]
fn an_open_loop_sends_what_is_due_and_no_more() {
    let server = Server::start();
    let load = Load {
        rate: Some(2_000),
        ..short(server.addr)
    };
    let report = clean(&load, &Workload::Send);
    let due = 2_000.0 * (load.warmup + load.measured).as_secs_f64();
    let acknowledged = report.verified.acknowledged as f64;
    assert!((acknowledged - due).abs() <= 2.0, "{acknowledged} of {due}");
    let samples = 2_000.0 * load.measured.as_secs_f64();
    assert!(
        (report.latency.count as f64 - samples).abs() <= 2.0,
        "{report}"
    );
}

#[test]
fn each_message_of_a_batch_counts() {
    let server = Server::start();
    let load = Load {
        batch: 10,
        ..short(server.addr)
    };
    let report = clean(&load, &Workload::Send);
    assert_eq!(report.workload, "batch");
    assert_eq!(report.verified.acknowledged % 10, 0);
}

#[test]
fn batches_arrive_message_by_message() {
    let server = Server::start();
    let load = Load {
        batch: 4,
        window: 1,
        ..short(server.addr)
    };
    let workload = Workload::Deliver {
        groups: 1,
        readers: 1,
    };
    let received = clean(&load, &workload).verified.received.unwrap();
    assert!(received.order_promised && received.overtaken == 0);
}

#[test]
fn a_backlog_is_drained_whole() {
    let server = Server::start();
    let workload = Workload::Pull {
        backlog: 1_000,
        messages_max: 32,
    };
    let report = clean(&short(server.addr), &workload);
    let received = report.verified.received.unwrap();
    assert!(received.distinct >= 1_000, "{received:?}");
}

#[test]
fn a_backlog_is_popped_and_acknowledged_whole() {
    let server = Server::start();
    let workload = Workload::Pop {
        backlog: 1_000,
        messages_max: 32,
    };
    // A backlog is sent anew between two pops of one, which takes its time.
    let load = Load {
        measured: Duration::from_secs(3),
        ..short(server.addr)
    };
    let report = clean(&load, &workload);
    let received = report.verified.received.unwrap();
    assert!(received.distinct >= 1_000, "{received:?}");
    assert_eq!(received.duplicates, 0);
}

#[test]
fn every_group_receives_everything() {
    let server = Server::start();
    let load = Load {
        rate: Some(1_000),
        codec: Codec::Binary,
        ..short(server.addr)
    };
    let workload = Workload::Deliver {
        groups: 3,
        readers: 2,
    };
    let report = clean(&load, &workload);
    let received = report.verified.received.unwrap();
    assert_eq!(received.distinct, 3 * report.verified.acknowledged);
    // Each message is a sample in each group.
    let samples = 3.0 * 1_000.0 * load.measured.as_secs_f64();
    assert!((report.latency.count as f64 - samples).abs() <= 6.0);
}

#[test]
fn messages_of_an_earlier_run_are_not_mistaken_for_this_ones() {
    let server = Server::start();
    let load = Load {
        measured: Duration::from_millis(100),
        ..short(server.addr)
    };
    let workload = Workload::Deliver {
        groups: 1,
        readers: 1,
    };
    clean(&load, &workload);
    clean(&load, &workload);
}

#[test]
fn a_reader_of_old_messages_runs_beside_a_producer() {
    let server = Server::start();
    let load = Load {
        rate: Some(1_000),
        ..short(server.addr)
    };
    let workload = Workload::Cold {
        backlog: 2_000,
        store: Some(server.dir.path().join("store")),
    };
    let report = clean(&load, &workload);
    assert!(report.alone.unwrap().count > 0);
    assert!(report.reader.unwrap().passes > 0);
}

#[test]
fn a_filtered_backlog_gives_one_tag_of_four_and_all_of_it() {
    let server = Server::start();
    let workload = Workload::Filter {
        backlog: 1_000,
        messages_max: 32,
    };
    let load = Load {
        tags: 4,
        ..short(server.addr)
    };
    let report = clean(&load, &workload);
    let sent = report.verified.acknowledged;
    assert!(sent >= 1_000, "{report}");
    let received = report.verified.received.unwrap();
    assert_eq!(received.distinct, sent.div_ceil(4), "{received:?}");
}

#[test]
fn the_queues_of_a_client_that_died_come_to_the_next_one() {
    let server = Server::start();
    let report = bench::run_hand_over(&bench::HandOver {
        load: short(server.addr),
        patience: Duration::from_secs(30),
    })
    .unwrap();
    assert_eq!(report.queues, 4);
    assert!(report.seconds > 1.0, "the holder may be about to come back");
}
