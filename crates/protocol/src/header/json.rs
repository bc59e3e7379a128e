//! The header as JSON: read in every dialect that clients write, written as Java writes it.

use bytes::{BufMut, BytesMut};

use super::fields::Fields;
use super::places::Places;
use super::scan::{Kind, Scanner, Token, is_plain};
use super::{Header, HeaderError, HeaderParts, WriteFields};
use crate::frame::Codec;
use crate::language::Language;
use crate::number;

pub(super) fn decode(bytes: &[u8]) -> Result<Header<'_>, HeaderError> {
    decode_noted(bytes).map(|(header, _)| header)
}

/// The header, and where the digits of its opaque lie when it is written so that the next one can be compared with it: each field a string,
/// and one opaque, a number.
pub(super) fn decode_noted(
    bytes: &[u8],
) -> Result<(Header<'_>, Option<(usize, usize)>), HeaderError> {
    let text = std::str::from_utf8(bytes).map_err(|_| HeaderError::NotUtf8)?;
    let mut header = Header {
        code: 0,
        language: Language::JAVA,
        version: 0,
        opaque: 0,
        flag: 0,
        remark: None,
        fields: Fields::EMPTY,
    };
    let mut all_strings = false;
    let (mut opaque, mut opaques) = (None, 0);
    let mut scanner = Scanner::new(text);
    scanner.object(|scanner, key| {
        let key = key.bytes(text);
        if key == b"extFields" {
            let found = scanner.value_indexed()?;
            all_strings = found.all_strings;
            header.fields = Fields::from_json(text, &found);
            return Ok(());
        }
        let value = scanner.value()?;
        match key {
            b"code" => header.code = integer(text, value, "code")?,
            b"version" => header.version = integer(text, value, "version")?,
            b"opaque" => {
                header.opaque = integer(text, value, "opaque")?;
                opaques += 1;
                opaque = (value.kind == Kind::Literal)
                    .then_some((value.start as usize, value.end as usize));
            }
            b"flag" => header.flag = integer(text, value, "flag")?,
            b"language" => header.language = language(text, value),
            b"remark" => header.remark = (value.kind != Kind::Null).then(|| value.unescaped(text)),
            _ => {}
        }
        Ok::<(), HeaderError>(())
    })?;
    scanner.finish()?;
    Ok((header, opaque.filter(|_| all_strings && opaques == 1)))
}

/// An integer that fits, in quotes or without; `null` counts as absent.
fn integer(text: &str, value: Token, name: &'static str) -> Result<i32, HeaderError> {
    if value.kind == Kind::Null {
        return Ok(0);
    }
    let value = number::parse(value.bytes(text)).and_then(|value| i32::try_from(value).ok());
    value.ok_or(HeaderError::NotAnInteger(name))
}

/// A name, or a number from libraries that write enums as numbers.
fn language(text: &str, value: Token) -> Language {
    match value.kind {
        Kind::Plain => Language::from_name(value.text(text)),
        Kind::Literal => {
            let number = value.text(text).parse();
            number.map_or(Language::OTHER, Language::from_number)
        }
        Kind::Escaped | Kind::Null => Language::OTHER,
    }
}

/// Where what differs between two answers of one kind lies in an encoded header.
pub(super) struct Noted {
    /// `None` when there are too many fields, or a value is not written as it is.
    pub(super) places: Option<Places>,
    pub(super) opaque: (usize, usize),
}

/// Keys in Java's order, `extFields` and `remark` only where there is something to say.
pub(super) fn encode(
    header: &HeaderParts<'_>,
    fields: &impl WriteFields,
    out: &mut BytesMut,
) -> Noted {
    let start = out.len();
    let mut places = Places::new();
    let mut all_placed = true;
    out.put_slice(b"{\"code\":");
    put_integer(out, header.code);
    let mut first = true;
    fields.write_fields(&mut |name, value| {
        out.put_slice(if first { b",\"extFields\":{" } else { b"," });
        first = false;
        put_string(out, name);
        out.put_u8(b':');
        let value_at = out.len() - start + 1;
        put_string(out, value);
        let value_end = out.len() - start - 1;
        let name_end = value_at - "\":\"".len();
        let name_at = name_end.saturating_sub(name.len());
        all_placed &= value_end - value_at == value.len()
            && places.push((name_at, name_end), (value_at, value_end));
    });
    if !first {
        out.put_u8(b'}');
    }
    out.put_slice(b",\"flag\":");
    put_integer(out, header.flag);
    out.put_slice(b",\"language\":\"");
    out.put_slice(header.language.name().as_bytes());
    out.put_slice(b"\",\"opaque\":");
    let opaque = out.len() - start;
    put_integer(out, header.opaque);
    let opaque = (opaque, out.len() - start);
    if let Some(remark) = header.remark {
        out.put_slice(b",\"remark\":");
        put_string(out, remark);
    }
    out.put_slice(b",\"serializeTypeCurrentRPC\":\"");
    out.put_slice(Codec::Json.name().as_bytes());
    out.put_slice(b"\",\"version\":");
    put_integer(out, header.version);
    out.put_u8(b'}');
    Noted {
        places: all_placed.then_some(places),
        opaque,
    }
}

fn put_integer(out: &mut BytesMut, value: i32) {
    out.put_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// A JSON string, escaped as fastjson does: short escapes where they exist, `\u00XX` for the other control characters.
fn put_string(out: &mut BytesMut, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.put_u8(b'"');
    if is_plain(bytes) {
        out.put_slice(bytes);
        out.put_u8(b'"');
        return;
    }
    let mut written = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= b' ' && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.put_slice(&bytes[written..at]);
        written = at + 1;
        let short = match byte {
            b'"' | b'\\' => byte,
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            _ => {
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                out.put_slice(&[b'\\', b'u', b'0', b'0', high, low]);
                continue;
            }
        };
        out.put_slice(&[b'\\', short]);
    }
    out.put_slice(&bytes[written..]);
    out.put_u8(b'"');
}
