//! What to look for, apart from whose it is.

use std::sync::Arc;

use sea_orm::{ColumnTrait, Condition, IdenStatic, Order, Related, sea_query::IntoCondition};
use tenantry_data_source::{Engine, ScopedSelect, TenantHandle};
use tenantry_realm::TenantEntity;

use crate::{
    Cursor, CursorProblem, Error, SearchOptions,
    cursor::{self, check_pageable},
    filter::Filter,
    id::id_columns,
    keyset::{self, Key},
};

/// What to look for: typed conditions, search, order, limit and offset. It belongs to no tenant.
#[must_use]
pub struct Query<E: TenantEntity> {
    conditions: Vec<Condition>,
    filters: Vec<Filter<E>>,
    related: Vec<Narrowing<E>>,
    searches: Vec<SearchOptions<E>>,
    order: Vec<(E::Column, Order)>,
    limit: Option<u64>,
    offset: Option<u64>,
}

type Narrowing<E> = Arc<dyn Fn(ScopedSelect<E>) -> ScopedSelect<E> + Send + Sync>;

impl<E: TenantEntity> Query<E> {
    /// Every row.
    pub fn new() -> Self {
        Self {
            conditions: Vec::new(),
            filters: Vec::new(),
            related: Vec::new(),
            searches: Vec::new(),
            order: Vec::new(),
            limit: None,
            offset: None,
        }
    }

    /// Narrows to the rows that meet `condition`. It must not contain a query, nor SQL text where no row-level security stands
    /// behind; the guard refuses both.
    pub fn filter(mut self, condition: impl IntoCondition) -> Self {
        self.conditions.push(condition.into_condition());
        self
    }

    /// Narrows to the rows that meet conditions of a client's: see [`crate::Exposed`].
    pub fn matching(mut self, filter: Filter<E>) -> Self {
        self.filters.push(filter);
        self
    }

    /// Narrows to the rows whose text matches.
    pub fn search(mut self, options: SearchOptions<E>) -> Self {
        self.searches.push(options);
        self
    }

    /// Narrows to the rows that have a related row of the same tenant which meets `condition`.
    pub fn where_exists<R: TenantEntity>(mut self, condition: impl IntoCondition) -> Self
    where
        E: Related<R>,
    {
        let condition = condition.into_condition();
        self.related.push(Arc::new(move |select| select.where_exists::<R>(condition.clone())));
        self
    }

    /// Narrows to the rows that have no related row of the same tenant which meets `condition`.
    pub fn where_not_exists<R: TenantEntity>(mut self, condition: impl IntoCondition) -> Self
    where
        E: Related<R>,
    {
        let condition = condition.into_condition();
        self.related.push(Arc::new(move |select| select.where_not_exists::<R>(condition.clone())));
        self
    }

    /// Orders by a column, after those that were named before. Nulls come last in either direction, on every engine. Text is
    /// ordered by the database's collation.
    pub fn order_by(mut self, column: E::Column, order: Order) -> Self {
        self.order.push((column, order));
        self
    }

    /// At most this many rows.
    pub fn limit(mut self, rows: u64) -> Self {
        self.limit = Some(rows);
        self
    }

    /// Leaves out this many rows at the beginning.
    pub fn offset(mut self, rows: u64) -> Self {
        self.offset = Some(rows);
        self
    }

    /// Everything but order, limit and offset.
    pub(crate) fn narrowed<H: TenantHandle>(&self, handle: &H) -> Result<ScopedSelect<E>, Error> {
        let mut select = handle.select::<E>();
        for condition in self.search_conditions(handle.engine())?.into_iter().chain(self.conditions.iter().cloned()) {
            select = select.filter(condition);
        }
        for filter in &self.filters {
            select = select.filter(filter.condition(handle.engine())?);
        }
        Ok(self.related.iter().fold(select, |select, narrow| narrow(select)))
    }

    pub(crate) fn select<H: TenantHandle>(&self, handle: &H) -> Result<ScopedSelect<E>, Error> {
        let mut select = self.ordered(self.narrowed(handle)?);
        if let Some(limit) = self.limit {
            select = select.limit(limit);
        }
        if let Some(offset) = self.offset {
            select = select.offset(offset);
        }
        Ok(select)
    }

