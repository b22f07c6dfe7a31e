//! What an application says of itself. Everything that differs between two applications' programs is here, once.

use clap::CommandFactory;
use sea_orm_migration::MigratorTrait;
use tenantry::{
    Error, Tenantry,
    connection::Actor,
    operations::{self, Direction, MigrateReport, MigrateScope},
    settings::{Settings, SettingsError},
};

use crate::program::Program;

/// An application whose tenants the commands operate.
///
/// Only the migrator and the name have to be said. An application that does more than [`Tenantry::connect`] when it starts
/// (entities of its own in the application database, a tenant column that is no setting) says so here as well, so that its
/// commands and its requests see the same.
pub trait Application: Sized + Send + Sync + 'static {
    /// The migrator of the tenants' tables, `Migrator<…>` of a [`TenantSchema`](tenantry::migrations::TenantSchema): what `migrate`, `create-tenant` and `migrate-tenant-data` bring a data source to.
    type TenantData: MigratorTrait;

    /// How people call the program, as in `bookings migrate up`. Help, examples, completions and the audit log show it. The
    /// name of the binary itself is `env!("CARGO_BIN_NAME")`.
    const NAME: &'static str;

    /// What the program is for, in one line of its help.
    const ABOUT: &'static str = "Runs, checks and moves tenants and their data sources";

    /// The settings of this environment.
    ///
    /// # Errors
    /// Whatever is wrong with them; a command ends with it, and exit status 2.
    fn settings() -> Result<Settings, SettingsError> {
        Settings::load()
    }

    /// Puts Tenantry together from the settings, as the application's own start does. Called within a Tokio runtime.
    ///
    /// # Errors
    /// As [`Tenantry::connect`]; a command ends with it, and exit status 2.
    fn tenantry(settings: Settings) -> Result<Tenantry, Error> {
        Tenantry::connect(settings)
    }

    /// Migrates the databases. An application with tables of its own in the application database overrides it with
    /// [`operations::migrate_with_own_tables`] and their migrator.
    ///
    /// # Errors
    /// As [`operations::migrate`]; a command ends with it, and exit status 2.
    fn migrate(
        tenantry: &Tenantry,
        scope: MigrateScope,
        direction: Direction,
    ) -> impl Future<Output = Result<MigrateReport, Error>> + Send {
        operations::migrate::<Self::TenantData>(tenantry, scope, direction)
    }

    /// The whole command line, for completions. To be overridden where [`Command`](crate::Command) stands beside commands of
    /// the application's own: with the `CommandFactory::command` of the type that holds both.
    fn command() -> clap::Command {
        Program::<Self>::command()
    }

    /// Who acts, as the audit log will have it: no user of the application, but this command of this program.
    fn actor(command: &str) -> Actor {
        Actor { user_agent: Some(format!("{} {command}", Self::NAME)), ..Actor::default() }
    }
}
