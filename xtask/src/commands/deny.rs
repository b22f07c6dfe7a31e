//! `cargo xtask deny`: what comes into the build is what deny.toml allows.
//!
//! cargo-deny checks it. Known vulnerabilities are asked for as well, where their database can be reached; one that is published
//! today must not fail the build of yesterday, so that they are shown and change nothing.

use std::process::Command;

use super::Outcome;
use crate::{failure::Failure, process, tool::Tool, workspace::Workspace};

const CARGO_DENY: Tool =
    Tool { package: "cargo-deny", version: "0.20.2", says: "cargo-deny 0.20.2", without: &["--debug"] };

/// Checks licences, sources and bans of all dependencies against deny.toml
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo xtask deny\n  cargo xtask deny --advisories\n\n\
                  cargo-deny is looked for in target/tools and on the PATH; without it, cargo installs it into target/tools.\n\
                  Exit status: 0 nothing found, 1 a dependency is against deny.toml, 2 could not run.")]
pub(crate) struct Args {
    /// Show known vulnerabilities, too; needs their database, and changes nothing about the exit status
    #[arg(long)]
    advisories: bool,
}

pub(crate) fn run(args: &Args) -> Result<Outcome, Failure> {
    let workspace = Workspace::here();
    let program = CARGO_DENY.find_or_install(&workspace)?;
    let check = |what: &[&str]| {
        let mut deny = Command::new(&program);
        deny.args(["check", "--hide-inclusion-graph"]).args(what).current_dir(workspace.root());
        process::watch(deny, |_| {})
    };
    if args.advisories {
        for line in check(&["advisories"])?.lines {
            println!("{line}");
        }
    }
    let checked = check(&["bans", "licenses", "sources"])?;
    // Where its own configuration is wrong, it ends as if it had found something.
    if !checked.lines.iter().any(|line| line.starts_with("bans ")) {
        return Err(Failure::Program { command: "cargo-deny check".to_owned(), output: checked.lines.join("\n") });
    }
    // Warnings are about what others chose, two majors of one crate for the most part.
    let shown = checked.lines.iter().rev().take(if checked.success { 1 } else { usize::MAX });
    for line in shown.collect::<Vec<_>>().into_iter().rev() {
        println!("{line}");
    }
    Ok(Outcome::of(checked.success))
}
