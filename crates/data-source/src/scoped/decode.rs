//! From a row to its entity, so that a value is spelled alike whichever engine it came from.

use std::marker::PhantomData;

use sea_orm::{
    ColumnTrait, ColumnType, FromQueryResult, IdenStatic, Iterable, ModelTrait, QueryResult, Value, prelude::Decimal,
};
use tenantry_connection::{Engine, Error as ConnectionError};
use tenantry_realm::TenantEntity;

use crate::Error;

/// Makes models of one statement's rows.
pub(super) struct Decoder<E: TenantEntity> {
    table: String,
    engine: Engine,
    /// The columns of a numeric with a scale. The drivers lose it: SQLite's for every number, PostgreSQL's for zero.
    scales: Vec<(E::Column, u32)>,
    entity: PhantomData<fn() -> E>,
}

impl<E: TenantEntity> Decoder<E> {
    pub(super) fn new(table: &str, engine: Engine) -> Self {
        let scale = |column: E::Column| match column.def().get_column_type() {
            ColumnType::Decimal(Some((_, scale))) => Some((column, *scale)),
            _ => None,
        };
        Self {
            table: table.to_owned(),
            engine,
            scales: E::Column::iter().filter_map(scale).collect(),
            entity: PhantomData,
        }
    }

    pub(super) fn decode(&self, row: &QueryResult) -> Result<E::Model, Error> {
        let mut model = E::Model::from_query_result(row, "").map_err(|source| {
            self.unrepresentable(row).unwrap_or_else(|| Error::Decode { table: self.table.clone(), source })
        })?;
        for &(column, scale) in &self.scales {
            if let Value::Decimal(Some(number)) = model.get(column)
                && number.scale() < scale
            {
                // The column gave a decimal, so it takes one.
                let _ = model.try_set(column, with_scale(number, scale).into());
            }
        }
        Ok(model)
    }

    /// The column that SQLite holds as a text without a Rust form. The connection finds PostgreSQL's, from the row's own types;
    /// a row of SQLite has none.
    fn unrepresentable(&self, row: &QueryResult) -> Option<Error> {
        if self.engine != Engine::Sqlite {
            return None;
        }
        E::Column::iter().find_map(|column| {
            let definition = column.def();
            let text: String = row.try_get("", column.as_str()).ok()?;
            let value = match (definition.get_column_type(), text.as_str()) {
                (ColumnType::Date | ColumnType::TimestampWithTimeZone, "infinity") => "infinity",
                (ColumnType::Date | ColumnType::TimestampWithTimeZone, "-infinity") => "-infinity",
                (ColumnType::Time, time) if time.starts_with("24:") => "24:00:00",
                _ => return None,
            };
            Some(ConnectionError::Unrepresentable { column: column.as_str().to_owned(), value }.into())
        })
    }
}

fn with_scale(mut number: Decimal, scale: u32) -> Decimal {
    number.rescale(scale);
    number
}
