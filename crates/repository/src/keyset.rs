//! The rows behind a position, as a condition.
//!
//! With the order `c1, c2, id` and a position `v1, v2, vid` these are the rows with
//!
//! ```text
//! c1 > v1 OR c1 IS NULL OR (c1 = v1 AND (c2 > v2 OR c2 IS NULL OR (c2 = v2 AND id > vid)))
//! ```
//!
//! because nulls come last in either direction; `<` where a column descends, nothing before the `OR` of equals where the
//! position itself is null. Where no column can be null and all go in one direction it is one comparison of rows,
//! `(c1, c2, id) > (v1, v2, vid)`, which both engines answer from an index over these columns. Otherwise a bound on the first
//! column is added that an index on it can use.
//!
//! Knows no cursor and no tenant.

use sea_orm::{ColumnTrait, ExprTrait, Order, Value, sea_query::Expr};

/// A column of the order, its direction and where the page ended in it.
pub(crate) struct Key<C> {
    pub(crate) column: C,
    pub(crate) order: Order,
    pub(crate) value: Value,
}

/// The rows strictly behind the position.
pub(crate) fn behind<C: ColumnTrait>(keys: &[Key<C>]) -> Expr {
    if let Some(rows) = as_rows(keys) {
        return rows;
    }
    let nothing = || Expr::val(1).eq(0);
    let behind = keys.iter().rev().fold(None, |rest: Option<Expr>, key| {
        let equal_and_behind = rest.map(|rest| key.equal().and(rest));
        match (key.strictly_behind(), equal_and_behind) {
            (Some(strictly), Some(behind)) => Some(strictly.or(behind)),
            (strictly, behind) => strictly.or(behind),
        }
    });
    let behind = behind.unwrap_or_else(nothing);
    match keys.first().and_then(Key::bound) {
        Some(bound) => bound.and(behind),
        None => behind,
    }
}

fn as_rows<C: ColumnTrait>(keys: &[Key<C>]) -> Option<Expr> {
    let first = keys.first()?;
    let alike = |key: &Key<C>| key.descends() == first.descends() && !key.column.def().is_null();
    if !keys.iter().all(alike) {
        return None;
    }
    let columns = Expr::tuple(keys.iter().map(Key::column));
    let values = Expr::tuple(keys.iter().map(Key::value));
    Some(if first.descends() { columns.lt(values) } else { columns.gt(values) })
}

impl<C: ColumnTrait> Key<C> {
    fn descends(&self) -> bool {
        matches!(self.order, Order::Desc)
    }

    fn column(&self) -> Expr {
        Expr::col(self.column.as_column_ref())
    }

    fn value(&self) -> Expr {
        self.column.save_as(Expr::val(self.value.clone()))
    }

    fn is_null(&self) -> bool {
        self.value == self.value.as_null()
    }

    /// Nothing comes behind a null.
    fn strictly_behind(&self) -> Option<Expr> {
        if self.is_null() {
            return None;
        }
        let (column, value) = (self.column(), self.value());
        let strictly = if self.descends() { column.lt(value) } else { column.gt(value) };
        Some(self.or_null(strictly))
    }

    fn equal(&self) -> Expr {
        if self.is_null() { self.column().is_null() } else { self.column().eq(self.value()) }
    }

    /// What holds for every row from here on, for the planner alone; nothing is gained where nulls have to be let through.
    fn bound(&self) -> Option<Expr> {
        if self.column.def().is_null() {
            return None;
        }
        Some(if self.descends() { self.column().lte(self.value()) } else { self.column().gte(self.value()) })
    }

    fn or_null(&self, condition: Expr) -> Expr {
        if self.column.def().is_null() { condition.or(self.column().is_null()) } else { condition }
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::sea_query::{Query, SqliteQueryBuilder};

    use super::*;

    mod visits {
        #![expect(unreachable_pub, reason = "the derives make items that have to be as public as the model")]
        use sea_orm::entity::prelude::*;

        #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
        #[sea_orm(table_name = "visits")]
        pub struct Model {
            #[sea_orm(primary_key, auto_increment = false)]
            pub tenant_id: Uuid,
            #[sea_orm(primary_key, auto_increment = false)]
            pub id: i64,
            pub made: i64,
            pub seats: Option<i32>,
        }

        #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
        pub enum Relation {}

        impl ActiveModelBehavior for ActiveModel {}
    }
    tenantry_realm::tenant_entity!(visits);

    fn sql(keys: Vec<(visits::Column, Order, Value)>) -> String {
        let keys: Vec<_> = keys.into_iter().map(|(column, order, value)| Key { column, order, value }).collect();
        let select = Query::select().expr(Expr::val(1)).and_where(behind(&keys)).to_string(SqliteQueryBuilder);
        select.replace("\"visits\".", "").replace('"', "")
    }

    #[test]
    fn one_direction_without_nulls_is_one_comparison_of_rows() {
        use visits::Column::{Id, Made};
        let up = sql(vec![(Made, Order::Asc, 7_i64.into()), (Id, Order::Asc, 1_i64.into())]);
        assert_eq!(up, "SELECT 1 WHERE (made, id) > (7, 1)");
        let down = sql(vec![(Made, Order::Desc, 7_i64.into()), (Id, Order::Desc, 1_i64.into())]);
        assert_eq!(down, "SELECT 1 WHERE (made, id) < (7, 1)");
        let mixed = sql(vec![(Made, Order::Desc, 7_i64.into()), (Id, Order::Asc, 1_i64.into())]);
        assert_eq!(mixed, "SELECT 1 WHERE made <= 7 AND (made < 7 OR (made = 7 AND id > 1))");
    }

    #[test]
    fn nulls_come_behind_every_value_in_either_direction() {
        use visits::Column::{Id, Seats};
        let id = || (Id, Order::Asc, 1_i64.into());
        let value = sql(vec![(Seats, Order::Desc, 7_i32.into()), id()]);
        assert_eq!(value, "SELECT 1 WHERE seats < 7 OR seats IS NULL OR (seats = 7 AND id > 1)");
        let null = sql(vec![(Seats, Order::Asc, Value::Int(None)), id()]);
        assert_eq!(null, "SELECT 1 WHERE seats IS NULL AND id > 1");
    }

    #[test]
    fn nothing_is_behind_a_position_without_columns() {
        assert_eq!(sql(Vec::new()), "SELECT 1 WHERE 1 = 0");
    }
}
