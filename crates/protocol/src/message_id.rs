//! Message ids: the one that says where a message lies, and the one that the client gives it.
//!
//! ```text
//! offset id: store host 4 or 16, port 4, physical offset 8                              upper-case hex
//! unique id: client's ip 4 or 16, pid 2, instance 4, ms since the month began 4, counter 2   upper-case hex
//! ```

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};

/// The offset id of the record at `physical_offset` on the broker at `store_host`.
pub fn encode_offset_id(store_host: SocketAddr, physical_offset: u64) -> String {
    let mut id = String::with_capacity(56);
    push_ip(&mut id, store_host.ip());
    push_hex(&mut id, &u32::from(store_host.port()).to_be_bytes());
    push_hex(&mut id, &physical_offset.to_be_bytes());
    id
}

/// Broker and position of an offset id; `None` when the text is none.
pub fn decode_offset_id(id: &str) -> Option<(SocketAddr, u64)> {
    let mut buffer = [0u8; 28];
    let bytes = parse_hex(id, &mut buffer)?;
    let ip_bytes = match bytes.len() {
        16 => 4,
        28 => 16,
        _ => return None,
    };
    let (ip, rest) = bytes.split_at(ip_bytes);
    let (port, offset) = rest.split_at(4);
    let port = u16::try_from(u32::from_be_bytes(port.try_into().ok()?)).ok()?;
    let ip = match <[u8; 4]>::try_from(ip) {
        Ok(ip) => IpAddr::from(ip),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
    };
    Some((
        SocketAddr::new(ip, port),
        u64::from_be_bytes(offset.try_into().ok()?),
    ))
}

/// Makes unique ids. Two generators never give the same one as long as address, process or instance differ.
#[derive(Debug)]
pub struct UniqueIds {
    /// What every id of this generator begins with.
    prefix: String,
    counter: AtomicU16,
}

impl UniqueIds {
    /// A generator for one process; `instance` tells several generators of a process apart.
    pub fn new(ip: IpAddr, pid: u32, instance: i32) -> Self {
        let mut prefix = String::with_capacity(44);
        push_ip(&mut prefix, ip);
        push_hex(&mut prefix, &(pid as u16).to_be_bytes());
        push_hex(&mut prefix, &instance.to_be_bytes());
        Self {
            prefix,
            counter: AtomicU16::new(0),
        }
    }

    /// The next id. Unique within a process for 65,536 ids a millisecond.
    pub fn next(&self, now_ms: i64) -> String {
        let count = self.counter.fetch_add(1, Ordering::Relaxed);
        let mut id = String::with_capacity(self.prefix.len() + 12);
        id.push_str(&self.prefix);
        push_hex(
            &mut id,
            &(ms_since_month_began(now_ms) as u32).to_be_bytes(),
        );
        push_hex(&mut id, &count.to_be_bytes());
        id
    }
}

/// Milliseconds since the first of the month, in UTC. (Java takes the local zone; nobody compares across processes.)
fn ms_since_month_began(now_ms: i64) -> i64 {
    const DAY_MS: i64 = 86_400_000;
    let days = now_ms.div_euclid(DAY_MS);
    (i64::from(day_of_month(days)) - 1) * DAY_MS + now_ms.rem_euclid(DAY_MS)
}

/// The day of the month of a count of days since 1970, by the usual conversion to the proleptic Gregorian calendar.
fn day_of_month(days: i64) -> u8 {
    let since_march_0000 = days + 719_468;
    let day_of_era = since_march_0000.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    (day_of_year - (153 * month + 2) / 5 + 1) as u8
}

fn push_ip(text: &mut String, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => push_hex(text, &ip.octets()),
        IpAddr::V6(ip) => push_hex(text, &ip.octets()),
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

fn parse_hex<'a>(text: &str, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let text = text.as_bytes();
    if !text.len().is_multiple_of(2) || text.len() / 2 > buffer.len() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let bytes = &mut buffer[..text.len() / 2];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_id_is_address_and_offset() {
        let host: SocketAddr = "127.0.0.1:10911".parse().unwrap();
        let id = encode_offset_id(host, 0x1234);
        assert_eq!(id, "7F00000100002A9F0000000000001234");
        assert_eq!(decode_offset_id(&id), Some((host, 0x1234)));
        let host: SocketAddr = "[::1]:10911".parse().unwrap();
        let id = encode_offset_id(host, 7);
        assert_eq!((id.len(), decode_offset_id(&id)), (56, Some((host, 7))));
    }

    #[test]
    fn other_texts_are_no_offset_id() {
        for text in [
            "",
            "7F",
            "zz00000100002A9F0000000000001234",
            "7F000001FFFFFFFF0000000000001234",
            "中文",
        ] {
            assert_eq!(decode_offset_id(text), None, "{text}");
        }
        assert_eq!(decode_offset_id(&"A".repeat(10_000)), None);
    }

    #[test]
    fn unique_ids_count_within_the_month() {
        let ids = UniqueIds::new("10.0.0.1".parse().unwrap(), 0x1_0203, 0x0a0b_0c0d);
        // 2024-03-01 00:00:00.005 UTC
        assert_eq!(
            ids.next(1_709_251_200_005),
            "0A00000102030A0B0C0D000000050000"
        );
        assert_eq!(
            ids.next(1_709_251_199_999),
            format!("0A00000102030A0B0C0D{:08X}0001", 29 * 86_400_000i64 - 1)
        );
    }
}
