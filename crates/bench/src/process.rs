//! What a process has used so far, from /proc.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

/// Resources of one process at one moment; differences of two moments are what an interval cost.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Usage {
    /// User and system time together.
    pub cpu_seconds: f64,
    /// Anonymous resident memory: what the process holds itself.
    pub anonymous_bytes: u64,
    /// Resident pages of files and shared memory, which the kernel may take back.
    pub file_bytes: u64,
    /// Bytes that the process caused to be written to block devices.
    pub device_bytes_written: u64,
    /// Bytes that the process caused to be read from block devices.
    pub device_bytes_read: u64,
    /// Open descriptors.
    pub descriptors: u64,
}

impl Usage {
    /// Reads a process by id.
    ///
    /// # Errors
    /// When there is no such process, or it belongs to someone else.
    pub fn of(pid: u32) -> Result<Self> {
        let read = |name: &str| {
            fs::read_to_string(format!("/proc/{pid}/{name}"))
                .with_context(|| format!("process {pid} cannot be observed (/proc/{pid}/{name})"))
        };
        let status = read("status")?;
        let kib = |key| field(&status, key).unwrap_or(0) * 1024;
        // /proc/PID/io may be closed to us even when the rest is open.
        let io = read("io").unwrap_or_default();
        Ok(Self {
            cpu_seconds: cpu_time(&read("stat")?)?.as_secs_f64(),
            anonymous_bytes: kib("RssAnon:"),
            file_bytes: kib("RssFile:") + kib("RssShmem:"),
            device_bytes_written: field(&io, "write_bytes:").unwrap_or(0),
            device_bytes_read: field(&io, "read_bytes:").unwrap_or(0),
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))
                .map_or(0, |dir| dir.count() as u64),
        })
    }

    /// This process.
    ///
    /// # Errors
    /// When /proc is not mounted.
    pub fn own() -> Result<Self> {
        Self::of(std::process::id())
    }
}

fn field(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Fields 14 and 15 of /proc/PID/stat, in clock ticks. The name before them may hold spaces and parentheses.
fn cpu_time(stat: &str) -> Result<Duration> {
    let after_name = stat.rsplit_once(')').context("stat has no name")?.1;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut ticks = || -> Result<u64> { Ok(fields.next().context("stat is short")?.parse()?) };
    let total = ticks()? + ticks()?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_millis(total * 1000 / per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_does_not_shift_the_fields() {
        let stat = "1 (a b) c) S 1 1 1 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 5 1 1";
        assert_eq!(cpu_time(stat).unwrap(), Duration::from_secs(3));
    }

    #[test]
    fn the_own_process_is_readable() {
        let usage = Usage::own().unwrap();
        assert!(usage.anonymous_bytes > 0 && usage.descriptors > 0);
    }
}
