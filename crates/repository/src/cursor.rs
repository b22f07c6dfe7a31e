//! Cursors: where a page ended, as a text that a client hands back.
//!
//! ```text
//! base64url( version 1 | check, 8 bytes | binding, 8 bytes | values of the order's columns, a JSON array )
//! ```
//!
//! The check is over all that follows it, the binding over the entity's table, the order's columns and their directions, so
//! that a damaged text and one of another query are told apart from each other and from a position. Neither is a signature: a
//! cursor is no secret and no authority. Whoever makes one up gets rows that the query would have given anyway.
//!
//! This module knows no database and no tenant: whose rows follow a position is decided by the handle.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Timelike};
use sea_orm::{
    EntityTrait, IdenStatic, ModelTrait, Order, Value,
    prelude::Decimal,
    sea_query::{ArrayType, Enum, OptionEnum},
};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use tenantry_realm::TenantEntity;

use crate::Error;

/// Where a page ended: hand it to [`crate::Repository::page_after`] for the rows that follow.
///
/// It holds the values of the order's columns in the page's last row, ids among them, in a form that anybody can read. Order by
/// nothing that the reader of the page may not see. It names no tenant: with another tenant's handle it is a position among
/// that tenant's rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(String);

impl Cursor {
    /// The cursor with this text; whether it is one shows when it is used.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Its text: letters, digits, `-` and `_`, fit for a URL as it stands.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a cursor leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CursorProblem {
    /// The text is not one that [`crate::Repository::page_after`] gave out, or not all of it.
    #[error("its text is damaged")]
    Damaged,
    /// It comes from a version of Tenantry that writes them in another form.
    #[error("it has the form of another version")]
    OtherVersion,
    /// It was given out for another entity or another order.
    #[error("it belongs to another entity or order")]
    OtherQuery,
}

/// One page of rows and where the next one begins.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CursorPage<T> {
    /// The rows of this page.
    pub items: Vec<T>,
    /// Where the next page begins; none when this is the last one.
    pub next: Option<Cursor>,
}

const VERSION: u8 = 1;
/// Bytes of a digest: enough against accidents, which is all they are for.
const DIGEST: usize = 8;

/// The position of `row` in this order.
///
/// # Errors
/// [`Error::UnpageableOrder`] when a column's type has no order that both engines share.
pub(crate) fn cursor_of<E: TenantEntity>(row: &E::Model, order: &[(E::Column, Order)]) -> Result<Cursor, Error> {
    let value = |(column, _): &(E::Column, Order)| encode(&row.get(*column)).ok_or_else(|| unpageable::<E>(*column));
    let values: Vec<Json> = order.iter().map(value).collect::<Result<_, _>>()?;
    let mut bytes = vec![VERSION];
    let body = [&binding::<E>(order)[..], Json::Array(values).to_string().as_bytes()].concat();
    bytes.extend(digest(&body));
    bytes.extend(body);
    Ok(Cursor(BASE64_URL_SAFE_NO_PAD.encode(bytes)))
}

/// The values that a cursor of this order stands for, one for each column.
pub(crate) fn position<E: TenantEntity>(
    cursor: &Cursor,
    order: &[(E::Column, Order)],
) -> Result<Vec<Value>, CursorProblem> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(&cursor.0).map_err(|_| CursorProblem::Damaged)?;
    match bytes.first() {
        Some(&VERSION) => {}
        Some(1..=9) => return Err(CursorProblem::OtherVersion),
        _ => return Err(CursorProblem::Damaged),
    }
    let (check, body) = bytes[1..].split_at_checked(DIGEST).ok_or(CursorProblem::Damaged)?;
    if check != digest(body) {
        return Err(CursorProblem::Damaged);
    }
    let (bound_to, values) = body.split_at_checked(DIGEST).ok_or(CursorProblem::Damaged)?;
    if bound_to != binding::<E>(order) {
        return Err(CursorProblem::OtherQuery);
    }
    let values: Vec<Json> = serde_json::from_slice(values).map_err(|_| CursorProblem::Damaged)?;
    if values.len() != order.len() {
        return Err(CursorProblem::Damaged);
    }
    let decoded = order.iter().zip(&values).map(|((column, _), value)| {
        decode(&<E as EntityTrait>::Model::get_value_type(*column), value).ok_or(CursorProblem::Damaged)
    });
    decoded.collect()
}

