//! UPDATE_AND_CREATE_STATIC_TOPIC (513): a topic, and which of its queues lie here. Java 5.3.4: `AdminBrokerProcessor.updateAndCreateStaticTopic`.

use protocol::body::TopicQueueMappingDetail;
use protocol::code::{RequestCode, ResponseCode};
use protocol::headers::CreateTopicRequest;

use super::topic;
use crate::Broker;
use crate::call::{Call, Entry, Kind, Refusal, Reply};

pub(crate) const HANDLERS: &[Entry] = &[(
    RequestCode::UPDATE_AND_CREATE_STATIC_TOPIC,
    Kind::Blocking,
    update,
)];

fn update(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let header: CreateTopicRequest = call.header()?;
    let mut mapping: TopicQueueMappingDetail = call.json()?;
    let force = header.force;
    if !mapping.topic.is_empty() && mapping.topic != header.topic {
        return Err(Refusal::new(
            ResponseCode::INVALID_PARAMETER,
            format!(
                "the mapping is that of topic {}, the request is about {}",
                mapping.topic, header.topic
            ),
        ));
    }
    mapping.topic.clone_from(&header.topic);
    let name = &broker.identity().name;
    broker.static_topics.check(&mapping, name, force)?;
    let config = topic::config_of(header)?;
    // First the mapping: a topic that were without it for a moment would be taken for one whose numbers are its own.
    topic::check(broker, &config)?;
    broker.static_topics.put(mapping).map_err(|error| {
        Refusal::system_error(format!(
            "the change holds until the broker stops; topicQueueMapping.json cannot be written: {error}"
        ))
    })?;
    topic::put_static(broker, call, config)
}
