//! The commands by name. Each module reads its arguments, calls one operation and words its report.

mod check_isolation;
mod check_tenant_config;
pub(crate) mod completions;
mod create_tenant;
mod data_source;
mod encrypt_tenant_keys;
mod list_tenants;
mod migrate;
mod migrate_tenant_data;
mod tenants;
mod test_data_source;
mod test_dual_database;
mod test_routing;
mod transfer;

use clap::Subcommand;

use crate::{Application, Failure, Outcome};

/// One command with its arguments.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    Migrate(migrate::Args),
    CreateTenant(create_tenant::Args),
    ListTenants(list_tenants::Args),
    MigrateTenantData(migrate_tenant_data::Args),
    Transfer(transfer::Args),
    TestDataSource(test_data_source::Args),
    TestRouting(test_routing::Args),
    TestDualDatabase(test_dual_database::Args),
    CheckIsolation(check_isolation::Args),
    CheckTenantConfig(check_tenant_config::Args),
    EncryptTenantKeys(encrypt_tenant_keys::Args),
    Completions(completions::Args),
}

impl Action {
    pub(crate) async fn run<A: Application>(self) -> Result<Outcome, Failure> {
        match self {
            Self::Migrate(args) => migrate::run::<A>(args).await,
            Self::CreateTenant(args) => create_tenant::run::<A>(args).await,
            Self::ListTenants(args) => list_tenants::run::<A>(args).await,
            Self::MigrateTenantData(args) => migrate_tenant_data::run::<A>(args).await,
            Self::Transfer(args) => transfer::run::<A>(args).await,
            Self::TestDataSource(args) => test_data_source::run::<A>(args).await,
            Self::TestRouting(args) => test_routing::run::<A>(args).await,
            Self::TestDualDatabase(args) => test_dual_database::run::<A>(args).await,
            Self::CheckIsolation(args) => check_isolation::run::<A>(args).await,
            Self::CheckTenantConfig(args) => check_tenant_config::run::<A>(args).await,
            Self::EncryptTenantKeys(args) => encrypt_tenant_keys::run::<A>(args).await,
            Self::Completions(args) => completions::run::<A>(&args),
        }
    }

    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Migrate(args) => args.format.json,
            Self::CreateTenant(args) => args.format.json,
            Self::ListTenants(args) => args.format.json,
            Self::MigrateTenantData(args) => args.format.json,
            Self::Transfer(args) => args.json,
            Self::TestDataSource(args) => args.format.json,
            Self::TestRouting(args) => args.format.json,
            Self::TestDualDatabase(args) => args.format.json,
            Self::CheckIsolation(args) => args.format.json,
            Self::CheckTenantConfig(args) => args.format.json,
            Self::EncryptTenantKeys(args) => args.format.json,
            Self::Completions(_) => false,
        }
    }
}

/// How a command answers.
#[derive(Debug, clap::Args)]
pub(crate) struct Format {
    /// Print the report as JSON; an error as well
    #[arg(long)]
    json: bool,
}
