//! The command line's administrative commands: mqadmin's names, flags and output.
//!
//! Data goes to stdout, everything else to stderr. The exit code is 0 only when what was asked has been done, 1 when it
//! has not, 2 when the command line itself is wrong. `--json` prints one JSON document instead of the table.

mod cluster;
mod cold;
mod consume;
mod consumer;
mod format;
mod mode;
mod offset;
mod output;
mod place;
mod query;
mod send;
mod stats;
mod topic;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use admin::Admin;
use clap::{Parser, Subcommand};
use remoting::{Client, ClientConfig, NoPushes};

use output::Output;

/// Where the name server is when nothing says otherwise.
const DEFAULT_NAMESERVER: &str = "127.0.0.1:9876";

/// Administrative commands, with the names and flags of RocketMQ's mqadmin.
#[derive(Debug, Parser)]
#[command(name = "apogee admin", bin_name = "apogee admin")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

/// Options that every command has.
#[derive(Debug, clap::Args)]
struct Common {
    /// Name server addresses, separated by semicolons [default: $NAMESRV_ADDR, then 127.0.0.1:9876]
    #[arg(short = 'n', long = "namesrvAddr", value_name = "ADDR;ADDR")]
    nameservers: Option<String>,
    /// Print one JSON document instead of a table
    #[arg(long)]
    json: bool,
    /// How long to wait for each answer
    #[arg(long = "timeout-ms", value_name = "MS", default_value_t = 5000)]
    timeout_ms: u64,
}

/// A command with the options that all have.
#[derive(Debug, clap::Args)]
struct With<T: clap::Args> {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    own: T,
}

#[derive(Debug, Subcommand)]
#[command(rename_all = "camelCase")]
enum Command {
    /// Create or change a topic
    UpdateTopic(With<topic::UpdateTopic>),
    /// Delete a topic from a cluster's brokers and the name servers
    DeleteTopic(With<topic::DeleteTopic>),
    /// List all topics
    TopicList(With<topic::TopicList>),
    /// Show which brokers serve a topic
    TopicRoute(With<topic::TopicRoute>),
    /// Show the offsets of a topic's queues
    TopicStatus(With<topic::TopicStatus>),
    /// List clusters and their brokers
    ClusterList(With<cluster::ClusterList>),
    /// Show how far groups are, or one group queue by queue
    ConsumerProgress(With<consumer::ConsumerProgress>),
    /// Show what consumers tell of their inside
    ConsumerStatus(With<consumer::ConsumerStatus>),
    /// Show how far all groups of a broker are
    BrokerConsumeStats(With<stats::BrokerConsumeStats>),
    /// Show what came into topics and went out to groups
    StatsAll(With<stats::StatsAll>),
    /// Let a group go on at a time or an offset
    ResetOffsetByTime(With<offset::ResetOffsetByTime>),
    /// Let a group go on at the end of a topic's queues
    SkipAccumulatedMessage(With<offset::SkipAccumulatedMessage>),
    /// Let a group go on where another one is
    CloneGroupOffset(With<offset::CloneGroupOffset>),
    /// Say whether a group takes a topic's messages by pull or by pop
    SetConsumeMode(With<mode::SetConsumeMode>),
    /// Show what groups read that was not in memory, and what they may
    GetColdDataFlowCtrInfo(With<cold::GetColdDataFlowCtrInfo>),
    /// Give a group a threshold of its own for reads that are not in memory
    UpdateColdDataFlowCtrGroupConfig(With<cold::UpdateColdDataFlowCtrGroupConfig>),
    /// Take a group's own threshold away
    RemoveColdDataFlowCtrGroupConfig(With<cold::RemoveColdDataFlowCtrGroupConfig>),
    /// Say whether the kernel reads the commit log ahead
    SetCommitLogReadAheadMode(With<cold::SetCommitLogReadAheadMode>),
    /// Send a message
    SendMessage(With<send::SendMessage>),
    /// Read messages of a topic, without committing offsets
    ConsumeMessage(With<consume::ConsumeMessage>),
    /// Show the message with an id
    QueryMsgById(With<query::QueryMsgById>),
    /// List the messages with a key
    QueryMsgByKey(With<query::QueryMsgByKey>),
    /// Show the message with a unique key
    QueryMsgByUniqueKey(With<query::QueryMsgByUniqueKey>),
}

