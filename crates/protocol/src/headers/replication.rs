//! Between a master and its replicas.

use super::fields;

fields! {
    /// Header of `EXCHANGE_BROKER_HA_INFO`: slave/master exchange HA info.
    pub struct ExchangeHAInfoRequest {
        master_ha_address: Option<String> = "masterHaAddress",
        master_flush_offset: Option<i64> = "masterFlushOffset",
        master_address: Option<String> = "masterAddress",
    }
}

fields! {
    /// Header of the answer to `EXCHANGE_BROKER_HA_INFO`.
    pub struct ExchangeHAInfoResponse {
        master_ha_address: Option<String> = "masterHaAddress",
        master_flush_offset: Option<i64> = "masterFlushOffset",
        master_address: Option<String> = "masterAddress",
    }
}

fields! {
    /// Header of `RESET_MASTER_FLUSH_OFFSET`: set masterFlushedOffset.
    pub struct ResetMasterFlushOffset {
        master_flush_offset: i64 = "masterFlushOffset",
    }
}
