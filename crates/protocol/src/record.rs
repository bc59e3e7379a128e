//! The message record: what the commit log holds and what a pull hands out, byte for byte the same.
//!
//! `docs/formats/record.md` draws it. `Layout` is the only place that knows where a field lies.

mod checksum;
mod layout;

use std::net::SocketAddr;

use bytes::{BufMut, BytesMut};
use thiserror::Error;

pub use checksum::{PROPERTY_BYTES as CHECKSUM_PROPERTY_BYTES, is_intact, without_checksum};
pub use layout::{
    HEAD_BYTES, Layout, peek_magic, peek_physical_offset, peek_properties, peek_queue_id,
    peek_queue_offset, peek_size, peek_store_timestamp, peek_sys_flag,
};

use crate::sysflag;

/// Magic of a record whose topic length takes one byte.
pub const MAGIC_V1: i32 = -626_843_481;
/// Magic of a record whose topic length takes two bytes.
pub const MAGIC_V2: i32 = -626_843_477;
/// Magic of the filler at the end of a segment.
pub const MAGIC_BLANK: i32 = -875_286_124;
/// Bytes that a filler needs: its length and its magic.
pub const BLANK_BYTES: usize = 8;
/// Topics longer than this need a V2 record.
pub const TOPIC_BYTES_MAX_V1: usize = i8::MAX as usize;

/// Which layout a record has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One byte of topic length.
    V1,
    /// Two bytes of topic length.
    V2,
}

impl Version {
    /// The version that a topic of this length needs.
    pub const fn for_topic(topic_bytes: usize) -> Self {
        if topic_bytes > TOPIC_BYTES_MAX_V1 {
            Version::V2
        } else {
            Version::V1
        }
    }

    /// The magic that announces it.
    pub const fn magic(self) -> i32 {
        match self {
            Version::V1 => MAGIC_V1,
            Version::V2 => MAGIC_V2,
        }
    }

    const fn topic_length_bytes(self) -> usize {
        match self {
            Version::V1 => 1,
            Version::V2 => 2,
        }
    }
}

/// Whether `decode` reads the body to compare its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckBody {
    /// Compare.
    Yes,
    /// Trust.
    No,
}

/// A record as it lies in the log, borrowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Bytes of the whole record.
    pub size: u32,
    /// Its layout.
    pub version: Version,
    /// Checksum of the body, see `body_crc`.
    pub body_crc: u32,
    /// The queue within the topic.
    pub queue_id: i32,
    /// The client's own flag.
    pub flag: i32,
    /// Position in the queue, in messages.
    pub queue_offset: u64,
    /// Position in the log, in bytes.
    pub physical_offset: u64,
    /// See `sysflag`.
    pub sys_flag: i32,
    /// When the client made the message.
    pub born_timestamp_ms: i64,
    /// Where the client sat.
    pub born_host: SocketAddr,
    /// When the broker stored it.
    pub store_timestamp_ms: i64,
    /// The broker's address.
    pub store_host: SocketAddr,
    /// How often it came back from a consumer.
    pub reconsume_times: i32,
    /// Where its half message lies.
    pub prepared_transaction_offset: i64,
    /// The body.
    pub body: &'a [u8],
    /// The topic.
    pub topic: &'a str,
    /// The property string, see `properties`.
    pub properties: &'a str,
}

/// What a record is made of before the log gives it its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord<'a> {
    /// Checksum of the body, computed before any lock is taken.
    pub body_crc: u32,
    /// The queue within the topic.
    pub queue_id: i32,
    /// The client's own flag.
    pub flag: i32,
    /// See `sysflag`; the bits of the address families are set by `encode`.
    pub sys_flag: i32,
    /// When the client made the message.
    pub born_timestamp_ms: i64,
    /// Where the client sat.
    pub born_host: SocketAddr,
    /// The broker's address.
    pub store_host: SocketAddr,
    /// How often it came back from a consumer.
    pub reconsume_times: i32,
    /// Where its half message lies.
    pub prepared_transaction_offset: i64,
    /// The body.
    pub body: &'a [u8],
    /// The topic, at most 65,535 bytes.
    pub topic: &'a str,
    /// The property string, at most 32,767 bytes; with a checksum, so much less as that takes.
    pub properties: &'a str,
    /// Ends with a property that holds a checksum of everything before it. Java 5.3: `enabledAppendPropCRC`.
    pub with_checksum: bool,
}

