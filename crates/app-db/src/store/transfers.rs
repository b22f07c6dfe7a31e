//! The record of transfers: what was decided, how far it is, and who runs it.
//!
//! Who runs a transfer holds its lease. A step is written only by the holder, by compare-and-set on owner and lease epoch; who
//! takes a lease over raises the epoch, so that whatever the earlier holder still sends is refused. That a lease has run out is
//! judged by the clock of whoever asks: two clocks that differ may take a lease from a living owner, which costs that run and
//! no row, because it is the epoch that decides and not the time.

use std::{fmt, time::Duration};

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Condition, LockType, Query, UpdateStatement};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, Insert, Order, QueryFilter, QueryTrait};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tenantry_connection::{Actor, DataSourceUrl, Engine};
use uuid::Uuid;

use super::{
    audit,
    audit::AuditEntry,
    placement::{NewPlacement, check_sealed, epoch_of},
};
use crate::{
    AppDb, Error,
    app_db::{Guarded, decode, table_of},
    entities::{
        TransferStep,
        transfers::{ActiveModel, Column, Entity, Model},
    },
};

/// A transfer to be recorded.
#[derive(Clone, PartialEq, Eq)]
pub struct NewTransfer {
    /// The tenant.
    pub tenant: Uuid,
    /// The finished transfer that this one takes back.
    pub undoes: Option<Uuid>,
    /// Where its rows are, as the placement has it; without a URL, in the application database.
    pub source: NewPlacement,
    /// The tenant's id there.
    pub source_key: String,
    /// Where they shall go.
    pub target: NewPlacement,
    /// The tenant's id there.
    pub target_key: String,
    /// The placement epoch that it was decided on.
    pub expected_epoch: i64,
    /// Tables, without the write log.
    pub tables: u64,
    /// Records, without the write log.
    pub records: u64,
    /// Tables without a tenant column that are copied whole beforehand.
    pub reference_tables: Vec<String>,
}

/// The right to run a transfer, until it runs out or is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferLease {
    /// The transfer.
    pub transfer: Uuid,
    /// Who runs it: random for each run.
    pub owner: Uuid,
    /// Grows with every run: of two that believe to hold the lease, the higher one does.
    pub epoch: i64,
}

/// Sealed logins in place of recorded ones; `None` leaves one as it is.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct NewLogins {
    /// Of the restricted login.
    pub anon_key: Option<String>,
    /// Of the service login.
    pub service_key: Option<String>,
}

impl NewLogins {
    fn over(&self, tenant: Uuid, placement: NewPlacement) -> Result<NewPlacement, Error> {
        check_sealed(tenant, self.anon_key.as_deref())?;
        check_sealed(tenant, self.service_key.as_deref())?;
        Ok(NewPlacement {
            anon_key: self.anon_key.clone().or(placement.anon_key),
            service_key: self.service_key.clone().or(placement.service_key),
            ..placement
        })
    }
}

/// From one step to the next, and what else that changes in the record. What is `None` stays as it is, but for the problem.
#[derive(Debug, Clone, PartialEq)]
pub struct Advance {
    /// How far it was. A record that says otherwise is left alone: a commit whose answer was lost may have been done.
    pub from: TransferStep,
    /// How far it is now.
    pub to: TransferStep,
    /// The tenant's writes are held from now on.
    pub holding: bool,
    /// What was copied, as JSON.
    pub copied: Option<String>,
    /// How long they were held.
    pub held: Option<Duration>,
    /// What was found on both ends, as JSON.
    pub report: Option<String>,
    /// What went wrong. No secret, and no value of a row. `None` clears what an earlier run ended with, but where the transfer is
    /// taken back.
    pub problem: Option<String>,
}

impl Advance {
    /// A step, and nothing else.
    pub fn new(from: TransferStep, to: TransferStep) -> Self {
        Self { from, to, holding: false, copied: None, held: None, report: None, problem: None }
    }
}

