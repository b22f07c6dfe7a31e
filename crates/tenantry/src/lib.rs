//! Tenantry routes every tenant of a SaaS application to the database that holds its rows, proves that no tenant can reach
//! another's, and moves a tenant between databases without losing a row.
//!
//! This is what an application depends on: settings, a builder, and the parts under one roof.
//!
//! ```no_run
//! use tenantry::{Tenantry, settings::Settings};
//!
//! # async fn example(tenant_id: uuid::Uuid) -> Result<(), Box<dyn std::error::Error>> {
//! let tenantry = Tenantry::connect(Settings::load()?)?;
//! let db = tenantry.tenant(tenant_id).await?; // restricted: row-level security applies
//! # Ok(())
//! # }
//! ```
//!
//! The facade holds no rule of its own: routing is `tenantry-data-source`, statements are `tenantry-repository`, and so on.
//! [`operations`] is the logic of the operators' commands.

mod error;
pub mod operations;
pub mod prelude;
pub mod settings;

use std::sync::Arc;

use sea_orm_migration::MigratorTrait;
use tenantry_app_db::{AppDb, entities::tenants};
use tenantry_connection::{Actor, Pool, PoolOptions};
use tenantry_data_source::{DataSourceManager, ManagerOptions, RouteError, TenantColumn, TenantDb};
use tenantry_realm::AppEntity;
use uuid::Uuid;

pub use error::Error;
pub use tenantry_app_db as app_db;
pub use tenantry_connection as connection;
pub use tenantry_credential as credential;
pub use tenantry_data_source as data_source;
pub use tenantry_entities as entities;
pub use tenantry_migrations as migrations;
pub use tenantry_realm::{self as realm, app_entity, tenant_entity};
pub use tenantry_repository as repository;
pub use tenantry_transfer as transfer;

use settings::Settings;

/// Everything of Tenantry under one roof; cheap to clone.
#[derive(Clone)]
pub struct Tenantry {
    parts: Arc<Parts>,
}

struct Parts {
    settings: Settings,
    app_db: AppDb,
    app_db_pool: Pool,
    manager: DataSourceManager,
}

/// Puts [`Tenantry`] together where an application has more to say than its settings.
#[must_use]
#[derive(Debug)]
pub struct TenantryBuilder {
    settings: Settings,
    admissions: Vec<fn(AppDb) -> AppDb>,
}

impl TenantryBuilder {
    /// Admits a table of the application's own to the application database, beside tenants, users, audit log and data
    /// sources. Its entity is declared with [`app_entity!`].
    pub fn admit<E: AppEntity>(mut self) -> Self {
        self.admissions.push(AppDb::admit::<E>);
        self
    }

    /// Puts the parts together. Connects nothing; must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::ApplicationDatabase`] when the settings give no usable way to the application database.
    pub fn build(self) -> Result<Tenantry, Error> {
        let Self { settings, admissions } = self;
        let application = &settings.application_database;
        let options = PoolOptions { create_if_missing: false, ..pool_options(&settings) };
        let app_db_pool = Pool::new(&application.url, application.login.as_ref(), &options)
            .map_err(|source| Error::ApplicationDatabase { source })?;
        let app_db = admissions.into_iter().fold(AppDb::new(app_db_pool.clone()), |app_db, admit| admit(app_db));
        let manager = DataSourceManager::new(
            app_db.clone(),
            app_db_pool.clone(),
            settings.keyring.clone(),
            ManagerOptions {
                placement_ttl: settings.placement_cache,
                placement_poll: settings.placement_poll,
                fenced_write_patience: settings.fenced_write_patience,
                pool_idle: settings.pool_cache,
                pool: options,
                tenant_column: TenantColumn {
                    name: settings.tenant_column.clone(),
                    key_type: settings.tenant_key_type,
                },
                fallback_to_application_database: settings.fallback_to_application_database,
                isolation_exceptions: settings.isolation_exceptions.clone(),
            },
        );
        Ok(Tenantry { parts: Arc::new(Parts { settings, app_db, app_db_pool, manager }) })
    }
}

impl Tenantry {
    /// A builder over the given settings.
    pub fn builder(settings: Settings) -> TenantryBuilder {
        TenantryBuilder { settings, admissions: Vec::new() }
    }

    /// Puts the parts together from the settings alone. Connects nothing; must be called within a Tokio runtime.
    ///
    /// # Errors
    /// As [`TenantryBuilder::build`].
    pub fn connect(settings: Settings) -> Result<Self, Error> {
        Self::builder(settings).build()
    }

    /// Migrates the application database and every data source with the application's own tenant data migrator `M`, for a
    /// program that does so when it starts. [`operations::migrate`] tells more, and goes back.
    ///
    /// # Errors
    /// [`Error::NotMigrated`] with the first database that failed; the others were migrated all the same.
    pub async fn migrate<M: MigratorTrait>(&self) -> Result<(), Error> {
        let everything = operations::MigrateScope { app_db: true, data_sources: true };
        operations::migrate::<M>(self, everything, operations::Direction::Up).await?.into_complete().map(drop)
    }

    /// Creates a tenant in one step that leaves nothing half-made: see [`operations::create_tenant`], which also takes who
    /// acts.
    ///
    /// # Errors
    /// Every [`Error`] leaves no tenant.
    pub async fn create_tenant<M: MigratorTrait>(
        &self,
        request: operations::NewTenantRequest,
    ) -> Result<tenants::Model, Error> {
        operations::create_tenant::<M>(self, request, &Actor::default()).await
    }

    /// A restricted handle on the tenant's rows: what a request gets.
    ///
    /// # Errors
    /// [`RouteError`], always closed: an unknown, suspended or unplaced tenant gets no handle.
    pub async fn tenant(&self, tenant: Uuid) -> Result<TenantDb, RouteError> {
        self.parts.manager.tenant(tenant).await
    }

    /// A handle of the service role, recorded in the audit log with its reason.
    ///
    /// # Errors
    /// [`RouteError`].
    pub async fn tenant_as_service(&self, tenant: Uuid, actor: &Actor, reason: &str) -> Result<TenantDb, RouteError> {
        self.parts.manager.tenant_as_service(tenant, actor, reason).await
    }

    /// The application database.
    pub fn app_db(&self) -> &AppDb {
        &self.parts.app_db
    }

    /// Routing, connection tests and caches.
    pub fn manager(&self) -> &DataSourceManager {
        &self.parts.manager
    }

    /// The settings this was made from.
    pub fn settings(&self) -> &Settings {
        &self.parts.settings
    }

    /// Closes every connection, waiting for the transactions under way.
    pub async fn close(&self) {
        self.parts.manager.close().await;
        self.parts.app_db_pool.close().await;
    }

    pub(crate) fn app_db_pool(&self) -> &Pool {
        &self.parts.app_db_pool
    }

    pub(crate) fn pool_options(&self) -> PoolOptions {
        pool_options(&self.parts.settings)
    }
}

impl std::fmt::Debug for Tenantry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tenantry").field("application_database", self.parts.app_db_pool.url()).finish_non_exhaustive()
    }
}

fn pool_options(settings: &Settings) -> PoolOptions {
    PoolOptions {
        max_connections: settings.max_connections,
        acquire_timeout: settings.acquire_timeout,
        idle_timeout: settings.idle_timeout,
        ..PoolOptions::default()
    }
}
