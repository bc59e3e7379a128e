//! Recall handles: what a producer keeps of a timer message, to take it back before its time.
//!
//! ```text
//! base64url of   v1 topic brokerName timestampMs uniqueId      separated by single spaces, with padding
//! ```
//! Java 5.3: `RecallMessageHandle.HandleV1`.

use thiserror::Error;

const VERSION: &str = "v1";
/// A longer text is no handle: topic, broker name, time and id have bounds of their own.
const TEXT_BYTES_MAX: usize = 4096;
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// What a handle names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecallHandle {
    /// The topic that the message was sent to.
    pub topic: String,
    /// Name of the broker that holds it.
    pub broker_name: String,
    /// Java's slot of the message in milliseconds since 1970, plus one.
    pub timestamp_ms: i64,
    /// The message's unique id.
    pub unique_id: String,
}

/// The text is no recall handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("recall handle is invalid")]
pub struct NotAHandle;

impl RecallHandle {
    /// The handle as a producer is given it.
    pub fn encode(&self) -> String {
        encode(
            &self.topic,
            &self.broker_name,
            self.timestamp_ms,
            &self.unique_id,
        )
    }

    /// Reads a handle. Parts behind the fifth do not count, as in Java.
    ///
    /// # Errors
    /// The text is not base64, has another version or fewer parts. A time that is no number is -1, as in Java.
    pub fn decode(text: &str) -> Result<RecallHandle, NotAHandle> {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return Err(NotAHandle);
        }
        let bytes = from_base64(text.as_bytes()).ok_or(NotAHandle)?;
        let plain = String::from_utf8(bytes).map_err(|_| NotAHandle)?;
        let mut parts = plain.split(' ');
        let mut part = || {
            parts
                .next()
                .filter(|part| !part.is_empty())
                .ok_or(NotAHandle)
        };
        if part()? != VERSION {
            return Err(NotAHandle);
        }
        Ok(RecallHandle {
            topic: part()?.to_owned(),
            broker_name: part()?.to_owned(),
            timestamp_ms: part()?.parse().unwrap_or(-1),
            unique_id: part()?.to_owned(),
        })
    }
}

/// A handle from its parts.
pub fn encode(topic: &str, broker_name: &str, timestamp_ms: i64, unique_id: &str) -> String {
    to_base64(format!("{VERSION} {topic} {broker_name} {timestamp_ms} {unique_id}").as_bytes())
}

fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().enumerate().fold(0u32, |group, (index, byte)| {
            group | u32::from(*byte) << (16 - 8 * index)
        });
        for digit in 0..4 {
            if digit <= chunk.len() {
                text.push(char::from(
                    DIGITS[(group >> (18 - 6 * digit)) as usize & 63],
                ));
            } else {
                text.push('=');
            }
        }
    }
    text
}

/// Bytes of a base64url text, padded or not; none when it is no such text.
fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let digits = match text {
        [digits @ .., b'=', b'='] | [digits @ .., b'='] if text.len().is_multiple_of(4) => digits,
        digits => digits,
    };
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for chunk in digits.chunks(4) {
        if chunk.len() == 1 {
            return None;
        }
        let mut group = 0u32;
        for (index, digit) in chunk.iter().enumerate() {
            group |= value_of(*digit)? << (18 - 6 * index);
        }
        let whole = group.to_be_bytes();
        bytes.extend_from_slice(&whole[1..chunk.len()]);
    }
    Some(bytes)
}

fn value_of(digit: u8) -> Option<u32> {
    Some(u32::from(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_what_java_makes() {
        // Base64.getUrlEncoder() of "v1 TopicTest broker-a 1700000000001 0A000001".
        let handle = RecallHandle {
            topic: "TopicTest".to_owned(),
            broker_name: "broker-a".to_owned(),
            timestamp_ms: 1_700_000_000_001,
            unique_id: "0A000001".to_owned(),
        };
        let text = "djEgVG9waWNUZXN0IGJyb2tlci1hIDE3MDAwMDAwMDAwMDEgMEEwMDAwMDE=";
        assert_eq!(handle.encode(), text);
        assert_eq!(RecallHandle::decode(text), Ok(handle.clone()));
        assert_eq!(RecallHandle::decode(text.trim_end_matches('=')), Ok(handle));
    }

    #[test]
    fn any_bytes_survive_base64() {
        for length in 0..70 {
            let bytes: Vec<u8> = (0..length).map(|byte| (byte * 37 + 200) as u8).collect();
            assert_eq!(from_base64(to_base64(&bytes).as_bytes()), Some(bytes));
        }
    }

    #[test]
    fn other_texts_are_no_handles() {
        for text in [
            "",
            "=",
            "a",
            "a===",
            "v1 T b 1 id",
            "djEgVA==\n",
            &to_base64(b"v2 T b 1 id"),
            &to_base64(b"v1 T b 1"),
            &to_base64(b"v1 T b 1 "),
            &to_base64(b"v1  b 1 id"),
            &to_base64(&[0xff; 9]),
            &"A".repeat(TEXT_BYTES_MAX + 4),
        ] {
            assert_eq!(RecallHandle::decode(text), Err(NotAHandle), "{text:?}");
        }
        let no_time = RecallHandle::decode(&to_base64(b"v1 T b soon id more")).unwrap();
        assert_eq!((no_time.timestamp_ms, &*no_time.unique_id), (-1, "id"));
    }
}