impl AppDb {
    /// Records a transfer and takes its lease. It is in the audit log afterwards.
    ///
    /// # Errors
    /// [`Error::TransferUnderWay`]; [`Error::Moved`] where the placement is not the one of the expected epoch any more; then nothing
    /// is recorded. [`Error::InvalidPlacement`]; [`Error::Database`].
    pub async fn begin_transfer(
        &self,
        new: &NewTransfer,
        lease: Duration,
        actor: &Actor,
    ) -> Result<(Model, TransferLease), Error> {
        for placement in [&new.source, &new.target] {
            placement.check(new.tenant)?;
        }
        if let Some(open) = self.transfer_under_way(new.tenant).await? {
            return Err(under_way(&open));
        }
        let now = Utc::now();
        let taken = TransferLease { transfer: Uuid::new_v4(), owner: Uuid::new_v4(), epoch: 1 };
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let row = ActiveModel {
            id: Set(taken.transfer),
            tenant_id: Set(new.tenant),
            undoes: Set(new.undoes),
            step: Set(TransferStep::Planned),
            source_url: Set(new.source.url.as_ref().map(DataSourceUrl::to_string)),
            source_key: Set(new.source_key.clone()),
            source_placement: Set(stored(&new.source).into()),
            target_url: Set(new.target.url.as_ref().map(DataSourceUrl::to_string)),
            target_key: Set(new.target_key.clone()),
            target_placement: Set(stored(&new.target).into()),
            expected_epoch: Set(new.expected_epoch),
            placed_epoch: Set(None),
            owner: Set(Some(taken.owner)),
            lease_until: Set(Some(now + lease)),
            lease_epoch: Set(taken.epoch),
            held_since: Set(None),
            held_ms: Set(None),
            tables: Set(number(new.tables)),
            records: Set(number(new.records)),
            reference_tables: Set(json!(new.reference_tables).to_string()),
            copied: Set(None),
            report: Set(None),
            problem: Set(None),
            created_at: Set(now),
            updated_at: Set(now),
        };
        let mut write = self.write(actor, "record a transfer").await?;
        if let Err(error) = write.execute(table_of::<Entity>(), &Insert::one(row).into_query()).await {
            drop(write);
            // Somebody else may have been faster between the look and this.
            let open = self.transfer_under_way(new.tenant).await?;
            return Err(open.map_or(error, |open| under_way(&open)));
        }
        // Since the plan was made another transfer may have begun and ended. Now that this one is recorded, none does.
        let found = epoch_of(&mut write, new.tenant).await?;
        if found != new.expected_epoch {
            return Err(Error::Moved { tenant: new.tenant, expected: new.expected_epoch, found });
        }
        let model = row_of(&mut write, taken.transfer).await?;
        record(&mut write, "transfer_begun", &model, actor).await?;
        write.commit().await?;
        Ok((model, taken))
    }

    /// The transfer of this id.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Decode`].
    pub async fn transfer(&self, id: Uuid) -> Result<Option<Model>, Error> {
        self.find::<Entity>().filter(Column::Id.eq(id)).one().await
    }

    /// The latest transfers, newest first: those of one tenant, or of all.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Decode`].
    pub async fn transfers(&self, tenant: Option<Uuid>, limit: u64) -> Result<Vec<Model>, Error> {
        let mut select = self.find::<Entity>();
        if let Some(tenant) = tenant {
            select = select.filter(Column::TenantId.eq(tenant));
        }
        select
            .order_by(Column::CreatedAt, Order::Desc)
            .order_by(Column::Id, Order::Asc)
            .limit(limit.min(i64::MAX.unsigned_abs()))
            .all()
            .await
    }

    /// The transfer of the tenant that is under way, if one is.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Decode`].
    pub async fn transfer_under_way(&self, tenant: Uuid) -> Result<Option<Model>, Error> {
        let ended = [TransferStep::Finished, TransferStep::Purged, TransferStep::Returned, TransferStep::Aborted];
        self.find::<Entity>().filter(Column::TenantId.eq(tenant)).filter(Column::Step.is_not_in(ended)).one().await
    }

    /// Takes the lease of a transfer that nobody holds, or whose owner is no longer believed to run. The owner itself is asked
    /// nothing: what it still sends is refused by the epoch.
    ///
    /// # Errors
    /// [`Error::TransferHeld`], [`Error::UnknownTransfer`], [`Error::Database`].
    pub async fn take_transfer(&self, id: Uuid, lease: Duration) -> Result<(Model, TransferLease), Error> {
        let mut write = self.write(&Actor::default(), "take over a transfer").await?;
        let before = row_of(&mut write, id).await?;
        let now = Utc::now();
        if let (Some(_), Some(until)) = (before.owner, before.lease_until.filter(|until| *until > now)) {
            return Err(Error::TransferHeld { transfer: id, until });
        }
        let taken = TransferLease { transfer: id, owner: Uuid::new_v4(), epoch: before.lease_epoch + 1 };
        let mut update = update(now);
        update
            .value(Column::Owner, taken.owner)
            .value(Column::LeaseUntil, now + lease)
            .value(Column::LeaseEpoch, taken.epoch)
            .and_where(Column::Id.eq(id))
            .and_where(Column::LeaseEpoch.eq(before.lease_epoch));
        if write.execute(table_of::<Entity>(), &update).await? == 0 {
            return Err(Error::TransferHeld { transfer: id, until: now + lease });
        }
        let model = row_of(&mut write, id).await?;
        write.commit().await?;
        Ok((model, taken))
    }

