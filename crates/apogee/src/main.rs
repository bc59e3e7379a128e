//! The binary: reads configuration, wires roles, handles signals. Knows everybody, decides nothing.

mod advertised;
mod all_in_one;
mod args;
mod broker_role;
mod config_file;
mod demo;
mod logging;
mod nameserver_role;
mod node;

use std::process::ExitCode;

use args::{Command, Invocation};

fn main() -> ExitCode {
    platform::memory::return_large_buffers();
    let Invocation { log_level, command } = args::parse(std::env::args_os());
    logging::start(log_level.as_deref(), &command);
    match run(command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::AllInOne(args) => node::run(all_in_one::run(args)),
        Command::Nameserver(args) => node::run(nameserver_role::run(args)),
        Command::Broker(args) => node::run(broker_role::run(args)),
        Command::Admin(args) => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            Ok(runtime.block_on(cli::run(args)))
        }
        Command::Bench(args) => bench::run(args),
    }
}
