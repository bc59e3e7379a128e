//! Sends messages that nobody sees until the program says how its own work ended.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use protocol::code::RequestCode;
use protocol::command::Command;
use protocol::headers::{CheckTransactionStateRequest, EndTransactionRequest, WithBrokerName};
use protocol::message_id::decode_offset_id;
use protocol::properties;
use protocol::record::{self, CheckBody};
use protocol::sysflag;
use tokio::sync::Semaphore;

use crate::error::{Error, SendError};
use crate::instance::{CALL_TIMEOUT, Instance, now_ms};
use crate::message::{Message, MessageQueue, Received, SendReceipt, SendStatus};
use crate::producer::{Producer, ProducerBuilder};
use crate::trace::{DEFAULT_REGION, Ended, Note};

/// Questions of brokers that are answered at once. Further ones are dropped; their brokers ask again.
const CHECKS_MAX: usize = 64;

/// How the work ended that a message belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionState {
    /// It is done: consumers get the message.
    Commit,
    /// It is undone: nobody gets the message.
    Rollback,
    /// It is not known yet: the broker asks again later.
    Unknown,
}

impl TransactionState {
    fn code(self) -> i32 {
        match self {
            TransactionState::Commit => sysflag::TRANSACTION_COMMIT,
            TransactionState::Rollback => sysflag::TRANSACTION_ROLLBACK,
            TransactionState::Unknown => sysflag::TRANSACTION_NONE,
        }
    }
}

/// What became of a message that was sent in a transaction.
#[derive(Debug)]
pub struct TransactionReceipt {
    /// Where the half lies; its `message_id` is the id of the transaction.
    pub half: SendReceipt,
    /// How the work ended.
    pub state: TransactionState,
    /// Whether the broker was told. When it was not, it asks: the answer that is given then counts.
    pub told: Result<(), Error>,
}

/// Settings of a [`TransactionProducer`].
pub struct TransactionProducerBuilder {
    producer: ProducerBuilder,
    check: Check,
}

type Check =
    Arc<dyn Fn(Received) -> Pin<Box<dyn Future<Output = TransactionState> + Send>> + Send + Sync>;

/// Sends messages in transactions.
///
/// A message is stored where nobody sees it (a *half*), then the program's own work runs, and its outcome commits the message or takes it back. When the
/// broker does not hear the outcome, it asks any producer of the group: the check answers from what the program has kept of its work, and must
/// know also the work of other processes of the group.
///
/// ```no_run
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// use client::{Message, TransactionProducer, TransactionState};
///
/// let producer = TransactionProducer::builder("payments", "127.0.0.1:9876", |asked| async move {
///     // Look up what became of the work.
///     println!("how did {} end?", asked.message_id);
///     TransactionState::Unknown
/// })
/// .start()?;
/// let receipt = producer
///     .send(Message::new("orders", "paid"), |half| async move {
///         // Do the work, and keep half.message_id with it.
///         TransactionState::Commit
///     })
///     .await?;
/// assert_eq!(receipt.state, TransactionState::Commit);
/// # Ok(()) }
/// ```
pub struct TransactionProducer {
    producer: Producer,
}

impl TransactionProducerBuilder {
    /// How long one attempt to send may take. Default 3 s.
    #[must_use]
    pub fn send_timeout(mut self, timeout: Duration) -> Self {
        self.producer = self.producer.send_timeout(timeout);
        self
    }

    /// Attempts after the first, on another broker where there is one. Default 2. A half whose answer was lost stays behind, and is checked.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.producer = self.producer.retries(retries);
        self
    }

    /// Traces halves and ends, as [`ProducerBuilder::trace_to`] does.
    #[must_use]
    pub fn trace_to(mut self, topic: impl Into<String>) -> Self {
        self.producer = self.producer.trace_to(topic);
        self
    }

    /// Starts the producer. Servers are reached at the first send; brokers ask those of whom they have heard.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the name server list cannot be used.
    pub fn start(self) -> Result<TransactionProducer, Error> {
        let producer = self.producer.start()?;
        let (instance, check) = (producer.instance(), self.check);
        let (asked, group) = (Arc::downgrade(instance), producer.group().to_owned());
        let places = Arc::new(Semaphore::new(CHECKS_MAX));
        instance.on_check(move |addr, question| {
            let (Some(instance), Ok(place)) = (asked.upgrade(), places.clone().try_acquire_owned())
            else {
                return;
            };
            let (addr, group, check) = (addr.to_owned(), group.clone(), check.clone());
            tokio::spawn(async move {
                if let Err(reason) = answer(&instance, &addr, group, &question, &check).await {
                    tracing::warn!(
                        addr,
                        reason,
                        "a broker's question about a transaction is not answered; it asks again"
                    );
                }
                drop(place);
            });
        });
        Ok(TransactionProducer { producer })
    }
}

