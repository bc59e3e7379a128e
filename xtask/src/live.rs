//! Apogee's roles as processes on free ports, ended by id when dropped.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::cargo::{cargo, run, target_dir};

/// How long a role may take until it says that it accepts connections.
const START_MAX: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);
/// The topic that every broker registers, from which others are created.
const AUTO_CREATE_TOPIC: &str = "TBW102";

/// Builds the release binary once and says where it is.
///
/// # Errors
/// When the build fails.
pub(crate) fn binary() -> Result<PathBuf> {
    run(&mut cargo(&[
        "build",
        "--release",
        "--quiet",
        "--package",
        "apogee",
    ]))?;
    Ok(target_dir().join("release/apogee"))
}

/// Returns when the name server knows a broker. One that has started tells it a moment later, and until then there is
/// nothing to create topics on.
///
/// # Errors
/// When none has registered in time.
pub(crate) fn wait_for_broker(nameserver: &str) -> Result<()> {
    let known = async {
        let reader = client::PullConsumer::new("route", nameserver)?;
        let deadline = Instant::now() + START_MAX;
        while let Err(error) = reader.queues(AUTO_CREATE_TOPIC).await {
            if Instant::now() > deadline {
                return Err(anyhow!(error).context("no broker has registered"));
            }
            tokio::time::sleep(POLL).await;
        }
        reader.shutdown().await;
        Ok(())
    };
    // On a thread of its own, so that callers within a runtime may wait too.
    thread::scope(|scope| {
        let waiting = scope.spawn(|| tokio::runtime::Runtime::new()?.block_on(known));
        waiting.join().expect("the waiting thread does not panic")
    })
}

/// A running role.
pub(crate) struct Role {
    child: Child,
    /// Where it listens, `host:port`.
    pub(crate) addr: String,
}

impl Role {
    /// A name server on a free port.
    ///
    /// # Errors
    /// When it does not say in time that it listens; its last words are in the error.
    pub(crate) fn nameserver(binary: &Path, dir: &Path) -> Result<Self> {
        let config = dir.join("namesrv.conf");
        let kv = dir.join("kvConfig.json");
        fs::write(
            &config,
            format!(
                "bindAddress=127.0.0.1\nlistenPort=0\nkvConfigPath={}\n",
                kv.display()
            ),
        )?;
        let mut command = Command::new(binary);
        command.arg("nameserver").arg("-c").arg(&config);
        Starting::begin(command, "name server", dir)?.listening()
    }

    /// A broker on a free port, with its store in `dir/store` and these further lines of configuration.
    ///
    /// # Errors
    /// When it does not say in time that it listens; its last words are in the error.
    pub(crate) fn broker(binary: &Path, dir: &Path, nameserver: &str, lines: &str) -> Result<Self> {
        Self::broker_begins(binary, dir, nameserver, lines)?.listening()
    }

    /// The same without waiting until it listens.
    ///
    /// # Errors
    /// When it cannot be started at all.
    pub(crate) fn broker_begins(
        binary: &Path,
        dir: &Path,
        nameserver: &str,
        lines: &str,
    ) -> Result<Starting> {
        let config = dir.join("broker.conf");
        let store = dir.join("store");
        fs::write(
            &config,
            format!(
                "brokerClusterName=DefaultCluster\nbrokerName=broker-a\nbrokerId=0\nbindAddress=127.0.0.1\n\
                 brokerIP1=127.0.0.1\nlistenPort=0\nstorePathRootDir={}\n{lines}",
                store.display()
            ),
        )?;
        let mut command = Command::new(binary);
        command
            .arg("broker")
            .arg("-c")
            .arg(&config)
            .args(["-n", nameserver]);
        Starting::begin(command, "broker", dir)
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits until the process is gone.
    ///
    /// # Errors
    /// When the process cannot be ended.
    pub(crate) fn kill_9(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, without waiting.
    ///
    /// # Errors
    /// When the process cannot be told.
    pub(crate) fn terminate(&self) -> Result<()> {
        let status = Command::new("kill").arg(self.pid().to_string()).status()?;
        if !status.success() {
            bail!("process {} cannot be told to stop", self.pid());
        }
        Ok(())
    }

    /// SIGTERM, and waits until the process is gone.
    ///
    /// # Errors
    /// When it ends with another code than 0.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.terminate()?;
        let status = self.child.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(anyhow!("the role ended with {status}"))
        }
    }
}

/// A role that was started and has not said yet that it listens.
pub(crate) struct Starting {
    role: Role,
    name: &'static str,
    log_path: PathBuf,
    lines: mpsc::Receiver<String>,
}

impl Starting {
    fn begin(mut command: Command, name: &'static str, dir: &Path) -> Result<Self> {
        let log_path = dir.join(format!("{}.log", name.replace(' ', "-")));
        let log = File::options().create(true).append(true).open(&log_path)?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("{command:?} cannot be started"))?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let (said, lines) = mpsc::channel();
        // Reads to the end, so that the role never blocks on a full pipe; ends with the role.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if said.send(line).is_err() {
                    continue;
                }
            }
        });
        let role = Role {
            child,
            addr: String::new(),
        };
        Ok(Self {
            role,
            name,
            log_path,
            lines,
        })
    }

    /// Waits until it listens.
    ///
    /// # Errors
    /// When it does not say so in time; its last words are in the error.
    pub(crate) fn listening(mut self) -> Result<Role> {
        loop {
            let Ok(line) = self.lines.recv_timeout(START_MAX) else {
                let log = fs::read_to_string(&self.log_path).unwrap_or_default();
                let tail = log.lines().rev().take(5).collect::<Vec<_>>().join("\n");
                let name = self.name;
                bail!("the {name} did not start; its log ends with (newest first)\n{tail}");
            };
            if let Some(addr) = listening_address(&line) {
                self.role.addr = addr.to_owned();
                return Ok(self.role);
            }
        }
    }

    /// `kill -9`, and waits until the process is gone.
    ///
    /// # Errors
    /// When the process cannot be ended.
    pub(crate) fn kill_9(self) -> Result<()> {
        self.role.kill_9()
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        // Ended already, or ended here: nothing else could be done about it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in a line like `broker broker-a: listening on 127.0.0.1:10911, advertised as …`.
fn listening_address(line: &str) -> Option<&str> {
    let rest = line.split_once("listening on ")?.1;
    Some(rest.split([',', ' ']).next().unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_the_line() {
        let line = "broker broker-a: listening on 127.0.0.1:10911, advertised as 127.0.0.1:10911";
        assert_eq!(listening_address(line), Some("127.0.0.1:10911"));
        assert_eq!(listening_address("starting"), None);
    }
}
