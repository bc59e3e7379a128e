//! What a server does when it does nothing, how soon it accepts messages, and how soon again after `kill -9`.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bench::Usage;

use super::results::median;
use crate::peer::JavaPeer;

/// Starts that the median is taken of.
const STARTS: usize = 5;
/// Before a server counts as idle, and how long it is then watched.
const SETTLE: Duration = Duration::from_secs(5);
const WATCHED: Duration = Duration::from_secs(10);
const ACCEPT_MAX: Duration = Duration::from_secs(60);
const TOPIC: &str = "Accepted";

/// Both servers'.
pub(super) struct Lifecycles {
    pub(super) apogee: Lifecycle,
    pub(super) java: Lifecycle,
}

/// One server's.
pub(super) struct Lifecycle {
    /// Resident, files included. Apogee: all roles in one process; Java: the broker alone.
    pub(super) idle_bytes: u64,
    /// Share of a core.
    pub(super) idle_cpu: f64,
    /// From starting the process on an empty directory to the first message that it accepts.
    pub(super) start_ms: f64,
    /// From `kill -9` to the first accepted message, with a small and a large store.
    pub(super) kill_small_ms: f64,
    pub(super) kill_ms: f64,
    pub(super) store_messages: u64,
}

/// Measures both, with stores of a fifth of so many messages and of all of them.
///
/// # Errors
/// When a server does not start, or does not accept a message within a minute.
pub(super) fn measure(binary: &Path, store_messages: u64) -> Result<Lifecycles> {
    Ok(Lifecycles {
        apogee: apogee(binary, store_messages).context("Apogee")?,
        java: java(binary, store_messages).context("Java")?,
    })
}

/// A server's process, killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Ended already, or ended here: nothing else could be done about it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(command: &mut Command) -> Result<Process> {
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(Process(quiet.spawn()?))
}

/// Milliseconds from `began` until a message is accepted.
fn accepted(addr: SocketAddr, began: Instant) -> Result<f64> {
    let at = bench::first_accepted(addr, TOPIC, ACCEPT_MAX)?;
    Ok((at - began).as_secs_f64() * 1000.0)
}

fn idle(pid: u32) -> Result<(u64, f64)> {
    thread::sleep(SETTLE);
    let before = threads_time(pid)?;
    thread::sleep(WATCHED);
    let used = threads_time(pid)?.saturating_sub(before);
    let usage = Usage::of(pid)?;
    Ok((
        usage.anonymous_bytes + usage.file_bytes,
        used.as_secs_f64() / WATCHED.as_secs_f64(),
    ))
}

/// Processor time of the threads that are alive, to the nanosecond: an idle process uses less than a clock tick.
fn threads_time(pid: u32) -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end in between.
        let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        let nanoseconds = text.split(' ').next().and_then(|word| word.parse().ok());
        sum += Duration::from_nanos(nanoseconds.unwrap_or(0));
    }
    Ok(sum)
}

/// Sends so many messages and reads all of them back.
fn fill(binary: &Path, addr: SocketAddr, topic: &str, messages: u64) -> Result<()> {
    let status = Command::new(binary)
        .args(["bench", "pull", "--warmup", "0", "--seconds", "1", "--json"])
        .args(["--topic", topic, "--target", &addr.to_string()])
        .args(["--backlog", &messages.to_string()])
        .stdout(Stdio::null())
        .status()?;
    ensure!(status.success(), "the store was not filled: {status}");
    Ok(())
}

/// Fills in two steps; after each, kills and starts again. Gives both times.
fn killed_twice(
    binary: &Path,
    addr: SocketAddr,
    messages: u64,
    mut process: Process,
    mut start: impl FnMut() -> Result<Process>,
) -> Result<(f64, f64)> {
    let mut times = [0.0; 2];
    for (step, share) in [messages / 5, messages - messages / 5]
        .into_iter()
        .enumerate()
    {
        fill(binary, addr, &format!("Fill-{step}"), share)?;
        let began = Instant::now();
        drop(process);
        process = start()?;
        times[step] = accepted(addr, began)?;
    }
    Ok((times[0], times[1]))
}

