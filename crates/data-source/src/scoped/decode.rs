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
    /// The columns of a numeric with a scale.
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
            if let Value::Decimal(Some(number)) = model.get(column) {
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

/// What a double can be trusted with. SeaORM reads SQLite's with one digit more, which is the double's and not the amount's:
/// 4405200441287.23 comes back as 4405200441287.231.
const DOUBLE_DIGITS: u128 = 1_000_000_000_000_000;

/// The number in the spelling of its column. The drivers lose the scale, SQLite's of every number, PostgreSQL's of zero. A
/// number of more digits than the column has was written past the table's check, and is shown as it is.
fn with_scale(mut number: Decimal, scale: u32) -> Decimal {
    if number.scale() < scale || number.mantissa().unsigned_abs() >= DOUBLE_DIGITS {
        number.rescale(scale);
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_comes_back_from_a_double_in_its_column_s_spelling() {
        let limit = 999_999_999_999_999_i64;
        let magnitudes = (1..=15).map(|digits| 10_i64.pow(digits) - 1);
        let steps = magnitudes.flat_map(|most| (-most..=most).step_by(usize::try_from(most / 4_999 + 1).unwrap_or(1)));
        let known = [-440_520_044_128_723, 442_247_576_608_148, -limit, limit, -1, 0, 1, 10, 100];
        for cents in steps.chain(known) {
            let amount = Decimal::new(cents, 2);
            let double: f64 = amount.to_string().parse().expect("a decimal is a double's text");
            let read = with_scale(Decimal::try_from(double).expect("a double of 15 digits is a decimal"), 2);
            assert_eq!(read.to_string(), amount.to_string());
        }
        assert_eq!(with_scale(Decimal::new(1_005, 3), 2).to_string(), "1.005", "no amount of this column");
    }
}
