//! The commands by name: those of the operators, and those of the harness.

mod bench;
mod book;
mod demo;
mod deny;
mod generate_docs;
mod generate_entities;
mod test;
mod tidy;

use clap::{CommandFactory, Parser, Subcommand};
use tenantry::migrations::TenantDataMigrator;
use tenantry_cli::Application;
pub(crate) use tenantry_cli::Outcome;

use crate::failure::Failure;

/// The reference schema as an application: what the operators' commands work on here.
#[derive(Debug)]
pub(crate) struct Reference;

impl Application for Reference {
    type TenantData = TenantDataMigrator;
    const NAME: &'static str = "cargo xtask";

    fn command() -> clap::Command {
        Cli::command()
    }
}

/// Runs, checks and builds Tenantry.
#[derive(Debug, Parser)]
#[command(
    name = Reference::NAME,
    bin_name = Reference::NAME,
    about = "Runs, checks and builds Tenantry",
    after_help = "Exit status: 0 done, 1 found something wrong, 2 could not run.\n\
                  Settings come from the environment and tenantry.toml: docs/settings.md lists them.",
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// One command with its arguments.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Operators(tenantry_cli::Command<Reference>),
    #[command(flatten)]
    Harness(Harness),
}

/// What only developers of Tenantry need.
#[derive(Debug, Subcommand)]
pub(crate) enum Harness {
    Demo(demo::Args),
    Test(test::Args),
    Bench(bench::Args),
    Book(book::Args),
    Deny(deny::Args),
    GenerateEntities(generate_entities::Args),
    GenerateDocs(generate_docs::Args),
    Tidy(tidy::Args),
}

impl Harness {
    pub(crate) async fn run(self) -> Result<Outcome, Failure> {
        match self {
            Self::Demo(args) => demo::run(args).await,
            Self::Test(args) => test::run(args).await,
            Self::Bench(args) => bench::run(&args),
            Self::Book(args) => book::run(&args),
            Self::Deny(args) => deny::run(&args),
            Self::GenerateEntities(args) => generate_entities::run(args).await,
            Self::GenerateDocs(args) => generate_docs::run(args),
            Self::Tidy(args) => tidy::run(args),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    /// Catches two arguments of one name, a default of the wrong type and the like, which clap finds only when run.
    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    /// `--help` is what people read first: each command shows an example.
    #[test]
    fn every_command_has_an_example() {
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(command.get_about().is_some(), "{name} says what it does");
            assert!(after.contains(&format!("cargo xtask {name}")), "{name} shows an example of itself");
        }
    }
}
