//! What a run found, as a table for people and as JSON for programs.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::process::Usage;

/// Latencies are kept from a microsecond to a minute, to three digits.
const LATENCY_US_MAX: u64 = 60_000_000;
const SLOW_US: u64 = 100_000;
/// Points of the curve that a plot draws.
const CURVE: [f64; 14] = [
    0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 1.0,
];

pub(crate) fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are fixed")
}

/// The outcome of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// "send", "batch", "pull", "pop", "end-to-end", "fan-out", "cold".
    pub workload: Cow<'static, str>,
    /// What was asked for.
    pub setup: Setup,
    /// Length of the measured interval.
    pub seconds: f64,
    /// Messages within it: acknowledged (send, batch, cold), received (pull), acknowledged after a pop (pop), received by all groups (end-to-end,
    /// fan-out).
    pub messages: u64,
    /// The same per second.
    pub messages_per_second: f64,
    /// From sent (closed loop) or due (open loop) to acknowledged, or to received (end-to-end, fan-out); from request
    /// to answer (pull, pop).
    pub latency: Latency,
    /// Cold: the same load without the reader.
    pub alone: Option<Latency>,
    /// Cold: what the reader got meanwhile.
    pub reader: Option<Drained>,
    /// The broker's share, when its process was named.
    pub broker: Option<BrokerCost>,
    /// The generator's own.
    pub generator: GeneratorCost,
    /// Whether every message is accounted for.
    pub verified: Verified,
}

/// What was asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setup {
    /// Sending connections; of a pull, the reading ones.
    pub connections: usize,
    /// Requests in flight on each, in closed loop.
    pub window: usize,
    /// Messages per second, in open loop.
    pub rate: Option<u32>,
    /// Messages in each request.
    pub batch: usize,
    /// Body bytes.
    pub body_bytes: usize,
    /// "json" or "binary".
    pub codec: Cow<'static, str>,
    /// Topics.
    pub topics: u32,
    /// Queues of each.
    pub queues: u32,
    /// Receiving groups.
    pub groups: usize,
}

/// Percentiles, in milliseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Latency {
    /// Samples.
    pub count: u64,
    /// At 50 %.
    pub p50_ms: f64,
    /// At 90 %.
    pub p90_ms: f64,
    /// At 99 %.
    pub p99_ms: f64,
    /// At 99.9 %.
    pub p999_ms: f64,
    /// At 99.99 %.
    pub p9999_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// Samples over 100 ms.
    pub over_100_ms: u64,
    /// Quantile and milliseconds, for plots.
    pub curve: Vec<(f64, f64)>,
}

impl Latency {
    pub(crate) fn of(microseconds: &Histogram<u64>) -> Self {
        let at = |quantile| microseconds.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            count: microseconds.len(),
            p50_ms: at(0.50),
            p90_ms: at(0.90),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            p9999_ms: at(0.9999),
            max_ms: microseconds.max() as f64 / 1000.0,
            over_100_ms: microseconds.count_between(SLOW_US + 1, LATENCY_US_MAX),
            curve: CURVE.iter().map(|q| (*q, at(*q))).collect(),
        }
    }
}

/// What a reader of old messages got.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Drained {
    /// Messages per second.
    pub messages_per_second: f64,
    /// MiB per second, headers of messages included.
    pub mib_per_second: f64,
    /// Times that it read the whole backlog.
    pub passes: u64,
    /// Bytes that the machine's disks read meanwhile: how cold the backlog was.
    pub device_bytes_read: u64,
}

/// What the measured interval cost the broker's process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BrokerCost {
    /// User and system time.
    pub cpu_seconds: f64,
    /// The sturdiest figure of a run.
    pub messages_per_cpu_second: f64,
    /// At its end.
    pub anonymous_bytes: u64,
    /// At its end.
    pub file_bytes: u64,
    /// Written by the machine's disks, per byte of body sent; `None` when nothing was sent.
    pub device_bytes_per_body_byte: Option<f64>,
    /// At its end.
    pub descriptors: u64,
}

