//! Updates of one tenant's rows.

use std::sync::Arc;

use sea_orm::{
    ActiveModelTrait, ActiveValue, ColumnTrait, IdenStatic, Iterable, Value,
    sea_query::{Expr, IntoCondition, UpdateStatement},
};
use tenantry_connection::Mode;
use tenantry_realm::TenantEntity;

use super::{Scope, is_key_column, is_own_key, is_tenant_column, returning};
use crate::{
    Error, TenantHandle,
    handle::{Rerouting, TenantContext},
};

/// An update of one tenant's rows of `E`. It sets neither the tenant column nor a column of the primary key.
#[derive(Clone)]
pub struct ScopedUpdate<E: TenantEntity> {
    scope: Scope<E>,
    values: Vec<(E::Column, Value)>,
    refused: Option<Refused>,
}

#[derive(Clone)]
enum Refused {
    Tenant,
    Key(String),
}

impl<E: TenantEntity> ScopedUpdate<E> {
    pub(crate) fn new(context: &Arc<TenantContext>) -> Self {
        Self { scope: Scope::new(context), values: Vec::new(), refused: None }
    }

    /// Sets what the model has as `Set`. A tenant column that is set to the tenant's own key is left out; to anything else, it
    /// is an error, as is a column of the primary key.
    #[must_use]
    pub fn set(mut self, model: &E::ActiveModel) -> Self {
        for column in E::Column::iter() {
            let ActiveValue::Set(value) = model.get(column) else { continue };
            if is_tenant_column::<E>(&column) {
                if !is_own_key(&value, self.scope.key()) {
                    self.refused = self.refused.or(Some(Refused::Tenant));
                }
            } else if is_key_column::<E>(&column) {
                self.refused = self.refused.or_else(|| Some(Refused::Key(column.as_str().to_owned())));
            } else {
                self.values.push((column, value));
            }
        }
        self
    }

    /// Whether there is anything to set.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.refused.is_none()
    }

    /// Narrows to the rows that meet `condition`, as [`crate::ScopedSelect::filter`] does. Without one, every row of the
    /// tenant is updated.
    #[must_use]
    pub fn filter(mut self, condition: impl IntoCondition) -> Self {
        self.scope.filter(condition);
        self
    }

    /// Updates the rows and returns how many.
    ///
    /// # Errors
    /// [`Error::ForgedTenant`], [`Error::PrimaryKeyUpdate`], [`Error::NothingToWrite`], what the guard refuses, and
    /// [`Error::Connection`] with the constraint that refused a row.
    pub async fn execute<H: TenantHandle>(mut self, handle: &H) -> Result<u64, Error> {
        let mut rerouting = Rerouting::default();
        loop {
            match self.attempt(handle).await {
                Err(error) => handle.rerouted(error, &mut rerouting).await?,
                done => return done,
            }
        }
    }

    async fn attempt<H: TenantHandle>(&mut self, handle: &H) -> Result<u64, Error> {
        self.scope.follow(handle.context());
        let update = self.statement()?;
        let statement = self.scope.finish(handle.context(), &update)?;
        handle.execute(statement).await
    }

    /// Updates the rows and returns them. On SQLite they are as they were before triggers that run after the update: read them
    /// again where that matters.
    ///
    /// # Errors
    /// As [`Self::execute`], and [`Error::Decode`].
    pub async fn returning<H: TenantHandle>(mut self, handle: &H) -> Result<Vec<E::Model>, Error> {
        let mut rerouting = Rerouting::default();
        loop {
            match self.attempt_returning(handle).await {
                Err(error) => handle.rerouted(error, &mut rerouting).await?,
                done => return done,
            }
        }
    }

    async fn attempt_returning<H: TenantHandle>(&mut self, handle: &H) -> Result<Vec<E::Model>, Error> {
        self.scope.follow(handle.context());
        let mut update = self.statement()?;
        update.returning(returning::<E>());
        let statement = self.scope.finish(handle.context(), &update)?;
        let rows = handle.query_all(statement, Mode::Write).await?;
        let decoder = self.scope.decoder();
        rows.iter().map(|row| decoder.decode(row)).collect()
    }

    fn statement(&self) -> Result<UpdateStatement, Error> {
        let table = self.scope.table.clone();
        match &self.refused {
            Some(Refused::Tenant) => {
                return Err(Error::ForgedTenant { table, column: E::tenant_column().as_str().to_owned() });
            }
            Some(Refused::Key(column)) => return Err(Error::PrimaryKeyUpdate { table, column: column.clone() }),
            None if self.values.is_empty() => return Err(Error::NothingToWrite { table }),
            None => {}
        }
        let mut update = UpdateStatement::new();
        update.table(E::default().table_ref()).cond_where(self.scope.predicate());
        for (column, value) in &self.values {
            update.value(*column, column.save_as(Expr::val(value.clone())));
        }
        Ok(update)
    }
}
