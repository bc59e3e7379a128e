//! The programs on the official clients, some at once, against one Apogee.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::child::Running;
use super::toolchain::{self, Missing};
use crate::live::{self, Role};
use crate::peer::JavaPeer;
use crate::report::Verdict;

/// Messages of the counting scenario.
const COUNT: &str = "100000";
/// The same on the Java server, which is here to be asked the same questions, not to be measured.
const COUNT_ON_JAVA: &str = "20000";
/// The slowest program takes two minutes alone; all share the machine.
const LIMIT: Duration = Duration::from_secs(420);

/// Topics that every program finds, with their queues. One client cannot create its own, and consumers want theirs before the first message.
const TOPICS: &[(&str, u32)] = &[
    ("send", 4),
    ("tags", 4),
    ("concurrent", 4),
    ("orderly", 4),
    ("broadcast", 4),
    ("pull", 4),
    ("delayed", 1),
    ("retried", 1),
    ("suspended", 1),
    ("reset", 1),
    ("handover", 2),
    ("selected", 2),
    ("requested", 2),
    ("count", 8),
];

/// A second for each of the first levels, so that messages come back soon.
const DELAY_LEVELS: &str = "messageDelayLevel=1s 1s 1s 1s 1s 1h\n";

/// One official client.
#[derive(Clone, Copy)]
pub(crate) struct Client {
    /// As on the command line and in the summary; also the prefix of its topics and groups.
    pub(crate) name: &'static str,
    /// Fetches and builds; gives the command, which lacks the arguments.
    prepare: fn() -> Result<Command>,
}

impl Client {
    /// The command that runs it, which lacks the arguments.
    pub(super) fn command(&self) -> Result<Command> {
        (self.prepare)()
    }
}

const CLIENTS: &[Client] = &[
    Client {
        name: "java-4.9.8",
        prepare: || java("4.9.8", &[], "interop.Main"),
    },
    Client {
        name: "java-5.3.3",
        prepare: || java("5.3.3", &[], "interop.Main"),
    },
    Client {
        name: "go",
        prepare: || Ok(Command::new(toolchain::go()?)),
    },
    Client {
        name: "cpp",
        prepare: || {
            let mut command = Command::new(toolchain::python()?);
            command.arg(toolchain::source("cpp").join("interop.py"));
            Ok(command)
        },
    },
    Client {
        name: "node",
        prepare: || {
            let mut command = Command::new("node");
            command.arg(toolchain::node()?.join("interop.js"));
            Ok(command)
        },
    },
];

/// On the ports that the others speak plaintext to. Apart from them: the client gives its first handshake three seconds,
/// which is little for a virtual machine that shares two cores with four more.
const OVER_TLS: Client = Client {
    name: "tls",
    prepare: || java("5.3.3", &["-Dtls.enable=true"], "interop.Main"),
};

/// One of our programs on the Java client of that version.
pub(super) fn java(version: &str, options: &[&str], program: &str) -> Result<Command> {
    let class_path = toolchain::maven("java", version, "interop.jar")?;
    let home = toolchain::directory("home")?;
    let mut command = Command::new("java");
    command
        .args(["-Xmx256m", "-XX:+UseSerialGC"])
        .arg(format!("-Duser.home={}", home.display()))
        .arg(format!("-Drocketmq.client.logRoot={}", home.display()))
        .args(options)
        .args(["-cp", &class_path, program]);
    Ok(command)
}

/// The client of that name.
pub(crate) fn named(name: &str) -> Option<Client> {
    CLIENTS.iter().copied().find(|client| client.name == name)
}

/// Every client.
pub(crate) fn run() -> Result<Verdict> {
    run_all(CLIENTS)
}

/// The one that encrypts.
pub(crate) fn run_over_tls() -> Result<Verdict> {
    run_only(OVER_TLS)
}

