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
        fs::create_dir_all(dir)?;
        let create = |nameserver: &str| {
            let mut topics = topics.iter();
            topics.try_for_each(|topic| create_topic(binary, nameserver, topic, 1))
        };
        match self {
            Side::Java => {
                let peer = JavaPeer::start(dir, config)?;
                create(&peer.nameserver)?;
                work(&peer.nameserver)?;
                peer.stop()
            }
            Side::Apogee => {
                let nameserver = Role::nameserver(binary, dir)?;
                let broker = Role::broker(binary, dir, &nameserver.addr, config)?;
                live::wait_for_broker(&nameserver.addr)?;
                create(&nameserver.addr)?;
                work(&nameserver.addr)?;
                broker.stop()?;
                nameserver.stop()
            }
        }
    }
}
