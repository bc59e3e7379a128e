//! The broker's side of its connections: one table from request code to handler, and the short way of sends and pulls.

use crate::call::Entry;
use crate::requests;

/// The table, one part a file.
const HANDLERS: &[&[Entry]] = &[
    requests::client::HANDLERS,
    requests::cluster::HANDLERS,
    requests::config::HANDLERS,
    requests::group::HANDLERS,
    requests::lock::HANDLERS,
    requests::offset::HANDLERS,
    requests::query::HANDLERS,
    requests::stats::HANDLERS,
    requests::topic::HANDLERS,
];
