//! Commands on topics: create, delete, list, route, status.

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::{ArgAction, ArgGroup};
use protocol::body::{ClusterInfo, TopicConfig, TopicRouteData, TopicStatsTable};
use protocol::topic::{DLQ_PREFIX, RETRY_PREFIX};
use protocol::{perm, sysflag};
use serde_json::json;

use crate::format::{double, fastjson_pretty, front, java_map, local_time, sort_as_java};
use crate::{Failure, Session};

#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("place").required(true).args(["broker", "cluster"])))]
pub(crate) struct UpdateTopic {
    /// Create the topic on this broker
    #[arg(short = 'b', long = "brokerAddr", value_name = "ADDR")]
    broker: Option<String>,
    /// Create the topic on all masters of this cluster
    #[arg(short = 'c', long = "clusterName", value_name = "CLUSTER")]
    cluster: Option<String>,
    /// Topic name
    #[arg(short = 't', long = "topic")]
    topic: String,
    /// Queues that consumers read
    #[arg(
        short = 'r',
        long = "readQueueNums",
        value_name = "COUNT",
        default_value_t = 8
    )]
    read_queues: i32,
    /// Queues that producers write
    #[arg(
        short = 'w',
        long = "writeQueueNums",
        value_name = "COUNT",
        default_value_t = 8
    )]
    write_queues: i32,
    /// Permission: 2 write, 4 read, 6 both
    #[arg(short = 'p', long = "perm", default_value_t = 6)]
    perm: i32,
    /// Whether the topic is ordered: its queues are listed in the name servers
    #[arg(short = 'o', long = "order", value_name = "BOOL", default_value_t = false, action = ArgAction::Set)]
    order: bool,
    /// Whether the topic belongs to a unit
    #[arg(short = 'u', long = "unit", value_name = "BOOL", default_value_t = false, action = ArgAction::Set)]
    unit: bool,
    /// Whether a unit subscribes to the topic
    #[arg(short = 's', long = "hasUnitSub", value_name = "BOOL", default_value_t = false, action = ArgAction::Set)]
    has_unit_sub: bool,
    /// Attributes to change: +key=value,-key
    #[arg(
        short = 'a',
        long = "attributes",
        value_name = "CHANGES",
        allow_hyphen_values = true
    )]
    attributes: Option<String>,
}

pub(crate) async fn update(args: &UpdateTopic, session: Session) -> Result<(), Failure> {
    let config = config_of(args)?;
    let Session { admin, out } = session;
    let brokers = match (&args.broker, &args.cluster) {
        (Some(broker), _) => vec![(String::new(), broker.trim().to_owned())],
        (None, Some(cluster)) => admin.masters_of(cluster.trim()).await?,
        (None, None) => return Err(Failure::Usage("-b or -c is needed".to_owned())),
    };
    if brokers.is_empty() {
        let cluster = args.cluster.as_deref().unwrap_or_default();
        return Err(Failure::Other(format!(
            "cluster {cluster} has no master at present"
        )));
    }
    for (_, addr) in &brokers {
        admin.create_topic(addr, &config).await?;
    }
    let mut text: String = brokers
        .iter()
        .map(|(_, addr)| format!("create topic to {addr} success.\n"))
        .collect();
    if args.order {
        let whole = args.cluster.is_some();
        let names = if whole {
            brokers.iter().map(|(name, _)| name.clone()).collect()
        } else {
            vec![name_of(&admin.cluster_info().await?, &brokers[0].1)?]
        };
        let entries: Vec<String> = names
            .iter()
            .map(|name| format!("{name}:{}", config.write_queue_nums))
            .collect();
        let conf = entries.join(";");
        admin
            .put_order_conf(&config.topic_name, &conf, whole)
            .await?;
        // mqadmin says it last for a cluster, and first for a broker.
        if whole {
            let _ = writeln!(
                text,
                "set cluster orderConf. isOrder=true, orderConf=[{conf}]"
            );
        } else {
            text = format!("set broker orderConf. isOrder=true, orderConf=[{conf}]\n{text}");
        }
    }
    if out.is_json() {
        let addrs: Vec<&String> = brokers.iter().map(|(_, addr)| addr).collect();
        out.json(&json!({ "brokers": addrs, "topicConfig": config }))?;
    } else {
        let _ = writeln!(text, "{}", describe(&config));
        out.text(&text)?;
    }
    Ok(())
}

