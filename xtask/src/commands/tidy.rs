//! `cargo xtask tidy`: holds the source tree and its documents to the rules.

use std::collections::BTreeSet;

use clap::CommandFactory;

use super::{Cli, Outcome};
use crate::{failure::Failure, tidy, workspace::Workspace};

/// Checks the source tree: who depends on whom, headers and sizes of files, paths, links and commands in documents
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  cargo xtask tidy\n\nExit status: 0 tidy, 1 something breaks a rule, 2 could not run."
)]
pub(crate) struct Args {}

pub(crate) fn run(Args {}: Args) -> Result<Outcome, Failure> {
    let commands: BTreeSet<String> =
        Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let findings = tidy::check(&Workspace::here(), &commands)?;
    for finding in &findings {
        println!("{finding}");
    }
    println!("tidy: {}", if findings.is_empty() { "ok".to_owned() } else { format!("{} findings", findings.len()) });
    Ok(Outcome::of(findings.is_empty()))
}
