//! What a role implements to answer a connection's requests.

use std::sync::Arc;

use bytes::Bytes;
use protocol::code::RequestCode;
use protocol::command::Command;
use protocol::frame::Codec;
use protocol::header::{FieldError, Header, ReadFields};
use protocol::reply::ReplyHead;
use tokio::sync::watch;

use crate::connection::Connection;
use crate::replies::Replies;

/// One request as it lies in the connection's read buffer.
#[derive(Clone)]
pub struct Request<'a> {
    /// The decoded header.
    pub header: Header<'a>,
    /// The body, as sent.
    pub body: &'a [u8],
    /// The codec of the header, in which the answer is written too.
    pub codec: Codec,
}

impl<'a> Request<'a> {
    /// The request code.
    pub fn code(&self) -> RequestCode {
        RequestCode(self.header.code)
    }

    /// What an answer to this request needs to know about it.
    pub fn head(&self) -> ReplyHead {
        ReplyHead::of(self.codec, &self.header)
    }

    /// The custom header fields as the typed header of the request.
    pub fn read<H: ReadFields<'a>>(&self) -> Result<H, FieldError> {
        self.header.fields.read()
    }

    /// An owned copy, for work that leaves the read loop.
    pub fn to_command(&self) -> Command {
        Command::from_header(&self.header, self.codec, Bytes::copy_from_slice(self.body))
    }

    /// The request that `command` would be on a wire, without bytes in between.
    pub(crate) fn of(command: &'a Command) -> Self {
        Request {
            header: command.as_header(),
            body: &command.body,
            codec: command.codec,
        }
    }
}

/// The watermark that held replies wait for.
///
/// `position` never decreases. `failed` is final: what lies above `position` will never pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// Replies held for a position at or below this one are released.
    pub position: u64,
    /// No reply above `position` will be released any more.
    pub failed: bool,
}

/// Why a held reply is not released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldFailure {
    /// The gate failed (a sync error), or the service has no gate.
    GateFailed,
    /// The gate did not reach the position within `hold_timeout`.
    TimedOut,
}

/// A role's side of its connections.
pub trait Service: Send + Sync + 'static {
    /// Answers every request that one read of the connection yielded, in order. Never called with none.
    ///
    /// Runs on the reactor, so it must not block. A request that is answered later takes its
    /// [`head`](Request::head) and an `Arc` of the connection along, and answers by
    /// [`Connection::reply`]. Calls of one socket connection never overlap; calls of an in-process connection may.
    fn serve(&self, connection: &Arc<Connection>, requests: &[Request<'_>], replies: &mut Replies);

    /// A reply that was held will not be released. Writes to `head` what the peer is told instead of `answer`.
    fn refuse_held(
        &self,
        failure: HeldFailure,
        head: ReplyHead,
        answer: &Command,
        replies: &mut Replies,
    );

    /// The watermark for [`Replies::reply_when`]; asked once a connection. None for a role that holds nothing.
    fn gate(&self) -> Option<watch::Receiver<Gate>>;

    /// The connection is closed; called exactly once for each connection, after its last `serve`.
    fn closed(&self, connection: &Arc<Connection>);
}
