//! The JSON form of each type's values, in both directions: what is rendered can be sent back.
//!
//! | type | JSON |
//! |---|---|
//! | `boolean` | `true`, `false` |
//! | integers | number without a point |
//! | `numeric` | text with all digits: `"12.50"`; read from a number, too, where its digits are sure |
//! | floating point | number |
//! | text, enums, uuid | text |
//! | `date`, `time`, instants | text: `2024-02-29`, `23:59:59.5`, RFC 3339 |
//! | JSON | itself |
//! | bytes | text, base64 |

use std::ops::RangeInclusive;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use chrono::{DateTime, Datelike, Local, NaiveDate, NaiveDateTime, NaiveTime, SecondsFormat, TimeZone, Timelike};
use sea_orm::{
    ColumnTrait, ColumnType, ModelTrait, Value,
    sea_query::{ArrayType, Enum, OptionEnum, StringLen},
};
use serde_json::Value as Json;
use tenantry_realm::TenantEntity;
use uuid::Uuid;

use super::{decimal, fault::FaultCode};
use crate::cursor;

/// The type of a column, as far as its JSON form goes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ColumnKind {
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer {
        /// The least one.
        least: i64,
        /// The greatest one.
        most: i64,
    },
    /// A floating-point number.
    Float,
    /// A decimal, exact; written as a text.
    Decimal {
        /// All digits and those behind the point, where the column limits them.
        digits: Option<(u32, u32)>,
    },
    /// Text.
    Text {
        /// Its longest, in characters, where the column limits it.
        longest: Option<u32>,
    },
    /// One of a database enum's names.
    Choice {
        /// The names.
        names: Vec<String>,
    },
    /// A uuid with its four hyphens.
    Uuid,
    /// `YYYY-MM-DD`.
    Date,
    /// `HH:MM:SS`, and up to six digits behind a point.
    Time,
    /// Date and time without a zone: `YYYY-MM-DDTHH:MM:SS`.
    DateTime,
    /// An instant: RFC 3339, rendered in UTC.
    Timestamp,
    /// Any JSON; no condition but null and not null.
    Json,
    /// Base64; no condition but null and not null.
    Bytes,
}

impl ColumnKind {
    /// Of a column whose type has a JSON form.
    pub(super) fn of<E: TenantEntity>(column: E::Column) -> Option<Self> {
        let definition = column.def();
        let integer = |range: RangeInclusive<i64>| Self::Integer { least: *range.start(), most: *range.end() };
        Some(match E::Model::get_value_type(column) {
            ArrayType::Bool => Self::Boolean,
            ArrayType::TinyInt => integer(i8::MIN.into()..=i8::MAX.into()),
            ArrayType::SmallInt => integer(i16::MIN.into()..=i16::MAX.into()),
            ArrayType::Int => integer(i32::MIN.into()..=i32::MAX.into()),
            ArrayType::BigInt => integer(i64::MIN..=i64::MAX),
            ArrayType::TinyUnsigned => integer(0..=u8::MAX.into()),
            ArrayType::SmallUnsigned => integer(0..=u16::MAX.into()),
            ArrayType::Unsigned => integer(0..=u32::MAX.into()),
            // No engine has more.
            ArrayType::BigUnsigned => integer(0..=i64::MAX),
            ArrayType::Float | ArrayType::Double => Self::Float,
            ArrayType::Decimal => match definition.get_column_type() {
                ColumnType::Decimal(digits) => Self::Decimal { digits: *digits },
                _ => Self::Decimal { digits: None },
            },
            ArrayType::String | ArrayType::Enum(_) => match definition.get_column_type() {
                ColumnType::Enum { variants, .. } => {
                    Self::Choice { names: variants.iter().map(ToString::to_string).collect() }
                }
                ColumnType::String(StringLen::N(longest)) | ColumnType::Char(Some(longest)) => {
                    Self::Text { longest: Some(*longest) }
                }
                ColumnType::Text | ColumnType::String(_) | ColumnType::Char(_) => Self::Text { longest: None },
                // Another type of the database's behind a text: nothing is known of its values or its order.
                _ => return None,
            },
            ArrayType::Uuid => Self::Uuid,
            ArrayType::ChronoDate => Self::Date,
            ArrayType::ChronoTime => Self::Time,
            ArrayType::ChronoDateTime => Self::DateTime,
            ArrayType::ChronoDateTimeUtc | ArrayType::ChronoDateTimeLocal | ArrayType::ChronoDateTimeWithTimeZone => {
                Self::Timestamp
            }
            ArrayType::Json => Self::Json,
            ArrayType::Bytes => Self::Bytes,
            _ => return None,
        })
    }

