//! The canonical text of a value: one text for one meaning, whichever engine stores it.
//!
//! Digests are made of these texts, and between the engines rows travel as them. A text is read from PostgreSQL's output
//! (with the session settings of `POSTGRES_SETTINGS`) or from what SQLite stores, and written back to either.
//!
//! This module knows no connection, no table and no tenant.

mod instant;
mod json;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use tenantry_connection::Engine;
use uuid::Uuid;

use crate::kind::Kind;

/// What PostgreSQL's output of dates, intervals, floats and money depends on, pinned for the transaction.
pub(crate) const POSTGRES_SETTINGS: &str = "SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL timezone = 'UTC'; \
     SET LOCAL intervalstyle = 'postgres'; SET LOCAL extra_float_digits = 3; SET LOCAL bytea_output = 'hex'; \
     SET LOCAL lc_monetary = 'C'; SET LOCAL xmloption = 'content'; SET LOCAL array_nulls = on";

/// Why a stored value has no canonical text, or no place in the target's column. Never carries the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// Neither 16 bytes nor the text of a uuid.
    #[error("is no uuid")]
    Uuid,
    /// No integer, or one that the target's column cannot hold.
    #[error("is no integer of the column's range")]
    Integer,
    /// Neither 0 nor 1.
    #[error("is no boolean")]
    Boolean,
    /// No number, NaN, or one with more digits than the column keeps.
    #[error("is no decimal of the column's precision and scale")]
    Decimal,
    /// No date in the form `YYYY-MM-DD`.
    #[error("is no date")]
    Date,
    /// No time of day in the form `HH:MM:SS`.
    #[error("is no time of day")]
    Time,
    /// No timestamp in a form that is known.
    #[error("is no timestamp")]
    Timestamp,
    /// A year before 1 or after 9999, which SQLite's form of dates does not have.
    #[error("lies outside of the years 1 to 9999, which is all that SQLite's dates have")]
    Year,
    /// More characters than the column takes.
    #[error("is longer than the column")]
    Length,
    /// No JSON.
    #[error("is no JSON")]
    Json,
    /// No text in UTF-8.
    #[error("is no text")]
    Text,
    /// No bytes.
    #[error("is no sequence of bytes")]
    Bytes,
    /// A NUL character, which PostgreSQL does not store.
    #[error("contains a NUL character, which PostgreSQL does not store")]
    Nul,
    /// A column without a written meaning on both engines.
    #[error("has a type without a meaning on both engines")]
    Kind,
}

