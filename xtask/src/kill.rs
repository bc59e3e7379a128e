//! `kill -9` under mixed traffic, again and again: what was acknowledged is there once, where the acknowledgement said.
//!
//! The kills come in eras of [`ERA`]. Each has a directory of its own and one of four modes: `SYNC_FLUSH` or `ASYNC_FLUSH`, with or without
//! retention. Files are small, so that segments, queue files and index files roll all the time.

mod broker;
mod check;
mod ledger;
mod traffic;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use platform::random::Random;
use tokio::runtime::Runtime;

use crate::live::{self, Role};
use broker::Target;
use check::Check;
use ledger::{Ledger, Totals};
use traffic::Traffic;

/// Kills in one directory.
const ERA: usize = 25;
/// Load before a kill, at least and at most.
const LOAD_MS: std::ops::Range<u64> = 60..420;
/// A broker that starts is killed within this.
const START_KILL_MS: u64 = 60;
/// A broker that stops cleanly is killed within this.
const STOP_KILL_MS: u64 = 40;
/// Small files, and consumer offsets written often enough that every cycle has some.
const LINES: &str = "mappedFileSizeCommitLog=262144\nmappedFileSizeConsumeQueue=4000\nmaxHashSlotNum=1000\nmaxIndexNum=2000\n\
                     flushConsumerOffsetInterval=50\nflushIntervalCommitLog=20\ndiskMaxUsedSpaceRatio=99\n";

/// What an era is like.
#[derive(Clone, Copy)]
struct Mode {
    flush: &'static str,
    retention: bool,
}

impl Mode {
    fn of(era: usize) -> Mode {
        Mode {
            flush: if era.is_multiple_of(2) {
                "SYNC_FLUSH"
            } else {
                "ASYNC_FLUSH"
            },
            retention: matches!(era % 4, 0 | 3),
        }
    }

    fn lines(self) -> String {
        // Nothing is kept longer than it must once a request asks for expired files to go.
        let hours = if self.retention { 0 } else { 72 };
        format!(
            "{LINES}flushDiskType={}\nfileReservedTime={hours}\n",
            self.flush
        )
    }
}

/// The words behind `kill CYCLES`.
///
/// # Errors
/// When they are not understood, or a promise was broken.
pub(crate) fn from_words(cycles: &str, words: &[&str]) -> Result<()> {
    let cycles = cycles.parse().context("CYCLES is a number")?;
    let (mut seed, mut binary) = (0, None);
    for pair in words.chunks(2) {
        match pair {
            ["--seed", value] => seed = value.parse().context("--seed is a number")?,
            ["--binary", path] => binary = Some(Path::new(*path)),
            other => bail!("kill does not know {other:?}"),
        }
    }
    campaign(cycles, seed, binary)
}

/// `cycles` kills; `seed` decides when and how, as far as the scheduler lets it.
///
/// # Errors
/// The first promise that was broken. The directory is kept, and the error says how to look at it.
pub(crate) fn campaign(cycles: usize, seed: u64, binary: Option<&Path>) -> Result<()> {
    let built;
    let binary = match binary {
        Some(binary) => binary,
        None => {
            built = live::binary()?;
            &built
        }
    };
    ensure!(cycles > 0, "no kill, nothing tested");
    let runtime = Runtime::new()?;
    let begun = Instant::now();
    let mut totals = Totals::default();
    for (number, from) in (0..cycles).step_by(ERA).enumerate() {
        let dir = tempfile::tempdir()?;
        let mode = Mode::of(number + seed as usize);
        let era = Era {
            binary,
            dir: dir.path(),
            mode,
            cycles: ERA.min(cycles - from),
        };
        let to = from + era.cycles;
        let random = Random(seed.wrapping_mul(1 << 20).wrapping_add(number as u64));
        let outcome = runtime.block_on(era.run(random));
        match outcome {
            Ok(of_era) => totals.add(&of_era),
            Err(error) => {
                let kept = dir.keep();
                let program = binary.display();
                return Err(error.context(format!(
                    "{}, retention {}, within kills {from} to {} of seed {seed}; the store, its configuration and broker.log are kept in {}; \
                     look at them with `{program} broker -c {}/broker.conf -n 127.0.0.1:9876`, of a copy",
                    mode.flush,
                    mode.retention,
                    to,
                    kept.display(),
                    kept.display(),
                )));
            }
        }
        eprintln!(
            "{} of {cycles} kills, {:.0} s: {totals}",
            to,
            begun.elapsed().as_secs_f64()
        );
    }
    println!(
        "{cycles} kills, seed {seed}, {:.0} s: {totals}",
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

struct Era<'a> {
    binary: &'a Path,
    dir: &'a Path,
    mode: Mode,
    cycles: usize,
}

impl Era<'_> {
    async fn run(&self, mut random: Random) -> Result<Totals> {
        let nameserver_dir = self.dir.join("nameserver");
        fs::create_dir_all(&nameserver_dir)?;
        let nameserver = Role::nameserver(self.binary, &nameserver_dir)?;
        let lines = self.mode.lines();
        let begin = || Role::broker_begins(self.binary, self.dir, &nameserver.addr, &lines);

        let ledger = Arc::new(Ledger::default());
        let target = Arc::new(Target::new());
        let mut check = Check::new(Arc::clone(&ledger), Arc::clone(&target), self.dir);
        let mut broker = begin()?.listening()?;
        let traffic = Traffic::start(&target, &ledger, self.mode.retention, &mut random);
        for cycle in 1..=self.cycles {
            check.make_steady_topics(&broker.addr).await?;
            target.open(&broker.addr).await;
            let load = LOAD_MS.start + random.below(LOAD_MS.end - LOAD_MS.start);
            tokio::time::sleep(Duration::from_millis(load)).await;
            // One in eight dies while it stops cleanly.
            if random.once_in(8) {
                broker.terminate()?;
                tokio::time::sleep(Duration::from_millis(random.below(STOP_KILL_MS))).await;
                ledger.note(|totals| totals.kills_stopping += 1);
            }
            broker.kill_9()?;
            target.close().await;
            traffic.is_sound()?;
            // One in six dies while it starts, perhaps more than once.
            while random.once_in(6) {
                let starting = begin()?;
                tokio::time::sleep(Duration::from_millis(random.below(START_KILL_MS))).await;
                starting.kill_9()?;
                ledger.note(|totals| totals.kills_starting += 1);
            }
            let after = || format!("after kill {cycle}");
            check.read_offsets_file().with_context(after)?;
            broker = begin()?.listening().with_context(after)?;
            check
                .restarted(&broker.addr, &mut random)
                .await
                .with_context(after)?;
            ledger.note(|totals| totals.kills += 1);
        }
        traffic.stop().await?;
        broker.stop()?;
        // A clean stop and a start lose nothing either; everything is read again.
        check.read_offsets_file()?;
        let broker = begin()?.listening()?;
        check
            .everything(&broker.addr)
            .await
            .context("after a clean stop")?;
        broker.stop()?;
        nameserver.stop()?;
        ledger
            .totals()
            .nothing_was_idle(self.mode.retention, self.cycles)?;
        Ok(ledger.totals())
    }
}
