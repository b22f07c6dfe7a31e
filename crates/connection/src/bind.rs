//! The one stored form of each value. PostgreSQL has types for that; on SQLite the form is made here, at the only place
//! through which every bound value goes, so that text order is time order and equal values are equal text.

use chrono::{DateTime, Datelike, Local, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Timelike, Utc};
use rust_decimal::{Decimal, prelude::ToPrimitive};
use sea_orm::{Value, Values};

use crate::{Engine, Error};

/// Brings bound values into the form that `engine` stores.
pub(crate) fn canonical_values(engine: Engine, values: Option<Values>) -> Result<Values, Error> {
    let Some(mut values) = values else { return Ok(Values(Vec::new())) };
    for value in &mut values.0 {
        let taken = portable_value(engine, std::mem::replace(value, Value::Bool(None)))?;
        *value = if engine == Engine::Sqlite { sqlite_value(taken)? } else { taken };
    }
    Ok(values)
}

/// The stored text of an instant: UTC, microseconds (finer digits are cut off).
pub fn canonical_timestamp<Z: TimeZone>(instant: &DateTime<Z>) -> String {
    format!("{}+00:00", naive_timestamp(&microseconds(&instant.with_timezone(&Utc)).naive_utc()))
}

/// What has to be the same on both engines before either driver sees it. PostgreSQL's cuts the microseconds of an instant
/// before 2000 towards 2000, panics at an integer above its own, and leaves it to the server to refuse the rest.
fn portable_value(engine: Engine, value: Value) -> Result<Value, Error> {
    let refuse = |reason| Err(Error::UnstorableValue { reason });
    Ok(match value {
        Value::String(Some(text)) if text.contains('\0') => return refuse("text with a NUL character"),
        Value::Char(Some('\0')) => return refuse("text with a NUL character"),
        Value::Json(Some(json)) => match json_problem(&json, JSON_LEVELS) {
            Some(reason) => return refuse(reason),
            None => Value::Json(Some(json)),
        },
        Value::BigUnsigned(Some(number)) if i64::try_from(number).is_err() => {
            return refuse("an integer above 2^63 - 1");
        }
        Value::ChronoDateTimeUtc(Some(instant)) => Value::ChronoDateTimeUtc(Some(stored_instant(engine, &instant)?)),
        Value::ChronoDateTimeWithTimeZone(Some(instant)) => {
            Value::ChronoDateTimeWithTimeZone(Some(stored_instant(engine, &instant.to_utc())?.fixed_offset()))
        }
        Value::ChronoDateTimeLocal(Some(instant)) => {
            Value::ChronoDateTimeLocal(Some(stored_instant(engine, &instant.to_utc())?.with_timezone(&Local)))
        }
        Value::ChronoDateTime(Some(instant)) => {
            Value::ChronoDateTime(Some(stored_instant(engine, &instant.and_utc())?.naive_utc()))
        }
        Value::ChronoDate(Some(date)) => Value::ChronoDate(Some(stored_date(engine, date)?)),
        Value::ChronoTime(Some(time))
            if time.num_seconds_from_midnight() + time.nanosecond() / 1_000_000_000 >= 86_400 =>
        {
            return refuse("a leap second at the end of the day");
        }
        other => other,
    })
}

fn stored_instant(engine: Engine, instant: &DateTime<Utc>) -> Result<DateTime<Utc>, Error> {
    let instant = microseconds(instant);
    stored_date(engine, instant.date_naive())?;
    Ok(instant)
}

/// Text order is time order for years of four digits alone, so that a longer one in a condition would find other rows.
fn stored_date(engine: Engine, date: NaiveDate) -> Result<NaiveDate, Error> {
    match engine {
        Engine::Sqlite if !(1..=9_999).contains(&date.year()) => {
            Err(Error::UnstorableValue { reason: "a date outside the years 1 to 9999 on SQLite" })
        }
        // Its calendar begins with the Julian day 0; chrono's ends before PostgreSQL's does.
        Engine::Postgres if (date.year(), date.ordinal()) < (-4_713, 328) => {
            Err(Error::UnstorableValue { reason: "a date before the year 4714 BC" })
        }
        Engine::Sqlite | Engine::Postgres => Ok(date),
    }
}

