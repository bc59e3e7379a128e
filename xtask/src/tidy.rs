//! Rules of the code base that a program can check. What was said twice in a review becomes a rule here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use protocol::code::RequestCode;

/// A file above this has grown past its one subject.
const LINES_MAX: usize = 800;
/// Crate names that promise nothing.
const EMPTY_NAMES: [&str; 4] = ["common", "util", "types", "core"];
/// Crates by layer, lowest first; dependencies go to lower layers, or stay within a layer's own list of pure helpers.
const LAYERS: [&[&str]; 5] = [
    &["protocol", "platform", "configuration"],
    &["storage", "remoting", "filter"],
    &["client", "admin"],
    &["nameserver", "broker", "cli"],
    &["bench", "apogee"],
];
/// Dependencies within a layer that are meant.
const WITHIN_LAYER: [(&str, &str); 1] = [("apogee", "bench")];

/// Every violation under `root`, each naming the file and what to do.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut violations = Vec::new();
    let mut sources = Vec::new();
    for dir in ["crates", "xtask", "fuzz"] {
        collect(&root.join(dir), &mut sources)?;
    }
    for path in sources {
        let text = read(&path)?;
        let name = path
            .strip_prefix(root)
            .unwrap_or(&path)
            .display()
            .to_string();
        violations.extend(
            check_source(&name, &text)
                .into_iter()
                .map(|v| format!("{name}: {v}")),
        );
    }
    check_crates(root, &mut violations)?;
    check_manifest(root, &mut violations)?;
    check_compatibility(root, &mut violations)?;
    Ok(violations)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

fn collect(dir: &Path, sources: &mut Vec<PathBuf>) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                collect(&path, sources)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(path);
        }
    }
    Ok(())
}

/// Words are joined here so that this file does not break its own rules.
fn check_source(name: &str, text: &str) -> Vec<String> {
    let mut violations = Vec::new();
    let mut rule = |broken: bool, what: String| {
        if broken {
            violations.push(what);
        }
    };
    rule(
        !text.starts_with("//!"),
        "the first line says with //! what the file is for".to_owned(),
    );
    let lines = text.lines().count();
    rule(
        lines > LINES_MAX,
        format!("{lines} lines: look for the seam where the interface is smallest"),
    );
    rule(
        name.ends_with("/mod.rs"),
        "a module's file is NAME.rs beside NAME/".to_owned(),
    );
    rule(
        text.contains(concat!("#[", "ignore")),
        "tests are mended, not ignored".to_owned(),
    );
    for mark in [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
    ] {
        rule(
            text.contains(mark),
            format!("{mark}: do it, or file it where issues are kept"),
        );
    }
    let is_platform = name.starts_with("crates/platform/");
    let has_unsafe = text.lines().any(|line| {
        let line = line.trim_start();
        !line.starts_with("//")
            && (line.contains(concat!("unsafe", " {")) || line.contains(concat!("unsafe", " fn")))
    });
    rule(
        has_unsafe && !is_platform,
        "`unsafe` lives in platform".to_owned(),
    );
    let is_test = name.contains("/tests/");
    rule(
        is_test && text.contains(concat!("thread::", "sleep")),
        "a test waits for a condition with a bound, it does not sleep".to_owned(),
    );
    violations
}

fn crate_names(root: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(root.join("crates"))? {
        names.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// Every crate has a layer and a row in ARCHITECTURE.md, and depends downwards only.
fn check_crates(root: &Path, violations: &mut Vec<String>) -> Result<()> {
    let names = crate_names(root)?;
    let architecture = read(&root.join("ARCHITECTURE.md"))?;
    for name in &names {
        if EMPTY_NAMES.contains(&name.as_str()) {
            violations.push(format!(
                "crates/{name}: the name says nothing about the subject"
            ));
        }
        if !architecture.contains(&format!("| `{name}` |")) {
            violations.push(format!(
                "ARCHITECTURE.md: the code map has no row for crate {name}"
            ));
        }
        let Some(layer) = layer_of(name) else {
            violations.push(format!(
                "crates/{name}: it has no layer in xtask/src/tidy.rs"
            ));
            continue;
        };
        let manifest = read(&root.join("crates").join(name).join("Cargo.toml"))?;
        let dependencies = manifest
            .split("[dev-dependencies]")
            .next()
            .unwrap_or_default();
        for other in names
            .iter()
            .filter(|other| dependencies.contains(&format!("\n{other}.workspace")))
        {
            let is_meant = WITHIN_LAYER.contains(&(name, other));
            if layer_of(other) >= Some(layer) && !is_meant {
                violations.push(format!(
                    "crates/{name}: it depends on {other}, which is not below it"
                ));
            }
        }
    }
    for row in architecture
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split('`').nth(1))
    {
        let is_crate_row = !row.contains(['/', ' ', '.']) && row != "xtask";
        if is_crate_row && !names.contains(row) && layer_of(row).is_some() {
            violations.push(format!("ARCHITECTURE.md: crate {row} does not exist"));
        }
    }
    Ok(())
}

fn layer_of(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

/// Every dependency from outside carries its reason in a comment above it.
fn check_manifest(root: &Path, violations: &mut Vec<String>) -> Result<()> {
    let manifest = read(&root.join("Cargo.toml"))?;
    let section = manifest
        .split("[workspace.dependencies]")
        .nth(1)
        .unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    let mut has_reason = false;
    for line in section.lines() {
        if line.starts_with('#') {
            has_reason = true;
        } else if line.is_empty() {
            has_reason = false;
        } else if !has_reason {
            violations.push(format!(
                "Cargo.toml: this dependency has no reason above it: {line}"
            ));
        }
    }
    Ok(())
}

/// docs/compatibility.md has a row for every request code.
fn check_compatibility(root: &Path, violations: &mut Vec<String>) -> Result<()> {
    let page = read(&root.join("docs/compatibility.md"))?;
    for (code, name) in RequestCode::ALL {
        if !page.contains(&format!("| {} | {name} |", code.0)) {
            violations.push(format!(
                "docs/compatibility.md: no row `| {} | {name} | …`",
                code.0
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_purpose_is_found() {
        assert_eq!(check_source("crates/x/src/a.rs", "use std::fs;\n").len(), 1);
        assert!(check_source("crates/x/src/a.rs", "//! A.\n").is_empty());
    }

    #[test]
    fn a_sleeping_test_is_found() {
        let text = concat!("//! T.\nfn f() { std::thread::", "sleep(d); }\n");
        assert_eq!(check_source("crates/x/tests/it/a.rs", text).len(), 1);
        assert!(check_source("crates/x/src/a.rs", text).is_empty());
    }

    #[test]
    fn long_files_are_found() {
        let text = format!("//! A.\n{}", "\n".repeat(LINES_MAX));
        assert_eq!(check_source("crates/x/src/a.rs", &text).len(), 1);
    }
}
