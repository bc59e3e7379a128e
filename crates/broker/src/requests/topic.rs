//! Topics: create, change (17, 18), delete (215), list (21, 305, 343), show (351). Java 5.3: `AdminBrokerProcessor`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use protocol::body::{
    CreateTopicListRequestBody, TopicConfig, TopicConfigAndMappingSerializeWrapper,
    TopicConfigAndQueueMapping, TopicFilterType, TopicList,
};
use protocol::code::{RequestCode, ResponseCode};
use protocol::headers::{
    CreateTopicRequest, DeleteTopicRequest, GetAllTopicConfigResponse, GetTopicConfigRequest,
    QueryTopicsByConsumerRequest,
};
use protocol::{json, topic};

use crate::Broker;
use crate::call::{Call, Entry, Kind, Refusal, Reply};
use crate::topics::{AttributeError, is_batch, parse_attributes};

pub(crate) const HANDLERS: &[Entry] = &[
    (RequestCode::UPDATE_AND_CREATE_TOPIC, Kind::Blocking, update),
    (
        RequestCode::UPDATE_AND_CREATE_TOPIC_LIST,
        Kind::Blocking,
        update_list,
    ),
    (RequestCode::DELETE_TOPIC_IN_BROKER, Kind::Blocking, delete),
    (RequestCode::GET_ALL_TOPIC_CONFIG, Kind::Blocking, all),
    (RequestCode::GET_TOPIC_CONFIG, Kind::Inline, one),
    (
        RequestCode::GET_SYSTEM_TOPIC_LIST_FROM_BROKER,
        Kind::Inline,
        system,
    ),
    (
        RequestCode::QUERY_TOPICS_BY_CONSUMER,
        Kind::Inline,
        of_group,
    ),
];

/// Queues that a topic may have. Each costs an entry in every answer about the topic.
const QUEUES_MAX: i32 = 65_535;
/// How long an answer waits for the name servers to hear of the change.
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(3);

impl From<AttributeError> for Refusal {
    fn from(error: AttributeError) -> Refusal {
        Refusal::system_error(error.to_string())
    }
}

fn update(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let config = config_of(call.header()?)?;
    apply(broker, call, vec![config])
}

/// The topic that a request describes.
pub(super) fn config_of(header: CreateTopicRequest) -> Result<TopicConfig, Refusal> {
    let topic_filter_type = match header.topic_filter_type.as_str() {
        "SINGLE_TAG" => TopicFilterType::SingleTag,
        "MULTI_TAG" => TopicFilterType::MultiTag,
        other => {
            return Err(Refusal::system_error(format!(
                "topicFilterType = [{other}] value invalid"
            )));
        }
    };
    Ok(TopicConfig {
        topic_name: header.topic,
        read_queue_nums: header.read_queue_nums,
        write_queue_nums: header.write_queue_nums,
        perm: header.perm,
        topic_filter_type,
        topic_sys_flag: header.topic_sys_flag.unwrap_or(0),
        order: header.order,
        attributes: parse_attributes(header.attributes.as_deref().unwrap_or(""))?,
    })
}

fn update_list(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let body: CreateTopicListRequestBody = call.json()?;
    apply(broker, call, body.topic_config_list)
}

/// Creates or changes topics: all are checked before the first is touched.
fn apply(broker: &Broker, call: &Call<'_>, configs: Vec<TopicConfig>) -> Result<Reply, Refusal> {
    for config in &configs {
        check(broker, config)?;
    }
    let mut changed = Vec::new();
    for config in configs {
        // A light queue is what its name says.
        if broker.topics.is_light(&config.topic_name) {
            continue;
        }
        let (config, is_change) = broker.topics.update(config)?;
        if is_batch(&config) && !broker.store.make_batch_topic(&config.topic_name) {
            tracing::warn!(
                topic = config.topic_name,
                "the topic has messages from before it had queue.type=BatchCQ; batches are stored as single messages"
            );
        }
        if is_change {
            tracing::info!(
                topic = config.topic_name, read = config.read_queue_nums, write = config.write_queue_nums, perm = config.perm,
                by = %call.connection.peer(), "a topic was created or changed"
            );
            changed.push(config);
        }
    }
    if changed.is_empty() {
        return Ok(Reply::ok());
    }
    save(broker)?;
    for config in &changed {
        broker.topic_changed(config);
    }
    broker.wait_for_registration(REGISTRATION_TIMEOUT);
    Ok(Reply::ok())
}

