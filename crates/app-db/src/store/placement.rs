//! Where a tenant's rows are and how they are reached, and the compare-and-set that changes it.

use std::fmt;

use sea_orm::sea_query::{Expr, Query, UpdateStatement};
use sea_orm::{ColumnTrait, EntityTrait, FromQueryResult, JoinType, QueryFilter, QuerySelect, QueryTrait};
use tenantry_connection::{Actor, DataSourceUrl, Engine};
use uuid::Uuid;

use super::{occupancy, transfers::follow};
use crate::{
    AppDb, Error, PoolLimits,
    app_db::{Guarded, table_of},
    entities::{
        TenantStatus, data_sources,
        tenants::{Column, Entity, Model},
    },
};

/// Where a tenant shall live. Everything but `notes` replaces what was there, and absent means null.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct NewPlacement {
    /// The data source; `None` leaves the tenant without one.
    pub url: Option<DataSourceUrl>,
    /// The restricted role's login, sealed for this tenant and column. PostgreSQL needs both keys, SQLite has none.
    pub anon_key: Option<String>,
    /// The service role's login, sealed for this tenant and column.
    pub service_key: Option<String>,
    /// For example `us-east-1`.
    pub region: Option<String>,
    /// The tenant's id there, where it differs.
    pub tenant_id_in_data_source: Option<String>,
    /// An administrator's notes; `None` leaves those that are there.
    pub notes: Option<String>,
}

/// A tenant's placement as one query read it.
#[derive(Clone, PartialEq)]
pub struct PlacementRecord {
    /// The tenant's id.
    pub tenant: Uuid,
    /// Its subdomain.
    pub subdomain: String,
    /// Its name.
    pub name: String,
    /// Whether it is served.
    pub status: TenantStatus,
    /// The data source; `None` while the tenant has none.
    pub url: Option<String>,
    /// The restricted role's sealed login.
    pub anon_key: Option<String>,
    /// The service role's sealed login.
    pub service_key: Option<String>,
    /// For example `us-east-1`.
    pub region: Option<String>,
    /// The tenant's id in the data source where it differs; counts only while `url` is set.
    pub tenant_id_in_data_source: Option<String>,
    /// The least connections the tenant may use at a time.
    pub pool_min: u32,
    /// The most connections the tenant may use at a time.
    pub pool_max: u32,
    /// Grows with every change of the above: what a change is compared against.
    pub epoch: i64,
    /// The data source's row; `None` when the URL has none and the defaults hold.
    pub source: Option<data_sources::Model>,
}

impl AppDb {
    /// A tenant's placement, in one query; `None` when there is no such tenant.
    ///
    /// # Errors
    /// [`Error::PoolLimits`] when the tenant's `connection_pool_config` is unusable; [`Error::Database`];
    /// [`Error::Decode`].
    pub async fn placement(&self, tenant: Uuid) -> Result<Option<PlacementRecord>, Error> {
        let same_url =
            Entity::belongs_to(data_sources::Entity).from(Column::DataSourceUrl).to(data_sources::Column::Url).into();
        let statement = Entity::find()
            .join(JoinType::LeftJoin, same_url)
            .select_also(data_sources::Entity)
            .filter(Column::Id.eq(tenant))
            .into_query();
        let mut read = self.read("read a placement").await?;
        let row = read.row(table_of::<Entity>(), &statement).await?;
        read.commit().await?;
        let Some(row) = row else { return Ok(None) };
        let decode = |table| move |source| Error::Decode { table, source };
        let model = Model::from_query_result(&row, "A_").map_err(decode(table_of::<Entity>()))?;
        let source = data_sources::Model::from_query_result_optional(&row, "B_")
            .map_err(decode(table_of::<data_sources::Entity>()))?;
        PlacementRecord::new(model, source).map(Some)
    }

