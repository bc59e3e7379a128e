//! Golden bytes and frames for the tests.

use bytes::BytesMut;
use protocol::command::Command;
use protocol::frame::{self, Codec, FRAME_BYTES_MAX, Frame};

/// Embeds golden files by name.
macro_rules! golden_files {
    ($($name:literal),* $(,)?) => {
        /// Every golden file with its name.
        pub(crate) const GOLDEN: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../golden/", $name, ".hex")))),*];
    };
}

golden_files![
    "batch",
    "body_broker_stats",
    "body_cluster",
    "body_consume_directly",
    "body_consume_stats",
    "body_consumer_connection",
    "body_consumer_list",
    "body_consumer_offsets",
    "body_data_version",
    "body_group_list",
    "body_groups",
    "body_heartbeat",
    "body_kv",
    "body_lock",
    "body_lock_response",
    "body_query_assignment",
    "body_register",
    "body_register_compressed",
    "body_reset_offset",
    "body_route_fastjson",
    "body_route_ordered",
    "body_route_standard",
    "body_running_info",
    "body_time_span",
    "body_topic_config",
    "body_topic_list",
    "body_topic_stats",
    "error_response_binary",
    "error_response_json",
    "hash_codes",
    "offset_id_ipv4",
    "offset_id_ipv6",
    "oneway_binary",
    "oneway_json",
    "pop_code_binary",
    "pop_code_json",
    "properties",
    "pull_binary",
    "pull_json",
    "pull_response_binary",
    "pull_response_json",
    "record_v1_ipv4",
    "record_v1_ipv6",
    "record_v1_mixed",
    "record_v2",
    "send_response_binary",
    "send_response_json",
    "send_v1_binary",
    "send_v1_json",
    "send_v2_binary",
    "send_v2_json",
];

/// The bytes of a golden file.
pub(crate) fn golden(name: &str) -> Vec<u8> {
    let (_, text) = GOLDEN
        .iter()
        .find(|(known, _)| *known == name)
        .unwrap_or_else(|| panic!("no golden file {name}"));
    let digits: String = text.lines().filter(|line| !line.starts_with('#')).collect();
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// The text of a golden file.
pub(crate) fn golden_text(name: &str) -> String {
    String::from_utf8(golden(name)).unwrap()
}

/// The one frame in `bytes`.
pub(crate) fn whole_frame(bytes: &[u8]) -> Frame<'_> {
    let (frame, used) = frame::split(bytes, FRAME_BYTES_MAX).unwrap().unwrap();
    assert_eq!(used, bytes.len());
    frame
}

/// The command in a golden file.
pub(crate) fn golden_command(name: &str) -> Command {
    Command::decode(&whole_frame(&golden(name))).unwrap()
}

/// A command from the text of a JSON header.
pub(crate) fn json_command(header: &str) -> Command {
    Command::decode(&Frame {
        codec: Codec::Json,
        header: header.as_bytes(),
        body: b"",
    })
    .unwrap()
}

/// The frame of a command.
pub(crate) fn encoded(command: &Command) -> Vec<u8> {
    let mut out = BytesMut::new();
    command.encode(&mut out);
    out.to_vec()
}