    /// Keeps the lease for this long from now.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], [`Error::Database`].
    pub async fn renew_transfer(&self, held: &TransferLease, lease: Duration) -> Result<(), Error> {
        let now = Utc::now();
        let mut update = update(now);
        update.value(Column::LeaseUntil, now + lease);
        self.change(held, update, "keep a transfer's lease").await
    }

    /// Gives the lease up, so that somebody else need not wait for it to run out. One that was lost is none to give up.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn release_transfer(&self, held: &TransferLease, problem: Option<String>) -> Result<(), Error> {
        let mut update = update(Utc::now());
        update.value(Column::Owner, None::<Uuid>).value(Column::LeaseUntil, None::<DateTime<Utc>>);
        if let Some(problem) = problem {
            update.value(Column::Problem, problem);
        }
        match self.change(held, update, "give up a transfer's lease").await {
            Err(Error::LeaseLost { .. }) => Ok(()),
            done => done,
        }
    }

    /// Records what is true of a transfer should its run not come to say more, before it does what cannot be taken back. A step that
    /// ends well clears it.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], [`Error::Database`].
    pub async fn warn_transfer(&self, held: &TransferLease, problem: &str) -> Result<(), Error> {
        let mut update = update(Utc::now());
        update.value(Column::Problem, problem);
        self.change(held, update, "keep a transfer's record").await
    }

    /// Writes how far a transfer is. A step that ends it is in the audit log afterwards.
    ///
    /// # Errors
    /// [`Error::LeaseLost`]: somebody else has taken it over, or it is not at `from`; read it again. [`Error::Database`].
    pub async fn advance_transfer(&self, held: &TransferLease, advance: &Advance, actor: &Actor) -> Result<(), Error> {
        let mut write = self.write(actor, "record a transfer's step").await?;
        set(&mut write, held, advance).await?;
        if !advance.to.is_under_way() {
            let model = row_of(&mut write, held.transfer).await?;
            record(&mut write, action(advance.to), &model, actor).await?;
        }
        write.commit().await
    }

    /// The cutover: the tenant's placement, by compare-and-set on its epoch, and the transfer's step, in one transaction. Of a
    /// transfer that takes another one back, that one is `returned` by the same transaction. Returns the new placement epoch.
    ///
    /// # Errors
    /// As [`AppDb::place`] and [`AppDb::advance_transfer`]; nothing has changed then, but that a connection lost during the
    /// commit leaves it open: the transfer's step tells.
    pub async fn cut_over(&self, held: &TransferLease, actor: &Actor) -> Result<i64, Error> {
        let mut write = self.write(actor, "cut a transfer over").await?;
        let transfer = row_of(&mut write, held.transfer).await?;
        let placement = transfer.target()?;
        let epoch = placement.set(&mut write, transfer.tenant_id, transfer.expected_epoch).await?;
        set(&mut write, held, &Advance::new(TransferStep::Verified, TransferStep::Placed)).await?;
        let mut placed = Query::update();
        placed.table(Entity).value(Column::PlacedEpoch, epoch).and_where(Column::Id.eq(held.transfer));
        write.execute(table_of::<Entity>(), &placed).await?;
        if let Some(undone) = transfer.undoes {
            let mut returned = update(Utc::now());
            returned
                .value(Column::Step, TransferStep::Returned)
                .value(Column::Problem, None::<String>)
                .and_where(Column::Id.eq(undone));
            write.execute(table_of::<Entity>(), &returned).await?;
        }
        write.commit().await?;
        Ok(epoch)
    }

    /// Replaces sealed logins that a transfer has recorded, at its source and at its target; what else it has recorded stays.
    /// False where others have been recorded since `read`: nothing was changed, and the transfer is to be read again.
    ///
    /// # Errors
    /// [`Error::InvalidPlacement`] for a login that is not sealed, or where the record was changed by hand;
    /// [`Error::Database`].
    pub async fn reseal_transfer(
        &self,
        read: &Model,
        source: &NewLogins,
        target: &NewLogins,
        actor: &Actor,
    ) -> Result<bool, Error> {
        let (source, target) =
            (source.over(read.tenant_id, read.source()?)?, target.over(read.tenant_id, read.target()?)?);
        let mut update = update(Utc::now());
        update
            .value(Column::SourcePlacement, stored(&source))
            .value(Column::TargetPlacement, stored(&target))
            .and_where(Column::Id.eq(read.id))
            .and_where(Column::SourcePlacement.eq(read.source_placement.as_str()))
            .and_where(Column::TargetPlacement.eq(read.target_placement.as_str()));
        let mut write = self.write(actor, "seal a transfer's logins anew").await?;
        if write.execute(table_of::<Entity>(), &update).await? == 0 {
            return Ok(false);
        }
        record(&mut write, "transfer_resealed", read, actor).await?;
        write.commit().await?;
        Ok(true)
    }

    async fn change(
        &self,
        held: &TransferLease,
        mut update: UpdateStatement,
        attempt: &'static str,
    ) -> Result<(), Error> {
        update.cond_where(holds(held));
        let mut write = self.write(&Actor::default(), attempt).await?;
        if write.execute(table_of::<Entity>(), &update).await? == 0 {
            return Err(Error::LeaseLost { transfer: held.transfer });
        }
        write.commit().await
    }
}

