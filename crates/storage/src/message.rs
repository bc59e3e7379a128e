//! A message on its way into the log, and what became of it.

use std::net::SocketAddr;

/// One message to append. Borrowed: it is encoded straight into the log's memory tail.
#[derive(Debug, Clone, Copy)]
pub struct NewMessage<'a> {
    /// Topic, at most 127 bytes, or 255 for retry and dead letter topics.
    pub topic: &'a str,
    /// Queue of the topic.
    pub queue_id: i32,
    /// The client's own flag.
    pub flag: i32,
    /// Compression, transaction type and so on. The bits that tell the address families are set by the store.
    pub sys_flag: i32,
    /// When the client made it.
    pub born_timestamp_ms: i64,
    /// Where the client is.
    pub born_host: SocketAddr,
    /// Address of this broker, part of the message id.
    pub store_host: SocketAddr,
    /// How often it came back from a consumer.
    pub reconsume_times: i32,
    /// Physical offset of the prepared message it decides, for transactions.
    pub prepared_transaction_offset: i64,
    /// Payload.
    pub body: &'a [u8],
    /// Properties as text, `name \x01 value \x02`…; tags code, unique id and keys are taken from here, exactly as recovery does.
    pub properties: &'a str,
}

/// Where a message lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Position of the record in the log.
    pub physical_offset: u64,
    /// Position behind the record: the message is durable when `flushed` has reached it.
    pub end: u64,
    /// Number of the message in its queue; 0 for prepared and rolled back messages, which lie in none.
    pub queue_offset: u64,
    /// When it was stored; never less than that of the record before it.
    pub store_timestamp_ms: i64,
    /// Size of the record.
    pub record_bytes: u32,
}
