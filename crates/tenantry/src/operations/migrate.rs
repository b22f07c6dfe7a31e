//! `migrate`: the schema of the application database and of every data source, each once.

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr};
use sea_orm_migration::{Migration, MigrationStatus, MigrationTrait, MigratorTrait};
use serde::Serialize;
use tenantry_connection::{DataSourceUrl, Engine, Pool};
use tenantry_credential::Login;
use tenantry_data_source::with_causes;
use tenantry_migrations::{AppDbMigrator, TenantDataSettings, prepare_tenant_data};

use super::databases::{
    DataSourceInUse, data_source_pool, data_sources_in_use, operation_pool, restricted_login, service_login,
};
use crate::{Error, Tenantry};

/// Which way to migrate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Apply what is pending.
    Up,
    /// Take back the latest migrations, at most this many per database.
    Down(u32),
    /// Change nothing; report what is applied and pending.
    Status,
}

/// Which databases to migrate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MigrateScope {
    /// The application database.
    pub app_db: bool,
    /// Every data source in use, and the default one where it is one for all.
    pub data_sources: bool,
}

/// What a database is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseKind {
    /// Tenants, users, audit log, data sources.
    ApplicationDatabase,
    /// Business rows.
    DataSource,
}

/// The migrations of one database.
#[derive(Debug, Clone, Serialize)]
pub struct DatabaseMigrations {
    /// Where it is.
    pub database: DataSourceUrl,
    /// What it is for.
    pub kind: DatabaseKind,
    /// Applied, after this run.
    pub applied: Vec<String>,
    /// Not applied, after this run.
    pub pending: Vec<String>,
    /// Applied or taken back by this run.
    pub changed: Vec<String>,
    /// What went wrong, with its causes.
    pub error: Option<String>,
    /// What to do about it, where the error does not say it.
    pub remedy: Option<String>,
}

/// The migrations of all databases.
#[derive(Debug, Clone, Serialize)]
pub struct MigrateReport {
    /// One entry per database; the application database first.
    pub databases: Vec<DatabaseMigrations>,
}

impl MigrateReport {
    /// Whether no database failed.
    pub fn passed(&self) -> bool {
        self.databases.iter().all(|database| database.error.is_none())
    }

    /// Whether every migration is applied everywhere.
    pub fn is_complete(&self) -> bool {
        self.passed() && self.databases.iter().all(|database| database.pending.is_empty())
    }

    /// Turns a report in which something failed or is pending into an error, for callers that only want to go on.
    ///
    /// # Errors
    /// [`Error::NotMigrated`] with the first such database.
    pub fn into_complete(self) -> Result<Self, Error> {
        let Some(wrong) = self.databases.iter().find(|one| one.error.is_some() || !one.pending.is_empty()) else {
            return Ok(self);
        };
        let pending = || format!("{} pending", wrong.pending.join(", "));
        let reason = wrong.error.clone().unwrap_or_else(pending);
        Err(Error::NotMigrated { database: wrong.database.clone(), reason })
    }
}

/// Migrates the databases in scope with the application's own tenant data migrator `M`. The application database goes first,
/// since it names the others: where it fails, or was never migrated and is only asked for its status, the report ends with
/// it. A data source that fails does not keep the others from being migrated.
///
/// # Errors
/// [`Error::Store`] when the data sources could not be listed. A database's own failure is in its entry.
pub async fn migrate<M: MigratorTrait>(
    tenantry: &Tenantry,
    scope: MigrateScope,
    direction: Direction,
) -> Result<MigrateReport, Error> {
    migrate_with_own_tables::<M, NoTables>(tenantry, scope, direction).await
}

/// As [`migrate`], for an application that has tables of its own in the application database: their migrator `A` goes after
/// Tenantry's, under the same lock, and is taken back before it. It has its own history, and what a failed one of its
/// migrations leaves behind is its own business.
///
/// # Errors
/// As [`migrate`].
pub async fn migrate_with_own_tables<M: MigratorTrait, A: MigratorTrait>(
    tenantry: &Tenantry,
    scope: MigrateScope,
    direction: Direction,
) -> Result<MigrateReport, Error> {
    let mut databases = Vec::new();
    if scope.app_db {
        let entry = migrate_app_db::<A>(tenantry, direction).await;
        // One that was never migrated does not name the others yet, and asking for its status does not change that.
        let unreadable = entry.error.is_some() || (direction == Direction::Status && entry.applied.is_empty());
        databases.push(entry);
        if unreadable {
            return Ok(MigrateReport { databases });
        }
    }
    if scope.data_sources {
        for source in sources(tenantry).await? {
            databases.push(migrate_source::<M>(tenantry, &source, direction).await);
        }
    }
    Ok(MigrateReport { databases })
}

