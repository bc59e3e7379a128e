//! `docs/benchmarks.md`: the same loads against the floor, Apogee and the Java broker in the same run.

mod goals;
mod kinds;
mod lifecycle;
mod page;
mod plot;
mod results;
mod servers;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::{root, target_dir};
use crate::live;
use crate::scale::{self, Figures, Plan};

use kinds::Kinds;
use lifecycle::Lifecycles;
use results::Results;
use servers::{Flush, Server, Side};
use table::{KINDS, LIFECYCLE, SCALE, SPECS, Spec};

/// How much of the table is measured, and how long.
#[derive(Clone, Copy)]
struct Extent {
    rounds: usize,
    seconds: u64,
    warmup: Duration,
    /// A virtual machine compiles what runs often; before that it measures its interpreter. Once for each start, then
    /// again, shorter, for each workload.
    java_warmup: Duration,
    java_workload_warmup: Duration,
    store_messages: u64,
    /// Topics of eight queues.
    topics: u32,
    /// Timer messages that wait.
    pending_timers: u64,
}

/// All that a run gave. `None`: not asked for.
#[derive(Default)]
struct Measured {
    results: Results,
    lifecycles: Option<Lifecycles>,
    many_topics: Option<Figures>,
    kinds: Option<Kinds>,
}

const FULL: Extent = Extent {
    rounds: 3,
    seconds: 5,
    warmup: Duration::from_secs(1),
    java_warmup: Duration::from_secs(26),
    java_workload_warmup: Duration::from_secs(3),
    // Records of 1 KiB bodies: 5 GB.
    store_messages: 4_300_000,
    topics: 100_000,
    pending_timers: 1_000_000,
};
/// Says whether everything runs; its figures are worth little.
const QUICK: Extent = Extent {
    rounds: 1,
    seconds: 2,
    warmup: Duration::from_secs(1),
    java_warmup: Duration::from_secs(6),
    java_workload_warmup: Duration::from_secs(1),
    store_messages: 400_000,
    topics: 5_000,
    pending_timers: 20_000,
};

/// `bench [quick] [--rounds N] [--only NAME,NAME] [--binary PATH]`: only a run of the whole table rewrites the page, which says how often each
/// line was measured; others print what it would say, and leave it with its plots in `target/bench`.
///
/// # Errors
/// When a server does not start, or a run of Apogee lost, repeated or refused messages. What the Java broker refuses is
/// told on the page.
pub(crate) fn from_words(words: &[&str]) -> Result<()> {
    let mut extent = FULL;
    let mut is_whole = true;
    let mut only: Option<Vec<&str>> = None;
    let mut binary: Option<PathBuf> = None;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "quick" => {
                extent = QUICK;
                is_whole = false;
            }
            "--rounds" => {
                let number = words.next().context("--rounds needs a number")?;
                extent.rounds = number.parse()?;
                ensure!(extent.rounds > 0, "no round measures nothing");
            }
            "--only" => {
                let names = words.next().context("--only needs names")?;
                only = Some(names.split(',').collect());
            }
            "--binary" => binary = Some(words.next().context("--binary needs a path")?.into()),
            other => {
                bail!(
                    "bench does not know {other:?}: [quick] [--rounds N] [--only NAME,…] [--binary PATH]"
                )
            }
        }
    }
    let known: Vec<&str> = SPECS
        .iter()
        .map(|spec| spec.name)
        .chain([LIFECYCLE, SCALE, KINDS])
        .collect();
    if let Some(unknown) = only.iter().flatten().find(|name| !known.contains(name)) {
        bail!(
            "no workload is called {unknown:?}; there are {}",
            known.join(", ")
        );
    }
    let is_wanted = |name: &str| only.as_ref().is_none_or(|only| only.contains(&name));
    let specs: Vec<&Spec> = SPECS.iter().filter(|spec| is_wanted(spec.name)).collect();
    let binary = binary.map_or_else(live::binary, Ok)?;

    let began = Instant::now();
    let mut results = Results::default();
    for round in 0..extent.rounds {
        measure_round(&binary, &extent, round, &specs, &mut results)?;
    }
    let lifecycles = is_wanted(LIFECYCLE)
        .then(|| lifecycle::measure(&binary, extent.store_messages))
        .transpose()?;
    let many_topics = is_wanted(SCALE)
        .then(|| scale::measure(Plan::whole(extent.topics), &binary))
        .transpose()?;
    let kinds = is_wanted(KINDS)
        .then(|| kinds::measure(&binary, &extent))
        .transpose()?;
    let measured = Measured {
        results,
        lifecycles,
        many_topics,
        kinds,
    };
    let results = &measured.results;
    eprintln!("measured in {:.0} s", began.elapsed().as_secs_f64());
    let own_failures = results.failures(Side::Apogee) + results.failures(Side::Floor);
    let is_full = own_failures == 0 && is_whole && only.is_none();
    write(&measured, &extent, is_full)?;
    ensure!(
        own_failures == 0,
        "{own_failures} run(s) of Apogee or the floor failed, so the page is left as it was"
    );
    Ok(())
}

