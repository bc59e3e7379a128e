//! Light queues on the official Java clients, with the same assertions on both servers: over a `kill -9` of the broker, and in directories that change sides and come back.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::clients::{self, create_topic};
use super::request_modes::{self, Pops};
use super::sides::{End, Side};
use crate::live;
use crate::report::Verdict;

/// Offsets are soon in the file, since what is not there before a kill is consumed again.
const CONFIG: &str = "enableLmq=true\nenableMultiDispatch=true\nflushDiskType=ASYNC_FLUSH\nflushConsumerOffsetInterval=200\n";
const CLIENTS: &[&str] = &["java-4.9.8", "java-5.3.3"];
/// The client that can pop.
const POPPING: &str = "java-5.3.3";
/// Messages of a step in the light queue that all lie in, and in the one that half of them lie in.
const ALL: usize = 100;
const EVEN: usize = ALL / 2;
const PROGRAM_LIMIT: Duration = Duration::from_secs(180);
/// How long offsets may take to be in the file.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// What happens to one directory: who goes on with it, and how that ends.
const APOGEE_FIRST: &[(Side, End)] = &[
    (Side::Apogee, End::Killed),
    (Side::Apogee, End::Stopped),
    (Side::Java, End::Stopped),
    (Side::Apogee, End::Stopped),
];
const JAVA_ALONE: &[(Side, End)] = &[(Side::Java, End::Killed), (Side::Java, End::Stopped)];

/// Both directories, at once.
pub(super) fn run() -> Result<Verdict> {
    let binary = live::binary()?;
    for client in CLIENTS {
        clients::named(client).context("in the list")?.command()?;
    }
    thread::scope(|scope| {
        let lives = [APOGEE_FIRST, JAVA_ALONE].map(|lives| {
            let binary = &binary;
            scope.spawn(move || directory(lives, binary))
        });
        let joined = lives
            .into_iter()
            .map(|each| each.join().expect("a directory does not panic"));
        joined.collect::<Result<Vec<()>>>()
    })?;
    Ok(Verdict::Passed)
}

fn directory(lives: &[(Side, End)], binary: &Path) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let dir = tempfile::tempdir()?;
    let first = lives[0].0;
    for (step, (side, end)) in lives.iter().enumerate() {
        side.until(dir.path(), binary, CONFIG, *end, |nameserver| {
            if step == 0 {
                for client in CLIENTS {
                    let topic = format!("{}_light", clients::prefix(client));
                    create_topic(binary, nameserver, &topic, 1)?;
                }
                let topic = format!("%LMQ%{}_even", clients::prefix(POPPING));
                let group = format!("g_{}_light_pop", clients::prefix(POPPING));
                let pops = Pops {
                    topic,
                    group,
                    retries_max: 16,
                };
                runtime.block_on(request_modes::set(nameserver, &[pops]))?;
            }
            let part = format!("light-{step}");
            clients::run_part(CLIENTS, &part, nameserver, dir.path(), PROGRAM_LIMIT)?;
            offsets_are_written(dir.path(), step)
        })
        .with_context(|| format!("step {step}, on {side:?}, in a directory that {first:?} made"))?;
        eprintln!(
            "   a directory that {first:?} made, step {step} on {side:?}: light queues and offsets"
        );
    }
    Ok(())
}

/// Returns when the file of offsets holds what the groups of this step have committed.
fn offsets_are_written(dir: &Path, step: usize) -> Result<()> {
    let file = dir.join("store/config/lmqConsumerOffset.json");
    let mut wanted = Vec::new();
    for client in CLIENTS {
        let prefix = clients::prefix(client);
        let (all, even) = ((step + 1) * ALL, (step + 1) * EVEN);
        // Groups that bear the name of a light queue have one number, the others one for each queue.
        wanted.push(format!(
            "\"%LMQ%{prefix}_all@%LMQ%g_{prefix}_light_pull\":{all}"
        ));
        wanted.push(format!(
            "\"%LMQ%{prefix}_all@%LMQ%g_{prefix}_light_push\":{all}"
        ));
        wanted.push(format!(
            "\"%LMQ%{prefix}_even@%LMQ%g_{prefix}_light_pull\":{even}"
        ));
        wanted.push(format!(
            "\"%LMQ%{prefix}_even@g_{prefix}_light_pull\":{{0:{even}}}"
        ));
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Whoever writes it replaces it.
        let text = fs::read_to_string(&file).unwrap_or_default();
        let text: String = text.split_whitespace().collect();
        let missing: Vec<&String> = wanted.iter().filter(|want| !text.contains(*want)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{missing:?} are not in {}",
            file.display()
        );
        thread::sleep(POLL);
    }
}