/// Brings one data source's schema up to date before its first tenant is placed there.
pub(crate) async fn prepare_data_source<M: MigratorTrait>(
    pool: &Pool,
    service: Option<&Login>,
    settings: &TenantDataSettings,
) -> Result<Vec<String>, Error> {
    let database = pool.url();
    let connection = connect(pool, service).await?;
    let done = async {
        lock(&connection).await?;
        prepare_tenant_data(&connection, settings)
            .await
            .map_err(|source| Error::Prepare { database: database.clone(), source })?;
        let (_, _, changed) = run::<M>(&connection, Direction::Up).await?;
        Ok::<_, Failure>(changed)
    };
    let done = done.await;
    let _ = connection.close().await;
    done.map_err(|failure| failure.into_error(database))
}

/// The settings that the tenant data migrator needs.
pub(crate) fn tenant_data_settings(tenantry: &Tenantry, restricted: Option<&Login>) -> TenantDataSettings {
    let settings = tenantry.settings();
    TenantDataSettings {
        restricted_role: restricted.map(|login| login.user.clone()).unwrap_or_default(),
        tenant_column: settings.tenant_column.clone(),
        tenant_type: settings.tenant_key_type.postgres_type().to_owned(),
    }
}

/// Every data source in use, and the default one where it is one for all.
pub(crate) async fn sources(tenantry: &Tenantry) -> Result<Vec<DataSourceInUse>, Error> {
    let mut sources = data_sources_in_use(tenantry).await?;
    if let Some(default) =
        tenantry.settings().default_data_source.as_ref().filter(|default| !default.url.is_per_tenant())
    {
        let url = default.url.for_tenant(uuid::Uuid::nil())?;
        if sources.iter().all(|source| source.url != url) {
            sources.push(DataSourceInUse { url, tenants: Vec::new() });
        }
    }
    Ok(sources)
}

async fn migrate_app_db<A: MigratorTrait>(tenantry: &Tenantry, direction: Direction) -> DatabaseMigrations {
    let application = &tenantry.settings().application_database;
    let database = application.url.clone();
    let done = async {
        let pool = operation_pool(tenantry, &database, application.login.as_ref(), direction == Direction::Up)?;
        let connection = connect(&pool, application.login.as_ref()).await?;
        let done = match lock(&connection).await {
            Ok(()) => run_app_db::<A>(&connection, direction).await,
            Err(failure) => Err(failure),
        };
        let _ = connection.close().await;
        pool.close().await;
        done.map_err(|failure| failure.into_error(&database))
    };
    entry(database.clone(), DatabaseKind::ApplicationDatabase, done.await)
}

async fn migrate_source<M: MigratorTrait>(
    tenantry: &Tenantry,
    source: &DataSourceInUse,
    direction: Direction,
) -> DatabaseMigrations {
    let done = async {
        let service = service_login(tenantry, source).await?;
        let restricted = restricted_login(tenantry, source).await?;
        let pool = data_source_pool(tenantry, &source.url, service.as_ref(), direction == Direction::Up).await?;
        let connection = connect(&pool, service.as_ref()).await?;
        let work = async {
            lock(&connection).await?;
            if direction == Direction::Up {
                prepare_tenant_data(&connection, &tenant_data_settings(tenantry, restricted.as_ref()))
                    .await
                    .map_err(|error| Error::Prepare { database: source.url.clone(), source: error })?;
            }
            run::<M>(&connection, direction).await
        };
        let done = work.await;
        let _ = connection.close().await;
        pool.close().await;
        done.map_err(|failure| failure.into_error(&source.url))
    };
    entry(source.url.clone(), DatabaseKind::DataSource, done.await)
}

type Migrations = (Vec<String>, Vec<String>, Vec<String>);

