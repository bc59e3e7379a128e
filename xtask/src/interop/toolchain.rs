//! Fetching and building the programs on the official clients, with their languages' own package managers, into `target/interop`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::cargo::{root, run, target_dir};

/// A toolchain that is not installed.
#[derive(Debug)]
pub(crate) struct Missing(pub(crate) String);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is not installed", self.0)
    }
}

impl std::error::Error for Missing {}

/// Where everything of the interop tests goes.
pub(crate) fn directory(name: &str) -> Result<PathBuf> {
    let target = std::path::absolute(target_dir())?;
    let directory = target.join("interop").join(name);
    fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    Ok(directory)
}

/// A directory of `interop/` in the source tree, which nothing is written to.
pub(crate) fn source(name: &str) -> PathBuf {
    root().join("interop").join(name)
}

/// Fails with [`Missing`] unless each program answers `version`.
pub(crate) fn need(programs: &[(&str, &str)]) -> Result<()> {
    for (program, version) in programs {
        let answer = Command::new(program)
            .arg(version)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !answer.is_ok_and(|status| status.success()) {
            return Err(Missing((*program).to_owned()).into());
        }
    }
    Ok(())
}

/// What was built in this run, by what it was built from.
static BUILT: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// What `build` makes, made once a run.
fn once(name: String, build: impl FnOnce() -> Result<String>) -> Result<String> {
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(made) = built.get(&name) {
        return Ok(made.clone());
    }
    let made = build()?;
    built.insert(name, made.clone());
    Ok(made)
}

/// Builds a Maven project of `interop/`, once a run, and gives the class path of its jar and all it needs.
pub(crate) fn maven(project: &str, version: &str, jar: &str) -> Result<String> {
    once(format!("{project}-{version}"), || {
        build_maven(project, version, jar)
    })
}

fn build_maven(project: &str, version: &str, jar: &str) -> Result<String> {
    need(&[("java", "-version"), ("mvn", "-version")])?;
    let out = directory(&format!("{project}-{version}"))?;
    // Maven writes beside the pom what cannot be told to go elsewhere, so it works on a copy.
    let copy = directory(&format!("{project}-{version}-source"))?;
    copy_tree(&source(project), &copy)?;
    run(Command::new("mvn")
        .current_dir(&copy)
        .args(["-q", "-B", "-ntp", "package"])
        .arg(format!("-Drocketmq.version={version}"))
        .arg(format!("-Dbuild.dir={}", out.display()))
        .stdout(Stdio::null()))?;
    Ok(format!(
        "{}:{}/*",
        out.join(jar).display(),
        out.join("lib").display()
    ))
}

/// Builds the Go program, once a run.
pub(crate) fn go() -> Result<PathBuf> {
    let program = once("go".to_owned(), || Ok(build_go()?.display().to_string()));
    Ok(PathBuf::from(program?))
}

fn build_go() -> Result<PathBuf> {
    need(&[("go", "version")])?;
    let program = directory("go")?.join("interop");
    run(Command::new("go")
        .current_dir(source("go"))
        .args(["build", "-mod=readonly", "-o"])
        .arg(&program)
        .arg("."))?;
    Ok(program)
}

/// The package's shared library is built for CPython 3.7 and later by ctypes; 3.11 is what it was tried with.
const PYTHONS: &[&str] = &["python3.11", "python3"];

/// Makes the virtual environment of the C++ client and gives its Python.
pub(crate) fn python() -> Result<PathBuf> {
    let python = PYTHONS
        .iter()
        .find(|python| need(&[(python, "--version")]).is_ok())
        .ok_or_else(|| Missing("python3".to_owned()))?;
    let environment = directory("cpp")?.join("venv");
    let inside = environment.join("bin/python");
    if !inside.exists() {
        run(Command::new(python).args(["-m", "venv"]).arg(&environment))?;
    }
    run(Command::new(&inside)
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
        ])
        .arg(source("cpp").join("requirements.txt")))?;
    Ok(inside)
}

/// Installs the Node program and gives its directory.
pub(crate) fn node() -> Result<PathBuf> {
    need(&[("node", "--version"), ("npm", "--version")])?;
    let directory = directory("node")?;
    let lock = "package-lock.json";
    let installed = directory.join("node_modules").join(".package-lock.json");
    let unchanged = installed.exists()
        && fs::read(source("node").join(lock)).ok() == fs::read(directory.join(lock)).ok();
    for file in ["package.json", lock, "interop.js"] {
        fs::copy(source("node").join(file), directory.join(file))?;
    }
    if !unchanged {
        run(Command::new("npm")
            .current_dir(&directory)
            .args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
            .stdout(Stdio::null()))?;
    }
    Ok(directory)
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
