//! Messages: sending one, reading a queue, finding some by id or key.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use protocol::body::{BrokerData, MessageQueue, TopicRouteData};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{
    GetMaxOffsetRequest, GetMaxOffsetResponse, GetMinOffsetRequest, GetMinOffsetResponse,
    PullMessageRequest, PullMessageResponse, QueryMessageRequest, SearchOffsetRequest,
    SearchOffsetResponse, SendMessageRequest, SendMessageRequestV2, SendMessageResponse,
    ViewMessageRequest,
};
use protocol::message_id;
use protocol::properties::{self, Properties};
use protocol::{perm, sysflag, topic};
use serde::Serialize;

use crate::message::decode_all;
use crate::{Admin, Error, StoredMessage, header_of, select_addr};

/// How far back a search by unique id goes when it is one of several guesses.
const UNIQUE_ID_SEARCH_MS: i64 = 3 * 24 * 3600 * 1000;
/// The most messages that a search by unique id returns: retries of one send.
const UNIQUE_ID_MATCHES_MAX: i32 = 32;

/// Queues of a topic that a send creates. Source: Java 5.3.3: `DefaultMQProducer.defaultTopicQueueNums`.
const AUTO_CREATE_QUEUES: i32 = 4;

/// A message to send.
#[derive(Debug, Clone, Default)]
pub struct NewMessage {
    /// Topic.
    pub topic: String,
    /// Body.
    pub body: Vec<u8>,
    /// Keys, separated by spaces.
    pub keys: Option<String>,
    /// Tag.
    pub tags: Option<String>,
    /// The broker's name; any that can be written otherwise.
    pub broker_name: Option<String>,
    /// The queue; any otherwise.
    pub queue_id: Option<i32>,
}

/// What became of a message that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SendStatus {
    /// Stored as the broker is configured to.
    SendOk,
    /// Stored, but not on disk within the time allowed.
    FlushDiskTimeout,
    /// Stored, but not on a slave within the time allowed.
    FlushSlaveTimeout,
    /// Stored, but there is no slave.
    SlaveNotAvailable,
}

impl SendStatus {
    /// Java's name of it.
    pub fn name(self) -> &'static str {
        match self {
            SendStatus::SendOk => "SEND_OK",
            SendStatus::FlushDiskTimeout => "FLUSH_DISK_TIMEOUT",
            SendStatus::FlushSlaveTimeout => "FLUSH_SLAVE_TIMEOUT",
            SendStatus::SlaveNotAvailable => "SLAVE_NOT_AVAILABLE",
        }
    }
}

/// Where a message went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sent {
    /// What became of it.
    pub send_status: SendStatus,
    /// The unique id that it was sent with.
    pub msg_id: String,
    /// The broker's address and the physical offset.
    pub offset_msg_id: String,
    /// The broker's name.
    pub broker_name: String,
    /// The queue.
    pub queue_id: i32,
    /// Its place in the queue.
    pub queue_offset: i64,
}

/// How a pull ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PullStatus {
    /// With messages.
    Found,
    /// The queue ends here.
    NoNewMsg,
    /// None of those read matched.
    NoMatchedMsg,
    /// The queue does not have this offset.
    OffsetIllegal,
}

impl PullStatus {
    /// Java's name of it.
    pub fn name(self) -> &'static str {
        match self {
            PullStatus::Found => "FOUND",
            PullStatus::NoNewMsg => "NO_NEW_MSG",
            PullStatus::NoMatchedMsg => "NO_MATCHED_MSG",
            PullStatus::OffsetIllegal => "OFFSET_ILLEGAL",
        }
    }
}

/// What a pull returned.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// How it ended.
    pub status: PullStatus,
    /// Where to go on.
    pub next_offset: i64,
    /// Smallest offset of the queue.
    pub min_offset: i64,
    /// One more than its largest offset.
    pub max_offset: i64,
    /// The messages.
    pub messages: Vec<StoredMessage>,
}

/// What to look for by key.
#[derive(Debug, Clone)]
pub struct KeySearch {
    /// Topic.
    pub topic: String,
    /// One key.
    pub key: String,
    /// Only brokers of this cluster.
    pub cluster: Option<String>,
    /// The most messages that each broker returns.
    pub messages_max: i32,
    /// Stored at or after this time.
    pub begin_ms: i64,
    /// Stored at or before this time.
    pub end_ms: i64,
}