impl Model {
    /// Where the rows were, with sealed logins.
    ///
    /// # Errors
    /// [`Error::InvalidPlacement`] where the record was changed by hand.
    pub fn source(&self) -> Result<NewPlacement, Error> {
        placement(self.tenant_id, &self.source_placement)
    }

    /// Where they go, with sealed logins.
    ///
    /// # Errors
    /// [`Error::InvalidPlacement`] where the record was changed by hand.
    pub fn target(&self) -> Result<NewPlacement, Error> {
        placement(self.tenant_id, &self.target_placement)
    }

    /// The tables without a tenant column that are copied whole beforehand.
    ///
    /// # Errors
    /// [`Error::InvalidPlacement`] where the record was changed by hand.
    pub fn reference_tables(&self) -> Result<Vec<String>, Error> {
        serde_json::from_str(&self.reference_tables).map_err(|_| unreadable(self.tenant_id))
    }

    /// How long ago the tenant's writes were held; `None` where they were not, or where this clock is behind the one that said so.
    pub fn held_for(&self) -> Option<Duration> {
        self.held_since.and_then(|since| (Utc::now() - since).to_std().ok())
    }

    /// Until when somebody is believed to run it; `None` where nobody does.
    pub fn held_until(&self) -> Option<DateTime<Utc>> {
        self.owner.and(self.lease_until).filter(|until| *until > Utc::now())
    }
}

impl fmt::Debug for NewTransfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewTransfer")
            .field("tenant", &self.tenant)
            .field("undoes", &self.undoes)
            .field("source", &self.source)
            .field("source_key", &self.source_key)
            .field("target", &self.target)
            .field("target_key", &self.target_key)
            .field("expected_epoch", &self.expected_epoch)
            .field("tables", &self.tables)
            .field("records", &self.records)
            .field("reference_tables", &self.reference_tables)
            .finish()
    }
}

/// A placement as the record holds it. The keys are sealed.
#[derive(Serialize, Deserialize)]
struct Stored {
    url: Option<String>,
    anon_key: Option<String>,
    service_key: Option<String>,
    region: Option<String>,
    tenant_id_in_data_source: Option<String>,
}

fn stored(placement: &NewPlacement) -> String {
    // A JSON object of texts always has a text.
    json!(Stored {
        url: placement.url.as_ref().map(DataSourceUrl::to_string),
        anon_key: placement.anon_key.clone(),
        service_key: placement.service_key.clone(),
        region: placement.region.clone(),
        tenant_id_in_data_source: placement.tenant_id_in_data_source.clone(),
    })
    .to_string()
}

fn placement(tenant: Uuid, text: &str) -> Result<NewPlacement, Error> {
    let stored: Stored = serde_json::from_str(text).map_err(|_| unreadable(tenant))?;
    Ok(NewPlacement {
        url: stored.url.map(|url| DataSourceUrl::parse(&url)).transpose().map_err(|_| unreadable(tenant))?,
        anon_key: stored.anon_key,
        service_key: stored.service_key,
        region: stored.region,
        tenant_id_in_data_source: stored.tenant_id_in_data_source,
        notes: None,
    })
}

