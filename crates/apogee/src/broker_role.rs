//! `apogee broker`: one broker.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use broker::{Broker, BrokerKeys, Context, Running, StartError};
use configuration::KeySet;
use platform::clock::RealClock;
use platform::disk::RealDisk;
use remoting::Client;

use crate::args;
use crate::node::{Signals, client, say};
use crate::{advertised, config_file};

/// The keys that `-m` prints: those which decide where a broker is and what it promises.
/// Source: Java 5.3.3: the fields marked `ImportantField` in `BrokerConfig` and `MessageStoreConfig`, as far as they exist here.
const IMPORTANT: &[&str] = &[
    "autoCreateSubscriptionGroup",
    "autoCreateTopicEnable",
    "brokerClusterName",
    "brokerId",
    "brokerIP1",
    "brokerIP2",
    "brokerName",
    "brokerPermission",
    "defaultTopicQueueNums",
    "deleteWhen",
    "diskMaxUsedSpaceRatio",
    "fileReservedTime",
    "flushDiskType",
    "flushIntervalCommitLog",
    "listenPort",
    "maxTransferBytesOnMessageInDisk",
    "maxTransferBytesOnMessageInMemory",
    "maxTransferCountOnMessageInDisk",
    "maxTransferCountOnMessageInMemory",
    "namesrvAddr",
    "storePathCommitLog",
    "storePathRootDir",
];

/// Runs until a signal comes.
pub(crate) async fn run(args: args::Broker) -> anyhow::Result<()> {
    let mut keys = BrokerKeys::default();
    config_file::read_tls(&mut keys)?;
    if let Some(path) = &args.config_file {
        config_file::read(path, &mut keys)?;
    }
    if let Some(nameservers) = &args.nameservers {
        keys.namesrv_addr = nameservers.trim().to_owned();
    } else if keys.namesrv_addr.is_empty() {
        keys.namesrv_addr = std::env::var("NAMESRV_ADDR").unwrap_or_default();
    }
    if args.print || args.print_important {
        print!("{}", printed(&keys, !args.print));
        return Ok(());
    }
    if keys.namesrv_addr.is_empty() {
        tracing::warn!(
            "no name server is known, so clients cannot find this broker; give some with -n, namesrvAddr or NAMESRV_ADDR"
        );
    }
    let signals = Signals::listen()?;
    let places = Places {
        port: "listenPort in its configuration file",
        store: "storePathRootDir in its configuration file",
    };
    let running = start(keys, client(), args.config_file, &places).await?;
    signals.wait().await;
    running
        .shutdown()
        .await
        .context("the broker did not stop cleanly; the next start recovers")
}

fn printed(keys: &BrokerKeys, important_only: bool) -> String {
    let all = keys.to_properties();
    let wanted = |line: &&str| {
        !important_only
            || line
                .split_once('=')
                .is_some_and(|(key, _)| IMPORTANT.contains(&key))
    };
    all.lines()
        .filter(wanted)
        .map(|line| format!("{line}\n"))
        .collect()
}

/// What the user changes when a place is taken.
pub(crate) struct Places {
    pub(crate) port: &'static str,
    pub(crate) store: &'static str,
}

/// Starts a broker and says where it listens and what clients are told.
pub(crate) async fn start(
    keys: BrokerKeys,
    client: Client,
    config_file: Option<PathBuf>,
    places: &Places,
) -> anyhow::Result<Running> {
    let context = Context {
        disk: Arc::new(RealDisk),
        clock: Arc::new(RealClock::new()),
        client: Arc::new(client),
        config_file: config_file.map(std::path::absolute).transpose()?,
    };
    let nameservers = keys.namesrv_addr.clone();
    let running = Broker::start(keys, context)
        .await
        .map_err(|error| explained(&error, places))?;
    let identity = running.broker().identity();
    advertised::warn_if_open("broker", running.local_addr().ip());
    advertised::check(identity.address);
    let whom = if nameservers.is_empty() {
        String::new()
    } else {
        format!(", to {nameservers}")
    };
    say(&format!(
        "broker {}: listening on {}, advertised as {}{whom}",
        identity.name,
        running.local_addr(),
        identity.advertised
    ));
    Ok(running)
}

/// The error with what changes it.
fn explained(error: &StartError, places: &Places) -> anyhow::Error {
    match error {
        StartError::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
            anyhow!("the broker {error}; {} takes another port", places.port)
        }
        StartError::Store(storage::OpenError::Locked { .. }) => {
            anyhow!(
                "{error}; stop it, or take another directory with {}",
                places.store
            )
        }
        _ => anyhow!("the broker cannot start: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn important_keys_are_keys() {
        let keys = BrokerKeys::default();
        for name in IMPORTANT {
            assert!(keys.get(name).is_some(), "{name}");
        }
        assert_eq!(printed(&keys, true).lines().count(), IMPORTANT.len());
        assert!(printed(&keys, false).lines().count() > IMPORTANT.len());
    }
}