fn config_of(args: &UpdateTopic) -> Result<TopicConfig, Failure> {
    let mut topic_sys_flag = 0;
    if args.unit {
        topic_sys_flag |= sysflag::TOPIC_UNIT;
    }
    if args.has_unit_sub {
        topic_sys_flag |= sysflag::TOPIC_UNIT_SUB;
    }
    Ok(TopicConfig {
        topic_name: args.topic.trim().to_owned(),
        read_queue_nums: args.read_queues,
        write_queue_nums: args.write_queues,
        perm: args.perm,
        topic_sys_flag,
        order: args.order,
        attributes: attributes_of(args.attributes.as_deref().unwrap_or_default())?,
        ..TopicConfig::default()
    })
}

/// `+key=value,-key` as signed key → value.
fn attributes_of(text: &str) -> Result<BTreeMap<String, String>, Failure> {
    let mut attributes = BTreeMap::new();
    for change in text.trim().split(',').filter(|change| !change.is_empty()) {
        let (key, value) = change.split_once('=').unwrap_or((change, ""));
        let sign = if change.contains('=') { '+' } else { '-' };
        if !key.starts_with(sign) {
            let reason = format!("-a: {change} should be +key=value or -key");
            return Err(Failure::Usage(reason));
        }
        if attributes
            .insert(key.to_owned(), value.to_owned())
            .is_some()
        {
            return Err(Failure::Usage(format!("-a: {key} occurs twice")));
        }
    }
    Ok(attributes)
}

/// The text of Java's `TopicConfig.toString`.
fn describe(config: &TopicConfig) -> String {
    let attributes = config
        .attributes
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()));
    format!(
        "TopicConfig [topicName={}, readQueueNums={}, writeQueueNums={}, perm={}, topicFilterType={}, topicSysFlag={}, \
         order={}, attributes={}]",
        config.topic_name,
        config.read_queue_nums,
        config.write_queue_nums,
        perm::describe(config.perm),
        admin::filter_name(config.topic_filter_type),
        config.topic_sys_flag,
        config.order,
        java_map(attributes, 16),
    )
}

fn name_of(info: &ClusterInfo, addr: &str) -> Result<String, Failure> {
    info.broker_addr_table
        .values()
        .find(|broker| broker.broker_addrs.values().any(|known| known == addr))
        .map(|broker| broker.broker_name.clone())
        .ok_or_else(|| Failure::Other(format!("the name server knows no broker at {addr}")))
}

#[derive(Debug, clap::Args)]
pub(crate) struct DeleteTopic {
    /// Topic name
    #[arg(short = 't', long = "topic")]
    topic: String,
    /// The cluster whose brokers lose the topic
    #[arg(short = 'c', long = "clusterName", value_name = "CLUSTER")]
    cluster: String,
}

pub(crate) async fn delete(args: &DeleteTopic, session: Session) -> Result<(), Failure> {
    let Session { admin, out } = session;
    let (topic, cluster) = (args.topic.trim(), args.cluster.trim());
    let masters = admin.masters_of(cluster).await?;
    for (_, addr) in &masters {
        admin.delete_topic_in_broker(addr, topic).await?;
    }
    let mut text = format!("delete topic [{topic}] from cluster [{cluster}] success.\n");
    admin
        .delete_topic_in_nameservers(topic, Some(cluster))
        .await?;
    let _ = writeln!(text, "delete topic [{topic}] from NameServer success.");
    if out.is_json() {
        let brokers: Vec<&String> = masters.iter().map(|(_, addr)| addr).collect();
        out.json(&json!({ "topic": topic, "cluster": cluster, "brokers": brokers }))?;
    } else {
        out.text(&text)?;
    }
    Ok(())
}