impl BrokerCost {
    /// `messages` are those of the report, `sent` those that were acknowledged.
    pub(crate) fn between(
        (before, after): (Usage, Usage),
        messages: u64,
        sent: u64,
        body_bytes: usize,
    ) -> Self {
        let cpu_seconds = after.cpu_seconds - before.cpu_seconds;
        let payload = sent * body_bytes as u64;
        let written = after
            .device_bytes_written
            .saturating_sub(before.device_bytes_written);
        Self {
            cpu_seconds,
            messages_per_cpu_second: messages as f64 / cpu_seconds.max(0.01),
            anonymous_bytes: after.anonymous_bytes,
            file_bytes: after.file_bytes,
            device_bytes_per_body_byte: (payload > 0).then(|| written as f64 / payload as f64),
            descriptors: after.descriptors,
        }
    }
}

/// What the generator itself cost, and whether it held the server back.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct GeneratorCost {
    /// User and system time.
    pub cpu_seconds: f64,
    /// Share of the interval that its busiest thread was on a processor.
    pub busiest_thread: f64,
    /// How late an open loop wrote what the server could have taken, at 99 %.
    pub late_p99_ms: f64,
    /// Why the run says less of the server than of the generator.
    pub bottleneck: Option<String>,
}

impl GeneratorCost {
    /// A thread that never waits cannot load a server more; a generator that takes most of a machine without idle time
    /// takes it from the server; one that is late measures itself.
    pub(crate) fn judge(
        mut self,
        broker: Option<&BrokerCost>,
        latency: &Latency,
        measured: Duration,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let machine_seconds = cores as f64 * measured.as_secs_f64();
        let both = self.cpu_seconds + broker.map_or(0.0, |broker| broker.cpu_seconds);
        self.bottleneck = if self.busiest_thread > 0.9 {
            Some(format!(
                "one of its threads was busy for {:.0} % of the time",
                self.busiest_thread * 100.0
            ))
        } else if broker.is_some() && both > 0.9 * machine_seconds && self.cpu_seconds > 0.6 * both
        {
            Some(format!(
                "it took {:.0} % of a machine without idle time",
                self.cpu_seconds / machine_seconds * 100.0
            ))
        } else if self.late_p99_ms > 1.0 && self.late_p99_ms > latency.p99_ms / 2.0 {
            Some(format!("it was {:.1} ms late at p99", self.late_p99_ms))
        } else {
            None
        };
        self
    }
}

/// Whether every message is accounted for, over the whole run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Verified {
    /// Messages acknowledged.
    pub acknowledged: u64,
    /// Messages refused.
    pub refused: u64,
    /// The first refusal's words.
    pub first_refusal: Option<String>,
    /// Messages that the broker's queues gained; `None` when it was not asked.
    pub stored: Option<u64>,
    /// What the receivers found; `None` when nothing was received.
    pub received: Option<Received>,
}

/// What the receivers found, all groups together.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Received {
    /// Different messages that should have arrived.
    pub expected: u64,
    /// Different messages that did.
    pub distinct: u64,
    /// Expected and not received.
    pub lost: u64,
    /// Received more than once.
    pub duplicates: u64,
    /// Queue offsets left out.
    pub gaps: u64,
    /// Messages behind one that the same sender sent later into the same queue.
    pub overtaken: u64,
    /// Whether the load promises order: each sender waits for its answer before it sends again.
    pub order_promised: bool,
}

impl Verified {
    fn is_clean(&self) -> bool {
        let is_stored = self.stored.is_none_or(|stored| stored == self.acknowledged);
        self.refused == 0 && is_stored && self.received.as_ref().is_none_or(Received::is_clean)
    }
}

impl Received {
    fn is_clean(&self) -> bool {
        let in_order = self.overtaken == 0 || !self.order_promised;
        self.lost == 0
            && self.duplicates == 0
            && self.gaps == 0
            && in_order
            && self.distinct == self.expected
    }
}

