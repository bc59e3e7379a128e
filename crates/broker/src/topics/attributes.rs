//! Attributes of a topic, and the text that changes them: `+message.type=FIFO,-reserve.time`.
//! Java 5.3: `AttributeParser`, `AttributeUtil`, `TopicAttributes`.

use std::collections::{BTreeMap, BTreeSet};

type Attributes = BTreeMap<String, String>;

/// What an attribute may hold.
struct Attribute {
    name: &'static str,
    /// Whether it may change after the topic was created.
    changeable: bool,
    values: Values,
}

enum Values {
    OneOf(&'static [&'static str]),
    AtLeast(i64),
}

const ALL: [Attribute; 4] = [
    Attribute {
        name: "queue.type",
        changeable: false,
        values: Values::OneOf(&["BatchCQ", "SimpleCQ"]),
    },
    Attribute {
        name: "cleanup.policy",
        changeable: false,
        values: Values::OneOf(&["COMPACTION", "DELETE"]),
    },
    Attribute {
        name: "message.type",
        changeable: true,
        values: Values::OneOf(&[
            "DELAY",
            "FIFO",
            "MIXED",
            "NORMAL",
            "TRANSACTION",
            "UNSPECIFIED",
        ]),
    },
    Attribute {
        name: "reserve.time",
        changeable: true,
        values: Values::AtLeast(-1),
    },
];

/// Why a change of attributes is refused. The texts are Java's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AttributeError {
    #[error("add/alter attribute format is wrong: {0}")]
    AddFormat(String),
    #[error("delete attribute format is wrong: {0}")]
    DeleteFormat(String),
    #[error("key duplication: {0}")]
    DuplicateInText(String),
    #[error("kv string format wrong.")]
    Format,
    #[error("alter duplication key. key: {0}")]
    Duplicate(String),
    #[error("only add attribute is supported while creating topic. key: {0}")]
    OnlyAdd(String),
    #[error("attempt to delete a nonexistent key: {0}")]
    Nonexistent(String),
    #[error("wrong format key: {0}")]
    KeyFormat(String),
    #[error("unsupported key: {0}")]
    Unsupported(String),
    #[error("attempt to update an unchangeable attribute. key: {0}")]
    Unchangeable(String),
    #[error("value is not in set: [{}]", .0.join(", "))]
    NotInSet(&'static [&'static str]),
    #[error("For input string: \"{0}\"")]
    NotANumber(String),
    #[error("value is not in range({least}, {})", i64::MAX)]
    OutOfRange { least: i64 },
}

/// The text of a modification: signs stay in front of the names.
pub(crate) fn parse(text: &str) -> Result<Attributes, AttributeError> {
    let mut attributes = Attributes::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (name, value) = match part.split_once('=') {
            Some((name, _)) if !name.contains('+') => {
                return Err(AttributeError::AddFormat(name.to_owned()));
            }
            Some((name, value)) => (name, value),
            None if !part.contains('-') => {
                return Err(AttributeError::DeleteFormat(part.to_owned()));
            }
            None => (part, ""),
        };
        if attributes
            .insert(name.to_owned(), value.to_owned())
            .is_some()
        {
            return Err(AttributeError::DuplicateInText(name.to_owned()));
        }
    }
    Ok(attributes)
}

/// The attributes after a modification; `existing` is none while the topic is being created.
pub(super) fn alter(
    existing: Option<&Attributes>,
    modification: &Attributes,
) -> Result<Attributes, AttributeError> {
    let mut altered = existing.cloned().unwrap_or_default();
    let mut seen = BTreeSet::new();
    for (signed, value) in modification {
        let mut letters = signed.chars();
        let (sign, name) = (letters.next(), letters.as_str());
        if name.is_empty() || name.contains(['+', '-']) {
            return Err(AttributeError::Format);
        }
        if !seen.insert(name) {
            return Err(AttributeError::Duplicate(name.to_owned()));
        }
        match (sign, existing) {
            (Some('+'), _) => {
                let attribute = find(name, existing.is_none())?;
                attribute.values.verify(value)?;
                altered.insert(name.to_owned(), value.clone());
            }
            (_, None) => return Err(AttributeError::OnlyAdd(name.to_owned())),
            (Some('-'), Some(existing)) => {
                if !existing.contains_key(name) {
                    return Err(AttributeError::Nonexistent(name.to_owned()));
                }
                find(name, false)?;
                altered.remove(name);
            }
            (_, Some(_)) => return Err(AttributeError::KeyFormat(name.to_owned())),
        }
    }
    Ok(altered)
}

