//! Bodies in JSON, in the dialect of the library that Java uses (fastjson 1.x).
//!
//! Java writes map keys that are numbers without quotes and keys that are queues as whole objects:
//! `{0:"10.0.0.1:10911"}`, `{{"brokerName":"b","queueId":0,"topic":"t"}:{…}}`. `decode` reads these and standard JSON
//! alike, and forgives what real clients write: numbers in quotes, enums as ordinals, `null` for anything.

mod lenient;
mod normalize;
mod seal;
mod writer;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

pub use normalize::{DEPTH_MAX, NormalizeError, normalize};
pub use seal::{Seal, Sealer, seal, unseal};

/// Why a body could not be decoded. Answer with SYSTEM_ERROR and this text.
#[derive(Debug, Error)]
pub enum BodyError {
    /// Not JSON in any dialect.
    #[error("the body is not JSON: {0}")]
    Malformed(#[from] NormalizeError),
    /// JSON of another shape.
    #[error("the body does not fit: {0}")]
    Shape(#[from] serde_json::Error),
    /// A compressed or binary part of the body is broken.
    #[error("the body is broken in its {0}")]
    Broken(&'static str),
}

/// How map keys that are numbers are written. Keys that are queues are always written as objects, since Java reads
/// nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `{"0":…}`: what every client reads.
    Standard,
    /// `{0:…}`: what Java writes on its own; in configuration files, and for those who compare bytes.
    Fastjson,
}

/// A body from its bytes.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, BodyError> {
    let standard = normalize(body)?;
    let mut deserializer = serde_json::Deserializer::from_slice(&standard);
    let value = T::deserialize(lenient::Lenient(&mut deserializer))?;
    deserializer.end()?;
    Ok(value)
}

/// The bytes of a body, numbers as keys in quotes.
pub fn encode<T: Serialize + ?Sized>(body: &T) -> Vec<u8> {
    encode_as(body, Dialect::Standard)
}

/// Writes a body in a dialect, piece by piece: what it takes in memory is up to the writer.
///
/// # Errors
/// What the writer said.
pub fn write_as<T: Serialize + ?Sized>(
    body: &T,
    dialect: Dialect,
    to: impl std::io::Write,
) -> std::io::Result<()> {
    let formatter = writer::KeyFormatter::new(dialect);
    let mut serializer = serde_json::Serializer::with_formatter(to, formatter);
    body.serialize(&mut serializer).map_err(Into::into)
}

/// The bytes of a body in a dialect.
pub fn encode_as<T: Serialize + ?Sized>(body: &T, dialect: Dialect) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    let mut serializer =
        serde_json::Serializer::with_formatter(&mut bytes, writer::KeyFormatter::new(dialect));
    // Memory does not fail, and bodies have no keys but texts, numbers and queues.
    let written = body.serialize(&mut serializer);
    debug_assert!(written.is_ok(), "{written:?}");
    bytes
}
