//! The command line, under this program's own name and under those of RocketMQ's programs.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

/// What the command line asks for.
pub(crate) struct Invocation {
    pub(crate) log_level: Option<String>,
    pub(crate) command: Command,
}

/// What is to be done.
pub(crate) enum Command {
    AllInOne(AllInOne),
    Nameserver(Nameserver),
    Broker(Broker),
    Admin(cli::Args),
    Bench(bench::Args),
}

/// A message platform that speaks Apache RocketMQ's protocols and reads its files.
///
/// Without a command, all roles run in this process, on loopback, with data in ./apogee-data.
#[derive(Debug, Parser)]
#[command(name = "apogee", version, args_conflicts_with_subcommands = true)]
struct Apogee {
    #[command(flatten)]
    log: Log,
    #[command(flatten)]
    all_in_one: AllInOne,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Run a name server: which broker serves which topic
    Nameserver(Logged<Nameserver>),
    /// Run a broker: keeps and hands out messages
    Broker(Logged<Broker>),
    /// Administrative commands, with mqadmin's names and flags
    Admin(cli::Args),
    /// Measure: the load generator and the floor program
    Bench(bench::Args),
}

#[derive(Debug, clap::Args)]
struct Log {
    /// What is logged to stderr: error, warn, info, debug, trace, or filters as in RUST_LOG [default: $RUST_LOG, then info]
    #[arg(long = "log-level", value_name = "LEVEL")]
    log_level: Option<String>,
}

/// Arguments of a role with those of the log.
#[derive(Debug, clap::Args)]
struct Logged<T: clap::Args> {
    #[command(flatten)]
    log: Log,
    #[command(flatten)]
    own: T,
}

/// All roles in one process.
#[derive(Debug, clap::Args)]
pub(crate) struct AllInOne {
    /// Directory for all data
    #[arg(long = "data-dir", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address to listen on, and to advertise
    #[arg(long = "listen-ip", value_name = "IP")]
    pub(crate) listen_ip: Option<IpAddr>,
    /// Port of the name server; 0 takes a free one
    #[arg(long = "nameserver-port", value_name = "PORT", default_value_t = 9876)]
    pub(crate) nameserver_port: u16,
    /// Port of the broker; 0 takes a free one [default: 10911, or what the configuration file says]
    #[arg(long = "broker-port", value_name = "PORT")]
    pub(crate) broker_port: Option<u16>,
    /// Configuration file of the broker
    #[arg(short = 'c', long = "configFile", value_name = "FILE")]
    pub(crate) config_file: Option<PathBuf>,
    /// Do not send and show a message at the first start
    #[arg(long = "no-demo")]
    pub(crate) no_demo: bool,
}

/// One name server.
#[derive(Debug, clap::Args)]
pub(crate) struct Nameserver {
    /// Configuration file
    #[arg(short = 'c', long = "configFile", value_name = "FILE")]
    pub(crate) config_file: Option<PathBuf>,
    /// Port; 0 takes a free one [default: 9876, or what the configuration file says]
    #[arg(long = "port", value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Print the configuration and exit
    #[arg(short = 'p', long = "printConfigItem")]
    pub(crate) print: bool,
}

/// One broker.
#[derive(Debug, clap::Args)]
pub(crate) struct Broker {
    /// Configuration file
    #[arg(short = 'c', long = "configFile", value_name = "FILE")]
    pub(crate) config_file: Option<PathBuf>,
    /// Name server addresses, separated by semicolons [default: what the configuration file says, then $NAMESRV_ADDR]
    #[arg(short = 'n', long = "namesrvAddr", value_name = "ADDR;ADDR")]
    pub(crate) nameservers: Option<String>,
    /// Print the configuration and exit
    #[arg(short = 'p', long = "printConfigItem")]
    pub(crate) print: bool,
    /// Print the important part of the configuration and exit
    #[arg(short = 'm', long = "printImportantConfig")]
    pub(crate) print_important: bool,
}

/// RocketMQ's mqnamesrv.
#[derive(Debug, Parser)]
#[command(name = "mqnamesrv", version)]
struct Mqnamesrv {
    #[command(flatten)]
    log: Log,
    #[command(flatten)]
    own: Nameserver,
    /// Accepted for mqnamesrv's sake: a name server asks nobody
    #[arg(short = 'n', long = "namesrvAddr", value_name = "ADDR;ADDR")]
    _nameservers: Option<String>,
}

/// RocketMQ's mqbroker.
#[derive(Debug, Parser)]
#[command(name = "mqbroker", version)]
struct Mqbroker {
    #[command(flatten)]
    log: Log,
    #[command(flatten)]
    own: Broker,
}

/// Reads a command line. Exits with the help, the version, or what is wrong, where there is nothing to run.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Invocation {
    let words: Vec<OsString> = words.into_iter().collect();
    let name = words.first().map(Path::new).and_then(Path::file_stem);
    match name.and_then(|name| name.to_str()) {
        Some("mqnamesrv") => {
            let Mqnamesrv { log, own, .. } = Mqnamesrv::parse_from(words);
            Invocation {
                log_level: log.log_level,
                command: Command::Nameserver(own),
            }
        }
        Some("mqbroker") => {
            let Mqbroker { log, own } = Mqbroker::parse_from(words);
            Invocation {
                log_level: log.log_level,
                command: Command::Broker(own),
            }
        }
        Some("mqadmin") => {
            let command = Command::Admin(cli::Args::parse_from(words));
            Invocation {
                log_level: None,
                command,
            }
        }
        _ => own_name(Apogee::parse_from(words)),
    }
}

fn own_name(apogee: Apogee) -> Invocation {
    let Apogee {
        log,
        all_in_one,
        role,
    } = apogee;
    let (log_level, command) = match role {
        None => (log.log_level, Command::AllInOne(all_in_one)),
        Some(Role::Nameserver(Logged { log, own })) => (log.log_level, Command::Nameserver(own)),
        Some(Role::Broker(Logged { log, own })) => (log.log_level, Command::Broker(own)),
        Some(Role::Admin(own)) => (None, Command::Admin(own)),
        Some(Role::Bench(own)) => (None, Command::Bench(own)),
    };
    Invocation { log_level, command }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_lines_are_well_formed() {
        Apogee::command().debug_assert();
        Mqnamesrv::command().debug_assert();
        Mqbroker::command().debug_assert();
    }

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn a_link_takes_the_arguments_of_its_program() {
        let Command::Broker(broker) =
            parse(words("/opt/bin/mqbroker -c b.conf -n a:1;b:2 -p")).command
        else {
            panic!("mqbroker is a broker");
        };
        assert_eq!(broker.nameservers.as_deref(), Some("a:1;b:2"));
        assert!(broker.print);
        let Command::Nameserver(nameserver) = parse(words("mqnamesrv -c n.conf")).command else {
            panic!("mqnamesrv is a name server");
        };
        assert_eq!(nameserver.config_file.as_deref(), Some(Path::new("n.conf")));
        assert!(matches!(
            parse(words("mqadmin topicList -n a:1")).command,
            Command::Admin(_)
        ));
    }

    #[test]
    fn no_arguments_run_everything() {
        let Command::AllInOne(args) = parse(words("target/release/apogee")).command else {
            panic!("all roles run");
        };
        assert_eq!(
            (args.nameserver_port, args.broker_port, args.no_demo),
            (9876, None, false)
        );
        let invocation = parse(words("apogee broker -c x --log-level debug"));
        assert_eq!(invocation.log_level.as_deref(), Some("debug"));
        assert!(matches!(invocation.command, Command::Broker(_)));
    }
}
