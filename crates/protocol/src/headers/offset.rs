//! Positions in queues: of consumers, of the queue itself, by time.

use super::BoundaryType;
use super::fields;

fields! {
    /// Header of `CLONE_GROUP_OFFSET`: copy offsets src to dest group.
    pub struct CloneGroupOffsetRequest {
        src_group: String = "srcGroup",
        dest_group: String = "destGroup",
        topic: Option<String> = "topic",
        offline: bool = "offline" or false,
    }
}

fields! {
    /// Header of `QUERY_CONSUMER_OFFSET`: read committed offset (22 if absent; see §5).
    pub struct QueryConsumerOffsetRequest {
        consumer_group: String = "consumerGroup",
        topic: String = "topic",
        queue_id: i32 = "queueId",
        set_zero_if_not_found: Option<bool> = "setZeroIfNotFound",
    }
}

fields! {
    /// Header of `RESET_CONSUMER_CLIENT_OFFSET`, `INVOKE_BROKER_TO_RESET_OFFSET`: client-side offset reset.
    pub struct ResetOffsetRequest {
        group: String = "group",
        topic: String = "topic",
        queue_id: i32 = "queueId" or -1,
        offset: Option<i64> = "offset",
        timestamp_ms: i64 = "timestamp",
        force: bool = "isForce",
    }
}

fields! {
    /// Header of `SEARCH_OFFSET_BY_TIMESTAMP`: offset by time, boundaryType LOWER/UPPER.
    pub struct SearchOffsetRequest {
        topic: String = "topic",
        queue_id: i32 = "queueId",
        timestamp_ms: i64 = "timestamp",
        boundary_type: BoundaryType = "boundaryType" or BoundaryType::Lower,
    }
}

fields! {
    /// Header of `UPDATE_CONSUMER_OFFSET`: commit offset.
    pub struct UpdateConsumerOffsetRequest {
        consumer_group: String = "consumerGroup",
        topic: String = "topic",
        queue_id: i32 = "queueId",
        commit_offset: i64 = "commitOffset",
    }
}

fields! {
    /// Header of `GET_EARLIEST_MSG_STORETIME`: store time of first message.
    pub struct GetEarliestMsgStoretimeRequest {
        topic: String = "topic",
        queue_id: i32 = "queueId",
    }
}

fields! {
    /// Header of the answer to `GET_EARLIEST_MSG_STORETIME`.
    pub struct GetEarliestMsgStoretimeResponse {
        timestamp_ms: i64 = "timestamp",
    }
}

fields! {
    /// Header of `GET_MAX_OFFSET`: max offset of queue (`committed`).
    pub struct GetMaxOffsetRequest {
        topic: String = "topic",
        queue_id: i32 = "queueId",
        committed: bool = "committed" or true,
    }
}

fields! {
    /// Header of the answer to `GET_MAX_OFFSET`.
    pub struct GetMaxOffsetResponse {
        offset: i64 = "offset",
    }
}

fields! {
    /// Header of `GET_MIN_OFFSET`: min offset of queue.
    pub struct GetMinOffsetRequest {
        topic: String = "topic",
        queue_id: i32 = "queueId",
    }
}

fields! {
    /// Header of the answer to `GET_MIN_OFFSET`.
    pub struct GetMinOffsetResponse {
        offset: i64 = "offset",
    }
}

fields! {
    /// RocketMQ's `InitConsumerOffsetRequestHeader`.
    pub struct InitConsumerOffsetRequest {
        topic: Option<String> = "topic",
        init_mode: i32 = "initMode" or 0,
    }
}

fields! {
    /// Header of the answer to `QUERY_CONSUMER_OFFSET`.
    pub struct QueryConsumerOffsetResponse {
        offset: i64 = "offset",
    }
}

fields! {
    /// Header of `QUERY_CORRECTION_OFFSET`: min offset across groups.
    pub struct QueryCorrectionOffset {
        filter_groups: Option<String> = "filterGroups",
        compare_group: String = "compareGroup",
        topic: String = "topic",
    }
}

fields! {
    /// Header of the answer to `SEARCH_OFFSET_BY_TIMESTAMP`.
    pub struct SearchOffsetResponse {
        offset: i64 = "offset",
    }
}

fields! {
    /// Header of the answer to `UPDATE_CONSUMER_OFFSET`.
    pub struct UpdateConsumerOffsetResponse {
    }
}