/// The clients against the Java server: what they assert of Apogee must hold there too.
pub(crate) fn run_on_java() -> Result<Verdict> {
    let binary = live::binary()?;
    std::fs::remove_dir_all(toolchain::directory("home")?)?;
    let mut commands = Vec::new();
    for client in CLIENTS {
        commands.push((*client, (client.prepare)()?));
    }
    let data = tempfile::tempdir()?;
    let lines = format!("{DELAY_LEVELS}enablePropertyFilter=true\n");
    let peer = JavaPeer::start(data.path(), &lines)?;
    for (client, _) in &commands {
        create_topics(&binary, &peer.nameserver, client.name, TOPICS)?;
    }
    let failures = run_together(&mut commands, &peer.nameserver, COUNT_ON_JAVA, data.path());
    peer.stop().context("the Java server after the clients")?;
    match failures.is_empty() {
        true => Ok(Verdict::Passed),
        false => bail!("{}", failures.join("; ")),
    }
}

/// One client.
pub(crate) fn run_only(client: Client) -> Result<Verdict> {
    run_all(&[client])
}

fn run_all(clients: &[Client]) -> Result<Verdict> {
    let binary = live::binary()?;
    // Broadcasting consumers keep their offsets below the home directory: those of an earlier run would make them pass over
    // what this run sends to topics of the same name.
    std::fs::remove_dir_all(toolchain::directory("home")?)?;
    let mut missing = Vec::new();
    let mut commands = Vec::new();
    for client in clients {
        match (client.prepare)() {
            Ok(command) => commands.push((*client, command)),
            Err(error) => match error.downcast::<Missing>() {
                Ok(absent) => missing.push(format!("{}: {absent}", client.name)),
                Err(error) => return Err(error.context(format!("preparing {}", client.name))),
            },
        }
    }
    let data = tempfile::tempdir()?;
    let nameserver = Role::nameserver(&binary, data.path())?;
    let broker = Role::broker(&binary, data.path(), &nameserver.addr, DELAY_LEVELS)?;
    live::wait_for_broker(&nameserver.addr)?;
    for (client, _) in &commands {
        create_topics(&binary, &nameserver.addr, client.name, TOPICS)?;
    }
    let failures = run_together(&mut commands, &nameserver.addr, COUNT, data.path());
    broker.stop().context("the broker after the clients")?;
    nameserver
        .stop()
        .context("the name server after the clients")?;
    if !failures.is_empty() {
        bail!("{}", failures.join("; "));
    }
    match missing.is_empty() {
        true => Ok(Verdict::Passed),
        false => Ok(Verdict::NotRun(missing.join("; "))),
    }
}

/// Programs that run side by side: more of them start too slowly on two cores, and then take a topic for one that does not exist.
const SIDE_BY_SIDE: usize = 3;

/// Runs the programs, some side by side. Gives what went wrong.
fn run_together(
    commands: &mut [(Client, Command)],
    nameserver: &str,
    count: &str,
    data: &Path,
) -> Vec<String> {
    let mut results: Vec<Result<()>> = Vec::new();
    for some in commands.chunks_mut(SIDE_BY_SIDE) {
        thread::scope(|scope| {
            let running: Vec<_> = some
                .iter_mut()
                .map(|(client, command)| {
                    scope.spawn(move || one(*client, command, nameserver, count, data))
                })
                .collect();
            let joined = running
                .into_iter()
                .map(|each| each.join().expect("a runner does not panic"));
            results.extend(joined);
        });
    }
    results
        .into_iter()
        .filter_map(|result| Some(format!("{:#}", result.err()?)))
        .collect()
}

/// Creates the topics of one client, with the command that a user would take.
pub(super) fn create_topics(
    binary: &Path,
    nameserver: &str,
    client: &str,
    topics: &[(&str, u32)],
) -> Result<()> {
    let prefix = prefix(client);
    for (topic, queues) in topics {
        create_topic(binary, nameserver, &format!("{prefix}_{topic}"), *queues)?;
    }
    Ok(())
}

/// Works for the Java server too.
pub(crate) fn create_topic(
    binary: &Path,
    nameserver: &str,
    topic: &str,
    queues: u32,
) -> Result<()> {
    update_topic(binary, nameserver, topic, queues, &[])
}

/// The same, of which only the latest message of each key is kept.
pub(crate) fn create_compaction_topic(
    binary: &Path,
    nameserver: &str,
    topic: &str,
    queues: u32,
) -> Result<()> {
    let attributes = ["-a", "+cleanup.policy=COMPACTION"];
    update_topic(binary, nameserver, topic, queues, &attributes)
}

