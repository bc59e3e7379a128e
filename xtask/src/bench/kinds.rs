//! Transactions, timer messages, and the hand-over of ordered queues: what does not fit a line of the table.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bench::{HandOverReport, TimerReport, TransactionsReport};
use serde::de::DeserializeOwned;

use super::Extent;
use super::results::median;
use super::servers::{Flush, Server, Side};
use super::table::{self, reported};

/// The first timer message that waits is due after so many days, the last after twice as many: within the three of Java's defaults.
const TIMERS_AHEAD_DAYS: f64 = 1.2;

/// Both servers'.
pub(super) struct Kinds {
    pub(super) apogee: OfSide,
    pub(super) java: OfSide,
}

/// One server's. An error is told on the page.
pub(super) struct OfSide {
    transactions: Vec<TransactionsReport>,
    pub(super) timers: Result<TimerReport, String>,
    pub(super) hand_over: Result<HandOverReport, String>,
}

impl OfSide {
    /// For each second of the broker's CPU, the median of the runs.
    pub(super) fn transactions_per_cpu(&self) -> Option<f64> {
        let runs = self.transactions.iter();
        median(runs.filter_map(|run| run.per_broker_cpu_second).collect())
    }

    /// Timer messages accepted for each second of the broker's CPU.
    pub(super) fn timers_per_cpu(&self) -> Option<f64> {
        let timers = self.timers.as_ref().ok()?;
        Some(timers.pending as f64 / timers.cpu_seconds?[0])
    }
}

/// Measures both, each on a server of its own for each kind.
///
/// # Errors
/// When a server does not start, or Apogee's run was not clean.
pub(super) fn measure(binary: &Path, extent: &Extent) -> Result<Kinds> {
    Ok(Kinds {
        apogee: of_side(binary, Side::Apogee, extent)?,
        java: of_side(binary, Side::Java, extent)?,
    })
}

fn of_side(binary: &Path, side: Side, extent: &Extent) -> Result<OfSide> {
    let start = || -> Result<Server> {
        let server = Server::start(binary, side, Flush::Async)?;
        if side == Side::Java {
            table::warm(binary, &server, extent.java_warmup)?;
        }
        Ok(server)
    };
    let server = start()?;
    let warmup = match side {
        Side::Java => extent.java_warmup,
        Side::Floor | Side::Apogee => extent.warmup,
    };
    let mut transactions = Vec::new();
    for _ in 0..extent.rounds {
        let words = "transactions --topic Transactions --connections 4 --window 64";
        match run::<TransactionsReport>(binary, words, &server, warmup, extent.seconds) {
            Ok(report) => transactions.push(report),
            Err(error) if side == Side::Java => eprintln!("{side:?}, transactions: {error:#}"),
            Err(error) => return Err(error),
        }
    }
    let words = "hand-over --topic Orders";
    let hand_over = run::<HandOverReport>(binary, words, &server, Duration::ZERO, 1);
    server.stop()?;

    let server = start()?;
    let words = format!(
        "timers --topic Timers --connections 4 --pending {} --ahead-days {TIMERS_AHEAD_DAYS}",
        extent.pending_timers
    );
    let timers = run::<TimerReport>(binary, &words, &server, Duration::ZERO, 10);
    server.stop()?;
    let told = |error: anyhow::Error| format!("{error:#}");
    let kinds = OfSide {
        transactions,
        timers: timers.map_err(told),
        hand_over: hand_over.map_err(told),
    };
    if side == Side::Apogee {
        let first = kinds
            .timers
            .as_ref()
            .err()
            .or(kinds.hand_over.as_ref().err());
        ensure!(first.is_none(), "{}", first.cloned().unwrap_or_default());
    }
    Ok(kinds)
}

