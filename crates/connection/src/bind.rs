//! The one stored form of each value. PostgreSQL has types for that; on SQLite the form is made here, at the only place
//! through which every bound value goes, so that text order is time order and equal values are equal text.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Timelike, Utc};
use rust_decimal::{Decimal, prelude::ToPrimitive};
use sea_orm::{Value, Values};

use crate::{Engine, Error};

/// Brings bound values into the form that `engine` stores.
pub(crate) fn canonical_values(engine: Engine, values: Option<Values>) -> Result<Values, Error> {
    let Some(mut values) = values else { return Ok(Values(Vec::new())) };
    for value in &mut values.0 {
        if matches!(value, Value::String(Some(text)) if text.contains('\0')) {
            return Err(Error::UnstorableValue { reason: "text with a NUL character" });
        }
        if engine == Engine::Sqlite {
            let taken = std::mem::replace(value, Value::Bool(None));
            *value = sqlite_value(taken)?;
        }
    }
    Ok(values)
}

/// The stored text of an instant: UTC, microseconds (finer digits are cut off, as PostgreSQL's driver does).
pub fn canonical_timestamp<Z: TimeZone>(instant: &DateTime<Z>) -> String {
    format!("{}+00:00", naive_timestamp(&instant.with_timezone(&Utc).naive_utc()))
}

fn sqlite_value(value: Value) -> Result<Value, Error> {
    Ok(match value {
        Value::ChronoDateTimeUtc(instant) => text(instant.map(|instant| canonical_timestamp(&instant))),
        Value::ChronoDateTimeWithTimeZone(instant) => text(instant.map(|instant| canonical_timestamp(&instant))),
        Value::ChronoDateTimeLocal(instant) => text(instant.map(|instant| canonical_timestamp(&instant))),
        Value::ChronoDateTime(instant) => text(instant.map(|instant| naive_timestamp(&instant))),
        Value::ChronoDate(date) => text(date.map(date_text)),
        Value::ChronoTime(time) => text(time.map(time_text)),
        Value::Decimal(decimal) => Value::Double(decimal.map(exact_double).transpose()?),
        Value::Json(json) => text(json.map(|json| json.to_string())),
        Value::BigUnsigned(Some(number)) => Value::BigInt(Some(
            i64::try_from(number).map_err(|_| Error::UnstorableValue { reason: "an integer above 2^63 - 1" })?,
        )),
        plain @ (Value::Bool(_)
        | Value::TinyInt(_)
        | Value::SmallInt(_)
        | Value::Int(_)
        | Value::BigInt(_)
        | Value::TinyUnsigned(_)
        | Value::SmallUnsigned(_)
        | Value::Unsigned(_)
        | Value::BigUnsigned(None)
        | Value::Float(_)
        | Value::Double(_)
        | Value::String(_)
        | Value::Char(_)
        | Value::Bytes(_)
        | Value::Enum(_)
        | Value::Uuid(_)) => plain,
        // Features of the dependencies may add kinds that SQLite has no form for; the driver would panic on some of them.
        #[allow(unreachable_patterns, reason = "which kinds exist depends on the features of the whole build")]
        _ => return Err(Error::UnstorableValue { reason: "a type that SQLite has no form for" }),
    })
}

fn text(value: Option<String>) -> Value {
    Value::String(value)
}

/// A decimal of up to 15 significant digits survives an IEEE double unchanged; a longer one would be rounded in silence.
fn exact_double(decimal: Decimal) -> Result<f64, Error> {
    let unstorable = Error::UnstorableValue { reason: "a decimal of more than 15 significant digits on SQLite" };
    if decimal.normalize().mantissa().unsigned_abs() >= 1_000_000_000_000_000 {
        return Err(unstorable);
    }
    // Through text, because the standard library's parser is correctly rounded and a division by a power of ten is not.
    decimal.to_string().parse().ok().or_else(|| decimal.to_f64()).ok_or(unstorable)
}

fn date_text(date: NaiveDate) -> String {
    format!("{:04}-{:02}-{:02}", date.year(), date.month(), date.day())
}

fn time_text(time: NaiveTime) -> String {
    // A leap second has nanoseconds above 10^9; PostgreSQL's driver carries it into the next second, so does this.
    let microsecond = time.nanosecond() / 1_000;
    let carried = time.num_seconds_from_midnight() + microsecond / 1_000_000;
    format!("{:02}:{:02}:{:02}.{:06}", carried / 3600, carried / 60 % 60, carried % 60, microsecond % 1_000_000)
}

fn naive_timestamp(instant: &NaiveDateTime) -> String {
    format!("{}T{}", date_text(instant.date()), time_text(instant.time()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
    use super::*;
    use chrono::FixedOffset;

    #[test]
    fn one_instant_has_one_text_whatever_its_zone_and_digits() {
        let instant = FixedOffset::east_opt(7200).unwrap().with_ymd_and_hms(2024, 2, 29, 1, 30, 0).unwrap();
        assert_eq!(canonical_timestamp(&instant), "2024-02-28T23:30:00.000000+00:00");
        let finer = instant + chrono::Duration::nanoseconds(1_999);
        assert_eq!(canonical_timestamp(&finer), "2024-02-28T23:30:00.000001+00:00");
    }

    #[test]
    fn money_at_its_limits_stays_exact_and_longer_decimals_are_refused() {
        for digits in ["9999999999999.99", "-9999999999999.99", "0.01", "99999999.99", "0.10", "1234567890.12"] {
            let decimal: Decimal = digits.parse().unwrap();
            let double = exact_double(decimal).unwrap();
            assert_eq!(format!("{double:.2}"), digits);
            assert_eq!(Decimal::try_from(double).unwrap(), decimal, "what SeaORM decodes equals what was bound");
        }
        assert!(exact_double("1234567890123.456".parse().unwrap()).is_err());
    }

    #[test]
    fn text_with_a_nul_is_refused_on_both_engines() {
        for engine in [Engine::Postgres, Engine::Sqlite] {
            let values = Some(Values(vec![Value::String(Some("a\0".to_owned()))]));
            assert!(matches!(canonical_values(engine, values), Err(Error::UnstorableValue { .. })));
        }
    }
}
