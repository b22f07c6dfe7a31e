//! One run of a transfer: holds its lease, takes it from step to step, and takes it back where a step fails.

use std::{
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use tenantry_app_db::{
    Advance, AppDb, Error as AppDbError, TransferLease,
    entities::{TransferStep, transfers::Model},
};
use tenantry_connection::Actor;

use super::{Done, Request, Transfer, lease::Lease, silence::Silence};
use crate::{
    Endpoint, Error, Interrupt, Options, Progress, Report, Side, Step,
    copy::{CopiedTable, Copying, any, copy},
    fence::{self, Change, Holder, Stamp},
    plan::{Prepared, Structure, prepare, read_both},
    verify,
    verify::compare_all,
};

type Next<'r> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'r>>;

pub(super) struct Run<'a> {
    pub(super) app_db: &'a AppDb,
    pub(super) record: Model,
    pub(super) lease: Lease,
    /// Both ends, as this run writes there.
    pub(super) source: Endpoint,
    pub(super) target: Endpoint,
    actor: &'a Actor,
    /// As they were given, with the reference tables that the record names.
    pub(super) options: Options,
    pub(super) progress: &'a dyn Progress,
    /// What the plan read, as long as it is known to hold: within the run that planned.
    prepared: Option<Prepared>,
    report: Option<Report>,
    copied: Vec<CopiedTable>,
    /// When the writes were first held, where this run has done it; otherwise the record tells.
    held: Option<Instant>,
    pub(super) purged: Vec<(String, u64)>,
    /// Whether the source takes the tenant's writes again.
    pub(super) open: bool,
}

impl<'a> Run<'a> {
    /// Records the transfer and begins to run it.
    pub(super) async fn begin(
        request: &'a Request<'_>,
        undoes: Option<uuid::Uuid>,
        prepared: Prepared,
        progress: &'a dyn Progress,
    ) -> Result<Self, Error> {
        let new = request.record(undoes, &prepared.plan);
        let begun = request.app_db.begin_transfer(&new, request.options.lease, &request.actor).await;
        let (record, lease) = begun.map_err(Error::app_db("recording the transfer"))?;
        let ends = (&request.source, &request.target);
        Ok(Self {
            prepared: Some(prepared),
            ..Self::new(request.app_db, record, lease, ends, &request.actor, request.options.clone(), progress)
        })
    }

    /// Takes a recorded transfer over, where nobody runs it.
    pub(super) async fn take(transfer: &'a Transfer<'_>, progress: &'a dyn Progress) -> Result<Self, Error> {
        let reference_tables = transfer.record.reference_tables().map_err(Error::app_db("reading the transfer"))?;
        let options = Options { reference_tables, ..transfer.options.clone() };
        let taken = transfer.app_db.take_transfer(transfer.record.id, transfer.options.lease).await;
        let (record, lease) = taken.map_err(|source| match source {
            AppDbError::TransferHeld { until, .. } => {
                Error::Busy { tenant: transfer.record.tenant_id, until: until.format("%H:%M:%S UTC").to_string() }
            }
            source => Error::AppDb { doing: "taking the transfer over", source },
        })?;
        let ends = (&transfer.source, &transfer.target);
        Ok(Self::new(transfer.app_db, record, lease, ends, &transfer.actor, options, progress))
    }

    fn new(
        app_db: &'a AppDb,
        record: Model,
        lease: TransferLease,
        (source, target): (&Endpoint, &Endpoint),
        actor: &'a Actor,
        options: Options,
        progress: &'a dyn Progress,
    ) -> Self {
        let stamp = Stamp { transfer: record.id, epoch: lease.epoch };
        Self {
            app_db,
            lease: Lease::keep(app_db, lease, options.lease),
            source: source.stamped(stamp),
            target: target.stamped(stamp),
            actor,
            options,
            progress,
            prepared: None,
            copied: record.copied.as_deref().and_then(|copied| serde_json::from_str(copied).ok()).unwrap_or_default(),
            report: record.report.as_deref().and_then(|report| serde_json::from_str(report).ok()),
            held: None,
            purged: Vec::new(),
            open: false,
            record,
        }
    }

