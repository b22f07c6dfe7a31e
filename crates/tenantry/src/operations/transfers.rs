//! Transfers: any tenant from where it is to another data source, one at a time or many. What it means to copy, verify and cut
//! over is `tenantry-transfer`'s; here is decided from where to where, and with which logins.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use sea_orm_migration::MigratorTrait;
use serde::Serialize;
use tenantry_app_db::entities::{SourceKind, TransferStep, transfers::Model};
use tenantry_connection::{Actor, DataSourceUrl};
use tenantry_data_source::with_causes;
use tenantry_transfer::{
    Done, Error as TransferError, Note, Options, Outcome, Plan, Preview, Progress, Refusal, Report, Transfer, purge,
};
use uuid::Uuid;

mod ends;
mod summary;

use ends::Open;
pub(super) use ends::{Ends, came_to};
use summary::Left;

use super::{
    create_tenant::Logins,
    place::{Place, StandIn},
};
use crate::{Error, Tenantry};

/// Where tenants go.
#[derive(Debug, Clone, Default)]
pub struct TransferTarget {
    /// The data source; the default one where none is given.
    pub data_source: Option<(DataSourceUrl, Option<Logins>)>,
    /// Whom the data source serves; what its row says, or `shared`, where none is given. An SQLite file serves one tenant.
    pub kind: Option<SourceKind>,
    /// The tenant's id there, where it differs from the one it has now.
    pub tenant_id: Option<String>,
    /// Bring the target's schema up to date first. A missing SQLite file is always made.
    pub prepare: bool,
}

/// What a transfer would do.
#[derive(Debug, Clone, Serialize)]
pub struct TransferPlan {
    /// The tenant.
    pub tenant: Uuid,
    /// Its subdomain.
    pub subdomain: String,
    /// Where it would go.
    pub target: DataSourceUrl,
    /// Whether it is there already, so that nothing would be copied.
    pub already_placed: bool,
    /// What would be copied, and every reason why not.
    pub plan: Option<Plan>,
    /// What is worth knowing where nothing would be copied.
    pub notes: Vec<Note>,
    /// Every reason why a run would be refused where nothing would be copied.
    pub refusals: Vec<Refusal>,
}

/// What came of one tenant's transfer.
#[derive(Debug, Clone, Serialize)]
pub struct TransferReport {
    /// The tenant.
    pub tenant: Uuid,
    /// Its subdomain.
    pub subdomain: String,
    /// Where its rows were.
    pub source: Option<DataSourceUrl>,
    /// Where they go.
    pub target: Option<DataSourceUrl>,
    /// The transfer, once it is recorded.
    pub transfer: Option<Uuid>,
    /// How far it is, as [`TransferStatus::step`] says it; `unknown` where the application database could not be asked.
    pub step: Option<&'static str>,
    /// What was done: `moved`, `already_placed`, `purged`, `returned`, `aborted`, `refused` or `failed`.
    pub outcome: &'static str,
    /// What would have been copied, of a refusal.
    pub plan: Option<Plan>,
    /// What was found on both sides.
    pub report: Option<Report>,
    /// How long the tenant's writes were held, in milliseconds.
    pub held_ms: Option<u64>,
    /// Rows that were deleted where the tenant is no more.
    pub purged: Option<u64>,
    /// What went wrong, with its causes.
    pub error: Option<String>,
    /// What to do about it, where the error does not say it.
    pub remedy: Option<String>,
    #[serde(skip)]
    left: Left,
}

/// What came of many tenants' transfers.
#[derive(Debug, Clone, Serialize)]
pub struct TransfersReport {
    /// One entry per tenant, in the order in which they were given.
    pub tenants: Vec<TransferReport>,
}

