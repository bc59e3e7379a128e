//! What brokers ask of a client: to share the queues anew (40), to go on elsewhere (220), to say where it is (221) and how it is
//! (307), to consume one message (309); and how a transaction ended (39); and replies (326).

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};

use protocol::body::{
    ConsumeMessageDirectlyResult, ConsumerRunningInfo, GetConsumerStatusBody, ProcessQueueInfo,
    ResetOffsetBody, SubscriptionData,
};
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::header::ReadFields;
use protocol::headers::{
    ConsumeMessageDirectlyResultRequest, GetConsumerRunningInfoRequest, GetConsumerStatusRequest,
    ResetOffsetRequest,
};
use protocol::{json, record, version};
use remoting::InboundHandler;
use tokio::sync::Notify;

use crate::instance::now_ms;
use crate::message::{MessageQueue, Received};
use crate::request::Waiting;

pub(crate) type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The consumer behind a client, as far as brokers ask it.
pub(crate) trait Asked: Send + Sync {
    /// Its group.
    fn group(&self) -> &str;

    /// Goes on at these offsets of the queues that it consumes; the others are not its business. Returns at once.
    fn reset(self: Arc<Self>, offsets: Vec<(MessageQueue, i64)>);

    /// How far it came in the queues of a topic that it consumes.
    fn offsets(&self, topic: &str) -> Vec<(MessageQueue, i64)>;

    /// What it is made of and what it works at.
    fn inside(&self) -> Inside;

    /// Consumes one message beside all others. None: this kind of consumer has nobody to give it to.
    fn consume(self: Arc<Self>, message: Received) -> Option<Answer<ConsumeMessageDirectlyResult>>;
}

/// What a consumer tells of its inside.
pub(crate) struct Inside {
    /// Java's names of its properties.
    pub(crate) properties: BTreeMap<String, String>,
    /// What it subscribes to.
    pub(crate) subscriptions: Vec<SubscriptionData>,
    /// What it holds of each queue.
    pub(crate) queues: Vec<(MessageQueue, ProcessQueueInfo)>,
}

/// Takes a broker's address and its question how a transaction ended. Does not wait.
pub(crate) type OnCheck = Box<dyn Fn(&str, Command) + Send + Sync>;

/// The pushes of brokers, and who answers them.
#[derive(Default)]
pub(crate) struct Pushes {
    rebalance: Arc<Notify>,
    check: OnceLock<OnCheck>,
    /// Requests that wait for replies.
    waiting: Arc<Waiting>,
    /// Where the client looks for routes; part of what it tells.
    nameservers: String,
    consumer: RwLock<Option<Weak<dyn Asked>>>,
    /// Servers to which a connection was made since somebody looked: as many as there are addresses.
    connected: Mutex<BTreeSet<String>>,
    connection: Notify,
}

impl Pushes {
    pub(crate) fn new(nameservers: &[String]) -> Pushes {
        Pushes {
            nameservers: nameservers.iter().map(|addr| format!("{addr};")).collect(),
            ..Pushes::default()
        }
    }

    /// Woken when a broker says that the group's members changed.
    pub(crate) fn rebalance_signal(&self) -> &Arc<Notify> {
        &self.rebalance
    }

    /// Woken when a connection was made.
    pub(crate) fn connection_signal(&self) -> &Notify {
        &self.connection
    }