/// The microsecond that the instant is in; a leap second becomes the one after it.
fn microseconds(instant: &DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(instant.timestamp_micros()).unwrap_or(*instant)
}

/// As deep as a document can be and still be read: `serde_json` goes no further.
const JSON_LEVELS: usize = 127;

fn json_problem(json: &serde_json::Value, levels: usize) -> Option<&'static str> {
    const NUL: Option<&str> = Some("JSON with a NUL character in a text or a name");
    match json {
        serde_json::Value::String(text) if text.contains('\0') => NUL,
        serde_json::Value::Array(_) | serde_json::Value::Object(_) if levels == 0 => {
            Some("JSON nested deeper than 127 levels")
        }
        serde_json::Value::Array(items) => items.iter().find_map(|item| json_problem(item, levels - 1)),
        serde_json::Value::Object(fields) => fields
            .iter()
            .find_map(|(name, value)| if name.contains('\0') { NUL } else { json_problem(value, levels - 1) }),
        _ => None,
    }
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
        // A larger one was refused before.
        Value::BigUnsigned(Some(number)) => Value::BigInt(i64::try_from(number).ok()),
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
        }
        assert!(exact_double("1234567890123.456".parse().unwrap()).is_err());
    }

    #[test]
    fn what_neither_engine_stores_is_refused_before_a_driver_sees_it() {
        let leap = NaiveTime::from_hms_nano_opt(23, 59, 59, 1_000_000_000).unwrap();
        for value in [
            Value::from("a\0"),
            Value::from('\0'),
            Value::from(serde_json::json!([{ "\0": 1 }])),
            Value::from(u64::MAX),
            Value::from(NaiveDate::MIN),
            Value::from(DateTime::<Utc>::MIN_UTC),
            Value::from(leap),
        ] {
            for engine in [Engine::Postgres, Engine::Sqlite] {
                let refused = canonical_values(engine, Some(Values(vec![value.clone()])));
                assert!(matches!(refused, Err(Error::UnstorableValue { .. })), "{engine}: {value:?}");
            }
        }
    }

    /// PostgreSQL's driver divides towards its epoch, the year 2000; the file would hold another microsecond.
    #[test]
    fn digits_below_a_microsecond_are_cut_off_alike_on_either_side_of_2000() {
        for (text, cut) in [
            ("1999-12-31T23:59:59.9999995Z", "1999-12-31T23:59:59.999999Z"),
            ("2000-01-01T00:00:00.0000005Z", "2000-01-01T00:00:00.000000Z"),
            ("2016-12-31T23:59:60.5Z", "2017-01-01T00:00:00.500000Z"),
        ] {
            let [given, cut] = [text, cut].map(|text| DateTime::parse_from_rfc3339(text).unwrap());
            let bind = |engine| canonical_values(engine, Some(Values(vec![Value::from(given)]))).unwrap().0.remove(0);
            assert_eq!(bind(Engine::Postgres), Value::from(cut));
            assert_eq!(bind(Engine::Sqlite), Value::from(canonical_timestamp(&cut)));
        }
    }

    /// Text order ends there: `10000-01-01` comes before `2024-01-01`.
    #[test]
    fn a_year_outside_1_to_9999_is_refused_for_sqlite_alone() {
        for year in [-1, 0, 10_000] {
            let values = || Some(Values(vec![Value::from(NaiveDate::from_ymd_opt(year, 1, 1).unwrap())]));
            assert!(matches!(canonical_values(Engine::Sqlite, values()), Err(Error::UnstorableValue { .. })));
            assert!(canonical_values(Engine::Postgres, values()).is_ok());
        }
    }
}
