//! Pairs of runs: two servers, or two settings of one, in the order A B B A, so that a drift of the machine meets both.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde::Serialize;

use crate::args::WorkloadLine;
use crate::report::Report;
use crate::workloads;

/// Two sides and what both do.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Options of side A: target=HOST:PORT,pid=PID and any other option of the workload, as in codec=binary.
    #[arg(long, value_name = "KEY=VALUE,…")]
    a: String,
    /// Options of side B.
    #[arg(long, value_name = "KEY=VALUE,…")]
    b: String,
    /// Pairs of runs.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pairs: u32,
    /// One JSON object on stdout instead of the table.
    #[arg(long)]
    json: bool,
    /// The workload and the options that both sides share, as in `-- send --connections 4 --window 16`.
    #[arg(last = true, required = true, value_name = "WORKLOAD")]
    words: Vec<String>,
}

/// A figure of both sides over all pairs.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Figure {
    name: &'static str,
    a: Spread,
    b: Spread,
    /// Of A over B, pair by pair.
    ratio: Spread,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Self {
            median: (low + high) / 2.0,
            min: sorted[0],
            max: sorted[sorted.len() - 1],
        }
    }
}

/// Runs all pairs and prints; whether every run was clean.
pub(crate) fn run(args: &Args) -> Result<bool> {
    let sides = [
        side_words(&args.words, &args.a).context("side A")?,
        side_words(&args.words, &args.b).context("side B")?,
    ];
    // Both command lines are read before the first run, so that a typing error does not cost minutes.
    for words in &sides {
        WorkloadLine::try_parse_from(words)?;
    }
    let mut reports: [Vec<Report>; 2] = [Vec::new(), Vec::new()];
    let mut is_clean = true;
    for pair in 0..args.pairs {
        let order = if pair % 2 == 0 { [0, 1] } else { [1, 0] };
        for side in order {
            let command = WorkloadLine::try_parse_from(&sides[side])?.command;
            let (mut load, workload) = command.load_and_workload();
            // Queues that earlier runs filled are not read again.
            load.topic = format!("{}-{pair}", load.topic);
            let report = workloads::run(&load, &workload)?;
            let name = ["A", "B"][side];
            eprintln!("pair {} of {}, {name}: {report}", pair + 1, args.pairs);
            is_clean &= report.is_clean();
            reports[side].push(report);
        }
    }
    let figures = figures(&reports);
    if args.json {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        print!("{}", table(&figures));
    }
    if !is_clean {
        eprintln!("a run was not clean: the comparison says nothing");
    }
    Ok(is_clean)
}

/// The shared words with the side's own options behind them.
fn side_words(shared: &[String], side: &str) -> Result<Vec<String>> {
    let mut words = shared.to_vec();
    for option in side.split(',') {
        let (key, value) = option
            .split_once('=')
            .with_context(|| format!("{option:?} is not of the form key=value"))?;
        ensure!(
            !shared.iter().any(|word| word == &format!("--{key}")),
            "--{key} is given for both sides and for one"
        );
        words.push(format!("--{key}"));
        words.push(value.to_owned());
    }
    Ok(words)
}

fn figures(reports: &[Vec<Report>; 2]) -> Vec<Figure> {
    type Read = fn(&Report) -> Option<f64>;
    let reads: [(&'static str, Read); 7] = [
        ("msg/s", |r| Some(r.messages_per_second)),
        ("msg per CPU-second", |r| {
            Some(r.broker.as_ref()?.messages_per_cpu_second)
        }),
        ("p50 ms", |r| Some(r.latency.p50_ms)),
        ("p99 ms", |r| Some(r.latency.p99_ms)),
        ("p999 ms", |r| Some(r.latency.p999_ms)),
        ("max ms", |r| Some(r.latency.max_ms)),
        ("anonymous MiB", |r| {
            Some(r.broker.as_ref()?.anonymous_bytes as f64 / f64::from(1 << 20))
        }),
    ];
    let figure = |(name, read): (&'static str, Read)| {
        let [a, b] = reports
            .each_ref()
            .map(|side| side.iter().filter_map(read).collect::<Vec<f64>>());
        let is_complete = !a.is_empty() && a.len() == b.len();
        let ratios: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a / b.max(1e-9)).collect();
        is_complete.then(|| Figure {
            name,
            a: Spread::of(&a),
            b: Spread::of(&b),
            ratio: Spread::of(&ratios),
        })
    };
    reads.into_iter().filter_map(figure).collect()
}

fn table(figures: &[Figure]) -> String {
    let mut text = format!(
        "{:<20}{:>36}{:>36}{:>24}\n",
        "median (min … max)", "A", "B", "A / B"
    );
    let wide = |spread: &Spread| {
        let digits = if spread.max < 1000.0 { 3 } else { 0 };
        format!(
            "{:.digits$} ({:.digits$} … {:.digits$})",
            spread.median, spread.min, spread.max
        )
    };
    for figure in figures {
        let ratio = &figure.ratio;
        let _ = writeln!(
            text,
            "{:<20}{:>36}{:>36}{:>24}",
            figure.name,
            wide(&figure.a),
            wide(&figure.b),
            format!("{:.2} ({:.2} … {:.2})", ratio.median, ratio.min, ratio.max)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_side_adds_its_own_options() {
        let side = side_words(&words("send --window 4"), "target=h:1,codec=binary").unwrap();
        assert_eq!(side, words("send --window 4 --target h:1 --codec binary"));
        assert!(side_words(&words("send --codec json"), "codec=binary").is_err());
        assert!(side_words(&words("send"), "h:1").is_err());
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        let spread = Spread::of(&[4.0, 1.0, 3.0, 2.0]);
        assert_eq!((spread.median, spread.min, spread.max), (2.5, 1.0, 4.0));
    }
}
