//! The goals of the project as ratios of one run, and what the run reached.

use bench::Report;

use super::Measured;
use super::kinds::OfSide;
use super::results::per_cpu;
use super::servers::Side;
use crate::scale::ALL_AGAINST_ONE;

/// One goal.
pub(super) struct Goal {
    pub(super) what: String,
    pub(super) must: f64,
    pub(super) aim: f64,
    /// `None`: not measured in this run.
    pub(super) reached: Option<f64>,
    pub(super) unit: &'static str,
}

/// How far it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Aim,
    Must,
    Missed,
    NotMeasured,
}

impl Goal {
    /// More is better where the aim is above what must be.
    pub(super) fn verdict(&self) -> Verdict {
        let passes = |limit: f64, value: f64| {
            if self.aim > self.must {
                value >= limit
            } else {
                value <= limit
            }
        };
        match self.reached {
            None => Verdict::NotMeasured,
            Some(value) if passes(self.aim, value) => Verdict::Aim,
            Some(value) if passes(self.must, value) => Verdict::Must,
            Some(_) => Verdict::Missed,
        }
    }
}

/// What is known of why a goal is hard to reach, by the beginning of its name. The page says it where the goal is missed.
const OBSTACLES: &[(&str, &str)] = &[
    (
        "share of the floor",
        "The floor reads no header fields, keeps no topics, queues or index, and its answer is a constant. What Apogee does beside it is user \
         time: reading the fields and the properties, the queue and index entries, an answer with ids and offsets \
         (`cargo xtask test instructions` counts them). The kernel's part, reading, writing and the file, is the same for both. The share \
         therefore depends on how a processor's instructions compare with its system calls and copies.",
    ),
    (
        "a producer's p999 beside a cold reader",
        "Not profiled. Generator, reader and broker share two cores, so a send may wait for a turn of the reader's, or for the device that reads.",
    ),
    (
        "sends over 100,000 topics",
        "Not profiled. Each message finds its topic and queue in tables that no cache of the processor holds.",
    ),
];

impl Goal {
    /// What stands in the way, if that is known.
    pub(super) fn obstacle(&self) -> Option<&'static str> {
        let mut known = OBSTACLES.iter();
        known
            .find(|(what, _)| self.what.starts_with(what))
            .map(|(_, obstacle)| *obstacle)
    }
}

