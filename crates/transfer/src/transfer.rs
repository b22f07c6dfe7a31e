//! One transfer of one tenant, in steps that outlive the process that runs them.
//!
//! ```text
//!          Run::fence        Run::copy        Run::verify         Run::cut_over         Run::finish
//! planned ───────────▶ fenced ───────▶ copied ─────────▶ verified ───────────▶ placed ────────────▶ finished ──┬─▶ purged
//!    │                   │               │                   │                                                 │  purge
//!    │                   └───────┬───────┴───────────────────┘                                                 └─▶ returned
//!    │                           ▼ Run::take_back                                                                 rollback
//!    │                       aborting ──────▶ aborted
//!    └── Run::withdraw_and_end ──────────────────▲
//! ```
//!
//! A step is what is known to be done. It is recorded in the application database after it was done, and every edge can be gone
//! again: a fence that is raised is raised once more, rows that were copied are deleted and copied again, a cutover is one
//! transaction together with its step. What takes something back is announced before it begins (`aborting`), so that nobody goes
//! on from a step that no longer holds.
//!
//! Until `fenced` nothing of the tenant is touched. A form that copies while writes go on would stand there: nothing before the
//! fence depends on it, and `copy` asks only for a source whose rows it may read and a target that is fenced.
//!
//! A rollback is a transfer in the other direction, onto the rows that were kept: they are replaced in one transaction, verified
//! like any other, and the first transfer is `returned` by the cutover of the second.

mod back;
mod lease;
mod purge;
mod request;
mod run;
mod silence;
mod undo;

pub use purge::purge;
pub use request::{Outcome, Preview, Request, SourceRow};

use std::time::Duration;

use tenantry_app_db::{
    AppDb,
    entities::{TransferStep, transfers::Model},
};
use tenantry_connection::Actor;
use uuid::Uuid;

use crate::{Endpoint, Error, Options, Progress, Report};
use run::Run;

/// A recorded transfer with both its ends.
#[derive(Clone)]
pub struct Transfer<'a> {
    /// The application database.
    pub app_db: &'a AppDb,
    /// Its record, as it was read.
    pub record: Model,
    /// Where the rows were, as its record says.
    pub source: Endpoint,
    /// Where they go, as its record says.
    pub target: Endpoint,
    /// Who asks.
    pub actor: Actor,
    /// Deadlines and limits.
    pub options: Options,
}

/// What a transfer came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// The transfer.
    pub transfer: Uuid,
    /// Its last step.
    pub step: TransferStep,
    /// The placement epoch of the cutover, where there was one.
    pub epoch: Option<i64>,
    /// What was found on both sides before the cutover.
    pub report: Option<Report>,
    /// How long the tenant's writes were held, where they were. A run that let them through and died before it could say so has
    /// left nobody who knows.
    pub held: Option<Duration>,
    /// Rows that were deleted where the tenant is no more, per table.
    pub purged: Vec<(String, u64)>,
}

impl Transfer<'_> {
    /// Goes on from the step that the record says, forward or, where it was given up, back.
    ///
    /// Dropping the future leaves what a crash would, and another run goes on from there.
    ///
    /// # Errors
    /// [`Error::Busy`] while somebody else runs it. [`Error::NotAt`] where it has ended. [`Error::Failed`] with the step and what
    /// became of the fence.
    pub async fn resume(&self, progress: &dyn Progress) -> Result<Done, Error> {
        let run = self.take("resumed", |step| step.is_under_way(), progress).await?;
        run.drive().await
    }

    /// Takes back what was done. A transfer that has been cut over is not aborted but rolled back.
    ///
    /// # Errors
    /// As [`Transfer::resume`].
    pub async fn abort(&self, progress: &dyn Progress) -> Result<Done, Error> {
        let may = |step: TransferStep| step.is_under_way() && step != TransferStep::Placed;
        let mut run = self.take("aborted", may, progress).await?;
        run.take_back("it was aborted".to_owned()).await?;
        Ok(run.done())
    }

    /// Brings the tenant back to where the transfer took it from, with everything that was written since: a transfer in the
    /// other direction, which replaces the kept rows. What it leaves behind is deleted at once, because both sides were found
    /// equal while nobody could write.
    ///
    /// # Errors
    /// [`Error::NotAt`] where its rows are purged or it never came to a cutover; [`Error::NotPlaced`] where the tenant has moved
    /// on; otherwise as [`Transfer::resume`], and then it is the record of the rollback that is under way.
    pub async fn rollback(&self, progress: &dyn Progress) -> Result<Done, Error> {
        back::rollback(self, progress).await
    }

    async fn take<'r>(
        &'r self,
        wanted: &'static str,
        may: impl Fn(TransferStep) -> bool,
        progress: &'r dyn Progress,
    ) -> Result<Run<'r>, Error> {
        let run = Run::take(self, progress).await?;
        if may(run.record.step) {
            return Ok(run);
        }
        let (transfer, step) = (run.record.id, run.record.step.as_str());
        run.release(None).await;
        Err(Error::NotAt { transfer, step, wanted })
    }
}
