//! Takes one tenant out of the single database.
//!
//! ```text
//!            ┌──────────────── a failure before the cutover: lower the fence ────────────────┐
//!            ▼                                                                              │
//! single database ──plan──▶ planned ──raise fence──▶ fenced ──copy──▶ copied ──verify──▶ verified
//!                                                      │                                    │
//!                            a crash: still fenced; ◀──┘                                    │ place (epoch)
//!                            the next run goes on                                           ▼
//!                                                                    placed: the source stays, fenced, until it is purged
//! ```
//!
//! Where the source is the application database itself nothing is different: its own tables are not tenant tables, and the
//! fence stands beside them. Nobody is held but this tenant, whose users go on reading throughout. There is one exception: the
//! first split of a single database puts the fence's triggers on its tables, and PostgreSQL makes a new trigger wait for
//! every open writer of its table, and later writers wait behind it. It gives up at the deadline.

use std::future::Future;

use tenantry_app_db::{AppDb, NewPlacement, PlacementRecord};
use tenantry_connection::{Actor, DataSourceUrl};
use tenantry_realm::TenantKey;
use uuid::Uuid;

use crate::{
    Endpoint, Error, FenceAfter, Options, Plan, Prepared, Progress, Refusal, Report, Side, Step,
    copy::{Copying, copy},
    fence,
    guard::Guard,
    plan, prepare, verify,
    verify::compare_all,
};

/// A split, or the rollback of one: one tenant, both ends, and what the application database is to say afterwards.
#[derive(Clone)]
pub struct Split<'a> {
    /// The application database.
    pub app_db: &'a AppDb,
    /// The tenant, as the application database knows it.
    pub tenant: Uuid,
    /// The single database. Its tenant id is usually the tenant's own.
    pub source: Endpoint,
    /// The tenant's data source to be, and the tenant's id there.
    pub target: Endpoint,
    /// The epoch of the placement that this was decided on. For a rollback, that of the placement to be given up.
    pub expected_epoch: i64,
    /// Where the tenant is to live: the target's URL, its sealed logins, and the tenant's id there where it differs.
    pub placement: NewPlacement,
    /// Who asked for it.
    pub actor: Actor,
    /// Deadlines and limits.
    pub options: Options,
}

/// What a split came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The tenant was moved: every row was found equal on both sides before its placement changed.
    Placed {
        /// The epoch of its new placement.
        epoch: i64,
        /// What was found on both sides.
        report: Report,
    },
    /// The tenant had been moved before; both sides were only compared. Rows written since the cutover show as extra or
    /// different, which is no fault.
    AlreadyPlaced {
        /// The epoch of its placement.
        epoch: i64,
        /// What was found on both sides.
        report: Report,
    },
}

/// What a split would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Preview {
    /// It would copy this, or refuse for the reasons in it.
    Copy(Box<Plan>),
    /// The tenant has been moved already: it would only compare both sides.
    AlreadyPlaced {
        /// The epoch of its placement.
        epoch: i64,
    },
}

/// Where a tenant is, seen from a split.
pub(crate) enum Position {
    /// In the single database.
    Single(Box<PlacementRecord>),
    /// At the target.
    Target(Box<PlacementRecord>),
    /// Somewhere else.
    Elsewhere(Box<PlacementRecord>),
}

/// Says what [`split`] would do, and refuses exactly what it would refuse. Changes nothing.
///
/// # Errors
/// [`Error::Request`], [`Error::UnknownTenant`], or a failure of a database. A refusal is no error: it is in the plan.
pub async fn dry_run(split: &Split<'_>, progress: &dyn Progress) -> Result<Preview, Error> {
    split.check()?;
    progress.step(Step::Plan);
    match split.position().await? {
        Position::Target(record) => Ok(Preview::AlreadyPlaced { epoch: record.epoch }),
        position => Ok(Preview::Copy(Box::new(split.plan(&position, progress).await?.plan))),
    }
}

