//! Consumers and how far they are: `consumerProgress`, `consumerStatus`.

mod running;

use std::collections::BTreeMap;
use std::fmt::Write;

use admin::Admin;
use protocol::body::{
    ConsumeStats, ConsumeType, ConsumerConnection, MessageModel, MessageQueue, OffsetWrapper,
};
use protocol::version;
use serde_json::json;

use crate::format::{front, local_second};
use crate::{Failure, Session};

pub(crate) use running::{ConsumerStatus, status};

#[derive(Debug, clap::Args)]
pub(crate) struct ConsumerProgress {
    /// One group, queue by queue; otherwise all groups
    #[arg(short = 'g', long = "groupName", value_name = "GROUP")]
    group: Option<String>,
    /// One topic of the group
    #[arg(short = 't', long = "topicName", value_name = "TOPIC")]
    topic: Option<String>,
    /// Also which client has each queue
    #[arg(short = 's', long = "showClientIP", default_value_t = false, action = clap::ArgAction::Set)]
    show_client: bool,
    /// Accepted for mqadmin's sake: groups are looked up by their own topics
    #[arg(short = 'c', long = "cluster", value_name = "CLUSTER")]
    cluster: Option<String>,
}

pub(crate) async fn progress(args: &ConsumerProgress, session: Session) -> Result<(), Failure> {
    let Session { admin, out } = session;
    let Some(group) = args.group.as_deref().map(str::trim) else {
        let groups = all_groups(&admin).await?;
        return if out.is_json() {
            let groups: Vec<_> = groups.iter().map(GroupLine::json).collect();
            Ok(out.json(&groups)?)
        } else {
            Ok(out.text(&groups_table(&groups))?)
        };
    };
    let topic = args.topic.as_deref().map(str::trim);
    let stats = admin.consume_stats(group, topic).await?;
    if stats.offset_table.is_empty() {
        return Err(Failure::Other(
            "Not found the consumer group consume stats, because return offset table is empty, maybe the consumer not consume any message".to_owned(),
        ));
    }
    let holders = if args.show_client {
        Some(holders(&admin, group).await?)
    } else {
        None
    };
    if out.is_json() {
        let queues = sorted(&stats).into_iter().map(|(queue, at)| {
            json!({
                "topic": queue.topic,
                "brokerName": queue.broker_name,
                "queueId": queue.queue_id,
                "brokerOffset": at.broker_offset,
                "consumerOffset": at.consumer_offset,
                "pullOffset": at.pull_offset,
                "lastTimestamp": at.last_timestamp,
                "client": holders.as_ref().and_then(|holders| holders.get(queue)),
            })
        });
        let queues: Vec<_> = queues.collect();
        out.json(&json!({ "queues": queues, "consumeTps": stats.consume_tps }))?;
    } else {
        out.text(&progress_table(&stats, holders.as_ref()))?;
    }
    Ok(())
}

/// By topic, broker, queue: Java's order of queues.
pub(crate) fn sorted(stats: &ConsumeStats) -> Vec<(&MessageQueue, &OffsetWrapper)> {
    let mut queues: Vec<_> = stats.offset_table.iter().collect();
    queues.sort_by_key(|(queue, _)| (&queue.topic, &queue.broker_name, queue.queue_id));
    queues
}

/// Which client has each queue, by its address as far as its id names one.
async fn holders(admin: &Admin, group: &str) -> Result<BTreeMap<MessageQueue, String>, Failure> {
    let mut holders = BTreeMap::new();
    for client in admin.consumer_connection(group).await?.connection_set {
        // Who does not answer has no queues to show; the others have.
        let Ok(info) = admin.running_info(group, &client.client_id, false).await else {
            continue;
        };
        let name = client.client_id.split('@').next().unwrap_or_default();
        let queues = info.mq_table.0.into_keys();
        holders.extend(queues.map(|queue| (queue, name.to_owned())));
    }
    Ok(holders)
}

fn progress_table(
    stats: &ConsumeStats,
    holders: Option<&BTreeMap<MessageQueue, String>>,
) -> String {
    let client = |text: &str| match holders {
        Some(_) => format!("{text:<20} "),
        None => String::new(),
    };
    let mut text = format!(
        "{:<64}  {:<32}  {:<4}  {:<20}  {:<20}  {}{:<20} {:<20}#LastTime\n",
        "#Topic",
        "#Broker Name",
        "#QID",
        "#Broker Offset",
        "#Consumer Offset",
        client("#Client IP"),
        "#Diff",
        "#Inflight"
    );
    let (mut diff_total, mut inflight_total) = (0, 0);
    for (queue, at) in sorted(stats) {
        let diff = at.broker_offset - at.consumer_offset;
        let inflight = at.pull_offset - at.consumer_offset;
        diff_total += diff;
        inflight_total += inflight;
        let last = match at.last_timestamp {
            0 => "N/A".to_owned(),
            timestamp => local_second(timestamp),
        };
        let holder = holders.and_then(|holders| holders.get(queue));
        let _ = writeln!(
            text,
            "{:<64}  {:<32}  {:<4}  {:<20}  {:<20}  {}{diff:<20} {inflight:<20} {last}",
            front(&queue.topic, 64),
            front(&queue.broker_name, 32),
            queue.queue_id,
            at.broker_offset,
            at.consumer_offset,
            client(holder.map_or("N/A", String::as_str)),
        );
    }
    let _ = write!(
        text,
        "\nConsume TPS: {:.2}\nConsume Diff Total: {diff_total}\nConsume Inflight Total: {inflight_total}\n",
        stats.consume_tps
    );
    text
}

