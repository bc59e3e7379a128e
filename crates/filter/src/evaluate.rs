//! Asking one message. Nothing is allocated; what a message holds is borrowed.

use std::cmp::Ordering;

use protocol::properties;

use crate::compile::{Filter, Id, Node};
use crate::number::Number;
use crate::tree::{Comparison, Search};

/// Properties that are looked up in one walk over those of the message.
const WALK_MAX: usize = 16;

/// What a part of an expression is for one message.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(&'a str),
}

/// A string that holds no number was compared with one: the message is not taken, whatever the rest of the expression
/// says. Java throws here.
struct NoNumber;

type Outcome<'a> = Result<Value<'a>, NoNumber>;

impl Filter {
    /// Whether a message with these properties is wanted: only when the expression is TRUE for it.
    pub fn takes(&self, message: &str) -> bool {
        let mut found = [None; WALK_MAX];
        let walked = match &*self.names {
            [] => &found[..0],
            [name] => {
                found[0] = properties::get(message, name);
                &found[..1]
            }
            names => {
                let names = &names[..names.len().min(WALK_MAX)];
                for (name, value) in properties::iter(message) {
                    if let Some(index) = names.iter().position(|wanted| **wanted == *name) {
                        found[index] = Some(value);
                    }
                }
                &found[..names.len()]
            }
        };
        let message = Message {
            filter: self,
            properties: message,
            walked,
        };
        let root = self.nodes.len() as Id - 1;
        matches!(message.value(root), Ok(Value::Bool(true)))
    }
}

struct Message<'a> {
    filter: &'a Filter,
    properties: &'a str,
    walked: &'a [Option<&'a str>],
}

impl<'a> Message<'a> {
    fn property(&self, index: u32) -> Option<&'a str> {
        match self.walked.get(index as usize) {
            Some(value) => *value,
            None => properties::get(self.properties, &self.filter.names[index as usize]),
        }
    }

    fn value(&self, id: Id) -> Outcome<'a> {
        Ok(match &self.filter.nodes[id as usize] {
            Node::Null => Value::Null,
            Node::Bool(value) => Value::Bool(*value),
            Node::Number(number) => Value::Number(*number),
            Node::Text(text) => Value::Text(text),
            Node::Property(index) => self.property(*index).map_or(Value::Null, Value::Text),
            // A property is a string, and a string is no condition. Java 5.3: `UnaryExpression.createBooleanCast`.
            Node::Condition(index) => self
                .property(*index)
                .map_or(Value::Null, |_| Value::Bool(false)),
            Node::Negative(inner) => match self.value(*inner)? {
                Value::Number(number) => Value::Number(number.negated()),
                _ => Value::Null,
            },
            Node::Not(inner) => not(self.value(*inner)?),
            Node::And(parts) => self.all(parts, false)?,
            Node::Or(parts) => self.all(parts, true)?,
            Node::Compare(how, left, right) => self.compare(*how, *left, *right)?,
            Node::IsNull(inner, negated) => {
                Value::Bool((self.value(*inner)? == Value::Null) != *negated)
            }
            Node::Between(parts, negated) => self.between(parts, *negated)?,
            Node::In(index, texts, negated) => self.property(*index).map_or(Value::Null, |text| {
                Value::Bool(texts.contains(text) != *negated)
            }),
            Node::Search(place, inner, wanted, negated) => match self.value(*inner)? {
                Value::Text(text) if !wanted.is_empty() => {
                    let is_there = match place {
                        Search::Anywhere => text.contains(&**wanted),
                        Search::Start => text.starts_with(&**wanted),
                        Search::End => text.ends_with(&**wanted),
                    };
                    Value::Bool(is_there != *negated)
                }
                _ => Value::Bool(false),
            },
            Node::Like(inner, like, negated) => match self.value(*inner)? {
                Value::Null => Value::Null,
                Value::Text(text) => Value::Bool(like.matches(text) != *negated),
                Value::Bool(_) | Value::Number(_) => Value::Bool(false),
            },
        })
    }

    /// AND and OR: the first part that is `decisive` decides, parts behind it are not looked at.
    fn all(&self, parts: &[Id], decisive: bool) -> Outcome<'a> {
        let mut result = Value::Bool(!decisive);
        for part in parts {
            match self.value(*part)? {
                Value::Bool(value) if value == decisive => return Ok(Value::Bool(decisive)),
                Value::Bool(_) => {}
                _ => result = Value::Null,
            }
        }
        Ok(result)
    }

    fn compare(&self, how: Comparison, left: Id, right: Id) -> Outcome<'a> {
        let left = self.value(left)?;
        if how == Comparison::Equal || how == Comparison::Unequal {
            let equal = equal(left, self.value(right)?)?;
            return Ok(if how == Comparison::Equal {
                equal
            } else {
                not(equal)
            });
        }
        if left == Value::Null {
            return Ok(Value::Null);
        }
        ordered(how, left, self.value(right)?)
    }

    fn between(&self, [value, low, high]: &[Id; 3], negated: bool) -> Outcome<'a> {
        let value = self.value(*value)?;
        let (below, above, decisive) = if negated {
            (Comparison::Less, Comparison::Greater, true)
        } else {
            (Comparison::GreaterOrEqual, Comparison::LessOrEqual, false)
        };
        let first = ordered(below, value, self.value(*low)?)?;
        if first == Value::Bool(decisive) {
            return Ok(first);
        }
        let second = ordered(above, value, self.value(*high)?)?;
        Ok(if second == Value::Bool(decisive) || first != Value::Null {
            second
        } else {
            Value::Null
        })
    }
}

fn not(value: Value<'_>) -> Value<'_> {
    match value {
        Value::Bool(value) => Value::Bool(!value),
        other => other,
    }
}

/// Java 5.3: `ComparisonExpression.doCreateEqual`. Two NULLs are equal there, and the sides are not alike: NULL on the left is
/// unknown, NULL on the right is unequal.
fn equal<'a>(left: Value<'a>, right: Value<'a>) -> Outcome<'a> {
    Ok(match (left, right) {
        (Value::Null, Value::Null) => Value::Bool(true),
        (Value::Null, _) => Value::Null,
        (_, Value::Null) => Value::Bool(false),
        (Value::Text(left), Value::Text(right)) => Value::Bool(left == right),
        (Value::Bool(left), Value::Bool(right)) => Value::Bool(left == right),
        (Value::Bool(value), Value::Text(text)) | (Value::Text(text), Value::Bool(value)) => {
            Value::Bool(text.eq_ignore_ascii_case("true") == value)
        }
        (Value::Bool(_), Value::Number(_)) | (Value::Number(_), Value::Bool(_)) => {
            Value::Bool(false)
        }
        (left, right) => Value::Bool(number(left)?.order(number(right)?) == Ordering::Equal),
    })
}

fn ordered<'a>(how: Comparison, left: Value<'a>, right: Value<'a>) -> Outcome<'a> {
    if left == Value::Null || right == Value::Null {
        return Ok(Value::Null);
    }
    let order = number(left)?.order(number(right)?);
    Ok(Value::Bool(match how {
        Comparison::Equal => order.is_eq(),
        Comparison::Unequal => order.is_ne(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
    }))
}

fn number(value: Value<'_>) -> Result<Number, NoNumber> {
    match value {
        Value::Number(number) => Ok(number),
        Value::Text(text) => Number::read(text).ok_or(NoNumber),
        Value::Null | Value::Bool(_) => Err(NoNumber),
    }
}
