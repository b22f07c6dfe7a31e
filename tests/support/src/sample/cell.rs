//! One value of the sample, independent of the engine that stores it.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use serde_json::Value;
use uuid::Uuid;

/// A value, typed as its column.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// SQL's NULL, of any type. JSON's null is `Cell::Json("null")`.
    Null,
    /// A uuid.
    Uuid(Uuid),
    /// Text without NUL.
    Text(String),
    /// An integer of 32 bits.
    Integer(i32),
    /// A boolean.
    Boolean(bool),
    /// Hundredths of a numeric with scale 2.
    Hundredths(i64),
    /// A date from 0001-01-01 to 9999-12-31.
    Date(NaiveDate),
    /// A time of day, to the microsecond.
    Time(NaiveTime),
    /// An instant, to the microsecond.
    Timestamp(DateTime<Utc>),
    /// JSON as somebody typed it: with spaces, escapes and keys in any order.
    Json(&'static str),
}

impl Cell {
    /// The text by which values are compared across engines; none for NULL. JSON is compact, with sorted keys, the last
    /// of duplicates, and one form per number.
    pub fn canonical(&self) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Uuid(uuid) => Some(uuid.hyphenated().to_string()),
            Self::Text(text) => Some(text.clone()),
            Self::Integer(integer) => Some(integer.to_string()),
            Self::Boolean(boolean) => Some(boolean.to_string()),
            Self::Hundredths(hundredths) => Some(decimal(*hundredths)),
            Self::Date(date) => Some(date.format("%Y-%m-%d").to_string()),
            Self::Time(time) => Some(time.format("%H:%M:%S%.6f").to_string()),
            Self::Timestamp(instant) => Some(instant.format("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string()),
            Self::Json(text) => canonical_json(text),
        }
    }
}

/// The canonical text of JSON; none when it is not JSON.
pub(super) fn canonical_json(text: &str) -> Option<String> {
    serde_json::from_str(text).ok().map(|value| compact(&value))
}

/// `-12.50` for -1250.
pub(super) fn decimal(hundredths: i64) -> String {
    let sign = if hundredths < 0 { "-" } else { "" };
    let magnitude = hundredths.unsigned_abs();
    format!("{sign}{}.{:02}", magnitude / 100, magnitude % 100)
}

fn compact(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(key, _)| key.as_bytes());
            let member = |(key, value): (&String, &Value)| format!("{}:{}", Value::from(key.as_str()), compact(value));
            format!("{{{}}}", members.into_iter().map(member).collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(compact).collect::<Vec<_>>().join(",")),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => integer.to_string(),
            // Display writes a whole float without a fraction, and never an exponent. Adding zero turns -0 into 0.
            (None, Some(float)) => (float + 0.0).to_string(),
            (None, None) => number.to_string(),
        },
        other => other.to_string(),
    }
}
