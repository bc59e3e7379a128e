//! Compaction topics on the official Java clients, with the same assertions on both servers; on Apogee over a `kill -9` too.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::clients;
use super::sides::{End, Side};
use crate::live;
use crate::peer;
use crate::report::Verdict;

/// A Java broker compacts files that are full, of 100 MB unless it is told otherwise, and at least of five times the other size; Apogee passes over both.
const CONFIG: &str = "compactionScheduleInternal=500\ncompactionMappedFileSize=32768\ncompactionCqMappedFileSize=4600\nflushDiskType=ASYNC_FLUSH\n";
const CLIENTS: &[&str] = &["java-4.9.8", "java-5.3.3"];
const LIMIT: Duration = Duration::from_secs(180);

pub(super) fn run() -> Result<Verdict> {
    let binary = live::binary()?;
    for client in CLIENTS {
        clients::named(client).context("in the list")?.command()?;
    }
    thread::scope(|scope| {
        let sides = [Side::Apogee, Side::Java].map(|side| {
            let binary = &binary;
            scope.spawn(move || on(side, binary).with_context(|| format!("on {side:?}")))
        });
        let joined = sides
            .into_iter()
            .map(|each| each.join().expect("a side does not panic"));
        joined.collect::<Result<Vec<()>>>()
    })?;
    Ok(Verdict::Passed)
}

/// A crash amid a replacement of its files keeps a Java broker from starting, so that it is not killed.
fn on(side: Side, binary: &Path) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let end = match side {
        Side::Apogee => End::Killed,
        Side::Java => End::Stopped,
    };
    let part = |nameserver: &str, name: &str| {
        clients::run_part(CLIENTS, name, nameserver, dir.path(), LIMIT)
    };
    // Ids of messages hold the port of the broker that stored them.
    let config = match side {
        Side::Apogee => format!("{CONFIG}listenPort={}\n", peer::free_port(&[0])?),
        Side::Java => CONFIG.to_owned(),
    };
    side.until(dir.path(), binary, &config, end, |nameserver| {
        for client in CLIENTS {
            let topic = format!("{}_compacted", clients::prefix(client));
            clients::create_compaction_topic(binary, nameserver, &topic, 1)?;
        }
        part(nameserver, "compact")
    })?;
    side.until(dir.path(), binary, &config, End::Stopped, |nameserver| {
        let name = match side {
            Side::Apogee => "exact",
            Side::Java => "compacted",
        };
        part(nameserver, name).context("after it was started again")
    })
}