/// A value as SQLite stores it.
#[derive(Debug, Clone, PartialEq)]
pub enum Stored {
    /// No value.
    Null,
    /// A 64-bit integer.
    Integer(i64),
    /// An IEEE double.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// The canonical text of what PostgreSQL prints for a value (`bytea` printed by `encode(…, 'hex')`).
///
/// # Errors
/// A [`Problem`] only where the text is not PostgreSQL's output for this kind.
pub fn from_postgres(kind: Kind, text: &str) -> Result<String, Problem> {
    match kind {
        Kind::Time => instant::time(text),
        Kind::Timestamp => instant::timestamp(text),
        Kind::Json => json::canonical(text),
        Kind::Uuid
        | Kind::Text
        | Kind::Varchar { .. }
        | Kind::SmallInt
        | Kind::Integer
        | Kind::BigInt
        | Kind::Boolean
        | Kind::Decimal { .. }
        | Kind::Date
        | Kind::Bytes
        | Kind::Other => Ok(text.to_owned()),
    }
}

/// The canonical text of what SQLite stores; `None` for null. Older forms are read as the value they mean: uuids as text,
/// timestamps with `Z`, with a blank, without a zone (UTC), with any number of fractional digits (cut to microseconds).
///
/// # Errors
/// The [`Problem`] of a value that means nothing in a column of this kind.
pub fn from_sqlite(kind: Kind, stored: Stored) -> Result<Option<String>, Problem> {
    let text = match (kind, stored) {
        (_, Stored::Null) => return Ok(None),
        (Kind::Uuid, Stored::Blob(bytes)) => Uuid::from_slice(&bytes).map_err(|_| Problem::Uuid)?.to_string(),
        (Kind::Uuid, Stored::Text(text)) => Uuid::try_parse(&text).map_err(|_| Problem::Uuid)?.to_string(),
        (Kind::Text | Kind::Varchar { .. }, Stored::Text(text)) => text,
        (Kind::SmallInt | Kind::Integer | Kind::BigInt, Stored::Integer(number)) => number.to_string(),
        (Kind::Boolean, Stored::Integer(number @ (0 | 1))) => (number == 1).to_string(),
        (Kind::Decimal { precision, scale }, Stored::Real(number)) => decimal(number, precision, scale)?,
        (Kind::Decimal { precision, scale }, Stored::Integer(number)) => {
            let fraction = if scale == 0 { String::new() } else { format!(".{}", "0".repeat(scale as usize)) };
            within_precision(format!("{number}{fraction}"), precision)?
        }
        (Kind::Date, Stored::Text(text)) => instant::date(&text)?,
        (Kind::Time, Stored::Text(text)) => instant::time(&text)?,
        (Kind::Timestamp, Stored::Text(text)) => instant::timestamp(&text)?,
        (Kind::Json, Stored::Text(text)) => json::canonical(&text)?,
        (Kind::Bytes, Stored::Blob(bytes)) => hex(&bytes),
        (kind, _) => return Err(problem_of(kind)),
    };
    Ok(Some(text))
}

/// What SQLite stores for a canonical text.
///
/// # Errors
/// The [`Problem`] of a value that a column of this kind cannot store on SQLite.
pub fn to_sqlite(kind: Kind, text: &str) -> Result<Stored, Problem> {
    Ok(match kind {
        Kind::Uuid => Stored::Blob(Uuid::try_parse(text).map_err(|_| Problem::Uuid)?.as_bytes().to_vec()),
        Kind::SmallInt | Kind::Integer | Kind::BigInt => Stored::Integer(text.parse().map_err(|_| Problem::Integer)?),
        Kind::Boolean => Stored::Integer(match text {
            "true" => 1,
            "false" => 0,
            _ => return Err(Problem::Boolean),
        }),
        Kind::Decimal { precision, scale } => {
            let number: f64 = text.parse().map_err(|_| Problem::Decimal)?;
            // What is stored must read as what it was.
            if decimal(number, precision, scale)? != text {
                return Err(Problem::Decimal);
            }
            Stored::Real(number)
        }
        Kind::Bytes => Stored::Blob(bytes(text).ok_or(Problem::Bytes)?),
        // Text order is time order on SQLite, which a longer year or an era behind it would break.
        Kind::Date if !has_short_year(text, "YYYY-MM-DD") => return Err(Problem::Year),
        Kind::Timestamp if !has_short_year(text, "YYYY-MM-DDTHH:MM:SS.ffffff+00:00") => return Err(Problem::Year),
        Kind::Text | Kind::Varchar { .. } | Kind::Date | Kind::Time | Kind::Timestamp | Kind::Json => {
            Stored::Text(text.to_owned())
        }
        Kind::Other => return Err(Problem::Kind),
    })
}

/// Whether a canonical text has a place in the target's column.
///
/// # Errors
/// The [`Problem`] that the target would have with it.
pub fn fits(target: Kind, engine: Engine, text: &str) -> Result<(), Problem> {
    match target {
        Kind::SmallInt => text.parse::<i16>().map(drop).map_err(|_| Problem::Integer)?,
        Kind::Integer => text.parse::<i32>().map(drop).map_err(|_| Problem::Integer)?,
        Kind::Varchar { longest } if text.chars().count() > longest as usize => return Err(Problem::Length),
        _ => {}
    }
    match engine {
        Engine::Sqlite => to_sqlite(target, text).map(drop),
        Engine::Postgres => match target {
            Kind::Text | Kind::Varchar { .. } if text.contains('\0') => Err(Problem::Nul),
            Kind::Json if json::contains_nul(text) => Err(Problem::Nul),
            _ => Ok(()),
        },
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]).collect()
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(char::from(*high).to_digit(16)? * 16 + char::from(*low).to_digit(16)?),
        _ => None,
    });
    digits.map(|byte| byte.and_then(|byte| u8::try_from(byte).ok())).collect()
}

/// A double as the decimal it stands for, or a problem when it is not the double nearest to one.
fn decimal(number: f64, precision: u32, scale: u32) -> Result<String, Problem> {
    let text = format!("{number:.*}", scale as usize);
    if !number.is_finite() || text.parse() != Ok(number) {
        return Err(Problem::Decimal);
    }
    // The negative zero of a double is no other amount than zero.
    let text = if number == 0.0 { text.trim_start_matches('-').to_owned() } else { text };
    within_precision(text, precision)
}

fn has_short_year(text: &str, form: &str) -> bool {
    text.len() == form.len() || text.ends_with("infinity")
}

fn within_precision(text: String, precision: u32) -> Result<String, Problem> {
    let digits = text.trim_start_matches('-').trim_start_matches('0').bytes().filter(u8::is_ascii_digit).count();
    if digits > precision as usize { Err(Problem::Decimal) } else { Ok(text) }
}

fn problem_of(kind: Kind) -> Problem {
    match kind {
        Kind::Uuid => Problem::Uuid,
        Kind::Text | Kind::Varchar { .. } => Problem::Text,
        Kind::SmallInt | Kind::Integer | Kind::BigInt => Problem::Integer,
        Kind::Boolean => Problem::Boolean,
        Kind::Decimal { .. } => Problem::Decimal,
        Kind::Date => Problem::Date,
        Kind::Time => Problem::Time,
        Kind::Timestamp => Problem::Timestamp,
        Kind::Json => Problem::Json,
        Kind::Bytes => Problem::Bytes,
        Kind::Other => Problem::Kind,
    }
}