    /// To whom connections were made since this was asked before.
    pub(crate) fn take_connected(&self) -> BTreeSet<String> {
        let mut connected = self
            .connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *connected)
    }

    /// The server at `addr` has heard who this client is.
    pub(crate) fn heard(&self, addr: &str) {
        let mut connected = self
            .connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        connected.remove(addr);
    }

    /// From here on `consumer` answers, until it is dropped.
    pub(crate) fn answer_by(&self, consumer: Weak<dyn Asked>) {
        let mut known = self
            .consumer
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *known = Some(consumer);
    }

    /// Who answers brokers that ask how a transaction ended. Set once.
    pub(crate) fn on_check(&self, check: OnCheck) {
        let set = self.check.set(check);
        debug_assert!(set.is_ok(), "an instance has one producer");
    }

    /// Requests that wait for replies.
    pub(crate) fn waiting(&self) -> &Arc<Waiting> {
        &self.waiting
    }

    fn consumer_of(&self, group: &str) -> Result<Arc<dyn Asked>, Command> {
        let known = self.consumer.read().unwrap_or_else(PoisonError::into_inner);
        let consumer = known.as_ref().and_then(Weak::upgrade);
        consumer
            .filter(|consumer| consumer.group() == group)
            .ok_or_else(|| {
                refusal(format!(
                    "The Consumer Group <{group}> not exist in this consumer"
                ))
            })
    }

    fn reset(&self, command: &Command) -> Result<(), Command> {
        let header: ResetOffsetRequest = header_of(command)?;
        let body: ResetOffsetBody = match json::decode(&command.body) {
            _ if command.body.is_empty() => ResetOffsetBody::default(),
            decoded => decoded.map_err(|error| refusal(error.to_string()))?,
        };
        let consumer = self.consumer_of(&header.group)?;
        tracing::info!(
            group = header.group,
            topic = header.topic,
            queues = body.offset_table.len(),
            "a broker resets the offsets"
        );
        let offsets = body.offset_table.0.into_iter();
        let offsets = offsets.filter(|(queue, _)| queue.topic == header.topic);
        consumer.reset(
            offsets
                .map(|(queue, offset)| (queue.into(), offset))
                .collect(),
        );
        Ok(())
    }

    fn status(&self, command: &Command) -> Result<Command, Command> {
        let header: GetConsumerStatusRequest = header_of(command)?;
        let consumer = self.consumer_of(&header.group)?;
        let offsets = consumer.offsets(&header.topic).into_iter();
        let body = GetConsumerStatusBody {
            message_queue_table: offsets
                .map(|(queue, offset)| (queue.into(), offset))
                .collect(),
            ..GetConsumerStatusBody::default()
        };
        Ok(success(json::encode(&body)))
    }

    fn running_info(&self, command: &Command) -> Result<Command, Command> {
        let header: GetConsumerRunningInfoRequest = header_of(command)?;
        let inside = self.consumer_of(&header.consumer_group)?.inside();
        let mut properties = inside.properties;
        let own = [
            ("PROP_NAMESERVER_ADDR", self.nameservers.clone()),
            ("PROP_CLIENT_VERSION", version::describe(version::CURRENT)),
        ];
        properties.extend(own.map(|(name, value)| (name.to_owned(), value)));
        let queues = inside.queues.into_iter();
        let body = ConsumerRunningInfo {
            // Tasks have no stacks to show; saying so is better than the silence of an empty page.
            jstack: header.jstack_enable.then(|| {
                "this client runs tasks of an asynchronous runtime, which have no stacks\n"
                    .to_owned()
            }),
            mq_table: queues.map(|(queue, info)| (queue.into(), info)).collect(),
            properties,
            subscription_set: inside.subscriptions,
            ..ConsumerRunningInfo::default()
        };
        Ok(success(json::encode(&body)))
    }

    fn consume(&self, command: &Command) -> Result<Answer<Option<Command>>, Command> {
        let header: ConsumeMessageDirectlyResultRequest = header_of(command)?;
        let consumer = self.consumer_of(&header.consumer_group)?;
        let record = record::decode(&command.body, record::CheckBody::Yes)
            .map_err(|error| refusal(format!("the message cannot be read: {error}")))?;
        let queue = MessageQueue {
            topic: record.topic.to_owned(),
            broker_name: header.broker_name.unwrap_or_default(),
            queue_id: record.queue_id,
        };
        let message = Received::from_record(&queue, &record, &command.body).map_err(refusal)?;
        let Some(consumed) = consumer.consume(message) else {
            return Err(refusal(format!(
                "The Consumer Group <{}> not exist in this consumer",
                header.consumer_group
            )));
        };
        let started_ms = now_ms();
        Ok(Box::pin(async move {
            let mut result = consumed.await;
            result.spent_time_mills = now_ms() - started_ms;
            Some(success(json::encode(&result)))
        }))
    }
}

