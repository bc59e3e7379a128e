//! SEND_REPLY_MESSAGE (324, 325): the answer to a message goes to the client that asked, over its own connection (326).
//! Java 5.3: `ReplyMessageProcessor`.
//!
//! The reply is stored in the cluster's reply topic as well, unless `storeReplyMessageEnable` is off, so that nothing that was said is lost; the
//! sender hears success when the client that asked has taken it. Nothing here waits on a thread.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::code::{RequestCode, ResponseCode};
use protocol::command::Command;
use protocol::headers::{ReplyMessageRequest, SendMessageRequestV2};
use protocol::properties::{self as names, BYTES_MAX as PROPERTIES_BYTES_MAX, Properties};
use protocol::reply::ReplyHead;
use remoting::{Account, Connection, Permit, Replies, Request};
use storage::{Appended, FlushMode, NewMessage};
use tokio::sync::OwnedSemaphorePermit;

use crate::Broker;
use crate::call::Refusal;
use crate::overload;
use crate::requests::send::{self, Header, Region, Sent, born_host, topic};
use crate::settings::Settings;

/// Replies that wait until the client that asked has taken them. Each holds a copy of its message.
pub(crate) const REPLIES_MAX: usize = 16_384;
/// How long that client may take. Java 5.3: `Broker2Client.callClient`.
const PUSH_TIMEOUT: Duration = Duration::from_secs(10);
/// The message id of a reply that is not stored: old clients cannot read an answer without one. Java 5.3:
/// `ReplyMessageProcessor.handlePushReplyResult`.
const NOT_STORED: &str = "0";

/// Whether a request is a reply.
pub(crate) fn is_reply(code: RequestCode) -> bool {
    matches!(
        code,
        RequestCode::SEND_REPLY_MESSAGE | RequestCode::SEND_REPLY_MESSAGE_V2
    )
}

/// A reply on its way to the client that asked.
struct Push {
    sender: Sender,
    asker_id: String,
    asker: Arc<Connection>,
    command: Command,
    _permit: (Permit, OwnedSemaphorePermit, Account),
}

/// Who replied, and what is to be said of the reply.
struct Sender {
    broker: Arc<Broker>,
    settings: Arc<Settings>,
    connection: Arc<Connection>,
    head: ReplyHead,
    /// Where the reply was stored.
    stored: Option<Appended>,
    queue_id: i32,
}

/// Passes one reply on.
pub(crate) fn serve(
    broker: &Arc<Broker>,
    connection: &Arc<Connection>,
    request: &Request<'_>,
    replies: &mut Replies,
) {
    let settings = broker.settings();
    let head = request.head();
    let outcome = match overload::of_sends(broker, replies) {
        Some(refusal) => Err(refusal),
        None => accept(broker, &settings, connection, request),
    };
    match outcome {
        Ok(push) => drop(broker.runtime.spawn(push.run())),
        Err(refusal) => {
            let (code, remark) = (refusal.code, Some(&*refusal.remark));
            replies.reply(head, code, remark, &Region(&settings), &[]);
        }
    }
}

/// Checks a reply, stores it and finds the client that asked.
fn accept(
    broker: &Arc<Broker>,
    settings: &Arc<Settings>,
    connection: &Arc<Connection>,
    request: &Request<'_>,
) -> Result<Push, Refusal> {
    let header: Header<'_> = if request.code() == RequestCode::SEND_REPLY_MESSAGE {
        request.read()?
    } else {
        let SendMessageRequestV2(header) = request.read()?;
        header
    };
    let config = topic::find_or_create_durably(broker, settings, connection, &header)?;
    let host = born_host(connection);
    topic::check_queue(&config, header.queue_id, host)?;
    let text = header.properties.as_deref().unwrap_or("");
    let limit = settings.limits.message_bytes_max;
    if request.body.len() > limit || text.len() > PROPERTIES_BYTES_MAX {
        return Err(send::illegal(limit));
    }
    let permit = permit(broker, connection, request.body.len())?;
    let queue_id = topic::queue_id(broker, &config, header.queue_id)?;
    let stored = if settings.keys.store_reply_message_enable {
        store(broker, &header, queue_id, host, request.body)
    } else {
        None
    };
    let Some(asker_id) = names::get(text, names::MESSAGE_REPLY_TO_CLIENT) else {
        let name = names::MESSAGE_REPLY_TO_CLIENT;
        return Err(Refusal::system_error(format!(
            "reply message properties[{name}] is null"
        )));
    };
    let Some(asker) = broker.clients.registry().producer(asker_id) else {
        return Err(Refusal::system_error(format!(
            "push reply message fail, channel of <{asker_id}> not found."
        )));
    };
    Ok(Push {
        command: command(broker, &header, host, request.body),
        asker_id: asker_id.to_owned(),
        asker,
        sender: Sender {
            broker: broker.clone(),
            settings: settings.clone(),
            connection: connection.clone(),
            head: request.head(),
            stored,
            queue_id,
        },
        _permit: permit,
    })
}