    /// From the step that it is at to the end, forward or back.
    pub(super) async fn drive(mut self) -> Result<Done, Error> {
        if let Err(source) = self.take_fences_over().await {
            if self.record.step == TransferStep::Placed {
                return Err(self.placed_but(source).await);
            }
            self.failed(Step::Fence, source).await?;
        }
        loop {
            let silence = Silence::watch(&self.source, &self.target, self.options.silence);
            let at = self.record.step;
            let Some((step, done)) = self.step() else { return Ok(self.done()) };
            let done = silence.ends(done).await;
            match (at, done) {
                (TransferStep::Placed, Err(source)) => return Err(self.placed_but(source).await),
                (TransferStep::Aborting, Err(source)) => return Err(source),
                (TransferStep::Placed | TransferStep::Aborting, Ok(())) => return Ok(self.done()),
                (_, Ok(())) => {}
                (_, Err(source)) => self.failed(step, source).await?,
            }
        }
    }

    /// What comes next. On the heap: one within the other, the steps' futures would be too large for a thread's stack.
    fn step(&mut self) -> Option<(Step, Next<'_>)> {
        Some(match self.record.step {
            TransferStep::Planned => (Step::Fence, Box::pin(self.fence())),
            TransferStep::Fenced => (Step::Copy, Box::pin(self.copy())),
            TransferStep::Copied => (Step::Verify, Box::pin(self.verify())),
            TransferStep::Verified => (Step::CutOver, Box::pin(self.cut_over())),
            TransferStep::Placed => (Step::Reopen, Box::pin(self.finish())),
            TransferStep::Aborting => (Step::TakeBack, Box::pin(self.take_back(String::new()))),
            TransferStep::Finished | TransferStep::Purged | TransferStep::Returned | TransferStep::Aborted => {
                return None;
            }
        })
    }

    /// What it has come to.
    pub(super) fn done(&self) -> Done {
        Done {
            transfer: self.record.id,
            step: self.record.step,
            epoch: self.record.placed_epoch,
            report: self.report.clone(),
            held: self.record.held_ms.and_then(|held| u64::try_from(held).ok()).map(Duration::from_millis),
            purged: self.purged.clone(),
        }
    }

    /// Ends the run before it has begun.
    pub(super) async fn release(mut self, problem: Option<String>) {
        self.lease.release(problem).await;
    }

    /// A run before this one may still be alive: what it has open at either end is waited for, and what it sends later is
    /// refused there, because the fences are this run's from here on.
    async fn take_fences_over(&self) -> Result<(), Error> {
        let sides: &[Side] = match self.record.step {
            TransferStep::Fenced | TransferStep::Copied | TransferStep::Verified => &[Side::Target, Side::Source],
            // The target may take writes already.
            TransferStep::Placed if self.record.undoes.is_some() => &[Side::Source],
            _ => return Ok(()),
        };
        if self.prepared.is_some() {
            return Ok(());
        }
        for side in sides {
            let taken = self.change_unless_interrupted((*side, true), |found| match found {
                Some(found) if found.is_moving(self.record.id) => Ok(Change::Raise(Holder::Moving(self.stamp()))),
                // The last thing that is done before the end is recorded.
                Some(Holder::Left(left)) if left == self.record.id => Ok(Change::Nothing),
                found => Err(self.gone(*side, found)),
            });
            taken.await?;
        }
        Ok(())
    }

