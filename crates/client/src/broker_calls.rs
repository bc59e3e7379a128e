//! The requests that consumers make of the broker that holds a queue.

use std::time::{Duration, Instant};

use protocol::body::{
    CheckClientRequestBody, GetConsumerListByGroupResponseBody, LockBatchRequestBody,
    LockBatchResponseBody, UnlockBatchRequestBody,
};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::header::ReadFields;
use protocol::headers::{
    ConsumerSendMsgBackRequest, GetConsumerListByGroupRequest, GetMaxOffsetRequest,
    GetMaxOffsetResponse, GetMinOffsetRequest, GetMinOffsetResponse, PullMessageRequest,
    PullMessageResponse, QueryConsumerOffsetRequest, QueryConsumerOffsetResponse,
    SearchOffsetRequest, SearchOffsetResponse, SendMessageRequest, SendMessageRequestV2,
    UpdateConsumerOffsetRequest,
};
use protocol::json;
use protocol::properties::{self, Properties};
use protocol::sysflag;

use crate::error::Error;
use crate::instance::{CALL_TIMEOUT, Instance, refused};
use crate::message::{MessageQueue, Received};
use crate::rebalance::Subscription;
use crate::route::MASTER_ID;
use crate::selector::MessageSelector;

/// The delay level of a message's first retry.
const FIRST_RETRY_LEVEL: i32 = 3;

/// How long a broker may keep a pull that finds nothing.
pub(crate) const SUSPEND: Duration = Duration::from_secs(15);
/// The client's patience with such a pull.
pub(crate) const PULL_TIMEOUT: Duration = Duration::from_secs(30);

/// One pull.
#[derive(Clone, Debug)]
pub(crate) struct PullCall<'a> {
    pub(crate) group: &'a str,
    pub(crate) queue: &'a MessageQueue,
    pub(crate) offset: i64,
    pub(crate) messages_max: i32,
    /// What is wanted, sent along; `None` when the heartbeat said it.
    pub(crate) selector: Option<&'a MessageSelector>,
    pub(crate) version: i64,
    /// Commits this offset in passing.
    pub(crate) commit: Option<i64>,
    /// Zero: the broker answers at once.
    pub(crate) suspend: Duration,
    /// Sent as LITE_PULL_MESSAGE.
    pub(crate) lite: bool,
}

/// What a pull found.
#[derive(Debug)]
pub(crate) struct PullAnswer {
    pub(crate) found: PullFound,
    pub(crate) next_offset: i64,
    pub(crate) min_offset: i64,
    pub(crate) max_offset: i64,
}

#[derive(Debug)]
pub(crate) enum PullFound {
    Messages(Vec<Received>),
    /// The queue has nothing beyond the offset yet.
    Nothing,
    /// Messages were there and the filter matched none.
    NoneMatched,
    /// The offset lies outside the queue; `next_offset` is where it goes on.
    OffsetMoved,
}

/// Whether a broker refuses a pull since it does not know what the group subscribes to.
fn forgot_the_group(code: ResponseCode) -> bool {
    matches!(
        code,
        ResponseCode::SUBSCRIPTION_NOT_EXIST | ResponseCode::SUBSCRIPTION_NOT_LATEST
    )
}

