//! The command line of `apogee bench`.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::compare;
use crate::floor::Floor;
use crate::hand_over::{self, HandOver};
use crate::load::{Codec, Load, Workload};
use crate::overload::{self, Overload};
use crate::report::Report;
use crate::timers::{self, TimerLoad};
use crate::topics::Creation;
use crate::transactions::Transactions;
use crate::workloads;

/// Tags among which a filter selects one, unless said.
const FILTER_TAGS: u32 = 4;

/// `apogee bench …`
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

/// The same words apart from the rest of the program, for `compare`.
#[derive(Debug, Parser)]
#[command(name = "apogee bench", no_binary_name = true)]
pub(crate) struct WorkloadLine {
    #[command(subcommand)]
    pub(crate) command: WorkloadCommand,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Workload(WorkloadCommand),
    /// Compare two servers, or two settings, by pairs of runs in the order A B B A: medians, spread, ratio.
    Compare(compare::Args),
    /// Create many topics as fast as the broker takes them.
    Topics(TopicsArgs),
    /// Send halves of transactions and end them; every commit is counted in the queues afterwards.
    Transactions(TransactionsArgs),
    /// Offer four times what the broker can take, beside clients that stop reading and frames that do not end; fails when a
    /// promise of docs/reliability.md is broken.
    Overload(OverloadArgs),
    /// Send a million messages that are due in the far future, then measure how late others are delivered beside them.
    Timers(TimersArgs),
    /// Lock queues as a client that consumes them in order, let it die, and wait until another client of its group has them.
    HandOver(HandOverArgs),
    /// Serve as the least any broker must do: frames, CRC, record, append, answer. Prints its address and runs until
    /// it is stopped.
    Floor(FloorArgs),
}

/// What `compare` can repeat.
#[derive(Debug, Subcommand)]
pub(crate) enum WorkloadCommand {
    /// Send messages; what is acknowledged is counted in the queues afterwards.
    Send(SendArgs),
    /// Send several messages with each request.
    Batch(BatchArgs),
    /// Drain a backlog over and over, verified.
    Pull(PullArgs),
    /// Drain a backlog over and over as a group that selects one of --tags by an SQL92 expression; counts what is selected.
    Filter(FilterArgs),
    /// Pop a backlog and acknowledge every message, over and over; latency is that of the pops.
    Pop(PopArgs),
    /// Send and receive by long polling; latency is that from send to receipt.
    EndToEnd(EndToEndArgs),
    /// Send, and receive everything in each of several groups.
    FanOut(FanOutArgs),
    /// Send at a fixed rate, alone and then beside a reader of old messages; latency is that of the sends.
    Cold(ColdArgs),
}

#[derive(Debug, ClapArgs)]
struct Common {
    /// The broker (not the name server), host:port.
    #[arg(long, value_name = "HOST:PORT", value_parser = resolve)]
    target: SocketAddr,
    /// The broker's process, whose CPU, memory and descriptors are read from /proc; device writes are the machine's.
    #[arg(long)]
    pid: Option<u32>,
    /// Topic, created with --queues queues.
    #[arg(long, default_value = "Bench")]
    topic: String,
    /// Topics, used in turn; with more than one, -0, -1 … is appended to the name.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    topics: u32,
    /// Queues of each topic, used in turn.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    queues: u32,
    /// Body bytes. What receivers verify needs 24 of them.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(0..=4_194_303))]
    body: u32,
    /// Give each message a key of its own.
    #[arg(long)]
    keys: bool,
    /// Different tags; 0 sends none.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1000))]
    tags: u32,
    /// Header codec.
    #[arg(long, value_enum, default_value_t = Codec::Json)]
    codec: Codec,
    /// Connections, a thread each.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Seconds before measuring begins.
    #[arg(long, default_value_t = 2)]
    warmup: u64,
    /// Seconds measured.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// One JSON object on stdout instead of the table.
    #[arg(long)]
    json: bool,
}

