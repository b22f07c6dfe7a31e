//! What is asked for: one tenant, both ends, and what the application database is to say afterwards. Decides whether there is
//! anything to do, and what has been begun already.

use sea_orm::{ColumnTrait, ExprTrait};
use tenantry_app_db::{
    AppDb, NewDataSource, NewPlacement, NewTransfer, PlacementRecord,
    entities::{SourceKind, TransferStep, tenants, transfers},
};
use tenantry_connection::{Actor, DataSourceUrl, Transaction};
use tenantry_realm::TenantKey;
use uuid::Uuid;

use super::{Done, Transfer, run::Run};
use crate::{
    Endpoint, Error, Note, Options, Plan, Progress, Refusal, Report, Step,
    plan::{Prepared, prepare, prepare_in},
    verify,
};

/// What the row of a data source shall say of it. Whatever else the row says stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceRow {
    /// The kind.
    pub kind: SourceKind,
    /// The kind that it replaces, as it was read; `None` where there was no row. Where the row says another one by then, the
    /// transfer is refused.
    pub before: Option<SourceKind>,
}

/// A transfer to be decided on.
#[derive(Clone)]
pub struct Request<'a> {
    /// The application database.
    pub app_db: &'a AppDb,
    /// The tenant, as the application database knows it.
    pub tenant: Uuid,
    /// Where its rows are, and its id there.
    pub source: Endpoint,
    /// Where they shall go, and its id there.
    pub target: Endpoint,
    /// The epoch of the placement that this was decided on.
    pub expected_epoch: i64,
    /// The placement that the tenant has: what a rollback sets again. Without a URL its rows are in the application database.
    pub from: NewPlacement,
    /// Where the tenant is to live: the target's URL, its sealed logins, and the tenant's id there where it differs.
    pub to: NewPlacement,
    /// What the target's row in `data_sources` shall say, where it has to be written: as soon as nothing stands against the
    /// transfer.
    pub data_source: Option<SourceRow>,
    /// Who asked for it.
    pub actor: Actor,
    /// Deadlines and limits.
    pub options: Options,
}

/// What a request came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The tenant was moved: every row was found equal on both sides before its placement changed.
    Placed(Done),
    /// The tenant had been moved before; both sides were only compared. Rows written since the cutover show as extra or
    /// different, which is no fault.
    AlreadyPlaced {
        /// The epoch of its placement.
        epoch: i64,
        /// What was found on both sides.
        report: Report,
    },
}

/// What a request would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Preview {
    /// It would copy this, or go on with what a note in it names, or refuse for the reasons in it.
    Copy(Box<Plan>),
    /// The tenant has been moved already: it would only compare both sides, or let the tenant's writes through where that is left.
    AlreadyPlaced {
        /// The epoch of its placement.
        epoch: i64,
    },
}

/// Where a tenant is, seen from a request.
enum Position {
    Source(Box<PlacementRecord>),
    Target(Box<PlacementRecord>),
    Elsewhere(Box<PlacementRecord>),
}