/// Compares both sides and changes nothing, at any time before or after.
///
/// # Errors
/// [`Error::Request`] or a failure of a database. That the sides differ is no error: it is in the report.
pub async fn verify_split(split: &Split<'_>, progress: &dyn Progress) -> Result<Report, Error> {
    split.check()?;
    progress.step(Step::Verify);
    verify(&split.source, &split.target, &split.options, progress).await
}

/// Moves the tenant, or, where it has been moved already, compares both sides.
///
/// Dropping the future leaves what a crash would: at worst a raised fence and copied rows that nobody is routed to. Running it
/// again goes on from there.
///
/// # Errors
/// [`Error::Refused`] with every reason, before anything was touched. [`Error::Failed`] with the step and what became of the
/// fence; the tenant is where it was. [`Error::Busy`] while another run is under way.
pub async fn split(split: &Split<'_>, progress: &dyn Progress) -> Result<Outcome, Error> {
    split.check()?;
    if let Position::Target(record) = split.position().await? {
        return split.already_placed(record.epoch, progress).await;
    }
    let mut guard = Guard::take(&split.source).await?;
    // Asked again under the lock: another run may just have ended.
    let outcome = match split.position().await? {
        Position::Target(record) => split.already_placed(record.epoch, progress).await,
        position => split.run(&position, &mut guard, progress).await,
    };
    guard.release().await;
    outcome
}

