//! What cannot be run is said in words that a person can act on.

use std::net::TcpListener;

use bench::{Load, Workload, run_workload};

use crate::server::{Server, short};

fn error(load: &Load, workload: &Workload) -> String {
    format!("{:#}", run_workload(load, workload).unwrap_err())
}

#[test]
fn nobody_listens() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = error(&short(free), &Workload::Send);
    assert!(
        error.contains("no server accepts connections at"),
        "{error}"
    );
}

#[test]
fn a_name_server_is_no_broker() {
    let config = nameserver::Config {
        bind_address: "127.0.0.1".to_owned(),
        listen_port: 0,
        kv_config_path: std::env::temp_dir().join("none").display().to_string(),
        ..nameserver::Config::default()
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let context = nameserver::Context::default();
    let server = nameserver::start(config, context, remoting::ServerConfig::default()).unwrap();
    let error = error(&short(server.local_addr()), &Workload::Send);
    assert!(error.contains("it is no broker"), "{error}");
}

#[test]
fn no_such_process() {
    let server = Server::start();
    let load = Load {
        pid: Some(u32::MAX),
        ..short(server.addr)
    };
    let error = error(&load, &Workload::Send);
    assert!(error.contains("cannot be observed"), "{error}");
}

#[test]
fn a_body_without_room_for_what_receivers_verify() {
    let load = Load {
        body_bytes: 23,
        ..short("127.0.0.1:1".parse().unwrap())
    };
    let workload = Workload::Pull {
        backlog: 1,
        messages_max: 1,
    };
    assert!(error(&load, &workload).contains("at least 24"));
}

#[test]
fn a_rate_of_nothing() {
    let load = Load {
        rate: Some(0),
        ..short("127.0.0.1:1".parse().unwrap())
    };
    assert!(error(&load, &Workload::Send).contains("sends nothing"));
}