impl Request<'_> {
    /// Says what [`Request::run`] would do, and refuses exactly what it would refuse. Changes nothing.
    ///
    /// # Errors
    /// [`Error::Request`], [`Error::UnknownTenant`], or a failure of a database. A refusal is no error: it is in the plan.
    pub async fn preview(&self, progress: &dyn Progress) -> Result<Preview, Error> {
        self.check()?;
        progress.step(Step::Plan);
        let (open, position) = tokio::try_join!(self.under_way(), self.position())?;
        let own = open.as_ref().filter(|open| self.is_for(open));
        let in_the_way = open.as_ref().filter(|open| own.is_none() || open.held_until().is_some());
        if let (Position::Target(record), None) = (&position, in_the_way) {
            return Ok(Preview::AlreadyPlaced { epoch: record.epoch });
        }
        let undoes = own.and_then(|own| own.undoes);
        let mut plan = self.prepare(&position, undoes, None, progress).await?.plan;
        if let Some(own) = own {
            // Before it has fenced the target, whatever rows are there are somebody's.
            let copied = own.step != TransferStep::Planned;
            let is_own = |refusal: &Refusal| {
                refusal.is_of_transfer(own.id) && (copied || !matches!(refusal, Refusal::RowsInTarget { .. }))
            };
            plan.refusals.retain(|refusal| !is_own(refusal));
        }
        match (in_the_way, own) {
            (Some(open), _) => plan.refusals.insert(0, Refusal::under_way(open)),
            (None, Some(own)) => plan.notes.push(Note::goes_on(own)),
            (None, None) => {}
        }
        Ok(Preview::Copy(Box::new(plan)))
    }

    /// Compares both sides and changes nothing, at any time before or after.
    ///
    /// # Errors
    /// [`Error::Request`] or a failure of a database. That the sides differ is no error: it is in the report.
    pub async fn verify(&self, progress: &dyn Progress) -> Result<Report, Error> {
        self.check()?;
        progress.step(Step::Verify);
        verify(&self.source, &self.target, &self.options, progress).await
    }

    /// Moves the tenant. Where that was begun and not ended, it goes on; where it was done, both sides are compared.
    ///
    /// Dropping the future leaves what a crash would: at worst raised fences and copied rows that nobody is routed to. Running
    /// it again goes on from there.
    ///
    /// # Errors
    /// [`Error::Refused`] with every reason, before anything was touched. [`Error::Failed`] with the step and what became of
    /// the fence. [`Error::Busy`] while another run is under way, [`Error::UnderWay`] where the tenant is on its way elsewhere.
    pub async fn run(&self, progress: &dyn Progress) -> Result<Outcome, Error> {
        self.run_planned(None, progress).await
    }

    /// As [`Request::run`], but only where the databases still are what the plan was made against.
    ///
    /// # Errors
    /// As [`Request::run`]; [`Error::Request`] where the plan was made against something else.
    pub async fn apply(&self, plan: &Plan, progress: &dyn Progress) -> Result<Outcome, Error> {
        self.run_planned(Some(plan), progress).await
    }

    async fn run_planned(&self, planned: Option<&Plan>, progress: &dyn Progress) -> Result<Outcome, Error> {
        self.check()?;
        self.options.interrupt.check()?;
        let stop = &self.options.interrupt;
        let (open, mut begun) = tokio::join!(self.under_way(), self.begin_early());
        let mut open = open?;
        // What was given up is taken back first, and then it begins anew.
        while let Some(record) = open {
            begun = None;
            match self.go_on(record, progress).await? {
                // Where it has ended meanwhile, what it has come to is seen next.
                None => {}
                Some(Outcome::Placed(done)) if done.step == TransferStep::Aborted => {}
                Some(outcome) => return Ok(outcome),
            }
            open = self.under_way().await?;
        }
        let position = self.position().await?;
        if let Position::Target(record) = position {
            drop(begun);
            return self.already_placed(&record, progress).await;
        }
        progress.step(Step::Plan);
        let snapshots = begun.map(|(from, to)| Ok((from?, to?))).transpose()?;
        let prepared = stop.ends(self.prepare(&position, None, snapshots, progress)).await?;
        if let Some(planned) = planned {
            planned.must_be(&prepared.plan)?;
        }
        let prepared = match prepared.accepted() {
            Ok(prepared) => prepared,
            Err(refused) => return self.overtaken(refused, progress).await,
        };
        self.write_data_source().await?;
        match Run::begin(self, None, prepared, progress).await {
            Ok(run) => run.drive().await.map(Outcome::Placed),
            Err(error) => self.overtaken(error, progress).await,
        }
    }

    /// Logs in to both ends while the application database is asked: whoever has little to move waits for that longer than for most
    /// of the rest. Not where an end is the application database, whose pool may have no other connection to ask with.
    async fn begin_early(&self) -> Option<(Result<Transaction, Error>, Result<Transaction, Error>)> {
        let (ends, stop) = ([&self.source, &self.target], &self.options.interrupt);
        if ends.iter().any(|end| end.pool.url() == self.app_db.url()) {
            return None;
        }
        Some(tokio::join!(stop.ends(self.source.snapshot()), stop.ends(self.target.snapshot())))
    }

    async fn write_data_source(&self) -> Result<(), Error> {
        const DOING: &str = "writing the target's data source";
        let (Some(row), Some(url)) = (self.data_source, self.to.url.clone()) else { return Ok(()) };
        let found = self.app_db.data_source(&url).await.map_err(Error::app_db(DOING))?;
        let kind = found.as_ref().map(|found| found.kind);
        if kind == Some(row.kind) {
            return Ok(());
        }
        if kind != row.before {
            let problem = format!("the kind of data source {url} was changed since the plan was made; begin again");
            return Err(Error::Request { problem });
        }
        let direct = found.as_ref().and_then(|found| found.direct_url.as_deref()).map(DataSourceUrl::parse).transpose();
        let direct_url = direct.map_err(|error| {
            let problem = format!("the direct URL of data source {url} cannot be read, mend it there: {error}");
            Error::Request { problem }
        })?;
        let new = match found {
            None => NewDataSource { kind: row.kind, region: self.to.region.clone(), ..NewDataSource::new(url) },
            Some(found) => NewDataSource {
                region: found.region,
                kind: row.kind,
                pooler_mode: found.pooler_mode,
                direct_url,
                max_connections: found.max_connections,
                settings: found.settings,
                notes: found.notes,
                ..NewDataSource::new(url)
            },
        };
        self.app_db.upsert_data_source(&new, &self.actor).await.map(drop).map_err(Error::app_db(DOING))
    }

    /// What went wrong may have been another run, which was faster: it is under way, or has ended.
    async fn overtaken(&self, error: Error, progress: &dyn Progress) -> Result<Outcome, Error> {
        if let Some(open) = self.under_way().await? {
            match self.go_on(open, progress).await? {
                // It had failed, and was taken back: nothing was moved.
                Some(Outcome::Placed(done)) if done.step == TransferStep::Aborted => return Err(error),
                Some(outcome) => return Ok(outcome),
                None => {}
            }
        }
        match self.position().await? {
            Position::Target(record) => self.already_placed(&record, progress).await,
            _ => Err(error),
        }
    }

    async fn already_placed(&self, record: &PlacementRecord, progress: &dyn Progress) -> Result<Outcome, Error> {
        let report = self.options.interrupt.ends(self.verify(progress)).await?;
        Ok(Outcome::AlreadyPlaced { epoch: record.epoch, report })
    }

    async fn under_way(&self) -> Result<Option<transfers::Model>, Error> {
        self.app_db.transfer_under_way(self.tenant).await.map_err(Error::app_db("looking for transfers under way"))
    }

    /// Whether a transfer is what is asked for.
    fn is_for(&self, open: &transfers::Model) -> bool {
        let is = |url: &Option<String>, end: &Endpoint| match url {
            Some(url) => DataSourceUrl::parse(url).is_ok_and(|url| url == *end.pool.url()),
            None => self.app_db.url() == end.pool.url(),
        };
        is(&open.source_url, &self.source)
            && is(&open.target_url, &self.target)
            && is_same_id(&self.target.tenant, &open.target_key)
    }

    /// Goes on with what was begun, where it is what is asked for; `None` where it has ended by then.
    async fn go_on(&self, open: transfers::Model, progress: &dyn Progress) -> Result<Option<Outcome>, Error> {
        if !self.is_for(&open) {
            let target = open.target_url.unwrap_or_else(|| "the application database".to_owned());
            return Err(Error::UnderWay { tenant: self.tenant, transfer: open.id, target });
        }
        let transfer = Transfer {
            app_db: self.app_db,
            record: open,
            source: self.source.clone(),
            target: self.target.clone(),
            actor: self.actor.clone(),
            options: self.options.clone(),
        };
        match transfer.resume(progress).await {
            Ok(done) => Ok(Some(Outcome::Placed(done))),
            Err(Error::NotAt { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What is recorded of it.
    pub(super) fn record(&self, undoes: Option<Uuid>, plan: &Plan) -> NewTransfer {
        NewTransfer {
            tenant: self.tenant,
            undoes,
            source: self.from.clone(),
            source_key: self.source.tenant.to_string(),
            target: self.to.clone(),
            target_key: self.target.tenant.to_string(),
            expected_epoch: self.expected_epoch,
            tables: plan.tables.iter().filter(|table| !table.log).count() as u64,
            records: plan.records(),
            reference_tables: self.options.reference_tables.clone(),
        }
    }

    /// Whether the request's parts say the same.
    fn check(&self) -> Result<(), Error> {
        let problem = |problem: String| Err(Error::Request { problem });
        for (placement, end, name) in [(&self.from, &self.source, "source"), (&self.to, &self.target, "target")] {
            // Without a data source the rows are in the single database, under the tenant's own id.
            let url = placement.url.as_ref().unwrap_or_else(|| self.app_db.url());
            if url != end.pool.url() {
                return problem(format!("the placement names {url}, the {name} is {}", end.pool.url()));
            }
            let mapped = placement.tenant_id_in_data_source.as_ref().filter(|_| placement.url.is_some());
            let id = mapped.map_or_else(|| self.tenant.to_string(), Clone::clone);
            if !is_same_id(&end.tenant, &id) {
                return problem(format!(
                    "the placement gives the tenant the id {id}, the {name} the id {}",
                    end.tenant
                ));
            }
        }
        Ok(())
    }

    /// Where the tenant is now.
    async fn position(&self) -> Result<Position, Error> {
        let record = placement(self.app_db, self.tenant).await?;
        let is = |end: &Endpoint| {
            let mapped = record.tenant_id_in_data_source.as_ref().filter(|_| record.url.is_some());
            let id = mapped.map_or_else(|| self.tenant.to_string(), Clone::clone);
            is_at(&record, end, self.app_db) && is_same_id(&end.tenant, &id)
        };
        Ok(if is(&self.source) {
            Position::Source(record)
        } else if is(&self.target) {
            Position::Target(record)
        } else {
            Position::Elsewhere(record)
        })
    }

    /// The plan, and what the application database has against it. In snapshots of both ends, where they are begun already.
    async fn prepare(
        &self,
        position: &Position,
        undoes: Option<Uuid>,
        snapshots: Option<(Transaction, Transaction)>,
        progress: &dyn Progress,
    ) -> Result<Prepared, Error> {
        let (source, target, options) = (&self.source, &self.target, &self.options);
        let mut prepared = match snapshots {
            Some(snapshots) => prepare_in(snapshots, source, target, options, progress).await?,
            None => prepare(source, target, options, progress).await?,
        };
        if undoes.is_some() {
            prepared = prepared.replacing();
        }
        let refusals = &mut prepared.plan.refusals;
        if let Some(undoes) = undoes {
            // The kept rows are replaced, and the fence over them is the transfer's that is taken back.
            refusals.retain(|refusal| !refusal.is_of_kept_rows(undoes));
        }
        let record = match position {
            Position::Source(record) | Position::Target(record) => record,
            Position::Elsewhere(record) => {
                refusals.push(Refusal::PlacedElsewhere { url: record.url.clone().unwrap_or_default() });
                record
            }
        };
        if record.epoch != self.expected_epoch {
            refusals.push(Refusal::Moved { expected: self.expected_epoch, found: record.epoch });
        }
        if let Err(error) = self.to.check(self.tenant) {
            refusals.push(Refusal::Placement { problem: error.to_string() });
        }
        prepared.plan.tenant = Some(self.tenant);
        prepared.plan.expected_epoch = Some(record.epoch);
        self.neighbours(&mut prepared.plan).await?;
        Ok(prepared)
    }

    /// The same for a rollback of `undoes`, whose kept rows are the target.
    pub(super) async fn prepare_return(&self, undoes: Uuid, progress: &dyn Progress) -> Result<Prepared, Error> {
        self.check()?;
        progress.step(Step::Plan);
        let position = self.position().await?;
        self.options.interrupt.ends(self.prepare(&position, Some(undoes), None, progress)).await?.accepted()
    }

    /// Whether another tenant is in the way at the target. The placement itself asks again, in its own transaction.
    async fn neighbours(&self, plan: &mut Plan) -> Result<(), Error> {
        const DOING: &str = "looking who else is at the target";
        let Some(target) = &self.to.url else { return Ok(()) };
        let data_source = self.app_db.data_source(target).await.map_err(Error::app_db(DOING))?;
        let kind = self.data_source.map(|row| row.kind).or(data_source.map(|row| row.kind));
        let for_one = kind.is_some_and(SourceKind::holds_one_tenant);
        let there = self.app_db.find::<tenants::Entity>();
        let mut there = there.filter(tenants::Column::DataSourceUrl.eq(target.as_str()));
        if !for_one {
            // Only these can have the tenant's id there; of the others there may be very many.
            let own = Uuid::parse_str(&self.target.tenant.to_string()).unwrap_or(self.tenant);
            let mapped = tenants::Column::TenantIdInDataSource.is_not_null();
            there = there.filter(mapped.or(tenants::Column::Id.eq(own)));
        }
        let there = there.all().await;
        for other in there.map_err(Error::app_db(DOING))?.into_iter().filter(|other| other.id != self.tenant) {
            let id = other.tenant_id_in_data_source.unwrap_or_else(|| other.id.to_string());
            if for_one {
                plan.refusals.push(Refusal::DataSourceTaken { tenant: other.subdomain.clone() });
            }
            if is_same_id(&self.target.tenant, &id) {
                plan.refusals.push(Refusal::TenantIdTaken { tenant: other.subdomain });
            }
        }
        Ok(())
    }
}

/// The tenant's placement now.
pub(super) async fn placement(app_db: &AppDb, tenant: Uuid) -> Result<Box<PlacementRecord>, Error> {
    let record = app_db.placement(tenant).await.map_err(Error::app_db("reading the tenant's placement"))?;
    record.map(Box::new).ok_or(Error::UnknownTenant { tenant })
}

/// Whether the tenant's rows are at this end, as its placement says.
pub(super) fn is_at(record: &PlacementRecord, end: &Endpoint, app_db: &AppDb) -> bool {
    match &record.url {
        Some(url) => url.parse::<DataSourceUrl>().is_ok_and(|url| url == *end.pool.url()),
        None => app_db.url() == end.pool.url(),
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
