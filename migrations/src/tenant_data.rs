//! The migrator of tenant data databases.
//!
//! It runs the foundation, which every tenant data database has, and then the migrations of a [`TenantSchema`]: the 13
//! reference tables ([`ReferenceSchema`]), or an application's own, which are made of [`crate::TenantTable`]s.
//!
//! The settings of a data source (restricted role, tenant column and its type) are given to the first run by
//! [`prepare_tenant_data`] and stored: on PostgreSQL in `tenantry.installation`, on SQLite in `tenantry_installation`.

use std::marker::PhantomData;

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
mod create_tables;
mod foundation;
mod installation;
mod roles;

pub use create_tables::create_tables;
pub(crate) use installation::Installation;
use installation::TenantType;

/// The tables of an application in its data sources. [`Migrator`] makes a migrator of it.
///
/// ```
/// use tenantry_migrations::{Migrator, TenantSchema, TenantTable, create_tables};
/// use sea_orm_migration::{MigrationTrait, schema::text};
///
/// struct Bookings;
///
/// impl TenantSchema for Bookings {
///     fn migrations() -> Vec<Box<dyn MigrationTrait>> {
///         vec![create_tables("m20260101_000001_rooms", || [TenantTable::new("rooms").column(text("name"))])]
///     }
/// }
///
/// type BookingsMigrator = Migrator<Bookings>;
/// ```
pub trait TenantSchema: Send + Sync + 'static {
    /// In the order in which they are applied, without the foundation. Each has a name of its own that never changes, and what
    /// was released stays as it is: a later change is a later migration.
    fn migrations() -> Vec<Box<dyn MigrationTrait>>;
}

/// Creates the foundation (installation, fence, `write_log`, `routing_probe`) and the tables of the schema `S`, under a lock and
/// in one transaction. Its history is in `tenantry_tenant_data_migrations`. Run [`prepare_tenant_data`] on the same
/// one-connection pool before the first `up`.
pub struct Migrator<S>(PhantomData<fn() -> S>);

/// The migrator of the 13 reference tables.
pub type TenantDataMigrator = Migrator<ReferenceSchema>;

/// The 13 reference tables of a CRM.
#[derive(Debug, Clone, Copy)]
pub struct ReferenceSchema;

impl TenantSchema for ReferenceSchema {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![create_tables("m20261121_000002_business_tables", business::tables)]
    }
}

/// The foundation alone: for tables that something else creates.
impl TenantSchema for () {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        Vec::new()
    }
}

#[async_trait]
impl<S: TenantSchema> MigratorTrait for Migrator<S> {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut migrations: Vec<Box<dyn MigrationTrait>> = vec![Box::new(foundation::Foundation)];
        migrations.extend(S::migrations());
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
        #[cfg(feature = "postgres")]
        DatabaseConnectionType::SqlxPostgresPoolConnection(_) => {
            connection.get_postgres_connection_pool().options().get_max_connections()
        }
        #[cfg(feature = "sqlite")]
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
