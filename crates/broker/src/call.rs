//! What a request handler receives and gives back.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use protocol::code::{RequestCode, ResponseCode};
use protocol::header::{FieldError, FieldMap, ReadFields, WriteFields};
use remoting::{Connection, Request};

use crate::Broker;

/// Answers one request. It must not panic on anything that a client can send.
pub type Handler = fn(&Broker, &Call<'_>) -> Result<Reply, Refusal>;

/// One row of the table from code to handler.
pub type Entry = (RequestCode, Kind, Handler);

/// Where a handler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On the reactor, in the order of the connection's requests: memory only, microseconds.
    Inline,
    /// On the blocking pool, with an owned copy of the request: whatever may touch files or wait. Answers of one
    /// connection may overtake each other.
    Blocking,
}

/// One request and where it came from.
pub struct Call<'a> {
    /// The request, borrowed from the read buffer or from an owned copy of it.
    pub request: &'a Request<'a>,
    /// The connection that carried it.
    pub connection: &'a Arc<Connection>,
}

impl<'a> Call<'a> {
    /// The request's own header.
    pub fn header<H: ReadFields<'a>>(&self) -> Result<H, Refusal> {
        Ok(self.request.read()?)
    }

    /// The request's body as the JSON that it holds.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Refusal> {
        protocol::json::decode(self.request.body)
            .map_err(|error| Refusal::system_error(error.to_string()))
    }

    /// The request's body.
    pub fn body(&self) -> &'a [u8] {
        self.request.body
    }
}

/// The answer to a request.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The response code.
    pub code: ResponseCode,
    /// What it says to a person.
    pub remark: Option<Cow<'static, str>>,
    /// The response's own header.
    pub fields: FieldMap,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// Success with nothing to say.
    pub fn ok() -> Reply {
        Reply::with(ResponseCode::SUCCESS)
    }

    /// An answer with another code that is no refusal, such as "not found".
    pub fn with(code: ResponseCode) -> Reply {
        Reply {
            code,
            remark: None,
            fields: FieldMap::default(),
            body: Bytes::new(),
        }
    }

    /// The same with a response header.
    pub fn header(mut self, header: &impl WriteFields) -> Reply {
        header
            .write_fields(&mut |name, value| self.fields.insert(name.to_owned(), value.to_owned()));
        self
    }

    /// The same with a body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Reply {
        self.body = body.into();
        self
    }

    /// The same with a remark.
    pub fn remark(mut self, remark: impl Into<Cow<'static, str>>) -> Reply {
        self.remark = Some(remark.into());
        self
    }
}

/// Why a request is not served: a code that clients know, and a remark that a person can act on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {remark}")]
pub struct Refusal {
    /// The response code.
    pub code: ResponseCode,
    /// What to do about it.
    pub remark: String,
}

impl Refusal {
    /// A refusal with its code.
    pub fn new(code: ResponseCode, remark: impl Into<String>) -> Refusal {
        Refusal {
            code,
            remark: remark.into(),
        }
    }

    /// SYSTEM_ERROR: what the request says cannot be understood, or this server failed.
    pub fn system_error(remark: impl Into<String>) -> Refusal {
        Refusal::new(ResponseCode::SYSTEM_ERROR, remark)
    }
}

impl From<FieldError> for Refusal {
    fn from(error: FieldError) -> Refusal {
        Refusal::system_error(error.to_string())
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Reply {
        Reply::with(refusal.code).remark(refusal.remark)
    }
}