impl Report {
    /// What `--json` printed.
    ///
    /// # Errors
    /// When it is no report.
    pub fn from_json(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// Whether every message was taken, is where it belongs, and arrived once. A run that is not clean is a failed run.
    pub fn is_clean(&self) -> bool {
        self.verified.is_clean()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.workload, self.setup)?;
        let mut line = |name: &str, text: String| writeln!(f, "  {name:<17}{text}");
        line(
            "throughput",
            format!(
                "{:>12.0} msg/s over {:.1} s",
                self.messages_per_second, self.seconds
            ),
        )?;
        line("latency", self.latency.to_string())?;
        if let Some(alone) = &self.alone {
            line("without reader", alone.to_string())?;
        }
        if let Some(reader) = &self.reader {
            line(
                "reader",
                format!(
                    "{:>12.0} msg/s, {:.0} MiB/s, {} passes, {:.0} MiB read from the device",
                    reader.messages_per_second,
                    reader.mib_per_second,
                    reader.passes,
                    mib(reader.device_bytes_read)
                ),
            )?;
        }
        if let Some(broker) = &self.broker {
            line(
                "broker",
                format!(
                    "{:>12.0} msg per CPU-second, {:.2} CPU-seconds",
                    broker.messages_per_cpu_second, broker.cpu_seconds
                ),
            )?;
            line(
                "broker memory",
                format!(
                    "{:>12.1} MiB anonymous, {:.1} MiB of files, {} descriptors",
                    mib(broker.anonymous_bytes),
                    mib(broker.file_bytes),
                    broker.descriptors
                ),
            )?;
            if let Some(bytes) = broker.device_bytes_per_body_byte {
                line(
                    "device writes",
                    format!("{bytes:>12.2} bytes per body byte"),
                )?;
            }
        }
        line(
            "generator",
            format!(
                "{:>12.2} CPU-seconds, busiest thread {:.0} %",
                self.generator.cpu_seconds,
                self.generator.busiest_thread * 100.0
            ),
        )?;
        if let Some(reason) = &self.generator.bottleneck {
            line("BOTTLENECK", format!("the generator: {reason}"))?;
        }
        writeln!(f, "{}", self.verified)
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} B, {} connections, ",
            self.body_bytes, self.connections
        )?;
        match self.rate {
            Some(rate) => write!(f, "{rate} msg/s due")?,
            None => write!(f, "{} in flight on each", self.window)?,
        }
        if self.batch > 1 {
            write!(f, ", {} messages a request", self.batch)?;
        }
        if self.groups > 1 {
            write!(f, ", {} groups", self.groups)?;
        }
        if self.topics > 1 {
            write!(f, ", {} topics of {} queues", self.topics, self.queues)?;
        }
        write!(f, ", {} headers", self.codec)
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>12.3} ms p50, {:.3} p90, {:.3} p99, {:.3} p999, {:.2} p9999, {:.1} max, {} over 100 ms",
            self.p50_ms,
            self.p90_ms,
            self.p99_ms,
            self.p999_ms,
            self.p9999_ms,
            self.max_ms,
            self.over_100_ms
        )
    }
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match (self.is_clean(), self.stored) {
            (false, _) => "NOT VERIFIED",
            (true, Some(_)) => "verified",
            (true, None) => "not asked",
        };
        write!(f, "  {word:<17}{:>12} acknowledged", self.acknowledged)?;
        if let Some(stored) = self.stored {
            write!(f, ", {stored} in the queues")?;
        }
        if let Some(received) = &self.received {
            write!(
                f,
                ", {} of {} received, {} lost, {} twice, {} offsets left out, {} overtaken",
                received.distinct,
                received.expected,
                received.lost,
                received.duplicates,
                received.gaps,
                received.overtaken
            )?;
        }
        if self.refused > 0 {
            let words = self.first_refusal.as_deref().unwrap_or("-");
            write!(f, ", {} refused ({words})", self.refused)?;
        }
        Ok(())
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_samples() {
        let mut histogram = latency_histogram();
        (1..=1000).for_each(|ms| histogram.record(ms * 1000).unwrap());
        let latency = Latency::of(&histogram);
        assert!((latency.p50_ms - 500.0).abs() < 1.0 && (latency.p99_ms - 990.0).abs() < 1.0);
        assert!((latency.over_100_ms as i64 - 900).abs() <= 1, "{latency:?}");
    }

    #[test]
    fn overtaking_fails_a_run_only_where_order_was_promised() {
        let received = |order_promised| Received {
            overtaken: 1,
            order_promised,
            ..Received::default()
        };
        assert!(received(false).is_clean() && !received(true).is_clean());
    }

    #[test]
    fn a_thread_that_never_waits_is_named() {
        let judged = |busiest_thread| {
            let cost = GeneratorCost {
                busiest_thread,
                ..GeneratorCost::default()
            };
            cost.judge(None, &Latency::default(), Duration::from_secs(1))
        };
        assert!(judged(0.95).bottleneck.is_some() && judged(0.5).bottleneck.is_none());
    }
}
