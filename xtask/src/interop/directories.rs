//! Directories change sides: what a Java broker wrote opens in Apogee with every message, offset and query equal, and the other way round.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::mqadmin::first_difference;
use super::toolchain;
use crate::live::{self, Role};
use crate::peer::{self, JavaPeer};
use crate::report::Verdict;

/// Segments small enough that a few megabytes fill several.
const CONFIG: &str = "flushDiskType=ASYNC_FLUSH\nmappedFileSizeCommitLog=4194304\n";

/// Each side begins with an empty directory; the other reads it, and in one of them writes on and gives it back.
pub(crate) fn run() -> Result<Verdict> {
    let work = tempfile::tempdir()?;
    let dir = work.path().join("from-java");
    let java = on_java(&dir, Some("j1"), &["j1"]).context("Java on its own directory")?;
    several_segments(&dir)?;
    let apogee = on_apogee(&dir, None, &["j1"]).context("Apogee on Java's directory")?;
    equal("Apogee reads what Java wrote", &java, &apogee)?;
    let apogee = on_apogee(&dir, Some("a1"), &["j1", "a1"])
        .context("Apogee writes on in Java's directory")?;
    let java =
        on_java(&dir, None, &["j1", "a1"]).context("Java on the directory that came back")?;
    equal("Java reads what both wrote", &java, &apogee)?;

    let dir = work.path().join("from-apogee");
    let apogee = on_apogee(&dir, Some("a2"), &["a2"]).context("Apogee on its own directory")?;
    several_segments(&dir)?;
    let java = on_java(&dir, None, &["a2"]).context("Java on Apogee's directory")?;
    equal("Java reads what Apogee wrote", &java, &apogee)?;
    Ok(Verdict::Passed)
}

fn equal(what: &str, java: &str, apogee: &str) -> Result<()> {
    ensure!(
        java.lines().count() > 100,
        "{what}: the dump is too short to say anything"
    );
    let Some(difference) = first_difference(java, apogee) else {
        eprintln!("   {what}: {} lines equal", java.lines().count());
        return Ok(());
    };
    let kept = toolchain::directory("directories")?;
    fs::write(kept.join("java.txt"), java)?;
    fs::write(kept.join("apogee.txt"), apogee)?;
    bail!("{what}: {difference}; both dumps are in {}", kept.display())
}

/// A Java server on the directory: fills it if told so, dumps it, stops.
fn on_java(dir: &Path, fill: Option<&str>, dump: &[&str]) -> Result<String> {
    fs::create_dir_all(dir)?;
    let server = JavaPeer::start(dir, CONFIG)?;
    let dumped = work_on(dir, &server.nameserver, &server.broker, fill, dump)?;
    server.stop()?;
    stopped_cleanly(dir)?;
    Ok(dumped)
}

/// Apogee on the directory: fills it if told so, dumps it, stops.
fn on_apogee(dir: &Path, fill: Option<&str>, dump: &[&str]) -> Result<String> {
    fs::create_dir_all(dir)?;
    let binary = live::binary()?;
    let nameserver = Role::nameserver(&binary, dir)?;
    let broker = Role::broker(&binary, dir, &nameserver.addr, CONFIG)?;
    live::wait_for_broker(&nameserver.addr)?;
    let dumped = work_on(dir, &nameserver.addr, &broker.addr, fill, dump)?;
    broker.stop()?;
    nameserver.stop()?;
    stopped_cleanly(dir)?;
    Ok(dumped)
}

fn work_on(
    dir: &Path,
    nameserver: &str,
    broker: &str,
    fill: Option<&str>,
    dump: &[&str],
) -> Result<String> {
    let nothing = Path::new("/dev/null");
    if let Some(prefix) = fill {
        peer::program(
            "peer.Fill",
            &[nameserver, broker, prefix],
            nothing,
            &dir.join("fill.out"),
        )?;
    }
    let mut arguments = vec![nameserver, broker];
    arguments.extend(dump);
    peer::program("peer.Dump", &arguments, nothing, &dir.join("dump.out"))
}

fn stopped_cleanly(dir: &Path) -> Result<()> {
    ensure!(
        !dir.join("store/abort").exists(),
        "the server left an abort file behind"
    );
    Ok(())
}

fn several_segments(dir: &Path) -> Result<()> {
    let count = fs::read_dir(dir.join("store/commitlog"))?.count();
    ensure!(count >= 2, "{count} commit log file");
    Ok(())
}