impl Admin {
    /// Sends one message and waits for the broker's word.
    pub async fn send(&self, message: NewMessage) -> Result<Sent, Error> {
        let now_ms = now_ms();
        let route = self.publish_route(&message.topic).await?;
        let broker = match &message.broker_name {
            Some(name) => named_broker(&message.topic, name, &route)?,
            None => writable_broker(&message.topic, &route)?,
        };
        let Some(addr) = broker.broker_addrs.get(&0) else {
            return Err(Error::NoBroker {
                topic: message.topic.clone(),
                missing: format!("named {} has a master", broker.broker_name),
            });
        };
        let queue_id = message.queue_id.unwrap_or_else(|| {
            let queues = route
                .queue_datas
                .iter()
                .find(|queues| queues.broker_name == broker.broker_name);
            let count = queues.map_or(1, |queues| queues.write_queue_nums).max(1);
            // The time is as good as a random number to spread single messages over queues.
            (now_ms % i64::from(count)) as i32
        });
        let msg_id = self.unique_ids.next(now_ms);
        let mut properties = Properties::default();
        if let Some(keys) = &message.keys {
            properties.insert(properties::KEYS, keys.clone());
        }
        if let Some(tags) = &message.tags {
            properties.insert(properties::TAGS, tags.clone());
        }
        properties.insert(properties::UNIQ_KEY, msg_id.clone());
        properties.insert(properties::WAIT, "true");
        let encoded = properties.encode();
        let header = SendMessageRequestV2(SendMessageRequest {
            producer_group: Cow::Borrowed("CLIENT_INNER_PRODUCER"),
            topic: Cow::Borrowed(&message.topic),
            default_topic: Cow::Borrowed(topic::AUTO_CREATE),
            default_topic_queue_nums: AUTO_CREATE_QUEUES,
            queue_id,
            born_timestamp_ms: now_ms,
            properties: Some(Cow::Borrowed(&encoded)),
            reconsume_times: Some(0),
            broker_name: Some(Cow::Borrowed(&broker.broker_name)),
            ..Default::default()
        });
        let request =
            Command::request(RequestCode::SEND_MESSAGE_V2, &header).with_body(message.body);
        let answer = self.ask(addr, request).await?;
        let send_status = match answer.response_code() {
            ResponseCode::SUCCESS => SendStatus::SendOk,
            ResponseCode::FLUSH_DISK_TIMEOUT => SendStatus::FlushDiskTimeout,
            ResponseCode::FLUSH_SLAVE_TIMEOUT => SendStatus::FlushSlaveTimeout,
            ResponseCode::SLAVE_NOT_AVAILABLE => SendStatus::SlaveNotAvailable,
            code => {
                let remark = answer.remark.unwrap_or_default();
                return Err(Error::Refused {
                    addr: addr.clone(),
                    code,
                    remark,
                });
            }
        };
        let stored: SendMessageResponse = header_of(addr, &answer)?;
        Ok(Sent {
            send_status,
            msg_id,
            offset_msg_id: stored.msg_id,
            broker_name: broker.broker_name.clone(),
            queue_id: stored.queue_id,
            queue_offset: stored.queue_offset,
        })
    }

    /// Where a topic can be written. One that does not exist is created by the broker, in the image of the template topic,
    /// where the broker permits that.
    async fn publish_route(&self, topic: &str) -> Result<TopicRouteData, Error> {
        match self.route(topic).await {
            Err(
                error @ Error::Refused {
                    code: ResponseCode::TOPIC_NOT_EXIST,
                    ..
                },
            ) => {
                let Ok(mut route) = self.route(topic::AUTO_CREATE).await else {
                    return Err(error);
                };
                for queues in &mut route.queue_datas {
                    queues.write_queue_nums = queues.write_queue_nums.min(AUTO_CREATE_QUEUES);
                }
                Ok(route)
            }
            other => other,
        }
    }

    /// The queues of a topic that can be read, sorted.
    pub async fn readable_queues(&self, topic: &str) -> Result<Vec<MessageQueue>, Error> {
        let route = self.route(topic).await?;
        let mut queues: Vec<MessageQueue> = route
            .queue_datas
            .iter()
            .filter(|data| data.perm & perm::READ != 0)
            .flat_map(|data| {
                (0..data.read_queue_nums).map(|queue_id| MessageQueue {
                    topic: topic.to_owned(),
                    broker_name: data.broker_name.clone(),
                    queue_id,
                })
            })
            .collect();
        queues.sort_by(|a, b| (&a.broker_name, a.queue_id).cmp(&(&b.broker_name, b.queue_id)));
        Ok(queues)
    }

    /// The address to read a topic's queues on a broker from.
    pub async fn broker_addr(&self, topic: &str, broker_name: &str) -> Result<String, Error> {
        let route = self.route(topic).await?;
        route
            .broker_datas
            .iter()
            .find(|broker| broker.broker_name == broker_name)
            .and_then(select_addr)
            .map(str::to_owned)
            .ok_or_else(|| Error::NoBroker {
                topic: topic.to_owned(),
                missing: format!("is named {broker_name}"),
            })
    }