/// The table of `performance.md`, filled.
pub(super) fn goals(measured: &Measured) -> Vec<Goal> {
    let results = &measured.results;
    let mut goals = Vec::new();
    let mut goal = |what: &str, must: f64, aim: f64, reached: Option<f64>, unit| {
        let what = what.to_owned();
        goals.push(Goal {
            what,
            must,
            aim,
            reached,
            unit,
        });
    };
    let cpu = |spec: &str, over: Side| {
        let own = results.median(spec, Side::Apogee, per_cpu)?;
        Some(own / results.median(spec, over, per_cpu)?)
    };
    let rate = |spec: &str, over: &str| {
        let own = results.median(spec, Side::Apogee, |run| run.messages_per_second)?;
        Some(own / results.median(over, Side::Java, |run| run.messages_per_second)?)
    };
    let percent = |share: Option<f64>| share.map(|share| share * 100.0);
    for (spec, name) in [
        ("4x64-json", "4 × 64, JSON"),
        ("4x64", "4 × 64, binary"),
        ("sync-4x64", "4 × 64, `SYNC_FLUSH`"),
    ] {
        let what = format!("share of the floor, msg per CPU-second, {name}");
        goal(&what, 60.0, 80.0, percent(cpu(spec, Side::Floor)), " %");
    }
    for (spec, name) in [
        ("4x16-json", "4 × 16, JSON"),
        ("4x16", "4 × 16, binary"),
        ("4x64-json", "4 × 64, JSON"),
        ("4x64", "4 × 64, binary"),
    ] {
        let what = format!("msg per CPU-second over Java, {name}");
        goal(&what, 8.0, 14.0, cpu(spec, Side::Java), "×");
    }
    goal(
        "msg per CPU-second over Java, 4 × 64 of 128 B",
        12.0,
        25.0,
        cpu("4x64-small", Side::Java),
        "×",
    );
    goal("msg/s over Java, 1 × 1", 2.0, 2.7, rate("1x1", "1x1"), "×");
    goal(
        "msg per CPU-second over Java, 1 × 1",
        3.5,
        5.0,
        cpu("1x1", Side::Java),
        "×",
    );
    goal(
        "msg per CPU-second over Java, batch of 32",
        4.0,
        6.0,
        cpu("batch", Side::Java),
        "×",
    );
    let p999 = |side| results.median("open-loop", side, |run| run.latency.p999_ms);
    let open = p999(Side::Java).zip(p999(Side::Apogee));
    goal(
        "open loop 20,000 msg/s, p999: Java's over Apogee's",
        8.0,
        15.0,
        open.map(|(java, own)| java / own),
        "×",
    );
    for (spec, name, must, aim) in [
        ("sync-1x1", "1 × 1", 4.0, 5.0),
        ("sync-4x16", "4 × 16", 5.0, 7.0),
        ("sync-4x128", "4 × 128", 5.0, 8.5),
    ] {
        let what = format!("`SYNC_FLUSH` msg/s over Java, {name}");
        goal(&what, must, aim, rate(spec, spec), "×");
    }
    for (sync, java, name) in [
        ("sync-4x16", "4x16", "4 × 16"),
        ("sync-4x64", "4x64", "4 × 64"),
    ] {
        let what = format!("`SYNC_FLUSH` msg/s over Java's `ASYNC_FLUSH`, {name}");
        goal(&what, 2.0, 3.0, rate(sync, java), "×");
    }
    goal(
        "device bytes per payload byte, `SYNC_FLUSH` 1 × 1",
        12.0,
        6.0,
        results.median("sync-1x1", Side::Apogee, |run| {
            let broker = run.broker.as_ref();
            broker
                .and_then(|broker| broker.device_bytes_per_body_byte)
                .unwrap_or(0.0)
        }),
        "",
    );
    goal(
        "pull from memory, msg per CPU-second over Java",
        2.5,
        4.0,
        cpu("pull", Side::Java),
        "×",
    );
    let beside = |run: &Report| {
        let alone = run.alone.as_ref()?;
        Some(run.latency.p999_ms / alone.p999_ms)
    };
    goal(
        "a producer's p999 beside a cold reader, over the same alone",
        2.0,
        1.5,
        results.median("cold", Side::Apogee, |run| beside(run).unwrap_or(0.0)),
        "×",
    );
    let loaded = results
        .of_side(Side::Apogee)
        .filter_map(|run| Some(run.broker.as_ref()?.anonymous_bytes as f64))
        .reduce(f64::max);
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    goal(
        "resident memory under load, page cache apart, the highest",
        256.0,
        128.0,
        loaded.map(mib),
        " MiB",
    );
    for (spec, name) in [
        ("pop", "pop and acknowledge"),
        ("filter", "pull through SQL92"),
    ] {
        let what = format!("{name}, msg per CPU-second over Java");
        goal(&what, 5.0, 10.0, cpu(spec, Side::Java), "×");
    }
    let kinds = measured.kinds.as_ref();
    let over_java = |figure: fn(&OfSide) -> Option<f64>| {
        let kinds = kinds?;
        Some(figure(&kinds.apogee)? / figure(&kinds.java)?)
    };
    goal(
        "transactions per CPU-second over Java",
        5.0,
        10.0,
        over_java(OfSide::transactions_per_cpu),
        "×",
    );
    goal(
        "timer messages accepted per CPU-second over Java",
        5.0,
        10.0,
        over_java(OfSide::timers_per_cpu),
        "×",
    );
    let timers = kinds.and_then(|kinds| kinds.apogee.timers.as_ref().ok());
    goal(
        "lateness of timer messages, p99, a million others waiting",
        100.0,
        50.0,
        timers.map(|run| run.lateness.p99_ms),
        " ms",
    );
    goal(
        "memory with a million timer messages waiting, page cache apart",
        128.0,
        96.0,
        timers
            .and_then(|run| run.memory_bytes)
            .map(|bytes| mib(bytes[1] as f64)),
        " MiB",
    );
    let hand_over = kinds.and_then(|kinds| kinds.apogee.hand_over.as_ref().ok());
    goal(
        "hand-over of ordered queues at a client's death",
        10.0,
        8.0,
        hand_over.map(|run| run.seconds),
        " s",
    );
    let own = measured.lifecycles.as_ref().map(|both| &both.apogee);
    goal(
        "resident memory idle, all roles in one process",
        64.0,
        24.0,
        own.map(|own| mib(own.idle_bytes as f64)),
        " MiB",
    );
    goal(
        "CPU idle, of a core",
        0.5,
        0.1,
        own.map(|own| own.idle_cpu * 100.0),
        " %",
    );
    goal(
        "start to first accepted message",
        120.0,
        50.0,
        own.map(|own| own.start_ms),
        " ms",
    );
    goal(
        "`kill -9` to accepting",
        400.0,
        150.0,
        own.map(|own| own.kill_ms),
        " ms",
    );
    let many_topics = measured.many_topics.as_ref();
    goal(
        "sends over 100,000 topics of eight queues, of the speed of sends to one",
        90.0,
        100.0,
        many_topics.and_then(|figures| figures.of(ALL_AGAINST_ONE)),
        " %",
    );
    goals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_obstacle_is_that_of_a_goal() {
        let goals = goals(&Measured::default());
        for (what, _) in OBSTACLES {
            assert!(
                goals.iter().any(|goal| goal.what.starts_with(what)),
                "{what}"
            );
        }
    }

    #[test]
    fn less_is_better_where_the_aim_is_lower() {
        let verdict = |must, aim, reached| {
            let goal = Goal {
                what: String::new(),
                must,
                aim,
                reached: Some(reached),
                unit: "",
            };
            goal.verdict()
        };
        assert_eq!(verdict(2.0, 3.0, 2.5), Verdict::Must);
        assert_eq!(verdict(2.0, 3.0, 1.5), Verdict::Missed);
        assert_eq!(verdict(400.0, 150.0, 100.0), Verdict::Aim);
        assert_eq!(verdict(400.0, 150.0, 401.0), Verdict::Missed);
    }
}
