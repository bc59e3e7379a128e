//! Configuration files of roles.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use configuration::KeySet;

/// Sets a role's keys from a file, and says which of them have no effect.
pub(crate) fn read(path: &Path, keys: &mut dyn KeySet) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the configuration file {} cannot be read", path.display()))?;
    let report = configuration::apply(&path.display().to_string(), &text, keys)?;
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for ignored in &report.ignored {
        by_reason
            .entry(ignored.reason)
            .or_default()
            .push(&ignored.key);
    }
    for (reason, keys) in by_reason {
        tracing::warn!("{}: ignored {}: {reason}", path.display(), keys.join(", "));
    }
    Ok(())
}
