//! Answers that come one behind the other, each written over a copy of the one before.
//!
//! The answers of a connection repeat, as its requests do. Of a JSON header with the same code and the same names, only values are
//! different; where these are as long as before, they are written into a copy. Whatever else differs is encoded like a first answer: the
//! bytes are always those of [`HeaderParts::encode`], which the tests compare.

use bytes::BytesMut;

use super::json::{self, Noted};
use super::places::Places;
use super::scan::is_plain;
use super::{HeaderParts, WriteFields};

/// Longer headers are not kept: a connection keeps one.
const KEPT_BYTES_MAX: usize = 512;

/// The JSON header that was encoded last.
#[derive(Debug, Default)]
pub(crate) struct LastAnswer {
    text: Vec<u8>,
    /// All that its constant parts say.
    code: i32,
    flag: i32,
    version: i32,
    places: Places,
    opaque: (usize, usize),
}

impl LastAnswer {
    /// Appends a JSON header to `out`, and keeps it in `last`.
    pub(crate) fn encode(
        last: &mut Option<Box<LastAnswer>>,
        parts: &HeaderParts<'_>,
        fields: &impl WriteFields,
        out: &mut BytesMut,
    ) {
        if let Some(last) = last.as_ref().filter(|last| last.has_constants_of(parts))
            && last.repeat(parts.opaque, fields, out)
        {
            return;
        }
        let start = out.len();
        let Noted { places, opaque } = json::encode(parts, fields, out);
        let text = &out[start..];
        let Some(places) =
            places.filter(|_| parts.remark.is_none() && text.len() <= KEPT_BYTES_MAX)
        else {
            *last = None;
            return;
        };
        let mut kept = last.take().unwrap_or_default();
        kept.text.clear();
        kept.text.extend_from_slice(text);
        (kept.code, kept.flag, kept.version) = (parts.code, parts.flag, parts.version);
        kept.places = places;
        kept.opaque = opaque;
        *last = Some(kept);
    }

    /// The memory that is held.
    pub(crate) fn memory(&self) -> usize {
        size_of::<Self>() + self.text.capacity()
    }

    fn has_constants_of(&self, parts: &HeaderParts<'_>) -> bool {
        parts.remark.is_none()
            && (parts.code, parts.flag, parts.version) == (self.code, self.flag, self.version)
    }

    /// Appends the header with these values, if it is as long as this one. Otherwise false, and `out` is as before.
    fn repeat(&self, opaque: i32, fields: &impl WriteFields, out: &mut BytesMut) -> bool {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(opaque).as_bytes();
        if digits.len() != self.opaque.1 - self.opaque.0 {
            return false;
        }
        let start = out.len();
        out.extend_from_slice(&self.text);
        let header = &mut out[start..];
        header[self.opaque.0..self.opaque.1].copy_from_slice(digits);
        let mut field = 0;
        let mut repeats = true;
        fields.write_fields(&mut |name, value| {
            repeats = repeats && self.put(field, name.as_bytes(), value.as_bytes(), header);
            field += 1;
        });
        if repeats && field == self.places.count() {
            return true;
        }
        out.truncate(start);
        false
    }

    /// Writes one value over the old one. False when it is not the same field or has another length.
    #[inline]
    fn put(&self, at: usize, name: &[u8], value: &[u8], header: &mut [u8]) -> bool {
        let Some(place) = self.places.place(at) else {
            return false;
        };
        let old = usize::from(place.value)..usize::from(place.value_end);
        let is_same_field =
            self.text[usize::from(place.name)..usize::from(place.name_end)] == *name;
        if !is_same_field || old.len() != value.len() || !is_plain(value) {
            return false;
        }
        header[old].copy_from_slice(value);
        true
    }
}
