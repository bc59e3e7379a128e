//! An expression as a tree, and its text.

use std::fmt::{self, Display, Formatter};

/// What is compared how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `<>`
    Unequal,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
}

/// Where a string is looked for in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// `CONTAINS`
    Anywhere,
    /// `STARTSWITH`
    Start,
    /// `ENDSWITH`
    End,
}

/// A part of an expression. `Display` gives a text that parses to the same tree.
#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    /// `NULL`
    Null,
    /// `TRUE`, `FALSE`
    Bool(bool),
    /// A whole number that is not negative; 2^63 stands only under [`Expression::Negative`].
    Whole(u64),
    /// A finite decimal number that is not negative.
    Decimal(f64),
    /// `'text'`
    Text(String),
    /// The property of this name.
    Property(String),
    /// `-x`
    Negative(Box<Expression>),
    /// `NOT x`
    Not(Box<Expression>),
    /// `x AND y AND …`: two or more.
    And(Vec<Expression>),
    /// `x OR y OR …`: two or more.
    Or(Vec<Expression>),
    /// `x = y`, `x > y` and so on.
    Compare(Comparison, Box<Expression>, Box<Expression>),
    /// `x IS NULL`; with `true`, `x IS NOT NULL`.
    IsNull(Box<Expression>, bool),
    /// `x BETWEEN low AND high`; with `true`, `NOT BETWEEN`.
    Between(Box<[Expression; 3]>, bool),
    /// `property IN ('a', 'b')`; with `true`, `NOT IN`.
    In(String, Vec<String>, bool),
    /// `x CONTAINS 'text'` and its like; with `true`, `x NOT CONTAINS 'text'`.
    Search(Search, Box<Expression>, String, bool),
    /// `x LIKE 'pattern' ESCAPE 'c'`; with `true`, `x NOT LIKE …`.
    Like(Box<Expression>, String, Option<char>, bool),
}

impl Expression {
    /// Whether the result is TRUE, FALSE or NULL by its form. Java 5.3: `BooleanExpression`.
    pub(crate) fn is_boolean(&self) -> bool {
        !matches!(
            self,
            Expression::Whole(_)
                | Expression::Decimal(_)
                | Expression::Text(_)
                | Expression::Property(_)
                | Expression::Negative(_)
        )
    }
}

fn quoted(text: &str, f: &mut Formatter<'_>) -> fmt::Result {
    write!(f, "'{}'", text.replace('\'', "''"))
}

fn not(negated: bool) -> &'static str {
    if negated { "NOT " } else { "" }
}

/// An operand: in parentheses unless it is a word of its own.
struct Operand<'a>(&'a Expression);

impl Display for Operand<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Expression::Null
            | Expression::Bool(_)
            | Expression::Whole(_)
            | Expression::Decimal(_)
            | Expression::Text(_)
            | Expression::Property(_) => Display::fmt(self.0, f),
            other => write!(f, "({other})"),
        }
    }
}

fn joined(parts: &[Expression], word: &str, f: &mut Formatter<'_>) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            write!(f, " {word} ")?;
        }
        Display::fmt(&Operand(part), f)?;
    }
    Ok(())
}

impl Display for Expression {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Expression::Null => f.write_str("NULL"),
            Expression::Bool(true) => f.write_str("TRUE"),
            Expression::Bool(false) => f.write_str("FALSE"),
            Expression::Whole(value) => Display::fmt(value, f),
            // With an exponent, so that it does not read as a whole number.
            Expression::Decimal(value) => write!(f, "{value:e}"),
            Expression::Text(text) => quoted(text, f),
            Expression::Property(name) => f.write_str(name),
            Expression::Negative(inner) => write!(f, "-{}", Operand(inner)),
            Expression::Not(inner) => write!(f, "NOT {}", Operand(inner)),
            Expression::And(parts) => joined(parts, "AND", f),
            Expression::Or(parts) => joined(parts, "OR", f),
            Expression::Compare(how, left, right) => {
                let symbol = match how {
                    Comparison::Equal => "=",
                    Comparison::Unequal => "<>",
                    Comparison::Greater => ">",
                    Comparison::GreaterOrEqual => ">=",
                    Comparison::Less => "<",
                    Comparison::LessOrEqual => "<=",
                };
                write!(f, "{} {symbol} {}", Operand(left), Operand(right))
            }
            Expression::IsNull(inner, negated) => {
                write!(f, "{} IS {}NULL", Operand(inner), not(*negated))
            }
            Expression::Between(parts, negated) => {
                let [value, low, high] = &**parts;
                let (value, low, high) = (Operand(value), Operand(low), Operand(high));
                write!(f, "{value} {}BETWEEN {low} AND {high}", not(*negated))
            }
            Expression::In(name, texts, negated) => {
                write!(f, "{name} {}IN (", not(*negated))?;
                for (index, text) in texts.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    quoted(text, f)?;
                }
                f.write_str(")")
            }
            Expression::Search(place, inner, text, negated) => {
                let word = match place {
                    Search::Anywhere => "CONTAINS",
                    Search::Start => "STARTSWITH",
                    Search::End => "ENDSWITH",
                };
                write!(f, "{} {}{word} ", Operand(inner), not(*negated))?;
                quoted(text, f)
            }
            Expression::Like(inner, pattern, escape, negated) => {
                write!(f, "{} {}LIKE ", Operand(inner), not(*negated))?;
                quoted(pattern, f)?;
                if let Some(escape) = escape {
                    f.write_str(" ESCAPE ")?;
                    quoted(&escape.to_string(), f)?;
                }
                Ok(())
            }
        }
    }
}
