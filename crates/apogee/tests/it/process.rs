//! Starting the binary, waiting for its lines, stopping it.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long anything may take before a test fails. Machines that run tests are busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A command of the binary. Nothing of the environment reaches it that it reads.
pub(crate) fn apogee(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_apogee"));
    command
        .args(arguments)
        .env_remove("NAMESRV_ADDR")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

/// A finished process.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command to its end.
pub(crate) fn run(command: Command) -> Finished {
    let mut node = Node::spawn(command);
    let code = node.wait().code();
    let text = |lines: &Receiver<String>| lines.iter().map(|line| line + "\n").collect();
    Finished {
        code,
        stdout: text(&node.lines),
        stderr: text(&node.log),
    }
}

/// A process that serves; killed when dropped.
pub(crate) struct Node {
    child: Child,
    lines: Receiver<String>,
    log: Receiver<String>,
    pub(crate) nameserver: String,
    pub(crate) broker: String,
}

impl Node {
    /// All roles on free ports, with the data of a directory.
    pub(crate) fn start(data_dir: &Path) -> Node {
        Node::start_with(data_dir, &[])
    }

    /// As that, with more arguments.
    pub(crate) fn start_with(data_dir: &Path, more: &[&str]) -> Node {
        let mut command = apogee(&["--nameserver-port", "0", "--broker-port", "0", "--data-dir"]);
        command.arg(data_dir).args(more);
        let mut node = Node::spawn(command);
        node.nameserver = node.address_after("nameserver: listening on ");
        node.broker = node.address_after("listening on ");
        node.until_registered();
        node
    }

    /// Any serving process.
    pub(crate) fn spawn(mut command: Command) -> Node {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let lines = lines_of(child.stdout.take().expect("stdout is piped"));
        let log = lines_of(child.stderr.take().expect("stderr is piped"));
        Node {
            child,
            lines,
            log,
            nameserver: String::new(),
            broker: String::new(),
        }
    }

    /// Waits for a line with this text and returns it.
    pub(crate) fn line_with(&self, text: &str) -> String {
        wait_for(&self.lines, text).unwrap_or_else(|seen| {
            let log: Vec<String> = self.log.try_iter().collect();
            panic!("no line with {text:?}; stdout: {seen:#?}, stderr: {log:#?}")
        })
    }

    /// Waits for a line of the log with this text and returns it.
    pub(crate) fn log_with(&self, text: &str) -> String {
        wait_for(&self.log, text)
            .unwrap_or_else(|seen| panic!("no log line with {text:?}: {seen:#?}"))
    }

    /// The address that follows a text in the output.
    pub(crate) fn address_after(&self, text: &str) -> String {
        let line = self.line_with(text);
        let (_, rest) = line.split_once(text).expect("the line has the text");
        rest.split([',', ' ']).next().unwrap_or_default().to_owned()
    }

    /// Waits until the broker is known to the name server.
    pub(crate) fn until_registered(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.admin(&["topicList"]).stdout.contains("DefaultCluster") {
            assert!(Instant::now() < deadline, "the broker does not register");
        }
    }

    /// Runs `apogee admin` against this process.
    pub(crate) fn admin(&self, arguments: &[&str]) -> Finished {
        let mut command = apogee(&["admin"]);
        command.args(arguments).args(["-n", &self.nameserver]);
        run(command)
    }

    /// As that, and expects success.
    pub(crate) fn admin_ok(&self, arguments: &[&str]) -> String {
        let finished = self.admin(arguments);
        assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:#?}");
        finished.stdout
    }

    /// Sends SIGTERM and waits for the end; with what is left of the log.
    pub(crate) fn terminate(mut self) -> (ExitStatus, String) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .expect("kill runs");
        assert!(sent.success());
        let status = self.wait();
        (status, self.log.iter().collect::<Vec<_>>().join("\n"))
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the process is there");
        self.wait();
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self
                .child
                .try_wait()
                .expect("the process can be waited for")
            {
                return status;
            }
            assert!(Instant::now() < deadline, "the process does not end");
            std::thread::yield_now();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The first line with a text; all lines until the end or the deadline when there is none.
fn wait_for(lines: &Receiver<String>, text: &str) -> Result<String, Vec<String>> {
    let deadline = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if line.contains(text) {
            return Ok(line);
        }
        seen.push(line);
    }
    Err(seen)
}
