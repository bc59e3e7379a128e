//! The compiled form says what the plainest reading of the tree says.

use std::cmp::Ordering;
use std::collections::HashMap;

use filter::{Comparison, Expression, Filter, Search, parse};
use proptest::prelude::*;

/// What a part is for a message. Java 5.3: the objects that `Expression.evaluate` gives.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Null,
    Bool(bool),
    Whole(i64),
    Decimal(f64),
    Text(String),
}

use Value::{Bool, Decimal, Null, Text, Whole};

/// A string without a number met a number.
#[derive(Debug)]
struct Failed;

type Message = HashMap<String, String>;

/// A part where a value is wanted.
fn value(tree: &Expression, message: &Message) -> Result<Value, Failed> {
    Ok(match tree {
        Expression::Null => Null,
        Expression::Bool(value) => Bool(*value),
        Expression::Whole(value) => Whole(*value as i64),
        Expression::Decimal(value) => Decimal(*value),
        Expression::Text(text) => Text(text.clone()),
        Expression::Property(name) => match message.get(name) {
            Some(text) => Text(text.clone()),
            None => Null,
        },
        Expression::Negative(inner) => match value(inner, message)? {
            Whole(number) => Whole(-number),
            Decimal(number) => Decimal(-number),
            _ => Null,
        },
        Expression::Not(inner) => not(condition(inner, message)?),
        Expression::And(parts) => {
            let mut result = Bool(true);
            for part in parts {
                match condition(part, message)? {
                    Bool(true) => {}
                    Bool(false) => return Ok(Bool(false)),
                    _ => result = Null,
                }
            }
            result
        }
        Expression::Or(parts) => {
            let mut result = Bool(false);
            for part in parts {
                match condition(part, message)? {
                    Bool(false) => {}
                    Bool(true) => return Ok(Bool(true)),
                    _ => result = Null,
                }
            }
            result
        }
        Expression::Compare(how, left, right) => {
            compare(*how, value(left, message)?, || value(right, message))?
        }
        Expression::IsNull(inner, negated) => Bool((value(inner, message)? == Null) != *negated),
        Expression::Between(parts, false) => {
            let [inner, low, high] = &**parts;
            both(
                compare(Comparison::GreaterOrEqual, value(inner, message)?, || {
                    value(low, message)
                })?,
                || {
                    compare(Comparison::LessOrEqual, value(inner, message)?, || {
                        value(high, message)
                    })
                },
            )?
        }
        Expression::Between(parts, true) => {
            let [inner, low, high] = &**parts;
            not(both(
                not(compare(Comparison::Less, value(inner, message)?, || {
                    value(low, message)
                })?),
                || {
                    Ok(not(compare(
                        Comparison::Greater,
                        value(inner, message)?,
                        || value(high, message),
                    )?))
                },
            )?)
        }
        Expression::In(name, texts, negated) => match message.get(name) {
            Some(text) => Bool(texts.contains(text) != *negated),
            None => Null,
        },
        Expression::Search(place, inner, wanted, negated) => match value(inner, message)? {
            Text(text) if !wanted.is_empty() => {
                let found = text
                    .match_indices(wanted.as_str())
                    .any(|(at, _)| match place {
                        Search::Anywhere => true,
                        Search::Start => at == 0,
                        Search::End => at + wanted.len() == text.len(),
                    });
                // Matches that overlap hide each other from the search.
                let found = found || *place == Search::End && text.ends_with(wanted.as_str());
                Bool(found != *negated)
            }
            _ => Bool(false),
        },
        Expression::Like(inner, pattern, escape, negated) => match value(inner, message)? {
            Null => Null,
            Text(text) => {
                let text: Vec<char> = text.chars().collect();
                let pattern: Vec<char> = pattern.chars().collect();
                Bool(like(&text, &pattern, *escape) != *negated)
            }
            _ => Bool(false),
        },
    })
}

/// A part where a condition is wanted: a property is a string, and that is none.
fn condition(tree: &Expression, message: &Message) -> Result<Value, Failed> {
    let value = value(tree, message)?;
    Ok(match (tree, value) {
        (Expression::Property(_), Text(_)) => Bool(false),
        (_, value) => value,
    })
}

fn not(value: Value) -> Value {
    match value {
        Bool(value) => Bool(!value),
        other => other,
    }
}

fn both(first: Value, second: impl FnOnce() -> Result<Value, Failed>) -> Result<Value, Failed> {
    if first == Bool(false) {
        return Ok(first);
    }
    Ok(match (first, second()?) {
        (_, Bool(false)) => Bool(false),
        (Bool(true), Bool(true)) => Bool(true),
        _ => Null,
    })
}

fn compare(
    how: Comparison,
    left: Value,
    right: impl FnOnce() -> Result<Value, Failed>,
) -> Result<Value, Failed> {
    let is_about_equality = matches!(how, Comparison::Equal | Comparison::Unequal);
    if !is_about_equality && left == Null {
        return Ok(Null);
    }
    let right = right()?;
    if is_about_equality {
        let equal = match (&left, &right) {
            (Null, Null) => Bool(true),
            (Null, _) => Null,
            (_, Null) => Bool(false),
            (Text(left), Text(right)) => Bool(left == right),
            (Bool(left), Bool(right)) => Bool(left == right),
            (Bool(bool), Text(text)) | (Text(text), Bool(bool)) => {
                Bool((text.to_lowercase() == "true") == *bool)
            }
            (Bool(_), _) | (_, Bool(_)) => Bool(false),
            _ => Bool(order(&left, &right)? == Ordering::Equal),
        };
        return Ok(if how == Comparison::Equal {
            equal
        } else {
            not(equal)
        });
    }
    if right == Null {
        return Ok(Null);
    }
    let order = order(&left, &right)?;
    Ok(Bool(match how {
        Comparison::Greater => order == Ordering::Greater,
        Comparison::GreaterOrEqual => order != Ordering::Less,
        Comparison::Less => order == Ordering::Less,
        _ => order != Ordering::Greater,
    }))
}

