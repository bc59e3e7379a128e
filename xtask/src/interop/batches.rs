//! A topic with `queue.type=BatchCQ`: the official client sends batches to it and consumes them, on Apogee and on the Java server with the same
//! assertions, and directories with them change sides, one of them after `kill -9`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::mqadmin::first_difference;
use super::sides::Side;
use super::toolchain;
use crate::live::{self, Role};
use crate::peer;
use crate::report::Verdict;

/// Small segments, and files of a few dozen units, so that there are several of both.
const CONFIG: &str = "flushDiskType=ASYNC_FLUSH\nmappedFileSizeCommitLog=65536\nmapperFileSizeBatchConsumeQueue=1472\n";

/// Each side begins with an empty directory; the other reads it, writes on, and gives it back.
pub(super) fn run() -> Result<Verdict> {
    let binary = live::binary()?;
    for first in [Side::Java, Side::Apogee] {
        let work = tempfile::tempdir()?;
        let dir = work.path();
        let second = first.other();
        let on = |side: Side, step: u32, sends: bool| {
            let mut printed = String::new();
            side.on(dir, &binary, CONFIG, &[], |nameserver| {
                printed = program(dir, nameserver, step, sends)?;
                Ok(())
            })
            .with_context(|| format!("step {step} on {side:?}, in a directory of {first:?}"))?;
            Ok::<_, anyhow::Error>(printed)
        };
        let own = on(first, 0, true)?;
        equal("what was sent first", &own, &on(second, 0, false)?)?;
        let more = on(second, 1, true)?;
        equal("what both sent", &more, &on(first, 1, false)?)?;
        eprintln!(
            "   {first:?}, {second:?}, {first:?}: {} lines equal",
            more.lines().count()
        );
    }
    after_a_kill(&binary)?;
    Ok(Verdict::Passed)
}

/// Apogee is killed, and a Java server goes on in its directory.
fn after_a_kill(binary: &Path) -> Result<()> {
    let work = tempfile::tempdir()?;
    let dir = work.path();
    let nameserver = Role::nameserver(binary, dir)?;
    let broker = Role::broker(binary, dir, &nameserver.addr, CONFIG)?;
    live::wait_for_broker(&nameserver.addr)?;
    let before = program(dir, &nameserver.addr, 0, true)?;
    broker.kill_9()?;
    nameserver.stop()?;
    let mut after = String::new();
    Side::Java.on(dir, binary, CONFIG, &[], |nameserver| {
        after = program(dir, nameserver, 0, false)?;
        Ok(())
    })?;
    equal("what a killed broker left", &before, &after)
}

fn program(dir: &Path, nameserver: &str, step: u32, sends: bool) -> Result<String> {
    let step = step.to_string();
    let action = if sends { "send" } else { "read" };
    let printed = dir.join("batches.out");
    peer::program(
        "peer.Batches",
        &[nameserver, &step, action],
        Path::new("/dev/null"),
        &printed,
    )
}

fn equal(what: &str, one: &str, other: &str) -> Result<()> {
    let Some(difference) = first_difference(one, other) else {
        return Ok(());
    };
    let kept = toolchain::directory("batches")?;
    fs::write(kept.join("one.txt"), one)?;
    fs::write(kept.join("other.txt"), other)?;
    bail!("{what}: {difference}; both are in {}", kept.display())
}
