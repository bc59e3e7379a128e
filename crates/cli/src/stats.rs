//! Figures of brokers: `brokerConsumeStats`, `statsAll`.

use std::fmt::Write;

use admin::Admin;
use protocol::body::{BrokerStatsData, MessageQueue, OffsetWrapper, TopicRouteData};
use serde_json::json;

use crate::consumer::sorted;
use crate::format::{front, local_second};
use crate::{Failure, Session};

#[derive(Debug, clap::Args)]
pub(crate) struct BrokerConsumeStats {
    /// Broker address
    #[arg(short = 'b', long = "brokerAddr", value_name = "ADDR")]
    broker: String,
    /// How long to wait for the broker, in ms; it may have much to read
    #[arg(
        short = 't',
        long = "timeoutMillis",
        value_name = "MS",
        default_value_t = 50_000
    )]
    answer_ms: u64,
    /// Leave out queues with fewer messages to come
    #[arg(short = 'l', long = "level", default_value_t = 0)]
    level: i64,
    /// Ordered topics only
    #[arg(short = 'o', long = "order", default_value_t = false, action = clap::ArgAction::Set)]
    order: bool,
}

pub(crate) async fn broker_stats(
    args: &BrokerConsumeStats,
    session: Session,
) -> Result<(), Failure> {
    let Session { admin, out } = session;
    let admin = admin.with_timeout(std::time::Duration::from_millis(args.answer_ms));
    let stats = admin
        .broker_consume_stats(args.broker.trim(), args.order)
        .await?;
    if out.is_json() {
        return Ok(out.json(&stats_json(&stats, args.level))?);
    }
    let mut text = format!(
        "{:<64}  {:<64}  {:<32}  {:<4}  {:<20}  {:<20}  {:<20}  #LastTime\n",
        "#Topic", "#Group", "#Broker Name", "#QID", "#Broker Offset", "#Consumer Offset", "#Diff"
    );
    for (group, queue, at) in lines_of(&stats, args.level) {
        // mqadmin leaves out queues of which nothing was consumed.
        if at.last_timestamp > 0 {
            let _ = writeln!(
                text,
                "{:<64}  {group:<64}  {:<32}  {:<4}  {:<20}  {:<20}  {:<20}  {}",
                front(&queue.topic, 64),
                front(&queue.broker_name, 32),
                queue.queue_id,
                at.broker_offset,
                at.consumer_offset,
                at.broker_offset - at.consumer_offset,
                local_second(at.last_timestamp)
            );
        }
    }
    let _ = write!(text, "\nDiff Total: {}\n", stats.total_diff);
    Ok(out.text(&text)?)
}

fn lines_of(
    stats: &protocol::body::ConsumeStatsList,
    level: i64,
) -> Vec<(&str, &MessageQueue, &OffsetWrapper)> {
    let groups = stats.consume_stats_list.iter().flatten();
    let mut lines = Vec::new();
    for (group, topics) in groups {
        for (queue, at) in topics.iter().flat_map(sorted) {
            if at.broker_offset - at.consumer_offset >= level {
                lines.push((group.as_str(), queue, at));
            }
        }
    }
    lines
}

fn stats_json(stats: &protocol::body::ConsumeStatsList, level: i64) -> serde_json::Value {
    let queues = lines_of(stats, level)
        .into_iter()
        .map(|(group, queue, at)| {
            json!({
                "topic": queue.topic,
                "group": group,
                "brokerName": queue.broker_name,
                "queueId": queue.queue_id,
                "brokerOffset": at.broker_offset,
                "consumerOffset": at.consumer_offset,
                "lastTimestamp": at.last_timestamp,
            })
        });
    let queues: Vec<_> = queues.collect();
    json!({ "queues": queues, "diffTotal": stats.total_diff, "inflightTotal": stats.total_inflight_diff })
}

#[derive(Debug, clap::Args)]
pub(crate) struct StatsAll {
    /// Only what had messages within 24 hours
    #[arg(short = 'a', long = "activeTopic")]
    active: bool,
    /// One topic
    #[arg(short = 't', long = "topic")]
    topic: Option<String>,
}

/// What came in or went out.
#[derive(Clone, Copy, Default)]
struct Flow {
    tps: f64,
    of_day: i64,
}

