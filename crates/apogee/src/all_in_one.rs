//! `apogee` without a command: all roles in one process.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use broker::BrokerKeys;
use nameserver::Config;

use crate::args::AllInOne;
use crate::broker_role::{self, Places};
use crate::node::{Signals, client};
use crate::{config_file, demo, nameserver_role};

/// Where data goes when nothing says otherwise.
const DEFAULT_DATA_DIR: &str = "apogee-data";

/// Runs until a signal comes.
pub(crate) async fn run(args: AllInOne) -> anyhow::Result<()> {
    let data_dir = args
        .data_dir
        .clone()
        .unwrap_or_else(|| PathBuf::from(DEFAULT_DATA_DIR));
    let listen_ip = args.listen_ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let mut keys = broker_keys(&args, &data_dir, listen_ip)?;
    let shows_demo = demo::is_wanted(&args, &data_dir);
    let signals = Signals::listen()?;

    let client = client();
    let nameserver = nameserver_role::start(
        nameserver_config(&args, &data_dir, listen_ip, &keys),
        client.clone(),
        "--nameserver-port",
    )?;
    // Calls between the roles need no socket; the address is real all the same, for whoever reads it.
    let nameserver_addr = reachable(nameserver.local_addr()).to_string();
    client.register_local(&nameserver_addr, nameserver.service());
    keys.namesrv_addr = with_address(&keys.namesrv_addr, &nameserver_addr);

    let places = Places {
        port: "--broker-port",
        store: "--data-dir",
    };
    let broker = broker_role::start(keys, client.clone(), args.config_file, &places).await?;
    client.register_local(&broker.broker().identity().advertised, broker.service());

    if shows_demo {
        demo::run(&nameserver_addr, &broker).await;
    }
    signals.wait().await;
    let stopped = broker.shutdown().await;
    nameserver.shutdown().await;
    stopped.context("the broker did not stop cleanly; the next start recovers")
}

/// The one file of a process with all roles is the broker's; what it says of TLS holds for both.
fn nameserver_config(
    args: &AllInOne,
    data_dir: &Path,
    listen_ip: IpAddr,
    broker: &BrokerKeys,
) -> Config {
    let path = |name: &str| data_dir.join("nameserver").join(name).display().to_string();
    Config {
        listen_port: args.nameserver_port,
        bind_address: listen_ip.to_string(),
        kv_config_path: path("kvConfig.json"),
        config_store_path: path("namesrv.properties"),
        tls_server_mode: broker.tls_server_mode.clone(),
        tls_server_cert_path: broker.tls_server_cert_path.clone(),
        tls_server_key_path: broker.tls_server_key_path.clone(),
        tls_test_mode_enable: broker.tls_test_mode_enable,
        ..Config::default()
    }
}

/// What the file says, then what the command line says; where both are silent, loopback and the data directory.
fn broker_keys(args: &AllInOne, data_dir: &Path, listen_ip: IpAddr) -> anyhow::Result<BrokerKeys> {
    let mut keys = BrokerKeys {
        bind_address: listen_ip.to_string(),
        store_path_root_dir: data_dir.join("store").display().to_string(),
        ..BrokerKeys::default()
    };
    config_file::read_tls(&mut keys)?;
    if let Some(path) = &args.config_file {
        config_file::read(path, &mut keys)?;
    }
    if let Some(ip) = args.listen_ip {
        keys.bind_address = ip.to_string();
    }
    if let Some(port) = args.broker_port {
        keys.listen_port = port;
    }
    Ok(keys)
}

/// An address to connect to: a server that listens everywhere is reached on loopback.
fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}

/// The list with one more address, unless it is there.
fn with_address(list: &str, addr: &str) -> String {
    let mut addrs: Vec<&str> = list
        .split(';')
        .map(str::trim)
        .filter(|addr| !addr.is_empty())
        .collect();
    if !addrs.contains(&addr) {
        addrs.insert(0, addr);
    }
    addrs.join(";")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_name_server_joins_those_of_the_file() {
        assert_eq!(with_address("", "a:1"), "a:1");
        assert_eq!(with_address("b:1; a:1", "a:1"), "b:1;a:1");
        assert_eq!(with_address("b:1", "a:1"), "a:1;b:1");
    }

    #[test]
    fn a_server_that_listens_everywhere_is_reached_on_loopback() {
        let check = |listening: &str, want: &str| {
            assert_eq!(reachable(listening.parse().unwrap()).to_string(), want);
        };
        check("0.0.0.0:1", "127.0.0.1:1");
        check("[::]:1", "[::1]:1");
        check("10.0.0.5:1", "10.0.0.5:1");
    }
}
