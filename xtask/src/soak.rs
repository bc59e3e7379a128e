//! Every kind of message and every way to consume, at once, while the broker is killed again and again; in the end each message is accounted for.

mod compacted;
mod ledger;
mod light;
mod traffic;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::runtime::Runtime;

use crate::interop::{create_compaction_topic, create_topic};
use crate::live::{self, Role};
use compacted::COMPACTED;
use ledger::Ledger;
use light::LIGHT;
use traffic::{MIXED, ORDERED, POPPED, QUEUES, SELECTED, Traffic};

/// Time between two kills.
const KILL_PERIOD: Duration = Duration::from_secs(20);
/// How long what is owed may take when nothing is sent and nothing killed any more: retries, questions to producers and the newest timers, on a
/// machine that does other work.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(200);
/// Levels and times so short that everything ends within the run.
const LINES: &str = "messageDelayLevel=1s 1s 1s 1s 1s 1s\ntransactionTimeOut=2000\ntransactionCheckInterval=2000\n\
                     transactionCheckMax=1000\nmappedFileSizeCommitLog=16777216\nrecallMessageEnable=true\ndiskMaxUsedSpaceRatio=99\n\
                     enableLmq=true\nenableMultiDispatch=true\ncompactionScheduleInternal=1000\n";

/// The words behind `soak SECONDS`.
///
/// # Errors
/// When they are not understood, or a promise was broken.
pub(crate) fn from_words(seconds: &str, words: &[&str]) -> Result<()> {
    let seconds = seconds.parse().context("SECONDS is a number")?;
    let (mut seed, mut binary) = (1, None);
    for pair in words.chunks(2) {
        match pair {
            ["--seed", value] => seed = value.parse().context("--seed is a number")?,
            ["--binary", path] => binary = Some(PathBuf::from(*path)),
            other => bail!("soak does not know {other:?}"),
        }
    }
    campaign(Duration::from_secs(seconds), seed, binary)
}

/// Traffic of all kinds for so long, with a `kill -9` of the broker every twenty seconds.
///
/// # Errors
/// Every promise that was broken; the directory is kept then.
pub(crate) fn campaign(length: Duration, seed: u64, binary: Option<PathBuf>) -> Result<()> {
    let binary = binary.map_or_else(live::binary, Ok)?;
    let runtime = Runtime::new()?;
    let dir = tempfile::tempdir()?;
    let result = run(&runtime, &binary, dir.path(), length, seed);
    if result.is_err() {
        let kept = dir.keep();
        return result.with_context(|| format!("the directory is {}", kept.display()));
    }
    result
}

fn run(runtime: &Runtime, binary: &Path, dir: &Path, length: Duration, seed: u64) -> Result<()> {
    let nameserver_dir = dir.join("nameserver");
    fs::create_dir_all(&nameserver_dir)?;
    let nameserver = Role::nameserver(binary, &nameserver_dir)?;
    let mut broker = Role::broker(binary, dir, &nameserver.addr, LINES)?;
    live::wait_for_broker(&nameserver.addr)?;
    for topic in [MIXED, POPPED, SELECTED, ORDERED, LIGHT] {
        create_topic(binary, &nameserver.addr, topic, QUEUES)?;
    }
    create_compaction_topic(binary, &nameserver.addr, COMPACTED, QUEUES)?;
    // Clients find it again where it was.
    let port = broker
        .addr
        .rsplit(':')
        .next()
        .unwrap_or_default()
        .to_owned();
    let lines = format!("{LINES}listenPort={port}\n");

    let ledger = Arc::new(Ledger::default());
    let started = Traffic::start(ledger.clone(), &nameserver.addr, &broker.addr, seed);
    let mut traffic = runtime.block_on(started)?;
    let begun = Instant::now();
    let mut kills = 0;
    while begun.elapsed() < length {
        let rest = length.saturating_sub(begun.elapsed());
        thread::sleep(rest.min(KILL_PERIOD));
        if rest < KILL_PERIOD {
            break;
        }
        broker.kill_9()?;
        broker = Role::broker(binary, dir, &nameserver.addr, &lines)?;
        kills += 1;
        eprintln!(
            "soak: {kills} kills, {} messages accepted, {} owed, {:.0} s left",
            ledger.account().accepted(),
            ledger.owed(),
            length.saturating_sub(begun.elapsed()).as_secs_f64()
        );
    }
    runtime.block_on(traffic.stop_sending())?;
    let settled = Instant::now();
    while ledger.owed() > 0 && settled.elapsed() < PATIENCE {
        thread::sleep(POLL);
        runtime.block_on(traffic.read_dead_letters())?;
        runtime.block_on(traffic.read_compacted())?;
    }
    let took = settled.elapsed();
    let far = runtime.block_on(traffic.recall_far())?;
    runtime.block_on(traffic.shutdown())?;
    broker.stop()?;
    nameserver.stop()?;

    let account = ledger.account();
    print!("{account}");
    println!(
        "{kills} kills in {:.0} s; all was there {:.1} s after the last send; {far} messages of a day ahead waited",
        begun.elapsed().as_secs_f64(),
        took.as_secs_f64()
    );
    let idle = account.idle();
    ensure!(idle.is_empty(), "nothing was accepted of {idle:?}");
    ensure!(
        account.replaced() > 0,
        "nothing of the compaction topic was compacted"
    );
    ensure!(
        account.broken.is_empty(),
        "{} promises are broken:\n{}",
        account.broken.len(),
        account.broken.join("\n")
    );
    Ok(())
}