fn order(left: &Value, right: &Value) -> Result<Ordering, Failed> {
    let (left, right) = (number(left)?, number(right)?);
    Ok(match (&left, &right) {
        (Whole(left), Whole(right)) => left.cmp(right),
        _ => decimal(&left).total_cmp(&decimal(&right)),
    })
}

fn number(value: &Value) -> Result<Value, Failed> {
    match value {
        Whole(_) | Decimal(_) => Ok(value.clone()),
        Text(text) => match (text.parse(), text.parse()) {
            (Ok(whole), _) => Ok(Whole(whole)),
            (_, Ok(decimal)) => Ok(Decimal(decimal)),
            _ => Err(Failed),
        },
        Null | Bool(_) => Err(Failed),
    }
}

fn decimal(number: &Value) -> f64 {
    match number {
        Whole(number) => *number as f64,
        Decimal(number) => *number,
        other => panic!("{other:?} is no number"),
    }
}

/// Every way of dividing the text is tried.
fn like(text: &[char], pattern: &[char], escape: Option<char>) -> bool {
    match pattern {
        [] => text.is_empty(),
        [first, wanted, rest @ ..] if Some(*first) == escape => {
            text.first() == Some(wanted) && like(&text[1..], rest, escape)
        }
        ['%', rest @ ..] => (0..=text.len()).any(|taken| like(&text[taken..], rest, escape)),
        ['_', rest @ ..] => !text.is_empty() && like(&text[1..], rest, escape),
        [wanted, rest @ ..] => text.first() == Some(wanted) && like(&text[1..], rest, escape),
    }
}

fn operand() -> impl Strategy<Value = Expression> {
    prop_oneof![
        3 => "[a-d]".prop_map(Expression::Property),
        2 => (0..4_u64).prop_map(Expression::Whole),
        1 => prop::sample::select(vec![0.5, 1.0, 2.5]).prop_map(Expression::Decimal),
        1 => "[xy1]{0,2}".prop_map(Expression::Text),
        1 => any::<bool>().prop_map(Expression::Bool),
        1 => (0..3_u64).prop_map(|value| Expression::Negative(Box::new(Expression::Whole(value)))),
    ]
}

fn leaf() -> impl Strategy<Value = Expression> {
    use Comparison::*;
    let how = vec![Equal, Unequal, Greater, GreaterOrEqual, Less, LessOrEqual];
    let how = prop::sample::select(how);
    let place = prop::sample::select(vec![Search::Anywhere, Search::Start, Search::End]);
    let boxed = || operand().prop_map(Box::new);
    prop_oneof![
        4 => (how, boxed(), boxed()).prop_map(|(how, l, r)| Expression::Compare(how, l, r)),
        1 => (boxed(), any::<bool>()).prop_map(|(x, not)| Expression::IsNull(x, not)),
        1 => (operand(), operand(), operand(), any::<bool>())
            .prop_map(|(x, low, high, not)| Expression::Between(Box::new([x, low, high]), not)),
        1 => ("[a-d]", prop::collection::vec("[xy1]{0,2}", 1..4), any::<bool>())
            .prop_map(|(name, texts, not)| Expression::In(name, texts, not)),
        1 => (place, boxed(), "[xy1]{0,2}", any::<bool>())
            .prop_map(|(place, x, text, not)| Expression::Search(place, x, text, not)),
        1 => (boxed(), "([xy1%_]|!%){0,4}", any::<bool>())
            .prop_map(|(x, text, not)| Expression::Like(x, text, Some('!'), not)),
        1 => "[a-d]".prop_map(Expression::Property),
        1 => any::<bool>().prop_map(Expression::Bool),
        1 => Just(Expression::Null),
    ]
}

fn tree() -> impl Strategy<Value = Expression> {
    leaf().prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::And),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::Or),
            inner.prop_map(|x| Expression::Not(Box::new(x))),
        ]
    })
}

fn message() -> impl Strategy<Value = Message> {
    let text = prop_oneof![
        "[0-3]",
        "-[12]",
        "[12]\\.[05]",
        "[xy1]{1,3}",
        prop::sample::select(vec!["true", "FALSE"]).prop_map(str::to_owned),
    ];
    prop::collection::hash_map("[a-d]", text, 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]
    #[test]
    fn compiled_and_naive_evaluation_agree(tree in tree(), message in message()) {
        let text = tree.to_string();
        // Some of these trees no text has: TRUE > 1, say.
        let Ok(parsed) = parse(&text) else {
            return Ok(());
        };
        let filter = Filter::compile(&text).unwrap();
        let mut properties = String::new();
        for (name, value) in &message {
            protocol::properties::push(&mut properties, name, value);
        }
        let want = matches!(condition(&parsed, &message), Ok(Bool(true)));
        prop_assert_eq!(filter.takes(&properties), want, "{} of {:?}", text, message);
    }
}
