//! The commands in the documents, run as they stand: each document's `sh` blocks are one script, run by one shell in the
//! root of the tree with no setting in its environment but those it makes itself.
//!
//! A block for reading only has the info string `sh no-run`. The pages about splitting a database and about going back are run
//! by a scenario of their own, which builds the database that they speak of.

use std::process::Command;

use tenantry::settings::reference::SETTINGS;

use crate::{failure::Failure, workspace::Workspace};

/// Run by a scenario test.
const BY_SCENARIO: [&str; 2] = ["docs/splitting-a-single-database.md", "docs/rollback.md"];
/// Never run from a document: this is it.
const ITSELF: &str = "cargo xtask test";

/// One shell per document that has something to run.
pub(super) fn scripts(workspace: &Workspace) -> Result<Vec<Command>, Failure> {
    let mut commands = Vec::new();
    let pages = workspace.files("docs", ".md")?;
    let documents = pages.iter().map(String::as_str).chain(["README.md"]);
    for document in documents.filter(|path| workspace.exists(path) && !BY_SCENARIO.contains(path)) {
        let script = script(&workspace.read(document)?);
        if !script.is_empty() {
            let mut shell = Command::new("bash");
            // Printed as they are run, so that the log shows which one failed.
            shell.args(["-euxo", "pipefail", "-c", &script]).current_dir(workspace.root());
            without_settings(&mut shell);
            commands.push(shell);
        }
    }
    Ok(commands)
}

/// A developer's own settings must not decide what a test sees, nor a test what is in a developer's databases.
pub(super) fn without_settings(command: &mut Command) {
    for setting in SETTINGS {
        command.env_remove(setting.variable);
    }
    // What cargo told this program about its own package is not for another cargo: build scripts that ask for it (ring's does)
    // would run anew in each of the two, and half of the tree would be built with them.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
}

/// The lines of all blocks that are to be run.
fn script(text: &str) -> String {
    let mut lines = Vec::new();
    let mut running = false;
    let mut fenced = false;
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(info) = trimmed.strip_prefix("```") {
            running = !fenced && info.trim() == "sh";
            fenced = !fenced;
        } else if running && !trimmed.starts_with(ITSELF) {
            lines.push(trimmed);
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_blocks_for_running_are_run_and_never_this_command() {
        let text = "`sh`\n```sh\ncargo xtask demo\ncargo xtask test\n```\n```sh no-run\nrm -r x\n```\n```toml\na = 1\n```\n- x\n  ```sh\n  \
                    cargo xtask tidy\n  ```\n";
        assert_eq!(script(text), "cargo xtask demo\ncargo xtask tidy");
        assert_eq!(script("no blocks"), "");
    }
}
