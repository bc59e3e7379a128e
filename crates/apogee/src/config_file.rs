//! Configuration files of roles.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use configuration::KeySet;

/// Where RocketMQ's servers look for the TLS settings of a machine. The role's own file goes before it.
const TLS_FILE: &str = "/etc/rocketmq/tls.properties";

/// Sets a role's TLS keys from the machine's file, when there is one.
pub(crate) fn read_tls(keys: &mut dyn KeySet) -> anyhow::Result<()> {
    let path = Path::new(TLS_FILE);
    if path.exists() {
        read(path, keys)
    } else {
        Ok(())
    }
}

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
