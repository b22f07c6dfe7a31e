//! Writing one row.

use sea_orm::{ActiveModelTrait, ActiveValue, ColumnTrait, ColumnType, IdenStatic, Value};
use tenantry_data_source::{ConnectionError, Engine, Error as DataSourceError, Mode, Rerouting, TenantHandle};
use tenantry_realm::TenantEntity;
use uuid::Uuid;

use super::Repository;
use crate::{
    Error, IdValue, hooks,
    id::{has_id, id_columns, id_parts},
};

impl<E, H> Repository<'_, E, H>
where
    E: TenantEntity,
    E::ActiveModel: Send,
    H: TenantHandle,
{
    /// Inserts a row and returns it as the database stored it. The tenant column is set here; naming another tenant is an error.
    /// An id that is one uuid is made here when it is not set. `before_save` and `after_save` of the entity run, without a
    /// database to query.
    ///
    /// # Errors
    /// [`DataSourceError::ForgedTenant`], the violated constraint, [`Error::Hook`], and what writing ran into. Nothing is
    /// written then; within a transaction, roll it back. [`Error::HookAfterwards`] and [`Error::ReadBack`]: the row is written.
    pub async fn create(&self, model: E::ActiveModel) -> Result<E::Model, Error> {
        let model = self.prepare(model).await?;
        // One statement, and so one transaction by itself.
        let stored = self.handle.insert::<E>([model]).returning(self.handle).await;
        let stored = stored.map_err(|error| self.read_back(written_unless_refused::<E>(error)))?.pop();
        let stored = stored.ok_or_else(|| Error::NotStored { entity: E::default().table_name().to_owned() })?;
        hooks::after_save::<E>(stored, self.handle, true).await
    }

    /// Sets what the model has as `Set` in the row with this id and returns the row as it is afterwards. The tenant column and
    /// the id may be set to what they are and to nothing else. Without anything to set the row is only read.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the tenant has no such row, whether or not another tenant has;
    /// [`DataSourceError::ForgedTenant`], [`DataSourceError::PrimaryKeyUpdate`], and as [`Self::create`].
    pub async fn update(&self, id: impl Into<IdValue> + Send, model: E::ActiveModel) -> Result<E::Model, Error> {
        let id = id.into();
        let engine = self.handle.engine();
        let mut model = hooks::before_save::<E>(self.identified(model, &id)?, engine, false).await?;
        without_id::<E>(&mut model, &id)?;
        let mut rerouting = Rerouting::default();
        let row = loop {
            match self.update_once(&model, &id).await {
                Err(Error::DataSource(error)) => rerouting.run_again(self.handle, error).await?,
                done => break done,
            }
        };
        let row = row.map_err(|error| self.read_back(error))?;
        let row =
            row.ok_or_else(|| Error::NotFound { entity: E::default().table_name().to_owned(), id: id.to_string() })?;
        hooks::after_save::<E>(row, self.handle, false).await
    }

    /// Deletes the row with this id; false when the tenant has no such row. Hooks of the entity do not run.
    ///
    /// # Errors
    /// [`Error::ForeignKeyViolation`] when the row is still referred to, and what writing ran into.
    pub async fn delete(&self, id: impl Into<IdValue> + Send) -> Result<bool, Error> {
        let condition = has_id::<E>(&id.into())?;
        Ok(self.handle.delete::<E>().filter(condition).execute(self.handle).await? > 0)
    }

    async fn update_once(&self, model: &E::ActiveModel, id: &IdValue) -> Result<Option<E::Model>, Error> {
        match self.handle.engine() {
            Engine::Postgres => match update::<E, _>(model, id, self.handle).await? {
                // The tenant has moved to an SQLite file meanwhile, whose RETURNING shows the row before the triggers.
                Some(_) if self.handle.engine() == Engine::Sqlite => {
                    let row = self.handle.select::<E>().filter(has_id::<E>(id)?).one(self.handle).await;
                    row.map_err(written_unless_refused::<E>)
                }
                row => Ok(row),
            },
            // Two statements, and so in need of a transaction.
            Engine::Sqlite => {
                let unit = self.handle.begin_unit(Mode::Write).await?;
                match update::<E, _>(model, id, unit.transaction()).await {
                    // As on PostgreSQL, where one statement has both written the row and read it.
                    Err(error @ Error::ReadBack { .. }) => unit.finish(Ok(())).await.and(Err(error)),
                    updated => unit.finish(updated).await,
                }
            }
        }
    }

    /// What was written and cannot be read back does not last in a transaction.
    fn read_back(&self, error: Error) -> Error {
        if matches!(error, Error::ReadBack { .. }) {
            self.handle.undo_if_in_transaction();
        }
        error
    }

    /// The model with its tenant and id, so that hooks can see which row it is.
    fn identified(&self, mut model: E::ActiveModel, id: &IdValue) -> Result<E::ActiveModel, Error> {
        fill_tenant::<E, _>(&mut model, self.handle);
        for (column, value) in id_parts::<E>(id)? {
            if !matches!(model.get(column), ActiveValue::Set(_)) {
                // A value of another type than the column's finds no row either.
                let _ = model.try_set(column, value);
            }
        }
        Ok(model)
    }

    /// What an insert of this model writes: the tenant and the id are filled in, and `before_save` has run.
    pub(super) async fn prepare(&self, mut model: E::ActiveModel) -> Result<E::ActiveModel, Error> {
        fill_tenant::<E, _>(&mut model, self.handle);
        if let [id] = id_columns::<E>()[..]
            && model.is_not_set(id)
            && matches!(id.def().get_column_type(), ColumnType::Uuid)
        {
            // An id column that is a uuid takes one.
            let _ = model.try_set(id, Value::from(Uuid::new_v4()));
        }
        hooks::before_save::<E>(model, self.handle.engine(), true).await
    }
}