impl Instance {
    pub(crate) async fn pull(&self, call: &PullCall<'_>) -> Result<PullAnswer, Error> {
        let addr = self.master_of(call.queue)?;
        let mut sys_flag = 0;
        if call.commit.is_some() {
            sys_flag |= sysflag::PULL_COMMIT_OFFSET;
        }
        if !call.suspend.is_zero() {
            sys_flag |= sysflag::PULL_SUSPEND;
        }
        if call.selector.is_some() {
            sys_flag |= sysflag::PULL_SUBSCRIPTION;
        }
        if call.lite {
            sys_flag |= sysflag::PULL_LITE;
        }
        let header = PullMessageRequest {
            consumer_group: call.group.to_owned(),
            topic: call.queue.topic.clone(),
            queue_id: call.queue.queue_id,
            queue_offset: call.offset,
            messages_max: call.messages_max,
            sys_flag,
            commit_offset: call.commit.unwrap_or(0),
            suspend_timeout_ms: call.suspend.as_millis() as i64,
            subscription: call.selector.map(|wanted| wanted.expression().to_owned()),
            sub_version: call.version,
            expression_type: Some(
                call.selector
                    .map_or("TAG", MessageSelector::kind)
                    .to_owned(),
            ),
            ..PullMessageRequest::default()
        };
        let code = if call.lite {
            RequestCode::LITE_PULL_MESSAGE
        } else {
            RequestCode::PULL_MESSAGE
        };
        let timeout = PULL_TIMEOUT.max(call.suspend + CALL_TIMEOUT);
        let pull = || self.call_any(&addr, Command::request(code, &header), timeout);
        let mut response = pull().await?;
        if forgot_the_group(response.response_code()) {
            // It was started again, or heard an older heartbeat behind a newer one.
            self.greet_again(&addr, Instant::now()).await;
            response = pull().await?;
        }
        let found = match response.response_code() {
            ResponseCode::SUCCESS => {
                let mut messages =
                    Received::decode_all(call.queue, &response.body).map_err(|reason| {
                        Error::Malformed {
                            addr: addr.clone(),
                            reason,
                        }
                    })?;
                // A batch that lies in one record comes whole, also to who asks for the middle of it.
                messages.retain(|message| message.queue_offset >= call.offset);
                PullFound::Messages(messages)
            }
            ResponseCode::PULL_NOT_FOUND => PullFound::Nothing,
            ResponseCode::PULL_RETRY_IMMEDIATELY => PullFound::NoneMatched,
            ResponseCode::PULL_OFFSET_MOVED => PullFound::OffsetMoved,
            _ => return Err(refused(&addr, response)),
        };
        let header: PullMessageResponse = read(&addr, &response)?;
        Ok(PullAnswer {
            found,
            next_offset: header.next_begin_offset,
            min_offset: header.min_offset,
            max_offset: header.max_offset,
        })
    }

