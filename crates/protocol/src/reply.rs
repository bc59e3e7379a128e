//! Answers, encoded straight into a connection's output.

use bytes::{Bytes, BytesMut};

use crate::code::ResponseCode;
use crate::frame::{Codec, FrameWriter};
use crate::header::{FLAG_RESPONSE, Header, HeaderParts, WriteFields};
use crate::language::Language;
use crate::version;

/// What an answer needs to know of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyHead {
    /// The request's codec. The answer uses the same: some clients read no other.
    pub codec: Codec,
    /// The request's opaque.
    pub opaque: i32,
    /// Nobody waits for an answer, so none must be sent.
    pub oneway: bool,
}

impl ReplyHead {
    /// What an answer to a request with this header needs.
    pub fn of(codec: Codec, header: &Header<'_>) -> Self {
        Self {
            codec,
            opaque: header.opaque,
            oneway: header.is_oneway(),
        }
    }
}

/// Appends one response frame to `out`, the body given in parts. Whether an answer is wanted at all, the caller decides.
pub fn encode(
    out: &mut BytesMut,
    head: ReplyHead,
    code: ResponseCode,
    remark: Option<&str>,
    fields: &impl WriteFields,
    body: &[&[u8]],
) {
    encode_iter(out, head, code, remark, fields, body.iter().copied());
}

/// As `encode`, with a body of shared slices.
pub fn encode_parts(
    out: &mut BytesMut,
    head: ReplyHead,
    code: ResponseCode,
    remark: Option<&str>,
    fields: &impl WriteFields,
    body: &[Bytes],
) {
    encode_iter(
        out,
        head,
        code,
        remark,
        fields,
        body.iter().map(|part| &**part),
    );
}

/// Appends only the part in front of the body, which announces `body_bytes` that the caller writes behind it.
pub fn encode_head(
    out: &mut BytesMut,
    head: ReplyHead,
    code: ResponseCode,
    remark: Option<&str>,
    fields: &impl WriteFields,
    body_bytes: usize,
) {
    let frame = FrameWriter::begin(out);
    let parts = HeaderParts {
        code: code.0,
        language: Language::JAVA,
        version: version::CURRENT,
        opaque: head.opaque,
        flag: FLAG_RESPONSE,
        remark,
    };
    parts.encode(head.codec, fields, out);
    frame.finish_header(out, head.codec, body_bytes);
}

fn encode_iter<'a>(
    out: &mut BytesMut,
    head: ReplyHead,
    code: ResponseCode,
    remark: Option<&str>,
    fields: &impl WriteFields,
    body: impl Iterator<Item = &'a [u8]> + Clone,
) {
    let body_bytes = body.clone().map(<[u8]>::len).sum();
    encode_head(out, head, code, remark, fields, body_bytes);
    out.reserve(body_bytes);
    for part in body {
        out.extend_from_slice(part);
    }
}
