//! Numbers, and strings that hold one.

use std::cmp::Ordering;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Whole(i64),
    Decimal(f64),
}

impl Number {
    /// The number that a property holds: what Java's `Long.valueOf` or `Double.valueOf` would read from it.
    #[inline]
    pub(crate) fn read(text: &str) -> Option<Number> {
        match text.parse() {
            Ok(whole) => Some(Number::Whole(whole)),
            Err(_) => decimal(text).map(Number::Decimal),
        }
    }

    /// Java's order: NaN is above everything, -0.0 below 0.0. Whole numbers are compared exactly among themselves.
    #[inline]
    pub(crate) fn order(self, other: Number) -> Ordering {
        match (self, other) {
            (Number::Whole(left), Number::Whole(right)) => left.cmp(&right),
            (left, right) => left.decimal().total_cmp(&right.decimal()),
        }
    }

    fn decimal(self) -> f64 {
        match self {
            Number::Whole(value) => value as f64,
            Number::Decimal(value) => value,
        }
    }

    pub(crate) fn negated(self) -> Number {
        match self {
            Number::Whole(value) => Number::Whole(value.wrapping_neg()),
            Number::Decimal(value) => Number::Decimal(-value),
        }
    }
}

/// As `Double.valueOf`, without numbers in hexadecimal: blanks around it and a type letter behind it are allowed.
fn decimal(text: &str) -> Option<f64> {
    let text = text.trim_matches(|character: char| character <= ' ');
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    match unsigned {
        "NaN" => return Some(f64::NAN),
        "Infinity" if text.starts_with('-') => return Some(f64::NEG_INFINITY),
        "Infinity" => return Some(f64::INFINITY),
        _ => {}
    }
    // Rust would take "inf" and "nan", which Java does not.
    if !unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    text.strip_suffix(['f', 'F', 'd', 'D'])
        .unwrap_or(text)
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_numbers_where_java_says_so() {
        for (text, want) in [
            ("12", Some(Number::Whole(12))),
            ("+12", Some(Number::Whole(12))),
            ("-9223372036854775808", Some(Number::Whole(i64::MIN))),
            (
                "9223372036854775808",
                Some(Number::Decimal(9_223_372_036_854_775_808.0)),
            ),
            ("1.5", Some(Number::Decimal(1.5))),
            (" 1e3 ", Some(Number::Decimal(1000.0))),
            ("1.5f", Some(Number::Decimal(1.5))),
            ("-Infinity", Some(Number::Decimal(f64::NEG_INFINITY))),
            ("inf", None),
            ("nan", None),
            ("12a", None),
            ("-", None),
            ("", None),
        ] {
            assert_eq!(Number::read(text), want, "{text:?}");
        }
    }

    #[test]
    fn nan_is_above_everything() {
        let nan = Number::read("NaN").unwrap();
        assert_eq!(nan.order(Number::Decimal(f64::INFINITY)), Ordering::Greater);
        assert_eq!(nan.order(nan), Ordering::Equal);
    }
}