impl Flow {
    fn add(&mut self, data: &BrokerStatsData) {
        self.tps += data.stats_minute.tps;
        // The day has samples after an hour, the hour after ten minutes.
        let spans = [&data.stats_day, &data.stats_hour, &data.stats_minute];
        let of_day = spans.into_iter().find(|span| span.sum != 0);
        self.of_day += of_day.map_or(0, |span| span.sum);
    }
}

pub(crate) async fn all(args: &StatsAll, session: Session) -> Result<(), Failure> {
    let Session { admin, out } = session;
    let mut text = format!(
        "{:<64}  {:<64} {:>12} {:>11} {:>11} {:>14} {:>14}\n",
        "#Topic",
        "#Consumer Group",
        "#Accumulation",
        "#InTPS",
        "#OutTPS",
        "#InMsg24Hour",
        "#OutMsg24Hour"
    );
    let mut lines = Vec::new();
    for topic in admin.topics().await?.topic_list {
        let is_asked = args.topic.as_deref().is_none_or(|asked| asked == topic);
        let is_of_group = topic.starts_with(protocol::topic::RETRY_PREFIX)
            || topic.starts_with(protocol::topic::DLQ_PREFIX);
        if is_asked && !is_of_group {
            // A topic that has just gone, or whose broker does not answer, does not stop the others.
            let _ = add_topic(&admin, &topic, args.active, &mut text, &mut lines).await;
        }
    }
    if out.is_json() {
        out.json(&lines)?;
    } else {
        out.text(&text)?;
    }
    Ok(())
}

async fn add_topic(
    admin: &Admin,
    topic: &str,
    active: bool,
    text: &mut String,
    lines: &mut Vec<serde_json::Value>,
) -> Result<(), Failure> {
    let route = admin.route(topic).await?;
    let groups = admin.consumers_of(topic).await?.group_list;
    let put = flow(admin, &route, "TOPIC_PUT_NUMS", topic).await;
    let name = front(topic, 64);
    if groups.is_empty() && (!active || put.of_day > 0) {
        let _ = writeln!(
            text,
            "{name:<64}  {:<64} {:>12} {:>11.2} {:>11} {:>14} {:>14}",
            "", 0, put.tps, "", put.of_day, "NO_CONSUMER"
        );
        lines.push(json!({ "topic": topic, "inTps": put.tps, "inMsg24Hour": put.of_day }));
    }
    for group in groups {
        let got = flow(admin, &route, "GROUP_GET_NUMS", &format!("{topic}@{group}")).await;
        if active && put.of_day == 0 && got.of_day == 0 {
            continue;
        }
        let stats = admin.consume_stats(&group, Some(topic)).await;
        let left: i64 = stats
            .unwrap_or_default()
            .offset_table
            .values()
            .map(|at| at.broker_offset - at.consumer_offset)
            .sum();
        let left = left.max(0);
        let _ = writeln!(
            text,
            "{name:<64}  {:<64} {left:>12} {:>11.2} {:>11.2} {:>14} {:>14}",
            front(&group, 64),
            put.tps,
            got.tps,
            put.of_day,
            got.of_day
        );
        lines.push(json!({
            "topic": topic,
            "group": group,
            "accumulation": left,
            "inTps": put.tps,
            "outTps": got.tps,
            "inMsg24Hour": put.of_day,
            "outMsg24Hour": got.of_day,
        }));
    }
    Ok(())
}

/// What the masters of a topic counted. One that counted nothing says that it knows no such item.
async fn flow(admin: &Admin, route: &TopicRouteData, name: &str, key: &str) -> Flow {
    let mut flow = Flow::default();
    let brokers = route.broker_datas.iter();
    for master in brokers.filter_map(|broker| broker.broker_addrs.get(&0)) {
        if let Ok(data) = admin.stats_data(master, name, key).await {
            flow.add(&data);
        }
    }
    flow
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_span_that_has_samples_counts() {
        let span = |sum| protocol::body::BrokerStatsItem {
            sum,
            ..Default::default()
        };
        let check = |day, hour, minute, want| {
            let mut flow = Flow::default();
            flow.add(&BrokerStatsData {
                stats_day: span(day),
                stats_hour: span(hour),
                stats_minute: span(minute),
            });
            assert_eq!(flow.of_day, want);
        };
        check(0, 0, 3, 3);
        check(0, 5, 3, 5);
        check(9, 5, 3, 9);
        check(0, 0, 0, 0);
    }
}
