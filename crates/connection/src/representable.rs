//! Values that PostgreSQL stores and the driver cannot decode: `infinity` panics in it, `24:00:00` silently reads as
//! `00:00:00`, and a numeric may be no number. They are found in the raw bytes of a row, before anything decodes it.

use chrono::{NaiveDate, NaiveDateTime};
use sqlx::{
    Column, Row, TypeInfo, ValueRef,
    postgres::{PgRow, PgValueFormat},
};

use crate::Error;

/// The types that have such values.
#[derive(Clone, Copy)]
enum Edged {
    Date,
    Timestamp,
    Time,
    Numeric,
}

/// The columns of a result that have to be looked at; most results have few.
pub(crate) struct EdgedColumns(Vec<(usize, Edged)>);

impl EdgedColumns {
    pub(crate) fn of(row: &PgRow) -> Self {
        let columns = row.columns().iter().enumerate();
        Self(
            columns
                .filter_map(|(index, column)| {
                    let edged = match column.type_info().name() {
                        "DATE" => Edged::Date,
                        "TIMESTAMP" | "TIMESTAMPTZ" => Edged::Timestamp,
                        "TIME" => Edged::Time,
                        "NUMERIC" => Edged::Numeric,
                        _ => return None,
                    };
                    Some((index, edged))
                })
                .collect(),
        )
    }

    pub(crate) fn check(&self, row: &PgRow) -> Result<(), Error> {
        for &(index, edged) in &self.0 {
            let Ok(value) = row.try_get_raw(index) else { continue };
            if value.is_null() || !matches!(value.format(), PgValueFormat::Binary) {
                continue;
            }
            let Ok(bytes) = value.as_bytes() else { continue };
            if let Some(value) = unrepresentable(edged, bytes) {
                return Err(Error::Unrepresentable { column: row.column(index).name().to_owned(), value });
            }
        }
        Ok(())
    }
}

/// PostgreSQL counts days and microseconds from 2000-01-01; chrono's range is narrower than PostgreSQL's at its late end.
fn unrepresentable(edged: Edged, bytes: &[u8]) -> Option<&'static str> {
    const OUTSIDE: Option<&str> = Some("a date outside the supported range");
    match edged {
        Edged::Date => {
            let days = i32::from_be_bytes(bytes.try_into().ok()?);
            let epoch = NaiveDate::from_ymd_opt(2000, 1, 1)?;
            match days {
                i32::MAX => Some("infinity"),
                i32::MIN => Some("-infinity"),
                _ if epoch.checked_add_signed(chrono::Duration::days(days.into())).is_none() => OUTSIDE,
                _ => None,
            }
        }
        Edged::Timestamp => {
            let microseconds = i64::from_be_bytes(bytes.try_into().ok()?);
            let epoch: NaiveDateTime = NaiveDate::from_ymd_opt(2000, 1, 1)?.and_hms_opt(0, 0, 0)?;
            match microseconds {
                i64::MAX => Some("infinity"),
                i64::MIN => Some("-infinity"),
                _ if epoch.checked_add_signed(chrono::Duration::microseconds(microseconds)).is_none() => OUTSIDE,
                _ => None,
            }
        }
        Edged::Time => {
            let microseconds = i64::from_be_bytes(bytes.try_into().ok()?);
            (microseconds >= 86_400_000_000).then_some("24:00:00")
        }
        // Two bytes each: number of digits, weight, sign.
        Edged::Numeric => match bytes.get(4..6)? {
            [0xC0, 0] => Some("NaN"),
            [0xD0, 0] => Some("infinity"),
            [0xF0, 0] => Some("-infinity"),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edges_of_each_type_are_found() {
        assert_eq!(unrepresentable(Edged::Date, &i32::MAX.to_be_bytes()), Some("infinity"));
        assert_eq!(unrepresentable(Edged::Date, &i32::MIN.to_be_bytes()), Some("-infinity"));
        assert_eq!(
            unrepresentable(Edged::Date, &2_145_031_948_i32.to_be_bytes()),
            Some("a date outside the supported range"),
            "the last day of PostgreSQL"
        );
        assert_eq!(unrepresentable(Edged::Date, &0_i32.to_be_bytes()), None);
        assert_eq!(unrepresentable(Edged::Timestamp, &i64::MAX.to_be_bytes()), Some("infinity"));
        assert_eq!(unrepresentable(Edged::Timestamp, &(-1_i64).to_be_bytes()), None);
        assert_eq!(unrepresentable(Edged::Time, &86_400_000_000_i64.to_be_bytes()), Some("24:00:00"));
        assert_eq!(unrepresentable(Edged::Time, &86_399_999_999_i64.to_be_bytes()), None);
        assert_eq!(unrepresentable(Edged::Numeric, &[0, 0, 0, 0, 0xC0, 0, 0, 0]), Some("NaN"));
        assert_eq!(unrepresentable(Edged::Numeric, &[0, 1, 0, 0, 0x40, 0, 0, 2, 0, 1]), None, "-1.00");
    }
}