fn entry(database: DataSourceUrl, kind: DatabaseKind, done: Result<Migrations, Error>) -> DatabaseMigrations {
    match done {
        Ok((applied, pending, changed)) => {
            DatabaseMigrations { database, kind, applied, pending, changed, error: None, remedy: None }
        }
        Err(error) => DatabaseMigrations {
            database,
            kind,
            applied: Vec::new(),
            pending: Vec::new(),
            changed: Vec::new(),
            error: Some(with_causes(&error)),
            remedy: error.remedy(),
        },
    }
}

async fn connect(pool: &Pool, login: Option<&Login>) -> Result<DatabaseConnection, Error> {
    let database = pool.url().clone();
    pool.migration_connection(login).await.map_err(|source| Error::Database { database, source })
}

/// Two runners on one database take turns. The lock is the session's, and the migration connection is closed after the run.
/// It is per database, so that runs on other databases of the server are not held up.
async fn lock(connection: &DatabaseConnection) -> Result<(), Failure> {
    if connection.get_database_backend() == sea_orm::DbBackend::Postgres {
        connection
            .execute_unprepared("SELECT pg_advisory_lock(hashtextextended('tenantry.migrate', 0))")
            .await
            .map_err(Failure::Migration)?;
    }
    Ok(())
}

/// Tenantry's tables, and the application's own on top of them.
async fn run_app_db<A: MigratorTrait>(
    connection: &DatabaseConnection,
    direction: Direction,
) -> Result<Migrations, Failure> {
    if A::migrations().is_empty() {
        return run::<AppDbMigrator>(connection, direction).await;
    }
    let (ours, own) = match direction {
        Direction::Up | Direction::Status => {
            let ours = run::<AppDbMigrator>(connection, direction).await?;
            (ours, run::<A>(connection, direction).await?)
        }
        Direction::Down(steps) => {
            let own = run::<A>(connection, direction).await?;
            let taken_back = u32::try_from(own.2.len()).unwrap_or(u32::MAX);
            let rest = match steps.saturating_sub(taken_back) {
                0 => Direction::Status,
                rest => Direction::Down(rest),
            };
            (run::<AppDbMigrator>(connection, rest).await?, own)
        }
    };
    let both = |ours: Vec<String>, own: Vec<String>| ours.into_iter().chain(own).collect();
    Ok((both(ours.0, own.0), both(ours.1, own.1), both(ours.2, own.2)))
}

/// What an application has that has no table of its own in the application database.
struct NoTables;

impl MigratorTrait for NoTables {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        Vec::new()
    }
}

async fn run<M: MigratorTrait>(connection: &DatabaseConnection, direction: Direction) -> Result<Migrations, Failure> {
    let (before, _) = status::<M>(connection).await?;
    match direction {
        Direction::Up => M::up(connection, None).await,
        Direction::Down(steps) => M::down(connection, Some(steps)).await,
        Direction::Status => Ok(()),
    }
    .map_err(Failure::Migration)?;
    let (applied, pending) = status::<M>(connection).await?;
    let changed = before
        .iter()
        .filter(|name| !applied.contains(name))
        .chain(applied.iter().filter(|name| !before.contains(name)))
        .cloned()
        .collect();
    Ok((applied, pending, changed))
}

/// What is applied and what is pending. Asked for without creating the history, so that a status changes nothing.
async fn status<M: MigratorTrait>(connection: &DatabaseConnection) -> Result<(Vec<String>, Vec<String>), Failure> {
    let all = M::get_migration_with_status_read_only(connection).await.map_err(Failure::Migration)?;
    let (applied, pending): (Vec<_>, Vec<_>) =
        all.iter().partition(|migration| migration.status() == MigrationStatus::Applied);
    let names = |migrations: Vec<&Migration>| migrations.iter().map(|one| one.name().to_owned()).collect();
    Ok((names(applied), names(pending)))
}

/// A migrator's failure before the database's name is put to it.
enum Failure {
    Migration(DbErr),
    Other(Error),
}

impl Failure {
    fn into_error(self, database: &DataSourceUrl) -> Error {
        match self {
            Self::Migration(source) => Error::Migration { database: database.clone(), source },
            Self::Other(error) => error,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// Whether a URL's engine has roles to migrate for.
pub(crate) fn has_roles(url: &DataSourceUrl) -> bool {
    url.engine() == Engine::Postgres
}