fn unreadable(tenant: Uuid) -> Error {
    Error::InvalidPlacement { tenant, reason: "the record of its transfer was changed by hand" }
}

fn under_way(open: &Model) -> Error {
    Error::TransferUnderWay { tenant: open.tenant_id, transfer: open.id, step: open.step }
}

fn update(now: DateTime<Utc>) -> UpdateStatement {
    let mut update = Query::update();
    update.table(Entity).value(Column::UpdatedAt, now);
    update
}

fn holds(held: &TransferLease) -> Condition {
    Condition::all()
        .add(Column::Id.eq(held.transfer))
        .add(Column::Owner.eq(held.owner))
        .add(Column::LeaseEpoch.eq(held.epoch))
}

/// Lets a transfer that was decided on one placement epoch be cut over from another one, where nothing lies between the two that
/// the transfer would undo.
pub(super) async fn follow(write: &mut Guarded<'_>, tenant: Uuid, from: i64, to: i64) -> Result<(), Error> {
    let before = [TransferStep::Planned, TransferStep::Fenced, TransferStep::Copied, TransferStep::Verified];
    let mut follow = update(Utc::now());
    follow
        .value(Column::ExpectedEpoch, to)
        .and_where(Column::TenantId.eq(tenant))
        .and_where(Column::ExpectedEpoch.eq(from))
        .and_where(Column::Step.is_in(before));
    write.execute(table_of::<Entity>(), &follow).await.map(drop)
}

async fn set(write: &mut Guarded<'_>, held: &TransferLease, advance: &Advance) -> Result<(), Error> {
    let mut update = update(Utc::now());
    update.value(Column::Step, advance.to).and_where(Column::Step.eq(advance.from));
    if !advance.to.is_under_way() {
        update.value(Column::Owner, None::<Uuid>).value(Column::LeaseUntil, None::<DateTime<Utc>>);
    }
    if advance.holding {
        update.value(Column::HeldSince, Utc::now());
    }
    if let Some(copied) = &advance.copied {
        update.value(Column::Copied, copied.clone());
    }
    if let Some(held) = advance.held {
        update.value(Column::HeldMs, i64::try_from(held.as_millis()).unwrap_or(i64::MAX));
    }
    if let Some(report) = &advance.report {
        update.value(Column::Report, report.clone());
    }
    // What a run ended with before is none any more once a step ends well. Why it is taken back stays.
    let given_up = matches!(advance.to, TransferStep::Aborting | TransferStep::Aborted);
    if advance.problem.is_some() || (advance.to != advance.from && !given_up) {
        update.value(Column::Problem, advance.problem.clone());
    }
    update.cond_where(holds(held));
    if write.execute(table_of::<Entity>(), &update).await? == 0 {
        return Err(Error::LeaseLost { transfer: held.transfer });
    }
    Ok(())
}

/// The row, held against other writers until the transaction ends.
async fn row_of(write: &mut Guarded<'_>, id: Uuid) -> Result<Model, Error> {
    let mut find = Entity::find().filter(Column::Id.eq(id)).into_query();
    if write.engine() == Engine::Postgres {
        find.lock(LockType::Update);
    }
    let row = write.row(table_of::<Entity>(), &find).await?.ok_or(Error::UnknownTransfer { transfer: id })?;
    decode::<Entity>(&row)
}

fn action(step: TransferStep) -> &'static str {
    match step {
        TransferStep::Finished => "transfer_finished",
        TransferStep::Purged => "transfer_purged",
        TransferStep::Returned => "transfer_returned",
        TransferStep::Aborted => "transfer_aborted",
        TransferStep::Planned
        | TransferStep::Fenced
        | TransferStep::Copied
        | TransferStep::Verified
        | TransferStep::Placed
        | TransferStep::Aborting => "transfer_changed",
    }
}

async fn record(write: &mut Guarded<'_>, action: &str, model: &Model, actor: &Actor) -> Result<(), Error> {
    let entry = AuditEntry::new(action, "transfer").tenant(model.tenant_id).entity(model.id).changes(&json!({
        "from": model.source_url,
        "to": model.target_url,
        "undoes": model.undoes,
        "records": model.records,
        "held_ms": model.held_ms,
        "problem": model.problem,
    }))?;
    audit::add(write, &entry, actor).await
}
