//! The fields of a code's own header: names and values as text, read in place or from a map.

use std::borrow::Cow;

use thiserror::Error;

use super::HeaderError;
use super::binary::{take_long, take_short};
use super::scan::{JsonError, Scanner, Value, unescape};
use crate::number;

/// Fields as they lie in a frame, or in a `FieldMap`. Cheap to copy; they were checked when the header was decoded.
#[derive(Clone, Copy)]
pub struct Fields<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    /// A JSON object with its braces.
    Json(&'a str),
    /// Entries of the binary header.
    Binary(&'a [u8]),
    Map(&'a FieldMap),
}

/// Takes each field's name and value.
type Visit<'v, 'a> = dyn FnMut(&[u8], FieldValue<'a>) -> Result<(), FieldError> + 'v;

/// One value, not converted.
#[derive(Clone, Copy)]
pub(crate) enum FieldValue<'a> {
    Text(&'a str),
    /// JSON text with escapes.
    Escaped(&'a str),
    /// UTF-8, as checked when the header was decoded.
    Bytes(&'a [u8]),
}

impl<'a> FieldValue<'a> {
    pub(crate) fn text(self) -> Cow<'a, str> {
        match self {
            FieldValue::Text(text) => Cow::Borrowed(text),
            FieldValue::Escaped(raw) => unescape(raw, true),
            FieldValue::Bytes(bytes) => String::from_utf8_lossy(bytes),
        }
    }

    /// Runs `read` on the value's bytes without allocating where there is no escape.
    fn with_bytes<T>(self, read: impl FnOnce(&[u8]) -> T) -> T {
        match self {
            FieldValue::Text(text) => read(text.as_bytes()),
            FieldValue::Escaped(raw) => read(unescape(raw, true).as_bytes()),
            FieldValue::Bytes(bytes) => read(bytes),
        }
    }

    pub(crate) fn integer(self) -> Option<i64> {
        self.with_bytes(number::parse)
    }

    pub(crate) fn boolean(self) -> bool {
        self.with_bytes(parse_boolean)
    }
}

/// Java's `Boolean.parseBoolean`: "true" in any case, and nothing else, is true.
pub(crate) fn parse_boolean(text: &[u8]) -> bool {
    text.eq_ignore_ascii_case(b"true")
}

impl<'a> Fields<'a> {
    /// No fields at all.
    pub const EMPTY: Fields<'static> = Fields(Source::Binary(&[]));

    /// Fields of an in-process command.
    pub fn from_map(map: &'a FieldMap) -> Self {
        Self(Source::Map(map))
    }

    /// A value that the scanner has accepted; anything but an object holds no fields.
    pub(super) fn from_json(value: Value<'a>) -> Result<Self, JsonError> {
        match value {
            Value::Literal(text) if text.starts_with('{') => Ok(Self(Source::Json(text))),
            _ => Ok(Fields::EMPTY),
        }
    }

    /// Checks every length and text of binary entries.
    pub(super) fn from_binary(entries: &'a [u8]) -> Result<Self, HeaderError> {
        let mut rest = entries;
        while !rest.is_empty() {
            let (name, behind) =
                take_short(rest).ok_or(HeaderError::Truncated("a field's name"))?;
            let (value, behind) =
                take_long(behind).ok_or(HeaderError::Truncated("a field's value"))?;
            if std::str::from_utf8(name).is_err() || std::str::from_utf8(value).is_err() {
                return Err(HeaderError::NotUtf8);
            }
            rest = behind;
        }
        Ok(Self(Source::Binary(entries)))
    }

    /// Hands every present field to `visit`, in the order of the frame, until it fails. A later duplicate overrides.
    pub(crate) fn visit<E>(
        &self,
        mut visit: impl FnMut(&[u8], FieldValue<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.0 {
            Source::Json(text) => visit_json(text, visit),
            Source::Binary(mut rest) => {
                while let Some((name, behind)) = take_short(rest) {
                    let Some((value, behind)) = take_long(behind) else {
                        break;
                    };
                    rest = behind;
                    // Java reads an empty text as null.
                    if !value.is_empty() {
                        visit(name, FieldValue::Bytes(value))?;
                    }
                }
                Ok(())
            }
            Source::Map(map) => map
                .0
                .iter()
                .try_for_each(|(name, value)| visit(name.as_bytes(), FieldValue::Text(value))),
        }
    }

    /// As `visit`, without an instance of the walk for each caller.
    pub(crate) fn visit_dyn(&self, visit: &mut Visit<'_, 'a>) -> Result<(), FieldError> {
        self.visit(visit)
    }

    /// Every field, numbers and booleans as text.
    pub fn iter(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + use<'a> {
        let mut entries = Vec::new();
        let _: Result<(), std::convert::Infallible> = self.visit(|name, value| {
            entries.push((
                Cow::Owned(String::from_utf8_lossy(name).into_owned()),
                value.text(),
            ));
            Ok(())
        });
        entries.into_iter()
    }

    /// The value of one field.
    pub fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        let mut found = None;
        let _: Result<(), std::convert::Infallible> = self.visit(|candidate, value| {
            if candidate == name.as_bytes() {
                found = Some(value);
            }
            Ok(())
        });
        found.map(FieldValue::text)
    }

    /// The fields as a typed header.
    pub fn read<H: ReadFields<'a>>(&self) -> Result<H, FieldError> {
        H::read_fields(*self)
    }

    /// A copy that owns its text.
    pub fn to_map(&self) -> FieldMap {
        let mut map = FieldMap::default();
        let _: Result<(), std::convert::Infallible> = self.visit(|name, value| {
            map.insert(
                String::from_utf8_lossy(name).into_owned(),
                value.text().into_owned(),
            );
            Ok(())
        });
        map
    }
}

/// Walks an object that the header's scan has accepted, so the scanner's own errors cannot occur; they would end the walk.
fn visit_json<'a, E>(
    text: &'a str,
    mut visit: impl FnMut(&[u8], FieldValue<'a>) -> Result<(), E>,
) -> Result<(), E> {
    enum Stop<E> {
        Malformed,
        Visitor(E),
    }
    impl<E> From<JsonError> for Stop<E> {
        fn from(_: JsonError) -> Self {
            Stop::Malformed
        }
    }
    let result = Scanner::new(text).object(|scanner, key, key_escaped| {
        let value = match scanner.value()? {
            Value::Text {
                raw,
                escaped: false,
            } => FieldValue::Text(raw),
            Value::Text { raw, escaped: true } => FieldValue::Escaped(raw),
            Value::Literal(text) => FieldValue::Text(text),
            Value::Null => return Ok(()),
        };
        visit(unescape(key, key_escaped).as_bytes(), value).map_err(Stop::Visitor)
    });
    match result {
        Err(Stop::Visitor(error)) => Err(error),
        Ok(()) | Err(Stop::Malformed) => Ok(()),
    }
}

impl std::fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Fields that own their text, in the order of insertion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldMap(Vec<(Cow<'static, str>, String)>);

impl FieldMap {
    /// No fields.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The fields that a typed header writes.
    pub fn of(header: &impl WriteFields) -> Self {
        let mut map = Self::new();
        header.write_fields(&mut |name, value| map.insert(name.to_owned(), value.to_owned()));
        map
    }

    /// The value of one field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(candidate, _)| *candidate == name)
            .map(|(_, value)| value)
    }

    /// Sets one field, replacing an earlier value.
    pub fn insert(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(candidate, _)| *candidate == name) {
            Some(entry) => entry.1 = value,
            None => self.0.push((name, value)),
        }
    }

    /// Removes one field and returns its value.
    pub fn remove(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(candidate, _)| candidate == name)?;
        Some(self.0.remove(at).1)
    }

    /// Every field.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, value.as_str()))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: Into<Cow<'static, str>>, V: Into<String>> FromIterator<(N, V)> for FieldMap {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        for (name, value) in entries {
            map.insert(name, value);
        }
        map
    }
}

