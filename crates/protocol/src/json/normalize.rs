//! Turns fastjson's dialect into standard JSON.

use std::borrow::Cow;

use thiserror::Error;

/// Deeper nesting than any body has; `serde_json` has a limit of its own behind it.
pub const DEPTH_MAX: usize = 100;

/// The text is no JSON, whatever the dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NormalizeError {
    /// Nested beyond `DEPTH_MAX`.
    #[error("nested too deeply at byte {0}")]
    TooDeep(usize),
    /// A string, object or array does not end.
    #[error("it ends too early")]
    Unfinished,
    /// A bracket that does not fit.
    #[error("it makes no sense at byte {0}")]
    Unexpected(usize),
}

/// The same body in standard JSON: bare keys and single quotes get double quotes, a key that is an object becomes a string
/// that holds its text. Borrowed when there is nothing to change. Values are not judged; that is left to who reads them.
///
/// The result is at most some six times as long as the input, and nothing is allocated beyond it.
pub fn normalize(body: &[u8]) -> Result<Cow<'_, [u8]>, NormalizeError> {
    let body = trim_end(body);
    let mut walk = Walk {
        body,
        at: 0,
        copied: 0,
        out: Vec::new(),
    };
    walk.run()?;
    if walk.copied == 0 {
        return Ok(Cow::Borrowed(body));
    }
    walk.flush_to(body.len());
    Ok(Cow::Owned(walk.out))
}

/// C programs leave zero bytes behind their JSON.
fn trim_end(body: &[u8]) -> &[u8] {
    let is_filler = |byte: &u8| matches!(byte, 0 | b' ' | b'\n' | b'\r' | b'\t');
    let kept = body
        .iter()
        .rposition(|byte| !is_filler(byte))
        .map_or(0, |last| last + 1);
    &body[..kept]
}

struct Walk<'a> {
    body: &'a [u8],
    at: usize,
    /// Everything before this position is in `out`.
    copied: usize,
    out: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In an object, where a key comes next.
    Key,
    /// In an object, between a key and the next comma.
    Value,
    Array,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<(), NormalizeError> {
        let mut places = [Place::Array; DEPTH_MAX];
        let mut depth = 0;
        while let Some(&byte) = self.body.get(self.at) {
            let in_key = depth > 0 && places[depth - 1] == Place::Key;
            match byte {
                b' ' | b'\n' | b'\r' | b'\t' | b':' => self.at += 1,
                b'"' => self.at = string_end(self.body, self.at)?,
                b'\'' => self.requote()?,
                b'{' if in_key => self.object_key()?,
                b'{' | b'[' => {
                    let place = places
                        .get_mut(depth)
                        .ok_or(NormalizeError::TooDeep(self.at))?;
                    *place = if byte == b'{' {
                        Place::Key
                    } else {
                        Place::Array
                    };
                    depth += 1;
                    self.at += 1;
                    continue;
                }
                b'}' | b']' => {
                    let opened = depth
                        .checked_sub(1)
                        .ok_or(NormalizeError::Unexpected(self.at))?;
                    if (byte == b']') != (places[opened] == Place::Array) {
                        return Err(NormalizeError::Unexpected(self.at));
                    }
                    depth = opened;
                    self.at += 1;
                }
                b',' => {
                    if depth > 0 && places[depth - 1] == Place::Value {
                        places[depth - 1] = Place::Key;
                    }
                    self.at += 1;
                    continue;
                }
                _ if in_key => self.bare_key()?,
                _ => self.at += 1,
            }
            if in_key && depth > 0 && byte == b':' {
                places[depth - 1] = Place::Value;
            }
        }
        if depth == 0 {
            Ok(())
        } else {
            Err(NormalizeError::Unfinished)
        }
    }

    /// Copies everything up to `end` that is not copied yet.
    fn flush_to(&mut self, end: usize) {
        self.out.extend_from_slice(&self.body[self.copied..end]);
        self.copied = end;
    }

    /// A key without quotes: up to the colon or white space.
    fn bare_key(&mut self) -> Result<(), NormalizeError> {
        let rest = &self.body[self.at..];
        let is_end = |byte: &u8| {
            matches!(
                byte,
                b':' | b' ' | b'\n' | b'\r' | b'\t' | b',' | b'{' | b'}' | b'"'
            )
        };
        let length = rest
            .iter()
            .position(is_end)
            .ok_or(NormalizeError::Unfinished)?;
        self.replace(self.at, self.at + length, self.at + length)
    }

    /// A key that is an object: its text becomes a string.
    fn object_key(&mut self) -> Result<(), NormalizeError> {
        let end = object_end(self.body, self.at)?;
        self.replace(self.at, end, end)
    }

    /// A string in single quotes.
    fn requote(&mut self) -> Result<(), NormalizeError> {
        let start = self.at + 1;
        let mut end = start;
        loop {
            match self.body.get(end) {
                None => return Err(NormalizeError::Unfinished),
                Some(b'\'') => break,
                Some(b'\\') => end += 2,
                Some(_) => end += 1,
            }
        }
        self.flush_to(self.at);
        self.out.push(b'"');
        let mut at = start;
        while at < end {
            match (self.body[at], self.body.get(at + 1)) {
                (b'\\', Some(b'\'')) => {
                    self.out.push(b'\'');
                    at += 1;
                }
                (b'\\', Some(next)) => {
                    self.out.extend_from_slice(&[b'\\', *next]);
                    at += 1;
                }
                (b'"', _) => self.out.extend_from_slice(b"\\\""),
                (byte, _) => self.out.push(byte),
            }
            at += 1;
        }
        self.out.push(b'"');
        self.copied = end + 1;
        self.at = end + 1;
        Ok(())
    }

    /// Writes the text from `start` to `end` as a string; goes on at `next`.
    fn replace(&mut self, start: usize, end: usize, next: usize) -> Result<(), NormalizeError> {
        if start == end {
            return Err(NormalizeError::Unexpected(start));
        }
        self.flush_to(start);
        self.out.push(b'"');
        for &byte in &self.body[start..end] {
            match byte {
                b'"' | b'\\' => self.out.extend_from_slice(&[b'\\', byte]),
                0..b' ' => self.out.push(b' '),
                _ => self.out.push(byte),
            }
        }
        self.out.push(b'"');
        self.copied = next;
        self.at = next;
        Ok(())
    }
}

