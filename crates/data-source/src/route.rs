//! From a tenant's id to where its rows are: what the application database says, checked and parsed once.

use tenantry_app_db::{
    AppDb, PlacementRecord,
    entities::{Hidden, data_sources::SourceKind, tenants::TenantStatus},
};
use tenantry_connection::{DataSourceUrl, UrlError};
use tenantry_credential::{CredentialColumn, OpenError};
use tenantry_realm::{InvalidTenantKey, TenantKey, TenantKeyType};
use uuid::Uuid;

use crate::ConnectionRules;

/// Why a tenant cannot be routed. Every one of these is closed: there is no default store to fall back to in silence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// No tenant has this id. Check the id; a tenant just created is found at once, since absence is never cached.
    #[error("no tenant has the id {0}")]
    UnknownTenant(Uuid),
    /// The tenant is suspended or cancelled: only service access is given.
    #[error("tenant {tenant} is {status}; only service access is possible")]
    Inactive {
        /// The tenant.
        tenant: Uuid,
        /// `suspended` or `cancelled`.
        status: &'static str,
    },
    /// The tenant has no data source, and falling back to the application database is off.
    #[error("tenant {0} has no data source; set one, or turn on fallback_to_application_database while migrating")]
    NoDataSource(Uuid),
    /// The tenant's data source URL is not usable.
    #[error("the data source URL of tenant {tenant} is not usable; correct data_source_url")]
    Url {
        /// The tenant.
        tenant: Uuid,
        /// What is wrong with it.
        #[source]
        source: UrlError,
    },
    /// The way past the pooler of the tenant's data source is not usable.
    #[error("the direct_url of the data source of tenant {tenant} is not usable; correct it, or set it to null")]
    DirectUrl {
        /// The tenant.
        tenant: Uuid,
        /// What is wrong with it.
        #[source]
        source: UrlError,
    },
    /// The tenant's id in the data source does not fit the tenant column.
    #[error("tenant {tenant} cannot be mapped into its data source; correct tenant_id_in_data_source")]
    Mapping {
        /// The tenant.
        tenant: Uuid,
        /// What is wrong with it.
        #[source]
        source: InvalidTenantKey,
    },
    /// A sealed credential is missing.
    #[error("tenant {tenant} has no {}; seal a login for it", column.as_str())]
    NoCredential {
        /// The tenant.
        tenant: Uuid,
        /// Which credential.
        column: CredentialColumn,
    },
    /// There are sealed credentials and no key to open them.
    #[error("tenant {tenant} has sealed credentials and no encryption key is configured; set ENCRYPTION_KEY")]
    NoKeyring {
        /// The tenant.
        tenant: Uuid,
    },
    /// A sealed credential does not open.
    #[error("the {} of tenant {tenant} does not open", column.as_str())]
    Credential {
        /// The tenant.
        tenant: Uuid,
        /// Which credential.
        column: CredentialColumn,
        /// Why not.
        #[source]
        source: OpenError,
    },
    /// The application database could not be asked.
    #[error("the application database could not be asked for tenant {tenant}")]
    Lookup {
        /// The tenant.
        tenant: Uuid,
        /// Why not.
        #[source]
        source: std::sync::Arc<tenantry_app_db::Error>,
    },
    /// Service access could not be recorded in the audit log, so it is not given.
    #[error("service access to tenant {tenant} could not be recorded in the audit log")]
    Audit {
        /// The tenant.
        tenant: Uuid,
        /// Why not.
        #[source]
        source: tenantry_app_db::Error,
    },
    /// A pool for the data source could not be made.
    #[error("no pool for the data source of tenant {tenant}")]
    Pool {
        /// The tenant.
        tenant: Uuid,
        /// Why not.
        #[source]
        source: std::sync::Arc<tenantry_connection::Error>,
    },
    /// The failure of a look-up that several callers shared.
    #[error(transparent)]
    Shared(std::sync::Arc<RouteError>),
}

impl RouteError {
    /// Whether the same look-up may succeed when it is made again.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Lookup { source, .. } => source.is_retryable(),
            Self::Audit { source, .. } => source.is_retryable(),
            Self::Pool { source, .. } => source.is_retryable(),
            Self::Shared(error) => error.is_retryable(),
            Self::UnknownTenant(_)
            | Self::Inactive { .. }
            | Self::NoDataSource(_)
            | Self::Url { .. }
            | Self::DirectUrl { .. }
            | Self::Mapping { .. }
            | Self::NoCredential { .. }
            | Self::NoKeyring { .. }
            | Self::Credential { .. } => false,
        }
    }
}

