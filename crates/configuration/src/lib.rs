//! RocketMQ's properties files: parsing, the known keys, and what to say about the others.
//!
//! A role declares its keys once, with [`keys!`]: name, type, unit, default, bounds, meaning. From that come parsing with errors
//! that name file and line, the table in `docs/configuration.md`, and what GET_…_CONFIG answers.

mod apply;
mod document;
mod keys;
mod known;
mod promises;
mod properties;
mod suggest;
mod value;

pub use apply::{Error, Ignored, Report, apply};
pub use document::markdown_table;
pub use keys::{Key, KeySet};
pub use known::reason_ignored;
pub use properties::{Entry, ParseError, parse};
pub use value::Value;