async fn update<E, H>(model: &E::ActiveModel, id: &IdValue, handle: &H) -> Result<Option<E::Model>, Error>
where
    E: TenantEntity,
    E::ActiveModel: Send,
    H: TenantHandle,
{
    let condition = has_id::<E>(id)?;
    let update = handle.update::<E>().set(model).filter(condition.clone());
    Ok(if update.is_empty() {
        handle.select::<E>().filter(condition).one(handle).await?
    } else {
        match handle.engine() {
            Engine::Postgres => update.returning(handle).await.map_err(written_unless_refused::<E>)?.pop(),
            // RETURNING shows the row before the trigger that sets updated_at.
            Engine::Sqlite if update.execute(handle).await? == 0 => None,
            Engine::Sqlite => {
                handle.select::<E>().filter(condition).one(handle).await.map_err(written_unless_refused::<E>)?
            }
        }
    })
}

/// What the database answered to a write, and no model can be made of, is an error of reading: the row is written.
fn written_unless_refused<E: TenantEntity>(error: DataSourceError) -> Error {
    match error {
        DataSourceError::Decode { .. } | DataSourceError::Connection(ConnectionError::Unrepresentable { .. }) => {
            Error::ReadBack { entity: E::default().table_name().to_owned(), source: error }
        }
        refused => refused.into(),
    }
}

/// Hooks see whose row it is. A column narrower than the key's type does not take the value; the statement sets it in any case.
fn fill_tenant<E: TenantEntity, H: TenantHandle>(model: &mut E::ActiveModel, handle: &H) {
    if model.is_not_set(E::tenant_column()) {
        let _ = model.try_set(E::tenant_column(), handle.key().value());
    }
}

/// The model without its id, which an update does not set.
fn without_id<E: TenantEntity>(model: &mut E::ActiveModel, id: &IdValue) -> Result<(), Error> {
    for (column, value) in id_parts::<E>(id)? {
        if let ActiveValue::Set(set) = model.get(column)
            && set != value
        {
            return Err(DataSourceError::PrimaryKeyUpdate {
                table: E::default().table_name().to_owned(),
                column: column.as_str().to_owned(),
            }
            .into());
        }
        model.not_set(column);
    }
    Ok(())
}
