//! Where the fields of a record lie.

use std::net::{IpAddr, SocketAddr};

use super::{CheckBody, Record, RecordError, Version, body_crc};
use crate::sysflag;

const SIZE: usize = 0;
const MAGIC: usize = 4;
const BODY_CRC: usize = 8;
const QUEUE_ID: usize = 12;
const FLAG: usize = 16;
const QUEUE_OFFSET: usize = 20;
const PHYSICAL_OFFSET: usize = 28;
const SYS_FLAG: usize = 36;
const BORN_TIMESTAMP: usize = 40;
const BORN_HOST: usize = 48;
const PORT_BYTES: usize = 4;

/// Bytes that hold every field up to and including the store timestamp, whatever the address families.
pub const HEAD_BYTES: usize = BORN_HOST + 16 + PORT_BYTES + 8;

/// Positions behind the born host, which depend on the lengths of the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    born_host_bytes: usize,
    store_host_bytes: usize,
}

impl Layout {
    /// The layout that a record with this system flag has.
    pub const fn of(sys_flag: i32) -> Self {
        const fn host_bytes(v6: bool) -> usize {
            PORT_BYTES + if v6 { 16 } else { 4 }
        }
        Self {
            born_host_bytes: host_bytes(sys_flag & sysflag::BORN_HOST_V6 != 0),
            store_host_bytes: host_bytes(sys_flag & sysflag::STORE_HOST_V6 != 0),
        }
    }

    /// Position of the store timestamp.
    pub const fn store_timestamp(self) -> usize {
        BORN_HOST + self.born_host_bytes
    }

    /// Position of the store host.
    pub const fn store_host(self) -> usize {
        self.store_timestamp() + 8
    }

    /// Position of the number of deliveries.
    pub const fn reconsume_times(self) -> usize {
        self.store_host() + self.store_host_bytes
    }

    /// Position of the half message's offset.
    pub const fn prepared_transaction_offset(self) -> usize {
        self.reconsume_times() + 4
    }

    /// Position of the body's length.
    pub const fn body_length(self) -> usize {
        self.prepared_transaction_offset() + 8
    }

    /// Position of the body.
    pub const fn body(self) -> usize {
        self.body_length() + 4
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_be_bytes)
}

fn read_i32(bytes: &[u8], at: usize) -> Option<i32> {
    array(bytes, at).map(i32::from_be_bytes)
}

fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_be_bytes)
}

fn read_i64(bytes: &[u8], at: usize) -> Option<i64> {
    array(bytes, at).map(i64::from_be_bytes)
}

/// The size of the record at the front of `bytes`. Like every peek: `None` when it is not all there, and no judgement.
pub fn peek_size(bytes: &[u8]) -> Option<u32> {
    read_u32(bytes, SIZE)
}

/// Its magic.
pub fn peek_magic(bytes: &[u8]) -> Option<i32> {
    read_i32(bytes, MAGIC)
}

/// Its queue.
pub fn peek_queue_id(bytes: &[u8]) -> Option<i32> {
    read_i32(bytes, QUEUE_ID)
}

/// Its position in the queue.
pub fn peek_queue_offset(bytes: &[u8]) -> Option<u64> {
    read_u64(bytes, QUEUE_OFFSET)
}

/// Its position in the log.
pub fn peek_physical_offset(bytes: &[u8]) -> Option<u64> {
    read_u64(bytes, PHYSICAL_OFFSET)
}

/// Its system flag.
pub fn peek_sys_flag(bytes: &[u8]) -> Option<i32> {
    read_i32(bytes, SYS_FLAG)
}

/// When it was stored.
pub fn peek_store_timestamp(bytes: &[u8]) -> Option<i64> {
    read_i64(bytes, Layout::of(peek_sys_flag(bytes)?).store_timestamp())
}

