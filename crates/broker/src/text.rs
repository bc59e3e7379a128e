//! Message ids as text, written on the stack: an answer to a send allocates nothing.

use std::net::{IpAddr, SocketAddr};

/// Hex digits of an IPv6 address, a port and an offset.
const OFFSET_ID_BYTES_MAX: usize = 56;
/// Hex digits of an offset at the end of an id.
const OFFSET_DIGITS: usize = 16;

/// The ids of messages that one broker stores: its address in front, the physical offset behind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OffsetIds {
    bytes: [u8; OFFSET_ID_BYTES_MAX],
    len: usize,
}

impl OffsetIds {
    /// Ids of the broker at `store_host`.
    pub(crate) fn new(store_host: SocketAddr) -> OffsetIds {
        let mut ids = OffsetIds {
            bytes: [b'0'; OFFSET_ID_BYTES_MAX],
            len: 0,
        };
        match store_host.ip() {
            IpAddr::V4(ip) => ids.push(&ip.octets()),
            IpAddr::V6(ip) => ids.push(&ip.octets()),
        }
        ids.push(&u32::from(store_host.port()).to_be_bytes());
        ids.len += OFFSET_DIGITS;
        ids
    }

    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.bytes[self.len] = hex(byte >> 4);
            self.bytes[self.len + 1] = hex(byte & 15);
            self.len += 2;
        }
    }

    /// The id of the record at `physical_offset`. It is valid until the next one is asked for.
    pub(crate) fn id(&mut self, physical_offset: u64) -> &str {
        let digits = &mut self.bytes[self.len - OFFSET_DIGITS..self.len];
        let mut rest = physical_offset;
        for digit in digits.iter_mut().rev() {
            *digit = hex((rest & 15) as u8);
            rest >>= 4;
        }
        std::str::from_utf8(&self.bytes[..self.len]).expect("digits are ASCII")
    }
}

fn hex(digit: u8) -> u8 {
    b"0123456789ABCDEF"[usize::from(digit & 15)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_protocol() {
        for host in ["127.0.0.1:10911", "[2001:db8::1]:65535"] {
            let host: SocketAddr = host.parse().unwrap();
            let mut ids = OffsetIds::new(host);
            for offset in [0, 0x1234, u64::MAX] {
                assert_eq!(
                    ids.id(offset),
                    protocol::message_id::encode_offset_id(host, offset)
                );
            }
        }
    }
}