fn find(name: &str, creating: bool) -> Result<&'static Attribute, AttributeError> {
    let attribute = ALL.iter().find(|attribute| attribute.name == name);
    let attribute = attribute.ok_or_else(|| AttributeError::Unsupported(name.to_owned()))?;
    if !creating && !attribute.changeable {
        return Err(AttributeError::Unchangeable(name.to_owned()));
    }
    Ok(attribute)
}

impl Values {
    fn verify(&self, value: &str) -> Result<(), AttributeError> {
        match self {
            Values::OneOf(values) if values.contains(&value) => Ok(()),
            Values::OneOf(values) => Err(AttributeError::NotInSet(values)),
            Values::AtLeast(least) => match value.parse::<i64>() {
                Ok(number) if number >= *least => Ok(()),
                Ok(_) => Err(AttributeError::OutOfRange { least: *least }),
                Err(_) => Err(AttributeError::NotANumber(value.to_owned())),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(pairs: &[(&str, &str)]) -> Attributes {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[track_caller]
    fn check(existing: Option<&[(&str, &str)]>, text: &str, want: Result<&[(&str, &str)], &str>) {
        let existing = existing.map(attributes);
        let altered = parse(text).and_then(|parsed| alter(existing.as_ref(), &parsed));
        assert_eq!(
            altered.map_err(|error| error.to_string()),
            want.map(attributes).map_err(str::to_owned)
        );
    }

    #[test]
    fn signs_add_and_remove() {
        check(None, "", Ok(&[]));
        check(
            None,
            "+message.type=FIFO,+queue.type=SimpleCQ",
            Ok(&[("message.type", "FIFO"), ("queue.type", "SimpleCQ")]),
        );
        check(
            Some(&[("message.type", "FIFO")]),
            "+message.type=NORMAL",
            Ok(&[("message.type", "NORMAL")]),
        );
        check(
            Some(&[("message.type", "FIFO")]),
            "-message.type,+reserve.time=-1",
            Ok(&[("reserve.time", "-1")]),
        );
        check(
            Some(&[("queue.type", "BatchCQ")]),
            "",
            Ok(&[("queue.type", "BatchCQ")]),
        );
    }

    #[test]
    fn nonsense_is_refused_in_words_of_java() {
        check(
            None,
            "message.type=FIFO",
            Err("add/alter attribute format is wrong: message.type"),
        );
        check(None, "x", Err("delete attribute format is wrong: x"));
        check(None, "+a=1,+a=2", Err("key duplication: +a"));
        check(None, "+=1", Err("kv string format wrong."));
        check(
            None,
            "-message.type",
            Err("only add attribute is supported while creating topic. key: message.type"),
        );
        check(None, "+colour=red", Err("unsupported key: colour"));
        check(
            None,
            "+message.type=BLUE",
            Err("value is not in set: [DELAY, FIFO, MIXED, NORMAL, TRANSACTION, UNSPECIFIED]"),
        );
        check(
            None,
            "+reserve.time=-2",
            Err("value is not in range(-1, 9223372036854775807)"),
        );
        check(
            Some(&[]),
            "-message.type",
            Err("attempt to delete a nonexistent key: message.type"),
        );
        check(
            Some(&[]),
            "+queue.type=BatchCQ",
            Err("attempt to update an unchangeable attribute. key: queue.type"),
        );
    }
}
