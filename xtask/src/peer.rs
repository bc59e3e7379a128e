//! The Java server (name server and broker) beside Apogee, on free ports, from Maven Central.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::interop::child::Running;
use crate::interop::toolchain;
use crate::live::wait_for_broker;

/// The version that stands for Java here; see `interop/java-peer/pom.xml`.
pub(crate) const VERSION: &str = "5.3.3";

/// Class loading of a broker takes ten seconds on a busy machine.
const START_MAX: Duration = Duration::from_secs(90);
/// The longest of our programs makes a thousand sends; a busy machine takes half a minute for them.
const PROGRAM_MAX: Duration = Duration::from_secs(180);
/// Ports that are tried before giving up.
const PORT_ATTEMPTS: usize = 50;

/// A virtual machine with that class path; `part` names the log configuration in its jar. Logs go below `home`.
fn java(home: &Path, part: &str) -> Result<Command> {
    fs::create_dir_all(home.join("conf"))?;
    let class_path = toolchain::maven("java-peer", VERSION, "java-peer.jar")?;
    let home = home.display();
    let mut command = Command::new("java");
    command
        .arg(format!("-Duser.home={home}"))
        .arg(format!("-Drocketmq.home.dir={home}"))
        .arg(format!("-Drocketmq.client.logRoot={home}"))
        .arg(format!(
            "-Drmq.logback.configurationFile=rmq.{part}.logback.xml"
        ))
        // A development disk may be fuller than the 90 % at which the broker refuses to write.
        .arg("-Drocketmq.broker.diskSpaceWarningLevelRatio=0.99")
        .arg("--add-exports=java.base/sun.nio.ch=ALL-UNNAMED")
        .arg("--add-opens=java.base/java.nio=ALL-UNNAMED")
        .args(["-cp", &class_path]);
    Ok(command)
}

/// Runs one of our Java programs to its end, with the file `input` as its input, and gives what it printed. Its errors are kept beside `output`.
///
/// # Errors
/// When it ends with another code than 0.
pub(crate) fn program(
    class: &str,
    arguments: &[&str],
    input: &Path,
    output: &Path,
) -> Result<String> {
    let mut command = java(&output.with_extension("home"), "tools")?;
    let errors = output.with_extension("err");
    command
        // A short program gains nothing from the second compiler.
        .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .arg(class)
        .args(arguments)
        .stdin(fs::File::open(input)?);
    let mut running = Running::start_apart(class, &mut command, output, &errors)?;
    let status = running.wait(PROGRAM_MAX)?;
    if !status.success() {
        bail!(
            "{class} {arguments:?} ended with {status}:\n{}",
            fs::read_to_string(&errors)?
        );
    }
    running.printed()
}

/// A running Java name server and broker. Ended by id when dropped.
pub(crate) struct JavaPeer {
    name_server_process: Running,
    broker_process: Running,
    /// Where the name server listens, `host:port`.
    pub(crate) nameserver: String,
    /// Where the broker listens, `host:port`.
    pub(crate) broker: String,
}

impl JavaPeer {
    /// Starts both on free ports, with the broker's store in `dir/store` and these further lines in its configuration.
    ///
    /// # Errors
    /// When Java is not installed ([`toolchain::Missing`]), when the jars cannot be fetched, or when a server does not start in time.
    pub(crate) fn start(dir: &Path, lines: &str) -> Result<JavaPeer> {
        let (nameserver, name_server_process) = start_nameserver(dir)?;
        let (broker, broker_process) = start_broker(dir, &nameserver, lines)?;
        wait_for_broker(&nameserver)?;
        Ok(JavaPeer {
            name_server_process,
            broker_process,
            nameserver,
            broker,
        })
    }

    /// The broker's process.
    pub(crate) fn broker_pid(&self) -> u32 {
        self.broker_process.pid()
    }

    /// `kill -9` of the broker; the name server stops.
    ///
    /// # Errors
    /// When one of them does not end.
    pub(crate) fn kill_9(self) -> Result<()> {
        // A process of ours that is dropped is killed and waited for.
        drop(self.broker_process);
        self.name_server_process.stop()
    }

    /// A clean stop: the broker writes its configuration and removes `abort`.
    ///
    /// # Errors
    /// When one of them does not end, or ends otherwise than Java does at SIGTERM.
    pub(crate) fn stop(self) -> Result<()> {
        self.broker_process.stop()?;
        self.name_server_process.stop()
    }
}

fn start_nameserver(dir: &Path) -> Result<(String, Running)> {
    let port = free_port(&[0])?;
    let file = dir.join("java-namesrv.conf");
    let place = dir.display();
    fs::write(
        &file,
        format!(
            "listenPort={port}\nkvConfigPath={place}/java-kvConfig.json\nconfigStorePath={place}/java-namesrv.properties\n"
        ),
    )?;
    let mut command = java(&java_home(dir), "namesrv")?;
    command
        .args(["-Xmx256m", "-XX:+UseSerialGC"])
        .args(["org.apache.rocketmq.namesrv.NamesrvStartup", "-c"])
        .arg(&file);
    let mut process = Running::start(
        "the Java name server",
        &mut command,
        &dir.join("java-namesrv.out"),
    )?;
    process.wait_for("start", START_MAX, boot_success)?;
    Ok((format!("127.0.0.1:{port}"), process))
}

fn start_broker(dir: &Path, nameserver: &str, lines: &str) -> Result<(String, Running)> {
    // The broker takes the port below by two for its fast lane and the one above for replication.
    let port = free_port(&[0, 1, -2])?;
    let file = dir.join("java-broker.conf");
    let store = dir.join("store");
    let store = store.display();
    fs::write(
        &file,
        format!(
            "brokerClusterName=DefaultCluster\nbrokerName=broker-a\nbrokerId=0\nbrokerIP1=127.0.0.1\nlistenPort={port}\n\
             namesrvAddr={nameserver}\nstorePathRootDir={store}\nstorePathCommitLog={store}/commitlog\n\
             diskMaxUsedSpaceRatio=95\nwaitTimeMillsInSendQueue=5000\n{lines}"
        ),
    )?;
    let mut command = java(&java_home(dir), "broker")?;
    command
        .args(["-Xmx2g", "-XX:+UseG1GC", "-XX:MaxDirectMemorySize=1g"])
        .args(["org.apache.rocketmq.broker.BrokerStartup", "-c"])
        .arg(&file);
    let mut process = Running::start(
        "the Java broker",
        &mut command,
        &dir.join("java-broker.out"),
    )?;
    process.wait_for("start", START_MAX, boot_success)?;
    Ok((format!("127.0.0.1:{port}"), process))
}

fn java_home(dir: &Path) -> PathBuf {
    dir.join("java-home")
}

fn boot_success(line: &str) -> Option<()> {
    line.contains("boot success").then_some(())
}

/// A port that is free, as are those at the given distances.
///
/// # Errors
/// When none is found.
pub(crate) fn free_port(distances: &[i32]) -> Result<u16> {
    for _ in 0..PORT_ATTEMPTS {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let all_free = distances.iter().all(|distance| {
            let other = u16::try_from(i32::from(port) + distance);
            other.is_ok_and(|other| TcpListener::bind(("0.0.0.0", other)).is_ok())
        });
        if all_free {
            return Ok(port);
        }
    }
    bail!("no free port after {PORT_ATTEMPTS} attempts")
}
