//! `consumerStatus`: what consumers tell of their inside.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use protocol::body::{ConsumerRunningInfo, MessageQueue, ProcessQueueInfo};
use protocol::version;
use serde_json::json;

use crate::format::double;
use crate::{Failure, Session};

/// A client with a queue that it has not consumed from for this long, although it holds messages, is named.
const BLOCKED_MS: i64 = 60_000;
/// Members that started later than this may still be about to learn of each other's subscriptions.
const YOUNG_MS: i64 = 120_000;

#[derive(Debug, clap::Args)]
pub(crate) struct ConsumerStatus {
    /// Consumer group
    #[arg(short = 'g', long = "consumerGroup", value_name = "GROUP")]
    group: String,
    /// One member; otherwise what each tells is written to a file of its own, below a directory named after the time
    #[arg(short = 'i', long = "clientId", value_name = "ID")]
    client: Option<String>,
    /// The broker to ask who the members are
    #[arg(short = 'b', long = "brokerAddr", value_name = "ADDR")]
    broker: Option<String>,
    /// With the stacks of its threads
    #[arg(short = 's', long = "jstack")]
    jstack: bool,
}

pub(crate) async fn status(args: &ConsumerStatus, session: Session) -> Result<(), Failure> {
    let Session { admin, out } = session;
    let group = args.group.trim();
    if let Some(client) = args.client.as_deref().map(str::trim) {
        let info = admin.running_info(group, client, args.jstack).await?;
        return if out.is_json() {
            Ok(out.json(&document(&info))?)
        } else {
            Ok(out.text(&page(&info))?)
        };
    }
    let members = match args.broker.as_deref().map(str::trim) {
        Some(broker) => admin.consumer_connection_at(broker, group).await?,
        None => admin.consumer_connection(group).await?,
    };
    let mut infos = BTreeMap::new();
    let now = now_ms();
    let mut text = format!(
        "{:<10} {:<40} {:<20} #ConsumerRunningInfoFile\n",
        "#Index", "#ClientId", "#Version"
    );
    let mut failed = Vec::new();
    for member in members.connection_set {
        let id = member.client_id;
        let info = match admin.running_info(group, &id, args.jstack).await {
            Ok(info) => info,
            Err(error) => {
                failed.push(format!("{id}: {error}"));
                continue;
            }
        };
        if !out.is_json() {
            let file = write_page(now, &id, &info)?;
            let index = infos.len() + 1;
            let version = version::describe(member.version);
            let _ = writeln!(text, "{index:<10} {id:<40} {version:<20} {file}");
        }
        infos.insert(id, info);
    }
    if out.is_json() {
        let infos: BTreeMap<_, _> = infos
            .iter()
            .map(|(id, info)| (id, document(info)))
            .collect();
        out.json(&infos)?;
    } else {
        text.push_str(&verdict(&infos, now));
        out.text(&text)?;
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::Other(failed.join("; ")))
    }
}

/// A client's name is not trusted to be a file's name.
fn write_page(now: i64, id: &str, info: &ConsumerRunningInfo) -> Result<String, Failure> {
    let name: String = id
        .chars()
        .map(|letter| {
            if matches!(letter, '/' | '\\' | '\0') {
                '_'
            } else {
                letter
            }
        })
        .collect();
    let file = format!("{now}/{name}");
    let written = std::fs::create_dir_all(now.to_string())
        .and_then(|()| std::fs::write(Path::new(&file), page(info)));
    written.map_err(|error| Failure::Other(format!("cannot write {file}: {error}")))?;
    Ok(file)
}

/// What mqadmin concludes. Java 5.3.3: `ConsumerRunningInfo.analyzeSubscription`, `analyzeProcessQueue`.
fn verdict(infos: &BTreeMap<String, ConsumerRunningInfo>, now_ms: i64) -> String {
    let Some(first) = infos.values().next() else {
        return String::new();
    };
    let started = first.properties.get("PROP_CONSUMER_START_TIMESTAMP");
    let started_ms: i64 = started.and_then(|text| text.parse().ok()).unwrap_or(now_ms);
    let differ = is_push(first)
        && now_ms - started_ms > YOUNG_MS
        && infos.values().any(|info| topics(info) != topics(first));
    if differ {
        return "\n\nWARN: Different subscription in the same group of consumer!!!".to_owned();
    }
    let mut text =
        "\n\nSame subscription in the same group of consumer\n\nRebalance OK\n".to_owned();
    for (id, info) in infos.iter().filter(|(_, info)| is_push(info)) {
        let orderly = info.properties.get("PROP_CONSUMEORDERLY");
        let in_order = orderly.is_some_and(|orderly| orderly == "true");
        for (queue, held) in info.mq_table.iter() {
            let _ = match complaint(held, in_order, now_ms) {
                Some(complaint) => writeln!(text, "{id} {} {complaint}", describe(queue)),
                None => Ok(()),
            };
        }
    }
    text
}

