//! Requests that consumers answer: GET_CONSUMER_RUNNING_INFO (307), CONSUME_MESSAGE_DIRECTLY (309), and
//! INVOKE_BROKER_TO_GET_CONSUMER_STATUS (223), for which each is asked 221. The broker passes them on over the consumers' own
//! connections. Java 5.3: `AdminBrokerProcessor.callConsumer`, `Broker2Client.getConsumeStatus`.

use std::time::Duration;

use bytes::Bytes;
use protocol::body::GetConsumerStatusBody;
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::header::FieldMap;
use protocol::headers::{
    ConsumeMessageDirectlyResultRequest, GetConsumerRunningInfoRequest, GetConsumerStatusRequest,
};
use protocol::{json, message_id, version};
use remoting::CallError;
use tokio::task::JoinSet;

use crate::Broker;
use crate::call::{Call, Entry, Kind, Refusal, Reply};

pub(crate) const HANDLERS: &[Entry] = &[
    (
        RequestCode::GET_CONSUMER_RUNNING_INFO,
        Kind::Blocking,
        running_info,
    ),
    (
        RequestCode::CONSUME_MESSAGE_DIRECTLY,
        Kind::Blocking,
        consume_directly,
    ),
    (
        RequestCode::INVOKE_BROKER_TO_GET_CONSUMER_STATUS,
        Kind::Blocking,
        status,
    ),
];

/// How long a consumer has for its answer.
const CONSUMER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long consumers have to tell their offsets. All are asked at once.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Consumers that are asked for their offsets at once.
const ASKED_AT_ONCE: usize = 64;

fn running_info(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: GetConsumerRunningInfoRequest = call.header()?;
    let fields = call.request.header.fields.to_map();
    let request = RequestCode::GET_CONSUMER_RUNNING_INFO;
    pass_on(
        broker,
        request,
        fields,
        Bytes::new(),
        &header.consumer_group,
        &header.client_id,
    )
}

/// A consumer is given one message again, and says what it made of it.
fn consume_directly(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: ConsumeMessageDirectlyResultRequest = call.header()?;
    let mut fields = call.request.header.fields.to_map();
    fields.insert("brokerName", &*broker.identity().name);
    if let Some(topic) = header
        .topic
        .as_deref()
        .and_then(|topic| broker.topics.get(topic))
    {
        fields.insert("topicSysFlag", topic.topic_sys_flag.to_string());
    }
    if let Some(group) = broker.groups.get(&header.consumer_group) {
        fields.insert("groupSysFlag", group.group_sys_flag.to_string());
    }
    let id = header.msg_id.as_deref().unwrap_or("");
    let Some((_, physical)) = message_id::decode_offset_id(id) else {
        return Err(Refusal::system_error(format!("{id} is no message id")));
    };
    let record = broker
        .store
        .record_at(physical)
        .map_err(|error| Refusal::system_error(error.to_string()))?;
    let record = record
        .ok_or_else(|| Refusal::system_error(format!("can not find message by the id, {id}")))?;
    let client_id = header.client_id.as_deref().unwrap_or("");
    let request = RequestCode::CONSUME_MESSAGE_DIRECTLY;
    pass_on(
        broker,
        request,
        fields,
        record,
        &header.consumer_group,
        client_id,
    )
}

fn pass_on(
    broker: &Broker,
    request: RequestCode,
    fields: FieldMap,
    body: Bytes,
    group: &str,
    client_id: &str,
) -> Result<Reply, Refusal> {
    let Some(consumer) = broker.clients.registry().consumer(group, client_id) else {
        return Err(Refusal::system_error(format!(
            "The Consumer <{group}> <{client_id}> not online"
        )));
    };
    if consumer.version < version::V3_1_8_SNAPSHOT {
        return Err(Refusal::system_error(format!(
            "The Consumer <{client_id}> Version <{}> too low to finish, please upgrade it to V3_1_8_SNAPSHOT",
            version::describe(consumer.version)
        )));
    }
    let command = Command::request(request, &fields).with_body(body);
    match broker
        .runtime
        .block_on(consumer.handle.call(command, CONSUMER_TIMEOUT))
    {
        Ok(answer) => Ok(Reply {
            code: answer.response_code(),
            remark: answer.remark.map(Into::into),
            fields: answer.fields,
            body: answer.body,
        }),
        Err(error @ CallError::Timeout { .. }) => Err(Refusal::new(
            ResponseCode::CONSUME_MSG_TIMEOUT,
            format!("consumer <{group}> <{client_id}> Timeout: {error}"),
        )),
        Err(error) => Err(Refusal::system_error(format!(
            "invoke consumer <{group}> <{client_id}> Exception: {error}"
        ))),
    }
}

/// Where the members of a group are by their own account, or the one that the request names. Who does not answer is left out.
fn status(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: GetConsumerStatusRequest = call.header()?;
    let (group, topic) = (header.group.as_str(), header.topic.as_str());
    let asked = header.client_addr.as_deref().unwrap_or("").trim();
    let members = broker.clients.consumer_group(group);
    let mut members = members.map(|group| group.members()).unwrap_or_default();
    if members.is_empty() {
        return Err(Refusal::system_error(format!(
            "No Any Consumer online in the consumer group: [{group}]"
        )));
    }
    members.retain(|member| asked.is_empty() || member.client_id == asked);
    if let Some(old) = members
        .iter()
        .find(|member| member.version < version::V3_0_7_SNAPSHOT)
    {
        return Err(Refusal::system_error(format!(
            "the client does not support this feature. version={}",
            version::describe(old.version)
        )));
    }
    let question = GetConsumerStatusRequest {
        topic: topic.to_owned(),
        group: group.to_owned(),
        client_addr: None,
    };
    let question = Command::request(RequestCode::GET_CONSUMER_STATUS_FROM_CLIENT, &question);
    let mut body = GetConsumerStatusBody::default();
    for some in members.chunks(ASKED_AT_ONCE) {
        let mut asked = JoinSet::new();
        for member in some.iter().cloned() {
            let question = question.clone();
            let ask = async move {
                let answer = member.handle.call(question, STATUS_TIMEOUT).await;
                (member.client_id, answer)
            };
            asked.spawn_on(ask, &broker.runtime);
        }
        while let Some(answered) = broker.runtime.block_on(asked.join_next()) {
            // A task that panicked was reported where it did.
            let Ok((client_id, answer)) = answered else {
                continue;
            };
            match offsets_in(answer) {
                Ok(told) => drop(
                    body.consumer_table
                        .insert(client_id, told.message_queue_table),
                ),
                Err(reason) => {
                    tracing::warn!(
                        group,
                        topic,
                        client_id,
                        reason,
                        "a consumer does not tell its offsets"
                    );
                }
            }
        }
    }
    Ok(Reply::ok().body(json::encode(&body)))
}

fn offsets_in(answer: Result<Command, CallError>) -> Result<GetConsumerStatusBody, String> {
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.response_code() != ResponseCode::SUCCESS {
        let remark = answer.remark.unwrap_or_default();
        return Err(format!("{} {remark}", answer.code));
    }
    json::decode(&answer.body).map_err(|error| error.to_string())
}
