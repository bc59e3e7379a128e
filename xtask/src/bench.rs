//! `docs/benchmarks.md`: one load against the floor, Apogee and the Java broker in the same run.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bench::{Codec, Load, Report, Workload};

use crate::cargo::root;
use crate::live::{self, Role};
use crate::peer::JavaPeer;

const CONNECTIONS: usize = 4;
const WINDOW: usize = 64;
const BODY_BYTES: usize = 1024;
const MEASURED: Duration = Duration::from_secs(8);
/// A virtual machine compiles what runs often; before that it measures its interpreter.
const JAVA_WARMUP: Duration = Duration::from_secs(25);
const WARMUP: Duration = Duration::from_secs(2);
/// Runs of each server and codec, in alternating order; the median counts.
const ROUNDS: usize = 2;

/// A server under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    Floor { sync: bool },
    Apogee { sync: bool },
    Java { sync: bool },
}

impl Server {
    fn name(self) -> &'static str {
        match self {
            Self::Floor { sync: false } => "floor",
            Self::Floor { sync: true } => "floor, fdatasync",
            Self::Apogee { sync: false } => "Apogee, `ASYNC_FLUSH`",
            Self::Apogee { sync: true } => "Apogee, `SYNC_FLUSH` (default)",
            Self::Java { sync: false } => "Java 5.3.3, `ASYNC_FLUSH` (default)",
            Self::Java { sync: true } => "Java 5.3.3, `SYNC_FLUSH`",
        }
    }
}

/// One line of the table: the runs of one server with one codec.
struct Line {
    server: Server,
    codec: Codec,
    runs: Vec<Report>,
}

impl Line {
    fn median(&self, figure: impl Fn(&Report) -> f64) -> f64 {
        let mut values: Vec<f64> = self.runs.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        if values.len() % 2 == 1 {
            values[middle]
        } else {
            (values[middle - 1] + values[middle]) / 2.0
        }
    }

    fn per_cpu_second(&self) -> f64 {
        self.median(|run| {
            run.broker
                .as_ref()
                .map_or(0.0, |broker| broker.messages_per_cpu_second)
        })
    }
}

/// Runs the table and writes the page.
///
/// # Errors
/// When a server does not start, or a run lost or refused messages: such a run says nothing.
pub(crate) fn write_page() -> Result<()> {
    let binary = live::binary()?;
    let mut lines: Vec<Line> = Vec::new();
    let servers = |sync| {
        [
            Server::Floor { sync },
            Server::Apogee { sync },
            Server::Java { sync },
        ]
    };
    let all: Vec<Server> = servers(false).into_iter().chain(servers(true)).collect();
    for round in 0..ROUNDS {
        let order: Vec<Server> = if round % 2 == 0 {
            all.clone()
        } else {
            all.iter().rev().copied().collect()
        };
        for server in order {
            for codec in [Codec::Json, Codec::Binary] {
                let run = measure(&binary, server, codec)
                    .with_context(|| format!("{server:?} {codec:?}"))?;
                eprintln!("round {} of {ROUNDS}: {}\n{run}", round + 1, server.name());
                match lines
                    .iter_mut()
                    .find(|line| line.server == server && line.codec == codec)
                {
                    Some(line) => line.runs.push(run),
                    None => lines.push(Line {
                        server,
                        codec,
                        runs: vec![run],
                    }),
                }
            }
        }
    }
    let path = root().join("docs/benchmarks.md");
    fs::write(&path, page(&lines)?)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    eprintln!("{} written", path.display());
    Ok(())
}

fn measure(binary: &Path, server: Server, codec: Codec) -> Result<Report> {
    let dir = tempfile::tempdir()?;
    let (report, is_floor) = match server {
        Server::Floor { sync } => {
            let floor = Floor::start(binary, dir.path(), sync)?;
            (
                load(floor.addr, floor.child.id(), codec, WARMUP, false)?,
                true,
            )
        }
        Server::Apogee { sync } => {
            let mode = if sync { "SYNC_FLUSH" } else { "ASYNC_FLUSH" };
            let nameserver_dir = dir.path().join("nameserver");
            fs::create_dir_all(&nameserver_dir)?;
            let nameserver = Role::nameserver(binary, &nameserver_dir)?;
            let lines = format!("flushDiskType={mode}\ndiskMaxUsedSpaceRatio=95\n");
            let broker = Role::broker(binary, dir.path(), &nameserver.addr, &lines)?;
            let report = load(broker.addr.parse()?, broker.pid(), codec, WARMUP, true)?;
            broker.stop()?;
            nameserver.stop()?;
            (report, false)
        }
        Server::Java { sync } => {
            let mode = if sync { "SYNC_FLUSH" } else { "ASYNC_FLUSH" };
            let peer = JavaPeer::start(dir.path(), &format!("flushDiskType={mode}\n"))?;
            (
                load(
                    peer.broker.parse()?,
                    peer.broker_pid(),
                    codec,
                    JAVA_WARMUP,
                    true,
                )?,
                false,
            )
        }
    };
    ensure!(
        is_floor || report.is_clean(),
        "the run is not clean:\n{report}"
    );
    Ok(report)
}

