//! Timer messages: how many wait.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::DataVersion;

/// Messages of one topic that wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct TimerMetric {
    /// How many.
    pub count: i64,
    /// When that changed last, in milliseconds since 1970.
    pub time_stamp: i64,
}

/// The answer to GET_TIMER_METRICS, and what `timermetrics` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct TimerMetricsSerializeWrapper {
    /// `dataVersion`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_version: Option<DataVersion>,
    /// By the topic that the messages are sent to.
    pub timing_count: BTreeMap<String, TimerMetric>,
}
