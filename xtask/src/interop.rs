//! The parts of `cargo xtask test` that need other toolchains: official clients against a live Apogee, and the Java server beside it.
//!
//! Everything fetched or built for them lies in `target/interop`; everything they start is stopped by its own id.

mod batches;
pub(crate) mod child;
mod clients;
mod compaction;
mod directories;
mod filters;
mod light;
mod mqadmin;
mod pending;
mod pop;
mod redelivery;
mod replies;
mod request_modes;
mod rust;
mod sides;
mod timer_kills;
mod timers;
pub(crate) mod toolchain;
mod transactions;

pub(crate) use clients::{create_compaction_topic, create_topic};

use std::time::Instant;

use anyhow::Result;

use crate::report::{Outcome, Verdict};

pub(crate) use filters::expressions;

/// Runs one part.
type Part = fn() -> Result<Verdict>;

/// Names as given on the command line, in the order of a whole run.
const PARTS: &[(&str, Part)] = &[
    ("instructions", || crate::instructions::check(false)),
    ("clients", clients::run),
    ("tls", clients::run_over_tls),
    ("rust", rust::run),
    ("mqadmin", mqadmin::run),
    ("directories", directories::run),
    ("redelivery", redelivery::run),
    ("filters", filters::run),
    ("pop", pop::run),
    ("timers", timers::run),
    ("timer-kills", timer_kills::run),
    ("transactions", transactions::run),
    ("replies", replies::run),
    ("light", light::run),
    ("compaction", compaction::run),
    ("pending", pending::run),
];

/// Run when they are named, five minutes each: the scenarios against the Java broker alone, which say that their assertions are not Apogee's own,
/// and batch topics on both servers and in directories that change sides.
const NAMED_PARTS: &[(&str, Part)] = &[
    ("batches", batches::run),
    ("clients-on-java", clients::run_on_java),
];

/// Runs all parts, or the one that is named; nothing when no part has that name. A client's name runs that client alone.
pub(crate) fn outcomes(wanted: Option<&str>) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = PARTS
        .iter()
        .filter(|(name, _)| wanted.is_none_or(|wanted| wanted == *name))
        .map(|(name, part)| timed(name, *part))
        .collect();
    let named = NAMED_PARTS.iter().filter(|(name, _)| wanted == Some(*name));
    outcomes.extend(named.map(|(name, part)| timed(name, *part)));
    if let Some(client) = wanted.and_then(clients::named) {
        outcomes.push(timed(client.name, || clients::run_only(client)));
    }
    outcomes
}

fn timed(name: &str, part: impl FnOnce() -> Result<Verdict>) -> Outcome {
    eprintln!("== {name}");
    let begin = Instant::now();
    let result = part().unwrap_or_else(|error| match error.downcast_ref::<toolchain::Missing>() {
        Some(missing) => Verdict::NotRun(missing.to_string()),
        None => Verdict::Failed(format!("{error:#}")),
    });
    Outcome {
        name: name.to_owned(),
        result,
        seconds: begin.elapsed().as_secs_f64(),
    }
}
