//! QUERY_ASSIGNMENT (400): the broker shares a topic's queues among the members of a group, and says whether they pull or pop;
//! SET_MESSAGE_REQUEST_MODE (401) and GET_ALL_MESSAGE_REQUEST_MODE (402). Java 5.3: `QueryAssignmentProcessor`.

use std::collections::BTreeSet;
use std::time::Duration;

use protocol::body::{
    MessageModel, MessageQueue, MessageQueueAssignment, MessageRequestMode,
    QueryAssignmentRequestBody, QueryAssignmentResponseBody, SetMessageRequestModeRequestBody,
    TopicRouteData,
};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::GetRouteInfoRequest;
use protocol::{json, perm, topic};

use crate::Broker;
use crate::call::{Call, Entry, Kind, Refusal, Reply};
use crate::registration;

pub(crate) const HANDLERS: &[Entry] = &[
    (RequestCode::QUERY_ASSIGNMENT, Kind::Blocking, query),
    (RequestCode::SET_MESSAGE_REQUEST_MODE, Kind::Blocking, set),
    (
        RequestCode::GET_ALL_MESSAGE_REQUEST_MODE,
        Kind::Blocking,
        all,
    ),
];

/// How long a name server has for the route. Clients wait three seconds for the assignment.
const ROUTE_TIMEOUT: Duration = Duration::from_secs(2);

fn query(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let body: QueryAssignmentRequestBody = call.json()?;
    let mode = mode_of(broker, &body.topic, &body.consumer_group);
    let Some(shared) = share(broker, &body, &mode) else {
        // Without the list clients keep the queues that they have.
        return Ok(Reply::ok().body("{}"));
    };
    let assignments = shared
        .into_iter()
        .map(|message_queue| MessageQueueAssignment {
            attachments: None,
            message_queue,
            mode: mode.mode,
        });
    Ok(Reply::ok().body(json::encode(&QueryAssignmentResponseBody {
        message_queue_assignments: assignments.collect(),
    })))
}

fn mode_of(broker: &Broker, topic: &str, group: &str) -> SetMessageRequestModeRequestBody {
    if let Some(mode) = broker.request_modes.get(topic, group) {
        return mode;
    }
    let keys = broker.keys();
    // Retry topics of pulling consumers are pulled, whatever the default.
    let pops =
        keys.default_message_request_mode == "POP" && !topic.starts_with(topic::RETRY_PREFIX);
    SetMessageRequestModeRequestBody {
        consumer_group: group.to_owned(),
        mode: if pops {
            MessageRequestMode::Pop
        } else {
            MessageRequestMode::Pull
        },
        pop_share_queue_num: if pops {
            keys.default_pop_share_queue_num
        } else {
            0
        },
        topic: topic.to_owned(),
    }
}

/// The queues of one member; none when they cannot be told.
fn share(
    broker: &Broker,
    body: &QueryAssignmentRequestBody,
    mode: &SetMessageRequestModeRequestBody,
) -> Option<BTreeSet<MessageQueue>> {
    let queues = queues(broker, &body.topic)?;
    if body.message_model == MessageModel::Broadcasting
        || !broker.keys().server_load_balancer_enable
    {
        return Some(queues.into_iter().collect());
    }
    let mut members = broker
        .clients
        .consumer_group(&body.consumer_group)?
        .client_ids();
    members.sort_unstable();
    let allocate = match body.strategy_name.as_str() {
        "AVG" => averagely,
        "AVG_BY_CIRCLE" => by_circle,
        other => {
            tracing::warn!(
                strategy = other,
                group = body.consumer_group,
                "a consumer asks for queues by a strategy that is not known here"
            );
            return None;
        }
    };
    let me = &body.client_id;
    Some(
        match mode.mode {
            MessageRequestMode::Pull => allocate(me, &members, &queues),
            MessageRequestMode::Pop => {
                share_for_pop(me, &members, &queues, mode.pop_share_queue_num, allocate)
            }
        }
        .into_iter()
        .collect(),
    )
}

type Allocate = fn(&str, &[String], &[MessageQueue]) -> Vec<MessageQueue>;

/// Contiguous runs, the first members one queue longer. Java 5.3: `AllocateMessageQueueAveragely`.
fn averagely(me: &str, members: &[String], queues: &[MessageQueue]) -> Vec<MessageQueue> {
    let Some(position) = members.iter().position(|member| member == me) else {
        return Vec::new();
    };
    let (share, longer) = (queues.len() / members.len(), queues.len() % members.len());
    let start = position * share + position.min(longer);
    let count = share + usize::from(position < longer);
    queues[start..start + count].to_vec()
}

/// One queue a member in turn. Java 5.3: `AllocateMessageQueueAveragelyByCircle`.
fn by_circle(me: &str, members: &[String], queues: &[MessageQueue]) -> Vec<MessageQueue> {
    let Some(position) = members.iter().position(|member| member == me) else {
        return Vec::new();
    };
    queues
        .iter()
        .skip(position)
        .step_by(members.len())
        .cloned()
        .collect()
}

/// A member that pops takes all queues, or, when `others` is less than the others there are, its own and those of so many members behind it.
/// Java 5.3: `QueryAssignmentProcessor.allocate4Pop`.
fn share_for_pop(
    me: &str,
    members: &[String],
    queues: &[MessageQueue],
    others: i32,
    allocate: Allocate,
) -> Vec<MessageQueue> {
    let others = usize::try_from(others).unwrap_or(0);
    if others == 0 || others + 1 >= members.len() {
        // One entry a broker: its pops take from all queues.
        let all = queues
            .iter()
            .map(|queue| MessageQueue::new(&*queue.topic, &*queue.broker_name, -1));
        return all.collect();
    }
    let Some(position) = members.iter().position(|member| member == me) else {
        return Vec::new();
    };
    if members.len() > queues.len() {
        return vec![queues[position % queues.len()].clone()];
    }
    let with_others = members.iter().cycle().skip(position).take(others + 1);
    with_others
        .flat_map(|member| allocate(member, members, queues))
        .collect()
}

