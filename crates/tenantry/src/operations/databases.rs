//! Which databases there are: the application database and every data source that a tenant or the default settings name.

use std::collections::BTreeMap;

use tenantry_app_db::entities::tenants;
use tenantry_connection::{DataSourceUrl, Engine, Pool, PoolOptions};
use tenantry_credential::{CredentialColumn, Login};
use tenantry_data_source::ConnectionRules;
use uuid::Uuid;

use crate::{Error, Tenantry};

/// A data source that tenants live in.
#[derive(Debug, Clone)]
pub struct DataSourceInUse {
    /// Where it is.
    pub url: DataSourceUrl,
    /// The tenants that live there.
    pub tenants: Vec<Uuid>,
}

/// Every data source that a tenant lives in, each once, in the order of their URLs. A tenant whose URL is not usable is left
/// out; `check-tenant-config` reports it.
///
/// # Errors
/// [`Error::Store`].
pub async fn data_sources_in_use(tenantry: &Tenantry) -> Result<Vec<DataSourceInUse>, Error> {
    let mut sources: BTreeMap<DataSourceUrl, Vec<Uuid>> = BTreeMap::new();
    for tenant in tenantry.app_db().tenants().await? {
        if let Some(Ok(url)) = tenant.data_source_url.as_deref().map(DataSourceUrl::parse) {
            sources.entry(url).or_default().push(tenant.id);
        }
    }
    Ok(sources.into_iter().map(|(url, tenants)| DataSourceInUse { url, tenants }).collect())
}

/// The tenant with this id or subdomain.
///
/// # Errors
/// [`Error::UnknownTenant`], [`Error::Store`].
pub async fn find_tenant(tenantry: &Tenantry, name: &str) -> Result<tenants::Model, Error> {
    let found = match Uuid::parse_str(name) {
        Ok(id) => tenantry.app_db().tenant(id).await?,
        Err(_) => tenantry.app_db().tenant_by_subdomain(name).await?,
    };
    found.ok_or_else(|| Error::UnknownTenant(name.to_owned()))
}

/// The service login of a data source: that of the first tenant there whose credential opens, else the default one where the URL is the default.
pub(crate) async fn service_login(tenantry: &Tenantry, source: &DataSourceInUse) -> Result<Option<Login>, Error> {
    login(tenantry, source, CredentialColumn::Service).await
}

/// The restricted login of a data source, likewise.
pub(crate) async fn restricted_login(tenantry: &Tenantry, source: &DataSourceInUse) -> Result<Option<Login>, Error> {
    login(tenantry, source, CredentialColumn::Anon).await
}

async fn login(
    tenantry: &Tenantry,
    source: &DataSourceInUse,
    column: CredentialColumn,
) -> Result<Option<Login>, Error> {
    // A file has no login, so that no tenant's placement has to be whole for it to be opened.
    if source.url.engine() == Engine::Sqlite {
        return Ok(None);
    }
    // One tenant's damaged credential must not make a source unreachable that its neighbours still open.
    let mut failure = None;
    for tenant in &source.tenants {
        let manager = tenantry.manager();
        let login = match column {
            CredentialColumn::Anon => manager.restricted_login(*tenant).await,
            CredentialColumn::Service => manager.service_login(*tenant).await,
        };
        match login {
            Ok(login) => return Ok(login),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    if let Some(error) = failure {
        return Err(error.into());
    }
    let default = tenantry.settings().default_data_source.as_ref();
    Ok(default.and_then(|default| default.logins.as_ref()).map(|logins| match column {
        CredentialColumn::Anon => logins.restricted.clone(),
        CredentialColumn::Service => logins.service.clone(),
    }))
}

/// A small pool of its own for an operation on a data source, so that an operation never competes with requests for
/// connections. It goes the way that the data source's row states.
pub(crate) async fn data_source_pool(
    tenantry: &Tenantry,
    url: &DataSourceUrl,
    login: Option<&Login>,
    create_if_missing: bool,
) -> Result<Pool, Error> {
    let options = data_source_options(tenantry, url, create_if_missing).await?;
    Pool::new(url, login, &options).map_err(|source| Error::Database { database: url.clone(), source })
}

/// What such a pool is opened with.
pub(super) async fn data_source_options(
    tenantry: &Tenantry,
    url: &DataSourceUrl,
    create_if_missing: bool,
) -> Result<PoolOptions, Error> {
    let row = tenantry.app_db().data_source(url).await?;
    let rules = ConnectionRules::of(row.as_ref()).map_err(|source| Error::DirectUrl { url: url.clone(), source })?;
    let options = operation_options(tenantry, create_if_missing);
    Ok(PoolOptions { pooler: rules.pooler, direct_url: rules.direct_url, ..options })
}

/// The same for the application database, or for a file that is no data source.
pub(crate) fn operation_pool(
    tenantry: &Tenantry,
    url: &DataSourceUrl,
    login: Option<&Login>,
    create_if_missing: bool,
) -> Result<Pool, Error> {
    let options = operation_options(tenantry, create_if_missing);
    Pool::new(url, login, &options).map_err(|source| Error::Database { database: url.clone(), source })
}

pub(super) fn operation_options(tenantry: &Tenantry, create_if_missing: bool) -> PoolOptions {
    PoolOptions { max_connections: 8, create_if_missing, ..tenantry.pool_options() }
}
