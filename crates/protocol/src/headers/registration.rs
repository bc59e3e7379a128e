//! Brokers at the name server.

use super::fields;

fields! {
    /// Header of `BROKER_HEARTBEAT`: lightweight broker heartbeat.
    pub struct BrokerHeartbeatRequest {
        cluster_name: String = "clusterName",
        broker_addr: String = "brokerAddr",
        broker_name: String = "brokerName",
        broker_id: Option<i64> = "brokerId",
        epoch: Option<i32> = "epoch",
        max_offset: Option<i64> = "maxOffset",
        confirm_offset: Option<i64> = "confirmOffset",
        heartbeat_timeout_ms: Option<i64> = "heartbeatTimeoutMills",
        election_priority: Option<i32> = "electionPriority",
    }
}

fields! {
    /// Header of `NOTIFY_MIN_BROKER_ID_CHANGE`: min id change for acting master.
    pub struct NotifyMinBrokerIdChangeRequest {
        min_broker_id: Option<i64> = "minBrokerId",
        broker_name: Option<String> = "brokerName",
        min_broker_addr: Option<String> = "minBrokerAddr",
        offline_broker_addr: Option<String> = "offlineBrokerAddr",
        ha_broker_addr: Option<String> = "haBrokerAddr",
    }
}

fields! {
    /// Header of `QUERY_DATA_VERSION`: does namesrv need re-register.
    pub struct QueryDataVersionRequest {
        broker_name: String = "brokerName",
        broker_addr: String = "brokerAddr",
        cluster_name: String = "clusterName",
        broker_id: i64 = "brokerId",
    }
}

fields! {
    /// Header of `REGISTER_BROKER`: broker registration.
    pub struct RegisterBrokerRequest {
        broker_name: String = "brokerName",
        broker_addr: String = "brokerAddr",
        cluster_name: String = "clusterName",
        ha_server_addr: String = "haServerAddr",
        broker_id: i64 = "brokerId",
        heartbeat_timeout_ms: Option<i64> = "heartbeatTimeoutMillis",
        enable_acting_master: Option<bool> = "enableActingMaster",
        compressed: bool = "compressed" or false,
        body_crc: i32 = "bodyCrc32" or 0,
    }
}

fields! {
    /// Header of `UNREGISTER_BROKER`: queued to BatchUnregistrationService.
    pub struct UnRegisterBrokerRequest {
        broker_name: String = "brokerName",
        broker_addr: String = "brokerAddr",
        cluster_name: String = "clusterName",
        broker_id: i64 = "brokerId",
    }
}

fields! {
    /// Header of `ADD_WRITE_PERM_OF_BROKER`: restore RW.
    pub struct AddWritePermOfBrokerRequest {
        broker_name: String = "brokerName",
    }
}

fields! {
    /// Header of the answer to `ADD_WRITE_PERM_OF_BROKER`.
    pub struct AddWritePermOfBrokerResponse {
        add_topic_count: i32 = "addTopicCount",
    }
}

fields! {
    /// Header of `GET_BROKER_MEMBER_GROUP`: members of broker set.
    pub struct GetBrokerMemberGroupRequest {
        cluster_name: String = "clusterName",
        broker_name: String = "brokerName",
    }
}

fields! {
    /// Header of the answer to `QUERY_DATA_VERSION`.
    pub struct QueryDataVersionResponse {
        changed: bool = "changed",
    }
}

fields! {
    /// Header of the answer to `REGISTER_BROKER`.
    pub struct RegisterBrokerResponse {
        ha_server_addr: Option<String> = "haServerAddr",
        master_addr: Option<String> = "masterAddr",
    }
}

fields! {
    /// Header of `WIPE_WRITE_PERM_OF_BROKER`: clear W on all topics of broker.
    pub struct WipeWritePermOfBrokerRequest {
        broker_name: String = "brokerName",
    }
}

fields! {
    /// Header of the answer to `WIPE_WRITE_PERM_OF_BROKER`.
    pub struct WipeWritePermOfBrokerResponse {
        wipe_topic_count: i32 = "wipeTopicCount",
    }
}