/// Whether a position can be written down for this column.
pub(crate) fn check_pageable<E: TenantEntity>(order: &[(E::Column, Order)]) -> Result<(), Error> {
    let unfit = order.iter().find(|(column, order)| {
        matches!(order, Order::Field(_))
            || decode(&<E as EntityTrait>::Model::get_value_type(*column), &Json::Null).is_none()
    });
    unfit.map_or(Ok(()), |(column, _)| Err(unpageable::<E>(*column)))
}

fn unpageable<E: TenantEntity>(column: E::Column) -> Error {
    Error::UnpageableOrder { entity: E::default().table_name().to_owned(), column: column.as_str().to_owned() }
}

fn binding<E: TenantEntity>(order: &[(E::Column, Order)]) -> [u8; DIGEST] {
    let mut bound = E::default().table_name().to_owned();
    for (column, order) in order {
        bound.push('\0');
        bound.push_str(column.as_str());
        bound.push(if matches!(order, Order::Desc) { '-' } else { '+' });
    }
    digest(bound.as_bytes())
}

fn digest(bytes: &[u8]) -> [u8; DIGEST] {
    let whole: [u8; 32] = Sha256::digest(bytes).into();
    let mut start = [0; DIGEST];
    start.copy_from_slice(&whole[..DIGEST]);
    start
}

/// A value as a cursor holds it: exact, whatever the value. Floating-point numbers and decimals are texts, because a JSON
/// number is read as a double; instants are microseconds, which is what both engines store.
fn encode(value: &Value) -> Option<Json> {
    macro_rules! or_null {
        ($value:expr, $form:expr) => {
            $value.as_ref().map_or(Json::Null, |value| Json::from(($form)(value)))
        };
    }
    Some(match value {
        Value::Bool(value) => Json::from(*value),
        Value::TinyInt(value) => Json::from(*value),
        Value::SmallInt(value) => Json::from(*value),
        Value::Int(value) => Json::from(*value),
        Value::BigInt(value) => Json::from(*value),
        Value::TinyUnsigned(value) => Json::from(*value),
        Value::SmallUnsigned(value) => Json::from(*value),
        Value::Unsigned(value) => Json::from(*value),
        Value::BigUnsigned(value) => Json::from(*value),
        Value::Float(value) => or_null!(value, |value: &f32| format!("{value:?}")),
        Value::Double(value) => or_null!(value, |value: &f64| format!("{value:?}")),
        Value::String(value) => Json::from(value.clone()),
        Value::Char(value) => or_null!(value, char::to_string),
        Value::Enum(OptionEnum::Some(value)) => Json::from(value.value.as_ref()),
        Value::Enum(OptionEnum::None(_)) => Json::Null,
        Value::Uuid(value) => or_null!(value, uuid::Uuid::to_string),
        Value::Decimal(value) => or_null!(value, Decimal::to_string),
        Value::ChronoDate(value) => or_null!(value, NaiveDate::num_days_from_ce),
        Value::ChronoTime(value) => or_null!(value, microseconds_of_day),
        Value::ChronoDateTime(value) => {
            or_null!(value, |value: &chrono::NaiveDateTime| value.and_utc().timestamp_micros())
        }
        Value::ChronoDateTimeUtc(value) => or_null!(value, DateTime::timestamp_micros),
        Value::ChronoDateTimeLocal(value) => or_null!(value, DateTime::timestamp_micros),
        Value::ChronoDateTimeWithTimeZone(value) => or_null!(value, DateTime::timestamp_micros),
        _ => return None,
    })
}

