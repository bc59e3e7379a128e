//! What a server answers: RocketMQ's response codes.

use super::codes;

codes! {
    /// The code of a response.
    ResponseCode:
    /// Rpc time out.
    RPC_TIME_OUT = -1006,
    /// Rpc send to channel failed.
    RPC_SEND_TO_CHANNEL_FAILED = -1004,
    /// Rpc addr is null.
    RPC_ADDR_IS_NULL = -1002,
    /// Rpc unknown.
    RPC_UNKNOWN = -1000,
    /// Done.
    SUCCESS = 0,
    /// The server failed; the remark says how.
    SYSTEM_ERROR = 1,
    /// Overloaded; try again later or elsewhere.
    SYSTEM_BUSY = 2,
    /// The server does not know this request code.
    REQUEST_CODE_NOT_SUPPORTED = 3,
    /// The transaction failed.
    TRANSACTION_FAILED = 4,
    /// Stored, but not yet on the disk when the wait ended.
    FLUSH_DISK_TIMEOUT = 10,
    /// No replica was there to take a copy.
    SLAVE_NOT_AVAILABLE = 11,
    /// Stored, but not yet copied when the wait ended.
    FLUSH_SLAVE_TIMEOUT = 12,
    /// The message breaks a limit or a rule.
    MESSAGE_ILLEGAL = 13,
    /// The server does not serve now.
    SERVICE_NOT_AVAILABLE = 14,
    /// The caller is too old or too new.
    VERSION_NOT_SUPPORTED = 15,
    /// The caller may not do this.
    NO_PERMISSION = 16,
    /// No such topic.
    TOPIC_NOT_EXIST = 17,
    /// The topic exists already.
    TOPIC_EXIST_ALREADY = 18,
    /// Nothing to hand out at this offset yet.
    PULL_NOT_FOUND = 19,
    /// Nothing matched; ask again at once from the given offset.
    PULL_RETRY_IMMEDIATELY = 20,
    /// The offset lies outside the queue; go on from the given one.
    PULL_OFFSET_MOVED = 21,
    /// Nothing was found.
    QUERY_NOT_FOUND = 22,
    /// The filter expression does not parse.
    SUBSCRIPTION_PARSE_FAILED = 23,
    /// The broker knows no such subscription.
    SUBSCRIPTION_NOT_EXIST = 24,
    /// The broker knows an older subscription.
    SUBSCRIPTION_NOT_LATEST = 25,
    /// No such subscription group.
    SUBSCRIPTION_GROUP_NOT_EXIST = 26,
    /// No compiled filter is stored.
    FILTER_DATA_NOT_EXIST = 27,
    /// The stored filter is older.
    FILTER_DATA_NOT_LATEST = 28,
    /// A parameter is out of range.
    INVALID_PARAMETER = 29,
    /// Transaction should commit.
    TRANSACTION_SHOULD_COMMIT = 200,
    /// Transaction should rollback.
    TRANSACTION_SHOULD_ROLLBACK = 201,
    /// Transaction state unknow.
    TRANSACTION_STATE_UNKNOW = 202,
    /// Transaction state group wrong.
    TRANSACTION_STATE_GROUP_WRONG = 203,
    /// No buyer id.
    NO_BUYER_ID = 204,
    /// Not in current unit.
    NOT_IN_CURRENT_UNIT = 205,
    /// Consumer not online.
    CONSUMER_NOT_ONLINE = 206,
    /// Consume msg timeout.
    CONSUME_MSG_TIMEOUT = 207,
    /// No message.
    NO_MESSAGE = 208,
    /// Polling full.
    POLLING_FULL = 209,
    /// Polling timeout.
    POLLING_TIMEOUT = 210,
    /// Broker not exist.
    BROKER_NOT_EXIST = 211,
    /// Broker dispatch not complete.
    BROKER_DISPATCH_NOT_COMPLETE = 212,
    /// Broadcast consumption.
    BROADCAST_CONSUMPTION = 213,
    /// Flow control.
    FLOW_CONTROL = 215,
    /// Not leader for queue.
    NOT_LEADER_FOR_QUEUE = 501,
    /// Illegal operation.
    ILLEGAL_OPERATION = 604,
    /// Go away.
    GO_AWAY = 1500,
    /// Controller fenced master epoch.
    CONTROLLER_FENCED_MASTER_EPOCH = 2000,
    /// Controller fenced sync state set epoch.
    CONTROLLER_FENCED_SYNC_STATE_SET_EPOCH = 2001,
    /// Controller invalid master.
    CONTROLLER_INVALID_MASTER = 2002,
    /// Controller invalid replicas.
    CONTROLLER_INVALID_REPLICAS = 2003,
    /// Controller master not available.
    CONTROLLER_MASTER_NOT_AVAILABLE = 2004,
    /// Controller invalid request.
    CONTROLLER_INVALID_REQUEST = 2005,
    /// Controller broker not alive.
    CONTROLLER_BROKER_NOT_ALIVE = 2006,
    /// Controller not leader.
    CONTROLLER_NOT_LEADER = 2007,
    /// Controller broker metadata not exist.
    CONTROLLER_BROKER_METADATA_NOT_EXIST = 2008,
    /// Controller invalid clean broker metadata.
    CONTROLLER_INVALID_CLEAN_BROKER_METADATA = 2009,
    /// Controller broker need to be registered.
    CONTROLLER_BROKER_NEED_TO_BE_REGISTERED = 2010,
    /// Controller master still exist.
    CONTROLLER_MASTER_STILL_EXIST = 2011,
    /// Controller elect master failed.
    CONTROLLER_ELECT_MASTER_FAILED = 2012,
    /// Controller alter sync state set failed.
    CONTROLLER_ALTER_SYNC_STATE_SET_FAILED = 2013,
    /// Controller broker id invalid.
    CONTROLLER_BROKER_ID_INVALID = 2014,
    /// Controller jraft internal error.
    CONTROLLER_JRAFT_INTERNAL_ERROR = 2015,
    /// Controller broker live info not exists.
    CONTROLLER_BROKER_LIVE_INFO_NOT_EXISTS = 2016,
    /// User not exist.
    USER_NOT_EXIST = 3001,
    /// Policy not exist.
    POLICY_NOT_EXIST = 3002,
}