/// Every server once; their order turns from round to round, so that a drift of the machine meets all of them.
fn measure_round(
    binary: &Path,
    extent: &Extent,
    round: usize,
    specs: &[&Spec],
    results: &mut Results,
) -> Result<()> {
    let mut sides = [Side::Floor, Side::Apogee, Side::Java];
    if round % 2 == 1 {
        sides.reverse();
    }
    for flush in [Flush::Async, Flush::Sync] {
        for side in sides {
            let of_side: Vec<&Spec> = specs
                .iter()
                .copied()
                .filter(|spec| spec.flush == flush && (spec.on_floor || side != Side::Floor))
                .collect();
            let mut shared: Option<Server> = None;
            for spec in of_side {
                // A Java broker is warmed once and serves all; fresh topics stand for a fresh store. The others start
                // in no time, so they get one.
                let server = match shared.take() {
                    Some(server) if side == Side::Java => server,
                    _ => {
                        let server = Server::start(binary, side, flush)?;
                        if side == Side::Java {
                            table::warm(binary, &server, extent.java_warmup)?;
                        }
                        server
                    }
                };
                let warmup = match side {
                    Side::Java => extent.java_workload_warmup,
                    Side::Floor | Side::Apogee => extent.warmup,
                };
                let run = format!(
                    "round {} of {}, {side:?}, {}",
                    round + 1,
                    extent.rounds,
                    spec.name
                );
                let measure = || table::measure(binary, spec, &server, warmup, extent.seconds);
                // A machine that others use for a moment breaks a run of anybody: it is repeated once, and the page says so.
                let measured = measure().or_else(|error| {
                    eprintln!("{run}, repeated: {error:#}");
                    results.add_repeat(spec.name, side);
                    measure()
                });
                match measured {
                    Ok(report) => {
                        eprintln!("{run}: {report}");
                        results.add(spec.name, side, report);
                    }
                    Err(error) => {
                        eprintln!("{run} FAILED: {error:#}");
                        results.add_failure(spec.name, side);
                    }
                }
                if side == Side::Java {
                    shared = Some(server);
                } else {
                    server.stop()?;
                }
            }
            if let Some(server) = shared {
                server.stop()?;
            }
        }
    }
    Ok(())
}

fn write(measured: &Measured, extent: &Extent, is_full: bool) -> Result<()> {
    let text = page::text(measured, extent);
    if !is_full {
        print!("{text}");
    }
    // What is no full run is only for its reader.
    let docs = if is_full {
        root().join("docs")
    } else {
        target_dir().join("bench")
    };
    fs::create_dir_all(docs.join("benchmarks"))?;
    for (name, svg) in page::plots(&measured.results) {
        fs::write(docs.join("benchmarks").join(name), svg)?;
    }
    let path = docs.join("benchmarks.md");
    fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    eprintln!("{} written", path.display());
    Ok(())
}