    /// The group's committed offset, or `None` when it never committed.
    pub(crate) async fn query_offset(
        &self,
        group: &str,
        queue: &MessageQueue,
    ) -> Result<Option<i64>, Error> {
        let addr = self.master_of(queue)?;
        let header = QueryConsumerOffsetRequest {
            consumer_group: group.to_owned(),
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            ..QueryConsumerOffsetRequest::default()
        };
        let request = Command::request(RequestCode::QUERY_CONSUMER_OFFSET, &header);
        match self.call(&addr, request, CALL_TIMEOUT).await {
            Ok(response) => {
                let header: QueryConsumerOffsetResponse = read(&addr, &response)?;
                Ok(Some(header.offset))
            }
            Err(error) if error.refusal() == Some(ResponseCode::QUERY_NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn update_offset(
        &self,
        group: &str,
        queue: &MessageQueue,
        offset: i64,
    ) -> Result<(), Error> {
        let addr = self.master_of(queue)?;
        let header = UpdateConsumerOffsetRequest {
            consumer_group: group.to_owned(),
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            commit_offset: offset,
        };
        let request = Command::request(RequestCode::UPDATE_CONSUMER_OFFSET, &header);
        self.call(&addr, request, CALL_TIMEOUT).await.map(drop)
    }

    pub(crate) async fn max_offset(&self, queue: &MessageQueue) -> Result<i64, Error> {
        let addr = self.master_of(queue)?;
        let header = GetMaxOffsetRequest {
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            ..GetMaxOffsetRequest::default()
        };
        let request = Command::request(RequestCode::GET_MAX_OFFSET, &header);
        let response = self.call(&addr, request, CALL_TIMEOUT).await?;
        Ok(read::<GetMaxOffsetResponse>(&addr, &response)?.offset)
    }

    pub(crate) async fn min_offset(&self, queue: &MessageQueue) -> Result<i64, Error> {
        let addr = self.master_of(queue)?;
        let header = GetMinOffsetRequest {
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
        };
        let request = Command::request(RequestCode::GET_MIN_OFFSET, &header);
        let response = self.call(&addr, request, CALL_TIMEOUT).await?;
        Ok(read::<GetMinOffsetResponse>(&addr, &response)?.offset)
    }

    /// The first offset stored at `timestamp_ms` or later.
    pub(crate) async fn search_offset(
        &self,
        queue: &MessageQueue,
        timestamp_ms: i64,
    ) -> Result<i64, Error> {
        let addr = self.master_of(queue)?;
        let header = SearchOffsetRequest {
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            timestamp_ms,
            ..SearchOffsetRequest::default()
        };
        let request = Command::request(RequestCode::SEARCH_OFFSET_BY_TIMESTAMP, &header);
        let response = self.call(&addr, request, CALL_TIMEOUT).await?;
        Ok(read::<SearchOffsetResponse>(&addr, &response)?.offset)
    }

    /// The members of the group, sorted, as one broker of the topic knows them.
    pub(crate) async fn members(&self, group: &str, topic: &str) -> Result<Vec<String>, Error> {
        let route = self.route(topic).await?;
        let queue = route.readable.first().ok_or_else(|| Error::NoQueue {
            topic: topic.to_owned(),
            wanted: "read",
        })?;
        let addr = self.broker_address(&queue.broker_name, MASTER_ID, true)?;
        let header = GetConsumerListByGroupRequest {
            consumer_group: group.to_owned(),
        };
        let request = Command::request(RequestCode::GET_CONSUMER_LIST_BY_GROUP, &header);
        let response = self.call(&addr, request, CALL_TIMEOUT).await?;
        let body: GetConsumerListByGroupResponseBody = read_body(&addr, &response)?;
        let mut members = body.consumer_id_list;
        members.sort();
        Ok(members)
    }

    /// Asks every broker of the topic whether it takes the subscription, as Java's clients do before they start. Brokers take every tag.
    pub(crate) async fn check_subscription(
        &self,
        group: &str,
        subscription: &Subscription,
    ) -> Result<(), Error> {
        if subscription.selector.is_by_tag() {
            return Ok(());
        }
        let route = self.route(&subscription.topic).await?;
        let body = json::encode(&CheckClientRequestBody {
            client_id: self.client_id().to_owned(),
            group: group.to_owned(),
            subscription_data: Some(subscription.to_wire()),
            ..CheckClientRequestBody::default()
        });
        for broker_name in route.brokers.keys() {
            let addr = self.broker_address(broker_name, MASTER_ID, true)?;
            let request = Command::request(RequestCode::CHECK_CLIENT_CONFIG, &());
            let request = request.with_body(body.clone());
            self.call(&addr, request, CALL_TIMEOUT).await?;
        }
        Ok(())
    }

    /// Locks queues of one broker for orderly consumption; returns those that were granted.
    pub(crate) async fn lock(
        &self,
        group: &str,
        broker_name: &str,
        queues: &[MessageQueue],
    ) -> Result<Vec<MessageQueue>, Error> {
        let addr = self.broker_address(broker_name, MASTER_ID, false)?;
        let body = LockBatchRequestBody {
            consumer_group: group.to_owned(),
            client_id: self.client_id().to_owned(),
            mq_set: queues.iter().cloned().map(Into::into).collect(),
            ..LockBatchRequestBody::default()
        };
        let body = json::encode(&body);
        let request = Command::request(RequestCode::LOCK_BATCH_MQ, &()).with_body(body);
        let response = self.call(&addr, request, CALL_TIMEOUT).await?;
        let granted: LockBatchResponseBody = read_body(&addr, &response)?;
        Ok(granted.lock_ok_mq_set.into_iter().map(Into::into).collect())
    }

    /// Gives locked queues back.
    pub(crate) async fn unlock(&self, group: &str, queue: &MessageQueue) -> Result<(), Error> {
        let addr = self.master_of(queue)?;
        let body = UnlockBatchRequestBody {
            consumer_group: group.to_owned(),
            client_id: self.client_id().to_owned(),
            mq_set: [queue.clone().into()].into(),
            ..UnlockBatchRequestBody::default()
        };
        let body = json::encode(&body);
        let request = Command::request(RequestCode::UNLOCK_BATCH_MQ, &()).with_body(body);
        self.call(&addr, request, CALL_TIMEOUT).await.map(drop)
    }

    /// Hands a message that could not be consumed back to its broker, which delivers it again later: after the time of `delay_level`, or for 0 of the
    /// level that belongs to how often it came back. A negative level, or one time more than `times_max`, makes it a dead letter.
    pub(crate) async fn send_back(
        &self,
        group: &str,
        message: &Received,
        delay_level: i32,
        times_max: i32,
    ) -> Result<(), Error> {
        let addr = self.master_of(&message.queue)?;
        let header = ConsumerSendMsgBackRequest {
            offset: message.physical_offset,
            group: group.to_owned(),
            delay_level,
            max_reconsume_times: Some(times_max),
            origin_msg_id: Some(message.message_id.clone()),
            origin_topic: Some(message.queue.topic.clone()),
            ..ConsumerSendMsgBackRequest::default()
        };
        let request = Command::request(RequestCode::CONSUMER_SEND_MSG_BACK, &header);
        self.call(&addr, request, CALL_TIMEOUT).await.map(drop)
    }

    /// Sends a message that was consumed in order too often to its group's retry topic, as Java's clients do. While the group holds queue locks its
    /// broker makes every such message a dead letter.
    pub(crate) async fn give_up(
        &self,
        group: &str,
        message: &Received,
        times_max: i32,
    ) -> Result<(), Error> {
        let addr = self.master_of(&message.queue)?;
        let mut all = Properties::parse(message.property_string());
        all.remove(properties::TRANSACTION_PREPARED);
        if all.get(properties::ORIGIN_MESSAGE_ID).is_none() {
            all.insert(properties::ORIGIN_MESSAGE_ID, &*message.message_id);
        }
        all.insert(properties::RETRY_TOPIC, &*message.topic);
        let level = message.reconsume_times.saturating_add(FIRST_RETRY_LEVEL);
        all.insert(properties::DELAY, level.to_string());
        let header = SendMessageRequestV2(SendMessageRequest {
            producer_group: group.into(),
            topic: protocol::topic::retry_topic(group).into(),
            default_topic: protocol::topic::AUTO_CREATE.into(),
            default_topic_queue_nums: 1,
            born_timestamp_ms: message.born_timestamp_ms,
            flag: message.flag,
            properties: Some(all.encode().into()),
            reconsume_times: Some(message.reconsume_times),
            max_reconsume_times: Some(times_max),
            ..SendMessageRequest::default()
        });
        let request =
            Command::request(RequestCode::SEND_MESSAGE_V2, &header).with_body(message.body.clone());
        self.call(&addr, request, CALL_TIMEOUT).await.map(drop)
    }
}

pub(crate) fn read<H: for<'a> ReadFields<'a>>(addr: &str, response: &Command) -> Result<H, Error> {
    response.header().map_err(|e| Error::Malformed {
        addr: addr.to_owned(),
        reason: e.to_string(),
    })
}

fn read_body<T: serde::de::DeserializeOwned>(addr: &str, response: &Command) -> Result<T, Error> {
    json::decode(&response.body).map_err(|e| Error::Malformed {
        addr: addr.to_owned(),
        reason: e.to_string(),
    })
}
