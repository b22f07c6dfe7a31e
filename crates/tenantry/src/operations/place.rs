//! A place where a tenant's rows are or shall be, as a transfer needs it: URL, logins in the clear for as long as it runs, the
//! placement as it is stored, and the tenant's id there.

use sea_orm_migration::MigratorTrait;
use tenantry_app_db::{NewPlacement, PlacementRecord, entities::SourceKind};
use tenantry_connection::{DataSourceUrl, Engine, Pool, PoolOptions};
use tenantry_credential::{CredentialColumn, Login};
use tenantry_data_source::RouteError;
use tenantry_realm::TenantKey;
use tenantry_transfer::{Endpoint, SourceRow};
use uuid::Uuid;

use super::{
    create_tenant::{Logins, claim_file, default_data_source, remove_database_file, seal},
    databases::{data_source_options, operation_options, operation_pool},
    migrate::{prepare_data_source, tenant_data_settings},
    transfers::TransferTarget,
};
use crate::{Error, Tenantry};

/// See the module's documentation.
#[derive(Clone)]
pub(super) struct Place {
    /// Where it is. Of the single database, that of the application database.
    pub(super) url: DataSourceUrl,
    pub(super) placement: NewPlacement,
    pub(super) key: TenantKey,
    restricted: Option<Login>,
    service: Option<Login>,
}

impl Place {
    /// Where the tenant is now.
    pub(super) fn current(tenantry: &Tenantry, record: &PlacementRecord) -> Result<Self, Error> {
        let url = record.url.as_deref().map(DataSourceUrl::parse).transpose()?;
        let placement = NewPlacement {
            anon_key: record.anon_key.clone().filter(|_| url.is_some()),
            service_key: record.service_key.clone().filter(|_| url.is_some()),
            region: record.region.clone(),
            tenant_id_in_data_source: record.tenant_id_in_data_source.clone(),
            notes: None,
            url,
        };
        Self::stored(tenantry, record.tenant, placement)
    }

    /// The single database that the application database was.
    pub(super) fn single(tenantry: &Tenantry, tenant: Uuid) -> Result<Self, Error> {
        Self::stored(tenantry, tenant, NewPlacement::default())
    }

    /// A placement as the application database holds it, its logins sealed.
    pub(super) fn stored(tenantry: &Tenantry, tenant: Uuid, placement: NewPlacement) -> Result<Self, Error> {
        let settings = tenantry.settings();
        let Some(url) = placement.url.clone() else {
            let application = &settings.application_database;
            return Ok(Self {
                url: application.url.clone(),
                placement,
                key: TenantKey::Uuid(tenant),
                restricted: None,
                service: application.login.clone(),
            });
        };
        let open = |column, sealed: &Option<String>| -> Result<Option<Login>, Error> {
            let Some(sealed) = sealed else { return Ok(None) };
            let keyring = settings.keyring.as_ref().ok_or(Error::NoKeyring)?;
            let opened = keyring.open(tenant, column, sealed);
            Ok(Some(opened.map_err(|source| RouteError::Credential { tenant, column, source })?))
        };
        Ok(Self {
            key: key(tenantry, tenant, placement.tenant_id_in_data_source.as_deref())?,
            restricted: open(CredentialColumn::Anon, &placement.anon_key)?,
            service: open(CredentialColumn::Service, &placement.service_key)?,
            url,
            placement,
        })
    }

    /// Where the tenant shall go: the data source that was named, or the default one.
    pub(super) fn wanted(
        tenantry: &Tenantry,
        record: &PlacementRecord,
        target: &TransferTarget,
    ) -> Result<Self, Error> {
        let tenant = record.tenant;
        let (url, logins, region) = match &target.data_source {
            Some((url, logins)) => (url.clone(), logins.clone(), None),
            None => default_data_source(tenantry, tenant)?,
        };
        if url.engine() == Engine::Postgres && logins.is_none() {
            return Err(Error::NoLogins(url));
        }
        let logins = logins.filter(|_| url.engine() == Engine::Postgres);
        let (anon_key, service_key) = seal(tenantry, tenant, logins.as_ref())?;
        let mapped = target.tenant_id.clone().or_else(|| record.tenant_id_in_data_source.clone());
        let placement = NewPlacement {
            url: Some(url.clone()),
            anon_key,
            service_key,
            region,
            tenant_id_in_data_source: mapped,
            notes: None,
        };
        let (restricted, service) =
            logins.map_or((None, None), |Logins { restricted, service }| (Some(restricted), Some(service)));
        let key = key(tenantry, tenant, placement.tenant_id_in_data_source.as_deref())?;
        Ok(Self { url, placement, key, restricted, service })
    }