    /// The smallest offset of a queue.
    pub async fn min_offset(&self, addr: &str, queue: &MessageQueue) -> Result<i64, Error> {
        let header = GetMinOffsetRequest {
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            ..Default::default()
        };
        let answer = self
            .ask_ok(addr, Command::request(RequestCode::GET_MIN_OFFSET, &header))
            .await?;
        Ok(header_of::<GetMinOffsetResponse>(addr, &answer)?.offset)
    }

    /// One more than the largest offset of a queue.
    pub async fn max_offset(&self, addr: &str, queue: &MessageQueue) -> Result<i64, Error> {
        let header = GetMaxOffsetRequest {
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            ..Default::default()
        };
        let answer = self
            .ask_ok(addr, Command::request(RequestCode::GET_MAX_OFFSET, &header))
            .await?;
        Ok(header_of::<GetMaxOffsetResponse>(addr, &answer)?.offset)
    }

    /// The offset of the first message stored at or after a time.
    pub async fn search_offset(
        &self,
        addr: &str,
        queue: &MessageQueue,
        timestamp_ms: i64,
    ) -> Result<i64, Error> {
        let header = SearchOffsetRequest {
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            timestamp_ms,
            ..Default::default()
        };
        let request = Command::request(RequestCode::SEARCH_OFFSET_BY_TIMESTAMP, &header);
        let answer = self.ask_ok(addr, request).await?;
        Ok(header_of::<SearchOffsetResponse>(addr, &answer)?.offset)
    }

    /// Reads a queue from an offset on, without waiting for messages to come.
    pub async fn pull(
        &self,
        addr: &str,
        group: &str,
        queue: &MessageQueue,
        offset: i64,
        messages_max: i32,
    ) -> Result<Pulled, Error> {
        let header = PullMessageRequest {
            consumer_group: group.to_owned(),
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            queue_offset: offset,
            messages_max,
            // The subscription comes with the request, since this consumer never sends a heartbeat.
            sys_flag: sysflag::PULL_SUBSCRIPTION,
            subscription: Some("*".to_owned()),
            expression_type: Some("TAG".to_owned()),
            ..Default::default()
        };
        let request = Command::request(RequestCode::PULL_MESSAGE, &header);
        let answer = self.ask(addr, request).await?;
        let status = match answer.response_code() {
            ResponseCode::SUCCESS => PullStatus::Found,
            ResponseCode::PULL_NOT_FOUND => PullStatus::NoNewMsg,
            ResponseCode::PULL_RETRY_IMMEDIATELY => PullStatus::NoMatchedMsg,
            ResponseCode::PULL_OFFSET_MOVED => PullStatus::OffsetIllegal,
            code => {
                let remark = answer.remark.unwrap_or_default();
                return Err(Error::Refused {
                    addr: addr.to_owned(),
                    code,
                    remark,
                });
            }
        };
        let read: PullMessageResponse = header_of(addr, &answer)?;
        let messages = match status {
            PullStatus::Found => messages_of(addr, answer)?,
            _ => Vec::new(),
        };
        Ok(Pulled {
            status,
            next_offset: read.next_begin_offset,
            min_offset: read.min_offset,
            max_offset: read.max_offset,
            messages,
        })
    }

    /// The message at the place that an offset id names.
    ///
    /// # Errors
    /// [`Error::BadMessageId`] when the text is no offset id.
    pub async fn view(&self, topic: &str, id: &str) -> Result<StoredMessage, Error> {
        let (addr, offset) = parse_offset_id(id)?;
        let addr = addr.to_string();
        let header = ViewMessageRequest {
            topic: Some(topic.to_owned()),
            offset,
        };
        let request = Command::request(RequestCode::VIEW_MESSAGE_BY_ID, &header);
        let answer = self.ask_ok(&addr, request).await?;
        messages_of(&addr, answer)?.pop().ok_or(Error::NoMessage)
    }

    /// The message with this id of either kind: a place, or the unique id that its producer gave it.
    pub async fn message(
        &self,
        topic: &str,
        id: &str,
        cluster: Option<&str>,
    ) -> Result<StoredMessage, Error> {
        let viewed = self.view(topic, id).await;
        // An id that looks like a place, but where nothing is, may still be a unique id: both are hexadecimal.
        let Err(error) = viewed else { return viewed };
        let begin_ms = now_ms() - UNIQUE_ID_SEARCH_MS;
        match self
            .messages_by_unique_id(topic, id, cluster, begin_ms)
            .await
        {
            Ok(mut found) => Ok(found.swap_remove(0)),
            Err(Error::NoMessage) if !matches!(error, Error::BadMessageId { .. }) => Err(error),
            Err(other) => Err(other),
        }
    }

