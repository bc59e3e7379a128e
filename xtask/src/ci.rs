//! The verbs that run everything: `ci`, `test`, `tidy`.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::cargo::{cargo, root, run};
use crate::report::{Outcome, summarize};
use crate::{
    bit_flips, configuration_page, crash_images, interop, kill, overload, scale, soak,
    tidy as rules,
};

/// Power cuts at every moment of recorded traffic.
const CRASH_IMAGES: u64 = 5_000;
/// Bits flipped in the files of a store.
const BIT_FLIPS: u64 = 6_000;
/// Length of the overload.
const OVERLOAD_SECONDS: u64 = 10;
/// Length of the soak: five kills.
const SOAK: Duration = Duration::from_secs(120);
/// Kills under mixed traffic: two eras, one of each flush mode.
const KILLS: usize = 50;

/// Everything that must hold before a change lands.
pub(crate) fn ci() -> Result<()> {
    let mut outcomes = vec![
        Outcome::of("format", || run(&mut cargo(&["fmt", "--all", "--check"]))),
        Outcome::of("tidy", tidy),
        Outcome::of("lints", || {
            let lints = [
                "clippy",
                "--workspace",
                "--all-targets",
                "--quiet",
                "--",
                "-D",
                "warnings",
            ];
            run(&mut cargo(&lints))
        }),
        Outcome::of("documentation", || {
            let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--quiet"]);
            run(doc.env("RUSTDOCFLAGS", "-D warnings"))
        }),
        Outcome::of("configuration page", configuration_page::check),
    ];
    outcomes.extend(all_tests(None));
    summarize(&outcomes)
}

/// All tests, or those of one part.
pub(crate) fn test(part: Option<&str>) -> Result<()> {
    let outcomes = all_tests(part);
    if outcomes.is_empty() {
        bail!("there is no part {}", part.unwrap_or_default());
    }
    summarize(&outcomes)
}

fn all_tests(part: Option<&str>) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    if part.is_none_or(|part| part == "crates") {
        outcomes.push(Outcome::of("crates", || {
            run(&mut cargo(&[
                "test",
                "--workspace",
                "--no-fail-fast",
                "--",
                "--quiet",
            ]))
        }));
    }
    if part.is_none_or(|part| part == "kill") {
        outcomes.push(Outcome::of("kill", || kill::campaign(KILLS, 0, None)));
    }
    if part.is_none_or(|part| part == "crash-images") {
        outcomes.push(Outcome::of("crash-images", || {
            crash_images::campaign(CRASH_IMAGES, 1)
        }));
    }
    if part.is_none_or(|part| part == "bit-flips") {
        outcomes.push(Outcome::of("bit-flips", || bit_flips::campaign(BIT_FLIPS)));
    }
    if part.is_none_or(|part| part == "scale") {
        outcomes.push(Outcome::of("scale", scale::check));
    }
    if part.is_none_or(|part| part == "overload") {
        outcomes.push(Outcome::of("overload", || {
            overload::campaign(OVERLOAD_SECONDS)
        }));
    }
    if part.is_none_or(|part| part == "soak") {
        outcomes.push(Outcome::of("soak", || soak::campaign(SOAK, 1, None)));
    }
    outcomes.extend(interop::outcomes(part));
    outcomes
}

/// The rules of the code base.
pub(crate) fn tidy() -> Result<()> {
    let violations = rules::check(&root())?;
    for violation in &violations {
        eprintln!("{violation}");
    }
    match violations.len() {
        0 => Ok(()),
        count => bail!("{count} rule(s) broken"),
    }
}
