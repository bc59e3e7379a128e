//! Routes and topic lists at the name server.

use super::fields;

fields! {
    /// Header of `DELETE_TOPIC_IN_NAMESRV`: delete topic route.
    pub struct DeleteTopicFromNamesrvRequest {
        topic: String = "topic",
        cluster_name: Option<String> = "clusterName",
    }
}

fields! {
    /// Header of `GET_ROUTEINFO_BY_TOPIC`: route query.
    pub struct GetRouteInfoRequest {
        topic: String = "topic",
        accept_standard_json_only: Option<bool> = "acceptStandardJsonOnly",
    }
}

fields! {
    /// Header of `GET_TOPICS_BY_CLUSTER`: topics of a cluster.
    pub struct GetTopicsByClusterRequest {
        cluster: String = "cluster",
    }
}

fields! {
    /// RocketMQ's `RegisterOrderTopicRequestHeader`.
    pub struct RegisterOrderTopicRequest {
        topic: String = "topic",
        order_topic_string: String = "orderTopicString",
    }
}

fields! {
    /// Header of `REGISTER_TOPIC_IN_NAMESRV`: register topic; body TopicRouteData.
    pub struct RegisterTopicRequest {
        topic: String = "topic",
    }
}