/// A recorded transfer, without its logins.
#[derive(Debug, Clone, Serialize)]
pub struct TransferStatus {
    /// The transfer.
    pub id: Uuid,
    /// The tenant.
    pub tenant: Uuid,
    /// How far it is: `planned`, `fenced`, `copied`, `verified`, `placed`, `aborting`, `finished`, `purged`, `returned` or
    /// `aborted`.
    pub step: &'static str,
    /// Whether it is under way, so that the tenant has no other.
    pub under_way: bool,
    /// Until when somebody is believed to run it; nobody does where there is none.
    pub run_until: Option<DateTime<Utc>>,
    /// Where the rows were; none is the application database.
    pub source: Option<String>,
    /// Where they go; none is the application database.
    pub target: Option<String>,
    /// The transfer that it takes back.
    pub undoes: Option<Uuid>,
    /// Tables that were planned, without the write log.
    pub tables: i64,
    /// Records that were planned, without the write log.
    pub records: i64,
    /// Tables without a tenant column that are copied whole beforehand.
    pub reference_tables: Vec<String>,
    /// Since when the tenant's writes were held.
    pub held_since: Option<DateTime<Utc>>,
    /// How long, in milliseconds.
    pub held_ms: Option<i64>,
    /// What was found on both sides before the cutover.
    pub report: Option<Report>,
    /// What a run ended with that did not come to its end.
    pub problem: Option<String>,
    /// When it was begun.
    pub created_at: DateTime<Utc>,
    /// When its record last changed.
    pub updated_at: DateTime<Utc>,
}

/// What to do with a transfer that has been begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferAction {
    /// Go on where it stopped.
    Resume,
    /// Take back what was done before the cutover.
    Abort,
    /// Bring the tenant back, with what was written since.
    RollBack,
    /// Delete the rows that were kept.
    Purge,
}

impl TransferPlan {
    /// Whether nothing stands against it.
    pub fn passed(&self) -> bool {
        self.refusals.is_empty() && self.plan.as_ref().is_none_or(|plan| plan.refusals.is_empty())
    }
}

impl TransferReport {
    /// Whether it was done and nothing was found wrong.
    pub fn passed(&self) -> bool {
        self.error.is_none() && !matches!(self.outcome, "refused" | "failed")
    }

    fn new(tenant: Uuid, subdomain: String) -> Self {
        Self {
            tenant,
            subdomain,
            source: None,
            target: None,
            transfer: None,
            step: None,
            outcome: "failed",
            plan: None,
            report: None,
            held_ms: None,
            purged: None,
            error: None,
            remedy: None,
            left: Left::AsRecorded,
        }
    }

    fn done(&mut self, outcome: &'static str, done: Done) {
        self.outcome = outcome;
        (self.transfer, self.step) = (Some(done.transfer), Some(done.step.as_str()));
        self.held_ms = done.held.map(|held| u64::try_from(held.as_millis()).unwrap_or(u64::MAX));
        self.report = done.report;
        self.purged = (done.step == TransferStep::Purged).then(|| done.purged.iter().map(|(_, rows)| rows).sum());
    }

    /// Of what failed: what its record says by now, if it has one and the application database can be asked.
    fn ended_at(&mut self, record: Result<Option<Model>, Error>) {
        match record {
            Ok(record) => {
                if let Some(record) = record {
                    (self.transfer, self.step) = (Some(record.id), Some(record.step.as_str()));
                }
                self.left = self.left.with_record();
            }
            Err(_) => {
                self.step = Some("unknown");
                self.left = self.left.without_record();
            }
        }
    }

    /// Of a tenant whose turn had come, and of whom nothing was begun.
    pub(super) fn of_failure(tenant: Uuid, subdomain: String, error: &Error) -> Self {
        let mut report = Self::new(tenant, subdomain);
        report.failed(error);
        Self { left: Left::NotBegun, ..report }
    }

    fn failed(&mut self, error: &Error) {
        match error {
            Error::Transfer { source, .. } => {
                let (plan, report) = findings(source);
                if plan.is_some() {
                    self.outcome = "refused";
                }
                self.plan = plan;
                self.report = report;
                self.left = Left::of(source);
            }
            error => self.remedy = error.remedy(),
        }
        self.error = Some(with_causes(error));
    }
}

impl TransfersReport {
    /// Whether every tenant passed.
    pub fn passed(&self) -> bool {
        self.tenants.iter().all(TransferReport::passed)
    }
}

/// The plan or the report that an error carries.
fn findings(error: &TransferError) -> (Option<Plan>, Option<Report>) {
    match error {
        TransferError::Refused(plan) => (Some(plan.as_ref().clone()), None),
        TransferError::Different(report) => (None, Some(report.as_ref().clone())),
        TransferError::Failed { source, .. } => findings(source),
        _ => (None, None),
    }
}