    /// Ordered to the last row: by what was asked for, then by the id, so that pages neither repeat nor skip a row.
    pub(crate) fn fully_ordered(&self, select: ScopedSelect<E>) -> ScopedSelect<E> {
        let remaining = id_columns::<E>()
            .into_iter()
            .filter(|id| !self.order.iter().any(|(column, _)| column.as_str() == id.as_str()));
        remaining.fold(self.ordered(select), |select, column| select.order_by(column, Order::Asc))
    }

    /// The order to the last row, as pages by cursor have it: every column once, up to where the id is complete. What is missing
    /// of the id goes in the direction of the last column, so that an order in one direction stays one.
    pub(crate) fn complete_order(&self) -> Vec<(E::Column, Order)> {
        let mut missing = id_columns::<E>();
        let mut complete: Vec<(E::Column, Order)> = Vec::new();
        for (column, order) in &self.order {
            if complete.iter().any(|(named, _)| named.as_str() == column.as_str()) {
                continue;
            }
            complete.push((*column, order.clone()));
            let of_id = missing.iter().position(|id| id.as_str() == column.as_str());
            if of_id.map(|at| missing.remove(at)).is_some() && missing.is_empty() {
                return complete;
            }
        }
        let last = complete.last().map_or(Order::Asc, |(_, order)| order.clone());
        complete.extend(missing.into_iter().map(|id| (id, last.clone())));
        complete
    }

    /// Everything behind the cursor but the limit, in complete order: the rows of the first statement, then those of the second,
    /// if there is one.
    pub(crate) fn behind<H: TenantHandle>(
        &self,
        cursor: Option<&Cursor>,
        handle: &H,
    ) -> Result<Vec<ScopedSelect<E>>, Error> {
        let order = self.complete_order();
        check_pageable::<E>(&order)?;
        let invalid = |problem| Error::InvalidCursor { entity: E::default().table_name().to_owned(), problem };
        let narrowed = self.narrowed(handle)?;
        let ordered = order.iter().fold(narrowed, |select, (column, order)| select.order_by(*column, order.clone()));
        let Some(cursor) = cursor else { return Ok(vec![ordered]) };
        let behind = keyset::behind(&keys::<E>(&order, cursor).map_err(invalid)?);
        Ok(behind.into_iter().map(|condition| ordered.clone().filter(condition)).collect())
    }

    /// Whether the cursor is one of this query's.
    pub(crate) fn check_cursor(&self, cursor: &Cursor) -> Result<(), CursorProblem> {
        keys::<E>(&self.complete_order(), cursor).map(drop)
    }

    fn ordered(&self, select: ScopedSelect<E>) -> ScopedSelect<E> {
        self.order.iter().fold(select, |select, (column, order)| select.order_by(*column, order.clone()))
    }

    fn search_conditions(&self, engine: Engine) -> Result<Vec<Condition>, Error> {
        self.searches.iter().map(|search| search.condition(engine)).collect()
    }
}

fn keys<E: TenantEntity>(order: &[(E::Column, Order)], cursor: &Cursor) -> Result<Vec<Key<E::Column>>, CursorProblem> {
    let values = cursor::position::<E>(cursor, order)?;
    let keys = order.iter().zip(values).map(|((column, order), value)| {
        // A column that cannot be null has no row behind one.
        if value == value.as_null() && !column.def().is_null() {
            return Err(CursorProblem::Damaged);
        }
        Ok(Key { column: *column, order: order.clone(), value })
    });
    keys.collect()
}

impl<E: TenantEntity> Default for Query<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: TenantEntity> Clone for Query<E> {
    fn clone(&self) -> Self {
        Self {
            conditions: self.conditions.clone(),
            filters: self.filters.clone(),
            related: self.related.clone(),
            searches: self.searches.clone(),
            order: self.order.clone(),
            limit: self.limit,
            offset: self.offset,
        }
    }
}
