//! What the name server answers: one table from request code to handler, and the handlers.

use std::borrow::Cow;
use std::sync::Arc;

use protocol::body::{GetBrokerMemberGroupResponseBody, KvTable, TopicList, TopicRouteData};
use protocol::code::{RequestCode, ResponseCode};
use protocol::header::{FieldError, FieldMap, Fields, WriteFields};
use protocol::headers::{
    AddWritePermOfBrokerRequest, AddWritePermOfBrokerResponse, DeleteKVConfigRequest,
    DeleteTopicFromNamesrvRequest, GetBrokerMemberGroupRequest, GetKVConfigRequest,
    GetKVConfigResponse, GetKVListByNamespaceRequest, GetRouteInfoRequest,
    GetTopicsByClusterRequest, PutKVConfigRequest, RegisterTopicRequest,
    WipeWritePermOfBrokerRequest, WipeWritePermOfBrokerResponse,
};
use remoting::Connection;
use serde::Serialize;

use crate::kv::ORDER_TOPIC_CONFIG;
use crate::{NameServer, zone};

mod brokers;

/// A request, from the read loop or copied out of it.
pub(crate) struct Call<'a> {
    pub(crate) fields: Fields<'a>,
    pub(crate) body: &'a [u8],
    pub(crate) version: i32,
    pub(crate) connection: &'a Arc<Connection>,
}

/// A success.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) fields: FieldMap,
    pub(crate) body: Vec<u8>,
}

/// A refusal, with what a person can do about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ResponseCode,
    pub(crate) remark: Option<Cow<'static, str>>,
}

pub(crate) type Handler = fn(&NameServer, &Call<'_>) -> Result<Reply, Refusal>;

/// Where a handler runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In the connection's read loop: memory only, and quick.
    Inline,
    /// As that, unless the body takes long to decode.
    InlineWhenSmall,
    /// On a thread that may wait for the disk.
    Blocking,
}

/// Every request that a name server answers.
const HANDLERS: &[(RequestCode, Kind, Handler)] = &[
    (RequestCode::GET_ROUTEINFO_BY_TOPIC, Kind::Inline, route),
    (
        RequestCode::REGISTER_BROKER,
        Kind::InlineWhenSmall,
        brokers::register,
    ),
    (
        RequestCode::UNREGISTER_BROKER,
        Kind::Inline,
        brokers::unregister,
    ),
    (
        RequestCode::BROKER_HEARTBEAT,
        Kind::Inline,
        brokers::heartbeat,
    ),
    (
        RequestCode::QUERY_DATA_VERSION,
        Kind::Inline,
        brokers::query_data_version,
    ),
    (
        RequestCode::GET_BROKER_MEMBER_GROUP,
        Kind::Inline,
        member_group,
    ),
    (
        RequestCode::GET_BROKER_CLUSTER_INFO,
        Kind::Inline,
        cluster_info,
    ),
    (
        RequestCode::WIPE_WRITE_PERM_OF_BROKER,
        Kind::Inline,
        wipe_write_perm,
    ),
    (
        RequestCode::ADD_WRITE_PERM_OF_BROKER,
        Kind::Inline,
        add_write_perm,
    ),
    (
        RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER,
        Kind::Inline,
        all_topics,
    ),
    (
        RequestCode::DELETE_TOPIC_IN_NAMESRV,
        Kind::Inline,
        delete_topic,
    ),
    (
        RequestCode::REGISTER_TOPIC_IN_NAMESRV,
        Kind::Inline,
        register_topic,
    ),
    (
        RequestCode::GET_TOPICS_BY_CLUSTER,
        Kind::Inline,
        topics_of_cluster,
    ),
    (
        RequestCode::GET_SYSTEM_TOPIC_LIST_FROM_NS,
        Kind::Inline,
        system_topics,
    ),
    (RequestCode::GET_UNIT_TOPIC_LIST, Kind::Inline, unit_topics),
    (
        RequestCode::GET_HAS_UNIT_SUB_TOPIC_LIST,
        Kind::Inline,
        unit_sub_topics,
    ),
    (
        RequestCode::GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST,
        Kind::Inline,
        unit_sub_ununit_topics,
    ),
    (RequestCode::PUT_KV_CONFIG, Kind::Blocking, put_kv),
    (RequestCode::GET_KV_CONFIG, Kind::Inline, get_kv),
    (RequestCode::DELETE_KV_CONFIG, Kind::Blocking, delete_kv),
    (
        RequestCode::GET_KVLIST_BY_NAMESPACE,
        Kind::Inline,
        kv_namespace,
    ),
    (
        RequestCode::UPDATE_NAMESRV_CONFIG,
        Kind::Blocking,
        update_config,
    ),
    (RequestCode::GET_NAMESRV_CONFIG, Kind::Inline, get_config),
];