/// Says what a transfer would copy and every reason why not. Changes nothing, but for the target's schema where it is to be
/// prepared. `M` is the application's tenant data migrator.
///
/// # Errors
/// [`Error`] where a database could not be asked. A refusal is no error: it is in the plan.
pub async fn plan_transfer<M: MigratorTrait>(
    tenantry: &Tenantry,
    tenant: Uuid,
    target: &TransferTarget,
    options: &Options,
    progress: &dyn Progress,
) -> Result<TransferPlan, Error> {
    let ends = Ends::decide(tenantry, tenant, target).await?;
    if ends.is_there() {
        let (notes, refusals) = ends.remarks(tenantry).await?;
        let (subdomain, target) = (ends.subdomain, ends.to.url);
        return Ok(TransferPlan { tenant, subdomain, target, already_placed: true, plan: None, notes, refusals });
    }
    // Of a file that is not there yet, a stand-in is asked: it refuses what the real one would.
    let missing = ends.to.url.sqlite_path().is_some_and(|path| !path.exists());
    let stand_in = if missing { Some(StandIn::make()?) } else { None };
    let open = match &stand_in {
        Some(stand_in) => ends.open_with::<M>(tenantry, stand_in).await?,
        None => {
            ends.to.prepare::<M>(tenantry, target.prepare).await?;
            ends.open(tenantry, options).await?
        }
    };
    let mut request = open.request(tenantry, &ends, &Actor::default(), options);
    request.data_source = ends.to.row(tenantry, target.kind).await?;
    let preview = request.preview(progress).await;
    open.close().await;
    let transfer = |source| Error::Transfer { tenant, source: Box::new(source) };
    let (already_placed, plan) = match preview.map_err(transfer)? {
        Preview::Copy(mut plan) => {
            plan.target.url = ends.to.url.to_string();
            (false, Some(*plan))
        }
        Preview::AlreadyPlaced { .. } => (true, None),
    };
    let (subdomain, target) = (ends.subdomain, ends.to.url);
    let (notes, refusals) = (Vec::new(), Vec::new());
    Ok(TransferPlan { tenant, subdomain, target, already_placed, plan, notes, refusals })
}

/// Moves a tenant to the target, or goes on with that. With a `plan`, only where everything still is what it was made against.
///
/// Cancel-safe as [`tenantry_transfer::Request::run`] is: run again, it continues.
///
/// # Errors
/// [`Error::UnknownTenant`], [`Error::Store`]. Whatever else goes wrong is in the report.
pub async fn run_transfer<M: MigratorTrait>(
    tenantry: &Tenantry,
    tenant: Uuid,
    target: &TransferTarget,
    plan: Option<&Plan>,
    options: &Options,
    actor: &Actor,
    progress: &dyn Progress,
) -> Result<TransferReport, Error> {
    let record = tenantry.app_db().placement(tenant).await?;
    let record = record.ok_or_else(|| Error::UnknownTenant(tenant.to_string()))?;
    let mut report = TransferReport::new(tenant, record.subdomain);
    let before = latest(tenantry, tenant).await?.map(|transfer| transfer.id);
    if let Err(error) = run::<M>(tenantry, tenant, target, plan, (options, actor, progress), &mut report).await {
        report.failed(&error);
        let begun = |transfer: &Model| Some(transfer.id) != before || transfer.step.is_under_way();
        report.ended_at(latest(tenantry, tenant).await.map(|latest| latest.filter(begun)));
    }
    tenantry.manager().clear_tenant(tenant).await;
    Ok(report)
}