    async fn fence(&mut self) -> Result<(), Error> {
        self.progress.step(Step::Fence);
        // Who has planned has just taken the lease.
        if self.prepared.is_none() {
            self.still_mine().await?;
        }
        self.point("target unfenced");
        let undoes = self.record.undoes;
        self.raise(Side::Target, |found| match (found, undoes) {
            (Holder::Left(_), None) => true,
            (Holder::Kept(kept), Some(undoes)) => *kept == undoes,
            _ => false,
        })
        .await?;
        self.point("source unfenced");
        let read;
        let structure = match &self.prepared {
            Some(prepared) => &prepared.structure,
            None => {
                read = read_both(&self.source, &self.target).await?.0;
                &read
            }
        };
        if undoes.is_none() {
            // Nothing is copied before this step is recorded, so that whatever is there is somebody's. From here on nobody
            // but this transfer writes it, and what a copy finds there is the copy's own.
            let mut snapshot = self.target.snapshot().await?;
            let there = any(structure, &mut snapshot).await?;
            snapshot.rollback().await.map_err(Error::database("ending a snapshot"))?;
            if there {
                return Err(Error::RowsInTarget);
            }
        }
        let unfenced = structure.source.unfenced.clone();
        let stop = &self.options.interrupt;
        stop.ends(fence::install(&self.source, &unfenced, self.options.fence_deadline)).await?;
        if self.holds_already().await? {
            self.still_mine().await?;
        } else {
            // Said before it is done, so that the time counts even where this run dies of it.
            self.record(Advance { holding: true, ..self.advance(TransferStep::Planned) }).await?;
            self.held = Some(Instant::now());
        }
        self.raise(Side::Source, |_| false).await?;
        self.point("fenced");
        self.record(self.advance(TransferStep::Fenced)).await
    }

    /// Whether a run before this one holds the tenant's writes.
    async fn holds_already(&self) -> Result<bool, Error> {
        if self.prepared.is_some() {
            return Ok(false);
        }
        let mut snapshot = self.source.snapshot().await?;
        let found = fence::holder(&mut snapshot, &self.source.tenant).await?;
        snapshot.rollback().await.map_err(Error::database("ending a snapshot"))?;
        Ok(found.is_some_and(|found| found.is_moving(self.record.id)))
    }

    async fn copy(&mut self) -> Result<(), Error> {
        let taken_over = self.prepared.is_none();
        if taken_over {
            self.progress.step(Step::Plan);
            self.prepared = Some(self.options.interrupt.ends(self.prepare_again()).await?);
        }
        let Some(prepared) = &self.prepared else { return Ok(()) };
        self.progress.planned(prepared.plan());
        let atomic = self.record.undoes.is_some();
        // What was kept is often what is still there, and then nothing has to be copied. After a run that died here, what is there
        // may be what that run copied, and nobody knows how much it was.
        if atomic && !taken_over {
            self.progress.step(Step::Compare);
            let same = compare_all(&self.source, &self.target, &prepared.structure, &self.options, self.progress);
            let same = self.options.interrupt.ends(same).await?;
            if same.agrees() {
                self.point("found copied");
                return self.record(self.advance(TransferStep::Copied)).await;
            }
        }
        self.progress.step(Step::Copy);
        let copying = Copying { atomic, clear: true };
        let copied = copy(&self.source, &self.target, prepared, copying, &self.options, self.progress);
        self.copied = self.options.interrupt.ends(copied).await?;
        self.point("copied");
        let text = serde_json::to_string(&self.copied).map_err(Error::answer("recording what was copied"))?;
        self.record(Advance { copied: Some(text), ..self.advance(TransferStep::Copied) }).await
    }

    /// The plan once more, for a run that has not made it: nothing but what the transfer itself has done may have changed.
    async fn prepare_again(&self) -> Result<Prepared, Error> {
        let mut prepared = prepare(&self.source, &self.target, &self.options, self.progress).await?;
        let undoes = self.record.undoes;
        if undoes.is_some() {
            prepared = prepared.replacing();
        }
        prepared.plan.refusals.retain(|refusal| {
            !refusal.is_of_transfer(self.record.id) && !undoes.is_some_and(|undoes| refusal.is_of_kept_rows(undoes))
        });
        prepared.accepted()
    }

    async fn verify(&mut self) -> Result<(), Error> {
        self.progress.step(Step::Verify);
        let compared = async {
            match &self.prepared {
                Some(prepared) => {
                    compare_all(&self.source, &self.target, &prepared.structure, &self.options, self.progress).await
                }
                None => verify(&self.source, &self.target, &self.options, self.progress).await,
            }
        };
        let report = self.options.interrupt.ends(compared).await?;
        let mut report = report.with_copied(&self.copied);
        self.waive(&mut report);
        if !report.agrees() {
            return Err(Error::Different(Box::new(report)));
        }
        self.point("verified");
        let text = serde_json::to_string(&report).map_err(Error::answer("recording the report"))?;
        self.report = Some(report);
        self.record(Advance { report: Some(text), ..self.advance(TransferStep::Verified) }).await
    }

