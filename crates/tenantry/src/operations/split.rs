//! `migrate-tenant-data`: takes tenants out of the single database that the application database was, each into its data
//! source. What it means to copy, verify and cut over is `tenantry-transfer`'s; here is decided from where to where.

use sea_orm_migration::MigratorTrait;
use serde::Serialize;
use tenantry_app_db::{NewDataSource, NewPlacement, PlacementRecord, entities::SourceKind};
use tenantry_connection::{Actor, DataSourceUrl, Engine, Pool};
use tenantry_credential::Login;
use tenantry_data_source::with_causes;
use tenantry_realm::TenantKey;
use tenantry_transfer::{
    Endpoint, Error as TransferError, Options, Outcome, Plan, Progress, Report, RolledBack, Split, dry_run, rollback,
    split, split::Preview, verify_split,
};
use uuid::Uuid;

use super::{
    create_tenant::{Logins, claim_file, default_data_source, remove_database_file, seal},
    databases::{data_source_pool, operation_pool},
    migrate::{prepare_data_source, tenant_data_settings},
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
    /// Back to the single database, while nothing was written since.
    Rollback,
}

/// Where tenants go.
#[derive(Debug, Clone, Default)]
pub struct SplitTarget {
    /// The data source; the default one where none is given. A tenant that is placed already stays where it is.
    pub data_source: Option<(DataSourceUrl, Option<Logins>)>,
    /// Whom the data source serves; what its row says, or `shared`, where none is given. An SQLite file serves one tenant.
    pub kind: Option<SourceKind>,
    /// Bring the target's schema up to date first. A missing SQLite file is always made.
    pub prepare: bool,
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

/// Splits the given tenants off, one after the other, and goes on past one tenant's failure. `M` is the application's tenant
/// data migrator.
///
/// Cancel-safe as [`tenantry_transfer::split()`] is: run again, it continues.
///
/// # Errors
/// [`Error::Store`] when the tenants could not be read. A tenant's own failure is in its entry.
pub async fn split_tenants<M: MigratorTrait>(
    tenantry: &Tenantry,
    tenants: &[Uuid],
    target: &SplitTarget,
    action: SplitAction,
    actor: &Actor,
    progress: &dyn Progress,
) -> Result<SplitReport, Error> {
    let mut report = SplitReport { action, tenants: Vec::new() };
    for tenant in tenants {
        let record = tenantry.app_db().placement(*tenant).await?;
        let record = record.ok_or_else(|| Error::UnknownTenant(tenant.to_string()))?;
        let mut entry = TenantSplit {
            tenant: *tenant,
            subdomain: record.subdomain.clone(),
            target: None,
            outcome: "failed",
            plan: None,
            report: None,
            purged: None,
            error: None,
            remedy: None,
        };
        if let Err(error) = run::<M>(tenantry, record, target, action, actor, progress, &mut entry).await {
            entry.record(error);
        }
        tenantry.manager().clear_tenant(*tenant).await;
        report.tenants.push(entry);
    }
    Ok(report)
}

impl TenantSplit {
    fn record(&mut self, error: Error) {
        if !matches!(error, Error::Transfer { .. }) {
            self.remedy = error.remedy();
        }
        if let Error::Transfer { source, .. } = &error {
            match source.as_ref() {
                TransferError::Refused(plan) => {
                    self.outcome = "refused";
                    self.plan = Some(plan.as_ref().clone());
                }
                TransferError::Different(report) | TransferError::WrittenSince(report) => {
                    self.report = Some(report.as_ref().clone());
                }
                TransferError::Failed { source, .. } => {
                    if let TransferError::Different(report) | TransferError::WrittenSince(report) = source.as_ref() {
                        self.report = Some(report.as_ref().clone());
                    }
                }
                _ => {}
            }
        }
        self.error = Some(with_causes(&error));
    }
}

async fn run<M: MigratorTrait>(
    tenantry: &Tenantry,
    record: PlacementRecord,
    wanted: &SplitTarget,
    action: SplitAction,
    actor: &Actor,
    progress: &dyn Progress,
    entry: &mut TenantSplit,
) -> Result<(), Error> {
    let tenant = record.tenant;
    let destination = Destination::of(tenantry, &record, wanted).await?;
    entry.target = Some(destination.url.clone());
    // A dry run against a file that is not there yet is made against a stand-in: it refuses what the real run would.
    let stand_in = match (action, destination.url.sqlite_path()) {
        (SplitAction::DryRun, Some(path)) if !path.exists() => Some(StandIn::make()?),
        _ => None,
    };
    let url = stand_in.as_ref().map_or(&destination.url, |stand_in| &stand_in.url);
    let missing_file = action == SplitAction::Run && url.sqlite_path().is_some_and(|path| !path.exists());
    if missing_file {
        claim_file(url)?;
    }
    let pool = data_source_pool(tenantry, url, destination.service.as_ref(), stand_in.is_some()).await?;
    if stand_in.is_some() || missing_file || (wanted.prepare && action == SplitAction::Run) {
        let settings = tenant_data_settings(tenantry, destination.restricted.as_ref());
        let prepared = prepare_data_source::<M>(&pool, destination.service.as_ref(), &settings).await;
        if let (Err(_), true, Some(path)) = (&prepared, missing_file, url.sqlite_path()) {
            remove_database_file(path);
        }
        prepared?;
    }
    if action == SplitAction::Run && record.url.is_none() {
        note_data_source(tenantry, &destination, wanted.kind, actor).await?;
    }
    let source = operation_pool(
        tenantry,
        tenantry.app_db_pool().url(),
        tenantry.settings().application_database.login.as_ref(),
        false,
    )?;
    let request = destination.request(tenantry, &record, &source, &pool, actor)?;
    let done = act(&request, action, progress, entry).await;
    if let (Some(_), Some(plan), Some(url)) = (&stand_in, &mut entry.plan, &entry.target) {
        plan.target.url = url.to_string();
    }
    source.close().await;
    pool.close().await;
    done.map_err(|source| Error::Transfer { tenant, source: Box::new(source) })
}

async fn act(
    request: &Split<'_>,
    action: SplitAction,
    progress: &dyn Progress,
    entry: &mut TenantSplit,
) -> Result<(), TransferError> {
    match action {
        SplitAction::DryRun => match dry_run(request, progress).await? {
            Preview::Copy(plan) => {
                entry.outcome = if plan.refusals.is_empty() { "would_copy" } else { "refused" };
                entry.plan = Some(*plan);
            }
            Preview::AlreadyPlaced { .. } => entry.outcome = "already_placed",
        },
        SplitAction::Run => match split(request, progress).await? {
            Outcome::Placed { report, .. } => {
                entry.outcome = "placed";
                entry.report = Some(report);
            }
            Outcome::AlreadyPlaced { report, .. } => {
                entry.outcome = "already_placed";
                entry.report = Some(report);
            }
        },
        SplitAction::Verify => {
            entry.report = Some(verify_split(request, progress).await?);
            entry.outcome = "verified";
        }
        SplitAction::Rollback => {
            let RolledBack { report, purged, .. } = rollback(request, progress).await?;
            entry.purged = Some(purged.iter().map(|(_, rows)| rows).sum());
            entry.report = report;
            entry.outcome = "rolled_back";
        }
    }
    Ok(())
}

/// Where a tenant goes, or is.
struct Destination {
    url: DataSourceUrl,
    restricted: Option<Login>,
    service: Option<Login>,
    region: Option<String>,
    /// The sealed logins of a placement that is there already.
    sealed: Option<(Option<String>, Option<String>)>,
    tenant_id_in_data_source: Option<String>,
}

impl Destination {
    async fn of(tenantry: &Tenantry, record: &PlacementRecord, wanted: &SplitTarget) -> Result<Self, Error> {
        let tenant = record.tenant;
        if let Some(url) = &record.url {
            return Ok(Self {
                url: DataSourceUrl::parse(url)?,
                restricted: tenantry.manager().restricted_login(tenant).await?,
                service: tenantry.manager().service_login(tenant).await?,
                region: record.region.clone(),
                sealed: Some((record.anon_key.clone(), record.service_key.clone())),
                tenant_id_in_data_source: record.tenant_id_in_data_source.clone(),
            });
        }
        let (url, logins, region) = match &wanted.data_source {
            Some((url, logins)) => (url.clone(), logins.clone(), None),
            None => default_data_source(tenantry, tenant)?,
        };
        if url.engine() == Engine::Postgres && logins.is_none() {
            return Err(Error::NoLogins(url));
        }
        let (restricted, service) = match logins.filter(|_| url.engine() == Engine::Postgres) {
            Some(logins) => (Some(logins.restricted), Some(logins.service)),
            None => (None, None),
        };
        let tenant_id_in_data_source = record.tenant_id_in_data_source.clone();
        Ok(Self { url, restricted, service, region, sealed: None, tenant_id_in_data_source })
    }