fn load(
    target: SocketAddr,
    pid: u32,
    codec: Codec,
    warmup: Duration,
    create: bool,
) -> Result<Report> {
    let load = Load {
        pid: Some(pid),
        create,
        connections: CONNECTIONS,
        window: WINDOW,
        body_bytes: BODY_BYTES,
        codec,
        warmup,
        measured: MEASURED,
        ..Load::new(target)
    };
    bench::run_workload(&load, &Workload::Send)
}

/// The floor program as a process, ended by id when dropped.
struct Floor {
    child: Child,
    addr: SocketAddr,
}

impl Floor {
    fn start(binary: &Path, dir: &Path, sync: bool) -> Result<Self> {
        let mut command = Command::new(binary);
        command
            .args(["bench", "floor", "--file"])
            .arg(dir.join("floor.dat"));
        if sync {
            command.arg("--sync");
        }
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)?;
        let addr = line
            .trim()
            .rsplit(' ')
            .next()
            .unwrap_or_default()
            .parse()
            .context(line.clone())?;
        Ok(Self { child, addr })
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // Ended already, or ended here: nothing else could be done about it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn page(lines: &[Line]) -> Result<String> {
    let mut page = String::from(
        "# Benchmarks\n\n<!-- Written by `cargo xtask bench`. -->\n\n\
         One load generator (`apogee bench send`) drives every server with the same frames: 1 KiB bodies, four connections with 64 requests in flight each, eight\n\
         queues. Servers run one after the other, each with a fresh store. Every acknowledged message is counted in the\n\
         broker's queues afterwards. The floor is the least that any broker must do for the load: cut frames, checksum, build the record, one write for a read's\n\
         records, answer. Absolute figures do not travel between machines; the ratios do.\n\n",
    );
    let _ = writeln!(page, "{}\n", machine());
    page.push_str(
        "| server | headers | msg/s | msg per broker CPU-second | of the floor | over Java, same headers and flush | p50 / p99 / p999 ms | anonymous memory |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for line in lines {
        let find = |wanted: fn(bool) -> Server| {
            let sync = matches!(
                line.server,
                Server::Floor { sync: true }
                    | Server::Apogee { sync: true }
                    | Server::Java { sync: true }
            );
            lines
                .iter()
                .find(|other| other.server == wanted(sync) && other.codec == line.codec)
        };
        let floor = find(|sync| Server::Floor { sync }).context("the floor was not measured")?;
        let java = find(|sync| Server::Java { sync }).context("Java was not measured")?;
        let memory = line.median(|run| {
            run.broker
                .as_ref()
                .map_or(0.0, |broker| broker.anonymous_bytes as f64)
        });
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {:.0} % | {:.1}× | {:.2} / {:.2} / {:.2} | {:.0} MiB |",
            line.server.name(),
            if line.codec == Codec::Json {
                "JSON"
            } else {
                "binary"
            },
            thousands(line.median(|run| run.messages_per_second)),
            thousands(line.per_cpu_second()),
            line.per_cpu_second() / floor.per_cpu_second() * 100.0,
            line.per_cpu_second() / java.per_cpu_second(),
            line.median(|run| run.latency.p50_ms),
            line.median(|run| run.latency.p99_ms),
            line.median(|run| run.latency.p999_ms),
            memory / f64::from(1 << 20),
        );
    }
    page.push_str(
        "\nThe generator shares the two cores with the server, so msg/s says how the two divide them; msg per broker CPU-second is the sturdier figure.\n\n\
         Repeat the table: `cargo xtask bench`. One line of it: `apogee bench send --target HOST:PORT --pid PID --codec json|binary`.\n",
    );
    Ok(page)
}

fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| {
        line.strip_prefix("model name")?
            .split_once(": ")
            .map(|(_, name)| name)
    });
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let date = Command::new("date")
        .arg("+%Y-%m-%d")
        .output()
        .map(|o| o.stdout)
        .unwrap_or_default();
    format!(
        "Measured {} on {cores} cores ({}), Linux {}.",
        String::from_utf8_lossy(&date).trim(),
        model.unwrap_or("unknown processor").trim(),
        kernel.trim()
    )
}

/// 1234567 as "1,235 k".
fn thousands(value: f64) -> String {
    let k = (value / 1000.0).round() as u64;
    if k >= 1000 {
        format!("{},{:03} k", k / 1000, k % 1000)
    } else {
        format!("{k} k")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_rounded_to_thousands() {
        assert_eq!(thousands(47_300.0), "47 k");
        assert_eq!(thousands(1_234_567.0), "1,235 k");
    }
}
