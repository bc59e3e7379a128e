//! Between masters, replicas and controllers.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::BrokerMemberGroup;

/// A stretch of the log written under one master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EpochEntry {
    /// `endOffset`
    pub end_offset: i64,
    /// `epoch`
    pub epoch: i32,
    /// `startOffset`
    pub start_offset: i64,
}

impl Default for EpochEntry {
    fn default() -> Self {
        Self {
            end_offset: i64::MAX,
            epoch: Default::default(),
            start_offset: Default::default(),
        }
    }
}

/// The answer to GET_BROKER_EPOCH_CACHE.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct EpochEntryCache {
    /// `brokerId`
    pub broker_id: i64,
    /// `brokerName`
    pub broker_name: String,
    /// `clusterName`
    pub cluster_name: String,
    /// `epochList`
    pub epoch_list: Vec<EpochEntry>,
    /// `maxOffset`
    pub max_offset: i64,
}

/// A replica as its master sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct HaConnectionRuntimeInfo {
    /// `addr`
    pub addr: String,
    /// `diff`
    pub diff: i64,
    /// `inSync`
    pub in_sync: bool,
    /// `slaveAckOffset`
    pub slave_ack_offset: i64,
    /// `transferFromWhere`
    pub transfer_from_where: i64,
    /// `transferredByteInSecond`
    pub transferred_byte_in_second: i64,
}

/// A master as its replica sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct HaClientRuntimeInfo {
    /// `isActivated`
    #[serde(rename = "isActivated")]
    pub activated: bool,
    /// `lastReadTimestamp`
    pub last_read_timestamp: i64,
    /// `lastWriteTimestamp`
    pub last_write_timestamp: i64,
    /// `masterAddr`
    pub master_addr: String,
    /// `masterFlushOffset`
    pub master_flush_offset: i64,
    /// `maxOffset`
    pub max_offset: i64,
    /// `transferredByteInSecond`
    pub transferred_byte_in_second: i64,
}

/// The answer to GET_BROKER_HA_STATUS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct HaRuntimeInfo {
    /// `haClientRuntimeInfo`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ha_client_runtime_info: Option<HaClientRuntimeInfo>,
    /// `haConnectionInfo`
    pub ha_connection_info: Vec<HaConnectionRuntimeInfo>,
    /// `inSyncSlaveNums`
    pub in_sync_slave_nums: i32,
    /// `master`
    pub master: bool,
    /// `masterCommitLogMaxOffset`
    pub master_commit_log_max_offset: i64,
}

/// The replicas that have everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct SyncStateSet {
    /// Broker ids.
    pub sync_state_set: BTreeSet<i64>,
    /// `syncStateSetEpoch`
    pub sync_state_set_epoch: i32,
}

/// Who was elected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ElectMasterResponseBody {
    /// `brokerMemberGroup`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_member_group: Option<BrokerMemberGroup>,
    /// `syncStateSet`
    pub sync_state_set: BTreeSet<i64>,
}

/// What master and replica tell each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerSyncInfo {
    /// `masterAddress`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_address: Option<String>,
    /// `masterFlushOffset`
    pub master_flush_offset: i64,
    /// `masterHaAddress`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_ha_address: Option<String>,
}