/// Creates or changes a topic whose mapping was put before; name servers hear of it also when only that changed.
pub(super) fn put_static(
    broker: &Broker,
    call: &Call<'_>,
    config: TopicConfig,
) -> Result<Reply, Refusal> {
    let (config, is_change) = broker.topics.update(config)?;
    if is_change {
        save(broker)?;
    } else {
        broker.topics.renew_version();
    }
    tracing::info!(
        topic = config.topic_name, read = config.read_queue_nums, write = config.write_queue_nums,
        by = %call.connection.peer(), "a static topic was created or changed"
    );
    broker.topic_changed(&config);
    broker.wait_for_registration(REGISTRATION_TIMEOUT);
    Ok(Reply::ok())
}

fn save(broker: &Broker) -> Result<(), Refusal> {
    broker.topics.commit().map_err(|error| {
        Refusal::system_error(format!(
            "the change holds until the broker stops; neither topics.journal nor topics.json can be written: {error}"
        ))
    })
}

pub(super) fn check(broker: &Broker, config: &TopicConfig) -> Result<(), Refusal> {
    let invalid = |remark: String| Refusal::new(ResponseCode::INVALID_PARAMETER, remark);
    topic::check_topic(&config.topic_name).map_err(|error| invalid(error.to_string()))?;
    check_not_system(broker, &config.topic_name)?;
    for (what, queues) in [
        ("readQueueNums", config.read_queue_nums),
        ("writeQueueNums", config.write_queue_nums),
    ] {
        if !(0..=QUEUES_MAX).contains(&queues) {
            return Err(invalid(format!(
                "{what}={queues} must be within 0..={QUEUES_MAX}"
            )));
        }
    }
    if config
        .attributes
        .get("+message.type")
        .is_some_and(|kind| kind == "MIXED")
    {
        return Err(invalid("MIXED message type is not supported.".to_owned()));
    }
    let asks_for = |name: &str, value: &str| {
        let asked = config.attributes.get(name);
        asked.is_some_and(|asked| asked == value)
    };
    if asks_for("+queue.type", "BatchCQ") && asks_for("+cleanup.policy", "COMPACTION") {
        return Err(invalid(
            "a topic cannot have both queue.type=BatchCQ and cleanup.policy=COMPACTION: a record that holds several messages has no one key".to_owned(),
        ));
    }
    Ok(())
}

fn check_not_system(broker: &Broker, name: &str) -> Result<(), Refusal> {
    if !is_system(broker, name) {
        return Ok(());
    }
    Err(Refusal::new(
        ResponseCode::INVALID_PARAMETER,
        format!("The topic[{name}] is conflict with system topic."),
    ))
}

/// Besides the names that are reserved everywhere, those that this broker needs for itself.
fn is_system(broker: &Broker, name: &str) -> bool {
    topic::is_system(name) || own_topics(broker).iter().any(|own| own == name)
}

/// Java 5.3.4: `TopicConfigManager.init`, which adds them to `TopicValidator`.
fn own_topics(broker: &Broker) -> Vec<String> {
    let identity = broker.identity();
    let mut own = vec![
        identity.cluster.to_string(),
        identity.name.to_string(),
        topic::reply_topic(&identity.cluster),
    ];
    let keys = broker.keys();
    if keys.trace_topic_enable {
        own.push(keys.msg_trace_topic_name.clone());
    }
    own
}

