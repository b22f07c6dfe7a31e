//! The migrator of tenant data databases.
//!
//! Two migrations: the foundation, which every tenant data database has, and the 13 business tables. An application with
//! tables of its own lists [`TenantDataMigrator::foundation`] and then its migrations, which use [`crate::TenantTable`].
//!
//! The settings of a data source (restricted role, tenant column and its type) are given to the first run by
//! [`prepare_tenant_data`] and stored: on PostgreSQL in `tenantry.installation`, on SQLite in `tenantry_installation`.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseConnectionType, DbErr, DynIden, Statement,
};
use sea_orm_migration::sea_query::{Alias, IntoIden};
use sea_orm_migration::{IntoSchemaManagerConnection, MigrationTrait, MigratorTrait, SchemaManager};

use crate::Error;
use crate::dialect::{Engine, checked_identifier};
use crate::migrator::{self, Direction};

mod business;
mod foundation;
mod installation;
mod roles;
mod tables_migration;

pub(crate) use installation::Installation;
use installation::TenantType;

/// Creates the foundation (installation, fence, `write_log`, `routing_probe`) and the 13 business tables. Its history is in
/// `tenantry_tenant_data_migrations`. Run [`prepare_tenant_data`] on the same one-connection pool before the first `up`.
#[derive(Debug, Clone, Copy)]
pub struct TenantDataMigrator;

impl TenantDataMigrator {
    /// The migrations that an application's own tables stand on, without the 13 business tables.
    pub fn foundation() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(foundation::Foundation)]
    }
}

#[async_trait]
impl MigratorTrait for TenantDataMigrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut migrations = Self::foundation();
        migrations.push(Box::new(tables_migration::BusinessTables));
        migrations
    }

    fn migration_table_name() -> DynIden {
        Alias::new("tenantry_tenant_data_migrations").into_iden()
    }

    async fn install<C: ConnectionTrait>(db: &C) -> Result<(), DbErr> {
        migrator::install::<Self>(db).await
    }

    async fn up<'c, C: IntoSchemaManagerConnection<'c>>(db: C, steps: Option<u32>) -> Result<(), DbErr> {
        migrator::run::<Self>(&SchemaManager::new(db.into_database_executor()), Direction::Up, steps).await
    }

    async fn down<'c, C: IntoSchemaManagerConnection<'c>>(db: C, steps: Option<u32>) -> Result<(), DbErr> {
        migrator::run::<Self>(&SchemaManager::new(db.into_database_executor()), Direction::Down, steps).await
    }

    async fn reset<'c, C: IntoSchemaManagerConnection<'c>>(db: C) -> Result<(), DbErr> {
        let manager = SchemaManager::new(db.into_database_executor());
        migrator::run::<Self>(&manager, Direction::Down, None).await?;
        migrator::uninstall::<Self>(manager.get_connection()).await
    }

    async fn refresh<'c, C: IntoSchemaManagerConnection<'c>>(db: C) -> Result<(), DbErr> {
        let manager = SchemaManager::new(db.into_database_executor());
        migrator::run::<Self>(&manager, Direction::Down, None).await?;
        migrator::run::<Self>(&manager, Direction::Up, None).await
    }

    async fn fresh<'c, C: IntoSchemaManagerConnection<'c>>(_db: C) -> Result<(), DbErr> {
        migrator::refuse_fresh()
    }
}

/// What a data source is installed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantDataSettings {
    /// PostgreSQL: the role that row-level security holds back. It must exist. Not used on SQLite. Empty where the data source
    /// is installed already: what was stored is used.
    pub restricted_role: String,
    /// The tenant column's name.
    pub tenant_column: String,
    /// The tenant column's type: `uuid`, `bigint` or `text`.
    pub tenant_type: String,
}

impl Default for TenantDataSettings {
    fn default() -> Self {
        Self { restricted_role: String::new(), tenant_column: "tenant_id".to_owned(), tenant_type: "uuid".to_owned() }
    }
}

/// Checks the settings and hands them to the migrator as settings of this connection's session.
///
/// # Errors
/// [`Error::SeveralConnections`] for a larger pool, [`Error::RestrictedRole`] with the SQL to run when the role is missing or
/// too strong, [`Error::OtherInstallation`] when the data source was installed with other settings; all as `DbErr::Migration`.
pub async fn prepare_tenant_data(connection: &DatabaseConnection, settings: &TenantDataSettings) -> Result<(), DbErr> {
    Ok(prepare(connection, settings).await?)
}

async fn prepare(connection: &DatabaseConnection, settings: &TenantDataSettings) -> Result<(), Error> {
    require_one_connection(connection)?;
    checked_identifier(&settings.tenant_column)?;
    let tenant_type = TenantType::parse(&settings.tenant_type)?;
    let mut restricted_role = settings.restricted_role.clone();
    if let Some(installed) = Installation::find(connection).await? {
        installed.must_be("tenant_column", &installed.tenant_column, &settings.tenant_column)?;
        installed.must_be("tenant_type", installed.tenant_type.name(), tenant_type.name())?;
        if restricted_role.is_empty() {
            restricted_role.clone_from(&installed.restricted_role);
        } else if Engine::of(connection)? == Engine::Postgres {
            installed.must_be("restricted_role", &installed.restricted_role, &restricted_role)?;
        }
    }
    if Engine::of(connection)? == Engine::Postgres {
        roles::check_restricted(connection, &restricted_role).await?;
    }
    installation::remember_for_session(connection, &restricted_role, &settings.tenant_column, tenant_type).await
}

fn require_one_connection(connection: &DatabaseConnection) -> Result<(), Error> {
    let max_connections = match connection.inner {
        DatabaseConnectionType::SqlxPostgresPoolConnection(_) => {
            connection.get_postgres_connection_pool().options().get_max_connections()
        }
        DatabaseConnectionType::SqlxSqlitePoolConnection(_) => {
            connection.get_sqlite_connection_pool().options().get_max_connections()
        }
        _ => 1,
    };
    if max_connections == 1 { Ok(()) } else { Err(Error::SeveralConnections { max_connections }) }
}

/// The one text that a query answers with.
async fn query_text(connection: &impl ConnectionTrait, sql: &str, doing: &str) -> Result<Option<String>, Error> {
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    let row = connection.query_one_raw(statement).await.map_err(Error::doing(doing))?;
    row.map_or(Ok(None), |row| row.try_get_by_index(0)).map_err(Error::doing(doing))
}
