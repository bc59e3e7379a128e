//! Figures about topics and groups.

use super::fields;

fields! {
    /// RocketMQ's `StatisticsMessagesRequestHeader`.
    pub struct StatisticsMessagesRequest {
        consumer_group: String = "consumerGroup",
        topic: String = "topic",
        queue_id: i32 = "queueId",
        from_time: i64 = "fromTime" or 0,
        to_time: i64 = "toTime" or 0,
    }
}

fields! {
    /// Header of `GET_BROKER_CONSUME_STATS`: lag of all groups.
    pub struct GetConsumeStatsInBroker {
        order: bool = "isOrder",
    }
}

fields! {
    /// Header of `GET_CONSUME_STATS`: broker vs consumer offsets.
    pub struct GetConsumeStatsRequest {
        consumer_group: String = "consumerGroup",
        topic: Option<String> = "topic",
        topic_list: Option<String> = "topicList",
    }
}

fields! {
    /// Header of `GET_TOPIC_STATS_INFO`: min/max/lastTs per queue.
    pub struct GetTopicStatsInfoRequest {
        topic: String = "topic",
    }
}

fields! {
    /// Header of `QUERY_CONSUME_TIME_SPAN`: time spans per queue.
    pub struct QueryConsumeTimeSpanRequest {
        topic: String = "topic",
        group: String = "group",
    }
}

fields! {
    /// Header of `VIEW_BROKER_STATS_DATA`: stats item (name,key).
    pub struct ViewBrokerStatsDataRequest {
        stats_name: String = "statsName",
        stats_key: String = "statsKey",
    }
}
