//! Rules about this source tree that a reviewer would otherwise repeat: each is a check that names file and line.
//!
//! ```text
//! Workspace ──▶ manifests   who may depend on whom, versions declared once
//!           ──▶ sources     headers, sizes, names, allowed lints with their reasons
//!           ──▶ docs        code map, paths, links and commands that exist
//! ```
//! Knows files and manifests only: no database, no network.

mod docs;
mod manifests;
mod sources;

use std::{collections::BTreeSet, fmt};

pub(crate) use docs::headings;

use crate::{failure::Failure, workspace::Workspace};

/// Something that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// Relative to the root.
    pub(crate) file: String,
    /// Counted from 1; `None`: the whole file.
    pub(crate) line: Option<usize>,
    /// What is wrong and what to do.
    pub(crate) message: String,
}

impl Finding {
    fn in_file(file: &str, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: None, message: message.into() }
    }

    /// `index` is counted from 0, as `enumerate` does.
    fn at(file: &str, index: usize, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: Some(index + 1), message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

/// Runs every check. `commands` are the names that `cargo xtask` knows.
pub(crate) fn check(workspace: &Workspace, commands: &BTreeSet<String>) -> Result<Vec<Finding>, Failure> {
    let packages = workspace.packages()?;
    let mut findings = manifests::check(workspace, &packages)?;
    findings.extend(sources::check(workspace)?);
    findings.extend(docs::check(workspace, &packages, commands)?);
    findings.sort();
    Ok(findings)
}
