//! The gate on instruction counts: what a message costs on the paths that every message takes, counted by callgrind.
//!
//! Instructions, not time: they are the same on a busy machine and on an idle one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::{cargo, root, run, target_dir};
use crate::report::Verdict;

/// Each path is taken this often and twice as often; the difference is what it costs.
const TIMES: u64 = 6400;
/// What another version of the compiler may change, in percent.
const TOLERANCE_PERCENT: f64 = 3.0;

/// Counts and compares. With `accept`, the counts become the expected ones.
///
/// # Errors
/// When a path costs more than it did.
pub(crate) fn check(accept: bool) -> Result<Verdict> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        return Ok(Verdict::NotRun("valgrind is not installed".to_owned()));
    }
    run(&mut cargo(&[
        "build",
        "--release",
        "--quiet",
        "--package",
        "storage",
        "--example",
        "instructions",
    ]))?;
    let program = target_dir().join("release/examples/instructions");
    let expected = expected()?;
    let dir = tempfile::tempdir()?;
    let mut counted = BTreeMap::new();
    let mut failures = Vec::new();
    for (path, before) in &expected {
        let once = count(&program, path, TIMES, dir.path())?;
        let twice = count(&program, path, 2 * TIMES, dir.path())?;
        let now = twice.saturating_sub(once) as f64 / TIMES as f64;
        let change = (now / before - 1.0) * 100.0;
        eprintln!(
            "   {path:<22} {now:>7.0} instructions, {change:+.1} % against {before:.0} accepted"
        );
        if change > TOLERANCE_PERCENT {
            failures.push(format!(
                "{path} costs {now:.0} instructions instead of {before:.0}"
            ));
        }
        counted.insert(path.clone(), now);
    }
    if accept {
        fs::write(file(), text(&counted))?;
    } else if !failures.is_empty() {
        bail!(
            "{}; find out why, or accept it with `cargo xtask instructions accept`",
            failures.join("; ")
        );
    }
    Ok(Verdict::Passed)
}

/// Instructions of one run, threads of the store included.
fn count(program: &Path, path: &str, times: u64, dir: &Path) -> Result<u64> {
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!(
            "--callgrind-out-file={}",
            dir.join("callgrind.out").display()
        ))
        .arg(program)
        .args([path, &times.to_string()])
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{path} under valgrind: {said}");
    let collected = said
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let (_, count) = collected.with_context(|| format!("valgrind gave no count: {said}"))?;
    Ok(count.trim().parse()?)
}

fn file() -> PathBuf {
    root().join("xtask/instructions.txt")
}

/// Lines of a path and its count.
fn expected() -> Result<BTreeMap<String, f64>> {
    let text = fs::read_to_string(file())?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (path, count) = line.split_once(' ').context(line.to_owned())?;
            Ok((path.to_owned(), count.trim().parse()?))
        })
        .collect()
}

fn text(counted: &BTreeMap<String, f64>) -> String {
    let mut text =
        String::from("# Instructions a message, written by `cargo xtask instructions accept`.\n");
    for (path, count) in counted {
        let _ = writeln!(text, "{path} {count:.0}");
    }
    text
}
