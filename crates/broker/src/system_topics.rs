//! The topics that every broker has, because clients and tools ask for them.

use protocol::body::TopicConfig;
use protocol::{perm, topic};

use crate::Identity;
use crate::config::BrokerKeys;
use crate::topics::Topics;

const READ_WRITE: i32 = perm::READ | perm::WRITE;
/// Queues of a topic nobody configured, as in Java's `TopicConfig`.
const DEFAULT_QUEUES: i32 = 16;
/// Queues of the topic that Java's benchmark programs use.
const BENCHMARK_QUEUES: i32 = 1024;
/// One queue a delay level.
const SCHEDULE_QUEUES: i32 = 18;

/// Creates the system topics that are not there. A topic that the files name stays as it is.
pub(crate) fn create(topics: &Topics, keys: &BrokerKeys, identity: &Identity) {
    for config in wanted(keys, identity) {
        topics.create_if_absent(config);
    }
}

/// Java 5.3: `TopicConfigManager.init`.
fn wanted(keys: &BrokerKeys, identity: &Identity) -> Vec<TopicConfig> {
    let (cluster, broker) = (&*identity.cluster, &*identity.name);
    let inherited = |enabled: bool| perm::INHERIT | if enabled { READ_WRITE } else { 0 };
    let mut wanted = vec![
        config(topic::SELF_TEST, 1, READ_WRITE),
        config(topic::BENCHMARK, BENCHMARK_QUEUES, READ_WRITE),
        config(
            cluster,
            DEFAULT_QUEUES,
            inherited(keys.cluster_topic_enable),
        ),
        config(broker, 1, inherited(keys.broker_topic_enable)),
        config(topic::OFFSET_MOVED_EVENT, 1, READ_WRITE),
        config(topic::SCHEDULE, SCHEDULE_QUEUES, READ_WRITE),
        config(&topic::reply_topic(cluster), 1, READ_WRITE),
        config(
            &format!("{}{cluster}", topic::REVIVE_LOG_PREFIX),
            keys.revive_queue_num,
            READ_WRITE,
        ),
        config(
            &format!("{}{broker}", topic::SYNC_BROKER_MEMBER_PREFIX),
            1,
            perm::INHERIT,
        ),
        config(topic::TRANS_HALF, 1, READ_WRITE),
        config(topic::TRANS_OP_HALF, 1, READ_WRITE),
        config(topic::TIMER, 1, READ_WRITE),
    ];
    if keys.auto_create_topic_enable {
        wanted.push(config(
            topic::AUTO_CREATE,
            keys.default_topic_queue_nums,
            perm::INHERIT | READ_WRITE,
        ));
    }
    if keys.trace_topic_enable {
        wanted.push(config(&keys.msg_trace_topic_name, 1, READ_WRITE));
    }
    wanted
}

fn config(name: &str, queues: i32, perm: i32) -> TopicConfig {
    TopicConfig {
        topic_name: name.to_owned(),
        read_queue_nums: queues,
        write_queue_nums: queues,
        perm,
        ..TopicConfig::default()
    }
}
