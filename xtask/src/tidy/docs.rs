//! Documents are held to the tree: what they name exists, and what exists is named where it has to be.
//!
//! ```text
//! Markdown ──▶ spans    `crates/realm`         the path exists
//!          ──▶ links    [text](docs/x.md#y)    the file exists, and its heading
//!          ──▶ commands cargo xtask demo       the command exists
//! ```
//! Knows enough of Markdown for that and no more. A path that is only an example is written with `<…>` or `…` in it.

mod links;

use std::collections::BTreeSet;

use tenantry::settings::reference::SETTINGS;

pub(crate) use links::headings;

use super::Finding;
use crate::{
    failure::Failure,
    workspace::{Package, Workspace},
};

/// What a newcomer, an operator and a lawyer look for in the root.
const REQUIRED: [&str; 12] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "book.toml",
    "docs/SUMMARY.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    ".env.example",
    ".ci/run",
    "deny.toml",
];
const CODE_MAP: &str = "ARCHITECTURE.md";
const ENVIRONMENT_EXAMPLE: &str = ".env.example";
/// Files that documents speak of and that lie with whoever runs Tenantry.
const NOT_OURS: [&str; 1] = ["tenantry.toml"];

pub(super) fn check(
    workspace: &Workspace,
    packages: &[Package],
    commands: &BTreeSet<String>,
) -> Result<Vec<Finding>, Failure> {
    let mut findings: Vec<_> = REQUIRED
        .iter()
        .filter(|file| !workspace.exists(file))
        .map(|file| Finding::in_file(file, "the file does not exist"))
        .collect();
    let documents = workspace.files("", ".md")?;
    for document in &documents {
        let text = workspace.read(document)?;
        findings.extend(check_spans(workspace, document, &text));
        findings.extend(check_commands(document, &text, commands));
        if document == CODE_MAP {
            findings.extend(check_code_map(&text, packages));
        }
    }
    findings.extend(links::check(workspace, &documents)?);
    if workspace.exists(ENVIRONMENT_EXAMPLE) {
        findings.extend(check_environment(&workspace.read(ENVIRONMENT_EXAMPLE)?));
    }
    Ok(findings)
}

/// Every package stands in the code map, and no other folder of packages does.
fn check_code_map(text: &str, packages: &[Package]) -> Vec<Finding> {
    let heading = |line: &str| line.starts_with('#');
    let Some(begin) = text.lines().position(|line| heading(line) && line.to_lowercase().contains("code map")) else {
        return vec![Finding::in_file(CODE_MAP, "no section `Code map`")];
    };
    let level = |line: &str| line.bytes().take_while(|byte| *byte == b'#').count();
    let own_level = text.lines().nth(begin).map_or(1, level);
    let lines = text.lines().enumerate().skip(begin + 1);
    let section = lines.take_while(|(_, line)| !heading(line) || level(line) > own_level);
    let mut mapped = BTreeSet::new();
    let mut findings = Vec::new();
    for (index, line) in section {
        for span in spans(line) {
            let folder = span.trim_end_matches('/');
            if packages.iter().any(|package| package.folder == folder) {
                mapped.insert(folder.to_owned());
            } else if folder.strip_prefix("crates/").is_some_and(|name| !name.contains('/')) {
                findings.push(Finding::at(
                    CODE_MAP,
                    index,
                    format!("`{folder}` is no crate; take it out of the code map"),
                ));
            }
        }
    }
    for package in packages.iter().filter(|package| !mapped.contains(&package.folder)) {
        findings.push(Finding::in_file(CODE_MAP, format!("the code map lacks `{}`", package.folder)));
    }
    findings
}

fn check_spans(workspace: &Workspace, document: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in outside_fences(text) {
        for span in spans(line) {
            let path = span.split_once(".rs:").map_or(span, |(path, _)| &span[..path.len() + 3]);
            if is_path(workspace, path) && !found_from(workspace, document, path) {
                findings.push(Finding::at(document, index, format!("`{path}` does not exist")));
            }
        }
    }
    findings
}

fn check_commands(document: &str, text: &str, commands: &BTreeSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for (at, call) in line.match_indices("cargo xtask ") {
            let rest = &line[at + call.len()..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(rest.len());
            let name = &rest[..end];
            if name.starts_with(|c: char| c.is_ascii_lowercase()) && !commands.contains(name) {
                findings.push(Finding::at(document, index, format!("`cargo xtask {name}` is no command")));
            }
        }
    }
    findings
}

/// The example names settings that exist, all of them.
fn check_environment(text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut named = BTreeSet::new();
    for (index, line) in text.lines().enumerate() {
        let Some((name, _)) = line.trim_start_matches('#').split_once('=') else { continue };
        if !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_') {
            named.insert(name);
            if SETTINGS.iter().all(|setting| setting.variable != name) {
                findings.push(Finding::at(ENVIRONMENT_EXAMPLE, index, format!("{name} is no setting")));
            }
        }
    }
    for setting in SETTINGS.iter().filter(|setting| !named.contains(setting.variable)) {
        findings.push(Finding::in_file(ENVIRONMENT_EXAMPLE, format!("{} is not in the example", setting.variable)));
    }
    findings
}

/// Lines outside fenced blocks, with their index.
fn outside_fences(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// What stands between single backticks.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Whether a span means a path of this tree: it begins with a folder of the root, or is the bare name of a document or a
/// manifest, and nothing in it says that it is a pattern or an example.
fn is_path(workspace: &Workspace, span: &str) -> bool {
    let plain = span.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    let in_folder = span.split_once('/').is_some_and(|(folder, _)| {
        !folder.is_empty() && !matches!(folder, "." | ".." | "target") && workspace.path(folder).is_dir()
    });
    let bare = !span.contains('/')
        && [".md", ".toml"].iter().any(|ending| span.len() > ending.len() && span.ends_with(ending));
    plain && !NOT_OURS.contains(&span) && (in_folder || bare)
}

/// A path in a document is meant from the root or from the document's own folder.
fn found_from(workspace: &Workspace, document: &str, path: &str) -> bool {
    workspace.exists(path) || workspace.exists(&beside(document, path))
}

/// A relative path as seen from the document's folder.
fn beside(document: &str, path: &str) -> String {
    let mut parts: Vec<_> = document.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests;