/// How fast is sent.
#[derive(Debug, ClapArgs)]
struct PaceArgs {
    /// Closed loop: requests in flight on each connection.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    window: u32,
    /// Open loop: messages per second over all connections, each due at its time whatever the server does; latency
    /// counts from then.
    #[arg(long, conflicts_with = "window", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct SendArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    pace: PaceArgs,
    /// Do not create the topic and do not ask for offsets: for servers that only take sends.
    #[arg(long)]
    no_create: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct BatchArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    pace: PaceArgs,
    /// Messages in each request.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(2..=4096))]
    messages: u32,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct PullArgs {
    #[command(flatten)]
    common: Common,
    /// Pulls in flight on each connection, each of another queue.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    window: u32,
    /// Messages that are sent before.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    backlog: u64,
    /// Messages asked for at once.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    messages: u32,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct FilterArgs {
    /// Its --tags are four unless said.
    #[command(flatten)]
    pull: PullArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct PopArgs {
    #[command(flatten)]
    common: Common,
    /// Messages that are sent before.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    backlog: u64,
    /// Messages of one pop at most.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=32))]
    messages: u32,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct EndToEndArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    pace: PaceArgs,
    /// Receiving connections; they share the queues.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024))]
    readers: u32,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct FanOutArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    pace: PaceArgs,
    /// Groups that receive everything.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    groups: u32,
    /// Receiving connections of each group; they share the queues.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    readers: u32,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ColdArgs {
    #[command(flatten)]
    common: Common,
    /// Messages per second that the producer sends.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Old messages, sent before.
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1..))]
    backlog: u64,
    /// The broker's store on this machine: its files are dropped from the page cache before the reader begins. Without
    /// it, old messages are read from wherever they are.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
struct TopicsArgs {
    /// The broker (not the name server), host:port.
    #[arg(long, value_name = "HOST:PORT", value_parser = resolve)]
    target: SocketAddr,
    /// The broker's process, whose CPU, memory and descriptors are read from /proc.
    #[arg(long)]
    pid: Option<u32>,
    /// What the names begin with; -0, -1 … is appended.
    #[arg(long, default_value = "Scale")]
    topic: String,
    /// How many topics.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    topics: u32,
    /// Queues of each topic.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    queues: u32,
    /// Connections, a thread each, with 48 creations in flight.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    connections: u32,
    /// One JSON object on stdout instead of a line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
struct TimersArgs {
    #[command(flatten)]
    common: Common,
    /// Messages that wait meanwhile.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pending: u64,
    /// Days until the first of them is due; the last is due after twice as many. A Java broker takes three days in all by its defaults.
    #[arg(long, default_value_t = 30.0)]
    ahead_days: f64,
    /// Messages a second whose lateness is measured.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// The least delay of those, in milliseconds.
    #[arg(long, default_value_t = 500)]
    delay_min: u64,
    /// The longest.
    #[arg(long, default_value_t = 5_000)]
    delay_max: u64,
}

impl TimersArgs {
    fn timers(&self) -> TimerLoad {
        TimerLoad {
            load: self.common.load(),
            pending: self.pending,
            ahead_days: self.ahead_days.max(0.01),
            rate: self.rate,
            delay: (
                Duration::from_millis(self.delay_min),
                Duration::from_millis(self.delay_max.max(self.delay_min)),
            ),
        }
    }
}

#[derive(Debug, ClapArgs)]
struct TransactionsArgs {
    #[command(flatten)]
    common: Common,
    /// Transactions that each connection has under way.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    window: u32,
    /// Of so many transactions one is rolled back; 0 commits all.
    #[arg(long, default_value_t = 0)]
    rollback_one_in: u64,
}

#[derive(Debug, ClapArgs)]
struct OverloadArgs {
    #[command(flatten)]
    common: Common,
    /// Closed loop that finds the capacity: requests in flight on each of --connections.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    window: u32,
    /// How many times the capacity is offered.
    #[arg(long, default_value_t = 4.0)]
    times: f64,
    /// Connections of the overload.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    flood_connections: u32,
    /// Unanswered requests of each, at most; what is due beyond is not sent.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    outstanding: u32,
    /// Consumers that ask for everything and read nothing.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    deaf_consumers: u32,
    /// Connections whose frame does not end: its length only, half a header, half a body of 16 MiB, in turn.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    half_frames: u32,
    /// Seconds of each phase without overload.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    calm: u64,
    /// Report latencies without failing by them: for machines that do other work meanwhile.
    #[arg(long)]
    no_latency_check: bool,
}

impl OverloadArgs {
    fn overload(&self) -> Overload {
        Overload {
            load: Load {
                window: self.window as usize,
                ..self.common.load()
            },
            times: self.times,
            connections: self.flood_connections as usize,
            outstanding: self.outstanding as usize,
            duration: Duration::from_secs(self.common.seconds),
            deaf_consumers: self.deaf_consumers as usize,
            half_frames: self.half_frames as usize,
            calm: Duration::from_secs(self.calm),
            check_latency: !self.no_latency_check,
        }
    }
}

#[derive(Debug, ClapArgs)]
struct HandOverArgs {
    #[command(flatten)]
    common: Common,
    /// The longest wait.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=3600))]
    patience: u64,
}

#[derive(Debug, ClapArgs)]
struct FloorArgs {
    /// File that the records are appended to.
    #[arg(long)]
    file: PathBuf,
    /// Answer only after an fdatasync that covers the record, shared by all that wait.
    #[arg(long)]
    sync: bool,
    /// Port; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
}

fn resolve(text: &str) -> Result<SocketAddr, String> {
    let mut addresses = text
        .to_socket_addrs()
        .map_err(|error| format!("{error}; write host:port"))?;
    addresses
        .next()
        .ok_or_else(|| "the name has no address".to_owned())
}

impl Common {
    fn load(&self) -> Load {
        Load {
            pid: self.pid,
            topic: self.topic.clone(),
            topics: self.topics,
            queues: self.queues,
            connections: self.connections as usize,
            body_bytes: self.body as usize,
            keys: self.keys,
            tags: self.tags,
            codec: self.codec,
            warmup: Duration::from_secs(self.warmup),
            measured: Duration::from_secs(self.seconds),
            ..Load::new(self.target)
        }
    }

