//! Send requests built ahead: only opaque, time and queue change from one to the next, each patched in place.

use bytes::BytesMut;
use protocol::code::RequestCode;
use protocol::command::Command;
use protocol::frame;
use protocol::headers::{SendMessageRequest, SendMessageRequestV2};

use crate::Codec;

/// Every opaque has ten digits, so that it can be patched into JSON without moving anything.
pub(crate) const OPAQUE_BASE: i32 = 1_000_000_000;
/// Thirteen digits, as every time until the year 2286 has in milliseconds.
const TIME_TEMPLATE: i64 = 1_111_111_111_111;

/// One request for each queue, ready to be patched and sent.
pub(crate) struct Frames {
    codec: Codec,
    /// The frame, the place of its opaque, and the place of its time.
    templates: Vec<(Vec<u8>, usize, usize)>,
}

impl Frames {
    pub(crate) fn new(topic: &str, queues: u32, body_bytes: usize, codec: Codec) -> Self {
        let body: Vec<u8> = (0..body_bytes).map(|i| b'a' + (i % 26) as u8).collect();
        let templates = (0..queues)
            .map(|queue| template(topic, queue as i32, &body, codec))
            .collect();
        Self { codec, templates }
    }

    /// Appends the request for `queue` to `out`.
    pub(crate) fn write(&self, queue: usize, opaque: i32, now_ms: i64, out: &mut Vec<u8>) {
        let (template, opaque_at, time_at) = &self.templates[queue % self.templates.len()];
        let start = out.len();
        out.extend_from_slice(template);
        let frame = &mut out[start..];
        match self.codec {
            Codec::Json => write_digits(&mut frame[*opaque_at..*opaque_at + 10], opaque as u64),
            Codec::Binary => {
                frame[*opaque_at..*opaque_at + 4].copy_from_slice(&opaque.to_be_bytes())
            }
        }
        write_digits(&mut frame[*time_at..*time_at + 13], now_ms as u64);
    }
}

fn template(topic: &str, queue_id: i32, body: &[u8], codec: Codec) -> (Vec<u8>, usize, usize) {
    let header = SendMessageRequestV2(SendMessageRequest {
        producer_group: "bench".into(),
        topic: topic.into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 4,
        queue_id,
        sys_flag: 0,
        born_timestamp_ms: TIME_TEMPLATE,
        flag: 0,
        properties: Some(
            "UNIQ_KEY\u{1}7F000001000018B4AAC217E3B4F80000\u{2}WAIT\u{1}true\u{2}".into(),
        ),
        reconsume_times: Some(0),
        unit_mode: Some(false),
        max_reconsume_times: None,
        batch: Some(false),
        broker_name: None,
    });
    let mut command =
        Command::request(RequestCode::SEND_MESSAGE_V2, &header).with_body(body.to_vec());
    command.opaque = OPAQUE_BASE;
    command.codec = match codec {
        Codec::Json => frame::Codec::Json,
        Codec::Binary => frame::Codec::Rocketmq,
    };
    let mut encoded = BytesMut::new();
    command.encode(&mut encoded);
    let header_end = encoded.len() - body.len();
    let find = |needle: &[u8]| {
        encoded[..header_end]
            .windows(needle.len())
            .position(|window| window == needle)
            .expect("the template holds what it was built from")
    };
    let opaque_at = match codec {
        Codec::Json => find(b"1000000000"),
        Codec::Binary => find(&OPAQUE_BASE.to_be_bytes()),
    };
    let time_at = find(TIME_TEMPLATE.to_string().as_bytes());
    (encoded.to_vec(), opaque_at, time_at)
}

fn write_digits(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patched_frames_decode_to_what_was_patched() {
        for codec in [Codec::Json, Codec::Binary] {
            let frames = Frames::new("T", 3, 16, codec);
            let mut out = Vec::new();
            frames.write(2, OPAQUE_BASE + 77, 1_700_000_000_123, &mut out);
            let (frame, length) = frame::split(&out, frame::FRAME_BYTES_MAX).unwrap().unwrap();
            assert_eq!(length, out.len());
            let command = Command::decode(&frame).unwrap();
            assert_eq!(command.opaque, OPAQUE_BASE + 77);
            let header: SendMessageRequestV2<'_> = command.fields().read().unwrap();
            let header = header.0;
            assert_eq!(
                (header.queue_id, header.born_timestamp_ms),
                (2, 1_700_000_000_123)
            );
        }
    }
}
