//! Inserts of one tenant's rows.

use std::sync::Arc;

use sea_orm::{
    ActiveModelTrait, ActiveValue, ColumnTrait, IdenStatic, Iterable, Value,
    sea_query::{Expr, InsertStatement},
};
use tenantry_connection::{Engine, Mode};
use tenantry_realm::TenantEntity;

use super::{Scope, is_own_key, is_tenant_column, returning};
use crate::{
    Error, TenantHandle,
    handle::{Rerouting, TenantContext, sealed::Checked},
};

/// An insert of one tenant's rows of `E`. There is no upsert: on a conflict it would write a row that it has not read.
pub struct ScopedInsert<E: TenantEntity> {
    scope: Scope<E>,
    rows: Vec<Vec<(E::Column, Value)>>,
    forged: bool,
}

impl<E: TenantEntity> ScopedInsert<E> {
    pub(crate) fn new(context: &Arc<TenantContext>, models: impl IntoIterator<Item = E::ActiveModel>) -> Self {
        let mut insert = Self { scope: Scope::new(context), rows: Vec::new(), forged: false };
        for model in models {
            insert.push(&model);
        }
        insert
    }

    /// Inserts the rows and returns how many. What does not fit into one statement goes into several, in one transaction.
    ///
    /// # Errors
    /// [`Error::ForgedTenant`] when a row names another tenant; [`Error::Connection`] with the constraint that refused a row.
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
        self.follow(handle.context());
        let mut statements = self.statements(handle.context(), false)?;
        if statements.len() == 1
            && let Some(statement) = statements.pop()
        {
            return handle.execute(statement).await;
        }
        let unit = handle.begin_unit(Mode::Write).await?;
        let mut inserted = 0;
        for statement in statements {
            match crate::handle::sealed::Handle::execute(unit.transaction(), statement).await {
                Ok(rows) => inserted += rows,
                Err(error) => return unit.finish(Err(error)).await,
            }
        }
        unit.finish(Ok(inserted)).await
    }

    /// Inserts the rows and returns them as the database stored them.
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
        self.follow(handle.context());
        let mut statements = self.statements(handle.context(), true)?;
        if statements.len() == 1
            && let Some(statement) = statements.pop()
        {
            let rows = handle.query_all(statement, Mode::Write).await?;
            let decoder = self.scope.decoder();
            return rows.iter().map(|row| decoder.decode(row)).collect();
        }
        let unit = handle.begin_unit(Mode::Write).await?;
        let inserted = self.returning_each(unit.transaction(), statements).await;
        unit.finish(inserted).await
    }

    async fn returning_each<H: TenantHandle>(
        &self,
        handle: &H,
        statements: Vec<Checked>,
    ) -> Result<Vec<E::Model>, Error> {
        let decoder = self.scope.decoder();
        let mut inserted = Vec::with_capacity(self.rows.len());
        for statement in statements {
            for row in handle.query_all(statement, Mode::Write).await? {
                inserted.push(decoder.decode(&row)?);
            }
        }
        Ok(inserted)
    }

    /// The tenant may have another id where it is now.
    fn follow(&mut self, context: &Arc<TenantContext>) {
        if !self.scope.is_of_an_older_place(context) {
            return;
        }
        self.scope.follow(context);
        for (_, tenant) in self.rows.iter_mut().filter_map(|row| row.first_mut()) {
            *tenant = context.key.value();
        }
    }

    fn push(&mut self, model: &E::ActiveModel) {
        let tenant = E::tenant_column();
        // In front, where `follow` finds it.
        let mut row = vec![(tenant, self.scope.key().value())];
        for column in E::Column::iter() {
            let (ActiveValue::Set(value) | ActiveValue::Unchanged(value)) = model.get(column) else { continue };
            if is_tenant_column::<E>(&column) {
                self.forged |= !is_own_key(&value, self.scope.key());
            } else {
                row.push((column, value));
            }
        }
        self.rows.push(row);
    }

    /// One statement for each run of rows that set the same columns and fit below the engine's limit of bound values; the
    /// rows keep their order, since a later one may refer to an earlier one.
    fn statements(&self, context: &TenantContext, return_rows: bool) -> Result<Vec<Checked>, Error> {
        if self.forged {
            return Err(Error::ForgedTenant {
                table: self.scope.table.clone(),
                column: E::tenant_column().as_str().to_owned(),
            });
        }
        let mut statements = Vec::new();
        let same_columns = |a: &Vec<(E::Column, Value)>, b: &Vec<(E::Column, Value)>| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0.as_str() == b.0.as_str())
        };
        for run in self.rows.chunk_by(same_columns) {
            let columns = run.first().map_or(1, Vec::len);
            for rows in run.chunks((bound_values(context.engine) / columns).max(1)) {
                statements.push(self.scope.finish(context, &self.statement(rows, return_rows))?);
            }
        }
        Ok(statements)
    }

    fn statement(&self, rows: &[Vec<(E::Column, Value)>], return_rows: bool) -> InsertStatement {
        let mut insert = InsertStatement::new();
        insert.into_table(E::default().table_ref());
        if let Some(first) = rows.first() {
            insert.columns(first.iter().map(|(column, _)| *column));
        }
        for row in rows {
            // The number of values equals the number of columns by construction.
            insert.values_panic(row.iter().map(|(column, value)| column.save_as(Expr::val(value.clone()))));
        }
        if return_rows {
            insert.returning(returning::<E>());
        }
        insert
    }
}

/// How many values one statement can bind.
pub(crate) fn bound_values(engine: Engine) -> usize {
    match engine {
        Engine::Postgres => 65_535,
        Engine::Sqlite => 32_766,
    }
}
