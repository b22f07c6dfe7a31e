//! Takes a split back, while nothing was written since.
//!
//! ```text
//! placed ──fence the target──▶ both fenced ──verify: equal──▶ place (epoch): null ──▶ lower the source's fence ──▶ purge the target
//!    ▲                              │ differs
//!    └──── lower the target's fence ┘
//! ```
//!
//! The target's fence stays raised afterwards: whoever still holds the old route must not write into a database that the
//! tenant has left. The next split to this target lowers it.

use tenantry_app_db::NewPlacement;
use tenantry_connection::Engine;

use crate::{
    Error, FenceAfter, Progress, Report, Side, Split, Step, fence, guard::Guard, plan::read_structure, quote,
    split::Position, verify,
};

/// What a rollback came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledBack {
    /// The epoch of the placement, now null.
    pub epoch: i64,
    /// What was found on both sides before; `None` where an earlier run had compared them and this one finished its work.
    pub report: Option<Report>,
    /// Rows that were deleted from the target, per table.
    pub purged: Vec<(String, u64)>,
}

/// Brings the tenant back to the single database.
///
/// A tenant that was never placed is brought back as well: the fence that a crashed split left is lowered, and the rows it had
/// copied are deleted from the target as long as the source has each of them, equal. Running it again after a crash goes on.
///
/// # Errors
/// [`Error::WrittenSince`] with the differences: nothing has changed. [`Error::NotPlaced`] where the tenant is elsewhere.
/// [`Error::Failed`] with the step and what became of the fences. [`Error::Busy`] while another transfer is under way.
pub async fn rollback(split: &Split<'_>, progress: &dyn Progress) -> Result<RolledBack, Error> {
    split.check()?;
    let mut guard = Guard::take(&split.source).await?;
    let outcome = match split.position().await? {
        Position::Target(record) if record.epoch == split.expected_epoch => split.leave(&mut guard, progress).await,
        Position::Target(record) => Err(Error::Request {
            problem: format!(
                "the placement has changed (epoch {}, not {}); look at it and begin again",
                record.epoch, split.expected_epoch
            ),
        }),
        Position::Single(record) => split.finish_leaving(record.epoch, progress).await,
        Position::Elsewhere(record) => Err(Error::NotPlaced {
            tenant: split.tenant,
            placed: record.url.clone().unwrap_or_default(),
            target: split.target.pool.url().to_string(),
        }),
    };
    guard.release().await;
    outcome
}