    fn paced(&self, pace: &PaceArgs) -> Load {
        Load {
            window: pace.window as usize,
            rate: pace.rate,
            ..self.load()
        }
    }
}

impl WorkloadCommand {
    fn common(&self) -> &Common {
        match self {
            WorkloadCommand::Send(args) => &args.common,
            WorkloadCommand::Batch(args) => &args.common,
            WorkloadCommand::Pull(args) => &args.common,
            WorkloadCommand::Filter(args) => &args.pull.common,
            WorkloadCommand::Pop(args) => &args.common,
            WorkloadCommand::EndToEnd(args) => &args.common,
            WorkloadCommand::FanOut(args) => &args.common,
            WorkloadCommand::Cold(args) => &args.common,
        }
    }

    /// What the words mean.
    pub(crate) fn load_and_workload(&self) -> (Load, Workload) {
        let common = self.common();
        match self {
            WorkloadCommand::Send(args) => {
                let load = Load {
                    create: !args.no_create,
                    ..common.paced(&args.pace)
                };
                (load, Workload::Send)
            }
            WorkloadCommand::Batch(args) => {
                let load = Load {
                    batch: args.messages as usize,
                    ..common.paced(&args.pace)
                };
                (load, Workload::Send)
            }
            WorkloadCommand::Pull(args) => {
                let load = Load {
                    window: args.window as usize,
                    ..common.load()
                };
                let workload = Workload::Pull {
                    backlog: args.backlog,
                    messages_max: args.messages,
                };
                (load, workload)
            }
            WorkloadCommand::Filter(FilterArgs { pull }) => {
                let load = Load {
                    window: pull.window as usize,
                    tags: if common.tags == 0 {
                        FILTER_TAGS
                    } else {
                        common.tags
                    },
                    ..common.load()
                };
                let workload = Workload::Filter {
                    backlog: pull.backlog,
                    messages_max: pull.messages,
                };
                (load, workload)
            }
            WorkloadCommand::Pop(args) => {
                let workload = Workload::Pop {
                    backlog: args.backlog,
                    messages_max: args.messages,
                };
                (common.load(), workload)
            }
            WorkloadCommand::EndToEnd(args) => {
                let workload = Workload::Deliver {
                    groups: 1,
                    readers: args.readers as usize,
                };
                (common.paced(&args.pace), workload)
            }
            WorkloadCommand::FanOut(args) => {
                let workload = Workload::Deliver {
                    groups: args.groups as usize,
                    readers: args.readers as usize,
                };
                (common.paced(&args.pace), workload)
            }
            WorkloadCommand::Cold(args) => {
                let load = Load {
                    rate: Some(args.rate),
                    ..common.load()
                };
                let workload = Workload::Cold {
                    backlog: args.backlog,
                    store: args.store.clone(),
                };
                (load, workload)
            }
        }
    }
}

/// Runs the command; the exit code says whether every message was verified.
///
/// # Errors
/// When the load cannot be made at all: no connection, no such process, a file that cannot be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Workload(command) => {
            let (load, workload) = command.load_and_workload();
            let report = workloads::run(&load, &workload)?;
            print(&report, command.common().json)?;
            Ok(exit_code(report.is_clean()))
        }
        Command::Compare(args) => {
            let is_clean = compare::run(&args)?;
            Ok(exit_code(is_clean))
        }
        Command::Topics(args) => {
            create_topics(args)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Transactions(args) => transact(args),
        Command::Overload(args) => {
            let report = overload::run(&args.overload())?;
            if args.common.json {
                println!("{}", serde_json::to_string(&report)?);
            } else {
                print!("{report}");
            }
            Ok(exit_code(report.broken().is_empty()))
        }
        Command::Timers(args) => {
            let report = timers::run(&args.timers())?;
            if args.common.json {
                println!("{}", serde_json::to_string(&report)?);
            } else {
                print!("{report}");
            }
            Ok(exit_code(report.is_clean()))
        }
        Command::HandOver(args) => {
            let report = hand_over::run(&HandOver {
                load: args.common.load(),
                patience: Duration::from_secs(args.patience),
            })?;
            if args.common.json {
                println!("{}", serde_json::to_string(&report)?);
            } else {
                println!(
                    "{} queues were with the next client {:.1} s after the first one died",
                    report.queues, report.seconds
                );
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Floor(args) => {
            let floor = Floor::start(args.port, &args.file, args.sync)?;
            println!("floor listening on {}", floor.local_addr());
            floor.serve()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn transact(args: TransactionsArgs) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(args.common.topics == 1, "transactions go to one topic");
    let transactions = Transactions {
        load: Load {
            window: args.window as usize,
            ..args.common.load()
        },
        rollback_one_in: args.rollback_one_in,
    };
    let report = transactions.run()?;
    if args.common.json {
        println!("{}", serde_json::to_string(&report)?);
        return Ok(exit_code(report.is_clean()));
    }
    println!(
        "{} transactions in {:.0} s, {:.0} a second; from half to end {:.2} ms at 50 %, {:.2} ms at 99 %",
        report.transactions,
        report.seconds,
        report.per_second,
        report.latency.p50_ms,
        report.latency.p99_ms
    );
    if let (Some(usage), Some(rate)) = (report.broker, report.per_broker_cpu_second) {
        println!(
            "the broker used {:.2} s of CPU: {rate:.0} transactions for each; it has {} MiB of memory",
            usage.cpu_seconds,
            usage.anonymous_bytes >> 20
        );
    }
    println!(
        "{} commits acknowledged, {} messages in the queues, {} requests refused{}",
        report.committed,
        report.stored,
        report.refused,
        report
            .first_refusal
            .as_deref()
            .map(|refusal| format!(" (first: {refusal})"))
            .unwrap_or_default()
    );
    Ok(exit_code(report.is_clean()))
}

fn create_topics(args: TopicsArgs) -> anyhow::Result<()> {
    let creation = Creation {
        target: args.target,
        pid: args.pid,
        prefix: args.topic,
        topics: args.topics,
        queues: args.queues,
        connections: args.connections,
        progress: true,
    };
    let created = creation.run()?;
    if args.json {
        println!("{}", serde_json::to_string(&created)?);
        return Ok(());
    }
    println!(
        "{} topics of {} queues in {:.1} s, {:.0} a second",
        created.topics, args.queues, created.seconds, created.per_second
    );
    if let Some(broker) = created.broker {
        println!(
            "the broker used {:.1} s of CPU; it has {} MiB of memory, {} MiB of files in memory, {} descriptors",
            broker.cpu_seconds,
            broker.anonymous_bytes >> 20,
            broker.file_bytes >> 20,
            broker.descriptors
        );
    }
    Ok(())
}

fn print(report: &Report, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}

fn exit_code(is_clean: bool) -> ExitCode {
    if is_clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<WorkloadLine, clap::Error> {
        WorkloadLine::try_parse_from(line.split_whitespace())
    }

    fn error(line: &str) -> String {
        parse(line).unwrap_err().to_string()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        WorkloadLine::command().debug_assert();
    }

    #[test]
    fn words_become_a_load() {
        let line = parse("batch --target localhost:10911 --rate 500 --messages 16 --codec binary");
        let (load, workload) = line.unwrap().command.load_and_workload();
        assert_eq!(
            (load.rate, load.batch, load.codec),
            (Some(500), 16, Codec::Binary)
        );
        assert_eq!(load.target.port(), 10911);
        assert_eq!(workload.name(&load), "batch");
    }

    #[test]
    fn bad_words_are_refused_with_what_would_be_right() {
        assert!(error("send --target 127.0.0.1:1 --codec xml").contains("json, binary"));
        assert!(error("send --target 127.0.0.1:1 --rate 0").contains("0 is not in 1.."));
        assert!(error("send --target 127.0.0.1").contains("write host:port"));
        assert!(error("send --target 127.0.0.1:1 --rate 5 --window 2").contains("cannot be used"));
        assert!(error("batch --target 127.0.0.1:1 --messages 1").contains("1 is not in 2..=4096"));
    }
}
