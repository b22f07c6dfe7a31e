//! Queries of one tenant's rows.

use std::sync::Arc;

use futures_util::{StreamExt, stream::BoxStream};
use sea_orm::{
    ColumnTrait, Condition, ExprTrait, Order, QueryTrait, Related,
    sea_query::{Asterisk, Expr, IntoCondition, JoinType, NullOrdering, SelectStatement, TableRef},
};
use tenantry_connection::{Engine, Mode};
use tenantry_realm::TenantEntity;

use super::{Scope, related};
use crate::{Error, TenantHandle, handle::TenantContext};

/// A query of one tenant's rows of `E`.
#[derive(Clone)]
pub struct ScopedSelect<E: TenantEntity> {
    scope: Scope<E>,
    joins: Vec<(JoinType, TableRef, Condition)>,
    unjoinable: Option<related::Unjoinable>,
    order: Vec<(E::Column, Order)>,
    limit: Option<u64>,
    offset: Option<u64>,
}

/// What a database can count to, and bind.
const MAX_ROWS: u64 = i64::MAX as u64;

impl<E: TenantEntity> ScopedSelect<E> {
    pub(crate) fn new(context: &Arc<TenantContext>) -> Self {
        Self {
            scope: Scope::new(context),
            joins: Vec::new(),
            unjoinable: None,
            order: Vec::new(),
            limit: None,
            offset: None,
        }
    }

    /// Narrows to the rows that meet `condition`. It may use columns of `E` and of joined entities; it must not contain a
    /// query, nor SQL text where no row-level security stands behind.
    #[must_use]
    pub fn filter(mut self, condition: impl IntoCondition) -> Self {
        self.scope.filter(condition);
        self
    }

    /// Orders by a column, after those that were named before. Nulls come last in either direction, on every engine.
    #[must_use]
    pub fn order_by(mut self, column: E::Column, order: Order) -> Self {
        self.order.push((column, order));
        self
    }

    /// At most this many rows.
    #[must_use]
    pub fn limit(mut self, rows: u64) -> Self {
        self.limit = Some(Ord::min(rows, MAX_ROWS));
        self
    }

    /// Leaves out this many rows at the beginning.
    #[must_use]
    pub fn offset(mut self, rows: u64) -> Self {
        self.offset = Some(Ord::min(rows, MAX_ROWS));
        self
    }

    /// Joins a related entity, so that conditions can use its columns. Both sides carry the tenant predicate in ON. A row of
    /// `E` appears once for each related row; [`Self::where_exists`] has it once.
    #[must_use]
    pub fn join<R: TenantEntity>(self) -> Self
    where
        E: Related<R>,
    {
        self.join_as::<R>(JoinType::InnerJoin)
    }

    /// As [`Self::join`], and keeps rows without a related row.
    #[must_use]
    pub fn left_join<R: TenantEntity>(self) -> Self
    where
        E: Related<R>,
    {
        self.join_as::<R>(JoinType::LeftJoin)
    }

    /// Narrows to the rows that have a related row of this tenant which meets `condition`.
    #[must_use]
    pub fn where_exists<R: TenantEntity>(mut self, condition: impl IntoCondition) -> Self
    where
        E: Related<R>,
    {
        self.related::<R>(condition.into_condition(), false);
        self
    }

    /// Narrows to the rows that have no related row of this tenant which meets `condition`.
    #[must_use]
    pub fn where_not_exists<R: TenantEntity>(mut self, condition: impl IntoCondition) -> Self
    where
        E: Related<R>,
    {
        self.related::<R>(condition.into_condition(), true);
        self
    }

    /// Every row of the query.
    ///
    /// # Errors
    /// What the guard refuses, [`Error::Connection`], [`Error::Decode`].
    pub async fn all<H: TenantHandle>(&self, handle: &H) -> Result<Vec<E::Model>, Error> {
        self.rows(handle, self.limit).await
    }

    /// The first row of the query, if any.
    ///
    /// # Errors
    /// As [`Self::all`].
    pub async fn one<H: TenantHandle>(&self, handle: &H) -> Result<Option<E::Model>, Error> {
        let limit = if self.limit == Some(0) { 0 } else { 1 };
        Ok(self.rows(handle, Some(limit)).await?.pop())
    }