    /// Connections for a transfer of so many tables at a time, with the service login.
    pub(super) async fn pool(&self, tenantry: &Tenantry, parallel: usize) -> Result<Pool, Error> {
        let options = match self.placement.url {
            None => operation_options(tenantry, false),
            Some(_) => data_source_options(tenantry, &self.url, false).await?,
        };
        // A copy leaves half of a pool to others, and this one has no others.
        let max_connections = u32::try_from(parallel.saturating_mul(2)).unwrap_or(u32::MAX);
        let options = PoolOptions { max_connections: options.max_connections.max(max_connections), ..options };
        let pool = Pool::new(&self.url, self.service.as_ref(), &options);
        pool.map_err(|source| Error::Database { database: self.url.clone(), source })
    }

    /// The end of a transfer that it is, over a pool of its own or over a stand-in's.
    pub(super) fn endpoint(&self, tenantry: &Tenantry, pool: &Pool) -> Endpoint {
        Endpoint::new(pool.clone(), self.key.clone()).with_tenant_column(tenantry.settings().tenant_column.clone())
    }

    /// Brings the schema there up to date; an SQLite file that is missing is made first.
    pub(super) async fn prepare<M: MigratorTrait>(&self, tenantry: &Tenantry, asked: bool) -> Result<(), Error> {
        let missing = self.url.sqlite_path().filter(|path| !path.exists());
        if missing.is_none() && !asked {
            return Ok(());
        }
        if missing.is_some() {
            claim_file(&self.url)?;
        }
        let pool = self.pool(tenantry, 1).await?;
        let settings = tenant_data_settings(tenantry, self.restricted.as_ref());
        let prepared = prepare_data_source::<M>(&pool, self.service.as_ref(), &settings).await;
        pool.close().await;
        if let (Err(_), Some(path)) = (&prepared, missing) {
            remove_database_file(path);
        }
        prepared.map(drop)
    }

    /// What the data source's row shall say, where it has to be written before the first tenant is placed there: so that a second
    /// one can be refused where it serves one.
    pub(super) async fn row(&self, tenantry: &Tenantry, kind: Option<SourceKind>) -> Result<Option<SourceRow>, Error> {
        let before = tenantry.app_db().data_source(&self.url).await?.map(|row| row.kind);
        let by_engine = match self.url.engine() {
            Engine::Sqlite => SourceKind::Dedicated,
            Engine::Postgres => SourceKind::Shared,
        };
        let kind = kind.or(before).unwrap_or(by_engine);
        Ok((before != Some(kind)).then_some(SourceRow { kind, before }))
    }
}

fn key(tenantry: &Tenantry, tenant: Uuid, mapped: Option<&str>) -> Result<TenantKey, Error> {
    Ok(match mapped {
        Some(mapped) => TenantKey::parse(tenantry.settings().tenant_key_type, mapped)?,
        None => TenantKey::Uuid(tenant),
    })
}

/// An empty file in a folder of its own, gone with this value: what a plan is made against while the file that it is about is
/// not there yet.
pub(super) struct StandIn {
    pub(super) url: DataSourceUrl,
    folder: std::path::PathBuf,
}

impl StandIn {
    /// The file with the application's tables in it.
    pub(super) async fn prepare<M: MigratorTrait>(&self, tenantry: &Tenantry) -> Result<Pool, Error> {
        let pool = operation_pool(tenantry, &self.url, None, true)?;
        prepare_data_source::<M>(&pool, None, &tenant_data_settings(tenantry, None)).await?;
        Ok(pool)
    }

    pub(super) fn make() -> Result<Self, Error> {
        let folder = std::env::temp_dir().join(format!("tenantry-plan-{}", Uuid::new_v4()));
        let url = DataSourceUrl::parse(&format!("sqlite:{}", folder.join("stand-in.db").display()))?;
        claim_file(&url)?;
        Ok(Self { url, folder })
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