    /// What is expected where something else was found.
    pub(super) fn expected(&self) -> String {
        match self {
            Self::Boolean => "expected true or false".to_owned(),
            Self::Integer { least, most } => format!("expected a whole number from {least} to {most}"),
            Self::Float => "expected a number".to_owned(),
            Self::Decimal { .. } => r#"expected a decimal, as a number or as a text like "12.50""#.to_owned(),
            Self::Text { .. } => "expected a text".to_owned(),
            Self::Choice { names } => format!("expected one of: {}", names.join(", ")),
            Self::Uuid => "expected a uuid like 1b4e28ba-2fa1-41d2-883f-0016d3cca427".to_owned(),
            Self::Date => "expected a date like 2024-02-29, of the years 1 to 9999".to_owned(),
            Self::Time => "expected a time like 23:59:59 or 23:59:59.123456".to_owned(),
            Self::DateTime => "expected a date and time like 2024-02-29T23:59:59, without a zone".to_owned(),
            Self::Timestamp => "expected an instant with its zone like 2024-02-29T23:59:59Z (RFC 3339)".to_owned(),
            Self::Json => "expected JSON without NUL characters, at most 127 levels deep".to_owned(),
            Self::Bytes => "expected bytes in base64".to_owned(),
        }
    }
}

/// What a value is for: it is compared with a column's values, or becomes one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Compare,
    Store,
}

/// Why JSON is no value of a column.
pub(super) struct NoValue {
    pub(super) code: FaultCode,
    pub(super) message: String,
}

/// The value that the entity's own field takes. The JSON is not null.
pub(super) fn read(kind: &ColumnKind, field: &ArrayType, json: &Json, purpose: Purpose) -> Result<Value, NoValue> {
    let wrong = |code| NoValue { code, message: kind.expected() };
    let right_type = match kind {
        ColumnKind::Boolean => json.is_boolean(),
        ColumnKind::Integer { .. } | ColumnKind::Float => json.is_number(),
        ColumnKind::Decimal { .. } => json.is_number() || json.is_string(),
        ColumnKind::Json => true,
        _ => json.is_string(),
    };
    if !right_type {
        return Err(wrong(FaultCode::WrongType));
    }
    if let ColumnKind::Decimal { digits } = kind {
        return decimal(json, *digits, purpose);
    }
    let text = json.as_str().unwrap_or_default();
    if let (ColumnKind::Text { longest: Some(longest) }, Purpose::Store) = (kind, purpose)
        && text.chars().nth(*longest as usize).is_some()
    {
        let message = format!("is longer than {longest} characters");
        return Err(NoValue { code: FaultCode::TooLong, message });
    }
    if text.contains('\0') {
        return Err(NoValue { code: FaultCode::InvalidValue, message: "has a NUL character".to_owned() });
    }
    let value = match field {
        ArrayType::Bool => json.as_bool().map(Value::from),
        ArrayType::TinyInt => whole::<i8>(json).map(Value::from),
        ArrayType::SmallInt => whole::<i16>(json).map(Value::from),
        ArrayType::Int => whole::<i32>(json).map(Value::from),
        ArrayType::BigInt => whole::<i64>(json).map(Value::from),
        ArrayType::TinyUnsigned => whole::<u8>(json).map(Value::from),
        ArrayType::SmallUnsigned => whole::<u16>(json).map(Value::from),
        ArrayType::Unsigned => whole::<u32>(json).map(Value::from),
        ArrayType::BigUnsigned => whole::<i64>(json).and_then(|number| u64::try_from(number).ok()).map(Value::from),
        ArrayType::Float => float(json),
        ArrayType::Double => json.as_f64().map(Value::from),
        ArrayType::String => Some(Value::from(text)),
        ArrayType::Enum(name) => Some(Value::Enum(OptionEnum::Some(Box::new(Enum {
            type_name: (**name).clone(),
            value: text.to_owned().into(),
        })))),
        ArrayType::Uuid => uuid(text).map(Value::from),
        ArrayType::ChronoDate => date(text).map(Value::from),
        ArrayType::ChronoTime => time(text).map(Value::from),
        ArrayType::ChronoDateTime => date_time(text).map(Value::from),
        ArrayType::ChronoDateTimeUtc => instant(text).map(|instant| Value::from(instant.to_utc())),
        ArrayType::ChronoDateTimeLocal => instant(text).map(|instant| Value::from(instant.with_timezone(&Local))),
        ArrayType::ChronoDateTimeWithTimeZone => instant(text).map(Value::from),
        ArrayType::Json => storable(json, 127).then(|| Value::from(json.clone())),
        ArrayType::Bytes => BASE64_STANDARD.decode(text).ok().map(Value::from),
        _ => None,
    };
    value.ok_or_else(|| wrong(FaultCode::InvalidValue))
}