impl InboundHandler for Pushes {
    fn on_request(&self, addr: &str, command: Command) -> Answer<Option<Command>> {
        let code = RequestCode(command.code);
        if code == RequestCode::CHECK_TRANSACTION_STATE
            && let Some(check) = self.check.get()
        {
            check(addr, command);
            return Box::pin(std::future::ready(None));
        }
        let answer = match code {
            RequestCode::NOTIFY_CONSUMER_IDS_CHANGED => {
                self.rebalance.notify_one();
                return Box::pin(std::future::ready(None));
            }
            RequestCode::RESET_CONSUMER_CLIENT_OFFSET => {
                self.reset(&command).map(|()| success(Vec::new()))
            }
            RequestCode::PUSH_REPLY_MESSAGE_TO_CLIENT => Ok(self.waiting.arrived(&command)),
            RequestCode::GET_CONSUMER_STATUS_FROM_CLIENT => self.status(&command),
            RequestCode::GET_CONSUMER_RUNNING_INFO => self.running_info(&command),
            RequestCode::CONSUME_MESSAGE_DIRECTLY => match self.consume(&command) {
                Ok(consumed) => return consumed,
                Err(refusal) => Err(refusal),
            },
            _ => Err(Command::response(
                ResponseCode::REQUEST_CODE_NOT_SUPPORTED,
                Some(format!(" request type {} not supported", command.code)),
            )),
        };
        if command.is_oneway() {
            if let Err(refusal) = answer {
                let remark = refusal.remark;
                tracing::debug!(%code, addr, remark, "a push that this client does not serve was dropped");
            }
            return Box::pin(std::future::ready(None));
        }
        let answer = answer.unwrap_or_else(|refusal| refusal);
        Box::pin(std::future::ready(Some(answer)))
    }

    fn on_connect(&self, addr: &str) {
        let mut connected = self
            .connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        connected.insert(addr.to_owned());
        self.connection.notify_one();
    }
}

fn header_of<H: for<'a> ReadFields<'a>>(command: &Command) -> Result<H, Command> {
    command.header().map_err(|error| refusal(error.to_string()))
}

fn refusal(remark: String) -> Command {
    Command::response(ResponseCode::SYSTEM_ERROR, Some(remark))
}

fn success(body: Vec<u8>) -> Command {
    Command::response(ResponseCode::SUCCESS, None).with_body(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_to(pushes: &Pushes, command: Command) -> Option<Command> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(pushes.on_request("broker", command))
    }

    #[test]
    fn what_nobody_can_answer_is_refused_and_nothing_breaks() {
        let pushes = Pushes::new(&["ns:9876".to_owned()]);
        for code in [
            RequestCode::GET_CONSUMER_STATUS_FROM_CLIENT,
            RequestCode::GET_CONSUMER_RUNNING_INFO,
            RequestCode::CONSUME_MESSAGE_DIRECTLY,
            RequestCode::RESET_CONSUMER_CLIENT_OFFSET,
        ] {
            let answer = answer_to(&pushes, Command::request(code, &())).unwrap();
            assert_eq!(answer.response_code(), ResponseCode::SYSTEM_ERROR, "{code}");
        }
        let unknown = answer_to(&pushes, Command::request(RequestCode(12345), &())).unwrap();
        let want = ResponseCode::REQUEST_CODE_NOT_SUPPORTED;
        assert_eq!(unknown.response_code(), want);
    }
}