/// Its property string. Nothing else is looked at but what lies before it, and that only as far as it takes to find it.
pub fn peek_properties(bytes: &[u8]) -> Option<&str> {
    let version = match peek_magic(bytes)? {
        super::MAGIC_V1 => Version::V1,
        super::MAGIC_V2 => Version::V2,
        _ => return None,
    };
    let layout = Layout::of(peek_sys_flag(bytes)?);
    let body_bytes = read_u32(bytes, layout.body_length())? as usize;
    let (_, rest) = split_topic(bytes.get(layout.body()..)?.get(body_bytes..)?, version)?;
    let (length, properties) = rest.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    std::str::from_utf8(properties.get(..length)?).ok()
}

/// Decodes exactly the bytes of one record, whose magic was looked at.
pub(super) fn decode(
    bytes: &[u8],
    version: Version,
    check: CheckBody,
) -> Result<Record<'_>, RecordError> {
    let short = || RecordError::Inconsistent("size");
    let sys_flag = peek_sys_flag(bytes).ok_or_else(short)?;
    let layout = Layout::of(sys_flag);
    let body_bytes = read_u32(bytes, layout.body_length()).ok_or_else(short)?;

    let body_and_rest = bytes.get(layout.body()..).ok_or_else(short)?;
    let (body, rest) = body_and_rest
        .split_at_checked(body_bytes as usize)
        .ok_or(RecordError::Inconsistent("body length"))?;
    let (topic, rest) =
        split_topic(rest, version).ok_or(RecordError::Inconsistent("topic length"))?;
    let (length, properties) = rest
        .split_first_chunk::<2>()
        .ok_or(RecordError::Inconsistent("properties length"))?;
    if usize::from(u16::from_be_bytes(*length)) != properties.len() {
        return Err(RecordError::Inconsistent("properties length"));
    }

    let stored_crc = read_u32(bytes, BODY_CRC).ok_or_else(short)?;
    if check == CheckBody::Yes && !body.is_empty() {
        let computed = body_crc(body);
        if computed != stored_crc {
            return Err(RecordError::BodyCrc {
                computed,
                stored: stored_crc,
            });
        }
    }
    Ok(Record {
        size: peek_size(bytes).ok_or_else(short)?,
        version,
        body_crc: stored_crc,
        queue_id: peek_queue_id(bytes).ok_or_else(short)?,
        flag: read_i32(bytes, FLAG).ok_or_else(short)?,
        queue_offset: peek_queue_offset(bytes).ok_or_else(short)?,
        physical_offset: peek_physical_offset(bytes).ok_or_else(short)?,
        sys_flag,
        born_timestamp_ms: read_i64(bytes, BORN_TIMESTAMP).ok_or_else(short)?,
        born_host: host(bytes, BORN_HOST, layout.born_host_bytes)
            .ok_or(RecordError::Inconsistent("born host"))?,
        store_timestamp_ms: read_i64(bytes, layout.store_timestamp()).ok_or_else(short)?,
        store_host: host(bytes, layout.store_host(), layout.store_host_bytes)
            .ok_or(RecordError::Inconsistent("store host"))?,
        reconsume_times: read_i32(bytes, layout.reconsume_times()).ok_or_else(short)?,
        prepared_transaction_offset: read_i64(bytes, layout.prepared_transaction_offset())
            .ok_or_else(short)?,
        body,
        topic: std::str::from_utf8(topic).map_err(|_| RecordError::Inconsistent("topic"))?,
        properties: std::str::from_utf8(properties)
            .map_err(|_| RecordError::Inconsistent("properties"))?,
    })
}

fn split_topic(bytes: &[u8], version: Version) -> Option<(&[u8], &[u8])> {
    match version {
        Version::V1 => {
            let (length, rest) = bytes.split_first()?;
            rest.split_at_checked(usize::from(*length))
        }
        Version::V2 => {
            let (length, rest) = bytes.split_first_chunk::<2>()?;
            rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
        }
    }
}

fn host(bytes: &[u8], at: usize, host_bytes: usize) -> Option<SocketAddr> {
    let ip_bytes = host_bytes - PORT_BYTES;
    let port = u16::try_from(read_u32(bytes, at + ip_bytes)?).ok()?;
    let ip = match ip_bytes {
        4 => IpAddr::from(array::<4>(bytes, at)?),
        _ => IpAddr::from(array::<16>(bytes, at)?),
    };
    Some(SocketAddr::new(ip, port))
}