fn is_push(info: &ConsumerRunningInfo) -> bool {
    let kind = info.properties.get("PROP_CONSUME_TYPE");
    kind.is_some_and(|kind| kind == "CONSUME_PASSIVELY")
}

fn topics(info: &ConsumerRunningInfo) -> BTreeMap<&str, &str> {
    let subscriptions = info.subscription_set.iter();
    subscriptions
        .map(|each| (each.topic.as_str(), each.sub_string.as_str()))
        .collect()
}

fn complaint(held: &ProcessQueueInfo, in_order: bool, now_ms: i64) -> Option<String> {
    if in_order {
        let since = now_ms - held.last_lock_timestamp;
        return (!held.locked).then(|| format!("can't lock for a while, {since}ms"));
    }
    let since = now_ms - held.last_consume_timestamp;
    (since > BLOCKED_MS && held.cached_msg_count > 0)
        .then(|| format!("can't consume for a while, maybe blocked, {since}ms"))
}

fn describe(queue: &MessageQueue) -> String {
    format!(
        "MessageQueue [topic={}, brokerName={}, queueId={}]",
        queue.topic, queue.broker_name, queue.queue_id
    )
}

/// Java 5.3.3: `ConsumerRunningInfo.formatString`.
fn page(info: &ConsumerRunningInfo) -> String {
    let mut text = "#Consumer Properties#\n".to_owned();
    for (name, value) in &info.properties {
        let _ = writeln!(text, "{name:<40}: {value}");
    }
    text.push_str("\n\n#Consumer Subscription#\n");
    for (index, each) in info.subscription_set.iter().enumerate() {
        let _ = writeln!(
            text,
            "{:03} Topic: {:<40} ClassFilter: {:<8} SubExpression: {}",
            index + 1,
            each.topic,
            each.class_filter_mode.to_string(),
            each.sub_string
        );
    }
    let queues = |text: &mut String, title: &str, last: &str, width: usize| {
        let _ = write!(
            text,
            "\n\n#{title}#\n{:<width$}  {:<32}  {:<4}  {last:<20}\n",
            "#Topic", "#Broker Name", "#QID"
        );
    };
    queues(&mut text, "Consumer Offset", "#Consumer Offset", 64);
    for (queue, held) in info.mq_table.iter() {
        let (topic, broker, id) = (&queue.topic, &queue.broker_name, queue.queue_id);
        let _ = writeln!(
            text,
            "{topic:<32}  {broker:<32}  {id:<4}  {:<20}",
            held.commit_offset
        );
    }
    queues(&mut text, "Consumer MQ Detail", "#ProcessQueueInfo", 64);
    for (queue, held) in info.mq_table.iter() {
        let (topic, broker, id) = (&queue.topic, &queue.broker_name, queue.queue_id);
        let _ = writeln!(text, "{topic:<64}  {broker:<32}  {id:<4}  {}", detail(held));
    }
    queues(&mut text, "Consumer Pop Detail", "#ProcessQueueInfo", 32);
    for (queue, held) in info.mq_pop_table.iter() {
        let (topic, broker, id) = (&queue.topic, &queue.broker_name, queue.queue_id);
        let _ = writeln!(
            text,
            "{topic:<32}  {broker:<32}  {id:<4}  PopProcessQueueInfo [waitAckCount:{}, droped:{}, lastPopTimestamp:{}]",
            held.wait_ack_count, held.droped, held.last_pop_timestamp
        );
    }
    push_rates(&mut text, info);
    if !info.user_consumer_info.is_empty() {
        text.push_str("\n\n#User Consume Info#\n");
        for (name, value) in &info.user_consumer_info {
            let _ = writeln!(text, "{name:<40}: {value}");
        }
    }
    if let Some(jstack) = &info.jstack {
        let _ = write!(text, "\n\n#Consumer jstack#\n{jstack}");
    }
    text
}

fn push_rates(text: &mut String, info: &ConsumerRunningInfo) {
    let _ = writeln!(
        text,
        "\n\n#Consumer RT&TPS#\n{:<64}  {:>14} {:>14} {:>14} {:>14} {:>18} {:>25}",
        "#Topic",
        "#Pull RT",
        "#Pull TPS",
        "#Consume RT",
        "#ConsumeOK TPS",
        "#ConsumeFailed TPS",
        "#ConsumeFailedMsgsInHour"
    );
    for (topic, rates) in &info.status_table {
        let _ = writeln!(
            text,
            "{topic:<32}  {:>14.2} {:>14.2} {:>14.2} {:>14.2} {:>18.2} {:>25}",
            rates.pull_rt,
            rates.pull_tps,
            rates.consume_rt,
            rates.consume_ok_tps,
            rates.consume_failed_tps,
            rates.consume_failed_msgs
        );
    }
}

