//! What is done with a tenant, through the recorded transfers and with faults on the way, until it is done or taken back.

use tenantry_app_db::{
    AppDb,
    entities::{TransferStep, transfers},
};
use tenantry_transfer::{Done, Error, FenceAfter, Outcome, Refusal, purge};
use uuid::Uuid;

use super::{
    faults::{Fault, Run},
    rng::Rng,
    schema::Form,
    world::{Explained, World},
};
use crate::transfer::world::chain;

/// More runs than any of them needs.
const RUNS: usize = 20;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Act {
    /// To another place.
    Move(usize),
    /// Back to rows that were kept, by their number.
    Rollback(usize),
    /// The end of rows that were kept.
    Purge(usize),
}

/// With which command.
#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    /// The one that asked for it.
    Again,
    Resume,
    Abort,
    /// A rollback, after a purge that was interrupted.
    Back,
}

impl World<'_> {
    /// What can be asked for now.
    pub(super) fn acts(&self) -> Vec<Act> {
        let holds = |place: usize| place == self.at || self.kept.iter().any(|kept| kept.place == place);
        let mut acts: Vec<Act> = (0..self.places.len()).filter(|&place| !holds(place)).map(Act::Move).collect();
        for (number, kept) in self.kept.iter().enumerate() {
            acts.push(Act::Purge(number));
            if kept.to == self.at {
                acts.push(Act::Rollback(number));
            }
        }
        acts
    }

    /// Does it, whatever befalls the runs that do it. Now and then it is given up and taken back instead.
    pub(super) async fn act(&mut self, act: Act, rng: &mut Rng) {
        let (other, subject) = match act {
            Act::Move(to) => (to, None),
            Act::Rollback(number) | Act::Purge(number) => (self.kept[number].place, Some(self.kept[number].transfer)),
        };
        self.story.push(format!("{act:?} {other}, from {}", self.at));
        let (mut how, mut faults, mut died) = (How::Again, rng.below(4), false);
        for _ in 0..RUNS {
            if died && rng.chance(2) {
                self.expire().await;
            }
            let (told, cut_off, run) = {
                let servers = self.servers([self.at, other]);
                let fault = match faults {
                    0 => Fault::none(),
                    _ => Fault::random(rng, self.schema.names().count(), &servers),
                };
                let app_db = self.app_db();
                let run = fault.strikes(Box::pin(self.run(act, subject, how, &app_db, &fault))).await;
                (fault.to_string(), fault.cut_off(), run)
            };
            if cut_off {
                self.reconnect();
            }
            faults = faults.saturating_sub(1);
            died = matches!(run, Run::Died);
            let came = match &run {
                Run::Done(done) => format!("done, {:?}", done.as_ref().map(|done| done.step.as_str())),
                Run::Failed(error) => chain(error),
                Run::Died => "died".to_owned(),
            };
            self.story.push(format!("  {how:?}: {told}: {came}"));
            match run {
                Run::Failed(Error::Busy { .. }) => {
                    self.expire().await;
                    continue;
                }
                // What is being deleted is nothing to go back to.
                Run::Failed(_) if how == How::Back && !cut_off => {
                    self.check_here().await;
                    how = How::Again;
                    continue;
                }
                Run::Failed(error) if self.is_refused(act, &error) => return,
                Run::Failed(error) => {
                    assert!(cut_off, "nothing befell it, and it failed\n{}", self.story.join("\n"));
                    self.check_claim(&error).await;
                }
                Run::Done(_) | Run::Died => {}
            }
            let app_db = self.app_db();
            if let Some(open) = app_db.transfer_under_way(self.mine).await.unwrap() {
                how = match (act, open.step) {
                    // A rollback in a purge's place.
                    (Act::Purge(_), TransferStep::Placed) => How::Resume,
                    (Act::Purge(_), _) => *rng.one_of(&[How::Resume, How::Abort]),
                    (_, TransferStep::Placed) => *rng.one_of(&[How::Again, How::Resume]),
                    _ => *rng.one_of(&[How::Again, How::Resume, How::Resume, How::Abort]),
                };
                continue;
            }
            if self.settle(act, other, subject, &app_db).await {
                return;
            }
            match act {
                Act::Purge(number) => {
                    self.check_here().await;
                    let explained = self.explained(&self.kept[number]) == Explained::Yes;
                    let may_go_back = died && explained && self.kept[number].to == self.at && rng.chance(2);
                    how = if may_go_back { How::Back } else { How::Again };
                    continue;
                }
                Act::Rollback(number) => self.maybe_replaced(number).await,
                Act::Move(_) => {}
            }
            // It is as if nothing had been asked for.
            self.check().await;
            if how == How::Abort && rng.chance(2) {
                return;
            }
            how = How::Again;
        }
        panic!("it comes to no end\n{}", self.story.join("\n"));
    }

    /// One command.
    async fn run(
        &self,
        act: Act,
        subject: Option<Uuid>,
        how: How,
        app_db: &AppDb,
        fault: &Fault<'_>,
    ) -> Result<Option<Done>, Error> {
        if matches!(how, How::Resume | How::Abort) {
            let open = app_db.transfer_under_way(self.mine).await.unwrap().expect("an open transfer");
            let transfer = self.recorded(app_db, open);
            return match how {
                How::Abort => transfer.abort(fault).await.map(Some),
                _ => transfer.resume(fault).await.map(Some),
            };
        }
        let Some(subject) = subject else {
            let Act::Move(to) = act else { unreachable!() };
            return match self.request(app_db, to).await.run(fault).await? {
                Outcome::Placed(done) => Ok(Some(done)),
                Outcome::AlreadyPlaced { .. } => Ok(None),
            };
        };
        let record = app_db.transfer(subject).await.unwrap().unwrap();
        let transfer = self.recorded(app_db, record);
        match act {
            Act::Purge(_) if how == How::Again => purge(&transfer, &self.places[self.at].end(), fault).await.map(Some),
            _ => transfer.rollback(fault).await.map(Some),
        }
    }

    /// Whether it is refused for a reason, and then with nothing changed.
    fn is_refused(&self, act: Act, error: &Error) -> bool {
        match (act, error) {
            // What was written into a column that the other place does not have would be lost.
            (Act::Move(_) | Act::Rollback(_), Error::Refused(plan)) => {
                let only_here = |refusal: &Refusal| matches!(refusal, Refusal::ColumnMissing { column, .. } if column == "Only here");
                self.schema.one_way && self.places[self.at].form == Form::Turned && plan.refusals.iter().all(only_here)
            }
            (Act::Purge(number), Error::NotHeld(..)) => self.explained(&self.kept[number]) != Explained::Yes,
            _ => false,
        }
    }

    /// Whether it came to what was asked for. Remembers it then.
    async fn settle(&mut self, act: Act, other: usize, subject: Option<Uuid>, app_db: &AppDb) -> bool {
        let told = self.story.join("\n");
        let placement = app_db.placement(self.mine).await.unwrap().unwrap();
        let is_other = placement.url.as_deref() == Some(self.places[other].db.pool.url().as_str());
        let step = |transfer: &transfers::Model| (transfer.step, transfer.owner);
        // Of one tenant, and made one after the other.
        let last = app_db.transfers(Some(self.mine), 1).await.unwrap().into_iter().next();
        match (act, subject) {
            (Act::Move(to), _) if is_other => {
                let transfer = last.expect("a transfer");
                assert_eq!(step(&transfer), (TransferStep::Finished, None), "{told}");
                self.moved(transfer.id, to).await;
                true
            }
            (Act::Rollback(number) | Act::Purge(number), Some(subject)) if is_other => {
                let transfer = last.expect("a transfer");
                assert_eq!((step(&transfer), transfer.undoes), ((TransferStep::Purged, None), Some(subject)), "{told}");
                let undone = app_db.transfer(subject).await.unwrap().unwrap();
                assert_eq!(step(&undone), (TransferStep::Returned, None), "{told}");
                self.kept.remove(number);
                self.arrived(other).await;
                true
            }
            (Act::Purge(number), Some(subject)) => {
                let transfer = app_db.transfer(subject).await.unwrap().unwrap();
                if transfer.step != TransferStep::Purged {
                    return false;
                }
                assert_ne!(self.explained(&self.kept[number]), Explained::No, "they are the only ones\n{told}");
                self.kept.remove(number);
                true
            }
            _ => false,
        }
    }

    /// What a failure says of the fence has to be so.
    async fn check_claim(&self, error: &Error) {
        let Error::Failed { fence, .. } = error else { return };
        match fence {
            FenceAfter::Lowered => self.check_here().await,
            FenceAfter::Unfinished { .. } => self.check_open().await,
            FenceAfter::Placed => {
                let placement = self.app_db().placement(self.mine).await.unwrap().unwrap();
                let before = self.places[self.at].db.pool.url();
                assert_ne!(placement.url.as_deref(), Some(before.as_str()), "{}", self.story.join("\n"));
            }
            FenceAfter::Raised { .. } => {}
        }
    }
}