    /// Changes where a tenant lives, if its placement is still the one of `expected_epoch`. Returns the epoch afterwards;
    /// it is the expected one when the placement was this one already.
    ///
    /// # Errors
    /// [`Error::Moved`] when the epoch is another: read the placement again and decide anew. [`Error::DedicatedTaken`],
    /// [`Error::KeyTaken`], [`Error::InvalidPlacement`], [`Error::UnknownTenant`], [`Error::Database`]. Nothing has
    /// changed after an error, but that a connection lost during the commit leaves it open: read the placement.
    pub async fn place(
        &self,
        tenant: Uuid,
        expected_epoch: i64,
        placement: &NewPlacement,
        actor: &Actor,
    ) -> Result<i64, Error> {
        placement.check(tenant)?;
        let mut write = self.write(actor, "place a tenant").await?;
        let epoch = placement.set(&mut write, tenant, expected_epoch).await?;
        write.commit().await?;
        Ok(epoch)
    }

    /// Replaces a tenant's sealed logins, if its placement is still the one of `expected_epoch`; `None` leaves a login as
    /// it is. Returns the epoch afterwards.
    ///
    /// # Errors
    /// [`Error::Moved`], [`Error::UnknownTenant`], [`Error::InvalidPlacement`], [`Error::Database`]; as
    /// [`AppDb::place`].
    pub async fn replace_credentials(
        &self,
        tenant: Uuid,
        expected_epoch: i64,
        anon: Option<String>,
        service: Option<String>,
        actor: &Actor,
    ) -> Result<i64, Error> {
        let mut write = self.write(actor, "replace a tenant's credentials").await?;
        let epoch = set_credentials(&mut write, tenant, expected_epoch, anon, service).await?;
        write.commit().await?;
        Ok(epoch)
    }

    /// As [`AppDb::replace_credentials`], where the logins themselves stay and only what seals them is new. A transfer of the
    /// tenant that was decided on this placement may still be cut over: with other logins it may not, because what it has
    /// recorded for the way back would bring the old ones back.
    ///
    /// # Errors
    /// As [`AppDb::replace_credentials`].
    pub async fn reseal_credentials(
        &self,
        tenant: Uuid,
        expected_epoch: i64,
        anon: Option<String>,
        service: Option<String>,
        actor: &Actor,
    ) -> Result<i64, Error> {
        let mut write = self.write(actor, "seal a tenant's credentials anew").await?;
        let epoch = set_credentials(&mut write, tenant, expected_epoch, anon, service).await?;
        follow(&mut write, tenant, expected_epoch, epoch).await?;
        write.commit().await?;
        Ok(epoch)
    }
}

async fn set_credentials(
    write: &mut Guarded<'_>,
    tenant: Uuid,
    expected_epoch: i64,
    anon: Option<String>,
    service: Option<String>,
) -> Result<i64, Error> {
    check_sealed(tenant, anon.as_deref())?;
    check_sealed(tenant, service.as_deref())?;
    let mut update = Query::update();
    update.table(Entity);
    // Always a value to set, so that a call without logins still compares the epoch.
    update.value(Column::DataSourceAnonKey, anon.map_or(Expr::col(Column::DataSourceAnonKey), Expr::val));
    update.value(Column::DataSourceServiceKey, service.map_or(Expr::col(Column::DataSourceServiceKey), Expr::val));
    let set = compare_and_set(write, tenant, expected_epoch, update).await;
    set.map_err(|error| match error {
        // Only the row knows whether the tenant is in a data source that has logins, and which are there.
        Error::Database { source: tenantry_connection::Error::CheckViolation { .. }, .. } => Error::InvalidPlacement {
            tenant,
            reason: "its data source has no logins, or would be left with one of two; place the tenant instead",
        },
        error => error,
    })
}

