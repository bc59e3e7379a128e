//! Consumer groups as brokers configure them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{DataVersion, SubscriptionData};

/// How a group's retries are spaced.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub enum GroupRetryPolicyType {
    /// Each one waits a multiple longer.
    #[serde(rename = "EXPONENTIAL")]
    Exponential,
    /// By a list.
    #[default]
    #[serde(rename = "CUSTOMIZED")]
    Customized,
}

/// Retries that wait a multiple longer each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExponentialRetryPolicy {
    /// First wait in ms.
    pub initial: i64,
    /// Longest wait in ms.
    pub max: i64,
    /// `multiplier`
    pub multiplier: i64,
}

impl Default for ExponentialRetryPolicy {
    fn default() -> Self {
        Self {
            initial: 5_000,
            max: 7_200_000,
            multiplier: 2,
        }
    }
}

/// Retries that wait as listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct CustomizedRetryPolicy {
    /// Waits in ms.
    pub next: Vec<i64>,
}

/// How a group's retries are spaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupRetryPolicy {
    /// `customizedRetryPolicy`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customized_retry_policy: Option<CustomizedRetryPolicy>,
    /// `exponentialRetryPolicy`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exponential_retry_policy: Option<ExponentialRetryPolicy>,
    /// `type`
    #[serde(rename = "type")]
    pub kind: GroupRetryPolicyType,
}

/// What a group without a policy of its own waits, in ms: the default delay levels.
const DEFAULT_WAITS_MS: [i64; 18] = [
    1_000, 5_000, 10_000, 30_000, 60_000, 120_000, 180_000, 240_000, 300_000, 360_000, 420_000,
    480_000, 540_000, 600_000, 1_200_000, 1_800_000, 3_600_000, 7_200_000,
];
/// Deliveries after which an exponential policy waits no longer. Java 5.3: `ExponentialRetryPolicy.nextDelayDuration`.
const EXPONENT_MAX: i32 = 32;
/// Where a list of waits begins to count: as delay levels do for retries. Java 5.3: `CustomizedRetryPolicy.nextDelayDuration`.
const FIRST_WAIT: usize = 2;

impl GroupRetryPolicy {
    /// How long a message waits that was delivered `reconsume_times` times again and not consumed, in ms; never negative.
    ///
    /// POP consumption and proxies ask this. The retries of pulling consumers follow delay levels, as in Java 5.3, where
    /// `CONSUMER_SEND_MSG_BACK` does not look at the policy either.
    pub fn next_delay_ms(&self, reconsume_times: i32) -> i64 {
        let times = reconsume_times.max(0);
        let delay_ms = match self.kind {
            GroupRetryPolicyType::Exponential => {
                self.exponential_retry_policy.as_ref().map(|policy| {
                    let factor = policy
                        .multiplier
                        .saturating_pow(times.min(EXPONENT_MAX) as u32);
                    policy.initial.saturating_mul(factor).min(policy.max)
                })
            }
            GroupRetryPolicyType::Customized => self
                .customized_retry_policy
                .as_ref()
                .and_then(|policy| wait_of(&policy.next, times)),
        };
        delay_ms
            .or_else(|| wait_of(&DEFAULT_WAITS_MS, times))
            .unwrap_or_default()
            .max(0)
    }
}

/// None for an empty list, on which Java fails.
fn wait_of(waits_ms: &[i64], times: i32) -> Option<i64> {
    let index = (times as usize).saturating_add(FIRST_WAIT);
    waits_ms.get(index).or(waits_ms.last()).copied()
}

