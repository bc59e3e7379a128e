//! Consumer groups at the broker.

use super::fields;

fields! {
    /// Header of `DELETE_SUBSCRIPTIONGROUP`: delete group (+cleanOffset).
    pub struct DeleteSubscriptionGroupRequest {
        group_name: String = "groupName",
        clean_offset: bool = "cleanOffset" or false,
    }
}

fields! {
    /// Header of `GET_ALL_SUBSCRIPTIONGROUP_CONFIG`: slave sync / admin.
    pub struct GetAllSubscriptionGroupRequest {
        group_seq: i32 = "groupSeq",
        data_version: Option<String> = "dataVersion",
        max_group_num: Option<i32> = "maxGroupNum",
    }
}

fields! {
    /// Header of the answer to `GET_ALL_SUBSCRIPTIONGROUP_CONFIG`.
    pub struct GetAllSubscriptionGroupResponse {
        total_group_num: i32 = "totalGroupNum",
    }
}

fields! {
    /// Header of `GET_SUBSCRIPTIONGROUP_CONFIG`: one group config.
    pub struct GetSubscriptionGroupConfigRequest {
        group: String = "group",
    }
}

fields! {
    /// Header of `QUERY_SUBSCRIPTION_BY_CONSUMER`: subscription of group/topic.
    pub struct QuerySubscriptionByConsumerRequest {
        group: String = "group",
        topic: Option<String> = "topic",
    }
}

fields! {
    /// Header of `QUERY_TOPIC_CONSUME_BY_WHO`: groups consuming topic.
    pub struct QueryTopicConsumeByWhoRequest {
        topic: String = "topic",
    }
}

fields! {
    /// Header of `QUERY_TOPICS_BY_CONSUMER`: topics of group.
    pub struct QueryTopicsByConsumerRequest {
        group: String = "group",
    }
}

fields! {
    /// Header of `UPDATE_AND_GET_GROUP_FORBIDDEN`: forbid read of topic by group.
    pub struct UpdateGroupForbiddenRequest {
        group: String = "group",
        topic: String = "topic",
        readable: Option<bool> = "readable",
    }
}
