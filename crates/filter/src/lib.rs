//! SQL92 filters: a text is compiled once, then asked of each message. No I/O, no clock.
//!
//! ```
//! let filter = filter::Filter::compile("price BETWEEN 10 AND 20 AND city IN ('Rome', 'Oslo')").unwrap();
//! assert!(filter.takes("price\u{1}15\u{2}city\u{1}Oslo\u{2}"));
//! assert!(!filter.takes("price\u{1}15\u{2}"));
//! ```
//!
//! The language and what it means are those of Java 5.3 (`SelectorParser`, `ComparisonExpression`, `UnaryExpression`,
//! `LogicExpression`): values are NULL, TRUE, FALSE, whole numbers, decimal numbers and strings, a property is a string or
//! NULL, and logic has three values. Where Java gives an answer, this crate gives the same. It differs in these places:
//!
//! | expression | Java 5.3 | here |
//! |---|---|---|
//! | `a = 1 rubbish` | everything behind what could be read is ignored | refused |
//! | `a LIKE 'x%'` | read as `a`, the rest ignored: takes nothing | LIKE, with `%`, `_` and ESCAPE |
//! | `a > 5`, where a is 3000000000 or 7.5 | fails, takes nothing: the string must be of the constant's type | compared as the numbers they are |
//! | `TRUE = a` | fails, takes nothing | as `a = TRUE` |
//! | `a > 0.0` | refused | 0 is a number |
//! | `-9223372036854775808` | refused | a number |
//! | longer than [`EXPRESSION_BYTES_MAX`], deeper than [`DEPTH_MAX`] | as far as the stack carries | refused |
//!
//! As in Java, and easily mistaken: a property alone is never TRUE; `NOT a = b` compares `NOT a` with `b`; `-a` is NULL;
//! a string without a number in a comparison with one fails the whole expression, even under OR and NOT.

mod compile;
mod evaluate;
mod like;
mod number;
mod parse;
mod token;
mod tree;

pub use compile::Filter;
pub use parse::parse;
pub use token::{Position, SyntaxError};
pub use tree::{Comparison, Expression, Search};

/// The longest expression. Ten times what people write by hand; long IN lists fit.
pub const EXPRESSION_BYTES_MAX: usize = 64 << 10;
/// How deep parentheses, NOT and signs nest, and how deep one comparison lies in another. AND and OR chains are no depth.
/// Evaluation recurses this far at most.
pub const DEPTH_MAX: usize = 64;
