//! The way back: a transfer in the other direction, onto the rows that were kept.

use tenantry_app_db::entities::TransferStep;

use super::{
    Done, Request, Transfer,
    purge::refuse_undeletable,
    request::{is_at, placement},
    run::Run,
};
use crate::{Error, Options, Progress};

/// See [`Transfer::rollback`].
pub(super) async fn rollback(transfer: &Transfer<'_>, progress: &dyn Progress) -> Result<Done, Error> {
    const DOING: &str = "reading the transfer";
    let (app_db, id) = (transfer.app_db, transfer.record.id);
    let record = loop {
        let record = app_db.transfer(id).await.map_err(Error::app_db(DOING))?;
        let record = record.ok_or(tenantry_app_db::Error::UnknownTransfer { transfer: id });
        let record = record.map_err(Error::app_db(DOING))?;
        let under_way = app_db.transfer_under_way(record.tenant_id).await.map_err(Error::app_db(DOING))?;
        let Some(begun) = under_way else { break record };
        if begun.undoes != Some(id) {
            let target = begun.target_url.unwrap_or_else(|| "the application database".to_owned());
            return Err(Error::UnderWay { tenant: record.tenant_id, transfer: begun.id, target });
        }
        match (Transfer { record: begun, ..reversed(transfer) }).resume(progress).await {
            // What was given up is taken back first, and then it begins anew: the tenant is not back yet.
            Ok(done) if done.step == TransferStep::Aborted => {}
            // Where it has ended meanwhile, what it has come to is seen next.
            Err(Error::NotAt { .. }) => {}
            done => return done,
        }
    };
    if record.step != TransferStep::Finished {
        return Err(Error::NotAt { transfer: id, step: record.step.as_str(), wanted: "rolled back" });
    }
    let now = placement(app_db, record.tenant_id).await?;
    if !is_at(&now, &transfer.target, app_db) {
        return Err(Error::NotPlaced {
            tenant: record.tenant_id,
            placed: now.url.unwrap_or_else(|| "the application database".to_owned()),
            target: transfer.target.pool.url().to_string(),
        });
    }
    // What is left behind is deleted after the cutover, when it is too late to refuse.
    refuse_undeletable(&transfer.target, &transfer.source).await?;
    // What came along goes back along: rows of the tenant may refer to some that were added since.
    let mut reference_tables = record.reference_tables().map_err(Error::app_db(DOING))?;
    reference_tables.extend(transfer.options.reference_tables.iter().cloned());
    reference_tables.sort();
    reference_tables.dedup();
    let request = Request {
        app_db,
        tenant: record.tenant_id,
        source: transfer.target.clone(),
        target: transfer.source.clone(),
        expected_epoch: now.epoch,
        from: record.target().map_err(Error::app_db(DOING))?,
        to: record.source().map_err(Error::app_db(DOING))?,
        data_source: None,
        actor: transfer.actor.clone(),
        options: Options { reference_tables, ..transfer.options.clone() },
    };
    let prepared = request.prepare_return(id, progress).await?;
    Run::begin(&request, Some(id), prepared, progress).await?.drive().await
}

fn reversed<'a>(transfer: &Transfer<'a>) -> Transfer<'a> {
    let (source, target) = (transfer.target.clone(), transfer.source.clone());
    Transfer { source, target, ..transfer.clone() }
}