/// The null that the entity's own field takes.
pub(super) fn null(field: &ArrayType) -> Option<Value> {
    match field {
        ArrayType::Json => Some(Value::Json(None)),
        ArrayType::Bytes => Some(Value::Bytes(None)),
        other => cursor::decode(other, &Json::Null),
    }
}

fn decimal(json: &Json, digits: Option<(u32, u32)>, purpose: Purpose) -> Result<Value, NoValue> {
    let invalid = |message: String| Err(NoValue { code: FaultCode::InvalidValue, message });
    let kind = ColumnKind::Decimal { digits };
    let number = match decimal::read(json) {
        Ok(number) => number,
        Err(decimal::NoDecimal::WrongType) => {
            return Err(NoValue { code: FaultCode::WrongType, message: kind.expected() });
        }
        Err(decimal::NoDecimal::NotANumber) => return invalid(kind.expected()),
        Err(decimal::NoDecimal::UnsureDigits) => {
            return invalid(
                "a JSON number keeps no more than 15 digits for sure; write the decimal as a text".to_owned(),
            );
        }
        Err(decimal::NoDecimal::TooLong) => return invalid("has more digits than a decimal can have".to_owned()),
    };
    let size = decimal::size(&number);
    match (digits, purpose) {
        (Some((precision, scale)), Purpose::Store) => {
            let before = precision.saturating_sub(scale);
            if size.after_point > scale || size.before_point > before {
                return invalid(format!("has room for {before} digits before the point and {scale} behind it"));
            }
        }
        // A column of up to 15 digits is a double on SQLite, which could not be compared exactly with more.
        (Some((precision, _)), Purpose::Compare) if size.significant > precision.max(15) => {
            return invalid(format!("has more than {} digits, which no value of the column has", precision.max(15)));
        }
        _ => {}
    }
    Ok(number.into())
}

fn whole<N: TryFrom<i64>>(json: &Json) -> Option<N> {
    json.as_i64().and_then(|number| N::try_from(number).ok())
}

fn float(json: &Json) -> Option<Value> {
    #[expect(clippy::cast_possible_truncation, reason = "the column holds no more digits")]
    let number = json.as_f64()? as f32;
    number.is_finite().then(|| number.into())
}

fn uuid(text: &str) -> Option<Uuid> {
    // The other spellings that the parser knows have other lengths.
    if text.len() == 36 { text.parse().ok() } else { None }
}

fn date(text: &str) -> Option<NaiveDate> {
    let date: NaiveDate = text.parse().ok()?;
    (text.len() == 10 && (1..=9_999).contains(&date.year())).then_some(date)
}

fn time(text: &str) -> Option<NaiveTime> {
    let shape = text.len() == 8 || (10..=15).contains(&text.len()) && text.as_bytes()[8] == b'.';
    let time: NaiveTime = text.parse().ok()?;
    (shape && time.nanosecond() < 1_000_000_000).then_some(time)
}

fn date_time(text: &str) -> Option<NaiveDateTime> {
    let (day, hour) = text.split_once('T')?;
    Some(date(day)?.and_time(time(hour)?))
}

