//! What a caller asks for: RocketMQ's request codes.

use super::codes;

codes! {
    /// The code of a request. Values outside the named ones travel unharmed and are refused by the role that receives them.
    RequestCode:
    /// Send one message (v1 header).
    SEND_MESSAGE = 10,
    /// Pull with long polling.
    PULL_MESSAGE = 11,
    /// Index query by key / uniq key (ext `_UNIQUE_KEY_QUERY`).
    QUERY_MESSAGE = 12,
    /// A constant that no server handles.
    QUERY_BROKER_OFFSET = 13,
    /// Read committed offset (22 if absent; see §5).
    QUERY_CONSUMER_OFFSET = 14,
    /// Commit offset.
    UPDATE_CONSUMER_OFFSET = 15,
    /// Create/update topic.
    UPDATE_AND_CREATE_TOPIC = 17,
    /// Batch create topics.
    UPDATE_AND_CREATE_TOPIC_LIST = 18,
    /// Slave sync / admin: all topic configs (+split paging).
    GET_ALL_TOPIC_CONFIG = 21,
    /// A constant that no server handles.
    GET_TOPIC_CONFIG_LIST = 22,
    /// A constant that no server handles.
    GET_TOPIC_NAME_LIST = 23,
    /// Hot update config; body = properties text.
    UPDATE_BROKER_CONFIG = 25,
    /// Dump config.
    GET_BROKER_CONFIG = 26,
    /// A constant that no server handles.
    TRIGGER_DELETE_FILES = 27,
    /// Runtime stats KV.
    GET_BROKER_RUNTIME_INFO = 28,
    /// Offset by time, boundaryType LOWER/UPPER.
    SEARCH_OFFSET_BY_TIMESTAMP = 29,
    /// Max offset of queue (`committed`).
    GET_MAX_OFFSET = 30,
    /// Min offset of queue.
    GET_MIN_OFFSET = 31,
    /// Store time of first message.
    GET_EARLIEST_MSG_STORETIME = 32,
    /// Read one record at physical offset.
    VIEW_MESSAGE_BY_ID = 33,
    /// Client heartbeat.
    HEART_BEAT = 34,
    /// Unregister producer/consumer.
    UNREGISTER_CLIENT = 35,
    /// Consumer retry by physical offset.
    CONSUMER_SEND_MSG_BACK = 36,
    /// Commit/rollback half (usually oneway).
    END_TRANSACTION = 37,
    /// Client ids of group (for rebalance).
    GET_CONSUMER_LIST_BY_GROUP = 38,
    /// Transaction check-back; body = half message record.
    CHECK_TRANSACTION_STATE = 39,
    /// Trigger rebalance.
    NOTIFY_CONSUMER_IDS_CHANGED = 40,
    /// Lock queues for orderly consume.
    LOCK_BATCH_MQ = 41,
    /// Unlock queues.
    UNLOCK_BATCH_MQ = 42,
    /// Slave sync of offsets.
    GET_ALL_CONSUMER_OFFSET = 43,
    /// Slave sync of delayOffset.json.
    GET_ALL_DELAY_OFFSET = 45,
    /// Validate SQL filter expression at consumer start.
    CHECK_CLIENT_CONFIG = 46,
    /// A constant that no server handles.
    GET_CLIENT_CONFIG = 47,
    /// Slave sync: 56-byte timer checkpoint.
    GET_TIMER_CHECK_POINT = 60,
    /// Slave sync timer metrics.
    GET_TIMER_METRICS = 61,
    /// Put KV.
    PUT_KV_CONFIG = 100,
    /// Get KV; 22 if absent.
    GET_KV_CONFIG = 101,
    /// Delete KV.
    DELETE_KV_CONFIG = 102,
    /// Broker registration.
    REGISTER_BROKER = 103,
    /// Queued to BatchUnregistrationService.
    UNREGISTER_BROKER = 104,
    /// Route query.
    GET_ROUTEINFO_BY_TOPIC = 105,
    /// Cluster map.
    GET_BROKER_CLUSTER_INFO = 106,
    /// Create/update group.
    UPDATE_AND_CREATE_SUBSCRIPTIONGROUP = 200,
    /// Slave sync / admin.
    GET_ALL_SUBSCRIPTIONGROUP_CONFIG = 201,
    /// Min/max/lastTs per queue.
    GET_TOPIC_STATS_INFO = 202,
    /// Consumer connections; 206 if none.
    GET_CONSUMER_CONNECTION_LIST = 203,
    /// Producer connections.
    GET_PRODUCER_CONNECTION_LIST = 204,
    /// Clear W on all topics of broker.
    WIPE_WRITE_PERM_OF_BROKER = 205,
    /// Topic list (needs enableAllTopicList).
    GET_ALL_TOPIC_LIST_FROM_NAMESERVER = 206,
    /// Delete group (+cleanOffset).
    DELETE_SUBSCRIPTIONGROUP = 207,
    /// Broker vs consumer offsets.
    GET_CONSUME_STATS = 208,
    /// A constant that no server handles.
    SUSPEND_CONSUMER = 209,
    /// A constant that no server handles.
    RESUME_CONSUMER = 210,
    /// A constant that no server handles.
    RESET_CONSUMER_OFFSET_IN_CONSUMER = 211,
    /// A constant that no server handles.
    RESET_CONSUMER_OFFSET_IN_BROKER = 212,
    /// A constant that no server handles.
    ADJUST_CONSUMER_THREAD_POOL = 213,
    /// A constant that no server handles.
    WHO_CONSUME_THE_MESSAGE = 214,
    /// Delete topic (+pop retry topics).
    DELETE_TOPIC_IN_BROKER = 215,
    /// Delete topic route.
    DELETE_TOPIC_IN_NAMESRV = 216,
    /// Register topic; body TopicRouteData.
    REGISTER_TOPIC_IN_NAMESRV = 217,
    /// KV namespace dump; 22 if absent.
    GET_KVLIST_BY_NAMESPACE = 219,
    /// Client-side offset reset.
    RESET_CONSUMER_CLIENT_OFFSET = 220,
    /// Client offset table.
    GET_CONSUMER_STATUS_FROM_CLIENT = 221,
    /// Reset offset by time/offset.
    INVOKE_BROKER_TO_RESET_OFFSET = 222,
    /// Fan-out 221.
    INVOKE_BROKER_TO_GET_CONSUMER_STATUS = 223,
    /// Topics of a cluster.
    GET_TOPICS_BY_CLUSTER = 224,
    /// Batch create groups.
    UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST = 225,
    /// Groups consuming topic.
    QUERY_TOPIC_CONSUME_BY_WHO = 300,
    /// A constant that no server handles.
    REGISTER_FILTER_SERVER = 301,
    /// A constant that no server handles.
    REGISTER_MESSAGE_FILTER_CLASS = 302,
    /// Time spans per queue.
    QUERY_CONSUME_TIME_SPAN = 303,
    /// System topics.
    GET_SYSTEM_TOPIC_LIST_FROM_NS = 304,
    /// System topics.
    GET_SYSTEM_TOPIC_LIST_FROM_BROKER = 305,
    /// Delete expired CQ.
    CLEAN_EXPIRED_CONSUMEQUEUE = 306,
    /// Forwarded to client by clientId (invokeSync 10 s).
    GET_CONSUMER_RUNNING_INFO = 307,
    /// Min offset across groups.
    QUERY_CORRECTION_OFFSET = 308,
    /// Forward record to client for consumption.
    CONSUME_MESSAGE_DIRECTLY = 309,
    /// Send, 1-letter fields.
    SEND_MESSAGE_V2 = 310,
    /// Unit topics.
    GET_UNIT_TOPIC_LIST = 311,
    /// Topics with unit sub.
    GET_HAS_UNIT_SUB_TOPIC_LIST = 312,
    /// Non-unit topics with unit sub.
    GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST = 313,
    /// Copy offsets srctodest group.
    CLONE_GROUP_OFFSET = 314,
    /// Stats item (name,key).
    VIEW_BROKER_STATS_DATA = 315,
    /// Delete CQ of topics not in config.
    CLEAN_UNUSED_TOPIC = 316,
    /// Lag of all groups.
    GET_BROKER_CONSUME_STATS = 317,
    /// Hot update; body properties.
    UPDATE_NAMESRV_CONFIG = 318,
    /// Dump config.
    GET_NAMESRV_CONFIG = 319,
    /// Send batch (V2 header, m=true).
    SEND_BATCH_MESSAGE = 320,
    /// Dump CQ units.
    QUERY_CONSUME_QUEUE = 321,
    /// Does namesrv need re-register.
    QUERY_DATA_VERSION = 322,
    /// Reset check times of half msg.
    RESUME_CHECK_HALF_MESSAGE = 323,
    /// Request-reply response.
    SEND_REPLY_MESSAGE = 324,
    /// Same, V2 header.
    SEND_REPLY_MESSAGE_V2 = 325,
    /// Push reply to requester.
    PUSH_REPLY_MESSAGE_TO_CLIENT = 326,
    /// Restore RW.
    ADD_WRITE_PERM_OF_BROKER = 327,
    /// Producer table.
    GET_ALL_PRODUCER_INFO = 328,
    /// ExecuteDeleteFilesManually.
    DELETE_EXPIRED_COMMITLOG = 329,
    /// Topics of group.
    QUERY_TOPICS_BY_CONSUMER = 343,
    /// Subscription of group/topic.
    QUERY_SUBSCRIPTION_BY_CONSUMER = 345,
    /// One topic config.
    GET_TOPIC_CONFIG = 351,
    /// One group config.
    GET_SUBSCRIPTIONGROUP_CONFIG = 352,
    /// Forbid read of topic by group.
    UPDATE_AND_GET_GROUP_FORBIDDEN = 353,
    /// Compare file CQ vs rocksdb CQ.
    CHECK_ROCKSDB_CQ_WRITE_PROGRESS = 354,
    /// Export config DB.
    EXPORT_ROCKSDB_CONFIG_TO_JSON = 355,
    /// Pull by lite pull consumer.
    LITE_PULL_MESSAGE = 361,
    /// Cancel timer message.
    RECALL_MESSAGE = 370,
    /// Server-side rebalance.
    QUERY_ASSIGNMENT = 400,
    /// PULL/POP per topic@group.
    SET_MESSAGE_REQUEST_MODE = 401,
    /// Slave sync.
    GET_ALL_MESSAGE_REQUEST_MODE = 402,
    /// Static topic + mapping.
    UPDATE_AND_CREATE_STATIC_TOPIC = 513,
    /// Members of broker set.
    GET_BROKER_MEMBER_GROUP = 901,
    /// Add broker by config path.
    ADD_BROKER = 902,
    /// Remove broker.
    REMOVE_BROKER = 903,
    /// Lightweight broker heartbeat.
    BROKER_HEARTBEAT = 904,
    /// Min id change for acting master.
    NOTIFY_MIN_BROKER_ID_CHANGE = 905,
    /// Slave/master exchange HA info.
    EXCHANGE_BROKER_HA_INFO = 906,
    /// HA runtime.
    GET_BROKER_HA_STATUS = 907,
    /// Set masterFlushedOffset.
    RESET_MASTER_FLUSH_OFFSET = 908,
    /// ISR change.
    CONTROLLER_ALTER_SYNC_STATE_SET = 1001,
    /// Elect.
    CONTROLLER_ELECT_MASTER = 1002,
    /// Register broker addr.
    CONTROLLER_REGISTER_BROKER = 1003,
    /// Replica info.
    CONTROLLER_GET_REPLICA_INFO = 1004,
    /// Leader info.
    CONTROLLER_GET_METADATA_INFO = 1005,
    /// ISR of brokers.
    CONTROLLER_GET_SYNC_STATE_DATA = 1006,
    /// Epoch entries.
    GET_BROKER_EPOCH_CACHE = 1007,
    /// Role push.
    NOTIFY_BROKER_ROLE_CHANGED = 1008,
    /// Hot update.
    UPDATE_CONTROLLER_CONFIG = 1009,
    /// Dump.
    GET_CONTROLLER_CONFIG = 1010,
    /// Purge broker metadata.
    CLEAN_BROKER_DATA = 1011,
    /// Next id.
    CONTROLLER_GET_NEXT_BROKER_ID = 1012,
    /// Claim id with check code.
    CONTROLLER_APPLY_BROKER_ID = 1013,
    /// Internal to the controller group.
    BROKER_CLOSE_CHANNEL_REQUEST = 1014,
    /// Internal to the controller group.
    CHECK_NOT_ACTIVE_BROKER_REQUEST = 1015,
    /// Internal to the controller group.
    GET_BROKER_LIVE_INFO_REQUEST = 1016,
    /// A constant that no server handles.
    GET_SYNC_STATE_DATA_REQUEST = 1017,
    /// Internal to the controller group.
    RAFT_BROKER_HEART_BEAT_EVENT_REQUEST = 1018,
    /// Set group cold thresholds; body properties.
    UPDATE_COLD_DATA_FLOW_CTR_CONFIG = 2001,
    /// Remove; body group name.
    REMOVE_COLD_DATA_FLOW_CTR_CONFIG = 2002,
    /// Info JSON.
    GET_COLD_DATA_FLOW_CTR_INFO = 2003,
    /// Madvise mode in extField READ_AHEAD_MODE (0 normal,1 random).
    SET_COMMITLOG_READ_MODE = 2004,
    /// Create user; body UserInfo.
    AUTH_CREATE_USER = 3001,
    /// Update user; body UserInfo.
    AUTH_UPDATE_USER = 3002,
    /// Delete user.
    AUTH_DELETE_USER = 3003,
    /// Get user; 3001 if absent.
    AUTH_GET_USER = 3004,
    /// List users.
    AUTH_LIST_USER = 3005,
    /// Create ACL; body AclInfo.
    AUTH_CREATE_ACL = 3006,
    /// Update ACL; body AclInfo.
    AUTH_UPDATE_ACL = 3007,
    /// Delete ACL.
    AUTH_DELETE_ACL = 3008,
    /// Get ACL; 3002 if absent.
    AUTH_GET_ACL = 3009,
    /// List ACLs.
    AUTH_LIST_ACL = 3010,
    /// Pop with invisible time.
    POP_MESSAGE = 200050,
    /// Ack one.
    ACK_MESSAGE = 200051,
    /// Peek without state.
    PEEK_MESSAGE = 200052,
    /// Extend invisible.
    CHANGE_MESSAGE_INVISIBLETIME = 200053,
    /// Long-poll "has message?".
    NOTIFICATION = 200054,
    /// Number of parked pops.
    POLLING_INFO = 200055,
    /// KV pop store to FS revive rollback.
    POP_ROLLBACK = 200056,
    /// Ack many; body BatchAckMessageRequestBody.
    BATCH_ACK_MESSAGE = 200151,
}