/// Java's `ProcessQueueInfo.toString`.
fn detail(held: &ProcessQueueInfo) -> String {
    format!(
        "ProcessQueueInfo [commitOffset={}, cachedMsgMinOffset={}, cachedMsgMaxOffset={}, cachedMsgCount={}, cachedMsgSizeInMiB={}, \
         transactionMsgMinOffset={}, transactionMsgMaxOffset={}, transactionMsgCount={}, locked={}, tryUnlockTimes={}, \
         lastLockTimestamp={}, droped={}, lastPullTimestamp={}, lastConsumeTimestamp={}]",
        held.commit_offset,
        held.cached_msg_min_offset,
        held.cached_msg_max_offset,
        held.cached_msg_count,
        held.cached_msg_size_in_mi_b,
        held.transaction_msg_min_offset,
        held.transaction_msg_max_offset,
        held.transaction_msg_count,
        held.locked,
        held.try_unlock_times,
        java_time(held.last_lock_timestamp),
        held.droped,
        java_time(held.last_pull_timestamp),
        java_time(held.last_consume_timestamp)
    )
}

/// Java's `UtilAll.timeMillisToHumanString`: digits only.
fn java_time(timestamp_ms: i64) -> String {
    let text = crate::format::local_time(timestamp_ms);
    text.chars().filter(char::is_ascii_digit).collect()
}

fn document(info: &ConsumerRunningInfo) -> serde_json::Value {
    let queues = info.mq_table.iter().map(|(queue, held)| {
        json!({
            "topic": queue.topic,
            "brokerName": queue.broker_name,
            "queueId": queue.queue_id,
            "commitOffset": held.commit_offset,
            "cachedMsgCount": held.cached_msg_count,
            "locked": held.locked,
            "droped": held.droped,
            "lastPullTimestamp": held.last_pull_timestamp,
            "lastConsumeTimestamp": held.last_consume_timestamp,
        })
    });
    let queues: Vec<_> = queues.collect();
    let rates = info.status_table.iter().map(|(topic, rates)| {
        (topic.clone(), json!({ "pullTps": double(rates.pull_tps), "consumeOkTps": double(rates.consume_ok_tps) }))
    });
    let rates: serde_json::Map<_, _> = rates.collect();
    json!({
        "properties": info.properties,
        "subscriptions": topics(info),
        "queues": queues,
        "rates": rates,
        "jstack": info.jstack,
    })
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(orderly: bool, expression: &str) -> ConsumerRunningInfo {
        let mut info = ConsumerRunningInfo::default();
        let properties = [
            ("PROP_CONSUME_TYPE", "CONSUME_PASSIVELY"),
            ("PROP_CONSUMER_START_TIMESTAMP", "1000"),
            (
                "PROP_CONSUMEORDERLY",
                if orderly { "true" } else { "false" },
            ),
        ];
        for (name, value) in properties {
            info.properties.insert(name.to_owned(), value.to_owned());
        }
        info.subscription_set
            .push(protocol::body::SubscriptionData {
                topic: "t".to_owned(),
                sub_string: expression.to_owned(),
                ..Default::default()
            });
        let held = ProcessQueueInfo {
            cached_msg_count: 1,
            ..Default::default()
        };
        info.mq_table.insert(MessageQueue::new("t", "b", 0), held);
        info
    }

    #[test]
    fn members_that_disagree_or_stand_still_are_named() {
        let check = |infos: &[ConsumerRunningInfo], want: &str| {
            let named = infos.iter().cloned().enumerate();
            let infos = named.map(|(n, info)| (n.to_string(), info)).collect();
            let text = verdict(&infos, 1_000_000);
            assert!(text.contains(want), "{text}");
        };
        check(
            &[info(false, "*"), info(false, "a")],
            "Different subscription",
        );
        check(
            &[info(false, "*")],
            "0 MessageQueue [topic=t, brokerName=b, queueId=0] can't consume for a while, maybe blocked, 1000000ms\n",
        );
        check(&[info(true, "*")], "can't lock for a while, 1000000ms\n");
        assert_eq!(verdict(&BTreeMap::new(), 0), "");
    }

    #[test]
    fn the_page_has_all_parts() {
        let mut info = info(false, "*");
        info.jstack = Some("main\n".to_owned());
        let text = page(&info);
        for part in [
            "#Consumer Properties#\nPROP_CONSUMEORDERLY                     : false\n",
            "001 Topic: t                                        ClassFilter: false    SubExpression: *\n",
            "#Consumer Offset#\n",
            "#Consumer MQ Detail#\n",
            "#Consumer RT&TPS#\n",
            "#Consumer jstack#\nmain\n",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
    }
}
