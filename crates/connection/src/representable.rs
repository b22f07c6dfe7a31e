//! Values that PostgreSQL stores and the driver cannot decode: `infinity` panics in it, and `24:00:00` silently reads as
//! `00:00:00`. They are found in the raw bytes of a row, before anything decodes it.

use chrono::{NaiveDate, NaiveDateTime};
use sqlx::{
    Column, Row, TypeInfo, ValueRef,
    postgres::{PgRow, PgValueFormat},
};

use crate::Error;

#[derive(Clone, Copy)]
enum Temporal {
    Date,
    Timestamp,
    Time,
}

/// The columns of a result that have to be looked at; most results have few.
pub(crate) struct TemporalColumns(Vec<(usize, Temporal)>);

impl TemporalColumns {
    pub(crate) fn of(row: &PgRow) -> Self {
        let columns = row.columns().iter().enumerate();
        Self(
            columns
                .filter_map(|(index, column)| {
                    let temporal = match column.type_info().name() {
                        "DATE" => Temporal::Date,
                        "TIMESTAMP" | "TIMESTAMPTZ" => Temporal::Timestamp,
                        "TIME" => Temporal::Time,
                        _ => return None,
                    };
                    Some((index, temporal))
                })
                .collect(),
        )
    }

    pub(crate) fn check(&self, row: &PgRow) -> Result<(), Error> {
        for &(index, temporal) in &self.0 {
            let Ok(value) = row.try_get_raw(index) else { continue };
            if value.is_null() || !matches!(value.format(), PgValueFormat::Binary) {
                continue;
            }
            let Ok(bytes) = value.as_bytes() else { continue };
            if let Some(value) = unrepresentable(temporal, bytes) {
                return Err(Error::Unrepresentable { column: row.column(index).name().to_owned(), value });
            }
        }
        Ok(())
    }
}

/// PostgreSQL counts days and microseconds from 2000-01-01; chrono's range is narrower than PostgreSQL's at its late end.
fn unrepresentable(temporal: Temporal, bytes: &[u8]) -> Option<&'static str> {
    const OUTSIDE: Option<&str> = Some("a date outside the supported range");
    match temporal {
        Temporal::Date => {
            let days = i32::from_be_bytes(bytes.try_into().ok()?);
            let epoch = NaiveDate::from_ymd_opt(2000, 1, 1)?;
            match days {
                i32::MAX => Some("infinity"),
                i32::MIN => Some("-infinity"),
                _ if epoch.checked_add_signed(chrono::Duration::days(days.into())).is_none() => OUTSIDE,
                _ => None,
            }
        }
        Temporal::Timestamp => {
            let microseconds = i64::from_be_bytes(bytes.try_into().ok()?);
            let epoch: NaiveDateTime = NaiveDate::from_ymd_opt(2000, 1, 1)?.and_hms_opt(0, 0, 0)?;
            match microseconds {
                i64::MAX => Some("infinity"),
                i64::MIN => Some("-infinity"),
                _ if epoch.checked_add_signed(chrono::Duration::microseconds(microseconds)).is_none() => OUTSIDE,
                _ => None,
            }
        }
        Temporal::Time => {
            let microseconds = i64::from_be_bytes(bytes.try_into().ok()?);
            (microseconds >= 86_400_000_000).then_some("24:00:00")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edges_of_each_type_are_found() {
        assert_eq!(unrepresentable(Temporal::Date, &i32::MAX.to_be_bytes()), Some("infinity"));
        assert_eq!(unrepresentable(Temporal::Date, &i32::MIN.to_be_bytes()), Some("-infinity"));
        assert_eq!(
            unrepresentable(Temporal::Date, &2_145_031_948_i32.to_be_bytes()),
            Some("a date outside the supported range"),
            "the last day of PostgreSQL"
        );
        assert_eq!(unrepresentable(Temporal::Date, &0_i32.to_be_bytes()), None);
        assert_eq!(unrepresentable(Temporal::Timestamp, &i64::MAX.to_be_bytes()), Some("infinity"));
        assert_eq!(unrepresentable(Temporal::Timestamp, &(-1_i64).to_be_bytes()), None);
        assert_eq!(unrepresentable(Temporal::Time, &86_400_000_000_i64.to_be_bytes()), Some("24:00:00"));
        assert_eq!(unrepresentable(Temporal::Time, &86_399_999_999_i64.to_be_bytes()), None);
    }
}
