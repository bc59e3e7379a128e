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
