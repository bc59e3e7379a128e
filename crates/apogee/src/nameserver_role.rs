//! `apogee nameserver`: one name server.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use configuration::KeySet;
use nameserver::{Config, Context, Running, StartError};
use platform::clock::RealClock;
use platform::disk::RealDisk;
use remoting::{Client, ServerConfig};

use crate::args;
use crate::node::{Signals, client, say};
use crate::{advertised, config_file};

/// Runs until a signal comes.
pub(crate) async fn run(args: args::Nameserver) -> anyhow::Result<()> {
    let mut config = Config::default();
    config_file::read_tls(&mut config)?;
    if let Some(path) = &args.config_file {
        config_file::read(path, &mut config)?;
        config.config_store_path = absolute(path)?;
    }
    if let Some(port) = args.port {
        config.listen_port = port;
    }
    if args.print {
        print!("{}", config.to_properties());
        return Ok(());
    }
    let signals = Signals::listen()?;
    let running = start(
        config,
        client(),
        "--port, or listenPort in its configuration file,",
    )?;
    signals.wait().await;
    running.shutdown().await;
    Ok(())
}

/// Starts a name server and says where it listens. `port_flag` is what changes its port.
pub(crate) fn start(config: Config, client: Client, port_flag: &str) -> anyhow::Result<Running> {
    let context = Context {
        disk: Arc::new(RealDisk),
        clock: Arc::new(RealClock::new()),
        client: Some(client),
    };
    let running = nameserver::start(config, context, ServerConfig::default()).map_err(|error| {
        let in_use = matches!(
            &error,
            StartError::Bind { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse
        );
        let error = anyhow::Error::from(error);
        if in_use {
            error.context(format!("{port_flag} takes another port"))
        } else {
            error
        }
    })?;
    let addr = running.local_addr();
    advertised::warn_if_open("name server", addr.ip());
    say(&format!("nameserver: listening on {addr}"));
    Ok(running)
}

/// Changes at run time are written to the file that was given, wherever the process goes.
fn absolute(path: &Path) -> anyhow::Result<String> {
    let path = std::path::absolute(path).with_context(|| format!("the path {}", path.display()))?;
    Ok(path.display().to_string())
}
