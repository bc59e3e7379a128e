//! Many topics: created over the protocol as fast as the broker takes them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::CreateTopicRequest;
use serde::Serialize;

use crate::process::Usage;
use crate::wire::Session;

/// Creations that one connection has in flight: what a broker serves beside the reading of one connection.
const IN_FLIGHT: usize = 48;
/// How often the progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Which topics are created, and how.
#[derive(Clone, Debug)]
pub struct Creation {
    /// The broker.
    pub target: SocketAddr,
    /// Its process, whose CPU, memory and descriptors are read.
    pub pid: Option<u32>,
    /// `-0`, `-1` … is appended.
    pub prefix: String,
    /// How many.
    pub topics: u32,
    /// Queues of each.
    pub queues: u32,
    /// Connections, a thread each.
    pub connections: u32,
    /// Tell on stderr how far it has come, once a second.
    pub progress: bool,
}

/// What creating topics took.
#[derive(Clone, Debug, Serialize)]
pub struct Created {
    /// Topics.
    pub topics: u32,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Topics in a second.
    pub per_second: f64,
    /// What the broker used for it, when its process was named; memory and descriptors are those at the end.
    pub broker: Option<Usage>,
}

impl Creation {
    /// The names.
    pub fn names(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.topics).map(|number| format!("{}-{number}", self.prefix))
    }

    /// Creates the topics; each was acknowledged.
    ///
    /// # Errors
    /// When a connection fails or the broker refuses one.
    pub fn run(&self) -> Result<Created> {
        let before = self.pid.map(Usage::of).transpose()?;
        let begin = Instant::now();
        let (next, done) = (AtomicU32::new(0), AtomicU32::new(0));
        let (finished, wait) = std::sync::mpsc::channel::<()>();
        thread::scope(|scope| -> Result<()> {
            let (next, done) = (&next, &done);
            let creators: Vec<_> = (0..self.connections)
                .map(|_| {
                    let finished = finished.clone();
                    scope.spawn(move || {
                        let _ends_with_the_thread = finished;
                        self.create(next, done)
                    })
                })
                .collect();
            drop(finished);
            while wait
                .recv_timeout(PROGRESS_INTERVAL)
                .is_err_and(|error| error == std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                self.tell(begin, done.load(Ordering::Relaxed));
            }
            for creator in creators {
                creator
                    .join()
                    .map_err(|_| anyhow!("a creator panicked"))??;
            }
            Ok(())
        })?;
        let seconds = begin.elapsed().as_secs_f64();
        let after = self.pid.map(Usage::of).transpose()?;
        Ok(Created {
            topics: self.topics,
            seconds,
            per_second: f64::from(self.topics) / seconds,
            broker: before.zip(after).map(|(before, after)| Usage {
                cpu_seconds: after.cpu_seconds - before.cpu_seconds,
                device_bytes_written: after.device_bytes_written - before.device_bytes_written,
                device_bytes_read: after.device_bytes_read - before.device_bytes_read,
                ..after
            }),
        })
    }

    fn tell(&self, begin: Instant, done: u32) {
        if self.progress {
            let rate = f64::from(done) / begin.elapsed().as_secs_f64();
            eprintln!("{done} of {} topics, {rate:.0} a second", self.topics);
        }
    }

    fn create(&self, next: &AtomicU32, done: &AtomicU32) -> Result<()> {
        let mut session = Session::open(self.target)?;
        loop {
            let first = next.fetch_add(IN_FLIGHT as u32, Ordering::Relaxed);
            if first >= self.topics {
                return Ok(());
            }
            let numbers = first..self.topics.min(first + IN_FLIGHT as u32);
            let names: Vec<_> = numbers
                .map(|number| format!("{}-{number}", self.prefix))
                .collect();
            let requests = names
                .iter()
                .map(|name| creation(name, self.queues))
                .collect();
            for (name, answer) in names.iter().zip(session.call_all(requests)?) {
                ensure!(
                    answer.response_code() == ResponseCode::SUCCESS,
                    "topic {name} cannot be created: {} {}",
                    answer.response_code(),
                    answer.remark.unwrap_or_default()
                );
            }
            done.fetch_add(names.len() as u32, Ordering::Relaxed);
        }
    }
}

/// UPDATE_AND_CREATE_TOPIC, as `mqadmin updateTopic` sends it.
pub(crate) fn creation(topic: &str, queues: u32) -> Command {
    let header = CreateTopicRequest {
        topic: topic.to_owned(),
        default_topic: "TBW102".to_owned(),
        read_queue_nums: queues as i32,
        write_queue_nums: queues as i32,
        perm: 6,
        topic_filter_type: "SINGLE_TAG".to_owned(),
        topic_sys_flag: Some(0),
        order: false,
        ..CreateTopicRequest::default()
    };
    Command::request(RequestCode::UPDATE_AND_CREATE_TOPIC, &header)
}

/// Connections that did nothing but say who they are. Closed when dropped.
#[derive(Debug)]
pub struct IdleConnections {
    sessions: Vec<std::net::TcpStream>,
}

impl IdleConnections {
    /// Opens `count` connections that each send a heartbeat as the producer of one group, and waits for the answers.
    ///
    /// # Errors
    /// When the broker takes fewer. The caller's limit of descriptors is raised as far as the system allows.
    pub fn open(target: SocketAddr, count: u32) -> Result<IdleConnections> {
        raise_descriptors();
        let mut sessions = Vec::with_capacity(count as usize);
        for number in 0..count {
            let mut session =
                Session::open(target).with_context(|| format!("connection {number} of {count}"))?;
            let body = BTreeMap::from([
                (
                    "clientID",
                    serde_json::json!(format!("127.0.0.1@idle-{number}")),
                ),
                (
                    "producerDataSet",
                    serde_json::json!([{"groupName": "idle"}]),
                ),
                ("consumerDataSet", serde_json::json!([])),
            ]);
            let heartbeat = Command::request(RequestCode::HEART_BEAT, &())
                .with_body(serde_json::to_vec(&body)?);
            let answer = session.call(heartbeat)?;
            ensure!(
                answer.response_code() == ResponseCode::SUCCESS,
                "a heartbeat was answered {}",
                answer.response_code()
            );
            sessions.push(session.into_stream());
        }
        Ok(IdleConnections { sessions })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.sessions.len()
    }
}

/// As many descriptors as this process may have; processes that it starts have them too.
pub fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused, opening says so later.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}
