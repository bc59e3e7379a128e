//! The command on clusters: which there are, their brokers, and what those say of themselves.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use protocol::body::ClusterInfo;
use serde_json::json;

use crate::{Failure, Session};

#[derive(Debug, clap::Args)]
pub(crate) struct ClusterList {
    /// Message counts of yesterday and today
    #[arg(short = 'm', long = "moreStats")]
    more: bool,
    /// Print again every so many seconds, until stopped
    #[arg(short = 'i', long = "interval", value_name = "SECONDS")]
    interval: Option<u64>,
    /// Only this cluster
    #[arg(short = 'c', long = "clusterName", value_name = "CLUSTER")]
    cluster: Option<String>,
}

/// A broker with its statistics, when it answered.
struct Row {
    cluster: String,
    broker: String,
    id: i64,
    addr: String,
    stats: Option<BTreeMap<String, String>>,
}

pub(crate) async fn list(args: &ClusterList, session: Session) -> Result<(), Failure> {
    loop {
        let silent = list_once(args, &session).await?;
        let Some(seconds) = args.interval else {
            return match silent {
                0 => Ok(()),
                count => Err(Failure::Other(format!(
                    "{count} of the brokers did not answer"
                ))),
            };
        };
        tokio::time::sleep(Duration::from_secs(seconds.max(1))).await;
    }
}

/// Prints the list and returns how many brokers did not answer.
async fn list_once(args: &ClusterList, session: &Session) -> Result<usize, Failure> {
    let info = session.admin.cluster_info().await?;
    let mut rows = rows_of(&info, args.cluster.as_deref().map(str::trim))?;
    let mut silent = 0;
    for row in &mut rows {
        match session.admin.runtime_info(&row.addr).await {
            Ok(table) => row.stats = Some(table.table.into_iter().collect()),
            Err(error) => {
                silent += 1;
                eprintln!("warning: {error}");
            }
        }
    }
    if session.out.is_json() {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| json!({
                "cluster": row.cluster, "brokerName": row.broker, "brokerId": row.id, "addr": row.addr,
                "runtime": row.stats,
            }))
            .collect();
        session.out.json(&rows)?;
    } else if args.more {
        session.out.text(&totals(&rows))?;
    } else {
        session.out.text(&overview(&rows))?;
    }
    Ok(silent)
}

fn rows_of(info: &ClusterInfo, only: Option<&str>) -> Result<Vec<Row>, Failure> {
    if let Some(cluster) = only
        && !info.cluster_addr_table.contains_key(cluster)
    {
        let known = info.cluster_addr_table.keys().cloned().collect();
        return Err(admin::Error::UnknownCluster {
            cluster: cluster.to_owned(),
            known,
        }
        .into());
    }
    let mut rows = Vec::new();
    for (cluster, names) in &info.cluster_addr_table {
        if only.is_some_and(|only| only != cluster) {
            continue;
        }
        let mut brokers: Vec<_> = names
            .iter()
            .filter_map(|name| info.broker_addr_table.get(name))
            .collect();
        brokers.sort_by(|a, b| a.broker_name.cmp(&b.broker_name));
        for broker in brokers {
            rows.extend(broker.broker_addrs.iter().map(|(id, addr)| Row {
                cluster: cluster.clone(),
                broker: broker.broker_name.clone(),
                id: *id,
                addr: addr.clone(),
                stats: None,
            }));
        }
    }
    Ok(rows)
}

impl Row {
    /// A statistic as Java prints it: `null` when the broker did not send it, nothing when it did not answer.
    fn text(&self, name: &str) -> &str {
        self.stats
            .as_ref()
            .map_or("", |stats| stats.get(name).map_or("null", String::as_str))
    }

    fn text_or<'a>(&'a self, name: &str, other: &'a str) -> &'a str {
        self.stats
            .as_ref()
            .map_or("", |stats| stats.get(name).map_or(other, String::as_str))
    }

    /// The first of the numbers in a statistic, as in `12.5 10.1 9.8`.
    fn number(&self, name: &str) -> f64 {
        let stats = self.stats.as_ref();
        let value = stats
            .and_then(|stats| stats.get(name))
            .and_then(|text| text.split(' ').next());
        value.and_then(|text| text.parse().ok()).unwrap_or(0.0)
    }

    /// How much a counter grew from one statistic to another.
    fn growth(&self, from: &str, to: &str) -> i64 {
        let count = |name| self.stats.as_ref()?.get(name)?.parse::<i64>().ok();
        match (count(from), count(to)) {
            (Some(from), Some(to)) => to - from,
            _ => 0,
        }
    }
}

