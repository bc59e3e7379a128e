//! The two servers that scenarios are run against, one after the other or in turn on one directory.

use std::fs;
use std::path::Path;

use anyhow::Result;

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

    /// Starts the server on the directory with these lines of configuration, works with the address of its name server, and stops it cleanly.
    pub(super) fn on(
        self,
        dir: &Path,
        binary: &Path,
        config: &str,
        work: impl FnOnce(&str) -> Result<()>,
    ) -> Result<()> {
        fs::create_dir_all(dir)?;
        match self {
            Side::Java => {
                let peer = JavaPeer::start(dir, config)?;
                work(&peer.nameserver)?;
                peer.stop()
            }
            Side::Apogee => {
                let nameserver = Role::nameserver(binary, dir)?;
                let broker = Role::broker(binary, dir, &nameserver.addr, config)?;
                live::wait_for_broker(&nameserver.addr)?;
                work(&nameserver.addr)?;
                broker.stop()?;
                nameserver.stop()
            }
        }
    }
}