fn run<T: DeserializeOwned>(
    binary: &Path,
    words: &str,
    server: &Server,
    warmup: Duration,
    seconds: u64,
) -> Result<T> {
    eprintln!("{:?}: {words}", server.side);
    let list: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let (text, status) = reported(binary, &list, server, warmup, seconds)?;
    eprintln!("{text}");
    ensure!(
        status.success(),
        "bench {words} ended with {status}: {}",
        text.trim()
    );
    serde_json::from_str(&text).with_context(|| format!("bench {words} printed {text:?}"))
}

/// The page's section.
pub(super) fn section(kinds: &Kinds, java: &str) -> String {
    let mut text = format!(
        "## Transactions, timers, ordered queues\n\nUnder `ASYNC_FLUSH`, a fresh store each; bodies are 1 KiB. A transaction is a half and its commit, 4 × 64 under way; latency is from the half to the\n\
         answer to the commit. Lateness of a timer message is from the time asked for to its store time in its topic, at 1,000 a second, due after 0.5 to 5 s, while the\n\
         others wait. The hand-over is from the death of a client that consumes in order until another one of its group has its queues.\n\n\
         | | Apogee | {java} |\n|---|---|---|\n"
    );
    let mut line = |what: &str, figure: &dyn Fn(&OfSide) -> Option<String>| {
        let cell = |side| figure(side).unwrap_or_else(|| "failed".to_owned());
        let _ = writeln!(
            text,
            "| {what} | {} | {} |",
            cell(&kinds.apogee),
            cell(&kinds.java)
        );
    };
    let transactions = |side: &OfSide, figure: fn(&TransactionsReport) -> f64| {
        median(side.transactions.iter().map(figure).collect())
    };
    let timers =
        |side: &OfSide, figure: fn(&TimerReport) -> f64| side.timers.as_ref().ok().map(figure);
    line("transactions a second", &|side| {
        Some(format!("{:.0}", transactions(side, |run| run.per_second)?))
    });
    line("transactions per broker CPU-second", &|side| {
        Some(format!("{:.0}", side.transactions_per_cpu()?))
    });
    line("transactions, p50 / p99 / max ms", &|side| {
        Some(format!(
            "{:.1} / {:.1} / {:.0}",
            transactions(side, |run| run.latency.p50_ms)?,
            transactions(side, |run| run.latency.p99_ms)?,
            transactions(side, |run| run.latency.max_ms)?
        ))
    });
    line("timer messages accepted a second", &|side| {
        Some(format!(
            "{:.0}",
            timers(side, |run| run.accepted_per_second)?
        ))
    });
    line("timer messages accepted per broker CPU-second", &|side| {
        Some(format!("{:.0}", side.timers_per_cpu()?))
    });
    line("timer messages that wait meanwhile", &|side| {
        Some(format!("{:.0}", timers(side, |run| run.pending as f64)?))
    });
    line("lateness beside them, p50 / p99 / max ms", &|side| {
        Some(format!(
            "{:.0} / {:.0} / {:.0}",
            timers(side, |run| run.lateness.p50_ms)?,
            timers(side, |run| run.lateness.p99_ms)?,
            timers(side, |run| run.lateness.max_ms)?
        ))
    });
    line("timer messages early; delivered of sent", &|side| {
        let run = side.timers.as_ref().ok()?;
        Some(format!("{}; {} of {}", run.early, run.delivered, run.sent))
    });
    line("the broker's own memory while they wait", &|side| {
        let bytes = timers(side, |run| run.memory_bytes.map_or(0.0, |b| b[1] as f64))?;
        Some(format!("{:.0} MiB", bytes / f64::from(1 << 20)))
    });
    line("hand-over of ordered queues", &|side| {
        let seconds = side.hand_over.as_ref().ok()?.seconds;
        Some(format!("{seconds:.1} s"))
    });
    let java_errors = [
        kinds.java.timers.as_ref().err(),
        kinds.java.hand_over.as_ref().err(),
    ];
    for error in java_errors.into_iter().flatten() {
        let first = error.lines().next().unwrap_or_default();
        let _ = writeln!(text, "\n{java}: {first}");
    }
    text.push('\n');
    text
}
