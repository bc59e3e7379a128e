//! Where a command's data goes: tables for people and scripts, or one JSON document.

use std::io::{self, Write};

use serde::Serialize;

/// A command's stdout.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Output {
        Output { json }
    }

    /// Whether JSON is wanted.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Writes text as it is.
    pub(crate) fn text(&self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }

    /// Writes a JSON document.
    pub(crate) fn json(&self, document: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(document)?;
        text.push('\n');
        self.text(&text)
    }
}
