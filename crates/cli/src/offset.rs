//! Where groups go on: `resetOffsetByTime`, `skipAccumulatedMessage`, `cloneGroupOffset`.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use admin::{Admin, Reset, Rollback};
use protocol::body::{MessageQueue, QueueTable};
use protocol::code::ResponseCode;
use serde_json::json;

use crate::format::{front, parse_time};
use crate::{Failure, Session};

#[derive(Debug, clap::Args)]
pub(crate) struct ResetOffsetByTime {
    /// Consumer group
    #[arg(short = 'g', long = "group")]
    group: String,
    /// Topic
    #[arg(short = 't', long = "topic")]
    topic: String,
    /// Go on with what was stored then or later: `now`, -1 for the end, milliseconds since 1970, or 2026-01-31#23:59:59:999
    #[arg(
        short = 's',
        long = "timestamp",
        value_name = "TIME",
        allow_hyphen_values = true
    )]
    timestamp: String,
    /// Also forward, where members of the group are told
    #[arg(short = 'f', long = "force", default_value_t = true, action = clap::ArgAction::Set)]
    force: bool,
    /// The members of the group are C++ clients
    #[arg(long = "cplus")]
    cplus: bool,
    /// One broker, with -q
    #[arg(short = 'b', long = "broker", value_name = "ADDR", requires = "queue")]
    broker: Option<String>,
    /// One queue of that broker
    #[arg(short = 'q', long = "queue", value_name = "ID", requires = "broker")]
    queue: Option<i32>,
    /// Go on at this offset of that queue instead
    #[arg(short = 'o', long = "offset", requires = "queue")]
    offset: Option<i64>,
    /// Another topic, such as a cluster's name, whose brokers are asked
    #[arg(short = 'c', long = "cluster", value_name = "CLUSTER")]
    cluster: Option<String>,
}

pub(crate) async fn reset_by_time(
    args: &ResetOffsetByTime,
    session: Session,
) -> Result<(), Failure> {
    let text = args.timestamp.trim();
    let timestamp_ms = match text {
        "now" => now_ms(),
        text => parse_time(text).ok_or_else(|| {
            Failure::Usage(format!(
                "-s {text} is no time: give now, -1, milliseconds since 1970, or 2026-01-31#23:59:59:999"
            ))
        })?,
    };
    let (group, topic) = (args.group.trim(), args.topic.trim());
    if let (Some(broker), Some(queue_id)) = (&args.broker, args.queue) {
        let queue = MessageQueue::new(topic, "", queue_id);
        return reset_one(args, session, broker.trim(), &queue, timestamp_ms).await;
    }
    let reset = Reset {
        group: group.to_owned(),
        topic: topic.to_owned(),
        timestamp_ms,
        force: args.force,
        cpp: args.cplus,
        route_of: args.cluster.clone(),
    };
    let force = args.force;
    let title = format!(
        "start reset consumer offset by specified, group[{group}], topic[{topic}], force[{force}], timestamp(string)[{text}], timestamp(long)[{timestamp_ms}]\n"
    );
    let old_title = format!(
        "reset consumer offset by specified consumerGroup[{group}], topic[{topic}], force[{force}], timestamp(string)[{text}], timestamp(long)[{timestamp_ms}]\n"
    );
    run(&reset, session, &title, (&old_title, "#resetOffset")).await
}

async fn reset_one(
    args: &ResetOffsetByTime,
    session: Session,
    broker: &str,
    queue: &MessageQueue,
    timestamp_ms: i64,
) -> Result<(), Failure> {
    let Session { admin, out } = session;
    let (group, topic, text) = (args.group.trim(), &queue.topic, args.timestamp.trim());
    let queue_id = queue.queue_id;
    let offset = match args.offset {
        Some(offset) => offset,
        None if timestamp_ms < 0 => admin.max_offset(broker, queue).await?,
        None => admin.search_offset(broker, queue, timestamp_ms).await?,
    };
    admin
        .reset_offset(broker, group, topic, queue_id, offset)
        .await?;
    if out.is_json() {
        out.json(&json!([{ "broker": broker, "queueId": queue_id, "offset": offset }]))?;
    } else {
        out.text(&format!(
            "start reset consumer offset by specified, group[{group}], topic[{topic}], queueId[{queue_id}], broker[{broker}], timestamp(string)[{text}], timestamp(long)[{timestamp_ms}]\nreset consumer offset to {offset}\n"
        ))?;
    }
    Ok(())
}

#[derive(Debug, clap::Args)]
pub(crate) struct SkipAccumulatedMessage {
    /// Consumer group
    #[arg(short = 'g', long = "group")]
    group: String,
    /// Topic
    #[arg(short = 't', long = "topic")]
    topic: String,
    /// Also where the group has not consumed everything, which is the point of it
    #[arg(short = 'f', long = "force", default_value_t = true, action = clap::ArgAction::Set)]
    force: bool,
    /// Another topic, such as a cluster's name, whose brokers are asked
    #[arg(short = 'c', long = "cluster", value_name = "CLUSTER")]
    cluster: Option<String>,
}

