//! LIKE patterns, compiled. `%` stands for any characters, `_` for one; the ESCAPE character takes their meaning away.

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Char(char),
    One,
    Any,
}

/// A pattern. Matching takes no memory, and at most length × pattern steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Like(Box<[Part]>);

impl Like {
    /// None when the escape character stands before a character that needs none, or at the end.
    pub(crate) fn compile(pattern: &str, escape: Option<char>) -> Option<Like> {
        let mut parts = Vec::new();
        let mut characters = pattern.chars();
        while let Some(character) = characters.next() {
            let part = match character {
                escaped if Some(escaped) == escape => {
                    let literal = characters.next()?;
                    if !matches!(literal, '%' | '_') && Some(literal) != escape {
                        return None;
                    }
                    Part::Char(literal)
                }
                '%' => Part::Any,
                '_' => Part::One,
                other => Part::Char(other),
            };
            if part != Part::Any || parts.last() != Some(&Part::Any) {
                parts.push(part);
            }
        }
        Some(Like(parts.into()))
    }

    /// Memory behind the pattern, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.0)
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        let parts = &self.0;
        let mut rest = text.chars();
        let mut at = 0;
        // Where to go on when what follows the last `%` does not fit.
        let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            if parts.get(at) == Some(&Part::Any) {
                at += 1;
                retry = Some((at, rest.clone()));
                continue;
            }
            let fits = match (rest.next(), parts.get(at)) {
                (None, None) => return true,
                (None, Some(_)) => return false,
                (Some(_), Some(Part::One)) => true,
                (Some(character), Some(Part::Char(wanted))) => character == *wanted,
                (Some(_), _) => false,
            };
            if fits {
                at += 1;
                continue;
            }
            let Some((behind, from)) = &mut retry else {
                return false;
            };
            if from.next().is_none() {
                return false;
            }
            at = *behind;
            rest = from.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, want) in [
            ("", "", true),
            ("", "a", false),
            ("%", "", true),
            ("a%", "abc", true),
            ("%c", "abcabc", true),
            ("%b%b%", "abcabc", true),
            ("%b%b%b%", "abcabc", false),
            ("a_c", "aéc", true),
            ("a_c", "ac", false),
            ("_%_", "a", false),
            ("10!%", "10%", true),
            ("10!%", "100", false),
            ("!!", "!", true),
        ] {
            let like = Like::compile(pattern, Some('!')).unwrap();
            assert_eq!(like.matches(text), want, "{text:?} LIKE {pattern:?}");
        }
        assert_eq!(Like::compile("a!", Some('!')), None);
        assert_eq!(Like::compile("a!b", Some('!')), None);
    }
}
