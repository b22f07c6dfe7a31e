//! Writing many rows. Each call is all or nothing.

use std::collections::HashSet;

use sea_orm::sea_query::IntoCondition;
use tenantry_data_source::{Mode, Rerouting, TenantHandle};
use tenantry_realm::TenantEntity;

use super::Repository;
use crate::{
    Error, IdValue, hooks,
    id::{has_any_id, ids_per_statement},
};

impl<E, H> Repository<'_, E, H>
where
    E: TenantEntity,
    E::ActiveModel: Send + Sync,
    H: TenantHandle,
{
    /// Inserts rows, in the given order and in as few statements as the engine's limits allow, in one transaction. Returns how
    /// many. As [`Self::create`] does with one; of the hooks only `before_save` runs.
    ///
    /// # Errors
    /// As [`Self::create`]; no row is written then.
    pub async fn bulk_create(
        &self,
        models: impl IntoIterator<Item = E::ActiveModel, IntoIter: Send> + Send,
    ) -> Result<u64, Error> {
        let mut prepared = Vec::new();
        for model in models {
            prepared.push(self.prepare(model).await?);
        }
        if prepared.is_empty() {
            return Ok(0);
        }
        Ok(self.handle.insert::<E>(prepared).execute(self.handle).await?)
    }

    /// Sets what the model has as `Set` in every row with one of these ids. Returns how many there were; ids that the tenant
    /// does not have are passed over. `before_save` runs once, on the model.
    ///
    /// # Errors
    /// [`tenantry_data_source::Error::NothingToWrite`], and as [`Self::update`]; no row is written then.
    pub async fn bulk_update<I>(&self, ids: impl IntoIterator<Item = I>, model: E::ActiveModel) -> Result<u64, Error>
    where
        I: Into<IdValue>,
    {
        let ids = distinct(ids);
        let model = hooks::before_save::<E>(model, self.handle.engine(), false).await?;
        let mut rerouting = Rerouting::default();
        loop {
            let unit = self.handle.begin_unit(Mode::Write).await?;
            let updated = update_each::<E, _>(&ids, &model, unit.transaction()).await;
            match unit.finish(updated).await {
                Err(Error::DataSource(error)) => rerouting.run_again(self.handle, error).await?,
                done => return done,
            }
        }
    }

    /// Sets what the model has as `Set` in every row that meets `condition`. Returns how many there were. `before_save` runs
    /// once, on the model.
    ///
    /// # Errors
    /// As [`Self::bulk_update`].
    pub async fn bulk_update_where(
        &self,
        condition: impl IntoCondition + Send,
        model: E::ActiveModel,
    ) -> Result<u64, Error> {
        let condition = condition.into_condition();
        let model = hooks::before_save::<E>(model, self.handle.engine(), false).await?;
        Ok(self.handle.update::<E>().set(&model).filter(condition).execute(self.handle).await?)
    }

    /// Deletes every row with one of these ids. Returns how many there were; ids that the tenant does not have are passed over.
    ///
    /// # Errors
    /// As [`Self::delete`]; no row is deleted then.
    pub async fn bulk_delete<I>(&self, ids: impl IntoIterator<Item = I>) -> Result<u64, Error>
    where
        I: Into<IdValue>,
    {
        let ids = distinct(ids);
        let mut rerouting = Rerouting::default();
        loop {
            let unit = self.handle.begin_unit(Mode::Write).await?;
            let deleted = delete_each::<E, _>(&ids, unit.transaction()).await;
            match unit.finish(deleted).await {
                Err(Error::DataSource(error)) => rerouting.run_again(self.handle, error).await?,
                done => return done,
            }
        }
    }

    /// Deletes every row that meets `condition`. Returns how many there were.
    ///
    /// # Errors
    /// As [`Self::bulk_delete`].
    pub async fn bulk_delete_where(&self, condition: impl IntoCondition + Send) -> Result<u64, Error> {
        let condition = condition.into_condition();
        Ok(self.handle.delete::<E>().filter(condition).execute(self.handle).await?)
    }
}

async fn update_each<E: TenantEntity, H: TenantHandle>(
    ids: &[IdValue],
    model: &E::ActiveModel,
    handle: &H,
) -> Result<u64, Error>
where
    E::ActiveModel: Sync,
{
    let mut updated = 0;
    for ids in ids.chunks(ids_per_statement::<E>()) {
        updated += handle.update::<E>().set(model).filter(has_any_id::<E>(ids)?).execute(handle).await?;
    }
    Ok(updated)
}

async fn delete_each<E: TenantEntity, H: TenantHandle>(ids: &[IdValue], handle: &H) -> Result<u64, Error> {
    let mut deleted = 0;
    for ids in ids.chunks(ids_per_statement::<E>()) {
        deleted += handle.delete::<E>().filter(has_any_id::<E>(ids)?).execute(handle).await?;
    }
    Ok(deleted)
}

/// A row whose id is given twice must not be counted twice.
fn distinct<I: Into<IdValue>>(ids: impl IntoIterator<Item = I>) -> Vec<IdValue> {
    let mut seen = HashSet::new();
    ids.into_iter().map(Into::into).filter(|id| seen.insert(id.to_string())).collect()
}
