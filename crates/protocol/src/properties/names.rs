//! Names of the properties to which RocketMQ gives a meaning.

/// Keys by which the message can be found, separated by spaces.
pub const KEYS: &str = "KEYS";
/// The tag by which consumers filter.
pub const TAGS: &str = "TAGS";
/// Whether the sender wants the configured durability before the answer.
pub const WAIT: &str = "WAIT";
/// The delay level, 1 to 18.
pub const DELAY: &str = "DELAY";
/// Retry topic, on the wire `RETRY_TOPIC`.
pub const RETRY_TOPIC: &str = "RETRY_TOPIC";
/// Real topic, on the wire `REAL_TOPIC`.
pub const REAL_TOPIC: &str = "REAL_TOPIC";
/// Real queue id, on the wire `REAL_QID`.
pub const REAL_QUEUE_ID: &str = "REAL_QID";
/// Transaction prepared, on the wire `TRAN_MSG`.
pub const TRANSACTION_PREPARED: &str = "TRAN_MSG";
/// Producer group, on the wire `PGROUP`.
pub const PRODUCER_GROUP: &str = "PGROUP";
/// Min offset, on the wire `MIN_OFFSET`.
pub const MIN_OFFSET: &str = "MIN_OFFSET";
/// Max offset, on the wire `MAX_OFFSET`.
pub const MAX_OFFSET: &str = "MAX_OFFSET";
/// Buyer id, on the wire `BUYER_ID`.
pub const BUYER_ID: &str = "BUYER_ID";
/// Origin message id, on the wire `ORIGIN_MESSAGE_ID`.
pub const ORIGIN_MESSAGE_ID: &str = "ORIGIN_MESSAGE_ID";
/// Transfer flag, on the wire `TRANSFER_FLAG`.
pub const TRANSFER_FLAG: &str = "TRANSFER_FLAG";
/// Correction flag, on the wire `CORRECTION_FLAG`.
pub const CORRECTION_FLAG: &str = "CORRECTION_FLAG";
/// Mq2 flag, on the wire `MQ2_FLAG`.
pub const MQ2_FLAG: &str = "MQ2_FLAG";
/// Reconsume time, on the wire `RECONSUME_TIME`.
pub const RECONSUME_TIME: &str = "RECONSUME_TIME";
/// Msg region, on the wire `MSG_REGION`.
pub const MSG_REGION: &str = "MSG_REGION";
/// Trace switch, on the wire `TRACE_ON`.
pub const TRACE_SWITCH: &str = "TRACE_ON";
/// The id that the client gave the message.
pub const UNIQ_KEY: &str = "UNIQ_KEY";
/// Extend uniq info, on the wire `EXTEND_UNIQ_INFO`.
pub const EXTEND_UNIQ_INFO: &str = "EXTEND_UNIQ_INFO";
/// Max reconsume times, on the wire `MAX_RECONSUME_TIMES`.
pub const MAX_RECONSUME_TIMES: &str = "MAX_RECONSUME_TIMES";
/// Consume start timestamp, on the wire `CONSUME_START_TIME`.
pub const CONSUME_START_TIMESTAMP: &str = "CONSUME_START_TIME";
/// Inner num, on the wire `INNER_NUM`.
pub const INNER_NUM: &str = "INNER_NUM";
/// Inner base, on the wire `INNER_BASE`.
pub const INNER_BASE: &str = "INNER_BASE";
/// Dup info, on the wire `DUP_INFO`.
pub const DUP_INFO: &str = "DUP_INFO";
/// Check immunity time in seconds, on the wire `CHECK_IMMUNITY_TIME_IN_SECONDS`.
pub const CHECK_IMMUNITY_TIME_IN_SECONDS: &str = "CHECK_IMMUNITY_TIME_IN_SECONDS";
/// Transaction prepared queue offset, on the wire `TRAN_PREPARED_QUEUE_OFFSET`.
pub const TRANSACTION_PREPARED_QUEUE_OFFSET: &str = "TRAN_PREPARED_QUEUE_OFFSET";
/// Transaction id, on the wire `__transactionId__`.
pub const TRANSACTION_ID: &str = "__transactionId__";
/// Transaction check times, on the wire `TRANSACTION_CHECK_TIMES`.
pub const TRANSACTION_CHECK_TIMES: &str = "TRANSACTION_CHECK_TIMES";
/// Instance id, on the wire `INSTANCE_ID`.
pub const INSTANCE_ID: &str = "INSTANCE_ID";
/// Correlation id, on the wire `CORRELATION_ID`.
pub const CORRELATION_ID: &str = "CORRELATION_ID";
/// Message reply to client, on the wire `REPLY_TO_CLIENT`.
pub const MESSAGE_REPLY_TO_CLIENT: &str = "REPLY_TO_CLIENT";
/// Message ttl, on the wire `TTL`.
pub const MESSAGE_TTL: &str = "TTL";
/// Reply message arrive time, on the wire `ARRIVE_TIME`.
pub const REPLY_MESSAGE_ARRIVE_TIME: &str = "ARRIVE_TIME";
/// Push reply time, on the wire `PUSH_REPLY_TIME`.
pub const PUSH_REPLY_TIME: &str = "PUSH_REPLY_TIME";
/// Cluster, on the wire `CLUSTER`.
pub const CLUSTER: &str = "CLUSTER";
/// Message type, on the wire `MSG_TYPE`.
pub const MESSAGE_TYPE: &str = "MSG_TYPE";
/// Pop ck, on the wire `POP_CK`.
pub const POP_CK: &str = "POP_CK";
/// Pop ck offset, on the wire `POP_CK_OFFSET`.
pub const POP_CK_OFFSET: &str = "POP_CK_OFFSET";
/// First pop time, on the wire `1ST_POP_TIME`.
pub const FIRST_POP_TIME: &str = "1ST_POP_TIME";
/// Sharding key, on the wire `__SHARDINGKEY`.
pub const SHARDING_KEY: &str = "__SHARDINGKEY";
/// Forward queue id, on the wire `PROPERTY_FORWARD_QUEUE_ID`.
pub const FORWARD_QUEUE_ID: &str = "PROPERTY_FORWARD_QUEUE_ID";
/// Redirect, on the wire `REDIRECT`.
pub const REDIRECT: &str = "REDIRECT";
/// Inner multi dispatch, on the wire `INNER_MULTI_DISPATCH`.
pub const INNER_MULTI_DISPATCH: &str = "INNER_MULTI_DISPATCH";
/// Inner multi queue offset, on the wire `INNER_MULTI_QUEUE_OFFSET`.
pub const INNER_MULTI_QUEUE_OFFSET: &str = "INNER_MULTI_QUEUE_OFFSET";
/// Trace context, on the wire `TRACE_CONTEXT`.
pub const TRACE_CONTEXT: &str = "TRACE_CONTEXT";
/// Timer delay sec, on the wire `TIMER_DELAY_SEC`.
pub const TIMER_DELAY_SEC: &str = "TIMER_DELAY_SEC";
/// Timer deliver ms, on the wire `TIMER_DELIVER_MS`.
pub const TIMER_DELIVER_MS: &str = "TIMER_DELIVER_MS";
/// Born host, on the wire `__BORNHOST`.
pub const BORN_HOST: &str = "__BORNHOST";
/// Born timestamp, on the wire `BORN_TIMESTAMP`.
pub const BORN_TIMESTAMP: &str = "BORN_TIMESTAMP";
/// Prefix of properties that are never stored.
pub const TRANSIENT_PREFIX: &str = "__RMQ.TRANSIENT.";
/// Timer enqueue ms, on the wire `TIMER_ENQUEUE_MS`.
pub const TIMER_ENQUEUE_MS: &str = "TIMER_ENQUEUE_MS";
/// Timer dequeue ms, on the wire `TIMER_DEQUEUE_MS`.
pub const TIMER_DEQUEUE_MS: &str = "TIMER_DEQUEUE_MS";
/// Timer roll times, on the wire `TIMER_ROLL_TIMES`.
pub const TIMER_ROLL_TIMES: &str = "TIMER_ROLL_TIMES";
/// Timer out ms, on the wire `TIMER_OUT_MS`.
pub const TIMER_OUT_MS: &str = "TIMER_OUT_MS";
/// Timer del uniqkey, on the wire `TIMER_DEL_UNIQKEY`.
pub const TIMER_DEL_UNIQKEY: &str = "TIMER_DEL_UNIQKEY";
/// Timer delay level, on the wire `TIMER_DELAY_LEVEL`.
pub const TIMER_DELAY_LEVEL: &str = "TIMER_DELAY_LEVEL";
/// Timer delay ms, on the wire `TIMER_DELAY_MS`.
pub const TIMER_DELAY_MS: &str = "TIMER_DELAY_MS";
/// Crc32, on the wire `__CRC32#`.
pub const CRC32: &str = "__CRC32#";
/// Dlq origin topic, on the wire `DLQ_ORIGIN_TOPIC`.
pub const DLQ_ORIGIN_TOPIC: &str = "DLQ_ORIGIN_TOPIC";
/// Dlq origin message id, on the wire `DLQ_ORIGIN_MESSAGE_ID`.
pub const DLQ_ORIGIN_MESSAGE_ID: &str = "DLQ_ORIGIN_MESSAGE_ID";