fn update_topic(
    binary: &Path,
    nameserver: &str,
    topic: &str,
    queues: u32,
    attributes: &[&str],
) -> Result<()> {
    let queues = queues.to_string();
    let mut command = Command::new(binary);
    command
        .args(["admin", "updateTopic", "-n", nameserver])
        .args(["-c", "DefaultCluster", "-t", topic])
        .args(["-r", &queues, "-w", &queues])
        .args(attributes)
        .stdout(Stdio::null());
    crate::cargo::run(&mut command)
}

/// What stands before the names of a client's topics, which have no dots.
pub(super) fn prefix(client: &str) -> String {
    client.replace('.', "_")
}

/// Runs one program to its last scenario and shows its lines.
fn one(
    client: Client,
    command: &mut Command,
    nameserver: &str,
    count: &str,
    data: &Path,
) -> Result<()> {
    let name = client.name;
    let home = toolchain::directory("home")?.join(name);
    std::fs::create_dir_all(&home)?;
    let command = command
        .env("HOME", &home)
        .args([nameserver, &prefix(name), count]);
    let output = data.join(format!("{name}.out"));
    let passed = scenarios(name, command, &output, LIMIT)?;
    if !passed.contains(&"PASS count".to_owned()) {
        bail!("{name} ended without its last scenario");
    }
    Ok(())
}

/// Runs one part of the programs of these clients, all at once. Their topics have the client's name before their own.
///
/// # Errors
/// When one cannot be built ([`Missing`] where its toolchain is not there), or did not pass.
pub(super) fn run_part(
    clients: &[&str],
    part: &str,
    nameserver: &str,
    data: &Path,
    limit: Duration,
) -> Result<()> {
    let mut commands = Vec::new();
    for name in clients {
        let client = named(name).with_context(|| format!("{name} is not in the list"))?;
        let mut command = client.command()?;
        let home = toolchain::directory("home")?.join(name);
        std::fs::create_dir_all(&home)?;
        command
            .env("HOME", &home)
            // A short program gains nothing from Java's second compiler.
            .env("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")
            .args([nameserver, &prefix(name), "0", part]);
        commands.push((*name, command));
    }
    let failures: Vec<String> = thread::scope(|scope| {
        let running: Vec<_> = commands
            .into_iter()
            .map(|(name, command)| scope.spawn(move || one_part(name, command, part, data, limit)))
            .collect();
        let joined = running
            .into_iter()
            .map(|each| each.join().expect("a runner does not panic"));
        joined
            .filter_map(|result| Some(format!("{:#}", result.err()?)))
            .collect()
    });
    match failures.is_empty() {
        true => Ok(()),
        false => bail!("{}", failures.join("; ")),
    }
}

fn one_part(
    name: &str,
    mut command: Command,
    part: &str,
    data: &Path,
    limit: Duration,
) -> Result<()> {
    let output = data.join(format!("{name}-{part}.out"));
    let passed = scenarios(name, &mut command, &output, limit)?;
    if !passed.contains(&format!("PASS {part}")) {
        bail!("{name} ended without PASS {part}");
    }
    Ok(())
}

/// Runs a program, shows the line of each scenario and gives them.
///
/// # Errors
/// When one failed, or the program did.
fn scenarios(
    name: &str,
    command: &mut Command,
    output: &Path,
    limit: Duration,
) -> Result<Vec<String>> {
    let mut program = Running::start(name, command, output)?;
    let ended = program.wait(limit);
    let printed = program.printed()?;
    let verdicts = ["PASS ", "FAIL ", "SKIP ", "NOTE "];
    let lines: Vec<&str> = printed
        .lines()
        .filter(|line| verdicts.iter().any(|verdict| line.starts_with(verdict)))
        .collect();
    for line in &lines {
        eprintln!("   {name}: {line}");
    }
    let status = ended?;
    let failures: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("FAIL "))
        .collect();
    if !failures.is_empty() || !status.success() {
        let kept = toolchain::directory("failed")?.join(format!("{name}.out"));
        std::fs::write(&kept, &printed)?;
        bail!(
            "{name} ({status}): {}; all it printed is in {}",
            failures.join(", "),
            kept.display()
        );
    }
    Ok(lines.into_iter().map(str::to_owned).collect())
}
