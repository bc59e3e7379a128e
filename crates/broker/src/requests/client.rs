//! HEART_BEAT (34), UNREGISTER_CLIENT (35), GET_CONSUMER_LIST_BY_GROUP (38), CHECK_CLIENT_CONFIG (46), and who is connected (203, 204,
//! 328). Java 5.3: `ClientManageProcessor`, `ConsumerManageProcessor`, `AdminBrokerProcessor`.

use std::sync::Arc;

use protocol::body::{
    self, CheckClientRequestBody, ConsumerConnection, ConsumerData,
    GetConsumerListByGroupResponseBody, HeartbeatData, ProducerConnection, ProducerInfo,
    ProducerTableInfo,
};
use protocol::code::{RequestCode, ResponseCode};
use protocol::headers::{
    self, GetConsumerConnectionListRequest, GetConsumerListByGroupRequest,
    GetProducerConnectionListRequest, UnregisterClientRequest,
};
use protocol::{json, sysflag, topic};
use remoting::Connection;

use crate::Broker;
use crate::call::{Call, Entry, Kind, Refusal, Reply};
use crate::clients::{Client, Consumer};
use crate::filters;
use crate::requests::pull::check::{check_kind, may_filter_by, unreadable};

pub(crate) const HANDLERS: &[Entry] = &[
    (RequestCode::HEART_BEAT, Kind::Inline, heartbeat),
    (RequestCode::UNREGISTER_CLIENT, Kind::Inline, unregister),
    (
        RequestCode::GET_CONSUMER_LIST_BY_GROUP,
        Kind::Inline,
        list_consumers,
    ),
    (RequestCode::CHECK_CLIENT_CONFIG, Kind::Inline, check_config),
    (
        RequestCode::GET_CONSUMER_CONNECTION_LIST,
        Kind::Inline,
        consumer_connections,
    ),
    (
        RequestCode::GET_PRODUCER_CONNECTION_LIST,
        Kind::Inline,
        producer_connections,
    ),
    (
        RequestCode::GET_ALL_PRODUCER_INFO,
        Kind::Inline,
        all_producers,
    ),
];

/// Queues of a retry topic, whatever the group's configuration says.
pub(crate) const RETRY_QUEUES_MAX: i32 = 65_535;

fn heartbeat(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let heartbeat: HeartbeatData = call.json()?;
    if heartbeat.client_id.is_empty() {
        return Err(Refusal::system_error(
            "the heartbeat does not say who its client is: clientID is missing",
        ));
    }
    let client = Client {
        connection_id: call.connection.id(),
        handle: call.connection.clone(),
        client_id: heartbeat.client_id,
        language: call.request.header.language,
        version: call.request.header.version,
        seen_ms: broker.now_ms(),
    };
    let knows_fingerprints = heartbeat.heartbeat_fingerprint != 0;
    let mut subscription_wanted = false;
    let mut filters = Ok(());
    for data in heartbeat.consumer_data_set {
        let with_subscriptions = !(knows_fingerprints && heartbeat.without_sub);
        let fingerprint = heartbeat.heartbeat_fingerprint;
        if with_subscriptions {
            let (group, now_ms) = (&data.group_name, broker.now_ms());
            let subscriptions = &data.subscription_data_set;
            let registered = broker.filters.register(group, subscriptions, now_ms);
            filters = filters.and(registered);
        }
        subscription_wanted |= register_consumer(
            broker,
            client.clone(),
            data,
            with_subscriptions,
            fingerprint,
        )?;
    }
    for data in heartbeat.producer_data_set {
        let registered = broker
            .clients
            .registry()
            .register_producer(&data.group_name, client.clone());
        registered.map_err(|error| Refusal::system_error(error.to_string()))?;
    }
    let mut reply = match filters {
        Ok(()) => Reply::ok(),
        // Everything else that the heartbeat says holds. Java passes over the filter in silence.
        Err(unregistered) if unregistered.is_wrong() => {
            Reply::with(ResponseCode::SUBSCRIPTION_PARSE_FAILED).remark(unregistered.to_string())
        }
        Err(unregistered) => {
            Reply::with(ResponseCode::SYSTEM_ERROR).remark(unregistered.to_string())
        }
    };
    reply
        .fields
        .insert(headers::IS_SUPPORT_HEART_BEAT_V2, "true");
    // To a client without fingerprints Java always says so.
    let changed = !knows_fingerprints || subscription_wanted;
    reply
        .fields
        .insert(headers::IS_SUB_CHANGE, changed.to_string());
    Ok(reply)
}

/// Whether the client must say again what it subscribes to.
fn register_consumer(
    broker: &Broker,
    client: Client<Arc<Connection>>,
    data: ConsumerData,
    with_subscriptions: bool,
    fingerprint: i32,
) -> Result<bool, Refusal> {
    let group = &data.group_name;
    // A group that may not be created is passed over in silence, as in Java: the client's other groups go on.
    let Some(config) = broker
        .groups
        .get_or_create(group, broker.keys().auto_create_subscription_group)
    else {
        return Ok(false);
    };
    // A heartbeat without subscriptions does not say whether one of them is in order.
    let in_order = with_subscriptions.then(|| {
        let mut subscriptions = data.subscription_data_set.iter();
        subscriptions.any(|subscription| {
            let topic = broker.topics.get(&subscription.topic);
            topic.is_some_and(|topic| topic.order)
        })
    });
    let queues = config.retry_queue_nums;
    ensure_retry_topic(broker, group, queues, in_order, data.unit_mode);
    let consumer = Consumer {
        consume_type: data.consume_type,
        message_model: data.message_model,
        from_where: data.consume_from_where,
        subscriptions: with_subscriptions.then_some(data.subscription_data_set),
        fingerprint,
    };
    let client_id = client.client_id.clone();
    let registered = broker
        .clients
        .registry()
        .register_consumer(group, client, consumer);
    let registered = registered.map_err(|error| Refusal::system_error(error.to_string()))?;
    broker.locks.lives(group, &client_id);
    if registered.changed {
        broker.clients.group_changed(broker, group);
    }
    Ok(registered.subscription_wanted)
}

