//! Requests that a consumer answers: GET_CONSUMER_RUNNING_INFO (307), CONSUME_MESSAGE_DIRECTLY (309). The broker passes them on over the
//! consumer's own connection. Java 5.3: `AdminBrokerProcessor.callConsumer`.

use std::time::Duration;

use bytes::Bytes;
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::header::FieldMap;
use protocol::headers::{ConsumeMessageDirectlyResultRequest, GetConsumerRunningInfoRequest};
use protocol::message_id;
use remoting::CallError;

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
];

/// How long a consumer has for its answer.
const CONSUMER_TIMEOUT: Duration = Duration::from_secs(10);

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
