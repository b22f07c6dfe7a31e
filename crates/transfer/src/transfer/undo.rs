//! What a run takes back: after a step that failed, and where it is told to. Knows no way forward.

use tenantry_app_db::{Advance, entities::TransferStep};

use super::{
    purge::delete,
    request::{is_at, placement},
    run::Run,
    silence::Silence,
};
use crate::{
    Error, FenceAfter, Interrupt, Side, Step,
    error::recorded,
    fence::{Change, Holder},
};

impl Run<'_> {
    /// Takes back what was done before the cutover, and says so first: from then on nobody goes forward again.
    ///
    /// The source comes first, so that the tenant writes again as soon as it can.
    pub(super) async fn take_back(&mut self, problem: String) -> Result<(), Error> {
        if !self.record.step.is_under_way() || self.record.step == TransferStep::Placed {
            // The tenant is routed to the target: there is nothing to take back, and everything to lose.
            let (transfer, step) = (self.record.id, self.record.step.as_str());
            return Err(Error::NotAt { transfer, step, wanted: "taken back" });
        }
        self.progress.step(Step::TakeBack);
        if self.record.step == TransferStep::Planned {
            return self.withdraw_and_end(problem).await;
        }
        if self.record.step != TransferStep::Aborting {
            let problem = Some(problem).filter(|problem| !problem.is_empty());
            self.record(Advance { problem, ..self.advance(TransferStep::Aborting) }).await?;
        }
        let (transfer, stamp) = (self.record.id, self.stamp());
        let moving = |found: &Option<Holder>| found.as_ref().is_some_and(|found| found.is_of(stamp));
        self.change(Side::Source, |found| Ok(if moving(&found) { Change::Lower } else { Change::Nothing })).await?;
        self.open = true;
        self.point("source open again");
        let undoes = self.record.undoes;
        // A fence that is not this transfer's was never raised by it, so that no row there is its own.
        let mine = std::sync::atomic::AtomicBool::new(false);
        self.change(Side::Target, |found| {
            if !moving(&found) {
                return Ok(Change::Nothing);
            }
            Ok(Change::Raise(match undoes {
                Some(kept) => Holder::Kept(kept),
                None => {
                    mine.store(true, std::sync::atomic::Ordering::Relaxed);
                    Holder::Moving(stamp)
                }
            }))
        })
        .await?;
        if mine.into_inner() {
            delete(&self.target, &self.source, &Interrupt::default(), self.progress).await?;
            self.point("copy deleted");
            let left = |found| Ok(if moving(&found) { Change::Raise(Holder::Left(transfer)) } else { Change::Nothing });
            self.change(Side::Target, left).await?;
        }
        self.point("taken back");
        self.record(self.advance(TransferStep::Aborted)).await
    }

    /// The same before anything was copied: whatever rows the target holds are not the transfer's.
    async fn withdraw_and_end(&mut self, problem: String) -> Result<(), Error> {
        let stamp = self.stamp();
        let meant = |found: &Holder| found.is_of(stamp);
        self.withdraw(Side::Source, Change::Lower, meant).await?;
        self.open = true;
        // Whoever has taken it over may have placed the tenant at the target. From here on a later run's fence shows that.
        self.still_mine().await?;
        let change = self.at_target().await?;
        self.withdraw(Side::Target, change, meant).await?;
        self.point("withdrawn");
        let problem = Some(problem).filter(|problem| !problem.is_empty());
        self.record(Advance { problem, ..self.advance(TransferStep::Aborted) }).await
    }

    /// What becomes of the fence at a target where the tenant is not. It may have been there before, and then this transfer's fence
    /// took the place of one that was left, or kept.
    fn left_behind(&self) -> Change {
        Change::Raise(self.record.undoes.map_or(Holder::Left(self.record.id), Holder::Kept))
    }

    /// Changes the fence of one side where it is meant, and does nothing else.
    async fn withdraw(&self, side: Side, change: Change, meant: impl Fn(&Holder) -> bool) -> Result<(), Error> {
        self.change(side, |found| {
            Ok(if found.is_some_and(|found| meant(&found)) { change.clone() } else { Change::Nothing })
        })
        .await
    }

    /// Takes back what this run raised last, after another one had gone on: nobody else would.
    async fn withdraw_late(&self) -> Result<(), Error> {
        let stamp = self.stamp();
        let mine = |found: &Holder| *found == Holder::Moving(stamp);
        self.withdraw(Side::Source, Change::Lower, mine).await?;
        // Where this run's fence is still up, no other one is on its way, so that what the placement says will stay.
        let change = self.at_target().await?;
        self.withdraw(Side::Target, change, mine).await
    }

    /// What becomes of the fence at the target: where the tenant lives, nothing may hold its writes.
    async fn at_target(&self) -> Result<Change, Error> {
        let now = placement(self.app_db, self.record.tenant_id).await?;
        Ok(if is_at(&now, &self.target, self.app_db) { Change::Lower } else { self.left_behind() })
    }

    /// A step failed: takes it all back and says what became of the fence. Returns without an error where the tenant turns out
    /// to be placed: the answer to the cutover was lost, and the record tells.
    pub(super) async fn failed(&mut self, step: Step, source: Error) -> Result<(), Error> {
        let silence = Silence::watch(&self.source, &self.target, self.options.silence);
        let problem = recorded(&source);
        let mut taken = silence.ends(self.take_back(problem.clone())).await;
        if let Err(Error::TakenOver { transfer }) = taken {
            taken = match self.read_again().await {
                Ok(()) if self.record.step == TransferStep::Placed => return Ok(()),
                // The answer to an earlier step was lost; now it is known from where to go back.
                Ok(()) => {
                    let silence = Silence::watch(&self.source, &self.target, self.options.silence);
                    silence.ends(self.take_back(problem)).await
                }
                Err(Error::TakenOver { .. }) => {
                    if let Err(error) = self.withdraw_late().await {
                        tracing::warn!(%transfer, %error, "a fence of a run that was taken over may still be up");
                    }
                    return Err(Error::TakenOver { transfer });
                }
                // It may be placed, or somebody else's: as long as nobody tells, nothing is opened.
                Err(unknown) => Err(unknown),
            };
        }
        let fence = match taken {
            Ok(()) => FenceAfter::Lowered,
            Err(error) => {
                let reason = crate::error::chain(&error);
                if self.open { FenceAfter::Unfinished { reason } } else { FenceAfter::Raised { reason } }
            }
        };
        let error = Error::Failed { step, fence, source: Box::new(source) };
        self.lease.release(Some(recorded(&error))).await;
        Err(error)
    }

    pub(super) async fn placed_but(&mut self, source: Error) -> Error {
        let error = Error::Failed { step: Step::Reopen, fence: FenceAfter::Placed, source: Box::new(source) };
        self.lease.release(Some(recorded(&error))).await;
        error
    }

    async fn read_again(&mut self) -> Result<(), Error> {
        let read = self.app_db.transfer(self.record.id).await.map_err(Error::app_db("reading the transfer"))?;
        match read.filter(|read| read.owner == Some(self.lease.held.owner)) {
            Some(read) => {
                self.record = read;
                Ok(())
            }
            None => Err(Error::TakenOver { transfer: self.record.id }),
        }
    }
}
