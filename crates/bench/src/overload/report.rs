//! What an overload did, and which promises it broke.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::report::{Latency, latency_histogram};

/// Admitted requests stay within so many times the p99 of an unloaded broker.
const LATENCY_RATIO_MAX: f64 = 10.0;

/// A phase without overload.
#[derive(Clone, Debug, Serialize)]
pub struct Calm {
    /// Messages acknowledged a second.
    pub per_second: f64,
    /// From due to acknowledged.
    pub latency: Latency,
    /// Requests refused.
    pub refused: u64,
    /// Messages acknowledged.
    pub acknowledged: u64,
}

impl Default for Calm {
    fn default() -> Self {
        Calm {
            per_second: 0.0,
            latency: Latency::of(&latency_histogram()),
            refused: 0,
            acknowledged: 0,
        }
    }
}

/// The broker's own memory.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Memory {
    /// Before the overload.
    pub before_bytes: u64,
    /// The most that was seen during it.
    pub peak_bytes: u64,
    /// What connections may hold; none when the broker does not say.
    pub budget_bytes: Option<u64>,
}

/// Small requests beside the overload.
#[derive(Clone, Debug, Serialize)]
pub struct Control {
    /// From request to answer.
    pub latency: Latency,
    /// Refused.
    pub failed: u64,
}

/// The outcome.
#[derive(Clone, Debug, Serialize)]
pub struct OverloadReport {
    /// Messages a second in closed loop.
    pub capacity_per_second: f64,
    /// Messages a second that became due during the overload.
    pub due_per_second: f64,
    /// Its length.
    pub seconds: f64,
    /// A fifth of the capacity, before.
    pub unloaded: Calm,
    /// Latency of what was admitted.
    pub admitted: Latency,
    /// Messages acknowledged a second.
    pub admitted_per_second: f64,
    /// Refusals by their words.
    pub refused: BTreeMap<String, u64>,
    /// How long a refusal took.
    pub refused_latency: Latency,
    /// Refusals with another code than 2, or without a reason.
    pub refused_other: u64,
    /// Due while the connection had all its requests unanswered: never sent.
    pub held_back: u64,
    /// Connections of senders that the broker closed.
    pub connections_lost: u64,
    /// Requests without an answer.
    pub unanswered: u64,
    /// Connections of hostile clients that the broker closed, by kind.
    pub hostile_closed: BTreeMap<String, u64>,
    /// The broker's memory, when its process was named.
    pub memory: Option<Memory>,
    /// Small requests meanwhile.
    pub control: Control,
    /// A fifth of the capacity, a second after.
    pub after: Calm,
    /// Messages acknowledged in all phases.
    pub acknowledged: u64,
    /// What the queues gained.
    pub stored: u64,
    /// Whether latencies are promised.
    pub check_latency: bool,
    /// Share of a processor that the flood's threads took.
    pub generator_busy: f64,
}

impl OverloadReport {
    /// How many times the unloaded p99 that of the admitted requests is.
    pub fn latency_ratio(&self) -> f64 {
        self.admitted.p99_ms / self.unloaded.latency.p99_ms.max(0.001)
    }

    /// The same a second after.
    pub fn after_ratio(&self) -> f64 {
        self.after.latency.p99_ms / self.unloaded.latency.p99_ms.max(0.001)
    }

    /// Every promise that was broken.
    pub fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut promise = |kept: bool, text: String| {
            if !kept {
                broken.push(text);
            }
        };
        if let Some(Memory {
            before_bytes,
            peak_bytes,
            budget_bytes: Some(budget),
        }) = self.memory
        {
            let grown = peak_bytes.saturating_sub(before_bytes);
            promise(
                grown <= budget,
                format!("memory grew by {grown} bytes, and the budget is {budget}"),
            );
        }
        promise(
            self.refused_other == 0,
            format!(
                "{} refusals do not carry code 2 with a reason",
                self.refused_other
            ),
        );
        promise(self.admitted.count > 0, "nothing was admitted".to_owned());
        let lost = self.acknowledged.saturating_sub(self.stored);
        promise(lost == 0, format!("{lost} acknowledged messages are lost"));
        let surplus = self.stored.saturating_sub(self.acknowledged);
        promise(
            surplus <= self.unanswered,
            format!(
                "{surplus} more messages are stored than were acknowledged, and only {} requests have no answer",
                self.unanswered
            ),
        );
        promise(
            self.connections_lost == 0 && self.unanswered == 0,
            format!(
                "{} senders were disconnected, {} requests were not answered",
                self.connections_lost, self.unanswered
            ),
        );
        promise(
            self.control.failed == 0,
            format!("{} small requests were refused", self.control.failed),
        );
        promise(
            self.after.acknowledged > self.after.refused,
            format!(
                "a second after, {} requests were refused and {} admitted",
                self.after.refused, self.after.acknowledged
            ),
        );
        if self.check_latency {
            promise(
                self.after.refused == 0,
                format!(
                    "{} requests were refused a second after",
                    self.after.refused
                ),
            );
            promise(
                self.latency_ratio() <= LATENCY_RATIO_MAX,
                format!(
                    "p99 of admitted requests is {:.1} times the unloaded one",
                    self.latency_ratio()
                ),
            );
            promise(
                self.after_ratio() <= LATENCY_RATIO_MAX,
                format!(
                    "p99 a second after is {:.1} times the unloaded one",
                    self.after_ratio()
                ),
            );
        }
        broken
    }
}

impl fmt::Display for OverloadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, rate: f64, latency: &Latency| {
            writeln!(
                f,
                "{name:<14} {rate:>10.0} /s   p50 {:>8.2}  p99 {:>8.2}  p99.9 {:>8.2}  max {:>8.2} ms",
                latency.p50_ms, latency.p99_ms, latency.p999_ms, latency.max_ms
            )
        };
        let refusals: u64 = self.refused.values().sum();
        row("unloaded", self.unloaded.per_second, &self.unloaded.latency)?;
        row("admitted", self.admitted_per_second, &self.admitted)?;
        row(
            "refused",
            refusals as f64 / self.seconds,
            &self.refused_latency,
        )?;
        row("small requests", 0.0, &self.control.latency)?;
        row("a second after", self.after.per_second, &self.after.latency)?;
        writeln!(
            f,
            "capacity {:.0}/s, due {:.0}/s for {:.0} s, held back by the generator {}, admitted p99 {:.1} times unloaded, after {:.1} times; \
             generator {:.0} % of a processor",
            self.capacity_per_second,
            self.due_per_second,
            self.seconds,
            self.held_back,
            self.latency_ratio(),
            self.after_ratio(),
            self.generator_busy * 100.0
        )?;
        for (remark, count) in &self.refused {
            writeln!(f, "refused {count}: {remark}")?;
        }
        for (kind, count) in &self.hostile_closed {
            writeln!(f, "closed {count}: {kind}")?;
        }
        if let Some(memory) = &self.memory {
            writeln!(
                f,
                "memory {} MiB before, {} MiB at most; budget for connections {} MiB",
                memory.before_bytes >> 20,
                memory.peak_bytes >> 20,
                memory.budget_bytes.unwrap_or(0) >> 20
            )?;
        }
        writeln!(
            f,
            "acknowledged {}, stored {}",
            self.acknowledged, self.stored
        )?;
        for broken in self.broken() {
            writeln!(f, "BROKEN: {broken}")?;
        }
        Ok(())
    }
}
