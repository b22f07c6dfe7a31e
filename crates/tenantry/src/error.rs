//! What can go wrong with the facade and its operations.

mod remedy;

use tenantry_connection::{DataSourceUrl, UrlError};
use tenantry_data_source::RouteError;
use uuid::Uuid;

/// A failed operation, one variant for each thing attempted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no usable way to the application database.
    #[error("the application database cannot be used")]
    ApplicationDatabase {
        /// Why not.
        #[source]
        source: tenantry_connection::Error,
    },
    /// The application database could not do what was asked.
    #[error("the application database could not be used")]
    Store(#[from] tenantry_app_db::Error),
    /// A tenant could not be routed.
    #[error("the tenant could not be routed")]
    Route(#[from] RouteError),
    /// A database could not be used.
    #[error("{database} could not be used")]
    Database {
        /// Which one.
        database: DataSourceUrl,
        /// Why not.
        #[source]
        source: tenantry_connection::Error,
    },
    /// A migrator failed. What it had applied before stays applied; mend the cause and run it again.
    #[error("the migrations of {database} failed")]
    Migration {
        /// Which database.
        database: DataSourceUrl,
        /// Why.
        #[source]
        source: sea_orm::DbErr,
    },
    /// Not every migration is applied everywhere. What was applied stays applied; mend the cause and run them again.
    #[error("the schema of {database} is not up to date: {reason}")]
    NotMigrated {
        /// The first database of which this is so.
        database: DataSourceUrl,
        /// The failure with its causes, or what is pending.
        reason: String,
    },
    /// The tenant data migrator refused its settings.
    #[error("the tenant data schema of {database} cannot be prepared")]
    Prepare {
        /// Which database.
        database: DataSourceUrl,
        /// Why not.
        #[source]
        source: sea_orm::DbErr,
    },
    /// No tenant is known by this name.
    #[error("no tenant has the id or subdomain {0:?}; `list-tenants` shows them")]
    UnknownTenant(String),
    /// Nothing says where the tenant's rows should go.
    #[error("no data source was given and none is the default; set DEFAULT_TENANT_DATA_URL or name one")]
    NoDefaultDataSource,
    /// The default URL cannot be used for this tenant.
    #[error("the data source URL is not usable")]
    Url(#[from] UrlError),
    /// The way past the pooler of a data source cannot be used.
    #[error("the direct_url of {url} is not usable; correct it, or set it to null")]
    DirectUrl {
        /// The data source.
        url: DataSourceUrl,
        /// What is wrong with it.
        #[source]
        source: UrlError,
    },
    /// A PostgreSQL data source needs the two logins.
    #[error(
        "{0} needs a restricted and a service login; set DEFAULT_TENANT_DATA_ANON_KEY and DEFAULT_TENANT_DATA_SERVICE_KEY, or name them"
    )]
    NoLogins(DataSourceUrl),
    /// Logins have to be sealed and there is no key.
    #[error("logins have to be sealed and no encryption key is configured; set ENCRYPTION_KEY")]
    NoKeyring,
    /// A login could not be sealed.
    #[error("a login of tenant {tenant} could not be sealed")]
    Seal {
        /// The tenant.
        tenant: Uuid,
        /// Why not.
        #[source]
        source: tenantry_credential::SealError,
    },
    /// A new tenant's route did not work, so that the tenant was not created.
    #[error("the tenant was not created, because its route to {database} does not work: {reason}")]
    NotReady {
        /// Where it would have lived.
        database: DataSourceUrl,
        /// What did not work.
        reason: String,
    },
    /// A new tenant's SQLite file exists already: it may hold another's rows.
    #[error("the tenant was not created: {0} exists already; name another file, or remove it if it is a leftover")]
    FileExists(DataSourceUrl),
    /// The tenant's id in its data source does not fit the tenant column.
    #[error("the tenant cannot be mapped into its data source; correct tenant_id_in_data_source")]
    Mapping(#[from] tenantry_realm::InvalidTenantKey),
    /// No transfer has brought the tenant from the single database to where it is.
    #[error("tenant {0} did not come from the single database to where it is, so there is nothing to roll back")]
    NothingToRollBack(Uuid),
    /// A transfer failed.
    #[error("the transfer of tenant {tenant} failed")]
    Transfer {
        /// The tenant.
        tenant: Uuid,
        /// Why.
        #[source]
        source: Box<tenantry_transfer::Error>,
    },
}