    /// A single database that has no write log has nothing to compare one with.
    fn waive(&self, report: &mut Report) {
        if let Some(undoes) = self.record.undoes {
            report.not_compared.retain(|refusal| !refusal.is_of_kept_rows(undoes));
        }
    }

    async fn cut_over(&mut self) -> Result<(), Error> {
        let mut read = None;
        if self.prepared.is_none() {
            // Another run verified it. What was added to either schema since, nobody has looked at.
            self.progress.step(Step::Verify);
            read = Some(read_both(&self.source, &self.target).await?.0);
            let compared = verify(&self.source, &self.target, &self.options, self.progress);
            let mut report = self.options.interrupt.ends(compared).await?;
            self.waive(&mut report);
            if !report.agrees() {
                return Err(Error::Different(Box::new(report)));
            }
        }
        self.progress.step(Step::CutOver);
        // What was verified holds only while nobody else could write. A fence that an administrator lowered by hand, or
        // another run raised anew, is no fence of this run.
        let structure = self.prepared.as_ref().map(|prepared| &prepared.structure).or(read.as_ref());
        tokio::try_join!(self.is_held(Side::Target, None), self.is_held(Side::Source, structure))?;
        self.point("unplaced");
        self.options.interrupt.check()?;
        let placed = self.app_db.cut_over(&self.lease.held, self.actor).await;
        let epoch = placed.map_err(Error::app_db("changing the tenant's placement"))?;
        self.point("placed");
        (self.record.step, self.record.placed_epoch) = (TransferStep::Placed, Some(epoch));
        Ok(())
    }

    /// Whether the fence of one side is this run's, and the side has no tables that nobody has looked at.
    async fn is_held(&self, side: Side, structure: Option<&Structure>) -> Result<(), Error> {
        let mut snapshot = self.end(side).snapshot().await?;
        let found = fence::holder(&mut snapshot, &self.end(side).tenant).await?;
        if let Some(structure) = structure {
            structure.refuse_new_tables(&mut snapshot).await?;
        }
        snapshot.rollback().await.map_err(Error::database("ending a snapshot"))?;
        if found == Some(Holder::Moving(self.stamp())) { Ok(()) } else { Err(self.gone(side, found)) }
    }

    /// The tenant is placed; its writes are let through where it is now, and held where it was.
    async fn finish(&mut self) -> Result<(), Error> {
        self.progress.step(Step::Reopen);
        let (transfer, stamp) = (self.record.id, self.stamp());
        let moving = |found: &Option<Holder>| found.as_ref().is_some_and(|found| found.is_of(stamp));
        let lowered = AtomicBool::new(false);
        let lower = |found| {
            lowered.store(moving(&found), Ordering::Relaxed);
            Ok(if moving(&found) { Change::Lower } else { Change::Nothing })
        };
        // Who raised both fences knows that they are there.
        let look = self.held.is_none();
        self.change_at((Side::Target, look), lower).await?;
        // Where the run before this one has lowered it and died of something before it could say so, nobody knows when that was.
        let held = self.held.map(|held| held.elapsed()).or_else(|| self.record.held_for());
        let held = held.filter(|_| lowered.into_inner());
        self.point("target open");
        if let Some(held) = held {
            self.record(Advance { held: Some(held), ..self.advance(TransferStep::Placed) }).await?;
            self.record.held_ms = i64::try_from(held.as_millis()).ok();
        }
        let end = if self.record.undoes.is_some() {
            // Both sides were found equal, and nobody could write here since.
            let settled = async {
                tokio::time::sleep(self.options.settle).await;
                Ok(())
            };
            self.options.interrupt.ends(settled).await?;
            self.purge_source(&self.target.clone()).await?;
            TransferStep::Purged
        } else {
            TransferStep::Finished
        };
        let kept = Holder::Kept(transfer);
        let keep = |found| Ok(if moving(&found) { Change::Raise(kept.clone()) } else { Change::Nothing });
        self.change_at((Side::Source, look), keep).await?;
        self.point("source kept");
        self.record(self.advance(end)).await
    }

