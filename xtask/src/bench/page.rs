//! The text of `docs/benchmarks.md` and its plots.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use bench::Report;

use super::goals::{Verdict, goals};
use super::kinds;
use super::lifecycle::{Lifecycle, Lifecycles};
use super::plot;
use super::results::{Results, per_cpu};
use super::servers::{Flush, Side};
use super::table::SPECS;
use super::{Extent, Measured};
use crate::peer;

const SIDES: [Side; 3] = [Side::Floor, Side::Apogee, Side::Java];
/// Plots of percentiles: workload, file, title.
const CURVES: [(&str, &str, &str); 3] = [
    (
        "open-loop",
        "latency-open-loop.svg",
        "Send, open loop at 20,000 msg/s: latency from when each message was due",
    ),
    (
        "end-to-end",
        "latency-end-to-end.svg",
        "End to end at 5,000 msg/s: from when each message was due to its receipt",
    ),
    (
        "sync-4x16",
        "latency-sync.svg",
        "Send with SYNC_FLUSH, 4 connections with 16 in flight each",
    ),
];

fn name(side: Side) -> String {
    match side {
        Side::Floor => "floor".to_owned(),
        Side::Apogee => "Apogee".to_owned(),
        Side::Java => format!("Java {}", peer::VERSION),
    }
}

/// The whole page.
pub(super) fn text(measured: &Measured, extent: &Extent) -> String {
    let Extent {
        rounds, seconds, ..
    } = extent;
    let (warm, each) = (
        extent.java_warmup.as_secs(),
        extent.java_workload_warmup.as_secs(),
    );
    let mut page = format!(
        "# Benchmarks\n\n<!-- Written by `cargo xtask bench`. -->\n\n\
         One load generator, `apogee bench`, drives all servers in one run: the same frames, connections and in-flight counts. The floor is\n\
         the least that any broker must do for a send: cut frames, checksum, build the record, one write for a read's records, answer.\n\
         Bodies are 1 KiB unless said; \"4 × 64\" is four connections with 64 requests in flight each. Headers are binary unless said.\n\
         Absolute figures do not travel between machines; the ratios do.\n\n{}\n\
         Each figure is the median of {rounds} run(s) of {seconds} s, servers in turning order; lowest and highest in parentheses. A Java broker is\n\
         warmed for {warm} s, then {each} s for each workload. Every run is verified: what was acknowledged is in the queues; what receivers got\n\
         carries sender and number, and nothing is lost, repeated or left out.\n\n",
        machine()
    );
    goal_table(&mut page, measured);
    page.push_str(
        "## Plots\n\n![Messages per broker CPU-second](benchmarks/cpu.svg)\n\n![Messages per second](benchmarks/throughput.svg)\n\n",
    );
    for (_, file, title) in CURVES {
        let _ = writeln!(page, "![{title}](benchmarks/{file})\n");
    }
    for (flush, title) in [
        (Flush::Async, "`ASYNC_FLUSH`"),
        (Flush::Sync, "`SYNC_FLUSH`"),
    ] {
        figures(&mut page, &measured.results, flush, title);
    }
    if let Some(both) = &measured.kinds {
        page.push_str(&kinds::section(both, &name(Side::Java)));
    }
    if let Some(both) = &measured.lifecycles {
        lifecycle(&mut page, both);
    }
    if let Some(figures) = &measured.many_topics {
        let _ = writeln!(
            page,
            "## Many topics\n\n{} topics of eight queues on one broker under `ASYNC_FLUSH`, with a name server (`cargo xtask scale`; \
             [ADR 6](adr/0006-a-shared-store-for-many-queues.md) says how).\n\n{}",
            extent.topics,
            figures.table()
        );
    }
    page.push_str(
        "## Reading it\n\n\
         * The generator shares the cores with the server, so msg/s says how the two divide them; msg per broker CPU-second is the sturdier figure. `*` marks\n\
         \x20 runs in which the generator was the bottleneck: there the server could have done more.\n\
         * Open loop: message *i* is due at *t0 + i/R*, and its latency counts from then, whatever the server did to those before.\n\
         * Receivers count: end to end and fan-out give messages received by all groups, latency from due to receipt; pull, filter and pop give the time of a request.\n\
         * Beside a reader: latency is the producer's; \"alone\" is the same load just before.\n\
         * Overload has a command of its own, `cargo xtask overload 60`; its figures are in [reliability.md](reliability.md).\n\n\
         Repeat: `cargo xtask bench`, a part of it `cargo xtask bench quick --only 4x64,pull`. One line of it by hand: `apogee bench send|batch|pull|filter|pop|end-to-end|fan-out|cold|transactions|timers|hand-over\n\
         --target HOST:PORT --pid PID`. Two builds or settings against each other: `apogee bench compare --a target=H:P,pid=N --b target=H:P,pid=N -- send --window 16`.\n",
    );
    page
}

