//! The commands by name, and what each of them ends with.

mod bench;
mod check_isolation;
mod check_tenant_config;
mod create_tenant;
mod data_source;
mod demo;
mod encrypt_tenant_keys;
mod generate_docs;
mod generate_entities;
mod migrate;
mod migrate_tenant_data;
mod tenants;
mod test;
mod test_data_source;
mod test_dual_database;
mod test_routing;
mod tidy;

use clap::{Parser, Subcommand};

use crate::failure::Failure;

/// Runs, checks and builds Tenantry.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
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
    Demo(demo::Args),
    Migrate(migrate::Args),
    CreateTenant(create_tenant::Args),
    MigrateTenantData(migrate_tenant_data::Args),
    TestDataSource(test_data_source::Args),
    TestRouting(test_routing::Args),
    TestDualDatabase(test_dual_database::Args),
    CheckIsolation(check_isolation::Args),
    CheckTenantConfig(check_tenant_config::Args),
    EncryptTenantKeys(encrypt_tenant_keys::Args),
    Test(test::Args),
    Bench(bench::Args),
    GenerateEntities(generate_entities::Args),
    GenerateDocs(generate_docs::Args),
    Tidy(tidy::Args),
}

/// How a command that could run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is done, and nothing is wrong.
    Done,
    /// It looked, and something is wrong; it has said what.
    Found,
}

impl Outcome {
    /// [`Outcome::Done`] if everything passed.
    pub(crate) fn of(passed: bool) -> Self {
        if passed { Self::Done } else { Self::Found }
    }
}

impl Command {
    pub(crate) async fn run(self) -> Result<Outcome, Failure> {
        match self {
            Self::Demo(args) => demo::run(args).await,
            Self::Migrate(args) => migrate::run(args).await,
            Self::CreateTenant(args) => create_tenant::run(args).await,
            Self::MigrateTenantData(args) => migrate_tenant_data::run(args).await,
            Self::TestDataSource(args) => test_data_source::run(args).await,
            Self::TestRouting(args) => test_routing::run(args).await,
            Self::TestDualDatabase(args) => test_dual_database::run(args).await,
            Self::CheckIsolation(args) => check_isolation::run(args).await,
            Self::CheckTenantConfig(args) => check_tenant_config::run(args).await,
            Self::EncryptTenantKeys(args) => encrypt_tenant_keys::run(args).await,
            Self::Test(args) => test::run(args).await,
            Self::Bench(args) => bench::run(&args),
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
