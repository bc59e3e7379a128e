//! A JSON scanner that borrows: it walks text once and allocates nothing.
//!
//! It accepts what real clients write: any white space, values of any kind where a string is expected, unknown keys,
//! nested values that nobody reads. It refuses what is not JSON, and nesting beyond a bound.

use std::borrow::Cow;

use super::places::Places;

/// Deeper nesting than any header or field needs; bounds the scanner's own stack.
const DEPTH_MAX: usize = 32;

/// Why a text is no JSON header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the JSON header is malformed at byte {at}: {what}")]
pub struct JsonError {
    /// Where in the header.
    pub at: usize,
    /// What was expected or found.
    pub what: &'static str,
}

/// What a token is. As wide as its neighbours, since a narrower one would make the processor wait for each copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    /// The content of a string, as it is.
    Plain,
    /// The content of a string that holds a backslash.
    Escaped,
    /// A number, `true`, `false`, or a nested value, as written.
    Literal,
    /// `null`.
    Null,
}

/// A piece of the text, by position. It begins and ends at ASCII characters, hence at character boundaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) kind: Kind,
}

impl Token {
    /// The characters of the token in its text.
    #[inline]
    pub(crate) fn text(self, text: &str) -> &str {
        text.get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }

    /// The bytes of the token in its text.
    #[inline]
    pub(crate) fn bytes(self, text: &str) -> &[u8] {
        text.as_bytes()
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }

    /// What the token stands for.
    pub(crate) fn unescaped(self, text: &str) -> Cow<'_, str> {
        unescape(self.text(text), self.kind == Kind::Escaped)
    }
}

/// A value of an object's member, and what is known of its own members.
pub(crate) struct Indexed {
    pub(crate) value: Token,
    /// Where its fields lie, when it is an object with few of them.
    pub(crate) places: Option<Places>,
    /// Each of its fields is a string, in quotes and without white space around it.
    pub(crate) all_strings: bool,
}