/// A place among the replies on their way.
fn permit(
    broker: &Broker,
    connection: &Connection,
    bytes: usize,
) -> Result<(Permit, OwnedSemaphorePermit, Account), Refusal> {
    let waiting = "replies wait for the clients that asked";
    let of_connection = connection
        .permit()
        .ok_or_else(|| overload::too_many(connection.permits_max(), waiting))?;
    let of_broker = broker.replies.clone().try_acquire_owned();
    let of_broker = of_broker.map_err(|_| overload::too_many(REPLIES_MAX, waiting))?;
    Ok((
        of_connection,
        of_broker,
        overload::room(&broker.budget, bytes)?,
    ))
}

/// Stores the reply as it came. One that cannot be stored is passed on all the same.
fn store(
    broker: &Broker,
    header: &Header<'_>,
    queue_id: i32,
    born_host: SocketAddr,
    body: &[u8],
) -> Option<Appended> {
    let message = NewMessage {
        topic: &header.topic,
        queue_id,
        flag: header.flag,
        sys_flag: header.sys_flag,
        born_timestamp_ms: header.born_timestamp_ms,
        born_host,
        store_host: broker.identity().address,
        reconsume_times: header.reconsume_times.unwrap_or(0),
        prepared_transaction_offset: 0,
        body,
        properties: header.properties.as_deref().unwrap_or(""),
    };
    let mut appended = Vec::with_capacity(1);
    match broker.store.append(&[message], &mut appended) {
        Ok(()) => {
            let stored = appended[0];
            let counters = &broker.counters;
            counters.put(1, stored.physical_offset, stored.end);
            Some(stored)
        }
        Err(error) => {
            tracing::warn!(topic = &*header.topic, %error, "a reply is passed on and not stored");
            None
        }
    }
}

/// What the client that asked is sent.
fn command(broker: &Broker, header: &Header<'_>, born_host: SocketAddr, body: &[u8]) -> Command {
    let mut properties = Properties::parse(header.properties.as_deref().unwrap_or(""));
    let now_ms = broker.now_ms();
    properties.insert(names::PUSH_REPLY_TIME, now_ms.to_string());
    // Without the brackets that an address of IPv6 has beside a port, as Java writes it.
    let host = |address: SocketAddr| format!("{}:{}", address.ip(), address.port());
    let request = ReplyMessageRequest {
        producer_group: header.producer_group.to_string(),
        topic: header.topic.to_string(),
        default_topic: header.default_topic.to_string(),
        default_topic_queue_nums: header.default_topic_queue_nums,
        queue_id: header.queue_id,
        sys_flag: header.sys_flag,
        born_timestamp_ms: header.born_timestamp_ms,
        flag: header.flag,
        properties: Some(properties.encode()),
        reconsume_times: header.reconsume_times,
        unit_mode: header.unit_mode.unwrap_or(false),
        born_host: host(born_host),
        store_host: host(broker.identity().address),
        store_timestamp_ms: now_ms,
    };
    Command::request(RequestCode::PUSH_REPLY_MESSAGE_TO_CLIENT, &request)
        .with_body(Bytes::copy_from_slice(body))
}

impl Push {
    /// Passes the reply on, and tells its sender how that went.
    async fn run(self) {
        let pushed = match self.asker.call(self.command, PUSH_TIMEOUT).await {
            Ok(answer) if answer.response_code() == ResponseCode::SUCCESS => Ok(()),
            Ok(answer) => Err(format!(
                "{} {}",
                answer.response_code(),
                answer.remark.unwrap_or_default()
            )),
            Err(error) => Err(error.to_string()),
        };
        let outcome = match pushed {
            Ok(()) => self.sender.flushed().await,
            Err(reason) => Err(Refusal::system_error(format!(
                "push reply message to {} fail. {reason}",
                self.asker_id
            ))),
        };
        if let Err(error) = self.sender.answer(&outcome) {
            let peer = self.sender.connection.peer();
            tracing::debug!(%peer, %error, "an answer to a reply found no way");
        }
    }
}

impl Sender {
    /// Returns when what was stored survives what the flush mode promises.
    async fn flushed(&self) -> Result<(), Refusal> {
        let store = &self.broker.store;
        match self.stored {
            Some(stored) if store.flush_mode() == FlushMode::Sync => {
                let patience = self.settings.keys.sync_flush_timeout;
                send::flushed(store, stored.end, Duration::from_millis(patience)).await
            }
            _ => Ok(()),
        }
    }

    fn answer(&self, outcome: &Result<(), Refusal>) -> Result<(), remoting::SendError> {
        let mut offset_ids = self.settings.offset_ids;
        let sent = Sent {
            settings: &self.settings,
            message_id: self
                .stored
                .map_or(NOT_STORED, |stored| offset_ids.id(stored.physical_offset)),
            queue_id: self.queue_id,
            queue_offset: self.stored.map_or(0, |stored| stored.queue_offset as i64),
            transaction_id: None,
            recall_handle: "",
            is_inner_batch: false,
        };
        let (code, remark) = match outcome {
            Ok(()) => (ResponseCode::SUCCESS, None),
            Err(refusal) => (refusal.code, Some(&*refusal.remark)),
        };
        self.connection.reply(self.head, code, remark, &sent, &[])
    }
}