fn goal_table(page: &mut String, measured: &Measured) {
    page.push_str("## Goals\n\n| goal | must | aim | reached | |\n|---|---|---|---|---|\n");
    let mut obstacles = Vec::new();
    for goal in goals(measured) {
        let figure = |value: f64| {
            let digits = match value {
                value if value >= 100.0 => 0,
                value if value >= 1.0 => 1,
                _ => 2,
            };
            format!("{value:.digits$}{}", goal.unit)
        };
        let (reached, word) = match (goal.verdict(), goal.reached) {
            (Verdict::Aim, Some(value)) => (figure(value), "aim"),
            (Verdict::Must, Some(value)) => (figure(value), "must"),
            (Verdict::Missed, Some(value)) => {
                obstacles.extend(goal.obstacle().filter(|it| !obstacles.contains(it)));
                (figure(value), "**missed**")
            }
            (_, _) => ("–".to_owned(), "not measured"),
        };
        let limit = |value: f64| format!("{value}{}", goal.unit);
        let (must, aim) = (limit(goal.must), limit(goal.aim));
        let _ = writeln!(
            page,
            "| {} | {must} | {aim} | {reached} | {word} |",
            goal.what
        );
    }
    page.push('\n');
    if !obstacles.is_empty() {
        page.push_str("What stands in the way of those that are missed:\n\n");
        for obstacle in obstacles {
            let _ = writeln!(page, "* {obstacle}");
        }
        page.push('\n');
    }
}

fn figures(page: &mut String, results: &Results, flush: Flush, title: &str) {
    let _ = writeln!(
        page,
        "## {title}\n\n| workload | server | msg/s | msg per broker CPU-second | p50 / p99 / p999 / max ms | over 100 ms | memory, device bytes |\n|---|---|---|---|---|---|---|"
    );
    for spec in SPECS.iter().filter(|spec| spec.flush == flush) {
        for side in SIDES {
            let failures = match results.troubles_of(spec.name, side) {
                (0, 0) => String::new(),
                (0, again) => format!(" ({again} run(s) repeated)"),
                (failed, _) => format!(" ({failed} run(s) failed)"),
            };
            match figure_line(results, spec.name, side) {
                Some(line) => {
                    let who = name(side) + &failures;
                    let _ = writeln!(page, "| {} | {who} | {line} |", spec.title);
                }
                None if !failures.is_empty() => {
                    let who = name(side);
                    let _ = writeln!(page, "| {} | {who} |{failures} | | | | |", spec.title);
                }
                None => {}
            }
        }
    }
    page.push('\n');
}

fn figure_line(results: &Results, spec: &str, side: Side) -> Option<String> {
    let runs = results.runs(spec, side);
    let of = |figure: fn(&Report) -> f64| results.median(spec, side, figure);
    let with_spread = |figure: fn(&Report) -> f64| {
        let (low, high) = results.spread(spec, side, figure)?;
        let middle = thousands(of(figure)?);
        let (low, high) = (thousands(low), thousands(high));
        if low == high {
            return Some(middle);
        }
        Some(format!("{middle} ({low}–{high})"))
    };
    let is_limited = runs.iter().any(|run| run.generator.bottleneck.is_some());
    let mut latency = format!(
        "{:.2} / {:.2} / {:.2} / {:.0}",
        of(|run| run.latency.p50_ms)?,
        of(|run| run.latency.p99_ms)?,
        of(|run| run.latency.p999_ms)?,
        of(|run| run.latency.max_ms)?
    );
    if runs.iter().all(|run| run.alone.is_some()) {
        let alone = of(|run| run.alone.as_ref().map_or(0.0, |alone| alone.p999_ms))?;
        let read = of(|run| run.reader.as_ref().map_or(0.0, |r| r.messages_per_second))?;
        let _ = write!(
            latency,
            "; alone p999 {alone:.2}; read {} msg/s",
            thousands(read)
        );
    }
    let memory = of(|run| {
        let broker = run.broker.as_ref();
        broker.map_or(0.0, |broker| {
            broker.anonymous_bytes as f64 / f64::from(1 << 20)
        })
    })?;
    let device = runs
        .iter()
        .all(|run| has_device_bytes(run))
        .then(|| {
            of(|run| {
                run.broker
                    .as_ref()
                    .map_or(0.0, |b| b.device_bytes_per_body_byte.unwrap_or(0.0))
            })
        })
        .flatten()
        .map_or(String::new(), |bytes| format!(", {bytes:.1}×"));
    Some(format!(
        "{}{} | {} | {latency} | {:.0} | {memory:.0} MiB{device}",
        with_spread(|run| run.messages_per_second)?,
        if is_limited { " *" } else { "" },
        with_spread(per_cpu)?,
        of(|run| run.latency.over_100_ms as f64)?
    ))
}

