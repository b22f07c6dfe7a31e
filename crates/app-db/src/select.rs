//! Reading rows of one application entity.

use std::marker::PhantomData;

use sea_orm::sea_query::{Expr, ExprTrait, IntoCondition, NullOrdering, Query};
use sea_orm::{Condition, Order, QueryFilter, QuerySelect, QueryTrait, Select};
use tenantry_realm::AppEntity;

use crate::{
    AppDb, Error,
    app_db::{decode, table_of},
};

/// A query for rows of `E`, made by [`AppDb::find`].
///
/// ```no_run
/// # use sea_orm::{ColumnTrait, Order};
/// # use tenantry_app_db::{AppDb, Error, entities::users};
/// # async fn example(app_db: &AppDb, tenant: uuid::Uuid) -> Result<(), Error> {
/// let users = app_db
///     .find::<users::Entity>()
///     .filter(users::Column::TenantId.eq(tenant))
///     .order_by(users::Column::Email, Order::Asc)
///     .limit(50)
///     .all()
///     .await?;
/// # let _ = users;
/// # Ok(())
/// # }
/// ```
#[must_use = "a query does nothing until it is awaited with `one`, `all` or `count`"]
pub struct AppSelect<E: AppEntity> {
    app_db: AppDb,
    condition: Condition,
    select: Select<E>,
    entity: PhantomData<E>,
}

impl<E: AppEntity> AppSelect<E> {
    pub(crate) fn new(app_db: AppDb) -> Self {
        Self { app_db, condition: Condition::all(), select: E::find(), entity: PhantomData }
    }

    /// Only rows that meet the condition, beside those of earlier calls. A sub-query on a table outside the application
    /// database is refused when the query runs.
    pub fn filter(mut self, condition: impl IntoCondition) -> Self {
        self.condition = self.condition.add(condition.into_condition());
        self
    }

    /// Orders by the column, after those of earlier calls. Nulls come last in either direction, on both engines.
    pub fn order_by(mut self, column: E::Column, order: Order) -> Self {
        QueryTrait::query(&mut self.select).order_by_with_nulls((E::default(), column), order, NullOrdering::Last);
        self
    }

    /// At most this many rows.
    pub fn limit(mut self, rows: u64) -> Self {
        self.select = QuerySelect::limit(self.select, rows);
        self
    }

    /// Skips this many rows; meaningful only with an order.
    pub fn offset(mut self, rows: u64) -> Self {
        self.select = QuerySelect::offset(self.select, rows);
        self
    }

    /// The first row, if any.
    ///
    /// # Errors
    /// [`Error::Refused`] for a condition on a foreign table, [`Error::Database`], [`Error::Decode`].
    pub async fn one(self) -> Result<Option<E::Model>, Error> {
        Ok(self.limit(1).all().await?.into_iter().next())
    }

    /// All rows.
    ///
    /// # Errors
    /// As [`AppSelect::one`].
    pub async fn all(self) -> Result<Vec<E::Model>, Error> {
        let statement = self.select.filter(self.condition).into_query();
        let mut read = self.app_db.read("read its rows").await?;
        let rows = read.rows(table_of::<E>(), &statement).await?;
        read.commit().await?;
        rows.iter().map(decode::<E>).collect()
    }

    /// The number of rows that meet the conditions, whatever limit and offset say.
    ///
    /// # Errors
    /// As [`AppSelect::one`].
    pub async fn count(self) -> Result<u64, Error> {
        let statement = Query::select()
            .expr_as(Expr::col(sea_orm::sea_query::Asterisk).count(), "rows")
            .from(E::default().table_ref())
            .cond_where(self.condition)
            .take();
        let mut read = self.app_db.read("count its rows").await?;
        let row = read.row(table_of::<E>(), &statement).await?;
        read.commit().await?;
        let count: i64 = match row {
            Some(row) => row.try_get("", "rows").map_err(|source| Error::Decode { table: table_of::<E>(), source })?,
            None => 0,
        };
        Ok(count.unsigned_abs())
    }
}