/// Runs one command to its end and returns its exit code.
pub async fn run(args: Args) -> ExitCode {
    match args.command {
        Command::UpdateTopic(With { common, own }) => {
            finish(topic::update(&own, common.start()).await)
        }
        Command::DeleteTopic(With { common, own }) => {
            finish(topic::delete(&own, common.start()).await)
        }
        Command::TopicList(With { common, own }) => finish(topic::list(&own, common.start()).await),
        Command::TopicRoute(With { common, own }) => {
            finish(topic::route(&own, common.start()).await)
        }
        Command::TopicStatus(With { common, own }) => {
            finish(topic::status(&own, common.start()).await)
        }
        Command::ClusterList(With { common, own }) => {
            finish(cluster::list(&own, common.start()).await)
        }
        Command::ConsumerProgress(With { common, own }) => {
            finish(consumer::progress(&own, common.start()).await)
        }
        Command::ConsumerStatus(With { common, own }) => {
            finish(consumer::status(&own, common.start()).await)
        }
        Command::BrokerConsumeStats(With { common, own }) => {
            finish(stats::broker_stats(&own, common.start()).await)
        }
        Command::StatsAll(With { common, own }) => finish(stats::all(&own, common.start()).await),
        Command::ResetOffsetByTime(With { common, own }) => {
            finish(offset::reset_by_time(&own, common.start()).await)
        }
        Command::SkipAccumulatedMessage(With { common, own }) => {
            finish(offset::skip(&own, common.start()).await)
        }
        Command::CloneGroupOffset(With { common, own }) => {
            finish(offset::clone(&own, common.start()).await)
        }
        Command::SetConsumeMode(With { common, own }) => {
            finish(mode::set(&own, common.start()).await)
        }
        Command::GetColdDataFlowCtrInfo(With { common, own }) => {
            finish(cold::info(&own, common.start()).await)
        }
        Command::UpdateColdDataFlowCtrGroupConfig(With { common, own }) => {
            finish(cold::update(&own, common.start()).await)
        }
        Command::RemoveColdDataFlowCtrGroupConfig(With { common, own }) => {
            finish(cold::remove(&own, common.start()).await)
        }
        Command::SetCommitLogReadAheadMode(With { common, own }) => {
            finish(cold::read_ahead(&own, common.start()).await)
        }
        Command::SendMessage(With { common, own }) => {
            finish(send::send(&own, common.start()).await)
        }
        Command::ConsumeMessage(With { common, own }) => {
            finish(consume::consume(&own, common.start()).await)
        }
        Command::QueryMsgById(With { common, own }) => {
            finish(query::by_id(&own, common.start()).await)
        }
        Command::QueryMsgByKey(With { common, own }) => {
            finish(query::by_key(&own, common.start()).await)
        }
        Command::QueryMsgByUniqueKey(With { common, own }) => {
            finish(query::by_unique_key(&own, common.start()).await)
        }
    }
}

/// What a command works with.
struct Session {
    admin: Admin,
    out: Output,
}