/// Positions are followed, and pieces only cut out where somebody looks at them: that is what makes the scan fast.
pub(crate) struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// Positions have 32 bits; text behind them is not seen, which makes a longer text malformed.
    #[inline]
    pub(crate) fn new(text: &'a str) -> Self {
        let bytes = text.as_bytes();
        Self {
            text,
            bytes: bytes.get(..u32::MAX as usize).unwrap_or(bytes),
            at: 0,
        }
    }

    /// The text that tokens are pieces of.
    #[inline]
    pub(crate) fn whole(&self) -> &'a str {
        self.text
    }

    #[inline]
    fn token(&self, start: usize, end: usize, kind: Kind) -> Token {
        Token {
            start: start as u32,
            end: end as u32,
            kind,
        }
    }

    #[cold]
    fn error(&self, what: &'static str) -> JsonError {
        JsonError { at: self.at, what }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Takes `byte` if it comes next, after white space.
    #[inline]
    fn take(&mut self, byte: u8) -> bool {
        if self.peek() != Some(byte) {
            self.skip_space();
            if self.peek() != Some(byte) {
                return false;
            }
        }
        self.at += 1;
        true
    }

    #[inline]
    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), JsonError> {
        if self.take(byte) {
            Ok(())
        } else {
            Err(self.error(what))
        }
    }

    /// Only white space (and what C programs leave behind, a zero byte) may follow.
    pub(crate) fn finish(&mut self) -> Result<(), JsonError> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t' | 0) = self.peek() {
            self.at += 1;
        }
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.error("text behind the end")),
        }
    }

    /// Walks the members of an object; `member` takes the value of each key from the scanner.
    #[inline]
    pub(crate) fn object<E: From<JsonError>>(
        &mut self,
        mut member: impl FnMut(&mut Self, Token) -> Result<(), E>,
    ) -> Result<(), E> {
        self.expect(b'{', "expected an object")?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            self.expect(b'"', "expected a key")?;
            let key = self.string_rest()?;
            self.expect(b':', "expected a colon")?;
            member(self, key)?;
            if self.take(b',') {
                continue;
            }
            return Ok(self.expect(b'}', "expected a comma or the end of the object")?);
        }
    }

    /// The next value, with the places of its fields when it is an object with few of them.
    pub(crate) fn value_indexed(&mut self) -> Result<Indexed, JsonError> {
        if !self.take(b'{') {
            return Ok(Indexed {
                value: self.value()?,
                places: None,
                all_strings: false,
            });
        }
        let start = self.at - 1;
        let mut places = Places::new();
        if self.compact_fields(&mut places)? {
            return Ok(Indexed {
                value: self.token(start, self.at, Kind::Literal),
                places: Some(places),
                all_strings: true,
            });
        }
        self.at = start;
        places = Places::new();
        let mut complete = true;
        self.object(|scanner, name| {
            let value = scanner.value_at(1)?;
            if value.kind != Kind::Null {
                complete &= name.kind == Kind::Plain && places.push_tokens(name, value);
            }
            Ok::<(), JsonError>(())
        })?;
        Ok(Indexed {
            value: self.token(start, self.at, Kind::Literal),
            places: complete.then_some(places),
            all_strings: false,
        })
    }

    /// The string whose content begins at `start`.
    #[inline]
    pub(crate) fn string_at(&mut self, start: usize) -> Result<Token, JsonError> {
        self.at = start;
        self.string_rest()
    }

    /// The end of the number that begins at `start`.
    pub(crate) fn number_end(&mut self, start: usize) -> usize {
        self.at = start;
        self.skip_number();
        self.at
    }

    /// The fields behind the opening brace, when they are as clients write them: few, all of them strings, without white
    /// space. False when anything else is met; the caller then begins again.
    fn compact_fields(&mut self, places: &mut Places) -> Result<bool, JsonError> {
        let bytes = self.bytes;
        let mut at = self.at;
        loop {
            if bytes.get(at) != Some(&b'"') {
                return Ok(false);
            }
            let name = at + 1;
            let name_end = find_special(bytes, name);
            let value = name_end + 3;
            if bytes.get(name_end..value) != Some(b"\":\"") {
                return Ok(false);
            }
            self.at = find_special(bytes, value);
            let value = match bytes.get(self.at) {
                Some(b'"') => self.token(value, self.at, Kind::Plain),
                _ => {
                    let token = self.escaped_rest(value)?;
                    self.at = token.end as usize;
                    token
                }
            };
            if !places.push_tokens(self.token(name, name_end, Kind::Plain), value) {
                return Ok(false);
            }
            at = self.at + 2;
            match bytes.get(at - 1) {
                Some(b',') => {}
                Some(b'}') => {
                    self.at = at;
                    return Ok(true);
                }
                _ => return Ok(false),
            }
        }
    }

    /// The next key of an object that was scanned before and whose opening brace was taken; `None` at its end.
    #[inline(always)]
    pub(crate) fn next_key(&mut self) -> Option<Token> {
        if self.take(b'}') {
            return None;
        }
        self.take(b',');
        if !self.take(b'"') {
            return None;
        }
        let key = self.string_rest().ok()?;
        self.take(b':').then_some(key)
    }

    /// Takes the opening brace of an object.
    pub(crate) fn begin_object(&mut self) {
        self.take(b'{');
    }

    /// The next value, whatever it is.
    #[inline(always)]
    pub(crate) fn value(&mut self) -> Result<Token, JsonError> {
        self.value_at(0)
    }

    #[inline(always)]
    fn value_at(&mut self, depth: usize) -> Result<Token, JsonError> {
        if self.take(b'"') {
            return self.string_rest();
        }
        self.literal(depth)
    }

    fn literal(&mut self, depth: usize) -> Result<Token, JsonError> {
        let start = self.at;
        match self.peek() {
            Some(b'{') => self.skip_object(depth + 1)?,
            Some(b'[') => self.skip_array(depth + 1)?,
            Some(b'-' | b'0'..=b'9') => self.skip_number(),
            Some(b'a'..=b'z') => {
                while let Some(b'a'..=b'z') = self.peek() {
                    self.at += 1;
                }
                match &self.bytes[start..self.at] {
                    b"null" => return Ok(self.token(start, self.at, Kind::Null)),
                    b"true" | b"false" => {}
                    _ => {
                        return Err(JsonError {
                            at: start,
                            what: "an unknown word",
                        });
                    }
                }
            }
            _ => return Err(self.error("expected a value")),
        }
        Ok(self.token(start, self.at, Kind::Literal))
    }

    /// A number is taken as written; who reads it judges it.
    fn skip_number(&mut self) {
        while let Some(b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E') = self.peek() {
            self.at += 1;
        }
    }

    /// The content of a string whose opening quote was taken. Escapes are checked here, so that reading them cannot fail.
    #[inline(always)]
    fn string_rest(&mut self) -> Result<Token, JsonError> {
        let start = self.at;
        self.at = find_special(self.bytes, start);
        if self.peek() == Some(b'"') {
            let end = self.at;
            self.at += 1;
            return Ok(self.token(start, end, Kind::Plain));
        }
        self.escaped_rest(start)
    }

    fn escaped_rest(&mut self, start: usize) -> Result<Token, JsonError> {
        loop {
            match self.peek() {
                Some(b'"') => {
                    let end = self.at;
                    self.at += 1;
                    return Ok(self.token(start, end, Kind::Escaped));
                }
                Some(b'\\') => self.skip_escape()?,
                _ => return Err(self.error("a string without end")),
            }
            self.at = find_special(self.bytes, self.at);
        }
    }

    #[inline]
    fn skip_escape(&mut self) -> Result<(), JsonError> {
        // What separates properties, and so nearly every escape that there is.
        let separator = self.bytes.get(self.at..self.at + 6);
        if let Some([b'\\', b'u', b'0', b'0', b'0', b'0'..=b'9']) = separator {
            self.at += 6;
            return Ok(());
        }
        let length = match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' | b'\'' | b'v' | b'0') => 2,
            Some(b'u') => {
                let digits = self.bytes.get(self.at + 2..self.at + 6).unwrap_or_default();
                if digits.len() < 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
                    return Err(self.error("an incomplete \\u escape"));
                }
                6
            }
            _ => return Err(self.error("an unknown escape")),
        };
        self.at += length;
        Ok(())
    }

    fn skip_object(&mut self, depth: usize) -> Result<(), JsonError> {
        self.check_depth(depth)?;
        self.object(|scanner, _| scanner.value_at(depth).map(|_| ()))
    }

    fn skip_array(&mut self, depth: usize) -> Result<(), JsonError> {
        self.check_depth(depth)?;
        self.expect(b'[', "expected an array")?;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.value_at(depth)?;
            if self.take(b',') {
                continue;
            }
            return self.expect(b']', "expected a comma or the end of the array");
        }
    }

    fn check_depth(&self, depth: usize) -> Result<(), JsonError> {
        if depth > DEPTH_MAX {
            Err(self.error("too deeply nested"))
        } else {
            Ok(())
        }
    }
}