fn has_device_bytes(run: &Report) -> bool {
    let broker = run.broker.as_ref();
    broker.is_some_and(|broker| broker.device_bytes_per_body_byte.is_some())
}

fn lifecycle(page: &mut String, both: &Lifecycles) {
    let _ = writeln!(
        page,
        "## Start, kill, idle\n\n| | Apogee, all roles in one process | {}, the broker |\n|---|---|---|",
        name(Side::Java)
    );
    let mut line = |what: &str, figure: &dyn Fn(&Lifecycle) -> String| {
        let _ = writeln!(
            page,
            "| {what} | {} | {} |",
            figure(&both.apogee),
            figure(&both.java)
        );
    };
    line(
        "start on an empty directory to first accepted message",
        &|l| format!("{:.0} ms", l.start_ms),
    );
    line("`kill -9` to accepting, a fifth of the store", &|l| {
        format!("{:.0} ms", l.kill_small_ms)
    });
    line("`kill -9` to accepting, the whole store", &|l| {
        let millions = l.store_messages as f64 / 1e6;
        format!(
            "{:.0} ms ({millions:.1} million messages of 1 KiB)",
            l.kill_ms
        )
    });
    line("resident memory idle, files included", &|l| {
        format!("{:.0} MiB", l.idle_bytes as f64 / f64::from(1 << 20))
    });
    line("CPU idle, of a core", &|l| {
        format!("{:.2} %", l.idle_cpu * 100.0)
    });
    page.push('\n');
}

/// File names and contents.
pub(super) fn plots(results: &Results) -> Vec<(&'static str, String)> {
    let bars = |title: &str, figure: fn(&Report) -> f64| {
        let mut groups = Vec::new();
        for spec in &SPECS {
            let mark = if spec.flush == Flush::Sync {
                "SYNC "
            } else {
                ""
            };
            let of_sides: Vec<_> = SIDES
                .iter()
                .map(|side| results.median(spec.name, *side, figure))
                .collect();
            groups.push((format!("{mark}{}", spec.title), of_sides));
        }
        plot::bars(title, &SIDES.map(name), &groups)
    };
    let mut plots = vec![
        (
            "throughput.svg",
            bars("Messages per second", |run| run.messages_per_second),
        ),
        ("cpu.svg", bars("Messages per broker CPU-second", per_cpu)),
    ];
    for (spec, file, title) in CURVES {
        let curves = SIDES.map(|side| (name(side), results.curve(spec, side)));
        plots.push((file, plot::percentiles(title, &curves)));
    }
    plots
}

fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| {
        let (_, name) = line.strip_prefix("model name")?.split_once(": ")?;
        Some(name)
    });
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "Measured {} on {cores} cores ({}), Linux {}, Apogee {} ({}), Java broker {}.\n",
        said(Command::new("date").arg("+%Y-%m-%d")),
        model.unwrap_or("unknown processor").trim(),
        kernel.trim(),
        env!("CARGO_PKG_VERSION"),
        said(Command::new("git").args(["rev-parse", "--short", "HEAD"])),
        peer::VERSION,
    )
}

fn said(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout);
    String::from_utf8_lossy(&output.unwrap_or_default())
        .trim()
        .to_owned()
}

/// 1234567 as "1,235 k", 7049 as "7.0 k".
fn thousands(value: f64) -> String {
    let k = value / 1000.0;
    match k.round() as u64 {
        rounded if rounded >= 1000 => format!("{},{:03} k", rounded / 1000, rounded % 1000),
        rounded if rounded >= 20 => format!("{rounded} k"),
        _ => format!("{k:.1} k"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_rounded_to_thousands() {
        assert_eq!(thousands(47_300.0), "47 k");
        assert_eq!(thousands(7_049.0), "7.0 k");
        assert_eq!(thousands(1_234_567.0), "1,235 k");
    }

    #[test]
    fn a_page_without_runs_says_what_was_not_measured() {
        let text = text(&Measured::default(), &super::super::QUICK);
        assert!(text.contains("| not measured |") && !text.contains("NaN"));
    }
}
