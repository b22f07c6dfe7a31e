//! What a column holds on SQLite: the check that keeps its canonical form, and its JSON in the write log.
//!
//! PostgreSQL's types refuse what is not theirs; SQLite's columns take anything, so every promise of docs/storage.md about
//! a stored form is a CHECK. It knows nothing of tables.

use sea_orm_migration::sea_query::{ColumnType, StringLen};

use crate::dialect::{literal, sqlite};

/// The kinds of values that have a form on both engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Uuid,
    Text { longest: Option<u32> },
    Integer { bits: u32 },
    Boolean,
    Numeric { precision: u32, scale: u32 },
    Date,
    Time,
    Timestamp,
    Json,
    Bytes,
}

/// Every decimal of so many digits survives an IEEE double.
const DOUBLE_DIGITS: u32 = 15;

impl Shape {
    /// The shape of a column type, or why there is none and what to use instead.
    pub(crate) fn of(column_type: &ColumnType) -> Result<Self, String> {
        Ok(match column_type {
            ColumnType::Uuid => Self::Uuid,
            ColumnType::Text | ColumnType::String(StringLen::None | StringLen::Max) => Self::Text { longest: None },
            ColumnType::String(StringLen::N(longest)) => Self::Text { longest: Some(*longest) },
            ColumnType::SmallInteger => Self::Integer { bits: 16 },
            ColumnType::Integer => Self::Integer { bits: 32 },
            ColumnType::BigInteger => Self::Integer { bits: 64 },
            ColumnType::Boolean => Self::Boolean,
            ColumnType::Decimal(Some((precision, scale))) if *precision <= DOUBLE_DIGITS && scale <= precision => {
                Self::Numeric { precision: *precision, scale: *scale }
            }
            ColumnType::Decimal(Some((precision, scale))) => {
                return Err(format!(
                    "numeric({precision}, {scale}) has no exact form on SQLite; use at most {DOUBLE_DIGITS} digits, \
                     or store the smallest unit in a bigint"
                ));
            }
            ColumnType::Decimal(None) => {
                return Err(format!(
                    "numeric without a precision has no exact form on SQLite; use decimal_len with at most {DOUBLE_DIGITS} digits"
                ));
            }
            ColumnType::Date => Self::Date,
            ColumnType::Time => Self::Time,
            ColumnType::TimestampWithTimeZone => Self::Timestamp,
            ColumnType::Timestamp | ColumnType::DateTime => {
                return Err(
                    "a timestamp without time zone means another instant on each server; use timestamp_with_time_zone"
                        .to_owned(),
                );
            }
            ColumnType::JsonBinary => Self::Json,
            ColumnType::Json => {
                return Err("json keeps its spelling and cannot be compared; use json_binary".to_owned());
            }
            ColumnType::Blob => Self::Bytes,
            ColumnType::Float | ColumnType::Double => {
                return Err("a floating-point column has no canonical text; use decimal_len".to_owned());
            }
            other => return Err(format!("{other:?} has no form on SQLite; use one of the types in docs/storage.md")),
        })
    }

    /// The condition that a value other than NULL must meet; NULL passes.
    pub(crate) fn check(self, value: &str) -> String {
        let digits = |count: usize| "[0-9]".repeat(count);
        let date = format!("{}-{}-{}", digits(4), digits(2), digits(2));
        let time = format!("{}:{}:{}.{}", digits(2), "[0-5][0-9]", "[0-5][0-9]", digits(6));
        let condition = match self {
            Self::Uuid => format!("typeof({value}) = 'blob' AND length({value}) = 16"),
            Self::Text { longest: None } => format!("typeof({value}) = 'text'"),
            Self::Text { longest: Some(longest) } => {
                format!("typeof({value}) = 'text' AND length({value}) <= {longest}")
            }
            Self::Integer { bits: 64 } => format!("typeof({value}) = 'integer'"),
            Self::Integer { bits } => {
                let limit = 1_i64 << (bits - 1);
                format!("typeof({value}) = 'integer' AND {value} BETWEEN {} AND {}", -limit, limit - 1)
            }
            Self::Boolean => format!("{value} IN (0, 1)"),
            Self::Numeric { precision, scale } => {
                let limit = 10_u64.pow(precision - scale);
                format!("typeof({value}) = 'real' AND abs({value}) < {limit}.0 AND round({value}, {scale}) = {value}")
            }
            // Adding nothing turns the 30th of February into the 2nd of March, so a date that stays itself exists.
            Self::Date => {
                format!(
                    "{value} IN ('infinity', '-infinity') OR ({value} GLOB '{date}' AND {value} >= '0001' \
                     AND date({value}, '+0 days') IS {value})"
                )
            }
            Self::Time => {
                format!("typeof({value}) = 'text' AND {value} GLOB '{time}' AND {value} <= '24:00:00.000000'")
            }
            Self::Timestamp => format!(
                "{value} IN ('infinity', '-infinity') OR ({value} GLOB '{date}T{time}+00:00' AND {value} >= '0001' \
                 AND substr({value}, 12, 2) < '24' AND date(substr({value}, 1, 10), '+0 days') IS substr({value}, 1, 10))"
            ),
            Self::Json => format!("typeof({value}) = 'text' AND json_valid({value})"),
            Self::Bytes => format!("typeof({value}) = 'blob'"),
        };
        format!("{value} IS NULL OR ({condition})")
    }

    /// As [`Self::check`], for a column of a table that an application made and still writes: any spelling of an instant
    /// that SQLite itself can read is let through. The rows stay as they are, and the application goes on.
    pub(crate) fn check_adopted(self, value: &str) -> String {
        let canonical = self.check(value);
        match self {
            Self::Timestamp => {
                format!("({canonical}) OR (typeof({value}) = 'text' AND julianday({value}) IS NOT NULL)")
            }
            _ => canonical,
        }
    }

    /// The value as JSON text, as PostgreSQL's `to_jsonb` spells it; never NULL.
    pub(crate) fn json(self, value: &str) -> String {
        match self {
            Self::Uuid => {
                format!("CASE WHEN {value} IS NULL THEN 'null' ELSE '\"' || {} || '\"' END", sqlite::uuid_text(value))
            }
            Self::Boolean => format!("CASE {value} WHEN 1 THEN 'true' WHEN 0 THEN 'false' ELSE 'null' END"),
            Self::Numeric { scale, .. } => {
                format!("CASE WHEN {value} IS NULL THEN 'null' ELSE printf('%.{scale}f', {value}) END")
            }
            Self::Json => format!("coalesce(json({value}), 'null')"),
            Self::Bytes => {
                format!("CASE WHEN {value} IS NULL THEN 'null' ELSE '\"\\\\x' || lower(hex({value})) || '\"' END")
            }
            Self::Integer { .. } => format!("json_quote({value})"),
            // The empty text takes off the mark that `json()` puts on its result: a text that looks like JSON stays a text.
            Self::Text { .. } | Self::Date | Self::Time | Self::Timestamp => format!("json_quote({value} || '')"),
        }
    }
}

/// A JSON object of names and JSON texts, as an expression. `json_object` takes at most 127 arguments in the SQLite of most
/// systems, and `json_patch` drops nulls, hence the concatenation.
pub(crate) fn json_object<'a>(fields: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let fields: Vec<String> = fields
        .into_iter()
        .map(|(name, json)| {
            let key = format!("\"{}\":", name.replace('\\', "\\\\").replace('"', "\\\""));
            format!("{} || {json}", literal(&key))
        })
        .collect();
    format!("'{{' || {} || '}}'", fields.join(" || ',' || "))
}
