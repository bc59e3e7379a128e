//! Requests by message: the program that asks waits for the reply of the one that consumes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use protocol::code::ResponseCode;
use protocol::command::Command;
use protocol::headers::ReplyMessageRequest;
use protocol::properties::{self, Properties};
use protocol::sysflag;
use protocol::topic::reply_topic;
use tokio::sync::oneshot;

use crate::compression;
use crate::error::{Error, SendError};
use crate::message::{Message, Received};

/// The value of `MSG_TYPE` by which a reply is known.
pub(crate) const REPLY: &str = "reply";
/// Requests of one producer that wait for replies.
const WAITING_MAX: usize = 1 << 16;

/// What the consumer of a request answered.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The body, decompressed.
    pub body: Bytes,
    /// The replying program's own flag.
    pub flag: i32,
    /// When it was made, ms since 1970.
    pub born_timestamp_ms: i64,
    properties: String,
}

impl Reply {
    /// A property by name.
    pub fn property(&self, name: &str) -> Option<&str> {
        properties::get(&self.properties, name)
    }

    /// All properties, the system's among them.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        properties::iter(&self.properties)
    }
}

/// A request without a reply.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The request was not accepted.
    #[error(transparent)]
    Send(#[from] SendError),
    /// It was accepted, and nobody replied in time. Whoever consumes it may have done so all the same.
    #[error("nobody replied to the message of topic {topic} within {after:?}")]
    NoReply {
        /// The topic.
        topic: String,
        /// How long was waited.
        after: Duration,
    },
}

impl Message {
    /// The reply to a message that came from [`Producer::request`](crate::Producer::request), here or in another language. Any producer sends
    /// it, by [`Producer::send`](crate::Producer::send); success means that the program that asked has it.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the message asks for no reply.
    pub fn reply_to(request: &Received, body: impl Into<Bytes>) -> Result<Message, Error> {
        let wanted = |name| {
            request.property(name).ok_or_else(|| {
                let id = &request.message_id;
                Error::Invalid(format!("message {id} asks for no reply: it lacks {name}"))
            })
        };
        let cluster = wanted(properties::CLUSTER)?;
        let mut reply = Message::new(reply_topic(cluster), body);
        for name in [
            properties::CORRELATION_ID,
            properties::MESSAGE_REPLY_TO_CLIENT,
        ] {
            reply = reply.property(name, wanted(name)?);
        }
        if let Some(ttl) = request.property(properties::MESSAGE_TTL) {
            reply = reply.property(properties::MESSAGE_TTL, ttl);
        }
        Ok(reply.property(properties::MESSAGE_TYPE, REPLY))
    }
}

/// The requests of one client that wait for replies, by correlation id.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    table: Mutex<HashMap<String, oneshot::Sender<Reply>>>,
}

/// A request that waits; dropped, it no longer does.
pub(crate) struct Awaited {
    waiting: Arc<Waiting>,
    id: String,
    reply: oneshot::Receiver<Reply>,
}

impl Waiting {
    fn with<R>(&self, f: impl FnOnce(&mut HashMap<String, oneshot::Sender<Reply>>) -> R) -> R {
        f(&mut self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins to wait for the reply to a message that bears `id`.
    pub(crate) fn begin(self: &Arc<Self>, id: &str) -> Result<Awaited, Error> {
        let (sender, reply) = oneshot::channel();
        let is_full = self.with(|table| {
            let is_full = table.len() >= WAITING_MAX;
            if !is_full {
                table.insert(id.to_owned(), sender);
            }
            is_full
        });
        if is_full {
            return Err(Error::Invalid(format!(
                "{WAITING_MAX} requests of this producer wait for replies, which is the limit"
            )));
        }
        Ok(Awaited {
            waiting: Arc::clone(self),
            id: id.to_owned(),
            reply,
        })
    }

    /// A broker brings a reply. One that nobody waits for any more is dropped, and the broker is told success, as Java's clients do.
    pub(crate) fn arrived(&self, command: &Command) -> Command {
        match read(command) {
            Ok((id, reply)) => {
                let waiter = self.with(|table| table.remove(&id));
                // Whoever waited may have given up this very moment.
                if waiter.is_none_or(|waiter| waiter.send(reply).is_err()) {
                    tracing::debug!(id, "a reply came too late");
                }
                Command::response(ResponseCode::SUCCESS, None)
            }
            Err(reason) => Command::response(ResponseCode::SYSTEM_ERROR, Some(reason)),
        }
    }
}

impl Awaited {
    /// The reply, unless it does not come until `deadline`.
    pub(crate) async fn until(mut self, deadline: Instant) -> Option<Reply> {
        let reply = tokio::time::timeout_at(deadline.into(), &mut self.reply).await;
        reply.ok()?.ok()
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.waiting.with(|table| table.remove(&self.id));
    }
}

/// A reply with the id of its request.
fn read(command: &Command) -> Result<(String, Reply), String> {
    let header: ReplyMessageRequest = command.header().map_err(|error| error.to_string())?;
    let mut all = Properties::parse(header.properties.as_deref().unwrap_or(""));
    all.insert(
        properties::REPLY_MESSAGE_ARRIVE_TIME,
        crate::instance::now_ms().to_string(),
    );
    let id = all
        .get(properties::CORRELATION_ID)
        .ok_or("the reply has no CORRELATION_ID")?
        .to_owned();
    let body = if header.sys_flag & sysflag::COMPRESSED != 0 {
        compression::decompress(header.sys_flag, &command.body)?
    } else {
        command.body.clone()
    };
    let reply = Reply {
        body,
        flag: header.flag,
        born_timestamp_ms: header.born_timestamp_ms,
        properties: all.encode(),
    };
    Ok((id, reply))
}
