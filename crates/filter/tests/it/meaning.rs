//! Expressions and what they say to one message: the table of Java 5.3's semantics.

use filter::Filter;

const MESSAGE: &str = "n\u{1}10\u{2}d\u{1}1.5\u{2}big\u{1}3000000000\u{2}s\u{1}Rome\u{2}t\u{1}true\u{2}q\u{1}it's\u{2}like\u{1}x\u{2}";

fn takes(expression: &str) -> bool {
    let filter =
        Filter::compile(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
    filter.takes(MESSAGE)
}

fn check(expressions: &[&str], want: bool) {
    for expression in expressions {
        assert_eq!(takes(expression), want, "{expression}");
    }
}

#[test]
fn messages_are_taken() {
    check(
        &[
            "TRUE",
            "n = 10",
            "10 = n",
            "n = '10'",
            "n > 9 AND n < 11",
            "n >= 10 and n <= 10L",
            "n > -5",
            "n > - -5",
            "n > 0.0",
            "n <> 11",
            "n BETWEEN 10 AND 20",
            "n NOT BETWEEN 11 AND 20",
            "d > 1.25",
            "s = 'Rome'",
            "s <> 'Oslo'",
            "s IN ('Oslo', 'Rome')",
            "s NOT IN ('Oslo')",
            "s CONTAINS 'om'",
            "s NOT CONTAINS 'xx'",
            "s STARTSWITH 'Ro'",
            "s ENDSWITH 'me'",
            "NOT (s STARTSWITH 'x')",
            "missing IS NULL",
            "s IS NOT NULL",
            "missing = also_missing",
            "s <> missing",
            "t = TRUE",
            "s = FALSE",
            "q = 'it''s'",
            "like = 'x'",
            "missing = 1 OR n = 10",
            "n = 10 OR s > 5",
            "NOT (missing CONTAINS 'x')",
            "s IS /* between */ NOT NULL -- and behind",
            "(((n))) = 10",
            "+n = 10",
            "NOT t",
        ],
        true,
    );
}

#[test]
fn messages_are_passed_over() {
    check(
        &[
            "FALSE",
            "NULL",
            "NOT NULL",
            "n = 11",
            "missing = 1",
            "missing <> 1",
            "NOT (missing = 1)",
            "missing = s",
            "missing > 1",
            "missing BETWEEN 1 AND 2",
            "missing NOT BETWEEN 1 AND 2",
            "missing IN ('a')",
            "missing NOT IN ('a')",
            "missing NOT CONTAINS 'a'",
            "s CONTAINS ''",
            "s NOT CONTAINS ''",
            "5 CONTAINS '5'",
            // A property alone is a string, which is no condition.
            "t",
            // A string that is no number fails the whole expression, even under OR and NOT.
            "s > 5",
            "NOT (s > 5)",
            "s > 5 OR n = 10",
            "s = 5",
            "-n < 0",
            "NOT n = 10",
            "n = 10 AND missing = 1",
        ],
        false,
    );
}

#[test]
fn what_java_fails_at_is_right_here() {
    check(
        &[
            "big > 5",
            "big = 3000000000",
            "d > 1",
            "d <> 1",
            "TRUE = t",
            "n > -9223372036854775808",
            "s LIKE 'R_m%'",
            "s NOT LIKE 'x%'",
            "s LIKE 'R!_%' ESCAPE '!' OR s LIKE '%e'",
        ],
        true,
    );
    check(
        &["missing LIKE '%'", "missing NOT LIKE 'x'", "s LIKE 'rome'"],
        false,
    );
}

#[test]
fn many_properties_are_all_looked_up() {
    let message: String = (0..40).map(|i| format!("p{i}\u{1}{i}\u{2}")).collect();
    let expression: Vec<String> = (0..40).map(|i| format!("p{i} = {i}")).collect();
    assert!(
        Filter::compile(&expression.join(" AND "))
            .unwrap()
            .takes(&message)
    );
}