impl NewPlacement {
    /// [`AppDb::place`] within a transaction, after [`NewPlacement::check`]. Returns the epoch afterwards.
    pub(super) async fn set(&self, write: &mut Guarded<'_>, tenant: Uuid, expected_epoch: i64) -> Result<i64, Error> {
        self.check(tenant)?;
        self.admit(write, tenant).await?;
        let mut update = Query::update();
        update
            .table(Entity)
            .value(Column::DataSourceUrl, self.url.as_ref().map(DataSourceUrl::to_string))
            .value(Column::DataSourceAnonKey, self.anon_key.clone())
            .value(Column::DataSourceServiceKey, self.service_key.clone())
            .value(Column::DataSourceRegion, self.region.clone())
            .value(Column::TenantIdInDataSource, self.tenant_id_in_data_source.clone());
        if let Some(notes) = &self.notes {
            update.value(Column::DataSourceNotes, notes.clone());
        }
        compare_and_set(write, tenant, expected_epoch, update).await
    }

    /// Refuses what can be refused without asking the database, as [`AppDb::place`] does: a transfer asks before it copies.
    ///
    /// # Errors
    /// [`Error::InvalidPlacement`].
    pub fn check(&self, tenant: Uuid) -> Result<(), Error> {
        let refused = |reason| Err(Error::InvalidPlacement { tenant, reason });
        check_sealed(tenant, self.anon_key.as_deref())?;
        check_sealed(tenant, self.service_key.as_deref())?;
        let keys = (self.anon_key.is_some(), self.service_key.is_some());
        match (self.url.as_ref().map(DataSourceUrl::engine), keys) {
            (Some(Engine::Postgres), (true, true)) | (Some(Engine::Sqlite) | None, (false, false)) => {}
            (Some(Engine::Postgres), _) => {
                return refused(
                    "a PostgreSQL data source needs two logins; give both the anon key and the service key",
                );
            }
            (Some(Engine::Sqlite), _) => return refused("an SQLite data source has no login; leave both keys out"),
            (None, _) => return refused("it has keys but no data source; give the URL that they are for"),
        }
        if self.tenant_id_in_data_source.as_deref().is_some_and(|id| id.is_empty() || id.contains('\0')) {
            return refused(
                "tenant_id_in_data_source is empty or has a NUL; leave it out where it is the tenant's own id",
            );
        }
        Ok(())
    }

    /// What only the database can tell: whether the data source may hold this tenant. Holds off other placements on the
    /// same database until the transaction ends.
    pub(super) async fn admit(&self, write: &mut Guarded<'_>, tenant: Uuid) -> Result<(), Error> {
        let Some(url) = self.url.as_ref().map(DataSourceUrl::as_str) else {
            // Without a data source its rows are in the application database, if anywhere, under its own id.
            let url = write.url().clone();
            occupancy::lock(write, &[url.as_str()]).await?;
            return occupancy::admit_key(write, tenant, None, url.as_str()).await;
        };
        occupancy::lock(write, &[url]).await?;
        occupancy::admit_tenant(write, tenant, url).await?;
        occupancy::admit_key(write, tenant, self.tenant_id_in_data_source.as_deref(), url).await
    }
}

impl PlacementRecord {
    fn new(tenant: Model, source: Option<data_sources::Model>) -> Result<Self, Error> {
        let limits = PoolLimits::from_json(&tenant.connection_pool_config)
            .map_err(|source| Error::PoolLimits { tenant: tenant.id, source })?;
        Ok(Self {
            tenant: tenant.id,
            subdomain: tenant.subdomain,
            name: tenant.name,
            status: tenant.status,
            url: tenant.data_source_url,
            anon_key: tenant.data_source_anon_key.map(crate::entities::Hidden::into_string),
            service_key: tenant.data_source_service_key.map(crate::entities::Hidden::into_string),
            region: tenant.data_source_region,
            tenant_id_in_data_source: tenant.tenant_id_in_data_source,
            pool_min: limits.min,
            pool_max: limits.max,
            epoch: tenant.placement_epoch,
            source,
        })
    }
}

impl fmt::Debug for NewPlacement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewPlacement")
            .field("url", &self.url.as_ref().map(DataSourceUrl::as_str))
            .field("anon_key", &hidden(&self.anon_key))
            .field("service_key", &hidden(&self.service_key))
            .field("region", &self.region)
            .field("tenant_id_in_data_source", &self.tenant_id_in_data_source)
            .field("notes", &self.notes)
            .finish()
    }
}