#[derive(Debug, clap::Args)]
pub(crate) struct TopicList {
    /// With the cluster and the consumer groups of each topic
    #[arg(short = 'c', long = "clusterModel")]
    with_clusters: bool,
}

pub(crate) async fn list(args: &TopicList, session: Session) -> Result<(), Failure> {
    let Session { admin, out } = session;
    let info = if args.with_clusters {
        Some(admin.cluster_info().await?)
    } else {
        None
    };
    let mut topics: Vec<String> = admin.topics().await?.topic_list.into_iter().collect();
    let Some(info) = info else {
        if out.is_json() {
            topics.sort();
            out.json(&json!({ "topicList": topics }))?;
        } else {
            sort_as_java(&mut topics, 16, |topic| topic);
            out.text(
                &topics
                    .iter()
                    .map(|topic| format!("{topic}\n"))
                    .collect::<String>(),
            )?;
        }
        return Ok(());
    };
    topics.retain(|topic| !topic.starts_with(RETRY_PREFIX) && !topic.starts_with(DLQ_PREFIX));
    sort_as_java(&mut topics, 16, |topic| topic);
    let mut rows = Vec::new();
    for topic in topics {
        let route = admin.route(&topic).await?;
        let cluster = cluster_of(&route, &info).unwrap_or_default();
        let groups: Vec<String> = admin
            .consumers_of(&topic)
            .await?
            .group_list
            .into_iter()
            .collect();
        rows.push((cluster, topic, groups));
    }
    if out.is_json() {
        let rows: Vec<_> = rows
            .iter()
            .map(|(cluster, topic, groups)| json!({ "cluster": cluster, "topic": topic, "groups": groups }))
            .collect();
        out.json(&rows)?;
        return Ok(());
    }
    let mut text = format!(
        "{:<20}  {:<48}  {:<48}\n",
        "#Cluster Name", "#Topic", "#Consumer Group"
    );
    for (cluster, topic, mut groups) in rows {
        if groups.is_empty() {
            groups.push(String::new());
        }
        for group in groups {
            let (cluster, topic, group) =
                (front(&cluster, 20), front(&topic, 64), front(&group, 64));
            let _ = writeln!(text, "{cluster:<20}  {topic:<64}  {group:<64}");
        }
    }
    out.text(&text)?;
    Ok(())
}

fn cluster_of(route: &TopicRouteData, info: &ClusterInfo) -> Option<String> {
    let broker = &route.broker_datas.first()?.broker_name;
    let found = info
        .cluster_addr_table
        .iter()
        .find(|(_, names)| names.contains(broker));
    found.map(|(cluster, _)| cluster.clone())
}

#[derive(Debug, clap::Args)]
pub(crate) struct TopicRoute {
    /// Topic name
    #[arg(short = 't', long = "topic")]
    topic: String,
    /// Print a table
    #[arg(short = 'l', long = "list")]
    list: bool,
}

pub(crate) async fn route(args: &TopicRoute, session: Session) -> Result<(), Failure> {
    let Session { admin, out } = session;
    let route = admin.route(args.topic.trim()).await?;
    if out.is_json() {
        out.json(&route)?;
    } else if args.list {
        out.text(&route_table(route))?;
    } else {
        let value =
            serde_json::to_value(&route).map_err(|error| Failure::Other(error.to_string()))?;
        out.text(&format!("{}\n", fastjson_pretty(&value)))?;
    }
    Ok(())
}

