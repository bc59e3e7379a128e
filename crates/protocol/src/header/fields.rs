//! The fields of a code's own header: names and values as text, read in place or from a map.

use std::borrow::Cow;

use thiserror::Error;

use super::HeaderError;
use super::binary::{take_long, take_short};
use super::places::Places;
use super::scan::{Indexed, Kind, Scanner, unescape, unescape_into};
use crate::number;

/// Fields as they lie in a frame, or in a `FieldMap`. Cheap to copy; they were checked when the header was decoded.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    source: Source<'a>,
    change: Change,
}

/// What sets the fields apart from those of the header before.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Change {
    /// Counts the headers of a buffer; 0 for one that stands alone.
    pub(crate) serial: u32,
    /// One bit for each field, by position, whose value is not that of the header before, while all names are the same.
    pub(crate) changed: Option<u16>,
}

impl Change {
    pub(super) fn since(serial: u32, changed: u16) -> Self {
        Self {
            serial,
            changed: Some(changed),
        }
    }
}

#[derive(Clone, Copy)]
enum Source<'a> {
    /// A text, and where the fields lie in it: JSON, or entries of the binary header whose bytes, lengths included, happen to be text. The
    /// usual case, and the quick one.
    Placed(&'a str, Places),
    /// A JSON object with its braces.
    Json(&'a str),
    /// Entries of the binary header, each text in it UTF-8.
    Binary(&'a [u8]),
    Map(&'a FieldMap),
}

/// The name of a field, as written.
#[derive(Clone, Copy)]
pub(crate) struct FieldName<'a> {
    bytes: &'a [u8],
    escaped: bool,
}

impl<'a> FieldName<'a> {
    fn text(self) -> Cow<'a, str> {
        match (std::str::from_utf8(self.bytes), self.escaped) {
            (Ok(text), escaped) => unescape(text, escaped),
            (Err(_), _) => String::from_utf8_lossy(self.bytes),
        }
    }

    /// The bytes as written: with JSON's escapes, which none of RocketMQ's names needs.
    #[inline]
    pub(crate) fn raw(self) -> &'a [u8] {
        self.bytes
    }
}

/// The value of a field, as written. Small and flat, so that it travels in registers.
#[derive(Clone, Copy)]
pub(crate) struct FieldValue<'a> {
    text: &'a str,
    escaped: bool,
}

impl<'a> FieldValue<'a> {
    pub(crate) const EMPTY: Self = Self {
        text: "",
        escaped: false,
    };

    #[inline]
    fn plain(text: &'a str) -> Self {
        Self {
            text,
            escaped: false,
        }
    }

    #[inline]
    pub(crate) fn text(self) -> Cow<'a, str> {
        unescape(self.text, self.escaped)
    }

    /// The text, in the memory of `old` where it needs memory of its own.
    pub(crate) fn text_into(self, old: Option<Cow<'a, str>>) -> Cow<'a, str> {
        match old {
            Some(Cow::Owned(mut memory)) if self.escaped => {
                memory.clear();
                unescape_into(self.text, &mut memory);
                Cow::Owned(memory)
            }
            _ => self.text(),
        }
    }

    /// JSON's escapes are not undone: no client escapes digits.
    #[inline]
    pub(crate) fn integer(self) -> Option<i64> {
        number::parse(self.text.as_bytes())
    }

    #[inline]
    pub(crate) fn boolean(self) -> bool {
        parse_boolean(self.text.as_bytes())
    }
}

/// Java's `Boolean.parseBoolean`: "true" in any case, and nothing else, is true.
pub(crate) fn parse_boolean(text: &[u8]) -> bool {
    text.eq_ignore_ascii_case(b"true")
}

impl<'a> Fields<'a> {
    /// No fields at all.
    pub const EMPTY: Fields<'static> = Fields::of(Source::Binary(&[]));

    const fn of(source: Source<'a>) -> Self {
        Self {
            source,
            change: Change {
                serial: 0,
                changed: None,
            },
        }
    }

    /// Fields of an in-process command.
    pub fn from_map(map: &'a FieldMap) -> Self {
        Self::of(Source::Map(map))
    }

    /// A value that the scanner has accepted; anything but an object holds no fields.
    pub(super) fn from_json(text: &'a str, found: &Indexed) -> Self {
        if let Some(places) = found.places {
            return Self::of(Source::Placed(text, places));
        }
        match found.value.text(text) {
            object if found.value.kind == Kind::Literal && object.starts_with('{') => {
                Self::of(Source::Json(object))
            }
            _ => Fields::EMPTY,
        }
    }

    /// Fields at known places of a text.
    pub(super) fn placed(text: &'a str, places: Places, change: Change) -> Self {
        Self {
            source: Source::Placed(text, places),
            change,
        }
    }

    /// The text and the places of the fields in it, if they were noted.
    pub(super) fn places(&self) -> Option<(&'a str, &Places)> {
        match &self.source {
            Source::Placed(text, places) => Some((text, places)),
            _ => None,
        }
    }

    /// The same fields, as those of the header with this number.
    pub(super) fn numbered(mut self, serial: u32) -> Self {
        self.change.serial = serial;
        self
    }

    /// What sets them apart from those of the header before.
    pub(crate) fn change(&self) -> Change {
        self.change
    }

    /// Name and value of the field at this position of a header that follows another one.
    #[inline]
    pub(crate) fn entry(&self, at: usize) -> Option<(FieldName<'a>, FieldValue<'a>)> {
        let Source::Placed(text, places) = &self.source else {
            return None;
        };
        let (bytes, text, escaped) = places.get(text, at)?;
        let name = FieldName {
            bytes,
            escaped: false,
        };
        Some((name, FieldValue { text, escaped }))
    }

