//! The operators' commands, run one after the other on the files that the demo leaves, as an operator would run them.

use std::process::Command;

use super::documents;
use crate::{failure::Failure, workspace::Workspace};

/// Tenant globex comes back to the single database in the demo; it is split off once more.
const SCRIPT: &str = r#"
rm -rf "$WORLD"
cargo xtask demo --keep "$WORLD"
set -a; . "$WORLD/demo.env"; set +a
cargo xtask migrate status
cargo xtask migrate up
cargo xtask migrate-tenant-data --tenant globex --dry-run
cargo xtask migrate-tenant-data --tenant globex
cargo xtask migrate-tenant-data --tenant globex --verify
cargo xtask transfer list
cargo xtask transfer plan globex --to "sqlite:$WORLD/globex-moved.db"
cargo xtask transfer run globex --to "sqlite:$WORLD/globex-moved.db"
cargo xtask transfer status globex
cargo xtask transfer rollback globex
cargo xtask transfer run globex --to "sqlite:$WORLD/globex-again.db"
cargo xtask transfer purge globex
cargo xtask create-tenant --name Newcomer --subdomain newcomer
cargo xtask list-tenants
cargo xtask check-tenant-config
cargo xtask encrypt-tenant-keys
cargo xtask encrypt-tenant-keys --apply
cargo xtask test-data-source --all
cargo xtask test-routing
cargo xtask test-dual-database
cargo xtask check-isolation
cargo xtask completions bash | bash -n
rm -rf "$WORLD"
"#;

pub(super) fn script(workspace: &Workspace) -> Result<Vec<Command>, Failure> {
    let mut shell = Command::new("bash");
    shell.args(["-euxo", "pipefail", "-c", SCRIPT]).current_dir(workspace.root());
    documents::without_settings(&mut shell);
    shell.env("WORLD", workspace.path("target/xtask-test/world"));
    Ok(vec![shell])
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
    use super::*;

    /// Catches a command that the README promises and nothing runs. The book is a step of its own.
    #[test]
    fn every_command_of_the_readme_is_run() {
        let readme = Workspace::here().read("README.md").unwrap();
        let named = readme.match_indices("cargo xtask ").map(|(at, call)| {
            let rest = &readme[at + call.len()..];
            &rest[..rest.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(rest.len())]
        });
        for name in named.filter(|name| !matches!(*name, "" | "test" | "book")) {
            assert!(SCRIPT.contains(&format!("cargo xtask {name}")), "nothing runs `cargo xtask {name}`");
        }
    }
}