fn totals(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<16}  {:<32} {:>14} {:>14} {:>14} {:>14}\n",
        "#Cluster Name",
        "#Broker Name",
        "#InTotalYest",
        "#OutTotalYest",
        "#InTotalToday",
        "#OutTotalToday"
    );
    for row in rows {
        let _ = writeln!(
            text,
            "{:<16}  {:<32} {:>14} {:>14} {:>14} {:>14}",
            row.cluster,
            row.broker,
            row.growth("msgPutTotalYesterdayMorning", "msgPutTotalTodayMorning"),
            row.growth("msgGetTotalYesterdayMorning", "msgGetTotalTodayMorning"),
            row.growth("msgPutTotalTodayMorning", "msgPutTotalTodayNow"),
            row.growth("msgGetTotalTodayMorning", "msgGetTotalTodayNow"),
        );
    }
    text
}

fn overview(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<22}  {:<22}  {:<4}  {:<22} {:<16}  {:>16}  {:>30}  {:<22}  {:<11}  {:<12}  {:<8}  {:<10}\n",
        "#Cluster Name",
        "#Broker Name",
        "#BID",
        "#Addr",
        "#Version",
        "#InTPS(LOAD)",
        "#OutTPS(LOAD)",
        "#Timer(Progress)",
        "#PCWait(ms)",
        "#Hour",
        "#SPACE",
        "#ACTIVATED"
    );
    let now_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis() as f64;
    for row in rows {
        let incoming = format!(
            "{:9.2}({},{}ms)",
            row.number("putTps"),
            row.text("sendThreadPoolQueueSize"),
            row.text("sendThreadPoolQueueHeadWaitTimeMills"),
        );
        let outgoing = format!(
            "{:9.2}({},{}ms|{},{}ms)",
            row.number("getTransferredTps"),
            row.text("pullThreadPoolQueueSize"),
            row.text("pullThreadPoolQueueHeadWaitTimeMills"),
            row.text_or("ackThreadPoolQueueSize", "N"),
            row.text_or("ackThreadPoolQueueHeadWaitTimeMills", "N"),
        );
        let timer = format!(
            "{}-{}({:.1}w, {:.1}, {:.1})",
            row.number("timerReadBehind") as i64,
            row.number("timerOffsetBehind") as i64,
            row.number("timerCongestNum") / 10_000.0,
            row.number("timerEnqueueTps"),
            row.number("timerDequeueTps"),
        );
        let earliest_ms = row.number("earliestMessageTimeStamp");
        let hours = if earliest_ms == 0.0 {
            0.0
        } else {
            (now_ms - earliest_ms) / 3_600_000.0
        };
        let active = row.text("brokerActive").eq_ignore_ascii_case("true");
        let _ = writeln!(
            text,
            "{:<22}  {:<22}  {:<4}  {:<22} {:<16}  {incoming:>16}  {outgoing:>30}  {timer:<22}  {:>11}  {:<12}  {:<8}  \
             {:>10}",
            row.cluster,
            row.broker,
            row.id,
            row.addr,
            row.text("brokerVersionDesc"),
            row.text("pageCacheLockTimeMills"),
            format!("{hours:.2}"),
            format!("{:.4}", row.number("commitLogDiskRatio")),
            active,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_looks_as_mqadmin_prints_it() {
        let stats = [
            ("brokerVersionDesc", "V5_3_3"),
            ("putTps", "12.5 10.0 9.0"),
            ("getTransferredTps", "0.0 0.0 0.0"),
            ("sendThreadPoolQueueSize", "0"),
            ("sendThreadPoolQueueHeadWaitTimeMills", "0"),
            ("pullThreadPoolQueueSize", "0"),
            ("pullThreadPoolQueueHeadWaitTimeMills", "0"),
            ("pageCacheLockTimeMills", "0"),
            ("commitLogDiskRatio", "0.25"),
            ("brokerActive", "true"),
            ("msgPutTotalTodayMorning", "5"),
            ("msgPutTotalTodayNow", "12"),
        ];
        let row = Row {
            cluster: "DefaultCluster".to_owned(),
            broker: "broker-a".to_owned(),
            id: 0,
            addr: "127.0.0.1:10911".to_owned(),
            stats: Some(stats.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
        };
        let text = overview(std::slice::from_ref(&row));
        // What Java's format string makes of the same values.
        let want = concat!(
            "DefaultCluster          broker-a                0     127.0.0.1:10911        V5_3_3          ",
            "      12.50(0,0ms)               0.00(0,0ms|N,Nms)  0-0(0.0w, 0.0, 0.0)               0  0.00  ",
            "        0.2500          true",
        );
        assert_eq!(text.lines().nth(1).unwrap(), want);
        assert!(totals(&[row]).ends_with(" 0              0              7              0\n"));
    }
}