    /// Whether this run has not been taken over, asked just before it holds anybody's writes.
    pub(super) async fn still_mine(&self) -> Result<(), Error> {
        match self.app_db.renew_transfer(&self.lease.held, self.options.lease).await {
            Ok(()) => Ok(()),
            Err(AppDbError::LeaseLost { transfer }) => Err(Error::TakenOver { transfer }),
            Err(source) => Err(Error::AppDb { doing: "keeping the transfer's lease", source }),
        }
    }

    pub(super) fn advance(&self, to: TransferStep) -> Advance {
        Advance::new(self.record.step, to)
    }

    pub(super) async fn record(&mut self, advance: Advance) -> Result<(), Error> {
        let to = advance.to;
        match self.app_db.advance_transfer(&self.lease.held, &advance, self.actor).await {
            Ok(()) => {}
            Err(AppDbError::LeaseLost { transfer }) => return Err(Error::TakenOver { transfer }),
            Err(source) => return Err(Error::AppDb { doing: "recording the transfer's step", source }),
        }
        self.record.step = to;
        if !to.is_under_way() {
            self.lease.ended();
        }
        self.point(to.as_str());
        Ok(())
    }

    pub(super) fn stamp(&self) -> Stamp {
        Stamp { transfer: self.record.id, epoch: self.lease.held.epoch }
    }

    pub(super) fn point(&self, name: &'static str) {
        self.progress.point(name);
    }

    fn end(&self, side: Side) -> &Endpoint {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }

    fn other(&self, side: Side) -> &Endpoint {
        match side {
            Side::Source => &self.target,
            Side::Target => &self.source,
        }
    }

    pub(super) fn gone(&self, side: Side, found: Option<Holder>) -> Error {
        let found = match found {
            None => "none is raised".to_owned(),
            Some(Holder::Moving(stamp)) if stamp.transfer == self.record.id => {
                return Error::TakenOver { transfer: self.record.id };
            }
            Some(found) => found.reason(self.other(side)),
        };
        Error::FenceGone { side, found }
    }

    /// Raises the fence of one side, or takes it from whom it may be taken.
    async fn raise(&self, side: Side, may_take: impl Fn(&Holder) -> bool) -> Result<(), Error> {
        // Who has planned has just seen it, and raising one is never nothing.
        let look = self.prepared.is_none();
        let stamp = self.stamp();
        self.change_unless_interrupted((side, look), |found| match found {
            Some(Holder::Moving(other)) if other.transfer == stamp.transfer && other.epoch > stamp.epoch => {
                Err(Error::TakenOver { transfer: stamp.transfer })
            }
            Some(found) if !found.is_moving(stamp.transfer) && !may_take(&found) => {
                Err(Error::Fenced { side, reason: found.reason(self.other(side)) })
            }
            _ => Ok(Change::Raise(Holder::Moving(stamp))),
        })
        .await
    }

    /// Changes the fence of one side, whoever asks to end: what is taken back or finished is not left half done.
    pub(super) async fn change(
        &self,
        side: Side,
        decide: impl Fn(Option<Holder>) -> Result<Change, Error>,
    ) -> Result<(), Error> {
        self.change_at((side, true), decide).await
    }

    async fn change_at(
        &self,
        (side, look): (Side, bool),
        decide: impl Fn(Option<Holder>) -> Result<Change, Error>,
    ) -> Result<(), Error> {
        let options = Options { interrupt: Interrupt::default(), ..self.options.clone() };
        fence::change((side, look), self.end(side), self.other(side), &options, decide).await
    }

    /// The same on the way forward, where waiting for open writers may be broken off.
    async fn change_unless_interrupted(
        &self,
        (side, look): (Side, bool),
        decide: impl Fn(Option<Holder>) -> Result<Change, Error>,
    ) -> Result<(), Error> {
        fence::change((side, look), self.end(side), self.other(side), &self.options, decide).await
    }
}
