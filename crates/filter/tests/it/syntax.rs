//! Expressions that are refused, and where the error is.

use filter::{DEPTH_MAX, EXPRESSION_BYTES_MAX, Filter};

#[test]
fn errors_say_where_and_what() {
    for (expression, column, what) in [
        ("", 1, "expected a property"),
        ("a >", 4, "expected a property"),
        ("a = 1 b = 2", 7, "expected AND, OR"),
        ("a == 1", 4, "= is here"),
        ("é = 1", 1, "means nothing"),
        ("a = \"x\"", 5, "single quotes"),
        ("a != 1", 3, "<>"),
        ("a = 'x", 5, "no end"),
        ("a = 1 /* x", 7, "no end"),
        ("a > 'x'", 5, "number or a property"),
        ("a > TRUE", 5, "number or a property"),
        ("a > 1 > 2", 1, "number or a property"),
        ("a = NULL", 5, "IS NULL"),
        ("a IS 1", 6, "expected NULL"),
        ("a IN ()", 7, "string"),
        ("a IN (1)", 7, "string"),
        ("'a' IN ('a')", 1, "property before IN"),
        ("a BETWEEN 2 AND 1", 11, "above"),
        ("a BETWEEN 1 OR 2", 13, "expected AND"),
        ("a NOT = 1", 7, "after NOT"),
        ("a CONTAINS 5", 12, "string"),
        ("a = 007", 5, "begin with 0"),
        ("a = 5x", 6, "letter"),
        ("a = 1e999", 5, "too large"),
        ("a = 9223372036854775808", 5, "too large"),
        ("(a = 1", 7, "or )"),
        ("5", 1, "condition"),
        ("a = 1 AND 'x'", 11, "condition"),
        ("TRUE = 1", 8, "TRUE, FALSE"),
        ("a LIKE 'x!' ESCAPE '!'", 8, "ESCAPE"),
    ] {
        let error = Filter::compile(expression).expect_err(expression);
        assert_eq!(
            (error.at.line, error.at.column),
            (1, column),
            "{expression}: {error}"
        );
        assert!(error.what.contains(what), "{expression}: {error}");
    }
    let error = Filter::compile("a = 1\n  AND ? = 2").unwrap_err();
    assert_eq!((error.at.line, error.at.column, error.at.byte), (2, 7, 12));
}

#[test]
fn long_and_deep_expressions_are_refused() {
    let long = format!("a = '{}'", "x".repeat(1 << 20));
    assert!(Filter::compile(&long).unwrap_err().what.contains("bytes"));
    for deep in [
        format!("{}a = 1{}", "(".repeat(100), ")".repeat(100)),
        format!("{}a", "NOT ".repeat(100)),
        format!("a = {}1", "- ".repeat(100)),
        format!("a{}", " IS NULL".repeat(100)),
    ] {
        assert!(
            Filter::compile(&deep).unwrap_err().what.contains("deeper"),
            "{deep}"
        );
    }
    let fits = format!("{}a = 1{}", "(".repeat(DEPTH_MAX), ")".repeat(DEPTH_MAX));
    assert!(Filter::compile(&fits).is_ok());
    let chain = vec!["a = 1"; EXPRESSION_BYTES_MAX / 9].join(" OR ");
    assert!(Filter::compile(&chain).is_ok(), "a chain is no depth");
}
