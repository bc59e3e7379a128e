//! Consumer groups: create, change (200, 225), delete (207), list (201), show (352), who consumes what (300, 345), what is forbidden (353).
//! Java 5.3: `AdminBrokerProcessor`.

use std::sync::Arc;

use protocol::body::{
    GroupForbidden, GroupList, QuerySubscriptionResponseBody, SubscriptionGroupConfig,
    SubscriptionGroupList,
};
use protocol::code::{RequestCode, ResponseCode};
use protocol::headers::{
    DeleteSubscriptionGroupRequest, GetAllSubscriptionGroupResponse,
    GetSubscriptionGroupConfigRequest, QuerySubscriptionByConsumerRequest,
    QueryTopicConsumeByWhoRequest, UpdateGroupForbiddenRequest,
};
use protocol::{json, topic};

use crate::Broker;
use crate::call::{Call, Entry, Kind, Refusal, Reply};

pub(crate) const HANDLERS: &[Entry] = &[
    (
        RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP,
        Kind::Blocking,
        update,
    ),
    (
        RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST,
        Kind::Blocking,
        update_list,
    ),
    (
        RequestCode::DELETE_SUBSCRIPTIONGROUP,
        Kind::Blocking,
        delete,
    ),
    (
        RequestCode::GET_ALL_SUBSCRIPTIONGROUP_CONFIG,
        Kind::Blocking,
        all,
    ),
    (RequestCode::GET_SUBSCRIPTIONGROUP_CONFIG, Kind::Inline, one),
    (
        RequestCode::QUERY_TOPIC_CONSUME_BY_WHO,
        Kind::Inline,
        who_consumes,
    ),
    (
        RequestCode::QUERY_SUBSCRIPTION_BY_CONSUMER,
        Kind::Inline,
        subscription,
    ),
    (
        RequestCode::UPDATE_AND_GET_GROUP_FORBIDDEN,
        Kind::Blocking,
        forbidden,
    ),
];

fn update(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    apply(broker, call, vec![call.json()?])
}

fn update_list(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let body: SubscriptionGroupList = call.json()?;
    apply(broker, call, body.group_config_list)
}

/// Creates or changes groups: the names of all are checked before the first is touched.
fn apply(
    broker: &Broker,
    call: &Call<'_>,
    configs: Vec<SubscriptionGroupConfig>,
) -> Result<Reply, Refusal> {
    for config in &configs {
        topic::check_group(&config.group_name)
            .map_err(|error| Refusal::new(ResponseCode::INVALID_PARAMETER, error.to_string()))?;
    }
    for config in configs {
        tracing::info!(group = config.group_name, by = %call.connection.peer(), "a consumer group was created or changed");
        broker
            .groups
            .update(config)
            .map_err(|error| Refusal::system_error(error.to_string()))?;
    }
    save(broker)?;
    Ok(Reply::ok())
}

fn save(broker: &Broker) -> Result<(), Refusal> {
    broker.groups.commit().map_err(|error| {
        Refusal::system_error(format!(
            "the change holds until the broker stops; neither subscriptionGroup.journal nor subscriptionGroup.json can be written: {error}"
        ))
    })
}

fn delete(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: DeleteSubscriptionGroupRequest = call.header()?;
    if broker.groups.delete(&header.group_name) {
        tracing::info!(group = header.group_name, by = %call.connection.peer(), "a consumer group was deleted");
    }
    broker.stats.delete_group(&header.group_name);
    broker.pop.forget(Some(&header.group_name), None);
    if header.clean_offset {
        broker.offsets.delete_group(&header.group_name);
        broker.offsets.commit_deletions().map_err(|error| {
            Refusal::system_error(format!(
                "neither consumerOffset.journal nor consumerOffset.json can be written: {error}"
            ))
        })?;
    }
    save(broker)?;
    Ok(Reply::ok())
}

/// All groups at once: Java's paging is for those who ask for it, and off by default (`enableSplitMetadata`).
fn all(broker: &Broker, _: &Call<'_>) -> Result<Reply, Refusal> {
    let body = broker.groups.snapshot();
    let header = GetAllSubscriptionGroupResponse {
        total_group_num: body.subscription_group_table.len() as i32,
    };
    Ok(Reply::ok().header(&header).body(json::encode(&body)))
}

fn one(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: GetSubscriptionGroupConfigRequest = call.header()?;
    match broker
        .groups
        .get_or_create(&header.group, broker.keys().auto_create_subscription_group)
    {
        Some(config) => Ok(Reply::ok().body(json::encode(&*config))),
        None => Err(Refusal::new(
            ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
            "No group in this broker",
        )),
    }
}

fn who_consumes(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: QueryTopicConsumeByWhoRequest = call.header()?;
    let mut group_list = broker
        .clients
        .registry()
        .groups_subscribed_to(&header.topic);
    group_list.append(&mut broker.offsets.groups_of(&header.topic));
    Ok(Reply::ok().body(json::encode(&GroupList { group_list })))
}

fn subscription(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: QuerySubscriptionByConsumerRequest = call.header()?;
    let topic = header.topic.unwrap_or_default();
    let group = broker.clients.consumer_group(&header.group);
    let subscription = group
        .and_then(|group| group.subscription(&topic))
        .map(Arc::unwrap_or_clone);
    let body = QuerySubscriptionResponseBody {
        group: header.group,
        subscription_data: subscription,
        topic,
    };
    Ok(Reply::ok().body(json::encode(&body)))
}

fn forbidden(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: UpdateGroupForbiddenRequest = call.header()?;
    if let Some(readable) = header.readable {
        broker
            .groups
            .set_may_read(&header.group, &header.topic, readable);
        save(broker)?;
    }
    let readable = Some(broker.groups.may_read(&header.group, &header.topic));
    let body = GroupForbidden {
        group: header.group,
        readable,
        topic: header.topic,
    };
    Ok(Reply::ok().body(json::encode(&body)))
}
