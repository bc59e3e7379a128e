//! The two servers that scenarios are run against, one after the other or in turn on one directory.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::clients::create_topic;
use crate::live::{self, Role};
use crate::peer::JavaPeer;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Apogee,
    Java,
}

/// How a server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// SIGTERM: it writes what it has to.
    Stopped,
    /// `kill -9` of the broker.
    Killed,
}

impl Side {
    /// The one that this is not.
    pub(super) fn other(self) -> Side {
        match self {
            Side::Apogee => Side::Java,
            Side::Java => Side::Apogee,
        }
    }

    /// Starts the server on the directory with these lines of configuration, creates topics of one queue, works with the address of its name
    /// server, and stops it cleanly.
    pub(super) fn on(
        self,
        dir: &Path,
        binary: &Path,
        config: &str,
        topics: &[&str],
        work: impl FnOnce(&str) -> Result<()>,
    ) -> Result<()> {
        self.until(dir, binary, config, End::Stopped, |nameserver| {
            for topic in topics {
                create_topic(binary, nameserver, topic, 1)?;
            }
            work(nameserver)
        })
    }

    /// Starts the server on the directory with these lines of configuration, works with the address of its name server, and ends it.
    pub(super) fn until(
        self,
        dir: &Path,
        binary: &Path,
        config: &str,
        end: End,
        work: impl FnOnce(&str) -> Result<()>,
    ) -> Result<()> {
        fs::create_dir_all(dir)?;
        match self {
            Side::Java => {
                let peer = JavaPeer::start(dir, config)?;
                work(&peer.nameserver)?;
                match end {
                    End::Stopped => peer.stop(),
                    End::Killed => peer.kill_9(),
                }
            }
            Side::Apogee => {
                let nameserver = Role::nameserver(binary, dir)?;
                let broker = Role::broker(binary, dir, &nameserver.addr, config)?;
                live::wait_for_broker(&nameserver.addr)?;
                work(&nameserver.addr)?;
                match end {
                    End::Stopped => broker.stop()?,
                    End::Killed => broker.kill_9()?,
                }
                nameserver.stop()
            }
        }
    }
}