/// The lowest and the highest bit of each of eight bytes.
const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// The highest bit of each byte that is below `bound`, which is ASCII; bytes beyond ASCII are not. The lowest bit that is
/// set is exact: borrows can only disturb bytes above a true hit.
#[inline(always)]
fn below(word: u64, bound: u8) -> u64 {
    word.wrapping_sub(ONES * u64::from(bound)) & !word & HIGHS
}

/// The same of each byte that is `byte`.
#[inline(always)]
fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * u64::from(byte)), 1)
}

/// Whether a text stands in a JSON string as it is. Eight bytes a step.
#[inline]
pub(crate) fn is_plain(bytes: &[u8]) -> bool {
    let special = |word: u64| below(word, b' ') | equal(word, b'"') | equal(word, b'\\');
    let mut words = bytes.chunks_exact(8);
    let plain = words.by_ref().all(|word| {
        let word: [u8; 8] = word.try_into().expect("eight bytes");
        special(u64::from_le_bytes(word)) == 0
    });
    let mut rest = [b' '; 8];
    let left = words.remainder();
    rest[..left.len()].copy_from_slice(left);
    plain && special(u64::from_le_bytes(rest)) == 0
}

/// The next quote or backslash at or behind `at`; the end if there is none. Eight bytes a step.
#[inline(always)]
fn find_special(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let hits = equal(word, b'"') | equal(word, b'\\');
        if hits != 0 {
            return at + hits.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while let Some(byte) = bytes.get(at) {
        if matches!(byte, b'"' | b'\\') {
            break;
        }
        at += 1;
    }
    at
}

/// The text that a scanned string stands for.
#[inline]
pub(crate) fn unescape(raw: &str, escaped: bool) -> Cow<'_, str> {
    if escaped {
        Cow::Owned(unescape_owned(raw))
    } else {
        Cow::Borrowed(raw)
    }
}

fn unescape_owned(raw: &str) -> String {
    let mut text = String::new();
    unescape_into(raw, &mut text);
    text
}

