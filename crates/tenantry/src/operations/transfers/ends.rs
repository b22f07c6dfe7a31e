//! Both ends of a transfer as they are decided and opened. Knows nothing of what is done between them.

use std::future::Future;

use sea_orm_migration::MigratorTrait;
use tenantry_app_db::entities::{TransferStep, transfers::Model};
use tenantry_connection::{Actor, Pool};
use tenantry_transfer::{Error as TransferError, Note, Options, Refusal, Request};
use uuid::Uuid;

use super::{
    super::place::{Place, StandIn},
    TransferTarget,
};
use crate::{Error, Tenantry};

/// From where to where.
pub(in crate::operations) struct Ends {
    tenant: Uuid,
    pub(in crate::operations) subdomain: String,
    epoch: i64,
    pub(in crate::operations) from: Place,
    pub(in crate::operations) to: Place,
}

impl Ends {
    pub(super) async fn decide(tenantry: &Tenantry, tenant: Uuid, target: &TransferTarget) -> Result<Self, Error> {
        let record = tenantry.app_db().placement(tenant).await?;
        let record = record.ok_or_else(|| Error::UnknownTenant(tenant.to_string()))?;
        let from = Place::current(tenantry, &record)?;
        let to = Place::wanted(tenantry, &record, target)?;
        Ok(Self { tenant, subdomain: record.subdomain, epoch: record.epoch, from, to })
    }

    /// Whether the tenant is already where it shall go.
    pub(super) fn is_there(&self) -> bool {
        self.from.placement.url.as_ref() == Some(&self.to.url) && self.from.key == self.to.key
    }

    /// The transfer that has taken the tenant to where it is and is not finished. Of a tenant that is where it is wanted, any other
    /// one would take it away.
    pub(super) async fn unfinished(&self, tenantry: &Tenantry) -> Result<Option<Model>, Error> {
        let open = tenantry.app_db().transfer_under_way(self.tenant).await?;
        open.map(|open| came_to(open, self.to.url.as_str(), &self.to.key.to_string())).transpose()
    }

    /// What a plan says of a tenant that is where it is wanted: what a run would go on with, or be refused for.
    pub(super) async fn remarks(&self, tenantry: &Tenantry) -> Result<(Vec<Note>, Vec<Refusal>), Error> {
        let Some(open) = tenantry.app_db().transfer_under_way(self.tenant).await? else {
            return Ok((Vec::new(), Vec::new()));
        };
        let own = is_left_at(&open, self.to.url.as_str(), &self.to.key.to_string());
        if own && open.held_until().is_none() {
            return Ok((vec![Note::goes_on(&open)], Vec::new()));
        }
        Ok((Vec::new(), vec![Refusal::under_way(&open)]))
    }

    /// Ends that were decided elsewhere.
    pub(in crate::operations) fn of(tenant: Uuid, subdomain: String, epoch: i64, from: Place, to: Place) -> Self {
        Self { tenant, subdomain, epoch, from, to }
    }

    pub(in crate::operations) async fn open(&self, tenantry: &Tenantry, options: &Options) -> Result<Open, Error> {
        let parallel = options.parallel;
        Ok(Open { from: self.from.pool(tenantry, parallel).await?, to: self.to.pool(tenantry, parallel).await? })
    }

    pub(super) async fn open_with<M: MigratorTrait>(
        &self,
        tenantry: &Tenantry,
        stand_in: &StandIn,
    ) -> Result<Open, Error> {
        let to = stand_in.prepare::<M>(tenantry).await?;
        Ok(Open { from: self.from.pool(tenantry, 1).await?, to })
    }
}

/// Both ends' connections, for one transfer.
pub(in crate::operations) struct Open {
    pub(super) from: Pool,
    pub(super) to: Pool,
}

impl Open {
    pub(in crate::operations) fn request<'a>(
        &self,
        tenantry: &'a Tenantry,
        ends: &Ends,
        actor: &Actor,
        options: &Options,
    ) -> Request<'a> {
        let mut to = ends.to.placement.clone();
        to.url = Some(self.to.url().clone());
        Request {
            app_db: tenantry.app_db(),
            tenant: ends.tenant,
            source: ends.from.endpoint(tenantry, &self.from),
            target: ends.to.endpoint(tenantry, &self.to),
            expected_epoch: ends.epoch,
            from: ends.from.placement.clone(),
            to,
            data_source: None,
            actor: actor.clone(),
            options: options.clone(),
        }
    }

    pub(in crate::operations) fn close(&self) -> impl Future<Output = ()> + use<> {
        let (from, to) = (self.from.clone(), self.to.clone());
        async move {
            from.close().await;
            to.close().await;
        }
    }
}

/// Whether it has only to let the tenant's writes through at this place.
fn is_left_at(open: &Model, url: &str, key: &str) -> bool {
    open.step == TransferStep::Placed && open.target_url.as_deref() == Some(url) && open.target_key == key
}

/// A transfer under way that has only to let the tenant's writes through at this place, where the tenant is.
///
/// # Errors
/// [`TransferError::UnderWay`] for any other one.
pub(in crate::operations) fn came_to(open: Model, url: &str, key: &str) -> Result<Model, Error> {
    if is_left_at(&open, url, key) {
        return Ok(open);
    }
    let target = open.target_url.unwrap_or_else(|| "the application database".to_owned());
    let tenant = open.tenant_id;
    let source = TransferError::UnderWay { tenant, transfer: open.id, target };
    Err(Error::Transfer { tenant, source: Box::new(source) })
}
