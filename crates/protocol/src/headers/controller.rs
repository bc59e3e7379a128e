//! The controller that elects masters.

use super::fields;

fields! {
    /// Header of `CONTROLLER_ALTER_SYNC_STATE_SET`: ISR change.
    pub struct AlterSyncStateSetRequest {
        broker_name: Option<String> = "brokerName",
        master_broker_id: Option<i64> = "masterBrokerId",
        master_epoch: Option<i32> = "masterEpoch",
        invoke_time_ms: i64 = "invokeTime" or 0,
    }
}

fields! {
    /// Header of `CONTROLLER_APPLY_BROKER_ID`: claim id with check code.
    pub struct ApplyBrokerIdRequest {
        cluster_name: Option<String> = "clusterName",
        broker_name: Option<String> = "brokerName",
        applied_broker_id: Option<i64> = "appliedBrokerId",
        register_check_code: Option<String> = "registerCheckCode",
    }
}

fields! {
    /// Header of `CLEAN_BROKER_DATA`: purge broker metadata.
    pub struct CleanControllerBrokerDataRequest {
        cluster_name: Option<String> = "clusterName",
        broker_name: String = "brokerName",
        broker_controller_ids_to_clean: Option<String> = "brokerControllerIdsToClean",
        clean_living_broker: bool = "isCleanLivingBroker" or false,
        invoke_time_ms: i64 = "invokeTime" or 0,
    }
}

fields! {
    /// Header of `CONTROLLER_ELECT_MASTER`: elect.
    pub struct ElectMasterRequest {
        cluster_name: String = "clusterName" or String::new(),
        broker_name: String = "brokerName" or String::new(),
        broker_id: i64 = "brokerId" or -1,
        designate_elect: bool = "designateElect" or false,
        invoke_time_ms: i64 = "invokeTime" or 0,
    }
}

fields! {
    /// Header of the answer to `CONTROLLER_ELECT_MASTER`.
    pub struct ElectMasterResponse {
        master_broker_id: Option<i64> = "masterBrokerId",
        master_address: Option<String> = "masterAddress",
        master_epoch: Option<i32> = "masterEpoch",
        sync_state_set_epoch: Option<i32> = "syncStateSetEpoch",
    }
}

fields! {
    /// Header of the answer to `CONTROLLER_GET_METADATA_INFO`.
    pub struct GetMetaDataResponse {
        group: Option<String> = "group",
        controller_leader_id: Option<String> = "controllerLeaderId",
        controller_leader_address: Option<String> = "controllerLeaderAddress",
        leader: bool = "isLeader" or false,
        peers: Option<String> = "peers",
    }
}

fields! {
    /// Header of `NOTIFY_BROKER_ROLE_CHANGED`: role push.
    pub struct NotifyBrokerRoleChangedRequest {
        master_address: Option<String> = "masterAddress",
        master_epoch: Option<i32> = "masterEpoch",
        sync_state_set_epoch: Option<i32> = "syncStateSetEpoch",
        master_broker_id: Option<i64> = "masterBrokerId",
    }
}

fields! {
    /// Header of `CONTROLLER_REGISTER_BROKER`: register broker addr.
    pub struct RegisterBrokerToControllerRequest {
        cluster_name: Option<String> = "clusterName",
        broker_name: Option<String> = "brokerName",
        broker_id: Option<i64> = "brokerId",
        broker_address: Option<String> = "brokerAddress",
        invoke_time_ms: i64 = "invokeTime" or 0,
    }
}

fields! {
    /// Header of the answer to `CONTROLLER_REGISTER_BROKER`.
    pub struct RegisterBrokerToControllerResponse {
        cluster_name: Option<String> = "clusterName",
        broker_name: Option<String> = "brokerName",
        master_broker_id: Option<i64> = "masterBrokerId",
        master_address: Option<String> = "masterAddress",
        master_epoch: Option<i32> = "masterEpoch",
        sync_state_set_epoch: Option<i32> = "syncStateSetEpoch",
    }
}

fields! {
    /// Header of the answer to `CONTROLLER_ALTER_SYNC_STATE_SET`.
    pub struct AlterSyncStateSetResponse {
        new_sync_state_set_epoch: i32 = "newSyncStateSetEpoch" or 0,
    }
}

fields! {
    /// Header of the answer to `CONTROLLER_APPLY_BROKER_ID`.
    pub struct ApplyBrokerIdResponse {
        cluster_name: Option<String> = "clusterName",
        broker_name: Option<String> = "brokerName",
    }
}

fields! {
    /// Header of `CONTROLLER_GET_NEXT_BROKER_ID`: next id.
    pub struct GetNextBrokerIdRequest {
        cluster_name: Option<String> = "clusterName",
        broker_name: Option<String> = "brokerName",
    }
}

fields! {
    /// Header of the answer to `CONTROLLER_GET_NEXT_BROKER_ID`.
    pub struct GetNextBrokerIdResponse {
        cluster_name: Option<String> = "clusterName",
        broker_name: Option<String> = "brokerName",
        next_broker_id: Option<i64> = "nextBrokerId",
    }
}

fields! {
    /// Header of `CONTROLLER_GET_REPLICA_INFO`: replica info.
    pub struct GetReplicaInfoRequest {
        broker_name: Option<String> = "brokerName",
    }
}

fields! {
    /// Header of the answer to `CONTROLLER_GET_REPLICA_INFO`.
    pub struct GetReplicaInfoResponse {
        master_broker_id: Option<i64> = "masterBrokerId",
        master_address: Option<String> = "masterAddress",
        master_epoch: Option<i32> = "masterEpoch",
    }
}
