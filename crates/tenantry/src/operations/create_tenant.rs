//! `create-tenant`: in one step, and the tenant's row last. Until that row is committed nothing can be routed to what was
//! prepared, so that whatever fails before leaves no half-made tenant.

use sea_orm_migration::MigratorTrait;
use tenantry_app_db::{
    NewPlacement, NewTenant,
    entities::{Plan, TenantStatus, tenants},
};
use tenantry_connection::{Actor, DataSourceUrl, Engine};
use tenantry_credential::{CredentialColumn, Login};
use tenantry_realm::TenantKey;
use uuid::Uuid;

use super::{
    databases::data_source_pool,
    isolation::measure,
    migrate::{has_roles, prepare_data_source, tenant_data_settings},
};
use crate::{Error, Tenantry};

/// A tenant to be created.
#[derive(Debug, Clone)]
pub struct NewTenantRequest {
    /// The tenant's name.
    pub name: String,
    /// A DNS label of its own.
    pub subdomain: String,
    /// Its plan.
    pub plan: Plan,
    /// Its id in the data source where that is not its own: needed where the tenant column is a bigint.
    pub tenant_id_in_data_source: Option<String>,
    /// Where its rows go; the default data source where none is given.
    pub data_source: Option<(DataSourceUrl, Option<Logins>)>,
}

impl NewTenantRequest {
    /// A tenant of the first plan, on the default data source, under its own id.
    pub fn new(name: impl Into<String>, subdomain: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            subdomain: subdomain.into(),
            plan: Plan::Starter,
            tenant_id_in_data_source: None,
            data_source: None,
        }
    }

    /// Under this id in its data source: needed where the tenant column is a bigint.
    #[must_use]
    pub fn known_in_data_source_as(mut self, id: impl ToString) -> Self {
        self.tenant_id_in_data_source = Some(id.to_string());
        self
    }
}

/// The two logins of a PostgreSQL data source.
#[derive(Debug, Clone)]
pub struct Logins {
    /// Row-level security applies to it.
    pub restricted: Login,
    /// Owns the schema.
    pub service: Login,
}

/// Creates a tenant: brings its data source's schema up to date with the application's migrator `M`, proves that its logins
/// work and that row-level security holds there, seals them, and only then writes the tenant's row.
///
/// Cancel-safe: dropped midway, it leaves at most an unused SQLite file, which the same call then names.
///
/// # Errors
/// Every [`Error`] leaves no tenant; a file made for it is removed again.
pub async fn create_tenant<M: MigratorTrait>(
    tenantry: &Tenantry,
    request: NewTenantRequest,
    actor: &Actor,
) -> Result<tenants::Model, Error> {
    let id = Uuid::new_v4();
    // A tenant whose id does not fit the tenant column could be created and never be routed.
    let own = id.to_string();
    let mapped = request.tenant_id_in_data_source.as_deref().unwrap_or(&own);
    TenantKey::parse(tenantry.settings().tenant_key_type, mapped)?;
    let (url, logins, region) = match request.data_source {
        Some((url, logins)) => (url, logins, None),
        None => default_data_source(tenantry, id)?,
    };
    let logins = match (url.engine(), logins) {
        (Engine::Postgres, None) => return Err(Error::NoLogins(url)),
        (Engine::Postgres, logins @ Some(_)) => logins,
        (Engine::Sqlite, _) => None,
    };
    let made_file = claim_file(&url)?;
    let created = async {
        check::<M>(tenantry, &url, logins.as_ref()).await?;
        let (anon_key, service_key) = seal(tenantry, id, logins.as_ref())?;
        let new = NewTenant {
            id,
            name: request.name,
            subdomain: request.subdomain,
            plan: request.plan,
            status: TenantStatus::Active,
            placement: NewPlacement {
                url: Some(url.clone()),
                anon_key,
                service_key,
                region,
                tenant_id_in_data_source: request.tenant_id_in_data_source,
                ..NewPlacement::default()
            },
        };
        Ok(tenantry.app_db().create_tenant(&new, actor).await?)
    };
    let created = created.await;
    if created.is_err()
        && let (true, Some(path)) = (made_file, url.sqlite_path())
    {
        remove_database_file(path);
    }
    created
}

/// Seals the two logins for a tenant.
pub(crate) fn seal(
    tenantry: &Tenantry,
    tenant: Uuid,
    logins: Option<&Logins>,
) -> Result<(Option<String>, Option<String>), Error> {
    let Some(logins) = logins else { return Ok((None, None)) };
    let keyring = tenantry.settings().keyring.as_ref().ok_or(Error::NoKeyring)?;
    let seal = |column, login| keyring.seal(tenant, column, login).map_err(|source| Error::Seal { tenant, source });
    Ok((
        Some(seal(CredentialColumn::Anon, &logins.restricted)?),
        Some(seal(CredentialColumn::Service, &logins.service)?),
    ))
}

/// The default data source for a tenant.
pub(crate) fn default_data_source(
    tenantry: &Tenantry,
    tenant: Uuid,
) -> Result<(DataSourceUrl, Option<Logins>, Option<String>), Error> {
    let default = tenantry.settings().default_data_source.as_ref().ok_or(Error::NoDefaultDataSource)?;
    let logins = default
        .logins
        .as_ref()
        .map(|logins| Logins { restricted: logins.restricted.clone(), service: logins.service.clone() });
    Ok((default.url.for_tenant(tenant)?, logins, default.region.clone()))
}

/// Brings the schema up to date and proves that a tenant placed there would be served, and kept apart.
pub(crate) async fn check<M: MigratorTrait>(
    tenantry: &Tenantry,
    url: &DataSourceUrl,
    logins: Option<&Logins>,
) -> Result<(), Error> {
    let service = logins.map(|logins| &logins.service);
    let restricted = logins.map(|logins| &logins.restricted);
    let pool = data_source_pool(tenantry, url, service, true).await?;
    prepare_data_source::<M>(&pool, service, &tenant_data_settings(tenantry, restricted)).await?;
    pool.close().await;
    if !has_roles(url) {
        return Ok(());
    }
    let not_ready = |reason| Error::NotReady { database: url.clone(), reason };
    let restricted = restricted.ok_or_else(|| Error::NoLogins(url.clone()))?;
    let pool = data_source_pool(tenantry, url, Some(restricted), false).await?;
    let measured = measure(&pool, restricted, tenantry.manager().tenant_column()).await;
    pool.close().await;
    let report = measured.map_err(|source| Error::Database { database: url.clone(), source })?;
    match report.findings_except(&tenantry.settings().isolation_exceptions).next() {
        Some(finding) => Err(not_ready(format!("{}: {}; {}", finding.object, finding.problem, finding.remedy))),
        None if report.tables.is_empty() => Err(not_ready("it has no tenant table".to_owned())),
        None => Ok(()),
    }
}

/// Makes the folder and the file of an SQLite source. A file that is there already may hold another tenant's rows.
pub(crate) fn claim_file(url: &DataSourceUrl) -> Result<bool, Error> {
    let Some(path) = url.sqlite_path() else { return Ok(false) };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| unusable(url, &error))?;
    }
    match std::fs::OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(Error::FileExists(url.clone())),
        Err(error) => Err(unusable(url, &error)),
    }
}

fn unusable(url: &DataSourceUrl, error: &std::io::Error) -> Error {
    Error::NotReady { database: url.clone(), reason: format!("its file cannot be made: {error}") }
}

/// SQLite keeps its journal beside the file; a leftover of it would be replayed into the next file of that name.
pub(crate) fn remove_database_file(path: &std::path::Path) {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let _ = std::fs::remove_file(name);
    }
}