/// The position behind the string that begins at `at`.
fn string_end(body: &[u8], at: usize) -> Result<usize, NormalizeError> {
    let mut at = at + 1;
    loop {
        let special = body
            .get(at..)
            .and_then(|rest| memchr::memchr2(b'"', b'\\', rest));
        at += special.ok_or(NormalizeError::Unfinished)?;
        match body[at] {
            b'"' => return Ok(at + 1),
            _ => at += 2,
        }
    }
}

/// The position behind the object that begins at `at`.
fn object_end(body: &[u8], at: usize) -> Result<usize, NormalizeError> {
    let (mut at, mut depth) = (at, 0usize);
    loop {
        match body.get(at).ok_or(NormalizeError::Unfinished)? {
            b'"' => {
                at = string_end(body, at)?;
                continue;
            }
            b'{' | b'[' if depth == DEPTH_MAX => return Err(NormalizeError::TooDeep(at)),
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return Ok(at + 1),
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, want: Result<&str, NormalizeError>) {
        let got =
            normalize(body.as_bytes()).map(|bytes| String::from_utf8(bytes.into_owned()).unwrap());
        assert_eq!(got.as_deref(), want.as_deref(), "{body}");
    }

    #[test]
    fn standard_json_is_borrowed() {
        let body = r#" {"a":[1,{"b":null}],"c":"x\"}:{","d":{}}"#.as_bytes();
        assert!(matches!(normalize(body), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn bare_keys_get_quotes() {
        check("{0:\"a\",-1:\"b\"}", Ok("{\"0\":\"a\",\"-1\":\"b\"}"));
        check(
            "{ name : [ {x:1} , 2 ] }\n\0",
            Ok("{ \"name\" : [ {\"x\":1} , 2 ] }"),
        );
    }

    #[test]
    fn object_keys_become_strings() {
        check(
            r#"{{"t":"a\"b","q":0}:{"m":1},{"q":{}}:2}"#,
            Ok(r#"{"{\"t\":\"a\\\"b\",\"q\":0}":{"m":1},"{\"q\":{}}":2}"#),
        );
    }

    #[test]
    fn single_quotes_become_double() {
        check(r#"{'a':'it\'s "x"\n'}"#, Ok(r#"{"a":"it's \"x\"\n"}"#));
    }

    #[test]
    fn what_is_no_json_is_refused() {
        check("{", Err(NormalizeError::Unfinished));
        check("{\"a", Err(NormalizeError::Unfinished));
        check("{a", Err(NormalizeError::Unfinished));
        check("{'a", Err(NormalizeError::Unfinished));
        check("{{\"a\":1", Err(NormalizeError::Unfinished));
        check("[}", Err(NormalizeError::Unexpected(1)));
        check("]", Err(NormalizeError::Unexpected(0)));
        check(
            &"[".repeat(DEPTH_MAX + 1),
            Err(NormalizeError::TooDeep(DEPTH_MAX)),
        );
        check(
            &"{".repeat(100_000),
            Err(NormalizeError::TooDeep(DEPTH_MAX + 1)),
        );
    }
}