fn ensure_retry_topic(
    broker: &Broker,
    group: &str,
    queues: i32,
    in_order: Option<bool>,
    unit: bool,
) {
    let name = topic::retry_topic(group);
    if let Some(existing) = broker.topics.get(&name) {
        if let Some(in_order) = in_order
            && existing.order != in_order
            && let Some(changed) = broker.topics.set_order(&name, in_order)
        {
            broker.topic_changed(&changed);
        }
        return;
    }
    let queues = queues.clamp(0, RETRY_QUEUES_MAX);
    let config = body::TopicConfig {
        topic_name: name,
        read_queue_nums: queues,
        write_queue_nums: queues,
        order: in_order.unwrap_or(false),
        topic_sys_flag: if unit { sysflag::TOPIC_UNIT_SUB } else { 0 },
        ..body::TopicConfig::default()
    };
    let (created, is_new) = broker.topics.create_if_absent(config);
    if is_new {
        broker.topic_changed(&created);
    }
}

fn unregister(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: UnregisterClientRequest = call.header()?;
    let registry = broker.clients.registry();
    if let Some(group) = header.producer_group {
        registry.unregister_producer(&group, call.connection.id());
    }
    if let Some(group) = header.consumer_group {
        // Its listeners have ended: clients say goodbye behind that.
        broker.locks.left(&group, &header.client_id);
        if registry.unregister_consumer(&group, call.connection.id()) {
            broker.clients.group_changed(broker, &group);
        }
    }
    Ok(Reply::ok())
}

fn list_consumers(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: GetConsumerListByGroupRequest = call.header()?;
    let ids = broker
        .clients
        .consumer_group(&header.consumer_group)
        .map(|group| group.client_ids());
    match ids {
        Some(consumer_id_list) if !consumer_id_list.is_empty() => Ok(Reply::ok().body(
            json::encode(&GetConsumerListByGroupResponseBody { consumer_id_list }),
        )),
        _ => Err(Refusal::system_error(format!(
            "no consumer for this group, {}",
            header.consumer_group
        ))),
    }
}

/// Whether a consumer may subscribe as it is about to.
fn check_config(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let body: CheckClientRequestBody = call.json()?;
    let Some(subscription) = body.subscription_data else {
        return Ok(Reply::ok());
    };
    let kind = &subscription.expression_type;
    if !filters::is_by_tag(kind) {
        may_filter_by(&broker.keys(), kind)?;
        check_kind(kind)?;
        let compiled = broker.filters.compile(&subscription.sub_string);
        compiled.map_err(unreadable)?;
    }
    Ok(Reply::ok())
}

fn connections<'a>(
    clients: impl IntoIterator<Item = &'a Client<Arc<Connection>>>,
) -> Vec<body::Connection> {
    let connection = |client: &Client<Arc<Connection>>| body::Connection {
        client_addr: client.handle.peer().to_string(),
        client_id: client.client_id.clone(),
        language: client.language,
        version: client.version,
    };
    clients.into_iter().map(connection).collect()
}

fn consumer_connections(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: GetConsumerConnectionListRequest = call.header()?;
    let Some(group) = broker.clients.consumer_group(&header.consumer_group) else {
        return Err(Refusal::new(
            ResponseCode::CONSUMER_NOT_ONLINE,
            format!("the consumer group[{}] not online", header.consumer_group),
        ));
    };
    let (consume_type, consume_from_where) = group.way();
    let body = ConsumerConnection {
        connection_set: connections(&group.members()),
        consume_from_where,
        consume_type,
        message_model: group.message_model(),
        subscription_table: group.subscriptions(),
    };
    Ok(Reply::ok().body(json::encode(&body)))
}

fn producer_connections(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: GetProducerConnectionListRequest = call.header()?;
    let Some(members) = broker
        .clients
        .registry()
        .producer_group(&header.producer_group)
    else {
        return Err(Refusal::system_error(format!(
            "the producer group[{}] not exist",
            header.producer_group
        )));
    };
    Ok(Reply::ok().body(json::encode(&ProducerConnection {
        connection_set: connections(&members),
    })))
}

fn all_producers(broker: &Broker, _: &Call<'_>) -> Result<Reply, Refusal> {
    let info = |client: Client<Arc<Connection>>| ProducerInfo {
        client_id: client.client_id,
        language: client.language,
        last_update_timestamp: client.seen_ms,
        // Java prints a socket address, and that begins with a slash.
        remote_ip: format!("/{}", client.handle.peer()),
        version: client.version,
    };
    let groups = broker.clients.registry().all_producers().into_iter();
    let data = groups.map(|(group, members)| (group, members.into_iter().map(info).collect()));
    Ok(Reply::ok().body(json::encode(&ProducerTableInfo {
        data: data.collect(),
    })))
}
