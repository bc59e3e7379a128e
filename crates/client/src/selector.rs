//! Which messages of a topic a consumer wants.

use protocol::tags;

use crate::message::Received;

/// Which messages of a topic a consumer wants: by tag, or by an expression over their properties. A string is a selector by tag.
///
/// ```
/// use client::MessageSelector;
///
/// let everything: MessageSelector = "*".into();
/// let red_or_blue = MessageSelector::by_tag("red || blue");
/// let dear = MessageSelector::by_sql("price BETWEEN 10 AND 20 AND city IN ('Rome', 'Oslo')");
/// # assert_ne!(everything, red_or_blue);
/// # assert_eq!(dear.expression(), "price BETWEEN 10 AND 20 AND city IN ('Rome', 'Oslo')");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageSelector {
    expression: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tag,
    Sql92,
}

impl MessageSelector {
    /// `*` takes everything; `a || b` what bears one of these tags.
    pub fn by_tag(expression: impl Into<String>) -> Self {
        let expression = expression.into();
        let expression = match expression.trim() {
            "" => "*",
            trimmed => trimmed,
        };
        Self {
            expression: expression.to_owned(),
            kind: Kind::Tag,
        }
    }

    /// An SQL92 expression over properties; the broker asks it of every message, and an Apogee broker says where it is wrong. Java's brokers
    /// take it with `enablePropertyFilter=true`.
    pub fn by_sql(expression: impl Into<String>) -> Self {
        Self {
            expression: expression.into(),
            kind: Kind::Sql92,
        }
    }

    /// The expression.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// Whether a message that a broker gave is really wanted: brokers compare hashes of tags, and of a batch that lies in one record nothing.
    pub(crate) fn takes(&self, message: &Received) -> bool {
        if !self.is_by_tag() || self.expression == "*" {
            return true;
        }
        let mut wanted = tags::split_expression(&self.expression).into_iter();
        message
            .tag()
            .is_some_and(|tag| wanted.any(|wanted| wanted == tag))
    }

    pub(crate) fn is_by_tag(&self) -> bool {
        self.kind == Kind::Tag
    }

    /// RocketMQ's name of the kind.
    pub(crate) fn kind(&self) -> &'static str {
        match self.kind {
            Kind::Tag => "TAG",
            Kind::Sql92 => "SQL92",
        }
    }
}

impl From<&str> for MessageSelector {
    fn from(expression: &str) -> Self {
        Self::by_tag(expression)
    }
}

impl From<String> for MessageSelector {
    fn from(expression: String) -> Self {
        Self::by_tag(expression)
    }
}

impl From<&String> for MessageSelector {
    fn from(expression: &String) -> Self {
        Self::by_tag(expression)
    }
}
