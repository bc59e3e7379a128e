//! Names of topics and groups: which are valid, which belong to the system, which are derived from others.

use thiserror::Error;

/// The template from which topics are created on demand.
pub const AUTO_CREATE: &str = "TBW102";
/// Delayed messages wait here, one queue a level.
pub const SCHEDULE: &str = "SCHEDULE_TOPIC_XXXX";
/// For benchmarks.
pub const BENCHMARK: &str = "BenchmarkTest";
/// Half messages of transactions.
pub const TRANS_HALF: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
/// What became of half messages.
pub const TRANS_OP_HALF: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
/// Half messages that were checked too often.
pub const TRANS_CHECK_MAX_TIME: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
/// Traces that clients send.
pub const TRACE: &str = "RMQ_SYS_TRACE_TOPIC";
/// For self-tests.
pub const SELF_TEST: &str = "SELF_TEST_TOPIC";
/// Notices of offsets that were moved.
pub const OFFSET_MOVED_EVENT: &str = "OFFSET_MOVED_EVENT";
/// Internal to one kind of Java store.
pub const CHECKPOINT: &str = "CHECKPOINT_TOPIC";
/// Messages wait here for a given time.
pub const TIMER: &str = "rmq_sys_wheel_timer";

/// Prefix of system topics that are named after something.
pub const SYSTEM_PREFIX: &str = "rmq_sys_";
/// Prefix of the topic that tells a broker's members of each other.
pub const SYNC_BROKER_MEMBER_PREFIX: &str = "rmq_sys_SYNC_BROKER_MEMBER_";
/// Prefix of a cluster's topic for the state of pop consumption.
pub const REVIVE_LOG_PREFIX: &str = "rmq_sys_REVIVE_LOG_";
/// Prefix of a group's retry topic.
pub const RETRY_PREFIX: &str = "%RETRY%";
/// Prefix of a group's dead-letter topic.
pub const DLQ_PREFIX: &str = "%DLQ%";
/// Behind a cluster's name: its reply topic.
pub const REPLY_POSTFIX: &str = "REPLY_TOPIC";

/// Topics that belong to the system by their whole name.
pub const SYSTEM: [&str; 10] = [
    AUTO_CREATE,
    SCHEDULE,
    BENCHMARK,
    TRANS_HALF,
    TRACE,
    TRANS_OP_HALF,
    TRANS_CHECK_MAX_TIME,
    SELF_TEST,
    OFFSET_MOVED_EVENT,
    CHECKPOINT,
];

/// Topics to which clients may not send.
pub const NOT_SENDABLE: [&str; 6] = [
    SCHEDULE,
    TRANS_HALF,
    TRANS_OP_HALF,
    TRANS_CHECK_MAX_TIME,
    SELF_TEST,
    OFFSET_MOVED_EVENT,
];

/// Longest name of a topic.
pub const TOPIC_CHARACTERS_MAX: usize = 127;
/// Longest name of a retry or dead-letter topic.
pub const RETRY_CHARACTERS_MAX: usize = 255;
/// Longest name of a group, so that its retry topic still has a valid name.
pub const GROUP_CHARACTERS_MAX: usize = 120;

/// Prefix of groups that belong to the system.
pub const SYSTEM_GROUP_PREFIX: &str = "CID_RMQ_SYS_";
/// Groups that exist without being created.
pub const SYSTEM_GROUPS: [&str; 11] = [
    "TOOLS_CONSUMER",
    "SCHEDULE_CONSUMER",
    "FILTERSRV_CONSUMER",
    "__MONITOR_CONSUMER",
    "CLIENT_INNER_PRODUCER",
    "SELF_TEST_P_GROUP",
    "SELF_TEST_C_GROUP",
    "CID_ONS-HTTP-PROXY",
    "CID_ONSAPI_PERMISSION",
    "CID_ONSAPI_OWNER",
    "CID_ONSAPI_PULL",
];

