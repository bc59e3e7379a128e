//! `docs/configuration.md`, made from the keys that the roles declare.

use std::fs;

use anyhow::{Context, Result, ensure};
use configuration::markdown_table;

use crate::cargo::root;

const INTRODUCTION: &str = "\
# Configuration

<!-- Written by `cargo xtask docs-configuration` from the declarations in the code. -->

Files are RocketMQ's: `key=value` lines, `#` begins a comment. A key that RocketMQ knows and that has no effect here is listed once at start, with
the reason. A key that nobody knows is an error that names the nearest known one. Sizes are plain numbers of bytes.

";

fn page() -> String {
    let broker = markdown_table(&broker::BrokerKeys::default());
    let nameserver = markdown_table(&nameserver::Config::default());
    format!("{INTRODUCTION}## Broker\n\n{broker}\n## Name server\n\n{nameserver}")
}

/// Writes the page.
pub(crate) fn write() -> Result<()> {
    let path = root().join("docs/configuration.md");
    fs::write(&path, page()).with_context(|| format!("{} cannot be written", path.display()))
}

/// Compares the page with the declarations.
pub(crate) fn check() -> Result<()> {
    let found = fs::read_to_string(root().join("docs/configuration.md")).unwrap_or_default();
    ensure!(
        found == page(),
        "docs/configuration.md differs from the declared keys; run `cargo xtask docs-configuration`"
    );
    Ok(())
}
