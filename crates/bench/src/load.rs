//! What a run does to a server: the shape of its messages, its pace, its length, its workload.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::ValueEnum;

use crate::stamp::STAMP_BYTES;

/// How request headers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Codec {
    /// What Java clients send unless told otherwise.
    Json,
    /// ROCKETMQ binary.
    Binary,
}

impl Codec {
    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Codec::Json => "json",
            Codec::Binary => "binary",
        }
    }
}

/// What all workloads have in common.
#[derive(Clone, Debug)]
pub struct Load {
    /// The broker.
    pub target: SocketAddr,
    /// The broker's process, whose CPU, memory and descriptors are read from /proc.
    pub pid: Option<u32>,
    /// Topic; with more than one topic, `-0`, `-1` … is appended.
    pub topic: String,
    /// Topics, used in turn.
    pub topics: u32,
    /// Queues of each topic, used in turn.
    pub queues: u32,
    /// Create the topics, and compare the broker's offsets with the acknowledgements. Not for the floor.
    pub create: bool,
    /// Sending connections, a thread each; of a pull, reading connections, which share the queues.
    pub connections: usize,
    /// Requests in flight on each, in closed loop; of a pull, each for another queue.
    pub window: usize,
    /// Messages per second over all connections: open loop. `None`: closed loop.
    pub rate: Option<u32>,
    /// Messages in each request.
    pub batch: usize,
    /// Body bytes of each message.
    pub body_bytes: usize,
    /// Give each message a key of its own.
    pub keys: bool,
    /// Different tags; 0 sends none.
    pub tags: u32,
    /// Header codec of the requests.
    pub codec: Codec,
    /// Time before the measured interval.
    pub warmup: Duration,
    /// The measured interval.
    pub measured: Duration,
    /// How long after the last acknowledgement messages may take to be in the queues, or to arrive. A broker may show
    /// the last messages a moment after it acknowledged them: Java dispatches behind its acknowledgements.
    pub settle: Duration,
}

impl Load {
    /// Four connections with 64 requests of 1 KiB in flight each, for ten seconds.
    pub fn new(target: SocketAddr) -> Self {
        Self {
            target,
            pid: None,
            topic: "Bench".to_owned(),
            topics: 1,
            queues: 8,
            create: true,
            connections: 4,
            window: 64,
            rate: None,
            batch: 1,
            body_bytes: 1024,
            keys: false,
            tags: 0,
            codec: Codec::Json,
            warmup: Duration::from_secs(2),
            measured: Duration::from_secs(10),
            settle: Duration::from_secs(10),
        }
    }

    pub(crate) fn topic_names(&self) -> Vec<String> {
        if self.topics == 1 {
            return vec![self.topic.clone()];
        }
        (0..self.topics)
            .map(|index| format!("{}-{index}", self.topic))
            .collect()
    }

    /// Whether a producer waits for each answer before it sends again: then a queue keeps its order on every server.
    /// Java handles the requests of one connection on several threads.
    pub(crate) fn promises_order(&self) -> bool {
        self.rate.is_none() && self.window == 1
    }
}

/// What is done.
#[derive(Clone, Debug)]
pub enum Workload {
    /// Send, one message a request or [`Load::batch`].
    Send,
    /// Drain a backlog over and over, each pass verified.
    Pull {
        /// Messages that are sent before.
        backlog: u64,
        /// Messages asked for at once.
        messages_max: u32,
    },
    /// Drain a backlog over and over as a group that selects one tag of [`Load::tags`] by an SQL92 expression.
    Filter {
        /// Messages that are sent before, of all tags.
        backlog: u64,
        /// Messages asked for at once.
        messages_max: u32,
    },
    /// Pop a backlog and acknowledge each message, over and over in groups that are new; the first round is verified.
    Pop {
        /// Messages that are sent before.
        backlog: u64,
        /// Messages of one pop at most.
        messages_max: u32,
    },
    /// Send, and receive everything in each of several groups by long polling.
    Deliver {
        /// Groups; each receives every message.
        groups: usize,
        /// Reading connections of each group; they share the queues.
        readers: usize,
    },
    /// Send at a fixed rate: alone, then beside a reader that drains a backlog of old messages.
    Cold {
        /// Messages of the backlog.
        backlog: u64,
        /// The broker's store on this machine, whose files are dropped from the page cache before they are read.
        store: Option<PathBuf>,
    },
}

impl Workload {
    /// As on the command line.
    pub fn name(&self, load: &Load) -> &'static str {
        match self {
            Workload::Send if load.batch > 1 => "batch",
            Workload::Send => "send",
            Workload::Pull { .. } => "pull",
            Workload::Filter { .. } => "filter",
            Workload::Pop { .. } => "pop",
            Workload::Deliver { groups: 1, .. } => "end-to-end",
            Workload::Deliver { .. } => "fan-out",
            Workload::Cold { .. } => "cold",
        }
    }

    pub(crate) fn check(&self, load: &Load) -> Result<()> {
        let reads = !matches!(self, Workload::Send);
        ensure!(
            !reads || load.body_bytes >= STAMP_BYTES,
            "a body of {} bytes has no room for what receivers verify; take at least {STAMP_BYTES}",
            load.body_bytes
        );
        ensure!(
            !reads || load.create,
            "a server that is not asked for topics cannot be read from"
        );
        ensure!(
            !matches!(self, Workload::Cold { .. }) || load.rate.is_some(),
            "the cold workload needs a rate"
        );
        let pops = matches!(self, Workload::Pop { .. });
        ensure!(
            !pops || load.topics == 1 && load.codec == Codec::Json,
            "a pop takes one topic, and its code does not fit the binary codec"
        );
        ensure!(
            !matches!(self, Workload::Filter { .. }) || load.topics == 1 && load.tags > 0,
            "a filter takes one topic, and tags to tell messages apart"
        );
        ensure!(
            load.rate != Some(0),
            "a rate of 0 messages a second sends nothing"
        );
        Ok(())
    }
}