impl Split<'_> {
    /// From the target back to the source.
    async fn leave(&self, guard: &mut Guard, progress: &dyn Progress) -> Result<RolledBack, Error> {
        self.purgeable().await?;
        progress.step(Step::Fence);
        let mut snapshot = self.target.snapshot().await?;
        let state = fence::state(&mut snapshot, &self.target.tenant).await?;
        snapshot.rollback().await.map_err(Error::database("ending a snapshot"))?;
        if let Some(reason) = state.filter(|reason| !fence::is_transfers(reason)) {
            return Err(Error::Fenced { side: Side::Target, reason });
        }
        let reason = fence::reason("rolling back to", &self.source);
        let raised = fence::raise(Side::Target, &self.target, &reason, self.options.fence_deadline).await;
        self.reopening_target(Step::Fence, guard, raised).await?;

        progress.step(Step::Verify);
        let compared = async {
            let report = verify(&self.source, &self.target, &self.options, progress).await?;
            if !report.agrees() || !report.log_agrees() {
                return Err(Error::WrittenSince(Box::new(report)));
            }
            Ok(report)
        };
        let compared = compared.await;
        let report = self.reopening_target(Step::Verify, guard, compared).await?;

        progress.step(Step::CutOver);
        let alone = guard.check().await;
        self.reopening_target(Step::CutOver, guard, alone).await?;
        let placed = self.app_db.place(self.tenant, self.expected_epoch, &NewPlacement::default(), &self.actor).await;
        let placed = match placed {
            Ok(epoch) => Ok(epoch),
            // An answer may have been lost; the placement itself tells.
            Err(source) => self.doubtful_return(source).await?,
        };
        let epoch = self.reopening_target(Step::CutOver, guard, placed).await?;
        self.reopen_source(progress).await?;
        let purged = self.purge(progress).await?;
        Ok(RolledBack { epoch, report: Some(report), purged })
    }

    /// The placement was not confirmed: its commit may have happened, or may still be about to. Setting the placement that was
    /// there once more, against the same epoch, waits for it and then tells. The outer error leaves the target fenced.
    async fn doubtful_return(&self, source: tenantry_app_db::Error) -> Result<Result<i64, Error>, Error> {
        let failed = Error::AppDb { doing: "changing the tenant's placement", source };
        let again = self.app_db.place(self.tenant, self.expected_epoch, &self.placement, &self.actor).await;
        let fence = match (again, self.position().await) {
            (_, Ok(Position::Single(record))) => return Ok(Ok(record.epoch)),
            (Ok(_) | Err(tenantry_app_db::Error::Moved { .. }), Ok(_)) => return Ok(Err(failed)),
            (Err(error), Ok(_)) => error.to_string(),
            (_, Err(error)) => error.to_string(),
        };
        let fence = FenceAfter::Raised { reason: format!("whether the placement was changed is not known: {fence}") };
        Err(Error::Failed { step: Step::CutOver, fence, source: Box::new(failed) })
    }

    /// The placement is null already: what is left of an earlier rollback, or of a split that crashed.
    async fn finish_leaving(&self, epoch: i64, progress: &dyn Progress) -> Result<RolledBack, Error> {
        self.purgeable().await?;
        let mut snapshot = self.target.snapshot().await?;
        let state = fence::state(&mut snapshot, &self.target.tenant).await?;
        snapshot.rollback().await.map_err(Error::database("ending a snapshot"))?;
        let left = state.is_some_and(|reason| fence::is_left(&reason));
        if left {
            self.reopen_source(progress).await?;
            let purged = self.purge(progress).await?;
            return Ok(RolledBack { epoch, report: None, purged });
        }
        // Nobody is routed to the target, but nothing says that its rows are copies. Each must be in the source.
        progress.step(Step::Verify);
        let report = verify(&self.source, &self.target, &self.options, progress).await?;
        let only_copies = report.not_compared.is_empty()
            && report.log_agrees()
            && report.tables.iter().all(|table| !table.compared || (table.extra == 0 && table.different == 0));
        if !only_copies {
            return Err(Error::WrittenSince(Box::new(report)));
        }
        self.reopen_source(progress).await?;
        let purged = self.purge(progress).await?;
        Ok(RolledBack { epoch, report: Some(report), purged })
    }

    async fn reopen_source(&self, progress: &dyn Progress) -> Result<(), Error> {
        progress.step(Step::Reopen);
        let mut snapshot = self.source.snapshot().await?;
        let state = fence::state(&mut snapshot, &self.source.tenant).await?;
        snapshot.rollback().await.map_err(Error::database("ending a snapshot"))?;
        match state {
            Some(reason) if fence::is_transfers(&reason) => {
                fence::lower(Side::Source, &self.source, self.options.fence_deadline).await
            }
            Some(reason) => Err(Error::Fenced { side: Side::Source, reason }),
            None => Ok(()),
        }
    }

    /// Deletes this tenant's rows, and nobody else's, from the target that it has left.
    async fn purge(&self, progress: &dyn Progress) -> Result<Vec<(String, u64)>, Error> {
        progress.step(Step::Purge);
        let purged = async {
            // From here on the fence says that the rows are copies.
            let reason = fence::left(&self.source);
            fence::raise(Side::Target, &self.target, &reason, self.options.fence_deadline).await?;
            let mut from = self.source.snapshot().await?;
            let mut to = self.target.write().await?;
            let (structure, _) = read_structure(&self.source, &self.target, &mut from, &mut to).await?;
            from.rollback().await.map_err(Error::database("ending a snapshot"))?;
            let react = |pair: &crate::plan::Pair| {
                pair.target.triggers.iter().any(|trigger| !trigger.ours && trigger.on_delete && trigger.fires)
            };
            if to.engine() == Engine::Postgres && structure.pairs.iter().any(react) {
                // It silences foreign keys as well, which is why it is kept for those who need it: every table that refers
                // to another is emptied of this tenant's rows all the same.
                let sql = "SET LOCAL session_replication_role = replica";
                to.execute_raw_sql(sql).await.map_err(Error::database("silencing the target's triggers"))?;
            }
            let mut purged = Vec::new();
            for pair in structure.pairs.iter().rev() {
                let sql = format!("DELETE FROM {} WHERE {}", pair.target.from, structure.target.filter());
                let statement = sea_orm::Statement::from_string(crate::rows::backend(to.engine()), sql);
                let doing = || format!("deleting the tenant's copied rows of {}", pair.name);
                let rows = to.execute(statement).await.map_err(Error::database(doing()))?;
                progress.table(&pair.name, rows);
                progress.advance(&pair.name, rows);
                purged.push((pair.name.clone(), rows));
            }
            to.commit().await.map_err(Error::database("deleting the tenant's copied rows"))?;
            Ok(purged)
        };
        purged.await.map_err(|source| Error::Failed {
            step: Step::Purge,
            fence: FenceAfter::Raised { reason: "at the target only; the tenant is back at the source".to_owned() },
            source: Box::new(source),
        })
    }

    /// Refuses beforehand what the purge could not do.
    async fn purgeable(&self) -> Result<(), Error> {
        let (mut from, mut to) = (self.source.snapshot().await?, self.target.snapshot().await?);
        let (structure, _) = read_structure(&self.source, &self.target, &mut from, &mut to).await?;
        for pair in &structure.pairs {
            let triggers = pair.target.triggers.iter().filter(|trigger| !trigger.ours && trigger.on_delete);
            let in_the_way = triggers.filter(|trigger| {
                if structure.target.rights.silences_triggers { trigger.fires_silenced } else { trigger.fires }
            });
            let names: Vec<String> = in_the_way.map(|trigger| quote::identifier(&trigger.name)).collect();
            let problem = if pair.target.access.filtered {
                format!("row-level security hides rows of {} in the target from the login", pair.name)
            } else if !pair.target.access.delete {
                format!("the login may not delete from {} in the target", pair.name)
            } else if !names.is_empty() {
                format!("trigger(s) {} on {} in the target would react to the deletion", names.join(", "), pair.name)
            } else {
                continue;
            };
            return Err(Error::Request { problem });
        }
        for transaction in [from, to] {
            transaction.rollback().await.map_err(Error::database("ending a snapshot"))?;
        }
        Ok(())
    }

    /// Lowers the target's fence when a step fails before the placement has changed: the tenant stays there and writes on.
    async fn reopening_target<T>(&self, step: Step, guard: &mut Guard, done: Result<T, Error>) -> Result<T, Error> {
        let source = match done {
            Ok(done) => return Ok(done),
            Err(source) => source,
        };
        if guard.check().await.is_err() {
            let reason = "at the target; the lock was lost, so another run may rely on it by now".to_owned();
            return Err(Error::Failed { step, fence: FenceAfter::Raised { reason }, source: Box::new(source) });
        }
        let fence = match fence::lower(Side::Target, &self.target, self.options.fence_deadline).await {
            Ok(()) => FenceAfter::Lowered,
            Err(error) => FenceAfter::Raised { reason: format!("it could not be lowered: {error}") },
        };
        Err(Error::Failed { step, fence, source: Box::new(source) })
    }
}