fn instant(text: &str) -> Option<DateTime<chrono::FixedOffset>> {
    let instant = DateTime::parse_from_rfc3339(text).ok()?;
    let stored = instant.to_utc();
    ((1..=9_999).contains(&stored.year()) && stored.nanosecond() < 1_000_000_000).then_some(instant)
}

/// Whether the databases can hold this document.
fn storable(json: &Json, levels: usize) -> bool {
    match json {
        Json::String(text) => !text.contains('\0'),
        Json::Array(_) | Json::Object(_) if levels == 0 => false,
        Json::Array(items) => items.iter().all(|item| storable(item, levels - 1)),
        Json::Object(fields) => fields.iter().all(|(name, value)| !name.contains('\0') && storable(value, levels - 1)),
        Json::Null | Json::Bool(_) | Json::Number(_) => true,
    }
}

/// A value as JSON. A floating-point number that is no number is null: JSON has no form for it.
pub(super) fn render(value: Value) -> Json {
    fn utc<Z: TimeZone>(instant: DateTime<Z>) -> String {
        instant.to_utc().to_rfc3339_opts(SecondsFormat::AutoSi, true)
    }
    fn text<T: ToString>(value: Option<T>) -> Json {
        value.map_or(Json::Null, |value| Json::String(value.to_string()))
    }
    match value {
        Value::Bool(value) => value.into(),
        Value::TinyInt(value) => value.into(),
        Value::SmallInt(value) => value.into(),
        Value::Int(value) => value.into(),
        Value::BigInt(value) => value.into(),
        Value::TinyUnsigned(value) => value.into(),
        Value::SmallUnsigned(value) => value.into(),
        Value::Unsigned(value) => value.into(),
        Value::BigUnsigned(value) => value.into(),
        Value::Float(value) => value.into(),
        Value::Double(value) => value.into(),
        Value::String(value) => text(value),
        Value::Char(value) => text(value),
        Value::Enum(OptionEnum::Some(value)) => Json::String(value.value.into_owned()),
        Value::Uuid(value) => text(value),
        Value::Decimal(value) => text(value),
        Value::ChronoDate(value) => text(value),
        Value::ChronoTime(value) => text(value),
        Value::ChronoDateTime(value) => text(value.map(|value| value.format("%Y-%m-%dT%H:%M:%S%.f"))),
        Value::ChronoDateTimeUtc(value) => text(value.map(utc)),
        Value::ChronoDateTimeLocal(value) => text(value.map(utc)),
        Value::ChronoDateTimeWithTimeZone(value) => text(value.map(utc)),
        Value::Json(value) => value.map_or(Json::Null, |value| *value),
        Value::Bytes(value) => text(value.map(|bytes| BASE64_STANDARD.encode(bytes))),
        _ => Json::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_have_one_spelling() {
        for none in
            ["2024-2-9", "24-02-09", "2023-02-29", "0000-01-01", "10000-01-01", "+2024-01-01", "2024-01-01 ", ""]
        {
            assert_eq!(date(none), None, "{none:?}");
        }
        for none in
            ["1:02:03", "24:00:00", "23:59:60", "12:00", "12:00:00.", "12:00:00.1234567", "12:00:00Z", "12:00:00,5"]
        {
            assert_eq!(time(none), None, "{none:?}");
        }
        for none in ["2024-01-01T00:00:00", "2024-01-01", "0001-01-01T00:00:00+14:00", "2016-12-31T23:59:60Z", "now"] {
            assert_eq!(instant(none), None, "{none:?}");
        }
        assert!(date("9999-12-31").is_some() && time("23:59:59.999999").is_some());
        assert!(instant("2024-02-29T23:59:59.999999-12:00").is_some());
        assert!(date_time("2024-02-29T23:59:59.5").is_some() && date_time("2024-02-29T23:59:59Z").is_none());
        assert!(uuid("1B4E28BA-2FA1-41D2-883F-0016D3CCA427").is_some());
        for none in ["1b4e28ba2fa141d2883f0016d3cca427", "{1b4e28ba-2fa1-41d2-883f-0016d3cca427}", "-"] {
            assert_eq!(uuid(none), None, "{none:?}");
        }
    }
}
