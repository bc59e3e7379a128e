//! Tags as consume queues and subscriptions hold them: by Java's string hash.

/// Java's `String.hashCode`: over UTF-16 units, wrapping.
pub fn hash_code(text: &str) -> i32 {
    if text.is_ascii() {
        return text.bytes().fold(0i32, |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(i32::from(byte))
        });
    }
    text.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    })
}

/// The tags code of a message; 0 when it has no tags.
pub fn tags_code(tags: Option<&str>) -> i64 {
    tags.map_or(0, |tags| i64::from(hash_code(tags)))
}

/// The tags of a subscription expression `a || b`; empty when it takes everything (`*` or nothing).
pub fn split_expression(expression: &str) -> Vec<&str> {
    match expression.trim() {
        "" | "*" => Vec::new(),
        expression => expression
            .split("||")
            .map(str::trim)
            .filter(|tag| !tag.is_empty())
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_java() {
        for (text, want) in [
            ("", 0),
            ("TagA", 2_598_919),
            ("中文", 646_394),
            ("😀", 1_772_899),
        ] {
            assert_eq!(hash_code(text), want, "{text}");
        }
        assert_eq!(tags_code(Some("polygenelubricants")), i64::from(i32::MIN));
        assert_eq!(tags_code(None), 0);
    }

    #[test]
    fn an_expression_is_a_list_of_tags() {
        assert_eq!(split_expression(" a || b||  || c "), ["a", "b", "c"]);
        assert!(split_expression("*").is_empty());
    }
}