    /// All messages that carry a key, from all brokers of the topic, in the order of the brokers' answers.
    ///
    /// # Errors
    /// [`Error::NoMessage`] when there are none.
    pub async fn messages_by_key(&self, search: &KeySearch) -> Result<Vec<StoredMessage>, Error> {
        let found = self.search(search, false).await?;
        let matches = |message: &StoredMessage| {
            message.topic == search.topic
                && message
                    .keys()
                    .is_some_and(|keys| keys.split(' ').any(|key| key == search.key))
        };
        some(found.into_iter().filter(matches).collect())
    }

    /// All messages that carry a unique id, oldest first: more than one when the producer sent it again.
    ///
    /// # Errors
    /// [`Error::NoMessage`] when there are none.
    pub async fn messages_by_unique_id(
        &self,
        topic: &str,
        id: &str,
        cluster: Option<&str>,
        begin_ms: i64,
    ) -> Result<Vec<StoredMessage>, Error> {
        let search = KeySearch {
            topic: topic.to_owned(),
            key: id.to_owned(),
            cluster: cluster.map(str::to_owned),
            messages_max: UNIQUE_ID_MATCHES_MAX,
            begin_ms,
            end_ms: i64::MAX,
        };
        let mut found = self.search(&search, true).await?;
        found.retain(|message| message.msg_id == id);
        found.sort_by_key(|message| message.store_timestamp);
        some(found)
    }

    async fn search(&self, search: &KeySearch, unique: bool) -> Result<Vec<StoredMessage>, Error> {
        let route = self.route(&search.topic).await?;
        let header = QueryMessageRequest {
            topic: search.topic.clone(),
            key: search.key.clone(),
            messages_max: search.messages_max,
            begin_timestamp_ms: search.begin_ms,
            end_timestamp_ms: search.end_ms,
            ..Default::default()
        };
        let mut request = Command::request(RequestCode::QUERY_MESSAGE, &header);
        request
            .fields
            .insert("_UNIQUE_KEY_QUERY", unique.to_string());
        let brokers = route
            .broker_datas
            .iter()
            .filter(|broker| {
                search
                    .cluster
                    .as_ref()
                    .is_none_or(|cluster| broker.cluster == *cluster)
            })
            .filter_map(select_addr);
        let mut found = Vec::new();
        let mut asked = false;
        for addr in brokers {
            asked = true;
            let answer = self.ask(addr, request.clone()).await?;
            match answer.response_code() {
                ResponseCode::SUCCESS => found.extend(messages_of(addr, answer)?),
                ResponseCode::QUERY_NOT_FOUND => {}
                code => {
                    let remark = answer.remark.unwrap_or_default();
                    return Err(Error::Refused {
                        addr: addr.to_owned(),
                        code,
                        remark,
                    });
                }
            }
        }
        if asked {
            return Ok(found);
        }
        let missing = match &search.cluster {
            Some(cluster) => format!("belongs to cluster {cluster}"),
            None => "is alive".to_owned(),
        };
        Err(Error::NoBroker {
            topic: search.topic.clone(),
            missing,
        })
    }
}

fn some(found: Vec<StoredMessage>) -> Result<Vec<StoredMessage>, Error> {
    if found.is_empty() {
        Err(Error::NoMessage)
    } else {
        Ok(found)
    }
}

fn messages_of(addr: &str, answer: Command) -> Result<Vec<StoredMessage>, Error> {
    decode_all(answer.body).map_err(|error| Error::BadAnswer {
        addr: addr.to_owned(),
        reason: error.to_string(),
    })
}

fn parse_offset_id(id: &str) -> Result<(SocketAddr, i64), Error> {
    message_id::decode_offset_id(id)
        .map(|(addr, offset)| (addr, offset as i64))
        .ok_or_else(|| Error::BadMessageId { id: id.to_owned() })
}

/// The first broker, by name, that has a master and lets this topic be written.
fn writable_broker<'a>(topic: &str, route: &'a TopicRouteData) -> Result<&'a BrokerData, Error> {
    let mut names: Vec<&str> = route
        .queue_datas
        .iter()
        .filter(|data| data.perm & perm::WRITE != 0 && data.write_queue_nums > 0)
        .map(|data| data.broker_name.as_str())
        .collect();
    names.sort_unstable();
    names
        .into_iter()
        .filter_map(|name| {
            route
                .broker_datas
                .iter()
                .find(|broker| broker.broker_name == name)
        })
        .find(|broker| broker.broker_addrs.contains_key(&0))
        .ok_or_else(|| Error::NoBroker {
            topic: topic.to_owned(),
            missing: "is a master and permits writing".to_owned(),
        })
}

fn named_broker<'a>(
    topic: &str,
    name: &str,
    route: &'a TopicRouteData,
) -> Result<&'a BrokerData, Error> {
    let found = route
        .broker_datas
        .iter()
        .find(|broker| broker.broker_name == name);
    found.ok_or_else(|| Error::NoBroker {
        topic: topic.to_owned(),
        missing: format!("is named {name}"),
    })
}

fn now_ms() -> i64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}