/// Moves many tenants to the target, at most `concurrency` at a time, and goes on past whatever goes wrong with one of them, which
/// is in its entry. `watch` is asked once for each tenant, when its turn has come.
///
/// Cancel-safe as [`run_transfer`] is: run again, it goes on with those whose transfer was begun.
pub async fn run_transfers<M: MigratorTrait>(
    tenantry: &Tenantry,
    tenants: &[Uuid],
    target: &TransferTarget,
    concurrency: usize,
    options: &Options,
    actor: &Actor,
    watch: impl Fn(Uuid) -> Arc<dyn Progress>,
) -> TransfersReport {
    let run = |(place, tenant): (usize, Uuid)| {
        let progress = watch(tenant);
        async move {
            let done = run_transfer::<M>(tenantry, tenant, target, None, options, actor, progress.as_ref()).await;
            // Who could not be looked up has no other name here.
            (place, done.unwrap_or_else(|error| TransferReport::of_failure(tenant, tenant.to_string(), &error)))
        }
    };
    // Who is done makes room for the next one, whatever those before them take.
    let done = stream::iter(tenants.iter().copied().enumerate()).map(run).buffer_unordered(concurrency.max(1));
    let mut done: Vec<(usize, TransferReport)> = done.collect().await;
    done.sort_by_key(|(place, _)| *place);
    TransfersReport { tenants: done.into_iter().map(|(_, report)| report).collect() }
}

/// Resumes, aborts, rolls back or purges a transfer.
///
/// Cancel-safe: the same call goes on.
///
/// # Errors
/// [`Error::Store`] where its record could not be read. Whatever else goes wrong is in the report.
pub async fn continue_transfer(
    tenantry: &Tenantry,
    transfer: Uuid,
    action: TransferAction,
    options: &Options,
    actor: &Actor,
    progress: &dyn Progress,
) -> Result<TransferReport, Error> {
    let record = find_transfer(tenantry, transfer).await?;
    let subdomain = tenantry.app_db().tenant(record.tenant_id).await?.map(|tenant| tenant.subdomain);
    let mut report = TransferReport::new(record.tenant_id, subdomain.unwrap_or_default());
    report.transfer = Some(transfer);
    let tenant = record.tenant_id;
    if let Err(error) = act(tenantry, record, action, (options, actor, progress), &mut report).await {
        report.failed(&error);
        report.ended_at(tenantry.app_db().transfer(transfer).await.map_err(Error::from));
    }
    tenantry.manager().clear_tenant(tenant).await;
    Ok(report)
}

/// The recorded transfers, newest first: those of one tenant, or of all.
///
/// # Errors
/// [`Error::Store`].
pub async fn list_transfers(
    tenantry: &Tenantry,
    tenant: Option<Uuid>,
    limit: u64,
) -> Result<Vec<TransferStatus>, Error> {
    Ok(tenantry.app_db().transfers(tenant, limit).await?.into_iter().map(TransferStatus::of).collect())
}

/// One recorded transfer.
///
/// # Errors
/// [`Error::Store`], also where there is none of this id.
pub async fn transfer_status(tenantry: &Tenantry, transfer: Uuid) -> Result<TransferStatus, Error> {
    Ok(TransferStatus::of(find_transfer(tenantry, transfer).await?))
}

async fn latest(tenantry: &Tenantry, tenant: Uuid) -> Result<Option<Model>, Error> {
    Ok(tenantry.app_db().transfers(Some(tenant), 1).await?.pop())
}

async fn find_transfer(tenantry: &Tenantry, transfer: Uuid) -> Result<Model, Error> {
    let found = tenantry.app_db().transfer(transfer).await?;
    Ok(found.ok_or(tenantry_app_db::Error::UnknownTransfer { transfer })?)
}

impl TransferStatus {
    fn of(record: Model) -> Self {
        Self {
            reference_tables: record.reference_tables().unwrap_or_default(),
            id: record.id,
            tenant: record.tenant_id,
            step: record.step.as_str(),
            under_way: record.step.is_under_way(),
            run_until: record.held_until(),
            report: record.report.as_deref().and_then(|report| serde_json::from_str(report).ok()),
            source: record.source_url,
            target: record.target_url,
            undoes: record.undoes,
            tables: record.tables,
            records: record.records,
            held_since: record.held_since,
            held_ms: record.held_ms,
            problem: record.problem,
            created_at: record.created_at,
            updated_at: record.updated_at,
        }
    }
}

type How<'a> = (&'a Options, &'a Actor, &'a dyn Progress);

