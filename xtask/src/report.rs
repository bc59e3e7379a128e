//! Outcomes of the parts of a run, and the summary that closes it.

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Result, bail};

/// How one part ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It ran and everything in it passed.
    Passed,
    /// It ran, and this went wrong.
    Failed(String),
    /// It could not run; why. A failure where `CI=true`.
    NotRun(String),
}

/// One part of a run.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// What ran, as one would name it on the command line.
    pub(crate) name: String,
    /// How it ended.
    pub(crate) result: Verdict,
    /// How long it took.
    pub(crate) seconds: f64,
}

impl Outcome {
    /// Runs `part` and keeps what came of it.
    pub(crate) fn of(name: impl Into<String>, part: impl FnOnce() -> Result<()>) -> Self {
        let name = name.into();
        eprintln!("== {name}");
        let begin = Instant::now();
        let result = match part() {
            Ok(()) => Verdict::Passed,
            Err(error) => Verdict::Failed(format!("{error:#}")),
        };
        Self {
            name,
            result,
            seconds: begin.elapsed().as_secs_f64(),
        }
    }
}

/// Prints the summary, whose last line counts.
///
/// # Errors
/// When a part failed, or did not run although CI must run everything.
pub(crate) fn summarize(outcomes: &[Outcome]) -> Result<()> {
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    let (text, failed) = summary(outcomes, in_ci);
    print!("\n{text}");
    if failed > 0 {
        bail!("{failed} part(s) failed");
    }
    Ok(())
}

fn summary(outcomes: &[Outcome], in_ci: bool) -> (String, usize) {
    let mut text = String::from("summary\n");
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for outcome in outcomes {
        let (word, detail) = match &outcome.result {
            Verdict::Passed => {
                passed += 1;
                ("passed", "")
            }
            Verdict::Failed(reason) => {
                failed += 1;
                ("FAILED", reason.as_str())
            }
            Verdict::NotRun(reason) => {
                if in_ci {
                    failed += 1;
                } else {
                    skipped += 1;
                }
                ("not run", reason.as_str())
            }
        };
        let line = format!(
            "  {word:<8} {:<28} {:>7.1} s  {detail}",
            outcome.name, outcome.seconds
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let _ = write!(text, "{passed} passed, {failed} failed");
    if skipped > 0 {
        let _ = write!(text, ", {skipped} skipped");
    }
    text.push('\n');
    (text, failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(result: Verdict) -> Outcome {
        Outcome {
            name: "part".to_owned(),
            result,
            seconds: 1.0,
        }
    }

    #[test]
    fn what_did_not_run_fails_only_in_ci() {
        let outcomes = [
            outcome(Verdict::Passed),
            outcome(Verdict::NotRun("no go".to_owned())),
        ];
        let (text, failed) = summary(&outcomes, false);
        assert!(
            text.ends_with("1 passed, 0 failed, 1 skipped\n") && failed == 0,
            "{text}"
        );
        let (text, failed) = summary(&outcomes, true);
        assert!(
            text.ends_with("1 passed, 1 failed\n") && failed == 1,
            "{text}"
        );
    }
}