/// The handler of a request code.
pub(crate) fn find(code: RequestCode) -> Option<(Kind, Handler)> {
    HANDLERS
        .iter()
        .find(|(known, ..)| *known == code)
        .map(|&(_, kind, handler)| (kind, handler))
}

impl Reply {
    fn of(fields: &impl WriteFields) -> Reply {
        Reply {
            fields: FieldMap::of(fields),
            body: Vec::new(),
        }
    }

    fn with_body(self, body: &impl Serialize) -> Reply {
        Reply {
            body: protocol::json::encode(body),
            ..self
        }
    }

    fn json(body: &impl Serialize) -> Reply {
        Reply::default().with_body(body)
    }
}

impl Refusal {
    pub(crate) fn new(code: ResponseCode, remark: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal {
            code,
            remark: Some(remark.into()),
        }
    }

    fn error(remark: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal::new(ResponseCode::SYSTEM_ERROR, remark)
    }
}

impl From<FieldError> for Refusal {
    fn from(error: FieldError) -> Refusal {
        Refusal::error(error.to_string())
    }
}

/// The route of a topic, always in standard JSON.
///
/// Java writes broker ids without quotes, which is not JSON, to clients older than 4.9.4 that do not ask for standard JSON. Every
/// client met so far reads quoted ids, those old Java clients included (fastjson takes both), and some read nothing else. One
/// dialect is therefore both simpler and kinder.
fn route(server: &NameServer, call: &Call<'_>) -> Result<Reply, Refusal> {
    let request: GetRouteInfoRequest = call.fields.read()?;
    let config = server.config();
    if config.need_wait_for_service && server.age_seconds() < config.wait_seconds_for_service {
        return Err(Refusal::error("name server not ready"));
    }
    let Some(mut route) = server
        .read_table()
        .route(&request.topic, server.settings.policy())
    else {
        return Err(Refusal::new(
            ResponseCode::TOPIC_NOT_EXIST,
            no_route(&request.topic),
        ));
    };
    if config.order_message_enable {
        route.order_topic_conf = server.kv.get(ORDER_TOPIC_CONFIG, &request.topic);
    }
    if let Some(zone) = zone::wanted(call.fields) {
        zone::keep(&mut route, &zone);
    }
    Ok(Reply::json(&route))
}

/// Clients match on this text.
fn no_route(topic: &str) -> String {
    format!(
        "No topic route info in name server for the topic: {topic}\n\
         See https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details."
    )
}

fn member_group(server: &NameServer, call: &Call<'_>) -> Result<Reply, Refusal> {
    let request: GetBrokerMemberGroupRequest = call.fields.read()?;
    let group = server
        .read_table()
        .member_group(&request.cluster_name, &request.broker_name);
    Ok(Reply::json(&GetBrokerMemberGroupResponseBody {
        broker_member_group: Some(group),
    }))
}

fn cluster_info(server: &NameServer, _: &Call<'_>) -> Result<Reply, Refusal> {
    Ok(Reply::json(&server.read_table().cluster_info()))
}

fn wipe_write_perm(server: &NameServer, call: &Call<'_>) -> Result<Reply, Refusal> {
    let request: WipeWritePermOfBrokerRequest = call.fields.read()?;
    let wipe_topic_count = server.write_table().wipe_write_perm(&request.broker_name);
    tracing::info!(broker = request.broker_name, wipe_topic_count, peer = %call.connection.peer(), "write permission wiped");
    Ok(Reply::of(&WipeWritePermOfBrokerResponse {
        wipe_topic_count,
    }))
}

fn add_write_perm(server: &NameServer, call: &Call<'_>) -> Result<Reply, Refusal> {
    let request: AddWritePermOfBrokerRequest = call.fields.read()?;
    let add_topic_count = server.write_table().add_write_perm(&request.broker_name);
    tracing::info!(broker = request.broker_name, add_topic_count, peer = %call.connection.peer(), "write permission added");
    Ok(Reply::of(&AddWritePermOfBrokerResponse { add_topic_count }))
}

fn all_topics(server: &NameServer, _: &Call<'_>) -> Result<Reply, Refusal> {
    list_when(server.config().enable_all_topic_list, || {
        server.read_table().all_topics()
    })
}

fn topics_of_cluster(server: &NameServer, call: &Call<'_>) -> Result<Reply, Refusal> {
    let request: GetTopicsByClusterRequest = call.fields.read()?;
    list_when(server.config().enable_topic_list, || {
        server.read_table().topics_of_cluster(&request.cluster)
    })
}

