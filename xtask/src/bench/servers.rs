//! The servers side by side: the floor program, Apogee, the Java broker, each with a store of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::live::Role;
use crate::peer::JavaPeer;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Side {
    Floor,
    Apogee,
    Java,
}

/// When a send is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flush {
    Async,
    Sync,
}

impl Flush {
    fn line(self) -> &'static str {
        match self {
            Flush::Async => "flushDiskType=ASYNC_FLUSH\n",
            Flush::Sync => "flushDiskType=SYNC_FLUSH\n",
        }
    }
}

/// A running server. Ended by id when dropped.
pub(super) struct Server {
    pub(super) side: Side,
    pub(super) addr: SocketAddr,
    pub(super) pid: u32,
    process: Process,
    dir: TempDir,
}

enum Process {
    Floor(#[expect(dead_code, reason = "it ends when dropped")] Floor),
    Apogee { nameserver: Role, broker: Role },
    Java(JavaPeer),
}

impl Server {
    /// Starts one on a fresh directory.
    pub(super) fn start(binary: &Path, side: Side, flush: Flush) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let (addr, pid, process) = match side {
            Side::Floor => {
                let (floor, addr) = Floor::start(binary, dir.path(), flush)?;
                (addr, floor.0.id(), Process::Floor(floor))
            }
            Side::Apogee => {
                let nameserver_dir = dir.path().join("nameserver");
                std::fs::create_dir_all(&nameserver_dir)?;
                let nameserver = Role::nameserver(binary, &nameserver_dir)?;
                let lines = format!("{}diskMaxUsedSpaceRatio=95\n", flush.line());
                let broker = Role::broker(binary, dir.path(), &nameserver.addr, &lines)?;
                let addr = broker.addr.parse()?;
                (addr, broker.pid(), Process::Apogee { nameserver, broker })
            }
            Side::Java => {
                // Java refuses SQL92 unless told; here it is on.
                let lines = format!("{}enablePropertyFilter=true\n", flush.line());
                let peer = JavaPeer::start(dir.path(), &lines)?;
                (peer.broker.parse()?, peer.broker_pid(), Process::Java(peer))
            }
        };
        Ok(Self {
            side,
            addr,
            pid,
            process,
            dir,
        })
    }

    /// Where its messages lie.
    pub(super) fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// A clean stop.
    pub(super) fn stop(self) -> Result<()> {
        match self.process {
            Process::Floor(_) => Ok(()),
            Process::Apogee { nameserver, broker } => {
                broker.stop()?;
                nameserver.stop()
            }
            Process::Java(peer) => peer.stop(),
        }
    }
}

/// The floor program as a process, ended by id when dropped.
struct Floor(Child);

impl Floor {
    fn start(binary: &Path, dir: &Path, flush: Flush) -> Result<(Self, SocketAddr)> {
        let mut command = Command::new(binary);
        command
            .args(["bench", "floor", "--file"])
            .arg(dir.join("floor.dat"));
        if flush == Flush::Sync {
            command.arg("--sync");
        }
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let this = Self(child);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let addr = line.trim().rsplit(' ').next().unwrap_or_default();
        let addr = addr
            .parse()
            .with_context(|| format!("the floor said {line:?}"))?;
        Ok((this, addr))
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // Ended already, or ended here: nothing else could be done about it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