    /// Checks every length and text of binary entries.
    pub(super) fn from_binary(entries: &'a [u8]) -> Result<Self, HeaderError> {
        let text = std::str::from_utf8(entries).ok();
        let mut places = Places::new();
        let mut all_placed = true;
        let mut rest = entries;
        while !rest.is_empty() {
            let (name, after_name) =
                take_short(rest).ok_or(HeaderError::Truncated("a field's name"))?;
            let (value, behind) =
                take_long(after_name).ok_or(HeaderError::Truncated("a field's value"))?;
            let is_utf8 = match text {
                // The whole is UTF-8; so is each piece that does not begin or end within a character.
                Some(_) => is_whole(name) && is_whole(value),
                None => std::str::from_utf8(name).is_ok() && std::str::from_utf8(value).is_ok(),
            };
            if !is_utf8 {
                return Err(HeaderError::NotUtf8);
            }
            // (Java reads an empty value as null: no field.)
            if !value.is_empty() {
                let name_end = entries.len() - after_name.len();
                let value_end = entries.len() - behind.len();
                let name_at = (name_end - name.len(), name_end);
                all_placed &= places.push(name_at, (value_end - value.len(), value_end));
            }
            rest = behind;
        }
        Ok(Self::of(match text {
            Some(text) if all_placed => Source::Placed(text, places),
            _ => Source::Binary(entries),
        }))
    }

    /// Every present field, in the order of the frame. Of equal names the last one counts.
    #[inline]
    pub(crate) fn entries(&self) -> Entries<'a> {
        Entries(match self.source {
            Source::Placed(text, places) => Walk::Placed {
                text,
                places,
                at: 0,
            },
            Source::Json(text) => {
                let mut scanner = Scanner::new(text);
                scanner.begin_object();
                Walk::Json(scanner)
            }
            Source::Binary(bytes) => Walk::Binary(bytes),
            Source::Map(map) => Walk::Map(map.0.iter()),
        })
    }

    /// Every field, numbers and booleans as text.
    pub fn iter(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + use<'a> {
        self.entries()
            .map(|(name, value)| (name.text(), value.text()))
    }

    /// The value of one field.
    pub fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        let found = self
            .entries()
            .filter(|(candidate, _)| candidate.raw() == name.as_bytes())
            .last();
        found.map(|(_, value)| value.text())
    }

    /// The fields as a typed header.
    pub fn read<H: ReadFields<'a>>(&self) -> Result<H, FieldError> {
        H::read_fields(*self)
    }

    /// A copy that owns its text.
    pub fn to_map(&self) -> FieldMap {
        self.iter()
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect()
    }
}

/// Whether a piece of valid UTF-8 begins and ends at character boundaries.
#[inline]
pub(super) fn is_whole(piece: &[u8]) -> bool {
    const CONTINUATION: u8 = 0b10;
    const ASCII_MAX: u8 = 0x7f;
    match piece {
        [] => true,
        [only] => *only <= ASCII_MAX,
        [first, .., last] => {
            first >> 6 != CONTINUATION && (*last <= ASCII_MAX || std::str::from_utf8(piece).is_ok())
        }
    }
}

/// A walk over fields that were checked when the header was decoded; whatever were amiss would end it.
pub(crate) struct Entries<'a>(Walk<'a>);

enum Walk<'a> {
    Placed {
        text: &'a str,
        places: Places,
        at: usize,
    },
    Json(Scanner<'a>),
    Binary(&'a [u8]),
    Map(std::slice::Iter<'a, (Cow<'static, str>, String)>),
}

impl<'a> Iterator for Entries<'a> {
    type Item = (FieldName<'a>, FieldValue<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.next_inlined()
    }
}

impl<'a> Entries<'a> {
    /// As `next`, for the loops of the hottest headers: through a call, name and value would pass through memory, which
    /// cost a third of the time.
    #[inline(always)]
    pub(crate) fn next_inlined(&mut self) -> Option<(FieldName<'a>, FieldValue<'a>)> {
        let plain_name = |bytes| FieldName {
            bytes,
            escaped: false,
        };
        match &mut self.0 {
            Walk::Placed { text, places, at } => {
                let (name, value, escaped) = places.get(text, *at)?;
                *at += 1;
                Some((
                    plain_name(name),
                    FieldValue {
                        text: value,
                        escaped,
                    },
                ))
            }
            Walk::Json(scanner) => loop {
                let key = scanner.next_key()?;
                let value = scanner.value().ok()?;
                if value.kind != Kind::Null {
                    let text = scanner.whole();
                    let name = FieldName {
                        bytes: key.bytes(text),
                        escaped: key.kind == Kind::Escaped,
                    };
                    return Some((
                        name,
                        FieldValue {
                            text: value.text(text),
                            escaped: value.kind == Kind::Escaped,
                        },
                    ));
                }
            },
            Walk::Binary(rest) => loop {
                let (name, value, behind) = take_entry(rest)?;
                *rest = behind;
                if !value.is_empty() {
                    return Some((
                        plain_name(name),
                        FieldValue::plain(std::str::from_utf8(value).ok()?),
                    ));
                }
            },
            Walk::Map(entries) => {
                let (name, value) = entries.next()?;
                Some((plain_name(name.as_bytes()), FieldValue::plain(value)))
            }
        }
    }
}

/// Name, value, and what follows. (Java reads an empty value as null: no field.)
#[inline]
fn take_entry(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (name, behind) = take_short(bytes)?;
    let (value, behind) = take_long(behind)?;
    Some((name, value, behind))
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
        let entries = entries
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        Self(crate::pairs::collect_last(entries))
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