async fn run<M: MigratorTrait>(
    tenantry: &Tenantry,
    tenant: Uuid,
    target: &TransferTarget,
    plan: Option<&Plan>,
    (options, actor, progress): How<'_>,
    report: &mut TransferReport,
) -> Result<(), Error> {
    if options.interrupt.is_asked() {
        return Err(Error::Transfer { tenant, source: Box::new(TransferError::Interrupted) });
    }
    let ends = Ends::decide(tenantry, tenant, target).await?;
    (report.source, report.target) = (Some(ends.from.url.clone()), Some(ends.to.url.clone()));
    if ends.is_there() {
        // Placed, and then interrupted: it goes on.
        if let Some(open) = ends.unfinished(tenantry).await? {
            return act(tenantry, open, TransferAction::Resume, (options, actor, progress), report).await;
        }
        report.outcome = "already_placed";
        return Ok(());
    }
    ends.to.prepare::<M>(tenantry, target.prepare).await?;
    let open = ends.open(tenantry, options).await?;
    let mut request = open.request(tenantry, &ends, actor, options);
    request.data_source = ends.to.row(tenantry, target.kind).await?;
    let outcome = match plan {
        Some(plan) => request.apply(plan, progress).await,
        None => request.run(progress).await,
    };
    open.close().await;
    match outcome.map_err(|source| Error::Transfer { tenant, source: Box::new(source) })? {
        Outcome::Placed(done) => {
            let outcome = if done.step == TransferStep::Aborted { "aborted" } else { "moved" };
            report.done(outcome, done);
        }
        Outcome::AlreadyPlaced { report: found, .. } => {
            report.outcome = "already_placed";
            report.report = Some(found);
        }
    }
    Ok(())
}

async fn act(
    tenantry: &Tenantry,
    record: Model,
    action: TransferAction,
    (options, actor, progress): How<'_>,
    report: &mut TransferReport,
) -> Result<(), Error> {
    let tenant = record.tenant_id;
    let failed = |source| Error::Transfer { tenant, source: Box::new(source) };
    let from = Place::stored(tenantry, tenant, record.source()?)?;
    let to = Place::stored(tenantry, tenant, record.target()?)?;
    (report.source, report.target) = (Some(from.url.clone()), Some(to.url.clone()));
    let parallel = options.parallel;
    let open = Open { from: from.pool(tenantry, parallel).await?, to: to.pool(tenantry, parallel).await? };
    let transfer = Transfer {
        app_db: tenantry.app_db(),
        record,
        source: from.endpoint(tenantry, &open.from),
        target: to.endpoint(tenantry, &open.to),
        actor: actor.clone(),
        // Processes that hear nothing ask so often where their tenants are.
        options: Options { settle: options.settle.max(tenantry.settings().placement_poll), ..options.clone() },
    };
    let done = match action {
        TransferAction::Resume => transfer.resume(progress).await.map_err(failed),
        TransferAction::Abort => transfer.abort(progress).await.map_err(failed),
        TransferAction::RollBack => transfer.rollback(progress).await.map_err(failed),
        TransferAction::Purge => purge_where_it_is(tenantry, &transfer, progress).await,
    };
    open.close().await;
    let done = done?;
    let outcome = match (action, done.step) {
        (_, TransferStep::Aborted) => "aborted",
        (TransferAction::RollBack, _) => "returned",
        (TransferAction::Purge, _) => "purged",
        _ => "moved",
    };
    report.done(outcome, done);
    Ok(())
}

/// The tenant may have moved on since: what was kept is compared with where it is now.
async fn purge_where_it_is(
    tenantry: &Tenantry,
    transfer: &Transfer<'_>,
    progress: &dyn Progress,
) -> Result<Done, Error> {
    let tenant = transfer.record.tenant_id;
    let record = tenantry.app_db().placement(tenant).await?;
    let record = record.ok_or_else(|| Error::UnknownTenant(tenant.to_string()))?;
    let current = Place::current(tenantry, &record)?;
    let pool = current.pool(tenantry, transfer.options.parallel).await?;
    let done = purge(transfer, &current.endpoint(tenantry, &pool), progress).await;
    pool.close().await;
    done.map_err(|source| Error::Transfer { tenant, source: Box::new(source) })
}
