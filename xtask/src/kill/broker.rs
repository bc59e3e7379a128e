//! The broker that is killed, as its clients see it: an address while it may be asked, and the requests.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use protocol::body::{TopicConfig, TopicConfigAndMappingSerializeWrapper};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::frame::Codec;
use protocol::header::{ReadFields, WriteFields};
use protocol::headers::{
    GetMaxOffsetRequest, GetMaxOffsetResponse, GetMinOffsetRequest, GetMinOffsetResponse,
    PullMessageRequest, PullMessageResponse, QueryConsumerOffsetRequest,
    QueryConsumerOffsetResponse, QueryMessageRequest,
};
use protocol::record::{self, CheckBody, Record};
use protocol::{json, sysflag};
use remoting::{Client, ClientConfig, NoPushes};
use tokio::sync::{RwLock, RwLockReadGuard};

/// No answer takes longer.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long those who find it closed wait before they look again.
const CLOSED_PAUSE: Duration = Duration::from_millis(2);

/// One queue of a topic.
pub(super) type QueueOf = (Arc<str>, i32);

/// Where requests go. While it is closed no request is under way.
pub(super) struct Target {
    client: Client,
    addr: RwLock<Option<String>>,
}

/// What a pull gave.
pub(super) struct Pulled {
    pub(super) bytes: Bytes,
    pub(super) next: u64,
}

impl Target {
    pub(super) fn new() -> Target {
        Target {
            client: Client::new(ClientConfig::default(), Arc::new(NoPushes)),
            addr: RwLock::new(None),
        }
    }

    pub(super) async fn open(&self, addr: &str) {
        *self.addr.write().await = Some(addr.to_owned());
    }

    /// Returns when every request that was under way has ended.
    pub(super) async fn close(&self) {
        *self.addr.write().await = None;
    }