/// One group of the overview.
struct GroupLine {
    group: String,
    connection: Option<ConsumerConnection>,
    tps: f64,
    diff: i64,
}

impl GroupLine {
    fn connected(&self) -> Option<&ConsumerConnection> {
        let connection = self.connection.as_ref();
        connection.filter(|connection| !connection.connection_set.is_empty())
    }

    fn version(&self) -> String {
        let versions = self.connected().map(|connection| {
            let versions = connection.connection_set.iter();
            versions.map(|client| client.version).min().unwrap_or(0)
        });
        versions.map_or("OFFLINE".to_owned(), version::describe)
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "group": self.group,
            "count": self.connected().map_or(0, |connection| connection.connection_set.len()),
            "version": self.version(),
            "consumeTps": self.tps,
            "diffTotal": self.diff,
        })
    }
}

async fn all_groups(admin: &Admin) -> Result<Vec<GroupLine>, Failure> {
    let topics = admin.topics().await?;
    let groups = topics.topic_list.iter();
    let groups = groups.filter_map(|topic| protocol::topic::group_of_retry_topic(topic));
    let mut lines = Vec::new();
    for group in groups {
        // A group that one broker cannot tell of is shown with what is known, as mqadmin does it.
        let stats = admin.consume_stats(group, None).await.unwrap_or_default();
        let diff = stats.offset_table.values();
        lines.push(GroupLine {
            group: group.to_owned(),
            connection: admin.consumer_connection(group).await.ok(),
            tps: stats.consume_tps,
            diff: diff.map(|at| at.broker_offset - at.consumer_offset).sum(),
        });
    }
    Ok(lines)
}

fn groups_table(groups: &[GroupLine]) -> String {
    let mut text = format!(
        "{:<64}  {:<6}  {:<24} {:<5}  {:<14}  {:<7}  #Diff Total\n",
        "#Group", "#Count", "#Version", "#Type", "#Model", "#TPS"
    );
    for line in groups {
        let connected = line.connected();
        let (kind, model) = match connected {
            None => ("", ""),
            Some(connection) if connection.consume_type == ConsumeType::Actively => ("PULL", ""),
            Some(connection) if connection.consume_type == ConsumeType::Pop => ("PUSH", ""),
            Some(connection) => match connection.message_model {
                MessageModel::Clustering => ("PUSH", "CLUSTERING"),
                MessageModel::Broadcasting => ("PUSH", "BROADCASTING"),
            },
        };
        let _ = writeln!(
            text,
            "{:<64}  {:<6}  {:<24} {kind:<5}  {model:<14}  {:<7}  {}",
            front(&line.group, 64),
            connected.map_or(0, |connection| connection.connection_set.len()),
            line.version(),
            line.tps as i64,
            line.diff
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats() -> ConsumeStats {
        let at = OffsetWrapper {
            broker_offset: 30,
            consumer_offset: 10,
            pull_offset: 12,
            last_timestamp: 0,
        };
        let mut stats = ConsumeStats {
            consume_tps: 1.5,
            ..ConsumeStats::default()
        };
        for queue_id in [1, 0] {
            let queue = MessageQueue::new("t", "b", queue_id);
            stats.offset_table.insert(queue, at.clone());
        }
        stats
    }

    #[test]
    fn progress_is_printed_as_mqadmin_does_it() {
        let text = progress_table(&stats(), None);
        let words = |line: usize| -> Vec<&str> {
            text.lines().nth(line).unwrap().split_whitespace().collect()
        };
        assert_eq!(words(1), ["t", "b", "0", "30", "10", "20", "2", "N/A"]);
        assert!(text.ends_with(
            "\n\nConsume TPS: 1.50\nConsume Diff Total: 40\nConsume Inflight Total: 4\n"
        ));
        let holders = BTreeMap::from([(MessageQueue::new("t", "b", 0), "10.0.0.1".to_owned())]);
        let text = progress_table(&stats(), Some(&holders));
        assert!(
            text.lines()
                .nth(1)
                .unwrap()
                .contains("10.0.0.1             20 "),
            "{text}"
        );
        assert!(
            text.lines()
                .nth(2)
                .unwrap()
                .contains("N/A                  20 "),
            "{text}"
        );
    }
}
