//! Answers, encoded straight into a connection's output.

use bytes::{Bytes, BytesMut};

use crate::code::ResponseCode;
use crate::frame::{Codec, FrameWriter};
use crate::header::{FLAG_RESPONSE, Header, HeaderParts, LastAnswer, WriteFields};
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
    parts(head, code, remark).encode(head.codec, fields, out);
    frame.finish_header(out, head.codec, body_bytes);
}

fn parts(head: ReplyHead, code: ResponseCode, remark: Option<&str>) -> HeaderParts<'_> {
    HeaderParts {
        code: code.0,
        language: Language::JAVA,
        version: version::CURRENT,
        opaque: head.opaque,
        flag: FLAG_RESPONSE,
        remark,
    }
}

/// Encodes the answers of one connection, quicker where they repeat each other: the bytes are those of [`encode`].
#[derive(Debug, Default)]
pub struct Answers {
    last: Option<Box<LastAnswer>>,
}

impl Answers {
    /// As [`encode`].
    pub fn encode(
        &mut self,
        out: &mut BytesMut,
        head: ReplyHead,
        code: ResponseCode,
        remark: Option<&str>,
        fields: &impl WriteFields,
        body: &[&[u8]],
    ) {
        if head.codec != Codec::Json {
            return encode(out, head, code, remark, fields, body);
        }
        let body_bytes = body.iter().map(|part| part.len()).sum();
        let frame = FrameWriter::begin(out);
        LastAnswer::encode(&mut self.last, &parts(head, code, remark), fields, out);
        frame.finish_header(out, head.codec, body_bytes);
        for part in body {
            out.extend_from_slice(part);
        }
    }

    /// Memory that is held, in bytes.
    pub fn memory(&self) -> usize {
        self.last.as_ref().map_or(0, |last| last.memory())
    }
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