impl Common {
    fn start(self) -> Session {
        let list = self
            .nameservers
            .or_else(|| std::env::var("NAMESRV_ADDR").ok())
            .unwrap_or_else(|| DEFAULT_NAMESERVER.to_owned());
        let nameservers = list
            .split(';')
            .map(str::trim)
            .filter(|addr| !addr.is_empty())
            .map(str::to_owned)
            .collect();
        let client = Client::new(ClientConfig::default(), Arc::new(NoPushes));
        let admin =
            Admin::new(client, nameservers).with_timeout(Duration::from_millis(self.timeout_ms));
        Session {
            admin,
            out: Output::new(self.json),
        }
    }
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Admin(#[from] admin::Error),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Other(String),
    #[error("cannot write the output: {0}")]
    Output(#[from] std::io::Error),
}

fn finish(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has seen enough, `head` for example.
        Err(Failure::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("error: {failure}");
            if let Some(hint) = hint(&failure) {
                eprintln!("hint: {hint}");
            }
            ExitCode::from(if matches!(failure, Failure::Usage(_)) {
                2
            } else {
                1
            })
        }
    }
}

/// What the user may do about a failure.
fn hint(failure: &Failure) -> Option<&'static str> {
    use protocol::code::ResponseCode;
    let Failure::Admin(error) = failure else {
        return None;
    };
    match error {
        admin::Error::Refused { code, .. } if *code == ResponseCode::TOPIC_NOT_EXIST => Some(
            "list the topics with `topicList`, or create this one with `updateTopic -c CLUSTER -t TOPIC`",
        ),
        admin::Error::Call { .. } => Some(
            "the broker is registered under this address; if it is wrong, set brokerIP1 in the broker's configuration",
        ),
        admin::Error::UnknownCluster { .. } => Some("list the clusters with `clusterList`"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn mqadmins_flags_are_understood() {
        let check = |line: &str| {
            let words = std::iter::once("apogee admin").chain(line.split_whitespace());
            Args::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
        };
        check(
            "updateTopic -n a:1;b:2 -c DefaultCluster -t T -r 8 -w 8 -p 6 -o true -u false -s false -a +k=v,-x",
        );
        check("updateTopic -b 127.0.0.1:10911 -t T -a -x");
        check("topicList -c");
        check("topicRoute -t T -l");
        check("topicStatus -t T -c C --json");
        check("clusterList -m -i 5 -c C");
        check("consumerProgress -n a:1");
        check("consumerProgress -g G -t T -s true -c C");
        check("consumerStatus -g G -i c@1 -s");
        check("consumerStatus -g G -b 127.0.0.1:10911 --json");
        check("brokerConsumeStats -b 127.0.0.1:10911 -t 1000 -l 1 -o true");
        check("statsAll -a -t T");
        check("resetOffsetByTime -g G -t T -s now -f false");
        check("resetOffsetByTime -g G -t T -s -1 -c DefaultCluster");
        check("resetOffsetByTime -g G -t T -s 2026-01-31#23:59:59:999 -b a:1 -q 0 -o 5");
        check("skipAccumulatedMessage -g G -t T -f true");
        check("cloneGroupOffset -s A -d B -t T -o true");
        check("setConsumeMode -c DefaultCluster -t T -g G -m POP -q 4");
        check("setConsumeMode -b a:1 -t T -g G -m pull");
        check("getColdDataFlowCtrInfo -b a:1");
        check("updateColdDataFlowCtrGroupConfig -c DefaultCluster -g G -v 5");
        check("removeColdDataFlowCtrGroupConfig -b a:1 -g G");
        check("setCommitLogReadAheadMode -b a:1 -m 1");
        check("sendMessage -t T -p -body- -k K -c TagA -b broker-a -i 0 -m true");
        check(
            "consumeMessage -t T -b broker-a -i 0 -o 5 -g G -s 1 -e 2026-01-01#00:00:00:000 -c 3",
        );
        check("queryMsgById -t T -i A,B -f UTF-8 -c C");
        check("queryMsgByKey -t T -k K -b 0 -e 9 -m 64 -c C");
        check("queryMsgByUniqueKey -t T -i I -a -c C");
        check("topicRoute --topic T --namesrvAddr a:1");
    }

    #[test]
    fn a_way_of_consuming_is_pull_or_pop() {
        let parse = |line: &str| Args::try_parse_from(line.split_whitespace());
        for line in [
            "admin setConsumeMode -b x -t T -g G -m PUSH",
            "admin setConsumeMode -b x -t T -g G",
            "admin setConsumeMode -b x -t T -g G -m POP -q -1",
            "admin setConsumeMode -b x -t T -g G -m POP -q many",
            "admin setConsumeMode -t T -g G -m POP",
            "admin setConsumeMode -b x -c y -t T -g G -m POP",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_topic_needs_a_broker_or_a_cluster() {
        let parse = |line: &str| Args::try_parse_from(line.split_whitespace());
        assert!(parse("admin updateTopic -t T").is_err());
        assert!(parse("admin updateTopic -t T -b x -c y").is_err());
        assert!(
            parse("admin consumeMessage -t T -i 0").is_err(),
            "a queue without its broker"
        );
    }
}
