//! Headers of frames: what every request and response says of itself, in either codec, borrowed from the frame.

mod binary;
mod fields;
mod json;
mod last_answer;
mod places;
mod repeat;
mod scan;

use std::borrow::Cow;

use thiserror::Error;

pub(crate) use fields::FieldValue;
pub use fields::{FieldError, FieldMap, Fields, ReadFields, WriteFields};
pub(crate) use last_answer::LastAnswer;
pub use repeat::Headers;
pub use scan::JsonError;

use crate::frame::Codec;
use crate::language::Language;

/// Bit of `flag`: the frame answers a request.
pub const FLAG_RESPONSE: i32 = 1;
/// Bit of `flag`: nobody waits for an answer.
pub const FLAG_ONEWAY: i32 = 2;

/// A decoded header. It borrows from the frame, and allocates only where a JSON string holds an escape.
#[derive(Clone, Debug)]
pub struct Header<'a> {
    /// Request or response code.
    pub code: i32,
    /// The sender's language.
    pub language: Language,
    /// The sender's version.
    pub version: i32,
    /// Correlates a response with its request on one connection.
    pub opaque: i32,
    /// `FLAG_RESPONSE`, `FLAG_ONEWAY`.
    pub flag: i32,
    /// What a response says to a person.
    pub remark: Option<Cow<'a, str>>,
    /// The fields of the code's own header.
    pub fields: Fields<'a>,
}

/// The bytes are no header. Nothing is known of the sender's intent: close the connection.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// Text that is not UTF-8.
    #[error("the header holds text that is not UTF-8")]
    NotUtf8,
    /// Not JSON, or not an object.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A JSON member of the wrong kind.
    #[error("the header's member {0} is not an integer")]
    NotAnInteger(&'static str),
    /// A binary length that is negative or reaches behind the header.
    #[error("the binary header ends inside {0}")]
    Truncated(&'static str),
}

impl<'a> Header<'a> {
    /// Decodes a frame's header. Never panics; reads no length that it has not checked.
    pub fn decode(codec: Codec, bytes: &'a [u8]) -> Result<Header<'a>, HeaderError> {
        match codec {
            Codec::Json => json::decode(bytes),
            Codec::Rocketmq => binary::decode(bytes),
        }
    }

    /// The same header, as the one of a buffer with this number.
    fn numbered(mut self, serial: u32) -> Self {
        self.fields = self.fields.numbered(serial);
        self
    }

    /// Whether the frame answers a request.
    pub fn is_response(&self) -> bool {
        self.flag & FLAG_RESPONSE != 0
    }

    /// Whether nobody waits for an answer.
    pub fn is_oneway(&self) -> bool {
        self.flag & FLAG_ONEWAY != 0
    }
}

/// What `encode` writes: a header whose fields come from a `WriteFields`.
pub(crate) struct HeaderParts<'a> {
    pub(crate) code: i32,
    pub(crate) language: Language,
    pub(crate) version: i32,
    pub(crate) opaque: i32,
    pub(crate) flag: i32,
    pub(crate) remark: Option<&'a str>,
}

impl HeaderParts<'_> {
    /// Appends the header to `out`, in Java's form and order.
    pub(crate) fn encode(
        &self,
        codec: Codec,
        fields: &impl WriteFields,
        out: &mut bytes::BytesMut,
    ) {
        match codec {
            Codec::Json => {
                json::encode(self, fields, out);
            }
            Codec::Rocketmq => binary::encode(self, fields, out),
        }
    }
}