impl fmt::Debug for PlacementRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlacementRecord")
            .field("tenant", &self.tenant)
            .field("subdomain", &self.subdomain)
            .field("name", &self.name)
            .field("status", &self.status)
            .field("url", &self.url)
            .field("anon_key", &hidden(&self.anon_key))
            .field("service_key", &hidden(&self.service_key))
            .field("region", &self.region)
            .field("tenant_id_in_data_source", &self.tenant_id_in_data_source)
            .field("pool_min", &self.pool_min)
            .field("pool_max", &self.pool_max)
            .field("epoch", &self.epoch)
            .field("source", &self.source)
            .finish()
    }
}

fn hidden(key: &Option<String>) -> Option<crate::entities::Hidden> {
    key.as_deref().map(crate::entities::Hidden::from)
}

/// Runs the update on the tenant's row where the epoch is the expected one. The epoch itself is kept by a trigger, so that a
/// change with psql moves it too.
async fn compare_and_set(
    write: &mut Guarded<'_>,
    tenant: Uuid,
    expected_epoch: i64,
    mut update: UpdateStatement,
) -> Result<i64, Error> {
    update.and_where(Column::Id.eq(tenant)).and_where(Column::PlacementEpoch.eq(expected_epoch));
    let affected = write.execute(table_of::<Entity>(), &update).await?;
    // Read back rather than RETURNING: on SQLite that shows the row as it was before the trigger raised the epoch.
    let found = epoch_of(write, tenant).await?;
    if affected == 0 {
        return Err(Error::Moved { tenant, expected: expected_epoch, found });
    }
    Ok(found)
}

/// The epoch of the tenant's placement, as this transaction sees it.
pub(super) async fn epoch_of(write: &mut Guarded<'_>, tenant: Uuid) -> Result<i64, Error> {
    let epoch = Query::select().column(Column::PlacementEpoch).from(Entity).and_where(Column::Id.eq(tenant)).take();
    let row = write.row(table_of::<Entity>(), &epoch).await?.ok_or(Error::UnknownTenant { tenant })?;
    row.try_get("", "placement_epoch").map_err(|source| Error::Decode { table: table_of::<Entity>(), source })
}

/// Refuses what is plainly no envelope, so that a login never reaches the column unsealed by mistake. Whether an envelope
/// opens is the keyring's to say.
pub(super) fn check_sealed(tenant: Uuid, key: Option<&str>) -> Result<(), Error> {
    let Some(key) = key else { return Ok(()) };
    let parts: Vec<&str> = key.split(':').collect();
    let base64 = |part: &&str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte))
    };
    let sealed = match parts.as_slice() {
        ["v1", key_id, sealed @ ..] if sealed.len() == 3 => !key_id.is_empty() && sealed.iter().all(base64),
        sealed if sealed.len() == 3 => sealed.iter().all(base64),
        _ => false,
    };
    if sealed {
        Ok(())
    } else {
        Err(Error::InvalidPlacement {
            tenant,
            reason: "a key is not a sealed credential; seal the login with the keyring",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: the original stored whatever it was given, API tokens and passwords among them.
    #[test]
    fn an_unsealed_login_is_refused() {
        let tenant = Uuid::nil();
        for sealed in ["v1:default:AAAA:BBBB:CC+/==", "AAAA:BBBB:CCCC"] {
            assert!(check_sealed(tenant, Some(sealed)).is_ok(), "{sealed}");
        }
        for plain in
            ["", "app:secret", r#"{"user":"app","password":"a:b"}"#, "postgresql://a:b@c", "v1:default:a:b", "a::c"]
        {
            let error = check_sealed(tenant, Some(plain)).err().map(|error| error.to_string());
            assert_eq!(
                error.as_deref(),
                Some(
                    "the placement of tenant 00000000-0000-0000-0000-000000000000 is refused: a key is not a sealed \
                     credential; seal the login with the keyring"
                ),
                "{plain}"
            );
        }
    }
}
