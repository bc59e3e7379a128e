//! Fuzzing on the stable toolchain: builds the targets of `fuzz/` with libFuzzer and runs each for its share of the time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::{cargo, root, run};

/// What cargo-fuzz passes to the compiler, without the address sanitizer: that one needs the nightly toolchain, and there is no `unsafe` in
/// what is fuzzed. Debug assertions are on, so that overflow and broken invariants are found.
const FLAGS: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
];
/// A target that needs more memory than this has a leak, or trusts a length.
const RSS_MB_MAX: u32 = 1024;
/// One allocation above this can only come from a length that was not checked: inputs are far smaller.
const ALLOCATION_MB_MAX: u32 = 64;
/// Longest input.
const INPUT_BYTES_MAX: u32 = 16 << 10;
/// One input may take this long.
const INPUT_SECONDS_MAX: u32 = 10;

/// What became of one target.
struct Ran {
    target: String,
    executions: u64,
    seconds: f64,
    coverage: String,
    peak_rss_mb: String,
}

/// Runs every target; together they take `seconds`.
///
/// # Errors
/// When a target does not build, or an input makes one fail: the message names the file that holds it.
pub(crate) fn campaign(seconds: u64) -> Result<()> {
    let targets = targets()?;
    let binaries = build()?;
    let share = (seconds / targets.len() as u64).max(1);
    let mut ran = Vec::new();
    for target in targets {
        let corpus = seed(&target)?;
        ran.push(fuzz(&binaries, &target, &corpus, share)?);
    }
    print(&ran);
    Ok(())
}

/// Names of the targets, one a file.
fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root().join("fuzz/fuzz_targets"))? {
        let path = entry?.path();
        if let Some(name) = path.file_stem().and_then(|name| name.to_str()) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    ensure!(!names.is_empty(), "fuzz/fuzz_targets is empty");
    Ok(names)
}

/// Builds the targets; gives the directory they are in.
fn build() -> Result<PathBuf> {
    let host = host()?;
    let target_dir = root().join("fuzz/target");
    // With `--target` the flags stay away from build scripts and procedural macros.
    let mut build = cargo(&["build", "--release", "--bins", "--quiet", "--target", &host]);
    build
        .arg("--manifest-path")
        .arg(root().join("fuzz/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target_dir)
        .env("RUSTFLAGS", FLAGS.join(" "));
    run(&mut build)?;
    Ok(target_dir.join(host).join("release"))
}

/// The machine's target triple.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .arg("-vV")
        .output()
        .context("rustc cannot be started")?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not name its host")?.to_owned())
}

/// Puts the golden bytes of `protocol` into the target's corpus (expressions into that of filters), whole and without the lengths that a frame begins with, so that the fuzzer
/// starts behind the first checks. What earlier runs found stays there.
fn seed(target: &str) -> Result<PathBuf> {
    let corpus = root().join("fuzz/corpus").join(target);
    fs::create_dir_all(&corpus)?;
    if target == "filter" {
        for (number, (expression, _)) in crate::interop::expressions().enumerate() {
            fs::write(corpus.join(format!("expression_{number}")), expression)?;
        }
        return Ok(corpus);
    }
    for entry in fs::read_dir(root().join("crates/protocol/tests/golden"))? {
        let path = entry?.path();
        let Some(name) = path.file_stem().and_then(|name| name.to_str()) else {
            continue;
        };
        if path.extension().is_none_or(|extension| extension != "hex") {
            continue;
        }
        let Some(bytes) = unhex(&fs::read_to_string(&path)?) else {
            continue;
        };
        for skipped in [0, 4, 8] {
            if let Some(part) = bytes.get(skipped..) {
                fs::write(corpus.join(format!("golden_{name}_{skipped}")), part)?;
            }
        }
    }
    Ok(corpus)
}

/// Bytes of a golden file; None when it holds something else.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::chars)
        .filter(|digit| !digit.is_whitespace())
        .map(|digit| digit.to_digit(16))
        .collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    pairs
        .map(|pair| u8::try_from(pair[0] << 4 | pair[1]).ok())
        .collect()
}

fn fuzz(binaries: &Path, target: &str, corpus: &Path, seconds: u64) -> Result<Ran> {
    let artifacts = root().join("fuzz/artifacts").join(target);
    fs::create_dir_all(&artifacts)?;
    let log = root().join(format!("fuzz/target/{target}.log"));
    eprintln!("fuzz {target}: {seconds} s");
    let begun = Instant::now();
    let status = Command::new(binaries.join(target))
        .arg(corpus)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-rss_limit_mb={RSS_MB_MAX}"))
        .arg(format!("-malloc_limit_mb={ALLOCATION_MB_MAX}"))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg("-print_final_stats=1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log)?)
        .status()
        .with_context(|| format!("{target} cannot be started"))?;
    let seconds = begun.elapsed().as_secs_f64();
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    if !status.success() {
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(30)..].join("\n");
        bail!(
            "{target} ended with {status}; the input lies in {}\n{tail}",
            artifacts.display()
        );
    }
    let executions = stat(&text, "number_of_executed_units")
        .and_then(|count| count.parse().ok())
        .with_context(|| format!("{target} does not say how often it ran: {}", log.display()))?;
    let coverage = text
        .rsplit("cov: ")
        .next()
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap_or("?");
    Ok(Ran {
        target: target.to_owned(),
        executions,
        seconds,
        coverage: coverage.to_owned(),
        peak_rss_mb: stat(&text, "peak_rss_mb").unwrap_or("?").to_owned(),
    })
}

/// A figure of libFuzzer's final statistics.
fn stat<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name))?;
    Some(line.trim_start_matches(':').trim())
}

fn print(ran: &[Ran]) {
    println!("target          executions      per s    edges  peak MB");
    for ran in ran {
        println!(
            "{:<14} {:>11} {:>10.0} {:>8} {:>8}",
            ran.target,
            ran.executions,
            ran.executions as f64 / ran.seconds,
            ran.coverage,
            ran.peak_rss_mb
        );
    }
    let executions: u64 = ran.iter().map(|ran| ran.executions).sum();
    let seconds: f64 = ran.iter().map(|ran| ran.seconds).sum();
    println!(
        "{:<14} {executions:>11} {:>10.0}",
        "all",
        executions as f64 / seconds
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_files_are_read_without_their_comment() {
        assert_eq!(unhex("# of Java\n00ff\n1a\n"), Some(vec![0, 255, 26]));
        assert_eq!(unhex("names and hashes"), None);
    }

    #[test]
    fn figures_are_found_in_the_final_statistics() {
        let text = "#5 DONE cov: 7\nstat::number_of_executed_units: 12\nstat::peak_rss_mb:  28\n";
        assert_eq!(stat(text, "number_of_executed_units"), Some("12"));
        assert_eq!(stat(text, "peak_rss_mb"), Some("28"));
    }
}
