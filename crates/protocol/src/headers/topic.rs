//! Topics at the broker.

use super::fields;

fields! {
    /// Header of `UPDATE_AND_CREATE_TOPIC`, `UPDATE_AND_CREATE_STATIC_TOPIC`: create/update topic.
    pub struct CreateTopicRequest {
        topic: String = "topic",
        default_topic: String = "defaultTopic",
        read_queue_nums: i32 = "readQueueNums",
        write_queue_nums: i32 = "writeQueueNums",
        perm: i32 = "perm",
        topic_filter_type: String = "topicFilterType",
        topic_sys_flag: Option<i32> = "topicSysFlag",
        order: bool = "order" or false,
        attributes: Option<String> = "attributes",
        force: bool = "force" or false,
    }
}

fields! {
    /// Header of `UPDATE_AND_CREATE_TOPIC_LIST`: batch create topics.
    pub struct CreateTopicListRequest {
    }
}

fields! {
    /// Header of `DELETE_TOPIC_IN_BROKER`: delete topic (+pop retry topics).
    pub struct DeleteTopicRequest {
        topic: String = "topic",
    }
}

fields! {
    /// Header of `GET_ALL_TOPIC_CONFIG`: slave sync / admin: all topic configs (+split paging).
    pub struct GetAllTopicConfigRequest {
        topic_seq: i32 = "topicSeq",
        data_version: Option<String> = "dataVersion",
        max_topic_num: Option<i32> = "maxTopicNum",
    }
}

fields! {
    /// Header of the answer to `GET_ALL_TOPIC_CONFIG`.
    pub struct GetAllTopicConfigResponse {
        total_topic_num: i32 = "totalTopicNum",
    }
}

fields! {
    /// Header of `GET_TOPIC_CONFIG`: one topic config.
    pub struct GetTopicConfigRequest {
        topic: String = "topic",
    }
}