/// A subscription that an operator fixed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct SimpleSubscriptionData {
    /// `expression`
    pub expression: String,
    /// `expressionType`
    pub expression_type: String,
    /// `topic`
    pub topic: String,
    /// `version`
    pub version: i64,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscriptionGroupConfig {
    /// `attributes`
    pub attributes: BTreeMap<String, String>,
    /// `brokerId`
    pub broker_id: i64,
    /// `consumeBroadcastEnable`
    pub consume_broadcast_enable: bool,
    /// `consumeEnable`
    pub consume_enable: bool,
    /// `consumeFromMinEnable`
    pub consume_from_min_enable: bool,
    /// `consumeMessageOrderly`
    pub consume_message_orderly: bool,
    /// `consumeTimeoutMinute`
    pub consume_timeout_minute: i32,
    /// `groupName`
    pub group_name: String,
    /// `groupRetryPolicy`
    pub group_retry_policy: GroupRetryPolicy,
    /// `groupSysFlag`
    pub group_sys_flag: i32,
    /// `notifyConsumerIdsChangedEnable`
    pub notify_consumer_ids_changed_enable: bool,
    /// `retryMaxTimes`
    pub retry_max_times: i32,
    /// `retryQueueNums`
    pub retry_queue_nums: i32,
    /// `subscriptionDataSet`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_data_set: Option<Vec<SimpleSubscriptionData>>,
    /// `whichBrokerWhenConsumeSlowly`
    pub which_broker_when_consume_slowly: i64,
}

impl Default for SubscriptionGroupConfig {
    fn default() -> Self {
        Self {
            attributes: Default::default(),
            broker_id: Default::default(),
            consume_broadcast_enable: true,
            consume_enable: true,
            consume_from_min_enable: true,
            consume_message_orderly: Default::default(),
            consume_timeout_minute: 15,
            group_name: Default::default(),
            group_retry_policy: Default::default(),
            group_sys_flag: Default::default(),
            notify_consumer_ids_changed_enable: true,
            retry_max_times: 16,
            retry_queue_nums: 1,
            subscription_data_set: Default::default(),
            which_broker_when_consume_slowly: 1,
        }
    }
}

/// All groups of a broker, as `subscriptionGroup.json` and slaves hold them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscriptionGroupWrapper {
    /// `dataVersion`
    pub data_version: DataVersion,
    /// `forbiddenTable`
    pub forbidden_table: BTreeMap<String, BTreeMap<String, i32>>,
    /// `subscriptionGroupTable`
    pub subscription_group_table: BTreeMap<String, SubscriptionGroupConfig>,
}

/// Groups to create in one request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct SubscriptionGroupList {
    /// `groupConfigList`
    pub group_config_list: Vec<SubscriptionGroupConfig>,
}

/// A list of groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupList {
    /// `groupList`
    pub group_list: BTreeSet<String>,
}

/// Whether a group may read a topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupForbidden {
    /// `group`
    pub group: String,
    /// `readable`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readable: Option<bool>,
    /// `topic`
    pub topic: String,
}

/// The answer to QUERY_SUBSCRIPTION_BY_CONSUMER.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct QuerySubscriptionResponseBody {
    /// `group`
    pub group: String,
    /// `subscriptionData`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_data: Option<SubscriptionData>,
    /// `topic`
    pub topic: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_by_the_groups_policy() {
        let default = GroupRetryPolicy::default();
        let waits = [-1, 0, 1, 15, 16, i32::MAX].map(|times| default.next_delay_ms(times));
        assert_eq!(
            waits,
            [10_000, 10_000, 30_000, 7_200_000, 7_200_000, 7_200_000]
        );
        let exponential = |initial, max, multiplier| GroupRetryPolicy {
            kind: GroupRetryPolicyType::Exponential,
            exponential_retry_policy: Some(ExponentialRetryPolicy {
                initial,
                max,
                multiplier,
            }),
            ..GroupRetryPolicy::default()
        };
        let doubling = exponential(5_000, 7_200_000, 2);
        assert_eq!(
            [0, 1, 3, 11, 99].map(|times| doubling.next_delay_ms(times)),
            [5_000, 10_000, 40_000, 7_200_000, 7_200_000]
        );
        assert_eq!(
            exponential(i64::MAX, i64::MAX, i64::MAX).next_delay_ms(32),
            i64::MAX
        );
        assert_eq!(exponential(-5, 10, 2).next_delay_ms(3), 0);
        let listed = |next: &[i64]| GroupRetryPolicy {
            customized_retry_policy: Some(CustomizedRetryPolicy {
                next: next.to_vec(),
            }),
            ..GroupRetryPolicy::default()
        };
        assert_eq!(
            [0, 1, 2].map(|times| listed(&[1, 2, 3, 4]).next_delay_ms(times)),
            [3, 4, 4]
        );
        assert_eq!(listed(&[7]).next_delay_ms(0), 7);
        assert_eq!(listed(&[]).next_delay_ms(0), 10_000);
    }
}