fn system_topics(server: &NameServer, _: &Call<'_>) -> Result<Reply, Refusal> {
    Ok(Reply::json(&server.read_table().system_topics()))
}

fn unit_topics(server: &NameServer, _: &Call<'_>) -> Result<Reply, Refusal> {
    list_when(server.config().enable_topic_list, || {
        server.read_table().unit_topics()
    })
}

fn unit_sub_topics(server: &NameServer, _: &Call<'_>) -> Result<Reply, Refusal> {
    list_when(server.config().enable_topic_list, || {
        server.read_table().unit_sub_topics()
    })
}

fn unit_sub_ununit_topics(server: &NameServer, _: &Call<'_>) -> Result<Reply, Refusal> {
    list_when(server.config().enable_topic_list, || {
        server.read_table().unit_sub_ununit_topics()
    })
}

fn list_when(enabled: bool, list: impl FnOnce() -> TopicList) -> Result<Reply, Refusal> {
    if !enabled {
        return Err(Refusal::error("disable"));
    }
    Ok(Reply::json(&list()))
}

fn delete_topic(server: &NameServer, call: &Call<'_>) -> Result<Reply, Refusal> {
    let request: DeleteTopicFromNamesrvRequest = call.fields.read()?;
    let cluster = request
        .cluster_name
        .as_deref()
        .filter(|name| !name.is_empty());
    server.write_table().delete_topic(&request.topic, cluster);
    Ok(Reply::default())
}

/// A topic that names an unknown broker is ignored without a word, as in Java: the broker registers in full soon.
fn register_topic(server: &NameServer, call: &Call<'_>) -> Result<Reply, Refusal> {
    let request: RegisterTopicRequest = call.fields.read()?;
    let route: TopicRouteData = json(call.body)?;
    if !route.queue_datas.is_empty() {
        server
            .write_table()
            .register_topic(&request.topic, &route.queue_datas);
    }
    Ok(Reply::default())
}

fn put_kv(server: &NameServer, call: &Call<'_>) -> Result<Reply, Refusal> {
    let request: PutKVConfigRequest = call.fields.read()?;
    saved(
        server
            .kv
            .put(&request.namespace, &request.key, &request.value),
    )
}

fn delete_kv(server: &NameServer, call: &Call<'_>) -> Result<Reply, Refusal> {
    let request: DeleteKVConfigRequest = call.fields.read()?;
    saved(server.kv.delete(&request.namespace, &request.key))
}

fn saved(result: std::io::Result<()>) -> Result<Reply, Refusal> {
    result.map(|()| Reply::default()).map_err(|error| {
        tracing::error!(%error, "the key-value configuration cannot be written");
        Refusal::error(format!(
            "the key-value configuration cannot be written: {error}"
        ))
    })
}

fn get_kv(server: &NameServer, call: &Call<'_>) -> Result<Reply, Refusal> {
    let request: GetKVConfigRequest = call.fields.read()?;
    match server.kv.get(&request.namespace, &request.key) {
        Some(value) => Ok(Reply::of(&GetKVConfigResponse { value: Some(value) })),
        None => {
            let remark = format!(
                "No config item, Namespace: {} Key: {}",
                request.namespace, request.key
            );
            Err(Refusal::new(ResponseCode::QUERY_NOT_FOUND, remark))
        }
    }
}

fn kv_namespace(server: &NameServer, call: &Call<'_>) -> Result<Reply, Refusal> {
    let request: GetKVListByNamespaceRequest = call.fields.read()?;
    match server.kv.namespace(&request.namespace) {
        Some(table) => Ok(Reply::json(&KvTable { table })),
        None => {
            let remark = format!("No config item, Namespace: {}", request.namespace);
            Err(Refusal::new(ResponseCode::QUERY_NOT_FOUND, remark))
        }
    }
}

fn update_config(server: &NameServer, call: &Call<'_>) -> Result<Reply, Refusal> {
    if !call.body.is_empty() {
        let text = std::str::from_utf8(call.body)
            .map_err(|_| Refusal::error("the configuration is not UTF-8"))?;
        server.settings.update(text)?;
        tracing::info!(peer = %call.connection.peer(), "configuration updated");
    }
    Ok(Reply::default())
}

fn get_config(server: &NameServer, _: &Call<'_>) -> Result<Reply, Refusal> {
    Ok(Reply {
        body: configuration::KeySet::to_properties(&*server.config()).into_bytes(),
        ..Reply::default()
    })
}

/// A body in JSON, in either dialect.
fn json<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    protocol::json::decode(body)
        .map_err(|error| Refusal::error(format!("the body is not understood: {error}")))
}