/// A tenant's placement as routing needs it. Credentials stay sealed in it.
#[derive(Debug, Clone)]
pub struct Route {
    /// The tenant.
    pub tenant: Uuid,
    /// Its status.
    pub status: TenantStatus,
    /// The placement epoch that this route was read at.
    pub epoch: i64,
    /// Its id in the data source.
    pub key: TenantKey,
    /// Where its rows are.
    pub destination: Destination,
}

/// Where a tenant's rows are.
#[derive(Debug, Clone)]
pub enum Destination {
    /// In a data source.
    DataSource(Placed),
    /// Still in the application database.
    ApplicationDatabase,
}

/// A data source and how this tenant reaches it.
#[derive(Debug, Clone)]
pub struct Placed {
    /// Where it is.
    pub url: DataSourceUrl,
    /// Whom it serves.
    pub kind: SourceKind,
    /// Where in the world it is, as an administrator noted it.
    pub region: Option<String>,
    /// What its row says of connections to it.
    pub connections: ConnectionRules,
    /// The least connections that the tenant is to find open.
    pub pool_min: u32,
    /// The most connections that the tenant may hold at a time.
    pub pool_max: u32,
    /// The sealed credential of the restricted role. Hidden, because what should be sealed may be a login in plain text.
    pub(crate) anon_key: Option<Hidden>,
    /// The sealed credential of the service role.
    pub(crate) service_key: Option<Hidden>,
}

impl Route {
    /// Reads a tenant's route from the application database.
    pub(crate) async fn load(app_db: &AppDb, tenant: Uuid, key_type: TenantKeyType) -> Result<Self, RouteError> {
        let record = app_db
            .placement(tenant)
            .await
            .map_err(|source| RouteError::Lookup { tenant, source: std::sync::Arc::new(source) })?
            .ok_or(RouteError::UnknownTenant(tenant))?;
        Self::of(record, key_type)
    }

    /// Parses a placement record.
    ///
    /// # Errors
    /// [`RouteError::Url`] and [`RouteError::Mapping`] when the record is not usable.
    pub fn of(record: PlacementRecord, key_type: TenantKeyType) -> Result<Self, RouteError> {
        let tenant = record.tenant;
        // The mapping counts only while the tenant has a data source: in the application database its id is its own.
        let mapped = record.tenant_id_in_data_source.filter(|_| record.url.is_some());
        let key = match (mapped, &record.url, key_type) {
            (Some(text), _, _) => TenantKey::parse(key_type, &text),
            (None, None, _) | (None, _, TenantKeyType::Uuid) => Ok(TenantKey::Uuid(tenant)),
            (None, Some(_), _) => TenantKey::parse(key_type, &tenant.to_string()),
        }
        .map_err(|source| RouteError::Mapping { tenant, source })?;
        let destination = match record.url {
            None => Destination::ApplicationDatabase,
            Some(url) => {
                let url = DataSourceUrl::parse(&url).map_err(|source| RouteError::Url { tenant, source })?;
                Destination::DataSource(Placed {
                    url,
                    kind: record.source.as_ref().map_or(SourceKind::Shared, |source| source.kind),
                    region: record.region,
                    connections: ConnectionRules::of(record.source.as_ref())
                        .map_err(|source| RouteError::DirectUrl { tenant, source })?,
                    pool_min: record.pool_min,
                    pool_max: record.pool_max,
                    anon_key: record.anon_key.map(Hidden::from),
                    service_key: record.service_key.map(Hidden::from),
                })
            }
        };
        Ok(Self { tenant, status: record.status, epoch: record.epoch, key, destination })
    }

    /// The data source, if the tenant has one.
    pub fn placed(&self) -> Option<&Placed> {
        match &self.destination {
            Destination::DataSource(placed) => Some(placed),
            Destination::ApplicationDatabase => None,
        }
    }
}

impl Placed {
    /// Whether a sealed credential is there.
    pub fn has_credential(&self, column: CredentialColumn) -> bool {
        self.sealed(column).is_some()
    }

    pub(crate) fn sealed(&self, column: CredentialColumn) -> Option<&str> {
        match column {
            CredentialColumn::Anon => self.anon_key.as_deref(),
            CredentialColumn::Service => self.service_key.as_deref(),
        }
    }
}