impl Split<'_> {
    /// Whether the request's parts say the same.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let problem = |problem: String| Err(Error::Request { problem });
        match &self.placement.url {
            Some(url) if url == self.target.pool.url() => {}
            other => {
                let other = other.as_ref().map_or("no data source".to_owned(), ToString::to_string);
                return problem(format!("the placement names {other}, the target is {}", self.target.pool.url()));
            }
        }
        if !is_same_id(&self.target.tenant, &self.id_in_target(self.placement.tenant_id_in_data_source.as_deref())) {
            return problem(format!(
                "the placement gives the tenant the id {}, the target the id {}",
                self.id_in_target(self.placement.tenant_id_in_data_source.as_deref()),
                self.target.tenant
            ));
        }
        Ok(())
    }

    fn id_in_target(&self, mapped: Option<&str>) -> String {
        mapped.map_or_else(|| self.tenant.to_string(), str::to_owned)
    }

    /// Where the tenant is now.
    pub(crate) async fn position(&self) -> Result<Position, Error> {
        let record =
            self.app_db.placement(self.tenant).await.map_err(Error::app_db("reading the tenant's placement"))?;
        let record = Box::new(record.ok_or(Error::UnknownTenant { tenant: self.tenant })?);
        let is_target = |url: &String| url.parse::<DataSourceUrl>().is_ok_and(|url| url == *self.target.pool.url());
        let mapped = || self.id_in_target(record.tenant_id_in_data_source.as_deref());
        Ok(match &record.url {
            None => Position::Single(record),
            Some(url) if is_target(url) && is_same_id(&self.target.tenant, &mapped()) => Position::Target(record),
            Some(_) => Position::Elsewhere(record),
        })
    }

    /// The plan, and what the application database has against it.
    async fn plan(&self, position: &Position, progress: &dyn Progress) -> Result<Prepared, Error> {
        let mut prepared = prepare(&self.source, &self.target, &self.options, progress).await?;
        let plan = &mut prepared.plan;
        let record = match position {
            Position::Single(record) | Position::Target(record) => record,
            Position::Elsewhere(record) => {
                plan.refusals.push(Refusal::PlacedElsewhere { url: record.url.clone().unwrap_or_default() });
                record
            }
        };
        if record.epoch != self.expected_epoch {
            plan.refusals.push(Refusal::Moved { expected: self.expected_epoch, found: record.epoch });
        }
        if let Err(error) = self.placement.check(self.tenant) {
            plan.refusals.push(Refusal::Placement { problem: error.to_string() });
        }
        self.neighbours(plan).await?;
        Ok(prepared)
    }

    /// Whether another tenant is in the way at the target. The placement itself asks again, in its own transaction.
    async fn neighbours(&self, plan: &mut Plan) -> Result<(), Error> {
        const DOING: &str = "looking who else is at the target";
        let target = self.target.pool.url();
        let tenants = self.app_db.tenants().await.map_err(Error::app_db(DOING))?;
        let data_source = self.app_db.data_source(target).await.map_err(Error::app_db(DOING))?;
        let for_one = data_source.is_some_and(|source| source.kind != tenantry_app_db::entities::SourceKind::Shared);
        for other in tenants.iter().filter(|other| other.id != self.tenant) {
            let url = other.data_source_url.as_deref().and_then(|url| url.parse::<DataSourceUrl>().ok());
            if url.as_ref() != Some(target) {
                continue;
            }
            let id = other.tenant_id_in_data_source.clone().unwrap_or_else(|| other.id.to_string());
            if for_one {
                plan.refusals.push(Refusal::DataSourceTaken { tenant: other.subdomain.clone() });
            }
            if is_same_id(&self.target.tenant, &id) {
                plan.refusals.push(Refusal::TenantIdTaken { tenant: other.subdomain.clone() });
            }
        }
        Ok(())
    }

    async fn already_placed(&self, epoch: i64, progress: &dyn Progress) -> Result<Outcome, Error> {
        // A crash between the cutover and this leaves the fence of an earlier rollback standing; so does a rollback that
        // died before it had changed anything.
        self.open_target().await?;
        let report = verify_split(self, progress).await?;
        Ok(Outcome::AlreadyPlaced { epoch, report })
    }

    async fn run(&self, position: &Position, guard: &mut Guard, progress: &dyn Progress) -> Result<Outcome, Error> {
        progress.step(Step::Plan);
        let planned = self.plan(position, progress).await?.accepted()?.plan;

        progress.step(Step::Fence);
        let reason = fence::reason("split to", &self.target);
        let raised = async {
            fence::install(&self.source, &self.unfenced().await?, self.options.fence_deadline).await?;
            fence::raise(Side::Source, &self.source, &reason, self.options.fence_deadline).await
        };
        // A fence that seems not raised may be: its commit may have been lost on the way back. Lowering harms nobody.
        self.held(Step::Fence, guard, raised).await?;

        let copying = self.held(Step::Copy, guard, async {
            // Again, now that nobody writes: what was fine a moment ago need not be any more.
            let prepared = self.plan(position, &crate::Unwatched).await?.accepted()?;
            prepared.is_of(&planned)?;
            progress.step(Step::Copy);
            let copying = Copying { atomic: true, clear: false };
            let copied = copy(&self.source, &self.target, &prepared, copying, &self.options, progress).await?;
            Ok((prepared.structure, copied))
        });
        let (structure, copied) = copying.await?;

        let verifying = self.held(Step::Verify, guard, async {
            progress.step(Step::Verify);
            let report = compare_all(&self.source, &self.target, &structure, &self.options, progress).await?;
            let report = report.with_copied(&copied);
            if report.agrees() { Ok(report) } else { Err(Error::Different(Box::new(report))) }
        });
        let report = verifying.await?;

        progress.step(Step::CutOver);
        let alone = guard.check().await;
        self.held(Step::CutOver, guard, async { alone }).await?;
        let placed = self.app_db.place(self.tenant, self.expected_epoch, &self.placement, &self.actor).await;
        let epoch = match placed {
            Ok(epoch) => epoch,
            Err(source) => self.doubtful(source, guard).await?,
        };
        self.open_target().await.map_err(|source| {
            let reason = "at the target only, by an earlier rollback; the tenant has been placed there".to_owned();
            Error::Failed { step: Step::CutOver, fence: FenceAfter::Raised { reason }, source: Box::new(source) }
        })?;
        Ok(Outcome::Placed { epoch, report })
    }

    async fn unfenced(&self) -> Result<Vec<String>, Error> {
        let (mut from, mut to) = (self.source.snapshot().await?, self.target.snapshot().await?);
        let (structure, _) = plan::read_structure(&self.source, &self.target, &mut from, &mut to).await?;
        Ok(structure.source.unfenced)
    }

    /// Runs a step while the fence is raised, and lowers it when the step fails.
    async fn held<T>(
        &self,
        step: Step,
        guard: &mut Guard,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        match work.await {
            Ok(done) => Ok(done),
            Err(source) => {
                let fence = self.give_up(guard).await;
                Err(Error::Failed { step, fence, source: Box::new(source) })
            }
        }
    }

    /// Lowers the source's fence again, unless the tenant turns out to be placed elsewhere.
    async fn give_up(&self, guard: &mut Guard) -> FenceAfter {
        if guard.check().await.is_err() {
            return FenceAfter::Raised { reason: "the lock was lost, so another run may rely on it by now".to_owned() };
        }
        match self.position().await {
            Ok(Position::Single(record)) if record.epoch == self.expected_epoch => {}
            Ok(_) => return FenceAfter::Raised { reason: "the tenant's placement has changed meanwhile".to_owned() },
            Err(error) => {
                return FenceAfter::Raised { reason: format!("the tenant's placement could not be read: {error}") };
            }
        }
        match fence::lower(Side::Source, &self.source, self.options.fence_deadline).await {
            Ok(()) => FenceAfter::Lowered,
            // Without a fence table the fence was never installed.
            Err(error) => match self.is_fenced().await {
                Ok(false) => FenceAfter::NotRaised,
                _ => FenceAfter::Raised { reason: format!("it could not be lowered: {error}") },
            },
        }
    }

    async fn is_fenced(&self) -> Result<bool, Error> {
        let mut snapshot = self.source.snapshot().await?;
        Ok(fence::state(&mut snapshot, &self.source.tenant).await?.is_some())
    }

    /// The placement was not confirmed. A commit whose answer was lost may have happened, or may still be about to: setting
    /// the placement that was there once more, against the same epoch, waits for it and then tells.
    async fn doubtful(&self, source: tenantry_app_db::Error, guard: &mut Guard) -> Result<i64, Error> {
        let failed = Error::AppDb { doing: "changing the tenant's placement", source };
        let unknown =
            |error: &Error| FenceAfter::Raised { reason: format!("whether it was placed is not known: {error}") };
        let fence = match self.position().await {
            Ok(Position::Single(record)) => {
                let same = NewPlacement {
                    url: None,
                    anon_key: record.anon_key.clone(),
                    service_key: record.service_key.clone(),
                    region: record.region.clone(),
                    tenant_id_in_data_source: record.tenant_id_in_data_source.clone(),
                    notes: None,
                };
                let again = self.app_db.place(self.tenant, self.expected_epoch, &same, &self.actor).await;
                match (again, self.position().await) {
                    (_, Ok(Position::Target(record))) => return Ok(record.epoch),
                    (Ok(_), Ok(Position::Single(_))) => self.give_up(guard).await,
                    (Err(tenantry_app_db::Error::Moved { .. }), Ok(_)) => self.give_up(guard).await,
                    (Err(source), _) => unknown(&Error::AppDb { doing: "asking once more", source }),
                    (Ok(_), Ok(_)) => self.give_up(guard).await,
                    (Ok(_), Err(error)) => unknown(&error),
                }
            }
            Ok(Position::Target(record)) => return Ok(record.epoch),
            Ok(Position::Elsewhere(_)) => self.give_up(guard).await,
            Err(error) => unknown(&error),
        };
        Err(Error::Failed { step: Step::CutOver, fence, source: Box::new(failed) })
    }

    /// Lowers the target's fence where an earlier rollback left it.
    async fn open_target(&self) -> Result<(), Error> {
        let mut snapshot = self.target.snapshot().await?;
        let state = fence::state(&mut snapshot, &self.target.tenant).await?;
        snapshot.rollback().await.map_err(Error::database("ending a snapshot"))?;
        if state.is_some_and(|reason| fence::is_transfers(&reason)) {
            fence::lower(Side::Target, &self.target, self.options.fence_deadline).await?;
        }
        Ok(())
    }
}

/// Whether a text is this id. A uuid may be written in any of its forms.
fn is_same_id(id: &TenantKey, text: &str) -> bool {
    match id {
        TenantKey::Uuid(id) => Uuid::parse_str(text).is_ok_and(|text| text == *id),
        TenantKey::BigInt(id) => text.parse() == Ok(*id),
        TenantKey::Text(id) => text == id,
    }
}
