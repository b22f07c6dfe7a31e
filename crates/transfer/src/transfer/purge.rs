//! The end of the kept rows: they are deleted where the tenant has been, once the tenant is known to have them where it is.

use std::sync::atomic::{AtomicBool, Ordering};

use tenantry_app_db::entities::TransferStep;
use tenantry_connection::Engine;

use super::{
    Done, Transfer,
    request::{is_at, placement},
    run::Run,
};
use crate::{
    Endpoint, Error, Progress, Step,
    copy::clear,
    fence::{Change, Holder},
    plan::{is_one_database, read_both},
    quote,
    verify::verify,
};

/// Deletes the rows that a transfer left behind, and no neighbour's: in the place that its record names and nowhere else.
/// `current` is where the tenant is now.
///
/// A row of the source must be in the current place as it was, or the write log there must tell that it was changed or deleted
/// since. Nothing is deleted otherwise.
///
/// # Errors
/// [`Error::NotHeld`] with the rows that are missing; [`Error::NotAt`] where there is nothing kept; [`Error::NotPlaced`] where
/// `current` is not where the tenant is; [`Error::Request`] where the kept rows could not be deleted, or are in the database
/// that the tenant lives in; [`Error::Busy`].
pub async fn purge(transfer: &Transfer<'_>, current: &Endpoint, progress: &dyn Progress) -> Result<Done, Error> {
    let mut run = transfer.take("purged", |step| step == TransferStep::Finished, progress).await?;
    match purge_held(&mut run, transfer, current, progress).await {
        Ok(()) => Ok(run.done()),
        Err(error) => {
            run.release(Some(crate::error::chain(&error))).await;
            Err(error)
        }
    }
}

async fn purge_held(
    run: &mut Run<'_>,
    transfer: &Transfer<'_>,
    current: &Endpoint,
    progress: &dyn Progress,
) -> Result<(), Error> {
    progress.step(Step::Verify);
    let source = &transfer.source;
    let now = placement(transfer.app_db, transfer.record.tenant_id).await?;
    if !is_at(&now, current, transfer.app_db) {
        return Err(Error::NotPlaced {
            tenant: transfer.record.tenant_id,
            placed: now.url.unwrap_or_else(|| "the application database".to_owned()),
            target: current.pool.url().to_string(),
        });
    }
    if is_one_database(source, current).await? {
        let problem = "the tenant lives in the database that its kept rows would be deleted from".to_owned();
        return Err(Error::Request { problem });
    }
    deletable(source, current).await?;
    let report = verify(source, current, &transfer.options, progress).await?;
    if !report.holds_source() {
        return Err(Error::NotHeld(Box::new(report)));
    }
    run.take_kept().await?;
    progress.step(Step::Purge);
    run.purge_source(current).await
}

impl Run<'_> {
    /// The fence over the kept rows becomes this run's.
    async fn take_kept(&self) -> Result<(), Error> {
        let (transfer, stamp) = (self.record.id, self.stamp());
        self.change(crate::Side::Source, |found| match found {
            Some(Holder::Kept(kept)) if kept == transfer => Ok(Change::Raise(Holder::Moving(stamp))),
            Some(found) if found.is_moving(transfer) => Ok(Change::Raise(Holder::Moving(stamp))),
            found => Err(self.gone(crate::Side::Source, found)),
        })
        .await
    }

    async fn purge_source(&mut self, current: &Endpoint) -> Result<(), Error> {
        self.purged = delete(&self.source, current, self.progress).await?;
        self.point("purged");
        let transfer = self.record.id;
        let mine = AtomicBool::new(false);
        self.change(crate::Side::Source, |found| {
            let moving = found.is_some_and(|found| found.is_moving(transfer));
            mine.store(moving, Ordering::Relaxed);
            Ok(if moving { Change::Raise(Holder::Left(transfer)) } else { Change::Nothing })
        })
        .await?;
        self.record(self.advance(TransferStep::Purged)).await
    }
}

/// Deletes the tenant's rows at one end, in one transaction, and says how many each table had. `other` only says which tables
/// are meant: those that both have, or the write log.
pub(super) async fn delete(
    end: &Endpoint,
    other: &Endpoint,
    progress: &dyn Progress,
) -> Result<Vec<(String, u64)>, Error> {
    const DOING: &str = "deleting the tenant's rows";
    // As the target of a structure whose source is where the tenant is.
    let (structure, _) = read_both(other, end).await?;
    let mut to = end.write().await?;
    let react = |pair: &crate::plan::Pair| {
        pair.target.triggers.iter().any(|trigger| !trigger.ours && trigger.on_delete && trigger.fires)
    };
    if to.engine() == Engine::Postgres && structure.pairs.iter().any(react) {
        // It silences foreign keys as well, which is why it is kept for those who need it: every table that refers to another
        // is emptied of this tenant's rows all the same.
        let sql = "SET LOCAL session_replication_role = replica";
        to.execute_raw_sql(sql).await.map_err(Error::database("silencing triggers"))?;
    }
    let deleted = clear(&structure, &mut to).await?;
    to.commit().await.map_err(Error::database(DOING))?;
    for (table, rows) in &deleted {
        progress.table(table, *rows);
        progress.advance(table, *rows);
    }
    Ok(deleted)
}

/// Refuses beforehand what a deletion could not do.
async fn deletable(end: &Endpoint, other: &Endpoint) -> Result<(), Error> {
    let (structure, _) = read_both(other, end).await?;
    for pair in &structure.pairs {
        let triggers = pair.target.triggers.iter().filter(|trigger| !trigger.ours && trigger.on_delete);
        let in_the_way = triggers.filter(|trigger| {
            if structure.target.rights.silences_triggers { trigger.fires_silenced } else { trigger.fires }
        });
        let names: Vec<String> = in_the_way.map(|trigger| quote::identifier(&trigger.name)).collect();
        let problem = if pair.target.access.filtered {
            format!("row-level security hides rows of {} from the login", pair.name)
        } else if !pair.target.access.delete {
            format!("the login may not delete from {}", pair.name)
        } else if !names.is_empty() {
            format!("trigger(s) {} on {} would react to the deletion", names.join(", "), pair.name)
        } else {
            continue;
        };
        return Err(Error::Request { problem });
    }
    Ok(())
}
