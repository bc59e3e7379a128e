//! Headers that come one behind the other, each decoded by what it shares with the one before.
//!
//! The requests of a connection repeat: of three hundred bytes of a send's header, the opaque, the time, the queue and a message id differ
//! from those of the send before. Where two headers differ in nothing but the content of values, the second has the structure of the first,
//! so that only those values are looked at. Whatever else differs is decoded like a first header: the result is always the same as that of
//! [`Header::decode`], which the tests and a fuzz target compare.

use super::binary;
use super::fields::{Change, Fields, is_whole};
use super::json;
use super::places::Places;
use super::scan::{Kind, Scanner};
use super::{Header, HeaderError};
use crate::frame::Codec;
use crate::number;

/// Decodes the headers of one buffer, in their order.
#[derive(Default)]
pub struct Headers<'a> {
    last: Option<Last<'a>>,
    /// Counts the headers that can be followed.
    serial: u32,
}

/// The header before, and what the next one needs to know of it.
struct Last<'a> {
    codec: Codec,
    /// Its fields lie at known places.
    header: Header<'a>,
    /// Of JSON, where the opaque's digits lie.
    opaque: (usize, usize),
}

impl<'a> Headers<'a> {
    /// Decodes the next header: as [`Header::decode`], only quicker where it repeats the one before.
    pub fn decode(&mut self, codec: Codec, bytes: &'a [u8]) -> Result<Header<'a>, HeaderError> {
        if let Some(last) = self.last.as_mut().filter(|last| last.codec == codec) {
            let serial = self.serial + 1;
            let followed = match codec {
                Codec::Json => last.follow_json(bytes, serial),
                Codec::Rocketmq => last.follow_binary(bytes, serial),
            };
            if followed.is_some() {
                self.serial = serial;
                return Ok(last.header.clone());
            }
        }
        self.last = None;
        let (header, opaque) = match codec {
            Codec::Json => json::decode_noted(bytes)?,
            Codec::Rocketmq => (binary::decode(bytes)?, Some((0, 0))),
        };
        // Numbers wrap to 0 after four thousand million headers of one buffer, of which there are a thousand.
        self.serial = self.serial.wrapping_add(1);
        let header = header.numbered(self.serial);
        if header.remark.is_none()
            && let Some(opaque) = opaque
            && header.fields.places().is_some()
        {
            self.last = Some(Last {
                codec,
                header: header.clone(),
                opaque,
            });
        }
        Ok(header)
    }
}

impl<'a> Last<'a> {
    /// Becomes the header that `bytes` hold, if it has the structure of this one. `None` leaves it as it was.
    fn follow_json(&mut self, bytes: &'a [u8], serial: u32) -> Option<()> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut scanner = Scanner::new(text);
        let (old, places) = self.header.fields.places()?;
        let mut walk = Walk::new(old.as_bytes(), bytes, places);
        // The opaque lies before all fields or behind them.
        let first_value = places.place(0).map_or(0, |place| usize::from(place.value));
        let mut opaque = None;
        while let Some(old) = walk.next_difference() {
            if opaque.is_none() && (self.opaque.0..=self.opaque.1).contains(&old) {
                let start = walk.new_position(self.opaque.0)?;
                let end = scanner.number_end(start);
                opaque = Some((start, end));
                if self.opaque.0 > first_value {
                    walk.place_rest();
                }
                walk.go_on(self.opaque.1, end);
                continue;
            }
            let (at, place) =
                walk.field_with(|place| place.value <= old && old <= place.value_end)?;
            let start = walk.new_position(place.value)?;
            let value = scanner.string_at(start).ok()?;
            walk.changed(at, place, value.end as usize, value.kind == Kind::Escaped)?;
        }
        let (places, changed, moved) = walk.finish()?;
        let (start, end) = match opaque {
            Some(opaque) => opaque,
            None if self.opaque.0 < first_value => self.opaque,
            None => (
                self.opaque.0.checked_add_signed(moved)?,
                self.opaque.1.checked_add_signed(moved)?,
            ),
        };
        let number = number::parse(bytes.get(start..end)?)?;
        self.header.opaque = i32::try_from(number).ok()?;
        self.opaque = (start, end);
        self.header.fields = Fields::placed(text, places, Change::since(serial, changed));
        Some(())
    }

