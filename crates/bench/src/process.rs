//! What a process has used so far, from /proc, and what the machine's disks have done.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The kernel counts in sectors of this size, whatever the disk's are.
const SECTOR_BYTES: u64 = 512;

/// Resources of one process at one moment; differences of two moments are what an interval cost.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    /// User and system time together.
    pub cpu_seconds: f64,
    /// Anonymous resident memory: what the process holds itself.
    pub anonymous_bytes: u64,
    /// Resident pages of files and shared memory, which the kernel may take back.
    pub file_bytes: u64,
    /// Bytes that the machine's disks wrote, whoever caused it: a process is charged for the pages that it makes dirty,
    /// which says little about what a sync writes.
    pub device_bytes_written: u64,
    /// Bytes that they read.
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
        let (device_bytes_read, device_bytes_written) = disks();
        Ok(Self {
            cpu_seconds: cpu_time(&read("stat")?)?.as_secs_f64(),
            anonymous_bytes: kib("RssAnon:"),
            file_bytes: kib("RssFile:") + kib("RssShmem:"),
            device_bytes_written,
            device_bytes_read,
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

/// Bytes that all disks have read and written. Devices made of others (loop, device mapper, RAID) would count twice.
fn disks() -> (u64, u64) {
    let blocks = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let disks = blocks.filter(|disk| disk.path().join("device").exists());
    let stats = disks.filter_map(|disk| fs::read_to_string(disk.path().join("stat")).ok());
    stats.fold((0, 0), |(read, written), stat| {
        let (more_read, more_written) = sectors(&stat).unwrap_or((0, 0));
        (
            read + more_read * SECTOR_BYTES,
            written + more_written * SECTOR_BYTES,
        )
    })
}

/// Sectors read and written, from a disk's `stat`.
fn sectors(stat: &str) -> Option<(u64, u64)> {
    let mut fields = stat.split_whitespace();
    let read = fields.nth(2)?.parse().ok()?;
    let written = fields.nth(3)?.parse().ok()?;
    Some((read, written))
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
    fn sectors_are_the_third_and_the_seventh_figure() {
        let stat = "   10  2  300 40  50  6  700 8 0 0 0";
        assert_eq!(sectors(stat), Some((300, 700)));
        assert_eq!(sectors(""), None);
    }

    #[test]
    fn the_own_process_is_readable() {
        let usage = Usage::own().unwrap();
        assert!(usage.anonymous_bytes > 0 && usage.descriptors > 0);
    }
}
