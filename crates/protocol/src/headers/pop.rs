//! Consuming by pop: fetch, acknowledge, hide, wait.

use super::fields;

fields! {
    /// Header of `ACK_MESSAGE`: ack one.
    pub struct AckMessageRequest {
        consumer_group: String = "consumerGroup",
        topic: String = "topic",
        queue_id: i32 = "queueId",
        extra_info: String = "extraInfo",
        offset: i64 = "offset",
    }
}

fields! {
    /// Header of `CHANGE_MESSAGE_INVISIBLETIME`: extend invisible.
    pub struct ChangeInvisibleTimeRequest {
        consumer_group: String = "consumerGroup",
        topic: String = "topic",
        queue_id: i32 = "queueId",
        extra_info: String = "extraInfo",
        offset: i64 = "offset",
        invisible_time_ms: i64 = "invisibleTime",
    }
}

fields! {
    /// Header of `NOTIFICATION`: long-poll "has message?".
    pub struct NotificationRequest {
        consumer_group: String = "consumerGroup",
        topic: String = "topic",
        queue_id: i32 = "queueId",
        poll_time_ms: i64 = "pollTime",
        born_time_ms: i64 = "bornTime",
        order: bool = "order" or false,
        attempt_id: Option<String> = "attemptId",
    }
}

fields! {
    /// Header of the answer to `NOTIFICATION`.
    pub struct NotificationResponse {
        has_msg: bool = "hasMsg" or false,
        polling_full: bool = "pollingFull" or false,
    }
}

fields! {
    /// Header of `PEEK_MESSAGE`: peek without state.
    pub struct PeekMessageRequest {
        topic: String = "topic",
        queue_id: i32 = "queueId",
        messages_max: i32 = "maxMsgNums",
        consumer_group: String = "consumerGroup",
    }
}

fields! {
    /// Header of `POP_MESSAGE`: pop with invisible time.
    pub struct PopMessageRequest {
        consumer_group: String = "consumerGroup",
        topic: String = "topic",
        queue_id: i32 = "queueId",
        messages_max: i32 = "maxMsgNums",
        invisible_time_ms: i64 = "invisibleTime",
        poll_time_ms: i64 = "pollTime",
        born_time_ms: i64 = "bornTime",
        init_mode: i32 = "initMode",
        exp_type: Option<String> = "expType",
        exp: Option<String> = "exp",
        order: bool = "order" or false,
        attempt_id: Option<String> = "attemptId",
    }
}

fields! {
    /// Header of the answer to `POP_MESSAGE`, `PEEK_MESSAGE`.
    pub struct PopMessageResponse {
        pop_time_ms: i64 = "popTime",
        invisible_time_ms: i64 = "invisibleTime",
        revive_qid: i32 = "reviveQid",
        rest_num: i64 = "restNum",
        start_offset_info: Option<String> = "startOffsetInfo",
        msg_offset_info: Option<String> = "msgOffsetInfo",
        order_count_info: Option<String> = "orderCountInfo",
    }
}

fields! {
    /// Header of the answer to `CHANGE_MESSAGE_INVISIBLETIME`.
    pub struct ChangeInvisibleTimeResponse {
        pop_time_ms: i64 = "popTime",
        invisible_time_ms: i64 = "invisibleTime",
        revive_qid: i32 = "reviveQid",
    }
}

fields! {
    /// Header of `POLLING_INFO`: number of parked pops.
    pub struct PollingInfoRequest {
        consumer_group: String = "consumerGroup",
        topic: String = "topic",
        queue_id: i32 = "queueId",
    }
}

fields! {
    /// Header of the answer to `POLLING_INFO`.
    pub struct PollingInfoResponse {
        polling_num: i32 = "pollingNum",
    }
}