    /// Permission to send one request: held until its answer is noted in the ledger.
    pub(super) async fn turn(&self) -> RwLockReadGuard<'_, Option<String>> {
        loop {
            let turn = self.addr.read().await;
            if turn.is_some() {
                return turn;
            }
            drop(turn);
            tokio::time::sleep(CLOSED_PAUSE).await;
        }
    }

    /// One request and its answer, whatever its code. An error leaves open whether it was carried out.
    pub(super) async fn call(&self, addr: &str, command: Command) -> Result<Command> {
        Ok(self.client.call(addr, command, CALL_TIMEOUT).await?)
    }

    pub(super) async fn oneway(&self, addr: &str, command: Command) -> Result<()> {
        Ok(self.client.send_oneway(addr, command).await?)
    }

    /// An answer that must be there and say yes.
    async fn ask(
        &self,
        addr: &str,
        code: RequestCode,
        header: &impl WriteFields,
    ) -> Result<Command> {
        let answer = self.call(addr, Command::request(code, header)).await?;
        ensure!(
            answer.response_code() == ResponseCode::SUCCESS,
            "request {} is refused with {}: {:?}",
            code.0,
            answer.code,
            answer.remark
        );
        Ok(answer)
    }

    pub(super) async fn bounds(
        &self,
        addr: &str,
        (topic, queue_id): &QueueOf,
    ) -> Result<(u64, u64)> {
        let (topic, queue_id) = (topic.to_string(), *queue_id);
        let min = GetMinOffsetRequest {
            topic: topic.clone(),
            queue_id,
        };
        let max = GetMaxOffsetRequest {
            topic,
            queue_id,
            ..GetMaxOffsetRequest::default()
        };
        let min = self.ask(addr, RequestCode::GET_MIN_OFFSET, &min).await?;
        let max = self.ask(addr, RequestCode::GET_MAX_OFFSET, &max).await?;
        let min = read::<GetMinOffsetResponse>(&min)?.offset;
        let max = read::<GetMaxOffsetResponse>(&max)?.offset;
        Ok((u64::try_from(min)?, u64::try_from(max)?))
    }

    /// Messages from an offset on; none when the queue has none there.
    pub(super) async fn pull(
        &self,
        addr: &str,
        group: &str,
        (topic, queue_id): &QueueOf,
        offset: u64,
        commit: Option<i64>,
    ) -> Result<Option<Pulled>> {
        let commit_flag = if commit.is_some() {
            sysflag::PULL_COMMIT_OFFSET
        } else {
            0
        };
        let header = PullMessageRequest {
            consumer_group: group.to_owned(),
            topic: topic.to_string(),
            queue_id: *queue_id,
            queue_offset: offset as i64,
            messages_max: 32,
            sys_flag: sysflag::PULL_SUBSCRIPTION | commit_flag,
            commit_offset: commit.unwrap_or(0),
            subscription: Some("*".to_owned()),
            expression_type: Some("TAG".to_owned()),
            ..PullMessageRequest::default()
        };
        let mut command = Command::request(RequestCode::PULL_MESSAGE, &header);
        if offset.is_multiple_of(2) {
            command.codec = Codec::Rocketmq;
        }
        let answer = self.call(addr, command).await?;
        match answer.response_code() {
            ResponseCode::SUCCESS => {
                let header: PullMessageResponse = read(&answer)?;
                Ok(Some(Pulled {
                    next: u64::try_from(header.next_begin_offset)?,
                    bytes: answer.body,
                }))
            }
            ResponseCode::PULL_NOT_FOUND
            | ResponseCode::PULL_OFFSET_MOVED
            | ResponseCode::PULL_RETRY_IMMEDIATELY => Ok(None),
            _ => bail!(
                "a pull is refused with {}: {:?}",
                answer.code,
                answer.remark
            ),
        }
    }

    /// The messages that a key finds.
    pub(super) async fn by_key(&self, addr: &str, topic: &str, key: &str) -> Result<Bytes> {
        let header = QueryMessageRequest {
            topic: topic.to_owned(),
            key: key.to_owned(),
            messages_max: 32,
            begin_timestamp_ms: 0,
            end_timestamp_ms: i64::MAX,
        };
        let command = Command::request(RequestCode::QUERY_MESSAGE, &header);
        Ok(self.call(addr, command).await?.body)
    }

    pub(super) async fn committed(
        &self,
        addr: &str,
        group: &str,
        (topic, queue_id): &QueueOf,
    ) -> Result<Option<i64>> {
        let header = QueryConsumerOffsetRequest {
            consumer_group: group.to_owned(),
            topic: topic.to_string(),
            queue_id: *queue_id,
            set_zero_if_not_found: Some(false),
        };
        let request = Command::request(RequestCode::QUERY_CONSUMER_OFFSET, &header);
        let answer = self.call(addr, request).await?;
        match answer.response_code() {
            ResponseCode::SUCCESS => Ok(Some(read::<QueryConsumerOffsetResponse>(&answer)?.offset)),
            ResponseCode::QUERY_NOT_FOUND => Ok(None),
            _ => bail!(
                "an offset is refused with {}: {:?}",
                answer.code,
                answer.remark
            ),
        }
    }

    /// All topics by name.
    pub(super) async fn topics(
        &self,
        addr: &str,
    ) -> Result<std::collections::BTreeMap<String, TopicConfig>> {
        let answer = self
            .ask(addr, RequestCode::GET_ALL_TOPIC_CONFIG, &())
            .await?;
        let all: TopicConfigAndMappingSerializeWrapper = json::decode(&answer.body)?;
        Ok(all.topic_config_table)
    }

    /// Where the log begins.
    pub(super) async fn log_min(&self, addr: &str) -> Result<u64> {
        let answer = self
            .ask(addr, RequestCode::GET_BROKER_RUNTIME_INFO, &())
            .await?;
        let info: protocol::body::KvTable = json::decode(&answer.body)?;
        let min = info.table.get("commitLogMinOffset");
        Ok(min
            .context("the broker does not say where its log begins")?
            .parse()?)
    }
}

pub(super) fn read<H: for<'a> ReadFields<'a>>(answer: &Command) -> Result<H> {
    Ok(answer.header()?)
}

/// The records of an answer, their bodies' checksums verified.
pub(super) fn records(mut bytes: &[u8]) -> Result<Vec<Record<'_>>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let record = record::decode(bytes, CheckBody::Yes)?;
        bytes = &bytes[record.size as usize..];
        records.push(record);
    }
    Ok(records)
}