fn apogee(binary: &Path, messages: u64) -> Result<Lifecycle> {
    let mut starts = Vec::new();
    for _ in 1..STARTS {
        let dir = tempfile::tempdir()?;
        let mut command = AllInOne::new(dir.path())?;
        let began = Instant::now();
        let _process = spawn(&mut command.of(binary))?;
        starts.push(accepted(command.broker, began)?);
    }
    let dir = tempfile::tempdir()?;
    let mut command = AllInOne::new(dir.path())?;
    let began = Instant::now();
    let process = spawn(&mut command.of(binary))?;
    starts.push(accepted(command.broker, began)?);
    let (idle_bytes, idle_cpu) = idle(process.0.id())?;
    let addr = command.broker;
    let start = || spawn(&mut command.of(binary));
    let (kill_small_ms, kill_ms) = killed_twice(binary, addr, messages, process, start)?;
    Ok(Lifecycle {
        idle_bytes,
        idle_cpu,
        start_ms: median(starts).context("no starts")?,
        kill_small_ms,
        kill_ms,
        store_messages: messages,
    })
}

/// All roles in one process, on fixed ports, so that a message can be tried before the process says that it listens.
struct AllInOne<'a> {
    dir: &'a Path,
    nameserver: SocketAddr,
    broker: SocketAddr,
}

impl<'a> AllInOne<'a> {
    fn new(dir: &'a Path) -> Result<Self> {
        let free = || TcpListener::bind("127.0.0.1:0")?.local_addr();
        Ok(Self {
            dir,
            nameserver: free()?,
            broker: free()?,
        })
    }

    fn of(&mut self, binary: &Path) -> Command {
        let mut command = Command::new(binary);
        command
            .args(["--no-demo", "--listen-ip", "127.0.0.1", "--data-dir"])
            .arg(self.dir)
            .args(["--nameserver-port", &self.nameserver.port().to_string()])
            .args(["--broker-port", &self.broker.port().to_string()]);
        command
    }
}

fn java(binary: &Path, messages: u64) -> Result<Lifecycle> {
    let dir = tempfile::tempdir()?;
    let peer = JavaPeer::start(dir.path(), "")?;
    let addr: SocketAddr = peer.broker.parse()?;
    let (idle_bytes, idle_cpu) = idle(peer.broker_pid())?;
    // Started again with the words of the running process, so that no part of the start is ours.
    let words = fs::read(format!("/proc/{}/cmdline", peer.broker_pid()))?;
    let words: Vec<String> = words
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let (program, arguments) = words
        .split_first()
        .context("the broker has no command line")?;
    let start = || spawn(Command::new(program).args(arguments));
    let store = dir.path().join("store");
    end(peer.broker_pid())?;
    let mut starts = Vec::new();
    for _ in 0..STARTS.div_ceil(2) {
        fs::remove_dir_all(&store)?;
        let began = Instant::now();
        let _process = start()?;
        starts.push(accepted(addr, began)?);
    }
    fs::remove_dir_all(&store)?;
    let process = start()?;
    accepted(addr, Instant::now())?;
    let (kill_small_ms, kill_ms) = killed_twice(binary, addr, messages, process, start)?;
    Ok(Lifecycle {
        idle_bytes,
        idle_cpu,
        start_ms: median(starts).context("no starts")?,
        kill_small_ms,
        kill_ms,
        store_messages: messages,
    })
}

/// `kill -9` of a process that another part of this program started, and waits until it runs no longer.
fn end(pid: u32) -> Result<()> {
    let status = Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()?;
    ensure!(status.success(), "process {pid} cannot be killed");
    let deadline = Instant::now() + ACCEPT_MAX;
    // A dead child that nobody has waited for stays as a zombie without memory.
    while Usage::of(pid).is_ok_and(|usage| usage.anonymous_bytes > 0) {
        ensure!(Instant::now() < deadline, "process {pid} does not end");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
