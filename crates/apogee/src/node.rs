//! A process that serves: its runtime, its signals, its end.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use remoting::{Client, ClientConfig, NoPushes};
use tokio::signal::unix::{SignalKind, signal};

/// Signals this soon after the first are the same wish: a supervisor signals a process and its group, a terminal's Ctrl-C
/// reaches a program and the shell that passes it on.
const SAME_WISH: Duration = Duration::from_secs(1);

/// Runs a role to its end, on as many threads as there are cores.
pub(crate) fn run(role: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(role)?;
    Ok(ExitCode::SUCCESS)
}

/// The signals that end a process. Taken before anything starts, so that none is missed.
pub(crate) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    pub(crate) fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Returns at SIGTERM or SIGINT. Another one, while the roles stop, ends the process at once.
    pub(crate) async fn wait(mut self) {
        self.next().await;
        tracing::info!("stopping; once more to stop at once");
        tokio::spawn(async move {
            let asked_at = Instant::now();
            self.next().await;
            while asked_at.elapsed() < SAME_WISH {
                self.next().await;
            }
            tracing::warn!("stopped at once: the next start recovers");
            std::process::exit(130);
        });
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A client for the calls between roles. Roles serve requests on their own ports, so nothing is pushed to it.
pub(crate) fn client() -> Client {
    Client::new(ClientConfig::default(), Arc::new(NoPushes))
}

/// Prints a line for people and for programs that wait for it. A closed stdout is no reason to stop serving.
pub(crate) fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}");
    let _ = stdout.flush();
}
