//! Typed headers of requests and responses, one struct for each of RocketMQ's.
//!
//! A struct bears the name of its Java class without "Header". A field's doc is its name on the wire. A field of type
//! `Option` may be absent, one with a default takes it then, and any other one is required.

mod auth;
mod broker;
mod client;
mod controller;
mod field;
mod group;
mod kv;
mod offset;
mod pop;
mod pull;
mod query;
mod registration;
mod replication;
mod route;
mod send;
mod stats;
mod topic;
mod transaction;

pub use auth::*;
pub use broker::*;
pub use client::*;
pub use controller::*;
pub use field::{BoundaryType, WithBrokerName};
pub use group::*;
pub use kv::*;
pub use offset::*;
pub use pop::*;
pub use pull::*;
pub use query::*;
pub use registration::*;
pub use replication::*;
pub use route::*;
pub use send::*;
pub use stats::*;
pub use topic::*;
pub use transaction::*;

/// Ext field that makes QUERY_MESSAGE look up by unique key when it is "true".
pub const UNIQUE_KEY_QUERY: &str = "_UNIQUE_KEY_QUERY";
/// Ext field of the heartbeat's answer: the broker understands fingerprints.
pub const IS_SUPPORT_HEART_BEAT_V2: &str = "IS_SUPPORT_HEART_BEAT_V2";
/// Ext field of the heartbeat's answer: the subscription changed.
pub const IS_SUB_CHANGE: &str = "IS_SUB_CHANGE";
/// Ext field of SET_COMMITLOG_READ_MODE.
pub const READ_AHEAD_MODE: &str = "READ_AHEAD_MODE";

/// Declares a header: the struct, and how it is read from fields and written as fields.
///
/// `name: Type = "wireName"` is a field; `or expression` gives it a default for when it is absent.
macro_rules! fields {
    ($(#[$doc:meta])* pub struct $type:ident {
        $($field:ident: $kind:ty = $wire:literal $(or $default:expr)?,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Default)]
        pub struct $type {
            $(#[doc = concat!("`", $wire, "`")] pub $field: $kind,)*
        }

        impl<'f> $crate::header::ReadFields<'f> for $type {
            fn read_fields(fields: $crate::header::Fields<'f>) -> Result<Self, $crate::header::FieldError> {
                $(let mut $field: Option<$kind> = None;)*
                for (_name, _value) in fields.entries() {
                    $(if _name.raw() == $wire.as_bytes() {
                        $field = Some($crate::headers::field::read($wire, _value)?);
                        continue;
                    })*
                }
                Ok(Self { $($field: fields!(@or $field, $wire, $($default)?),)* })
            }
        }

        impl $crate::header::WriteFields for $type {
            fn write_fields(&self, _write: &mut dyn FnMut(&str, &str)) {
                $($crate::headers::field::Field::write(&self.$field, $wire, _write);)*
            }
        }
    };
    (@or $field:ident, $wire:literal,) => {
        match $field {
            Some(value) => value,
            None => $crate::headers::field::Field::absent($wire)?,
        }
    };
    (@or $field:ident, $wire:literal, $default:expr) => {
        $field.unwrap_or($default)
    };
}
use fields;
