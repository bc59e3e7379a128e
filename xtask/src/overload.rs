//! More than a broker can take, beside clients that hold its memory: `apogee bench overload` against a broker of its own.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::live::{self, Role};

/// Below this the machine is taken to do other work meanwhile: latencies are reported and not judged.
const JUDGED_FROM_SECONDS: u64 = 60;
/// Consumers that read nothing, and frames that do not end.
const DEAF_CONSUMERS: &str = "20";
const HALF_FRAMES: &str = "60";

/// An overload of `seconds`.
///
/// # Errors
/// When a promise is broken.
pub(crate) fn campaign(seconds: u64) -> Result<()> {
    let binary = live::binary()?;
    let begin = Instant::now();
    let dir = tempfile::tempdir()?;
    let nameserver_dir = dir.path().join("nameserver");
    std::fs::create_dir_all(&nameserver_dir)?;
    let nameserver = Role::nameserver(&binary, &nameserver_dir)?;
    let lines = "diskMaxUsedSpaceRatio=99\n";
    let broker = Role::broker(&binary, dir.path(), &nameserver.addr, lines)?;
    let (pid, seconds_word) = (broker.pid().to_string(), seconds.to_string());
    let mut load = Command::new(&binary);
    load.args(["bench", "overload", "--target", &broker.addr, "--pid", &pid])
        .args(["--seconds", &seconds_word, "--calm", "2"])
        .args(["--deaf-consumers", DEAF_CONSUMERS])
        .args(["--half-frames", HALF_FRAMES]);
    if seconds < JUDGED_FROM_SECONDS {
        load.arg("--no-latency-check");
    }
    let status = load.status()?;
    ensure!(status.success(), "the overload ended with {status}");
    broker.stop()?;
    nameserver.stop()?;
    eprintln!("overload: {:.0} s", begin.elapsed().as_secs_f64());
    Ok(())
}