    /// The same for a binary header. Its fixed part is read, and its entries are compared.
    fn follow_binary(&mut self, bytes: &'a [u8], serial: u32) -> Option<()> {
        let (header, entries) = binary::decode_fixed(bytes).ok()?;
        if header.remark.is_some() {
            return None;
        }
        let text = std::str::from_utf8(entries).ok()?;
        let (old, places) = self.header.fields.places()?;
        let mut walk = Walk::new(old.as_bytes(), entries, places);
        while let Some(old) = walk.next_difference() {
            let length_of = |value: usize| value.checked_sub(binary::LENGTH_BYTES);
            let (at, place) = walk.field_with(|place| {
                length_of(place.value).is_some_and(|length| length <= old) && old < place.value_end
            })?;
            let length_at = walk.new_position(length_of(place.value)?)?;
            let (value, behind) = binary::take_long(entries.get(length_at..)?)?;
            // An empty value is an absent one.
            if value.is_empty() || !is_whole(value) {
                return None;
            }
            walk.changed(at, place, entries.len() - behind.len(), false)?;
        }
        let (places, changed, _) = walk.finish()?;
        self.header = header;
        self.header.fields = Fields::placed(text, places, Change::since(serial, changed));
        Some(())
    }
}

/// A value's bounds in the old text.
#[derive(Clone, Copy)]
struct Bounds {
    value: usize,
    value_end: usize,
}

/// A walk along two texts of one structure, from difference to difference.
struct Walk<'o> {
    old: &'o [u8],
    new: &'o [u8],
    old_at: usize,
    new_at: usize,
    /// Becomes that of the new text.
    places: Places,
    old_places: &'o Places,
    /// Fields before this one are done.
    field: usize,
    changed: u16,
}

impl<'o> Walk<'o> {
    fn new(old: &'o [u8], new: &'o [u8], places: &'o Places) -> Self {
        Self {
            old,
            new,
            old_at: 0,
            new_at: 0,
            places: *places,
            old_places: places,
            field: 0,
            changed: 0,
        }
    }

    /// The position in the old text at which the new one differs; `None` at the end of both.
    fn next_difference(&mut self) -> Option<usize> {
        let same = common_prefix(&self.old[self.old_at..], &self.new[self.new_at..]);
        self.old_at += same;
        self.new_at += same;
        let ended = self.old_at == self.old.len() && self.new_at == self.new.len();
        (!ended).then_some(self.old_at)
    }

    /// How much further a position lies in the new text than in the old one.
    fn moved(&self) -> isize {
        self.new_at as isize - self.old_at as isize
    }

    /// The position in the new text of what lies at `old` in the old one, up to the value with the difference.
    fn new_position(&self, old: usize) -> Option<usize> {
        old.checked_add_signed(self.moved())
    }

    /// The first of the fields that are left which holds the difference.
    fn field_with(&self, holds: impl Fn(Bounds) -> bool) -> Option<(usize, Bounds)> {
        (self.field..self.old_places.count()).find_map(|at| {
            let place = self.old_places.place(at)?;
            let bounds = Bounds {
                value: usize::from(place.value),
                value_end: usize::from(place.value_end),
            };
            holds(bounds).then_some((at, bounds))
        })
    }

    /// The value of field `at` is another one, which ends at `new_end`.
    fn changed(&mut self, at: usize, old: Bounds, new_end: usize, escaped: bool) -> Option<()> {
        if new_end > usize::from(u16::MAX) {
            return None;
        }
        self.places.shift(self.field, at + 1, self.moved() as i32);
        self.places.end_value(at, new_end, escaped);
        self.changed |= 1 << at;
        self.field = at + 1;
        self.go_on(old.value_end, new_end);
        Some(())
    }

    /// The fields that are left moved as far as what has been walked along.
    fn place_rest(&mut self) {
        let (count, moved) = (self.places.count(), self.moved());
        self.places.shift(self.field, count, moved as i32);
        self.field = count;
    }

    fn go_on(&mut self, old: usize, new: usize) {
        self.old_at = old;
        self.new_at = new;
    }

    /// The places in the new text, one bit for each field that changed, and how much longer the new text is. `None` when it is too long.
    fn finish(mut self) -> Option<(Places, u16, isize)> {
        let moved = self.moved();
        if self.new.len() > usize::from(u16::MAX) {
            return None;
        }
        self.place_rest();
        Some((self.places, self.changed, moved))
    }
}

/// How many bytes at the front are the same.
#[inline]
fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    const WORD: usize = 16;
    let mut at = 0;
    while let (Some(a), Some(b)) = (
        one.get(at..).and_then(|rest| rest.first_chunk::<WORD>()),
        other.get(at..).and_then(|rest| rest.first_chunk::<WORD>()),
    ) {
        let differs = u128::from_le_bytes(*a) ^ u128::from_le_bytes(*b);
        if differs != 0 {
            return at + differs.trailing_zeros() as usize / 8;
        }
        at += WORD;
    }
    let rest = one[at..].iter().zip(&other[at..]);
    at + rest.take_while(|(a, b)| a == b).count()
}