/// Appends the text that a scanned string with escapes stands for.
pub(crate) fn unescape_into(raw: &str, text: &mut String) {
    text.reserve(raw.len());
    let mut rest = raw;
    loop {
        let at = find_special(rest.as_bytes(), 0);
        if at == rest.len() {
            break;
        }
        text.push_str(&rest[..at]);
        let escape = rest.as_bytes().get(at + 1).copied().unwrap_or(b'\\');
        if escape == b'u' {
            // Properties are separated by \u0001 and \u0002.
            if let Some([b'0', b'0', b'0', digit @ b'0'..=b'9']) =
                rest.as_bytes().get(at + 2..at + 6)
            {
                text.push(char::from(digit - b'0'));
                rest = &rest[at + 6..];
                continue;
            }
            let (character, length) = unicode_escape(&rest[at..]);
            text.push(character);
            rest = &rest[at + length..];
            continue;
        }
        text.push(match escape {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'v' => '\u{b}',
            b'0' => '\0',
            other => char::from(other),
        });
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    text.push_str(rest);
}

/// The character of the `\uXXXX` at the front of `text`, joined with the other half of a pair if one follows, and the
/// bytes that it takes. Half a pair stands for nothing and becomes the replacement character.
fn unicode_escape(text: &str) -> (char, usize) {
    let unit = |at: usize| -> Option<u32> {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u32::from_str_radix(digits, 16).ok()
    };
    let Some(first) = unit(0) else {
        return (char::REPLACEMENT_CHARACTER, text.len().min(2));
    };
    if (0xd800..0xdc00).contains(&first)
        && let Some(second @ 0xdc00..0xe000) = unit(6)
    {
        let joined = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return (
            char::from_u32(joined).unwrap_or(char::REPLACEMENT_CHARACTER),
            12,
        );
    }
    (
        char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER),
        6,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_value(text: &str, want: Result<(&str, Kind), &'static str>) {
        let mut scanner = Scanner::new(text);
        let value = scanner.value().map(|token| (token.text(text), token.kind));
        assert_eq!(value.map_err(|error| error.what), want, "{text}");
    }

    #[test]
    fn values_of_every_kind_are_taken() {
        check_value(r#" "a" "#, Ok(("a", Kind::Plain)));
        check_value(r#""a\"b""#, Ok((r#"a\"b"#, Kind::Escaped)));
        check_value("-12.5e3,", Ok(("-12.5e3", Kind::Literal)));
        check_value("true}", Ok(("true", Kind::Literal)));
        check_value("null", Ok(("null", Kind::Null)));
        check_value(
            r#" {"a":[1,{"b":[]}],"c":{}} "#,
            Ok((r#"{"a":[1,{"b":[]}],"c":{}}"#, Kind::Literal)),
        );
    }

    #[test]
    fn broken_values_are_refused() {
        check_value("", Err("expected a value"));
        check_value("nul", Err("an unknown word"));
        check_value(r#""a"#, Err("a string without end"));
        check_value(r#""a\"#, Err("an unknown escape"));
        check_value(r#""\u12"#, Err("an incomplete \\u escape"));
        check_value(r#"{"a" 1}"#, Err("expected a colon"));
        check_value("[1 2]", Err("expected a comma or the end of the array"));
        check_value(&"[".repeat(100_000), Err("too deeply nested"));
    }

    #[test]
    fn escapes_are_read() {
        let check = |raw: &str, want: &str| assert_eq!(unescape(raw, true), want);
        check(r#"a\"\\\/\b\f\n\r\tz"#, "a\"\\/\u{8}\u{c}\n\r\tz");
        check(r"KEYS\u0001k\u0002", "KEYS\u{1}k\u{2}");
        check(r"\u4e2d\u6587", "中文");
        check(r"\ud83d\ude00!", "😀!");
        check(r"\ud83d!", "\u{fffd}!");
        check(r"\ude00\ud83d", "\u{fffd}\u{fffd}");
    }

    #[test]
    fn the_first_special_byte_is_found_wherever_it_lies() {
        for length in 0..40 {
            for at in 0..length {
                for special in [b'"', b'\\'] {
                    let mut bytes = vec![b'!'; length];
                    bytes[at] = special;
                    bytes[length - 1] = if at == length - 1 { special } else { b'"' };
                    assert_eq!(find_special(&bytes, 0), at);
                }
            }
        }
    }
}