fn route_table(mut route: TopicRouteData) -> String {
    let row = |cells: [&str; 6]| {
        let [cluster, name, addrs, read, write, perm] = cells;
        format!("{cluster:<45} {name:<32} {addrs:<50} {read:<10} {write:<11} {perm:<5}\n")
    };
    let mut text = row([
        "#ClusterName",
        "#BrokerName",
        "#BrokerAddrs",
        "#ReadQueue",
        "#WriteQueue",
        "#Perm",
    ]);
    let (mut read_queues, mut write_queues) = (0, 0);
    route
        .broker_datas
        .sort_by(|a, b| a.broker_name.cmp(&b.broker_name));
    for broker in &route.broker_datas {
        let queues = route
            .queue_datas
            .iter()
            .find(|queues| queues.broker_name == broker.broker_name);
        let Some(queues) = queues else { continue };
        read_queues += queues.read_queue_nums;
        write_queues += queues.write_queue_nums;
        let addrs: Vec<String> = broker
            .broker_addrs
            .iter()
            .map(|(id, addr)| format!("{id}={addr}"))
            .collect();
        text += &row([
            &broker.cluster,
            &broker.broker_name,
            &format!("{{{}}}", addrs.join(", ")),
            &queues.read_queue_nums.to_string(),
            &queues.write_queue_nums.to_string(),
            &queues.perm.to_string(),
        ]);
    }
    text += &"-".repeat(158);
    text.push('\n');
    let brokers = route.queue_datas.len().to_string();
    text += &row([
        "Total:",
        &brokers,
        "",
        &read_queues.to_string(),
        &write_queues.to_string(),
        "",
    ]);
    text
}

#[derive(Debug, clap::Args)]
pub(crate) struct TopicStatus {
    /// Topic name
    #[arg(short = 't', long = "topic")]
    topic: String,
    /// The cluster, or another topic, whose brokers are asked
    #[arg(short = 'c', long = "cluster", value_name = "CLUSTER")]
    cluster: Option<String>,
}

pub(crate) async fn status(args: &TopicStatus, session: Session) -> Result<(), Failure> {
    let Session { admin, out } = session;
    let stats = admin
        .topic_stats(args.topic.trim(), args.cluster.as_deref().map(str::trim))
        .await?;
    if stats.offset_table.is_empty() && args.cluster.is_none() {
        return Err(Failure::Other("Not found the topic stats info".to_owned()));
    }
    if out.is_json() {
        let queues: Vec<_> = sorted(&stats)
            .into_iter()
            .map(|(queue, offset)| {
                json!({
                    "brokerName": queue.broker_name,
                    "queueId": queue.queue_id,
                    "minOffset": offset.min_offset,
                    "maxOffset": offset.max_offset,
                    "lastUpdateTimestamp": offset.last_update_timestamp,
                })
            })
            .collect();
        out.json(&json!({ "queues": queues, "topicPutTps": stats.topic_put_tps }))?;
    } else {
        out.text(&status_table(&stats))?;
    }
    Ok(())
}

fn sorted(
    stats: &TopicStatsTable,
) -> Vec<(&protocol::body::MessageQueue, &protocol::body::TopicOffset)> {
    let mut queues: Vec<_> = stats.offset_table.iter().collect();
    queues.sort_by(|(a, _), (b, _)| {
        (&a.topic, &a.broker_name, a.queue_id).cmp(&(&b.topic, &b.broker_name, b.queue_id))
    });
    queues
}

fn status_table(stats: &TopicStatsTable) -> String {
    let mut text = format!(
        "{:<32}  {:<4}  {:<20}  {:<20}    #Last Updated\n",
        "#Broker Name", "#QID", "#Min Offset", "#Max Offset"
    );
    for (queue, offset) in sorted(stats) {
        let updated = match offset.last_update_timestamp {
            timestamp if timestamp > 0 => local_time(timestamp),
            _ => String::new(),
        };
        let _ = writeln!(
            text,
            "{:<32}  {:<4}  {:<20}  {:<20}    {updated}",
            front(&queue.broker_name, 32),
            queue.queue_id,
            offset.min_offset,
            offset.max_offset,
        );
    }
    let _ = write!(text, "\nTopic Put TPS: {}\n", double(stats.topic_put_tps));
    text
}
