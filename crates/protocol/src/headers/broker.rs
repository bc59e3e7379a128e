//! The broker process itself.

use super::fields;

fields! {
    /// Header of `ADD_BROKER`: add broker by config path.
    pub struct AddBrokerRequest {
        config_path: Option<String> = "configPath",
    }
}

fields! {
    /// Header of `CHECK_ROCKSDB_CQ_WRITE_PROGRESS`: compare file CQ vs rocksdb CQ.
    pub struct CheckRocksdbCqWriteProgressRequest {
        topic: String = "topic",
        check_store_time_ms: i64 = "checkStoreTime" or 0,
    }
}

fields! {
    /// Header of `EXPORT_ROCKSDB_CONFIG_TO_JSON`: export config DB.
    pub struct ExportRocksDBConfigToJsonRequest {
        type_name: Option<String> = "typeName",
        config_type: String = "configType",
    }
}

fields! {
    /// Header of the answer to `GET_BROKER_CONFIG`.
    pub struct GetBrokerConfigResponse {
        version: String = "version",
    }
}

fields! {
    /// Header of `REMOVE_BROKER`: remove broker.
    pub struct RemoveBrokerRequest {
        broker_name: String = "brokerName",
        broker_cluster_name: String = "brokerClusterName",
        broker_id: i64 = "brokerId",
    }
}
