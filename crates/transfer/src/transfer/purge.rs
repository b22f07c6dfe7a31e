//! The end of the kept rows: they are deleted where the tenant has been, once the tenant is known to have them where it is.

use tenantry_app_db::{Error as AppDbError, entities::TransferStep};
use tenantry_connection::{Engine, Transaction};

use super::{
    Done, Transfer,
    request::{is_at, placement},
    run::Run,
    silence::Silence,
};
use crate::{
    Endpoint, Error, Interrupt, Progress, Side, Step,
    copy::clear,
    error::recorded,
    fence::{self, Change, Holder},
    plan::{Pair, Refusal, Structure, is_one_database, prepare, read_both},
    quote,
    rows::count,
    verify::{prevents_comparison, unexplained},
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
/// that the tenant lives in; [`Error::Busy`]. [`Error::Deleted`] where the rows are deleted and that could not be recorded: the same
/// call records it.
pub async fn purge(transfer: &Transfer<'_>, current: &Endpoint, progress: &dyn Progress) -> Result<Done, Error> {
    let mut run = transfer.take("purged", |step| step == TransferStep::Finished, progress).await?;
    let silence = Silence::watch(&transfer.source, current, transfer.options.silence);
    match silence.ends(purge_held(&mut run, transfer, current, progress)).await {
        Ok(()) => Ok(run.done()),
        Err(error) => {
            let error = error.after(&run.purged);
            // What was not deleted is kept on, and may be rolled back to.
            if let Err(error) = run.keep_on().await {
                tracing::warn!(transfer = %transfer.record.id, %error, "the kept rows' fence was not given back");
            }
            run.release(Some(recorded(&error))).await;
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
    refuse_undeletable(source, current).await?;
    let stop = &transfer.options.interrupt;
    let prepared = stop.ends(prepare(source, current, &transfer.options, progress)).await?;
    let not_compared = prepared.plan.refusals.iter().filter(|refusal| prevents_comparison(refusal)).cloned();
    let not_compared: Vec<Refusal> = not_compared.collect();
    let unexplained = stop.ends(unexplained(source, current, &prepared, &transfer.options)).await?;
    if !unexplained.is_empty() || !not_compared.is_empty() {
        return Err(Error::NotHeld(unexplained, not_compared));
    }
    run.take_kept().await?;
    run.purge_source(current).await?;
    run.record(run.advance(TransferStep::Purged)).await
}

impl Run<'_> {
    /// The fence over the kept rows says again that they are kept.
    async fn keep_on(&self) -> Result<(), Error> {
        let (transfer, stamp) = (self.record.id, self.stamp());
        self.change(Side::Source, |found| match found {
            Some(Holder::Moving(found)) if found == stamp => Ok(Change::Raise(Holder::Kept(transfer))),
            _ => Ok(Change::Nothing),
        })
        .await
    }

    /// The fence over the kept rows becomes this run's.
    async fn take_kept(&self) -> Result<(), Error> {
        let (transfer, stamp) = (self.record.id, self.stamp());
        self.change(Side::Source, |found| match found {
            Some(Holder::Kept(kept)) if kept == transfer => Ok(Change::Raise(Holder::Moving(stamp))),
            Some(found) if found.is_moving(transfer) => Ok(Change::Raise(Holder::Moving(stamp))),
            Some(Holder::Left(left)) if left == transfer => Ok(Change::Nothing),
            found => Err(self.gone(Side::Source, found)),
        })
        .await
    }

    /// A run that loses the application database after the deletion can tell its record nothing any more.
    async fn announce_deletion(&self) -> Result<(), Error> {
        const WARNING: &str = "its purge was begun and did not come to its end; the rows that were kept may be deleted";
        match self.app_db.warn_transfer(&self.lease.held, WARNING).await {
            Ok(()) => Ok(()),
            Err(AppDbError::LeaseLost { transfer }) => Err(Error::TakenOver { transfer }),
            Err(source) => Err(Error::AppDb { doing: "recording that rows are to be deleted", source }),
        }
    }

    /// Deletes the tenant's rows where it is no more and leaves the fence as one that was left. That is the last effect: where
    /// the fence says so, an earlier run has done it all.
    pub(super) async fn purge_source(&mut self, current: &Endpoint) -> Result<(), Error> {
        self.progress.step(Step::Purge);
        let transfer = self.record.id;
        let mut snapshot = self.source.snapshot().await?;
        let found = fence::holder(&mut snapshot, &self.source.tenant).await?;
        snapshot.rollback().await.map_err(Error::database("ending a snapshot"))?;
        if found == Some(Holder::Left(transfer)) {
            return Ok(());
        }
        self.announce_deletion().await?;
        self.purged = delete(&self.source, current, &self.options.interrupt, self.progress).await?;
        self.point("purged");
        let stamp = self.stamp();
        self.change(Side::Source, |found| match found {
            Some(found) if found.is_of(stamp) => Ok(Change::Raise(Holder::Left(transfer))),
            found => Err(self.gone(Side::Source, found)),
        })
        .await
    }
}

/// Deletes the tenant's rows at one end, in one transaction, and says how many each table had. `other` only says which tables
/// are meant: those that both have, or the write log. An interrupt breaks it off before its commit, and never in it: what is said
/// of the rows afterwards must be so.
pub(super) async fn delete(
    end: &Endpoint,
    other: &Endpoint,
    interrupt: &Interrupt,
    progress: &dyn Progress,
) -> Result<Vec<(String, u64)>, Error> {
    const DOING: &str = "deleting the tenant's rows";
    // As the target of a structure whose source is where the tenant is.
    let (structure, _) = read_both(other, end).await?;
    let mut to = end.write().await?;
    let react =
        |pair: &Pair| pair.target.triggers.iter().any(|trigger| !trigger.ours && trigger.on_delete && trigger.fires);
    if to.engine() == Engine::Postgres && structure.pairs.iter().any(react) {
        // It silences foreign keys as well, which is why it is kept for those who need it: every table that refers to another
        // is emptied of this tenant's rows all the same.
        let sql = "SET LOCAL session_replication_role = replica";
        to.execute_raw_sql(sql).await.map_err(Error::database("silencing triggers"))?;
    }
    let deleted = interrupt.ends(clear(&structure, &mut to)).await?;
    to.commit().await.map_err(Error::database(DOING))?;
    for (table, rows) in &deleted {
        progress.table(table, *rows);
        progress.advance(table, *rows);
    }
    Ok(deleted)
}

/// Refuses beforehand what a deletion at this end could not do, or would do to others. `other` as of [`delete`].
pub(super) async fn refuse_undeletable(end: &Endpoint, other: &Endpoint) -> Result<(), Error> {
    let (structure, _) = read_both(other, end).await?;
    if let Some((table, references)) = structure.target_unscoped.iter().next() {
        let (table, references) = (table.clone(), references.clone());
        // As a plan says it, which was made before there was such a table.
        return Err(Error::Request {
            problem: Refusal::Unscoped { side: Side::Source, table, references }.to_string(),
        });
    }
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
    let mut snapshot = end.snapshot().await?;
    nobody_refers(&structure, &mut snapshot).await?;
    snapshot.rollback().await.map_err(Error::database("ending a snapshot"))
}

/// Refuses where a neighbour's row refers to one of the tenant's: deleting that would take the neighbour's along, or leave it
/// dangling. Where foreign keys begin with the tenant column, nobody's can.
async fn nobody_refers(structure: &Structure, end: &mut Transaction) -> Result<(), Error> {
    let (mine, column) = (structure.target.filter(), &structure.target.tenant_column);
    for child in &structure.pairs {
        for key in &child.target.foreign_keys {
            let Some(parent) = structure.pairs.iter().find(|pair| pair.name == key.parent) else { continue };
            if key.columns.iter().any(|(from, to)| from == column && to == column) {
                continue;
            }
            let (columns, referred): (Vec<String>, Vec<String>) =
                key.columns.iter().map(|(from, to)| (quote::identifier(from), quote::identifier(to))).unzip();
            let condition = format!(
                "({mine}) IS NOT TRUE AND ({}) IN (SELECT {} FROM {} WHERE {mine})",
                columns.join(", "),
                referred.join(", "),
                parent.target.from
            );
            let binds = key.binds.iter().map(|binds| format!(" AND {binds}")).collect::<String>();
            let rows = count(end, &child.target.from, &format!("{condition}{binds}")).await?;
            if rows > 0 {
                let problem = format!(
                    "{rows} row(s) of {} that belong to other tenants refer to rows of {} that would be deleted",
                    child.name, parent.name
                );
                return Err(Error::Request { problem });
            }
        }
    }
    Ok(())
}
