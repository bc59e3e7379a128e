//! The load generator and the floor program.
//!
//! One generator drives every server that speaks the protocol, so that ratios between servers are ratios of the
//! servers: the same frames, connections and in-flight counts, the same checks. [`Floor`] is the least that any broker
//! must do for the same load.

mod connection;
mod floor;
mod frames;
mod process;
mod report;
mod send;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

pub use floor::Floor;
pub use process::Usage;
pub use report::SendReport;
pub use send::{SendLoad, run as run_send};

/// `apogee bench …`
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send messages to a broker, a fixed number in flight, and report throughput, latency and the broker's cost.
    Send(SendArgs),
    /// Serve as the least any broker must do: frames, CRC, record, append, answer. Prints its address and runs until
    /// it is stopped.
    Floor(FloorArgs),
}

#[derive(Debug, ClapArgs)]
struct SendArgs {
    /// The broker (not the name server), host:port.
    #[arg(long)]
    target: SocketAddr,
    /// Topic; created with --queues queues unless --no-create.
    #[arg(long, default_value = "Bench")]
    topic: String,
    /// Queues of the topic.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    queues: u32,
    /// Do not create the topic and do not ask for offsets: for servers that only take sends.
    #[arg(long)]
    no_create: bool,
    /// Connections.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Requests in flight on each connection.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    window: u32,
    /// Body bytes.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(0..=4_194_303))]
    body: u32,
    /// Header codec.
    #[arg(long, value_enum, default_value_t = Codec::Json)]
    codec: Codec,
    /// Seconds before measuring begins.
    #[arg(long, default_value_t = 2)]
    warmup: u64,
    /// Seconds measured.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// The broker's process, whose CPU and memory are read from /proc.
    #[arg(long)]
    pid: Option<u32>,
    /// One JSON object on stdout instead of the table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
struct FloorArgs {
    /// File that the records are appended to.
    #[arg(long)]
    file: std::path::PathBuf,
    /// Answer only after an fdatasync that covers the record, shared by all that wait.
    #[arg(long)]
    sync: bool,
    /// Port; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
}

/// How request headers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Codec {
    /// What Java clients send unless told otherwise.
    Json,
    /// ROCKETMQ binary.
    Binary,
}

/// Runs the command; the exit code says whether every message was verified.
///
/// # Errors
/// When the load cannot be made at all: no connection, no such process, a file that cannot be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Send(args) => {
            let load = SendLoad {
                target: args.target,
                topic: args.topic,
                queues: args.queues,
                create: !args.no_create,
                connections: args.connections as usize,
                window: args.window as usize,
                body_bytes: args.body as usize,
                codec: args.codec,
                warmup: Duration::from_secs(args.warmup),
                measured: Duration::from_secs(args.seconds),
                pid: args.pid,
            };
            let report = send::run(&load)?;
            if args.json {
                println!("{}", serde_json::to_string(&report)?);
            } else {
                print!("{report}");
            }
            Ok(if report.is_clean() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Command::Floor(args) => {
            let floor = Floor::start(args.port, &args.file, args.sync)?;
            println!("floor listening on {}", floor.local_addr());
            floor.serve()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
