//! Finding messages.

use super::fields;

fields! {
    /// Header of `QUERY_CONSUME_QUEUE`: dump CQ units.
    pub struct QueryConsumeQueueRequest {
        topic: Option<String> = "topic",
        queue_id: i32 = "queueId" or 0,
        index: i64 = "index" or 0,
        count: i32 = "count" or 0,
        consumer_group: Option<String> = "consumerGroup",
    }
}

fields! {
    /// Header of `QUERY_MESSAGE`: index query by key / uniq key (ext `_UNIQUE_KEY_QUERY`).
    pub struct QueryMessageRequest {
        topic: String = "topic",
        key: String = "key",
        messages_max: i32 = "maxNum",
        begin_timestamp_ms: i64 = "beginTimestamp",
        end_timestamp_ms: i64 = "endTimestamp",
    }
}

fields! {
    /// Header of the answer to `QUERY_MESSAGE`.
    pub struct QueryMessageResponse {
        index_last_update_timestamp_ms: i64 = "indexLastUpdateTimestamp",
        index_last_update_physical_offset: i64 = "indexLastUpdatePhyoffset",
    }
}

fields! {
    /// Header of `VIEW_MESSAGE_BY_ID`: read one record at physical offset.
    pub struct ViewMessageRequest {
        topic: Option<String> = "topic",
        offset: i64 = "offset",
    }
}

fields! {
    /// Header of the answer to `VIEW_MESSAGE_BY_ID`.
    pub struct ViewMessageResponse {
    }
}