/// The readable queues of a topic on all brokers, sorted. As the name servers know them; without any of them, those of this broker.
fn queues(broker: &Broker, topic: &str) -> Option<Vec<MessageQueue>> {
    let mut queues = match route(broker, topic) {
        Some(route) => of_route(topic, &route),
        None => Vec::new(),
    };
    let own = &*broker.identity().name;
    // A topic that was just created is not registered yet.
    if !queues.iter().any(|queue| queue.broker_name == own)
        && let Some(config) = broker.topics.get(topic)
        && perm::is_readable(config.perm)
    {
        let ids = 0..config.read_queue_nums;
        queues.extend(ids.map(|queue_id| MessageQueue::new(topic, own, queue_id)));
    }
    // As Java's `MessageQueue.compareTo`, within one topic.
    queues.sort_unstable_by(|one, other| {
        (&one.broker_name, one.queue_id).cmp(&(&other.broker_name, other.queue_id))
    });
    (!queues.is_empty()).then_some(queues)
}

fn route(broker: &Broker, topic: &str) -> Option<TopicRouteData> {
    let header = GetRouteInfoRequest {
        topic: topic.to_owned(),
        ..GetRouteInfoRequest::default()
    };
    registration::name_servers(broker)
        .into_iter()
        .find_map(|server| {
            let request = Command::request(RequestCode::GET_ROUTEINFO_BY_TOPIC, &header);
            let call = broker.client.call(&server, request, ROUTE_TIMEOUT);
            let answer = broker.runtime.block_on(call).ok()?;
            (answer.response_code() == ResponseCode::SUCCESS)
                .then(|| json::decode(&answer.body).ok())
                .flatten()
        })
}

/// Queues of brokers that have a master: Java 5.3: `TopicRouteInfoManager.updateTopicRouteInfoFromNameServer`.
fn of_route(topic: &str, route: &TopicRouteData) -> Vec<MessageQueue> {
    let readable = route
        .queue_datas
        .iter()
        .filter(|data| perm::is_readable(data.perm));
    readable
        .flat_map(|data| {
            let ids = 0..data.read_queue_nums.max(0);
            ids.map(|queue_id| MessageQueue::new(topic, &*data.broker_name, queue_id))
        })
        .collect()
}

fn set(broker: &Broker, call: &Call<'_>) -> Result<Reply, Refusal> {
    let body: SetMessageRequestModeRequestBody = call.json()?;
    if body.topic.starts_with(topic::RETRY_PREFIX) {
        return Err(Refusal::new(
            ResponseCode::NO_PERMISSION,
            "retry topic is not allowed to set mode",
        ));
    }
    if broker.topics.get(&body.topic).is_none() {
        return Err(Refusal::new(
            ResponseCode::TOPIC_NOT_EXIST,
            format!("topic[{}] not exist", body.topic),
        ));
    }
    let auto_create = broker.keys().auto_create_subscription_group;
    if broker
        .groups
        .get_or_create(&body.consumer_group, auto_create)
        .is_none()
    {
        return Err(Refusal::new(
            ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
            "subscription group does not exist",
        ));
    }
    tracing::info!(group = body.consumer_group, topic = body.topic, mode = ?body.mode, by = %call.connection.peer(), "a group's way of consuming was set");
    broker.request_modes.set(body).map_err(|error| {
        Refusal::system_error(format!(
            "the mode is set until the next start, since messageRequestMode.json cannot be written: {error}"
        ))
    })?;
    Ok(Reply::ok())
}

fn all(broker: &Broker, _: &Call<'_>) -> Result<Reply, Refusal> {
    Ok(Reply::ok().body(json::encode_as(
        &broker.request_modes.snapshot(),
        json::Dialect::Fastjson,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(count: i32) -> Vec<MessageQueue> {
        (0..count)
            .map(|id| MessageQueue::new("t", "b", id))
            .collect()
    }

    fn members(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("c{index}")).collect()
    }

    fn ids(queues: &[MessageQueue]) -> Vec<i32> {
        queues.iter().map(|queue| queue.queue_id).collect()
    }

    #[test]
    fn strategies_share_as_clients_do() {
        let (all, queues) = (members(3), queues(8));
        assert_eq!(ids(&averagely("c0", &all, &queues)), [0, 1, 2]);
        assert_eq!(ids(&averagely("c2", &all, &queues)), [6, 7]);
        assert_eq!(ids(&by_circle("c1", &all, &queues)), [1, 4, 7]);
        assert!(
            averagely("x", &all, &queues).is_empty() && by_circle("x", &all, &queues).is_empty()
        );
    }

    #[test]
    fn who_pops_takes_all_queues_or_some_neighbours() {
        let pop = |me: &str, member_count, queue_count, others| {
            ids(&share_for_pop(
                me,
                &members(member_count),
                &queues(queue_count),
                others,
                averagely,
            ))
        };
        assert_eq!(
            pop("c0", 3, 2, 0),
            [-1, -1],
            "as many entries as queues: the set has one"
        );
        assert_eq!(pop("c0", 3, 2, 2), [-1, -1]);
        assert_eq!(pop("c2", 3, 6, 1), [4, 5, 0, 1]);
        assert_eq!(pop("c4", 5, 2, 1), [0], "more members than queues");
        assert_eq!(pop("x", 3, 6, 1), [0; 0]);
    }
}
