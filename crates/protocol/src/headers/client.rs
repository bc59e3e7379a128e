//! Clients: heartbeats, who consumes, what a broker asks its clients, queue locks.

use super::fields;

fields! {
    /// Header of `CONSUME_MESSAGE_DIRECTLY`: forward record to client for consumption.
    pub struct ConsumeMessageDirectlyResultRequest {
        consumer_group: String = "consumerGroup",
        client_id: Option<String> = "clientId",
        msg_id: Option<String> = "msgId",
        broker_name: Option<String> = "brokerName",
        topic: Option<String> = "topic",
        topic_sys_flag: Option<i32> = "topicSysFlag",
        group_sys_flag: Option<i32> = "groupSysFlag",
    }
}

fields! {
    /// Header of `GET_ALL_PRODUCER_INFO`: producer table.
    pub struct GetAllProducerInfoRequest {
    }
}

fields! {
    /// Header of `GET_CONSUMER_CONNECTION_LIST`: consumer connections; 206 if none.
    pub struct GetConsumerConnectionListRequest {
        consumer_group: String = "consumerGroup",
    }
}

fields! {
    /// Header of `GET_CONSUMER_LIST_BY_GROUP`: client ids of group (for rebalance).
    pub struct GetConsumerListByGroupRequest {
        consumer_group: String = "consumerGroup",
    }
}

fields! {
    /// RocketMQ's `GetConsumerListByGroupResponseHeader`.
    pub struct GetConsumerListByGroupResponse {
    }
}

fields! {
    /// Header of `GET_CONSUMER_RUNNING_INFO`: forwarded to client by clientId (invokeSync 10 s).
    pub struct GetConsumerRunningInfoRequest {
        consumer_group: String = "consumerGroup",
        client_id: String = "clientId",
        jstack_enable: bool = "jstackEnable" or false,
    }
}

fields! {
    /// Header of `GET_CONSUMER_STATUS_FROM_CLIENT`, `INVOKE_BROKER_TO_GET_CONSUMER_STATUS`: client offset table.
    pub struct GetConsumerStatusRequest {
        topic: String = "topic",
        group: String = "group",
        client_addr: Option<String> = "clientAddr",
    }
}

fields! {
    /// Header of `GET_PRODUCER_CONNECTION_LIST`: producer connections.
    pub struct GetProducerConnectionListRequest {
        producer_group: String = "producerGroup",
    }
}

fields! {
    /// Header of `HEART_BEAT`: client heartbeat.
    pub struct HeartbeatRequest {
    }
}

fields! {
    /// Header of `LOCK_BATCH_MQ`: lock queues for orderly consume.
    pub struct LockBatchMqRequest {
    }
}

fields! {
    /// Header of `NOTIFY_CONSUMER_IDS_CHANGED`: trigger rebalance.
    pub struct NotifyConsumerIdsChangedRequest {
        consumer_group: String = "consumerGroup",
    }
}

fields! {
    /// Header of `UNLOCK_BATCH_MQ`: unlock queues.
    pub struct UnlockBatchMqRequest {
    }
}

fields! {
    /// Header of `UNREGISTER_CLIENT`: unregister producer/consumer.
    pub struct UnregisterClientRequest {
        client_id: String = "clientID",
        producer_group: Option<String> = "producerGroup",
        consumer_group: Option<String> = "consumerGroup",
    }
}

fields! {
    /// Header of the answer to `UNREGISTER_CLIENT`.
    pub struct UnregisterClientResponse {
    }
}