/// The value of a column of this type; none where the cursor holds something else. A null decodes for every type that can be
/// paged by.
pub(crate) fn decode(of: &ArrayType, json: &Json) -> Option<Value> {
    macro_rules! value {
        ($variant:ident, $read:expr) => {
            Value::$variant(if json.is_null() { None } else { Some(($read)(json)?) })
        };
    }
    let signed = Json::as_i64;
    let unsigned = Json::as_u64;
    let instant = |json: &Json| DateTime::from_timestamp_micros(json.as_i64()?);
    Some(match of {
        ArrayType::Bool => value!(Bool, Json::as_bool),
        ArrayType::TinyInt => value!(TinyInt, |json| signed(json)?.try_into().ok()),
        ArrayType::SmallInt => value!(SmallInt, |json| signed(json)?.try_into().ok()),
        ArrayType::Int => value!(Int, |json| signed(json)?.try_into().ok()),
        ArrayType::BigInt => value!(BigInt, signed),
        ArrayType::TinyUnsigned => value!(TinyUnsigned, |json| unsigned(json)?.try_into().ok()),
        ArrayType::SmallUnsigned => value!(SmallUnsigned, |json| unsigned(json)?.try_into().ok()),
        ArrayType::Unsigned => value!(Unsigned, |json| unsigned(json)?.try_into().ok()),
        ArrayType::BigUnsigned => value!(BigUnsigned, unsigned),
        ArrayType::Float => value!(Float, |json: &Json| json.as_str()?.parse().ok()),
        ArrayType::Double => value!(Double, |json: &Json| json.as_str()?.parse().ok()),
        ArrayType::String => value!(String, text),
        ArrayType::Char => value!(Char, |json: &Json| json.as_str()?.parse().ok()),
        ArrayType::Enum(name) => Value::Enum(match json {
            Json::Null => OptionEnum::None((**name).clone()),
            _ => OptionEnum::Some(Box::new(Enum { type_name: (**name).clone(), value: text(json)?.into() })),
        }),
        ArrayType::Uuid => value!(Uuid, |json: &Json| json.as_str()?.parse().ok()),
        ArrayType::Decimal => value!(Decimal, |json: &Json| Decimal::from_str_exact(json.as_str()?).ok()),
        ArrayType::ChronoDate => {
            value!(ChronoDate, |json: &Json| NaiveDate::from_num_days_from_ce_opt(json.as_i64()?.try_into().ok()?))
        }
        ArrayType::ChronoTime => value!(ChronoTime, time_of_day),
        ArrayType::ChronoDateTime => value!(ChronoDateTime, |json| Some(instant(json)?.naive_utc())),
        ArrayType::ChronoDateTimeUtc => value!(ChronoDateTimeUtc, instant),
        ArrayType::ChronoDateTimeLocal => {
            value!(ChronoDateTimeLocal, |json| Some(instant(json)?.with_timezone(&chrono::Local)))
        }
        ArrayType::ChronoDateTimeWithTimeZone => {
            value!(ChronoDateTimeWithTimeZone, |json| Some(instant(json)?.fixed_offset()))
        }
        _ => return None,
    })
}

/// No stored text has a NUL, and one in a condition would be an error of another kind.
fn text(json: &Json) -> Option<String> {
    json.as_str().filter(|text| !text.contains('\0')).map(str::to_owned)
}

fn microseconds_of_day(time: &NaiveTime) -> i64 {
    i64::from(time.num_seconds_from_midnight()) * 1_000_000 + i64::from(time.nanosecond() / 1_000)
}

fn time_of_day(json: &Json) -> Option<NaiveTime> {
    let microseconds = json.as_u64()?;
    let nanoseconds = u32::try_from(microseconds % 1_000_000).ok()? * 1_000;
    NaiveTime::from_num_seconds_from_midnight_opt(u32::try_from(microseconds / 1_000_000).ok()?, nanoseconds)
}