/// The fields of a request do not make its header. Answer with SYSTEM_ERROR and this text, as Java does.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FieldError {
    /// A required field is absent.
    #[error("the custom field <{0}> is null")]
    Missing(&'static str),
    /// A field is not what its type demands.
    #[error("the custom field <{name}> is no {expected}: {value}")]
    Invalid {
        /// Name of the field.
        name: &'static str,
        /// The type that was expected.
        expected: &'static str,
        /// What was there, cut to a readable length.
        value: String,
    },
}

impl FieldError {
    pub(crate) fn invalid(
        name: &'static str,
        expected: &'static str,
        value: FieldValue<'_>,
    ) -> Self {
        const SHOWN_CHARACTERS_MAX: usize = 64;
        let value = value.text().chars().take(SHOWN_CHARACTERS_MAX).collect();
        Self::Invalid {
            name,
            expected,
            value,
        }
    }
}

/// A typed header that can be read from fields.
pub trait ReadFields<'a>: Sized {
    /// Reads the header; unknown fields are ignored.
    fn read_fields(fields: Fields<'a>) -> Result<Self, FieldError>;
}

/// A typed header that can be written as fields.
pub trait WriteFields {
    /// Hands each present field to `write`, in a fixed order.
    fn write_fields(&self, write: &mut dyn FnMut(&str, &str));
}

impl WriteFields for () {
    fn write_fields(&self, _: &mut dyn FnMut(&str, &str)) {}
}

impl WriteFields for FieldMap {
    fn write_fields(&self, write: &mut dyn FnMut(&str, &str)) {
        for (name, value) in self.iter() {
            write(name, value);
        }
    }
}

impl<H: WriteFields> WriteFields for &H {
    fn write_fields(&self, write: &mut dyn FnMut(&str, &str)) {
        H::write_fields(self, write);
    }
}

impl ReadFields<'_> for () {
    fn read_fields(_: Fields<'_>) -> Result<Self, FieldError> {
        Ok(())
    }
}

impl ReadFields<'_> for FieldMap {
    fn read_fields(fields: Fields<'_>) -> Result<Self, FieldError> {
        Ok(fields.to_map())
    }
}
