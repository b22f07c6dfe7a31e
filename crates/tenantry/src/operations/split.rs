//! `migrate-tenant-data`: takes tenants out of the single database that the application database was, each into its data
//! source. What it means to copy, verify and cut over is `tenantry-transfer`'s; here is decided from where to where.

use sea_orm_migration::MigratorTrait;
use serde::Serialize;
use tenantry_app_db::{
    PlacementRecord,
    entities::{TransferStep, transfers::Model},
};
use tenantry_connection::{Actor, DataSourceUrl};
use tenantry_transfer::{Options, Plan, Progress, Report};
use uuid::Uuid;

use super::{
    place::Place,
    transfers::{
        Ends, TransferAction, TransferReport, TransferTarget, came_to, continue_transfer, plan_transfer, run_transfer,
    },
};
use crate::{Error, Tenantry};

/// What to do with the tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitAction {
    /// Say what would be copied and every reason not to; change nothing.
    DryRun,
    /// Copy, verify and place the tenant; where it is placed already, only verify.
    Run,
    /// Compare every row of both sides; change nothing.
    Verify,
    /// Back to the single database, with what was written since; what was begun and not cut over is taken back.
    Rollback,
}

/// What came of one tenant.
#[derive(Debug, Clone, Serialize)]
pub struct TenantSplit {
    /// The tenant.
    pub tenant: Uuid,
    /// Its subdomain.
    pub subdomain: String,
    /// The data source.
    pub target: Option<DataSourceUrl>,
    /// What was done: `would_copy`, `placed`, `already_placed`, `verified`, `rolled_back`, `refused` or `failed`.
    pub outcome: &'static str,
    /// What would be copied, of a dry run or a refusal.
    pub plan: Option<Plan>,
    /// What was found on both sides.
    pub report: Option<Report>,
    /// Rows deleted from the target by a rollback.
    pub purged: Option<u64>,
    /// What went wrong, with its causes.
    pub error: Option<String>,
    /// What to do about it, where the error does not say it. What a transfer found is mended where it was found.
    pub remedy: Option<String>,
}

/// What came of all tenants.
#[derive(Debug, Clone, Serialize)]
pub struct SplitReport {
    /// What was to be done.
    pub action: SplitAction,
    /// One entry per tenant.
    pub tenants: Vec<TenantSplit>,
}

impl TenantSplit {
    /// Whether it was done and nothing was found wrong. A tenant that was placed before and has been written to since
    /// differs from the source it left; only an explicit verification calls that a finding.
    pub fn passed(&self) -> bool {
        match self.outcome {
            "placed" | "verified" => self.report.as_ref().is_some_and(Report::agrees),
            outcome => matches!(outcome, "would_copy" | "already_placed" | "rolled_back") && self.error.is_none(),
        }
    }
}

impl SplitReport {
    /// Whether every tenant passed.
    pub fn passed(&self) -> bool {
        self.tenants.iter().all(TenantSplit::passed)
    }
}

/// Splits the given tenants off, one after the other, and goes on past whatever goes wrong with one of them, which is in its entry.
/// `M` is the application's tenant data migrator.
///
/// Cancel-safe as [`tenantry_transfer::Request::run`] is: run again, it continues.
pub async fn split_tenants<M: MigratorTrait>(
    tenantry: &Tenantry,
    tenants: &[Uuid],
    target: &TransferTarget,
    action: SplitAction,
    actor: &Actor,
    progress: &dyn Progress,
) -> SplitReport {
    let mut report = SplitReport { action, tenants: Vec::new() };
    for tenant in tenants {
        let mut entry = TenantSplit {
            tenant: *tenant,
            // Who cannot be looked up has no other name here.
            subdomain: tenant.to_string(),
            target: None,
            outcome: "failed",
            plan: None,
            report: None,
            purged: None,
            error: None,
            remedy: None,
        };
        if let Err(error) = act::<M>(tenantry, *tenant, target, action, actor, progress, &mut entry).await {
            entry.done(TransferReport::of_failure(*tenant, entry.subdomain.clone(), &error), "failed");
        }
        tenantry.manager().clear_tenant(*tenant).await;
        report.tenants.push(entry);
    }
    report
}

impl TenantSplit {
    fn done(&mut self, report: TransferReport, outcome: &'static str) {
        self.outcome = match report.outcome {
            "refused" | "failed" | "already_placed" => report.outcome,
            _ => outcome,
        };
        self.target = self.target.take().or(report.target);
        (self.plan, self.report, self.purged) = (report.plan, report.report, report.purged);
        (self.error, self.remedy) = (report.error, report.remedy);
    }
}

