//! Text into tokens, each with its place.

use std::borrow::Cow;

/// A place in an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Bytes before it.
    pub byte: usize,
    /// Line, from 1.
    pub line: usize,
    /// Character of the line, from 1.
    pub column: usize,
}

impl Position {
    pub(crate) fn of(text: &str, byte: usize) -> Position {
        let before = text.get(..byte).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Position {
            byte: before.len(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// Why an expression is refused. Whoever wrote it corrects it; nothing else helps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {} (byte {}): {what}", at.line, at.column, at.byte)]
pub struct SyntaxError {
    /// Where.
    pub at: Position,
    /// What was expected and what is there.
    pub what: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind<'a> {
    /// A property, or a word that is none where it stands.
    Name(&'a str),
    Keyword(Keyword),
    Text(Cow<'a, str>),
    /// A whole number. Up to 2^63, which a minus sign before it makes a whole number again.
    Whole(u64),
    Decimal(f64),
    Symbol(&'static str),
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keyword {
    Not,
    And,
    Or,
    Between,
    In,
    True,
    False,
    Null,
    Is,
    Contains,
    StartsWith,
    EndsWith,
}

/// Java 5.3: the reserved words of `SelectorParser`, in any case.
const KEYWORDS: [(&str, Keyword); 12] = [
    ("NOT", Keyword::Not),
    ("AND", Keyword::And),
    ("OR", Keyword::Or),
    ("BETWEEN", Keyword::Between),
    ("IN", Keyword::In),
    ("TRUE", Keyword::True),
    ("FALSE", Keyword::False),
    ("NULL", Keyword::Null),
    ("IS", Keyword::Is),
    ("CONTAINS", Keyword::Contains),
    ("STARTSWITH", Keyword::StartsWith),
    ("ENDSWITH", Keyword::EndsWith),
];

/// Longer ones first.
const SYMBOLS: [&str; 11] = ["<>", "<=", ">=", "<", ">", "=", "(", ")", ",", "+", "-"];

#[derive(Clone, Debug)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind<'a>,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// The tokens of a text, one at a time.
pub(crate) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str) -> Lexer<'a> {
        Lexer { text, at: 0 }
    }

    pub(crate) fn error(&self, byte: usize, what: impl Into<String>) -> SyntaxError {
        SyntaxError {
            at: Position::of(self.text, byte),
            what: what.into(),
        }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(crate) fn next(&mut self) -> Result<Token<'a>, SyntaxError> {
        self.skip_blanks()?;
        let start = self.at;
        let kind = match self.rest().bytes().next() {
            None => Kind::End,
            Some(b'\'') => self.text_literal()?,
            Some(b'0'..=b'9') => self.number()?,
            Some(b'.')
                if self
                    .rest()
                    .as_bytes()
                    .get(1)
                    .is_some_and(u8::is_ascii_digit) =>
            {
                self.number()?
            }
            Some(byte) if is_name_start(byte) => self.word(),
            Some(_) => self.symbol()?,
        };
        Ok(Token {
            kind,
            start,
            end: self.at,
        })
    }

    /// Goes over white space and comments.
    fn skip_blanks(&mut self) -> Result<(), SyntaxError> {
        loop {
            let rest = self.rest();
            let blanks = rest
                .bytes()
                .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0c))
                .count();
            let rest = &rest[blanks..];
            self.at += blanks;
            if rest.starts_with("--") {
                self.at += rest.find(['\n', '\r']).unwrap_or(rest.len());
            } else if let Some(inside) = rest.strip_prefix("/*") {
                let Some(length) = inside.find("*/") else {
                    return Err(self.error(self.at, "this comment has no end, */ is missing"));
                };
                self.at += length + 4;
            } else {
                return Ok(());
            }
        }
    }

    fn text_literal(&mut self) -> Result<Kind<'a>, SyntaxError> {
        let start = self.at;
        let inside = &self.rest()[1..];
        let mut length = 0;
        let mut has_quotes = false;
        loop {
            let Some(quote) = memchr::memchr(b'\'', &inside.as_bytes()[length..]) else {
                return Err(self.error(start, "this string has no end, ' is missing"));
            };
            length += quote;
            if inside.as_bytes().get(length + 1) != Some(&b'\'') {
                break;
            }
            has_quotes = true;
            length += 2;
        }
        self.at = start + length + 2;
        let text = &inside[..length];
        Ok(Kind::Text(if has_quotes {
            Cow::Owned(text.replace("''", "'"))
        } else {
            Cow::Borrowed(text)
        }))
    }

    fn number(&mut self) -> Result<Kind<'a>, SyntaxError> {
        let start = self.at;
        let bytes = self.rest().as_bytes();
        let digits_from = |from: usize| {
            let digits = bytes[from..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit());
            from + digits.count()
        };
        let whole = digits_from(0);
        let mut end = whole;
        if bytes.get(end) == Some(&b'.') {
            end = digits_from(end + 1);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let exponent = digits_from(end + 1 + sign);
            if exponent > end + 1 + sign {
                end = exponent;
            }
        }
        let text = &self.rest()[..end];
        let kind = if end > whole {
            let value: f64 = text.parse().unwrap_or(f64::INFINITY);
            if !value.is_finite() {
                return Err(self.error(start, format!("{} is too large a number", shown(text))));
            }
            Kind::Decimal(value)
        } else {
            if text.len() > 1 && text.starts_with('0') {
                return Err(self.error(start, "a whole number does not begin with 0"));
            }
            let value: Option<u64> = text.parse().ok().filter(|value| *value <= 1 << 63);
            let Some(value) = value else {
                return Err(self.error(start, format!("{} is too large a number", shown(text))));
            };
            if matches!(bytes.get(end), Some(b'l' | b'L')) {
                end += 1;
            }
            Kind::Whole(value)
        };
        if bytes.get(end).copied().is_some_and(is_name) {
            return Err(self.error(start + end, "a number ends here, and a letter follows it"));
        }
        self.at += end;
        Ok(kind)
    }

    fn word(&mut self) -> Kind<'a> {
        let length = self
            .rest()
            .bytes()
            .take_while(|byte| is_name(*byte))
            .count();
        let word = &self.rest()[..length];
        self.at += length;
        let keyword = KEYWORDS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(word));
        keyword.map_or(Kind::Name(word), |(_, keyword)| Kind::Keyword(*keyword))
    }

    fn symbol(&mut self) -> Result<Kind<'a>, SyntaxError> {
        let rest = self.rest();
        match SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
            Some(symbol) => {
                self.at += symbol.len();
                Ok(Kind::Symbol(symbol))
            }
            None => {
                let hint = match rest.chars().next() {
                    Some('"') => "; strings stand in single quotes",
                    Some('!') => "; unequal is written <>",
                    _ => "",
                };
                let found = rest.chars().next().unwrap_or_default();
                Err(self.error(self.at, format!("{found:?} means nothing here{hint}")))
            }
        }
    }
}

fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'$')
}

fn is_name(byte: u8) -> bool {
    is_name_start(byte) || byte.is_ascii_digit()
}

/// The beginning of a text that may be long, for a message.
pub(crate) fn shown(text: &str) -> String {
    const CHARS: usize = 32;
    match text.char_indices().nth(CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
