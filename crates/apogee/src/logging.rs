//! The log: to stderr, one line an event.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::args::Command;

/// Starts the log. Servers say what happens to them; commands only what goes wrong, since their output is what was asked for.
pub(crate) fn start(level: Option<&str>, command: &Command) {
    let default = match command {
        Command::Admin(_) | Command::Bench(_) => "warn",
        // Connections come and go all the time; of those, only what is wrong with one is worth a line.
        Command::AllInOne(_) | Command::Nameserver(_) | Command::Broker(_) => "info,remoting=warn",
    };
    let filter = match (level, std::env::var("RUST_LOG")) {
        (Some(level), _) => level.to_owned(),
        (None, Ok(level)) if !level.is_empty() => level,
        _ => default.to_owned(),
    };
    let (filter, problem) = match EnvFilter::try_new(&filter) {
        Ok(filter) => (filter, None),
        Err(error) => (
            EnvFilter::new(default),
            Some(format!("log level {filter}: {error}")),
        ),
    };
    tracing_subscriber::fmt()
        .compact()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    if let Some(problem) = problem {
        tracing::warn!("{problem}; logging at {default}");
    }
}