async fn act<M: MigratorTrait>(
    tenantry: &Tenantry,
    tenant: Uuid,
    wanted: &TransferTarget,
    action: SplitAction,
    actor: &Actor,
    progress: &dyn Progress,
    entry: &mut TenantSplit,
) -> Result<(), Error> {
    let record = tenantry.app_db().placement(tenant).await?;
    let record = &record.ok_or_else(|| Error::UnknownTenant(tenant.to_string()))?;
    entry.subdomain.clone_from(&record.subdomain);
    let options = Options::default();
    let open = tenantry.app_db().transfer_under_way(tenant).await?;
    if let Some(url) = &record.url {
        entry.target = Some(DataSourceUrl::parse(url)?);
    }
    match (action, &record.url, open) {
        (SplitAction::Run | SplitAction::DryRun, Some(_), Some(open)) => {
            let here = Place::current(tenantry, record)?;
            let open = came_to(open, here.url.as_str(), &here.key.to_string())?;
            // Cut over, and then interrupted.
            if action == SplitAction::DryRun {
                entry.outcome = "already_placed";
            } else {
                let resume = TransferAction::Resume;
                entry.done(continue_transfer(tenantry, open.id, resume, &options, actor, progress).await?, "placed");
            }
        }
        (SplitAction::DryRun, Some(_), None) => entry.outcome = "already_placed",
        (SplitAction::Run, Some(_), None) => {
            entry.report = Some(compare(tenantry, record, wanted, progress).await?);
            entry.outcome = "already_placed";
        }
        (SplitAction::Verify, ..) => {
            entry.report = Some(compare(tenantry, record, wanted, progress).await?);
            entry.outcome = "verified";
        }
        (SplitAction::DryRun, None, _) => {
            // A dry run changes no schema either.
            let wanted = TransferTarget { prepare: false, ..wanted.clone() };
            let planned = plan_transfer::<M>(tenantry, tenant, &wanted, &options, progress).await?;
            let refused = planned.plan.as_ref().is_some_and(|plan| !plan.refusals.is_empty());
            entry.outcome = if refused { "refused" } else { "would_copy" };
            (entry.target, entry.plan) = (Some(planned.target), planned.plan);
        }
        (SplitAction::Run, None, _) => {
            let done = run_transfer::<M>(tenantry, tenant, wanted, None, &options, actor, progress).await?;
            entry.done(done, "placed");
        }
        (SplitAction::Rollback, None, Some(open)) => {
            // A rollback that was interrupted after its cutover goes on; anything else is taken back.
            let placed = open.step == TransferStep::Placed;
            let action = if placed { TransferAction::Resume } else { TransferAction::Abort };
            entry.done(continue_transfer(tenantry, open.id, action, &options, actor, progress).await?, "rolled_back");
        }
        // It is where it belongs: a rollback that is run again has nothing left to do.
        (SplitAction::Rollback, None, None) => entry.outcome = "rolled_back",
        (SplitAction::Rollback, Some(url), _) => {
            let transfers = tenantry.app_db().transfers(Some(tenant), u64::MAX).await?;
            let came = |transfer: &&Model| {
                transfer.source_url.is_none()
                    && transfer.target_url.as_ref() == Some(url)
                    && matches!(transfer.step, TransferStep::Finished | TransferStep::Placed)
            };
            let transfer = transfers.iter().find(came).ok_or(Error::NothingToRollBack(tenant))?;
            let back = TransferAction::RollBack;
            let done = continue_transfer(tenantry, transfer.id, back, &options, actor, progress).await?;
            entry.done(done, "rolled_back");
        }
    }
    Ok(())
}

/// Every row of the single database and of where the tenant is, or shall be.
async fn compare(
    tenantry: &Tenantry,
    record: &PlacementRecord,
    wanted: &TransferTarget,
    progress: &dyn Progress,
) -> Result<Report, Error> {
    let from = Place::single(tenantry, record.tenant)?;
    let to = match record.url {
        Some(_) => Place::current(tenantry, record)?,
        None => Place::wanted(tenantry, record, wanted)?,
    };
    let ends = Ends::of(record.tenant, record.subdomain.clone(), record.epoch, from, to);
    let open = ends.open(tenantry, &Options::default()).await?;
    let report = open.request(tenantry, &ends, &Actor::default(), &Options::default()).verify(progress).await;
    open.close().await;
    report.map_err(|source| Error::Transfer { tenant: record.tenant, source: Box::new(source) })
}
