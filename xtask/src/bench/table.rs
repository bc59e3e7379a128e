//! The workloads of the table, and one run of one of them: `apogee bench` as a process of its own, as a user runs it.

use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bench::Report;

use super::servers::{Flush, Server, Side};

/// One line of the table.
pub(super) struct Spec {
    /// For `--only`.
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) flush: Flush,
    /// Whether the floor program can do it: it takes sends, and nothing else.
    pub(super) on_floor: bool,
    /// Words of `apogee bench`.
    pub(super) words: &'static str,
}

/// The name of what is measured beside the workloads: start, kill, idle.
pub(super) const LIFECYCLE: &str = "lifecycle";
/// The name of what is measured with many topics.
pub(super) const SCALE: &str = "scale";
/// The name of what is measured with other kinds of messages: transactions, timers, locks.
pub(super) const KINDS: &str = "kinds";

const fn send(name: &'static str, title: &'static str, flush: Flush, words: &'static str) -> Spec {
    Spec {
        name,
        title,
        flush,
        on_floor: true,
        words,
    }
}

const fn other(name: &'static str, title: &'static str, words: &'static str) -> Spec {
    Spec {
        name,
        title,
        flush: Flush::Async,
        on_floor: false,
        words,
    }
}

/// The table, in the order of the page.
pub(super) const SPECS: [Spec; 18] = [
    send(
        "1x1",
        "1 × 1",
        Flush::Async,
        "send --codec binary --connections 1 --window 1",
    ),
    send(
        "4x16-json",
        "4 × 16, JSON",
        Flush::Async,
        "send --codec json --connections 4 --window 16",
    ),
    send(
        "4x16",
        "4 × 16",
        Flush::Async,
        "send --codec binary --connections 4 --window 16",
    ),
    send(
        "4x64-json",
        "4 × 64, JSON",
        Flush::Async,
        "send --codec json --connections 4 --window 64",
    ),
    send(
        "4x64",
        "4 × 64",
        Flush::Async,
        "send --codec binary --connections 4 --window 64",
    ),
    send(
        "4x64-small",
        "4 × 64, 128 B",
        Flush::Async,
        "send --codec binary --connections 4 --window 64 --body 128",
    ),
    other(
        "batch",
        "batch of 32, 2 × 4",
        "batch --codec binary --connections 2 --window 4 --messages 32",
    ),
    send(
        "open-loop",
        "open loop, 20,000 msg/s",
        Flush::Async,
        "send --codec binary --connections 4 --rate 20000",
    ),
    other(
        "pull",
        "pull 32 from memory, 4 connections",
        "pull --codec binary --connections 4 --window 1 --backlog 20000",
    ),
    other(
        "end-to-end",
        "end to end, 5,000 msg/s",
        "end-to-end --codec binary --rate 5000",
    ),
    other(
        "fan-out",
        "fan-out to 4 groups, 5,000 msg/s",
        "fan-out --codec binary --rate 5000 --groups 4",
    ),
    other(
        "cold",
        "5,000 msg/s, cold reader",
        "cold --codec binary --rate 5000 --backlog 400000",
    ),
    other(
        "filter",
        "pull 32 of one tag of 4 by SQL92, 4 connections",
        "filter --codec binary --connections 4 --window 1 --backlog 20000",
    ),
    other(
        "pop",
        "pop 32 and acknowledge each, 4 connections, JSON",
        "pop --codec json --connections 4 --backlog 20000",
    ),
    send(
        "sync-1x1",
        "1 × 1",
        Flush::Sync,
        "send --codec binary --connections 1 --window 1",
    ),
    send(
        "sync-4x16",
        "4 × 16",
        Flush::Sync,
        "send --codec binary --connections 4 --window 16",
    ),
    send(
        "sync-4x64",
        "4 × 64",
        Flush::Sync,
        "send --codec binary --connections 4 --window 64",
    ),
    send(
        "sync-4x128",
        "4 × 128",
        Flush::Sync,
        "send --codec binary --connections 4 --window 128",
    ),
];

/// Runs one line against one server, in a topic of its own.
///
/// # Errors
/// When the run failed or was not clean.
pub(super) fn measure(
    binary: &Path,
    spec: &Spec,
    server: &Server,
    warmup: Duration,
    seconds: u64,
) -> Result<Report> {
    let mut words: Vec<String> = spec.words.split(' ').map(str::to_owned).collect();
    words.extend(["--topic".to_owned(), spec.name.to_owned()]);
    if server.side == Side::Floor {
        words.push("--no-create".to_owned());
    }
    if words[0] == "cold" {
        words.extend(["--store".to_owned(), server.store().display().to_string()]);
    }
    run(binary, &words, server, warmup, seconds)
}

/// Has the just-in-time compiler see the send path, with both codecs.
pub(super) fn warm(binary: &Path, server: &Server, length: Duration) -> Result<()> {
    for codec in ["json", "binary"] {
        let words = format!("send --topic Warm --connections 4 --window 16 --codec {codec}");
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        run(binary, &words, server, Duration::ZERO, length.as_secs() / 2)?;
    }
    Ok(())
}

fn run(
    binary: &Path,
    words: &[String],
    server: &Server,
    warmup: Duration,
    seconds: u64,
) -> Result<Report> {
    let (text, status) = reported(binary, words, server, warmup, seconds)?;
    let report = Report::from_json(&text)
        .with_context(|| format!("bench {} ended with {status}", words.join(" ")))?;
    ensure!(
        status.success() && report.is_clean(),
        "the run is not clean:\n{report}"
    );
    Ok(report)
}

/// What one run of `apogee bench` printed as JSON, and how it ended.
pub(super) fn reported(
    binary: &Path,
    words: &[String],
    server: &Server,
    warmup: Duration,
    seconds: u64,
) -> Result<(String, ExitStatus)> {
    let output = Command::new(binary)
        .arg("bench")
        .args(words)
        .args(["--target", &server.addr.to_string()])
        .args(["--pid", &server.pid.to_string()])
        .args(["--warmup", &warmup.as_secs().to_string()])
        .args(["--seconds", &seconds.to_string()])
        .arg("--json")
        .stderr(Stdio::inherit())
        .output()?;
    Ok((String::from_utf8(output.stdout)?, output.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_different_and_the_floor_only_takes_sends() {
        for (index, spec) in SPECS.iter().enumerate() {
            assert!(SPECS[..index].iter().all(|other| other.name != spec.name));
            assert!(!spec.on_floor || spec.words.starts_with("send "));
        }
    }
}