/// Why a name is refused. The text is the one that RocketMQ's tools show.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing but white space.
    #[error("The specified {0} is blank.")]
    Blank(&'static str),
    /// A character outside the allowed ones.
    #[error(
        "The specified {kind}: {name}, contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$"
    )]
    IllegalCharacters {
        /// "topic" or "group".
        kind: &'static str,
        /// The name, cut to a readable length.
        name: String,
    },
    /// Longer than allowed.
    #[error("The specified {kind}: {name}, is longer than {kind} max length: {max}")]
    TooLong {
        /// "topic" or "group".
        kind: &'static str,
        /// The name, cut to a readable length.
        name: String,
        /// The limit.
        max: usize,
    },
}

/// Checks the name of a topic.
pub fn check_topic(topic: &str) -> Result<(), NameError> {
    let derived = topic.starts_with(RETRY_PREFIX) || topic.starts_with(DLQ_PREFIX);
    check(
        "topic",
        topic,
        if derived {
            RETRY_CHARACTERS_MAX
        } else {
            TOPIC_CHARACTERS_MAX
        },
    )
}

/// Checks the name of a group.
pub fn check_group(group: &str) -> Result<(), NameError> {
    check("group", group, GROUP_CHARACTERS_MAX)
}

fn check(kind: &'static str, name: &str, max: usize) -> Result<(), NameError> {
    // A name of ten thousand characters is not repeated to its sender in full.
    let shown = || name.chars().take(RETRY_CHARACTERS_MAX).collect();
    if name.trim().is_empty() {
        return Err(NameError::Blank(kind));
    }
    if !name.bytes().all(
        |byte| matches!(byte, b'%' | b'|' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z'),
    ) {
        return Err(NameError::IllegalCharacters {
            kind,
            name: shown(),
        });
    }
    if name.len() > max {
        return Err(NameError::TooLong {
            kind,
            name: shown(),
            max,
        });
    }
    Ok(())
}

/// Whether a topic belongs to the system.
pub fn is_system(topic: &str) -> bool {
    topic.starts_with(SYSTEM_PREFIX) || SYSTEM.contains(&topic)
}

/// Whether clients may not send to a topic.
pub fn is_not_sendable(topic: &str) -> bool {
    NOT_SENDABLE.contains(&topic)
}

/// Whether a group belongs to the system.
pub fn is_system_group(group: &str) -> bool {
    group.starts_with(SYSTEM_GROUP_PREFIX) || SYSTEM_GROUPS.contains(&group)
}

/// The topic to which a group's failed messages return.
pub fn retry_topic(group: &str) -> String {
    format!("{RETRY_PREFIX}{group}")
}

/// The topic where a group's messages end that failed too often.
pub fn dlq_topic(group: &str) -> String {
    format!("{DLQ_PREFIX}{group}")
}

/// A cluster's topic for replies to requests.
pub fn reply_topic(cluster: &str) -> String {
    format!("{cluster}_{REPLY_POSTFIX}")
}

/// Between group and topic in the name of a retry topic of POP consumption, in its first form.
const POP_RETRY_SEPARATOR_V1: char = '_';
/// The same in the second form. No topic or group contains it, so both can be told from the name.
const POP_RETRY_SEPARATOR_V2: char = '+';

/// The topic to which messages of `topic` return that a group did not acknowledge after POP; first form of the name.
/// Java 5.3: `KeyBuilder.buildPopRetryTopicV1`.
pub fn pop_retry_topic_v1(group: &str, topic: &str) -> String {
    format!("{RETRY_PREFIX}{group}{POP_RETRY_SEPARATOR_V1}{topic}")
}

/// The same, second form of the name (`enableRetryTopicV2`). Java 5.3: `KeyBuilder.buildPopRetryTopicV2`.
pub fn pop_retry_topic_v2(group: &str, topic: &str) -> String {
    format!("{RETRY_PREFIX}{group}{POP_RETRY_SEPARATOR_V2}{topic}")
}

/// The group of a retry topic; `None` for another topic. Of a POP retry topic in its first form this is group and topic together: the
/// name alone does not say where one ends. Java 5.3: `KeyBuilder.parseGroup`.
pub fn group_of_retry_topic(topic: &str) -> Option<&str> {
    let rest = topic.strip_prefix(RETRY_PREFIX)?;
    match rest.split_once(POP_RETRY_SEPARATOR_V2) {
        Some((group, behind)) if !behind.contains(POP_RETRY_SEPARATOR_V2) => Some(group),
        _ => Some(rest),
    }
}

/// The topic whose messages return to a POP retry topic of `group`, in either form; any other name is given back as it is.
/// Java 5.3: `KeyBuilder.parseNormalTopic`.
pub fn topic_of_pop_retry_topic<'a>(retry_topic: &'a str, group: &str) -> &'a str {
    let behind_group = retry_topic
        .strip_prefix(RETRY_PREFIX)
        .and_then(|rest| rest.strip_prefix(group));
    behind_group
        .and_then(|rest| rest.strip_prefix([POP_RETRY_SEPARATOR_V2, POP_RETRY_SEPARATOR_V1]))
        .unwrap_or(retry_topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_rocketmq() {
        assert_eq!(check_topic("%RETRY%group_1-a|b"), Ok(()));
        assert_eq!(check_topic(" "), Err(NameError::Blank("topic")));
        assert!(matches!(
            check_topic("主题"),
            Err(NameError::IllegalCharacters { .. })
        ));
        assert!(matches!(
            check_topic("a b"),
            Err(NameError::IllegalCharacters { .. })
        ));
        assert_eq!(check_topic(&"t".repeat(127)), Ok(()));
        assert!(matches!(
            check_topic(&"t".repeat(128)),
            Err(NameError::TooLong { max: 127, .. })
        ));
        assert_eq!(check_topic(&retry_topic(&"g".repeat(248))), Ok(()));
        assert!(check_topic(&retry_topic(&"g".repeat(249))).is_err());
        assert!(matches!(
            check_group(&"g".repeat(121)),
            Err(NameError::TooLong { max: 120, .. })
        ));
    }

    #[test]
    fn an_error_stays_readable_whatever_the_name() {
        assert!(
            check_topic(&"t".repeat(10_000))
                .unwrap_err()
                .to_string()
                .len()
                < 400
        );
    }

    #[test]
    fn names_of_retry_topics_are_taken_apart() {
        let (v1, v2) = (
            pop_retry_topic_v1("g", "t_1"),
            pop_retry_topic_v2("g", "t_1"),
        );
        assert_eq!((v1.as_str(), v2.as_str()), ("%RETRY%g_t_1", "%RETRY%g+t_1"));
        assert_eq!(topic_of_pop_retry_topic(&v1, "g"), "t_1");
        assert_eq!(topic_of_pop_retry_topic(&v2, "g"), "t_1");
        assert_eq!(topic_of_pop_retry_topic("t", "g"), "t");
        assert_eq!(topic_of_pop_retry_topic("%RETRY%g", "g"), "%RETRY%g");
        assert_eq!(group_of_retry_topic(&v2), Some("g"));
        assert_eq!(group_of_retry_topic(&v1), Some("g_t_1"));
        assert_eq!(group_of_retry_topic("%RETRY%g"), Some("g"));
        assert_eq!(group_of_retry_topic("%RETRY%a+b+c"), Some("a+b+c"));
        assert_eq!(group_of_retry_topic("t"), None);
    }

    #[test]
    fn system_names_are_known() {
        assert!(is_system("TBW102") && is_system("rmq_sys_wheel_timer") && !is_system("TopicTest"));
        assert!(is_not_sendable("SCHEDULE_TOPIC_XXXX") && !is_not_sendable("TBW102"));
        assert!(is_system_group("CID_RMQ_SYS_TRANS") && is_system_group("TOOLS_CONSUMER"));
    }
}
