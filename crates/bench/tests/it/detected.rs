//! A server that breaks a promise is found out: a check that cannot fail is no check.

use bench::{Load, Report, Workload, run_workload};

use crate::liar::{Lie, lie};
use crate::server::{Server, short};

const END_TO_END: Workload = Workload::Deliver {
    groups: 1,
    readers: 1,
};

fn run(what: Lie, workload: &Workload) -> anyhow::Result<Report> {
    let server = Server::start();
    let target = server.runtime.block_on(lie(what, server.addr));
    let load = Load {
        rate: Some(1_000),
        ..short(target)
    };
    run_workload(&load, workload)
}

#[test]
fn a_message_acknowledged_and_not_stored() {
    let report = run(Lie::LoseSend, &Workload::Send).unwrap();
    let verified = &report.verified;
    assert_eq!(verified.stored, Some(verified.acknowledged - 1), "{report}");
    assert!(!report.is_clean() && report.to_string().contains("NOT VERIFIED"));
}

#[test]
fn a_message_stored_twice() {
    let report = run(Lie::RepeatSend, &Workload::Send).unwrap();
    let verified = &report.verified;
    assert_eq!(verified.stored, Some(verified.acknowledged + 1), "{report}");
    assert!(!report.is_clean());
}

#[test]
fn a_refusal() {
    let report = run(Lie::RefuseSend, &Workload::Send).unwrap();
    assert_eq!(report.verified.refused, 1);
    assert!(
        !report.is_clean() && report.to_string().contains("a lie"),
        "{report}"
    );
}

#[test]
fn a_message_that_never_arrives() {
    let report = run(Lie::LoseSend, &END_TO_END).unwrap();
    assert_eq!(
        report.verified.received.as_ref().unwrap().lost,
        1,
        "{report}"
    );
    assert!(!report.is_clean());
}

#[test]
fn a_message_that_arrives_twice() {
    let report = run(Lie::RepeatSend, &END_TO_END).unwrap();
    let received = report.verified.received.as_ref().unwrap();
    assert_eq!((received.lost, received.duplicates), (0, 1), "{report}");
    assert!(!report.is_clean());
}

#[test]
fn messages_left_out_of_an_answer() {
    let report = run(Lie::SkipMessages, &END_TO_END).unwrap();
    let received = report.verified.received.as_ref().unwrap();
    assert!(received.lost > 0 && received.gaps > 0, "{report}");
    assert!(!report.is_clean());
}

#[test]
fn a_damaged_message() {
    let error = format!("{:#}", run(Lie::DamageMessage, &END_TO_END).unwrap_err());
    assert!(error.contains("damaged message"), "{error}");
}
