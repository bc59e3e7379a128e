//! Where the fields of a header lie in its text, noted while it is checked, so that reading them need not scan again.

use super::scan::{Kind, Token};

/// Places of few fields in a text that is not long.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Places {
    places: [Place; Places::FIELDS_MAX],
    count: u16,
    /// One bit a field: its value holds JSON's escapes.
    escaped: u16,
}

/// Positions of one field's name and value.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    pub(crate) name: u16,
    pub(crate) name_end: u16,
    pub(crate) value: u16,
    pub(crate) value_end: u16,
}

impl Places {
    /// Sends have at most 14 fields; a header with more is scanned twice.
    pub(crate) const FIELDS_MAX: usize = 16;

    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn count(&self) -> usize {
        usize::from(self.count)
    }

    pub(crate) fn place(&self, at: usize) -> Option<Place> {
        self.places[..self.count()].get(at).copied()
    }

    /// Notes a field of a JSON object. False when there is no room for it.
    #[inline]
    pub(crate) fn push_tokens(&mut self, name: Token, value: Token) -> bool {
        let at = self.count();
        let pushed = self.push(
            (name.start as usize, name.end as usize),
            (value.start as usize, value.end as usize),
        );
        if pushed {
            self.escaped |= u16::from(value.kind == Kind::Escaped) << at;
        }
        pushed
    }

    /// Notes a field by begin and end of its name and of its value, which lies behind it. False when there is no room for it.
    #[inline]
    pub(crate) fn push(&mut self, name: (usize, usize), value: (usize, usize)) -> bool {
        let at = self.count();
        if at >= Self::FIELDS_MAX || value.1 > usize::from(u16::MAX) {
            return false;
        }
        self.places[at] = Place {
            name: name.0 as u16,
            name_end: name.1 as u16,
            value: value.0 as u16,
            value_end: value.1 as u16,
        };
        self.count += 1;
        true
    }

    /// Moves the fields from `first` up to `behind` by as many bytes.
    pub(crate) fn shift(&mut self, first: usize, behind: usize, by: i32) {
        if by == 0 {
            return;
        }
        let moved = |position: u16| (i32::from(position) + by) as u16;
        for place in &mut self.places[first..behind] {
            *place = Place {
                name: moved(place.name),
                name_end: moved(place.name_end),
                value: moved(place.value),
                value_end: moved(place.value_end),
            };
        }
    }

    /// The value of field `at` ends there.
    pub(crate) fn end_value(&mut self, at: usize, value_end: usize, escaped: bool) {
        self.places[at].value_end = value_end as u16;
        self.escaped = self.escaped & !(1 << at) | u16::from(escaped) << at;
    }

    /// Name, value, and whether the value holds escapes, of field `at` in `text`; `None` behind the last one.
    #[inline(always)]
    pub(crate) fn get<'a>(&self, text: &'a str, at: usize) -> Option<(&'a [u8], &'a str, bool)> {
        if at >= self.count() {
            return None;
        }
        let place = self.places.get(at)?;
        let name = text
            .as_bytes()
            .get(usize::from(place.name)..usize::from(place.name_end))?;
        let value = text.get(usize::from(place.value)..usize::from(place.value_end))?;
        Some((name, value, self.escaped >> at & 1 != 0))
    }
}
