//! The properties of a message: one string of names and values.
//!
//! ```text
//! name 0x01 value 0x02 name 0x01 value 0x02 …        the last 0x02 may be absent
//! ```
//! An entry without a name or without a value does not count. Of equal names the last one counts.

/// Between a name and its value.
pub const NAME_VALUE_SEPARATOR: char = '\u{1}';
/// Behind each value.
pub const PROPERTY_SEPARATOR: char = '\u{2}';
/// Between the keys inside `KEYS`.
pub const KEY_SEPARATOR: char = ' ';
/// The longest property string that a record can hold.
pub const BYTES_MAX: usize = i16::MAX as usize;

pub use names::*;

mod names;

/// The value of one property.
pub fn get<'a>(properties: &'a str, name: &str) -> Option<&'a str> {
    // From the end, since of equal names the last one counts.
    let mut rest = properties;
    loop {
        let (before, entry) = match memchr::memrchr(PROPERTY_SEPARATOR as u8, rest.as_bytes()) {
            Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
            None => (None, rest),
        };
        if let Some(value) = entry
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix(NAME_VALUE_SEPARATOR))
            && !value.is_empty()
            && !name.is_empty()
        {
            return Some(value);
        }
        rest = before?;
    }
}

/// Every property, in order.
pub fn iter(properties: &str) -> Iter<'_> {
    Iter { rest: properties }
}

/// See [`iter`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a str);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let bytes = self.rest.as_bytes();
            let end = memchr::memchr(PROPERTY_SEPARATOR as u8, bytes).unwrap_or(bytes.len());
            let entry = &self.rest[..end];
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            let separator = memchr::memchr(NAME_VALUE_SEPARATOR as u8, entry.as_bytes());
            if let Some(at @ 1..) = separator
                && at + 1 < entry.len()
            {
                return Some((&entry[..at], &entry[at + 1..]));
            }
        }
        None
    }
}

/// Appends one property to a property string.
pub fn push(properties: &mut String, name: &str, value: &str) {
    if !properties.is_empty() && !properties.ends_with(PROPERTY_SEPARATOR) {
        properties.push(PROPERTY_SEPARATOR);
    }
    properties.push_str(name);
    properties.push(NAME_VALUE_SEPARATOR);
    properties.push_str(value);
    properties.push(PROPERTY_SEPARATOR);
}

/// Properties that can be changed, in the order of insertion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(Vec<(String, String)>);

impl Properties {
    /// No properties.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The properties of a string.
    pub fn parse(properties: &str) -> Self {
        iter(properties).collect()
    }

    /// The value of one property.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(candidate, _)| *candidate == name)
            .map(|(_, value)| value)
    }

    /// Sets one property, replacing an earlier value.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(candidate, _)| *candidate == name) {
            Some(entry) => entry.1 = value,
            None => self.0.push((name, value)),
        }
    }

    /// Removes one property and returns its value.
    pub fn remove(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(candidate, _)| candidate == name)?;
        Some(self.0.remove(at).1)
    }

    /// Every property, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many properties there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The property string.
    pub fn encode(&self) -> String {
        let mut properties = String::with_capacity(
            self.0
                .iter()
                .map(|(name, value)| name.len() + value.len() + 2)
                .sum(),
        );
        for (name, value) in self.iter() {
            push(&mut properties, name, value);
        }
        properties
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Properties {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(entries: I) -> Self {
        let entries = entries
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        Self(crate::pairs::collect_last(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "KEYS\u{1}k1 k2\u{2}TAGS\u{1}old\u{2}EMPTY\u{1}\u{2}\u{1}nameless\u{2}bare\u{2}TAGS\u{1}new";

    #[test]
    fn a_property_is_found_by_its_whole_name() {
        assert_eq!(get(EXAMPLE, "KEYS"), Some("k1 k2"));
        assert_eq!(get(EXAMPLE, "KEY"), None);
        assert_eq!(get(EXAMPLE, ""), None);
        assert_eq!(get("", "KEYS"), None);
    }

    #[test]
    fn the_last_of_equal_names_counts() {
        assert_eq!(get(EXAMPLE, "TAGS"), Some("new"));
        assert_eq!(Properties::parse(EXAMPLE).get("TAGS"), Some("new"));
    }

    #[test]
    fn entries_without_name_or_value_do_not_count() {
        assert_eq!(get(EXAMPLE, "EMPTY"), None);
        assert_eq!(iter(EXAMPLE).count(), 3);
    }

    #[test]
    fn a_missing_separator_at_the_end_is_supplied() {
        let mut properties = EXAMPLE.to_owned();
        push(&mut properties, "WAIT", "true");
        assert_eq!(get(&properties, "TAGS"), Some("new"));
        assert_eq!(get(&properties, "WAIT"), Some("true"));
    }
}
