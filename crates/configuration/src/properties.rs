//! The syntax of Java's properties files, as `java.util.Properties.load` reads it, in UTF-8.

/// One `key=value` of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key, unescaped.
    pub key: String,
    /// The value, unescaped, without white space before it and, unlike Java's, after it: a blank at a line's end is
    /// never meant.
    pub value: String,
    /// The line on which it begins, from 1.
    pub line: usize,
}

/// Text that is not a properties file.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseError {
    /// `\u` without four hexadecimal digits.
    #[error("line {line}: \\u must be followed by four hexadecimal digits")]
    BadEscape {
        /// From 1.
        line: usize,
    },
}

/// Reads all entries in order; a key may occur again, and the last one counts.
///
/// # Errors
/// [`ParseError`] for a broken escape. Everything else is some key and value.
pub fn parse(text: &str) -> Result<Vec<Entry>, ParseError> {
    let mut entries = Vec::new();
    for (line, logical) in logical_lines(text) {
        let (key, value) = split(&logical);
        let unescape = |part| unescape(part).ok_or(ParseError::BadEscape { line });
        entries.push(Entry {
            key: unescape(key)?,
            value: unescape(value)?.trim_end().to_owned(),
            line,
        });
    }
    Ok(entries)
}

/// Lines with their continuations joined, without comments and blank lines.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut result = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, first)) = lines.next() {
        let first = first.trim_start();
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = first.to_owned();
        while ends_in_continuation(&logical) {
            logical.pop();
            let Some((_, next)) = lines.next() else { break };
            logical.push_str(next.trim_start());
        }
        result.push((index + 1, logical));
    }
    result
}

/// An odd number of backslashes at the end: the last one is not escaped itself.
fn ends_in_continuation(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// The key ends at the first `=`, `:` or white space that is not escaped.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.char_indices().find(|(_, c)| {
        if escaped {
            escaped = false;
            return false;
        }
        escaped = *c == '\\';
        matches!(c, '=' | ':') || c.is_whitespace()
    });
    let Some((end, _)) = end else {
        return (line, "");
    };
    let rest = line[end..].trim_start();
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (&line[..end], value.trim_start())
}

fn unescape(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('f') => plain.push('\u{c}'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let code = (digits.len() == 4).then(|| u32::from_str_radix(&digits, 16).ok());
                plain.push(char::from_u32(code??)?);
            }
            Some(other) => plain.push(other),
            None => {}
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &[(&str, &str)]) {
        let entries = parse(text).unwrap();
        let got: Vec<(&str, &str)> = entries
            .iter()
            .map(|e| (e.key.as_str(), e.value.as_str()))
            .collect();
        assert_eq!(got, want);
    }

    #[test]
    fn separators_are_equals_colon_and_space() {
        check(
            "a=1\nb: 2\nc 3\n d = 4 \n",
            &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")],
        );
    }

    #[test]
    fn comments_and_blank_lines_are_passed_over() {
        check("# a=1\n\n  ! b=2\nc=#3", &[("c", "#3")]);
    }

    #[test]
    fn a_backslash_continues_the_line() {
        check(
            "a=1,\\\n   2\nb=x\\\\\nc=3",
            &[("a", "1,2"), ("b", "x\\"), ("c", "3")],
        );
    }

    #[test]
    fn escapes_and_chinese_text() {
        check("k\\=1=\\u4e2d文\\t.", &[("k=1", "中文\t.")]);
        assert_eq!(parse("x\na=\\u12"), Err(ParseError::BadEscape { line: 2 }));
    }

    #[test]
    fn an_address_list_keeps_its_colons() {
        check("namesrvAddr=a:1;b:2", &[("namesrvAddr", "a:1;b:2")]);
    }

    #[test]
    fn windows_line_ends() {
        check("a=1\r\nb=2\r\n", &[("a", "1"), ("b", "2")]);
    }
}