impl TransactionProducer {
    /// A producer of `group`; `nameservers` is `host:port`, several separated by `;`. `check` is asked how a transaction ended, with the message as
    /// it was sent; several questions may run at once.
    pub fn builder<F, R>(
        group: impl Into<String>,
        nameservers: impl Into<String>,
        check: F,
    ) -> TransactionProducerBuilder
    where
        F: Fn(Received) -> R + Send + Sync + 'static,
        R: Future<Output = TransactionState> + Send + 'static,
    {
        TransactionProducerBuilder {
            producer: Producer::builder(group, nameservers),
            check: Arc::new(move |asked| Box::pin(check(asked))),
        }
    }

    /// Stores the half, runs `work`, and tells the broker how it ended. On `told: Ok` with a commit the message is stored as the broker's
    /// configuration promises. A delay level of the message counts from the commit.
    ///
    /// When the half may not be on disk or on replicas (another status than [`SendStatus::SendOk`]), `work` does not run and the half is rolled back.
    ///
    /// # Errors
    /// [`SendError`] when no broker took the half; `work` did not run.
    pub async fn send<F, R>(
        &self,
        message: Message,
        work: F,
    ) -> Result<TransactionReceipt, SendError>
    where
        F: FnOnce(SendReceipt) -> R,
        R: Future<Output = TransactionState>,
    {
        let group = self.producer.group();
        let message = message
            .property(properties::TRANSACTION_PREPARED, "true")
            .property(properties::PRODUCER_GROUP, group);
        let half = self.producer.send(message).await?;
        let state = match half.status {
            SendStatus::SendOk => work(half.clone()).await,
            _ => TransactionState::Rollback,
        };
        let told = self.end(&half, state).await;
        Ok(TransactionReceipt { half, state, told })
    }

    /// Tells the broker how a half ended whose `work` did not know. A half ends once; the same end again is a success.
    ///
    /// # Errors
    /// When the broker was not reached or refused.
    pub async fn end(&self, half: &SendReceipt, state: TransactionState) -> Result<(), Error> {
        let malformed = || Error::Invalid(format!("{:?} is no message id", half.offset_message_id));
        let (_, physical) = decode_offset_id(&half.offset_message_id).ok_or_else(malformed)?;
        let header = EndTransactionRequest {
            topic: Some(half.queue.topic.clone()),
            producer_group: self.producer.group().to_owned(),
            tran_state_table_offset: half.queue_offset,
            commit_log_offset: physical as i64,
            commit_or_rollback: state.code(),
            from_transaction_check: false,
            msg_id: half.message_id.clone(),
            transaction_id: Some(half.message_id.clone()),
        };
        let header = WithBrokerName {
            header,
            broker_name: Some(half.queue.broker_name.clone()),
        };
        let instance = self.producer.instance();
        let addr = instance.master_of(&half.queue)?;
        if let Some(tracer) = self.producer.tracer()
            && tracer.traces(&half.queue.topic)
        {
            tracer.note(Note::ended(&Ended {
                at_ms: now_ms(),
                region: DEFAULT_REGION,
                group: self.producer.group(),
                topic: &half.queue.topic,
                message_id: &half.message_id,
                broker: &addr,
                state,
                is_checked: false,
            }));
        }
        let request = Command::request(RequestCode::END_TRANSACTION, &header);
        match state {
            // RocketMQ's brokers answer nothing to this one.
            TransactionState::Unknown => instance.send_oneway(&addr, request).await,
            _ => instance.call(&addr, request, CALL_TIMEOUT).await.map(drop),
        }
    }

    /// Unregisters from the brokers and closes the connections: other producers of the group are asked from then on.
    pub async fn shutdown(&self) {
        self.producer.shutdown().await;
    }
}

/// Asks the program, and tells the broker.
async fn answer(
    instance: &Instance,
    addr: &str,
    group: String,
    question: &Command,
    check: &Check,
) -> Result<(), String> {
    let asked: WithBrokerName<CheckTransactionStateRequest> =
        question.header().map_err(|error| error.to_string())?;
    let record =
        record::decode(&question.body, CheckBody::No).map_err(|error| error.to_string())?;
    let queue = MessageQueue {
        topic: record.topic.to_owned(),
        broker_name: asked.broker_name.clone().unwrap_or_default(),
        queue_id: record.queue_id,
    };
    let message = Received::from_record(&queue, &record, &question.body)?;
    let msg_id = message.message_id.clone();
    let state = check(message).await;
    let header = EndTransactionRequest {
        topic: asked.header.topic,
        producer_group: group,
        tran_state_table_offset: asked.header.tran_state_table_offset,
        commit_log_offset: asked.header.commit_log_offset,
        commit_or_rollback: state.code(),
        from_transaction_check: true,
        msg_id,
        transaction_id: asked.header.transaction_id,
    };
    let header = WithBrokerName {
        header,
        broker_name: asked.broker_name,
    };
    let request = Command::request(RequestCode::END_TRANSACTION, &header);
    let sent = instance.send_oneway(addr, request).await;
    sent.map_err(|error| error.to_string())
}