    fn request<'a>(
        self,
        tenantry: &'a Tenantry,
        record: &PlacementRecord,
        source: &Pool,
        target: &Pool,
        actor: &Actor,
    ) -> Result<Split<'a>, Error> {
        let tenant = record.tenant;
        let settings = tenantry.settings();
        let (anon_key, service_key) = match (self.sealed, self.restricted, self.service) {
            (Some(sealed), ..) => sealed,
            (None, Some(restricted), Some(service)) => seal(tenantry, tenant, Some(&Logins { restricted, service }))?,
            (None, ..) => (None, None),
        };
        let key = match &self.tenant_id_in_data_source {
            Some(mapped) => TenantKey::parse(settings.tenant_key_type, mapped)?,
            None => TenantKey::Uuid(tenant),
        };
        let end = |pool: &Pool, tenant| Endpoint {
            pool: pool.clone(),
            tenant,
            tenant_column: settings.tenant_column.clone(),
        };
        Ok(Split {
            app_db: tenantry.app_db(),
            tenant,
            source: end(source, TenantKey::Uuid(tenant)),
            target: end(target, key),
            expected_epoch: record.epoch,
            placement: NewPlacement {
                url: Some(target.url().clone()),
                anon_key,
                service_key,
                region: self.region,
                tenant_id_in_data_source: self.tenant_id_in_data_source,
                notes: None,
            },
            actor: actor.clone(),
            options: Options::default(),
        })
    }
}

/// Notes whom the data source serves before the first tenant is placed there, so that a second one can be refused.
async fn note_data_source(
    tenantry: &Tenantry,
    destination: &Destination,
    kind: Option<SourceKind>,
    actor: &Actor,
) -> Result<(), Error> {
    let existing = tenantry.app_db().data_source(&destination.url).await?;
    let kind = match (kind, &existing, destination.url.engine()) {
        (Some(kind), ..) => kind,
        (None, Some(_), _) => return Ok(()),
        (None, None, Engine::Sqlite) => SourceKind::Dedicated,
        (None, None, Engine::Postgres) => SourceKind::Shared,
    };
    if existing.is_some_and(|existing| existing.kind == kind) {
        return Ok(());
    }
    let new = NewDataSource { kind, region: destination.region.clone(), ..NewDataSource::new(destination.url.clone()) };
    tenantry.app_db().upsert_data_source(&new, actor).await?;
    Ok(())
}

/// An empty file in a folder of its own, gone with this value.
struct StandIn {
    url: DataSourceUrl,
    folder: std::path::PathBuf,
}

impl StandIn {
    fn make() -> Result<Self, Error> {
        let folder = std::env::temp_dir().join(format!("tenantry-dry-run-{}", Uuid::new_v4()));
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