pub(crate) async fn skip(args: &SkipAccumulatedMessage, session: Session) -> Result<(), Failure> {
    let reset = Reset {
        group: args.group.trim().to_owned(),
        topic: args.topic.trim().to_owned(),
        timestamp_ms: -1,
        force: args.force,
        cpp: false,
        route_of: args.cluster.clone(),
    };
    run(&reset, session, "", ("", "#rollbackOffset")).await
}

/// Resets, by the brokers or, where they leave it to members of which there are none, by committing. `old` is title and last column of the
/// table that is printed then.
async fn run(
    reset: &Reset,
    session: Session,
    title: &str,
    old: (&str, &str),
) -> Result<(), Failure> {
    let Session { admin, out } = session;
    let text = match admin.reset_offsets(reset).await {
        Ok(offsets) if out.is_json() => return Ok(out.json(&offsets_json(&offsets))?),
        Ok(offsets) => format!("{title}{}", offsets_table(&offsets)),
        Err(admin::Error::Refused { code, .. }) if code == ResponseCode::CONSUMER_NOT_ONLINE => {
            let done = rolled_back(&admin, reset).await?;
            if out.is_json() {
                return Ok(out.json(&done)?);
            }
            format!("{}{}", old.0, rollback_table(&done, old.1))
        }
        Err(error) => return Err(error.into()),
    };
    Ok(out.text(&text)?)
}

async fn rolled_back(admin: &Admin, reset: &Reset) -> Result<Vec<Rollback>, Failure> {
    Ok(admin.roll_back(reset).await?)
}

fn offsets_json(offsets: &QueueTable<i64>) -> serde_json::Value {
    let queues = offsets.iter().map(|(queue, offset)| {
        json!({ "brokerName": queue.broker_name, "queueId": queue.queue_id, "offset": offset })
    });
    queues.collect()
}

fn offsets_table(offsets: &QueueTable<i64>) -> String {
    let mut text = format!(
        "{:<40}  {:<40}  {:<40}\n",
        "#brokerName", "#queueId", "#offset"
    );
    for (queue, offset) in offsets.iter() {
        let broker = front(&queue.broker_name, 32);
        let _ = writeln!(text, "{broker:<40}  {:<40}  {offset:<40}", queue.queue_id);
    }
    text
}

fn rollback_table(done: &[Rollback], last: &str) -> String {
    let mut text = format!(
        "{:<20}  {:<20}  {:<20}  {:<20}  {:<20}  {last:<20}\n",
        "#brokerName", "#queueId", "#brokerOffset", "#consumerOffset", "#timestampOffset"
    );
    for queue in done {
        let _ = writeln!(
            text,
            "{:<20}  {:<20}  {:<20}  {:<20}  {:<20}  {:<20}",
            front(&queue.broker_name, 32),
            queue.queue_id,
            queue.broker_offset,
            queue.consumer_offset,
            queue.timestamp_offset,
            queue.rollback_offset
        );
    }
    text
}

#[derive(Debug, clap::Args)]
pub(crate) struct CloneGroupOffset {
    /// The group whose offsets are copied
    #[arg(short = 's', long = "srcGroup", value_name = "GROUP")]
    from: String,
    /// The group that takes them over
    #[arg(short = 'd', long = "destGroup", value_name = "GROUP")]
    to: String,
    /// Topic
    #[arg(short = 't', long = "topic")]
    topic: String,
    /// Also when connected members of the first group do not subscribe to the topic
    #[arg(short = 'o', long = "offline", default_value_t = false, action = clap::ArgAction::Set)]
    offline: bool,
}

pub(crate) async fn clone(args: &CloneGroupOffset, session: Session) -> Result<(), Failure> {
    let Session { admin, out } = session;
    let (from, to, topic) = (args.from.trim(), args.to.trim(), args.topic.trim());
    admin.clone_offsets(from, to, topic, args.offline).await?;
    if out.is_json() {
        out.json(&json!({ "srcGroup": from, "destGroup": to, "topic": topic }))?;
    } else {
        out.text(&format!(
            "clone group offset success. srcGroup[{from}], destGroup=[{to}], topic[{topic}]"
        ))?;
    }
    Ok(())
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_mqadmins_columns() {
        let offsets = QueueTable::from_iter([(MessageQueue::new("t", "broker-a", 3), 42)]);
        let line = format!("{:<40}  {:<40}  {:<40}\n", "broker-a", 3, 42);
        assert!(offsets_table(&offsets).ends_with(&line));
        let queue = Rollback {
            broker_name: "broker-a".to_owned(),
            queue_id: 1,
            broker_offset: 9,
            consumer_offset: 8,
            timestamp_offset: 7,
            rollback_offset: 7,
        };
        let table = rollback_table(&[queue], "#resetOffset");
        assert!(
            table.contains("#timestampOffset      #resetOffset"),
            "{table}"
        );
        let words: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(words, ["broker-a", "1", "9", "8", "7", "7"]);
    }
}
