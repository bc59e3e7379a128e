//! A request or response that owns its parts: what clients, in-process calls and anything off the hot path use.

use bytes::{Bytes, BytesMut};

use crate::code::{RequestCode, ResponseCode};
use crate::frame::{Codec, Frame, FrameWriter};
use crate::header::{
    FLAG_ONEWAY, FLAG_RESPONSE, FieldError, FieldMap, Fields, Header, HeaderError, HeaderParts,
    ReadFields, WriteFields,
};
use crate::language::Language;
use crate::version;

/// A whole frame as a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Request or response code.
    pub code: i32,
    /// The sender's language.
    pub language: Language,
    /// The sender's version.
    pub version: i32,
    /// Correlates a response with its request; the transport assigns it.
    pub opaque: i32,
    /// `FLAG_RESPONSE`, `FLAG_ONEWAY`.
    pub flag: i32,
    /// What a response says to a person.
    pub remark: Option<String>,
    /// The fields of the code's own header.
    pub fields: FieldMap,
    /// The body.
    pub body: Bytes,
    /// How the header is written on the wire.
    pub codec: Codec,
}

impl Command {
    /// A request without a body. Its opaque is 0 until the transport assigns one.
    pub fn request(code: RequestCode, header: &impl WriteFields) -> Self {
        Self {
            code: code.0,
            language: Language::JAVA,
            version: version::CURRENT,
            opaque: 0,
            flag: 0,
            remark: None,
            fields: FieldMap::of(header),
            body: Bytes::new(),
            codec: Codec::default(),
        }
    }

    /// A response without fields or body.
    pub fn response(code: ResponseCode, remark: Option<String>) -> Self {
        let request = Self::request(RequestCode(code.0), &());
        Self {
            flag: FLAG_RESPONSE,
            remark,
            ..request
        }
    }

    /// The same with a body.
    pub fn with_body(self, body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            ..self
        }
    }

    /// The same with the fields of `header`.
    pub fn with_header(self, header: &impl WriteFields) -> Self {
        Self {
            fields: FieldMap::of(header),
            ..self
        }
    }

    /// A frame as a value; its body is copied.
    pub fn decode(frame: &Frame<'_>) -> Result<Self, HeaderError> {
        let header = Header::decode(frame.codec, frame.header)?;
        Ok(Self::from_header(
            &header,
            frame.codec,
            Bytes::copy_from_slice(frame.body),
        ))
    }

    /// A decoded header as a value, with a body that is already owned.
    pub fn from_header(header: &Header<'_>, codec: Codec, body: Bytes) -> Self {
        Self {
            code: header.code,
            language: header.language,
            version: header.version,
            opaque: header.opaque,
            flag: header.flag,
            remark: header.remark.as_deref().map(str::to_owned),
            fields: header.fields.to_map(),
            body,
            codec,
        }
    }

    /// Appends the frame to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        let frame = FrameWriter::begin(out);
        let parts = HeaderParts {
            code: self.code,
            language: self.language,
            version: self.version,
            opaque: self.opaque,
            flag: self.flag,
            remark: self.remark.as_deref(),
        };
        parts.encode(self.codec, &self.fields, out);
        frame.finish_header(out, self.codec, self.body.len());
        out.extend_from_slice(&self.body);
    }

    /// The fields as a typed header.
    pub fn header<H: for<'a> ReadFields<'a>>(&self) -> Result<H, FieldError> {
        self.fields().read()
    }

    /// The fields, borrowed.
    pub fn fields(&self) -> Fields<'_> {
        Fields::from_map(&self.fields)
    }

    /// The header part, borrowed, as if it had just been decoded.
    pub fn as_header(&self) -> Header<'_> {
        Header {
            code: self.code,
            language: self.language,
            version: self.version,
            opaque: self.opaque,
            flag: self.flag,
            remark: self.remark.as_deref().map(Into::into),
            fields: self.fields(),
        }
    }

    /// Whether the frame answers a request.
    pub fn is_response(&self) -> bool {
        self.flag & FLAG_RESPONSE != 0
    }

    /// Whether nobody waits for an answer.
    pub fn is_oneway(&self) -> bool {
        self.flag & FLAG_ONEWAY != 0
    }

    /// Says that nobody waits for an answer.
    pub fn mark_oneway(&mut self) {
        self.flag |= FLAG_ONEWAY;
    }

    /// The code of a request.
    pub fn request_code(&self) -> RequestCode {
        RequestCode(self.code)
    }

    /// The code of a response.
    pub fn response_code(&self) -> ResponseCode {
        ResponseCode(self.code)
    }
}