    /// Whether the query has any row.
    ///
    /// # Errors
    /// As [`Self::all`].
    pub async fn exists<H: TenantHandle>(&self, handle: &H) -> Result<bool, Error> {
        let mut select = self.bare()?;
        select.expr(Expr::val(1)).limit(1);
        let statement = self.scope.finish(handle.context(), &select)?;
        Ok(!handle.query_all(statement, Mode::Read).await?.is_empty())
    }

    /// How many rows the query has without its limit and offset.
    ///
    /// # Errors
    /// As [`Self::all`].
    pub async fn count<H: TenantHandle>(&self, handle: &H) -> Result<u64, Error> {
        let mut select = self.bare()?;
        select.expr_as(Expr::col(Asterisk).count(), "rows");
        let statement = self.scope.finish(handle.context(), &select)?;
        let rows = handle.query_all(statement, Mode::Read).await?;
        let count: i64 = match rows.first() {
            Some(row) => {
                row.try_get("", "rows").map_err(|source| Error::Decode { table: self.scope.table.clone(), source })?
            }
            None => 0,
        };
        Ok(count.unsigned_abs())
    }

    /// The rows of the query as they arrive, in bounded memory. The stream holds its connection until its end, and closes it
    /// when it is dropped midway; within a transaction nothing else can be done meanwhile, and a stream that is dropped
    /// midway gives the transaction up.
    pub fn stream<'h, H: TenantHandle>(self, handle: &'h H) -> BoxStream<'h, Result<E::Model, Error>>
    where
        E: 'h,
    {
        let statement =
            self.statement(handle.engine(), self.limit).and_then(|select| self.scope.finish(handle.context(), &select));
        match statement {
            Ok(statement) => {
                let decoder = self.scope.decoder();
                handle.stream(statement).map(move |row| row.and_then(|row| decoder.decode(&row))).boxed()
            }
            Err(error) => futures_util::stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn rows<H: TenantHandle>(&self, handle: &H, limit: Option<u64>) -> Result<Vec<E::Model>, Error> {
        let statement = self.scope.finish(handle.context(), &self.statement(handle.engine(), limit)?)?;
        let rows = handle.query_all(statement, Mode::Read).await?;
        let decoder = self.scope.decoder();
        rows.iter().map(|row| decoder.decode(row)).collect()
    }

    fn statement(&self, engine: Engine, limit: Option<u64>) -> Result<SelectStatement, Error> {
        let mut select = E::find().into_query();
        self.narrow(&mut select)?;
        for (column, order) in &self.order {
            select.order_by_with_nulls(column.as_column_ref(), order.clone(), NullOrdering::Last);
        }
        if let Some(limit) = limit {
            select.limit(limit);
        }
        if let Some(offset) = self.offset {
            select.offset(offset);
            // SQLite knows OFFSET only behind a LIMIT.
            if engine == Engine::Sqlite && limit.is_none() {
                select.limit(MAX_ROWS);
            }
        }
        Ok(select)
    }

    /// The query without columns, order and limits.
    fn bare(&self) -> Result<SelectStatement, Error> {
        let mut select = E::find().into_query();
        select.clear_selects();
        self.narrow(&mut select)?;
        Ok(select)
    }

    fn narrow(&self, select: &mut SelectStatement) -> Result<(), Error> {
        if let Some(related::Unjoinable { related, reason }) = &self.unjoinable {
            return Err(Error::Join { table: self.scope.table.clone(), related: related.clone(), reason });
        }
        for (kind, table, on) in &self.joins {
            select.join(*kind, table.clone(), on.clone());
        }
        select.cond_where(self.scope.predicate());
        Ok(())
    }

    fn join_as<R: TenantEntity>(mut self, kind: JoinType) -> Self
    where
        E: Related<R>,
    {
        match related::join::<E, R>(&mut self.scope) {
            Ok((table, on)) => self.joins.push((kind, table, on)),
            Err(unjoinable) => self.unjoinable = self.unjoinable.or(Some(unjoinable)),
        }
        self
    }

    fn related<R: TenantEntity>(&mut self, condition: Condition, negate: bool)
    where
        E: Related<R>,
    {
        match related::exists::<E, R>(&mut self.scope, condition) {
            Ok(exists) => {
                let exists = if negate { exists.not() } else { exists };
                self.scope.conditions.push(exists.into_condition());
            }
            Err(unjoinable) => self.unjoinable = self.unjoinable.take().or(Some(unjoinable)),
        }
    }
}
