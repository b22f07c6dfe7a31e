//! The rows behind a position, as conditions that an index answers.
//!
//! With the order `c1, c2, id` and a position `v1, v2, vid` these are, nulls being last in either direction,
//!
//! ```text
//! (c1, c2, id) > (v1, v2, vid)                                               where c2 cannot be null and all go one way
//! c1 >= v1 AND (c1 > v1 OR (c1 = v1 AND (c2 > v2 OR c2 IS NULL OR …)))       else; `<` where a column descends
//! and then    c1 IS NULL                                                     where c1 can be null
//! or only     c1 IS NULL AND (c2, id) > (v2, vid)                            where v1 is null
//! ```
//!
//! The nulls of the first column are asked for apart: in one condition with the values, `OR c1 IS NULL` would keep both
//! engines from entering an index at the position, and they would read every row before it again. Neither a comparison of rows
//! nor `c1 >= v1` holds for a null, so that the two never have a row in common.
//!
//! Knows no cursor and no tenant.

use sea_orm::{ColumnTrait, ExprTrait, Order, Value, sea_query::Expr};

/// A column of the order, its direction and where the page ended in it.
pub(crate) struct Key<C> {
    pub(crate) column: C,
    pub(crate) order: Order,
    pub(crate) value: Value,
}

/// The rows strictly behind the position: those of the first condition come before those of the second, if there is one.
pub(crate) fn behind<C: ColumnTrait>(keys: &[Key<C>]) -> Vec<Expr> {
    let Some((first, rest)) = keys.split_first() else { return vec![nothing()] };
    if first.is_null() {
        return vec![first.equal().and(within(rest))];
    }
    let values = rows(keys).unwrap_or_else(|| {
        let behind = if rest.is_empty() { first.beyond() } else { first.beyond().or(first.equal().and(within(rest))) };
        first.at_or_beyond().and(behind)
    });
    if first.nullable() { vec![values, first.column().is_null()] } else { vec![values] }
}

/// The rows behind the position among those that are equal in what comes before these columns.
fn within<C: ColumnTrait>(keys: &[Key<C>]) -> Expr {
    let nullable = keys.iter().any(Key::nullable);
    if !nullable && let Some(rows) = rows(keys) {
        return rows;
    }
    let behind = keys.iter().rev().fold(None, |rest: Option<Expr>, key| {
        let equal_and_behind = rest.map(|rest| key.equal().and(rest));
        match (key.strictly_behind(), equal_and_behind) {
            (Some(strictly), Some(behind)) => Some(strictly.or(behind)),
            (strictly, behind) => strictly.or(behind),
        }
    });
    behind.unwrap_or_else(nothing)
}

/// One comparison of rows, where that says the same. Rows that are null in the first column are not in it.
fn rows<C: ColumnTrait>(keys: &[Key<C>]) -> Option<Expr> {
    let (first, rest) = keys.split_first()?;
    if rest.iter().any(|key| key.nullable() || key.descends() != first.descends()) {
        return None;
    }
    if rest.is_empty() {
        return Some(first.beyond());
    }
    let columns = Expr::tuple(keys.iter().map(Key::column));
    let values = Expr::tuple(keys.iter().map(Key::value));
    Some(if first.descends() { columns.lt(values) } else { columns.gt(values) })
}

fn nothing() -> Expr {
    Expr::val(1).eq(0)
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

    fn nullable(&self) -> bool {
        self.column.def().is_null()
    }

    /// The values that come later; not the nulls.
    fn beyond(&self) -> Expr {
        if self.descends() { self.column().lt(self.value()) } else { self.column().gt(self.value()) }
    }

    /// This value and those that come later; not the nulls.
    fn at_or_beyond(&self) -> Expr {
        if self.descends() { self.column().lte(self.value()) } else { self.column().gte(self.value()) }
    }

    /// Nothing comes behind a null.
    fn strictly_behind(&self) -> Option<Expr> {
        match (self.is_null(), self.nullable()) {
            (true, _) => None,
            (false, true) => Some(self.beyond().or(self.column().is_null())),
            (false, false) => Some(self.beyond()),
        }
    }

    fn equal(&self) -> Expr {
        if self.is_null() { self.column().is_null() } else { self.column().eq(self.value()) }
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

    fn sql(keys: Vec<(visits::Column, Order, Value)>) -> Vec<String> {
        let keys: Vec<_> = keys.into_iter().map(|(column, order, value)| Key { column, order, value }).collect();
        let one = |behind| {
            let select = Query::select().expr(Expr::val(1)).and_where(behind).to_string(SqliteQueryBuilder);
            select.replace("\"visits\".", "").replace('"', "").replace("SELECT 1 WHERE ", "")
        };
        behind(&keys).into_iter().map(one).collect()
    }

    fn id(order: Order) -> (visits::Column, Order, Value) {
        (visits::Column::Id, order, 1_i64.into())
    }

    #[test]
    fn one_direction_is_one_comparison_of_rows() {
        use visits::Column::{Made, Seats};
        let up = sql(vec![(Made, Order::Asc, 7_i64.into()), id(Order::Asc)]);
        assert_eq!(up, ["(made, id) > (7, 1)"]);
        let down = sql(vec![(Made, Order::Desc, 7_i64.into()), id(Order::Desc)]);
        assert_eq!(down, ["(made, id) < (7, 1)"]);
        assert_eq!(sql(vec![id(Order::Desc)]), ["id < 1"]);
        let nullable = sql(vec![(Seats, Order::Desc, 7_i32.into()), id(Order::Desc)]);
        assert_eq!(nullable, ["(seats, id) < (7, 1)", "seats IS NULL"]);
        let null = sql(vec![(Seats, Order::Desc, Value::Int(None)), (Made, Order::Asc, 7_i64.into()), id(Order::Asc)]);
        assert_eq!(null, ["seats IS NULL AND (made, id) > (7, 1)"]);
    }

    #[test]
    fn mixed_directions_begin_at_a_bound() {
        use visits::Column::{Made, Seats};
        let mixed = sql(vec![(Made, Order::Desc, 7_i64.into()), id(Order::Asc)]);
        assert_eq!(mixed, ["made <= 7 AND (made < 7 OR (made = 7 AND id > 1))"]);
        let nullable = sql(vec![(Seats, Order::Asc, 7_i32.into()), id(Order::Desc)]);
        assert_eq!(nullable, ["seats >= 7 AND (seats > 7 OR (seats = 7 AND id < 1))", "seats IS NULL"]);
        let later = sql(vec![(Made, Order::Asc, 7_i64.into()), (Seats, Order::Asc, 2_i32.into()), id(Order::Asc)]);
        assert_eq!(
            later,
            ["made >= 7 AND (made > 7 OR (made = 7 AND (seats > 2 OR seats IS NULL OR (seats = 2 AND id > 1))))"]
        );
        let null = sql(vec![(Made, Order::Asc, 7_i64.into()), (Seats, Order::Asc, Value::Int(None)), id(Order::Asc)]);
        assert_eq!(null, ["made >= 7 AND (made > 7 OR (made = 7 AND (seats IS NULL AND id > 1)))"]);
    }

    #[test]
    fn nothing_is_behind_a_position_without_columns() {
        assert_eq!(sql(Vec::new()), ["1 = 0"]);
        assert_eq!(sql(vec![(visits::Column::Seats, Order::Asc, Value::Int(None))]), ["seats IS NULL AND 1 = 0"]);
    }
}
