//! Directories that change sides while official clients have popped messages and not acknowledged them, and timer messages and delayed ones wait.

use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::clients;
use super::request_modes::{self, Pops};
use super::sides::Side;
use crate::live;
use crate::report::Verdict;

/// The first delay level lasts as long as the program's timer messages wait.
const CONFIG: &str = "flushDiskType=ASYNC_FLUSH\ntimerWheelEnable=true\nmessageDelayLevel=30s 1h\n";
/// Older ones cannot pop.
const CLIENT: &str = "java-5.3.3";
const TOPICS: &[(&str, u32)] = &[("pending_pops", 1), ("pending_timers", 1)];
const LIMIT: Duration = Duration::from_secs(180);

/// From Apogee to Java and from Java to Apogee, both at once.
pub(super) fn run() -> Result<Verdict> {
    let binary = live::binary()?;
    clients::named(CLIENT).context("in the list")?.command()?;
    thread::scope(|scope| {
        let orders = [Side::Apogee, Side::Java].map(|first| {
            let binary = &binary;
            scope.spawn(move || change(first, binary))
        });
        let joined = orders
            .into_iter()
            .map(|each| each.join().expect("an order of sides does not panic"));
        joined.collect::<Result<Vec<()>>>()
    })?;
    Ok(Verdict::Passed)
}

fn change(first: Side, binary: &Path) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let dir = tempfile::tempdir()?;
    let second = first.other();
    let part = |nameserver: &str, name: &str| {
        clients::run_part(&[CLIENT], name, nameserver, dir.path(), LIMIT)
            .with_context(|| format!("from {first:?} to {second:?}"))
    };
    first.on(dir.path(), binary, CONFIG, &[], |nameserver| {
        clients::create_topics(binary, nameserver, CLIENT, TOPICS)?;
        let prefix = clients::prefix(CLIENT);
        let pops = Pops {
            topic: format!("{prefix}_pending_pops"),
            group: format!("g_{prefix}_pending_pops"),
            retries_max: 16,
        };
        runtime.block_on(request_modes::set(nameserver, &[pops]))?;
        part(nameserver, "leave")
    })?;
    let started_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    second.on(dir.path(), binary, CONFIG, &[], |nameserver| {
        part(nameserver, &format!("find-{started_ms}"))
    })?;
    eprintln!("   from {first:?} to {second:?}: what was popped, timed and delayed came");
    Ok(())
}