/// The bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// More bytes are needed, or the record was torn.
    #[error("the record needs {needed} bytes, {available} are there")]
    Incomplete {
        /// Bytes needed, as far as known.
        needed: usize,
        /// Bytes given.
        available: usize,
    },
    /// The filler at the end of a segment: go on with the next one.
    #[error("a filler of {size} bytes")]
    Blank {
        /// Bytes from here to the end of the segment.
        size: u32,
    },
    /// Neither a record nor a filler.
    #[error("{0:#010x} is no record's magic")]
    Magic(u32),
    /// The parts do not add up to the size, or a text is not UTF-8.
    #[error("the record contradicts itself in its {0}")]
    Inconsistent(&'static str),
    /// The body is not what its checksum says.
    #[error("the body's checksum is {computed:#010x}, the record says {stored:#010x}")]
    BodyCrc {
        /// Of the bytes that are there.
        computed: u32,
        /// In the record.
        stored: u32,
    },
}

/// The checksum of a body: CRC-32 without its highest bit, so that it is positive in Java.
pub fn body_crc(body: &[u8]) -> u32 {
    crc32fast::hash(body) & 0x7fff_ffff
}

/// Decodes the one record at the front of `bytes`; bytes behind it are not looked at.
pub fn decode(bytes: &[u8], check: CheckBody) -> Result<Record<'_>, RecordError> {
    let incomplete = |needed| RecordError::Incomplete {
        needed,
        available: bytes.len(),
    };
    let (Some(size), Some(magic)) = (peek_size(bytes), peek_magic(bytes)) else {
        return Err(incomplete(BLANK_BYTES));
    };
    let version = match magic {
        MAGIC_V1 => Version::V1,
        MAGIC_V2 => Version::V2,
        MAGIC_BLANK => return Err(RecordError::Blank { size }),
        other => return Err(RecordError::Magic(other as u32)),
    };
    if size > i32::MAX as u32 {
        return Err(RecordError::Inconsistent("size"));
    }
    let whole = bytes
        .get(..size as usize)
        .ok_or_else(|| incomplete(size as usize))?;
    layout::decode(whole, version, check)
}

/// The size that a record will have.
pub fn encoded_len(record: &NewRecord<'_>) -> usize {
    let layout = Layout::of(with_address_families(record));
    let topic_length = Version::for_topic(record.topic.len()).topic_length_bytes();
    layout.body()
        + record.body.len()
        + topic_length
        + record.topic.len()
        + 2
        + properties_len(record)
}

fn properties_len(record: &NewRecord<'_>) -> usize {
    if record.with_checksum {
        checksum::properties_len(record.properties)
    } else {
        record.properties.len()
    }
}

/// The system flag with the bits that say how long the addresses are.
fn with_address_families(record: &NewRecord<'_>) -> i32 {
    let mut sys_flag = record.sys_flag & !(sysflag::BORN_HOST_V6 | sysflag::STORE_HOST_V6);
    if record.born_host.is_ipv6() {
        sys_flag |= sysflag::BORN_HOST_V6;
    }
    if record.store_host.is_ipv6() {
        sys_flag |= sysflag::STORE_HOST_V6;
    }
    sys_flag
}

/// Appends a record to `out`. The caller has checked the lengths of body, topic and properties.
pub fn encode(
    record: &NewRecord<'_>,
    queue_offset: u64,
    physical_offset: u64,
    store_timestamp_ms: i64,
    out: &mut BytesMut,
) {
    debug_assert!(
        record.topic.len() <= usize::from(u16::MAX) && properties_len(record) <= i16::MAX as usize
    );
    let version = Version::for_topic(record.topic.len());
    let size = encoded_len(record);
    out.reserve(size);
    out.put_u32(size as u32);
    out.put_i32(version.magic());
    out.put_u32(record.body_crc);
    out.put_i32(record.queue_id);
    out.put_i32(record.flag);
    out.put_u64(queue_offset);
    out.put_u64(physical_offset);
    out.put_i32(with_address_families(record));
    out.put_i64(record.born_timestamp_ms);
    put_host(out, record.born_host);
    out.put_i64(store_timestamp_ms);
    put_host(out, record.store_host);
    out.put_i32(record.reconsume_times);
    out.put_i64(record.prepared_transaction_offset);
    out.put_u32(record.body.len() as u32);
    out.put_slice(record.body);
    match version {
        Version::V1 => out.put_u8(record.topic.len() as u8),
        Version::V2 => out.put_u16(record.topic.len() as u16),
    }
    out.put_slice(record.topic.as_bytes());
    out.put_u16(properties_len(record) as u16);
    out.put_slice(record.properties.as_bytes());
    if record.with_checksum {
        checksum::append(record.properties, size, out);
    }
}

/// Appends the head of a filler that spans `size` bytes; what lies behind the head does not matter.
pub fn encode_blank(size: u32, out: &mut BytesMut) {
    out.put_u32(size);
    out.put_i32(MAGIC_BLANK);
}

fn put_host(out: &mut BytesMut, host: SocketAddr) {
    match host {
        SocketAddr::V4(host) => out.put_slice(&host.ip().octets()),
        SocketAddr::V6(host) => out.put_slice(&host.ip().octets()),
    }
    out.put_u32(u32::from(host.port()));
}