fn delete(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: DeleteTopicRequest = call.header()?;
    let name = header.topic;
    if name.trim().is_empty() {
        return Err(Refusal::new(
            ResponseCode::INVALID_PARAMETER,
            "The specified topic is blank.",
        ));
    }
    check_not_system(broker, &name)?;
    let mut names = vec![name.clone()];
    // Retry topics of POP consumption, in both of Java's spellings.
    for group in broker.offsets.groups_of(&name) {
        let retries = [
            format!("%RETRY%{group}+{name}"),
            format!("%RETRY%{group}_{name}"),
        ];
        names.extend(
            retries
                .into_iter()
                .filter(|retry| broker.topics.get(retry).is_some()),
        );
    }
    let mut existed = false;
    for name in &names {
        existed |= broker.topics.delete(name);
        broker.pop.forget(None, Some(name));
        broker.offsets.delete_topic(name);
        broker.stats.delete_topic(name);
    }
    // The tables forget a topic before its data goes: the other way round a crash would leave a topic whose offsets
    // point beyond its queues.
    save(broker)?;
    broker.offsets.commit_deletions().map_err(|error| {
        Refusal::system_error(format!(
            "the topic is deleted, but neither consumerOffset.journal nor consumerOffset.json can be written: {error}"
        ))
    })?;
    for name in &names {
        broker.store.delete_topic(name);
        broker.static_topics.delete(name).map_err(|error| {
            Refusal::system_error(format!(
                "the topic is deleted, but topicQueueMapping.json cannot be written: {error}"
            ))
        })?;
    }
    if existed {
        tracing::info!(topic = name, by = %call.connection.peer(), "a topic was deleted");
        broker.topics_deleted();
        broker.wait_for_registration(REGISTRATION_TIMEOUT);
    }
    Ok(Reply::ok())
}

/// All topics at once: Java's paging is for those who ask for it, and off by default (`enableSplitMetadata`).
fn all(broker: &Broker, _: &Call<'_>) -> Result<Reply, Refusal> {
    let snapshot = broker.topics.snapshot();
    let header = GetAllTopicConfigResponse {
        total_topic_num: snapshot.topic_config_table.len() as i32,
    };
    let mappings = broker.static_topics.snapshot();
    let details = mappings.topic_queue_mapping_info_map;
    let infos = details.keys().filter_map(|topic| {
        let info = broker.static_topics.info(topic)?;
        Some((topic.clone(), info))
    });
    let body = TopicConfigAndMappingSerializeWrapper {
        topic_queue_mapping_info_map: infos.collect(),
        topic_queue_mapping_detail_map: details,
        mapping_data_version: mappings.data_version,
        data_version: snapshot.data_version,
        topic_config_table: snapshot.topic_config_table,
    };
    Ok(Reply::ok().header(&header).body(json::encode(&body)))
}

fn one(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: GetTopicConfigRequest = call.header()?;
    let Some(config) = broker.topics.get(&header.topic) else {
        return Err(Refusal::new(
            ResponseCode::TOPIC_NOT_EXIST,
            format!("No topic in this broker. topic: {}", header.topic),
        ));
    };
    let config = Arc::unwrap_or_clone(config);
    let mapping = broker.static_topics.get(&config.topic_name);
    let body = TopicConfigAndQueueMapping {
        attributes: config.attributes,
        mapping_detail: mapping.map(Arc::unwrap_or_clone),
        order: config.order,
        perm: config.perm,
        read_queue_nums: config.read_queue_nums,
        topic_filter_type: config.topic_filter_type,
        topic_name: config.topic_name,
        topic_sys_flag: config.topic_sys_flag,
        write_queue_nums: config.write_queue_nums,
    };
    Ok(Reply::ok().body(json::encode(&body)))
}

fn system(broker: &Broker, _: &Call<'_>) -> Result<Reply, Refusal> {
    let reserved = topic::SYSTEM.iter().map(|name| (*name).to_owned());
    let prefixed = broker
        .topics
        .all()
        .into_iter()
        .map(|config| config.topic_name.clone());
    let topic_list: BTreeSet<String> = reserved
        .chain(own_topics(broker))
        .chain(prefixed.filter(|name| topic::is_system(name)))
        .collect();
    Ok(Reply::ok().body(json::encode(&TopicList {
        topic_list,
        broker_addr: None,
    })))
}

fn of_group(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: QueryTopicsByConsumerRequest = call.header()?;
    let body = TopicList {
        topic_list: broker.offsets.topics_of(&header.group),
        broker_addr: Some(broker.identity().advertised.to_string()),
    };
    Ok(Reply::ok().body(json::encode(&body)))
}
