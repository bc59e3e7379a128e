//! What a run found, as a table for people and as JSON for programs.

use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::process::Usage;

/// The outcome of one send load.
#[derive(Clone, Debug, Serialize)]
pub struct SendReport {
    /// Connections.
    pub connections: usize,
    /// Requests in flight on each.
    pub window: usize,
    /// Body bytes.
    pub body_bytes: usize,
    /// "json" or "binary".
    pub codec: &'static str,
    /// Length of the measured interval.
    pub seconds: f64,
    /// Messages acknowledged within it.
    pub acknowledged: u64,
    /// Requests refused, in the whole run. More than none is a failed run.
    pub refused: u64,
    /// The first refusal's words.
    pub first_refusal: Option<String>,
    /// Messages that the broker's offsets account for, in the whole run; `None` when it was not asked.
    pub stored: Option<u64>,
    /// Messages acknowledged in the whole run. Must equal `stored`.
    pub acknowledged_in_all: u64,
    /// Messages per second.
    pub messages_per_second: f64,
    /// Milliseconds from write to acknowledgement, at 50 %.
    pub p50_ms: f64,
    /// At 99 %.
    pub p99_ms: f64,
    /// At 99.9 %.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// The broker's share, when its process was named.
    pub broker: Option<BrokerCost>,
    /// CPU seconds of the generator itself; a run in which it is the bottleneck says little of the broker.
    pub generator_cpu_seconds: f64,
}

/// What the measured interval cost the broker's process.
#[derive(Clone, Debug, Serialize)]
pub struct BrokerCost {
    /// User and system time.
    pub cpu_seconds: f64,
    /// The sturdiest figure of a run.
    pub messages_per_cpu_second: f64,
    /// At its end.
    pub anonymous_bytes: u64,
    /// At its end.
    pub file_bytes: u64,
    /// Written to block devices, per byte of body.
    pub device_bytes_per_body_byte: f64,
    /// At its end.
    pub descriptors: u64,
}

impl BrokerCost {
    pub(crate) fn between(before: &Usage, after: &Usage, messages: u64, body_bytes: usize) -> Self {
        let cpu_seconds = after.cpu_seconds - before.cpu_seconds;
        let payload = (messages * body_bytes as u64).max(1);
        let written = after
            .device_bytes_written
            .saturating_sub(before.device_bytes_written);
        Self {
            cpu_seconds,
            messages_per_cpu_second: messages as f64 / cpu_seconds.max(0.01),
            anonymous_bytes: after.anonymous_bytes,
            file_bytes: after.file_bytes,
            device_bytes_per_body_byte: written as f64 / payload as f64,
            descriptors: after.descriptors,
        }
    }
}

impl SendReport {
    /// Whether every message was taken and is accounted for.
    pub fn is_clean(&self) -> bool {
        self.refused == 0
            && self
                .stored
                .is_none_or(|stored| stored == self.acknowledged_in_all)
    }

    pub(crate) fn set_latencies(&mut self, microseconds: &Histogram<u64>) {
        let at = |quantile| microseconds.value_at_quantile(quantile) as f64 / 1000.0;
        self.p50_ms = at(0.50);
        self.p99_ms = at(0.99);
        self.p999_ms = at(0.999);
        self.max_ms = microseconds.max() as f64 / 1000.0;
    }
}

impl fmt::Display for SendReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "send {} B, {} connections x {} in flight, {} headers, {:.1} s",
            self.body_bytes, self.connections, self.window, self.codec, self.seconds
        )?;
        writeln!(
            f,
            "  throughput       {:>12.0} msg/s",
            self.messages_per_second
        )?;
        writeln!(
            f,
            "  latency          {:>12.3} ms p50, {:.3} p99, {:.3} p999, {:.1} max",
            self.p50_ms, self.p99_ms, self.p999_ms, self.max_ms
        )?;
        if let Some(broker) = &self.broker {
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            writeln!(
                f,
                "  broker           {:>12.0} msg per CPU-second",
                broker.messages_per_cpu_second
            )?;
            writeln!(f, "  broker CPU       {:>12.2} s", broker.cpu_seconds)?;
            writeln!(
                f,
                "  broker memory    {:>12.1} MiB anonymous, {:.1} MiB of files",
                mib(broker.anonymous_bytes),
                mib(broker.file_bytes)
            )?;
            writeln!(
                f,
                "  device writes    {:>12.2} bytes per body byte",
                broker.device_bytes_per_body_byte
            )?;
        }
        writeln!(
            f,
            "  generator CPU    {:>12.2} s",
            self.generator_cpu_seconds
        )?;
        match self.stored {
            Some(stored) if stored == self.acknowledged_in_all && self.refused == 0 => {
                writeln!(
                    f,
                    "  verified         {stored:>12} acknowledged messages are in the queues"
                )
            }
            Some(stored) => writeln!(
                f,
                "  NOT VERIFIED     {stored:>12} messages in the queues, {} acknowledged, {} refused ({})",
                self.acknowledged_in_all,
                self.refused,
                self.first_refusal.as_deref().unwrap_or("-")
            ),
            None => writeln!(f, "  refused          {:>12}", self.refused),
        }
    }
}
