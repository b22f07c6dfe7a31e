//! The part of a primary key that a tenant's own code knows.

use std::fmt;

use sea_orm::{
    ColumnTrait, Condition, IdenStatic, Iterable, ModelTrait, PrimaryKeyToColumn, Value,
    sea_query::{QueryBuilder, SqliteQueryBuilder},
};
use tenantry_realm::TenantEntity;
use uuid::Uuid;

use crate::Error;

/// An id within a tenant: the values of the primary key without the tenant column, in the key's order. One uuid for the
/// reference entities; a number, a text or a tuple for others; `()` where the key is the tenant column alone.
#[derive(Debug, Clone, PartialEq)]
pub struct IdValue(Vec<Value>);

impl IdValue {
    /// The id of a row.
    pub fn of<E: TenantEntity>(row: &E::Model) -> Self {
        Self(id_columns::<E>().into_iter().map(|column| row.get(column)).collect())
    }

    /// The values, in the key's order.
    pub fn values(&self) -> &[Value] {
        &self.0
    }
}

/// As errors print it; the parts of a composite id are joined with commas.
impl fmt::Display for IdValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, value) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match value {
                Value::Uuid(Some(id)) => id.fmt(f)?,
                Value::String(Some(text)) => f.write_str(text)?,
                other => f.write_str(&SqliteQueryBuilder.value_to_string(other))?,
            }
        }
        Ok(())
    }
}

macro_rules! single {
    ($($of:ty),+) => { $(
        impl From<$of> for IdValue {
            fn from(id: $of) -> Self {
                Self(vec![id.into()])
            }
        }
    )+ };
}
single!(Uuid, i16, i32, i64, u32, String, &str);

impl From<()> for IdValue {
    fn from((): ()) -> Self {
        Self(Vec::new())
    }
}

impl From<&IdValue> for IdValue {
    fn from(id: &IdValue) -> Self {
        id.clone()
    }
}

impl<A: Into<Value>, B: Into<Value>> From<(A, B)> for IdValue {
    fn from((a, b): (A, B)) -> Self {
        Self(vec![a.into(), b.into()])
    }
}

impl<A: Into<Value>, B: Into<Value>, C: Into<Value>> From<(A, B, C)> for IdValue {
    fn from((a, b, c): (A, B, C)) -> Self {
        Self(vec![a.into(), b.into(), c.into()])
    }
}

/// The columns of an entity's primary key without the tenant column.
pub(crate) fn id_columns<E: TenantEntity>() -> Vec<E::Column> {
    E::PrimaryKey::iter()
        .map(PrimaryKeyToColumn::into_column)
        .filter(|column| column.as_str() != E::tenant_column().as_str())
        .collect()
}

/// The id's values with their columns.
pub(crate) fn id_parts<E: TenantEntity>(id: &IdValue) -> Result<Vec<(E::Column, Value)>, Error> {
    let columns = id_columns::<E>();
    if columns.len() == id.0.len() {
        return Ok(columns.into_iter().zip(id.0.iter().cloned()).collect());
    }
    Err(Error::IdShape { entity: E::default().table_name().to_owned(), expected: columns.len(), given: id.0.len() })
}

/// The row with this id.
pub(crate) fn has_id<E: TenantEntity>(id: &IdValue) -> Result<Condition, Error> {
    let parts = id_parts::<E>(id)?;
    Ok(parts.into_iter().fold(Condition::all(), |all, (column, value)| all.add(column.eq(value))))
}

/// The rows with any of these ids.
pub(crate) fn has_any_id<E: TenantEntity>(ids: &[IdValue]) -> Result<Condition, Error> {
    if let [column] = id_columns::<E>()[..] {
        let values: Result<Vec<_>, _> = ids.iter().map(id_parts::<E>).collect();
        return Ok(Condition::all().add(column.is_in(values?.into_iter().flatten().map(|(_, value)| value))));
    }
    ids.iter().try_fold(Condition::any(), |any, id| Ok(any.add(has_id::<E>(id)?)))
}

/// How many ids go into one statement: below every engine's limit of bound values, and for composite ids, which make a chain of
/// alternatives, below SQLite's limit of depth.
pub(crate) fn ids_per_statement<E: TenantEntity>() -> usize {
    if id_columns::<E>().len() == 1 { 10_000 } else { 200 }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use sea_orm::sea_query::{Expr, Query};

    use super::*;

    mod seats {
        #![expect(unreachable_pub, reason = "the derives make items that have to be as public as the model")]
        use sea_orm::entity::prelude::*;

        /// The tenant column is in the middle of the key.
        #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
        #[sea_orm(table_name = "seats")]
        pub struct Model {
            #[sea_orm(primary_key, auto_increment = false)]
            pub room: String,
            #[sea_orm(primary_key, auto_increment = false)]
            pub tenant_id: Uuid,
            #[sea_orm(primary_key, auto_increment = false)]
            pub row: i32,
        }

        #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
        pub enum Relation {}

        impl ActiveModelBehavior for ActiveModel {}
    }
    tenantry_realm::tenant_entity!(seats);

    fn sql(condition: Condition) -> String {
        Query::select().expr(Expr::val(1)).cond_where(condition).to_string(SqliteQueryBuilder)
    }

    #[test]
    fn an_id_is_the_key_without_the_tenant() {
        let id = IdValue::from(("A", 3));
        assert_eq!(id.to_string(), "A,3");
        let one = sql(has_id::<seats::Entity>(&id).unwrap());
        assert_eq!(one, r#"SELECT 1 WHERE "seats"."room" = 'A' AND "seats"."row" = 3"#);
        let two = sql(has_any_id::<seats::Entity>(&[id, ("B", 4).into()]).unwrap());
        assert_eq!(
            two,
            r#"SELECT 1 WHERE ("seats"."room" = 'A' AND "seats"."row" = 3) OR ("seats"."room" = 'B' AND "seats"."row" = 4)"#
        );
        let none = sql(has_any_id::<seats::Entity>(&[]).unwrap());
        assert_eq!(none, "SELECT 1 WHERE FALSE");
    }

    #[test]
    fn an_id_of_another_shape_is_refused() {
        let short = has_id::<seats::Entity>(&Uuid::nil().into()).unwrap_err();
        assert!(matches!(short, Error::IdShape { expected: 2, given: 1, .. }));
        assert!(has_any_id::<seats::Entity>(&[("A", 1).into(), ().into()]).is_err());
    }
}
