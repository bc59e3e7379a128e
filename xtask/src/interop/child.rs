//! A process that this run started: its output kept in a file, its readiness waited for, its end certain.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);
/// How long a process has to end after SIGTERM before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// Killed when dropped.
pub(crate) struct Running {
    child: Child,
    name: String,
    output: PathBuf,
}

impl Running {
    /// Starts `command` with stdout and stderr in `output`, which is begun anew.
    pub(crate) fn start(name: &str, command: &mut Command, output: &Path) -> Result<Running> {
        let file = created(output)?;
        command.stdin(Stdio::null()).stderr(file.try_clone()?);
        Self::spawn(name, command.stdout(file), output)
    }

    /// Starts `command`, whose input is set, with stdout in `output` and stderr in `errors`.
    pub(crate) fn start_apart(
        name: &str,
        command: &mut Command,
        output: &Path,
        errors: &Path,
    ) -> Result<Running> {
        command.stderr(created(errors)?);
        Self::spawn(name, command.stdout(created(output)?), output)
    }

    fn spawn(name: &str, command: &mut Command, output: &Path) -> Result<Running> {
        let child = command
            .spawn()
            .with_context(|| format!("{command:?} cannot be started"))?;
        Ok(Running {
            child,
            name: name.to_owned(),
            output: output.to_owned(),
        })
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub(crate) fn printed(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(&self.output)?).into_owned())
    }

    /// Waits until `found` makes something of a printed line.
    pub(crate) fn wait_for<T>(
        &mut self,
        what: &str,
        limit: Duration,
        found: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            // Asked before the output is read, so that the last lines of a process that ended are seen.
            let ended = self.child.try_wait()?;
            let printed = self.printed()?;
            let complete = printed.rfind('\n').map_or("", |end| &printed[..end]);
            if let Some(value) = complete.lines().find_map(&found) {
                return Ok(value);
            }
            if let Some(status) = ended {
                bail!(
                    "{} ended with {status} before {what}:\n{}",
                    self.name,
                    tail(&printed)
                );
            }
            if Instant::now() > deadline {
                bail!(
                    "{}: no {what} within {limit:?}:\n{}",
                    self.name,
                    tail(&printed)
                );
            }
            thread::sleep(POLL);
        }
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(
                Instant::now() < deadline,
                "{} did not end within {limit:?}:\n{}",
                self.name,
                tail(&self.printed()?)
            );
            thread::sleep(POLL);
        }
    }

    /// SIGTERM, then its end. Java says 143 where others say 0.
    pub(crate) fn stop(mut self) -> Result<()> {
        let id = self.pid().to_string();
        crate::cargo::run(Command::new("kill").args(["-TERM", &id]))?;
        let status = self.wait(STOP_LIMIT)?;
        ensure!(
            status.success() || status.code() == Some(143),
            "{} stopped with {status}:\n{}",
            self.name,
            tail(&self.printed()?)
        );
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where `stop` was called.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn created(path: &Path) -> Result<File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    File::create(path).with_context(|| format!("creating {}", path.display()))
}

/// The last lines of an output: enough for a person to see what went wrong.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
